//! The UMEM: memory of frames, registered with sockets.
//!
//! A frame is a chunk of it, named by its number. Frames are handed to queues in ranges,
//! one to receive into and one to send from, which never mix; a range comes back when
//! nothing of it is in use.
//!
//! Where one UMEM is under several queues, each socket registers the same memory as its
//! own (XDP_UMEM_REG) instead of sharing a registration (XDP_SHARED_UMEM): the kernel
//! pins the pages once more for each, and queues keep modes, rings and lifetimes of
//! their own. With a shared one the second queue has the mode of the first, and the
//! first socket must outlive the others (net/xdp/xsk.c xsk_bind).

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::config::{MemoryBound, range};
use crate::error::{Error, Kind, Result};
use crate::sys::mmap::Mapping;
use crate::sys::process::{Belongs, page_size};
use crate::sys::socket::Socket;
use crate::sys::xdp::metadata;
use crate::sys::{Errno, clock, xdp};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Smallest frame (net/xdp/xdp_umem.c XDP_UMEM_MIN_CHUNK_SIZE).
pub const MIN_FRAME_SIZE: u32 = 2048;
/// Most frames.
pub const MAX_FRAME_COUNT: u32 = 1 << 24;
/// Default frames.
pub const FRAME_COUNT: u32 = 16384;
/// What the kernel keeps free in front of each received packet (XDP_PACKET_HEADROOM).
pub const KERNEL_HEADROOM: u32 = 256;
/// Bytes of a page with `flags::HUGEPAGES`.
const HUGE_PAGE: u64 = 2 << 20;
/// Room in front of each frame to be sent, with `flags::TX_METADATA`: the metadata
/// (struct xsk_tx_metadata) end where the frame begins.
const TX_METADATA_ROOM: u32 = 64;
/// struct xsk_tx_metadata.
pub const TX_METADATA: u32 = 24;
/// The address of an unaligned frame has its offset in the bits from here on
/// (XSK_UNALIGNED_BUF_OFFSET_SHIFT).
const OFFSET_SHIFT: u32 = 48;
/// A range that comes back is left alone for so long: the kernel takes a queue down some
/// time after its socket was closed (20 to 35 ms were seen), and until then its device may
/// still read what it was to send.
pub(super) const QUARANTINE: Duration = Duration::from_millis(250);

/// What a UMEM is, one bit each.
pub mod flags {
    /// In pages of 2 MiB.
    pub const HUGEPAGES: u64 = 0x1;
    /// Frames of any size.
    pub const UNALIGNED: u64 = 0x2;
    /// Room for metadata in front of frames to be sent.
    pub const TX_METADATA: u64 = 0x4;
    /// All that are known.
    pub const KNOWN: u64 = HUGEPAGES | UNALIGNED | TX_METADATA;
}

/// What a UMEM is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct UmemConfig {
    /// `flags`.
    pub flags: u64,
    /// Bytes it may take; 0: as for captures.
    pub memory_limit: u64,
    /// Bytes of a frame; 0: a page.
    pub frame_size: u32,
    /// Frames; 0: a default.
    pub frame_count: u32,
    /// Bytes in front of each received packet, besides the kernel's.
    pub headroom: u32,
}

/// How frames lie in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frame_count: u32,
    /// Bytes in front of each received packet, besides the kernel's.
    pub headroom: u32,
    /// `flags`.
    pub flags: u64,
    /// Bytes that lie together in memory: no frame goes beyond.
    page: u64,
    /// Frames of such a page.
    per_page: u32,
    /// Where frames fill their pages, as with powers of two: the bits of an offset in one.
    shift: Option<u32>,
}

