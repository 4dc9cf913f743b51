//! Handles: tokens that look like pointers and are never dereferenced.
//!
//! A token names a slot of a table, the slot's generation and the kind of
//! handle. Slots are never freed, so looking up a stale token is a comparison,
//! not a read of freed memory. A call in progress pins its slot; a close makes
//! the token stale at once and waits until the pins are gone. Everything is
//! lock-free: a lookup may run in a signal handler and in a forked child.

use crate::error::{Error, Kind, Result};
use crate::sys::clock;
use crate::sys::process::Belongs;
use std::cell::UnsafeCell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The kinds of handles; in the token, so that a foreign one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum HandleKind {
    /// struct netring_capture.
    Capture = 1,
    /// struct netring_block.
    Block = 2,
    /// struct netring_filter.
    Filter = 3,
    /// struct netring_reader.
    Reader = 5,
    /// struct netring_writer.
    Writer = 4,
    /// struct netring_group.
    Group = 6,
    /// struct netring_injector.
    Injector = 7,
    /// struct netring_bridge.
    Bridge = 8,
    /// struct netring_xdp.
    Xdp = 9,
    /// struct netring_queue.
    Queue = 10,
    /// struct netring_umem.
    Umem = 11,
}

// A token: generation, slot, kind.
const KIND_BITS: u32 = 4;
const SLOT_BITS: u32 = 20;
const GENERATION_SHIFT: u32 = KIND_BITS + SLOT_BITS;
// A slot's word: generation (as in the token), open, poisoned, pins.
const PINS: u64 = (1 << 22) - 1;
const POISONED: u64 = 1 << 22;
const OPEN: u64 = 1 << 23;
const GENERATION: u64 = !((1 << GENERATION_SHIFT) - 1);
const ONE_GENERATION: u64 = 1 << GENERATION_SHIFT;

/// Slots of the first segment; each further one doubles the table.
const FIRST_SEGMENT: usize = 64;
const SEGMENTS: usize = 15;
const SLOTS: u32 = 1 << SLOT_BITS;

struct Slot<T> {
    word: AtomicU64,
    /// The process the handle belongs to ([`Belongs`]).
    process: AtomicU64,
    /// Next slot of the free list, plus one.
    next_free: AtomicU32,
    /// Written only by whoever took the slot from the free list, or closed it
    /// and saw the last pin go; read only under a pin or by the closer.
    value: UnsafeCell<Option<Arc<T>>>,
}

impl<T> Slot<T> {
    #[inline]
    fn is_ours(&self) -> bool {
        Belongs::from_word(self.process.load(Ordering::Relaxed)).is_ours()
    }
}

/// A table of handles of one kind.
pub(crate) struct Table<T: 'static> {
    kind: HandleKind,
    segments: [AtomicPtr<Slot<T>>; SEGMENTS],
    /// Slots in use so far.
    used: AtomicU32,
    /// Head of the free list: a change count, and the slot plus one.
    free: AtomicU64,
}

// SAFETY: a value is shared only as `&T` and moved only as `Arc<T>`.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// A handle in use by a call.
pub(crate) struct Pinned<T: 'static> {
    slot: &'static Slot<T>,
}

// SAFETY: a pin may be dropped, and its value read, on any thread.
unsafe impl<T: Send + Sync> Send for Pinned<T> {}
// SAFETY: the value is read by whoever closed the handle, on any thread.
unsafe impl<T: Send + Sync> Send for Closing<T> {}

/// A handle being closed: its token is stale, calls may still be in progress.
pub(crate) struct Closing<T: 'static> {
    table: &'static Table<T>,
    slot: &'static Slot<T>,
    index: u32,
    in_use: bool,
}

/// Why a token resolves to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Stale, foreign, made up, or the parent process's.
    Bad,
    /// A panic was caught in a call on it.
    Poisoned,
}

impl Refusal {
    #[cold]
    fn into_error(self) -> Error {
        match self {
            Self::Bad => Error::new(
                Kind::BadHandle,
                "handle",
                "bad handle: NULL, closed or released, of another kind, or opened before a fork()",
            ),
            Self::Poisoned => Error::new(
                Kind::Panic,
                "handle",
                "a panic was caught in an earlier call; this handle can only be closed",
            ),
        }
    }

