//! What a capture is asked for: defaults, profiles, validation, and the bound
//! on its memory that is checked before the kernel is asked for any.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::afpacket::record::frame;
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use crate::packet::{NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_SOFTWARE};
use crate::sys;
use crate::sys::affinity::MAX_CPUS;

/// A ring is never larger than this unless `memory_limit` says so.
pub const DEFAULT_MEMORY_LIMIT: u64 = 1 << 30;
/// Block timeout: the kernel's own choice.
pub const BLOCK_TIMEOUT_KERNEL: u32 = u32::MAX;
/// The kernel counts blocks in 16 bits (internal.h kactive_blk_num) and never
/// checks; a larger ring stops delivering at the wrap.
pub const MAX_BLOCK_COUNT: u32 = 65_535;
/// tp_block_size is an int to the kernel.
pub const MAX_BLOCK_SIZE: u32 = 1 << 30;
/// Longest explicit block timeout: the kernel's field is 16 bits before 6.18
/// (internal.h retire_blk_tov), and a wrapped value is a timer storm.
pub const MAX_BLOCK_TIMEOUT: u32 = 65_535;
/// SKB_MAX-like bound of the kernel for what a filter may return; a snap
/// length above every packet cuts nothing.
pub const MAX_SNAP_LENGTH: u32 = 0x7fff_ffff;
/// Most frames of a ring in immediate mode: the library keeps a note of each.
pub const MAX_FRAMES: u32 = 1 << 20;
/// Bytes of the largest packet that needs no special setting (BIG TCP does): an
/// MTU, or a super-packet, of 64 KiB.
const LARGEST_COMMON_PACKET: u32 = 1 << 16;
/// TPACKET_ALIGNMENT.
const FRAME_ALIGNMENT: u32 = 16;
/// Record header, link-layer address, 16 bytes of link-layer header: the
/// smallest frame size the kernel takes (af_packet.c packet_set_ring).
const MIN_FRAME_SIZE: u32 = 96;

/// What a capture does, one bit each.
pub mod flags {
    /// Ask the kernel for the flow hash of each packet.
    pub const RXHASH: u64 = 0x1;
    /// Promiscuous mode while open.
    pub const PROMISCUOUS: u64 = 0x2;
    /// All multicast while open.
    pub const ALL_MULTICAST: u64 = 0x4;
    /// PACKET_IGNORE_OUTGOING.
    pub const IGNORE_OUTGOING: u64 = 0x8;
    /// Keep outgoing packets of loopback devices.
    pub const KEEP_LOOPED: u64 = 0x10;
    /// MAP_LOCKED.
    pub const LOCK_MEMORY: u64 = 0x20;
    /// Never shrink the ring.
    pub const EXACT: u64 = 0x40;
    /// Usable in children forked later.
    pub const KEEP_ON_FORK: u64 = 0x80;
    /// A link that is down is an error.
    pub const DOWN_IS_ERROR: u64 = 0x100;
    /// The descriptor is readable for an event too.
    pub const EVENTS_ON_FD: u64 = 0x200;
    /// Each packet is handed over by itself, at once.
    pub const IMMEDIATE: u64 = 0x800;
    /// VLAN tags are put back into the bytes.
    pub const RESTORE_VLAN: u64 = 0x2000;
    /// PACKET_VNET_HDR.
    pub const VNET_HEADER: u64 = 0x4000;
    /// SIOCSHWTSTAMP.
    pub const HARDWARE_STAMPING: u64 = 0x8000;
    /// In another network namespace.
    pub const NETNS_FD: u64 = 0x1_0000;
    /// On a socket that was handed over.
    pub const SOCKET_FD: u64 = 0x2_0000;
    /// Only what this host sends.
    pub const IGNORE_INCOMING: u64 = 0x400;
    /// SO_LOCK_FILTER.
    pub const LOCK_FILTER: u64 = 0x1000;
    /// All that are known.
    pub const KNOWN: u64 = RXHASH
        | PROMISCUOUS
        | ALL_MULTICAST
        | IGNORE_OUTGOING
        | KEEP_LOOPED
        | LOCK_MEMORY
        | EXACT
        | KEEP_ON_FORK
        | DOWN_IS_ERROR
        | EVENTS_ON_FD
        | IMMEDIATE
        | RESTORE_VLAN
        | VNET_HEADER
        | HARDWARE_STAMPING
        | NETNS_FD
        | SOCKET_FD
        | IGNORE_INCOMING
        | LOCK_FILTER;
}

