//! Which frame a transmit timestamp is of.
//!
//! The kernel numbers packets (SOF_TIMESTAMPING_OPT_ID): the next number is taken by each
//! that gets as far as net/sock.h skb_setup_tx_timestamp (af_packet.c packet_snd,
//! tpacket_fill_skb), and a stamp comes back with it. So the numbers are counted along:
//!
//! - a frame that was taken has one, also where a queue drops it later;
//! - one that a full queue or driver dropped (ENOBUFS) has had one: it went to waste;
//! - one that found no room in the send buffer (EAGAIN) has had none;
//! - of a refused one it depends on where it was refused. Then the numbers begin anew
//!   at 0, once nothing of the old ones is on its way.
//!
//! ENOBUFS may also be want of memory, before there is a number. Then the next frame's
//! stamp has a number that was thought to be wasted: what is not stamped yet is given
//! up, and the numbers begin anew.
//!
//! With sendmmsg(2) frames go one by one: of several it does not tell why it ended
//! before the last, and whether that took a number.

use crate::sys::Result;
use crate::sys::socket::Socket;
use crate::sys::timestamps::{Queue, number_anew};
use std::collections::VecDeque;

/// Frames whose stamps are awaited at most: more only where none come.
const MOST_AWAITED: usize = 1 << 16;

/// When a frame was given to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// The slot's.
    pub cookie: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stamps {
    queue: Queue,
    numbers: Numbers,
    /// The numbers are not known any more.
    anew: bool,
    /// Stamps that nobody has fetched.
    stamps: VecDeque<Timestamp>,
    most: usize,
    /// Frames whose stamps do not come, and stamps that were not fetched.
    pub(super) lost: u64,
    /// Stamps that the socket has room for.
    room: u64,
}

impl Stamps {
    /// Bytes that a socket holds a stamp in: struct sk_buff and struct skb_shared_info.
    const STAMP: u32 = 1024;

    /// What SO_RCVBUF should be for so many slots.
    pub(super) fn buffer(slots: u32) -> u32 {
        slots.saturating_mul(2 * Self::STAMP).clamp(64 << 10, 8 << 20)
    }

    /// Switches stamps on, on a socket that has sent nothing and has so many bytes for
    /// them; `most` are kept.
    ///
    /// # Errors
    /// That of SO_TIMESTAMPING.
    pub(super) fn begin(socket: &Socket, buffer: u32, most: usize) -> Result<Self> {
        number_anew(socket)?;
        Ok(Self {
            queue: Queue::default(),
            numbers: Numbers::default(),
            anew: false,
            stamps: VecDeque::new(),
            most,
            lost: 0,
            room: (buffer / Self::STAMP).into(),
        })
    }

    /// How many frames may be handed over now; 0: none, look again in a while.
    pub(super) fn allow(&mut self, socket: &Socket) -> u64 {
        if self.anew {
            self.look(socket);
            if self.numbers.awaits() || socket.send_queue() != Ok(0) {
                return 0;
            }
            if number_anew(socket).is_err() {
                return 0;
            }
            self.numbers = Numbers::default();
            self.anew = false;
        } else if self.numbers.awaits() {
            self.read(socket);
        }
        (self.room / 2).max(1)
    }

    /// The kernel has taken a frame.
    pub(super) fn handed(&mut self, cookie: u64) {
        self.lost += self.numbers.add(cookie);
    }

    /// It has dropped one, which is offered again.
    pub(super) fn wasted(&mut self) {
        self.numbers.skip();
    }

    /// It is not known whether the last one had a number.
    pub(super) fn number_anew(&mut self) {
        self.anew = true;
    }

    /// Takes what has come. What cannot come any more is lost.
    pub(super) fn look(&mut self, socket: &Socket) {
        // In that order: a stamp is made before its packet is freed.
        let idle = self.numbers.awaits() && socket.send_queue() == Ok(0);
        self.read(socket);
        if idle {
            self.lost += self.numbers.give_up();
        }
    }

    fn read(&mut self, socket: &Socket) {
        let Self { queue, numbers, stamps, .. } = self;
        let (mut lost, mut anew) = (0, false);
        let most = self.most;
        queue.read(socket, |number, time_ns| match numbers.take(number) {
            Taken::Of(cookie) => {
                if stamps.len() == most {
                    stamps.pop_front();
                    lost += 1;
                }
                stamps.push_back(Timestamp { cookie, time_ns });
            }
            Taken::Nobodys => {}
            Taken::Wrong => {
                lost += numbers.give_up();
                anew = true;
            }
        });
        self.lost += lost;
        self.anew |= anew;
    }

