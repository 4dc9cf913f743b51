//! A classic program as an XDP program: what it accepts goes to the AF_XDP socket
//! of its queue, everything else to the host's stack.
//!
//! The verdict is that of [`Program::verdict`] for a frame with its tags in it and
//! nothing known besides ([`facts`] says of what else there is something known); what
//! has no meaning before the kernel's stack is refused by name. Packets in several
//! buffers are looked at as a whole.
//!
//! [`facts`] goes through the program once, [`emit`] writes eBPF with [`assemble`],
//! [`load`] gives it to the kernel.

mod assemble;
pub mod beside;
mod emit;
mod facts;
pub mod load;

use super::program::Program;
use crate::error::{Error, Kind, Result};
use crate::sys::bpf::Instruction;

pub use beside::Beside;
pub use facts::NOWHERE;

/// What an XDP program is to take.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// Every packet.
    Everything,
    /// None: drivers need a program for transmitting, too.
    Nothing,
    /// What the program accepts.
    Accepted(&'a Program),
}

/// What becomes of a packet that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// To the socket of its queue in the XSKMAP with that descriptor; to the host's
    /// stack where the queue has none.
    Redirect(i32),
    /// The program returns that: for a run in a test.
    Return(u32),
}

/// How packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// In place.
    #[default]
    Direct,
    /// In place where the offset is fixed, by a call where it is computed: without
    /// CAP_PERFMON the verifier takes no computed ones (Linux 5.18).
    Fixed,
    /// In place, and by asking for the length in the way of kernels before 5.18. Not for
    /// packets in several buffers.
    Old,
    /// By a call for each load: slower, but the verifier looks at each instruction about
    /// once, whatever the program (Linux 5.18).
    Called,
}

/// How to translate.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of a packet that is taken.
    pub taken: Taken,
    /// Packets may come in several buffers.
    pub frags: bool,
    /// How packets are looked at.
    pub access: Access,
    /// The interface's `ARPHRD_*` type, for programs that ask.
    pub hardware_type: Option<u16>,
    /// What is put in front of a packet that is redirected.
    pub beside: Option<Beside>,
}

/// An XDP program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// Its instructions.
    pub instructions: Vec<Instruction>,
    /// It asks for VLAN tags: where the card takes them out of the frames, its verdict
    /// is another.
    pub uses_vlan: bool,
}

/// Translates.
///
/// # Errors
/// `NotSupported`: the program asks for what an XDP program does not have.
pub fn translate(selection: Selection<'_>, options: &Options) -> Result<Translated> {
    let known = match selection {
        Selection::Accepted(program) => {
            Some((program, facts::known(program, options.hardware_type)?))
        }
        Selection::Everything | Selection::Nothing => None,
    };
    let instructions = match &known {
        Some((program, known)) => emit::program(program, known, options),
        None => emit::constant(matches!(selection, Selection::Everything), options),
    };
    let instructions = instructions.ok_or_else(|| {
        Error::new(
            Kind::NotSupported,
            "filter",
            "not supported: the filter as an XDP program has jumps that are too long; use a \
             simpler filter",
        )
    })?;
    Ok(Translated { instructions, uses_vlan: known.is_some_and(|(_, known)| known.tags) })
}
