//! Expressions, frames, and libpcap's own verdict.
#![allow(dead_code)] // each test uses some of it

use netring::filter::Instruction;
use netring::sys::pcap::Libpcap;
use std::ffi::{CString, c_uint, c_void};

pub fn expressions() -> Vec<&'static str> {
    include_str!("../filter_expressions.txt").lines().filter(|line| !line.is_empty()).collect()
}

/// Whether libpcap is here; without it nothing can be compared.
pub fn has_libpcap(test: &str) -> bool {
    match Libpcap::with(|_| ()) {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("SKIPPED {test}: {reason:?}");
            false
        }
    }
}

/// The program of libpcap, and its interpreter.
pub struct Wire {
    pub program: Vec<Instruction>,
    run: Interpreter,
}

type Interpreter = unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint;

impl Wire {
    pub fn compile(text: &str, dlt: i32, optimise: bool) -> Result<Self, String> {
        // A name of IANA's that /etc/protocols does not have.
        let text = text.replace("\\icmp6", "58");
        let text = CString::new(text).unwrap();
        let compile =
            |pcap: Libpcap<'_>| pcap.dead(dlt).expect("a handle").compile(&text, optimise, None);
        let program = Libpcap::with(compile).expect("was there before")?;
        // Its interpreter does not clear the memory, and its compiler forgets to ("geneve").
        let cleared = (0..16).map(|word| Instruction::new(0x02, 0, 0, word));
        let program = cleared.chain(program).collect();
        let library = [c"libpcap.so.1", c"libpcap.so.0.8"]
            .into_iter()
            // SAFETY: a string with an end; it is open already.
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) })
            .find(|library| !library.is_null())
            .unwrap();
        // SAFETY: an open library and a string with an end.
        let run = unsafe { libc::dlsym(library, c"bpf_filter".as_ptr()) };
        assert!(!run.is_null());
        // SAFETY: the signature of bpf_filter() in <pcap/bpf.h>.
        let run = unsafe { std::mem::transmute::<*mut c_void, Interpreter>(run) };
        Ok(Self { program, run })
    }

    pub fn matches(&self, frame: &[u8]) -> bool {
        let length = frame.len() as c_uint;
        // SAFETY: a program that libpcap made, and a frame of `length` bytes.
        unsafe { (self.run)(self.program.as_ptr(), frame.as_ptr(), length, length) != 0 }
    }
}

// ---- frames ----

pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], words: usize, payload: &[u8]) -> Vec<u8> {
    let length = (words * 4 + payload.len()) as u16;
    let mut packet = vec![0x40 | words as u8, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(from);
    packet.extend(to);
    packet.resize((words * 4).max(20), 1);
    packet.extend(payload);
    packet
}

pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 1, 0x23, 0x45, 0, payload.len() as u8, next, 64];
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    packet
}

fn ports(from: u16, to: u16, rest: &[u8]) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), rest].concat()
}

fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0];
    [ports(from, to, &rest), b"GET / HTTP/1.1\r\n".to_vec()].concat()
}

