//! Fanout groups: captures among which the kernel divides an interface's packets.
//!
//! A socket must be bound before it joins, and a bound socket receives for
//! itself. So a member is bound with a filter in place that rejects everything,
//! and is given its own filter later: when the last of the members expected has
//! joined, by whoever that is; where no number is expected, after its own join.
//! In between the kernel is waited for, so that no packet is inside a receive
//! path that it entered before.

use crate::afpacket::capture::{Capture, Reader};
use crate::afpacket::open::no_bind;
use crate::afpacket::selection::{Selection, Terms, lock};
use crate::afpacket::swap::locked;
use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Kind, Result};
use crate::filter::{Direction, Filter, Program};
use crate::log::{self, Level};
use crate::sys::affinity::Cpus;
use crate::sys::fanout::{Rollover, flag, mode};
use crate::sys::packet::ETH_P_ALL;
use crate::sys::socket::{Socket, any_socket, attach_filter};
use crate::sys::{Errno, clock, process};
use parking_lot::Mutex;
use std::ffi::CString;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// PACKET_FANOUT_FLAG_IGNORE_OUTGOING is taken and ignored before 6.2, as is every
/// flag that a kernel does not know.
const KNOWS_IGNORE_OUTGOING: u32 = 0x06_02_00;
/// A link that is down can be joined on (fanout_add asks no longer for
/// PACKET_SOCK_RUNNING).
const JOINS_DOWN: u32 = 0x06_0d_00;
/// PACKET_FANOUT_MAX of the kernel, and what a group has where nothing is said.
const MOST_MEMBERS: u32 = 1 << 16;
const DEFAULT_MOST_MEMBERS: u32 = 256;
/// Flags that are known. The kernel takes others without a word.
const KNOWN_FLAGS: u64 =
    (flag::ROLLOVER | flag::UNIQUEID | flag::IGNORE_OUTGOING | flag::DEFRAG) as u64;

/// What a group is asked for.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// [`mode`].
    pub mode: u32,
    /// [`flag`] bits.
    pub flags: u64,
    /// Members before any of them gets a packet; 0: each gets packets from its
    /// own join on.
    pub members: u32,
    /// The most members the kernel lets in; 0: its default.
    pub max_members: u32,
    /// The group's id, without UNIQUEID.
    pub id: u32,
    /// Chooses the member, in modes CBPF and EBPF.
    pub program: Option<Filter>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            mode: mode::HASH,
            flags: flag::UNIQUEID.into(),
            members: 0,
            max_members: 0,
            id: 0,
            program: None,
        }
    }
}

impl GroupConfig {
    fn has(&self, flag: u16) -> bool {
        self.flags & u64::from(flag) != 0
    }

