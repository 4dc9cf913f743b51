//! Opening a capture: every value and the interface are checked before any
//! memory is taken, nothing is received before the filter is in place, and a
//! failure leaves nothing behind.

use crate::afpacket::capture::{Capture, CaptureInfo, Parts};
use crate::afpacket::counters::Environment;
use crate::afpacket::events::{Events, Notices};
use crate::afpacket::fanout::Joining;
use crate::afpacket::late::Late;
use crate::afpacket::membership::Membership;
use crate::afpacket::place::Place;
use crate::afpacket::record::frame;
use crate::afpacket::record::rewrite::VNET_HEADER;
use crate::afpacket::record::treat::Treatment;
use crate::afpacket::ring::Ring;
use crate::afpacket::selection::{Selection, Terms, ignore_outgoing, lock};
use crate::afpacket::stamping::Stamping;
use crate::afpacket::waiter::Waiter;
use crate::config::{BLOCK_TIMEOUT_KERNEL, Bound, CaptureConfig, Geometry, MemoryBound, flags};
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::log::{self, Level};
use crate::packet::link_type;
use crate::sys::affinity::{Before, Cpus};
use crate::sys::mmap::Mapping;
use crate::sys::packet::{ETH_P_ALL, PACKET_VNET_HDR, SOL_PACKET, arphrd};
use crate::sys::process::Belongs;
use crate::sys::socket::Socket;
use crate::sys::{Errno, process};
use std::ffi::CString;

/// The name that stands for every interface.
const ANY: &str = "any";
/// IFNAMSIZ, with the terminating NUL.
const NAME_SIZE: usize = 16;
/// struct tpacket_req3's retire timeout is 32 bits wide inside the kernel from
/// here on (6.18: hrtimer, ktime); before it is an unsigned short.
const WIDE_TIMER: u32 = 0x06_12_00;

impl Capture {
    /// Opens a capture on the interface of that name, or on "any".
    ///
    /// # Errors
    /// See docs/errors.md: every step has its own.
    pub fn open(interface: &[u8], config: &CaptureConfig) -> Result<Self> {
        Self::open_as(interface, config, None)
    }

    /// Opens a capture that is a member of a fanout group.
    pub(super) fn open_joining(
        interface: &[u8],
        config: &CaptureConfig,
        group: Joining<'_>,
    ) -> Result<Self> {
        Self::open_as(interface, config, Some(group))
    }

    fn open_as(
        interface: &[u8],
        config: &CaptureConfig,
        group: Option<Joining<'_>>,
    ) -> Result<Self> {
        let opened = Self::open_steps(interface, config, group);
        match &opened {
            Ok(capture) => {
                let info = capture.info();
                log::info!(
                    "{}: capture opened: {} blocks of {} bytes, timeout {} ms, flags {:#x}, {}",
                    info.interface,
                    info.block_count,
                    info.block_size,
                    info.timer_ms,
                    info.flags,
                    if config.filter.is_some() { "filtered" } else { "no filter" },
                );
            }
            Err(error) => {
                log::write(Level::Error, format_args!("{}: open: {error}", shown(interface)))
            }
        }
        opened
    }