/// Values that belong together, for one kind of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For most uses.
    Default,
    /// For full links: a deep ring of large blocks.
    HighThroughput,
    /// Packets at once.
    LowLatency,
    /// A small ring.
    LowMemory,
    /// Super-packets and jumbo frames, several to a block.
    Jumbo,
}

/// What a capture is asked for.
#[derive(Debug, Clone)]
pub struct CaptureConfig {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of the ring.
    pub block_count: u32,
    /// Bytes of a frame; without `IMMEDIATE` the kernel validates it and uses it
    /// for nothing else.
    pub frame_size: u32,
    /// Bytes kept of each packet; 0: all.
    pub snap_length: u32,
    /// Milliseconds until a block that is not full is handed over.
    pub block_timeout: u32,
    /// Microseconds of busy polling; 0: off.
    pub busy_poll: u32,
    /// `flags`.
    pub flags: u64,
    /// Bytes the ring may take; 0: `DEFAULT_MEMORY_LIMIT`.
    pub memory_limit: u64,
    /// Which packets.
    pub filter: Option<Filter>,
    /// The CPU to move the calling thread to, on whose node the ring is; negative:
    /// none.
    pub cpu: i32,
    /// NETRING_CLOCK_*: who stamps the packets; 0: the kernel as it is.
    pub clock: u32,
    /// The network namespace, with `flags::NETNS_FD`.
    pub netns_fd: i32,
    /// The packet socket, with `flags::SOCKET_FD`.
    pub socket_fd: i32,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        let mut config = Self {
            block_size: 0,
            block_count: 0,
            frame_size: 0,
            snap_length: 0,
            block_timeout: 0,
            busy_poll: 0,
            flags: flags::RXHASH,
            memory_limit: 0,
            netns_fd: 0,
            socket_fd: 0,
            filter: None,
            cpu: -1,
            clock: 0,
        };
        config.apply(Profile::Default);
        config
    }
}

