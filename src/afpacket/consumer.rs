//! The reader's place in the ring: which blocks are ready, in order, and what
//! of the open block a flush has made readable.
//!
//! The kernel fills the ring's units (blocks, or frames) in order and hands them
//! over in order, so two counts say everything: units handed out, and units known
//! to be retired.

use crate::afpacket::loss::Evidence;
use crate::afpacket::record::{BlockMemory, Position};
use crate::afpacket::ring::Ring;
use crate::block;
use crate::sys::packet::status;
use std::sync::Arc;

/// A block, or a part of one, taken out of the ring.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Which unit of the ring, or the first of them.
    pub index: u32,
    /// How many: 1 block, or frames.
    pub units: u32,
    /// Its memory.
    pub memory: BlockMemory,
    /// The records to hand out.
    pub records: Position,
    /// The kernel's sequence number; of frames the number of the first, from 1.
    pub sequence: u64,
    /// Time of the last record; 0: ask the records.
    pub last_ns: u64,
    /// `block::LOSING` and so on.
    pub flags: u32,
    /// How many sequence numbers are missing before this block.
    pub gap: Option<Gap>,
}

/// Sequence numbers that did not follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The number that should have come.
    pub expected: u64,
    /// The number that came.
    pub got: u64,
}

/// A part of a block the kernel has not closed.
#[derive(Debug, Clone, Copy)]
struct Part {
    sequence: u64,
    /// Records.
    count: u32,
    /// Offset behind the last of them.
    end: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    taken: u64,
    retired: u64,
    /// The next block's sequence number; the kernel starts at 1.
    expected: u64,
    /// What of the open block has been handed out.
    part: Option<Part>,
    /// Records of the open block that are complete: sequence and count.
    complete: Option<(u64, u32)>,
    /// The last block that is taken whole; of the next one only what is `complete`.
    last: Option<u64>,
}

impl Consumer {
    /// At the beginning of a new ring.
    pub fn new(ring: Arc<Ring>) -> Self {
        Self { ring, taken: 0, retired: 0, expected: 1, part: None, complete: None, last: None }
    }

    fn index(&self, number: u64) -> u32 {
        (number % u64::from(self.ring.units())) as u32
    }

    /// Looks for newly retired units; returns how many are ready.
    pub fn ready(&mut self) -> u64 {
        while self.retired - self.taken < u64::from(self.ring.units())
            && self.ring.is_ready(self.index(self.retired))
        {
            self.retired += 1;
        }
        self.retired - self.taken
    }

    /// Whether [`take`](Self::take) would give something.
    pub fn has_something(&mut self) -> bool {
        self.ready() > 0 || self.open_part().is_some()
    }

    /// Why the kernel has no unit to fill, or next to none; `None`: it has.
    pub fn full(&mut self) -> Option<Evidence> {
        let behind = self.ready();
        let units = u64::from(self.ring.units());
        // It fills them in order and waits for just this one, whatever else is
        // free. Where it is given back, the block may not be opened again yet.
        let held =
            if behind < units { self.ring.in_the_way(self.index(self.retired)) } else { None };
        (held.is_some() || behind > 0 && behind + 1 >= units).then_some(Evidence { behind, held })
    }

    /// Takes the next block, or what is ready of the open one; of frames those that
    /// are ready, at most `frames` of them.
    pub fn take(&mut self, frames: u64) -> Option<Taken> {
        if self.ring.has_frames() {
            return self.take_frames(frames);
        }
        while self.ready() > 0 && self.last.is_none_or(|last| self.expected <= last) {
            let index = self.index(self.taken);
            let memory = self.ring.unit(index);
            let header = memory.header();
            let gap = (header.sequence != self.expected)
                .then_some(Gap { expected: self.expected, got: header.sequence });
            let part = self.part.take().filter(|part| part.sequence == header.sequence);
            self.taken += 1;
            self.expected = header.sequence.wrapping_add(1);
            let records = match part {
                None => Position { offset: header.first, left: header.count },
                Some(part) => {
                    Position { offset: part.end, left: header.count.saturating_sub(part.count) }
                }
            };
            if part.is_some() && records.left == 0 {
                self.ring.finish(index, header.sequence);
                continue;
            }
            self.ring.hold(index, header.sequence, true);
            return Some(Taken {
                index,
                units: 1,
                memory,
                records,
                sequence: header.sequence,
                last_ns: header.last_ns,
                flags: memory.status() & (block::LOSING | block::TIMEOUT),
                gap,
            });
        }
        let (records, sequence) = self.open_part()?;
        let index = self.index(self.taken);
        let memory = self.ring.unit(index);
        self.ring.hold(index, sequence, false);
        Some(Taken {
            index,
            units: 1,
            memory,
            records,
            sequence,
            last_ns: 0,
            flags: block::PARTIAL,
            gap: None,
        })
    }

