//! struct netring_xdp: the AF_XDP sockets of one interface, and their program.

use crate::afxdp::config::Step;
use crate::afxdp::open::{Xdp, XdpInfo};
use crate::afxdp::program::{Which, try_filter};
use crate::afxdp::queue::XdpCounters;
use crate::error::{Error, Kind, Result};
use crate::ffi::capture::netring_stats;
use crate::ffi::error::{
    copy_text, describe, guard_handle_reporting, guard_reporting, netring_error,
};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::guard::{guard, guard_handle, refuse};
use crate::ffi::handle::{HandleKind, Pinned, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, array, put, put_sized, text, writable, writable_sized,
};
use crate::ffi::queue::{QUEUES, netring_queue};
use crate::ffi::xdp_config::{NETRING_XDP_MULTI_BUFFER, netring_xdp_config, redirect, xdp_config};
use crate::log;
use crate::packet::NETRING_LINKTYPE_ETHERNET;
use crate::sys::process;
use std::ffi::{c_char, c_int};
use std::sync::Arc;

/// AF_XDP sockets of one interface and the program that redirects packets to them. A
/// token, never dereferenced. The packets are its queues' (netring_xdp_queue).
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_xdp {
    _opaque: [u8; 0],
}

/// What the handle stands for: the sockets, and the handles of their queues.
pub(crate) struct Opened {
    xdp: Xdp,
    queues: Vec<Token>,
}

/// The token of a queue.
#[derive(Clone, Copy)]
struct Token(*mut netring_queue);

// SAFETY: a token is a number.
unsafe impl Send for Token {}
// SAFETY: as above.
unsafe impl Sync for Token {}

pub(crate) static XDPS: Table<Opened> = Table::new(HandleKind::Xdp);

/// What was granted, and how the interface is now.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_xdp_info {
    /// The size passed in.
    pub size: u32,
    /// Granted: NETRING_MODE_ZEROCOPY, NETRING_MODE_COPY or NETRING_MODE_SKB. Without
    /// sockets what the program was granted.
    pub mode: u32,
    /// `mode` as configured.
    pub requested_mode: u32,
    /// NETRING_REDIRECT_* now; 0: a program of the caller's decides.
    pub redirect: u32,
    /// Sockets, one for each queue.
    pub queue_count: u32,
    /// Queues that the interface had at the open.
    pub interface_queues: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// LINKTYPE_ number of its packets.
    pub link_type: u32,
    /// Its MTU now, as far as frames are sent; else at the open.
    pub mtu: u32,
    /// Bytes of the largest frame that a queue sends now; 0: none is.
    pub frame_limit: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Bytes in front of each received packet, besides the kernel's 256.
    pub headroom: u32,
    /// Frames to receive into, of each queue.
    pub rx_frames: u32,
    /// Frames to send from, of each queue.
    pub tx_frames: u32,
    /// Entries of each receive ring.
    pub rx_ring: u32,
    /// Entries of each transmit ring.
    pub tx_ring: u32,
    /// Entries of each fill ring.
    pub fill_ring: u32,
    /// Entries of each completion ring.
    pub completion_ring: u32,
    /// Most packets of a block.
    pub block_packets: u32,
    /// Modes that were tried and not granted: netring_xdp_steps has them.
    pub steps: u32,
    /// Number of the program on the interface (`bpftool prog`); 0: none is known.
    pub program_id: u32,
    /// Number of the XSKMAP; 0: there is none.
    pub map_id: u32,
    /// Most frames of a packet with zero copy, as the driver says (Linux 6.6); 0:
    /// unknown.
    pub max_segments: u32,
    /// The running kernel, 0x00MMmmpp.
    pub kernel_version: u32,
    /// NETRING_XDP_* bits; without NETRING_XDP_RX_METADATA where it is not to be had.
    pub flags: u64,
    /// Bytes of the frames: of all queues, or of the `umem`.
    pub memory: u64,
    /// Bytes they could have taken at most.
    pub memory_bound: u64,
    /// Name of the interface at the open, NUL-terminated.
    pub interface: [c_char; 16],
}

