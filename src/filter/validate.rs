//! What Linux accepts as a socket filter: the rules of `bpf_check_classic()`
//! and `check_load_and_stores()` in net/core/filter.c.

use super::ancillary::{AD_OFF, Ancillary};
use super::instruction::{Alu, Instruction, Operand, Operation};
use crate::error::{Error, Kind, Result};

/// `BPF_MAXINSNS`: the most instructions the kernel takes.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// `BPF_MEMWORDS`: the words of M[].
pub const MEMORY_WORDS: usize = 16;

/// Says why the kernel would refuse a program, if it would.
pub(super) fn check(program: &[Instruction]) -> Result<()> {
    if program.is_empty() {
        return Err(refused(
            "the program has no instructions; the shortest program is one \"ret\" \
             (\"ret #262144\" keeps every packet)",
        ));
    }
    if program.len() > MAX_INSTRUCTIONS {
        return Err(refused(&format!(
            "the program has {} instructions, the kernel takes at most {MAX_INSTRUCTIONS}; \
             use a simpler expression, or compile it with optimisation",
            program.len()
        )));
    }
    for (index, instruction) in program.iter().enumerate() {
        check_instruction(program.len(), index, *instruction)?;
    }
    if let Some(last) = program.last() {
        if !matches!(last.operation(), Some(Operation::ReturnConstant(_) | Operation::ReturnA)) {
            return Err(at(
                program.len().saturating_sub(1),
                *last,
                "the last instruction must be a \"ret\"; end the program with one, and check \
                 that the instruction count covers the whole program",
            ));
        }
    }
    check_memory(program)
}

/// The checks of one instruction alone. They hold for unreachable ones too, as
/// in the kernel.
fn check_instruction(count: usize, index: usize, instruction: Instruction) -> Result<()> {
    let Some(operation) = instruction.operation() else {
        return Err(at(
            index,
            instruction,
            "Linux knows no such classic BPF instruction; compile the filter for Linux sockets \
             (eBPF and seccomp instructions do not belong here)",
        ));
    };
    match operation {
        Operation::Arithmetic(Alu::Divide | Alu::Modulo, Operand::Constant(0)) => {
            Err(at(index, instruction, "divides by the constant 0; use another divisor"))
        }
        Operation::Arithmetic(Alu::ShiftLeft | Alu::ShiftRight, Operand::Constant(k))
            if k >= u32::BITS =>
        {
            Err(at(
                index,
                instruction,
                &format!("shifts by {k} bits, but registers have 32; shift by 0 to 31"),
            ))
        }
        Operation::LoadMemory(_, k) | Operation::Store(_, k) if k as usize >= MEMORY_WORDS => Err(
            at(index, instruction, &format!("memory word {k} does not exist; M[0] to M[15] do")),
        ),
        Operation::Jump(k) => check_target(count, index, instruction, k),
        Operation::Branch(_, _, jt, jf) => {
            check_target(count, index, instruction, jt.into())?;
            check_target(count, index, instruction, jf.into())
        }
        Operation::LoadAbsolute(_, k) if k >= AD_OFF && Ancillary::from_constant(k).is_none() => {
            Err(at(
                index,
                instruction,
                "is an ancillary load that Linux does not know; known are the offsets \
                 SKF_AD_OFF (-4096) to SKF_AD_OFF + 60 in steps of 4",
            ))
        }
        _ => Ok(()),
    }
}

/// Jumps go forward and land on an instruction.
fn check_target(count: usize, index: usize, instruction: Instruction, skip: u32) -> Result<()> {
    let target = index.saturating_add(1).saturating_add(skip as usize);
    if target < count {
        return Ok(());
    }
    Err(at(
        index,
        instruction,
        &format!(
            "jumps to {target}, but the program ends at {}; a jump must land on an instruction, \
             and the count must cover the whole program",
            count.saturating_sub(1)
        ),
    ))
}

