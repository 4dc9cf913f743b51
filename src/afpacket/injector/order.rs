//! The order of slots: frames leave in the order in which their slots were reserved,
//! and nothing waits behind one that does not.
//!
//! Slots are counted by positions, which go around the slots' memory:
//!
//! ```text
//! tail <= sent <= requested <= fill <= frontier <= reserved <= tail + capacity
//! ```
//!
//! - `tail..sent`: the kernel has them and is not done yet
//! - `sent..requested`: given to the kernel, which has not taken them
//! - `requested..fill`: committed, ready to be given to it
//! - `frontier..reserved`: handed out; the first of them is not committed yet, and
//!   holds back those behind it that are
//!
//! A slot that is discarded, or whose frame the kernel refuses, leaves a hole, and
//! the kernel stops at holes (af_packet.c tpacket_snd takes slots strictly one by
//! one, and looks at a refused one again and again). So a frame behind a hole is
//! moved down to where the hole was: `fill` falls behind `frontier`. As soon as no
//! slot is handed out, the two meet again at `fill`. Until then a frame costs a copy
//! in a ring, and two pointers that change places with sendmmsg.

use super::slots::{Handed, Slots};
use crate::afpacket::record::rewrite::Vnet;
use crate::sys::socket::Socket;
use std::ptr::NonNull;

/// What became of a slot that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The caller has it.
    Open,
    /// It has a frame.
    Committed,
    /// It has none.
    Discarded,
}

/// What is known of the slot at a position.
#[derive(Debug, Clone, Copy)]
struct Note {
    phase: Phase,
    cookie: u64,
    len: u32,
    vnet: Vnet,
}

/// A slot that is handed out. Good until the order changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    cookie: u64,
    position: u64,
    /// Where it lies.
    index: u32,
}

/// A frame that waits for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) cookie: u64,
    pub(super) len: u32,
    pub(super) vnet: Vnet,
    /// Where it lies.
    index: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Order {
    slots: Slots,
    notes: Box<[Note]>,
    /// How many may be in use at once.
    capacity: u64,
    tail: u64,
    sent: u64,
    requested: u64,
    fill: u64,
    frontier: u64,
    reserved: u64,
    /// Where `tail` lies.
    tail_index: u32,
    next_cookie: u64,
    /// Committed frames behind an open slot.
    held_back: u64,
    /// Open slots.
    open: u64,
}

impl Order {
    /// All slots are free.
    pub(super) fn new(slots: Slots, capacity: u32) -> Self {
        let note = Note { phase: Phase::Discarded, cookie: 0, len: 0, vnet: Vnet::default() };
        Self {
            notes: vec![note; slots.count() as usize].into_boxed_slice(),
            capacity: slots.count().min(capacity).into(),
            slots,
            tail: 0,
            sent: 0,
            requested: 0,
            fill: 0,
            frontier: 0,
            reserved: 0,
            tail_index: 0,
            next_cookie: 1,
            held_back: 0,
            open: 0,
        }
    }

    /// Where a position lies. None is further from `tail` than there are slots.
    fn index(&self, position: u64) -> u32 {
        let index = u64::from(self.tail_index) + (position - self.tail);
        let count = self.notes.len() as u64;
        (if index >= count { index - count } else { index }) as u32
    }

    fn note(&self, position: u64) -> &Note {
        &self.notes[self.index(position) as usize]
    }

    /// Slots that can be handed out.
    pub(super) fn free(&self) -> u64 {
        self.capacity - (self.reserved - self.tail)
    }

    /// Slots handed out and not given back.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Committed frames that an open slot holds back.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }

    /// Committed frames that the kernel can be given.
    pub(super) fn ready(&self) -> u64 {
        self.fill - self.sent
    }

