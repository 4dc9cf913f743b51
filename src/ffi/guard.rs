//! The one way out: panics caught, errno kept or set, results mapped.

use crate::error::{Error, Kind, Result};
use crate::ffi::error::code;
use crate::ffi::handle::{Pinned, Refusal, Table};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn errno() -> c_int {
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's errno.
    unsafe { *errno }
}

fn set_errno(value: c_int) {
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's errno.
    unsafe { *errno = value };
}

/// What errno is set to: the kernel's reason, or the code's own number.
fn reason(error: &Error) -> c_int {
    error.os.unwrap_or(match error.kind {
        Kind::Wakeup => libc::EINTR,
        Kind::Filter | Kind::XdpProgram => libc::EINVAL,
        Kind::Panic => libc::EIO,
        kind => match code(kind) {
            code if code > -4096 => -code,
            _ => libc::EIO,
        },
    })
}

/// Runs one call of the library. Success leaves errno as it was (cgo reads it);
/// failure sets it. `failed` sees the error before it becomes a number.
#[inline]
pub(crate) fn guard_with(
    call: impl FnOnce() -> Result<c_int>,
    failed: impl FnOnce(&Error),
) -> c_int {
    let before = errno();
    let error = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => {
            set_errno(before);
            return value;
        }
        Ok(Err(error)) => error,
        Err(payload) => {
            // A payload whose drop panics must not get past here either.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            Error::new(Kind::Panic, "panic", "internal error: a panic was caught")
        }
    };
    let told = catch_unwind(AssertUnwindSafe(|| failed(&error)));
    if let Err(payload) = told {
        std::mem::forget(payload);
    }
    set_errno(reason(&error));
    code(error.kind)
}

/// As [`guard_with`], for calls that have nobody to tell.
#[inline]
pub(crate) fn guard(call: impl FnOnce() -> Result<c_int>) -> c_int {
    guard_with(call, |_| {})
}

/// A call on a handle: resolves it, and poisons it if the call panics. `failed`
/// gets the object, where the handle named one.
#[inline]
pub(crate) fn guard_handle<T: Send + Sync, H>(
    table: &'static Table<T>,
    handle: *const H,
    call: impl FnOnce(&Pinned<T>) -> Result<c_int>,
    failed: impl FnOnce(Option<&T>, &Error),
) -> c_int {
    match table.pin(handle) {
        Err(error) => guard_with(|| Err(error), |error| failed(None, error)),
        Ok(pinned) => guard_with(
            || call(&pinned),
            |error| {
                if error.kind == Kind::Panic {
                    pinned.poison();
                }
                failed(Some(&pinned), error);
            },
        ),
    }
}

/// What a refused handle is answered with, without making an error first: for
/// signal handlers.
pub(crate) fn refuse(refusal: Refusal) -> c_int {
    set_errno(if refusal == Refusal::Bad { libc::EBADF } else { libc::EIO });
    code(refusal.kind())
}
