//! What is done to a block's records before it is handed out. It is written into
//! the records, so that every walk over them finds the same.

use super::*;
use crate::packet::NETRING_DIRECTION_OUTGOING;

/// What is done.
#[derive(Debug, Clone, Default)]
pub struct Treatment {
    /// Every record is counted.
    pub tally: bool,
    /// Outgoing packets of loopback devices are marked away.
    pub drop_looped: bool,
    /// The vnet header before each packet is kept in its record.
    pub keep_vnet: bool,
    /// VLAN tags are put back into the bytes.
    pub restore_vlan: bool,
}

impl Treatment {
    /// Whether the records must be looked at at all.
    pub fn is_needed(&self) -> bool {
        self.tally || self.drop_looped || self.rewrites()
    }

    fn rewrites(&self) -> bool {
        self.keep_vnet || self.restore_vlan
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Slots the kernel never filled.
    pub skipped: u32,
    /// Outgoing packets of a loopback device, marked away.
    pub looped: u32,
    /// Packets cut.
    pub truncated: u32,
}

impl Tally {
    /// Records that are no packets of the reader's any more.
    pub fn away(&self) -> u32 {
        self.skipped.wrapping_add(self.looped)
    }
}

impl BlockMemory {
    /// One pass over the records of `position`, which stands behind the last one
    /// afterwards; and that one's time.
    pub fn treat(&self, position: &mut Position, treatment: &Treatment) -> (Tally, u64) {
        let mut tally = Tally::default();
        let mut last_ns = 0;
        while position.left != 0 {
            let Ok(record) = self.record(position.offset) else { break };
            if record.status() & status::USER == 0 {
                tally.skipped = tally.skipped.wrapping_add(1);
            } else if treatment.drop_looped && record.is_looped() {
                record.mark_away();
                tally.looped = tally.looped.wrapping_add(1);
            } else {
                let cut = record.field(TP_SNAPLEN) < record.field(TP_LEN);
                tally.truncated = tally.truncated.wrapping_add(u32::from(cut));
                // Last: what looks at a packet before sees what the kernel's filter saw.
                if treatment.rewrites() {
                    self.rewrite(record, treatment.keep_vnet, treatment.restore_vlan);
                }
            }
            last_ns = record.time_ns();
            record.step(position);
        }
        (tally, last_ns)
    }
}

impl Record {
    /// Sent by this host over a loopback device, where it arrives as well.
    fn is_looped(&self) -> bool {
        self.get::<u8>(SLL_PKTTYPE) == NETRING_DIRECTION_OUTGOING
            && self.get::<u16>(SLL_HATYPE) == arphrd::LOOPBACK
    }

    /// Clears the bit that every walk asks for, in whatever language.
    fn mark_away(&self) {
        self.set_status(!status::USER, 0);
    }
}
