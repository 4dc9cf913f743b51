//! Filters that were attached while packets were in the ring. Those packets
//! passed an older filter, and are judged by the newer one before their block is
//! handed out.
//!
//! Blocks are told apart by their sequence numbers: a packet that the older
//! filter let in lies in the block that was open when no CPU was left inside it,
//! or before.

use super::selection::Selection;
use crate::filter::PacketView;
use std::collections::VecDeque;

/// A filter that judges packets of blocks up to one.
#[derive(Debug, Clone)]
struct Judge {
    up_to: u64,
    selection: Selection,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// At most this many bytes of it are kept; 0: it is rejected.
    Keep(u32),
    /// Nobody knows: it stays as it is.
    Unknown,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Late {
    /// What is attached.
    now: Selection,
    block_size: u32,
    /// Newest first; each ends before those in front of it.
    judges: VecDeque<Judge>,
    /// The block that is treated, and how much further each record is.
    sequence: u64,
    step: u64,
    /// Blocks up to this one may have packets of a filter before `now`,
    old_up_to: u64,
    /// which kept at least so much of each,
    old_kept: u32,
    /// or cut some.
    old_may_cut: bool,
}

impl Late {
    /// The filter that a capture begins with.
    pub fn new(now: Selection, block_size: u32) -> Self {
        Self { now, block_size, ..Self::default() }
    }

    /// What is attached.
    pub fn now(&self) -> &Selection {
        &self.now
    }

    /// The same filter was attached for packets of other link types too.
    pub fn same_for_more(&mut self, now: Selection) {
        self.now = now;
    }

    /// Goes on with a filter that was just attached, while the block `open` was
    /// the open one, and `next` the next to be handed out. Until
    /// [`settle`](Self::settle) says which was the last one with older packets,
    /// every block may have some.
    ///
    /// Returns whether everything in the ring will be as the new filter wants it.
    pub fn change(&mut self, to: Selection, next: u64, open: u64) -> bool {
        let mut kept = self.now.least_kept();
        // What fits a block, about: its end cuts the packets of any filter.
        let room = self.block_size.saturating_sub(256);
        if next <= self.old_up_to {
            kept = kept.min(self.old_kept);
            self.old_may_cut |= self.now.may_cut(self.block_size);
        } else {
            self.old_may_cut = self.now.may_cut(self.block_size);
        }
        self.now = to;
        (self.old_up_to, self.old_kept) = (u64::MAX, kept);
        // From the open block on they might judge the new filter's packets.
        let closed = open.saturating_sub(1);
        self.judges.iter_mut().for_each(|judge| judge.up_to = judge.up_to.min(closed));
        self.judges.retain(|judge| judge.up_to >= next);
        let sure = match self.now.program() {
            Some(program) => {
                let needs = program.needs();
                let sure = needs.known && needs.bytes <= kept.min(room);
                let selection = self.now.clone();
                self.judges.push_front(Judge { up_to: u64::MAX, selection });
                sure
            }
            None if self.now.is_some() => false,
            None => {
                self.judges.clear();
                true
            }
        };
        // Bytes that were cut off do not come back.
        sure && self.now.most_kept().min(room) <= kept
    }

    /// No CPU is inside an older filter any more: older packets are in blocks up
    /// to this one, if in any.
    pub fn settle(&mut self, last: u64) {
        self.old_up_to = last;
        if let Some(newest) = self.judges.front_mut().filter(|judge| judge.up_to == u64::MAX) {
            newest.up_to = last;
        }
    }

    /// Blocks are handed out in order: what only earlier ones needed is over.
    /// Returns whether packets of this block may have been cut.
    pub fn turn_to(&mut self, sequence: u64, step: u64) -> bool {
        (self.sequence, self.step) = (sequence, step);
        while self.judges.back().is_some_and(|judge| judge.up_to < sequence) {
            self.judges.pop_back();
        }
        self.now.may_cut(self.block_size) || sequence <= self.old_up_to && self.old_may_cut
    }

    /// Whether packets of the block that was turned to are judged.
    pub fn judges(&self) -> bool {
        !self.judges.is_empty()
    }

