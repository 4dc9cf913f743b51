//! The capture: an AF_PACKET receive ring and its readers.

use crate::afpacket::binding::{Binding, Bindings};
use crate::afpacket::consumer::Consumer;
use crate::afpacket::counters::{Counters, Environment, KernelCounters, Lost, Stats, add};
use crate::afpacket::events::{Event, Events, Next};
use crate::afpacket::fanout::Member;
use crate::afpacket::loss::Losses;
use crate::afpacket::membership::Membership;
use crate::afpacket::record::treat::Treatment;
use crate::afpacket::ring::Ring;
use crate::afpacket::selection::Terms;
use crate::afpacket::stamping::Stamping;
use crate::afpacket::waiter::Waiter;
use crate::block::{Block, BlockInfo, Owner};
use crate::config::{Bound, flags};
use crate::error::{Error, Kind, Result};
use crate::log::{self, Level};
use crate::sys::link_watch::LinkWatch;
use crate::sys::packet::{ETH_P_ALL, ETH_P_UNUSED};
use crate::sys::process::Belongs;
use crate::sys::socket::Socket;
use crate::sys::try_lock::{TryLock, TryLockGuard};
use crate::sys::{Errno, clock, process};
use parking_lot::Mutex;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What a capture was granted.
#[derive(Debug, Clone)]
pub struct CaptureInfo {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub block_count: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frame_count: u32,
    /// What was asked for.
    pub requested_block_size: u32,
    /// What was asked for.
    pub requested_block_count: u32,
    /// Every bound that made the ring smaller, in order.
    pub shrunk_by: Vec<Bound>,
    /// Bytes kept of a packet, 0: all.
    pub snap_length: u32,
    /// Milliseconds as configured.
    pub block_timeout: u32,
    /// Milliseconds the kernel's timer was given; 0: its own choice.
    pub timer_ms: u32,
    /// The interface's index, 0: any; as last bound.
    pub ifindex: u32,
    /// The running kernel.
    pub kernel_version: u32,
    /// Link type of its packets.
    pub link_type: u16,
    /// `config::flags` in force.
    pub flags: u64,
    /// Bytes the kernel allocated.
    pub memory: u64,
    /// Bytes it might have been.
    pub memory_bound: u64,
    /// The name it was last bound by, or "any".
    pub interface: String,
    /// NETRING_CLOCK_*: who stamps the packets; 0: the kernel as it is.
    pub clock: u32,
}

/// A link that is down, where that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    /// It is up, or nobody wants to know.
    No,
    /// It went down, and no reader was told.
    Untold,
    /// It was down when a reader last looked.
    Told,
}

/// The readers' common state.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) consumer: Consumer,
    /// Which blocks came through which interface.
    pub(super) bindings: Bindings,
    /// What is done to the records before their block is handed out.
    pub(super) treatment: Treatment,
    /// Multicast groups joined since the open.
    pub(super) multicast: Vec<Membership>,
    /// The socket's hook is drained for good; nothing new arrives.
    pub(super) quiesced: bool,
    /// The interface is gone.
    pub(super) gone: bool,
    /// The link is down.
    pub(super) down: Down,
    /// Capturing could not go on after a flush.
    pub(super) failed: Option<Error>,
    /// The waiter's `more` is set.
    more: bool,
    /// Drops and freezes, and what they came from.
    losses: Losses,
    /// What to log once the lock is released: a callback may call back.
    messages: Vec<(Level, String)>,
}

impl Reader {
    pub(super) fn log(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if log::enabled(level) {
            self.messages.push((level, text.to_string()));
        }
    }
}

