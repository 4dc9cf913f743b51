//! Classic programs as XDP programs: what the kernel's verifier takes, and whether
//! the verdict (BPF_PROG_TEST_RUN) is that of the interpreter and of libpcap.
//!
//! `NETRING_TEST_SEED`, `NETRING_TEST_ROUNDS`: as in filter_kernel.rs; with more than one
//! round each frame is run in every way. `NETRING_CORPUS` names an Ethernet savefile, in
//! place of ../shared/corpus/ethernet.pcap. Frames have 14 bytes at least: the kernel
//! runs no XDP program on less.
#![allow(unsafe_code)] // sockets
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/frames.rs"]
mod frames;
#[path = "common/programs.rs"]
mod programs;

use frames::{Wire, corpus, expressions, has_libpcap, plain_frames, truncated, with_tags};
use netring::error::{Error, Kind};
use netring::filter::expression::{Expression, Options as Meant};
use netring::filter::translate::load::{LICENCE, Loaded, Refused, load};
use netring::filter::translate::{Access, Options, Selection, Taken, translate};
use netring::filter::{Filter, Instruction, Metadata, PacketView, Program, Unanswered, Vlan};
use netring::sys::Errno;
use netring::sys::bpf::{self, Ingress, XDP_PASS, XDP_REDIRECT};
use programs::{AD_OFF, Dialect, Random, focused_program, i, rounds, valid_program};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const ETHERNET: u16 = 1;
/// XDP_TX: neither what a broken program returns nor what a rejected packet gets.
const TAKEN: u32 = 3;

/// Linear packets, packets in several buffers, and ways that the verifier or an old
/// kernel wants.
const WAYS: [(Access, bool); 5] = [
    (Access::Direct, false),
    (Access::Direct, true),
    (Access::Fixed, true),
    (Access::Called, true),
    (Access::Old, false),
];

fn options(access: Access, frags: bool) -> Options {
    Options { taken: Taken::Return(TAKEN), frags, access, hardware_type: Some(1), beside: None }
}

/// Whether XDP programs can be loaded; otherwise nothing can be compared.
fn may_load(test: &str) -> bool {
    let computed =
        Program::new(&[i(0x20, 0, 0, 0), i(0x07, 0, 0, 0), i(0x50, 0, 0, 0), i(0x16, 0, 0, 0)]);
    match loaded(&computed.unwrap(), Access::Direct, true) {
        Ok(loaded) if loaded.access != Access::Direct => {
            eprintln!("SKIPPED {test}: only with CAP_PERFMON are all programs taken as they are");
            false
        }
        Ok(_) => true,
        Err(refused) => {
            assert_ne!(refused.error.kind, Kind::XdpProgram, "{}", refused.error);
            eprintln!("SKIPPED {test}: {}", refused.error);
            false
        }
    }
}

fn loaded(program: &Program, access: Access, frags: bool) -> Result<Loaded, Box<Refused>> {
    load(Selection::Accepted(program), &options(access, frags))
}

/// What the verifier says to it.
fn log(program: &Program, access: Access, frags: bool) -> String {
    let selection = Selection::Accepted(program);
    let translated = translate(selection, &options(access, frags)).unwrap();
    let flags = if frags { bpf::BPF_F_XDP_HAS_FRAGS } else { 0 };
    let instructions = &translated.instructions;
    bpf::Program { instructions, licence: LICENCE, flags, name: "test", ifindex: 0 }.verifier_log()
}

/// Whether the program takes the frame.
fn takes(program: &Loaded, frame: &[u8], ingress: Option<Ingress>) -> bool {
    match bpf::test_run(program.program.as_fd(), frame, ingress) {
        Ok(TAKEN) => true,
        Ok(XDP_PASS) => false,
        other => panic!("{other:?} for {frame:02x?}"),
    }
}

