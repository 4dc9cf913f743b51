//! The walk over a block in memory: what a kernel writes, and what none does.

use super::treat::{Tally, Treatment};
use super::*;
use crate::packet::{
    NETRING_DIRECTION_OUTGOING, NETRING_PACKET_DIRECTION, NETRING_PACKET_NET_OFFSET,
    NETRING_PACKET_PROTOCOL, NETRING_PACKET_VLAN, NETRING_PACKET_VLAN_TPID,
};

fn drop_looped() -> Treatment {
    Treatment { tally: true, drop_looped: true, ..Treatment::default() }
}

fn rewrite() -> Treatment {
    Treatment { keep_vnet: true, restore_vlan: true, ..Treatment::default() }
}

/// A block laid out as the kernel does it.
struct Fake {
    // u64: blocks are aligned.
    memory: Vec<u64>,
    records: Vec<u32>,
}

const SIZE: usize = 4096;

impl Fake {
    fn new() -> Self {
        let mut fake = Self { memory: vec![0; SIZE / 8], records: Vec::new() };
        fake.put(BLOCK_STATUS, status::USER);
        fake.put(BLOCK_FIRST, BLOCK_HEADER);
        fake.put(BLOCK_SEQUENCE, 7_u64);
        fake.put(BLOCK_FIRST_TIME, 5_u32);
        fake.put(BLOCK_LAST_TIME, 6_u32);
        fake.put(BLOCK_LAST_TIME + 4, 9_u32);
        fake
    }

    fn put<T: Copy>(&mut self, offset: u32, value: T) {
        assert!(offset as usize + size_of::<T>() <= SIZE);
        let at = self.memory.as_mut_ptr().cast::<u8>().wrapping_add(offset as usize);
        // SAFETY: inside the vector, as asserted.
        unsafe { at.cast::<T>().write_unaligned(value) };
    }

    /// Where the next record goes.
    fn end(&self) -> u32 {
        let Some(last) = self.records.last() else { return BLOCK_HEADER };
        // SAFETY: no other use of the memory meanwhile.
        let caplen = unsafe { self.block().get::<u32>(last + TP_SNAPLEN) };
        (last + 82 + caplen).next_multiple_of(8)
    }

    /// Adds a packet of `bytes`, as tpacket_rcv would.
    fn packet(&mut self, bytes: &[u8], len: u32) -> u32 {
        let at = self.end();
        if let Some(last) = self.records.last().copied() {
            self.put(last + TP_NEXT_OFFSET, at - last);
        }
        self.put(at + TP_NEXT_OFFSET, 0_u32);
        self.put(at + TP_SEC, 1_700_000_000_u32);
        self.put(at + TP_NSEC, 123_u32 + at);
        self.put(at + TP_SNAPLEN, bytes.len() as u32);
        self.put(at + TP_LEN, len);
        self.put(at + TP_STATUS, status::USER);
        self.put(at + TP_MAC, 82_u16);
        self.put(at + TP_NET, 96_u16);
        self.put(at + SLL_PROTOCOL, 0x0800_u16.to_be());
        self.put(at + SLL_IFINDEX, 3_u32);
        self.put(at + SLL_HATYPE, arphrd::ETHER);
        for (n, byte) in bytes.iter().enumerate() {
            self.put(at + 82 + n as u32, *byte);
        }
        self.records.push(at);
        self.put(BLOCK_COUNT, self.records.len() as u32);
        at
    }

    fn block(&self) -> BlockMemory {
        let base = self.memory.as_ptr().cast_mut().cast();
        // SAFETY: aligned, and the vector outlives its use in these tests.
        unsafe { BlockMemory::new(NonNull::new(base).unwrap(), SIZE as u32) }
    }

    fn start(&self) -> Position {
        let header = self.block().header();
        Position { offset: header.first, left: header.count }
    }

    /// Everything a walk gives: packets as (offset, bytes), and how it ended.
    fn walk(&self) -> (Vec<(u64, Vec<u8>)>, Option<Corrupt>) {
        let mut position = self.start();
        let mut seen = Vec::new();
        loop {
            match read(self.block(), &mut position, 3) {
                Ok(packets) if packets.is_empty() => return (seen, None),
                Ok(packets) => {
                    seen.extend(packets.iter().map(|p| (p.cookie, bytes(p).to_vec())));
                }
                Err(corrupt) => return (seen, Some(corrupt)),
            }
            assert!(seen.len() <= SIZE / 68, "more packets than fit");
        }
    }
}

