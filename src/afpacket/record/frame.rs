//! Frames of a TPACKET_V2 ring, rewritten into the records that every walk knows.
//!
//! The kernel writes the frame with room for the larger header (PACKET_RESERVE),
//! so nothing but headers moves:
//!
//! ```text
//! frame  +0   tp_status, tp_len, tp_snaplen, tp_mac, tp_net
//!        +16  tp_sec, tp_nsec, tp_vlan_tci, tp_vlan_tpid
//!        +32  struct sockaddr_ll
//! ```
//!
//! A frame's first word is the kernel's as long as it is 0, and a status with
//! USER once the kernel has filled it. A record's first word is the distance to
//! the next one, a multiple of 8: never 0, and never with USER set. So one look
//! at it tells a free frame, a full one and one that was handed out.

use super::*;

/// PACKET_RESERVE: the packet comes behind a record's header, at the same place
/// as in a TPACKET_V3 block (af_packet.c tpacket_rcv).
pub const RESERVE: u32 = 16;
/// From the start of a frame to its packet, with room for what else the kernel or
/// the library puts in front of that.
pub const HEADROOM: u32 = 128;

const V2_STATUS: u32 = 0;
const V2_LEN: u32 = 4;
const V2_SNAPLEN: u32 = 8;
const V2_MAC: u32 = 12;
const V2_NET: u32 = 14;
const V2_SEC: u32 = 16;
const V2_NSEC: u32 = 20;
const V2_VLAN_TCI: u32 = 24;
const V2_VLAN_TPID: u32 = 26;
const V2_SLL: u32 = 32;
const SLL: u32 = 48;

/// Whether the frame at the start of `memory` is filled and was not handed out.
pub fn is_ready(memory: &BlockMemory) -> bool {
    memory.status_word(V2_STATUS).load(Ordering::Acquire) & status::USER != 0
}

/// Gives it back to the kernel; nothing of it may be touched after.
pub fn give_back(memory: &BlockMemory) {
    memory.status_word(V2_STATUS).store(0, Ordering::Release);
}

/// Rewrites the frames of `size` bytes that `memory` consists of, all of them
/// ready. Whether the kernel says in one of them that it had to drop packets.
pub fn to_records(memory: &BlockMemory, size: u32) -> bool {
    let mut losing = false;
    let mut at = 0_u32;
    while at.checked_add(size).is_some_and(|end| end <= memory.length) {
        losing |= to_record(memory, at, size) & status::LOSING != 0;
        at = at.wrapping_add(size);
    }
    losing
}

/// What of a frame's status is a record's.
const STATUS: u32 = STATUS_FROM_RECORD & !status::VNET
    | status::USER
    | status::TS_SOFTWARE
    | status::TS_RAW_HARDWARE;

fn to_record(memory: &BlockMemory, at: u32, size: u32) -> u32 {
    let word = |field: u32| memory.get_in::<u32>(at, field);
    let half = |field: u32| memory.get_in::<u16>(at, field);
    // All of it first: the two headers overlap.
    let status = word(V2_STATUS);
    let (len, caplen) = (word(V2_LEN), word(V2_SNAPLEN));
    let (mac, net) = (half(V2_MAC), half(V2_NET));
    let (seconds, nanoseconds) = (word(V2_SEC), word(V2_NSEC));
    let (tci, tpid) = (half(V2_VLAN_TCI), half(V2_VLAN_TPID));
    let address = memory.get_in::<[u32; 5]>(at, V2_SLL);

    memory.put_in(at, TP_SEC, seconds);
    memory.put_in(at, TP_NSEC, nanoseconds);
    memory.put_in(at, TP_SNAPLEN, caplen);
    memory.put_in(at, TP_LEN, len);
    memory.put_in(at, TP_STATUS, status & STATUS);
    memory.put_in(at, TP_MAC, mac);
    memory.put_in(at, TP_NET, net);
    // The mechanism has no flow hash.
    memory.put_in(at, TP_RXHASH, 0_u32);
    memory.put_in(at, TP_VLAN_TCI, u32::from(tci));
    memory.put_in(at, TP_VLAN_TPID, tpid);
    memory.put_in(at, TP_PADDING, [0_u16; 5]);
    memory.put_in(at, SLL, address);
    memory.put_in(at, TP_NEXT_OFFSET, size);
    status
}

impl BlockMemory {
    /// A field of the frame at `at`.
    fn get_in<T: Copy>(&self, at: u32, field: u32) -> T {
        // SAFETY: `to_records` has checked that the frame lies in the memory; it
        // holds both headers (config.rs MIN_FRAME_SIZE), and its start is aligned
        // to 16, so that every field's offset keeps its own alignment.
        unsafe { self.get(at.wrapping_add(field)) }
    }

    /// Writes a field of the frame at `at`.
    fn put_in<T: Copy>(&self, at: u32, field: u32, value: T) {
        // SAFETY: as above.
        let to = unsafe { self.base.add(at.wrapping_add(field) as usize) };
        // SAFETY: as above; volatile because other processes may look.
        unsafe { to.cast::<T>().write_volatile(value) };
    }
}
