//! What a filter handle stands for.

use super::direction::Direction;
use super::ebpf::Ebpf;
use super::expression::Expression;
use super::program::Program;
use crate::error::{Error, Kind, Result};

/// A filter as the caller made it. What it is for a socket may depend on the
/// link type of the packets: [`Filter::resolve`].
#[derive(Debug, Clone)]
pub enum Filter {
    /// A classic BPF program, attached as it is.
    Program(Program),
    /// An eBPF program that the kernel holds.
    Ebpf(Ebpf),
    /// An expression, a program for each link type.
    Expression(Expression),
}

/// What a socket is given.
#[derive(Debug, Clone)]
pub enum Attachable {
    /// SO_ATTACH_FILTER.
    Program(Program),
    /// SO_ATTACH_BPF.
    Ebpf(Ebpf),
}

impl Filter {
    /// Whether it is another program for packets of another link type.
    pub fn is_by_link_type(&self) -> bool {
        matches!(self, Self::Expression(_))
    }

    /// What to attach for packets of these link types; none: of all of "any".
    ///
    /// # Errors
    /// `Filter`: an expression has no meaning for one of them.
    pub fn resolve(&self, link_types: &[u16]) -> Result<Attachable> {
        Ok(match self {
            Self::Program(program) => Attachable::Program(program.clone()),
            Self::Ebpf(ebpf) => Attachable::Ebpf(ebpf.clone()),
            Self::Expression(expression) => Attachable::Program(expression.among(link_types)?),
        })
    }

    /// The program for packets of a link type, for a run in user space.
    ///
    /// # Errors
    /// Those of `program`. `Filter`: an expression has no meaning for it.
    pub fn program_for(&self, link_type: u16) -> Result<Program> {
        match self {
            Self::Expression(expression) => expression.among_others(link_type),
            _ => self.program().cloned(),
        }
    }

    /// The program for frames of a link type that have their tags in them, as XDP
    /// programs see them.
    ///
    /// # Errors
    /// `NotSupported`: it is an eBPF program. `Filter`: an expression has no meaning for
    /// the link type.
    pub fn in_frame(&self, link_type: u16) -> Result<Program> {
        match self {
            Self::Program(program) => Ok(program.clone()),
            Self::Expression(expression) => expression.in_frame(link_type),
            Self::Ebpf(_) => Err(Error::new(
                Kind::NotSupported,
                "filter",
                "not supported: an eBPF socket filter cannot be made part of an XDP program; make \
                 a filter of classic BPF instructions or of an expression",
            )),
        }
    }

    /// The program; of an expression, that for Ethernet, or for raw IP if it has no
    /// meaning there.
    ///
    /// # Errors
    /// `NotSupported`: an eBPF program runs in the kernel only.
    pub fn program(&self) -> Result<&Program> {
        match self {
            Self::Program(program) => Ok(program),
            Self::Expression(expression) => Ok(expression.first()),
            Self::Ebpf(_) => Err(Error::new(
                Kind::NotSupported,
                "filter",
                "not supported: an eBPF program runs in the kernel only; for user space make a \
                 filter of classic BPF instructions",
            )),
        }
    }
}

impl From<Program> for Filter {
    fn from(program: Program) -> Self {
        Self::Program(program)
    }
}

impl From<Expression> for Filter {
    fn from(expression: Expression) -> Self {
        Self::Expression(expression)
    }
}

impl From<Ebpf> for Filter {
    fn from(program: Ebpf) -> Self {
        Self::Ebpf(program)
    }
}

impl Attachable {
    /// As [`Program::with_direction`].
    ///
    /// # Errors
    /// `Config`: it is an eBPF program, or too long.
    pub fn with_direction(self, direction: Direction) -> Result<Self> {
        match self {
            Self::Program(program) => Ok(Self::Program(program.with_direction(direction)?)),
            Self::Ebpf(_) if direction != Direction::Both => Err(direction.not_with_ebpf()),
            ebpf @ Self::Ebpf(_) => Ok(ebpf),
        }
    }

    /// The same, keeping at most `snap` bytes of a packet; 0: all.
    ///
    /// # Errors
    /// `Config`: how much it keeps is computed per packet.
    pub fn with_snap_length(self, snap: u32) -> Result<Self> {
        match self {
            Self::Program(program) => Ok(Self::Program(program.with_snap_length(snap)?)),
            Self::Ebpf(_) if snap != 0 => Err(Error::config(
                "snap_length",
                format!(
                    "invalid configuration: snap_length {snap} with an eBPF filter: the program \
                     itself says per packet how much to keep, and cannot be changed; set \
                     snap_length to 0, or let the program return at most {snap}"
                ),
            )),
            ebpf @ Self::Ebpf(_) => Ok(ebpf),
        }
    }
}