/// Untagged frames of many kinds.
pub fn plain_frames() -> Vec<Vec<u8>> {
    const ONE: [u8; 4] = [10, 0, 0, 1];
    const TWO: [u8; 4] = [10, 0, 0, 2];
    const OTHER: [u8; 4] = [192, 168, 1, 1];
    let udp = |from, to| ports(from, to, &[0, 200, 0, 0, 60, 1, 2, 3, 4, 5, 6, 7]);
    let mut packets = vec![
        ipv4(6, ONE, TWO, 5, &tcp(1024, 80, 2)),
        ipv4(6, TWO, ONE, 5, &tcp(80, 1024, 0x12)),
        ipv4(6, OTHER, [172, 16, 3, 4], 6, &tcp(22, 443, 0x18)),
        ipv4(6, OTHER, TWO, 15, &tcp(5001, 8080, 1)),
        ipv4(17, ONE, OTHER, 5, &udp(53, 5353)),
        ipv4(17, OTHER, [10, 255, 255, 255], 5, &udp(70, 20)),
        ipv4(1, ONE, [8, 8, 8, 8], 5, &[8, 0, 1, 2, 3, 4]),
        ipv4(1, ONE, TWO, 5, &[3, 3, 0, 0, 0, 0, 0, 0]),
        ipv4(2, OTHER, [224, 0, 0, 1], 6, &[0x11, 0, 0, 0]),
        ipv4(47, ONE, TWO, 5, &[0; 8]),
        ipv4(50, ONE, TWO, 5, &[0; 8]),
        ipv4(132, ONE, TWO, 5, &ports(80, 81, &[0; 8])),
        // A header length of 0: indexes end inside of the link-layer header.
        ipv4(6, ONE, TWO, 0, &tcp(80, 80, 2)),
        ipv4(6, ONE, TWO, 1, &tcp(80, 80, 2)),
    ];
    // Fragments.
    for (flags, offset) in [(0x20, 0), (0x20, 5), (0x40, 0)] {
        let mut packet = ipv4(6, ONE, TWO, 5, &tcp(80, 80, 2));
        packet[6] = flags;
        packet[7] = offset;
        packets.push(packet);
    }
    let mut frames: Vec<_> = packets.iter().map(|packet| ethernet(0x0800, packet)).collect();
    for packet in [
        ipv6(6, &tcp(1024, 80, 2)),
        ipv6(17, &udp(53, 1000)),
        ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0]),
        ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]),
        ipv6(44, &[6, 0, 0, 0, 0, 0, 0, 1, 0, 80, 0, 80]),
    ] {
        frames.push(ethernet(0x86dd, &packet));
    }
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 0, 0x11, 0x22, 0x33, 0x44, 0x55];
    arp.extend(ONE);
    arp.extend([0; 6]);
    arp.extend(TWO);
    frames.push(ethernet(0x0806, &arp));
    frames.push(ethernet(0x8035, &arp));
    frames.push(ethernet(0x88cc, &[2, 7, 4, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let inner = ipv4(6, ONE, TWO, 5, &tcp(1024, 80, 2));
    let label = |label: u32, last: u32| (label << 12 | last << 8 | 64).to_be_bytes().to_vec();
    frames.push(ethernet(0x8847, &[label(1000, 1), inner.clone()].concat()));
    frames.push(ethernet(0x8847, &[label(100_000, 0), label(1024, 1), inner.clone()].concat()));
    frames.push(ethernet(0x8863, &[0x11, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let session = |kind: u16| [&[0x11, 0, 0, 39, 0, 60][..], &kind.to_be_bytes()].concat();
    frames.push(ethernet(0x8864, &[session(0x21), inner.clone()].concat()));
    frames.push(ethernet(0x8864, &[session(0x57), ipv6(17, &udp(1, 2))].concat()));
    // 802.3 with LLC: spanning tree, IPX, IS-IS, SNAP.
    for llc in [
        vec![0x42, 0x42, 3, 0, 0, 0, 0, 0],
        vec![0xff, 0xff, 0, 30, 0, 0, 0, 0],
        vec![0xe0, 0xe0, 3, 0, 0, 0, 0, 0],
        vec![0xfe, 0xfe, 3, 0x83, 27, 1, 0, 16, 1, 0, 0],
        vec![0xaa, 0xaa, 3, 0, 0, 0, 8, 0],
        vec![0xf0, 0xf0, 3, 0, 0, 0, 0, 0],
    ] {
        frames.push(ethernet(llc.len() as u16, &[llc, vec![0; 40]].concat()));
    }
    // Geneve and VXLAN.
    let overlay = |port: u16, header: [u8; 8]| {
        let datagram = [&[0, 0, 0, 0][..], &header, &ethernet(0x0800, &inner)].concat();
        ethernet(0x0800, &ipv4(17, ONE, TWO, 5, &ports(1000, port, &datagram)))
    };
    frames.push(overlay(6081, [0, 0, 0x65, 0x58, 0, 0, 100, 0]));
    frames.push(overlay(4789, [8, 0, 0, 0, 0, 0, 100, 0]));
    let mut broadcast = frames[0].clone();
    broadcast[..6].fill(0xff);
    frames.push(broadcast);
    for frame in &mut frames {
        frame.resize(frame.len().max(60), 0);
    }
    frames
}

pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// Each frame as it is and with tags: one, none of the kernel's, two.
pub fn with_tags(plain: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (number, frame) in plain.iter().enumerate() {
        let vid = [100, 200, 0, 4095][number % 4];
        frames.push(frame.clone());
        frames.push(tagged(frame, 0x8100, 100));
        frames.push(tagged(frame, 0x8100, 0xe000 | vid));
        frames.push(tagged(frame, 0x88a8, vid));
        frames.push(tagged(frame, 0x9100, 100));
        frames.push(tagged(&tagged(frame, 0x8100, 200), 0x8100, 100));
        frames.push(tagged(&tagged(frame, 0x8100, 100), 0x88a8, 0x1000 | vid));
    }
    frames
}

/// Frames cut short, down to the shortest that can have a tag.
pub fn truncated(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let cut = |(number, frame): (usize, &Vec<u8>)| {
        frame[..frame.len().min(18 + number * 7 % 40)].to_vec()
    };
    frames.iter().enumerate().map(cut).collect()
}

/// The frames of a pcap savefile (little-endian, as the corpus is).
pub fn corpus() -> Vec<Vec<u8>> {
    let Some(path) = std::env::var_os("NETRING_CORPUS") else { return Vec::new() };
    savefile(&std::fs::read(path).expect("NETRING_CORPUS can be read"))
}

/// The same of what was read.
pub fn savefile(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}
