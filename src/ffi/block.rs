//! struct netring_block: received packets, held until released.

use crate::block::{Block, Layout, STRIDE, View};
use crate::error::{Error, Kind, Result};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::handle::{HandleKind, Table};
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, writable, writable_sized};
use crate::packet::{NETRING_LINKTYPE_UNKNOWN, netring_packet};
use std::ffi::c_int;

/// A block: packets that were received together, held until the last
/// netring_block_release. A token, never dereferenced.
///
/// Its memory keeps its address and content until then, even when the capture is
/// closed in between; packets may be changed in place meanwhile.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_block {
    _opaque: [u8; 0],
}

pub(crate) static BLOCKS: Table<Block> = Table::new(HandleKind::Block);

/// The kernel has dropped packets since the statistics were last read: not
/// necessarily right before this block.
pub const NETRING_BLOCK_LOSING: u32 = 0x4;
/// Handed over by the timer, not because it was full.
pub const NETRING_BLOCK_TIMEOUT: u32 = 0x20;
/// Handed out by a flush or a stop before the kernel closed it; the rest of it,
/// if there is one, comes later under the same sequence number.
pub const NETRING_BLOCK_PARTIAL: u32 = 0x10000;

const _: () = assert!(
    NETRING_BLOCK_LOSING == crate::block::LOSING
        && NETRING_BLOCK_TIMEOUT == crate::block::TIMEOUT
        && NETRING_BLOCK_PARTIAL == crate::block::PARTIAL
);

/// Records of the kernel's struct tpacket3_hdr, each followed by a struct
/// sockaddr_ll and the packet (linux/if_packet.h). A record whose tp_status
/// lacks TP_STATUS_USER (1) is no packet: skip it. With NETRING_PACKET_VNET in
/// tp_status (no kernel sets it) the 10 bytes from offset 38 on, padding otherwise,
/// are a struct virtio_net_hdr (linux/virtio_net.h) in host byte order.
pub const NETRING_LAYOUT_TPACKET3: u32 = 3;

/// An array of struct netring_packet, `stride` bytes from one to the next, all of them
/// packets: blocks of AF_XDP. Only to be read. Their `data` lies outside of the block's
/// memory, and has been checked.
pub const NETRING_LAYOUT_PACKETS: u32 = 1;

fn layout(view: &View) -> u32 {
    match view.layout {
        Layout::Records => NETRING_LAYOUT_TPACKET3,
        Layout::Packets => NETRING_LAYOUT_PACKETS,
    }
}

/// What there is to know of a block besides its packets.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_block_info {
    /// The size passed in.
    pub size: u32,
    /// Records of the block, or packets. What is marked away is among them, so there may be
    /// fewer packets; 0 is possible.
    pub count: u32,
    /// The kernel's sequence number of the block; the first is 1. Drops cause no
    /// gaps: the kernel numbers blocks when it opens them. The parts of a block
    /// that was flushed (NETRING_BLOCK_PARTIAL) have the same number. A reader
    /// numbers its blocks from 1.
    pub sequence: u64,
    /// Time of the first packet, nanoseconds since 1970-01-01 UTC.
    pub first_ns: u64,
    /// Time of the last packet.
    pub last_ns: u64,
    /// NETRING_BLOCK_* bits.
    pub flags: u32,
    /// Index of the interface captured; 0: any, or several of a savefile: each
    /// packet has its own.
    pub ifindex: u32,
}

/// A block's memory, for walks in other languages: start at `base + first`, go
/// through `count` records or packets as `layout` says. Of records, check every offset
/// against `length`. A walk ends at a layout that it does not know: netring_block_read
/// knows it.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_block_view {
    /// The size passed in.
    pub size: u32,
    /// NETRING_LAYOUT_*.
    pub layout: u32,
    /// First byte of the block, valid until its release.
    pub base: *mut u8,
    /// Bytes of the block, or of its array.
    pub length: u64,
    /// Offset of the first record from `base`.
    pub first: u32,
    /// Records, or packets.
    pub count: u32,
    /// Bytes from one to the next; 0: each record says.
    pub stride: u32,
    /// 0.
    pub reserved: u32,
}

