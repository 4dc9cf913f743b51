//! Opening an injector: every value and the interface are checked before any memory
//! is taken, and a failure leaves nothing behind.

use super::config::{Geometry, InjectorConfig, Method, flags};
use super::link::Interface;
use super::losses::Losses;
use super::messages::Messages;
use super::method::method;
use super::order::Order;
use super::pace::Pace;
use super::ring::Ring;
use super::slots::Slots;
use super::stamps::Stamps;
use super::waiter::Waiter;
use super::{Blocked, GIVE_UP_AFTER, Injector, InjectorInfo, InjectorStats, State};
use crate::afpacket::open::{
    interface_name, no_bind, no_lookup, no_waiter, not_found, option, shown,
};
use crate::afpacket::place::Place;
use crate::config::{Bound, MemoryBound};
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::log::{self, Level};
use crate::packet::link_type;
use crate::sys::mmap::Mapping;
use crate::sys::packet::{PACKET_QDISC_BYPASS, PACKET_VNET_HDR, SOL_PACKET};
use crate::sys::socket::Socket;
use crate::sys::{Errno, process};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

const TPACKET_V2: i32 = libc::tpacket_versions::TPACKET_V2 as i32;
/// Results that are kept for whoever fetches them.
const MOST_RESULTS: u32 = 4096;

impl Injector {
    /// Opens an injector on the interface of that name.
    ///
    /// # Errors
    /// See docs/errors.md: every step has its own.
    pub fn open(interface: &[u8], config: &InjectorConfig) -> Result<Self> {
        let opened = Self::open_steps(interface, config);
        match &opened {
            Ok(injector) => {
                let info = &injector.info;
                log::info!(
                    "{}: injector opened: {:?}, {} slots of {} bytes, flags {:#x}",
                    info.interface,
                    info.method,
                    info.slot_count,
                    info.slot_size,
                    info.flags,
                );
            }
            Err(error) => {
                log::write(Level::Error, format_args!("{}: open: {error}", shown(interface)))
            }
        }
        opened
    }

