//! When a target may get its next message, and when a message that did not arrive is tried again. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;

/// Ceilings of the waits between deliveries; after the last ceiling, it stays at the last one.
const WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
];
/// The longest ceiling.
pub(super) const WAIT_LONGEST: Duration = WAITS[WAITS.len() - 1];
/// A wait is at least this fraction of its ceiling, so that deliveries do not by chance come close together.
const WAIT_LEAST: f64 = 0.5;
/// The longest wait that the other end may ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);
/// After this long without a successful delivery a message is given up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// How long to wait after this many attempts (at least one). `asked`: the wait that the other end requested; `random`:
/// from 0 to 1.
pub(super) fn wait_after(attempts: u32, asked: Option<Duration>, random: f64) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    let wait = WAITS[index].mul_f64(WAIT_LEAST + (1.0 - WAIT_LEAST) * random.clamp(0.0, 1.0));
    wait.max(asked.unwrap_or_default().min(ASKED_MAX))
}

/// The pace of one target's messages.
#[derive(Debug)]
pub(super) struct Pacing {
    every: Duration,
    max_per_hour: usize,
    /// When the messages of the last hour were made, oldest first.
    made: VecDeque<Mono>,
}

impl Pacing {
    pub(super) fn new(every: Duration, max_per_hour: u32) -> Self {
        Self { every, max_per_hour: usize::try_from(max_per_hour).unwrap_or(usize::MAX).max(1), made: VecDeque::new() }
    }

    /// Whether a message may be made now.
    pub(super) fn may_make(&self, now: Mono) -> bool {
        let rested = self.made.back().is_none_or(|last| now.since(*last) >= self.every);
        let in_hour = self.made.iter().filter(|at| now.since(**at) < HOUR).count();
        rested && in_hour < self.max_per_hour
    }

    /// Records that a message was made.
    pub(super) fn made(&mut self, now: Mono) {
        while self.made.len() >= self.max_per_hour || self.made.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.made.pop_front();
        }
        self.made.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_goes_at_once_and_the_next_after_the_pause() {
        let mut pacing = Pacing::new(Duration::from_secs(300), 30);
        assert!(pacing.may_make(at(0)));
        pacing.made(at(0));
        assert!(!pacing.may_make(at(299)));
        assert!(pacing.may_make(at(300)));
    }

    #[test]
    fn an_hour_has_its_most() {
        let mut pacing = Pacing::new(Duration::from_secs(1), 3);
        for second in [0, 10, 20] {
            assert!(pacing.may_make(at(second)));
            pacing.made(at(second));
        }
        assert!(!pacing.may_make(at(3599)));
        assert!(pacing.may_make(at(3600)), "the first of the three is an hour old");
    }

    #[test]
    fn waits_grow_and_the_other_end_may_ask_for_an_hour() {
        let waits: Vec<u64> = (1..=8).map(|attempts| wait_after(attempts, None, 1.0).as_secs()).collect();
        assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000]);
        assert_eq!(wait_after(2, None, 0.0), Duration::from_secs(150));
        assert_eq!(wait_after(1, Some(Duration::from_secs(90)), 1.0), Duration::from_secs(90));
        assert_eq!(wait_after(1, Some(Duration::from_secs(90_000)), 1.0), ASKED_MAX);
        assert_eq!(wait_after(1, Some(Duration::ZERO), 1.0), Duration::from_secs(5), "never sooner than ours");
    }
}