    fn validate(&self) -> Result<()> {
        if self.mode > mode::EBPF {
            return Err(Error::config(
                "mode",
                format!("there is no fanout mode {}: use one of NETRING_FANOUT_*", self.mode),
            ));
        }
        let unknown = self.flags & !KNOWN_FLAGS;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!(
                    "flags has bits unknown to this library: {unknown:#x} (the kernel would \
                     ignore them silently)"
                ),
            ));
        }
        if self.mode == mode::ROLLOVER && self.has(flag::ROLLOVER) {
            return Err(Error::config(
                "flags",
                "NETRING_FANOUT_FLAG_ROLLOVER is for the other modes: NETRING_FANOUT_ROLLOVER \
                 rolls over by itself",
            ));
        }
        if self.id > u16::MAX.into() {
            return Err(Error::config(
                "id",
                format!("id {} is out of range: 0 to {}", self.id, u16::MAX),
            ));
        }
        if self.has(flag::UNIQUEID) && self.id != 0 {
            return Err(Error::config(
                "id",
                format!(
                    "id {} together with NETRING_FANOUT_FLAG_UNIQUEID, which lets the kernel \
                     choose one: clear the flag to join by id",
                    self.id
                ),
            ));
        }
        if self.max_members > MOST_MEMBERS {
            return Err(Error::config(
                "max_members",
                format!(
                    "max_members {} is out of range: 0 to {MOST_MEMBERS} (0: the kernel's {})",
                    self.max_members, DEFAULT_MOST_MEMBERS
                ),
            ));
        }
        if self.members > self.most_members() {
            return Err(Error::config(
                "members",
                format!(
                    "members {} are more than the group takes, {}: raise max_members (at most \
                     {MOST_MEMBERS}, Linux 5.11)",
                    self.members,
                    self.most_members()
                ),
            ));
        }
        self.validate_program()
    }

    fn validate_program(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::config("program", why.to_owned()));
        match (self.mode, &self.program) {
            (mode::CBPF, Some(program)) => match program.program() {
                Ok(_) => Ok(()),
                Err(_) => wrong(
                    "NETRING_FANOUT_CBPF takes a classic program, of netring_filter_new or \
                     netring_filter_new_ddd",
                ),
            },
            (mode::EBPF, Some(Filter::Ebpf(_))) => Ok(()),
            (mode::EBPF, Some(_)) => {
                wrong("NETRING_FANOUT_EBPF takes an eBPF program, of netring_filter_new_ebpf")
            }
            (mode::CBPF | mode::EBPF, None) if self.has(flag::UNIQUEID) => wrong(
                "program is NULL: without one every packet goes to the first member; only where \
                 a group is joined by its id may another process have given it",
            ),
            (mode::CBPF | mode::EBPF, None) => Ok(()),
            (_, Some(_)) => wrong(
                "program is used by NETRING_FANOUT_CBPF and NETRING_FANOUT_EBPF only; which \
                 packets a member gets is chosen by the filter of its capture's configuration",
            ),
            (_, None) => Ok(()),
        }
    }

    fn most_members(&self) -> u32 {
        if self.max_members == 0 { DEFAULT_MOST_MEMBERS } else { self.max_members }
    }
}

/// How a group is at the moment.
#[derive(Debug, Clone, Copy)]
pub struct GroupInfo {
    /// As configured.
    pub mode: u32,
    /// As the kernel has them, and what is done in its stead.
    pub flags: u64,
    /// Its id, once a member has joined.
    pub id: Option<u16>,
    /// Members expected, 0: any number.
    pub members: u32,
    /// Members of this handle at the moment.
    pub joined: u32,
    /// The most there can be, of all processes.
    pub max_members: u32,
    /// Its members get packets.
    pub delivering: bool,
    /// The interface's index; 0: any, or none yet.
    pub ifindex: u32,
}

/// Rollover counters.
#[derive(Debug, Clone, Copy)]
pub struct GroupStats {
    /// How many members they are of: those at the moment, or the one asked for.
    pub members: u32,
    /// `None`: the group does not roll over, or the kernel does not tell.
    pub rollover: Option<Rollover>,
}

/// What all members have in common, decided by the first.
#[derive(Debug, Clone, Copy)]
struct Common {
    id: u16,
    flags: u16,
    ifindex: u32,
    ignore_outgoing: bool,
    /// Of the network namespace, where the kernel tells.
    namespace: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// While there are members in the kernel.
    common: Option<Common>,
    /// Captures in the kernel's group: members, and those about to be.
    seats: u32,
    /// Places taken by joins in progress.
    reserved: u32,
    members: Vec<Weak<Capture>>,
    /// Members get packets; later ones from their join on.
    open: bool,
    /// Of members that have left.
    left: Rollover,
}

impl State {
    fn captures(&self) -> Vec<Arc<Capture>> {
        self.members.iter().filter_map(Weak::upgrade).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Group(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: GroupConfig,
    state: Mutex<State>,
}

/// A capture's place in its group.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<Shared>,
    gate: Mutex<Gate>,
}

/// Whether a member gets packets.
#[derive(Debug)]
enum Gate {
    /// Everything is rejected. What is to be attached in its stead, and whether it
    /// is to be locked.
    Shut { filter: Selection, locked: bool },
    /// Its own filter is in place.
    Open,
    /// Stopped: rejects everything for good.
    Ended,
}

/// A capture that is to join, with what it is opened for.
pub(super) struct Joining<'a>(&'a Group);

