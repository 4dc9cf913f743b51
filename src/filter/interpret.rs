//! Runs a program over a packet as Linux does for an `AF_PACKET` socket.
//!
//! The semantics are those of the translation to eBPF (`bpf_convert_filter()`
//! in net/core/filter.c): 32-bit wrapping registers that start at 0, shifts by
//! X taken modulo 32, and a verdict of 0 for a load outside of the packet or a
//! division by an X of 0.

use super::ancillary::{Ancillary, LL_OFF, NET_OFF};
use super::instruction::{Alu, Comparison, Operand, Operation, Register, Size};
use super::program::Program;
use super::validate::MEMORY_WORDS;
use super::view::{PacketView, Vlan};
use crate::error::{Error, Kind, Result};

/// Why there is no verdict: the program asked for what is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// A property of the packet that user space does not have.
    #[error("it loads {0}, which is not known for this packet outside of the kernel")]
    Ancillary(Ancillary),
    /// A load relative to the network header, whose place is not known.
    #[error("it loads relative to the network header (SKF_NET_OFF), whose place is not known")]
    NetworkOffset,
    /// A load relative to the link-layer header, which is not in the data.
    #[error("it loads relative to the link-layer header (SKF_LL_OFF), which is not in the data")]
    LinkOffset,
    /// A load of bytes that were on the wire but were cut off.
    #[error(
        "it loads {size} byte(s) at {offset}, but only {caplen} of the packet's {len} bytes were \
         captured; capture more of each packet (snap_length)"
    )]
    Cut {
        /// Where the load starts.
        offset: u32,
        /// How many bytes it takes.
        size: u32,
        /// How many bytes there are.
        caplen: usize,
        /// How many there were.
        len: u32,
    },
}

impl From<Unanswered> for Error {
    fn from(reason: Unanswered) -> Self {
        Self::new(
            Kind::NotSupported,
            "program",
            format!("not supported: the filter cannot be run on this packet: {reason}"),
        )
    }
}

/// How a program ends early.
enum Stop {
    /// With a verdict of 0, as in the kernel.
    Reject,
    /// Without a verdict.
    Unanswered(Unanswered),
}

impl Program {
    /// How many bytes the kernel would keep of a packet (0: none, rejected), or
    /// why that cannot be told. Neither allocates nor loops.
    ///
    /// A load behind the end of the packet rejects it, as in the kernel. A load
    /// behind the end of the *captured* bytes but within the packet is
    /// [`Unanswered::Cut`]: on the whole packet the kernel might have accepted
    /// it, so "no match" would be a guess.
    pub fn verdict(&self, packet: &PacketView<'_>) -> std::result::Result<u32, Unanswered> {
        match execute(self, packet) {
            Ok(keep) => Ok(keep),
            Err(Stop::Reject) => Ok(0),
            Err(Stop::Unanswered(reason)) => Err(reason),
        }
    }

    /// [`Program::verdict`] with the library's error: `NotSupported` where there
    /// is no verdict.
    pub fn run(&self, packet: &PacketView<'_>) -> Result<u32> {
        self.verdict(packet).map_err(Error::from)
    }
}

fn execute(program: &Program, packet: &PacketView<'_>) -> std::result::Result<u32, Stop> {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory = [0_u32; MEMORY_WORDS];
    // Jumps only go forward, so the rest of the program bounds the run.
    let mut rest = program.instructions().iter();
    while let Some(instruction) = rest.next() {
        let Some(operation) = instruction.operation() else {
            break; // validated: never
        };
        let skip = match operation {
            Operation::LoadAbsolute(size, k) => {
                a = match Ancillary::from_constant(k) {
                    Some(Ancillary::XorX) => a ^ x,
                    Some(ancillary) => load_ancillary(packet, ancillary)?,
                    None => load(packet, size, k)?,
                };
                0
            }
            Operation::LoadIndirect(size, k) => {
                // Ancillary offsets are special in absolute loads only: the sum
                // is a place in the packet, or relative to a header.
                a = load(packet, size, x.wrapping_add(k))?;
                0
            }
            Operation::LoadHeaderLength(k) => {
                x = (load(packet, Size::Byte, k)? & 0xf) << 2;
                0
            }
            Operation::LoadLength(register) => set(register, packet.len, &mut a, &mut x),
            Operation::LoadConstant(register, k) => set(register, k, &mut a, &mut x),
            Operation::LoadMemory(register, k) => {
                let word = memory.get(k as usize).copied().unwrap_or(0);
                set(register, word, &mut a, &mut x)
            }
            Operation::Store(register, k) => {
                if let Some(word) = memory.get_mut(k as usize) {
                    *word = if register == Register::A { a } else { x };
                }
                0
            }
            Operation::Arithmetic(op, operand) => {
                a = arithmetic(op, a, value(operand, x)).ok_or(Stop::Reject)?;
                0
            }
            Operation::Negate => {
                a = a.wrapping_neg();
                0
            }
            Operation::Jump(k) => k,
            Operation::Branch(comparison, operand, jt, jf) => {
                let b = value(operand, x);
                let holds = match comparison {
                    Comparison::Equal => a == b,
                    Comparison::Greater => a > b,
                    Comparison::GreaterOrEqual => a >= b,
                    Comparison::AnySet => a & b != 0,
                };
                u32::from(if holds { jt } else { jf })
            }
            Operation::ReturnConstant(k) => return Ok(k),
            Operation::ReturnA => return Ok(a),
            Operation::CopyAToX => {
                x = a;
                0
            }
            Operation::CopyXToA => {
                a = x;
                0
            }
        };
        if let Some(last_skipped) = skip.checked_sub(1) {
            rest.nth(last_skipped as usize);
        }
    }
    // A validated program returns before its end.
    Err(Stop::Reject)
}

