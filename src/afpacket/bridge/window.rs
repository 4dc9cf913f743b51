//! The slots that packets are received into: reserved on the other side, open until
//! they are known to leave. They form a circle of one batch, in order of reserve.

use crate::afpacket::record::rewrite::Vnet;
use crate::packet::{
    NETRING_CLOCK_COPY, NETRING_LINKTYPE_ETHERNET, NETRING_PACKET_CSUM_NOT_READY,
    NETRING_PACKET_CSUM_VALID, NETRING_PACKET_DIRECTION, NETRING_PACKET_GSO_TCP,
    NETRING_PACKET_NET_OFFSET, NETRING_PACKET_PROTOCOL, NETRING_PACKET_VNET, Packet,
};
use crate::slot::Slot;
use crate::sys::packet::status;
use crate::sys::receive::{Aux, Message, Messages, VNET_HEADER};
use crate::sys::socket::Socket;
use crate::sys::{Result, clock};
use std::ops::Range;

/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Bytes of the addresses, which it stands behind.
const ADDRESSES: usize = 12;
/// Where the kernel does not tell which.
const ETHERTYPE_VLAN: u16 = 0x8100;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM.
const NEEDS_CSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_UDP_L4, and the bit that goes with TCP.
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the packets of a window have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) ifindex: u32,
    pub(super) link_type: u16,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    origin: Origin,
    slots: Box<[Slot]>,
    messages: Messages,
    /// The first open slot.
    first: usize,
    /// How many are open.
    open: usize,
    /// What the kernel told of what was received, at the slot's place.
    arrived: Box<[Arrived]>,
    /// What the callback is shown, without gaps, and at which place of the run each is.
    packets: Box<[Packet]>,
    verdicts: Box<[u8]>,
    shown: Vec<usize>,
}

// SAFETY: slots lead to memory of the injector, which is as long-lived as its owner,
// and which only the one who holds the window touches.
unsafe impl Send for Window {}

#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    status: u32,
    kind: u8,
    protocol: u16,
    net: u16,
    /// It did not fit.
    cut: bool,
}

impl Window {
    pub(super) fn new(batch: usize, origin: Origin) -> Self {
        Self {
            origin,
            slots: vec![Slot::ZERO; batch].into(),
            messages: Messages::new(batch),
            first: 0,
            open: 0,
            arrived: vec![Arrived::default(); batch].into(),
            packets: vec![Packet::ZERO; batch].into(),
            verdicts: vec![0; batch].into(),
            shown: Vec::with_capacity(batch),
        }
    }

    /// Slots open for a run of packets: they lie side by side.
    pub(super) fn room(&self) -> usize {
        self.open.min(self.slots.len() - self.first)
    }

