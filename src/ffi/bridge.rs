//! struct netring_bridge: two interfaces, and packets between them.

use crate::afpacket::bridge::config::{BridgeConfig, flags};
use crate::afpacket::bridge::{self, Bridge, BridgeInfo, BridgeStats, Judge};
use crate::error::{Error, Kind, Result};
use crate::ffi::error::{copy_text, describe, guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, read_config, text, writable, writable_sized,
};
use crate::packet::netring_packet;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::sync::Arc;

/// A bridge: what is received on one of two interfaces leaves on the other. A
/// token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_bridge {
    _opaque: [u8; 0],
}

static BRIDGES: Table<Bridge> = Table::new(HandleKind::Bridge);

/// What is received on the first interface leaves on the second.
pub const NETRING_BRIDGE_A_TO_B: u32 = 1;
/// What is received on the second interface leaves on the first.
pub const NETRING_BRIDGE_B_TO_A: u32 = 2;
/// Both ways.
pub const NETRING_BRIDGE_BOTH: u32 = 3;

/// The packet leaves as it came.
pub const NETRING_VERDICT_FORWARD: u8 = 0;
/// The packet does not leave.
pub const NETRING_VERDICT_DROP: u8 = 1;
/// The packet leaves as it was changed: its bytes, and `caplen` of them.
pub const NETRING_VERDICT_MODIFIED: u8 = 2;

/// The first interface is in the network namespace `netns_fd_a`
/// (NETRING_CAPTURE_NETNS_FD says what that takes).
pub const NETRING_BRIDGE_NETNS_FD_A: u64 = 0x1;
/// The second interface is in the network namespace `netns_fd_b`.
pub const NETRING_BRIDGE_NETNS_FD_B: u64 = 0x2;
/// Packets go to the driver past the queueing discipline (PACKET_QDISC_BYPASS):
/// nothing queues, so a driver without room is a side that takes none
/// (`patience_us`); no tc filter sees them, and no capture on this host.
pub const NETRING_BRIDGE_QDISC_BYPASS: u64 = 0x4;
/// The interfaces are left as they are: without promiscuous mode, most receive only
/// what is addressed to them.
pub const NETRING_BRIDGE_NOT_PROMISCUOUS: u64 = 0x8;

const _: () = assert!(
    NETRING_BRIDGE_A_TO_B == bridge::A_TO_B
        && NETRING_BRIDGE_B_TO_A == bridge::B_TO_A
        && NETRING_BRIDGE_BOTH == bridge::A_TO_B | bridge::B_TO_A
        && NETRING_VERDICT_FORWARD == bridge::VERDICT_FORWARD
        && NETRING_VERDICT_DROP == bridge::VERDICT_DROP
        && NETRING_VERDICT_MODIFIED == bridge::VERDICT_MODIFIED
        && NETRING_BRIDGE_NETNS_FD_A == flags::NETNS_FD_A
        && NETRING_BRIDGE_NETNS_FD_B == flags::NETNS_FD_B
        && NETRING_BRIDGE_QDISC_BYPASS == flags::QDISC_BYPASS
        && NETRING_BRIDGE_NOT_PROMISCUOUS == flags::NOT_PROMISCUOUS
);

/// What `init` of a struct netring_bridge_config holds once it is initialised.
pub const NETRING_BRIDGE_CONFIG_INIT_WORD: u32 = 0x4e524243;

