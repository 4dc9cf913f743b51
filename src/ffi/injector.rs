//! struct netring_injector: frames out of one interface.

use crate::afpacket::injector::received::send_packets;
use crate::afpacket::injector::{Injector, InjectorInfo, InjectorStats};
use crate::error::{Error, Kind, Result};
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::error::{code, describe, guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::injector_config::{injector_config, method_number, netring_injector_config};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, readable, text, writable, writable_sized,
};
use crate::log;
use crate::packet::{NETRING_CLOCK_SOFTWARE, netring_packet};
use crate::slot::{Frame, netring_frame, netring_slot};
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

/// Frames out of one interface: a transmit ring of TPACKET_V2, or batches of
/// sendmmsg(2). A token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_injector {
    _opaque: [u8; 0],
}

pub(crate) static INJECTORS: Table<Injector> = Table::new(HandleKind::Injector);

/// What was granted to an injector, and how its interface is now.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_injector_info {
    /// The size passed in.
    pub size: u32,
    /// NETRING_METHOD_TPACKET2 or NETRING_METHOD_SENDMMSG.
    pub method: u32,
    /// Bytes of the largest frame a slot holds.
    pub slot_size: u32,
    /// Slots.
    pub slot_count: u32,
    /// `slot_count` as configured, or the default.
    pub requested_slot_count: u32,
    /// By what it was made smaller: NETRING_SHRUNK_* bits.
    pub shrunk_by: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// LINKTYPE_ number that its frames have (NETRING_LINKTYPE_ETHERNET: give them
    /// with an Ethernet header).
    pub link_type: u32,
    /// Its MTU now.
    pub mtu: u32,
    /// Bytes of the largest frame that it takes now: MTU and link-layer header; on
    /// Ethernet interfaces (not lo) 4 more with a VLAN tag (0x8100).
    pub frame_limit: u32,
    /// The running kernel, 0x00MMmmpp.
    pub kernel_version: u32,
    /// Bytes of memory that frames on their way may hold (SO_SNDBUF). It is raised to
    /// what the slots take; without CAP_NET_ADMIN to net.core.wmem_max only.
    pub send_buffer: u32,
    /// NETRING_INJECTOR_* bits in force.
    pub flags: u64,
    /// Bytes of memory the slots take.
    pub memory: u64,
    /// Bytes they could have taken at most when the injector was opened.
    pub memory_bound: u64,
    /// Name of the interface now; where it is gone, the one it was opened by.
    /// NUL-terminated.
    pub interface: [c_char; 16],
}

/// What became of the frames: cumulative since the open, except for the gauges; never
/// reset by reading. reserved = committed + discarded + open; committed = handed +
/// refused + dropped + waiting; handed = completed + in_flight.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_injector_stats {
    /// CLOCK_MONOTONIC of this reading, nanoseconds.
    pub time_ns: u64,
    /// Slots handed out, those of the copying calls among them.
    pub reserved: u64,
    /// Slots given back with a frame.
    pub committed: u64,
    /// Slots given back without one.
    pub discarded: u64,
    /// Frames that the kernel took.
    pub handed: u64,
    /// Their bytes.
    pub handed_bytes: u64,
    /// Frames whose slots the kernel is done with: with NETRING_METHOD_TPACKET2 the
    /// device has sent or dropped them, or they were copied on the way; with
    /// NETRING_METHOD_SENDMMSG all that it took.
    pub completed: u64,
    /// Frames that did not leave because the kernel made no packet of them, or had no
    /// interface any more: netring_injector_results names them.
    pub refused: u64,
    /// Frames that did not leave because they were dropped whenever they were offered,
    /// with no queue in the way: netring_injector_results names them.
    pub dropped: u64,
    /// Results that nobody fetched: the oldest give way to new ones (4096 are kept, or
    /// as many as there are slots).
    pub results_lost: u64,
    /// With NETRING_INJECTOR_TIMESTAMPS: frames that the kernel took and has no timestamp
    /// of (dropped on the way, by a device that gives none, or there was no room), and
    /// timestamps that nobody fetched. Known when nothing is in flight.
    pub timestamps_lost: u64,
    /// Times that frames were handed over: a system call each, several where sendmmsg
    /// has to go on.
    pub kicks: u64,
    /// Of them, those that the full send buffer ended (EAGAIN): back-pressure.
    pub full_socket: u64,
    /// Of them, those that a full queue, of the qdisc or the device, ended (ENOBUFS):
    /// back-pressure. The queue counts a drop each time; the frame is offered again.
    pub full_queue: u64,
    /// Gauge: slots handed out and not given back.
    pub open: u64,
    /// Gauge: frames committed that the kernel has not taken.
    pub waiting: u64,
    /// Gauge: of these, frames that wait for an earlier slot to be given back.
    pub held_back: u64,
    /// Gauge: frames that the kernel is not done with.
    pub in_flight: u64,
    /// Frames that the interface could not send (tx_errors), anybody's, since the open.
    pub interface_errors: u64,
    /// Frames that its driver dropped (tx_dropped), anybody's, since the open.
    pub interface_dropped: u64,
    /// Frames that its root queueing discipline dropped (tc), anybody's, since the open,
    /// or since it took the place of another. A frame that is offered again after
    /// `full_queue` counts each time.
    pub qdisc_drops: u64,
    /// NETRING_INJECTOR_STATS_* bits: which of the last could be read.
    pub valid: u64,
}

