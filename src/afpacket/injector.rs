//! The injector: frames out of one interface.
//!
//! How a frame leaves: [`Injector::reserve`] hands out a slot, the caller writes into
//! it, [`Injector::commit`] takes it back into the [`order`], [`Injector::flush`] has
//! the kernel take what is committed with one system call, and a later call makes
//! the slot free again when the kernel is done with it. [`slots`] are memory shared
//! with the kernel ([`ring`]) or copied by it ([`messages`]). [`link`] knows whether
//! frames can leave, [`pace`] how fast they may; [`open`] builds all of it, with the
//! [`method`] that suits the device.

pub mod config;
pub(crate) mod link;
mod losses;
#[allow(unsafe_code)]
mod messages;
mod method;
mod open;
mod order;
mod pace;
pub(crate) mod received;
#[allow(unsafe_code)]
mod ring;
#[allow(unsafe_code)]
mod slots;
mod stamps;
mod waiter;

use self::config::{Method, VLAN_TAG, flags};
use self::link::{Interface, Link};
use self::losses::Losses;
use self::order::{Frame, Open, Order};
use self::pace::Pace;
use self::slots::Stop;
use self::stamps::Stamps;
pub use self::stamps::Timestamp;
use self::waiter::Waiter;
use crate::afpacket::capture::Deadline;
use crate::afpacket::record::rewrite::Vnet;
use crate::config::Bound;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::slot::Slot;
use crate::sys::netlink::TransmitCounters;
use crate::sys::socket::Socket;
use crate::sys::{Errno, clock};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM.
const NEEDS_CSUM: u8 = 1;
/// VIRTIO_NET_HDR_F_DATA_VALID, which says nothing about a frame to be sent.
const DATA_VALID: u8 = 2;
/// How long a full queue is asked again while nothing of ours is in it: then it is no
/// queue that drops the frame (a tc filter, the driver), and waiting does not help.
const GIVE_UP_AFTER: Duration = Duration::from_millis(100);
/// How long to leave a full queue alone. Nothing tells when it has room.
const QUEUE_PAUSE: Duration = Duration::from_micros(200);
/// How long to leave a link alone that was set down, where that is no error.
const LINK_PAUSE: Duration = Duration::from_millis(10);
/// A wait looks at the link that often.
const LONGEST_WAIT_MS: i32 = 100;

/// What was granted.
#[derive(Debug, Clone)]
pub struct InjectorInfo {
    /// How frames get into the kernel.
    pub method: Method,
    /// Bytes of the largest frame a slot holds.
    pub slot_size: u32,
    /// Slots.
    pub slot_count: u32,
    /// Slots as asked for, or the default.
    pub requested_slot_count: u32,
    /// What made them fewer.
    pub shrunk_by: Vec<Bound>,
    /// Index of the interface.
    pub ifindex: u32,
    /// LINKTYPE_ number of its frames.
    pub link_type: u16,
    /// Its MTU now.
    pub mtu: u32,
    /// Bytes of the largest frame now.
    pub frame_limit: u32,
    /// The running kernel, 0x00MMmmpp.
    pub kernel_version: u32,
    /// Bytes that frames on their way may hold (SO_SNDBUF).
    pub send_buffer: u32,
    /// `flags`.
    pub flags: u64,
    /// Bytes of the slots.
    pub memory: u64,
    /// Bytes they could have taken.
    pub memory_bound: u64,
    /// Name of the interface now.
    pub interface: String,
}

/// What became of the frames. Cumulative since the open, except the gauges.
/// reserved = committed + discarded + open; committed = handed + refused + dropped +
/// waiting; handed = completed + in_flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InjectorStats {
    /// CLOCK_MONOTONIC of the reading.
    pub time_ns: u64,
    /// Slots handed out.
    pub reserved: u64,
    /// Slots given back with a frame.
    pub committed: u64,
    /// Slots given back without.
    pub discarded: u64,
    /// Frames that the kernel took.
    pub handed: u64,
    /// Their bytes.
    pub handed_bytes: u64,
    /// Frames whose slots the kernel is done with.
    pub completed: u64,
    /// Frames that the kernel made no packet of, or that had no interface any more.
    pub refused: u64,
    /// Frames that qdisc or driver dropped whenever they were offered.
    pub dropped: u64,
    /// Results that nobody fetched in time.
    pub results_lost: u64,
    /// Frames of which no timestamp came, and timestamps that nobody fetched in time.
    pub timestamps_lost: u64,
    /// System calls that handed frames over.
    pub kicks: u64,
    /// Of them, those that ended at a full send buffer (EAGAIN).
    pub full_socket: u64,
    /// Of them, those that ended at a full queue (ENOBUFS).
    pub full_queue: u64,
    /// Gauge: slots handed out.
    pub open: u64,
    /// Gauge: frames committed that the kernel has not taken.
    pub waiting: u64,
    /// Gauge: of these, frames behind an open slot.
    pub held_back: u64,
    /// Gauge: frames that the kernel is not done with.
    pub in_flight: u64,
    /// What the interface lost since the open, where it says so.
    pub interface: Option<TransmitCounters>,
    /// What its root queueing discipline dropped, likewise.
    pub queue_drops: Option<u64>,
}