impl UmemConfig {
    /// The layout asked for.
    ///
    /// # Errors
    /// `Config` naming the field, the value and the range.
    pub fn layout(&self) -> Result<Layout> {
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        let system = u32::try_from(page_size()).unwrap_or(4096);
        let frame_size = if self.frame_size == 0 { system } else { self.frame_size };
        let frame_count = if self.frame_count == 0 { FRAME_COUNT } else { self.frame_count };
        range("frame_size", frame_size, MIN_FRAME_SIZE, system, "bytes (0: a page)")?;
        let unaligned = self.flags & flags::UNALIGNED != 0;
        if !unaligned && !frame_size.is_power_of_two() {
            return Err(Error::config(
                "frame_size",
                format!(
                    "frame_size {frame_size} is no power of two: use {MIN_FRAME_SIZE} or {system}, \
                     or unaligned frames"
                ),
            ));
        }
        if frame_size % 8 != 0 {
            return Err(Error::config(
                "frame_size",
                format!("frame_size {frame_size} is not a multiple of 8"),
            ));
        }
        range("frame_count", frame_count, 1, MAX_FRAME_COUNT, "frames (0: a default)")?;
        // net/xdp/xdp_umem.c xdp_umem_reg wants room for something.
        let most = frame_size.saturating_sub(KERNEL_HEADROOM).saturating_sub(64);
        range(
            "headroom",
            self.headroom,
            0,
            most,
            "bytes, with the kernel's 256 less than a frame",
        )?;
        let page = if self.flags & flags::HUGEPAGES != 0 { HUGE_PAGE } else { system.into() };
        let per_page = page.checked_div(frame_size.into()).unwrap_or(1);
        Ok(Layout {
            frame_size,
            frame_count,
            headroom: self.headroom,
            flags: self.flags,
            page,
            per_page: u32::try_from(per_page).unwrap_or(1),
            shift: frame_size.is_power_of_two().then_some(frame_size.trailing_zeros()),
        })
    }
}

impl Layout {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of all of it, whole pages.
    pub fn memory(&self) -> u64 {
        u64::from(self.frame_count.div_ceil(self.per_page.max(1))).saturating_mul(self.page)
    }

    /// Where a frame begins.
    #[inline]
    fn offset(&self, frame: u32) -> u64 {
        // A frame of a power of two leaves no rest of a page.
        if let Some(shift) = self.shift {
            return u64::from(frame).checked_shl(shift).unwrap_or(0);
        }
        let per_page = self.per_page.max(1);
        let (page, rest) = (frame.checked_div(per_page), frame.checked_rem(per_page));
        let page = u64::from(page.unwrap_or(0)).saturating_mul(self.page);
        let rest = u64::from(rest.unwrap_or(0)).saturating_mul(self.frame_size.into());
        page.saturating_add(rest)
    }

    /// The frame that the byte at `offset` lies in, and how far from its beginning.
    #[inline]
    pub fn frame_at(&self, offset: u64) -> Option<(u32, u32)> {
        if let Some(shift) = self.shift {
            let frame = u32::try_from(offset.checked_shr(shift)?).ok()?;
            let inside = offset & u64::from(self.frame_size.wrapping_sub(1));
            return (frame < self.frame_count).then_some((frame, u32::try_from(inside).ok()?));
        }
        let page = offset.checked_div(self.page)?;
        let in_page = offset.checked_rem(self.page)?;
        let number = in_page.checked_div(self.frame_size.into())?;
        let inside = in_page.checked_rem(self.frame_size.into())?;
        let frame = page.checked_mul(self.per_page.into())?.checked_add(number)?;
        let frame = u32::try_from(frame).ok()?;
        let exists = number < self.per_page.into() && frame < self.frame_count;
        exists.then_some((frame, u32::try_from(inside).ok()?))
    }

    /// Where an address out of a ring lies.
    #[inline]
    fn of_address(&self, address: u64) -> u64 {
        if self.has(flags::UNALIGNED) {
            let base = address & (1_u64 << OFFSET_SHIFT).wrapping_sub(1);
            base.wrapping_add(address >> OFFSET_SHIFT)
        } else {
            address
        }
    }

    /// Bytes of a packet that is received into a frame.
    pub fn receive_room(&self) -> u32 {
        self.frame_size.saturating_sub(KERNEL_HEADROOM).saturating_sub(self.headroom)
    }

    /// Bytes in front of a frame to be sent.
    pub fn transmit_offset(&self) -> u32 {
        if self.has(flags::TX_METADATA) { TX_METADATA_ROOM } else { 0 }
    }

