//! The ring: its units' memory, who holds which of them, and what becomes of
//! held ones when the capture is closed.
//!
//! A unit is what the kernel hands over as one: a block of packets (TPACKET_V3),
//! or a frame with one packet (TPACKET_V2). Of blocks each is handed out, and
//! may be in parts; of frames a run that lies in one block of the ring's memory.

use crate::afpacket::loss::Held;
use crate::afpacket::record::{BlockMemory, frame};
use crate::config::Geometry;
use crate::sys::Result;
use crate::sys::clock;
use crate::sys::mmap::{self, Mapping};
use crate::sys::packet::status;
use crate::sys::process::Belongs;
use parking_lot::{Mutex, RwLock};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// All of the unit has been handed out.
const TAKEN: u32 = 1 << 31;

/// One unit of the ring, as user space sees it.
#[derive(Debug)]
struct Holding {
    /// How many handed-out blocks lie in it, and `TAKEN`.
    state: AtomicU32,
    /// When the first of them was handed out, monotonic nanoseconds.
    since_ns: AtomicU64,
    /// Sequence number of what was last handed out whole. A block that still
    /// carries it is on its way back to the kernel, not ready again.
    sequence: AtomicU64,
}

impl Holding {
    fn held(&self) -> Held {
        let now = clock::nanoseconds(clock::monotonic());
        Held {
            sequence: self.sequence.load(Ordering::Relaxed),
            held_ns: now.saturating_sub(self.since_ns.load(Ordering::Relaxed)),
        }
    }
}

/// Who owns the memory.
#[derive(Debug)]
enum Backing {
    /// The kernel's ring, mapped whole.
    Ring(Mapping),
    /// Closed: each held block is private memory of its own.
    Copies,
    /// Closed, but the copies could not be made: the mapping stays until the
    /// last held block is released.
    Lingering { _mapping: Mapping },
}

/// The frames of a TPACKET_V2 ring.
#[derive(Debug)]
struct Frames {
    size: u32,
    /// How many lie in a block; none crosses its end.
    per_block: u32,
    /// How many handed-out runs lie in each block.
    runs: Box<[AtomicU32]>,
}

/// The mapped units.
#[derive(Debug)]
pub struct Ring {
    base: NonNull<u8>,
    block_size: u32,
    block_count: u32,
    /// The units are frames.
    frames: Option<Frames>,
    /// Of each unit.
    holdings: Box<[Holding]>,
    /// Blocks that user space holds: of frames, runs.
    held: AtomicU32,
    /// Of the units given back for which the kernel had stopped, the one that
    /// was held longest; until somebody asks.
    waited_for: Mutex<Option<Held>>,
    /// There is such a block.
    has_waited: AtomicBool,
    /// Whose blocks these are to give back.
    belongs: Belongs,
    /// Taken for writing by `close` only.
    backing: RwLock<Option<Backing>>,
}

