//! What is known before each instruction, whatever the packet: whether it is
//! reached, what is in the registers, and how much of the packet is there for sure.

use super::super::ancillary::{Ancillary, LL_OFF, NET_OFF};
use super::super::instruction::{Alu, Comparison, Instruction, Operand, Operation, Register, Size};
use super::super::program::Program;
use super::super::validate::MEMORY_WORDS;
use crate::error::{Error, Kind, Result};

/// The first offset that no load of an XDP program reaches: packets end before it
/// (MAX_PACKET_OFF of the verifier, and bpf_xdp_load_bytes).
pub const NOWHERE: u32 = 0xffff;

/// The EtherTypes of tags.
const TAGS: [u32; 3] = [0x8100, 0x88a8, 0x9100];

/// A value in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// That number.
    Known(u32),
    /// From 0 to that number, which the verifier can tell too.
    UpTo(u32),
    /// The two bytes where the EtherType of the frame or of a tag is.
    EtherType,
    /// The kind of a received packet, `PACKET_HOST` to `PACKET_OTHERHOST`: the kernel
    /// finds out which after XDP.
    Received,
    /// `Received` on one way to here, and not on another.
    PerhapsReceived,
}

pub const ANYTHING: Value = Value::UpTo(u32::MAX);

impl Value {
    /// The most it can be.
    pub fn most(self) -> u32 {
        match self {
            Self::Known(k) | Self::UpTo(k) => k,
            // Perhaps from M[], where the verifier loses sight of it.
            Self::EtherType | Self::Received | Self::PerhapsReceived => u32::MAX,
        }
    }

    pub fn known(self) -> Option<u32> {
        match self {
            Self::Known(k) => Some(k),
            _ => None,
        }
    }

    fn received(self) -> bool {
        matches!(self, Self::Received | Self::PerhapsReceived)
    }

    fn or(self, other: Self) -> Self {
        if self == other {
            self
        } else if self.received() || other.received() {
            Self::PerhapsReceived
        } else {
            Self::UpTo(self.most().max(other.most()))
        }
    }

    /// As it comes back from M[]: there the verifier loses sight of it.
    fn remembered(self) -> Self {
        match self {
            Self::Known(_) | Self::UpTo(_) => ANYTHING,
            other => other,
        }
    }
}

/// Before an instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    pub a: Value,
    pub x: Value,
    memory: [Value; MEMORY_WORDS],
    /// So many bytes of the packet were found to be there.
    pub checked: u32,
    /// It is reached in more than one way.
    pub joined: bool,
    /// With other numbers of bytes found.
    pub range: bool,
    /// With other values in X.
    pub index: bool,
}

const START: Facts = Facts {
    a: Value::Known(0),
    x: Value::Known(0),
    memory: [ANYTHING; MEMORY_WORDS],
    checked: 0,
    joined: false,
    range: false,
    index: false,
};

impl Facts {
    fn or(&self, other: &Self) -> Self {
        let mut both = *self;
        both.range |= self.checked != other.checked;
        both.index |= self.x != other.x;
        both.a = both.a.or(other.a);
        both.x = both.x.or(other.x);
        for (word, other) in both.memory.iter_mut().zip(other.memory) {
            *word = word.or(other);
        }
        both.checked = both.checked.min(other.checked);
        both.joined = true;
        both
    }

    /// On the way to the next instruction.
    fn leaving(self) -> Self {
        Self { joined: false, range: false, index: false, ..self }
    }

    pub fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Constant(k) => Value::Known(k),
            Operand::X => self.x,
        }
    }
}

/// Where a load looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At that offset of the frame.
    At(u32),
    /// At X plus that.
    FromX(u32),
    /// Where no packet has a byte.
    Nowhere,
}

/// Where a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Holds,
    Fails,
    Open,
}

/// What is known of a program.
#[derive(Debug)]
pub struct Known {
    /// Before each instruction; `None`: no packet gets there.
    pub before: Vec<Option<Facts>>,
    /// It asks for VLAN tags.
    pub tags: bool,
    /// Where ways come together, the verifier is to forget what it knows of them.
    pub careful: bool,
}

/// Ways that come together with other values in X: each may double what the verifier
/// has to look at.
const MOST_INDEXES: usize = 8;
/// Ways that come together with other numbers of bytes found, times instructions: the
/// verifier may look at each instruction once for every such number.
const MOST_RANGES: usize = 1 << 15;

