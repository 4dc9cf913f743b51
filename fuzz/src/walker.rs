//! Bytes as a TPACKET_V3 block. The library's walk, the inline walk in C and a
//! third one below, written from the layout alone, give the same packets and
//! end the same way; nothing outside of the block is touched, nothing in it is
//! changed; the tally counts what the walk sees and marks away only what it
//! counts; VLAN tags and vnet headers go where they should, once.

use crate::input::Input;
use crate::memory::{Guarded, Place};
use netring::afpacket::record::treat::Treatment;
use netring::afpacket::record::{BlockMemory, Position};
use netring::ffi::block::{
    netring_block, netring_block_address, netring_block_info, netring_block_read,
    netring_block_release, netring_block_rewind, netring_block_view,
};
use netring::ffi::error::{NETRING_EINVAL, NETRING_EIO};
use netring::ffi::hooks::netring_test_block;
use netring::packet::netring_packet;
use std::ffi::c_int;
use std::mem::{MaybeUninit, size_of};
use std::ptr::{NonNull, null_mut};

const LARGEST: usize = 64 << 10;
const HEADER: usize = 68;

// A block is a token to C, never looked into.
#[allow(improper_ctypes)]
unsafe extern "C" {
    fn fuzz_walk(
        block: *mut netring_block,
        each: c_int,
        out: *mut netring_packet,
        room: usize,
        damaged: *mut c_int,
    ) -> usize;
}

thread_local! {
    static MEMORY: Guarded = Guarded::new(LARGEST);
}

/// A packet with its place in the block for its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: u64,
    pub caplen: u32,
    pub len: u32,
    pub time_ns: u64,
    pub status: u32,
    pub rxhash: u32,
    pub vlan: (u16, u16),
    pub protocol: u16,
    pub net_offset: u16,
    pub ifindex: u32,
    pub link_type: u16,
    pub direction: u8,
    pub clock: u8,
    pub rest: (u16, u16, u8, u8, u16),
    pub cookie: u64,
}

pub fn seen(packet: &netring_packet, base: *mut u8) -> Seen {
    Seen {
        at: (packet.data as u64).wrapping_sub(base as u64),
        caplen: packet.caplen,
        len: packet.len,
        time_ns: packet.time_ns,
        status: packet.status,
        rxhash: packet.rxhash,
        vlan: (packet.vlan_tci, packet.vlan_tpid),
        protocol: packet.protocol,
        net_offset: packet.net_offset,
        ifindex: packet.ifindex,
        link_type: packet.link_type,
        direction: packet.direction,
        clock: packet.clock,
        rest: (packet.queue, packet.gso_size, packet.gso_type, packet.segments, packet.reserved),
        cookie: packet.cookie,
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&self, at: u64) -> u8 {
        self.0[at as usize]
    }
    fn u16(&self, at: u64) -> u16 {
        u16::from_ne_bytes(self.0[at as usize..][..2].try_into().unwrap())
    }
    fn u32(&self, at: u64) -> u32 {
        u32::from_ne_bytes(self.0[at as usize..][..4].try_into().unwrap())
    }
    fn time(&self, at: u64) -> u64 {
        u64::from(self.u32(at)) * 1_000_000_000 + u64::from(self.u32(at + 4))
    }
}

/// What linux/if_packet.h says that the block holds.
#[derive(Debug, Default)]
struct Model {
    packets: Vec<Seen>,
    damaged: bool,
    skipped: u32,
    looped: Vec<u64>,
    truncated: u32,
    /// Records whose header lies in the block.
    records: u32,
    last_ns: u64,
}

/// Offset of the first record; the block's own header holds none.
fn first(block: &[u8]) -> u32 {
    let first = Bytes(block).u32(16);
    if first < 48 { u32::MAX } else { first }
}

