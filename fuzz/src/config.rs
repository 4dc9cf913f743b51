//! Bytes as struct netring_capture_config and the other sized structs, with
//! sizes that may be wrong. Every value gets the documented answer; nothing
//! behind a struct is read or written; the error struct is always whole. A ring
//! that is let through keeps its bound, and is one that the kernel takes. No ring
//! is ever opened: the thread gives its privileges up first.

use crate::input::Input;
use crate::memory::{Guarded, Place};
use netring::afpacket::selection::{Selection, Terms};
use netring::config::{Bound, CaptureConfig, Geometry, MemoryBound, flags};
use netring::error::{Error, Kind};
use netring::ffi::capture::{
    netring_capture, netring_capture_close, netring_capture_fd, netring_capture_next_block,
    netring_capture_open, netring_capture_stats, netring_capture_stop, netring_stats,
    netring_stats_since,
};
use netring::ffi::config::{
    NETRING_CAPTURE_CONFIG_INIT_WORD, netring_capture_config, netring_capture_config_init,
    netring_capture_config_profile,
};
use netring::ffi::error::{
    NETRING_EBADF, NETRING_EINVAL, NETRING_EMMAP, NETRING_ENODEV, NETRING_EPERM, netring_err_name,
    netring_error, netring_strerror,
};
use netring::ffi::filter::{netring_filter, netring_filter_free, netring_filter_new};
use netring::filter::{Instruction, Program};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::{MaybeUninit, size_of};
use std::ptr::null_mut;

const LONGEST: usize = 4096;
const SHORTEST: usize = 16;

thread_local! {
    static MEMORY: [Guarded; 3] = [(); 3].map(|()| Guarded::new(2 * LONGEST));
    static UNPRIVILEGED: () = give_up_privileges();
}

/// Opening stops at socket() then, and looking an interface up loads no module.
pub fn give_up_privileges() {
    // _LINUX_CAPABILITY_VERSION_3 of this thread; none effective, permitted, inheritable.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: the layouts that capset(2) wants.
    let rc = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(rc, 0, "capset");
    // SAFETY: three numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert_eq!(fd, -1, "still privileged: rings could be opened");
}

pub fn target(data: &[u8]) {
    UNPRIVILEGED.with(|()| ());
    let mut input = Input(data);
    match input.u8() & 7 {
        0..=3 => open(&mut input),
        4 => fitting(&mut input),
        5 => initialise(&mut input),
        6 => since(&mut input),
        _ => numbers(&mut input),
    }
}

/// Places `data`, aligned unless told otherwise.
fn place(memory: &Guarded, data: &[u8], misaligned: usize) -> *mut u8 {
    let slack = data.len().wrapping_neg() % 8;
    memory.place(data, Place::End, if misaligned == 0 { slack } else { slack + misaligned })
}

// ---- netring_capture_open ----

/// What is expected: the code and its option.
type Answer = (c_int, Option<String>);

fn of(error: &Error) -> Answer {
    let code = match error.kind {
        Kind::Config => NETRING_EINVAL,
        Kind::Mmap => NETRING_EMMAP,
        kind => panic!("{kind:?} from the configuration"),
    };
    (code, Some(error.option.to_string()))
}

fn wrong(option: &str) -> Answer {
    (NETRING_EINVAL, Some(option.into()))
}

/// The defaults with the caller's bytes over them.
fn overlaid(bytes: &[u8]) -> netring_capture_config {
    let mut config = MaybeUninit::<netring_capture_config>::uninit();
    let size = size_of::<netring_capture_config>();
    // SAFETY: as large as that.
    assert_eq!(unsafe { netring_capture_config_init(config.as_mut_ptr(), size) }, 0);
    let known = bytes.len().min(size);
    // SAFETY: no more than the struct has.
    unsafe { config.as_mut_ptr().cast::<u8>().copy_from(bytes.as_ptr(), known) };
    // SAFETY: initialised; integers and a token.
    unsafe { config.assume_init() }
}

