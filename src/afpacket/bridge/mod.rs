//! The bridge: what is received on one interface leaves on the other, both ways.
//!
//! How a packet flows: recvmmsg(2) writes it into a slot that was reserved on the other
//! side ([`window`]), what the kernel told beside it becomes the slot's (a VLAN tag its
//! bytes, a virtio_net_hdr its checksum and segmentation), the callback judges a batch,
//! and the slots are committed and flushed in one go ([`direction`]). There is no copy
//! but the kernel's two.
//!
//! Packets do not come through a ring: TPACKET_V3 hands blocks over by a timer, and
//! TPACKET_V2 stalls with virtio_net_hdr.

pub mod config;
mod direction;
mod outlet;
#[allow(unsafe_code)]
mod window;

use self::config::{BridgeConfig, flags};
use self::direction::{Counters, Pass, State};
use self::outlet::Outlet;
use self::window::{Origin, Window};
use crate::afpacket::counters::KernelCounters;
use crate::afpacket::membership::Membership;
use crate::afpacket::open::{descriptors, interface_name, no_bind};
use crate::afpacket::place::Place;
use crate::afpacket::selection::{Selection, Terms, ignore_outgoing};
use crate::config::{self as capture, CaptureConfig};
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::log::{self, Level};
use crate::packet::{Packet, link_type};
use crate::signals::Signals;
use crate::sys::epoll::{poll, polled};
use crate::sys::link_watch::LinkWatch;
use crate::sys::packet::{ETH_P_ALL, ETH_P_UNUSED, PACKET_VNET_HDR, SOL_PACKET, arphrd};
use crate::sys::process::{self, Belongs};
use crate::sys::socket::Socket;
use crate::sys::try_lock::{TryLock, TryLockGuard};
use crate::sys::{Errno, clock};
use parking_lot::Mutex;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

/// From the first interface to the second; a bit.
pub const A_TO_B: u32 = 1;
/// From the second to the first.
pub const B_TO_A: u32 = 2;

/// The packet leaves as it came.
pub const VERDICT_FORWARD: u8 = 0;
/// It does not leave.
pub const VERDICT_DROP: u8 = 1;
/// It leaves as the callback changed it.
pub const VERDICT_MODIFIED: u8 = 2;

/// Judges a batch of a direction: writes the verdicts; false ends the run.
pub type Judge<'a> = dyn FnMut(u32, &mut [Packet], &mut [u8]) -> bool + 'a;

/// Longest wait where nobody tells that an interface was removed.
const LOOK_EVERY_MS: i32 = 1_000;
/// How soon the out side is tried again where nobody tells that it has room.
const TRY_EVERY_MS: i32 = 1;
/// The kernel's counters are read after so many passes, if it is time then.
const PASSES: u32 = 1 << 12;

/// A reading of the counters of a direction. Cumulative since the open, but `waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeStats {
    /// CLOCK_MONOTONIC of the reading.
    pub time_ns: u64,
    /// Packets taken from the kernel.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets the out side's kernel took.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Verdicts of that kind.
    pub modified: u64,
    /// By verdict.
    pub dropped: u64,
    /// For the out side, or for a slot.
    pub too_large: u64,
    /// The out side took none for too long.
    pub ring_full: u64,
    /// The out side's link was down.
    pub link_down: u64,
    /// The out side's kernel made no packet of it.
    pub refused: u64,
    /// Gauge: not taken by the out side yet.
    pub waiting: u64,
    /// The receive buffer was full.
    pub kernel_dropped: u64,
    /// Whose virtio_net_hdr the kernel could not make.
    pub unreadable: u64,
    /// Calls that received something.
    pub batches: u64,
}

