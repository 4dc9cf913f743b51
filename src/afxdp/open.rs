//! The xdp: the sockets of one interface, their program, and how they come to be.
//!
//! In this order: the program is attached, which says whether the driver runs it, while
//! its map is empty and every packet passes to the host's stack; the sockets are bound,
//! zero-copy or not, with full fill rings; then they go into the map, and packets come. At
//! the end the other way round: first the program, so that the driver has nothing to
//! redirect into sockets that go.

use super::config::{BIND_TIMEOUT, Mode, Redirect, Sizes, Step, XdpConfig, flags};
use super::facts::{Facts, facts};
use super::probe::ZEROCOPY;
use super::program::{Program, Request, Which};
use super::queue::{Common, Parts, Queue, QueueInfo, XdpCounters, no_waiter};
use super::receive::{Origin, Receive, fill_up};
use super::rings::{Consumer, Producer};
use super::stamps::Abilities;
use super::transmit::{Transmit, Way};
use super::umem::{Frames, Umem};
use crate::afpacket::counters::Stats;
use crate::afpacket::injector::link::Interface as Leaving;
use crate::afpacket::place::Place;
use crate::config::MemoryBound;
use crate::error::{Error, Kind, Result};
use crate::filter::translate::Selection;
use crate::filter::{self, Filter};
use crate::fork;
use crate::log;
use crate::packet::NETRING_LINKTYPE_ETHERNET;
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::socket::{Socket, any_socket};
use crate::sys::timer::Timer;
use crate::sys::xdp::{
    BusyPoll, DRIVER_CHECKSUMS, DRIVER_STAMPS, RingKind, bind, locked_memory_limit,
};
use crate::sys::{Errno, clock, file, process};
use parking_lot::Mutex;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// From here on the kernel tells at once which descriptors it has taken.
const TELLS_TAKEN: u32 = 0x06_11_00;
/// How far apart a queue in use is tried.
const RETRY: Duration = Duration::from_millis(2);
/// How far apart the carrier is looked for.
const CARRIER_RETRY: Duration = Duration::from_millis(5);
/// Bytes that frames on their way may hold at most, without zero copy: the kernel's
/// memory, not that of the frames.
const MOST_ON_THEIR_WAY: u64 = 64 << 20;
/// What the kernel has for a packet besides its bytes.
const PACKET_OVERHEAD: u64 = 768;

/// What was granted.
#[derive(Debug, Clone)]
pub struct XdpInfo {
    /// `ZeroCopy`, `Copy` or `Skb`; without sockets `Copy` or `Skb`, by the program.
    pub mode: Mode,
    /// As asked for.
    pub requested_mode: Mode,
    /// What is redirected; `None`: a program of the caller's decides.
    pub redirect: Option<Redirect>,
    /// Sockets.
    pub queue_count: u32,
    /// Queues that the interface had.
    pub interface_queues: u32,
    /// Its index.
    pub ifindex: u32,
    /// Its MTU now.
    pub mtu: u32,
    /// Bytes of the largest frame that is sent now; 0: none is.
    pub frame_limit: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Bytes in front of each packet.
    pub headroom: u32,
    /// Of each queue.
    pub sizes: Sizes,
    /// Modes that were not granted.
    pub steps: u32,
    /// The program's and the map's number.
    pub ids: (u32, u32),
    /// Most pieces of a packet, as the driver says; 0: unknown.
    pub max_segments: u32,
    /// `config::flags`.
    pub flags: u64,
    /// Bytes of the frames.
    pub memory: u64,
    /// Bytes they might have taken.
    pub memory_bound: u64,
    /// Its name when it was opened.
    pub interface: String,
}

/// See the module.
#[derive(Debug)]
pub struct Xdp {
    place: Place,
    program: Program,
    queues: Vec<Arc<Queue>>,
    steps: Vec<Step>,
    missing: Vec<u32>,
    info: Mutex<XdpInfo>,
    /// One change of what is redirected at a time.
    swapping: Mutex<()>,
    last_error: Mutex<Option<Error>>,
}

/// Everything about an opening that does not change on the way.
struct Opening<'a> {
    name: &'a str,
    config: &'a XdpConfig,
    facts: Facts,
    sizes: Sizes,
    common: Arc<Common>,
    /// Packets have metadata in front.
    metadata: bool,
}

impl Xdp {
    /// Opens sockets on these queues (none: on all), with a program.
    ///
    /// # Errors
    /// `Config`, `InterfaceNotFound`, `PermissionDenied`, `Busy` (program, queue),
    /// `Filter`, `XdpProgram`, `MemLock`, `Mmap`, `Bind`, `Socket`, `SockOpt`,
    /// `NotSupported`, `Io`.
    pub fn open(interface: &[u8], queues: &[u32], config: &XdpConfig) -> Result<Self> {
        Self::begin(interface, queues, &[], config)
    }

