//! eBPF instructions one after the other, with labels to jump forward to.

use crate::sys::bpf::Instruction;
use std::collections::BTreeMap;

/// A register. r0 to r5 do not survive a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

/// Where to jump: any number, bound once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(pub u32);

/// What an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The constant; 64-bit operations extend its sign.
    Constant(u32),
    /// A register.
    Register(Reg),
}

/// How much is loaded or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

// Classes and operations of <linux/bpf_common.h> and <linux/bpf.h>.
const LDX_MEM: u8 = 0x61;
const STX_MEM: u8 = 0x63;
const ALU: u8 = 0x04;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const X: u8 = 0x08;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JA: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LD_IMM64: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_KFUNC_CALL: u8 = 2;

pub const ADD: u8 = 0x00;
pub const SUB: u8 = 0x10;
pub const MUL: u8 = 0x20;
pub const DIV: u8 = 0x30;
pub const OR: u8 = 0x40;
pub const AND: u8 = 0x50;
pub const LSH: u8 = 0x60;
pub const RSH: u8 = 0x70;
pub const NEG: u8 = 0x80;
pub const MOD: u8 = 0x90;
pub const XOR: u8 = 0xa0;
const MOV: u8 = 0xb0;

pub const JEQ: u8 = 0x10;
pub const JGT: u8 = 0x20;
pub const JGE: u8 = 0x30;
pub const JSET: u8 = 0x40;
pub const JNE: u8 = 0x50;
pub const JLT: u8 = 0xa0;
pub const JLE: u8 = 0xb0;

/// Jumps that wait longer than this many instructions for their label are given
/// a stepping stone: the distance is a signed 16-bit number, and what is between must
/// also hold the stones of all other labels.
const FAR: usize = 16_384;

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Jumps whose label is not bound yet, by place.
    waiting: BTreeMap<usize, Label>,
    /// The same by label.
    by_label: BTreeMap<Label, Vec<usize>>,
    /// Where the last label was bound.
    bound: usize,
    /// A distance did not fit.
    overflow: bool,
}

impl Assembler {
    /// The program; `None` if a jump is too long or leads nowhere, which the callers
    /// see to.
    pub fn finish(self) -> Option<Vec<Instruction>> {
        (!self.overflow && self.waiting.is_empty()).then_some(self.code)
    }

    /// Whether the next instruction is reached, so far: from the one before it, or by
    /// a jump. At the start it is.
    pub fn falls(&self) -> bool {
        let ends = |last: &Instruction| matches!(last.code, JA | EXIT);
        self.bound == self.code.len() || !self.code.last().is_some_and(ends)
    }

    /// Whether something jumps there, so far.
    pub fn wanted(&self, label: Label) -> bool {
        self.by_label.contains_key(&label)
    }

    /// Jumps to the label lead to the next instruction.
    pub fn bind(&mut self, label: Label) {
        let Some(mut jumps) = self.by_label.remove(&label) else { return };
        let last = self.code.len().saturating_sub(1);
        // A jump right to here; unless something leads behind it.
        if jumps.last() == Some(&last)
            && self.bound != self.code.len()
            && self.code.last().is_some_and(|last| last.code == JA)
        {
            jumps.pop();
            self.waiting.remove(&last);
            self.code.pop();
        }
        self.bound = self.code.len();
        for jump in jumps {
            self.waiting.remove(&jump);
            self.lead(jump, self.code.len());
        }
    }

    /// Before an instruction of the program that is translated: long jumps get
    /// their stepping stones here.
    pub fn pause(&mut self) {
        let now = self.code.len();
        if self.waiting.first_key_value().is_none_or(|(first, _)| now.saturating_sub(*first) < FAR)
        {
            return;
        }
        let old = |first: &usize| now.saturating_sub(*first) >= FAR / 2;
        let mut labels: Vec<_> =
            self.waiting.iter().filter(|(at, _)| old(at)).map(|(_, label)| *label).collect();
        labels.sort_unstable();
        labels.dedup();
        let falls = self.falls();
        if falls {
            let over = i16::try_from(labels.len()).unwrap_or_else(|_| {
                self.overflow = true;
                0
            });
            self.push(JA, Reg(0), Reg(0), over, 0);
        }
        for label in labels {
            let stone = self.code.len();
            for jump in self.by_label.remove(&label).unwrap_or_default() {
                self.waiting.remove(&jump);
                self.lead(jump, stone);
            }
            self.jump(label);
        }
        if falls {
            // What comes next is jumped to.
            self.bound = self.code.len();
        }
    }

