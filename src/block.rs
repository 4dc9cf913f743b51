//! The block: received packets handed to user space together, until released.

use crate::afpacket::record::rewrite::Vnet;
use crate::afpacket::record::{BlockMemory, Corrupt, Position};
use crate::afpacket::ring::Ring;
use crate::error::{Error, Kind, Result};
use crate::packet::Packet;
use crate::savefile::reader::Hold;
use crate::sys::file::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The kernel dropped packets since the statistics were last read.
pub const LOSING: u32 = crate::sys::packet::status::LOSING;
/// The block was handed over by the timer, not because it was full.
pub const TIMEOUT: u32 = crate::sys::packet::status::BLOCK_TIMEOUT;
/// Handed out by a flush or a stop, before the kernel closed it.
pub const PARTIAL: u32 = 0x10000;

/// Where a block's memory goes back to.
#[derive(Debug)]
pub enum Owner {
    /// A block of a packet ring.
    Ring {
        /// The ring.
        ring: Arc<Ring>,
        /// Which block of it, or which frame first.
        index: u32,
        /// How many: 1 block, or frames.
        count: u32,
    },
    /// A piece of a reader's memory, let go of when the block is dropped.
    Savefile(Hold),
    /// Memory of the caller, who keeps it.
    Memory,
}

/// What there is to know of a block besides its packets.
#[derive(Debug, Clone, Copy)]
pub struct BlockInfo {
    /// Records of the block, those marked away or never filled included.
    pub count: u32,
    /// The kernel's sequence number; of frames, the number of the first one.
    pub sequence: u64,
    /// Time of the first packet.
    pub first_ns: u64,
    /// Time of the last packet.
    pub last_ns: u64,
    /// `LOSING`, `TIMEOUT`, `PARTIAL`.
    pub flags: u32,
    /// The interface captured, 0: any.
    pub ifindex: u32,
}

/// A block in the hands of user space.
#[derive(Debug)]
pub struct Block {
    memory: BlockMemory,
    /// The link type, where one interface is captured; else each record says.
    link_type: Option<u16>,
    info: BlockInfo,
    first: u32,
    /// The cursor, offset and records left in one word: two threads that share
    /// it by mistake get packets twice, not torn offsets.
    position: AtomicU64,
    /// Users; the last release gives the block back.
    users: AtomicU32,
    owner: Owner,
}

fn pack(position: Position) -> u64 {
    u64::from(position.offset) << 32 | u64::from(position.left)
}

fn unpack(word: u64) -> Position {
    Position { offset: (word >> 32) as u32, left: word as u32 }
}

impl Block {
    /// A block of `info.count` records from offset `first` on.
    pub fn new(
        memory: BlockMemory,
        link_type: Option<u16>,
        info: BlockInfo,
        first: u32,
        owner: Owner,
    ) -> Self {
        let start = Position { offset: first, left: info.count };
        Self {
            memory,
            link_type,
            info,
            first,
            position: AtomicU64::new(pack(start)),
            users: AtomicU32::new(1),
            owner,
        }
    }

    /// Its memory.
    pub fn memory(&self) -> BlockMemory {
        self.memory
    }

    /// Count, sequence, times, flags.
    pub fn info(&self) -> BlockInfo {
        self.info
    }

    /// The link type of all of its packets; `None`: each record says.
    pub fn link_type(&self) -> Option<u16> {
        self.link_type
    }

    /// Where a walk starts.
    pub fn start(&self) -> Position {
        Position { offset: self.first, left: self.info.count }
    }

    /// Fills up to `room` packets and moves the cursor; 0 at the end.
    ///
    /// # Errors
    /// `Kind::Io`: the memory holds what no kernel writes.
    ///
    /// # Safety
    /// As [`BlockMemory::read`].
    #[allow(unsafe_code)]
    #[inline(never)]
    pub unsafe fn read(&self, out: *mut Packet, stride: usize, room: usize) -> Result<usize> {
        let mut position = unpack(self.position.load(Ordering::Relaxed));
        // SAFETY: the caller's promise.
        let filled = unsafe { self.memory.read(&mut position, self.link_type, out, stride, room) };
        self.position.store(pack(position), Ordering::Relaxed);
        filled.map_err(|corrupt| self.corrupt(corrupt))
    }