    /// The same with sockets of the caller's, one for each queue, and a map.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn adopt(
        interface: &[u8],
        queues: &[u32],
        sockets: &[RawFd],
        config: &XdpConfig,
    ) -> Result<Self> {
        if queues.is_empty() {
            return Err(Error::config("queues", "a queue must be named for each socket"));
        }
        if !config.has(flags::MAP_FD) || config.has(flags::PROGRAM_FD) {
            return Err(Error::config(
                "map_fd",
                "adopted sockets need map_fd, with NETRING_XDP_MAP_FD, and bring no program",
            ));
        }
        Self::begin(interface, queues, sockets, config)
    }

    fn begin(
        interface: &[u8],
        queues: &[u32],
        sockets: &[RawFd],
        config: &XdpConfig,
    ) -> Result<Self> {
        let opened = Self::steps_of(interface, queues, sockets, config);
        match &opened {
            Ok(xdp) => {
                let info = xdp.info.lock();
                log::info!(
                    "{}: {} AF_XDP sockets, {}, {} frames of {} bytes",
                    info.interface,
                    info.queue_count,
                    words(info.mode),
                    u64::from(info.sizes.rx_frames) + u64::from(info.sizes.tx_frames),
                    info.frame_size
                );
                for step in &xdp.steps {
                    if step.option == "rx_metadata" {
                        log::warning!("{}: {}", info.interface, step.message);
                        continue;
                    }
                    log::warning!("{}: not {}: {}", info.interface, words(step.mode), step.message);
                }
                if !xdp.missing.is_empty() && info.redirect != Some(Redirect::None) {
                    log::warning!(
                        "{}: queues without a socket: {:?}; their packets go to the host's stack",
                        info.interface,
                        xdp.missing
                    );
                }
            }
            Err(error) => log::info!("{}: {error}", String::from_utf8_lossy(interface)),
        }
        opened
    }

    fn steps_of(
        interface: &[u8],
        queues: &[u32],
        sockets: &[RawFd],
        config: &XdpConfig,
    ) -> Result<Self> {
        config.validate(!sockets.is_empty())?;
        let netns_fd = config.has(flags::NETNS_FD).then_some(config.netns_fd);
        let place = Place::elsewhere(netns_fd)?;
        fork::claim()?;
        let adopted = sockets.iter().map(|fd| adopted(*fd)).collect::<Result<Vec<_>>>()?;
        let made = place.within(|| Self::make(interface, queues, adopted, config))??;
        Ok(Self { place, ..made })
    }

    /// In the interface's network namespace.
    fn make(
        interface: &[u8],
        wanted: &[u32],
        sockets: Vec<Socket>,
        config: &XdpConfig,
    ) -> Result<Self> {
        let facts = facts(interface)?;
        let name = String::from_utf8_lossy(interface).into_owned();
        let bindable = facts.queues.bindable().max(1);
        let queues = queues(wanted, bindable, &name)?;
        let only_program = config.has(flags::PROGRAM_ONLY);
        let sizes = config.fitting(if only_program { 0 } else { queues.len() as u64 })?;
        config.fits_umem(if only_program { 0 } else { queues.len() }, &sizes)?;
        let ifindex = facts.interface.link.index;
        let ask = any_socket().map_err(|errno| {
            let words =
                format!("a socket to ask {name} by was refused: {errno}; raise `ulimit -n`");
            Error::new(Kind::Io, "interface", words).with_os(errno.0)
        })?;
        let common = Arc::new(Common {
            removal: LinkWatch::open(Watched::Removal(ifindex)).ok(),
            gone: AtomicBool::new(false),
            ask: Arc::new(ask),
            ifindex,
        });
        let filter = configured(config)?;
        let request = Request {
            interface: &name,
            ifindex,
            hardware_type: facts.interface.link.hardware,
            queues: facts.queues.most().max(bindable),
            selection: selection(config.redirect, filter.as_ref()),
            frags: config.has(flags::MULTI_BUFFER),
            mode: config.mode,
            program: descriptor(config, flags::PROGRAM_FD, config.program_fd, "program_fd")?,
            map: descriptor(config, flags::MAP_FD, config.map_fd, "map_fd")?,
            attach: !config.has(flags::NO_PROGRAM) && sockets.is_empty(),
            rx_metadata: config.has(flags::RX_METADATA),
        };
        let (program, mut steps) = Program::open(request)?;
        let max_segments = facts.interface.xdp.map_or(0, |xdp| xdp.max_segments);
        let theirs = config.has(flags::MAP_FD);
        let metadata = config.has(flags::RX_METADATA) && (theirs || program.beside().is_some());
        let opening = Opening { name: &name, config, facts, sizes, common, metadata };
        opening.wait_for_carrier();
        let bound = MemoryBound::now(config.memory_limit).bytes;
        let numbers = if only_program { &[][..] } else { &queues[..] };
        let (mode, sockets) = opening.sockets(numbers, sockets, &program, &mut steps)?;
        let mut opened = Vec::new();
        let mut memory = 0;
        let mut frame = (0, 0);
        for ready in sockets {
            memory += if config.umem.is_some() { 0 } else { ready.memory() };
            frame = ready.frame();
            opened.push(Arc::new(ready.into_queue(&opening, mode)?));
        }
        if let Some(umem) = &config.umem {
            memory = umem.layout().memory();
        }
        if program.fd(Which::Map).is_some() && config.redirect != Some(Redirect::None) {
            for queue in &opened {
                queue.with_socket(|socket| program.add(queue.info().number, socket.fd()))?;
            }
        }
        let missing = (0..bindable).filter(|queue| !queues.contains(queue)).collect();
        let info = XdpInfo {
            mode,
            requested_mode: config.mode,
            redirect: config.redirect,
            queue_count: opened.len() as u32,
            interface_queues: bindable,
            ifindex,
            mtu: opening.facts.interface.link.mtu,
            frame_limit: 0,
            frame_size: frame.0,
            headroom: frame.1,
            sizes,
            steps: steps.len() as u32,
            ids: (0, 0),
            max_segments,
            flags: if metadata { config.flags } else { config.flags & !flags::RX_METADATA },
            memory,
            memory_bound: config.umem.as_ref().map_or(bound, |umem| umem.bound()),
            interface: name.clone(),
        };
        Ok(Self {
            place: Place::elsewhere(None)?,
            program,
            queues: opened,
            steps,
            missing,
            info: Mutex::new(info),
            swapping: Mutex::new(()),
            last_error: Mutex::new(None),
        })
    }

    /// Its queues.
    pub fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    /// What was granted, and how the interface is now.
    pub fn info(&self) -> XdpInfo {
        let mut info = self.info.lock().clone();
        info.ids = self.program.ids();
        if let Some(queue) = self.queues.first() {
            info.frame_limit = queue.frame_limit();
            info.mtu = queue.mtu().unwrap_or(info.mtu);
        }
        info
    }

    /// Modes that were not granted, and why.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Queues of the interface without a socket.
    pub fn missing(&self) -> &[u32] {
        &self.missing
    }

    /// Another selection, from one packet to the next.
    ///
    /// # Errors
    /// As [`Program::swap`].
    pub fn set_filter(&self, redirect: Redirect, filter: Option<&Filter>) -> Result<()> {
        let program = match (redirect, filter) {
            (Redirect::Filter, Some(filter)) => Some(filter.in_frame(NETRING_LINKTYPE_ETHERNET)?),
            (Redirect::Filter, None) => {
                return Err(Error::config("filter", "NETRING_REDIRECT_FILTER needs a filter"));
            }
            (_, Some(_)) => {
                return Err(Error::config("filter", "a filter goes with NETRING_REDIRECT_FILTER"));
            }
            (_, None) => None,
        };
        let _alone = self.swapping.lock();
        self.program.check_swap()?;
        // With nothing redirected the sockets are not in the map yet. The same one once
        // more is no error.
        if redirect != Redirect::None && self.info.lock().redirect == Some(Redirect::None) {
            for queue in &self.queues {
                queue.with_socket(|socket| self.program.add(queue.info().number, socket.fd()))?;
            }
        }
        self.place.within(|| self.program.swap(selection(Some(redirect), program.as_ref())))??;
        self.info.lock().redirect = Some(redirect);
        Ok(())
    }

    /// Takes the program off the interface.
    ///
    /// # Errors
    /// As [`Program::detach`].
    pub fn detach(&self) -> Result<()> {
        self.program.detach()
    }

    /// A descriptor, which stays the xdp's.
    ///
    /// # Errors
    /// `Config`: there is none.
    pub fn fd(&self, which: Which) -> Result<RawFd> {
        self.program.fd(which).ok_or_else(|| {
            Error::config("which", "there is no such descriptor: the program is not this xdp's")
        })
    }

    /// Numbers of all queues.
    pub fn stats(&self) -> Stats {
        let mut all = Stats::default();
        for queue in &self.queues {
            let one = queue.stats();
            all.time_ns = one.time_ns;
            for (to, from) in [
                (&mut all.received, one.received),
                (&mut all.delivered, one.delivered),
                (&mut all.pending, one.pending),
                (&mut all.seen, one.seen),
                (&mut all.dropped, one.dropped),
                (&mut all.blocks_delivered, one.blocks_delivered),
                (&mut all.blocks_ready, one.blocks_ready),
                (&mut all.blocks_held, one.blocks_held),
            ] {
                *to += from;
            }
            all.oldest_held_ns = all.oldest_held_ns.max(one.oldest_held_ns);
        }
        all
    }

    /// The others, of all queues.
    pub fn counters(&self) -> XdpCounters {
        let mut all = XdpCounters::default();
        self.queues.iter().for_each(|queue| all.add(&queue.counters()));
        all
    }

    /// Ends the waits of all queues. Async-signal-safe.
    pub fn stop(&self) {
        self.queues.iter().for_each(|queue| queue.stop());
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this xdp.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Ends program and sockets. How many committed frames have not left.
    pub fn close(&self) -> u64 {
        self.program.close();
        let left = self.queues.iter().map(|queue| queue.close()).sum();
        log::info!("{}: AF_XDP sockets closed", self.info.lock().interface);
        left
    }
}