/// A frame that did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The slot's.
    pub cookie: u64,
    /// Which documented error.
    pub kind: Kind,
    /// What the kernel said; 0: nothing.
    pub os: i32,
}

/// What has the frames wait that could leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// The kernel has slots or send buffer in use: the socket tells when it is done.
    Socket,
    /// Nobody tells: to be looked at again then.
    Until(Duration),
}

impl Blocked {
    fn until(self) -> Option<Duration> {
        match self {
            Self::Until(at) => Some(at),
            Self::Socket => None,
        }
    }
}

/// What a push came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed {
    /// Frames that the kernel took.
    pub(super) handed: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Frames that wait.
    pub(super) waiting: u64,
    /// They do for the socket, which tells when it has room.
    pub(super) for_socket: bool,
    /// Bytes of the largest frame without a VLAN tag; `None`: the kernel knows.
    pub(super) limit: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Injector {
    socket: Socket,
    waiter: Waiter,
    state: Mutex<State>,
    /// Where threads wait while another one does for the kernel.
    sleepers: Condvar,
    info: InjectorInfo,
    last_error: Mutex<Option<Error>>,
    /// Somebody has the descriptor.
    is_watched: AtomicBool,
    /// What is lost behind the injector.
    losses: Mutex<Option<Losses>>,
}

/// What is under the lock.
#[derive(Debug)]
struct State {
    order: Order,
    interface: Interface,
    pace: Option<Pace>,
    /// Bytes of the largest frame a slot holds.
    capacity: u32,
    flags: u64,
    /// Slots free at once when the kernel returns.
    copies: bool,
    results: VecDeque<Refusal>,
    /// How many are kept.
    most_results: usize,
    /// With `flags::TIMESTAMPS`.
    stamps: Option<Stamps>,
    blocked: Blocked,
    /// The last handing over found something in the way: it is not to be tried at once.
    stuck: bool,
    /// It failed, and would again.
    failing: bool,
    /// Since when a full queue has refused the next frame, with nothing of ours in it.
    refused_since: Option<Duration>,
    /// How long that goes on before the frame is given up.
    give_up_after: Duration,
    /// When that was, where the frames that fare the same soon after are not tried again.
    gave_up: Option<Duration>,
    stats: InjectorStats,
    /// The descriptor is readable because a slot is free.
    more: bool,
    /// It will be when the socket tells something.
    watched: bool,
    /// One of the threads that wait does so for the kernel: at the waiter's descriptors.
    has_sentry: bool,
    /// The others wait for it, and for what else changes: so many.
    sleepers: u32,
    /// The changes that they were last told of.
    told: u64,
}

impl Injector {
    /// Up to `count` slots; `each` is called with the number and the slot of each.
    /// Waits for one up to `timeout_ms` (negative: for ever); 0: none was free.
    ///
    /// # Errors
    /// `LinkDown`, `InterfaceNotFound`: none is free and none will be. `Shutdown`,
    /// `Wakeup`, `BadHandle` (closed meanwhile), `Io`.
    pub fn reserve(
        &self,
        count: usize,
        timeout_ms: i32,
        mut each: impl FnMut(usize, Slot),
    ) -> Result<usize> {
        if count == 0 {
            return Err(Error::config("count", "count is 0: ask for at least one slot"));
        }
        if self.waiter.signals.is_stopped() {
            return Err(stopped());
        }
        let mut state = self.state.lock();
        let got = state.reserve(count, &mut each);
        if got > 0 {
            self.rearm(&mut state);
            return Ok(got);
        }
        self.wait(state, timeout_ms, |state| match state.reserve(count, &mut each) {
            0 => None,
            got => Some(got),
        })
        .map(|got| got.unwrap_or(0))
    }

    /// Takes slots back, with frames or (len 0) without, up to the first that is
    /// wrong; returns how many.
    ///
    /// # Errors
    /// The first is wrong: `FrameTooLarge`, `Config`. It stays handed out.
    pub fn commit(&self, count: usize, mut slot: impl FnMut(usize) -> Slot) -> Result<usize> {
        let mut state = self.state.lock();
        for at in 0..count {
            if let Err(error) = state.commit(&self.socket, &slot(at)) {
                self.rearm(&mut state);
                return if at == 0 { Err(error) } else { Ok(at) };
            }
        }
        self.rearm(&mut state);
        Ok(count)
    }