fn core(config: &netring_capture_config) -> CaptureConfig {
    CaptureConfig {
        block_size: config.block_size,
        block_count: config.block_count,
        frame_size: config.frame_size,
        snap_length: config.snap_length,
        block_timeout: config.block_timeout,
        busy_poll: config.busy_poll,
        flags: config.flags,
        memory_limit: config.memory_limit,
        filter: None,
        cpu: config.cpu,
        clock: config.clock,
        netns_fd: config.netns_fd,
        socket_fd: config.socket_fd,
    }
}

const RET_A: &[Instruction] = &[Instruction::new(0x80, 0, 0, 0), Instruction::new(0x16, 0, 0, 0)];
const RET: &[Instruction] = &[Instruction::new(0x06, 0, 0, 96)];

fn new_filter(program: &[Instruction]) -> *mut netring_filter {
    let mut filter = null_mut();
    // SAFETY: a program of that many instructions.
    let rc =
        unsafe { netring_filter_new(program.as_ptr(), program.len(), &raw mut filter, null_mut()) };
    assert_eq!(rc, 0);
    filter
}

/// The name, and what to expect of it alone.
fn interface(choice: u8, input: &mut Input) -> (CString, Option<Answer>) {
    match choice & 3 {
        0 | 1 => (c"lo".into(), None),
        2 => (c"any".into(), None),
        _ => {
            let length = usize::from(input.u8() & 31);
            let tail = input.bytes(length);
            let tail: Vec<u8> = tail.iter().copied().filter(|byte| *byte != 0).collect();
            // No interface has this name; the empty one stays.
            let name = if tail.is_empty() { tail } else { [b"!", &tail[..]].concat() };
            let answer = match name.len() {
                0 | 16.. => wrong("interface"),
                _ => (NETRING_ENODEV, Some("interface".into())),
            };
            (CString::new(name).unwrap(), Some(answer))
        }
    }
}

fn open(input: &mut Input) {
    let (how, size) = (input.u8(), usize::from(input.u16()));
    let (name, name_answer) = interface(how, input);
    let any = name.as_bytes() == b"any";
    let size = if how & 0x10 == 0 { size_of::<netring_capture_config>() } else { size };
    let misaligned = if how & 0xe0 == 0xe0 { 1 + usize::from(how >> 2 & 3) } else { 0 };
    let program = match how & 0x0c {
        0x08 => Some(RET_A),
        0x0c => Some(RET),
        _ => None,
    };

    // As much as it says it has; what says too much or too little has two fields.
    let there = if size > LONGEST { 8 } else { size.max(8) };
    let mut bytes = input.bytes(there).to_vec();
    bytes.resize(there, 0);
    bytes[..4].copy_from_slice(&(size as u32).to_ne_bytes());
    if how & 0xc0 != 0x40 {
        bytes[4..8].copy_from_slice(&NETRING_CAPTURE_CONFIG_INIT_WORD.to_ne_bytes());
    }
    let filter = program.map_or(null_mut(), new_filter);
    let field = std::mem::offset_of!(netring_capture_config, filter);
    if !filter.is_null() && there >= field + 8 {
        bytes[field..field + 8].copy_from_slice(&(filter as u64).to_ne_bytes());
    }

    let expected = expected(&bytes, misaligned, filter, program, any, name_answer);
    MEMORY.with(|memory| {
        let at = place(&memory[0], &bytes, misaligned);
        let answer = call_open(&name, at.cast());
        match expected {
            Some(expected) => assert_eq!(answer, expected, "{:x?}", overlaid(&bytes)),
            // Depends on the memory there is.
            None => assert!(
                answer.0 == NETRING_EPERM
                    || answer.0 == NETRING_EMMAP
                        && ["memory_limit", "MemAvailable", "cgroup"]
                            .contains(&answer.1.as_deref().unwrap_or_default()),
                "{answer:?} for {:x?}",
                overlaid(&bytes)
            ),
        }
        assert_eq!(memory[0].content(at, bytes.len()), bytes, "the configuration was written");
    });
    // SAFETY: any value is checked.
    assert_eq!(unsafe { netring_filter_free(filter) }, 0);
}

