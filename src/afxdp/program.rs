//! The XDP program of an interface: made, attached, swapped, and gone with its last
//! descriptor.

use super::attach::Interface;
use super::config::{Mode, Step};
use crate::error::{Error, Kind, Result};
use crate::filter;
use crate::filter::translate::load::{Loaded, Refused, load, program as program_of};
use crate::filter::translate::{Access, Beside, Options, Selection, Taken, translate};
use crate::sys::Errno;
use crate::sys::bpf::{self, BPF_NOEXIST, Map, MapKind, PROGRAM_XDP};
use crate::sys::file::replace;
use parking_lot::Mutex;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// ARPHRD_ETHER
const ETHERNET: u16 = 1;

/// What is to be attached.
#[derive(Debug)]
pub struct Request<'a> {
    /// The interface, for words.
    pub interface: &'a str,
    /// The interface.
    pub ifindex: u32,
    /// ARPHRD_*
    pub hardware_type: u16,
    /// Entries of the map: more than the largest number of a queue.
    pub queues: u32,
    /// What the sockets get.
    pub selection: Selection<'a>,
    /// Packets may come in several buffers.
    pub frags: bool,
    /// `Auto`: native, or in the kernel's stack; `ZeroCopy`, `Copy`: native.
    pub mode: Mode,
    /// The caller's program in place of one of our own.
    pub program: Option<OwnedFd>,
    /// The caller's XSKMAP; without `program` nothing is attached.
    pub map: Option<OwnedFd>,
    /// Attach something at all.
    pub attach: bool,
    /// Have the driver's knowledge of a packet put in front of it
    /// ([`translate::beside`](filter::translate::beside)), where there is any; not in the
    /// kernel's stack.
    pub rx_metadata: bool,
}

/// Which descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// What keeps the program attached.
    Link,
    /// The XSKMAP.
    Map,
    /// The program.
    Program,
}

#[derive(Debug, Default)]
struct Attached {
    /// `None`: nothing is attached by us, or not any more.
    link: Option<OwnedFd>,
    program: Option<OwnedFd>,
    program_id: u32,
    /// Detached on request.
    detached: bool,
    /// The caller has been given the link's descriptor, and may have passed it on.
    shared: bool,
}

/// The map of the sockets and the program that redirects into it. Detaches when it is
/// dropped, or its process ends, unless the link was passed on.
#[derive(Debug)]
pub struct Program {
    interface: Interface,
    hardware_type: u16,
    frags: bool,
    /// The program is not ours to replace.
    given: bool,
    native: bool,
    /// What the program asks the driver for.
    beside: Option<Beside>,
    map: Option<Map>,
    map_id: u32,
    attached: Mutex<Attached>,
    /// Queues whose entries are ours.
    entries: Mutex<Vec<u32>>,
}

impl Program {
    /// Map, program, attachment; called in the interface's network namespace. The steps
    /// say why the program is not in the driver.
    ///
    /// # Errors
    /// `Config`: `program_fd`, `map_fd`. `Filter`: the filter cannot be an XDP program, or
    /// asks for VLAN tags, which the card takes out. `XdpProgram`: the verifier, or the
    /// driver. `Busy`: there is another program. `PermissionDenied`, `NotSupported`,
    /// `InterfaceNotFound`.
    pub fn open(request: Request<'_>) -> Result<(Self, Vec<Step>)> {
        let Request { hardware_type, queues, selection, frags, mode, .. } = request;
        let interface = Interface::new(request.interface, request.ifindex);
        let given = request.program.is_some() || request.map.is_some();
        let theirs = request.program.map(checked_program).transpose()?;
        let map = match request.map {
            Some(map) => Some(adopted(map)?),
            // A program of the caller's may need none: it only lets transmit.
            None if theirs.is_some() || !request.attach => None,
            None => Some(Map::create(MapKind::Xsk, queues.max(1), "netring").map_err(no_map)?),
        };
        let map_id = map.as_ref().and_then(|map| map.info().ok()).map_or(0, |(id, _)| id);
        let mut this = Self {
            interface,
            hardware_type,
            frags,
            given,
            native: false,
            beside: None,
            map,
            map_id,
            attached: Mutex::default(),
            entries: Mutex::default(),
        };
        let mut steps = Vec::new();
        let program = match theirs {
            Some(program) => program,
            None if !request.attach || given => {
                if let Some((id, native)) = this.interface.program()? {
                    this.native = native;
                    this.attached.lock().program_id = id;
                }
                return Ok((this, steps));
            }
            None => {
                if request.rx_metadata {
                    if let Some((program, link)) =
                        this.with_metadata(selection, mode, &mut steps)?
                    {
                        this.set(program, link, true);
                        return Ok((this, steps));
                    }
                }
                this.made(selection)?
            }
        };
        let (link, native) = this.interface.attach(program.as_fd(), mode, frags, &mut steps)?;
        this.set(program, link, native);
        Ok((this, steps))
    }