/// What a bridge is asked for. Initialise it with netring_bridge_config_init or
/// NETRING_BRIDGE_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_bridge_config {
    /// sizeof(struct netring_bridge_config), written by the initialiser.
    pub size: u32,
    /// NETRING_BRIDGE_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_BRIDGE_* bits (those of `flags`). Default 0.
    pub flags: u64,
    /// Bytes that the packets' memory of both directions may take; 0 (default): as
    /// for captures. It is twice `batch` packets of `packet_size` for each direction,
    /// 16 MiB by default, of which the machine gives what packets have touched.
    pub memory_limit: u64,
    /// Packets that are received, judged and sent together, at most: 1 to 1024.
    /// Default 64. As many may wait for a side that takes none.
    pub batch: u32,
    /// Bytes of the largest packet, its VLAN tags included: 64 to 131072; 0
    /// (default): super-packets of 64 KiB and their headers. A larger packet is
    /// counted as `too_large`: with a smaller value switch off what makes
    /// super-packets (`ethtool -K eth0 gro off lro off`, and tso, gso at neighbours on
    /// virtual links).
    pub packet_size: u32,
    /// Bytes that packets may take in the kernel before they are received, for each
    /// direction: 1 to 2^30 (SO_RCVBUF; a small packet counts for about 800). Beyond
    /// net.core.rmem_max it takes CAP_NET_ADMIN, and is cut to that without. Default
    /// 4 MiB.
    pub receive_buffer: u32,
    /// How long packets wait for a side that takes none (its queue is full) before
    /// those that come are dropped: microseconds, up to 1000000. Default 5000.
    pub patience_us: u32,
    /// With NETRING_BRIDGE_NETNS_FD_A, the network namespace (netring_netns_open) of
    /// the first interface; a duplicate is taken.
    pub netns_fd_a: i32,
    /// With NETRING_BRIDGE_NETNS_FD_B, that of the second.
    pub netns_fd_b: i32,
}

/// What a bridge was granted.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_bridge_info {
    /// The size passed in.
    pub size: u32,
    /// LINKTYPE_ number of the packets.
    pub link_type: u32,
    /// NETRING_BRIDGE_* bits.
    pub flags: u64,
    /// Bytes of memory for packets, both directions.
    pub memory: u64,
    /// Index of the first interface.
    pub ifindex_a: u32,
    /// Index of the second interface.
    pub ifindex_b: u32,
    /// Bytes of the largest frame that leaves on the first interface, without VLAN
    /// tags: its MTU and its link-layer header, when a run last looked.
    pub frame_limit_a: u32,
    /// That of the second.
    pub frame_limit_b: u32,
    /// Receive buffer of the first interface as the kernel counts it: twice what it
    /// was asked for (socket(7), SO_RCVBUF).
    pub receive_buffer_a: u32,
    /// That of the second.
    pub receive_buffer_b: u32,
    /// Packets of a callback at most.
    pub batch: u32,
    /// Bytes at each packet's `data` that a callback may write.
    pub capacity: u32,
    /// `patience_us` as configured.
    pub patience_us: u32,
    /// The running kernel: 0x061208 is 6.18.8.
    pub kernel_version: u32,
    /// Name of the first interface now, NUL-terminated.
    pub interface_a: [c_char; 16],
    /// Name of the second interface now.
    pub interface_b: [c_char; 16],
}

/// Counters of one direction of a bridge: cumulative since the open, but `waiting`.
/// Once nothing is under way,
/// received = forwarded + dropped + too_large + ring_full + link_down + refused + waiting.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_bridge_stats {
    /// The size passed in.
    pub size: u32,
    /// NETRING_BRIDGE_A_TO_B or NETRING_BRIDGE_B_TO_A.
    pub direction: u32,
    /// CLOCK_MONOTONIC of the reading.
    pub time_ns: u64,
    /// Packets received. A super-packet is one.
    pub received: u64,
    /// Bytes of these, VLAN tags included.
    pub received_bytes: u64,
    /// Packets that the kernel took for the other interface.
    pub forwarded: u64,
    /// Bytes of these.
    pub forwarded_bytes: u64,
    /// Packets with NETRING_VERDICT_MODIFIED, whatever became of them.
    pub modified: u64,
    /// Packets that the callback dropped.
    pub dropped: u64,
    /// Packets larger than the other interface takes (of a super-packet: its
    /// segments), or than `packet_size`; a callback is not shown the latter. Above the
    /// MTU the kernel takes one 802.1Q tag from a packet socket, and no other: with
    /// QinQ or 802.1ad the other interface needs an MTU that is 4 larger.
    pub too_large: u64,
    /// Packets dropped because the other interface took none for `patience_us`: its
    /// queue, or the socket's send buffer, was full; or because its queueing discipline, a
    /// tc filter or its driver drops them (the kernel says the same of that).
    pub ring_full: u64,
    /// Packets dropped because the other interface's link was down.
    pub link_down: u64,
    /// Packets of which the kernel made none for the other interface: their state of
    /// checksum and segmentation contradicts their bytes, they are shorter than a
    /// link-layer header, or the interface is gone.
    pub refused: u64,
    /// Gauge: packets that the other interface has not taken yet.
    pub waiting: u64,
    /// Packets that the kernel dropped before they were received: `receive_buffer`
    /// was full. Not in `received`.
    pub kernel_dropped: u64,
    /// Packets whose state of checksum and segmentation the kernel could not tell
    /// (segmentation of SCTP, of UDP before Linux 6.2): they are lost. Not in
    /// `received`.
    pub unreadable: u64,
    /// Batches in which they were received.
    pub batches: u64,
}

