//! The instructions.
//!
//! A program may be there twice. The first copy looks at the packet in place, that
//! is at its first buffer. Where that ends too early, a program for packets in several
//! buffers goes on at the same instruction of the second copy, which asks the kernel
//! for each byte (bpf_xdp_load_bytes) and knows where the packet really ends.

use super::super::instruction::{Alu, Comparison, Operand, Operation, Register, Size};
use super::super::program::Program;
use super::assemble::{
    ADD, AND, Assembler, DIV, JEQ, JGE, JGT, JLE, JLT, JNE, JSET, LSH, Label, MOD, MUL, NEG, OR,
    RSH, Reg, SUB, Source, Width, XOR,
};
use super::beside::{self, Beside, Front};
use super::facts::{Decision, Facts, Known, NOWHERE, Place, Value, decide, place, result};
use super::{Access, Options, Taken};
use crate::filter::Ancillary;
use crate::sys::bpf::{Instruction, XDP_PASS};

// r1 to r5 are arguments and do not survive a call, r6 to r9 do.
const RESULT: Reg = Reg(0);
const ONE: Reg = Reg(1);
const TWO: Reg = Reg(2);
const THREE: Reg = Reg(3);
const FOUR: Reg = Reg(4);
/// Behind the packet's first buffer.
const END: Reg = Reg(5);
/// struct xdp_md
const CONTEXT: Reg = Reg(6);
const A: Reg = Reg(7);
const X: Reg = Reg(8);
/// The packet's first buffer.
const DATA: Reg = Reg(9);
const FRAME: Reg = Reg(10);

// struct xdp_md
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_DATA_META: i16 = 8;
const MD_IFINDEX: i16 = 12;
const MD_QUEUE: i16 = 16;

// enum bpf_func_id; all for any licence
const GET_PRANDOM_U32: u32 = 7;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const REDIRECT_MAP: u32 = 51;
const XDP_ADJUST_META: u32 = 54;
const XDP_GET_BUFF_LEN: u32 = 188;
const XDP_LOAD_BYTES: u32 = 189;

/// A 32-bit word of the stack. In the upper half of 8 bytes: there the verifier does
/// not follow what is stored, and programs that compute are not another state for it in
/// each way through them.
fn word(index: u32) -> i16 {
    let down = index.saturating_mul(8).saturating_add(4);
    i16::try_from(down).unwrap_or(i16::MAX).saturating_neg()
}

/// Where A and X go for the verifier to forget what they are.
const FORGET_A: u32 = 0;
const FORGET_X: u32 = 1;
/// M[]
const MEMORY: u32 = 2;
/// 8 bytes that bpf_xdp_load_bytes writes to.
const BUFFER: i16 = -152;
/// A [`Front`] in the making.
const FRONT: i16 = -184;

/// All or nothing.
pub fn constant(everything: bool, options: &Options) -> Option<Vec<Instruction>> {
    let mut writer = Writer::new(options, 0);
    if everything && options.beside.is_some() {
        writer.code.mov64(CONTEXT, ONE);
        writer.taken(CONTEXT);
    } else if everything {
        writer.taken(ONE);
    } else {
        writer.passed();
    }
    writer.code.finish()
}

/// A program; `None`: a jump is too long.
pub fn program(program: &Program, known: &Known, options: &Options) -> Option<Vec<Instruction>> {
    let mut writer = Writer::new(options, u32::try_from(program.len()).ok()?);
    writer.begin(program, known);
    if options.access != Access::Called {
        writer.copy(program, known, false);
    }
    if options.access == Access::Called || options.frags {
        writer.copy(program, known, true);
    }
    writer.code.pause();
    if writer.code.wanted(writer.accept()) {
        writer.code.bind(writer.accept());
        writer.taken(CONTEXT);
    }
    writer.code.pause();
    if writer.code.wanted(writer.reject()) {
        writer.code.bind(writer.reject());
        writer.passed();
    }
    writer.code.finish()
}

struct Writer<'a> {
    code: Assembler,
    options: &'a Options,
    /// Instructions of the program that is translated.
    count: u32,
    /// Which copy is written.
    called: bool,
    uses_x: bool,
}

