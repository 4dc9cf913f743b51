//! The filter module against the kernel it imitates: which programs Linux takes,
//! and what it keeps of a packet. Random programs, real sockets.
//!
//! The random numbers are the same in every run; `NETRING_TEST_SEED` (a number)
//! changes them. `NETRING_TEST_ROUNDS` multiplies the number of rounds.
#![allow(unsafe_code)] // sockets and dlopen
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/programs.rs"]
mod programs;

use netring::filter::{Instruction, MAX_INSTRUCTIONS, Metadata, PacketView, Program, Vlan};
use programs::{
    AD_OFF, Dialect, INTERESTING, LL_OFF, NET_OFF, Random, focused_program, i, rounds,
    valid_program,
};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Anything, with a leaning to what is nearly valid.
fn random_program(r: &mut Random) -> Vec<Instruction> {
    let any_code = r.one_in(2);
    (0..r.below(8))
        .map(|_| {
            let code = match r.below(8) {
                0 => r.word() as u16,
                1 if any_code => r.word() as u16 & 0xff,
                _ => r.pick(&[
                    0x06, 0x16, 0x28, 0x15, 0x02, 0x60, 0x61, 0x05, 0x34, 0x64, 0x30, 0xb1,
                ]),
            };
            let k = match r.below(4) {
                0 => r.word(),
                1 => AD_OFF.wrapping_add(r.below(80) as u32).wrapping_sub(4),
                _ => r.pick(&INTERESTING),
            };
            i(code, r.below(4) as u8, r.below(4) as u8, k)
        })
        .chain(std::iter::once(i(0x06, 0, 0, 1)))
        .collect()
}

fn mutate(r: &mut Random, all: &mut Vec<Instruction>) {
    let at = r.below(all.len());
    match r.below(10) {
        0 => all[at].code ^= 1 << r.below(16),
        1 => all[at].code ^= 1 << r.below(8),
        2 => all[at].k = r.pick(&INTERESTING),
        3 => all[at].k = AD_OFF + r.below(80) as u32,
        4 => all[at].jt = r.next() as u8,
        5 => all[at].jf = r.below(6) as u8,
        6 => {
            all.remove(at);
        }
        7 => all.insert(at, i(r.pick(&[0x60, 0x61, 0x02, 0x03]), 0, 0, r.below(18) as u32)),
        8 => {
            let other = r.below(all.len());
            all.swap(at, other);
        }
        _ => all.truncate(at),
    }
}

// ---- sockets ----

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: three numbers, no memory.
    let fd = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: just created, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn socket_pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors.
    checked(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }).unwrap();
    // SAFETY: just created, owned by nothing else.
    let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let second = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    (first, second)
}

fn set<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> Result<(), i32> {
    let length = size_of_val(value) as libc::socklen_t;
    let value: *const T = value;
    // SAFETY: `value` is valid for `length` bytes during the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), length) };
    checked(result).map(|_| ()).map_err(|e| e.raw_os_error().unwrap())
}

/// `SO_ATTACH_FILTER`; the kernel's errno where it refuses.
fn attach(fd: &OwnedFd, program: &[Instruction]) -> Result<(), i32> {
    let program = libc::sock_fprog {
        len: program.len().try_into().expect("a length that the kernel can be told"),
        // Instruction has the layout of sock_filter (tested in the module), and
        // the kernel only reads it.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn send(fd: &OwnedFd, data: &[u8]) {
    // SAFETY: `data` is valid for its length during the call.
    let sent = unsafe { libc::send(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), 0) };
    assert_eq!(sent, data.len() as isize, "{}", io::Error::last_os_error());
}

/// What is queued, without waiting.
fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: `buffer` is valid for its length during the call.
    let got = unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    if got < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        return None;
    }
    Some(got as usize)
}

fn readable(fd: RawFd, timeout_ms: c_int) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, valid during the call.
    checked(unsafe { libc::poll(&raw mut entry, 1, timeout_ms) }).unwrap() == 1
}

