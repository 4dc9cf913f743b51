//! A member: whether it gets packets, and what flush, stop and close do in a group,
//! where a bind is refused.

use super::Shared;
use crate::afpacket::capture::{Capture, Reader};
use crate::afpacket::selection::{Selection, lock};
use crate::afpacket::swap::locked;
use crate::error::{Error, Result};
use crate::filter::Program;
use crate::log::Level;
use crate::sys::socket::{Socket, any_socket, attach_filter};
use crate::sys::{Errno, clock, process};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A capture's place in its group.
#[derive(Debug)]
pub(in crate::afpacket) struct Member {
    pub(super) group: Arc<Shared>,
    pub(super) gate: Mutex<Gate>,
}

/// Whether a member gets packets.
#[derive(Debug)]
pub(super) enum Gate {
    /// Everything is rejected. What is to be attached in its stead, and whether it
    /// is to be locked.
    Shut { filter: Selection, locked: bool },
    /// Its own filter is in place.
    Open,
    /// Stopped: rejects everything for good.
    Ended,
}

impl Member {
    /// Another filter: in place at once, or once the member gets packets.
    pub(in crate::afpacket) fn attach(&self, socket: &Socket, to: &Selection) -> Result<()> {
        match &mut *self.gate.lock() {
            Gate::Shut { locked: true, .. } => Err(locked("SO_ATTACH_FILTER")),
            Gate::Shut { filter, .. } => {
                // Refused now, not when the last one joins.
                if let Ok(other) = any_socket() {
                    to.attach(&other)?;
                }
                *filter = to.clone();
                Ok(())
            }
            Gate::Open => to.attach(socket),
            Gate::Ended => Ok(()),
        }
    }

    /// Locks the filter, or has it locked once it is in place.
    pub(in crate::afpacket) fn lock(&self, socket: &Socket) -> Result<()> {
        match &mut *self.gate.lock() {
            Gate::Shut { locked, .. } => {
                *locked = true;
                Ok(())
            }
            Gate::Open | Gate::Ended => lock(socket),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        state.seats -= 1;
        if state.seats == 0 {
            // The kernel's group has ended: the next member begins another.
            state.common = None;
            state.open = false;
        }
    }
}

/// In a group a bind is EINVAL, and with it what flush, stop and close do
/// elsewhere.
impl Capture {
    /// Leaves the list of members; the socket leaves when it closes.
    pub(in crate::afpacket) fn leave_group(&self) {
        if let Some(member) = &self.member {
            member.group.strike(self);
        }
    }

    /// As `quiesce`: nothing new comes, and what the open block holds is complete.
    pub(in crate::afpacket) fn quiesce_member(&self, reader: &mut Reader, member: &Member) {
        let shut = {
            let mut gate = member.gate.lock();
            *gate = Gate::Ended;
            shut(&self.socket)
        };
        let open = reader.consumer.open_block();
        if let Err(errno) = wait_for_receivers() {
            reader.log(
                Level::Warn,
                format_args!("stop: the kernel could not be waited for ({errno}): membarrier"),
            );
        }
        match shut {
            // Also what came meanwhile.
            Ok(()) => reader.consumer.open_block_is_complete(),
            // A locked filter: more comes until the close, and nobody takes it.
            Err(_) => reader.consumer.ends_with(open),
        }
    }

    /// Makes what the open block holds readable, while capturing goes on: the
    /// records counted before the wait are complete after it.
    ///
    /// # Errors
    /// The kernel cannot be waited for like this.
    pub(in crate::afpacket) fn flush_member(reader: &mut Reader) -> std::result::Result<(), Errno> {
        let open = reader.consumer.open_block();
        wait_for_receivers()?;
        reader.consumer.is_complete(open);
        Ok(())
    }

    /// Waits until the kernel's timer has handed over what the open block holds.
    pub(in crate::afpacket) fn await_block_timer(&self) {
        let timer_ms = match self.info.lock().timer_ms {
            // The kernel's choice is 8 ms, or less.
            0 => 8,
            timer_ms => timer_ms,
        };
        // Before 6.18 a block that was opened since the last tick has one more.
        let longest = Duration::from_millis(u64::from(timer_ms)) * 2 + Duration::from_millis(100);
        let until = clock::monotonic() + longest;
        let first = self.with_reader(|reader| reader.consumer.open_block());
        while clock::monotonic() < until {
            let now = self.with_reader(|reader| reader.consumer.open_block());
            let same = matches!((first, now), (Some((first, 1..)), Some((now, _))) if first == now);
            if !same || self.waiter.signals.is_closing() {
                break;
            }
            clock::nap(Duration::from_millis(1));
        }
    }

    /// Where the socket must outlive its capture: it stays in the group, which
    /// loses what it is chosen for, but nothing enters it.
    pub(in crate::afpacket) fn shut_member(&self) {
        let _ = shut(&self.socket);
    }
}

/// Rejects everything.
pub(super) fn shut(socket: &Socket) -> std::result::Result<(), Errno> {
    attach_filter(socket.fd(), Program::keep(0).instructions())
}

/// Waits until no CPU is inside a receive path that it entered before. Where
/// membarrier(2) is refused, the end of a packet socket waits for the same
/// (af_packet.c packet_release, synchronize_net).
pub(super) fn wait_for_receivers() -> std::result::Result<(), Errno> {
    process::wait_for_cpus().or_else(|_| Socket::packet().map(drop))
}

/// Puts the own filters of all of them in place, or of none: nobody gets packets
/// before everybody does.
pub(super) fn open_gates(captures: &[Arc<Capture>]) -> Result<()> {
    let numbered = |number: usize, mut error: Error| {
        error.message = format!(
            "member {} of {} could not be given its filter: {}",
            number + 1,
            captures.len(),
            error.message
        );
        error
    };
    // Held to the end: another filter comes before this or after it.
    let mut gates = Vec::with_capacity(captures.len());
    for (number, capture) in captures.iter().enumerate() {
        if let Some(member) = &capture.member {
            gates.push((number, &capture.socket, member.gate.lock()));
        }
    }
    let attached = gates.iter().try_for_each(|(number, socket, gate)| match &**gate {
        Gate::Shut { filter, .. } => filter.attach(socket).map_err(|e| numbered(*number, e)),
        Gate::Open | Gate::Ended => Ok(()),
    });
    // Only now: what is locked cannot be shut again.
    let done = attached.and_then(|()| {
        gates.iter_mut().try_for_each(|(number, socket, gate)| {
            if let Gate::Shut { locked: true, .. } = **gate {
                lock(socket).map_err(|e| numbered(*number, e))?;
                **gate = Gate::Open;
            }
            Ok(())
        })
    });
    for (_, socket, gate) in &mut gates {
        match (&**gate, &done) {
            (Gate::Shut { .. }, Ok(())) => **gate = Gate::Open,
            (Gate::Shut { .. }, Err(_)) => {
                let _ = shut(socket);
            }
            _ => {}
        }
    }
    done
}
