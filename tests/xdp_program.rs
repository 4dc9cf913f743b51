//! The XDP program of an interface on veth pairs: attached, swapped, in the way of others,
//! and gone. Each test has a network namespace of its own, which ends with its thread.
#![allow(unsafe_code)] // sockets, namespaces
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netring::afxdp::config::{Mode, Step};
use netring::afxdp::program::{Program, Request, Which, try_filter};
use netring::error::{Error, Kind};
use netring::filter::translate::Selection;
use netring::filter::translate::beside::{Front, LENGTH, Told};
use netring::filter::{self, Instruction};
use netring::sys::bpf::{self, Map, MapKind};
use netring::sys::link::Links;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

// XDP_ATTACHED_*
const DRIVER: u8 = 1;
const STACK: u8 = 2;

fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction::new(code, jt, jf, k)
}

/// Frames with that EtherType.
fn of_type(kind: u32) -> filter::Program {
    let all = [i(0x28, 0, 0, 12), i(0x15, 0, 1, kind), i(0x06, 0, 0, 1), i(0x06, 0, 0, 0)];
    filter::Program::new(&all).unwrap()
}

/// A pair of interfaces, x0 and x1.
struct Pair {
    x0: u32,
    x1: u32,
}

fn ip(arguments: &str) {
    let run = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(run.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&run.stderr));
}

fn index(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a live string.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// `None`: no privilege, and the test is skipped. The namespace is this thread's.
fn pair(test: &str, options: &str) -> Option<Pair> {
    // Before Linux 5.11 programs and maps count, for a while after their end, too.
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a live structure; refused where it is not for us to say.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
    if let Err(errno) = Map::create(MapKind::Xsk, 1, "test") {
        eprintln!("SKIPPED {test}: an XSKMAP: {errno}");
        return None;
    }
    // SAFETY: a number; nothing else of the process changes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("SKIPPED {test}: unshare: {}", std::io::Error::last_os_error());
        return None;
    }
    // Nobody else is to send; where there is no IPv6, nobody does.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip(&format!("link add x0 {options} type veth peer name x1 {options}"));
    ip("link set x0 up");
    ip("link set x1 up");
    Some(Pair { x0: index("x0"), x1: index("x1") })
}

