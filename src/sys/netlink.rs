//! rtnetlink: the counters of one interface, by index (a rename does not
//! matter), in the network namespace it was opened in.

use super::{Errno, Result, check, uninterrupted};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const IFLA_STATS64: u16 = 23;

/// What the interface itself lost, since it exists (struct rtnl_link_stats64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Dropped by the host before any socket saw them.
    pub rx_dropped: u64,
    /// Lost in the device's FIFO.
    pub rx_fifo: u64,
    /// Missed by the device: no buffer was free.
    pub rx_missed: u64,
}

/// A route netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one in the caller's network namespace.
    pub fn open() -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Asks for the counters of the interface with this index.
    pub fn link_counters(&self, ifindex: u32) -> Result<LinkCounters> {
        let mut request = Vec::with_capacity(32);
        // struct nlmsghdr
        request.extend_from_slice(&32_u32.to_ne_bytes());
        request.extend_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
        request.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        // struct ifinfomsg: family, type, index, flags, change
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(&ifindex.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);

        let fd = self.0.as_raw_fd();
        // SAFETY: a live buffer and its length.
        uninterrupted(|| unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) })?;
        let mut reply = vec![0_u8; 32 * 1024];
        let (buffer, length) = (reply.as_mut_ptr(), reply.len());
        // SAFETY: a live buffer and its length.
        let got = uninterrupted(|| unsafe { libc::recv(fd, buffer.cast(), length, 0) })?;
        parse(reply.get(..got).unwrap_or_default()).unwrap_or(Err(Errno(libc::EPROTO)))
    }
}

/// The integer at an offset; `None` behind the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// `None`: not a message of the expected form.
fn parse(reply: &[u8]) -> Option<Result<LinkCounters>> {
    match u16_at(reply, 4)? {
        libc::RTM_NEWLINK => {}
        kind if i32::from(kind) == libc::NLMSG_ERROR => {
            let code = u32_at(reply, 16)? as i32;
            return Some(Err(Errno(code.checked_neg()?)));
        }
        _ => return None,
    }
    let mut at = 32_usize;
    loop {
        let length = usize::from(u16_at(reply, at)?);
        if u16_at(reply, at.checked_add(2)?)? == IFLA_STATS64 {
            let body = reply.get(at.checked_add(4)?..at.checked_add(length)?)?;
            return Some(Ok(LinkCounters {
                rx_dropped: u64_at(body, 6 * 8)?,
                rx_fifo: u64_at(body, 14 * 8)?,
                rx_missed: u64_at(body, 15 * 8)?,
            }));
        }
        if length < 4 {
            return None;
        }
        at = at.checked_add(length.checked_next_multiple_of(4)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_lo() {
        let netlink = Netlink::open().unwrap();
        let index = super::super::socket::interface_index(c"lo").unwrap();
        netlink.link_counters(index).unwrap();
        assert_eq!(netlink.link_counters(0x7fff_0000), Err(Errno(libc::ENODEV)));
    }

    #[test]
    fn junk_is_refused() {
        assert!(parse(&[]).is_none());
        assert!(parse(&[0; 64]).is_none());
        let mut short = vec![0_u8; 40];
        short[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        assert!(parse(&short).is_none());
    }
}
