//! What is known of the registers before each instruction, whatever the packet.

use super::super::ancillary::{AD_OFF, Ancillary};
use super::super::instruction::{Alu, Comparison, Instruction, Operand, Operation, Register};
use super::super::validate::MEMORY_WORDS;

/// The EtherTypes of the tags that the kernel takes out of the bytes
/// (`eth_type_vlan()` in include/linux/if_vlan.h).
pub const TPIDS: [u32; 2] = [0x8100, 0x88a8];

/// From `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub low: u32,
    pub high: u32,
}

const ANYTHING: Range = Range { low: 0, high: u32::MAX };

/// Before an instruction.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub a: Range,
    pub x: Range,
    memory: [Range; MEMORY_WORDS],
    /// A is the EtherType at offset 12 of the frame on the wire.
    a_is_type: bool,
    /// Which of [`TPIDS`] that may be, one bit each.
    tpids: u8,
}

/// Where a comparison may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    pub holds: bool,
    pub fails: bool,
}

const START: Facts = Facts {
    a: point(0),
    x: point(0),
    memory: [ANYTHING; MEMORY_WORDS],
    a_is_type: false,
    tpids: 0b11,
};

const fn point(k: u32) -> Range {
    Range { low: k, high: k }
}

const fn up_to(high: u32) -> Range {
    Range { low: 0, high }
}

