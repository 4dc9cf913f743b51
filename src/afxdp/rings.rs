//! The four rings of a socket: single producer, single consumer, shared with the kernel
//! (net/xdp/xsk_queue.h).
//!
//! Counts go around at 2^32; an entry lies at its number modulo the size, a power of two.
//! The producer stores its count after the entries (release), the consumer after it has
//! read them. Each side keeps the other's count as it last saw it, so that a cache line is
//! fetched once a batch.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::sys::mmap::Mapping;
use crate::sys::socket::Socket;
use crate::sys::xdp::{Descriptor, RING_NEEDS_WAKEUP, RingKind, RingOffsets};
use crate::sys::{Errno, Result};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// What a ring holds.
pub(super) trait Entry: Copy {}

impl Entry for Descriptor {}
impl Entry for u64 {}

/// The memory of a ring.
#[derive(Debug)]
struct Shared<T> {
    mapping: Mapping,
    offsets: RingOffsets,
    /// Entries, a power of two.
    size: u32,
    entry: PhantomData<T>,
}

impl<T: Entry> Shared<T> {
    fn map(socket: &Socket, kind: RingKind, size: u32) -> Result<Self> {
        let (mapping, offsets) = socket.map_ring(kind, size)?;
        // The kernel says where its counts are: inside, and where a count can be.
        let length = mapping.length();
        let counts = [offsets.producer, offsets.consumer, offsets.flags];
        let inside = |at: u64, bytes: usize| {
            usize::try_from(at)
                .is_ok_and(|at| length.checked_sub(bytes).is_some_and(|end| at <= end))
        };
        let entries = size_of::<T>().checked_mul(size as usize).ok_or(Errno(libc::EOVERFLOW))?;
        let fits = counts.iter().all(|at| inside(*at, size_of::<u32>()) && at % 4 == 0)
            && inside(offsets.entries, entries)
            && offsets.entries % 8 == 0
            && size.is_power_of_two();
        // A forked child has no business in it, and keeps the queue busy.
        let _ = mapping.advise(libc::MADV_DONTFORK);
        if fits {
            Ok(Self { mapping, offsets, size, entry: PhantomData })
        } else {
            Err(Errno(libc::EOVERFLOW))
        }
    }

    fn at(&self, offset: u64) -> NonNull<u8> {
        // `map` has checked that it fits; else the first byte is what is there.
        let offset = usize::try_from(offset).unwrap_or(0);
        // SAFETY: `map` has checked that each offset lies in the mapping.
        unsafe { self.mapping.base().add(offset) }
    }

    fn count(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: in the mapping and aligned (`map`); the kernel accesses it atomically.
        unsafe { AtomicU32::from_ptr(self.at(offset).as_ptr().cast()) }
    }

    fn producer(&self) -> &AtomicU32 {
        self.count(self.offsets.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.count(self.offsets.consumer)
    }

    /// The kernel says so with need_wakeup only; a ring without it never does.
    fn needs_wakeup(&self) -> bool {
        self.count(self.offsets.flags).load(Ordering::Relaxed) & RING_NEEDS_WAKEUP != 0
    }

    fn entry(&self, number: u32) -> NonNull<T> {
        let index = number & self.size.wrapping_sub(1);
        // SAFETY: less than `size` entries behind the first, which `map` has checked.
        unsafe { self.at(self.offsets.entries).cast::<T>().add(index as usize) }
    }
}

/// A ring that the kernel fills.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    /// Taken so far.
    taken: u32,
    /// Filled, as last seen.
    filled: u32,
}

// SAFETY: counts are atomics, entries belong to one side at a time, and the methods that
// move them need the only reference.
unsafe impl<T: Entry + Send> Send for Consumer<T> {}
// SAFETY: as above.
unsafe impl<T: Entry + Send> Sync for Consumer<T> {}

impl<T: Entry> Consumer<T> {
    pub(super) fn map(socket: &Socket, kind: RingKind, size: u32) -> Result<Self> {
        let shared = Shared::map(socket, kind, size)?;
        let taken = shared.consumer().load(Ordering::Relaxed);
        Ok(Self { shared, taken, filled: taken })
    }