fn request(ifindex: u32, mode: Mode, selection: Selection<'_>) -> Request<'_> {
    Request {
        interface: "x0",
        ifindex,
        hardware_type: 1,
        queues: 1,
        selection,
        frags: false,
        mode,
        program: None,
        map: None,
        attach: true,
        rx_metadata: false,
    }
}

fn open(ifindex: u32, mode: Mode, selection: Selection<'_>) -> (Program, Vec<Step>) {
    Program::open(request(ifindex, mode, selection)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(request: Request<'_>) -> Error {
    Program::open(request).expect_err("an error")
}

/// Before Linux 5.18 there are no packets in several buffers, and that is said.
fn is_too_old(error: &Error) -> bool {
    let old = error.message.contains("Linux 5.18");
    if old {
        assert_eq!((error.kind, error.os), (Kind::XdpProgram, Some(libc::EINVAL)), "{error}");
        eprintln!("no packets in several buffers: {error}");
    }
    old
}

/// What is attached: mode and number.
fn attached(ifindex: u32) -> (u8, u32) {
    let xdp = Links::open().unwrap().one(ifindex).unwrap().xdp.unwrap_or_default();
    (xdp.mode, xdp.id)
}

/// A program of somebody else: it lets everything pass, or as said.
fn other_program(verdict: i32) -> OwnedFd {
    let instructions =
        &[bpf::Instruction::new(0xb7, 0, 0, 0, verdict), bpf::Instruction::new(0x95, 0, 0, 0, 0)];
    bpf::Program { instructions, licence: c"MIT", flags: 0, name: "other", ifindex: 0 }
        .load()
        .unwrap()
}

/// An AF_XDP socket on queue 0 without frames to fill: what comes is dropped and counted.
struct Sink(OwnedFd);

impl Sink {
    fn new(ifindex: u32) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: three numbers.
        let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just made.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let length = 16 * 4_096;
        let memory = map(None, length, 0);
        register(&fd, memory, length, 16);
        // SAFETY: the kernel holds the pages; nobody here has the address any more.
        unsafe { libc::munmap(memory.cast(), length) };
        bind(&fd, ifindex);
        Self(fd)
    }

    /// How many packets were redirected here.
    fn count(&self) -> u64 {
        let mut statistics = [0_u64; 6];
        let mut length = 48_u32;
        // SAFETY: as long as said.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        // rx_dropped, rx_invalid_descs; rx_fill_ring_empty_descs
        assert_eq!((statistics[0], statistics[1]), (statistics[4], 0), "{statistics:?}");
        statistics[4]
    }
}

/// An AF_XDP socket on queue 0 that receives, as little as it takes.
struct Receiver {
    socket: OwnedFd,
    /// UMEM, fill ring and receive ring, each with where its producer, consumer and
    /// entries are.
    memory: *mut u8,
    fill: [*mut u8; 3],
    receive: [*mut u8; 3],
    /// To be unmapped: a queue is in use as long as its rings are.
    mappings: Vec<(*mut u8, usize)>,
}

impl Receiver {
    const FRAME: usize = 4_096;
    const FRAMES: u32 = 64;

    fn new(ifindex: u32) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: three numbers.
        let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just made.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let length = Self::FRAMES as usize * Self::FRAME;
        let memory = map(None, length, 0);
        register(&socket, memory, length, Self::FRAMES);
        // struct xdp_mmap_offsets: of rx, tx, fill and completion ring: producer,
        // consumer, entries, flags
        let mut offsets = [0_u64; 16];
        let mut size = 128_u32;
        // SAFETY: as long as said.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_XDP,
                libc::XDP_MMAP_OFFSETS,
                (&raw mut offsets).cast(),
                &raw mut size,
            )
        };
        assert_eq!((result, size), (0, 128));
        let mut mappings = vec![(memory, length)];
        let mut ring = |first: usize, entry: usize, page: i64| {
            let [producer, consumer, entries] = [0, 1, 2].map(|at| offsets[first + at] as usize);
            let length = entries + Self::FRAMES as usize * entry;
            let all = map(Some(&socket), length, page);
            mappings.push((all, length));
            [producer, consumer, entries].map(|at| all.wrapping_add(at))
        };
        let receive = ring(0, 16, libc::XDP_PGOFF_RX_RING);
        let fill = ring(8, 8, libc::XDP_UMEM_PGOFF_FILL_RING as i64);
        bind(&socket, ifindex);
        let this = Self { socket, memory, fill, receive, mappings };
        for number in 0..Self::FRAMES {
            this.give(number, u64::from(number) * Self::FRAME as u64);
        }
        this
    }

    /// The frame at that address is the kernel's to fill.
    fn give(&self, number: u32, address: u64) {
        let at = (number % Self::FRAMES) as usize * 8;
        let entry = self.fill[2].wrapping_add(at).cast::<u64>();
        // SAFETY: an entry of the ring.
        unsafe { entry.write_volatile(address) };
        // SAFETY: the ring's word, aligned.
        let producer = unsafe { AtomicU32::from_ptr(self.fill[0].cast()) };
        producer.store(number.wrapping_add(1), Ordering::Release);
    }

    /// The next packet that is for us: what is in front of it, and its bytes. Afterwards
    /// nothing is in front of it any more.
    fn next(&self) -> (Front, Vec<u8>) {
        loop {
            // A bridge says where it is.
            let packet = self.any();
            if packet.1.starts_with(&FRAME_TO) {
                return packet;
            }
        }
    }

    fn any(&self) -> (Front, Vec<u8>) {
        // SAFETY: the ring's words, aligned.
        let [producer, consumer] =
            [0, 1].map(|at| unsafe { AtomicU32::from_ptr(self.receive[at].cast()) });
        let taken = consumer.load(Ordering::Relaxed);
        wait_until("a packet", || producer.load(Ordering::Acquire) != taken);
        let at = (taken % Self::FRAMES) as usize * 16;
        let entry = self.receive[2].wrapping_add(at);
        // SAFETY: a descriptor of the ring: address, length, options.
        let [address, rest] = unsafe { entry.cast::<[u64; 2]>().read_volatile() };
        let length = (if cfg!(target_endian = "big") { rest >> 32 } else { rest }) as u32;
        let data = self.memory.wrapping_add(address as usize);
        // SAFETY: the kernel has written the packet there, and leaves 256 bytes before it.
        let bytes = unsafe { std::slice::from_raw_parts(data, length as usize) }.to_vec();
        let place = data.wrapping_sub(LENGTH).cast::<Front>();
        // SAFETY: as above, aligned to 8.
        let front = unsafe { place.read_unaligned() };
        // SAFETY: as above.
        unsafe { place.write_bytes(0, 1) };
        consumer.store(taken.wrapping_add(1), Ordering::Release);
        self.give(taken.wrapping_add(Self::FRAMES), address & !(Self::FRAME as u64 - 1));
        (front, bytes)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for (memory, length) in &self.mappings {
            // SAFETY: mapped by `map`, and used by nobody any more.
            unsafe { libc::munmap(memory.cast(), *length) };
        }
    }
}

/// Memory, of a socket or none.
fn map(socket: Option<&OwnedFd>, length: usize, page: i64) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (fd, flags) = match socket {
        Some(socket) => (socket.as_raw_fd(), libc::MAP_SHARED | libc::MAP_POPULATE),
        None => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
    };
    // SAFETY: new memory, that stays.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, page) };
    assert_ne!(memory, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    memory.cast()
}

/// UMEM and rings.
fn register(socket: &OwnedFd, memory: *mut u8, length: usize, entries: u32) {
    let set = |option: i32, value: *const libc::c_void, length: u32| {
        // SAFETY: the value is as long as said.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, length) };
        assert_eq!(result, 0, "{option}: {}", std::io::Error::last_os_error());
    };
    // struct xdp_umem_reg: addr, len, chunk_size and headroom, flags and tx_metadata_len
    let chunk = if cfg!(target_endian = "big") { 4_096 << 32 } else { 4_096 };
    let registration = [memory.addr() as u64, length as u64, chunk, 0];
    set(libc::XDP_UMEM_REG, (&raw const registration).cast(), 32);
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
        set(ring, (&raw const entries).cast(), 4);
    }
}

