//! Records of a TPACKET_V3 block: the bounds-checked walk.
//!
//! A block is memory that other processes may write, so nothing in it is
//! believed: each field is read once, volatile, and checked against the block
//! before it is used. The layout is the kernel's (linux/if_packet.h):
//!
//! ```text
//! block  +0   version, offset_to_priv
//!        +8   block_status, num_pkts, offset_to_first_pkt, blk_len
//!        +24  seq_num, ts_first_pkt, ts_last_pkt
//! record +0   tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_status
//!        +24  tp_mac, tp_net, tp_rxhash, tp_vlan_tci, tp_vlan_tpid
//!        +38  padding; the vnet header where there is one (rewrite)
//!        +48  struct sockaddr_ll
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::packet::{
    NETRING_CLOCK_COPY, NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_SOFTWARE, NETRING_CLOCK_UNKNOWN,
    NETRING_LINKTYPE_ETHERNET, NETRING_PACKET_RXHASH, NETRING_PACKET_TRUNCATED, Packet,
    STATUS_CERTAIN, STATUS_FROM_RECORD, link_type,
};
use crate::sys::packet::{arphrd, status};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// struct tpacket_block_desc up to the first record (private area: none).
pub const BLOCK_HEADER: u32 = 48;
/// struct tpacket3_hdr and struct sockaddr_ll.
const RECORD_HEADER: u32 = 68;
/// Records start at multiples of this.
const RECORD_ALIGNMENT: u32 = 8;
/// An offset at which no record can be.
const NO_RECORD: u32 = u32::MAX;
/// No step inside a block (of 2^30 bytes at most) is as long.
const LONGEST_STEP: u32 = 1 << 31;

const BLOCK_VERSION: u32 = 0;
const BLOCK_PRIVATE: u32 = 4;
const BLOCK_STATUS: u32 = 8;
const BLOCK_COUNT: u32 = 12;
const BLOCK_FIRST: u32 = 16;
const BLOCK_LENGTH: u32 = 20;
const BLOCK_SEQUENCE: u32 = 24;
const BLOCK_FIRST_TIME: u32 = 32;
const BLOCK_LAST_TIME: u32 = 40;

const TP_NEXT_OFFSET: u32 = 0;
const TP_SEC: u32 = 4;
const TP_NSEC: u32 = 8;
const TP_SNAPLEN: u32 = 12;
const TP_LEN: u32 = 16;
const TP_STATUS: u32 = 20;
const TP_MAC: u32 = 24;
const TP_NET: u32 = 26;
const TP_RXHASH: u32 = 28;
const TP_VLAN_TCI: u32 = 32;
const TP_VLAN_TPID: u32 = 36;
const TP_PADDING: u32 = 38;
/// Of the vnet header, which is kept in the padding (`rewrite`).
const TP_GSO_TYPE: u32 = 39;
const TP_GSO_SIZE: u32 = 42;
const SLL_FAMILY: u32 = 48;
const SLL_PROTOCOL: u32 = 50;
const SLL_IFINDEX: u32 = 52;
const SLL_HATYPE: u32 = 56;
const SLL_PKTTYPE: u32 = 58;
const SLL_HALEN: u32 = 59;
const SLL_ADDR: u32 = 60;

/// Where the memory of a block lies.
#[derive(Debug, Clone, Copy)]
pub struct BlockMemory {
    base: NonNull<u8>,
    length: u32,
}

// SAFETY: an address and a length; whoever made it promised that the memory
// stays mapped as long as it is used, on whatever thread.
unsafe impl Send for BlockMemory {}
// SAFETY: as above; all accesses are volatile or atomic.
unsafe impl Sync for BlockMemory {}

/// What a block's header says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Records, filled or not.
    pub count: u32,
    /// Offset of the first record; one at which no record can be where the
    /// block's own header is said to be one.
    pub first: u32,
    /// The kernel's sequence number of the block.
    pub sequence: u64,
    /// When the block was opened: not the first packet's time
    /// (af_packet.c prb_open_block).
    pub opened_ns: u64,
    /// The last packet's time, once the block is closed.
    pub last_ns: u64,
}

/// A place in a walk: the offset of the next record and how many are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Offset of the next record in the block.
    pub offset: u32,
    /// Records left, the next one included.
    pub left: u32,
}