    fn take_frames(&mut self, most: u64) -> Option<Taken> {
        let end = self.last.map_or(u64::MAX, |last| (last + 1).saturating_sub(self.expected));
        let count = self.ready().min(most).min(end);
        let (index, sequence) = (self.index(self.taken), self.expected);
        let (memory, units, losing) = match count {
            0 => return None,
            _ => self.ring.hold_run(index, sequence, count)?,
        };
        self.taken += u64::from(units);
        self.expected = sequence.wrapping_add(units.into());
        Some(Taken {
            index,
            units,
            memory,
            records: Position { offset: 0, left: units },
            sequence,
            last_ns: 0,
            flags: if losing { block::LOSING } else { 0 },
            gap: None,
        })
    }

    /// Notes where a part taken of the open block ended.
    pub fn part_taken(&mut self, taken: &Taken, end: Position) {
        let before = self.part.map_or(0, |part| part.count);
        self.part = Some(Part {
            sequence: taken.sequence,
            count: before + taken.records.left,
            end: end.offset,
        });
    }

    /// The complete records of the open block that were not handed out yet.
    /// Only where no retired block comes before it.
    fn open_part(&self) -> Option<(Position, u64)> {
        let (sequence, count) = self.complete?;
        let header = self.ring.unit(self.index(self.taken)).header();
        let is_next = self.retired == self.taken || self.last.is_some();
        if !is_next || sequence != self.expected || header.sequence != sequence {
            return None;
        }
        let part = self.part.filter(|part| part.sequence == sequence);
        let (offset, done) = part.map_or((header.first, 0), |part| (part.end, part.count));
        let left = count.saturating_sub(done);
        (left > 0).then_some((Position { offset, left }, sequence))
    }

    /// The sequence number of the unit the kernel is filling, or will fill next.
    pub fn open_sequence(&mut self) -> u64 {
        let ahead = self.ready();
        self.expected.wrapping_add(ahead)
    }

    /// The socket has been drained: what the open block holds now is complete,
    /// and [`take`](Self::take) may give it. The kernel writes num_pkts before
    /// the record, and only a drained hook says that the record is there too
    /// (af_packet.c prb_fill_curr_block, synchronize_net).
    pub fn open_block_is_complete(&mut self) {
        self.complete = self.filling();
    }

    /// As [`open_block_is_complete`](Self::open_block_is_complete), of what
    /// [`open_block`](Self::open_block) gave before the wait.
    pub fn is_complete(&mut self, block: Option<(u64, u32)>) {
        self.complete = block;
    }

    /// The same, where more comes into the ring that is not to be taken.
    pub fn ends_with(&mut self, block: Option<(u64, u32)>) {
        self.complete = block;
        let retired = self.open_sequence().wrapping_sub(1);
        self.last = Some(block.map_or(retired, |(sequence, _)| sequence.wrapping_sub(1)));
    }

    /// Sequence number and record count of the block the kernel is filling.
    /// `None` while it fills none: the ring is full.
    pub fn open_block(&mut self) -> Option<(u64, u32)> {
        loop {
            let ready = self.ready();
            let open = self.filling();
            // One that was retired between the two looks is not the open one.
            if open.is_some() || self.ready() == ready {
                return open;
            }
        }
    }

    fn filling(&mut self) -> Option<(u64, u32)> {
        if self.ring.has_frames() {
            // A frame is complete, or not there.
            return None;
        }
        let sequence = self.open_sequence();
        let memory = self.ring.unit(self.index(self.retired));
        if memory.status() & status::USER != 0 {
            return None;
        }
        let header = memory.header();
        // A block given back and not opened again still carries its old number.
        (header.sequence == sequence).then_some((sequence, header.count))
    }

    /// The next unit's sequence number.
    pub fn next_sequence(&self) -> u64 {
        self.expected
    }

    /// Records in the ring that were not handed out, counted from the headers.
    pub fn pending(&mut self) -> u64 {
        let ready = self.ready();
        if self.ring.has_frames() {
            return ready;
        }
        let part = self.part;
        let left = |sequence: u64, count: u32| {
            let done = part.filter(|part| part.sequence == sequence).map_or(0, |part| part.count);
            u64::from(count.saturating_sub(done))
        };
        let mut pending = 0;
        for number in self.taken..self.taken + ready {
            let header = self.ring.unit(self.index(number)).header();
            pending += left(header.sequence, header.count);
        }
        if let Some((sequence, count)) = self.filling() {
            pending += left(sequence, count);
        }
        pending
    }
}
