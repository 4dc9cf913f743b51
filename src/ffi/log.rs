//! The log callback.

use crate::error::{Error, Result};
use crate::ffi::guard::guard;
use crate::log::{self, Level, Sink};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

/// No messages.
pub const NETRING_LOG_OFF: u32 = 0;
/// An open failed: the message of its struct netring_error.
pub const NETRING_LOG_ERROR: u32 = 1;
/// Something is not as asked for: a shrunk ring, a fallback, a sequence gap. Or
/// the ring was full: how many packets were dropped and what the ring waited
/// for, at most one line a second for each capture.
pub const NETRING_LOG_WARN: u32 = 2;
/// A capture was opened, with what; closed; its link went down.
pub const NETRING_LOG_INFO: u32 = 3;
/// Stops and flushes as well.
pub const NETRING_LOG_DEBUG: u32 = 4;

/// Takes one message: its NETRING_LOG_* level and a text without a newline,
/// borrowed until the callback returns. Called on the thread whose call caused
/// the message, with no lock of the library held; it may call the library,
/// except that netring_capture_close is NETRING_EBUSY (it would wait for the call
/// that the message comes from). What it causes is not logged. It must not throw
/// or longjmp.
#[allow(non_camel_case_types)]
pub type netring_log_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, level: u32, message: *const c_char)>;

struct Callback {
    function: unsafe extern "C" fn(*mut c_void, u32, *const c_char),
    user: *mut c_void,
}

// SAFETY: the user pointer is only handed back; the header says that the
// callback runs on any thread.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Sink for Callback {
    fn message(&self, level: Level, text: &str) {
        let clean: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
        if let Ok(text) = CString::new(clean) {
            // SAFETY: the callback is valid until it is replaced, by the
            // caller's promise.
            unsafe { (self.function)(self.user, level as u32, text.as_ptr()) };
        }
    }
}

/// Sends messages of `level` and graver to `callback`, for the whole process.
/// Without this the library is silent, except where the environment variable
/// NETRING_LOG (off, error, warn, info or debug) asks for messages on stderr; `user`
/// is handed to the callback. `callback` NULL goes back to that. Programs with
/// raised privileges (set-user-ID, file capabilities) ignore NETRING_LOG.
///
/// A message under way on another thread may still reach the old callback once.
///
/// Errors: NETRING_EINVAL, `level` is not a NETRING_LOG_* value.
/// Ownership: `user` stays the caller's and must outlive its use. MT-Safe.
///
/// # Safety
/// `callback` must be callable with `user` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_log_set(
    level: u32,
    callback: netring_log_callback,
    user: *mut c_void,
) -> c_int {
    guard(|| set(level, callback, user))
}

fn set(level: u32, callback: netring_log_callback, user: *mut c_void) -> Result<c_int> {
    if level > NETRING_LOG_DEBUG {
        return Err(Error::config("level", format!("level {level} is out of range: 0 to 4")));
    }
    let sink = callback.map(|function| Arc::new(Callback { function, user }) as Arc<dyn Sink>);
    log::set(level, sink);
    Ok(0)
}
