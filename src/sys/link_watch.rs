//! rtnetlink's notices about one interface, by index (a rename does not
//! matter), in the network namespace the watch was opened in.
//!
//! A filter on the socket lets in nothing else, so that its descriptor is
//! readable exactly while there is something to tell: RTM_NEWLINK also tells of
//! carrier, MTU, statistics and more, in any number.

use super::filter::SockFilter;
use super::message::{u16_at, u32_at};
use super::socket::attach_filter;
use super::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// IFNAMSIZ.
const NAME_SIZE: usize = 16;
/// struct nlmsghdr and struct ifinfomsg; attributes follow.
const ATTRIBUTES: usize = 32;
const FAMILY: usize = 16;
const INDEX: usize = 20;
const FLAGS: usize = 24;

/// The namespace of attribute IFLA_NEW_NETNSID is the one the interface was
/// moved to (Linux 4.15, dev.c dev_change_net_namespace).
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_NEW_IFINDEX: u16 = 49;

/// What a watch tells of.
#[derive(Debug, Clone, Copy)]
pub enum Watched<'a> {
    /// The interface with this index is removed or moved to another namespace.
    Removal(u32),
    /// That, and: it goes up or down, or is no longer called so.
    Changes(u32, &'a [u8]),
    /// Anything about any interface.
    Everything,
    /// Nothing, for the present.
    Nothing,
}

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The interface.
    pub ifindex: u32,
    /// Its IFF_* flags.
    pub flags: u32,
    /// Its name, where the notice has it.
    pub name: Option<Vec<u8>>,
    /// It is gone from this namespace.
    pub gone: bool,
    /// It is in another namespace: under this id here (-1: it has none), with
    /// this index there (0: unknown).
    pub moved: Option<(i32, u32)>,
}

/// See the module.
#[derive(Debug)]
pub struct LinkWatch(OwnedFd);

impl LinkWatch {
    /// Watches in the caller's network namespace.
    pub fn open(watched: Watched<'_>) -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        let watch = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        watch.watch(watched)?;
        // SAFETY: integers only, its padding included.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        // SAFETY: a live sockaddr_nl and its size.
        check(unsafe {
            libc::bind(
                watch.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        })?;
        Ok(watch)
    }

    /// Watches something else from here on. Notices that are waiting stay.
    pub fn watch(&self, watched: Watched<'_>) -> Result<()> {
        attach_filter(self.fd(), &program(watched))
    }

    /// Forgets what was told; whoever asks looks at the socket it cares for.
    pub fn clear(&self) {
        let mut byte = 0_u8;
        let fd = self.0.as_raw_fd();
        // By read(2), which a program that is confined later still needs for eventfds.
        // That some were lost (ENOBUFS) comes first, and the others are behind it.
        // SAFETY: one writable byte; the rest of each message is discarded.
        while unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } >= 0
            || Errno::last() == Errno(libc::ENOBUFS)
        {}
    }