/// Sets a register; no instruction that does jumps.
fn set(register: Register, value: u32, a: &mut u32, x: &mut u32) -> u32 {
    match register {
        Register::A => *a = value,
        Register::X => *x = value,
    }
    0
}

fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::Constant(k) => k,
        Operand::X => x,
    }
}

/// A op b; `None` for a division by 0.
pub(super) fn arithmetic(op: Alu, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Subtract => a.wrapping_sub(b),
        Alu::Multiply => a.wrapping_mul(b),
        Alu::Divide => a.checked_div(b)?,
        Alu::Modulo => a.checked_rem(b)?,
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        // Modulo 32, as eBPF's 32-bit shifts; libpcap's own interpreter gives 0.
        Alu::ShiftLeft => a.wrapping_shl(b),
        Alu::ShiftRight => a.wrapping_shr(b),
    })
}

/// A load from the packet. Offsets that are negative as a 32-bit number count
/// from a header (`bpf_skb_load_helper_*()` in net/core/filter.c).
fn load(packet: &PacketView<'_>, size: Size, k: u32) -> std::result::Result<u32, Stop> {
    let start = if k >= NET_OFF {
        let base = packet.metadata.net_offset.ok_or(Stop::Unanswered(Unanswered::NetworkOffset))?;
        u64::from(base).saturating_add(u64::from(k.wrapping_sub(NET_OFF)))
    } else if k >= LL_OFF {
        let base = packet.metadata.link_offset.ok_or(Stop::Unanswered(Unanswered::LinkOffset))?;
        u64::from(base).saturating_add(u64::from(k.wrapping_sub(LL_OFF)))
    } else {
        // Up to i32::MAX a place in the packet; from there to SKF_LL_OFF nothing.
        u64::from(k)
    };
    let Ok(offset) = u32::try_from(start) else { return Err(Stop::Reject) };
    if i32::try_from(offset).is_err() {
        return Err(Stop::Reject);
    }
    let bytes = packet.data.get(offset as usize..).unwrap_or(&[]);
    let loaded = match size {
        Size::Byte => bytes.first().map(|b| u32::from(*b)),
        Size::Half => bytes.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b))),
        Size::Word => bytes.first_chunk().map(|b| u32::from_be_bytes(*b)),
    };
    loaded.ok_or_else(|| {
        if start.saturating_add(u64::from(size.bytes())) <= u64::from(packet.len) {
            Stop::Unanswered(Unanswered::Cut {
                offset,
                size: size.bytes(),
                caplen: packet.data.len(),
                len: packet.len,
            })
        } else {
            Stop::Reject
        }
    })
}

/// An ancillary load; its size does not matter, as in the kernel.
fn load_ancillary(packet: &PacketView<'_>, ancillary: Ancillary) -> std::result::Result<u32, Stop> {
    let known = &packet.metadata;
    let value = match ancillary {
        Ancillary::Protocol => known.protocol.map(u32::from),
        Ancillary::PacketType => known.packet_type.map(u32::from),
        Ancillary::Ifindex => known.ifindex,
        Ancillary::HardwareType => known.hardware_type.map(u32::from),
        Ancillary::Rxhash => known.rxhash,
        Ancillary::Queue => known.queue.map(u32::from),
        Ancillary::VlanTag => match known.vlan {
            Vlan::Unknown => None,
            Vlan::Absent => Some(0),
            Vlan::Present { tci, .. } => Some(tci.into()),
        },
        Ancillary::VlanTagPresent => match known.vlan {
            Vlan::Unknown => None,
            Vlan::Absent => Some(0),
            Vlan::Present { .. } => Some(1),
        },
        Ancillary::VlanTpid => match known.vlan {
            Vlan::Unknown => None,
            Vlan::Absent => Some(0),
            Vlan::Present { tpid, .. } => tpid.map(u32::from),
        },
        Ancillary::XorX // no load, handled by the caller
        | Ancillary::NetlinkAttribute
        | Ancillary::NetlinkAttributeNested
        | Ancillary::Mark
        | Ancillary::Cpu
        | Ancillary::PayloadOffset
        | Ancillary::Random => None,
    };
    value.ok_or(Stop::Unanswered(Unanswered::Ancillary(ancillary)))
}

