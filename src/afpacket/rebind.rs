//! Going on with another interface: the same socket, ring, filter and counters.

use crate::afpacket::binding::Binding;
use crate::afpacket::capture::{Capture, Deadline, Down, Reader, stopped};
use crate::afpacket::open::{interface_name, no_bind, no_index, no_lookup};
use crate::config::flags;
use crate::error::{Error, Kind, Result};
use crate::log::Level;
use crate::packet::link_type;
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::packet::{ETH_P_ALL, arphrd};
use std::ffi::CString;

/// Which interface is meant.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The one with the name that the capture was last bound by.
    SameName,
    /// The one with this name.
    Name(&'a [u8]),
    /// The one with this index.
    Index(u32),
}

/// Longest wait in one piece: nobody may tell that it appeared.
const LONGEST_WAIT_MS: i32 = 1_000;

impl Capture {
    /// Goes on with another interface, waiting for it to appear for at most
    /// `timeout_ms` (as `next_block`). The capture is as before after an error.
    ///
    /// # Errors
    /// `Config` (a capture on "any"), `InterfaceNotFound` (there is none),
    /// `SockOpt`, `Bind`, `Shutdown`, `BadHandle`.
    pub fn rebind(&self, target: Target<'_>, timeout_ms: i32) -> Result<()> {
        if self.member.is_some() {
            return Err(Error::config(
                "interface",
                "a member of a fanout group cannot be bound anew (the kernel refuses it): close it \
                 and have another capture join",
            ));
        }
        if self.any {
            return Err(Error::config(
                "interface",
                "a capture on \"any\" cannot be bound to one interface: open another",
            ));
        }
        let name = match target {
            Target::SameName => Some(interface_name(self.name().as_bytes())?),
            Target::Name(b"any") => {
                return Err(Error::config(
                    "interface",
                    "a capture on one interface cannot be bound to \"any\": open another",
                ));
            }
            Target::Name(name) => Some(interface_name(name)?),
            Target::Index(_) => None,
        };
        let deadline = Deadline::after(timeout_ms);
        // Before the first look, so that nothing appears unseen. Without it the looks
        // are all there is, as for who calls from another network namespace than the
        // capture was opened from.
        let made;
        let appearances = match (timeout_ms, &self.appearances) {
            (0, _) => None,
            (_, Some(watch)) => watch.watch(Watched::Everything).ok().map(|()| watch),
            (_, None) => {
                made = LinkWatch::open(Watched::Everything).ok();
                made.as_ref()
            }
        };
        let done = self.rebind_when(target, name.as_ref(), deadline, appearances);
        if let Some(watch) = &self.appearances {
            let _ = watch.watch(Watched::Nothing);
            watch.clear();
        }
        done
    }

    /// As soon as there is such an interface.
    fn rebind_when(
        &self,
        target: Target<'_>,
        name: Option<&CString>,
        deadline: Deadline,
        appearances: Option<&LinkWatch>,
    ) -> Result<()> {
        loop {
            // Not ours: forked in a signal handler during the wait.
            if self.waiter.signals.is_closing() || !self.belongs().is_ours() {
                return Err(Error::new(Kind::BadHandle, "capture", "the capture is closed"));
            }
            if self.waiter.signals.is_stopped() {
                return Err(stopped());
            }
            let ifindex = match (target, name) {
                (Target::Index(ifindex), _) => Ok(ifindex),
                (_, Some(name)) => {
                    self.socket.interface_index(name).map_err(|errno| no_index(errno, name))
                }
                (_, None) => Err(not_found_index(0)),
            };
            let error = match ifindex.and_then(|ifindex| self.bind_to(ifindex, name)) {
                Err(error) if error.kind == Kind::InterfaceNotFound => error,
                done => return done,
            };
            let left = deadline.left_ms(LONGEST_WAIT_MS);
            if left == 0 {
                return Err(error);
            }
            let notices = appearances.map(LinkWatch::fd);
            self.waiter.wait_for([notices, None], left).map_err(|errno| {
                Error::new(Kind::Io, "poll", format!("waiting failed: {errno}")).with_os(errno.0)
            })?;
            if let Some(appearances) = appearances {
                appearances.clear();
            }
        }
    }

