//! Functions for the tests, in a library of their own that is never installed.
#![allow(clippy::panic)]

use crate::afpacket::record::BlockMemory;
use crate::block::{Block, BlockInfo, Owner};
use crate::error::{Error, Result};
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::capture::{CAPTURES, netring_capture};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::injector::{INJECTORS, netring_injector};
use crate::ffi::pointers::{put, writable};
use crate::packet::NETRING_LINKTYPE_ETHERNET;
use crate::sys::process;
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

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
