//! What can be asked for: defaults, validation, and the sizes that follow.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

use super::umem::{self, Umem, UmemConfig};
use crate::config::{MemoryBound, range};
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use std::sync::Arc;

/// How packets come to the sockets: as asked for, or as granted (then never `Auto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The best that there is.
    Auto = 0,
    /// The driver writes into the UMEM.
    ZeroCopy = 1,
    /// The program runs in the driver, the kernel copies.
    Copy = 2,
    /// The program runs in the kernel's stack, whatever the driver.
    Skb = 3,
}

/// What goes to the sockets; the rest to the host's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Redirect {
    /// What a filter accepts.
    Filter = 1,
    /// Every packet.
    All = 2,
    /// No packet.
    None = 3,
}

/// A mode that was not granted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried; `Auto`: it is about another thing than the mode.
    pub mode: Mode,
    /// The kernel's reason, where there is one.
    pub os: Option<i32>,
    /// The step that failed: "attach", "bind", "rx_metadata".
    pub option: &'static str,
    /// The same in words.
    pub message: String,
}

/// Default frames to receive into, of each queue.
const RX_FRAMES: u32 = 4096;
/// Default frames to send from, of each queue.
const TX_FRAMES: u32 = 2048;
/// Defaults are not made smaller than that.
const LEAST_DEFAULT_FRAMES: u32 = 256;
/// Fewest frames: what drivers take in one go.
const LEAST_FRAMES: u32 = 64;
/// Most entries of a ring.
const MAX_RING: u32 = 1 << 22;
/// Most frames of one queue.
const MAX_FRAMES: u32 = 1 << 20;
/// Default packets of a block: more would evict from the cache what was just brought in.
const BLOCK_PACKETS: u32 = 64;
const MAX_BLOCK_PACKETS: u32 = 4096;
/// Default milliseconds that a queue in use is tried again: 20 to 35 after a close were seen.
pub const BIND_TIMEOUT: u32 = 1000;
/// Longest that a block is gathered, in microseconds: a second.
const MAX_BLOCK_TIMEOUT: u32 = 1_000_000;
/// Longest of such times.
const MAX_TIMEOUT: u32 = 3_600_000;
/// Bytes of an entry of the receive and the transmit ring (struct xdp_desc).
const DESCRIPTOR: u64 = 16;
/// Of the fill and the completion ring.
const ADDRESS: u64 = 8;
/// SO_BUSY_POLL_BUDGET is 16 bits wide.
const MAX_BUDGET: u32 = 65535;

/// What the sockets do, one bit each.
pub mod flags {
    /// In another network namespace.
    pub const NETNS_FD: u64 = 0x2;
    /// The caller's program.
    pub const PROGRAM_FD: u64 = 0x4;
    /// The caller's map.
    pub const MAP_FD: u64 = 0x8;
    /// Frames in pages of 2 MiB.
    pub const HUGEPAGES: u64 = 0x10;
    /// Frames of any size.
    pub const UNALIGNED: u64 = 0x20;
    /// The driver is kicked always.
    pub const NO_NEED_WAKEUP: u64 = 0x40;
    /// Packets may come in several frames.
    pub const MULTI_BUFFER: u64 = 0x80;
    /// These are copied into one piece.
    pub const LINEAR: u64 = 0x100;
    /// Nothing is sent.
    pub const NO_TX: u64 = 0x200;
    /// Nothing is attached.
    pub const NO_PROGRAM: u64 = 0x400;
    /// No sockets.
    pub const PROGRAM_ONLY: u64 = 0x800;
    /// What the driver knows of a packet besides its bytes.
    pub const RX_METADATA: u64 = 0x2000;
    /// The device is asked for checksums and times.
    pub const TX_METADATA: u64 = 0x1000;
    /// A queue in use is not tried again.
    pub const NO_RETRY: u64 = 0x4000;
    /// All that are known.
    pub const KNOWN: u64 = NETNS_FD
        | PROGRAM_FD
        | MAP_FD
        | HUGEPAGES
        | UNALIGNED
        | NO_NEED_WAKEUP
        | MULTI_BUFFER
        | LINEAR
        | NO_TX
        | NO_PROGRAM
        | PROGRAM_ONLY
        | RX_METADATA
        | TX_METADATA
        | NO_RETRY;
}