impl CaptureConfig {
    /// Writes a profile's values: geometry, block timeout, `IMMEDIATE`.
    pub fn apply(&mut self, profile: Profile) {
        const KIB: u32 = 1 << 10;
        const MIB: u32 = 1 << 20;
        let (block_size, block_count, frame_size, block_timeout) = match profile {
            Profile::Default => (MIB, 64, 2048, 60),
            Profile::HighThroughput => (2 * MIB, 64, 2048, 100),
            Profile::LowLatency => (MIB, 64, 2048, 1),
            Profile::LowMemory => (64 * KIB, 32, 2048, 60),
            Profile::Jumbo => (2 * MIB, 32, 65_536, 60),
        };
        self.block_size = block_size;
        self.block_count = block_count;
        self.frame_size = frame_size;
        self.block_timeout = block_timeout;
        self.flags &= !flags::IMMEDIATE;
        if profile == Profile::LowLatency {
            self.flags |= flags::IMMEDIATE;
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Checks every value that can be judged without the kernel. `any`: no
    /// single interface.
    ///
    /// # Errors
    /// `Kind::Config` naming the field, the value and the range.
    pub fn validate(&self, any: bool) -> Result<()> {
        range("block_size", self.block_size, 1, MAX_BLOCK_SIZE, "bytes")?;
        range("block_count", self.block_count, 1, MAX_BLOCK_COUNT, "blocks")?;
        range("frame_size", self.frame_size, MIN_FRAME_SIZE, self.granted_block_size(), "bytes")?;
        if self.frame_size % FRAME_ALIGNMENT != 0 {
            return Err(Error::config(
                "frame_size",
                format!("frame_size {} is not a multiple of {FRAME_ALIGNMENT}", self.frame_size),
            ));
        }
        range("snap_length", self.snap_length, 0, MAX_SNAP_LENGTH, "bytes (0: whole packets)")?;
        if self.block_timeout != BLOCK_TIMEOUT_KERNEL {
            range(
                "block_timeout",
                self.block_timeout,
                0,
                MAX_BLOCK_TIMEOUT,
                "milliseconds (0: only full blocks), or NETRING_BLOCK_TIMEOUT_KERNEL",
            )?;
        }
        range("busy_poll", self.busy_poll, 0, i32::MAX.unsigned_abs(), "microseconds (0: off)")?;
        if !(-1..MAX_CPUS as i32).contains(&self.cpu) {
            return Err(Error::config(
                "cpu",
                format!("cpu {} is out of range: -1 (none) to {}", self.cpu, MAX_CPUS - 1),
            ));
        }
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        self.validate_descriptors()?;
        if self.has(flags::IGNORE_OUTGOING) && self.has(flags::IGNORE_INCOMING) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_IGNORE_OUTGOING and NETRING_CAPTURE_IGNORE_INCOMING leave nothing \
                 to capture: set at most one of them",
            ));
        }
        if any && self.has(flags::PROMISCUOUS | flags::ALL_MULTICAST) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_PROMISCUOUS and NETRING_CAPTURE_ALL_MULTICAST need one \
                 interface, not \"any\": open a capture for each, or set them with ip link",
            ));
        }
        if any && self.has(flags::DOWN_IS_ERROR | flags::EVENTS_ON_FD) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_DOWN_IS_ERROR and NETRING_CAPTURE_EVENTS_ON_FD need one \
                 interface: \"any\" has no link events",
            ));
        }
        self.validate_clock(any)?;
        if self.has(flags::IMMEDIATE) && self.has(flags::VNET_HEADER) {
            // af_packet.c tpacket_rcv marks the slot (rx_owner_map) before it makes the
            // header, and leaves the mark where it cannot: the ring is stuck there.
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_VNET_HEADER does not go with NETRING_CAPTURE_IMMEDIATE: one \
                 packet without such a header would end the ring's intake for good; use a short \
                 block_timeout instead",
            ));
        }
        let frames = self.frame_count();
        if self.has(flags::IMMEDIATE) && frames.is_none_or(|frames| frames > MAX_FRAMES) {
            return Err(Error::config(
                "frame_size",
                format!(
                    "frame_size {} makes more than {MAX_FRAMES} frames of {} blocks of {} bytes, \
                     the most in immediate mode: use a larger frame_size or a smaller ring",
                    self.frame_size, self.block_count, self.block_size
                ),
            ));
        }
        if frames.is_none() {
            return Err(Error::config(
                "frame_size",
                format!(
                    "frame_size {} makes more than 2^32 frames of {} blocks of {} bytes: use a \
                     larger frame_size or a smaller ring",
                    self.frame_size, self.block_count, self.block_size
                ),
            ));
        }
        Ok(())
    }

    fn validate_clock(&self, any: bool) -> Result<()> {
        let hardware = self.clock == NETRING_CLOCK_RAW_HARDWARE.into();
        let known = [0, NETRING_CLOCK_SOFTWARE.into(), NETRING_CLOCK_RAW_HARDWARE.into()];
        if !known.contains(&self.clock) {
            return Err(Error::config(
                "clock",
                format!(
                    "clock {} cannot be asked for: 0 (what the kernel gives of itself), \
                     NETRING_CLOCK_SOFTWARE or NETRING_CLOCK_RAW_HARDWARE",
                    self.clock
                ),
            ));
        }
        if hardware && any {
            return Err(Error::config(
                "clock",
                "NETRING_CLOCK_RAW_HARDWARE needs one interface, not \"any\": each device has a \
                 clock of its own; open a capture for each",
            ));
        }
        if !hardware && self.has(flags::HARDWARE_STAMPING) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_HARDWARE_STAMPING goes with clock NETRING_CLOCK_RAW_HARDWARE",
            ));
        }
        Ok(())
    }

    /// A descriptor goes with its flag: without it, it would be forgotten
    /// silently.
    fn validate_descriptors(&self) -> Result<()> {
        for (field, fd, flag, name) in [
            ("netns_fd", self.netns_fd, flags::NETNS_FD, "NETRING_CAPTURE_NETNS_FD"),
            ("socket_fd", self.socket_fd, flags::SOCKET_FD, "NETRING_CAPTURE_SOCKET_FD"),
        ] {
            if self.has(flag) && fd < 0 {
                return Err(Error::config(field, format!("{field} {fd} is no descriptor")));
            }
            if !self.has(flag) && fd > 0 {
                return Err(Error::config(
                    field,
                    format!("{field} {fd} is given without {name} in flags"),
                ));
            }
        }
        if self.has(flags::NETNS_FD) && self.has(flags::SOCKET_FD) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_NETNS_FD and NETRING_CAPTURE_SOCKET_FD exclude each other: a \
                 socket belongs to the network namespace it was made in",
            ));
        }
        Ok(())
    }

    /// The block size the kernel will take: whole pages.
    pub fn granted_block_size(&self) -> u32 {
        let page = u32::try_from(sys::process::page_size()).unwrap_or(4096);
        self.block_size.checked_next_multiple_of(page).unwrap_or(MAX_BLOCK_SIZE)
    }

    /// Bytes of a frame. In immediate mode it holds one packet: the snap length, or
    /// the largest packet that interfaces of common settings have, as far as a
    /// block goes.
    pub fn granted_frame_size(&self) -> u32 {
        if !self.has(flags::IMMEDIATE) {
            return self.frame_size;
        }
        let keep = match self.snap_length {
            0 => LARGEST_COMMON_PACKET,
            snap_length => snap_length.min(LARGEST_COMMON_PACKET),
        };
        let whole = keep.saturating_add(frame::HEADROOM).next_multiple_of(FRAME_ALIGNMENT);
        self.frame_size.max(whole).min(self.granted_block_size())
    }

    /// Frames of the ring, if they fit the kernel's 32 bits.
    pub fn frame_count(&self) -> Option<u32> {
        self.granted_block_size()
            .checked_div(self.granted_frame_size())?
            .checked_mul(self.block_count)
    }
}

