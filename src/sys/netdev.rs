//! The generic netlink family "netdev" (Linux 6.3): what XDP can do on each
//! interface of the caller's network namespace.

use super::message::{Port, Request, attributes, u16_at, u32_at, u64_at};
use super::{Errno, Result};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_features() {
        let mut body = vec![1, 1, 0, 0];
        let mut add = |kind: u16, value: &[u8]| {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
        };
        add(NETDEV_A_DEV_IFINDEX, &3_u32.to_ne_bytes());
        add(NETDEV_A_DEV_XDP_ZC_MAX_SEGS, &8_u32.to_ne_bytes());
        add(NETDEV_A_DEV_XDP_FEATURES, &0x6f_u64.to_ne_bytes());
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