fn listing(program: &[Instruction]) -> String {
    let lines: Vec<_> = program.iter().enumerate().map(|(n, i)| format!("  {n}: {i}")).collect();
    lines.join("\n")
}

// ---- which programs ----

#[derive(Default, Debug)]
struct Tally {
    accepted: usize,
    refused: usize,
    no_memory: usize,
}

impl Tally {
    /// The kernel and the library must say the same.
    fn check(&mut self, fd: &OwnedFd, program: &[Instruction]) {
        let ours = Program::new(program);
        match attach(fd, program) {
            Ok(()) => {
                self.accepted += 1;
                let refusal = ours.err().map(|e| e.message);
                assert_eq!(refusal, None, "the kernel accepts\n{}", listing(program));
            }
            Err(libc::ENOMEM) => self.no_memory += 1,
            Err(errno) => {
                self.refused += 1;
                assert_eq!(errno, libc::EINVAL, "{}", listing(program));
                assert!(ours.is_err(), "the kernel refuses\n{}", listing(program));
            }
        }
    }
}

fn udp() -> OwnedFd {
    socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap()
}

#[test]
fn kernel_takes_the_same_codes() {
    let fd = udp();
    let mut tally = Tally::default();
    for code in 0..=u16::MAX {
        // M[1] is written, k is a valid shift, divisor, jump and word.
        tally.check(&fd, &[i(0x02, 0, 0, 1), i(code, 0, 0, 1), i(0x06, 0, 0, 1), i(0x06, 0, 0, 1)]);
        tally.check(&fd, &[i(0x06, 0, 0, 1), i(code, 0, 0, 1)]);
    }
    eprintln!("all 65536 codes, in the middle and at the end: {tally:?}");
    assert!(tally.accepted > 40 && tally.refused > 65_000, "{tally:?}");
}

#[test]
fn kernel_takes_the_same_constants() {
    let fd = udp();
    let mut tally = Tally::default();
    for code in (0..=0xff).filter(|c| i(*c, 0, 0, 0).operation().is_some()) {
        let near = [0, 16, 32, 4096, 1 << 31, LL_OFF, NET_OFF, AD_OFF, AD_OFF + 32, AD_OFF + 64];
        let constants =
            near.iter().flat_map(|c| (0..=80).map(|d| c.wrapping_add(d).wrapping_sub(40)));
        for k in constants.chain([u32::MAX]) {
            tally.check(&fd, &[i(0x02, 0, 0, 0), i(code, 0, 0, k), i(0x06, 0, 0, 1)]);
        }
    }
    for jt in 0..=u8::MAX {
        for jf in [0, 1, 5, 100, 200, 255] {
            let mut program = vec![i(0x15, jt, jf, 0)];
            program.resize(150, i(0x06, 0, 0, 1));
            tally.check(&fd, &program);
        }
    }
    eprintln!("constants and jumps at their limits: {tally:?}");
    assert!(tally.accepted > 5_000 && tally.refused > 5_000, "{tally:?}");
}

#[test]
fn kernel_takes_the_same_lengths() {
    let mut tally = Tally::default();
    for count in [0, 1, 2, MAX_INSTRUCTIONS - 1, MAX_INSTRUCTIONS, MAX_INSTRUCTIONS + 1, 65_535] {
        // A socket of its own: the kernel charges the old filter until the new
        // one is in place.
        tally.check(&udp(), &vec![i(0x06, 0, 0, 1); count]);
    }
    eprintln!("lengths: {tally:?}");
    assert!(tally.refused == 3, "{tally:?}");
}