    /// The documented error.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Bad => Kind::BadHandle,
            Self::Poisoned => Kind::Panic,
        }
    }
}

fn bad_handle() -> Error {
    Refusal::Bad.into_error()
}

impl<T: Send + Sync> Table<T> {
    pub(crate) const fn new(kind: HandleKind) -> Self {
        Self {
            kind,
            segments: [const { AtomicPtr::new(std::ptr::null_mut()) }; SEGMENTS],
            used: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// Segment s holds the slots from 64 * (2^s - 1) on.
    fn place(index: u32) -> (usize, usize) {
        let shifted = index as usize + FIRST_SEGMENT;
        let segment = (shifted / FIRST_SEGMENT).ilog2() as usize;
        (segment, shifted - (FIRST_SEGMENT << segment))
    }

    fn slot(&'static self, index: u32) -> Option<&'static Slot<T>> {
        let (segment, offset) = Self::place(index);
        let base = self.segments.get(segment)?.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: segment s has 64 * 2^s slots, and `place` keeps the offset below that.
        let slot = unsafe { base.add(offset) };
        // SAFETY: segments are initialised before they are published and never freed.
        Some(unsafe { &*slot })
    }

    fn grow(&'static self, segment: usize) {
        let slots: Box<[Slot<T>]> = (0..FIRST_SEGMENT << segment)
            .map(|_| Slot {
                word: AtomicU64::new(ONE_GENERATION),
                process: AtomicU64::new(0),
                next_free: AtomicU32::new(0),
                value: UnsafeCell::new(None),
            })
            .collect();
        let fresh: *mut Slot<T> = Box::into_raw(slots).cast();
        let cell = &self.segments[segment];
        let raced = cell
            .compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err();
        if raced {
            let slice = std::ptr::slice_from_raw_parts_mut(fresh, FIRST_SEGMENT << segment);
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(slice) });
        }
    }

    fn take_free(&'static self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.slot(index)?.next_free.load(Ordering::Relaxed);
            // The count in the upper half makes a head that went and came back different.
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    fn put_free(&'static self, index: u32, slot: &Slot<T>) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            slot.next_free.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(index + 1);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives a value a handle, for this process.
    pub(crate) fn insert<H>(&'static self, value: Arc<T>) -> Result<*mut H> {
        self.insert_for(Belongs::here(), value)
    }

    /// Gives a value a handle.
    pub(crate) fn insert_for<H>(&'static self, belongs: Belongs, value: Arc<T>) -> Result<*mut H> {
        let index = match self.take_free() {
            Some(index) => index,
            None => {
                let index = self.used.fetch_add(1, Ordering::Relaxed);
                if index >= SLOTS - 1 {
                    self.used.fetch_sub(1, Ordering::Relaxed);
                    return Err(Error::new(Kind::Io, "handles", "too many handles are open"));
                }
                self.grow_to(index);
                index
            }
        };
        let slot = self.slot(index).ok_or_else(bad_handle)?;
        // SAFETY: the slot is neither open nor in the free list: it is ours.
        unsafe { *slot.value.get() = Some(value) };
        slot.process.store(belongs.word(), Ordering::Relaxed);
        let word = slot.word.fetch_or(OPEN, Ordering::Release);
        let token = (word & GENERATION) | (u64::from(index) << KIND_BITS) | self.kind as u64;
        Ok(std::ptr::without_provenance_mut(token as usize))
    }

    fn grow_to(&'static self, index: u32) {
        let (segment, _) = Self::place(index);
        if self.segments[segment].load(Ordering::Acquire).is_null() {
            self.grow(segment);
        }
    }

    /// The slot a token names, and its generation.
    #[inline]
    fn find<H>(&'static self, handle: *const H) -> Option<(&'static Slot<T>, u32, u64)> {
        let token = handle.addr() as u64;
        let kind = token & ((1 << KIND_BITS) - 1);
        let index = (token >> KIND_BITS) as u32 & (SLOTS - 1);
        let slot = self.slot(index).filter(|_| kind == self.kind as u64)?;
        Some((slot, index, token & GENERATION))
    }

    /// Pins an open handle of this process, and tells whether it is poisoned.
    #[inline]
    fn pin_open<H>(&'static self, handle: *const H) -> Option<(Pinned<T>, bool)> {
        let (slot, _, generation) = self.find(handle)?;
        let matches = |word: u64| word & (GENERATION | OPEN) == generation | OPEN;
        // The plain look keeps stale tokens from disturbing the slot's new user.
        if !matches(slot.word.load(Ordering::Relaxed)) {
            return None;
        }
        let word = slot.word.fetch_add(1, Ordering::Acquire);
        let pinned = Pinned { slot };
        (matches(word) && slot.is_ours()).then_some((pinned, word & POISONED != 0))
    }

    /// Resolves a handle for one call. Allocates nothing: signal handlers too.
    #[inline]
    pub(crate) fn pin_quietly<H>(
        &'static self,
        handle: *const H,
    ) -> std::result::Result<Pinned<T>, Refusal> {
        match self.pin_open(handle) {
            Some((pinned, false)) => Ok(pinned),
            Some((_, true)) => Err(Refusal::Poisoned),
            None => Err(Refusal::Bad),
        }
    }

    /// Resolves a handle that is about to be closed: a poisoned one too.
    pub(crate) fn pin_to_close<H>(&'static self, handle: *const H) -> Result<Pinned<T>> {
        self.pin_open(handle).map(|(pinned, _)| pinned).ok_or_else(bad_handle)
    }

    /// Resolves a handle for one call.
    #[inline]
    pub(crate) fn pin<H>(&'static self, handle: *const H) -> Result<Pinned<T>> {
        self.pin_quietly(handle).map_err(Refusal::into_error)
    }

    /// Makes a token stale; whoever gets the [`Closing`] ends the object.
    pub(crate) fn close<H>(&'static self, handle: *const H) -> Result<Closing<T>> {
        let (slot, index, generation) = self.find(handle).ok_or_else(bad_handle)?;
        if !slot.is_ours() {
            return Err(bad_handle());
        }
        let closed = slot.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            (word & (GENERATION | OPEN) == generation | OPEN)
                .then(|| (word & !OPEN & !POISONED).wrapping_add(ONE_GENERATION))
        });
        closed
            .map(|word| Closing { table: self, slot, index, in_use: word & PINS != 0 })
            .map_err(|_| bad_handle())
    }
}

impl<T> Pinned<T> {
    /// After a panic in a call on this handle.
    pub(crate) fn poison(&self) {
        self.slot.word.fetch_or(POISONED, Ordering::Relaxed);
    }
}

impl<T> Pinned<T> {
    /// The value, beyond the handle's life.
    pub(crate) fn share(&self) -> Arc<T> {
        // SAFETY: as `deref`.
        let value = unsafe { &*self.slot.value.get() };
        match value {
            Some(value) => Arc::clone(value),
            None => unreachable!("an open slot has a value"),
        }
    }
}

impl<T> Deref for Pinned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: pinned: the value is not written until the pin is gone.
        let value = unsafe { &*self.slot.value.get() };
        match value {
            Some(value) => value,
            None => unreachable!("an open slot has a value"),
        }
    }
}

