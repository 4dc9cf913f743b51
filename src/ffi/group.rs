//! struct netring_group: a fanout group of captures.

use crate::afpacket::capture::Capture;
use crate::afpacket::fanout::{Group, GroupConfig, GroupInfo, GroupStats};
use crate::error::{Error, Kind, Result};
use crate::ffi::capture::{CAPTURES, netring_capture};
use crate::ffi::config::{capture_config, netring_capture_config};
use crate::ffi::error::{guard_handle_reporting, guard_reporting, netring_error};
use crate::ffi::filter::{configured_filter, netring_filter};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::handle::{HandleKind, Table};
use crate::ffi::pointers::{
    CStruct, SHORTEST, array, put, put_sized, read_config, text, writable, writable_sized,
};
use crate::fork;
use crate::log;
use crate::sys::fanout::{flag, mode};
use std::ffi::{c_char, c_int};
use std::sync::Arc;

/// A fanout group: captures among which the kernel divides the packets of one
/// interface. A token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_group {
    _opaque: [u8; 0],
}

static GROUPS: Table<Group> = Table::new(HandleKind::Group);

/// By the flow's hash: all packets of a flow, both directions, to one member
/// (Linux 3.1). Fragments have no ports to hash:
/// NETRING_FANOUT_FLAG_DEFRAG.
pub const NETRING_FANOUT_HASH: u32 = 0;
/// Taking turns, packet by packet (Linux 3.1).
pub const NETRING_FANOUT_LB: u32 = 1;
/// By the CPU on which the kernel receives the packet (Linux 3.1).
pub const NETRING_FANOUT_CPU: u32 = 2;
/// All to the first member until it has no room, then to the next (Linux 3.10).
/// Flows are split and reordered.
pub const NETRING_FANOUT_ROLLOVER: u32 = 3;
/// At random, packet by packet (Linux 3.12).
pub const NETRING_FANOUT_RND: u32 = 4;
/// By the device's queue (skb->queue_mapping, Linux 3.14).
pub const NETRING_FANOUT_QM: u32 = 5;
/// By what a classic program returns, modulo the members (Linux 4.3). For packets
/// received it sees them from the network header on, for packets sent from the
/// link-layer header on: load relative to SKF_NET_OFF or SKF_LL_OFF.
pub const NETRING_FANOUT_CBPF: u32 = 6;
/// By what an eBPF program returns, modulo the members (Linux 4.3).
pub const NETRING_FANOUT_EBPF: u32 = 7;

/// To another member where the chosen one has no room (Linux 3.10). A flow's
/// packets are then read in another order than they came in.
pub const NETRING_FANOUT_FLAG_ROLLOVER: u64 = 0x1000;
/// The kernel chooses an id that is not in use (Linux 4.12). On by default.
pub const NETRING_FANOUT_FLAG_UNIQUEID: u64 = 0x2000;
/// Nothing that this host sends: NETRING_CAPTURE_IGNORE_OUTGOING of every member.
/// Done by the kernel (Linux 6.2), before by instructions in front of each
/// member's filter.
pub const NETRING_FANOUT_FLAG_IGNORE_OUTGOING: u64 = 0x4000;
/// IPv4 fragments are put together before a member is chosen (Linux 3.1): members
/// get the whole datagram as one packet.
pub const NETRING_FANOUT_FLAG_DEFRAG: u64 = 0x8000;

const _: () = assert!(
    NETRING_FANOUT_HASH == mode::HASH
        && NETRING_FANOUT_LB == mode::LB
        && NETRING_FANOUT_CPU == mode::CPU
        && NETRING_FANOUT_ROLLOVER == mode::ROLLOVER
        && NETRING_FANOUT_RND == mode::RND
        && NETRING_FANOUT_QM == mode::QM
        && NETRING_FANOUT_CBPF == mode::CBPF
        && NETRING_FANOUT_EBPF == mode::EBPF
        && NETRING_FANOUT_FLAG_ROLLOVER == flag::ROLLOVER as u64
        && NETRING_FANOUT_FLAG_UNIQUEID == flag::UNIQUEID as u64
        && NETRING_FANOUT_FLAG_IGNORE_OUTGOING == flag::IGNORE_OUTGOING as u64
        && NETRING_FANOUT_FLAG_DEFRAG == flag::DEFRAG as u64
);

/// What `init` of a struct netring_group_config holds once it is initialised.
pub const NETRING_GROUP_CONFIG_INIT_WORD: u32 = 0x4e524743;

