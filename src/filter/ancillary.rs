//! Ancillary loads: offsets that mean a property of the packet instead of a
//! place in it.

use std::fmt;

/// `SKF_AD_OFF`: absolute loads from here up are ancillary, known or refused.
pub(super) const AD_OFF: u32 = 0_u32.wrapping_sub(0x1000);
/// `SKF_NET_OFF`: loads from here up count from the network header.
pub(super) const NET_OFF: u32 = 0_u32.wrapping_sub(0x0010_0000);
/// `SKF_LL_OFF`: loads from here up count from the link-layer header.
pub(super) const LL_OFF: u32 = 0_u32.wrapping_sub(0x0020_0000);

/// Where [`Ancillary::PacketType`] is loaded from.
pub(super) const PACKET_TYPE: u32 = AD_OFF.wrapping_add(4);

/// What an ancillary load asks for, with the kernel's number (`SKF_AD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ancillary {
    /// The EtherType the kernel dispatches by, host byte order.
    Protocol = 0,
    /// `PACKET_HOST`, `PACKET_OUTGOING` and so on.
    PacketType = 4,
    /// The interface index.
    Ifindex = 8,
    /// The offset of a netlink attribute.
    NetlinkAttribute = 12,
    /// The offset of a nested netlink attribute.
    NetlinkAttributeNested = 16,
    /// The firewall mark.
    Mark = 20,
    /// `skb->queue_mapping`.
    Queue = 24,
    /// The interface's `ARPHRD_*` type.
    HardwareType = 28,
    /// The flow hash.
    Rxhash = 32,
    /// The processor that runs the filter.
    Cpu = 36,
    /// No load: A becomes A xor X.
    XorX = 40,
    /// The VLAN tag taken out of the packet.
    VlanTag = 44,
    /// 1 where a VLAN tag was taken out of the packet.
    VlanTagPresent = 48,
    /// Where the transport payload starts.
    PayloadOffset = 52,
    /// A random number.
    Random = 56,
    /// The EtherType of the VLAN tag taken out of the packet.
    VlanTpid = 60,
}

impl Ancillary {
    /// What an absolute load with the constant `k` asks for, if it is ancillary
    /// and known (`bpf_anc_helper()` in include/linux/filter.h).
    pub fn from_constant(k: u32) -> Option<Self> {
        Some(match k.checked_sub(AD_OFF)? {
            0 => Self::Protocol,
            4 => Self::PacketType,
            8 => Self::Ifindex,
            12 => Self::NetlinkAttribute,
            16 => Self::NetlinkAttributeNested,
            20 => Self::Mark,
            24 => Self::Queue,
            28 => Self::HardwareType,
            32 => Self::Rxhash,
            36 => Self::Cpu,
            40 => Self::XorX,
            44 => Self::VlanTag,
            48 => Self::VlanTagPresent,
            52 => Self::PayloadOffset,
            56 => Self::Random,
            60 => Self::VlanTpid,
            _ => return None,
        })
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "SKF_AD_PROTOCOL",
            Self::PacketType => "SKF_AD_PKTTYPE",
            Self::Ifindex => "SKF_AD_IFINDEX",
            Self::NetlinkAttribute => "SKF_AD_NLATTR",
            Self::NetlinkAttributeNested => "SKF_AD_NLATTR_NEST",
            Self::Mark => "SKF_AD_MARK",
            Self::Queue => "SKF_AD_QUEUE",
            Self::HardwareType => "SKF_AD_HATYPE",
            Self::Rxhash => "SKF_AD_RXHASH",
            Self::Cpu => "SKF_AD_CPU",
            Self::XorX => "SKF_AD_ALU_XOR_X",
            Self::VlanTag => "SKF_AD_VLAN_TAG",
            Self::VlanTagPresent => "SKF_AD_VLAN_TAG_PRESENT",
            Self::PayloadOffset => "SKF_AD_PAY_OFFSET",
            Self::Random => "SKF_AD_RANDOM",
            Self::VlanTpid => "SKF_AD_VLAN_TPID",
        }
    }
}

impl fmt::Display for Ancillary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
