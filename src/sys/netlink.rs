//! rtnetlink: the counters of an interface, by index (a rename does not
//! matter), in the network namespace it was opened in.

use super::message::{Port, Request, attributes, u32_at, u64_at};
use super::{Errno, Result};

const IFLA_LINK: u16 = 5;
const IFLA_STATS64: u16 = 23;
const IFLA_LINK_NETNSID: u16 = 37;
/// linux/rtnetlink.h, linux/pkt_sched.h, linux/gen_stats.h.
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
const TC_H_ROOT: u32 = u32::MAX;

/// What the interface itself lost, since it exists (struct rtnl_link_stats64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Dropped by the host before any socket saw them.
    pub rx_dropped: u64,
    /// Lost in the device's FIFO.
    pub rx_fifo: u64,
    /// Missed by the device: no buffer was free.
    pub rx_missed: u64,
}

/// What the interface did not send, since it exists (struct rtnl_link_stats64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransmitCounters {
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Dropped by the driver.
    pub tx_dropped: u64,
}

/// The queueing discipline that an interface sends through, its own first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootQueue {
    /// Its number: another one is another queue.
    pub handle: u32,
    /// Packets that it has dropped, with those of the ones below it where it adds them up
    /// (struct gnet_stats_queue).
    pub drops: u32,
}

/// A route netlink socket.
#[derive(Debug)]
pub struct Netlink(Port);

impl Netlink {
    /// Opens one in the caller's network namespace.
    pub fn open() -> Result<Self> {
        Port::open(libc::NETLINK_ROUTE).map(Self)
    }

    /// Asks what the interface with this index lost of what it received; ENODEV.
    pub fn link_counters(&mut self, ifindex: u32) -> Result<LinkCounters> {
        self.counters(ifindex, |value| {
            Some(LinkCounters {
                rx_dropped: u64_at(value, 6 * 8)?,
                rx_fifo: u64_at(value, 14 * 8)?,
                rx_missed: u64_at(value, 15 * 8)?,
            })
        })
    }

    /// Asks what the interface with this index lost of what it was to send; ENODEV.
    pub fn transmit_counters(&mut self, ifindex: u32) -> Result<TransmitCounters> {
        self.counters(ifindex, |value| {
            Some(TransmitCounters {
                tx_errors: u64_at(value, 5 * 8)?,
                tx_dropped: u64_at(value, 7 * 8)?,
            })
        })
    }

    /// Asks what the root queueing discipline of the interface with this index dropped;
    /// EPROTO: it does not say.
    pub fn root_queue(&mut self, ifindex: u32) -> Result<RootQueue> {
        // struct tcmsg: family, ifindex, handle, parent, info. A dump of all interfaces:
        // asked for a single one the kernel tells whoever listens to changes
        // (net/sched/sch_api.c qdisc_notify).
        let mut queue = None;
        self.0.ask(&Request::new(libc::RTM_GETQDISC, true, &[0; 20]), |kind, body| {
            queue = queue.or_else(|| root_queue(kind, body, ifindex));
        })?;
        queue.ok_or(Errno(libc::EPROTO))
    }

    fn counters<T>(&mut self, ifindex: u32, read: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        self.link(ifindex, |kind, body| stats64(kind, body).and_then(&read))
    }

    /// The index of the interface that this one is stacked on (a VLAN, a macvlan);
    /// ENODEV: on none, or on one of another network namespace.
    pub fn lower(&mut self, ifindex: u32) -> Result<u32> {
        let lower = self.link(ifindex, |kind, body| Some(lower(kind, body)))?;
        lower.filter(|lower| *lower != ifindex).ok_or(Errno(libc::ENODEV))
    }

