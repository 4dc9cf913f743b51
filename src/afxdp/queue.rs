//! A queue of an interface: its socket, both sides, and what its threads wait on.
//!
//! A socket of AF_XDP is readable exactly while its receive ring has a packet (net/xdp/xsk.c
//! xsk_poll), so one epoll descriptor over it, level-triggered, and what ends a wait is
//! right for threads and outer loops alike. Nothing tells when frames have been sent: who
//! waits for that looks again and again.

use super::config::Mode;
use super::lease::Lease;
use super::receive::Receive;
use super::transmit::{Transmit, TransmitCounters, removed};
use crate::afpacket::capture::{Current, Deadline};
use crate::afpacket::counters::Stats;
use crate::afpacket::injector::received::Sender;
use crate::afpacket::injector::{InjectorStats, Refusal, Timestamp};
use crate::afpacket::record::rewrite::Vnet;
use crate::block::{Block, BlockInfo, Owner};
use crate::error::{Error, Kind, Result};
use crate::packet::{NETRING_LINKTYPE_ETHERNET, Packet};
use crate::signals::{FREE, Signals, WAKEUP};
use crate::slot::Slot;
use crate::sys::epoll::{self, Epoll};
use crate::sys::link_watch::LinkWatch;
use crate::sys::socket::Socket;
use crate::sys::xdp::Statistics;
use crate::sys::{Errno, clock};
use parking_lot::{Mutex, MutexGuard};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SOCKET: u64 = FREE;
const REMOVAL: u64 = FREE + 1;
const HOME: u64 = FREE + 2;

/// Longest wait in one piece: removal is looked for in between where nobody tells of it.
const LONGEST_WAIT_MS: i32 = 1_000;
/// How often a call that does not wait asks for wakeups and removal, at most.
const ASK_EVERY_NS: u64 = 1_000_000;
/// A wait for frames to be sent begins with looks as far apart as that, and ends with
/// these.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_micros(500);

/// The interface that all queues of an xdp have in common.
#[derive(Debug)]
pub(super) struct Common {
    /// Tells that it is gone, where netlink is allowed.
    pub(super) removal: Option<LinkWatch>,
    /// It is.
    pub(super) gone: AtomicBool,
    /// To ask about the interface: a socket of AF_XDP answers no ioctl.
    pub(super) ask: Arc<Socket>,
    pub(super) ifindex: u32,
}

impl Common {
    /// Looks whether it is gone, where nobody tells.
    fn look(&self) {
        let unknown = [Errno(libc::ENODEV), Errno(libc::ENXIO)];
        let asked = || self.ask.interface_name(self.ifindex);
        if self.removal.is_none() && asked().is_err_and(|errno| unknown.contains(&errno)) {
            self.gone.store(true, Ordering::Release);
        }
    }
}

/// What was granted to a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueInfo {
    /// Its number.
    pub number: u32,
    /// `ZeroCopy`, `Copy` or `Skb`.
    pub mode: Mode,
    /// Microseconds of busy polling in force.
    pub busy_poll: u32,
    /// Microseconds that a call which has waited sleeps on for more packets.
    pub block_timeout_us: u32,
    /// The interface.
    pub ifindex: u32,
}

/// Numbers that only AF_XDP has.
#[derive(Debug, Clone, Copy, Default)]
pub struct XdpCounters {
    /// CLOCK_MONOTONIC of the reading.
    pub time_ns: u64,
    /// The kernel's.
    pub kernel: Statistics,
    /// Descriptors out of the receive ring that named no frame.
    pub strange: u64,
    /// Waits.
    pub polls: u64,
    /// Kicks of the receiving side.
    pub rx_kicks: u64,
    /// Kicks of the transmitting side.
    pub tx_kicks: u64,
    /// Kicks that were not needed.
    pub kicks_saved: u64,
    /// Frames that were forwarded to this queue.
    pub forwarded: u64,
    /// Gauge: frames to receive into.
    pub rx_frames: u64,
    /// Gauge: of them, with the kernel.
    pub rx_kernel: u64,
    /// Gauge: of them, in blocks.
    pub rx_held: u64,
    /// Gauge: of them, on their way out.
    pub rx_forwarded: u64,
    /// Gauge: frames to send from.
    pub tx_frames: u64,
    /// Gauge: of them, free.
    pub tx_free: u64,
    /// Gauge: slots handed out.
    pub tx_open: u64,
    /// Gauge: frames that wait.
    pub tx_committed: u64,
    /// Gauge: frames in the ring or with the device.
    pub tx_in_flight: u64,
}

