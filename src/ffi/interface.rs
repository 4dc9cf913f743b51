//! The interfaces of the network namespace.

use crate::error::{Error, Result};
use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, text, writable_sized};
use crate::interface::{self, Interface};
use std::ffi::{c_char, c_int};

/// speed_mbps and duplex are known.
pub const NETRING_INTERFACE_SPEED: u64 = 0x1;
/// driver is known.
pub const NETRING_INTERFACE_DRIVER: u64 = 0x2;
/// rx_queues and tx_queues are those in use, from the driver; without it they
/// are those that the interface was made with.
pub const NETRING_INTERFACE_QUEUES: u64 = 0x4;
/// timestamping, clock, tx_types and rx_filters are known.
pub const NETRING_INTERFACE_TIMESTAMPING: u64 = 0x8;
/// xdp_mode and xdp_program are known.
pub const NETRING_INTERFACE_XDP_PROGRAM: u64 = 0x10;
/// xdp_features, xdp_rx_metadata, xsk_features and xdp_max_segments are known
/// (since Linux 6.3).
pub const NETRING_INTERFACE_XDP_FEATURES: u64 = 0x20;

/// xdp_features: XDP programs run in the driver, with the actions abort, drop,
/// pass and tx.
pub const NETRING_XDP_BASIC: u64 = 0x1;
/// ... and with redirect.
pub const NETRING_XDP_REDIRECT: u64 = 0x2;
/// ... packets can be redirected to it.
pub const NETRING_XDP_REDIRECT_TARGET: u64 = 0x4;
/// ... AF_XDP sockets without copying.
pub const NETRING_XDP_ZERO_COPY: u64 = 0x8;
/// ... programs can run in the device.
pub const NETRING_XDP_OFFLOAD: u64 = 0x10;
/// ... packets in several pieces are received.
pub const NETRING_XDP_RX_SEGMENTS: u64 = 0x20;
/// ... packets in several pieces can be redirected to it.
pub const NETRING_XDP_TARGET_SEGMENTS: u64 = 0x40;

/// A network interface. What a driver does not tell is 0, and its bit is
/// missing in `valid`.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_interface {
    /// The size passed in.
    pub size: u32,
    /// Its index, as in struct netring_packet.
    pub ifindex: u32,
    /// NETRING_INTERFACE_* bits: what of the rest is known.
    pub valid: u64,
    /// Its name, NUL-terminated.
    pub name: [c_char; 16],
    /// Name of its driver, NUL-terminated.
    pub driver: [c_char; 32],
    /// IFF_* bits of linux/if.h: IFF_UP, IFF_RUNNING, IFF_LOOPBACK, IFF_PROMISC.
    pub flags: u32,
    /// Largest packet, link-layer header not included, bytes.
    pub mtu: u32,
    /// LINKTYPE_ number of its packets, or NETRING_LINKTYPE_UNKNOWN.
    pub link_type: u32,
    /// ARPHRD_* of linux/if_arp.h.
    pub hardware_type: u32,
    /// Megabits a second; 0: unknown.
    pub speed_mbps: u32,
    /// 0 half, 1 full, 255 unknown.
    pub duplex: u8,
    /// State of RFC 2863 (IF_OPER_* of linux/if.h): 0 unknown, 2 down, 6 up.
    pub operstate: u8,
    /// 1: there is a carrier. Says nothing while the interface is not IFF_UP.
    pub carrier: u8,
    /// Bytes of `address`; 0: it has none.
    pub address_length: u8,
    /// Link-layer address.
    pub address: [u8; 32],
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
    /// Receive queues that the interface was made with.
    pub rx_queues_max: u32,
    /// Transmit queues that the interface was made with.
    pub tx_queues_max: u32,
    /// SOF_TIMESTAMPING_* bits of linux/net_tstamp.h.
    pub timestamping: u32,
    /// Number N of its hardware clock /dev/ptpN; -1: none.
    pub clock: i32,
    /// A bit for each HWTSTAMP_TX_* that it can be set to.
    pub tx_types: u32,
    /// A bit for each HWTSTAMP_FILTER_* that it can be set to.
    pub rx_filters: u32,
    /// Where an XDP program is attached: XDP_ATTACHED_* of linux/if_link.h; 0
    /// none, 1 in the driver, 2 generic, 3 in the device, 4 several.
    pub xdp_mode: u32,
    /// Number of that program; of several, that of the driver.
    pub xdp_program: u32,
    /// NETRING_XDP_* bits (NETDEV_XDP_ACT_* of linux/netdev.h).
    pub xdp_features: u64,
    /// NETDEV_XDP_RX_METADATA_* bits: what a program can ask of a packet.
    pub xdp_rx_metadata: u64,
    /// NETDEV_XSK_FLAGS_* bits: transmit metadata of AF_XDP sockets.
    pub xsk_features: u64,
    /// Most pieces of a packet of a zero-copy AF_XDP socket; 0: no zero copy.
    pub xdp_max_segments: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<netring_interface>() == 192);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_interface {}

