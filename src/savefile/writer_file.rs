//! A savefile being written: a file or a pipe that ends with a complete record
//! after every call, also after one that failed.

use crate::sys::file::{self, Gather, Identity, NoSignals};
use crate::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// The step that failed and the kernel's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// "open", "write", "sync", "close".
    pub step: &'static str,
    /// The reason.
    pub errno: Errno,
}

fn at(step: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, errno }
}

/// See the module.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    /// `None`: a descriptor of the caller's.
    path: Option<CString>,
    /// A regular file: what was written can be taken back.
    regular: bool,
    /// It did not exist before: a failure may take it away again.
    made: bool,
    /// Which file it is.
    pub identity: Identity,
    /// Bytes of an incomplete record at the end that could not be taken back,
    /// and why it is incomplete.
    torn: Option<(u64, Errno)>,
    /// Bytes written.
    pub bytes: u64,
}

impl Output {
    /// Makes a file, or empties one.
    pub fn create(path: &CStr, new: bool) -> Result<Self, Failure> {
        let (fd, made) = file::create(path, new).map_err(at("open"))?;
        Self::new(fd, Some(path.to_owned()), made)
    }

    /// Takes a duplicate of a descriptor.
    pub fn duplicate(fd: i32) -> Result<Self, Failure> {
        let fd = file::duplicate(fd).map_err(at("fd"))?;
        Self::new(fd, None, false)
    }

    fn new(fd: OwnedFd, path: Option<CString>, made: bool) -> Result<Self, Failure> {
        let (identity, regular) = file::identity(file::borrow(&fd)).map_err(at("open"))?;
        Ok(Self { fd, path, regular, made, identity, torn: None, bytes: 0 })
    }

    /// Where it lies.
    pub fn path(&self) -> Option<&CStr> {
        self.path.as_deref()
    }

    /// Whether it can be written to.
    pub fn is_writable(&self) -> sys::Result<bool> {
        file::is_writable(file::borrow(&self.fd))
    }

    /// Writes what was gathered, records that end where `ends` says. Returns
    /// how many of them are in the file: all, or those before the failure.
    pub fn write(&mut self, gather: &mut Gather, ends: &[usize]) -> (usize, Result<(), Failure>) {
        if let Err(failure) = self.mend() {
            gather.clear();
            return (0, Err(failure));
        }
        let quiet = NoSignals::begin();
        let (written, result) = gather.write(file::borrow(&self.fd));
        let Err(errno) = result else {
            self.bytes = self.bytes.saturating_add(written as u64);
            return (ends.len(), Ok(()));
        };
        quiet.forget(errno);
        let whole = ends.partition_point(|end| *end <= written);
        let good = whole.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
        self.bytes = self.bytes.saturating_add(good as u64);
        let part = written.saturating_sub(good) as u64;
        if part != 0 {
            self.torn = Some((part, errno));
            // Where it cannot be done now, the next write tries again.
            let _ = self.mend();
        }
        (whole, Err(Failure { step: "write", errno }))
    }

    /// Takes an incomplete record back.
    fn mend(&mut self) -> Result<(), Failure> {
        let Some((part, errno)) = self.torn else { return Ok(()) };
        if !self.regular {
            // A pipe has been given it: nothing can follow.
            return Err(Failure { step: "write", errno });
        }
        file::take_back(file::borrow(&self.fd), part).map_err(at("ftruncate"))?;
        self.torn = None;
        Ok(())
    }

    /// Whether nothing can follow any more.
    pub fn is_broken(&self) -> bool {
        self.torn.is_some()
    }

    /// Writes one record.
    pub fn write_record(&mut self, gather: &mut Gather, bytes: &[u8]) -> Result<(), Failure> {
        gather.clear();
        gather.copy(bytes);
        self.write(gather, &[bytes.len()]).1
    }

    /// Waits until it is on the disk; nothing to wait for in a pipe.
    pub fn sync(&self) -> Result<(), Failure> {
        match file::sync(file::borrow(&self.fd)) {
            Err(Errno(libc::EINVAL | libc::EROFS)) if !self.regular => Ok(()),
            result => result.map_err(at("fsync")),
        }
    }

    /// Closes it.
    pub fn close(mut self) -> Result<(), Failure> {
        let mended = self.mend();
        file::close(self.fd).map_err(at("close"))?;
        mended
    }

    /// Closes what could not be begun, and removes it if it is ours.
    pub fn abandon(self) {
        if let (Some(path), true) = (&self.path, self.made) {
            let _ = file::remove(path, self.identity);
        }
    }
}
