//! struct netring_injector_config.

use crate::afpacket::injector::config::{InjectorConfig, Method, Rate, flags};
use crate::error::{Error, Result};
use crate::ffi::capture::NETRING_METHOD_TPACKET2;
use crate::ffi::guard::guard;
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, read_config, writable_sized};
use std::ffi::c_int;
use std::mem::offset_of;

/// `method`: what suits the device. A ring (NETRING_METHOD_TPACKET2) saves a copy of
/// each frame where hardware, or ifb, takes it as it is; virtual devices copy a ring's
/// frames once more, and NETRING_METHOD_SENDMMSG is faster: there, on virtio_net, and
/// with NETRING_INJECTOR_VNET_HEADER. docs/benchmarks.md has what it was decided by.
pub const NETRING_METHOD_AUTO: u32 = 0;
/// A batch of frames with one sendmmsg(2): the kernel copies them.
pub const NETRING_METHOD_SENDMMSG: u32 = 4;

/// `rate_unit`: as fast as the kernel takes them.
pub const NETRING_RATE_NONE: u32 = 0;
/// `rate_unit`: frames a second.
pub const NETRING_RATE_PACKETS: u32 = 1;
/// `rate_unit`: bits a second, of the frames as they are given: without preamble,
/// frame check sequence and gap (24 bytes a frame on Ethernet).
pub const NETRING_RATE_BITS: u32 = 2;

/// Frames go to the driver without a queueing discipline (PACKET_QDISC_BYPASS, Linux
/// 3.14): less work for each; nothing queues, so a device that is busy is
/// back-pressure at once; no tc filter sees them, and no capture on this host.
pub const NETRING_INJECTOR_QDISC_BYPASS: u64 = 0x1;
/// Hand frames over whatever the link is. Without it, while the interface is set down
/// or has no carrier, they stay and calls that hand over return NETRING_ENETDOWN: the
/// kernel drops what is sent without carrier, and says nothing. With it they are
/// lost then; while the interface is set down, where the kernel does say so, they
/// stay, as when a queue is full.
pub const NETRING_INJECTOR_IGNORE_LINK_STATE: u64 = 0x2;
/// Each slot says what is left to do for its frame (PACKET_VNET_HDR): a checksum to be
/// filled in, and how a super-packet of up to 64 KiB is cut. Frames with all of it 0
/// are sent as they are.
pub const NETRING_INJECTOR_VNET_HEADER: u64 = 0x4;
/// The kernel notes when it gave each frame to the device (SO_TIMESTAMPING, Linux 5.0):
/// netring_injector_timestamps. With NETRING_METHOD_SENDMMSG a frame then costs a
/// system call; after a refused one the others wait until those before it have left.
pub const NETRING_INJECTOR_TIMESTAMPS: u64 = 0x8;
/// Never fewer slots than asked for.
pub const NETRING_INJECTOR_EXACT: u64 = 0x10;
/// Send in the network namespace that `netns_fd` stands for, as
/// NETRING_CAPTURE_NETNS_FD.
pub const NETRING_INJECTOR_NETNS_FD: u64 = 0x20;

const _: () = assert!(
    NETRING_INJECTOR_QDISC_BYPASS == flags::QDISC_BYPASS
        && NETRING_INJECTOR_IGNORE_LINK_STATE == flags::IGNORE_LINK_STATE
        && NETRING_INJECTOR_VNET_HEADER == flags::VNET_HEADER
        && NETRING_INJECTOR_TIMESTAMPS == flags::TIMESTAMPS
        && NETRING_INJECTOR_EXACT == flags::EXACT
        && NETRING_INJECTOR_NETNS_FD == flags::NETNS_FD
);

/// What `init` of a struct netring_injector_config holds once it is initialised.
pub const NETRING_INJECTOR_CONFIG_INIT_WORD: u32 = 0x4e524943;

