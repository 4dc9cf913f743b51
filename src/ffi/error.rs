//! Error codes, their texts, and struct netring_error.

use crate::error::{Error, Kind, Result};
use crate::ffi::guard::{guard_handle, guard_with};
use crate::ffi::handle::{Pinned, Table};
use std::ffi::{CStr, c_char, c_int};

/// Opening a packet socket needs CAP_NET_RAW: run as root, grant the program
/// the capability, or run inside a user namespace. errno: EPERM or EACCES.
pub const NETRING_EPERM: c_int = -1;
/// A step without a code of its own failed (epoll, eventfd, ioctl, netlink), or
/// a block's memory was overwritten, or a savefile is damaged. errno says why.
pub const NETRING_EIO: c_int = -5;
/// The handle was closed or released, is no handle of this kind, or belongs to
/// the parent of a forked process.
pub const NETRING_EBADF: c_int = -9;
/// In use: by another thread, by a caller further up the stack (a call from a
/// callback), or by another program.
pub const NETRING_EBUSY: c_int = -16;
/// No such interface in this network namespace, or it was removed while open.
pub const NETRING_ENODEV: c_int = -19;
/// An argument or a configuration value is wrong; struct netring_error names it
/// and its range.
pub const NETRING_EINVAL: c_int = -22;
/// A frame is larger than a slot. For transmit: nothing returns it yet.
pub const NETRING_EMSGSIZE: c_int = -90;
/// Not on this kernel, driver or build.
pub const NETRING_ENOTSUP: c_int = -95;
/// The link is down, for a capture with NETRING_CAPTURE_DOWN_IS_ERROR.
pub const NETRING_ENETDOWN: c_int = -100;
/// The handle was stopped, and everything received has been handed out; the end
/// of a savefile.
pub const NETRING_ESHUTDOWN: c_int = -108;
/// socket() failed for another reason than privileges. errno says why.
pub const NETRING_ESOCKET: c_int = -4097;
/// bind() failed. errno says why.
pub const NETRING_EBIND: c_int = -4098;
/// The ring's memory was refused: by the bound on memory, by the kernel, or by
/// mmap(). errno: ENOMEM mostly.
pub const NETRING_EMMAP: c_int = -4099;
/// A socket option was refused; struct netring_error names it. errno says why.
pub const NETRING_ESOCKOPT: c_int = -4100;
/// The wait was ended by a wakeup. errno: EINTR.
pub const NETRING_EWAKEUP: c_int = -4101;
/// The limit on locked memory is too small. For AF_XDP: nothing returns it yet.
pub const NETRING_EMEMLOCK: c_int = -4102;
/// A filter was refused; struct netring_error names the instruction of a program,
/// or the place in an expression. errno: EINVAL.
pub const NETRING_EFILTER: c_int = -4103;
/// An XDP program was refused. errno: EINVAL. For AF_XDP: nothing returns it
/// yet.
pub const NETRING_EXDP: c_int = -4104;
/// A panic was caught inside the library: a defect. The handle can only be
/// closed; other handles work on. errno: EIO.
pub const NETRING_EPANIC: c_int = -4105;

const _: () = assert!(
    NETRING_EPERM == -libc::EPERM
        && NETRING_EIO == -libc::EIO
        && NETRING_EBADF == -libc::EBADF
        && NETRING_EBUSY == -libc::EBUSY
        && NETRING_ENODEV == -libc::ENODEV
        && NETRING_EINVAL == -libc::EINVAL
        && NETRING_EMSGSIZE == -libc::EMSGSIZE
        && NETRING_ENOTSUP == -libc::EOPNOTSUPP
        && NETRING_ENETDOWN == -libc::ENETDOWN
        && NETRING_ESHUTDOWN == -libc::ESHUTDOWN,
    "the errno numbers of this architecture differ from those in netring.h"
);

