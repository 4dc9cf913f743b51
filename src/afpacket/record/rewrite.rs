//! Records rewritten on request: what the kernel puts beside or before a packet
//! goes where every walk finds it.

use super::*;

/// struct virtio_net_hdr (linux/virtio_net.h): flags, gso_type, hdr_len, gso_size,
/// csum_start, csum_offset. The kernel writes it right before the packet, in host
/// byte order (af_packet.c tpacket_rcv, vio_le).
pub const VNET_HEADER: u16 = 10;
/// Where it is kept: the padding of the record, which is 0 without one (af_packet.c
/// prb_run_all_ft_ops and tpacket_rcv write it for each packet).
const VNET: u32 = TP_PADDING;
const VNET_GSO_TYPE: u32 = VNET + 1;
const VNET_HDR_LEN: u32 = VNET + 2;
const VNET_CSUM_START: u32 = VNET + 6;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM.
const NEEDS_CSUM: u8 = 1;

/// Two Ethernet addresses.
const ADDRESSES: u16 = 12;
/// Bytes of a VLAN tag.
const TAG: u16 = 4;
/// The EtherType of a tag where the kernel does not tell it.
const ETHERTYPE_VLAN: u16 = 0x8100;
/// As `RECORD_HEADER`.
const HEADER: u16 = 68;
const _: () = assert!(HEADER as u32 == RECORD_HEADER);

/// A packet's struct virtio_net_hdr, with its layout.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vnet {
    /// VIRTIO_NET_HDR_F_*.
    pub flags: u8,
    /// VIRTIO_NET_HDR_GSO_*.
    pub gso_type: u8,
    /// Bytes of headers, or about that.
    pub hdr_len: u16,
    /// Bytes of a segment.
    pub gso_size: u16,
    /// Where the checksum begins.
    pub csum_start: u16,
    /// Where it goes, from there.
    pub csum_offset: u16,
}

const _: () = assert!(size_of::<Vnet>() == VNET_HEADER as usize);

impl BlockMemory {
    /// Rewrites a filled record. Once: a record says what was done to it.
    pub(super) fn rewrite(&self, record: Record, vnet: bool, vlan: bool) {
        let Ok(filled) = record.filled(record.status(), self.length) else { return };
        if vnet {
            filled.keep_vnet();
        }
        if vlan {
            filled.restore_vlan();
        }
    }

    /// The vnet header of the record a cookie names; `None`: it has none.
    ///
    /// # Errors
    /// The cookie names no record of this block.
    pub fn vnet(&self, first: u32, cookie: u64) -> Result<Option<Vnet>, Corrupt> {
        let record = self.named(first, cookie)?;
        Ok((record.status() & status::VNET != 0).then(|| Vnet {
            flags: record.get(VNET),
            gso_type: record.get(VNET_GSO_TYPE),
            hdr_len: record.get(VNET_HDR_LEN),
            gso_size: record.get(TP_GSO_SIZE),
            csum_start: record.get(VNET_CSUM_START),
            csum_offset: record.get(VNET_CSUM_START.wrapping_add(2)),
        }))
    }
}

impl Filled {
    /// Copies the vnet header from before the packet into the record.
    fn keep_vnet(&self) {
        let Some(at) = self.mac.checked_sub(VNET_HEADER).filter(|at| *at >= HEADER) else { return };
        if self.status & status::VNET == 0 {
            self.record.put(VNET, self.get::<{ VNET_HEADER as usize }>(at));
            self.record.set_status(!0, status::VNET);
        }
    }

    /// Puts the VLAN tag back behind the addresses, which move into the room before
    /// the packet.
    fn restore_vlan(&self) {
        let record = self.record;
        let room = self.mac.checked_sub(TAG).filter(|mac| *mac >= HEADER);
        let (Some(mac), true) = (room, self.has_tag()) else { return };
        let tpid = match self.status & status::VLAN_TPID_VALID {
            0 => ETHERTYPE_VLAN,
            _ => record.get(TP_VLAN_TPID),
        };
        let tci = record.get::<u16>(TP_VLAN_TCI.wrapping_add(LOW_HALF));
        let addresses = self.get::<{ ADDRESSES as usize }>(self.mac);
        self.record.put(mac.into(), addresses);
        let [tag, value] = [tpid, tci].map(u16::to_be_bytes);
        // In front of what was the EtherType, where the addresses ended before.
        let behind = u32::from(mac).wrapping_add(ADDRESSES.into());
        record.put(behind, [tag[0], tag[1], value[0], value[1]]);

        record.put(TP_MAC, mac);
        // The end of the packet stays where it was: no more than a block.
        record.put(TP_SNAPLEN, self.caplen.wrapping_add(TAG.into()));
        record.put(TP_LEN, record.field(TP_LEN).saturating_add(TAG.into()));
        record.put(TP_VLAN_TCI, 0_u32);
        record.put(TP_VLAN_TPID, 0_u16);
        let before = record.set_status(!(status::VLAN_VALID | status::VLAN_TPID_VALID), 0);
        if before & status::VNET != 0 {
            let longer = |field: u32| {
                record.put(field, record.get::<u16>(field).saturating_add(TAG));
            };
            if record.get::<u8>(VNET) & NEEDS_CSUM != 0 {
                longer(VNET_CSUM_START);
            }
            if record.get::<u8>(VNET_GSO_TYPE) != 0 {
                longer(VNET_HDR_LEN);
            }
        }
    }

    fn has_tag(&self) -> bool {
        self.status & status::VLAN_VALID != 0
            && self.caplen >= ADDRESSES.into()
            && self.record.link_type() == NETRING_LINKTYPE_ETHERNET
    }

    /// Bytes before or of the packet, at most 12 from its start.
    fn get<const N: usize>(&self, offset: u16) -> [u8; N] {
        self.record.get(offset.into())
    }
}

impl Record {
    /// Writes a field of the header, or bytes before the packet.
    pub(super) fn put<T: Copy>(&self, field: u32, value: T) {
        // SAFETY: in the header, or behind it and, by `filled`, in the block.
        let at = unsafe { self.at.add(field as usize) };
        // SAFETY: mapped and aligned as `get` says; arrays of bytes may lie anywhere.
        unsafe { at.cast::<T>().write_volatile(value) };
    }

    /// Keeps and sets bits of the status; what it was.
    pub(super) fn set_status(&self, keep: u32, set: u32) -> u32 {
        // SAFETY: inside the record's header.
        let at = unsafe { self.at.add(TP_STATUS as usize) };
        // SAFETY: mapped and aligned to 4; atomics may be shared with the kernel.
        let word = unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) };
        let before = word.fetch_and(keep, Ordering::Relaxed);
        word.fetch_or(set, Ordering::Relaxed);
        before
    }
}