/// Goes through the program; jumps lead forward only, so once is enough.
///
/// # Errors
/// `NotSupported`: it asks for what an XDP program does not have.
pub fn known(program: &Program, hardware: Option<u16>) -> Result<Known> {
    let known = pass(program, hardware, false)?;
    let count = |differs: fn(&Facts) -> bool| {
        known.before.iter().filter(|before| before.as_ref().is_some_and(differs)).count()
    };
    if count(|facts| facts.index) > MOST_INDEXES
        || count(|facts| facts.range).saturating_mul(program.len()) > MOST_RANGES
    {
        return pass(program, hardware, true);
    }
    Ok(known)
}

fn pass(program: &Program, hardware: Option<u16>, careful: bool) -> Result<Known> {
    let instructions = program.instructions();
    let mut known = Known { before: vec![None; instructions.len()], tags: false, careful };
    if let Some(first) = known.before.first_mut() {
        *first = Some(START);
    }
    for (index, instruction) in instructions.iter().enumerate() {
        let (Some(Some(before)), Some(operation)) =
            (known.before.get_mut(index), instruction.operation())
        else {
            continue;
        };
        if careful && before.range {
            before.checked = 0;
        }
        if careful && before.joined {
            before.a = before.a.remembered();
            before.x = before.x.remembered();
        }
        let facts = *before;
        let step = Step { index, instruction: *instruction, facts, hardware };
        step.uses_received(operation)?;
        known.tags |= asks_for_tags(&facts, operation);
        let next = index.saturating_add(1);
        let mut to = |skip: u32, facts: Facts| {
            if let Some(there) = known.before.get_mut(next.saturating_add(skip as usize)) {
                *there = Some(there.map_or(facts, |others| others.or(&facts)));
            }
        };
        let facts = facts.leaving();
        match operation {
            Operation::Jump(skip) => to(skip, facts),
            Operation::Branch(comparison, operand, jt, jf) => {
                let decision = decide(comparison, facts.a, facts.operand(operand));
                if decision != Decision::Fails {
                    to(jt.into(), facts);
                }
                if decision != Decision::Holds && (jt != jf || decision == Decision::Fails) {
                    to(jf.into(), facts);
                }
            }
            Operation::ReturnConstant(_) | Operation::ReturnA => {}
            _ => {
                if let Some(after) = step.after(operation)? {
                    to(0, after);
                }
            }
        }
    }
    Ok(known)
}

/// What a comparison of such values says.
pub fn decide(comparison: Comparison, a: Value, b: Value) -> Decision {
    let decision = |holds| if holds { Decision::Holds } else { Decision::Fails };
    match (a, b, comparison) {
        (Value::Known(a), Value::Known(b), _) => decision(match comparison {
            Comparison::Equal => a == b,
            Comparison::Greater => a > b,
            Comparison::GreaterOrEqual => a >= b,
            Comparison::AnySet => a & b != 0,
        }),
        (Value::Received, Value::Known(4..), Comparison::Equal | Comparison::GreaterOrEqual)
        | (Value::Received, Value::Known(3..), Comparison::Greater)
        | (_, Value::Known(u32::MAX), Comparison::Greater)
        | (_, Value::Known(0), Comparison::AnySet) => Decision::Fails,
        (Value::Received, Value::Known(b), Comparison::AnySet) if b & 3 == 0 => Decision::Fails,
        (_, Value::Known(0), Comparison::GreaterOrEqual) => Decision::Holds,
        _ => Decision::Open,
    }
}

/// Whether the instruction asks for a tag in the frame, or next to it.
fn asks_for_tags(facts: &Facts, operation: Operation) -> bool {
    match operation {
        Operation::LoadAbsolute(_, k) => matches!(
            Ancillary::from_constant(k),
            Some(Ancillary::VlanTag | Ancillary::VlanTagPresent | Ancillary::VlanTpid)
        ),
        Operation::Branch(Comparison::Equal, operand, ..) => {
            let b = facts.operand(operand);
            let tag = |value: Value| value.known().is_some_and(|k| TAGS.contains(&k));
            facts.a == Value::EtherType && (tag(b) || b.known().is_none())
                || b == Value::EtherType && tag(facts.a)
        }
        _ => false,
    }
}

/// Where a load of the packet looks.
///
/// # Errors
/// `NotSupported`: from the network header on.
pub fn place(size: Size, k: u32) -> std::result::Result<Place, &'static str> {
    let offset = if k >= NET_OFF {
        // Wherever the header is.
        if k.wrapping_sub(NET_OFF) > NOWHERE {
            return Ok(Place::Nowhere);
        }
        return Err(
            "counts from the network header (SKF_NET_OFF), which the kernel finds after XDP; count \
             from the start of the frame (14 more on Ethernet)",
        );
    } else if k >= LL_OFF {
        k.wrapping_sub(LL_OFF)
    } else {
        k
    };
    let end = offset.saturating_add(size.bytes());
    Ok(if end > NOWHERE { Place::Nowhere } else { Place::At(offset) })
}

