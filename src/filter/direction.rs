//! Packets of one direction only: a few instructions in front of a program,
//! where the kernel has no socket option for it.

use super::instruction::Instruction;
use super::program::Program;
use super::validate::MAX_INSTRUCTIONS;
use crate::error::{Error, Result};

/// Which packets the program sees; the kernel marks those that this host sends
/// with PACKET_OUTGOING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// All.
    #[default]
    Both,
    /// Those that were received.
    Incoming,
    /// Those that this host sends.
    Outgoing,
}

const PACKET_OUTGOING: u32 = 4;

impl Direction {
    /// The flag that asks for it, in messages.
    fn flag(self) -> &'static str {
        match self {
            Self::Outgoing => "NETRING_CAPTURE_IGNORE_INCOMING",
            Self::Both | Self::Incoming => "NETRING_CAPTURE_IGNORE_OUTGOING",
        }
    }

    /// The check; behind it everything is as at the start of a program: A is 0,
    /// no word of M[] is written.
    fn check(self) -> Option<[Instruction; 4]> {
        let (outgoing, others) = match self {
            Self::Both => return None,
            Self::Incoming => (0, 1),
            Self::Outgoing => (1, 0),
        };
        Some([
            Instruction::new(0x20, 0, 0, super::ancillary::PACKET_TYPE), // ld #pkttype
            Instruction::new(0x15, outgoing, others, PACKET_OUTGOING),   // jeq
            Instruction::new(0x06, 0, 0, 0),                             // ret #0
            Instruction::new(0x00, 0, 0, 0),                             // ld #0
        ])
    }

    /// Where a program cannot be given it.
    pub(super) fn not_with_ebpf(self) -> Error {
        let flag = self.flag();
        let why = if self == Self::Outgoing {
            "no kernel"
        } else {
            "no kernel before Linux 4.20 (6.2 in a fanout group)"
        };
        Error::config(
            "flags",
            format!(
                "{flag} with an eBPF filter: {why} has a socket option for it, and nothing can be \
                 put in front of an eBPF program; leave the flag out and let the program look at \
                 pkt_type of its struct __sk_buff (PACKET_OUTGOING is 4)"
            ),
        )
    }
}

impl Program {
    /// The same program for packets of one direction; the others are rejected.
    ///
    /// # Errors
    /// `Config`: it would be longer than the kernel takes.
    pub fn with_direction(&self, direction: Direction) -> Result<Self> {
        let Some(check) = direction.check() else { return Ok(self.clone()) };
        if self.len().saturating_add(check.len()) > MAX_INSTRUCTIONS {
            return Err(Error::config(
                "filter",
                format!(
                    "a filter of {} instructions has no room for the {} that {} takes: the kernel \
                     takes {MAX_INSTRUCTIONS} in all; use a simpler filter",
                    self.len(),
                    check.len(),
                    direction.flag()
                ),
            ));
        }
        Self::new(&[&check, self.instructions()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Metadata, PacketView};
    use super::*;
    use crate::error::Kind;

    fn verdict(program: &Program, packet_type: u8) -> u32 {
        let metadata = Metadata { packet_type: Some(packet_type), ..Metadata::default() };
        program.verdict(&PacketView { metadata, ..PacketView::new(&[0; 60]) }).unwrap()
    }

    #[test]
    fn one_direction_passes() {
        let all = Program::keep(77);
        for (direction, host, outgoing) in
            [(Direction::Both, 77, 77), (Direction::Incoming, 77, 0), (Direction::Outgoing, 0, 77)]
        {
            let program = all.with_direction(direction).unwrap();
            assert_eq!((verdict(&program, 0), verdict(&program, 4)), (host, outgoing));
            // Broadcast, multicast and other hosts' are received as well.
            for other in 1..=3 {
                assert_eq!(verdict(&program, other), host);
            }
        }
    }

    #[test]
    fn the_program_behind_starts_as_ever() {
        // txa; jeq #0 (A is 0), then A + X is returned: both were 0.
        let program = Program::new(&[
            Instruction::new(0x15, 0, 3, 0),
            Instruction::new(0x0c, 0, 0, 0),
            Instruction::new(0x04, 0, 0, 9),
            Instruction::new(0x16, 0, 0, 0),
            Instruction::new(0x06, 0, 0, 0),
        ])
        .unwrap();
        assert_eq!(verdict(&program.with_direction(Direction::Outgoing).unwrap(), 4), 9);
        // A word of M[] that nothing has written stays refused.
        assert!(Program::new(&[Instruction::new(0x60, 0, 0, 0)]).is_err());
    }

    #[test]
    fn no_room() {
        let ret = Instruction::new(0x06, 0, 0, 1);
        let most = Program::new(&vec![ret; 4092]).unwrap();
        assert_eq!(most.with_direction(Direction::Incoming).unwrap().len(), 4096);
        let error = Program::new(&vec![ret; 4093])
            .unwrap()
            .with_direction(Direction::Outgoing)
            .unwrap_err();
        assert_eq!((error.kind, error.option.as_ref()), (Kind::Config, "filter"));
        assert!(error.message.contains("4093") && error.message.contains("IGNORE_INCOMING"));
    }
}