    /// Binds to an interface, which was asked for by a name or by its index.
    fn bind_to(&self, ifindex: u32, asked: Option<&CString>) -> Result<()> {
        self.compile_for(ifindex);
        self.with_reader(|reader| {
            if self.waiter.signals.is_stopped() {
                return Err(stopped());
            }
            let name = self.socket.interface_name(ifindex).map_err(|errno| match errno.0 {
                libc::ENODEV | libc::ENXIO => not_found_index(ifindex),
                _ => no_lookup("SIOCGIFNAME", &ifindex.to_string(), errno),
            })?;
            let name = CString::new(name).map_err(|_| not_found_index(ifindex))?;
            let memberships = self.memberships(reader);
            let mut joined = Vec::new();
            let mut bind = || {
                let able = self.stamping.check(&self.socket, &name)?;
                for membership in &memberships {
                    membership.join(&self.socket, &name, ifindex)?;
                    joined.push(*membership);
                }
                self.stamping.switch_on(&self.socket, &name, able)?;
                self.attach_for_both(reader, &name)?;
                let mixed_from = reader.consumer.open_sequence();
                // The hook of the old interface is drained before the new one is
                // hooked (af_packet.c packet_do_bind, synchronize_net).
                self.socket
                    .bind(ETH_P_ALL, ifindex as i32)
                    .map_err(|errno| no_bind(errno, &name))?;
                Ok(mixed_from)
            };
            let bound = bind();
            match bound {
                Ok(mixed_from) => {
                    let before = reader.bindings.now().ifindex;
                    for membership in &memberships {
                        membership.leave(&self.socket, before);
                    }
                    self.now_bound(reader, ifindex, &name, asked.unwrap_or(&name), mixed_from);
                    Ok(())
                }
                Err(error) => {
                    for membership in joined {
                        membership.leave(&self.socket, ifindex);
                    }
                    self.look_at_link(reader);
                    Err(error)
                }
            }
        })
    }

    fn now_bound(
        &self,
        reader: &mut Reader,
        ifindex: u32,
        name: &CString,
        asked: &CString,
        mixed_from: u64,
    ) {
        // While that has its name: what was lost of the interface before.
        self.last_words(reader);
        let hardware = self.socket.bound().map_or(arphrd::LOOPBACK, |bound| bound.sll_hatype);
        let link_type = link_type(hardware);
        let mixed_to = reader.consumer.open_sequence();
        let binding = Binding { ifindex, link_type: Some(link_type) };
        if binding != reader.bindings.now() {
            reader.bindings.change(binding, mixed_from, mixed_to);
        }
        if hardware == arphrd::LOOPBACK
            && self.flags & (flags::KEEP_LOOPED | flags::IGNORE_INCOMING) == 0
        {
            reader.treatment.drop_looped = true;
        }
        (reader.gone, reader.failed) = (false, None);
        // A pending ENETDOWN may be of either interface.
        self.socket.take_error();
        let is_error = self.flags & flags::DOWN_IS_ERROR != 0 && self.is_down(ifindex);
        reader.down = if is_error { Down::Untold } else { Down::No };
        if is_error {
            self.hand_over_open_block(reader, ifindex);
        }
        let before = {
            let mut info = self.info.lock();
            (info.ifindex, info.link_type) = (ifindex, link_type);
            std::mem::replace(&mut info.interface, asked.to_string_lossy().into_owned())
        };
        self.waiter.watch_removal_of(ifindex);
        self.events.restart(&self.socket, ifindex, name.to_bytes());
        self.environment.lock().rebind(ifindex);
        // It may be down or gone again.
        self.look_at_link(reader);
        self.rearm(reader);
        let name = name.to_string_lossy();
        reader.log(
            Level::Info,
            format_args!("{before}: bound anew to {name}, index {ifindex}, link type {link_type}"),
        );
    }
}

fn not_found_index(ifindex: u32) -> Error {
    Error::new(
        Kind::InterfaceNotFound,
        "ifindex",
        format!(
            "interface not found: index {ifindex}; `ip link show` lists those of this network \
             namespace"
        ),
    )
    .with_os(libc::ENODEV)
}
