//! Files, pipes and other descriptors to write to.

use super::{Errno, Result, check};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// Memory of somebody else that can be read for `'a`, and that others may be
/// writing: no reference to it is ever made.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    at: *const u8,
    length: usize,
    life: PhantomData<&'a [u8]>,
}

impl Bytes<'_> {
    /// None.
    pub const NONE: Self = Self { at: std::ptr::null(), length: 0, life: PhantomData };

    /// `length` bytes at `at`.
    ///
    /// # Safety
    /// They can be read for as long as the value or a copy of it lives.
    pub unsafe fn new(at: *const u8, length: usize) -> Self {
        Self { at, length, life: PhantomData }
    }

    /// How many.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The first `length` of them, or all.
    #[must_use]
    pub fn first(self, length: usize) -> Self {
        Self { length: self.length.min(length), ..self }
    }

    /// Copies as many of them as `to` has room for.
    pub fn copy_to(self, to: &mut [u8]) {
        let length = self.length.min(to.len());
        // SAFETY: readable by the promise; a buffer of ours does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(self.at, to.as_mut_ptr(), length) };
    }

    /// What is behind the first `length`.
    #[must_use]
    pub fn behind(self, length: usize) -> Self {
        let skipped = self.length.min(length);
        Self { at: self.at.wrapping_add(skipped), length: self.length - skipped, ..self }
    }
}

/// From here on a piece is worth an iovec of its own; less is copied. For packets
/// of 600 bytes the iovec takes half the time of the copy.
const WORTH_A_PIECE: usize = 512;
/// Bytes that are copied together before they are written.
const BUFFER: usize = 256 << 10;
/// IOV_MAX: what one writev takes.
const MOST_PIECES: usize = 1024;

/// Part of what is to be written.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Of the buffer: so many bytes behind the ones before.
    Copied(usize),
    /// Elsewhere.
    Elsewhere(*const u8, usize),
}

/// What is to be written next, in order: small pieces copied together, large
/// ones where they are. Its memory is used again and again.
#[derive(Debug)]
pub struct Gather {
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    vectors: Vec<libc::iovec>,
    length: usize,
}

// SAFETY: the pointers are given to the kernel and never followed here.
unsafe impl Send for Gather {}

impl Default for Gather {
    fn default() -> Self {
        Self {
            buffer: Vec::with_capacity(BUFFER),
            pieces: Vec::with_capacity(MOST_PIECES),
            vectors: Vec::with_capacity(MOST_PIECES),
            length: 0,
        }
    }
}

impl Gather {
    /// Bytes gathered.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether `copied` more bytes and `pieces` more pieces can be added without
    /// asking for memory.
    pub fn has_room(&self, copied: usize, pieces: usize) -> bool {
        self.buffer.len() + copied <= BUFFER && self.pieces.len() + pieces <= MOST_PIECES
    }

    fn copied(&mut self, length: usize) {
        self.length += length;
        match self.pieces.last_mut() {
            Some(Piece::Copied(before)) => *before += length,
            _ => self.pieces.push(Piece::Copied(length)),
        }
    }

    /// Adds a copy.
    #[inline]
    pub fn copy(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.copied(bytes.len());
    }