    /// Has the kernel take what is committed, as far as it does now; returns how many
    /// frames.
    ///
    /// # Errors
    /// `LinkDown`: they stay. `InterfaceNotFound`: they are refused. `Io`.
    pub fn flush(&self) -> Result<u64> {
        let mut state = self.state.lock();
        let handed = state.hand_over(&self.socket);
        self.rearm(&mut state);
        handed
    }

    /// As [`flush`](Self::flush), for a bridge: also tells what that came to, and of each
    /// frame that will not leave.
    pub(super) fn push(&self, refused: impl FnMut(Refusal)) -> (Result<()>, Pushed) {
        let mut state = self.state.lock();
        let before = state.stats;
        let result = state.hand_over(&self.socket).map(drop);
        state.results.drain(..).for_each(refused);
        let waiting = state.order.ready();
        let pushed = Pushed {
            handed: state.stats.handed - before.handed,
            bytes: state.stats.handed_bytes - before.handed_bytes,
            waiting,
            for_socket: waiting > 0 && state.blocked == Blocked::Socket,
            limit: state.interface.limit(false),
        };
        (result, pushed)
    }

    /// Frames that are dropped though none of ours is in the queue are tried again for so
    /// long, and then, until that has not happened for a while, not at all: what a bridge
    /// carries for others shall not wait behind them.
    pub(super) fn give_up_after(&self, patience: Duration) {
        let mut state = self.state.lock();
        state.give_up_after = patience.min(GIVE_UP_AFTER);
        state.gave_up = Some(Duration::ZERO);
    }

    /// Takes back the frames that wait, for a bridge: it has no use for old ones. How many.
    pub(super) fn abandon(&self) -> u64 {
        let mut state = self.state.lock();
        let mut count = 0;
        state.order.refuse(|_, _| Some(()), |_, ()| count += 1);
        state.stats.dropped += count;
        count
    }

