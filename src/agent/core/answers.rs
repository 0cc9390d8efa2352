//! Answers on their way, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use super::ending::Ending;
use super::{Action, Core, OpOutcome, outbox};
use crate::agent::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::Forced;
use crate::ledger::LedgerError;
use crate::ledger::Record;
use crate::model::{AgentState, Answer, Outcome, RequestId};
use crate::platform::{CallError, Reply, Responded};
use crate::responder::{Meaning, meaning};

/// After a 403 the same answer is sent again this much later.
const FORBIDDEN_WAIT: Duration = Duration::from_secs(3600);
/// Codes of refusals that are told once each; whoever makes up more is told of no further ones until a reload.
const REFUSALS_TOLD_MAX: usize = 64;
/// What is kept of such a code.
const CODE_CHARS_MAX: usize = 64;
/// After the ledger refused an entry the request is tried again this much later.
const REFUSED_ENTRY_WAIT: Duration = Duration::from_secs(300);

/// An answer between its intent and its outcome.
#[derive(Debug)]
pub(super) struct Flight {
    answer: Answer,
    by: Arc<str>,
    attempt: u32,
}

impl Core {
    pub(super) fn flight(&mut self, id: &RequestId, answer: Answer, by: Arc<str>, attempt: u32) {
        self.flights.insert(id.clone(), Flight { answer, by, attempt });
    }

    /// Hands the outbox to the ledger: one batch at a time, in order.
    pub(super) fn flush(&mut self) {
        if self.recording {
            return;
        }
        let Some(batch) = self.outbox.next_batch() else { return };
        self.inbox.closed = self.outbox.is_full();
        self.recording = true;
        self.intents_under_way = outbox::intents(&batch);
        self.act(Action::Record(batch));
    }

    /// A batch is on record, and only now its answers go out; or it is not, and they don't.
    pub(super) fn recorded(&mut self, result: Result<(), LedgerError>, now: Now) {
        self.recording = false;
        let intents = std::mem::take(&mut self.intents_under_way);
        match result {
            Ok(()) => {
                for id in intents {
                    self.send(&id, now);
                }
            }
            Err(error) => {
                self.count("ledger_refused");
                self.tell(Notice::LedgerRefused { why: error.to_string() });
                for id in intents {
                    self.take_back(&id, Some(now.mono + REFUSED_ENTRY_WAIT), false);
                    self.withdraw_unsent(&id, now);
                }
            }
        }
    }

    /// Sends an answer whose intent is on record, unless the world has moved on since.
    fn send(&mut self, id: &RequestId, now: Now) {
        let Some(entry) = self.inbox.entry(id) else {
            self.flights.remove(id);
            self.responder.give_back();
            return;
        };
        if entry.updated.is_some() {
            let ours = entry.unknown_before
                && entry.updated.as_deref().cloned() == self.flights.get(id).map(|flight| flight.answer.status());
            let outcome = if ours { Outcome::PresumedApplied } else { Outcome::SettledElsewhere };
            if let Some(flight) = self.end_answer(id) {
                self.force(id, Forced { answer: flight.answer, by: flight.by });
            }
            self.finish(id, Ending { outcome, detail: None, latency: None }, now);
            return;
        }
        if self.session.state() == AgentState::Refused || !self.is_us() {
            self.take_back(id, None, true);
            return;
        }
        let Some(flight) = self.flights.get(id) else { return };
        let (answer, attempt) = (flight.answer, flight.attempt);
        let request = entry.request.clone();
        self.act(Action::Respond { request: id.clone(), answer, attempt });
        self.tell(Notice::Answering { request, answer, attempt });
    }

    /// The ledger did not take an intent, perhaps because it holds another answer for open that is not: what certainly
    /// never reached anybody is withdrawn before the next try.
    fn withdraw_unsent(&mut self, id: &RequestId, now: Now) {
        if self.inbox.entry(id).is_some_and(|entry| !entry.unknown_before) {
            self.policy_state.give_back(id);
            self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
            self.limits_freed(id);
        }
    }

    /// The answer was not sent: the request goes back to be decided anew.
    fn take_back(&mut self, id: &RequestId, until: Option<Mono>, recorded: bool) {
        let flight = self.end_answer(id);
        if recorded && let (Some(flight), Some(entry)) = (flight, self.inbox.entry_mut(id)) {
            entry.intended = Some(flight.answer);
        }
        match until {
            Some(until) => self.inbox.delay(id, until),
            None => self.inbox.requeue(id),
        }
    }

    fn end_answer(&mut self, id: &RequestId) -> Option<Flight> {
        let flight = self.flights.remove(id)?;
        self.responder.give_back();
        self.inbox.listing.disturb();
        Some(flight)
    }