/// Longest wait in one piece: the kernel's counters are read in between.
const LONGEST_WAIT_MS: i32 = 30_000;
/// The same where there is something to look for meanwhile: the interface's
/// removal, where nobody tells of it; blocks that are held for too long.
const SHORT_WAIT_MS: i32 = 1_000;
/// How often a loop that never waits asks the socket for errors, at most: each
/// tick of the coarse clock.
const ASK_EVERY_NS: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub struct Capture {
    pub(super) socket: Socket,
    pub(super) ring: Arc<Ring>,
    pub(super) waiter: Waiter,
    pub(super) events: Events,
    pub(super) info: Mutex<CaptureInfo>,
    /// Every interface is captured.
    pub(super) any: bool,
    /// `config::flags` asked for.
    pub(super) flags: u64,
    /// Its place in a fanout group.
    pub(super) member: Option<Member>,
    pub(super) stamping: Stamping,
    /// What every filter of it is attached on.
    pub(super) terms: Terms,
    /// One change of the filter at a time; before `reader`.
    pub(super) swap: Mutex<()>,
    reader: Mutex<Reader>,
    counters: Counters,
    kernel: Mutex<KernelCounters>,
    pub(super) environment: Mutex<Environment>,
    /// What tells a rebind that an interface appeared; `None`: it makes one.
    pub(super) appearances: Option<LinkWatch>,
    current: Arc<Current>,
    last_error: Mutex<Option<Error>>,
    /// Somebody has the descriptor: what it says must be true at all times.
    is_watched: AtomicBool,
    /// Threads that found nothing and wait, or are about to.
    waiting: AtomicU32,
    /// When the socket was last asked for errors, coarse monotonic nanoseconds.
    asked_at: AtomicU64,
}

/// A thread that waits, from when it found nothing: counted under the reader's
/// lock, so that whoever takes something later knows.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What [`open`](super::open) has prepared.
pub(super) struct Parts {
    pub(super) socket: Socket,
    pub(super) ring: Ring,
    pub(super) waiter: Waiter,
    pub(super) events: Events,
    pub(super) info: CaptureInfo,
    pub(super) flags: u64,
    pub(super) member: Option<Member>,
    pub(super) link_type: Option<u16>,
    pub(super) treatment: Treatment,
    pub(super) stamping: Stamping,
    pub(super) terms: Terms,
    pub(super) environment: Environment,
    pub(super) appearances: Option<LinkWatch>,
}

impl Capture {
    pub(super) fn assemble(parts: Parts) -> Self {
        let ring = Arc::new(parts.ring);
        let reader = Reader {
            consumer: Consumer::new(Arc::clone(&ring)),
            bindings: Bindings::new(Binding {
                ifindex: parts.info.ifindex,
                link_type: parts.link_type,
            }),
            treatment: parts.treatment,
            multicast: Vec::new(),
            quiesced: false,
            gone: false,
            down: Down::No,
            failed: None,
            more: false,
            losses: Losses::new(&ring),
            messages: Vec::new(),
        };
        Self {
            socket: parts.socket,
            ring,
            waiter: parts.waiter,
            events: parts.events,
            any: parts.info.ifindex == 0,
            info: Mutex::new(parts.info),
            flags: parts.flags,
            member: parts.member,
            stamping: parts.stamping,
            terms: parts.terms,
            swap: Mutex::new(()),
            reader: Mutex::new(reader),
            counters: Counters::default(),
            kernel: Mutex::new(KernelCounters::new()),
            environment: Mutex::new(parts.environment),
            appearances: parts.appearances,
            current: Arc::default(),
            last_error: Mutex::new(None),
            is_watched: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            asked_at: AtomicU64::new(0),
        }
    }

    /// What was granted, and the interface as it is called now.
    pub fn info(&self) -> CaptureInfo {
        let mut info = self.info.lock().clone();
        if info.ifindex != 0 {
            if let Ok(name) = self.socket.interface_name(info.ifindex) {
                info.interface = String::from_utf8_lossy(&name).into_owned();
            }
        }
        info
    }

    /// The interface's name, as it was last bound by.
    pub(super) fn name(&self) -> String {
        self.info.lock().interface.clone()
    }

    /// The descriptor that is readable exactly while `next_block(0)` would
    /// return something.
    pub fn fd(&self) -> RawFd {
        if !self.is_watched.load(Ordering::Relaxed) {
            self.with_reader(|reader| {
                self.is_watched.store(true, Ordering::Relaxed);
                self.rearm(reader);
            });
        }
        self.waiter.fd()
    }