    /// Gets writable when the socket has room.
    pub(super) fn socket_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// Waits until everything that can leave has left and the kernel is done with it;
    /// false: not within `timeout_ms`.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn drain(&self, timeout_ms: i32) -> Result<bool> {
        let state = self.state.lock();
        let done = self.wait(state, timeout_ms, |state| {
            // What was waiting when the interface was removed has not left.
            let can_leave = !state.interface.is_gone();
            let left = state.order.ready() == 0 && state.order.in_flight() == 0;
            let done = left && (!state.copies || self.socket.send_queue().unwrap_or(0) == 0);
            (done && can_leave).then_some(())
        });
        done.map(|done| done.is_some())
    }

    /// Copies frames into slots and has the kernel take them; returns how many found
    /// a slot. `frame` gives the length of each and what is left to do for it, and
    /// `copy` writes it.
    ///
    /// # Errors
    /// No frame was taken: as [`reserve`](Self::reserve) and [`commit`](Self::commit).
    pub fn send(
        &self,
        count: usize,
        timeout_ms: i32,
        mut frame: impl FnMut(usize) -> Result<(u32, Vnet)>,
        mut copy: impl FnMut(usize, &Slot) -> Result<()>,
    ) -> Result<usize> {
        let deadline = Deadline::after(timeout_ms);
        let mut taken = 0;
        while taken < count {
            if self.waiter.signals.is_stopped() {
                return if taken == 0 { Err(stopped()) } else { Ok(taken) };
            }
            let mut state = self.state.lock();
            while taken < count {
                match state.copy_in(&self.socket, || frame(taken), |slot| copy(taken, slot)) {
                    Ok(true) => taken += 1,
                    Ok(false) => break,
                    Err(error) => {
                        // What was taken before it leaves; what stands in the way is told
                        // by the next call.
                        let _ = state.hand_over(&self.socket);
                        self.rearm(&mut state);
                        return if taken == 0 { Err(error) } else { Ok(taken) };
                    }
                }
            }
            let handed = state.hand_over(&self.socket);
            if taken == count {
                self.rearm(&mut state);
                // They are the injector's now, whatever the link does.
                return Ok(taken);
            }
            let free = |state: &mut State| (state.free_slots() > 0).then_some(());
            let room = handed.and_then(|_| self.wait(state, deadline.left_ms(-1), free));
            match room {
                Ok(Some(())) => {}
                Ok(None) => return Ok(taken),
                Err(error) => return if taken == 0 { Err(error) } else { Ok(taken) },
            }
        }
        Ok(taken)
    }

    /// The oldest results that were not fetched, up to `count`.
    pub fn results(&self, count: usize, mut each: impl FnMut(usize, Refusal)) -> usize {
        let mut state = self.state.lock();
        let got = count.min(state.results.len());
        state.results.drain(..got).enumerate().for_each(|(at, refusal)| each(at, refusal));
        got
    }

    /// The oldest timestamps that were not fetched, up to `count`.
    ///
    /// # Errors
    /// `Config`: it has none.
    pub fn timestamps(&self, count: usize, each: impl FnMut((usize, Timestamp))) -> Result<usize> {
        let mut state = self.state.lock();
        let Some(stamps) = &mut state.stamps else {
            return Err(Error::config(
                "flags",
                "the injector was opened without NETRING_INJECTOR_TIMESTAMPS",
            ));
        };
        stamps.look(&self.socket);
        let mut got = 0;
        stamps.fetch(count).inspect(|_| got += 1).enumerate().for_each(each);
        Ok(got)
    }

    /// What became of the frames.
    pub fn stats(&self) -> InjectorStats {
        let mut state = self.state.lock();
        state.reclaim();
        if let Some(stamps) = &mut state.stamps {
            stamps.look(&self.socket);
        }
        let mut stats = state.stats();
        drop(state);
        stats.time_ns = clock::nanoseconds(clock::monotonic());
        if let Some(losses) = self.losses.lock().as_mut() {
            stats.interface = losses.interface(self.info.ifindex);
            stats.queue_drops = losses.queue(self.info.ifindex);
        }
        stats
    }

    /// What was granted, and how the interface is now.
    pub fn info(&self) -> InjectorInfo {
        let mut info = self.info.clone();
        let mut state = self.state.lock();
        state.interface.look(&self.socket, clock::monotonic());
        info.mtu = state.interface.mtu;
        info.frame_limit = state.interface.limit(false).unwrap_or(info.slot_size);
        drop(state);
        if let Ok(name) = self.socket.interface_name(info.ifindex) {
            info.interface = String::from_utf8_lossy(&name).into_owned();
        }
        info
    }

    /// A descriptor that is readable while `reserve` with a timeout of 0 would return
    /// something.
    pub fn fd(&self) -> RawFd {
        if !self.is_watched.swap(true, Ordering::Relaxed) {
            let mut state = self.state.lock();
            self.rearm(&mut state);
        }
        self.waiter.fd()
    }

    /// Ends one wait. Async-signal-safe.
    pub fn wakeup(&self) {
        self.waiter.signals.wakeup();
    }

    /// Forgets a pending wakeup.
    pub fn clear_wakeup(&self) {
        self.waiter.signals.take_wakeup(true);
    }

    /// Ends every wait, now and later. Async-signal-safe.
    pub fn stop(&self) {
        self.waiter.signals.stop();
    }

    /// Sends waiting threads home; the first half of a close.
    pub fn interrupt(&self) {
        self.waiter.signals.close();
    }

    /// Has the kernel take what it does at once; how many committed frames it has not
    /// taken. The second half of a close, when no call is in progress any more.
    pub fn close(&self) -> u64 {
        let mut state = self.state.lock();
        let lost = |state: &State| state.stats.refused + state.stats.dropped;
        let before = lost(&state);
        let _ = state.hand_over(&self.socket);
        let left = state.stats().waiting + lost(&state) - before;
        if left > 0 {
            log::warning!(
                "{}: injector closed with {left} committed frames that the kernel did not take \
                 ({} of them behind a slot that was not given back): drain before the close",
                self.info.interface,
                state.order.held_back()
            );
        }
        left
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this injector.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Waits until `done` has something, for at most `timeout_ms`; hands over what is
    /// committed meanwhile.
    fn wait<'a, T>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout_ms: i32,
        mut done: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Deadline::after(timeout_ms);
        let mut watching = None;
        let result = loop {
            let handed = state.hand_over(&self.socket);
            state.reclaim();
            self.rearm(&mut state);
            if let Some(value) = done(&mut state) {
                self.rearm(&mut state);
                break Ok(Some(value));
            }
            if let Err(error) = self.ended(handed) {
                break Err(error);
            }
            let left = deadline.left_ms(LONGEST_WAIT_MS);
            if left == 0 {
                break Ok(None);
            }
            let until = state.blocked.until();
            if state.has_sentry {
                state.sleepers += 1;
                self.sleepers
                    .wait_for(&mut state, Duration::from_millis(left.unsigned_abs().into()));
                state.sleepers -= 1;
                continue;
            }
            if watching.is_none() {
                match self.waiter.watch(&self.socket) {
                    Ok(now) => watching = Some(now),
                    Err(errno) => break Err(wait_failed(errno)),
                }
            }
            state.has_sentry = true;
            let seen = state.told;
            self.waiter.set_timer(until);
            let waited =
                MutexGuard::unlocked(&mut state, || self.waiter.wait(left, until.is_some()));
            state.has_sentry = false;
            if state.told != seen {
                self.waiter.no_progress();
            }
            if let Err(errno) = waited {
                break Err(wait_failed(errno));
            }
            // What ended the wait may be a link that goes down: that empties its queue, which
            // from then on swallows what is sent.
            state.interface.forget();
        };
        // Another one waits for the kernel now.
        if !state.has_sentry && state.sleepers > 0 {
            self.sleepers.notify_one();
        }
        result
    }

    /// Whether a wait is over for another reason than its own.
    fn ended(&self, handed: Result<u64>) -> Result<()> {
        let signals = &self.waiter.signals;
        if signals.is_closing() {
            return Err(Error::new(
                Kind::BadHandle,
                "handle",
                "bad handle: the injector was closed during the call",
            ));
        }
        handed?;
        if signals.is_stopped() {
            return Err(stopped());
        }
        if signals.take_wakeup(false) {
            return Err(Error::new(Kind::Wakeup, "wakeup", "the wait was ended by a wakeup"));
        }
        Ok(())
    }

    /// After a change of what is free or waits: keeps the descriptor right, and has
    /// waiting threads look. One that has looked in vain has changed nothing, and wakes no
    /// other.
    fn rearm(&self, state: &mut State) {
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        if is_watched {
            self.rearm_loops(state);
        }
        if is_watched || state.has_sentry {
            let timed = state.has_sentry || !state.gives();
            self.waiter.set_timer(state.blocked.until().filter(|_| timed));
        }
        let changes = state.stats.changes();
        if state.told != changes {
            state.told = changes;
            if state.has_sentry {
                self.waiter.progress();
            }
            if state.sleepers > 0 {
                self.sleepers.notify_all();
            }
        }
    }

    /// Keeps the descriptor right: readable while `reserve` would return something, and
    /// when it is time to look again.
    fn rearm_loops(&self, state: &mut State) {
        let tells = state.tells();
        if state.watched && !tells {
            state.watched = self.waiter.watch_for_loops(&self.socket, false).is_err();
        }
        if !state.gives() {
            if !state.watched && tells {
                // Where that fails the next call tries again.
                state.watched = self.waiter.watch_for_loops(&self.socket, true).is_ok();
            }
            // Whatever the socket has told is taken note of, so that the descriptor is not
            // readable for it any longer; then once more, for what came in between.
            let _ = self.waiter.note();
            if state.order.ready() > 0 && state.blocked == Blocked::Socket {
                let _ = state.hand_over(&self.socket);
            }
            state.reclaim();
        }
        let gives = state.gives();
        if gives && state.watched {
            state.watched = self.waiter.watch_for_loops(&self.socket, false).is_err();
        }
        if gives != state.more {
            state.more = gives;
            if gives {
                self.waiter.signals.more();
            } else {
                self.waiter.signals.no_more();
            }
        }
    }
}