pub(crate) fn range(
    field: &'static str,
    value: u32,
    least: u32,
    most: u32,
    unit: &str,
) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::config(field, format!("{field} {value} is out of range: {least} to {most} {unit}")))
}

/// Why a ring is smaller than asked for, or may not be larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `memory_limit`, or its default.
    Limit,
    /// Half of the machine's available memory.
    MemAvailable,
    /// The room of the control group.
    Cgroup,
    /// The kernel answered ENOMEM.
    NoMemory,
}

impl Bound {
    /// The bit of `netring_capture_info.shrunk_by`.
    pub fn bit(self) -> u32 {
        match self {
            Self::Limit => 0x1,
            Self::MemAvailable => 0x2,
            Self::Cgroup => 0x4,
            Self::NoMemory => 0x8,
        }
    }

    /// The name of the bound as an error's option.
    pub fn option(self) -> &'static str {
        match self {
            Self::Limit => "memory_limit",
            Self::MemAvailable => "MemAvailable",
            Self::Cgroup => "cgroup",
            Self::NoMemory => "PACKET_RX_RING",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Limit => "memory_limit",
            Self::MemAvailable => "half of the machine's available memory",
            Self::Cgroup => "the room left in the control group",
            Self::NoMemory => "what the kernel could allocate",
        }
    }

    /// `fewer`: what else to do.
    pub(crate) fn remedy(self, fewer: &str) -> String {
        match self {
            Self::Limit => format!("raise memory_limit, or {fewer}"),
            Self::MemAvailable => format!("free memory, or {fewer}"),
            Self::Cgroup => format!("raise the group's memory limit, or {fewer}"),
            Self::NoMemory => fewer.to_string(),
        }
    }
}

/// The most a ring may take, and why.
#[derive(Debug, Clone, Copy)]
pub struct MemoryBound {
    /// Bytes.
    pub bytes: u64,
    /// Which of the bounds it is.
    pub bound: Bound,
}

impl MemoryBound {
    /// min(`memory_limit` or 1 GiB, half of MemAvailable, the cgroup's room).
    /// A ring larger than free memory makes the kernel kill other processes
    /// before it answers ENOMEM (af_packet.c alloc_one_pg_vec_page falls back to
    /// a vzalloc that invokes the OOM killer), so the kernel is never asked.
    pub fn now(memory_limit: u64) -> Self {
        let limit = if memory_limit == 0 { DEFAULT_MEMORY_LIMIT } else { memory_limit };
        let half = sys::memory::available().map(|bytes| bytes >> 1);
        Self::least(limit, half, sys::memory::cgroup_room())
    }

    fn least(limit: u64, half_available: Option<u64>, cgroup_room: Option<u64>) -> Self {
        let mut least = Self { bytes: limit, bound: Bound::Limit };
        for (bytes, bound) in [(half_available, Bound::MemAvailable), (cgroup_room, Bound::Cgroup)]
        {
            match bytes {
                Some(bytes) if bytes < least.bytes => least = Self { bytes, bound },
                _ => {}
            }
        }
        least
    }
}

/// The geometry of a ring that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block, whole pages.
    pub block_size: u32,
    /// Blocks.
    pub block_count: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// The frames are what the kernel hands over, one by one.
    pub frames: bool,
    /// Why there are fewer blocks than asked for.
    pub shrunk_by: Option<Bound>,
}

