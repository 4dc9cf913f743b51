//! What an open would be granted.

use crate::afxdp::config::Mode;
use crate::afxdp::probe::{self, ADVICE, Probe, blocked, limited};
use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, text, writable_sized};
use std::ffi::{c_char, c_int};

/// features, rx_metadata, xsk_features and max_segments are known (since Linux 6.3).
pub const NETRING_PROBE_FEATURES: u64 = 0x1;
/// rx_queues and tx_queues are those in use; without it they are those that the
/// interface was made with, which can be more.
pub const NETRING_PROBE_QUEUES: u64 = 0x2;
/// taken_queues and taken_first are known (since Linux 6.15, while it is up). A queue
/// keeps its socket for some 30 ms after that was closed, which an open waits out.
pub const NETRING_PROBE_TAKEN: u64 = 0x4;
/// program_id and attach_mode are known.
pub const NETRING_PROBE_PROGRAM: u64 = 0x8;
/// rss_queues and rss_first are known.
pub const NETRING_PROBE_RSS: u64 = 0x10;
/// steering_rules is known.
pub const NETRING_PROBE_RULES: u64 = 0x20;
/// strips_tags, lro and gro are known.
pub const NETRING_PROBE_OFFLOADS: u64 = 0x40;
/// native_mtu is known: not of a veth whose peer is in another network namespace.
pub const NETRING_PROBE_NATIVE_MTU: u64 = 0x80;
/// mtu_limit is known: of veth and virtio_net.
pub const NETRING_PROBE_MTU_LIMIT: u64 = 0x100;
/// driver is known.
pub const NETRING_PROBE_DRIVER: u64 = 0x200;
/// best_mode is certain; without it, it is what the driver promises, or what nothing
/// that is known speaks against.
pub const NETRING_PROBE_MODE: u64 = 0x400;

/// blocked_by: another XDP program is on the interface (program_id).
pub const NETRING_PROBE_BLOCK_PROGRAM: u32 = 0x1;
/// blocked_by: an XDP program is on an interface above this one (a bridge, a macvlan),
/// and since Linux 5.15 the kernel lets none be below it.
pub const NETRING_PROBE_BLOCK_UPPER: u32 = 0x2;
/// blocked_by: the caller may not make AF_XDP sockets (CAP_NET_RAW).
pub const NETRING_PROBE_BLOCK_SOCKET: u32 = 0x4;
/// blocked_by: the caller may not load XDP programs (CAP_BPF and CAP_NET_ADMIN, not
/// those of a user namespace).
pub const NETRING_PROBE_BLOCK_BPF: u32 = 0x8;
/// blocked_by: this kernel has no AF_XDP, no bpf(2), or is older than Linux 5.9.
pub const NETRING_PROBE_BLOCK_KERNEL: u32 = 0x10;
/// blocked_by: queues have AF_XDP sockets already (taken_queues); an open that names
/// others is not.
pub const NETRING_PROBE_BLOCK_QUEUES: u32 = 0x20;
/// blocked_by: frame_memory is more than may be locked (locked_limit); an open that
/// asks for fewer frames is not.
pub const NETRING_PROBE_BLOCK_LOCKED: u32 = 0x40;

/// limited_by: the driver has no zero copy.
pub const NETRING_PROBE_LIMIT_ZEROCOPY: u32 = 0x1;
/// limited_by: the driver runs no XDP programs.
pub const NETRING_PROBE_LIMIT_NATIVE: u32 = 0x2;
/// limited_by: native_mtu is more than mtu_limit; NETRING_XDP_MULTI_BUFFER helps.
pub const NETRING_PROBE_LIMIT_MTU: u32 = 0x4;
/// limited_by: the peer of a veth sends by more queues than this end receives by.
pub const NETRING_PROBE_LIMIT_PEER_QUEUES: u32 = 0x8;

/// mode: netring_xdp_open would fail.
pub const NETRING_PROBE_WOULD_FAIL: u32 = 0xffff_ffff;

const _: () = assert!(
    NETRING_PROBE_BLOCK_PROGRAM == blocked::PROGRAM
        && NETRING_PROBE_BLOCK_UPPER == blocked::UPPER
        && NETRING_PROBE_BLOCK_SOCKET == blocked::SOCKET
        && NETRING_PROBE_BLOCK_BPF == blocked::BPF
        && NETRING_PROBE_BLOCK_KERNEL == blocked::KERNEL
        && NETRING_PROBE_BLOCK_QUEUES == blocked::QUEUES
        && NETRING_PROBE_BLOCK_LOCKED == blocked::LOCKED
        && NETRING_PROBE_LIMIT_ZEROCOPY == limited::ZEROCOPY
        && NETRING_PROBE_LIMIT_NATIVE == limited::NATIVE
        && NETRING_PROBE_LIMIT_MTU == limited::MTU
        && NETRING_PROBE_LIMIT_PEER_QUEUES == limited::PEER_QUEUES
);

