//! One instruction: its layout, what it means, and its words.

use super::ancillary::Ancillary;
use std::fmt;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`
/// and libpcap's `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip where a comparison holds.
    pub jt: u8,
    /// How many instructions to skip where it does not.
    pub jf: u8,
    /// The constant: offset, operand, memory index or jump distance.
    pub k: u32,
}

/// How much a load takes; multi-byte values are big-endian in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
}

impl Size {
    /// In bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }
}

/// The two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// The accumulator.
    A,
    /// The index register.
    X,
}

/// The right-hand side of arithmetic and comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The instruction's constant.
    Constant(u32),
    /// The index register.
    X,
}

/// Arithmetic of A with an operand, 32 bits, wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alu {
    /// A + operand.
    Add,
    /// A - operand.
    Subtract,
    /// A * operand.
    Multiply,
    /// A / operand, unsigned; by 0 rejects the packet.
    Divide,
    /// A % operand, unsigned; by 0 rejects the packet.
    Modulo,
    /// A & operand.
    And,
    /// A | operand.
    Or,
    /// A ^ operand.
    Xor,
    /// A << operand, taken modulo 32.
    ShiftLeft,
    /// A >> operand, taken modulo 32.
    ShiftRight,
}

/// Comparison of A with an operand, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// A == operand.
    Equal,
    /// A > operand.
    Greater,
    /// A >= operand.
    GreaterOrEqual,
    /// A & operand is not 0.
    AnySet,
}

/// What an instruction means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A = packet at the offset; large offsets are ancillary.
    LoadAbsolute(Size, u32),
    /// A = packet at X + the offset.
    LoadIndirect(Size, u32),
    /// Register = the packet's length.
    LoadLength(Register),
    /// Register = the constant.
    LoadConstant(Register, u32),
    /// Register = `M[index]`.
    LoadMemory(Register, u32),
    /// X = 4 * (packet byte at the offset & 0xf): the length of an IPv4 header.
    LoadHeaderLength(u32),
    /// `M[index]` = register.
    Store(Register, u32),
    /// A = A op operand.
    Arithmetic(Alu, Operand),
    /// A = -A.
    Negate,
    /// Skip that many instructions.
    Jump(u32),
    /// Skip the first number of instructions where the comparison holds, the
    /// second where it does not.
    Branch(Comparison, Operand, u8, u8),
    /// Keep that many bytes; 0 rejects.
    ReturnConstant(u32),
    /// Keep A bytes; 0 rejects.
    ReturnA,
    /// X = A.
    CopyAToX,
    /// A = X.
    CopyXToA,
}

impl Instruction {
    /// An instruction from its four numbers.
    pub const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    /// What it means; `None` where the kernel does not know the code.
    ///
    /// The known codes are those of `chk_code_allowed()` in net/core/filter.c.
    /// It compares the whole 16 bits: a stray bit makes a code unknown.
    pub fn operation(self) -> Option<Operation> {
        const X: u16 = 0x08;
        let k = self.k;
        let operand = if self.code & X == 0 { Operand::Constant(k) } else { Operand::X };
        let branch = |c| Operation::Branch(c, operand, self.jt, self.jf);
        let arithmetic = |op| Operation::Arithmetic(op, operand);
        Some(match self.code {
            0x00 => Operation::LoadConstant(Register::A, k),
            0x20 => Operation::LoadAbsolute(Size::Word, k),
            0x28 => Operation::LoadAbsolute(Size::Half, k),
            0x30 => Operation::LoadAbsolute(Size::Byte, k),
            0x40 => Operation::LoadIndirect(Size::Word, k),
            0x48 => Operation::LoadIndirect(Size::Half, k),
            0x50 => Operation::LoadIndirect(Size::Byte, k),
            0x60 => Operation::LoadMemory(Register::A, k),
            0x80 => Operation::LoadLength(Register::A),
            0x01 => Operation::LoadConstant(Register::X, k),
            0x61 => Operation::LoadMemory(Register::X, k),
            0x81 => Operation::LoadLength(Register::X),
            0xb1 => Operation::LoadHeaderLength(k),
            0x02 => Operation::Store(Register::A, k),
            0x03 => Operation::Store(Register::X, k),
            0x04 | 0x0c => arithmetic(Alu::Add),
            0x14 | 0x1c => arithmetic(Alu::Subtract),
            0x24 | 0x2c => arithmetic(Alu::Multiply),
            0x34 | 0x3c => arithmetic(Alu::Divide),
            0x44 | 0x4c => arithmetic(Alu::Or),
            0x54 | 0x5c => arithmetic(Alu::And),
            0x64 | 0x6c => arithmetic(Alu::ShiftLeft),
            0x74 | 0x7c => arithmetic(Alu::ShiftRight),
            0x84 => Operation::Negate,
            0x94 | 0x9c => arithmetic(Alu::Modulo),
            0xa4 | 0xac => arithmetic(Alu::Xor),
            0x05 => Operation::Jump(k),
            0x15 | 0x1d => branch(Comparison::Equal),
            0x25 | 0x2d => branch(Comparison::Greater),
            0x35 | 0x3d => branch(Comparison::GreaterOrEqual),
            0x45 | 0x4d => branch(Comparison::AnySet),
            0x06 => Operation::ReturnConstant(k),
            0x16 => Operation::ReturnA,
            0x07 => Operation::CopyAToX,
            0x87 => Operation::CopyXToA,
            _ => return None,
        })
    }