// SAFETY: the base address is only handed on as `BlockMemory`, which is safe to
// share; everything else is atomic or locked.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// The ring of this geometry in `mapping`, which is exactly as long.
    pub fn new(mapping: Mapping, geometry: &Geometry, belongs: Belongs) -> Self {
        let holding = || Holding {
            state: AtomicU32::new(0),
            since_ns: AtomicU64::new(0),
            sequence: AtomicU64::new(u64::MAX),
        };
        let block_count = geometry.block_count;
        let frames = geometry.frames.then(|| Frames {
            size: geometry.frame_size,
            per_block: geometry.block_size / geometry.frame_size,
            runs: (0..block_count).map(|_| AtomicU32::new(0)).collect(),
        });
        let units = if frames.is_some() { geometry.frame_count() } else { block_count };
        Self {
            base: mapping.base(),
            block_size: geometry.block_size,
            block_count,
            frames,
            holdings: (0..units).map(|_| holding()).collect(),
            held: AtomicU32::new(0),
            waited_for: Mutex::new(None),
            has_waited: AtomicBool::new(false),
            belongs,
            backing: RwLock::new(Some(Backing::Ring(mapping))),
        }
    }

    /// Whose it is: a child forked later has the memory too, and may not be meant
    /// to touch it.
    pub fn belongs(&self) -> Belongs {
        self.belongs
    }

    /// Units of the ring.
    pub fn units(&self) -> u32 {
        self.holdings.len() as u32
    }

    /// Whether the units are frames.
    pub fn has_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// The memory of a unit. Only for the capture, while it is open, and for
    /// blocks in user space's hands.
    pub fn unit(&self, index: u32) -> BlockMemory {
        match &self.frames {
            None => self.memory(self.offset(index), self.block_size),
            Some(frames) => self.memory(self.offset(index), frames.size),
        }
    }

    fn memory(&self, offset: usize, length: u32) -> BlockMemory {
        let base = self.base.as_ptr().wrapping_add(offset);
        let base = NonNull::new(base).unwrap_or(self.base);
        // SAFETY: inside the mapping, aligned to a page or (frames) to 16; it
        // stays mapped until `close`, and after that for as long as it is held.
        unsafe { BlockMemory::new(base, length) }
    }

    /// Where a unit starts.
    fn offset(&self, index: u32) -> usize {
        debug_assert!(index < self.units());
        let block_size = self.block_size as usize;
        match &self.frames {
            None => index as usize * block_size,
            Some(frames) => {
                let block = (index / frames.per_block) as usize;
                block * block_size + (index % frames.per_block) as usize * frames.size as usize
            }
        }
    }

    /// At most `count` frames from `index` on that lie in one piece, and how many
    /// these are.
    fn run(&self, frames: &Frames, index: u32, count: u64) -> (BlockMemory, u32) {
        let left = frames.per_block - index % frames.per_block;
        let count = u32::try_from(count).map_or(left, |count| count.min(left));
        (self.memory(self.offset(index), count * frames.size), count)
    }

    /// Whether the kernel has retired the block and it was not handed out yet.
    pub fn is_ready(&self, index: u32) -> bool {
        let block = self.unit(index);
        if self.frames.is_some() {
            return frame::is_ready(&block);
        }
        // The sequence first, the status last: a new number with USER seen after
        // it can only be the new lap's USER. The other way round the block may be
        // given back and opened again between the two looks.
        let sequence = block.header().sequence;
        fence(Ordering::Acquire);
        if block.status() & status::USER == 0 {
            return false;
        }
        let holding = &self.holdings[index as usize];
        holding.state.load(Ordering::Acquire) & TAKEN == 0
            && holding.sequence.load(Ordering::Relaxed) != sequence
    }

    /// Notes that a block is handed out: all of what is left of it, or only the
    /// part that is ready.
    pub fn hold(&self, index: u32, sequence: u64, all: bool) {
        let holding = &self.holdings[index as usize];
        let before = holding.state.fetch_add(1, Ordering::Relaxed);
        if before & !TAKEN == 0 {
            holding.since_ns.store(clock::nanoseconds(clock::monotonic()), Ordering::Relaxed);
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        if all {
            holding.sequence.store(sequence, Ordering::Relaxed);
            holding.state.fetch_or(TAKEN, Ordering::Relaxed);
        }
    }

    /// Hands out at most `count` frames from `index` on, ready ones; the first has
    /// that sequence number. Their memory, as records; how many; and whether the
    /// kernel says in one that it had to drop packets. `None`: a ring of blocks.
    pub fn hold_run(
        &self,
        index: u32,
        sequence: u64,
        count: u64,
    ) -> Option<(BlockMemory, u32, bool)> {
        let frames = self.frames.as_ref()?;
        let (memory, count) = self.run(frames, index, count);
        let since_ns = clock::nanoseconds(clock::monotonic());
        let holdings = self.holdings.iter().skip(index as usize).take(count as usize);
        for (holding, sequence) in holdings.zip(sequence..) {
            holding.since_ns.store(since_ns, Ordering::Relaxed);
            holding.sequence.store(sequence, Ordering::Relaxed);
            holding.state.store(TAKEN | 1, Ordering::Relaxed);
        }
        frames.runs[(index / frames.per_block) as usize].fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(1, Ordering::Relaxed);
        let losing = frame::to_records(&memory, frames.size);
        Some((memory, count, losing))
    }

    /// Notes that nothing of the block is left to hand out: all of it went out
    /// in parts. It goes back to the kernel now, or with the last part.
    pub fn finish(&self, index: u32, sequence: u64) {
        let holding = &self.holdings[index as usize];
        holding.sequence.store(sequence, Ordering::Relaxed);
        let before = holding.state.fetch_or(TAKEN, Ordering::AcqRel);
        if before == 0 {
            self.to_kernel(index);
        }
    }

    /// Takes back a block, a part of one, or a run of `count` frames. Any thread,
    /// also after `close`.
    pub fn give_back(&self, index: u32, count: u32) {
        // A child that was forked inside a callback comes here when that returns;
        // the block is still its parent's.
        if !self.belongs.is_ours() {
            return;
        }
        // Held, so that `close` does not take the memory away in between.
        let backing = self.backing.read();
        let (block, to_kernel, none_left) = match &self.frames {
            None => {
                let before = self.holdings[index as usize].state.fetch_sub(1, Ordering::AcqRel);
                let none_left = before & !TAKEN == 1;
                if none_left {
                    self.held.fetch_sub(1, Ordering::Relaxed);
                }
                (index, before == TAKEN | 1, none_left)
            }
            Some(frames) => {
                self.held.fetch_sub(1, Ordering::Relaxed);
                let block = index / frames.per_block;
                (block, true, frames.runs[block as usize].fetch_sub(1, Ordering::AcqRel) == 1)
            }
        };
        match &*backing {
            Some(Backing::Ring(_)) if to_kernel => {
                if self.kernel_waits_for(index) {
                    self.note_waited_for(index);
                }
                for index in index..index + count {
                    self.to_kernel(index);
                }
            }
            Some(Backing::Copies) if none_left => {
                // SAFETY: a copy made by `close`, and its last user is gone.
                unsafe { mmap::unmap(self.address(block), self.block_size as usize) };
            }
            Some(Backing::Lingering { .. }) if none_left && self.held() == 0 => {
                drop(backing);
                // The last one unmaps; whoever comes second finds nothing.
                *self.backing.write() = None;
            }
            _ => {}
        }
    }

    fn to_kernel(&self, index: u32) {
        // Ours again before it is the kernel's: the next hand-out starts at 0.
        self.holdings[index as usize].state.store(0, Ordering::Relaxed);
        let unit = self.unit(index);
        if self.frames.is_some() { frame::give_back(&unit) } else { unit.give_back() }
    }

    /// Whether the kernel has filled every unit behind this one, a held one.
    /// One comparison, where it has not.
    fn kernel_waits_for(&self, index: u32) -> bool {
        let count = self.units();
        let last = if index == 0 { count - 1 } else { index - 1 };
        let sequence = self.holdings[index as usize].sequence.load(Ordering::Relaxed);
        let unit = self.unit(last);
        let end = sequence.wrapping_add(u64::from(count) - 1);
        let end_was_taken = self.holdings[last as usize].sequence.load(Ordering::Relaxed) == end;
        if self.frames.is_some() {
            // What is ready was filled after this one was handed out.
            return end_was_taken || frame::is_ready(&unit);
        }
        unit.header().sequence == end && (unit.status() & status::USER != 0 || end_was_taken)
    }

    #[cold]
    fn note_waited_for(&self, index: u32) {
        let held = self.holdings[index as usize].held();
        let mut waited_for = self.waited_for.lock();
        *waited_for = Held::longer(*waited_for, Some(held));
        self.has_waited.store(true, Ordering::Relaxed);
    }

    /// Whether [`take_waited_for`](Self::take_waited_for) would give one.
    pub fn has_waited(&self) -> bool {
        self.has_waited.load(Ordering::Relaxed)
    }

    /// The block that kept the kernel waiting longest and was given back since
    /// this was asked last.
    pub fn take_waited_for(&self) -> Option<Held> {
        if !self.has_waited() {
            return None;
        }
        let mut waited_for = self.waited_for.lock();
        self.has_waited.store(false, Ordering::Relaxed);
        waited_for.take()
    }

    /// The unit, if all of it was handed out and it was not given back.
    pub fn in_the_way(&self, index: u32) -> Option<Held> {
        let holding = &self.holdings[index as usize];
        let state = holding.state.load(Ordering::Relaxed);
        (state & TAKEN != 0 && state != TAKEN).then(|| holding.held())
    }

    /// Of a block of the ring's memory.
    fn address(&self, block: u32) -> NonNull<u8> {
        let offset = block as usize * self.block_size as usize;
        NonNull::new(self.base.as_ptr().wrapping_add(offset)).unwrap_or(self.base)
    }

    /// Blocks that user space holds: those of the ring, or runs of frames.
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// How long the oldest of them has been held, in nanoseconds.
    pub fn oldest_held_ns(&self) -> u64 {
        if self.held() == 0 {
            return 0;
        }
        let now = clock::nanoseconds(clock::monotonic());
        self.holdings
            .iter()
            .filter(|holding| holding.state.load(Ordering::Relaxed) & !TAKEN != 0)
            .map(|holding| now.saturating_sub(holding.since_ns.load(Ordering::Relaxed)))
            .max()
            .unwrap_or(0)
    }

    /// Lets go of the kernel's ring: held blocks become private memory at the
    /// same address, the rest is unmapped. A mapping alone would keep the socket
    /// capturing (the vma holds the file), so the socket ends only through this.
    /// Nobody may be reading statuses any more; user space may go on reading
    /// and releasing what it holds.
    ///
    /// # Errors
    /// A copy could not be made; the mapping lingers until the last release.
    pub fn close(&self) -> Result<()> {
        let mut backing = self.backing.write();
        let Some(Backing::Ring(mapping)) = backing.take() else { return Ok(()) };
        for index in 0..self.block_count {
            if !self.is_held(index) {
                continue;
            }
            // SAFETY: whole pages of our mapping; the kernel does not write
            // records that user space holds.
            let copied =
                unsafe { mmap::replace_by_copy(self.address(index), self.block_size as usize) };
            if let Err(errno) = copied {
                *backing = Some(Backing::Lingering { _mapping: mapping });
                return Err(errno);
            }
        }
        let (base, _) = mapping.into_raw();
        debug_assert_eq!(base, self.base);
        let mut index = 0;
        while index < self.block_count {
            if self.is_held(index) {
                index += 1;
                continue;
            }
            let first = index;
            while index < self.block_count && !self.is_held(index) {
                index += 1;
            }
            let length = (index - first) as usize * self.block_size as usize;
            // SAFETY: blocks of our mapping that nobody holds.
            unsafe { mmap::unmap(self.address(first), length) };
        }
        *backing = Some(Backing::Copies);
        Ok(())
    }

    /// Whether user space holds anything of a block of the ring's memory.
    fn is_held(&self, block: u32) -> bool {
        match &self.frames {
            None => self.holdings[block as usize].state.load(Ordering::Acquire) & !TAKEN != 0,
            Some(frames) => frames.runs[block as usize].load(Ordering::Acquire) != 0,
        }
    }
}