impl Geometry {
    /// Bytes the kernel will allocate: it takes each block as a power of two
    /// of pages (af_packet.c packet_set_ring, get_order).
    pub fn memory(&self) -> u64 {
        u64::from(self.block_size).next_power_of_two().saturating_mul(u64::from(self.block_count))
    }

    /// Bytes of the mapping.
    pub fn length(&self) -> u64 {
        u64::from(self.block_size).saturating_mul(u64::from(self.block_count))
    }

    /// Frames, as the kernel wants them told.
    pub fn frame_count(&self) -> u32 {
        self.block_size.checked_div(self.frame_size).unwrap_or(0).saturating_mul(self.block_count)
    }

    /// What `config` asks for, shrunk to `bound` where it must be and may be:
    /// down to a quarter of the blocks.
    ///
    /// # Errors
    /// `Kind::Mmap` with ENOMEM, naming the bound: a quarter does not fit
    /// either, or the configuration says exact.
    pub fn fitting(config: &CaptureConfig, bound: MemoryBound) -> Result<Self> {
        let asked = Self {
            block_size: config.granted_block_size(),
            block_count: config.block_count,
            frame_size: config.granted_frame_size(),
            frames: config.has(flags::IMMEDIATE),
            shrunk_by: None,
        };
        if asked.memory() <= bound.bytes {
            return Ok(asked);
        }
        let block = u64::from(asked.block_size).next_power_of_two();
        let room = bound.bytes.checked_div(block).unwrap_or(0);
        let count = u32::try_from(room).unwrap_or(u32::MAX).min(asked.block_count);
        if config.has(flags::EXACT) || count < least_block_count(config) {
            return Err(asked.refused(bound, config.has(flags::EXACT)));
        }
        Ok(Self { block_count: count, shrunk_by: Some(bound.bound), ..asked })
    }

    /// The one more try after a real ENOMEM: a quarter of what was asked for.
    /// `None` where there is nothing smaller to try, or it is forbidden.
    pub fn after_enomem(&self, config: &CaptureConfig) -> Option<Self> {
        let block_count = least_block_count(config);
        let smaller = block_count < self.block_count && !config.has(flags::EXACT);
        smaller.then_some(Self { block_count, shrunk_by: Some(Bound::NoMemory), ..*self })
    }

    fn refused(&self, bound: MemoryBound, exact: bool) -> Error {
        let why = if exact {
            "and NETRING_CAPTURE_EXACT forbids to shrink it"
        } else {
            "and so is a quarter of it"
        };
        Error::new(
            Kind::Mmap,
            bound.bound.option(),
            format!(
                "ring memory refused: {} blocks of {} bytes take {} bytes, more than {} ({} \
                 bytes), {why}; {}. The kernel was not asked: a ring larger than free memory \
                 makes it kill other processes",
                self.block_count,
                self.block_size,
                self.memory(),
                bound.bound.words(),
                bound.bytes,
                bound.bound.remedy("reduce block_count or block_size"),
            ),
        )
        .with_os(libc::ENOMEM)
    }
}