/// What became of a committed frame that did not leave: 16 bytes.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_result {
    /// The slot's.
    pub cookie: u64,
    /// NETRING_EMSGSIZE: larger than the interface takes (its MTU is smaller than it
    /// was at the commit). NETRING_EINVAL: the kernel makes no packet of it, `os_errno`
    /// says why. NETRING_ENODEV: the interface was removed before. NETRING_EIO, with
    /// `os_errno` ENOBUFS: dropped again and again for 100 ms with nothing of the
    /// injector's in any queue, so by a filter of the interface (tc), or its driver.
    pub code: i32,
    /// What the kernel said, an errno number.
    pub os_errno: i32,
}

/// When a frame was given to the device: 24 bytes.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_timestamp {
    /// The slot's.
    pub cookie: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// NETRING_CLOCK_SOFTWARE; of queues with zero copy NETRING_CLOCK_RAW_HARDWARE.
    pub clock: u32,
    /// 0.
    pub reserved: u32,
}

/// interface_errors and interface_dropped are valid.
pub const NETRING_INJECTOR_STATS_INTERFACE: u64 = 0x1;
/// qdisc_drops is valid.
pub const NETRING_INJECTOR_STATS_QDISC: u64 = 0x2;

const _: () = assert!(size_of::<netring_injector_info>() == 88);
const _: () = assert!(size_of::<netring_injector_stats>() == 176);
const _: () = assert!(size_of::<netring_result>() == 16);
const _: () = assert!(size_of::<netring_timestamp>() == 24);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_injector_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_injector_stats {}
// SAFETY: as above.
unsafe impl CStruct for netring_result {}
// SAFETY: as above.
unsafe impl CStruct for netring_timestamp {}
// SAFETY: repr(C) without padding; integers, and a pointer that is only compared.
unsafe impl CStruct for netring_slot {}
// SAFETY: repr(C) without padding; integers, and a pointer for which the caller
// promises.
unsafe impl CStruct for netring_frame {}

impl From<&InjectorInfo> for netring_injector_info {
    fn from(info: &InjectorInfo) -> Self {
        let mut interface = [0; 16];
        for (to, from) in interface.iter_mut().take(15).zip(info.interface.bytes()) {
            *to = from as c_char;
        }
        Self {
            size: size_of::<Self>() as u32,
            method: method_number(info.method),
            slot_size: info.slot_size,
            slot_count: info.slot_count,
            requested_slot_count: info.requested_slot_count,
            shrunk_by: info.shrunk_by.iter().fold(0, |bits, bound| bits | bound.bit()),
            ifindex: info.ifindex,
            link_type: info.link_type.into(),
            mtu: info.mtu,
            frame_limit: info.frame_limit,
            kernel_version: info.kernel_version,
            send_buffer: info.send_buffer,
            flags: info.flags,
            memory: info.memory,
            memory_bound: info.memory_bound,
            interface,
        }
    }
}

