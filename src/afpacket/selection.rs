//! Which packets the kernel puts into the ring, and how much of each: the
//! caller's filter with what the configuration asks besides worked in.

use crate::config::{CaptureConfig, flags};
use crate::error::{Error, Kind, Result};
use crate::filter::{Attachable, Direction, Filter, Program, ebpf};
use crate::sys::packet::{PACKET_IGNORE_OUTGOING, SOL_PACKET};
use crate::sys::socket::{Socket, attach_ebpf, attach_filter, detach_filter};

/// The largest packet there is: BIG TCP's 512 KiB and headers. What fits a
/// block is never cut.
const LARGEST_PACKET: u32 = 520 << 10;
/// PACKET_IGNORE_OUTGOING is there from here on.
const IGNORE_OUTGOING_SINCE: u32 = 0x04_14_00;

/// What stays in force whatever filter is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Bytes kept of each packet; 0: all.
    pub snap_length: u32,
    /// What the program has to see to.
    pub direction: Direction,
}

impl Terms {
    /// Those of a configuration. `by_filter`: a program has to see to it that
    /// outgoing packets are ignored, because no socket option does.
    pub fn new(config: &CaptureConfig, by_filter: bool) -> Self {
        let direction = if config.has(flags::IGNORE_INCOMING) {
            Direction::Outgoing
        } else if by_filter && config.has(flags::IGNORE_OUTGOING) {
            Direction::Incoming
        } else {
            Direction::Both
        };
        Self { snap_length: config.snap_length, direction }
    }

    /// Those of a capture of its own (in no group) on a kernel of this version.
    /// Where only an option could do it, the kernel is to say that it has none.
    pub fn of(config: &CaptureConfig, kernel_version: u32) -> Self {
        let old = (1..IGNORE_OUTGOING_SINCE).contains(&kernel_version);
        Self::new(config, old && !matches!(config.filter, Some(Filter::Ebpf(_))))
    }

    /// Whether PACKET_IGNORE_OUTGOING is to be set.
    pub fn by_option(&self, config: &CaptureConfig) -> bool {
        config.has(flags::IGNORE_OUTGOING) && self.direction != Direction::Incoming
    }
}

/// A filter with its terms.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// What the socket gets; `None`: nothing.
    attachable: Option<Attachable>,
    /// Of what it was made, where that is right for packets of these link types only.
    made_of: Option<(Filter, Vec<u16>)>,
    /// The socket may have a filter that nobody here knows.
    unknown: bool,
}

impl Selection {
    /// `filter` on these terms. `link_types` are those of the packets (none: all of
    /// "any"), asked for only where the filter depends on them.
    ///
    /// # Errors
    /// `Config`: filter and terms do not go together. `Filter`: it has no meaning for
    /// a link type. Those of `link_types`.
    pub fn new(
        filter: Option<&Filter>,
        terms: &Terms,
        link_types: impl FnOnce() -> Result<Vec<u16>>,
    ) -> Result<Self> {
        let Terms { snap_length, direction } = *terms;
        let by_link_type = filter.filter(|filter| filter.is_by_link_type());
        let link_types = by_link_type.map(|_| link_types()).transpose()?.unwrap_or_default();
        let attachable = match filter {
            None if snap_length == 0 && direction == Direction::Both => None,
            None if snap_length == 0 => Some(Attachable::Program(Program::keep(u32::MAX))),
            None => Some(Attachable::Program(Program::keep(snap_length))),
            Some(filter) => Some(filter.resolve(&link_types)?.with_snap_length(snap_length)?),
        };
        let attachable = attachable.map(|what| what.with_direction(direction)).transpose()?;
        let made_of = by_link_type.filter(|_| !link_types.is_empty()).cloned();
        let made_of = made_of.map(|filter| (filter, link_types));
        Ok(Self { attachable, made_of, unknown: false })
    }

    /// The filter, where it needs another program for packets of this link type.
    pub fn outside(&self, link_type: u16) -> Option<&Filter> {
        self.made_of
            .as_ref()
            .filter(|(_, link_types)| !link_types.contains(&link_type))
            .map(|(filter, _)| filter)
    }

