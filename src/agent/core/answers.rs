//! Sends answers, handles their outcomes, and handles how requests end.

use std::time::Duration;

use jiff::Timestamp;

use super::remembered::Remembered;
use super::{Action, Core, OpOutcome};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::{Flight, GivenAnswer, Stage};
use crate::ledger::Record;
use crate::model::{AgentState, Answer, ContactRequest, Outcome, Refusal, RequestId, RequestStatus, Verdict};
use crate::platform::{CallError, Reply, Responded};
use crate::policy::By;
use crate::policy::doubts::{Basis, Fact};
use crate::policy::state::EndedAnswer;
use crate::responder::{ReplyMeaning, meaning};

/// After a 403 the same answer is sent again this much later.
const FORBIDDEN_WAIT: Duration = Duration::from_secs(3600);
/// At most this many refusal codes are reported, once each; further new codes are not reported until a reload.
const REFUSALS_REPORTED_MAX: usize = 64;
/// At most this many characters of such a code are kept.
const CODE_CHARS_MAX: usize = 64;

/// How an answer ended.
#[derive(Debug)]
pub(super) struct AnswerEnding {
    pub(super) outcome: Outcome,
    pub(super) detail: Option<String>,
    pub(super) latency: Option<Duration>,
    /// The status that the platform reports, if somebody else may have answered.
    pub(super) status: Option<RequestStatus>,
}

impl AnswerEnding {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome, detail: None, latency: None, status: None }
    }
}

/// Whether both requests were sent by the same owner or the owner's agents.
fn same_owner(one: &ContactRequest, other: &ContactRequest) -> bool {
    let owner = |request: &ContactRequest| request.sender.handle().map(|handle| handle.owner().to_owned());
    owner(one).is_some_and(|one| owner(other) == Some(one))
}

impl Core {
    /// Sends an answer whose intent is on record, unless the world has moved on since.
    pub(super) fn send(&mut self, id: &RequestId, now: Now) {
        let Some((request, flight)) = self.inbox.entry(id).and_then(|entry| {
            let flight = entry.answer().flight()?;
            Some((entry.request().clone(), flight.clone()))
        }) else {
            return;
        };
        if let Some(status) = flight.updated() {
            let answer = flight.said().answer;
            let ours = flight.bound() && *status == answer.status();
            let outcome = if ours { Outcome::Presumed(answer) } else { Outcome::SettledElsewhere };
            let status = Some(status.clone());
            self.slot_back();
            self.finish(id, AnswerEnding { status, ..AnswerEnding::of(outcome) }, now);
            return;
        }
        if self.session.state() == AgentState::Refused || !self.is_us() {
            self.unsent(id, None, true);
            self.withdraw(id, None, now);
            return;
        }
        // The sender changed after the decision.
        if self.inbox.entry(id).is_some_and(|entry| !entry.is_as_answered()) {
            self.unsent(id, None, true);
            return;
        }
        let (answer, attempt) = (flight.said().answer, flight.attempt());
        self.act(Action::Respond { request: id.clone(), answer, attempt });
        self.tell(Notice::Answering { request, answer, attempt });
    }

    /// The answer was not sent: the request goes back to be decided again. `recorded` is whether its intent is on record.
    pub(super) fn unsent(&mut self, id: &RequestId, until: Option<Mono>, recorded: bool) {
        self.slot_back();
        self.inbox.unsent(id, recorded, until);
    }

    /// An answer is no longer in flight. A listing pass that is under way now proves nothing about requests that it
    /// does not show.
    fn slot_back(&mut self) {
        self.responder.give_back();
        self.inbox.listing.disturb();
    }