/// To queue 0, copying.
fn bind(socket: &OwnedFd, ifindex: u32) {
    // struct sockaddr_xdp: family and flags, ifindex, queue, umem fd
    let family = (libc::AF_XDP as u16).to_ne_bytes();
    let copy = libc::XDP_COPY.to_ne_bytes();
    let first = u32::from_ne_bytes([family[0], family[1], copy[0], copy[1]]);
    let address = [first, ifindex, 0, 0];
    // A socket before this one may take a while to let go of the queue.
    wait_until("bind", || {
        // SAFETY: as long as said.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), 16) };
        let error = std::io::Error::last_os_error();
        assert!(result == 0 || error.raw_os_error() == Some(libc::EBUSY), "bind: {error}");
        result == 0
    });
}

/// A packet socket: it sends, and counts what reaches the host's stack.
struct Packets(OwnedFd);

impl Packets {
    fn new(ifindex: u32) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just made.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: numbers only.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = ifindex as i32;
        let length = size_of_val(&address) as u32;
        // SAFETY: as long as said.
        let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        Self(fd)
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: as long as said.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
    }

    /// How many of our own frames have come.
    fn count(&self) -> u64 {
        let mut buffer = [0_u8; 2_048];
        let mut count = 0;
        loop {
            let (fd, length) = (self.0.as_raw_fd(), buffer.len());
            // SAFETY: as long as said.
            let got =
                unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), length, libc::MSG_DONTWAIT) };
            if got < 0 {
                return count;
            }
            count += u64::from(buffer[..6] == FRAME_TO);
        }
    }
}

const FRAME_TO: [u8; 6] = [2, 0, 0, 0, 0x77, 1];

/// A frame with that EtherType.
fn frame(kind: u16) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&FRAME_TO);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0x77, 2]);
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

/// A child that has every descriptor of this process.
struct Sleeper(i32);