impl Group {
    /// A group without members.
    ///
    /// # Errors
    /// `Config`.
    pub fn new(config: GroupConfig) -> Result<Self> {
        config.validate()?;
        let reorders = match config.mode {
            mode::ROLLOVER => true,
            _ => config.has(flag::ROLLOVER),
        };
        if reorders {
            log::warning!(
                "fanout: with rollover a flow's packets are spread over members when one is slow, \
                 and are read out of order"
            );
        }
        Ok(Self(Arc::new(Shared { config, state: Mutex::default() })))
    }

    /// Opens a capture and has it join. With a `cpu` the calling thread stays on
    /// that.
    ///
    /// # Errors
    /// Those of [`Capture::open`]; `SockOpt` and `Filter` of the group's own steps;
    /// `Config`.
    pub fn join(&self, interface: &[u8], config: &CaptureConfig) -> Result<Arc<Capture>> {
        let before = Before::now(config.cpu);
        let mut captures = self.join_all(interface, config, &[config.cpu])?;
        before.forget();
        captures.pop().ok_or_else(|| Error::config("count", "no capture was asked for"))
    }

    /// Opens a capture for each of `cpus` and has them join; all, or none. Each
    /// ring is on the node of its CPU (negative: of the calling thread's), where the
    /// thread is only meanwhile.
    ///
    /// # Errors
    /// As [`join`](Self::join), with the capture's number.
    pub fn open(
        &self,
        interface: &[u8],
        config: &CaptureConfig,
        cpus: &[i32],
    ) -> Result<Vec<Arc<Capture>>> {
        if config.cpu >= 0 {
            return Err(Error::config(
                "cpu",
                "cpu of the configuration is for one capture, whose thread it pins: give several \
                 captures their CPUs in cpus",
            ));
        }
        if config.has(flags::SOCKET_FD) && cpus.len() > 1 {
            return Err(Error::config(
                "socket_fd",
                "one handed-over socket cannot be several captures: have each join with a socket of \
                 its own",
            ));
        }
        let _restored = Before::now(cpus.iter().copied().max().unwrap_or(-1));
        self.join_all(interface, config, cpus)
    }

    fn join_all(
        &self,
        interface: &[u8],
        config: &CaptureConfig,
        cpus: &[i32],
    ) -> Result<Vec<Arc<Capture>>> {
        let count = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
        let mut reservation = self.0.reserve(count)?;
        let mut captures = Vec::with_capacity(cpus.len());
        for (number, cpu) in cpus.iter().enumerate() {
            let config = CaptureConfig { cpu: *cpu, ..config.clone() };
            // Dropped, those that are open leave the group.
            let capture = Capture::open_joining(interface, &config, Joining(self))
                .map_err(|error| numbered(error, number, cpus.len()))?;
            captures.push(Arc::new(capture));
        }
        match self.0.enlist(&captures, &mut reservation) {
            Ok(()) => Ok(captures),
            Err(error) => {
                for capture in &captures {
                    self.0.strike(capture);
                }
                Err(error)
            }
        }
    }

    /// How it is at the moment.
    pub fn info(&self) -> GroupInfo {
        let (config, state) = (&self.0.config, self.0.state.lock());
        let common = state.common;
        let flags = match common {
            None => config.flags,
            Some(common) => {
                let outgoing = if common.ignore_outgoing { flag::IGNORE_OUTGOING } else { 0 };
                u64::from(common.flags | outgoing) | config.flags & u64::from(flag::UNIQUEID)
            }
        };
        GroupInfo {
            mode: config.mode,
            flags,
            id: match common {
                Some(common) => Some(common.id),
                None if config.has(flag::UNIQUEID) => None,
                None => Some(config.id as u16),
            },
            members: config.members,
            joined: state.members.len() as u32,
            max_members: config.most_members(),
            delivering: state.open,
            ifindex: common.map_or(0, |common| common.ifindex),
        }
    }

