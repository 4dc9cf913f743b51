//! A capture that joins: bound, in the group, and rejecting everything.

use super::member::{Gate, Member, shut};
use super::{Common, Group};
use crate::afpacket::open::no_bind;
use crate::afpacket::selection::{Selection, Terms};
use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Kind, Result};
use crate::filter::{Direction, Filter};
use crate::log;
use crate::sys::Errno;
use crate::sys::fanout::flag;
use crate::sys::packet::ETH_P_ALL;
use crate::sys::socket::Socket;
use parking_lot::Mutex;
use std::ffi::CString;
use std::sync::Arc;

/// PACKET_FANOUT_FLAG_IGNORE_OUTGOING is taken and ignored before 6.2, as is every
/// flag that a kernel does not know.
const KNOWS_IGNORE_OUTGOING: u32 = 0x06_02_00;
/// A link that is down can be joined on (fanout_add asks no longer for
/// PACKET_SOCK_RUNNING).
const JOINS_DOWN: u32 = 0x06_0d_00;

/// A capture that is to join, with what it is opened for.
pub(in crate::afpacket) struct Joining<'a>(pub(super) &'a Group);

impl Joining<'_> {
    /// What is wrong with a configuration for a member.
    pub(in crate::afpacket) fn validate(&self, config: &CaptureConfig) -> Result<()> {
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
    pub(in crate::afpacket) fn terms(
        &self,
        config: &CaptureConfig,
        kernel_version: u32,
    ) -> Result<Terms> {
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
    pub(in crate::afpacket) fn bind(
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