fn metadata() -> Metadata {
    Metadata {
        vlan: Vlan::Absent,
        packet_type: Some(0),
        ifindex: Some(1),
        hardware_type: Some(1),
        ..Metadata::default()
    }
}

/// Whether the interpreter takes the frame.
fn kept(program: &Program, frame: &[u8]) -> bool {
    let view = PacketView { metadata: metadata(), ..PacketView::new(frame) };
    program.verdict(&view).unwrap_or_else(|why| panic!("{why}\n{program}")) != 0
}

/// At least 4,200, all of 14 bytes or more.
fn all_frames(r: &mut Random) -> Vec<Vec<u8>> {
    let path = "../shared/corpus/ethernet.pcap";
    let mut frames = if std::env::var_os("NETRING_CORPUS").is_some() {
        corpus()
    } else if let Ok(file) = std::fs::read(path) {
        frames::savefile(&file)
    } else {
        eprintln!("no {path}: generated frames alone");
        Vec::new()
    };
    let whole = with_tags(&plain_frames());
    let made = [truncated(&whole), whole].concat();
    frames.extend(made.iter().cloned());
    // The same with other bytes in their headers, and cut anywhere.
    while frames.len() < 4_200 {
        let mut frame = made[r.below(made.len())].clone();
        for _ in 0..r.below(4) {
            let at = r.below(frame.len().min(60));
            frame[at] = r.pick(&[0, 1, 4, 5, 6, 8, 17, 0x2c, 0x45, 0x60, 0x81, 0x86, 0xdd, 0xff]);
        }
        if r.one_in(4) {
            frame.truncate(14 + r.below(frame.len() - 13));
        }
        frames.push(frame);
    }
    frames.retain(|frame| frame.len() >= 14 && frame.len() <= 3_000);
    frames
}

/// Whether a test run may have a part of a small packet in further buffers.
fn splits(program: &Loaded) -> bool {
    let split = Ingress { ifindex: 0, queue: 0, first: 20 };
    match bpf::test_run(program.program.as_fd(), &[0; 60], Some(split)) {
        Ok(_) => true,
        Err(errno) => {
            eprintln!("this kernel's test run splits no small packets: {errno}");
            false
        }
    }
}

/// What translating and loading cost.
#[derive(Default)]
struct Costs {
    expansion: Vec<(usize, usize)>,
    load: Vec<Duration>,
}

impl Costs {
    fn tell(mut self, what: &str) {
        self.load.sort();
        let mut ratios: Vec<_> =
            self.expansion.iter().map(|(from, to)| *to as f64 / *from as f64).collect();
        ratios.sort_by(f64::total_cmp);
        let (from, to) = self.expansion.iter().fold((0, 0), |s, e| (s.0 + e.0, s.1 + e.1));
        eprintln!(
            "{what}: {} programs, {from} -> {to} instructions, median {:.2}x, max {:.2}x; \
             load median {:?}, max {:?}",
            ratios.len(),
            ratios[ratios.len() / 2],
            ratios[ratios.len() - 1],
            self.load[self.load.len() / 2],
            self.load[self.load.len() - 1],
        );
    }
}

