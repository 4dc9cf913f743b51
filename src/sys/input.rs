//! Files that are read from front to back.

use super::{Errno, Result, check};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A file, a pipe, anything that can be read.
#[derive(Debug)]
pub struct Input {
    fd: OwnedFd,
    /// preadv2 with RWF_NOWAIT works on it.
    nowait: bool,
}

impl Input {
    /// Opens a file for reading, close-on-exec.
    pub fn open(path: &CStr) -> Result<Self> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
        let fd = loop {
            // SAFETY: a NUL-terminated path.
            match check(unsafe { libc::open(path.as_ptr(), flags) }) {
                Ok(fd) => break fd,
                // A FIFO's open waits for a writer.
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        };
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, nowait: true })
    }

    /// A duplicate of `fd`, close-on-exec; the caller's stays open.
    pub fn duplicate(fd: RawFd) -> Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
        // SAFETY: as in `open`.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, nowait: true })
    }

    /// Whether it is a regular file, which never has to be waited for.
    pub fn is_file(&self) -> Result<bool> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: room for a stat.
        check(unsafe { libc::fstat(self.fd.as_raw_fd(), stat.as_mut_ptr()) })?;
        // SAFETY: zeroed and then written by the kernel.
        let mode = unsafe { stat.assume_init() }.st_mode;
        Ok(mode & libc::S_IFMT == libc::S_IFREG)
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// read(2), whatever it waits for. 0 is the end.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        loop {
            // SAFETY: `into` is writable for its length.
            let got =
                unsafe { libc::read(self.fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
            match usize::try_from(got) {
                Ok(got) => return Ok(got),
                Err(_) if Errno::last().0 == libc::EINTR => {}
                Err(_) => return Err(Errno::last()),
            }
        }
    }

    /// The same without waiting, also where the description is shared and
    /// blocking; `None` where nothing is there.
    pub fn read_now(&mut self, into: &mut [u8]) -> Result<Option<usize>> {
        while self.nowait {
            let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
            // By number: the C library's function is younger than the call. An
            // offset of -1: the description's own.
            // SAFETY: one live iovec over a writable slice.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_preadv2,
                    self.fd.as_raw_fd(),
                    &raw const part,
                    1_usize,
                    -1_isize,
                    -1_isize,
                    libc::RWF_NOWAIT,
                )
            };
            match (usize::try_from(got), Errno::last().0) {
                (Ok(got), _) => return Ok(Some(got)),
                (_, libc::EAGAIN) => return Ok(None),
                (_, libc::EINTR) => continue,
                // Not on this kind of file or this kernel (pipes: Linux 5.16).
                (_, libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM) => {}
                (_, errno) => return Err(Errno(errno)),
            }
            self.nowait = false;
        }
        if !self.is_readable() {
            return Ok(None);
        }
        match self.read(into) {
            Err(Errno(libc::EAGAIN)) => Ok(None),
            result => result.map(Some),
        }
    }

    fn is_readable(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one live pollfd.
            match unsafe { libc::poll(&mut poll, 1, 0) } {
                -1 if Errno::last().0 == libc::EINTR => {}
                ready => return ready == 1,
            }
        }
    }
}