impl InjectorStats {
    /// Goes up with everything that a waiting thread may wait for.
    fn changes(&self) -> u64 {
        let slots = self.committed + self.discarded;
        slots + self.handed + self.completed + self.refused + self.dropped
    }
}

impl State {
    fn free_slots(&mut self) -> u64 {
        if self.order.free() == 0 {
            self.reclaim();
        }
        self.order.free()
    }

    fn reclaim(&mut self) {
        self.stats.completed += self.order.reclaim();
    }

    fn reserve(&mut self, count: usize, each: &mut impl FnMut(usize, Slot)) -> usize {
        if self.order.free() < count as u64 {
            self.reclaim();
        }
        let capacity = self.capacity;
        let mut at = 0;
        let got = self.order.reserve(count as u64, |cookie, data| {
            each(at, Slot { data: data.as_ptr(), capacity, cookie, ..Slot::ZERO });
            at += 1;
        });
        self.stats.reserved += got;
        got as usize
    }

    /// A frame copied into the next slot; false: none is free.
    fn copy_in(
        &mut self,
        socket: &Socket,
        frame: impl FnOnce() -> Result<(u32, Vnet)>,
        copy: impl FnOnce(&Slot) -> Result<()>,
    ) -> Result<bool> {
        if self.free_slots() == 0 {
            return Ok(false);
        }
        let (len, vnet) = frame()?;
        if len == 0 {
            return Err(Error::config("len", "a frame has 0 bytes"));
        }
        if len > self.capacity {
            return Err(self.too_large(len));
        }
        let mut slot = Slot::ZERO;
        self.reserve(1, &mut |_, reserved| slot = reserved);
        slot.len = len;
        slot.set_vnet(vnet);
        let committed = copy(&slot).and_then(|()| self.commit(socket, &slot));
        if committed.is_err() {
            // It never was: the caller has not seen the slot.
            slot.len = 0;
            let _ = self.commit(socket, &slot);
        }
        committed.map(|()| true)
    }

