//! What a driver says of its interface: SIOCETHTOOL (linux/ethtool.h), as far
//! as it needs no privilege. By name: the interface may be another one by then,
//! so whoever asks compares [`index`](Ethtool::index) afterwards.

use super::link::NAME;
use super::{Errno, Result, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GRXCLSRLCNT: u32 = 0x2e;
const ETHTOOL_GRXFHINDIR: u32 = 0x38;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;

/// Words of what the kernel reads and writes for each; every request has room
/// for the longest, so that no kernel writes behind it.
const ROOM: usize = 256;

/// [`Ethtool::flags`]: tags are taken out of received frames.
pub const ETH_FLAG_RXVLAN: u32 = 1 << 8;
/// [`Ethtool::flags`]: received packets are put together by the card.
pub const ETH_FLAG_LRO: u32 = 1 << 15;

/// Most entries of an RSS table that are read.
const TABLE: u32 = 1 << 16;

/// SPEED_UNKNOWN.
const NO_SPEED: u32 = u32::MAX;
/// DUPLEX_UNKNOWN.
pub const NO_DUPLEX: u8 = 0xff;

/// Speed of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Megabits a second, 0: unknown.
    pub mbps: u32,
    /// 0 half, 1 full, 255 unknown.
    pub duplex: u8,
}

/// Queues in use; combined ones count in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Receive.
    pub rx: u32,
    /// Transmit.
    pub tx: u32,
}

/// What time stamps the interface can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamping {
    /// SOF_TIMESTAMPING_*.
    pub flags: u32,
    /// Number of its hardware clock, -1: none.
    pub clock: i32,
    /// A bit for each HWTSTAMP_TX_*.
    pub tx_types: u32,
    /// A bit for each HWTSTAMP_FILTER_*.
    pub rx_filters: u32,
}

/// What drives an interface: texts that end with a NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverInfo {
    /// The driver, or the kind of a virtual interface.
    pub driver: [u8; 32],
    /// The address on its bus, of hardware.
    pub bus: [u8; 32],
}