/// The place of an inline walk over a block (netring_inline.h), in the caller's
/// memory. Its fields are for that header.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_cursor {
    /// The size passed in.
    pub size: u32,
    /// NETRING_LAYOUT_*.
    pub layout: u32,
    /// The next record, or packet.
    pub next: *mut u8,
    /// The current record; NULL before the first.
    pub record: *mut u8,
    /// The current packet's bytes, checked.
    pub data: *mut u8,
    /// One past the last byte of the block.
    pub end: *mut u8,
    /// First byte of the block.
    pub base: *mut u8,
    /// Bytes at `data`, checked.
    pub caplen: u32,
    /// Records left, the next one included.
    pub left: u32,
    /// Link type of every packet; NETRING_LINKTYPE_UNKNOWN: each record says.
    pub link_type: u16,
    /// 0.
    pub reserved: u16,
    /// 0.
    pub reserved2: u32,
}

/// A piece of a packet, from netring_block_segments.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_segment {
    /// First byte; writable until the block's release.
    pub data: *mut u8,
    /// Bytes there.
    pub len: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<netring_segment>() == 16);
const _: () = assert!(size_of::<netring_block_info>() == 40);
const _: () = assert!(size_of::<netring_block_view>() == 40);
const _: () = assert!(size_of::<netring_cursor>() == 64);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_block_info {}
// SAFETY: repr(C) without padding; the pointer is only written.
unsafe impl CStruct for netring_block_view {}
// SAFETY: as above.
unsafe impl CStruct for netring_cursor {}

