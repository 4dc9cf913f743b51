//! Transmit timestamps, from a socket's error queue (networking/timestamping.rst).

use super::message::{u32_at, u64_at};
use super::packet::SOL_PACKET;
use super::socket::Socket;
use super::{Errno, Result, check};
use std::os::fd::AsRawFd;

/// linux/net_tstamp.h SOF_TIMESTAMPING_*: the time at which the driver has a packet, by
/// the kernel's clock, with a number of the packet's and without its bytes.
const TX_SOFTWARE: i32 = 1 << 1;
const SOFTWARE: i32 = 1 << 4;
const OPT_ID: i32 = 1 << 7;
const OPT_TSONLY: i32 = 1 << 11;
/// linux/if_packet.h.
const PACKET_TX_TIMESTAMP: u32 = 16;
/// linux/errqueue.h.
const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
const SCM_TSTAMP_SND: u32 = 0;

/// Has what is sent from here on stamped, with numbers from 0 on (net/core/sock.c
/// sock_set_timestamping resets them where OPT_ID was off).
pub fn number_anew(socket: &Socket) -> Result<()> {
    let set = |flags| socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &flags);
    set(0)?;
    set(TX_SOFTWARE | SOFTWARE | OPT_ID | OPT_TSONLY)
}

/// Messages of one recvmmsg(2).
const BATCH: usize = 64;
/// Bytes of the control messages of a stamp: struct scm_timestamping and struct
/// sock_extended_err take 96.
const CONTROL: usize = 128;

/// Where stamps are read into.
#[derive(Debug)]
pub struct Queue {
    controls: Box<[[u64; CONTROL / 8]; BATCH]>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { controls: Box::new([[0; CONTROL / 8]; BATCH]) }
    }
}

impl Queue {
    /// Takes what stamps have come, without waiting: number and nanoseconds since
    /// 1970-01-01 UTC of each.
    pub fn read(&mut self, socket: &Socket, mut each: impl FnMut(u32, u64)) {
        loop {
            let read = self.receive(socket, &mut each).unwrap_or(0);
            if read < BATCH {
                return;
            }
        }
    }

    fn receive(&mut self, socket: &Socket, each: &mut impl FnMut(u32, u64)) -> Result<usize> {
        // SAFETY: integers and pointers, for which zero is a value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (message, control) in messages.iter_mut().zip(self.controls.iter_mut()) {
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL as _;
        }
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        let fd = socket.fd().as_raw_fd();
        let (first, no_limit) = (messages.as_mut_ptr(), std::ptr::null_mut());
        let read = loop {
            // SAFETY: so many messages, each with room for its control messages.
            let read = unsafe { libc::recvmmsg(fd, first, BATCH as _, flags as _, no_limit) };
            match check(read) {
                Err(Errno(libc::EINTR)) => {}
                read => break read? as usize,
            }
        };
        for (message, control) in messages.iter().zip(self.controls.iter()).take(read) {
            // Of another width with musl.
            let length = (message.msg_hdr.msg_controllen as u64).min(CONTROL as u64) as usize;
            let mut bytes = [0; CONTROL];
            for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
                to.copy_from_slice(&from.to_ne_bytes());
            }
            if let Some((number, time_ns)) = stamp(&bytes[..length]) {
                each(number, time_ns);
            }
        }
        Ok(read)
    }
}

/// Number and time of a stamp; `None`: it is something else.
fn stamp(control: &[u8]) -> Option<(u32, u64)> {
    // struct cmsghdr: length (with it), level, type; each aligned to 8.
    const HEADER: usize = 16;
    let (mut number, mut time) = (None, None);
    let mut rest = control;
    while let (Some(length), Some(level), Some(kind)) =
        (u64_at(rest, 0), u32_at(rest, 8), u32_at(rest, 12))
    {
        let length = usize::try_from(length).ok()?;
        let data = rest.get(HEADER..length)?;
        match (level as i32, kind) {
            (libc::SOL_SOCKET, kind) if kind as i32 == libc::SO_TIMESTAMPING => {
                // struct scm_timestamping: the first is the kernel's clock.
                let (seconds, nanoseconds) = (u64_at(data, 0)?, u64_at(data, 8)?);
                time = Some(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds));
            }
            (SOL_PACKET, PACKET_TX_TIMESTAMP) => {
                // struct sock_extended_err: errno, origin, type, code, info, data.
                let errno = u32_at(data, 0)? as i32;
                let is_stamp = errno == libc::ENOMSG
                    && data.get(4) == Some(&SO_EE_ORIGIN_TIMESTAMPING)
                    && u32_at(data, 8)? == SCM_TSTAMP_SND;
                number = if is_stamp { u32_at(data, 12) } else { None };
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Some((number?, time.filter(|time| *time != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + data.len() as u64).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn time(seconds: u64, nanoseconds: u64) -> Vec<u8> {
        let mut data = [seconds, nanoseconds].map(u64::to_ne_bytes).concat();
        data.resize(48, 0);
        message(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &data)
    }

    fn error(errno: i32, origin: u8, info: u32, number: u32) -> Vec<u8> {
        let mut data = errno.to_ne_bytes().to_vec();
        data.extend([origin, 0, 0, 0]);
        data.extend(info.to_ne_bytes());
        data.extend(number.to_ne_bytes());
        message(SOL_PACKET, PACKET_TX_TIMESTAMP as i32, &data)
    }

    #[test]
    fn stamps_are_read_and_nothing_else() {
        let good = [time(5, 7), error(libc::ENOMSG, 4, 0, 0xfeed)].concat();
        assert_eq!(stamp(&good), Some((0xfeed, 5_000_000_007)));
        for bad in [
            vec![],
            time(5, 7),
            error(libc::ENOMSG, 4, 0, 1),
            [time(0, 0), error(libc::ENOMSG, 4, 0, 1)].concat(),
            [time(5, 7), error(libc::EMSGSIZE, 4, 0, 1)].concat(),
            [time(5, 7), error(libc::ENOMSG, 2, 0, 1)].concat(),
            // SCM_TSTAMP_SCHED
            [time(5, 7), error(libc::ENOMSG, 4, 1, 1)].concat(),
        ] {
            assert_eq!(stamp(&bad), None);
        }
        for end in 0..good.len() {
            assert_eq!(stamp(&good[..end]), None);
        }
        let mut zero = good;
        zero[..8].fill(0);
        assert_eq!(stamp(&zero), None);
    }
}
