//! The receiving side of a queue: the receive ring, the fill ring, and who has which
//! frame.
//!
//! A frame is with the kernel (in the fill ring, in the device, or in the receive ring),
//! in a block, or on its way out of another queue (`forward`). A block is one pass over
//! the receive ring: each descriptor is checked and becomes a packet of the block's array,
//! and the ring has its room back at once. The last release of the block puts its frames
//! into the fill ring, which holds all of them at once and never overflows.

use super::front;
use super::joined::Joined;
use super::rings::{Consumer, Producer};
use super::umem::Frames;
use crate::block::{Block, FrameOwner, Segments};
use crate::error::{Error, Result};
use crate::packet::{
    NETRING_CLOCK_RAW_HARDWARE, NETRING_CLOCK_TAKEN, NETRING_LINKTYPE_ETHERNET,
    NETRING_PACKET_RXHASH, NETRING_PACKET_VLAN, NETRING_PACKET_VLAN_TPID, Packet,
};
use crate::sys::clock;
use crate::sys::socket::Socket;
use crate::sys::xdp::{CONTINUED, Descriptor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// In a lease's word of a frame: it is not the block's any more.
const FORWARDED: u32 = 1 << 31;
/// Most pieces of a packet: as many a packet can tell of (the kernel: MAX_SKB_FRAGS, 17,
/// and one).
const MOST_PIECES: u32 = 256;

/// What packets of a queue have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The interface.
    pub(super) ifindex: u32,
    /// The queue.
    pub(super) queue: u16,
    /// Packets of several pieces become one.
    pub(super) linear: bool,
    /// The program writes in front of packets what the driver knows of them.
    pub(super) metadata: bool,
}

/// Numbers of the receiving side; gauges are exact while nothing moves.
#[derive(Debug, Default)]
pub(super) struct ReceiveCounters {
    /// Packets in blocks handed out.
    pub(super) delivered: AtomicU64,
    /// Blocks handed out.
    pub(super) blocks: AtomicU64,
    /// Frames in blocks.
    pub(super) held: AtomicU64,
    /// Frames on their way out of another queue, or this one.
    pub(super) abroad: AtomicU64,
    /// Descriptors that named no frame of ours.
    pub(super) strange: AtomicU64,
    /// Kicks made.
    pub(super) kicks: AtomicU64,
    /// Kicks that the driver did not want.
    pub(super) kicks_saved: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Receive {
    frames: Frames,
    origin: Origin,
    kernel: Mutex<Option<Kernel>>,
    pub(super) counters: ReceiveCounters,
}

/// What there is while the socket is open.
#[derive(Debug)]
struct Kernel {
    socket: Arc<Socket>,
    ring: Consumer<Descriptor>,
    fill: Producer<u64>,
    /// Which frames the kernel has, by their place.
    has: Box<[bool]>,
    /// How many.
    count: u32,
    /// The number of the next block.
    sequence: u64,
    /// Blocks that were handed out and not released, and since when: the oldest first.
    out: BTreeMap<u64, Duration>,
    /// Frames that come back some time after the queue that was to send them has ended.
    late: Vec<(Duration, Vec<u32>)>,
}

/// What was taken out of the ring for one block.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) packets: Vec<Packet>,
    pub(super) segments: Segments,
    pub(super) lease: Arc<Lease>,
    pub(super) sequence: u64,
    /// When that was, CLOCK_REALTIME.
    pub(super) time_ns: u64,
}

impl Kernel {
    /// Gives the kernel a frame. The fill ring has room for all there are.
    fn give(&mut self, frames: &Frames, frame: u32) {
        let Some(has) = frames.place(frame).and_then(|place| self.has.get_mut(place)) else {
            return;
        };
        // Twice would have two packets in one frame.
        if !std::mem::replace(has, true) {
            self.fill.push(frames.umem.address(frame));
            self.count += 1;
        }
    }

    /// Takes note that a frame has come back with a packet; false: the kernel did not have
    /// it.
    #[inline]
    fn take(&mut self, frames: &Frames, frame: u32) -> bool {
        let Some(has) = frames.place(frame).and_then(|place| self.has.get_mut(place)) else {
            return false;
        };
        let had = std::mem::replace(has, false);
        self.count -= u32::from(had);
        had
    }

    /// Lets the kernel see what it was given, and the driver too where it waits for that.
    fn submit(&mut self, counters: &ReceiveCounters) {
        if self.fill.submit() == 0 {
            return;
        }
        self.kick_if_wanted(counters);
    }

