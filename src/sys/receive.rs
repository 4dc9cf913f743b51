//! Receiving on packet sockets, many packets a call.

use super::packet::SOL_PACKET;
use super::socket::Socket;
use super::{Errno, Result};
use std::fmt;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;

/// Bytes of a struct virtio_net_hdr.
pub const VNET_HEADER: usize = 10;

/// Room for one control message with a struct tpacket_auxdata, and aligned as one.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// struct cmsghdr: the length, and what it is.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();
const AUXDATA: usize = size_of::<libc::tpacket_auxdata>();
const CONTROL: usize = (CONTROL_HEADER + AUXDATA).next_multiple_of(8);

/// What is at one place of the array.
struct Place {
    header: [u8; VNET_HEADER],
    pieces: [libc::iovec; 2],
    name: libc::sockaddr_ll,
    control: Control,
}

/// What came, as the kernel tells it.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Bytes written where it was to go.
    pub len: u32,
    /// It had more.
    pub truncated: bool,
    /// Its struct virtio_net_hdr: in host byte order (af_packet.c packet_rcv_vnet,
    /// vio_le).
    pub header: [u8; VNET_HEADER],
    /// PACKET_HOST and so on.
    pub kind: u8,
    /// EtherType.
    pub protocol: u16,
    /// Bytes it had, without a tag that was taken out; TP_STATUS_*; where its
    /// network header begins; the tag.
    pub aux: Aux,
}

/// As far as it matters, struct tpacket_auxdata.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aux {
    /// TP_STATUS_*.
    pub status: u32,
    /// Bytes.
    pub len: u32,
    /// Where the network header begins.
    pub net: u16,
    /// The tag, with TP_STATUS_VLAN_VALID.
    pub vlan_tci: u16,
    /// Its EtherType, with TP_STATUS_VLAN_TPID_VALID.
    pub vlan_tpid: u16,
}

/// An array for recvmmsg(2), on a socket with PACKET_VNET_HDR and PACKET_AUXDATA.
/// Each place is aimed at memory of the caller's.
pub struct Messages {
    headers: Box<[libc::mmsghdr]>,
    /// Never moved: `headers` points into it.
    places: Box<[Place]>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("count", &self.headers.len()).finish()
    }
}

// SAFETY: the pointers lead to memory of its own, which goes with it, and to what
// `aim` was promised to be there whatever the thread.
unsafe impl Send for Messages {}

impl Messages {
    /// So many places, which are aimed nowhere.
    pub fn new(count: usize) -> Self {
        let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut places: Box<[Place]> = (0..count)
            .map(|_| Place {
                header: [0; VNET_HEADER],
                pieces: [nowhere; 2],
                // SAFETY: integers only.
                name: unsafe { MaybeUninit::zeroed().assume_init() },
                control: Control([0; CONTROL]),
            })
            .collect();
        let headers = places
            .iter_mut()
            .map(|place| {
                place.pieces[0] =
                    libc::iovec { iov_base: (&raw mut place.header).cast(), iov_len: VNET_HEADER };
                // SAFETY: integers and pointers; all zero is an empty message.
                let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
                header.msg_hdr.msg_name = (&raw mut place.name).cast();
                header.msg_hdr.msg_iov = (&raw mut place.pieces).cast();
                header.msg_hdr.msg_iovlen = 2;
                header.msg_hdr.msg_control = (&raw mut place.control).cast();
                header
            })
            .collect();
        let mut messages = Self { headers, places };
        for at in 0..count {
            messages.ready(at);
        }
        messages
    }

    /// The kernel writes what it used of these.
    fn ready(&mut self, at: usize) {
        let header = &mut self.headers[at].msg_hdr;
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_controllen = CONTROL as _;
        header.msg_flags = 0;
    }

    /// Has packets of place `at` written to `data`.
    ///
    /// # Safety
    /// `room` bytes are writable there, whatever the thread, until the place is aimed
    /// elsewhere or never received into again.
    pub unsafe fn aim(&mut self, at: usize, data: *mut u8, room: u32) {
        self.places[at].pieces[1] = libc::iovec { iov_base: data.cast(), iov_len: room as usize };
    }

    /// Receives up to `count` packets at places `first` and behind, without waiting:
    /// how many; 0 where there is none.
    ///
    /// # Errors
    /// The kernel's, of the first packet; those of later ones come with the next call
    /// (socket.c do_recvmmsg). EINVAL: a packet whose virtio_net_hdr it cannot make is
    /// gone (packet_rcv_vnet). ENETDOWN: the link went down meanwhile.
    pub fn receive(&mut self, socket: &Socket, first: usize, count: usize) -> Result<usize> {
        let Some(headers) = self.headers.get_mut(first..first + count) else {
            return Err(Errno(libc::ERANGE));
        };
        let got = super::uninterrupted(|| {
            // SAFETY: as many messages, which point to their places and to what they are
            // aimed at; the kernel writes no more than they say.
            let got = unsafe {
                libc::recvmmsg(
                    socket.fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    count as u32,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            got as libc::ssize_t
        });
        match got {
            Err(Errno(libc::EAGAIN)) => Ok(0),
            got => got,
        }
    }

    /// What came at a place, once.
    pub fn take(&mut self, at: usize) -> Message {
        let header = &self.headers[at];
        let place = &self.places[at];
        #[allow(clippy::unnecessary_cast)] // of another type in musl
        let control = header.msg_hdr.msg_controllen as usize;
        let whole = header.msg_len as usize;
        let message = Message {
            len: whole.saturating_sub(VNET_HEADER) as u32,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            header: place.header,
            kind: place.name.sll_pkttype,
            protocol: u16::from_be(place.name.sll_protocol),
            aux: place.control.aux(control),
        };
        self.ready(at);
        message
    }
}

impl Control {
    /// What the kernel wrote; it puts this one message there, or none.
    fn aux(&self, length: usize) -> Aux {
        if length < CONTROL_HEADER + AUXDATA {
            return Aux::default();
        }
        let at: *const u8 = self.0.as_ptr();
        // SAFETY: aligned, and long enough.
        let header = unsafe { at.cast::<libc::cmsghdr>().read() };
        if header.cmsg_level != SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
            return Aux::default();
        }
        // SAFETY: behind the header, inside the array.
        let data = unsafe { at.add(CONTROL_HEADER) };
        // SAFETY: as many bytes are there, and aligned.
        let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read() };
        Aux {
            status: aux.tp_status,
            len: aux.tp_len,
            net: aux.tp_net,
            vlan_tci: aux.tp_vlan_tci,
            vlan_tpid: aux.tp_vlan_tpid,
        }
    }
}