const _: () = assert!(size_of::<netring_bridge_config>() == 48);
const _: () = assert!(offset_of!(netring_bridge_config, init) == 4);
const _: () = assert!(size_of::<netring_bridge_info>() == 96);
const _: () = assert!(size_of::<netring_bridge_stats>() == 128);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_bridge_config {}
// SAFETY: as above.
unsafe impl CStruct for netring_bridge_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_bridge_stats {}

impl From<&BridgeConfig> for netring_bridge_config {
    fn from(config: &BridgeConfig) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_BRIDGE_CONFIG_INIT_WORD,
            flags: config.flags,
            memory_limit: config.memory_limit,
            batch: config.batch,
            packet_size: config.packet_size,
            receive_buffer: config.receive_buffer,
            patience_us: config.patience_us,
            netns_fd_a: config.netns_fds[0],
            netns_fd_b: config.netns_fds[1],
        }
    }
}

impl From<&BridgeInfo> for netring_bridge_info {
    fn from(info: &BridgeInfo) -> Self {
        let mut out = Self {
            size: size_of::<Self>() as u32,
            link_type: info.link_type.into(),
            flags: info.flags,
            memory: info.memory,
            ifindex_a: info.ifindex[0],
            ifindex_b: info.ifindex[1],
            frame_limit_a: info.frame_limit[0],
            frame_limit_b: info.frame_limit[1],
            receive_buffer_a: info.receive_buffer[0],
            receive_buffer_b: info.receive_buffer[1],
            batch: info.batch,
            capacity: info.capacity,
            patience_us: info.patience_us,
            kernel_version: info.kernel_version,
            interface_a: [0; 16],
            interface_b: [0; 16],
        };
        copy_text(&info.interface[0], &mut out.interface_a);
        copy_text(&info.interface[1], &mut out.interface_b);
        out
    }
}

impl From<(u32, &BridgeStats)> for netring_bridge_stats {
    fn from((direction, stats): (u32, &BridgeStats)) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            direction,
            time_ns: stats.time_ns,
            received: stats.received,
            received_bytes: stats.received_bytes,
            forwarded: stats.forwarded,
            forwarded_bytes: stats.forwarded_bytes,
            modified: stats.modified,
            dropped: stats.dropped,
            too_large: stats.too_large,
            ring_full: stats.ring_full,
            link_down: stats.link_down,
            refused: stats.refused,
            waiting: stats.waiting,
            kernel_dropped: stats.kernel_dropped,
            unreadable: stats.unreadable,
            batches: stats.batches,
        }
    }
}