impl<T> Drop for Pinned<T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.word.fetch_sub(1, Ordering::Release);
    }
}

impl<T: Send + Sync> Closing<T> {
    /// The value, while calls on it may still be in progress.
    pub(crate) fn value(&self) -> Option<&T> {
        // SAFETY: written only by `finish`, which consumes self.
        unsafe { (*self.slot.value.get()).as_deref() }
    }

    /// Whether calls were in progress when the token became stale.
    pub(crate) fn in_use(&self) -> bool {
        self.in_use
    }

    /// Waits until no call is in progress any more, and takes the value.
    pub(crate) fn finish(self) -> Option<Arc<T>> {
        let mut naps = 0_u32;
        while self.slot.word.load(Ordering::Acquire) & PINS != 0 {
            // Calls leave within microseconds once they are told to; a system
            // call of theirs may take longer.
            if naps < 100 {
                std::thread::yield_now();
            } else {
                clock::nap(Duration::from_micros(100));
            }
            naps = naps.saturating_add(1);
        }
        // A call that panicked after the close has poisoned the slot, not its next user.
        self.slot.word.fetch_and(!POISONED, Ordering::Relaxed);
        // SAFETY: closed and unpinned: nobody else reads or writes it.
        let value = unsafe { (*self.slot.value.get()).take() };
        self.table.put_free(self.index, self.slot);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    enum Thing {}

    fn table() -> &'static Table<u32> {
        process::claim().unwrap();
        Box::leak(Box::new(Table::new(HandleKind::Filter)))
    }