/// What went wrong: written by open and configure calls, whole, on success too
/// (all zero then). 640 bytes, never to change; needs no initialisation.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_error {
    /// NETRING_E..., as returned; 0: no error.
    pub code: i32,
    /// The kernel's reason (an errno number); 0: none.
    pub os_errno: i32,
    /// The step or the field: "socket", "PACKET_RX_RING", "block_size".
    /// NUL-terminated.
    pub option: [c_char; 64],
    /// What happened, the value, and what to do about it. NUL-terminated.
    pub message: [c_char; 512],
    /// 0.
    pub reserved: [u64; 7],
}

const _: () = assert!(size_of::<netring_error>() == 640);

/// The code of a documented error.
pub(crate) fn code(kind: Kind) -> c_int {
    match kind {
        Kind::PermissionDenied => NETRING_EPERM,
        Kind::InterfaceNotFound => NETRING_ENODEV,
        Kind::Config => NETRING_EINVAL,
        Kind::Io => NETRING_EIO,
        Kind::Socket => NETRING_ESOCKET,
        Kind::Bind => NETRING_EBIND,
        Kind::Mmap => NETRING_EMMAP,
        Kind::SockOpt => NETRING_ESOCKOPT,
        Kind::BadHandle => NETRING_EBADF,
        Kind::Shutdown => NETRING_ESHUTDOWN,
        Kind::Wakeup => NETRING_EWAKEUP,
        Kind::Busy => NETRING_EBUSY,
        Kind::FrameTooLarge => NETRING_EMSGSIZE,
        Kind::LinkDown => NETRING_ENETDOWN,
        Kind::NotSupported => NETRING_ENOTSUP,
        Kind::MemLock => NETRING_EMEMLOCK,
        Kind::Filter => NETRING_EFILTER,
        Kind::XdpProgram => NETRING_EXDP,
        Kind::Panic => NETRING_EPANIC,
    }
}

/// Name and text of every code, in the order of docs/errors.md.
const CODES: [(c_int, &CStr, &CStr); 19] = [
    (NETRING_EPERM, c"NETRING_EPERM", c"insufficient privileges (need CAP_NET_RAW)"),
    (NETRING_ENODEV, c"NETRING_ENODEV", c"interface not found"),
    (NETRING_EINVAL, c"NETRING_EINVAL", c"invalid argument or configuration"),
    (NETRING_EIO, c"NETRING_EIO", c"input/output error"),
    (NETRING_ESOCKET, c"NETRING_ESOCKET", c"socket could not be created"),
    (NETRING_EBIND, c"NETRING_EBIND", c"socket could not be bound"),
    (NETRING_EMMAP, c"NETRING_EMMAP", c"ring memory refused"),
    (NETRING_ESOCKOPT, c"NETRING_ESOCKOPT", c"socket option refused"),
    (
        NETRING_EBADF,
        c"NETRING_EBADF",
        c"bad handle: NULL, closed or released, of another kind, or opened before a fork()",
    ),
    (NETRING_ESHUTDOWN, c"NETRING_ESHUTDOWN", c"stopped, and everything received is handed out"),
    (NETRING_EWAKEUP, c"NETRING_EWAKEUP", c"the wait was ended by a wakeup"),
    (NETRING_EBUSY, c"NETRING_EBUSY", c"in use"),
    (NETRING_EMSGSIZE, c"NETRING_EMSGSIZE", c"frame too large"),
    (NETRING_ENETDOWN, c"NETRING_ENETDOWN", c"link down"),
    (NETRING_ENOTSUP, c"NETRING_ENOTSUP", c"not supported on this kernel, driver or build"),
    (NETRING_EMEMLOCK, c"NETRING_EMEMLOCK", c"locked-memory limit too small"),
    (NETRING_EFILTER, c"NETRING_EFILTER", c"filter refused"),
    (NETRING_EXDP, c"NETRING_EXDP", c"XDP program refused"),
    (NETRING_EPANIC, c"NETRING_EPANIC", c"internal error; the handle can only be closed"),
];