    fn open_steps(
        interface: &[u8],
        config: &CaptureConfig,
        group: Option<Joining<'_>>,
    ) -> Result<Self> {
        let any = interface == ANY.as_bytes();
        let name = interface_name(interface)?;
        config.validate(any)?;
        if let Some(group) = &group {
            group.validate(config)?;
        }
        let kernel_version = process::kernel_version();
        let mut place = Place::of(config)?;
        let terms = match &group {
            None => Terms::of(config, kernel_version),
            Some(group) => group.terms(config, kernel_version)?,
        };
        let came_with = match &config.filter {
            None => place.filter(group.is_some(), terms != Terms::default())?,
            Some(_) => None,
        };
        let filter = config.filter.as_ref().or(came_with.as_ref());
        let selection = Selection::new(filter, &terms, || {
            if any { Ok(Vec::new()) } else { place.link_type(&name).map(|it| vec![it]) }
        })?;
        let ifindex = if any { 0 } else { place.find_interface(&name)? };
        let bound = MemoryBound::now(config.memory_limit);
        let geometry = Geometry::fitting(config, bound)?;
        fork::claim()?;

        let socket = place.socket()?;
        let immediate = config.has(flags::IMMEDIATE);
        let version = if immediate { TPACKET_V2 } else { TPACKET_V3 };
        option(&socket, "PACKET_VERSION", SOL_PACKET, libc::PACKET_VERSION, version)?;
        let stamping = Stamping::of(config);
        stamping.ask(&socket)?;
        let able = stamping.check(&socket, &name)?;
        let vnet = config.has(flags::VNET_HEADER);
        if vnet {
            option(&socket, "PACKET_VNET_HDR", SOL_PACKET, PACKET_VNET_HDR, 1)?;
        }
        let reserve = if immediate { frame::RESERVE as i32 } else { VNET_RESERVE };
        if immediate || vnet {
            option(&socket, "PACKET_RESERVE", SOL_PACKET, libc::PACKET_RESERVE, reserve)?;
        }
        if selection.is_some() {
            selection.attach(&socket)?;
        }
        let timer_ms = if immediate { 0 } else { timer_ms(config.block_timeout, kernel_version) };
        // The ring's pages come from the node of the CPU that asks for them.
        let pinned = pin(config.cpu)?;
        let mut shrunk_by: Vec<Bound> = geometry.shrunk_by.into_iter().collect();
        let geometry = match request_ring(&socket, &geometry, timer_ms, config) {
            Ok(()) => geometry,
            Err(errno) => {
                let smaller = match errno.0 {
                    libc::ENOMEM => geometry.after_enomem(config),
                    _ => None,
                };
                let smaller = smaller.ok_or_else(|| no_ring(errno, &geometry))?;
                shrunk_by.push(Bound::NoMemory);
                request_ring(&socket, &smaller, timer_ms, config)
                    .map_err(|errno| no_ring(errno, &smaller))?;
                smaller
            }
        };
        for bound in &shrunk_by {
            log::warning!(
                "ring shrunk from {} to {} blocks of {} bytes by {}",
                config.block_count,
                geometry.block_count,
                geometry.block_size,
                bound.option()
            );
        }
        let (mapping, locked) = map_ring(&socket, &geometry, config.has(flags::LOCK_MEMORY))?;

        if terms.by_option(config) && group.is_none() {
            ignore_outgoing(&socket)?;
        }
        if config.busy_poll != 0 {
            let microseconds = config.busy_poll as i32;
            option(&socket, "SO_BUSY_POLL", libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds)?;
        }
        for membership in Membership::of(config.flags) {
            membership.join(&socket, &name, ifindex)?;
        }
        let tellers = place.tellers(ifindex, interface)?;
        let notices = tellers.changes.map(Notices::new).transpose().map_err(no_waiter)?;
        let on_fd = notices.as_ref().filter(|_| config.has(flags::EVENTS_ON_FD));
        let waiter = Waiter::new(&socket, tellers.removal, on_fd).map_err(no_waiter)?;
        let environment = Environment::new(ifindex, tellers.counters);
        stamping.switch_on(&socket, &name, able)?;
        let member = match &group {
            None => {
                socket.bind(ETH_P_ALL, ifindex as i32).map_err(|errno| no_bind(errno, &name))?;
                None
            }
            Some(group) => Some(group.bind(
                &socket,
                &name,
                ifindex,
                config,
                selection.clone(),
                kernel_version,
            )?),
        };
        let events = Events::new(notices, &socket, ifindex, interface);
        let hardware = socket.bound().map_err(|errno| no_bind(errno, &name))?.sll_hatype;

        // Outgoing copies are not dropped where they are all there is.
        let keep_looped = config.has(flags::KEEP_LOOPED | flags::IGNORE_INCOMING);
        let drop_looped = !keep_looped && (any || hardware == arphrd::LOOPBACK);
        if config.has(flags::LOCK_FILTER) && group.is_none() {
            lock(&socket)?;
        }
        // What a frame or block has room for, about.
        let room = if immediate { geometry.frame_size } else { geometry.block_size };
        // Without a filter of its own a socket may have one of another process.
        let selection = if socket.is_lent() { selection.or_unknown() } else { selection };
        let mut granted = config.flags;
        if events.notices().is_none() {
            granted &= !flags::EVENTS_ON_FD;
        }
        if immediate {
            granted &= !flags::RXHASH;
        }
        if !locked {
            granted &= !flags::LOCK_MEMORY;
        }
        let link_type = if any { None } else { Some(link_type(hardware)) };
        let info = CaptureInfo {
            block_size: geometry.block_size,
            block_count: geometry.block_count,
            frame_size: geometry.frame_size,
            frame_count: geometry.frame_count(),
            requested_block_size: config.block_size,
            requested_block_count: config.block_count,
            shrunk_by,
            snap_length: config.snap_length,
            block_timeout: config.block_timeout,
            timer_ms,
            ifindex,
            kernel_version,
            link_type: link_type.unwrap_or(crate::packet::NETRING_LINKTYPE_UNKNOWN),
            flags: granted,
            memory: geometry.memory(),
            memory_bound: bound.bytes,
            interface: String::from_utf8_lossy(interface).into_owned(),
            clock: config.clock,
        };
        pinned.forget();
        Ok(Self::assemble(Parts {
            member,
            socket,
            ring: Ring::new(mapping, &geometry, belongs(config)),
            waiter,
            events,
            info,
            flags: config.flags,
            link_type,
            treatment: Treatment {
                tally: immediate,
                drop_looped,
                keep_vnet: vnet,
                restore_vlan: config.has(flags::RESTORE_VLAN),
                late: Late::new(selection, room),
                ..Treatment::default()
            },
            terms,
            stamping,
            environment,
            appearances: tellers.appearances,
        }))
    }
}

