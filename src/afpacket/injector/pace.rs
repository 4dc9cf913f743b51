//! The rate at which frames may leave.
//!
//! Two schedules at once. The one of the rate itself: a thread that comes late may
//! catch up, so that a second has its frames. And one a little faster, which hardly
//! lets anybody catch up: so that no 10 ms have more than 120 % of theirs.

use super::config::Rate;
use std::time::Duration;

/// How late a sender may come that has frames to send, and still make up for it.
const LATE: Duration = Duration::from_millis(100);
/// What may leave at once: that many of the rate's frames. A thread that sleeps wakes
/// up that late at times.
const BURST: Duration = Duration::from_micros(1400);
/// How fast is caught up, in 2^-32 of the rate's time for a frame: 1 / 1.05. With the
/// burst 10 ms have 10.5 + 1.47 ms' worth of frames at most.
const CATCHING_UP: u128 = (1 << FRACTION) * 100 / 105;
/// A wait is not shorter: at high rates several frames are due at its end.
const SHORTEST_WAIT: Duration = Duration::from_micros(50);

/// Time in 2^-32 ns, so that rounding does not add up.
const FRACTION: u32 = 32;

/// When the next frame is due, after those before it had their time.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    due: u128,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time that a frame takes of the rate, and each of its bytes.
    per_frame: u128,
    per_byte: u128,
    /// At the rate.
    steady: Schedule,
    /// A little faster.
    peak: Schedule,
    /// There was nothing to send: no reason to catch up.
    idle: bool,
}

fn ticks(time: Duration) -> u128 {
    time.as_nanos() << FRACTION
}

impl Schedule {
    fn not_before(&mut self, earliest: Duration) {
        self.due = self.due.max(ticks(earliest));
    }
}

impl Pace {
    /// Nothing was sent yet.
    pub(super) fn new(rate: Rate) -> Self {
        const SECOND: u128 = 1_000_000_000 << FRACTION;
        let (per_frame, per_byte) = match rate {
            Rate::Packets(rate) => (SECOND / u128::from(rate.max(1)), 0),
            Rate::Bits(rate) => (0, SECOND * 8 / u128::from(rate.max(1))),
        };
        let start = Schedule { due: 0 };
        Self { per_frame, per_byte, steady: start, peak: start, idle: true }
    }

    /// How many of the frames with these lengths may leave now.
    pub(super) fn allow(&mut self, now: Duration, lengths: impl Iterator<Item = u32>) -> u32 {
        let late = if std::mem::take(&mut self.idle) { BURST } else { LATE };
        self.steady.not_before(now.saturating_sub(late));
        self.peak.not_before(now.saturating_sub(BURST));
        let now = ticks(now);
        let (mut steady, mut peak) = (self.steady, self.peak);
        let mut count = 0;
        for len in lengths {
            if steady.due > now || peak.due > now {
                break;
            }
            let time = self.time_of(len);
            steady.due += time;
            peak.due += faster(time);
            count += 1;
        }
        count
    }

    /// A frame of that length has left.
    pub(super) fn spend(&mut self, len: u32) {
        let time = self.time_of(len);
        self.steady.due += time;
        self.peak.due += faster(time);
    }

    /// Nothing is left to send.
    pub(super) fn rest(&mut self) {
        self.idle = true;
    }

    /// When it is worth looking again.
    pub(super) fn next(&self, now: Duration) -> Duration {
        let due = self.steady.due.max(self.peak.due) >> FRACTION;
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        due.max(now + SHORTEST_WAIT)
    }

    fn time_of(&self, len: u32) -> u128 {
        self.per_frame + self.per_byte * u128::from(len)
    }
}

fn faster(time: u128) -> u128 {
    (time * CATCHING_UP) >> FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When frames leave within a second, if somebody looks at the times that `steps`
    /// are apart, and has frames all the time.
    fn sent(
        rate: Rate,
        len: u32,
        start: Duration,
        mut steps: impl Iterator<Item = u64>,
    ) -> Vec<Duration> {
        let mut pace = Pace::new(rate);
        let (mut now, mut times) = (start, Vec::new());
        while now < start + SECOND {
            let due = pace.allow(now, std::iter::repeat(len));
            (0..due).for_each(|_| pace.spend(len));
            times.extend(std::iter::repeat_n(now, due as usize));
            now += Duration::from_micros(steps.next().unwrap());
        }
        times
    }

    /// The most in any 10 ms.
    fn busiest(times: &[Duration]) -> usize {
        let mut first = 0;
        let window = Duration::from_millis(10);
        let within = times.iter().enumerate().map(|(last, time)| {
            while times[first] + window <= *time {
                first += 1;
            }
            last + 1 - first
        });
        within.max().unwrap_or(0)
    }

    #[test]
    fn the_rate_is_kept_and_no_10_ms_have_much_more() {
        for start in [Duration::ZERO, Duration::from_secs(1 << 40)] {
            for step in [7, 50, 333, 1000, 1350] {
                for rate in [1, 3, 100, 7_777, 200_000, 1_000_000_u64] {
                    let times = sent(Rate::Packets(rate), 60, start, std::iter::repeat(step));
                    let away = (times.len() as u64).abs_diff(rate);
                    assert!(away <= rate * 15 / 1000 + 2, "{rate} {step}: {}", times.len());
                    let most = rate as usize * 12 / 1000 + 1;
                    assert!(busiest(&times) <= most, "{rate} {step}: {}", busiest(&times));
                }
                let bits = Rate::Bits(100_000_000);
                let times = sent(bits, 1250, start, std::iter::repeat(step));
                assert!(times.len().abs_diff(10_000) <= 170, "{step}: {}", times.len());
            }
        }
    }

    #[test]
    fn who_is_late_catches_up_slowly() {
        // A pause of 8 ms four times a second, as a busy machine makes it.
        let steps = (0..).map(|n| if n % 2500 == 100 { 8000 } else { 100 });
        let times = sent(Rate::Packets(100_000), 60, Duration::from_secs(5), steps);
        assert!(times.len().abs_diff(100_000) <= 1000, "{}", times.len());
        assert!(busiest(&times) <= 1200, "{}", busiest(&times));
    }

    #[test]
    fn who_had_nothing_to_send_does_not() {
        let mut pace = Pace::new(Rate::Packets(100_000));
        let now = Duration::from_secs(5);
        let burst = |pace: &mut Pace, now| {
            let due = pace.allow(now, std::iter::repeat(60));
            (0..due).for_each(|_| pace.spend(60));
            due
        };
        assert_eq!(burst(&mut pace, now), 141);
        assert_eq!(burst(&mut pace, now), 0);
        pace.rest();
        let later = now + SECOND;
        assert_eq!(burst(&mut pace, later), 141);
        let ten_later = later + Duration::from_millis(10);
        assert!(burst(&mut pace, ten_later) <= 148);
        let mut slow = Pace::new(Rate::Packets(1));
        assert_eq!(burst(&mut slow, now), 1);
        assert_eq!(burst(&mut slow, now + Duration::from_millis(990)), 0);
        let next = slow.next(now);
        assert!(next > now + Duration::from_millis(990) && next <= now + SECOND);
    }
}