    fn kick_if_wanted(&mut self, counters: &ReceiveCounters) {
        if self.fill.needs_wakeup() {
            counters.kicks.fetch_add(1, Ordering::Relaxed);
            // Down or gone: there is nothing to be had from it then.
            let _ = self.socket.kick_receive();
        } else {
            counters.kicks_saved.fetch_add(1, Ordering::Relaxed);
        }
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
    ) -> Self {
        let kernel = Kernel {
            socket,
            ring,
            fill,
            has: vec![true; frames.count() as usize].into_boxed_slice(),
            count: frames.count(),
            sequence: 1,
            out: BTreeMap::new(),
            late: Vec::new(),
        };
        Self {
            frames,
            origin,
            kernel: Mutex::new(Some(kernel)),
            counters: ReceiveCounters::default(),
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
    pub(super) fn umem(&self) -> &Arc<super::umem::Umem> {
        &self.frames.umem
    }

    /// Frames with the kernel, and packets in the ring.
    pub(super) fn with_kernel(&self) -> (u32, u32) {
        self.kernel.lock().as_mut().map_or((0, 0), |kernel| {
            if !kernel.late.is_empty() {
                self.take_late(kernel);
            }
            (kernel.count, kernel.ring.available(u32::MAX))
        })
    }

    /// Blocks that are held, and since when the oldest of them.
    pub(super) fn held(&self) -> (u64, Option<Duration>) {
        self.kernel.lock().as_ref().map_or((0, None), |kernel| {
            (kernel.out.len() as u64, kernel.out.first_key_value().map(|(_, since)| *since))
        })
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

    /// Has the driver look at the fill ring where it waits for that; with `always` (busy
    /// polling) in any case.
    pub(super) fn kick(&self, always: bool) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            if always {
                self.counters.kicks.fetch_add(1, Ordering::Relaxed);
                let _ = kernel.socket.kick_receive();
            } else if kernel.fill.needs_wakeup() {
                kernel.kick_if_wanted(&self.counters);
            }
        }
    }

    /// The next packets, `most` at most; `None`: none is there.
    pub(super) fn take(self: &Arc<Self>, most: u32) -> Option<Taken> {
        let mut guard = self.kernel.lock();
        let kernel = guard.as_mut()?;
        if !kernel.late.is_empty() {
            self.take_late(kernel);
        }
        loop {
            let available = kernel.ring.available(most);
            if available == 0 {
                return None;
            }
            let time_ns = clock::nanoseconds(clock::realtime());
            let mut pass = Pass::new(self, available.min(most), time_ns);
            let used = pass.run(kernel, available, most);
            if used == 0 {
                // The rest of a packet is not there yet.
                return None;
            }
            kernel.ring.release(used);
            let strange = pass.strange;
            if strange != 0 {
                self.counters.strange.fetch_add(strange, Ordering::Relaxed);
            }
            let sequence = kernel.sequence;
            let taken = pass.finish(self, sequence);
            kernel.submit(&self.counters);
            if let Some(taken) = taken {
                kernel.sequence += 1;
                kernel.out.insert(sequence, clock::monotonic());
                self.counters.delivered.fetch_add(taken.packets.len() as u64, Ordering::Relaxed);
                self.counters.blocks.fetch_add(1, Ordering::Relaxed);
                return Some(taken);
            }
        }
    }

    /// Puts frames that come from a block, or from a queue that has sent them, into the fill
    /// ring.
    fn put_back(&self, block: Option<u64>, frames: impl Iterator<Item = u32>) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            if let Some(sequence) = block {
                kernel.out.remove(&sequence);
            }
            frames.for_each(|frame| kernel.give(&self.frames, frame));
            kernel.submit(&self.counters);
        }
    }

    /// Takes back frames that were forwarded, and are sent.
    pub(super) fn came_home(&self, frames: &[u32]) {
        self.counters.abroad.fetch_sub(frames.len() as u64, Ordering::Relaxed);
        self.put_back(None, frames.iter().copied());
    }

    /// The same from then on: the device may still read them.
    pub(super) fn comes_home(&self, frames: Vec<u32>, from: Duration) {
        if let Some(kernel) = self.kernel.lock().as_mut() {
            kernel.late.push((from, frames));
        }
    }

    /// Takes back those of which it is certain by now.
    #[cold]
    fn take_late(&self, kernel: &mut Kernel) {
        let now = clock::monotonic();
        let (back, late) =
            std::mem::take(&mut kernel.late).into_iter().partition(|(from, _)| *from <= now);
        kernel.late = late;
        let back: Vec<(Duration, Vec<u32>)> = back;
        for frame in back.into_iter().flat_map(|(_, frames)| frames) {
            self.counters.abroad.fetch_sub(1, Ordering::Relaxed);
            kernel.give(&self.frames, frame);
        }
        kernel.submit(&self.counters);
    }

    /// The socket ends: nothing goes back to the kernel any more.
    pub(super) fn close(&self) {
        let kernel = self.kernel.lock().take();
        drop(kernel);
    }
}