    fn commit(&mut self, socket: &Socket, slot: &Slot) -> Result<()> {
        let Some(open) = self.order.find(slot.cookie) else {
            return Err(Error::config(
                "cookie",
                format!(
                    "cookie {} names no slot that is handed out: given back before, or of another \
                     injector",
                    slot.cookie
                ),
            ));
        };
        if slot.data != self.order.data(open).as_ptr() {
            return Err(Error::config(
                "data",
                format!("the slot with cookie {} has another address than it had", slot.cookie),
            ));
        }
        let len = slot.len;
        if !slot.is_plain() || len > self.capacity || !self.interface.takes(len) {
            self.check(socket, open, slot)?;
        }
        if len != 0 {
            self.stats.committed += 1;
        } else {
            self.stats.discarded += 1;
        }
        self.order.commit(open, len, slot.vnet());
        Ok(())
    }

    /// What would be refused later is refused here, where the caller can still see why.
    #[cold]
    fn check(&mut self, socket: &Socket, open: Open, slot: &Slot) -> Result<()> {
        if slot.reserved != [0; 6] {
            return Err(Error::config("reserved", "reserved of a slot is not 0"));
        }
        let len = slot.len;
        if len == 0 {
            return Ok(());
        }
        if len > self.capacity {
            return Err(self.too_large(len));
        }
        if let Some(header) = self.interface.header {
            if len < header {
                return Err(Error::config(
                    "len",
                    format!("a frame of {len} bytes has no link-layer header: it takes {header}"),
                ));
            }
        }
        let vnet = slot.vnet();
        if self.flags & flags::VNET_HEADER != 0 {
            check_vnet(len, vnet)?;
        } else if vnet != Vnet::default() {
            return Err(Error::config(
                "vnet",
                "checksum or segmentation state is given to an injector without \
                 NETRING_INJECTOR_VNET_HEADER",
            ));
        }
        let order = &self.order;
        let fits = |interface: &Interface| {
            // A super-packet is cut before the device; the tag is looked for only where it
            // makes a difference.
            vnet.gso_type != 0
                || interface.limit(false).is_none_or(|limit| len <= limit)
                || interface
                    .limit(true)
                    .is_some_and(|limit| len <= limit && order.is_open_tagged(open, len))
        };
        if !fits(&self.interface) {
            // The MTU may have grown.
            self.interface.look(socket, clock::monotonic());
            if !fits(&self.interface) {
                return Err(self.larger_than_mtu(len));
            }
        }
        Ok(())
    }

    fn too_large(&self, len: u32) -> Error {
        // Larger slots alone would not help where the interface takes no such frame.
        let limit = self.interface.limit(true).filter(|_| self.flags & flags::VNET_HEADER == 0);
        let remedy = match limit {
            Some(limit) if len > limit => format!(
                "the interface takes none either with its MTU of {}: raise that and open the \
                 injector again, or send a super-packet with NETRING_INJECTOR_VNET_HEADER",
                self.interface.mtu
            ),
            _ => "open the injector with a larger slot_size".to_owned(),
        };
        Error::new(
            Kind::FrameTooLarge,
            "slot_size",
            format!(
                "a frame of {len} bytes is larger than a slot, which holds {}: {remedy}",
                self.capacity
            ),
        )
    }

    fn larger_than_mtu(&self, len: u32) -> Error {
        Error::new(
            Kind::FrameTooLarge,
            "mtu",
            format!(
                "a frame of {len} bytes is larger than the interface takes: MTU {} and a \
                 link-layer header of {} bytes (and {VLAN_TAG} more with a VLAN tag); raise its \
                 MTU, or send a super-packet with NETRING_INJECTOR_VNET_HEADER",
                self.interface.mtu,
                self.interface.header.unwrap_or(0)
            ),
        )
    }

    fn stats(&self) -> InjectorStats {
        let mut stats = self.stats;
        stats.open = self.order.open();
        stats.held_back = self.order.held_back();
        stats.waiting = self.order.ready() + stats.held_back;
        stats.in_flight = self.order.in_flight();
        stats.timestamps_lost = self.stamps.as_ref().map_or(0, |stamps| stamps.lost);
        stats
    }

    fn tell(&mut self, refusal: Refusal) {
        if self.results.len() == self.most_results {
            self.results.pop_front();
            self.stats.results_lost += 1;
        }
        self.results.push_back(refusal);
    }