fn read(
    block: BlockMemory,
    position: &mut Position,
    room: usize,
) -> std::result::Result<Vec<Packet>, Corrupt> {
    let mut out = vec![std::mem::MaybeUninit::<Packet>::uninit(); room];
    let first = out.as_mut_ptr().cast();
    // SAFETY: room for `room` packets.
    let count = unsafe { block.read(position, None, first, size_of::<Packet>(), room)? };
    // SAFETY: the first `count` were filled.
    Ok(out[..count].iter().map(|packet| unsafe { packet.assume_init() }).collect())
}

fn bytes(packet: &Packet) -> &[u8] {
    // SAFETY: the walk vouches for data and caplen; the block is still there.
    unsafe { std::slice::from_raw_parts(packet.data, packet.caplen as usize) }
}

#[test]
fn what_the_kernel_writes() {
    let mut fake = Fake::new();
    let first = fake.packet(b"first", 5);
    let second = fake.packet(b"second one", 1500);
    fake.put(
        second + TP_STATUS,
        status::USER | status::VLAN_VALID | status::VLAN_TPID_VALID | status::TS_SOFTWARE,
    );
    fake.put(second + TP_VLAN_TCI, 0x2064_u32);
    fake.put(second + TP_VLAN_TPID, 0x88a8_u16);
    fake.put(second + TP_RXHASH, 77_u32);
    fake.put(second + SLL_PKTTYPE, 4_u8);
    fake.put(second + SLL_HALEN, 6_u8);
    fake.put(second + SLL_ADDR, *b"abcdefgh");

    let header = fake.block().header();
    assert_eq!((header.count, header.sequence), (2, 7));
    assert_eq!((header.opened_ns, header.last_ns), (5_000_000_000, 6_000_000_009));
    let mut position = fake.start();
    let packets = read(fake.block(), &mut position, 64).unwrap();
    assert_eq!(packets.len(), 2);
    assert_eq!((bytes(&packets[0]), bytes(&packets[1])), (&b"first"[..], &b"second one"[..]));
    assert_eq!(packets[0].time_ns, 1_700_000_000_000_000_123 + u64::from(first));
    assert_eq!((packets[0].cookie, packets[1].cookie), (first.into(), second.into()));
    let always = NETRING_PACKET_NET_OFFSET | NETRING_PACKET_PROTOCOL | NETRING_PACKET_DIRECTION;
    assert_eq!(packets[0].status, always);
    assert_eq!(
        packets[1].status,
        always | NETRING_PACKET_RXHASH | NETRING_PACKET_TRUNCATED | 0x10 | 0x40
    );
    assert_eq!((packets[0].clock, packets[1].clock), (NETRING_CLOCK_COPY, NETRING_CLOCK_SOFTWARE));
    assert_eq!((packets[1].vlan_tci, packets[1].vlan_tpid), (0x2064, 0x88a8));
    assert_eq!((packets[1].len, packets[1].caplen, packets[1].rxhash), (1500, 10, 77));
    assert_eq!((packets[1].direction, packets[1].net_offset), (4, 14));
    assert_eq!((packets[1].protocol, packets[1].ifindex, packets[1].link_type), (0x0800, 3, 1));
    assert_eq!(fake.block().address(BLOCK_HEADER, second.into()).unwrap(), (*b"abcdefgh", 6));
    assert!(read(fake.block(), &mut position, 64).unwrap().is_empty());
}

#[test]
fn an_empty_block_has_no_packets() {
    let fake = Fake::new();
    assert_eq!(fake.walk(), (Vec::new(), None));
}

#[test]
fn slots_the_kernel_never_filled_are_skipped() {
    let mut fake = Fake::new();
    fake.packet(b"one", 3);
    let stale = fake.packet(b"stale", 5);
    fake.packet(b"three", 5);
    // Stale content of an earlier lap, status 0: af_packet.c counts the slot
    // and then drops the packet.
    fake.put(stale + TP_STATUS, 0_u32);
    let (seen, end) = fake.walk();
    assert_eq!(end, None);
    assert_eq!(seen.iter().map(|p| &p.1[..]).collect::<Vec<_>>(), [&b"one"[..], b"three"]);
    // Whatever lengths a stale slot has, they are not looked at.
    fake.put(stale + TP_SNAPLEN, u32::MAX);
    assert_eq!(fake.walk().0.len(), 2);
    let mut all = fake.start();
    let (tally, _) = fake.block().treat(&mut all, &Treatment::default());
    assert_eq!(tally, Tally { skipped: 1, ..Tally::default() });
}