/// With the vnet header before each packet this makes 16 bytes, so that the IP
/// header of an Ethernet packet stays aligned to 16 (af_packet.c tpacket_rcv).
const VNET_RESERVE: i32 = 16 - VNET_HEADER as i32;

/// Moves the calling thread to a CPU (negative: nowhere); it goes back if the open
/// fails.
fn pin(cpu: i32) -> Result<Before> {
    let before = Before::now(cpu).and_then(|before| {
        if let Ok(cpu) = u32::try_from(cpu) {
            Cpus::one(cpu).run_here()?;
        }
        Ok(before)
    });
    before.map_err(|errno| not_moved(cpu, errno))
}

pub(super) fn not_moved(cpu: i32, errno: Errno) -> Error {
    match errno.0 {
        libc::EINVAL => Error::config(
            "cpu",
            format!(
                "cpu {cpu} is none that this thread may run on: not there, offline, or outside of \
                 its cpuset; -1: wherever it runs"
            ),
        ),
        _ => Error::new(
            Kind::Io,
            "cpu",
            format!("the thread could not be moved to CPU {cpu}: {errno}"),
        ),
    }
    .with_os(errno.0)
}

/// Whose the capture is.
fn belongs(config: &CaptureConfig) -> Belongs {
    if config.has(flags::KEEP_ON_FORK) { Belongs::everywhere() } else { Belongs::here() }
}

const TPACKET_V2: i32 = libc::tpacket_versions::TPACKET_V2 as i32;
const TPACKET_V3: i32 = libc::tpacket_versions::TPACKET_V3 as i32;

/// A name as messages show it; whatever the caller passed, not endlessly.
pub(super) fn shown(interface: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&interface[..interface.len().min(64)])
}