#[test]
fn verdicts_of_expressions() {
    let test = "verdicts_of_expressions";
    if !has_libpcap(test) || !may_load(test) {
        return;
    }
    let mut r = Random::new(test);
    let frames = all_frames(&mut r);
    let (mut runs, mut taken, mut refused) = (0_u64, 0_u64, BTreeMap::new());
    let mut costs: [Costs; 5] = Default::default();
    let split = splits(&load(Selection::Nothing, &options(Access::Direct, true)).unwrap());
    let both = expressions().into_iter().flat_map(|text| [(text, true), (text, false)]);
    for (turn, (text, optimise)) in both.enumerate() {
        let Ok(wire) = Wire::compile(text, 1, optimise) else {
            refused.insert(text, "libpcap".to_string());
            continue;
        };
        let meant = |names| {
            let meant = Meant { names, plain: !optimise, ..Meant::default() };
            Expression::new(text.as_bytes(), meant)
        };
        let looked_up = |error: &Error| error.message.contains("looked up");
        let expression = match meant(false)
            .or_else(|error| if looked_up(&error) { meant(true) } else { Err(error) })
        {
            Ok(expression) => expression,
            Err(error) => {
                refused.insert(text, error.message);
                continue;
            }
        };
        // For frames with their tags in them, and as for a capture, where one may be
        // beside them.
        let in_frame = Filter::from(expression.clone()).in_frame(ETHERNET).unwrap();
        let captured = expression.program(ETHERNET).unwrap();
        // libpcap's interpreter knows no direction and no interface: what arrives, and lo.
        let beyond = match text {
            "inbound" | "ifindex 1" => Some(true),
            "outbound" => Some(false),
            _ => None,
        };
        let mut ways = Vec::new();
        for ((access, frags), costs) in WAYS.into_iter().zip(&mut costs) {
            let start = Instant::now();
            let program = loaded(&in_frame, access, frags)
                .unwrap_or_else(|refused| panic!("{text}: {}\n{}", refused.error, refused.log));
            costs.load.push(start.elapsed());
            costs.expansion.push((in_frame.len(), program.length));
            assert_eq!(program.access, access, "{text}");
            ways.push(program);
        }
        let folded = loaded(&captured, Access::Direct, true)
            .unwrap_or_else(|refused| panic!("{text}: {}\n{}", refused.error, refused.log));
        for (number, frame) in frames.iter().enumerate() {
            let want = beyond.unwrap_or_else(|| wire.matches(frame));
            taken += u64::from(want);
            assert_eq!(kept(&in_frame, frame), want, "{text}: {frame:02x?}\n{in_frame}");
            // The ways in turn, or all of them.
            let first = 14 + (number as u32 * 7) % 46;
            let parts = Ingress { ifindex: 0, queue: 0, first: first.min(frame.len() as u32) };
            let parts = split.then_some(parts);
            let all = [
                (&ways[0], None),
                (&ways[1], parts),
                (&ways[0], None),
                (&ways[2], parts),
                (&folded, None),
                (&ways[3], parts),
                (&ways[4], None),
            ];
            let turn = (number + turn) % all.len();
            let runs_of = if rounds(1) > 1 { &all[..] } else { &all[turn..][..1] };
            for (program, ingress) in runs_of.iter().copied() {
                runs += 1;
                let got = takes(program, frame, ingress);
                assert_eq!(got, want, "{text} ({ingress:?}): {frame:02x?}\n{in_frame}");
            }
        }
    }
    let split = if split { "also in parts" } else { "whole" };
    eprintln!("{} frames, {split}, {runs} runs, {taken} matches", frames.len());
    for (costs, way) in costs.into_iter().zip(WAYS) {
        costs.tell(&format!("{way:?}"));
    }
    for (text, why) in &refused {
        eprintln!("refused: {text:?}: {why}");
    }
    assert!(frames.len() >= 4_000 && taken > 100_000, "{} {taken}", frames.len());
    assert!(refused.len() < 12);
    for (text, why) in refused {
        assert!(why == "libpcap" || text.contains("protochain"), "{text}: {why}");
    }
}