/// A call on a bridge; its failure is kept for netring_bridge_last_error.
fn on_bridge(
    bridge: *mut netring_bridge,
    call: impl FnOnce(&Pinned<Bridge>) -> Result<c_int>,
) -> c_int {
    guard_handle(&BRIDGES, bridge, call, |bridge, error| {
        if let Some(bridge) = bridge {
            bridge.note(error);
        }
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_bridge_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_config_init(
    config: *mut netring_bridge_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_bridge_config::from(&BridgeConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// Opens a bridge between the interfaces `a` and `b`, which must have packets of the
/// same link type, and sets both to promiscuous mode while it is open. `config`
/// NULL: the defaults. Packets are received from the first netring_bridge_run of
/// their direction on.
///
/// Packets leave as they came: VLAN tags, and super-packets and missing checksums of
/// offloads, which the other interface or its kernel completes. What this host sends
/// on either interface does not cross the bridge. This host goes on receiving what
/// crosses it, and answers what is addressed to it: interfaces of a bridge have no
/// addresses of their own (`ip address flush dev eth0`), and it must not route
/// between them. They are not ports of a kernel bridge. With another way from one to
/// the other packets go round: there is no spanning tree.
///
/// Needs CAP_NET_RAW, and CAP_NET_ADMIN for a receive buffer beyond
/// net.core.rmem_max. (PACKET_IGNORE_OUTGOING, Linux 4.20; before it a filter does
/// that. PACKET_VNET_HDR, PACKET_AUXDATA: packet(7).)
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong, `a` and
/// `b` are one interface, of different link types, or one is a loopback device.
/// NETRING_ENODEV, an interface is not there. NETRING_EPERM, no CAP_NET_RAW.
/// NETRING_ESOCKET, NETRING_ESOCKOPT, NETRING_EBIND, NETRING_EMMAP (memory),
/// NETRING_EIO: the step `err` names. NETRING_ENOTSUP, Linux before 4.14. On an error
/// nothing stays open, and `*out` is not written.
/// Ownership: the caller closes `*out` with netring_bridge_close. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `a` and `b` must be NUL-terminated, `config` readable for the size it says it
/// has, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_open(
    a: *const c_char,
    b: *const c_char,
    config: *const netring_bridge_config,
    out: *mut *mut netring_bridge,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let a = unsafe { text(a, "a")? };
        // SAFETY: the caller's promise.
        let b = unsafe { text(b, "b")? };
        let defaults = netring_bridge_config::from(&BridgeConfig::default());
        // SAFETY: the caller's promise.
        let config =
            unsafe { read_config(config, "bridge", NETRING_BRIDGE_CONFIG_INIT_WORD, defaults)? };
        let config = BridgeConfig {
            flags: config.flags,
            memory_limit: config.memory_limit,
            batch: config.batch,
            packet_size: config.packet_size,
            receive_buffer: config.receive_buffer,
            patience_us: config.patience_us,
            netns_fds: [config.netns_fd_a, config.netns_fd_b],
        };
        let opened = Bridge::open(a.to_bytes(), b.to_bytes(), &config)?;
        let handle = BRIDGES.insert(Arc::new(opened))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Judges the packets of a batch, received in `direction` (NETRING_BRIDGE_A_TO_B or
/// NETRING_BRIDGE_B_TO_A): writes into each element of `verdicts` what is to become of
/// the packet at the same place, NETRING_VERDICT_*; they are all
/// NETRING_VERDICT_FORWARD before the call. Returns 0 to go on; anything else ends the
/// netring_bridge_run that called it, after these verdicts were carried out. The
/// packets are `size` bytes from one to the next, and theirs until the return.
///
/// With NETRING_VERDICT_MODIFIED a packet may have other bytes, and more or fewer of
/// them: `caplen`, up to `capacity` of netring_bridge_info, all of which lie at
/// `data`. What the kernel is told of its checksum and segmentation stays as it was.
/// So with NETRING_PACKET_CSUM_NOT_READY the checksum of the transport layer is of the
/// addresses alone, not complemented, and the kernel or device completes it
/// (include what changes in the addresses; other bytes need nothing). Where bytes are
/// put in or taken out before the network header, say so in `net_offset`: what is
/// told of the transport header moves along. Other fields are not read.
///
/// VLAN tags are in the bytes. `time_ns` is when the batch was received
/// (NETRING_CLOCK_COPY), `net_offset`, `protocol`, `direction`, `gso_size` and
/// `gso_type` are valid.
///
/// It runs on the thread that called netring_bridge_run, with no lock held; it may
/// call the library. On this bridge, netring_bridge_run of a direction that is
/// served and netring_bridge_close are NETRING_EBUSY there. It must not throw or
/// longjmp.
#[allow(non_camel_case_types)]
pub type netring_bridge_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        direction: u32,
        packets: *mut netring_packet,
        verdicts: *mut u8,
        count: usize,
        size: usize,
    ) -> c_int,
>;

/// Carries packets between the interfaces on the calling thread, in `directions`
/// (NETRING_BRIDGE_A_TO_B, NETRING_BRIDGE_B_TO_A, NETRING_BRIDGE_BOTH), until
/// something ends it. `callback` judges each batch and is handed `user`; NULL: all
/// packets are forwarded. Two threads may run a direction each. Returns 0 once the
/// callback returned something else than 0; what that was is not passed on. Signals
/// do not end it.
///
/// Packets leave in the order in which they came. Where the other interface takes no
/// packets, its queue being full, they are kept for `patience_us`, and dropped as long
/// as that lasts (`ring_full`). Where its link is down they are dropped (`link_down`).
/// A link that comes up again, on either side, goes on by itself. What is received
/// between two runs waits in the receive buffer.
///
/// Errors: NETRING_ESHUTDOWN, netring_bridge_stop. NETRING_ENODEV, an interface was
/// removed or moved to another network namespace: final; netring_bridge_last_error
/// names it. NETRING_EBUSY, one of the directions is served by another thread or by
/// the caller of this callback. NETRING_EINVAL, `directions` is out of range, or a
/// verdict is none (that packet was dropped, the others went their way). NETRING_EIO,
/// NETRING_EBIND, the kernel refused a step. NETRING_EBADF, not a bridge, or closed
/// meanwhile. MT-Safe, one thread for each direction.
///
/// # Safety
/// `callback` must be callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_run(
    bridge: *mut netring_bridge,
    directions: u32,
    callback: netring_bridge_callback,
    user: *mut c_void,
) -> c_int {
    on_bridge(bridge, |bridge| {
        match callback {
            None => bridge.run(directions, None)?,
            Some(callback) => {
                let mut judge = |direction, packets: &mut [netring_packet], verdicts: &mut [u8]| {
                    // SAFETY: both arrays have so many elements; the caller's promise.
                    let answer = unsafe {
                        callback(
                            user,
                            direction,
                            packets.as_mut_ptr(),
                            verdicts.as_mut_ptr(),
                            packets.len(),
                            size_of::<netring_packet>(),
                        )
                    };
                    answer == 0
                };
                let judge: &mut Judge<'_> = &mut judge;
                bridge.run(directions, Some(judge))?;
            }
        }
        Ok(0)
    })
}

/// Ends every present and later netring_bridge_run, which returns NETRING_ESHUTDOWN:
/// after the batch it is at, and the patience that packets have which wait for an
/// interface. Leaves errno alone on success.
///
/// Errors: NETRING_EBADF, not a bridge. MT-Safe, async-signal-safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_stop(bridge: *mut netring_bridge) -> c_int {
    match BRIDGES.pin_quietly(bridge) {
        Ok(bridge) => {
            bridge.stop();
            0
        }
        Err(refusal) => refuse(refusal),
    }
}

/// Closes a bridge: its sockets are ended, and the interfaces are no longer
/// promiscuous for it. Runs on other threads return NETRING_EBADF before this
/// returns; it waits for their callbacks. NULL is fine.
///
/// Errors: NETRING_EBADF, not a bridge, or closed before. NETRING_EBUSY, called from
/// a callback of this bridge, which is left as it is: return something else than 0
/// there, and close it behind the run. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_close(bridge: *mut netring_bridge) -> c_int {
    guard(|| {
        if bridge.is_null() {
            return Ok(0);
        }
        if BRIDGES.pin_to_close(bridge)?.runs_here() {
            return Err(Error::new(
                Kind::Busy,
                "bridge",
                "the bridge cannot be closed from its callback: end the run first",
            ));
        }
        let closing = BRIDGES.close(bridge)?;
        if let Some(bridge) = closing.value() {
            bridge.interrupt();
        }
        drop(closing.finish());
        Ok(0)
    })
}

/// Writes the counters of a direction (NETRING_BRIDGE_A_TO_B or
/// NETRING_BRIDGE_B_TO_A): as many as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a bridge. NETRING_EINVAL, `direction` is not one,
/// `out` is NULL or misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_stats(
    bridge: *mut netring_bridge,
    direction: u32,
    out: *mut netring_bridge_stats,
    size: usize,
) -> c_int {
    on_bridge(bridge, |bridge| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_bridge_stats::from((direction, &bridge.stats(direction)?));
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Writes what the bridge was granted, and the names of its interfaces as they are
/// now: as much as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not a bridge. NETRING_EINVAL, `out` is NULL or misaligned,
/// or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_info(
    bridge: *mut netring_bridge,
    out: *mut netring_bridge_info,
    size: usize,
) -> c_int {
    on_bridge(bridge, |bridge| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_bridge_info::from(&bridge.info());
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Writes the last failure of a call on this bridge, with its words; all zero where
/// none has failed. The end of a run by netring_bridge_stop counts as one.
///
/// Errors: NETRING_EBADF, not a bridge. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_bridge_last_error(
    bridge: *mut netring_bridge,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &BRIDGES,
        bridge,
        |bridge| {
            let error = bridge.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}
