//! The generic netlink family "netdev" (Linux 6.3): what XDP can do on each
//! interface of the caller's network namespace, and which queues it has.

use super::message::{Port, Request, attributes, u16_at, u32_at, u64_at};
use super::{Errno, Result};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_CMD_QUEUE_GET: u8 = 10;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;
const NETDEV_A_QUEUE_ID: u16 = 1;
const NETDEV_A_QUEUE_IFINDEX: u16 = 2;
const NETDEV_A_QUEUE_TYPE: u16 = 3;
const NETDEV_A_QUEUE_XSK: u16 = 7;

/// How often an interrupted dump is begun anew.
const TRIES: u32 = 10;

/// What XDP can do on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpFeatures {
    /// The interface.
    pub ifindex: u32,
    /// NETDEV_XDP_ACT_*.
    pub features: u64,
    /// NETDEV_XDP_RX_METADATA_*.
    pub rx_metadata: u64,
    /// NETDEV_XSK_FLAGS_*.
    pub xsk: u64,
    /// Most pieces of a packet with zero copy; 0: no zero copy, or unknown.
    pub max_segments: u32,
}

/// A queue of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Its number, among those of its direction.
    pub number: u32,
    /// It sends.
    pub transmit: bool,
    /// An AF_XDP socket is bound to it (told since Linux 6.15).
    pub xsk: bool,
}

/// Asks the family.
#[derive(Debug)]
pub struct Netdev {
    port: Port,
    family: u16,
}

impl Netdev {
    /// Opens a netlink socket and finds the family; ENOENT: this kernel has none.
    pub fn open() -> Result<Self> {
        let mut port = Port::open(libc::NETLINK_GENERIC)?;
        // struct genlmsghdr: command, version, reserved
        let request = Request::new(GENL_ID_CTRL, false, &[CTRL_CMD_GETFAMILY, 1, 0, 0])
            .with(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let mut family = None;
        port.ask(&request, |kind, body| {
            if kind == GENL_ID_CTRL {
                family = parse_family(body);
            }
        })?;
        Ok(Self { port, family: family.ok_or(Errno(libc::EPROTO))? })
    }

    /// Of every interface.
    pub fn all(&mut self) -> Result<Vec<XdpFeatures>> {
        let mut all = Vec::new();
        for _ in 0..TRIES {
            all.clear();
            let request = Request::new(self.family, true, &[NETDEV_CMD_DEV_GET, 1, 0, 0]);
            let answer = self.port.ask(&request, |_, body| all.extend(parse(body)))?;
            if !answer.interrupted {
                break;
            }
        }
        Ok(all)
    }

    /// Of one interface.
    pub fn one(&mut self, ifindex: u32) -> Result<XdpFeatures> {
        let request = Request::new(self.family, false, &[NETDEV_CMD_DEV_GET, 1, 0, 0])
            .with(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
        let mut found = None;
        self.port.ask(&request, |_, body| found = parse(body))?;
        found.ok_or(Errno(libc::EPROTO))
    }

    /// The queues that an interface uses now (Linux 6.8); none while it is down.
    pub fn queues(&mut self, ifindex: u32) -> Result<Vec<Queue>> {
        let mut queues = Vec::new();
        for _ in 0..TRIES {
            queues.clear();
            let request = Request::new(self.family, true, &[NETDEV_CMD_QUEUE_GET, 1, 0, 0])
                .with(NETDEV_A_QUEUE_IFINDEX, &ifindex.to_ne_bytes());
            let answer =
                self.port.ask(&request, |_, body| queues.extend(parse_queue(body, ifindex)))?;
            if !answer.interrupted {
                break;
            }
        }
        Ok(queues)
    }
}

fn parse_family(body: &[u8]) -> Option<u16> {
    attributes(body.get(4..)?)
        .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
        .and_then(|(_, value)| u16_at(value, 0))
}

fn parse(body: &[u8]) -> Option<XdpFeatures> {
    let mut found = XdpFeatures::default();
    let mut known = false;
    for (kind, value) in attributes(body.get(4..)?) {
        let number = || u64_at(value, 0).unwrap_or_default();
        match kind {
            NETDEV_A_DEV_IFINDEX => found.ifindex = u32_at(value, 0)?,
            NETDEV_A_DEV_XDP_FEATURES => {
                found.features = u64_at(value, 0)?;
                known = true;
            }
            NETDEV_A_DEV_XDP_RX_METADATA_FEATURES => found.rx_metadata = number(),
            NETDEV_A_DEV_XSK_FEATURES => found.xsk = number(),
            NETDEV_A_DEV_XDP_ZC_MAX_SEGS => {
                found.max_segments = u32_at(value, 0).unwrap_or_default();
            }
            _ => {}
        }
    }
    (known && found.ifindex != 0).then_some(found)
}

fn parse_queue(body: &[u8], wanted: u32) -> Option<Queue> {
    let (mut number, mut kind, mut ifindex, mut xsk) = (None, None, None, false);
    for (attribute, value) in attributes(body.get(4..)?) {
        match attribute {
            NETDEV_A_QUEUE_ID => number = u32_at(value, 0),
            NETDEV_A_QUEUE_IFINDEX => ifindex = u32_at(value, 0),
            NETDEV_A_QUEUE_TYPE => kind = u32_at(value, 0),
            NETDEV_A_QUEUE_XSK => xsk = true,
            _ => {}
        }
    }
    let transmit = match kind? {
        0 => false,
        1 => true,
        _ => return None,
    };
    (ifindex? == wanted).then_some(Queue { number: number?, transmit, xsk })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![1, 1, 0, 0];
        for (kind, value) in attributes {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
        }
        body
    }

    #[test]
    fn hostile_queues() {
        let number = |n: u32| n.to_ne_bytes();
        let one = |kind: u32| {
            message(&[
                (NETDEV_A_QUEUE_ID, &number(5)),
                (NETDEV_A_QUEUE_XSK, &[]),
                (NETDEV_A_QUEUE_IFINDEX, &number(3)),
                (NETDEV_A_QUEUE_TYPE, &number(kind)),
            ])
        };
        let queue = Queue { number: 5, transmit: true, xsk: true };
        assert_eq!(parse_queue(&one(1), 3), Some(queue));
        assert_eq!(parse_queue(&one(0), 3), Some(Queue { transmit: false, ..queue }));
        assert_eq!(parse_queue(&one(1), 4), None);
        assert_eq!(parse_queue(&one(2), 3), None);
        for end in 0..one(1).len() {
            assert_eq!(parse_queue(&one(1)[..end], 3), None, "{end}");
        }
    }

    #[test]
    fn hostile_features() {
        let body = message(&[
            (NETDEV_A_DEV_IFINDEX, &3_u32.to_ne_bytes()),
            (NETDEV_A_DEV_XDP_ZC_MAX_SEGS, &8_u32.to_ne_bytes()),
            (NETDEV_A_DEV_XDP_FEATURES, &0x6f_u64.to_ne_bytes()),
        ]);
        let good =
            XdpFeatures { ifindex: 3, features: 0x6f, max_segments: 8, ..Default::default() };
        assert_eq!(parse(&body), Some(good));
        for end in 0..body.len() {
            assert_eq!(parse(&body[..end]), None, "{end}");
        }
        assert_eq!(parse_family(&[1, 1, 0, 0, 5, 0, 1, 0, 9]), None);
        assert_eq!(parse_family(&[]), None);
    }
}
