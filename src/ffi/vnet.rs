//! struct netring_vnet: checksum and segmentation of a packet.

use crate::afpacket::record::rewrite::Vnet;
use crate::block::Block;
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::guard::guard_handle;
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, writable_sized};
use std::ffi::c_int;

/// The checksum is to be computed from `csum_start` to the end, and put where
/// `csum_offset` says (VIRTIO_NET_HDR_F_NEEDS_CSUM).
pub const NETRING_VNET_NEEDS_CSUM: u8 = 0x1;
/// The checksum was verified (VIRTIO_NET_HDR_F_DATA_VALID).
pub const NETRING_VNET_DATA_VALID: u8 = 0x2;

/// What is left to do for a packet until it is as on the wire, or what was done:
/// struct virtio_net_hdr (linux/virtio_net.h), in host byte order.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_vnet {
    /// The size passed in.
    pub size: u32,
    /// NETRING_VNET_* bits.
    pub flags: u8,
    /// NETRING_GSO_*.
    pub gso_type: u8,
    /// Of a super-packet: bytes that the kernel has in one piece, all headers among
    /// them; a hint. Else 0.
    pub hdr_len: u16,
    /// Of a super-packet: bytes of payload in each segment. Else 0.
    pub gso_size: u16,
    /// With NETRING_VNET_NEEDS_CSUM: where the checksum begins, from the first byte
    /// of the packet. Else 0.
    pub csum_start: u16,
    /// With NETRING_VNET_NEEDS_CSUM: where it goes, from `csum_start`. Else 0.
    pub csum_offset: u16,
    /// 0.
    pub reserved: u16,
}

const _: () = assert!(size_of::<netring_vnet>() == 16);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_vnet {}

impl From<Vnet> for netring_vnet {
    fn from(vnet: Vnet) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            flags: vnet.flags,
            gso_type: vnet.gso_type,
            hdr_len: vnet.hdr_len,
            gso_size: vnet.gso_size,
            csum_start: vnet.csum_start,
            csum_offset: vnet.csum_offset,
            reserved: 0,
        }
    }
}

/// Writes the state of checksum and segmentation of the packet with this cookie
/// (netring_packet.cookie): as much of it as `size` bytes hold. Returns 1, or 0
/// and zeros where the packet has none: it lacks NETRING_PACKET_VNET, which a
/// capture with NETRING_CAPTURE_VNET_HEADER gives. netring_cursor_vnet
/// (netring_inline.h) does the same without a call.
///
/// Errors: NETRING_EBADF, not a block, or released. NETRING_EINVAL, `out` is NULL
/// or misaligned, `size` is less than 16 or more than 4096, or no packet of this
/// block has that cookie. MT-Safe. (af_packet.c, virtio_net_hdr_from_skb.)
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_block_vnet(
    block: *mut netring_block,
    cookie: u64,
    out: *mut netring_vnet,
    size: usize,
) -> c_int {
    let call = |block: &Block| {
        writable_sized(out, "out", size, SHORTEST)?;
        let vnet = block.vnet(cookie)?;
        let mut value = netring_vnet::from(vnet.unwrap_or_default());
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(vnet.is_some().into())
    };
    guard_handle(&BLOCKS, block, |block| call(block), |_, _| {})
}
