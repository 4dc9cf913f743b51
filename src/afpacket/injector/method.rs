//! Which method suits a device. docs/benchmarks.md has the figures.
//!
//! A ring saves the copy of each frame, where the driver sends from the ring's pages:
//! a quarter of the time. Whatever gives packets to somebody on this machine (veth,
//! bridge) copies ring frames first (net/core/skbuff.c skb_orphan_frags),
//! page by page, and the ring is slower than sendmmsg. (tun copies, too, but the ring
//! is a little faster all the same.)
//!
//! lo does worse: drivers/net/loopback.c loopback_xmit orphans the packet before
//! anybody has received it, which gives the slot back (af_packet.c
//! tpacket_destruct_skb) while the packet still points into it. A frame that is
//! written there next changes the one that is on its way.
//!
//! A VLAN or a macvlan hands frames to the interface it is stacked on, as they are:
//! what suits that one.

use super::config::{InjectorConfig, Method, flags};
use crate::error::{Error, Kind, Result};
use crate::sys::ethtool::{DriverInfo, Ethtool};
use crate::sys::link::NAME;
use crate::sys::netlink::Netlink;
use crate::sys::packet::arphrd;
use crate::sys::socket::Socket;
use std::ffi::CString;

/// Drivers without hardware behind them for which the ring is faster.
const TAKE_FRAMES: [&[u8]; 2] = [b"ifb", b"tun"];
/// Drivers of hardware, or what looks like it, that may give slots back early
/// (drivers/net/virtio_net.c start_xmit orphans without napi_tx).
const ORPHAN: [&[u8]; 1] = [b"virtio_net"];
/// Drivers of what is stacked on another interface (net/8021q/vlan_dev.c,
/// drivers/net/macvlan.c, ipvlan).
const STACKED: [&[u8]; 3] = [b"802.1Q VLAN Support", b"macvlan", b"ipvlan"];
/// As many as the kernel lets be stacked (MAX_NEST_DEV).
const DEEPEST: usize = 8;
/// What virtual interfaces have for a bus.
const NO_BUS: [&[u8]; 4] = [b"", b"N/A", b"tap", b"tun"];

/// The method asked for, or the one that suits the interface of that name.
///
/// # Errors
/// `NotSupported`: a ring would change frames on their way.
pub(super) fn method(
    socket: &Socket,
    interface: &CString,
    config: &InjectorConfig,
    netlink: Option<&mut Netlink>,
) -> Result<Method> {
    let hardware = socket.interface_hardware(interface);
    if hardware == Ok(arphrd::LOOPBACK) {
        return match config.method {
            Some(Method::Ring) => Err(Error::new(
                Kind::NotSupported,
                "method",
                "NETRING_METHOD_TPACKET2 is not supported on loopback interfaces: the kernel gives \
                 slots back while their frames are still on their way; use NETRING_METHOD_SENDMMSG \
                 or NETRING_METHOD_AUTO",
            )),
            _ => Ok(Method::Messages),
        };
    }
    if let Some(method) = config.method {
        return Ok(method);
    }
    // Super-packets are copied for the most part in either way.
    let takes = !config.has(flags::VNET_HEADER) && takes_frames(socket, interface, netlink);
    Ok(if takes { Method::Ring } else { Method::Messages })
}

fn takes_frames(socket: &Socket, interface: &CString, netlink: Option<&mut Netlink>) -> bool {
    let Ok(ethtool) = Ethtool::through(socket.fd()) else { return false };
    let driver_info = |name: &[u8]| {
        let mut padded = [0; NAME];
        padded.iter_mut().take(NAME - 1).zip(name).for_each(|(to, from)| *to = *from);
        ethtool.driver_info(&padded)
    };
    let mut info = driver_info(interface.to_bytes());
    let mut ifindex = socket.interface_index(interface);
    if let Some(netlink) = netlink {
        for _ in 0..DEEPEST {
            if !info.is_ok_and(|info| STACKED.contains(&text(&info.driver))) {
                break;
            }
            ifindex = ifindex.and_then(|ifindex| netlink.lower(ifindex));
            let name = ifindex.and_then(|ifindex| socket.interface_name(ifindex));
            info = name.and_then(|name| driver_info(&name));
        }
    }
    info.is_ok_and(|info| is_suited(&info))
}

fn is_suited(info: &DriverInfo) -> bool {
    let driver = text(&info.driver);
    let is_hardware = !NO_BUS.contains(&text(&info.bus)) && !ORPHAN.contains(&driver);
    is_hardware || TAKE_FRAMES.contains(&driver)
}

fn text(bytes: &[u8; 32]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_for_what_takes_frames_as_they_are() {
        let info = |driver: &[u8], bus: &[u8]| {
            let mut info = DriverInfo { driver: [0; 32], bus: [0; 32] };
            info.driver[..driver.len()].copy_from_slice(driver);
            info.bus[..bus.len()].copy_from_slice(bus);
            info
        };
        assert!(is_suited(&info(b"ixgbe", b"0000:01:00.0")));
        assert!(is_suited(&info(b"ifb", b"")));
        assert!(is_suited(&info(b"tun", b"tap")));
        for (driver, bus) in [
            (&b"veth"[..], &b""[..]),
            (b"bridge", b"N/A"),
            (b"macvlan", b""),
            (b"virtio_net", b"0000:00:03.0"),
        ] {
            assert!(!is_suited(&info(driver, bus)), "{driver:?}");
        }
    }
}