/// No path may read a word of M[] that it did not write: the kernel does not
/// clear them between packets.
///
/// `masks` has the words that every jump to an instruction brings along. As in
/// the kernel the word set goes on past a `ret` to the next instruction, though
/// no packet takes that path: what the kernel refuses is refused here.
fn check_memory(program: &[Instruction]) -> Result<()> {
    let mut masks = vec![u16::MAX; program.len()];
    let mut valid = 0_u16;
    for (index, instruction) in program.iter().enumerate() {
        valid &= masks.get(index).copied().unwrap_or(0);
        let mut jump = |skip: u32| {
            let target = index.saturating_add(1).saturating_add(skip as usize);
            if let Some(mask) = masks.get_mut(target) {
                *mask &= valid;
            }
        };
        match instruction.operation() {
            Some(Operation::Store(_, k)) => valid |= bit(k),
            Some(Operation::LoadMemory(_, k)) if valid & bit(k) == 0 => {
                return Err(at(
                    index,
                    *instruction,
                    &format!(
                        "reads M[{k}], which not every way to it has written (for the kernel a \
                         \"ret\" is followed by the next instruction too); write M[{k}] at the \
                         start of the program"
                    ),
                ));
            }
            Some(Operation::Jump(k)) => {
                jump(k);
                valid = u16::MAX;
            }
            Some(Operation::Branch(_, _, jt, jf)) => {
                jump(jt.into());
                jump(jf.into());
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

fn bit(k: u32) -> u16 {
    1_u16.checked_shl(k).unwrap_or(0)
}

fn refused(reason: &str) -> Error {
    Error::new(Kind::Filter, "program", format!("filter refused: {reason}"))
}

fn at(index: usize, instruction: Instruction, reason: &str) -> Error {
    refused(&format!("instruction {index} ({instruction}): {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RET: Instruction = Instruction::new(0x06, 0, 0, 1);

    fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction::new(code, jt, jf, k)
    }

    fn refusal(program: &[Instruction]) -> String {
        let error = check(program).unwrap_err();
        assert_eq!(error.kind, Kind::Filter);
        assert_eq!(error.option, "program");
        assert!(error.message.len() < 512, "{error}");
        error.message
    }

    #[test]
    fn lengths() {
        assert!(refusal(&[]).contains("no instructions"));
        assert!(check(&vec![RET; MAX_INSTRUCTIONS]).is_ok());
        assert!(refusal(&vec![RET; MAX_INSTRUCTIONS + 1]).contains("4097 instructions"));
    }

    #[test]
    fn each_refusal_names_the_instruction_and_why() {
        for (program, words) in [
            (
                vec![i(0x15, 90, 0, 0x800), RET],
                "instruction 0 (jeq #0x800, jt 90, jf 0): jumps to 91, but the program ends at 1",
            ),
            (vec![i(0x15, 0, 1, 0x800), RET], "jumps to 2, but the program ends at 1"),
            (
                vec![RET, i(0x05, 0, 0, u32::MAX), RET],
                "instruction 1 (ja +4294967295): jumps to 4294967297",
            ),
            (vec![i(0x34, 0, 0, 0), RET], "(div #0): divides by the constant 0"),
            (vec![i(0x94, 0, 0, 0), RET], "(mod #0): divides by the constant 0"),
            (vec![i(0x64, 0, 0, 32), RET], "(lsh #32): shifts by 32 bits"),
            (vec![i(0x74, 0, 0, 99), RET], "(rsh #99): shifts by 99 bits"),
            (vec![i(0x02, 0, 0, 16), RET], "(st M[16]): memory word 16 does not exist"),
            (vec![i(0x60, 0, 0, 0), RET], "(ld M[0]): reads M[0]"),
            (vec![i(0x30, 0, 0, 0xffff_f001), RET], "(ldb [-4095]): is an ancillary load"),
            (vec![i(0x30, 0, 0, 0xffff_f040), RET], "(ldb [-4032]): is an ancillary load"),
            (vec![i(0x0e, 0, 0, 0), RET], "(unimp 0xe): Linux knows no such"),
            (vec![i(0x128, 0, 0, 0), RET], "(unimp 0x128): Linux knows no such"),
            (
                vec![RET, i(0x28, 0, 0, 12)],
                "instruction 1 (ldh [12]): the last instruction must be a \"ret\"",
            ),
        ] {
            let message = refusal(&program);
            assert!(message.contains(words), "{message}\n  lacks: {words}");
        }
    }

    #[test]
    fn memory_must_be_written_on_every_path() {
        let written_on_both = [
            i(0x15, 0, 2, 5),
            i(0x02, 0, 0, 3),
            i(0x05, 0, 0, 1),
            i(0x03, 0, 0, 3),
            i(0x60, 0, 0, 3),
            RET,
        ];
        assert!(check(&written_on_both).is_ok());
        let mut on_one = written_on_both;
        on_one[3].k = 4;
        assert!(refusal(&on_one).contains("instruction 4 (ld M[3])"));
    }

    #[test]
    fn a_ret_lets_the_word_set_through_as_in_the_kernel() {
        // Only the jump from 1 gets to 3, and it brings M[0]; the kernel lets 2
        // fall through to 3 as well, which brings M[0] too.
        let fine = [i(0x02, 0, 0, 0), i(0x15, 0, 1, 5), RET, i(0x60, 0, 0, 0), RET];
        assert!(check(&fine).is_ok());
        // Here what falls through lacks M[1]: the way over 4 does not exist.
        let refused_by_the_kernel =
            [i(0x15, 0, 2, 5), i(0x02, 0, 0, 1), i(0x05, 0, 0, 1), RET, i(0x60, 0, 0, 1), RET];
        assert!(refusal(&refused_by_the_kernel).contains("M[1]"));
    }
}