    fn open_steps(interface: &[u8], config: &InjectorConfig) -> Result<Self> {
        let name = interface_name(interface)?;
        if interface == b"any" {
            return Err(Error::config(
                "interface",
                "frames leave by one interface, not \"any\": open an injector for each",
            ));
        }
        config.validate()?;
        let netns_fd = config.has(flags::NETNS_FD).then_some(config.netns_fd);
        let mut place = Place::elsewhere(netns_fd)?;
        let ifindex = place.find_interface(&name)?;
        let bound = MemoryBound::now(config.memory_limit);
        fork::claim()?;

        let socket = place.socket()?;
        let mtu = socket.interface_mtu(interface).map_err(|errno| match errno.0 {
            libc::ENODEV | libc::ENXIO => not_found(&name),
            _ => no_lookup("SIOCGIFMTU", &String::from_utf8_lossy(interface), errno),
        })?;
        let mut netlink = place.counters()?;
        let method = method(&socket, &name, config, netlink.as_mut())?;
        let geometry = Geometry::fitting(config, method, mtu, bound)?;
        let vnet = config.has(flags::VNET_HEADER);
        if method == Method::Ring {
            option(&socket, "PACKET_VERSION", SOL_PACKET, libc::PACKET_VERSION, TPACKET_V2)?;
        }
        if vnet {
            option(&socket, "PACKET_VNET_HDR", SOL_PACKET, PACKET_VNET_HDR, 1)?;
        }
        if config.has(flags::QDISC_BYPASS) {
            option(&socket, "PACKET_QDISC_BYPASS", SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
        }
        let requested_slot_count = geometry.requested;
        let mut shrunk_by: Vec<Bound> = geometry.shrunk_by.into_iter().collect();
        let (slots, geometry) = match slots(&socket, &geometry, config) {
            Ok(slots) => (slots, geometry),
            Err(error) => {
                let smaller = match error.os {
                    Some(libc::ENOMEM) => geometry.after_enomem(config),
                    _ => None,
                };
                let smaller = smaller.ok_or(error)?;
                shrunk_by.push(Bound::NoMemory);
                // Where it was the mapping that was refused the socket has a ring.
                let none = libc::tpacket_req {
                    tp_block_size: 0,
                    tp_block_nr: 0,
                    tp_frame_size: 0,
                    tp_frame_nr: 0,
                };
                let _ = socket.set(SOL_PACKET, libc::PACKET_TX_RING, &none);
                (slots(&socket, &smaller, config)?, smaller)
            }
        };
        for bound in &shrunk_by {
            log::warning!(
                "slots shrunk from {requested_slot_count} to {} of {} bytes by {}",
                geometry.count,
                geometry.capacity,
                bound.option()
            );
        }
        let send_buffer = grow_send_buffer(&socket, &geometry)?;
        let most_results = geometry.count.max(MOST_RESULTS) as usize;
        let stamps = match config.has(flags::TIMESTAMPS) {
            true => Some(stamps(&socket, &geometry, most_results)?),
            false => None,
        };
        let waiter = Waiter::new().map_err(no_waiter)?;
        let losses = netlink.and_then(|netlink| Losses::begin(netlink, ifindex));
        // Protocol 0: nothing is received.
        socket.bind(0, ifindex as i32).map_err(|errno| no_bind(errno, &name))?;
        let hardware = socket.bound().map_err(|errno| no_bind(errno, &name))?.sll_hatype;

        let info = InjectorInfo {
            method,
            slot_size: geometry.capacity,
            slot_count: geometry.count,
            requested_slot_count,
            shrunk_by,
            ifindex,
            link_type: link_type(hardware),
            mtu,
            frame_limit: 0,
            kernel_version: process::kernel_version(),
            send_buffer,
            flags: config.flags,
            memory: geometry.memory(),
            memory_bound: bound.bytes,
            interface: String::from_utf8_lossy(interface).into_owned(),
        };
        let state = State {
            order: Order::new(slots, geometry.count),
            interface: Interface::new(ifindex, hardware, mtu),
            pace: config.rate.map(Pace::new),
            capacity: geometry.capacity,
            flags: config.flags,
            copies: method == Method::Messages,
            results: VecDeque::new(),
            most_results,
            stamps,
            blocked: Blocked::Socket,
            stuck: false,
            failing: false,
            refused_since: None,
            give_up_after: GIVE_UP_AFTER,
            gave_up: None,
            stats: InjectorStats::default(),
            more: false,
            watched: false,
            has_sentry: false,
            sleepers: 0,
            told: 0,
        };
        Ok(Self {
            socket,
            waiter,
            state: Mutex::new(state),
            sleepers: Condvar::new(),
            info,
            last_error: Mutex::new(None),
            is_watched: AtomicBool::new(false),
            losses: Mutex::new(losses),
        })
    }
}

/// Bytes that frames on their way may hold at most: the kernel's memory, not the
/// slots'.
const MOST_ON_THEIR_WAY: u64 = 64 << 20;

/// The slots' memory, from the kernel.
fn slots(socket: &Socket, geometry: &Geometry, config: &InjectorConfig) -> Result<Slots> {
    let vnet = config.has(flags::VNET_HEADER);
    let length = usize::try_from(geometry.length()).unwrap_or(usize::MAX);
    match geometry.method {
        Method::Ring => {
            let request = libc::tpacket_req {
                tp_block_size: geometry.block_size,
                tp_block_nr: geometry.block_count,
                tp_frame_size: geometry.stride,
                tp_frame_nr: geometry.ring_count(),
            };
            socket
                .set(SOL_PACKET, libc::PACKET_TX_RING, &request)
                .map_err(|errno| no_ring(errno, geometry))?;
            let mapping = Mapping::shared(socket.fd(), length, false)
                .map_err(|errno| no_memory("mmap", errno, geometry))?;
            leave_out_of_dumps(&mapping);
            Ok(Slots::Ring(Ring::new(mapping, geometry, vnet)))
        }
        Method::Messages => {
            let memory =
                Mapping::anonymous(length).map_err(|errno| no_memory("mmap", errno, geometry))?;
            leave_out_of_dumps(&memory);
            let single = config.has(flags::TIMESTAMPS);
            Ok(Slots::Messages(Messages::new(memory, geometry, vnet, single)))
        }
    }
}

fn leave_out_of_dumps(mapping: &Mapping) {
    if let Err(errno) = mapping.advise(libc::MADV_DONTDUMP) {
        log::warning!("MADV_DONTDUMP failed ({errno}); core dumps will hold the slots");
    }
}

fn no_ring(errno: Errno, geometry: &Geometry) -> Error {
    if errno.0 == libc::ENOMEM {
        return no_memory("PACKET_TX_RING", errno, geometry);
    }
    Error::new(
        Kind::SockOpt,
        "PACKET_TX_RING",
        format!(
            "a ring of {} blocks of {} bytes was refused: {errno}",
            geometry.block_count, geometry.block_size
        ),
    )
    .with_os(errno.0)
}

fn no_memory(step: &'static str, errno: Errno, geometry: &Geometry) -> Error {
    Error::new(
        Kind::Mmap,
        step,
        format!(
            "memory for {} slots of {} bytes was refused: {errno}; reduce slot_count or \
             slot_size, or free memory",
            geometry.count, geometry.capacity
        ),
    )
    .with_os(errno.0)
}

/// Has what is sent stamped, and room for the stamps.
fn stamps(socket: &Socket, geometry: &Geometry, most: usize) -> Result<Stamps> {
    // Before, numbers were for UDP and TCP only (net/sock.h
    // skb_setup_tx_timestamp), and all stamps would have the same.
    const NUMBERED: u32 = 0x05_00_00;
    if process::kernel_version() < NUMBERED {
        return Err(Error::new(
            Kind::NotSupported,
            "SO_TIMESTAMPING",
            "NETRING_INJECTOR_TIMESTAMPS needs Linux 5.0: without it nothing tells which frame a \
             timestamp is of",
        ));
    }
    let level = libc::SOL_SOCKET;
    let wanted = Stamps::buffer(geometry.count);
    let size = || socket.get::<i32>(level, libc::SO_RCVBUF).unwrap_or(0).unsigned_abs();
    if size() < wanted {
        // As with the send buffer: doubled, cut, and without CAP_NET_ADMIN left at that.
        let half = (wanted / 2) as i32;
        option(socket, "SO_RCVBUF", level, libc::SO_RCVBUF, half)?;
        if size() < wanted {
            let _ = socket.set(level, libc::SO_RCVBUFFORCE, &half);
        }
    }
    Stamps::begin(socket, size(), most).map_err(|errno| {
        let message = format!("timestamps of what is sent were refused: {errno}");
        Error::new(Kind::SockOpt, "SO_TIMESTAMPING", message).with_os(errno.0)
    })
}

/// Has the send buffer hold the frames of all slots, as far as allowed: the kernel
/// counts frames on their way against it. What was granted.
fn grow_send_buffer(socket: &Socket, geometry: &Geometry) -> Result<u32> {
    // What the kernel has for a packet besides its bytes, with either method.
    const PACKET: u64 = 768;
    let level = libc::SOL_SOCKET;
    let size = || socket.get::<i32>(level, libc::SO_SNDBUF).unwrap_or(0);
    let wanted = (u64::from(geometry.capacity) + PACKET).saturating_mul(geometry.count.into());
    let wanted = wanted.min(MOST_ON_THEIR_WAY) as i32;
    if size() < wanted {
        // The kernel doubles the value, and cuts it at net.core.wmem_max.
        option(socket, "SO_SNDBUF", level, libc::SO_SNDBUF, wanted / 2)?;
    }
    if size() < wanted {
        // Without CAP_NET_ADMIN it stays as it is.
        let _ = socket.set(level, libc::SO_SNDBUFFORCE, &(wanted / 2));
    }
    Ok(size().unsigned_abs())
}
