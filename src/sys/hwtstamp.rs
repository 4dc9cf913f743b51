//! Time stamps: linux/net_tstamp.h.

use super::Result;
use super::socket::Socket;
use std::ffi::CStr;

/// SOF_TIMESTAMPING_RX_HARDWARE.
pub const SOF_RX_HARDWARE: u32 = 1 << 2;
/// SOF_TIMESTAMPING_RX_SOFTWARE.
pub const SOF_RX_SOFTWARE: u32 = 1 << 3;
/// SOF_TIMESTAMPING_SOFTWARE.
pub const SOF_SOFTWARE: u32 = 1 << 4;
/// SOF_TIMESTAMPING_RAW_HARDWARE.
pub const SOF_RAW_HARDWARE: u32 = 1 << 6;

/// HWTSTAMP_FILTER_NONE: no packet.
pub const FILTER_NONE: i32 = 0;
/// HWTSTAMP_FILTER_ALL: every packet.
pub const FILTER_ALL: i32 = 1;
/// HWTSTAMP_FILTER_*, as ethtool calls them.
pub const FILTERS: [&str; 16] = [
    "none",
    "all",
    "some",
    "ptpv1-l4-event",
    "ptpv1-l4-sync",
    "ptpv1-l4-delay-req",
    "ptpv2-l4-event",
    "ptpv2-l4-sync",
    "ptpv2-l4-delay-req",
    "ptpv2-l2-event",
    "ptpv2-l2-sync",
    "ptpv2-l2-delay-req",
    "ptpv2-event",
    "ptpv2-sync",
    "ptpv2-delay-req",
    "ntp-all",
];

/// struct hwtstamp_config.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct HardwareStamping {
    /// 0.
    pub flags: i32,
    /// HWTSTAMP_TX_*.
    pub tx_type: i32,
    /// HWTSTAMP_FILTER_*.
    pub rx_filter: i32,
}

const SIOCSHWTSTAMP: libc::c_ulong = 0x89b0;
const SIOCGHWTSTAMP: libc::c_ulong = 0x89b1;

impl Socket {
    /// What the device stamps; drivers need not tell.
    pub fn hardware_stamping(&self, name: &CStr) -> Result<HardwareStamping> {
        self.stamping_request(SIOCGHWTSTAMP, name, HardwareStamping::default())
    }

    /// Makes the device stamp; what it makes of that.
    pub fn set_hardware_stamping(
        &self,
        name: &CStr,
        wanted: HardwareStamping,
    ) -> Result<HardwareStamping> {
        self.stamping_request(SIOCSHWTSTAMP, name, wanted)
    }

    fn stamping_request(
        &self,
        what: libc::c_ulong,
        name: &CStr,
        value: HardwareStamping,
    ) -> Result<HardwareStamping> {
        let mut value = value;
        let mut request = super::socket::named(name.to_bytes())?;
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        self.interface_request(what, &mut request)?;
        Ok(value)
    }
}
