//! struct netring_reader: a savefile, as blocks of packets.

use crate::error::{Error, Kind, Result};
use crate::ffi::block::{BLOCKS, netring_block};
use crate::ffi::capture::netring_stats;
use crate::ffi::dispatch::next_packet;
use crate::ffi::error::{copy_text, describe, guard_reporting, netring_error};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, read_config, text, writable, writable_sized,
};
use crate::packet::{NETRING_LINKTYPE_UNKNOWN, netring_packet};
use crate::savefile::reader::parse::{Format, Interface};
use crate::savefile::reader::{Reader, ReaderConfig, ReaderInfo};
use crate::savefile::{NETRING_SAVEFILE_PCAP, NETRING_SAVEFILE_PCAPNG};
use std::ffi::{c_char, c_int};
use std::mem::offset_of;
use std::sync::Arc;

/// A savefile being read: pcap or pcapng, from a file or through a pipe. A
/// token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_reader {
    _opaque: [u8; 0],
}

pub(crate) static READERS: Table<Reader> = Table::new(HandleKind::Reader);

/// Little-endian.
pub const NETRING_BYTE_ORDER_LITTLE: u32 = 1;
/// Big-endian.
pub const NETRING_BYTE_ORDER_BIG: u32 = 2;

/// What `init` of a struct netring_reader_config holds once it is initialised.
pub const NETRING_READER_CONFIG_INIT_WORD: u32 = 0x4e525243;

/// What a reader is asked for. Initialise it with netring_reader_config_init or
/// NETRING_READER_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_reader_config {
    /// sizeof(struct netring_reader_config), written by the initialiser.
    pub size: u32,
    /// NETRING_READER_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// Bytes of a block, 4096 to 2^30, rounded up to whole pages. Default 1 MiB.
    /// A larger packet gets a block of its own.
    pub block_size: u32,
    /// Captured bytes of the largest packet, 1 to 2^30 - 65536. Default 16 MiB. A
    /// file that claims a larger one is taken for damaged.
    pub packet_limit: u32,
    /// Bytes that all blocks may take, held ones included; 0 (default): 64 MiB,
    /// or two of the largest blocks. While all of it is held,
    /// netring_reader_next_block waits for a release. What is read ahead comes on
    /// top: 256 KiB, more only for a larger packet.
    pub memory_limit: u64,
    /// 0.
    pub flags: u64,
    /// Which packets; NULL (default): all. It is run in user space over what the
    /// file holds, and cuts packets to what it returns, as for a capture; the
    /// packets it rejects are counted as `filtered_late`. VLAN tags are in the
    /// bytes, so both programs for a live interface and for a file work. A
    /// program is for one link type: `tcpdump -r FILE -ddd EXPRESSION` writes it
    /// for that of a file, -y EN10MB for Ethernet. The reader keeps its own copy.
    pub filter: *mut netring_filter,
}

/// What is known of a savefile so far.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_reader_info {
    /// The size passed in.
    pub size: u32,
    /// NETRING_SAVEFILE_*; 0 while nothing was read, from a pipe.
    pub format: u32,
    /// NETRING_BYTE_ORDER_* of the file or, in pcapng, of its present section.
    pub byte_order: u32,
    /// Version of the format: 2 in pcap, 1 in pcapng.
    pub version_major: u32,
    /// 4 in pcap, 0 in pcapng, mostly.
    pub version_minor: u32,
    /// Interfaces described so far: netring_reader_interface takes numbers below
    /// that. A pcap file has one.
    pub interfaces: u32,
    /// Sections begun so far, in pcapng; 1 in pcap.
    pub sections: u32,
    /// LINKTYPE_ number of the first interface; NETRING_LINKTYPE_UNKNOWN while
    /// there is none. Interfaces, and so blocks, may have different ones.
    pub link_type: u32,
    /// Snapshot length of the first interface; 0: not limited, or not known.
    pub snap_length: u32,
    /// `block_size` as configured.
    pub block_size: u32,
    /// `packet_limit` as configured.
    pub packet_limit: u32,
    /// 1: what it is read from may have to be waited for (a pipe); 0: a file.
    pub waits: u32,
    /// Bytes of the file up to the next packet: where a damage is met, its place.
    pub offset: u64,
    /// Bytes of memory taken for blocks now.
    pub memory: u64,
    /// Bytes it may be at most.
    pub memory_limit: u64,
}