/// What sockets of AF_XDP are asked for.
#[derive(Debug, Clone)]
pub struct XdpConfig {
    /// `flags`.
    pub flags: u64,
    /// Bytes of all frames; 0: as for captures.
    pub memory_limit: u64,
    /// With `Redirect::Filter`.
    pub filter: Option<Filter>,
    /// `None`: memory of its own.
    pub umem: Option<Arc<Umem>>,
    /// `None`: it was not said.
    pub redirect: Option<Redirect>,
    /// The policy.
    pub mode: Mode,
    /// Bytes of a frame; 0: a page.
    pub frame_size: u32,
    /// Frames to receive into, of each queue; 0: a default.
    pub rx_frames: u32,
    /// Frames to send from, of each queue; 0: a default.
    pub tx_frames: u32,
    /// Bytes in front of each received packet, besides the kernel's.
    pub headroom: u32,
    /// Entries; 0: what fits.
    pub rx_ring: u32,
    /// Entries; 0: what fits.
    pub tx_ring: u32,
    /// Entries; 0: what fits.
    pub fill_ring: u32,
    /// Entries; 0: what fits.
    pub completion_ring: u32,
    /// Most packets of a block; 0: a default.
    pub block_packets: u32,
    /// Microseconds; 0: none.
    pub block_timeout_us: u32,
    /// Microseconds; 0: off.
    pub busy_poll: u32,
    /// Packets; 0: the kernel's.
    pub busy_poll_budget: u32,
    /// Milliseconds; 0: a default.
    pub bind_timeout: u32,
    /// Milliseconds; 0: none.
    pub carrier_timeout: u32,
    /// With its flag.
    pub netns_fd: i32,
    /// With its flag.
    pub program_fd: i32,
    /// With its flag.
    pub map_fd: i32,
}

impl Default for XdpConfig {
    fn default() -> Self {
        Self {
            flags: 0,
            memory_limit: 0,
            filter: None,
            umem: None,
            redirect: None,
            mode: Mode::Auto,
            frame_size: 0,
            rx_frames: 0,
            tx_frames: 0,
            headroom: 0,
            rx_ring: 0,
            tx_ring: 0,
            fill_ring: 0,
            completion_ring: 0,
            block_packets: 0,
            block_timeout_us: 0,
            busy_poll: 0,
            busy_poll_budget: 0,
            bind_timeout: 0,
            carrier_timeout: 0,
            netns_fd: 0,
            program_fd: 0,
            map_fd: 0,
        }
    }
}

/// Sizes of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Frames to receive into.
    pub rx_frames: u32,
    /// Frames to send from; 0: nothing is sent.
    pub tx_frames: u32,
    /// Entries.
    pub rx_ring: u32,
    /// Entries.
    pub tx_ring: u32,
    /// Entries.
    pub fill_ring: u32,
    /// Entries.
    pub completion_ring: u32,
    /// Most packets of a block.
    pub block_packets: u32,
}

impl Sizes {
    /// Bytes of the rings, which are the kernel's memory.
    fn rings(&self) -> u64 {
        let tx_ring = if self.tx_frames == 0 { 0 } else { self.tx_ring };
        let packets = u64::from(self.rx_ring).saturating_add(tx_ring.into());
        let frames = u64::from(self.fill_ring).saturating_add(self.completion_ring.into());
        packets.saturating_mul(DESCRIPTOR).saturating_add(frames.saturating_mul(ADDRESS))
    }
}

