//! What the kernel dropped, and why: the state of the ring around the drops,
//! told in one line of the log, at most one a second.
//!
//! The kernel tells how many, later. Why has to be seen meanwhile: readers note
//! when they find the ring full, and releases note when the kernel had stopped
//! for the block that they give back. Each reading of the kernel's counters uses
//! those notes up.

use crate::afpacket::consumer::Consumer;
use crate::afpacket::counters::{Due, Lost};
use crate::afpacket::ring::Ring;
use crate::sys::clock;
use std::fmt;
use std::time::Duration;

/// Lines are at least so far apart.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// A block that was given back sooner than this, or is not held for so long yet,
/// is not held, only read, where the reader is far behind anyway.
const LONG_HELD_NS: u64 = 100_000_000;

/// A block that user space holds, or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its sequence number.
    pub sequence: u64,
    /// For how long.
    pub held_ns: u64,
}

impl Held {
    /// The one that was held longer.
    pub fn longer(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if one.held_ns > other.held_ns { one } else { other }),
            (one, other) => one.or(other),
        }
    }
}

/// Why the ring was full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Blocks that were ready and nobody had taken.
    pub behind: u64,
    /// The block that the kernel waited for.
    pub held: Option<Held>,
}

impl Evidence {
    fn and(self, other: Self) -> Self {
        Self { behind: self.behind.max(other.behind), held: Held::longer(self.held, other.held) }
    }
}

/// What packets were dropped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The ring was full, and so it looked.
    Full(Evidence),
    /// The ring was full, and room again when somebody looked.
    Burst,
    /// The ring was not full at all.
    Refused,
}

/// Losses that were found, and those of them that were not told yet.
#[derive(Debug)]
pub struct Losses {
    units: u64,
    /// What they are called.
    unit: &'static str,
    evidence: Option<Evidence>,
    /// The ring was full at the last look.
    is_full: bool,
    /// The ring was full when the counters were read last.
    was_full: bool,
    untold: Lost,
    /// Of the reading with most of the untold drops, and how many these are.
    cause: Option<(u64, Cause)>,
    /// When the last line was made.
    told_at: Option<Duration>,
}

impl Losses {
    /// None yet, in this ring.
    pub fn new(ring: &Ring) -> Self {
        Self::of_units(ring.units(), if ring.has_frames() { "frame" } else { "block" })
    }

    fn of_units(units: u32, unit: &'static str) -> Self {
        Self {
            units: units.into(),
            unit,
            evidence: None,
            is_full: false,
            was_full: false,
            untold: Lost::default(),
            cause: None,
            told_at: None,
        }
    }

    /// Looks whether the ring is full, and remembers how it is. Returns how
    /// urgent it is to read the kernel's counters.
    pub fn look(&mut self, consumer: &mut Consumer, ring: &Ring) -> Due {
        let now = consumer.full();
        if let Some(now) = now {
            self.evidence = Some(self.evidence.unwrap_or_default().and(now));
        }
        let already = std::mem::replace(&mut self.is_full, now.is_some());
        match (now.is_some() || ring.has_waited(), already) {
            (false, _) => Due::Later,
            (true, true) => Due::Soon,
            (true, false) => Due::Now,
        }
    }

    /// Takes over what a reading of the kernel's counters brought.
    pub fn add(&mut self, new: Lost, consumer: &mut Consumer, ring: &Ring) {
        let full = consumer.full();
        // What is so now counts more than what was so since the last reading.
        let evidence = full.or(self.evidence);
        self.evidence = None;
        let was_full = std::mem::replace(&mut self.was_full, full.is_some());
        let waited_for = ring.take_waited_for();
        if new == Lost::default() {
            return;
        }
        let cause = self.cause(new, evidence, waited_for, was_full, consumer.ready());
        self.untold.dropped += new.dropped;
        self.untold.freezes += new.freezes;
        if self.cause.is_none_or(|(dropped, _)| new.dropped >= dropped) {
            self.cause = Some((new.dropped, cause));
        }
    }