#[test]
fn the_walk_ends_by_count_not_by_offset() {
    let mut fake = Fake::new();
    let first = fake.packet(b"one", 3);
    fake.packet(b"two", 3);
    // The last record's offset is 0 when the block is closed, and what follows
    // in a block still open.
    assert_eq!(fake.walk().0.len(), 2);
    fake.put(BLOCK_COUNT, 1_u32);
    assert_eq!(fake.walk().0.len(), 1);
    fake.put(first + TP_NEXT_OFFSET, 0_u32);
    assert_eq!(fake.walk(), (vec![(first.into(), b"one".to_vec())], None));
}

/// Each case is let through by every check but the one it names: with that
/// check gone, the walk would leave the block or read what is no record.
#[test]
fn each_bounds_check_is_live() {
    type Spoil = fn(&mut Fake, u32, u32);
    let cases: [(&str, usize, Spoil); 11] = [
        ("next beyond the block", 1, |f, first, _| f.put(first + TP_NEXT_OFFSET, 4096_u32)),
        ("next so that the header crosses the end", 1, |f, first, _| {
            f.put(first + TP_NEXT_OFFSET, 4096 - first - 64);
        }),
        ("next that wraps around", 1, |f, first, _| f.put(first + TP_NEXT_OFFSET, u32::MAX - 7)),
        ("next that leads back", 2, |f, first, second| {
            f.put(second + TP_NEXT_OFFSET, first.wrapping_sub(second));
            f.put(BLOCK_COUNT, 3_u32);
        }),
        ("next of 0 before the last", 1, |f, first, _| f.put(first + TP_NEXT_OFFSET, 0_u32)),
        ("next inside the record", 1, |f, first, _| f.put(first + TP_NEXT_OFFSET, 64_u32)),
        ("next not aligned", 1, |f, first, second| {
            f.put(first + TP_NEXT_OFFSET, second - first + 4);
        }),
        ("packet beyond the block", 1, |f, _, second| f.put(second + TP_SNAPLEN, 4096_u32)),
        ("packet that wraps around", 1, |f, _, second| f.put(second + TP_SNAPLEN, u32::MAX - 81)),
        ("packet offset beyond the block", 1, |f, _, second| f.put(second + TP_MAC, u16::MAX)),
        ("count beyond the records", 2, |f, _, _| f.put(BLOCK_COUNT, u32::MAX)),
    ];
    for (name, before, spoil) in cases {
        let mut fake = Fake::new();
        let first = fake.packet(b"one", 3);
        let second = fake.packet(b"two", 3);
        spoil(&mut fake, first, second);
        let (seen, end) = fake.walk();
        assert_eq!(seen.len(), before, "{name}");
        assert!(end.is_some(), "{name}");
    }
    for first in [0, 4, 8, 40, 52, 4032, 4096, u32::MAX - 7] {
        let mut fake = Fake::new();
        fake.packet(b"one", 3);
        // The block's own header passes for a record of no bytes.
        fake.put(BLOCK_HEADER + TP_STATUS, status::USER);
        fake.put(BLOCK_FIRST, first);
        fake.put(BLOCK_FIRST_TIME, 0_u32);
        let (seen, end) = fake.walk();
        assert!(seen.is_empty() && end.is_some(), "first record at {first}");
        let before = fake.memory.clone();
        let mut all = fake.start();
        assert_eq!(fake.block().treat(&mut all, &drop_looped()), (Tally::default(), 0));
        assert_eq!(fake.memory, before);
    }
}

#[test]
fn the_last_byte_of_the_block_may_be_used() {
    let mut fake = Fake::new();
    let at = fake.packet(b"", 0);
    let room = SIZE as u32 - at - 82;
    fake.put(at + TP_SNAPLEN, room);
    let (seen, end) = fake.walk();
    assert_eq!((seen[0].1.len(), end), (room as usize, None));
    fake.put(at + TP_SNAPLEN, room + 1);
    assert!(fake.walk().1.is_some());
}