/// What a bridge was granted.
#[derive(Debug, Clone)]
pub struct BridgeInfo {
    /// `config::flags`.
    pub flags: u64,
    /// Bytes of all slots.
    pub memory: u64,
    /// Their interfaces' indices.
    pub ifindex: [u32; 2],
    /// Their names now.
    pub interface: [String; 2],
    /// Largest frame that leaves on each.
    pub frame_limit: [u32; 2],
    /// SO_RCVBUF of each.
    pub receive_buffer: [u32; 2],
    /// LINKTYPE_ number of both.
    pub link_type: u16,
    /// Packets of a callback at most.
    pub batch: u32,
    /// Bytes at a packet's `data`.
    pub capacity: u32,
    /// Microseconds.
    pub patience_us: u32,
    /// The running kernel.
    pub kernel_version: u32,
}

/// An interface, as packets are received on it.
#[derive(Debug)]
struct Side {
    name: CString,
    ifindex: u32,
    socket: Socket,
    /// That it is removed, where netlink is allowed.
    watch: Option<LinkWatch>,
    kernel: Mutex<KernelCounters>,
    /// It was removed.
    gone: AtomicBool,
}

/// What is received on one side.
#[derive(Debug)]
struct Direction {
    state: TryLock<State>,
    counters: Counters,
    /// Largest frame of the out side, when it was last served.
    frame_limit: AtomicU32,
    /// The thread that serves it.
    runner: AtomicI32,
}

/// See the module.
#[derive(Debug)]
pub struct Bridge {
    sides: [Side; 2],
    /// From the first side, from the second.
    directions: [Direction; 2],
    signals: Signals,
    info: BridgeInfo,
    last_error: Mutex<Option<Error>>,
}

/// A direction while a thread serves it.
struct Served<'a> {
    /// Which.
    at: usize,
    direction: &'a Direction,
    state: TryLockGuard<'a, State>,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.direction.runner.store(0, Ordering::Relaxed);
    }
}

impl Bridge {
    /// Serves the directions (`A_TO_B`, `B_TO_A`) until the callback says that it is
    /// enough.
    ///
    /// # Errors
    /// `Shutdown` (stopped), `InterfaceNotFound` (a side was removed), `Busy` (a
    /// direction is served already), `BadHandle` (being closed), `Config` (a wrong
    /// argument or verdict), `Bind`, `Io`.
    pub fn run(&self, directions: u32, mut judge: Option<&mut Judge<'_>>) -> Result<()> {
        if directions == 0 || directions & !(A_TO_B | B_TO_A) != 0 {
            return Err(Error::config(
                "directions",
                format!(
                    "directions {directions} is out of range: NETRING_BRIDGE_A_TO_B, \
                     NETRING_BRIDGE_B_TO_A or NETRING_BRIDGE_BOTH"
                ),
            ));
        }
        let ours = Belongs::here();
        let mut served = Vec::with_capacity(2);
        for (at, bit) in [A_TO_B, B_TO_A].into_iter().enumerate() {
            if directions & bit != 0 {
                served.push(self.serve(at)?);
            }
        }
        let result = self.hook(&mut served).and_then(|()| self.go(&mut served, &mut judge, ours));
        if ours.is_ours() {
            for Served { direction, state, .. } in &mut served {
                state.settle(&direction.counters, |fd| {
                    let _ = poll(&mut [polled(fd, libc::POLLOUT)], TRY_EVERY_MS);
                });
            }
        }
        result
    }

