//! The rate at which frames may leave.

use super::config::Rate;
use std::time::Duration;

/// How far behind its schedule a sender may catch up: what may leave at once after a
/// pause. Larger, and a 10 ms window has more than 120 % of the rate; smaller, and a
/// thread that is woken late never makes up for it.
const BEHIND: Duration = Duration::from_micros(1500);
/// A wait is not shorter: at high rates several frames are due at its end.
const SHORTEST_WAIT: Duration = Duration::from_micros(50);

/// Time in 2^-32 ns, so that rounding does not add up.
const FRACTION: u32 = 32;

/// Each frame is due when those before it have had their time.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// When the next frame is due.
    due: u128,
}

impl Pace {
    /// Nothing was sent yet.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, due: 0 }
    }

    /// How many of the frames with these lengths may leave now.
    pub(super) fn allow(&mut self, now: Duration, lengths: impl Iterator<Item = u32>) -> u32 {
        let earliest = now.saturating_sub(BEHIND).as_nanos() << FRACTION;
        let now = now.as_nanos() << FRACTION;
        self.due = self.due.max(earliest);
        let mut due = self.due;
        let mut count = 0;
        for len in lengths {
            if due > now {
                break;
            }
            due += self.time_of(len);
            count += 1;
        }
        count
    }

    /// A frame of that length has left.
    pub(super) fn spend(&mut self, len: u32) {
        self.due += self.time_of(len);
    }

    /// When it is worth looking again.
    pub(super) fn next(&self, now: Duration) -> Duration {
        let due = u64::try_from(self.due >> FRACTION).unwrap_or(u64::MAX);
        Duration::from_nanos(due).max(now + SHORTEST_WAIT)
    }

    fn time_of(&self, len: u32) -> u128 {
        const SECOND: u128 = 1_000_000_000 << FRACTION;
        match self.rate {
            Rate::Packets(rate) => SECOND / u128::from(rate.max(1)),
            Rate::Bits(rate) => SECOND * u128::from(len) * 8 / u128::from(rate.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that leave within a time, when somebody looks every `step`.
    fn sent(rate: Rate, len: u32, from: Duration, time: Duration, step: Duration) -> u64 {
        let mut pace = Pace::new(rate);
        let (mut now, mut count) = (from, 0_u64);
        while now < from + time {
            let due = pace.allow(now, std::iter::repeat(len));
            (0..due).for_each(|_| pace.spend(len));
            count += u64::from(due);
            now += step;
        }
        count
    }

    #[test]
    fn the_rate_is_kept() {
        let second = Duration::from_secs(1);
        for start in [Duration::ZERO, Duration::from_secs(1 << 40)] {
            for step in [7, 50, 333, 1000, 1400] {
                let step = Duration::from_micros(step);
                for rate in [1, 3, 100, 7_777, 200_000, 3_000_000] {
                    let count = sent(Rate::Packets(rate), 60, start, second, step);
                    let behind = rate * 15 / 10_000 + 1;
                    assert!(count.abs_diff(rate) <= behind + 1, "{rate} {step:?}: {count}");
                }
                let count = sent(Rate::Bits(100_000_000), 1250, start, second, step);
                assert!(count.abs_diff(10_000) <= 17, "{step:?}: {count}");
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(Rate::Packets(100_000));
        let now = Duration::from_secs(5);
        assert_eq!(pace.allow(now, std::iter::repeat(60)), 151);
        (0..151).for_each(|_| pace.spend(60));
        assert_eq!(pace.allow(now, std::iter::repeat(60)), 0);
        assert_eq!(pace.allow(now + Duration::from_secs(9), std::iter::repeat(60)), 151);
        let mut slow = Pace::new(Rate::Packets(1));
        assert_eq!(slow.allow(now, std::iter::repeat(60)), 1);
        slow.spend(60);
        assert_eq!(slow.allow(now + Duration::from_millis(990), std::iter::repeat(60)), 0);
        let next = slow.next(now);
        assert!(next > now + Duration::from_millis(990) && next <= now + Duration::from_secs(1));
    }
}
