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
    NETRING_CLOCK_COPY, NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_SOFTWARE,
    NETRING_DIRECTION_OUTGOING, NETRING_PACKET_DIRECTION, NETRING_PACKET_NET_OFFSET,
    NETRING_PACKET_PROTOCOL, NETRING_PACKET_RXHASH, NETRING_PACKET_TRUNCATED, Packet,
    STATUS_FROM_KERNEL, link_type,
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

const BLOCK_STATUS: u32 = 8;
const BLOCK_COUNT: u32 = 12;
const BLOCK_FIRST: u32 = 16;
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
    /// Offset of the first record.
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

/// What a pass over a block's records found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Slots the kernel never filled.
    pub skipped: u32,
    /// Outgoing packets of a loopback device, marked away by this pass.
    pub looped: u32,
    /// Packets cut.
    pub truncated: u32,
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
        let end = offset.checked_add(RECORD_HEADER);
        if offset % RECORD_ALIGNMENT != 0 || end.is_none_or(|end| end > self.length) {
            return Err(Corrupt { offset });
        }
        Ok(Record { block: *self, offset })
    }

    /// Steps to the next filled record; `None` at the end.
    ///
    /// # Errors
    /// A record that no kernel writes ends the walk.
    #[inline(always)]
    fn next(&self, position: &mut Position) -> Result<Option<Filled>, Corrupt> {
        while position.left != 0 {
            let record = self.record(position.offset)?;
            let filled = record.filled()?;
            record.step(position);
            if filled.is_some() {
                return Ok(filled);
            }
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
    pub unsafe fn read(
        &self,
        position: &mut Position,
        link_type: Option<u16>,
        out: *mut Packet,
        stride: usize,
        room: usize,
    ) -> Result<usize, Corrupt> {
        let mut at = out;
        let mut filled = 0_usize;
        while filled < room {
            let record = match self.next(position) {
                Ok(Some(filled)) => filled,
                Ok(None) => break,
                // What came before it is handed out; the next call reports it.
                Err(_) if filled > 0 => break,
                Err(corrupt) => return Err(corrupt),
            };
            // SAFETY: `at` is element `filled` of the caller's array.
            unsafe { at.write(record.packet(link_type)) };
            // SAFETY: at most one past the last element.
            at = unsafe { at.byte_add(stride) };
            filled = filled.wrapping_add(1);
        }
        Ok(filled)
    }

    /// One pass over the records of `position`: counts, and marks outgoing
    /// packets of loopback devices away where asked to. Afterwards `position`
    /// stands behind the last record.
    pub fn tally(&self, position: &mut Position, drop_looped: bool) -> (Tally, u64) {
        let mut tally = Tally::default();
        let mut last_ns = 0;
        while position.left != 0 {
            let Ok(record) = self.record(position.offset) else { break };
            if record.status() & status::USER == 0 {
                tally.skipped = tally.skipped.wrapping_add(1);
            } else if drop_looped && record.is_looped() {
                record.mark_away();
                tally.looped = tally.looped.wrapping_add(1);
            } else {
                let cut = record.field(TP_SNAPLEN) < record.field(TP_LEN);
                tally.truncated = tally.truncated.wrapping_add(u32::from(cut));
            }
            last_ns = record.time_ns();
            record.step(position);
        }
        (tally, last_ns)
    }

    /// The time of the record at `offset`, 0 where there is none.
    pub fn time_at(&self, offset: u32) -> u64 {
        self.record(offset).map_or(0, |record| record.time_ns())
    }

    /// The link-layer source address of the record a cookie names.
    ///
    /// # Errors
    /// The cookie names no record of this block.
    pub fn address(&self, cookie: u64) -> Result<([u8; 8], usize), Corrupt> {
        let offset = u32::try_from(cookie).map_err(|_| Corrupt { offset: u32::MAX })?;
        if offset < BLOCK_HEADER {
            return Err(Corrupt { offset });
        }
        self.record(offset)?;
        // SAFETY: inside the record's header; bytes need no alignment.
        let length = unsafe { self.get::<u8>(offset.wrapping_add(SLL_HALEN)) };
        // SAFETY: as above.
        let address = unsafe { self.get::<[u8; 8]>(offset.wrapping_add(SLL_ADDR)) };
        Ok((address, usize::from(length).min(8)))
    }
}

/// A record whose header lies in its block.
#[derive(Debug, Clone, Copy)]
struct Record {
    block: BlockMemory,
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
        // SAFETY: `record` has checked that the header lies in the block and is
        // aligned to 8; every field's offset keeps its own alignment.
        unsafe { self.block.get(self.offset.wrapping_add(field)) }
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

    /// The record with its packet, which must lie in the block; `None` for a
    /// slot the kernel counted and never filled: it sets USER only when done,
    /// and the rest may be stale (af_packet.c tpacket_rcv, drop_n_account).
    #[inline(always)]
    fn filled(self) -> Result<Option<Filled>, Corrupt> {
        let status = self.status();
        if status & status::USER == 0 {
            return Ok(None);
        }
        let mac = self.get::<u16>(TP_MAC);
        let caplen = self.field(TP_SNAPLEN);
        let end =
            u64::from(self.offset).wrapping_add(u64::from(mac)).wrapping_add(u64::from(caplen));
        if end > u64::from(self.block.length) {
            return Err(Corrupt { offset: self.offset });
        }
        Ok(Some(Filled { record: self, status, mac, caplen }))
    }

    /// Moves a walk behind this record. The last record's offset to the next is
    /// 0 (af_packet.c prb_close_block), so only num_pkts says where a walk ends.
    #[inline(always)]
    fn step(&self, position: &mut Position) {
        position.left = position.left.wrapping_sub(1);
        let next = self.field(TP_NEXT_OFFSET);
        position.offset = match self.offset.checked_add(next) {
            Some(offset) if next >= RECORD_HEADER => offset,
            // A walk that goes on from here ends with an error.
            _ => NO_RECORD,
        };
    }

    /// Sent by this host over a loopback device, where it arrives as well.
    fn is_looped(&self) -> bool {
        self.get::<u8>(SLL_PKTTYPE) == NETRING_DIRECTION_OUTGOING
            && self.get::<u16>(SLL_HATYPE) == arphrd::LOOPBACK
    }

    /// Clears the bit that every walk asks for, in whatever language.
    fn mark_away(&self) {
        self.block
            .status_word(self.offset.wrapping_add(TP_STATUS))
            .fetch_and(!status::USER, Ordering::Relaxed);
    }
}

impl Filled {
    #[inline(always)]
    fn packet(&self, common_link_type: Option<u16>) -> Packet {
        let record = self.record;
        let caplen = self.caplen;
        let len = record.field(TP_LEN);
        // 0 without the feature, and never the hash of a flow (flow_dissector.c).
        let rxhash = record.field(TP_RXHASH);
        let valid = NETRING_PACKET_NET_OFFSET
            | NETRING_PACKET_PROTOCOL
            | NETRING_PACKET_DIRECTION
            | if rxhash != 0 { NETRING_PACKET_RXHASH } else { 0 }
            | if caplen < len { NETRING_PACKET_TRUNCATED } else { 0 };
        Packet {
            // Inside the block: `filled` has checked mac and caplen.
            data: record
                .block
                .base
                .as_ptr()
                .wrapping_add(record.offset as usize)
                .wrapping_add(usize::from(self.mac)),
            caplen,
            len,
            time_ns: record.time_ns(),
            status: self.status & STATUS_FROM_KERNEL | valid,
            rxhash,
            // The kernel's field is 32 bits wide for a 16-bit value.
            vlan_tci: record.get::<u16>(TP_VLAN_TCI.wrapping_add(LOW_HALF)),
            vlan_tpid: record.get::<u16>(TP_VLAN_TPID),
            protocol: u16::from_be(record.get::<u16>(SLL_PROTOCOL)),
            net_offset: record.get::<u16>(TP_NET).wrapping_sub(self.mac),
            ifindex: record.field(SLL_IFINDEX),
            link_type: match common_link_type {
                Some(link_type) => link_type,
                None => link_type(record.get::<u16>(SLL_HATYPE)),
            },
            direction: record.get::<u8>(SLL_PKTTYPE),
            clock: clock(self.status),
            queue: 0,
            gso_size: 0,
            gso_type: 0,
            segments: 0,
            reserved: 0,
            cookie: u64::from(record.offset),
        }
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
    if kernel & status::TS_RAW_HARDWARE != 0 {
        NETRING_CLOCK_RAW_HARDWARE
    } else if kernel & status::TS_SOFTWARE != 0 {
        NETRING_CLOCK_SOFTWARE
    } else {
        NETRING_CLOCK_COPY
    }
}

#[cfg(test)]
mod tests;
