//! Where a capture's sockets come from: they are made in the caller's network
//! namespace or in another one, or the packet socket was handed over by whoever
//! was allowed to make it.

use crate::afpacket::open::{descriptors, no_index, no_lookup, no_socket, not_found};
use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Kind, Result};
use crate::filter::{Filter, Program};
use crate::log;
use crate::packet::link_type;
use crate::sys::handover::{self, Filtered, Unfit};
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::namespace::{self, Refused};
use crate::sys::netlink::Netlink;
use crate::sys::socket::{Socket, any_socket};
use crate::sys::{Errno, file};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// See the module.
#[derive(Debug)]
pub(crate) struct Place {
    /// Not the caller's namespace but this one.
    namespace: Option<OwnedFd>,
    /// Handed over; taken by [`socket`](Self::socket).
    handed: Option<Socket>,
    /// Netlink tells of the namespace that the packet socket is in.
    told: bool,
}

/// What tells of the interface, as far as netlink is allowed.
#[derive(Debug, Default)]
pub(super) struct Tellers {
    /// That it is gone.
    pub(super) removal: Option<LinkWatch>,
    /// What its events are.
    pub(super) changes: Option<LinkWatch>,
    /// That another one appeared, for a rebind, where that cannot make one.
    pub(super) appearances: Option<LinkWatch>,
    /// What it lost.
    pub(super) counters: Option<Netlink>,
}

impl Tellers {
    fn of(ifindex: u32, name: &[u8]) -> std::result::Result<Self, Errno> {
        Ok(Self {
            removal: Some(LinkWatch::open(Watched::Removal(ifindex))?),
            changes: Some(LinkWatch::open(Watched::Changes(ifindex, name))?),
            appearances: None,
            counters: Netlink::open().ok(),
        })
    }
}

impl Place {
    /// The one that a configuration asks for.
    pub(super) fn of(config: &CaptureConfig) -> Result<Self> {
        if config.has(flags::SOCKET_FD) {
            let fd = config.socket_fd;
            let socket = handover::take_over(fd, config.has(flags::KEEP_ON_FORK))
                .map_err(|unfit| not_fit(fd, unfit))?;
            let told = namespace::is_own(&socket);
            return Ok(Self { namespace: None, handed: Some(socket), told });
        }
        Self::elsewhere(config.has(flags::NETNS_FD).then_some(config.netns_fd))
    }

    /// The network namespace of a descriptor, or the caller's.
    pub(crate) fn elsewhere(netns_fd: Option<i32>) -> Result<Self> {
        let namespace = match netns_fd {
            Some(fd) => Some(namespace_of(fd)?),
            None => None,
        };
        Ok(Self { namespace, handed: None, told: true })
    }

    /// Does something in the namespace.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.namespace {
            Some(namespace) => namespace::within(namespace.as_fd(), work).map_err(not_there),
            None => Ok(work()),
        }
    }

    /// What tells this network namespace from others, where there is a /proc.
    pub(super) fn network(&self) -> Option<file::Identity> {
        let namespace = self.within(|| namespace::open(c"/proc/thread-self/ns/net")).ok()?.ok()?;
        file::identity(namespace.as_fd()).ok().map(|(identity, _)| identity)
    }

    /// Asks about an interface.
    fn ask<T: Send>(
        &self,
        question: impl FnOnce(&Socket) -> std::result::Result<T, Errno> + Send,
    ) -> Result<std::result::Result<T, Errno>> {
        match &self.handed {
            Some(socket) => Ok(question(socket)),
            None => self.within(|| any_socket().and_then(|socket| question(&socket))),
        }
    }

    /// The index of the interface with this name.
    pub(super) fn find_interface(&self, name: &CString) -> Result<u32> {
        self.ask(|socket| socket.interface_index(name))?.map_err(|errno| no_index(errno, name))
    }

    /// Its link type, for a filter that depends on it.
    pub(super) fn link_type(&self, name: &CString) -> Result<u16> {
        let hardware = self.ask(|socket| socket.interface_hardware(name))?;
        hardware.map(link_type).map_err(|errno| match errno.0 {
            libc::ENODEV | libc::ENXIO => not_found(name),
            _ => no_lookup("SIOCGIFHWADDR", &name.to_string_lossy(), errno),
        })
    }

    /// The packet socket.
    pub(super) fn socket(&mut self) -> Result<Socket> {
        match self.handed.take() {
            Some(socket) => Ok(socket),
            None => self.within(Socket::packet)?.map_err(no_socket),
        }
    }

    /// The filter that the handed-over socket came with, where it has to be attached
    /// anew: a group begins with a filter of its own, and a snap length or a
    /// direction is part of the filter.
    pub(super) fn filter(&self, in_group: bool, worked_in: bool) -> Result<Option<Filter>> {
        let came_with = match &self.handed {
            Some(socket) if in_group || worked_in => socket.came_with(),
            _ => return Ok(None),
        };
        match came_with {
            Filtered::No => Ok(None),
            Filtered::By(program) => Program::new(program).map(|program| Some(program.into())),
            Filtered::Otherwise => Err(Error::config(
                "socket_fd",
                "the handed-over socket has an eBPF filter, which a fanout group, snap_length or a \
                 direction would take away: give it in the configuration \
                 (netring_filter_new_ebpf), or take it off the socket",
            )),
        }
    }

    /// What tells of the interface's losses, as far as netlink is allowed.
    pub(super) fn counters(&self) -> Result<Option<Netlink>> {
        Ok(self.within(Netlink::open)?.ok())
    }

    /// What tells of an interface.
    pub(super) fn tellers(&self, ifindex: u32, name: &[u8]) -> Result<Tellers> {
        if ifindex == 0 {
            return Ok(Tellers::default());
        }
        if !self.told {
            log::warning!(
                "the socket that was handed over is of another network namespace, or of which one \
                 it is cannot be told: waits look once a second what became of the interface, and \
                 interface counters are missing"
            );
            return Ok(Tellers::default());
        }
        let elsewhere = self.namespace.is_some();
        let told = self.within(|| {
            let mut tellers = Tellers::of(ifindex, name)?;
            if elsewhere {
                tellers.appearances = LinkWatch::open(Watched::Nothing).ok();
            }
            Ok(tellers)
        })?;
        Ok(told.unwrap_or_else(|errno: Errno| {
            // Confined programs may lack netlink (systemd's RestrictAddressFamilies).
            log::warning!(
                "netlink refused ({errno}): waits look once a second what became of the interface, \
                 its descriptor is not readable for that, and interface counters are missing"
            );
            Tellers::default()
        }))
    }
}