impl XdpConfig {
    /// Whether a flag is set.
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Checks every value that can be judged without the kernel. `adopts`: sockets are
    /// handed over.
    ///
    /// # Errors
    /// `Config` naming the field, the value and the range.
    pub fn validate(&self, adopts: bool) -> Result<()> {
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        self.validate_redirect(adopts)?;
        self.validate_descriptors()?;
        for (field, value) in [
            ("rx_ring", self.rx_ring),
            ("tx_ring", self.tx_ring),
            ("fill_ring", self.fill_ring),
            ("completion_ring", self.completion_ring),
        ] {
            if value != 0 && !(value.is_power_of_two() && value <= MAX_RING) {
                return Err(Error::config(
                    field,
                    format!(
                        "{field} {value} is no power of two up to {MAX_RING} (0: what the frames \
                         need)"
                    ),
                ));
            }
        }
        for (field, value) in [("rx_frames", self.rx_frames), ("tx_frames", self.tx_frames)] {
            if value != 0 {
                range(field, value, LEAST_FRAMES, MAX_FRAMES, "frames (0: a default)")?;
            }
        }
        range("block_packets", self.block_packets, 0, MAX_BLOCK_PACKETS, "packets (0: 64)")?;
        range("block_timeout_us", self.block_timeout_us, 0, MAX_BLOCK_TIMEOUT, "microseconds")?;
        range("busy_poll", self.busy_poll, 0, i32::MAX.unsigned_abs(), "microseconds")?;
        range("busy_poll_budget", self.busy_poll_budget, 0, MAX_BUDGET, "packets")?;
        range("bind_timeout", self.bind_timeout, 0, MAX_TIMEOUT, "milliseconds")?;
        range("carrier_timeout", self.carrier_timeout, 0, MAX_TIMEOUT, "milliseconds")?;
        if self.busy_poll == 0 && self.busy_poll_budget != 0 {
            return Err(Error::config("busy_poll_budget", "busy_poll_budget goes with busy_poll"));
        }
        if self.busy_poll != 0 && self.block_timeout_us != 0 {
            return Err(Error::config(
                "block_timeout_us",
                "block_timeout_us does not go with busy_poll: who sleeps does not work the device's \
                 queue",
            ));
        }
        self.validate_exclusions()?;
        self.umem_config(&self.sizes(RX_FRAMES, TX_FRAMES)).layout().map(drop)?;
        self.validate_umem()
    }

    fn validate_redirect(&self, adopts: bool) -> Result<()> {
        let own_program = self.has(flags::PROGRAM_FD) || self.has(flags::MAP_FD);
        let wrong = |why: &str| Err(Error::config("redirect", why.to_string()));
        match (self.redirect, &self.filter) {
            (Some(_), _) if own_program => wrong(
                "redirect is for programs of the library: with NETRING_XDP_PROGRAM_FD or \
                 NETRING_XDP_MAP_FD leave it 0",
            ),
            (None, None) if own_program => Ok(()),
            (None, _) if adopts => wrong("adopted sockets need map_fd, with NETRING_XDP_MAP_FD"),
            (None, None) => wrong(
                "redirect must be said: NETRING_REDIRECT_FILTER, NETRING_REDIRECT_ALL (all packets \
                 of the queues, those of SSH and ARP among them: the host does not see them any \
                 more) or NETRING_REDIRECT_NONE (to send only)",
            ),
            (Some(Redirect::Filter), None) => wrong("NETRING_REDIRECT_FILTER needs a filter"),
            (_, Some(_)) if self.redirect != Some(Redirect::Filter) => {
                wrong("a filter goes with NETRING_REDIRECT_FILTER")
            }
            _ => Ok(()),
        }
    }