#[test]
fn outgoing_packets_of_lo_are_marked_away_once() {
    let mut fake = Fake::new();
    for n in 0..4_u8 {
        let at = fake.packet(&[n; 20], 20 + u32::from(n > 1));
        fake.put(at + SLL_HATYPE, if n == 3 { arphrd::ETHER } else { arphrd::LOOPBACK });
        fake.put(at + SLL_PKTTYPE, if n == 1 { 0_u8 } else { NETRING_DIRECTION_OUTGOING });
    }
    let mut all = fake.start();
    let (tally, last_ns) = fake.block().treat(&mut all, &drop_looped());
    assert_eq!(tally, Tally { looped: 2, truncated: 1, ..Tally::default() });
    assert_eq!(last_ns, fake.block().time_at(fake.records[3]));
    let kept: Vec<u64> = fake.walk().0.iter().map(|p| p.0).collect();
    assert_eq!(kept, [u64::from(fake.records[1]), fake.records[3].into()]);
}

#[test]
fn a_tally_ends_behind_the_last_record_of_an_open_block() {
    let mut fake = Fake::new();
    fake.packet(b"one", 3);
    let second = fake.packet(b"two", 3);
    // The kernel writes the offset with the record, and clears the last one's
    // when it closes the block.
    let next = fake.end();
    fake.put(second + TP_NEXT_OFFSET, next - second);
    let mut position = fake.start();
    fake.block().treat(&mut position, &Treatment::default());
    assert_eq!(position, Position { offset: next, left: 0 });
}

/// 12 bytes of addresses and what follows.
const UNTAGGED: &[u8] = b"abcdefABCDEF\x08\x00payload";

impl Fake {
    fn treat(&self, treatment: &Treatment) {
        let mut all = self.start();
        self.block().treat(&mut all, treatment);
        assert_eq!(all.left, 0);
    }

    fn packets(&self) -> Vec<Packet> {
        read(self.block(), &mut self.start(), 64).unwrap()
    }

    fn tag(&mut self, at: u32, bits: u32, tci: u16, tpid: u16) {
        self.put(at + TP_STATUS, status::USER | bits);
        self.put(at + TP_VLAN_TCI, u32::from(tci));
        self.put(at + TP_VLAN_TPID, tpid);
    }
}

#[test]
fn a_tag_is_put_back_once() {
    let both = status::VLAN_VALID | status::VLAN_TPID_VALID;
    let mut fake = Fake::new();
    let at = fake.packet(UNTAGGED, 100);
    fake.tag(at, both, 0x2064, 0x88a8);
    let plain = fake.packet(UNTAGGED, 21);
    // Without its EtherType, and a tag of 0.
    let old = fake.packet(UNTAGGED, 21);
    fake.tag(old, status::VLAN_VALID, 0, 0xdead);
    let before = fake.memory.clone();
    fake.treat(&Treatment { keep_vnet: false, ..Treatment::default() });
    assert_eq!(fake.memory, before, "only where it was asked for");
    fake.treat(&Treatment { restore_vlan: true, ..Treatment::default() });
    let once = fake.memory.clone();
    let packets = fake.packets();
    assert_eq!(bytes(&packets[0]), b"abcdefABCDEF\x88\xa8\x20\x64\x08\x00payload");
    assert_eq!((packets[0].len, packets[0].net_offset), (104, 18));
    assert_eq!(bytes(&packets[1]), UNTAGGED);
    assert_eq!(bytes(&packets[2]), b"abcdefABCDEF\x81\x00\x00\x00\x08\x00payload");
    for packet in &packets {
        assert_eq!(packet.status & (NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID), 0);
        assert_eq!((packet.vlan_tci, packet.vlan_tpid), (0, 0));
    }
    let cookies: Vec<u64> = packets.iter().map(|packet| packet.cookie).collect();
    assert_eq!(cookies, [at, plain, old].map(u64::from));
    fake.treat(&Treatment { restore_vlan: true, ..Treatment::default() });
    assert_eq!(fake.memory, once, "not again");
}

