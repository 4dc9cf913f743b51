//! Received packets that leave as they came.
//!
//! What the kernel has put beside a packet's bytes goes back to where it was: the VLAN
//! tag behind the addresses, checksum and segmentation to whoever is to do them. Where
//! nobody behind the injector is told of a checksum, it is computed here.
//!
//! A checksum that is missing (CHECKSUM_PARTIAL) has the sum of the pseudo header in
//! its field. A capture's vnet header says where that is. Without one the packet is
//! parsed, and then the field must agree: in a tunnel's packet the outer checksum may
//! be complete, or none, and the missing one further in, where nobody says.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use super::{Injector, NEEDS_CSUM};
use crate::afpacket::record::rewrite::Vnet;
use crate::block::{Block, Pieces};
use crate::error::{Error, Kind, Result};
use crate::packet::{
    NETRING_LINKTYPE_ETHERNET, NETRING_LINKTYPE_RAW, NETRING_PACKET_CSUM_NOT_READY,
    NETRING_PACKET_GSO_TCP, NETRING_PACKET_TRUNCATED, NETRING_PACKET_VLAN,
    NETRING_PACKET_VLAN_TPID, Packet,
};
use crate::slot::Slot;
use std::cell::Cell;

/// Two Ethernet addresses.
const ADDRESSES: usize = 12;
/// Bytes of a VLAN tag.
const TAG: u16 = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherTypes of VLAN tags.
const ETHERTYPES_VLAN: [u16; 3] = [ETHERTYPE_VLAN, 0x88a8, 0x9100];
/// LINKTYPE_IPV4, LINKTYPE_IPV6: raw packets, too.
const LINKTYPES_IP: [u16; 2] = [228, 229];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Where SCTP's checksum is, which is none of the Internet's; no other protocol has
/// it there.
const SCTP_CHECKSUM: u16 = 8;
/// Bytes of a TCP header at most.
const LONGEST_TCP: u16 = 60;

/// What sends copies: an injector, a queue.
pub(crate) trait Sender {
    /// Of its interface.
    fn link_type(&self) -> u16;
    /// What is left to do for a frame can be left to it.
    fn takes_vnet(&self) -> bool;
    /// As [`Injector::send`].
    fn send(
        &self,
        count: usize,
        timeout_ms: i32,
        frame: impl FnMut(usize) -> Result<(u32, Vnet)>,
        copy: impl FnMut(usize, &Slot) -> Result<()>,
    ) -> Result<usize>;
}

impl Sender for Injector {
    fn link_type(&self) -> u16 {
        self.info.link_type
    }

    fn takes_vnet(&self) -> bool {
        self.info.flags & super::flags::VNET_HEADER != 0
    }

    fn send(
        &self,
        count: usize,
        timeout_ms: i32,
        frame: impl FnMut(usize) -> Result<(u32, Vnet)>,
        copy: impl FnMut(usize, &Slot) -> Result<()>,
    ) -> Result<usize> {
        self.send(count, timeout_ms, frame, copy)
    }
}

/// Sends packets of a block as they came; returns how many found a slot.
///
/// # Errors
/// No packet was taken: `Config`, the first cannot leave as it came; `FrameTooLarge`;
/// else as [`Injector::reserve`].
#[allow(unsafe_code)]
pub(crate) fn send_packets(
    sender: &impl Sender,
    block: &Block,
    count: usize,
    timeout_ms: i32,
    packet: impl Fn(usize) -> Packet,
) -> Result<usize> {
    // What was found out of the packet that is copied next.
    let next = Cell::new(None);
    let prepare = |at| {
        let packet = packet(at);
        let bytes = block.bytes(&packet);
        let caplen = u32::try_from(bytes.length()).unwrap_or(u32::MAX);
        if caplen == 0 {
            return Err(Error::config(
                "packets",
                format!("packet {at} has no bytes, or not its bytes in this block"),
            ));
        }
        let vnet = block.vnet(packet.cookie)?;
        let packet = Packet { caplen, ..packet };
        let received = Received::new(&packet, vnet, sender.link_type(), sender.takes_vnet())?;
        next.set(Some((received, bytes)));
        Ok((received.len(), received.vnet))
    };
    sender.send(count, timeout_ms, prepare, |_, slot| {
        // SAFETY: `send` has a slot filled that nobody else has, with as many bytes as it
        // holds.
        let frame = unsafe { std::slice::from_raw_parts_mut(slot.data, slot.len as usize) };
        match next.take() {
            Some((received, bytes)) => received.write(bytes, frame),
            None => Ok(()),
        }
    })
}

