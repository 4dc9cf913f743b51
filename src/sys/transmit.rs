//! Sending on packet sockets.

use super::socket::{Socket, named};
use super::{Result, check, uninterrupted};
use std::os::fd::AsRawFd;

/// Has the kernel send what is marked in the socket's transmit ring, as far as it
/// takes it without waiting (af_packet.c tpacket_snd). Frames before the one that it
/// stopped at were taken, whatever this returns.
pub fn kick(socket: &Socket) -> Result<()> {
    uninterrupted(|| {
        // SAFETY: no bytes.
        unsafe { libc::send(socket.fd().as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT) }
    })?;
    Ok(())
}

/// send(2) of one frame without waiting.
///
/// # Safety
/// `len` bytes at `frame` are readable.
pub unsafe fn send(socket: &Socket, frame: *const u8, len: usize) -> Result<()> {
    uninterrupted(|| {
        // SAFETY: the caller's promise.
        unsafe { libc::send(socket.fd().as_raw_fd(), frame.cast(), len, libc::MSG_DONTWAIT) }
    })?;
    Ok(())
}

/// sendmmsg(2) without waiting: how many of the messages were sent; an error is
/// that of the first.
///
/// # Safety
/// `messages` points to `count` messages whose memory is readable.
pub unsafe fn send_messages(
    socket: &Socket,
    messages: *mut libc::mmsghdr,
    count: u32,
) -> Result<u32> {
    let sent = uninterrupted(|| {
        // SAFETY: the caller's promise.
        let sent =
            unsafe { libc::sendmmsg(socket.fd().as_raw_fd(), messages, count, libc::MSG_DONTWAIT) };
        sent as libc::ssize_t
    })?;
    Ok(sent as u32)
}

impl Socket {
    /// Bytes of memory that frames on their way hold (SIOCOUTQ): 0 once the kernel
    /// is done with all of them.
    pub fn send_queue(&self) -> Result<u32> {
        let mut bytes = 0_i32;
        // SAFETY: a live integer.
        check(unsafe { libc::ioctl(self.fd().as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) })?;
        Ok(bytes.unsigned_abs())
    }

    /// The MTU of the interface with this name.
    pub fn interface_mtu(&self, name: &[u8]) -> Result<u32> {
        let mut request = named(name)?;
        self.interface_request(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.unsigned_abs())
    }
}
