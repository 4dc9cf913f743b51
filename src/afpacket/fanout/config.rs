//! What a group is asked for.

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::sys::fanout::{flag, mode};

/// PACKET_FANOUT_MAX of the kernel, and what a group has where nothing is said.
const MOST_MEMBERS: u32 = 1 << 16;
const DEFAULT_MOST_MEMBERS: u32 = 256;
/// Flags that are known. The kernel takes others without a word.
const KNOWN_FLAGS: u64 =
    (flag::ROLLOVER | flag::UNIQUEID | flag::IGNORE_OUTGOING | flag::DEFRAG) as u64;

/// What a group is asked for.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// [`mode`].
    pub mode: u32,
    /// [`flag`] bits.
    pub flags: u64,
    /// Members before any of them gets a packet; 0: each gets packets from its
    /// own join on.
    pub members: u32,
    /// The most members the kernel lets in; 0: its default.
    pub max_members: u32,
    /// The group's id, without UNIQUEID.
    pub id: u32,
    /// Chooses the member, in modes CBPF and EBPF.
    pub program: Option<Filter>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            mode: mode::HASH,
            flags: flag::UNIQUEID.into(),
            members: 0,
            max_members: 0,
            id: 0,
            program: None,
        }
    }
}

impl GroupConfig {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & u64::from(flag) != 0
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.mode > mode::EBPF {
            return Err(Error::config(
                "mode",
                format!("there is no fanout mode {}: use one of NETRING_FANOUT_*", self.mode),
            ));
        }
        let unknown = self.flags & !KNOWN_FLAGS;
        if unknown != 0 {
            return Err(Error::config(
                "flags",
                format!(
                    "flags has bits unknown to this library: {unknown:#x} (the kernel would \
                     ignore them silently)"
                ),
            ));
        }
        if self.mode == mode::ROLLOVER && self.has(flag::ROLLOVER) {
            return Err(Error::config(
                "flags",
                "NETRING_FANOUT_FLAG_ROLLOVER is for the other modes: NETRING_FANOUT_ROLLOVER \
                 rolls over by itself",
            ));
        }
        if self.id > u16::MAX.into() {
            return Err(Error::config(
                "id",
                format!("id {} is out of range: 0 to {}", self.id, u16::MAX),
            ));
        }
        if self.has(flag::UNIQUEID) && self.id != 0 {
            return Err(Error::config(
                "id",
                format!(
                    "id {} together with NETRING_FANOUT_FLAG_UNIQUEID, which lets the kernel \
                     choose one: clear the flag to join by id",
                    self.id
                ),
            ));
        }
        if self.max_members > MOST_MEMBERS {
            return Err(Error::config(
                "max_members",
                format!(
                    "max_members {} is out of range: 0 to {MOST_MEMBERS} (0: the kernel's {})",
                    self.max_members, DEFAULT_MOST_MEMBERS
                ),
            ));
        }
        if self.members > self.most_members() {
            return Err(Error::config(
                "members",
                format!(
                    "members {} are more than the group takes, {}: raise max_members (at most \
                     {MOST_MEMBERS}, Linux 5.11)",
                    self.members,
                    self.most_members()
                ),
            ));
        }
        self.validate_program()
    }

    fn validate_program(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::config("program", why.to_owned()));
        match (self.mode, &self.program) {
            (mode::CBPF, Some(program)) => match program.program() {
                Ok(_) => Ok(()),
                Err(_) => wrong(
                    "NETRING_FANOUT_CBPF takes a classic program, of netring_filter_new or \
                     netring_filter_new_ddd",
                ),
            },
            (mode::EBPF, Some(Filter::Ebpf(_))) => Ok(()),
            (mode::EBPF, Some(_)) => {
                wrong("NETRING_FANOUT_EBPF takes an eBPF program, of netring_filter_new_ebpf")
            }
            (mode::CBPF | mode::EBPF, None) if self.has(flag::UNIQUEID) => wrong(
                "program is NULL: without one every packet goes to the first member; only where \
                 a group is joined by its id may another process have given it",
            ),
            (mode::CBPF | mode::EBPF, None) => Ok(()),
            (_, Some(_)) => wrong(
                "program is used by NETRING_FANOUT_CBPF and NETRING_FANOUT_EBPF only; which \
                 packets a member gets is chosen by the filter of its capture's configuration",
            ),
            (_, None) => Ok(()),
        }
    }

    pub(super) fn most_members(&self) -> u32 {
        if self.max_members == 0 { DEFAULT_MOST_MEMBERS } else { self.max_members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::filter::Program;

    #[test]
    fn what_a_group_may_be_asked_for() {
        type Spoil = fn(&mut GroupConfig);
        let cases: [(&str, &str, Spoil); 9] = [
            ("mode", "no fanout mode 8", |c| c.mode = 8),
            ("flags", "0x800", |c| c.flags |= 0x800),
            ("flags", "0x100000000", |c| c.flags |= 1 << 32),
            ("flags", "rolls over by itself", |c| {
                (c.mode, c.flags) = (mode::ROLLOVER, flag::ROLLOVER.into())
            }),
            ("id", "0 to 65535", |c| (c.flags, c.id) = (0, 65_536)),
            ("id", "UNIQUEID", |c| c.id = 7),
            ("max_members", "0 to 65536", |c| c.max_members = 65_537),
            ("members", "more than the group takes, 256", |c| c.members = 257),
            ("program", "is NULL", |c| c.mode = mode::CBPF),
        ];
        for (field, words, spoil) in cases {
            let mut config = GroupConfig::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!((error.kind, &*error.option), (Kind::Config, field));
            assert!(error.message.contains(words), "{}", error.message);
        }
        let program = Some(Program::keep(0).into());
        for mode in mode::HASH..=mode::EBPF {
            let config = GroupConfig { mode, program: program.clone(), ..GroupConfig::default() };
            assert_eq!(config.validate().is_ok(), mode == mode::CBPF, "{mode}");
        }
        let by_id = GroupConfig { mode: mode::EBPF, flags: 0, ..GroupConfig::default() };
        by_id.validate().unwrap();
    }
}
