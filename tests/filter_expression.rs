//! Expressions: what libpcap says of the bytes on the wire, our program says of
//! them too, wherever the outer VLAN tag is.
//!
//! `NETRING_CORPUS`, an Ethernet pcap savefile, adds its frames (it is not small:
//! minutes in a debug build). `NETRING_TEST_SEED`, `NETRING_TEST_ROUNDS`: as in
//! filter_kernel.rs.
#![allow(unsafe_code)] // dlopen, sockets
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/frames.rs"]
mod frames;

use frames::{Wire, corpus, expressions, has_libpcap, plain_frames, truncated, with_tags};
use netring::error::Kind;
use netring::filter::expression::{Expression, Options};
use netring::filter::{Metadata, PacketView, Program, Vlan};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHERNET: u16 = 1;
const RAW: u16 = 101;

fn metadata(vlan: Vlan) -> Metadata {
    Metadata {
        vlan,
        net_offset: Some(14),
        packet_type: Some(0),
        ifindex: Some(1),
        ..Metadata::default()
    }
}

/// Whether the kernel would keep it; a program that matches keeps all.
fn kept(program: &Program, frame: &[u8], vlan: Vlan) -> bool {
    let view = PacketView { metadata: metadata(vlan), ..PacketView::new(frame) };
    let kept = program.verdict(&view).expect("asks for nothing else");
    assert!(kept == 0 || kept == i32::MAX as u32, "{kept}");
    kept != 0
}

/// The frame as a receiver's kernel has it.
fn stripped(frame: &[u8]) -> Option<(Vec<u8>, Vlan)> {
    let tpid = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let tci = u16::from_be_bytes([*frame.get(14)?, *frame.get(15)?]);
    if !matches!(tpid, 0x8100 | 0x88a8) || frame.len() < 18 {
        return None;
    }
    let bytes = [&frame[..12], &frame[16..]].concat();
    Some((bytes, Vlan::Present { tci, tpid: Some(tpid) }))
}

/// Expressions that reach what others do not: words over the edges of the tag,
/// computed indexes, all memory words.
const HARDER: [&str; 25] = [
    // Reads memory that it has not written on every way.
    "geneve and not ip proto 16 or link[(ether[37] + link[27]) ^ len : 4] > 0x44916259",
    "ether[11] = 0x55",
    "ether[11:2] = 0x5581",
    "ether[10:4] = 0x44558100",
    "ether[12:4] & 0xfff = 100",
    "ether[13:2] = 0x0000",
    "ether[13:4] != 0",
    "ether[14:4] = 0x00640800",
    "ether[15:2] = 0x6408",
    "ether[15] = 100",
    "ether[15:4] = 0x64080045",
    "ether[14] & 0xe0 != 0",
    "ether[ether[11] & 0xf] = 0x81",
    "ether[(ether[11] & 0xf) + 7 : 2] = 0x8100",
    "ether[ether[18] & 0x1f] = 0x64",
    "ether[(ether[18] & 0x1f) : 2] = 0x8100",
    "ether[(ether[18] & 0x1f) + 3 : 4] = 0x81000064",
    "ether[ether[6:4]] = 5",
    "ether[0 - ether[18]] = 5",
    "ether[ether[18] - 60 : 2] > 0",
    "ip[ip[12:4]] = 1",
    "ether[18] << ether[19] > 1000",
    "ether[18] >> (ether[19] + 31) = 0",
    "ether[20:4] / (ether[12:2] - 0x8100) > 1",
    "ip[0] * tcp[0] + ip[1] * tcp[1] - ip[2] * (tcp[2] + ip[4] * (tcp[5] + ether[12:4])) > 7",
];

