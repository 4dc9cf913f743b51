//! eBPF socket filters: programs that the kernel holds, known by descriptor.

use crate::error::{Error, Kind, Result};
use crate::sys::socket::{any_socket, attach_ebpf};
use crate::sys::{Errno, file};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// An eBPF program of type `BPF_PROG_TYPE_SOCKET_FILTER`; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ebpf(Arc<OwnedFd>);

impl Ebpf {
    /// The program behind a descriptor, which stays the caller's.
    ///
    /// # Errors
    /// `Config`: no descriptor. `Filter`: of something else than such a program.
    pub fn new(descriptor: i32) -> Result<Self> {
        let program = file::duplicate(descriptor).map_err(|errno| no_copy(errno, descriptor))?;
        // The kernel's own answer, from a socket that nobody sends to: asking for
        // the program's type (BPF_OBJ_GET_INFO_BY_FD) may need a capability.
        let scratch = any_socket().map_err(|errno| {
            Error::new(Kind::Socket, "socket", format!("socket(AF_UNIX): {errno}")).with_os(errno.0)
        })?;
        attach_ebpf(scratch.fd(), program.as_fd()).map_err(refused)?;
        Ok(Self(Arc::new(program)))
    }

    /// The library's own descriptor of it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn no_copy(errno: Errno, descriptor: i32) -> Error {
    match errno.0 {
        libc::EBADF => Error::config(
            "prog_fd",
            format!("prog_fd {descriptor} is not open; bpf(BPF_PROG_LOAD) gives a descriptor"),
        ),
        _ => Error::new(
            Kind::Io,
            "prog_fd",
            format!(
                "prog_fd {descriptor} could not be duplicated: {errno}; close descriptors or \
                 raise `ulimit -n`"
            ),
        )
        .with_os(errno.0),
    }
}

/// The kernel does not take it, on any socket.
pub fn refused(errno: Errno) -> Error {
    let (kind, remedy) = match errno.0 {
        libc::EINVAL => (
            Kind::Filter,
            "; the descriptor is not of an eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER",
        ),
        libc::ENOMEM => (
            Kind::SockOpt,
            "; a large program needs more option memory: raise net.core.optmem_max, or shorten \
             the program",
        ),
        libc::ENOPROTOOPT => (Kind::SockOpt, "; eBPF socket filters need Linux 3.19"),
        _ => (Kind::SockOpt, ""),
    };
    Error::new(kind, "SO_ATTACH_BPF", format!("eBPF filter was refused: {errno}{remedy}"))
        .with_os(errno.0)
}