/// What a code means, in a few words. Takes what a function returned; 0 and
/// more give "success", unknown numbers "unknown error".
///
/// Ownership: static. MT-Safe, async-signal-safe. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn netring_strerror(code: c_int) -> *const c_char {
    if code >= 0 {
        return c"success".as_ptr();
    }
    let known = CODES.iter().find(|(known, _, _)| *known == code);
    known.map_or(c"unknown error".as_ptr(), |(_, _, text)| text.as_ptr())
}

/// A code's name, "NETRING_EPERM"; "NETRING_OK" for 0 and more,
/// "NETRING_UNKNOWN" for numbers that are no code.
///
/// Ownership: static. MT-Safe, async-signal-safe. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn netring_err_name(code: c_int) -> *const c_char {
    if code >= 0 {
        return c"NETRING_OK".as_ptr();
    }
    let known = CODES.iter().find(|(known, _, _)| *known == code);
    known.map_or(c"NETRING_UNKNOWN".as_ptr(), |(_, name, _)| name.as_ptr())
}

/// Writes as many whole characters of a text as fit, and zeros are behind them.
pub(crate) fn copy_text<const N: usize>(text: &str, to: &mut [c_char; N]) {
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in to.iter_mut().zip(&text.as_bytes()[..end]) {
        *to = *from as c_char;
    }
}

/// The error as C sees it; `None`: no error.
pub(crate) fn describe(error: Option<&Error>) -> netring_error {
    let mut out = netring_error {
        code: 0,
        os_errno: 0,
        option: [0; 64],
        message: [0; 512],
        reserved: [0; 7],
    };
    if let Some(error) = error {
        out.code = code(error.kind);
        out.os_errno = error.os.unwrap_or(0);
        copy_text(&error.option, &mut out.option);
        copy_text(&error.message, &mut out.message);
    }
    out
}

/// Runs an open or configure call and tells the caller's structure what came
/// of it.
///
/// # Safety
/// `err`, if not NULL, is writable for a netring_error.
pub(crate) unsafe fn guard_reporting(
    err: *mut netring_error,
    call: impl FnOnce() -> Result<c_int>,
) -> c_int {
    // SAFETY: the caller's promise.
    let tell = |error: Option<&Error>| unsafe { tell(err, error) };
    guard_with(
        || {
            let value = call()?;
            tell(None);
            Ok(value)
        },
        |error| tell(Some(error)),
    )
}

/// As [`guard_reporting`], for a call on a handle: poisons it if the call panics.
///
/// # Safety
/// `err`, if not NULL, is writable.
pub(crate) unsafe fn guard_handle_reporting<T: Send + Sync, H>(
    table: &'static Table<T>,
    handle: *const H,
    err: *mut netring_error,
    call: impl FnOnce(&Pinned<T>) -> Result<c_int>,
    failed: impl FnOnce(&T, &Error),
) -> c_int {
    // SAFETY: the caller's promise.
    let tell = |error: Option<&Error>| unsafe { tell(err, error) };
    guard_handle(
        table,
        handle,
        |pinned| {
            let value = call(pinned)?;
            tell(None);
            Ok(value)
        },
        |handle, error| {
            if let Some(handle) = handle {
                failed(handle, error);
            }
            tell(Some(error));
        },
    )
}

/// Describes an error, or that there is none.
///
/// # Safety
/// `err`, if not NULL, is writable.
unsafe fn tell(err: *mut netring_error, error: Option<&Error>) {
    if !err.is_null() {
        // SAFETY: writable by the caller's promise; unaligned is fine.
        unsafe { err.write_unaligned(describe(error)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut to = [0; 8];
        copy_text("abcdef\u{e9}\u{e9}", &mut to);
        assert_eq!(to.map(|c| c as u8), *b"abcdef\0\0");
    }

    #[test]
    fn every_kind_has_a_code_with_a_text() {
        for (code, name, _) in CODES {
            let text = netring_err_name(code);
            // SAFETY: a static string.
            assert_eq!(unsafe { CStr::from_ptr(text) }, name);
        }
        let numbers: std::collections::HashSet<_> = CODES.iter().map(|entry| entry.0).collect();
        assert_eq!(numbers.len(), CODES.len());
    }
}