    /// Gives it to a socket in the place of what that had. The kernel keeps the
    /// old one where it refuses the new.
    ///
    /// # Errors
    /// `Filter`, `SockOpt`.
    pub fn attach(&self, socket: &Socket) -> Result<()> {
        match &self.attachable {
            None => match detach_filter(socket.fd()) {
                // There was none.
                Ok(()) => Ok(()),
                Err(errno) if errno.0 == libc::ENOENT => Ok(()),
                Err(errno) => Err(Error::new(
                    Kind::SockOpt,
                    "SO_DETACH_FILTER",
                    format!("the filter could not be detached: {errno}"),
                )
                .with_os(errno.0)),
            },
            Some(Attachable::Program(program)) => attach_program(socket, program),
            Some(Attachable::Ebpf(program)) => {
                attach_ebpf(socket.fd(), program.fd()).map_err(ebpf::refused)
            }
        }
    }

    /// Where this is nothing, the socket keeps what it has.
    pub fn or_unknown(mut self) -> Self {
        self.unknown = self.attachable.is_none();
        self
    }

    /// Whether there is anything to attach.
    pub fn is_some(&self) -> bool {
        self.attachable.is_some()
    }

    /// The program, for a run in user space.
    pub fn program(&self) -> Option<&Program> {
        match &self.attachable {
            Some(Attachable::Program(program)) => Some(program),
            _ => None,
        }
    }

    /// A packet that it accepts and that has no more bytes is not cut.
    pub fn least_kept(&self) -> u32 {
        match &self.attachable {
            None if self.unknown => 0,
            None => u32::MAX,
            Some(Attachable::Program(program)) => program.min_keep().unwrap_or(0),
            Some(Attachable::Ebpf(_)) => 0,
        }
    }

    /// The most that it keeps of any packet.
    pub fn most_kept(&self) -> u32 {
        match &self.attachable {
            Some(Attachable::Program(program)) => program.max_keep().unwrap_or(u32::MAX),
            _ => u32::MAX,
        }
    }

    /// Whether packets may be cut: by the filter, or because they do not fit a
    /// block.
    pub fn may_cut(&self, block_size: u32) -> bool {
        self.least_kept() < LARGEST_PACKET || block_size < LARGEST_PACKET + 4096
    }
}

/// SO_LOCK_FILTER: whatever is attached stays, for whoever has the socket.
///
/// # Errors
/// `SockOpt`.
pub fn lock(socket: &Socket) -> Result<()> {
    socket.set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1).map_err(|errno| {
        Error::new(
            Kind::SockOpt,
            "SO_LOCK_FILTER",
            format!("the filter could not be locked: {errno}; it needs Linux 3.9"),
        )
        .with_os(errno.0)
    })
}

/// PACKET_IGNORE_OUTGOING.
///
/// # Errors
/// `SockOpt`.
pub fn ignore_outgoing(socket: &Socket) -> Result<()> {
    socket.set(SOL_PACKET, PACKET_IGNORE_OUTGOING, &1).map_err(|errno| {
        let remedy = if errno.0 == libc::ENOPROTOOPT {
            "; it was added in Linux 4.20: leave NETRING_CAPTURE_IGNORE_OUTGOING out on older \
             kernels"
        } else {
            ""
        };
        Error::new(
            Kind::SockOpt,
            "PACKET_IGNORE_OUTGOING",
            format!("socket option PACKET_IGNORE_OUTGOING (value 1) was refused: {errno}{remedy}"),
        )
        .with_os(errno.0)
    })
}

fn attach_program(socket: &Socket, program: &Program) -> Result<()> {
    attach_filter(socket.fd(), program.instructions()).map_err(|errno| {
        let (kind, remedy) = match errno.0 {
            libc::EINVAL => (Kind::Filter, "; the kernel does not accept this program"),
            libc::ENOMEM => (
                Kind::SockOpt,
                "; a large program needs more option memory: raise net.core.optmem_max, or \
                 shorten the program",
            ),
            _ => (Kind::SockOpt, ""),
        };
        Error::new(
            kind,
            "SO_ATTACH_FILTER",
            format!("filter of {} instructions was refused: {errno}{remedy}", program.len()),
        )
        .with_os(errno.0)
    })
}