    /// The next notice; `None`: nothing is waiting.
    ///
    /// # Errors
    /// ENOBUFS: some were lost, because nobody took them; once.
    pub fn next(&self) -> Result<Option<Notice>> {
        // The kernel's messages are of a few KiB at most; what matters comes first.
        let mut message = vec![0_u8; 16 << 10];
        loop {
            // SAFETY: a live buffer and its length.
            let got = unsafe {
                libc::read(self.0.as_raw_fd(), message.as_mut_ptr().cast(), message.len())
            };
            let Ok(got) = usize::try_from(got) else {
                match Errno::last().0 {
                    libc::EAGAIN => return Ok(None),
                    libc::EINTR => continue,
                    errno => return Err(Errno(errno)),
                }
            };
            let notice = message.get(..got).and_then(parse);
            if notice.is_some() {
                return Ok(notice);
            }
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Filters load in network byte order; netlink's integers are in the host's.
fn loaded16(value: u16) -> u32 {
    u32::from(u16::from_be_bytes(value.to_ne_bytes()))
}

fn loaded32(value: u32) -> u32 {
    u32::from_be_bytes(value.to_ne_bytes())
}

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_IMMEDIATE: u16 = 0x00;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_BYTE_AT_X: u16 = 0x50;
const X_IMMEDIATE: u16 = 0x01;
const A_TO_X: u16 = 0x07;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
/// SKF_AD_OFF + SKF_AD_NLATTR: the offset, from A on, of the attribute X; 0:
/// there is none.
const FIND_ATTRIBUTE: u32 = (-0x1000_i32 + 12) as u32;

/// The filter: one condition after another, each of which jumps to `drop` or
/// `pass` at the end, or goes on.
fn program(watched: Watched<'_>) -> Vec<SockFilter> {
    let (ifindex, name) = match watched {
        Watched::Everything => return vec![SockFilter::new(RETURN, 0, 0, u32::MAX)],
        Watched::Nothing => return vec![SockFilter::new(RETURN, 0, 0, 0)],
        Watched::Removal(ifindex) => (ifindex, None),
        Watched::Changes(ifindex, name) => (ifindex, Some(name)),
    };
    // (load, condition, where to if it holds, where to if not)
    #[derive(Clone, Copy, PartialEq)]
    enum To {
        Next,
        Pass,
        Drop,
    }
    let mut steps: Vec<(SockFilter, Option<(To, To)>)> = Vec::new();
    let load = |code, k| (SockFilter::new(code, 0, 0, k), None);
    let test = |code, k, yes, no| (SockFilter::new(code, 0, 0, k), Some((yes, no)));
    steps.push(load(LOAD_WORD, INDEX as u32));
    steps.push(test(JUMP_EQUAL, loaded32(ifindex), To::Next, To::Drop));
    // Bridges tell of their ports in the same words (br_netlink.c br_ifinfo_notify).
    steps.push(load(LOAD_BYTE, FAMILY as u32));
    steps.push(test(JUMP_EQUAL, libc::AF_UNSPEC as u32, To::Next, To::Drop));
    steps.push(load(LOAD_HALF, 4));
    let other = if name.is_some() { To::Next } else { To::Drop };
    steps.push(test(JUMP_EQUAL, loaded16(libc::RTM_DELLINK), To::Pass, other));
    if let Some(name) = name {
        steps.push(test(JUMP_EQUAL, loaded16(libc::RTM_NEWLINK), To::Next, To::Drop));
        // ifi_change says what a notice is about: up and down (dev.c
        // dev_open, __dev_notify_flags); 0 for a new name, among others.
        steps.push(load(LOAD_WORD, FLAGS as u32 + 4));
        steps.push(test(JUMP_SET, loaded32(libc::IFF_UP as u32), To::Pass, To::Next));
        steps.push(load(X_IMMEDIATE, libc::IFLA_IFNAME.into()));
        steps.push(load(LOAD_IMMEDIATE, ATTRIBUTES as u32));
        steps.push(load(LOAD_WORD, FIND_ATTRIBUTE));
        steps.push(test(JUMP_EQUAL, 0, To::Drop, To::Next));
        steps.push(load(A_TO_X, 0));
        let mut bytes = name.to_vec();
        bytes.truncate(NAME_SIZE - 1);
        bytes.push(0);
        let words = bytes.chunks_exact(4);
        let mut at = 4;
        let rest = words.remainder().to_vec();
        for word in words {
            let word = word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
            steps.push(load(LOAD_WORD_AT_X, at));
            steps.push(test(JUMP_EQUAL, word, To::Next, To::Pass));
            at += 4;
        }
        for byte in rest {
            steps.push(load(LOAD_BYTE_AT_X, at));
            steps.push(test(JUMP_EQUAL, byte.into(), To::Next, To::Pass));
            at += 1;
        }
    }
    let drop = steps.len();
    let mut program = Vec::with_capacity(drop + 2);
    for (at, (mut step, ways)) in steps.into_iter().enumerate() {
        if let Some((yes, no)) = ways {
            let jump = |to| match to {
                To::Next => 0,
                To::Drop => (drop - at - 1) as u8,
                To::Pass => (drop - at) as u8,
            };
            (step.jt, step.jf) = (jump(yes), jump(no));
        }
        program.push(step);
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}

/// `None`: not a notice about an interface.
fn parse(message: &[u8]) -> Option<Notice> {
    let kind = u16_at(message, 4)?;
    let ours = [libc::RTM_NEWLINK, libc::RTM_DELLINK].contains(&kind);
    if !ours || *message.get(FAMILY)? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let mut notice = Notice {
        ifindex: u32_at(message, INDEX)?,
        flags: u32_at(message, FLAGS)?,
        name: None,
        gone: kind == libc::RTM_DELLINK,
        moved: None,
    };
    let mut at = ATTRIBUTES;
    while let Some(length) = u16_at(message, at).map(usize::from) {
        let Some(body) = message.get(at..).and_then(|rest| rest.get(4..length)) else { break };
        match u16_at(message, at + 2) {
            Some(libc::IFLA_IFNAME) => {
                let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
                notice.name = Some(body[..end].to_vec());
            }
            Some(IFLA_NEW_NETNSID) => {
                let index = notice.moved.map_or(0, |(_, index)| index);
                notice.moved = Some((u32_at(body, 0)? as i32, index));
            }
            Some(IFLA_NEW_IFINDEX) => {
                let id = notice.moved.map_or(-1, |(id, _)| id);
                notice.moved = Some((id, u32_at(body, 0)?));
            }
            _ => {}
        }
        at += length.next_multiple_of(4);
    }
    Some(notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as rtnetlink.c rtnl_fill_ifinfo begins it.
    fn message(kind: u16, family: u8, ifindex: u32, change: u32, name: &str) -> Vec<u8> {
        let mut bytes = vec![0_u8; ATTRIBUTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[FAMILY] = family;
        bytes[INDEX..INDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        bytes[FLAGS..FLAGS + 4].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        bytes[FLAGS + 4..FLAGS + 8].copy_from_slice(&change.to_ne_bytes());
        attribute(&mut bytes, libc::IFLA_IFNAME, format!("{name}\0").as_bytes());
        bytes
    }

    fn attribute(bytes: &mut Vec<u8>, kind: u16, body: &[u8]) {
        bytes.extend_from_slice(&(4 + body.len() as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    #[test]
    fn notices() {
        let mut bytes = message(libc::RTM_DELLINK, 0, 7, 0, "veth0");
        let gone = parse(&bytes).unwrap();
        assert!(gone.gone && gone.moved.is_none() && gone.ifindex == 7);
        assert_eq!(gone.name.as_deref(), Some(&b"veth0"[..]));
        attribute(&mut bytes, IFLA_NEW_NETNSID, &3_i32.to_ne_bytes());
        attribute(&mut bytes, IFLA_NEW_IFINDEX, &9_u32.to_ne_bytes());
        assert_eq!(parse(&bytes).unwrap().moved, Some((3, 9)));
        assert!(parse(&message(libc::RTM_NEWLINK, libc::AF_BRIDGE as u8, 7, 0, "x")).is_none());
        for length in 0..bytes.len() {
            // Cut anywhere: never more than it holds.
            let _ = parse(&bytes[..length]);
        }
        let at = ATTRIBUTES;
        bytes[at..at + 2].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(parse(&bytes).unwrap().name, None);
        bytes[at..at + 2].copy_from_slice(&0_u16.to_ne_bytes());
        assert_eq!(parse(&bytes).unwrap().name, None);
    }

    #[test]
    fn the_programs_are_ones_the_kernel_takes() {
        let watch = LinkWatch::open(Watched::Removal(7)).unwrap();
        for length in 0..20 {
            watch.watch(Watched::Changes(7, &vec![b'x'; length])).unwrap();
        }
        watch.watch(Watched::Everything).unwrap();
    }

    /// A socket filter sees a message on a unix socket as it does on netlink.
    #[test]
    fn only_what_matters_passes() {
        let (to, from) = std::os::unix::net::UnixDatagram::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let passes = |watched: Watched<'_>, message: &[u8]| {
            attach_filter(from.as_fd(), &program(watched)).unwrap();
            to.send(message).unwrap();
            from.recv(&mut [0; 256]).is_ok()
        };
        let up = libc::IFF_UP as u32;
        let other = message(libc::RTM_DELLINK, 0, 8, 0, "veth0");
        let gone = message(libc::RTM_DELLINK, 0, 7, 0, "veth0");
        let port = message(libc::RTM_DELLINK, libc::AF_BRIDGE as u8, 7, 0, "veth0");
        let down = message(libc::RTM_NEWLINK, 0, 7, up, "veth0");
        for watched in [Watched::Removal(7), Watched::Changes(7, b"veth0")] {
            assert!(passes(watched, &gone), "{watched:?}");
            assert!(!passes(watched, &other), "{watched:?}");
            assert!(!passes(watched, &port), "{watched:?}");
        }
        assert!(!passes(Watched::Removal(7), &down));
        assert!(passes(Watched::Changes(7, b"veth0"), &down));
        assert!(passes(Watched::Everything, &other));
        assert!(!passes(Watched::Nothing, &gone));
        // Neither up nor down: a new name, or nothing of interest.
        for name in ["a", "ab", "abc", "abcd", "veth0", "fifteen-bytes-x"] {
            let about = |called: &str| message(libc::RTM_NEWLINK, 0, 7, 0, called);
            let watched = Watched::Changes(7, name.as_bytes());
            assert!(!passes(watched, &about(name)), "{name}");
            for called in ["b", "ac", "abd", "abcde", "veth1", "veth", "fifteen-bytes-y"] {
                assert!(passes(watched, &about(called)), "{name} is now {called}");
            }
            assert!(!passes(watched, &message(libc::RTM_NEWLINK, 0, 8, 0, "b")));
        }
    }
}