/// The kernel's verifier takes them all, and they do what the interpreter does.
#[test]
fn random_programs() {
    let test = "random_programs";
    if !may_load(test) {
        return;
    }
    let mut r = Random::new(test);
    let split = splits(&load(Selection::Nothing, &options(Access::Direct, true)).unwrap());
    let wanted = rounds(100_000);
    let (mut taken, mut runs, mut computed, mut longest) = (0_u64, 0_u64, 0_u64, (0, 0));
    let mut refused = BTreeMap::new();
    let mut number = 0;
    while number < wanted {
        let most = if r.one_in(50) { 300 } else { 24 };
        let instructions = if r.one_in(4) {
            focused_program(&mut r, 64)
        } else {
            valid_program(&mut r, most, 64, Dialect::Linux)
        };
        let program = Program::new(&instructions).unwrap();
        let (access, frags) = WAYS[number % WAYS.len()];
        let xdp = match loaded(&program, access, frags) {
            Ok(xdp) => xdp,
            Err(no) => {
                assert_eq!(
                    no.error.kind,
                    Kind::NotSupported,
                    "{}\n{program}\n{}",
                    no.error,
                    no.log
                );
                let named = no.error.message.split("SKF_").nth(1).unwrap_or("netlink attributes");
                let name = named.split([' ', ',', ')']).next().unwrap_or("").to_string();
                *refused.entry(name).or_insert(0) += 1;
                continue;
            }
        };
        assert_eq!(xdp.access, access, "\n{program}\n{}", log(&program, access, frags));
        number += 1;
        longest = longest.max((program.len(), xdp.length));
        for _ in 0..8 {
            let length = 14 + r.below(66);
            let frame = r.bytes(length);
            let ingress = (frags && split && r.one_in(2)).then(|| {
                let first = 14 + r.below(length - 13) as u32;
                Ingress { ifindex: 0, queue: 0, first }
            });
            let got = takes(&xdp, &frame, ingress);
            let view = PacketView { metadata: metadata(), ..PacketView::new(&frame) };
            let want = match program.verdict(&view) {
                Ok(kept) => kept != 0,
                // An index that was computed counts from a header: nowhere.
                Err(Unanswered::NetworkOffset) => {
                    computed += 1;
                    false
                }
                Err(other) => panic!("{other}\n{program}"),
            };
            runs += 1;
            taken += u64::from(got);
            if got != want {
                let elsewhere = Metadata { link_offset: None, ..metadata() };
                let view = PacketView { metadata: elsewhere, ..view };
                let link = program.verdict(&view) == Err(Unanswered::LinkOffset);
                assert!(link && !got, "{got}, {ingress:?} {frame:02x?}\n{program}");
                computed += 1;
            }
        }
    }
    eprintln!(
        "{number} programs, {runs} runs, {taken} taken, {computed} with an index that counts from \
         a header; longest {longest:?}; refused: {refused:?}"
    );
    assert!(taken > runs / 10 && taken < runs * 9 / 10, "{taken} of {runs}");
    assert!(computed < runs / 20, "{computed} of {runs}");
}

fn selected(program: &[Instruction]) -> Program {
    Program::new(program).unwrap()
}

