//! struct netring_umem: memory of frames that several AF_XDP queues have in common.

use crate::afxdp::umem::{Umem, UmemConfig, flags};
use crate::error::{Error, Result};
use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::handle::{HandleKind, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, read_config, writable, writable_sized,
};
use crate::fork;
use std::ffi::c_int;
use std::mem::offset_of;
use std::sync::Arc;

/// Memory of frames for AF_XDP queues of one or several interfaces, so that packets go
/// from one to another without a copy (netring_queue_forward). A token, never
/// dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_umem {
    _opaque: [u8; 0],
}

pub(crate) static UMEMS: Table<Umem> = Table::new(HandleKind::Umem);

/// The frames are in pages of 2 MiB (`sysctl vm.nr_hugepages`): fewer misses of the TLB.
pub const NETRING_UMEM_HUGEPAGES: u64 = 0x1;
/// Frames of any size that is a multiple of 8 (Linux 5.4). None goes beyond its page.
pub const NETRING_UMEM_UNALIGNED: u64 = 0x2;

/// Room of 64 bytes for metadata in front of each frame to be sent (Linux 6.11):
/// NETRING_XDP_TX_METADATA needs it.
pub const NETRING_UMEM_TX_METADATA: u64 = 0x4;

const _: () = assert!(
    NETRING_UMEM_HUGEPAGES == flags::HUGEPAGES
        && NETRING_UMEM_UNALIGNED == flags::UNALIGNED
        && NETRING_UMEM_TX_METADATA == flags::TX_METADATA
);

/// What `init` of a struct netring_umem_config holds once it is initialised.
pub const NETRING_UMEM_CONFIG_INIT_WORD: u32 = 0x4e525543;

/// What a UMEM is asked for. Initialise it with netring_umem_config_init or
/// NETRING_UMEM_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_umem_config {
    /// sizeof(struct netring_umem_config), written by the initialiser.
    pub size: u32,
    /// NETRING_UMEM_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_UMEM_* bits. Default 0.
    pub flags: u64,
    /// Bytes the frames may take; 0 (default): 1 GiB. They never take more than half of
    /// the available memory or the control group's room. More are refused.
    pub memory_limit: u64,
    /// Bytes of a frame, a power of two from 2048 to the size of a page; 0 (default): a
    /// page. With NETRING_UMEM_UNALIGNED any multiple of 8 in between. A received packet
    /// has 256 of them less, and `headroom`.
    pub frame_size: u32,
    /// Frames, up to 16777216; 0 (default): 16384. Each queue takes as many as its
    /// rx_frames and tx_frames say, 6144 by default: these are enough for two queues.
    pub frame_count: u32,
    /// Bytes kept free in front of each received packet, besides the kernel's 256; room
    /// for headers that are put in front of it. 64 bytes of a frame are left at least.
    /// Default 0.
    pub headroom: u32,
    /// 0.
    pub reserved: u32,
}

/// What a UMEM is, and what of it is free.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_umem_info {
    /// The size passed in.
    pub size: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frame_count: u32,
    /// Frames that no queue has. Those of a queue that was closed are taken again a
    /// quarter of a second later: the kernel is done with them then.
    pub frames_free: u32,
    /// Bytes in front of each received packet, besides the kernel's.
    pub headroom: u32,
    /// 0.
    pub reserved: u32,
    /// NETRING_UMEM_* bits.
    pub flags: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes it could have taken.
    pub memory_bound: u64,
}

const _: () = assert!(size_of::<netring_umem_config>() == 40);
const _: () = assert!(offset_of!(netring_umem_config, init) == 4);
const _: () = assert!(size_of::<netring_umem_info>() == 48);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_umem_config {}
// SAFETY: as above.
unsafe impl CStruct for netring_umem_info {}

const DEFAULTS: netring_umem_config = netring_umem_config {
    size: size_of::<netring_umem_config>() as u32,
    init: NETRING_UMEM_CONFIG_INIT_WORD,
    flags: 0,
    memory_limit: 0,
    frame_size: 0,
    frame_count: 0,
    headroom: 0,
    reserved: 0,
};

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_umem_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_umem_config_init(
    config: *mut netring_umem_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let defaults = netring_umem_config { size: size as u32, ..DEFAULTS };
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// The UMEM that a configuration names; NULL: none.
pub(crate) fn configured_umem(umem: *mut netring_umem) -> Result<Option<Arc<Umem>>> {
    if umem.is_null() {
        return Ok(None);
    }
    let umem = UMEMS.pin(umem).map_err(|mut error| {
        error.option = "umem".into();
        error
    })?;
    Ok(Some(umem.share()))
}

/// Makes a UMEM. `config` NULL: the defaults.
///
/// A frame belongs to one queue at a time, as one to receive into or to send from. Each
/// socket registers all of the memory, so that the locked-memory limit, where there is
/// one, counts it once for each queue.
///
/// Errors: NETRING_EINVAL, a value is wrong. NETRING_EMMAP, more memory than the bound,
/// or the kernel has none (errno ENOMEM: with NETRING_UMEM_HUGEPAGES not enough huge
/// pages). `err` names the field and what to do, and may be NULL. On an error `*out` is
/// not written.
/// Ownership: the caller frees `*out` with netring_umem_free. MT-Safe.
/// (networking/af_xdp.rst, net/xdp/xdp_umem.c.)
///
/// # Safety
/// `config` must be readable for the size it says it has, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_umem_new(
    config: *const netring_umem_config,
    out: *mut *mut netring_umem,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let config =
            unsafe { read_config(config, "umem", NETRING_UMEM_CONFIG_INIT_WORD, DEFAULTS)? };
        if config.reserved != 0 {
            return Err(Error::config("reserved", "reserved is not 0"));
        }
        fork::claim()?;
        let umem = Umem::new(&UmemConfig {
            flags: config.flags,
            memory_limit: config.memory_limit,
            frame_size: config.frame_size,
            frame_count: config.frame_count,
            headroom: config.headroom,
        })?;
        let handle = UMEMS.insert(Arc::new(umem))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Writes what a UMEM is, and what of it is free: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a UMEM. NETRING_EINVAL, `out` is NULL or misaligned, or
/// `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_umem_info(
    umem: *mut netring_umem,
    out: *mut netring_umem_info,
    size: usize,
) -> c_int {
    guard_handle(
        &UMEMS,
        umem,
        |umem| {
            writable_sized(out, "out", size, SHORTEST)?;
            let layout = umem.layout();
            let info = netring_umem_info {
                size: size as u32,
                frame_size: layout.frame_size,
                frame_count: layout.frame_count,
                frames_free: umem.free(),
                headroom: layout.headroom,
                reserved: 0,
                flags: layout.flags,
                memory: layout.memory(),
                memory_bound: umem.bound(),
            };
            // SAFETY: checked, and the caller's promise.
            unsafe { put_sized(out, size, &info) };
            Ok(0)
        },
        |_, _| {},
    )
}

/// Frees a UMEM. Its memory stays as long as an xdp or a block uses it. NULL is fine.
///
/// Errors: NETRING_EBADF, not a UMEM, or freed before. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_umem_free(umem: *mut netring_umem) -> c_int {
    guard(|| {
        if !umem.is_null() {
            drop(UMEMS.close(umem)?.finish());
        }
        Ok(0)
    })
}