    pub(super) fn responded(&mut self, id: &RequestId, attempt: u32, reply: Reply<Responded>, written: Mono, now: Now) {
        self.watch_date(reply.date, now);
        let Some(entry) = self.inbox.entry(id) else { return };
        let Some(flight) = entry.answer().flight().filter(|flight| flight.attempt() == attempt).cloned() else {
            return;
        };
        let (request, received) = (entry.request().clone(), entry.received().filter(|_| attempt == 1));
        self.slot_back();
        let answer = flight.said().answer;
        let meaning = meaning(answer, &reply.result, flight.bound(), flight.updated());
        if reply.result.is_ok() {
            self.responder.well();
            self.key_works(now);
        }
        let stands = reply.result.as_ref().ok().map(|responded| responded.status.clone());
        let error = reply.result.err();
        match meaning {
            ReplyMeaning::Over(outcome) => {
                let latency = received.map(|received| written.since(received));
                let detail = error.map(|error| error.to_string());
                let status = flight.updated().cloned().or(stands);
                self.finish(id, AnswerEnding { outcome, detail, latency, status }, now);
            }
            ReplyMeaning::Unknown => self.fate_unknown(id, &flight, error, now),
            ReplyMeaning::NotYet | ReplyMeaning::Throttled => {
                self.count(Counter::AnswersRetried);
                let begins = self.answers_wait(error.as_ref(), now);
                self.inbox.unsent(id, true, Some(self.responder.waits_until()));
                self.tell_people(id, || OpOutcome::busy("the platform cannot take it now: doorman keeps trying"));
                if begins {
                    self.tell(Notice::Retry { request, answer, attempts: attempt, error, unknown: false });
                }
            }
            ReplyMeaning::Forbidden | ReplyMeaning::Malformed => {
                let Some(error) = error else { return };
                self.refused(id, &flight, meaning, error, now);
            }
            ReplyMeaning::KeyRefused => {
                let Some(error) = error else { return };
                self.inbox.unsent(id, true, None);
                // There is no other try until somebody fixes the key. An intent that stays open on record would count
                // as an answer of unknown outcome after a restart.
                self.withdraw(id, None, now);
                self.tell_people(id, || {
                    OpOutcome::failed("the agent's key is refused, or missing: see `doorman status`")
                });
                self.key_refused(&error, now);
            }
        }
    }

    /// Answers do not get through: all of this agent's wait, longer each time until a call is good. Whether this begins a
    /// wait; those that fail together make one.
    fn answers_wait(&mut self, error: Option<&CallError>, now: Now) -> bool {
        let least = error.and_then(|error| error.retry_after).unwrap_or_default();
        let Some(failures) = self.responder.failed(now.mono) else {
            self.responder.wait_until(now.mono + least.min(self.config.timing.retry_after_max));
            return false;
        };
        let wait = self.backoff(failures).max(least.min(self.config.timing.retry_after_max));
        self.responder.wait_until(now.mono + wait);
        if let Some(error) = error {
            self.throttle(error, now);
        }
        true
    }

    /// Withdraws an intent whose answer never left, because the decision is now different.
    pub(super) fn withdraw(&mut self, id: &RequestId, unless: Option<Answer>, now: Now) {
        let Some(answer) = self.inbox.withdraw(id, unless) else { return };
        let Some(entry) = self.inbox.entry(id) else { return };
        let request = entry.request().clone();
        self.approval_ended(id, request.sender.handle(), false, now);
        self.policy_state.settle(id, request.sender.handle(), answer.verdict(), Outcome::Refused, now.wall);
        self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
        self.limits_freed(id);
    }

