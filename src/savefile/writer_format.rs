//! The bytes of savefiles, in host byte order, which both formats allow.
//!
//! pcap: draft-ietf-opsawg-pcap. pcapng: draft-ietf-opsawg-pcapng.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::packet::{
    NETRING_DIRECTION_BROADCAST, NETRING_DIRECTION_HOST, NETRING_DIRECTION_MULTICAST,
    NETRING_DIRECTION_OTHERHOST, NETRING_DIRECTION_OUTGOING, NETRING_LINKTYPE_ETHERNET,
    NETRING_PACKET_DIRECTION, NETRING_PACKET_VLAN, NETRING_PACKET_VLAN_TPID, Packet,
};

/// The most bytes of a packet in a file: libpcap and Wireshark take more for
/// damage.
pub const LONGEST_PACKET: u32 = 262_144;

const PCAP_NANOSECONDS: u32 = 0xa1b2_3c4d;
const PCAP_MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Bytes of pcap's file header.
pub const PCAP_HEADER: usize = 24;
/// Bytes in front of a packet in a pcap file.
const PCAP_RECORD: usize = 16;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Bytes of an interface statistics block.
pub const STATISTICS: usize = 112;
/// The most bytes of an interface description block.
pub const LONGEST_DESCRIPTION: usize = 128 + LONGEST_NAME;
/// The most bytes of an interface's name that are written.
pub const LONGEST_NAME: usize = 256;

const OPTION_END: u16 = 0;
const SHB_OS: u16 = 3;
const SHB_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_OS: u16 = 12;
const EPB_FLAGS: u16 = 2;
const EPB_QUEUE: u16 = 6;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

/// What an interface's statistics block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// When they were taken, nanoseconds since 1970.
    pub time_ns: u64,
    /// When counting began.
    pub start_ns: u64,
    /// Packets that came, those dropped included.
    pub received: u64,
    /// Packets lost anywhere between the wire and the program.
    pub dropped: u64,
    /// Of those, the ones lost because the ring was full.
    pub os_dropped: u64,
    /// Packets given to the program.
    pub delivered: u64,
}

/// A file header of the pcap format.
pub fn pcap_header(link_type: u16, snap_length: u32, microseconds: bool) -> [u8; PCAP_HEADER] {
    let magic = if microseconds { PCAP_MICROSECONDS } else { PCAP_NANOSECONDS };
    let mut out = [0; PCAP_HEADER];
    let mut at = Fill { out: &mut out, at: 0 };
    at.u32(magic);
    at.u16(2);
    at.u16(4);
    at.u32(0);
    at.u32(0);
    at.u32(snap_length);
    at.u32(link_type.into());
    out
}

/// Writes integers one after the other; past the end nothing is written.
struct Fill<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Fill<'_> {
    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.wrapping_add(bytes.len());
        if let Some(to) = self.out.get_mut(self.at..end) {
            to.copy_from_slice(bytes);
            self.at = end;
        }
    }

    #[inline(always)]
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_ne_bytes());
    }

    #[inline(always)]
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_ne_bytes());
    }
}

/// A block of the pcapng format that is no packet's.
struct Block {
    out: Vec<u8>,
}

impl Block {
    fn new(kind: u32) -> Self {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        Self { out }
    }

    fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_ne_bytes());
    }

    /// A time or a counter that is given as its halves, the upper one first.
    fn halves(&mut self, value: u64) {
        let (high, low) = halves(value);
        self.u32(high);
        self.u32(low);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let Ok(length) = u16::try_from(value.len()) else { return };
        self.u16(code);
        self.u16(length);
        self.out.extend_from_slice(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    fn time_option(&mut self, code: u16, value: u64) {
        let (high, low) = halves(value);
        let mut bytes = [0; 8];
        let mut at = Fill { out: &mut bytes, at: 0 };
        at.u32(high);
        at.u32(low);
        self.option(code, &bytes);
    }

    /// Ends the options, if there are any, and the block.
    fn end(mut self, options: bool) -> Vec<u8> {
        if options {
            self.u16(OPTION_END);
            self.u16(0);
        }
        let length = u32::try_from(self.out.len().saturating_add(4)).unwrap_or(0);
        self.u32(length);
        if let Some(field) = self.out.get_mut(4..8) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.out
    }
}

fn halves(value: u64) -> (u32, u32) {
    #[allow(clippy::cast_possible_truncation)]
    let low = value as u32;
    ((value >> 32) as u32, low)
}

/// The block a pcapng file begins with; its section's length is left open.
pub fn section_header(os: &str, application: &str) -> Vec<u8> {
    let mut block = Block::new(SECTION_HEADER);
    block.u32(BYTE_ORDER);
    block.u16(1);
    block.u16(0);
    block.u32(u32::MAX);
    block.u32(u32::MAX);
    block.option(SHB_OS, os.as_bytes());
    block.option(SHB_APPLICATION, application.as_bytes());
    block.end(true)
}

/// Describes an interface; its packets' times are in nanoseconds.
pub fn interface_description(link_type: u16, snap_length: u32, name: &str, os: &str) -> Vec<u8> {
    let mut block = Block::new(INTERFACE_DESCRIPTION);
    block.u16(link_type);
    block.u16(0);
    block.u32(snap_length);
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    if end != 0 {
        block.option(IF_NAME, name.get(..end).unwrap_or_default().as_bytes());
    }
    block.option(IF_TSRESOL, &[9]);
    block.option(IF_OS, os.as_bytes());
    block.end(true)
}

/// An interface's statistics.
pub fn interface_statistics(interface: u32, statistics: &Statistics) -> Vec<u8> {
    let mut block = Block::new(INTERFACE_STATISTICS);
    block.u32(interface);
    block.halves(statistics.time_ns);
    block.time_option(ISB_STARTTIME, statistics.start_ns);
    block.time_option(ISB_ENDTIME, statistics.time_ns);
    for (code, value) in [
        (ISB_IFRECV, statistics.received),
        (ISB_IFDROP, statistics.dropped),
        (ISB_FILTERACCEPT, statistics.received),
        (ISB_OSDROP, statistics.os_dropped),
        (ISB_USRDELIV, statistics.delivered),
    ] {
        block.option(code, &value.to_ne_bytes());
    }
    block.end(true)
}

/// What a file has of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The VLAN tag to put back behind the addresses.
    pub tag: Option<[u8; 4]>,
    /// Bytes, with the tag.
    pub caplen: u32,
    /// Bytes on the wire, with the tag.
    pub len: u32,
}

/// Bytes before a VLAN tag: two addresses.
pub const ADDRESSES: u32 = 12;
const TAG: u32 = 4;
const ETHERTYPE_VLAN: u16 = 0x8100;

impl Shape {
    /// As libpcap has it (pcap-linux.c): the tag goes back where both addresses
    /// are there, and then the snap length is applied.
    #[inline]
    pub fn of(packet: &Packet, link_type: u16, snap_length: u32) -> Self {
        let (mut caplen, mut len, mut tag) = (packet.caplen, packet.len, None);
        if packet.status & NETRING_PACKET_VLAN != 0
            && link_type == NETRING_LINKTYPE_ETHERNET
            && caplen >= ADDRESSES
        {
            let known = packet.status & NETRING_PACKET_VLAN_TPID != 0;
            let tpid = if known { packet.vlan_tpid } else { ETHERTYPE_VLAN };
            let [a, b] = tpid.to_be_bytes();
            let [c, d] = packet.vlan_tci.to_be_bytes();
            tag = Some([a, b, c, d]);
            caplen = caplen.saturating_add(TAG);
            len = len.saturating_add(TAG);
        }
        let caplen = caplen.min(snap_length);
        // A reader may take less than what is there for damage.
        Self { tag, caplen, len: len.max(caplen) }
    }
}

