//! The first seeds: one for each thing that a target distinguishes.

use netring::ffi::config::NETRING_CAPTURE_CONFIG_INIT_WORD;

type Seeds = Vec<(String, Vec<u8>)>;

// ---- walker ----

/// A block as the kernel lays it out, with its three control bytes before it.
struct Block(Vec<u8>, Vec<usize>);

impl Block {
    fn new(how: u8, shape: u8) -> Self {
        let mut bytes = vec![how, shape, 48, 0];
        bytes.resize(4 + 48, 0);
        let mut block = Self(bytes, Vec::new());
        block.put(8, &1_u32.to_ne_bytes());
        block.put(16, &48_u32.to_ne_bytes());
        block.put(24, &1_u64.to_ne_bytes());
        block
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[4 + at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn record(mut self, caplen: u32, len: u32, status: u32, hardware: u16, direction: u8) -> Self {
        let at = self.0.len() - 4;
        if let Some(last) = self.1.last().copied() {
            self.put(last, &((at - last) as u32).to_ne_bytes());
        }
        self.0.resize(4 + (at + 82 + caplen as usize).next_multiple_of(8), 0x33);
        self.put(at, &[0; 82]);
        for (field, value) in [(4, 1_700_000_000), (8, 5), (12, caplen), (16, len), (20, status)] {
            self.put(at + field, &u32::to_ne_bytes(value));
        }
        self.put(at + 24, &82_u16.to_ne_bytes());
        self.put(at + 26, &96_u16.to_ne_bytes());
        self.put(at + 28, &7_u32.to_ne_bytes());
        self.put(at + 50, &[8, 0]);
        self.put(at + 52, &3_u32.to_ne_bytes());
        self.put(at + 56, &hardware.to_ne_bytes());
        self.put(at + 58, &[direction, 6]);
        self.1.push(at);
        self.put(12, &(self.1.len() as u32).to_ne_bytes());
        self
    }

    /// The field at `offset` of the record `index` becomes `value`.
    fn with(mut self, index: usize, offset: usize, value: u32) -> Self {
        let at = self.1[index] + offset;
        self.put(at, &value.to_ne_bytes());
        self
    }
}

pub fn walker() -> Seeds {
    let three =
        |how| {
            Block::new(how, 4)
                .record(60, 60, 1, 1, 0)
                .record(20, 1500, 1 | 0x10 | 0x40, 1, 1)
                .record(8, 8, 1 | 1 << 29, 1, 4)
        };
    let mut out: Seeds = vec![
        ("empty".into(), Block::new(0, 0).0),
        ("three".into(), three(0).0),
        ("three-at-start".into(), three(1).0),
        ("stamped-by-device".into(), Block::new(0, 255).record(9, 9, 1 | 1 << 31, 1, 0).0),
        ("looped".into(), Block::new(2, 9).record(16, 16, 1, 772, 4).record(16, 16, 1, 772, 0).0),
        ("never-filled".into(), three(0).with(1, 20, 0).0),
        ("no-bytes".into(), Block::new(0, 3).record(0, 0, 1, 1, 0).0),
    ];
    for (name, index, offset, value) in [
        ("step-0", 0, 0, 0),
        ("step-64", 0, 0, 64),
        ("step-unaligned", 0, 0, 148),
        ("step-far", 0, 0, 1 << 20),
        ("step-wraps", 1, 0, 0x8000_0048),
        ("step-back", 1, 0, 0xffff_ff70),
        ("caplen-far", 2, 12, 60_000),
        ("caplen-wraps", 2, 12, u32::MAX - 81),
        ("mac-far", 1, 24, 0xffff),
        ("addresses", 1, 59, 0x55aa_55ff),
    ] {
        out.push((name.into(), three(0).with(index, offset, value).0));
    }
    for (name, offset, value) in [
        ("count-far", 12, u32::MAX),
        ("first-0", 16, 0),
        ("first-far", 16, 4096),
        ("first-unaligned", 16, 52),
    ] {
        let mut block = three(2);
        block.put(offset, &u32::to_ne_bytes(value));
        out.push((name.into(), block.0));
    }
    for hardware in [1_u16, 280, 512, 768, 778, 801, 802, 803, 824, 65534, 9] {
        let block = Block::new(0, 0).record(4, 4, 1, hardware, 0);
        out.push((format!("hardware-{hardware}"), block.0));
    }
    out
}

// ---- filters ----

pub fn filter_text() -> Seeds {
    let ip = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";
    let all_kinds = "7\n128 0 0 0\n2 0 0 3\n97 0 0 3\n12 0 0 0\n116 0 0 2\n5 0 0 0\n22 0 0 0\n";
    [
        ("ip", ip.into()),
        ("crlf", ip.replace('\n', "\r\n")),
        ("commas", ip.replace('\n', ",")),
        ("spaces", ip.replace(' ', "\t  ")),
        ("kinds", all_kinds.into()),
        ("ret", "1\n6 0 0 4294967295".into()),
        ("leading-zeros", "01\n006 0 0 0001".into()),
        ("announces-more", "5\n6 0 0 1\n".into()),
        ("announces-less", format!("3{}", &ip[1..])),
        ("code-large", "1\n65536 0 0 1\n".into()),
        ("jump-large", "1\n21 256 0 1\n".into()),
        ("k-large", "1\n6 0 0 4294967296\n".into()),
        ("jump-far", "2\n21 0 9 1\n6 0 0 1\n".into()),
        ("listing", "(000) ldh      [12]\n(001) ret      #0\n".into()),
        ("c-array", "{ 0x28, 0, 0, 0x0000000c },\n".into()),
        ("negative", "1\n6 0 0 -1".into()),
        ("mixed", "2\n6 0 0 1,6 0 0 1".into()),
        ("empty", String::new()),
        ("nul", "1\n6 0 0 1\0".into()),
        ("blank-line", "1\n\n6 0 0 1".into()),
        ("high-bytes", "1\n\u{1F980} 0 0 1".into()),
    ]
    .map(|(name, text): (&str, String)| (name.to_string(), text.into_bytes()))
    .into()
}

/// A seed: how, count, snap, instructions as they are, the packet.
fn program(all: &[(u16, u8, u8, u32)], packet: &[u8]) -> Vec<u8> {
    let mut out = vec![1, all.len() as u8, 64, 0];
    for (code, jt, jf, k) in all {
        out.extend(code.to_le_bytes());
        out.extend([*jt, *jf]);
        out.extend(k.to_le_bytes());
    }
    out.extend(packet);
    out
}

pub fn filter_program() -> Seeds {
    const A: (u16, u8, u8, u32) = (0x16, 0, 0, 0);
    let packet: Vec<u8> = (0..80).collect();
    let mut out: Seeds = Vec::new();
    let mut add = |name: &str, all: &[(u16, u8, u8, u32)]| {
        out.push((name.into(), program(all, &packet)));
    };
    add("ip", &[(0x28, 0, 0, 12), (0x15, 0, 1, 0xc0d), (6, 0, 0, 99), (6, 0, 0, 0)]);
    add("header-length", &[(0xb1, 0, 0, 14), (0x48, 0, 0, 2), (0x54, 0, 0, 31), A]);
    add("memory", &[(0x80, 0, 0, 0), (2, 0, 0, 15), (0x61, 0, 0, 15), (0x87, 0, 0, 0), A]);
    add("memory-unwritten", &[(0x60, 0, 0, 1), A]);
    add("memory-16", &[(2, 0, 0, 16), A]);
    add("divide-by-0", &[(0x34, 0, 0, 0), A]);
    add("divide-by-x", &[(0x80, 0, 0, 0), (1, 0, 0, 0), (0x3c, 0, 0, 0), A]);
    add("shift-32", &[(0x64, 0, 0, 32), A]);
    add("shift-by-x", &[(0, 0, 0, 5), (1, 0, 0, 34), (0x6c, 0, 0, 0), A]);
    add("jump-far", &[(5, 0, 0, u32::MAX), A]);
    add("jump-to-end", &[(0x15, 1, 0, 0), A]);
    add("no-ret", &[(0x80, 0, 0, 0)]);
    add("nothing", &[]);
    add("network-offset", &[(0x30, 0, 0, 0xfff0_0001), A]);
    add("link-offset", &[(0x30, 0, 0, 0xffe0_0001), A]);
    add("index-wraps", &[(1, 0, 0, 8), (0x50, 0, 0, u32::MAX), A]);
    add("negative", &[(0x20, 0, 0, 0x8000_0000), A]);
    add("at-the-end", &[(0x28, 0, 0, 78), (0x28, 0, 0, 79), A]);
    add("unknown-code", &[(0x8c, 0, 0, 0), A]);
    add("stray-bit", &[(0x106, 0, 0, 0), A]);
    add(
        "word-set-past-ret",
        &[(0x15, 0, 2, 5), (2, 0, 0, 1), (5, 0, 0, 1), (6, 0, 0, 1), (0x60, 0, 0, 1), (6, 0, 0, 1)],
    );
    for ancillary in (0..=64).step_by(4) {
        add(&format!("ancillary-{ancillary}"), &[(0x20, 0, 0, 0xffff_f000 + ancillary), A]);
    }
    // The other form, in which most bytes make a valid program.
    let mut easy = vec![0x80, 12, 0, 0];
    easy.extend((0..12 * 8 + 60).map(|n: u32| (n * 37 % 251) as u8));
    out.push(("easy".into(), easy));
    out
}

// ---- configuration ----

/// A seed for netring_capture_open: `how`, the size, the struct.
fn open(how: u8, size: u16, words: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; 56];
    let defaults = [56, NETRING_CAPTURE_CONFIG_INIT_WORD, 1 << 16, 4, 2048, 0, 60, 0, 1];
    for (index, word) in defaults.iter().enumerate().map(|(n, w)| (n, *w)).chain(words.to_vec()) {
        bytes[4 * index..][..4].copy_from_slice(&u32::to_ne_bytes(word));
    }
    let mut out = vec![0, how];
    out.extend(size.to_le_bytes());
    if how & 3 == 3 {
        out.extend(b"\x05fuzz0");
    }
    out.extend(bytes);
    out
}

pub fn config() -> Seeds {
    let mut out: Seeds = Vec::new();
    for (name, how, size, words) in [
        ("fine", 0x80, 56, &[][..]),
        ("any", 0x82, 56, &[]),
        ("no-such-interface", 0x83, 56, &[]),
        ("promiscuous-any", 0x82, 56, &[(8, 3)]),
        ("not-initialised", 0x40, 56, &[(1, 0)]),
        ("misaligned", 0xe0, 56, &[]),
        ("short", 0x90, 24, &[]),
        ("too-short", 0x90, 8, &[]),
        ("longer", 0x90, 80, &[]),
        ("too-long", 0x90, 5000, &[]),
        ("block-size-0", 0x80, 56, &[(2, 0)]),
        ("block-size-large", 0x80, 56, &[(2, 1 << 31)]),
        ("block-count-large", 0x80, 56, &[(3, 65_536)]),
        ("frame-size-odd", 0x80, 56, &[(4, 100)]),
        ("frames-many", 0x80, 56, &[(2, 1 << 30), (3, 65_535), (4, 96)]),
        ("snap-length", 0x80, 56, &[(5, 64)]),
        ("snap-length-ret-a", 0x88, 56, &[(5, 64)]),
        ("filter", 0x8c, 56, &[(5, 64)]),
        ("filter-bad", 0x80, 56, &[(12, 0x1234_5670)]),
        ("timeout-large", 0x80, 56, &[(6, 65_536)]),
        ("timeout-kernel", 0x80, 56, &[(6, u32::MAX)]),
        ("busy-poll-large", 0x80, 56, &[(7, u32::MAX)]),
        ("flags-unknown", 0x80, 56, &[(9, 1)]),
        ("memory-limit", 0x80, 56, &[(10, 4096)]),
        ("exact", 0x80, 56, &[(8, 0x41), (10, 1 << 17)]),
    ] {
        out.push((format!("open-{name}"), open(how, size, words)));
    }
    // Counters that went backwards.
    out.push(("since-less".into(), [&[6, 192, 0, 0][..], &[1; 192], &[2; 192]].concat()));
    for (name, bytes) in [
        ("fitting", &[4, 0, 128, 0, 64, 0, 128, 0, 0, 0, 0, 0, 1, 0, 0, 4, 0][..]),
        ("fitting-large", &[4, 0x3f, 0, 0, 0, 64, 255, 255, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]),
        ("init", &[5, 56, 0, 0, 1, 0, 0, 0]),
        ("init-long", &[5, 0, 16, 0, 4, 0, 0, 0]),
        ("init-short", &[5, 8, 0, 0, 0, 0, 0, 0]),
        ("init-misaligned", &[5, 56, 0, 4, 9, 0, 0, 0]),
        ("since", &[6, 192, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ("since-long", &[6, 0, 1, 1, 1, 2, 3]),
        ("numbers", &[7, 0xf7, 0xef, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("numbers-capture", &[7, 0xff, 0xff, 0xff, 0xff, 0x11, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        out.push((name.into(), bytes.to_vec()));
    }
    out
}

// ---- savefiles ----

/// A savefile being written in one byte order, behind its control bytes.
struct Savefile {
    bytes: Vec<u8>,
    big: bool,
}

impl Savefile {
    fn new(how: u8, split: u16, big: bool) -> Self {
        let mut bytes = vec![how];
        bytes.extend(split.to_le_bytes());
        Self { bytes, big }
    }

    fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.extend(value);
        self
    }

    fn pad(mut self, length: usize) -> Self {
        self.bytes.resize(self.bytes.len() + length.wrapping_neg() % 4, 0);
        self
    }

    fn pcap(self, magic: u32, version: (u16, u16), snap: u32, link_type: u32) -> Self {
        self.u32(magic).u16(version.0).u16(version.1).u32(0).u32(0).u32(snap).u32(link_type)
    }

    fn record(self, caplen: u32, len: u32, more: usize) -> Self {
        let data: Vec<u8> = (0..caplen as u8).collect();
        let fields = self.u32(1_700_000_000).u32(123_456).u32(caplen).u32(len);
        fields.raw(&vec![0; more]).raw(&data)
    }

    /// A pcapng block: what `body` adds, between its type and its lengths.
    fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let big = self.big;
        let inside = body(Self { bytes: Vec::new(), big }).bytes;
        let total = inside.len() as u32 + 12;
        self.u32(kind).u32(total).raw(&inside).u32(total)
    }

    fn section(self, big: bool) -> Self {
        let body = |block: Self| block.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
        Self { big, ..self }.block(0x0a0d_0d0a, body)
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).raw(value).pad(value.len())
    }

    fn interface(self, link_type: u16, snap: u32, options: &[(u16, &[u8])]) -> Self {
        self.block(1, |mut block| {
            block = block.u16(link_type).u16(0).u32(snap);
            for (code, value) in options {
                block = block.option(*code, value);
            }
            if options.is_empty() { block } else { block.u32(0) }
        })
    }

    fn enhanced(self, interface: u32, time: u64, caplen: u32, options: &[(u16, &[u8])]) -> Self {
        let data: Vec<u8> = (0..caplen as u8).collect();
        self.block(6, |mut block| {
            block = block.u32(interface).u32((time >> 32) as u32).u32(time as u32);
            block = block.u32(caplen).u32(caplen + 4).raw(&data).pad(data.len());
            for (code, value) in options {
                block = block.option(*code, value);
            }
            block
        })
    }
}

pub fn reader() -> Seeds {
    const MICRO: u32 = 0xa1b2_c3d4;
    const NOW: u64 = 1_700_000_000_123_456;
    let new = Savefile::new;
    let mut out: Seeds = Vec::new();
    for (order, big) in [("le", false), ("be", true)] {
        let mut add =
            |name: &str, file: Savefile| out.push((format!("{name}-{order}"), file.bytes));
        let file = |magic, version| new(0, 50, big).pcap(magic, version, 262_144, 1);
        add("pcap", file(MICRO, (2, 4)).record(20, 60, 0).record(0, 0, 0).record(9, 9, 0));
        add("pcap-nano", file(0xa1b2_3c4d, (2, 4)).record(20, 20, 0));
        add("pcap-modified", file(0xa1b2_cd34, (2, 4)).record(20, 20, 8).record(3, 3, 8));
        add("pcap-2.3", file(MICRO, (2, 3)).record(60, 20, 0));
        add("pcap-543", file(MICRO, (543, 0)).record(10, 10, 0));
        add("pcap-2.9", file(MICRO, (2, 9)).record(10, 10, 0));
        add("pcap-empty", file(MICRO, (2, 4)));
        add("pcap-filtered", new(0x2a, 9, big).pcap(MICRO, (2, 4), 64, 101).record(20, 20, 0));
        add("pcap-raw", new(3, 24, big).pcap(MICRO, (2, 4), 64, 101).record(20, 20, 0));
        add("pcap-snap-length", new(0, 1, big).pcap(MICRO, (2, 4), 8, 1).record(20, 20, 0));
        // More than one block; all memory is held.
        let many = new(1, 500, big).pcap(MICRO, (2, 4), 64, 1);
        add("pcap-many", (0..60).fold(many, |file, n| file.record(n % 3, 9, 0)));
        let mut cut = file(MICRO, (2, 4)).record(20, 20, 0).record(30, 30, 0);
        cut.bytes.truncate(cut.bytes.len() - 7);
        add("pcap-cut", cut);
        add("pcap-length", file(MICRO, (2, 4)).u32(1).u32(1).u32(u32::MAX).u32(4));

        let begun = || new(1, 60, big).section(big);
        let plain = || begun().interface(1, 0, &[]);
        add("pcapng", plain().enhanced(0, NOW, 21, &[]).enhanced(0, NOW + 1, 4, &[]));
        add("pcapng-empty", begun());
        let options: &[(u16, &[u8])] = &[(2, b"eth0"), (9, &[9]), (14, &[0, 0, 0, 0, 0, 0, 0, 1])];
        let flags: &[(u16, &[u8])] = &[(2, &[2, 0, 0, 2]), (0, &[])];
        add("pcapng-options", begun().interface(1, 96, options).enhanced(0, NOW, 6, flags));
        let binary: &[(u16, &[u8])] = &[(9, &[0x8a]), (3, b"something")];
        add("pcapng-binary", begun().interface(1, 0, binary).enhanced(0, NOW, 6, &[]));
        let simple = |block: Savefile| block.u32(30).raw(&[7; 12]);
        add("pcapng-simple", begun().interface(1, 10, &[]).block(3, simple));
        let obsolete =
            |block: Savefile| block.u16(0).u16(3).u32(0).u32(77).u32(5).u32(9).raw(b"abcde\0\0\0");
        add("pcapng-obsolete", plain().block(2, obsolete));
        let counters = |block: Savefile| {
            let counted = block.u32(0).u64(0).option(4, &[1; 8]).option(5, &[2; 8]);
            counted.option(7, &[3; 8]).u32(0)
        };
        add("pcapng-statistics", plain().block(5, counters).enhanced(0, NOW, 3, &[]));
        let unknown = |block: Savefile| block.raw(&[9; 40]);
        add("pcapng-unknown", plain().block(0xbad, unknown).enhanced(0, NOW, 3, &[]));
        let two = plain().interface(1, 0, &[]).enhanced(1, NOW, 3, &[]).enhanced(0, NOW, 3, &[]);
        add("pcapng-interfaces", two);
        let types = plain().interface(101, 0, &[]).enhanced(1, NOW, 3, &[]).enhanced(0, 1, 3, &[]);
        add("pcapng-link-types", types);
        let turned = plain().enhanced(0, NOW, 5, &[]).section(!big).interface(1, 0, &[]);
        add("pcapng-sections", turned.enhanced(0, NOW, 6, &[]));
        add("pcapng-no-interface", begun().enhanced(0, NOW, 3, &[]));
        add("pcapng-long", plain().u32(6).u32(u32::MAX - 3).u32(0).u32(0));
        let mut lengths = plain().enhanced(0, NOW, 5, &[]);
        let last = lengths.bytes.len() - 2;
        lengths.bytes[last] ^= 1;
        add("pcapng-two-lengths", lengths);
        let mut cut = plain().enhanced(0, NOW, 50, &[]);
        cut.bytes.truncate(cut.bytes.len() - 20);
        add("pcapng-cut", cut);
    }
    for (name, bytes) in
        [("nothing", &b""[..]), ("gzip", b"\x1f\x8b\x08\0\0\0\0\0"), ("two-bytes", b"\xd4\xc3")]
    {
        out.push((name.into(), new(0, 0, false).raw(bytes).bytes));
    }
    out
}