    fn link<T>(&mut self, ifindex: u32, read: impl Fn(u16, &[u8]) -> Option<T>) -> Result<T> {
        // struct ifinfomsg: family, type, index, flags, change
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let mut answer = None;
        self.0.ask(&Request::new(libc::RTM_GETLINK, false, &fixed), |kind, body| {
            answer = read(kind, body);
        })?;
        answer.ok_or(Errno(libc::EPROTO))
    }
}

fn lower(kind: u16, body: &[u8]) -> Option<u32> {
    if kind != libc::RTM_NEWLINK {
        return None;
    }
    let attribute = |wanted| attributes(body.get(16..)?).find(|(kind, _)| *kind == wanted);
    match attribute(IFLA_LINK_NETNSID) {
        Some(_) => None,
        None => u32_at(attribute(IFLA_LINK)?.1, 0),
    }
}

/// `None`: not a message about a link, or without counters.
fn stats64(kind: u16, body: &[u8]) -> Option<&[u8]> {
    if kind != libc::RTM_NEWLINK {
        return None;
    }
    let (_, value) = attributes(body.get(16..)?).find(|(kind, _)| *kind == IFLA_STATS64)?;
    Some(value)
}

/// `None`: not a message about the interface's root queueing discipline, or without
/// counters.
fn root_queue(kind: u16, body: &[u8], ifindex: u32) -> Option<RootQueue> {
    let is_its = kind == libc::RTM_NEWQDISC && u32_at(body, 4)? == ifindex;
    if !is_its || u32_at(body, 12)? != TC_H_ROOT {
        return None;
    }
    let handle = u32_at(body, 8)?;
    let (_, counters) = attributes(body.get(20..)?).find(|(kind, _)| *kind == TCA_STATS2)?;
    let (_, queue) = attributes(counters).find(|(kind, _)| *kind == TCA_STATS_QUEUE)?;
    // struct gnet_stats_queue: qlen, backlog, drops
    Some(RootQueue { handle, drops: u32_at(queue, 8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_lo() {
        let mut netlink = Netlink::open().unwrap();
        let index = super::super::socket::interface_index(c"lo").unwrap();
        netlink.link_counters(index).unwrap();
        assert_eq!(netlink.link_counters(0x7fff_0000), Err(Errno(libc::ENODEV)));
    }

    #[test]
    fn junk_is_refused() {
        let queue = |body: &[u8]| root_queue(libc::RTM_NEWQDISC, body, 7);
        assert!(queue(&[]).is_none() && queue(&[0; 64]).is_none());
        let mut body = [0, 7, 0x8001_0000, TC_H_ROOT, 0].map(u32::to_ne_bytes).concat();
        body.extend([28_u16, TCA_STATS2].map(u16::to_ne_bytes).concat());
        let inner = [24_u16, TCA_STATS_QUEUE].map(u16::to_ne_bytes).concat();
        body.extend(inner);
        body.extend([1_u32, 2, 77, 4, 5].map(u32::to_ne_bytes).concat());
        assert_eq!(queue(&body), Some(RootQueue { handle: 0x8001_0000, drops: 77 }));
        assert_eq!(root_queue(libc::RTM_NEWLINK, &body, 7), None);
        assert_eq!(root_queue(libc::RTM_NEWQDISC, &body, 8), None);
        for end in 0..body.len() {
            assert_eq!(queue(&body[..end]), None);
        }
        assert!(stats64(0, &[0; 64]).is_none());
        assert!(stats64(libc::RTM_NEWLINK, &[]).is_none());
        assert!(stats64(libc::RTM_NEWLINK, &[0; 64]).is_none());
        let mut short = vec![0_u8; 16 + 4 + 15 * 8];
        short[16..18].copy_from_slice(&(4 + 15 * 8_u16).to_ne_bytes());
        short[18..20].copy_from_slice(&IFLA_STATS64.to_ne_bytes());
        let value = stats64(libc::RTM_NEWLINK, &short).unwrap();
        assert!(u64_at(value, 14 * 8).is_some() && u64_at(value, 15 * 8).is_none());
    }
}
