//! Link events: what became of the captured interface.
//!
//! They stay with the kernel, in a netlink socket's queue, until somebody asks;
//! each notice is compared with what is known, so that nothing is told twice.
//! After each event the next one is looked for, so that who waits knows.
//! Where notices were lost, or netlink was refused, the interface itself is
//! looked at, and what has changed since is told.

use crate::sys::epoll::EventFd;
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::socket::Socket;
use crate::sys::{Errno, Result, clock};
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// Taken down.
    Down = 1,
    /// Brought up.
    Up = 2,
    /// Called otherwise.
    Renamed = 3,
    /// Deleted.
    Removed = 4,
    /// Moved to another network namespace.
    Moved = 5,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// CLOCK_REALTIME when it was noticed.
    pub time_ns: u64,
    /// The interface's index.
    pub ifindex: u32,
    /// Its IFF_* flags then.
    pub flags: u32,
    /// Its name, the new one after `Renamed`.
    pub name: Vec<u8>,
    /// Its name before; the same but after `Renamed`.
    pub old_name: Vec<u8>,
    /// `Moved`: the id of the namespace it is in now, as seen from this one; -1:
    /// it has none, or it is not known.
    pub namespace: i32,
    /// `Moved`: its index there; 0: unknown.
    pub new_ifindex: u32,
}

/// The interface as last told, or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    flags: u32,
    name: Vec<u8>,
}

impl State {
    fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// The interface as it is; `None`: it is gone.
    fn now(socket: &Socket, ifindex: u32) -> Option<Self> {
        // A rename in between makes the name wrong: once more.
        (0..4).find_map(|_| {
            let name = socket.interface_name(ifindex).ok()?;
            let flags = socket.interface_flags(&name).ok()?;
            Some(Self { flags, name })
        })
    }
}

/// What is to be told next.
#[derive(Debug)]
enum Ahead {
    /// Nothing.
    Nothing,
    /// What it takes from what was told to here: one event or two.
    Change(State),
    /// It is gone: its flags at last; the namespace it was moved to.
    Gone(u32, Option<(i32, u32)>),
}

/// What notices may be missing, so that the interface itself is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    None,
    /// Of names only: the filter has just learnt another one.
    Names,
    Any,
}

#[derive(Debug)]
struct Told {
    ifindex: u32,
    state: State,
    ahead: Ahead,
    missing: Missing,
    /// That it is gone has been told.
    gone: bool,
}

/// Where notices come from.
#[derive(Debug)]
pub struct Notices {
    watch: LinkWatch,
    /// Set while an event is there whose notice has been read: for threads and
    /// outer loops that wait. Each writing is a fresh edge.
    more: EventFd,
}

impl Notices {
    /// Those of a watch that was opened for `Watched::Changes`.
    pub fn new(watch: LinkWatch) -> Result<Self> {
        Ok(Self { watch, more: EventFd::new()? })
    }

    /// The descriptors, one of which is readable while there is something to tell.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.watch.fd(), self.more.fd()]
    }

    fn listen(&self, ifindex: u32, name: &[u8]) {
        // Only memory can be missing for the few instructions; the old
        // filter then lets in too much or too little, and a look helps.
        let _ = self.watch.watch(Watched::Changes(ifindex, name));
    }
}

/// See the module.
#[derive(Debug)]
pub struct Events {
    notices: Option<Notices>,
    told: Mutex<Told>,
}

/// What there is to tell.
#[derive(Debug)]
pub enum Next {
    /// This.
    Event(Event),
    /// Nothing yet.
    Nothing,
    /// Nothing ever again, unless the capture is bound anew.
    Gone,
}

impl Events {
    /// From now on. `notices` have been coming since before the socket was bound.
    pub fn new(notices: Option<Notices>, socket: &Socket, ifindex: u32, name: &[u8]) -> Self {
        let state = State { flags: 0, name: name.to_vec() };
        let told =
            Told { ifindex, state, ahead: Ahead::Nothing, missing: Missing::None, gone: false };
        let events = Self { notices, told: Mutex::new(told) };
        events.start(&mut events.told.lock(), socket, Missing::None);
        events
    }

    /// The source of notices.
    pub fn notices(&self) -> Option<&Notices> {
        self.notices.as_ref()
    }

    /// Starts over with another interface, which is bound already.
    pub fn restart(&self, socket: &Socket, ifindex: u32, name: &[u8]) {
        let mut told = self.told.lock();
        if let Some(notices) = &self.notices {
            notices.listen(ifindex, name);
            // What is left of the interface before has been told by this rebind.
            notices.watch.clear();
        }
        told.state = State { flags: 0, name: name.to_vec() };
        (told.ifindex, told.ahead, told.gone) = (ifindex, Ahead::Nothing, false);
        // It may have changed, or gone, before it was listened to.
        self.start(&mut told, socket, Missing::Any);
    }