impl<'a> Writer<'a> {
    fn new(options: &'a Options, count: u32) -> Self {
        Self { code: Assembler::default(), options, count, called: false, uses_x: false }
    }

    /// An instruction of a copy.
    fn at(&self, index: u32, called: bool) -> Label {
        let copy = if called { self.count } else { 0 };
        Label(copy.saturating_add(index))
    }

    fn accept(&self) -> Label {
        Label(self.count.saturating_mul(2))
    }

    fn reject(&self) -> Label {
        Label(self.count.saturating_mul(2).saturating_add(1))
    }

    /// The registers that are used.
    fn begin(&mut self, program: &Program, known: &Known) {
        let reached = program.instructions().iter().zip(&known.before);
        let all: Vec<_> =
            reached.filter_map(|(i, before)| before.and_then(|_| i.operation())).collect();
        self.code.mov64(CONTEXT, ONE);
        let loads = |operation: &Operation| match operation {
            Operation::LoadAbsolute(_, k) => Ancillary::from_constant(*k).is_none(),
            Operation::LoadIndirect(..) | Operation::LoadHeaderLength(_) => true,
            Operation::LoadLength(_) => self.options.access == Access::Old,
            _ => false,
        };
        if self.options.access != Access::Called && all.iter().any(loads) {
            self.code.load(Width::Word, DATA, ONE, MD_DATA);
            self.code.load(Width::Word, END, ONE, MD_DATA_END);
        }
        if all.len() > 1 || matches!(all.first(), Some(Operation::ReturnA)) {
            self.code.mov32(A, Source::Constant(0));
        }
        self.uses_x = all.iter().any(|operation| touches_x(*operation));
        if self.uses_x {
            self.code.mov32(X, Source::Constant(0));
        }
    }

    /// The program, once: what is reached of it.
    fn copy(&mut self, program: &Program, known: &Known, called: bool) {
        self.called = called;
        let all = program.instructions().iter().zip(&known.before);
        for (index, (instruction, before)) in (0_u32..).zip(all) {
            let (Some(facts), Some(operation)) = (before, instruction.operation()) else {
                continue;
            };
            self.code.pause();
            let here = self.at(index, called);
            if !self.code.wanted(here) && !self.code.falls() {
                continue;
            }
            self.code.bind(here);
            if facts.joined && (called || known.careful) {
                self.forget(A, FORGET_A);
                if self.uses_x {
                    self.forget(X, FORGET_X);
                }
            }
            if !called && known.careful && facts.range {
                self.code.load(Width::Word, DATA, CONTEXT, MD_DATA);
            }
            self.instruction(program, index, facts, operation);
        }
    }

    /// The verifier is to take a register for anything (but 0 for 0).
    fn forget(&mut self, register: Reg, place: u32) {
        self.code.store(Width::Word, FRAME, word(place), register);
        self.code.load(Width::Word, register, FRAME, word(place));
    }

    /// Where a jump to that instruction leads.
    fn target(&self, program: &Program, index: u32) -> Label {
        let there = program.instructions().get(index as usize).and_then(|i| i.operation());
        match there {
            Some(Operation::ReturnConstant(0)) => self.reject(),
            Some(Operation::ReturnConstant(_)) => self.accept(),
            _ => self.at(index, self.called),
        }
    }