    /// Bytes of the largest frame to be sent.
    pub fn transmit_room(&self) -> u32 {
        self.frame_size.saturating_sub(self.transmit_offset())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Umem {
    memory: Mapping,
    layout: Layout,
    bound: u64,
    belongs: Belongs,
    free: Mutex<Vec<Free>>,
}

/// Frames that no queue has.
#[derive(Debug, Clone)]
struct Free {
    frames: Range<u32>,
    /// Not before then.
    from: Duration,
}

impl Umem {
    /// Memory for the frames asked for.
    ///
    /// # Errors
    /// `Config`; `Mmap` with ENOMEM: more than the bound, or no huge pages.
    pub fn new(config: &UmemConfig) -> Result<Self> {
        let layout = config.layout()?;
        let bound = MemoryBound::now(config.memory_limit);
        if layout.memory() > bound.bytes {
            return Err(Error::new(
                Kind::Mmap,
                bound.bound.option(),
                format!(
                    "frame memory refused: {} frames of {} bytes take {} bytes, more than {} ({} \
                     bytes); {}",
                    layout.frame_count,
                    layout.frame_size,
                    layout.memory(),
                    bound.bound.words(),
                    bound.bytes,
                    bound.bound.remedy("have fewer or smaller frames"),
                ),
            )
            .with_os(libc::ENOMEM));
        }
        let length = usize::try_from(layout.memory()).unwrap_or(usize::MAX);
        let huge = layout.has(flags::HUGEPAGES);
        let memory = if huge { Mapping::huge(length) } else { Mapping::anonymous(length) };
        let memory = memory.map_err(|errno| no_memory(errno, &layout))?;
        // The kernel has these pages by number. After a fork the parent's next write
        // would move it to a copy that the kernel knows nothing of.
        let _ = memory.advise(libc::MADV_DONTFORK);
        let all = Free { frames: 0..layout.frame_count, from: Duration::ZERO };
        Ok(Self {
            memory,
            layout,
            bound: bound.bytes,
            belongs: Belongs::here(),
            free: Mutex::new(vec![all]),
        })
    }

    /// How frames lie in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes it could have taken.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether it is this process's to go on with.
    pub fn is_ours(&self) -> bool {
        self.belongs.is_ours()
    }

    /// After a system call, whose signals may have forked: a child has neither frames nor rings.
    ///
    /// # Errors
    /// `BadHandle`: this is a child.
    pub fn check_ours(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(Error::new(Kind::BadHandle, "queue", "it was opened before a fork"))
    }

    /// Frames that no queue has, those among them that wait for the kernel to forget.
    pub fn free(&self) -> u32 {
        self.free.lock().iter().fold(0, |sum: u32, free| {
            sum.saturating_add(free.frames.end.saturating_sub(free.frames.start))
        })
    }

    /// The address of a frame, for a ring.
    pub(super) fn address(&self, frame: u32) -> u64 {
        self.layout.offset(frame)
    }

    /// Where an address out of a ring lies.
    #[inline]
    pub(super) fn offset(&self, address: u64) -> u64 {
        self.layout.of_address(address)
    }

    /// The byte at an offset that a frame was found at.
    #[inline]
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        self.memory.base().as_ptr().wrapping_add(usize::try_from(offset).unwrap_or(0))
    }

    /// The offset of a byte of it.
    pub(super) fn offset_of(&self, byte: *const u8) -> Option<u64> {
        let offset = byte.addr().checked_sub(self.memory.base().as_ptr().addr())?;
        (offset < self.memory.length()).then_some(offset as u64)
    }

    /// Writes metadata in front of the frame at an offset: a slot's.
    #[allow(unsafe_code)]
    pub(super) fn ask(&self, offset: u64, request: metadata::Request) {
        let at = self.at(offset.saturating_sub(TX_METADATA.into()));
        // SAFETY: in the frame's room for metadata, which is there with the flag that leads
        // here, aligned to 8; the frame is ours until it is in a ring.
        unsafe { at.cast::<metadata::Request>().write_volatile(request) };
    }

    /// The time that the kernel has written there.
    #[allow(unsafe_code)]
    pub(super) fn answer(&self, offset: u64) -> u64 {
        let metadata = u64::from(TX_METADATA).saturating_sub(metadata::ANSWER as u64);
        let at = self.at(offset.saturating_sub(metadata));
        // SAFETY: as in `ask`; the frame came back.
        unsafe { at.cast::<u64>().read_volatile() }
    }

    /// Whether the frame at an offset has a VLAN tag inside. One of ours, of 14 bytes and
    /// more.
    #[allow(unsafe_code)]
    pub(super) fn is_tagged(&self, offset: u64) -> bool {
        let at = self.at(offset.saturating_add(12));
        // SAFETY: inside a frame, as the caller says; volatile since others may write it.
        let kind = unsafe { at.cast::<[u8; 2]>().read_volatile() };
        matches!(u16::from_be_bytes(kind), 0x8100)
    }

    /// `count` frames for one queue; `None`: there are not as many together, now.
    pub(super) fn take(self: &Arc<Self>, count: u32) -> Option<Frames> {
        let now = clock::monotonic();
        let mut free = self.free.lock();
        join(&mut free, now);
        let found = free.iter().position(|one| {
            one.from <= now && one.frames.end.saturating_sub(one.frames.start) >= count
        })?;
        let one = free.get_mut(found)?;
        let end = one.frames.start.saturating_add(count);
        let range = one.frames.start..end;
        one.frames.start = end;
        if one.frames.is_empty() {
            free.remove(found);
        }
        Some(Frames { umem: Arc::clone(self), range, used: false })
    }

    fn put(&self, frames: Range<u32>, used: bool) {
        let from =
            if used { clock::monotonic().saturating_add(QUARANTINE) } else { Duration::ZERO };
        self.free.lock().push(Free { frames, from });
    }

    /// XDP_UMEM_REG of all of it.
    #[allow(unsafe_code)]
    pub(super) fn register(&self, socket: &Socket) -> crate::sys::Result<()> {
        let has = |flag: u64, bit: u32| if self.layout.has(flag) { bit } else { 0 };
        let metadata = if self.layout.has(flags::TX_METADATA) { TX_METADATA } else { 0 };
        let umem = xdp::Umem {
            base: self.memory.base().as_ptr(),
            length: self.memory.length() as u64,
            chunk_size: self.layout.frame_size,
            headroom: self.layout.headroom,
            flags: has(flags::UNALIGNED, xdp::umem::UNALIGNED)
                | has(flags::TX_METADATA, xdp::umem::TX_METADATA_LENGTH),
            tx_metadata_length: metadata,
        };
        // SAFETY: our own memory, of frames only. The kernel keeps its pages as long as it
        // uses them, whoever unmaps them; a queue keeps this value as long as its socket.
        unsafe { socket.register(umem) }
    }
}

/// Makes one of neighbours that may be taken: ranges do not get smaller and smaller. Those
/// that may not yet do not hold up the others.
fn join(free: &mut Vec<Free>, now: Duration) {
    free.sort_unstable_by_key(|one| one.frames.start);
    free.dedup_by(|next, one| {
        let joins = one.frames.end == next.frames.start && one.from <= now && next.from <= now;
        if joins {
            one.frames.end = next.frames.end;
        }
        joins
    });
}

fn no_memory(errno: Errno, layout: &Layout) -> Error {
    let remedy = if layout.has(flags::HUGEPAGES) {
        let pages = layout.memory().checked_div(HUGE_PAGE).unwrap_or(0);
        format!("; {pages} free huge pages of 2 MiB are needed: `sysctl vm.nr_hugepages=...`")
    } else {
        "; use fewer or smaller frames".to_string()
    };
    Error::new(
        Kind::Mmap,
        "mmap",
        format!("frame memory refused: {} bytes: {errno}{remedy}", layout.memory()),
    )
    .with_os(errno.0)
}

/// Frames of a UMEM in the hands of one queue.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) umem: Arc<Umem>,
    pub(super) range: Range<u32>,
    /// The kernel has had some.
    used: bool,
}