/// The word set goes on past a `ret`: a program that no packet could misuse, and
/// that the kernel refuses all the same.
#[test]
fn kernel_lets_the_word_set_pass_a_ret() {
    let mut tally = Tally::default();
    let mut program = vec![
        i(0x15, 0, 2, 5),
        i(0x02, 0, 0, 1),
        i(0x05, 0, 0, 1),
        i(0x06, 0, 0, 1),
        i(0x60, 0, 0, 1),
        i(0x06, 0, 0, 1),
    ];
    tally.check(&udp(), &program);
    assert_eq!(tally.refused, 1);
    program.insert(0, i(0x02, 0, 0, 1));
    tally.check(&udp(), &program);
    assert_eq!(tally.accepted, 1);
}

#[test]
fn kernel_takes_the_same_random_programs() {
    let mut r = Random::new("kernel_takes_the_same_random_programs");
    let fd = udp();
    let mut tally = Tally::default();
    for round in 0..rounds(30_000) {
        let program = match round % 4 {
            0 => random_program(&mut r),
            1 => {
                let most = if r.one_in(20) { 300 } else { 20 };
                valid_program(&mut r, most, 64, Dialect::Linux)
            }
            _ => {
                let mut program = valid_program(&mut r, 20, 64, Dialect::Linux);
                for _ in 0..=r.below(3) {
                    if !program.is_empty() {
                        mutate(&mut r, &mut program);
                    }
                }
                program
            }
        };
        tally.check(&fd, &program);
    }
    eprintln!("random programs: {tally:?}");
    assert!(tally.accepted > 8_000 && tally.refused > 8_000, "{tally:?}");
}

// ---- what is kept of a packet ----

#[derive(Default, Debug)]
struct Outcomes {
    whole: usize,
    cut: usize,
    rejected: usize,
    unanswered: usize,
}

impl Outcomes {
    fn compared(&self) -> usize {
        self.whole + self.cut + self.rejected
    }

    /// What the receiver of a socket with this verdict gets of `len` bytes.
    fn expect(&mut self, verdict: u32, len: usize) -> Option<usize> {
        if verdict == 0 {
            self.rejected += 1;
            return None;
        }
        let kept = len.min(verdict as usize);
        if kept < len {
            self.cut += 1
        } else {
            self.whole += 1
        }
        Some(kept)
    }
}

#[test]
fn kernel_keeps_the_same_of_a_datagram() {
    let mut r = Random::new("kernel_keeps_the_same_of_a_datagram");
    let (sender, receiver) = socket_pair();
    let mut buffer = vec![0; 70_000];
    let mut seen = Outcomes::default();
    for round in 0..rounds(4_000) {
        // Now and then a datagram that the kernel keeps in pages: its loads take
        // another way (skb_copy_bits).
        let large = round % 50 == 0;
        let reach = if large { 50_000 } else { 60 };
        let program = if r.one_in(2) {
            focused_program(&mut r, reach)
        } else {
            valid_program(&mut r, 24, reach, Dialect::Linux)
        };
        let ours = Program::new(&program).expect("generated to be valid");
        match attach(&receiver, &program) {
            Err(libc::ENOMEM) => continue,
            result => result.unwrap(),
        }
        for _ in 0..8 {
            let length = if large { r.below(60_000) } else { r.below(90) };
            let data = if r.one_in(3) { vec![r.next() as u8; length] } else { r.bytes(length) };
            send(&sender, &data);
            let got = receive(&receiver, &mut buffer);
            // A datagram of this family came from no interface and has no headers.
            let view = PacketView {
                metadata: Metadata {
                    protocol: Some(0),
                    packet_type: Some(0),
                    rxhash: Some(0),
                    vlan: Vlan::Absent,
                    queue: Some(0),
                    link_offset: None,
                    ..Metadata::default()
                },
                ..PacketView::new(&data)
            };
            let Ok(verdict) = ours.verdict(&view) else {
                seen.unanswered += 1;
                continue;
            };
            let expected = seen.expect(verdict, data.len());
            assert_eq!(got, expected, "verdict {verdict} for {data:x?}\n{ours}");
            if let Some(kept) = got {
                assert_eq!(buffer[..kept], data[..kept]);
            }
        }
    }
    eprintln!("datagrams: {seen:?}");
    assert!(seen.compared() > 10_000, "{seen:?}");
    assert!(seen.whole.min(seen.cut).min(seen.rejected) > 1_000, "{seen:?}");
}

