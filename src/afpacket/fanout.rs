//! Fanout groups: captures among which the kernel divides an interface's packets.
//!
//! A socket must be bound before it joins, and a bound socket receives for
//! itself. So a member is bound with a filter in place that rejects everything,
//! and is given its own filter later: when the last of the members expected has
//! joined, by whoever that is; where no number is expected, after its own join.
//! In between the kernel is waited for, so that no packet is inside a receive
//! path that it entered before.

mod config;
mod joining;
mod member;

pub use config::GroupConfig;
pub(super) use joining::Joining;
pub(super) use member::Member;

use crate::afpacket::capture::Capture;
use crate::afpacket::open::not_moved;
use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Result};
use crate::log;
use crate::sys::affinity::Before;
use crate::sys::fanout::{Rollover, flag, mode};
use member::{open_gates, wait_for_receivers};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

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
        let before = Before::now(config.cpu).map_err(|errno| not_moved(config.cpu, errno))?;
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
        let highest = cpus.iter().copied().max().unwrap_or(-1);
        let _before = Before::now(highest).map_err(|errno| not_moved(highest, errno))?;
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

/// Gives up captures of the list while it is locked: so the socket of one that is
/// closed ends with the close, which has to lock it too. Those whose owner went
/// without a close are returned: they must not end here.
fn let_go(captures: Vec<Arc<Capture>>) -> Vec<Capture> {
    captures.into_iter().filter_map(Arc::into_inner).collect()
}
