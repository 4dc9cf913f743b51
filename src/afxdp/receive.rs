//! The receiving side of a queue: the receive ring, the fill ring, and who has which
//! frame.
//!
//! A frame is with the kernel (in the fill ring, in the device, or in the receive ring),
//! in a block, or on its way out of another queue (`forward`). A block is one [`Pass`] over
//! the receive ring, which has its room back at once. The last release of the block puts
//! its frames into the fill ring, which holds all of them at once and never overflows.

use super::lease::Lease;
use super::pass::Pass;
use super::reminder::Reminder;
use super::rings::{Consumer, Producer};
use super::transmit::Transmit;
use super::umem::{Frames, Umem};
use crate::block::Segments;
use crate::packet::Packet;
use crate::sys::clock;
use crate::sys::epoll::Epoll;
use crate::sys::socket::Socket;
use crate::sys::timer::Timer;
use crate::sys::xdp::{CONTINUED, Descriptor};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What packets of a queue have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The interface.
    pub(super) ifindex: u32,
    /// The queue.
    pub(super) queue: u16,
    /// Packets of several pieces become one.
    pub(super) linear: bool,
    /// There are packets of several pieces.
    pub(super) pieces: bool,
    /// The program writes in front of packets what the driver knows of them.
    pub(super) metadata: bool,
    /// The device is polled by who looks for packets.
    pub(super) busy_poll: bool,
}

/// Numbers of the receiving side, all of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReceiveCounters {
    /// Packets in blocks handed out.
    pub(super) delivered: u64,
    /// Blocks handed out.
    pub(super) blocks: u64,
    /// Descriptors that named no frame of ours.
    pub(super) strange: u64,
    /// Kicks made.
    pub(super) kicks: u64,
    /// Kicks that the driver did not want.
    pub(super) kicks_saved: u64,
    /// Gauge: packets in the ring, whole ones.
    pub(super) pending: u64,
    /// Gauge: frames with the kernel.
    pub(super) with_kernel: u32,
    /// Gauge: frames in blocks.
    pub(super) held: u64,
    /// Gauge: frames on their way out of another queue, or this one.
    pub(super) abroad: u64,
    /// Gauge: blocks that are held.
    pub(super) blocks_held: u64,
    /// When the oldest of them was handed out, CLOCK_MONOTONIC_COARSE.
    pub(super) oldest: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Receive {
    frames: Frames,
    origin: Origin,
    kernel: Mutex<Option<Kernel>>,
    /// Frames on their way out of another queue, or this one.
    abroad: AtomicU64,
    /// The sending sides that they have gone to.
    ways_out: Mutex<Vec<Weak<Mutex<Transmit>>>>,
}

/// What there is while the socket is open.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: Arc<Socket>,
    pub(super) ring: Consumer<Descriptor>,
    fill: Producer<u64>,
    /// Which frames the kernel has, by their place.
    has: Box<[bool]>,
    /// How many.
    count: u32,
    /// Blocks that were handed out, and not released.
    out: Out,
    /// Frames that come back some time after the queue that was to send them has ended.
    late: Vec<(Duration, Vec<u32>)>,
    reminder: Reminder,
    /// What of these is counted.
    counters: ReceiveCounters,
}

/// Since when blocks are held.
#[derive(Debug, Default)]
struct Out {
    since: Vec<Option<Duration>>,
    free: Vec<u32>,
}

impl Out {
    /// Notes a block; its place.
    fn add(&mut self, since: Duration) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.since.push(None);
            self.since.len() as u32 - 1
        });
        if let Some(one) = self.since.get_mut(place as usize) {
            *one = Some(since);
        }
        place
    }

    fn remove(&mut self, place: u32) {
        if self.since.get_mut(place as usize).and_then(Option::take).is_some() {
            self.free.push(place);
        }
    }

    fn count(&self) -> u64 {
        (self.since.len() - self.free.len()) as u64
    }

    fn oldest(&self) -> Option<Duration> {
        self.since.iter().flatten().min().copied()
    }
}