/// The walk met a record that no kernel writes; the offset tells where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    /// Offset of the record in the block.
    pub offset: u32,
}

impl BlockMemory {
    /// The block of `length` bytes at `base`.
    ///
    /// # Safety
    /// The memory is readable and writable, aligned to 8 bytes, and stays so
    /// while the value or a copy of it is used.
    pub unsafe fn new(base: NonNull<u8>, length: u32) -> Self {
        Self { base, length }
    }

    /// The first byte.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// One aligned integer of the block.
    ///
    /// # Safety
    /// `offset` is a multiple of T's alignment and `offset + size_of::<T>()` is
    /// at most the block's length.
    #[inline(always)]
    unsafe fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: inside the block by the caller's promise.
        let at = unsafe { self.base.as_ptr().add(offset as usize) };
        // SAFETY: mapped, aligned; volatile because other processes may write it.
        unsafe { at.cast::<T>().read_volatile() }
    }

    fn status_word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: callers pass the block's status or a checked record's, inside the block.
        let at = unsafe { self.base.as_ptr().add(offset as usize) };
        // SAFETY: mapped and aligned to 4; atomics may be shared with the kernel.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// The block's status, with everything the kernel wrote before it
    /// (af_packet.c prb_flush_block: data, smp_wmb, status).
    pub fn status(&self) -> u32 {
        self.status_word(BLOCK_STATUS).load(Ordering::Acquire)
    }

    /// Gives the block back to the kernel; nothing of it may be touched after.
    pub fn give_back(&self) {
        self.status_word(BLOCK_STATUS).store(0, Ordering::Release);
    }

    /// The header.
    pub fn header(&self) -> BlockHeader {
        // SAFETY: inside the 48 bytes every block has, aligned.
        let count = unsafe { self.get::<u32>(BLOCK_COUNT) };
        // SAFETY: as above.
        let first = unsafe { self.get::<u32>(BLOCK_FIRST) };
        // SAFETY: as above.
        let sequence = unsafe { self.get::<u64>(BLOCK_SEQUENCE) };
        // Here once, instead of at each record: no step leads back.
        let first = if first < BLOCK_HEADER { NO_RECORD } else { first };
        BlockHeader {
            count,
            first,
            sequence,
            opened_ns: self.stamp(BLOCK_FIRST_TIME),
            last_ns: self.stamp(BLOCK_LAST_TIME),
        }
    }

    fn stamp(&self, offset: u32) -> u64 {
        // SAFETY: both stamps lie in the block's header, aligned.
        let seconds = unsafe { self.get::<u32>(offset) };
        // SAFETY: as above.
        let nanoseconds = unsafe { self.get::<u32>(offset.wrapping_add(4)) };
        time(seconds, nanoseconds)
    }

    /// A record whose header lies in the block.
    #[inline(always)]
    fn record(&self, offset: u32) -> Result<Record, Corrupt> {
        let end = u64::from(offset).wrapping_add(RECORD_HEADER.into());
        if offset % RECORD_ALIGNMENT != 0 || end > self.length.into() {
            return Err(Corrupt { offset });
        }
        // SAFETY: inside the block.
        let at = unsafe { self.base.add(offset as usize) };
        Ok(Record { at, offset })
    }

    /// Steps to the next filled record; `None` at the end.
    ///
    /// # Errors
    /// A record that no kernel writes ends the walk.
    #[inline(always)]
    fn next(&self, position: &mut Position) -> Result<Option<Filled>, Corrupt> {
        while position.left != 0 {
            let record = self.record(position.offset)?;
            let status = record.status();
            // A slot the kernel counted and never filled: it sets USER only when
            // done, and the rest may be stale (af_packet.c tpacket_rcv,
            // drop_n_account).
            if status & status::USER == 0 {
                record.step(position);
                continue;
            }
            let filled = record.filled(status, self.length)?;
            record.step(position);
            return Ok(Some(filled));
        }
        Ok(None)
    }

    /// Fills up to `room` packets at `out`, `stride` bytes apart; returns how
    /// many.
    ///
    /// # Errors
    /// As [`next`](Self::next), when not even one packet came before it.
    ///
    /// # Safety
    /// `out` has room for `room` elements of `stride` bytes; `stride` is at
    /// least the size of a [`Packet`] and a multiple of 8.
    #[inline(always)]
    pub unsafe fn read(
        &self,
        position: &mut Position,
        link_type: Option<u16>,
        out: *mut Packet,
        stride: usize,
        room: usize,
    ) -> Result<usize, Corrupt> {
        match link_type {
            // SAFETY: the caller's promise.
            Some(common) => unsafe { self.fill(position, |_| common, out, stride, room) },
            // SAFETY: as above.
            None => unsafe { self.fill(position, Record::link_type, out, stride, room) },
        }
    }

    /// [`read`](Self::read), for each way to know the link type.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn fill(
        &self,
        position: &mut Position,
        link_type: impl Fn(&Record) -> u16,
        out: *mut Packet,
        stride: usize,
        room: usize,
    ) -> Result<usize, Corrupt> {
        let mut at = out;
        let mut left = room;
        while left != 0 {
            let record = match self.next(position) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                // What came before it is handed out; the next call reports it.
                Err(_) if left < room => break,
                Err(corrupt) => return Err(corrupt),
            };
            // SAFETY: `at` is the next element of the caller's array.
            unsafe { at.write(Packet::ZERO) };
            // SAFETY: as above, and just written.
            let packet = unsafe { &mut *at };
            record.fill(packet);
            packet.link_type = link_type(&record.record);
            // SAFETY: at most one past the last element.
            at = unsafe { at.byte_add(stride) };
            left = left.wrapping_sub(1);
        }
        Ok(room.wrapping_sub(left))
    }

    /// The time of the record at `offset`, 0 where there is none.
    pub fn time_at(&self, offset: u32) -> u64 {
        self.record(offset).map_or(0, |record| record.time_ns())
    }

    /// The link-layer source address of the record a cookie names; the block's
    /// first one is at `first`.
    ///
    /// # Errors
    /// The cookie names no record of this block.
    pub fn address(&self, first: u32, cookie: u64) -> Result<([u8; 8], usize), Corrupt> {
        let record = self.named(first, cookie)?;
        let length = record.get::<u8>(SLL_HALEN);
        Ok((record.get(SLL_ADDR), usize::from(length).min(8)))
    }

    /// Where the packet a cookie names is, and how many bytes of it.
    ///
    /// # Errors
    /// As [`address`](Self::address).
    pub fn packet(&self, first: u32, cookie: u64) -> Result<(*mut u8, u32), Corrupt> {
        let record = self.named(first, cookie)?;
        let status = record.status();
        if status & status::USER == 0 {
            return Err(Corrupt { offset: record.offset });
        }
        let filled = record.filled(status, self.length)?;
        Ok((record.at.as_ptr().wrapping_add(usize::from(filled.mac)), filled.caplen))
    }

    /// The record a cookie names, the first one or behind it.
    fn named(&self, first: u32, cookie: u64) -> Result<Record, Corrupt> {
        let offset = u32::try_from(cookie).map_err(|_| Corrupt { offset: u32::MAX })?;
        if offset < first {
            return Err(Corrupt { offset });
        }
        self.record(offset)
    }
}

