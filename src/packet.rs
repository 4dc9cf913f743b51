//! The packet: a view into a block, the same for every backend.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::sys::packet::{arphrd, status};

/// One packet of a block: 64 bytes, filled by netring_block_read,
/// netring_capture_next_packet, netring_capture_dispatch and
/// netring_cursor_packet.
///
/// The bits of `status` say which of the other fields are valid; a field that
/// is not is 0. Multi-byte fields are in host byte order. `data` points into
/// the block and may be read and written until the block is released. What of
/// it a savefile has, netring_reader_next_block says.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_packet {
    /// First byte of the packet (its link-layer header, where the link type
    /// has one); `caplen` bytes are there. Borrowed until the block's release.
    pub data: *mut u8,
    /// Bytes captured, at `data`; with NETRING_PACKET_SEGMENTED those of the first
    /// piece.
    pub caplen: u32,
    /// Bytes the packet had on the wire, without a VLAN tag that is
    /// in `vlan_tci`.
    pub len: u32,
    /// When: nanoseconds since 1970-01-01 UTC; `clock` says who stamped it.
    pub time_ns: u64,
    /// NETRING_PACKET_* bits.
    pub status: u32,
    /// The kernel's flow hash (NETRING_PACKET_RXHASH).
    pub rxhash: u32,
    /// Tag control information of the outermost VLAN tag, which the kernel took
    /// out of the bytes (NETRING_PACKET_VLAN; 0 is a valid priority tag);
    /// NETRING_CAPTURE_RESTORE_VLAN puts it back.
    pub vlan_tci: u16,
    /// That tag's EtherType, 0x8100 or 0x88a8 (NETRING_PACKET_VLAN_TPID).
    pub vlan_tpid: u16,
    /// EtherType as the kernel saw it; values below 0x0600 are the kernel's own
    /// (linux/if_ether.h) (NETRING_PACKET_PROTOCOL).
    pub protocol: u16,
    /// Offset of the network header from `data` (NETRING_PACKET_NET_OFFSET).
    pub net_offset: u16,
    /// Index of the interface the packet was seen on; of a savefile, the
    /// interface's number in the file plus 1.
    pub ifindex: u32,
    /// LINKTYPE_ number of the bytes at `data` (1: Ethernet), or
    /// NETRING_LINKTYPE_UNKNOWN.
    pub link_type: u16,
    /// NETRING_DIRECTION_* (NETRING_PACKET_DIRECTION).
    pub direction: u8,
    /// NETRING_CLOCK_*: what `time_ns` was taken from.
    pub clock: u8,
    /// Receive queue, on backends that know it; else 0.
    pub queue: u16,
    /// Bytes of payload in each segment of a super-packet (NETRING_PACKET_VNET);
    /// else 0.
    pub gso_size: u16,
    /// NETRING_GSO_*: kind of super-packet (NETRING_PACKET_VNET); else 0.
    pub gso_type: u8,
    /// Further pieces of the packet, which netring_block_segments gives
    /// (NETRING_PACKET_SEGMENTED); 0 on packet rings and of savefiles.
    pub segments: u8,
    /// 0.
    pub reserved: u16,
    /// Names this packet to the accessors, together with its block.
    pub cookie: u64,
}

/// The core's word for it; the struct has its C name because the caller's array
/// is filled in place.
pub use netring_packet as Packet;

const _: () = assert!(size_of::<Packet>() == 64);

impl Packet {
    /// All fields 0.
    pub(crate) const ZERO: Self = Self {
        data: std::ptr::null_mut(),
        caplen: 0,
        len: 0,
        time_ns: 0,
        status: 0,
        rxhash: 0,
        vlan_tci: 0,
        vlan_tpid: 0,
        protocol: 0,
        net_offset: 0,
        ifindex: 0,
        link_type: 0,
        direction: 0,
        clock: 0,
        queue: 0,
        gso_size: 0,
        gso_type: 0,
        segments: 0,
        reserved: 0,
        cookie: 0,
    };
}

/// The checksum is not filled in yet: the packet was sent by this host (or a
/// neighbour on a virtual link) and left to hardware. Not an error.
pub const NETRING_PACKET_CSUM_NOT_READY: u32 = 0x8;
/// `vlan_tci` is valid.
pub const NETRING_PACKET_VLAN: u32 = 0x10;
/// `vlan_tpid` is valid.
pub const NETRING_PACKET_VLAN_TPID: u32 = 0x40;
/// The kernel or the device has verified the transport checksum.
pub const NETRING_PACKET_CSUM_VALID: u32 = 0x80;
/// A TCP super-packet of several segments (Linux 6.2 says so).
pub const NETRING_PACKET_GSO_TCP: u32 = 0x100;
/// `caplen` is less than `len`.
pub const NETRING_PACKET_TRUNCATED: u32 = 0x10000;
/// `rxhash` is valid.
pub const NETRING_PACKET_RXHASH: u32 = 0x20000;
/// `net_offset` is valid.
pub const NETRING_PACKET_NET_OFFSET: u32 = 0x40000;
/// `protocol` is valid.
pub const NETRING_PACKET_PROTOCOL: u32 = 0x80000;
/// `direction` is valid.
pub const NETRING_PACKET_DIRECTION: u32 = 0x100000;

