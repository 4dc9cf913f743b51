//! Link events of a capture, and going on with another interface.

use crate::afpacket::capture::Capture;
use crate::afpacket::events::{Event, EventKind};
use crate::afpacket::rebind::Target;
use crate::error::Error;
use crate::ffi::capture::{CAPTURES, netring_capture, on_capture};
use crate::ffi::error::{guard_handle_reporting, netring_error};
use crate::ffi::handle::Pinned;
use crate::ffi::pointers::{CStruct, SHORTEST, put_sized, text, writable_sized};
use std::ffi::{c_char, c_int};

/// The link was taken down (`ip link set down`): no packets come until it is up
/// again. A carrier that is lost (an unplugged cable) is not this: the kernel
/// goes on capturing, and what is sent there is still seen.
pub const NETRING_EVENT_DOWN: u32 = 1;
/// The link was brought up; packets come again by themselves.
pub const NETRING_EVENT_UP: u32 = 2;
/// The interface has another name; packets go on coming.
pub const NETRING_EVENT_RENAMED: u32 = 3;
/// The interface was deleted: nothing comes any more. An interface that was up
/// goes down first, which is an event of its own.
pub const NETRING_EVENT_REMOVED: u32 = 4;
/// The interface was moved to another network namespace: nothing comes any
/// more, as after its removal. (Linux before 4.15 does not tell the two apart:
/// NETRING_EVENT_REMOVED.)
pub const NETRING_EVENT_MOVED: u32 = 5;

const _: () = assert!(
    NETRING_EVENT_DOWN == EventKind::Down as u32
        && NETRING_EVENT_UP == EventKind::Up as u32
        && NETRING_EVENT_RENAMED == EventKind::Renamed as u32
        && NETRING_EVENT_REMOVED == EventKind::Removed as u32
        && NETRING_EVENT_MOVED == EventKind::Moved as u32
);

/// What became of the interface.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
pub struct netring_event {
    /// The size passed in.
    pub size: u32,
    /// NETRING_EVENT_*.
    pub kind: u32,
    /// CLOCK_REALTIME when the library noticed it, nanoseconds: during the call
    /// that returns it.
    pub time_ns: u64,
    /// Index of the interface.
    pub ifindex: u32,
    /// NETRING_EVENT_MOVED: its index in the other namespace; 0: unknown (before
    /// Linux 5.4), and for other events.
    pub new_ifindex: u32,
    /// Its flags then, as in <net/if.h> (IFF_UP, IFF_RUNNING, ...).
    pub flags: u32,
    /// NETRING_EVENT_MOVED: the other namespace's id as seen from this one (`ip
    /// netns list-id`). -1: it has none or it is not known, and for other events.
    pub netns_id: i32,
    /// Its name, NUL-terminated; after NETRING_EVENT_RENAMED the new one.
    pub name: [c_char; 16],
    /// Its name before; the same as `name` but for NETRING_EVENT_RENAMED.
    pub old_name: [c_char; 16],
}

const _: () = assert!(size_of::<netring_event>() == 64);

// SAFETY: repr(C) without padding, integers only.
unsafe impl CStruct for netring_event {}

fn name(bytes: &[u8]) -> [c_char; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(bytes) {
        *to = *from as c_char;
    }
    name
}

impl From<&Event> for netring_event {
    fn from(event: &Event) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            kind: event.kind as u32,
            time_ns: event.time_ns,
            ifindex: event.ifindex,
            new_ifindex: event.new_ifindex,
            flags: event.flags,
            netns_id: event.namespace,
            name: name(&event.name),
            old_name: name(&event.old_name),
        }
    }
}