/// One pass over the receive ring.
struct Pass<'a> {
    receive: &'a Arc<Receive>,
    packet: Packet,
    packets: Vec<Packet>,
    frames: Vec<AtomicU32>,
    /// Where the frames of each packet begin, once one has several.
    starts: Option<Vec<u32>>,
    segments: Segments,
    joined: Vec<Joined>,
    strange: u64,
}

/// A piece of a packet, in a frame that was the kernel's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    frame: u32,
    pub(super) data: *mut u8,
    pub(super) length: u32,
    /// Bytes of the frame before `data`.
    pub(super) inside: u32,
}

impl<'a> Pass<'a> {
    fn new(receive: &'a Arc<Receive>, packets: u32, time_ns: u64) -> Self {
        let origin = receive.origin;
        let packet = Packet {
            time_ns,
            ifindex: origin.ifindex,
            link_type: NETRING_LINKTYPE_ETHERNET,
            clock: NETRING_CLOCK_TAKEN,
            queue: origin.queue,
            ..Packet::ZERO
        };
        Self {
            receive,
            packet,
            packets: Vec::with_capacity(packets as usize),
            frames: Vec::with_capacity(packets as usize),
            starts: None,
            segments: Segments::new(),
            joined: Vec::new(),
            strange: 0,
        }
    }

    /// Goes over up to `available` descriptors and up to `most` packets; how many
    /// descriptors it is done with.
    fn run(&mut self, kernel: &mut Kernel, available: u32, most: u32) -> u32 {
        let mut at = 0;
        while at < available && (self.packets.len() as u32) < most {
            let descriptor = kernel.ring.peek(at);
            if descriptor.options & CONTINUED == 0 {
                at += 1;
                match self.piece(kernel, descriptor) {
                    Some(piece) => self.add(piece),
                    None => self.strange += 1,
                }
                continue;
            }
            let wanted = available.saturating_add(MOST_PIECES);
            let available = kernel.ring.available(wanted);
            let end = (at..available.min(at.saturating_add(MOST_PIECES)))
                .find(|next| kernel.ring.peek(*next).options & CONTINUED == 0);
            let Some(last) = end else {
                if available - at < MOST_PIECES {
                    break;
                }
                // No kernel makes such a packet.
                (at..at + MOST_PIECES).for_each(|one| self.drop_one(kernel, one));
                at += MOST_PIECES;
                continue;
            };
            self.join(kernel, at, last);
            at = last + 1;
        }
        at
    }

    /// Checks a descriptor: a packet in a frame of ours, which the kernel had.
    #[inline]
    fn piece(&self, kernel: &mut Kernel, descriptor: Descriptor) -> Option<Piece> {
        let frames = &self.receive.frames;
        let offset = frames.umem.offset(descriptor.address);
        let (frame, inside) = frames.umem.layout().frame_at(offset)?;
        if !kernel.take(frames, frame) {
            return None;
        }
        if u64::from(inside) + u64::from(descriptor.length)
            > u64::from(frames.umem.layout().frame_size)
        {
            kernel.give(frames, frame);
            return None;
        }
        let data = frames.umem.at(offset);
        Some(Piece { frame, data, length: descriptor.length, inside })
    }

    #[inline]
    fn add(&mut self, piece: Piece) {
        let number = self.packets.len();
        if let Some(starts) = &mut self.starts {
            starts.push(self.frames.len() as u32);
        }
        self.frames.push(AtomicU32::new(piece.frame));
        self.packets.push(Packet {
            data: piece.data,
            caplen: piece.length,
            len: piece.length,
            cookie: number as u64,
            ..self.template(piece)
        });
    }

    /// What is known of a packet besides its bytes, by its first piece.
    #[inline]
    fn template(&self, piece: Piece) -> Packet {
        if self.receive.origin.metadata { self.told(piece) } else { self.packet }
    }

