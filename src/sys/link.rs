//! rtnetlink: the interfaces of the caller's network namespace.

use super::message::{Port, Request, attributes, u16_at, u32_at};
use super::{Errno, Result};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// The programs of each mode, where there are several.
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
/// Without statistics: they are the largest part of an answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// Longest link-layer address (MAX_ADDR_LEN).
pub const ADDRESS: usize = 32;
/// IFNAMSIZ.
pub const NAME: usize = 16;

/// How often an interrupted dump is begun anew.
const TRIES: u32 = 10;

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpProgram {
    /// XDP_ATTACHED_*; 0: none.
    pub mode: u8,
    /// Its number; with several, that of the driver's mode first.
    pub id: u32,
}

/// What the kernel says of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// NUL-terminated.
    pub name: [u8; NAME],
    /// ARPHRD_*.
    pub hardware: u16,
    /// IFF_*.
    pub flags: u32,
    /// Bytes.
    pub mtu: u32,
    /// IF_OPER_*.
    pub operstate: u8,
    /// There is a carrier.
    pub carrier: bool,
    /// The link-layer address.
    pub address: [u8; ADDRESS],
    /// Bytes of it.
    pub address_length: u8,
    /// Receive queues that the interface was made with.
    pub rx_queues: u32,
    /// Transmit queues that the interface was made with.
    pub tx_queues: u32,
    /// What a virtual interface is ("veth", "macvlan"), NUL-terminated; empty: it is none,
    /// or the kernel does not say.
    pub kind: [u8; NAME],
    /// The interface below, or the other end of a pair; 0: none.
    pub lower: u32,
    /// That one is in another network namespace.
    pub lower_elsewhere: bool,
    /// The interface that this one is a port of (a bridge, a bond); 0: none.
    pub master: u32,
    /// `None`: the kernel does not say.
    pub xdp: Option<XdpProgram>,
}