struct Step {
    index: usize,
    instruction: Instruction,
    facts: Facts,
    hardware: Option<u16>,
}

impl Step {
    fn refused(&self, reason: &str) -> Error {
        Error::new(
            Kind::NotSupported,
            "filter",
            format!(
                "not supported: instruction {} ({}) has no meaning in an XDP program: it {reason}",
                self.index, self.instruction
            ),
        )
    }

    /// The kind of a received packet may be compared with what it cannot be, and that
    /// is all.
    fn uses_received(&self, operation: Operation) -> Result<()> {
        let Facts { a, x, .. } = self.facts;
        let uses = match operation {
            Operation::Branch(comparison, operand, jt, jf) => {
                let b = self.facts.operand(operand);
                jt != jf
                    && (a.received() || b.received())
                    && decide(comparison, a, b) == Decision::Open
            }
            Operation::Arithmetic(_, operand) => {
                a.received() || operand == Operand::X && x.received()
            }
            Operation::Negate | Operation::ReturnA => a.received(),
            Operation::LoadIndirect(..) => x.received(),
            Operation::LoadAbsolute(_, k) => {
                Ancillary::from_constant(k) == Some(Ancillary::XorX)
                    && (a.received() || x.received())
            }
            _ => false,
        };
        if !uses {
            return Ok(());
        }
        Err(self.refused(
            "uses SKF_AD_PKTTYPE, which the kernel finds after XDP: only that the packet is not \
             PACKET_OUTGOING is known",
        ))
    }

    /// After it; `None`: every packet is rejected.
    fn after(&self, operation: Operation) -> Result<Option<Facts>> {
        let mut facts = self.facts.leaving();
        match operation {
            Operation::LoadAbsolute(size, k) => match Ancillary::from_constant(k) {
                Some(Ancillary::XorX) => {
                    facts.a = result(Alu::Xor, facts.a, facts.x).unwrap_or(ANYTHING);
                }
                Some(ancillary) => facts.a = self.ancillary(ancillary)?,
                None => return self.load(place(size, k), size),
            },
            Operation::LoadIndirect(size, k) => {
                let place = match facts.x.known() {
                    Some(x) => place(size, x.wrapping_add(k)),
                    None => Ok(Place::FromX(k)),
                };
                return self.load(place, size);
            }
            Operation::LoadHeaderLength(k) => {
                let after = self.load(place(Size::Byte, k), Size::Byte)?;
                return Ok(after.map(|after| Facts { a: facts.a, x: Value::UpTo(60), ..after }));
            }
            Operation::LoadLength(register) => set(&mut facts, register, ANYTHING),
            Operation::LoadConstant(register, k) => set(&mut facts, register, Value::Known(k)),
            Operation::LoadMemory(register, k) => {
                let word = facts.memory.get(k as usize).map_or(ANYTHING, |word| word.remembered());
                set(&mut facts, register, word);
            }
            Operation::Store(register, k) => {
                let value = if register == Register::A { facts.a } else { facts.x };
                if let Some(word) = facts.memory.get_mut(k as usize) {
                    *word = value;
                }
            }
            Operation::Arithmetic(alu, operand) => {
                match result(alu, facts.a, facts.operand(operand)) {
                    Some(value) => facts.a = value,
                    None => return Ok(None),
                }
            }
            Operation::Negate => {
                facts.a = facts.a.known().map_or(ANYTHING, |a| Value::Known(a.wrapping_neg()));
            }
            Operation::CopyAToX => facts.x = facts.a,
            Operation::CopyXToA => facts.a = facts.x,
            Operation::Jump(_)
            | Operation::Branch(..)
            | Operation::ReturnConstant(_)
            | Operation::ReturnA => {}
        }
        Ok(Some(facts))
    }

    fn load(
        &self,
        place: std::result::Result<Place, &'static str>,
        size: Size,
    ) -> Result<Option<Facts>> {
        let mut facts = self.facts.leaving();
        facts.a = match size {
            Size::Byte => Value::UpTo(u8::MAX.into()),
            Size::Half => Value::UpTo(u16::MAX.into()),
            Size::Word => ANYTHING,
        };
        match place.map_err(|reason| self.refused(reason))? {
            Place::Nowhere => return Ok(None),
            Place::FromX(_) => {}
            Place::At(offset) => {
                facts.checked = facts.checked.max(offset.saturating_add(size.bytes()));
                // Behind 12 bytes of addresses, and behind each tag of 4.
                if size == Size::Half && (12..=36).contains(&offset) && offset & 3 == 0 {
                    facts.a = Value::EtherType;
                }
            }
        }
        Ok(Some(facts))
    }

