//! AF_XDP: the sockets of an interface and their program.

pub mod facts;
