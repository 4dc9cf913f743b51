//! What the threads of a capture and outer event loops wait on: one epoll
//! descriptor over the socket, three eventfds, and a netlink socket that tells
//! when the interface is removed (the packet socket does not, where the link was
//! down already: af_packet.c packet_notifier).
//!
//! It has to be readable exactly while `next_block` would return something, and
//! the socket alone does not say so: its poll looks only at the block retired
//! last (af_packet.c packet_poll, packet_previous_rx_frame), so it is ready
//! while that one is merely held, and not while an older one is unread. The
//! socket is therefore watched edge-triggered, each take drains what it
//! reported, and `more` is set for as long as another block is ready. Writing
//! `more` again makes a fresh edge, for edge-triggered outer loops and for the
//! next of several waiting threads.
//!
//! Link events are no part of it: who waits for packets is not to be woken for
//! them. A capture that wants its descriptor readable for an event too gets a
//! second epoll around both.

use crate::afpacket::events::Notices;
use crate::signals::{FREE, Signals, WAKEUP};
use crate::sys::Result;
use crate::sys::epoll::{Epoll, poll_any};
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::socket::Socket;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

const SOCKET: u64 = FREE;
const REMOVAL: u64 = FREE + 1;
const PACKETS: u64 = FREE + 2;
const EVENTS: u64 = FREE + 3;

/// What a wait reported, as far as it needs an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reported {
    /// The socket has a pending error: read it, or polls of it spin.
    pub socket_error: bool,
    /// The interface was removed.
    pub removed: bool,
    /// A wakeup is pending.
    pub woken: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    /// What outer loops get where they want events too.
    with_events: Option<Epoll>,
    /// What ends a wait besides packets.
    pub signals: Signals,
    removal: Option<LinkWatch>,
    /// It is for another interface.
    removal_is_stale: AtomicBool,
}

impl Waiter {
    /// Waits on `socket`, on `removal`, and on what the other methods signal;
    /// outer loops on `events` too, where it is given.
    pub fn new(
        socket: &Socket,
        removal: Option<LinkWatch>,
        events: Option<&Notices>,
    ) -> Result<Self> {
        let waiter = Self {
            epoll: Epoll::new()?,
            with_events: if events.is_some() { Some(Epoll::new()?) } else { None },
            signals: Signals::new()?,
            removal,
            removal_is_stale: AtomicBool::new(false),
        };
        waiter.epoll.add(socket.fd(), libc::EPOLLIN | libc::EPOLLET, SOCKET)?;
        waiter.signals.watch(&waiter.epoll)?;
        if let Some(removal) = &waiter.removal {
            waiter.epoll.add(removal.fd(), libc::EPOLLIN, REMOVAL)?;
        }
        if let (Some(outer), Some(events)) = (&waiter.with_events, events) {
            outer.add(waiter.epoll.fd(), libc::EPOLLIN, PACKETS)?;
            for fd in events.fds() {
                outer.add(fd, libc::EPOLLIN, EVENTS)?;
            }
        }
        Ok(waiter)
    }

    /// The descriptor for outer loops.
    pub fn fd(&self) -> RawFd {
        self.with_events.as_ref().unwrap_or(&self.epoll).raw()
    }

    /// Waits until one of `fds` is readable, a stop or a close, for at most
    /// `timeout_ms` (-1: for ever).
    pub fn wait_for(&self, fds: [Option<BorrowedFd<'_>>; 2], timeout_ms: i32) -> Result<()> {
        poll_any([Some(self.signals.stop_fd()), fds[0], fds[1]], timeout_ms)
    }

    /// Waits until something may have happened, for at most `timeout_ms` (-1:
    /// for ever; 0: only takes note). Whoever returns looks at the ring itself.
    pub fn wait(&self, timeout_ms: i32) -> Result<Reported> {
        let mut reported = Reported::default();
        self.epoll.wait(timeout_ms, |ready| {
            let error = ready.events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
            if ready.key == SOCKET && error {
                reported.socket_error = true;
            }
            reported.removed |= ready.key == REMOVAL;
            reported.woken |= ready.key == WAKEUP;
        })?;
        Ok(reported)
    }

    /// Whether a removal of the interface is reported.
    pub fn watches_removal(&self) -> bool {
        self.removal.is_some() && !self.removal_is_stale.load(Ordering::Relaxed)
    }

    /// Another interface is bound.
    pub fn watch_removal_of(&self, ifindex: u32) {
        if let Some(removal) = &self.removal {
            // Memory can be missing for the few instructions of its filter.
            let refused = removal.watch(Watched::Removal(ifindex)).is_err();
            self.removal_is_stale.store(refused, Ordering::Relaxed);
        }
    }

    /// Takes note of a reported removal.
    pub fn clear_removal(&self) {
        if let Some(removal) = &self.removal {
            removal.clear();
        }
    }
}