    /// Fills the next packets of a walk with a place of its own (the first is
    /// [`start`](Self::start)); 0 at the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[allow(unsafe_code)]
    pub fn walk(&self, position: &mut Position, out: &mut [Packet]) -> Result<usize> {
        let (to, room) = (out.as_mut_ptr(), out.len());
        // SAFETY: `out` has room for that many packets, one after the other.
        let filled =
            unsafe { self.memory.read(position, self.link_type, to, size_of::<Packet>(), room) };
        filled.map_err(|corrupt| self.corrupt(corrupt))
    }

    /// The bytes of a packet of this block; none of another's.
    #[allow(unsafe_code)]
    pub fn bytes(&self, packet: &Packet) -> Bytes<'_> {
        let base = self.memory.base();
        let offset = packet.data.addr().wrapping_sub(base.addr());
        let length = self.memory.length() as usize;
        let inside = offset <= length && packet.caplen as usize <= length - offset;
        let (at, count) = if inside { (packet.data, packet.caplen as usize) } else { (base, 0) };
        // SAFETY: inside the block, which is mapped until its last release.
        unsafe { Bytes::new(at, count) }
    }

    /// Moves the cursor back to the first record.
    pub fn rewind(&self) {
        self.position.store(pack(self.start()), Ordering::Relaxed);
    }

    /// The link-layer source address of the packet with this cookie.
    ///
    /// # Errors
    /// `Kind::Config`: no packet of this block has that cookie.
    pub fn address(&self, cookie: u64) -> Result<([u8; 8], usize)> {
        self.memory.address(self.first, cookie).map_err(|_| no_such(cookie))
    }

    /// The vnet header of the packet with this cookie; `None`: it has none.
    ///
    /// # Errors
    /// As [`address`](Self::address).
    pub fn vnet(&self, cookie: u64) -> Result<Option<Vnet>> {
        self.memory.vnet(self.first, cookie).map_err(|_| no_such(cookie))
    }

    #[cold]
    #[inline(never)]
    fn corrupt(&self, corrupt: Corrupt) -> Error {
        Error::new(
            Kind::Io,
            "block",
            format!(
                "block {} holds no valid record at offset {} of {}: its memory was overwritten; \
                 release it",
                self.info.sequence,
                corrupt.offset,
                self.memory.length()
            ),
        )
    }

    /// Adds users.
    ///
    /// # Errors
    /// `None`: the last one has released it already. `Some`: so many there are,
    /// and the new ones do not fit.
    pub fn retain(&self, count: u32) -> std::result::Result<(), Option<u32>> {
        self.users
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |users| {
                if users == 0 { None } else { users.checked_add(count) }
            })
            .map(|_| ())
            .map_err(|users| (users != 0).then_some(users))
    }

    /// Takes one user away; `Some(true)`: that was the last one, and the caller
    /// must [`give_back`](Self::give_back). `None`: there was none.
    pub fn release(&self) -> Option<bool> {
        self.users
            .fetch_update(Ordering::Release, Ordering::Relaxed, |users| users.checked_sub(1))
            .ok()
            .map(|before| {
                let last = before == 1;
                if last {
                    // What the other users read and wrote comes before the block goes back.
                    std::sync::atomic::fence(Ordering::Acquire);
                }
                last
            })
    }

    /// Whether it is this process's to go on with.
    pub fn is_ours(&self) -> bool {
        match &self.owner {
            Owner::Ring { ring, .. } => ring.belongs().is_ours(),
            Owner::Savefile(_) | Owner::Memory => true,
        }
    }

    /// Gives the memory back to its owner.
    pub fn give_back(&self) {
        match &self.owner {
            Owner::Ring { ring, index, count } => ring.give_back(*index, *count),
            Owner::Savefile(_) | Owner::Memory => {}
        }
    }
}

fn no_such(cookie: u64) -> Error {
    Error::config("cookie", format!("cookie {cookie:#x} names no packet of this block"))
}