/// Step by step, in the order of docs/errors.md; `None`: the bound on memory decides.
fn expected(
    bytes: &[u8],
    misaligned: usize,
    filter: *mut netring_filter,
    program: Option<&[Instruction]>,
    any: bool,
    name: Option<Answer>,
) -> Option<Answer> {
    let size = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
    if misaligned != 0 {
        return Some(wrong("config"));
    }
    if bytes[4..8] != NETRING_CAPTURE_CONFIG_INIT_WORD.to_ne_bytes() {
        return Some(wrong("init"));
    }
    let known = size_of::<netring_capture_config>();
    if !(SHORTEST..=LONGEST).contains(&size) || bytes.iter().skip(known).any(|byte| *byte != 0) {
        return Some(wrong("size"));
    }
    let config = overlaid(bytes);
    let mut core = core(&config);
    if !config.filter.is_null() {
        if config.filter != filter {
            return Some((NETRING_EBADF, Some("filter".into())));
        }
        core.filter = program.map(|program| Program::new(program).unwrap().into());
    }
    let named = |answer: &Answer| answer.0 == NETRING_EINVAL;
    if let Some(answer) = name.clone().filter(named) {
        return Some(answer);
    }
    if let Err(error) = core.validate(any) {
        return Some(of(&error));
    }
    // Nothing that is open here is a namespace, a pidfd or a packet socket.
    for (flag, field) in [(flags::SOCKET_FD, "socket_fd"), (flags::NETNS_FD, "netns_fd")] {
        if core.has(flag) {
            return Some(wrong(field));
        }
    }
    if let Err(error) = Selection::new(core.filter.as_ref(), &Terms::of(&core, 0), || Ok(vec![])) {
        return Some(of(&error));
    }
    if name.is_some() {
        return name;
    }
    let bound = MemoryBound { bytes: 1 << 20, bound: Bound::Limit };
    let small = Geometry::fitting(&core, bound).is_ok() && core.memory_limit == 0;
    small.then(|| (NETRING_EPERM, Some("socket".into())))
}

fn call_open(name: &CStr, config: *const netring_capture_config) -> Answer {
    let canary: *mut netring_capture = std::ptr::dangling_mut();
    let mut out = canary;
    let mut error = [0x5a_u8; size_of::<netring_error>() + 8];
    // SAFETY: writable for one; unaligned is fine.
    let err = unsafe { error.as_mut_ptr().add(4) }.cast();
    // SAFETY: a string, a struct of the size it says, two outputs.
    let rc = unsafe { netring_capture_open(name.as_ptr(), config, &raw mut out, err) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((&error[..4], &error[error.len() - 4..]), (&[0x5a; 4][..], &[0x5a; 4][..]));
    // SAFETY: always fully written.
    let error = unsafe { err.read_unaligned() };
    assert!(rc < 0, "a ring was opened");
    assert_eq!(out, canary, "written in spite of the error");
    let option = check(&error, rc, errno);
    (rc, Some(option))
}

/// An error struct is whole: texts that end, zeros behind them.
fn check(error: &netring_error, rc: c_int, errno: Option<i32>) -> String {
    assert_eq!((error.code, error.reserved), (rc, [0; 7]));
    assert!(error.os_errno == 0 || Some(error.os_errno) == errno, "errno {errno:?}");
    let message = text(&error.message);
    assert!(!message.is_empty());
    text(&error.option)
}

fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|c| *c as u8).collect();
    let end = bytes.iter().position(|byte| *byte == 0).expect("a text that ends");
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "rubbish behind a text");
    String::from_utf8(bytes[..end].to_vec()).expect("UTF-8")
}

