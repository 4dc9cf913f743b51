//! Filter expressions, compiled by libpcap.

use crate::error::{Error, Result};
use crate::ffi::error::{guard_reporting, netring_error};
use crate::ffi::filter::{FILTERS, hand_out, netring_filter};
use crate::ffi::guard::{guard, guard_handle};
use crate::ffi::pointers::{
    CStruct, SHORTEST, array, put_sized, read_config, writable, writable_sized,
};
use crate::filter::Filter;
use crate::filter::expression::{Expression, Options};
use crate::packet::NETRING_LINKTYPE_UNKNOWN;
use std::ffi::{c_char, c_int};

/// Mean an expression as tcpdump does on a live interface: a received packet's
/// outer VLAN tag is not among its bytes (`ip` matches a packet with one tag), and
/// `vlan` looks for it beside them. Not what the same expression says of a
/// savefile. Where `vlan` occurs, libpcap compiles this for a live interface only:
/// lo, or another Ethernet one that is up, is opened for some 30 ms, which needs
/// CAP_NET_RAW.
pub const NETRING_FILTER_TCPDUMP: u64 = 0x1;
/// Names may be looked up (hosts, networks, ports, protocols): DNS, /etc/services,
/// whatever nsswitch.conf(5) says, for as long as that takes, meanwhile holding up
/// every other compilation. Without it a name is an error.
pub const NETRING_FILTER_NAMES: u64 = 0x2;
/// Leave libpcap's optimiser out. Programs get several times longer.
pub const NETRING_FILTER_NO_OPTIMISER: u64 = 0x4;
/// Where packets of several link types come together ("any", a savefile,
/// netring_filter_match), reject those of a link type for which the expression has
/// no meaning (`ether host` on raw IP). Without it that is an error.
pub const NETRING_FILTER_REJECT_OTHERS: u64 = 0x8;

const KNOWN: u64 = NETRING_FILTER_TCPDUMP
    | NETRING_FILTER_NAMES
    | NETRING_FILTER_NO_OPTIMISER
    | NETRING_FILTER_REJECT_OTHERS;

/// What `init` of a struct netring_filter_config holds once it is initialised.
pub const NETRING_FILTER_CONFIG_INIT_WORD: u32 = 0x4e524643;

/// How an expression is compiled. Initialise it with netring_filter_config_init or
/// NETRING_FILTER_CONFIG_INIT, then change what should differ.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_filter_config {
    /// sizeof(struct netring_filter_config), written by the initialiser.
    pub size: u32,
    /// NETRING_FILTER_CONFIG_INIT_WORD, written by the initialiser.
    pub init: u32,
    /// NETRING_FILTER_* bits. Default 0.
    pub flags: u64,
    /// The network's IPv4 mask, for `ip broadcast`, in host byte order:
    /// 0xffffff00 is /24. 0 (default): not known, and `ip broadcast` is refused.
    pub netmask: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<netring_filter_config>() == 24);

// SAFETY: repr(C) without padding; integers.
unsafe impl CStruct for netring_filter_config {}

const DEFAULTS: netring_filter_config = netring_filter_config {
    size: size_of::<netring_filter_config>() as u32,
    init: NETRING_FILTER_CONFIG_INIT_WORD,
    flags: 0,
    netmask: 0,
    reserved: 0,
};

fn options(config: &netring_filter_config) -> Result<Options> {
    let unknown = config.flags & !KNOWN;
    if unknown != 0 {
        return Err(Error::config(
            "flags",
            format!("flags has bits unknown to this library: {unknown:#x}"),
        ));
    }
    if config.reserved != 0 {
        return Err(Error::config("reserved", format!("reserved is {}, not 0", config.reserved)));
    }
    let has = |flag: u64| config.flags & flag != 0;
    Ok(Options {
        tcpdump: has(NETRING_FILTER_TCPDUMP),
        names: has(NETRING_FILTER_NAMES),
        plain: has(NETRING_FILTER_NO_OPTIMISER),
        reject_others: has(NETRING_FILTER_REJECT_OTHERS),
        netmask: Some(config.netmask).filter(|netmask| *netmask != 0),
    })
}

/// Writes the defaults into a configuration of `size` bytes, which is
/// sizeof(struct netring_filter_config).
///
/// Errors: NETRING_EINVAL, `config` is NULL or misaligned, or `size` is less
/// than 16 (that of a pointer, say) or more than 4096. MT-Safe.
///
/// # Safety
/// `config` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_config_init(
    config: *mut netring_filter_config,
    size: usize,
) -> c_int {
    guard(|| {
        writable_sized(config, "config", size, SHORTEST)?;
        let mut defaults = DEFAULTS;
        defaults.size = size as u32;
        // SAFETY: checked, and writable by the caller's promise.
        unsafe { put_sized(config, size, &defaults) };
        Ok(0)
    })
}

