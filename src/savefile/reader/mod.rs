//! The savefile reader: packets of a file as blocks.
//!
//! Input -> [`buffer`] -> [`parse`] (what is next, and where it lies) -> a block
//! in [`memory`], written as a packet ring's (`afpacket::record::write`), so that
//! every walk, in every language, works on it. [`wait`] is what threads and outer
//! event loops wait on.

mod buffer;
mod derive;
#[allow(unsafe_code)]
mod memory;
pub mod parse;
mod wait;

use crate::afpacket::capture::{Current, Deadline};
use crate::afpacket::counters::Stats;
use crate::afpacket::record::BLOCK_HEADER;
use crate::afpacket::record::write::{BlockWriter, Known, block_size_for};
use crate::block::{Block, BlockInfo, Owner};
use crate::error::{Error, Kind, Result};
use crate::filter::{Filter, PacketView, Program, Unanswered};
use crate::sys::input::Input;
use crate::sys::{Errno, clock};
use buffer::Buffer;
use derive::Derived;
pub use memory::Hold;
use memory::{Place, Pool, pages};
use parking_lot::{Mutex, MutexGuard};
use parse::{Found, Header, Interface, Parser, Step};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::Arc;
use wait::Waiter;

/// Bytes of a block unless configured.
pub const DEFAULT_BLOCK_SIZE: u32 = 1 << 20;
/// Captured bytes of the largest packet unless configured.
pub const DEFAULT_PACKET_LIMIT: u32 = 16 << 20;
/// Bytes of all blocks unless configured, where that holds two of the largest.
pub const DEFAULT_MEMORY_LIMIT: u64 = 64 << 20;
/// A block's header and a short packet.
const MIN_BLOCK_SIZE: u32 = 4096;
/// As for captures.
const MAX_BLOCK_SIZE: u32 = 1 << 30;
/// A packet and its headers stay below the largest block.
const MAX_PACKET_LIMIT: u32 = (1 << 30) - (1 << 16);
/// Looks at the file between two looks at whether the reader is to stop.
const LOOKS: u32 = 256;
/// Looks at the file between two chances for other threads, where a filter takes
/// nothing.
const LOOKS_ALONE: u32 = 16384;

/// What a reader is asked for.
#[derive(Debug, Clone)]
pub struct ReaderConfig {
    /// Bytes of a block.
    pub block_size: u32,
    /// Captured bytes of the largest packet.
    pub packet_limit: u32,
    /// Bytes of all blocks; 0: the default.
    pub memory_limit: u64,
    /// None are defined.
    pub flags: u64,
    /// Which packets; `None`: all.
    pub filter: Option<Filter>,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            block_size: DEFAULT_BLOCK_SIZE,
            packet_limit: DEFAULT_PACKET_LIMIT,
            memory_limit: 0,
            flags: 0,
            filter: None,
        }
    }
}

impl ReaderConfig {
    /// Checks every value; gives the pool for the blocks.
    fn pool(&self) -> Result<Arc<Pool>> {
        let range = |name: &'static str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::config(
                name,
                format!("{name} {value} is out of range: {least} to {most} bytes"),
            ))
        };
        range("block_size", self.block_size, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE)?;
        range("packet_limit", self.packet_limit, 1, MAX_PACKET_LIMIT)?;
        if self.flags != 0 {
            return Err(Error::config(
                "flags",
                format!("flags {:#x} are unknown: this library knows none", self.flags),
            ));
        }
        let piece = pages(self.block_size as usize);
        let largest = pages(block_size_for(self.packet_limit).unwrap_or(u32::MAX) as usize);
        let least = piece.max(largest) as u64;
        let limit = match self.memory_limit {
            0 => DEFAULT_MEMORY_LIMIT.max(least * 2),
            limit if limit < least => {
                return Err(Error::config(
                    "memory_limit",
                    format!(
                        "memory_limit {limit} is less than a block of block_size, or of one packet \
                         of packet_limit, takes: at least {least}, or smaller ones"
                    ),
                ));
            }
            limit => limit,
        };
        Ok(Pool::new(piece, usize::try_from(limit).unwrap_or(usize::MAX)))
    }
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct ReaderInfo {
    /// Its header, once it was read.
    pub header: Option<Header>,
    /// Sections so far.
    pub sections: u32,
    /// Interfaces so far.
    pub interfaces: u32,
    /// The first interface.
    pub first: Option<Interface>,
    /// Bytes used up.
    pub offset: u64,
    /// Bytes of all blocks' memory.
    pub memory: u64,
    /// Bytes they may take.
    pub memory_limit: u64,
    /// As configured.
    pub block_size: u32,
    /// As configured.
    pub packet_limit: u32,
    /// It may have to be waited for.
    pub waits: bool,
}

