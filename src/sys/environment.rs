//! The environment, as far as a program with raised privileges may trust it.

use std::ffi::{CStr, CString};

unsafe extern "C" {
    // glibc 2.17 and musl 1.1; the libc crate does not declare it.
    fn secure_getenv(name: *const libc::c_char) -> *const libc::c_char;
}

/// A variable's value, or `None` where it is unset, not text, or the program
/// runs with raised privileges (set-user-ID, file capabilities).
pub fn secure(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated name.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated string of the environment; copied at once.
    let value = unsafe { CStr::from_ptr(value) };
    value.to_str().ok().map(str::to_owned)
}