    fn instruction(&mut self, program: &Program, index: u32, facts: &Facts, operation: Operation) {
        let next = index.saturating_add(1);
        match operation {
            Operation::LoadAbsolute(size, k) => match Ancillary::from_constant(k) {
                Some(Ancillary::XorX) => self.arithmetic(facts, Alu::Xor, Operand::X),
                Some(ancillary) => self.ancillary(ancillary),
                None => {
                    self.load(index, facts, place(size, k).ok(), size, A);
                }
            },
            Operation::LoadIndirect(size, k) => {
                let place = match facts.x.known() {
                    Some(x) => place(size, x.wrapping_add(k)).ok(),
                    None => Some(Place::FromX(k)),
                };
                self.load(index, facts, place, size, A);
            }
            Operation::LoadHeaderLength(k) => {
                if self.load(index, facts, place(Size::Byte, k).ok(), Size::Byte, X) {
                    self.code.alu32(AND, X, Source::Constant(0xf));
                    self.code.alu32(LSH, X, Source::Constant(2));
                }
            }
            Operation::LoadLength(register) => self.length(reg(register)),
            Operation::LoadConstant(register, k) => {
                self.code.mov32(reg(register), Source::Constant(k));
            }
            Operation::LoadMemory(register, k) => {
                self.code.load(Width::Word, reg(register), FRAME, memory(k));
            }
            Operation::Store(register, k) => {
                self.code.store(Width::Word, FRAME, memory(k), reg(register));
            }
            Operation::Arithmetic(alu, operand) => self.arithmetic(facts, alu, operand),
            Operation::Negate => match facts.a.known() {
                Some(a) => self.code.mov32(A, Source::Constant(a.wrapping_neg())),
                None => self.code.alu32(NEG, A, Source::Constant(0)),
            },
            Operation::CopyAToX => self.code.mov32(X, Source::Register(A)),
            Operation::CopyXToA => self.code.mov32(A, Source::Register(X)),
            Operation::Jump(skip) => {
                let to = self.target(program, next.saturating_add(skip));
                self.code.jump(to);
            }
            Operation::Branch(comparison, operand, jt, jf) => {
                let after = |skip: u8| next.saturating_add(skip.into());
                let holds = self.target(program, after(jt));
                let fails = self.target(program, after(jf));
                match decide(comparison, facts.a, facts.operand(operand)) {
                    _ if holds == fails => self.code.jump(holds),
                    Decision::Holds => self.code.jump(holds),
                    Decision::Fails => self.code.jump(fails),
                    Decision::Open => self.branch(comparison, operand, jt == 0, holds, fails),
                }
            }
            Operation::ReturnConstant(0) => self.code.jump(self.reject()),
            Operation::ReturnConstant(_) => self.code.jump(self.accept()),
            Operation::ReturnA => {
                self.code.branch32(JNE, A, Source::Constant(0), self.accept());
                self.code.jump(self.reject());
            }
        }
    }

    /// `first`: what comes next is where it holds.
    fn branch(
        &mut self,
        comparison: Comparison,
        operand: Operand,
        first: bool,
        holds: Label,
        fails: Label,
    ) {
        let right = source(operand);
        let (is, is_not) = match comparison {
            Comparison::Equal => (JEQ, Some(JNE)),
            Comparison::Greater => (JGT, Some(JLE)),
            Comparison::GreaterOrEqual => (JGE, Some(JLT)),
            Comparison::AnySet => (JSET, None),
        };
        match is_not {
            Some(is_not) if first => {
                self.code.branch32(is_not, A, right, fails);
                self.code.jump(holds);
            }
            _ => {
                self.code.branch32(is, A, right, holds);
                self.code.jump(fails);
            }
        }
    }

    fn arithmetic(&mut self, facts: &Facts, alu: Alu, operand: Operand) {
        let mut right = source(operand);
        let operation = match alu {
            Alu::Add => ADD,
            Alu::Subtract => SUB,
            Alu::Multiply => MUL,
            Alu::Divide => DIV,
            Alu::Modulo => MOD,
            Alu::And => AND,
            Alu::Or => OR,
            Alu::Xor => XOR,
            Alu::ShiftLeft => LSH,
            Alu::ShiftRight => RSH,
        };
        let known = facts.operand(operand).known();
        match result(alu, facts.a, facts.operand(operand)) {
            // Not every verifier computes it.
            Some(Value::Known(k)) => {
                self.code.mov32(A, Source::Constant(k));
                return;
            }
            None => {
                self.code.jump(self.reject());
                return;
            }
            Some(_) => {}
        }
        match alu {
            // eBPF divides by 0.
            Alu::Divide | Alu::Modulo if known.is_none() => {
                self.code.branch32(JEQ, X, Source::Constant(0), self.reject());
            }
            // What eBPF does beyond 31 is the processor's affair.
            Alu::ShiftLeft | Alu::ShiftRight => match known {
                Some(k) => right = Source::Constant(k & 31),
                None => {
                    self.code.mov32(ONE, right);
                    self.code.alu32(AND, ONE, Source::Constant(31));
                    right = Source::Register(ONE);
                }
            },
            _ => {}
        }
        self.code.alu32(operation, A, right);
    }