impl XdpCounters {
    /// Those of another queue besides.
    pub fn add(&mut self, other: &Self) {
        self.time_ns = other.time_ns;
        for (to, from) in [
            (&mut self.kernel.rx_dropped, other.kernel.rx_dropped),
            (&mut self.kernel.rx_invalid, other.kernel.rx_invalid),
            (&mut self.kernel.tx_invalid, other.kernel.tx_invalid),
            (&mut self.kernel.rx_ring_full, other.kernel.rx_ring_full),
            (&mut self.kernel.fill_empty, other.kernel.fill_empty),
            (&mut self.kernel.tx_ring_empty, other.kernel.tx_ring_empty),
            (&mut self.strange, other.strange),
            (&mut self.polls, other.polls),
            (&mut self.rx_kicks, other.rx_kicks),
            (&mut self.tx_kicks, other.tx_kicks),
            (&mut self.kicks_saved, other.kicks_saved),
            (&mut self.forwarded, other.forwarded),
            (&mut self.rx_frames, other.rx_frames),
            (&mut self.rx_kernel, other.rx_kernel),
            (&mut self.rx_held, other.rx_held),
            (&mut self.rx_forwarded, other.rx_forwarded),
            (&mut self.tx_frames, other.tx_frames),
            (&mut self.tx_free, other.tx_free),
            (&mut self.tx_open, other.tx_open),
            (&mut self.tx_committed, other.tx_committed),
            (&mut self.tx_in_flight, other.tx_in_flight),
        ] {
            *to += from;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    info: QueueInfo,
    common: Arc<Common>,
    /// `None` once closed.
    socket: Mutex<Option<Arc<Socket>>>,
    epoll: Epoll,
    /// Whether the socket is in `epoll`: once somebody has waited, or has the descriptor. A
    /// watched socket has the kernel call epoll for each frame that it is done with
    /// (sock_def_write_space), which takes a tenth of the time of sending it, and for packets
    /// that nobody waits for: who only sends, or gathers, need not pay. (To poll takes some
    /// more for each wait, of which gathering makes few.)
    is_watched: AtomicBool,
    signals: Signals,
    receive: Arc<Receive>,
    transmit: Option<Arc<Mutex<Transmit>>>,
    block_packets: u32,
    /// Where a stop ends.
    end: Mutex<Option<u32>>,
    current: Arc<Current>,
    polls: AtomicU64,
    /// When a call that does not wait last asked.
    asked_at: AtomicU64,
    /// The kernel's numbers when the socket was closed, and before that as last read.
    statistics: Mutex<Statistics>,
    last_error: Mutex<Option<Error>>,
}

/// What [`open`](super::open) has prepared.
pub(super) struct Parts {
    pub(super) info: QueueInfo,
    pub(super) common: Arc<Common>,
    pub(super) socket: Arc<Socket>,
    pub(super) receive: Receive,
    pub(super) transmit: Option<Transmit>,
    pub(super) block_packets: u32,
}

impl Queue {
    pub(super) fn assemble(parts: Parts) -> Result<Self> {
        let queue = Self {
            info: parts.info,
            epoll: Epoll::new().map_err(no_waiter)?,
            is_watched: AtomicBool::new(false),
            signals: Signals::new().map_err(no_waiter)?,
            receive: Arc::new(parts.receive),
            transmit: parts.transmit.map(|transmit| Arc::new(Mutex::new(transmit))),
            block_packets: parts.block_packets,
            end: Mutex::new(None),
            current: Arc::default(),
            polls: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            statistics: Mutex::default(),
            last_error: Mutex::new(None),
            socket: Mutex::new(Some(Arc::clone(&parts.socket))),
            common: parts.common,
        };
        queue.signals.watch_ends(&queue.epoll).map_err(no_waiter)?;
        queue.receive.watch_home(&queue.epoll, HOME).map_err(no_waiter)?;
        if let Some(removal) = &queue.common.removal {
            queue.epoll.add(removal.fd(), libc::EPOLLIN, REMOVAL).map_err(no_waiter)?;
        }
        // A driver that has looked at the fill ring by now looks again.
        queue.receive.kick();
        Ok(queue)
    }

    /// What was granted.
    pub fn info(&self) -> QueueInfo {
        self.info
    }

    /// SO_INCOMING_NAPI_ID.
    pub fn napi_id(&self) -> u32 {
        self.socket.lock().as_ref().and_then(|socket| socket.napi_id().ok()).unwrap_or(0)
    }

    /// Bytes of the largest frame that it sends now; 0: it sends none.
    pub fn frame_limit(&self) -> u32 {
        self.transmit.as_ref().map_or(0, |transmit| {
            let mut transmit = transmit.lock();
            let capacity = transmit.capacity();
            transmit.frame_limit().map_or(capacity, |limit| limit.min(capacity))
        })
    }

    /// Something with the socket.
    pub(super) fn with_socket<T>(&self, work: impl FnOnce(&Socket) -> Result<T>) -> Result<T> {
        match &*self.socket.lock() {
            Some(socket) => work(socket),
            None => Err(closed()),
        }
    }

    /// MTU of the interface; `None`: the queue does not send, and does not know.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.transmit.as_ref().map(|transmit| transmit.lock().mtu())
    }

    /// The descriptor that is readable exactly while `next_block(0)` would return
    /// something.
    ///
    /// # Errors
    /// `Io`.
    pub fn fd(&self) -> Result<RawFd> {
        self.watch()?;
        Ok(self.epoll.raw())
    }

    /// From here on packets end a wait.
    fn watch(&self) -> Result<()> {
        if self.is_watched.load(Ordering::Acquire) {
            return Ok(());
        }
        let socket = self.socket.lock();
        if let Some(open) = &*socket {
            if !self.is_watched.load(Ordering::Acquire) {
                self.epoll.add(open.fd(), libc::EPOLLIN, SOCKET).map_err(no_waiter)?;
                self.is_watched.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    /// The next block; `None` after `timeout_ms` (negative: never, 0: at once).
    ///
    /// # Errors
    /// `Wakeup`, `Shutdown` (stopped, everything handed out), `InterfaceNotFound`
    /// (removed), `BadHandle` (being closed), `Io`.
    pub fn next_block(&self, timeout_ms: i32) -> Result<Option<Arc<Block>>> {
        let mut waiting = None;
        loop {
            // A signal handler may have forked: the rings are not there in a child.
            if self.signals.is_closing() || !self.receive.umem().is_ours() {
                return Err(closed());
            }
            if let Some(block) = self.take()? {
                return Ok(Some(block));
            }
            if self.signals.is_stopped() {
                return Err(stopped());
            }
            if self.signals.take_wakeup(false) {
                return Err(woken());
            }
            if self.common.gone.load(Ordering::Acquire) {
                return Err(removed());
            }
            // The clock is not read where a packet is there, and once before a first wait.
            let left = match &waiting {
                None => {
                    waiting = Some(Deadline::after(timeout_ms));
                    Deadline::whole_ms(timeout_ms, LONGEST_WAIT_MS)
                }
                Some(deadline) => deadline.left_ms(LONGEST_WAIT_MS),
            };
            if left == 0 && (timeout_ms != 0 || !self.is_to_ask()) {
                return Ok(None);
            }
            let gathers = self.info.block_timeout_us != 0;
            if left != 0 && !gathers {
                self.watch()?;
            }
            let reported = self.wait(left)?;
            if left != 0 && gathers {
                self.gather(waiting.and_then(Deadline::left));
            }
            if left == 0 && !reported && !self.receive.has_any() {
                return Ok(None);
            }
        }
    }

    /// Waits; true: something ends the wait.
    fn wait(&self, timeout_ms: i32) -> Result<bool> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let (mut reported, mut woken_up) = (false, false);
        let beside = timeout_ms != 0 && !self.is_watched.load(Ordering::Acquire);
        if !beside || self.wait_beside(timeout_ms)? {
            let waited = self.epoll.wait(if beside { 0 } else { timeout_ms }, |ready| {
                reported |= ready.key != SOCKET && ready.key != HOME;
                woken_up |= ready.key == WAKEUP;
                if ready.key == REMOVAL {
                    self.common.gone.store(true, Ordering::Release);
                }
            });
            waited.map_err(|errno| not_waited("epoll", errno))?;
        }
        self.receive.umem().check_ours()?;
        self.common.look();
        if woken_up && !self.receive.has_any() && self.signals.take_wakeup(true) {
            return Err(woken());
        }
        Ok(reported)
    }

    /// Waits for the socket, which is not in `epoll`, and for that. True: something is in it.
    fn wait_beside(&self, timeout_ms: i32) -> Result<bool> {
        let socket = self.socket.lock().clone();
        let socket = socket.as_ref().map(|socket| socket.fd());
        let mut both = [socket, Some(self.epoll.fd())].map(|fd| epoll::polled(fd, libc::POLLIN));
        epoll::poll(&mut both, timeout_ms).map_err(|errno| not_waited("poll", errno))?;
        Ok(both[1].revents != 0)
    }

    /// Sleeps on, for as long as there is `left`, where some packets have come, but fewer than
    /// fill a block. A wakeup costs as much as dozens of packets do.
    fn gather(&self, left: Option<Duration>) {
        if !(1..self.block_packets).contains(&self.receive.available(self.block_packets)) {
            return;
        }
        let most = Duration::from_micros(self.info.block_timeout_us.into());
        self.signals.sleep(left.map_or(most, |left| left.min(most)));
    }

    fn is_to_ask(&self) -> bool {
        let now = clock::nanoseconds(clock::monotonic_coarse());
        now.saturating_sub(self.asked_at.swap(now, Ordering::Relaxed)) >= ASK_EVERY_NS
    }

    fn take(&self) -> Result<Option<Arc<Block>>> {
        if self.signals.is_stopped() {
            let end = *self.end.lock().get_or_insert_with(|| self.receive.end());
            if self.receive.is_behind(end) {
                return Err(stopped());
            }
        }
        self.receive.fetch(false);
        let Some(taken) = self.receive.take(self.block_packets) else { return Ok(None) };
        let info = BlockInfo {
            count: 0,
            sequence: taken.sequence,
            first_ns: taken.time_ns,
            last_ns: taken.time_ns,
            flags: 0,
            ifindex: self.info.ifindex,
        };
        let owner = Owner::Frames(Box::new(taken.lease));
        // SAFETY: each packet lies in a frame of the UMEM that the kernel is done with, or in
        // memory of the lease: both are the block's until it is given back.
        #[allow(unsafe_code)]
        let block = unsafe { Block::of_packets(taken.packets, taken.segments, info, owner) };
        Ok(Some(Arc::new(block)))
    }

    /// The block that `next_packet` and `dispatch` are in.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Ends one wait for packets. Async-signal-safe.
    pub fn wakeup(&self) {
        self.signals.wakeup();
    }

    /// Forgets a pending wakeup.
    pub fn clear_wakeup(&self) {
        self.signals.take_wakeup(true);
    }

    /// Ends every wait, those for packets once what was received is handed out.
    /// Async-signal-safe.
    pub fn stop(&self) {
        self.signals.stop();
    }

    fn transmit(&self) -> Result<MutexGuard<'_, Transmit>> {
        match &self.transmit {
            Some(transmit) => Ok(transmit.lock()),
            None => Err(Error::config(
                "flags",
                "the queue receives only: it was opened with NETRING_XDP_NO_TX",
            )),
        }
    }

    /// As an injector's.
    ///
    /// # Errors
    /// As there; `Config`: the queue does not send.
    pub fn reserve(
        &self,
        count: usize,
        timeout_ms: i32,
        mut each: impl FnMut(usize, Slot),
    ) -> Result<usize> {
        if count == 0 {
            return Err(Error::config("count", "count is 0: ask for at least one slot"));
        }
        if self.signals.is_stopped() {
            return Err(no_more());
        }
        let got = self.wait_sent(Deadline::after(timeout_ms), |transmit| {
            match transmit.reserve(count, &mut each) {
                0 => None,
                got => Some(got),
            }
        })?;
        Ok(got.unwrap_or(0))
    }

    /// As an injector's.
    ///
    /// # Errors
    /// As there.
    pub fn commit(&self, count: usize, mut slot: impl FnMut(usize) -> Slot) -> Result<usize> {
        let mut transmit = self.transmit()?;
        for at in 0..count {
            if let Err(error) = transmit.commit(&slot(at)) {
                return if at == 0 { Err(error) } else { Ok(at) };
            }
        }
        Ok(count)
    }

    /// As an injector's.
    ///
    /// # Errors
    /// As there.
    pub fn flush(&self) -> Result<u64> {
        let mut transmit = self.transmit()?;
        self.note_gone(&mut transmit);
        let handed = transmit.hand_over()?;
        if handed == 0 && self.sees_removal() {
            // No frame has gone to the kernel, which would have told.
            self.note_gone(&mut transmit);
            return transmit.hand_over();
        }
        Ok(handed)
    }

    /// As an injector's.
    ///
    /// # Errors
    /// As there.
    pub fn drain(&self, timeout_ms: i32) -> Result<bool> {
        let done = self.wait_sent(Deadline::after(timeout_ms), |transmit| {
            transmit.is_drained().then_some(())
        })?;
        Ok(done.is_some())
    }

    /// As an injector's.
    ///
    /// # Errors
    /// As there.
    pub fn send(
        &self,
        count: usize,
        timeout_ms: i32,
        mut frame: impl FnMut(usize) -> Result<(u32, Vnet)>,
        mut copy: impl FnMut(usize, &Slot) -> Result<()>,
    ) -> Result<usize> {
        if self.signals.is_stopped() {
            return Err(no_more());
        }
        let deadline = Deadline::after(timeout_ms);
        let mut taken = 0;
        while taken < count {
            let mut wrong = None;
            let got = self.wait_sent(deadline, |transmit| {
                let before = taken;
                while taken < count {
                    match copy_in(transmit, || frame(taken), |slot| copy(taken, slot)) {
                        Ok(true) => taken += 1,
                        Ok(false) => break,
                        Err(error) => {
                            wrong = Some(error);
                            break;
                        }
                    }
                }
                (taken > before || wrong.is_some()).then_some(())
            });
            // They are the queue's now, whatever the link does: what stands in the way is
            // told by the next call.
            let handed = self.flush();
            if let Some(error) = wrong {
                return if taken == 0 { Err(error) } else { Ok(taken) };
            }
            match got.and_then(|got| if taken == 0 { handed.map(|_| got) } else { Ok(got) }) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => return if taken == 0 { Err(error) } else { Ok(taken) },
            }
        }
        Ok(taken)
    }

    /// Takes packets of a block to send them from the frames they are in: the first so
    /// many. `packet` gives each.
    ///
    /// # Errors
    /// The first is wrong: `Config`, `FrameTooLarge`.
    pub fn forward(
        &self,
        block: &Block,
        count: usize,
        packet: impl Fn(usize) -> Packet,
    ) -> Result<usize> {
        if self.signals.is_stopped() {
            return Err(no_more());
        }
        let lease = block.frames().and_then(|owner| owner.as_any().downcast_ref::<Lease>());
        let Some(lease) = lease else {
            return Err(Error::config(
                "block",
                "the block is none of a queue: send a copy of its packets",
            ));
        };
        let taken = self.transmit()?.forward(lease, count, packet)?;
        if let (Some(transmit), true) = (&self.transmit, taken > 0) {
            lease.receive().leaves_by(transmit);
        }
        Ok(taken)
    }

    /// As an injector's.
    ///
    /// # Errors
    /// `Config`: the queue does not send.
    pub fn results(&self, count: usize, each: impl FnMut(usize, Refusal)) -> Result<usize> {
        Ok(self.transmit()?.results(count, each))
    }

    /// As an injector's; whether the times are the device's.
    ///
    /// # Errors
    /// `Config`: the queue does not send, or was opened without.
    pub fn timestamps(
        &self,
        count: usize,
        each: impl FnMut(usize, Timestamp, bool),
    ) -> Result<usize> {
        self.transmit()?.timestamps(count, each)
    }

    /// As an injector's.
    ///
    /// # Errors
    /// `Config`: the queue does not send.
    pub fn transmit_stats(&self) -> Result<InjectorStats> {
        Ok(self.transmit()?.stats())
    }

    fn note_gone(&self, transmit: &mut Transmit) {
        if self.common.gone.load(Ordering::Acquire) {
            transmit.set_gone();
        }
    }

    /// Hands over and looks until `done` says so; `None`: not before the deadline.
    fn wait_sent<T>(
        &self,
        deadline: Deadline,
        mut done: impl FnMut(&mut Transmit) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut nap = Duration::ZERO;
        loop {
            {
                let mut transmit = self.transmit()?;
                // As in `next_block`.
                if self.signals.is_closing() || !self.receive.umem().is_ours() {
                    return Err(closed());
                }
                if let Some(result) = done(&mut transmit) {
                    return Ok(Some(result));
                }
                self.note_gone(&mut transmit);
                transmit.hand_over()?;
                if let Some(result) = done(&mut transmit) {
                    return Ok(Some(result));
                }
            }
            if self.signals.is_stopped() {
                return Err(no_more());
            }
            if deadline.left_ms(1) == 0 {
                return Ok(None);
            }
            self.look_for_removal(nap);
            if nap >= LONGEST_NAP {
                self.receive.umem().check_ours()?;
                self.transmit()?.kick_for_sent();
            }
            if nap.is_zero() {
                // Softirqs of this CPU, and other threads, have a chance first.
                std::thread::yield_now();
                nap = FIRST_NAP;
            } else {
                clock::nap(nap);
                nap = (nap * 2).min(LONGEST_NAP);
            }
        }
    }

    /// Who only sends has nobody to tell it.
    fn look_for_removal(&self, nap: Duration) {
        if nap >= LONGEST_NAP {
            self.sees_removal();
        }
    }

    /// Looks whether the interface is gone, now and then.
    fn sees_removal(&self) -> bool {
        if self.is_to_ask() {
            let _ = self.epoll.wait(0, |ready| {
                if ready.key == REMOVAL {
                    self.common.gone.store(true, Ordering::Release);
                }
            });
            self.common.look();
        }
        self.common.gone.load(Ordering::Acquire)
    }

    /// Numbers as of a capture.
    pub fn stats(&self) -> Stats {
        let rx = self.receive.counters();
        let kernel = self.statistics();
        let received = rx.delivered + rx.pending;
        let dropped = kernel.rx_dropped + kernel.rx_ring_full;
        let now = clock::monotonic();
        let held_ns = |since| clock::nanoseconds(now.saturating_sub(since));
        Stats {
            time_ns: clock::nanoseconds(now),
            received,
            delivered: rx.delivered,
            pending: rx.pending,
            seen: received + dropped,
            dropped,
            blocks_delivered: rx.blocks,
            blocks_ready: rx.pending.div_ceil(self.block_packets.into()),
            blocks_held: rx.blocks_held,
            oldest_held_ns: rx.oldest.map_or(0, held_ns),
            ..Stats::default()
        }
    }

    fn statistics(&self) -> Statistics {
        let mut last = self.statistics.lock();
        if let Some(socket) = &*self.socket.lock() {
            if let Ok(now) = socket.xdp_statistics() {
                *last = now;
            }
        }
        *last
    }

    /// The others.
    pub fn counters(&self) -> XdpCounters {
        self.receive.fetch(true);
        let rx = self.receive.counters();
        let (tx, stats) = match &self.transmit {
            Some(transmit) => {
                let mut transmit = transmit.lock();
                let stats = transmit.stats();
                (transmit.counters(), stats)
            }
            None => (TransmitCounters::default(), InjectorStats::default()),
        };
        XdpCounters {
            time_ns: clock::nanoseconds(clock::monotonic()),
            kernel: self.statistics(),
            strange: rx.strange,
            polls: self.polls.load(Ordering::Relaxed),
            rx_kicks: rx.kicks,
            tx_kicks: stats.kicks,
            kicks_saved: rx.kicks_saved + tx.kicks_saved,
            forwarded: tx.forwarded,
            rx_frames: self.receive.frame_count().into(),
            rx_kernel: rx.with_kernel.into(),
            rx_held: rx.held,
            rx_forwarded: rx.abroad,
            tx_frames: tx.frames,
            tx_free: tx.free,
            tx_open: stats.open,
            tx_committed: stats.waiting,
            tx_in_flight: stats.in_flight,
        }
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this queue.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Sends waiting threads home; the first half of a close.
    pub fn interrupt(&self) {
        self.signals.close();
    }

    /// Ends the socket; no call is in progress any more. How many committed frames have
    /// not left.
    pub fn close(&self) -> u64 {
        if let Ok(mut current) = self.current.enter() {
            current.replace(None);
        }
        let left = self.transmit.as_ref().map_or(0, |transmit| transmit.lock().close());
        self.statistics();
        self.receive.close();
        if let Some(socket) = self.socket.lock().take() {
            self.epoll.remove(socket.fd());
        }
        left
    }
}

impl Sender for Queue {
    fn link_type(&self) -> u16 {
        NETRING_LINKTYPE_ETHERNET
    }

    fn takes_vnet(&self) -> bool {
        false
    }

    fn send(
        &self,
        count: usize,
        timeout_ms: i32,
        frame: impl FnMut(usize) -> Result<(u32, Vnet)>,
        copy: impl FnMut(usize, &Slot) -> Result<()>,
    ) -> Result<usize> {
        self.send(count, timeout_ms, frame, copy)
    }
}

/// Copies one frame into a slot; false: there is none.
fn copy_in(
    transmit: &mut Transmit,
    frame: impl FnOnce() -> Result<(u32, Vnet)>,
    copy: impl FnOnce(&Slot) -> Result<()>,
) -> Result<bool> {
    let (len, vnet) = frame()?;
    if len == 0 {
        return Err(Error::config("len", "len is 0: a frame has a header at least"));
    }
    let mut given = None;
    if transmit.reserve(1, |_, slot| given = Some(slot)) == 0 {
        return Ok(false);
    }
    let Some(mut slot) = given else { return Ok(false) };
    slot.len = len;
    slot.set_vnet(vnet);
    let copied = if len <= slot.capacity { copy(&slot) } else { Ok(()) };
    if let Err(error) = copied.and_then(|()| transmit.commit(&slot)) {
        slot.len = 0;
        // A slot that was just handed out can be given back.
        let _ = transmit.commit(&slot);
        return Err(error);
    }
    Ok(true)
}

fn not_waited(call: &'static str, errno: Errno) -> Error {
    Error::new(Kind::Io, call, format!("waiting failed: {errno}")).with_os(errno.0)
}

fn closed() -> Error {
    Error::new(Kind::BadHandle, "queue", "the xdp of this queue is closed")
}

fn stopped() -> Error {
    Error::new(Kind::Shutdown, "stop", "the queue is stopped")
}

fn no_more() -> Error {
    Error::new(Kind::Shutdown, "stop", "stopped: the queue takes no more frames")
}

fn woken() -> Error {
    Error::new(Kind::Wakeup, "wakeup", "the wait was ended by a wakeup")
}

pub(super) fn no_waiter(errno: Errno) -> Error {
    Error::new(
        Kind::Io,
        "epoll",
        format!("the descriptors that a queue waits on were refused: {errno}; raise `ulimit -n`"),
    )
    .with_os(errno.0)
}