/// What a fanout group is asked for. Initialise it with netring_group_config_init
/// or NETRING_GROUP_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_group_config {
    /// sizeof(struct netring_group_config), written by the initialiser.
    pub size: u32,
    /// NETRING_GROUP_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_FANOUT_HASH (default), or another NETRING_FANOUT_*.
    pub mode: u32,
    /// How many captures will join through this handle: none of them gets a packet
    /// from before the last one joined. 0 (default): any number, and each gets
    /// packets from its own join on.
    pub members: u32,
    /// NETRING_FANOUT_FLAG_* bits. Default NETRING_FANOUT_FLAG_UNIQUEID.
    pub flags: u64,
    /// The most members that the kernel lets into the group, of all processes, up
    /// to 65536; 0 (default): 256. Other values need Linux 5.11 (Debian's 5.10 has
    /// it too).
    pub max_members: u32,
    /// The group's id in its network namespace, 0 to 65535: joins the group with
    /// this id, of another process perhaps, or makes it. Without
    /// NETRING_FANOUT_FLAG_UNIQUEID; with it (default) 0.
    pub id: u32,
    /// The program that chooses the member: classic for NETRING_FANOUT_CBPF, eBPF
    /// (netring_filter_new_ebpf) for NETRING_FANOUT_EBPF. NULL (default): for the
    /// other modes, or where another process has given the group its program. Each
    /// join gives it anew. The group keeps its own copy.
    pub program: *mut netring_filter,
}

/// The group has an id: a member has joined, or the id was given.
pub const NETRING_GROUP_HAS_ID: u64 = 0x1;
/// The members get packets.
pub const NETRING_GROUP_DELIVERING: u64 = 0x2;

/// How a fanout group is at the moment.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
pub struct netring_group_info {
    /// The size passed in.
    pub size: u32,
    /// NETRING_FANOUT_*.
    pub mode: u32,
    /// NETRING_FANOUT_FLAG_* bits in force; as configured until a member has
    /// joined.
    pub flags: u64,
    /// NETRING_GROUP_* bits.
    pub state: u64,
    /// The id, where it has one.
    pub id: u32,
    /// Members expected; 0: any number.
    pub members: u32,
    /// Members that joined through this handle and are not closed.
    pub joined: u32,
    /// The most there can be, of all processes.
    pub max_members: u32,
    /// Index of the members' interface; 0: any, or none has joined.
    pub ifindex: u32,
    /// 0.
    pub reserved: u32,
}

/// rollover, rollover_huge and rollover_failed are valid: the group rolls over, and
/// the kernel tells (Linux 4.2).
pub const NETRING_GROUP_STATS_ROLLOVER: u64 = 0x1;

/// What a fanout group, or one member of it, has counted since the first join.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
pub struct netring_group_stats {
    /// The size passed in.
    pub size: u32,
    /// Members at the moment; 1 for one member.
    pub members: u32,
    /// NETRING_GROUP_STATS_* bits.
    pub valid: u64,
    /// Packets chosen for a member (in mode rollover: the first one) that went to
    /// one with room instead.
    pub rollover: u64,
    /// Of them, those of a flow that makes up most of a member's traffic, moved
    /// before it was full.
    pub rollover_huge: u64,
    /// Packets for which no member had room; the one chosen has dropped them.
    pub rollover_failed: u64,
}

const _: () = assert!(size_of::<netring_group_config>() == 40);
const _: () = assert!(size_of::<netring_group_info>() == 48);
const _: () = assert!(size_of::<netring_group_stats>() == 40);

// SAFETY: repr(C) without padding; integers, and a token for which every value
// is checked.
unsafe impl CStruct for netring_group_config {}
// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_group_info {}
// SAFETY: as above.
unsafe impl CStruct for netring_group_stats {}

impl From<&GroupConfig> for netring_group_config {
    fn from(config: &GroupConfig) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            init: NETRING_GROUP_CONFIG_INIT_WORD,
            mode: config.mode,
            members: config.members,
            flags: config.flags,
            max_members: config.max_members,
            id: config.id,
            program: std::ptr::null_mut(),
        }
    }
}

impl From<&GroupInfo> for netring_group_info {
    fn from(info: &GroupInfo) -> Self {
        let state = |known: bool, bit: u64| if known { bit } else { 0 };
        Self {
            size: size_of::<Self>() as u32,
            mode: info.mode,
            flags: info.flags,
            state: state(info.id.is_some(), NETRING_GROUP_HAS_ID)
                | state(info.delivering, NETRING_GROUP_DELIVERING),
            id: info.id.unwrap_or(0).into(),
            members: info.members,
            joined: info.joined,
            max_members: info.max_members,
            ifindex: info.ifindex,
            reserved: 0,
        }
    }
}

