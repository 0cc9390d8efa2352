//! How requests come to their end: by an answer of ours, or without one.

use std::time::Duration;

use super::{Action, Core, OpOutcome};
use crate::agent::notice::Notice;
use crate::clock::Now;
use crate::inbox::{Forced, Stage};
use crate::ledger::Record;
use crate::model::{Outcome, RequestId, RequestStatus, Verdict};

/// How an answer ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) detail: Option<String>,
    pub(super) latency: Option<Duration>,
}

impl Core {
    /// An answer came to its end, one way or another.
    pub(super) fn finish(&mut self, id: &RequestId, ending: Ending, now: Now) {
        let Some(entry) = self.inbox.entry(id) else { return };
        // What was not applied binds nobody, should the request turn out to be pending after all.
        let applied = matches!(ending.outcome, Outcome::Applied | Outcome::PresumedApplied);
        let bound = entry.forced.as_deref().cloned().filter(|_| applied);
        let Some(entry) = self.inbox.settle(id, bound, now) else { return };
        self.inbox.listing.disturb();
        // It came back after its answer had ended, and went before that was said once more: its outcome is on record.
        let came_back = entry.unknown_before && entry.attempts == 0;
        let Some(Forced { answer, by }) = entry.forced.map(|forced| *forced).filter(|_| !came_back) else {
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
        let verdict = answer.verdict();
        let outcome = ending.outcome;
        self.policy_state.settle(id, entry.request.sender.handle(), verdict, outcome, now.wall);
        self.policy_state.forget(id);
        if let Some(handle) = entry.request.sender.handle().filter(|_| applied && verdict == Verdict::Approve)
            && by.to_string().starts_with("person:")
        {
            // Whoever lets somebody in knows what they do.
            self.policy_state.doubts_mut().settled(handle.owner(), None, now.wall);
        }
        self.record(Record::Outcome {
            agent: self.config.agent.clone(),
            request: id.clone(),
            outcome,
            detail: ending.detail,
            at: now.wall,
        });
        self.count(match outcome {
            Outcome::Applied => "answers_applied",
            Outcome::PresumedApplied => "answers_presumed_applied",
            Outcome::SettledElsewhere => "answers_settled_elsewhere",
            Outcome::Gone | Outcome::Refused | Outcome::Unknown => "answers_other",
        });
        let request = entry.request.clone();
        self.end_waiting(id, &request, verdict, outcome.as_str());
        if !outcome.keeps_charge() {
            self.limits_freed(id);
        }
        let attempts = entry.attempts;
        self.tell(Notice::Answered { request, answer, by, outcome, attempts, latency: ending.latency });
        let let_in = applied && verdict == Verdict::Approve;
        self.let_in |= let_in;
        self.approval_ended(id, entry.request.sender.handle(), let_in, now);
    }

    /// The channel told how a request stands now.
    pub(super) fn updated(&mut self, id: &RequestId, status: RequestStatus, now: Now) {
        if status == RequestStatus::Pending {
            return;
        }
        self.inbox.listing.disturb();
        self.count("updates");
        let Some(entry) = self.inbox.entry_mut(id) else {
            let told = self.inbox.tombstone(id).is_some();
            self.inbox.settle(id, None, now);
            if !told {
                self.settled(id, Some(status), now);
            }
            return;
        };
        match entry.stage() {
            // It usually beats the reply to our own answer. The reply decides whose word it was.
            Stage::InFlight => entry.updated = Some(Box::new(status)),
            Stage::Unknown { .. } | Stage::Ready | Stage::Resting { .. } | Stage::Delayed { .. } => {
                let maybe_ours = entry.unknown_before;
                let matches = entry.forced.as_ref().is_some_and(|forced| forced.answer.status() == status);
                if maybe_ours {
                    let outcome = if matches { Outcome::PresumedApplied } else { Outcome::SettledElsewhere };
                    self.finish(id, Ending { outcome, detail: None, latency: None }, now);
                } else {
                    self.settled(id, Some(status), now);
                }
            }
        }
    }

    /// A request ended without an answer of ours; `None` is a listing that shows it no more.
    pub(super) fn settled(&mut self, id: &RequestId, status: Option<RequestStatus>, now: Now) {
        let remembered = self.memory.remove(id).is_some();
        let entry = self.inbox.settle(id, None, now);
        let known = remembered || entry.is_some();
        self.inbox.listing.disturb();
        match status {
            Some(_) => self.policy_state.forget(id),
            None => self.policy_state.gone(id),
        }
        self.count(if status.is_some() { "settled_elsewhere" } else { "gone" });
        if known {
            self.record(Record::Settled {
                agent: self.config.agent.clone(),
                request: id.clone(),
                status: status.clone(),
                at: now.wall,
            });
        }
        if let Some(entry) = entry {
            self.approval_ended(id, entry.request.sender.handle(), false, now);
            if entry.intended.is_some() {
                self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
            }
            if entry.attempts > 0 {
                self.policy_state.give_back(id);
                self.limits_freed(id);
            }
            self.tell_people(id, OpOutcome::gone);
        }
        // The agent's own requests to others are told of, too; they are nobody's at this door.
        if known {
            self.tell(Notice::Settled { request: id.clone(), status });
        }
    }

    /// What is for the people who wait for this request's end.
    pub(super) fn tell_people(&mut self, id: &RequestId, outcome: impl Fn() -> OpOutcome) {
        for token in self.waiting.remove(id).unwrap_or_default() {
            self.act(Action::Reply { token, outcome: outcome() });
        }
    }
}