    /// register = the packet there, or the packet is rejected. False: it always is.
    fn load(
        &mut self,
        index: u32,
        facts: &Facts,
        place: Option<Place>,
        size: Size,
        register: Reg,
    ) -> bool {
        let place = place.unwrap_or(Place::Nowhere);
        match place {
            Place::Nowhere => {
                self.code.jump(self.reject());
                return false;
            }
            _ if self.called => self.load_called(place, size, register),
            Place::At(offset) => self.load_at(index, facts.checked, offset, size, register),
            Place::FromX(_) if self.options.access == Access::Fixed => {
                self.load_called(place, size, register);
                self.restore();
            }
            Place::FromX(k) => self.load_from_x(index, facts.x.most(), k, size, register),
        }
        self.code.swap_from_network(register, width(size));
        true
    }

    /// Where a load goes that the first buffer has nothing for.
    fn behind(&self, index: u32) -> Label {
        if self.options.frags { self.at(index, true) } else { self.reject() }
    }

    fn load_at(&mut self, index: u32, checked: u32, offset: u32, size: Size, register: Reg) {
        let end = offset.saturating_add(size.bytes());
        if end > checked {
            self.code.mov64(ONE, DATA);
            self.code.alu64(ADD, ONE, Source::Constant(end));
            self.code.branch64(JGT, ONE, Source::Register(END), self.behind(index));
        }
        match i16::try_from(offset) {
            Ok(offset) => self.code.load(width(size), register, DATA, offset),
            Err(_) => {
                self.code.mov64(ONE, DATA);
                self.code.alu64(ADD, ONE, Source::Constant(offset));
                self.code.load(width(size), register, ONE, 0);
            }
        }
    }

    fn load_from_x(&mut self, index: u32, most: u32, k: u32, size: Size, register: Reg) {
        // The verifier wants a bound that it can see.
        let end = k.saturating_add(size.bytes());
        let (offset, end) = match i16::try_from(k) {
            Ok(offset) if most.saturating_add(end) <= NOWHERE => {
                self.code.mov32(ONE, Source::Register(X));
                (offset, end)
            }
            _ => {
                // In this order the sum is no relative of X for the verifier, which takes
                // no pointer from one that is 2^29 away.
                self.code.mov32(ONE, Source::Constant(k));
                self.code.alu32(ADD, ONE, Source::Register(X));
                let last = NOWHERE.saturating_sub(size.bytes());
                self.code.branch32(JGT, ONE, Source::Constant(last), self.reject());
                (0, size.bytes())
            }
        };
        self.code.alu64(ADD, ONE, Source::Register(DATA));
        self.code.mov64(TWO, ONE);
        self.code.alu64(ADD, TWO, Source::Constant(end));
        self.code.branch64(JGT, TWO, Source::Register(END), self.behind(index));
        self.code.load(width(size), register, ONE, offset);
    }

    fn load_called(&mut self, place: Place, size: Size, register: Reg) {
        self.code.mov64(ONE, CONTEXT);
        match place {
            Place::At(offset) => self.code.mov32(TWO, Source::Constant(offset)),
            Place::FromX(k) => {
                self.code.mov32(TWO, Source::Register(X));
                if k != 0 {
                    self.code.alu32(ADD, TWO, Source::Constant(k));
                }
            }
            Place::Nowhere => {}
        }
        self.code.mov64(THREE, FRAME);
        self.code.alu64(
            ADD,
            THREE,
            Source::Constant(u32::from_ne_bytes(i32::from(BUFFER).to_ne_bytes())),
        );
        self.code.mov32(FOUR, Source::Constant(size.bytes()));
        self.code.call(XDP_LOAD_BYTES);
        self.code.branch64(JNE, RESULT, Source::Constant(0), self.reject());
        self.code.load(width(size), register, FRAME, BUFFER);
    }

