//! Detects a pattern in the ends of connections, which nobody would see in single log lines. It is reported once, and
//! `status` shows it until a connection breaks it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;

/// This many similar ends in a row are a pattern.
const ALIKE: usize = 4;
/// Shorter connections say nothing about a time limit.
const AFTER_MIN: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Endings {
    last: VecDeque<SessionEnd>,
    pattern: Option<EndPattern>,
}

/// How one connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SessionEnd {
    lasted: Duration,
    too_large: bool,
}

/// What they have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndPattern {
    /// A frame was larger than one side takes.
    TooLarge,
    /// Each after about this time.
    After(Duration),
}

impl Endings {
    /// A connection that lasted this long was ended by the other side, or because a frame was too large. Returns the
    /// pattern if it is new.
    pub(super) fn ended(&mut self, opened_at: Mono, too_large: bool, now: Mono) -> Option<String> {
        if self.last.len() == ALIKE {
            self.last.pop_front();
        }
        self.last.push_back(SessionEnd { lasted: now.since(opened_at), too_large });
        let (before, now) = (self.pattern, self.alike());
        self.pattern = now;
        let news = match (before, now) {
            (Some(EndPattern::TooLarge), Some(EndPattern::TooLarge))
            | (Some(EndPattern::After(_)), Some(EndPattern::After(_))) => false,
            (_, now) => now.is_some(),
        };
        if news { self.remark() } else { None }
    }

    /// The pattern, for people.
    pub(super) fn remark(&self) -> Option<String> {
        self.pattern.map(|pattern| match pattern {
            EndPattern::TooLarge => format!(
                "the last {ALIKE} connections ended because a frame was too large (code 1009): events are lost and only listings bring requests"
            ),
            EndPattern::After(after) => format!(
                "each of the last {ALIKE} connections ended after about {} s: something between here and the platform may cut idle \
                 connections; lower `timing.heartbeat` below that",
                after.as_secs_f64().round()
            ),
        })
    }

    fn alike(&self) -> Option<EndPattern> {
        if self.last.len() < ALIKE {
            return None;
        }
        if self.last.iter().all(|end| end.too_large) {
            return Some(EndPattern::TooLarge);
        }
        let shortest = self.last.iter().map(|end| end.lasted).min()?;
        let longest = self.last.iter().map(|end| end.lasted).max()?;
        let close = longest - shortest <= Duration::from_secs(1).max(longest / 10);
        (shortest >= AFTER_MIN && close && self.last.iter().all(|end| !end.too_large))
            .then_some(EndPattern::After(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn connections_that_end_after_the_same_time_are_reported_once_and_until_one_does_not() {
        let mut endings = Endings::default();
        let mut remarks = Vec::new();
        for turn in 0..6 {
            remarks.extend(endings.ended(at(turn * 100), false, at(turn * 100 + 20 + turn % 2)));
        }
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].contains("21 s") && remarks[0].contains("`timing.heartbeat`"), "{remarks:?}");
        assert!(endings.remark().is_some());
        assert_eq!(endings.ended(at(1000), false, at(1090)), None);
        assert_eq!(endings.remark(), None);
    }

    #[test]
    fn short_lives_and_different_ones_are_no_pattern_and_frames_that_are_too_large_are() {
        let mut endings = Endings::default();
        assert!((0..9).all(|turn| endings.ended(at(turn), false, at(turn + 1)).is_none()));
        assert!((0..9).all(|turn| endings.ended(at(0), false, at(20 * (turn + 1))).is_none()));
        let remarks: Vec<_> = (0..9).filter_map(|turn| endings.ended(at(turn), true, at(turn + 1))).collect();
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].contains("1009"), "{remarks:?}");
    }
}
