//! The interfaces of the caller's network namespace, as the kernel and their
//! drivers describe them. Needs no privilege.

use crate::error::{Error, Kind, Result};
use crate::packet::link_type;
use crate::sys::Errno;
use crate::sys::ethtool::{Channels, Ethtool, NO_DUPLEX, Speed, Timestamping};
use crate::sys::link::{Link, Links, NAME};
use crate::sys::netdev::{Netdev, XdpFeatures};

/// An interface. What a kernel or a driver does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// What the kernel says.
    pub link: Link,
    /// LINKTYPE_ number of its packets.
    pub link_type: u16,
    /// The driver's name, NUL-terminated.
    pub driver: Option<[u8; 32]>,
    /// Speed and duplex.
    pub speed: Option<Speed>,
    /// Queues in use.
    pub channels: Option<Channels>,
    /// Time stamps.
    pub timestamping: Option<Timestamping>,
    /// What XDP can do.
    pub xdp: Option<XdpFeatures>,
}

/// An interface may be renamed while it is asked; not for ever.
const TRIES: u32 = 50;

struct Asker {
    links: Links,
    ethtool: Option<Ethtool>,
}

impl Asker {
    fn open() -> Result<Self> {
        let links = Links::open().map_err(refused)?;
        Ok(Self { links, ethtool: Ethtool::open().ok() })
    }

    /// All about a link; `None`: it is gone.
    fn complete(&mut self, link: Link, xdp: Option<XdpFeatures>) -> Result<Option<Interface>> {
        let mut link = link;
        for _ in 0..TRIES {
            let interface = Interface::of(link, xdp);
            let Some(ethtool) = &self.ethtool else { return Ok(Some(interface)) };
            match interface.with_driver(ethtool) {
                Ok(interface) => return Ok(Some(interface)),
                Err(index) => match self.links.one(index) {
                    Ok(again) => link = again,
                    Err(Errno(libc::ENODEV)) => return Ok(None),
                    Err(errno) => return Err(refused(errno)),
                },
            }
        }
        Ok(Some(Interface::of(link, xdp)))
    }
}

impl Interface {
    fn of(link: Link, xdp: Option<XdpFeatures>) -> Self {
        Self {
            link_type: link_type(link.hardware),
            link,
            driver: None,
            speed: None,
            channels: None,
            timestamping: None,
            xdp,
        }
    }

    /// Whether its driver has this name.
    pub fn is_driven_by(&self, name: &str) -> bool {
        let driver = self.driver.unwrap_or_default();
        driver.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    }

    /// Adds what the driver says. It is asked by name, and of whom that was has
    /// to be seen.
    ///
    /// # Errors
    /// The index: the interface does not have this name any more.
    fn with_driver(self, ethtool: &Ethtool) -> std::result::Result<Self, u32> {
        let index = self.link.index;
        let name = self.link.name;
        let driver = unless_gone(ethtool.driver(&name)).ok_or(index)?;
        let speed = unless_gone(ethtool.speed(&name)).ok_or(index)?;
        let channels = unless_gone(ethtool.channels(&name)).ok_or(index)?;
        let timestamping = unless_gone(ethtool.timestamping(&name)).ok_or(index)?;
        if ethtool.index(&name) != Ok(index) {
            return Err(index);
        }
        Ok(Self {
            driver,
            speed: speed.filter(|speed| speed.mbps != 0 || speed.duplex != NO_DUPLEX),
            channels: channels.filter(|channels| channels.rx != 0 || channels.tx != 0),
            timestamping,
            ..self
        })
    }
}

/// What a driver does not say is unknown. `None`: there is no such interface,
/// even if by now there is again.
fn unless_gone<T>(answer: crate::sys::Result<T>) -> Option<Option<T>> {
    match answer {
        Err(Errno(libc::ENODEV)) => None,
        answer => Some(answer.ok()),
    }
}

