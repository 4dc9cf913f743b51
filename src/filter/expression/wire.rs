//! A program that libpcap made for the bytes on the wire, rewritten to give the
//! same verdict where the kernel runs it.
//!
//! Of a received frame the kernel keeps the outer VLAN tag next to the bytes; of a
//! sent one it may be in them. So the program is there twice: as it is, and as if
//! the four bytes of the tag stood at offset 12. `SKF_AD_VLAN_TAG_PRESENT` says
//! which one a packet needs.
//!
//! What libpcap's own interpreter (bpf_filter.c), which defines the verdict on the
//! wire, does otherwise than the kernel is made alike too: an index of 2^31 and
//! more, which the kernel would count from a header or wrap, is outside of the
//! packet; a shift by 32 and more gives 0.

use super::super::ancillary::{AD_OFF, Ancillary};
use super::super::instruction::{Alu, Instruction, Operand, Operation, Register, Size};
use super::super::program::Program;
use super::super::validate::{MAX_INSTRUCTIONS, MEMORY_WORDS};
use super::assemble::{Assembler, Label};
use super::facts::{self, Facts};
use crate::error::{Error, Kind, Result};

/// What a packet that matches keeps: all of it.
pub const KEEP: u32 = i32::MAX as u32;

/// The first byte that no packet has.
const NOWHERE: u32 = 1 << 31;
/// Where the tag begins, and where it ends.
const TAG: u32 = 12;
const BEHIND: u32 = 16;

// Codes of <linux/filter.h>.
const LD: u16 = 0x20;
const LDB: u16 = 0x30;
const LD_LEN: u16 = 0x80;
const LD_IMM: u16 = 0x00;
const LDX_MSH: u16 = 0xb1;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ADD: u16 = 0x04;
const SUB: u16 = 0x14;
const OR_X: u16 = 0x4c;
const AND: u16 = 0x54;
const LSH: u16 = 0x64;
const RSH: u16 = 0x74;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;

fn absolute(size: Size) -> u16 {
    match size {
        Size::Word => 0x20,
        Size::Half => 0x28,
        Size::Byte => 0x30,
    }
}

fn indirect(size: Size) -> u16 {
    match size {
        Size::Word => 0x40,
        Size::Half => 0x48,
        Size::Byte => 0x50,
    }
}

fn ancillary(what: Ancillary) -> u32 {
    AD_OFF.wrapping_add(what as u32)
}

/// The program that libpcap made, as the kernel could take it.
///
/// # Errors
/// `Filter`: it loops (`protochain`), is too long, or reads memory that it has not
/// written on every way (`geneve or ip`).
pub fn checked(program: &[Instruction]) -> Result<Program> {
    let back = |i: &&Instruction| matches!(i.operation(), Some(Operation::Jump(k)) if k >= NOWHERE);
    if program.iter().any(|i| back(&i)) {
        return Err(refused(
            "its program jumps backwards, as \"protochain\" does, and the kernel takes no loops: \
             test for one header (\"ip proto\", \"ip6 proto\") instead"
                .into(),
        ));
    }
    fits(program.len())?;
    Program::new(program).map_err(|mut error| {
        error.option = "expression".into();
        // What libpcap's own interpreter finds there is chance.
        if error.message.contains("not every way") && program.iter().any(reads_memory) {
            error.message.push_str(
                "; after \"geneve\" an expression asks for what is inside of that, which other \
                 packets have not: put it last (\"ip or geneve\")",
            );
        }
        error
    })
}

fn reads_memory(instruction: &Instruction) -> bool {
    matches!(instruction.operation(), Some(Operation::LoadMemory(..)))
}

fn fits(length: usize) -> Result<()> {
    if length <= MAX_INSTRUCTIONS {
        return Ok(());
    }
    Err(refused(format!(
        "its program has {length} instructions, the kernel takes at most {MAX_INSTRUCTIONS}: make \
         the expression shorter, or apply parts of it to several captures"
    )))
}

/// Returns alone are changed: a packet that matches is kept whole.
pub fn keeping_all(program: &Program) -> Result<Program> {
    let mut all = program.instructions().to_vec();
    for instruction in &mut all {
        if matches!(instruction.operation(), Some(Operation::ReturnConstant(1..))) {
            instruction.k = KEEP;
        }
    }
    Program::new(&all)
}