    /// A descriptor goes with its flag: without it, it would be forgotten silently.
    fn validate_descriptors(&self) -> Result<()> {
        for (field, fd, flag, name) in [
            ("netns_fd", self.netns_fd, flags::NETNS_FD, "NETRING_XDP_NETNS_FD"),
            ("program_fd", self.program_fd, flags::PROGRAM_FD, "NETRING_XDP_PROGRAM_FD"),
            ("map_fd", self.map_fd, flags::MAP_FD, "NETRING_XDP_MAP_FD"),
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
        Ok(())
    }

    fn validate_exclusions(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::config("flags", why.to_string()));
        let own_program = self.has(flags::PROGRAM_FD) || self.has(flags::MAP_FD);
        if self.has(flags::LINEAR) && !self.has(flags::MULTI_BUFFER) {
            return wrong("NETRING_XDP_LINEAR goes with NETRING_XDP_MULTI_BUFFER");
        }
        if self.has(flags::NO_PROGRAM) && (own_program || self.redirect != Some(Redirect::None)) {
            return wrong("NETRING_XDP_NO_PROGRAM goes with NETRING_REDIRECT_NONE");
        }
        if self.has(flags::PROGRAM_ONLY) && (own_program || self.has(flags::NO_PROGRAM)) {
            return wrong("NETRING_XDP_PROGRAM_ONLY is for programs of the library");
        }
        let no_program = self.has(flags::NO_PROGRAM) || self.has(flags::PROGRAM_FD);
        if self.has(flags::RX_METADATA) && no_program {
            return wrong("NETRING_XDP_RX_METADATA is for programs of the library");
        }
        if self.has(flags::NO_TX) && self.has(flags::TX_METADATA) {
            return wrong("NETRING_XDP_TX_METADATA is for sending: not with NETRING_XDP_NO_TX");
        }
        if self.has(flags::NO_TX) && self.tx_frames != 0 {
            return Err(Error::config("tx_frames", "tx_frames is given with NETRING_XDP_NO_TX"));
        }
        Ok(())
    }

    fn validate_umem(&self) -> Result<()> {
        let Some(umem) = &self.umem else { return Ok(()) };
        let layout = umem.layout();
        for (field, value, theirs) in [
            ("frame_size", self.frame_size, layout.frame_size),
            ("headroom", self.headroom, layout.headroom),
        ] {
            if value != 0 && value != theirs {
                return Err(Error::config(
                    field,
                    format!("{field} {value} is not that of the umem, {theirs}: leave it 0"),
                ));
            }
        }
        if self.has(flags::TX_METADATA) && layout.flags & umem::flags::TX_METADATA == 0 {
            return Err(Error::config(
                "umem",
                "NETRING_XDP_TX_METADATA needs room in front of the umem's frames: make it with \
                 NETRING_UMEM_TX_METADATA",
            ));
        }
        if self.flags & (flags::HUGEPAGES | flags::UNALIGNED) != 0 || self.memory_limit != 0 {
            return Err(Error::config(
                "umem",
                "huge pages, unaligned frames and memory_limit are the umem's own: leave them out",
            ));
        }
        Ok(())
    }

    /// Checks that the memory to share, if there is one, has the frames of so many queues.
    ///
    /// # Errors
    /// `Config`: it has not, whoever else has some of them.
    pub fn fits_umem(&self, queues: usize, sizes: &Sizes) -> Result<()> {
        let Some(umem) = &self.umem else { return Ok(()) };
        let each = u64::from(sizes.rx_frames).saturating_add(sizes.tx_frames.into());
        let (asked, has) = (each.saturating_mul(queues as u64), umem.layout().frame_count);
        if asked <= has.into() {
            return Ok(());
        }
        Err(Error::config(
            "umem",
            format!(
                "{asked} frames are asked for, rx_frames and tx_frames of {queues} queues, and the \
                 umem has {has}: raise its frame_count, or lower these"
            ),
        ))
    }