/// A mode that was tried and not granted: 256 bytes.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_xdp_step {
    /// NETRING_MODE_*; of "rx_metadata" NETRING_MODE_AUTO.
    pub mode: u32,
    /// What the kernel said, an errno number; 0: nothing.
    pub os_errno: i32,
    /// The step that failed: "attach", "bind", "rx_metadata". NUL-terminated.
    pub option: [c_char; 24],
    /// Why, in words. NUL-terminated.
    pub message: [c_char; 224],
}

/// Numbers of a queue, or of all queues of an xdp: cumulative since the open, except for
/// the gauges; never reset by reading. rx_frames = rx_kernel + rx_held + rx_forwarded;
/// tx_frames = tx_free + tx_open + tx_committed + tx_in_flight, without forwarded frames,
/// of which the last two tell as well; while nothing moves.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_xdp_counters {
    /// The size passed in.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// CLOCK_MONOTONIC of this reading, nanoseconds.
    pub time_ns: u64,
    /// Packets that the kernel dropped: larger than a frame, or no frame was there.
    pub rx_dropped: u64,
    /// Entries of the fill ring that the kernel refused. 0: the library writes none.
    pub rx_invalid: u64,
    /// Descriptors of the transmit ring that the kernel refused. 0, as far as the library
    /// knows what the device takes.
    pub tx_invalid: u64,
    /// Packets that the kernel dropped because the receive ring was full (Linux 5.9).
    pub rx_ring_full: u64,
    /// Times that the kernel found no frame in the fill ring (Linux 5.9). With zero copy
    /// the device drops packets meanwhile, and counts them itself.
    pub fill_empty: u64,
    /// Times that the kernel found no descriptor in the transmit ring (Linux 5.9).
    pub tx_ring_empty: u64,
    /// Descriptors of the receive ring that named no frame of the queue; packets of
    /// several frames count once.
    pub rx_strange: u64,
    /// Waits for packets: system calls.
    pub polls: u64,
    /// System calls that had the driver look at the fill ring.
    pub rx_kicks: u64,
    /// System calls that had it look at the transmit ring.
    pub tx_kicks: u64,
    /// Those that it did not ask for, and were not made.
    pub kicks_saved: u64,
    /// Frames that were forwarded to this queue.
    pub forwarded: u64,
    /// Gauge: frames to receive into.
    pub rx_frames: u64,
    /// Gauge: of these, with the kernel.
    pub rx_kernel: u64,
    /// Gauge: of these, in blocks that are held.
    pub rx_held: u64,
    /// Gauge: of these, forwarded and not sent yet.
    pub rx_forwarded: u64,
    /// Gauge: frames to send from.
    pub tx_frames: u64,
    /// Gauge: of these, free.
    pub tx_free: u64,
    /// Gauge: slots handed out.
    pub tx_open: u64,
    /// Gauge: frames that are committed and not in the transmit ring, forwarded ones among
    /// them.
    pub tx_committed: u64,
    /// Gauge: frames in the transmit ring or with the device, likewise.
    pub tx_in_flight: u64,
}

/// `which`: the link that keeps the program attached (bpf_link). Pinned, or held by
/// another process, it keeps it beyond the close.
pub const NETRING_XDP_FD_LINK: u32 = 1;
/// `which`: the XSKMAP.
pub const NETRING_XDP_FD_MAP: u32 = 2;
/// `which`: the program.
pub const NETRING_XDP_FD_PROGRAM: u32 = 3;

const _: () = assert!(size_of::<netring_xdp_info>() == 136);
const _: () = assert!(size_of::<netring_xdp_step>() == 256);
const _: () = assert!(size_of::<netring_xdp_counters>() == 184);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_xdp_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_xdp_step {}
// SAFETY: as above.
unsafe impl CStruct for netring_xdp_counters {}

