//! The transmitting side of a queue: slots, their order, the transmit ring and the
//! completion ring.
//!
//! A slot is a frame of the queue's own range. Slots leave in the order in which they were
//! reserved: what is committed waits in `order` until everything before it is committed
//! or discarded, and goes into the transmit ring from there. Every descriptor is checked
//! before: the kernel only counts bad ones (xsk_queue.h xskq_cons_is_valid_desc). Frames
//! come back through the completion ring, those that were forwarded to the queue that
//! received them.
//!
//! Without zero copy the kernel makes a packet of each frame within the kick
//! (net/xdp/xsk.c xsk_generic_xmit), 32 at a time, and says EBUSY for one that the driver
//! has dropped: that frame is done with, and comes back as if it were sent.

use super::lease::Lease;
use super::receive::Receive;
use super::rings::{Consumer, Producer};
use super::stamps::{Abilities, Stamps};
use super::umem::{Frames, QUARANTINE, TX_METADATA as TX_METADATA_LENGTH, Umem};
use crate::afpacket::injector::link::{Interface, Link};
use crate::afpacket::injector::{InjectorStats, Refusal, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::packet::Packet;
use crate::slot::Slot;
use crate::sys::socket::Socket;
use crate::sys::xdp::{Descriptor, TX_METADATA};
use crate::sys::{Errno, clock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Results that are kept at least.
const LEAST_RESULTS: usize = 4096;
/// Kicks that take nothing before it is left alone. Kernels before 6.17 tell late what they
/// have taken, 32 frames a kick.
const MOST_IDLE_KICKS: u32 = 64;
/// How long to leave a driver alone that takes nothing. Nothing tells when it does again.
const PAUSE: Duration = Duration::from_micros(50);

/// What became of a slot that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The caller has it.
    Open,
    /// It has a frame.
    Committed,
    /// It has none.
    Discarded,
}

/// A slot in its order.
#[derive(Debug, Clone, Copy)]
struct Entry {
    phase: Phase,
    frame: u32,
    descriptor: Descriptor,
}

/// A queue that frames were forwarded from.
#[derive(Debug)]
struct Home {
    receive: Arc<Receive>,
    /// Which of its frames are here, by their place.
    here: Box<[bool]>,
    /// How many.
    frames: u64,
}

impl Home {
    /// With none of its frames here; `spare`: of one that was let go of.
    fn of(receive: &Arc<Receive>, spare: Option<Box<[bool]>>) -> Self {
        let count = receive.frame_count() as usize;
        let spare = spare.filter(|spare| spare.len() == count);
        let here = spare.unwrap_or_else(|| vec![false; count].into_boxed_slice());
        Self { receive: Arc::clone(receive), here, frames: 0 }
    }

    /// Takes note that a frame of it is here (or is not any more); false: it was so before,
    /// or is none of it.
    fn mark(&mut self, frame: u32, is_here: bool) -> bool {
        let mark = self.receive.place(frame).and_then(|place| self.here.get_mut(place));
        let Some(mark) = mark.filter(|mark| **mark != is_here) else { return false };
        *mark = is_here;
        self.frames = if is_here { self.frames + 1 } else { self.frames - 1 };
        true
    }
}

/// What there is while the socket is open.
#[derive(Debug)]
struct Kernel {
    socket: Arc<Socket>,
    ring: Producer<Descriptor>,
    completion: Consumer<u64>,
}

/// How the queue sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The driver sends from the frames themselves.
    pub(super) zero_copy: bool,
    /// The driver says when it wants to be kicked.
    pub(super) need_wakeup: bool,
    /// The kernel tells at once what it has taken (Linux 6.17).
    pub(super) tells_taken: bool,
    /// With metadata in front of frames.
    pub(super) metadata: Option<Abilities>,
}