#[test]
fn verdicts_are_those_of_the_wire() {
    if !has_libpcap("verdicts_are_those_of_the_wire") {
        return;
    }
    let whole = with_tags(&[plain_frames(), corpus()].concat());
    let frames = [truncated(&whole), whole].concat();
    let without: Vec<_> = frames.iter().map(|frame| stripped(frame)).collect();
    let (mut compared, mut matched, mut moved, mut refused, mut longest) = (0, 0, 0, 0, 0);
    for text in expressions().into_iter().chain(HARDER) {
        // Direction and interface are no bytes; libpcap's interpreter knows neither.
        if ["inbound", "outbound", "ifindex 1", "gateway foo"].contains(&text) {
            continue;
        }
        let wire = match Wire::compile(text, 1, true) {
            Ok(wire) => wire,
            Err(words) => {
                eprintln!("libpcap refuses {text:?}: {words}");
                let ours = Expression::new(text.as_bytes(), Options::default());
                // Not Ethernet's, perhaps.
                assert!(ours.is_err() || Wire::compile(text, 12, true).is_ok(), "{text}");
                refused += 1;
                continue;
            }
        };
        let ours = Expression::new(text.as_bytes(), Options::default()).or_else(|error| {
            if !error.message.contains("looked up") {
                return Err(error);
            }
            Expression::new(text.as_bytes(), Options { names: true, ..Options::default() })
        });
        if text.starts_with("geneve and not ip proto 16 or") {
            let error = ours.expect_err("it reads memory that it has not written");
            assert!(error.message.contains("put it last"), "{error}");
            refused += 1;
            continue;
        }
        if text.contains("protochain") {
            let error = ours.expect_err("the kernel takes no loop");
            assert!(error.message.contains("protochain"), "{error}");
            refused += 1;
            continue;
        }
        let program = ours.and_then(|ours| ours.program(ETHERNET)).unwrap();
        longest = longest.max(program.len());
        attaches(&program);
        for (frame, without) in frames.iter().zip(&without) {
            let want = wire.matches(frame);
            compared += 1;
            matched += usize::from(want);
            let got = kept(&program, frame, Vlan::Absent);
            assert_eq!(got, want, "{text}: in the bytes: {frame:02x?}\n{program}");
            if let Some((bytes, vlan)) = without {
                moved += 1;
                let got = kept(&program, bytes, *vlan);
                assert_eq!(got, want, "{text}: next to them: {frame:02x?}\n{program}");
            }
        }
    }
    eprintln!(
        "{compared} verdicts, {matched} matches, {moved} with the tag moved; {refused} refused; \
         longest {longest}"
    );
    assert!(matched > 10_000 && moved > 50_000, "{matched} {moved}");
    assert!(refused < 12, "{refused}");
}

/// The program that libpcap makes, as it is, would be wrong: so the comparison can
/// fail.
#[test]
fn verdicts_of_the_program_as_it_is_differ() {
    if !has_libpcap("verdicts_of_the_program_as_it_is_differ") {
        return;
    }
    for text in ["vlan", "vlan 100", "not vlan", "ip", "ether[12:2] = 0x8100", "len > 61"] {
        let wire = Wire::compile(text, 1, true).unwrap();
        let program = Program::new(&wire.program).unwrap();
        let frames = with_tags(&plain_frames());
        let differ = frames.iter().filter(|frame| {
            let Some((bytes, vlan)) = stripped(frame) else { return false };
            let view = PacketView { metadata: metadata(vlan), ..PacketView::new(&bytes) };
            (program.verdict(&view).unwrap() != 0) != wire.matches(frame)
        });
        assert!(differ.count() > 0, "{text}");
    }
}

