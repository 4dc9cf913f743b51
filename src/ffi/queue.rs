//! struct netring_queue: a queue of an xdp, to receive from and to send by.

use crate::afpacket::injector::received::send_packets;
use crate::afxdp::queue::Queue;
use crate::block::Block;
use crate::error::Result;
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::capture::{netring_packets_callback, netring_stats};
use crate::ffi::dispatch::{dispatch, next_packet};
use crate::ffi::error::{code, describe, netring_error};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::injector::{elements, netring_injector_stats, netring_result, netring_timestamp};
use crate::ffi::pointers::{CStruct, SHORTEST, put, put_sized, readable, writable, writable_sized};
use crate::ffi::xdp::netring_xdp_counters;
use crate::packet::{NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_SOFTWARE, netring_packet};
use crate::slot::{Frame, netring_frame, netring_slot};
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// One queue of an xdp. A token, never dereferenced; stale after netring_xdp_close.
///
/// Any thread may use it. Its receiving and its transmitting side are apart: a thread at
/// each does not wait for the other.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_queue {
    _opaque: [u8; 0],
}

pub(crate) static QUEUES: Table<Queue> = Table::new(HandleKind::Queue);

/// What was granted to a queue.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_queue_info {
    /// The size passed in.
    pub size: u32,
    /// Number of the queue.
    pub queue: u32,
    /// NETRING_MODE_ZEROCOPY, NETRING_MODE_COPY or NETRING_MODE_SKB.
    pub mode: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// Microseconds of busy polling in force; 0: off.
    pub busy_poll: u32,
    /// Number of the device's queue for busy polling (SO_INCOMING_NAPI_ID); 0: unknown, as
    /// before the first packet.
    pub napi_id: u32,
    /// Bytes of the largest frame that it sends now; 0: it sends none.
    pub frame_limit: u32,
    /// Microseconds that a call which has waited sleeps on for more packets, as configured.
    pub block_timeout_us: u32,
}

const _: () = assert!(size_of::<netring_queue_info>() == 32);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_queue_info {}

/// A call on a queue; its failure is kept for netring_queue_last_error.
#[inline]
fn on_queue(
    queue: *mut netring_queue,
    call: impl FnOnce(&Pinned<Queue>) -> Result<c_int>,
) -> c_int {
    guard_handle(&QUEUES, queue, call, |queue, error| {
        if let Some(queue) = queue {
            queue.note(error);
        }
    })
}

/// Writes what was granted: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a queue. NETRING_EINVAL, `out` is NULL or misaligned, or
/// `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_info(
    queue: *mut netring_queue,
    out: *mut netring_queue_info,
    size: usize,
) -> c_int {
    on_queue(queue, |queue| {
        writable_sized(out, "out", size, SHORTEST)?;
        let info = queue.info();
        let info = netring_queue_info {
            size: size as u32,
            queue: info.number,
            mode: info.mode as u32,
            ifindex: info.ifindex,
            busy_poll: info.busy_poll,
            napi_id: queue.napi_id(),
            frame_limit: queue.frame_limit(),
            block_timeout_us: info.block_timeout_us,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &info) };
        Ok(0)
    })
}

/// Waits for packets and hands them out as a block: as many as are there, at most
/// `block_packets`. Returns 1 with a block in `*out`, 0 where none came within
/// `timeout_ms` milliseconds (0: do not wait; negative: for ever, as poll(2)). Signals do
/// not prolong or end the wait; nor does a link that goes down. It returns with the first
/// packet, or after another `block_timeout_us` with those that have come by then.
///
/// Any number of blocks may be held, released by any thread in any order; their frames
/// are not there for new packets meanwhile (`rx_held` of netring_queue_counters): with all
/// of them held, packets are dropped. Several threads may call this: each gets its own
/// block.
///
/// Errors: NETRING_ESHUTDOWN, stopped, and all received packets were handed out.
/// NETRING_EWAKEUP, netring_queue_wakeup ended the wait. NETRING_ENODEV, the interface
/// was removed. NETRING_EBADF, not a queue, or its xdp was closed. NETRING_EINVAL, `out`
/// is NULL. NETRING_EIO, waiting failed.
/// Ownership: the caller releases `*out` with netring_block_release. MT-Safe.
///
/// # Safety
/// `out` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_next_block(
    queue: *mut netring_queue,
    timeout_ms: c_int,
    out: *mut *mut netring_block,
) -> c_int {
    on_queue(queue, |queue| {
        writable(out, "out")?;
        let Some(block) = queue.next_block(timeout_ms)? else { return Ok(0) };
        let handle = BLOCKS.insert(Arc::clone(&block)).inspect_err(|_| give_up(&block))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(1)
    })
}