    /// Rollover counters of all members, those that have left included.
    pub fn stats(&self) -> GroupStats {
        let state = self.0.state.lock();
        let captures = state.captures();
        let mut sum = state.left;
        let mut rolls_over = self.0.rolls_over();
        for capture in &captures {
            match capture.socket.rollover() {
                Ok(one) => add(&mut sum, one),
                Err(_) => rolls_over = false,
            }
        }
        let members = state.members.len() as u32;
        let last = let_go(captures);
        drop(state);
        drop(last);
        GroupStats { members, rollover: rolls_over.then_some(sum) }
    }

    /// Those of one member.
    ///
    /// # Errors
    /// `Config`: it is none.
    pub fn stats_of(&self, capture: &Capture) -> Result<GroupStats> {
        match &capture.member {
            Some(member) if Arc::ptr_eq(&member.group, &self.0) => {
                Ok(GroupStats { members: 1, rollover: capture.socket.rollover().ok() })
            }
            _ => Err(Error::config("member", "the capture is no member of this group")),
        }
    }
}

fn add(sum: &mut Rollover, one: Rollover) {
    sum.all += one.all;
    sum.huge += one.huge;
    sum.failed += one.failed;
}

/// Where the calling thread ran, and runs again when this is dropped.
struct Before(Option<Cpus>);

impl Before {
    /// `cpu` negative: it will not be moved.
    fn now(cpu: i32) -> Self {
        Self(if cpu < 0 { None } else { Cpus::of_this_thread().ok() })
    }

    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = before.run_here();
        }
    }
}

/// Which of several captures it was.
fn numbered(mut error: Error, number: usize, of: usize) -> Error {
    if of > 1 {
        error.message = format!("capture {} of {of}: {}", number + 1, error.message);
    }
    error
}

/// Places for members whose join is in progress.
struct Reservation<'a> {
    group: &'a Shared,
    count: u32,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.count != 0 {
            self.group.state.lock().reserved -= self.count;
        }
    }
}

impl Shared {
    fn rolls_over(&self) -> bool {
        self.config.mode == mode::ROLLOVER || self.config.has(flag::ROLLOVER)
    }

    fn reserve(&self, count: u32) -> Result<Reservation<'_>> {
        let mut state = self.state.lock();
        let (members, joined) = (self.config.members, state.members.len() as u32);
        let wanted = joined.saturating_add(state.reserved).saturating_add(count);
        if members != 0 && wanted > members {
            return Err(Error::config(
                "members",
                format!(
                    "the group is for {members} members, and {wanted} would be in it: close one \
                     first, or configure members for as many as will join (0: any number)"
                ),
            ));
        }
        state.reserved += count;
        Ok(Reservation { group: self, count })
    }

    /// Counts captures that have joined the kernel's group as members, and lets
    /// packets in where none is missing any more.
    fn enlist(&self, captures: &[Arc<Capture>], reservation: &mut Reservation<'_>) -> Result<()> {
        let mut state = self.state.lock();
        state.reserved -= std::mem::take(&mut reservation.count);
        state.members.extend(captures.iter().map(Arc::downgrade));
        let (members, joined) = (self.config.members, state.members.len());
        let id = state.common.map_or(0, |common| common.id);
        if !state.open && joined < members as usize {
            drop(state);
            log::info!("fanout group {id}: {joined} of {members} members have joined");
            return Ok(());
        }
        let all = state.captures();
        // What the kernel was doing with a packet when the last one joined is over.
        let waited = wait_for_receivers();
        let opened = open_gates(&all);
        state.open |= opened.is_ok();
        let last = let_go(all);
        drop(state);
        drop(last);
        opened?;
        if let Err(errno) = waited {
            log::warning!(
                "fanout group {id}: the kernel could not be waited for ({errno}): a packet from \
                 before the last join may have been delivered"
            );
        }
        log::info!("fanout group {id}: {joined} members, packets come from now on");
        Ok(())
    }

    /// Ends a membership. The socket leaves the kernel's group when it closes.
    fn strike(&self, capture: &Capture) {
        let mut state = self.state.lock();
        let before = state.members.len();
        state.members.retain(|member| !std::ptr::eq(member.as_ptr(), capture));
        if state.members.len() != before {
            if let Ok(rollover) = capture.socket.rollover() {
                add(&mut state.left, rollover);
            }
        }
    }

    /// The flags to join with; the kernel's, or what is done in its stead.
    fn ignores_outgoing(&self, config: &CaptureConfig) -> bool {
        config.has(flags::IGNORE_OUTGOING) || self.config.has(flag::IGNORE_OUTGOING)
    }
}