impl From<&GroupStats> for netring_group_stats {
    fn from(stats: &GroupStats) -> Self {
        let rollover = stats.rollover.unwrap_or_default();
        Self {
            size: size_of::<Self>() as u32,
            members: stats.members,
            valid: if stats.rollover.is_some() { NETRING_GROUP_STATS_ROLLOVER } else { 0 },
            rollover: rollover.all,
            rollover_huge: rollover.huge,
            rollover_failed: rollover.failed,
        }
    }
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_group_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_config_init(
    config: *mut netring_group_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = netring_group_config::from(&GroupConfig::default());
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// Makes a fanout group, without members. `config` NULL: the defaults, which are
/// mode hash, an id of the kernel's choice, any number of members.
/// docs/fanout.md helps to choose a mode.
///
/// Errors: NETRING_EINVAL, an argument or a configuration value is wrong (modes
/// and flags that are not known too: the kernel ignores such flags silently).
/// NETRING_EBADF, `config->program` is no filter. NETRING_ENOTSUP, Linux before
/// 4.14. On an error `*out` is not written.
/// Ownership: the caller frees `*out` with netring_group_free. MT-Safe. `err` may
/// be NULL.
///
/// # Safety
/// `config` must be readable for the size it says it has, `out` and `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_new(
    config: *const netring_group_config,
    out: *mut *mut netring_group,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        let defaults = netring_group_config::from(&GroupConfig::default());
        // SAFETY: the caller's promise.
        let config =
            unsafe { read_config(config, "group", NETRING_GROUP_CONFIG_INIT_WORD, defaults)? };
        let program = configured_filter(config.program).map_err(|mut error| {
            error.option = "program".into();
            error
        })?;
        fork::claim()?;
        let group = Group::new(GroupConfig {
            mode: config.mode,
            flags: config.flags,
            members: config.members,
            max_members: config.max_members,
            id: config.id,
            program,
        })?;
        let handle = GROUPS.insert(Arc::new(group))?;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put(out, "out", handle)? };
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Opens a capture as netring_capture_open does, and has it join the group. Call it
/// on the thread that will read: its ring is then on that thread's memory node,
/// with `config->cpu` on that CPU's, to which the thread is moved.
///
/// With `members` in the group's configuration a member gets packets once the last
/// one has joined, from that moment on; without, from its own join on. What the
/// kernel gives a member between its join and then (10 to 30 ms after the last
/// join, in which the kernel is waited for) is lost to the group. No packet comes
/// to two members, or twice. A group whose members have all been closed begins anew
/// with the next one: another id where the kernel chooses it, and all members are
/// waited for again.
///
/// A member is a capture like any other but that: netring_capture_rebind is
/// NETRING_EINVAL. netring_capture_flush has no gap. After netring_capture_stop its
/// share is lost to the others until netring_capture_close, which gives it back to
/// them at once, even while blocks are held. Waits, descriptor, counters and events
/// are its own.
///
/// Errors: as netring_capture_open. NETRING_EINVAL also: `block_timeout` is 0;
/// another interface than the first member's; NETRING_CAPTURE_IGNORE_OUTGOING where
/// the first member has it not, or the other way round; more members than
/// configured. NETRING_ENOTSUP also: outgoing packets to be ignored with an eBPF
/// filter before Linux 6.2. NETRING_ESOCKOPT with the option "PACKET_FANOUT": the
/// kernel refused; errno EINVAL, most likely a group with this id that has another
/// mode, flags, interface or max_members, or a link that is down (before Linux
/// 6.13); ENOSPC, it is full. NETRING_EFILTER with the option "PACKET_FANOUT_DATA":
/// the group's program. On an error `*out` is not written, nothing is open, and the
/// other members are as before.
/// Ownership: the caller closes `*out` with netring_capture_close, before or after
/// netring_group_free. MT-Safe. `err` may be NULL.
///
/// # Safety
/// `interface` must be NUL-terminated, `config` readable for the size it says
/// it has, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_join(
    group: *mut netring_group,
    interface: *const c_char,
    config: *const netring_capture_config,
    out: *mut *mut netring_capture,
    err: *mut netring_error,
) -> c_int {
    let call = |group: &Group| {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let config = unsafe { capture_config(config)? };
        let capture = group.join(interface.to_bytes(), &config)?;
        let handles = hand_out(vec![capture])?;
        for handle in handles {
            // SAFETY: checked, and writable by the caller's promise.
            unsafe { put(out, "out", handle)? };
        }
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&GROUPS, group, err, |group| call(group), |_, _| {}) }
}

/// Handles for all of them, or for none: they are closed then.
fn hand_out(captures: Vec<Arc<Capture>>) -> Result<Vec<*mut netring_capture>> {
    let mut handles = Vec::with_capacity(captures.len());
    for capture in &captures {
        match CAPTURES.insert_for(capture.belongs(), Arc::clone(capture)) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                for handle in handles {
                    if let Ok(closing) = CAPTURES.close::<netring_capture>(handle) {
                        closing.finish();
                    }
                }
                for capture in &captures {
                    capture.close();
                }
                return Err(error);
            }
        }
    }
    Ok(handles)
}