impl Link {
    /// Whether it is a virtual interface of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.split(|byte| *byte == 0).next() == Some(kind.as_bytes())
    }

    /// Its name, for words.
    pub fn shown(&self) -> String {
        let name = self.name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

/// Asks the kernel for links.
#[derive(Debug)]
pub struct Links(Port);

impl Links {
    /// Opens the netlink socket.
    pub fn open() -> Result<Self> {
        Port::open(libc::NETLINK_ROUTE).map(Self)
    }

    /// Every interface, by index.
    pub fn all(&mut self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for _ in 0..TRIES {
            links.clear();
            let answer = self.0.ask(&request(0, true), |kind, body| {
                links.extend(parse(kind, body));
            })?;
            if !answer.interrupted {
                break;
            }
        }
        links.sort_by_key(|link| link.index);
        // Of a dump that something always interrupts.
        links.dedup_by_key(|link| link.index);
        Ok(links)
    }

    /// The interface with this index; ENODEV.
    pub fn one(&mut self, index: u32) -> Result<Link> {
        let mut link = None;
        self.0.ask(&request(index, false), |kind, body| link = parse(kind, body))?;
        link.ok_or(Errno(libc::EPROTO))
    }
}

fn request(index: u32, dump: bool) -> Request {
    // struct ifinfomsg: family, type, index, flags, change
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(libc::RTM_GETLINK, dump, &fixed)
        .with(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
}

/// `None`: not a message about a link.
fn parse(kind: u16, body: &[u8]) -> Option<Link> {
    if kind != libc::RTM_NEWLINK {
        return None;
    }
    let mut link = Link {
        hardware: u16_at(body, 2)?,
        index: u32_at(body, 4)?,
        flags: u32_at(body, 8)?,
        ..Link::default()
    };
    for (kind, value) in attributes(body.get(16..)?) {
        let number = || u32_at(value, 0).unwrap_or_default();
        let byte = || value.first().copied().unwrap_or_default();
        match kind {
            IFLA_IFNAME => {
                // Always shorter than the array, with its NUL.
                for (to, from) in link.name.iter_mut().take(NAME - 1).zip(value) {
                    *to = *from;
                }
            }
            IFLA_ADDRESS => {
                for (to, from) in link.address.iter_mut().zip(value) {
                    *to = *from;
                }
                link.address_length = value.len().min(ADDRESS) as u8;
            }
            IFLA_MTU => link.mtu = number(),
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                let bytes = kind.map(|(_, value)| value).unwrap_or_default();
                for (to, from) in link.kind.iter_mut().take(NAME - 1).zip(bytes) {
                    *to = *from;
                }
            }
            IFLA_LINK => link.lower = number(),
            IFLA_LINK_NETNSID => link.lower_elsewhere = true,
            IFLA_MASTER => link.master = number(),
            IFLA_OPERSTATE => link.operstate = byte(),
            IFLA_CARRIER => link.carrier = byte() != 0,
            IFLA_NUM_TX_QUEUES => link.tx_queues = number(),
            IFLA_NUM_RX_QUEUES => link.rx_queues = number(),
            IFLA_XDP => link.xdp = Some(parse_xdp(value)),
            _ => {}
        }
    }
    // A message without a name is not about an interface (a bridge's port).
    (link.index != 0 && link.name[0] != 0).then_some(link)
}

fn parse_xdp(bytes: &[u8]) -> XdpProgram {
    let mut xdp = XdpProgram::default();
    for (kind, value) in attributes(bytes) {
        match kind {
            IFLA_XDP_ATTACHED => xdp.mode = value.first().copied().unwrap_or_default(),
            // Driver, generic, hardware come in this order.
            IFLA_XDP_PROG_ID..=IFLA_XDP_HW_PROG_ID
                if xdp.id == 0 || kind == IFLA_XDP_DRV_PROG_ID =>
            {
                xdp.id = u32_at(value, 0).unwrap_or_default();
            }
            _ => {}
        }
    }
    xdp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_is_a_link() {
        let mut links = Links::open().unwrap();
        let all = links.all().unwrap();
        let lo = all.iter().find(|link| link.name.starts_with(b"lo\0")).unwrap();
        assert_eq!((lo.hardware, lo.address_length), (772, 6));
        assert_eq!(&links.one(lo.index).unwrap(), lo);
        assert_eq!(links.one(0x7fff_0000), Err(Errno(libc::ENODEV)));
        assert!(all.windows(2).all(|pair| pair[0].index < pair[1].index));
    }

    /// ifinfomsg and attributes, each (type, value).
    fn body(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[2] = 1;
        bytes[4] = 9;
        for (kind, value) in attributes {
            bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn hostile_links() {
        let parse = |bytes: &[u8]| parse(libc::RTM_NEWLINK, bytes);
        assert_eq!(super::parse(libc::RTM_DELLINK, &body(&[(IFLA_IFNAME, b"x\0")])), None);
        assert_eq!(parse(&body(&[])), None);
        assert_eq!(parse(&[0; 12]), None);
        // Longer than any: cut, and still terminated.
        let long = parse(&body(&[(IFLA_IFNAME, &[b'n'; 40]), (IFLA_ADDRESS, &[7; 99])])).unwrap();
        assert_eq!((long.name[14], long.name[15], long.address_length), (b'n', 0, 32));
        let kind = &body(&[(IFLA_INFO_KIND, &[b'k'; 40])])[16..];
        let kind = parse(&body(&[(IFLA_IFNAME, b"x\0"), (IFLA_LINKINFO, kind)])).unwrap().kind;
        assert_eq!((kind[14], kind[15]), (b'k', 0));
        // Shorter than they should be: as if they said nothing.
        let short: Vec<(u16, &[u8])> = (1..60)
            .filter(|kind| *kind != IFLA_IFNAME)
            .map(|kind| (kind, &[][..]))
            .chain([(IFLA_IFNAME, &b"eth0\0"[..])])
            .collect();
        let link = parse(&body(&short)).unwrap();
        assert_eq!((link.mtu, link.address_length, link.xdp), (0, 0, Some(XdpProgram::default())));
        // Every cut of a good one.
        let good = body(&[
            (IFLA_IFNAME, b"eth0\0"),
            (IFLA_MTU, &1500_u32.to_ne_bytes()),
            (
                IFLA_XDP,
                &body(&[(IFLA_XDP_ATTACHED, &[1]), (IFLA_XDP_PROG_ID, &[5, 0, 0, 0])])[16..],
            ),
        ]);
        for end in 0..good.len() {
            if let Some(link) = parse(&good[..end]) {
                assert_eq!(link.index, 9);
            }
        }
        let xdp = parse(&good).unwrap().xdp;
        assert_eq!(xdp, Some(XdpProgram { mode: 1, id: u32::from_ne_bytes([5, 0, 0, 0]) }));
    }
}
