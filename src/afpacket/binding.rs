//! Which interface a block's packets came through. A capture can be bound to
//! another interface while blocks of the one before are still in the ring.

use std::collections::VecDeque;

/// An interface a capture is or was bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Its index; 0: any, each record says.
    pub ifindex: u32,
    /// The link type of its packets; `None`: each record says.
    pub link_type: Option<u16>,
}

impl Binding {
    /// Packets of several interfaces.
    const MIXED: Self = Self { ifindex: 0, link_type: None };
}

/// An earlier binding: of the blocks before `mixed_from`. Those from there up
/// to `mixed_to` may hold packets of the next one as well.
#[derive(Debug)]
struct Earlier {
    binding: Binding,
    mixed_from: u64,
    mixed_to: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Bindings {
    now: Binding,
    earlier: VecDeque<Earlier>,
}

impl Bindings {
    /// The first binding.
    pub fn new(now: Binding) -> Self {
        Self { now, earlier: VecDeque::new() }
    }

    /// The present one.
    pub fn now(&self) -> Binding {
        self.now
    }

    /// The link types of the packets in blocks from this one on, the present one
    /// first; empty: each record says.
    pub fn link_types(&mut self, sequence: u64) -> Vec<u16> {
        self.of(sequence);
        let Some(now) = self.now.link_type else { return Vec::new() };
        let mut all = vec![now];
        for link_type in self.earlier.iter().filter_map(|earlier| earlier.binding.link_type) {
            if !all.contains(&link_type) {
                all.push(link_type);
            }
        }
        all
    }

    /// Bound anew while the blocks with these sequence numbers were open.
    pub fn change(&mut self, to: Binding, mixed_from: u64, mixed_to: u64) {
        let binding = std::mem::replace(&mut self.now, to);
        self.earlier.push_back(Earlier { binding, mixed_from, mixed_to });
    }

    /// Where the block with this number came from. Blocks are asked for in
    /// order, so that what is past is forgotten.
    pub fn of(&mut self, sequence: u64) -> Binding {
        while self.earlier.front().is_some_and(|earlier| earlier.mixed_to < sequence) {
            self.earlier.pop_front();
        }
        match self.earlier.front() {
            None => self.now,
            Some(earlier) if sequence < earlier.mixed_from => earlier.binding,
            Some(_) => Binding::MIXED,
        }
    }

    /// How many units from this one on have the same answer.
    pub fn same_from(&mut self, sequence: u64) -> u64 {
        self.of(sequence);
        match self.earlier.front() {
            None => u64::MAX,
            Some(earlier) if sequence < earlier.mixed_from => earlier.mixed_from - sequence,
            Some(earlier) => earlier.mixed_to - sequence + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_interface() {
        let [one, two, three] =
            [1, 2, 3].map(|ifindex| Binding { ifindex, link_type: Some(ifindex as u16) });
        let mut bindings = Bindings::new(one);
        assert_eq!((bindings.of(1), bindings.same_from(1)), (one, u64::MAX));
        bindings.change(two, 5, 5);
        bindings.change(three, 8, 9);
        let seen: Vec<(u32, u64)> = (2..=11)
            .map(|sequence| (bindings.of(sequence).ifindex, bindings.same_from(sequence)))
            .collect();
        let end = u64::MAX;
        assert_eq!(
            seen,
            [(1, 3), (1, 2), (1, 1), (0, 1), (2, 2), (2, 1), (0, 2), (0, 1), (3, end), (3, end)]
        );
        assert!(bindings.earlier.is_empty());
        assert_eq!(bindings.now(), three);
    }
}
