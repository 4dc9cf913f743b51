//! Network namespaces to capture in: by name, path or process.

use crate::error::{Error, Kind, Result};
use crate::sys::{Errno, namespace as sys};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Where ip-netns(8) keeps names.
const NAMES: &str = "/run/netns/";
/// NAME_MAX and PATH_MAX without their NULs.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;

/// The network namespace of this name (ip-netns(8)) or, with a slash in it, at
/// this path.
///
/// # Errors
/// `Config`: neither a name nor a path, or something else is there. `Io`: it
/// cannot be opened.
pub fn open(name: &[u8]) -> Result<OwnedFd> {
    let is_path = name.contains(&b'/');
    let longest = if is_path { LONGEST_PATH } else { LONGEST_NAME };
    let path = if is_path { name.to_vec() } else { [NAMES.as_bytes(), name].concat() };
    let wrong = |why: String| Error::config("path_or_name", why);
    if name.is_empty() || name == b"." || name == b".." {
        return Err(wrong("path_or_name is neither a name nor a path".into()));
    }
    if name.len() > longest {
        return Err(wrong(format!("path_or_name is longer than {longest} bytes")));
    }
    let shown: String = String::from_utf8_lossy(&path).chars().take(200).collect();
    let path =
        CString::new(path).map_err(|_| wrong("path_or_name has a NUL inside".to_string()))?;
    let file = sys::open(&path).map_err(|errno| {
        let remedy = match errno.0 {
            libc::ENOENT if !is_path => "; `ip netns list` shows the names there are",
            libc::EACCES => "; it takes the permission to read it",
            _ => descriptors(errno),
        };
        let message = format!("opening network namespace {shown} failed: {errno}{remedy}");
        Error::new(Kind::Io, "open", message).with_os(errno.0)
    })?;
    if sys::is_network(file.as_fd()) {
        return Ok(file);
    }
    Err(wrong(format!("{shown} is no network namespace: /proc/PID/ns/net is one")))
}

/// The network namespace of a process.
///
/// # Errors
/// `Config`: no process has such a number. `Io`: there is none, or it may not be
/// looked at.
pub fn of_process(pid: i32) -> Result<OwnedFd> {
    if pid <= 0 {
        return Err(Error::config("pid", format!("pid {pid} is no process")));
    }
    sys::of_process(pid).map_err(|errno| {
        let remedy = match errno.0 {
            libc::ESRCH => "; there is no such process",
            libc::EACCES | libc::EPERM => {
                "; it takes the permission to trace the process: its user, or CAP_SYS_PTRACE in \
                 the user namespace it is in"
            }
            libc::ENOENT => "; it has ended, or /proc is not mounted",
            _ => descriptors(errno),
        };
        let message =
            format!("opening the network namespace of process {pid} failed: {errno}{remedy}");
        Error::new(Kind::Io, "pid", message).with_os(errno.0)
    })
}

fn descriptors(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EMFILE => "; close descriptors or raise `ulimit -n`",
        libc::ENFILE => "; the whole machine is out of descriptors: raise fs.file-max",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        assert!(open(b"/proc/self/ns/net").is_ok());
        let wrong: [&[u8]; 6] =
            [b"", b".", b"..", &[b'x'; 256], b"/proc/self/ns/mnt", &[b'/'; 4096]];
        for name in wrong {
            let error = open(name).unwrap_err();
            assert_eq!((error.kind, error.os), (Kind::Config, None), "{error}");
            assert!(error.message.len() < 400);
        }
        let missing = open(b"no-such-namespace").unwrap_err();
        assert_eq!((missing.kind, missing.os), (Kind::Io, Some(libc::ENOENT)));
        assert!(missing.message.contains("/run/netns/no-such-namespace"));
        assert!(of_process(std::process::id() as i32).is_ok());
        assert_eq!(of_process(0).unwrap_err().kind, Kind::Config);
        assert_eq!(of_process(i32::MAX).unwrap_err().os, Some(libc::ESRCH));
    }
}