    /// Whose it is.
    pub fn belongs(&self) -> Belongs {
        self.ring.belongs()
    }

    /// The next block; `None` after `timeout_ms` (negative: never, 0: at once).
    ///
    /// # Errors
    /// `Wakeup`, `Shutdown` (stopped, everything handed out), `InterfaceNotFound`
    /// (removed), `LinkDown` (where that is an error), `BadHandle` (being closed),
    /// `Io`.
    pub fn next_block(&self, timeout_ms: i32) -> Result<Option<Arc<Block>>> {
        let deadline = Deadline::after(timeout_ms);
        let mut sure = false;
        loop {
            let (block, waiting) = self.with_reader(|reader| {
                let block = self.try_next(reader, sure)?;
                let waiting = block.is_none().then(|| Waiting::new(&self.waiting));
                Result::Ok((block, waiting))
            })?;
            if block.is_some() {
                return Ok(block);
            }
            let watched = self.any || self.waiter.watches_removal();
            // Nobody else may look why nothing comes: a held block.
            let watching = log::enabled(Level::Warn) && self.ring.held() > 0;
            let short = !watched || watching;
            let left = deadline.left_ms(if short { SHORT_WAIT_MS } else { LONGEST_WAIT_MS });
            if left == 0 && (sure || !self.is_to_ask()) {
                return Ok(None);
            }
            // A wait of 0 takes note of what the socket reported, so that the
            // descriptor is not readable for it any longer.
            let reported = self.waiter.wait(left).map_err(wait_failed)?;
            drop(waiting);
            if reported.socket_error || reported.removed || !watched {
                self.with_reader(|reader| self.look_at_link(reader));
            }
            sure = true;
        }
    }

    /// Whether a call that does not wait asks the socket too: always where somebody
    /// watches the descriptor, else from time to time, so that a loop of such calls
    /// costs no system call each.
    fn is_to_ask(&self) -> bool {
        let now = clock::nanoseconds(clock::monotonic_coarse());
        self.is_watched.load(Ordering::Relaxed)
            || now.saturating_sub(self.asked_at.swap(now, Ordering::Relaxed)) >= ASK_EVERY_NS
    }

    /// The next link event; `None` after `timeout_ms` (as `next_block`).
    ///
    /// # Errors
    /// `NotSupported` ("any"), `Shutdown` (stopped, every event told),
    /// `InterfaceNotFound` (removed or moved, and told so), `BadHandle` (being
    /// closed), `Io`.
    pub fn next_event(&self, timeout_ms: i32) -> Result<Option<Event>> {
        if self.any {
            return Err(Error::new(
                Kind::NotSupported,
                "interface",
                "a capture on \"any\" has no link events: it goes on whatever becomes of an \
                 interface; open a capture on the one that matters",
            ));
        }
        let deadline = Deadline::after(timeout_ms);
        loop {
            if self.waiter.signals.is_closing() || !self.belongs().is_ours() {
                return Err(closed());
            }
            match self.events.next(&self.socket).map_err(wait_failed)? {
                Next::Event(event) => return Ok(Some(event)),
                Next::Gone => return Err(self.interface_gone()),
                Next::Nothing => {}
            }
            if self.waiter.signals.is_stopped() {
                return Err(stopped());
            }
            let fds = self.events.notices().map(|notices| notices.fds().map(Some));
            let longest = if fds.is_some() { LONGEST_WAIT_MS } else { SHORT_WAIT_MS };
            let left = deadline.left_ms(longest);
            if left == 0 {
                return Ok(None);
            }
            self.waiter.wait_for(fds.unwrap_or_default(), left).map_err(wait_failed)?;
        }
    }

    pub(super) fn with_reader<R>(&self, work: impl FnOnce(&mut Reader) -> R) -> R {
        let mut reader = self.reader.lock();
        let result = work(&mut reader);
        let messages = std::mem::take(&mut reader.messages);
        drop(reader);
        for (level, text) in messages {
            log::write(level, format_args!("{text}"));
        }
        result
    }

