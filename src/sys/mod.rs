//! System calls and kernel structures, thin and typed. Nothing here decides
//! anything; every function is one kernel request.

pub mod affinity;
pub mod bpf;
pub mod btf;
pub mod clock;
pub mod environment;
pub mod epoll;
pub mod ethtool;
pub mod fanout;
pub mod file;
pub mod filter;
pub mod handover;
pub mod hwtstamp;
pub mod input;
pub mod link;
pub mod link_watch;
pub mod memory;
pub mod message;
pub mod mmap;
pub mod namespace;
pub mod netdev;
pub mod netlink;
pub mod packet;
pub mod pcap;
pub mod process;
pub mod receive;
pub mod socket;
pub mod softnet;
pub mod sysfs;
pub mod timer;
pub mod timestamps;
pub mod transmit;
pub mod try_lock;
pub mod xdp;

/// The kernel's reason for a refusal: an errno number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The calling thread's errno, right after a failed call.
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The standard library's text ends in "(os error N)": number and words.
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// What one kernel request gives.
pub type Result<T> = std::result::Result<T, Errno>;

/// Makes a request again that a signal has interrupted.
pub(crate) fn uninterrupted(mut call: impl FnMut() -> libc::ssize_t) -> Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match Errno::last() {
                Errno(libc::EINTR) => {}
                errno => return Err(errno),
            },
        }
    }
}

/// Maps the -1 of a system call to its errno.
pub(crate) fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}