    /// Whether `reserve` would return something: a slot, one that handing over makes
    /// free, or an error.
    fn gives(&self) -> bool {
        let may_give = self.order.ready() > 0 && !self.stuck;
        self.order.free() > 0 || may_give || self.failing
    }

    /// Whether what the socket tells matters: the kernel gives slots back, or has no
    /// send buffer for frames that wait.
    fn tells(&self) -> bool {
        let slots = !self.copies && self.order.in_flight() > 0;
        slots || (self.order.ready() > 0 && self.blocked == Blocked::Socket)
    }

    /// Has the kernel take what is committed, as far as it does now and as fast as it
    /// may; how many frames it took.
    fn hand_over(&mut self, socket: &Socket) -> Result<u64> {
        let handed = self.hand_over_now(socket);
        self.stuck = self.order.ready() > 0;
        if let Some(pace) = self.pace.as_mut().filter(|_| !self.stuck) {
            pace.rest();
        }
        self.failing = handed.is_err();
        handed
    }

    fn hand_over_now(&mut self, socket: &Socket) -> Result<u64> {
        self.blocked = Blocked::Socket;
        let now = clock::monotonic();
        let link = self.interface.link(socket, now);
        if let (Link::Settles(at), false) = (link, self.ignores_link()) {
            self.blocked = Blocked::Until(at);
            return Ok(0);
        }
        self.may_leave(link)?;
        let mut total = 0;
        while self.order.ready() > 0 {
            let due = match &mut self.pace {
                None => self.order.ready(),
                Some(pace) => {
                    let lengths = self.order.waiting().map(|frame| frame.len);
                    u64::from(pace.allow(now, lengths))
                }
            };
            if due == 0 {
                let next = self.pace.as_ref().map(|pace| pace.next(now));
                self.blocked = Blocked::Until(next.unwrap_or(now));
                break;
            }
            let due = match &mut self.stamps {
                None => due,
                Some(stamps) => due.min(stamps.allow(socket)),
            };
            if due == 0 {
                self.blocked = Blocked::Until(now + QUEUE_PAUSE);
                break;
            }
            let (pace, stats, stamps) = (&mut self.pace, &mut self.stats, &mut self.stamps);
            let handed = self.order.hand_over(socket, due, |frame| {
                stats.handed_bytes += u64::from(frame.len);
                if let Some(pace) = pace {
                    pace.spend(frame.len);
                }
                if let Some(stamps) = stamps {
                    stamps.handed(frame.cookie);
                }
            });
            if let (Some(stamps), Some(stop)) = (&mut self.stamps, handed.stop) {
                match stop {
                    Stop::Failed(Errno(libc::EAGAIN)) => {}
                    Stop::Failed(Errno(libc::ENOBUFS)) => stamps.wasted(),
                    _ => stamps.number_anew(),
                }
            }
            self.stats.kicks += 1;
            self.stats.handed += u64::from(handed.taken);
            total += u64::from(handed.taken);
            if handed.taken > 0 {
                self.refused_since = None;
            }
            match handed.stop {
                None if self.copies => self.reclaim(),
                None => {}
                Some(Stop::Refused(errno)) => self.refused(socket, errno),
                Some(Stop::Failed(errno)) if self.failed(socket, errno)? => {}
                Some(Stop::Failed(_)) => break,
            }
        }
        Ok(total)
    }

    /// The kernel made no packet of the next frame. Of those behind it, the ones that
    /// will fare the same go with it.
    fn refused(&mut self, socket: &Socket, errno: Errno) {
        let kind = if errno.0 == libc::EMSGSIZE { Kind::FrameTooLarge } else { Kind::Config };
        self.interface.look(socket, clock::monotonic());
        let mut first = true;
        let interface = &self.interface;
        let too_large = |order: &Order, frame: &Frame| {
            errno.0 == libc::EMSGSIZE
                && frame.vnet.gso_type == 0
                && interface.limit(order.is_tagged(frame)).is_some_and(|limit| frame.len > limit)
        };
        let mut refusals = Vec::new();
        self.order.refuse(
            |order, frame| (std::mem::take(&mut first) || too_large(order, frame)).then_some(()),
            |frame, ()| refusals.push(Refusal { cookie: frame.cookie, kind, os: errno.0 }),
        );
        self.stats.refused += refusals.len() as u64;
        refusals.into_iter().for_each(|refusal| self.tell(refusal));
    }