impl From<&XdpInfo> for netring_xdp_info {
    fn from(info: &XdpInfo) -> Self {
        let mut interface = [0; 16];
        copy_text(&info.interface, &mut interface);
        Self {
            size: size_of::<Self>() as u32,
            mode: info.mode as u32,
            requested_mode: info.requested_mode as u32,
            redirect: info.redirect.map_or(0, |redirect| redirect as u32),
            queue_count: info.queue_count,
            interface_queues: info.interface_queues,
            ifindex: info.ifindex,
            link_type: NETRING_LINKTYPE_ETHERNET.into(),
            mtu: info.mtu,
            frame_limit: info.frame_limit,
            frame_size: info.frame_size,
            headroom: info.headroom,
            rx_frames: info.sizes.rx_frames,
            tx_frames: info.sizes.tx_frames,
            rx_ring: info.sizes.rx_ring,
            tx_ring: info.sizes.tx_ring,
            fill_ring: info.sizes.fill_ring,
            completion_ring: info.sizes.completion_ring,
            block_packets: info.sizes.block_packets,
            steps: info.steps,
            program_id: info.ids.0,
            map_id: info.ids.1,
            max_segments: info.max_segments,
            kernel_version: process::kernel_version(),
            flags: info.flags,
            memory: info.memory,
            memory_bound: info.memory_bound,
            interface,
        }
    }
}

impl From<&Step> for netring_xdp_step {
    fn from(step: &Step) -> Self {
        let (mut option, mut message) = ([0; 24], [0; 224]);
        copy_text(step.option, &mut option);
        copy_text(&step.message, &mut message);
        Self { mode: step.mode as u32, os_errno: step.os.unwrap_or(0), option, message }
    }
}

impl From<&XdpCounters> for netring_xdp_counters {
    fn from(counters: &XdpCounters) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            reserved: 0,
            time_ns: counters.time_ns,
            rx_dropped: counters.kernel.rx_dropped,
            rx_invalid: counters.kernel.rx_invalid,
            tx_invalid: counters.kernel.tx_invalid,
            rx_ring_full: counters.kernel.rx_ring_full,
            fill_empty: counters.kernel.fill_empty,
            tx_ring_empty: counters.kernel.tx_ring_empty,
            rx_strange: counters.strange,
            polls: counters.polls,
            rx_kicks: counters.rx_kicks,
            tx_kicks: counters.tx_kicks,
            kicks_saved: counters.kicks_saved,
            forwarded: counters.forwarded,
            rx_frames: counters.rx_frames,
            rx_kernel: counters.rx_kernel,
            rx_held: counters.rx_held,
            rx_forwarded: counters.rx_forwarded,
            tx_frames: counters.tx_frames,
            tx_free: counters.tx_free,
            tx_open: counters.tx_open,
            tx_committed: counters.tx_committed,
            tx_in_flight: counters.tx_in_flight,
        }
    }
}

/// A call on an xdp; its failure is kept for netring_xdp_last_error.
fn on_xdp(xdp: *mut netring_xdp, call: impl FnOnce(&Pinned<Opened>) -> Result<c_int>) -> c_int {
    guard_handle(&XDPS, xdp, call, |opened, error| {
        if let Some(opened) = opened {
            opened.xdp.note(error);
        }
    })
}