    /// The answer may have been carried out. Nothing more is sent for this request until a listing that begins after
    /// this moment has ended; after that, only the same answer may be sent.
    fn fate_unknown(&mut self, id: &RequestId, flight: &Flight, error: Option<CallError>, now: Now) {
        self.count(Counter::AnswersUnknown);
        self.inbox.fate_unknown(id);
        let Some(entry) = self.inbox.entry(id) else { return };
        let request = entry.request().clone();
        let least = error.as_ref().and_then(|error| error.retry_after).unwrap_or_default();
        let wait = self.backoff(flight.attempt() - 1).max(least.min(self.config.timing.retry_after_max));
        self.inbox.listing.want("the fate of an answer is unknown", now.mono + wait);
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome: Outcome::Unknown,
            detail: error.as_ref().map(ToString::to_string),
            refusal: None,
            stay: None,
            at: now.wall,
        });
        let (answer, attempts) = (flight.said().answer, flight.attempt());
        self.tell(Notice::Retry { request, answer, attempts, error, unknown: true });
    }

    /// A listing that began after the attempt still shows it: the attempt was not carried out.
    pub(super) fn still_pending(&mut self, id: &RequestId, now: Now) {
        let attempts = self.inbox.entry(id).map_or(0, |entry| entry.answer().attempts());
        let wait = self.backoff(attempts.saturating_sub(1));
        self.inbox.still_pending(id, now.mono + wait);
    }

    fn refused(&mut self, id: &RequestId, flight: &Flight, meaning: ReplyMeaning, error: CallError, now: Now) {
        self.count(Counter::AnswersRefused);
        let code = error.code.as_ref().map_or_else(String::new, |code| code.raw_prefix(CODE_CHARS_MAX).to_owned());
        let malformed = meaning == ReplyMeaning::Malformed;
        let (refusal, until) = match malformed {
            true => (Refusal::Malformed, None),
            false => (Refusal::Forbidden, Some(now.mono + FORBIDDEN_WAIT)),
        };
        self.inbox.refused(id, refusal, until);
        let Some(entry) = self.inbox.entry(id) else { return };
        let request = entry.request().clone();
        let answer = flight.said().answer;
        // If an earlier attempt may have been carried out, the request stays bound to its answer, across restarts too.
        let bound = flight.bound();
        let outcome = if bound { Outcome::Unknown } else { Outcome::Refused };
        if !bound {
            self.approval_ended(id, request.sender.handle(), false, now);
            self.policy_state.settle(id, request.sender.handle(), answer.verdict(), Outcome::Refused, now.wall);
            self.limits_freed(id);
        }
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome,
            detail: Some(error.to_string()),
            refusal: Some(refusal),
            stay: None,
            at: now.wall,
        });
        let why = format!("the platform refused it: {error}");
        self.tell_people(id, || OpOutcome::failed(&why));
        // A used-up quota refuses every answer, so it is reported once.
        let room = self.refusals_reported.len() < REFUSALS_REPORTED_MAX;
        if malformed || (room && self.refusals_reported.insert(code)) {
            self.tell(Notice::Refused { request, answer, error });
        }
    }

    /// An answer came to its end, one way or another.
    pub(super) fn finish(&mut self, id: &RequestId, ending: AnswerEnding, now: Now) {
        let Some(entry) = self.inbox.entry(id) else { return };
        // An answer that was not carried out does not bind the request if it turns out to be still pending.
        let carried_out = matches!(ending.outcome, Outcome::Confirmed(_) | Outcome::Presumed(_));
        let bound = entry.answer().said().filter(|_| carried_out).cloned();
        let Some(entry) = self.inbox.settle(id, bound, now) else { return };
        self.inbox.listing.disturb();
        self.policy_state.doubts_mut().listed(id);
        // The request was listed again after its answer had ended, and ended before the answer was sent again: its
        // outcome is already on record.
        let Some((GivenAnswer { answer, by, lasts }, attempts)) = entry.answer().ends() else {
            self.record(Record::Settled {
                agent: self.config.agent.clone(),
                request: id.clone(),
                status: None,
                at: now.wall,
            });
            self.tell_people(id, OpOutcome::gone);
            self.tell(Notice::Settled { request: id.clone(), status: None });
            return;
        };
        let (answer, by, lasts) = (*answer, by.clone(), *lasts);
        let verdict = answer.verdict();
        let outcome = ending.outcome;
        let request = entry.request().clone();
        let let_in = carried_out && verdict == Verdict::Approve;
        let stay = lasts.filter(|_| let_in).map(|lasts| self.stay(lasts, outcome, entry.first_seen(), now));
        let guest = stay.is_some();
        let stay = stay.and_then(|stay| self.guests.beside(stay, id, request.sender.handle(), &by));
        self.policy_state.settle_as(
            id,
            request.sender.handle(),
            EndedAnswer {
                verdict,
                outcome,
                guest,
                by_person: by.person().is_some(),
                sent: request.inserted_at.unwrap_or(entry.first_seen()),
                first_seen: entry.first_seen(),
            },
            now.wall,
        );
        self.policy_state.forget(id);
        if let (true, Verdict::Approve, By::Person(_), Some(handle)) =
            (carried_out, verdict, &by, request.sender.handle())
        {
            // An approval by a person ends all doubts about that owner up to now.
            self.vouched(handle.owner(), now);
        }
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome,
            detail: ending.detail,
            refusal: None,
            stay,
            at: now.wall,
        });
        let rejected = ending.status == Some(RequestStatus::Rejected);
        if outcome == Outcome::SettledElsewhere {
            self.ended_elsewhere(&request, entry.first_seen(), ending.status, now);
        }
        if matches!(outcome, Outcome::Presumed(_)) && by.person().is_none() {
            self.presumed_end(&request, entry.first_seen(), answer, rejected, now);
        }
        self.count(match outcome {
            Outcome::Confirmed(_) => Counter::AnswersConfirmed,
            Outcome::Presumed(_) => Counter::AnswersPresumed,
            Outcome::SettledElsewhere => Counter::AnswersSettledElsewhere,
            Outcome::Gone | Outcome::Refused | Outcome::Unknown => Counter::AnswersEndedOtherwise,
        });
        let ends_at = stay.map(|stay| stay.ends_at);
        self.end_waiting(id, &request, verdict, outcome.as_str(), ends_at);
        if !outcome.keeps_charge() {
            self.limits_freed(id);
        }
        self.let_in |= let_in;
        if let Some(stay) = stay {
            self.let_in_for_a_time(id, request.sender.handle(), stay);
        }
        self.approval_ended(id, request.sender.handle(), let_in, now);
        self.tell(Notice::Answered { request, answer, by, outcome, attempts, latency: ending.latency });
    }

    /// An answer of unknown fate by a rule was presumably carried out. `rejected`: the platform says so, by whomever.
    fn presumed_end(
        &mut self,
        request: &ContactRequest,
        first_seen: Timestamp,
        answer: Answer,
        rejected: bool,
        now: Now,
    ) {
        match answer {
            // Somebody else may have rejected the request first. If a contact appears, it was not rejected.
            Answer::Approve => self.ended_unseen(request, first_seen, Basis::Presumed(request.id.clone())),
            Answer::Reject if rejected => self.ended_elsewhere(request, first_seen, Some(RequestStatus::Rejected), now),
            // It may have ended otherwise before the answer came.
            Answer::Reject => self.ended_unseen(request, first_seen, Basis::PresumedRejected(request.id.clone())),
        }
    }

    /// Somebody else answered a request that was sent to us; their answer goes on record. A rejection by somebody else
    /// counts in the history like one of ours.
    fn ended_elsewhere(
        &mut self,
        request: &ContactRequest,
        first_seen: Timestamp,
        status: Option<RequestStatus>,
        now: Now,
    ) {
        let Some(status) = status.filter(|status| *status != RequestStatus::Pending) else {
            return self.ended_unseen(request, first_seen, Basis::SettledElsewhere(request.id.clone()));
        };
        if status == RequestStatus::Rejected {
            self.policy_state.rejected_elsewhere(&request.id, request.sender.handle(), now.wall);
            self.inbox.requeue_resting(|entry| same_owner(entry.request(), request));
        }
        let (agent, id) = (self.config.agent.clone(), request.id.clone());
        self.record(Record::Settled { agent, request: id, status: Some(status), at: now.wall });
    }

    /// The channel reported the new status of a request.
    pub(super) fn updated(&mut self, id: &RequestId, status: RequestStatus, now: Now) {
        if status == RequestStatus::Pending {
            return;
        }
        self.inbox.listing.disturb();
        self.count(Counter::UpdatesReceived);
        let Some(entry) = self.inbox.entry(id) else {
            // The request ended here and nobody knows how. A doubt about it is kept longer than its tombstone.
            let doubts = self.policy_state.doubts();
            let doubted = doubts.owner_by_request(id).is_some() || doubts.is_presumed(id);
            let ended_before = doubted || self.inbox.tombstone(id).is_some();
            self.inbox.settle(id, None, now);
            match ended_before {
                true => self.end_shown(id, &status, now),
                false => self.settled(id, Some(status), now),
            }
            return;
        };
        match entry.stage() {
            // This event usually arrives before the reply to our own answer. The reply decides who settled the request.
            Stage::InFlight => {
                self.inbox.updated(id, &status);
            }
            Stage::Unknown { .. } | Stage::Ready | Stage::Resting { .. } | Stage::Delayed { .. } => {
                let said = entry.answer().said().map(|said| said.answer).filter(|answer| answer.status() == status);
                if entry.answer().may_be_heard() {
                    let outcome = said.map_or(Outcome::SettledElsewhere, Outcome::Presumed);
                    self.finish(id, AnswerEnding { status: Some(status), ..AnswerEnding::of(outcome) }, now);
                } else {
                    self.settled(id, Some(status), now);
                }
            }
        }
    }

    /// A request ended without an answer of ours. `None`: a listing no longer shows it.
    pub(super) fn settled(&mut self, id: &RequestId, status: Option<RequestStatus>, now: Now) {
        let remembered = self.remembered.remove(id);
        self.policy_state.doubts_mut().listed(id);
        let entry = self.inbox.settle(id, None, now);
        let known = remembered.is_some() || entry.is_some();
        self.inbox.listing.disturb();
        match status {
            Some(_) => self.policy_state.forget(id),
            None => self.policy_state.gone(id),
        }
        self.count(if status.is_some() { Counter::SettledElsewhere } else { Counter::Gone });
        if known {
            self.record(Record::Settled {
                agent: self.config.agent.clone(),
                request: id.clone(),
                status: status.clone(),
                at: now.wall,
            });
        }
        if let Some(entry) = entry {
            let request = entry.request().clone();
            if status.is_none() {
                self.ended_unseen(&request, entry.first_seen(), Basis::Vanished(id.clone()));
            }
            if status == Some(RequestStatus::Rejected) {
                self.policy_state.rejected_elsewhere(id, request.sender.handle(), now.wall);
                self.inbox.requeue_resting(|entry| same_owner(entry.request(), &request));
            }
            self.against_policy(&entry, status.as_ref());
            self.approval_ended(id, entry.request().sender.handle(), false, now);
            if entry.answer().intended().is_some() {
                self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
            }
            if entry.answer().attempts() > 0 {
                self.policy_state.give_back(id);
                self.limits_freed(id);
            }
            self.tell_people(id, OpOutcome::gone);
        } else if let (Some(RequestStatus::Rejected), Some(sender)) =
            (&status, remembered.as_ref().and_then(Remembered::handle))
        {
            self.policy_state.settled_by_word(sender.owner(), Some(id), Fact::Rejected, true, now.wall);
        }
        // The channel also reports requests that the agent itself sent to others; those are not for us.
        if known {
            self.tell(Notice::Settled { request: id.clone(), status });
        }
    }

    /// Replies to the people who wait for the end of this request.
    pub(super) fn tell_people(&mut self, id: &RequestId, outcome: impl Fn() -> OpOutcome) {
        for token in self.waiting.remove(id).unwrap_or_default() {
            self.outbox.catch_up();
            self.act(Action::Reply { token, outcome: outcome() });
        }
    }
}
