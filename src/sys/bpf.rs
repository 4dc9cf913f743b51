//! bpf(2): eBPF programs, maps and links (linux/bpf.h).

use super::{Errno, Result};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// enum bpf_cmd
const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const PROG_LOAD: i32 = 5;
const PROG_TEST_RUN: i32 = 10;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const LINK_DETACH: i32 = 34;

/// BPF_PROG_TYPE_XDP.
pub const PROGRAM_XDP: u32 = 6;
/// BPF_XDP, the attach type.
const ATTACH_XDP: u32 = 37;
/// The program knows of packets in several buffers (Linux 5.18).
pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// BPF_LINK_UPDATE: only if `old` is what is attached.
const REPLACE: u32 = 1 << 2;

/// The program runs only on the interface that it was loaded for, and may call what its
/// driver offers (Linux 6.3).
pub const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

/// An XDP program's verdict: to the host's stack.
pub const XDP_PASS: u32 = 2;
/// To where bpf_redirect_map has said.
pub const XDP_REDIRECT: u32 = 4;

/// BPF_LINK_CREATE: in the kernel's stack, whatever the driver.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// BPF_LINK_CREATE: in the driver.
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What it takes to load and attach XDP programs, in words.
pub const PRIVILEGE: &str = "it needs CAP_BPF and CAP_NET_ADMIN (CAP_SYS_ADMIN before Linux 5.8), \
                             and those of a user namespace do not count: run as root, or `setcap \
                             cap_net_raw,cap_net_admin,cap_bpf+ep PROGRAM`";

/// BPF_MAP_UPDATE_ELEM: the entry must be new.
pub const BPF_NOEXIST: u64 = 1;

/// One instruction as the kernel lays it out (struct bpf_insn).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Two bit fields, destination first: their places are the byte order's.
    registers: u8,
    /// Of a jump or of an access to memory.
    pub offset: i16,
    /// The constant.
    pub constant: i32,
}

const _: () = assert!(size_of::<Instruction>() == 8);
const _: () = assert!(std::mem::offset_of!(Instruction, constant) == 4);

impl Instruction {
    /// An instruction of this machine.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Self {
        let registers = registers(destination, source, cfg!(target_endian = "big"));
        Self { code, registers, offset, constant }
    }

    /// As a machine of that byte order has it in memory.
    #[cfg(test)]
    pub(crate) fn bytes(self, big_endian: bool) -> [u8; 8] {
        let (low, high) = (self.registers & 0xf, self.registers >> 4);
        let (destination, source) =
            if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
        let registers = registers(destination, source, big_endian);
        let (offset, constant) = if big_endian {
            (self.offset.to_be_bytes(), self.constant.to_be_bytes())
        } else {
            (self.offset.to_le_bytes(), self.constant.to_le_bytes())
        };
        let mut bytes = [self.code, registers, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&offset);
        bytes[4..].copy_from_slice(&constant);
        bytes
    }
}

/// Bit fields are filled from the low end on little-endian machines, from the
/// high end on big-endian ones.
const fn registers(destination: u8, source: u8, big_endian: bool) -> u8 {
    let (destination, source) = (destination & 0xf, source & 0xf);
    if big_endian { destination << 4 | source } else { source << 4 | destination }
}

/// `union bpf_attr`: longer than any command needs. The kernel takes any length
/// as long as what it does not know is zero.
#[repr(C, align(8))]
struct Attributes([u8; 160]);

impl Attributes {
    fn new() -> Self {
        Self([0; 160])
    }

    fn bytes<const N: usize>(mut self, at: usize, value: [u8; N]) -> Self {
        if let Some(place) = self.0.get_mut(at..).and_then(|rest| rest.get_mut(..N)) {
            place.copy_from_slice(&value);
        }
        self
    }

    fn u32(self, at: usize, value: u32) -> Self {
        self.bytes(at, value.to_ne_bytes())
    }

    fn u64(self, at: usize, value: u64) -> Self {
        self.bytes(at, value.to_ne_bytes())
    }

    fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.bytes(at, fd.as_raw_fd().to_ne_bytes())
    }

    /// Where the kernel reads or writes; the length is another field.
    fn memory<T>(self, at: usize, memory: *const T) -> Self {
        self.u64(at, memory.addr() as u64)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// The system call.
    ///
    /// # Safety
    /// What the attributes point to is as long as they say, and writable where the
    /// command writes.
    unsafe fn call(&mut self, command: i32) -> Result<i32> {
        let attributes: *mut Self = self;
        // SAFETY: the attributes are ours and as long as said; the rest is the
        // caller's promise.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Self>() as libc::c_ulong)
        };
        i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(Errno::last)
    }

    /// A command that gives a descriptor.
    ///
    /// # Safety
    /// As [`call`](Self::call).
    unsafe fn open(&mut self, command: i32) -> Result<OwnedFd> {
        // SAFETY: the caller's promise.
        let fd = unsafe { self.call(command) }?;
        // SAFETY: just made (with O_CLOEXEC, as bpf(2) always does), owned by nothing else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A name as the kernel wants it: 15 bytes, and a NUL.
fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

/// An XDP program to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The instructions.
    pub instructions: &'a [Instruction],
    /// Its licence: some functions are only for those that are GPL-compatible.
    pub licence: &'a CStr,
    /// BPF_F_*.
    pub flags: u32,
    /// What bpftool shows; 15 bytes.
    pub name: &'a str,
    /// Its interface, with BPF_F_XDP_DEV_BOUND_ONLY; else 0.
    pub ifindex: u32,
}

