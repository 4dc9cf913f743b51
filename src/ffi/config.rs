//! struct netring_capture_config.

use crate::config::{CaptureConfig, Profile, flags};
use crate::error::{Error, Result};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::guard::guard;
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, read_config, writable, writable_sized};
use std::ffi::c_int;
use std::mem::offset_of;

/// For most uses: 64 blocks of 1 MiB, handed over after at most 60 ms.
pub const NETRING_PROFILE_DEFAULT: u32 = 0;
/// For full links: 64 blocks of 2 MiB, 100 ms.
pub const NETRING_PROFILE_HIGH_THROUGHPUT: u32 = 1;
/// Packets at once: NETRING_CAPTURE_IMMEDIATE, 64 blocks of 1 MiB, which hold 960
/// packets of any common size, or 32768 with a snap length of 1900.
pub const NETRING_PROFILE_LOW_LATENCY: u32 = 2;
/// A small ring: 32 blocks of 64 KiB, 60 ms. Super-packets of 64 KiB are cut.
pub const NETRING_PROFILE_LOW_MEMORY: u32 = 3;
/// For jumbo frames and super-packets up to 512 KiB, several to a block: 32
/// blocks of 2 MiB, 60 ms.
pub const NETRING_PROFILE_JUMBO: u32 = 4;

/// `block_timeout`: the kernel's own choice, from the link's speed (about 1 to
/// 8 ms; af_packet.c prb_calc_retire_blk_tmo).
pub const NETRING_BLOCK_TIMEOUT_KERNEL: u32 = 0xffffffff;