impl Joining<'_> {
    /// What is wrong with a configuration for a member.
    pub(super) fn validate(&self, config: &CaptureConfig) -> Result<()> {
        if config.block_timeout == 0 && !config.has(flags::IMMEDIATE) {
            return Err(Error::config(
                "block_timeout",
                "block_timeout 0 (only full blocks) in a fanout group: nothing would hand over \
                 what a member has received when its share ends; use 1 or more milliseconds",
            ));
        }
        Ok(())
    }

    /// What filters are attached on: what the kernel cannot do for a group is done
    /// by instructions in front of them.
    pub(super) fn terms(&self, config: &CaptureConfig, kernel_version: u32) -> Result<Terms> {
        let ignored = self.0.0.ignores_outgoing(config);
        if ignored && config.has(flags::IGNORE_INCOMING) {
            return Err(Error::config(
                "flags",
                "NETRING_CAPTURE_IGNORE_INCOMING in a group that ignores outgoing packets leaves \
                 nothing to capture: set at most one of them",
            ));
        }
        let mut terms = Terms::new(config, false);
        if ignored && kernel_version < KNOWS_IGNORE_OUTGOING {
            if matches!(config.filter, Some(Filter::Ebpf(_))) {
                return Err(Error::new(
                    Kind::NotSupported,
                    "flags",
                    "outgoing packets cannot be ignored in a fanout group with an eBPF filter \
                     before Linux 6.2, where classic instructions in front of the filter do it: \
                     let the eBPF program look at pkt_type",
                ));
            }
            terms.direction = Direction::Incoming;
        }
        Ok(terms)
    }

    /// Binds the socket and has it join, rejecting everything.
    pub(super) fn bind(
        &self,
        socket: &Socket,
        name: &CString,
        ifindex: u32,
        config: &CaptureConfig,
        filter: Selection,
        kernel_version: u32,
    ) -> Result<Member> {
        shut(socket).map_err(|errno| {
            Error::new(
                Kind::SockOpt,
                "SO_ATTACH_FILTER",
                format!("a filter that rejects everything, until the group is complete: {errno}"),
            )
            .with_os(errno.0)
        })?;
        let group = &self.0.0;
        let ignore_outgoing = group.ignores_outgoing(config);
        let namespace = socket.namespace_cookie().ok();
        let mut state = group.state.lock();
        if let Some(common) = state.common {
            if common.namespace != namespace {
                // The kernel would make it a group of its own, under the same id.
                return Err(Error::config(
                    "netns_fd",
                    "the capture is in another network namespace than the group's first member: \
                     all members of a fanout group are in one",
                ));
            }
            same_as_first(common, ifindex, ignore_outgoing, name)?;
        }
        socket.bind(ETH_P_ALL, ifindex as i32).map_err(|errno| no_bind(errno, name))?;
        let settings = &group.config;
        // UNIQUEID is the first one's: the others join what it made.
        let mut flags = settings.flags as u16 & (flag::ROLLOVER | flag::DEFRAG);
        if ignore_outgoing && kernel_version >= KNOWS_IGNORE_OUTGOING {
            flags |= flag::IGNORE_OUTGOING;
        }
        let (id, how) = match state.common {
            Some(common) => (common.id, flags),
            None if settings.has(flag::UNIQUEID) => (0, flags | flag::UNIQUEID),
            None => (settings.id as u16, flags),
        };
        socket.join_fanout(id, settings.mode, how, settings.max_members).map_err(|errno| {
            let down = socket
                .interface_flags(name.to_bytes())
                .is_ok_and(|flags| flags & libc::IFF_UP as u32 == 0);
            self.not_joined(errno, id, name, down, kernel_version)
        })?;
        let joined = socket.fanout().map_err(|errno| {
            Error::new(
                Kind::SockOpt,
                "PACKET_FANOUT",
                format!("the group's id could not be read back: {errno}"),
            )
            .with_os(errno.0)
        })?;
        if let Some(program) = &settings.program {
            steer(socket, program)?;
        }
        state.seats += 1;
        state.common = Some(Common {
            id: joined.id,
            flags: joined.flags,
            ifindex,
            ignore_outgoing,
            namespace,
        });
        drop(state);
        log::info!(
            "{}: joined fanout group {}, mode {}, flags {:#x}",
            name.to_string_lossy(),
            joined.id,
            settings.mode,
            joined.flags
        );
        let gate = Mutex::new(Gate::Shut { filter, locked: config.has(flags::LOCK_FILTER) });
        Ok(Member { group: Arc::clone(group), gate })
    }

    /// The kernel says EINVAL to almost everything: the likely reason.
    fn not_joined(
        &self,
        errno: Errno,
        id: u16,
        name: &CString,
        down: bool,
        kernel_version: u32,
    ) -> Error {
        let config = &self.0.0.config;
        let name = name.to_string_lossy();
        let group =
            if config.has(flag::UNIQUEID) { "a new group".into() } else { format!("group {id}") };
        let why = match errno.0 {
            libc::ENOSPC => format!(
                "it has all the members it takes ({}): raise max_members, which all of them must \
                 give alike",
                config.most_members()
            ),
            libc::EALREADY => "the socket is in a group already".to_owned(),
            libc::ENOMEM => "no memory for it, or every one of the 65536 ids is in use".to_owned(),
            libc::EINVAL if down && kernel_version < JOINS_DOWN => format!(
                "{name} is down, where groups can be joined since Linux 6.13 only: `ip link set \
                 {name} up` first"
            ),
            libc::EINVAL if !config.has(flag::UNIQUEID) => {
                "most likely there is a group with this id in the network namespace with another \
                 mode, other flags, another max_members, interface or protocol: all members must \
                 have the same; choose another id, or let the kernel choose with \
                 NETRING_FANOUT_FLAG_UNIQUEID"
                    .to_owned()
            }
            libc::EINVAL if config.max_members != 0 && kernel_version < 0x05_0b_00 => {
                "max_members needs Linux 5.11: leave it at 0".to_owned()
            }
            libc::EINVAL if down => format!("{name} went down"),
            libc::EINVAL => {
                "this kernel may not know the mode (QM: Linux 3.14, CBPF and EBPF: 4.3) or \
                 NETRING_FANOUT_FLAG_UNIQUEID (4.12)"
                    .to_owned()
            }
            _ => String::new(),
        };
        let why = if why.is_empty() { why } else { format!("; {why}") };
        Error::new(
            Kind::SockOpt,
            "PACKET_FANOUT",
            format!(
                "joining {group} of mode {} on {name} was refused: {errno}{why}",
                mode_name(config.mode)
            ),
        )
        .with_os(errno.0)
    }
}

