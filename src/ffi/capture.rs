//! struct netring_capture.

use crate::afpacket::capture::{Capture, CaptureInfo, release};
use crate::afpacket::counters::Stats;
use crate::config::flags;
use crate::error::{Error, Kind, Result};
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::config::{capture_config, netring_capture_config};
use crate::ffi::dispatch::{dispatch, next_packet};
use crate::ffi::error::{describe, guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, read_sized, text, writable, writable_sized,
};
use crate::log;
use crate::packet::netring_packet;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

/// A capture: an AF_PACKET receive ring on one interface or on all. A token,
/// never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_capture {
    _opaque: [u8; 0],
}

pub(crate) static CAPTURES: Table<Capture> = Table::new(HandleKind::Capture);

/// A TPACKET_V3 ring: blocks of packets.
pub const NETRING_METHOD_TPACKET3: u32 = 3;
/// A TPACKET_V2 ring: packets one by one (NETRING_CAPTURE_IMMEDIATE). When they are
/// handed out their headers are rewritten, so that a block has the layout of all
/// others.
pub const NETRING_METHOD_TPACKET2: u32 = 2;

/// The ring is smaller than asked for because of `memory_limit`.
pub const NETRING_SHRUNK_MEMORY_LIMIT: u32 = 0x1;
/// ... because of half of the machine's available memory.
pub const NETRING_SHRUNK_MEM_AVAILABLE: u32 = 0x2;
/// ... because of the room left in the control group.
pub const NETRING_SHRUNK_CGROUP: u32 = 0x4;
/// ... because the kernel answered ENOMEM.
pub const NETRING_SHRUNK_ENOMEM: u32 = 0x8;

/// What a capture was granted.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_capture_info {
    /// The size passed in.
    pub size: u32,
    /// NETRING_METHOD_*.
    pub method: u32,
    /// Bytes of a block, whole pages.
    pub block_size: u32,
    /// Blocks of the ring.
    pub block_count: u32,
    /// Bytes of a frame, as told to the kernel.
    pub frame_size: u32,
    /// Frames, as told to the kernel.
    pub frame_count: u32,
    /// `block_size` as configured.
    pub requested_block_size: u32,
    /// `block_count` as configured.
    pub requested_block_count: u32,
    /// How often the ring was shrunk.
    pub shrinks: u32,
    /// By what: NETRING_SHRUNK_* bits.
    pub shrunk_by: u32,
    /// Bytes kept of each packet; 0: all.
    pub snap_length: u32,
    /// `block_timeout` as configured.
    pub block_timeout: u32,
    /// Milliseconds the kernel's timer was given; 0: its own choice. Where
    /// `block_timeout` is 0 (only full blocks): the longest it can count,
    /// 4294967295 (49 days) since Linux 6.18, 65535 before.
    pub timer_ms: u32,
    /// Index of the interface, as last bound; 0: any.
    pub ifindex: u32,
    /// The running kernel, 0x00MMmmpp.
    pub kernel_version: u32,
    /// LINKTYPE_ number of the packets; NETRING_LINKTYPE_UNKNOWN on "any", where
    /// each packet has its own.
    pub link_type: u32,
    /// NETRING_CAPTURE_* bits in force: NETRING_CAPTURE_LOCK_MEMORY is cleared
    /// where the kernel refused it.
    pub flags: u64,
    /// Bytes of memory the kernel took for the ring.
    pub memory: u64,
    /// Bytes it could have taken at most when the ring was opened.
    pub memory_bound: u64,
    /// Name of the interface now; where it is gone, the one by which it was last
    /// bound. NUL-terminated; "any".
    pub interface: [c_char; 16],
    /// NETRING_CLOCK_* as configured, and granted; 0: the kernel as it is.
    pub clock: u32,
    /// 0.
    pub reserved: u32,
}

