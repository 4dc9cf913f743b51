//! What an injector is asked for: defaults, validation, the geometry of its slots,
//! and the bound on their memory.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use crate::config::{Bound, MemoryBound, range};
use crate::error::{Error, Kind, Result};
use crate::sys;

/// Largest slot: a super-packet of 64 KiB and every header fit twice.
pub const MAX_SLOT_SIZE: u32 = 1 << 17;
/// Most slots.
pub const MAX_SLOT_COUNT: u32 = 1 << 16;
/// An Ethernet header.
pub const ETHERNET_HEADER: u32 = 14;
/// A VLAN tag in the frame.
pub const VLAN_TAG: u32 = 4;
/// Default slots: as many.
const SLOT_COUNT: u32 = 1024;
/// Default slots where each is larger than `LARGE_SLOT`.
const FEW_SLOTS: u32 = 256;
const LARGE_SLOT: u32 = 16 << 10;
/// Default slots hold frames of interfaces with an MTU up to that.
const JUMBO_MTU: u32 = 9216;
/// A super-packet and its headers.
const SUPER_PACKET: u32 = (64 << 10) + 64;
/// Where the frame lies in a slot of a TPACKET_V2 ring: TPACKET2_HDRLEN less
/// struct sockaddr_ll (af_packet.c tpacket_parse_header).
pub const RING_HEADER: u32 = 32;
/// struct virtio_net_hdr.
pub const VNET_HEADER: u32 = 10;
/// What it takes of a slot in plain memory, so that the frame is aligned.
pub const VNET_ROOM: u32 = 16;
/// Where slots in plain memory begin. Frames at the beginning of a page slow the
/// kernel's copy of large ones down by a third: what it copies to begins there, too,
/// and a load waits for the store that has the same place in another page.
pub const FIRST_FRAME: u32 = 64;

/// What an injector does, one bit each.
pub mod flags {
    /// PACKET_QDISC_BYPASS.
    pub const QDISC_BYPASS: u64 = 0x1;
    /// Frames are handed over without a look at the link.
    pub const IGNORE_LINK_STATE: u64 = 0x2;
    /// PACKET_VNET_HDR.
    pub const VNET_HEADER: u64 = 0x4;
    /// SO_TIMESTAMPING.
    pub const TIMESTAMPS: u64 = 0x8;
    /// Never fewer slots.
    pub const EXACT: u64 = 0x10;
    /// In another network namespace.
    pub const NETNS_FD: u64 = 0x20;
    /// All that are known.
    pub const KNOWN: u64 =
        QDISC_BYPASS | IGNORE_LINK_STATE | VNET_HEADER | TIMESTAMPS | EXACT | NETNS_FD;
}

/// How frames get into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A TPACKET_V2 transmit ring.
    Ring,
    /// sendmmsg(2).
    Messages,
}

/// How fast frames may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Frames a second.
    Packets(u64),
    /// Bits of frames a second.
    Bits(u64),
}

/// What an injector is asked for.
#[derive(Debug, Clone, Default)]
pub struct InjectorConfig {
    /// `flags`.
    pub flags: u64,
    /// Bytes the slots may take; 0: as for captures.
    pub memory_limit: u64,
    /// Not faster than that.
    pub rate: Option<Rate>,
    /// `None`: what suits the device.
    pub method: Option<Method>,
    /// Bytes of the largest frame; 0: what the interface takes.
    pub slot_size: u32,
    /// Slots; 0: a default.
    pub slot_count: u32,
    /// The network namespace, with `flags::NETNS_FD`.
    pub netns_fd: i32,
}

impl InjectorConfig {
    /// Whether a flag is set.
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Checks every value that can be judged without the kernel.
    ///
    /// # Errors
    /// `Kind::Config` naming the field, the value and the range.
    pub fn validate(&self) -> Result<()> {
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        range(
            "slot_size",
            self.slot_size,
            0,
            MAX_SLOT_SIZE,
            "bytes (0: what the interface takes)",
        )?;
        range("slot_count", self.slot_count, 0, MAX_SLOT_COUNT, "slots (0: a default)")?;
        if self.has(flags::NETNS_FD) && self.netns_fd < 0 {
            return Err(Error::config(
                "netns_fd",
                format!("netns_fd {} is no descriptor", self.netns_fd),
            ));
        }
        if !self.has(flags::NETNS_FD) && self.netns_fd != 0 {
            return Err(Error::config(
                "netns_fd",
                format!(
                    "netns_fd {} is given without NETRING_INJECTOR_NETNS_FD in flags",
                    self.netns_fd
                ),
            ));
        }
        Ok(())
    }