/// No ring gets smaller than a quarter of what was asked for.
fn least_block_count(config: &CaptureConfig) -> u32 {
    config.block_count.div_ceil(4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(bytes: u64) -> MemoryBound {
        MemoryBound { bytes, bound: Bound::Limit }
    }

    #[test]
    fn the_defaults_are_valid() {
        for profile in [
            Profile::Default,
            Profile::HighThroughput,
            Profile::LowLatency,
            Profile::LowMemory,
            Profile::Jumbo,
        ] {
            let mut config = CaptureConfig::default();
            config.apply(profile);
            config.validate(false).unwrap();
            config.validate(true).unwrap();
            let geometry = Geometry::fitting(&config, bound(256 << 20)).unwrap();
            assert_eq!(geometry.shrunk_by, None);
        }
    }

    #[test]
    fn each_bad_value_names_its_field_and_range() {
        type Spoil = fn(&mut CaptureConfig);
        let cases: [(&str, &str, Spoil); 15] = [
            ("block_size", "1 to 1073741824", |c| c.block_size = 0),
            ("block_size", "1 to 1073741824", |c| c.block_size = u32::MAX),
            ("block_count", "1 to 65535", |c| c.block_count = 0),
            ("block_count", "1 to 65535", |c| c.block_count = 65_536),
            ("frame_size", "96 to 1048576", |c| c.frame_size = 0),
            ("frame_size", "96 to 1048576", |c| c.frame_size = 2 << 20),
            ("frame_size", "multiple of 16", |c| c.frame_size = 2049),
            ("snap_length", "0 to 2147483647", |c| c.snap_length = u32::MAX),
            ("block_timeout", "0 to 65535", |c| c.block_timeout = 65_536),
            ("busy_poll", "0 to 2147483647", |c| c.busy_poll = u32::MAX),
            ("clock", "clock 2 cannot", |c| c.clock = 2),
            ("clock", "clock 4 cannot", |c| c.clock = 4),
            ("flags", "NETRING_CAPTURE_IMMEDIATE", |c| {
                c.flags |= flags::IMMEDIATE | flags::VNET_HEADER;
            }),
            ("flags", "goes with clock", |c| c.flags |= flags::HARDWARE_STAMPING),
            ("flags", "0x8000080000000000", |c| c.flags |= 0x8000_0800_0000_0000),
        ];
        for (field, words, spoil) in cases {
            let mut config = CaptureConfig::default();
            spoil(&mut config);
            let error = config.validate(false).unwrap_err();
            assert_eq!(error.kind, Kind::Config);
            assert_eq!(error.option, field);
            assert!(error.message.contains(words), "{}", error.message);
        }
    }

    #[test]
    fn memory_is_bounded_and_shrunk_to_a_quarter_at_most() {
        let config = CaptureConfig::default();
        let whole = Geometry::fitting(&config, bound(64 << 20)).unwrap();
        assert_eq!((whole.block_count, whole.shrunk_by), (64, None));
        let half = Geometry::fitting(&config, bound((32 << 20) + 5)).unwrap();
        assert_eq!((half.block_count, half.shrunk_by), (32, Some(Bound::Limit)));
        let quarter = Geometry::fitting(&config, bound(16 << 20)).unwrap();
        assert_eq!(quarter.block_count, 16);
        let error = Geometry::fitting(&config, bound((16 << 20) - 1)).unwrap_err();
        assert_eq!((error.kind, error.os), (Kind::Mmap, Some(libc::ENOMEM)));
        assert_eq!(error.option, "memory_limit");
        let exact = CaptureConfig { flags: flags::EXACT, ..config };
        assert!(Geometry::fitting(&exact, bound(32 << 20)).is_err());
    }

    #[test]
    fn enomem_never_goes_below_a_quarter_of_what_was_asked_for() {
        let config = CaptureConfig::default();
        let retry = |bytes: u64, config: &CaptureConfig| {
            let geometry = Geometry::fitting(config, bound(bytes)).unwrap();
            geometry.after_enomem(config).map(|smaller| smaller.block_count)
        };
        assert_eq!(retry(64 << 20, &config), Some(16));
        // The bound has shrunk it already: still a quarter of the 64 asked for.
        assert_eq!(retry(32 << 20, &config), Some(16));
        assert_eq!(retry(16 << 20, &config), None);
        let one = CaptureConfig { block_count: 1, ..config.clone() };
        assert_eq!(retry(64 << 20, &one), None);
        let exact = CaptureConfig { flags: flags::EXACT, ..config };
        assert_eq!(retry(64 << 20, &exact), None);
    }

    #[test]
    fn memory_arithmetic_does_not_wrap() {
        let config = CaptureConfig {
            block_size: MAX_BLOCK_SIZE,
            block_count: MAX_BLOCK_COUNT,
            frame_size: 1 << 20,
            ..CaptureConfig::default()
        };
        config.validate(false).unwrap();
        let error = Geometry::fitting(&config, bound(1 << 30)).unwrap_err();
        assert!(error.message.contains("70367670435840 bytes"), "{}", error.message);
        let odd = Geometry {
            block_size: 5 << 12,
            block_count: 3,
            frame_size: 2048,
            frames: false,
            shrunk_by: None,
        };
        assert_eq!((odd.memory(), odd.length()), (3 * (8 << 12), 3 * (5 << 12)));
    }

    #[test]
    fn the_least_bound_decides() {
        let least = MemoryBound::least(100, Some(50), Some(70));
        assert_eq!((least.bytes, least.bound), (50, Bound::MemAvailable));
        let least = MemoryBound::least(100, Some(150), Some(70));
        assert_eq!((least.bytes, least.bound), (70, Bound::Cgroup));
        let least = MemoryBound::least(100, None, None);
        assert_eq!((least.bytes, least.bound), (100, Bound::Limit));
    }
}