    fn length(&mut self, register: Reg) {
        if self.options.access == Access::Old {
            self.code.mov64(ONE, END);
            self.code.alu64(SUB, ONE, Source::Register(DATA));
            self.code.mov32(register, Source::Register(ONE));
        } else {
            self.code.mov64(ONE, CONTEXT);
            self.call(XDP_GET_BUFF_LEN, register);
        }
    }

    /// register = helper(r1)
    fn call(&mut self, helper: u32, register: Reg) {
        self.code.call(helper);
        self.code.mov32(register, Source::Register(RESULT));
        if !self.called {
            self.restore();
        }
    }

    /// What a call destroys.
    fn restore(&mut self) {
        self.code.load(Width::Word, END, CONTEXT, MD_DATA_END);
    }

    fn ancillary(&mut self, ancillary: Ancillary) {
        match ancillary {
            Ancillary::Ifindex => self.code.load(Width::Word, A, CONTEXT, MD_IFINDEX),
            Ancillary::Cpu => self.call(GET_SMP_PROCESSOR_ID, A),
            Ancillary::Random => self.call(GET_PRANDOM_U32, A),
            Ancillary::HardwareType => {
                let hardware = self.options.hardware_type.unwrap_or(0);
                self.code.mov32(A, Source::Constant(hardware.into()));
            }
            // Tags are in the frame; of the kind only comparisons that are decided are
            // left; SKF_AD_ALU_XOR_X is no load; the others were refused.
            Ancillary::VlanTag
            | Ancillary::VlanTagPresent
            | Ancillary::VlanTpid
            | Ancillary::PacketType
            | Ancillary::XorX
            | Ancillary::Protocol
            | Ancillary::NetlinkAttribute
            | Ancillary::NetlinkAttributeNested
            | Ancillary::Mark
            | Ancillary::Queue
            | Ancillary::Rxhash
            | Ancillary::PayloadOffset => self.code.mov32(A, Source::Constant(0)),
        }
    }

    /// The end of a packet that is taken.
    fn taken(&mut self, context: Reg) {
        match self.options.taken {
            Taken::Redirect(map) => {
                if let Some(beside) = self.options.beside {
                    self.beside(beside);
                }
                self.code.load(Width::Word, TWO, context, MD_QUEUE);
                self.code.map(ONE, map);
                self.code.mov32(THREE, Source::Constant(XDP_PASS));
                self.code.call(REDIRECT_MAP);
            }
            Taken::Return(verdict) => self.code.mov32(RESULT, Source::Constant(verdict)),
        }
        self.code.exit();
    }

