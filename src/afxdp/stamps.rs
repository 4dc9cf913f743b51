//! What the device is asked to do for a frame, and when it sent it: metadata in front of
//! the frame (struct xsk_tx_metadata, linux/if_xdp.h; Linux 6.11).
//!
//! The request (a checksum to be filled in, a timestamp) and the answer share memory: the
//! kernel writes the time over the request when it is done with the frame. Without zero
//! copy the time is CLOCK_TAI (net/xdp/xsk.c xsk_tx_metadata_ops users), with it the
//! device's own.

use super::umem::Umem;
use crate::afpacket::injector::Timestamp;
use crate::afpacket::record::rewrite::Vnet;
use crate::error::{Error, Result};
use crate::sys::clock;
use crate::sys::xdp::metadata;
use std::collections::VecDeque;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM, as an injector's slots say it.
const NEEDS_CSUM: u8 = 1;
/// No time is as early: what is left of a request is less.
const EARLIEST: u64 = 1_000_000_000_000_000;

/// What the device can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abilities {
    /// To fill in checksums.
    pub(super) checksums: bool,
    /// To say when.
    pub(super) timestamps: bool,
    /// The times are the kernel's, of CLOCK_TAI.
    pub(super) by_kernel: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stamps {
    abilities: Abilities,
    /// The cookie of the frame at each place, while a time is to come.
    cookies: Box<[u64]>,
    told: VecDeque<Timestamp>,
    most: usize,
    /// Frames without a time, and times that nobody fetched.
    pub(super) lost: u64,
}

impl Stamps {
    pub(super) fn new(abilities: Abilities, frames: usize, most: usize) -> Self {
        let cookies = vec![0; frames].into_boxed_slice();
        Self { abilities, cookies, told: VecDeque::new(), most, lost: 0 }
    }

    /// Writes what is asked for in front of the frame of `length` bytes at `offset`, the
    /// slot's.
    ///
    /// # Errors
    /// `Config`: the device cannot, or the fields are wrong.
    pub(super) fn ask(
        &mut self,
        umem: &Umem,
        (place, offset): (usize, u64),
        (cookie, length): (u64, u32),
        vnet: Vnet,
    ) -> Result<()> {
        let wrong = |words: String| Err(Error::config("vnet", words));
        let (start, at) = (vnet.csum_start, vnet.csum_offset);
        let wants = vnet.flags & NEEDS_CSUM != 0;
        if vnet.flags & !NEEDS_CSUM != 0 || vnet.gso_type != 0 || vnet.gso_size != 0 {
            return wrong("a queue's slot can ask for a checksum only (vnet_flags 1)".to_string());
        }
        if wants && !self.abilities.checksums {
            return wrong("the device does not fill in checksums with zero copy".to_string());
        }
        if wants && u32::from(start) + u32::from(at) + 2 > length {
            return wrong(format!(
                "csum_start {start} and csum_offset {at} lie behind the end, frame of {length} bytes"
            ));
        }
        let mut request = metadata::Request::default();
        if wants {
            request.flags |= metadata::CHECKSUM;
            (request.checksum_start, request.checksum_offset) = (start, at);
        }
        if self.abilities.timestamps {
            request.flags |= metadata::TIMESTAMP;
            if let Some(slot) = self.cookies.get_mut(place) {
                *slot = cookie;
            }
        }
        umem.ask(offset, request);
        Ok(())
    }

    /// The frame at that place is not sent, or nobody knows whether it was.
    pub(super) fn forget(&mut self, cookie: u64) {
        if let Some(slot) = self.cookies.iter_mut().find(|slot| **slot == cookie) {
            *slot = 0;
            self.lost += 1;
        }
    }

    /// The kernel is done with the frame at that place: takes the time.
    pub(super) fn take(&mut self, umem: &Umem, place: usize, offset: u64) {
        let Some(slot) = self.cookies.get_mut(place) else { return };
        let cookie = std::mem::take(slot);
        if cookie == 0 {
            return;
        }
        let time = umem.answer(offset);
        if time < EARLIEST {
            self.lost += 1;
            return;
        }
        let ahead = if self.abilities.by_kernel { clock::tai_ahead() } else { 0 };
        if self.told.len() == self.most {
            self.told.pop_front();
            self.lost += 1;
        }
        self.told.push_back(Timestamp { cookie, time_ns: time.saturating_sub(ahead) });
    }

    /// The oldest that were not fetched, up to `count`.
    pub(super) fn fetch(&mut self, count: usize, mut each: impl FnMut(usize, Timestamp)) -> usize {
        let count = count.min(self.told.len());
        for (at, stamp) in self.told.drain(..count).enumerate() {
            each(at, stamp);
        }
        count
    }

    /// They are those of a clock of the device's.
    pub(super) fn are_the_devices(&self) -> bool {
        !self.abilities.by_kernel
    }
}
