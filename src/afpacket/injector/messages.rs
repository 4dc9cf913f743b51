//! Slots in plain memory, sent with sendmmsg(2): the kernel copies the frames, and
//! the slots are free when it returns.

use super::config::{FIRST_FRAME, Geometry, VNET_HEADER, VNET_ROOM};
use super::slots::{Handed, Stop};
use crate::afpacket::record::rewrite::Vnet;
use crate::sys::mmap::Mapping;
use crate::sys::socket::Socket;
use crate::sys::transmit;
use crate::sys::{Errno, Result};
use std::ptr::NonNull;

/// Most messages of one call (UIO_MAXIOV; net/socket.c __sys_sendmmsg cuts there).
const MOST: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Messages {
    /// By position; each points to its part.
    messages: Box<[libc::mmsghdr]>,
    /// By position: the frame, with the vnet header before it where there is one.
    parts: Box<[libc::iovec]>,
    /// Bytes of the vnet header, or 0.
    header: usize,
    /// Frames of one system call.
    most: u32,
    /// Holds the frames.
    _memory: Mapping,
}

// SAFETY: what its pointers point to is its own; frames are written under the
// injector's lock, or by whoever has a slot.
unsafe impl Send for Messages {}

impl Messages {
    /// Slots of this geometry in `memory`; `single`: a system call for each frame, which
    /// tells of each what became of it.
    pub(super) fn new(memory: Mapping, geometry: &Geometry, vnet: bool, single: bool) -> Self {
        let (before, header) = match vnet {
            true => ((VNET_ROOM - VNET_HEADER) as usize, VNET_HEADER as usize),
            false => (0, 0),
        };
        let part = |index| {
            let first = FIRST_FRAME as usize + before;
            let offset = index as usize * geometry.stride as usize + first;
            // SAFETY: `count` slots of `stride` bytes behind FIRST_FRAME are in the memory
            // (`Geometry::length`).
            let base = unsafe { memory.base().add(offset) };
            libc::iovec { iov_base: base.as_ptr().cast(), iov_len: 0 }
        };
        let mut parts: Box<[libc::iovec]> = (0..geometry.count).map(part).collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: integers and pointers, for which zero is a value.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let messages = parts.iter_mut().map(message).collect();
        let most = if single { 1 } else { MOST };
        Self { messages, parts, header, most, _memory: memory }
    }

    /// Slots.
    pub(super) fn count(&self) -> u32 {
        self.parts.len() as u32
    }

    /// Where the frame goes.
    pub(super) fn data(&self, index: u32) -> NonNull<u8> {
        let base = NonNull::new(self.parts[index as usize].iov_base.cast());
        // SAFETY: the header is before the frame, in the same slot.
        unsafe { base.unwrap_or(NonNull::dangling()).add(self.header) }
    }

    /// Says how long the frame is, and what is left to do for it.
    pub(super) fn put(&mut self, index: u32, len: u32, vnet: Vnet) {
        let part = &mut self.parts[index as usize];
        part.iov_len = len as usize + self.header;
        if self.header != 0 {
            // SAFETY: 10 bytes before the frame, at an even address, which nobody has a
            // reference to; a Vnet has the layout of struct virtio_net_hdr.
            unsafe { part.iov_base.cast::<Vnet>().write(vnet) };
        }
    }

    /// Moves a frame to another slot: the two change places.
    pub(super) fn relocate(&mut self, from: u32, to: u32) {
        self.parts.swap(from as usize, to as usize);
    }

    /// Sends `count` slots from `first` on.
    pub(super) fn hand_over(&mut self, socket: &Socket, first: u32, count: u32) -> Handed {
        let mut taken = 0;
        while taken < count {
            let mut index = first + taken;
            if index >= self.count() {
                index -= self.count();
            }
            let whole = (count - taken).min(self.count() - index).min(self.most);
            match self.send(socket, index as usize, whole) {
                Ok(sent) => taken += sent,
                Err(errno) => return Handed { taken, stop: Some(reason(errno)) },
            }
        }
        Handed { taken, stop: None }
    }

    /// Sends slots from `index` on, as many as there are up to the end at most.
    fn send(&mut self, socket: &Socket, index: usize, count: u32) -> Result<u32> {
        if count == 1 {
            // For one frame a message is dearer than its bytes.
            let part = self.parts[index];
            // SAFETY: the frame, and the header before it, as long as the slot at most.
            unsafe { transmit::send(socket, part.iov_base.cast(), part.iov_len)? };
            return Ok(1);
        }
        let messages = self.messages[index..].as_mut_ptr();
        // SAFETY: `count` messages from there on are in the array; their parts and
        // frames live as long as self.
        unsafe { transmit::send_messages(socket, messages, count) }
    }
}

/// What the error of a message is about.
fn reason(errno: Errno) -> Stop {
    match errno.0 {
        // af_packet.c packet_snd, and virtio_net_hdr_to_skb.
        libc::EMSGSIZE | libc::EINVAL | libc::EFAULT => Stop::Refused(errno),
        _ => Stop::Failed(errno),
    }
}
