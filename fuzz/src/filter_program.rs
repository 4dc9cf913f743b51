//! Bytes as a classic BPF program and a packet. The library takes exactly the
//! programs that the running kernel takes (SO_ATTACH_FILTER needs no
//! privilege), and keeps of a datagram exactly the bytes that the kernel keeps;
//! libpcap's interpreter is asked as well where the two agree by definition.

use crate::input::Input;
use netring::error::Kind;
use netring::filter::{
    Alu, Instruction, Metadata, Operand, Operation, PacketView, Program, Unanswered, Vlan,
};
use std::ffi::{c_uint, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// The codes that Linux knows.
const CODES: [u16; 45] = [
    0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03, 0x04,
    0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84,
    0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x35, 0x45, 0x06, 0x16, 0x07,
];
const LARGEST_PACKET: usize = 4096;

thread_local! {
    static PAIR: (OwnedFd, OwnedFd) = socket_pair();
}

fn socket_pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, 0);
    // SAFETY: just created, owned by nothing else.
    let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let second = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    (first, second)
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn attach(fd: &OwnedFd, program: &[Instruction]) -> Result<(), i32> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let (option, size) = (libc::SO_ATTACH_FILTER, size_of_val(&program) as libc::socklen_t);
    let value: *const libc::sock_fprog = &raw const program;
    // SAFETY: valid during the call, and only read.
    let rc =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), size) };
    if rc == 0 { Ok(()) } else { Err(errno()) }
}

/// What the kernel keeps of a datagram.
fn through_kernel(data: &[u8]) -> Option<Vec<u8>> {
    PAIR.with(|(sender, receiver)| {
        // SAFETY: valid for its length.
        let sent = unsafe { libc::send(sender.as_raw_fd(), data.as_ptr().cast(), data.len(), 0) };
        assert_eq!(sent, data.len() as isize, "send: {}", errno());
        let mut buffer = vec![0; data.len() + 1];
        // SAFETY: valid for its length.
        let got = unsafe {
            libc::recv(receiver.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        };
        if got < 0 {
            assert_eq!(errno(), libc::EAGAIN, "recv");
            return None;
        }
        buffer.truncate(got as usize);
        Some(buffer)
    })
}

/// Instructions from bytes: as they are, or such that most are valid.
fn instructions(input: &mut Input, count: usize, raw: bool) -> Vec<Instruction> {
    let one = |n: usize, bytes: [u8; 8]| {
        let k = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if raw {
            let code = u16::from_le_bytes([bytes[0], bytes[1]]);
            return Instruction::new(code, bytes[2], bytes[3], k);
        }
        let left = (count - n).saturating_sub(1).max(1);
        let k = match bytes[3] >> 5 {
            0 | 1 => k,
            2 | 3 => k & 0xff,
            4 => k & 0x1f,
            5 => 0xffff_f000_u32.wrapping_add(k & 0x7f),
            6 => 0xfff0_0000 | k & 0x1f,
            _ => 0xffe0_0000 | k & 0x1f,
        };
        let code = CODES[usize::from(bytes[0]) % CODES.len()];
        let jump = |skip: u8| (usize::from(skip) % left) as u8;
        let k = if code == 0x05 { k % left as u32 } else { k };
        let k = if matches!(code, 0x02 | 0x03 | 0x60 | 0x61) { k % 17 } else { k };
        let k = if matches!(code, 0x64 | 0x74) { k % 33 } else { k };
        Instruction::new(code, jump(bytes[1]), jump(bytes[2]), k)
    };
    let mut all: Vec<_> = (0..count).map(|n| one(n, input.array())).collect();
    if let (false, Some(last)) = (raw, all.last_mut()) {
        last.code = if last.jt & 1 == 0 { 0x16 } else { 0x06 };
    }
    all
}

pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (how, count) = (input.u8(), usize::from(input.u8()));
    let snap = input.u16();
    let instructions = instructions(&mut input, count, how & 1 != 0);
    let packet = &input.0[..input.0.len().min(LARGEST_PACKET)];

    let ours = Program::new(&instructions);
    let kernel = PAIR.with(|(_, receiver)| attach(receiver, &instructions));
    match (&ours, kernel) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err(libc::EINVAL)) => {
            assert_eq!((error.kind, &*error.option), (Kind::Filter, "program"));
            assert!(error.message.len() < 512 && error.message.is_ascii(), "{error}");
            return;
        }
        // Beyond net.core.optmem_max; it has looked at the program by then.
        (Ok(_), Err(libc::ENOMEM)) => return,
        (ours, kernel) => panic!(
            "the library says {:?}, the kernel {kernel:?}: {instructions:?}",
            ours.as_ref().map(Program::len).map_err(|error| &error.message)
        ),
    }
    let program = ours.expect("accepted");
    // The sum of any two words is a listing's, too.
    assert_eq!(program.to_string().lines().count(), program.len());
    let kept = through_kernel(packet);

    // A datagram of this family came from no interface and has no headers: what
    // the kernel never set stands at 0, and at 0xffff, where no byte is.
    let metadata = Metadata {
        protocol: Some(0),
        packet_type: Some(0),
        rxhash: Some(0),
        vlan: Vlan::Absent,
        queue: Some(0),
        net_offset: Some(0),
        link_offset: Some(0xffff),
        ..Metadata::default()
    };
    let view = PacketView { metadata, ..PacketView::new(packet) };
    let verdict = program.verdict(&view);
    match verdict {
        Ok(verdict) => {
            let expected = &packet[..packet.len().min(verdict as usize)];
            let expected = (verdict != 0).then_some(expected);
            assert_eq!(kept.as_deref(), expected, "verdict {verdict}\n{program}");
            lengths(&program, &view, verdict, snap);
        }
        Err(reason) => assert!(matches!(reason, Unanswered::Ancillary(_)), "{reason}"),
    }
    cut(&program, packet, metadata, verdict, how);
    if portable(&program) {
        through_libpcap(&program, packet);
    }
}

