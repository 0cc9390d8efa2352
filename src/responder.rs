//! Sending answers: how many at once, how fast, and what a reply to one means. Pure.
//!
//! It knows nothing about rules: it says when there is a slot for an answer, and what a reply means for the request.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

use std::time::Duration;

use crate::clock::Mono;
use crate::model::{Answer, Outcome, RequestStatus};
use crate::platform::{CallError, CallFault, Responded};

/// Slots and rate of one agent.
#[derive(Debug)]
pub struct Responder {
    in_flight: u32,
    in_flight_max: u32,
    /// The time between two answers; zero means no limit.
    spacing: Duration,
    /// When the next answer may begin. It may be up to a second in the past, so that one second's worth can be saved
    /// up.
    next: Mono,
    /// Nothing at all before this (429, `Retry-After`).
    blocked_until: Mono,
    /// No answer before this: the last ones did not get through.
    answers_after: Mono,
    /// Waits in a row without a successful call between them. While there is one, answers go out one at a time.
    failures: u32,
}

impl Responder {
    /// At most `in_flight` answers at once, and `per_second` new ones a second; zero means no limit.
    pub fn new(in_flight: u32, per_second: u32) -> Self {
        let spacing = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self {
            in_flight: 0,
            in_flight_max: in_flight.max(1),
            spacing,
            next: Mono::ZERO,
            blocked_until: Mono::ZERO,
            answers_after: Mono::ZERO,
            failures: 0,
        }
    }

    /// Whether an answer may begin; otherwise when to ask again (`None`: when a slot comes back).
    pub(crate) fn slot(&self, now: Mono) -> Result<(), Option<Mono>> {
        if self.blocked_until > now {
            return Err(Some(self.blocked_until));
        }
        if self.answers_after > now {
            return Err(Some(self.answers_after));
        }
        if self.failures > 0 && self.in_flight > 0 {
            return Err(None);
        }
        if self.in_flight >= self.in_flight_max {
            return Err(None);
        }
        if self.next > now {
            return Err(Some(self.next));
        }
        Ok(())
    }