/// Gauges and numbers besides those of an injector.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TransmitCounters {
    pub(super) frames: u64,
    pub(super) free: u64,
    pub(super) kicks_saved: u64,
    pub(super) forwarded: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Transmit {
    frames: Frames,
    way: Way,
    kernel: Option<Kernel>,
    interface: Interface,
    /// What the interface is asked by: AF_XDP sockets have no ioctls (net/xdp/xsk.c
    /// xsk_proto_ops).
    ask: Arc<Socket>,
    free: Vec<u32>,
    order: VecDeque<Entry>,
    /// The cookie of the first in `order`.
    first_cookie: u64,
    /// Frames that are committed and not in the ring.
    waiting: u64,
    open: u64,
    /// Frames that went into the ring and have not come back.
    in_flight: u64,
    /// Without zero copy: cookie and length of what is in the ring, in order.
    in_ring: VecDeque<(u64, u32)>,
    /// Where in the ring the first of them is.
    ring_from: u32,
    /// Completions to come of frames that were dropped.
    dropped_back: u64,
    homes: Vec<Home>,
    /// Of the last one that was let go of, for the next.
    spare: Option<Box<[bool]>>,
    results: VecDeque<Refusal>,
    /// With metadata.
    stamps: Option<Stamps>,
    most_results: usize,
    stats: InjectorStats,
    kicks_saved: u64,
    forwarded: u64,
    /// Not to be kicked before.
    not_before: Duration,
}

impl Transmit {
    pub(super) fn new(
        mut frames: Frames,
        way: Way,
        interface: Interface,
        ask: Arc<Socket>,
        socket: Arc<Socket>,
        ring: Producer<Descriptor>,
        completion: Consumer<u64>,
    ) -> Self {
        frames.set_used();
        // From the end: the first is handed out first.
        let free: Vec<u32> = frames.range.clone().rev().collect();
        let ring_from = ring.submitted();
        let most = free.len().max(LEAST_RESULTS);
        let stamps = way.metadata.map(|abilities| Stamps::new(abilities, free.len(), most));
        Self {
            most_results: most,
            frames,
            way,
            kernel: Some(Kernel { socket, ring, completion }),
            interface,
            ask,
            free,
            order: VecDeque::new(),
            first_cookie: 1,
            waiting: 0,
            open: 0,
            in_flight: 0,
            in_ring: VecDeque::new(),
            ring_from,
            dropped_back: 0,
            homes: Vec::new(),
            spare: None,
            results: VecDeque::new(),
            stamps,
            stats: InjectorStats::default(),
            kicks_saved: 0,
            forwarded: 0,
            not_before: Duration::ZERO,
        }
    }

    fn umem(&self) -> &Arc<Umem> {
        &self.frames.umem
    }

    /// Bytes of the largest frame a slot holds.
    pub(super) fn capacity(&self) -> u32 {
        self.umem().layout().transmit_room()
    }

    /// Bytes of the largest frame that the interface takes now; `None`: nobody knows.
    pub(super) fn frame_limit(&mut self) -> Option<u32> {
        self.look();
        self.interface.limit(false)
    }

    /// Its MTU.
    pub(super) fn mtu(&mut self) -> u32 {
        self.look();
        self.interface.mtu
    }

    fn look(&mut self) {
        if self.kernel.is_some() {
            self.interface.look(&self.ask, clock::monotonic());
        }
    }

    /// The interface is gone.
    pub(super) fn set_gone(&mut self) {
        self.interface.set_gone();
    }

    /// Everything that can leave has, and the kernel is done with it.
    pub(super) fn is_drained(&mut self) -> bool {
        self.reclaim();
        // What was waiting when the interface was removed has not left.
        !self.interface.is_gone()
            && self.ready() == 0
            && self.in_flight == 0
            && self.dropped_back == 0
    }

    /// Committed frames with no open slot before them.
    fn ready(&self) -> u64 {
        if self.open == 0 {
            return self.waiting;
        }
        let before = self.order.iter().take_while(|entry| entry.phase != Phase::Open);
        before.filter(|entry| entry.phase == Phase::Committed).count() as u64
    }