impl From<&InjectorStats> for netring_injector_stats {
    fn from(stats: &InjectorStats) -> Self {
        let interface = stats.interface.unwrap_or_default();
        let mut valid = 0;
        if stats.interface.is_some() {
            valid |= NETRING_INJECTOR_STATS_INTERFACE;
        }
        if stats.queue_drops.is_some() {
            valid |= NETRING_INJECTOR_STATS_QDISC;
        }
        Self {
            time_ns: stats.time_ns,
            reserved: stats.reserved,
            committed: stats.committed,
            discarded: stats.discarded,
            handed: stats.handed,
            handed_bytes: stats.handed_bytes,
            completed: stats.completed,
            refused: stats.refused,
            dropped: stats.dropped,
            results_lost: stats.results_lost,
            timestamps_lost: stats.timestamps_lost,
            kicks: stats.kicks,
            full_socket: stats.full_socket,
            full_queue: stats.full_queue,
            open: stats.open,
            waiting: stats.waiting,
            held_back: stats.held_back,
            in_flight: stats.in_flight,
            interface_errors: interface.tx_errors,
            interface_dropped: interface.tx_dropped,
            qdisc_drops: stats.queue_drops.unwrap_or(0),
            valid,
        }
    }
}

/// A call on an injector; its failure is kept for netring_injector_last_error.
pub(crate) fn on_injector(
    injector: *mut netring_injector,
    call: impl FnOnce(&Pinned<Injector>) -> Result<c_int>,
) -> c_int {
    guard_handle(&INJECTORS, injector, call, |injector, error| {
        if let Some(injector) = injector {
            injector.note(error);
        }
    })
}

/// Most frames of one call: what it returns is an int.
const MOST: usize = c_int::MAX as usize;

/// An array of the caller's, by its element size.
pub(crate) fn elements(
    pointer: *const c_void,
    size: usize,
    least: usize,
    count: usize,
) -> Result<()> {
    if pointer.is_null() || !pointer.cast::<u64>().is_aligned() {
        let null = pointer.is_null();
        return Err(Error::config(
            "array",
            if null { "the array is NULL" } else { "the array is not aligned to 8 bytes" },
        ));
    }
    if size < least || size > 256 || size % 8 != 0 {
        return Err(Error::config(
            "size",
            format!("size {size} is out of range: {least} to 256, a multiple of 8"),
        ));
    }
    if count == 0 || count > MOST / 256 {
        return Err(Error::config(
            "count",
            format!("count {count} is out of range: 1 to {}", MOST / 256),
        ));
    }
    Ok(())
}

/// Opens an injector: frames given to it leave by this interface. It receives
/// nothing. `config` NULL: the defaults.
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong ("any" is no
/// interface to send by). NETRING_ENODEV, no such interface. NETRING_EMMAP, the
/// slots' memory exceeds its bound, or was refused. NETRING_EPERM, no CAP_NET_RAW in
/// the user namespace that owns the network namespace. NETRING_ESOCKET,
/// NETRING_ESOCKOPT, NETRING_EBIND, NETRING_EIO: the kernel refused a step.
/// NETRING_ENOTSUP, Linux before 4.14, or NETRING_METHOD_TPACKET2 on loopback. `err`
/// names the step, the value and what to do; docs/errors.md lists every one. On an
/// error `*out` is not written.
/// Ownership: the caller closes `*out` with netring_injector_close. MT-Safe. `err` may
/// be NULL. (packet(7), packet_mmap.rst.)
///
/// # Safety
/// `interface` must be NUL-terminated, `config` readable for the size it says it has,
/// `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_open(
    interface: *const c_char,
    config: *const netring_injector_config,
    out: *mut *mut netring_injector,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let config = unsafe { injector_config(config)? };
        let injector = Injector::open(interface.to_bytes(), &config)?;
        let handle = INJECTORS.insert(Arc::new(injector))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Closes an injector. What is committed is offered to the kernel once more, without
/// waiting; returns how many committed frames it has not taken (0: none), which are
/// gone then. To lose none, netring_injector_drain before. Frames that the kernel has
/// leave, whatever becomes of the slots: their memory is the kernel's until they did.
/// Slots that are handed out must not be touched any more. Calls in progress on other
/// threads return NETRING_EBADF. NULL is fine: 0.
///
/// Errors: NETRING_EBADF, not an injector, or closed before. NETRING_EBUSY, called
/// from a log callback. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_close(injector: *mut netring_injector) -> c_int {
    guard(|| {
        if injector.is_null() {
            return Ok(0);
        }
        if log::in_sink() {
            return Err(Error::new(
                Kind::Busy,
                "injector",
                "a log callback cannot close an injector: the close would wait for the call that \
                 the message comes from",
            ));
        }
        let closing = INJECTORS.close(injector)?;
        if let Some(injector) = closing.value() {
            injector.interrupt();
        }
        let left = closing.finish().map_or(0, |injector| injector.close());
        Ok(c_int::try_from(left).unwrap_or(c_int::MAX))
    })
}

