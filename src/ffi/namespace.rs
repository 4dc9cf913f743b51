//! Network namespaces, as descriptors.

use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::pointers::text;
use crate::namespace;
use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;

/// Opens a network namespace to capture in (NETRING_CAPTURE_NETNS_FD): with a
/// slash in `path_or_name` the file at this path (/proc/PID/ns/net, or whatever a
/// container runtime keeps), without one the name that ip-netns(8) gave it
/// (/run/netns/NAME). Nobody enters it. Returns a descriptor, which keeps the
/// namespace alive.
///
/// Errors: NETRING_EINVAL, `path_or_name` is NULL, empty or too long, or there is
/// something else than a network namespace. NETRING_EIO, it could not be opened:
/// ENOENT, there is none, EACCES.
/// Ownership: the caller closes the descriptor with close(2); captures that were
/// opened with it go on. It is closed by exec. Linux 4.11. MT-Safe. `err` may be
/// NULL.
///
/// # Safety
/// `path_or_name` must be NUL-terminated, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_netns_open(
    path_or_name: *const c_char,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        // SAFETY: the caller's promise.
        let name = unsafe { text(path_or_name, "path_or_name")? };
        namespace::open(name.to_bytes()).map(IntoRawFd::into_raw_fd)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Opens the network namespace that a process is in, as its number is known in
/// the caller's PID namespace. Returns a descriptor, which keeps the namespace
/// alive when the process ends. A number that is given to another process during
/// the call is noticed since Linux 5.3 (pidfd_open(2)).
///
/// Errors: NETRING_EINVAL, `pid` is 0 or less. NETRING_EIO, ESRCH: there is no
/// such process; EACCES: it takes the permission to trace it (ptrace(2),
/// PTRACE_MODE_READ_FSCREDS: the same user, or CAP_SYS_PTRACE).
/// Ownership: the caller closes the descriptor with close(2); captures that were
/// opened with it go on. It is closed by exec. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `err` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_netns_open_pid(pid: c_int, err: *mut netring_error) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, || namespace::of_process(pid).map(IntoRawFd::into_raw_fd)) }
}