/// Makes a filter of an expression, "tcp port 443 and not host 10.0.0.1", in the
/// language of pcap-filter(7): `length` bytes at `expression`, which need no NUL.
/// `config` NULL: the defaults. An empty expression accepts every packet.
///
/// It means the packet as it is on the wire: `ip` does not match a packet with a
/// VLAN tag, `vlan 100` matches the outer tag, `len` counts it, and so on, on
/// both sides of a wire, though the kernel keeps that tag beside the bytes where it
/// receives and in them where it sends. NETRING_FILTER_TCPDUMP takes tcpdump's
/// meaning instead (docs/filters.md).
///
/// The filter has a program for each link type: the one of the interface is
/// attached, on "any" one that asks for the interface's hardware type first
/// (Ethernet and raw IP; packets of other link types are rejected). An expression
/// without meaning for a link type is refused by the open.
///
/// libpcap (libpcap.so.1 or libpcap.so.0.8) is opened the first time, and stays
/// open. Compilations run one at a time. Bounds: 16384 bytes, 64 levels of nesting,
/// and about 128 ports, 64 port ranges, 160 addresses or 640 other words, since the
/// time of libpcap's optimiser grows with the cube of them (at the bound, half a
/// second or so). Longer ones: several captures, or `tcpdump -ddd`.
///
/// Errors: NETRING_EINVAL, a NULL argument, a wrong config. NETRING_EFILTER, the
/// expression is wrong, too large, has a name that would have to be looked up
/// (NETRING_FILTER_NAMES), or makes a program that the kernel would refuse
/// (`protochain` loops; more than 4096 instructions): `err` says where and why.
/// NETRING_ENOTSUP, libpcap is not installed (option "libpcap"), or Linux before
/// 4.14. NETRING_EBUSY, in a child that was forked while another thread was in this
/// call. With NETRING_FILTER_TCPDUMP and `vlan`: NETRING_EPERM, no CAP_NET_RAW;
/// NETRING_ENETDOWN, no Ethernet interface is up; NETRING_EIO, libpcap could open
/// none for another reason (option "pcap_activate"). On an error `*out` is not
/// written. Ownership: the caller frees `*out` with netring_filter_free. MT-Safe.
/// `err` may be NULL.
///
/// # Safety
/// `expression` must be readable for `length` bytes, `config` for its size, `out`
/// and `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_compile(
    expression: *const c_char,
    length: usize,
    config: *const netring_filter_config,
    out: *mut *mut netring_filter,
    err: *mut netring_error,
) -> c_int {
    let call = || {
        writable(out, "out")?;
        writable(expression.cast_mut(), "expression")?;
        // SAFETY: the caller's promise.
        let text = unsafe { array(expression.cast::<u8>(), length, "expression")? };
        // SAFETY: the caller's promise.
        let config =
            unsafe { read_config(config, "filter", NETRING_FILTER_CONFIG_INIT_WORD, DEFAULTS)? };
        hand_out(Expression::new(text, options(&config)?)?, out)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_reporting(err, call) }
}

/// The instructions of a filter as `tcpdump -d` lists them, a line each, the last
/// without a newline: copied to `out`, NUL-terminated and cut to `size` bytes.
/// Returns the length without the NUL, which may be more than fits; `out` NULL with
/// `size` 0 asks for it. `link_type` (NETRING_LINKTYPE_*) says which
/// program of an expression, NETRING_LINKTYPE_UNKNOWN: that of "any"; for other
/// filters it does not matter.
///
/// Errors: NETRING_EBADF, not a filter. NETRING_EINVAL, `out` is NULL with a size.
/// NETRING_EFILTER, the expression has no meaning for the link type.
/// NETRING_ENOTSUP, an eBPF program. MT-Safe.
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_filter_listing(
    filter: *mut netring_filter,
    link_type: u16,
    out: *mut c_char,
    size: usize,
) -> c_int {
    let call = |filter: &Filter| {
        if size != 0 {
            writable(out, "out")?;
        }
        let listing = match filter {
            Filter::Expression(expression) if link_type == NETRING_LINKTYPE_UNKNOWN => {
                expression.any()?.to_string()
            }
            Filter::Expression(expression) => expression.program(link_type)?.to_string(),
            other => other.program()?.to_string(),
        };
        if size != 0 {
            let count = listing.len().min(size - 1);
            // SAFETY: less than `size` bytes, writable by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(listing.as_ptr().cast(), out, count) };
            // SAFETY: below `size`.
            let end = unsafe { out.add(count) };
            // SAFETY: as above.
            unsafe { end.write(0) };
        }
        Ok(c_int::try_from(listing.len()).unwrap_or(c_int::MAX))
    };
    guard_handle(&FILTERS, filter, |filter| call(filter), |_, _| {})
}