#[test]
fn raw_ip_and_any() {
    if !has_libpcap("raw_ip_and_any") {
        return;
    }
    let frames = plain_frames();
    let (mut compared, mut refused) = (0, 0);
    for text in expressions() {
        let Ok(expression) = Expression::new(text.as_bytes(), Options::default()) else { continue };
        if ["inbound", "outbound", "ifindex 1"].contains(&text) {
            continue;
        }
        let (Ok(raw), Ok(wire)) = (expression.program(RAW), Wire::compile(text, 12, true)) else {
            // No meaning on raw IP: refused on "any", or for those packets none.
            let error = expression.any().unwrap_err();
            assert_eq!(error.kind, Kind::Filter);
            assert!(error.message.contains("REJECT_OTHERS"), "{text}: {error}");
            assert!(error.message.contains("raw IP"), "{text}: {error}");
            assert!(error.message.len() < 512, "{error}");
            let lenient = Options { reject_others: true, ..Options::default() };
            let lenient = Expression::new(text.as_bytes(), lenient).unwrap();
            attaches(&lenient.any().unwrap());
            assert_eq!(lenient.among_others(RAW).unwrap(), Program::keep(0));
            assert!(lenient.program(RAW).is_err());
            refused += 1;
            continue;
        };
        let any = expression.any().unwrap();
        attaches(&any);
        let ethernet = expression.program(ETHERNET).unwrap();
        for frame in &frames {
            let from = |hardware| {
                let known = metadata(Vlan::Absent);
                Metadata { hardware_type: Some(hardware), ..known }
            };
            let run = |data, hardware| {
                let view = PacketView { metadata: from(hardware), ..PacketView::new(data) };
                any.verdict(&view).unwrap() != 0
            };
            let packet = &frame[14..];
            assert_eq!(kept(&raw, packet, Vlan::Absent), wire.matches(packet), "{text}");
            for hardware in [1, 772] {
                assert_eq!(run(frame, hardware), kept(&ethernet, frame, Vlan::Absent), "{text}");
            }
            for hardware in [0xfffe, 768, 776, 519] {
                assert_eq!(run(packet, hardware), wire.matches(packet), "{text}");
            }
            assert!(!run(frame, 280), "{text}: CAN");
            compared += 1;
        }
    }
    assert!(compared > 4_000 && refused > 10, "{compared} {refused}");
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = std::env::var("NETRING_TEST_SEED")
            .map_or(0x9e37_79b9_7f4a_7c15, |s| s.parse::<u64>().expect("NETRING_TEST_SEED"));
        eprintln!("{test}: NETRING_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn number(&mut self) -> String {
        match self.below(5) {
            0 => self.pick(&["0", "1", "12", "14", "16", "0x8100", "0xffffffff", "100"]).into(),
            1 => format!("{:#x}", self.below(1 << 31)),
            _ => self.below(100).to_string(),
        }
    }

    fn arithmetic(&mut self, depth: usize) -> String {
        let layer = ["ether", "ip", "tcp", "udp", "ip6", "icmp", "arp", "link"];
        match self.below(if depth == 0 { 2 } else { 7 }) {
            0 => self.number(),
            1 => format!("{}[{}]", self.pick(&layer), self.below(40)),
            2 => {
                let (layer, size) = (self.pick(&layer), self.pick(&["1", "2", "4"]));
                format!("{layer}[{}:{size}]", self.arithmetic(depth - 1))
            }
            3 => "len".into(),
            _ => {
                let operator = self.pick(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
                let (one, other) = (self.arithmetic(depth - 1), self.arithmetic(depth - 1));
                format!("({one} {operator} {other})")
            }
        }
    }

    fn primitive(&mut self) -> String {
        let port = self.below(100);
        match self.below(14) {
            0 => {
                self.pick(&["ip", "ip6", "arp", "tcp", "udp", "icmp", "sctp", "stp", "llc"]).into()
            }
            1 => self.pick(&["vlan", "mpls", "pppoes", "geneve", "pppoed", "multicast"]).into(),
            2 => format!("{} {}", self.pick(&["vlan", "mpls", "vlan"]), self.pick(&[0, 100, 200])),
            3 => format!("{} {port}", self.pick(&["port", "tcp port", "udp dst port"])),
            4 => format!("portrange {port}-{}", port + self.below(50)),
            5 => format!("{} 10.0.0.{}", self.pick(&["host", "src host", "ip host"]), port % 4),
            6 => format!("{} 10.0.0.0/{}", self.pick(&["net", "dst net"]), 8 * (1 + port % 4)),
            7 => self.pick(&["host 2001:db8:1::1", "ip6 net ff00::/8"]).into(),
            8 => format!("ether host 00:11:22:33:44:{:02x}", 0x50 + port % 8),
            9 => format!("{} proto {}", self.pick(&["ip", "ip6", "ether"]), self.number()),
            _ => {
                let relation = self.pick(&["=", "!=", "<", ">", "<=", ">="]);
                format!("{} {relation} {}", self.arithmetic(3), self.arithmetic(2))
            }
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 1 } else { 5 }) {
            0 => self.primitive(),
            1 => format!("not ({})", self.expression(depth - 1)),
            _ => {
                let (one, other) = (self.expression(depth - 1), self.expression(depth - 1));
                format!("({one}) {} ({other})", self.pick(&["and", "or"]))
            }
        }
    }

    /// Words in any order.
    fn nonsense(&mut self) -> String {
        let words = [
            "ip",
            "tcp",
            "port",
            "80",
            "and",
            "or",
            "not",
            "(",
            ")",
            "[",
            "]",
            ":",
            "=",
            "<",
            "&",
            "host",
            "10.0.0.1",
            "net",
            "/",
            "8",
            "1-2",
            "portrange",
            "vlan",
            "proto",
            "\\tcp",
            "::1",
            "0:1:2:3:4:5",
            "src",
            "dst",
            "type",
            "llc",
            "u",
            "ether",
            "mask",
            "len",
            "-",
            "tcpflags",
            "tcp-syn",
            "\\",
            "$a",
            "é",
            "iso",
            "inbound",
            "ifindex",
            "gateway",
            "x",
        ];
        (0..1 + self.below(12)).map(|_| self.pick(&words)).collect::<Vec<_>>().join(" ")
    }
}

