//! What a program asks of a packet, and whether that is known of one that the
//! kernel has put into a ring.

use super::ancillary::{Ancillary, LL_OFF};
use super::instruction::{Operation, Register, Size};
use super::program::Program;

/// What a program looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Only properties of the packet that its record still has.
    pub known: bool,
    /// The first bytes of the packet that it may load; `u32::MAX`: anywhere.
    pub bytes: u32,
}

impl Program {
    /// What it asks, on whatever way through it.
    pub fn needs(&self) -> Needs {
        let operations = || self.instructions().iter().filter_map(|i| i.operation());
        let known = !operations().any(|operation| match operation {
            Operation::LoadAbsolute(_, k) => {
                Ancillary::from_constant(k).is_some_and(|ancillary| !is_kept(ancillary))
            }
            _ => false,
        });
        // X as large as anything sets it, on another way even.
        let x = operations()
            .map(|operation| match operation {
                Operation::LoadHeaderLength(_) => 60,
                Operation::LoadConstant(Register::X, k) => k,
                Operation::LoadMemory(Register::X, _)
                | Operation::LoadLength(Register::X)
                | Operation::CopyAToX => u32::MAX,
                _ => 0,
            })
            .max()
            .unwrap_or(0);
        let bytes = operations()
            .map(|operation| match operation {
                Operation::LoadAbsolute(_, k) if Ancillary::from_constant(k).is_some() => 0,
                Operation::LoadAbsolute(size, k) => end(k, size),
                Operation::LoadIndirect(size, k) => end(x.saturating_add(k), size),
                Operation::LoadHeaderLength(k) => end(k, Size::Byte),
                _ => 0,
            })
            .max()
            .unwrap_or(0);
        Needs { known, bytes }
    }
}

/// Behind the last byte of a load; from a header on it may lie anywhere.
fn end(offset: u32, size: Size) -> u32 {
    if offset >= LL_OFF { u32::MAX } else { offset.saturating_add(size.bytes()) }
}

/// What a ring's record has of the packet as the filter saw it. Its flow hash
/// is computed after the filter ran, and the receive queue is not in it.
fn is_kept(ancillary: Ancillary) -> bool {
    match ancillary {
        Ancillary::Protocol
        | Ancillary::PacketType
        | Ancillary::Ifindex
        | Ancillary::HardwareType
        | Ancillary::XorX
        | Ancillary::VlanTag
        | Ancillary::VlanTagPresent
        | Ancillary::VlanTpid => true,
        Ancillary::NetlinkAttribute
        | Ancillary::NetlinkAttributeNested
        | Ancillary::Mark
        | Ancillary::Queue
        | Ancillary::Rxhash
        | Ancillary::Cpu
        | Ancillary::PayloadOffset
        | Ancillary::Random => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Instruction;
    use super::*;

    fn needs(instructions: &[(u16, u32)]) -> (bool, u32) {
        let mut program: Vec<_> =
            instructions.iter().map(|(code, k)| Instruction::new(*code, 0, 0, *k)).collect();
        program.push(Instruction::new(0x06, 0, 0, 1));
        let needs = Program::new(&program).unwrap().needs();
        (needs.known, needs.bytes)
    }

    #[test]
    fn bytes_and_properties() {
        assert_eq!(needs(&[]), (true, 0));
        assert_eq!(needs(&[(0x80, 0)]), (true, 0)); // ld #pktlen
        assert_eq!(needs(&[(0x28, 12), (0x30, 23)]), (true, 24));
        assert_eq!(needs(&[(0x20, u32::MAX >> 1)]), (true, 0x8000_0003));
        // tcp port: ldxb 4*([14]&0xf); ldh [x + 16]
        assert_eq!(needs(&[(0xb1, 14), (0x48, 16)]), (true, 78));
        assert_eq!(needs(&[(0x48, 16)]), (true, 18));
        assert_eq!(needs(&[(0x01, 100), (0x50, 1)]), (true, 102));
        assert_eq!(needs(&[(0x07, 0), (0x50, 1)]), (true, u32::MAX));
        assert_eq!(needs(&[(0x81, 0), (0x50, 1)]), (true, u32::MAX));
        // Relative to a header, and a sum that wraps.
        assert_eq!(needs(&[(0x20, 0xfff0_0004)]), (true, u32::MAX));
        assert_eq!(needs(&[(0x20, 0xffe0_0004)]), (true, u32::MAX));
        assert_eq!(needs(&[(0x01, 2), (0x50, u32::MAX)]), (true, u32::MAX));
        for (offset, known) in [
            (0, true),
            (4, true),
            (8, true),
            (12, false),
            (16, false),
            (20, false),
            (24, false),
            (28, true),
            (32, false),
            (36, false),
            (40, true),
            (44, true),
            (48, true),
            (52, false),
            (56, false),
            (60, true),
        ] {
            assert_eq!(needs(&[(0x20, 0xffff_f000 + offset)]), (known, 0), "{offset}");
        }
    }
}