/// What became of the packets: cumulative since the open, except for the
/// gauges; never reset by reading. Once traffic stops, seen = received +
/// dropped, and received = delivered + filtered_late + looped + pending; while
/// it runs, readings may be a few packets apart.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
pub struct netring_stats {
    /// CLOCK_MONOTONIC of this reading, nanoseconds; of netring_stats_since: the
    /// time between the readings.
    pub time_ns: u64,
    /// Packets the kernel put into the ring.
    pub received: u64,
    /// Packets in blocks that were handed out, without those marked away.
    pub delivered: u64,
    /// Gauge: packets in the ring that were not handed out yet.
    pub pending: u64,
    /// Packets that passed the filter.
    pub seen: u64,
    /// Packets the kernel dropped because the ring was full.
    pub dropped: u64,
    /// Times the ring became full; one may cost many packets.
    pub freezes: u64,
    /// Blocks handed out.
    pub blocks_delivered: u64,
    /// Gauge: blocks ready to be handed out.
    pub blocks_ready: u64,
    /// The most blocks that were ready at any one time.
    pub blocks_ready_max: u64,
    /// Gauge: blocks of the ring that were handed out, whole or in parts, and not
    /// released.
    pub blocks_held: u64,
    /// Gauge: how long the oldest of them has been held, nanoseconds; of a queue to a tick
    /// of the kernel (1 to 10 ms) more.
    pub oldest_held_ns: u64,
    /// Blocks handed out without a record in them.
    pub blocks_empty: u64,
    /// Records that the kernel counted and never filled; part of `dropped`.
    pub skipped: u64,
    /// Packets a newer filter rejected after the kernel had received them.
    pub filtered_late: u64,
    /// Packets with `caplen` less than `len`.
    pub truncated: u64,
    /// Outgoing packets of loopback devices, marked away.
    pub looped: u64,
    /// Blocks whose sequence number did not follow the one before. Drops do not
    /// cause gaps; a gap means that memory was overwritten.
    pub sequence_gaps: u64,
    /// Packets the network device missed (rx_missed_errors) since the open.
    pub interface_missed: u64,
    /// Packets the host dropped on this interface before any socket saw them
    /// (rx_dropped) since the open. What `softnet_dropped` counts is among them.
    pub interface_dropped: u64,
    /// Packets lost in the device's FIFO (rx_fifo_errors) since the open.
    pub interface_fifo: u64,
    /// Packets dropped because a CPU's backlog was full, on the whole machine,
    /// since the open (net.core.netdev_max_backlog).
    pub softnet_dropped: u64,
    /// Times a CPU ran out of its receive budget, on the whole machine, since
    /// the open (net.core.netdev_budget).
    pub softnet_squeezed: u64,
    /// NETRING_STATS_* bits: which of the last two groups could be read.
    pub valid: u64,
}

/// interface_missed, interface_dropped and interface_fifo are valid. Not on
/// "any".
pub const NETRING_STATS_INTERFACE: u64 = 0x1;
/// softnet_dropped and softnet_squeezed are valid.
pub const NETRING_STATS_SOFTNET: u64 = 0x2;
/// freezes is valid. Not in immediate mode, where the kernel counts none.
pub const NETRING_STATS_FREEZES: u64 = 0x4;

const _: () = assert!(size_of::<netring_capture_info>() == 112);
const _: () = assert!(size_of::<netring_stats>() == 192);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_capture_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_stats {}

impl From<&CaptureInfo> for netring_capture_info {
    fn from(info: &CaptureInfo) -> Self {
        let mut interface = [0; 16];
        for (to, from) in interface.iter_mut().take(15).zip(info.interface.bytes()) {
            *to = from as c_char;
        }
        Self {
            size: size_of::<Self>() as u32,
            method: match info.flags & flags::IMMEDIATE {
                0 => NETRING_METHOD_TPACKET3,
                _ => NETRING_METHOD_TPACKET2,
            },
            block_size: info.block_size,
            block_count: info.block_count,
            frame_size: info.frame_size,
            frame_count: info.frame_count,
            requested_block_size: info.requested_block_size,
            requested_block_count: info.requested_block_count,
            shrinks: info.shrunk_by.len() as u32,
            shrunk_by: info.shrunk_by.iter().fold(0, |bits, bound| bits | bound.bit()),
            snap_length: info.snap_length,
            block_timeout: info.block_timeout,
            timer_ms: info.timer_ms,
            ifindex: info.ifindex,
            kernel_version: info.kernel_version,
            link_type: info.link_type.into(),
            flags: info.flags,
            memory: info.memory,
            memory_bound: info.memory_bound,
            interface,
            clock: info.clock,
            reserved: 0,
        }
    }
}

