//! What the threads of a reader and outer event loops wait on: one epoll
//! descriptor over the input, where that may have to be waited for, and three
//! eventfds. As for a capture (afpacket/waiter.rs), the input is watched
//! edge-triggered, it is read until nothing is left of it, and `more` is set for
//! as long as `next_block` would return something.

use crate::signals::{FREE, Signals, WAKEUP};
use crate::sys::epoll::Epoll;
use crate::sys::input::Input;
use crate::sys::process::Belongs;
use crate::sys::{Errno, Result};
use std::os::fd::RawFd;

const INPUT: u64 = FREE;

/// See the module.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    /// What ends a wait besides data.
    pub signals: Signals,
    /// A child may come out of a signal handler into its parent's wait.
    belongs: Belongs,
}

impl Waiter {
    /// Waits on `input`, if that can be waited on, and on what the other methods
    /// signal; tells whether it can.
    pub fn new(input: &Input) -> Result<(Self, bool)> {
        let waiter =
            Self { epoll: Epoll::new()?, signals: Signals::new()?, belongs: Belongs::here() };
        let waits = !input.is_file()?
            && match waiter.epoll.add(input.fd(), libc::EPOLLIN | libc::EPOLLET, INPUT) {
                Ok(()) => true,
                // Directories, /dev/null: what never has to be waited for.
                Err(Errno(libc::EPERM)) => false,
                Err(errno) => return Err(errno),
            };
        waiter.signals.watch(&waiter.epoll)?;
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

    /// Whether the reader is being closed, or this is a forked child.
    pub fn is_closing(&self) -> bool {
        self.signals.is_closing() || !self.belongs.is_ours()
    }

    /// Whether whoever reads on should look up.
    pub fn interrupts(&self) -> bool {
        self.signals.may_be_woken() || self.signals.is_stopped() || self.is_closing()
    }
}