/// What finds a packet's frame, in one piece: a loop keeps it in registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finder {
    layout: Layout,
    base: *mut u8,
    first: u32,
}

/// Where a packet lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) frame: u32,
    /// The frame among the queue's, if it is one.
    pub(super) place: usize,
    pub(super) data: *mut u8,
    /// Bytes of the frame before `data`.
    pub(super) inside: u32,
    /// Bytes of the frame from `data` on.
    pub(super) room: u32,
}

impl Finder {
    /// What is at an address out of a ring.
    #[inline]
    pub(super) fn at(&self, address: u64) -> Option<Found> {
        let offset = self.layout.of_address(address);
        let (frame, inside) = self.layout.frame_at(offset)?;
        Some(Found {
            frame,
            place: frame.wrapping_sub(self.first) as usize,
            data: self.base.wrapping_add(usize::try_from(offset).ok()?),
            inside,
            room: self.layout.frame_size.wrapping_sub(inside),
        })
    }
}

impl Frames {
    /// What finds the frames of addresses.
    pub(super) fn finder(&self) -> Finder {
        let base = self.umem.memory.base().as_ptr();
        Finder { layout: self.umem.layout, base, first: self.range.start }
    }

    /// How many.
    pub(super) fn count(&self) -> u32 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// From now on the kernel has some.
    pub(super) fn set_used(&mut self) {
        self.used = true;
    }