impl From<&Stats> for netring_stats {
    fn from(stats: &Stats) -> Self {
        let interface = stats.interface.unwrap_or_default();
        let softnet = stats.softnet;
        let valid = |known: bool, bit: u64| if known { bit } else { 0 };
        Self {
            time_ns: stats.time_ns,
            received: stats.received,
            delivered: stats.delivered,
            pending: stats.pending,
            seen: stats.seen,
            dropped: stats.dropped,
            freezes: stats.freezes,
            blocks_delivered: stats.blocks_delivered,
            blocks_ready: stats.blocks_ready,
            blocks_ready_max: stats.blocks_ready_max,
            blocks_held: stats.blocks_held,
            oldest_held_ns: stats.oldest_held_ns,
            blocks_empty: stats.blocks_empty,
            skipped: stats.skipped,
            filtered_late: stats.filtered_late,
            truncated: stats.truncated,
            looped: stats.looped,
            sequence_gaps: stats.sequence_gaps,
            interface_missed: interface.rx_missed,
            interface_dropped: interface.rx_dropped,
            interface_fifo: interface.rx_fifo,
            softnet_dropped: softnet.map_or(0, |softnet| softnet.dropped),
            softnet_squeezed: softnet.map_or(0, |softnet| softnet.squeezed),
            valid: valid(stats.interface.is_some(), NETRING_STATS_INTERFACE)
                | valid(softnet.is_some(), NETRING_STATS_SOFTNET)
                | valid(stats.counts_freezes, NETRING_STATS_FREEZES),
        }
    }
}

/// A call on a capture; its failure is kept for netring_capture_last_error.
pub(crate) fn on_capture(
    capture: *mut netring_capture,
    call: impl FnOnce(&Pinned<Capture>) -> Result<c_int>,
) -> c_int {
    guard_handle(&CAPTURES, capture, call, |capture, error| {
        if let Some(capture) = capture {
            capture.note(error);
        }
    })
}

/// Opens a capture on an interface, by name, or on "any": every interface of
/// the network namespace. `config` NULL: the defaults.
///
/// Everything the configuration asks for is in place before the first packet
/// can arrive. A failure leaves nothing open. A program forked later cannot use
/// the capture (NETRING_EBADF; see NETRING_CAPTURE_KEEP_ON_FORK) but keeps its
/// socket alive until it execs or exits.
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong.
/// NETRING_EBADF, `config->filter` is no filter. NETRING_ENODEV, no such
/// interface. NETRING_EMMAP, the ring's memory exceeds its bound, or the kernel
/// refused it. NETRING_EPERM, no CAP_NET_RAW in the user namespace that
/// owns the network namespace. NETRING_ESOCKET, NETRING_ESOCKOPT,
/// NETRING_EFILTER, NETRING_EBIND, NETRING_EIO: the kernel refused a step.
/// NETRING_EFILTER also: an expression has no meaning for the interface's link type
/// (option "expression"). NETRING_ENOTSUP, Linux before 4.14, or a driver that cannot stamp as `clock`
/// says. `err` names the step, the value and what
/// to do; docs/errors.md lists every one. On an error `*out` is not written.
/// Ownership: the caller closes `*out` with netring_capture_close. MT-Safe.
/// `err` may be NULL.
///
/// # Safety
/// `interface` must be NUL-terminated, `config` readable for the size it says
/// it has, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_open(
    interface: *const c_char,
    config: *const netring_capture_config,
    out: *mut *mut netring_capture,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let config = unsafe { capture_config(config)? };
        let capture = Capture::open(interface.to_bytes(), &config)?;
        let handle = CAPTURES.insert_for(capture.belongs(), Arc::new(capture))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Closes a capture: its socket ends at once, and with it promiscuous mode and
