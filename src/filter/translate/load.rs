//! Translated programs, given to the kernel.

use super::{Access, Options, Selection, Translated, translate};
use crate::error::{Error, Kind};
use crate::sys::Errno;
use crate::sys::bpf::{BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS, PRIVILEGE, Program};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// No function is called that wants a program under the GPL.
pub const LICENCE: &CStr = c"MIT";

/// Of programs that ask the driver: its functions are for those that may be had under
/// the GPL, too. The few instructions are ours to give.
const LICENCE_BESIDE: &CStr = c"Dual MIT/GPL";

/// A program that the kernel has taken.
#[derive(Debug)]
pub struct Loaded {
    /// It stays while somebody has a descriptor of it, or it is attached.
    pub program: OwnedFd,
    /// How many instructions were loaded.
    pub length: usize,
    /// How it looks at packets.
    pub access: Access,
    /// As of [`super::Translated`].
    pub uses_vlan: bool,
}

/// A program that the kernel has not taken.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// What the verifier said; empty: nothing.
    pub log: String,
}

impl From<Error> for Box<Refused> {
    fn from(error: Error) -> Self {
        Box::new(Refused { error, log: String::new() })
    }
}

/// Translates and loads. Where the verifier does not take the program as it was
/// asked for, the other ways to look at packets are tried.
///
/// # Errors
/// Those of [`translate`]; `PermissionDenied`; `NotSupported`: no bpf(2) here;
/// `XdpProgram`; `Io`: no descriptors.
pub fn load(selection: Selection<'_>, options: &Options) -> Result<Loaded, Box<Refused>> {
    let mut first: Option<(Errno, Translated)> = None;
    for access in [options.access, Access::Fixed, Access::Called, Access::Old] {
        let useless = match &first {
            None => false,
            Some(_) if access == options.access => true,
            // Too complex, and that takes seconds: only calls are simpler.
            Some((Errno(libc::E2BIG), _)) => access != Access::Called,
            Some(_) => access == Access::Old && options.frags,
        };
        if useless {
            continue;
        }
        let translated = translate(selection, &Options { access, ..*options })?;
        match program(&translated, options).load() {
            Ok(loaded) => {
                return Ok(Loaded {
                    program: loaded,
                    length: translated.instructions.len(),
                    access,
                    uses_vlan: translated.uses_vlan,
                });
            }
            Err(errno @ Errno(libc::EPERM | libc::ENOSYS | libc::EMFILE | libc::ENFILE)) => {
                first.get_or_insert((errno, translated));
                break;
            }
            Err(errno) => {
                first.get_or_insert((errno, translated));
            }
        }
    }
    let (errno, log) = first.map_or((Errno(libc::EINVAL), String::new()), |(errno, translated)| {
        (errno, program(&translated, options).verifier_log())
    });
    Err(Box::new(Refused { error: refused(errno, &log, options.frags), log }))
}

/// The program as it is given to the kernel.
pub fn program<'a>(translated: &'a Translated, options: &Options) -> Program<'a> {
    let mut flags = 0;
    if options.frags {
        flags |= BPF_F_XDP_HAS_FRAGS;
    }
    if options.beside.is_some() {
        flags |= BPF_F_XDP_DEV_BOUND_ONLY;
    }
    Program {
        instructions: &translated.instructions,
        licence: if options.beside.is_some() { LICENCE_BESIDE } else { LICENCE },
        flags,
        name: "netring",
        ifindex: options.beside.map_or(0, |beside| beside.ifindex),
    }
}

fn refused(errno: Errno, log: &str, frags: bool) -> Error {
    let (kind, words) = match errno.0 {
        libc::EPERM if log.is_empty() => (
            Kind::PermissionDenied,
            format!(
                "insufficient privileges: loading an XDP program: {errno}; {PRIVILEGE}; before \
                 Linux 5.11 it may be the locked-memory limit (`ulimit -l`)"
            ),
        ),
        libc::ENOSYS => (
            Kind::NotSupported,
            format!("not supported: this kernel has no bpf(2): {errno} (CONFIG_BPF_SYSCALL)"),
        ),
        libc::EMFILE | libc::ENFILE => (
            Kind::Io,
            format!(
                "the XDP program was not loaded: {errno}; close descriptors or raise `ulimit -n`"
            ),
        ),
        libc::EINVAL if log.is_empty() && frags => (
            Kind::XdpProgram,
            format!(
                "XDP program was refused: {errno}; packets in several buffers need Linux 5.18: \
                 leave them out"
            ),
        ),
        libc::E2BIG => (
            Kind::XdpProgram,
            format!(
                "XDP program was refused: {errno}: it is too complex for the verifier; use a \
                 simpler filter{}",
                said(log)
            ),
        ),
        _ => (Kind::XdpProgram, format!("XDP program was refused: {errno}{}", said(log))),
    };
    Error::new(kind, "BPF_PROG_LOAD", words).with_os(errno.0)
}

/// The line with the reason: below it there are only numbers.
fn said(log: &str) -> String {
    const MOST: usize = 200;
    let numbers = ["processed ", "verification time ", "stack depth "];
    let reason = log.lines().rev().find(|line| {
        !line.trim().is_empty() && !numbers.iter().any(|number| line.starts_with(number))
    });
    reason.map_or_else(String::new, |line| {
        format!("; the verifier says: {}", line.chars().take(MOST).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_why_and_what_to_do() {
        let log = "0: (61) r1 = *(u32 *)(r1 +64)\ninvalid bpf_context access off=64 size=4\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n";
        let error = refused(Errno(libc::EACCES), log, false);
        assert_eq!((error.kind, error.os), (Kind::XdpProgram, Some(libc::EACCES)));
        assert!(error.message.ends_with("says: invalid bpf_context access off=64 size=4"));
        assert_eq!(refused(Errno(libc::EPERM), "", true).kind, Kind::PermissionDenied);
        assert_eq!(refused(Errno(libc::EPERM), log, true).kind, Kind::XdpProgram);
        assert!(refused(Errno(libc::EINVAL), "", true).message.contains("Linux 5.18"));
        assert_eq!(refused(Errno(libc::ENOSYS), "", false).kind, Kind::NotSupported);
        let long = refused(Errno(libc::E2BIG), &"x".repeat(5000), false);
        assert!(long.message.len() < 512, "{long}");
    }
}
