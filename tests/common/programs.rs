//! Random classic programs.
#![allow(dead_code)] // each test uses some of it

use netring::filter::Instruction;

pub const AD_OFF: u32 = 0xffff_f000;
pub const NET_OFF: u32 = 0xfff0_0000;
pub const LL_OFF: u32 = 0xffe0_0000;

pub fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction::new(code, jt, jf, k)
}

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("NETRING_TEST_SEED")
            .map_or(0x9e37_79b9_7f4a_7c15, |s| s.parse::<u64>().expect("NETRING_TEST_SEED"));
        eprintln!("{test}: NETRING_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn word(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// 0 to `n` - 1
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

pub fn rounds(n: usize) -> usize {
    n * std::env::var("NETRING_TEST_ROUNDS").map_or(1, |s| s.parse().expect("NETRING_TEST_ROUNDS"))
}

pub const INTERESTING: [u32; 20] = [
    0,
    1,
    2,
    3,
    4,
    14,
    15,
    16,
    31,
    32,
    33,
    255,
    256,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
    NET_OFF,
    LL_OFF,
    AD_OFF,
    LL_OFF - 1,
];

/// The ancillary offsets, but those that differ from call to call (CPU, RANDOM).
pub const ANCILLARY: [u32; 14] = [0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 44, 48, 52, 60];

/// What a generated program may contain.
#[derive(Clone, Copy, PartialEq)]
pub enum Dialect {
    /// Everything Linux has.
    Linux,
    /// What libpcap's interpreter does alike: no ancillary loads, no shifts by
    /// X (32 and more give 0 there), X small enough not to wrap in an index.
    Portable,
}

/// A valid program of up to `most` instructions that mostly looks at the first
/// `reach` bytes.
pub fn valid_program(
    r: &mut Random,
    most: usize,
    reach: u32,
    dialect: Dialect,
) -> Vec<Instruction> {
    let linux = dialect == Dialect::Linux;
    let count = 2 + r.below(most - 1);
    let mut all = Vec::new();
    // The words written here are written on every path.
    let written = if count > 4 { r.below(3) as u32 } else { 0 };
    for word in 0..written {
        all.push(i(0x02, 0, 0, word));
    }
    while all.len() < count - 1 {
        let left = count - 1 - all.len(); // instructions after this one, the last a ret
        let offset = match r.below(12) {
            0 if linux => r.pick(&INTERESTING),
            1 if linux => NET_OFF + r.below(reach as usize) as u32,
            2 if linux => LL_OFF + r.below(reach as usize) as u32,
            _ => r.below(reach as usize) as u32,
        };
        let value = match r.below(3) {
            0 => r.pick(&INTERESTING),
            1 => r.below(300) as u32,
            _ => r.word(),
        };
        let x = if r.one_in(3) { 0x08 } else { 0 };
        all.push(match r.below(17) {
            0..=2 if linux && r.one_in(4) => {
                i(r.pick(&[0x20, 0x28, 0x30]), 0, 0, AD_OFF + r.pick(&ANCILLARY))
            }
            // Always known offsets, or a refusal would be all there is.
            0..=2 if offset >= AD_OFF => i(0x30, 0, 0, 0),
            0..=2 => i(r.pick(&[0x20, 0x28, 0x30]), 0, 0, offset),
            3 | 4 => i(r.pick(&[0x40, 0x48, 0x50]), 0, 0, offset),
            5 => i(0x01, 0, 0, if linux && r.one_in(4) { value } else { offset.min(reach) }),
            6 => i(0xb1, 0, 0, offset),
            7 => i(r.pick(&[0x80, 0x81, 0x84, 0x87]), 0, 0, r.word()),
            8 if linux => i(0x07, 0, 0, 0),
            8 => i(0x00, 0, 0, value),
            9 if written > 0 => {
                let codes: &[u16] =
                    if linux { &[0x02, 0x03, 0x60, 0x61] } else { &[0x02, 0x03, 0x60] };
                i(r.pick(codes), 0, 0, r.below(written as usize) as u32)
            }
            9 => i(0x00, 0, 0, value),
            10 | 11 => i(r.pick(&[0x04, 0x14, 0x24, 0x44, 0x54, 0xa4]) | x, 0, 0, value),
            12 => i(r.pick(&[0x34, 0x94]) | x, 0, 0, value.max(1)),
            13 => {
                let x = if linux { x } else { 0 };
                i(r.pick(&[0x64, 0x74]) | x, 0, 0, if x == 0 { value % 32 } else { value })
            }
            14 => i(0x05, 0, 0, r.below(left.min(4)) as u32),
            15 if r.one_in(3) => ret(r, reach),
            _ => {
                let (jt, jf) = (r.below(left.min(250)) as u8, r.below(left.min(4)) as u8);
                let (jt, jf) = if r.one_in(2) { (jf, jt) } else { (jt, jf) };
                i(r.pick(&[0x15, 0x25, 0x35, 0x45]) | x, jt, jf, value)
            }
        });
    }
    if r.one_in(2) {
        // Some bits of what was computed become the length that is kept: any
        // difference shows.
        let end = [i(0x74, 0, 0, r.below(32) as u32), i(0x54, 0, 0, 0x3f), i(0x16, 0, 0, 0)];
        all.extend(end);
    } else {
        all.push(ret(r, reach));
    }
    all
}

/// One operation on known registers, with its result in plain sight.
pub fn focused_program(r: &mut Random, reach: u32) -> Vec<Instruction> {
    let value = |r: &mut Random| if r.one_in(2) { r.pick(&INTERESTING) } else { r.word() };
    let (a, x) = (value(r), value(r));
    let place = r.below(reach as usize) as u32;
    let mut all = vec![i(0x00, 0, 0, a), i(0x01, 0, 0, x)];
    let operation = match r.below(6) {
        0 | 1 => i(r.pick(&[0x20, 0x28, 0x30]), 0, 0, AD_OFF + r.pick(&ANCILLARY)),
        // X + k wraps to a place in the packet, or to one that counts from a header.
        2 => {
            let start = r.pick(&[0, 0, NET_OFF, LL_OFF]) + place;
            i(r.pick(&[0x40, 0x48, 0x50]), 0, 0, start.wrapping_sub(x))
        }
        3 => i(r.pick(&[0x20, 0x28, 0x30]), 0, 0, r.pick(&[0, NET_OFF, LL_OFF]) + place),
        4 => i(r.pick(&[0x3c, 0x9c, 0x6c, 0x7c, 0x2c, 0xac, 0x84, 0x87]), 0, 0, 0),
        _ => {
            all.push(i(0xb1, 0, 0, place));
            i(0x87, 0, 0, 0)
        }
    };
    all.push(operation);
    all.extend([i(0x74, 0, 0, r.pick(&[0, 0, 0, 6, 12, 24])), i(0x54, 0, 0, 0x3f)]);
    // 0 kept and rejected for another reason would look alike.
    all.extend([i(0x04, 0, 0, 1), i(0x16, 0, 0, 0)]);
    all
}

pub fn ret(r: &mut Random, reach: u32) -> Instruction {
    match r.below(5) {
        0 => i(0x06, 0, 0, 0),
        1 => i(0x06, 0, 0, r.below(reach as usize) as u32),
        2 => i(0x06, 0, 0, r.word()),
        _ => i(0x16, 0, 0, 0),
    }
}
