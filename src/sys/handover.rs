//! Packet sockets that another process, with more privilege, has made. Others may
//! have the same socket, so that closing a descriptor ends nothing: at the end
//! everything that was done to it is undone, and it can be used again.

use super::file;
use super::filter::SockFilter;
use super::packet::{ETH_P_UNUSED, PACKET_IGNORE_OUTGOING, SOL_PACKET};
use super::socket::{Plain, Socket, attach_filter};
use super::{Errno, Result, check};
use parking_lot::Mutex;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};

/// Why a descriptor will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It stands for nothing.
    NotOpen,
    /// Not for a socket, or one of another family.
    NotPacket,
    /// Packets come without their link-layer header.
    NotRaw,
    /// It receives, or is bound to this interface (0: to all).
    Bound(i32),
    /// It is in a fanout group.
    InGroup,
    /// It has a ring.
    HasRing,
    /// This option was refused.
    Refused(&'static str, Errno),
}

/// The filter that a socket came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filtered {
    /// None.
    No,
    /// This one.
    By(Box<[SockFilter]>),
    /// One that cannot be read: eBPF.
    Otherwise,
}

/// What of a socket is to be undone.
#[derive(Debug)]
pub struct Lent {
    /// It is put back. Where it cannot be, what took its place stays.
    filtered: Filtered,
    /// Memberships, as they were joined.
    joined: Mutex<Vec<Box<[u8]>>>,
    /// Another process goes on with it.
    kept: bool,
}