/// What is read and not yet handed out.
#[derive(Debug)]
struct State {
    parser: Parser,
    /// A packet that lies in the parser's buffer, and the bytes to keep of it.
    pending: Option<(Found, u32)>,
    /// The end or the damage, met after everything before it was handed out.
    over: Option<Error>,
    /// Where the next block goes.
    place: Option<Place>,
    /// The waiter's `more` may be set.
    more: bool,
    /// All memory was held the last time some was wanted.
    starving: bool,
    sequence: u64,
    counters: Counters,
    /// The filter's program for packets of the link type that came last.
    program: Option<(u16, Program)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    received: u64,
    delivered: u64,
    filtered: u64,
    truncated: u64,
    blocks: u64,
    starved: u64,
}

/// Why nothing more goes into a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A packet is pending.
    Packet,
    /// The input has to be waited for.
    Wait,
    /// The end or damage.
    Over,
    /// A wakeup, a stop, a close.
    Interrupted,
    /// Nothing yet, and others are to have their turn.
    Breath,
}

/// What a try gives.
#[derive(Debug)]
enum Got {
    Block(Arc<Block>),
    /// To be waited for.
    Nothing,
    /// Try again, with the lock let go meanwhile.
    Again,
}

/// See the module.
#[derive(Debug)]
pub struct Reader {
    config: ReaderConfig,
    /// The input may have to be waited for.
    waits: bool,
    waiter: Arc<Waiter>,
    pool: Arc<Pool>,
    state: Mutex<State>,
    current: Arc<Current>,
    last_error: Mutex<Option<Error>>,
}

impl Reader {
    /// Opens a savefile.
    ///
    /// # Errors
    /// `Config`; `Io`: it could not be opened or read, or is no savefile.
    pub fn open(path: &CStr, config: &ReaderConfig) -> Result<Self> {
        let name = shortened(&path.to_string_lossy());
        let pool = config.pool()?;
        let input = Input::open(path).map_err(|errno| {
            Error::new(Kind::Io, "open", format!("{name} could not be opened: {errno}"))
                .with_os(errno.0)
        })?;
        Self::start(input, name, config, pool)
    }