    /// Takes a slot.
    pub fn take(&mut self, now: Mono) {
        self.in_flight += 1;
        if !self.spacing.is_zero() {
            // At most one second's worth is saved up while there is nothing to answer.
            let saved = Mono::from_origin(now.since_origin().saturating_sub(Duration::from_secs(1) - self.spacing));
            self.next = self.next.max(saved) + self.spacing;
        }
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many answers are in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// An answer did not get through. If this begins a new wait, returns how many waits in a row there are. Answers
    /// that were in flight together fail together, and begin one wait.
    pub fn failed(&mut self, now: Mono) -> Option<u32> {
        if self.answers_after > now {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        Some(self.failures)
    }

    /// The current wait lasts until then.
    pub(crate) fn wait_until(&mut self, until: Mono) {
        self.answers_after = self.answers_after.max(until);
    }

    /// When the wait ends.
    pub(crate) fn waits_until(&self) -> Mono {
        self.answers_after
    }

    /// A call succeeded.
    pub fn well(&mut self) {
        (self.failures, self.answers_after) = (0, Mono::ZERO);
    }

    /// The platform refused a call because there were too many.
    pub fn block(&mut self, until: Mono) {
        self.blocked_until = self.blocked_until.max(until);
    }

    /// Until when the platform wants no call, if that is still to come.
    pub fn blocked(&self, now: Mono) -> Option<Mono> {
        (self.blocked_until > now).then_some(self.blocked_until)
    }
}

/// What a reply to an answer means for its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMeaning {
    /// The answer has this outcome.
    Over(Outcome),
    /// It may have been carried out: only a listing can show it.
    Unknown,
    /// It was not carried out; try again later.
    NotYet,
    /// As [`ReplyMeaning::NotYet`], and the whole agent waits.
    Throttled,
    /// The platform forbids it: the request stays pending, and the answer is tried again after an hour.
    Forbidden,
    /// Our message is wrong; sending it again would not help.
    Malformed,
    /// The key is refused or missing: this agent sends nothing until the key works again.
    KeyRefused,
}

/// Classifies the reply to `answer`. `unknown_before` is whether an earlier attempt may have been carried out;
/// `updated` is the status that the channel reported while the answer was in flight.
pub fn meaning(
    answer: Answer,
    result: &Result<Responded, CallError>,
    unknown_before: bool,
    updated: Option<&RequestStatus>,
) -> ReplyMeaning {
    let ours = answer.status();
    let error = match result {
        Ok(responded) if responded.status == ours => return ReplyMeaning::Over(Outcome::Confirmed(answer)),
        // The reply shows another status than we asked for: somebody else settled the request, not we.
        Ok(responded) if responded.status == RequestStatus::Pending => return ReplyMeaning::Unknown,
        Ok(_) => return ReplyMeaning::Over(Outcome::SettledElsewhere),
        Err(error) => error,
    };
    let is_ours = updated.map(|status| *status == ours);
    match (error.fault, is_ours) {
        // Already settled when our answer came: by our own earlier attempt, if there was one and nothing contradicts
        // that.
        (CallFault::NotFound | CallFault::Conflict, Some(false)) => ReplyMeaning::Over(Outcome::SettledElsewhere),
        (CallFault::NotFound | CallFault::Conflict, _) if unknown_before => {
            ReplyMeaning::Over(Outcome::Presumed(answer))
        }
        (CallFault::NotFound | CallFault::Conflict, _) => ReplyMeaning::Over(Outcome::SettledElsewhere),
        // The channel already reported how the request ended; only the platform knows whether our answer did it. A
        // system in between may answer before or after it passes the call on.
        (
            CallFault::NoAnswer
            | CallFault::Passing(_)
            | CallFault::Unreadable(_)
            | CallFault::TooLarge
            | CallFault::InBetween(_),
            Some(true),
        ) => ReplyMeaning::Over(Outcome::Presumed(answer)),
        (
            CallFault::NoAnswer
            | CallFault::Passing(_)
            | CallFault::Unreadable(_)
            | CallFault::TooLarge
            | CallFault::InBetween(_),
            None,
        ) => ReplyMeaning::Unknown,
        (_, Some(true)) if unknown_before => ReplyMeaning::Over(Outcome::Presumed(answer)),
        (_, Some(_)) => ReplyMeaning::Over(Outcome::SettledElsewhere),
        (CallFault::Unreachable, None) => ReplyMeaning::NotYet,
        (CallFault::Throttled, None) => ReplyMeaning::Throttled,
        (CallFault::Forbidden, None) => ReplyMeaning::Forbidden,
        (CallFault::Malformed(_), None) => ReplyMeaning::Malformed,
        (CallFault::KeyRefused | CallFault::NoKey, None) => ReplyMeaning::KeyRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(ms))
    }

    fn error(fault: CallFault) -> Result<Responded, CallError> {
        Err(CallError { fault, code: None, message: None, retry_after: None })
    }

    #[test]
    fn slots_are_bounded_and_come_back() {
        let mut responder = Responder::new(2, 0);
        responder.take(at(0));
        assert_eq!(responder.slot(at(0)), Ok(()));
        responder.take(at(0));
        assert_eq!(responder.slot(at(0)), Err(None));
        responder.give_back();
        assert_eq!(responder.slot(at(0)), Ok(()));
    }

    #[test]
    fn the_rate_holds_over_any_second() {
        let mut responder = Responder::new(1000, 20);
        let mut begun = Vec::new();
        for ms in 5_000..9_000 {
            while responder.slot(at(ms)).is_ok() {
                responder.take(at(ms));
                begun.push(ms);
            }
        }
        // After a quiet start, up to one second's worth may be saved up; after that, the rate applies.
        let in_second = |from: u64| begun.iter().filter(|ms| (from..from + 1000).contains(*ms)).count();
        assert!(in_second(5_000) <= 40, "{}", in_second(5_000));
        assert_eq!(in_second(6_500), 20);
        assert_eq!(in_second(7_500), 20);
    }