    fn try_next(&self, reader: &mut Reader, sure: bool) -> Result<Option<Arc<Block>>> {
        // Not ours: forked in a signal handler or log callback, in the middle of this.
        if self.waiter.signals.is_closing() || !self.belongs().is_ours() {
            return Err(closed());
        }
        if self.waiter.signals.take_wakeup(sure) {
            self.rearm_for_others(reader);
            return Err(Error::new(Kind::Wakeup, "wakeup", "the wait was ended by a wakeup"));
        }
        let is_stopped = self.waiter.signals.is_stopped();
        if is_stopped && !reader.quiesced {
            self.quiesce(reader);
        }
        self.look_for_losses(reader);
        if let Some(block) = self.take(reader) {
            self.rearm_for_others(reader);
            return Ok(Some(block));
        }
        if is_stopped {
            // For the next thread, and for edge-triggered loops.
            self.waiter.signals.stop();
            return Err(stopped());
        }
        let lost = match &reader.failed {
            Some(error) => Some(error.clone()),
            None if reader.gone => Some(self.interface_gone()),
            None => self.still_down(reader).then(|| self.link_down()),
        };
        if let Some(error) = lost {
            self.waiter.signals.more();
            reader.more = true;
            return Err(error);
        }
        if reader.more {
            reader.more = false;
            self.waiter.signals.no_more();
        }
        Ok(None)
    }