/// What is said of the lengths it keeps holds, and a snap length bounds them.
fn lengths(program: &Program, view: &PacketView<'_>, verdict: u32, snap: u16) {
    assert!(program.max_keep().is_none_or(|most| verdict <= most), "max_keep\n{program}");
    let least = program.min_keep();
    assert!(verdict == 0 || least.is_none_or(|least| verdict >= least), "min_keep\n{program}");
    match program.with_snap_length(snap.into()) {
        Ok(cut) => {
            let bound = if snap == 0 { u32::MAX } else { snap.into() };
            assert_eq!(cut.verdict(view), Ok(verdict.min(bound)), "snap length {snap}\n{program}");
            assert!(Program::new(cut.instructions()).is_ok());
        }
        Err(error) => {
            assert_eq!((error.kind, program.max_keep()), (Kind::Config, None));
            assert!(error.message.len() < 512);
        }
    }
}

/// Of a packet that was cut there is the same verdict as of the whole one, or
/// none.
fn cut(
    program: &Program,
    packet: &[u8],
    metadata: Metadata,
    whole: Result<u32, Unanswered>,
    how: u8,
) {
    let caplen = packet.len() * usize::from(how >> 1) / 128;
    let view = PacketView { data: &packet[..caplen], len: packet.len() as u32, metadata };
    match program.verdict(&view) {
        Err(Unanswered::Cut { offset, size, caplen: there, len }) => {
            assert!(there == caplen && len as usize == packet.len());
            assert!(u64::from(offset) + u64::from(size) > there as u64);
            assert!(u64::from(offset) + u64::from(size) <= u64::from(len));
        }
        verdict => assert_eq!(verdict, whole, "{caplen} of {} bytes\n{program}", packet.len()),
    }
}

// ---- libpcap ----

/// Where libpcap's interpreter does the same by definition: no offsets that are
/// special or wrap, no shift by X (32 and more give 0 there), no load of M[] into
/// X of what was not written.
fn portable(program: &Program) -> bool {
    program.instructions().iter().all(|i| match i.operation() {
        Some(Operation::LoadAbsolute(_, k) | Operation::LoadHeaderLength(k)) => k < 1 << 31,
        Some(Operation::LoadIndirect(..)) => false,
        Some(Operation::Arithmetic(Alu::ShiftLeft | Alu::ShiftRight, Operand::X)) => false,
        _ => true,
    })
}

type BpfFilter = unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint;

fn libpcap() -> Option<BpfFilter> {
    static FILTER: OnceLock<Option<BpfFilter>> = OnceLock::new();
    *FILTER.get_or_init(|| {
        for name in [c"libpcap.so.1", c"libpcap.so.0.8"] {
            // SAFETY: a string; libpcap's initialisers have no needs.
            let handle: *mut c_void = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            if !handle.is_null() {
                // SAFETY: an open library.
                let symbol = unsafe { libc::dlsym(handle, c"bpf_filter".as_ptr()) };
                // SAFETY: its signature in <pcap/bpf.h>; NULL is None.
                return unsafe { std::mem::transmute::<*mut c_void, Option<BpfFilter>>(symbol) };
            }
        }
        None
    })
}

fn through_libpcap(program: &Program, packet: &[u8]) {
    let Some(filter) = libpcap() else { return };
    let length = packet.len() as c_uint;
    let Ok(verdict) = program.verdict(&PacketView::new(packet)) else { return };
    // SAFETY: a valid program, and as many bytes as it says.
    let theirs =
        unsafe { filter(program.instructions().as_ptr(), packet.as_ptr(), length, length) };
    assert_eq!(verdict, theirs, "libpcap\n{program}");
}
