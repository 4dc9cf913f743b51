//! Packet sockets.

use super::filter::SockFilter;
use super::handover::{Filtered, Lent};
use super::{Errno, Result, check};
use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Types whose every byte pattern is a value and which hold no pointers that
/// Rust would follow: what may cross `setsockopt` and `getsockopt`.
///
/// # Safety
/// Implement it only for such `repr(C)` types.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for i32 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: integers only.
unsafe impl Plain for super::packet::MembershipRequest {}
// SAFETY: integers only.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: integers only.
unsafe impl Plain for libc::tpacket_req3 {}
// SAFETY: integers only.
unsafe impl Plain for libc::tpacket_stats_v3 {}

/// asm-generic/socket.h; SPARC counts otherwise.
const SO_NETNS_COOKIE: i32 = if cfg!(target_arch = "sparc64") { 0x0050 } else { 71 };

/// A socket: of the AF_PACKET family, or of AF_XDP ([`super::xdp`]).
#[derive(Debug)]
pub struct Socket(OwnedFd, Option<Lent>);

impl Socket {
    /// A raw packet socket that receives nothing yet: protocol 0 until
    /// [`bind`](Self::bind) (any other would capture from every interface at
    /// once, af_packet.c packet_create).
    pub fn packet() -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }, None))
    }

    /// One of another family.
    pub(super) fn of(fd: OwnedFd) -> Self {
        Self(fd, None)
    }

    /// One that somebody else made, and may have, too: what is done to it is
    /// undone at the end, as far as it can be.
    pub(super) fn lent(fd: OwnedFd, lent: Lent) -> Self {
        Self(fd, Some(lent))
    }

    /// What is to be undone, from here on.
    pub(super) fn lend(&mut self, lent: Lent) {
        self.1 = Some(lent);
    }

    /// Whether somebody else made it.
    pub fn is_lent(&self) -> bool {
        self.1.is_some()
    }

    /// The filter that a socket of somebody else's came with.
    pub fn came_with(&self) -> &Filtered {
        self.1.as_ref().map_or(&Filtered::No, Lent::filtered)
    }

    /// setsockopt(2).
    pub fn set<T: Plain>(&self, level: i32, name: i32, value: &T) -> Result<()> {
        // SAFETY: `value` is a live T and its size is given.
        check(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })?;
        if let Some(lent) = &self.1 {
            lent.note(level, name, value);
        }
        Ok(())
    }

    /// getsockopt(2) of a value of fixed size.
    pub fn get<T: Plain>(&self, level: i32, name: i32) -> Result<T> {
        let mut value = MaybeUninit::<T>::zeroed();
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` has room for `length` bytes.
        check(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                value.as_mut_ptr().cast(),
                &mut length,
            )
        })?;
        // SAFETY: zeroed, then written by the kernel; every pattern of a Plain is a value.
        Ok(unsafe { value.assume_init() })
    }

    /// bind(2) to a protocol (host byte order) and an interface (0: every one).
    pub fn bind(&self, protocol: u16, ifindex: i32) -> Result<()> {
        let mut address = empty_address();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = ifindex;
        // SAFETY: a live sockaddr_ll and its size.
        check(unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// getsockname(2): the interface the socket is bound to now. Its index is
    /// -1 once the interface is gone (af_packet.c packet_notifier).
    pub fn bound(&self) -> Result<libc::sockaddr_ll> {
        let mut address = empty_address();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: room for `length` bytes.
        check(unsafe {
            libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &mut length)
        })?;
        Ok(address)
    }

    /// SO_ERROR: the pending error, cleared by reading (0: none).
    pub fn take_error(&self) -> i32 {
        self.get::<i32>(libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
    }

    /// What tells its network namespace from others (Linux 5.14).
    pub fn namespace_cookie(&self) -> Result<u64> {
        self.get(libc::SOL_SOCKET, SO_NETNS_COOKIE)
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(lent) = self.1.take() {
            lent.give_back(self);
        }
    }
}

/// SO_ATTACH_FILTER, on a socket of any family.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[SockFilter]) -> Result<()> {
    set_program(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// SO_DETACH_FILTER: classic or eBPF. ENOENT where there is none.
pub fn detach_filter(fd: BorrowedFd<'_>) -> Result<()> {
    let unused = 0_i32;
    // SAFETY: a live integer and its size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const unused).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// An option that is a classic program.
pub(super) fn set_program(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    program: &[SockFilter],
) -> Result<()> {
    let Ok(len) = u16::try_from(program.len()) else { return Err(Errno(libc::EINVAL)) };
    let fprog = libc::sock_fprog {
        len,
        // The kernel only reads through it.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `fprog` and the instructions it points to live through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const fprog).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// SO_ATTACH_BPF (Linux 3.19), on a socket of any family.
pub fn attach_ebpf(fd: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let program = program.as_raw_fd();
    // SAFETY: a live integer and its size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const program).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

fn empty_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: 0,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// The index of an interface of the caller's network namespace. (libc's
/// if_nametoindex hides why it fails.)
pub fn interface_index(name: &CStr) -> Result<u32> {
    any_socket()?.interface_index(name)
}

/// The ARPHRD_* type of an interface of the caller's network namespace.
pub fn interface_hardware(name: &CStr) -> Result<u16> {
    any_socket()?.interface_hardware(name)
}

/// The name of an interface of the caller's network namespace.
pub fn interface_name(ifindex: u32) -> Result<Vec<u8>> {
    any_socket()?.interface_name(ifindex)
}

/// A socket to ask about interfaces, or whether something can be attached.
pub fn any_socket() -> Result<Socket> {
    // SAFETY: no pointers.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(Socket(unsafe { OwnedFd::from_raw_fd(fd) }, None))
}

/// netdevice(7): interfaces of the socket's network namespace.
impl Socket {
    /// The index of the interface with this name.
    pub fn interface_index(&self, name: &CStr) -> Result<u32> {
        let mut request = named(name.to_bytes())?;
        self.interface_request(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: SIOCGIFINDEX has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// The ARPHRD_* type of the interface with this name.
    pub fn interface_hardware(&self, name: &CStr) -> Result<u16> {
        let mut request = named(name.to_bytes())?;
        self.interface_request(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_hwaddr }.sa_family)
    }

    /// The name of the interface with this index.
    pub fn interface_name(&self, ifindex: u32) -> Result<Vec<u8>> {
        let mut request = named(b"")?;
        request.ifr_ifru.ifru_ifindex = ifindex as i32;
        self.interface_request(libc::SIOCGIFNAME, &mut request)?;
        let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
        Ok(name.map(|byte| *byte as u8).collect())
    }

    /// The IFF_* flags of the interface with this name.
    pub fn interface_flags(&self, name: &[u8]) -> Result<u32> {
        let mut request = named(name)?;
        self.interface_request(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has written this member.
        Ok(unsafe { request.ifr_ifru.ifru_flags } as u16 as u32)
    }

    pub(super) fn interface_request(
        &self,
        what: libc::c_ulong,
        request: &mut libc::ifreq,
    ) -> Result<()> {
        // SAFETY: a live ifreq with a NUL-terminated name.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), what as _, &raw mut *request) })?;
        Ok(())
    }
}

pub(super) fn named(name: &[u8]) -> Result<libc::ifreq> {
    // SAFETY: integers and bytes only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}
