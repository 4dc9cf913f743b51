//! What became of every packet.

use crate::sys::clock;
use crate::sys::netlink::{LinkCounters, Netlink};
use crate::sys::packet::SOL_PACKET;
use crate::sys::socket::Socket;
use crate::sys::softnet::{self, Softnet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A reading of all counters. Cumulative since the open, except the gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CLOCK_MONOTONIC of the reading.
    pub time_ns: u64,
    /// Packets the kernel put into the ring.
    pub received: u64,
    /// Packets in blocks handed out and not marked away.
    pub delivered: u64,
    /// Gauge: packets in the ring, not yet handed out.
    pub pending: u64,
    /// Packets that passed the filter: received + dropped.
    pub seen: u64,
    /// Packets the kernel dropped: the ring was full.
    pub dropped: u64,
    /// Times the ring became full.
    pub freezes: u64,
    /// The kernel counts them.
    pub counts_freezes: bool,
    /// Blocks handed out.
    pub blocks_delivered: u64,
    /// Gauge: blocks ready.
    pub blocks_ready: u64,
    /// The most that were ready when one was taken.
    pub blocks_ready_max: u64,
    /// Gauge: blocks of the ring that user space holds, whole or in parts.
    pub blocks_held: u64,
    /// Gauge: how long the oldest of them is held.
    pub oldest_held_ns: u64,
    /// Blocks without a single record.
    pub blocks_empty: u64,
    /// Records the kernel counted and never filled; part of `dropped`.
    pub skipped: u64,
    /// Packets a newer filter rejected after they were received.
    pub filtered_late: u64,
    /// Packets delivered with fewer bytes than they had.
    pub truncated: u64,
    /// Outgoing packets of loopback devices, marked away.
    pub looped: u64,
    /// Times a block's sequence number did not follow.
    pub sequence_gaps: u64,
    /// What the interface lost, where one interface is captured and says so.
    pub interface: Option<LinkCounters>,
    /// What the machine's backlogs lost, where the kernel says so.
    pub softnet: Option<Softnet>,
}

/// Counters the library keeps. Written under the consumer's lock, read anywhere.
#[derive(Debug, Default)]
pub struct Counters {
    /// See [`Stats`].
    pub delivered: AtomicU64,
    /// See [`Stats`].
    pub blocks_delivered: AtomicU64,
    /// See [`Stats`].
    pub blocks_ready_max: AtomicU64,
    /// See [`Stats`].
    pub blocks_empty: AtomicU64,
    /// See [`Stats`].
    pub skipped: AtomicU64,
    /// See [`Stats`].
    pub truncated: AtomicU64,
    /// See [`Stats`].
    pub looped: AtomicU64,
    /// See [`Stats`].
    pub filtered_late: AtomicU64,
    /// See [`Stats`].
    pub sequence_gaps: AtomicU64,
}

/// Adds under the consumer's lock: no other writer, so no locked instruction.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// The kernel's counters, which are 32 bits wide and cleared by reading
/// (af_packet.c packet_getsockopt PACKET_STATISTICS), added up.
#[derive(Debug)]
pub struct KernelCounters {
    seen: u64,
    dropped: u64,
    freezes: u64,
    read_at: Duration,
}

/// At 15 million packets a second 32 bits last for five minutes.
const READ_EVERY: Duration = Duration::from_secs(10);
/// While the ring stays full: soon enough to say why, and seldom enough to cost
/// nothing.
const READ_EVERY_WHEN_FULL: Duration = Duration::from_millis(10);

/// How soon the counters should be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The ring has just become full: packets may be dropped.
    Now,
    /// It still is.
    Soon,
    /// It is not.
    Later,
}

/// What the kernel lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets.
    pub dropped: u64,
    /// Times the ring became full.
    pub freezes: u64,
}

impl KernelCounters {
    /// All zero, for a socket just bound; a reading is due.
    pub fn new() -> Self {
        Self { seen: 0, dropped: 0, freezes: 0, read_at: Duration::ZERO }
    }

