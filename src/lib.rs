//! libnetring: zero-copy packet I/O for Linux behind a C ABI.
//!
//! The C interface (`include/netring.h`, from [`ffi`]) is what this crate is
//! for; the Rust items are its core and follow no stability promise.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "libnetring needs 64-bit Linux: the packet struct and the kernel's ring layouts are built for it"
);

pub mod afpacket;
pub mod afxdp;
pub mod block;
pub mod config;
pub mod error;
#[allow(unsafe_code)]
pub mod ffi;
pub mod filter;
pub mod fork;
pub mod interface;
pub mod log;
pub mod namespace;
pub mod packet;
pub mod savefile;
pub mod signals;
pub mod slot;
#[allow(unsafe_code)]
pub mod sys;