/// What netring_xdp_open would be granted on an interface, and what would keep packets
/// from coming. What a kernel or a driver does not tell is 0, and its bit is missing
/// in `valid`.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_xdp_probe {
    /// The size passed in.
    pub size: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// NETRING_PROBE_* bits: what of the rest is known.
    pub valid: u64,
    /// NETRING_XDP_BASIC, ..._REDIRECT, ..._ZERO_COPY and the other abilities, as in
    /// struct netring_interface.
    pub features: u64,
    /// NETDEV_XDP_RX_METADATA_* bits: what a program can ask of a packet.
    pub rx_metadata: u64,
    /// NETDEV_XSK_FLAGS_* bits: transmit metadata.
    pub xsk_features: u64,
    /// Bytes of all frames of an open on every queue that asks for no numbers of them.
    pub frame_memory: u64,
    /// Bytes that the caller may lock (RLIMIT_MEMLOCK, for all that its user has);
    /// UINT64_MAX: any number.
    pub locked_limit: u64,
    /// What netring_xdp_open, on every queue with NETRING_MODE_AUTO, would be granted:
    /// NETRING_MODE_ZEROCOPY, NETRING_MODE_COPY or NETRING_MODE_SKB. NETRING_MODE_AUTO:
    /// only an open finds out. NETRING_PROBE_WOULD_FAIL: blocked_by says why.
    pub mode: u32,
    /// The same if nothing blocked it.
    pub best_mode: u32,
    /// NETRING_PROBE_BLOCK_* bits: why an open would fail.
    pub blocked_by: u32,
    /// NETRING_PROBE_LIMIT_* bits: why best_mode is no better one.
    pub limited_by: u32,
    /// Number of the XDP program that is attached; 0: none.
    pub program_id: u32,
    /// Where: XDP_ATTACHED_* of linux/if_link.h; 0 nowhere, 1 in the driver, 2 generic,
    /// 3 in the device, 4 several.
    pub attach_mode: u32,
    /// Most pieces of a packet with zero copy; 0: no zero copy.
    pub max_segments: u32,
    /// Queues that receive. AF_XDP sockets can be had on the queues below the larger
    /// one of rx_queues and tx_queues; packets come by those below rx_queues.
    pub rx_queues: u32,
    /// Queues that send.
    pub tx_queues: u32,
    /// Most that can receive with other settings.
    pub rx_queues_max: u32,
    /// Most that can send.
    pub tx_queues_max: u32,
    /// Queues that have an AF_XDP socket, of whatever program.
    pub taken_queues: u32,
    /// The first of them.
    pub taken_first: u32,
    /// Receive queues that RSS spreads packets over.
    pub rss_queues: u32,
    /// The first of them: with rss_queues 1 all packets come by it, but for those that
    /// steering rules lead elsewhere.
    pub rss_first: u32,
    /// Steering rules (`ethtool -n`), each of which leads packets to a queue.
    pub steering_rules: u32,
    /// 1: VLAN tags are taken out of received frames.
    pub strips_tags: u32,
    /// 1: the device puts received segments together (large receive offload).
    pub lro: u32,
    /// 1: the kernel does (generic receive offload), which matters for NETRING_MODE_SKB.
    pub gro: u32,
    /// Its MTU.
    pub mtu: u32,
    /// The MTU that the driver looks at when it is given a program: the interface's own; of
    /// a veth, its peer's.
    pub native_mtu: u32,
    /// Largest native_mtu with which the driver runs programs of one buffer, that is without
    /// NETRING_XDP_MULTI_BUFFER; for kernels with the usual CONFIG_MAX_SKB_FRAGS.
    pub mtu_limit: u32,
    /// Bytes of the smallest frame, without headroom, that every packet fits (two VLAN
    /// tags, and what the kernel keeps free, included).
    pub frame_size_needed: u32,
    /// 1: it is up (IFF_UP). An open succeeds where it is not; nothing comes.
    pub up: u32,
    /// 1: there is a carrier. Says nothing while it is not up.
    pub carrier: u32,
    /// LINKTYPE_ number of its packets, or NETRING_LINKTYPE_UNKNOWN.
    pub link_type: u32,
    /// The running kernel: 0x00MMmmpp.
    pub kernel_version: u32,
    /// 0.
    pub reserved: u32,
    /// Its name, NUL-terminated.
    pub interface: [c_char; 16],
    /// Name of its driver, NUL-terminated.
    pub driver: [c_char; 32],
    /// What to do, in words, the most important first: what blocks an open, what would
    /// keep packets from coming, what a better mode needs. NUL-terminated; empty:
    /// nothing to say.
    pub advice: [c_char; 768],
}

const _: () = assert!(size_of::<netring_xdp_probe>() == 984);
const _: () = assert!(ADVICE == 767);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_xdp_probe {}