    /// Adds what the kernel counted since the last reading, and returns it.
    pub fn read(&mut self, socket: &Socket) -> Lost {
        let Ok(new) = socket.get::<libc::tpacket_stats_v3>(SOL_PACKET, libc::PACKET_STATISTICS)
        else {
            return Lost::default();
        };
        let lost = Lost { dropped: new.tp_drops.into(), freezes: new.tp_freeze_q_cnt.into() };
        self.seen += u64::from(new.tp_packets);
        self.dropped += lost.dropped;
        self.freezes += lost.freezes;
        self.read_at = clock::monotonic_coarse();
        lost
    }

    /// Whether a reading is due.
    pub fn is_due(&self, now: Duration, due: Due) -> bool {
        let every = match due {
            Due::Now => return true,
            Due::Soon => READ_EVERY_WHEN_FULL,
            Due::Later => READ_EVERY,
        };
        now.saturating_sub(self.read_at) >= every
    }

    /// All that was lost since the open, as far as it was read.
    pub fn lost(&self) -> Lost {
        Lost { dropped: self.dropped, freezes: self.freezes }
    }

    /// Writes them into `stats`.
    pub fn report(&self, stats: &mut Stats) {
        stats.seen = self.seen;
        // The kernel counts a dropped packet as seen too.
        stats.received = self.seen.saturating_sub(self.dropped);
        stats.dropped = self.dropped;
        stats.freezes = self.freezes;
    }
}

impl Default for KernelCounters {
    fn default() -> Self {
        Self::new()
    }
}

/// Losses before the ring, counted from the open on.
#[derive(Debug)]
pub struct Environment {
    netlink: Option<Netlink>,
    ifindex: u32,
    /// What earlier interfaces lost while they were captured.
    earlier: LinkCounters,
    interface_then: Option<LinkCounters>,
    /// The last reading, kept for when the interface is gone.
    interface_now: Option<LinkCounters>,
    softnet_then: Option<Softnet>,
}

impl Environment {
    /// Notes where the counters stand now.
    pub fn new(ifindex: u32, mut netlink: Option<Netlink>) -> Self {
        let interface_then = netlink.as_mut().and_then(|link| link.link_counters(ifindex).ok());
        Self {
            netlink,
            ifindex,
            earlier: LinkCounters::default(),
            interface_then,
            interface_now: interface_then,
            softnet_then: softnet::read(),
        }
    }

    /// Goes on with another interface; what was lost so far stays counted.
    pub fn rebind(&mut self, ifindex: u32) {
        if let Some(lost) = self.interface() {
            self.earlier = lost;
        }
        self.ifindex = ifindex;
        self.interface_then = self.read();
        self.interface_now = self.interface_then;
    }

    fn read(&mut self) -> Option<LinkCounters> {
        self.netlink.as_mut().and_then(|link| link.link_counters(self.ifindex).ok())
    }

    fn interface(&mut self) -> Option<LinkCounters> {
        self.interface_now = self.read().or(self.interface_now);
        let (now, then, earlier) = (self.interface_now?, self.interface_then?, self.earlier);
        Some(LinkCounters {
            rx_dropped: earlier.rx_dropped + now.rx_dropped.saturating_sub(then.rx_dropped),
            rx_fifo: earlier.rx_fifo + now.rx_fifo.saturating_sub(then.rx_fifo),
            rx_missed: earlier.rx_missed + now.rx_missed.saturating_sub(then.rx_missed),
        })
    }

    /// Writes what was lost since into `stats`.
    pub fn report(&mut self, stats: &mut Stats) {
        stats.interface = self.interface();
        if let (Some(now), Some(then)) = (softnet::read(), self.softnet_then) {
            stats.softnet = Some(Softnet {
                dropped: now.dropped.saturating_sub(then.dropped),
                squeezed: now.squeezed.saturating_sub(then.squeezed),
            });
        }
    }
}