fn words(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::ZeroCopy => "zero-copy",
        Mode::Copy => "copied by the driver's hook",
        Mode::Skb => "copied in the kernel's stack (SKB)",
    }
}

fn adopted(fd: RawFd) -> Result<Socket> {
    Socket::xdp_from(fd).map_err(|errno| {
        let why = match errno.0 {
            libc::EBADF => "is not open".to_string(),
            libc::EPROTOTYPE | libc::ENOTSOCK => {
                "is no AF_XDP socket: make it with socket(AF_XDP, SOCK_RAW, 0)".to_string()
            }
            _ => format!("could not be taken: {errno}"),
        };
        Error::config("sockets", format!("socket {fd} {why}"))
    })
}

/// A copy of a descriptor of the caller's.
fn descriptor(
    config: &XdpConfig,
    flag: u64,
    fd: RawFd,
    field: &'static str,
) -> Result<Option<OwnedFd>> {
    if !config.has(flag) {
        return Ok(None);
    }
    file::duplicate(fd).map(Some).map_err(|errno| match errno.0 {
        libc::EBADF => Error::config(field, format!("{field} {fd} is not open")),
        number => Error::new(
            Kind::Io,
            "F_DUPFD_CLOEXEC",
            format!("{field} {fd} was not duplicated: {errno}; raise `ulimit -n`"),
        )
        .with_os(number),
    })
}