/// Waits for the next link event: returns 1 and fills `*out` with as much of it
/// as `size` bytes hold, or 0 after `timeout_ms` milliseconds (0: do not wait;
/// negative: for ever). Signals do not prolong or end the wait.
///
/// Each event is told once, in order, to whichever thread asks; nobody has to
/// ask, and packets come and go meanwhile as ever (netring_capture_next_block
/// tells the end itself). What happened before netring_capture_open returned is
/// no event. Where so much happened that the kernel kept no account of it (some
/// hundred changes unread), or netring_capture_open was refused netlink (it
/// logs a warning), the difference between what was told last and what is now is
/// told instead; then NETRING_EVENT_MOVED is NETRING_EVENT_REMOVED, and a wait
/// looks once a second. netring_capture_wakeup does not end this wait.
///
/// Errors: NETRING_ENODEV, the interface is gone, and its last event was told:
/// netring_capture_rebind or close (until then every call says so at once: a
/// thread that only asks for events has to wait for the rebind). NETRING_ESHUTDOWN, stopped, and every event
/// was told. NETRING_ENOTSUP, a capture on "any" has no events. NETRING_EBADF,
/// not a capture, or closed meanwhile. NETRING_EINVAL, `out` is NULL or
/// misaligned, or `size` is less than 16 or more than 4096. NETRING_EIO, waiting
/// failed, or what is there cannot be read. MT-Safe. (rtnetlink(7), RTM_NEWLINK and RTM_DELLINK.)
///
/// # Safety
/// `out` must be writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_next_event(
    capture: *mut netring_capture,
    timeout_ms: c_int,
    out: *mut netring_event,
    size: usize,
) -> c_int {
    on_capture(capture, |capture| {
        writable_sized(out, "out", size, SHORTEST)?;
        let Some(event) = capture.next_event(timeout_ms)? else { return Ok(0) };
        let mut value = netring_event::from(&event);
        value.size = size as u32;
        // SAFETY: checked, and the caller's promise.
        unsafe { put_sized(out, size, &value) };
        Ok(1)
    })
}

/// Goes on with another interface of the same network namespace, usually the
/// next one of the same name after a removal: the ring, the filter, promiscuous
/// mode, multicast groups, counters and block sequence numbers go on. Needs no privilege, also
/// where netring_capture_open did. `interface` names it;
/// NULL: by `ifindex` where that is not 0, else the interface of the name that
/// the capture was opened or last rebound with. Waits for it to appear for up to
/// `timeout_ms` milliseconds (0: it has to be there; negative: for ever).
/// Returns 0.
///
/// The present interface may still be there: its intake ends then. Blocks
/// received before keep their place in the order; netring_block_info tells which
/// interface a block came through, and a block filled during the change has
/// `ifindex` 0 there: each of its packets tells. The link type may change: of a
/// filter expression the program for both is then attached before the bind, other
/// filters stay as they are.
/// Events of the interface before that nobody has read are forgotten, and the
/// state of this one is no event: it may be down, as new ones mostly are, and the
/// first event is then NETRING_EVENT_UP. What it received before this call is not
/// captured, and no counter has it. Other threads may be in any call meanwhile.
///
/// Errors, after which the capture is as it was before: NETRING_ENODEV, there is
/// no such interface. NETRING_ESHUTDOWN, the capture is stopped, or was while
/// this waited. NETRING_EINVAL, "any", before or after; a wrong name; both
/// `interface` and `ifindex`. NETRING_ESOCKOPT, promiscuous or all-multicast
/// mode was refused there; or the link type is another one, and the kernel refuses
/// the program for it (the filter is locked, say). NETRING_EFILTER, the filter
/// expression has no meaning for its link type. NETRING_ENOTSUP, its driver cannot stamp as `clock` of
/// the configuration says. NETRING_EBIND, the kernel refused. NETRING_EBADF, not
/// a capture, or closed meanwhile. NETRING_EIO, waiting or looking the interface up
/// failed. `err` may be NULL. MT-Safe. (af_packet.c packet_do_bind.)
///
/// # Safety
/// `interface`, if not NULL, must be NUL-terminated, `err` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netring_capture_rebind(
    capture: *mut netring_capture,
    interface: *const c_char,
    ifindex: u32,
    timeout_ms: c_int,
    err: *mut netring_error,
) -> c_int {
    let call = |capture: &Pinned<Capture>| {
        let target = match (interface.is_null(), ifindex) {
            (true, 0) => Target::SameName,
            (true, ifindex) => Target::Index(ifindex),
            (false, 0) => {
                // SAFETY: the caller's promise.
                Target::Name(unsafe { text(interface, "interface")? }.to_bytes())
            }
            (false, _) => {
                return Err(Error::config(
                    "ifindex",
                    format!("ifindex {ifindex} and an interface name: give one of the two"),
                ));
            }
        };
        capture.rebind(target, timeout_ms)?;
        Ok(0)
    };
    // SAFETY: the caller's promise.
    unsafe { guard_handle_reporting(&CAPTURES, capture, err, call, Capture::note) }
}
