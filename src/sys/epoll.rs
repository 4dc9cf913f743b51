//! epoll, eventfd and poll.

use super::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// One reported readiness: the key given at `add`, and the kernel's event bits.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The key of the source.
    pub key: u64,
    /// EPOLLIN, EPOLLERR and so on.
    pub events: u32,
}

impl Epoll {
    /// A new instance, close-on-exec.
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd` for `events`; `key` comes back in [`Ready`].
    pub fn add(&self, fd: BorrowedFd<'_>, events: i32, key: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: key };
        // SAFETY: `event` is live for the call; both descriptors are open.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
        })?;
        Ok(())
    }

    /// No longer watches `fd`, if it did.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let nothing = std::ptr::null_mut();
        // SAFETY: no pointers; both descriptors are open.
        unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), nothing)
        };
    }

    /// Waits for at most `timeout_ms` (-1: for ever); calls `each` for every
    /// ready source. An interrupting signal ends it early with nothing ready.
    pub fn wait(&self, timeout_ms: i32, mut each: impl FnMut(Ready)) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: the array is live and its length is given.
        let count = check(unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                timeout_ms,
            )
        });
        let count = match count {
            Ok(count) => count.unsigned_abs() as usize,
            Err(Errno(libc::EINTR)) => 0,
            Err(error) => return Err(error),
        };
        for event in events.iter().take(count) {
            each(Ready { key: event.u64, events: event.events });
        }
        Ok(())
    }

    /// The descriptor, for outer loops.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The descriptor, for another instance.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// poll(2) for readability of any of the descriptors, for at most `timeout_ms`
/// (-1: for ever). An interrupting signal ends it early.
pub fn poll_any<const N: usize>(fds: [Option<BorrowedFd<'_>>; N], timeout_ms: i32) -> Result<()> {
    // A negative descriptor is passed over.
    let mut all = fds.map(|fd| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: a live array and its length.
    match check(unsafe { libc::poll(all.as_mut_ptr(), N as libc::nfds_t, timeout_ms) }) {
        Ok(_) | Err(Errno(libc::EINTR)) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sleeps for `time`, or until one of the descriptors is readable. An interrupting signal
/// ends it early, and so does a kernel that does not let this thread sleep.
pub fn sleep<const N: usize>(fds: [BorrowedFd<'_>; N], time: Duration) {
    let mut all = fds.map(|fd| polled(Some(fd), libc::POLLIN));
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as libc::c_long,
    };
    let none = std::ptr::null();
    // SAFETY: a live array and its length, a live time, no signal mask.
    unsafe { libc::ppoll(all.as_mut_ptr(), N as libc::nfds_t, &raw const time, none) };
}

/// A non-blocking eventfd.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one at 0, close-on-exec.
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable, with a fresh edge even where it already was.
    /// Async-signal-safe. (The count cannot reach its 64-bit limit.)
    pub fn signal(&self) {
        let one = 1_u64;
        // SAFETY: 8 bytes of a live integer.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Makes it unreadable; tells whether it was readable. Async-signal-safe.
    pub fn clear(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: 8 writable bytes of a live integer.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
        got == 8
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// poll(2) for what each descriptor asks for, for at most `timeout_ms` (-1: for ever).
/// An interrupting signal ends it early, with nothing ready.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> Result<()> {
    // SAFETY: a live array and its length.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) }) {
        Ok(_) => Ok(()),
        Err(Errno(libc::EINTR)) => {
            for fd in fds {
                fd.revents = 0;
            }
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

/// One descriptor to poll; `None`: nothing.
pub fn polled(fd: Option<BorrowedFd<'_>>, events: i16) -> libc::pollfd {
    // A negative descriptor is passed over.
    libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events, revents: 0 }
}
