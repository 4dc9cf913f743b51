//! One pass over the receive ring: each descriptor is checked, and becomes a packet of the
//! block's array.

use super::front;
use super::joined::Joined;
use super::receive::{Kernel, Origin};
use super::umem::{Finder, Found, Frames};
use crate::block::Segments;
use crate::packet::{
    NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_TAKEN, NETRING_LINKTYPE_ETHERNET,
    NETRING_PACKET_RXHASH, NETRING_PACKET_VLAN, NETRING_PACKET_VLAN_TPID, Packet,
};
use crate::sys::xdp::{CONTINUED, Descriptor};
use std::sync::atomic::AtomicU32;

/// Most pieces of a packet: as many a packet can tell of (the kernel: MAX_SKB_FRAGS, 17,
/// and one).
const MOST_PIECES: u32 = 256;

/// A piece of a packet, in a frame that was the kernel's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    frame: u32,
    pub(super) data: *mut u8,
    pub(super) length: u32,
    /// Bytes of the frame before `data`.
    pub(super) inside: u32,
}

/// See the module.
pub(super) struct Pass<'a> {
    frames: &'a Frames,
    finder: Finder,
    origin: Origin,
    /// What packets have in common.
    template: Packet,
    pub(super) packets: Vec<Packet>,
    /// The frames of the packets, in their order.
    pub(super) taken: Vec<AtomicU32>,
    /// Where the frames of each packet begin, once one has several.
    pub(super) starts: Option<Vec<u32>>,
    pub(super) segments: Segments,
    pub(super) joined: Vec<Joined>,
    /// Descriptors that named no frame of ours.
    pub(super) strange: u64,
}

impl<'a> Pass<'a> {
    /// Over about so many packets.
    pub(super) fn new(frames: &'a Frames, origin: Origin, packets: u32, time_ns: u64) -> Self {
        let template = Packet {
            time_ns,
            ifindex: origin.ifindex,
            link_type: NETRING_LINKTYPE_ETHERNET,
            clock: NETRING_CLOCK_TAKEN,
            queue: origin.queue,
            ..Packet::ZERO
        };
        Self {
            frames,
            finder: frames.finder(),
            origin,
            template,
            packets: Vec::with_capacity(packets as usize),
            taken: Vec::with_capacity(packets as usize),
            starts: None,
            segments: Segments::new(),
            joined: Vec::new(),
            strange: 0,
        }
    }

    /// Goes over up to `available` descriptors and up to `most` packets; how many
    /// descriptors it is done with.
    pub(super) fn run(&mut self, kernel: &mut Kernel, available: u32, most: u32) -> u32 {
        let mut at = 0;
        while at < available && (self.packets.len() as u32) < most {
            let descriptor = kernel.ring.peek(at);
            if descriptor.options & CONTINUED == 0 {
                at += 1;
                match self.piece(kernel, descriptor) {
                    Some(piece) => self.add(piece),
                    None => self.strange += 1,
                }
                continue;
            }
            match self.join(kernel, at, available) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Checks a descriptor: a packet in a frame of ours, which the kernel had.
    #[inline]
    fn piece(&self, kernel: &mut Kernel, descriptor: Descriptor) -> Option<Piece> {
        let found = self.finder.at(descriptor.address)?;
        if !kernel.take(found.place) {
            return None;
        }
        if descriptor.length > found.room {
            kernel.give(self.frames, found.frame);
            return None;
        }
        let Found { frame, data, inside, .. } = found;
        Some(Piece { frame, data, length: descriptor.length, inside })
    }

    #[inline]
    fn add(&mut self, piece: Piece) {
        if let Some(starts) = &mut self.starts {
            starts.push(self.taken.len() as u32);
        }
        self.taken.push(AtomicU32::new(piece.frame));
        self.push(piece, piece.data, piece.length, piece.length);
    }

    /// The next packet. What is known of it besides its bytes is in front of the first
    /// piece.
    #[inline]
    fn push(&mut self, first: Piece, data: *mut u8, caplen: u32, len: u32) {
        let cookie = self.packets.len() as u64;
        self.packets.push(self.template);
        let Some(packet) = self.packets.last_mut() else { return };
        (packet.data, packet.caplen, packet.len) = (data, caplen, len);
        packet.cookie = cookie;
        if self.origin.metadata {
            tell(packet, first);
        }
    }

    /// Makes one packet of the descriptors from `first` on, which says that it goes on in the
    /// next one; the number of the descriptor behind it. `None`: it is not all there.
    #[cold]
    fn join(&mut self, kernel: &mut Kernel, first: u32, available: u32) -> Option<u32> {
        let wanted = available.saturating_add(MOST_PIECES);
        let available = kernel.ring.available(wanted);
        let end = (first..available.min(first.saturating_add(MOST_PIECES)))
            .find(|next| kernel.ring.peek(*next).options & CONTINUED == 0);
        let Some(last) = end else {
            if available - first < MOST_PIECES {
                return None;
            }
            // No kernel makes such a packet.
            (first..first + MOST_PIECES).for_each(|one| self.drop_one(kernel, one));
            return Some(first + MOST_PIECES);
        };
        self.join_all(kernel, first, last);
        Some(last + 1)
    }

    fn drop_one(&mut self, kernel: &mut Kernel, at: u32) {
        let descriptor = kernel.ring.peek(at);
        if let Some(piece) = self.piece(kernel, descriptor) {
            kernel.give(self.frames, piece.frame);
        }
        self.strange += 1;
    }

    fn join_all(&mut self, kernel: &mut Kernel, first: u32, last: u32) {
        let pieces: Vec<Option<Piece>> = (first..=last)
            .map(|at| {
                let descriptor = kernel.ring.peek(at);
                self.piece(kernel, descriptor)
            })
            .collect();
        let whole: Option<Vec<Piece>> = pieces.iter().copied().collect();
        let Some(whole) = whole else {
            // One without all of its pieces is none.
            pieces.iter().flatten().for_each(|piece| kernel.give(self.frames, piece.frame));
            self.strange += 1;
            return;
        };
        let number = self.packets.len() as u32;
        let starts = self.starts.get_or_insert_with(|| (0..number).collect());
        starts.push(self.taken.len() as u32);
        self.taken.extend(whole.iter().map(|piece| AtomicU32::new(piece.frame)));
        let len = whole.iter().fold(0_u32, |sum, piece| sum.saturating_add(piece.length));
        if self.origin.linear {
            let joined = Joined::new(&whole);
            self.push(whole[0], joined.data(), len, len);
            self.joined.push(joined);
        } else {
            self.push(whole[0], whole[0].data, whole[0].length, len);
            for piece in &whole[1..] {
                self.segments.push(number, piece.data, piece.length);
            }
        }
    }
}

/// Adds what the program has written in front of the packet's first piece.
fn tell(packet: &mut Packet, first: Piece) {
    let Some(told) = front::told(first) else { return };
    if let Some(time_ns) = told.time {
        (packet.time_ns, packet.clock) = (time_ns, NETRING_CLOCK_RAW_HARDWARE);
    }
    if let Some(hash) = told.hash {
        packet.rxhash = hash;
        packet.status |= NETRING_PACKET_RXHASH;
    }
    if let Some((tpid, tci)) = told.tag {
        (packet.vlan_tpid, packet.vlan_tci) = (tpid, tci);
        packet.status |= NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID;
    }
}
