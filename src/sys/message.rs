//! Netlink messages: requests, and answers of one part or of many. What comes
//! back is read with checks; nothing in it is believed.

use super::{Errno, Result, check, uninterrupted};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// The two highest bits of an attribute's type are flags.
const TYPE: u16 = 0x3fff;
/// The kernel makes parts of at most 32 KiB.
const BUFFER: usize = 64 * 1024;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A request in the making.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    dump: bool,
}

impl Request {
    /// One of this type, with the fixed part of its body.
    pub fn new(kind: u16, dump: bool, fixed: &[u8]) -> Self {
        let flags = libc::NLM_F_REQUEST | if dump { libc::NLM_F_DUMP } else { 0 };
        let mut bytes = vec![0; HEADER];
        put(&mut bytes, 4, &kind.to_ne_bytes());
        put(&mut bytes, 6, &(flags as u16).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes, dump }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = bytes.len() as u32;
        put(&mut bytes, 0, &length.to_ne_bytes());
        put(&mut bytes, 8, &sequence.to_ne_bytes());
        bytes
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Something changed meanwhile: parts may be missing, or there twice.
    pub interrupted: bool,
}

/// A netlink socket, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Port {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Port {
    /// Opens one of a netlink protocol (NETLINK_ROUTE, NETLINK_GENERIC).
    pub fn open(protocol: i32) -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends a request; `part` gets type and body of every message that comes
    /// back.
    pub fn ask(&mut self, request: &Request, mut part: impl FnMut(u16, &[u8])) -> Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        let fd = self.socket.as_raw_fd();
        self.forget()?;
        // SAFETY: a live buffer and its length.
        uninterrupted(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) })?;
        let mut interrupted = false;
        loop {
            let buffer = &mut self.buffer;
            // MSG_TRUNC: the length that it has, though it may not fit.
            // SAFETY: a live buffer and its length.
            let got = uninterrupted(|| unsafe {
                libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
            })?;
            let datagram = buffer.get(..got).ok_or(Errno(libc::EMSGSIZE))?;
            let asked = Asked { sequence: self.sequence, dump: request.dump };
            if walk(datagram, asked, &mut interrupted, &mut part)? {
                return Ok(Answer { interrupted });
            }
        }
    }

    /// Makes room: what an earlier request left, whose answer could not be read.
    /// Where the queue is full of that, the kernel drops an answer unsaid.
    fn forget(&self) -> Result<()> {
        let mut byte = 0_u8;
        loop {
            // SAFETY: one writable byte; the rest of each message is discarded.
            let got = uninterrupted(|| unsafe {
                let to = (&raw mut byte).cast();
                libc::recv(self.socket.as_raw_fd(), to, 1, libc::MSG_DONTWAIT)
            });
            match got {
                Ok(_) | Err(Errno(libc::ENOBUFS)) => {}
                Err(Errno(libc::EAGAIN)) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// What the answer is to.
#[derive(Debug, Clone, Copy)]
struct Asked {
    sequence: u32,
    dump: bool,
}

/// The messages of a datagram. Returns whether the answer ends in it: a dump's
/// ends with NLMSG_DONE (not every family marks its parts NLM_F_MULTI), any
/// other is one message.
fn walk(
    datagram: &[u8],
    asked: Asked,
    interrupted: &mut bool,
    part: &mut impl FnMut(u16, &[u8]),
) -> Result<bool> {
    let mut rest = datagram;
    loop {
        let head = (|| Some((u32_at(rest, 0)?, u16_at(rest, 4)?, u16_at(rest, 6)?)))();
        let Some((length, kind, flags)) = head else {
            // No room for another one: the next datagram goes on.
            return if rest.is_empty() { Ok(false) } else { Err(Errno(libc::EPROTO)) };
        };
        let length = length as usize;
        let body = rest.get(HEADER..length).ok_or(Errno(libc::EPROTO))?;
        let ours = u32_at(rest, 8) == Some(asked.sequence);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if !ours {
            continue;
        }
        *interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match i32::from(kind) {
            libc::NLMSG_NOOP => {}
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                // Without a number, or with 0: all is well.
                let code = u32_at(body, 0).unwrap_or(0) as i32;
                return if code < 0 { Err(Errno(code.saturating_neg())) } else { Ok(true) };
            }
            libc::NLMSG_OVERRUN => return Err(Errno(libc::EOVERFLOW)),
            _ => {
                part(kind, body);
                if !asked.dump {
                    return Ok(true);
                }
            }
        }
    }
}

/// The attributes in these bytes: type and value, up to the first that does
/// not fit.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE;
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number at an offset, if it lies in there.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// See [`u16_at`].
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// See [`u16_at`].
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Request::new(kind, false, body).finish(sequence);
        put(&mut bytes, 6, &flags.to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn walked(datagram: &[u8]) -> (Result<bool>, bool, Vec<(u16, usize)>) {
        walked_as(false, datagram)
    }

    fn walked_as(dump: bool, datagram: &[u8]) -> (Result<bool>, bool, Vec<(u16, usize)>) {
        let (mut interrupted, mut parts) = (false, Vec::new());
        let end = walk(
            datagram,
            Asked { sequence: 7, dump },
            &mut interrupted,
            &mut |kind, body: &[u8]| {
                parts.push((kind, body.len()));
            },
        );
        (end, interrupted, parts)
    }

    #[test]
    fn answers() {
        const MULTI: u16 = libc::NLM_F_MULTI as u16;
        let mut dump = message(16, 0, 7, &[0; 5]);
        dump.extend(message(99, MULTI, 6, &[0; 4])); // of an older request
        dump.extend(message(16, MULTI | NLM_F_DUMP_INTR, 7, &[0; 8]));
        assert_eq!(walked_as(true, &dump), (Ok(false), true, vec![(16, 5), (16, 8)]));
        dump.extend(message(libc::NLMSG_DONE as u16, MULTI, 7, &[0; 4]));
        assert_eq!(walked_as(true, &dump).0, Ok(true));
        assert_eq!(walked(&message(16, 0, 7, &[])).0, Ok(true));
        let error =
            |code: i32| walked(&message(libc::NLMSG_ERROR as u16, 0, 7, &code.to_ne_bytes()));
        assert_eq!(error(-libc::ENODEV).0, Err(Errno(libc::ENODEV)));
        assert_eq!(error(0).0, Ok(true));
        assert_eq!(error(i32::MIN).0, Err(Errno(i32::MAX)));
        let overrun = message(libc::NLMSG_OVERRUN as u16, 0, 7, &[]);
        assert_eq!(walked(&overrun).0, Err(Errno(libc::EOVERFLOW)));
    }

    #[test]
    fn broken_messages() {
        assert_eq!(walked(&[]).0, Ok(false));
        assert_eq!(walked(&[1, 2, 3]).0, Err(Errno(libc::EPROTO)));
        let whole = message(16, 0, 7, &[0; 12]);
        for end in 1..whole.len() {
            assert_eq!(walked(&whole[..end]).0, Err(Errno(libc::EPROTO)), "{end}");
        }
        for length in [0_u32, 1, 15, 29, u32::MAX, u32::MAX - 3] {
            let mut bytes = whole.clone();
            put(&mut bytes, 0, &length.to_ne_bytes());
            assert_eq!(walked(&bytes).0, Err(Errno(libc::EPROTO)), "{length}");
        }
    }

    #[test]
    fn broken_attributes() {
        let good = Request::new(0, false, &[]).with(1, b"abc").with(0x8002, &[9; 8]);
        let bytes = &good.bytes[HEADER..];
        let all: Vec<_> = attributes(bytes).collect();
        assert_eq!(all, [(1, &b"abc"[..]), (2, &[9; 8][..])]);
        for end in 0..bytes.len() {
            assert!(attributes(&bytes[..end]).count() < 2);
        }
        for length in [0_u16, 1, 3, 21, u16::MAX] {
            let mut bytes = bytes.to_vec();
            put(&mut bytes, 0, &length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
    }
}