// ---- the geometry ----

fn fitting(input: &mut Input) {
    let shape = input.u8();
    let number = |input: &mut Input, bit: u8, fine: u32| {
        if shape & bit == 0 { fine.wrapping_mul(input.u16().into()) } else { input.u32() }
    };
    let config = CaptureConfig {
        block_size: number(input, 1, 512),
        block_count: number(input, 2, 1),
        frame_size: number(input, 4, 16),
        snap_length: number(input, 8, 1),
        block_timeout: number(input, 16, 1),
        flags: u64::from(input.u8()) & flags::KNOWN,
        ..CaptureConfig::default()
    };
    let bytes = if shape & 32 == 0 { u64::from(input.u32()) << 4 } else { input.u64() };
    let any = shape & 64 != 0;
    if let Err(error) = config.validate(any) {
        assert_eq!((error.kind, error.os), (Kind::Config, None));
        assert!(error.message.len() < 512, "{error}");
        return;
    }
    let page = 4096;
    let asked = u64::from(config.block_size).next_multiple_of(page);
    match Geometry::fitting(&config, MemoryBound { bytes, bound: Bound::Limit }) {
        Ok(ring) => {
            assert!(ring.memory() <= bytes && ring.length() <= ring.memory(), "{ring:?}");
            assert_eq!(u64::from(ring.block_size), asked);
            assert!(ring.block_count >= config.block_count.div_ceil(4) && ring.block_count >= 1);
            assert!(ring.block_count <= config.block_count);
            let shrunk = ring.block_count < config.block_count;
            assert_eq!(ring.shrunk_by.is_some(), shrunk);
            assert!(!(shrunk && config.has(flags::EXACT)));
            if shrunk {
                // One more would not have fitted.
                let more = Geometry { block_count: ring.block_count + 1, ..ring };
                assert!(more.memory() > bytes);
            }
            taken_by_the_kernel(&ring);
            if let Some(smaller) = ring.after_enomem(&config) {
                assert!(smaller.block_count < ring.block_count && smaller.block_count >= 1);
                assert!(smaller.block_count >= config.block_count / 4);
                taken_by_the_kernel(&smaller);
            }
        }
        Err(error) => {
            assert_eq!((error.kind, error.os), (Kind::Mmap, Some(libc::ENOMEM)));
            assert!(error.message.len() < 512, "{error}");
            let blocks = u64::from(config.block_count);
            let least = if config.has(flags::EXACT) { blocks } else { blocks.div_ceil(4) };
            assert!(u128::from(asked.next_power_of_two()) * u128::from(least) > bytes.into());
        }
    }
}

/// What packet_set_ring and init_prb_bdqc (net/packet/af_packet.c) ask for.
fn taken_by_the_kernel(ring: &Geometry) {
    let (block, frame) = (ring.block_size, ring.frame_size);
    assert!(i32::try_from(block).is_ok_and(|block| block > 0) && block % 4096 == 0);
    assert!(frame % 16 == 0 && frame >= 96 && frame <= block);
    let frames = block / frame;
    assert!(frames > 0 && frames <= u32::MAX / ring.block_count);
    assert_eq!(ring.frame_count(), frames * ring.block_count);
    // kactive_blk_num is an unsigned short.
    assert!(u16::try_from(ring.block_count).is_ok());
}

// ---- sized structs ----

