//! struct netring_filter: which packets.

use crate::error::{Error, Result};
use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::handle::{HandleKind, Table};
use crate::ffi::pointers::{array, put, writable};
use crate::filter::{Ebpf, Filter, Instruction, Metadata, PacketView, Program, Vlan, ddd};
use crate::fork;
use crate::packet::{
    NETRING_PACKET_DIRECTION, NETRING_PACKET_NET_OFFSET, NETRING_PACKET_PROTOCOL,
    NETRING_PACKET_VLAN, NETRING_PACKET_VLAN_TPID, netring_packet,
};
use std::ffi::{c_char, c_int};
use std::sync::Arc;

/// A filter: a classic BPF program, checked and immutable, an expression, or an eBPF
/// program. A token, never dereferenced.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct netring_filter {
    _opaque: [u8; 0],
}

/// One instruction, declared by the user's own headers.
#[allow(non_camel_case_types)]
pub type sock_filter = Instruction;

pub(crate) static FILTERS: Table<Filter> = Table::new(HandleKind::Filter);

/// The filter that a `filter` of the caller's names; NULL: none.
pub(crate) fn configured_filter(filter: *mut netring_filter) -> Result<Option<Filter>> {
    if filter.is_null() {
        return Ok(None);
    }
    let filter = FILTERS.pin(filter).map_err(|mut error| {
        error.option = "filter".into();
        error
    })?;
    Ok(Some((*filter).clone()))
}

pub(crate) fn hand_out(filter: impl Into<Filter>, out: *mut *mut netring_filter) -> Result<c_int> {
    fork::claim()?;
    let handle = FILTERS.insert(Arc::new(filter.into()))?;
    // SAFETY: the callers have checked `out`.
    unsafe { put(out, "out", handle)? };
    Ok(0)
}