/// What was taken out of the ring for one block.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) packets: Vec<Packet>,
    pub(super) segments: Segments,
    pub(super) lease: Lease,
    pub(super) sequence: u64,
    /// When that was, CLOCK_REALTIME.
    pub(super) time_ns: u64,
}

impl Kernel {
    /// Gives the kernel a frame. The fill ring has room for all there are.
    #[inline]
    pub(super) fn give(&mut self, frames: &Frames, frame: u32) {
        let Some(has) = frames.place(frame).and_then(|place| self.has.get_mut(place)) else {
            return;
        };
        // Twice would have two packets in one frame.
        if !std::mem::replace(has, true) {
            self.fill.push(frames.umem.address(frame));
            self.count += 1;
        }
    }

    /// Takes note that the frame at a place has come back with a packet; false: the kernel
    /// did not have it, or it is none of the queue's.
    #[inline]
    pub(super) fn take(&mut self, place: usize) -> bool {
        let had = self.has.get_mut(place).is_some_and(std::mem::take);
        self.count -= u32::from(had);
        had
    }

    /// Lets the kernel see what it was given, and the driver too where it waits for that.
    fn submit(&mut self) {
        if self.fill.submit() == 0 {
            return;
        }
        if self.fill.needs_wakeup() {
            self.kick();
        } else {
            self.counters.kicks_saved += 1;
        }
    }

    fn kick(&mut self) {
        self.counters.kicks += 1;
        // Down or gone: there is nothing to be had from it then.
        let _ = self.socket.kick_receive();
    }
}

/// Puts every frame into the fill ring, before the socket is bound: a driver with zero copy
/// takes frames at the bind, and without any drops what comes until it is kicked.
pub(super) fn fill_up(frames: &Frames, fill: &mut Producer<u64>) {
    frames.range.clone().for_each(|frame| fill.push(frames.umem.address(frame)));
    fill.submit();
}

impl Receive {
    /// With every frame in the fill ring ([`fill_up`]).
    pub(super) fn new(
        frames: Frames,
        origin: Origin,
        socket: Arc<Socket>,
        ring: Consumer<Descriptor>,
        fill: Producer<u64>,
        timer: Timer,
    ) -> Self {
        let kernel = Kernel {
            socket,
            ring,
            fill,
            has: vec![true; frames.count() as usize].into_boxed_slice(),
            count: frames.count(),
            out: Out::default(),
            late: Vec::new(),
            reminder: Reminder::new(timer),
            counters: ReceiveCounters::default(),
        };
        Self {
            frames,
            origin,
            kernel: Mutex::new(Some(kernel)),
            abroad: AtomicU64::new(0),
            ways_out: Mutex::default(),
        }
    }

    /// Frames of it, all in all.
    pub(super) fn frame_count(&self) -> u32 {
        self.frames.count()
    }

    /// The place of a frame among them, if it is one.
    pub(super) fn place(&self, frame: u32) -> Option<usize> {
        self.frames.place(frame)
    }

    /// The frame at a place.
    pub(super) fn frame(&self, place: usize) -> u32 {
        self.frames.range.start.wrapping_add(place as u32)
    }

    /// The memory that its frames are in.
    pub(super) fn umem(&self) -> &Arc<Umem> {
        &self.frames.umem
    }

    /// Its numbers.
    pub(super) fn counters(&self) -> ReceiveCounters {
        let mut guard = self.kernel.lock();
        let Some(kernel) = guard.as_mut() else { return ReceiveCounters::default() };
        self.take_late(kernel);
        let abroad = self.abroad.load(Ordering::Relaxed);
        ReceiveCounters {
            pending: self.pending(kernel),
            with_kernel: kernel.count,
            held: u64::from(self.frames.count() - kernel.count).saturating_sub(abroad),
            abroad,
            blocks_held: kernel.out.count(),
            oldest: kernel.out.oldest(),
            ..kernel.counters
        }
    }

    fn pending(&self, kernel: &mut Kernel) -> u64 {
        let there = kernel.ring.available(u32::MAX);
        if self.origin.pieces {
            let last = |at: &u32| kernel.ring.peek(*at).options & CONTINUED == 0;
            (0..there).filter(last).count() as u64
        } else {
            there.into()
        }
    }

