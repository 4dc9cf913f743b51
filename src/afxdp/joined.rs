//! A packet of several frames, in one piece.

use super::pass::Piece;
use std::cell::UnsafeCell;

/// Memory of its own, which the caller may write like a frame's.
#[derive(Debug)]
pub(super) struct Joined(Box<[UnsafeCell<u8>]>);

// SAFETY: bytes that are only reached through `data`, by whoever has the packet, as with
// those of a frame.
unsafe impl Sync for Joined {}

impl Joined {
    /// A copy of these pieces, one after the other.
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let mut bytes = Vec::new();
        for piece in pieces {
            // SAFETY: in a frame that the kernel is done with, which `Pass::piece` has checked.
            let piece = unsafe { std::slice::from_raw_parts(piece.data, piece.length as usize) };
            bytes.extend(piece.iter().map(|byte| UnsafeCell::new(*byte)));
        }
        Self(bytes.into_boxed_slice())
    }

    /// The first byte.
    pub(super) fn data(&self) -> *mut u8 {
        self.0.first().map_or(std::ptr::null_mut(), UnsafeCell::get)
    }
}