/// intake, even while blocks are held; those keep their address and content
/// until their release (what is written into them during this call may be
/// lost). Calls in progress on other threads return NETRING_EBADF. NULL is fine.
///
/// Errors: NETRING_EBADF, not a capture, or closed before. NETRING_EBUSY, called
/// from a log callback. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_close(capture: *mut netring_capture) -> c_int {
    guard(|| {
        if capture.is_null() {
            return Ok(0);
        }
        if log::in_sink() {
            return Err(Error::new(
                Kind::Busy,
                "capture",
                "a log callback cannot close a capture: the close would wait for the call that \
                 the message comes from",
            ));
        }
        let closing = CAPTURES.close(capture)?;
        if let Some(capture) = closing.value() {
            capture.interrupt(closing.in_use());
        }
        if let Some(capture) = closing.finish() {
            capture.close();
        }
        Ok(0)
    })
}

/// Waits for the next block and hands it out: returns 1 and writes `*out`, or
/// 0 after `timeout_ms` milliseconds (0: do not wait; negative: for ever, as
/// poll(2)). Signals do not prolong or end the wait.
///
/// Blocks come in the kernel's order. Several threads may call this on one
/// capture, each gets its own block, and any number may be held; but while the
/// oldest is held, a full ring drops packets. The wait goes on while the link
/// is down (netring_capture_next_event tells), unless the capture was opened
/// with NETRING_CAPTURE_DOWN_IS_ERROR.
///
/// Errors: NETRING_ESHUTDOWN, stopped, and everything received was handed out.
/// NETRING_EWAKEUP, netring_capture_wakeup. NETRING_ENODEV, the interface was
/// removed or moved to another network namespace, and everything received was
/// handed out: netring_capture_rebind or close. NETRING_ENETDOWN, the link is
/// down, where the capture wants to know. NETRING_EBADF, not a
/// capture, or closed meanwhile. NETRING_EINVAL, `out` is NULL. NETRING_EIO,
/// waiting failed.
/// Ownership: the caller releases `*out` with netring_block_release. MT-Safe.
///
/// # Safety
/// `out` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_next_block(
    capture: *mut netring_capture,
    timeout_ms: c_int,
    out: *mut *mut netring_block,
) -> c_int {
    on_capture(capture, |capture| {
        writable(out, "out")?;
        let Some(block) = capture.next_block(timeout_ms)? else { return Ok(0) };
        let handle = BLOCKS
            .insert_for(capture.belongs(), Arc::clone(&block))
            .inspect_err(|_| release(&block))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(1)
    })
}

/// Waits for the next packet: returns 1 and fills `*out`, or 0 after
/// `timeout_ms` (as netring_capture_next_block). The packet stays valid until
/// the next netring_capture_next_packet, netring_capture_dispatch or
/// netring_capture_close on this capture. With netring_capture_fd, call it with
/// a timeout of 0 until it returns 0: the rest of a block that it has begun does
/// not make the descriptor readable.
///
/// This is the slower way, a call for every packet; blocks cost a call each.
/// Packets of a block half read here are not seen by netring_capture_next_block.
///
/// `size` is sizeof(struct netring_packet) of the caller's header.
///
/// Errors: as netring_capture_next_block; NETRING_EIO also where a block's memory
/// was overwritten, the rest of which is given up; NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 64, more than 256 or not a multiple of 8;
/// NETRING_EBUSY, another thread is in this call or in netring_capture_dispatch.
/// One thread at a time.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_next_packet(
    capture: *mut netring_capture,
    timeout_ms: c_int,
    out: *mut netring_packet,
    size: usize,
) -> c_int {
    on_capture(capture, |capture| {
        let next_block = |timeout_ms| capture.next_block(timeout_ms);
        // SAFETY: the caller's promise.
        unsafe { next_packet(capture.current(), next_block, timeout_ms, out, size) }
    })
}

/// Takes an array of `count` packets, each `size` bytes from the next, borrowed
/// until the callback returns. Returns 0 to go on; anything else ends the
/// netring_capture_dispatch that called it.
///
/// It runs on the thread that called netring_capture_dispatch, with no lock
/// held; it may call the library, netring_capture_close included, except that
/// netring_capture_next_packet and netring_capture_dispatch on the same capture
/// are NETRING_EBUSY. It must not throw or longjmp.
#[allow(non_camel_case_types)]
pub type netring_packets_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        packets: *const netring_packet,
        count: usize,
        size: usize,
    ) -> c_int,
>;