/// `each`: every record says its own link type; `take`: those marked away are
/// looked for, and are no packets.
fn model(block: &[u8], each: bool, take: bool) -> Model {
    let bytes = Bytes(block);
    let length = block.len() as u64;
    let mut out = Model::default();
    let (count, mut at) = (bytes.u32(12), u64::from(first(bytes.0)));
    let mut reading = true;
    for _ in 0..count {
        if at % 8 != 0 || at + HEADER as u64 > length {
            out.damaged = true;
            break;
        }
        out.records += 1;
        let (step, status) = (u64::from(bytes.u32(at)), bytes.u32(at + 20));
        let (caplen, len) = (bytes.u32(at + 12), bytes.u32(at + 16));
        let hardware = bytes.u16(at + 56);
        out.last_ns = bytes.time(at + 4);
        let looped = take && bytes.u8(at + 58) == 4 && hardware == 772;
        if status & 1 == 0 {
            out.skipped += 1;
        } else if looped {
            out.looped.push(at);
        } else {
            out.truncated += u32::from(caplen < len);
            let mac = bytes.u16(at + 24);
            let inside = at + u64::from(mac) + u64::from(caplen) <= length;
            reading &= inside;
            if reading {
                let rxhash = bytes.u32(at + 28);
                out.packets.push(Seen {
                    at: at + u64::from(mac),
                    caplen,
                    len,
                    time_ns: out.last_ns,
                    // In a record of a savefile the second group says the opposite.
                    status: (status & 0x20_01d8 | !status & 0x1c_0000)
                        | if rxhash != 0 { 0x2_0000 } else { 0 }
                        | if caplen < len { 0x1_0000 } else { 0 },
                    rxhash,
                    vlan: (bytes.u32(at + 32) as u16, bytes.u16(at + 36)),
                    protocol: u16::from_be(bytes.u16(at + 50)),
                    net_offset: bytes.u16(at + 26).wrapping_sub(mac),
                    ifindex: bytes.u32(at + 52),
                    link_type: if each { link_type(hardware) } else { 1 },
                    direction: bytes.u8(at + 58),
                    clock: match status {
                        status if status & 1 << 31 != 0 => 3,
                        status if status & 1 << 29 != 0 => 1,
                        status if status & 1 << 30 != 0 => 0,
                        _ => 2,
                    },
                    rest: (0, bytes.u16(at + 42), bytes.u8(at + 39), 0, 0),
                    cookie: at,
                });
            }
        }
        // No record is shorter; the last one's step means nothing.
        at = if step < HEADER as u64 { u64::MAX / 2 } else { at + step };
    }
    out.damaged |= !reading;
    out
}

fn link_type(hardware: u16) -> u16 {
    match hardware {
        1 | 772 => 1,
        512 | 519 | 768 | 769 | 776 | 778 | 823 | 65534 => 101,
        280 => 227,
        801 => 105,
        802 => 119,
        803 => 127,
        824 => 253,
        _ => 0xffff,
    }
}

/// The library's walk over the whole block, `room` packets at a time.
pub fn read(
    block: *mut netring_block,
    base: *mut u8,
    stride: usize,
    room: usize,
) -> (Vec<Seen>, bool) {
    let mut array = vec![0x5a5a_5a5a_5a5a_5a5a_u64; stride / 8 * room + 1];
    let mut out = Vec::new();
    loop {
        // SAFETY: room for as many elements.
        let rc = unsafe { netring_block_read(block, array.as_mut_ptr().cast(), stride, room) };
        assert_eq!(array.last(), Some(&0x5a5a_5a5a_5a5a_5a5a), "written behind the array");
        if rc <= 0 {
            assert!(rc == 0 || rc == NETRING_EIO, "netring_block_read: {rc}");
            // SAFETY: as above.
            let again =
                unsafe { netring_block_read(block, array.as_mut_ptr().cast(), stride, room) };
            assert_eq!(again, rc, "the end is no end");
            return (out, rc == NETRING_EIO);
        }
        assert!(rc as usize <= room);
        for index in 0..rc as usize {
            let element = &array[index * stride / 8..][..stride / 8];
            assert!(element[8..].iter().all(|word| *word == 0), "the rest of an element");
            // SAFETY: a packet was written there.
            out.push(seen(unsafe { &*element.as_ptr().cast::<netring_packet>() }, base));
        }
        assert!(out.len() <= LARGEST / HEADER, "more packets than fit");
    }
}

/// The walk that each record's own link type needs: captures of every interface.
fn read_each(memory: BlockMemory, room: usize) -> (Vec<Seen>, bool) {
    let header = memory.header();
    let mut position = Position { offset: header.first, left: header.count };
    let mut out = Vec::new();
    let mut array = vec![MaybeUninit::<netring_packet>::uninit(); room];
    loop {
        let first = array.as_mut_ptr().cast::<netring_packet>();
        let stride = size_of::<netring_packet>();
        // SAFETY: room for as many elements.
        match unsafe { memory.read(&mut position, None, first, stride, room) } {
            Ok(0) => return (out, false),
            Ok(count) => {
                // SAFETY: so many were filled.
                let filled =
                    array[..count].iter().map(|packet| unsafe { packet.assume_init_ref() });
                out.extend(filled.map(|packet| seen(packet, memory.base())));
            }
            Err(_) => return (out, true),
        }
        assert!(out.len() <= LARGEST / HEADER, "more packets than fit");
    }
}

pub fn inline(
    block: *mut netring_block,
    base: *mut u8,
    each: bool,
    most: usize,
) -> (Vec<Seen>, bool) {
    let mut array = vec![MaybeUninit::<netring_packet>::uninit(); most + 1];
    let mut damaged = 0;
    // SAFETY: a held block, room for as many elements.
    let count = unsafe {
        fuzz_walk(block, each.into(), array.as_mut_ptr().cast(), array.len(), &raw mut damaged)
    };
    // SAFETY: so many were filled.
    let filled = array[..count].iter().map(|packet| unsafe { packet.assume_init_ref() });
    (filled.map(|packet| seen(packet, base)).collect(), damaged != 0)
}

pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (how, shape, cookie) = (input.u8(), input.u8(), input.u16());
    let length = (input.0.len() & !7).min(LARGEST);
    if length < 48 {
        return;
    }
    let bytes = &input.0[..length];
    let place = if how & 1 == 0 { Place::End } else { Place::Start };
    MEMORY.with(|memory| {
        let base = memory.place(bytes, place, 0);
        walks(memory, base, bytes, how, shape, cookie);
    });
}

fn walks(guarded: &Guarded, base: *mut u8, bytes: &[u8], how: u8, shape: u8, cookie: u16) {
    let (stride, room) = (64 + 8 * usize::from(shape & 3), 1 + usize::from(shape >> 2));
    let expected = model(bytes, false, false);
    let mut block = null_mut();
    // SAFETY: the memory outlives the block.
    let rc = unsafe { netring_test_block(base.cast(), bytes.len(), &raw mut block) };
    assert_eq!(rc, 0, "netring_test_block");

    let library = read(block, base, stride, room);
    assert_eq!(library, (expected.packets.clone(), expected.damaged), "netring_block_read");
    let walked = inline(block, base, false, expected.packets.len());
    assert_eq!(walked, library, "the inline walk");
    // SAFETY: any value is checked.
    assert_eq!(unsafe { netring_block_rewind(block) }, 0);
    assert_eq!(read(block, base, 64, 64), library, "read again");

    let each = model(bytes, true, false);
    // SAFETY: aligned, and mapped while it is used.
    let memory = unsafe { BlockMemory::new(NonNull::new(base).unwrap(), bytes.len() as u32) };
    assert_eq!(read_each(memory, room), (each.packets.clone(), each.damaged), "link types, read");
    assert_eq!(
        inline(block, base, true, each.packets.len()),
        (each.packets, each.damaged),
        "link types, inline"
    );

    header(block, base, bytes, &expected);
    for packet in &library.0 {
        assert!(packet.at + u64::from(packet.caplen) <= bytes.len() as u64);
        assert_eq!(address(block, packet.cookie), Ok(bytes[packet.cookie as usize + 59].min(8)));
        let at = base.wrapping_add(packet.at as usize);
        // SAFETY: what the walk offers, it promises; a copy of it, or SIGSEGV.
        let copy = unsafe { std::slice::from_raw_parts(at, packet.caplen as usize) }.to_vec();
        assert_eq!(copy, &bytes[packet.at as usize..][..copy.len()]);
    }
    assert!(library.0.is_sorted_by(|one, next| one.cookie + 72 <= next.cookie));
    let _ = address(block, cookie.into());
    let _ = address(block, u64::from(cookie) << 32 | 48);
    assert_eq!(guarded.content(base, bytes.len()), bytes, "a walk changed the block");

    tally(guarded, memory, bytes, how);
    let _ = memory.time_at(cookie.into());
    // SAFETY: the last user.
    assert_eq!(unsafe { netring_block_release(block) }, 0);
}

fn address(block: *mut netring_block, cookie: u64) -> Result<u8, c_int> {
    let mut out = [0_u8; 8];
    // SAFETY: eight bytes.
    let rc = unsafe { netring_block_address(block, cookie, out.as_mut_ptr(), out.len()) };
    assert!((0..=8).contains(&rc) || rc == NETRING_EINVAL, "netring_block_address: {rc}");
    u8::try_from(rc).map_err(|_| rc)
}

/// Info and view are what the header says.
fn header(block: *mut netring_block, base: *mut u8, bytes: &[u8], expected: &Model) {
    let words = Bytes(bytes);
    let mut info = MaybeUninit::<netring_block_info>::uninit();
    let size = size_of::<netring_block_info>();
    // SAFETY: as large as that.
    assert_eq!(unsafe { netring_block_info(block, info.as_mut_ptr(), size) }, 0);
    // SAFETY: filled by a call that succeeded.
    let info = unsafe { info.assume_init() };
    assert_eq!((info.count, info.first_ns), (words.u32(12), words.time(32)));
    let mut view = MaybeUninit::<netring_block_view>::uninit();
    let size = size_of::<netring_block_view>();
    // SAFETY: as large as that.
    assert_eq!(unsafe { netring_block_view(block, view.as_mut_ptr(), size) }, 0);
    // SAFETY: filled by a call that succeeded.
    let view = unsafe { view.assume_init() };
    assert_eq!((view.base, view.length), (base, bytes.len() as u64));
    assert_eq!((view.first, view.count), (first(bytes), words.u32(12)));
    assert!(expected.records <= view.count);
}

