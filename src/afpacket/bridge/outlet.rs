//! The side that packets leave by: an injector of the bridge's own.

use super::config::BridgeConfig;
use crate::afpacket::injector::config::{InjectorConfig, Method, VLAN_TAG, flags};
use crate::afpacket::injector::{Injector, Pushed};
use crate::error::{Kind, Result};
use crate::slot::Slot;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What became of frames that waited.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flushed {
    /// The kernel took them.
    pub(super) handed: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// They are larger than the interface takes.
    pub(super) too_large: u64,
    /// The kernel made no packet of them.
    pub(super) refused: u64,
    /// Queue or driver dropped them whenever they were offered.
    pub(super) dropped: u64,
    /// The link is down, and was as long as they waited: they are gone.
    pub(super) link_down: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outlet {
    injector: Injector,
    /// Frames that were committed and have not left.
    waiting: usize,
    /// They wait for the socket.
    for_socket: bool,
    /// Slots were given back unused while others were open: they get free again with the
    /// last open one.
    holes: bool,
    limit: u32,
    /// Bytes of a packet at most: a slot may have some more.
    capacity: u32,
}

impl Outlet {
    /// One to that interface, as a bridge of this configuration needs it.
    ///
    /// # Errors
    /// Those of an injector.
    pub(super) fn open(
        interface: &[u8],
        config: &BridgeConfig,
        netns_fd: Option<i32>,
    ) -> Result<Self> {
        let mut asked = InjectorConfig {
            // It must have the slots that are counted on.
            flags: flags::VNET_HEADER | flags::EXACT,
            // Half, for there are two.
            memory_limit: config.memory_limit.div_ceil(2),
            method: Some(Method::Messages),
            slot_size: config.slot_size(),
            slot_count: config.slot_count(),
            ..InjectorConfig::default()
        };
        if config.has(super::config::flags::QDISC_BYPASS) {
            asked.flags |= flags::QDISC_BYPASS;
        }
        if let Some(fd) = netns_fd {
            asked.flags |= flags::NETNS_FD;
            asked.netns_fd = fd;
        }
        let injector = Injector::open(interface, &asked)?;
        injector.give_up_after(Duration::from_micros(config.patience_us.into()));
        let limit = injector.info().frame_limit;
        let capacity = config.slot_size();
        Ok(Self { injector, waiting: 0, for_socket: false, holes: false, limit, capacity })
    }

    /// The interface.
    pub(super) fn ifindex(&self) -> u32 {
        self.injector.info().ifindex
    }

    /// Bytes of a packet at most.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of all slots.
    pub(super) fn memory(&self) -> u64 {
        self.injector.info().memory
    }

    /// Bytes of the largest frame, as far as that was seen; with a VLAN tag inside it may
    /// have that besides.
    pub(super) fn limit(&self, tagged: bool) -> u32 {
        self.limit.saturating_add(if tagged { VLAN_TAG } else { 0 })
    }

    /// Fills `slots` as far as there are any.
    ///
    /// # Errors
    /// None while slots are free, which they are by construction.
    pub(super) fn reserve(&self, slots: &mut [Slot]) -> Result<usize> {
        let capacity = self.capacity;
        self.injector.reserve(slots.len(), 0, |at, slot| slots[at] = Slot { capacity, ..slot })
    }

    /// Takes the first slots that were reserved, up to the first that is wrong.
    ///
    /// # Errors
    /// Of the first: `FrameTooLarge`, `Config`.
    pub(super) fn commit(&mut self, slots: &[Slot]) -> Result<usize> {
        let taken = self.injector.commit(slots.len(), |at| slots[at])?;
        let frames = slots[..taken].iter().filter(|slot| slot.len != 0).count();
        self.waiting += frames;
        self.holes |= frames < taken;
        Ok(taken)
    }

    /// Whether the open slots should be given back for the sake of others.
    pub(super) fn has_holes(&mut self) -> bool {
        std::mem::take(&mut self.holes)
    }

    /// Frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What gets writable when they may go on, if anything does.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.for_socket.then(|| self.injector.socket_fd())
    }

    /// Has the kernel take what waits, as far as it does.
    ///
    /// # Errors
    /// `InterfaceNotFound`, `Io`, with what became of the frames before.
    pub(super) fn flush(&mut self) -> (Flushed, Result<()>) {
        let mut flushed = Flushed::default();
        let (result, pushed) = self.injector.push(|refusal| match refusal.kind {
            Kind::FrameTooLarge => flushed.too_large += 1,
            Kind::Io => flushed.dropped += 1,
            _ => flushed.refused += 1,
        });
        let Pushed { handed, bytes, waiting, for_socket, limit } = pushed;
        (flushed.handed, flushed.bytes) = (handed, bytes);
        self.holes |= flushed.too_large + flushed.dropped + flushed.refused > 0;
        self.waiting = waiting as usize;
        self.for_socket = for_socket;
        self.limit = limit.unwrap_or(u32::MAX);
        match result {
            Err(error) if error.kind == Kind::LinkDown => {
                flushed.link_down = self.abandon();
                (flushed, Ok(()))
            }
            result => (flushed, result),
        }
    }

    /// Forgets what waits: how many.
    pub(super) fn abandon(&mut self) -> u64 {
        self.holes |= self.waiting > 0;
        self.waiting = 0;
        self.for_socket = false;
        self.injector.abandon()
    }
}
