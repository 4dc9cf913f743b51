//! struct netring_writer: packets into savefiles.

use crate::block::Pieces;
use crate::error::{Error, Kind, Result};
use crate::ffi::block::{BLOCKS, check_packets, netring_block};
use crate::ffi::capture::{CAPTURES, netring_capture, netring_stats};
use crate::ffi::error::{describe, guard_handle_reporting, guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, put, put_sized, read_config, read_sized, text, writable, writable_sized,
};
use crate::packet::{NETRING_LINKTYPE_UNKNOWN, NETRING_PACKET_SEGMENTED, Packet, netring_packet};
use crate::savefile::writer::{BlockSource, Source, Statistics, Writer, WriterConfig, flags};
use crate::sys::file::Bytes;
use std::ffi::{c_char, c_int};
use std::sync::Arc;

/// A savefile being written, or a series of them. A token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_writer {
    _opaque: [u8; 0],
}

pub(crate) static WRITERS: Table<Writer> = Table::new(HandleKind::Writer);

/// Times in microseconds, for readers that do not know pcap's nanoseconds. Only
/// with NETRING_SAVEFILE_PCAP.
pub const NETRING_WRITER_MICROSECONDS: u64 = 0x1;
/// Fail where a file exists already, rather than overwrite it.
pub const NETRING_WRITER_NEW: u64 = 0x2;

const _: () =
    assert!(NETRING_WRITER_MICROSECONDS == flags::MICROSECONDS && NETRING_WRITER_NEW == flags::NEW);

/// What `init` of a struct netring_writer_config holds once it is initialised.
pub const NETRING_WRITER_CONFIG_INIT_WORD: u32 = 0x4e525743;

/// What a writer is asked for. Initialise it with netring_writer_config_init or
/// NETRING_WRITER_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_writer_config {
    /// sizeof(struct netring_writer_config), written by the initialiser.
    pub size: u32,
    /// NETRING_WRITER_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_SAVEFILE_PCAPNG (default) or NETRING_SAVEFILE_PCAP.
    pub format: u32,
    /// With rotation: how many files to keep, 2 and more; older ones of this
    /// writer are removed, those of an earlier run of the program are not. 0
    /// (default): all.
    pub max_files: u32,
    /// NETRING_WRITER_* bits. Default 0.
    pub flags: u64,
    /// Rotation by size: a file has at most so many bytes, unless a single packet
    /// needs more. 0 (default): no limit.
    pub rotate_bytes: u64,
    /// Rotation by time: a file ends before the first packet that is so many
    /// nanoseconds or more later than its first one, by the packets' own times;
    /// where the clock was set back, after only earlier packets have come for so
    /// long. 0 (default): no limit.
    pub rotate_ns: u64,
}

/// What a writer has written.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_writer_info {
    /// The size passed in.
    pub size: u32,
    /// NETRING_SAVEFILE_*.
    pub format: u32,
    /// Interfaces added.
    pub interfaces: u32,
    /// 0.
    pub reserved: u32,
    /// Packets in all files.
    pub packets: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files begun, the present one included.
    pub files: u64,
    /// Of them, removed because of `max_files`.
    pub files_removed: u64,
    /// Packets in the present file.
    pub file_packets: u64,
    /// Bytes of the present file.
    pub file_bytes: u64,
    /// Packets that the last netring_writer_write or netring_writer_write_block
    /// wrote, also where it failed.
    pub last_written: u64,
}

const _: () = assert!(size_of::<netring_writer_config>() == 40);
const _: () = assert!(size_of::<netring_writer_info>() == 72);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_writer_config {}
// SAFETY: as above.
unsafe impl CStruct for netring_writer_info {}

impl From<&WriterConfig> for netring_writer_config {
    fn from(config: &WriterConfig) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_WRITER_CONFIG_INIT_WORD,
            format: config.format,
            max_files: config.max_files,
            flags: config.flags,
            rotate_bytes: config.rotate_bytes,
            rotate_ns: config.rotate_ns,
        }
    }
}