    /// What becomes of record `number` of the block, from 0. The newest filter that
    /// knows decides; `link_type` is that of the packet.
    pub fn verdict(&self, packet: &PacketView<'_>, link_type: u16, number: u32) -> Verdict {
        let sequence = self.sequence.wrapping_add(self.step.wrapping_mul(number.into()));
        for judge in self.judges.iter().filter(|judge| sequence <= judge.up_to) {
            if judge.selection.outside(link_type).is_some() {
                continue;
            }
            if let Some(Ok(keep)) = judge.selection.program().map(|p| p.verdict(packet)) {
                return Verdict::Keep(keep);
            }
        }
        Verdict::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::super::selection::Terms;
    use super::*;
    use crate::filter::{Instruction, Program};

    /// Packets whose first byte has the bit; `unknown`: after a look at the CPU.
    fn filter(bit: u32, keep: u32, unknown: bool) -> Selection {
        let mut code = vec![
            Instruction::new(0x30, 0, 0, 0),
            Instruction::new(0x45, 0, 1, bit),
            Instruction::new(0x06, 0, 0, keep),
            Instruction::new(0x06, 0, 0, 0),
        ];
        if unknown {
            code.insert(0, Instruction::new(0x20, 0, 0, 0xffff_f024));
        }
        let program = Program::new(&code).unwrap().into();
        Selection::new(Some(&program), &Terms::default(), || Ok(vec![1])).unwrap()
    }

    const ALL: u32 = 1 << 20;

    fn judged(late: &mut Late, sequence: u64, first: u8) -> Verdict {
        late.turn_to(sequence, 0);
        late.verdict(&PacketView::new(&[first; 60]), 1, 0)
    }

    #[test]
    fn blocks_up_to_the_boundary_are_judged() {
        let mut late = Late::new(Selection::default(), 1 << 20);
        assert!(late.change(filter(1, ALL, false), 3, 7));
        // Not settled: any block.
        assert_eq!(judged(&mut late, 3, 2), Verdict::Keep(0));
        late.settle(7);
        assert_eq!(judged(&mut late, 4, 1), Verdict::Keep(ALL));
        assert_eq!(judged(&mut late, 7, 2), Verdict::Keep(0));
        assert_eq!(judged(&mut late, 8, 2), Verdict::Unknown);
        assert!(!late.judges());
    }

    #[test]
    fn the_newest_that_knows_decides() {
        let mut late = Late::new(Selection::default(), 1 << 20);
        assert!(late.change(filter(1, ALL, false), 1, 4));
        late.settle(4);
        assert!(late.change(filter(2, ALL, false), 1, 6));
        late.settle(6);
        for sequence in 1..=6 {
            assert_eq!(judged(&mut late, sequence, 1), Verdict::Keep(0));
            assert_eq!(judged(&mut late, sequence, 2), Verdict::Keep(ALL));
        }
        // None: everything that came.
        assert!(late.change(Selection::default(), 3, 6));
        assert!(!late.judges());
    }

    #[test]
    fn an_older_one_never_judges_packets_of_a_newer_one() {
        let mut late = Late::new(Selection::default(), 1 << 20);
        assert!(late.change(filter(1, ALL, false), 1, 5));
        late.settle(5);
        // Block 5 is still open, and gets packets that only the new one lets in.
        assert!(!late.change(filter(2, ALL, true), 1, 5));
        late.settle(5);
        assert_eq!(judged(&mut late, 4, 2), Verdict::Keep(0));
        assert_eq!(judged(&mut late, 5, 2), Verdict::Unknown);
        // The same of frames that are handed out together.
        let mut late = Late::new(Selection::default(), 1 << 11);
        assert!(late.change(filter(1, ALL, false), 1, 5));
        late.settle(5);
        late.turn_to(4, 1);
        let packet = PacketView::new(&[2; 60]);
        let verdicts = [0, 1, 2].map(|number| late.verdict(&packet, 1, number));
        assert_eq!(verdicts, [Verdict::Keep(0), Verdict::Keep(0), Verdict::Unknown]);
    }

    #[test]
    fn what_was_cut_stays_cut() {
        let mut late = Late::new(filter(1, 96, false), 1 << 20);
        assert!(late.turn_to(1, 0));
        assert!(late.clone().change(filter(2, 60, false), 1, 4));
        assert!(!late.clone().change(filter(2, ALL, false), 1, 4));
        assert!(!late.clone().change(Selection::default(), 1, 4));
        // As long as such packets may be in the ring, whatever came between.
        late.change(filter(1, ALL, false), 1, 4);
        late.settle(4);
        assert!(late.turn_to(4, 0));
        assert!(!late.clone().change(filter(2, ALL, false), 4, 6));
        assert!(!late.turn_to(5, 0));
        assert!(late.change(filter(2, ALL, false), 5, 6));
        // What does not fit a block is cut by that, with any filter.
        let mut small = Late::new(Selection::default(), 1 << 12);
        assert!(small.change(filter(2, ALL, false), 1, 4));
    }
}
