//! A program on an interface: in the driver or in the kernel's stack, and why not.
//! bpf(2) says only errno, so the rest of a reason is asked for.

use super::config::{Mode, Step};
use crate::error::{Error, Kind, Result};
use crate::filter::translate::Beside;
use crate::sys::Errno;
use crate::sys::bpf::{PRIVILEGE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, link_create};
use crate::sys::btf;
use crate::sys::ethtool::{ETH_FLAG_LRO, ETH_FLAG_RXVLAN, Ethtool};
use crate::sys::link::{Link, Links, NAME};
use crate::sys::netdev::Netdev;
use crate::sys::socket::any_socket;
use std::os::fd::{BorrowedFd, OwnedFd};

/// NETDEV_XDP_ACT_BASIC: the driver runs XDP programs.
const ACT_BASIC: u64 = 1 << 0;

// NETDEV_XDP_RX_METADATA_*
const RX_TIMESTAMP: u64 = 1 << 0;
const RX_HASH: u64 = 1 << 1;
const RX_VLAN_TAG: u64 = 1 << 2;

// XDP_ATTACHED_*
const ATTACHED_SKB: u8 = 2;
const ATTACHED_HW: u8 = 3;
const ATTACHED_MULTI: u8 = 4;

/// The interface, as the kernel and its driver describe it.
#[derive(Debug)]
pub struct Interface {
    name: String,
    index: u32,
    /// Of the interface's network namespace; `None`: there are no more descriptors.
    ethtool: Option<Ethtool>,
    /// As whose a program may be loaded that calls the driver.
    identity: Option<Identity>,
}

/// What the caller's network namespace has at an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    namespace: u64,
    /// `None`: there is no such interface, or its driver has no name.
    driver: Option<[u8; 32]>,
}

impl Identity {
    /// `None`: the kernel does not say.
    fn of(index: u32) -> Option<Self> {
        let namespace = any_socket().and_then(|socket| socket.namespace_cookie()).ok()?;
        let ethtool = Ethtool::open().ok()?;
        let driver = ethtool.name(index).and_then(|name| ethtool.driver(&name));
        Some(Self { namespace, driver: driver.ok() })
    }
}

impl Interface {
    /// Called in the interface's network namespace; `name` is for words.
    pub fn new(name: &str, index: u32) -> Self {
        let identity = Identity::of(index);
        Self { name: name.to_string(), index, ethtool: Ethtool::open().ok(), identity }
    }

    /// What the kernel says; `None`: it does not answer.
    fn link(&self) -> Result<Option<Link>> {
        match Links::open().and_then(|mut links| links.one(self.index)) {
            Ok(link) => Ok(Some(link)),
            Err(Errno(libc::ENODEV)) => Err(self.gone()),
            Err(_) => Ok(None),
        }
    }

    /// It does not exist, or does not any more.
    pub fn gone(&self) -> Error {
        let message = format!("interface not found: {} is gone", self.name);
        Error::new(Kind::InterfaceNotFound, "interface", message).with_os(libc::ENODEV)
    }

    /// The program that is on it: its number, and whether it runs in the driver.
    pub fn program(&self) -> Result<Option<(u32, bool)>> {
        let xdp = self.link()?.and_then(|link| link.xdp);
        let xdp = xdp.filter(|xdp| xdp.mode != 0);
        Ok(xdp.map(|xdp| (xdp.id, xdp.mode != ATTACHED_SKB)))
    }

    /// The driver's words, by the name that the interface has now.
    fn driver<T>(&self, ask: impl Fn(&Ethtool, &[u8; NAME]) -> crate::sys::Result<T>) -> Option<T> {
        let ethtool = self.ethtool.as_ref()?;
        let name = ethtool.name(self.index).ok()?;
        let answer = ask(ethtool, &name).ok()?;
        // Not those of another one that was given the name.
        (ethtool.index(&name) == Ok(self.index)).then_some(answer)
    }