pub(super) fn interface_name(interface: &[u8]) -> Result<CString> {
    let refused = |why: &str| {
        Error::config("interface", format!("interface name {:?} {why}", shown(interface)))
    };
    if interface.is_empty() {
        return Err(refused("is empty: name an interface"));
    }
    if interface.len() >= NAME_SIZE {
        return Err(refused("is longer than 15 bytes: use the interface's short name"));
    }
    CString::new(interface).map_err(|_| refused("has a NUL inside"))
}

pub(super) fn no_index(errno: Errno, name: &CString) -> Error {
    match errno.0 {
        libc::ENODEV | libc::ENXIO => not_found(name),
        _ => no_lookup("SIOCGIFINDEX", &name.to_string_lossy(), errno),
    }
}

pub(super) fn no_lookup(step: &'static str, interface: &str, errno: Errno) -> Error {
    Error::new(
        Kind::Io,
        step,
        format!("looking up interface {interface} failed: {errno}{}", descriptors(errno)),
    )
    .with_os(errno.0)
}

pub(super) fn not_found(name: &CString) -> Error {
    Error::new(
        Kind::InterfaceNotFound,
        "interface",
        format!(
            "interface not found: {}; `ip link show` lists those of this network namespace",
            name.to_string_lossy()
        ),
    )
    .with_os(libc::ENODEV)
}

pub(super) fn no_socket(errno: Errno) -> Error {
    let (kind, message) = match errno.0 {
        libc::EPERM | libc::EACCES => (
            Kind::PermissionDenied,
            format!(
                "insufficient privileges (need CAP_NET_RAW): socket(AF_PACKET): {errno}; run as \
                 root, or `setcap cap_net_raw+ep PROGRAM`, or inside a user namespace of your own \
                 (`unshare -Urn`)"
            ),
        ),
        libc::EAFNOSUPPORT => (
            Kind::Socket,
            format!("socket(AF_PACKET): {errno}; this kernel is built without CONFIG_PACKET"),
        ),
        _ => (Kind::Socket, format!("socket(AF_PACKET): {errno}{}", descriptors(errno))),
    };
    Error::new(kind, "socket", message).with_os(errno.0)
}

pub(super) fn option(
    socket: &Socket,
    step: &'static str,
    level: i32,
    name: i32,
    value: i32,
) -> Result<()> {
    socket.set(level, name, &value).map_err(|errno| {
        let remedy = match (step, errno.0) {
            ("SO_BUSY_POLL", libc::EPERM) => {
                "; before Linux 6.4 it needs CAP_NET_ADMIN: leave busy_poll at 0, or set \
                 net.core.busy_read"
            }
            ("SO_BUSY_POLL", libc::ENOPROTOOPT) => {
                "; it needs a kernel with CONFIG_NET_RX_BUSY_POLL: leave busy_poll at 0"
            }
            ("PACKET_VERSION", _) => "; TPACKET_V3 needs Linux 3.2",
            _ => "",
        };
        Error::new(
            Kind::SockOpt,
            step,
            format!("socket option {step} (value {value}) was refused: {errno}{remedy}"),
        )
        .with_os(errno.0)
    })
}

/// What the kernel's timer is given. It takes 0 as "choose by link speed"
/// (af_packet.c prb_calc_retire_blk_tmo), so "only full blocks" is the longest
/// time it can count.
fn timer_ms(block_timeout: u32, kernel_version: u32) -> u32 {
    match block_timeout {
        BLOCK_TIMEOUT_KERNEL => 0,
        0 if kernel_version >= WIDE_TIMER => u32::MAX,
        0 => u32::from(u16::MAX),
        milliseconds => milliseconds,
    }
}

fn request_ring(
    socket: &Socket,
    geometry: &Geometry,
    timer_ms: u32,
    config: &CaptureConfig,
) -> std::result::Result<(), Errno> {
    let request = libc::tpacket_req3 {
        tp_block_size: geometry.block_size,
        tp_block_nr: geometry.block_count,
        tp_frame_size: geometry.frame_size,
        tp_frame_nr: geometry.frame_count(),
        tp_retire_blk_tov: timer_ms,
        tp_sizeof_priv: 0,
        tp_feature_req_word: if config.has(flags::RXHASH) {
            libc::TP_FT_REQ_FILL_RXHASH
        } else {
            0
        },
    };
    socket.set(SOL_PACKET, libc::PACKET_RX_RING, &request)
}