    /// After something was returned. Where nobody else waits, a wait that comes
    /// later looks first, and at worst returns once for nothing.
    fn rearm_for_others(&self, reader: &mut Reader) {
        if self.is_watched.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) > 0 {
            self.rearm(reader);
        }
    }

    /// After something was returned: what the socket reported is taken note of,
    /// and whatever else is ready is signalled anew.
    pub(super) fn rearm(&self, reader: &mut Reader) {
        let reported = self.waiter.wait(0).unwrap_or_default();
        if reported.socket_error || reported.removed {
            self.look_at_link(reader);
        }
        self.look_whether_up(reader);
        let more = reader.consumer.has_something()
            || reader.gone
            || reader.failed.is_some()
            || reader.down != Down::No
            || reported.woken
            || self.waiter.signals.is_stopped();
        if more {
            self.waiter.signals.more();
        } else if reader.more {
            self.waiter.signals.no_more();
        }
        reader.more = more;
    }

    fn take(&self, reader: &mut Reader) -> Option<Arc<Block>> {
        let ready = reader.consumer.ready();
        let same = reader.bindings.same_from(reader.consumer.next_sequence());
        let taken = reader.consumer.take(same)?;
        let counters = &self.counters;
        if ready > counters.blocks_ready_max.load(Ordering::Relaxed) {
            counters.blocks_ready_max.store(ready, Ordering::Relaxed);
        }
        if taken.flags & crate::block::LOSING != 0 {
            self.read_losses(reader);
        }
        if let Some(gap) = taken.gap {
            add(&counters.sequence_gaps, 1);
            let missing = gap.got.saturating_sub(gap.expected);
            reader.log(
                Level::Warn,
                format_args!(
                    "block sequence gap: expected {}, got {} (dropped {missing} blocks)",
                    gap.expected, gap.got,
                ),
            );
        }
        let count = taken.records.left;
        let mut last_ns = taken.last_ns;
        let mut away = 0;
        let partial = taken.flags & crate::block::PARTIAL != 0;
        reader.treatment.turn_to(taken.sequence, u64::from(self.ring.has_frames()));
        if reader.treatment.is_needed() || partial {
            let mut end = taken.records;
            let (tally, last) = taken.memory.treat(&mut end, &reader.treatment);
            away = tally.away();
            add(&counters.skipped, tally.skipped.into());
            add(&counters.looped, tally.looped.into());
            add(&counters.filtered_late, tally.filtered_late.into());
            add(&counters.truncated, tally.truncated.into());
            if partial {
                reader.consumer.part_taken(&taken, end);
            }
            if last_ns == 0 {
                last_ns = last;
            }
        }
        add(&counters.delivered, count.saturating_sub(away).into());
        add(&counters.blocks_delivered, 1);
        add(&counters.blocks_empty, u64::from(count == 0));
        let binding = reader.bindings.of(taken.sequence);
        let info = BlockInfo {
            count,
            sequence: taken.sequence,
            first_ns: if count == 0 { last_ns } else { taken.memory.time_at(taken.records.offset) },
            last_ns,
            flags: taken.flags,
            ifindex: binding.ifindex,
        };
        let owner =
            Owner::Ring { ring: Arc::clone(&self.ring), index: taken.index, count: taken.units };
        Some(Arc::new(Block::new(
            taken.memory,
            binding.link_type,
            info,
            taken.records.offset,
            owner,
        )))
    }

    /// Before a block is taken, also where one is always ready: that is when the
    /// kernel's counters run. Costs a look at the clock where all is well.
    fn look_for_losses(&self, reader: &mut Reader) {
        let due = reader.losses.look(&mut reader.consumer, &self.ring);
        let now = clock::monotonic_coarse();
        if self.kernel.lock().is_due(now, due) {
            self.read_losses(reader);
        } else if reader.losses.is_due(now) {
            self.tell_losses(reader);
        }
    }

    fn read_losses(&self, reader: &mut Reader) {
        let new = self.kernel.lock().read(&self.socket);
        self.note_losses(reader, new);
    }

    /// Tells what was lost, however soon after the line before: nobody will.
    pub(super) fn last_words(&self, reader: &mut Reader) {
        // Reading clears the kernel's counters, which another process may go on with.
        if self.belongs() != Belongs::everywhere() {
            self.read_losses(reader);
        }
        if reader.losses.any_untold() {
            self.tell_losses(reader);
        }
    }

    fn note_losses(&self, reader: &mut Reader, new: Lost) {
        reader.losses.add(new, &mut reader.consumer, &self.ring);
        if reader.losses.is_due(clock::monotonic_coarse()) {
            self.tell_losses(reader);
        }
    }

    #[cold]
    fn tell_losses(&self, reader: &mut Reader) {
        // What a log callback causes is not logged: it is told later.
        if log::enabled(Level::Warn) && !log::in_sink() {
            let total = self.kernel.lock().lost();
            let line = reader.losses.line(&self.name(), total);
            reader.log(Level::Warn, format_args!("{line}"));
        }
    }

    /// Ends the intake for good: bound to a protocol nobody sends, the hook is
    /// drained (af_packet.c packet_do_bind, synchronize_net) and what the open
    /// block holds is complete.
    fn quiesce(&self, reader: &mut Reader) {
        if let Some(member) = &self.member {
            self.quiesce_member(reader, member);
        } else {
            self.unhook(reader);
        }
        reader.quiesced = true;
        reader.log(Level::Debug, format_args!("{}: intake ended", self.name()));
    }

    fn unhook(&self, reader: &mut Reader) {
        match self.socket.bind(ETH_P_UNUSED, reader.bindings.now().ifindex as i32) {
            // Without the interface there is no hook either.
            Ok(()) | Err(Errno(libc::ENODEV)) => reader.consumer.open_block_is_complete(),
            Err(errno) => reader.log(
                Level::Warn,
                format_args!("the intake could not be ended ({errno}): bind; close the capture"),
            ),
        }
        // A bind to a link that is down leaves ENETDOWN behind.
        self.socket.take_error();
    }

    /// Makes the open block ready now, and goes on capturing.
    ///
    /// # Errors
    /// `Bind`, `InterfaceNotFound`: capturing could not go on.
    pub fn flush(&self) -> Result<()> {
        // Frames are ready as they are.
        let waits = self.member.is_some() && !self.ring.has_frames();
        if waits && self.with_reader(Self::flush_member).is_err() {
            self.await_block_timer();
        }
        self.with_reader(|reader| self.flush_locked(reader))
    }

    fn flush_locked(&self, reader: &mut Reader) -> Result<()> {
        if reader.gone {
            return Err(self.interface_gone());
        }
        if let Some(error) = &reader.failed {
            return Err(error.clone());
        }
        if !reader.quiesced && !self.ring.has_frames() && self.member.is_none() {
            let ifindex = reader.bindings.now().ifindex as i32;
            let drained = self.socket.bind(ETH_P_UNUSED, ifindex);
            if drained.is_ok() {
                reader.consumer.open_block_is_complete();
            }
            let again = match self.socket.bind(ETH_P_ALL, ifindex) {
                Err(Errno(libc::ENODEV)) | Ok(()) => Ok(()),
                Err(_) => self.socket.bind(ETH_P_ALL, ifindex),
            };
            // A bind to a link that is down leaves ENETDOWN behind; and the
            // interface may be gone.
            self.look_at_link(reader);
            if let (Err(errno), false) = (again, reader.gone) {
                reader.failed = Some(bind_failed("capturing could not go on after a flush", errno));
                reader.more = true;
                self.waiter.signals.more();
            }
            if reader.gone {
                return Err(self.interface_gone());
            }
            if let Some(error) = &reader.failed {
                return Err(error.clone());
            }
            drained.map_err(|errno| match errno.0 {
                // Being removed, and the socket has not been told yet.
                libc::ENODEV => self.interface_gone(),
                _ => bind_failed("flush could not end the intake", errno),
            })?;
        }
        let ready = reader.consumer.has_something();
        reader.log(Level::Debug, format_args!("{}: flushed, ready: {ready}", self.name()));
        if ready {
            reader.more = true;
            self.waiter.signals.more();
        }
        Ok(())
    }

    /// Reads the socket's pending error, which otherwise makes every poll
    /// return, and finds out whether the interface still exists.
    pub(super) fn look_at_link(&self, reader: &mut Reader) {
        self.waiter.clear_removal();
        let error = self.socket.take_error();
        if error != 0 {
            reader.log(Level::Info, format_args!("{}: {}", self.name(), Errno(error)));
        }
        let ifindex = reader.bindings.now().ifindex;
        if ifindex == 0 || reader.gone {
            return;
        }
        if self.socket.bound().is_ok_and(|address| address.sll_ifindex == -1) {
            reader.gone = true;
            // The kernel drained the hook before it said so
            // (dev.c unregister_netdevice_many_notify, synchronize_net).
            reader.consumer.open_block_is_complete();
        } else if error == libc::ENETDOWN && self.flags & flags::DOWN_IS_ERROR != 0 {
            reader.down = Down::Untold;
            // Up again: packets are coming, and none is to be lost for the order.
            if self.is_down(ifindex) {
                self.hand_over_open_block(reader, ifindex);
            }
        } else {
            return;
        }
        self.waiter.signals.more();
        reader.more = true;
    }

    /// What was received before the link went down is to come before the error,
    /// not when the block's timer runs out. A failure costs only that order.
    pub(super) fn hand_over_open_block(&self, reader: &mut Reader, ifindex: u32) {
        if self.member.is_some() {
            // Out of the group's list until the link is up again (fanout_unlink).
            let _ = Self::flush_member(reader);
        } else if !reader.quiesced
            && !self.ring.has_frames()
            && self.socket.bind(ETH_P_UNUSED, ifindex as i32).is_ok()
        {
            // The hook is gone already, and nobody has waited for what was inside it
            // (packet_notifier). Where that is refused, it was long ago by now.
            let _ = process::wait_for_cpus();
            reader.consumer.open_block_is_complete();
            match self.socket.bind(ETH_P_ALL, ifindex as i32) {
                // Being removed: that is noticed of itself.
                Ok(()) | Err(Errno(libc::ENODEV)) => {}
                Err(errno) => {
                    reader.failed = Some(bind_failed("capturing could not go on", errno));
                }
            }
            // Each bind to a link that is down leaves ENETDOWN behind.
            self.socket.take_error();
        }
    }

    /// Whether a reader is to be told that the link is down.
    fn still_down(&self, reader: &mut Reader) -> bool {
        if reader.down == Down::Untold {
            reader.down = Down::Told;
        } else {
            self.look_whether_up(reader);
        }
        reader.down != Down::No
    }

    /// What was told is over once the link is up, or gone.
    fn look_whether_up(&self, reader: &mut Reader) {
        if reader.down == Down::Told && !self.is_down(reader.bindings.now().ifindex) {
            reader.down = Down::No;
        }
    }

    /// Whether the interface is there, and down.
    pub(super) fn is_down(&self, ifindex: u32) -> bool {
        let name = self.socket.interface_name(ifindex);
        let flags = name.and_then(|name| self.socket.interface_flags(&name));
        flags.is_ok_and(|flags| flags & libc::IFF_UP as u32 == 0)
    }

    fn link_down(&self) -> Error {
        Error::new(
            Kind::LinkDown,
            "link",
            format!(
                "the link of {} is down; packets come again once it is up (`ip link set {0} up`), \
                 and without NETRING_CAPTURE_DOWN_IS_ERROR waits go on meanwhile",
                self.info().interface
            ),
        )
        .with_os(libc::ENETDOWN)
    }

    pub(super) fn interface_gone(&self) -> Error {
        Error::new(
            Kind::InterfaceNotFound,
            "interface",
            format!(
                "interface not found: {} was removed while open, or moved to another network \
                 namespace; netring_capture_rebind goes on with the next one",
                self.name()
            ),
        )
        .with_os(libc::ENODEV)
    }

    /// Ends one wait. Async-signal-safe.
    pub fn wakeup(&self) {
        self.waiter.signals.wakeup();
    }

    /// Forgets a pending wakeup.
    pub fn clear_wakeup(&self) {
        self.with_reader(|reader| {
            self.waiter.signals.take_wakeup(true);
            self.rearm(reader);
        });
    }

    /// Ends every wait once what was received is handed out. Async-signal-safe.
    pub fn stop(&self) {
        self.waiter.signals.stop();
    }

    /// All counters.
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { time_ns: clock::nanoseconds(clock::monotonic()), ..Stats::default() };
        // Under the readers' lock: no block is handed out between the readings
        // that have to add up.
        self.with_reader(|reader| {
            // The ring first: what is in it by then, the kernel has counted.
            stats.pending = reader.consumer.pending();
            stats.blocks_ready = reader.consumer.ready();
            let new = {
                let mut kernel = self.kernel.lock();
                let new = kernel.read(&self.socket);
                kernel.report(&mut stats);
                new
            };
            let counters = &self.counters;
            for (to, from) in [
                (&mut stats.delivered, &counters.delivered),
                (&mut stats.blocks_delivered, &counters.blocks_delivered),
                (&mut stats.blocks_ready_max, &counters.blocks_ready_max),
                (&mut stats.blocks_empty, &counters.blocks_empty),
                (&mut stats.skipped, &counters.skipped),
                (&mut stats.truncated, &counters.truncated),
                (&mut stats.looped, &counters.looped),
                (&mut stats.filtered_late, &counters.filtered_late),
                (&mut stats.sequence_gaps, &counters.sequence_gaps),
            ] {
                *to = from.load(Ordering::Relaxed);
            }
            self.note_losses(reader, new);
        });
        stats.counts_freezes = !self.ring.has_frames();
        stats.blocks_ready_max = stats.blocks_ready_max.max(stats.blocks_ready);
        stats.blocks_held = self.ring.held().into();
        stats.oldest_held_ns = self.ring.oldest_held_ns();
        self.environment.lock().report(&mut stats);
        stats
    }

    /// The block that `next_packet` and `dispatch` are in.
    #[inline]
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this capture.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Sends waiting threads home; the first half of a close. `in_use`: there are
    /// some.
    pub fn interrupt(&self, in_use: bool) {
        // The eventfd is shared with a process that may go on with the capture.
        if in_use || self.belongs() != Belongs::everywhere() {
            self.waiter.signals.close();
        }
    }

    /// Ends the socket, whatever user space still holds; the second half of a
    /// close, when no call is in progress any more.
    pub fn close(&self) {
        // A dispatch whose callback closes the capture releases its block itself.
        if let Ok(mut current) = self.current.enter() {
            current.replace(None);
        }
        let memberships = self.with_reader(|reader| {
            self.last_words(reader);
            self.memberships(reader)
        });
        self.leave_group();
        log::info!("{}: capture closed", self.name());
        if let Err(errno) = self.ring.close() {
            // The mapping lingers and keeps the socket: at least nothing enters it, and the
            // interface has its modes back.
            // The socket only: the last release may unmap the ring at any moment.
            // Not where another process may go on with the socket.
            if self.belongs() != Belongs::everywhere() {
                let ifindex = self.info.lock().ifindex;
                if self.member.is_some() {
                    self.shut_member();
                } else {
                    let _ = self.socket.bind(ETH_P_UNUSED, ifindex as i32);
                }
                for membership in memberships {
                    membership.leave(&self.socket, ifindex);
                }
            }
            log::warning!(
                "close: held blocks could not be copied ({errno}); the socket's memory stays until \
                 they are released"
            );
        }
    }
}