/// Makes a filter of `count` instructions, as SO_ATTACH_FILTER takes them
/// (struct sock_filter of <linux/filter.h>; struct bpf_insn of <pcap.h> has the
/// same layout and may be cast). The instructions are copied, and checked by
/// the kernel's own rules (net/core/filter.c bpf_check_classic).
///
/// Errors: NETRING_EINVAL, a NULL argument. NETRING_EFILTER, the program is
/// wrong: `err` names the instruction and what is wrong with it.
/// NETRING_ENOTSUP, Linux before 4.14. On an error `*out` is not written.
/// Ownership: the caller frees `*out` with netring_filter_free. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `program` must be readable for `count` instructions, `out` and `err`
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_new(
    program: *const sock_filter,
    count: usize,
    out: *mut *mut netring_filter,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        // SAFETY: the caller's promise.
        let instructions = unsafe { array(program, count, "program")? };
        hand_out(Program::new(instructions)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Makes a filter of the text that `tcpdump -ddd EXPRESSION` prints: the number
/// of instructions, then one "code jt jf k" a line; or the same separated by
/// commas. `length` bytes at `text`, which need no NUL.
///
/// `tcpdump -i INTERFACE -ddd` writes a program for that interface; -y EN10MB
/// writes one without asking it. A program for VLAN tags must be written for
/// the live interface: the kernel takes the outermost tag out of the bytes.
///
/// Errors: NETRING_EINVAL, a NULL argument. NETRING_EFILTER, the text or the
/// program is wrong: `err` names the line or the instruction. NETRING_ENOTSUP,
/// Linux before 4.14. On an error `*out` is not written.
/// Ownership: the caller frees `*out` with netring_filter_free. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `text` must be readable for `length` bytes, `out` and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_new_ddd(
    text: *const c_char,
    length: usize,
    out: *mut *mut netring_filter,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        writable(text.cast_mut(), "text")?;
        // SAFETY: the caller's promise.
        let text = unsafe { array(text.cast::<u8>(), length, "text")? };
        hand_out(ddd::parse(text)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// Makes a filter of an eBPF program (BPF_PROG_TYPE_SOCKET_FILTER) that
/// bpf(BPF_PROG_LOAD) or BPF_OBJ_GET gave a descriptor of. It is duplicated: the
/// caller may close `prog_fd`. What the program returns is how many bytes it
/// keeps of a packet; 0 rejects it. Attaching it (SO_ATTACH_BPF, Linux 3.19) needs
/// no privilege beyond the capture's.
///
/// It runs in the kernel only: netring_filter_match and netring_filter_count say
/// NETRING_ENOTSUP, readers refuse it, and with a `snap_length` an open is
/// NETRING_EINVAL, since the program alone says how much is kept.
///
/// Errors: NETRING_EINVAL, `out` is NULL, or `prog_fd` is no descriptor.
/// NETRING_EFILTER, it is a descriptor of something else. NETRING_ESOCKOPT, the
/// kernel refuses the program for another reason (ENOMEM: its size,
/// net.core.optmem_max). NETRING_EIO, NETRING_ESOCKET, descriptors have run out.
/// NETRING_ENOTSUP, Linux before 4.14. On an error `*out` is not written.
/// Ownership: the caller frees `*out` with netring_filter_free. MT-Safe. `err`
/// may be NULL.
///
/// # Safety
/// `out` and `err` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_new_ebpf(
    prog_fd: c_int,
    out: *mut *mut netring_filter,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        hand_out(Ebpf::new(prog_fd)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// The number of instructions of a filter; of an expression, those of its program
/// for Ethernet (for raw IP, if it has no meaning on Ethernet).
///
/// Errors: NETRING_EBADF, not a filter. NETRING_ENOTSUP, an eBPF program.
/// MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_count(filter: *mut netring_filter) -> c_int {
    let count = |program: &Program| c_int::try_from(program.len()).unwrap_or(c_int::MAX);
    guard_handle(&FILTERS, filter, |filter| Ok(count(filter.program()?)), |_, _| {})
}

/// Runs a filter over a packet in user space, as the kernel would have:
/// returns how many bytes it keeps (at most 2147483647), 0 if it rejects the
/// packet. A packet of a block or one the caller has filled in: `data`,
/// `caplen`, `len`, and with their status bits whatever the program asks for
/// besides (VLAN tag, protocol, direction, interface index). Of an expression the
/// program for `link_type` runs. `size` is sizeof(struct netring_packet).
///
/// Errors: NETRING_EBADF, not a filter. NETRING_EINVAL, a NULL argument or a
/// wrong size. NETRING_EFILTER, the expression has no meaning for `link_type`
/// (NETRING_FILTER_REJECT_OTHERS: 0). NETRING_ENOTSUP, the program asks for something that is not
/// known of this packet (the kernel's flow hash at filter time, its mark, the
/// CPU, or bytes that were cut off or, of a packet in several pieces, lie behind the
/// first): no verdict rather than a guess; or it is an eBPF program.
/// MT-Safe.
///
/// # Safety
/// `packet` must be readable for `size` bytes, and its data for `caplen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_match(
    filter: *mut netring_filter,
    packet: *const netring_packet,
    size: usize,
) -> c_int {
    let call = |filter: &Filter| {
        if let Filter::Ebpf(_) = filter {
            filter.program()?;
        }
        writable(packet.cast_mut(), "packet")?;
        if size < size_of::<netring_packet>() {
            return Err(Error::config("size", format!("size {size} is less than a packet's")));
        }
        // SAFETY: not NULL, aligned, readable by the caller's promise.
        let packet = unsafe { packet.read() };
        // SAFETY: the caller's promise.
        let data = unsafe { array(packet.data.cast_const(), packet.caplen as usize, "data")? };
        let program = filter.program_for(packet.link_type)?;
        let mut view = PacketView { data, len: packet.len, metadata: metadata(&packet) };
        if let (Filter::Expression(_), Vlan::Unknown) = (filter, view.metadata.vlan) {
            // Where the packet tells of no tag, any is in the bytes.
            view.metadata.vlan = Vlan::Absent;
        }
        let kept = program.run(&view)?;
        Ok(c_int::try_from(kept).unwrap_or(c_int::MAX))
    };
    guard_handle(&FILTERS, filter, |filter| call(filter), |_, _| {})
}

/// What a packet's status says is known of it. The record's flow hash and
/// queue are not what the filter saw, and are left unknown.
fn metadata(packet: &netring_packet) -> Metadata {
    let has = |bit: u32| packet.status & bit != 0;
    let from_kernel = has(NETRING_PACKET_PROTOCOL);
    Metadata {
        protocol: has(NETRING_PACKET_PROTOCOL).then_some(packet.protocol),
        packet_type: has(NETRING_PACKET_DIRECTION).then_some(packet.direction),
        ifindex: (packet.ifindex != 0).then_some(packet.ifindex),
        net_offset: has(NETRING_PACKET_NET_OFFSET).then_some(packet.net_offset.into()),
        vlan: if has(NETRING_PACKET_VLAN) {
            let tpid = has(NETRING_PACKET_VLAN_TPID).then_some(packet.vlan_tpid);
            Vlan::Present { tci: packet.vlan_tci, tpid }
        } else if from_kernel {
            Vlan::Absent
        } else {
            Vlan::Unknown
        },
        ..Metadata::default()
    }
}

/// Frees a filter. Captures that were opened with it keep it. NULL is fine.
///
/// Errors: NETRING_EBADF, not a filter, or freed before. MT-Safe.
///
/// # Safety
/// None: any value is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_free(filter: *mut netring_filter) -> c_int {
    guard(|| {
        if !filter.is_null() {
            FILTERS.close(filter)?.finish();
        }
        Ok(0)
    })
}