/// The program with the verdict on the wire. `vlan`: the kernel may keep a tag of
/// these packets next to the bytes. `asks`: direction and interface may be asked
/// for; otherwise an offset that happens to be theirs is outside of the packet.
///
/// # Errors
/// `Filter`: it gets too long, or would need more memory words than there are.
pub fn rewritten(program: &Program, vlan: bool, asks: bool) -> Result<Program> {
    let mut plain = Copy::new(program, false, asks);
    plain.write()?;
    let plain = plain.assembler.finish();
    if !vlan {
        fits(plain.len())?;
        return Program::new(&plain);
    }
    let mut tagged = Copy::new(program, true, asks);
    tagged.write()?;
    let tagged = tagged.assembler.finish();
    if tagged == plain {
        fits(plain.len())?;
        return Program::new(&plain);
    }
    let mut both = Assembler::default();
    let (with, without) = (both.label(), both.label());
    both.plain(LDB, ancillary(Ancillary::VlanTagPresent));
    both.branch(JEQ, 0, without, with);
    both.bind(with);
    both.fresh_program(&tagged);
    both.bind(without);
    both.fresh_program(&plain);
    let both = both.finish();
    fits(both.len())?;
    Program::new(&both)
}

/// One program for packets of several kinds, each with the hardware types
/// (`ARPHRD_*`) that it is for. Packets of others are rejected.
pub fn by_hardware(programs: &[(Vec<u16>, Program)]) -> Result<Program> {
    let mut all = Assembler::default();
    all.plain(LD, ancillary(Ancillary::HardwareType));
    let labels: Vec<Label> = programs.iter().map(|_| all.label()).collect();
    for ((types, _), label) in programs.iter().zip(&labels) {
        for hardware in types {
            let next = all.label();
            all.branch(JEQ, u32::from(*hardware), *label, next);
            all.bind(next);
        }
    }
    all.plain(RET, 0);
    for ((_, program), label) in programs.iter().zip(&labels) {
        all.bind(*label);
        all.fresh_program(program.instructions());
    }
    let all = all.finish();
    fits(all.len())?;
    Program::new(&all)
}

/// A copy of a program in the making.
struct Copy<'a> {
    program: &'a Program,
    tagged: bool,
    asks: bool,
    assembler: Assembler,
    /// Words of M[] that the program does not use.
    free: Vec<u32>,
}

impl<'a> Copy<'a> {
    fn new(program: &'a Program, tagged: bool, asks: bool) -> Self {
        let uses = |word: u32| {
            program.instructions().iter().any(|i| {
                matches!(
                    i.operation(),
                    Some(Operation::Store(_, k) | Operation::LoadMemory(_, k)) if k == word
                )
            })
        };
        let words = u32::try_from(MEMORY_WORDS).unwrap_or(0);
        let free = (0..words).filter(|word| !uses(*word)).collect();
        Self { program, tagged, asks, assembler: Assembler::default(), free }
    }

    fn put(&mut self, code: u16, k: u32) {
        self.assembler.plain(code, k);
    }

    /// A word to keep a register in for a while.
    fn word(&self) -> Result<u32> {
        self.free.first().copied().ok_or_else(|| {
            refused(
                "its program uses all memory words, and none is left to put a VLAN tag together \
                 in: make the arithmetic in it simpler"
                    .into(),
            )
        })
    }

