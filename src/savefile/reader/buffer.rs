//! What was read of a savefile and not yet used up, with its place in the file.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::indexing_slicing
    )
)]

use crate::error::{Error, Kind, Result};
use crate::sys::Errno;
use crate::sys::input::Input;

/// Bytes asked for at a time.
const PIECE: usize = 256 << 10;

/// Whether enough is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Have {
    /// Yes.
    Enough,
    /// Not yet: the input would have to be waited for.
    NotYet,
    /// Never: the file ends after so many.
    Only(usize),
}

/// See the module. As large as what has arrived of the largest piece that was
/// asked for, never as large as what a file merely claims.
#[derive(Debug)]
pub struct Buffer {
    input: Input,
    /// The input may have to be waited for: a pipe.
    waits: bool,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of `start` in the file.
    offset: u64,
    ended: bool,
}

impl Buffer {
    /// Nothing was read yet.
    pub fn new(input: Input, waits: bool) -> Self {
        Self { input, waits, bytes: Vec::new(), start: 0, end: 0, offset: 0, ended: false }
    }

    /// What is read from.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Place in the file of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or(&[])
    }

    /// Uses `count` bytes up, or as many as are there; how many.
    pub fn consume(&mut self, count: usize) -> usize {
        let count = count.min(self.end.saturating_sub(self.start));
        self.start = self.start.saturating_add(count);
        self.offset = self.offset.saturating_add(count as u64);
        count
    }

    /// Reads until `count` bytes are there.
    ///
    /// # Errors
    /// `Io`: the kernel's refusal to read.
    pub fn need(&mut self, count: usize) -> Result<Have> {
        loop {
            let available = self.end.saturating_sub(self.start);
            if available >= count {
                return Ok(Have::Enough);
            }
            if self.ended {
                return Ok(Have::Only(available));
            }
            self.make_room(available);
            let into = self.bytes.get_mut(self.end..).unwrap_or(&mut []);
            let got = if self.waits {
                self.input.read_now(into)
            } else {
                self.input.read(into).map(Some)
            };
            match got {
                Ok(None) => return Ok(Have::NotYet),
                Ok(Some(0)) => self.ended = true,
                Ok(Some(got)) => self.end = self.end.saturating_add(got),
                Err(errno) => return Err(self.read_failed(errno)),
            }
        }
    }

    /// Moves what is there to the front, and makes the buffer larger where that
    /// fills it: twice as large as what has arrived.
    fn make_room(&mut self, available: usize) {
        if self.start != 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = available;
        }
        let room = available.saturating_mul(2).max(PIECE);
        if self.bytes.len() < room && self.bytes.len().saturating_sub(available) < PIECE / 2 {
            self.bytes.resize(room, 0);
        } else if self.bytes.len() > PIECE && available < PIECE / 2 {
            // What one large packet needed is not kept for ever.
            self.bytes.truncate(PIECE);
            self.bytes.shrink_to_fit();
        }
    }

    fn read_failed(&self, errno: Errno) -> Error {
        let at = self.offset.saturating_add(self.bytes().len() as u64);
        Error::new(Kind::Io, "read", format!("byte {at}: reading failed: {errno}")).with_os(errno.0)
    }
}