    /// Frames that the kernel has and is not done with.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.tail
    }

    /// Hands out up to `count` slots, the next in order: `each` gets the cookie and the
    /// memory of each. Returns how many.
    pub(super) fn reserve(&mut self, count: u64, mut each: impl FnMut(u64, NonNull<u8>)) -> u64 {
        let got = count.min(self.free());
        let mut index = self.index(self.reserved) as usize;
        let (notes, slots) = (&mut self.notes, &self.slots);
        for cookie in self.next_cookie..self.next_cookie + got {
            notes[index].phase = Phase::Open;
            each(cookie, slots.data(index as u32));
            index = if index + 1 == notes.len() { 0 } else { index + 1 };
        }
        self.reserved += got;
        self.next_cookie += got;
        self.open += got;
        got
    }

    /// The open slot with this cookie.
    pub(super) fn find(&self, cookie: u64) -> Option<Open> {
        // Slots handed out are those of the last cookies.
        let back = self.next_cookie.checked_sub(cookie)?;
        let position = self.reserved.checked_sub(back)?;
        if position < self.frontier || position >= self.reserved {
            return None;
        }
        let index = self.index(position);
        (self.notes[index as usize].phase == Phase::Open).then_some(Open {
            cookie,
            position,
            index,
        })
    }

    /// Its memory.
    pub(super) fn data(&self, open: Open) -> NonNull<u8> {
        self.slots.data(open.index)
    }

    /// Takes back an open slot with a frame in it, or (`len` 0) without.
    pub(super) fn commit(&mut self, open: Open, len: u32, vnet: Vnet) {
        let Open { cookie, position, index } = open;
        let phase = if len == 0 { Phase::Discarded } else { Phase::Committed };
        let note = &mut self.notes[index as usize];
        *note = Note { phase, cookie, len, vnet };
        self.open -= 1;
        if position != self.frontier {
            self.held_back += u64::from(len != 0);
            return;
        }
        if len == 0 || self.fill != self.frontier {
            self.held_back += u64::from(len != 0);
            return self.advance();
        }
        // In order and without holes, as nearly always: the frame is where the kernel
        // looks for it.
        self.slots.put(index, len, vnet);
        self.fill += 1;
        self.frontier += 1;
        let next = if index as usize + 1 == self.notes.len() { 0 } else { index as usize + 1 };
        if self.frontier < self.reserved && self.notes[next].phase != Phase::Open {
            self.advance();
        }
    }

    /// Moves the frontier to the next open slot, and the frames on the way to where
    /// the kernel looks for them.
    fn advance(&mut self) {
        while self.frontier < self.reserved {
            let note = *self.note(self.frontier);
            match note.phase {
                Phase::Open => break,
                Phase::Discarded => {}
                Phase::Committed => {
                    self.place(self.frontier, note);
                    self.held_back -= 1;
                }
            }
            self.frontier += 1;
        }
        self.meet();
    }

    /// Puts the frame at `from` where the next one goes.
    fn place(&mut self, from: u64, note: Note) {
        let to = self.index(self.fill);
        if self.fill != from {
            self.slots.relocate(self.index(from), to, note.len);
        }
        self.slots.put(to, note.len, note.vnet);
        self.notes[to as usize] = note;
        self.fill += 1;
    }

    /// With no slot handed out, those of the holes are free.
    fn meet(&mut self) {
        if self.frontier == self.reserved {
            self.frontier = self.fill;
            self.reserved = self.fill;
        }
    }

    /// The frames that the kernel can be given, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Frame> + '_ {
        (self.sent..self.fill).map(|position| {
            let index = self.index(position);
            let note = self.notes[index as usize];
            Frame { cookie: note.cookie, len: note.len, vnet: note.vnet, index }
        })
    }

    /// Whether a frame that waits has a VLAN tag inside.
    pub(super) fn is_tagged(&self, frame: &Frame) -> bool {
        self.slots.is_tagged(frame.index, frame.len)
    }

    /// Whether the frame of `len` bytes in an open slot has a VLAN tag inside.
    pub(super) fn is_open_tagged(&self, open: Open, len: u32) -> bool {
        self.slots.is_tagged(open.index, len)
    }

    /// Gives the kernel the next `count` frames, and calls `left` for each that it
    /// takes.
    pub(super) fn hand_over(
        &mut self,
        socket: &Socket,
        count: u64,
        mut left: impl FnMut(&Frame),
    ) -> Handed {
        let end = self.fill.min(self.sent + count).max(self.requested);
        for position in self.requested..end {
            self.slots.request(self.index(position));
        }
        self.requested = end;
        let count = (end - self.sent) as u32;
        let handed = self.slots.hand_over(socket, self.index(self.sent), count);
        self.waiting().take(handed.taken as usize).for_each(|frame| left(&frame));
        self.sent += u64::from(handed.taken);
        handed
    }

    /// Takes frames that wait out of the order: those for which `reason` has one.
    pub(super) fn refuse<R>(
        &mut self,
        mut reason: impl FnMut(&Self, &Frame) -> Option<R>,
        mut refused: impl FnMut(Frame, R),
    ) {
        let frames: Vec<Frame> = self.waiting().collect();
        let (requested, before) = (self.requested, self.fill);
        self.fill = self.sent;
        for (position, frame) in (self.sent..before).zip(frames) {
            match reason(self, &frame) {
                Some(reason) => refused(frame, reason),
                None => {
                    let note = *self.note(position);
                    self.place(position, note);
                }
            }
        }
        // As many as before are the kernel's to take, as far as there are any: those
        // were within the rate.
        self.requested = requested.min(self.fill);
        (self.sent..self.requested).for_each(|position| self.slots.request(self.index(position)));
        (self.requested..requested).for_each(|position| self.slots.withdraw(self.index(position)));
        self.meet();
    }

    /// Makes the slots free that the kernel is done with; how many.
    pub(super) fn reclaim(&mut self) -> u64 {
        let done = self.slots.done(self.tail_index, (self.sent - self.tail) as u32);
        self.tail_index = self.index(self.tail + u64::from(done));
        self.tail += u64::from(done);
        if self.tail == self.reserved && self.slots.are_anywhere() {
            // Memory that was used just now is still in the cache.
            self.tail_index = 0;
        }
        done.into()
    }
}