/// Fills up to `count` packets, the next ones of the block's own cursor, and
/// moves it. Returns how many; 0 at the end. The packets' `data` stays valid
/// until the block's release, whatever is read in between.
///
/// `size` is the size of one element, sizeof *packets, and `count` the number of
/// elements. Batches of 64 are best: more evict
/// from the cache what was just brought in.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `packets`
/// is NULL or misaligned, or `size` is less than 64, more than 256 or not a
/// multiple of 8. NETRING_EIO, the block's memory was overwritten; release it.
/// One thread at a time (other threads may retain and release, and walk with
/// cursors of their own).
///
/// # Safety
/// `packets` must be writable for `count` times `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_read(
    block: *mut netring_block,
    packets: *mut netring_packet,
    size: usize,
    count: usize,
) -> c_int {
    let call = |block: &Block| {
        // SAFETY: the caller's promise.
        let filled = unsafe { read_packets(block, packets, size, count)? };
        Ok(c_int::try_from(filled).unwrap_or(c_int::MAX))
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}

/// Checks the caller's array and fills it.
///
/// # Safety
/// `packets` is writable for `count` times `size` bytes.
#[inline(always)]
pub(crate) unsafe fn read_packets(
    block: &Block,
    packets: *mut netring_packet,
    size: usize,
    count: usize,
) -> Result<usize> {
    check_packets(packets, "packets", size)?;
    // More than fit an int are left for the next call.
    let count = count.min(c_int::MAX as usize);
    // SAFETY: checked, and the caller's promise.
    let filled = unsafe { block.read(packets, size, count)? };
    if size > size_of::<netring_packet>() {
        // SAFETY: as above.
        unsafe { clear_rest(packets, size, filled) };
    }
    Ok(filled)
}

/// Zeroes what the caller's elements have behind our packets.
///
/// # Safety
/// `packets` is writable for `count` times `size` bytes; `size` is at least
/// that of a packet.
#[cold]
#[inline(never)]
unsafe fn clear_rest(packets: *mut netring_packet, size: usize, count: usize) {
    for index in 0..count {
        // SAFETY: inside the element, behind what was filled.
        let rest = unsafe { packets.cast::<u8>().add(index * size + size_of::<netring_packet>()) };
        // SAFETY: up to the end of the element.
        unsafe { rest.write_bytes(0, size - size_of::<netring_packet>()) };
    }
}

/// Room for the struct to grow, and less than the mistaken `sizeof array`.
const LARGEST_ELEMENT: usize = 256;

/// Whether the caller's array can take packets.
#[inline(always)]
pub(crate) fn check_packets(
    packets: *mut netring_packet,
    name: &'static str,
    size: usize,
) -> Result<()> {
    writable(packets, name)?;
    check_size(size, size_of::<netring_packet>(), "packet")
}

/// Whether an element of the caller's array can take ours of `least` bytes.
#[inline(always)]
fn check_size(size: usize, least: usize, what: &'static str) -> Result<()> {
    if size != least && (size < least || size > LARGEST_ELEMENT || size % 8 != 0) {
        return Err(wrong_size(size, least, what));
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn wrong_size(size: usize, least: usize, what: &'static str) -> Error {
    Error::config(
        "size",
        format!(
            "size {size} is not that of one {what}: {least} to {LARGEST_ELEMENT}, a multiple of 8"
        ),
    )
}

/// Moves the block's own cursor back to its first packet.
///
/// Errors: NETRING_EBADF, not a block, or released. One thread at a time.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_rewind(block: *mut netring_block) -> c_int {
    guard_handle(
        &BLOCKS,
        block,
        |block| {
            block.rewind();
            Ok(0)
        },
        |_, _| {},
    )
}

/// Adds `count` users to a block: it then takes as many more releases.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, more than
/// 2^32 - 1 users. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_retain(block: *mut netring_block, count: u32) -> c_int {
    guard_handle(
        &BLOCKS,
        block,
        |block| match block.retain(count) {
            Ok(()) => Ok(0),
            Err(None) => Err(released()),
            Err(Some(users)) => Err(Error::config(
                "count",
                format!("{count} more users than the {users} there are do not fit"),
            )),
        },
        |_, _| {},
    )
}

/// Takes one user away; the last release gives the block back to the kernel
/// and ends the handle. Any thread, any order, also after the close of its capture
/// or queue. NULL is fine.
///
/// Until a capture's oldest held block is released, a full ring drops packets, however
/// many newer ones are free: the kernel fills blocks in order. The frames of a queue's
/// block serve again at once, whatever else is held.
///
/// Errors: NETRING_EBADF, not a block, or released before. MT-Safe.
///
/// # Safety
/// With the last release, nobody uses the block's packets, cursors or view any
/// more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_release(block: *mut netring_block) -> c_int {
    guard(|| {
        if !block.is_null() {
            let last = BLOCKS.pin_to_close(block)?.release().ok_or_else(released)?;
            if last {
                if let Some(block) = BLOCKS.close(block)?.finish() {
                    block.give_back();
                }
            }
        }
        Ok(0)
    })
}

fn released() -> Error {
    Error::new(Kind::BadHandle, "block", "the block was released")
}

