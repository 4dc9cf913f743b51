//! What is lost behind an injector: by the interface, and by its queueing discipline.
//! Frames of everybody, since the open.

use crate::sys::netlink::{Netlink, RootQueue, TransmitCounters};

/// See the module.
#[derive(Debug)]
pub(super) struct Losses {
    netlink: Netlink,
    /// The counters at the open.
    interface: TransmitCounters,
    /// The root queueing discipline when it was last asked.
    queue: Option<RootQueue>,
    queue_drops: u64,
}

impl Losses {
    /// From now on; `None`: the interface does not say.
    pub(super) fn begin(mut netlink: Netlink, ifindex: u32) -> Option<Self> {
        let interface = netlink.transmit_counters(ifindex).ok()?;
        let queue = netlink.root_queue(ifindex).ok();
        Some(Self { netlink, interface, queue, queue_drops: 0 })
    }

    /// Of the interface.
    pub(super) fn interface(&mut self, ifindex: u32) -> Option<TransmitCounters> {
        let now = self.netlink.transmit_counters(ifindex).ok()?;
        Some(TransmitCounters {
            tx_errors: now.tx_errors.wrapping_sub(self.interface.tx_errors),
            tx_dropped: now.tx_dropped.wrapping_sub(self.interface.tx_dropped),
        })
    }

    /// Of the root queueing discipline; of one that took its place, all.
    pub(super) fn queue(&mut self, ifindex: u32) -> Option<u64> {
        let now = self.netlink.root_queue(ifindex).ok()?;
        let more = match self.queue.replace(now) {
            Some(before) if before.handle == now.handle => now.drops.wrapping_sub(before.drops),
            _ => now.drops,
        };
        // Less than before, and no wrap: another one, with the same number.
        let is_new = more > u32::MAX / 2;
        self.queue_drops += u64::from(if is_new { now.drops } else { more });
        Some(self.queue_drops)
    }
}