    fn write(&mut self) -> Result<()> {
        let instructions = self.program.instructions();
        let facts = facts::of(instructions, self.tagged);
        let labels: Vec<Label> = instructions.iter().map(|_| self.assembler.label()).collect();
        let label = |index: usize, skip: u32| {
            labels.get(index.saturating_add(1).saturating_add(skip as usize)).copied()
        };
        for (index, (instruction, facts)) in instructions.iter().zip(&facts).enumerate() {
            let (Some((facts, ways)), Some(operation)) = (facts, instruction.operation()) else {
                continue;
            };
            if let Some(label) = labels.get(index) {
                self.assembler.bind(*label);
            }
            match operation {
                Operation::Jump(k) => {
                    if let Some(to) = label(index, k) {
                        self.assembler.jump(to);
                    }
                }
                Operation::Branch(_, _, jt, jf) => {
                    let (Some(holds), Some(fails)) =
                        (label(index, jt.into()), label(index, jf.into()))
                    else {
                        continue; // valid programs have both
                    };
                    match (ways.holds, ways.fails) {
                        (true, true) => {
                            let (code, k) = (instruction.code, instruction.k);
                            self.assembler.branch(code, k, holds, fails);
                        }
                        (true, false) => self.assembler.jump(holds),
                        _ => self.assembler.jump(fails),
                    }
                }
                _ => self.one(*instruction, operation, facts)?,
            }
        }
        Ok(())
    }

    /// An instruction that does not jump.
    fn one(&mut self, as_it_is: Instruction, operation: Operation, facts: &Facts) -> Result<()> {
        match operation {
            Operation::LoadAbsolute(size, k) => self.load(size, k)?,
            Operation::LoadIndirect(size, k) => self.load_indirect(size, k, facts)?,
            Operation::LoadHeaderLength(k) => self.load_header_length(k)?,
            Operation::LoadLength(Register::A) if self.tagged => {
                self.put(LD_LEN, 0);
                self.put(ADD, 4);
            }
            Operation::LoadLength(Register::X) if self.tagged => {
                let word = self.word()?;
                self.put(ST, word);
                self.put(LD_LEN, 0);
                self.put(ADD, 4);
                self.put(TAX, 0);
                self.put(LD_MEM, word);
            }
            Operation::Arithmetic(Alu::ShiftLeft | Alu::ShiftRight, Operand::X)
                if facts.x.high >= u32::BITS =>
            {
                let word = self.word()?;
                let (zero, shift, end) =
                    (self.assembler.label(), self.assembler.label(), self.assembler.label());
                self.put(ST, word);
                self.put(TXA, 0);
                self.assembler.branch(JGE, u32::BITS, zero, shift);
                self.assembler.bind(zero);
                self.put(LD_IMM, 0);
                self.assembler.jump(end);
                self.assembler.bind(shift);
                self.put(LD_MEM, word);
                self.put(as_it_is.code, as_it_is.k);
                self.assembler.bind(end);
            }
            Operation::ReturnConstant(1..) => self.put(RET, KEEP),
            _ => self.put(as_it_is.code, as_it_is.k),
        }
        Ok(())
    }

    fn reject(&mut self) {
        self.put(RET, 0);
    }

    /// A = the wire's bytes at `k`.
    fn load(&mut self, size: Size, k: u32) -> Result<()> {
        match Ancillary::from_constant(k) {
            Some(Ancillary::PacketType | Ancillary::Ifindex) if self.asks => {
                self.put(absolute(size), k);
            }
            _ if k >= NOWHERE => self.reject(),
            _ if !self.tagged || k.saturating_add(size.bytes()) <= TAG => {
                self.put(absolute(size), k);
            }
            _ if k >= BEHIND => self.put(absolute(size), k.saturating_sub(4)),
            _ => self.load_tag(size, k)?,
        }
        Ok(())
    }

    /// As `load`, where some of the bytes are the tag's.
    fn load_tag(&mut self, size: Size, k: u32) -> Result<()> {
        match (size, k) {
            (Size::Half, 12) => self.put(LD, ancillary(Ancillary::VlanTpid)),
            (Size::Half, 14) => self.put(LD, ancillary(Ancillary::VlanTag)),
            (Size::Byte, _) => self.load_byte(k),
            (Size::Word, 12) => {
                let word = self.word()?;
                self.put(STX, word);
                self.put(LD, ancillary(Ancillary::VlanTpid));
                self.put(LSH, 16);
                self.put(TAX, 0);
                self.put(LD, ancillary(Ancillary::VlanTag));
                self.put(OR_X, 0);
                self.put(LDX_MEM, word);
            }
            _ => {
                let word = self.word()?;
                self.put(STX, word);
                for byte in 0..size.bytes() {
                    self.load_byte(k.saturating_add(byte));
                    let behind = size.bytes().saturating_sub(byte).saturating_sub(1);
                    if behind > 0 {
                        self.put(LSH, behind.saturating_mul(8));
                    }
                    if byte > 0 {
                        self.put(OR_X, 0);
                    }
                    if behind > 0 {
                        self.put(TAX, 0);
                    }
                }
                self.put(LDX_MEM, word);
            }
        }
        Ok(())
    }

