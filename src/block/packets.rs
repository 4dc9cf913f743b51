//! Blocks that are an array of packets: AF_XDP. The descriptors have been checked,
//! and the array is the library's own memory, so a walk has nothing left to check.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::afpacket::record::Position;
use crate::packet::{NETRING_LINKTYPE_ETHERNET, NETRING_PACKET_SEGMENTED, Packet};
use crate::sys::file::Bytes;

/// Bytes from packet to packet.
pub const STRIDE: u32 = 64;

const _: () = assert!(size_of::<Packet>() == STRIDE as usize);

/// A further piece of a packet.
#[derive(Debug, Clone, Copy)]
struct Further {
    packet: u32,
    length: u32,
    data: *mut u8,
}

/// The further pieces of packets that lie in several frames. Of most blocks it is
/// empty, and takes no memory then.
#[derive(Debug, Default)]
pub struct Segments(Vec<Further>);

impl Segments {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the next piece of that packet, which is the one added to last or a
    /// later one. The first piece is the packet's own `data` and `caplen`.
    pub fn push(&mut self, packet: u32, data: *mut u8, length: u32) {
        debug_assert!(self.0.last().is_none_or(|last| last.packet <= packet));
        self.0.push(Further { packet, length, data });
    }

    fn of(&self, packet: u32) -> &[Further] {
        let first = self.0.partition_point(|piece| piece.packet < packet);
        let behind = self.0.get(first..).unwrap_or_default();
        let count = behind.partition_point(|piece| piece.packet == packet);
        behind.get(..count).unwrap_or_default()
    }
}

/// The packets of a block, and what of them lies elsewhere.
#[derive(Debug)]
pub struct Packets {
    array: Vec<Packet>,
    segments: Segments,
}

// SAFETY: whoever made it promised that what the packets point to stays as long as the
// block is used, on whatever thread; references into it are never made.
unsafe impl Send for Packets {}
// SAFETY: as above; the array is not changed.
unsafe impl Sync for Packets {}

impl Packets {
    /// These packets, the cookie of each its number. `segments` and its bit in `status`
    /// are set here.
    ///
    /// # Safety
    /// As [`Block::of_packets`](super::Block::of_packets).
    pub unsafe fn new(mut array: Vec<Packet>, segments: Segments) -> Self {
        debug_assert!(array.iter().zip(0..).all(|(packet, number)| packet.cookie == number));
        for piece in &segments.0 {
            if let Some(packet) = array.get_mut(piece.packet as usize) {
                packet.segments = packet.segments.saturating_add(1);
                packet.status |= NETRING_PACKET_SEGMENTED;
            }
        }
        Self { array, segments }
    }

    /// All of them.
    pub fn all(&self) -> &[Packet] {
        &self.array
    }

    /// How many.
    pub fn count(&self) -> u32 {
        // A block has 4096 at most.
        u32::try_from(self.array.len()).unwrap_or(u32::MAX)
    }

    /// The next packets of a walk, at most `room`.
    fn next(&self, position: &mut Position, room: usize) -> &[Packet] {
        let from = (position.offset / STRIDE) as usize;
        let left = self.array.get(from..).unwrap_or_default();
        let next = left.get(..room).unwrap_or(left);
        // Not more than the count.
        #[allow(clippy::cast_possible_truncation)]
        let count = next.len() as u32;
        position.offset = position.offset.wrapping_add(count.wrapping_mul(STRIDE));
        position.left = position.left.saturating_sub(count);
        next
    }

    /// Fills up to `room` packets at `out`, `stride` bytes apart; returns how many.
    ///
    /// # Safety
    /// `out` has room for `room` elements of `stride` bytes; `stride` is at least the
    /// size of a [`Packet`] and a multiple of 8.
    #[inline(never)]
    pub unsafe fn read(
        &self,
        position: &mut Position,
        out: *mut Packet,
        stride: usize,
        room: usize,
    ) -> usize {
        let next = self.next(position, room);
        if stride == size_of::<Packet>() {
            // SAFETY: room for as many, and the array of a caller is not ours.
            unsafe { std::ptr::copy_nonoverlapping(next.as_ptr(), out, next.len()) };
            return next.len();
        }
        let mut at = out;
        for packet in next {
            // SAFETY: `at` is the next element of the caller's array.
            unsafe { at.write(*packet) };
            // SAFETY: at most one past the last element.
            at = unsafe { at.byte_add(stride) };
        }
        next.len()
    }

    /// The packet a cookie names, and its number.
    pub fn named(&self, cookie: u64) -> Option<(u32, &Packet)> {
        let index = u32::try_from(cookie).ok()?;
        Some((index, self.array.get(index as usize)?))
    }