/// The filter, as a program for frames with their tags in them.
fn configured(config: &XdpConfig) -> Result<Option<filter::Program>> {
    config.filter.as_ref().map(|filter| filter.in_frame(NETRING_LINKTYPE_ETHERNET)).transpose()
}

fn selection(redirect: Option<Redirect>, filter: Option<&filter::Program>) -> Selection<'_> {
    match (redirect, filter) {
        (Some(Redirect::Filter), Some(filter)) => Selection::Accepted(filter),
        (Some(Redirect::All), _) => Selection::Everything,
        _ => Selection::Nothing,
    }
}

/// The queues asked for, or all.
fn queues(wanted: &[u32], bindable: u32, name: &str) -> Result<Vec<u32>> {
    if wanted.is_empty() {
        return Ok((0..bindable).collect());
    }
    for (at, queue) in wanted.iter().enumerate() {
        if *queue >= bindable {
            return Err(Error::config(
                "queues",
                format!("{name} has no queue {queue}: 0 to {}", bindable - 1),
            ));
        }
        if wanted[..at].contains(queue) {
            return Err(Error::config("queues", format!("queue {queue} is named twice")));
        }
    }
    Ok(wanted.to_vec())
}

/// What this open had before a step down, and the kernel may have still.
#[derive(Clone, Copy)]
struct Own {
    queue: bool,
    /// Of the umem that is given.
    frames: bool,
}

/// A bound socket, its rings and its frames.
struct Ready {
    number: u32,
    socket: Arc<Socket>,
    umem: Arc<Umem>,
    rx: Frames,
    tx: Option<Frames>,
    ring: Consumer<crate::sys::xdp::Descriptor>,
    fill: Producer<u64>,
    transmit: Option<Producer<crate::sys::xdp::Descriptor>>,
    completion: Consumer<u64>,
    busy_poll: u32,
}