fn mode_name(mode: u32) -> &'static str {
    ["hash", "lb", "cpu", "rollover", "rnd", "qm", "cbpf", "ebpf"]
        .get(mode as usize)
        .unwrap_or(&"unknown")
}

fn same_as_first(first: Common, ifindex: u32, ignore_outgoing: bool, name: &CString) -> Result<()> {
    if first.ifindex != ifindex {
        return Err(Error::config(
            "interface",
            format!(
                "{} (index {ifindex}) is not the interface of the group's first member (index \
                 {}): all members of a fanout group are on one interface",
                name.to_string_lossy(),
                first.ifindex
            ),
        ));
    }
    if first.ignore_outgoing != ignore_outgoing {
        return Err(Error::config(
            "flags",
            "NETRING_CAPTURE_IGNORE_OUTGOING must be the same for all members of a fanout group: \
             the kernel has it for the group; or set NETRING_FANOUT_FLAG_IGNORE_OUTGOING",
        ));
    }
    Ok(())
}

fn steer(socket: &Socket, program: &Filter) -> Result<()> {
    let steered = match program {
        Filter::Ebpf(program) => socket.steer_by_ebpf(program.fd()),
        classic => socket.steer(classic.program()?.instructions()),
    };
    steered.map_err(|errno| {
        let (kind, why) = match errno.0 {
            libc::EINVAL => (Kind::Filter, "; the kernel does not accept this program"),
            libc::EPERM => (
                Kind::SockOpt,
                "; the handed-over socket has its filter locked, which forbids the group's \
                 program too",
            ),
            _ => (Kind::SockOpt, ""),
        };
        Error::new(
            kind,
            "PACKET_FANOUT_DATA",
            format!("the program that chooses the member was refused: {errno}{why}"),
        )
        .with_os(errno.0)
    })
}