/// Opens `count` captures on one interface, all of them members of the group, or
/// none. They get packets from the moment the last of them has joined, also where
/// the group expects no number of members. `captures` gets the handles. `cpus`, if
/// not NULL, says for each capture on which CPU's memory node its ring is
/// (negative: the calling thread's); the calling thread runs there meanwhile, and
/// afterwards where it ran before.
///
/// Errors: as netring_group_join; `err` says which capture it was. NETRING_EINVAL
/// also: `count` is 0 or more than 65536, `captures` is NULL, or `config->cpu` is
/// not -1. On an error nothing is written to `captures`.
/// Ownership: the caller closes each of them with netring_capture_close. MT-Safe.
/// `err` may be NULL.
///
/// # Safety
/// `interface` must be NUL-terminated, `config` readable for the size it says it
/// has, `cpus` readable and `captures` writable for `count` elements, `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_open(
    group: *mut netring_group,
    interface: *const c_char,
    config: *const netring_capture_config,
    cpus: *const i32,
    captures: *mut *mut netring_capture,
    count: usize,
    err: *mut netring_error,
) -> c_int {
    const MOST: usize = 65_536;
    let call = |group: &Group| {
        writable(captures, "captures")?;
        if count == 0 || count > MOST {
            return Err(Error::config(
                "count",
                format!("count {count} is out of range: 1 to {MOST} captures"),
            ));
        }
        // SAFETY: the caller's promise.
        let interface = unsafe { text(interface, "interface")? };
        // SAFETY: the caller's promise.
        let config = unsafe { capture_config(config)? };
        let nodes = if cpus.is_null() {
            vec![-1; count]
        } else {
            // SAFETY: the caller's promise.
            unsafe { array(cpus, count, "cpus")? }.to_vec()
        };
        let handles = hand_out(group.open(interface.to_bytes(), &config, &nodes)?)?;
        for (index, handle) in handles.into_iter().enumerate() {
            // SAFETY: below `count`.
            let out = unsafe { captures.add(index) };
            // SAFETY: writable by the caller's promise.
            unsafe { out.write(handle) };
        }
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&GROUPS, group, err, |group| call(group), |_, _| {}) }
}

/// Writes how the group is at the moment, its id above all: as much of it as `size`
/// bytes hold.
///
/// Errors: NETRING_EBADF, not a group. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_info(
    group: *mut netring_group,
    out: *mut netring_group_info,
    size: usize,
) -> c_int {
    let call = |group: &Group| {
        writable_sized(out, "out", size, SHORTEST)?;
        let mut value = netring_group_info::from(&group.info());
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    };
    guard_handle(&GROUPS, group, |group| call(group), |_, _| {})
}

/// Writes the rollover counters (PACKET_ROLLOVER_STATS): of `member`, or with NULL
/// of all members that joined through this handle, those that are closed included.
/// Cumulative, not reset by reading. Everything else is counted by each member's
/// netring_capture_stats.
///
/// Errors: NETRING_EBADF, not a group, or `member` is no capture. NETRING_EINVAL,
/// `member` is no member of this group; `out` is NULL or misaligned, or `size` is
/// less than 16 or more than 4096. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_stats(
    group: *mut netring_group,
    member: *mut netring_capture,
    out: *mut netring_group_stats,
    size: usize,
) -> c_int {
    let call = |group: &Group| {
        writable_sized(out, "out", size, SHORTEST)?;
        let stats = if member.is_null() {
            group.stats()
        } else {
            group.stats_of(&*CAPTURES.pin(member)?)?
        };
        let mut value = netring_group_stats::from(&stats);
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(0)
    };
    guard_handle(&GROUPS, group, |group| call(group), |_, _| {})
}

/// Frees a group. Its members stay what they are, and stay in the kernel's group:
/// it ends when the last of them is closed. Where the number of members given has
/// not joined, those that have get no packets any more. Waits for calls on other
/// threads. NULL is fine.
///
/// Errors: NETRING_EBADF, not a group, or freed before. NETRING_EBUSY, called from a
/// log callback. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_group_free(group: *mut netring_group) -> c_int {
    guard(|| {
        if group.is_null() {
            return Ok(0);
        }
        if log::in_sink() {
            return Err(Error::new(
                Kind::Busy,
                "group",
                "a log callback cannot free a group: it would wait for the call that the message \
                 comes from",
            ));
        }
        GROUPS.close(group)?.finish();
        Ok(0)
    })
}