/// A socket to ask through.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens one in the caller's network namespace.
    pub fn open() -> Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Asks through a socket, in the network namespace of that.
    pub fn through(socket: BorrowedFd<'_>) -> Result<Self> {
        let fd = socket.try_clone_to_owned();
        fd.map(Self).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// The index of the interface that has this name now.
    pub fn index(&self, name: &[u8; NAME]) -> Result<u32> {
        let mut request = named(name);
        // SAFETY: a live ifreq.
        check(unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request)
        })?;
        // SAFETY: SIOCGIFINDEX has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// The name that the interface with this index has now.
    pub fn name(&self, index: u32) -> Result<[u8; NAME]> {
        let mut request = named(&[0; NAME]);
        request.ifr_ifru.ifru_ifindex = index as i32;
        // SAFETY: a live ifreq.
        check(unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFNAME as _, &raw mut request)
        })?;
        Ok(request.ifr_name.map(|letter| letter as u8))
    }

    fn ask(&self, name: &[u8; NAME], data: &mut [u32]) -> Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: a live ifreq; each caller has room for what its request writes.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })?;
        Ok(())
    }

    /// The driver's name.
    pub fn driver(&self, name: &[u8; NAME]) -> Result<[u8; 32]> {
        let driver = self.driver_info(name)?.driver;
        if driver[0] == 0 { Err(Errno(libc::EOPNOTSUPP)) } else { Ok(driver) }
    }

    /// What drives the interface, and where it is plugged in.
    pub fn driver_info(&self, name: &[u8; NAME]) -> Result<DriverInfo> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GDRVINFO;
        self.ask(name, &mut data)?;
        // struct ethtool_drvinfo: cmd, driver[32], version[32], fw_version[32],
        // bus_info[32], ...
        let text = |first: usize| {
            let mut text = [0; 32];
            for (to, word) in text.chunks_exact_mut(4).zip(&data[first..]) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            text[31] = 0;
            text
        };
        Ok(DriverInfo { driver: text(1), bus: text(25) })
    }

    /// Whether the driver has a carrier.
    pub fn has_link(&self, name: &[u8; NAME]) -> Result<bool> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GLINK;
        self.ask(name, &mut data)?;
        Ok(data[1] != 0)
    }

    /// Speed and duplex.
    pub fn speed(&self, name: &[u8; NAME]) -> Result<Speed> {
        // struct ethtool_link_settings: cmd, speed, duplex, port, phy, autoneg,
        // mdio, tp_mdix, ctrl, words of each bit mask (i8), ...
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GLINKSETTINGS;
        self.ask(name, &mut data)?;
        // The first answer says, negated, how many words the kernel's masks have.
        let words = (data[3].to_ne_bytes()[3] as i8).checked_neg().unwrap_or(0);
        if words <= 0 || 12 + 3 * words as usize > ROOM {
            return Err(Errno(libc::EPROTO));
        }
        data = [0; ROOM];
        data[0] = ETHTOOL_GLINKSETTINGS;
        data[3] = u32::from_ne_bytes([0, 0, 0, words as u8]);
        self.ask(name, &mut data)?;
        let mbps = if data[1] == NO_SPEED { 0 } else { data[1] };
        Ok(Speed { mbps, duplex: data[2].to_ne_bytes()[0] })
    }

    /// Queues in use.
    pub fn channels(&self, name: &[u8; NAME]) -> Result<Channels> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GCHANNELS;
        self.ask(name, &mut data)?;
        // struct ethtool_channels: cmd, largest rx, tx, other, combined; present
        // rx, tx, other, combined.
        let [rx, tx, combined] = [data[5], data[6], data[8]];
        Ok(Channels { rx: rx.saturating_add(combined), tx: tx.saturating_add(combined) })
    }

    /// Offloads that are on: ETH_FLAG_*.
    pub fn flags(&self, name: &[u8; NAME]) -> Result<u32> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GFLAGS;
        self.ask(name, &mut data)?;
        Ok(data[1])
    }

    /// Whether the kernel puts received segments together (GRO).
    pub fn gro(&self, name: &[u8; NAME]) -> Result<bool> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GGRO;
        self.ask(name, &mut data)?;
        Ok(data[1] != 0)
    }

    /// The RSS table: queues, as flows are spread over them.
    pub fn spread(&self, name: &[u8; NAME]) -> Result<Vec<u32>> {
        // struct ethtool_rxfh_indir: cmd, size, queues; size 0 asks for the size.
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GRXFHINDIR;
        self.ask(name, &mut data)?;
        let entries = data[1];
        if entries == 0 || entries > TABLE {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let mut table = vec![0; 2 + entries as usize];
        table[0] = ETHTOOL_GRXFHINDIR;
        table[1] = entries;
        self.ask(name, &mut table)?;
        table.drain(..2);
        Ok(table)
    }

    /// How many steering rules there are (`ethtool -n`).
    pub fn rules(&self, name: &[u8; NAME]) -> Result<u32> {
        // struct ethtool_rxnfc: cmd, flow_type, data, fs (168 bytes), rule_cnt
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GRXCLSRLCNT;
        self.ask(name, &mut data)?;
        Ok(data[46])
    }

    /// Time stamps.
    pub fn timestamping(&self, name: &[u8; NAME]) -> Result<Timestamping> {
        let mut data = [0; ROOM];
        data[0] = ETHTOOL_GET_TS_INFO;
        self.ask(name, &mut data)?;
        // struct ethtool_ts_info: cmd, so_timestamping, phc_index, tx_types,
        // 3 reserved, rx_filters, 3 reserved.
        Ok(Timestamping {
            flags: data[1],
            clock: data[2] as i32,
            tx_types: data[3],
            rx_filters: data[7],
        })
    }
}

fn named(name: &[u8; NAME]) -> libc::ifreq {
    // SAFETY: integers and bytes only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(NAME - 1).zip(name) {
        *to = *from as libc::c_char;
    }
    request
}