impl Range {
    fn or(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// All bits up to the highest one set.
fn ones(k: u32) -> u32 {
    u32::MAX.checked_shr(k.leading_zeros()).unwrap_or(0)
}

impl Facts {
    fn or(mut self, other: &Self) -> Self {
        self.a = self.a.or(other.a);
        self.x = self.x.or(other.x);
        for (word, other) in self.memory.iter_mut().zip(other.memory) {
            *word = word.or(other);
        }
        self.a_is_type &= other.a_is_type;
        self.tpids |= other.tpids;
        self
    }

    fn operand(&self, operand: Operand) -> Range {
        match operand {
            Operand::Constant(k) => point(k),
            Operand::X => self.x,
        }
    }

    /// Where a comparison goes, with what is known on each way.
    fn ways(&self, comparison: Comparison, operand: Operand) -> (Ways, Self, Self) {
        let (mut yes, mut no) = (*self, *self);
        let Operand::Constant(k) = operand else {
            return (Ways { holds: true, fails: true }, yes, no);
        };
        if !self.a_is_type {
            return (Ways { holds: true, fails: true }, yes, no);
        }
        for (bit, tpid) in [(1_u8, TPIDS[0]), (2, TPIDS[1])] {
            let holds = match comparison {
                Comparison::Equal => tpid == k,
                Comparison::Greater => tpid > k,
                Comparison::GreaterOrEqual => tpid >= k,
                Comparison::AnySet => tpid & k != 0,
            };
            *(if holds { &mut no.tpids } else { &mut yes.tpids }) &= !bit;
        }
        (Ways { holds: yes.tpids != 0, fails: no.tpids != 0 }, yes, no)
    }

    /// After an instruction that does not jump. `tagged`: offsets 12 to 15 are a
    /// tag that the kernel keeps elsewhere.
    fn after(mut self, operation: Operation, tagged: bool) -> Self {
        let mut is_type = false;
        match operation {
            Operation::LoadAbsolute(size, k) => {
                let ancillary = Ancillary::from_constant(k).filter(|_| k >= AD_OFF);
                self.a = match size.bytes() {
                    _ if ancillary.is_some() => ANYTHING,
                    1 => up_to(0xff),
                    2 => up_to(0xffff),
                    _ => ANYTHING,
                };
                is_type = tagged && k == 12 && size.bytes() == 2;
            }
            Operation::LoadIndirect(size, _) => {
                self.a = match size.bytes() {
                    1 => up_to(0xff),
                    2 => up_to(0xffff),
                    _ => ANYTHING,
                };
            }
            Operation::LoadHeaderLength(_) => {
                self.x = up_to(60);
                is_type = self.a_is_type;
            }
            Operation::LoadLength(register) => is_type = self.set(register, ANYTHING),
            Operation::LoadConstant(register, k) => is_type = self.set(register, point(k)),
            Operation::LoadMemory(register, k) => {
                let word = self.memory.get(k as usize).copied().unwrap_or(ANYTHING);
                is_type = self.set(register, word);
            }
            Operation::Store(register, k) => {
                if let Some(word) = self.memory.get_mut(k as usize) {
                    *word = if register == Register::A { self.a } else { self.x };
                }
                is_type = self.a_is_type;
            }
            Operation::Arithmetic(op, operand) => {
                self.a = arithmetic(op, self.a, self.operand(operand));
            }
            Operation::Negate => self.a = ANYTHING,
            Operation::CopyAToX => {
                self.x = self.a;
                is_type = self.a_is_type;
            }
            Operation::CopyXToA => self.a = self.x,
            Operation::Jump(_)
            | Operation::Branch(..)
            | Operation::ReturnConstant(_)
            | Operation::ReturnA => is_type = self.a_is_type,
        }
        self.a_is_type = is_type;
        self
    }

    /// Sets a register, and tells whether A is still what it was.
    fn set(&mut self, register: Register, range: Range) -> bool {
        match register {
            Register::A => {
                self.a = range;
                false
            }
            Register::X => {
                self.x = range;
                self.a_is_type
            }
        }
    }
}

fn arithmetic(op: Alu, a: Range, b: Range) -> Range {
    let range = |low: Option<u32>, high: Option<u32>| match (low, high) {
        (Some(low), Some(high)) => Range { low, high },
        _ => ANYTHING,
    };
    match op {
        Alu::Add => range(a.low.checked_add(b.low), a.high.checked_add(b.high)),
        Alu::Subtract => range(a.low.checked_sub(b.high), a.high.checked_sub(b.low)),
        Alu::Multiply => range(a.low.checked_mul(b.low), a.high.checked_mul(b.high)),
        Alu::Divide => up_to(a.high.checked_div(b.low).unwrap_or(a.high)),
        Alu::Modulo => up_to(a.high.min(b.high.saturating_sub(1))),
        Alu::And => up_to(a.high.min(b.high)),
        Alu::Or | Alu::Xor => up_to(ones(a.high | b.high)),
        Alu::ShiftLeft if b.high < 32 => {
            let high = u64::from(a.high).checked_shl(b.high).unwrap_or(u64::MAX);
            u32::try_from(high).map_or(ANYTHING, up_to)
        }
        Alu::ShiftLeft => ANYTHING,
        Alu::ShiftRight if b.high < 32 => up_to(a.high.checked_shr(b.low).unwrap_or(0)),
        Alu::ShiftRight => up_to(a.high),
    }
}

/// The facts before each instruction of a valid program (`None`: no packet gets
/// there), and where it may go.
pub fn of(program: &[Instruction], tagged: bool) -> Vec<Option<(Facts, Ways)>> {
    let both = Ways { holds: true, fails: true };
    let mut before: Vec<Option<Facts>> = vec![None; program.len()];
    let mut all = Vec::with_capacity(program.len());
    if let Some(first) = before.first_mut() {
        *first = Some(START);
    }
    for (index, instruction) in program.iter().enumerate() {
        let facts = before.get(index).copied().flatten();
        let (Some(facts), Some(operation)) = (facts, instruction.operation()) else {
            all.push(None);
            continue;
        };
        let mut join = |skip: u32, facts: Facts| {
            let to = index.saturating_add(1).saturating_add(skip as usize);
            if let Some(there) = before.get_mut(to) {
                *there = Some(match there.take() {
                    Some(there) => there.or(&facts),
                    None => facts,
                });
            }
        };
        let mut ways = both;
        match operation {
            Operation::Branch(comparison, operand, jt, jf) => {
                let (found, yes, no) = facts.ways(comparison, operand);
                ways = found;
                if ways.holds {
                    join(jt.into(), yes);
                }
                if ways.fails {
                    join(jf.into(), no);
                }
            }
            Operation::Jump(k) => join(k, facts),
            Operation::ReturnConstant(_) | Operation::ReturnA => {}
            _ => join(0, facts.after(operation, tagged)),
        }
        all.push(Some((facts, ways)));
    }
    all
}
