//! The watchdog: it reports to systemd that all is well only while every loop that could hang is still running. A loop
//! registers, ticks, and is removed when its [`Pulse`] is dropped. Nothing here restarts anything: systemd does that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::log::events;
use super::service_manager::Notifier;

/// How often the loops are checked if systemd does not ask for reports.
const UNASKED: Duration = Duration::from_secs(10);

/// The loops of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct Watchdog {
    shared: Arc<WatchdogShared>,
}

#[derive(Debug)]
struct WatchdogShared {
    origin: Instant,
    loops: Mutex<Vec<Weak<Loop>>>,
}

#[derive(Debug)]
struct Loop {
    name: String,
    bound: Duration,
    /// Milliseconds since the origin.
    last: AtomicU64,
}

/// A loop's pulse. Dropping it ends the watch over that loop.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    watched: Arc<Loop>,
}

impl Pulse {
    /// Reports that the loop is running.
    pub fn tick(&self) {
        self.watched.last.store(millis(self.origin.elapsed()), Ordering::Relaxed);
    }
}

/// A loop that has not ticked within its bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateLoop {
    /// Its name.
    pub name: String,
    /// How long it is overdue.
    pub by: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

impl Watchdog {
    /// A watchdog without loops.
    pub fn new() -> Self {
        Self { shared: Arc::new(WatchdogShared { origin: Instant::now(), loops: Mutex::default() }) }
    }

    /// Watches a loop that ticks at least every `bound`; registering counts as its first tick. The name goes to the
    /// log: it may contain ids, but not strangers' text.
    pub fn register(&self, name: impl Into<String>, bound: Duration) -> Pulse {
        let origin = self.shared.origin;
        let last = AtomicU64::new(millis(origin.elapsed()));
        let watched = Arc::new(Loop { name: name.into(), bound, last });
        self.lock().push(Arc::downgrade(&watched));
        Pulse { origin, watched }
    }

    /// The loops that are late now.
    pub fn late(&self) -> Vec<LateLoop> {
        let now = self.shared.origin.elapsed();
        let mut late = Vec::new();
        self.lock().retain(|watched| {
            let Some(watched) = watched.upgrade() else { return false };
            let since = now.saturating_sub(Duration::from_millis(watched.last.load(Ordering::Relaxed)));
            if since > watched.bound {
                late.push(LateLoop { name: watched.name.clone(), by: since - watched.bound });
            }
            true
        });
        late
    }

    /// While no loop is late, reports to systemd at half its limit that all is well; logs each late loop once. `limit`
    /// is `service_manager::watchdog_limit`; without it the loops are still checked. Ends with `stop`.
    pub async fn run(self, notifier: Notifier, limit: Option<Duration>, stop: CancellationToken) {
        let mut rhythm = tokio::time::interval(limit.map_or(UNASKED, |limit| limit / 2));
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known: Vec<String> = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rhythm.tick() => {}
            }
            let late = self.late();
            for one in late.iter().filter(|one| !known.contains(&one.name)) {
                let late_ms = millis(one.by);
                tracing::error!(event = events::WATCHDOG_LATE, loop = one.name, late_ms, "a loop hangs");
            }
            for name in known.iter().filter(|name| !late.iter().any(|one| one.name == **name)) {
                tracing::info!(event = events::WATCHDOG_RECOVERED, loop = name, "a loop turns again");
            }
            known = late.into_iter().map(|one| one.name).collect();
            if known.is_empty() && limit.is_some() {
                notifier.watchdog();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Loop>>> {
        self.shared.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_late_after_its_bound_and_forgotten_when_it_ends() {
        let watchdog = Watchdog::new();
        let quick = watchdog.register("quick", 5 * SECOND);
        let slow = watchdog.register("slow", 50 * SECOND);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(watchdog.late(), []);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(watchdog.late(), [LateLoop { name: "quick".to_owned(), by: 2 * SECOND }]);
        quick.tick();
        assert_eq!(watchdog.late(), []);
        drop(quick);
        tokio::time::advance(44 * SECOND).await;
        assert_eq!(watchdog.late(), [LateLoop { name: "slow".to_owned(), by: SECOND }]);
        drop(slow);
        assert_eq!(watchdog.late(), []);
    }
}