    fn driver_name(&self) -> Option<String> {
        let name = self.driver(Ethtool::driver)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(name.get(..end)?).into_owned())
    }

    /// Whether VLAN tags are taken out of received frames before a program sees them.
    pub fn strips_tags(&self) -> bool {
        let on = self.driver(Ethtool::flags).is_some_and(|flags| flags & ETH_FLAG_RXVLAN != 0);
        // A veth always has it on and takes nothing out: frames come as the other end has
        // sent them.
        on && self.driver_name().as_deref() != Some("veth")
    }

    /// A filter that asks for tags is of no use then.
    pub fn tags_are_stripped(&self) -> Error {
        let name = &self.name;
        let message = format!(
            "filter refused: it asks for VLAN tags, and {name} takes them out of the frames before \
             an XDP program sees them: `ethtool -K {name} rxvlan off`"
        );
        Error::new(Kind::Filter, "filter", message)
    }

    /// What the driver tells of packets, and how to ask it; or why not.
    pub fn beside(&self) -> std::result::Result<Beside, (Option<i32>, String)> {
        let features = Netdev::open().and_then(|mut netdev| netdev.one(self.index));
        let told = features.map_or(0, |features| features.rx_metadata);
        let known = self.identity.is_some_and(|identity| identity.driver.is_some());
        if told & (RX_TIMESTAMP | RX_HASH | RX_VLAN_TAG) == 0 || !known {
            return Err((None, format!("the driver of {} tells none (Linux 6.6)", self.name)));
        }
        let found = btf::functions([
            "bpf_xdp_metadata_rx_timestamp",
            "bpf_xdp_metadata_rx_hash",
            "bpf_xdp_metadata_rx_vlan_tag",
        ]);
        let [time, hash, tag] = found.map_err(|errno| {
            (Some(errno.0), format!("the kernel does not describe itself: BTF: {errno}"))
        })?;
        let asked = |bit, number: Option<u32>| number.filter(|_| told & bit != 0).unwrap_or(0);
        Ok(Beside {
            ifindex: self.index,
            time: asked(RX_TIMESTAMP, time),
            hash: asked(RX_HASH, hash),
            tag: asked(RX_VLAN_TAG, tag),
        })
    }

    /// Whether a program that is loaded now for the interface's index would be for this
    /// one: the kernel looks the index up in the caller's network namespace, and
    /// BPF_LINK_UPDATE does not check what it found. The functions of one driver must not be
    /// called with the packets of another.
    pub fn is_here(&self) -> Result<()> {
        let now = Identity::of(self.index);
        if let (Some(then), Some(now)) = (self.identity, now) {
            if then.namespace == now.namespace {
                let same = then.driver.is_some() && then.driver == now.driver;
                return if same { Ok(()) } else { Err(self.gone()) };
            }
        }
        let message = format!(
            "{} is not in this network namespace: a filter with RX metadata is set in the one of \
             the open",
            self.name
        );
        Err(Error::config("interface", message))
    }

    /// Attaches, in the driver first; the steps down are added.
    ///
    /// # Errors
    /// `Busy`: there is a program, which is never replaced. `NotSupported` and
    /// `XdpProgram`: in no mode that was asked for. `PermissionDenied`,
    /// `InterfaceNotFound`.
    pub fn attach(
        &self,
        program: BorrowedFd<'_>,
        mode: Mode,
        frags: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(OwnedFd, bool)> {
        if mode != Mode::Skb {
            match self.link_create(program, XDP_FLAGS_DRV_MODE)? {
                Ok(link) => return Ok((link, true)),
                Err(errno) => {
                    let message = self.native_refused(errno, frags)?;
                    if mode != Mode::Auto {
                        let kind = match errno.0 {
                            libc::EOPNOTSUPP => Kind::NotSupported,
                            _ => Kind::XdpProgram,
                        };
                        return Err(Error::new(kind, "attach", message).with_os(errno.0));
                    }
                    let os = Some(errno.0);
                    steps.push(Step { mode: Mode::Copy, os, option: "attach", message });
                }
            }
        }
        let link = self.link_create(program, XDP_FLAGS_SKB_MODE)?.map_err(|errno| {
            let hint = match errno.0 {
                libc::EINVAL => "; links of XDP programs need Linux 5.9",
                _ => "",
            };
            let message = format!(
                "XDP program was refused: {} takes none in the kernel's stack: {errno}{hint}",
                self.name
            );
            Error::new(Kind::XdpProgram, "attach", message).with_os(errno.0)
        })?;
        Ok((link, false))
    }

    /// The inner error is this mode's alone.
    fn link_create(
        &self,
        program: BorrowedFd<'_>,
        flags: u32,
    ) -> Result<std::result::Result<OwnedFd, Errno>> {
        // Where the one that was in the way is gone by the time it is asked for.
        const TRIES: u32 = 3;
        let mut refused = Errno(libc::EBUSY);
        for _ in 0..TRIES {
            refused = match link_create(program, self.index, flags) {
                Ok(link) => return Ok(Ok(link)),
                Err(errno) => errno,
            };
            match refused.0 {
                libc::EPERM | libc::EACCES => return Err(not_permitted(refused)),
                libc::ENODEV => return Err(self.gone()),
                // Of the process or the machine: no other mode does with fewer.
                libc::EMFILE | libc::ENFILE => return Err(no_descriptor(refused)),
                libc::EBUSY | libc::EEXIST => {
                    if let Some(xdp) = self.link()?.and_then(|link| link.xdp) {
                        if xdp.mode != 0 {
                            return Err(self.busy(xdp.mode, xdp.id, refused));
                        }
                    }
                }
                // Among others where the interface does not exist.
                libc::EINVAL => return self.link().map(|_| Err(refused)),
                _ => return Ok(Err(refused)),
            }
        }
        if refused == Errno(libc::EEXIST) {
            let message = format!(
                "in use: an XDP program is on an interface above {} (a bond, bridge, VLAN or \
                 macvlan), and the kernel lets none be below it: open that one, or end whoever \
                 attached it (`bpftool net`)",
                self.name
            );
            return Err(Error::new(Kind::Busy, "program", message).with_os(refused.0));
        }
        Ok(Err(refused))
    }

    fn busy(&self, mode: u8, id: u32, errno: Errno) -> Error {
        let (words, off) = match mode {
            ATTACHED_SKB => ("in the kernel's stack", "xdpgeneric"),
            ATTACHED_HW => ("in the card", "xdpoffload"),
            ATTACHED_MULTI => ("one of several", "xdpdrv"),
            _ => ("in the driver", "xdpdrv"),
        };
        let name = &self.name;
        let message = format!(
            "in use: XDP program {id} ({words}) is on {name}, and is not replaced: end whoever \
             attached it (`bpftool link`, `bpftool net`), or, where no link holds it, `ip link set \
             dev {name} {off} off`, or have it redirect into an XSKMAP that is given as map_fd \
             (libxdp's dispatcher)"
        );
        Error::new(Kind::Busy, "program", message).with_os(errno.0)
    }

    /// Why there is no native mode.
    fn native_refused(&self, errno: Errno, frags: bool) -> Result<String> {
        let link = self.link()?;
        let driver = self.driver_name().map_or_else(String::new, |name| format!(" {name}"));
        let mtu = match link {
            // What comes is as large as the other end may send (veth_xdp_set).
            Some(link) if driver == " veth" => match peer(&link) {
                Some(peer) => format!("MTU {} of its peer", peer.mtu),
                None => "the MTU of its peer".to_string(),
            },
            Some(link) => format!("MTU {}", link.mtu),
            None => "MTU".to_string(),
        };
        let features = Netdev::open().and_then(|mut netdev| netdev.one(self.index));
        let has_none = features.is_ok_and(|features| features.features & ACT_BASIC == 0);
        let lro = self.driver(Ethtool::flags).is_some_and(|flags| flags & ETH_FLAG_LRO != 0);
        let name = &self.name;
        let because = match errno.0 {
            libc::ERANGE if frags => format!("{mtu} is too large: lower it"),
            libc::ERANGE => format!(
                "{mtu} is too large for one buffer: lower it, or take packets in several buffers \
                 (NETRING_XDP_MULTI_BUFFER)"
            ),
            libc::ENOSPC => format!(
                "too few queues (a veth needs as many for receiving as its peer for sending: \
                 `ethtool -L {name} rx N`)"
            ),
            libc::ENOTCONN => "it has no peer".to_string(),
            libc::EOPNOTSUPP if has_none => "it has none".to_string(),
            libc::EOPNOTSUPP | libc::EINVAL if lro => {
                format!("LRO is on: `ethtool -K {name} lro off`")
            }
            libc::EOPNOTSUPP | libc::EINVAL | libc::EBUSY => format!(
                "it has none, or not with {mtu}, these queues or offloads (`ethtool -K {name} lro \
                 off rx-gro-hw off`)"
            ),
            _ => "the driver failed".to_string(),
        };
        Ok(format!("driver{driver} refuses native XDP on {name}: {because} ({errno})"))
    }
}