    fn set(&mut self, program: OwnedFd, link: OwnedFd, native: bool) {
        self.native = native;
        let program_id = id(program.as_fd());
        *self.attached.get_mut() = Attached {
            link: Some(link),
            program: Some(program),
            program_id,
            ..Attached::default()
        };
    }

    /// The program that asks the driver, attached; `None`: why not is a step.
    fn with_metadata(
        &mut self,
        selection: Selection<'_>,
        mode: Mode,
        steps: &mut Vec<Step>,
    ) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let step = |os, message| Step { mode: Mode::Auto, os, option: "rx_metadata", message };
        if mode == Mode::Skb {
            steps.push(step(None, "no RX metadata: the kernel's stack has none".to_string()));
            return Ok(None);
        }
        match self.interface.beside() {
            Ok(beside) => self.beside = Some(beside),
            Err((os, why)) => {
                steps.push(step(os, format!("no RX metadata: {why}")));
                return Ok(None);
            }
        }
        let attached = self.made(selection).and_then(|program| {
            // A step down is taken by the program without it.
            let (link, _) =
                self.interface.attach(program.as_fd(), Mode::Copy, self.frags, &mut Vec::new())?;
            Ok((program, link))
        });
        match attached {
            Ok(attached) => Ok(Some(attached)),
            Err(error) if !matches!(error.kind, Kind::NotSupported | Kind::XdpProgram) => {
                Err(error)
            }
            Err(error) => {
                self.beside = None;
                let mut message = format!("no RX metadata: {}", error.message);
                cut(&mut message);
                steps.push(step(error.os, message));
                Ok(None)
            }
        }
    }

    /// What is in front of each packet, if anything.
    pub fn beside(&self) -> Option<Beside> {
        self.beside
    }

    /// A program of our own for this map.
    fn made(&self, selection: Selection<'_>) -> Result<OwnedFd> {
        let Some(map) = &self.map else {
            return Err(Error::config("map_fd", "there is no map to redirect into"));
        };
        if self.beside.is_some() {
            self.interface.is_here()?;
        }
        let options =
            Options { beside: self.beside, ..options(map, self.frags, self.hardware_type) };
        let loaded = load(selection, &options).map_err(|refused| as_filter(refused.error))?;
        if loaded.uses_vlan && self.interface.strips_tags() {
            return Err(self.interface.tags_are_stripped());
        }
        Ok(loaded.program)
    }

    /// Whether it runs in the driver; where somebody else attached one, whether that did
    /// when this was opened.
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// The socket of a queue.
    ///
    /// # Errors
    /// `Busy`: the queue has another one. `Config`: `map_fd` has no room for it.
    pub fn add(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        let Some(map) = &self.map else {
            return Err(Error::config("map_fd", "there is no map to put the sockets into"));
        };
        let number = u32::try_from(socket.as_raw_fd()).unwrap_or(u32::MAX);
        let mut entries = self.entries.lock();
        map.update(queue, number, BPF_NOEXIST).map_err(|errno| {
            let (kind, option, words) = match errno.0 {
                libc::EEXIST => {
                    (Kind::Busy, "queue", format!("in use: queue {queue} has a socket in this map"))
                }
                libc::E2BIG => (
                    Kind::Config,
                    "map_fd",
                    format!(
                        "map_fd has {} entries, and none for queue {queue}",
                        map.info().map_or(0, |(_, entries)| entries)
                    ),
                ),
                libc::EPERM | libc::EACCES => (
                    Kind::PermissionDenied,
                    "map_fd",
                    format!("insufficient privileges: the map takes no socket: {errno}"),
                ),
                _ => (
                    Kind::Io,
                    "BPF_MAP_UPDATE_ELEM",
                    format!("the map takes no socket for queue {queue}: {errno}"),
                ),
            };
            Error::new(kind, option, words).with_os(errno.0)
        })?;
        if !entries.contains(&queue) {
            entries.push(queue);
        }
        Ok(())
    }

    /// Takes the queue's socket out, if [`add`](Self::add) has put it there.
    pub fn remove(&self, queue: u32) {
        let mut entries = self.entries.lock();
        let before = entries.len();
        entries.retain(|entry| *entry != queue);
        if let (Some(map), true) = (&self.map, entries.len() < before) {
            let _ = map.delete(queue);
        }
    }

    /// Whether there is a program to be replaced.
    ///
    /// # Errors
    /// `NotSupported`: it is not ours; `Config`: nothing is attached.
    pub fn check_swap(&self) -> Result<()> {
        if self.given {
            let message = "not supported: the program is the caller's own";
            return Err(Error::new(Kind::NotSupported, "program", message));
        }
        let attached = self.attached.lock();
        if attached.link.is_none() || attached.detached {
            return Err(Error::config("program", "no program is attached"));
        }
        Ok(())
    }

    /// Another selection, from one packet to the next.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) for the filter; `NotSupported`: the program is not
    /// ours; `Config`: nothing is attached; `InterfaceNotFound`; `Busy`: somebody else has
    /// changed the link.
    pub fn swap(&self, selection: Selection<'_>) -> Result<()> {
        self.check_swap()?;
        let mut attached = self.attached.lock();
        let Attached { link: Some(link), program: Some(old), detached: false, .. } = &*attached
        else {
            return Err(Error::config("program", "no program is attached"));
        };
        let new = self.made(selection)?;
        bpf::link_update(link.as_fd(), new.as_fd(), Some(old.as_fd()))
            .map_err(|errno| self.not_swapped(errno))?;
        let program_id = id(new.as_fd());
        // The number that the caller may have been given is the new one's.
        if let Err(new) = replace(old.as_fd(), new) {
            attached.program = Some(new);
        }
        attached.program_id = program_id;
        Ok(())
    }

    fn not_swapped(&self, errno: Errno) -> Error {
        let (kind, words) = match errno.0 {
            libc::ENODEV | libc::ENOLINK => return self.interface.gone(),
            libc::EPERM => (
                Kind::Busy,
                "in use: the program on the link is not the one that was attached: whoever has \
                 the link's descriptor has changed it"
                    .to_string(),
            ),
            _ => {
                (Kind::XdpProgram, format!("XDP program was refused in place of another: {errno}"))
            }
        };
        Error::new(kind, "BPF_LINK_UPDATE", words).with_os(errno.0)
    }

    /// Takes the program off the interface, whoever else has the link. Once more is no
    /// error.
    ///
    /// # Errors
    /// `Config`: nothing was attached. `Io`: the kernel refuses.
    pub fn detach(&self) -> Result<()> {
        let mut attached = self.attached.lock();
        let Some(link) = &attached.link else {
            return Err(Error::config("program", "no program was attached"));
        };
        bpf::link_detach(link.as_fd()).map_err(|errno| {
            let message = format!("the program could not be detached: {errno}");
            Error::new(Kind::Io, "BPF_LINK_DETACH", message).with_os(errno.0)
        })?;
        attached.detached = true;
        attached.program_id = 0;
        Ok(())
    }

    /// Detaches, and takes the sockets out of the map. A link whose descriptor was asked
    /// for is only let go of: it may be pinned, or another process's.
    pub fn close(&self) {
        let mut attached = self.attached.lock();
        if let (Some(link), false) = (attached.link.take(), attached.shared) {
            // Closing it alone would leave the program to a child that was forked and has
            // the descriptor, too.
            let _ = bpf::link_detach(link.as_fd());
        }
        drop(attached);
        let entries = std::mem::take(&mut *self.entries.lock());
        for queue in entries {
            if let Some(map) = &self.map {
                let _ = map.delete(queue);
            }
        }
    }

    /// A descriptor, which stays ours. Whoever asks for the link decides by duplicates of
    /// it how long the program stays attached.
    pub fn fd(&self, which: Which) -> Option<RawFd> {
        let mut attached = self.attached.lock();
        match which {
            Which::Link => {
                attached.shared = true;
                attached.link.as_ref().map(AsRawFd::as_raw_fd)
            }
            Which::Program => attached.program.as_ref().map(AsRawFd::as_raw_fd),
            Which::Map => self.map.as_ref().map(|map| map.fd().as_raw_fd()),
        }
    }

    /// The numbers of program and map; 0: none.
    pub fn ids(&self) -> (u32, u32) {
        (self.attached.lock().program_id, self.map_id)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.close();
    }
}

