//! Whose handles these are: a forked child must not use its parent's.

use crate::error::{Error, Kind, Result};
use crate::sys::process;

/// Makes sure that a fork of this process will be noticed; before the first
/// handle is given out.
///
/// # Errors
/// `NotSupported` on a kernel that cannot wipe a page at fork, `Io` where the
/// page was refused for another reason.
pub fn claim() -> Result<()> {
    process::claim().map(|_| ()).map_err(|errno| {
        let (kind, why) = if errno.0 == libc::EINVAL {
            (Kind::NotSupported, "not supported on this kernel: Linux 4.14 is needed")
        } else {
            (Kind::Io, "a page of memory was refused")
        };
        Error::new(
            kind,
            "MADV_WIPEONFORK",
            format!("{why}; without it a fork could not be noticed: {errno}"),
        )
        .with_os(errno.0)
    })
}