    #[test]
    fn stale_foreign_and_made_up_tokens_are_refused() {
        let table = table();
        let one: *mut Thing = table.insert(Arc::new(1)).unwrap();
        assert_eq!(*table.pin(one).unwrap(), 1);
        for bits in 0..64 {
            let other = one.map_addr(|token| token ^ (1 << bits));
            assert!(table.pin(other).is_err(), "bit {bits}");
            assert!(table.close(other).is_err());
        }
        assert!(table.pin(std::ptr::null::<Thing>()).is_err());
        assert_eq!(*table.close(one).unwrap().finish().unwrap(), 1);
        assert!(table.pin(one).is_err());
        assert!(table.close(one).is_err());
        // The slot is used again, under another token.
        let two: *mut Thing = table.insert(Arc::new(2)).unwrap();
        assert_ne!(one, two);
        assert!(table.pin(one).is_err());
        assert_eq!(*table.pin(two).unwrap(), 2);
    }

    #[test]
    fn tables_grow() {
        let table = table();
        let all: Vec<*mut Thing> = (0..5000).map(|n| table.insert(Arc::new(n)).unwrap()).collect();
        for (n, token) in all.iter().enumerate() {
            assert_eq!(*table.pin(*token).unwrap(), n as u32);
        }
        for token in &all {
            table.close(*token).unwrap().finish().unwrap();
        }
        assert!(all.iter().all(|token| table.pin(*token).is_err()));
    }

    #[test]
    fn a_close_waits_for_calls_in_progress() {
        let table = table();
        let token: *mut Thing = table.insert(Arc::new(7)).unwrap();
        let pinned = table.pin(token).unwrap();
        let closing = table.close(token).unwrap();
        assert!(table.pin(token).is_err());
        let thread = std::thread::spawn(move || closing.finish().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished());
        assert_eq!(*pinned, 7);
        drop(pinned);
        assert_eq!(*thread.join().unwrap(), 7);
    }

    #[test]
    fn threads_that_insert_pin_and_close() {
        let table = table();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                std::thread::spawn(move || {
                    for round in 0..20_000_u32 {
                        let value = n * 1_000_000 + round;
                        let token: *mut Thing = table.insert(Arc::new(value)).unwrap();
                        assert_eq!(*table.pin(token).unwrap(), value);
                        let _ = table.pin(token.map_addr(|token| token ^ 0x10)).map(|p| *p);
                        assert_eq!(*table.close(token).unwrap().finish().unwrap(), value);
                        assert!(table.pin(token).is_err());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_poisoned_handle_can_only_be_closed() {
        let table = table();
        let token: *mut Thing = table.insert(Arc::new(1)).unwrap();
        table.pin(token).unwrap().poison();
        assert_eq!(table.pin(token).err().map(|error| error.kind), Some(Kind::Panic));
        let last = table.pin_to_close(token).unwrap();
        let closing = table.close(token).unwrap();
        // A call that was in progress panics after the close.
        last.poison();
        drop(last);
        closing.finish().unwrap();
        assert!(table.pin_to_close(token).is_err());
        let next: *mut Thing = table.insert(Arc::new(2)).unwrap();
        assert_eq!(*table.pin(next).unwrap(), 2);
    }
}