/// Reads the caller's configuration over the defaults; NULL is the defaults.
///
/// # Safety
/// `config`, if not NULL, is readable for the size it says it has.
unsafe fn writer_config(config: *const netring_writer_config) -> Result<WriterConfig> {
    let defaults = netring_writer_config::from(&WriterConfig::default());
    // SAFETY: the caller's promise.
    let config =
        unsafe { read_config(config, "writer", NETRING_WRITER_CONFIG_INIT_WORD, defaults)? };
    Ok(WriterConfig {
        format: config.format,
        max_files: config.max_files,
        flags: config.flags,
        rotate_bytes: config.rotate_bytes,
        rotate_ns: config.rotate_ns,
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_writer_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_config_init(
    config: *mut netring_writer_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_writer_config::from(&WriterConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

fn hand_out(writer: Writer, out: *mut *mut netring_writer) -> Result<c_int> {
    let handle = WRITERS.insert(Arc::new(writer))?;
    // SAFETY: the callers have checked `out`.
    unsafe { put(out, "out", handle)? };
    Ok(0)
}

/// A call on a writer; its failure is kept for netring_writer_last_error.
fn on_writer(
    writer: *mut netring_writer,
    call: impl FnOnce(&Pinned<Writer>) -> Result<c_int>,
) -> c_int {
    guard_handle(&WRITERS, writer, call, |writer, error| {
        if let Some(writer) = writer {
            writer.note(error);
        }
    })
}

/// Opens a savefile for writing. `config` NULL: the defaults, which are pcapng
/// without rotation. Both formats have times in nanoseconds.
///
/// A file that exists is overwritten, unless NETRING_WRITER_NEW is set; a new one
/// may be read and written by whom the umask lets. A FIFO is waited for until it
/// has a reader (open(2)). A relative path is looked up for each file. With
/// rotation (`rotate_bytes`, `rotate_ns`) the names are made from `path` as
/// dumpcap makes them, number and UTC time of the file's beginning before the
/// extension: "x.pcapng" gives x_00001_20261122202701.pcapng and so on, which
/// Wireshark knows as a set. Each file of a series is complete by itself. A series
/// overwrites nothing: a number whose name is taken is passed over, or with
/// NETRING_WRITER_NEW an error. `max_files` removes files of this writer only.
///
/// What a call writes is handed to the kernel before it returns, so that the
/// file is complete up to there, whatever happens to the program.
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong.
/// NETRING_EIO, the file could not be opened or begun; errno says why (ENOENT,
/// EACCES, EISDIR, ENOSPC, EEXIST, ...). NETRING_ENOTSUP, Linux before 4.14. On
/// an error `*out` is not written.
/// Ownership: the caller closes `*out` with netring_writer_close. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `path` must be NUL-terminated, `config` readable for the size it says it has,
/// `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_open(
    path: *const c_char,
    config: *const netring_writer_config,
    out: *mut *mut netring_writer,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let path = unsafe { text(path, "path")? };
        // SAFETY: the caller's promise.
        let config = unsafe { writer_config(config)? };
        hand_out(Writer::open(path, &config)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// As netring_writer_open, into an open descriptor: a file from its present
/// offset on, a pipe, a socket. The writer has a duplicate of its own; `fd`
/// stays the caller's.
///
/// What a failed write left of a packet is taken back from a regular file, which
/// ends there; a pipe cannot be mended, and nothing is written to it any more. A
/// pipe that nobody reads is NETRING_EIO with EPIPE, and no SIGPIPE. A
/// non-blocking descriptor is waited for.
///
/// Errors: NETRING_EINVAL, `fd` is not open, or not for writing, a configuration
/// value is wrong, or asks for rotation or NETRING_WRITER_NEW, which need a path. NETRING_EIO, the descriptor could not be duplicated or
/// written to. NETRING_ENOTSUP, Linux before 4.14. On an error `*out` is not
/// written.
/// Ownership: the caller closes `*out` with netring_writer_close. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `config` must be readable for the size it says it has, `out` and `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_open_fd(
    fd: c_int,
    config: *const netring_writer_config,
    out: *mut *mut netring_writer,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let config = unsafe { writer_config(config)? };
        hand_out(Writer::open_fd(fd, &config)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// A call that adds an interface, which tells both ways what came of it.
///
/// # Safety
/// `err`, if not NULL, is writable for a netring_error.
unsafe fn adding(
    writer: *mut netring_writer,
    err: *mut netring_error,
    call: impl FnOnce(&Writer) -> Result<u32>,
) -> c_int {
    let call = |writer: &Pinned<Writer>| call(writer).map(|number| number as c_int);
    let note = |writer: &Writer, error: &Error| writer.note(error);
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&WRITERS, writer, err, call, note) }
}

/// Adds an interface, and returns its number: 0, 1, and so on. Its packets are
/// written under that number.
///
/// `link_type` is the LINKTYPE_ number of its packets, and NETRING_LINKTYPE_UNKNOWN
/// says that it stands for several interfaces: each packet has its index and link
/// type. A pcapng file then describes each when its first packet comes, by the
/// name "ifN". `snap_length`: packets are cut to so many bytes, a VLAN tag
/// included; 0: not. More than 262144 bytes of a packet are never written: no
/// reader takes more. `name` NULL: none.
///
/// A pcap file has one link type, one snap length and no names; interfaces of the
/// same link type may share it, the one with the largest snap length added first.
/// A pcapng file has them for each interface, but tcpdump and what else uses
/// libpcap refuse one whose interfaces differ in either (Wireshark and
/// netring_reader_open do not).
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, the link type is above
/// 65535, or a pcap file has another, or a smaller snap length, already. NETRING_EIO, the file could not be
/// written to. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `name`, if not NULL, must be NUL-terminated, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_add_interface(
    writer: *mut netring_writer,
    name: *const c_char,
    link_type: u32,
    snap_length: u32,
    err: *mut netring_error,
) -> c_int {
    let call = |writer: &Writer| {
        let name = if name.is_null() {
            "".into()
        } else {
            // SAFETY: the caller's promise.
            unsafe { text(name, "name")? }.to_string_lossy()
        };
        let link_type = u16::try_from(link_type).map_err(|_| {
            Error::config("link_type", format!("link_type {link_type} is out of range: 0 to 65535"))
        })?;
        let single = (link_type != NETRING_LINKTYPE_UNKNOWN).then_some(link_type);
        writer.add_interface(&name, single, snap_length, false)
    };
    // SAFETY: the caller's promise.
    unsafe { adding(writer, err, call) }
}

/// Adds the interface of an open capture, with its name, link type and snap
/// length, and returns its number. A capture on "any" stands for all of them:
/// a pcapng file describes each when its first packet comes, by the name it has
/// then (in the network namespace of the calling thread), a pcap file can take
/// them as long as they have the same link type. An interface whose hardware has
/// no LINKTYPE_ number is written as 147 (LINKTYPE_USER0).
///
/// The writer does not keep the capture: give it the counters with
/// netring_writer_statistics. After netring_capture_rebind to an interface of the
/// same name and link type (netring_capture_info tells) go on under the same
/// number; add any other. Do not add one for each rebind: every file of a series
/// describes all that were added, and 65535 is the most.
///
/// Errors: NETRING_EBADF, not a writer, or not a capture. NETRING_EINVAL, a pcap
/// file has another link type, or a smaller snap length, already. NETRING_EIO, the file could not be written
/// to. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `err` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_add_capture(
    writer: *mut netring_writer,
    capture: *mut netring_capture,
    err: *mut netring_error,
) -> c_int {
    let call = |writer: &Writer| {
        let capture = CAPTURES.pin(capture)?;
        let info = capture.info();
        let single = (info.ifindex != 0).then_some(info.link_type);
        writer.add_interface(&info.interface, single, info.snap_length, true)
    };
    // SAFETY: the caller's promise.
    unsafe { adding(writer, err, call) }
}

/// Writes all packets of a block, those in several pieces as one, and returns how many. What is marked away or
/// was never filled is not among them. The block's own cursor does not matter
/// and is not moved, and others may read the block meanwhile.
///
/// VLAN tags that the kernel took out are put back; `caplen` and `len` in the
/// file count them. pcapng keeps the direction.
///
/// After a failure the file ends with the last packet that was written whole,
/// and the same call may be made again, once there is space: it goes on behind
/// that packet, so that none is written twice.
///
/// Errors: NETRING_EBADF, not a writer, or not a block. NETRING_EINVAL, no such
/// interface, or packets of another link type: nothing was written. NETRING_EIO,
/// the file could not be written to (ENOSPC, EDQUOT, EFBIG, EPIPE, ...), the next
/// file could not be begun, or the block's memory was overwritten;
/// netring_writer_last_error tells the file and how far it goes. SIGPIPE and
/// SIGXFSZ are not raised. MT-Safe; one call at a time goes on.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_write_block(
    writer: *mut netring_writer,
    interface: u32,
    block: *mut netring_block,
) -> c_int {
    on_writer(writer, |writer| {
        let pinned = BLOCKS.pin(block)?;
        let mut source = BlockSource::new(&pinned, block.addr() as u64);
        let count = writer.write(interface, &mut source)?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// Packets in an array of the caller's.
struct ArraySource {
    packets: *const netring_packet,
    size: usize,
    count: usize,
    at: usize,
}

impl Source for ArraySource {
    fn next(&mut self, out: &mut [Packet]) -> Result<usize> {
        let count = out.len().min(self.count - self.at);
        for to in out.iter_mut().take(count) {
            // SAFETY: below `count` elements of `size` bytes, which the caller vouches for.
            let from = unsafe { self.packets.byte_add(self.at * self.size) };
            // SAFETY: as above; any bytes are a packet.
            *to = unsafe { from.read() };
            if to.data.is_null() && to.caplen != 0 {
                return Err(Error::config(
                    "packets",
                    format!("packet {} has a caplen of {} and no data", self.at, to.caplen),
                ));
            }
            if to.status & NETRING_PACKET_SEGMENTED != 0 {
                return Err(Error::config(
                    "packets",
                    format!(
                        "packet {} has {} further pieces, which only its block knows: use \
                         netring_writer_write_block; or clear NETRING_PACKET_SEGMENTED in its \
                         status to write the first piece alone",
                        self.at, to.segments
                    ),
                ));
            }
            self.at += 1;
        }
        Ok(count)
    }

    fn link_type(&self) -> Option<u16> {
        None
    }

    fn rewind(&mut self) {
        self.at = 0;
    }

    fn bytes(&self, packet: &Packet) -> Pieces<'_> {
        // SAFETY: the caller of netring_writer_write vouches for it.
        Pieces::one(unsafe { Bytes::new(packet.data, packet.caplen as usize) })
    }

    fn name(&self) -> u64 {
        0
    }
}

/// Writes `count` packets, of blocks or filled in by the caller, and returns how
/// many: all, at most 2147483647. `size` is that of one element, sizeof *packets.
/// It uses `data`, `caplen`, `len`, `time_ns`, `link_type`, `queue`, and by the
/// bits of `status` the VLAN tag and the direction; with an interface that stands
/// for several also `ifindex`. As netring_writer_write_block otherwise; every call
/// is at least one system call, so pass many.
///
/// After a failure netring_writer_info.last_written tells how many of these
/// packets are in the file: go on behind them.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, no such interface, packets
/// of another link type, a packet without data or in several pieces
/// (NETRING_PACKET_SEGMENTED: only its block knows them; clear the bit to write the
/// first alone), `packets` is NULL or misaligned, or `size` is less than 64, more than 256 or not a multiple of 8: nothing was
/// written. NETRING_EIO, as netring_writer_write_block. MT-Safe; one call at a
/// time goes on.
///
/// # Safety
/// `packets` must be readable for `count` times `size` bytes, and each packet's
/// `data` for its `caplen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_write(
    writer: *mut netring_writer,
    interface: u32,
    packets: *const netring_packet,
    size: usize,
    count: usize,
) -> c_int {
    on_writer(writer, |writer| {
        check_packets(packets.cast_mut(), "packets", size)?;
        let count = count.min(c_int::MAX as usize);
        let mut source = ArraySource { packets, size, count, at: 0 };
        let mut scratch = [Packet::ZERO; 64];
        while source.next(&mut scratch)? != 0 {}
        source.rewind();
        let count = writer.write(interface, &mut source)?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// Gives the counters of an interface, as netring_capture_stats wrote them: the
/// last ones given are written at the end of each pcapng file, as its interface
/// statistics. Returns 1, or 0 where the format has no place for them (pcap).
/// With rotation give them once a second or so, since a file can end in any write.
/// They count from the open of the capture, not of the file: of an interface that
/// was added after netring_capture_rebind, give the difference to those at the
/// rebind (netring_stats_since). Those of a capture on "any" are written under an
/// interface of that name, which the end of the file describes.
///
/// isb_ifrecv and isb_filteraccept are `seen`; isb_osdrop is `dropped`; isb_ifdrop
/// is all that was lost, `dropped` and what the interface lost (interface_missed,
/// interface_dropped, interface_fifo), since that is where Wireshark and dumpcap
/// have the drops; isb_usrdeliv is `delivered`. `size` is sizeof *stats.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, no such interface, `stats`
/// is NULL or misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `stats` must be readable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_statistics(
    writer: *mut netring_writer,
    interface: u32,
    stats: *const netring_stats,
    size: usize,
) -> c_int {
    on_writer(writer, |writer| {
        // SAFETY: the caller's promise.
        let stats = unsafe { read_sized(stats, "stats", size, netring_stats::default())? };
        let statistics = Statistics {
            received: stats.seen,
            dropped: stats
                .dropped
                .saturating_add(stats.interface_missed)
                .saturating_add(stats.interface_dropped)
                .saturating_add(stats.interface_fifo),
            os_dropped: stats.dropped,
            delivered: stats.delivered,
            ..Statistics::default()
        };
        Ok(c_int::from(writer.statistics(interface, statistics)?))
    })
}

/// Waits until what was written is on the disk (fsync). Without it the kernel
/// has it, which is enough unless the machine itself stops.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EIO, errno says why. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_sync(writer: *mut netring_writer) -> c_int {
    on_writer(writer, |writer| writer.sync().map(|()| 0))
}

/// Writes what the calls that have returned have written: as much of it as `size`
/// bytes hold. It waits for no write, nor does netring_writer_path.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_info(
    writer: *mut netring_writer,
    out: *mut netring_writer_info,
    size: usize,
) -> c_int {
    on_writer(writer, |writer| {
        writable_sized(out, "out", size, SHORTEST)?;
        let info = writer.info();
        let value = netring_writer_info {
            size: size as u32,
            format: info.format,
            interfaces: info.interfaces,
            reserved: 0,
            packets: info.packets,
            bytes: info.bytes,
            files: info.files,
            files_removed: info.files_removed,
            file_packets: info.file_packets,
            file_bytes: info.file_bytes,
            last_written: info.last_written,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    })
}

/// Copies the path of the present file to `out`, NUL-terminated and cut to `size`
/// bytes; returns its length without the NUL, which may be more than fits. Empty
/// for a descriptor.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, `out` is NULL with a size.
/// MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_path(
    writer: *mut netring_writer,
    out: *mut c_char,
    size: usize,
) -> c_int {
    on_writer(writer, |writer| {
        let path = writer.path();
        let bytes = path.to_bytes();
        if size != 0 {
            writable(out, "out")?;
            let count = bytes.len().min(size - 1);
            // SAFETY: less than `size` bytes, writable by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, count) };
            // SAFETY: below `size`.
            let end = unsafe { out.add(count) };
            // SAFETY: as above.
            unsafe { end.write(0) };
        }
        Ok(c_int::try_from(bytes.len()).unwrap_or(c_int::MAX))
    })
}

/// Writes the last failure of a call on this writer, with its words; all zero
/// where none has failed.
///
/// Errors: NETRING_EBADF, not a writer. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_last_error(
    writer: *mut netring_writer,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &WRITERS,
        writer,
        |writer| {
            let error = writer.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}

/// Ends the file, with the statistics that were given, and closes it. The handle
/// is gone also where the end could not be written; the packets are in the file
/// then, up to where the earlier calls said. Waits for calls on other threads.
/// NULL is fine.
///
/// Errors: NETRING_EBADF, not a writer, or closed before. NETRING_EIO, the end
/// could not be written, or the kernel says only now that something before could
/// not. NETRING_EBUSY, called from a log callback: the writer stays open.
/// MT-Safe. `err` may be NULL.
///
/// # Safety
/// `err` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_writer_close(
    writer: *mut netring_writer,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        if writer.is_null() {
            return Ok(0);
        }
        if crate::log::in_sink() {
            return Err(Error::new(
                Kind::Busy,
                "writer",
                "a log callback cannot close a writer: the close would wait for the call that the \
                 message comes from",
            ));
        }
        match WRITERS.close(writer)?.finish().map(Arc::try_unwrap) {
            Some(Ok(writer)) => writer.close().map(|()| 0),
            _ => Ok(0),
        }
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}