    /// Asks the driver, and writes what it says in front of the packet. Where there is no
    /// room, nothing is written.
    fn beside(&mut self, from: Beside) {
        // struct Front: time, hash and its type, tpid and tci, valid, magic
        let [time, hash, hash_type, tpid, tci, valid] = [0, 8, 12, 16, 18, 20];
        const _: () = assert!(std::mem::offset_of!(Front, hash) == 8);
        const _: () = assert!(std::mem::offset_of!(Front, tpid) == 16);
        const _: () = assert!(std::mem::offset_of!(Front, valid) == 20);
        const _: () = assert!(std::mem::offset_of!(Front, magic) == 24);
        const WORDS: [i16; 4] = [0, 8, 16, 24];
        let on_stack = |at: i16| FRONT.saturating_add(at);
        let length = u32::try_from(beside::LENGTH).unwrap_or(0);
        // A is done with, and survives calls.
        let bits = A;
        self.code.mov32(bits, Source::Constant(0));
        for at in &WORDS[..3] {
            self.code.store(Width::Double, FRAME, on_stack(*at), bits);
        }
        let asked = [
            (from.time, beside::TIME, [Some(time), None]),
            (from.hash, beside::HASH, [Some(hash), Some(hash_type)]),
            (from.tag, beside::TAG, [Some(tpid), Some(tci)]),
        ];
        let mut label = self.count.saturating_mul(2).saturating_add(2);
        let mut next = || {
            label = label.saturating_add(1);
            Label(label)
        };
        for (function, bit, places) in asked {
            if function == 0 {
                continue;
            }
            self.code.mov64(ONE, CONTEXT);
            for (argument, place) in [TWO, THREE].into_iter().zip(places) {
                if let Some(place) = place {
                    self.code.mov64(argument, FRAME);
                    self.code.alu64(ADD, argument, constant_of(on_stack(place)));
                }
            }
            self.code.call_function(function);
            let none = next();
            self.code.branch32(JNE, RESULT, Source::Constant(0), none);
            self.code.alu32(OR, bits, Source::Constant(bit));
            self.code.bind(none);
        }
        self.code.store(Width::Word, FRAME, on_stack(valid), bits);
        let no_room = next();
        self.code.mov64(ONE, CONTEXT);
        self.code.mov32(TWO, Source::Constant(length.wrapping_neg()));
        self.code.call(XDP_ADJUST_META);
        self.code.branch32(JNE, RESULT, Source::Constant(0), no_room);
        self.code.load(Width::Word, ONE, CONTEXT, MD_DATA_META);
        self.code.load(Width::Word, TWO, CONTEXT, MD_DATA);
        self.code.mov64(THREE, ONE);
        self.code.alu64(ADD, THREE, Source::Constant(length));
        self.code.branch64(JGT, THREE, Source::Register(TWO), no_room);
        for at in &WORDS[..3] {
            self.code.load(Width::Double, THREE, FRAME, on_stack(*at));
            self.code.store(Width::Double, ONE, *at, THREE);
        }
        self.code.constant64(THREE, beside::MAGIC);
        self.code.store(Width::Double, ONE, WORDS[3], THREE);
        self.code.bind(no_room);
    }

    /// The end of any other.
    fn passed(&mut self) {
        self.code.mov32(RESULT, Source::Constant(XDP_PASS));
        self.code.exit();
    }
}

/// Its sign is extended.
fn constant_of(value: i16) -> Source {
    Source::Constant(u32::from_ne_bytes(i32::from(value).to_ne_bytes()))
}

fn reg(register: Register) -> Reg {
    match register {
        Register::A => A,
        Register::X => X,
    }
}

fn source(operand: Operand) -> Source {
    match operand {
        Operand::Constant(k) => Source::Constant(k),
        Operand::X => Source::Register(X),
    }
}

fn width(size: Size) -> Width {
    match size {
        Size::Byte => Width::Byte,
        Size::Half => Width::Half,
        Size::Word => Width::Word,
    }
}

fn memory(index: u32) -> i16 {
    word(MEMORY.saturating_add(index))
}

