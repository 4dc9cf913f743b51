//! Records as the kernel writes them, for packets from elsewhere.

use super::*;
use crate::packet::{
    NETRING_LINKTYPE_ETHERNET, NETRING_PACKET_DIRECTION, NETRING_PACKET_NET_OFFSET,
    NETRING_PACKET_PROTOCOL,
};

/// Where the packet starts in its record: as the kernel has it, so that what
/// follows an Ethernet header is aligned to 16 bytes.
const ETHERNET_MAC: u16 = 82;
/// The same without such a header.
const OTHER_MAC: u16 = 80;
/// sll_family.
const AF_PACKET: u16 = 17;
/// ARPHRD_VOID: no type that `link_type` knows.
const NO_HARDWARE: u16 = 0xffff;

/// What is known of a packet besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// Bytes on the wire.
    pub len: u32,
    /// Seconds since 1970.
    pub seconds: u32,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// LINKTYPE_ number.
    pub link_type: u16,
    /// EtherType.
    pub protocol: Option<u16>,
    /// Offset of the network header.
    pub net_offset: Option<u16>,
    /// NETRING_DIRECTION_*.
    pub direction: Option<u8>,
    /// The link-layer source address.
    pub address: [u8; 8],
    /// Bytes of it.
    pub address_length: u8,
}

/// Bytes that a block of one packet takes at most; `None`: no block is so large.
pub fn block_size_for(caplen: u32) -> Option<u32> {
    let fixed = BLOCK_HEADER.checked_add(ETHERNET_MAC.into())?;
    caplen.checked_add(fixed)?.checked_next_multiple_of(RECORD_ALIGNMENT)
}

/// A block being written.
#[derive(Debug)]
pub struct BlockWriter {
    memory: BlockMemory,
    /// Where the next record goes, a multiple of 8.
    end: u32,
    /// The last record.
    last: Option<u32>,
    count: u32,
}

impl BlockWriter {
    /// An empty block, as large as `memory` at most.
    ///
    /// # Safety
    /// Until the block is finished nobody else touches the memory.
    pub unsafe fn new(memory: BlockMemory) -> Self {
        Self { memory, end: BLOCK_HEADER, last: None, count: 0 }
    }

    /// Adds a packet; false where it has no room.
    pub fn push(&mut self, known: &Known, data: &[u8]) -> bool {
        let ethernet = known.link_type == NETRING_LINKTYPE_ETHERNET;
        let mac = if ethernet { ETHERNET_MAC } else { OTHER_MAC };
        let Some((caplen, end)) = self.room_for(mac, data.len()) else { return false };
        let at = self.end;
        if let Some(last) = self.last {
            self.put(last, TP_NEXT_OFFSET, at.wrapping_sub(last));
        }
        let unknown = |known: bool, bit: u32| if known { 0 } else { bit };
        let status = status::USER
            | status::TS_UNKNOWN
            | unknown(known.net_offset.is_some(), NETRING_PACKET_NET_OFFSET)
            | unknown(known.protocol.is_some(), NETRING_PACKET_PROTOCOL)
            | unknown(known.direction.is_some(), NETRING_PACKET_DIRECTION);
        self.put(at, TP_NEXT_OFFSET, 0_u32);
        self.put(at, TP_SEC, known.seconds);
        self.put(at, TP_NSEC, known.nanoseconds);
        self.put(at, TP_SNAPLEN, caplen);
        self.put(at, TP_LEN, known.len);
        self.put(at, TP_STATUS, status);
        self.put(at, TP_MAC, mac);
        self.put(at, TP_NET, mac.saturating_add(known.net_offset.unwrap_or(0)));
        self.put(at, TP_RXHASH, 0_u32);
        self.put(at, TP_VLAN_TCI, 0_u32);
        self.put(at, TP_VLAN_TPID, 0_u16);
        self.put(at, TP_PADDING, [0_u8; 10]);
        self.put(at, SLL_FAMILY, AF_PACKET);
        self.put(at, SLL_PROTOCOL, known.protocol.unwrap_or(0).to_be());
        self.put(at, SLL_IFINDEX, known.ifindex);
        self.put(at, SLL_HATYPE, if ethernet { arphrd::ETHER } else { NO_HARDWARE });
        self.put(at, SLL_PKTTYPE, known.direction.unwrap_or(0));
        self.put(at, SLL_HALEN, known.address_length);
        self.put(at, SLL_ADDR, known.address);
        self.copy(at.wrapping_add(mac.into()), data);
        self.last = Some(at);
        self.count = self.count.wrapping_add(1);
        self.end = end;
        true
    }

    /// The packet's length and where the record behind it starts, if both are
    /// in the block.
    fn room_for(&self, mac: u16, data: usize) -> Option<(u32, u32)> {
        let caplen = u32::try_from(data).ok()?;
        let header = u32::from(mac);
        let end = self.end.checked_add(header)?.checked_add(caplen)?;
        let end = end.checked_next_multiple_of(RECORD_ALIGNMENT)?;
        (end <= self.memory.length).then_some((caplen, end))
    }

    /// A field of the record (or of the block) at `at`.
    fn put<T: Copy>(&self, at: u32, field: u32, value: T) {
        let offset = at.wrapping_add(field) as usize;
        // SAFETY: `push` has checked that the record lies in the block, whose
        // header `new` has left room for.
        let at = unsafe { self.memory.base.add(offset) };
        // SAFETY: as above, and nobody else touches the memory; arrays of bytes
        // may lie anywhere.
        unsafe { at.cast::<T>().write_unaligned(value) };
    }

    fn copy(&self, offset: u32, data: &[u8]) {
        // SAFETY: checked by `push`.
        let to = unsafe { self.memory.base.add(offset as usize) };
        // SAFETY: `data.len()` bytes from there are in the block; a slice of
        // anyone's is not in it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
    }

    /// Bytes written.
    pub fn length(&self) -> u32 {
        self.end
    }

    /// Packets written.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Writes the header; the block is what was written, and no longer.
    pub fn finish(self, sequence: u64) -> BlockMemory {
        let stamp = |record: u32| {
            let record = self.memory.record(record).ok();
            record.map_or((0, 0), |record| (record.field(TP_SEC), record.field(TP_NSEC)))
        };
        let first = stamp(BLOCK_HEADER);
        let last = stamp(self.last.unwrap_or(BLOCK_HEADER));
        for (field, value) in [
            (BLOCK_VERSION, 1),
            (BLOCK_PRIVATE, BLOCK_HEADER),
            (BLOCK_STATUS, status::USER),
            (BLOCK_COUNT, self.count),
            (BLOCK_FIRST, BLOCK_HEADER),
            (BLOCK_LENGTH, self.end),
            (BLOCK_FIRST_TIME, first.0),
            (BLOCK_FIRST_TIME.wrapping_add(4), first.1),
            (BLOCK_LAST_TIME, last.0),
            (BLOCK_LAST_TIME.wrapping_add(4), last.1),
        ] {
            self.put(0, field, value);
        }
        self.put(0, BLOCK_SEQUENCE, sequence);
        BlockMemory { base: self.memory.base, length: self.end }
    }
}

const _: () = assert!(AF_PACKET as i32 == libc::AF_PACKET);
const _: () = assert!(STATUS_CERTAIN & STATUS_FROM_RECORD == 0);