/// Makes handles of sockets and queues.
///
/// # Safety
/// `out` is writable.
unsafe fn hand_out(xdp: Xdp, out: *mut *mut netring_xdp) -> Result<c_int> {
    let mut queues = Vec::with_capacity(xdp.queues().len());
    let mut refused = None;
    for queue in xdp.queues() {
        match QUEUES.insert(Arc::clone(queue)) {
            Ok(token) => queues.push(Token(token)),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let opened = Opened { xdp, queues };
    let queues = opened.queues.clone();
    let handle = match refused {
        None => XDPS.insert(Arc::new(opened)),
        Some(error) => {
            opened.xdp.close();
            Err(error)
        }
    };
    match handle {
        // SAFETY: the caller's promise.
        Ok(handle) => unsafe { put(out, "out", handle) }.map(|()| 0),
        Err(error) => {
            close_queues(&queues);
            Err(error)
        }
    }
}

fn close_queues(queues: &[Token]) {
    for token in queues {
        if let Ok(closing) = QUEUES.close(token.0) {
            drop(closing.finish());
        }
    }
}

/// Opens AF_XDP sockets on the `queue_count` queues of an interface that `queues` names;
/// with 0 on all of them. A program is attached that redirects to them what
/// `config->redirect` says, the rest goes to the host's stack; it is gone when the xdp is
/// closed or the process ends, however that ends. What is redirected has no default:
/// `config` NULL is an error.
///
/// Each queue of the interface needs a socket to be received from; RSS spreads flows over
/// queues. Opening them all costs memory for each; netring_xdp_missing names those
/// without.
///
/// No other program is replaced. Drivers may reset the link when one is attached
/// (`carrier_timeout`).
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong, or `redirect`
/// was not said. NETRING_EBADF, `config->filter` is no filter, or `config->umem` no UMEM.
/// NETRING_ENODEV, no such interface. NETRING_EPERM, it takes CAP_NET_RAW, CAP_NET_ADMIN
/// and CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), the last two not those of a user
/// namespace. NETRING_EBUSY, another
/// program is attached (option "program", with its number), or a queue has a socket
/// already ("queue"), also after `bind_timeout`; or the `umem` has too few free frames
/// ("umem"). NETRING_EFILTER, the filter cannot be an XDP program. NETRING_EXDP, the
/// verifier refuses it (netring_xdp_try_filter has its log), or the driver.
/// NETRING_EMEMLOCK, the locked-memory limit. NETRING_EMMAP, memory exceeds its bound, or
/// was refused. NETRING_ENOTSUP, not with this kernel, driver or mode. NETRING_EBIND,
/// NETRING_ESOCKET, NETRING_ESOCKOPT, NETRING_EIO: the kernel refused a step. `err` names
/// the step, the value and what to do; docs/errors.md lists every one. On an error `*out`
/// is not written and nothing stays attached.
/// Ownership: the caller closes `*out` with netring_xdp_close. MT-Safe. `err` may be
/// NULL. Needs Linux 5.9. (networking/af_xdp.rst, net/xdp/xsk.c.)
///
/// # Safety
/// `interface` must be NUL-terminated, `queues` readable for `queue_count` elements,
/// `config` readable for the size it says it has, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_open(
    interface: *const c_char,
    queues: *const u32,
    queue_count: usize,
    config: *const netring_xdp_config,
    out: *mut *mut netring_xdp,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let queues = unsafe { array(queues, queue_count, "queues")? };
        // SAFETY: the caller's promise.
        let config = unsafe { xdp_config(config)? };
        let xdp = Xdp::open(interface.to_bytes(), queues, &config)?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { hand_out(xdp, out) }
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// The same with sockets that the caller was handed: `sockets[i]`, fresh from
/// socket(AF_XDP, SOCK_RAW, 0), for `queues[i]`. Nothing is attached: the program that
/// redirects into `config->map_fd` (NETRING_XDP_MAP_FD) is, by whoever made the sockets,
/// with netring_xdp_open and NETRING_XDP_PROGRAM_ONLY for one. Needs no capability, but
/// memory to lock (RLIMIT_MEMLOCK) for the frames.
///
/// The sockets stay the caller's, who best closes them after the open: a queue is in use
/// as long as anybody has its socket. They are copied, without zero copy where
/// `mode` is NETRING_MODE_AUTO: a socket has one try.
///
/// Errors: as netring_xdp_open; NETRING_EINVAL also where a descriptor is no AF_XDP
/// socket, or has been used. MT-Safe. `err` may be NULL.
/// Ownership: the caller closes `*out` with netring_xdp_close.
///
/// # Safety
/// As netring_xdp_open; `sockets` must be readable for `queue_count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_adopt(
    interface: *const c_char,
    queues: *const u32,
    sockets: *const c_int,
    queue_count: usize,
    config: *const netring_xdp_config,
    out: *mut *mut netring_xdp,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let queues = unsafe { array(queues, queue_count, "queues")? };
        // SAFETY: the caller's promise.
        let sockets = unsafe { array(sockets, queue_count, "sockets")? };
        // SAFETY: the caller's promise.
        let config = unsafe { xdp_config(config)? };
        let xdp = Xdp::adopt(interface.to_bytes(), queues, sockets, &config)?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { hand_out(xdp, out) }
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Closes an xdp: the program is detached, unless somebody has a duplicate of its link
/// (NETRING_XDP_FD_LINK; netring_xdp_detach takes it off even so), then its sockets end.
/// What is committed is offered to the kernel once more, without waiting; returns how many
/// committed frames it has not taken (0: none), which are gone then. To lose none,
/// netring_queue_drain before. The handles of its queues are stale from here on; blocks
/// keep their packets until their release. Calls in progress on other threads return
/// NETRING_EBADF. NULL is fine: 0.
///
/// Errors: NETRING_EBADF, not an xdp, or closed before. NETRING_EBUSY, called from a log
/// callback. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_close(xdp: *mut netring_xdp) -> c_int {
    guard(|| {
        if xdp.is_null() {
            return Ok(0);
        }
        if log::in_sink() {
            return Err(Error::new(
                Kind::Busy,
                "xdp",
                "a log callback cannot close an xdp: the close would wait for the call that the \
                 message comes from",
            ));
        }
        let closing = XDPS.close(xdp)?;
        if let Some(opened) = closing.value() {
            opened.xdp.queues().iter().for_each(|queue| queue.interrupt());
        }
        let Some(opened) = closing.finish() else { return Ok(0) };
        close_queues(&opened.queues);
        let left = opened.xdp.close();
        Ok(c_int::try_from(left).unwrap_or(c_int::MAX))
    })
}

/// Gives the handle of a queue: the one at place `index` of the queues that were opened,
/// in the order of `queues`, or of their numbers. Each can be a thread's own. The same
/// handle every time.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, `out` is NULL, or there are not as
/// many queues (netring_xdp_info).
/// Ownership: the xdp's; stale after netring_xdp_close. MT-Safe.
///
/// # Safety
/// `out` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_queue(
    xdp: *mut netring_xdp,
    index: u32,
    out: *mut *mut netring_queue,
) -> c_int {
    on_xdp(xdp, |opened| {
        let Some(token) = opened.queues.get(index as usize) else {
            return Err(Error::config(
                "index",
                format!("there is no queue at {index}: {} were opened", opened.queues.len()),
            ));
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, "out", token.0)? };
        Ok(0)
    })
}