    fn is_far(&self, behind: u64) -> bool {
        behind >= self.units.div_ceil(2)
    }

    fn cause(
        &self,
        new: Lost,
        evidence: Option<Evidence>,
        waited_for: Option<Held>,
        was_full: bool,
        ready: u64,
    ) -> Cause {
        let behind = evidence.map_or(0, |evidence| evidence.behind);
        let to_blame = |held: &Held| held.held_ns >= LONG_HELD_NS || !self.is_far(behind);
        let waited_for = waited_for.filter(to_blame);
        let evidence =
            evidence.map(|evidence| Evidence { held: evidence.held.filter(to_blame), ..evidence });
        if evidence.is_some() || waited_for.is_some() {
            let released = Evidence { behind: 0, held: waited_for };
            Cause::Full(evidence.unwrap_or_default().and(released))
        } else if new.freezes == 0 && !was_full {
            Cause::Refused
        } else if self.is_far(ready) {
            Cause::Full(Evidence { behind: ready, held: None })
        } else {
            Cause::Burst
        }
    }

    /// Whether something was found that no line has told.
    pub fn any_untold(&self) -> bool {
        self.cause.is_some()
    }

    /// Whether a line is to be made now (on the coarse monotonic clock).
    pub fn is_due(&self, now: Duration) -> bool {
        self.any_untold() && self.told_at.is_none_or(|then| now.saturating_sub(then) >= LINE_EVERY)
    }

    /// The line that tells what is untold; `total` is since the open.
    pub fn line(&mut self, interface: &str, total: Lost) -> String {
        let untold = std::mem::take(&mut self.untold);
        self.told_at = Some(clock::monotonic_coarse());
        let cause = self.cause.take().map_or(Cause::Burst, |(_, cause)| cause);
        let what = match untold.dropped {
            0 => "nothing dropped".to_owned(),
            1 => "1 packet dropped".to_owned(),
            dropped => format!("{dropped} packets dropped"),
        };
        let far = |behind| self.is_far(behind);
        let why = Why { cause, far, units: self.units, unit: self.unit };
        let freezes = match (self.unit, total.freezes) {
            ("block", 1) => ", 1 freeze".to_owned(),
            ("block", freezes) => format!(", {freezes} freezes"),
            // The kernel counts none of frames.
            _ => String::new(),
        };
        format!("{interface}: {what}, {why} ({} dropped{freezes} since the open)", total.dropped)
    }
}

struct Why<F: Fn(u64) -> bool> {
    cause: Cause,
    far: F,
    units: u64,
    unit: &'static str,
}

impl<F: Fn(u64) -> bool> fmt::Display for Why<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, unit) = (self.units, self.unit);
        let evidence = match self.cause {
            Cause::Full(evidence) => evidence,
            Cause::Burst => {
                return write!(
                    f,
                    "ring full: a burst filled its {unit}s (all {units}) and was read by now; make \
                     the ring larger, or filter"
                );
            }
            Cause::Refused => {
                return f.write_str(
                    "though the ring had room: the kernel could not store them; larger blocks may \
                     help",
                );
            }
        };
        f.write_str("ring full: ")?;
        let far = (self.far)(evidence.behind);
        if let Some(held) = evidence.held {
            write!(f, "{unit} {} held {} by the program", held.sequence, Seconds(held.held_ns))?;
        }
        if far || evidence.held.is_none() {
            let comma = if evidence.held.is_some() { ", " } else { "" };
            let s = if evidence.behind == 1 { "" } else { "s" };
            write!(f, "{comma}reader {} {unit}{s} behind (of {units})", evidence.behind)?;
        }
        f.write_str(match (evidence.held, far) {
            (None, _) => "; read faster, filter, keep less of each packet, or make the ring larger",
            (Some(_), false) => {
                "; release blocks sooner, copy what is kept, or make the ring larger"
            }
            (Some(_), true) => "; release blocks sooner, read faster, or make the ring larger",
        })
    }
}

