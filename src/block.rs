//! The block: received packets handed to user space together, until released.

use crate::afpacket::record::rewrite::Vnet;
use crate::afpacket::record::{BlockMemory, Corrupt, Position};
use crate::afpacket::ring::Ring;
use crate::error::{Error, Kind, Result};
use crate::packet::Packet;
use crate::savefile::reader::Hold;
use crate::sys::file::Bytes;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[allow(unsafe_code)]
mod packets;

use packets::Packets;
pub use packets::{Pieces, STRIDE, Segments};

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
    /// Frames of a UMEM.
    Frames(Box<dyn FrameOwner>),
    /// Memory of the caller, who keeps it.
    Memory,
}

/// Who takes the frames of a block of AF_XDP back. Called once a block.
pub trait FrameOwner: Debug + Send + Sync {
    /// Whether they are this process's.
    fn is_ours(&self) -> bool;
    /// The block's last user has released it: its frames ([`Block::packets`]) are
    /// free. On any thread.
    fn give_back(&self, block: &Block);
    /// What it is, for who made it.
    fn as_any(&self) -> &dyn std::any::Any;
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

/// How the packets lie in a block's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Records of TPACKET_V3: each says how far the next one is.
    Records,
    /// An array of packets, which lie elsewhere.
    Packets,
}

/// Where a walk finds the packets.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// How they lie.
    pub layout: Layout,
    /// The first byte.
    pub base: *mut u8,
    /// Bytes.
    pub length: u32,
    /// Where a walk starts.
    pub start: Position,
}

#[derive(Debug)]
enum Content {
    Records {
        memory: BlockMemory,
        /// Of one interface; else each record says.
        link_type: Option<u16>,
        /// Offset of the first one.
        first: u32,
    },
    Packets(Packets),
}

