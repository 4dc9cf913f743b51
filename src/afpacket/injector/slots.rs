//! The slots of an injector, whatever the method.

use super::messages::Messages;
use super::ring::Ring;
use crate::afpacket::record::rewrite::Vnet;
use crate::sys::Errno;
use crate::sys::socket::Socket;
use std::ptr::NonNull;

/// ETH_P_8021Q.
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Why the kernel took no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It makes no packet of the next frame.
    Refused(Errno),
    /// It took no more; the next frame is as it was.
    Failed(Errno),
}

/// What one system call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handed {
    /// Frames that the kernel took.
    pub(super) taken: u32,
    /// Why it took no more, where there were more.
    pub(super) stop: Option<Stop>,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Slots {
    /// A ring shared with the kernel.
    Ring(Ring),
    /// Memory of ours.
    Messages(Messages),
}

impl Slots {
    /// How many; indices are below.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Ring(ring) => ring.count(),
            Self::Messages(messages) => messages.count(),
        }
    }

    /// The kernel does not mind which one is next while it has none.
    pub(super) fn are_anywhere(&self) -> bool {
        matches!(self, Self::Messages(_))
    }

    /// Where the frame goes.
    pub(super) fn data(&self, index: u32) -> NonNull<u8> {
        match self {
            Self::Ring(ring) => ring.data(index),
            Self::Messages(messages) => messages.data(index),
        }
    }

    /// Whether the frame of `len` bytes there has the VLAN tag inside that lets it be
    /// longer (af_packet.c packet_extra_vlan_len_allowed).
    pub(super) fn is_tagged(&self, index: u32, len: u32) -> bool {
        len >= 14 && ethertype(self.data(index)) == ETHERTYPE_VLAN
    }

    /// Says how long the frame is, and what is left to do for it.
    pub(super) fn put(&mut self, index: u32, len: u32, vnet: Vnet) {
        match self {
            Self::Ring(ring) => ring.put(index, len, vnet),
            Self::Messages(messages) => messages.put(index, len, vnet),
        }
    }

    /// Moves a frame of `len` bytes to another slot, whose own is not needed.
    pub(super) fn relocate(&mut self, from: u32, to: u32, len: u32) {
        match self {
            Self::Ring(ring) => ring.relocate(from, to, len),
            Self::Messages(messages) => messages.relocate(from, to),
        }
    }

    /// Gives a slot to the kernel, for the next system call.
    pub(super) fn request(&self, index: u32) {
        if let Self::Ring(ring) = self {
            ring.request(index);
        }
    }

    /// Takes a slot back that the kernel has not taken.
    pub(super) fn withdraw(&self, index: u32) {
        if let Self::Ring(ring) = self {
            ring.withdraw(index);
        }
    }

    /// With how many of `count` slots from `first` on, which it took, the kernel is done:
    /// those up to the first with which it is not.
    pub(super) fn done(&self, first: u32, count: u32) -> u32 {
        match self {
            Self::Ring(ring) => ring.done(first, count),
            Self::Messages(_) => count,
        }
    }

    /// Has the kernel take `count` slots from `first` on, which were requested.
    pub(super) fn hand_over(&mut self, socket: &Socket, first: u32, count: u32) -> Handed {
        match self {
            Self::Ring(ring) => ring.hand_over(socket, first, count),
            Self::Messages(messages) => messages.hand_over(socket, first, count),
        }
    }
}

/// The EtherType of a frame of at least 14 bytes.
fn ethertype(frame: NonNull<u8>) -> u16 {
    // SAFETY: bytes 12 and 13 of a slot's frame, which may be any.
    let kind = unsafe { frame.add(12) };
    // SAFETY: as above.
    u16::from_be_bytes(unsafe { kind.cast::<[u8; 2]>().read_volatile() })
}
