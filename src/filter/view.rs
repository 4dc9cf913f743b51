//! What a filter sees of a packet.

/// A packet as the kernel's filter saw it: link-layer header first, a VLAN tag
/// that the kernel or the card took out still out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketView<'a> {
    /// The bytes there are.
    pub data: &'a [u8],
    /// The length on the wire; more than `data` holds where the packet was cut.
    pub len: u32,
    /// What ancillary loads ask for.
    pub metadata: Metadata,
}

impl<'a> PacketView<'a> {
    /// An uncut packet of which nothing else is known.
    pub fn new(data: &'a [u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { data, len, metadata: Metadata::default() }
    }
}

/// The VLAN tag next to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vlan {
    /// Not known whether there was one.
    #[default]
    Unknown,
    /// None was taken out.
    Absent,
    /// One was taken out.
    Present {
        /// Priority, DEI and VLAN number, host byte order.
        tci: u16,
        /// The tag's EtherType, where known.
        tpid: Option<u16>,
    },
}

/// What is known of a packet besides its bytes. A program that asks for
/// something unknown gets no verdict ([`super::Unanswered`]), never a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The EtherType the kernel dispatches by, host byte order.
    pub protocol: Option<u16>,
    /// `PACKET_HOST` and so on.
    pub packet_type: Option<u8>,
    /// The interface index.
    pub ifindex: Option<u32>,
    /// The interface's `ARPHRD_*` type.
    pub hardware_type: Option<u16>,
    /// `skb->hash` at the time the filter runs. The hash in a ring's record is
    /// computed after the filter ran, and so may be one the filter did not see.
    pub rxhash: Option<u32>,
    /// The VLAN tag next to the packet.
    pub vlan: Vlan,
    /// `skb->queue_mapping`: for a received packet the receive queue plus 1, or
    /// 0 where the driver recorded none.
    pub queue: Option<u16>,
    /// Where the network header starts in the data.
    pub net_offset: Option<u32>,
    /// Where the link-layer header starts in the data: 0, except that a socket
    /// of type `SOCK_DGRAM` has none there.
    pub link_offset: Option<u32>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            protocol: None,
            packet_type: None,
            ifindex: None,
            hardware_type: None,
            rxhash: None,
            vlan: Vlan::Unknown,
            queue: None,
            net_offset: None,
            link_offset: Some(0),
        }
    }
}
