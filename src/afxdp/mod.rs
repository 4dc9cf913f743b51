//! AF_XDP: the sockets of an interface and their program.

pub mod attach;
pub mod config;
pub mod facts;
pub mod program;