    fn serve(&self, at: usize) -> Result<Served<'_>> {
        let direction = &self.directions[at];
        let Some(state) = direction.state.try_lock() else {
            return Err(Error::new(
                Kind::Busy,
                "directions",
                format!(
                    "{} is served by another thread, or by the caller of this callback",
                    if at == 0 { "NETRING_BRIDGE_A_TO_B" } else { "NETRING_BRIDGE_B_TO_A" }
                ),
            ));
        };
        direction.runner.store(process::thread(), Ordering::Relaxed);
        Ok(Served { at, direction, state })
    }

    /// Has the sockets receive, from the first run of their direction on.
    fn hook(&self, served: &mut [Served<'_>]) -> Result<()> {
        for Served { at, state, .. } in served {
            let side = &self.sides[*at];
            if !state.hooked && !self.look(side) {
                match side.socket.bind(ETH_P_ALL, side.ifindex as i32) {
                    Ok(()) => state.hooked = true,
                    // Told below.
                    Err(Errno(libc::ENODEV)) => self.lose(side),
                    Err(errno) => return Err(no_bind(errno, &side.name)),
                }
            }
        }
        Ok(())
    }

    fn go(
        &self,
        served: &mut [Served<'_>],
        judge: &mut Option<&mut Judge<'_>>,
        ours: Belongs,
    ) -> Result<()> {
        let mut more = true;
        let mut passes = 0_u32;
        loop {
            self.check()?;
            if !more {
                self.wait(served)?;
                self.check()?;
            }
            more = false;
            for Served { at, direction, state } in served.iter_mut() {
                let side = &self.sides[*at];
                let judge = judge.as_deref_mut();
                let Pass { more: again, ended, look } = state
                    .pass(1 << *at, &side.socket, &direction.counters, judge, ours)
                    .map_err(|error| match error.kind {
                        // Of the other side: told with its name.
                        Kind::InterfaceNotFound => {
                            let side = &self.sides[1 - *at];
                            self.lose(side);
                            gone(side)
                        }
                        _ => error,
                    })?;
                direction.frame_limit.store(state.frame_limit(), Ordering::Relaxed);
                more |= again;
                if look {
                    self.look(side);
                }
                if ended {
                    return Ok(());
                }
            }
            passes = passes.wrapping_add(1);
            if passes % PASSES == 0 {
                self.count(served);
            }
        }
    }

    /// Reads the kernel's counters before they wrap.
    fn count(&self, served: &[Served<'_>]) {
        let now = clock::monotonic_coarse();
        for Served { at, .. } in served {
            let side = &self.sides[*at];
            let mut kernel = side.kernel.lock();
            if kernel.is_due(now, crate::afpacket::counters::Due::Later) {
                kernel.read(&side.socket);
            }
        }
    }

    /// Whether the run is over.
    fn check(&self) -> Result<()> {
        if self.signals.is_closing() {
            return Err(closed());
        }
        if self.signals.is_stopped() {
            return Err(Error::new(Kind::Shutdown, "stop", "the bridge is stopped"));
        }
        match self.sides.iter().find(|side| side.gone.load(Ordering::Acquire)) {
            Some(side) => Err(gone(side)),
            None => Ok(()),
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, served: &[Served<'_>]) -> Result<()> {
        let watch = |at: usize| self.sides[at].watch.as_ref().map(LinkWatch::fd);
        let mut fds = [polled(None, 0); 7];
        fds[0] = polled(Some(self.signals.stop_fd()), libc::POLLIN);
        fds[1] = polled(watch(0), libc::POLLIN);
        fds[2] = polled(watch(1), libc::POLLIN);
        let watched = self.sides.iter().all(|side| side.watch.is_some());
        let mut timeout_ms = if watched { -1 } else { LOOK_EVERY_MS };
        for (Served { at, state, .. }, fds) in served.iter().zip(fds[3..].chunks_mut(2)) {
            let (waits, writable) = state.waits();
            if waits {
                timeout_ms = TRY_EVERY_MS;
            }
            let receives = state.admitted() > 0;
            fds[0] = polled(receives.then(|| self.sides[*at].socket.fd()), libc::POLLIN);
            fds[1] = polled(writable, libc::POLLOUT);
        }
        poll(&mut fds, timeout_ms).map_err(|errno| {
            Error::new(Kind::Io, "poll", format!("waiting failed: {errno}")).with_os(errno.0)
        })?;
        for (side, watch) in self.sides.iter().zip(&fds[1..3]) {
            if watch.revents != 0 || side.watch.is_none() {
                self.look(side);
            }
        }
        Ok(())
    }

    /// Finds out whether an interface was removed.
    fn look(&self, side: &Side) -> bool {
        if let Some(watch) = &side.watch {
            watch.clear();
        }
        // After that: what it tells from here on is told anew.
        if side.socket.bound().is_ok_and(|address| address.sll_ifindex == -1) {
            self.lose(side);
        }
        side.gone.load(Ordering::Acquire)
    }

    /// An interface was removed: both threads are told, whichever saw it.
    fn lose(&self, side: &Side) {
        side.gone.store(true, Ordering::Release);
        self.signals.end_waits();
    }

    /// Ends every run, now and later. Async-signal-safe.
    pub fn stop(&self) {
        self.signals.stop();
    }

    /// Sends the runs home; the first half of a close.
    pub fn interrupt(&self) {
        self.signals.close();
    }

    /// Whether the calling thread is in a run, as a callback is.
    pub fn runs_here(&self) -> bool {
        let thread = process::thread();
        self.directions.iter().any(|one| one.runner.load(Ordering::Relaxed) == thread)
    }

    /// The counters of a direction.
    ///
    /// # Errors
    /// `Config`: not exactly one.
    pub fn stats(&self, direction: u32) -> Result<BridgeStats> {
        let at = match direction {
            A_TO_B => 0,
            B_TO_A => 1,
            _ => {
                return Err(Error::config(
                    "direction",
                    format!(
                        "direction {direction} is out of range: NETRING_BRIDGE_A_TO_B or \
                         NETRING_BRIDGE_B_TO_A"
                    ),
                ));
            }
        };
        let side = &self.sides[at];
        let kernel_dropped = {
            let mut kernel = side.kernel.lock();
            kernel.read(&side.socket);
            kernel.lost().dropped
        };
        let counters = &self.directions[at].counters;
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Ok(BridgeStats {
            time_ns: clock::nanoseconds(clock::monotonic()),
            received: of(&counters.received),
            received_bytes: of(&counters.received_bytes),
            forwarded: of(&counters.forwarded),
            forwarded_bytes: of(&counters.forwarded_bytes),
            modified: of(&counters.modified),
            dropped: of(&counters.dropped),
            too_large: of(&counters.too_large),
            ring_full: of(&counters.ring_full),
            link_down: of(&counters.link_down),
            refused: of(&counters.refused),
            waiting: of(&counters.waiting),
            kernel_dropped,
            unreadable: of(&counters.unreadable),
            batches: of(&counters.batches),
        })
    }

    /// What was granted, and the interfaces as they are called now.
    pub fn info(&self) -> BridgeInfo {
        let mut info = self.info.clone();
        for (at, side) in self.sides.iter().enumerate() {
            if let Ok(name) = side.socket.interface_name(side.ifindex) {
                info.interface[at] = String::from_utf8_lossy(&name).into_owned();
            }
            let limit = &self.directions[1 - at].frame_limit;
            info.frame_limit[at] = limit.load(Ordering::Relaxed);
        }
        info
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this bridge.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }
}

/// What is known of a side before the other one is.
struct Prepared {
    place: Place,
    name: CString,
    ifindex: u32,
    config: CaptureConfig,
}

impl Bridge {
    /// Opens a bridge between the interfaces of these names.
    ///
    /// # Errors
    /// See docs/errors.md: every step has its own.
    pub fn open(a: &[u8], b: &[u8], config: &BridgeConfig) -> Result<Self> {
        let opened = Self::open_steps(a, b, config);
        match &opened {
            Ok(bridge) => {
                let [a, b] = &bridge.info.interface;
                log::info!("{a}, {b}: bridge opened: batches of {}", bridge.info.batch);
            }
            Err(error) => {
                let shown =
                    |name: &[u8]| String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
                let (a, b) = (shown(a), shown(b));
                log::write(Level::Error, format_args!("{a}, {b}: bridge: open: {error}"));
            }
        }
        opened
    }

    fn open_steps(a: &[u8], b: &[u8], config: &BridgeConfig) -> Result<Self> {
        let names = [a, b];
        let (a, b) = (one_interface(a, "a")?, one_interface(b, "b")?);
        config.validate()?;
        let (mut a, mut b) = (prepare(a, config, 0)?, prepare(b, config, 1)?);
        fork::claim()?;
        let side_a = a.open(config).map_err(|error| of_side(error, 0))?;
        let side_b = b.open(config).map_err(|error| of_side(error, 1))?;
        let hardware = [hardware(&side_a)?, hardware(&side_b)?];
        agree([&side_a, &side_b], [&a.place, &b.place], hardware)?;
        let link_type = link_type(hardware[0]);
        let signals = Signals::new().map_err(|errno| {
            Error::new(
                Kind::Io,
                "eventfd",
                format!("eventfd was refused: {errno}{}", descriptors(errno)),
            )
            .with_os(errno.0)
        })?;
        let patience = Duration::from_micros(config.patience_us.into());
        let batch = config.batch as usize;
        let mut capacity = 0;
        let mut memory = 0;
        let sides = [side_a, side_b];
        let mut direction = |to: usize| -> Result<Direction> {
            let from = &sides[1 - to];
            let netns_fd = [flags::NETNS_FD_A, flags::NETNS_FD_B][to];
            let netns_fd = config.has(netns_fd).then_some(config.netns_fds[to]);
            let outlet =
                Outlet::open(names[to], config, netns_fd).map_err(|error| of_side(error, to))?;
            if outlet.ifindex() != sides[to].ifindex {
                // Removed, and another one has its name.
                return Err(gone(&sides[to]));
            }
            capacity = outlet.capacity();
            memory += outlet.memory();
            let window = Window::new(batch, Origin { ifindex: from.ifindex, link_type });
            let state = State::new(window, outlet, batch, patience);
            let frame_limit = AtomicU32::new(state.frame_limit());
            Ok(Direction {
                state: TryLock::new(state),
                counters: Counters::default(),
                frame_limit,
                runner: AtomicI32::new(0),
            })
        };
        let directions = [direction(1)?, direction(0)?];
        let receive_buffer =
            |side: &Side| side.socket.get::<u32>(libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap_or(0);
        let info = BridgeInfo {
            flags: config.flags,
            memory,
            ifindex: sides.each_ref().map(|side| side.ifindex),
            interface: sides.each_ref().map(|side| side.name.to_string_lossy().into_owned()),
            frame_limit: [0; 2],
            receive_buffer: sides.each_ref().map(receive_buffer),
            link_type,
            batch: config.batch,
            capacity,
            patience_us: config.patience_us,
            kernel_version: process::kernel_version(),
        };
        Ok(Self { sides, directions, signals, info, last_error: Mutex::new(None) })
    }
}

fn one_interface(name: &[u8], argument: &'static str) -> Result<CString> {
    if name == b"any" {
        return Err(Error::config(argument, "a bridge is between two interfaces: \"any\" is none"));
    }
    interface_name(name).map_err(|error| Error { option: argument.into(), ..error })
}

fn prepare(name: CString, config: &BridgeConfig, at: usize) -> Result<Prepared> {
    let mut as_capture =
        CaptureConfig { flags: capture::flags::IGNORE_OUTGOING, ..CaptureConfig::default() };
    if config.has([flags::NETNS_FD_A, flags::NETNS_FD_B][at]) {
        as_capture.flags |= capture::flags::NETNS_FD;
        as_capture.netns_fd = config.netns_fds[at];
    }
    if !config.has(flags::NOT_PROMISCUOUS) {
        as_capture.flags |= capture::flags::PROMISCUOUS;
    }
    let place = Place::of(&as_capture).map_err(|error| of_side(error, at))?;
    let ifindex = place.find_interface(&name).map_err(|error| of_side(error, at))?;
    Ok(Prepared { place, name, ifindex, config: as_capture })
}

/// An error about a namespace names the one of the two that it is about; one about memory,
/// the fields of a bridge that decide it.
fn of_side(error: Error, at: usize) -> Error {
    if error.kind == Kind::Mmap {
        let halves = if error.option == "memory_limit" {
            " (each direction has half of memory_limit)"
        } else {
            ""
        };
        let message = error.message.replace("slot_count or slot_size", "batch or packet_size");
        return Error { message: message + halves, ..error };
    }
    let field = ["netns_fd_a", "netns_fd_b"][at];
    if error.option != "netns_fd" {
        return error;
    }
    Error { option: field.into(), message: error.message.replace("netns_fd", field), ..error }
}

impl Prepared {
    /// The socket that receives, bound so that it does not yet.
    fn open(&mut self, config: &BridgeConfig) -> Result<Side> {
        let socket = self.place.socket()?;
        let kernel_version = process::kernel_version();
        let terms = Terms::of(&self.config, kernel_version);
        let selection = Selection::new(None, &terms, || Ok(Vec::new()))?;
        if selection.is_some() {
            selection.attach(&socket)?;
        }
        if terms.by_option(&self.config) {
            ignore_outgoing(&socket)?;
        }
        set(&socket, "PACKET_VNET_HDR", SOL_PACKET, PACKET_VNET_HDR, 1)?;
        set(&socket, "PACKET_AUXDATA", SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        let buffer = config.receive_buffer as i32;
        // Beyond net.core.rmem_max it takes CAP_NET_ADMIN.
        if socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &buffer).is_err() {
            set(&socket, "SO_RCVBUF", libc::SOL_SOCKET, libc::SO_RCVBUF, buffer)?;
        }
        for membership in Membership::of(self.config.flags) {
            membership.join(&socket, &self.name, self.ifindex)?;
        }
        let tellers = self.place.tellers(self.ifindex, self.name.as_bytes())?;
        socket
            .bind(ETH_P_UNUSED, self.ifindex as i32)
            .map_err(|errno| no_bind(errno, &self.name))?;
        Ok(Side {
            name: self.name.clone(),
            ifindex: self.ifindex,
            socket,
            watch: tellers.removal,
            kernel: Mutex::new(KernelCounters::new()),
            gone: AtomicBool::new(false),
        })
    }
}

fn set(socket: &Socket, step: &'static str, level: i32, name: i32, value: i32) -> Result<()> {
    socket.set(level, name, &value).map_err(|errno| {
        let message = format!("socket option {step} (value {value}) was refused: {errno}");
        Error::new(Kind::SockOpt, step, message).with_os(errno.0)
    })
}

fn hardware(side: &Side) -> Result<u16> {
    let hardware = side.socket.bound().map_err(|errno| no_bind(errno, &side.name))?.sll_hatype;
    if hardware == arphrd::LOOPBACK {
        return Err(Error::config(
            "interface",
            format!(
                "{} is a loopback device: what is sent there comes back, and would be sent again",
                side.name.to_string_lossy()
            ),
        ));
    }
    Ok(hardware)
}

/// Whether packets of one may leave on the other.
fn agree(sides: [&Side; 2], places: [&Place; 2], hardware: [u16; 2]) -> Result<()> {
    let [a, b] = sides;
    let (name_a, name_b) = (a.name.to_string_lossy(), b.name.to_string_lossy());
    let cookies = (a.socket.namespace_cookie(), b.socket.namespace_cookie());
    let same_place = match cookies {
        (Ok(one), Ok(other)) => one == other,
        // Before Linux 5.14 the file tells; without /proc nobody does, and names are enough.
        _ => match places.map(Place::network) {
            [Some(one), Some(other)] => one == other,
            _ => name_a == name_b,
        },
    };
    if a.ifindex == b.ifindex && same_place {
        return Err(Error::config(
            "interface",
            format!("{name_a} and {name_b} are one interface: a bridge is between two"),
        ));
    }
    let [of_a, of_b] = hardware.map(link_type);
    if of_a != of_b {
        return Err(Error::config(
            "interface",
            format!(
                "{name_a} and {name_b} have packets of different link types ({of_a}, {of_b}): \
                 nothing is translated"
            ),
        ));
    }
    Ok(())
}

fn closed() -> Error {
    Error::new(Kind::BadHandle, "bridge", "the bridge is closed")
}

fn gone(side: &Side) -> Error {
    Error::new(
        Kind::InterfaceNotFound,
        "interface",
        format!(
            "interface not found: {} was removed while open, or moved to another network \
             namespace; open another bridge with the next one",
            side.name.to_string_lossy()
        ),
    )
    .with_os(libc::ENODEV)
}
