//! AF_XDP: the sockets of an interface and their program.
//!
//! [`facts`] is what is known of the interface before, [`config`] what is asked for,
//! [`umem`] the memory of frames. [`open`] puts it together: the [`program`] (attached by
//! [`attach`]) redirects into a map of sockets, and each [`queue`] has [`rings`] around a
//! [`receive`] and a [`transmit`] side.

mod attach;
pub mod config;
pub mod facts;
#[allow(unsafe_code)]
mod front;
#[allow(unsafe_code)]
mod joined;
mod lease;
pub mod open;
mod pass;
pub mod probe;
pub mod program;
pub mod queue;
mod receive;
mod reminder;
#[allow(unsafe_code)]
mod rings;
mod stamps;
mod transmit;
pub mod umem;