fn chars<const N: usize>(bytes: &[u8; N]) -> [c_char; N] {
    bytes.map(|byte| byte as c_char)
}

impl netring_interface {
    fn new(interface: &Interface, size: usize) -> Self {
        let link = &interface.link;
        let known = |known: bool, bit: u64| if known { bit } else { 0 };
        let timestamping = interface.timestamping;
        let xdp = interface.xdp.unwrap_or_default();
        Self {
            size: size as u32,
            ifindex: link.index,
            valid: known(interface.speed.is_some(), NETRING_INTERFACE_SPEED)
                | known(interface.driver.is_some(), NETRING_INTERFACE_DRIVER)
                | known(interface.channels.is_some(), NETRING_INTERFACE_QUEUES)
                | known(timestamping.is_some(), NETRING_INTERFACE_TIMESTAMPING)
                | known(link.xdp.is_some(), NETRING_INTERFACE_XDP_PROGRAM)
                | known(interface.xdp.is_some(), NETRING_INTERFACE_XDP_FEATURES),
            name: chars(&link.name),
            driver: chars(&interface.driver.unwrap_or_default()),
            flags: link.flags,
            mtu: link.mtu,
            link_type: interface.link_type.into(),
            hardware_type: link.hardware.into(),
            speed_mbps: interface.speed.map_or(0, |speed| speed.mbps),
            duplex: interface.speed.map_or(255, |speed| speed.duplex),
            operstate: link.operstate,
            carrier: link.carrier.into(),
            address_length: link.address_length,
            address: link.address,
            rx_queues: interface.channels.map_or(link.rx_queues, |channels| channels.rx),
            tx_queues: interface.channels.map_or(link.tx_queues, |channels| channels.tx),
            rx_queues_max: link.rx_queues,
            tx_queues_max: link.tx_queues,
            timestamping: timestamping.map_or(0, |can| can.flags),
            clock: timestamping.map_or(-1, |can| can.clock),
            tx_types: timestamping.map_or(0, |can| can.tx_types),
            rx_filters: timestamping.map_or(0, |can| can.rx_filters),
            xdp_mode: link.xdp.map_or(0, |xdp| xdp.mode.into()),
            xdp_program: link.xdp.map_or(0, |xdp| xdp.id),
            xdp_features: xdp.features,
            xdp_rx_metadata: xdp.rx_metadata,
            xsk_features: xdp.xsk,
            xdp_max_segments: xdp.max_segments,
            reserved: 0,
        }
    }
}

/// Lists the interfaces of the calling thread's network namespace, by index:
/// writes the first `count` of them to the array `out`, whose elements are `size`
/// bytes apart (sizeof(struct netring_interface) of the caller's header), and
/// returns how many there are, which may be more or fewer than `count`. With a
/// `count` of 0 that is all, and `out` may be NULL.
///
/// Needs no privilege and no handle; works in user namespaces. An interface that
/// goes away meanwhile is left out. Costs a few system calls for each.
///
/// Errors: NETRING_EINVAL, `out` is NULL or misaligned, or `size` is less than 16,
/// more than 4096, or not a multiple of 8. NETRING_EIO, the kernel refused a
/// netlink socket or its answer. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `out` must be writable for `count` elements of `size` bytes, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_interface_list(
    out: *mut netring_interface,
    size: usize,
    count: usize,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        if count > 0 {
            check_array(out, size, count)?;
        }
        let (found, total) = interface::list(count)?;
        for (index, interface) in found.iter().enumerate() {
            let element = out.cast::<u8>().wrapping_add(index * size).cast();
            // SAFETY: inside the array, whose size was checked; the caller's promise.
            unsafe { put_sized(element, size, &netring_interface::new(interface, size)) };
        }
        Ok(c_int::try_from(total).unwrap_or(c_int::MAX))
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

fn check_array(out: *mut netring_interface, size: usize, count: usize) -> Result<()> {
    writable_sized(out, "out", size, SHORTEST)?;
    if size % 8 != 0 {
        return Err(Error::config("size", format!("size {size} is not a multiple of 8")));
    }
    if count > isize::MAX as usize / size {
        return Err(Error::config("count", format!("{count} elements of out are too many")));
    }
    Ok(())
}

/// Writes what is known of one interface, by name, in the calling thread's
/// network namespace: as much of it as `size` bytes hold. An alternative name of
/// up to 15 bytes will do (`ip link property`); `name` is then the main one.
///
/// Needs no privilege and no handle; works in user namespaces.
///
/// Errors: NETRING_ENODEV, no such interface ("any" is none). NETRING_EINVAL, a
/// NULL or misaligned argument, `name` is empty or longer than 15 bytes, or `size`
/// is less than 16 or more than 4096. NETRING_EIO, the kernel refused a socket
/// or its answer. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `name` must be NUL-terminated, `out` writable for `size` bytes, `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_interface_info(
    name: *const c_char,
    out: *mut netring_interface,
    size: usize,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable_sized(out, "out", size, SHORTEST)?;
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, "name")? };
        let interface = interface::info(name.to_bytes())?;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &netring_interface::new(&interface, size)) };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}
