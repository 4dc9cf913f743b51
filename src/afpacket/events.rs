//! Link events: what became of the captured interface.
//!
//! They stay with the kernel, in a netlink socket's queue, until somebody asks;
//! each notice is compared with what is known, so that nothing is told twice.
//! Where notices were lost, or netlink was refused, the interface itself is
//! looked at, and what has changed since is told.

use crate::sys::clock;
use crate::sys::link_watch::{LinkWatch, Watched};
use crate::sys::socket::Socket;
use parking_lot::Mutex;

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

#[derive(Debug)]
struct Told {
    ifindex: u32,
    state: State,
    /// What is still to be told.
    target: Option<State>,
    /// Notices may be missing: look at the interface itself.
    look: bool,
    /// That it is gone has been told.
    gone: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Events {
    watch: Option<LinkWatch>,
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
    /// From now on. `watch` has been open since before the socket was bound.
    pub fn new(watch: Option<LinkWatch>, socket: &Socket, ifindex: u32, name: &[u8]) -> Self {
        let state =
            State::now(socket, ifindex).unwrap_or_else(|| State { flags: 0, name: name.to_vec() });
        let told = Told { ifindex, state, target: None, look: watch.is_none(), gone: false };
        Self { watch, told: Mutex::new(told) }
    }

    /// The source of notices.
    pub fn watch(&self) -> Option<&LinkWatch> {
        self.watch.as_ref()
    }

    /// Starts over with another interface, which is bound already.
    pub fn restart(&self, socket: &Socket, ifindex: u32, name: &[u8]) {
        let mut told = self.told.lock();
        self.listen(ifindex, name);
        // What is left of the interface before has been told by this rebind.
        if let Some(watch) = &self.watch {
            watch.clear();
        }
        told.state =
            State::now(socket, ifindex).unwrap_or_else(|| State { flags: 0, name: name.to_vec() });
        (told.ifindex, told.target, told.gone) = (ifindex, None, false);
        // It may have changed, or gone, before it was listened to.
        told.look = true;
    }

    fn listen(&self, ifindex: u32, name: &[u8]) {
        if let Some(watch) = &self.watch {
            // Only memory can be missing for the few instructions; the old
            // filter then lets in too much or too little, and a look helps.
            let _ = watch.watch(Watched::Changes(ifindex, name));
        }
    }

    /// The next event.
    pub fn next(&self, socket: &Socket) -> Next {
        let mut told = self.told.lock();
        loop {
            if told.gone {
                return Next::Gone;
            }
            if let Some(event) = self.tell_target(&mut told) {
                return Next::Event(event);
            }
            let notice = match self.watch.as_ref().map(LinkWatch::next) {
                Some(Ok(Some(notice))) => notice,
                Some(Err(_)) => {
                    told.look = true;
                    continue;
                }
                Some(Ok(None)) | None => {
                    if !told.look {
                        return Next::Nothing;
                    }
                    told.look = self.watch.is_none();
                    let gone = socket.bound().is_ok_and(|address| address.sll_ifindex == -1);
                    if gone {
                        return Next::Event(told.is_gone(None));
                    }
                    match State::now(socket, told.ifindex) {
                        Some(now) if now.differs(&told.state) => told.target = Some(now),
                        _ => return Next::Nothing,
                    }
                    continue;
                }
            };
            // One that was waiting while another interface was bound.
            if notice.ifindex != told.ifindex {
                continue;
            }
            if notice.gone {
                return Next::Event(told.is_gone(notice.moved));
            }
            let name = notice.name.unwrap_or_else(|| told.state.name.clone());
            told.target = Some(State { flags: notice.flags, name });
        }
    }

    /// One step from what was told to what is to be told.
    fn tell_target(&self, told: &mut Told) -> Option<Event> {
        let target = told.target.take()?;
        let mut event = told.event(EventKind::Renamed);
        event.flags = target.flags;
        if target.name != told.state.name {
            event.name.clone_from(&target.name);
            told.state.name.clone_from(&target.name);
            // The old filter would let a return to the old name pass unseen.
            self.listen(told.ifindex, &told.state.name);
            told.look = true;
            told.target = Some(target);
            return Some(event);
        }
        if target.is_up() == told.state.is_up() {
            return None;
        }
        event.kind = if target.is_up() { EventKind::Up } else { EventKind::Down };
        told.state.flags = target.flags;
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
