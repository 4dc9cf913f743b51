//! What is done to a block's records before it is handed out. It is written into
//! the records, so that every walk over them finds the same.

use super::*;
use crate::afpacket::late::{Late, Verdict};
use crate::filter::{Metadata, PacketView, Vlan};
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
    /// Packets may be cut, and are counted.
    pub cut: bool,
    /// Packets that a newer filter rejects are marked away.
    pub late: Late,
}

impl Treatment {
    /// Whether the records must be looked at at all.
    pub fn is_needed(&self) -> bool {
        self.tally || self.cut || self.drop_looped || self.late.judges() || self.rewrites()
    }

    fn rewrites(&self) -> bool {
        self.keep_vnet || self.restore_vlan
    }

    /// The next block to be treated; each further record is so many sequence numbers
    /// behind the first.
    pub fn turn_to(&mut self, sequence: u64, step: u64) {
        self.cut = self.late.turn_to(sequence, step);
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Slots the kernel never filled.
    pub skipped: u32,
    /// Outgoing packets of a loopback device, marked away.
    pub looped: u32,
    /// Packets that a newer filter rejected, marked away.
    pub filtered_late: u32,
    /// Packets cut.
    pub truncated: u32,
}

impl Tally {
    /// Records that are no packets of the reader's any more.
    pub fn away(&self) -> u32 {
        self.skipped.wrapping_add(self.looped).wrapping_add(self.filtered_late)
    }
}

impl BlockMemory {
    /// One pass over the records of `position`, which stands behind the last one
    /// afterwards; and that one's time.
    pub fn treat(&self, position: &mut Position, treatment: &Treatment) -> (Tally, u64) {
        let mut tally = Tally::default();
        let mut last_ns = 0;
        let count = position.left;
        while position.left != 0 {
            let Ok(record) = self.record(position.offset) else { break };
            if record.status() & status::USER == 0 {
                tally.skipped = tally.skipped.wrapping_add(1);
            } else if treatment.drop_looped && record.is_looped() {
                record.mark_away();
                tally.looped = tally.looped.wrapping_add(1);
            } else if treatment.late.judges()
                && self.judge(&record, treatment, count.wrapping_sub(position.left))
            {
                record.mark_away();
                tally.filtered_late = tally.filtered_late.wrapping_add(1);
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

    /// Whether a newer filter rejects a packet. Where it keeps fewer bytes, the
    /// record has fewer from now on.
    fn judge(&self, record: &Record, treatment: &Treatment, number: u32) -> bool {
        let status = record.status();
        // Overwritten: the walk that meets it will say so.
        let Ok(filled) = record.filled(status, self.length) else { return false };
        let data = record.at.as_ptr().wrapping_add(usize::from(filled.mac));
        // SAFETY: `filled` has checked that the packet lies in the block, which is ours;
        // another process with the mapping could at most change a byte between two looks.
        let data = unsafe { std::slice::from_raw_parts(data, filled.caplen as usize) };
        let packet = PacketView { data, len: record.field(TP_LEN), metadata: record.metadata() };
        match treatment.late.verdict(&packet, record.link_type(), number) {
            Verdict::Keep(0) => true,
            Verdict::Keep(keep) if keep < filled.caplen => {
                record.put(TP_SNAPLEN, keep);
                false
            }
            Verdict::Keep(_) | Verdict::Unknown => false,
        }
    }
}

impl Record {
    /// Sent by this host over a loopback device, where it arrives as well.
    fn is_looped(&self) -> bool {
        self.get::<u8>(SLL_PKTTYPE) == NETRING_DIRECTION_OUTGOING
            && self.get::<u16>(SLL_HATYPE) == arphrd::LOOPBACK
    }

    /// What the kernel's filter saw besides the bytes, as far as the record has it
    /// (af_packet.c tpacket_rcv fills it from the same packet).
    fn metadata(&self) -> Metadata {
        let status = self.status();
        let tpid = (status & status::VLAN_TPID_VALID != 0).then(|| self.get(TP_VLAN_TPID));
        let tci = self.get(TP_VLAN_TCI.wrapping_add(LOW_HALF));
        let tagged = status & status::VLAN_VALID != 0;
        Metadata {
            protocol: Some(u16::from_be(self.get(SLL_PROTOCOL))),
            packet_type: Some(self.get(SLL_PKTTYPE)),
            ifindex: Some(self.field(SLL_IFINDEX)),
            hardware_type: Some(self.get(SLL_HATYPE)),
            vlan: if tagged { Vlan::Present { tci, tpid } } else { Vlan::Absent },
            net_offset: Some(self.get::<u16>(TP_NET).wrapping_sub(self.get::<u16>(TP_MAC)).into()),
            ..Metadata::default()
        }
    }

    /// Clears the bit that every walk asks for, in whatever language.
    fn mark_away(&self) {
        self.set_status(!status::USER, 0);
    }
}
