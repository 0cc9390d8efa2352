//! Judges whether the wall clock can be trusted, by the platform's `Date` header and by the newest row of the ledger.

use jiff::{SignedDuration, Timestamp};

use super::Core;
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::policy::ClockHealth;

/// Further than this from the platform's time is unsound.
const OFF_MAX: SignedDuration = SignedDuration::from_mins(5);
/// A clock that is more than this behind the ledger's newest row is unsound, as long as the platform has sent no time.
const BEHIND_MAX: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
pub(super) struct ClockWatch {
    newest: Option<Timestamp>,
    /// The platform's last `Date`, and when it came.
    date: Option<(Timestamp, Mono)>,
    sound: bool,
}

impl ClockWatch {
    pub(super) fn new(newest: Option<Timestamp>) -> Self {
        Self { newest, date: None, sound: true }
    }

    pub(super) fn sound(&self) -> bool {
        self.sound
    }

    pub(super) fn health(&self) -> ClockHealth {
        if self.sound { ClockHealth::Sound } else { ClockHealth::Unsound }
    }

    /// What the wall clock should show, as far as it is known.
    fn reference(&self, now: Now) -> Option<Timestamp> {
        match self.date {
            Some((date, at)) => {
                let since = SignedDuration::try_from(now.mono.since(at)).unwrap_or(SignedDuration::MAX);
                date.checked_add(since).ok()
            }
            None => self.newest,
        }
    }

    /// The time of the platform's clock now; our own time as long as the platform has sent none.
    pub(super) fn there(&self, now: Now) -> Timestamp {
        self.date.and_then(|_| self.reference(now)).unwrap_or(now.wall)
    }

    /// Judges the clock again; `Some` if the judgement changed.
    fn judge(&mut self, now: Now) -> Option<bool> {
        let sound = match (self.date, self.reference(now)) {
            (Some(_), Some(reference)) => now.wall.duration_since(reference).abs() <= OFF_MAX,
            (None, Some(newest)) => newest.duration_since(now.wall) <= BEHIND_MAX,
            (_, None) => true,
        };
        let changed = sound != self.sound;
        self.sound = sound;
        changed.then_some(sound)
    }
}

impl Core {
    pub(super) fn watch_date(&mut self, date: Option<Timestamp>, now: Now) {
        if let Some(date) = date {
            self.clock.date = Some((date, now.mono));
        }
        self.watch_clock(now);
    }

    pub(super) fn watch_clock(&mut self, now: Now) {
        if let Some(sound) = self.clock.judge(now) {
            let reference = self.clock.reference(now);
            self.count(Counter::ClockChanges);
            self.tell(Notice::Clock { sound, reference });
            if sound {
                // What was read or requested by the wrong clock may not reach back far enough for the right one.
                let policy = self.policy.clone();
                self.restore_for(policy.as_deref(), now);
            }
            self.inbox.requeue_resting(|_| true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(minutes: i64, mono: u64) -> Now {
        Now {
            mono: Mono::from_origin(Duration::from_secs(mono * 60)),
            wall: Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap(),
        }
    }

    #[test]
    fn a_suspend_of_both_clocks_is_no_doubt_and_a_jump_of_one_is() {
        let mut watch = ClockWatch::new(None);
        watch.date = Some((at(0, 0).wall, at(0, 0).mono));
        assert_eq!(watch.judge(at(0, 0)), None);
        // 90 minutes of suspend: here the elapsed time follows the wall clock.
        assert_eq!(watch.judge(at(90, 90)), None);
        assert!(watch.sound());
        // By an elapsed time that stops in suspend the right clock would be called wrong.
        assert_eq!(watch.judge(at(180, 90)), Some(false));
        assert_eq!(watch.judge(at(180, 180)), Some(true));
        assert_eq!(watch.judge(at(184, 180)), None);
        assert_eq!(watch.judge(at(174, 180)), Some(false));
    }
}