#[cfg(test)]
mod tests {
    use super::super::view::Metadata;
    use super::super::{Instruction, MAX_INSTRUCTIONS};
    use super::*;

    const RET_A: Instruction = Instruction::new(0x16, 0, 0, 0);
    const DATA: &[u8] = &[0x45, 1, 2, 3, 0x80, 0, 0, 0xff];

    fn i(code: u16, k: u32) -> Instruction {
        Instruction::new(code, 0, 0, k)
    }

    fn program(instructions: &[Instruction]) -> Program {
        Program::new(instructions).unwrap()
    }

    fn a_after(instructions: &[Instruction]) -> u32 {
        let all = [instructions, &[RET_A]].concat();
        program(&all).verdict(&PacketView::new(DATA)).unwrap()
    }

    #[test]
    fn loads() {
        for (load, value) in [
            (vec![i(0x20, 4)], 0x8000_00ff),
            (vec![i(0x28, 1)], 0x0102),
            (vec![i(0x30, 7)], 0xff),
            (vec![i(0x80, 0)], 8),
            (vec![i(0x81, 0), i(0x87, 0)], 8),
            (vec![i(0xb1, 0), i(0x87, 0)], 20),
            (vec![i(0x01, 3), i(0x50, 4)], 0xff),
            // X + k wraps to a place in the packet.
            (vec![i(0x01, 8), i(0x50, u32::MAX)], 0xff),
            (vec![i(0x00, 9), i(0x02, 5), i(0x61, 5), i(0x87, 0)], 9),
        ] {
            assert_eq!(a_after(&load), value, "{load:?}");
        }
    }

    #[test]
    fn loads_outside_reject() {
        for load in [
            i(0x20, 5),
            i(0x28, 7),
            i(0x30, 8),
            i(0x20, i32::MAX as u32),
            i(0x30, 0x8000_0000),
            i(0x20, LL_OFF - 1),
            i(0x30, LL_OFF + 8),
            i(0xb1, 8),
        ] {
            let p = program(&[load, i(0x06, 1)]);
            assert_eq!(p.verdict(&PacketView::new(DATA)), Ok(0), "{load}");
        }
    }

    #[test]
    fn arithmetic_wraps_and_shifts_modulo_32() {
        for (code, a, b, result) in [
            (0x0c, u32::MAX, 2, 1),
            (0x1c, 1, 2, u32::MAX),
            (0x2c, 0x8000_0001, 2, 2),
            (0x3c, u32::MAX, 2, 0x7fff_ffff),
            (0x9c, 7, 4, 3),
            (0x4c, 5, 2, 7),
            (0x5c, 7, 2, 2),
            (0xac, 7, 2, 5),
            (0x6c, 1, 33, 2),
            (0x7c, 4, 65, 2),
            (0x84, 1, 0, u32::MAX),
        ] {
            assert_eq!(a_after(&[i(0x00, a), i(0x01, b), i(code, 0)]), result, "{code:#x}");
        }
        for code in [0x3c, 0x9c] {
            assert_eq!(a_after(&[i(0x00, 5), i(code, 0)]), 0);
            // The rest of the program does not run.
            let p = program(&[i(code, 0), i(0x06, 1)]);
            assert_eq!(p.verdict(&PacketView::new(DATA)), Ok(0));
        }
    }

    #[test]
    fn comparisons_are_unsigned_and_jump() {
        for (code, k, holds) in [
            (0x15, 0x8000_00ff, true),
            (0x25, 0x7fff_ffff, true),
            (0x25, 0x8000_00ff, false),
            (0x35, 0x8000_00ff, true),
            (0x35, 0x8000_0100, false),
            (0x45, 0x8000_0000, true),
            (0x45, 0x7fff_ff00, false),
        ] {
            let p = program(&[
                i(0x20, 4),
                Instruction::new(code, 1, 2, k),
                i(0x06, 1),
                i(0x06, 2),
                i(0x06, 3),
            ]);
            let expected = if holds { 2 } else { 3 };
            assert_eq!(p.verdict(&PacketView::new(DATA)), Ok(expected), "{code:#x} {k:#x}");
        }
        let far = program(&[i(0x05, 2), i(0x06, 1), i(0x06, 2), i(0x06, 3)]);
        assert_eq!(far.verdict(&PacketView::new(DATA)), Ok(3));
    }

