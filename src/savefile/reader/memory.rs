//! The memory that blocks of a savefile lie in: pieces of one size, used again
//! when the last block in them is released, never more than a bound.

use super::wait::Waiter;
use crate::afpacket::record::write::BlockWriter;
use crate::afpacket::record::{BLOCK_HEADER, BlockMemory};
use crate::sys::mmap::Mapping;
use crate::sys::{Errno, Result, clock, process};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

const CACHE_LINE: usize = 64;

/// All memory of a reader. Lives as long as one of its blocks.
#[derive(Debug)]
pub struct Pool {
    /// Bytes of a piece.
    piece: usize,
    /// Bytes of all pieces.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Vec<Mapping>,
    /// Bytes of all pieces there are.
    mapped: usize,
    /// Whoever wants memory, and is to be told of a release.
    starving: Option<Arc<Waiter>>,
    /// Blocks in the hands of user space, and since when.
    held: BTreeMap<u64, Duration>,
    closed: bool,
}

/// A piece in use; the last one who has it gives it back.
#[derive(Debug)]
pub struct Piece {
    /// Always there until it is given back.
    mapping: Option<Mapping>,
    pool: Arc<Pool>,
}

/// A piece that blocks are being put into, one behind the other.
#[derive(Debug)]
pub struct Place {
    piece: Arc<Piece>,
    /// Bytes that blocks have, from the start.
    used: usize,
}

/// A block's hold on its memory.
#[derive(Debug)]
pub struct Hold {
    piece: Arc<Piece>,
    sequence: u64,
}

/// Rounds up to whole pages.
pub fn pages(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(process::page_size()).unwrap_or(bytes)
}

impl Pool {
    /// Pieces of `piece` bytes, `limit` bytes at most; both whole pages.
    pub fn new(piece: usize, limit: usize) -> Arc<Self> {
        let state = State {
            free: Vec::new(),
            mapped: 0,
            starving: None,
            held: BTreeMap::new(),
            closed: false,
        };
        Arc::new(Self { piece, limit, state: Mutex::new(state) })
    }

    /// A piece of at least `bytes`; `None` where the bound leaves none.
    ///
    /// # Errors
    /// The kernel refused the memory.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Option<Arc<Piece>>> {
        self.state.lock().take(self, bytes)
    }

    /// The same, and where there is none, `waiter` is told when to try again.
    ///
    /// # Errors
    /// As there.
    pub fn take_or_tell(
        self: &Arc<Self>,
        bytes: usize,
        waiter: &Arc<Waiter>,
    ) -> Result<Option<Arc<Piece>>> {
        let mut state = self.state.lock();
        let piece = state.take(self, bytes)?;
        state.starving = piece.is_none().then(|| Arc::clone(waiter));
        Ok(piece)
    }

    /// Bytes of all pieces, at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many blocks are held, for how long the oldest, and bytes of memory.
    pub fn usage(&self) -> (usize, Duration, usize) {
        let state = self.state.lock();
        let oldest = state.held.first_key_value().map(|(_, since)| *since);
        let age = oldest.map(|since| clock::monotonic_coarse().saturating_sub(since));
        (state.held.len(), age.unwrap_or_default(), state.mapped)
    }

    /// Lets go of what is free; what blocks hold goes with them.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.starving = None;
        let free = std::mem::take(&mut state.free);
        state.mapped = state.mapped.saturating_sub(free.iter().map(Mapping::length).sum());
    }
}

impl State {
    fn take(&mut self, pool: &Arc<Pool>, bytes: usize) -> Result<Option<Arc<Piece>>> {
        let mapping = match self.free.pop() {
            Some(mapping) if bytes <= mapping.length() => mapping,
            other => {
                self.free.extend(other);
                let bytes = pages(bytes.max(pool.piece));
                while self.mapped.saturating_add(bytes) > pool.limit {
                    let Some(spare) = self.free.pop() else { return Ok(None) };
                    self.mapped = self.mapped.saturating_sub(spare.length());
                }
                let mapping = Mapping::anonymous(bytes)?;
                // As of a ring: what others sent has no place in a core dump.
                let _: std::result::Result<(), Errno> = mapping.advise(libc::MADV_DONTDUMP);
                self.mapped = self.mapped.saturating_add(bytes);
                mapping
            }
        };
        Ok(Some(Arc::new(Piece { mapping: Some(mapping), pool: Arc::clone(pool) })))
    }
}

impl Place {
    /// An empty piece.
    pub fn new(piece: Arc<Piece>) -> Self {
        Self { piece, used: 0 }
    }

    /// Bytes left; all of them where every block was released: from the start
    /// again, which is still in the cache.
    pub fn room(&mut self) -> usize {
        if Arc::get_mut(&mut self.piece).is_some() {
            self.used = 0;
        }
        self.piece.mapping.as_ref().map_or(0, Mapping::length).saturating_sub(self.used)
    }

    /// Begins a block in what is left. One at a time: it is finished or dropped
    /// before the next is begun.
    pub fn begin(&mut self) -> Option<BlockWriter> {
        let length = u32::try_from(self.room()).unwrap_or(u32::MAX);
        let base = self.piece.mapping.as_ref()?.base().as_ptr().wrapping_add(self.used);
        let base = NonNull::new(base).filter(|_| length > BLOCK_HEADER)?;
        // SAFETY: `length` bytes of the piece, which whoever gets the block keeps
        // mapped; `used` keeps them aligned.
        let memory = unsafe { BlockMemory::new(base, length) };
        // SAFETY: no block has them, and the place is borrowed for the writing.
        Some(unsafe { BlockWriter::new(memory) })
    }

    /// Finishes a block and notes it as held.
    pub fn finish(&mut self, writer: BlockWriter, sequence: u64) -> (BlockMemory, Hold) {
        // The next one starts on a cache line of its own.
        let length = writer.length() as usize;
        self.used = self.used.saturating_add(length.next_multiple_of(CACHE_LINE));
        let memory = writer.finish(sequence);
        let since = clock::monotonic_coarse();
        self.piece.pool.state.lock().held.insert(sequence, since);
        (memory, Hold { piece: Arc::clone(&self.piece), sequence })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        let mut state = self.pool.state.lock();
        if state.closed || mapping.length() != self.pool.piece {
            state.mapped = state.mapped.saturating_sub(mapping.length());
            drop(mapping);
        } else {
            state.free.push(mapping);
        }
        if let Some(waiter) = state.starving.take() {
            waiter.signals.more();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.piece.pool.state.lock().held.remove(&self.sequence);
    }
}