    /// Packets that are there, or pieces of them, as far as `most`.
    pub(super) fn available(&self, most: u32) -> u32 {
        self.kernel.lock().as_mut().map_or(0, |kernel| kernel.ring.available(most).min(most))
    }

    /// Whether a packet is there.
    pub(super) fn has_any(&self) -> bool {
        self.kernel.lock().as_ref().is_some_and(|kernel| kernel.ring.has_any())
    }

    /// Where the ring ends now: what a stop hands out.
    pub(super) fn end(&self) -> u32 {
        self.kernel.lock().as_ref().map_or(0, |kernel| kernel.ring.filled())
    }

    /// Whether everything before that place was taken.
    pub(super) fn is_behind(&self, end: u32) -> bool {
        self.kernel
            .lock()
            .as_ref()
            .is_none_or(|kernel| (end.wrapping_sub(kernel.ring.taken()) as i32) <= 0)
    }

    /// Has the driver look at the fill ring where it waits for that.
    pub(super) fn kick(&self) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            if kernel.fill.needs_wakeup() {
                kernel.kick();
            }
        }
    }

    /// The next packets, `most` at most. `None`: none is there, and the driver was asked for
    /// some where it waits for that.
    pub(super) fn take(self: &Arc<Self>, most: u32) -> Option<Taken> {
        let mut guard = self.kernel.lock();
        let kernel = guard.as_mut()?;
        self.take_late(kernel);
        let taken = self.pass(kernel, most);
        if self.abroad.load(Ordering::Relaxed) != 0 || kernel.reminder.is_set() {
            self.remind(kernel);
        }
        if taken.is_none() && (self.origin.busy_poll || kernel.fill.needs_wakeup()) {
            kernel.kick();
        }
        taken
    }

    fn pass(self: &Arc<Self>, kernel: &mut Kernel, most: u32) -> Option<Taken> {
        loop {
            let available = kernel.ring.available(most);
            if available == 0 {
                return None;
            }
            let time_ns = clock::nanoseconds(clock::realtime());
            let mut pass = Pass::new(&self.frames, self.origin, available.min(most), time_ns);
            let used = pass.run(kernel, available, most);
            if used == 0 {
                // The rest of a packet is not there yet.
                return None;
            }
            kernel.ring.release(used);
            kernel.counters.strange += pass.strange;
            // Frames of what was no packet.
            kernel.submit();
            if pass.packets.is_empty() {
                continue;
            }
            kernel.counters.delivered += pass.packets.len() as u64;
            kernel.counters.blocks += 1;
            let lease = Lease {
                receive: Arc::clone(self),
                place: kernel.out.add(clock::monotonic_coarse()),
                frames: pass.taken,
                starts: pass.starts.map(Vec::into_boxed_slice),
                _joined: pass.joined,
            };
            let sequence = kernel.counters.blocks;
            let (packets, segments) = (pass.packets, pass.segments);
            return Some(Taken { packets, segments, lease, sequence, time_ns });
        }
    }

    /// Takes back the block at that place, and the frames that are still its own.
    pub(super) fn released(&self, place: u32, frames: impl Iterator<Item = u32>) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            kernel.out.remove(place);
            frames.for_each(|frame| kernel.give(&self.frames, frame));
            kernel.submit();
        }
    }

    /// A frame leaves a block for another queue.
    pub(super) fn leaves(&self) {
        self.abroad.fetch_add(1, Ordering::Relaxed);
    }

    /// Some of its frames are on their way out there.
    pub(super) fn leaves_by(&self, way: &Arc<Mutex<Transmit>>) {
        let mut ways = self.ways_out.lock();
        if !ways.iter().any(|known| known.as_ptr() == Arc::as_ptr(way)) {
            ways.retain(|known| known.strong_count() != 0);
            ways.push(Arc::downgrade(way));
        }
        drop(ways);
        if let Some(kernel) = self.kernel.lock().as_mut() {
            self.remind(kernel);
        }
    }

    /// Has `epoll` report that frames which were away may be back.
    pub(super) fn watch_home(&self, epoll: &Epoll, key: u64) -> crate::sys::Result<()> {
        let kernel = self.kernel.lock();
        kernel.as_ref().map_or(Ok(()), |kernel| kernel.reminder.watch(epoll, key))
    }

    /// Whether more frames are away than the kernel has: it may have too few for a packet.
    fn is_short(&self, kernel: &Kernel) -> bool {
        u64::from(kernel.count) < self.abroad.load(Ordering::Relaxed)
    }

    /// Fetches frames that are away and were sent, where they are missed; with `all` in any
    /// case, and from a queue that is at work, too.
    #[inline]
    pub(super) fn fetch(&self, all: bool) {
        if self.abroad.load(Ordering::Relaxed) != 0 {
            self.fetch_some(all);
        }
    }

    #[cold]
    fn fetch_some(&self, all: bool) {
        if !all && !self.kernel.lock().as_ref().is_some_and(|kernel| self.is_short(kernel)) {
            return;
        }
        let ways: Vec<_> = self.ways_out.lock().iter().filter_map(Weak::upgrade).collect();
        for way in ways {
            // One that is locked looks by itself, or is looked at again soon.
            let transmit = if all { Some(way.lock()) } else { way.try_lock() };
            if let Some(mut transmit) = transmit {
                transmit.fetch();
            }
        }
    }

    /// Sees to it that a wait ends when frames that are away may be back, where few are left.
    fn remind(&self, kernel: &mut Kernel) {
        let away = self.abroad.load(Ordering::Relaxed);
        if !self.is_short(kernel) {
            return kernel.reminder.clear();
        }
        let now = clock::monotonic();
        let late = kernel.late.iter().fold(0, |sum, (_, frames)| sum + frames.len() as u64);
        if away > late {
            kernel.reminder.soon(away, now);
        } else if let Some(first) = kernel.late.iter().map(|(from, _)| *from).min() {
            kernel.reminder.by(first, now);
        }
    }

    /// Takes back frames that were forwarded, and are sent.
    pub(super) fn came_home(&self, frames: &[u32]) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            self.abroad.fetch_sub(frames.len() as u64, Ordering::Relaxed);
            kernel.reminder.forget();
            frames.iter().for_each(|frame| kernel.give(&self.frames, *frame));
            kernel.submit();
        }
    }

    /// The same from then on: the device may still read them.
    pub(super) fn comes_home(&self, frames: Vec<u32>, from: Duration) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            kernel.late.push((from, frames));
            self.remind(kernel);
        }
    }

    /// Takes back those of which it is certain by now.
    #[inline]
    fn take_late(&self, kernel: &mut Kernel) {
        if !kernel.late.is_empty() {
            self.look_at_late(kernel);
        }
    }

    #[cold]
    fn look_at_late(&self, kernel: &mut Kernel) {
        let now = clock::monotonic();
        let (back, late) =
            std::mem::take(&mut kernel.late).into_iter().partition(|(from, _)| *from <= now);
        kernel.late = late;
        let back: Vec<(Duration, Vec<u32>)> = back;
        for frame in back.into_iter().flat_map(|(_, frames)| frames) {
            self.abroad.fetch_sub(1, Ordering::Relaxed);
            kernel.give(&self.frames, frame);
        }
        kernel.submit();
    }

    /// The socket ends: nothing goes back to the kernel any more.
    pub(super) fn close(&self) {
        let kernel = self.kernel.lock().take();
        drop(kernel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_blocks_are_counted_and_the_oldest_is_known() {
        let mut out = Out::default();
        assert_eq!((out.count(), out.oldest()), (0, None));
        let ms = Duration::from_millis;
        let places: Vec<u32> = [5, 3, 9].into_iter().map(|since| out.add(ms(since))).collect();
        assert_eq!((out.count(), out.oldest()), (3, Some(ms(3))));
        out.remove(places[1]);
        out.remove(places[1]);
        out.remove(77);
        assert_eq!((out.count(), out.oldest()), (2, Some(ms(5))));
        // A place is used again.
        assert_eq!(out.add(ms(10)), places[1]);
        assert_eq!(out.since.len(), 3);
        places.iter().for_each(|place| out.remove(*place));
        assert_eq!((out.count(), out.oldest()), (0, None));
    }
}