/// Ask the kernel for each packet's flow hash. On by default.
pub const NETRING_CAPTURE_RXHASH: u64 = 0x1;
/// Receive packets for other hosts too, while open. Not with "any".
pub const NETRING_CAPTURE_PROMISCUOUS: u64 = 0x2;
/// Receive all multicast packets, while open. Not with "any".
pub const NETRING_CAPTURE_ALL_MULTICAST: u64 = 0x4;
/// Do not capture what this host sends; done by the kernel
/// (PACKET_IGNORE_OUTGOING). Before Linux 4.20 four instructions in front of the
/// filter do it, which may then have 4092; with an eBPF program it is
/// NETRING_ESOCKOPT there. Not with NETRING_CAPTURE_IGNORE_INCOMING.
pub const NETRING_CAPTURE_IGNORE_OUTGOING: u64 = 0x8;
/// Keep outgoing packets of loopback devices, where each packet is then seen
/// twice. By default they are marked away and counted as `looped`.
pub const NETRING_CAPTURE_KEEP_LOOPED: u64 = 0x10;
/// Map the ring with MAP_LOCKED, falling back without. The kernel never swaps
/// a ring's pages out in any case, so this changes nothing on any known kernel.
pub const NETRING_CAPTURE_LOCK_MEMORY: u64 = 0x20;
/// Fail rather than use a smaller ring than asked for.
pub const NETRING_CAPTURE_EXACT: u64 = 0x40;
/// The capture and its blocks work in children forked later, for programs that
/// call daemon(3) after the open; without it they are NETRING_EBADF there. Fork
/// while no other thread is inside a call on them. Parent and child share the
/// socket, the ring and the descriptors, and each has counters of its own as they
/// were at the fork: from then on exactly one of the two goes on with the capture.
/// The other one calls nothing but netring_capture_close on it, or exits; the
/// socket ends when both have closed it. Readers and writers have no such flag:
/// open them after the fork.
pub const NETRING_CAPTURE_KEEP_ON_FORK: u64 = 0x80;
/// A link that is down is an error: while it is, waits return NETRING_ENETDOWN
/// once everything received was handed out, and netring_capture_fd is readable.
/// By default they go on. That it was down is told once where it is up again
/// already. Not with "any".
pub const NETRING_CAPTURE_DOWN_IS_ERROR: u64 = 0x100;
/// netring_capture_fd is also readable while netring_capture_next_event with a
/// timeout of 0 would return an event. Not with "any". Where netlink is refused it
/// cannot be: netring_capture_info then lacks the flag.
pub const NETRING_CAPTURE_EVENTS_ON_FD: u64 = 0x200;
/// Packets at once, instead of in blocks that are full or timed out: a ring with a
/// frame for each packet (TPACKET_V2, Linux 2.6.27). Blocks, packets, descriptor,
/// filters and counters are the same, but that
/// - a block is what has come by the time, often one packet; its sequence number is
///   that of its first packet, counted from 1;
/// - blocks_ready counts packets, blocks_held blocks; nothing counts freezes
///   (NETRING_STATS_FREEZES is missing from `valid`);
/// - the kernel gives no flow hash: NETRING_CAPTURE_RXHASH has no effect, and no
///   packet has NETRING_PACKET_RXHASH;
/// - the ring holds as many packets as it has frames, whatever their size
///   (frame_count of netring_capture_info): a snap length makes them more. Packets
///   above 64 KiB (BIG TCP) are cut unless `frame_size` is larger;
/// - netring_capture_flush has nothing to do.
pub const NETRING_CAPTURE_IMMEDIATE: u64 = 0x800;
/// A VLAN tag that the kernel took out is put back into the packet, where it was
/// on the wire: behind the two addresses, with its EtherType (0x8100 where the
/// kernel does not tell it). `caplen`, `len` and `net_offset` are 4 larger then, and
/// the packet's NETRING_PACKET_VLAN is cleared; `protocol` stays what the kernel
/// made of it. It costs a look at each record, and a move of 12 bytes for each tag;
/// no copy of the packet. A tag stays beside the packet where the link type is not
/// Ethernet, where less than the 12 bytes of the addresses were kept, and where the
/// link-layer header is so long (more than 24 bytes) that there is no room before it.
/// `snap_length` counts bytes without the tag. Filters see what they see without
/// this. Any kernel.
pub const NETRING_CAPTURE_RESTORE_VLAN: u64 = 0x2000;
/// Ask the kernel for the state of checksum and segmentation of each packet
/// (PACKET_VNET_HDR): `gso_size` and `gso_type` of the packet, all of it by
/// netring_block_vnet, both valid with NETRING_PACKET_VNET. What cannot be told
/// that way (segmentation of SCTP, and of UDP before Linux 6.2) the kernel drops:
/// it is in `dropped` and `skipped`. Super-packets come whole with or without
/// this, where they fit a block: 64 KiB and 200 bytes of headers, with BIG TCP up
/// to 512 KiB (NETRING_PROFILE_JUMBO). Costs 16 bytes of the ring a packet. Not with
/// NETRING_CAPTURE_IMMEDIATE: there one such packet would end the ring's intake for
/// good (tpacket_rcv, seen on Linux 6.18). Any kernel.
pub const NETRING_CAPTURE_VNET_HEADER: u64 = 0x4000;
/// Switch hardware stamps of received packets on in the network device
/// (SIOCSHWTSTAMP), for `clock` NETRING_CLOCK_RAW_HARDWARE. This changes the device
/// for everybody and stays after the capture; `hwstamp_ctl -i eth0 -r 0` (linuxptp)
/// takes it back. What the device does for packets sent is left as it is. Needs
/// CAP_NET_ADMIN where it is not on already.
pub const NETRING_CAPTURE_HARDWARE_STAMPING: u64 = 0x8000;
/// Capture in the network namespace that `netns_fd` stands for, wherever the
/// calling thread is, which stays where it is: the sockets are made on a thread
/// of their own, without signals, that ends with the open. It takes CAP_SYS_ADMIN
/// in the user namespace that owns it and in the caller's own, and CAP_NET_RAW
/// there; nothing later does. Without CAP_SYS_ADMIN the open is NETRING_EIO, errno
/// EPERM, option "setns". The capture keeps the namespace alive.
pub const NETRING_CAPTURE_NETNS_FD: u64 = 0x10000;
/// Use the packet socket `socket_fd`, which somebody with CAP_NET_RAW has made
/// with socket(AF_PACKET, SOCK_RAW, 0) and handed over, by inheritance or with
/// SCM_RIGHTS: the open and everything after it then need no capability at all.
/// Its network namespace is that of the capture.
pub const NETRING_CAPTURE_SOCKET_FD: u64 = 0x20000;

