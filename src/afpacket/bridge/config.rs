//! What a bridge is asked for.

use crate::error::{Error, Result};

/// Bytes of the largest slot an injector has.
const MAX_SLOT_SIZE: u32 = 1 << 17;
/// Largest batch: the kernel takes no more messages a call (UIO_MAXIOV).
pub const MAX_BATCH: u32 = 1024;
/// Bytes of the smallest packet size: an Ethernet header with a tag, and some.
const MIN_PACKET: u32 = 64;
/// A super-packet, its headers, and a tag.
pub const SUPER_PACKET: u32 = (64 << 10) + 64;
/// SO_RCVBUF is an int, which the kernel doubles.
const MAX_RECEIVE_BUFFER: u32 = 1 << 30;
/// Longest patience: a second.
const MAX_PATIENCE: u32 = 1_000_000;

/// What a bridge does, one bit each.
pub mod flags {
    /// The first interface is in another network namespace.
    pub const NETNS_FD_A: u64 = 0x1;
    /// The second is.
    pub const NETNS_FD_B: u64 = 0x2;
    /// PACKET_QDISC_BYPASS.
    pub const QDISC_BYPASS: u64 = 0x4;
    /// Interfaces are not made promiscuous.
    pub const NOT_PROMISCUOUS: u64 = 0x8;
    /// All that are known.
    pub const KNOWN: u64 = NETNS_FD_A | NETNS_FD_B | QDISC_BYPASS | NOT_PROMISCUOUS;
}

/// What a bridge is asked for.
#[derive(Debug, Clone, Copy)]
pub struct BridgeConfig {
    /// `flags`.
    pub flags: u64,
    /// Bytes the slots of both directions may take; 0: as for captures.
    pub memory_limit: u64,
    /// Packets of a callback at most.
    pub batch: u32,
    /// Bytes of the largest packet; 0: `SUPER_PACKET`.
    pub packet_size: u32,
    /// Bytes of each receive buffer in the kernel.
    pub receive_buffer: u32,
    /// Microseconds that packets wait for a side that takes none, before they are
    /// dropped.
    pub patience_us: u32,
    /// The network namespaces, with `flags::NETNS_FD_A` and `_B`.
    pub netns_fds: [i32; 2],
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            flags: 0,
            memory_limit: 0,
            batch: 64,
            packet_size: 0,
            receive_buffer: 4 << 20,
            patience_us: 5_000,
            netns_fds: [0; 2],
        }
    }
}

impl BridgeConfig {
    /// Whether a flag is set.
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Checks every value that can be judged without the kernel.
    ///
    /// # Errors
    /// `Kind::Config` naming the field, the value and the range.
    pub fn validate(&self) -> Result<()> {
        let range = |field: &'static str, value: u32, least: u32, most: u32, unit: &str| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let text = format!("{field} {value} is out of range: {least} to {most} {unit}");
            Err(Error::config(field, text))
        };
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        range("batch", self.batch, 1, MAX_BATCH, "packets")?;
        if self.packet_size != 0 {
            range(
                "packet_size",
                self.packet_size,
                MIN_PACKET,
                MAX_SLOT_SIZE,
                "bytes (0: super-packets of 64 KiB)",
            )?;
        }
        range("receive_buffer", self.receive_buffer, 1, MAX_RECEIVE_BUFFER, "bytes")?;
        range("patience_us", self.patience_us, 0, MAX_PATIENCE, "microseconds")?;
        for (field, fd, flag, name) in [
            ("netns_fd_a", self.netns_fds[0], flags::NETNS_FD_A, "NETRING_BRIDGE_NETNS_FD_A"),
            ("netns_fd_b", self.netns_fds[1], flags::NETNS_FD_B, "NETRING_BRIDGE_NETNS_FD_B"),
        ] {
            if self.has(flag) && fd < 0 {
                return Err(Error::config(field, format!("{field} {fd} is no descriptor")));
            }
            if !self.has(flag) && fd != 0 {
                return Err(Error::config(
                    field,
                    format!("{field} {fd} is given without {name} in flags"),
                ));
            }
        }
        Ok(())
    }

    /// Bytes of a slot.
    pub fn slot_size(&self) -> u32 {
        if self.packet_size == 0 { SUPER_PACKET } else { self.packet_size }
    }

    /// Slots of a direction: a batch that the out side has not taken yet, and one to
    /// receive into.
    pub fn slot_count(&self) -> u32 {
        2 * self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_value_names_its_field() {
        type Spoil = fn(&mut BridgeConfig);
        let cases: [(&str, Spoil); 13] = [
            ("flags", |c| c.flags = 1 << 40),
            ("batch", |c| c.batch = 0),
            ("batch", |c| c.batch = 1025),
            ("packet_size", |c| c.packet_size = 63),
            ("packet_size", |c| c.packet_size = (1 << 17) + 1),
            ("receive_buffer", |c| c.receive_buffer = 0),
            ("receive_buffer", |c| c.receive_buffer = u32::MAX),
            ("patience_us", |c| c.patience_us = 1_000_001),
            ("netns_fd_a", |c| c.netns_fds[0] = 3),
            ("netns_fd_b", |c| c.netns_fds[1] = 3),
            ("netns_fd_a", |c| {
                (c.flags, c.netns_fds[0]) = (flags::NETNS_FD_A, -1);
            }),
            ("netns_fd_b", |c| {
                (c.flags, c.netns_fds[1]) = (flags::NETNS_FD_B, -1);
            }),
            ("netns_fd_b", |c| c.netns_fds[1] = -1),
        ];
        for (field, spoil) in cases {
            let mut config = BridgeConfig::default();
            config.validate().unwrap();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().option, field);
        }
    }
}