impl Program<'_> {
    /// BPF_PROG_LOAD. EPERM: CAP_BPF and CAP_NET_ADMIN are needed (CAP_SYS_ADMIN
    /// before Linux 5.8), or, before 5.11, a higher RLIMIT_MEMLOCK.
    pub fn load(&self) -> Result<OwnedFd> {
        self.load_with(&mut [])
    }

    /// The same; what the verifier says is written to `log`, with a NUL behind it.
    fn load_with(&self, log: &mut [u8]) -> Result<OwnedFd> {
        let count = u32::try_from(self.instructions.len()).map_err(|_| Errno(libc::E2BIG))?;
        let size = u32::try_from(log.len()).map_err(|_| Errno(libc::EINVAL))?;
        let mut attributes = Attributes::new()
            .u32(0, PROGRAM_XDP)
            .u32(4, count)
            .memory(8, self.instructions.as_ptr())
            .memory(16, self.licence.as_ptr())
            .u32(44, self.flags)
            .bytes(48, name(self.name))
            .u32(64, self.ifindex)
            .u32(68, ATTACH_XDP);
        if size > 0 {
            attributes = attributes.u32(24, 1).u32(28, size).memory(32, log.as_mut_ptr());
        }
        // A signal makes the verifier give up: EAGAIN.
        for _ in 0..4 {
            // SAFETY: instructions, licence and log live through the call and are as
            // long as said; only the log is written.
            match unsafe { attributes.open(PROG_LOAD) } {
                Err(Errno(libc::EAGAIN)) => {}
                result => return result,
            }
        }
        // SAFETY: as above.
        unsafe { attributes.open(PROG_LOAD) }
    }

    /// What the verifier says to a program that it refused: it is asked again.
    /// Empty where it says nothing, or accepts it this time.
    pub fn verifier_log(&self) -> String {
        // Before Linux 6.4 a log that does not fit is the error (ENOSPC); since then
        // the end of it is given, where the reason is.
        for size in [1 << 16, 1 << 20, 1 << 24] {
            let mut log = vec![0; size];
            let result = self.load_with(&mut log);
            if matches!(result, Err(Errno(libc::ENOSPC))) && size < 1 << 24 {
                continue;
            }
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            return String::from_utf8_lossy(log.get(..end).unwrap_or(&[])).into_owned();
        }
        String::new()
    }
}

/// How a packet of [`test_run`] is said to have come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress {
    /// Index of an interface of this network namespace; 0: lo.
    pub ifindex: u32,
    /// One of its receive queues.
    pub queue: u32,
    /// So many bytes are in the first buffer, at least 14 (Linux 6.18; before, it must
    /// be all of them, and what does not fit a page goes into further ones).
    pub first: u32,
}

/// BPF_PROG_TEST_RUN: what the program returns for a frame of 14 bytes or more.
/// Longer than a page less the room around it, it comes in several buffers (and is
/// EINVAL for a program without BPF_F_XDP_HAS_FRAGS). Without `ingress` it comes
/// from lo.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], ingress: Option<Ingress>) -> Result<u32> {
    let length = u32::try_from(frame.len()).map_err(|_| Errno(libc::EINVAL))?;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let context = ingress.map(|from| [0, from.first, 0, from.ifindex, from.queue, 0]);
    let mut attributes =
        Attributes::new().fd(0, program).u32(8, length).memory(16, frame.as_ptr()).u32(32, 1);
    if let Some(context) = &context {
        attributes = attributes.u32(40, 24).memory(48, context.as_ptr());
    }
    loop {
        // SAFETY: frame and context live through the call and are as long as said;
        // no output was asked for but that in the attributes.
        match unsafe { attributes.call(PROG_TEST_RUN) } {
            Err(Errno(libc::EINTR)) => {}
            result => return result.map(|_| attributes.u32_at(4)),
        }
    }
}

/// What the kernel made of a program (struct bpf_prog_info).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramInfo {
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// Its number, as bpftool shows it.
    pub id: u32,
    /// How many instructions the verifier went through; 0 before Linux 5.16.
    pub verified: u32,
}

/// BPF_OBJ_GET_INFO_BY_FD of a program.
pub fn program_info(program: BorrowedFd<'_>) -> Result<ProgramInfo> {
    info(program).map(|info| ProgramInfo { kind: info[0], id: info[1], verified: info[54] })
}

