//! Multicast groups of a capture.

use crate::afpacket::capture::Capture;
use crate::error::{Error, Result};
use crate::ffi::capture::{CAPTURES, netring_capture};
use crate::ffi::error::{guard_handle_reporting, netring_error};
use crate::ffi::handle::Pinned;
use std::ffi::c_int;

/// The caller's address; one that is too long is told by its length alone.
///
/// # Safety
/// `address`, if not NULL, is readable for `length` bytes.
unsafe fn address<'a>(address: *const u8, length: usize) -> Result<&'a [u8]> {
    if address.is_null() {
        return Err(Error::config("address", "address is NULL"));
    }
    if length > 32 {
        return Err(Error::config(
            "length",
            format!("length {length} is out of range: 1 to 32 bytes"),
        ));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(address, length) })
}

/// Has the interface receive a multicast group, by its link-layer address: for IPv4
/// 01:00:5e and the low 23 bits of the group, for IPv6 33:33 and the low 32. A
/// network device drops the groups that nobody asked for, unless it is promiscuous
/// or receives all multicast. Returns 0.
///
/// The host's IP does not join, so that no router or switch is told (IGMP, MLD): for
/// that join with a socket (IP_ADD_MEMBERSHIP). netring_capture_rebind takes the
/// group along; it ends with netring_capture_leave_multicast, with the capture, and
/// with the process, however that ends. Joined twice, it has to be left twice.
///
/// `length` is that of the interface's addresses, 6 for Ethernet.
///
/// Errors: NETRING_EINVAL, `address` is NULL or not that of a group, `length` is 0 or
/// more than 32, the capture is on "any", or 1024 groups are joined. NETRING_ENODEV,
/// the interface is gone. NETRING_ESOCKOPT, the kernel refused: addresses of this
/// interface have another length (EINVAL), or no memory (ENOBUFS). NETRING_EBADF, not
/// a capture. `err` may be NULL. MT-Safe. (packet(7), PACKET_MR_MULTICAST; any
/// kernel.)
///
/// # Safety
/// `address` must be readable for `length` bytes, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_join_multicast(
    capture: *mut netring_capture,
    address: *const u8,
    length: usize,
    err: *mut netring_error,
) -> c_int {
    let call = |capture: &Pinned<Capture>| {
        // SAFETY: the caller's promise.
        capture.join_multicast(unsafe { self::address(address, length)? })?;
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&CAPTURES, capture, err, call, Capture::note) }
}

/// Takes back one netring_capture_join_multicast with the same address. Returns 0.
///
/// Errors: NETRING_EINVAL, `address` is NULL or not that of a group, `length` is 0 or
/// more than 32, or the group is not joined. NETRING_EBADF, not a capture. `err` may
/// be NULL. MT-Safe. (packet(7), PACKET_DROP_MEMBERSHIP.)
///
/// # Safety
/// `address` must be readable for `length` bytes, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_leave_multicast(
    capture: *mut netring_capture,
    address: *const u8,
    length: usize,
    err: *mut netring_error,
) -> c_int {
    let call = |capture: &Pinned<Capture>| {
        // SAFETY: the caller's promise.
        capture.leave_multicast(unsafe { self::address(address, length)? })?;
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&CAPTURES, capture, err, call, Capture::note) }
}