/// A block that got no handle.
fn give_up(block: &Block) {
    crate::afpacket::capture::release(block);
}

/// Waits for one packet, as netring_queue_next_block, and writes it to `out`. Returns 1,
/// or 0 for a timeout. `data` is valid until the next netring_queue_next_packet,
/// netring_queue_dispatch or netring_xdp_close on this queue. The packets of a block are
/// handed out one by one; netring_queue_fd does not tell of those that are left.
///
/// This is the slower way: a call for every packet. Of one in several pieces
/// (NETRING_PACKET_SEGMENTED) only the first can be had without its block:
/// NETRING_XDP_LINEAR joins them.
///
/// `size` is sizeof(struct netring_packet) of the caller's header.
///
/// Errors: as netring_queue_next_block; NETRING_EINVAL, `out` is NULL or misaligned, or
/// `size` is less than 64, more than 256 or not a multiple of 8; NETRING_EBUSY, another
/// thread is in this call or in netring_queue_dispatch. One thread at a time.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_next_packet(
    queue: *mut netring_queue,
    timeout_ms: c_int,
    out: *mut netring_packet,
    size: usize,
) -> c_int {
    on_queue(queue, |queue| {
        let next_block = |timeout_ms| queue.next_block(timeout_ms);
        // SAFETY: the caller's promise.
        unsafe { next_packet(queue.current(), next_block, timeout_ms, out, size) }
    })
}

/// Hands packets to `callback`, up to 64 at a time, as netring_capture_dispatch. Of
/// packets in several pieces only the first, as netring_queue_next_packet.
///
/// Errors: as netring_queue_next_packet, where no packet was handed out before; else the
/// next call reports them. NETRING_EINVAL, `callback` is NULL. NETRING_EBUSY, another
/// thread is in this call or in netring_queue_next_packet, or it is called from its own
/// callback. One thread at a time.
///
/// # Safety
/// `callback` must be callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_dispatch(
    queue: *mut netring_queue,
    timeout_ms: c_int,
    max_packets: u32,
    callback: netring_packets_callback,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { dispatch(&QUEUES, queue, timeout_ms, max_packets, callback, user) }
}

/// A descriptor for poll, epoll, io_uring and event loops: readable exactly while
/// netring_queue_next_block with a timeout of 0 would return something other than 0. Right
/// for level- and edge-triggered loops that take blocks until there is none. Of frames
/// that were sent nothing tells, with one exception: while more of the queue's frames are
/// forwarded than the kernel has to receive into, it is readable every now and then, also
/// without a packet, and that call takes back those that were sent. Returns the
/// descriptor, 0 or more.
///
/// Errors: NETRING_EBADF, not a queue. NETRING_EIO, the kernel does not let it be watched.
/// MT-Safe.
/// Ownership: the queue's; do not close it, read from it, or use it after
/// netring_xdp_close.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_fd(queue: *mut netring_queue) -> c_int {
    on_queue(queue, |queue| queue.fd())
}

/// Ends one wait for packets: the present or the next of netring_queue_next_block,
/// netring_queue_next_packet or netring_queue_dispatch returns NETRING_EWAKEUP. Several
/// wakeups before that are one. Waits for frames to be sent go on.
///
/// Errors: NETRING_EBADF, not a queue. MT-Safe, async-signal-safe; leaves errno alone on
/// success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_wakeup(queue: *mut netring_queue) -> c_int {
    signal(queue, Queue::wakeup)
}

/// Forgets a pending wakeup.
///
/// Errors: NETRING_EBADF, not a queue. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_wakeup_clear(queue: *mut netring_queue) -> c_int {
    signal(queue, Queue::clear_wakeup)
}

