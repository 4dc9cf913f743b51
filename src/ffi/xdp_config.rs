//! struct netring_xdp_config.

use crate::afxdp::config::{Mode, Redirect, XdpConfig, flags};
use crate::error::{Error, Result};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::guard::guard;
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, read_config, writable_sized};
use crate::ffi::umem::{configured_umem, netring_umem};
use std::ffi::c_int;
use std::mem::offset_of;

/// `redirect`: packets that a filter accepts come to the sockets, the others go to the
/// host's stack.
pub const NETRING_REDIRECT_FILTER: u32 = 1;
/// `redirect`: every packet of the queues comes to the sockets. The host does not see
/// them: not its ARP, not its SSH.
pub const NETRING_REDIRECT_ALL: u32 = 2;
/// `redirect`: none. To send only.
pub const NETRING_REDIRECT_NONE: u32 = 3;

/// `mode`: the best that interface and kernel grant: zero-copy, else copied by the
/// driver's hook, else in the kernel's stack. netring_xdp_info says which it is,
/// netring_xdp_steps why it is no better one.
pub const NETRING_MODE_AUTO: u32 = 0;
/// `mode`: the device reads and writes the frames themselves; else the open fails.
pub const NETRING_MODE_ZEROCOPY: u32 = 1;
/// `mode`: the program runs in the driver, the kernel copies.
pub const NETRING_MODE_COPY: u32 = 2;
/// `mode`: the program runs in the kernel's stack, on any interface, and the kernel
/// copies.
pub const NETRING_MODE_SKB: u32 = 3;

/// Open in the network namespace that `netns_fd` stands for, as
/// NETRING_CAPTURE_NETNS_FD.
pub const NETRING_XDP_NETNS_FD: u64 = 0x2;
/// Attach the XDP program that `program_fd` stands for instead of one of the library's.
/// It redirects into the XSKMAP of `map_fd`, by queue; without NETRING_XDP_MAP_FD it is
/// one that lets send only.
pub const NETRING_XDP_PROGRAM_FD: u64 = 0x4;
/// Put the sockets into the XSKMAP that `map_fd` stands for. Without
/// NETRING_XDP_PROGRAM_FD nothing is attached: somebody else has attached the program
/// that redirects into it, libxdp's dispatcher for one; `mode` is then NETRING_MODE_AUTO, or
/// where that program runs (NETRING_ENOTSUP).
pub const NETRING_XDP_MAP_FD: u64 = 0x8;
/// The frames are in pages of 2 MiB, as NETRING_UMEM_HUGEPAGES.
pub const NETRING_XDP_HUGEPAGES: u64 = 0x10;
/// Frames of any size, as NETRING_UMEM_UNALIGNED.
pub const NETRING_XDP_UNALIGNED: u64 = 0x20;
/// Kick the driver always. By default (XDP_USE_NEED_WAKEUP, Linux 5.4) it says when it
/// has to be: fewer system calls.
pub const NETRING_XDP_NO_NEED_WAKEUP: u64 = 0x40;
/// Packets may come in several frames (XDP_USE_SG, Linux 6.6): larger ones than a frame
/// holds, or native programs with an MTU beyond one page. Such a packet is one with
/// `segments`. Many drivers have no zero copy then. A filter sees the whole packet.
pub const NETRING_XDP_MULTI_BUFFER: u64 = 0x80;
/// With NETRING_XDP_MULTI_BUFFER: packets of several frames come in one piece, copied.
pub const NETRING_XDP_LINEAR: u64 = 0x100;
/// Nothing is sent: no frames to send from, no transmit ring.
pub const NETRING_XDP_NO_TX: u64 = 0x200;
/// With NETRING_REDIRECT_NONE: attach no program. By default one that passes everything
/// is attached: many drivers send from an AF_XDP socket only with one.
pub const NETRING_XDP_NO_PROGRAM: u64 = 0x400;
/// Program and map only, no sockets: another process has them (netring_xdp_adopt).
pub const NETRING_XDP_PROGRAM_ONLY: u64 = 0x800;
/// Packets tell what the driver knows of them besides their bytes (bpf_xdp_metadata_*,
/// Linux 6.6; VLAN tags 6.8): `rxhash`, the tag that is not in the frame (`vlan_tci`,
/// `vlan_tpid`), and the card's time stamp in `time_ns` with NETRING_CLOCK_RAW_HARDWARE,
/// each where its status bit or `clock` says so. Where there is nothing to be had, a
/// step says why (netring_xdp_steps), and the open goes on without it. With
/// NETRING_XDP_MAP_FD or netring_xdp_adopt: where the program is another xdp's, with this
/// flag.
pub const NETRING_XDP_RX_METADATA: u64 = 0x2000;
/// Frames to be sent have metadata (Linux 6.11): their slots can ask for a checksum, as with
/// NETRING_INJECTOR_VNET_HEADER, and netring_queue_timestamps tells when they were sent.
/// With zero copy as far as the driver does that. Takes 64 bytes of each slot; a `umem`
/// must have room for it (NETRING_UMEM_TX_METADATA).
pub const NETRING_XDP_TX_METADATA: u64 = 0x1000;
/// A queue in use is not tried again (`bind_timeout`), unless it is this open that has
/// just had it, before a step down (netring_xdp_steps).
pub const NETRING_XDP_NO_RETRY: u64 = 0x4000;