    #[test]
    fn answers_that_fail_together_make_one_wait_and_one_goes_first_after_it() {
        let mut responder = Responder::new(8, 0);
        for _ in 0..3 {
            responder.take(at(0));
        }
        assert_eq!(responder.failed(at(10)), Some(1));
        responder.wait_until(at(500));
        assert_eq!(responder.failed(at(11)), None, "of the same wave");
        (0..3).for_each(|_| responder.give_back());
        assert_eq!(responder.slot(at(499)), Err(Some(at(500))));
        assert_eq!(responder.slot(at(500)), Ok(()));
        responder.take(at(500));
        assert_eq!(responder.slot(at(500)), Err(None), "one is enough to find out");
        assert_eq!(responder.failed(at(501)), Some(2), "the next wait is longer");
        responder.give_back();
        responder.well();
        (0..8).for_each(|_| responder.take(at(502)));
        assert_eq!(responder.slot(at(502)), Err(None));
    }

    #[test]
    fn a_throttled_agent_waits_whole() {
        let mut responder = Responder::new(8, 0);
        responder.block(at(5_000));
        responder.block(at(3_000));
        assert_eq!(responder.slot(at(4_999)), Err(Some(at(5_000))));
        assert_eq!(responder.slot(at(5_000)), Ok(()));
    }

    #[test]
    fn every_reply_has_one_meaning() {
        use CallFault::*;
        let approved = RequestStatus::Approved;
        let cancelled = RequestStatus::Cancelled;
        let over = ReplyMeaning::Over;
        for (fault, unknown_before, updated, expected) in [
            (NotFound, false, None, over(Outcome::SettledElsewhere)),
            (NotFound, true, None, over(Outcome::Presumed(Answer::Approve))),
            (Conflict, false, None, over(Outcome::SettledElsewhere)),
            (Conflict, true, None, over(Outcome::Presumed(Answer::Approve))),
            (Conflict, true, Some(&cancelled), over(Outcome::SettledElsewhere)),
            (Conflict, false, Some(&approved), over(Outcome::SettledElsewhere)),
            (NoAnswer, false, None, ReplyMeaning::Unknown),
            (NoAnswer, false, Some(&approved), over(Outcome::Presumed(Answer::Approve))),
            (NoAnswer, false, Some(&cancelled), over(Outcome::SettledElsewhere)),
            (Passing(500), false, None, ReplyMeaning::Unknown),
            (Unreadable(200), false, None, ReplyMeaning::Unknown),
            (InBetween(403), false, None, ReplyMeaning::Unknown),
            (InBetween(404), false, Some(&cancelled), over(Outcome::SettledElsewhere)),
            (Unreachable, false, None, ReplyMeaning::NotYet),
            (Unreachable, false, Some(&approved), over(Outcome::SettledElsewhere)),
            (Unreachable, true, Some(&approved), over(Outcome::Presumed(Answer::Approve))),
            (Throttled, false, None, ReplyMeaning::Throttled),
            (Forbidden, false, None, ReplyMeaning::Forbidden),
            (Malformed(422), false, None, ReplyMeaning::Malformed),
            (KeyRefused, false, None, ReplyMeaning::KeyRefused),
            (NoKey, false, None, ReplyMeaning::KeyRefused),
        ] {
            let got = meaning(Answer::Approve, &error(fault), unknown_before, updated);
            assert_eq!(got, expected, "{fault:?} {unknown_before} {updated:?}");
        }
        let said = |status| Ok(Responded { status });
        assert_eq!(
            meaning(Answer::Approve, &said(RequestStatus::Approved), false, None),
            over(Outcome::Confirmed(Answer::Approve))
        );
        assert_eq!(
            meaning(Answer::Approve, &said(RequestStatus::Rejected), false, None),
            over(Outcome::SettledElsewhere)
        );
        assert_eq!(meaning(Answer::Reject, &said(RequestStatus::Pending), false, None), ReplyMeaning::Unknown);
    }
}