    /// Adds bytes that stay readable until they are written or forgotten; a copy
    /// of them where they are few.
    #[inline]
    pub fn add(&mut self, bytes: Bytes<'_>) {
        let length = bytes.length;
        if length >= WORTH_A_PIECE {
            self.pieces.push(Piece::Elsewhere(bytes.at, length));
            self.length += length;
        } else if length != 0 {
            self.buffer.reserve(length);
            let used = self.buffer.len();
            // SAFETY: at most the end of what was reserved.
            let to = unsafe { self.buffer.as_mut_ptr().add(used) };
            // SAFETY: readable by the promise of Bytes; room was reserved; a
            // buffer of our own does not overlap it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.at, to, length) };
            // SAFETY: those bytes were just written.
            unsafe { self.buffer.set_len(used + length) };
            self.copied(length);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.pieces.clear();
        self.length = 0;
    }

    /// Writes everything and forgets it; how many bytes, and why not all.
    ///
    /// A stale pointer in it would be the kernel's to refuse (EFAULT): nothing
    /// here reads through them.
    pub fn write(&mut self, fd: BorrowedFd<'_>) -> (usize, Result<()>) {
        let mut at = self.buffer.as_ptr();
        self.vectors.clear();
        for piece in &self.pieces {
            let (base, length) = match *piece {
                Piece::Copied(length) => {
                    let base = at;
                    at = at.wrapping_add(length);
                    (base, length)
                }
                Piece::Elsewhere(base, length) => (base, length),
            };
            self.vectors.push(libc::iovec { iov_base: base.cast_mut().cast(), iov_len: length });
        }
        let result = write_vectors(fd, &mut self.vectors);
        self.clear();
        result
    }
}

/// Writes all of it, however often the kernel takes only a part.
fn write_vectors(fd: BorrowedFd<'_>, vectors: &mut [libc::iovec]) -> (usize, Result<()>) {
    let mut written = 0;
    let mut left = vectors;
    loop {
        while left.first().is_some_and(|vector| vector.iov_len == 0) {
            left = &mut left[1..];
        }
        if left.is_empty() {
            return (written, Ok(()));
        }
        let count = left.len().min(MOST_PIECES) as libc::c_int;
        // SAFETY: that many live iovecs; the kernel checks what they point to.
        let taken = unsafe { libc::writev(fd.as_raw_fd(), left.as_ptr(), count) };
        let Ok(mut taken) = usize::try_from(taken) else {
            match Errno::last() {
                Errno(libc::EINTR) => continue,
                Errno(libc::EAGAIN) => match wait_writable(fd) {
                    Ok(()) => continue,
                    Err(errno) => return (written, Err(errno)),
                },
                errno => return (written, Err(errno)),
            }
        };
        written += taken;
        for vector in left.iter_mut() {
            let part = taken.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(part);
            vector.iov_len -= part;
            taken -= part;
            if taken == 0 {
                break;
            }
        }
    }
}

/// A pipe or socket of the caller may be non-blocking.
fn wait_writable(fd: BorrowedFd<'_>) -> Result<()> {
    let mut set = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd.
    match check(unsafe { libc::poll(&mut set, 1, -1) }) {
        Ok(_) | Err(Errno(libc::EINTR)) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Opens a file to write: made where it does not exist, emptied where it does;
/// `new`: it must not exist. Also whether it was made.
pub fn create(path: &CStr, new: bool) -> Result<(OwnedFd, bool)> {
    match open(path, libc::O_EXCL) {
        Err(Errno(libc::EEXIST)) if !new => Ok((open(path, libc::O_TRUNC)?, false)),
        result => Ok((result?, true)),
    }
}

fn open(path: &CStr, how: libc::c_int) -> Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY | how;
    loop {
        // SAFETY: a live string.
        match check(unsafe { libc::open(path.as_ptr(), flags, 0o666 as libc::mode_t) }) {
            // SAFETY: a descriptor just made, owned by nobody else.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            // A FIFO's open waits for a reader.
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A duplicate of a descriptor of the caller's, closed by exec.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts what `new` is of behind the number that `old` has; gives `new` back where that
/// fails.
pub fn replace(old: BorrowedFd<'_>, new: OwnedFd) -> std::result::Result<(), OwnedFd> {
    // SAFETY: no pointers; whoever owns the number goes on owning it.
    let fd = unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
    if fd < 0 { Err(new) } else { Ok(()) }
}

/// Whether it was opened for writing.
pub fn is_writable(fd: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0)
}

/// Which file it is, whatever it is called: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

impl Identity {
    /// Its number in its file system.
    pub fn inode(self) -> u64 {
        self.1
    }
}

/// Which file it is, and whether a regular one.
pub fn identity(fd: BorrowedFd<'_>) -> Result<(Identity, bool)> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: room for a stat.
    check(unsafe { libc::fstat(fd.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: zeroed, then written by the kernel.
    let status = unsafe { status.assume_init() };
    let regular = status.st_mode & libc::S_IFMT == libc::S_IFREG;
    Ok((Identity(status.st_dev, status.st_ino), regular))
}

/// Takes the last `count` bytes before a regular file's offset away; the file
/// ends there.
pub fn take_back(fd: BorrowedFd<'_>, count: u64) -> Result<()> {
    let count = i64::try_from(count).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: no pointers.
    let offset = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_CUR) };
    if offset < count {
        return Err(if offset < 0 { Errno::last() } else { Errno(libc::EINVAL) });
    }
    // SAFETY: no pointers.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), offset - count) })?;
    // SAFETY: no pointers.
    let offset = unsafe { libc::lseek(fd.as_raw_fd(), offset - count, libc::SEEK_SET) };
    if offset < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// fsync(2): what was written is on the disk.
pub fn sync(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fsync(fd.as_raw_fd()) })?;
    Ok(())
}

/// close(2), with what it has to say: some file systems report a full disk only
/// now. The descriptor is gone in any case.
pub fn close(fd: OwnedFd) -> Result<()> {
    // SAFETY: owned, and given up here.
    match check(unsafe { libc::close(fd.into_raw_fd()) }) {
        Err(Errno(libc::EINTR)) | Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// unlink(2) of a file, unless the name stands for another one by now: false.
pub fn remove(path: &CStr, file: Identity) -> Result<bool> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a live string and room for a stat.
    check(unsafe { libc::lstat(path.as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: zeroed, then written by the kernel.
    let status = unsafe { status.assume_init() };
    if file != Identity(status.st_dev, status.st_ino) {
        return Ok(false);
    }
    // SAFETY: a live string.
    check(unsafe { libc::unlink(path.as_ptr()) })?;
    Ok(true)
}

/// While it lives, a write of this thread raises no signal: not SIGPIPE (the
/// reader of a pipe is gone) nor SIGXFSZ (RLIMIT_FSIZE); the write's errno says
/// it. The kernel sends both to the writing thread only.
#[derive(Debug)]
pub struct NoSignals {
    before: libc::sigset_t,
}

impl NoSignals {
    /// Blocks them.
    pub fn begin() -> Self {
        Self::block(&signal_set(&[libc::SIGPIPE, libc::SIGXFSZ]))
    }

    /// Blocks every signal.
    pub fn all() -> Self {
        let mut set = signal_set(&[]);
        // SAFETY: a live set.
        unsafe { libc::sigfillset(&mut set) };
        Self::block(&set)
    }

    fn block(set: &libc::sigset_t) -> Self {
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: two live sets; it cannot fail with SIG_BLOCK.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, before.as_mut_ptr()) };
        // SAFETY: zeroed, then written by the call.
        Self { before: unsafe { before.assume_init() } }
    }

    /// Takes away the signal that came with an errno, unless the caller has it
    /// blocked and may be waiting for one.
    pub fn forget(&self, errno: Errno) {
        let signal = match errno.0 {
            libc::EPIPE => libc::SIGPIPE,
            libc::EFBIG => libc::SIGXFSZ,
            _ => return,
        };
        // SAFETY: a live set.
        if unsafe { libc::sigismember(&self.before, signal) } == 1 {
            return;
        }
        let set = signal_set(&[signal]);
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a live set and time; no information is asked for.
        unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &now) };
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        // SAFETY: the set that `begin` was given.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: a set that was initialised.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: initialised above.
    unsafe { set.assume_init() }
}

/// The descriptor of an owned one.
pub fn borrow(fd: &OwnedFd) -> BorrowedFd<'_> {
    fd.as_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (std::fs::File, OwnedFd) {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }).unwrap();
        // SAFETY: just made.
        let reader = unsafe { std::fs::File::from_raw_fd(fds[0]) };
        // SAFETY: just made.
        (reader, unsafe { OwnedFd::from_raw_fd(fds[1]) })
    }

    #[test]
    fn pieces_arrive_in_order_through_a_slow_pipe() {
        let (mut reader, writer) = pipe();
        let large: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut part = [0; 777];
            while let Ok(n @ 1..) = reader.read(&mut part) {
                all.extend_from_slice(&part[..n]);
            }
            all
        });
        let mut gather = Gather::default();
        let mut want = Vec::new();
        for _ in 0..2 {
            gather.copy(b"head");
            // SAFETY: lives longer than the gather.
            let bytes = unsafe { Bytes::new(large.as_ptr(), large.len()) };
            gather.add(bytes.first(10));
            gather.add(bytes.behind(10));
            gather.copy(b"");
            gather.copy(b"tail");
            want.extend_from_slice(b"head");
            want.extend_from_slice(&large);
            want.extend_from_slice(b"tail");
            assert_eq!(gather.length(), large.len() + 8);
            assert_eq!(gather.write(borrow(&writer)), (large.len() + 8, Ok(())));
            assert_eq!(gather.length(), 0);
        }
        drop(writer);
        assert_eq!(thread.join().unwrap(), want);
    }

    #[test]
    fn a_pipe_nobody_reads_is_an_errno_and_no_signal() {
        let (reader, writer) = pipe();
        drop(reader);
        let mut gather = Gather::default();
        gather.copy(b"x");
        let quiet = NoSignals::begin();
        assert_eq!(gather.write(borrow(&writer)), (0, Err(Errno(libc::EPIPE))));
        quiet.forget(Errno(libc::EPIPE));
        let mut pending = signal_set(&[]);
        // SAFETY: a live set.
        unsafe { libc::sigpending(&mut pending) };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sigismember(&pending, libc::SIGPIPE) }, 0);
    }
}