/// A block in the hands of user space.
#[derive(Debug)]
pub struct Block {
    content: Content,
    info: BlockInfo,
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
        Self::with(Content::Records { memory, link_type, first }, info, owner)
    }

    /// A block of packets; the cookie of each is its number. Their `segments` is set
    /// here, and the count of `info`.
    ///
    /// # Safety
    /// Each packet's `caplen` bytes at `data`, and its segments, are readable and
    /// writable until [`give_back`](Self::give_back).
    #[allow(unsafe_code)]
    pub unsafe fn of_packets(
        packets: Vec<Packet>,
        segments: Segments,
        info: BlockInfo,
        owner: Owner,
    ) -> Self {
        // SAFETY: the caller's promise.
        let packets = unsafe { Packets::new(packets, segments) };
        let info = BlockInfo { count: packets.count(), ..info };
        Self::with(Content::Packets(packets), info, owner)
    }

    fn with(content: Content, info: BlockInfo, owner: Owner) -> Self {
        let position = AtomicU64::new(0);
        let block = Self { content, info, position, users: AtomicU32::new(1), owner };
        block.rewind();
        block
    }

    /// The packets of a block that was made of them; of others none.
    pub fn packets(&self) -> &[Packet] {
        match &self.content {
            Content::Records { .. } => &[],
            Content::Packets(packets) => packets.all(),
        }
    }

    /// Where they are, for walks of others.
    pub fn view(&self) -> View {
        let start = self.start();
        match &self.content {
            Content::Records { memory, .. } => View {
                layout: Layout::Records,
                base: memory.base(),
                length: memory.length(),
                start,
            },
            Content::Packets(packets) => View {
                layout: Layout::Packets,
                base: packets.all().as_ptr().cast_mut().cast(),
                length: packets.count().saturating_mul(STRIDE),
                start,
            },
        }
    }

    /// Count, sequence, times, flags.
    pub fn info(&self) -> BlockInfo {
        self.info
    }

    /// The link type of all of its packets; `None`: each says.
    pub fn link_type(&self) -> Option<u16> {
        match &self.content {
            Content::Records { link_type, .. } => *link_type,
            Content::Packets(_) => None,
        }
    }

    /// Where a walk starts.
    pub fn start(&self) -> Position {
        let offset = match &self.content {
            Content::Records { first, .. } => *first,
            Content::Packets(_) => 0,
        };
        Position { offset, left: self.info.count }
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
        match &self.content {
            Content::Records { memory, link_type, .. } => {
                let mut position = unpack(self.position.load(Ordering::Relaxed));
                // SAFETY: the caller's promise.
                let filled = unsafe { memory.read(&mut position, *link_type, out, stride, room) };
                self.position.store(pack(position), Ordering::Relaxed);
                filled.map_err(|corrupt| self.corrupt(corrupt, *memory))
            }
            Content::Packets(packets) => {
                let mut position = unpack(self.position.load(Ordering::Relaxed));
                // SAFETY: as above.
                let filled = unsafe { packets.read(&mut position, out, stride, room) };
                self.position.store(pack(position), Ordering::Relaxed);
                Ok(filled)
            }
        }
    }

    /// Fills the next packets of a walk with a place of its own (the first is
    /// [`start`](Self::start)); 0 at the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[allow(unsafe_code)]
    pub fn walk(&self, position: &mut Position, out: &mut [Packet]) -> Result<usize> {
        let (to, room) = (out.as_mut_ptr(), out.len());
        let size = size_of::<Packet>();
        match &self.content {
            Content::Records { memory, link_type, .. } => {
                // SAFETY: `out` has room for that many packets, one after the other.
                unsafe { memory.read(position, *link_type, to, size, room) }
                    .map_err(|corrupt| self.corrupt(corrupt, *memory))
            }
            // SAFETY: as above.
            Content::Packets(packets) => Ok(unsafe { packets.read(position, to, size, room) }),
        }
    }

    /// The bytes of a packet of this block, which its reader may have cut; none of
    /// another's.
    #[allow(unsafe_code)]
    pub fn bytes(&self, packet: &Packet) -> Pieces<'_> {
        let memory = match &self.content {
            Content::Records { memory, .. } => *memory,
            Content::Packets(packets) => return packets.bytes(packet),
        };
        let base = memory.base();
        let offset = packet.data.addr().wrapping_sub(base.addr());
        let length = memory.length() as usize;
        let inside = offset <= length && packet.caplen as usize <= length - offset;
        let (at, count) = if inside { (packet.data, packet.caplen as usize) } else { (base, 0) };
        // SAFETY: inside the block, which is mapped until its last release.
        Pieces::one(unsafe { Bytes::new(at, count) })
    }

    /// Gives all pieces of the packet with this cookie, in order: one, but for
    /// packets of several frames.
    ///
    /// # Errors
    /// As [`address`](Self::address).
    pub fn segments(&self, cookie: u64, mut each: impl FnMut(*mut u8, u32)) -> Result<()> {
        match &self.content {
            Content::Records { memory, first, .. } => {
                let (data, length) = memory.packet(*first, cookie).map_err(|_| no_such(cookie))?;
                each(data, length);
            }
            Content::Packets(packets) => {
                let pieces = packets.pieces(cookie).ok_or_else(|| no_such(cookie))?;
                pieces.for_each(|(data, length)| each(data, length));
            }
        }
        Ok(())
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
        match &self.content {
            Content::Records { memory, first, .. } => memory.address(*first, cookie).ok(),
            Content::Packets(packets) => packets.address(cookie),
        }
        .ok_or_else(|| no_such(cookie))
    }

    /// The vnet header of the packet with this cookie; `None`: it has none.
    ///
    /// # Errors
    /// As [`address`](Self::address).
    pub fn vnet(&self, cookie: u64) -> Result<Option<Vnet>> {
        match &self.content {
            Content::Records { memory, first, .. } => memory.vnet(*first, cookie).ok(),
            Content::Packets(packets) => packets.named(cookie).map(|_| None),
        }
        .ok_or_else(|| no_such(cookie))
    }

    #[cold]
    #[inline(never)]
    fn corrupt(&self, corrupt: Corrupt, memory: BlockMemory) -> Error {
        Error::new(
            Kind::Io,
            "block",
            format!(
                "block {} holds no valid record at offset {} of {}: its memory was overwritten; \
                 release it",
                self.info.sequence,
                corrupt.offset,
                memory.length()
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

    /// The owner of its frames, where it has some.
    pub fn frames(&self) -> Option<&dyn FrameOwner> {
        match &self.owner {
            Owner::Frames(owner) => Some(&**owner),
            Owner::Ring { .. } | Owner::Savefile(_) | Owner::Memory => None,
        }
    }

    /// Whether it is this process's to go on with.
    pub fn is_ours(&self) -> bool {
        match &self.owner {
            Owner::Ring { ring, .. } => ring.belongs().is_ours(),
            Owner::Frames(owner) => owner.is_ours(),
            Owner::Savefile(_) | Owner::Memory => true,
        }
    }

    /// Gives the memory back to its owner.
    pub fn give_back(&self) {
        match &self.owner {
            Owner::Ring { ring, index, count } => ring.give_back(*index, *count),
            Owner::Frames(owner) => owner.give_back(self),
            Owner::Savefile(_) | Owner::Memory => {}
        }
    }
}

fn no_such(cookie: u64) -> Error {
    Error::config("cookie", format!("cookie {cookie:#x} names no packet of this block"))
}