/// An interface that a savefile describes.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_reader_interface {
    /// The size passed in.
    pub size: u32,
    /// Its number in the file, from 0, counted through all sections; the
    /// `ifindex` of its packets is one more.
    pub number: u32,
    /// The section it is in, from 1.
    pub section: u32,
    /// LINKTYPE_ number.
    pub link_type: u32,
    /// Bytes kept of a packet, as the file says it; 0: no limit.
    pub snap_length: u32,
    /// NETRING_READER_INTERFACE_* bits: which of the counters the file has.
    pub valid: u32,
    /// Units of its timestamps per second: 10^6, 10^9, a power of 2. Packets
    /// have nanoseconds; what is finer is cut off.
    pub resolution: u64,
    /// Seconds that the file adds to its timestamps (if_tsoffset).
    pub offset: i64,
    /// The counters of its last statistics block so far: packets received from
    /// the interface (isb_ifrecv).
    pub received: u64,
    /// Packets dropped by the interface (isb_ifdrop).
    pub dropped: u64,
    /// Packets the filter accepted (isb_filteraccept).
    pub accepted: u64,
    /// Packets the operating system dropped (isb_osdrop).
    pub os_dropped: u64,
    /// Packets given to the program that wrote the file (isb_usrdeliv).
    pub delivered: u64,
    /// Its name, NUL-terminated, cut to fit; empty: the file does not say.
    pub name: [c_char; 64],
    /// Its description, likewise.
    pub description: [c_char; 256],
}

/// `received` is valid.
pub const NETRING_READER_INTERFACE_RECEIVED: u32 = 0x1;
/// `dropped` is valid.
pub const NETRING_READER_INTERFACE_DROPPED: u32 = 0x2;
/// `accepted` is valid.
pub const NETRING_READER_INTERFACE_ACCEPTED: u32 = 0x4;
/// `os_dropped` is valid.
pub const NETRING_READER_INTERFACE_OS_DROPPED: u32 = 0x8;
/// `delivered` is valid.
pub const NETRING_READER_INTERFACE_DELIVERED: u32 = 0x10;

const _: () = assert!(size_of::<netring_reader_config>() == 40);
const _: () = assert!(offset_of!(netring_reader_config, init) == 4);
const _: () = assert!(size_of::<netring_reader_info>() == 72);
const _: () = assert!(size_of::<netring_reader_interface>() == 400);

// SAFETY: repr(C) without padding; integers, and a token for which every value
// is checked.
unsafe impl CStruct for netring_reader_config {}
// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_reader_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_reader_interface {}

impl From<&ReaderConfig> for netring_reader_config {
    fn from(config: &ReaderConfig) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_READER_CONFIG_INIT_WORD,
            block_size: config.block_size,
            packet_limit: config.packet_limit,
            memory_limit: config.memory_limit,
            flags: config.flags,
            filter: std::ptr::null_mut(),
        }
    }
}

impl From<&ReaderInfo> for netring_reader_info {
    fn from(info: &ReaderInfo) -> Self {
        let header = info.header;
        let order = |big| if big { NETRING_BYTE_ORDER_BIG } else { NETRING_BYTE_ORDER_LITTLE };
        let format = |format| match format {
            Format::Pcap => NETRING_SAVEFILE_PCAP,
            Format::Pcapng => NETRING_SAVEFILE_PCAPNG,
        };
        let first = info.first.as_ref();
        Self {
            size: size_of::<Self>() as u32,
            format: header.map_or(0, |header| format(header.format)),
            byte_order: header.map_or(0, |header| order(header.big_endian)),
            version_major: header.map_or(0, |header| header.major.into()),
            version_minor: header.map_or(0, |header| header.minor.into()),
            interfaces: info.interfaces,
            sections: info.sections,
            link_type: first.map_or(NETRING_LINKTYPE_UNKNOWN, |first| first.link_type).into(),
            snap_length: first.map_or(0, |first| first.snap_length),
            block_size: info.block_size,
            packet_limit: info.packet_limit,
            waits: info.waits.into(),
            offset: info.offset,
            memory: info.memory,
            memory_limit: info.memory_limit,
        }
    }
}