    /// Reads from a descriptor, of which it takes a duplicate.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_fd(fd: RawFd, config: &ReaderConfig) -> Result<Self> {
        let name = format!("descriptor {fd}");
        let pool = config.pool()?;
        let input = Input::duplicate(fd).map_err(|errno| {
            // As the writer says it: a wrong argument, not a failed step.
            if errno.0 == libc::EBADF {
                return Error::config("fd", format!("fd {fd} is not open"));
            }
            Error::new(Kind::Io, "fd", format!("{name} could not be duplicated: {errno}"))
                .with_os(errno.0)
        })?;
        Self::start(input, name, config, pool)
    }

    fn start(input: Input, name: String, config: &ReaderConfig, pool: Arc<Pool>) -> Result<Self> {
        crate::fork::claim()?;
        let (waiter, waits) = Waiter::new(&input).map_err(|errno| {
            Error::new(
                Kind::Io,
                "epoll",
                format!(
                    "epoll or eventfd was refused: {errno}; close descriptors or raise `ulimit -n`"
                ),
            )
            .with_os(errno.0)
        })?;
        let parser = Parser::new(Buffer::new(input, waits), name, config.packet_limit);
        let mut state = State {
            parser,
            pending: None,
            over: None,
            place: None,
            more: false,
            starving: false,
            sequence: 0,
            counters: Counters::default(),
            program: None,
        };
        if !waits {
            state.look_at_header()?;
            // A file always has something to say, if only that it ends.
            waiter.signals.more();
            state.more = true;
        }
        Ok(Self {
            config: config.clone(),
            waits,
            waiter: Arc::new(waiter),
            pool,
            state: Mutex::new(state),
            current: Arc::default(),
            last_error: Mutex::new(None),
        })
    }

    /// The descriptor that is readable while `next_block(0)` would return
    /// something.
    pub fn fd(&self) -> RawFd {
        self.waiter.fd()
    }

    /// The next block; `None` after `timeout_ms` (negative: never, 0: at once).
    ///
    /// # Errors
    /// `Shutdown` (the end, or stopped), `Wakeup`, `Io` (damage, or reading
    /// failed), `NotSupported` (the filter has no verdict), `Mmap` (no memory),
    /// `BadHandle` (being closed).
    pub fn next_block(&self, timeout_ms: i32) -> Result<Option<Arc<Block>>> {
        let deadline = Deadline::after(timeout_ms);
        let mut sure = false;
        loop {
            let mut state = self.state.lock();
            match self.try_next(&mut state, sure)? {
                Got::Block(block) => return Ok(Some(block)),
                Got::Again => {
                    MutexGuard::unlock_fair(state);
                    continue;
                }
                Got::Nothing => drop(state),
            }
            let left = deadline.left_ms(-1);
            if left == 0 && sure {
                return Ok(None);
            }
            self.waiter.wait(left).map_err(|errno| {
                Error::new(Kind::Io, "epoll", format!("waiting failed: {errno}")).with_os(errno.0)
            })?;
            sure = true;
        }
    }

    fn try_next(&self, state: &mut State, sure: bool) -> Result<Got> {
        let mut sure = sure;
        loop {
            if self.waiter.is_closing() {
                return Err(Error::new(Kind::BadHandle, "reader", "the reader is closed"));
            }
            if self.waiter.signals.take_wakeup(sure) {
                self.rearm(state);
                return Err(Error::new(Kind::Wakeup, "wakeup", "the wait was ended by a wakeup"));
            }
            if self.waiter.signals.is_stopped() {
                // For the next thread, and for edge-triggered loops.
                self.waiter.signals.stop();
                return Err(Error::new(Kind::Shutdown, "stop", "the reader is stopped"));
            }
            let filled = self.fill(state);
            if filled.is_err() {
                self.set_more(state, true);
            }
            let (block, next) = filled?;
            if let Some(block) = block {
                self.rearm(state);
                return Ok(Got::Block(block));
            }
            match (next, &state.over) {
                (Next::Interrupted, _) => sure = true,
                (Next::Breath, _) => return Ok(Got::Again),
                (Next::Over, Some(error)) => {
                    let error = error.clone();
                    self.rearm(state);
                    return Err(error);
                }
                // Whoever starves has cleared it before it asked to be told.
                (Next::Packet, _) => return Ok(Got::Nothing),
                _ => {
                    self.set_more(state, false);
                    return Ok(Got::Nothing);
                }
            }
        }
    }

    /// After something was returned: signals anew where something else is ready.
    fn rearm(&self, state: &mut State) {
        // A file is not looked into ahead of time: something there is in any case.
        let more = !self.waits || self.advance(state) != Next::Wait;
        self.set_more(state, more);
    }

    fn set_more(&self, state: &mut State, more: bool) {
        if more {
            self.waiter.signals.more();
        } else if state.more {
            self.waiter.signals.no_more();
        }
        state.more = more;
    }

    /// Makes sure that a packet which the filter accepts is pending, or tells
    /// why none is.
    fn advance(&self, state: &mut State) -> Next {
        let mut looks = 0_u32;
        loop {
            if state.pending.is_some() {
                return Next::Packet;
            }
            if state.over.is_some() {
                return Next::Over;
            }
            looks += 1;
            if looks % LOOKS == 0 && self.waiter.interrupts() {
                return Next::Interrupted;
            }
            if looks == LOOKS_ALONE {
                return Next::Breath;
            }
            match state.parser.step() {
                Ok(Step::Packet(found)) => {
                    state.counters.received += 1;
                    match self.verdict(state, &found) {
                        Ok(0) => {
                            state.counters.filtered += 1;
                            state.parser.consume(&found);
                        }
                        Ok(keep) => state.pending = Some((found, keep.min(found.caplen))),
                        Err(error) => state.over = Some(error),
                    }
                }
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Next::Wait,
                Ok(Step::End) => state.over = Some(state.end()),
                Err(error) => state.over = Some(error),
            }
        }
    }

    /// How many bytes the filter keeps of a packet.
    fn verdict(&self, state: &mut State, found: &Found) -> Result<u32> {
        let Some(filter) = &self.config.filter else { return Ok(u32::MAX) };
        let program = match state.program.take() {
            Some((link_type, program)) if link_type == found.link_type => program,
            _ => filter.program_for(found.link_type)?,
        };
        let (_, program) = state.program.insert((found.link_type, program));
        let data = state.parser.data(found);
        let derived = Derived::of(found.link_type, data);
        let metadata = derived.metadata(found);
        match program.verdict(&PacketView { data, len: found.len, metadata }) {
            Ok(keep) => Ok(keep),
            // As libpcap and the kernel have it: what is not there is no match.
            Err(Unanswered::Cut { .. }) => Ok(0),
            Err(reason) => Err(Error::new(
                Kind::NotSupported,
                "filter",
                format!(
                    "{}: byte {}: the filter cannot be run on this packet: {reason}",
                    state.parser.name(),
                    found.offset
                ),
            )),
        }
    }

    /// The next block of what is there, and why it has no more packets.
    fn fill(&self, state: &mut State) -> Result<(Option<Arc<Block>>, Next)> {
        let mut building: Option<Building> = None;
        let next = loop {
            let next = self.advance(state);
            let Some((found, caplen)) = state.pending.filter(|_| next == Next::Packet) else {
                break next;
            };
            let building = match &mut building {
                Some(building) if building.link_type != found.link_type => break next,
                Some(building) => building,
                none => {
                    let Some(begun) = self.begin(state, &found)? else { break next };
                    none.insert(begun)
                }
            };
            let data = state.parser.data(&found);
            let data = data.get(..caplen as usize).unwrap_or(data);
            let known = Derived::of(found.link_type, data).known(&found);
            if !building.writer.push(&known, data) {
                break next;
            }
            building.note(&known);
            state.counters.truncated += u64::from(caplen < found.len);
            state.parser.consume(&found);
            state.pending = None;
        };
        Ok((building.and_then(|building| Self::finish(state, building)), next))
    }

    /// A block for `found` and what follows it; `None`: all memory is held.
    fn begin(&self, state: &mut State, found: &Found) -> Result<Option<Building>> {
        let bytes = block_size_for(found.caplen).unwrap_or(u32::MAX) as usize;
        let no_memory = |errno: Errno| {
            Error::new(
                Kind::Mmap,
                "mmap",
                format!("memory for a block of {bytes} bytes was refused: {errno}"),
            )
            .with_os(errno.0)
        };
        if state.place.as_mut().is_some_and(|place| place.room() < bytes) {
            state.place = None;
        }
        if state.place.is_none() {
            let mut piece = self.pool.take(bytes).map_err(no_memory)?;
            if piece.is_some() {
                state.starving = false;
            } else {
                // Before it asks to be told, or the word might be lost.
                self.set_more(state, false);
                piece = self.pool.take_or_tell(bytes, &self.waiter).map_err(no_memory)?;
                // From now on it may be set by a release.
                state.more = true;
                state.counters.starved += u64::from(piece.is_none() && !state.starving);
                state.starving = piece.is_none();
            }
            state.place = piece.map(Place::new);
        }
        let writer = state.place.as_mut().and_then(Place::begin);
        Ok(writer.map(|writer| Building {
            writer,
            link_type: found.link_type,
            first_ns: 0,
            last_ns: 0,
            ifindex: found.interface.saturating_add(1),
        }))
    }

    fn finish(state: &mut State, building: Building) -> Option<Arc<Block>> {
        // It is there while a block is being built.
        let place = state.place.as_mut()?;
        state.sequence += 1;
        let count = building.writer.count();
        state.counters.delivered += u64::from(count);
        state.counters.blocks += 1;
        let info = BlockInfo {
            count,
            sequence: state.sequence,
            first_ns: building.first_ns,
            last_ns: building.last_ns,
            flags: 0,
            ifindex: building.ifindex,
        };
        let (memory, hold) = place.finish(building.writer, state.sequence);
        let owner = Owner::Savefile(hold);
        Some(Arc::new(Block::new(memory, Some(building.link_type), info, BLOCK_HEADER, owner)))
    }

    /// Ends one wait. Async-signal-safe.
    pub fn wakeup(&self) {
        self.waiter.signals.wakeup();
    }

    /// Forgets a pending wakeup.
    pub fn clear_wakeup(&self) {
        self.waiter.signals.take_wakeup(true);
    }

    /// Ends the reading. Async-signal-safe.
    pub fn stop(&self) {
        self.waiter.signals.stop();
    }

    /// All counters.
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { time_ns: clock::nanoseconds(clock::monotonic()), ..Stats::default() };
        {
            let state = self.state.lock();
            let counters = state.counters;
            stats.pending = u64::from(state.pending.is_some());
            stats.received = counters.received;
            stats.seen = counters.received;
            stats.delivered = counters.delivered;
            stats.filtered_late = counters.filtered;
            stats.truncated = counters.truncated;
            stats.blocks_delivered = counters.blocks;
            stats.freezes = counters.starved;
        }
        let (held, oldest, _) = self.pool.usage();
        stats.blocks_held = held as u64;
        stats.oldest_held_ns = clock::nanoseconds(oldest);
        stats
    }

    /// What is known of the file so far.
    pub fn info(&self) -> ReaderInfo {
        let state = self.state.lock();
        let parser = &state.parser;
        ReaderInfo {
            header: parser.header(),
            sections: parser.sections(),
            interfaces: u32::try_from(parser.interfaces().len()).unwrap_or(u32::MAX),
            first: parser.interfaces().first().cloned(),
            offset: parser.offset(),
            memory: self.pool.usage().2 as u64,
            memory_limit: self.pool.limit() as u64,
            block_size: self.config.block_size,
            packet_limit: self.config.packet_limit,
            waits: self.waits,
        }
    }

    /// One of the file's interfaces, by its number.
    ///
    /// # Errors
    /// `Config`: there is none of that number, so far.
    pub fn interface(&self, number: u32) -> Result<Interface> {
        let state = self.state.lock();
        let interfaces = state.parser.interfaces();
        interfaces.get(number as usize).cloned().ok_or_else(|| {
            Error::config(
                "number",
                format!(
                    "interface {number} is none of the {} that the file has described so far",
                    interfaces.len()
                ),
            )
        })
    }

    /// The block that `next_packet` is in.
    #[inline]
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Notes a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this reader.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Sends waiting threads home; the first half of a close.
    pub fn interrupt(&self) {
        self.waiter.signals.close();
    }

    /// Lets go of everything but the blocks that are held; the second half of a
    /// close, when no call is in progress any more.
    pub fn close(&self) {
        if let Ok(mut current) = self.current.enter() {
            current.replace(None);
        }
        self.state.lock().place = None;
        self.pool.close();
    }
}

