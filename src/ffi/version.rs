//! Which library this is.

use std::ffi::{CStr, c_char};

/// Major version of the header this was compiled against.
pub const NETRING_VERSION_MAJOR: u32 = 0;
/// Minor version of the header this was compiled against.
pub const NETRING_VERSION_MINOR: u32 = 1;
/// Patch version of the header this was compiled against.
pub const NETRING_VERSION_PATCH: u32 = 0;

const VERSION: &CStr = c"0.1.0";

/// The version of the library in use at run time, as 0x00MMmmpp (major,
/// minor, patch); compare with the NETRING_VERSION_* of the header.
///
/// MT-Safe, async-signal-safe. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn netring_version() -> u32 {
    (NETRING_VERSION_MAJOR << 16) | (NETRING_VERSION_MINOR << 8) | NETRING_VERSION_PATCH
}

/// The version of the library in use at run time as text, "0.1.0".
///
/// Ownership: static. MT-Safe, async-signal-safe. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn netring_version_string() -> *const c_char {
    VERSION.as_ptr()
}
