//! Time. The one module that reads a clock; everything else is told the time as a [`Now`].

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A point on the monotonic clock, counted from the start of the process (or of a simulation). Never goes back.
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

    /// How long it is from `earlier` to here; zero where `earlier` is later.
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

/// Both clocks at one moment: `mono` for timers, `wall` for what people and the platform mean by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For timeouts, backoff and rhythm.
    pub mono: Mono,
    /// For rules about time, the ledger and the log. May jump.
    pub wall: Timestamp,
}

impl Now {
    /// When on the monotonic clock the wall clock will show `at`, if it does not jump; now, if that has passed.
    pub fn mono_at(self, at: Timestamp) -> Mono {
        let left = at.duration_since(self.wall);
        self.mono + Duration::try_from(left).unwrap_or(Duration::ZERO)
    }
}

/// Reads both clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    /// Milliseconds added to the wall clock; only tests set it.
    skew_ms: Arc<AtomicI64>,
}

impl Clock {
    /// A clock whose monotonic part begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), skew_ms: Arc::new(AtomicI64::new(0)) }
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        Now { mono: Mono(self.origin.elapsed()), wall: self.wall() }
    }

    /// An instant of the operating system on this clock; its origin, if it was earlier.
    pub fn mono_of(&self, instant: Instant) -> Mono {
        Mono(instant.saturating_duration_since(self.origin))
    }

    /// The tokio instant of a monotonic point, for sleeping until it.
    pub fn instant(&self, mono: Mono) -> tokio::time::Instant {
        let far = Duration::from_secs(86_400 * 365);
        tokio::time::Instant::from_std(self.origin + mono.0.min(self.origin.elapsed() + far))
    }

    /// Sets the wall clock off by this much, for tests of a clock that jumps.
    pub fn set_skew(&self, skew: SignedDuration) {
        self.skew_ms.store(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn wall(&self) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew_ms.load(Ordering::Relaxed));
        Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX)
    }
}
