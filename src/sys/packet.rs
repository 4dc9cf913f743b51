//! The kernel's words for packet sockets: linux/if_packet.h, if_arp.h,
//! if_ether.h, as far as libc lacks them.

/// getsockopt and setsockopt level.
pub use libc::SOL_PACKET;

/// Ignore outgoing packets of this host (Linux 4.20).
pub const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A struct virtio_net_hdr before each packet.
pub const PACKET_VNET_HDR: i32 = 15;

/// Frames go to the driver without a queueing discipline (Linux 3.14).
pub const PACKET_QDISC_BYPASS: i32 = 20;

/// What tp_status of a slot of a transmit ring says (TP_STATUS_*).
pub mod transmit_status {
    /// The kernel is to send it.
    pub const SEND_REQUEST: u32 = 1;
    /// The kernel is sending it.
    pub const SENDING: u32 = 2;
    /// The kernel makes no packet of it, and stops there.
    pub const WRONG_FORMAT: u32 = 4;
}

/// struct packet_mreq with room for the longest address (MAX_ADDR_LEN; the kernel's
/// struct packet_mreq_max).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MembershipRequest {
    /// The interface.
    pub ifindex: i32,
    /// PACKET_MR_*.
    pub kind: u16,
    /// Bytes of the address.
    pub length: u16,
    /// The address.
    pub address: [u8; 32],
}

/// Every protocol, host byte order.
pub const ETH_P_ALL: u16 = 0x0003;

/// A protocol number nobody sends: below the EtherTypes (0x600), and none of
/// the kernel's own (if_ether.h uses 0x01-0x1c and 0xf4-0xfb). A socket bound
/// to it stays bound, with its hook drained (af_packet.c packet_do_bind runs
/// synchronize_net), and receives nothing.
pub const ETH_P_UNUSED: u16 = 0x00ff;

/// Bits of a block's and of a record's status (TP_STATUS_*).
pub mod status {
    /// The block or record belongs to user space.
    pub const USER: u32 = 1;
    /// Packets were dropped since the statistics were last read.
    pub const LOSING: u32 = 4;
    /// The checksum is still to be filled in by the hardware.
    pub const CSUM_NOT_READY: u32 = 8;
    /// tp_vlan_tci is valid.
    pub const VLAN_VALID: u32 = 0x10;
    /// The block was retired by the timer.
    pub const BLOCK_TIMEOUT: u32 = 0x20;
    /// tp_vlan_tpid is valid.
    pub const VLAN_TPID_VALID: u32 = 0x40;
    /// The transport checksum has been verified.
    pub const CSUM_VALID: u32 = 0x80;
    /// A TCP super-packet (GSO).
    pub const GSO_TCP: u32 = 0x100;
    /// Which no kernel sets: the vnet header is kept in the record.
    pub const VNET: u32 = 1 << 21;
    /// Stamped in software when it came in.
    pub const TS_SOFTWARE: u32 = 1 << 29;
    /// TP_STATUS_TS_SYS_HARDWARE, which no kernel sets any more (Linux 3.17): in
    /// records of savefiles, which do not say who stamped a packet.
    pub const TS_UNKNOWN: u32 = 1 << 30;
    /// Stamped by the hardware, raw.
    pub const TS_RAW_HARDWARE: u32 = 1 << 31;
}

/// Hardware types (ARPHRD_*, linux/if_arp.h) that decide the link type.
pub mod arphrd {
    /// Ethernet.
    pub const ETHER: u16 = 1;
    /// PPP.
    pub const PPP: u16 = 512;
    /// IP without a header.
    pub const RAWIP: u16 = 519;
    /// IP-in-IP tunnel.
    pub const TUNNEL: u16 = 768;
    /// IPv6 tunnel.
    pub const TUNNEL6: u16 = 769;
    /// The loopback device: Ethernet headers.
    pub const LOOPBACK: u16 = 772;
    /// IPv6-in-IPv4.
    pub const SIT: u16 = 776;
    /// GRE over IP.
    pub const IPGRE: u16 = 778;
    /// IEEE 802.11.
    pub const IEEE80211: u16 = 801;
    /// IEEE 802.11 with Prism header.
    pub const IEEE80211_PRISM: u16 = 802;
    /// IEEE 802.11 with radiotap header.
    pub const IEEE80211_RADIOTAP: u16 = 803;
    /// GRE over IPv6.
    pub const IP6GRE: u16 = 823;
    /// Netlink monitor.
    pub const NETLINK: u16 = 824;
    /// CAN bus.
    pub const CAN: u16 = 280;
    /// No header at all (tun).
    pub const NONE: u16 = 0xfffe;
}