/// What is done to the records.
#[derive(Debug, Clone, Copy)]
struct Done {
    take: bool,
    vnet: bool,
    vlan: bool,
}

impl Done {
    fn of(how: u8) -> Self {
        Self { take: how & 2 != 0, vnet: how & 4 != 0, vlan: how & 8 != 0 }
    }
}

/// The block afterwards, record by record, as linux/if_packet.h and the docs say.
fn treated(bytes: &[u8], done: Done) -> Vec<u8> {
    let mut block = bytes.to_vec();
    let (count, mut at) = (Bytes(&block).u32(12), u64::from(first(&block)));
    for _ in 0..count {
        if at % 8 != 0 || at + HEADER as u64 > block.len() as u64 {
            break;
        }
        let words = Bytes(&block);
        let (step, status) = (u64::from(words.u32(at)), words.u32(at + 20));
        let looped = words.u8(at + 58) == 4 && words.u16(at + 56) == 772;
        if status & 1 != 0 && done.take && looped {
            block[at as usize + 20] &= !1;
        } else if status & 1 != 0 {
            rewritten(&mut block, at as usize, done);
        }
        at = if step < HEADER as u64 { u64::MAX / 2 } else { at + step };
    }
    block
}

fn rewritten(block: &mut [u8], at: usize, done: Done) {
    let words = Bytes(block);
    let offset = at as u64;
    let (mac, caplen) = (usize::from(words.u16(offset + 24)), words.u32(offset + 12));
    if (at + mac) as u64 + u64::from(caplen) > block.len() as u64 {
        return;
    }
    let mut status = words.u32(offset + 20);
    if done.vnet && status & 1 << 21 == 0 && mac >= HEADER + 10 {
        block.copy_within(at + mac - 10..at + mac, at + 38);
        status |= 1 << 21;
    }
    let words = Bytes(block);
    let ethernet = link_type(words.u16(offset + 56)) == 1;
    if done.vlan && status & 0x10 != 0 && caplen >= 12 && ethernet && mac >= HEADER + 4 {
        let tci = words.u32(offset + 32) as u16;
        let tpid = if status & 0x40 != 0 { words.u16(offset + 36) } else { 0x8100 };
        let len = words.u32(offset + 16).saturating_add(4);
        let (start, hdr_len) = (words.u16(offset + 44), words.u16(offset + 40));
        let (needs_csum, gso) = (words.u8(offset + 38) & 1 != 0, words.u8(offset + 39) != 0);
        block.copy_within(at + mac..at + mac + 12, at + mac - 4);
        block[at + mac + 8..][..2].copy_from_slice(&tpid.to_be_bytes());
        block[at + mac + 10..][..2].copy_from_slice(&tci.to_be_bytes());
        let mut put = |field: usize, value: &[u8]| {
            block[at + field..][..value.len()].copy_from_slice(value);
        };
        put(24, &(mac as u16 - 4).to_ne_bytes());
        put(12, &(caplen + 4).to_ne_bytes());
        put(16, &len.to_ne_bytes());
        put(32, &[0; 6]);
        if status & 1 << 21 != 0 {
            if needs_csum {
                put(44, &start.saturating_add(4).to_ne_bytes());
            }
            if gso {
                put(40, &hdr_len.saturating_add(4).to_ne_bytes());
            }
        }
        status &= !0x50;
    }
    block[at + 20..][..4].copy_from_slice(&status.to_ne_bytes());
}

fn tally(guarded: &Guarded, memory: BlockMemory, bytes: &[u8], how: u8) {
    let done = Done::of(how);
    let treatment = Treatment {
        drop_looped: done.take,
        keep_vnet: done.vnet,
        restore_vlan: done.vlan,
        ..Treatment::default()
    };
    let rewrites = done.vnet || done.vlan;
    let header = memory.header();
    let start = Position { offset: header.first, left: header.count };
    let mut position = start;
    let (tally, last_ns) = memory.treat(&mut position, &treatment);
    // A hostile packet may lie over the records behind it, and change them.
    if !rewrites {
        let expected = model(bytes, false, done.take);
        assert_eq!(
            (tally.skipped, tally.looped as usize, tally.truncated, last_ns),
            (expected.skipped, expected.looped.len(), expected.truncated, expected.last_ns),
            "tally"
        );
        assert_eq!(position.left, header.count - expected.records, "where the tally ended");
    }
    let after = treated(bytes, done);
    assert_eq!(guarded.content(memory.base(), bytes.len()), after, "what the pass writes");
    let rest = model(&after, true, false);
    assert_eq!(read_each(memory, 64), (rest.packets, rest.damaged), "after the pass");
    memory.treat(&mut { start }, &treatment);
    assert_eq!(guarded.content(memory.base(), bytes.len()), after, "a second pass");
}