impl Opening<'_> {
    fn ifindex(&self) -> u32 {
        self.facts.interface.link.index
    }

    /// What the device does for frames to be sent. Without zero copy the kernel has it done,
    /// or does it.
    fn abilities(&self, mode: Mode) -> Abilities {
        if mode != Mode::ZeroCopy {
            return Abilities { checksums: true, timestamps: true, by_kernel: true };
        }
        let has = |bit: u64| self.facts.interface.xdp.is_some_and(|xdp| xdp.xsk & bit != 0);
        Abilities {
            checksums: has(DRIVER_CHECKSUMS),
            timestamps: has(DRIVER_STAMPS),
            by_kernel: false,
        }
    }

    /// Drivers take the link down for a while when a program is attached.
    fn wait_for_carrier(&self) {
        let patience = Duration::from_millis(self.config.carrier_timeout.into());
        let until = clock::monotonic() + patience;
        loop {
            let running = self
                .common
                .ask
                .interface_name(self.ifindex())
                .and_then(|name| self.common.ask.interface_flags(&name))
                .map_or(true, |flags| flags & libc::IFF_RUNNING as u32 != 0);
            if running || clock::monotonic() >= until {
                return;
            }
            clock::nap(CARRIER_RETRY);
        }
    }

    /// The sockets, in the best mode that all of them have.
    fn sockets(
        &self,
        numbers: &[u32],
        mut adopted: Vec<Socket>,
        program: &Program,
        steps: &mut Vec<Step>,
    ) -> Result<(Mode, Vec<Ready>)> {
        // Without a program the sockets only send, as the driver can.
        let in_driver = program.is_native() || program.ids().0 == 0;
        self.runs_as_asked(program)?;
        let in_driver = in_driver && self.config.mode != Mode::Skb;
        let copied = if in_driver { Mode::Copy } else { Mode::Skb };
        if numbers.is_empty() {
            // Nothing was bound that says whether the device would copy.
            return Ok((copied, Vec::new()));
        }
        let modes: &[Mode] = match self.config.mode {
            Mode::ZeroCopy => &[Mode::ZeroCopy],
            Mode::Auto if in_driver => &[Mode::ZeroCopy, copied],
            _ => &[copied],
        };
        // A socket that was handed over has one try: what it has been given stays with it.
        let modes = if adopted.is_empty() { modes } else { &modes[modes.len() - 1..] };
        // Queues that were bound before a step down.
        let mut closed = 0;
        for mode in modes {
            let given = std::mem::take(&mut adopted);
            let mut given = given.into_iter();
            let mut ready = Vec::new();
            let tried = numbers.iter().enumerate().try_for_each(|(at, number)| {
                let own = Own { queue: at < closed, frames: closed > 0 };
                ready.push(self.socket(*number, given.next(), *mode, own)?);
                Ok(())
            });
            closed = ready.len();
            match tried.map(|()| ready) {
                Ok(ready) => return Ok((*mode, ready)),
                Err(error) if *mode == Mode::ZeroCopy && self.config.mode == Mode::Auto => {
                    if !is_step_down(&error) {
                        return Err(error);
                    }
                    let os = error.os;
                    steps.push(Step { mode: *mode, os, option: "bind", message: error.message });
                }
                Err(error) => return Err(error),
            }
        }
        Ok((copied, Vec::new()))
    }

    /// Where the program is somebody else's, so is where it runs.
    fn runs_as_asked(&self, program: &Program) -> Result<()> {
        let theirs = self.config.has(flags::MAP_FD) && !self.config.has(flags::PROGRAM_FD);
        if !theirs || program.ids().0 == 0 {
            return Ok(());
        }
        let place = match (self.config.mode, program.is_native()) {
            (Mode::ZeroCopy | Mode::Copy, false) => "in the kernel's stack",
            (Mode::Skb, true) => "in the driver",
            _ => return Ok(()),
        };
        let message = format!(
            "not supported: the program on {} runs {place}, where it was attached to: ask for \
             NETRING_MODE_AUTO, or have it attached elsewhere",
            self.name
        );
        Err(Error::new(Kind::NotSupported, "mode", message))
    }

    /// Until when something in use is tried again. What this open has just closed is waited
    /// for in any case: it is in nobody's way but its own.
    fn until(&self, own: bool) -> Duration {
        let patience = self.config.bind_patience().max(if own { BIND_TIMEOUT } else { 0 });
        clock::monotonic() + Duration::from_millis(patience.into())
    }

    /// One socket, bound; a queue in use is tried again for a while.
    fn socket(&self, number: u32, given: Option<Socket>, mode: Mode, own: Own) -> Result<Ready> {
        let (framed, bound) = (self.until(own.frames), self.until(own.queue));
        let mut given = given;
        let umem = match &self.config.umem {
            Some(umem) => Arc::clone(umem),
            None => {
                let memory = self.config.umem_config(&self.sizes);
                Arc::new(Umem::new(&memory)?)
            }
        };
        let mut ready = patiently(framed, || self.prepare(number, &mut given, &umem))?;
        // The same one again, which may be the caller's.
        patiently(bound, || self.bind(&ready, mode))?;
        ready.rx.set_used();
        if mode != Mode::ZeroCopy && ready.tx.is_some() {
            grow_send_buffer(&ready.socket, umem.layout().frame_size, self.sizes.tx_frames);
        }
        Ok(ready)
    }

    /// A socket with frames and rings, not bound yet: the one that was given, once there are
    /// frames for it.
    fn prepare(&self, number: u32, given: &mut Option<Socket>, umem: &Arc<Umem>) -> Result<Ready> {
        let sizes = &self.sizes;
        let frames = |count: u32| umem.take(count).ok_or_else(|| no_frames(umem, count));
        let rx = frames(sizes.rx_frames)?;
        let tx = match sizes.tx_frames {
            0 => None,
            count => Some(frames(count)?),
        };
        let socket = match given.take() {
            Some(socket) => socket,
            None => Socket::xdp().map_err(no_socket)?,
        };
        umem.register(&socket).map_err(|errno| not_registered(errno, umem))?;
        let mut rings = vec![
            (RingKind::Fill, sizes.fill_ring),
            (RingKind::Completion, sizes.completion_ring),
            (RingKind::Receive, sizes.rx_ring),
        ];
        if tx.is_some() {
            rings.push((RingKind::Transmit, sizes.tx_ring));
        }
        for (kind, entries) in rings {
            socket.make_ring(kind, entries).map_err(|errno| no_ring(kind, entries, errno))?;
        }
        let no_map = |errno: Errno| {
            Error::new(Kind::Mmap, "mmap", format!("the rings could not be mapped: {errno}"))
                .with_os(errno.0)
        };
        let ring = Consumer::map(&socket, RingKind::Receive, sizes.rx_ring).map_err(no_map)?;
        let mut fill = Producer::map(&socket, RingKind::Fill, sizes.fill_ring).map_err(no_map)?;
        fill_up(&rx, &mut fill);
        let completion =
            Consumer::map(&socket, RingKind::Completion, sizes.completion_ring).map_err(no_map)?;
        let transmit = match &tx {
            Some(_) => {
                Some(Producer::map(&socket, RingKind::Transmit, sizes.tx_ring).map_err(no_map)?)
            }
            None => None,
        };
        let busy_poll = self.busy_poll(&socket)?;
        Ok(Ready {
            number,
            socket: Arc::new(socket),
            umem: Arc::clone(umem),
            rx,
            tx,
            ring,
            fill,
            transmit,
            completion,
            busy_poll,
        })
    }

    fn busy_poll(&self, socket: &Socket) -> Result<u32> {
        let time = self.config.busy_poll;
        if time == 0 {
            return Ok(0);
        }
        let mut options = vec![("SO_PREFER_BUSY_POLL", BusyPoll::Prefer)];
        options.push(("SO_BUSY_POLL", BusyPoll::Time(time)));
        if self.config.busy_poll_budget != 0 {
            let budget = BusyPoll::Budget(self.config.busy_poll_budget);
            options.push(("SO_BUSY_POLL_BUDGET", budget));
        }
        for (name, option) in options {
            socket.busy_poll(option).map_err(|errno| {
                let remedy = match errno.0 {
                    libc::EPERM => "; it needs CAP_NET_ADMIN",
                    libc::ENOPROTOOPT => "; it needs Linux 5.11 and CONFIG_NET_RX_BUSY_POLL",
                    _ => "",
                };
                Error::new(
                    Kind::SockOpt,
                    name,
                    format!("busy polling was refused: {name}: {errno}{remedy}"),
                )
                .with_os(errno.0)
            })?;
        }
        Ok(time)
    }

    fn bind(&self, ready: &Ready, mode: Mode) -> Result<()> {
        let has = |flag: u64, bit: u16| if self.config.has(flag) { bit } else { 0 };
        let wakeup = if self.config.has(flags::NO_NEED_WAKEUP) { 0 } else { bind::NEED_WAKEUP };
        let copy = if mode == Mode::ZeroCopy { bind::ZERO_COPY } else { bind::COPY };
        let flags = copy | wakeup | has(flags::MULTI_BUFFER, bind::MULTI_BUFFER);
        ready
            .socket
            .bind_queue(self.ifindex(), ready.number, flags)
            .map_err(|errno| self.not_bound(errno, ready, mode))
    }

    fn not_bound(&self, errno: Errno, ready: &Ready, mode: Mode) -> Error {
        let (name, number) = (self.name, ready.number);
        let xdp = self.facts.interface.xdp;
        let multi = self.config.has(flags::MULTI_BUFFER);
        let (kind, option, words) = match errno.0 {
            libc::EBUSY => (
                Kind::Busy,
                "queue",
                format!(
                    "in use: queue {number} of {name} has an AF_XDP socket already; end the program \
                     that has it, or name other queues"
                ),
            ),
            libc::ENODEV => (
                Kind::InterfaceNotFound,
                "interface",
                format!("interface not found: {name} is gone"),
            ),
            libc::ENETDOWN => (
                Kind::Bind,
                "bind",
                format!("{name} is down: {errno}; set it up (`ip link set {name} up`)"),
            ),
            libc::EPERM | libc::EACCES => (
                Kind::PermissionDenied,
                "bind",
                format!("insufficient privileges: binding to queue {number}: {errno}"),
            ),
            libc::ENOBUFS => (Kind::MemLock, "bind", locked_memory(ready.memory())),
            libc::EOPNOTSUPP if mode == Mode::ZeroCopy => {
                // A kernel that does not tell may have it.
                let has_it = xdp.is_none_or(|xdp| xdp.features & ZEROCOPY != 0);
                let segments = xdp.map_or(0, |xdp| xdp.max_segments);
                let why = if multi && segments <= 1 && has_it {
                    "it takes packets of one frame only: leave NETRING_XDP_MULTI_BUFFER out".into()
                } else {
                    format!("its driver has no zero copy on queue {number}")
                };
                (Kind::NotSupported, "bind", format!("not supported: zero copy on {name}: {why}"))
            }
            libc::EINVAL if mode == Mode::ZeroCopy => (
                Kind::Bind,
                "bind",
                format!(
                    "queue {number} of {name} was refused with zero copy: {errno}; drivers may want \
                     frames of another size, a ring of another length, or no headroom"
                ),
            ),
            libc::EINVAL if multi => (
                Kind::Bind,
                "bind",
                format!(
                    "queue {number} of {name} was refused: {errno}; packets of several frames need \
                     Linux 6.6"
                ),
            ),
            libc::EINVAL => (
                Kind::Bind,
                "bind",
                format!(
                    "queue {number} of {name} was refused: {errno}; it may have fewer queues by now"
                ),
            ),
            libc::EOPNOTSUPP => (
                Kind::NotSupported,
                "bind",
                format!("not supported: AF_XDP on queue {number} of {name}: {errno}"),
            ),
            _ => (Kind::Bind, "bind", format!("queue {number} of {name} was refused: {errno}")),
        };
        Error::new(kind, option, words).with_os(errno.0)
    }
}