/// Ends the queue's waits for good: those for packets return NETRING_ESHUTDOWN once what
/// was received by then is handed out; netring_queue_reserve and the sending calls at
/// once, and netring_queue_drain where it would wait. Slots that are handed out can still
/// be committed and flushed. There is no way back but netring_xdp_close.
///
/// Errors: NETRING_EBADF, not a queue. MT-Safe, async-signal-safe; leaves errno alone on
/// success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_stop(queue: *mut netring_queue) -> c_int {
    signal(queue, Queue::stop)
}

/// A call that may come from a signal handler: no lock, no allocation.
fn signal(queue: *mut netring_queue, act: impl FnOnce(&Queue)) -> c_int {
    match QUEUES.pin_quietly(queue) {
        Ok(queue) => guard(|| {
            act(&queue);
            Ok(0)
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// Writes the receiving side's counters: as much of it as `size` bytes hold. received =
/// delivered + pending; seen = received + `dropped`, which is what the kernel dropped at
/// this socket, larger than a frame, without a frame, or with the ring full; what the
/// device dropped before is its own. One of several frames is one packet,
/// pending or delivered. The other causes of a capture's losses are none of a queue's: 0
/// (`valid` is 0).
///
/// Errors: as netring_queue_info. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_stats(
    queue: *mut netring_queue,
    out: *mut netring_stats,
    size: usize,
) -> c_int {
    on_queue(queue, |queue| {
        writable_sized(out, "out", size, SHORTEST)?;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &netring_stats::from(&queue.stats())) };
        Ok(0)
    })
}

/// Writes the numbers that only AF_XDP has: as much of it as `size` bytes hold.
///
/// Errors: as netring_queue_info. MT-Safe. (XDP_STATISTICS, linux/if_xdp.h.)
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_counters(
    queue: *mut netring_queue,
    out: *mut netring_xdp_counters,
    size: usize,
) -> c_int {
    on_queue(queue, |queue| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut counters = netring_xdp_counters::from(&queue.counters());
        counters.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &counters) };
        Ok(0)
    })
}

/// Writes the last failure of a call on this queue, with its words; all zero where none
/// has failed. A wait that was woken or stopped counts as one.
///
/// Errors: NETRING_EBADF, not a queue. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_last_error(
    queue: *mut netring_queue,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &QUEUES,
        queue,
        |queue| {
            let error = queue.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}

/// Hands out up to `count` slots, the next in order, of which at least one: returns how
/// many, or 0 where none was free within `timeout_ms` (0: do not wait; negative: for
/// ever). A slot is a frame of the queue's own. Everything else is as with
/// netring_injector_reserve; what was given back without a frame is free again once all
/// before it were given back.
///
/// Errors: as netring_injector_reserve; NETRING_EBADF, not a queue, or its xdp was closed;
/// NETRING_EINVAL also where it was opened with NETRING_XDP_NO_TX. netring_queue_wakeup
/// does not end the wait. MT-Safe.
///
/// # Safety
/// `slots` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_reserve(
    queue: *mut netring_queue,
    slots: *mut netring_slot,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_queue(queue, |queue| {
        elements(slots.cast(), size, size_of::<netring_slot>(), count)?;
        let got = queue.reserve(count, timeout_ms, |at, slot| {
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { slots.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &slot) };
        })?;
        Ok(got as c_int)
    })
}