/// Writes what was granted: as much of it as `size` bytes hold.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, `out` is NULL or misaligned, or
/// `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_info(
    xdp: *mut netring_xdp,
    out: *mut netring_xdp_info,
    size: usize,
) -> c_int {
    on_xdp(xdp, |opened| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut info = netring_xdp_info::from(&opened.xdp.info());
        info.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &info) };
        Ok(0)
    })
}

/// Writes why the mode is no better one: the modes that were tried and not granted, the
/// best first, up to `count` of them. Returns how many were written; 0: the mode is the
/// first that was tried.
///
/// `size` is sizeof(struct netring_xdp_step) of the caller's header.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, `out` is NULL or misaligned, `size`
/// is less than 256 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_steps(
    xdp: *mut netring_xdp,
    out: *mut netring_xdp_step,
    size: usize,
    count: usize,
) -> c_int {
    on_xdp(xdp, |opened| {
        writable_sized(out, "out", size, size_of::<netring_xdp_step>())?;
        let steps = opened.xdp.steps();
        let written = steps.len().min(count);
        for (at, step) in steps.iter().take(written).enumerate() {
            // SAFETY: one of the caller's `count` elements.
            let to = unsafe { out.byte_add(at * size) };
            // SAFETY: as above, and checked.
            unsafe { put_sized(to, size, &netring_xdp_step::from(step)) };
        }
        Ok(written as c_int)
    })
}

