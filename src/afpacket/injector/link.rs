//! The interface that frames leave by: whether it is up, and how large they may be.
//!
//! The kernel says ENETDOWN only where the interface was set down. With no carrier
//! the queueing discipline is noop, which drops silently (net/sched/sch_generic.c
//! noop_enqueue answers NET_XMIT_CN, which af_packet.c takes for success). So the
//! link is looked at before frames are handed over, at most once a millisecond.
//!
//! A link that is set up and has a carrier, but is not running, comes up in a moment:
//! until net/core/link_watch.c has replaced noop. Or it is dormant (802.1X), and stays
//! so: what opens it has to be sent through it.

use super::config::{ETHERNET_HEADER, VLAN_TAG};
use crate::sys::Errno;
use crate::sys::ethtool::Ethtool;
use crate::sys::link::NAME;
use crate::sys::packet::arphrd;
use crate::sys::socket::Socket;
use std::time::Duration;

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_millis(1);
/// After so long it is dormant (net/core/link_watch.c defers what is not urgent for a
/// second).
const DORMANT: Duration = Duration::from_millis(1500);

/// How long a link is up before frames are handed over again. The kernel says that it
/// is up before it has put its queue back in place (net/core/link_watch.c), and until
/// then swallows what is sent.
const SETTLES_IN: Duration = Duration::from_millis(5);

/// What a look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Frames can leave.
    Up,
    /// So they can from that time of the monotonic clock on: it has come up just now.
    Settles(Duration),
    /// Set down, or without carrier.
    Down,
    /// Removed, or moved to another network namespace.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Interface {
    ifindex: u32,
    is_ethernet: bool,
    /// Bytes of the link-layer header, where that is known.
    pub(crate) header: Option<u32>,
    pub(crate) mtu: u32,
    link: Link,
    looked_at: Duration,
    /// Since when it has a carrier and is not running.
    not_running_since: Option<Duration>,
    /// It was down, and has been found up then.
    up_since: Option<Duration>,
    /// When it was last known to have a carrier, by asking the driver.
    carrier_seen: Duration,
}

impl Interface {
    /// That of a bound socket.
    pub(crate) fn new(ifindex: u32, hardware: u16, mtu: u32) -> Self {
        let header = match hardware {
            arphrd::ETHER | arphrd::LOOPBACK => Some(ETHERNET_HEADER),
            arphrd::NONE | arphrd::RAWIP => Some(0),
            _ => None,
        };
        Self {
            ifindex,
            is_ethernet: hardware == arphrd::ETHER,
            header,
            mtu,
            link: Link::Up,
            looked_at: Duration::ZERO,
            not_running_since: None,
            up_since: None,
            carrier_seen: Duration::ZERO,
        }
    }

    /// How the link is; the last look is good for a while.
    pub(crate) fn link(&mut self, socket: &Socket, now: Duration) -> Link {
        if now.saturating_sub(self.looked_at) >= GOOD_FOR || self.link != Link::Up {
            self.look(socket, now);
        }
        self.link
    }

    /// Has the next call look, whenever the last one did.
    pub(crate) fn forget(&mut self) {
        self.looked_at = Duration::ZERO;
    }

    /// Looks now.
    pub(crate) fn look(&mut self, socket: &Socket, now: Duration) {
        self.looked_at = now;
        if self.link == Link::Gone {
            return;
        }
        let asked = socket
            .interface_name(self.ifindex)
            .and_then(|name| Ok((socket.interface_flags(&name)?, socket.interface_mtu(&name)?)));
        match asked {
            Ok((flags, mtu)) => {
                self.mtu = mtu;
                let has = |flag: i32| flags & flag as u32 != 0;
                let is_up =
                    has(libc::IFF_UP) && (has(libc::IFF_RUNNING) || self.is_dormant(socket, now));
                if has(libc::IFF_RUNNING) {
                    self.not_running_since = None;
                }
                self.link = self.settled(is_up, now);
            }
            // Renamed meanwhile, or gone: a packet socket knows (af_packet.c packet_notifier),
            // for another one there is no name then.
            Err(_) => {
                let is_gone = match socket.bound() {
                    Ok(address) if i32::from(address.sll_family) == libc::AF_PACKET => {
                        address.sll_ifindex == -1
                    }
                    _ => socket.interface_name(self.ifindex) == Err(Errno(libc::ENODEV)),
                };
                if is_gone {
                    self.link = Link::Gone;
                }
            }
        }
    }

    fn is_dormant(&mut self, socket: &Socket, now: Duration) -> bool {
        if !self.has_carrier(socket) {
            self.not_running_since = None;
            return false;
        }
        let since = *self.not_running_since.get_or_insert(now);
        now.saturating_sub(since) >= DORMANT
    }

    fn settled(&mut self, is_up: bool, now: Duration) -> Link {
        if !is_up {
            self.up_since = None;
            return Link::Down;
        }
        if self.link == Link::Up {
            return Link::Up;
        }
        let settled = *self.up_since.get_or_insert(now) + SETTLES_IN;
        if now < settled { Link::Settles(settled) } else { Link::Up }
    }

    /// It has no carrier, whatever the kernel's flags say.
    pub(crate) fn set_down(&mut self) {
        self.link = Link::Down;
        self.up_since = None;
    }

    /// The kernel has said that it is gone.
    pub(crate) fn set_gone(&mut self) {
        self.link = Link::Gone;
    }

    /// Whether it was found gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.link == Link::Gone
    }

    /// Whether there is a carrier now, as far as the driver says so. This takes the
    /// kernel's lock on all interfaces (rtnl): for when something is wrong.
    pub(crate) fn has_carrier(&self, socket: &Socket) -> bool {
        let asked = socket.interface_name(self.ifindex).and_then(|bytes| {
            let mut name = [0; NAME];
            name.iter_mut().take(NAME - 1).zip(&bytes).for_each(|(to, from)| *to = *from);
            Ethtool::through(socket.fd())?.has_link(&name)
        });
        asked.unwrap_or(true)
    }

    /// The same; that there was one is good for a while.
    pub(crate) fn keeps_carrier(&mut self, socket: &Socket, now: Duration) -> bool {
        if now.saturating_sub(self.carrier_seen) < GOOD_FOR {
            return true;
        }
        let has_carrier = self.has_carrier(socket);
        if has_carrier {
            self.carrier_seen = now;
        }
        has_carrier
    }

    /// Whether any frame of that length is one it takes.
    pub(crate) fn takes(&self, len: u32) -> bool {
        self.header.is_none_or(|header| (header..=self.mtu.saturating_add(header)).contains(&len))
    }

    /// Bytes of the largest frame; `None`: the kernel knows. On Ethernet a tagged one
    /// may have the tag besides (af_packet.c packet_extra_vlan_len_allowed).
    pub(crate) fn limit(&self, tagged: bool) -> Option<u32> {
        let tag = if tagged && self.is_ethernet { VLAN_TAG } else { 0 };
        Some(self.mtu.saturating_add(self.header?).saturating_add(tag))
    }
}
