//! The frames that the packets of a block lie in: the block's until its last release, but
//! for those that are forwarded.

use super::joined::Joined;
use super::receive::Receive;
use crate::block::{Block, FrameOwner};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// In a lease's word of a frame: it is not the block's any more.
const FORWARDED: u32 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) receive: Arc<Receive>,
    /// The block among those that are held.
    pub(super) place: u32,
    /// In the order of packets; `FORWARDED`: no more the block's.
    pub(super) frames: Vec<AtomicU32>,
    /// The first frame of each packet, where one has several.
    pub(super) starts: Option<Box<[u32]>>,
    /// What packets of several frames were copied to.
    pub(super) _joined: Vec<Joined>,
}

impl Lease {
    /// Where they came from.
    pub(super) fn receive(&self) -> &Arc<Receive> {
        &self.receive
    }

    /// The frames of a packet.
    fn of(&self, packet: u64) -> Option<&[AtomicU32]> {
        let packet = usize::try_from(packet).ok()?;
        let range = match &self.starts {
            None => packet..packet.checked_add(1)?,
            Some(starts) => {
                let next = starts.get(packet.checked_add(1)?);
                let end = next.map_or(self.frames.len(), |next| *next as usize);
                *starts.get(packet)? as usize..end
            }
        };
        self.frames.get(range)
    }

    /// The only frame of a packet that is still the block's.
    ///
    /// # Errors
    /// `Config`: it has several, or is not the block's any more.
    pub(super) fn only_frame(&self, packet: u64) -> Result<u32> {
        let frame = match self.of(packet) {
            Some([frame]) => frame.load(Ordering::Acquire),
            Some(_) => {
                return Err(Error::config(
                    "packets",
                    format!(
                        "packet {packet} of the block is in several frames, which forward does not \
                         take: send a copy"
                    ),
                ));
            }
            None => {
                return Err(Error::config(
                    "packets",
                    format!("cookie {packet:#x} names no packet of this block"),
                ));
            }
        };
        if frame & FORWARDED != 0 { Err(forwarded(packet)) } else { Ok(frame) }
    }

    /// Takes that frame out of the block.
    ///
    /// # Errors
    /// `Config`: somebody else has, just now.
    pub(super) fn forward(&self, packet: u64) -> Result<()> {
        let frame = self.of(packet).and_then(|frames| frames.first());
        let before = frame.map_or(FORWARDED, |frame| frame.fetch_or(FORWARDED, Ordering::AcqRel));
        if before & FORWARDED != 0 {
            return Err(forwarded(packet));
        }
        self.receive.leaves();
        Ok(())
    }
}

fn forwarded(packet: u64) -> Error {
    Error::config("packets", format!("packet {packet} of the block was forwarded before"))
}

impl FrameOwner for Lease {
    fn is_ours(&self) -> bool {
        self.receive.umem().is_ours()
    }

    fn give_back(&self, _block: &Block) {
        // The rings are not mapped in a child, which may be in a callback with the block.
        if !self.is_ours() {
            return;
        }
        let left = self.frames.iter().filter_map(|frame| {
            let frame = frame.load(Ordering::Acquire);
            (frame & FORWARDED == 0).then_some(frame)
        });
        self.receive.released(self.place, left);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