/// Gives slots back, as netring_injector_commit: with a frame of `len` bytes, 14 to what
/// slot and interface hold, or without one (`len` 0). Takes them up to the first that is
/// wrong, and returns how many; that one stays handed out. `data` is as reserve wrote it;
/// the fields from `vnet_flags` on are 0, but that with NETRING_XDP_TX_METADATA
/// NETRING_VNET_NEEDS_CSUM, `csum_start` and `csum_offset` have a checksum filled in.
///
/// Nothing leaves before netring_queue_flush.
///
/// Errors, where the first is wrong: NETRING_EMSGSIZE, the frame is larger than its slot,
/// or than the interface takes (MTU and header). NETRING_EINVAL, `len` is less than a
/// header, `cookie` names no slot that is handed out, or another field is wrong; `slots` is
/// NULL or misaligned, `size` is less than 40, more than 256 or not a multiple of 8,
/// `count` is 0 or more than 8388607; opened with NETRING_XDP_NO_TX. NETRING_EBADF, not a
/// queue. MT-Safe.
///
/// # Safety
/// `slots` must be readable for `count` elements of `size` bytes, and nobody touches the
/// memory of those that were taken any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_commit(
    queue: *mut netring_queue,
    slots: *const netring_slot,
    size: usize,
    count: usize,
) -> c_int {
    on_queue(queue, |queue| {
        elements(slots.cast(), size, size_of::<netring_slot>(), count)?;
        let taken = queue.commit(count, |at| {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { slots.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a slot at least.
            unsafe { from.read() }
        })?;
        Ok(taken as c_int)
    })
}

/// Puts what is committed into the transmit ring, as far as there is room and no open slot
/// before it, and has the driver take it, with a system call where it wants one. Returns
/// how many frames went into the ring. Later calls go on with the rest; netring_queue_drain
/// waits for it.
///
/// Without zero copy the kernel makes a packet of each frame there and then. One that the
/// driver drops is counted (`dropped` of netring_queue_transmit_stats) and has a result;
/// the kernel tells which it was since Linux 6.17, before that the cookie is 0.
///
/// Errors: NETRING_ENETDOWN, the link is down: frames stay. NETRING_ENODEV, the interface
/// was removed: they are refused. NETRING_EIO, the driver refuses. NETRING_EINVAL, opened
/// with NETRING_XDP_NO_TX. NETRING_EBADF, not a queue. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_flush(queue: *mut netring_queue) -> c_int {
    on_queue(queue, |queue| Ok(c_int::try_from(queue.flush()?).unwrap_or(c_int::MAX)))
}

/// Waits until every committed frame that no open slot holds back has left and the kernel
/// is done with it: returns 1, or 0 where that was not so within `timeout_ms` (0: do not
/// wait; negative: for ever). Frames of a driver that completes late (it may wait for more
/// to send) keep it waiting: give it a timeout.
///
/// Errors: as netring_queue_flush; NETRING_ESHUTDOWN, stopped, and it would have to wait.
/// MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_drain(
    queue: *mut netring_queue,
    timeout_ms: c_int,
) -> c_int {
    on_queue(queue, |queue| Ok(queue.drain(timeout_ms)?.into()))
}

/// Sends a copy of one frame of `len` bytes: netring_queue_reserve, _commit and _flush in
/// one call. Returns 1, or 0 where no slot was free within `timeout_ms`.
///
/// This is the slower way, a call for every frame.
///
/// Errors, where the frame was not taken: as netring_queue_reserve and
/// netring_queue_commit; NETRING_EINVAL, `len` is 0, or `data` NULL. MT-Safe.
///
/// # Safety
/// `data` must be readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_send(
    queue: *mut netring_queue,
    data: *const c_void,
    len: usize,
    timeout_ms: c_int,
) -> c_int {
    on_queue(queue, |queue| {
        readable(data.cast::<u8>(), "data")?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let sent = queue.send(
            1,
            timeout_ms,
            |_| Ok((len, Default::default())),
            |_, slot| {
                // SAFETY: `len` bytes are readable by the caller's promise, and writable in a
                // slot, whose capacity was checked.
                unsafe {
                    std::ptr::copy_nonoverlapping(data.cast(), slot.data, slot.len as usize);
                }
                Ok(())
            },
        )?;
        Ok(sent as c_int)
    })
}