/// A record whose header lies in its block.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// Where it lies: fields are then at constant distances.
    at: NonNull<u8>,
    offset: u32,
}

/// A record the kernel filled, whose packet lies in the block; what was
/// checked is kept, since the memory may change under a second read.
#[derive(Debug, Clone, Copy)]
struct Filled {
    record: Record,
    status: u32,
    mac: u16,
    caplen: u32,
}

impl Record {
    #[inline(always)]
    fn get<T: Copy>(&self, field: u32) -> T {
        // SAFETY: `record` has checked that the header lies in the block.
        let at = unsafe { self.at.add(field as usize) };
        // SAFETY: as above; the header is aligned to 8, and every field's offset
        // keeps its own alignment; volatile because other processes may write it.
        unsafe { at.cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn field(&self, field: u32) -> u32 {
        self.get(field)
    }

    #[inline(always)]
    fn status(&self) -> u32 {
        self.field(TP_STATUS)
    }

    #[inline(always)]
    fn time_ns(&self) -> u64 {
        time(self.field(TP_SEC), self.field(TP_NSEC))
    }

    /// The record with its packet, which must lie in the block of `length`
    /// bytes.
    #[inline(always)]
    fn filled(self, status: u32, length: u32) -> Result<Filled, Corrupt> {
        let mac = self.get::<u16>(TP_MAC);
        let caplen = self.field(TP_SNAPLEN);
        let end =
            u64::from(self.offset).wrapping_add(u64::from(mac)).wrapping_add(u64::from(caplen));
        if end > u64::from(length) {
            return Err(Corrupt { offset: self.offset });
        }
        Ok(Filled { record: self, status, mac, caplen })
    }

    /// Moves a walk behind this record. The last record's offset to the next is
    /// 0 (af_packet.c prb_close_block), so only num_pkts says where a walk ends.
    #[inline(always)]
    fn step(&self, position: &mut Position) {
        position.left = position.left.wrapping_sub(1);
        let next = self.field(TP_NEXT_OFFSET);
        // In one go: less than a header, and so much that the sum could wrap.
        position.offset = if next.wrapping_sub(RECORD_HEADER) < LONGEST_STEP {
            self.offset.wrapping_add(next)
        } else {
            // A walk that goes on from here ends with an error.
            NO_RECORD
        };
    }

    /// By the hardware type of its interface.
    fn link_type(&self) -> u16 {
        link_type(self.get::<u16>(SLL_HATYPE))
    }
}

impl Filled {
    /// Fills all of a zeroed packet but its link type. Field by field: volatile
    /// reads keep their order, so a value built first would need a register for
    /// every field at once.
    #[inline(always)]
    fn fill(&self, packet: &mut Packet) {
        let record = self.record;
        // Inside the block: `filled` has checked mac and caplen.
        packet.data = record.at.as_ptr().wrapping_add(usize::from(self.mac));
        packet.cookie = record.offset.into();
        packet.caplen = self.caplen;
        let len = record.field(TP_LEN);
        packet.len = len;
        packet.time_ns = record.time_ns();
        // 0 without the feature, and never the hash of a flow (flow_dissector.c).
        let rxhash = record.field(TP_RXHASH);
        packet.rxhash = rxhash;
        let valid = STATUS_CERTAIN
            | if rxhash != 0 { NETRING_PACKET_RXHASH } else { 0 }
            | if self.caplen < len { NETRING_PACKET_TRUNCATED } else { 0 };
        // A record of a savefile has a bit for each that is not valid.
        packet.status = self.status & (STATUS_FROM_RECORD | STATUS_CERTAIN) ^ valid;
        packet.clock = clock(self.status);
        // The kernel's field is 32 bits wide for a 16-bit value.
        packet.vlan_tci = record.get::<u16>(TP_VLAN_TCI.wrapping_add(LOW_HALF));
        packet.vlan_tpid = record.get::<u16>(TP_VLAN_TPID);
        packet.protocol = u16::from_be(record.get::<u16>(SLL_PROTOCOL));
        packet.net_offset = record.get::<u16>(TP_NET).wrapping_sub(self.mac);
        packet.ifindex = record.field(SLL_IFINDEX);
        packet.direction = record.get::<u8>(SLL_PKTTYPE);
        // 0 without a vnet header.
        packet.gso_size = record.get::<u16>(TP_GSO_SIZE);
        packet.gso_type = record.get::<u8>(TP_GSO_TYPE);
    }
}

/// Offset of the low 16 bits in a 32-bit field.
const LOW_HALF: u32 = if cfg!(target_endian = "big") { 2 } else { 0 };

#[inline(always)]
fn time(seconds: u32, nanoseconds: u32) -> u64 {
    u64::from(seconds).wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds))
}

/// Without a stamp from earlier, the kernel stamps at the copy
/// (af_packet.c tpacket_rcv).
#[inline(always)]
fn clock(kernel: u32) -> u8 {
    if kernel & (status::TS_RAW_HARDWARE | status::TS_SOFTWARE | status::TS_UNKNOWN) == 0 {
        NETRING_CLOCK_COPY
    } else {
        earlier_clock(kernel)
    }
}

/// Apart, so that the common case is one branch.
#[inline(never)]
fn earlier_clock(kernel: u32) -> u8 {
    if kernel & status::TS_RAW_HARDWARE != 0 {
        NETRING_CLOCK_RAW_HARDWARE
    } else if kernel & status::TS_SOFTWARE != 0 {
        NETRING_CLOCK_SOFTWARE
    } else {
        NETRING_CLOCK_UNKNOWN
    }
}

pub mod frame;
pub mod rewrite;
pub mod treat;
pub mod write;

#[cfg(test)]
mod tests;
