//! Clocks.

use std::time::Duration;

fn read(clock: libc::clockid_t) -> Duration {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec; these clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    // Never negative: monotonic, or after 1970.
    Duration::new(ts.tv_sec.unsigned_abs(), ts.tv_nsec.unsigned_abs() as u32)
}

/// CLOCK_MONOTONIC.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_COARSE: a few nanoseconds to read, exact to a tick.
pub fn monotonic_coarse() -> Duration {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// CLOCK_REALTIME, as the kernel stamps packets.
pub fn realtime() -> Duration {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds that CLOCK_TAI is ahead of CLOCK_REALTIME: whole seconds.
pub fn tai_ahead() -> u64 {
    let (real, tai) = (read(libc::CLOCK_REALTIME), read(libc::CLOCK_TAI));
    let half = Duration::from_millis(500);
    nanoseconds(Duration::from_secs((tai + half).saturating_sub(real).as_secs()))
}

/// Nanoseconds of a duration, saturating (in 584 years).
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Sleeps; used only to wait out another thread's last steps at a close.
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}