/// Rejects everything.
fn shut(socket: &Socket) -> std::result::Result<(), Errno> {
    attach_filter(socket.fd(), Program::keep(0).instructions())
}

/// Waits until no CPU is inside a receive path that it entered before. Where
/// membarrier(2) is refused, the end of a packet socket waits for the same
/// (af_packet.c packet_release, synchronize_net).
fn wait_for_receivers() -> std::result::Result<(), Errno> {
    process::wait_for_cpus().or_else(|_| Socket::packet().map(drop))
}

/// Gives up captures of the list while it is locked: so the socket of one that is
/// closed ends with the close, which has to lock it too. Those whose owner went
/// without a close are returned: they must not end here.
fn let_go(captures: Vec<Arc<Capture>>) -> Vec<Capture> {
    captures.into_iter().filter_map(Arc::into_inner).collect()
}

/// Puts the own filters of all of them in place, or of none: nobody gets packets
/// before everybody does.
fn open_gates(captures: &[Arc<Capture>]) -> Result<()> {
    let numbered = |number: usize, mut error: Error| {
        error.message = format!(
            "member {} of {} could not be given its filter: {}",
            number + 1,
            captures.len(),
            error.message
        );
        error
    };
    // Held to the end: another filter comes before this or after it.
    let mut gates = Vec::with_capacity(captures.len());
    for (number, capture) in captures.iter().enumerate() {
        if let Some(member) = &capture.member {
            gates.push((number, &capture.socket, member.gate.lock()));
        }
    }
    let attached = gates.iter().try_for_each(|(number, socket, gate)| match &**gate {
        Gate::Shut { filter, .. } => filter.attach(socket).map_err(|e| numbered(*number, e)),
        Gate::Open | Gate::Ended => Ok(()),
    });
    // Only now: what is locked cannot be shut again.
    let done = attached.and_then(|()| {
        gates.iter_mut().try_for_each(|(number, socket, gate)| {
            if let Gate::Shut { locked: true, .. } = **gate {
                lock(socket).map_err(|e| numbered(*number, e))?;
                **gate = Gate::Open;
            }
            Ok(())
        })
    });
    for (_, socket, gate) in &mut gates {
        match (&**gate, &done) {
            (Gate::Shut { .. }, Ok(())) => **gate = Gate::Open,
            (Gate::Shut { .. }, Err(_)) => {
                let _ = shut(socket);
            }
            _ => {}
        }
    }
    done
}

impl Member {
    /// Another filter: in place at once, or once the member gets packets.
    pub(super) fn attach(&self, socket: &Socket, to: &Selection) -> Result<()> {
        match &mut *self.gate.lock() {
            Gate::Shut { locked: true, .. } => Err(locked("SO_ATTACH_FILTER")),
            Gate::Shut { filter, .. } => {
                // Refused now, not when the last one joins.
                if let Ok(other) = any_socket() {
                    to.attach(&other)?;
                }
                *filter = to.clone();
                Ok(())
            }
            Gate::Open => to.attach(socket),
            Gate::Ended => Ok(()),
        }
    }

    /// Locks the filter, or has it locked once it is in place.
    pub(super) fn lock(&self, socket: &Socket) -> Result<()> {
        match &mut *self.gate.lock() {
            Gate::Shut { locked, .. } => {
                *locked = true;
                Ok(())
            }
            Gate::Open | Gate::Ended => lock(socket),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        state.seats -= 1;
        if state.seats == 0 {
            // The kernel's group has ended: the next member begins another.
            state.common = None;
            state.open = false;
        }
    }
}

/// In a group a bind is EINVAL, and with it what flush, stop and close do
/// elsewhere.
impl Capture {
    /// Leaves the list of members; the socket leaves when it closes.
    pub(super) fn leave_group(&self) {
        if let Some(member) = &self.member {
            member.group.strike(self);
        }
    }

