//! Bytes as a savefile. Reading ends, with the end or with an error that names a
//! byte of the file; packets are bytes of the file, every walk gives the same,
//! the counters add up, and the memory stays in its bound. A pipe gives what a
//! file gives, in whatever pieces it comes, and a filter cuts as it says. libpcap
//! reads the same packets.

use crate::input::Input;
use crate::walker::{Seen, inline, read};
use netring::ffi::block::{
    netring_block, netring_block_info, netring_block_release, netring_block_view,
};
use netring::ffi::capture::netring_stats;
use netring::ffi::error::{NETRING_EIO, NETRING_ESHUTDOWN, netring_error};
use netring::ffi::filter::{netring_filter_free, netring_filter_new};
use netring::ffi::reader::{
    netring_reader, netring_reader_close, netring_reader_config, netring_reader_config_init,
    netring_reader_info, netring_reader_interface, netring_reader_last_error,
    netring_reader_next_block, netring_reader_open_fd, netring_reader_stats,
};
use netring::filter::Instruction;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// What the blocks of a reader may take: one of the smallest, which few packets fill.
const BLOCKS: u64 = 1;
const BLOCK: u32 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    seen: Seen,
    data: Vec<u8>,
}

impl Packet {
    /// All but where it lies.
    fn told(&self) -> (Seen, &[u8]) {
        (Seen { at: 0, cookie: 0, ..self.seen.clone() }, &self.data)
    }
}

/// How reading ended: the code, and the words of the error without the file's name.
type End = (c_int, String);

#[derive(Debug)]
struct Reading {
    packets: Vec<Packet>,
    end: End,
}

pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (how, split) = (input.u8(), usize::from(input.u16()));
    let file = input.0;

    let whole = through_file(file, how & 1 != 0, None);
    for packet in whole.packets.iter().take(32) {
        assert!(lies_in(&packet.data, file), "a packet that is not in the file");
    }
    let piped = through_pipe(file, split % (file.len() + 1));
    assert_eq!(piped.end.0, whole.end.0, "a pipe ends with {:?}", piped.end);
    same(&piped.packets, &whole.packets, "through a pipe");
    if how & 2 != 0 {
        let keep = u32::from(how >> 2);
        let filtered = through_file(file, false, Some(keep));
        assert_eq!(filtered.end.0, whole.end.0);
        let kept: &[Packet] = if keep == 0 { &[] } else { &whole.packets };
        assert_eq!(filtered.packets.len(), kept.len());
        for (cut, packet) in filtered.packets.iter().zip(kept) {
            let most = packet.data.len().min(keep as usize);
            assert_eq!(cut.data, packet.data[..most]);
            assert_eq!((cut.seen.len, cut.seen.time_ns), (packet.seen.len, packet.seen.time_ns));
        }
    }
    through_blocks(file, &whole);
    through_libpcap(file, &whole);
}

fn same(one: &[Packet], other: &[Packet], what: &str) {
    assert_eq!(one.len(), other.len(), "{what}");
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.told(), other.told(), "{what}");
    }
}

fn lies_in(needle: &[u8], file: &[u8]) -> bool {
    let (haystack, length) = (file.as_ptr().cast::<c_void>(), file.len());
    // SAFETY: two slices.
    let found = unsafe { libc::memmem(haystack, length, needle.as_ptr().cast(), needle.len()) };
    !found.is_null()
}

// ---- the reader ----