/// Hands out up to `count` slots, the next in order, of which at least one: returns
/// how many, or 0 where none was free within `timeout_ms` milliseconds (0: do not
/// wait; negative: for ever, as poll(2)). Signals do not prolong or end the wait. While
/// it waits, the kernel is given what is committed.
///
/// Frames leave in the order of their slots. A slot that is not given back holds back
/// what is committed in later ones (`held_back` of netring_injector_stats): give each
/// one back soon, with `len` 0 where there is nothing to send. What was given back
/// without a frame is free again once no slot is handed out. A slot's memory is the
/// caller's from here to its commit.
///
/// `size` is sizeof(struct netring_slot) of the caller's header.
///
/// Errors, none of which leaves a slot handed out: NETRING_ESHUTDOWN, stopped, even
/// where a slot is free.
/// NETRING_EWAKEUP, netring_injector_wakeup ended the wait. NETRING_ENETDOWN, none is
/// free and none becomes so while the link is down. NETRING_ENODEV, none is free and
/// the interface was removed. NETRING_EBADF, not an injector, or closed meanwhile.
/// NETRING_EINVAL, `slots` is NULL or misaligned, `size` is less than 40, more than 256
/// or not a multiple of 8, `count` is 0 or more than 8388607. NETRING_EIO, waiting or
/// sending failed; errno says why. MT-Safe.
///
/// # Safety
/// `slots` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_reserve(
    injector: *mut netring_injector,
    slots: *mut netring_slot,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_injector(injector, |injector| {
        elements(slots.cast(), size, size_of::<netring_slot>(), count)?;
        let reserved = injector.reserve(count, timeout_ms, |at, slot| {
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { slots.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &slot) };
        })?;
        Ok(reserved as c_int)
    })
}

/// Takes slots back, in any order and any number at a time: each with the frame whose
/// bytes are in `len`, or, with `len` 0, without one. (Where a frame does not fit the
/// slot, say so: `len` larger than `capacity` is refused before anything is read.) Returns how many: those up to the
/// first that is wrong, which stays handed out, and is what the next call would return
/// an error for. Nothing is sent yet.
///
/// Errors, about the first slot: NETRING_EMSGSIZE, the frame is larger than the slot or
/// than the interface takes (MTU and link-layer header; 4 bytes more with a VLAN tag);
/// the limit is in netring_injector_last_error. Give the slot back with `len` 0 then. NETRING_EINVAL, `cookie` or `data` is
/// not that of a slot that is handed out, the frame is shorter than a link-layer
/// header, or what is left to do for it makes no sense, or was not announced with
/// NETRING_INJECTOR_VNET_HEADER; or an argument as in netring_injector_reserve.
/// NETRING_EBADF, not an injector. MT-Safe.
///
/// # Safety
/// `slots` must be readable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_commit(
    injector: *mut netring_injector,
    slots: *const netring_slot,
    size: usize,
    count: usize,
) -> c_int {
    on_injector(injector, |injector| {
        elements(slots.cast(), size, size_of::<netring_slot>(), count)?;
        let committed = injector.commit(count, |at| {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { slots.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a slot at least.
            unsafe { from.read() }
        })?;
        Ok(committed as c_int)
    })
}

/// Has the kernel take the committed frames, in order, as far as it takes them now and
/// as `rate` allows; returns how many it took. It does not wait. 0 is no error: there
/// was nothing, or there is back-pressure (`full_socket`, `full_queue`). What stays
/// leaves with a later call: this one, netring_injector_drain, or a waiting
/// netring_injector_reserve. Frames that the kernel refuses do not stop those behind
/// them: netring_injector_results.
///
/// One system call hands over any number of frames: commit a batch, then flush.
///
/// Errors: NETRING_ENETDOWN, the link is down: the frames stay, and leave later
/// (NETRING_INJECTOR_IGNORE_LINK_STATE). NETRING_ENODEV, the interface was removed:
/// what was waiting is refused, each frame has a result; close the injector.
/// NETRING_EIO, the kernel took no more for another reason, errno says which.
/// NETRING_EBADF, not an injector. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_flush(injector: *mut netring_injector) -> c_int {
    on_injector(injector, |injector| Ok(c_int::try_from(injector.flush()?).unwrap_or(c_int::MAX)))
}