/// Capture only what this host sends. On loopback devices, where each packet is
/// seen going out and coming in, that is each packet once. The kernel has no
/// option for it: four instructions in front of the filter do it, so that a
/// filter may have 4092, and an eBPF program is NETRING_EINVAL. Not with
/// NETRING_CAPTURE_IGNORE_OUTGOING.
pub const NETRING_CAPTURE_IGNORE_INCOMING: u64 = 0x400;
/// Lock the filter as the last step of the open (SO_LOCK_FILTER, Linux 3.9):
/// netring_capture_set_filter is refused, also to a process that is given the
/// socket. See netring_capture_lock_filter.
pub const NETRING_CAPTURE_LOCK_FILTER: u64 = 0x1000;

const _: () = assert!(
    NETRING_CAPTURE_RXHASH == flags::RXHASH
        && NETRING_CAPTURE_PROMISCUOUS == flags::PROMISCUOUS
        && NETRING_CAPTURE_ALL_MULTICAST == flags::ALL_MULTICAST
        && NETRING_CAPTURE_IGNORE_OUTGOING == flags::IGNORE_OUTGOING
        && NETRING_CAPTURE_KEEP_LOOPED == flags::KEEP_LOOPED
        && NETRING_CAPTURE_LOCK_MEMORY == flags::LOCK_MEMORY
        && NETRING_CAPTURE_EXACT == flags::EXACT
        && NETRING_CAPTURE_KEEP_ON_FORK == flags::KEEP_ON_FORK
        && NETRING_CAPTURE_DOWN_IS_ERROR == flags::DOWN_IS_ERROR
        && NETRING_CAPTURE_EVENTS_ON_FD == flags::EVENTS_ON_FD
        && NETRING_CAPTURE_IMMEDIATE == flags::IMMEDIATE
        && NETRING_CAPTURE_RESTORE_VLAN == flags::RESTORE_VLAN
        && NETRING_CAPTURE_VNET_HEADER == flags::VNET_HEADER
        && NETRING_CAPTURE_HARDWARE_STAMPING == flags::HARDWARE_STAMPING
        && NETRING_CAPTURE_NETNS_FD == flags::NETNS_FD
        && NETRING_CAPTURE_SOCKET_FD == flags::SOCKET_FD
        && NETRING_CAPTURE_IGNORE_INCOMING == flags::IGNORE_INCOMING
        && NETRING_CAPTURE_LOCK_FILTER == flags::LOCK_FILTER
);

/// What `init` of a struct netring_capture_config holds once it is initialised.
pub const NETRING_CAPTURE_CONFIG_INIT_WORD: u32 = 0x4e524343;