fn namespace_of(fd: i32) -> Result<OwnedFd> {
    let namespace = file::duplicate(fd).map_err(|errno| match errno.0 {
        libc::EBADF => Error::config("netns_fd", format!("netns_fd {fd} is not open")),
        number => Error::new(
            Kind::Io,
            "F_DUPFD_CLOEXEC",
            format!("netns_fd {fd} was not duplicated: {errno}{}", descriptors(errno)),
        )
        .with_os(number),
    })?;
    if namespace::may_be_entered(namespace.as_fd()) { Ok(namespace) } else { Err(no_namespace()) }
}

fn no_namespace() -> Error {
    Error::config(
        "netns_fd",
        "netns_fd is no network namespace: open one with netring_netns_open (a pidfd will do since \
         Linux 5.8)",
    )
}

fn not_there(refused: Refused) -> Error {
    let (step, errno, why) = match refused {
        Refused::Thread(errno) => {
            ("thread", errno, "a thread to enter the network namespace on was refused")
        }
        Refused::Enter(Errno(libc::EINVAL)) => return no_namespace(),
        Refused::Enter(errno) => ("setns", errno, "the network namespace could not be entered"),
    };
    let remedy = match (step, errno.0) {
        ("thread", libc::EAGAIN) => "; raise `ulimit -u` or the control group's pids.max",
        ("setns", libc::EPERM) => {
            "; it takes CAP_SYS_ADMIN, both in the user namespace that owns it and in the caller's \
             own: run as root, or let somebody who may make the socket hand it over \
             (NETRING_CAPTURE_SOCKET_FD)"
        }
        ("setns", libc::ESRCH) => "; the process of this pidfd has ended",
        _ => "",
    };
    Error::new(Kind::Io, step, format!("{why}: {errno}{remedy}")).with_os(errno.0)
}

fn not_fit(fd: i32, unfit: Unfit) -> Error {
    let why = match unfit {
        Unfit::NotOpen => "is not open",
        Unfit::NotPacket => "is no packet socket: make it with socket(AF_PACKET, SOCK_RAW, 0)",
        Unfit::NotRaw => {
            "is a packet socket without link-layer headers: make it with socket(AF_PACKET, \
             SOCK_RAW, 0)"
        }
        Unfit::Bound(_) => {
            "receives already, or is bound: make it with socket(AF_PACKET, SOCK_RAW, 0), and leave \
             the bind to the capture"
        }
        Unfit::InGroup => "is a member of a fanout group: hand over another socket",
        Unfit::HasRing => {
            "has a ring already, of another capture perhaps: hand over another socket"
        }
        Unfit::Refused(step, errno) => {
            return Error::new(
                Kind::SockOpt,
                step,
                format!("socket_fd {fd}: {step} was refused: {errno}{}", descriptors(errno)),
            )
            .with_os(errno.0);
        }
    };
    Error::config("socket_fd", format!("socket_fd {fd} {why}"))
}