const _: () = assert!(
    NETRING_XDP_NETNS_FD == flags::NETNS_FD
        && NETRING_XDP_PROGRAM_FD == flags::PROGRAM_FD
        && NETRING_XDP_MAP_FD == flags::MAP_FD
        && NETRING_XDP_HUGEPAGES == flags::HUGEPAGES
        && NETRING_XDP_UNALIGNED == flags::UNALIGNED
        && NETRING_XDP_NO_NEED_WAKEUP == flags::NO_NEED_WAKEUP
        && NETRING_XDP_MULTI_BUFFER == flags::MULTI_BUFFER
        && NETRING_XDP_LINEAR == flags::LINEAR
        && NETRING_XDP_NO_TX == flags::NO_TX
        && NETRING_XDP_NO_PROGRAM == flags::NO_PROGRAM
        && NETRING_XDP_PROGRAM_ONLY == flags::PROGRAM_ONLY
        && NETRING_XDP_RX_METADATA == flags::RX_METADATA
        && NETRING_XDP_TX_METADATA == flags::TX_METADATA
        && NETRING_XDP_NO_RETRY == flags::NO_RETRY
);

const _: () = assert!(
    NETRING_MODE_AUTO == Mode::Auto as u32
        && NETRING_MODE_ZEROCOPY == Mode::ZeroCopy as u32
        && NETRING_MODE_COPY == Mode::Copy as u32
        && NETRING_MODE_SKB == Mode::Skb as u32
        && NETRING_REDIRECT_FILTER == Redirect::Filter as u32
        && NETRING_REDIRECT_ALL == Redirect::All as u32
        && NETRING_REDIRECT_NONE == Redirect::None as u32
);

/// What `init` of a struct netring_xdp_config holds once it is initialised.
pub const NETRING_XDP_CONFIG_INIT_WORD: u32 = 0x4e525843;