/// Waits until every frame that can leave has left and the kernel is done with it:
/// returns 1, or 0 where that took longer than `timeout_ms` (as
/// netring_injector_reserve). What waits for an earlier slot to be given back cannot
/// leave. That the kernel is done with a frame says that its memory is given back: the
/// device, or whatever the interface is, has it or has dropped it.
///
/// Errors: NETRING_ENETDOWN, NETRING_ENODEV, NETRING_EIO, as netring_injector_flush, at
/// once: to go on when the link is up, wait for that (netring_interface_info, or a
/// pause) and call again. NETRING_ESHUTDOWN, stopped, and not done at once: a program
/// that wants to end in good order ends its waits with netring_injector_wakeup, drains,
/// and closes. NETRING_EWAKEUP,
/// netring_injector_wakeup. NETRING_EBADF, not an injector, or closed meanwhile.
/// MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_drain(
    injector: *mut netring_injector,
    timeout_ms: c_int,
) -> c_int {
    on_injector(injector, |injector| Ok(injector.drain(timeout_ms)?.into()))
}

/// Sends a copy of one frame of `len` bytes: netring_injector_reserve, _commit and
/// _flush in one call. Returns 1, or 0 where no slot was free within `timeout_ms`. With
/// 1 the injector has the frame; whether the kernel took it at once is as with
/// netring_injector_flush.
///
/// This is the slower way, a call for every frame; batches cost a call each.
///
/// Errors, where the frame was not taken: as netring_injector_reserve and
/// netring_injector_commit; NETRING_EINVAL, `len` is 0, or `data` NULL. MT-Safe.
///
/// # Safety
/// `data` must be readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_send(
    injector: *mut netring_injector,
    data: *const c_void,
    len: usize,
    timeout_ms: c_int,
) -> c_int {
    on_injector(injector, |injector| {
        readable(data.cast::<u8>(), "data")?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let sent = injector.send(
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

/// Sends copies of `count` frames: netring_injector_reserve, _commit and _flush in one
/// call, or in several where there are fewer free slots. Returns how many frames the
/// injector has taken: all, or those before the first that is wrong or that found no
/// slot within `timeout_ms`.
///
/// `size` is sizeof(struct netring_frame) of the caller's header.
///
/// Errors, where the first frame was not taken: as netring_injector_reserve and
/// netring_injector_commit; NETRING_EINVAL, `frames` is NULL or misaligned, `size` is
/// less than 24, more than 256 or not a multiple of 8, `count` is 0 or more than
/// 8388607, or a frame's `data` is NULL or its `len` 0. MT-Safe.
///
/// # Safety
/// `frames` must be readable for `count` elements of `size` bytes, and the `data` of
/// each for its `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_send_batch(
    injector: *mut netring_injector,
    frames: *const netring_frame,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_injector(injector, |injector| {
        elements(frames.cast(), size, size_of::<netring_frame>(), count)?;
        let frame = |at: usize| -> Frame {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { frames.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a frame at least.
            unsafe { from.read() }
        };
        let sent = injector.send(
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

/// Sends received packets as they came: copies of `count` packets of one block, of a
/// capture or of a savefile, as netring_block_read or an inline walk gave them. Waits
/// and returns as netring_injector_send_batch.
///
/// The bytes are those at `data` now, `caplen` of them: both may have been changed, if
/// the bytes are in the block. A VLAN tag beside them (NETRING_PACKET_VLAN) goes back
/// behind the addresses, as 0x8100 where its EtherType is not known. What the capture
/// has kept of checksum and segmentation (NETRING_CAPTURE_VNET_HEADER) goes to the
/// kernel with NETRING_INJECTOR_VNET_HEADER.
///
/// A missing checksum (NETRING_PACKET_CSUM_NOT_READY) is else computed here: where the
/// capture has its place, and otherwise for TCP, UDP and SCTP over IPv4 and IPv6, which
/// are no fragments and in no tunnel. It begins with the sum of the pseudo header that
/// the kernel has left in the field: whoever changes addresses or lengths in place
/// changes that with them, or writes the whole checksum and clears the bit in `status`.
/// (For TCP without vnet header it is computed all anew.)
///
/// A packet in several pieces (NETRING_PACKET_SEGMENTED) leaves in one: `data` and `caplen` then
/// end where its first piece does. Without the bit the first piece alone is sent.
///
/// A capture of the same interface receives what is sent, too: with
/// NETRING_CAPTURE_IGNORE_OUTGOING a program that sends back does not answer itself.
///
/// `size` is sizeof(struct netring_packet) of the caller's header. The block must not
/// be released meanwhile: that would wait for the call.
///
/// Errors, where the first packet was not taken: as netring_injector_reserve and
/// netring_injector_commit; NETRING_EMSGSIZE, a super-packet, and capture or injector
/// has no vnet header; NETRING_EINVAL, its link type is not that of the interface, it
/// was truncated (NETRING_PACKET_TRUNCATED), its checksum is missing and cannot be
/// computed, it has no bytes, or not (all) in this block; `packets` is NULL or misaligned,
/// `size` is less than 64, more than 256 or not a multiple of 8, `count` is 0 or more
/// than 8388607. NETRING_EBADF, not an injector, or not a block. MT-Safe. (af_packet.c
/// tpacket_rcv, packet_snd.)
///
/// # Safety
/// `packets` must be readable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_send_packet(
    injector: *mut netring_injector,
    block: *mut netring_block,
    packets: *const netring_packet,
    size: usize,
    count: usize,
    timeout_ms: c_int,
) -> c_int {
    on_injector(injector, |injector| {
        elements(packets.cast(), size, size_of::<netring_packet>(), count)?;
        let block = BLOCKS.pin(block)?;
        let sent = send_packets(&**injector, &block, count, timeout_ms, |at| {
            // SAFETY: one of the caller's `count` elements.
            let from = unsafe { packets.byte_add(at * size) };
            // SAFETY: as above, aligned, and as large as a packet at least.
            unsafe { from.read() }
        })?;
        Ok(sent as c_int)
    })
}

/// Fetches results, the oldest first: committed frames that did not leave, and why.
/// Returns how many were written, 0 where there is none. Each is told once. Frames that
/// left have no result.
///
/// `size` is sizeof(struct netring_result) of the caller's header.
///
/// Errors: NETRING_EBADF, not an injector. NETRING_EINVAL, `results` is NULL or
/// misaligned, `size` is less than 16, more than 256 or not a multiple of 8, `count` is
/// 0 or more than 8388607. MT-Safe.
///
/// # Safety
/// `results` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_results(
    injector: *mut netring_injector,
    results: *mut netring_result,
    size: usize,
    count: usize,
) -> c_int {
    on_injector(injector, |injector| {
        elements(results.cast(), size, size_of::<netring_result>(), count)?;
        let fetched = injector.results(count, |at, refusal| {
            let result = netring_result {
                cookie: refusal.cookie,
                code: code(refusal.kind),
                os_errno: refusal.os,
            };
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { results.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &result) };
        });
        Ok(fetched as c_int)
    })
}

/// Fetches timestamps, the oldest first: when frames were given to the device, with
/// NETRING_INJECTOR_TIMESTAMPS. Returns how many were written, 0 where there is none yet:
/// it does not wait, and netring_injector_fd does not tell of them. After
/// netring_injector_drain all are there that come. Each is told once; the newest 4096, or
/// as many as there are slots, are kept.
///
/// The driver has them made (linux/skbuff.h skb_tx_timestamp): lo, veth and most hardware
/// do (`ethtool -T`), ifb does not. Frames that are dropped on their way have none;
/// `timestamps_lost` of netring_injector_stats counts those without. The kernel keeps
/// some until a call that sends or fetches; with few calls and many frames on their way
/// it runs out of room.
///
/// `size` is sizeof(struct netring_timestamp) of the caller's header.
///
/// Errors: NETRING_EBADF, not an injector. NETRING_EINVAL, opened without
/// NETRING_INJECTOR_TIMESTAMPS; `timestamps` is NULL or misaligned, `size` is less than
/// 24, more than 256 or not a multiple of 8, `count` is 0 or more than 8388607. MT-Safe.
/// (networking/timestamping.rst.)
///
/// # Safety
/// `timestamps` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_timestamps(
    injector: *mut netring_injector,
    timestamps: *mut netring_timestamp,
    size: usize,
    count: usize,
) -> c_int {
    on_injector(injector, |injector| {
        elements(timestamps.cast(), size, size_of::<netring_timestamp>(), count)?;
        let fetched = injector.timestamps(count, |(at, stamp)| {
            let timestamp = netring_timestamp {
                cookie: stamp.cookie,
                time_ns: stamp.time_ns,
                clock: NETRING_CLOCK_SOFTWARE.into(),
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

/// Writes what became of the frames so far: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not an injector. NETRING_EINVAL, `out` is NULL or misaligned,
/// or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_stats(
    injector: *mut netring_injector,
    out: *mut netring_injector_stats,
    size: usize,
) -> c_int {
    on_injector(injector, |injector| {
        writable_sized(out, "out", size, SHORTEST)?;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &netring_injector_stats::from(&injector.stats())) };
        Ok(0)
    })
}

/// Writes what was granted, and how the interface is now: as much of it as `size` bytes
/// hold.
///
/// Errors: as netring_injector_stats. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_info(
    injector: *mut netring_injector,
    out: *mut netring_injector_info,
    size: usize,
) -> c_int {
    on_injector(injector, |injector| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut info = netring_injector_info::from(&injector.info());
        info.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &info) };
        Ok(0)
    })
}

/// A descriptor for poll, epoll, io_uring and event loops: readable (POLLIN) while
/// netring_injector_reserve with a timeout of 0 would return something other than 0. It
/// is not while every slot is handed out, with the kernel, or waits because of
/// back-pressure or the rate. Right for level-triggered loops, and for edge-triggered
/// ones that reserve until 0. Of slots that a ring gets back the kernel tells only while
/// less than half of `send_buffer` is in use: on a slow link many come at once. Returns
/// the descriptor, 0 or more.
///
/// Errors: NETRING_EBADF, not an injector. MT-Safe.
/// Ownership: the injector's; do not close it, read from it, or use it after
/// netring_injector_close.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_fd(injector: *mut netring_injector) -> c_int {
    on_injector(injector, |injector| Ok(injector.fd()))
}

/// Ends one wait: the present or the next of netring_injector_reserve,
/// netring_injector_drain or a sending call returns NETRING_EWAKEUP. Several wakeups
/// before that are one. To end every wait, use netring_injector_stop.
///
/// Errors: NETRING_EBADF, not an injector. MT-Safe, async-signal-safe; leaves errno
/// alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_wakeup(injector: *mut netring_injector) -> c_int {
    signal(injector, Injector::wakeup)
}

/// Forgets a pending wakeup.
///
/// Errors: NETRING_EBADF, not an injector. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_wakeup_clear(injector: *mut netring_injector) -> c_int {
    signal(injector, Injector::clear_wakeup)
}

/// Ends the injector's waits for good: from now on netring_injector_reserve and the
/// sending calls return NETRING_ESHUTDOWN, and netring_injector_drain where it would
/// wait. Slots that are handed out can still be committed and flushed. There is no way
/// back but netring_injector_close.
///
/// Errors: NETRING_EBADF, not an injector. MT-Safe, async-signal-safe; leaves errno
/// alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_stop(injector: *mut netring_injector) -> c_int {
    signal(injector, Injector::stop)
}

/// A call that may come from a signal handler: no lock, no allocation.
fn signal(injector: *mut netring_injector, act: impl FnOnce(&Injector)) -> c_int {
    match INJECTORS.pin_quietly(injector) {
        Ok(injector) => guard(|| {
            act(&injector);
            Ok(0)
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// Writes the last failure of a call on this injector, with its words; all zero where
/// none has failed. A wait that was woken or stopped counts as one.
///
/// Errors: NETRING_EBADF, not an injector. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_last_error(
    injector: *mut netring_injector,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &INJECTORS,
        injector,
        |injector| {
            let error = injector.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}
