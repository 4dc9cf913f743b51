//! What is known of an interface that AF_XDP sockets are for, before there are any.
//! Needs no privilege and changes nothing.

use crate::error::{Error, Kind, Result};
use crate::interface::{self, Interface};
use crate::sys::Errno;
use crate::sys::ethtool::{ETH_FLAG_LRO, ETH_FLAG_RXVLAN, Ethtool};
use crate::sys::netdev::Netdev;
use crate::sys::process::kernel_version;
use crate::sys::sysfs;

/// From here on the kernel tells which queues have a socket.
const TELLS_SOCKETS: u32 = 0x06_0f_00;

/// An interface may be renamed while it is asked; not for ever.
const TRIES: u32 = 50;

/// An interface. What a kernel or a driver does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What is known of every interface.
    pub interface: Interface,
    /// Its queues.
    pub queues: Queues,
    /// The queues that have an AF_XDP socket, in order (Linux 6.15; while it is up).
    pub taken: Option<Vec<u32>>,
    /// The queues that RSS spreads over, in order.
    pub spread: Option<Vec<u32>>,
    /// How many steering rules there are.
    pub rules: Option<u32>,
    /// VLAN tags are taken out of received frames.
    pub strips_tags: Option<bool>,
    /// The card puts received segments together.
    pub lro: Option<bool>,
    /// The kernel does.
    pub gro: Option<bool>,
}

/// How many queues there are. An AF_XDP socket can be bound to the numbers below
/// the larger one of both counts in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// That receive now.
    pub rx: u32,
    /// That send now.
    pub tx: u32,
    /// Most that can receive, with other settings.
    pub rx_max: u32,
    /// Most that can send.
    pub tx_max: u32,
    /// Those in use are the kernel's or the driver's word. Otherwise they are what the
    /// interface was made with, which can be more than it uses.
    pub told: bool,
}

impl Queues {
    /// Queues that a socket can be bound to.
    pub fn bindable(&self) -> u32 {
        self.rx.max(self.tx)
    }

    /// Entries that a map needs for every queue that there may ever be.
    pub fn most(&self) -> u32 {
        self.rx_max.max(self.tx_max).max(self.bindable())
    }
}

/// The facts about an interface of the calling thread's network namespace.
///
/// # Errors
/// As [`interface::info`].
pub fn facts(name: &[u8]) -> Result<Facts> {
    let mut wanted = name.to_vec();
    for _ in 0..TRIES {
        let interface = interface::info(&wanted)?;
        if let Some(facts) = of(&interface) {
            return Ok(facts);
        }
        // Asked by name, it was another one: it has a new name, or is gone.
        wanted.clear();
        let index = interface.link.index;
        let name = Ethtool::open().and_then(|ethtool| ethtool.name(index));
        let name = name.map_err(|errno| gone(&interface, errno))?;
        wanted.extend(name.iter().take_while(|byte| **byte != 0));
    }
    Err(Error::new(Kind::Io, "interface", "the interface is renamed faster than it can be asked"))
}

fn gone(interface: &Interface, errno: Errno) -> Error {
    let name = interface.link.name;
    let shown = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default());
    Error::new(
        Kind::InterfaceNotFound,
        "interface",
        format!("interface not found: {shown} is gone: {errno}"),
    )
    .with_os(libc::ENODEV)
}

/// `None`: the interface does not have its name any more.
fn of(interface: &Interface) -> Option<Facts> {
    let name = &interface.link.name;
    let used = in_use(interface);
    let ethtool = Ethtool::open().ok();
    let ask = ethtool.as_ref();
    let spread = ask.and_then(|ask| ask.spread(name).ok());
    let rules = ask.and_then(|ask| ask.rules(name).ok());
    let flags = ask.and_then(|ask| ask.flags(name).ok());
    let gro = ask.and_then(|ask| ask.gro(name).ok());
    if ask.is_some_and(|ask| ask.index(name) != Ok(interface.link.index)) {
        return None;
    }
    // A veth always has the flag on and takes nothing out: frames come as its peer has
    // sent them.
    let strips = |flags: u32| flags & ETH_FLAG_RXVLAN != 0 && !interface.is_driven_by("veth");
    Some(Facts {
        queues: used.0,
        taken: used.1,
        spread: spread.map(|table| distinct(table.into_iter())),
        rules,
        strips_tags: flags.map(strips),
        lro: flags.map(|flags| flags & ETH_FLAG_LRO != 0),
        gro,
        interface: interface.clone(),
    })
}

/// The queues, and which of them have sockets.
fn in_use(interface: &Interface) -> (Queues, Option<Vec<u32>>) {
    let link = &interface.link;
    let queues = Netdev::open().and_then(|mut netdev| netdev.queues(link.index));
    let queues = queues.unwrap_or_default();
    let count = |transmit: bool| {
        queues.iter().filter(|queue| queue.transmit == transmit).count().min(u16::MAX.into()) as u32
    };
    let counted = if queues.is_empty() { None } else { Some((count(false), count(true))) };
    let told = counted
        .or_else(|| interface.channels.map(|channels| (channels.rx, channels.tx)))
        .or_else(|| sysfs::queues(link));
    let (rx, tx) = told.unwrap_or((link.rx_queues, link.tx_queues));
    let sockets = queues.iter().filter(|queue| queue.xsk).map(|queue| queue.number);
    let taken = (kernel_version() >= TELLS_SOCKETS && counted.is_some()).then(|| distinct(sockets));
    let (rx_max, tx_max) = (link.rx_queues.max(rx), link.tx_queues.max(tx));
    (Queues { rx, tx, rx_max, tx_max, told: told.is_some() }, taken)
}

fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo() {
        let lo = facts(b"lo").unwrap();
        assert!(lo.interface.link.name.starts_with(b"lo\0"));
        assert_eq!((lo.queues.rx, lo.queues.tx, lo.queues.most()), (1, 1, 1));
        assert_eq!((lo.spread, lo.rules), (None, None));
        assert_eq!(facts(b"nosuch0").unwrap_err().kind, Kind::InterfaceNotFound);
        assert_eq!(distinct([3, 1, 3, 0].into_iter()), [0, 1, 3]);
    }
}