/// Names the queues of the interface that have no socket of this xdp: packets of theirs
/// go to the host's stack, whatever is redirected. Writes up to `count` numbers, and
/// returns how many there are.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, `out` is NULL or misaligned with a
/// `count`. MT-Safe.
///
/// # Safety
/// `out` must be writable for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_missing(
    xdp: *mut netring_xdp,
    out: *mut u32,
    count: usize,
) -> c_int {
    on_xdp(xdp, |opened| {
        if count > 0 {
            writable(out, "out")?;
        }
        let missing = opened.xdp.missing();
        for (at, queue) in missing.iter().take(count).enumerate() {
            // SAFETY: one of the caller's `count` numbers.
            let to = unsafe { out.add(at) };
            // SAFETY: as above, aligned.
            unsafe { to.write(*queue) };
        }
        Ok(missing.len() as c_int)
    })
}

/// Has something else redirected from the next packet on: `redirect` is
/// NETRING_REDIRECT_*, `filter` with NETRING_REDIRECT_FILTER a filter, else NULL. What is
/// in the rings by then stays. The program is replaced at once (BPF_LINK_UPDATE): no
/// packet goes by in between. The caller may free the filter afterwards.
///
/// Errors, after which everything is as it was: NETRING_EINVAL, `redirect` and `filter`
/// do not go together, or no program is attached (any more). NETRING_EFILTER,
/// NETRING_EXDP, as netring_xdp_open. NETRING_ENOTSUP, the program is the caller's own.
/// NETRING_EBUSY, somebody else has changed the link, or has put a socket into the map.
/// NETRING_ENODEV, the interface is gone. NETRING_EPERM, privileges were given up since.
/// NETRING_EBADF, not an xdp. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `err`, if not NULL, must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_set_filter(
    xdp: *mut netring_xdp,
    redirect: u32,
    filter: *mut netring_filter,
    err: *mut netring_error,
) -> c_int {
    let call = |opened: &Pinned<Opened>| {
        let filter = configured_filter(filter)?;
        let Some(redirect) = self::redirect(redirect)? else {
            return Err(Error::config("redirect", "redirect must be said: NETRING_REDIRECT_*"));
        };
        opened.xdp.set_filter(redirect, filter.as_ref())?;
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&XDPS, xdp, err, call, |opened, error| opened.xdp.note(error)) }
}

/// Takes the program off the interface: every packet goes to the host's stack. Sockets
/// stay: what is in their rings can be read, and frames sent where the driver does that
/// without a program. A program of somebody else's is not touched. Once more is no error.
///
/// Errors: NETRING_EINVAL, the xdp has attached none. NETRING_EIO, the kernel refuses.
/// NETRING_EBADF, not an xdp. MT-Safe. `err` may be NULL. (BPF_LINK_DETACH, Linux 5.9.)
///
/// # Safety
/// `err`, if not NULL, must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_detach(
    xdp: *mut netring_xdp,
    err: *mut netring_error,
) -> c_int {
    let call = |opened: &Pinned<Opened>| opened.xdp.detach().map(|()| 0);
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&XDPS, xdp, err, call, |opened, error| opened.xdp.note(error)) }
}

/// Gives a descriptor of the xdp's, to be pinned, sent to another process or looked at:
/// `which` is NETRING_XDP_FD_*. Returns the descriptor, 0 or more.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, it has none of that kind, or there
/// is no such kind.
/// Ownership: the xdp's; do not close it, and duplicate it to use it after the close.
/// MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_fd(xdp: *mut netring_xdp, which: u32) -> c_int {
    on_xdp(xdp, |opened| {
        let which = match which {
            NETRING_XDP_FD_LINK => Which::Link,
            NETRING_XDP_FD_MAP => Which::Map,
            NETRING_XDP_FD_PROGRAM => Which::Program,
            unknown => {
                return Err(Error::config(
                    "which",
                    format!("there is no NETRING_XDP_FD_ {unknown}"),
                ));
            }
        };
        opened.xdp.fd(which)
    })
}

/// Writes the counters of all queues together, as netring_queue_stats for one.
///
/// Errors: as netring_xdp_info. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_stats(
    xdp: *mut netring_xdp,
    out: *mut netring_stats,
    size: usize,
) -> c_int {
    on_xdp(xdp, |opened| {
        writable_sized(out, "out", size, SHORTEST)?;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &netring_stats::from(&opened.xdp.stats())) };
        Ok(0)
    })
}