impl Ready {
    fn memory(&self) -> u64 {
        self.umem.layout().memory()
    }

    fn frame(&self) -> (u32, u32) {
        (self.umem.layout().frame_size, self.umem.layout().headroom)
    }

    fn into_queue(self, opening: &Opening<'_>, mode: Mode) -> Result<Queue> {
        let link = &opening.facts.interface.link;
        let origin = Origin {
            ifindex: link.index,
            queue: self.number as u16,
            linear: opening.config.has(flags::LINEAR),
            pieces: opening.config.has(flags::MULTI_BUFFER),
            metadata: opening.metadata,
            busy_poll: self.busy_poll != 0,
        };
        let way = Way {
            zero_copy: mode == Mode::ZeroCopy,
            need_wakeup: !opening.config.has(flags::NO_NEED_WAKEUP),
            tells_taken: process::kernel_version() >= TELLS_TAKEN,
            metadata: opening.config.has(flags::TX_METADATA).then(|| opening.abilities(mode)),
        };
        let transmit = self.tx.zip(self.transmit).map(|(frames, ring)| {
            let leaving = Leaving::new(link.index, link.hardware, link.mtu);
            let ask = Arc::clone(&opening.common.ask);
            let socket = Arc::clone(&self.socket);
            Transmit::new(frames, way, leaving, ask, socket, ring, self.completion)
        });
        let timer = Timer::new().map_err(no_waiter)?;
        let socket = Arc::clone(&self.socket);
        let receive = Receive::new(self.rx, origin, socket, self.ring, self.fill, timer);
        Queue::assemble(Parts {
            info: QueueInfo {
                number: self.number,
                mode,
                busy_poll: self.busy_poll,
                block_timeout_us: opening.config.block_timeout_us,
                ifindex: link.index,
            },
            common: Arc::clone(&opening.common),
            socket: self.socket,
            receive,
            transmit,
            block_packets: opening.sizes.block_packets,
        })
    }
}