/// The first `most` interfaces by index, and how many there are.
///
/// # Errors
/// `Io`: netlink is refused.
pub fn list(most: usize) -> Result<(Vec<Interface>, usize)> {
    let mut asker = Asker::open()?;
    let links = asker.links.all().map_err(refused)?;
    let mut total = links.len();
    let mut found = Vec::with_capacity(most.min(total));
    if most == 0 {
        return Ok((found, total));
    }
    let features = Netdev::open().and_then(|mut netdev| netdev.all()).unwrap_or_default();
    for link in links {
        if found.len() == most {
            break;
        }
        let xdp = features.iter().find(|one| one.ifindex == link.index).copied();
        match asker.complete(link, xdp)? {
            Some(interface) => found.push(interface),
            None => total -= 1,
        }
    }
    Ok((found, total))
}

/// The interface of this name.
///
/// # Errors
/// `Config`: no name of an interface. `InterfaceNotFound`. `Io`: netlink is refused.
pub fn info(name: &[u8]) -> Result<Interface> {
    let mut padded = [0; NAME];
    let why = if name.is_empty() {
        Some("is empty")
    } else if name.len() >= NAME {
        Some("is longer than 15 bytes: use the interface's short name")
    } else {
        None
    };
    let shown = String::from_utf8_lossy(name);
    if let Some(why) = why {
        let shown: String = shown.chars().take(40).collect();
        return Err(Error::config("interface", format!("interface name {shown:?} {why}")));
    }
    for (to, from) in padded.iter_mut().zip(name) {
        *to = *from;
    }
    let gone = || {
        let hint = if name == b"any" {
            "\"any\" stands for all of them, and is none"
        } else {
            "`ip link show` lists those of this network namespace"
        };
        Error::new(
            Kind::InterfaceNotFound,
            "interface",
            format!("interface not found: {shown}; {hint}"),
        )
        .with_os(libc::ENODEV)
    };
    let index =
        Ethtool::open().and_then(|ethtool| ethtool.index(&padded)).map_err(
            |errno| match errno.0 {
                libc::ENODEV | libc::ENXIO => gone(),
                number => Error::new(
                    Kind::Io,
                    "SIOCGIFINDEX",
                    format!("looking up interface {shown} failed: {errno}{}", descriptors(errno)),
                )
                .with_os(number),
            },
        )?;
    let mut asker = Asker::open()?;
    let link = match asker.links.one(index) {
        Ok(link) => link,
        Err(Errno(libc::ENODEV)) => return Err(gone()),
        Err(errno) => return Err(refused(errno)),
    };
    let xdp = Netdev::open().and_then(|mut netdev| netdev.one(index)).ok();
    asker.complete(link, xdp)?.ok_or_else(gone)
}

fn refused(errno: Errno) -> Error {
    Error::new(
        Kind::Io,
        "netlink",
        format!("asking for the interfaces failed: netlink: {errno}{}", descriptors(errno)),
    )
    .with_os(errno.0)
}

fn descriptors(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EMFILE | libc::ENFILE => "; close descriptors or raise `ulimit -n`",
        libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT => {
            "; a confined program needs AF_NETLINK and AF_UNIX sockets"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_each_of_it_agree() {
        let (all, total) = list(usize::MAX).unwrap();
        assert_eq!(all.len(), total);
        let (none, number) = list(0).unwrap();
        assert!(none.is_empty() && number == total);
        let lo = info(b"lo").unwrap();
        assert_eq!(lo.link_type, 1);
        assert!(all.iter().any(|one| one.link.index == lo.link.index));
        assert_eq!(list(1).unwrap().0.len(), 1);
    }

    #[test]
    fn names() {
        assert_eq!(info(b"").unwrap_err().kind, Kind::Config);
        assert_eq!(info(&[b'x'; 16]).unwrap_err().kind, Kind::Config);
        let missing = info(b"nosuch0").unwrap_err();
        assert_eq!((missing.kind, missing.os), (Kind::InterfaceNotFound, Some(libc::ENODEV)));
        assert!(info(b"any").unwrap_err().message.contains("stands for all"));
    }
}