/// Sends copies of `count` frames, as netring_injector_send_batch: returns how many the
/// queue has taken, all, or those before the first that is wrong or that found no slot
/// within `timeout_ms`. The fields from `vnet_flags` on are 0.
///
/// `size` is sizeof(struct netring_frame) of the caller's header.
///
/// Errors, where the first frame was not taken: as netring_queue_reserve and
/// netring_queue_commit; NETRING_EINVAL, `frames` is NULL or misaligned, `size` is less
/// than 24, more than 256 or not a multiple of 8, `count` is 0 or more than 8388607, a
/// frame's `data` is NULL or its `len` 0. MT-Safe.
///
/// # Safety
/// `frames` must be readable for `count` elements of `size` bytes, and the `data` of
/// each for its `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_send_batch(
    queue: *mut netring_queue,
    frames: *const netring_frame,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_queue(queue, |queue| {
        elements(frames.cast(), size, size_of::<netring_frame>(), count)?;
        let frame = |at: usize| -> Frame {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { frames.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a frame at least.
            unsafe { from.read() }
        };
        let sent = queue.send(
            count,
            timeout_ms,
            |at| {
                let frame = frame(at);
                readable(frame.data, "data")?;
                Ok((frame.len, frame.vnet()))
            },
            |at, slot| {
                // SAFETY: `len` bytes are readable by the caller's promise, and writable in a
                // slot, whose capacity was checked.
                unsafe {
                    std::ptr::copy_nonoverlapping(frame(at).data, slot.data, slot.len as usize);
                }
                Ok(())
            },
        )?;
        Ok(sent as c_int)
    })
}

/// Sends received packets as they came, by copy: packets of one block of a capture, a queue
/// or a savefile, as netring_injector_send_packet. A missing checksum is computed.
///
/// Errors, where the first packet was not taken: as netring_queue_reserve and
/// netring_queue_commit, and those of netring_injector_send_packet. MT-Safe.
///
/// # Safety
/// `packets` must be readable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_send_packet(
    queue: *mut netring_queue,
    block: *mut netring_block,
    packets: *const netring_packet,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_queue(queue, |queue| {
        elements(packets.cast(), size, size_of::<netring_packet>(), count)?;
        let block = BLOCKS.pin(block)?;
        let sent = send_packets(&**queue, &block, count, timeout_ms, |at| {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { packets.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a packet at least.
            unsafe { from.read() }
        })?;
        Ok(sent as c_int)
    })
}

/// Sends received packets without a copy, from the frames that they are in: packets of one
/// block of a queue with the same memory, that is of the same queue, or of any queue
/// whose xdp was opened with the same `umem`. Takes the first k, as many as the transmit
/// ring has room for and before the first that is wrong, and returns k. netring_queue_flush
/// has them leave, in order with the slots that were reserved before.
///
/// `data` and `caplen` may have been changed, if the packet is still in its frame: headers
/// taken away, or put in front where there is `headroom`. From here on nobody may touch
/// the bytes of the packets that were taken. Their frames go back to the queue that
/// received them once they are sent, or 250 ms after the close of the queue that was to:
/// with the next call that sends there, or, where the receiving queue has few left, with
/// its next wait. The others stay the caller's, and the block is released as ever. Returns
/// 0 where there is no room, as after the interface was removed, which netring_queue_flush
/// tells.
///
/// They leave with the checksums that they have: what another program of this machine sent
/// by a veth has none that is filled in (docs/af_xdp.md), and its receiver drops it.
///
/// With NETRING_XDP_TX_METADATA the first 24 bytes of a frame stay free: no packet begins
/// in them.
///
/// `size` is sizeof(struct netring_packet) of the caller's header.
///
/// Errors, where the first packet was not taken: NETRING_EINVAL, its frame is in another
/// memory or the block is none of a queue; it was forwarded before; it is in several
/// frames (NETRING_PACKET_SEGMENTED, or joined by NETRING_XDP_LINEAR); `data` is not in its
/// frame, or too far in front, or it is shorter than a header; `cookie` names no packet of the block; `packets`
/// is NULL or misaligned, `size` is less than 64, more than 256 or not a multiple of 8,
/// `count` is 0 or more than 8388607; opened with NETRING_XDP_NO_TX. NETRING_EMSGSIZE, it
/// is larger than the interface takes. NETRING_ESHUTDOWN, stopped. NETRING_EBADF, not a
/// queue, or not a block. MT-Safe.
///
/// # Safety
/// `packets` must be readable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_forward(
    queue: *mut netring_queue,
    block: *mut netring_block,
    packets: *const netring_packet,
    size: usize,
    count: usize,
) -> c_int {
    on_queue(queue, |queue| {
        elements(packets.cast(), size, size_of::<netring_packet>(), count)?;
        let block = BLOCKS.pin(block)?;
        let taken = queue.forward(&block, count, |at| {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { packets.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a packet at least.
            unsafe { from.read() }
        })?;
        Ok(taken as c_int)
    })
}

/// Fetches results, the oldest first, as netring_injector_results: committed frames that
/// did not leave. NETRING_ENODEV, the interface was removed before. NETRING_EIO with
/// `os_errno` EBUSY, the driver has dropped it; `cookie` is 0 where the kernel does not
/// tell which it was (before Linux 6.17).
///
/// Errors: NETRING_EBADF, not a queue. NETRING_EINVAL, `results` is NULL or misaligned,
/// `size` is less than 16, more than 256 or not a multiple of 8, `count` is 0 or more than
/// 8388607; opened with NETRING_XDP_NO_TX. MT-Safe.
///
/// # Safety
/// `results` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_results(
    queue: *mut netring_queue,
    results: *mut netring_result,
    size: usize,
    count: usize,
) -> c_int {
    on_queue(queue, |queue| {
        elements(results.cast(), size, size_of::<netring_result>(), count)?;
        let fetched = queue.results(count, |at, refusal| {
            let result = netring_result {
                cookie: refusal.cookie,
                code: code(refusal.kind),
                os_errno: refusal.os,
            };
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { results.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &result) };
        })?;
        Ok(fetched as c_int)
    })
}

