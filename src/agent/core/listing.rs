//! Reads the platform's list of pending requests, and handles the result of each pass.

use std::time::Duration;

use super::answers::AnswerEnding;
use super::{Action, Core};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::{Fetch, PassEnd};
use crate::ledger::entry::Via;
use crate::model::{AgentState, ContactRequest, Outcome, RequestId};
use crate::phoenix::SessionInput;
use crate::platform::{CallError, CallFault, Page, Reply};
use crate::policy::Policy;

/// An agent that is not joined this long after its start lists without a channel.
pub(super) const FIRST_LISTING: Duration = Duration::from_secs(2);
/// A deadline if nothing else is due.
pub(super) const FAR: Duration = Duration::from_secs(3600);

impl Core {
    /// Whether the platform may be asked for lists at all.
    pub(super) fn may_list(&self) -> bool {
        !self.stopping && self.is_us() && self.session.state() != AgentState::Refused
    }

    fn rhythm(&self) -> Duration {
        match self.session.state() {
            AgentState::Live => self.config.timing.list_live,
            AgentState::Starting
            | AgentState::Away
            | AgentState::Yielded
            | AgentState::Polling
            | AgentState::Refused
            | AgentState::Elsewhere => self.config.timing.list_away,
        }
    }

    pub(super) fn begin_listing(&mut self, now: Now) {
        let mark = self.inbox.mark();
        let rhythm = self.rhythm();
        if let Some(fetch) = self.inbox.listing.begin(mark, now.mono, rhythm) {
            // The pages that follow do not show the effect of answers that are in flight now.
            if self.responder.in_flight() > 0 {
                self.inbox.listing.disturb();
            }
            self.act(Action::Page(fetch));
        }
    }

    pub(super) fn page(&mut self, fetch: Fetch, reply: Reply<Page<ContactRequest>>, now: Now) {
        self.watch_date(reply.date, now);
        if !self.inbox.listing.expects(fetch) {
            return;
        }
        match reply.result {
            Ok(page) => {
                self.between = None;
                self.responder.well();
                self.key_works(now);
                self.shown(&page, now);
                let known = self.known(&page.items, fetch.pass, now);
                let (new, end) = self.inbox.page_of(page, &known, now);
                for (id, seen) in new {
                    self.arrived(&id, seen, Via::Listing, None, now);
                }
                match end {
                    Some(end) => self.pass_ended(&end, now),
                    None => {
                        if let Some(next) = self.inbox.listing.next_page() {
                            self.act(Action::Page(next));
                        }
                    }
                }
            }
            Err(error) if error.fault == CallFault::TooLarge => match self.inbox.page_too_large() {
                Some(end) => self.pass_ended(&end, now),
                None => {
                    if let Some(next) = self.inbox.listing.next_page() {
                        self.act(Action::Page(next));
                    }
                }
            },
            Err(error) => self.listing_failed(error, now),
        }
    }

    fn listing_failed(&mut self, error: CallError, now: Now) {
        self.count(Counter::ListingsFailed);
        let wait = error.retry_after.map(|wait| wait.min(self.config.timing.retry_after_max));
        self.inbox.listing.failed(now.mono, wait);
        self.inbox.release_listed();
        self.throttle(&error, now);
        if let CallFault::InBetween(_) = error.fault {
            return self.in_between(&error, now);
        }
        self.tell(Notice::ListFailed { what: "requests", error: error.clone() });
        if matches!(error.fault, CallFault::KeyRefused | CallFault::NoKey | CallFault::Forbidden) {
            self.key_refused(&error, now);
        }
    }

    fn pass_ended(&mut self, end: &PassEnd, now: Now) {
        let verified = self.inbox.pass_ended(end);
        for id in verified.still_pending {
            self.still_pending(&id, now);
        }
        for id in verified.no_longer {
            self.finish(&id, AnswerEnding::of(self.presumed(&id)), now);
        }
        for id in verified.gone {
            self.gone(&id, now);
        }
        self.not_shown(&verified.missing);
        let open = self.forget_unlisted(end, now) || verified.open;
        self.last_listing = Some(now.wall);
        // Other requests of an owner whom somebody has let in meanwhile are decided again. This happens once a round,
        // not after each answer, since it checks all resting requests.
        let approved = |policy: &Policy| policy.history_needs().approved;
        if std::mem::take(&mut self.let_in) && self.policy.as_deref().is_some_and(approved) {
            self.inbox.requeue_resting(|_| true);
        }
        self.count(Counter::Listings);
        if self.joined.is_some_and(|joined| joined < end.mark) {
            self.joined = None;
            self.session_input(SessionInput::Listed, now);
        } else if self.joined.is_none() && self.session.state() == AgentState::Away {
            // The connection was fine; only REST was out of reach.
            self.session_input(SessionInput::Listed, now);
        }
        let mark = self.inbox.mark();
        if let Some(fetch) = self.inbox.listing.again(end, open, mark, now.mono) {
            if self.responder.in_flight() > 0 {
                self.inbox.listing.disturb();
            }
            self.act(Action::Page(fetch));
        }
        self.tell(Notice::Listed {
            shown: end.shown,
            new: end.new,
            pages: end.pages,
            took: now.mono.since(end.started),
        });
        self.inbox.prune(now);
        // By a clock that is wrong, everything would seem long ago.
        if let Some(policy) = self.policy.as_ref().filter(|_| self.clock.sound()) {
            self.policy_state.prune(policy, now.wall);
        }
    }

    /// The outcome of an answer whose request is no longer listed: the answer is presumed to have been carried out.
    fn presumed(&self, id: &RequestId) -> Outcome {
        let said = self.inbox.entry(id).and_then(|entry| entry.answer().said());
        said.map_or(Outcome::Gone, |said| Outcome::Presumed(said.answer))
    }

    /// A stable listing no longer shows the request, and we never answered it.
    fn gone(&mut self, id: &RequestId, now: Now) {
        if self.inbox.entry(id).is_some_and(|entry| entry.answer().may_be_heard()) {
            self.finish(id, AnswerEnding::of(self.presumed(id)), now);
            return;
        }
        self.settled(id, None, now);
    }

    /// If this error says that there were too many calls, the whole agent waits.
    pub(super) fn throttle(&mut self, error: &CallError, now: Now) {
        if error.fault != CallFault::Throttled {
            return;
        }
        let least = self.config.timing.backoff_min;
        let wait = error.retry_after.unwrap_or(least).clamp(least, self.config.timing.retry_after_max.max(least));
        let until: Mono = now.mono + wait;
        self.responder.block(until);
        self.count(Counter::Throttled);
        self.tell(Notice::Throttled { wait });
    }
}