/// 2.3 s, 12 ms.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1_000_000;
        if ms < 1000 {
            write!(f, "{ms} ms")
        } else {
            write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPS: Lost = Lost { dropped: 9, freezes: 1 };

    fn line_of(cause: Cause) -> String {
        let mut losses = Losses::of_units(64, "block");
        losses.untold = DROPS;
        losses.cause = Some((9, cause));
        losses.line("eth0", Lost { dropped: 30, freezes: 2 })
    }

    fn full(behind: u64, held: Option<(u64, u64)>) -> Cause {
        let held = held.map(|(sequence, ms)| Held { sequence, held_ns: ms * 1_000_000 });
        Cause::Full(Evidence { behind, held })
    }

    #[test]
    fn lines() {
        let end = " (30 dropped, 2 freezes since the open)";
        let cases = [
            (
                full(3, Some((17, 2345))),
                "block 17 held 2.3 s by the program; release blocks sooner, copy what is kept, or \
                 make the ring larger",
            ),
            (
                full(63, Some((17, 345))),
                "block 17 held 345 ms by the program, reader 63 blocks behind (of 64); release \
                 blocks sooner, read faster, or make the ring larger",
            ),
            (
                full(40, None),
                "reader 40 blocks behind (of 64); read faster, filter, keep less of each packet, \
                 or make the ring larger",
            ),
            (
                Cause::Burst,
                "a burst filled its blocks (all 64) and was read by now; make the ring larger, or \
                 filter",
            ),
        ];
        for (cause, words) in cases {
            assert_eq!(line_of(cause), format!("eth0: 9 packets dropped, ring full: {words}{end}"));
        }
        assert!(
            line_of(Cause::Refused).starts_with("eth0: 9 packets dropped, though the ring had")
        );
    }

    #[test]
    fn causes() {
        let losses = Losses::of_units(8, "block");
        let held = |ms: u64| Some(Held { sequence: 3, held_ns: ms * 1_000_000 });
        let behind = |behind: u64| Some(Evidence { behind, held: None });
        // A slow reader holds each block for a moment: that is not why.
        assert_eq!(losses.cause(DROPS, behind(7), held(10), false, 7), full(7, None));
        assert_eq!(losses.cause(DROPS, behind(7), held(100), false, 7), full(7, Some((3, 100))));
        // Nor is the one that was just taken.
        let taken = |ms: u64| Some(Evidence { behind: 7, held: held(ms) });
        assert_eq!(losses.cause(DROPS, taken(0), None, false, 7), full(7, None));
        assert_eq!(losses.cause(DROPS, taken(100), None, false, 7), full(7, Some((3, 100))));
        assert_eq!(losses.cause(DROPS, None, held(10), false, 0), full(0, Some((3, 10))));
        assert_eq!(losses.cause(DROPS, None, None, false, 4), full(4, None));
        assert_eq!(losses.cause(DROPS, None, None, false, 3), Cause::Burst);
        let no_freeze = Lost { dropped: 1, freezes: 0 };
        assert_eq!(losses.cause(no_freeze, None, None, true, 0), Cause::Burst);
        assert_eq!(losses.cause(no_freeze, None, None, false, 0), Cause::Refused);
    }

    #[test]
    fn one_line_a_second() {
        let mut losses = Losses::of_units(8, "block");
        let then = clock::monotonic_coarse();
        assert!(!losses.is_due(then));
        losses.cause = Some((1, Cause::Burst));
        assert!(losses.is_due(then));
        losses.line("lo", DROPS);
        assert!(!losses.is_due(then + LINE_EVERY * 2));
        losses.cause = Some((1, Cause::Burst));
        assert!(!losses.is_due(then));
        assert!(losses.is_due(then + LINE_EVERY * 2));
    }
}
