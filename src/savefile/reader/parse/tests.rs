//! Pieces of the parser; files as a whole are the C suite's (tests/c/test_reader.c).

use super::*;

#[test]
fn resolutions() {
    assert_eq!(resolution(6), Some(1_000_000));
    assert_eq!(resolution(9), Some(1_000_000_000));
    assert_eq!(resolution(0), Some(1));
    assert_eq!(resolution(19), Some(10_000_000_000_000_000_000));
    assert_eq!(resolution(20), None);
    assert_eq!(resolution(0x80), Some(1));
    assert_eq!(resolution(0x80 | 10), Some(1024));
    assert_eq!(resolution(0x80 | 63), Some(1 << 63));
    assert_eq!(resolution(0x80 | 64), None);
    assert_eq!(resolution(0xff), None);
}

#[test]
fn times() {
    let at = |units, resolution, offset| {
        let interface = Interface { resolution, offset, ..Interface::default() };
        time(nanoseconds(units, &interface))
    };
    assert_eq!(at(1_500_000, 1_000_000, 0), (1, 500_000_000));
    assert_eq!(at(1_500_000, 1_000_000, 100), (101, 500_000_000));
    assert_eq!(at(1_500_000, 1_000_000, -1), (0, 500_000_000));
    assert_eq!(at(1_500_000, 1_000_000, -2), (0, 0));
    assert_eq!(at(1_536, 1024, 0), (1, 500_000_000));
    // Finer than nanoseconds: cut off.
    assert_eq!(at(2_000_000_001_999, 1_000_000_000_000, 0), (2, 1));
    assert_eq!(at(u64::MAX, 1 << 63, 0), (1, 999_999_999));
    assert_eq!(at(u64::MAX, 1, 0), (u32::MAX, 999_999_999));
    assert_eq!(at(u64::MAX, 1, i64::MIN), (u32::MAX, 999_999_999));
    assert_eq!(at(0, 1, i64::MIN), (0, 0));
    assert_eq!(at(u64::from(u32::MAX), 1, 0), (u32::MAX, 0));
}

#[test]
fn directions() {
    assert_eq!(direction(0), None);
    assert_eq!(direction(3), None);
    assert_eq!(direction(1), Some(NETRING_DIRECTION_HOST));
    assert_eq!(direction(1 | 1 << 2), Some(NETRING_DIRECTION_HOST));
    assert_eq!(direction(1 | 2 << 2), Some(NETRING_DIRECTION_MULTICAST));
    assert_eq!(direction(1 | 3 << 2), Some(NETRING_DIRECTION_BROADCAST));
    assert_eq!(direction(1 | 4 << 2), Some(NETRING_DIRECTION_OTHERHOST));
    assert_eq!(direction(2 | 3 << 2 | 0x1e0), Some(NETRING_DIRECTION_OUTGOING));
    // A kind of reception without a direction says nothing of one.
    assert_eq!(direction(2 << 2), None);
}

#[test]
fn texts() {
    assert_eq!(text(b"eth0"), "eth0");
    assert_eq!(text(b"eth0\0junk"), "eth0");
    assert_eq!(text(b"\xff"), "\u{fffd}");
    assert!(text(&[0xff; 1000]).len() <= LONGEST_TEXT);
    assert_eq!(text(&[b'x'; 1000]).len(), LONGEST_TEXT);
}