/// Writes what there is to know of a block: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `out` is
/// NULL or misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_info(
    block: *mut netring_block,
    out: *mut netring_block_info,
    size: usize,
) -> c_int {
    let call = |block: &Block| {
        writable_sized(out, "out", size, SHORTEST)?;
        let info = block.info();
        let value = netring_block_info {
            size: size as u32,
            count: info.count,
            sequence: info.sequence,
            first_ns: info.first_ns,
            last_ns: info.last_ns,
            flags: info.flags,
            ifindex: info.ifindex,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}

/// Writes where the block's memory lies and how it is laid out, for walks in
/// other languages: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `out` is
/// NULL or misaligned, or `size` is less than 16 or more than 4096.
/// Ownership: the memory is borrowed until the block's release. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_view(
    block: *mut netring_block,
    out: *mut netring_block_view,
    size: usize,
) -> c_int {
    let call = |block: &Block| {
        writable_sized(out, "out", size, SHORTEST)?;
        let view = block.view();
        let value = netring_block_view {
            size: size as u32,
            layout: layout(&view),
            base: view.base,
            length: view.length.into(),
            first: view.start.offset,
            count: view.start.left,
            stride: if view.layout == Layout::Packets { STRIDE } else { 0 },
            reserved: 0,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}

/// Sets up an inline walk (netring_inline.h) at the block's first packet. Any
/// number of walks may go over one block at the same time, each with a cursor
/// of its own; netring_block_read's cursor is not moved.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `out` is
/// NULL or misaligned, or `size` is not sizeof(struct netring_cursor) or more.
/// Ownership: the cursor borrows the block until its release. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_cursor(
    block: *mut netring_block,
    out: *mut netring_cursor,
    size: usize,
) -> c_int {
    let call = |block: &Block| {
        writable_sized(out, "out", size, size_of::<netring_cursor>())?;
        let view = block.view();
        let (base, start) = (view.base, view.start);
        // An overwritten block may say anything: a walk that ends damaged, then.
        let end = base.wrapping_add(view.length as usize);
        let inside = start.offset <= view.length && start.offset % 8 == 0;
        let value = netring_cursor {
            size: size as u32,
            layout: layout(&view),
            next: if inside { base.wrapping_add(start.offset as usize) } else { end },
            record: std::ptr::null_mut(),
            data: std::ptr::null_mut(),
            end,
            base,
            caplen: 0,
            left: start.left,
            link_type: block.link_type().unwrap_or(NETRING_LINKTYPE_UNKNOWN),
            reserved: 0,
            reserved2: 0,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}

/// Copies the link-layer source address of the packet with this cookie
/// (netring_packet.cookie) to `out`, at most `size` bytes of it; returns its
/// length: 6 for Ethernet, 0 where the link has none. Of AF_XDP it is the one in the
/// bytes.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `out` is
/// NULL with a size, or no packet of this block has that cookie. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_address(
    block: *mut netring_block,
    cookie: u64,
    out: *mut u8,
    size: usize,
) -> c_int {
    let call = |block: &Block| {
        let (address, length) = block.address(cookie)?;
        if size != 0 {
            writable(out, "out")?;
            let both = length.min(size);
            // SAFETY: writable for `size` bytes by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(address.as_ptr(), out, both) };
        }
        Ok(length as c_int)
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}

/// Writes where the pieces of the packet with this cookie (netring_packet.cookie) are,
/// the first `count` of them and in order, and returns how many there are: 1, or with
/// NETRING_PACKET_SEGMENTED one more than netring_packet.segments. The first is the
/// packet's `data` and `caplen` as they were received. `size` is the size of one
/// element, sizeof *out.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, no packet of this
/// block has that cookie; or with a count, `out` is NULL or misaligned, or `size` is
/// less than 16, more than 256 or not a multiple of 8. Ownership: the pieces are
/// borrowed until the block's release. MT-Safe.
///
/// # Safety
/// `out` must be writable for `count` times `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_segments(
    block: *mut netring_block,
    cookie: u64,
    out: *mut netring_segment,
    size: usize,
    count: usize,
) -> c_int {
    let call = |block: &Block| {
        if count != 0 {
            writable(out, "out")?;
            check_size(size, size_of::<netring_segment>(), "segment")?;
        }
        let mut found = 0;
        block.segments(cookie, |data, len| {
            if found < count {
                // SAFETY: below `count` elements of `size` bytes.
                let at = unsafe { out.byte_add(found * size) };
                // SAFETY: as above.
                unsafe { at.cast::<u8>().write_bytes(0, size) };
                // SAFETY: as above; aligned.
                unsafe { at.write(netring_segment { data, len, reserved: 0 }) };
            }
            found += 1;
        })?;
        Ok(found as c_int)
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}