impl netring_xdp_probe {
    fn new(probe: &Probe, size: usize) -> Self {
        let facts = &probe.facts;
        let interface = &facts.interface;
        let link = &interface.link;
        let features = interface.xdp.unwrap_or_default();
        let program = link.xdp.unwrap_or_default();
        let taken = facts.taken.as_deref().unwrap_or_default();
        let spread = facts.spread.as_deref().unwrap_or_default();
        let offloads = (facts.strips_tags, facts.lro, facts.gro);
        let (strips, lro, gro) = match offloads {
            (Some(strips), Some(lro), Some(gro)) => (strips, lro, gro),
            _ => (false, false, false),
        };
        let count = |queues: &[u32]| u32::try_from(queues.len()).unwrap_or(u32::MAX);
        let mut advice = [0; ADVICE + 1];
        for (to, from) in advice.iter_mut().take(ADVICE).zip(probe.advice.bytes()) {
            *to = from as c_char;
        }
        Self {
            size: size as u32,
            ifindex: link.index,
            valid: valid(probe),
            features: features.features,
            rx_metadata: features.rx_metadata,
            xsk_features: features.xsk,
            frame_memory: probe.memory,
            locked_limit: probe.locked.unwrap_or(u64::MAX),
            mode: match probe.blocked {
                0 => probe.mode as u32,
                _ => NETRING_PROBE_WOULD_FAIL,
            },
            best_mode: probe.mode as u32,
            blocked_by: probe.blocked,
            limited_by: probe.limited,
            program_id: program.id,
            attach_mode: program.mode.into(),
            max_segments: features.max_segments,
            rx_queues: facts.queues.rx,
            tx_queues: facts.queues.tx,
            rx_queues_max: facts.queues.rx_max,
            tx_queues_max: facts.queues.tx_max,
            taken_queues: count(taken),
            taken_first: taken.first().copied().unwrap_or(0),
            rss_queues: count(spread),
            rss_first: spread.first().copied().unwrap_or(0),
            steering_rules: facts.rules.unwrap_or(0),
            strips_tags: strips.into(),
            lro: lro.into(),
            gro: gro.into(),
            mtu: link.mtu,
            native_mtu: probe.native_mtu.unwrap_or(0),
            mtu_limit: probe.mtu_limit.unwrap_or(0),
            frame_size_needed: probe.frame_size_needed,
            up: u32::from(link.flags & libc::IFF_UP as u32 != 0),
            carrier: link.carrier.into(),
            link_type: interface.link_type.into(),
            kernel_version: probe.kernel,
            reserved: 0,
            interface: link.name.map(|byte| byte as c_char),
            driver: interface.driver.unwrap_or_default().map(|byte| byte as c_char),
            advice,
        }
    }
}

fn valid(probe: &Probe) -> u64 {
    let facts = &probe.facts;
    let interface = &facts.interface;
    let offloads = facts.strips_tags.is_some() && facts.lro.is_some() && facts.gro.is_some();
    [
        (interface.xdp.is_some(), NETRING_PROBE_FEATURES),
        (facts.queues.told, NETRING_PROBE_QUEUES),
        (facts.taken.is_some(), NETRING_PROBE_TAKEN),
        (interface.link.xdp.is_some(), NETRING_PROBE_PROGRAM),
        (facts.spread.is_some(), NETRING_PROBE_RSS),
        (facts.rules.is_some(), NETRING_PROBE_RULES),
        (offloads, NETRING_PROBE_OFFLOADS),
        (probe.native_mtu.is_some(), NETRING_PROBE_NATIVE_MTU),
        (probe.mtu_limit.is_some(), NETRING_PROBE_MTU_LIMIT),
        (interface.driver.is_some(), NETRING_PROBE_DRIVER),
        (probe.certain && probe.mode != Mode::Auto, NETRING_PROBE_MODE),
    ]
    .iter()
    .fold(0, |bits, (known, bit)| if *known { bits | bit } else { bits })
}

/// Writes what netring_xdp_open would be granted on an interface of the calling
/// thread's network namespace, on all of its queues with NETRING_MODE_AUTO, and what
/// would keep packets from coming: as much of it as `size` bytes hold.
///
/// Needs no privilege and no handle, and changes nothing: no program is loaded, none
/// attached, no socket bound. To see what the caller may do, a socket and an empty map
/// are made and closed. It is how things are now; an open may find them changed.
///
/// Errors: NETRING_ENODEV, no such interface ("any" is none). NETRING_EINVAL, a NULL
/// or misaligned argument, `interface` is empty or longer than 15 bytes, or `size` is
/// less than 16 or more than 4096. NETRING_EIO, the kernel refused a socket or its
/// answer. What it finds to be in the way is no error, but `blocked_by`. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `interface` must be NUL-terminated, `out` writable for `size` bytes, `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_probe(
    interface: *const c_char,
    out: *mut netring_xdp_probe,
    size: usize,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable_sized(out, "out", size, SHORTEST)?;
        // SAFETY: the caller's promise.
        let name = unsafe { text(interface, "interface")? };
        let probe = probe::probe(name.to_bytes())?;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &netring_xdp_probe::new(&probe, size)) };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}