/// What AF_XDP sockets are asked for. Initialise it with netring_xdp_config_init or
/// NETRING_XDP_CONFIG_INIT, set `redirect`, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_xdp_config {
    /// sizeof(struct netring_xdp_config), written by the initialiser.
    pub size: u32,
    /// NETRING_XDP_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_XDP_* bits. Default 0.
    pub flags: u64,
    /// Bytes that the frames of all queues and their rings may take; 0 (default): 1 GiB.
    /// They never take more than half of the available memory or the control group's room.
    /// More are refused; of defaults (rx_frames, tx_frames 0) there are fewer then, 512 and 256
    /// at least.
    pub memory_limit: u64,
    /// With NETRING_REDIRECT_FILTER: which packets. The xdp keeps its own copy;
    /// netring_xdp_set_filter changes it later. Tags are in the frame here: a filter for
    /// VLANs is refused while the card takes them out. The filter of an empty expression
    /// accepts everything.
    pub filter: *mut netring_filter,
    /// The memory of the frames; NULL (default): each queue has some of its own. The xdp
    /// keeps it: it may be freed after the open.
    pub umem: *mut netring_umem,
    /// NETRING_REDIRECT_*: must be said. With a program of the caller's 0.
    pub redirect: u32,
    /// NETRING_MODE_*. Default NETRING_MODE_AUTO.
    pub mode: u32,
    /// Bytes of a frame, as in struct netring_umem_config; 0 (default): a page. Of a
    /// `umem`: 0.
    pub frame_size: u32,
    /// Frames to receive into, of each queue, 64 to 1048576; 0 (default): 4096. Packets
    /// that come while all are full or held are dropped.
    pub rx_frames: u32,
    /// Frames to send from, of each queue, 64 to 1048576; 0 (default): 2048, or none with
    /// NETRING_XDP_NO_TX.
    pub tx_frames: u32,
    /// Bytes kept free in front of each received packet, besides the kernel's 256; at
    /// least 64 of a frame are left. Default 0. Of a `umem`: 0.
    pub headroom: u32,
    /// Entries of the receive ring, a power of two up to 4194304, as of the next three;
    /// 0 (default): rx_frames, rounded up. With fewer, packets are dropped while frames
    /// are free (`rx_ring_full`).
    pub rx_ring: u32,
    /// Entries of the transmit ring; 0 (default): tx_frames, rounded up; with a `umem`
    /// for as many frames as may be forwarded.
    pub tx_ring: u32,
    /// Entries of the fill ring, not fewer than rx_frames; 0 (default): these, rounded up.
    pub fill_ring: u32,
    /// Entries of the completion ring; 0 (default): as the transmit ring.
    pub completion_ring: u32,
    /// Most packets of a block, 1 to 4096; 0 (default): 64.
    pub block_packets: u32,
    /// Microseconds that a call goes on sleeping once it has waited for a packet and one
    /// has come, so that more are in the block: fewer wakeups, in return for that delay.
    /// Up to 1000000; 0 (default): it returns with the first. The kernel adds the thread's
    /// timer slack (PR_SET_TIMERSLACK, mostly 50 us). `rx_frames` have to last for what
    /// comes meanwhile. It ends early by netring_queue_wakeup, a stop and the call's
    /// time-out; netring_queue_fd tells of the first packet. Not with `busy_poll`.
    pub block_timeout_us: u32,
    /// Microseconds of busy polling: calls that wait work the device's queue themselves
    /// (SO_PREFER_BUSY_POLL, Linux 5.11), up to 2147483647; 0 (default): off. Needs
    /// CAP_NET_ADMIN.
    pub busy_poll: u32,
    /// Most packets of one such poll, up to 65535; 0 (default): the kernel's, 8. Only with
    /// `busy_poll`.
    pub busy_poll_budget: u32,
    /// Milliseconds that a queue in use is tried again, up to an hour; 0 (default): 1000.
    /// A queue stays in use for some 30 ms after its socket was closed.
    pub bind_timeout: u32,
    /// Milliseconds to wait for the carrier after the program was attached, up to an
    /// hour: some drivers take the link down for seconds then. 0 (default): do not wait.
    /// That it does not come in time is no error.
    pub carrier_timeout: u32,
    /// With NETRING_XDP_NETNS_FD: a network namespace, or a pidfd. It stays the caller's.
    /// Without the flag 0 (default) or negative, as the next two.
    pub netns_fd: i32,
    /// With NETRING_XDP_PROGRAM_FD: an XDP program. It stays the caller's.
    pub program_fd: i32,
    /// With NETRING_XDP_MAP_FD: an XSKMAP. It stays the caller's.
    pub map_fd: i32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<netring_xdp_config>() == 120);
const _: () = assert!(offset_of!(netring_xdp_config, init) == 4);