/// The other end of a veth, if it is in this network namespace.
fn peer(link: &Link) -> Option<Link> {
    if link.lower_elsewhere {
        return None;
    }
    Links::open().and_then(|mut links| links.one(link.lower)).ok()
}

/// For lack of a capability.
pub fn not_permitted(errno: Errno) -> Error {
    let message =
        format!("insufficient privileges: attaching an XDP program: {errno}; {PRIVILEGE}");
    Error::new(Kind::PermissionDenied, "attach", message).with_os(errno.0)
}

/// Nothing that the driver or the program has to do with.
fn no_descriptor(errno: Errno) -> Error {
    let message = format!(
        "the XDP program was not attached: {errno}; close descriptors or raise `ulimit -n`"
    );
    Error::new(Kind::Io, "attach", message).with_os(errno.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let interface = Interface::new("eth0", 1);
        let stripped = interface.tags_are_stripped();
        assert_eq!(stripped.kind, Kind::Filter);
        assert_eq!(
            stripped.message,
            "filter refused: it asks for VLAN tags, and eth0 takes them out of the frames before \
             an XDP program sees them: `ethtool -K eth0 rxvlan off`"
        );
        // What the driver of lo might say, if it said something.
        for (errno, words) in [
            (libc::ERANGE, "MTU 65536 is too large"),
            (libc::ENOSPC, "ethtool -L eth0 rx N"),
            (libc::ENOTCONN, "no peer"),
            (libc::EOPNOTSUPP, "it has none"),
            (libc::EINVAL, "ethtool -K eth0 lro off"),
            (libc::EBUSY, "queues or offloads"),
            (libc::ENOMEM, "the driver failed"),
        ] {
            for frags in [false, true] {
                let message = interface.native_refused(Errno(errno), frags).unwrap();
                assert!(message.contains(words) && message.contains("native XDP"), "{message}");
                assert!(message.len() < 224 && !message.contains("  "), "{message}");
            }
        }
        let busy = interface.busy(ATTACHED_MULTI, 7, Errno(libc::EEXIST));
        assert_eq!((busy.kind, busy.os), (Kind::Busy, Some(libc::EEXIST)));
        assert!(busy.message.contains("7 (one of several)") && busy.message.len() < 512, "{busy}");
    }
}