    /// A = the wire's byte at `k`.
    fn load_byte(&mut self, k: u32) {
        let (tag, high) = match k {
            12 => (Ancillary::VlanTpid, true),
            13 => (Ancillary::VlanTpid, false),
            14 => (Ancillary::VlanTag, true),
            15 => (Ancillary::VlanTag, false),
            _ if k < TAG => return self.put(LDB, k),
            _ => return self.put(LDB, k.saturating_sub(4)),
        };
        self.put(LD, ancillary(tag));
        if high {
            self.put(RSH, 8);
        } else {
            self.put(AND, 0xff);
        }
    }

    /// X = the length of the IPv4 header at `k`.
    fn load_header_length(&mut self, k: u32) -> Result<()> {
        match k {
            NOWHERE.. => self.reject(),
            _ if !self.tagged || k < TAG => self.put(LDX_MSH, k),
            BEHIND.. => self.put(LDX_MSH, k.saturating_sub(4)),
            _ => {
                let word = self.word()?;
                self.put(ST, word);
                self.load_byte(k);
                self.put(AND, 0xf);
                self.put(LSH, 2);
                self.put(TAX, 0);
                self.put(LD_MEM, word);
            }
        }
        Ok(())
    }

    /// A = the wire's bytes at X + `k`.
    fn load_indirect(&mut self, size: Size, k: u32, facts: &Facts) -> Result<()> {
        if k >= NOWHERE || facts.x.low >= NOWHERE {
            self.reject();
            return Ok(());
        }
        let mut highest = facts.x.high;
        if highest >= NOWHERE {
            highest = NOWHERE.saturating_sub(1);
            let (outside, inside) = (self.assembler.label(), self.assembler.label());
            self.put(TXA, 0);
            self.assembler.branch(JSET, NOWHERE, outside, inside);
            self.assembler.bind(outside);
            self.reject();
            self.assembler.bind(inside);
        }
        // No sum wraps: both are less than 2^31.
        let (low, high) = (facts.x.low.saturating_add(k), highest.saturating_add(k));
        let last_before = TAG.saturating_sub(size.bytes());
        if !self.tagged || high <= last_before {
            self.put(indirect(size), k);
            return Ok(());
        }
        if low >= BEHIND && k >= 4 {
            self.put(indirect(size), k.saturating_sub(4));
            return Ok(());
        }
        let end = self.assembler.label();
        self.put(TXA, 0);
        if k != 0 {
            self.put(ADD, k);
        }
        if high >= BEHIND {
            let (behind, not) = (self.assembler.label(), self.assembler.label());
            self.assembler.branch(JGE, BEHIND, behind, not);
            self.assembler.bind(behind);
            if k >= 4 {
                self.put(indirect(size), k.saturating_sub(4));
            } else {
                // Not [x + k - 4]: before Linux 4.18 a negative constant meant a header.
                let word = self.word()?;
                self.put(STX, word);
                self.put(SUB, 4);
                self.put(TAX, 0);
                self.put(indirect(size), 0);
                self.put(LDX_MEM, word);
            }
            self.assembler.jump(end);
            self.assembler.bind(not);
        }
        if low <= last_before {
            let (not, before) = (self.assembler.label(), self.assembler.label());
            self.assembler.branch(JGT, last_before, not, before);
            self.assembler.bind(before);
            self.put(indirect(size), k);
            self.assembler.jump(end);
            self.assembler.bind(not);
        }
        let first = low.max(last_before.saturating_add(1));
        let last = high.min(BEHIND.saturating_sub(1));
        for place in first..=last {
            let (here, not) = (self.assembler.label(), self.assembler.label());
            if place < last {
                self.assembler.branch(JEQ, place, here, not);
                self.assembler.bind(here);
            }
            self.load(size, place)?;
            self.assembler.jump(end);
            self.assembler.bind(not);
        }
        self.assembler.bind(end);
        Ok(())
    }
}