/// Where a checksum is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksum {
    /// Nowhere, or somebody else does it.
    Present,
    /// There: where it begins, and where it goes from there.
    At(u16, u16),
    /// The packet tells.
    Somewhere,
}

/// What it takes to send a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Received {
    /// Its bytes.
    caplen: u32,
    /// What goes behind the addresses.
    tag: Option<[u8; TAG as usize]>,
    /// What is left to the kernel.
    vnet: Vnet,
    checksum: Checksum,
    /// Of the interface.
    link_type: u16,
}

impl Received {
    /// What is to be done with a packet, to which its capture may have kept a vnet
    /// header, on an interface of that link type.
    ///
    /// # Errors
    /// It cannot leave as it came.
    fn new(packet: &Packet, vnet: Option<Vnet>, link_type: u16, takes_vnet: bool) -> Result<Self> {
        if !fits(packet.link_type, link_type) {
            return Err(Error::config(
                "link_type",
                format!(
                    "a packet of link type {} does not fit an interface of link type {link_type}",
                    packet.link_type
                ),
            ));
        }
        if packet.status & NETRING_PACKET_TRUNCATED != 0 {
            return Err(Error::config(
                "caplen",
                format!(
                    "a packet of {} bytes was truncated to {}: the rest cannot be sent; capture \
                     with a larger snap length",
                    packet.len, packet.caplen
                ),
            ));
        }
        let has = |bit| packet.status & bit != 0;
        let tag = match has(NETRING_PACKET_VLAN) {
            false => None,
            true if packet.caplen < 12 || link_type != NETRING_LINKTYPE_ETHERNET => {
                return Err(Error::config(
                    "vlan_tci",
                    "a VLAN tag goes behind two Ethernet addresses, which the packet has not",
                ));
            }
            true => {
                let given = has(NETRING_PACKET_VLAN_TPID);
                let tpid = if given { packet.vlan_tpid } else { ETHERTYPE_VLAN };
                let [tpid, tci] = [tpid, packet.vlan_tci].map(u16::to_be_bytes);
                Some([tpid[0], tpid[1], tci[0], tci[1]])
            }
        };
        let mut received = Self {
            caplen: packet.caplen,
            tag,
            vnet: Vnet::default(),
            checksum: Checksum::Present,
            link_type,
        };
        let is_super = vnet.map_or(has(NETRING_PACKET_GSO_TCP), |vnet| vnet.gso_type != 0);
        if is_super && !(takes_vnet && vnet.is_some()) {
            return Err(super_packet(packet.len));
        }
        let missing = has(NETRING_PACKET_CSUM_NOT_READY);
        match vnet {
            // A super-packet's is missing in any case.
            Some(vnet) if vnet.flags & NEEDS_CSUM != 0 && (missing || is_super) => {
                received.leave(vnet, takes_vnet)?;
            }
            Some(vnet) if is_super => {
                received.vnet = Vnet { flags: 0, csum_start: 0, csum_offset: 0, ..vnet };
            }
            None if missing => received.checksum = Checksum::Somewhere,
            _ => {}
        }
        if received.vnet.gso_type == 0 {
            received.vnet.hdr_len = 0;
        } else {
            received.vnet.hdr_len = received.behind_tag(received.vnet.hdr_len);
            // A hint, and the kernel would have as many bytes in one piece.
            let most = match received.vnet.csum_start {
                0 => received.vnet.hdr_len,
                start => start.saturating_add(LONGEST_TCP),
            };
            received.vnet.hdr_len = received.vnet.hdr_len.min(most);
        }
        Ok(received)
    }

