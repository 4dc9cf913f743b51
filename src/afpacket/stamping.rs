//! Who stamps the packets: the kernel at the copy, the kernel when they come in,
//! or the network device.

use crate::afpacket::open::not_found;
use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::packet::{NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_SOFTWARE};
use crate::sys::Errno;
use crate::sys::ethtool::{Ethtool, Timestamping};
use crate::sys::hwtstamp::{
    FILTER_ALL, FILTER_NONE, FILTERS, HardwareStamping, SOF_RAW_HARDWARE, SOF_RX_HARDWARE,
    SOF_RX_SOFTWARE, SOF_SOFTWARE,
};
use crate::sys::link::NAME;
use crate::sys::packet::SOL_PACKET;
use crate::sys::socket::Socket;
use std::ffi::CString;

/// What a capture wants of the stamps, also of the next interface.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamping {
    clock: u32,
    switch_on: bool,
}

impl Stamping {
    /// As configured.
    pub fn of(config: &CaptureConfig) -> Self {
        Self { clock: config.clock, switch_on: config.has(flags::HARDWARE_STAMPING) }
    }

    /// Asks the kernel for it, long before the first packet: it is switched on in
    /// the background (net_enable_timestamp).
    ///
    /// # Errors
    /// `SockOpt`.
    pub fn ask(self, socket: &Socket) -> Result<()> {
        let (rx, source) = if self.clock == NETRING_CLOCK_SOFTWARE.into() {
            (Some(SOF_RX_SOFTWARE), SOF_SOFTWARE)
        } else if self.is_hardware() {
            (None, SOF_RAW_HARDWARE)
        } else {
            return Ok(());
        };
        if let Some(rx) = rx {
            set(socket, "SO_TIMESTAMPING", libc::SOL_SOCKET, libc::SO_TIMESTAMPING, rx)?;
        }
        // Older kernels leave even a software stamp alone without this.
        set(socket, "PACKET_TIMESTAMP", SOL_PACKET, libc::PACKET_TIMESTAMP, source)
    }

    fn is_hardware(self) -> bool {
        self.clock == NETRING_CLOCK_RAW_HARDWARE.into()
    }

    /// Whether the interface can do it; `None`: nothing of it is asked.
    ///
    /// # Errors
    /// `NotSupported` (the driver), `InterfaceNotFound`, `Io`.
    pub fn check(self, socket: &Socket, name: &CString) -> Result<Option<Able>> {
        if !self.is_hardware() {
            return Ok(None);
        }
        let mut padded = [0; NAME];
        for (to, from) in padded.iter_mut().take(NAME - 1).zip(name.to_bytes()) {
            *to = *from;
        }
        let failed = |errno: Errno| match errno.0 {
            libc::ENODEV | libc::ENXIO => not_found(name),
            number => {
                let shown = name.to_string_lossy();
                let message = format!("asking {shown} for its time stamps failed: {errno}");
                Error::new(Kind::Io, "ETHTOOL_GET_TS_INFO", message).with_os(number)
            }
        };
        let ethtool = Ethtool::through(socket.fd()).map_err(failed)?;
        let able = Able {
            driver: ethtool.driver(&padded).map_or_else(|_| String::new(), driver_name),
            can: match ethtool.timestamping(&padded) {
                Err(Errno(libc::EOPNOTSUPP)) => NO_STAMPS,
                answer => answer.map_err(failed)?,
            },
        };
        let all = able.can.rx_filters & 1 << FILTER_ALL != 0;
        if !able.in_hardware() || self.switch_on && !all {
            return Err(able.is_not_enough(name));
        }
        Ok(Some(able))
    }

    /// Makes the interface do it, where that was asked for: last, since it stays.
    ///
    /// # Errors
    /// `NotSupported` (the driver), `InterfaceNotFound`, `Io`.
    pub fn switch_on(self, socket: &Socket, name: &CString, able: Option<Able>) -> Result<()> {
        let Some(able) = able.filter(|_| self.switch_on) else { return Ok(()) };
        // What the device does with packets sent is somebody else's (a PTP daemon's).
        let before = socket.hardware_stamping(name).unwrap_or_default();
        if before.rx_filter == FILTER_ALL {
            return Ok(());
        }
        let shown = name.to_string_lossy();
        let all = HardwareStamping { rx_filter: FILTER_ALL, ..before };
        let granted = socket.set_hardware_stamping(name, all).map_err(|errno| {
            let (kind, remedy) = match errno.0 {
                libc::ENODEV => return not_found(name),
                libc::EPERM => (
                    Kind::Io,
                    format!(
                        "; it needs CAP_NET_ADMIN: let `hwstamp_ctl -i {shown} -r 1` be run by root, \
                         and leave NETRING_CAPTURE_HARDWARE_STAMPING out"
                    ),
                ),
                libc::EOPNOTSUPP | libc::ERANGE => {
                    (Kind::NotSupported, format!("; its driver{}", able.words()))
                }
                _ => (Kind::Io, String::new()),
            };
            let message = format!("having {shown} stamp every packet was refused: {errno}{remedy}");
            Error::new(kind, "SIOCSHWTSTAMP", message).with_os(errno.0)
        })?;
        if granted.rx_filter == FILTER_NONE {
            return Err(able.is_not_enough(name));
        }
        log::info!(
            "{shown} stamps received packets from now on, also after the capture; `hwstamp_ctl -i \
             {shown} -t {} -r {}` makes it as it was",
            before.tx_type,
            before.rx_filter
        );
        Ok(())
    }
}

/// A driver without an answer.
const NO_STAMPS: Timestamping = Timestamping { flags: 0, clock: -1, tx_types: 0, rx_filters: 0 };

/// What an interface's driver can stamp.
#[derive(Debug)]
pub struct Able {
    driver: String,
    can: Timestamping,
}

impl Able {
    fn in_hardware(&self) -> bool {
        self.can.flags & SOF_RX_HARDWARE != 0 && self.can.flags & SOF_RAW_HARDWARE != 0
    }

    fn is_not_enough(&self, name: &CString) -> Error {
        let shown = name.to_string_lossy();
        let remedy = if self.in_hardware() {
            "; choose with hwstamp_ctl, and leave NETRING_CAPTURE_HARDWARE_STAMPING out"
        } else {
            "; NETRING_CLOCK_SOFTWARE works with every driver"
        };
        Error::new(
            Kind::NotSupported,
            "clock",
            format!(
                "NETRING_CLOCK_RAW_HARDWARE is not supported by {shown}: its driver{}{remedy}",
                self.words()
            ),
        )
    }

    /// " (veth) stamps ..."
    fn words(&self) -> String {
        let driver =
            if self.driver.is_empty() { String::new() } else { format!(" ({})", self.driver) };
        let kinds: Vec<&str> = FILTERS
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.can.rx_filters >> bit & 1 != 0)
            .map(|(_, kind)| *kind)
            .collect();
        let what = match (self.in_hardware(), self.can.flags & SOF_RX_SOFTWARE != 0) {
            (true, _) => format!("stamps received packets in hardware: {}", kinds.join(", ")),
            (false, true) => "stamps received packets in software only".into(),
            (false, false) => "tells of no stamps of received packets".into(),
        };
        format!("{driver} {what}")
    }
}

fn driver_name(name: [u8; 32]) -> String {
    let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

fn set(socket: &Socket, step: &'static str, level: i32, name: i32, value: u32) -> Result<()> {
    socket.set(level, name, &value).map_err(|errno| {
        let message = format!("socket option {step} (value {value:#x}) was refused: {errno}");
        Error::new(Kind::SockOpt, step, message).with_os(errno.0)
    })
}