/// Again and again, until then, while something is in use.
fn patiently<T>(until: Duration, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match step() {
            Err(error) if error.kind == Kind::Busy && clock::monotonic() < until => {
                clock::nap(RETRY);
            }
            result => return result,
        }
    }
}

/// Whether another mode may do: what is refused has to do with zero copy.
fn is_step_down(error: &Error) -> bool {
    matches!(error.kind, Kind::Bind | Kind::NotSupported) && error.os != Some(libc::ENETDOWN)
}

fn no_frames(umem: &Umem, count: u32) -> Error {
    Error::new(
        Kind::Busy,
        "umem",
        format!(
            "in use: {count} frames together are not free in the umem, of {} that are; it needs \
             rx_frames and tx_frames for each queue: raise its frame_count, or lower these",
            umem.free()
        ),
    )
}

fn no_socket(errno: Errno) -> Error {
    let (kind, words) = match errno.0 {
        libc::EPERM | libc::EACCES => (
            Kind::PermissionDenied,
            format!(
                "insufficient privileges (need CAP_NET_RAW): socket(AF_XDP): {errno}; run as root, \
                 or have the sockets handed over (netring_xdp_adopt)"
            ),
        ),
        libc::EAFNOSUPPORT => (
            Kind::NotSupported,
            format!("not supported: this kernel has no AF_XDP: {errno} (CONFIG_XDP_SOCKETS)"),
        ),
        _ => (Kind::Socket, format!("socket(AF_XDP) failed: {errno}; raise `ulimit -n`")),
    };
    Error::new(kind, "socket", words).with_os(errno.0)
}