    /// A missing checksum, whose place is known.
    fn leave(&mut self, vnet: Vnet, takes_vnet: bool) -> Result<()> {
        let start = self.behind_tag(vnet.csum_start);
        let end = u32::from(start).saturating_add(vnet.csum_offset.into()).saturating_add(2);
        if end > self.len() {
            return Err(no_checksum("its place lies behind the end of the packet"));
        }
        if vnet.csum_offset == SCTP_CHECKSUM {
            // The kernel would take it for the Internet's (linux/virtio_net.h
            // virtio_net_hdr_to_skb).
            self.checksum = Checksum::Somewhere;
        } else if takes_vnet {
            self.vnet = Vnet { flags: NEEDS_CSUM, csum_start: start, ..vnet };
        } else {
            self.checksum = Checksum::At(start, vnet.csum_offset);
        }
        Ok(())
    }

    /// Where what is there in the packet is in the frame.
    fn behind_tag(&self, offset: u16) -> u16 {
        if self.tag.is_some() { offset.saturating_add(TAG) } else { offset }
    }

    /// Bytes of the frame.
    fn len(&self) -> u32 {
        self.caplen.saturating_add(if self.tag.is_some() { TAG.into() } else { 0 })
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// `Config`: its checksum is missing, and cannot be computed.
    fn write(&self, bytes: Pieces<'_>, frame: &mut [u8]) -> Result<()> {
        match (self.tag, frame.split_at_mut_checked(ADDRESSES)) {
            (Some(tag), Some((addresses, rest))) => {
                bytes.copy_to(0, addresses);
                if let Some((to, rest)) = rest.split_at_mut_checked(tag.len()) {
                    to.copy_from_slice(&tag);
                    bytes.copy_to(ADDRESSES, rest);
                }
            }
            _ => bytes.copy_to(0, frame),
        }
        match self.checksum {
            Checksum::Present => Some(()),
            Checksum::At(start, offset) => fill_in(frame, start.into(), offset.into()),
            Checksum::Somewhere => return complete(frame, self.link_type).map_err(no_checksum),
        }
        .ok_or_else(|| no_checksum("its place lies behind the end of the packet"))
    }
}

/// Whether a packet of a link type is a frame of an interface of another.
fn fits(packet: u16, interface: u16) -> bool {
    packet == interface || interface == NETRING_LINKTYPE_RAW && LINKTYPES_IP.contains(&packet)
}

#[cold]
fn super_packet(len: u32) -> Error {
    Error::new(
        Kind::FrameTooLarge,
        "gso",
        format!(
            "a super-packet of {len} bytes cannot be cut: it takes a capture with \
             NETRING_CAPTURE_VNET_HEADER, and an injector with NETRING_INJECTOR_VNET_HEADER; or \
             switch offloads off where it is received"
        ),
    )
}

#[cold]
fn no_checksum(why: &str) -> Error {
    Error::config(
        "checksum",
        format!(
            "the checksum is missing (NETRING_PACKET_CSUM_NOT_READY) and cannot be computed: {why}; \
             use NETRING_CAPTURE_VNET_HEADER and NETRING_INJECTOR_VNET_HEADER, or write it and clear \
             the bit in status"
        ),
    )
}

/// A field of two bytes, in network byte order.
fn field(frame: &[u8], at: usize) -> Option<u16> {
    let (bytes, _) = frame.get(at..)?.split_first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

fn set_field(frame: &mut [u8], at: usize, value: u16) -> Option<()> {
    let (bytes, _) = frame.get_mut(at..)?.split_first_chunk_mut::<2>()?;
    *bytes = value.to_be_bytes();
    Some(())
}

/// The sum of the 16-bit words of less than 2^32 bytes.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let odd = words.remainder().first().map_or(0, |last| u64::from(*last).wrapping_shl(8));
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).fold(odd, u64::wrapping_add)
}

