//! What the threads of a reader and outer event loops wait on: one epoll
//! descriptor over the input, where that may have to be waited for, and three
//! eventfds. As for a capture (afpacket/waiter.rs), the input is watched
//! edge-triggered, it is read until nothing is left of it, and `more` is set for
//! as long as `next_block` would return something.

use crate::sys::epoll::{Epoll, EventFd};
use crate::sys::input::Input;
use crate::sys::process::Belongs;
use crate::sys::{Errno, Result};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

const INPUT: u64 = 0;
const MORE: u64 = 1;
const WAKEUP: u64 = 2;
const STOP: u64 = 3;

/// See the module.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    more: EventFd,
    wakeup: EventFd,
    stop: EventFd,
    /// A wakeup may be pending: saves a system call where none is.
    maybe_woken: AtomicBool,
    stopped: AtomicBool,
    closing: AtomicBool,
    /// A child may come out of a signal handler into its parent's wait.
    belongs: Belongs,
}

impl Waiter {
    /// Waits on `input`, if that can be waited on, and on what the other methods
    /// signal; tells whether it can.
    pub fn new(input: &Input) -> Result<(Self, bool)> {
        let waiter = Self {
            epoll: Epoll::new()?,
            more: EventFd::new()?,
            wakeup: EventFd::new()?,
            stop: EventFd::new()?,
            maybe_woken: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            belongs: Belongs::here(),
        };
        let waits = !input.is_file()?
            && match waiter.epoll.add(input.fd(), libc::EPOLLIN | libc::EPOLLET, INPUT) {
                Ok(()) => true,
                // Directories, /dev/null: what never has to be waited for.
                Err(Errno(libc::EPERM)) => false,
                Err(errno) => return Err(errno),
            };
        waiter.epoll.add(waiter.more.fd(), libc::EPOLLIN, MORE)?;
        waiter.epoll.add(waiter.wakeup.fd(), libc::EPOLLIN, WAKEUP)?;
        waiter.epoll.add(waiter.stop.fd(), libc::EPOLLIN, STOP)?;
        Ok((waiter, waits))
    }

    /// The descriptor for outer loops.
    pub fn fd(&self) -> RawFd {
        self.epoll.raw()
    }

    /// Waits until something may have happened, for at most `timeout_ms` (-1:
    /// for ever); tells whether a wakeup is pending.
    pub fn wait(&self, timeout_ms: i32) -> Result<bool> {
        let mut woken = false;
        self.epoll.wait(timeout_ms, |ready| woken |= ready.key == WAKEUP)?;
        Ok(woken)
    }

    /// Something is ready: readable, with a fresh edge.
    pub fn more(&self) {
        self.more.signal();
    }

    /// Nothing is ready.
    pub fn no_more(&self) {
        self.more.clear();
    }

    /// Ends one wait. Async-signal-safe.
    pub fn wakeup(&self) {
        self.wakeup.signal();
        // After the signal: whoever sees the hint finds the signal.
        self.maybe_woken.store(true, Ordering::Release);
    }

    /// Takes a pending wakeup. `sure`: ask the kernel, not the hint.
    pub fn take_wakeup(&self, sure: bool) -> bool {
        let hint = self.maybe_woken.load(Ordering::Relaxed)
            && self.maybe_woken.swap(false, Ordering::Acquire);
        (hint || sure) && self.wakeup.clear()
    }

    /// Ends every wait, now and later. Async-signal-safe.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stop.signal();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Sends every waiting thread home, because the reader is being closed.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.stop.signal();
    }

    /// Whether [`close`](Self::close) was called, or this is a forked child.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) || !self.belongs.is_ours()
    }

    /// Whether whoever reads on should look up.
    pub fn interrupts(&self) -> bool {
        self.maybe_woken.load(Ordering::Relaxed) || self.is_stopped() || self.is_closing()
    }
}