fn no_ring(errno: Errno, geometry: &Geometry) -> Error {
    let kind = if errno.0 == libc::ENOMEM { Kind::Mmap } else { Kind::SockOpt };
    let remedy = if errno.0 == libc::ENOMEM {
        "; reduce block_count or block_size, or free memory"
    } else {
        ""
    };
    Error::new(
        kind,
        "PACKET_RX_RING",
        format!(
            "a ring of {} blocks of {} bytes was refused: {errno}{remedy}",
            geometry.block_count, geometry.block_size
        ),
    )
    .with_os(errno.0)
}

/// The ring's memory, and whether it is locked.
fn map_ring(socket: &Socket, geometry: &Geometry, lock: bool) -> Result<(Mapping, bool)> {
    let length = usize::try_from(geometry.length()).unwrap_or(usize::MAX);
    let locked = if lock {
        let mapping = Mapping::shared(socket.fd(), length, true);
        if let Err(errno) = &mapping {
            log::warning!(
                "mmap with MAP_LOCKED failed, retrying without ({errno}); harmless, as the kernel \
                 never swaps a ring out; `ulimit -l` or CAP_IPC_LOCK would allow it"
            );
        }
        mapping.ok()
    } else {
        None
    };
    let is_locked = locked.is_some();
    let mapping = match locked {
        Some(mapping) => mapping,
        None => Mapping::shared(socket.fd(), length, false).map_err(|errno| {
            Error::new(
                Kind::Mmap,
                "mmap",
                format!(
                    "mapping the ring of {length} bytes failed: {errno}{}",
                    if errno.0 == libc::ENOMEM {
                        "; reduce block_count or block_size, or raise the limit on address space \
                         (`ulimit -v`)"
                    } else {
                        ""
                    }
                ),
            )
            .with_os(errno.0)
        })?,
    };
    // Packets do not belong into core dumps; a kernel that cannot leave them
    // out changes nothing for the capture.
    if let Err(errno) = mapping.advise(libc::MADV_DONTDUMP) {
        log::warning!("MADV_DONTDUMP failed ({errno}); core dumps will hold the ring");
    }
    Ok((mapping, is_locked))
}

/// The remedy where descriptors have run out.
pub(super) fn descriptors(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EMFILE => "; close descriptors or raise `ulimit -n`",
        libc::ENFILE => "; the whole machine is out of descriptors: raise fs.file-max",
        _ => "",
    }
}

pub(super) fn no_waiter(errno: Errno) -> Error {
    Error::new(
        Kind::Io,
        "epoll",
        format!("epoll or eventfd was refused: {errno}{}", descriptors(errno)),
    )
    .with_os(errno.0)
}

pub(super) fn no_bind(errno: Errno, name: &CString) -> Error {
    if errno.0 == libc::ENODEV {
        return not_found(name);
    }
    Error::new(
        Kind::Bind,
        "bind",
        format!("the socket could not be bound to {}: {errno}", name.to_string_lossy()),
    )
    .with_os(errno.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_never_wraps() {
        assert_eq!(timer_ms(60, 0x05_0a_00), 60);
        assert_eq!(timer_ms(0, 0x06_11_ff), 65_535);
        assert_eq!(timer_ms(0, 0x06_12_00), u32::MAX);
        assert_eq!(timer_ms(BLOCK_TIMEOUT_KERNEL, 0x06_12_00), 0);
    }

    #[test]
    fn names() {
        assert!(interface_name(b"eth0").is_ok());
        for bad in [&b""[..], b"sixteen-bytes-xx", b"a\0b"] {
            assert_eq!(interface_name(bad).unwrap_err().option, "interface");
        }
    }
}
