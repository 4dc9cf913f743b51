//! Functions for the tests, in a library of their own that is never installed.
#![allow(clippy::panic)]

use crate::afpacket::record::BlockMemory;
use crate::block::{Block, BlockInfo, FrameOwner, Owner, Segments};
use crate::error::{Error, Result};
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::capture::{CAPTURES, netring_capture};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::injector::{INJECTORS, netring_injector};
use crate::ffi::pointers::{array, put, writable};
use crate::packet::{NETRING_LINKTYPE_ETHERNET, Packet};
use crate::sys::process::{self, Belongs};
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Panics inside a call on this capture.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_test_panic(capture: *mut netring_capture) -> c_int {
    guard_handle(&CAPTURES, capture, |_| panic!("provoked by a test"), |_, _| {})
}

/// Panics inside a call on this injector.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_test_injector_panic(injector: *mut netring_injector) -> c_int {
    guard_handle(&INJECTORS, injector, |_| panic!("provoked by a test"), |_, _| {})
}

/// A block over the caller's memory, laid out as a TPACKET_V3 block; whatever
/// it says is believed no more than what a kernel says. The caller keeps the
/// memory until the block's release.
///
/// # Safety
/// `memory` must be readable and writable for `length` bytes, `out` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_test_block(
    memory: *mut u64,
    length: usize,
    out: *mut *mut netring_block,
) -> c_int {
    guard(|| {
        writable(out, "out")?;
        writable(memory, "memory")?;
        let block = Arc::new(block(memory, length)?);
        let handle = BLOCKS.insert(block)?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    })
}

fn block(memory: *mut u64, length: usize) -> Result<Block> {
    let refused = || Error::config("length", "a block takes 48 bytes to 2^32");
    let length = u32::try_from(length).ok().filter(|length| *length >= 48).ok_or_else(refused)?;
    let base = NonNull::new(memory.cast()).ok_or_else(refused)?;
    process::claim().map_err(|_| refused())?;
    // SAFETY: the caller's promise; aligned as a u64.
    let memory = unsafe { BlockMemory::new(base, length) };
    let header = memory.header();
    let info = BlockInfo {
        count: header.count,
        sequence: header.sequence,
        first_ns: header.opened_ns,
        last_ns: header.last_ns,
        flags: 0,
        ifindex: 0,
    };
    Ok(Block::new(memory, Some(NETRING_LINKTYPE_ETHERNET), info, header.first, Owner::Memory))
}

/// A further piece of a packet.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_test_piece {
    /// Of the packet with this index, and behind the pieces that came before.
    pub packet: u32,
    /// Bytes at `data`.
    pub len: u32,
    /// The first one.
    pub data: *mut u8,
}

/// Counts, where the caller can read it, the packets that were given back.
#[derive(Debug)]
struct Returned {
    count: &'static AtomicU32,
    belongs: Belongs,
}

impl FrameOwner for Returned {
    fn is_ours(&self) -> bool {
        self.belongs.is_ours()
    }

    fn give_back(&self, block: &Block) {
        let count = u32::try_from(block.packets().len()).unwrap_or(u32::MAX);
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// A block that is an array of packets, as an AF_XDP queue hands it out: these, with
/// these further pieces in ascending order of packets. Their bytes, and `returned`, to
/// which the number of packets is added at the last release, stay the caller's until
/// then.
///
/// # Safety
/// `packets` must be readable for `count` elements, `pieces` for `piece_count`, what
/// they point to readable and writable, `returned` and `out` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_test_packets_block(
    packets: *const Packet,
    count: usize,
    pieces: *const netring_test_piece,
    piece_count: usize,
    returned: *mut u32,
    out: *mut *mut netring_block,
) -> c_int {
    guard(|| {
        writable(out, "out")?;
        writable(returned, "returned")?;
        process::claim().map_err(|_| Error::config("process", "no page for its generation"))?;
        // SAFETY: the caller's promise.
        let given = unsafe { array(packets, count, "packets")? };
        // SAFETY: as above.
        let pieces = unsafe { array(pieces, piece_count, "pieces")? };
        let mut segments = Segments::new();
        for piece in pieces {
            segments.push(piece.packet, piece.data, piece.len);
        }
        let packets: Vec<Packet> =
            given.iter().zip(0..).map(|(packet, cookie)| Packet { cookie, ..*packet }).collect();
        let time = |packet: Option<&Packet>| packet.map_or(0, |packet| packet.time_ns);
        let info = BlockInfo {
            count: 0,
            sequence: 1,
            first_ns: time(packets.first()),
            last_ns: time(packets.last()),
            flags: 0,
            ifindex: packets.first().map_or(0, |packet| packet.ifindex),
        };
        // SAFETY: aligned, and there until the block's release by the caller's promise.
        let count = unsafe { AtomicU32::from_ptr(returned) };
        let owner = Owner::Frames(Box::new(Returned { count, belongs: Belongs::here() }));
        // SAFETY: the caller's promise.
        let block = unsafe { Block::of_packets(packets, segments, info, owner) };
        let handle = BLOCKS.insert(Arc::new(block))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    })
}