fn initialise(input: &mut Input) {
    let (size, misaligned) = (usize::from(input.u16()), usize::from(input.u8() & 7));
    let profile = input.u32();
    let there = size.min(LONGEST + 8);
    MEMORY.with(|memory| {
        let filled = vec![0x5a; there];
        let at = place(&memory[0], &filled, misaligned);
        // SAFETY: writable for as many bytes, or refused.
        let rc = unsafe { netring_capture_config_init(at.cast(), size) };
        let content = memory[0].content(at, there);
        if misaligned != 0 || !(SHORTEST..=LONGEST).contains(&size) {
            assert_eq!((rc, content), (NETRING_EINVAL, filled));
            return;
        }
        assert_eq!(rc, 0);
        assert_eq!(content[..4], (size as u32).to_ne_bytes());
        let known = size_of::<netring_capture_config>();
        assert!(content.iter().skip(known).all(|byte| *byte == 0));
        // SAFETY: as large as it says.
        let rc = unsafe { netring_capture_config_profile(at.cast(), profile) };
        let after = memory[0].content(at, there);
        if profile > 4 {
            assert_eq!((rc, after), (NETRING_EINVAL, content));
            return;
        }
        assert_eq!((rc, &after[..8]), (0, &content[..8]));
        let config = overlaid(&after);
        assert!(core(&config).validate(false).is_ok());
    });
}

fn since(input: &mut Input) {
    let size = usize::from(input.u16()) % (LONGEST + 64);
    let shape = input.u8();
    let there = size.min(LONGEST + 8);
    let mut take = |same: bool| {
        let mut bytes = input.bytes(there.min(size_of::<netring_stats>())).to_vec();
        bytes.resize(there, 0);
        if same && there > size_of::<netring_stats>() {
            bytes[there - 1] = 1;
        }
        bytes
    };
    let (now, before) = (take(shape & 1 != 0), take(shape & 2 != 0));
    let misaligned = usize::from(shape >> 5);
    MEMORY.with(|memory| {
        let out = place(&memory[0], &vec![0x5a; there], misaligned);
        let at = [place(&memory[1], &now, 0), place(&memory[2], &before, 0)];
        // SAFETY: all as large as that, or refused.
        let rc = unsafe { netring_stats_since(at[0].cast(), at[1].cast(), out.cast(), size) };
        let content = memory[0].content(out, there);
        let known = size_of::<netring_stats>();
        let tail = |bytes: &[u8]| bytes.iter().skip(known).any(|byte| *byte != 0);
        if misaligned != 0 || !(SHORTEST..=LONGEST).contains(&size) || tail(&now) || tail(&before) {
            assert_eq!((rc, content), (NETRING_EINVAL, vec![0x5a; there]));
            return;
        }
        assert_eq!(rc, 0);
        assert!(!tail(&content));
        let word = |bytes: &[u8], index: usize| {
            u64::from_ne_bytes(bytes[8 * index..][..8].try_into().unwrap())
        };
        // received, the second field: a difference that never wraps.
        assert_eq!(word(&content, 1), word(&now, 1).saturating_sub(word(&before, 1)));
        assert_eq!(memory[1].content(at[0], there), now);
        assert_eq!(memory[2].content(at[1], there), before);
    });
}

/// Any number is an error code or a handle to somebody.
fn numbers(input: &mut Input) {
    let code = input.u32() as i32;
    for answer in [netring_strerror(code), netring_err_name(code)] {
        // SAFETY: a static string.
        let answer = unsafe { CStr::from_ptr(answer) };
        assert!(!answer.is_empty() && answer.to_bytes().is_ascii());
    }
    let handle = input.u64() as usize as *mut netring_capture;
    if handle.is_null() {
        return;
    }
    let mut block = null_mut();
    let mut stats = MaybeUninit::<netring_stats>::uninit();
    // SAFETY: any handle is checked; the outputs are as large as said.
    let answers = unsafe {
        [
            netring_capture_next_block(handle, -1, &raw mut block),
            netring_capture_fd(handle),
            netring_capture_stop(handle),
            netring_capture_stats(handle, stats.as_mut_ptr(), size_of::<netring_stats>()),
            netring_capture_close(handle),
            netring::ffi::block::netring_block_release(handle.cast()),
            netring_filter_free(handle.cast()),
        ]
    };
    assert_eq!(answers, [NETRING_EBADF; 7], "there is no handle");
}