/// Expressions that nobody would write.
#[test]
fn random_expressions_have_the_verdicts_of_the_wire() {
    let test = "random_expressions_have_the_verdicts_of_the_wire";
    if !has_libpcap(test) {
        return;
    }
    let rounds = std::env::var("NETRING_TEST_ROUNDS").map_or(1, |s| s.parse().unwrap());
    let mut r = Random::new(test);
    let whole = with_tags(&plain_frames());
    let frames = [truncated(&whole), whole].concat();
    let (mut compiled, mut refused, mut matched, mut slowest) = (0, 0, 0, (0, String::new()));
    for round in 0..rounds * 1500_usize {
        let text = match round % 8 {
            0 => r.nonsense(),
            1 => r.expression(5),
            _ => r.expression(round % 4),
        };
        let start = std::time::Instant::now();
        let ours = Expression::new(text.as_bytes(), Options::default())
            .and_then(|ours| ours.program(ETHERNET));
        let took = start.elapsed().as_millis();
        if took > slowest.0 {
            slowest = (took, text.clone());
        }
        let program = match ours {
            Ok(program) => program,
            Err(error) => {
                assert_eq!(error.kind, Kind::Filter, "{text}: {error}");
                assert!(error.message.len() < 512, "{text}: {error}");
                refused += 1;
                continue;
            }
        };
        compiled += 1;
        if text.contains("inbound") || text.contains("ifindex") {
            continue; // no bytes
        }
        let wire = Wire::compile(&text, 1, true).expect("compiled before");
        for _ in 0..60 {
            let frame = &frames[r.below(frames.len())];
            let want = wire.matches(frame);
            matched += usize::from(want);
            assert_eq!(
                kept(&program, frame, Vlan::Absent),
                want,
                "{text}: {frame:02x?}\n{program}"
            );
            if let Some((bytes, vlan)) = stripped(frame) {
                assert_eq!(kept(&program, &bytes, vlan), want, "{text}: {frame:02x?}\n{program}");
            }
        }
    }
    eprintln!("{compiled} compiled, {refused} refused, {matched} matches; slowest {slowest:?} ms");
    assert!(compiled > 500 && refused > 100 && matched > 1000, "{compiled} {refused} {matched}");
}

/// The kernel takes it.
fn attaches(program: &Program) {
    // SAFETY: three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0);
    // SAFETY: just made.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = program.len().try_into().unwrap();
    let filter = program.instructions().as_ptr().cast::<libc::sock_filter>().cast_mut();
    let filter = libc::sock_fprog { len: length, filter };
    // SAFETY: a program that lives through the call.
    let attached = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    assert_eq!(attached, 0, "{}\n{program}", std::io::Error::last_os_error());
}