/// A sum in 16 bits; what is carried out comes in at the bottom.
fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff).wrapping_add(sum >> 16),
        }
    }
}

/// A sum's complement; as in the kernel (linux/skbuff.h CSUM_MANGLED_0) never 0, which
/// UDP has for none.
fn complement(sum: u64) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Completes the checksum of the bytes from `start` on, in whose field the pseudo
/// header's sum is (net/core/dev.c skb_checksum_help).
fn fill_in(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let covered = frame.get_mut(start..)?;
    let checksum = complement(sum(covered));
    set_field(covered, offset, checksum)
}

/// What is in an IP packet, as far as a checksum needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    protocol: u8,
    /// Where it lies in the frame.
    range: std::ops::Range<usize>,
    /// The sum of the addresses of the pseudo header.
    addresses: u64,
    /// What options and extension headers say of the addresses is unknown.
    is_plain: bool,
}

/// Computes a frame's transport checksum.
///
/// # Errors
/// Why not.
fn complete(frame: &mut [u8], link_type: u16) -> std::result::Result<(), &'static str> {
    const SHORT: &str = "its headers are not whole";
    let content = content(frame, link_type)?;
    let length = content.range.len() as u64;
    let protocol = content.protocol;
    let covered = frame.get_mut(content.range).ok_or(SHORT)?;
    let offset = match protocol {
        TCP => 16,
        UDP => 6,
        SCTP => return crc(covered).ok_or(SHORT),
        _ => return Err("it is of a protocol other than TCP, UDP and SCTP"),
    };
    let pseudo = content.addresses.wrapping_add(protocol.into()).wrapping_add(length);
    let found = field(covered, offset).ok_or(SHORT)?;
    // Nothing else can be missing inside of plain TCP.
    if found != fold(pseudo) && !(protocol == TCP && content.is_plain) {
        return Err(
            "the field has not the sum of the pseudo header: the packet was changed in place, or \
             the checksum that is missing is inside of a tunnel",
        );
    }
    set_field(covered, offset, 0).ok_or(SHORT)?;
    let checksum = complement(sum(covered).wrapping_add(pseudo));
    set_field(covered, offset, checksum).ok_or(SHORT)
}

/// Finds what is in a frame's IP packet.
fn content(frame: &[u8], link_type: u16) -> std::result::Result<Content, &'static str> {
    const SHORT: &str = "its headers are not whole";
    let (ip, ethertype) = network(frame, link_type).ok_or(SHORT)?;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, ip),
        ETHERTYPE_IPV6 => ipv6(frame, ip),
        _ => Err("it is neither IPv4 nor IPv6"),
    }
}

/// Where the network header is, and its EtherType.
fn network(frame: &[u8], link_type: u16) -> Option<(usize, u16)> {
    if link_type != NETRING_LINKTYPE_ETHERNET {
        let version = frame.first()? >> 4;
        let ethertype = match version {
            4 => ETHERTYPE_IPV4,
            6 => ETHERTYPE_IPV6,
            _ => 0,
        };
        return Some((0, ethertype));
    }
    let mut at = ADDRESSES;
    loop {
        let ethertype = field(frame, at)?;
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            return Some((at.wrapping_add(2), ethertype));
        }
        at = at.wrapping_add(TAG.into());
    }
}