/// `gso_size`, `gso_type` and netring_block_vnet are valid: a capture with
/// NETRING_CAPTURE_VNET_HEADER.
pub const NETRING_PACKET_VNET: u32 = 0x200000;

/// The packet lies in several pieces, `segments` of them behind the first: AF_XDP with
/// NETRING_XDP_MULTI_BUFFER. All `len` bytes are there.
pub const NETRING_PACKET_SEGMENTED: u32 = 0x400000;

/// No super-packet: one as on the wire.
pub const NETRING_GSO_NONE: u8 = 0;
/// TCP over IPv4 (VIRTIO_NET_HDR_GSO_TCPV4).
pub const NETRING_GSO_TCPV4: u8 = 1;
/// UDP over IPv4 that is to be fragmented (VIRTIO_NET_HDR_GSO_UDP).
pub const NETRING_GSO_UDP: u8 = 3;
/// TCP over IPv6 (VIRTIO_NET_HDR_GSO_TCPV6).
pub const NETRING_GSO_TCPV6: u8 = 4;
/// UDP datagrams in a row (VIRTIO_NET_HDR_GSO_UDP_L4; Linux 6.2).
pub const NETRING_GSO_UDP_L4: u8 = 5;
/// A bit besides: the first segment has CWR set (VIRTIO_NET_HDR_GSO_ECN).
pub const NETRING_GSO_ECN: u8 = 0x80;

/// Received, addressed to this host.
pub const NETRING_DIRECTION_HOST: u8 = 0;
/// Received, link-layer broadcast.
pub const NETRING_DIRECTION_BROADCAST: u8 = 1;
/// Received, link-layer multicast.
pub const NETRING_DIRECTION_MULTICAST: u8 = 2;
/// Received, addressed to another host (seen in promiscuous mode).
pub const NETRING_DIRECTION_OTHERHOST: u8 = 3;
/// Sent by this host.
pub const NETRING_DIRECTION_OUTGOING: u8 = 4;

/// Nobody says what the time was taken from.
pub const NETRING_CLOCK_UNKNOWN: u8 = 0;
/// The kernel's clock, when the packet came in.
pub const NETRING_CLOCK_SOFTWARE: u8 = 1;
/// The kernel's clock, when the packet was copied into the ring: what a kernel
/// gives while nothing on the machine has asked for earlier stamps.
pub const NETRING_CLOCK_COPY: u8 = 2;
/// The network device's own clock, unadjusted.
pub const NETRING_CLOCK_RAW_HARDWARE: u8 = 3;
/// The library's reading of the kernel's clock, when it took the block out of the ring:
/// one for all packets of a block. What AF_XDP gives.
pub const NETRING_CLOCK_TAKEN: u8 = 4;

/// Ethernet (LINKTYPE_ETHERNET), lo included.
pub const NETRING_LINKTYPE_ETHERNET: u16 = 1;
/// Raw IPv4 or IPv6 (LINKTYPE_RAW): tun and tunnels.
pub const NETRING_LINKTYPE_RAW: u16 = 101;
/// The interface's hardware type has no LINKTYPE_ number here.
pub const NETRING_LINKTYPE_UNKNOWN: u16 = 0xffff;

/// A record's status bits that a packet's status takes over as they are: the
/// kernel's, and one of ours.
pub const STATUS_FROM_RECORD: u32 = status::CSUM_NOT_READY
    | status::VLAN_VALID
    | status::VLAN_TPID_VALID
    | status::CSUM_VALID
    | status::GSO_TCP
    | status::VNET;

const _: () = assert!(
    STATUS_FROM_RECORD
        == NETRING_PACKET_CSUM_NOT_READY
            | NETRING_PACKET_VLAN
            | NETRING_PACKET_VLAN_TPID
            | NETRING_PACKET_CSUM_VALID
            | NETRING_PACKET_GSO_TCP
            | NETRING_PACKET_VNET
);

/// What is known of every packet of a packet ring. In a record's tp_status, where
/// no kernel sets them, these bits say the opposite: packets of savefiles.
pub const STATUS_CERTAIN: u32 =
    NETRING_PACKET_NET_OFFSET | NETRING_PACKET_PROTOCOL | NETRING_PACKET_DIRECTION;

/// The LINKTYPE_ number for an interface's hardware type (ARPHRD_*).
#[inline]
pub fn link_type(hardware: u16) -> u16 {
    match hardware {
        arphrd::ETHER | arphrd::LOOPBACK => NETRING_LINKTYPE_ETHERNET,
        arphrd::NONE
        | arphrd::RAWIP
        | arphrd::PPP
        | arphrd::TUNNEL
        | arphrd::TUNNEL6
        | arphrd::SIT
        | arphrd::IPGRE
        | arphrd::IP6GRE => NETRING_LINKTYPE_RAW,
        arphrd::IEEE80211 => 105,
        arphrd::IEEE80211_PRISM => 119,
        arphrd::IEEE80211_RADIOTAP => 127,
        arphrd::CAN => 227,
        arphrd::NETLINK => 253,
        _ => NETRING_LINKTYPE_UNKNOWN,
    }
}