// ---- AF_PACKET: headers and metadata ----

/// A socket that sees every packet of `lo` in the present namespace.
fn packet_socket(ifindex: c_int) -> OwnedFd {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let fd = socket(libc::AF_PACKET, libc::SOCK_RAW, 0).unwrap();
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = ifindex;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let pointer: *const libc::sockaddr_ll = &raw const address;
    // SAFETY: `address` is valid for `length` bytes during the call.
    checked(unsafe { libc::bind(fd.as_raw_fd(), pointer.cast(), length) }).unwrap();
    fd
}

/// A network namespace for this thread with its `lo` up, or why not.
fn own_namespace() -> io::Result<c_int> {
    // SAFETY: a number, no memory.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let fd = udp();
    // SAFETY: all zero is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request is valid during the call.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) })?;
    // SAFETY: a string with an end.
    Ok(unsafe { libc::if_nametoindex(c"lo".as_ptr()) } as c_int)
}

#[repr(C)]
struct AuxData {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// A packet with all that the kernel says about it.
fn receive_with_metadata(fd: &OwnedFd, buffer: &mut [u8]) -> (usize, Metadata) {
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut control = [0_u64; 32];
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer in the message is valid for its length.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    assert!(got >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel filled in the message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    assert!(!header.is_null(), "no PACKET_AUXDATA");
    // SAFETY: the first control message is there.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: PACKET_AUXDATA, the only control message asked for, is this struct.
    let aux = unsafe { data.cast::<AuxData>().read_unaligned() };
    let tagged = aux.status & libc::TP_STATUS_VLAN_VALID != 0;
    let tpid_known = aux.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let vlan = if tagged {
        Vlan::Present { tci: aux.vlan_tci, tpid: tpid_known.then_some(aux.vlan_tpid) }
    } else {
        Vlan::Absent
    };
    let metadata = Metadata {
        protocol: Some(u16::from_be(address.sll_protocol)),
        packet_type: Some(address.sll_pkttype),
        ifindex: Some(address.sll_ifindex as u32),
        hardware_type: Some(address.sll_hatype),
        vlan,
        net_offset: Some(aux.net.into()),
        ..Metadata::default()
    };
    (got as usize, metadata)
}

fn random_frame(r: &mut Random) -> Vec<u8> {
    let mut frame = match r.below(4) {
        0 => vec![0; 6],
        1 => vec![0xff; 6],
        2 => vec![1, 0, 0x5e, 1, 2, 3],
        _ => vec![2, 0, 0, 0, 0, 9],
    };
    frame.extend([0; 6]);
    if r.one_in(2) {
        frame.extend(r.pick(&[[0x81, 0], [0x88, 0xa8]]));
        frame.extend((r.word() as u16).to_be_bytes());
    }
    frame.extend(r.pick(&[[0x08, 0], [0x86, 0xdd], [0x08, 0x06], [0x88, 0xb5]]));
    // The kernel drops a tagged frame with less than 2 bytes behind the tag.
    let length = 2 + r.below(120);
    frame.extend(r.bytes(length));
    frame
}

#[test]
fn kernel_keeps_the_same_of_a_frame() {
    // A thread of its own: the namespace ends with it.
    std::thread::spawn(|| {
        let ifindex = match own_namespace() {
            Ok(ifindex) => ifindex,
            Err(error) => {
                eprintln!(
                    "SKIPPED kernel_keeps_the_same_of_a_frame: no network namespace: {error}"
                );
                return;
            }
        };
        let mut r = Random::new("kernel_keeps_the_same_of_a_frame");
        let sender = packet_socket(ifindex);
        attach(&sender, &[i(0x06, 0, 0, 0)]).unwrap();
        // The kernel serves the newest socket first: what the other one has
        // received the filtered one has decided on.
        let other = packet_socket(ifindex);
        set(&other, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32).unwrap();
        let filtered = packet_socket(ifindex);
        let mut buffer = vec![0; 4096];
        let mut kept_bytes = vec![0; 4096];
        let (mut seen, mut tagged) = (Outcomes::default(), 0);
        for _ in 0..rounds(1_500) {
            let program = if r.one_in(2) {
                focused_program(&mut r, 60)
            } else {
                valid_program(&mut r, 20, 60, Dialect::Linux)
            };
            let ours = Program::new(&program).expect("generated to be valid");
            match attach(&filtered, &program) {
                Err(libc::ENOMEM) => continue,
                result => result.unwrap(),
            }
            for _ in 0..4 {
                let frame = random_frame(&mut r);
                send(&sender, &frame);
                // Once on the way out, once on the way in.
                let mut views = Vec::new();
                for _ in 0..2 {
                    assert!(readable(other.as_raw_fd(), 5_000), "lo delivers a frame twice");
                    let (length, metadata) = receive_with_metadata(&other, &mut buffer);
                    views.push((buffer[..length].to_vec(), metadata));
                }
                let verdicts: Vec<_> = views
                    .iter()
                    .map(|(data, metadata)| {
                        ours.verdict(&PacketView { metadata: *metadata, ..PacketView::new(data) })
                    })
                    .collect();
                let mut got = Vec::new();
                while let Some(length) = receive(&filtered, &mut kept_bytes) {
                    got.push(kept_bytes[..length].to_vec());
                }
                if verdicts.iter().any(Result::is_err) {
                    seen.unanswered += 1;
                    continue;
                }
                let mut expected = Vec::new();
                for ((data, metadata), verdict) in views.iter().zip(&verdicts) {
                    tagged += usize::from(matches!(metadata.vlan, Vlan::Present { .. }));
                    if let Some(kept) = seen.expect(verdict.unwrap(), data.len()) {
                        expected.push(data[..kept].to_vec());
                    }
                }
                assert_eq!(got, expected, "{verdicts:?} for {views:x?}\n{ours}");
            }
        }
        eprintln!("frames: {seen:?}, {tagged} with a VLAN tag taken out");
        assert!(seen.compared() > 3_000 && tagged > 500, "{seen:?}");
        assert!(seen.whole.min(seen.cut).min(seen.rejected) > 300, "{seen:?}");
    })
    .join()
    .unwrap();
}

// ---- libpcap ----

/// libpcap, opened at run time.
struct Pcap(*mut c_void);

impl Pcap {
    fn open(test: &str) -> Option<Self> {
        for name in [c"libpcap.so.1", c"libpcap.so.0.8"] {
            // SAFETY: a string with an end; libpcap's initialisers have no needs.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            if !handle.is_null() {
                return Some(Self(handle));
            }
        }
        eprintln!("SKIPPED {test}: neither libpcap.so.1 nor libpcap.so.0.8 is installed");
        None
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: an open library and a string with an end.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!address.is_null(), "libpcap has no {name:?}");
        address
    }
}

