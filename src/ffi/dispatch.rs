//! Packets one by one, and in arrays to a callback: the slower ways, the same for
//! captures and queues.

use crate::afpacket::capture::{Capture, Current, Deadline, InCurrent};
use crate::afxdp::queue::Queue;
use crate::block::Block;
use crate::error::{Error, Kind, Result};
use crate::ffi::block::{check_packets, read_packets};
use crate::ffi::capture::netring_packets_callback;
use crate::ffi::guard::{guard, guard_with};
use crate::ffi::handle::Table;
use crate::packet::netring_packet;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Packets of one call of a callback: more would evict from the cache what was
/// just brought in.
const BATCH: usize = 64;

/// What blocks come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// The block that the slower ways are in.
    fn current(&self) -> &Arc<Current>;
    /// The next one.
    fn next_block(&self, timeout_ms: c_int) -> Result<Option<Arc<Block>>>;
    /// Ends one wait.
    fn wakeup(&self);
    /// Keeps a failure.
    fn note(&self, error: &Error);
}

macro_rules! source {
    ($kind:ty) => {
        impl Source for $kind {
            #[inline]
            fn current(&self) -> &Arc<Current> {
                self.current()
            }

            fn next_block(&self, timeout_ms: c_int) -> Result<Option<Arc<Block>>> {
                self.next_block(timeout_ms)
            }

            fn wakeup(&self) {
                self.wakeup();
            }

            fn note(&self, error: &Error) {
                self.note(error);
            }
        }
    };
}

source!(Capture);
source!(Queue);

/// The next packet of the current block, or of the next one with any.
///
/// # Safety
/// `out` is writable for `size` bytes.
#[inline(always)]
pub(crate) unsafe fn next_packet(
    shared: &Current,
    next_block: impl Fn(c_int) -> Result<Option<Arc<Block>>>,
    timeout_ms: c_int,
    out: *mut netring_packet,
    size: usize,
) -> Result<c_int> {
    check_packets(out, "out", size)?;
    let mut current = shared.enter()?;
    let mut deadline = None;
    loop {
        if let Some(block) = current.get() {
            // SAFETY: one element, writable by the caller's promise.
            match unsafe { read_packets(block, out, size, 1) } {
                Ok(1) => return Ok(1),
                Ok(_) => {}
                Err(error) => {
                    // Given up: the caller has no handle to release it.
                    current.replace(None);
                    return Err(error);
                }
            }
        }
        current.replace(None);
        // Only now: most calls never look at the clock.
        let deadline = deadline.get_or_insert_with(|| Deadline::after(timeout_ms));
        match next_block(deadline.left_ms(-1))? {
            Some(block) => current.replace(Some(block)),
            None => return Ok(0),
        }
    }
}

/// Hands packets to a callback; see netring_capture_dispatch.
///
/// # Safety
/// `callback` is callable with `user`.
pub(crate) unsafe fn dispatch<T: Source, H>(
    table: &'static Table<T>,
    handle: *const H,
    timeout_ms: c_int,
    max_packets: u32,
    callback: netring_packets_callback,
    user: *mut c_void,
) -> c_int {
    // The handle is pinned only while a block is taken: a close from the
    // callback must not wait for the callback.
    let shared = match table.pin(handle) {
        Ok(source) => Arc::clone(source.current()),
        Err(error) => return guard(|| Err(error)),
    };
    let call = || {
        let Some(callback) = callback else {
            return Err(Error::config("callback", "callback is NULL"));
        };
        let mut current = shared.enter()?;
        let most = if max_packets == 0 { c_int::MAX as u32 } else { max_packets };
        let most = most.min(c_int::MAX as u32) as usize;
        let mut done = 0_usize;
        let mut packets: Batch = [const { MaybeUninit::uninit() }; BATCH];
        let result = loop {
            let timeout_ms = if done == 0 { timeout_ms } else { 0 };
            let room = (most - done).min(BATCH);
            let one_block = done > 0 && max_packets == 0;
            let batch = &mut packets[..room];
            let count = match take_batch(table, handle, &mut current, timeout_ms, batch, one_block)
            {
                Ok(Some(count)) => count,
                Ok(None) => break Ok(done),
                // Reported by the next call, which meets it again.
                Err(error) if done > 0 => {
                    // A wakeup is gone once it was taken: it is put back.
                    if error.kind == Kind::Wakeup {
                        if let Ok(source) = table.pin(handle) {
                            source.wakeup();
                        }
                    }
                    break Ok(done);
                }
                Err(error) => {
                    // A damaged block is given up, or it would be met for ever.
                    current.replace(None);
                    break Err(error);
                }
            };
            done += count;
            let first = packets.as_ptr().cast::<netring_packet>();
            // SAFETY: `count` packets were filled; the callback's promise.
            let answer = unsafe { callback(user, first, count, size_of::<netring_packet>()) };
            if answer != 0 || done >= most || !current.is_ours() {
                break Ok(done);
            }
        };
        // Pinned until the lock is given back: a close then waits, and releases the block itself.
        let pinned = table.pin(handle);
        if pinned.is_err() {
            // Closed by the callback, or by another thread meanwhile.
            current.replace(None);
        }
        drop(current);
        drop(pinned);
        result.map(|done| done as c_int)
    };
    guard_with(call, |error| {
        if let Ok(source) = table.pin(handle) {
            if error.kind == Kind::Panic {
                source.poison();
            }
            source.note(error);
        }
    })
}

type Batch = [MaybeUninit<netring_packet>; BATCH];

/// The next packets of the current block, or of the next one unless only this
/// one is asked for; how many. `None`: nothing more for this dispatch.
fn take_batch<T: Source, H>(
    table: &'static Table<T>,
    handle: *const H,
    current: &mut InCurrent<'_>,
    timeout_ms: c_int,
    packets: &mut [MaybeUninit<netring_packet>],
    one_block: bool,
) -> Result<Option<usize>> {
    let deadline = Deadline::after(timeout_ms);
    loop {
        if let Some(block) = current.get() {
            let first = packets.as_mut_ptr().cast::<netring_packet>();
            // SAFETY: room for as many packets.
            let count = unsafe { block.read(first, size_of::<netring_packet>(), packets.len())? };
            if count > 0 {
                return Ok(Some(count));
            }
            current.replace(None);
            if one_block {
                return Ok(None);
            }
        }
        let source = table.pin(handle)?;
        match source.next_block(deadline.left_ms(-1))? {
            Some(block) => current.replace(Some(block)),
            None => return Ok(None),
        }
    }
}