    /// Fills what is not open by `reserve`, which is given room for slots and says how
    /// many it filled: in order, until it has no more.
    pub(super) fn refill<E>(
        &mut self,
        mut reserve: impl FnMut(&mut [Slot]) -> std::result::Result<usize, E>,
    ) -> std::result::Result<(), E> {
        let batch = self.slots.len();
        while self.open < batch {
            let from = (self.first + self.open) % batch;
            let upto = batch.min(from + batch - self.open);
            let got = reserve(&mut self.slots[from..upto])?;
            for at in from..from + got {
                let Slot { data, capacity, .. } = self.slots[at];
                // SAFETY: reserved: ours until it is committed, after which nothing is
                // received there before it is aimed again.
                unsafe { self.messages.aim(at, data, capacity) };
            }
            self.open += got;
            if got == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Receives up to `most` packets into the first open slots: how many, and of how many bytes.
    ///
    /// # Errors
    /// See [`Messages::receive`].
    pub(super) fn receive(&mut self, socket: &Socket, most: usize) -> Result<(usize, u64)> {
        let first = self.first;
        let got = self.messages.receive(socket, first, most.min(self.room()))?;
        let mut bytes = 0;
        for at in first..first + got {
            let message = self.messages.take(at);
            bytes += u64::from(self.arrive(at, &message));
        }
        Ok((got, bytes))
    }

    /// Makes a frame of what was received: the tag back in its bytes, and what is left
    /// to do for it beside them. Returns its bytes on the wire.
    fn arrive(&mut self, at: usize, message: &Message) -> u32 {
        let slot = &mut self.slots[at];
        let Aux { status: told, vlan_tci, mut net, .. } = message.aux;
        let mut vnet = vnet_of(&message.header);
        let capacity = slot.capacity as usize;
        let mut len = message.len as usize;
        let mut whole = message.aux.len.max(message.len);
        let mut cut = message.truncated;
        let tagged = told & status::VLAN_VALID != 0
            && self.origin.link_type == NETRING_LINKTYPE_ETHERNET
            && len >= ADDRESSES;
        if tagged {
            whole += TAG as u32;
            if len + TAG > capacity {
                cut = true;
            } else {
                let tpid = match told & status::VLAN_TPID_VALID {
                    0 => ETHERTYPE_VLAN,
                    _ => message.aux.vlan_tpid,
                };
                // SAFETY: an open slot has so many bytes, and nobody else touches them.
                let bytes = unsafe { std::slice::from_raw_parts_mut(slot.data, len + TAG) };
                bytes.copy_within(ADDRESSES..len, ADDRESSES + TAG);
                bytes[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tpid.to_be_bytes());
                bytes[ADDRESSES + 2..ADDRESSES + 4].copy_from_slice(&vlan_tci.to_be_bytes());
                len += TAG;
                net = net.wrapping_add(TAG as u16);
                shift(&mut vnet, TAG as i32);
            }
        }
        slot.len = len as u32;
        slot.set_vnet(vnet);
        if vnet.gso_type != 0 {
            // The kernel tells how much it had in one piece, which may be all of it, and
            // takes it for how much it is to have so (af_packet.c packet_snd).
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(slot.data, len) };
            slot.hdr_len = segment(bytes, slot).map_or(0, |(headers, _)| headers as u16);
        }
        self.arrived[at] =
            Arrived { status: told, kind: message.kind, protocol: message.protocol, net, cut };
        whole
    }

    /// Whether the packet at this place of the run is not all there.
    pub(super) fn is_cut(&self, at: usize) -> bool {
        self.arrived[self.first + at].cut
    }

    /// Bytes of the packet at this place of the run.
    pub(super) fn len(&self, at: usize) -> u32 {
        self.slots[self.first + at].len
    }

    /// Whether it is a super-packet.
    pub(super) fn is_super(&self, at: usize) -> bool {
        self.slots[self.first + at].gso_type != 0
    }

    /// Whether it has a VLAN tag.
    pub(super) fn is_tagged(&self, at: usize) -> bool {
        let bytes = self.bytes(at).get(ADDRESSES..ADDRESSES + 2);
        self.origin.link_type == NETRING_LINKTYPE_ETHERNET
            && [Some(&[0x81, 0x00][..]), Some(&[0x88, 0xa8][..])].contains(&bytes)
    }

    /// The bytes of the packet at this place of the run.
    fn bytes(&self, at: usize) -> &[u8] {
        let slot = &self.slots[self.first + at];
        // SAFETY: an open slot that was received into has so many bytes, and only who has
        // the window touches them.
        unsafe { std::slice::from_raw_parts(slot.data, slot.len as usize) }
    }

    /// Bytes of the largest frame that the packet at this place of the run becomes on
    /// the wire; 0 where its headers do not say: the kernel will.
    pub(super) fn largest_segment(&self, at: usize) -> u32 {
        let slot = &self.slots[self.first + at];
        if slot.gso_type == 0 {
            return slot.len;
        }
        segment(self.bytes(at), slot).map_or(0, |(headers, payload)| headers + payload)
    }

    /// Leaves a packet out: its slot will be given back unused.
    pub(super) fn leave_out(&mut self, at: usize) {
        self.slots[self.first + at].len = 0;
    }

    /// Those of a run, as they are to be committed.
    pub(super) fn slots(&self, run: Range<usize>) -> &[Slot] {
        &self.slots[self.first + run.start..self.first + run.end]
    }

    /// Gives back all open slots unused.
    pub(super) fn give_back<E>(
        &mut self,
        mut commit: impl FnMut(&[Slot]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while self.open > 0 {
            let run = self.room();
            for at in 0..run {
                self.leave_out(at);
            }
            commit(self.slots(0..run))?;
            self.gone(run);
        }
        Ok(())
    }

    /// The first `count` are no longer open.
    pub(super) fn gone(&mut self, count: usize) {
        self.first = (self.first + count) % self.slots.len();
        self.open -= count;
    }

    /// The packets of a run of `count` that are all there, for a callback; verdicts as
    /// before it: forward.
    pub(super) fn show(&mut self, count: usize) -> (&mut [Packet], &mut [u8]) {
        let time_ns = clock::nanoseconds(clock::realtime());
        self.shown.clear();
        for at in 0..count {
            let Arrived { status: told, kind, protocol, net, cut } = self.arrived[self.first + at];
            if cut {
                continue;
            }
            let slot = &self.slots[self.first + at];
            let kept = status::CSUM_NOT_READY | status::CSUM_VALID | status::GSO_TCP;
            self.packets[self.shown.len()] = Packet {
                data: slot.data,
                caplen: slot.len,
                len: slot.len,
                time_ns,
                status: told & kept
                    | NETRING_PACKET_VNET
                    | NETRING_PACKET_NET_OFFSET
                    | NETRING_PACKET_PROTOCOL
                    | NETRING_PACKET_DIRECTION,
                protocol,
                net_offset: net,
                ifindex: self.origin.ifindex,
                link_type: self.origin.link_type,
                direction: kind,
                clock: NETRING_CLOCK_COPY,
                gso_size: slot.gso_size,
                gso_type: slot.gso_type,
                cookie: slot.cookie,
                ..Packet::ZERO
            };
            self.shown.push(at);
        }
        let count = self.shown.len();
        self.verdicts[..count].fill(0);
        (&mut self.packets[..count], &mut self.verdicts[..count])
    }

    /// How many were shown.
    pub(super) fn shown(&self) -> usize {
        self.shown.len()
    }

    /// What the callback said of the nth shown: at which place of the run, and what.
    pub(super) fn verdict(&self, nth: usize) -> (usize, u8) {
        (self.shown[nth], self.verdicts[nth])
    }

    /// Takes over what the callback changed of the nth shown. False: it says that there
    /// are more bytes than fit.
    pub(super) fn modify(&mut self, nth: usize) -> bool {
        let place = self.first + self.shown[nth];
        let Packet { caplen, net_offset, .. } = self.packets[nth];
        let slot = &mut self.slots[place];
        if caplen > slot.capacity {
            return false;
        }
        slot.len = caplen;
        // Where the headers moved, what is told of them moves along.
        let moved = i32::from(net_offset) - i32::from(self.arrived[place].net);
        let mut vnet = slot.vnet();
        shift(&mut vnet, moved);
        slot.set_vnet(vnet);
        true
    }
}

const _: () = assert!(
    NETRING_PACKET_CSUM_NOT_READY == status::CSUM_NOT_READY
        && NETRING_PACKET_CSUM_VALID == status::CSUM_VALID
        && NETRING_PACKET_GSO_TCP == status::GSO_TCP
);

/// What the kernel told, as it is to be told when sent: that a checksum was verified is
/// of the past.
fn vnet_of(header: &[u8; VNET_HEADER]) -> Vnet {
    let [flags, gso_type, a, b, c, d, e, f, g, h] = *header;
    let of = |one, other| u16::from_ne_bytes([one, other]);
    let flags = flags & NEEDS_CSUM;
    let mut vnet = Vnet {
        flags,
        gso_type,
        hdr_len: of(a, b),
        gso_size: of(c, d),
        csum_start: of(e, f),
        csum_offset: of(g, h),
    };
    if gso_type == 0 {
        (vnet.hdr_len, vnet.gso_size) = (0, 0);
    }
    if flags == 0 {
        (vnet.csum_start, vnet.csum_offset) = (0, 0);
    }
    vnet
}

/// Headers grew, or shrank, by so many bytes.
fn shift(vnet: &mut Vnet, by: i32) {
    let add = |value: u16| (i32::from(value) + by).clamp(0, u16::MAX.into()) as u16;
    if vnet.flags & NEEDS_CSUM != 0 {
        vnet.csum_start = add(vnet.csum_start);
    }
    if vnet.gso_type != 0 && vnet.hdr_len != 0 {
        vnet.hdr_len = add(vnet.hdr_len);
    }
}

/// Bytes of the headers of a super-packet, and of what each whole segment carries;
/// `None`: its headers do not say.
fn segment(bytes: &[u8], slot: &Slot) -> Option<(u32, u32)> {
    // The kernel leaves every super-packet's checksum to whoever cuts it.
    if slot.vnet_flags & NEEDS_CSUM == 0 {
        return None;
    }
    let start = usize::from(slot.csum_start);
    let transport = match slot.gso_type & !GSO_ECN {
        GSO_UDP_L4 => 8,
        _ => usize::from(bytes.get(start + 12)? >> 4) * 4,
    };
    let headers = (start + transport).min(bytes.len());
    let payload = usize::from(slot.gso_size).min(bytes.len() - headers);
    Some((headers as u32, payload as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_its_headers_and_what_it_carries() {
        let mut bytes = vec![0_u8; 3000];
        bytes[34 + 12] = 8 << 4;
        let mut slot = Slot { gso_type: 1, gso_size: 1448, csum_start: 34, ..Slot::ZERO };
        assert_eq!(segment(&bytes, &slot), None);
        slot.vnet_flags = NEEDS_CSUM;
        assert_eq!(segment(&bytes, &slot), Some((34 + 32, 1448)));
        slot.gso_type = GSO_UDP_L4;
        assert_eq!(segment(&bytes, &slot), Some((34 + 8, 1448)));
        // Never beyond what is there, whatever is claimed.
        assert_eq!(segment(&bytes[..1000], &slot), Some((42, 958)));
        slot.csum_start = u16::MAX;
        slot.gso_type = 1;
        assert_eq!(segment(&bytes, &slot), None);
        slot.gso_type = GSO_UDP_L4;
        assert_eq!(segment(&bytes, &slot), Some((3000, 0)));
    }

    #[test]
    fn what_is_told_of_headers_moves_with_them() {
        let mut vnet = Vnet { flags: 1, csum_start: 34, csum_offset: 16, ..Vnet::default() };
        shift(&mut vnet, 4);
        assert_eq!((vnet.csum_start, vnet.csum_offset, vnet.hdr_len), (38, 16, 0));
        shift(&mut vnet, -100);
        assert_eq!(vnet.csum_start, 0);
        let mut vnet = Vnet { gso_type: 1, hdr_len: 54, gso_size: 1448, ..Vnet::default() };
        shift(&mut vnet, 4);
        assert_eq!((vnet.csum_start, vnet.hdr_len), (0, 58));
        let told = [2, 0, 1, 1, 1, 1, 34, 0, 16, 0];
        assert_eq!(vnet_of(&told), Vnet::default());
    }

    #[test]
    fn slots_go_round_in_order() {
        let mut window = Window::new(4, Origin { ifindex: 1, link_type: 1 });
        let mut next = 0;
        let mut reserve = |slots: &mut [Slot]| {
            for slot in slots.iter_mut() {
                slot.cookie = next;
                next += 1;
            }
            Ok::<_, ()>(slots.len())
        };
        let mut want = 0;
        for step in [1, 4, 2, 3, 1, 1, 4] {
            window.refill(&mut reserve).unwrap();
            assert_eq!(window.open, 4);
            let mut left = step;
            while left > 0 {
                let run = window.room().min(left);
                for slot in window.slots(0..run) {
                    assert_eq!(slot.cookie, want);
                    want += 1;
                }
                window.gone(run);
                left -= run;
            }
        }
    }
}
