//! The slots of a transmit ring (TPACKET_V2): the kernel reads the frames where the
//! caller wrote them.
//!
//! TPACKET_V3 has nothing for sending that V2 has not: its slots are of one size, too
//! (af_packet.c tpacket_parse_header refuses tp_next_offset).

use super::config::{Geometry, RING_HEADER, VNET_HEADER};
use super::slots::{Handed, Stop};
use crate::afpacket::record::rewrite::Vnet;
use crate::sys::Errno;
use crate::sys::mmap::Mapping;
use crate::sys::packet::transmit_status::{SEND_REQUEST, SENDING, WRONG_FORMAT};
use crate::sys::socket::Socket;
use crate::sys::transmit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// struct tpacket2_hdr: tp_status, tp_len, and for timestamps tp_sec, tp_nsec.
const TP_STATUS: usize = 0;
const TP_LEN: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where each slot begins.
    slots: Box<[NonNull<u8>]>,
    stride: u32,
    vnet: bool,
    /// From there to the frame.
    frame: usize,
    /// Holds the memory.
    _mapping: Mapping,
}

// SAFETY: the memory is the ring's own; it is written under the injector's lock, or
// by whoever has a slot.
unsafe impl Send for Ring {}

impl Ring {
    /// The ring of this geometry in `mapping`, which is exactly as long.
    pub(super) fn new(mapping: Mapping, geometry: &Geometry, vnet: bool) -> Self {
        let slot = |index| {
            let block = (index / geometry.per_block()) as usize * geometry.block_size as usize;
            let slot = (index % geometry.per_block()) as usize * geometry.stride as usize;
            // SAFETY: the slots' blocks lie in the mapping (`Geometry`).
            unsafe { mapping.base().add(block + slot) }
        };
        Self {
            slots: (0..geometry.ring_count()).map(slot).collect(),
            stride: geometry.stride,
            vnet,
            frame: (RING_HEADER + if vnet { VNET_HEADER } else { 0 }) as usize,
            _mapping: mapping,
        }
    }

    /// Slots.
    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    fn at(&self, index: u32, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.stride as usize);
        // SAFETY: inside the slot.
        unsafe { self.slots[index as usize].add(offset) }
    }

    fn status(&self, index: u32) -> &AtomicU32 {
        let status: NonNull<AtomicU32> = self.at(index, TP_STATUS).cast();
        // SAFETY: slots are aligned to 16, live as long as the mapping, and nobody
        // accesses a status otherwise than by atomic instructions.
        unsafe { status.as_ref() }
    }

    /// Where the frame goes.
    pub(super) fn data(&self, index: u32) -> NonNull<u8> {
        self.at(index, self.frame)
    }

    /// Says how long the frame is, and what is left to do for it.
    pub(super) fn put(&self, index: u32, len: u32, vnet: Vnet) {
        let mut whole = len;
        if self.vnet {
            whole += VNET_HEADER;
            let header: NonNull<Vnet> = self.at(index, RING_HEADER as usize).cast();
            // SAFETY: the 10 bytes before the frame, aligned to 2 (a Vnet has the layout
            // of struct virtio_net_hdr).
            unsafe { header.write(vnet) };
        }
        let tp_len: NonNull<u32> = self.at(index, TP_LEN).cast();
        // SAFETY: inside the slot's header, aligned.
        unsafe { tp_len.write(whole) };
    }

    /// Moves a frame to another slot, whose own content is not needed.
    pub(super) fn relocate(&self, from: u32, to: u32, len: u32) {
        let frame = self.frame;
        let (from, to) = (self.at(from, frame), self.at(to, frame));
        // SAFETY: `len` is at most a slot's capacity, and two slots do not overlap.
        unsafe { from.copy_to_nonoverlapping(to, len as usize) };
    }

    /// Gives a slot to the kernel; it looks there at the next kick.
    pub(super) fn request(&self, index: u32) {
        // After what the caller wrote.
        self.status(index).store(SEND_REQUEST, Ordering::Release);
    }

    /// Takes a slot back that the kernel has not taken.
    pub(super) fn withdraw(&self, index: u32) {
        self.status(index).store(0, Ordering::Relaxed);
    }

    /// With how many of `count` slots from `first` on, which it took, the kernel is done.
    /// (Above these bits it may note who stamped the frame.)
    pub(super) fn done(&self, first: u32, count: u32) -> u32 {
        let mut index = first;
        for done in 0..count {
            let status = self.status(index).load(Ordering::Acquire);
            if status & (SEND_REQUEST | SENDING | WRONG_FORMAT) != 0 {
                return done;
            }
            index += 1;
            if index == self.count() {
                index = 0;
            }
        }
        count
    }

    /// Has the kernel take `count` slots from `first` on, which were given to it. What
    /// it took, their states say; what it returns is the last one's error, if any.
    pub(super) fn hand_over(&self, socket: &Socket, first: u32, count: u32) -> Handed {
        let kicked = transmit::kick(socket);
        // The kernel takes them strictly in order: with the last, all.
        let last = first + count - 1;
        let last = if last >= self.count() { last - self.count() } else { last };
        if self.status(last).load(Ordering::Acquire) & (SEND_REQUEST | WRONG_FORMAT) == 0 {
            return Handed { taken: count, stop: None };
        }
        let mut index = first;
        for taken in 0..count {
            let status = self.status(index).load(Ordering::Acquire);
            if status & (SEND_REQUEST | WRONG_FORMAT) != 0 {
                let errno = kicked.err();
                let stop = match errno {
                    Some(errno) if status & WRONG_FORMAT != 0 => Stop::Refused(errno),
                    None if status & WRONG_FORMAT != 0 => Stop::Refused(Errno(libc::EINVAL)),
                    // After the first frame it does not say that the send buffer is full.
                    errno => Stop::Failed(errno.unwrap_or(Errno(libc::EAGAIN))),
                };
                return Handed { taken, stop: Some(stop) };
            }
            index += 1;
            if index == self.count() {
                index = 0;
            }
        }
        Handed { taken: count, stop: None }
    }
}