/// BPF_OBJ_GET_INFO_BY_FD: the beginning of the object's structure.
fn info(object: BorrowedFd<'_>) -> Result<[u32; 64]> {
    let mut info = [0_u32; 64];
    let mut attributes = Attributes::new()
        .fd(0, object)
        .u32(4, size_of_val(&info) as u32)
        .memory(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most as much as said.
    unsafe { attributes.call(OBJ_GET_INFO_BY_FD) }?;
    Ok(info)
}

/// Bytes of a key, and of a value.
const WORD: u32 = 4;

/// What a map is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// Values by index (BPF_MAP_TYPE_ARRAY).
    Array = 2,
    /// AF_XDP sockets by queue (BPF_MAP_TYPE_XSKMAP).
    Xsk = 17,
}

/// A map whose keys and values are one u32 each.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// BPF_MAP_CREATE.
    pub fn create(kind: MapKind, entries: u32, text: &str) -> Result<Self> {
        let mut attributes = Attributes::new()
            .u32(0, kind as u32)
            .u32(4, WORD)
            .u32(8, WORD)
            .u32(12, entries)
            .bytes(28, name(text));
        // SAFETY: no pointers.
        unsafe { attributes.open(MAP_CREATE) }.map(Self)
    }

    /// A map that somebody else made; EINVAL: it is not of that kind, or not of u32.
    pub fn adopt(map: OwnedFd, kind: MapKind) -> Result<Self> {
        // struct bpf_map_info: type, id, key_size, value_size, ...
        let info = info(map.as_fd())?;
        if info[0] != kind as u32 || info[2] != WORD || info[3] != WORD {
            return Err(Errno(libc::EINVAL));
        }
        Ok(Self(map))
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// BPF_OBJ_GET_INFO_BY_FD: its number, as bpftool shows it, and how many entries it
    /// has.
    pub fn info(&self) -> Result<(u32, u32)> {
        info(self.fd()).map(|info| (info[1], info[4]))
    }

    /// BPF_MAP_UPDATE_ELEM. For an XSKMAP the value is the descriptor of a socket that
    /// has its UMEM and its receive ring.
    pub fn update(&self, key: u32, value: u32, flags: u64) -> Result<()> {
        let mut attributes = Attributes::new()
            .fd(0, self.fd())
            .memory(8, &raw const key)
            .memory(16, &raw const value)
            .u64(24, flags);
        // SAFETY: key and value live through the call, and are as long as this map's.
        unsafe { attributes.call(MAP_UPDATE_ELEM) }.map(|_| ())
    }

    /// BPF_MAP_DELETE_ELEM.
    pub fn delete(&self, key: u32) -> Result<()> {
        let mut attributes = Attributes::new().fd(0, self.fd()).memory(8, &raw const key);
        // SAFETY: the key lives through the call, and is as long as this map's.
        unsafe { attributes.call(MAP_DELETE_ELEM) }.map(|_| ())
    }
}

/// BPF_LINK_CREATE: attaches the program to an interface, until the last
/// descriptor of the link is closed. `flags`: XDP_FLAGS_*; 0: the driver's mode where
/// it has one.
pub fn link_create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> Result<OwnedFd> {
    let mut attributes =
        Attributes::new().fd(0, program).u32(4, ifindex).u32(8, ATTACH_XDP).u32(12, flags);
    // SAFETY: no pointers.
    unsafe { attributes.open(LINK_CREATE) }
}

/// BPF_LINK_UPDATE: another program in place of the one attached; with `old` only in
/// place of that (EPERM).
pub fn link_update(
    link: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attributes = Attributes::new().fd(0, link).fd(4, new);
    if let Some(old) = old {
        attributes = attributes.u32(8, REPLACE).fd(12, old);
    }
    // SAFETY: no pointers.
    unsafe { attributes.call(LINK_UPDATE) }.map(|_| ())
}

/// BPF_LINK_DETACH: whoever else has descriptors of the link (Linux 5.9). Once more is
/// no error.
pub fn link_detach(link: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = Attributes::new().fd(0, link);
    // SAFETY: no pointers.
    unsafe { attributes.call(LINK_DETACH) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_the_compiler_puts_bit_fields() {
        // struct { __u8 dst_reg:4, src_reg:4; }: r2 = r1
        assert_eq!(registers(2, 1, false), 0x12);
        assert_eq!(registers(2, 1, true), 0x21);
        let here = Instruction::new(0xbf, 2, 1, 0, 0);
        assert_eq!(here.registers, if cfg!(target_endian = "big") { 0x21 } else { 0x12 });
    }

    #[test]
    fn names_end() {
        assert_eq!(&name("netring"), b"netring\0\0\0\0\0\0\0\0\0");
        assert_eq!(&name("longer than 15 bytes"), b"longer than 15 \0");
    }

    #[test]
    fn attributes_stay_inside() {
        let attributes = Attributes::new().u32(156, 7).u64(156, u64::MAX).u32(400, 1);
        assert_eq!(attributes.u32_at(156), 7);
        assert_eq!((attributes.u32_at(152), attributes.u32_at(160)), (0, 0));
    }
}