    /// What is known of an ancillary load.
    fn ancillary(&self, ancillary: Ancillary) -> Result<Value> {
        Ok(match ancillary {
            // Tags are in the frame.
            Ancillary::VlanTag | Ancillary::VlanTagPresent | Ancillary::VlanTpid => Value::Known(0),
            Ancillary::PacketType => Value::Received,
            Ancillary::Ifindex | Ancillary::Cpu | Ancillary::Random | Ancillary::XorX => ANYTHING,
            Ancillary::HardwareType => match self.hardware {
                Some(hardware) => Value::Known(hardware.into()),
                None => {
                    return Err(self.refused(
                        "loads SKF_AD_HATYPE, the hardware type of the interface, which is not \
                         known here",
                    ));
                }
            },
            Ancillary::Protocol => {
                return Err(self.refused(
                    "loads SKF_AD_PROTOCOL, which the kernel finds after XDP; load the EtherType \
                     from the frame (\"ldh [12]\", behind a tag \"ldh [16]\")",
                ));
            }
            Ancillary::Rxhash => {
                return Err(self.refused("loads SKF_AD_RXHASH, which not every driver has there"));
            }
            Ancillary::Queue => {
                return Err(self.refused(
                    "loads SKF_AD_QUEUE, which drivers set after XDP, if at all; open only the \
                     queues that are wanted",
                ));
            }
            Ancillary::Mark => {
                return Err(self.refused("loads SKF_AD_MARK, which packets get after XDP"));
            }
            Ancillary::PayloadOffset => {
                return Err(self.refused(
                    "loads SKF_AD_PAY_OFFSET, which the kernel finds after XDP; compute it from the \
                     lengths in the headers",
                ));
            }
            Ancillary::NetlinkAttribute | Ancillary::NetlinkAttributeNested => {
                return Err(self.refused("looks for netlink attributes, and frames have none"));
            }
        })
    }
}

fn set(facts: &mut Facts, register: Register, value: Value) {
    match register {
        Register::A => facts.a = value,
        Register::X => facts.x = value,
    }
}

