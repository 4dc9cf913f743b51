//! Has somebody who waits look for frames that are away. When most are, no packet may come
//! that would: nothing tells of a frame that was sent.

use crate::sys::Result;
use crate::sys::epoll::Epoll;
use crate::sys::timer::Timer;
use std::time::Duration;

/// How soon to look for frames that are away, and how seldom where none come back.
const SOON: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_millis(64);

/// See the module. Times are of CLOCK_MONOTONIC.
#[derive(Debug)]
pub(super) struct Reminder {
    timer: Timer,
    /// When it is set to.
    at: Option<Duration>,
    /// How many were away the last time, and how long that was.
    last: (u64, Duration),
}

impl Reminder {
    pub(super) fn new(timer: Timer) -> Self {
        Self { timer, at: None, last: (0, SOON) }
    }

    /// Has `epoll` report that it is time.
    pub(super) fn watch(&self, epoll: &Epoll, key: u64) -> Result<()> {
        epoll.add(self.timer.fd(), libc::EPOLLIN, key)
    }

    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// From then on, or before.
    pub(super) fn by(&mut self, at: Duration, now: Duration) {
        if self.at.is_none_or(|set| set <= now || at < set) {
            self.timer.set(at);
            self.at = Some(at);
        }
    }

    /// As soon as some may be back, of so many.
    pub(super) fn soon(&mut self, away: u64, now: Duration) {
        if self.at.is_some_and(|set| set > now) {
            return;
        }
        let wait = if away == self.last.0 { (self.last.1 * 2).min(SELDOM) } else { SOON };
        self.last = (away, wait);
        self.by(now + wait, now);
    }

    /// Some are back: the others may be soon.
    pub(super) fn forget(&mut self) {
        self.last = (0, SOON);
    }

    pub(super) fn clear(&mut self) {
        self.forget();
        if self.at.take().is_some() {
            self.timer.clear();
        }
    }
}