    /// The kernel took no more. True: the rest can be tried at once.
    fn failed(&mut self, socket: &Socket, errno: Errno) -> Result<bool> {
        match errno.0 {
            libc::EAGAIN => {
                self.stats.full_socket += 1;
                self.blocked = Blocked::Socket;
                Ok(false)
            }
            libc::ENOBUFS | libc::ENOMEM => {
                self.stats.full_queue += 1;
                let now = clock::monotonic();
                self.blocked = Blocked::Until(now + QUEUE_PAUSE);
                if socket.send_queue().unwrap_or(1) > 0 {
                    self.refused_since = None;
                    return Ok(false);
                }
                let since = *self.refused_since.get_or_insert(now);
                // IFF_RUNNING follows the carrier up to a second later.
                let has_carrier = self.interface.keeps_carrier(socket, now);
                if !has_carrier && !self.ignores_link() {
                    self.interface.set_down();
                    self.refused_since = None;
                    return Err(link_down());
                }
                let again =
                    self.gave_up.is_some_and(|last| now.saturating_sub(last) < GIVE_UP_AFTER);
                if has_carrier && !again && now.saturating_sub(since) < self.give_up_after {
                    return Ok(false);
                }
                self.refused_since = None;
                self.gave_up = self.gave_up.map(|_| now);
                let mut first = true;
                let mut dropped = None;
                self.order.refuse(
                    |_, _| std::mem::take(&mut first).then_some(()),
                    |frame, ()| dropped = Some(frame.cookie),
                );
                if let Some(cookie) = dropped {
                    self.stats.dropped += 1;
                    self.tell(Refusal { cookie, kind: Kind::Io, os: errno.0 });
                }
                Ok(true)
            }
            libc::ENETDOWN => {
                // Where it was down before this may be what the socket has kept of that.
                let _ = socket.take_error();
                self.interface.look(socket, clock::monotonic());
                if !self.ignores_link() {
                    return Err(link_down());
                }
                self.blocked = Blocked::Until(clock::monotonic() + LINK_PAUSE);
                Ok(false)
            }
            libc::ENXIO | libc::ENODEV => {
                self.interface.set_gone();
                self.may_leave(Link::Gone).map(|()| false)
            }
            _ => Err(Error::new(
                Kind::Io,
                if self.copies { "sendmmsg" } else { "send" },
                format!("the kernel did not take a frame: {errno}; it stays committed"),
            )
            .with_os(errno.0)),
        }
    }

    fn ignores_link(&self) -> bool {
        self.flags & flags::IGNORE_LINK_STATE != 0
    }

    /// Whether frames can leave by an interface in that state. Where they never will
    /// they are refused.
    fn may_leave(&mut self, link: Link) -> Result<()> {
        match link {
            Link::Up | Link::Settles(_) => Ok(()),
            Link::Down if self.ignores_link() => Ok(()),
            Link::Down => Err(link_down()),
            Link::Gone => {
                let mut cookies = Vec::new();
                self.order.refuse(|_, _| Some(()), |frame, ()| cookies.push(frame.cookie));
                self.stats.refused += cookies.len() as u64;
                for cookie in cookies {
                    let os = libc::ENODEV;
                    self.tell(Refusal { cookie, kind: Kind::InterfaceNotFound, os });
                }
                Err(removed())
            }
        }
    }
}

/// What the kernel would refuse, or worse: take.
fn check_vnet(len: u32, vnet: Vnet) -> Result<()> {
    let refused = |what: &str| Err(Error::config("vnet", format!("{what}, frame of {len} bytes")));
    if vnet.flags & !(NEEDS_CSUM | DATA_VALID) != 0 {
        return refused(&format!("vnet_flags {:#x} has unknown bits", vnet.flags));
    }
    if vnet.flags & NEEDS_CSUM != 0 {
        let end = u32::from(vnet.csum_start) + u32::from(vnet.csum_offset) + 2;
        if end > len {
            return refused(&format!(
                "csum_start {} and csum_offset {} lie behind the end",
                vnet.csum_start, vnet.csum_offset
            ));
        }
    }
    if u32::from(vnet.hdr_len) > len {
        return refused(&format!("hdr_len {} lies behind the end", vnet.hdr_len));
    }
    if vnet.gso_type == 0 && vnet.gso_size != 0 {
        return refused(&format!("gso_size {} is given without a gso_type", vnet.gso_size));
    }
    if vnet.gso_type != 0 && vnet.gso_size == 0 {
        return refused(&format!("gso_type {} is given without a gso_size", vnet.gso_type));
    }
    Ok(())
}

#[cold]
fn stopped() -> Error {
    Error::new(Kind::Shutdown, "stop", "stopped: the injector takes no more frames")
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
fn removed() -> Error {
    Error::new(
        Kind::InterfaceNotFound,
        "interface",
        "the interface was removed, or moved to another network namespace: what was committed is \
         refused; close the injector",
    )
    .with_os(libc::ENODEV)
}

fn wait_failed(errno: Errno) -> Error {
    Error::new(Kind::Io, "epoll", format!("waiting failed: {errno}")).with_os(errno.0)
}