/// A op b; `None`: it divides by 0. Bounds only where every verifier has them too.
pub fn result(alu: Alu, a: Value, b: Value) -> Option<Value> {
    if let (Value::Known(a), Value::Known(b)) = (a, b) {
        return super::super::interpret::arithmetic(alu, a, b).map(Value::Known);
    }
    if matches!(alu, Alu::Divide | Alu::Modulo) && b == Value::Known(0) {
        return None;
    }
    let bounded = match (alu, b.known()) {
        (Alu::And, _) => Some(a.most().min(b.most())),
        (Alu::Add, _) => a.most().checked_add(b.most()),
        (Alu::ShiftRight, Some(k)) => a.most().checked_shr(k),
        (Alu::ShiftLeft, Some(k)) => {
            let most = u64::from(a.most()).checked_shl(k);
            most.and_then(|most| u32::try_from(most).ok())
        }
        _ => None,
    };
    Some(bounded.map_or(ANYTHING, Value::UpTo))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known_of(instructions: &[Instruction]) -> Result<Known> {
        known(&Program::new(instructions).unwrap(), None)
    }

    fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction::new(code, jt, jf, k)
    }

    const RET: Instruction = Instruction::new(0x06, 0, 0, 1);
    const RET_A: Instruction = Instruction::new(0x16, 0, 0, 0);

    #[test]
    fn a_tag_beside_the_frame_is_never_there() {
        let tagged = [i(0x30, 0, 0, 0xffff_f030), i(0x15, 0, 1, 1), i(0x28, 0, 0, 16), RET];
        let known = known_of(&tagged).unwrap();
        assert!(known.before[2].is_none() && known.before[3].is_some() && known.tags);
    }

    #[test]
    fn tags_that_are_asked_for() {
        for (k, offset, tags) in [
            (0x8100, 12, true),
            (0x88a8, 16, true),
            (0x9100, 12, true),
            (0x0800, 12, false),
            // A port.
            (0x8100, 34, false),
        ] {
            let program = [i(0x28, 0, 0, offset), i(0x15, 0, 0, k), RET];
            assert_eq!(known_of(&program).unwrap().tags, tags, "{k:#x} {offset}");
        }
        // Through M[], as libpcap's plain programs go.
        let plain = [
            i(0x28, 0, 0, 12),
            i(2, 0, 0, 3),
            i(0x61, 0, 0, 3),
            i(0, 0, 0, 0x8100),
            i(0x1d, 0, 0, 0),
            RET,
        ];
        assert!(known_of(&plain).unwrap().tags);
    }

    #[test]
    fn what_is_received_was_not_sent() {
        let kind = i(0x20, 0, 0, 0xffff_f004);
        let known = known_of(&[kind, i(0x15, 0, 1, 4), i(0x06, 0, 0, 0), RET]).unwrap();
        assert!(known.before[2].is_none());
        for program in [
            vec![kind, i(0x15, 0, 1, 0), RET, RET],
            vec![kind, RET_A],
            vec![kind, i(0x07, 0, 0, 0), i(0x50, 0, 0, 0), RET],
            vec![kind, i(0x04, 0, 0, 1), RET],
            vec![kind, i(2, 0, 0, 0), i(0x60, 0, 0, 0), RET_A],
            // Only on one way.
            vec![i(0x30, 0, 0, 0), i(0x15, 0, 1, 0), kind, i(0x15, 0, 1, 4), RET, RET],
        ] {
            let error = known_of(&program).unwrap_err();
            assert_eq!((error.kind, &*error.option), (Kind::NotSupported, "filter"));
            assert!(error.message.contains("SKF_AD_PKTTYPE"), "{error}");
        }
        // Copied and not looked at.
        assert!(known_of(&[kind, i(0x07, 0, 0, 0), i(2, 0, 0, 0), RET]).is_ok());
    }

    #[test]
    fn refusals_have_names() {
        for (offset, name) in [
            (0, "SKF_AD_PROTOCOL"),
            (12, "netlink"),
            (16, "netlink"),
            (20, "SKF_AD_MARK"),
            (24, "SKF_AD_QUEUE"),
            (28, "SKF_AD_HATYPE"),
            (32, "SKF_AD_RXHASH"),
            (52, "SKF_AD_PAY_OFFSET"),
        ] {
            let error = known_of(&[i(0x20, 0, 0, 0xffff_f000 + offset), RET]).unwrap_err();
            assert!(error.message.contains(name) && error.message.len() < 512, "{error}");
            // What no packet gets to does not matter.
            let behind = [i(0x05, 0, 0, 1), i(0x20, 0, 0, 0xffff_f000 + offset), RET];
            assert!(known_of(&behind).is_ok());
        }
        let network = known_of(&[i(0x30, 0, 0, NET_OFF + 9), RET]).unwrap_err();
        assert!(network.message.contains("SKF_NET_OFF"), "{network}");
        let constant = [i(0x01, 0, 0, 9), i(0x50, 0, 0, NET_OFF), RET];
        assert!(known_of(&constant).is_err());
    }

    #[test]
    fn places() {
        assert_eq!(place(Size::Half, 12), Ok(Place::At(12)));
        assert_eq!(place(Size::Byte, LL_OFF + 3), Ok(Place::At(3)));
        assert_eq!(place(Size::Byte, NOWHERE - 1), Ok(Place::At(NOWHERE - 1)));
        assert_eq!(place(Size::Half, NOWHERE - 1), Ok(Place::Nowhere));
        assert_eq!(place(Size::Word, 1 << 31), Ok(Place::Nowhere));
        assert_eq!(place(Size::Byte, u32::MAX), Ok(Place::Nowhere));
        assert!(place(Size::Byte, NET_OFF).is_err());
    }

    #[test]
    fn bounds() {
        let up_to = Value::UpTo;
        assert_eq!(result(Alu::And, ANYTHING, Value::Known(15)), Some(up_to(15)));
        assert_eq!(result(Alu::Add, up_to(60), up_to(255)), Some(up_to(315)));
        assert_eq!(result(Alu::Add, ANYTHING, Value::Known(1)), Some(ANYTHING));
        assert_eq!(result(Alu::ShiftLeft, up_to(15), Value::Known(2)), Some(up_to(60)));
        assert_eq!(result(Alu::ShiftLeft, ANYTHING, Value::Known(1)), Some(ANYTHING));
        assert_eq!(result(Alu::ShiftRight, up_to(0xf0), Value::Known(2)), Some(up_to(60)));
        assert_eq!(result(Alu::Divide, ANYTHING, Value::Known(0)), None);
        assert_eq!(result(Alu::Multiply, Value::Known(3), Value::Known(4)), Some(Value::Known(12)));
        assert_eq!(up_to(3).or(Value::Known(9)), up_to(9));
        assert_eq!(up_to(3).or(Value::Received), Value::PerhapsReceived);
    }
}
