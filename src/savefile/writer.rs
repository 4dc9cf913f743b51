//! The savefile writer: interfaces, packets, rotation.
//!
//! Every call hands what it writes to the kernel before it returns, so a file
//! is complete up to the last call whatever happens to the program.

use crate::afpacket::record::Position;
use crate::block::{Block, Pieces};
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::packet::{
    NETRING_LINKTYPE_ETHERNET, NETRING_LINKTYPE_UNKNOWN, NETRING_PACKET_SEGMENTED, Packet,
};
use crate::savefile::writer_file::{Failure, Output};
pub use crate::savefile::writer_format::Statistics;
use crate::savefile::writer_format::{
    self as format, ADDRESSES, LONGEST_AROUND, LONGEST_DESCRIPTION, LONGEST_PACKET, PCAP_HEADER,
    STATISTICS, Shape,
};
use crate::savefile::{NETRING_SAVEFILE_PCAP, NETRING_SAVEFILE_PCAPNG};
use crate::sys::file::{self, Gather, Identity};
use crate::sys::{clock, process, socket};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::time::Duration;

/// What a writer does, one bit each.
pub mod flags {
    /// Microseconds in pcap files.
    pub const MICROSECONDS: u64 = 0x1;
    /// Files must not exist yet.
    pub const NEW: u64 = 0x2;
    /// All that are known.
    pub const KNOWN: u64 = 0x3;
}

/// LINKTYPE_USER0: what hardware without a LINKTYPE_ number is written as.
const LINKTYPE_USER0: u16 = 147;
/// Packets looked at together.
const BATCH: usize = 64;
/// Records written together at most.
const MOST_RECORDS: usize = 4096;
/// Sources whose write failed half way and that are remembered; the oldest is
/// forgotten, for it may never come again.
const MOST_UNFINISHED: usize = 256;
/// Names passed over, of a series, because they are taken.
const MOST_TAKEN: u32 = 1000;

/// What a writer is asked for.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// NETRING_SAVEFILE_*.
    pub format: u32,
    /// Files kept; 0: all.
    pub max_files: u32,
    /// `flags`.
    pub flags: u64,
    /// Bytes of a file at most; 0: no limit.
    pub rotate_bytes: u64,
    /// Nanoseconds of packets in a file; 0: no limit.
    pub rotate_ns: u64,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            format: NETRING_SAVEFILE_PCAPNG,
            max_files: 0,
            flags: 0,
            rotate_bytes: 0,
            rotate_ns: 0,
        }
    }
}

impl WriterConfig {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    fn rotates(&self) -> bool {
        self.rotate_bytes != 0 || self.rotate_ns != 0
    }

    fn pcapng(&self) -> bool {
        self.format == NETRING_SAVEFILE_PCAPNG
    }

    fn validate(&self) -> Result<()> {
        if self.format != NETRING_SAVEFILE_PCAP && self.format != NETRING_SAVEFILE_PCAPNG {
            return Err(Error::config(
                "format",
                format!(
                    "format {} is neither NETRING_SAVEFILE_PCAP nor NETRING_SAVEFILE_PCAPNG",
                    self.format
                ),
            ));
        }
        let unknown = self.flags & !flags::KNOWN;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!("flags has bits unknown to this library: {unknown:#x}"),
            ));
        }
        if self.has(flags::MICROSECONDS) && self.pcapng() {
            return Err(Error::config(
                "flags",
                "NETRING_WRITER_MICROSECONDS is for the pcap format: pcapng has nanoseconds, and \
                 every reader of it knows them",
            ));
        }
        if self.max_files != 0 && !self.rotates() {
            return Err(Error::config(
                "max_files",
                format!(
                    "max_files {} needs rotation: set rotate_bytes or rotate_ns",
                    self.max_files
                ),
            ));
        }
        if self.max_files == 1 {
            return Err(Error::config(
                "max_files",
                "max_files 1 would remove each file before the next is begun: 0 (all) or 2 and \
                 more",
            ));
        }
        Ok(())
    }
}

/// An interface as the caller has added it.
#[derive(Debug)]
struct Interface {
    name: String,
    /// `None`: each packet says.
    link_type: Option<u16>,
    /// Bytes of a packet at most.
    snap_length: u32,
    /// Names of the packets' own interfaces are to be looked up.
    look_up: bool,
    added_ns: u64,
    statistics: Option<Statistics>,
}

/// What is described once in a file: the caller's interface, and where that is
/// several, the index and link type of one of them.
type Described = (usize, u32, u16);