/// What a capture is asked for. Initialise it with netring_capture_config_init
/// or NETRING_CAPTURE_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_capture_config {
    /// sizeof(struct netring_capture_config), written by the initialiser.
    pub size: u32,
    /// NETRING_CAPTURE_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// Bytes of a block, 1 to 2^30, rounded up to whole pages. Default 1 MiB.
    /// The kernel allocates each block as a power of two of pages. A packet that
    /// does not fit a block (less some 200 bytes of headers) is cut.
    pub block_size: u32,
    /// Blocks of the ring, 1 to 65535. Default 64.
    pub block_count: u32,
    /// Bytes of a frame, a multiple of 16, 96 to block_size. Default 2048. The
    /// kernel checks it and uses it for nothing: packets take what they need. With
    /// NETRING_CAPTURE_IMMEDIATE a frame is the room of one packet and its headers
    /// (128 bytes): at least frame_size, and so large that it holds snap_length, or
    /// 65536 bytes where that is 0 or more; but never more than a block.
    pub frame_size: u32,
    /// Bytes to keep of each packet, up to 2^31 - 1; 0 (default): all. The
    /// kernel copies no more, and `len` tells the original length.
    pub snap_length: u32,
    /// Milliseconds after which a block that is not full is handed over, 1 to
    /// 65535; default 60. Since Linux 6.18 the timer runs freely: a packet waits
    /// for up to that long, on average half; before, in ticks of the kernel's
    /// clock. 0: only full blocks (the kernel's longest: 49 days since Linux
    /// 6.18, 65535 ms before). NETRING_BLOCK_TIMEOUT_KERNEL: the kernel's choice.
    /// However little comes, a block with a packet in it is used up by then: a
    /// reader that pauses for block_count times as long (3.8 s by default) may lose
    /// packets. Without effect with NETRING_CAPTURE_IMMEDIATE.
    pub block_timeout: u32,
    /// Microseconds of busy polling of the device queue (SO_BUSY_POLL); 0
    /// (default): off. Needs a kernel with CONFIG_NET_RX_BUSY_POLL, and before
    /// Linux 6.4 CAP_NET_ADMIN.
    pub busy_poll: u32,
    /// NETRING_CAPTURE_* bits. Default NETRING_CAPTURE_RXHASH.
    pub flags: u64,
    /// Bytes the ring may take; 0 (default): 1 GiB. It never takes more than half
    /// of the available memory or the control group's room: a larger one is
    /// shrunk, down to a quarter of its blocks, or refused.
    pub memory_limit: u64,
    /// Which packets; NULL (default): all. The capture keeps its own copy.
    /// netring_capture_set_filter changes it later.
    pub filter: *mut netring_filter,
    /// The CPU to move the calling thread to (sched_setaffinity(2)) before the ring
    /// is allocated, which is then on that CPU's memory node, and where the thread
    /// stays if the open succeeds: for the thread that will read. -1 (default): it
    /// stays where it is, and the ring is on its node.
    pub cpu: i32,
    /// Who stamps the packets; the `clock` of each says who did. 0 (default): the
    /// kernel as it is: NETRING_CLOCK_COPY, or NETRING_CLOCK_SOFTWARE while some
    /// program on the machine asks for that. NETRING_CLOCK_SOFTWARE: the kernel, when
    /// a packet comes in (or leaves), before it waits for a CPU; as long as the
    /// capture is open all packets of the machine are stamped (SO_TIMESTAMPING). The
    /// kernel switches this on in the background: packets of the first moments may
    /// still have NETRING_CLOCK_COPY. NETRING_CLOCK_RAW_HARDWARE: the device's own
    /// clock, unadjusted, where it stamps a packet; the others as with 0. The driver
    /// must be able to (netring_interface_info), and somebody must have switched it
    /// on: NETRING_CAPTURE_HARDWARE_STAMPING, or `hwstamp_ctl -i eth0 -r 1`. Not with
    /// "any". (The third clock of packet(7), the device's adjusted to the system's, no
    /// kernel gives since Linux 3.17.) NETRING_CLOCK_COPY cannot be asked for.
    pub clock: u32,
    /// With NETRING_CAPTURE_NETNS_FD: a network namespace, from netring_netns_open
    /// or netring_netns_open_pid, or (Linux 5.8) a pidfd. It stays the caller's and
    /// may be closed after the open. Without the flag 0 (default) or negative.
    pub netns_fd: i32,
    /// With NETRING_CAPTURE_SOCKET_FD: a packet socket that is not bound and has
    /// no ring. It stays the caller's, who best closes it after the open, as every
    /// process does that has a copy: netring_capture_close ends the capture whoever
    /// still has one (it undoes bind, ring, filter and memberships, and the socket
    /// can be used for another open), but neither a process that dies nor, in a
    /// fanout group, a close ends what a copy keeps. Without the flag 0 (default)
    /// or negative.
    pub socket_fd: i32,
}