/// Fetches timestamps, the oldest first: when frames were sent, with
/// NETRING_XDP_TX_METADATA. Returns how many were written, 0 where there is none yet: it
/// does not wait. After netring_queue_drain all are there that come. Each is told once; the
/// newest 4096, or as many as there are slots, are kept.
///
/// `clock` is NETRING_CLOCK_SOFTWARE, the kernel's clock when the driver was done with the
/// copy, or with zero copy NETRING_CLOCK_RAW_HARDWARE, the device's own, where its driver
/// stamps (`xsk_features` of netring_xdp_probe). Frames that are dropped have none, nor
/// have forwarded ones; `timestamps_lost` of netring_queue_transmit_stats counts those
/// without.
///
/// `size` is sizeof(struct netring_timestamp) of the caller's header.
///
/// Errors: NETRING_EBADF, not a queue. NETRING_EINVAL, opened without
/// NETRING_XDP_TX_METADATA; `timestamps` is NULL or misaligned, `size` is less than 24, more
/// than 256 or not a multiple of 8, `count` is 0 or more than 8388607. MT-Safe.
/// (networking/xsk-tx-metadata.rst.)
///
/// # Safety
/// `timestamps` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_timestamps(
    queue: *mut netring_queue,
    timestamps: *mut netring_timestamp,
    size: usize,
    count: usize,
) -> c_int {
    on_queue(queue, |queue| {
        elements(timestamps.cast(), size, size_of::<netring_timestamp>(), count)?;
        let fetched = queue.timestamps(count, |at, stamp, devices| {
            let clock = if devices { NETRING_CLOCK_RAW_HARDWARE } else { NETRING_CLOCK_SOFTWARE };
            let timestamp = netring_timestamp {
                cookie: stamp.cookie,
                time_ns: stamp.time_ns,
                clock: clock.into(),
                reserved: 0,
            };
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { timestamps.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &timestamp) };
        })?;
        Ok(fetched as c_int)
    })
}

/// Writes what became of the frames so far: as much of it as `size` bytes hold. `handed`
/// are those that went into the transmit ring, `completed` those that came back,
/// `dropped` those that the driver dropped. Forwarded frames count as reserved and
/// committed. What interface and qdisc lost is not among them (`valid` is 0).
///
/// Errors: as netring_queue_info; NETRING_EINVAL also where it was opened with
/// NETRING_XDP_NO_TX. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_queue_transmit_stats(
    queue: *mut netring_queue,
    out: *mut netring_injector_stats,
    size: usize,
) -> c_int {
    on_queue(queue, |queue| {
        writable_sized(out, "out", size, SHORTEST)?;
        let stats = netring_injector_stats::from(&queue.transmit_stats()?);
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &stats) };
        Ok(0)
    })
}