/// The longest programs, and those that look worst to the verifier.
#[test]
fn large_programs() {
    if !may_load("large_programs") {
        return;
    }
    let frame: Vec<u8> = (0..=255).cycle().take(2_500).collect();
    let long = |n: usize, each: &dyn Fn(u32) -> Vec<Instruction>| {
        let mut all: Vec<_> = (0..n as u32).flat_map(each).collect();
        all.push(i(0x06, 0, 0, 1));
        selected(&all)
    };
    let place = |n: u32| 14 + n * 7919 % 2_000;
    // A bit of the packet each, added up in a register that the verifier follows.
    let mut sum = vec![i(0x01, 0, 0, 0)];
    for n in 0..300 {
        let add = [i(0x87, 0, 0, 0), i(0x04, 0, 0, 1 << (n % 31)), i(0x07, 0, 0, 0)];
        sum.extend([i(0x30, 0, 0, place(n)), i(0x45, 0, 3, 1)]);
        sum.extend(add);
    }
    sum.extend([i(0x87, 0, 0, 0), i(0x15, 0, 1, 4711), i(0x06, 0, 0, 0)]);
    sum.extend([i(0x30, 0, 0, 20), i(0x50, 0, 0, 0), i(0x06, 0, 0, 1)]);
    let computed = |n| {
        let load = i(0x40, 0, 0, place(n));
        if n == 0 { vec![i(0x30, 0, 0, 20), i(0x07, 0, 0, 0)] } else { vec![load] }
    };
    for (what, program) in [
        ("4095 loads", long(4_095, &|n| vec![i(0x20, 0, 0, place(n))])),
        ("4095 computed loads", long(4_094, &computed)),
        (
            "2047 loads that are compared",
            long(2_047, &|n| vec![i(0x28, 0, 0, place(n)), i(0x15, 0, 0, n)]),
        ),
        (
            "1365 loads that may be left out",
            long(1_365, &|n| {
                vec![i(0x30, 0, 0, 14), i(0x25, 1, 0, n % 256), i(0x20, 0, 0, place(n))]
            }),
        ),
        (
            "1000 choices",
            long(1_000, &|n| {
                let skip = if n < 900 { n % 80 * 3 } else { 0 };
                vec![i(0x30, 0, 0, place(n)), i(0x35, skip as u8, 0, 128), i(0x04, 0, 0, n)]
            }),
        ),
        ("a jump over 4093 loads", {
            let mut all = vec![i(0x30, 0, 0, 14), i(0x15, 0, 1, 14), i(0x05, 0, 0, 4_091)];
            all.extend((0..4_092).map(|n| i(0x20, 0, 0, place(n))));
            all.push(i(0x06, 0, 0, 1));
            selected(&all)
        }),
        ("4096 returns", selected(&vec![i(0x06, 0, 0, 1); 4_096])),
        ("sums", selected(&sum)),
    ] {
        for (access, frags) in WAYS {
            let start = Instant::now();
            let xdp =
                loaded(&program, access, frags).unwrap_or_else(|no| panic!("{what}: {}", no.error));
            let took = start.elapsed();
            let info = bpf::program_info(xdp.program.as_fd()).unwrap();
            assert_eq!(xdp.access, access, "{what}");
            eprintln!(
                "{what}, {access:?}{}: {} -> {} instructions, {} verified, {took:?}",
                if frags { " frags" } else { "" },
                program.len(),
                xdp.length,
                info.verified,
            );
            let want = program.verdict(&PacketView::new(&frame)).unwrap() != 0;
            assert_eq!(takes(&xdp, &frame, None), want, "{what}");
            let small = &frame[..60];
            let want = program.verdict(&PacketView::new(small)).unwrap() != 0;
            assert_eq!(takes(&xdp, small, None), want, "{what}");
        }
    }
}

/// How much of the frame a program for one buffer sees.
fn first_buffer(frame: &[u8]) -> u32 {
    let has = |k: u32| {
        let byte = selected(&[i(0x30, 0, 0, k), i(0x06, 0, 0, 1)]);
        takes(&loaded(&byte, Access::Direct, false).unwrap(), frame, None)
    };
    let (mut there, mut not) = (0, frame.len() as u32);
    while not - there > 1 {
        let middle = (there + not) / 2;
        *(if has(middle) { &mut there } else { &mut not }) = middle;
    }
    not
}