/// The block that `next_packet` and `dispatch` are in; one thread at a time.
#[derive(Debug, Default)]
pub struct Current(TryLock<Option<Arc<Block>>>);

impl Current {
    /// Enters it.
    ///
    /// # Errors
    /// `Busy`: another thread, or a caller further up the stack, is in it.
    #[inline]
    pub fn enter(&self) -> Result<InCurrent<'_>> {
        self.0.try_lock().map(InCurrent).ok_or_else(in_use)
    }
}

#[cold]
fn in_use() -> Error {
    Error::new(
        Kind::Busy,
        "capture",
        "next_packet and dispatch are in use by another thread or by the caller of this callback: \
         one thread at a time, or use next_block",
    )
}

/// See [`Current::enter`].
#[derive(Debug)]
pub struct InCurrent<'a>(TryLockGuard<'a, Option<Arc<Block>>>);

impl InCurrent<'_> {
    /// The block.
    #[inline]
    pub fn get(&self) -> Option<&Arc<Block>> {
        self.0.as_ref()
    }

    /// Whether it is this process's: a callback may have forked, and returned in
    /// the child.
    pub fn is_ours(&self) -> bool {
        self.get().is_none_or(|block| block.is_ours())
    }

    /// Goes on with another block; the one before is released.
    pub fn replace(&mut self, block: Option<Arc<Block>>) {
        if let Some(done) = std::mem::replace(&mut *self.0, block) {
            release(&done);
        }
    }
}