    /// Bytes of the largest frame, on an interface of that MTU.
    fn largest_frame(&self, mtu: u32) -> u32 {
        match self.slot_size {
            0 if self.has(flags::VNET_HEADER) => SUPER_PACKET,
            // 64: tunnels have longer link-layer headers.
            0 => mtu.min(JUMBO_MTU).saturating_add(64),
            given => given,
        }
    }
}

/// The slots' memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// How frames get into the kernel.
    pub method: Method,
    /// Bytes from slot to slot, headers included.
    pub stride: u32,
    /// Bytes of the largest frame a slot holds.
    pub capacity: u32,
    /// Slots.
    pub count: u32,
    /// Slots as asked for, or the default.
    pub requested: u32,
    /// Bytes of a block of the ring, whole pages; else 0.
    pub block_size: u32,
    /// Blocks of the ring; else 0.
    pub block_count: u32,
    /// Which bound made them fewer.
    pub shrunk_by: Option<Bound>,
}

impl Geometry {
    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        match self.method {
            // The kernel takes each block as a power of two of pages.
            Method::Ring => {
                let block = u64::from(self.block_size).next_power_of_two();
                block.saturating_mul(self.block_count.into())
            }
            Method::Messages => {
                let slots = u64::from(self.stride).saturating_mul(self.count.into());
                slots.saturating_add(FIRST_FRAME.into())
            }
        }
    }

    /// Bytes to map.
    pub fn length(&self) -> u64 {
        match self.method {
            Method::Ring => u64::from(self.block_size).saturating_mul(self.block_count.into()),
            Method::Messages => self.memory(),
        }
    }

    /// Slots of a block of the ring.
    pub fn per_block(&self) -> u32 {
        self.block_size.checked_div(self.stride).unwrap_or(1)
    }

    /// Slots of the ring as the kernel has them: whole blocks of them.
    pub fn ring_count(&self) -> u32 {
        self.per_block().saturating_mul(self.block_count)
    }

    /// That of a configuration for an interface of this MTU.
    fn of(config: &InjectorConfig, method: Method, mtu: u32) -> Self {
        let page = u32::try_from(sys::process::page_size()).unwrap_or(4096);
        let frame = config.largest_frame(mtu);
        let count = match config.slot_count {
            0 if frame > LARGE_SLOT => FEW_SLOTS,
            0 => SLOT_COUNT,
            given => given,
        };
        let has_vnet = config.has(flags::VNET_HEADER);
        let room = if has_vnet { VNET_ROOM } else { 0 };
        let stride = match frame.saturating_add(room).next_multiple_of(64) {
            // As FIRST_FRAME.
            aligned if aligned % 1024 == 0 => aligned.saturating_add(64),
            stride => stride,
        };
        let mut geometry = Self {
            method,
            stride,
            capacity: stride.saturating_sub(room),
            count,
            requested: count,
            block_size: 0,
            block_count: 0,
            shrunk_by: None,
        };
        if method == Method::Ring {
            let vnet = if has_vnet { VNET_HEADER } else { 0 };
            let header = RING_HEADER.saturating_add(vnet);
            let whole = frame.saturating_add(header);
            // A frame within a page is one fragment of the packet; a larger one begins
            // on a page, so that 64 KiB are no more fragments than a packet may have
            // (MAX_SKB_FRAGS).
            geometry.stride = if whole <= page {
                whole.next_power_of_two().max(128)
            } else {
                whole.next_multiple_of(page)
            };
            geometry.capacity = geometry.stride.saturating_sub(header);
            // Not one allocation a slot, and not one too large to be found.
            let target = if whole > LARGE_SLOT { 1 << 20 } else { 64 << 10 };
            let fit: u32 =
                u32::max(target, geometry.stride).checked_div(geometry.stride).unwrap_or(1);
            let bytes = fit.min(count).saturating_mul(geometry.stride);
            geometry.block_size = bytes.next_multiple_of(page);
            geometry.block_count = count.div_ceil(geometry.per_block());
        }
        geometry
    }

    /// The same with fewer slots.
    fn with_count(self, count: u32) -> Self {
        let block_count = match self.method {
            Method::Ring => count.div_ceil(self.per_block()),
            Method::Messages => 0,
        };
        Self { count, block_count, ..self }
    }

    /// What a configuration asks for within the bound: with fewer slots, down to a
    /// quarter.
    ///
    /// # Errors
    /// `Kind::Mmap`: not even that fits, or fewer slots are not wanted.
    pub fn fitting(
        config: &InjectorConfig,
        method: Method,
        mtu: u32,
        bound: MemoryBound,
    ) -> Result<Self> {
        let asked = Self::of(config, method, mtu);
        if asked.memory() <= bound.bytes {
            return Ok(asked);
        }
        let least = asked.count.div_ceil(4);
        let mut count = asked.count;
        while count > least && !config.has(flags::EXACT) {
            count = count.saturating_sub(asked.count.div_ceil(64)).max(least);
            let smaller = asked.with_count(count);
            if smaller.memory() <= bound.bytes {
                return Ok(Self { shrunk_by: Some(bound.bound), ..smaller });
            }
        }
        Err(Error::new(
            Kind::Mmap,
            bound.bound.option(),
            format!(
                "{} slots of {} bytes take {} bytes of memory, more than {} ({} bytes){}: use a \
                 smaller slot_count or slot_size, or raise the bound",
                asked.count,
                asked.capacity,
                asked.memory(),
                bound.bound.words(),
                bound.bytes,
                if config.has(flags::EXACT) { "" } else { ", and so does a quarter of them" },
            ),
        )
        .with_os(libc::ENOMEM))
    }

    /// A quarter of the slots asked for, after the kernel refused more.
    pub fn after_enomem(&self, config: &InjectorConfig) -> Option<Self> {
        let quarter = self.requested.div_ceil(4);
        (!config.has(flags::EXACT) && quarter < self.count)
            .then(|| Self { shrunk_by: Some(Bound::NoMemory), ..self.with_count(quarter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(bytes: u64) -> MemoryBound {
        MemoryBound { bytes, bound: Bound::Limit }
    }

    fn fitting(config: &InjectorConfig, method: Method, mtu: u32) -> Geometry {
        Geometry::fitting(config, method, mtu, bound(1 << 30)).unwrap()
    }

    #[test]
    fn slots_hold_the_frames_asked_for_and_lie_in_whole_blocks() {
        for slot_size in [0, 1, 60, 64, 1514, 1518, 2014, 2015, 4064, 4065, 9018, 65_553, 131_072] {
            for slot_count in [0, 1, 2, 3, 31, 32, 33, 1000] {
                for flags in [0, flags::VNET_HEADER] {
                    let config = InjectorConfig {
                        slot_size,
                        slot_count,
                        flags,
                        ..InjectorConfig::default()
                    };
                    for method in [Method::Ring, Method::Messages] {
                        let geometry = fitting(&config, method, 1500);
                        let least = if slot_size == 0 { 1518 } else { slot_size };
                        assert!(geometry.capacity >= least, "{config:?} {geometry:?}");
                        if slot_count != 0 {
                            assert_eq!(geometry.count, slot_count);
                        }
                        if method == Method::Messages {
                            continue;
                        }
                        // What af_packet.c packet_set_ring asks for.
                        assert_eq!(geometry.block_size % 4096, 0);
                        assert_eq!(geometry.stride % 16, 0);
                        assert!(geometry.per_block() > 0);
                        assert!(geometry.ring_count() >= geometry.count);
                        assert!(geometry.ring_count() - geometry.count < geometry.per_block());
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_shrunk_to_a_quarter_at_most() {
        let config = InjectorConfig { slot_count: 1024, ..InjectorConfig::default() };
        for method in [Method::Ring, Method::Messages] {
            let all = fitting(&config, method, 1500);
            let half = Geometry::fitting(&config, method, 1500, bound(all.memory() / 2)).unwrap();
            assert!(half.count < 1024 && half.count > 400, "{half:?}");
            assert_eq!(half.shrunk_by, Some(Bound::Limit));
            assert!(half.memory() <= all.memory() / 2);
            let refused = Geometry::fitting(&config, method, 1500, bound(all.memory() / 5));
            assert_eq!(refused.unwrap_err().kind, Kind::Mmap);
            let exact = InjectorConfig { flags: flags::EXACT, ..config.clone() };
            assert!(Geometry::fitting(&exact, method, 1500, bound(all.memory() / 2)).is_err());
            assert_eq!(all.after_enomem(&config).unwrap().count, 256);
            assert!(all.after_enomem(&exact).is_none());
        }
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let bad = [
            ("slot_size", InjectorConfig { slot_size: MAX_SLOT_SIZE + 1, ..Default::default() }),
            ("slot_count", InjectorConfig { slot_count: MAX_SLOT_COUNT + 1, ..Default::default() }),
            ("flags", InjectorConfig { flags: 1 << 40, ..Default::default() }),
            ("netns_fd", InjectorConfig { netns_fd: 3, ..Default::default() }),
            (
                "netns_fd",
                InjectorConfig { netns_fd: -1, flags: flags::NETNS_FD, ..Default::default() },
            ),
        ];
        for (field, config) in bad {
            assert_eq!(config.validate().unwrap_err().option, field);
        }
        InjectorConfig::default().validate().unwrap();
    }
}
