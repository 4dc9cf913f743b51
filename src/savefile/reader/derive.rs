//! What the bytes of a packet tell that a kernel would have told next to them.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::indexing_slicing
    )
)]

use super::parse::Found;
use crate::afpacket::record::write::Known;
use crate::filter::{Metadata, Vlan};
use crate::packet::{NETRING_DIRECTION_OUTGOING, NETRING_LINKTYPE_ETHERNET, NETRING_LINKTYPE_RAW};

/// BSD loopback: the address family in front, in the writer's byte order.
const LINKTYPE_NULL: u16 = 0;
/// The same in network byte order.
const LINKTYPE_LOOP: u16 = 108;
/// Linux cooked captures ("any").
const LINKTYPE_LINUX_SLL: u16 = 113;
const LINKTYPE_LINUX_SLL2: u16 = 276;
const LINKTYPE_IPV4: u16 = 228;
const LINKTYPE_IPV6: u16 = 229;

/// if_ether.h: the kernel's words for frames that have a length there.
const ETH_P_802_3: u16 = 0x0001;
const ETH_P_802_2: u16 = 0x0004;
/// From here on it is a protocol, below a length.
const ETH_P_802_3_MIN: u16 = 0x0600;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Derived {
    protocol: Option<u16>,
    net_offset: Option<u16>,
    direction: Option<u8>,
    address: [u8; 8],
    address_length: u8,
}

fn byte(data: &[u8], at: usize) -> Option<u8> {
    data.get(at).copied()
}

fn big(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..).and_then(<[u8]>::first_chunk::<2>).copied().map(u16::from_be_bytes)
}

/// The version in an IP header.
fn ip(data: &[u8], at: usize) -> Option<u16> {
    match byte(data, at)? >> 4 {
        4 => Some(ETH_P_IP),
        6 => Some(ETH_P_IPV6),
        _ => None,
    }
}

impl Derived {
    /// For a packet of that link type. A VLAN tag is left where it is: in the
    /// bytes, as the protocol.
    pub fn of(link_type: u16, data: &[u8]) -> Self {
        match link_type {
            NETRING_LINKTYPE_ETHERNET => Self::ethernet(data),
            NETRING_LINKTYPE_RAW | LINKTYPE_IPV4 | LINKTYPE_IPV6 => Self::network(data, 0),
            LINKTYPE_NULL | LINKTYPE_LOOP => Self::network(data, 4),
            LINKTYPE_LINUX_SLL => Self::cooked(data),
            LINKTYPE_LINUX_SLL2 => Self::cooked2(data),
            _ => Self::default(),
        }
    }

    fn network(data: &[u8], at: u16) -> Self {
        let protocol = ip(data, at.into());
        Self { protocol, net_offset: protocol.and(Some(at)), ..Self::default() }
    }

    fn ethernet(data: &[u8]) -> Self {
        let Some(kind) = big(data, 12) else { return Self::default() };
        let protocol = match kind {
            ETH_P_802_3_MIN.. => kind,
            // eth.c eth_type_trans
            _ if big(data, 14) == Some(0xffff) => ETH_P_802_3,
            _ => ETH_P_802_2,
        };
        let mut derived =
            Self { protocol: Some(protocol), net_offset: Some(14), ..Self::default() };
        derived.take_address(data.get(6..12));
        derived
    }

    fn cooked(data: &[u8]) -> Self {
        let Some(protocol) = big(data, 14) else { return Self::default() };
        let mut derived = Self {
            protocol: Some(protocol),
            net_offset: Some(16),
            direction: big(data, 0).and_then(|kind| u8::try_from(kind).ok()).filter(is_direction),
            ..Self::default()
        };
        let length = big(data, 4).map_or(0, usize::from).min(8);
        derived.take_address(data.get(6..14).and_then(|address| address.get(..length)));
        derived
    }

    fn cooked2(data: &[u8]) -> Self {
        let header = data.get(..20);
        let Some(protocol) = header.and_then(|header| big(header, 0)) else {
            return Self::default();
        };
        let mut derived = Self {
            protocol: Some(protocol),
            net_offset: Some(20),
            direction: byte(data, 10).filter(is_direction),
            ..Self::default()
        };
        let length = byte(data, 11).map_or(0, usize::from).min(8);
        derived.take_address(data.get(12..20).and_then(|address| address.get(..length)));
        derived
    }

    fn take_address(&mut self, address: Option<&[u8]>) {
        let address = address.unwrap_or(&[]);
        for (to, from) in self.address.iter_mut().zip(address) {
            *to = *from;
            self.address_length = self.address_length.saturating_add(1);
        }
    }

    /// All that goes into the packet's record.
    pub fn known(&self, found: &Found) -> Known {
        Known {
            len: found.len,
            seconds: found.time.0,
            nanoseconds: found.time.1,
            ifindex: found.interface.saturating_add(1),
            link_type: found.link_type,
            protocol: self.protocol,
            net_offset: self.net_offset,
            direction: found.direction.or(self.direction),
            address: self.address,
            address_length: self.address_length,
        }
    }

    /// What a filter may ask for.
    pub fn metadata(&self, found: &Found) -> Metadata {
        Metadata {
            protocol: self.protocol,
            packet_type: found.direction.or(self.direction),
            ifindex: found.interface.checked_add(1),
            net_offset: self.net_offset.map(u32::from),
            // Tags are in the bytes.
            vlan: Vlan::Absent,
            ..Metadata::default()
        }
    }
}

fn is_direction(kind: &u8) -> bool {
    *kind <= NETRING_DIRECTION_OUTGOING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet() {
        let mut frame = [0_u8; 20];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        let derived = Derived::of(1, &frame);
        assert_eq!(derived.protocol, Some(0x86dd));
        assert_eq!(derived.net_offset, Some(14));
        assert_eq!(
            (derived.address[..6].to_vec(), derived.address_length),
            (vec![2, 0, 0, 0, 0, 9], 6)
        );
        frame[12..14].copy_from_slice(&[0, 6]);
        assert_eq!(Derived::of(1, &frame).protocol, Some(ETH_P_802_2));
        frame[14..16].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(Derived::of(1, &frame).protocol, Some(ETH_P_802_3));
        assert_eq!(Derived::of(1, &frame[..13]), Derived::default());
    }

    #[test]
    fn others() {
        assert_eq!(Derived::of(101, &[0x45]).protocol, Some(ETH_P_IP));
        assert_eq!(Derived::of(101, &[0x60]).net_offset, Some(0));
        assert_eq!(Derived::of(101, &[0x15]), Derived::default());
        assert_eq!(Derived::of(0, &[2, 0, 0, 0, 0x45]).net_offset, Some(4));
        let sll = [0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0];
        let derived = Derived::of(113, &sll);
        assert_eq!(derived.direction, Some(4));
        assert_eq!((derived.protocol, derived.address_length), (Some(0x0800), 6));
        assert_eq!(Derived::of(113, &sll[..15]), Derived::default());
        let sll2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1, 6, 2, 0, 0, 0, 0, 9, 0, 0];
        let derived = Derived::of(276, &sll2);
        assert_eq!((derived.direction, derived.net_offset), (Some(1), Some(20)));
        assert_eq!(Derived::of(276, &sll2[..19]), Derived::default());
        assert_eq!(Derived::of(147, &[0; 64]), Derived::default());
    }
}