/// What stands before or behind a packet.
#[derive(Debug, Clone, Copy)]
pub struct Frame<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Frame<N> {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Before a packet; room for either format's.
pub type Head = Frame<28>;
/// Behind a packet: padding, flags, queue, the end of options, the length.
pub type Tail = Frame<27>;
/// The most bytes before and behind a packet, and its tag.
pub const LONGEST_AROUND: usize = 28 + 27 + 4;

/// The header of a packet in a pcap file.
#[inline]
pub fn pcap_record(packet: &Packet, shape: &Shape, microseconds: bool) -> (Head, Tail) {
    let fraction = packet.time_ns % 1_000_000_000;
    let fraction = if microseconds { fraction / 1000 } else { fraction };
    let mut head = Head { bytes: [0; 28], length: PCAP_RECORD };
    let mut at = Fill { out: &mut head.bytes, at: 0 };
    // 32 bits for the seconds: up to 2106.
    at.u32(halves(packet.time_ns / 1_000_000_000).1);
    at.u32(halves(fraction).1);
    at.u32(shape.caplen);
    at.u32(shape.len);
    (head, Tail { bytes: [0; 27], length: 0 })
}

/// What stands before and behind a packet in a pcapng file.
#[inline]
pub fn pcapng_record(packet: &Packet, shape: &Shape, interface: u32) -> (Head, Tail) {
    let padding = shape.caplen.wrapping_neg() & 3;
    let flags = direction_flags(packet);
    let options: u32 = match (flags, packet.queue) {
        (0, 0) => 0,
        (0, _) | (_, 0) => 12,
        _ => 20,
    };
    // 28 before, 4 behind.
    let length = shape.caplen.saturating_add(padding).saturating_add(options).saturating_add(32);
    let (high, low) = halves(packet.time_ns);
    let mut head = Head { bytes: [0; 28], length: 28 };
    let mut at = Fill { out: &mut head.bytes, at: 0 };
    at.u32(ENHANCED_PACKET);
    at.u32(length);
    at.u32(interface);
    at.u32(high);
    at.u32(low);
    at.u32(shape.caplen);
    at.u32(shape.len);

    let mut tail = Tail { bytes: [0; 27], length: 0 };
    let mut at = Fill { out: &mut tail.bytes, at: padding as usize };
    if flags != 0 {
        at.u16(EPB_FLAGS);
        at.u16(4);
        at.u32(flags);
    }
    if packet.queue != 0 {
        at.u16(EPB_QUEUE);
        at.u16(4);
        at.u32(packet.queue.into());
    }
    if options != 0 {
        at.u32(OPTION_END.into());
    }
    at.u32(length);
    tail.length = at.at;
    (head, tail)
}

/// epb_flags: direction in bits 0 and 1, kind of reception in bits 2 to 4.
fn direction_flags(packet: &Packet) -> u32 {
    const INBOUND: u32 = 1;
    const OUTBOUND: u32 = 2;
    const UNICAST: u32 = 1 << 2;
    const MULTICAST: u32 = 2 << 2;
    const BROADCAST: u32 = 3 << 2;
    const PROMISCUOUS: u32 = 4 << 2;
    if packet.status & NETRING_PACKET_DIRECTION == 0 {
        return 0;
    }
    match packet.direction {
        NETRING_DIRECTION_HOST => INBOUND | UNICAST,
        NETRING_DIRECTION_BROADCAST => INBOUND | BROADCAST,
        NETRING_DIRECTION_MULTICAST => INBOUND | MULTICAST,
        NETRING_DIRECTION_OTHERHOST => INBOUND | PROMISCUOUS,
        NETRING_DIRECTION_OUTGOING => OUTBOUND,
        _ => 0,
    }
}

/// The time of day as dumpcap puts it into names: 20261122202701, UTC.
pub fn name_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// The date of a day since 1970-01-01, by counting years and months.
fn date(mut days: u64) -> (u64, u64, u64) {
    const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year: u64 = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length || year == 9999 {
            break;
        }
        days = days.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let mut month: u64 = 1;
    for length in MONTHS {
        let length = if month == 2 && leap(year) { 29 } else { length };
        if days < length || month == 12 {
            break;
        }
        days = days.saturating_sub(length);
        month = month.saturating_add(1);
    }
    (year, month, days.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(caplen: u32, len: u32) -> Packet {
        Packet { caplen, len, ..Packet::ZERO }
    }

    fn tagged(caplen: u32, len: u32) -> Packet {
        Packet { status: NETRING_PACKET_VLAN, vlan_tci: 0x2064, ..packet(caplen, len) }
    }

    #[test]
    fn tags_go_back_as_libpcap_puts_them() {
        let plain = Shape::of(&packet(60, 90), 1, LONGEST_PACKET);
        assert_eq!(plain, Shape { tag: None, caplen: 60, len: 90 });
        let shape = Shape::of(&tagged(60, 90), 1, LONGEST_PACKET);
        assert_eq!(shape, Shape { tag: Some([0x81, 0, 0x20, 0x64]), caplen: 64, len: 94 });
        // The snap length cuts behind the tag; without both addresses there is none.
        assert_eq!(Shape::of(&tagged(60, 90), 1, 60).caplen, 60);
        assert_eq!(Shape::of(&tagged(12, 90), 1, 100).caplen, 16);
        assert_eq!(Shape::of(&tagged(11, 90), 1, 100), Shape { tag: None, caplen: 11, len: 90 });
        assert_eq!(Shape::of(&tagged(60, 60), 101, 100), Shape { tag: None, caplen: 60, len: 60 });
        let other = Packet {
            status: NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID,
            vlan_tpid: 0x88a8,
            ..tagged(60, 60)
        };
        assert_eq!(Shape::of(&other, 1, 100).tag, Some([0x88, 0xa8, 0x20, 0x64]));
        // Lengths that nobody sends do not wrap.
        assert_eq!(Shape::of(&tagged(u32::MAX, u32::MAX), 1, 100).caplen, 100);
        assert_eq!(Shape::of(&packet(90, 60), 1, 100).len, 90);
    }

    #[test]
    fn blocks_say_their_length_twice_and_are_whole_words() {
        let statistics = interface_statistics(3, &Statistics::default());
        assert_eq!(statistics.len(), STATISTICS);
        let name = "\u{e9}".repeat(400);
        let described = interface_description(1, 0, &name, "Linux 255.255.255");
        assert!(described.len() <= LONGEST_DESCRIPTION);
        for block in [section_header("Linux 6.1.2", "x"), statistics, described] {
            let length = (block.len() as u32).to_ne_bytes();
            assert_eq!(block.len() % 4, 0);
            assert_eq!(block[4..8], length);
            assert_eq!(block[block.len() - 4..], length);
        }
    }

    #[test]
    fn records_say_their_length_twice_and_are_whole_words() {
        for caplen in 0..9 {
            for (direction, queue) in [(9, 0), (4, 0), (9, 7), (0, 7)] {
                let packet = Packet {
                    status: NETRING_PACKET_DIRECTION,
                    direction,
                    queue,
                    time_ns: 0x0102_0304_0506_0708,
                    ..packet(caplen, caplen)
                };
                let shape = Shape::of(&packet, 1, LONGEST_PACKET);
                let (head, tail) = pcapng_record(&packet, &shape, 2);
                let length = head.bytes().len() + caplen as usize + tail.bytes().len();
                assert_eq!(length % 4, 0);
                assert_eq!(head.bytes()[4..8], (length as u32).to_ne_bytes());
                assert_eq!(tail.bytes()[tail.length - 4..], (length as u32).to_ne_bytes());
                assert_eq!(head.bytes()[12..16], 0x0102_0304_u32.to_ne_bytes());
                assert!(head.bytes().len() + tail.bytes().len() + 4 <= LONGEST_AROUND);
            }
        }
    }

    #[test]
    fn dates() {
        assert_eq!(name_time(0), "19700101000000");
        assert_eq!(name_time(951_782_399), "20000228235959");
        assert_eq!(name_time(951_782_400), "20000229000000");
        assert_eq!(name_time(1_795_379_221), "20261122202701");
        assert_eq!(name_time(4_107_542_400), "21000301000000");
        assert_eq!(&name_time(u64::MAX)[..4], "9999");
    }
}