impl From<(u32, &Interface)> for netring_reader_interface {
    fn from((number, interface): (u32, &Interface)) -> Self {
        let mut out = Self {
            size: size_of::<Self>() as u32,
            number,
            section: interface.section,
            link_type: interface.link_type.into(),
            snap_length: interface.snap_length,
            valid: 0,
            resolution: interface.resolution,
            offset: interface.offset,
            received: interface.received.unwrap_or(0),
            dropped: interface.dropped.unwrap_or(0),
            accepted: interface.accepted.unwrap_or(0),
            os_dropped: interface.os_dropped.unwrap_or(0),
            delivered: interface.delivered.unwrap_or(0),
            name: [0; 64],
            description: [0; 256],
        };
        for (counter, bit) in [
            (interface.received, NETRING_READER_INTERFACE_RECEIVED),
            (interface.dropped, NETRING_READER_INTERFACE_DROPPED),
            (interface.accepted, NETRING_READER_INTERFACE_ACCEPTED),
            (interface.os_dropped, NETRING_READER_INTERFACE_OS_DROPPED),
            (interface.delivered, NETRING_READER_INTERFACE_DELIVERED),
        ] {
            out.valid |= if counter.is_some() { bit } else { 0 };
        }
        copy_text(&interface.name, &mut out.name);
        copy_text(&interface.description, &mut out.description);
        out
    }
}

/// A call on a reader; its failure is kept for netring_reader_last_error.
fn on_reader(
    reader: *mut netring_reader,
    call: impl FnOnce(&Pinned<Reader>) -> Result<c_int>,
) -> c_int {
    guard_handle(&READERS, reader, call, |reader, error| {
        if let Some(reader) = reader {
            reader.note(error);
        }
    })
}