    fn lead(&mut self, jump: usize, to: usize) {
        let distance = to.checked_sub(jump).and_then(|distance| distance.checked_sub(1));
        match (self.code.get_mut(jump), distance.and_then(|d| i16::try_from(d).ok())) {
            (Some(instruction), Some(distance)) => instruction.offset = distance,
            _ => self.overflow = true,
        }
    }

    fn push(&mut self, code: u8, destination: Reg, source: Reg, offset: i16, constant: u32) {
        let constant = constant.cast_signed_bits();
        self.code.push(Instruction::new(code, destination.0, source.0, offset, constant));
    }

    fn operation(&mut self, code: u8, destination: Reg, source: Source) {
        match source {
            Source::Constant(k) => self.push(code, destination, Reg(0), 0, k),
            Source::Register(from) => self.push(code | X, destination, from, 0, 0),
        }
    }

    fn jump_to(&mut self, label: Label) {
        let at = self.code.len();
        self.waiting.insert(at, label);
        self.by_label.entry(label).or_default().push(at);
    }

    /// 32 bits, the upper ones become 0.
    pub fn alu32(&mut self, operation: u8, destination: Reg, source: Source) {
        self.operation(ALU | operation, destination, source);
    }

    /// 64 bits, and pointers.
    pub fn alu64(&mut self, operation: u8, destination: Reg, source: Source) {
        self.operation(ALU64 | operation, destination, source);
    }

    /// A number of 32 bits.
    pub fn mov32(&mut self, destination: Reg, source: Source) {
        self.alu32(MOV, destination, source);
    }

    /// A pointer.
    pub fn mov64(&mut self, destination: Reg, source: Reg) {
        self.alu64(MOV, destination, Source::Register(source));
    }

    /// From network byte order; nothing for a byte.
    pub fn swap_from_network(&mut self, register: Reg, width: Width) {
        match width {
            Width::Byte => {}
            Width::Half => self.push(TO_BIG_ENDIAN, register, Reg(0), 0, 16),
            Width::Word => self.push(TO_BIG_ENDIAN, register, Reg(0), 0, 32),
            Width::Double => self.push(TO_BIG_ENDIAN, register, Reg(0), 0, 64),
        }
    }

    /// destination = what is at base + offset, the rest 0
    pub fn load(&mut self, width: Width, destination: Reg, base: Reg, offset: i16) {
        self.push(LDX_MEM | width.bits(), destination, base, offset, 0);
    }

    /// What is at base + offset = source
    pub fn store(&mut self, width: Width, base: Reg, offset: i16, source: Reg) {
        self.push(STX_MEM | width.bits(), base, source, offset, 0);
    }

    /// To the label.
    pub fn jump(&mut self, label: Label) {
        self.jump_to(label);
        self.push(JA, Reg(0), Reg(0), 0, 0);
    }

    /// To the label if the comparison holds; 32 bits, unsigned.
    pub fn branch32(&mut self, comparison: u8, left: Reg, right: Source, label: Label) {
        self.jump_to(label);
        self.operation(JMP32 | comparison, left, right);
    }

    /// To the label if the comparison holds; 64 bits, unsigned, and pointers.
    pub fn branch64(&mut self, comparison: u8, left: Reg, right: Source, label: Label) {
        self.jump_to(label);
        self.operation(JMP | comparison, left, right);
    }

    /// r0 = helper(r1, ...)
    pub fn call(&mut self, helper: u32) {
        self.push(CALL, Reg(0), Reg(0), 0, helper);
    }