    /// How it is now is where telling begins. What else there is already is
    /// looked for, so that nobody wakes for nothing, or sleeps over something.
    fn start(&self, told: &mut Told, socket: &Socket, missing: Missing) {
        // Without notices all of them are, always.
        told.missing = if self.notices.is_some() { missing } else { Missing::Any };
        if let Some(now) = State::now(socket, told.ifindex) {
            let is_called_otherwise = now.name != told.state.name;
            told.state = now;
            // Renamed since, or meant by another of its names.
            if is_called_otherwise {
                self.listen(told);
            }
        }
        self.announce(told, socket);
    }

    fn listen(&self, told: &mut Told) {
        if let Some(notices) = &self.notices {
            notices.listen(told.ifindex, &told.state.name);
        }
        // The old filter has let the way back to the old name pass unseen.
        if told.missing == Missing::None {
            told.missing = Missing::Names;
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// Notices are there and cannot be read.
    pub fn next(&self, socket: &Socket) -> Result<Next> {
        let mut told = self.told.lock();
        if told.gone {
            return Ok(Next::Gone);
        }
        let is_something = self.look_ahead(&mut told, socket)?;
        let event = if is_something { self.tell(&mut told) } else { None };
        self.announce(&mut told, socket);
        Ok(event.map_or(Next::Nothing, Next::Event))
    }

    /// Says to all who wait whether there is more.
    fn announce(&self, told: &mut Told, socket: &Socket) {
        let Some(notices) = &self.notices else { return };
        if !told.gone && self.look_ahead(told, socket).unwrap_or(false) {
            notices.more.signal();
        } else {
            notices.more.clear();
        }
    }

    /// Finds what is to be told next, if anything is.
    fn look_ahead(&self, told: &mut Told, socket: &Socket) -> Result<bool> {
        loop {
            match &told.ahead {
                Ahead::Gone(..) => return Ok(true),
                Ahead::Change(to) if to.differs(&told.state) => return Ok(true),
                _ => told.ahead = Ahead::Nothing,
            }
            if self.read_notice(told)? {
                continue;
            }
            let missing = told.missing;
            if missing == Missing::None {
                return Ok(false);
            }
            if self.notices.is_some() {
                told.missing = Missing::None;
            }
            let is_gone = || socket.bound().is_ok_and(|address| address.sll_ifindex == -1);
            if missing == Missing::Any && is_gone() {
                told.ahead = Ahead::Gone(told.state.flags, None);
                continue;
            }
            match State::now(socket, told.ifindex) {
                Some(now) if now.differs(&told.state) => {
                    // A notice that has come since the last one was read tells what
                    // was before this.
                    if self.read_notice(told)? {
                        told.missing = missing;
                    } else {
                        told.ahead = Ahead::Change(now);
                    }
                }
                _ => return Ok(false),
            }
        }
    }

    /// Takes the next notice; false: none is waiting.
    fn read_notice(&self, told: &mut Told) -> Result<bool> {
        let Some(notices) = &self.notices else { return Ok(false) };
        let notice = match notices.watch.next() {
            Ok(Some(notice)) => notice,
            Ok(None) => return Ok(false),
            Err(Errno(libc::ENOBUFS)) => {
                told.missing = Missing::Any;
                return Ok(true);
            }
            Err(errno) => return Err(errno),
        };
        // Or one that was waiting while another interface was bound.
        if notice.ifindex == told.ifindex {
            told.ahead = if notice.gone {
                Ahead::Gone(notice.flags, notice.moved)
            } else {
                let name = notice.name.unwrap_or_else(|| told.state.name.clone());
                Ahead::Change(State { flags: notice.flags, name })
            };
        }
        Ok(true)
    }

    /// One step from what was told to what is to be told.
    fn tell(&self, told: &mut Told) -> Option<Event> {
        let to = match std::mem::replace(&mut told.ahead, Ahead::Nothing) {
            Ahead::Nothing => return None,
            Ahead::Gone(flags, moved) => {
                told.state.flags = flags;
                return Some(told.is_gone(moved));
            }
            Ahead::Change(to) => to,
        };
        let mut event = told.event(EventKind::Renamed);
        event.flags = to.flags;
        if to.name != told.state.name {
            event.name.clone_from(&to.name);
            told.state.name.clone_from(&to.name);
            self.listen(told);
            told.ahead = Ahead::Change(to);
            return Some(event);
        }
        event.kind = if to.is_up() { EventKind::Up } else { EventKind::Down };
        told.state.flags = to.flags;
        Some(event)
    }
}

impl State {
    fn differs(&self, other: &Self) -> bool {
        self.name != other.name || self.is_up() != other.is_up()
    }
}

impl Told {
    fn event(&self, kind: EventKind) -> Event {
        Event {
            kind,
            time_ns: clock::nanoseconds(clock::realtime()),
            ifindex: self.ifindex,
            flags: self.state.flags,
            name: self.state.name.clone(),
            old_name: self.state.name.clone(),
            namespace: -1,
            new_ifindex: 0,
        }
    }

    fn is_gone(&mut self, moved: Option<(i32, u32)>) -> Event {
        self.gone = true;
        let kind = if moved.is_some() { EventKind::Moved } else { EventKind::Removed };
        let (namespace, new_ifindex) = moved.unwrap_or((-1, 0));
        Event { namespace, new_ifindex, ..self.event(kind) }
    }
}
