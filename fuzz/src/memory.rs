//! Memory between two pages that cannot be touched: a read or write outside of
//! it is a SIGSEGV, not luck.

use std::ptr::null_mut;

const PAGE: usize = 4096;
/// What lies around the bytes in use.
const FILL: u8 = 0xc5;
/// As far as that.
const MARGIN: usize = 512;

/// Where the bytes lie: right before the last page, or right behind the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    End,
    Start,
}

#[derive(Debug)]
pub struct Guarded {
    base: *mut u8,
    room: usize,
}

impl Guarded {
    /// Room for `most` bytes.
    pub fn new(most: usize) -> Self {
        let room = most.next_multiple_of(PAGE) + PAGE;
        let length = room + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap");
        let base = base.cast::<u8>().wrapping_add(PAGE);
        // SAFETY: inside the mapping.
        let rc = unsafe { libc::mprotect(base.cast(), room, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(rc, 0, "mprotect");
        Self { base, room }
    }

    /// Puts `data` there. At the end an address is aligned to 8 only where the
    /// length is a multiple of 8; `slack` bytes stay behind it.
    pub fn place(&self, data: &[u8], place: Place, slack: usize) -> *mut u8 {
        assert!(data.len() + slack + PAGE <= self.room);
        let at = match place {
            Place::End => self.base.wrapping_add(self.room - data.len() - slack),
            Place::Start => self.base,
        };
        let around = match place {
            Place::End => at.wrapping_sub(MARGIN),
            Place::Start => at.wrapping_add(data.len()),
        };
        // SAFETY: inside the room, before or behind the data.
        unsafe { around.write_bytes(FILL, MARGIN) };
        // SAFETY: inside the room.
        unsafe { at.wrapping_add(data.len()).write_bytes(FILL, slack) };
        // SAFETY: the data fits the room.
        unsafe { at.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        at
    }

    /// What lies at `at` now, and that nothing around it was written.
    pub fn content(&self, at: *mut u8, length: usize) -> Vec<u8> {
        let start = at as usize - self.base as usize;
        let before = start.min(MARGIN);
        let behind = (self.room - start - length).min(MARGIN);
        // SAFETY: inside the room, and nobody else has a reference into it.
        let all = unsafe {
            std::slice::from_raw_parts(at.wrapping_sub(before), before + length + behind)
        };
        let clean = |bytes: &[u8]| bytes == &[FILL; MARGIN][..bytes.len()];
        assert!(clean(&all[..before]), "written before the memory");
        assert!(clean(&all[before + length..]), "written behind the memory");
        all[before..before + length].to_vec()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let base = self.base.wrapping_sub(PAGE);
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(base.cast(), self.room + 2 * PAGE) };
    }
}