/// Waits up to `timeout_ms` (as netring_capture_next_block) for packets and
/// hands them to `callback`, up to 64 at a time; goes on with what is ready
/// until `max_packets` are handed out (0: those of one block). Returns how many
/// were, those of the call that ended it included; 0 is a timeout. What the
/// callback returned is not passed on. Packets that are left over stay for the
/// next call, which netring_capture_fd does not tell. `user` is handed to the
/// callback.
///
/// This is the slower way: a call through a pointer for every batch.
///
/// Errors: as netring_capture_next_packet, where no packet was handed out before;
/// else the next call reports them. NETRING_EINVAL, `callback` is NULL.
/// NETRING_EBUSY, another thread is in this call or in
/// netring_capture_next_packet, or it is called from its own callback.
/// One thread at a time.
///
/// # Safety
/// `callback` must be callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_dispatch(
    capture: *mut netring_capture,
    timeout_ms: c_int,
    max_packets: u32,
    callback: netring_packets_callback,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { dispatch(&CAPTURES, capture, timeout_ms, max_packets, callback, user) }
}

/// A descriptor for poll, epoll, io_uring and event loops: readable exactly
/// while netring_capture_next_block with a timeout of 0 would return something
/// other than 0. Right for level- and edge-triggered loops that take one block
/// a turn, with any number of blocks held. The rest of a block that
/// netring_capture_next_packet or netring_capture_dispatch has begun does not make
/// it readable: call those with a timeout of 0 until they return 0. When the link
/// goes down, or has been an error and comes up, it may be readable once with
/// nothing there. With
/// NETRING_CAPTURE_EVENTS_ON_FD it is readable for an unread event too, until
/// netring_capture_next_event has returned it. Returns the descriptor, 0 or more.
///
/// Errors: NETRING_EBADF, not a capture. MT-Safe.
/// Ownership: the capture's; do not close it, read from it, or use it after
/// netring_capture_close.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_fd(capture: *mut netring_capture) -> c_int {
    on_capture(capture, |capture| Ok(capture.fd()))
}

/// Ends one wait: the present or the next netring_capture_next_block (or
/// next_packet, dispatch) returns NETRING_EWAKEUP. Several wakeups before that
/// are one. To end every wait, use netring_capture_stop.
///
/// Errors: NETRING_EBADF, not a capture. MT-Safe, async-signal-safe; leaves
/// errno alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_wakeup(capture: *mut netring_capture) -> c_int {
    signal(capture, Capture::wakeup)
}

/// Forgets a pending wakeup.
///
/// Errors: NETRING_EBADF, not a capture. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_wakeup_clear(capture: *mut netring_capture) -> c_int {
    signal(capture, Capture::clear_wakeup)
}

/// Ends the capture's waits for good: the intake ends, what was received, the
/// open block included, is handed out by netring_capture_next_block, and from
/// then on every wait on every thread returns NETRING_ESHUTDOWN. (A wakeup still
/// pending is told first; netring_capture_next_packet and
/// netring_capture_dispatch first finish the block they have begun.) There is no
/// way back but netring_capture_close.
///
/// Errors: NETRING_EBADF, not a capture. MT-Safe, async-signal-safe; leaves
/// errno alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_stop(capture: *mut netring_capture) -> c_int {
    signal(capture, Capture::stop)
}

