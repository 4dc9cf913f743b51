//! Memory mappings.

use super::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is memory of the whole process; access to its content is
// the owner's business.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods only name the range or ask the kernel about it.
unsafe impl Sync for Mapping {}

fn map(length: usize, flags: i32, fd: i32, offset: i64) -> Result<Mapping> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, offset) };
    if base == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(base.cast()).map(|base| Mapping { base, length }).ok_or(Errno(libc::ENOMEM))
}

impl Mapping {
    /// Private memory of zeros.
    pub fn anonymous(length: usize) -> Result<Self> {
        map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Private memory of zeros in pages of 2 MiB, of which `length` is a multiple.
    pub fn huge(length: usize) -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        map(length, flags | libc::MAP_HUGE_2MB, -1, 0)
    }

    /// One of several rings of a socket, which `offset` names; all of it present.
    pub fn shared_at(fd: BorrowedFd<'_>, length: usize, offset: i64) -> Result<Self> {
        map(length, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    /// A socket's ring, shared with the kernel. `length` must be the ring's
    /// whole size (af_packet.c packet_mmap).
    pub fn shared(fd: BorrowedFd<'_>, length: usize, locked: bool) -> Result<Self> {
        let lock = if locked { libc::MAP_LOCKED } else { 0 };
        map(length, libc::MAP_SHARED | lock, fd.as_raw_fd(), 0)
    }

    /// madvise(2) on all of it.
    pub fn advise(&self, advice: i32) -> Result<()> {
        // SAFETY: our own mapping; the advices used change no content in this process.
        let result = unsafe { libc::madvise(self.base.as_ptr().cast(), self.length, advice) };
        if result < 0 { Err(Errno::last()) } else { Ok(()) }
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Gives the range up to the caller, who unmaps it piece by piece.
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let raw = (self.base, self.length);
        std::mem::forget(self);
        raw
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and nobody uses it after its owner is gone.
        unsafe { unmap(self.base, self.length) };
    }
}

/// munmap(2).
///
/// # Safety
/// The range is mapped by us and nobody uses it any more.
pub unsafe fn unmap(base: NonNull<u8>, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(base.as_ptr().cast(), length) };
}

/// Replaces `length` bytes at `base` with private memory of the same content,
/// at the same address: readers never see a difference, and the file behind the
/// old mapping loses one user.
///
/// # Safety
/// The range is whole pages of a mapping of ours, readable to its end.
pub unsafe fn replace_by_copy(base: NonNull<u8>, length: usize) -> Result<()> {
    let copy = Mapping::anonymous(length)?;
    // SAFETY: both ranges have `length` bytes and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(base.as_ptr(), copy.base.as_ptr(), length) };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: moves our fresh mapping over a range the caller owns.
    let moved =
        unsafe { libc::mremap(copy.base.as_ptr().cast(), length, length, flags, base.as_ptr()) };
    if moved == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // Its pages live at `base` now.
    std::mem::forget(copy);
    Ok(())
}
