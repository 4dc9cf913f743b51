//! A timer as a descriptor.

use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A timerfd on CLOCK_MONOTONIC: readable from the time it is set to, until it is
/// set again.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A new one, not set.
    pub fn new() -> Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable from that time of the monotonic clock on, and not before.
    pub fn set(&self, at: Duration) {
        // All zero would be "never".
        let at = at.max(Duration::from_nanos(1));
        self.arm(libc::timespec {
            tv_sec: at.as_secs() as libc::time_t,
            tv_nsec: at.subsec_nanos().into(),
        });
    }

    /// Not readable.
    pub fn clear(&self) {
        self.arm(libc::timespec { tv_sec: 0, tv_nsec: 0 });
    }

    fn arm(&self, at: libc::timespec) {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: never, it_value: at };
        let fd = self.0.as_raw_fd();
        // It is refused only for what is no timer, or no time.
        // SAFETY: a live itimerspec.
        unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut()) };
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