    /// The place of a frame among them.
    #[inline]
    pub(super) fn place(&self, frame: u32) -> Option<usize> {
        self.range.contains(&frame).then(|| frame.wrapping_sub(self.range.start) as usize)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.umem.put(self.range.clone(), self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(frame_size: u32, frame_count: u32, flags: u64) -> UmemConfig {
        UmemConfig { frame_size, frame_count, flags, ..UmemConfig::default() }
    }

    #[test]
    fn frames_and_addresses() {
        for (size, count, flags) in [
            (2048, 7, 0),
            (4096, 5, 0),
            (3072, 9, flags::UNALIGNED),
            (3072, 3000, flags::UNALIGNED | flags::HUGEPAGES),
            (2056, 9, flags::UNALIGNED),
        ] {
            let layout = config(size, count, flags).layout().unwrap();
            let mut end = 0;
            for frame in 0..count {
                let at = layout.offset(frame);
                assert!(at >= end && at / layout.page == (at + u64::from(size) - 1) / layout.page);
                end = at + u64::from(size);
                assert_eq!(layout.frame_at(at), Some((frame, 0)));
                assert_eq!(layout.frame_at(end - 1), Some((frame, size - 1)));
            }
            assert!(end <= layout.memory());
            assert_eq!(layout.frame_at(layout.memory()), None);
            assert_eq!(layout.frame_at(u64::MAX), None);
        }
        // The rest of a page is no frame.
        let layout = config(3072, 2, flags::UNALIGNED).layout().unwrap();
        assert_eq!((layout.frame_at(3072), layout.frame_at(4096)), (None, Some((1, 0))));
    }

    #[test]
    fn wrong_sizes_are_named() {
        let option = |config: UmemConfig| config.layout().unwrap_err().option;
        assert_eq!(option(config(1024, 1, 0)), "frame_size");
        assert_eq!(option(config(3072, 1, 0)), "frame_size");
        assert_eq!(option(config(3074, 1, flags::UNALIGNED)), "frame_size");
        assert_eq!(option(config(8192, 1, flags::UNALIGNED)), "frame_size");
        assert_eq!(option(config(0, MAX_FRAME_COUNT + 1, 0)), "frame_count");
        assert_eq!(option(config(0, 1, 8)), "flags");
        let much = UmemConfig { headroom: 3900, ..UmemConfig::default() };
        assert_eq!(option(much), "headroom");
        let refused = Umem::new(&UmemConfig { memory_limit: 1 << 20, ..config(0, 257, 0) });
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.option.as_ref()), (Kind::Mmap, "memory_limit"));
    }

    #[test]
    fn ranges_come_back_whole() {
        let umem = Arc::new(Umem::new(&config(2048, 100, 0)).unwrap());
        let a = umem.take(30).unwrap();
        let b = umem.take(30).unwrap();
        let c = umem.take(40).unwrap();
        assert_eq!((a.range.clone(), b.range.clone(), c.range.clone()), (0..30, 30..60, 60..100));
        assert!(umem.take(1).is_none());
        drop(a);
        drop(c);
        assert!(umem.take(41).is_none());
        drop(b);
        let mut all = umem.take(100).unwrap();
        all.set_used();
        drop(all);
        assert_eq!(umem.free(), 100);
        // The kernel has to forget them first.
        assert!(umem.take(100).is_none());
        std::thread::sleep(QUARANTINE);
        assert!(umem.take(100).is_some());
        // Nobody else has to wait for that.
        let mut used = umem.take(40).unwrap();
        used.set_used();
        drop(used);
        assert_eq!(umem.take(60).unwrap().range, 40..100);
    }
}
