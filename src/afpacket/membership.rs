//! What a capture asks of its interface's receive filter while it is open. The
//! kernel ends it with the socket, whatever happens to the process.

use crate::afpacket::capture::{Capture, Reader};
use crate::afpacket::open::not_found;
use crate::config::flags;
use crate::error::{Error, Kind, Result};
use crate::sys::packet::{MembershipRequest, SOL_PACKET};
use crate::sys::socket::Socket;
use std::ffi::CString;

/// Bytes of the longest link-layer address there is (MAX_ADDR_LEN).
const LONGEST: usize = 32;
/// Bytes of an Ethernet address.
const ETHERNET: usize = 6;
/// The kernel has no limit, and looks through a list at each change.
const MOST_GROUPS: usize = 1024;

/// One thing that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    kind: i32,
    step: &'static str,
    address: [u8; LONGEST],
    length: u16,
}

const PROMISCUOUS: Membership = Membership {
    kind: libc::PACKET_MR_PROMISC,
    step: "PACKET_ADD_MEMBERSHIP (promiscuous)",
    address: [0; LONGEST],
    length: 0,
};

const ALL_MULTICAST: Membership = Membership {
    kind: libc::PACKET_MR_ALLMULTI,
    step: "PACKET_ADD_MEMBERSHIP (allmulti)",
    ..PROMISCUOUS
};

impl Membership {
    /// Those of a configuration's flags.
    pub fn of(asked: u64) -> impl Iterator<Item = Self> {
        [(flags::PROMISCUOUS, PROMISCUOUS), (flags::ALL_MULTICAST, ALL_MULTICAST)]
            .into_iter()
            .filter(move |(flag, _)| asked & flag != 0)
            .map(|(_, membership)| membership)
    }

    /// That of a multicast group.
    ///
    /// # Errors
    /// `Config`: no address of one.
    fn group(group: &[u8]) -> Result<Self> {
        let (Some(first), true) = (group.first(), group.len() <= LONGEST) else {
            return Err(Error::config(
                "length",
                format!("length {} is out of range: 1 to {LONGEST} bytes", group.len()),
            ));
        };
        if group.len() == ETHERNET && first & 1 == 0 {
            return Err(Error::config(
                "address",
                format!("address {} is not that of a multicast group", shown(group)),
            ));
        }
        let mut address = [0; LONGEST];
        for (to, from) in address.iter_mut().zip(group) {
            *to = *from;
        }
        Ok(Self {
            kind: libc::PACKET_MR_MULTICAST,
            step: "PACKET_ADD_MEMBERSHIP (multicast)",
            address,
            length: group.len() as u16,
        })
    }

    fn request(&self, ifindex: u32) -> MembershipRequest {
        MembershipRequest {
            ifindex: ifindex as i32,
            kind: self.kind as u16,
            length: self.length,
            address: self.address,
        }
    }

    /// Asks the interface for it.
    ///
    /// # Errors
    /// `SockOpt`, `InterfaceNotFound`.
    pub fn join(&self, socket: &Socket, name: &CString, ifindex: u32) -> Result<()> {
        let request = self.request(ifindex);
        socket.set(SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request).map_err(|errno| {
            if errno.0 == libc::ENODEV {
                return not_found(name);
            }
            let step = self.step;
            let remedy = match (self.length, errno.0) {
                (1.., libc::EINVAL) => format!(
                    "; addresses of {} are not {} bytes long",
                    name.to_string_lossy(),
                    self.length
                ),
                _ => String::new(),
            };
            let message = format!("socket option {step} was refused: {errno}{remedy}");
            Error::new(Kind::SockOpt, step, message).with_os(errno.0)
        })
    }

    /// Ends what [`join`](Self::join) began. An interface that is gone has forgotten
    /// it.
    pub fn leave(&self, socket: &Socket, ifindex: u32) {
        let request = self.request(ifindex);
        let _ = socket.set(SOL_PACKET, libc::PACKET_DROP_MEMBERSHIP, &request);
    }
}

fn shown(address: &[u8]) -> String {
    let bytes: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

impl Capture {
    /// All that is asked of the present interface.
    pub(super) fn memberships(&self, reader: &Reader) -> Vec<Membership> {
        Membership::of(self.flags).chain(reader.multicast.iter().copied()).collect()
    }

    /// Joins a multicast group of the link layer; as often as it is left.
    ///
    /// # Errors
    /// `Config`, `InterfaceNotFound`, `SockOpt`.
    pub fn join_multicast(&self, group: &[u8]) -> Result<()> {
        let membership = Membership::group(group)?;
        self.with_reader(|reader| {
            let (ifindex, name) = self.one_interface(reader)?;
            if reader.multicast.len() >= MOST_GROUPS {
                return Err(Error::config(
                    "address",
                    format!(
                        "{MOST_GROUPS} groups are joined already: NETRING_CAPTURE_ALL_MULTICAST \
                         takes them all"
                    ),
                ));
            }
            membership.join(&self.socket, &name, ifindex)?;
            reader.multicast.push(membership);
            Ok(())
        })
    }

    /// Leaves it.
    ///
    /// # Errors
    /// `Config`: it was not joined.
    pub fn leave_multicast(&self, group: &[u8]) -> Result<()> {
        let membership = Membership::group(group)?;
        self.with_reader(|reader| {
            let joined = reader.multicast.iter().position(|one| *one == membership);
            let Some(joined) = joined else {
                return Err(Error::config(
                    "address",
                    format!("the group {} was not joined, or was left already", shown(group)),
                ));
            };
            reader.multicast.swap_remove(joined);
            if !reader.gone {
                membership.leave(&self.socket, reader.bindings.now().ifindex);
            }
            Ok(())
        })
    }

    fn one_interface(&self, reader: &Reader) -> Result<(u32, CString)> {
        if self.any {
            return Err(Error::config(
                "interface",
                "a multicast group is joined on one interface, not on \"any\": open a capture on \
                 that, or join with `ip maddress add`",
            ));
        }
        if reader.gone {
            return Err(self.interface_gone());
        }
        let name = CString::new(self.name()).unwrap_or_default();
        Ok((reader.bindings.now().ifindex, name))
    }
}
