//! Network namespaces other than the caller's. A socket belongs for good to the
//! one it was made in, so that only its making has to happen there: on a thread
//! of its own, which nobody has to bring back.

use super::file::NoSignals;
use super::socket::Socket;
use super::{Errno, Result, check};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens the file at `path`; it may be anything.
pub fn open(path: &CStr) -> Result<OwnedFd> {
    // Neither a FIFO nor a terminal is to be waited for or taken over.
    let how = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a live string.
    let fd = check(unsafe { libc::open(path.as_ptr(), how) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether it is a network namespace (Linux 4.11; ioctl_nsfs(2)).
pub fn is_network(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

/// Whether [`within`] may take it: that, or a pidfd.
pub fn may_be_entered(fd: BorrowedFd<'_>) -> bool {
    let no_information = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: no signal is sent.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), 0, no_information, 0) };
    let is_no_pidfd = sent < 0 && Errno::last() == Errno(libc::EBADF);
    is_network(fd) || !is_no_pidfd
}

/// The network namespace of a process, and of no other that has its number
/// by now, where the kernel has pidfds (Linux 5.3).
///
/// # Errors
/// ESRCH: there is no such process. Those of open(2) on its /proc file.
pub fn of_process(pid: libc::pid_t) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = match (libc::c_int::try_from(fd), fd < 0) {
        // SAFETY: a descriptor just made, owned by nobody else.
        (Ok(fd), false) => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => match Errno::last() {
            Errno(libc::ENOSYS | libc::EPERM | libc::EACCES) => None,
            errno => return Err(errno),
        },
    };
    if let Some(process) = &process {
        // Linux 6.11; needs no /proc.
        const PIDFD_GET_NET_NAMESPACE: libc::Ioctl = libc::_IO(0xff, 4);
        // SAFETY: no pointers.
        let fd = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_NET_NAMESPACE, 0) };
        if fd >= 0 {
            // SAFETY: a descriptor just made, owned by nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    let path =
        std::ffi::CString::new(format!("/proc/{pid}/ns/net")).map_err(|_| Errno(libc::EINVAL))?;
    let namespace = open(&path).map_err(|errno| match errno {
        Errno(libc::ENOENT) if process.is_none() => Errno(libc::ESRCH),
        errno => errno,
    });
    if let Some(process) = &process {
        // Still there, so that the number was its own all the while. EPERM says so, too.
        // SAFETY: no signal is sent.
        let alive = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process.as_raw_fd(),
                0,
                std::ptr::null_mut::<libc::siginfo_t>(),
                0,
            )
        };
        if alive < 0 && Errno::last() == Errno(libc::ESRCH) {
            return Err(Errno(libc::ESRCH));
        }
    }
    namespace
}

/// Why nothing was done in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no thread to be had.
    Thread(Errno),
    /// setns(2).
    Enter(Errno),
}

/// Does something in a network namespace, given as one (or as a pidfd, since
/// Linux 5.8): on a thread that ends with it, without signals, and with the
/// caller's affinity. The caller stays where it is.
pub fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> std::result::Result<T, Refused> {
    std::thread::scope(|scope| {
        let begun = {
            // Inherited: no handler of the program is to run there.
            let _blocked = NoSignals::all();
            std::thread::Builder::new()
                .name("netring-netns".into())
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || {
                    enter(namespace).map_err(Refused::Enter)?;
                    Ok(work())
                })
        };
        let thread = begun.map_err(|error| Refused::Thread(reason(&error)))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

fn reason(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))
}

/// Whether a packet socket is of the caller's network namespace; where that
/// cannot be told, it is not.
pub fn is_own(socket: &Socket) -> bool {
    let own = super::socket::any_socket().and_then(|own| own.namespace_cookie());
    match (own, socket.namespace_cookie()) {
        (Ok(own), Ok(theirs)) => own == theirs,
        // Before Linux 5.14: the packet sockets here, by their inodes.
        _ => is_listed(socket.fd()).unwrap_or(false),
    }
}

fn is_listed(fd: BorrowedFd<'_>) -> Option<bool> {
    let inode = super::file::identity(fd).ok()?.0.inode().to_string();
    // "self" would be the namespace of the process's first thread.
    let list = std::fs::read_to_string("/proc/thread-self/net/packet").ok()?;
    Some(list.lines().skip(1).any(|line| line.split_whitespace().last() == Some(&*inode)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_a_namespace() {
        let own = open(c"/proc/thread-self/ns/net").unwrap();
        assert!(is_network(own.as_fd()));
        assert!(!is_network(open(c"/proc/thread-self/ns/mnt").unwrap().as_fd()));
        assert!(!is_network(open(c"/dev/null").unwrap().as_fd()));
        assert!(may_be_entered(own.as_fd()));
        assert_eq!(open(c"/nowhere").unwrap_err(), Errno(libc::ENOENT));
        let process = of_process(std::process::id() as i32).unwrap();
        assert!(is_network(process.as_fd()));
        assert_eq!(of_process(i32::MAX).unwrap_err(), Errno(libc::ESRCH));
        let null = open(c"/dev/null").unwrap();
        let refused = within(null.as_fd(), || ()).unwrap_err();
        assert_eq!(refused, Refused::Enter(Errno(libc::EINVAL)));
    }

    #[test]
    fn a_socket_is_listed_at_home() {
        let Ok(socket) = Socket::packet() else { return };
        assert!(is_own(&socket));
        assert_eq!(is_listed(socket.fd()), Some(true));
    }
}