/// Packets that need several buffers are looked at as a whole.
#[test]
fn packets_in_several_buffers() {
    if !may_load("packets_in_several_buffers") {
        return;
    }
    let jumbo: Vec<u8> = (0..9_000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
    let at = |k: u32| u32::from_be_bytes(jumbo[k as usize..][..4].try_into().unwrap());
    let first = first_buffer(&jumbo);
    eprintln!("{first} of {} bytes in the first buffer", jumbo.len());
    for k in [14, 3_000, 3_500, 3_518, 3_520, 4_095, 4_096, 7_614, 8_000, 8_996] {
        let is = [i(0x20, 0, 0, k), i(0x15, 0, 1, at(k)), i(0x06, 0, 0, 1), i(0x06, 0, 0, 0)];
        let mut from_x = vec![i(0x80, 0, 0, 0), i(0x14, 0, 0, 9_000 - k), i(0x07, 0, 0, 0)];
        from_x.extend([i(0x40, 0, 0, 0), is[1], is[2], is[3]]);
        for program in [selected(&is), selected(&from_x)] {
            for access in [Access::Direct, Access::Fixed, Access::Called] {
                let xdp = loaded(&program, access, true).unwrap();
                assert!(takes(&xdp, &jumbo, None), "{access:?}\n{program}");
                assert!(!takes(&xdp, &jumbo[..k as usize + 3], None), "{access:?}\n{program}");
            }
        }
        // A program for one buffer sees that and no more.
        let linear = loaded(&selected(&is), Access::Direct, false).unwrap();
        assert_eq!(takes(&linear, &jumbo, None), k + 4 <= first, "{k}");
    }
    let length = [i(0x80, 0, 0, 0), i(0x15, 0, 1, 9_000), i(0x06, 0, 0, 1), i(0x06, 0, 0, 0)];
    let xdp = loaded(&selected(&length), Access::Direct, true).unwrap();
    assert!(takes(&xdp, &jumbo, None) && !takes(&xdp, &jumbo[..8_999], None));
}

/// What is known of a packet besides its bytes.
#[test]
fn ancillary_loads() {
    if !may_load("ancillary_loads") {
        return;
    }
    let frame = &plain_frames()[0];
    let equal = |what: u32, k: u32| {
        let load = i(0x20, 0, 0, AD_OFF + what);
        // A and X survive the calls, and so does what was found out before.
        let all = [
            i(0x30, 0, 0, 50),
            i(0x01, 0, 0, 7),
            load,
            i(0x15, 0, 4, k),
            i(0x87, 0, 0, 0),
            i(0x15, 0, 2, 7),
            i(0x30, 0, 0, 49),
            i(0x06, 0, 0, 1),
            i(0x06, 0, 0, 0),
        ];
        selected(&all)
    };
    for (access, frags) in WAYS {
        let took = |program: &Program| takes(&loaded(program, access, frags).unwrap(), frame, None);
        // lo; no tag beside the frame; Ethernet.
        for (what, k) in [(8, 1), (44, 0), (48, 0), (60, 0), (28, 1)] {
            assert!(took(&equal(what, k)) && !took(&equal(what, k + 1)), "{what}");
        }
        assert!(!took(&equal(4, 4)), "sent");
        let here = (0..4_096).filter(|cpu| took(&equal(36, *cpu))).count();
        // Unless this thread moves.
        assert!(here < 4_096);
        if here == 0 {
            eprintln!("no CPU was found: moved");
        }
        // A packet in 4, by chance.
        let chance =
            [i(0x20, 0, 0, AD_OFF + 56), i(0x45, 0, 1, 3), i(0x06, 0, 0, 0), i(0x06, 0, 0, 1)];
        let chance = loaded(&selected(&chance), access, frags).unwrap();
        let taken = (0..4_000).filter(|_| takes(&chance, frame, None)).count();
        assert!((800..1_200).contains(&taken), "{taken}");
    }
    // The hardware type is told, or not.
    let untold = Options { hardware_type: None, ..options(Access::Direct, false) };
    let refused = load(Selection::Accepted(&equal(28, 1)), &untold).unwrap_err();
    assert_eq!(refused.error.kind, Kind::NotSupported);
    assert!(refused.error.message.contains("SKF_AD_HATYPE"), "{}", refused.error);
}

/// An AF_XDP socket that an XSKMAP takes.
fn xdp_socket() -> OwnedFd {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: three numbers.
    let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just made.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let set = |option: i32, value: *const libc::c_void, length: usize| {
        // SAFETY: the value is as long as said.
        let result = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, value, length as u32)
        };
        assert_eq!(result, 0, "{option}: {}", std::io::Error::last_os_error());
    };
    let length = 16 * 4_096;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    // struct xdp_umem_reg: addr, len, chunk_size and headroom, flags and tx_metadata_len
    let chunk = if cfg!(target_endian = "big") { 4_096 << 32 } else { 4_096 };
    let registration = [memory.addr() as u64, length as u64, chunk, 0];
    set(libc::XDP_UMEM_REG, (&raw const registration).cast(), 32);
    let entries = 16_u32;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_RX_RING] {
        set(ring, (&raw const entries).cast(), 4);
    }
    // SAFETY: the kernel holds the pages; nobody here has the address any more.
    unsafe { libc::munmap(memory, length) };
    fd
}