/// Writes the numbers that only AF_XDP has, of all queues together: as much of it as
/// `size` bytes hold.
///
/// Errors: as netring_xdp_info. MT-Safe. (XDP_STATISTICS, linux/if_xdp.h.)
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_counters(
    xdp: *mut netring_xdp,
    out: *mut netring_xdp_counters,
    size: usize,
) -> c_int {
    on_xdp(xdp, |opened| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut counters = netring_xdp_counters::from(&opened.xdp.counters());
        counters.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &counters) };
        Ok(0)
    })
}

/// Stops every queue, as netring_queue_stop. The program stays attached: packets go to
/// sockets that nobody reads, and are dropped there, until the close.
///
/// Errors: NETRING_EBADF, not an xdp. MT-Safe, async-signal-safe; leaves errno alone on
/// success.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_stop(xdp: *mut netring_xdp) -> c_int {
    match XDPS.pin_quietly(xdp) {
        Ok(opened) => guard(|| {
            opened.xdp.stop();
            Ok(0)
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// Writes the last failure of a call on this xdp, with its words; all zero where none has
/// failed. Its queues have their own.
///
/// Errors: NETRING_EBADF, not an xdp. NETRING_EINVAL, `out` is NULL. MT-Safe.
///
/// # Safety
/// `out` must be writable for a struct netring_error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_last_error(
    xdp: *mut netring_xdp,
    out: *mut netring_error,
) -> c_int {
    guard_handle(
        &XDPS,
        xdp,
        |opened| {
            let error = opened.xdp.last_error();
            // SAFETY: writable by the caller's promise.
            unsafe { put(out, "out", describe(error.as_ref()))? };
            Ok(0)
        },
        |_, _| {},
    )
}

/// Tries whether the kernel takes a filter as an XDP program: it is translated and
/// loaded, attached nowhere, and gone again. Returns the number of its instructions. The
/// verifier's log goes to `log`, cut to `log_size` bytes and NUL-terminated, also where
/// it refuses; `log` may be NULL with a `log_size` of 0. `flags`:
/// NETRING_XDP_MULTI_BUFFER, or 0.
///
/// Errors: NETRING_EBADF, `filter` is none. NETRING_EINVAL, `flags` has other bits, or
/// `log` is NULL with a size. NETRING_EFILTER, it cannot be an XDP program: the message
/// says what of it. NETRING_EXDP, the verifier refuses it. NETRING_EPERM, it takes
/// CAP_BPF and CAP_NET_ADMIN. NETRING_ENOTSUP, no bpf(2) here. NETRING_EIO, no more
/// descriptors or memory. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `log` must be writable for `log_size` bytes, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_xdp_try_filter(
    filter: *mut netring_filter,
    flags: u64,
    log: *mut c_char,
    log_size: usize,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        if flags & !NETRING_XDP_MULTI_BUFFER != 0 {
            return Err(Error::config(
                "flags",
                format!("flags {flags:#x} has other bits than NETRING_XDP_MULTI_BUFFER"),
            ));
        }
        if log_size > 0 {
            writable(log, "log")?;
        }
        let Some(filter) = configured_filter(filter)? else {
            return Err(Error::new(Kind::BadHandle, "filter", "bad handle: filter is NULL"));
        };
        let program = filter.in_frame(NETRING_LINKTYPE_ETHERNET)?;
        let tried = try_filter(&program, flags != 0);
        let (said, result) = match tried {
            Ok((count, said)) => (said, Ok(count as c_int)),
            Err((error, said)) => (said, Err(error)),
        };
        if log_size > 0 {
            let length = said.len().min(log_size - 1);
            // SAFETY: less than the caller's buffer, by the promise.
            unsafe { std::ptr::copy_nonoverlapping(said.as_ptr(), log.cast(), length) };
            // SAFETY: inside it.
            let end = unsafe { log.add(length) };
            // SAFETY: as above.
            unsafe { end.write(0) };
        }
        result
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}