fn options(map: &Map, frags: bool, hardware_type: u16) -> Options {
    Options {
        taken: Taken::Redirect(map.fd().as_raw_fd()),
        frags,
        access: Access::Direct,
        hardware_type: Some(hardware_type),
        beside: None,
    }
}

/// To what a step's message has room for.
fn cut(message: &mut String) {
    const MOST: usize = 220;
    let end = (0..=MOST.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.truncate(end.unwrap_or(0));
}

fn id(program: BorrowedFd<'_>) -> u32 {
    bpf::program_info(program).map_or(0, |info| info.id)
}

/// What is in a filter and cannot be in an XDP program is the filter's fault.
fn as_filter(error: Error) -> Error {
    if error.kind != Kind::NotSupported || error.option != "filter" {
        return error;
    }
    let reason = error.message.strip_prefix("not supported: ").unwrap_or(&error.message);
    let message = format!("filter refused: {reason}");
    Error { kind: Kind::Filter, message, ..error }
}

fn no_map(errno: Errno) -> Error {
    let (kind, words) = match errno.0 {
        libc::EPERM => (
            Kind::PermissionDenied,
            format!(
                "insufficient privileges: making an XSKMAP: {errno}; {}; before Linux 5.11 it may \
                 be the locked-memory limit (`ulimit -l`)",
                bpf::PRIVILEGE
            ),
        ),
        libc::EINVAL | libc::ENOSYS => (
            Kind::NotSupported,
            format!("not supported: this kernel has no XSKMAP: {errno} (CONFIG_XDP_SOCKETS)"),
        ),
        libc::EMFILE | libc::ENFILE => (
            Kind::Io,
            format!(
                "the XSKMAP could not be made: {errno}; close descriptors or raise `ulimit -n`"
            ),
        ),
        _ => (Kind::Io, format!("the XSKMAP could not be made: {errno}")),
    };
    Error::new(kind, "BPF_MAP_CREATE", words).with_os(errno.0)
}

fn adopted(map: OwnedFd) -> Result<Map> {
    Map::adopt(map, MapKind::Xsk).map_err(|errno| match errno.0 {
        libc::EINVAL => Error::config("map_fd", "map_fd is not an XSKMAP's (BPF_MAP_TYPE_XSKMAP)"),
        _ => not_asked("map_fd", errno),
    })
}

fn checked_program(program: OwnedFd) -> Result<OwnedFd> {
    let wrong =
        || Error::config("program_fd", "program_fd is not an XDP program's (BPF_PROG_TYPE_XDP)");
    match bpf::program_info(program.as_fd()) {
        Ok(info) if info.kind == PROGRAM_XDP => Ok(program),
        Ok(_) | Err(Errno(libc::EINVAL)) => Err(wrong()),
        Err(errno) => Err(not_asked("program_fd", errno)),
    }
}

/// BPF_OBJ_GET_INFO_BY_FD failed.
fn not_asked(option: &'static str, errno: Errno) -> Error {
    let kind = match errno.0 {
        libc::EBADF => Kind::Config,
        libc::EPERM => Kind::PermissionDenied,
        _ => Kind::Io,
    };
    let message = format!("{option}: the kernel does not say what it is: {errno}");
    Error::new(kind, option, message).with_os(errno.0)
}

/// Whether the kernel takes the filter: how many instructions it has there, and what the
/// verifier says, also to a program that it refuses. Nothing is attached.
pub fn try_filter(
    program: &filter::Program,
    frags: bool,
) -> std::result::Result<(usize, String), (Error, String)> {
    let quiet = |error: Error| (as_filter(error), String::new());
    let map = Map::create(MapKind::Xsk, 1, "netring").map_err(|errno| quiet(no_map(errno)))?;
    let selection = Selection::Accepted(program);
    let options = options(&map, frags, ETHERNET);
    let Loaded { length, access, .. } = load(selection, &options).map_err(|refused| {
        let Refused { error, log } = *refused;
        (as_filter(error), log)
    })?;
    // A program that is taken says something only if it is asked.
    let options = Options { access, ..options };
    let translated = translate(selection, &options).map_err(quiet)?;
    Ok((length, program_of(&translated, &options).verifier_log()))
}