#[test]
fn to_the_socket_of_the_queue_or_to_the_host() {
    if !may_load("to_the_socket_of_the_queue_or_to_the_host") {
        return;
    }
    let map = bpf::Map::create(bpf::MapKind::Xsk, 4, "netring").unwrap();
    let arp = [i(0x28, 0, 0, 12), i(0x15, 0, 1, 0x806), i(0x06, 0, 0, 1), i(0x06, 0, 0, 0)];
    let arp = selected(&arp);
    let mut frame = [0; 60];
    let mut run = |selection, kind: [u8; 2]| {
        let taken = Taken::Redirect(map.fd().as_raw_fd());
        let options = Options { taken, ..options(Access::Direct, true) };
        let program = load(selection, &options).unwrap_or_else(|no| panic!("{}", no.error));
        frame[12..14].copy_from_slice(&kind);
        bpf::test_run(program.program.as_fd(), &frame, None).unwrap()
    };
    const ARP: [u8; 2] = [8, 6];
    const IP: [u8; 2] = [8, 0];
    for selection in [Selection::Everything, Selection::Nothing, Selection::Accepted(&arp)] {
        assert_eq!(run(selection, ARP), XDP_PASS, "no socket: {selection:?}");
    }
    let (socket, other) = (xdp_socket(), xdp_socket());
    let number = |socket: &OwnedFd| socket.as_raw_fd() as u32;
    map.update(0, number(&socket), bpf::BPF_NOEXIST).unwrap();
    // Not stolen from another one.
    let stolen = map.update(0, number(&other), bpf::BPF_NOEXIST);
    assert_eq!(stolen, Err(Errno(libc::EEXIST)));
    assert_eq!(map.update(4, number(&other), 0), Err(Errno(libc::E2BIG)));
    for (selection, arp, ip) in [
        (Selection::Everything, XDP_REDIRECT, XDP_REDIRECT),
        (Selection::Nothing, XDP_PASS, XDP_PASS),
        (Selection::Accepted(&arp), XDP_REDIRECT, XDP_PASS),
    ] {
        assert_eq!((run(selection, ARP), run(selection, IP)), (arp, ip), "{selection:?}");
    }
    map.delete(0).unwrap();
    assert_eq!(run(Selection::Everything, ARP), XDP_PASS);
    // A map of another kind is none of ours.
    let array = bpf::Map::create(bpf::MapKind::Array, 1, "netring").unwrap();
    array.update(0, 7, 0).unwrap();
    let array = array.fd().try_clone_to_owned().unwrap();
    assert_eq!(bpf::Map::adopt(array, bpf::MapKind::Xsk).unwrap_err(), Errno(libc::EINVAL));
    let same = map.fd().try_clone_to_owned().unwrap();
    bpf::Map::adopt(same, bpf::MapKind::Xsk).unwrap();
}