    /// Hands out up to `count` slots: `each` gets the number and the slot.
    pub(super) fn reserve(&mut self, count: usize, mut each: impl FnMut(usize, Slot)) -> usize {
        if self.free.len() < count {
            self.reclaim();
        }
        let got = count.min(self.free.len());
        let offset = u64::from(self.umem().layout().transmit_offset());
        let capacity = self.capacity();
        for at in 0..got {
            let Some(frame) = self.free.pop() else { break };
            let address = self.umem().address(frame) + offset;
            let cookie = self.first_cookie + self.order.len() as u64;
            let descriptor = Descriptor { address, length: 0, options: 0 };
            self.order.push_back(Entry { phase: Phase::Open, frame, descriptor });
            each(at, Slot { data: self.umem().at(address), capacity, cookie, ..Slot::ZERO });
        }
        self.open += got as u64;
        self.stats.reserved += got as u64;
        got
    }

    /// Takes a slot back, with a frame or (len 0) without.
    ///
    /// # Errors
    /// `Config`, `FrameTooLarge`: it stays handed out.
    pub(super) fn commit(&mut self, slot: &Slot) -> Result<()> {
        let place = slot.cookie.checked_sub(self.first_cookie).map(|place| place as usize);
        let entry = place.and_then(|place| self.order.get(place));
        let Some(entry) = entry.filter(|entry| entry.phase == Phase::Open) else {
            return Err(Error::config(
                "cookie",
                format!(
                    "cookie {} names no slot that is handed out: made up, or given back before",
                    slot.cookie
                ),
            ));
        };
        if slot.data != self.umem().at(entry.descriptor.address) {
            return Err(Error::config("data", "data was changed: write the frame where it points"));
        }
        let length = slot.len;
        let mut options = 0;
        if length == 0 {
            self.stats.discarded += 1;
        } else {
            if slot.reserved != [0; 6] || self.stamps.is_none() && !slot.is_plain() {
                return Err(Error::config(
                    "vnet",
                    "segmentation and reserved fields of a queue's slot are 0, and checksum fields \
                     without NETRING_XDP_TX_METADATA",
                ));
            }
            let (at, frame) = (entry.descriptor.address, entry.frame);
            self.check_length(length, self.capacity(), at)?;
            if let (Some(stamps), Some(place)) = (&mut self.stamps, self.frames.place(frame)) {
                let frame = (slot.cookie, length);
                stamps.ask(&self.frames.umem, (place, at), frame, slot.vnet())?;
                options = TX_METADATA;
            }
            self.stats.committed += 1;
            self.waiting += 1;
        }
        if let Some(entry) = place.and_then(|place| self.order.get_mut(place)) {
            entry.phase = if length == 0 { Phase::Discarded } else { Phase::Committed };
            entry.descriptor.length = length;
            entry.descriptor.options = options;
        }
        self.open -= 1;
        self.skip_discarded();
        Ok(())
    }