/// Whether it reads X or writes it.
fn touches_x(operation: Operation) -> bool {
    match operation {
        Operation::LoadAbsolute(_, k) => Ancillary::from_constant(k) == Some(Ancillary::XorX),
        Operation::LoadLength(register)
        | Operation::LoadConstant(register, _)
        | Operation::LoadMemory(register, _)
        | Operation::Store(register, _) => register == Register::X,
        Operation::Arithmetic(_, operand) | Operation::Branch(_, operand, ..) => {
            operand == Operand::X
        }
        Operation::LoadIndirect(..)
        | Operation::LoadHeaderLength(_)
        | Operation::CopyAToX
        | Operation::CopyXToA => true,
        Operation::Negate
        | Operation::Jump(_)
        | Operation::ReturnConstant(_)
        | Operation::ReturnA => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Selection, translate};
    use super::*;
    use crate::filter::Instruction as Classic;

    fn made(selection: Selection<'_>, taken: Taken, frags: bool) -> Vec<Instruction> {
        let access = Access::Direct;
        let options = Options { taken, frags, access, hardware_type: None, beside: None };
        translate(selection, &options).unwrap().instructions
    }

    /// Hexadecimal words, one an instruction.
    fn check(program: &[Instruction], big_endian: bool, expected: &[&str]) {
        let hexadecimal = |bytes: [u8; 8]| bytes.map(|byte| format!("{byte:02x}")).concat();
        let words: Vec<_> = program.iter().map(|i| hexadecimal(i.bytes(big_endian))).collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn all_and_nothing() {
        let nothing = made(Selection::Nothing, Taken::Redirect(5), true);
        check(&nothing, false, &["b400000002000000", "9500000000000000"]);
        check(&nothing, true, &["b400000000000002", "9500000000000000"]);
        let everything = made(Selection::Everything, Taken::Redirect(5), true);
        let little = [
            "6112100000000000", // r2 = *(u32 *)(r1 + 16)
            "1811000005000000", // r1 = map 5
            "0000000000000000",
            "b403000002000000", // w3 = XDP_PASS
            "8500000033000000", // call bpf_redirect_map
            "9500000000000000",
        ];
        check(&everything, false, &little);
        let big = [
            "6121001000000000",
            "1811000000000005",
            "0000000000000000",
            "b430000000000002",
            "8500000000000033",
            "9500000000000000",
        ];
        check(&everything, true, &big);
        // A program that says the same says it in the same way, but for a copy of r1.
        let all = Program::keep(9);
        let all = made(Selection::Accepted(&all), Taken::Redirect(5), false);
        check(&all[..2], false, &["bf16000000000000", "6162100000000000"]);
        assert_eq!(all[2..], everything[1..]);
        let none = Program::keep(0);
        assert_eq!(made(Selection::Accepted(&none), Taken::Redirect(5), false)[1..], nothing);
    }

    #[test]
    fn ip() {
        let ip = Program::new(&[
            Classic::new(0x28, 0, 0, 12),
            Classic::new(0x15, 0, 1, 0x800),
            Classic::new(0x06, 0, 0, 262_144),
            Classic::new(0x06, 0, 0, 0),
        ])
        .unwrap();
        let little = [
            "bf16000000000000", // r6 = r1
            "6119000000000000", // r9 = *(u32 *)(r1 + 0)
            "6115040000000000", // r5 = *(u32 *)(r1 + 4)
            "b407000000000000", // w7 = 0
            "bf91000000000000", // r1 = r9
            "070100000e000000", // r1 += 14
            "2d51050000000000", // if r1 > r5 goto 12
            "69970c0000000000", // r7 = *(u16 *)(r9 + 12)
            "dc07000010000000", // r7 = be16 r7
            "5607020000080000", // if w7 != 0x800 goto 12
            "b400000003000000", // w0 = 3
            "9500000000000000", // exit
            "b400000002000000", // w0 = XDP_PASS
            "9500000000000000", // exit
        ];
        let program = made(Selection::Accepted(&ip), Taken::Return(3), false);
        check(&program, false, &little);
        let big = [
            "bf61000000000000",
            "6191000000000000",
            "6151000400000000",
            "b470000000000000",
            "bf19000000000000",
            "071000000000000e",
            "2d15000500000000",
            "6979000c00000000",
            "dc70000000000010",
            "5670000200000800",
            "b400000000000003",
            "9500000000000000",
            "b400000000000002",
            "9500000000000000",
        ];
        check(&program, true, &big);
        // The same again by calls, for packets in several buffers.
        let frags = made(Selection::Accepted(&ip), Taken::Return(3), true);
        assert_eq!(frags[..6], program[..6]);
        let calls = frags.iter().filter(|i| i.code == 0x85);
        assert_eq!(calls.map(|i| i.constant).collect::<Vec<_>>(), [189]);
    }

    #[test]
    fn what_no_packet_gets_to_is_left_out() {
        // A load that no packet has a byte for, and what is behind it.
        let nowhere = [
            Classic::new(0x30, 0, 0, 100_000),
            Classic::new(0xb1, 0, 0, 14),
            Classic::new(0x15, 0, 1, 1),
            Classic::new(0x06, 0, 0, 1),
            Classic::new(0x06, 0, 0, 0),
        ];
        let program = Program::new(&nowhere).unwrap();
        let none = made(Selection::Accepted(&program), Taken::Return(3), true);
        assert_eq!(none[none.len() - 2..], made(Selection::Nothing, Taken::Return(3), true));
        assert!(none.len() < 8, "{none:?}");
    }
}