    /// r0 = function(r1, ...), by its number in the kernel's BTF
    pub fn call_function(&mut self, function: u32) {
        self.push(CALL, Reg(0), Reg(PSEUDO_KFUNC_CALL), 0, function);
    }

    /// destination = value
    pub fn constant64(&mut self, destination: Reg, value: u64) {
        let [low, high] = [value & u64::from(u32::MAX), value >> 32]
            .map(|half| u32::try_from(half).unwrap_or(0).cast_signed_bits());
        self.code.push(Instruction::new(LD_IMM64, destination.0, 0, 0, low));
        self.code.push(Instruction::new(0, 0, 0, 0, high));
    }

    /// The map behind a descriptor.
    pub fn map(&mut self, destination: Reg, fd: i32) {
        self.code.push(Instruction::new(LD_IMM64, destination.0, PSEUDO_MAP_FD, 0, fd));
        self.code.push(Instruction::new(0, 0, 0, 0, 0));
    }

    /// Returns r0.
    pub fn exit(&mut self) {
        self.push(EXIT, Reg(0), Reg(0), 0, 0);
    }
}

/// The same bits.
trait SignedBits {
    fn cast_signed_bits(self) -> i32;
}

impl SignedBits for u32 {
    fn cast_signed_bits(self) -> i32 {
        i32::from_ne_bytes(self.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a jump over stepping stones.
    fn target(code: &[Instruction], mut at: usize) -> usize {
        at = at + 1 + code[at].offset as usize;
        while code.get(at).is_some_and(|i| i.code == JA) {
            at = at + 1 + code[at].offset as usize;
        }
        at
    }

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut a = Assembler::default();
        a.branch32(JEQ, Reg(7), Source::Constant(5), Label(1));
        a.mov32(Reg(7), Source::Constant(1));
        a.jump(Label(2));
        assert!(!a.falls() && a.wanted(Label(1)) && !a.wanted(Label(3)));
        a.bind(Label(1));
        a.mov32(Reg(7), Source::Constant(2));
        a.bind(Label(2));
        a.exit();
        let code = a.finish().unwrap();
        assert_eq!((target(&code, 0), target(&code, 2), code.len()), (3, 4, 5));
    }

    #[test]
    fn a_jump_to_the_next_instruction_is_none() {
        let mut a = Assembler::default();
        a.branch32(JEQ, Reg(7), Source::Constant(5), Label(1));
        a.jump(Label(1));
        a.bind(Label(1));
        a.exit();
        let code = a.finish().unwrap();
        assert_eq!((code.len(), target(&code, 0)), (2, 1));
        // But where something leads behind it, it stays.
        let mut a = Assembler::default();
        a.branch32(JEQ, Reg(7), Source::Constant(5), Label(1));
        a.jump(Label(2));
        a.bind(Label(1));
        a.bind(Label(2));
        a.exit();
        let code = a.finish().unwrap();
        assert_eq!((code.len(), target(&code, 0), code[1].offset), (3, 2, 0));
    }

    #[test]
    fn long_jumps_get_stepping_stones() {
        let mut a = Assembler::default();
        let labels = 5_000_u32;
        for label in 0..labels {
            a.pause();
            a.branch32(JEQ, Reg(7), Source::Constant(label), Label(label));
        }
        for _ in 0..100_000 {
            a.pause();
            a.mov32(Reg(7), Source::Constant(0));
        }
        let mut ends = Vec::new();
        for label in 0..labels {
            a.pause();
            a.bind(Label(label));
            a.mov32(Reg(6), Source::Constant(label));
            ends.push(a.code.len() - 1);
        }
        a.exit();
        let code = a.finish().unwrap();
        for (at, end) in ends.into_iter().enumerate() {
            let followed = target(&code, at);
            assert_eq!(code[followed], code[end], "{at}");
        }
    }

    #[test]
    fn a_label_that_is_never_bound_is_no_program() {
        let mut a = Assembler::default();
        a.jump(Label(0));
        assert!(a.finish().is_none());
    }
}