/// The file being written.
#[derive(Debug)]
struct Current {
    output: Output,
    packets: u64,
    /// Time of its first packet.
    first_ns: Option<u64>,
    /// Since when, by a clock that nobody sets, all packets are earlier than that.
    earlier_since: Option<Duration>,
    /// pcapng: the numbers of the interfaces described in it.
    described: HashMap<Described, u32>,
    /// The one looked up last.
    last: Option<(Described, u32)>,
    /// The link type of the interface described last; of pcap, its only one.
    link_type: Option<u16>,
    /// What the header of a pcap file says, once it is written.
    snap_length: u32,
}

impl Current {
    fn new(output: Output) -> Self {
        Self {
            output,
            packets: 0,
            first_ns: None,
            earlier_since: None,
            described: HashMap::new(),
            last: None,
            link_type: None,
            snap_length: 0,
        }
    }
}

/// Where the packets of a call come from.
pub trait Source {
    /// Fills the next packets; 0 at the end.
    ///
    /// # Errors
    /// There are no packets where there should be.
    fn next(&mut self, out: &mut [Packet]) -> Result<usize>;
    /// The link type of every one of them; `None`: each says.
    fn link_type(&self) -> Option<u16>;
    /// Begins again.
    fn rewind(&mut self);
    /// The bytes of a packet that `next` gave.
    fn bytes(&self, packet: &Packet) -> Pieces<'_>;
    /// Names it, so that a write that failed half way can be continued; 0: it
    /// cannot.
    fn name(&self) -> u64;
}

/// The packets of a block, without its cursor.
#[derive(Debug)]
pub struct BlockSource<'a> {
    block: &'a Block,
    position: Position,
    name: u64,
}

impl<'a> BlockSource<'a> {
    /// `name` is nobody else's, and not 0.
    pub fn new(block: &'a Block, name: u64) -> Self {
        Self { block, position: block.start(), name }
    }
}

impl Source for BlockSource<'_> {
    fn next(&mut self, out: &mut [Packet]) -> Result<usize> {
        self.block.walk(&mut self.position, out)
    }

    fn link_type(&self) -> Option<u16> {
        self.block.link_type()
    }

    fn rewind(&mut self) {
        self.position = self.block.start();
    }

    fn bytes(&self, packet: &Packet) -> Pieces<'_> {
        self.block.bytes(packet)
    }

    fn name(&self) -> u64 {
        self.name
    }
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterInfo {
    /// NETRING_SAVEFILE_*.
    pub format: u32,
    /// Interfaces added.
    pub interfaces: u32,
    /// Packets in all files.
    pub packets: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files begun.
    pub files: u64,
    /// Of them, removed again.
    pub files_removed: u64,
    /// Packets in the present file.
    pub file_packets: u64,
    /// Its bytes.
    pub file_bytes: u64,
    /// Packets that the last write call wrote, also where it failed.
    pub last_written: u64,
}

/// Where the files come to lie.
#[derive(Debug)]
enum Target {
    Path(CString),
    Descriptor,
}

#[derive(Debug)]
struct State {
    config: WriterConfig,
    target: Target,
    interfaces: Vec<Interface>,
    current: Current,
    gather: Gather,
    /// Where the gathered records end.
    ends: Vec<usize>,
    /// The files kept, oldest first.
    kept: VecDeque<(CString, Identity)>,
    /// The number in the present file's name.
    number: u64,
    os: String,
    /// Packets and bytes in files that were ended.
    packets_before: u64,
    bytes_before: u64,
    files: u64,
    files_removed: u64,
    last_written: u64,
    /// The sources of which only so many packets could be written.
    unfinished: VecDeque<(u64, u64)>,
    /// What to log once the lock is released: a callback may call back.
    messages: Vec<String>,
    /// This is the last that is written.
    closing: bool,
}

/// What can be asked for while a write waits for its pipe or disk.
#[derive(Debug, Default)]
struct Shown {
    info: WriterInfo,
    path: CString,
}

/// See the module.
#[derive(Debug)]
pub struct Writer {
    state: Mutex<State>,
    shown: Mutex<Shown>,
    last_error: Mutex<Option<Error>>,
}

/// The name of file `number` in a series: that of dumpcap, which Wireshark
/// knows as a set of files.
fn numbered(path: &CStr, number: u64, seconds: u64) -> Result<CString> {
    let bytes = path.to_bytes();
    let name = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > name);
    if name == bytes.len() {
        return Err(Error::config(
            "path",
            format!("path {} is a directory's: name a file in it", shown(Some(path))),
        ));
    }
    let (stem, extension) = bytes.split_at(dot.unwrap_or(bytes.len()));
    let mut out = stem.to_vec();
    out.extend_from_slice(format!("_{number:05}_{}", format::name_time(seconds)).as_bytes());
    out.extend_from_slice(extension);
    CString::new(out).map_err(|_| Error::config("path", "path has a NUL in it"))
}