/// Releases a block that user space has no handle to.
pub fn release(block: &Block) {
    if block.release() == Some(true) {
        block.give_back();
    }
}

pub(super) fn closed() -> Error {
    Error::new(Kind::BadHandle, "capture", "the capture is closed")
}

pub(super) fn stopped() -> Error {
    Error::new(Kind::Shutdown, "stop", "the capture is stopped")
}

fn bind_failed(what: &str, errno: Errno) -> Error {
    Error::new(
        Kind::Bind,
        "bind",
        format!(
            "{what}: the socket could not be bound: {errno}; close the capture and open it again"
        ),
    )
    .with_os(errno.0)
}

fn wait_failed(errno: Errno) -> Error {
    Error::new(Kind::Io, "epoll", format!("waiting failed: {errno}")).with_os(errno.0)
}

/// The end of a wait, on the monotonic clock: signals do not move it.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Duration>);

impl Deadline {
    /// `timeout_ms` from now; negative: never.
    pub fn after(timeout_ms: i32) -> Self {
        let wait = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        Self(wait.map(|wait| if wait.is_zero() { wait } else { clock::monotonic() + wait }))
    }

    /// Milliseconds of a timeout that has just begun, at most `longest`: saves the clock.
    pub fn whole_ms(timeout_ms: i32, longest: i32) -> i32 {
        if timeout_ms < 0 { longest } else { timeout_ms.min(longest) }
    }

    /// The time left; `None`: it never ends.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_sub(clock::monotonic()))
    }

    /// Milliseconds left, rounded up, at most `longest` (-1: no such limit).
    pub fn left_ms(self, longest: i32) -> i32 {
        let Some(end) = self.0 else { return longest };
        let longest = if longest < 0 { i32::MAX } else { longest };
        if end.is_zero() {
            return 0;
        }
        let left = end.saturating_sub(clock::monotonic());
        i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(longest).min(longest)
    }
}
