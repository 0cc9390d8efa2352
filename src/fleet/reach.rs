//! Whether the platform answers this machine, as far as the calls of its agents tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;

/// Whether the platform answers this machine: what came of the calls of all agents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PlatformReach {
    clock: Clock,
    /// When the first and the last of the calls failed since one was answered, in microseconds on the clock; 0: none did.
    failing: Arc<(AtomicU64, AtomicU64)>,
    /// This doorman takes no agents because of it.
    pub(super) away: Arc<watch::Sender<bool>>,
}

impl PlatformReach {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, failing: Arc::default(), away: Arc::new(watch::Sender::new(false)) }
    }

    /// A call has ended; the platform itself answered it, whatever it said.
    pub fn heard(&self, answered: bool) {
        let (first, last) = &*self.failing;
        if answered {
            return first.store(0, Ordering::Release);
        }
        let now = u64::try_from(self.clock.now().mono.since_origin().as_micros()).unwrap_or(u64::MAX).max(1);
        last.store(now, Ordering::Release);
        let _ = first.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// How long calls have failed, from the first to the last one, with none answered between them; `None`: the last one was.
    pub fn failing_for(&self) -> Option<Duration> {
        let (first, last) = &*self.failing;
        let (first, last) = (first.load(Ordering::Acquire), last.load(Ordering::Acquire));
        (first > 0).then(|| Duration::from_micros(last.saturating_sub(first)))
    }

    /// Whether this doorman takes no agents since the platform does not answer it; tells when that changes.
    pub fn away(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }
}
