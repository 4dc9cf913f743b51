//! Another filter for a capture that is open.

use crate::afpacket::capture::Capture;
use crate::ffi::capture::{CAPTURES, netring_capture};
use crate::ffi::error::{guard_handle_reporting, netring_error};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::handle::Pinned;
use crate::ffi::pointers::{put, writable};
use std::ffi::c_int;

/// Puts `filter` in the place of the capture's present one, while it captures;
/// NULL detaches that: every packet from now on. The configuration's
/// `snap_length` and direction stay in force. The capture keeps its own copy of
/// the filter, as with netring_capture_open. No packet that both filters accept
/// is lost.
///
/// Packets that are in the ring already passed the old filter: they are put to
/// the new one before their block is handed out. Those that it rejects are
/// marked away and counted (`filtered_late`), and of those of which it keeps
/// less, `caplen` is less. Blocks that were handed out before, whole or in
/// parts, are left as they are.
///
/// `*from_block` is 0 where the new filter thus holds for every block that is
/// handed out after this call. Where it cannot be told what the new filter would
/// have kept of a packet in the ring, that packet is delivered as the old filter
/// left it, and `*from_block` is the sequence number (netring_block_info) of the
/// first block in which everything passed the new one. That is so where packets
/// are in the ring and the new filter is an eBPF program; or asks for what is
/// known only while a packet comes in (its mark, queue, flow hash, CPU); or the
/// old one cut packets, and the new one keeps more of them or looks at more of
/// them. Which packets came before is a matter of the kernel's order alone: what
/// is sent after this call returned meets the new filter. `from_block` may be
/// NULL.
///
/// It waits until no CPU is inside the old filter (membarrier(2); about 10 to
/// 20 ms, readers go on meanwhile). Where that is refused, which a kernel with
/// nohz_full CPUs does, every packet is put to a classic filter once more when
/// its block is handed out, until the next change.
///
/// Returns 0. Errors, after which the old filter is in force: NETRING_EINVAL,
/// the filter does not go with the configuration: an eBPF program or "ret a"
/// with a `snap_length`, an eBPF program or one of more than 4092 instructions
/// with NETRING_CAPTURE_IGNORE_INCOMING. NETRING_EFILTER, an expression has no
/// meaning for the capture's link type. NETRING_EFILTER, NETRING_ESOCKOPT, the
/// kernel refuses the filter: ENOMEM for its size, to which that of the old one
/// is added for the moment (net.core.optmem_max); EPERM, the filter is locked.
/// NETRING_EBADF, not a capture, not a filter, or closed meanwhile. MT-Safe.
/// `err` may be NULL. (SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_DETACH_FILTER.)
///
/// # Safety
/// `from_block` and `err`, if not NULL, must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_set_filter(
    capture: *mut netring_capture,
    filter: *mut netring_filter,
    from_block: *mut u64,
    err: *mut netring_error,
) -> c_int {
    let call = |capture: &Pinned<Capture>| {
        let wanted = !from_block.is_null();
        if wanted {
            writable(from_block, "from_block")?;
        }
        let from = capture.set_filter(configured_filter(filter)?.as_ref())?;
        if wanted {
            // SAFETY: checked, and the caller's promise.
            unsafe { put(from_block, "from_block", from)? };
        }
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&CAPTURES, capture, err, call, Capture::note) }
}

/// Locks the filter that the capture has, if any, for as long as its socket
/// lives (SO_LOCK_FILTER, Linux 3.9): netring_capture_set_filter is refused from
/// now on, also to another process that has the socket. As
/// NETRING_CAPTURE_LOCK_FILTER, later. For programs that give privileges up: who
/// takes them over cannot read more than was meant.
///
/// Returns 0, also where it is locked. Errors: NETRING_ESOCKOPT, the kernel
/// refuses it. NETRING_EBADF, not a capture, or closed meanwhile. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `err`, if not NULL, must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_lock_filter(
    capture: *mut netring_capture,
    err: *mut netring_error,
) -> c_int {
    let call = |capture: &Pinned<Capture>| capture.lock_filter().map(|()| 0);
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&CAPTURES, capture, err, call, Capture::note) }
}