    /// As `quiesce`: nothing new comes, and what the open block holds is complete.
    pub(super) fn quiesce_member(&self, reader: &mut Reader, member: &Member) {
        let shut = {
            let mut gate = member.gate.lock();
            *gate = Gate::Ended;
            shut(&self.socket)
        };
        let open = reader.consumer.open_block();
        if let Err(errno) = wait_for_receivers() {
            reader.log(
                Level::Warn,
                format_args!("stop: the kernel could not be waited for ({errno}): membarrier"),
            );
        }
        match shut {
            // Also what came meanwhile.
            Ok(()) => reader.consumer.open_block_is_complete(),
            // A locked filter: more comes until the close, and nobody takes it.
            Err(_) => reader.consumer.ends_with(open),
        }
    }

    /// Makes what the open block holds readable, while capturing goes on: the
    /// records counted before the wait are complete after it.
    ///
    /// # Errors
    /// The kernel cannot be waited for like this.
    pub(super) fn flush_member(reader: &mut Reader) -> std::result::Result<(), Errno> {
        let open = reader.consumer.open_block();
        wait_for_receivers()?;
        reader.consumer.is_complete(open);
        Ok(())
    }

    /// Waits until the kernel's timer has handed over what the open block holds.
    pub(super) fn await_block_timer(&self) {
        let timer_ms = match self.info.lock().timer_ms {
            // The kernel's choice is 8 ms, or less.
            0 => 8,
            timer_ms => timer_ms,
        };
        // Before 6.18 a block that was opened since the last tick has one more.
        let longest = Duration::from_millis(u64::from(timer_ms)) * 2 + Duration::from_millis(100);
        let until = clock::monotonic() + longest;
        let first = self.with_reader(|reader| reader.consumer.open_block());
        while clock::monotonic() < until {
            let now = self.with_reader(|reader| reader.consumer.open_block());
            let same = matches!((first, now), (Some((first, 1..)), Some((now, _))) if first == now);
            if !same || self.waiter.signals.is_closing() {
                break;
            }
            clock::nap(Duration::from_millis(1));
        }
    }

    /// Where the socket must outlive its capture: it stays in the group, which
    /// loses what it is chosen for, but nothing enters it.
    pub(super) fn shut_member(&self) {
        let _ = shut(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_may_be_asked_for() {
        type Spoil = fn(&mut GroupConfig);
        let cases: [(&str, &str, Spoil); 9] = [
            ("mode", "no fanout mode 8", |c| c.mode = 8),
            ("flags", "0x800", |c| c.flags |= 0x800),
            ("flags", "0x100000000", |c| c.flags |= 1 << 32),
            ("flags", "rolls over by itself", |c| {
                (c.mode, c.flags) = (mode::ROLLOVER, flag::ROLLOVER.into())
            }),
            ("id", "0 to 65535", |c| (c.flags, c.id) = (0, 65_536)),
            ("id", "UNIQUEID", |c| c.id = 7),
            ("max_members", "0 to 65536", |c| c.max_members = 65_537),
            ("members", "more than the group takes, 256", |c| c.members = 257),
            ("program", "is NULL", |c| c.mode = mode::CBPF),
        ];
        for (field, words, spoil) in cases {
            let mut config = GroupConfig::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!((error.kind, &*error.option), (Kind::Config, field));
            assert!(error.message.contains(words), "{}", error.message);
        }
        let program = Some(Program::keep(0).into());
        for mode in mode::HASH..=mode::EBPF {
            let config = GroupConfig { mode, program: program.clone(), ..GroupConfig::default() };
            assert_eq!(config.validate().is_ok(), mode == mode::CBPF, "{mode}");
        }
        let by_id = GroupConfig { mode: mode::EBPF, flags: 0, ..GroupConfig::default() };
        by_id.validate().unwrap();
    }
}
