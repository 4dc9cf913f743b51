//! Another filter for a capture that is open.
//!
//! SO_ATTACH_FILTER does not wait for CPUs that are inside the old filter
//! (net/core/filter.c __sk_attach_prog: rcu_assign_pointer). membarrier(2) does;
//! after it the packets of the old filter are in the ring, up to the block that
//! is open then.

use crate::afpacket::capture::{Capture, Reader, closed};
use crate::afpacket::open::{no_lookup, not_found};
use crate::afpacket::selection::{self, Selection};
use crate::config::flags;
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use crate::log;
use crate::packet::link_type;
use crate::sys::process;
use std::borrow::Cow;
use std::ffi::CString;

/// A refusal, where there is a filter already.
fn explained(mut error: Error) -> Error {
    if error.os == Some(libc::EPERM) {
        return locked(error.option);
    }
    // The kernel charges the new program before it lets the old one go.
    if error.os == Some(libc::ENOMEM) {
        error.message.push_str(
            "; the present filter counts until it is replaced: detach it first (NULL), and what \
             comes meanwhile is filtered when its block is handed out",
        );
    }
    error
}

/// The kernel's EPERM, of a socket that was locked.
pub(super) fn locked(step: impl Into<Cow<'static, str>>) -> Error {
    Error::new(
        Kind::SockOpt,
        step,
        "the filter is locked (NETRING_CAPTURE_LOCK_FILTER, netring_capture_lock_filter) and \
         stays as it is: Operation not permitted (os error 1); open another capture for another \
         filter",
    )
    .with_os(libc::EPERM)
}

impl Capture {
    /// Puts a filter in the place of the present one; `None`: every packet, as
    /// far as the configuration goes. Returns the number of the block from which
    /// on it holds for sure; 0: for all that is handed out from now on.
    ///
    /// # Errors
    /// `Config`, `Filter`, `SockOpt`: the old one stays. `BadHandle`.
    pub fn set_filter(&self, filter: Option<&Filter>) -> Result<u64> {
        if let Some(filter) = filter {
            let link_types = self.with_reader(|reader| self.link_types_in(reader));
            // Compiled before anyone is held up. What is wrong is told below.
            let _ = filter.resolve(&link_types);
        }
        let one = self.swap.lock();
        let at_once = self.with_reader(|reader| {
            // Not ours: forked in a signal handler or log callback.
            if self.waiter.signals.is_closing() || !self.belongs().is_ours() {
                return Err(closed());
            }
            let link_types = self.link_types_in(reader);
            let selection = self.selection(filter, &link_types)?;
            let judges_all = link_types.iter().all(|it| selection.outside(*it).is_none());
            let open = reader.consumer.open_sequence();
            match &self.member {
                None => selection.attach(&self.socket),
                Some(member) => member.attach(&self.socket, &selection),
            }
            .map_err(explained)?;
            let next = reader.consumer.next_sequence();
            Ok(reader.treatment.late.change(selection, next, open) && judges_all)
        })?;
        // Readers go on meanwhile: each block is judged.
        let mut settled = process::wait_for_cpus();
        if self.ring.has_frames() && settled.is_ok() {
            // A frame before the last older packet may still be being filled with a newer one.
            settled = process::wait_for_cpus();
        }
        let from = self.with_reader(|reader| {
            let last = reader.consumer.open_sequence();
            let empty = settled.is_ok() && reader.consumer.pending() == 0;
            match settled {
                Ok(()) if empty => reader.treatment.late.settle(last.wrapping_sub(1)),
                Ok(()) => reader.treatment.late.settle(last),
                // A late one might come into any block: each is judged from now on.
                Err(_) => {}
            }
            if at_once || empty { 0 } else { last.wrapping_add(1) }
        });
        // A log callback may call this.
        drop(one);
        if let Err(errno) = settled {
            log::info!("membarrier was refused ({errno}): every block is filtered again");
        }
        log::info!("{}: filter changed, from block {from} on", self.name());
        Ok(from)
    }

    /// The link types of what the ring has and will have, that of the interface first.
    fn link_types_in(&self, reader: &mut Reader) -> Vec<u16> {
        let next = reader.consumer.next_sequence();
        reader.bindings.link_types(next)
    }

    /// Right for packets of all these link types; where it has no meaning for one of
    /// an interface before, for the present one.
    fn selection(&self, filter: Option<&Filter>, link_types: &[u16]) -> Result<Selection> {
        match (Selection::new(filter, &self.terms, || Ok(link_types.to_vec())), link_types) {
            (Err(_), [now, _, ..]) => Selection::new(filter, &self.terms, || Ok(vec![*now])),
            (selection, _) => selection,
        }
    }

    /// The filter for an interface of another link type. In the ring and on the way
    /// into it are packets of the present one: right for those too.
    pub(super) fn attach_for_both(&self, reader: &mut Reader, name: &CString) -> Result<()> {
        let hardware = self.socket.interface_hardware(name).map_err(|errno| match errno.0 {
            libc::ENODEV | libc::ENXIO => not_found(name),
            _ => no_lookup("SIOCGIFHWADDR", &name.to_string_lossy(), errno),
        })?;
        let link_type = link_type(hardware);
        let late = &mut reader.treatment.late;
        let Some(filter) = late.now().outside(link_type) else { return Ok(()) };
        let mut link_types = vec![link_type];
        link_types.extend(reader.bindings.now().link_type);
        let both = Selection::new(Some(filter), &self.terms, || Ok(link_types))?;
        both.attach(&self.socket).map_err(explained).map_err(|mut error| {
            error.message.push_str(&format!("; it is not made for link type {link_type}"));
            error
        })?;
        late.same_for_more(both);
        Ok(())
    }

    /// Has the program of the filter for an interface compiled, before readers are
    /// held up. What is wrong is told when it is needed.
    pub(super) fn compile_for(&self, ifindex: u32) {
        let name = self.socket.interface_name(ifindex).ok().and_then(|it| CString::new(it).ok());
        let hardware = name.and_then(|name| self.socket.interface_hardware(&name).ok());
        let Some(link_type) = hardware.map(link_type) else { return };
        let filter =
            self.with_reader(|reader| reader.treatment.late.now().outside(link_type).cloned());
        let _ = filter.map(|filter| filter.resolve(&[link_type]));
    }

    /// Keeps the filter as it is for as long as the socket lives.
    ///
    /// # Errors
    /// `SockOpt`, `BadHandle`.
    pub fn lock_filter(&self) -> Result<()> {
        let one = self.swap.lock();
        if self.waiter.signals.is_closing() || !self.belongs().is_ours() {
            return Err(closed());
        }
        match &self.member {
            None => selection::lock(&self.socket)?,
            Some(member) => member.lock(&self.socket)?,
        }
        self.info.lock().flags |= flags::LOCK_FILTER;
        drop(one);
        log::info!("{}: filter locked", self.name());
        Ok(())
    }
}