    fn told(&self, piece: Piece) -> Packet {
        let mut packet = self.packet;
        let Some(told) = front::told(piece) else { return packet };
        if let Some(time_ns) = told.time {
            (packet.time_ns, packet.clock) = (time_ns, NETRING_CLOCK_RAW_HARDWARE);
        }
        if let Some(hash) = told.hash {
            packet.rxhash = hash;
            packet.status |= NETRING_PACKET_RXHASH;
        }
        if let Some((tpid, tci)) = told.tag {
            (packet.vlan_tpid, packet.vlan_tci) = (tpid, tci);
            packet.status |= NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID;
        }
        packet
    }

    fn drop_one(&mut self, kernel: &mut Kernel, at: u32) {
        let descriptor = kernel.ring.peek(at);
        if let Some(piece) = self.piece(kernel, descriptor) {
            kernel.give(&self.receive.frames, piece.frame);
        }
        self.strange += 1;
    }

    /// Makes one packet of the descriptors from `first` to `last`.
    fn join(&mut self, kernel: &mut Kernel, first: u32, last: u32) {
        let pieces: Vec<Option<Piece>> = (first..=last)
            .map(|at| {
                let descriptor = kernel.ring.peek(at);
                self.piece(kernel, descriptor)
            })
            .collect();
        let whole: Option<Vec<Piece>> = pieces.iter().copied().collect();
        let Some(whole) = whole else {
            // One without all of its pieces is none.
            let frames = &self.receive.frames;
            pieces.iter().flatten().for_each(|piece| kernel.give(frames, piece.frame));
            self.strange += 1;
            return;
        };
        let number = self.packets.len();
        let starts = self.starts.get_or_insert_with(|| (0..number as u32).collect());
        starts.push(self.frames.len() as u32);
        self.frames.extend(whole.iter().map(|piece| AtomicU32::new(piece.frame)));
        let len = whole.iter().fold(0_u32, |sum, piece| sum.saturating_add(piece.length));
        let mut packet = Packet { len, cookie: number as u64, ..self.template(whole[0]) };
        if self.receive.origin.linear {
            let joined = Joined::new(&whole);
            (packet.data, packet.caplen) = (joined.data(), len);
            self.joined.push(joined);
        } else {
            (packet.data, packet.caplen) = (whole[0].data, whole[0].length);
            for piece in &whole[1..] {
                self.segments.push(number as u32, piece.data, piece.length);
            }
        }
        self.packets.push(packet);
    }

    /// The block's packets; `None`: none was good.
    fn finish(self, receive: &Arc<Receive>, sequence: u64) -> Option<Taken> {
        if self.packets.is_empty() {
            return None;
        }
        receive.counters.held.fetch_add(self.frames.len() as u64, Ordering::Relaxed);
        let lease = Arc::new(Lease {
            receive: Arc::clone(receive),
            sequence,
            frames: self.frames,
            starts: self.starts.map(Vec::into_boxed_slice),
            _joined: self.joined,
        });
        let time_ns = self.packet.time_ns;
        Some(Taken { packets: self.packets, segments: self.segments, lease, sequence, time_ns })
    }
}

/// The frames of a block.
#[derive(Debug)]
pub(super) struct Lease {
    receive: Arc<Receive>,
    /// The block's number.
    sequence: u64,
    /// In the order of packets; `FORWARDED`: no more the block's.
    frames: Vec<AtomicU32>,
    /// The first frame of each packet, where one has several.
    starts: Option<Box<[u32]>>,
    /// What packets of several frames were copied to.
    _joined: Vec<Joined>,
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
        self.receive.counters.held.fetch_sub(1, Ordering::Relaxed);
        self.receive.counters.abroad.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn forwarded(packet: u64) -> Error {
    Error::config("packets", format!("packet {packet} of the block was forwarded before"))
}

impl FrameOwner for Lease {
    fn is_ours(&self) -> bool {
        self.receive.frames.umem.is_ours()
    }

    fn give_back(&self, _block: &Block) {
        let left = |frame: &AtomicU32| {
            let frame = frame.load(Ordering::Acquire);
            (frame & FORWARDED == 0).then_some(frame)
        };
        let count = self.frames.iter().filter_map(left).count();
        self.receive.counters.held.fetch_sub(count as u64, Ordering::Relaxed);
        self.receive.put_back(Some(self.sequence), self.frames.iter().filter_map(left));
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