#[test]
fn libpcap_keeps_the_same() {
    type Filter = unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint;
    let Some(pcap) = Pcap::open("libpcap_keeps_the_same") else { return };
    // SAFETY: the signature of bpf_filter() in <pcap/bpf.h>.
    let run: Filter = unsafe { std::mem::transmute(pcap.symbol(c"bpf_filter")) };
    let mut r = Random::new("libpcap_keeps_the_same");
    let mut seen = Outcomes::default();
    for _ in 0..rounds(20_000) {
        let program = valid_program(&mut r, 24, 60, Dialect::Portable);
        let ours = Program::new(&program).expect("generated to be valid");
        for _ in 0..4 {
            let length = r.below(90);
            let data = r.bytes(length);
            let verdict = ours.verdict(&PacketView::new(&data)).expect("nothing ancillary");
            let n = data.len() as c_uint;
            // SAFETY: a valid program that ends in a ret, and data of `n` bytes.
            let theirs = unsafe { run(program.as_ptr(), data.as_ptr(), n, n) };
            assert_eq!(verdict, theirs, "{data:x?}\n{ours}");
            seen.expect(verdict, data.len());
        }
    }
    eprintln!("libpcap: {seen:?}");
    assert!(seen.whole.min(seen.cut).min(seen.rejected) > 5_000, "{seen:?}");
}