    /// How many entries are there, looked at anew where fewer than `wanted` are known of.
    pub(super) fn available(&mut self, wanted: u32) -> u32 {
        let known = self.filled.wrapping_sub(self.taken);
        if known >= wanted {
            return known;
        }
        let filled = self.shared.producer().load(Ordering::Acquire);
        // More than fit: no kernel says so. What is known stays true.
        if filled.wrapping_sub(self.taken) <= self.shared.size {
            self.filled = filled;
        }
        self.filled.wrapping_sub(self.taken)
    }

    /// The entry so many behind the next one. It is there: `available` said so.
    pub(super) fn peek(&self, ahead: u32) -> T {
        let entry = self.shared.entry(self.taken.wrapping_add(ahead));
        // SAFETY: in the ring; volatile since the kernel may write it at any time.
        unsafe { entry.read_volatile() }
    }

    /// Gives the next `count` entries back to the kernel.
    pub(super) fn release(&mut self, count: u32) {
        self.taken = self.taken.wrapping_add(count);
        self.shared.consumer().store(self.taken, Ordering::Release);
    }

    /// Whether there is an entry, without taking note of it.
    pub(super) fn has_any(&self) -> bool {
        self.shared.producer().load(Ordering::Acquire) != self.taken
    }

    /// How many were filled so far, going around.
    pub(super) fn filled(&self) -> u32 {
        self.shared.producer().load(Ordering::Acquire)
    }

    /// How many were taken so far, going around.
    pub(super) fn taken(&self) -> u32 {
        self.taken
    }
}

/// A ring that the kernel empties.
#[derive(Debug)]
pub(super) struct Producer<T> {
    shared: Shared<T>,
    /// Written so far, submitted or not.
    written: u32,
    /// Submitted so far.
    submitted: u32,
    /// Taken by the kernel, as last seen.
    taken: u32,
}

// SAFETY: as `Consumer`.
unsafe impl<T: Entry + Send> Send for Producer<T> {}
// SAFETY: as `Consumer`.
unsafe impl<T: Entry + Send> Sync for Producer<T> {}

impl<T: Entry> Producer<T> {
    pub(super) fn map(socket: &Socket, kind: RingKind, size: u32) -> Result<Self> {
        let shared = Shared::map(socket, kind, size)?;
        let written = shared.producer().load(Ordering::Relaxed);
        Ok(Self { shared, written, submitted: written, taken: written })
    }

    /// Room for further entries, looked at anew where less than `wanted` is known of.
    pub(super) fn room(&mut self, wanted: u32) -> u32 {
        let used = self.written.wrapping_sub(self.taken);
        let known = self.shared.size.saturating_sub(used);
        if known >= wanted {
            return known;
        }
        let taken = self.shared.consumer().load(Ordering::Acquire);
        if self.written.wrapping_sub(taken) <= self.shared.size {
            self.taken = taken;
        }
        self.shared.size.saturating_sub(self.written.wrapping_sub(self.taken))
    }

    /// Writes the next entry. There is room: `room` said so.
    pub(super) fn push(&mut self, entry: T) {
        let at = self.shared.entry(self.written);
        // SAFETY: in the ring, and not the kernel's before it is submitted.
        unsafe { at.write_volatile(entry) };
        self.written = self.written.wrapping_add(1);
    }

    /// Gives what was written to the kernel; how many.
    pub(super) fn submit(&mut self) -> u32 {
        let count = self.written.wrapping_sub(self.submitted);
        if count != 0 {
            self.shared.producer().store(self.written, Ordering::Release);
            self.submitted = self.written;
        }
        count
    }

    /// Entries that the kernel has not taken.
    pub(super) fn outstanding(&mut self) -> u32 {
        let size = self.shared.size;
        size.saturating_sub(self.room(size)).wrapping_sub(self.written.wrapping_sub(self.submitted))
    }

    /// How many the kernel has taken so far, going around.
    pub(super) fn taken(&mut self) -> u32 {
        self.room(self.shared.size);
        self.taken
    }

    /// How many were submitted so far, going around.
    pub(super) fn submitted(&self) -> u32 {
        self.submitted
    }

    /// Whether the driver waits for a kick. It sets the flag, and looks at the ring once more
    /// or not; what was submitted must not become visible only after this look at the flag.
    pub(super) fn needs_wakeup(&self) -> bool {
        fence(Ordering::SeqCst);
        self.shared.needs_wakeup()
    }
}