const _: () = assert!(size_of::<netring_capture_config>() == 72);
const _: () = assert!(offset_of!(netring_capture_config, init) == 4);

// SAFETY: repr(C) without padding; integers, and a token for which every value
// is checked.
unsafe impl CStruct for netring_capture_config {}

impl From<&CaptureConfig> for netring_capture_config {
    fn from(config: &CaptureConfig) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_CAPTURE_CONFIG_INIT_WORD,
            block_size: config.block_size,
            block_count: config.block_count,
            frame_size: config.frame_size,
            snap_length: config.snap_length,
            block_timeout: config.block_timeout,
            busy_poll: config.busy_poll,
            flags: config.flags,
            memory_limit: config.memory_limit,
            filter: std::ptr::null_mut(),
            cpu: config.cpu,
            clock: config.clock,
            netns_fd: config.netns_fd,
            socket_fd: config.socket_fd,
        }
    }
}

/// The caller's configuration over the defaults; NULL is the defaults.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
unsafe fn read(config: *const netring_capture_config) -> Result<netring_capture_config> {
    let defaults = netring_capture_config::from(&CaptureConfig::default());
    // SAFETY: the caller's promise.
    unsafe { read_config(config, "capture", NETRING_CAPTURE_CONFIG_INIT_WORD, defaults) }
}

/// The core's configuration for the caller's.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
pub(crate) unsafe fn capture_config(
    config: *const netring_capture_config,
) -> Result<CaptureConfig> {
    // SAFETY: the caller's promise.
    let config = unsafe { read(config)? };
    let filter = configured_filter(config.filter)?;
    Ok(CaptureConfig {
        block_size: config.block_size,
        block_count: config.block_count,
        frame_size: config.frame_size,
        snap_length: config.snap_length,
        block_timeout: config.block_timeout,
        busy_poll: config.busy_poll,
        flags: config.flags,
        memory_limit: config.memory_limit,
        filter,
        cpu: config.cpu,
        clock: config.clock,
        netns_fd: config.netns_fd,
        socket_fd: config.socket_fd,
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_capture_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_config_init(
    config: *mut netring_capture_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_capture_config::from(&CaptureConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// Writes a profile's values (NETRING_PROFILE_*) into an initialised
/// configuration: block_size, block_count, frame_size, block_timeout, and whether
/// `flags` has NETRING_CAPTURE_IMMEDIATE. What is assigned later wins.
///
/// Errors: NETRING_EINVAL, `config` is NULL or was never initialised, or there
/// is no such profile. MT-Safe.
///
/// # Safety
/// `config` must be readable and writable for the size it says it has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_config_profile(
    config: *mut netring_capture_config,
    profile: u32,
) -> c_int {
    guard(|| {
        writable(config, "config")?;
        let profile = match profile {
            NETRING_PROFILE_DEFAULT => Profile::Default,
            NETRING_PROFILE_HIGH_THROUGHPUT => Profile::HighThroughput,
            NETRING_PROFILE_LOW_LATENCY => Profile::LowLatency,
            NETRING_PROFILE_LOW_MEMORY => Profile::LowMemory,
            NETRING_PROFILE_JUMBO => Profile::Jumbo,
            unknown => {
                return Err(Error::config("profile", format!("there is no profile {unknown}")));
            }
        };
        // SAFETY: the caller's promise.
        let mut changed = unsafe { read(config)? };
        let mut values = CaptureConfig::default();
        values.apply(profile);
        changed.block_size = values.block_size;
        changed.block_count = values.block_count;
        changed.frame_size = values.frame_size;
        changed.block_timeout = values.block_timeout;
        changed.flags = changed.flags & !flags::IMMEDIATE | values.flags & flags::IMMEDIATE;
        // SAFETY: as large as it says, by the caller's promise.
        unsafe { put_sized(config, changed.size as usize, &changed) };
        Ok(0)
    })
}