#[repr(C)]
struct BpfProgram {
    len: c_uint,
    instructions: *const Instruction,
}

/// Programs that libpcap compiles are accepted, and are listed in its words.
#[test]
fn libpcap_programs_are_taken_and_listed() {
    type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
    type Compile =
        unsafe extern "C" fn(*mut c_void, *mut BpfProgram, *const c_char, c_int, u32) -> c_int;
    type Image = unsafe extern "C" fn(*const Instruction, c_int) -> *const c_char;
    let Some(pcap) = Pcap::open("libpcap_programs_are_taken_and_listed") else { return };
    // SAFETY: the signature of pcap_open_dead() in <pcap/pcap.h>.
    let open_dead: OpenDead = unsafe { std::mem::transmute(pcap.symbol(c"pcap_open_dead")) };
    // SAFETY: the signature of pcap_compile() in <pcap/pcap.h>.
    let compile: Compile = unsafe { std::mem::transmute(pcap.symbol(c"pcap_compile")) };
    // SAFETY: the signature of bpf_image() in <pcap/bpf.h>.
    let image: Image = unsafe { std::mem::transmute(pcap.symbol(c"bpf_image")) };
    // SAFETY: two numbers; 1 is DLT_EN10MB.
    let handle = unsafe { open_dead(1, 262_144) };
    assert!(!handle.is_null());
    for expression in [
        "",
        "ip",
        "tcp port 80",
        "ip6 and udp portrange 1000-2000",
        "host 192.0.2.1 and not arp",
        "vlan 5 and tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
        "ether[ip[2:2] % 7 * 3 - 1] ^ 5 > len / 2 or udp[4:2] >> 3 << 1 = 8",
        "greater 100 and ip multicast",
        "net 10.0.0.0/8 or net 172.16.0.0/12 or ip6 net 2001:db8::/32",
        "icmp6 or sctp or (mpls and ip)",
    ] {
        let text = CString::new(expression).unwrap();
        for optimise in [0, 1] {
            let mut program = BpfProgram { len: 0, instructions: std::ptr::null() };
            // SAFETY: an open handle, a struct of bpf_program's layout, a string.
            let rc = unsafe { compile(handle, &raw mut program, text.as_ptr(), optimise, 0) };
            assert_eq!(rc, 0, "{expression}");
            // SAFETY: pcap_compile() filled in as many instructions.
            let all =
                unsafe { std::slice::from_raw_parts(program.instructions, program.len as usize) };
            let ours = Program::new(all).unwrap();
            for (n, line) in ours.to_string().lines().enumerate() {
                // SAFETY: a valid instruction and its place.
                let theirs = unsafe { image(&raw const all[n], n as c_int) };
                // SAFETY: bpf_image() returns a string in static memory, and this
                // test alone calls it.
                let theirs = unsafe { CStr::from_ptr(theirs) };
                assert_eq!(line, theirs.to_str().unwrap().trim_end(), "{expression}");
            }
            let ddd: Vec<_> = std::iter::once(all.len().to_string())
                .chain(all.iter().map(|i| format!("{} {} {} {}", i.code, i.jt, i.jf, i.k)))
                .collect();
            for separator in ["\n", ","] {
                let parsed = netring::filter::ddd::parse(ddd.join(separator)).unwrap();
                assert_eq!(parsed, ours, "{expression}");
            }
        }
    }
}