fn ipv4(frame: &[u8], at: usize) -> std::result::Result<Content, &'static str> {
    let ip = frame.get(at..).unwrap_or_default();
    let Some((header, _)) = ip.split_first_chunk::<20>() else {
        return Err("its headers are not whole");
    };
    let words = header[0] & 15;
    let start = usize::from(words).wrapping_mul(4);
    let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || words < 5 || start > end || end > ip.len() {
        return Err("its IPv4 header does not fit its length");
    }
    // More to come, or an offset.
    if header[6] & 0x3f != 0 || header[7] != 0 {
        return Err("it is a fragment");
    }
    Ok(Content {
        protocol: header[9],
        range: at.wrapping_add(start)..at.wrapping_add(end),
        addresses: sum(&header[12..20]),
        is_plain: words == 5,
    })
}

fn ipv6(frame: &[u8], at: usize) -> std::result::Result<Content, &'static str> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    const SHORT: &str = "its headers are not whole";
    let ip = frame.get(at..).unwrap_or_default();
    let Some((header, _)) = ip.split_first_chunk::<40>() else { return Err(SHORT) };
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let end = payload.wrapping_add(header.len());
    if header[0] >> 4 != 6 || end > ip.len() {
        return Err("its IPv6 header does not fit its length");
    }
    let mut start = header.len();
    let mut protocol = header[6];
    while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
        let extension = ip.get(start..end).and_then(|rest| rest.split_first_chunk::<8>());
        let Some((extension, _)) = extension else { return Err(SHORT) };
        protocol = extension[0];
        start = start.wrapping_add(usize::from(extension[1]).wrapping_add(1).wrapping_mul(8));
    }
    if protocol == FRAGMENT {
        return Err("it is a fragment");
    }
    if start > end {
        return Err(SHORT);
    }
    Ok(Content {
        protocol,
        range: at.wrapping_add(start)..at.wrapping_add(end),
        addresses: sum(&header[8..40]),
        is_plain: start == header.len(),
    })
}