    /// The bytes of a packet that may have been cut by its reader, at either end:
    /// what is left of its first piece and, unless the bit in its status is gone, the
    /// pieces behind that. None where it is not, or not all, in this block.
    pub fn bytes(&self, packet: &Packet) -> Pieces<'_> {
        self.own_bytes(packet).unwrap_or(Pieces::NONE)
    }

    fn own_bytes(&self, packet: &Packet) -> Option<Pieces<'_>> {
        let (index, own) = self.named(packet.cookie)?;
        let caplen = packet.caplen;
        let offset = u32::try_from(packet.data.addr().checked_sub(own.data.addr())?).ok()?;
        let behind = own.caplen.checked_sub(offset)?.checked_sub(caplen)?;
        // SAFETY: inside the packet, which is there until the last release.
        let first = unsafe { Bytes::new(packet.data, caplen as usize) };
        let further = match packet.status & NETRING_PACKET_SEGMENTED {
            0 => &[][..],
            // Without its middle a packet is none.
            _ if behind != 0 => return None,
            _ => self.segments.of(index),
        };
        Some(Pieces { first, further })
    }

    /// All pieces of the packet with this cookie.
    pub fn pieces(&self, cookie: u64) -> Option<impl Iterator<Item = (*mut u8, u32)> + '_> {
        let (index, packet) = self.named(cookie)?;
        let further = self.segments.of(index).iter().map(|piece| (piece.data, piece.length));
        Some(std::iter::once((packet.data, packet.caplen)).chain(further))
    }

    /// The link-layer source address of the packet with this cookie: what the kernel
    /// takes it for on packet sockets, too.
    pub fn address(&self, cookie: u64) -> Option<([u8; 8], usize)> {
        let (_, packet) = self.named(cookie)?;
        let mut address = [0; 8];
        if packet.link_type != NETRING_LINKTYPE_ETHERNET || packet.caplen < 12 {
            return Some((address, 0));
        }
        // SAFETY: as in `bytes`.
        let bytes = unsafe { Bytes::new(packet.data, packet.caplen as usize) };
        let (source, _) = address.split_at_mut(6);
        bytes.behind(6).copy_to(source);
        Some((address, 6))
    }
}

/// The bytes of a packet: in one piece, but for those of AF_XDP that lie in several
/// frames.
#[derive(Debug, Clone, Copy)]
pub struct Pieces<'a> {
    first: Bytes<'a>,
    further: &'a [Further],
}

impl<'a> Pieces<'a> {
    const NONE: Self = Self { first: Bytes::NONE, further: &[] };

    /// A packet in one piece.
    pub fn one(bytes: Bytes<'a>) -> Self {
        Self { first: bytes, further: &[] }
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Bytes<'a>> {
        let further = self.further.iter().map(|piece| {
            // SAFETY: there until the last release, by the promise at the beginning.
            unsafe { Bytes::new(piece.data, piece.length as usize) }
        });
        std::iter::once(self.first).chain(further)
    }

    /// Bytes of all pieces.
    pub fn length(self) -> usize {
        self.iter().fold(0, |length, piece| length.saturating_add(piece.length()))
    }