    /// Whether a frame of that length at that offset may leave.
    fn check_length(&mut self, length: u32, capacity: u32, at: u64) -> Result<()> {
        if length > capacity {
            return Err(Error::new(
                Kind::FrameTooLarge,
                "len",
                format!("frame too large: {length} bytes, {capacity} are in its slot"),
            ));
        }
        let header = self.interface.header.unwrap_or(0).max(14);
        if length < header {
            return Err(Error::config(
                "len",
                format!("frame of {length} bytes is shorter than its header of {header}"),
            ));
        }
        if self.interface.takes(length) {
            return Ok(());
        }
        self.look();
        let tagged = self.umem().is_tagged(at);
        match self.interface.limit(tagged) {
            Some(limit) if length > limit => Err(Error::new(
                Kind::FrameTooLarge,
                "len",
                format!(
                    "frame too large: {length} bytes, {limit} are what the interface takes with its \
                     MTU of {}",
                    self.interface.mtu
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Frees the slots at the front that have no frame.
    fn skip_discarded(&mut self) {
        while self.order.front().is_some_and(|entry| entry.phase == Phase::Discarded) {
            if let Some(entry) = self.order.pop_front() {
                self.first_cookie += 1;
                self.give_up(entry.frame);
            }
        }
    }

    /// Takes packets of a block to send them from the frames they were received into: the
    /// first so many. `packet` gives each.
    ///
    /// # Errors
    /// The first is wrong, and none was taken.
    pub(super) fn forward(
        &mut self,
        lease: &Lease,
        count: usize,
        packet: impl Fn(usize) -> Packet,
    ) -> Result<usize> {
        let receive = lease.receive();
        if !Arc::ptr_eq(receive.umem(), self.umem()) {
            return Err(Error::config(
                "block",
                "the block's frames are in another UMEM: give both queues one netring_umem, or send \
                 a copy",
            ));
        }
        self.reclaim();
        let room = self.kernel.as_mut().map_or(0, |kernel| kernel.ring.room(u32::MAX) as usize);
        let most = count.min(room.saturating_sub(self.waiting as usize));
        let mut taken = 0;
        for at in 0..most {
            if let Err(error) = self.forward_one(lease, &packet(at)) {
                if taken == 0 {
                    return Err(error);
                }
                break;
            }
            taken += 1;
        }
        self.forwarded += taken as u64;
        Ok(taken)
    }

    fn forward_one(&mut self, lease: &Lease, packet: &Packet) -> Result<()> {
        let frame = lease.only_frame(packet.cookie)?;
        let layout = *self.umem().layout();
        let place = self.umem().offset_of(packet.data);
        let found = place.and_then(|at| Some((at, layout.frame_at(at)?)));
        // The kernel takes a frame without room for metadata in front for a wrong one, asked for
        // or not (xsk_queue.h xp_aligned_validate_desc).
        let first = if layout.transmit_offset() == 0 { 0 } else { TX_METADATA_LENGTH };
        let (address, inside) = match found {
            Some((at, (number, inside))) if number == frame && inside >= first => (at, inside),
            Some((_, (number, inside))) if number == frame => {
                return Err(Error::config(
                    "data",
                    format!(
                        "data is {inside} bytes into the packet's frame, whose first {first} are for \
                         metadata with NETRING_XDP_TX_METADATA: put less in front"
                    ),
                ));
            }
            _ => {
                return Err(Error::config(
                    "data",
                    "data points out of the packet's frame: move it inside the frame only",
                ));
            }
        };
        self.check_length(packet.caplen, layout.frame_size - inside, address)?;
        lease.forward(packet.cookie)?;
        let receive = lease.receive();
        let home = match self.homes.iter().position(|home| Arc::ptr_eq(&home.receive, receive)) {
            Some(home) => home,
            None => {
                self.homes.push(Home::of(receive, self.spare.take()));
                self.homes.len() - 1
            }
        };
        if let Some(home) = self.homes.get_mut(home) {
            home.mark(frame, true);
        }
        let descriptor = Descriptor { address, length: packet.caplen, options: 0 };
        self.order.push_back(Entry { phase: Phase::Committed, frame, descriptor });
        self.stats.reserved += 1;
        self.stats.committed += 1;
        self.waiting += 1;
        Ok(())
    }

    /// Takes back the frames that the kernel is done with; false: there were none.
    pub(super) fn reclaim(&mut self) -> bool {
        let Some(kernel) = &mut self.kernel else { return false };
        let count = kernel.completion.available(1);
        if count == 0 {
            return false;
        }
        let mut foreign: Vec<u32> = Vec::new();
        for at in 0..count {
            let offset = self.frames.umem.offset(kernel.completion.peek(at));
            // No kernel says so; the frame is lost then, and shows as one in flight.
            let Some((frame, _)) = self.frames.umem.layout().frame_at(offset) else { continue };
            let Some(place) = self.frames.place(frame) else {
                foreign.push(frame);
                continue;
            };
            if let Some(stamps) = &mut self.stamps {
                stamps.take(&self.frames.umem, place, offset);
            }
            self.free.push(frame);
        }
        kernel.completion.release(count);
        let dropped = self.dropped_back.min(count.into());
        self.dropped_back -= dropped;
        let done = (u64::from(count) - dropped).min(self.in_flight);
        self.in_flight -= done;
        self.stats.completed += done;
        if !foreign.is_empty() {
            self.send_home(&foreign);
        }
        true
    }

    /// Takes back what was sent, for a queue that misses its frames. What is not committed to
    /// the ring stays where it is.
    pub(super) fn fetch(&mut self) {
        if self.reclaim() || self.homes.is_empty() {
            return;
        }
        if self.way.zero_copy {
            self.kick_for_sent();
        } else {
            // What stands in the way is told where frames are handed over.
            let _ = self.kick();
        }
        self.reclaim();
    }

    fn send_home(&mut self, frames: &[u32]) {
        for home in &mut self.homes {
            let theirs: Vec<u32> =
                frames.iter().copied().filter(|frame| home.mark(*frame, false)).collect();
            if !theirs.is_empty() {
                home.receive.came_home(&theirs);
            }
        }
        // A queue that has all of its frames is not kept: it may end.
        while let Some(at) = self.homes.iter().position(|home| home.frames == 0) {
            self.spare = Some(self.homes.swap_remove(at).here);
        }
    }

    /// A slot is done with its frame, which the kernel has never seen.
    fn give_up(&mut self, frame: u32) {
        if self.frames.place(frame).is_some() {
            self.free.push(frame);
        } else {
            self.send_home(&[frame]);
        }
    }

    /// Puts what is ready into the ring and has the driver take it; how many frames went
    /// into the ring.
    ///
    /// # Errors
    /// `LinkDown`: they stay. `InterfaceNotFound`: they are refused. `Io`.
    pub(super) fn hand_over(&mut self) -> Result<u64> {
        self.reclaim();
        let Some(kernel) = &mut self.kernel else { return Ok(0) };
        let now = clock::monotonic();
        let link = self.interface.link(&self.ask, now);
        self.frames.umem.check_ours()?;
        match link {
            Link::Up => {}
            // A driver takes frames as soon as it is running: there is no queueing discipline
            // to be put in place. But IFF_RUNNING follows the carrier up to a second later.
            Link::Settles(_) if self.interface.has_carrier(&self.ask) => {
                self.frames.umem.check_ours()?;
            }
            Link::Settles(_) => {
                self.interface.set_down();
                return Err(link_down());
            }
            Link::Down if self.waiting == 0 && kernel.ring.outstanding() == 0 => return Ok(0),
            Link::Down => return Err(link_down()),
            Link::Gone => return Err(self.refuse_all()),
        }
        let room = kernel.ring.room(u32::try_from(self.waiting).unwrap_or(u32::MAX));
        let mut handed = 0;
        while handed < room.into() {
            match self.order.front() {
                Some(entry) if entry.phase == Phase::Committed => {
                    kernel.ring.push(entry.descriptor);
                    self.stats.handed_bytes += u64::from(entry.descriptor.length);
                    if !self.way.zero_copy {
                        self.in_ring.push_back((self.first_cookie, entry.descriptor.length));
                    }
                    handed += 1;
                }
                // Of the queue's own: packets of others are not discarded while it goes on.
                Some(entry) if entry.phase == Phase::Discarded => self.free.push(entry.frame),
                _ => break,
            }
            self.order.pop_front();
            self.first_cookie += 1;
        }
        self.waiting -= handed;
        self.in_flight += handed;
        self.stats.handed += handed;
        kernel.ring.submit();
        if handed == 0 && now < self.not_before {
            return Ok(0);
        }
        self.kick().map(|()| handed)
    }

    /// Has a driver tell what it has sent, for somebody who waits: some look only when they
    /// are kicked, with nothing new to send, too.
    pub(super) fn kick_for_sent(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        let is_wanted = !self.way.need_wakeup || kernel.ring.needs_wakeup();
        if self.way.zero_copy && self.in_flight > 0 && is_wanted {
            self.stats.kicks += 1;
            // What stands in the way is told where frames are handed over.
            let _ = kernel.socket.kick_transmit();
        }
    }

    /// Has the kernel take what is in the ring.
    fn kick(&mut self) -> Result<()> {
        let mut idle = 0;
        loop {
            self.frames.umem.check_ours()?;
            let Some(kernel) = &mut self.kernel else { return Ok(()) };
            if kernel.ring.outstanding() == 0 {
                return Ok(());
            }
            if self.way.need_wakeup && !kernel.ring.needs_wakeup() {
                self.kicks_saved += 1;
                return Ok(());
            }
            self.stats.kicks += 1;
            let result = kernel.socket.kick_transmit();
            self.frames.umem.check_ours()?;
            let taken = kernel.ring.taken();
            let moved = match result {
                Ok(()) if self.way.zero_copy => return Ok(()),
                Ok(()) => {
                    // All of it was taken, which every kernel then tells; or the completion ring
                    // has no room, where frames that are in flight count.
                    self.were_taken(taken);
                    if self.in_ring.is_empty() {
                        return Ok(());
                    }
                    if !self.reclaim() {
                        self.stats.full_socket += 1;
                        self.not_before = clock::monotonic() + PAUSE;
                        return Ok(());
                    }
                    true
                }
                Err(Errno(libc::EBUSY)) if !self.way.zero_copy => {
                    let moved = self.one_was_dropped(taken);
                    if !self.interface.keeps_carrier(&self.ask, clock::monotonic()) {
                        self.interface.set_down();
                        return Err(link_down());
                    }
                    moved
                }
                Err(Errno(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM)) => {
                    self.were_taken(taken)
                }
                Err(Errno(libc::ENETDOWN)) => {
                    self.interface.forget();
                    return Err(link_down());
                }
                // Drivers say so, too, where the program is off the interface (i40e, ixgbe).
                Err(Errno(libc::ENXIO | libc::ENODEV)) if self.is_gone_now() => {
                    return Err(self.refuse_all());
                }
                Err(errno) => {
                    return Err(Error::new(
                        Kind::Io,
                        "sendto",
                        format!("the driver did not take frames: {errno}; they stay in the ring"),
                    )
                    .with_os(errno.0));
                }
            };
            idle = if moved { 0 } else { idle + 1 };
            if idle > MOST_IDLE_KICKS {
                self.stats.full_socket += 1;
                self.not_before = clock::monotonic() + PAUSE;
                return Ok(());
            }
        }
    }

    fn is_gone_now(&mut self) -> bool {
        self.look();
        self.interface.is_gone()
    }

    /// The kernel says that it has taken what is before `taken` in the ring; false: nothing
    /// new.
    fn were_taken(&mut self, taken: u32) -> bool {
        let count = taken.wrapping_sub(self.ring_from) as usize;
        if count == 0 || count > self.in_ring.len() {
            return false;
        }
        self.in_ring.drain(..count);
        self.ring_from = taken;
        true
    }

    /// The kernel has taken what is before `taken`, and the driver dropped the last of it.
    /// Where that was the first one that it took, kernels do not tell yet that it was
    /// taken (xsk_generic_xmit: only with a frame sent). False: there was none.
    fn one_was_dropped(&mut self, taken: u32) -> bool {
        self.were_taken(taken.wrapping_sub(1));
        let Some((cookie, length)) = self.in_ring.pop_front() else { return false };
        self.ring_from = self.ring_from.wrapping_add(1);
        self.stats.handed -= 1;
        self.stats.handed_bytes -= u64::from(length);
        self.in_flight -= 1;
        self.dropped_back += 1;
        self.stats.dropped += 1;
        if let Some(stamps) = &mut self.stamps {
            stamps.forget(cookie);
        }
        let cookie = if self.way.tells_taken { cookie } else { 0 };
        self.tell(Refusal { cookie, kind: Kind::Io, os: libc::EBUSY });
        true
    }

    fn tell(&mut self, refusal: Refusal) {
        if self.results.len() == self.most_results {
            self.results.pop_front();
            self.stats.results_lost += 1;
        }
        self.results.push_back(refusal);
    }

    /// The interface is gone: what has not left does not.
    fn refuse_all(&mut self) -> Error {
        self.interface.set_gone();
        let mut refused = Vec::new();
        for (cookie, entry) in (self.first_cookie..).zip(&mut self.order) {
            if entry.phase == Phase::Committed {
                entry.phase = Phase::Discarded;
                refused.push(cookie);
            }
        }
        self.waiting = 0;
        self.stats.refused += refused.len() as u64;
        for cookie in refused {
            self.tell(Refusal { cookie, kind: Kind::InterfaceNotFound, os: libc::ENODEV });
        }
        self.skip_discarded();
        removed()
    }

    /// The oldest results that were not fetched, up to `count`.
    pub(super) fn results(&mut self, count: usize, mut each: impl FnMut(usize, Refusal)) -> usize {
        let count = count.min(self.results.len());
        for (at, refusal) in self.results.drain(..count).enumerate() {
            each(at, refusal);
        }
        count
    }

    /// The oldest times that were not fetched, up to `count`; whether they are the
    /// device's.
    ///
    /// # Errors
    /// `Config`: opened without.
    pub(super) fn timestamps(
        &mut self,
        count: usize,
        each: impl FnMut(usize, Timestamp, bool),
    ) -> Result<usize> {
        self.reclaim();
        let Some(stamps) = &mut self.stamps else {
            return Err(Error::config("flags", "it was opened without NETRING_XDP_TX_METADATA"));
        };
        let devices = stamps.are_the_devices();
        let mut each = each;
        Ok(stamps.fetch(count, |at, stamp| each(at, stamp, devices)))
    }

    /// What became of the frames.
    pub(super) fn stats(&mut self) -> InjectorStats {
        self.reclaim();
        let ready = self.ready();
        InjectorStats {
            time_ns: clock::nanoseconds(clock::monotonic()),
            open: self.open,
            waiting: self.waiting,
            held_back: self.waiting - ready,
            in_flight: self.in_flight,
            timestamps_lost: self.stamps.as_ref().map_or(0, |stamps| stamps.lost),
            ..self.stats
        }
    }

    /// What an injector has not.
    pub(super) fn counters(&self) -> TransmitCounters {
        // Those behind slots that are not given back yet are as good as free.
        let discarded = |entry: &&Entry| {
            entry.phase == Phase::Discarded && self.frames.place(entry.frame).is_some()
        };
        let discarded = self.order.iter().filter(discarded).count();
        TransmitCounters {
            frames: self.frames.count().into(),
            free: (self.free.len() + discarded) as u64,
            kicks_saved: self.kicks_saved,
            forwarded: self.forwarded,
        }
    }

    /// The socket ends. How many committed frames the kernel has not taken.
    pub(super) fn close(&mut self) -> u64 {
        let _ = self.hand_over();
        let Some(mut kernel) = self.kernel.take() else { return 0 };
        // What is forwarded and has not come back does not come any more.
        for home in std::mem::take(&mut self.homes) {
            let here = home.here.iter().enumerate().filter(|(_, here)| **here);
            let frames: Vec<u32> = here.map(|(place, _)| home.receive.frame(place)).collect();
            if !frames.is_empty() {
                home.receive.comes_home(frames, clock::monotonic() + QUARANTINE);
            }
        }
        self.waiting + u64::from(kernel.ring.outstanding())
    }
}

#[cold]
fn link_down() -> Error {
    Error::new(
        Kind::LinkDown,
        "link",
        "the link is down (set down, or no carrier): committed frames stay, and leave with a later \
         call once it is up",
    )
    .with_os(libc::ENETDOWN)
}

#[cold]
pub(super) fn removed() -> Error {
    Error::new(
        Kind::InterfaceNotFound,
        "interface",
        "the interface was removed, or moved to another network namespace; close the xdp",
    )
    .with_os(libc::ENODEV)
}
