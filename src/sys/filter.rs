//! `struct sock_filter` as the kernel lays it out (linux/filter.h).

/// One classic BPF instruction.
pub type SockFilter = crate::filter::Instruction;

const _: () = assert!(size_of::<SockFilter>() == size_of::<libc::sock_filter>());
const _: () = assert!(std::mem::offset_of!(SockFilter, k) == 4);