/// A call that may come from a signal handler: no lock, no allocation.
fn signal(capture: *mut netring_capture, act: impl FnOnce(&Capture)) -> c_int {
    match CAPTURES.pin_quietly(capture) {
        Ok(capture) => guard(|| {
            act(&capture);
            Ok(0)
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// Makes the packets of the block that the kernel is filling ready now, without
/// waiting for the block to fill up or time out, and goes on capturing.
///
/// The intake pauses meanwhile (typically 10 to 20 ms: the socket is bound to a
/// protocol nobody sends and back, each of which waits for the kernel's receive
/// path to drain), and what arrives in that gap is neither captured nor counted.
/// Packets flushed come as a block with NETRING_BLOCK_PARTIAL; none comes twice.
///
/// Errors: NETRING_EBADF, not a capture. NETRING_ENODEV, the interface was
/// removed. NETRING_EBIND, the kernel refused; errno says why. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_flush(capture: *mut netring_capture) -> c_int {
    on_capture(capture, |capture| capture.flush().map(|()| 0))
}

/// Writes what the capture was granted: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a capture. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_info(
    capture: *mut netring_capture,
    out: *mut netring_capture_info,
    size: usize,
) -> c_int {
    on_capture(capture, |capture| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_capture_info::from(&capture.info());
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Reads all counters: as many of them as `size` bytes hold. Costs a few system
/// calls; once a second is fine, once a packet is not.
///
/// The kernel's own counters are 32 bits wide; the library reads them at every
/// call here, when the ring is full as a thread takes a block, and, while one
/// takes or waits for blocks, every 30 seconds. A capture that nobody reads at
/// all would have to drop 4 billion packets for one of them to wrap unseen.
///
/// Where a reading finds packets dropped or the ring full, the log gets a
/// NETRING_LOG_WARN line with the cause: "block 17 held 2.3 s by the program" (its
/// sequence of struct netring_block_info), "reader 40 blocks behind (of 64)". The
/// first at once, then one a second with what came since, the last one from
/// netring_capture_close (which reads no counters of a capture that is kept over
/// forks). Nothing looks by itself: the line is written by the
/// next call that takes, waits for or counts blocks, on any thread, or by close.
/// A release notes for how long the kernel waited for its block, and writes
/// nothing. A wait looks every second while blocks are held.
/// docs/losing-packets.md leads from the counters to the remedy.
///
/// Errors: NETRING_EBADF, not a capture. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_stats(
    capture: *mut netring_capture,
    out: *mut netring_stats,
    size: usize,
) -> c_int {
    on_capture(capture, |capture| {
        writable_sized(out, "out", size, SHORTEST)?;
        let value = netring_stats::from(&capture.stats());
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Writes the difference of two readings: counters and `time_ns` are what came
/// between them; gauges and blocks_ready_max are those of `now`. `out` may be
/// one of the two. All three are of `size` bytes.
///
/// Errors: NETRING_EINVAL, a NULL or misaligned argument, or `size` is less
/// than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `now` and `before` must be readable, `out` writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_stats_since(
    now: *const netring_stats,
    before: *const netring_stats,
    out: *mut netring_stats,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(out, "out", size, SHORTEST)?;
        let zero = netring_stats::default();
        // SAFETY: the caller's promise.
        let now = unsafe { read_sized(now, "now", size, zero)? };
        // SAFETY: the caller's promise.
        let before = unsafe { read_sized(before, "before", size, zero)? };
        let since = netring_stats {
            time_ns: now.time_ns.saturating_sub(before.time_ns),
            received: now.received.saturating_sub(before.received),
            delivered: now.delivered.saturating_sub(before.delivered),
            seen: now.seen.saturating_sub(before.seen),
            dropped: now.dropped.saturating_sub(before.dropped),
            freezes: now.freezes.saturating_sub(before.freezes),
            blocks_delivered: now.blocks_delivered.saturating_sub(before.blocks_delivered),
            blocks_empty: now.blocks_empty.saturating_sub(before.blocks_empty),
            skipped: now.skipped.saturating_sub(before.skipped),
            filtered_late: now.filtered_late.saturating_sub(before.filtered_late),
            truncated: now.truncated.saturating_sub(before.truncated),
            looped: now.looped.saturating_sub(before.looped),
            sequence_gaps: now.sequence_gaps.saturating_sub(before.sequence_gaps),
            interface_missed: now.interface_missed.saturating_sub(before.interface_missed),
            interface_dropped: now.interface_dropped.saturating_sub(before.interface_dropped),
            interface_fifo: now.interface_fifo.saturating_sub(before.interface_fifo),
            softnet_dropped: now.softnet_dropped.saturating_sub(before.softnet_dropped),
            softnet_squeezed: now.softnet_squeezed.saturating_sub(before.softnet_squeezed),
            valid: now.valid & before.valid,
            ..now
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &since) };
        Ok(0)
    })
}

/// Writes the last failure of a call on this capture, with its words; all zero
/// where none has failed. A wait that was woken or stopped counts as one; calls
/// on blocks and filters do not.
///
/// Errors: NETRING_EBADF, not a capture. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_last_error(
    capture: *mut netring_capture,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &CAPTURES,
        capture,
        |capture| {
            let error = capture.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}