#[test]
fn a_tag_stays_beside_what_it_cannot_be_put_into() {
    type Spoil = fn(&mut Fake, u32);
    let cases: [(&str, Spoil); 5] = [
        ("no Ethernet", |f, at| f.put(at + SLL_HATYPE, arphrd::NONE)),
        ("addresses cut", |f, at| f.put(at + TP_SNAPLEN, 11_u32)),
        ("no room before the packet", |f, at| f.put(at + TP_MAC, 71_u16)),
        ("inside of the header", |f, at| f.put(at + TP_MAC, 3_u16)),
        ("beyond the block", |f, at| f.put(at + TP_SNAPLEN, 4096_u32)),
    ];
    for (name, spoil) in cases {
        let mut fake = Fake::new();
        let at = fake.packet(UNTAGGED, 100);
        fake.tag(at, status::VLAN_VALID, 5, 0);
        spoil(&mut fake, at);
        let before = fake.memory.clone();
        fake.treat(&Treatment { restore_vlan: true, ..Treatment::default() });
        assert_eq!(fake.memory, before, "{name}");
    }
    // The least that is enough.
    let mut fake = Fake::new();
    let at = fake.packet(UNTAGGED, 100);
    fake.tag(at, status::VLAN_VALID, 5, 0);
    fake.put(at + TP_SNAPLEN, 12_u32);
    fake.put(at + TP_MAC, 72_u16);
    fake.treat(&Treatment { restore_vlan: true, ..Treatment::default() });
    let [packet] = fake.packets()[..] else { panic!("one packet") };
    assert_eq!((packet.caplen, packet.len, packet.data.addr() % 8), (16, 104, 68 % 8));
}

#[test]
fn the_vnet_header_is_kept_with_the_packet() {
    let with = |bits: u32| {
        let mut fake = Fake::new();
        let at = fake.packet(UNTAGGED, 100);
        fake.tag(at, bits, 7, 0x8100);
        // needs_csum, tcpv4, hdr_len 54, gso_size 1448, csum_start 34, csum_offset 16.
        for (n, value) in [0x0101, 54, 1448, 34, 16].into_iter().enumerate() {
            fake.put::<u16>(at + 72 + 2 * n as u32, value);
        }
        fake
    };
    let fake = with(0);
    let cookie = u64::from(fake.records[0]);
    assert_eq!(fake.block().vnet(BLOCK_HEADER, cookie), Ok(None));
    assert_eq!((fake.packets()[0].gso_size, fake.packets()[0].gso_type), (0, 0));
    fake.treat(&rewrite());
    let vnet = rewrite::Vnet {
        flags: 1,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
    };
    assert_eq!(fake.block().vnet(BLOCK_HEADER, cookie), Ok(Some(vnet)));
    let packet = fake.packets()[0];
    assert_eq!((packet.gso_size, packet.gso_type), (1448, 1));
    assert_eq!(packet.status & crate::packet::NETRING_PACKET_VNET, 0x20_0000);
    assert_eq!(bytes(&packet), UNTAGGED);

    // The addresses move to where it was; it is not read from there again.
    let fake = with(status::VLAN_VALID | status::VLAN_TPID_VALID);
    fake.treat(&rewrite());
    fake.treat(&rewrite());
    let vnet = rewrite::Vnet { hdr_len: 58, csum_start: 38, ..vnet };
    assert_eq!(fake.block().vnet(BLOCK_HEADER, cookie), Ok(Some(vnet)));
    assert_eq!(bytes(&fake.packets()[0]), b"abcdefABCDEF\x81\x00\x00\x07\x08\x00payload");

    let mut fake = with(0);
    fake.put(fake.records[0] + TP_MAC, 77_u16);
    fake.treat(&rewrite());
    assert_eq!(fake.block().vnet(BLOCK_HEADER, cookie), Ok(None), "no room for one");
    assert!(fake.block().vnet(BLOCK_HEADER, cookie + 1).is_err());
}

#[test]
fn cookies_name_records_or_nothing() {
    let mut fake = Fake::new();
    let at = fake.packet(b"one", 3);
    assert!(fake.block().address(BLOCK_HEADER, at.into()).is_ok());
    for bad in [0, 8, 4, u64::from(at) + 1, 4032, 4096, u64::from(u32::MAX), u64::MAX] {
        assert!(fake.block().address(BLOCK_HEADER, bad).is_err(), "{bad}");
    }
}