/// What an injector is asked for. Initialise it with netring_injector_config_init or
/// NETRING_INJECTOR_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_injector_config {
    /// sizeof(struct netring_injector_config), written by the initialiser.
    pub size: u32,
    /// NETRING_INJECTOR_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_INJECTOR_* bits. Default 0.
    pub flags: u64,
    /// Bytes the slots may take; 0 (default): 1 GiB. They never take more than half of
    /// the available memory or the control group's room: more are shrunk, down to a
    /// quarter of their number, or refused.
    pub memory_limit: u64,
    /// Frames leave no faster than that, in `rate_unit`: 1 to 10^9 packets or 1 to 10^12
    /// bits a second; 0 (default) with NETRING_RATE_NONE. At most 1.4 ms' worth of frames
    /// leave at once; what has waited longer than it should (a thread that was not woken
    /// in time), up to 100 ms, is made up for at 105 % of the rate. There is no thread
    /// behind it: calls that hand over take what is due, those that wait go on until more
    /// is. What waits its turn is in slots: few of them (`slot_count`) keep it short.
    pub rate: u64,
    /// NETRING_RATE_*.
    pub rate_unit: u32,
    /// NETRING_METHOD_AUTO (default), NETRING_METHOD_TPACKET2 or
    /// NETRING_METHOD_SENDMMSG. (A TPACKET_V3 ring does nothing for sending that V2
    /// does not.) On loopback NETRING_METHOD_TPACKET2 is NETRING_ENOTSUP: there the
    /// kernel gives slots back while their frames are still on their way.
    pub method: u32,
    /// Bytes of the largest frame, up to 131072; 0 (default): what the interface takes
    /// with the MTU it has, 9216 at most; with NETRING_INJECTOR_VNET_HEADER a
    /// super-packet of 64 KiB and its headers. Rounded up to what the memory gives.
    pub slot_size: u32,
    /// Slots, up to 65536; 0 (default): 1024, or 256 where a frame may have more than
    /// 16 KiB.
    pub slot_count: u32,
    /// A descriptor of a network namespace, with NETRING_INJECTOR_NETNS_FD; else 0. It
    /// stays the caller's, and is needed during the open only.
    pub netns_fd: c_int,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<netring_injector_config>() == 56);
const _: () = assert!(offset_of!(netring_injector_config, init) == 4);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_injector_config {}

impl From<&InjectorConfig> for netring_injector_config {
    fn from(config: &InjectorConfig) -> Self {
        let (rate_unit, rate) = match config.rate {
            None => (NETRING_RATE_NONE, 0),
            Some(Rate::Packets(rate)) => (NETRING_RATE_PACKETS, rate),
            Some(Rate::Bits(rate)) => (NETRING_RATE_BITS, rate),
        };
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_INJECTOR_CONFIG_INIT_WORD,
            flags: config.flags,
            memory_limit: config.memory_limit,
            rate,
            rate_unit,
            method: config.method.map_or(NETRING_METHOD_AUTO, method_number),
            slot_size: config.slot_size,
            slot_count: config.slot_count,
            netns_fd: config.netns_fd,
            reserved: 0,
        }
    }
}

/// NETRING_METHOD_*.
pub(crate) fn method_number(method: Method) -> u32 {
    match method {
        Method::Ring => NETRING_METHOD_TPACKET2,
        Method::Messages => NETRING_METHOD_SENDMMSG,
    }
}

/// Reads a configuration; NULL is the defaults.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
pub(crate) unsafe fn injector_config(
    config: *const netring_injector_config,
) -> Result<InjectorConfig> {
    let defaults = netring_injector_config::from(&InjectorConfig::default());
    // SAFETY: the caller's promise.
    let config =
        unsafe { read_config(config, "injector", NETRING_INJECTOR_CONFIG_INIT_WORD, defaults)? };
    let method = match config.method {
        NETRING_METHOD_AUTO => None,
        NETRING_METHOD_TPACKET2 => Some(Method::Ring),
        NETRING_METHOD_SENDMMSG => Some(Method::Messages),
        unknown => {
            return Err(Error::config(
                "method",
                format!(
                    "method {unknown} is none for sending: NETRING_METHOD_AUTO, \
                     NETRING_METHOD_TPACKET2 or NETRING_METHOD_SENDMMSG"
                ),
            ));
        }
    };
    let rate = match (config.rate_unit, config.rate) {
        (NETRING_RATE_NONE, 0) => None,
        (NETRING_RATE_PACKETS, 1..=1_000_000_000) => Some(Rate::Packets(config.rate)),
        (NETRING_RATE_BITS, 1..=1_000_000_000_000) => Some(Rate::Bits(config.rate)),
        (NETRING_RATE_NONE | NETRING_RATE_PACKETS | NETRING_RATE_BITS, rate) => {
            return Err(Error::config(
                "rate",
                format!(
                    "rate {rate} is out of range for this rate_unit: 0 with NETRING_RATE_NONE, 1 to \
                     10^9 with NETRING_RATE_PACKETS, 1 to 10^12 with NETRING_RATE_BITS"
                ),
            ));
        }
        (unknown, _) => {
            return Err(Error::config(
                "rate_unit",
                format!(
                    "there is no rate_unit {unknown}: NETRING_RATE_NONE, NETRING_RATE_PACKETS or \
                     NETRING_RATE_BITS"
                ),
            ));
        }
    };
    if config.reserved != 0 {
        return Err(Error::config("reserved", "reserved is not 0"));
    }
    Ok(InjectorConfig {
        flags: config.flags,
        memory_limit: config.memory_limit,
        rate,
        method,
        slot_size: config.slot_size,
        slot_count: config.slot_count,
        netns_fd: config.netns_fd,
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_injector_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_injector_config_init(
    config: *mut netring_injector_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_injector_config::from(&InjectorConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}