    /// `length` bytes behind the first `skipped`, or as many as there are.
    pub fn part(self, skipped: usize, length: usize) -> impl Iterator<Item = Bytes<'a>> {
        let mut skip = skipped;
        let mut left = length;
        self.iter().map_while(move |piece| {
            let rest = piece.behind(skip);
            skip = skip.saturating_sub(piece.length());
            let taken = rest.first(left);
            let more = left != 0;
            left = left.saturating_sub(taken.length());
            more.then_some(taken)
        })
    }

    /// Copies the bytes behind the first `skipped`, as many as `to` has room for.
    pub fn copy_to(self, skipped: usize, mut to: &mut [u8]) {
        for piece in self.part(skipped, to.len()) {
            piece.copy_to(to);
            to = to.split_at_mut_checked(piece.length()).map_or(&mut [], |(_, rest)| rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::NETRING_PACKET_TRUNCATED;

    fn packet(cookie: u64, bytes: &mut [u8]) -> Packet {
        let caplen = bytes.len() as u32;
        let data = bytes.as_mut_ptr();
        Packet { data, caplen, len: caplen, link_type: 1, cookie, ..Packet::ZERO }
    }

    fn copied(pieces: Pieces<'_>, skipped: usize, room: usize) -> Vec<u8> {
        let mut out = vec![0xee; room];
        pieces.copy_to(skipped, &mut out);
        out
    }

    /// Three packets of 20 bytes; the middle one has two more pieces, of 5 and 3.
    fn some(memory: &mut [u8; 68]) -> Packets {
        for (at, byte) in memory.iter_mut().enumerate() {
            *byte = at as u8;
        }
        let (first, rest) = memory.split_at_mut(20);
        let (second, rest) = rest.split_at_mut(20);
        let (third, rest) = rest.split_at_mut(20);
        let (five, three) = rest.split_at_mut(5);
        let mut segments = Segments::new();
        segments.push(1, five.as_mut_ptr(), 5);
        segments.push(1, three.as_mut_ptr(), 3);
        let array = vec![packet(0, first), packet(1, second), packet(2, third)];
        // SAFETY: they point to `memory`, which outlives them.
        unsafe { Packets::new(array, segments) }
    }

    #[test]
    fn pieces_of_a_packet_are_all_of_it_and_of_it_alone() {
        let mut memory = [0; 68];
        let packets = some(&mut memory);
        let [first, second, third] = packets.all() else { panic!() };
        assert_eq!((first.segments, first.status), (0, 0));
        assert_eq!((second.segments, second.status), (2, NETRING_PACKET_SEGMENTED));
        assert_eq!((third.segments, third.status), (0, 0));
        let lengths = |cookie| -> Vec<u32> {
            packets.pieces(cookie).unwrap().map(|(_, length)| length).collect()
        };
        assert_eq!((lengths(0), lengths(1), lengths(2)), (vec![20], vec![20, 5, 3], vec![20]));
        assert!(packets.pieces(3).is_none() && packets.pieces(u64::MAX).is_none());

        let whole: Vec<u8> = (20..40).chain(60..68).collect();
        let pieces = packets.bytes(second);
        assert_eq!(pieces.length(), 28);
        assert_eq!(copied(pieces, 0, 28), whole);
        assert_eq!(copied(pieces, 0, 22), whole[..22]);
        for skipped in 0..=28 {
            assert_eq!(copied(pieces, skipped, 28 - skipped), whole[skipped..]);
        }
        assert_eq!(copied(pieces, 27, 3), [67, 0xee, 0xee]);
        let part = |skipped, length| -> Vec<usize> {
            pieces.part(skipped, length).map(|piece| piece.length()).collect()
        };
        assert_eq!(
            (part(0, 28), part(10, 14), part(0, 20)),
            (vec![20, 5, 3], vec![10, 4], vec![20])
        );
        assert_eq!(copied(packets.bytes(third), 1, 19), (41..60).collect::<Vec<_>>());
    }

    #[test]
    fn a_packet_may_be_cut_but_for_its_middle() {
        let mut memory = [0; 68];
        let packets = some(&mut memory);
        let [first, second, _] = packets.all() else { panic!() };
        let cut = |packet: &Packet, front: usize, caplen| Packet {
            data: packet.data.wrapping_add(front),
            caplen,
            ..*packet
        };
        let length = |packet: &Packet| packets.own_bytes(packet).map(Pieces::length);
        assert_eq!(length(&cut(first, 14, 6)), Some(6));
        assert_eq!(length(&cut(first, 0, 6)), Some(6));
        assert_eq!(length(&cut(first, 14, 7)), None);
        assert_eq!(length(&cut(first, usize::MAX, 1)), None);
        assert_eq!(length(&cut(first, 20, 0)), Some(0));
        assert_eq!(length(&cut(first, 21, 0)), None);
        assert_eq!(length(&cut(second, 14, 6)), Some(14));
        assert_eq!(length(&cut(second, 14, 5)), None);
        let alone = Packet { status: NETRING_PACKET_TRUNCATED, ..cut(second, 14, 5) };
        assert_eq!(length(&alone), Some(5));
        // Another one's bytes are not in it, even of the same block.
        assert_eq!(length(&Packet { cookie: 1, ..*first }), None);
        assert_eq!(length(&Packet { cookie: 3, ..*first }), None);
    }

    #[test]
    fn a_walk_gives_each_once_at_any_stride() {
        let mut memory = [0; 68];
        let packets = some(&mut memory);
        let mut position = Position { offset: 0, left: 3 };
        let mut out = [Packet::ZERO; 4];
        // SAFETY: `out` has room for so many, at this and at the double stride.
        let mut read =
            |stride, room| unsafe { packets.read(&mut position, out.as_mut_ptr(), stride, room) };
        assert_eq!((read(128, 2), read(64, 4), read(64, 4)), (2, 1, 0));
        assert_eq!((out[0].cookie, out[2].cookie), (2, 1));
        assert_eq!(position, Position { offset: 192, left: 0 });
    }

    #[test]
    fn the_address_is_in_the_bytes_of_ethernet() {
        let mut memory = [0; 68];
        let packets = some(&mut memory);
        assert_eq!(packets.address(1), Some(([26, 27, 28, 29, 30, 31, 0, 0], 6)));
        assert_eq!(packets.address(3), None);
        let raw = Packet { link_type: 101, ..packets.all()[0] };
        let short = Packet { caplen: 11, cookie: 1, ..packets.all()[0] };
        // SAFETY: as the ones before.
        let others = unsafe { Packets::new(vec![raw, short], Segments::new()) };
        assert_eq!((others.address(0), others.address(1)), (Some(([0; 8], 0)), Some(([0; 8], 0))));
    }
}