    /// The oldest that were not fetched, up to `count`.
    pub(super) fn fetch(&mut self, count: usize) -> impl Iterator<Item = Timestamp> + '_ {
        let count = count.min(self.stamps.len());
        self.stamps.drain(..count)
    }
}

/// Whose a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The frame's with this cookie.
    Of(u64),
    /// A frame's that was given up.
    Nobodys,
    /// One that no frame can have.
    Wrong,
}

/// The numbers of the frames on their way.
#[derive(Debug, Default)]
struct Numbers {
    /// Number and cookie, in order; 0: stamped.
    awaited: VecDeque<(u32, u64)>,
    /// The next number.
    next: u32,
    /// Behind the last number that was right.
    known: u32,
}

impl Numbers {
    fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The next number is that frame's; how many were given up for it.
    fn add(&mut self, cookie: u64) -> u64 {
        self.awaited.push_back((self.next, cookie));
        self.next = self.next.wrapping_add(1);
        let given_up = self.awaited.len() > MOST_AWAITED;
        if given_up {
            self.awaited.pop_front();
            self.trim();
        }
        given_up.into()
    }

    /// The next number went to waste.
    fn skip(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// A stamp with that number has come.
    fn take(&mut self, number: u32) -> Taken {
        let first = self.awaited.front().map_or(self.next, |(number, _)| *number);
        let at = number.wrapping_sub(first);
        let found = self.awaited.binary_search_by_key(&at, |(it, _)| it.wrapping_sub(first));
        let cookie = found.ok().and_then(|at| self.awaited.get_mut(at));
        match cookie.map(|(_, cookie)| std::mem::take(cookie)) {
            Some(cookie @ 1..) => {
                let behind = number.wrapping_add(1);
                if behind.wrapping_sub(self.known) < 1 << 31 {
                    self.known = behind;
                }
                self.trim();
                Taken::Of(cookie)
            }
            Some(0) => Taken::Nobodys,
            None if number.wrapping_sub(self.known) < 1 << 31 => Taken::Wrong,
            None => Taken::Nobodys,
        }
    }

    fn trim(&mut self) {
        while self.awaited.front().is_some_and(|(_, cookie)| *cookie == 0) {
            self.awaited.pop_front();
        }
    }

    /// Nothing on its way gets a stamp any more; how many frames.
    fn give_up(&mut self) -> u64 {
        let given_up = self.awaited.drain(..).filter(|(_, cookie)| *cookie != 0).count();
        self.known = self.next;
        given_up as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_leads_to_its_frame_in_any_order() {
        for start in [0, 1 << 31, u32::MAX - 5] {
            let mut numbers = Numbers { next: start, known: start, ..Numbers::default() };
            for cookie in 1..=10 {
                if cookie % 3 == 0 {
                    numbers.skip();
                }
                assert_eq!(numbers.add(cookie), 0);
            }
            let number = |cookie: u32| start.wrapping_add(cookie - 1 + cookie / 3);
            for cookie in [2_u32, 1, 5, 4, 3, 10, 7, 9, 6, 8] {
                assert_eq!(numbers.take(number(cookie)), Taken::Of(cookie.into()));
                assert_eq!(numbers.take(number(cookie)), Taken::Nobodys);
            }
            assert!(!numbers.awaits());
        }
    }

    #[test]
    fn a_number_that_should_have_gone_to_waste_is_noticed() {
        let mut numbers = Numbers::default();
        numbers.add(1);
        numbers.skip();
        numbers.add(2);
        numbers.add(3);
        assert_eq!(numbers.take(0), Taken::Of(1));
        assert_eq!(numbers.take(1), Taken::Wrong);
        assert_eq!(numbers.give_up(), 2);
        assert_eq!(numbers.take(2), Taken::Nobodys);
        // One that was never given is as wrong.
        numbers.add(4);
        assert_eq!(numbers.take(9), Taken::Wrong);
        // Behind one that was right, there is none to find any more.
        let mut numbers = Numbers::default();
        numbers.skip();
        numbers.add(1);
        assert_eq!(numbers.take(1), Taken::Of(1));
        assert_eq!(numbers.take(0), Taken::Nobodys);
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let mut numbers = Numbers::default();
        let given_up: u64 = (1..=MOST_AWAITED as u64 + 5).map(|cookie| numbers.add(cookie)).sum();
        assert_eq!(given_up, 5);
        assert_eq!(numbers.take(4), Taken::Wrong);
        assert_eq!(numbers.take(5), Taken::Of(6));
        assert_eq!(numbers.give_up(), MOST_AWAITED as u64 - 1);
    }
}