/// Computes an SCTP packet's checksum, a CRC32c (RFC 9260, appendix A).
fn crc(packet: &mut [u8]) -> Option<()> {
    let at = usize::from(SCTP_CHECKSUM);
    packet.get_mut(at..)?.split_first_chunk_mut::<4>()?.0.fill(0);
    let crc = packet
        .iter()
        .fold(!0_u32, |crc, byte| CRC32C[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ crc >> 8);
    packet.get_mut(at..)?.split_first_chunk_mut::<4>()?.0.copy_from_slice(&(!crc).to_le_bytes());
    Some(())
}

/// The CRC32c of each byte.
static CRC32C: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut at = 0_u32;
    while at < 256 {
        let mut crc = at;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit = u32::wrapping_add(bit, 1);
        }
        table[at as usize] = crc;
        at = at.wrapping_add(1);
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::Bytes;

    const ETHERNET: u16 = NETRING_LINKTYPE_ETHERNET;

    /// An IP packet, whose checksum is as the kernel leaves it.
    fn frame(link_type: u16, six: bool, protocol: u8, extension: &[u8], payload: usize) -> Vec<u8> {
        let (header, offset) = match protocol {
            TCP => (20, 16),
            UDP => (8, 6),
            _ => (12, 8),
        };
        let mut frame = Vec::new();
        if link_type == ETHERNET {
            frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            frame.extend_from_slice(&if six { [0x86, 0xdd] } else { [8, 0] });
        }
        let length = (extension.len() + header + payload) as u16;
        let addresses = if six { 8..40 } else { 12..20 };
        let ip = frame.len();
        if six {
            let next = if extension.is_empty() { protocol } else { 60 };
            frame.extend_from_slice(&[0x60, 0, 0, 0]);
            frame.extend_from_slice(&length.to_be_bytes());
            frame.extend_from_slice(&[next, 64]);
            frame.extend((0..32_u8).map(|n| n.wrapping_mul(37) ^ 0xfd));
        } else {
            let words = 5 + extension.len() / 4;
            frame.extend_from_slice(&[0x40 | words as u8, 0]);
            frame.extend_from_slice(&(20 + length).to_be_bytes());
            frame.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend_from_slice(&[10, 200, 3, 4, 192, 168, 255, 254]);
        }
        let sum = sum(&frame[ip..][addresses]) + u64::from(protocol) + (header + payload) as u64;
        frame.extend_from_slice(extension);
        let start = frame.len();
        frame.extend((0..header + payload).map(|n| (n * 7 + 3) as u8));
        let pseudo = if protocol == SCTP { 0 } else { fold(sum) };
        frame[start + offset..][..2].copy_from_slice(&pseudo.to_be_bytes());
        frame
    }

    fn is_right(frame: &[u8], link_type: u16) -> bool {
        let content = content(frame, link_type).unwrap();
        let covered = &frame[content.range];
        let pseudo = content.addresses + u64::from(content.protocol) + covered.len() as u64;
        fold(sum(covered) + pseudo) == 0xffff
    }

    #[test]
    fn checksums_are_computed_wherever_the_headers_are() {
        for link_type in [ETHERNET, NETRING_LINKTYPE_RAW] {
            for six in [false, true] {
                for protocol in [TCP, UDP] {
                    for payload in [0, 1, 2, 3, 4, 99, 1400] {
                        let extension: &[u8] = match (six, payload % 3) {
                            (_, 0) => &[],
                            (false, _) => &[1, 1, 1, 1, 7, 3, 4, 0],
                            // Destination options, and behind them those of another.
                            (true, 1) => &[protocol, 0, 1, 4, 0, 0, 0, 0],
                            (true, _) => &[43, 0, 1, 4, 0, 0, 0, 0, protocol, 0, 4, 0, 0, 0, 0, 0],
                        };
                        let mut frame = frame(link_type, six, protocol, extension, payload);
                        assert!(!is_right(&frame, link_type));
                        complete(&mut frame, link_type).unwrap();
                        assert!(is_right(&frame, link_type), "{six} {protocol} {payload}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_ways_come_to_the_same_and_padding_does_not_count() {
        for payload in [1, 5, 18, 700] {
            let left = frame(ETHERNET, false, UDP, &[], payload);
            let (mut placed, mut parsed) = (left.clone(), left.clone());
            fill_in(&mut placed, 34, 6).unwrap();
            complete(&mut parsed, ETHERNET).unwrap();
            assert_eq!(placed, parsed);
            let mut padded = left;
            padded.extend([0xee; 20]);
            complete(&mut padded, ETHERNET).unwrap();
            assert_eq!(padded[..placed.len()], placed);
            for tpid in ETHERTYPES_VLAN {
                let mut tagged = frame(ETHERNET, false, UDP, &[], payload);
                let tag = tpid.to_be_bytes();
                for byte in [7, 0xa0, tag[1], tag[0]] {
                    tagged.insert(12, byte);
                }
                complete(&mut tagged, ETHERNET).unwrap();
                assert_eq!(tagged[16..], placed[12..]);
            }
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_ones() {
        let mut frame = frame(ETHERNET, false, UDP, &[], 2);
        let (start, pseudo) = (34, field(&frame, 40).unwrap());
        // A payload that makes the sum one of all ones.
        set_field(&mut frame, 42, 0).unwrap();
        let rest = fold(sum(&frame[start..]));
        set_field(&mut frame, 42, !rest).unwrap();
        assert_eq!(fold(sum(&frame[start..])), 0xffff);
        complete(&mut frame, ETHERNET).unwrap();
        assert_eq!(field(&frame, 40), Some(0xffff));
        set_field(&mut frame, 40, pseudo).unwrap();
        fill_in(&mut frame, start, 6).unwrap();
        assert_eq!(field(&frame, 40), Some(0xffff));
    }

    #[test]
    fn sctp_has_a_crc() {
        // "123456789" comes to 0xe3069283; here behind a header of zeros.
        let mut packet = [0; 12].to_vec();
        crc(&mut packet).unwrap();
        let of_zeros = packet[8..12].to_vec();
        // Twelve zeros, as computed bit by bit.
        let bitwise = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 }
                })
            })
        };
        assert_eq!(bitwise(b"123456789"), 0xe306_9283);
        assert_eq!(of_zeros, bitwise(&[0; 12]).to_le_bytes());
        let mut frame = frame(ETHERNET, true, SCTP, &[], 33);
        let mut plain = frame[54..].to_vec();
        plain[8..12].fill(0);
        complete(&mut frame, ETHERNET).unwrap();
        assert_eq!(frame[62..66], bitwise(&plain).to_le_bytes());
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let plain = frame(ETHERNET, false, UDP, &[], 100);
        let refused = |change: &dyn Fn(&mut Vec<u8>), words: &str| {
            let mut frame = plain.clone();
            change(&mut frame);
            let before = frame.clone();
            let why = complete(&mut frame, ETHERNET).unwrap_err();
            assert!(why.contains(words), "{why}");
            assert_eq!(frame, before);
        };
        refused(&|frame| frame[20] = 0x20, "fragment");
        refused(&|frame| frame[21] = 1, "fragment");
        refused(&|frame| frame[23] = 47, "protocol");
        refused(&|frame| frame[12] = 9, "neither");
        refused(&|frame| frame.truncate(141), "does not fit");
        refused(&|frame| frame[14] = 0x4f, "tunnel");
        refused(&|frame| frame[14] = 0x44, "does not fit");
        refused(&|frame| frame.truncate(20), "not whole");
        refused(&|frame| frame.truncate(13), "not whole");
        // No checksum outside, or a complete one; an address that was changed.
        refused(&|frame| frame[40..42].fill(0), "tunnel");
        refused(&|frame| frame[40] ^= 1, "tunnel");
        refused(&|frame| frame[26] ^= 1, "tunnel");
        let six = frame(ETHERNET, true, TCP, &[], 10);
        for (at, to) in [(20, 44), (18, 0xff), (14, 0x40), (20, 6 ^ 58)] {
            let mut frame = six.clone();
            frame[at] = to;
            assert!(complete(&mut frame, ETHERNET).is_err(), "{at}");
        }
        let mut changed = six;
        changed[30] ^= 0xff;
        complete(&mut changed, ETHERNET).unwrap();
        assert!(is_right(&changed, ETHERNET));
    }

    #[test]
    fn nothing_that_is_parsed_makes_it_panic() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        for round in 0..200_000 {
            let six = round % 2 == 0;
            let link_type = if round % 3 == 0 { NETRING_LINKTYPE_RAW } else { ETHERNET };
            let protocol = [TCP, UDP, SCTP][round % 3];
            let mut frame = frame(link_type, six, protocol, &[], random() % 40);
            for _ in 0..random() % 4 {
                let at = random() % frame.len();
                frame[at] = random() as u8;
            }
            frame.truncate(random() % (frame.len() + 30));
            let _ = complete(&mut frame, link_type);
            let _ = fill_in(&mut frame, random() % 80, random() % 80);
        }
    }

    fn packet(status: u32, caplen: u32) -> Packet {
        Packet {
            status,
            caplen,
            len: caplen,
            link_type: ETHERNET,
            vlan_tci: 0x2005,
            ..Packet::ZERO
        }
    }

    #[test]
    fn tags_go_back_and_offsets_with_them() {
        let bytes: Vec<u8> = (0..60).collect();
        // SAFETY: lives to the end of the test.
        #[allow(unsafe_code)]
        let given = Pieces::one(unsafe { Bytes::new(bytes.as_ptr(), bytes.len()) });
        let tagged = packet(NETRING_PACKET_VLAN, 60);
        let received = Received::new(&tagged, None, ETHERNET, false).unwrap();
        let mut frame = vec![0; received.len() as usize];
        received.write(given, &mut frame).unwrap();
        assert_eq!(frame[..12], bytes[..12]);
        assert_eq!(frame[12..16], [0x81, 0, 0x20, 5]);
        assert_eq!(frame[16..], bytes[12..]);

        let status = NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID | NETRING_PACKET_CSUM_NOT_READY;
        let tagged = Packet { vlan_tpid: 0x88a8, ..packet(status, 3000) };
        let vnet = Vnet {
            flags: NEEDS_CSUM,
            gso_type: 1,
            hdr_len: 54,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        let received = Received::new(&tagged, Some(vnet), ETHERNET, true).unwrap();
        assert_eq!(received.tag, Some([0x88, 0xa8, 0x20, 5]));
        assert_eq!(received.vnet, Vnet { hdr_len: 58, csum_start: 38, ..vnet });
        assert_eq!(received.checksum, Checksum::Present);
        // All of it in one piece, where it came from.
        let linear = Vnet { hdr_len: 3000, ..vnet };
        let received = Received::new(&tagged, Some(linear), ETHERNET, true).unwrap();
        assert_eq!(received.vnet.hdr_len, 98);

        let plain = Vnet { gso_type: 0, gso_size: 0, hdr_len: 0, ..vnet };
        let received = Received::new(&tagged, Some(plain), ETHERNET, true).unwrap();
        assert_eq!(received.vnet, Vnet { csum_start: 38, ..plain });
        let received = Received::new(&tagged, Some(plain), ETHERNET, false).unwrap();
        assert_eq!(received.vnet, Vnet::default());
        assert_eq!(received.checksum, Checksum::At(38, 16));
        let sctp = Vnet { csum_offset: 8, ..plain };
        let received = Received::new(&tagged, Some(sctp), ETHERNET, true).unwrap();
        assert_eq!((received.vnet, received.checksum), (Vnet::default(), Checksum::Somewhere));
        // Written by somebody in between.
        let done = Packet { status: status & !NETRING_PACKET_CSUM_NOT_READY, ..tagged };
        let received = Received::new(&done, Some(plain), ETHERNET, true).unwrap();
        assert_eq!((received.vnet, received.checksum), (Vnet::default(), Checksum::Present));
    }

    #[test]
    fn what_cannot_leave_as_it_came_is_refused() {
        let refused = |packet: &Packet, vnet, link_type, takes_vnet, option: &str| {
            let error = Received::new(packet, vnet, link_type, takes_vnet).unwrap_err();
            assert_eq!(error.option, option);
            error
        };
        let plain = packet(0, 60);
        let error = refused(&plain, None, NETRING_LINKTYPE_RAW, true, "link_type");
        assert!(error.message.contains("type 1 ") && error.message.contains("type 101"));
        let ip = Packet { link_type: 228, ..plain };
        refused(&ip, None, ETHERNET, true, "link_type");
        Received::new(&ip, None, NETRING_LINKTYPE_RAW, true).unwrap();
        refused(&packet(NETRING_PACKET_TRUNCATED, 60), None, ETHERNET, true, "caplen");
        refused(&packet(NETRING_PACKET_VLAN, 11), None, ETHERNET, true, "vlan_tci");
        let tcp = packet(NETRING_PACKET_GSO_TCP, 60);
        let error = refused(&tcp, None, ETHERNET, true, "gso");
        assert_eq!(error.kind, Kind::FrameTooLarge);
        let gso = Vnet { gso_type: 1, gso_size: 100, ..Vnet::default() };
        refused(&plain, Some(gso), ETHERNET, false, "gso");
        Received::new(&plain, Some(gso), ETHERNET, true).unwrap();
        let status = NETRING_PACKET_CSUM_NOT_READY;
        let far = Vnet { flags: NEEDS_CSUM, csum_start: 53, csum_offset: 6, ..Vnet::default() };
        refused(&packet(status, 60), Some(far), ETHERNET, true, "checksum");
        Received::new(&packet(status, 61), Some(far), ETHERNET, true).unwrap();
    }
}