/// xorshift64*: the tests need numbers, not randomness.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Overwritten blocks: the walk ends, stays inside the block, and gives only
/// packets that lie in it (`bytes` reads all of each).
#[test]
fn overwritten_memory_never_leads_out_of_the_block() {
    let seed = std::env::var("NETRING_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("NETRING_TEST_SEED={seed}");
    let mut numbers = Numbers(seed);
    let rounds = if cfg!(miri) { 200 } else { 30_000 };
    let interesting = [0, 1, 8, 48, 64, 68, 72, 82, 4028, 4088, 4096, 0x7fff_ffff, u32::MAX - 7];
    let mut ended_early = 0;
    for _ in 0..rounds {
        let mut fake = Fake::new();
        for _ in 0..numbers.next() % 8 {
            let length = numbers.next() % 200;
            fake.packet(&vec![7; length as usize], length as u32);
        }
        for _ in 0..1 + numbers.next() % 4 {
            let word = (numbers.next() as u32 % (SIZE as u32 / 8)) * 4;
            let value = match numbers.next() % 3 {
                0 => numbers.next() as u32,
                1 => interesting[numbers.next() as usize % interesting.len()],
                _ => 1 << (numbers.next() % 32),
            };
            fake.put(word, value);
        }
        ended_early += u32::from(fake.walk().1.is_some());
        for treatment in [drop_looped(), rewrite(), rewrite()] {
            let mut all = fake.start();
            fake.block().treat(&mut all, &treatment);
            fake.walk();
        }
    }
    assert!(ended_early > rounds / 100, "the mutations hit nothing: {ended_early}");
}

#[test]
fn records_from_elsewhere_read_like_the_kernels() {
    use super::write::{BlockWriter, Known, block_size_for};

    let mut memory = vec![0_u64; 64];
    let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
    // SAFETY: the vector's memory.
    let memory = unsafe { BlockMemory::new(base, 512) };
    // SAFETY: used through this alone.
    let mut writer = unsafe { BlockWriter::new(memory) };
    let known = Known {
        len: 2000,
        seconds: 7,
        nanoseconds: 8,
        ifindex: 3,
        link_type: 1,
        protocol: Some(0x0800),
        net_offset: Some(14),
        direction: Some(4),
        address: [2, 0, 0, 0, 0, 9, 0, 0],
        address_length: 6,
    };
    let bytes: Vec<u8> = (0..60).collect();
    assert!(writer.push(&known, &bytes));
    // The second: nothing is known of it.
    let bare = Known { len: 3, link_type: 147, ..Known::default() };
    assert!(writer.push(&bare, &[1, 2, 3]));
    assert!(!writer.push(&known, &[0; 400]), "no room");
    assert_eq!(writer.count(), 2);
    let length = writer.length();
    let block = writer.finish(9);
    assert_eq!(block.length(), length);
    let header = block.header();
    assert_eq!((header.count, header.first, header.sequence), (2, BLOCK_HEADER, 9));
    assert_eq!(header.opened_ns, 7_000_000_008);
    assert_eq!(block.status(), status::USER);

    let mut packets = [Packet::ZERO; 4];
    let mut position = Position { offset: header.first, left: header.count };
    // SAFETY: room for four packets.
    let count = unsafe { block.read(&mut position, None, packets.as_mut_ptr(), 64, packets.len()) };
    assert_eq!(count, Ok(2));
    let [first, second, ..] = packets;
    assert_eq!((first.caplen, first.len, first.time_ns), (60, 2000, 7_000_000_008));
    assert_eq!((first.protocol, first.net_offset, first.direction), (0x0800, 14, 4));
    assert_eq!(
        first.status,
        NETRING_PACKET_TRUNCATED
            | NETRING_PACKET_DIRECTION
            | NETRING_PACKET_NET_OFFSET
            | NETRING_PACKET_PROTOCOL
    );
    assert_eq!((first.ifindex, first.link_type, first.clock), (3, 1, NETRING_CLOCK_UNKNOWN));
    // SAFETY: inside the block.
    assert_eq!(unsafe { std::slice::from_raw_parts(first.data, 60) }, bytes);
    assert_eq!((first.data.addr() - block.base().addr() + 14) % 16, 0, "the network header");
    assert_eq!(block.address(BLOCK_HEADER, first.cookie).unwrap(), ([2, 0, 0, 0, 0, 9, 0, 0], 6));
    assert_eq!(second.status, 0);
    assert_eq!((second.protocol, second.net_offset, second.direction), (0, 0, 0));
    assert_eq!(second.link_type, crate::packet::NETRING_LINKTYPE_UNKNOWN);
    assert_eq!(block.address(BLOCK_HEADER, second.cookie).unwrap().1, 0);

    assert_eq!(block_size_for(0), Some(136));
    assert_eq!(block_size_for(u32::MAX), None);
}

/// A frame as the kernel writes it, in a ring of three.
#[test]
fn frames_become_records() {
    const FRAME: usize = 256;
    let mut memory = vec![0_u64; 3 * FRAME / 8];
    let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
    // SAFETY: the vector's bytes, aligned to 8.
    let all = unsafe { BlockMemory::new(base, 3 * FRAME as u32) };
    let at = |number: usize, offset: usize| {
        // SAFETY: inside the vector.
        unsafe { base.add(number * FRAME + offset) }
    };
    let frame_at = |number: usize| {
        // SAFETY: one of the three.
        unsafe { BlockMemory::new(at(number, 0), FRAME as u32) }
    };
    let put = |number: usize, offset: usize, bytes: &[u8]| {
        let from = NonNull::from(bytes).cast();
        // SAFETY: inside the frame.
        unsafe { at(number, offset).copy_from(from, bytes.len()) }
    };
    let fill = |number: usize, status: u32, data: &[u8]| {
        for (offset, word) in [
            (4, data.len() as u32 + 1),
            (8, data.len() as u32),
            (16, 1_700_000_000),
            (20, 123),
            (28, u32::MAX), // padding: no field of the record's
        ] {
            put(number, offset, &word.to_ne_bytes());
        }
        for (offset, half) in [(12, 82_u16), (14, 96), (24, 0x2064), (26, 0x88a8)] {
            put(number, offset, &half.to_ne_bytes());
        }
        // struct sockaddr_ll.
        put(number, 32, &17_u16.to_ne_bytes());
        put(number, 34, &0x86dd_u16.to_be_bytes());
        put(number, 36, &5_u32.to_ne_bytes());
        put(number, 40, &arphrd::ETHER.to_ne_bytes());
        put(number, 42, &[NETRING_DIRECTION_OUTGOING, 6]);
        put(number, 44, b"abcdefgh");
        put(number, 82, data);
        put(number, 0, &status.to_ne_bytes());
    };
    fill(0, status::USER | 0x50 | status::TS_SOFTWARE, b"one");
    // Bits of other meanings in a frame, or in a record, are not taken over.
    fill(1, status::USER | 2 | status::LOSING | status::TS_UNKNOWN | STATUS_CERTAIN, b"second");
    assert!(frame::is_ready(&frame_at(0)) && frame::is_ready(&frame_at(1)));
    assert!(!frame::is_ready(&frame_at(2)));
    // SAFETY: the first two.
    let two = unsafe { BlockMemory::new(base, 2 * FRAME as u32) };
    assert!(frame::to_records(&two, FRAME as u32), "one says that packets were dropped");
    assert!(!frame::is_ready(&frame_at(0)), "handed out");

    let mut position = Position { offset: 0, left: 2 };
    let packets = read(two, &mut position, 64).unwrap();
    assert_eq!(packets.len(), 2);
    let first = &packets[0];
    assert_eq!(bytes(first), b"one");
    assert_eq!((first.caplen, first.len, first.cookie), (3, 4, 0));
    assert_eq!((first.time_ns, first.clock), (1_700_000_000_000_000_123, NETRING_CLOCK_SOFTWARE));
    assert_eq!(first.status, STATUS_CERTAIN | NETRING_PACKET_TRUNCATED | 0x50);
    assert_eq!((first.vlan_tci, first.vlan_tpid, first.rxhash), (0x2064, 0x88a8, 0));
    assert_eq!((first.protocol, first.net_offset, first.ifindex), (0x86dd, 14, 5));
    assert_eq!(first.direction, NETRING_DIRECTION_OUTGOING);
    assert_eq!(two.address(0, first.cookie).unwrap(), (*b"abcdefgh", 6));
    let second = &packets[1];
    assert_eq!((bytes(second), second.cookie), (&b"second"[..], FRAME as u64));
    assert_eq!(second.status, STATUS_CERTAIN | NETRING_PACKET_TRUNCATED);
    assert_eq!(second.clock, NETRING_CLOCK_COPY);

    frame::give_back(&frame_at(0));
    // SAFETY: the first word of the vector.
    assert_eq!(unsafe { all.get::<u32>(0) }, 0, "the kernel's again");
    assert!(!frame::is_ready(&frame_at(0)));
}