// SAFETY: repr(C) without padding; integers, and tokens of which every value is checked.
unsafe impl CStruct for netring_xdp_config {}

const DEFAULTS: netring_xdp_config = netring_xdp_config {
    size: size_of::<netring_xdp_config>() as u32,
    init: NETRING_XDP_CONFIG_INIT_WORD,
    flags: 0,
    memory_limit: 0,
    filter: std::ptr::null_mut(),
    umem: std::ptr::null_mut(),
    redirect: 0,
    mode: NETRING_MODE_AUTO,
    frame_size: 0,
    rx_frames: 0,
    tx_frames: 0,
    headroom: 0,
    rx_ring: 0,
    tx_ring: 0,
    fill_ring: 0,
    completion_ring: 0,
    block_packets: 0,
    block_timeout_us: 0,
    busy_poll: 0,
    busy_poll_budget: 0,
    bind_timeout: 0,
    carrier_timeout: 0,
    netns_fd: 0,
    program_fd: 0,
    map_fd: 0,
    reserved: 0,
};

/// NETRING_REDIRECT_*; 0: not said.
pub(crate) fn redirect(number: u32) -> Result<Option<Redirect>> {
    match number {
        0 => Ok(None),
        NETRING_REDIRECT_FILTER => Ok(Some(Redirect::Filter)),
        NETRING_REDIRECT_ALL => Ok(Some(Redirect::All)),
        NETRING_REDIRECT_NONE => Ok(Some(Redirect::None)),
        unknown => Err(Error::config(
            "redirect",
            format!(
                "there is no redirect {unknown}: NETRING_REDIRECT_FILTER, NETRING_REDIRECT_ALL or \
                 NETRING_REDIRECT_NONE"
            ),
        )),
    }
}

fn mode(number: u32) -> Result<Mode> {
    match number {
        NETRING_MODE_AUTO => Ok(Mode::Auto),
        NETRING_MODE_ZEROCOPY => Ok(Mode::ZeroCopy),
        NETRING_MODE_COPY => Ok(Mode::Copy),
        NETRING_MODE_SKB => Ok(Mode::Skb),
        unknown => Err(Error::config(
            "mode",
            format!(
                "there is no mode {unknown}: NETRING_MODE_AUTO, NETRING_MODE_ZEROCOPY, \
                 NETRING_MODE_COPY or NETRING_MODE_SKB"
            ),
        )),
    }
}

/// Reads a configuration; NULL is the defaults, which say no redirect.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
pub(crate) unsafe fn xdp_config(config: *const netring_xdp_config) -> Result<XdpConfig> {
    // SAFETY: the caller's promise.
    let config = unsafe { read_config(config, "xdp", NETRING_XDP_CONFIG_INIT_WORD, DEFAULTS)? };
    if config.reserved != 0 {
        return Err(Error::config("reserved", "reserved is not 0"));
    }
    Ok(XdpConfig {
        flags: config.flags,
        memory_limit: config.memory_limit,
        filter: configured_filter(config.filter)?,
        umem: configured_umem(config.umem)?,
        redirect: redirect(config.redirect)?,
        mode: mode(config.mode)?,
        frame_size: config.frame_size,
        rx_frames: config.rx_frames,
        tx_frames: config.tx_frames,
        headroom: config.headroom,
        rx_ring: config.rx_ring,
        tx_ring: config.tx_ring,
        fill_ring: config.fill_ring,
        completion_ring: config.completion_ring,
        block_packets: config.block_packets,
        block_timeout_us: config.block_timeout_us,
        busy_poll: config.busy_poll,
        busy_poll_budget: config.busy_poll_budget,
        bind_timeout: config.bind_timeout,
        carrier_timeout: config.carrier_timeout,
        netns_fd: config.netns_fd,
        program_fd: config.program_fd,
        map_fd: config.map_fd,
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_xdp_config). `redirect` is 0 in them: it must be said.
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_config_init(
    config: *mut netring_xdp_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let defaults = netring_xdp_config { size: size as u32, ..DEFAULTS };
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}