impl Sleeper {
    fn new() -> Self {
        // SAFETY: the child calls nothing but what may be called after a fork.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: no memory.
                unsafe { libc::pause() };
            },
            pid => {
                assert!(pid > 0, "{}", std::io::Error::last_os_error());
                Self(pid)
            }
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: as above.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn attached_in_the_driver_and_in_the_stack() {
    let Some(pair) = pair("attached_in_the_driver_and_in_the_stack", "") else { return };
    for (mode, where_to) in
        [(Mode::Auto, DRIVER), (Mode::ZeroCopy, DRIVER), (Mode::Copy, DRIVER), (Mode::Skb, STACK)]
    {
        let (program, steps) = open(pair.x0, mode, Selection::Everything);
        assert_eq!(steps, []);
        let (id, map) = program.ids();
        assert!(id != 0 && map != 0);
        assert_eq!(attached(pair.x0), (where_to, id), "{mode:?}");
        assert_eq!(program.is_native(), where_to == DRIVER);
        for which in [Which::Link, Which::Map, Which::Program] {
            assert!(program.fd(which).is_some(), "{which:?}");
        }
        drop(program);
        wait_until("the program is gone", || attached(pair.x0) == (0, 0));
        // A child of this process that has not come to exec yet has the link, too.
        let (program, _) = open(pair.x0, mode, Selection::Everything);
        let sleeper = Sleeper::new();
        drop(program);
        assert_eq!(attached(pair.x0), (0, 0), "{mode:?}");
        drop(sleeper);
    }
    // Nothing at all.
    let nothing = Request { attach: false, ..request(pair.x0, Mode::Auto, Selection::Nothing) };
    let (program, steps) = Program::open(nothing).unwrap();
    assert_eq!((attached(pair.x0).0, program.ids(), steps.len()), (0, (0, 0), 0));
    assert_eq!(program.fd(Which::Map), None);
    assert_eq!(program.detach().unwrap_err().kind, Kind::Config);
    // No such interface.
    for mode in [Mode::Auto, Mode::Skb] {
        let gone = refused(request(4_711, mode, Selection::Nothing));
        assert_eq!((gone.kind, gone.os), (Kind::InterfaceNotFound, Some(libc::ENODEV)), "{gone}");
    }
}

#[test]
fn a_program_in_the_way_stays() {
    let Some(pair) = pair("a_program_in_the_way_stays", "") else { return };
    let foreign = other_program(2);
    let id = bpf::program_info(foreign.as_fd()).unwrap().id;
    for (flags, mode, off) in [
        (bpf::XDP_FLAGS_DRV_MODE, DRIVER, "in the driver"),
        (bpf::XDP_FLAGS_SKB_MODE, STACK, "in the kernel's stack"),
    ] {
        let link = bpf::link_create(foreign.as_fd(), pair.x0, flags).unwrap();
        for asked in [Mode::Auto, Mode::Copy, Mode::Skb] {
            let error = refused(request(pair.x0, asked, Selection::Everything));
            assert_eq!((error.kind, &*error.option), (Kind::Busy, "program"), "{error}");
            assert!(matches!(error.os, Some(libc::EBUSY | libc::EEXIST)), "{error:?}");
            assert!(error.message.contains(&format!("XDP program {id} ({off}) is on x0")));
            assert!(error.message.contains("map_fd") && error.message.len() < 512, "{error}");
            assert_eq!(attached(pair.x0), (mode, id), "{asked:?}");
        }
        bpf::link_detach(link.as_fd()).unwrap();
    }
    // One of ours is in the way, too; the other end is free.
    let (first, _) = open(pair.x0, Mode::Auto, Selection::Everything);
    let error = refused(request(pair.x0, Mode::Auto, Selection::Everything));
    assert!(error.message.contains(&format!("XDP program {} ", first.ids().0)), "{error}");
    let (_other_end, _) = open(pair.x1, Mode::Auto, Selection::Everything);
    assert_eq!(attached(pair.x0).1, first.ids().0);
}

/// Sends `count` frames of two kinds in turn and says how many of each came to the socket
/// and how many to the host's stack.
fn came(sink: &Sink, host: &Packets, sender: &Packets, count: u64) -> (u64, u64) {
    let before = sink.count();
    host.count();
    for number in 0..count {
        sender.send(&frame(if number % 2 == 0 { 0x88b5 } else { 0x88b6 }));
    }
    let (mut redirected, mut passed) = (0, 0);
    wait_until("all frames", || {
        redirected = sink.count() - before;
        passed += host.count();
        redirected + passed >= count
    });
    (redirected, passed)
}

#[test]
fn swapped_while_packets_come() {
    let Some(pair) = pair("swapped_while_packets_come", "") else { return };
    let one = of_type(0x88b5);
    for mode in [Mode::Copy, Mode::Skb] {
        let (program, _) = open(pair.x0, mode, Selection::Nothing);
        let (sink, host, sender) =
            (Sink::new(pair.x0), Packets::new(pair.x0), Packets::new(pair.x1));
        program.add(0, sink.0.as_fd()).unwrap();
        assert_eq!(came(&sink, &host, &sender, 40), (0, 40), "{mode:?}");
        let number = program.fd(Which::Program);
        let first = program.ids().0;
        program.swap(Selection::Accepted(&one)).unwrap();
        assert_eq!(came(&sink, &host, &sender, 40), (20, 20), "{mode:?}");
        program.swap(Selection::Everything).unwrap();
        assert_eq!(came(&sink, &host, &sender, 40), (40, 0), "{mode:?}");
        // The number stays, and is the new program's.
        let (id, _) = program.ids();
        assert_eq!((program.fd(Which::Program), attached(pair.x0).1), (number, id));
        assert_ne!(id, first);
        // SAFETY: the descriptor is the program's, which lives.
        let now = unsafe { BorrowedFd::borrow_raw(number.unwrap()) };
        assert_eq!(bpf::program_info(now).unwrap().id, id);
        // Each packet goes one way or the other, at any time.
        let before = sink.count();
        host.count();
        let mut passed = 0;
        std::thread::scope(|scope| {
            let swaps = scope.spawn(|| {
                for turn in 0..50 {
                    let selection =
                        if turn % 2 == 0 { Selection::Nothing } else { Selection::Everything };
                    program.swap(selection).unwrap();
                }
            });
            let mut sent = 0;
            while !swaps.is_finished() {
                sender.send(&frame(0x88b5));
                sent += 1;
                passed += host.count();
            }
            wait_until("all frames", || {
                passed += host.count();
                sink.count() - before + passed == sent
            });
            eprintln!("{mode:?}: {sent} frames, {passed} to the stack");
        });
        // Somebody else has changed the link.
        let link = program.fd(Which::Link).unwrap();
        // SAFETY: the descriptor is the program's, which lives.
        let link = unsafe { BorrowedFd::borrow_raw(link) };
        let foreign = other_program(2);
        bpf::link_update(link, foreign.as_fd(), None).unwrap();
        let error = program.swap(Selection::Everything).unwrap_err();
        assert_eq!((error.kind, error.os), (Kind::Busy, Some(libc::EPERM)), "{error}");
        assert_eq!(attached(pair.x0).1, bpf::program_info(foreign.as_fd()).unwrap().id);
        // The link was asked for: it may stay as long as the children of other tests.
        program.detach().unwrap();
    }
}

#[test]
fn entries_of_the_map() {
    let Some(pair) = pair("entries_of_the_map", "") else { return };
    let (program, _) = open(pair.x0, Mode::Auto, Selection::Everything);
    let (sink, other) = (Sink::new(pair.x0), Sink::new(pair.x1));
    program.add(0, sink.0.as_fd()).unwrap();
    let error = program.add(0, other.0.as_fd()).unwrap_err();
    assert_eq!((error.kind, &*error.option), (Kind::Busy, "queue"), "{error}");
    let error = program.add(1, other.0.as_fd()).unwrap_err();
    assert_eq!((error.kind, &*error.option), (Kind::Config, "map_fd"), "{error}");
    assert!(error.message.contains("1 entries"), "{error}");
    // Only what was added is removed.
    program.remove(1);
    assert_eq!(program.add(0, other.0.as_fd()).unwrap_err().kind, Kind::Busy);
    program.remove(0);
    program.remove(0);
    program.add(0, other.0.as_fd()).unwrap();
}

#[test]
fn detached() {
    let Some(pair) = pair("detached", "") else { return };
    let (program, _) = open(pair.x0, Mode::Auto, Selection::Everything);
    // Whoever has the link keeps it attached, but not against detach.
    // SAFETY: the descriptor is the program's, which lives.
    let link = unsafe { BorrowedFd::borrow_raw(program.fd(Which::Link).unwrap()) };
    let link = link.try_clone_to_owned().unwrap();
    program.detach().unwrap();
    assert_eq!(attached(pair.x0), (0, 0));
    program.detach().unwrap();
    assert_eq!(program.swap(Selection::Nothing).unwrap_err().kind, Kind::Config);
    drop((link, program));

    let (program, _) = open(pair.x0, Mode::Auto, Selection::Everything);
    // SAFETY: the descriptor is the program's, which lives.
    let link = unsafe { BorrowedFd::borrow_raw(program.fd(Which::Link).unwrap()) };
    let link = link.try_clone_to_owned().unwrap();
    let id = program.ids().0;
    drop(program);
    assert_eq!(attached(pair.x0), (DRIVER, id));
    drop(link);
    wait_until("the program is gone", || attached(pair.x0) == (0, 0));

    // The interface goes first.
    let (program, _) = open(pair.x0, Mode::Auto, Selection::Everything);
    ip("link delete x1");
    let error = program.swap(Selection::Nothing).unwrap_err();
    assert_eq!(error.kind, Kind::InterfaceNotFound, "{error}");
    program.detach().unwrap();
    program.close();
}

/// A process of its own that attaches, and waits for its end.
#[test]
fn child() {
    let Ok(ifindex) = std::env::var("NETRING_TEST_ATTACH") else { return };
    let (program, _) = open(ifindex.parse().unwrap(), Mode::Auto, Selection::Everything);
    println!("attached {}", program.ids().0);
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_nothing() {
    let Some(pair) = pair("a_killed_process_leaves_nothing", "") else { return };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("NETRING_TEST_ATTACH", pair.x0.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains("attached ")).unwrap();
    let id = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(attached(pair.x0), (DRIVER, id));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the program is gone", || attached(pair.x0) == (0, 0));
    open(pair.x0, Mode::Auto, Selection::Everything);
}

#[test]
fn too_large_for_one_buffer() {
    let Some(pair) = pair("too_large_for_one_buffer", "mtu 9000") else { return };
    let (program, steps) = open(pair.x0, Mode::Auto, Selection::Everything);
    assert!(!program.is_native());
    assert_eq!(attached(pair.x0).0, STACK);
    let [step] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((step.mode, step.os, step.option), (Mode::Copy, Some(libc::ERANGE), "attach"));
    for words in ["MTU 9000 of its peer", "MULTI_BUFFER", "x0", "veth"] {
        assert!(step.message.contains(words), "{}", step.message);
    }
    assert!(step.message.len() < 224, "{}", step.message.len());
    drop(program);
    let error = refused(request(pair.x0, Mode::Copy, Selection::Everything));
    assert_eq!((error.kind, error.os), (Kind::XdpProgram, Some(libc::ERANGE)), "{error}");
    assert_eq!(error.message, step.message);
    assert_eq!(attached(pair.x0), (0, 0));
    let frags = Request { frags: true, ..request(pair.x0, Mode::Copy, Selection::Everything) };
    match Program::open(frags) {
        Ok((program, _)) => assert!(program.is_native()),
        Err(error) => assert!(is_too_old(&error), "{error}"),
    }
}

#[test]
fn no_native_mode() {
    let Some(pair) = pair("no_native_mode", "numtxqueues 2 numrxqueues 1") else { return };
    // Fewer receive queues than the other end has for sending.
    let (program, steps) = open(pair.x0, Mode::Auto, Selection::Everything);
    assert!(!program.is_native());
    assert_eq!(steps[0].os, Some(libc::ENOSPC), "{steps:?}");
    assert!(steps[0].message.contains("ethtool -L x0 rx"), "{steps:?}");
    drop(program);
    // No driver's hook at all.
    let (lo, steps) = open(1, Mode::Auto, Selection::Everything);
    assert!(!lo.is_native());
    assert_eq!((steps[0].os, steps.len()), (Some(libc::EOPNOTSUPP), 1), "{steps:?}");
    assert!(steps[0].message.contains("it has none"), "{steps:?}");
    drop(lo);
    let error = refused(request(1, Mode::ZeroCopy, Selection::Everything));
    assert_eq!((error.kind, error.os), (Kind::NotSupported, Some(libc::EOPNOTSUPP)), "{error}");
}

#[test]
fn filters() {
    let Some(pair) = pair("filters", "") else { return };
    // A veth takes no tags out, whatever it says of itself.
    let vlan = of_type(0x8100);
    open(pair.x0, Mode::Auto, Selection::Accepted(&vlan));
    // What an XDP program does not have.
    let mark = [i(0x20, 0, 0, 0xffff_f014), i(0x16, 0, 0, 0)];
    let mark = filter::Program::new(&mark).unwrap();
    let error = refused(request(pair.x0, Mode::Auto, Selection::Accepted(&mark)));
    assert_eq!((error.kind, &*error.option), (Kind::Filter, "filter"), "{error}");
    assert!(error.message.starts_with("filter refused: "), "{error}");
    assert!(error.message.contains("SKF_AD_MARK"), "{error}");
    assert_eq!(attached(pair.x0), (0, 0));
    let (error, log) = try_filter(&mark, false).unwrap_err();
    assert_eq!((error.kind, log.as_str()), (Kind::Filter, ""));
    // What the verifier says.
    for frags in [false, true] {
        let (length, log) = match try_filter(&vlan, frags) {
            Err((error, _)) if frags && is_too_old(&error) => return,
            taken => taken.unwrap(),
        };
        assert!(length > 8 && log.contains("processed "), "{length} {log}");
    }
}

#[test]
fn the_callers_own() {
    let Some(pair) = pair("the_callers_own", "") else { return };
    let map = || Map::create(MapKind::Xsk, 4, "own").unwrap();
    let fd_of = |map: &Map| map.fd().try_clone_to_owned().unwrap();
    let wrong = |program, map, option: &str| {
        let asked = Request { program, map, ..request(pair.x0, Mode::Auto, Selection::Everything) };
        let error = refused(asked);
        assert_eq!((error.kind, &*error.option), (Kind::Config, option), "{error}");
        assert_eq!(attached(pair.x0), (0, 0));
    };
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let array = Map::create(MapKind::Array, 4, "own").unwrap();
    wrong(None, Some(fd_of(&array)), "map_fd");
    wrong(None, Some(null()), "map_fd");
    wrong(Some(null()), None, "program_fd");
    wrong(Some(fd_of(&array)), Some(fd_of(&map())), "program_fd");

    // A program and its map.
    let map = map();
    let program = other_program(2);
    let id = bpf::program_info(program.as_fd()).unwrap().id;
    let own = Request {
        program: Some(program),
        map: Some(fd_of(&map)),
        ..request(pair.x0, Mode::Auto, Selection::Nothing)
    };
    let (own, steps) = Program::open(own).unwrap();
    assert_eq!((attached(pair.x0), steps.len()), ((DRIVER, id), 0));
    assert_eq!(own.ids(), (id, map.info().unwrap().0));
    let sink = Sink::new(pair.x0);
    own.add(0, sink.0.as_fd()).unwrap();
    assert!(map.update(0, sink.0.as_raw_fd() as u32, bpf::BPF_NOEXIST).is_ok(), "the same one");
    let error = own.swap(Selection::Everything).unwrap_err();
    assert_eq!((error.kind, &*error.option), (Kind::NotSupported, "program"), "{error}");
    drop(own);
    assert_eq!(attached(pair.x0), (0, 0));
    // The entry went, too: there is room for another one.
    let free = Sink::new(pair.x1);
    let other = free.0.as_raw_fd() as u32;
    map.update(0, other, bpf::BPF_NOEXIST).unwrap();

    // A map whose program somebody else has attached.
    let foreign = other_program(2);
    let id = bpf::program_info(foreign.as_fd()).unwrap().id;
    for (flags, native) in [(bpf::XDP_FLAGS_DRV_MODE, true), (bpf::XDP_FLAGS_SKB_MODE, false)] {
        let link = bpf::link_create(foreign.as_fd(), pair.x0, flags).unwrap();
        let asked = Request {
            map: Some(fd_of(&map)),
            ..request(pair.x0, Mode::Auto, Selection::Everything)
        };
        let (own, _) = Program::open(asked).unwrap();
        assert_eq!((own.is_native(), own.ids().0), (native, id));
        assert_eq!((own.fd(Which::Link), own.fd(Which::Program)), (None, None));
        own.add(3, sink.0.as_fd()).unwrap();
        assert_eq!(own.detach().unwrap_err().kind, Kind::Config);
        drop(own);
        assert_eq!(attached(pair.x0).1, id);
        map.update(3, other, bpf::BPF_NOEXIST).unwrap();
        map.delete(3).unwrap();
        bpf::link_detach(link.as_fd()).unwrap();
    }
}

#[test]
fn without_capabilities() {
    if pair("without_capabilities", "").is_none() {
        return;
    }
    let x0 = index("x0");
    let job = move || {
        // _LINUX_CAPABILITY_VERSION_3; effective, permitted, inheritable, low words first
        let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
        // SAFETY: the header, and two times three words.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        let error = refused(request(x0, Mode::Auto, Selection::Everything));
        assert_eq!((error.kind, error.os), (Kind::PermissionDenied, Some(libc::EPERM)), "{error}");
        assert!(error.message.contains("CAP_BPF and CAP_NET_ADMIN"), "{error}");
        let (error, log) = try_filter(&of_type(0x800), false).unwrap_err();
        assert_eq!((error.kind, log.as_str()), (Kind::PermissionDenied, ""), "{error}");
        // What was made by somebody else can be used.
        let nothing = Request { attach: false, ..request(x0, Mode::Auto, Selection::Nothing) };
        Program::open(nothing).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(job).join()).unwrap();
}

/// A UDP packet of a flow, tagged or not.
fn udp(port: u16, tag: Option<u16>) -> Vec<u8> {
    let mut frame = frame(0x800);
    frame.truncate(14);
    // 20 bytes of IP, 10.0.0.1 to 10.0.0.2, 8 of UDP, 18 of payload.
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0x66, 0xbd, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.resize(60, 0);
    if let Some(tci) = tag {
        let [high, low] = tci.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
    frame
}

/// What a driver knows besides the bytes comes in front of them. A bridge takes tags out
/// of the frames that go through it, and a veth tells of them.
#[test]
fn metadata() {
    let Some(pair) = pair("metadata", "") else { return };
    ip("link add y0 type veth peer name y1");
    ip("link add bridge type bridge");
    for name in ["x1", "y1"] {
        ip(&format!("link set {name} master bridge"));
    }
    for name in ["y0", "y1", "bridge"] {
        ip(&format!("link set {name} up"));
    }
    // Another driver's interface where the one was, and none.
    let asked = |ifindex| Request {
        rx_metadata: true,
        ..request(ifindex, Mode::Copy, Selection::Everything)
    };
    ip("link add z0 index 77 type veth peer name z1");
    let (program, _) = Program::open(asked(77)).unwrap();
    if program.beside().is_some() {
        program.swap(Selection::Nothing).unwrap();
        ip("link delete z0");
        let gone = program.swap(Selection::Nothing).unwrap_err();
        assert_eq!(gone.kind, Kind::InterfaceNotFound, "{gone}");
        ip("link add z0 index 77 type bridge");
        let gone = program.swap(Selection::Nothing).unwrap_err();
        assert_eq!(gone.kind, Kind::InterfaceNotFound, "{gone}");
    }
    drop(program);
    let sender = Packets::new(index("y0"));
    let ipv4 = of_type(0x800);
    for frags in [false, true] {
        let asked = Request {
            rx_metadata: true,
            frags,
            ..request(pair.x0, Mode::Auto, Selection::Everything)
        };
        let (program, steps) = match Program::open(asked) {
            Err(error) if frags && is_too_old(&error) => return,
            opened => opened.unwrap(),
        };
        let Some(beside) = program.beside() else {
            eprintln!("SKIPPED metadata, frags {frags}: {steps:?}");
            assert!(program.is_native() && steps[0].option == "rx_metadata", "{steps:?}");
            continue;
        };
        assert_eq!(steps, []);
        assert!(beside.time != 0 && beside.hash != 0, "{beside:?}");
        let socket = Receiver::new(pair.x0);
        program.add(0, socket.socket.as_fd()).unwrap();
        for selection in [Selection::Everything, Selection::Accepted(&ipv4)] {
            program.swap(selection).unwrap();
            let mut hashes = Vec::new();
            for turn in 0..200 {
                let port = 1_000 + turn % 8;
                // The tag is part of the flow.
                let tag = (port % 3 == 0).then_some(0x6000 | port);
                sender.send(&udp(port, tag));
                let (front, bytes) = socket.next();
                let told = front.told().expect("something is in front");
                assert_eq!(bytes, udp(port, None));
                let hash = told.hash.expect("a hash");
                // A veth has no clock.
                let tag = tag.filter(|_| beside.tag != 0).map(|tci| (0x8100, tci));
                assert_eq!(told, Told { time: None, hash: Some(hash), tag });
                // One for each flow.
                if hashes.len() < 8 {
                    hashes.push(hash);
                }
                assert_eq!(hash, hashes[usize::from(turn % 8)], "{port}");
            }
            hashes.sort_unstable();
            hashes.dedup();
            assert!(hashes.len() > 4, "{hashes:x?}");
        }
        // Elsewhere its number is another interface's, or nobody's.
        std::thread::scope(|scope| {
            let elsewhere = || {
                // SAFETY: a number; this thread alone is changed.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
                let error = program.swap(Selection::Everything).unwrap_err();
                assert_eq!((error.kind, &*error.option), (Kind::Config, "interface"), "{error}");
                ip(&format!("link add z0 index {} type veth peer name z1 index 99", pair.x0));
                let error = program.swap(Selection::Everything).unwrap_err();
                assert_eq!((error.kind, &*error.option), (Kind::Config, "interface"), "{error}");
            };
            scope.spawn(elsewhere).join().unwrap();
        });
        drop(program);
        // Without it nothing is there.
        let (program, _) = open(pair.x0, Mode::Auto, Selection::Everything);
        assert_eq!(program.beside(), None);
        program.add(0, socket.socket.as_fd()).unwrap();
        sender.send(&udp(1, None));
        assert_eq!(socket.next().0.told(), None);
    }
}

#[test]
fn no_metadata() {
    let Some(pair) = pair("no_metadata", "mtu 9000") else { return };
    // In the stack; in a driver that tells nothing; and not in the driver, as it is.
    let with = |ifindex, mode| {
        let asked = Request { rx_metadata: true, ..request(ifindex, mode, Selection::Everything) };
        Program::open(asked).unwrap()
    };
    let (program, steps) = with(pair.x0, Mode::Skb);
    assert_eq!((program.beside(), steps.len()), (None, 1), "{steps:?}");
    assert!(steps[0].option == "rx_metadata" && steps[0].message.contains("stack"), "{steps:?}");
    drop(program);
    let (program, steps) = with(1, Mode::Auto);
    assert_eq!((program.beside(), steps.len()), (None, 2), "{steps:?}");
    assert!(steps[0].message.contains("tells none"), "{steps:?}");
    drop(program);
    let (program, steps) = with(pair.x0, Mode::Auto);
    assert_eq!((program.beside(), steps.len()), (None, 2), "{steps:?}");
    assert_eq!([steps[0].option, steps[1].option], ["rx_metadata", "attach"], "{steps:?}");
    let told = steps[0].message.contains("tells none");
    assert_eq!(steps[0].os, (!told).then_some(libc::ERANGE), "{steps:?}");
    assert!(!program.is_native() && steps[1].os == Some(libc::ERANGE), "{steps:?}");
}

/// bpf(2), for what the library has no use for.
fn bpf(command: i32, words: [u32; 6]) -> Result<([u32; 6], i64), i32> {
    let mut attributes = words;
    // SAFETY: the attributes are as long as said, and name no memory but what the caller
    // keeps.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 24) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    Ok((attributes, result))
}

const MAP_GET_FD_BY_ID: i32 = 14;
const PROG_GET_FD_BY_ID: i32 = 13;

/// A descriptor of what has that number.
fn by_id(command: i32, id: u32) -> OwnedFd {
    let (_, fd) = bpf(command, [id, 0, 0, 0, 0, 0]).unwrap();
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// BPF_OBJ_GET_INFO_BY_FD: the beginning of what the kernel says; `info` is what it is
/// asked.
fn info_of(object: &OwnedFd, info: &mut [u32]) {
    const OBJ_GET_INFO_BY_FD: i32 = 15;
    let address = (info.as_mut_ptr().addr() as u64).to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes(*address[at..].first_chunk().unwrap());
    let (fd, length) = (object.as_raw_fd() as u32, size_of_val(info) as u32);
    bpf(OBJ_GET_INFO_BY_FD, [fd, length, half(0), half(4), 0, 0]).unwrap();
}

/// The XSKMAP that the program with that number uses.
fn map_of(program: u32) -> OwnedFd {
    // struct bpf_prog_info: ..., nr_map_ids at 52, map_ids at 56
    let (mut ids, mut info) = ([0_u32; 16], [0_u32; 64]);
    let address = (ids.as_mut_ptr().addr() as u64).to_ne_bytes();
    for (word, half) in info[14..16].iter_mut().zip(address.chunks(4)) {
        *word = u32::from_ne_bytes(*half.first_chunk().unwrap());
    }
    info[13] = ids.len() as u32;
    info_of(&by_id(PROG_GET_FD_BY_ID, program), &mut info);
    let used = &ids[..info[13] as usize];
    let maps = used.iter().map(|id| by_id(MAP_GET_FD_BY_ID, *id));
    let xskmaps = maps.filter(|map| {
        let mut info = [0_u32; 20];
        info_of(map, &mut info);
        info[0] == MapKind::Xsk as u32
    });
    let [map] = xskmaps.collect::<Vec<_>>().try_into().expect("one XSKMAP");
    map
}

/// The number of the program of that name, in the words of `xdp-loader status`: also of
/// one that the dispatcher calls, which no interface knows of.
fn number_in(status: &str, name: &str) -> u32 {
    let line = status.lines().find(|line| line.split_whitespace().any(|word| word == name));
    let words = line.unwrap_or_else(|| panic!("{name}: {status}")).split_whitespace();
    // ... NAME [MODE] ID TAG [ACTIONS]
    let behind = words.skip_while(|word| *word != name);
    behind.filter_map(|word| word.parse().ok()).next().expect("a number")
}

/// libxdp has its program for AF_XDP on the interface, and its dispatcher where the kernel
/// lets it: sockets of ours go into its map.
#[test]
fn beside_libxdp() {
    let test = "beside_libxdp";
    let paths =
        ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let program = paths.map(|path| format!("{path}/bpf/xsk_def_xdp_prog.o"));
    let program = program.iter().find(|path| std::path::Path::new(path).exists());
    let loader = Command::new("xdp-loader").arg("--version").output();
    let (Some(program), Ok(_)) = (program, loader) else {
        eprintln!("SKIPPED {test}: xdp-tools and libxdp are not installed");
        return;
    };
    let Some(pair) = pair(test, "") else { return };
    // The dispatcher is pinned; what is mounted is this thread's.
    // SAFETY: a number; this thread alone is changed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    for arguments in ["--make-rprivate /", "-t bpf bpf /sys/fs/bpf"] {
        let run = Command::new("mount").args(arguments.split(' ')).output().unwrap();
        if !run.status.success() {
            eprintln!("SKIPPED {test}: mount: {}", String::from_utf8_lossy(&run.stderr));
            return;
        }
    }
    let loader = |arguments: &[&str]| {
        let run = Command::new("xdp-loader").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert!(run.status.success(), "xdp-loader {arguments:?}: {said}");
        said
    };
    for (mode, where_to) in [("native", DRIVER), ("skb", STACK)] {
        loader(&["load", "-m", mode, "x0", program]);
        let (attached_mode, id) = attached(pair.x0);
        assert_eq!(attached_mode, where_to);
        let status = loader(&["status", "x0"]);
        let dispatcher = status.contains("xdp_dispatcher");
        let how = if dispatcher { "by the dispatcher" } else { "by itself" };
        eprintln!("{test}: libxdp's program runs {how} ({mode})");
        let error = refused(request(pair.x0, Mode::Auto, Selection::Everything));
        assert_eq!((error.kind, &*error.option), (Kind::Busy, "program"), "{error}");
        assert!(error.message.contains(&format!("XDP program {id} ")), "{error}");
        // Somebody else has one of that name, and a newer one.
        let _another = Map::create(MapKind::Xsk, 4, "xsks_map").unwrap();
        let asked = Request {
            map: Some(map_of(number_in(&status, "xsk_def_prog"))),
            ..request(pair.x0, Mode::Auto, Selection::Everything)
        };
        let (own, _) = Program::open(asked).unwrap();
        assert_eq!((own.is_native(), own.ids().0), (where_to == DRIVER, id));
        let (socket, host, sender) =
            (Receiver::new(pair.x0), Packets::new(pair.x0), Packets::new(pair.x1));
        own.add(0, socket.socket.as_fd()).unwrap();
        for port in 0..20 {
            sender.send(&udp(port, None));
            assert_eq!(socket.next().1, udp(port, None));
        }
        // Afterwards its packets go where they went before.
        drop(own);
        host.count();
        sender.send(&udp(1, None));
        let mut passed = 0;
        wait_until("a packet for the host", || {
            passed += host.count();
            passed == 1
        });
        assert_eq!(attached(pair.x0), (where_to, id));
        loader(&["unload", "x0", "--all"]);
    }
}