    #[test]
    fn bytes_that_were_cut_off_give_no_verdict() {
        let cut = PacketView { len: 10, ..PacketView::new(DATA) };
        let load = |code, k| program(&[i(code, k), i(0x06, 1)]).verdict(&cut);
        assert_eq!(load(0x20, 4), Ok(1));
        assert_eq!(load(0x28, 8), Err(Unanswered::Cut { offset: 8, size: 2, caplen: 8, len: 10 }));
        assert!(matches!(load(0x20, 6), Err(Unanswered::Cut { .. })), "half of it is there");
        assert_eq!(load(0x28, 9), Ok(0), "beyond the packet itself");
        let error = program(&[i(0x30, 9), i(0x06, 1)]).run(&cut).unwrap_err();
        assert_eq!((error.kind, &*error.option), (Kind::NotSupported, "program"));
        assert!(error.message.contains("8 of the packet's 10 bytes"), "{error}");
    }

    #[test]
    fn ancillary_loads_answer_what_is_known() {
        let metadata = Metadata {
            protocol: Some(0x0806),
            packet_type: Some(4),
            ifindex: Some(7),
            hardware_type: Some(1),
            rxhash: Some(0xdead_beef),
            vlan: Vlan::Present { tci: 0x2005, tpid: Some(0x88a8) },
            queue: Some(3),
            net_offset: Some(2),
            link_offset: Some(1),
        };
        let known = PacketView { metadata, ..PacketView::new(DATA) };
        let bare = PacketView {
            metadata: Metadata { link_offset: None, ..Metadata::default() },
            ..PacketView::new(DATA)
        };
        for (k, value) in [
            (0xffff_f000, 0x0806),
            (0xffff_f004, 4),
            (0xffff_f008, 7),
            (0xffff_f018, 3),
            (0xffff_f01c, 1),
            (0xffff_f020, 0xdead_beef),
            (0xffff_f02c, 0x2005),
            (0xffff_f030, 1),
            (0xffff_f03c, 0x88a8),
            (NET_OFF + 5, 0xff),
            (LL_OFF + 3, 0x80),
        ] {
            let p = program(&[i(0x30, k), RET_A]);
            assert_eq!(p.verdict(&known), Ok(value), "{p}");
            assert!(p.verdict(&bare).is_err(), "{p}");
        }
        let xor = program(&[i(0x00, 6), i(0x01, 3), i(0x20, 0xffff_f028), RET_A]);
        assert_eq!(xor.verdict(&bare), Ok(5));
        for k in [0xffff_f00c, 0xffff_f010, 0xffff_f014, 0xffff_f024, 0xffff_f034, 0xffff_f038] {
            let error = program(&[i(0x20, k), RET_A]).run(&known).unwrap_err();
            assert_eq!(error.kind, Kind::NotSupported);
            let name = Ancillary::from_constant(k).unwrap().name();
            assert!(error.message.contains(name), "{error}");
        }
        let absent = PacketView {
            metadata: Metadata { vlan: Vlan::Absent, ..Metadata::default() },
            ..PacketView::new(DATA)
        };
        assert_eq!(program(&[i(0x30, 0xffff_f030), RET_A]).verdict(&absent), Ok(0));
    }

    /// Whatever the validator lets through runs to an end.
    #[test]
    fn random_valid_programs_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let codes: Vec<u16> = (0..=u16::MAX).filter(|c| i(*c, 0).operation().is_some()).collect();
        let constants =
            [0, 1, 3, 4, 7, 31, 32, 255, 0x7fff_ffff, 0x8000_0000, u32::MAX, NET_OFF, LL_OFF];
        let mut valid = 0;
        for _ in 0..40_000 {
            let count =
                if random() % 1000 == 0 { MAX_INSTRUCTIONS } else { 1 + random() as usize % 12 };
            let mut all: Vec<_> = (0..count)
                .map(|_| Instruction {
                    code: codes[random() as usize % codes.len()],
                    jt: (random() % 4) as u8,
                    jf: (random() % 4) as u8,
                    k: match random() % 4 {
                        0 => random() as u32,
                        1 => super::super::ancillary::AD_OFF + 4 * (random() % 16) as u32,
                        _ => constants[random() as usize % constants.len()],
                    },
                })
                .collect();
            all.push(if random() % 2 == 0 { RET_A } else { i(0x06, random() as u32) });
            let Ok(program) = Program::new(&all) else { continue };
            valid += 1;
            let data: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
            let mut packet = PacketView { len: random() as u32 % 80, ..PacketView::new(&data) };
            packet.metadata.net_offset = (random() % 2 == 0).then_some(random() as u32);
            packet.metadata.link_offset = (random() % 2 == 0).then_some(random() as u32);
            let _ = program.verdict(&packet);
            let _ = program.to_string();
        }
        assert!(valid > 5_000, "{valid} valid programs are too few to say anything");
    }
}