fn refused(reason: String) -> Error {
    Error::new(Kind::Filter, "expression", format!("filter refused: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Metadata, PacketView, Vlan};

    fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction::new(code, jt, jf, k)
    }

    #[test]
    fn a_program_that_asks_for_addresses_only_is_there_once() {
        let program = [i(LD, 0, 0, 8), i(JEQ, 0, 1, 5), i(RET, 0, 0, 9), i(RET, 0, 0, 0)];
        let program = Program::new(&program).unwrap();
        let all = rewritten(&program, true, false).unwrap();
        assert_eq!(all.instructions()[..2], program.instructions()[..2]);
        assert_eq!((all.len(), all.max_keep()), (4, Some(KEEP)));
    }

    #[test]
    fn loops_and_unwritten_memory_are_refused() {
        let back = [i(RET, 0, 0, 1), i(0x05, 0, 0, u32::MAX - 1), i(RET, 0, 0, 0)];
        assert!(checked(&back).unwrap_err().message.contains("protochain"));
        let unwritten = [i(JEQ, 0, 1, 0), i(STX, 0, 0, 3), i(LD_MEM, 0, 0, 3), i(RET, 0, 0, 1)];
        assert!(Program::new(&unwritten).is_err());
        let error = checked(&unwritten).unwrap_err();
        assert!(error.message.contains("geneve") && error.option == "expression", "{error}");
        assert!(checked(&vec![i(RET, 0, 0, 1); MAX_INSTRUCTIONS + 1]).is_err());
    }

    #[test]
    fn offsets_that_the_kernel_gives_a_meaning_are_outside() {
        for k in [AD_OFF, AD_OFF + 4, AD_OFF + 8, AD_OFF + 36, 0xfff0_0000, 0xffe0_0004, NOWHERE] {
            let program = Program::new(&[i(LDB, 0, 0, k), i(RET, 0, 0, 1)]).unwrap();
            let all = rewritten(&program, true, false).unwrap();
            assert_eq!(all.instructions(), [i(RET, 0, 0, 0)], "{k:#x}");
            // "inbound" means it.
            let asks = rewritten(&program, true, true).unwrap();
            assert_eq!(asks.len() > 1, k == AD_OFF + 4 || k == AD_OFF + 8, "{k:#x}");
        }
    }

    #[test]
    fn memory_can_run_out() {
        let mut all: Vec<_> = (0..16).map(|word| i(ST, 0, 0, word)).collect();
        all.extend([i(LD, 0, 0, 12), i(RET, 0, 0, 1)]);
        let error = rewritten(&Program::new(&all).unwrap(), true, false).unwrap_err();
        assert!(error.message.contains("memory words"), "{error}");
        all.remove(7);
        assert!(rewritten(&Program::new(&all).unwrap(), true, false).is_ok());
    }

    #[test]
    fn far_targets_are_reached() {
        let mut all = vec![i(0x28, 0, 0, 14), i(JEQ, 0, 1, 1), i(0x05, 0, 0, 1501)];
        all.extend((0..1500).map(|_| i(ADD, 0, 0, 1)));
        all.extend([i(RET, 0, 0, 0), i(RET, 0, 0, 7)]);
        let program = Program::new(&all).unwrap();
        let rewritten = rewritten(&program, true, false).unwrap();
        let mut frame = [0_u8; 60];
        for (tci, kept) in [(1, KEEP), (2, 0)] {
            frame[15] = tci;
            let absent = Metadata { vlan: Vlan::Absent, ..Metadata::default() };
            let view = PacketView { metadata: absent, ..PacketView::new(&frame) };
            assert_eq!(rewritten.verdict(&view), Ok(kept), "in the bytes: {tci}");
            let vlan = Vlan::Present { tci: tci.into(), tpid: Some(0x8100) };
            let present = Metadata { vlan, ..Metadata::default() };
            let view = PacketView { metadata: present, ..PacketView::new(&frame[4..]) };
            assert_eq!(rewritten.verdict(&view), Ok(kept), "beside them: {tci}");
        }
    }
}
