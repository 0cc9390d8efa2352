//! Time. This is the only module that reads a clock; all other code gets the time as a [`Now`].

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Counts on while the machine is suspended; `CLOCK_MONOTONIC` does not.
#[cfg(target_os = "linux")]
const ELAPSED: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const ELAPSED: ClockId = ClockId::CLOCK_MONOTONIC;

/// A point on the monotonic clock, counted from the start of the process (or of a simulation). Never goes back, and counts
/// the time in which the machine was suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(Duration);

impl Mono {
    /// The clock's origin.
    pub const ZERO: Mono = Mono(Duration::ZERO);

    /// This long after the origin.
    pub fn from_origin(elapsed: Duration) -> Self {
        Mono(elapsed)
    }

    /// How long after the origin.
    pub fn since_origin(self) -> Duration {
        self.0
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(duration))
    }
}

/// Both clocks at one moment: `mono` for timers, `wall` for the time that people and the platform use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For timeouts, backoff and rhythm.
    pub mono: Mono,
    /// For rules about time, the ledger and the log. May jump.
    pub wall: Timestamp,
}

impl Now {
    /// When on the monotonic clock the wall clock will show `at`, if it does not jump; now, if that has passed.
    pub(crate) fn mono_at(self, at: Timestamp) -> Mono {
        let left = at.duration_since(self.wall);
        self.mono + Duration::try_from(left).unwrap_or(Duration::ZERO)
    }
}

/// Reads both clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Duration,
    /// Milliseconds added to the wall clock; only tests set it.
    skew_ms: Arc<AtomicI64>,
    /// Milliseconds for which the machine seems to have been suspended; only tests set it.
    suspended_ms: Arc<AtomicU64>,
}

impl Clock {
    /// A clock whose monotonic part begins now.
    pub fn start() -> Self {
        Self { origin: elapsed(), skew_ms: Arc::default(), suspended_ms: Arc::default() }
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: self.wall() }
    }

    fn mono(&self) -> Mono {
        let suspended = Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed));
        Mono(elapsed().saturating_sub(self.origin) + suspended)
    }

    /// A recent instant of the operating system on this clock, never earlier than it was; the origin, if it was before that.
    pub(crate) fn mono_of(&self, instant: Instant) -> Mono {
        // In this order: if the thread is stopped between the two readings, the result is late and not early.
        let passed = instant.elapsed();
        Mono(self.mono().0.saturating_sub(passed))
    }

    /// The tokio instant of a monotonic point, for sleeping until then. A sleep does not count the time in which the
    /// machine is suspended, so a long sleep must be split and the clock read in between.
    pub(crate) fn instant(&self, mono: Mono) -> tokio::time::Instant {
        let far = Duration::from_secs(86_400 * 365);
        tokio::time::Instant::from_std(Instant::now() + mono.since(self.mono()).min(far))
    }

    /// Sets the wall clock off by this much, for tests of a clock that jumps.
    pub fn set_skew(&self, skew: SignedDuration) {
        self.skew_ms.store(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// As if the machine had been suspended for this long: the clocks go on, and no timer has run.
    #[cfg(test)]
    pub(crate) fn suspend(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.suspended_ms.fetch_add(ms, Ordering::Relaxed);
        self.skew_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn wall(&self) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew_ms.load(Ordering::Relaxed));
        Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX)
    }
}

/// The time since the machine was started, including suspends.
fn elapsed() -> Duration {
    read(ELAPSED)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// For how long the machine has been suspended since it was started: what timers did not count.
pub(crate) fn suspended() -> Duration {
    read(ELAPSED).saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspend_counts_as_time_on_both_clocks_and_for_no_timer() {
        let clock = Clock::start();
        let before = clock.now();
        let in_two_hours = before.mono + Duration::from_secs(7_200);
        clock.suspend(Duration::from_secs(5_400));
        let after = clock.now();
        let (elapsed, shown) = (after.mono.since(before.mono), after.wall.duration_since(before.wall));
        assert!(elapsed >= Duration::from_secs(5_400));
        assert!((SignedDuration::try_from(elapsed).unwrap() - shown).abs() < SignedDuration::from_mins(1));
        // A timer for the end of the two hours has only half an hour left.
        let left = clock.instant(in_two_hours).duration_since(tokio::time::Instant::now());
        assert!(left <= Duration::from_secs(1_800), "{left:?}");
    }

    #[test]
    fn it_goes_on_and_never_back() {
        let clock = Clock::start();
        let mut last = clock.now().mono;
        for _ in 0..10_000 {
            let now = clock.now().mono;
            assert!(now >= last);
            last = now;
        }
        assert!(last > Mono::ZERO, "the system has the clock that is asked");
        assert!(clock.mono_of(Instant::now()) >= last);
    }
}