/// A socket for the caller's descriptor, which stays the caller's. `kept`: it is
/// left as it is at the end, for a child that goes on with it.
pub fn take_over(fd: RawFd, kept: bool) -> std::result::Result<Socket, Unfit> {
    let own = file::duplicate(fd).map_err(|errno| match errno {
        Errno(libc::EBADF) => Unfit::NotOpen,
        errno => Unfit::Refused("F_DUPFD_CLOEXEC", errno),
    })?;
    let lent = Lent { filtered: Filtered::Otherwise, joined: Mutex::default(), kept: true };
    // Nothing is undone before it is known to be fit.
    let mut socket = Socket::lent(own, lent);
    fit(&socket)?;
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(socket.fd().as_raw_fd(), libc::F_GETFL) };
    // SAFETY: no pointers.
    let set =
        unsafe { libc::fcntl(socket.fd().as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
    check(set).map_err(|errno| Unfit::Refused("F_SETFL", errno))?;
    let filtered = filter_of(&socket);
    // What it has counted so far.
    let _ = socket.get::<libc::tpacket_stats_v3>(SOL_PACKET, libc::PACKET_STATISTICS);
    socket.lend(Lent { filtered, joined: Mutex::default(), kept });
    Ok(socket)
}

fn fit(socket: &Socket) -> std::result::Result<(), Unfit> {
    let domain = socket.get::<i32>(libc::SOL_SOCKET, libc::SO_DOMAIN);
    match domain {
        Ok(libc::AF_PACKET) => {}
        Ok(_) | Err(Errno(libc::ENOTSOCK)) => return Err(Unfit::NotPacket),
        Err(errno) => return Err(Unfit::Refused("SO_DOMAIN", errno)),
    }
    let refused = |option| move |errno| Unfit::Refused(option, errno);
    let kind = socket.get::<i32>(libc::SOL_SOCKET, libc::SO_TYPE).map_err(refused("SO_TYPE"))?;
    if kind != libc::SOCK_RAW {
        return Err(Unfit::NotRaw);
    }
    let group = socket.get::<i32>(SOL_PACKET, libc::PACKET_FANOUT).unwrap_or(0);
    if group != 0 {
        return Err(Unfit::InGroup);
    }
    // A version cannot be chosen while there is a ring.
    let version = socket.get::<i32>(SOL_PACKET, libc::PACKET_VERSION);
    let version = version.map_err(refused("PACKET_VERSION"))?;
    match socket.set(SOL_PACKET, libc::PACKET_VERSION, &version) {
        Err(Errno(libc::EBUSY)) => return Err(Unfit::HasRing),
        done => done.map_err(refused("PACKET_VERSION"))?,
    }
    let bound = socket.bound().map_err(refused("getsockname"))?;
    let receives = ![0, ETH_P_UNUSED].contains(&u16::from_be(bound.sll_protocol));
    if receives || bound.sll_ifindex > 0 {
        return Err(Unfit::Bound(bound.sll_ifindex));
    }
    Ok(())
}

fn filter_of(socket: &Socket) -> Filtered {
    // The first call says how many instructions there are; none where it is eBPF.
    let Ok(length) = read_filter(socket, &mut []) else { return Filtered::Otherwise };
    let mut program = vec![SockFilter::new(0, 0, 0, 0); length];
    match read_filter(socket, &mut program) {
        Ok(0) => Filtered::No,
        Ok(read) if read == length => Filtered::By(program.into()),
        _ => Filtered::Otherwise,
    }
}

/// SO_GET_FILTER: as many instructions as the socket's filter has, which have to
/// fit where there is room at all.
fn read_filter(socket: &Socket, room: &mut [SockFilter]) -> Result<usize> {
    let mut length = libc::socklen_t::try_from(room.len()).unwrap_or(0);
    // SAFETY: room for as many instructions, which is how this option counts.
    check(unsafe {
        libc::getsockopt(
            socket.fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            room.as_mut_ptr().cast(),
            &mut length,
        )
    })?;
    Ok(length as usize)
}

impl Lent {
    /// The filter that the socket came with.
    pub fn filtered(&self) -> &Filtered {
        &self.filtered
    }

    /// Takes note of an option that was set.
    pub(super) fn note<T: Plain>(&self, level: i32, name: i32, value: &T) {
        if level != SOL_PACKET {
            return;
        }
        // SAFETY: a live T, which is plain.
        let bytes = unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>())
        };
        let mut joined = self.joined.lock();
        match name {
            libc::PACKET_ADD_MEMBERSHIP => joined.push(bytes.into()),
            libc::PACKET_DROP_MEMBERSHIP => {
                if let Some(at) = joined.iter().position(|one| **one == *bytes) {
                    joined.swap_remove(at);
                }
            }
            _ => {}
        }
    }

    /// Undoes what was done to the socket. It cannot leave a fanout group.
    pub(super) fn give_back(self, socket: &Socket) {
        if self.kept {
            return;
        }
        for membership in self.joined.into_inner() {
            // SAFETY: live bytes and their number.
            unsafe {
                libc::setsockopt(
                    socket.fd().as_raw_fd(),
                    SOL_PACKET,
                    libc::PACKET_DROP_MEMBERSHIP,
                    membership.as_ptr().cast(),
                    membership.len() as libc::socklen_t,
                )
            };
        }
        // A member of a group cannot be bound to anything else: it rejects everything.
        let ended = socket.bind(ETH_P_UNUSED, 0).is_ok();
        let _ = match &self.filtered {
            _ if !ended => attach_filter(socket.fd(), &[SockFilter::new(0x06, 0, 0, 0)]),
            Filtered::No => socket.set(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0),
            Filtered::By(program) => attach_filter(socket.fd(), program),
            Filtered::Otherwise => Ok(()),
        };
        let none = libc::tpacket_req3 {
            tp_block_size: 0,
            tp_block_nr: 0,
            tp_frame_size: 0,
            tp_frame_nr: 0,
            tp_retire_blk_tov: 0,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        let _ = socket.set(SOL_PACKET, libc::PACKET_RX_RING, &none);
        for option in [
            PACKET_IGNORE_OUTGOING,
            libc::PACKET_RESERVE,
            libc::PACKET_VNET_HDR,
            libc::PACKET_TIMESTAMP,
        ] {
            let _ = socket.set(SOL_PACKET, option, &0);
        }
        // As long as a socket asks for stamps, the machine stamps every packet.
        let _ = socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &0);
    }
}
