//! What the program has written in front of a received packet.

use super::pass::Piece;
use crate::filter::translate::beside::{Front, LENGTH, Told};

/// Reads it, for a packet that nobody has yet.
pub(super) fn told(first: Piece) -> Option<Told> {
    // SAFETY: in a frame that the kernel is done with, which `Pass::piece` has checked.
    unsafe { take(first.data, first.inside) }
}

/// Reads it, and takes the mark away: the frame is used again, and the next packet in it
/// may have nothing in front. `inside`: bytes of the frame before `data`; with too few
/// there is nothing.
///
/// # Safety
/// `data` is `inside` bytes into a frame that the kernel is done with and nobody else has
/// yet.
unsafe fn take(data: *mut u8, inside: u32) -> Option<Told> {
    if (inside as usize) < LENGTH {
        return None;
    }
    let place = data.wrapping_sub(LENGTH).cast::<Front>();
    // SAFETY: in the frame, the caller's promise; any bytes are one.
    let front = unsafe { place.read_unaligned() };
    let told = front.told()?;
    // SAFETY: as above.
    unsafe { place.write_unaligned(Front { magic: 0, ..front }) };
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::translate::beside::{HASH, MAGIC};

    #[test]
    fn once() {
        let front =
            Front { time: 0, hash: 5, hash_type: 0, tpid: 0, tci: 0, valid: HASH, magic: MAGIC };
        let mut frame = [front, front, front];
        let data = frame.as_mut_ptr().cast::<u8>().wrapping_add(33);
        let take = |inside| {
            // SAFETY: within the frame.
            unsafe { take(data, inside) }
        };
        // It lies across two of them.
        assert_eq!(take(33), None);
        // SAFETY: within the frame.
        unsafe { data.wrapping_sub(LENGTH).cast::<Front>().write_unaligned(front) };
        assert_eq!(take(31), None);
        assert_eq!(take(32).unwrap().hash, Some(5));
        assert_eq!(take(32), None);
    }
}