fn memory_file(bytes: &[u8]) -> OwnedFd {
    // SAFETY: a string and a flag.
    let fd = unsafe { libc::memfd_create(c"savefile".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: just created.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(bytes).unwrap();
    // SAFETY: three numbers.
    assert_eq!(unsafe { libc::lseek(fd, 0, libc::SEEK_SET) }, 0);
    file.into()
}

/// A reader of the descriptor, or how opening it ended. Its memory is small.
fn open(fd: RawFd, keep: Option<u32>) -> Result<*mut netring_reader, End> {
    let mut config = MaybeUninit::<netring_reader_config>::uninit();
    let size = size_of::<netring_reader_config>();
    // SAFETY: as large as that.
    assert_eq!(unsafe { netring_reader_config_init(config.as_mut_ptr(), size) }, 0);
    // SAFETY: initialised.
    let mut config = unsafe { config.assume_init() };
    config.block_size = BLOCK;
    config.packet_limit = BLOCK - 256;
    config.memory_limit = BLOCKS * u64::from(BLOCK);
    if let Some(keep) = keep {
        let program = [Instruction::new(0x06, 0, 0, keep)];
        // SAFETY: one instruction.
        let rc =
            unsafe { netring_filter_new(program.as_ptr(), 1, &raw mut config.filter, null_mut()) };
        assert_eq!(rc, 0);
    }
    let mut reader = null_mut();
    let mut error = MaybeUninit::<netring_error>::uninit();
    // SAFETY: an initialised configuration, two outputs.
    let rc = unsafe {
        netring_reader_open_fd(fd, &raw const config, &raw mut reader, error.as_mut_ptr())
    };
    // SAFETY: any value is checked; always fully written.
    let (freed, error) = unsafe { (netring_filter_free(config.filter), error.assume_init()) };
    assert_eq!((freed, error.code), (0, rc));
    if rc == 0 { Ok(reader) } else { Err((rc, words(&error))) }
}

fn words(error: &netring_error) -> String {
    // SAFETY: NUL-terminated.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().expect("UTF-8");
    message.split_once(": ").map_or(message, |(_, words)| words).to_owned()
}

/// The next block, or `None` where nothing can be had now.
fn next(reader: *mut netring_reader) -> Result<Option<*mut netring_block>, c_int> {
    let mut block = null_mut();
    // SAFETY: an output.
    match unsafe { netring_reader_next_block(reader, 0, &raw mut block) } {
        0 => Ok(None),
        1 => Ok(Some(block)),
        rc => Err(rc),
    }
}

/// The packets of a block, which every walk gives alike.
fn packets(block: *mut netring_block) -> Vec<Packet> {
    let mut view = MaybeUninit::<netring_block_view>::uninit();
    let mut info = MaybeUninit::<netring_block_info>::uninit();
    // SAFETY: as large as said.
    let rc = unsafe {
        [
            netring_block_view(block, view.as_mut_ptr(), size_of::<netring_block_view>()),
            netring_block_info(block, info.as_mut_ptr(), size_of::<netring_block_info>()),
        ]
    };
    assert_eq!(rc, [0; 2]);
    // SAFETY: filled by calls that succeeded.
    let (view, info) = unsafe { (view.assume_init(), info.assume_init()) };
    let (seen, damaged) = read(block, view.base, 64, 16);
    assert!(!damaged, "a block that the reader made is damaged");
    assert_eq!((seen.len(), info.count), (view.count as usize, view.count));
    assert_eq!(inline(block, view.base, false, seen.len()), (seen.clone(), false));
    assert!(!seen.is_empty(), "an empty block");
    assert_eq!(seen[0].time_ns, info.first_ns);
    assert_eq!(seen[seen.len() - 1].time_ns, info.last_ns);
    let with_bytes = |seen: Seen| {
        assert!(seen.at + u64::from(seen.caplen) <= view.length);
        let at = view.base.wrapping_add(seen.at as usize);
        // SAFETY: inside the block, as just checked; the block is held.
        let data = unsafe { std::slice::from_raw_parts(at, seen.caplen as usize) }.to_vec();
        Packet { seen, data }
    };
    seen.into_iter().map(with_bytes).collect()
}

fn release(block: *mut netring_block) {
    // SAFETY: the last user.
    assert_eq!(unsafe { netring_block_release(block) }, 0);
}

/// Reads until there is nothing now, or until the end. `hold`: releases only when
/// all memory is held.
fn drain(reader: *mut netring_reader, hold: bool, out: &mut Vec<Packet>) -> Result<(), c_int> {
    let mut held = Vec::new();
    let result = loop {
        match next(reader) {
            Ok(Some(block)) => {
                out.extend(packets(block));
                held.push(block);
                if !hold {
                    held.drain(..).for_each(release);
                }
            }
            Ok(None) if held.is_empty() => break Ok(()),
            // It goes on once memory is given back.
            Ok(None) => held.drain(..).for_each(release),
            Err(rc) => break Err(rc),
        }
        bounded(reader);
        assert!(out.len() <= 1 << 16, "more packets than the file can have");
    };
    held.drain(..).for_each(release);
    result
}

fn bounded(reader: *mut netring_reader) {
    let mut info = MaybeUninit::<netring_reader_info>::uninit();
    let size = size_of::<netring_reader_info>();
    // SAFETY: as large as that.
    assert_eq!(unsafe { netring_reader_info(reader, info.as_mut_ptr(), size) }, 0);
    // SAFETY: filled by a call that succeeded.
    let info = unsafe { info.assume_init() };
    assert!(info.memory <= info.memory_limit && info.memory_limit <= BLOCKS * u64::from(BLOCK));
    let mut interface = MaybeUninit::<netring_reader_interface>::uninit();
    let size = size_of::<netring_reader_interface>();
    for number in [0, info.interfaces.wrapping_sub(1), info.interfaces] {
        // SAFETY: as large as that.
        let rc = unsafe { netring_reader_interface(reader, number, interface.as_mut_ptr(), size) };
        assert_eq!(rc == 0, number < info.interfaces, "interface {number}");
    }
}

/// The end, met again whenever it is asked for, and counters that add up.
fn finish(reader: *mut netring_reader, rc: c_int, packets: Vec<Packet>, length: usize) -> Reading {
    assert_eq!(next(reader), Err(rc), "another end");
    let mut error = MaybeUninit::<netring_error>::uninit();
    let mut stats = MaybeUninit::<netring_stats>::uninit();
    // SAFETY: as large as said.
    let calls = unsafe {
        [
            netring_reader_last_error(reader, error.as_mut_ptr()),
            netring_reader_stats(reader, stats.as_mut_ptr(), size_of::<netring_stats>()),
        ]
    };
    assert_eq!(calls, [0; 2]);
    // SAFETY: filled by calls that succeeded.
    let (error, stats) = unsafe { (error.assume_init(), stats.assume_init()) };
    assert_eq!((error.code, stats.pending, stats.blocks_held), (rc, 0, 0));
    assert_eq!(stats.received, stats.delivered + stats.filtered_late);
    assert_eq!(stats.delivered, packets.len() as u64);
    let cut = packets.iter().filter(|packet| packet.seen.caplen < packet.seen.len).count();
    assert_eq!(stats.truncated, cut as u64);
    let words = words(&error);
    ends_in(rc, &words, length);
    // SAFETY: any value is checked.
    assert_eq!(unsafe { netring_reader_close(reader) }, 0);
    Reading { packets, end: (rc, words) }
}

/// The end of the file, or damage with its place in it.
fn ends_in(rc: c_int, words: &str, length: usize) {
    if rc == NETRING_ESHUTDOWN {
        assert!(words.contains(&format!("after {length} bytes")), "{words}");
        return;
    }
    assert_eq!(rc, NETRING_EIO, "{words}");
    let place = words.strip_prefix("byte ").and_then(|rest| rest.split_once(':'));
    let place: usize = place.expect("a place").0.parse().expect("a place");
    assert!(place <= length, "byte {place} of {length}: {words}");
}

fn through_file(bytes: &[u8], hold: bool, keep: Option<u32>) -> Reading {
    let file = memory_file(bytes);
    let reader = match open(file.as_raw_fd(), keep) {
        Ok(reader) => reader,
        Err(end) => {
            ends_in(end.0, &end.1, bytes.len());
            return Reading { packets: Vec::new(), end };
        }
    };
    let mut packets = Vec::new();
    let rc = drain(reader, hold, &mut packets).expect_err("a file that has to be waited for");
    finish(reader, rc, packets, bytes.len())
}

/// In two pieces, the second when the first was read as far as it goes.
fn through_pipe(bytes: &[u8], split: usize) -> Reading {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: just created.
    let (from, to) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    let mut to = File::from(to);
    let reader = open(from.as_raw_fd(), None).expect("a pipe can always be opened");
    let mut packets = Vec::new();
    let mut result = Ok(());
    for piece in [&bytes[..split], &bytes[split..]] {
        // A pipe holds 64 KiB: this never waits.
        to.write_all(piece).unwrap();
        if result.is_ok() {
            result = drain(reader, false, &mut packets);
        }
    }
    drop(to);
    if result.is_ok() {
        result = drain(reader, true, &mut packets);
    }
    finish(reader, result.expect_err("an end"), packets, bytes.len())
}

// ---- the blocks of a pcapng file ----

/// The interface of each packet by the blocks alone, and whether they fill the
/// file. `None`: another format.
fn blocks(file: &[u8]) -> Option<(Vec<u32>, bool)> {
    const SECTION: u32 = 0x0a0d_0d0a;
    let word = |at: usize, big: bool| {
        let four = file.get(at..at + 4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    if word(0, false) != Some(SECTION) {
        return None;
    }
    let (mut packets, mut at, mut big) = (Vec::new(), 0, false);
    let (mut interfaces, mut first) = (0_u32, 0);
    while let Some(kind) = word(at, big) {
        if word(at, false) == Some(SECTION) {
            big = word(at + 8, true) == Some(0x1a2b_3c4d);
            first = interfaces;
        }
        let total = word(at + 4, big).map_or(0, |total| total as usize);
        let again = at.checked_add(total).and_then(|end| word(end.checked_sub(4)?, big));
        // As libpcap has it, nobody looks at the second length of the first block.
        if total < 12 || again.is_none() || again != Some(total as u32) && at != 0 {
            break;
        }
        let id = word(at + 8, big).unwrap_or(0);
        match kind {
            1 => interfaces += 1,
            2 => packets.push(first + 1 + if big { id >> 16 } else { id & 0xffff }),
            3 => packets.push(first + 1),
            6 => packets.push(first.wrapping_add(id).wrapping_add(1)),
            _ => {}
        }
        at += total;
    }
    Some((packets, at == file.len()))
}

fn through_blocks(file: &[u8], ours: &Reading) {
    let Some((interfaces, whole)) = blocks(file) else {
        return;
    };
    let found: Vec<u32> = ours.packets.iter().map(|packet| packet.seen.ifindex).collect();
    assert!(interfaces.starts_with(&found), "interfaces {found:?}, by the blocks {interfaces:?}");
    if ours.end.0 == NETRING_ESHUTDOWN {
        assert!(whole, "the end before the end of the blocks");
        assert_eq!(found.len(), interfaces.len());
    }
}

// ---- libpcap ----

#[repr(C)]
struct Header {
    seconds: c_long,
    fraction: c_long,
    caplen: c_uint,
    len: c_uint,
}

type OpenOffline = unsafe extern "C" fn(*mut libc::FILE, c_uint, *mut c_char) -> *mut c_void;
type NextEx = unsafe extern "C" fn(*mut c_void, *mut *const Header, *mut *const u8) -> c_int;
type Close = unsafe extern "C" fn(*mut c_void);

struct Libpcap {
    open: OpenOffline,
    next: NextEx,
    close: Close,
}

fn libpcap() -> Option<&'static Libpcap> {
    static LIBRARY: OnceLock<Option<Libpcap>> = OnceLock::new();
    let load = || {
        // SAFETY: strings; libpcap's initialisers have no needs.
        let handle = unsafe {
            let first = libc::dlopen(c"libpcap.so.1".as_ptr(), libc::RTLD_NOW);
            if first.is_null() {
                libc::dlopen(c"libpcap.so.0.8".as_ptr(), libc::RTLD_NOW)
            } else {
                first
            }
        };
        // SAFETY: an open library, or NULL: all of the process.
        let symbol = |name: &CStr| unsafe { libc::dlsym(handle, name.as_ptr()) };
        let open = symbol(c"pcap_fopen_offline_with_tstamp_precision");
        if handle.is_null() || open.is_null() {
            return None;
        }
        // SAFETY: the signatures of <pcap/pcap.h>; all are as old as the first.
        Some(unsafe {
            Libpcap {
                open: std::mem::transmute::<*mut c_void, OpenOffline>(open),
                next: std::mem::transmute::<*mut c_void, NextEx>(symbol(c"pcap_next_ex")),
                close: std::mem::transmute::<*mut c_void, Close>(symbol(c"pcap_close")),
            }
        })
    };
    LIBRARY.get_or_init(load).as_ref()
}

/// What libpcap reads: seconds, nanoseconds, length, bytes; and whether it came to
/// the end. `None`: it opens no such file.
type Theirs = Option<(Vec<(i64, i64, u32, Vec<u8>)>, bool)>;

fn their_packets(pcap: &Libpcap, bytes: &[u8]) -> Theirs {
    const NANOSECONDS: c_uint = 1;
    let file = memory_file(bytes);
    // SAFETY: a descriptor that the stream gets for its own.
    let stream = unsafe { libc::fdopen(libc::dup(file.as_raw_fd()), c"rb".as_ptr()) };
    assert!(!stream.is_null());
    let mut message = [0; 256];
    // SAFETY: an open stream; room for PCAP_ERRBUF_SIZE.
    let handle = unsafe { (pcap.open)(stream, NANOSECONDS, message.as_mut_ptr()) };
    if handle.is_null() {
        // SAFETY: still ours after a failure.
        unsafe { libc::fclose(stream) };
        return None;
    }
    let mut out = Vec::new();
    let end = loop {
        let (mut header, mut data) = (std::ptr::null(), std::ptr::null());
        // SAFETY: an open handle, two outputs.
        let rc = unsafe { (pcap.next)(handle, &raw mut header, &raw mut data) };
        if rc != 1 {
            break rc == -2;
        }
        // SAFETY: both were written, and live until the next call.
        let (header, data) = unsafe {
            let header = &*header;
            (header, std::slice::from_raw_parts(data, header.caplen as usize).to_vec())
        };
        out.push((header.seconds, header.fraction, header.len, data));
    };
    // SAFETY: an open handle; closes the stream too.
    unsafe { (pcap.close)(handle) };
    Some((out, end))
}

/// libpcap changes the bytes of some link types when it swaps them, and their lengths.
fn left_alone(link_type: u16) -> bool {
    matches!(link_type, 0 | 1 | 101)
}

fn through_libpcap(bytes: &[u8], ours: &Reading) {
    let Some(pcap) = libpcap() else { return };
    let Some((theirs, end)) = their_packets(pcap, bytes) else {
        return;
    };
    for (index, (our, their)) in ours.packets.iter().zip(&theirs).enumerate() {
        let (seconds, nanoseconds, len, data) = their;
        if left_alone(our.seen.link_type) {
            assert_eq!((&our.data, our.seen.len), (data, *len), "packet {index}");
        }
        // What a record cannot hold is the nearest that it can.
        let fits = u32::try_from(*seconds).is_ok() && (0..1_000_000_000).contains(nanoseconds);
        if fits {
            let time = *seconds as u64 * 1_000_000_000 + *nanoseconds as u64;
            assert_eq!(our.seen.time_ns, time, "packet {index}");
        }
    }
    let ended = ours.end.0 == NETRING_ESHUTDOWN;
    assert!(
        ours.packets.len() >= theirs.len(),
        "libpcap reads {} packets, the reader {}: {:?}",
        theirs.len(),
        ours.packets.len(),
        ours.end
    );
    if end {
        assert!(ended, "libpcap comes to the end, the reader to {:?}", ours.end);
        assert_eq!(ours.packets.len(), theirs.len());
    }
}
