//! Classic BPF filter programs: validated, read from text, run in user space.
//!
//! A [`Program`] exists only if Linux would accept it: the rules are those of
//! `bpf_check_classic()` in net/core/filter.c, and every refusal names the
//! instruction and the reason, where the kernel says only EINVAL.
//! [`Program::verdict`] runs it over a packet exactly as the kernel does for an
//! `AF_PACKET` socket of type `SOCK_RAW`, or says what it cannot know.
// Lengths and offsets come from outside here: no silent wrap, no lossy cast, no
// index that can panic. Tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::indexing_slicing
    )
)]

mod afterwards;
mod ancillary;
pub mod ddd;
mod direction;
pub mod ebpf;
pub mod expression;
mod instruction;
mod interpret;
mod program;
pub mod translate;
mod validate;
mod variant;
mod view;

pub use afterwards::Needs;
pub use ancillary::Ancillary;
pub use direction::Direction;
pub use ebpf::Ebpf;
pub use expression::Expression;
pub use instruction::{Alu, Comparison, Instruction, Operand, Operation, Register, Size};
pub use interpret::Unanswered;
pub use program::Program;
pub use validate::{MAX_INSTRUCTIONS, MEMORY_WORDS};
pub use variant::{Attachable, Filter};
pub use view::{Metadata, PacketView, Vlan};
