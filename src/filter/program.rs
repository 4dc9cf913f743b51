//! A program that was validated.

use super::instruction::{Instruction, Operation};
use super::validate;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A valid classic BPF program: immutable, and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Arc<[Instruction]>);

impl Program {
    /// A program from its instructions, refused where Linux would refuse it.
    ///
    /// What can still fail at attaching is size: the kernel charges the
    /// translated program to the socket and answers ENOMEM beyond
    /// `net.core.optmem_max` (128 KiB hold about 1150 loads; older
    /// kernels default to 20 KiB). And a `ja` over more than 32767 translated
    /// instructions, some 2400 loads, is EINVAL: how many there are depends on
    /// kernel and processor, so it is not checked here.
    pub fn new(instructions: &[Instruction]) -> Result<Self> {
        validate::check(instructions)?;
        Ok(Self(instructions.into()))
    }

    /// The program `ret #snap`: keeps the first `snap` bytes of every packet;
    /// 0 rejects every packet.
    pub fn keep(snap: u32) -> Self {
        Self([Instruction::new(0x06, 0, 0, snap)].into())
    }

    /// The instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// How many instructions: 1 to 4096.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same program, keeping at most `snap` bytes of a packet; 0 means all,
    /// as in the configuration.
    ///
    /// A `ret a` keeps a number of bytes that is computed per packet, which no
    /// change of constants can bound: refused.
    pub fn with_snap_length(&self, snap: u32) -> Result<Self> {
        if snap == 0 {
            return Ok(self.clone());
        }
        let mut instructions = self.0.to_vec();
        for (index, instruction) in instructions.iter_mut().enumerate() {
            match instruction.operation() {
                Some(Operation::ReturnConstant(k)) => instruction.k = k.min(snap),
                Some(Operation::ReturnA) => {
                    return Err(Error::config(
                        "snap_length",
                        format!(
                            "invalid configuration: snap_length {snap} with a filter whose \
                             instruction {index} is \"ret a\": it computes per packet how much \
                             to keep, so its constants cannot be lowered to {snap}; set \
                             snap_length to 0, or let the filter return constants (\"ret #{snap}\")"
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(Self(instructions.into()))
    }

    /// The largest number of bytes it can keep: `None` where a `ret a` computes
    /// it, `Some(0)` where it rejects everything.
    pub fn max_keep(&self) -> Option<u32> {
        self.returns().try_fold(0, |most, k| Some(most.max(k?)))
    }

    /// The smallest number of bytes it keeps of a packet that it accepts: a
    /// packet of no more bytes is never cut. `None` where a `ret a` computes it,
    /// `Some(u32::MAX)` where it accepts nothing.
    pub fn min_keep(&self) -> Option<u32> {
        self.returns().try_fold(u32::MAX, |least, k| match k? {
            0 => Some(least),
            k => Some(least.min(k)),
        })
    }

    /// The constant of each return, `None` for a `ret a`.
    fn returns(&self) -> impl Iterator<Item = Option<u32>> {
        self.0.iter().filter_map(|i| match i.operation() {
            Some(Operation::ReturnConstant(k)) => Some(Some(k)),
            Some(Operation::ReturnA) => Some(None),
            _ => None,
        })
    }
}

impl TryFrom<&[Instruction]> for Program {
    type Error = Error;

    fn try_from(instructions: &[Instruction]) -> Result<Self> {
        Self::new(instructions)
    }
}

/// The listing of `tcpdump -d`: one line an instruction, jump targets absolute.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, instruction) in self.0.iter().enumerate() {
            let after = |skip: u32| index.saturating_add(1).saturating_add(skip as usize);
            let (name, text) = instruction.words();
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}({index:03}) ")?;
            match instruction.operation() {
                Some(Operation::Branch(.., jt, jf)) => write!(
                    f,
                    "{name:<8} {text:<16} jt {}\tjf {}",
                    after(jt.into()),
                    after(jf.into())
                )?,
                Some(Operation::Jump(k)) => write!(f, "{name:<8} {}", after(k))?,
                _ if text.is_empty() => f.write_str(name)?,
                _ => write!(f, "{name:<8} {text}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn ip() -> Program {
        Program::new(&[
            Instruction::new(0x28, 0, 0, 12),
            Instruction::new(0x15, 0, 1, 0x800),
            Instruction::new(0x06, 0, 0, 262_144),
            Instruction::new(0x06, 0, 0, 0),
        ])
        .unwrap()
    }

    #[test]
    fn listing_is_tcpdump_d() {
        assert_eq!(
            ip().to_string(),
            "(000) ldh      [12]\n\
             (001) jeq      #0x800           jt 2\tjf 3\n\
             (002) ret      #262144\n\
             (003) ret      #0"
        );
    }

    #[test]
    fn snap_length_lowers_and_never_raises() {
        let cut = ip().with_snap_length(96).unwrap();
        assert_eq!(cut.max_keep(), Some(96));
        assert_eq!(cut.instructions()[3].k, 0);
        assert_eq!(cut.instructions()[..2], ip().instructions()[..2]);
        assert_eq!(cut.with_snap_length(200).unwrap(), cut);
        assert_eq!(ip().with_snap_length(0).unwrap(), ip());
    }

    #[test]
    fn ret_a_has_no_snap_length() {
        let p = Program::new(&[Instruction::new(0x80, 0, 0, 0), Instruction::new(0x16, 0, 0, 0)])
            .unwrap();
        let error = p.with_snap_length(64).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        assert_eq!(error.option, "snap_length");
        assert!(error.message.contains("instruction 1") && error.message.contains("64"), "{error}");
        assert!(error.message.len() < 512);
        assert_eq!(p.with_snap_length(0).unwrap(), p);
        assert_eq!((p.max_keep(), p.min_keep()), (None, None));
    }

    #[test]
    fn how_much_is_kept() {
        assert_eq!((ip().max_keep(), ip().min_keep()), (Some(262_144), Some(262_144)));
        assert_eq!(
            (Program::keep(0).max_keep(), Program::keep(0).min_keep()),
            (Some(0), Some(u32::MAX))
        );
        assert_eq!(Program::keep(7).min_keep(), Some(7));
        let two = Program::new(&[
            Instruction::new(0x45, 0, 1, 1),
            Instruction::new(0x06, 0, 0, 96),
            Instruction::new(0x06, 0, 0, 1500),
        ])
        .unwrap();
        assert_eq!((two.max_keep(), two.min_keep()), (Some(1500), Some(96)));
    }
}