    /// The sizes of each queue, with these defaults.
    fn sizes(&self, rx_frames: u32, tx_frames: u32) -> Sizes {
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let rx_frames = or(self.rx_frames, rx_frames);
        let sends = !self.has(flags::NO_TX);
        let tx_frames = if sends { or(self.tx_frames, tx_frames) } else { 0 };
        let whole = |frames: u32| frames.next_power_of_two();
        // What is forwarded comes besides the queue's own.
        let out = if self.umem.is_some() { rx_frames.max(tx_frames) } else { tx_frames };
        Sizes {
            rx_frames,
            tx_frames,
            rx_ring: or(self.rx_ring, whole(rx_frames)),
            tx_ring: or(self.tx_ring, whole(out)),
            fill_ring: or(self.fill_ring, whole(rx_frames)),
            completion_ring: or(self.completion_ring, whole(out)),
            block_packets: or(self.block_packets, BLOCK_PACKETS),
        }
    }

    /// The memory of each queue.
    pub fn umem_config(&self, sizes: &Sizes) -> UmemConfig {
        let has = |flag: u64, bit: u64| if self.has(flag) { bit } else { 0 };
        UmemConfig {
            flags: has(flags::TX_METADATA, umem::flags::TX_METADATA)
                | has(flags::HUGEPAGES, umem::flags::HUGEPAGES)
                | has(flags::UNALIGNED, umem::flags::UNALIGNED),
            memory_limit: self.memory_limit,
            frame_size: self.frame_size,
            frame_count: sizes.rx_frames.saturating_add(sizes.tx_frames),
            headroom: self.headroom,
        }
    }

    /// The sizes of each of so many queues. Defaults are halved until the memory they
    /// take is within the bound, or least.
    ///
    /// # Errors
    /// `Config`: a ring is too small for the frames.
    pub fn sizes_within(&self, queues: u64, bound: u64) -> Result<Sizes> {
        let (mut rx, mut tx) = (RX_FRAMES, TX_FRAMES);
        let sizes = loop {
            let sizes = self.sizes(rx, tx);
            if self.memory(queues, &sizes)? <= bound || tx <= LEAST_DEFAULT_FRAMES {
                break sizes;
            }
            (rx, tx) = (rx >> 1, tx >> 1);
        };
        if sizes.fill_ring < sizes.rx_frames {
            return Err(Error::config(
                "fill_ring",
                format!(
                    "fill_ring {} has no room for rx_frames {}: every frame may be in it",
                    sizes.fill_ring, sizes.rx_frames
                ),
            ));
        }
        Ok(sizes)
    }

    /// The same, within the bound.
    ///
    /// # Errors
    /// As [`sizes_within`](Self::sizes_within); `Mmap` with ENOMEM: more than the bound.
    pub fn fitting(&self, queues: u64) -> Result<Sizes> {
        let bound = MemoryBound::now(self.memory_limit);
        let sizes = self.sizes_within(queues, bound.bytes)?;
        let memory = self.memory(queues, &sizes)?;
        if memory > bound.bytes {
            let of = if queues == 1 { "a queue".to_string() } else { format!("{queues} queues") };
            return Err(Error::new(
                Kind::Mmap,
                bound.bound.option(),
                format!(
                    "frame memory refused: frames and rings of {of} take {memory} bytes, more than \
                     {} ({} bytes); {}",
                    bound.bound.words(),
                    bound.bytes,
                    bound.bound.remedy(
                        "have fewer frames (rx_frames, tx_frames), shorter rings or fewer queues"
                    ),
                ),
            )
            .with_os(libc::ENOMEM));
        }
        Ok(sizes)
    }

    /// Bytes of all frames, but for those of a `umem`, and of all rings.
    fn memory(&self, queues: u64, sizes: &Sizes) -> Result<u64> {
        let frames = match &self.umem {
            Some(_) => 0,
            None => self.umem_config(sizes).layout()?.memory(),
        };
        Ok(frames.saturating_add(sizes.rings()).saturating_mul(queues))
    }

    /// How long a queue in use is tried again, in milliseconds.
    pub fn bind_patience(&self) -> u32 {
        match self.bind_timeout {
            _ if self.has(flags::NO_RETRY) => 0,
            0 => BIND_TIMEOUT,
            given => given,
        }
    }
}