/// A path in a message, its end where it is long.
fn shown(path: Option<&CStr>) -> String {
    let Some(path) = path else { return "the descriptor".into() };
    let text = path.to_string_lossy();
    let count = text.chars().count();
    if count <= 160 {
        return text.into_owned();
    }
    format!("...{}", text.chars().skip(count - 160).collect::<String>())
}

fn remedy(errno: i32) -> &'static str {
    match errno {
        libc::ENOSPC => "free space",
        libc::EDQUOT => "free space or raise the quota",
        libc::EFBIG => "raise the limit on file sizes (`ulimit -f`), or rotate",
        libc::EPIPE => "nobody reads the other end",
        libc::ENOENT => "make the directory first",
        libc::EACCES | libc::EPERM => "the directory or the file is not this user's to write",
        libc::EISDIR => "name a file",
        libc::EEXIST => "NETRING_WRITER_NEW does not overwrite: name another file",
        libc::EMFILE | libc::ENFILE => "close descriptors or raise `ulimit -n`",
        libc::EROFS => "name a file on another file system",
        _ => "",
    }
}

fn with_remedy(mut text: String, errno: i32) -> String {
    let remedy = remedy(errno);
    if !remedy.is_empty() {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

/// A file could not be begun.
fn not_begun(path: Option<&CStr>, failure: Failure) -> Error {
    let errno = failure.errno;
    let text = match failure.step {
        "open" => format!("{} could not be opened: {errno}", shown(path)),
        "fd" => format!("the descriptor could not be duplicated: {errno}"),
        step => format!("{}: {step} failed at its beginning: {errno}", shown(path)),
    };
    Error::new(Kind::Io, failure.step, with_remedy(text, errno.0)).with_os(errno.0)
}

fn link_type_in_file(link_type: u16) -> u16 {
    if link_type == NETRING_LINKTYPE_UNKNOWN { LINKTYPE_USER0 } else { link_type }
}

impl Writer {
    /// Writes to files of this name, or with rotation of names made from it.
    ///
    /// # Errors
    /// `Config`, `Io`.
    pub fn open(path: &CStr, config: &WriterConfig) -> Result<Self> {
        config.validate()?;
        if path.is_empty() {
            return Err(Error::config("path", "path is empty"));
        }
        crate::fork::claim()?;
        let os = running_kernel();
        let mut gather = Gather::default();
        let (current, number) = if config.rotates() {
            begin_numbered(path, 1, config, &os, &mut gather)?
        } else {
            (begin(path, config.has(flags::NEW), config, &os, &mut gather)?, 1)
        };
        Ok(Self::assemble(config, Target::Path(path.to_owned()), current, gather, os, number))
    }

    /// Writes to a duplicate of this descriptor.
    ///
    /// # Errors
    /// `Config`, `Io`.
    pub fn open_fd(fd: i32, config: &WriterConfig) -> Result<Self> {
        config.validate()?;
        if fd < 0 {
            return Err(Error::config("fd", format!("fd {fd} is no descriptor")));
        }
        if config.rotates() || config.has(flags::NEW) {
            return Err(Error::config(
                "fd",
                "rotation and NETRING_WRITER_NEW need a path: a descriptor is one file",
            ));
        }
        crate::fork::claim()?;
        let output = Output::duplicate(fd).map_err(|failure| {
            // As the reader says it: a wrong argument, not a failed step.
            if failure.errno.0 == libc::EBADF {
                return Error::config("fd", format!("fd {fd} is not open"));
            }
            not_begun(None, failure)
        })?;
        if !output.is_writable().unwrap_or(true) {
            return Err(Error::config("fd", format!("fd {fd} is not open for writing")));
        }
        let os = running_kernel();
        let mut gather = Gather::default();
        let mut current = Current::new(output);
        write_header(&mut current, config, &os, &mut gather)
            .map_err(|failure| not_begun(None, failure))?;
        Ok(Self::assemble(config, Target::Descriptor, current, gather, os, 1))
    }

    fn assemble(
        config: &WriterConfig,
        target: Target,
        current: Current,
        gather: Gather,
        os: String,
        number: u64,
    ) -> Self {
        let first = current.output.path().map(CStr::to_owned).unwrap_or_default();
        let kept = VecDeque::from([(first.clone(), current.output.identity)]);
        let state = State {
            config: config.clone(),
            target,
            interfaces: Vec::new(),
            current,
            gather,
            ends: Vec::with_capacity(MOST_RECORDS),
            kept,
            number,
            os,
            packets_before: 0,
            bytes_before: 0,
            files: 1,
            files_removed: 0,
            last_written: 0,
            unfinished: VecDeque::new(),
            messages: Vec::new(),
            closing: false,
        };
        let shown = Shown { info: state.info(), path: first };
        Self { state: Mutex::new(state), shown: Mutex::new(shown), last_error: Mutex::new(None) }
    }

    /// Adds an interface. `link_type` NETRING_LINKTYPE_UNKNOWN: several, each
    /// packet has its index and link type; `look_up`: the indices are those of
    /// this machine's interfaces. Returns its number.
    ///
    /// # Errors
    /// `Config`, `Io`.
    pub fn add_interface(
        &self,
        name: &str,
        link_type: Option<u16>,
        snap_length: u32,
        look_up: bool,
    ) -> Result<u32> {
        let mut state = self.state.lock();
        let result = state.add_interface(name, link_type, snap_length, look_up);
        self.show(&state);
        result
    }

    fn show(&self, state: &State) {
        let mut shown = self.shown.lock();
        let info = state.info();
        if info.files != shown.info.files {
            shown.path = state.current.output.path().map(CStr::to_owned).unwrap_or_default();
        }
        shown.info = info;
    }

    /// Writes the packets of a source; how many.
    ///
    /// # Errors
    /// `Config`: nothing was written. `Io`: what was written is complete, and
    /// `info` says how many.
    pub fn write(&self, interface: u32, source: &mut impl Source) -> Result<u64> {
        let mut state = self.state.lock();
        let result = state.write(interface, source);
        let messages = std::mem::take(&mut state.messages);
        self.show(&state);
        drop(state);
        for message in messages {
            log::warning!("{message}");
        }
        result
    }

    /// Notes an interface's statistics, to be written at the end of each file.
    /// Returns whether the format has a place for them.
    ///
    /// # Errors
    /// `Config`: no such interface.
    pub fn statistics(&self, interface: u32, mut statistics: Statistics) -> Result<bool> {
        let mut state = self.state.lock();
        let pcapng = state.config.pcapng();
        let interface = state.interface(interface)?;
        let Some(interface) = state.interfaces.get_mut(interface) else { return Ok(false) };
        statistics.start_ns = interface.added_ns;
        statistics.time_ns = clock::nanoseconds(clock::realtime());
        interface.statistics = Some(statistics);
        Ok(pcapng)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self) -> Result<()> {
        let state = self.state.lock();
        state.current.output.sync().map_err(|failure| state.failed(failure))
    }

    /// What the calls that have returned have written.
    pub fn info(&self) -> WriterInfo {
        self.shown.lock().info
    }

    /// The path of the present file; empty for a descriptor.
    pub fn path(&self) -> CString {
        self.shown.lock().path.clone()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io`.
    pub fn close(self) -> Result<()> {
        self.state.into_inner().close()
    }

    /// Keeps a failure for [`last_error`](Self::last_error).
    pub fn note(&self, error: &Error) {
        *self.last_error.lock() = Some(error.clone());
    }

    /// The last failure of a call on this writer.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }
}

fn running_kernel() -> String {
    let version = process::kernel_version();
    format!("Linux {}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

/// The next file of a series, and its number. Nobody's file is overwritten: another
/// writer may have begun a series of that name in the same second.
fn begin_numbered(
    path: &CStr,
    mut number: u64,
    config: &WriterConfig,
    os: &str,
    gather: &mut Gather,
) -> Result<(Current, u64)> {
    let mut taken = 0;
    loop {
        let name = numbered(path, number, clock::realtime().as_secs())?;
        match begin(&name, true, config, os, gather) {
            Err(error)
                if error.os == Some(libc::EEXIST)
                    && !config.has(flags::NEW)
                    && taken < MOST_TAKEN =>
            {
                taken += 1;
                number += 1;
            }
            result => return Ok((result?, number)),
        }
    }
}

/// A new file with its header.
fn begin(
    path: &CStr,
    new: bool,
    config: &WriterConfig,
    os: &str,
    gather: &mut Gather,
) -> Result<Current> {
    let output = Output::create(path, new).map_err(|failure| not_begun(Some(path), failure))?;
    let mut current = Current::new(output);
    match write_header(&mut current, config, os, gather) {
        Ok(()) => Ok(current),
        Err(failure) => {
            current.output.abandon();
            Err(not_begun(Some(path), failure))
        }
    }
}

/// pcap's header has the link type, which is not known yet.
fn write_header(
    current: &mut Current,
    config: &WriterConfig,
    os: &str,
    gather: &mut Gather,
) -> std::result::Result<(), Failure> {
    if !config.pcapng() {
        return Ok(());
    }
    let application = concat!("libnetring ", env!("CARGO_PKG_VERSION"));
    current.output.write_record(gather, &format::section_header(os, application))
}

impl State {
    fn info(&self) -> WriterInfo {
        let current = &self.current;
        WriterInfo {
            format: self.config.format,
            interfaces: self.interfaces.len() as u32,
            packets: self.packets_before + current.packets,
            bytes: self.bytes_before + current.output.bytes,
            files: self.files,
            files_removed: self.files_removed,
            file_packets: current.packets,
            file_bytes: current.output.bytes,
            last_written: self.last_written,
        }
    }

    /// A write to the present file failed.
    fn failed(&self, failure: Failure) -> Error {
        let Failure { step, errno } = failure;
        let output = &self.current.output;
        let after = if self.closing {
            "it ends there"
        } else if output.is_broken() {
            "it ends in the middle of a packet and nothing can follow: close it"
        } else {
            "it is complete up to there: call again, or close it"
        };
        let text = format!(
            "{}: {step} failed: {errno} after {} packets, {} bytes; {after}",
            shown(output.path()),
            self.current.packets,
            output.bytes,
        );
        Error::new(Kind::Io, step, with_remedy(text, errno.0)).with_os(errno.0)
    }

    fn interface(&self, number: u32) -> Result<usize> {
        let index = number as usize;
        if index < self.interfaces.len() {
            return Ok(index);
        }
        Err(Error::config(
            "interface",
            format!(
                "interface {number} of {}: add it first (netring_writer_add_capture, \
                 netring_writer_add_interface)",
                self.interfaces.len()
            ),
        ))
    }

    fn add_interface(
        &mut self,
        name: &str,
        link_type: Option<u16>,
        snap_length: u32,
        look_up: bool,
    ) -> Result<u32> {
        if self.interfaces.len() >= u16::MAX.into() {
            return Err(Error::config("interface", "65535 interfaces are all there can be"));
        }
        let link_type = link_type.map(link_type_in_file);
        if let Some(link_type) = link_type {
            self.fits(link_type)?;
        }
        let snap_length =
            if snap_length == 0 { LONGEST_PACKET } else { snap_length.min(LONGEST_PACKET) };
        let in_header = self.current.snap_length;
        if in_header != 0 && snap_length > in_header {
            return Err(Error::config(
                "snap_length",
                format!(
                    "a pcap file has one snap length: {} has {in_header}, to which readers would \
                     cut what has {snap_length}; add the interface with the largest first, or use \
                     pcapng (NETRING_SAVEFILE_PCAPNG)",
                    shown(self.current.output.path())
                ),
            ));
        }
        let interface = Interface {
            name: name.to_owned(),
            link_type,
            snap_length,
            look_up,
            added_ns: clock::nanoseconds(clock::realtime()),
            statistics: None,
        };
        let index = self.interfaces.len();
        self.interfaces.push(interface);
        if let Some(link_type) = link_type {
            if let Err(failure) = self.describe(index, 0, link_type) {
                self.interfaces.pop();
                return Err(self.failed(failure));
            }
        }
        Ok(index as u32)
    }

    /// Whether a pcap file can take packets of this link type.
    fn fits(&self, link_type: u16) -> Result<()> {
        let only = self.interfaces.iter().find_map(|interface| interface.link_type);
        match self.current.link_type.or(only) {
            Some(have) if !self.config.pcapng() && have != link_type => Err(Error::config(
                "link_type",
                format!(
                    "a pcap file has one link type: {} has {have} and cannot take {link_type}; \
                         use pcapng (NETRING_SAVEFILE_PCAPNG)",
                    shown(self.current.output.path())
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The number of an interface in the present file, which is written there
    /// first where it is not yet. Nothing may be gathered.
    fn describe(
        &mut self,
        index: usize,
        ifindex: u32,
        link_type: u16,
    ) -> std::result::Result<u32, Failure> {
        let Some(interface) = self.interfaces.get(index) else { return Ok(0) };
        let current = &mut self.current;
        let snap_length = interface.snap_length;
        if !self.config.pcapng() {
            if current.link_type.is_none() {
                // Readers cut packets to it, whichever interface they are of.
                let largest = self.interfaces.iter().map(|interface| interface.snap_length).max();
                let snap_length = largest.unwrap_or(LONGEST_PACKET);
                let header = format::pcap_header(
                    link_type,
                    snap_length,
                    self.config.has(flags::MICROSECONDS),
                );
                current.output.write_record(&mut self.gather, &header)?;
                current.link_type = Some(link_type);
                current.snap_length = snap_length;
            }
            return Ok(0);
        }
        let key = (index, ifindex, link_type);
        if let Some(number) = current.described.get(&key) {
            return Ok(*number);
        }
        let looked_up;
        let name = if ifindex == 0 {
            &interface.name
        } else {
            let found = interface.look_up.then(|| socket::interface_name(ifindex).ok()).flatten();
            looked_up = match &found {
                Some(name) => String::from_utf8_lossy(name).into_owned(),
                None => format!("if{ifindex}"),
            };
            &looked_up
        };
        let block = format::interface_description(link_type, snap_length, name, &self.os);
        current.output.write_record(&mut self.gather, &block)?;
        let number = current.described.len() as u32;
        current.described.insert(key, number);
        current.link_type = Some(link_type);
        Ok(number)
    }

    fn write(&mut self, number: u32, source: &mut impl Source) -> Result<u64> {
        let index = self.interface(number)?;
        self.last_written = 0;
        self.check(index, source)?;
        let unfinished = self.unfinished.iter().position(|(name, _)| *name == source.name());
        let unfinished = unfinished.and_then(|at| self.unfinished.remove(at));
        let skip = unfinished.map_or(0, |(_, written)| written);
        let result = self.write_packets(index, source, skip);
        // What is gathered points into the source.
        let flushed = self.flush();
        match result.and(flushed) {
            Ok(()) => Ok(self.last_written),
            Err(error) => {
                if source.name() != 0 {
                    if self.unfinished.len() >= MOST_UNFINISHED {
                        self.unfinished.pop_front();
                    }
                    self.unfinished.push_back((source.name(), skip + self.last_written));
                }
                Err(error)
            }
        }
    }

    /// Before anything of a call is written: do all its packets belong here?
    fn check(&self, index: usize, source: &mut impl Source) -> Result<()> {
        let Some(interface) = self.interfaces.get(index) else { return Ok(()) };
        let check = |link_type: u16, only: &mut Option<u16>| {
            let link_type = link_type_in_file(link_type);
            match *only {
                Some(have) if have != link_type => Err(Error::config(
                    "link_type",
                    if self.config.pcapng() || interface.link_type.is_some() {
                        format!(
                            "interface {index} ({}) has link type {have}, and a packet {link_type}: \
                             add an interface of that type, or one with NETRING_LINKTYPE_UNKNOWN",
                            interface.name
                        )
                    } else {
                        format!(
                            "a pcap file has one link type: {} has {have} and cannot take \
                             {link_type}; use pcapng (NETRING_SAVEFILE_PCAPNG)",
                            shown(self.current.output.path())
                        )
                    },
                )),
                _ => {
                    *only = Some(link_type);
                    Ok(())
                }
            }
        };
        let mut only = match interface.link_type {
            None if self.config.pcapng() => return Ok(()),
            None => self
                .current
                .link_type
                .or_else(|| self.interfaces.iter().find_map(|interface| interface.link_type)),
            link_type => link_type,
        };
        if let Some(link_type) = source.link_type() {
            return check(link_type, &mut only);
        }
        let mut packets = [Packet::ZERO; BATCH];
        // What is wrong with the source itself is found when it is written.
        while let Ok(count @ 1..) = source.next(&mut packets) {
            for packet in packets.iter().take(count) {
                check(packet.link_type, &mut only)?;
            }
        }
        source.rewind();
        Ok(())
    }

    fn write_packets(
        &mut self,
        index: usize,
        source: &mut impl Source,
        mut skip: u64,
    ) -> Result<()> {
        let mut packets = [Packet::ZERO; BATCH];
        loop {
            let count = source.next(&mut packets)?;
            if count == 0 {
                return Ok(());
            }
            for packet in packets.iter_mut().take(count) {
                if skip != 0 {
                    skip -= 1;
                    continue;
                }
                let bytes = source.bytes(packet);
                if packet.status & NETRING_PACKET_SEGMENTED != 0 {
                    // One piece in the file.
                    packet.caplen = u32::try_from(bytes.length()).unwrap_or(u32::MAX);
                }
                self.write_packet(index, packet, bytes)?;
            }
        }
    }

    #[inline]
    fn write_packet(&mut self, index: usize, packet: &Packet, bytes: Pieces<'_>) -> Result<()> {
        let Some(interface) = self.interfaces.get(index) else { return Ok(()) };
        let (ifindex, link_type) = match interface.link_type {
            Some(link_type) => (0, link_type),
            // pcap does not tell interfaces apart.
            None => {
                let ifindex = if self.config.pcapng() { packet.ifindex } else { 0 };
                (ifindex, link_type_in_file(packet.link_type))
            }
        };
        let shape = Shape::of(packet, link_type, interface.snap_length);
        if self.config.rotates() && self.must_rotate(packet, &shape) {
            self.flush()?;
            self.rotate()?;
        }
        let key = (index, ifindex, link_type);
        let number = match self.current.last {
            Some((last, number)) if last == key => number,
            _ => self.number(key)?,
        };
        let (head, tail) = if self.config.pcapng() {
            format::pcapng_record(packet, &shape, number)
        } else {
            format::pcap_record(packet, &shape, self.config.has(flags::MICROSECONDS))
        };
        let caplen = shape.caplen as usize;
        // A packet may be copied in two parts, or be pieces of its own; each of its
        // segments, too.
        let segments = usize::from(packet.segments);
        let copied = caplen.min(4096 * (segments + 1));
        if self.ends.len() >= MOST_RECORDS
            || !self.gather.has_room(LONGEST_AROUND + copied, 5 + 2 * segments)
        {
            self.flush()?;
        }
        let gather = &mut self.gather;
        gather.copy(head.bytes());
        match shape.tag {
            None => bytes.part(0, caplen).for_each(|piece| gather.add(piece)),
            Some(tag) => {
                let addresses = caplen.min(ADDRESSES as usize);
                let tagged = (caplen - addresses).min(tag.len());
                let rest = caplen - addresses - tagged;
                bytes.part(0, addresses).for_each(|piece| gather.add(piece));
                gather.copy(&tag[..tagged]);
                bytes.part(addresses, rest).for_each(|piece| gather.add(piece));
            }
        }
        gather.copy(tail.bytes());
        self.ends.push(self.gather.length());
        if self.current.first_ns.is_none() {
            self.current.first_ns = Some(packet.time_ns);
        }
        Ok(())
    }

    /// An interface's number in the file, described there if it is new.
    #[cold]
    #[inline(never)]
    fn number(&mut self, key: Described) -> Result<u32> {
        let number = match self.current.described.get(&key) {
            Some(number) => *number,
            None => {
                self.flush()?;
                let (index, ifindex, link_type) = key;
                match self.describe(index, ifindex, link_type) {
                    Ok(number) => number,
                    Err(failure) => return Err(self.failed(failure)),
                }
            }
        };
        self.current.last = Some((key, number));
        Ok(number)
    }

    /// Writes what was gathered.
    fn flush(&mut self) -> Result<()> {
        if self.ends.is_empty() {
            self.gather.clear();
            return Ok(());
        }
        let (whole, result) = self.current.output.write(&mut self.gather, &self.ends);
        self.ends.clear();
        self.current.packets += whole as u64;
        self.last_written += whole as u64;
        if self.current.packets == 0 {
            self.current.first_ns = None;
        }
        result.map_err(|failure| self.failed(failure))
    }

    /// Whether this packet belongs into the next file.
    fn must_rotate(&mut self, packet: &Packet, shape: &Shape) -> bool {
        let Some(first_ns) = self.current.first_ns else { return false };
        let WriterConfig { rotate_ns, rotate_bytes, .. } = self.config;
        if rotate_ns != 0 && packet.time_ns.saturating_sub(first_ns) >= rotate_ns {
            return true;
        }
        if rotate_ns != 0 && self.set_back(packet.time_ns < first_ns, rotate_ns) {
            return true;
        }
        if rotate_bytes == 0 {
            return false;
        }
        // What stands around the packet, and what the file's end and an
        // interface that is described only now may take.
        let (around, end) = if self.config.pcapng() {
            let several = self.interfaces.iter().any(|interface| interface.link_type.is_none());
            let described = if several { LONGEST_DESCRIPTION * 2 } else { 0 };
            (LONGEST_AROUND, self.interfaces.len() * STATISTICS + described)
        } else {
            (16, 0)
        };
        let more = self.gather.length() + around + end + shape.caplen as usize;
        self.current.output.bytes + more as u64 > rotate_bytes
    }

    /// Whether the clock was set back, as far as a file is long: without this the
    /// file would go on until it has caught up. One later packet says that it was
    /// not: two clocks that differ have no file for each packet.
    fn set_back(&mut self, earlier: bool, rotate_ns: u64) -> bool {
        if !earlier {
            self.current.earlier_since = None;
            return false;
        }
        let now = clock::monotonic();
        let since = *self.current.earlier_since.get_or_insert(now);
        clock::nanoseconds(now.saturating_sub(since)) >= rotate_ns
    }

    /// Begins the next file, then ends the present one: where the next cannot be
    /// begun, the present one stays.
    #[cold]
    #[inline(never)]
    fn rotate(&mut self) -> Result<()> {
        let Target::Path(path) = &self.target else { return Ok(()) };
        let max = self.config.max_files as usize;
        while max != 0 && self.kept.len() >= max {
            let Some((oldest, identity)) = self.kept.pop_front() else { break };
            match file::remove(&oldest, identity) {
                Ok(true) => self.files_removed += 1,
                Ok(false) => {
                    let path = shown(Some(&oldest));
                    self.messages.push(format!("{path} is another file by now: not removed"));
                }
                Err(errno) if errno.0 == libc::ENOENT => {}
                Err(errno) => {
                    let path = shown(Some(&oldest));
                    self.messages.push(format!("{path} could not be removed: {errno}"));
                }
            }
        }
        let (fresh, number) =
            begin_numbered(path, self.number + 1, &self.config, &self.os, &mut self.gather)?;
        let next = fresh.output.path().map(CStr::to_owned).unwrap_or_default();
        let identity = fresh.output.identity;
        let old = std::mem::replace(&mut self.current, fresh);
        if let Err(error) = self.describe_all() {
            let fresh = std::mem::replace(&mut self.current, old);
            fresh.output.abandon();
            return Err(not_begun(Some(&next), error));
        }
        let fresh = std::mem::replace(&mut self.current, old);
        let ended = self.end();
        let old = std::mem::replace(&mut self.current, fresh);
        self.packets_before += old.packets;
        self.bytes_before += old.output.bytes;
        self.files += 1;
        self.number = number;
        self.kept.push_back((next, identity));
        ended.and(end_file(old))
    }

    /// The interfaces of one link type, in a new file.
    fn describe_all(&mut self) -> std::result::Result<(), Failure> {
        for index in 0..self.interfaces.len() {
            let link_type = self.interfaces.get(index).and_then(|interface| interface.link_type);
            if let Some(link_type) = link_type {
                self.describe(index, 0, link_type)?;
            }
        }
        Ok(())
    }

    /// What stands at the end of a file: the statistics that were given, and
    /// whatever a reader asks of a file without a packet.
    fn end(&mut self) -> Result<()> {
        let result = self.write_end();
        result.map_err(|failure| self.failed(failure))
    }

    fn write_end(&mut self) -> std::result::Result<(), Failure> {
        // libpcap reads no file that describes no interface.
        let link_type = self.current.link_type.unwrap_or(NETRING_LINKTYPE_ETHERNET);
        if self.current.link_type.is_none() && self.interfaces.is_empty() {
            let bytes = if self.config.pcapng() {
                format::interface_description(link_type, LONGEST_PACKET, "", &self.os)
            } else {
                let microseconds = self.config.has(flags::MICROSECONDS);
                let header: [u8; PCAP_HEADER] =
                    format::pcap_header(link_type, LONGEST_PACKET, microseconds);
                header.to_vec()
            };
            return self.current.output.write_record(&mut self.gather, &bytes);
        }
        if self.current.link_type.is_none() {
            self.describe(0, 0, link_type)?;
        }
        if !self.config.pcapng() {
            return Ok(());
        }
        for index in 0..self.interfaces.len() {
            let Some(interface) = self.interfaces.get(index) else { break };
            let Some(statistics) = interface.statistics else { continue };
            // Those of several interfaces together belong to one of their own.
            let link_type = interface.link_type.unwrap_or(link_type);
            let number = self.describe(index, 0, link_type)?;
            let block = format::interface_statistics(number, &statistics);
            self.current.output.write_record(&mut self.gather, &block)?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.closing = true;
        let ended = self.end();
        ended.and(end_file(self.current))
    }
}

/// Closes a file, which is when some file systems say that there was no room.
fn end_file(current: Current) -> Result<()> {
    let path = shown(current.output.path());
    current.output.close().map_err(|Failure { step, errno }| {
        let packets = current.packets;
        let text = format!(
            "{path}: {step} failed: {errno} at the end of {packets} packets: some may be lost"
        );
        Error::new(Kind::Io, step, with_remedy(text, errno.0)).with_os(errno.0)
    })
}
