//! The slot: a transmit buffer in the hands of user space, the same for every
//! backend; and the frame that is copied into one.

use crate::afpacket::record::rewrite::Vnet;

/// A transmit buffer, handed out by netring_injector_reserve: 40 bytes.
///
/// Write the frame at `data`, its bytes into `len`, and give the slot back with
/// netring_injector_commit. `data`, `capacity` and `cookie` are left as they are.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct netring_slot {
    /// Where the frame goes, from its link-layer header on. The caller's to read
    /// and write until the commit; what lies there before is not said.
    pub data: *mut u8,
    /// Bytes there.
    pub capacity: u32,
    /// Bytes of the frame, written by the caller; 0 (as reserved): none, the slot
    /// is given back unused.
    pub len: u32,
    /// Names the frame in results and timestamps. The first slot of an injector or a queue
    /// has 1, each further one, those of the copying calls and forwarded packets too, one
    /// more.
    pub cookie: u64,
    /// NETRING_VNET_NEEDS_CSUM, or 0. This and the next five are those of
    /// struct netring_vnet: written by the caller with NETRING_INJECTOR_VNET_HEADER, and 0
    /// (as reserved) without. Of a queue's slot those of the checksum may be, with
    /// NETRING_XDP_TX_METADATA.
    pub vnet_flags: u8,
    /// NETRING_GSO_*: the frame is a super-packet, to be cut by device or kernel.
    pub gso_type: u8,
    /// Of a super-packet: bytes of all headers; a hint, 0 is fine.
    pub hdr_len: u16,
    /// Of a super-packet: bytes of payload in each segment.
    pub gso_size: u16,
    /// With NETRING_VNET_NEEDS_CSUM: where the checksum begins.
    pub csum_start: u16,
    /// With NETRING_VNET_NEEDS_CSUM: where it goes, from `csum_start`.
    pub csum_offset: u16,
    /// 0.
    pub reserved: [u8; 6],
}

/// A frame to be copied by netring_injector_send_batch: 24 bytes.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct netring_frame {
    /// The frame, from its link-layer header on. Read during the call only.
    pub data: *const u8,
    /// Bytes there.
    pub len: u32,
    /// NETRING_VNET_NEEDS_CSUM, or 0; this and the next five as in struct
    /// netring_slot.
    pub vnet_flags: u8,
    /// NETRING_GSO_*.
    pub gso_type: u8,
    /// Bytes of all headers.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where the checksum begins.
    pub csum_start: u16,
    /// Where it goes, from `csum_start`.
    pub csum_offset: u16,
    /// 0.
    pub reserved: u16,
}

/// The core's words for them; the structs have their C names because the caller's
/// arrays are filled in place.
pub use netring_frame as Frame;
/// See [`Frame`].
pub use netring_slot as Slot;

const _: () = assert!(size_of::<Slot>() == 40);
const _: () = assert!(size_of::<Frame>() == 24);

impl Slot {
    /// All fields 0.
    pub(crate) const ZERO: Self = Self {
        data: std::ptr::null_mut(),
        capacity: 0,
        len: 0,
        cookie: 0,
        vnet_flags: 0,
        gso_type: 0,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
        reserved: [0; 6],
    };

    /// What is left to do for the frame.
    pub fn vnet(&self) -> Vnet {
        Vnet {
            flags: self.vnet_flags,
            gso_type: self.gso_type,
            hdr_len: self.hdr_len,
            gso_size: self.gso_size,
            csum_start: self.csum_start,
            csum_offset: self.csum_offset,
        }
    }

    /// Nothing is, and what is to be 0 is.
    pub fn is_plain(&self) -> bool {
        self.vnet() == Vnet::default() && self.reserved == [0; 6]
    }

    /// Says what is left to do for the frame.
    pub fn set_vnet(&mut self, vnet: Vnet) {
        self.vnet_flags = vnet.flags;
        self.gso_type = vnet.gso_type;
        self.hdr_len = vnet.hdr_len;
        self.gso_size = vnet.gso_size;
        self.csum_start = vnet.csum_start;
        self.csum_offset = vnet.csum_offset;
    }
}

impl Frame {
    /// What is left to do for it.
    pub fn vnet(&self) -> Vnet {
        Vnet {
            flags: self.vnet_flags,
            gso_type: self.gso_type,
            hdr_len: self.hdr_len,
            gso_size: self.gso_size,
            csum_start: self.csum_start,
            csum_offset: self.csum_offset,
        }
    }
}