/// Attached to lo of a network namespace of its own, and swapped.
#[test]
fn attached_and_swapped() {
    if !may_load("attached_and_swapped") {
        return;
    }
    // The namespace is this thread's, and ends with it.
    // SAFETY: a number; nothing else of the process changes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("SKIPPED attached_and_swapped: {}", std::io::Error::last_os_error());
        return;
    }
    let made = |selection| load(selection, &options(Access::Direct, true)).unwrap().program;
    let (one, other) = (made(Selection::Nothing), made(Selection::Everything));
    let mode = bpf::XDP_FLAGS_SKB_MODE;
    let link = bpf::link_create(one.as_fd(), 1, mode).unwrap();
    let busy = bpf::link_create(other.as_fd(), 1, mode).unwrap_err();
    assert!(matches!(busy.0, libc::EBUSY | libc::EEXIST), "{busy}");
    let wrong = bpf::link_update(link.as_fd(), one.as_fd(), Some(other.as_fd()));
    assert_eq!(wrong, Err(Errno(libc::EPERM)));
    bpf::link_update(link.as_fd(), other.as_fd(), Some(one.as_fd())).unwrap();
    bpf::link_update(link.as_fd(), one.as_fd(), None).unwrap();
    drop(link);
    bpf::link_create(other.as_fd(), 1, mode).unwrap();
    assert_eq!(bpf::link_create(one.as_fd(), 4_711, mode).unwrap_err(), Errno(libc::EINVAL));
}

/// With fewer capabilities (of this thread alone) the verifier wants another way.
#[test]
fn capabilities() {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_BPF: u32 = 39;
    /// _LINUX_CAPABILITY_VERSION_3
    const VERSION: u32 = 0x2008_0522;
    /// Effective, permitted and inheritable, low words before high ones.
    fn keep(capabilities: &[u32]) {
        let mut words = [0_u32; 6];
        for capability in capabilities {
            let high = (capability / 32 * 3) as usize;
            words[high] |= 1 << (capability % 32);
            words[high + 1] |= 1 << (capability % 32);
        }
        let header = [VERSION, 0];
        // SAFETY: the header, and two times three words.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    if !may_load("capabilities") {
        return;
    }
    let job = || {
        keep(&[CAP_BPF, CAP_NET_ADMIN]);
        // tcp[13] & 2 != 0, about: X is computed.
        let all = [
            i(0x30, 0, 0, 23),
            i(0x15, 0, 4, 6),
            i(0xb1, 0, 0, 14),
            i(0x50, 0, 0, 27),
            i(0x45, 0, 1, 2),
            i(0x06, 0, 0, 1),
            i(0x06, 0, 0, 0),
        ];
        let program = selected(&all);
        for frags in [false, true] {
            let xdp = loaded(&program, Access::Direct, frags).unwrap();
            // Where the processor's faults are not worked around, all is as ever.
            assert!(matches!(xdp.access, Access::Direct | Access::Fixed), "{:?}", xdp.access);
            eprintln!("without CAP_PERFMON: {:?}", xdp.access);
            for frame in plain_frames() {
                assert_eq!(takes(&xdp, &frame, None), kept(&program, &frame), "{frame:02x?}");
            }
        }
        keep(&[CAP_NET_ADMIN]);
        let Err(refused) = loaded(&program, Access::Direct, true) else { return };
        assert_eq!(refused.error.kind, Kind::PermissionDenied, "{}", refused.error);
        assert!(refused.error.message.contains("CAP_BPF") && refused.log.is_empty());
    };
    std::thread::spawn(job).join().unwrap();
}

/// What the verifier says to a wrong program comes back.
#[test]
fn the_verifiers_words() {
    if !may_load("the_verifiers_words") {
        return;
    }
    // r0 = *(u32 *)(r1 + 64); exit
    let instructions =
        &[bpf::Instruction::new(0x61, 0, 1, 64, 0), bpf::Instruction::new(0x95, 0, 0, 0, 0)];
    let program =
        bpf::Program { instructions, licence: LICENCE, flags: 0, name: "test", ifindex: 0 };
    assert_eq!(program.load().unwrap_err(), Errno(libc::EACCES));
    assert!(program.verifier_log().contains("off=64 size=4"), "{}", program.verifier_log());
}