    pub(super) fn responded(&mut self, id: &RequestId, attempt: u32, reply: Reply<Responded>, written: Mono, now: Now) {
        self.watch_date(reply.date, now);
        if self.flights.get(id).is_none_or(|flight| flight.attempt != attempt) {
            return;
        }
        let Some(flight) = self.end_answer(id) else { return };
        let Some(entry) = self.inbox.entry(id) else { return };
        let request = entry.request.clone();
        let meaning = meaning(flight.answer, &reply.result, entry.unknown_before, entry.updated.as_deref());
        if reply.result.is_ok() {
            self.key_works(now);
        }
        let error = reply.result.err();
        match meaning {
            Meaning::Over(outcome) => {
                let received = self.inbox.entry(id).and_then(|entry| entry.received).filter(|_| attempt == 1);
                let latency = received.map(|received| written.since(received));
                self.force(id, Forced { answer: flight.answer, by: flight.by });
                self.finish(id, Ending { outcome, detail: error.map(|error| error.to_string()), latency }, now);
            }
            Meaning::Unknown => self.fate_unknown(id, &flight, error, now),
            Meaning::NotYet | Meaning::Throttled => {
                self.never_reached(id, flight.answer);
                self.count("answers_retried");
                if let Some(error) = &error {
                    self.throttle(error, now);
                }
                let wait = self.backoff(attempt);
                let asked = error.as_ref().and_then(|error| error.retry_after).unwrap_or_default();
                let wait = wait.max(asked.min(self.config.timing.retry_after_max));
                self.inbox.delay(id, now.mono + wait);
                self.tell_people(id, || OpOutcome::busy("the platform cannot take it now: doorman keeps trying"));
                self.tell(Notice::Retry { request, answer: flight.answer, attempts: attempt, error, unknown: false });
            }
            Meaning::Forbidden | Meaning::Malformed => {
                let Some(error) = error else { return };
                self.refused(id, &flight, meaning, error, now);
            }
            Meaning::KeyRefused => {
                let Some(error) = error else { return };
                self.never_reached(id, flight.answer);
                self.inbox.requeue(id);
                self.tell_people(id, || {
                    OpOutcome::failed("the agent's key is refused, or missing: see `doorman status`")
                });
                self.key_refused(&error, now);
            }
        }
    }

    /// The attempt was certainly not carried out; unless an earlier one may have been, the request is free again.
    fn never_reached(&mut self, id: &RequestId, answer: Answer) {
        if let Some(entry) = self.inbox.entry_mut(id)
            && !entry.unknown_before
        {
            entry.intended = Some(answer);
        }
    }

    /// Gives up an intent that never reached anybody, since something else is decided now.
    pub(super) fn withdraw(&mut self, id: &RequestId, unless: Option<Answer>, now: Now) {
        let Some(entry) = self.inbox.entry_mut(id) else { return };
        let Some(answer) = entry.intended.take_if(|answer| Some(*answer) != unless) else { return };
        entry.attempts = 0;
        let request = entry.request.clone();
        self.approval_ended(id, request.sender.handle(), false, now);
        self.policy_state.settle(id, request.sender.handle(), answer.verdict(), Outcome::Refused, now.wall);
        self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
        self.limits_freed(id);
    }

    /// It may have been carried out. Until a listing that begins after this moment is through, nothing more is said to
    /// this request; and then, only the same.
    fn fate_unknown(&mut self, id: &RequestId, flight: &Flight, error: Option<CallError>, now: Now) {
        self.count("answers_unknown");
        self.force(id, Forced { answer: flight.answer, by: flight.by.clone() });
        let Some(entry) = self.inbox.entry_mut(id) else { return };
        entry.unknown_before = true;
        entry.intended = None;
        let request = entry.request.clone();
        self.inbox.unknown(id);
        let asked = error.as_ref().and_then(|error| error.retry_after).unwrap_or_default();
        let wait = self.backoff(flight.attempt - 1).max(asked.min(self.config.timing.retry_after_max));
        self.inbox.listing.want("the fate of an answer is unknown", now.mono + wait);
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome: Outcome::Unknown,
            detail: error.as_ref().map(ToString::to_string),
            at: now.wall,
        });
        self.tell(Notice::Retry { request, answer: flight.answer, attempts: flight.attempt, error, unknown: true });
    }

    /// A listing that began after the attempt still shows it: the attempt was not carried out.
    pub(super) fn still_pending(&mut self, id: &RequestId, now: Now) {
        let attempts = self.inbox.entry(id).map_or(0, |entry| entry.attempts);
        let wait = self.backoff(attempts.saturating_sub(1));
        self.inbox.delay(id, now.mono + wait);
    }

    fn refused(&mut self, id: &RequestId, flight: &Flight, meaning: Meaning, error: CallError, now: Now) {
        self.count("answers_refused");
        let code = error.code.as_ref().map_or_else(String::new, |code| code.raw_prefix(CODE_CHARS_MAX).to_owned());
        let Some(entry) = self.inbox.entry_mut(id) else { return };
        let request = entry.request.clone();
        if meaning == Meaning::Malformed {
            entry.malformed = Some(flight.answer);
            if !entry.unknown_before {
                entry.forced = None;
            }
            self.inbox.rest(id, None);
        } else {
            entry.forbidden = true;
            self.inbox.delay(id, now.mono + FORBIDDEN_WAIT);
        }
        // Where an earlier attempt may have been carried out, the request stays bound to its answer, across restarts too.
        let bound = self.inbox.entry(id).is_some_and(|entry| entry.unknown_before);
        let outcome = if bound { Outcome::Unknown } else { Outcome::Refused };
        if !bound {
            self.approval_ended(id, request.sender.handle(), false, now);
            self.policy_state.settle(id, request.sender.handle(), flight.answer.verdict(), Outcome::Refused, now.wall);
            self.limits_freed(id);
        }
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome,
            detail: Some(error.to_string()),
            at: now.wall,
        });
        let why = format!("the platform refused it: {error}");
        self.tell_people(id, || OpOutcome::failed(&why));
        // A quota that is used up refuses everybody: it is said once.
        let room = self.refusals_told.len() < REFUSALS_TOLD_MAX;
        if meaning == Meaning::Malformed || (room && self.refusals_told.insert(code)) {
            self.tell(Notice::Refused { request, answer: flight.answer, error });
        }
    }
}