impl State {
    /// Reads as far as a file's first interface: whether it is a savefile at all
    /// is known then, and so is its link type.
    fn look_at_header(&mut self) -> Result<()> {
        for _ in 0..LOOKS {
            match self.parser.step() {
                Err(error) if self.parser.header().is_none() => return Err(error),
                Ok(Step::Again) if self.parser.interfaces().is_empty() => {}
                // Met again by whoever wants a block.
                _ => break,
            }
        }
        Ok(())
    }

    fn end(&self) -> Error {
        let packets = self.counters.received;
        Error::new(
            Kind::Shutdown,
            "end",
            format!(
                "{}: the end of the savefile, after {} bytes and {packets} packets",
                self.parser.name(),
                self.parser.offset()
            ),
        )
    }
}

/// A block being written.
#[derive(Debug)]
struct Building {
    writer: BlockWriter,
    link_type: u16,
    first_ns: u64,
    last_ns: u64,
    /// The interface of all of its packets, or 0.
    ifindex: u32,
}

impl Building {
    fn note(&mut self, known: &Known) {
        let time = u64::from(known.seconds) * 1_000_000_000 + u64::from(known.nanoseconds);
        if self.writer.count() == 1 {
            self.first_ns = time;
        }
        self.last_ns = time;
        if self.ifindex != known.ifindex {
            self.ifindex = 0;
        }
    }
}

/// A name that leaves room for the rest of a message.
fn shortened(name: &str) -> String {
    const MOST: usize = 200;
    if name.len() <= MOST {
        return name.to_owned();
    }
    let mut start = name.len() - MOST;
    while !name.is_char_boundary(start) {
        start += 1;
    }
    format!("...{}", &name[start..])
}
