//! What ends a wait besides data: more is ready, a wakeup, a stop, a close. A
//! capture's and a reader's waiter have these in common; each has an epoll
//! descriptor of its own around them.

use crate::sys::Result;
use crate::sys::epoll::{self, Epoll, EventFd};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The keys under which [`Signals::watch`] puts them; others start at `FREE`.
const MORE: u64 = 0;
/// A wakeup is pending.
pub const WAKEUP: u64 = 1;
const STOP: u64 = 2;
/// The first key that is not taken.
pub const FREE: u64 = 3;

/// See the module.
#[derive(Debug)]
pub struct Signals {
    more: EventFd,
    wakeup: EventFd,
    stop: EventFd,
    /// A wakeup may be pending: saves a system call where none is.
    maybe_woken: AtomicBool,
    stopped: AtomicBool,
    closing: AtomicBool,
}

impl Signals {
    /// None of them.
    pub fn new() -> Result<Self> {
        Ok(Self {
            more: EventFd::new()?,
            wakeup: EventFd::new()?,
            stop: EventFd::new()?,
            maybe_woken: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    /// Has `epoll` report them.
    pub fn watch(&self, epoll: &Epoll) -> Result<()> {
        epoll.add(self.more.fd(), libc::EPOLLIN, MORE)?;
        self.watch_ends(epoll)
    }

    /// Has `epoll` report what ends a wait, but not that more is ready.
    pub fn watch_ends(&self, epoll: &Epoll) -> Result<()> {
        epoll.add(self.wakeup.fd(), libc::EPOLLIN, WAKEUP)?;
        epoll.add(self.stop.fd(), libc::EPOLLIN, STOP)
    }

    /// Sleeps so long, or until one of those that end a wait.
    pub fn sleep(&self, time: Duration) {
        epoll::sleep([self.wakeup.fd(), self.stop.fd()], time);
    }

    /// Readable once stopped or closing, for good.
    pub fn stop_fd(&self) -> BorrowedFd<'_> {
        self.stop.fd()
    }

    /// Something else is ready: readable, with a fresh edge.
    pub fn more(&self) {
        self.more.signal();
    }

    /// Nothing else is ready.
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

    /// Whether a wakeup may be pending.
    pub fn may_be_woken(&self) -> bool {
        self.maybe_woken.load(Ordering::Relaxed)
    }

    /// Ends every wait, now and later. Async-signal-safe.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stop.signal();
    }

    /// Ends every wait, now and later, for a reason that is known elsewhere.
    pub fn end_waits(&self) {
        self.stop.signal();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Sends every waiting thread home, because the object is being closed.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.stop.signal();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
