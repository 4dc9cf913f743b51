//! What the threads of an injector and outer event loops wait on.
//!
//! The socket tells of memory given back (net/core/sock.c sock_wfree), and only of
//! that: its poll says "writable" also while every slot is in use (af_packet.c
//! packet_poll). So it is watched edge-triggered, and whoever wakes looks at the
//! slots. Nothing tells when a full queue has room or a frame is due: a timer does.
//!
//! It is watched only while somebody waits for it: a watched socket has the kernel
//! call epoll for each frame that it is done with (sock_def_write_space), which takes
//! a quarter of the time of sending it.
//!
//! Threads and outer loops have an epoll descriptor each: a free slot is what the
//! loops wait for, and would end every wait of a thread in `drain` at once.
//!
//! One thread at a time waits here, and others for it: what several see on one
//! descriptor stays there until each has had a CPU, and who has looked finds it again.

use crate::signals::{FREE, Signals};
use crate::sys::epoll::{Epoll, EventFd};
use crate::sys::socket::Socket;
use crate::sys::timer::Timer;
use crate::sys::{Result, clock};
use parking_lot::Mutex;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SOCKET: u64 = FREE;
const TIMER: u64 = FREE + 1;
const PROGRESS: u64 = FREE + 2;

/// The timer is not set.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Waiter {
    threads: Epoll,
    loops: Epoll,
    /// What ends a wait besides; `more`: a slot is free.
    pub(super) signals: Signals,
    /// Another thread has done something that the one that waits may wait for.
    progress: EventFd,
    timer: Timer,
    /// What the timer is set to: saves a system call where it stays so.
    set_to: AtomicU64,
    /// Threads that wait for the socket.
    watching: Mutex<u32>,
}

impl Waiter {
    pub(super) fn new() -> Result<Self> {
        let waiter = Self {
            threads: Epoll::new()?,
            loops: Epoll::new()?,
            signals: Signals::new()?,
            progress: EventFd::new()?,
            timer: Timer::new()?,
            set_to: AtomicU64::new(NEVER),
            watching: Mutex::new(0),
        };
        for epoll in [&waiter.threads, &waiter.loops] {
            epoll.add(waiter.timer.fd(), libc::EPOLLIN, TIMER)?;
        }
        waiter.signals.watch(&waiter.loops)?;
        waiter.signals.watch_ends(&waiter.threads)?;
        waiter.threads.add(waiter.progress.fd(), libc::EPOLLIN, PROGRESS)?;
        Ok(waiter)
    }

    /// The descriptor for outer loops.
    pub(super) fn fd(&self) -> RawFd {
        self.loops.raw()
    }

    /// Has [`wait`](Self::wait) wake for the socket too, until the result is dropped.
    /// What it has told before is told once more: nothing is missed between a look at
    /// the slots and this.
    pub(super) fn watch<'a>(&'a self, socket: &'a Socket) -> Result<Watching<'a>> {
        let mut watching = self.watching.lock();
        if *watching == 0 {
            watch(&self.threads, socket)?;
        }
        *watching += 1;
        drop(watching);
        Ok(Watching { waiter: self, socket })
    }

    /// Has outer loops wake for the socket too, or no longer. As with
    /// [`watch`](Self::watch), what it has told before is told once more.
    pub(super) fn watch_for_loops(&self, socket: &Socket, watched: bool) -> Result<()> {
        if watched {
            return watch(&self.loops, socket);
        }
        self.loops.remove(socket.fd());
        Ok(())
    }

    /// Waits until something may have happened, for at most `timeout_ms`. `timed`: the
    /// timer is what is waited for, not the socket.
    pub(super) fn wait(&self, timeout_ms: i32, timed: bool) -> Result<()> {
        if timed {
            // A frame that a full queue drops gives memory back, too: what the socket has
            // told of that is no reason to try again.
            self.threads.wait(0, |_| {})?;
        }
        self.threads.wait(timeout_ms, |_| {})
    }

    /// Takes note of what the socket has told outer loops.
    pub(super) fn note(&self) -> Result<()> {
        self.loops.wait(0, |_| {})
    }

    /// Has both wake at a time of the monotonic clock, or not. Under the injector's lock:
    /// a timer that is not set to what `set_to` says would stay readable, or never be.
    pub(super) fn set_timer(&self, until: Option<Duration>) {
        let at = until.map_or(NEVER, clock::nanoseconds);
        if self.set_to.swap(at, Ordering::Relaxed) == at {
            return;
        }
        match until {
            Some(at) => self.timer.set(at),
            None => self.timer.clear(),
        }
    }

    /// Has the waiting thread look again, until [`no_progress`](Self::no_progress).
    pub(super) fn progress(&self) {
        self.progress.signal();
    }

    /// It has.
    pub(super) fn no_progress(&self) {
        self.progress.clear();
    }
}

fn watch(epoll: &Epoll, socket: &Socket) -> Result<()> {
    epoll.add(socket.fd(), libc::EPOLLOUT | libc::EPOLLET, SOCKET)
}

/// A thread waits for the socket.
#[derive(Debug)]
pub(super) struct Watching<'a> {
    waiter: &'a Waiter,
    socket: &'a Socket,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut watching = self.waiter.watching.lock();
        *watching -= 1;
        if *watching == 0 {
            self.waiter.threads.remove(self.socket.fd());
        }
    }
}