    /// Mnemonic and operand in the words of `tcpdump -d`, without jump targets.
    pub(super) fn words(self) -> (&'static str, String) {
        let k = self.k;
        let Some(operation) = self.operation() else {
            return ("unimp", format!("0x{:x}", self.code));
        };
        let load = |size| match size {
            Size::Byte => "ldb",
            Size::Half => "ldh",
            Size::Word => "ld",
        };
        let offset = k as i32; // ancillary and relative offsets are negative numbers
        match operation {
            Operation::LoadAbsolute(size, _) => (load(size), format!("[{offset}]")),
            Operation::LoadIndirect(size, _) => (load(size), format!("[x + {offset}]")),
            Operation::LoadLength(Register::A) => ("ld", "#pktlen".into()),
            Operation::LoadLength(Register::X) => ("ldx", "#pktlen".into()),
            Operation::LoadConstant(Register::A, _) => ("ld", format!("#0x{k:x}")),
            Operation::LoadConstant(Register::X, _) => ("ldx", format!("#0x{k:x}")),
            Operation::LoadMemory(Register::A, _) => ("ld", format!("M[{k}]")),
            Operation::LoadMemory(Register::X, _) => ("ldx", format!("M[{k}]")),
            Operation::LoadHeaderLength(_) => ("ldxb", format!("4*([{offset}]&0xf)")),
            Operation::Store(Register::A, _) => ("st", format!("M[{k}]")),
            Operation::Store(Register::X, _) => ("stx", format!("M[{k}]")),
            Operation::Arithmetic(op, operand) => {
                let (name, hexadecimal) = match op {
                    Alu::Add => ("add", false),
                    Alu::Subtract => ("sub", false),
                    Alu::Multiply => ("mul", false),
                    Alu::Divide => ("div", false),
                    Alu::Modulo => ("mod", false),
                    Alu::And => ("and", true),
                    Alu::Or => ("or", true),
                    Alu::Xor => ("xor", true),
                    Alu::ShiftLeft => ("lsh", false),
                    Alu::ShiftRight => ("rsh", false),
                };
                let text = match operand {
                    Operand::X => "x".into(),
                    Operand::Constant(k) if hexadecimal => format!("#0x{k:x}"),
                    Operand::Constant(k) => format!("#{k}"),
                };
                (name, text)
            }
            Operation::Negate => ("neg", String::new()),
            Operation::Jump(_) => ("ja", format!("+{k}")),
            Operation::Branch(comparison, operand, ..) => {
                let name = match comparison {
                    Comparison::Equal => "jeq",
                    Comparison::Greater => "jgt",
                    Comparison::GreaterOrEqual => "jge",
                    Comparison::AnySet => "jset",
                };
                let text = match operand {
                    Operand::X => "x".into(),
                    Operand::Constant(k) => format!("#0x{k:x}"),
                };
                (name, text)
            }
            Operation::ReturnConstant(_) => ("ret", format!("#{k}")),
            Operation::ReturnA => ("ret", "a".into()),
            Operation::CopyAToX => ("tax", String::new()),
            Operation::CopyXToA => ("txa", String::new()),
        }
    }
}

/// The words of `tcpdump -d` on one line; jump distances stay relative, as an
/// instruction does not know its place.
impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, text) = self.words();
        f.write_str(name)?;
        if !text.is_empty() {
            write!(f, " {text}")?;
        }
        match self.operation() {
            Some(Operation::Branch(.., jt, jf)) => write!(f, ", jt {jt}, jf {jf}"),
            Some(Operation::LoadAbsolute(_, k)) => match Ancillary::from_constant(k) {
                Some(ancillary) => write!(f, ", {ancillary}"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_sock_filter() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(
            std::mem::offset_of!(Instruction, jt),
            std::mem::offset_of!(libc::sock_filter, jt)
        );
        assert_eq!(
            std::mem::offset_of!(Instruction, jf),
            std::mem::offset_of!(libc::sock_filter, jf)
        );
        assert_eq!(
            std::mem::offset_of!(Instruction, k),
            std::mem::offset_of!(libc::sock_filter, k)
        );
    }

    #[test]
    fn words_of_every_kind() {
        for (code, jt, jf, k, text) in [
            (0x28, 0, 0, 12, "ldh [12]"),
            (0x30, 0, 0, 0xffff_f030, "ldb [-4048], SKF_AD_VLAN_TAG_PRESENT"),
            (0x20, 0, 0, 0xfff0_0004, "ld [-1048572]"),
            (0x48, 0, 0, 14, "ldh [x + 14]"),
            (0xb1, 0, 0, 14, "ldxb 4*([14]&0xf)"),
            (0x80, 0, 0, 0, "ld #pktlen"),
            (0x01, 0, 0, 16, "ldx #0x10"),
            (0x61, 0, 0, 3, "ldx M[3]"),
            (0x02, 0, 0, 15, "st M[15]"),
            (0x15, 90, 0, 0x800, "jeq #0x800, jt 90, jf 0"),
            (0x4d, 1, 2, 0, "jset x, jt 1, jf 2"),
            (0x05, 0, 0, 7, "ja +7"),
            (0x54, 0, 0, 0x1fff, "and #0x1fff"),
            (0x64, 0, 0, 2, "lsh #2"),
            (0x0c, 0, 0, 9, "add x"),
            (0x84, 0, 0, 0, "neg"),
            (0x87, 0, 0, 0, "txa"),
            (0x06, 0, 0, u32::MAX, "ret #4294967295"),
            (0x16, 0, 0, 0, "ret a"),
            (0x8c, 0, 0, 0, "unimp 0x8c"),
        ] {
            assert_eq!(Instruction::new(code, jt, jf, k).to_string(), text);
        }
    }
}