/// `needed` is what one socket registers: with a shared umem each socket all of it.
fn locked_memory(needed: u64) -> String {
    let limit = locked_memory_limit().map_or("none".to_string(), |bytes| format!("{bytes} bytes"));
    format!(
        "locked-memory limit too small: it is {limit}, for all frames of the user together, and \
         each queue needs {needed}; raise it (`ulimit -l`, LimitMEMLOCK=), use fewer frames or \
         queues, or run with CAP_IPC_LOCK"
    )
}

fn not_registered(errno: Errno, umem: &Umem) -> Error {
    let layout = umem.layout();
    let (kind, words) = match errno.0 {
        libc::ENOBUFS => (Kind::MemLock, locked_memory(layout.memory())),
        libc::EPERM => (
            Kind::PermissionDenied,
            format!("insufficient privileges: registering frame memory: {errno}"),
        ),
        libc::ENOMEM => {
            (Kind::Mmap, format!("frame memory refused: {} bytes: {errno}", layout.memory()))
        }
        libc::EINVAL if layout.flags & super::umem::flags::TX_METADATA != 0 => (
            Kind::NotSupported,
            format!("not supported: metadata of frames to be sent need Linux 6.11: {errno}"),
        ),
        libc::EINVAL => (
            Kind::SockOpt,
            format!(
                "frames of {} bytes with {} of headroom were refused: {errno}{}",
                layout.frame_size,
                layout.headroom,
                if layout.flags == 0 { "" } else { "; unaligned frames need Linux 5.4" }
            ),
        ),
        libc::EBUSY => (
            Kind::Config,
            "the socket has frame memory already: hand over one that was just made".to_string(),
        ),
        _ => (Kind::SockOpt, format!("frame memory was refused: {errno}")),
    };
    let option = if kind == Kind::Config { "sockets" } else { "XDP_UMEM_REG" };
    Error::new(kind, option, words).with_os(errno.0)
}

fn no_ring(kind: RingKind, entries: u32, errno: Errno) -> Error {
    let what = kind.name();
    match errno.0 {
        libc::ENOMEM => Error::new(
            Kind::Mmap,
            what,
            format!("ring memory refused: {what} of {entries} entries: {errno}; use fewer"),
        ),
        _ => Error::new(
            Kind::SockOpt,
            what,
            format!("{what} of {entries} entries was refused: {errno}"),
        ),
    }
    .with_os(errno.0)
}

/// Has the send buffer hold what is on its way, as far as allowed: without zero copy the
/// kernel counts each packet against it.
fn grow_send_buffer(socket: &Socket, frame_size: u32, frames: u32) {
    let wanted = (u64::from(frame_size) + PACKET_OVERHEAD).saturating_mul(frames.into());
    let half = (wanted.min(MOST_ON_THEIR_WAY) / 2) as i32;
    // The kernel doubles it, and cuts the first at net.core.wmem_max.
    let _ = socket.set(libc::SOL_SOCKET, libc::SO_SNDBUF, &half);
    let _ = socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &half);
}