/// The core's configuration for the caller's; NULL is the defaults.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
unsafe fn reader_config(config: *const netring_reader_config) -> Result<ReaderConfig> {
    let defaults = netring_reader_config::from(&ReaderConfig::default());
    // SAFETY: the caller's promise.
    let config =
        unsafe { read_config(config, "reader", NETRING_READER_CONFIG_INIT_WORD, defaults)? };
    let filter = configured_filter(config.filter)?;
    if let Some(filter) = &filter {
        filter.program()?;
    }
    Ok(ReaderConfig {
        block_size: config.block_size,
        packet_limit: config.packet_limit,
        memory_limit: config.memory_limit,
        flags: config.flags,
        filter,
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_reader_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_config_init(
    config: *mut netring_reader_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_reader_config::from(&ReaderConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// Opens a savefile for reading: pcap with microseconds or nanoseconds,
/// Kuznetzov's modified pcap, or pcapng, each in both byte orders. `config`
/// NULL: the defaults. No privilege is needed.
///
/// The header is read here, so that what is no savefile is refused here. A named
/// pipe is waited for until it has a writer (open(2)), and its header is read by
/// the first wait. A compressed file is not taken: read it through a pipe.
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong.
/// NETRING_EBADF, `config->filter` is no filter. NETRING_EIO, the file could not
/// be opened or read (errno says why), or is no savefile (errno EIO): `err` names
/// the file, the byte, and what is wrong there. NETRING_ENOTSUP, Linux before
/// 4.14. On an error `*out` is not written.
/// Ownership: the caller closes `*out` with netring_reader_close. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `path` must be NUL-terminated, `config` readable for the size it says it has,
/// `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_open(
    path: *const c_char,
    config: *const netring_reader_config,
    out: *mut *mut netring_reader,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let path = unsafe { text(path, "path")? };
        // SAFETY: the caller's promise.
        let config = unsafe { reader_config(config)? };
        let handle = READERS.insert(Arc::new(Reader::open(path, &config)?))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Reads a savefile from an open descriptor, at its present position: a file, a
/// pipe (`tcpdump -w - |`: descriptor 0), a socket. A duplicate is taken, the
/// caller's stays open; nobody else may read from what it refers to. The
/// descriptor is not made non-blocking. Offsets count from where the reading
/// began. Otherwise as netring_reader_open.
///
/// What is not a regular file is not read here: that it is no savefile is then
/// told by the first wait.
///
/// Errors: as netring_reader_open; NETRING_EINVAL, `fd` is not open.
/// Ownership: the caller closes `*out` with netring_reader_close. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `config` must be readable for the size it says it has, `out` and `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_open_fd(
    fd: c_int,
    config: *const netring_reader_config,
    out: *mut *mut netring_reader,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let config = unsafe { reader_config(config)? };
        let handle = READERS.insert(Arc::new(Reader::open_fd(fd, &config)?))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Closes a reader and its file. Held blocks keep their address and content
/// until their release. Calls in progress on other threads return NETRING_EBADF.
/// NULL is fine.
///
/// Errors: NETRING_EBADF, not a reader, or closed before. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_close(reader: *mut netring_reader) -> c_int {
    guard(|| {
        if reader.is_null() {
            return Ok(0);
        }
        let closing = READERS.close(reader)?;
        if let Some(reader) = closing.value() {
            reader.interrupt();
        }
        if let Some(reader) = closing.finish() {
            reader.close();
        }
        Ok(0)
    })
}

/// Reads the next packets and hands them out as a block: returns 1 and writes
/// `*out`, or 0 after `timeout_ms` milliseconds (0: do not wait; negative: for
/// ever, as poll(2)). Signals do not prolong or end the wait.
///
/// A regular file is never waited for, only read. From a pipe comes what is
/// there, without waiting for a full block. While held blocks take all of
/// `memory_limit`, the wait is for a release (counted as `freezes`); nothing is
/// dropped.
///
/// The packets of a block have one link type; another one starts another block.
/// Valid of each are time, lengths, link type, interface; where the file or the
/// bytes tell, direction, protocol and net_offset (the status bits say); VLAN
/// tags are in the bytes, `clock` is NETRING_CLOCK_UNKNOWN. `ifindex` is the
/// interface's number in the file plus 1 (netring_reader_interface). Packets
/// without a time (pcapng's simple packets) have 0, times before 1970 and after
/// 2106 are given as the nearest of these. A packet longer than its file's
/// snapshot length is cut to it (pcap), or is damage (pcapng), as in libpcap.
///
/// Several threads may call this on one reader, each gets its own block, in the
/// order of the file. With a filter, one call may go through much of the file.
///
/// Errors: NETRING_ESHUTDOWN, the end of the file, or stopped. NETRING_EIO, the
/// file is damaged or ends within a packet: what came before was handed out, and
/// netring_reader_last_error names the file, the byte, and what is wrong there;
/// or reading failed (errno says why). Each is told again by every later call.
/// NETRING_EWAKEUP, netring_reader_wakeup. NETRING_ENOTSUP, the filter asks for
/// what is not known of a packet. NETRING_EMMAP, no memory. NETRING_EBADF, not a
/// reader, or closed meanwhile. NETRING_EINVAL, `out` is NULL.
/// Ownership: the caller releases `*out` with netring_block_release. MT-Safe.
///
/// # Safety
/// `out` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_next_block(
    reader: *mut netring_reader,
    timeout_ms: c_int,
    out: *mut *mut netring_block,
) -> c_int {
    on_reader(reader, |reader| {
        writable(out, "out")?;
        let Some(block) = reader.next_block(timeout_ms)? else { return Ok(0) };
        let handle = BLOCKS.insert(block)?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(1)
    })
}

/// Reads the next packet: returns 1 and fills `*out`, or 0 after `timeout_ms`
/// (as netring_reader_next_block). The packet stays valid until the next
/// netring_reader_next_packet or netring_reader_close on this reader. With
/// netring_reader_fd, call it with a timeout of 0 until it returns 0 or less: the
/// rest of a block that it has begun does not make the descriptor readable.
///
/// This is the slower way, a call for every packet; blocks cost a call each.
/// Packets of a block half read here are not seen by netring_reader_next_block.
///
/// `size` is sizeof(struct netring_packet) of the caller's header.
///
/// Errors: as netring_reader_next_block; NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 64, more than 256 or not a multiple of 8;
/// NETRING_EBUSY, another thread is in this call. One thread at a time.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_next_packet(
    reader: *mut netring_reader,
    timeout_ms: c_int,
    out: *mut netring_packet,
    size: usize,
) -> c_int {
    on_reader(reader, |reader| {
        let next_block = |timeout_ms| reader.next_block(timeout_ms);
        // SAFETY: the caller's promise.
        let read = unsafe { next_packet(reader.current(), next_block, timeout_ms, out, size) };
        read.map_err(|error| if error.kind == Kind::Busy { in_use() } else { error })
    })
}

#[cold]
fn in_use() -> Error {
    Error::new(
        Kind::Busy,
        "reader",
        "next_packet is in use by another thread: one thread at a time, or use next_block",
    )
}

/// A descriptor for poll, epoll, io_uring and event loops: readable while
/// netring_reader_next_block with a timeout of 0 would return something other
/// than 0; for a regular file always, but while all memory is held. Right for
/// level- and edge-triggered loops that take one block a turn. When part of a
/// packet has come through a pipe it may be readable once with nothing there.
/// Returns the descriptor, 0 or more.
///
/// Errors: NETRING_EBADF, not a reader. MT-Safe.
/// Ownership: the reader's; do not close it, read from it, or use it after
/// netring_reader_close.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_fd(reader: *mut netring_reader) -> c_int {
    on_reader(reader, |reader| Ok(reader.fd()))
}

/// Ends one wait: the present or the next netring_reader_next_block (or
/// next_packet) returns NETRING_EWAKEUP. Several wakeups before that are one. To
/// end every wait, use netring_reader_stop.
///
/// Errors: NETRING_EBADF, not a reader. MT-Safe, async-signal-safe; leaves errno
/// alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_wakeup(reader: *mut netring_reader) -> c_int {
    signal(reader, Reader::wakeup)
}

/// Forgets a pending wakeup.
///
/// Errors: NETRING_EBADF, not a reader. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_wakeup_clear(reader: *mut netring_reader) -> c_int {
    signal(reader, Reader::clear_wakeup)
}

/// Ends the reading for good: from then on every wait on every thread returns
/// NETRING_ESHUTDOWN, whatever the file still has. (A wakeup still pending is
/// told first; netring_reader_next_packet first finishes the block it has
/// begun.) There is no way back but netring_reader_close.
///
/// Errors: NETRING_EBADF, not a reader. MT-Safe, async-signal-safe; leaves errno
/// alone on success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_stop(reader: *mut netring_reader) -> c_int {
    signal(reader, Reader::stop)
}

/// A call that may come from a signal handler: no lock, no allocation.
fn signal(reader: *mut netring_reader, act: impl FnOnce(&Reader)) -> c_int {
    match READERS.pin_quietly(reader) {
        Ok(reader) => guard(|| {
            act(&reader);
            Ok(0)
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// Writes what is known of the file so far: as much of it as `size` bytes hold.
/// Of a pipe that is nothing before the first wait.
///
/// Errors: NETRING_EBADF, not a reader. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_info(
    reader: *mut netring_reader,
    out: *mut netring_reader_info,
    size: usize,
) -> c_int {
    on_reader(reader, |reader| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_reader_info::from(&reader.info());
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Writes what the file says of an interface: as much of it as `size` bytes
/// hold. `number` counts the interfaces of the file from 0, through all of its
/// sections; that of a packet is its `ifindex` less 1. Interfaces, and their
/// counters, are known as far as the file was read.
///
/// Errors: NETRING_EBADF, not a reader. NETRING_EINVAL, the file has described no
/// such interface so far, `out` is NULL or misaligned, or `size` is less than 16
/// or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_interface(
    reader: *mut netring_reader,
    number: u32,
    out: *mut netring_reader_interface,
    size: usize,
) -> c_int {
    on_reader(reader, |reader| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_reader_interface::from((number, &reader.interface(number)?));
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Reads the counters: as many of them as `size` bytes hold. Of a reader,
/// `received` and `seen` are the packets read, `delivered` those in blocks that
/// were handed out, `filtered_late` those that the filter rejected, `pending` at
/// most one that was read ahead; `truncated`, `blocks_delivered`, `blocks_held`
/// and `oldest_held_ns` as for a capture; `freezes` how often all memory was
/// held. The others are 0.
///
/// Errors: NETRING_EBADF, not a reader. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_stats(
    reader: *mut netring_reader,
    out: *mut netring_stats,
    size: usize,
) -> c_int {
    on_reader(reader, |reader| {
        writable_sized(out, "out", size, SHORTEST)?;
        let value = netring_stats::from(&reader.stats());
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Writes the last failure of a call on this reader, with its words; all zero
/// where none has failed. The end of the file, a wakeup and a stop count as one.
///
/// Errors: NETRING_EBADF, not a reader. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_reader_last_error(
    reader: *mut netring_reader,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &READERS,
        reader,
        |reader| {
            let error = reader.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}
