//! What the core reads from the ledger at the start: the requests that were pending, and their answers.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Core;
use crate::clock::Now;
use crate::inbox::{GivenAnswer, MISSED_ENOUGH, PassEnd, Subject};
use crate::ledger::Record;
use crate::ledger::entry::{OpenAnswer, RecentAnswer, SavedRequest};
use crate::model::{Answer, ContactRequest, Handle, Refusal, RequestId, Sender, Verdict};
use crate::policy::doubts::Basis;
use crate::policy::{By, Decision, Mode};

/// What the ledger knew of a request that was pending when the last daemon ended.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    first_seen: Option<Timestamp>,
    /// When it was sent, by the platform's time, and by whom.
    inserted_at: Option<Timestamp>,
    sender: Option<Sender>,
    subject: Option<Subject>,
    decided: Option<(Verdict, By, Mode)>,
    /// The current pass lists it, in a row with only a readable id or while its answer on record holds it back.
    listed: bool,
    /// The total weight of the passes in a row that did not list it.
    missed: u8,
    malformed: Option<Answer>,
}

impl Remembered {
    /// Who sent it, if the record has a plain handle.
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.sender.as_ref().and_then(Sender::handle)
    }
}

/// What the record knew of a request that is listed after a start.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// When doorman first saw it; `None`: it is not on record as pending.
    pub(super) first_seen: Option<Timestamp>,
    /// The record as it was, if the platform now shows another sender, or none.
    pub(super) before: Option<ContactRequest>,
    /// It has to be recorded again: the platform shows another sender.
    pub(super) changed: bool,
}

impl Core {
    /// Answers of unknown outcome wait for a listing; a stale listing does not undo answers that ended a moment ago.
    pub(super) fn remember(
        &mut self,
        open: Vec<OpenAnswer>,
        refused: Vec<OpenAnswer>,
        recent: Vec<RecentAnswer>,
        now: Now,
    ) {
        // Oldest first, so that of several approvals of one handle the newest waits for the contact.
        for answer in recent.into_iter().rev() {
            if let Some(handle) = answer.unmet.as_ref().and_then(Sender::handle) {
                self.approval_ended(&answer.request.id, Some(handle), true, now);
            }
            let said = GivenAnswer { answer: answer.answer, by: answer.by, lasts: answer.lasts };
            self.inbox.remember_settled(&answer.request, Some(said), answer.changed, now);
        }
        for answer in refused {
            // A forbidden answer (403) is sent again; one that the platform called malformed is not.
            self.remembered.entry(answer.request).or_default().malformed =
                (answer.refusal == Some(Refusal::Malformed)).then_some(answer.answer);
        }
        for answer in open {
            if answer.answer == Answer::Approve {
                self.approving(&answer.request, answer.sender.handle(), now);
            }
            let said = GivenAnswer { answer: answer.answer, by: answer.by, lasts: answer.lasts };
            self.inbox.remember_unknown(answer.request, answer.sender, answer.at, said, answer.attempts);
        }
    }

    /// The requests that were pending at the record's last line, which was written at `since`.
    pub(super) fn remember_requests(
        &mut self,
        pending: Vec<SavedRequest>,
        decided: Vec<(RequestId, Verdict, By, Mode)>,
        since: Timestamp,
    ) {
        for SavedRequest { id, sender, inserted_at, first_seen } in pending {
            let handle = sender.handle().cloned();
            if let Some(handle) = &handle {
                self.policy_state.doubts_mut().unlisted(handle.owner(), &id, since);
            }
            if let Some(entry) = self.inbox.entry_mut(&id) {
                entry.first_seen_at(first_seen);
                continue;
            }
            let request = ContactRequest { id, sender, name: None, message: None, inserted_at, ids: None };
            let subject = Some(Subject::of(&request));
            let remembered = self.remembered.entry(request.id).or_default();
            remembered.subject = subject;
            (remembered.first_seen, remembered.inserted_at, remembered.sender) =
                (Some(first_seen), inserted_at, Some(request.sender));
        }
        for (id, verdict, by, mode) in decided {
            if let Some(remembered) = self.remembered.get_mut(&id) {
                remembered.decided = Some((verdict, by, mode));
            }
        }
    }

    /// A remembered request is listed again.
    pub(super) fn restore(&mut self, request: &ContactRequest) -> Restored {
        let (id, now) = (&request.id, Subject::of(request));
        let Some(remembered) = self.remembered.get_mut(id) else { return Restored::default() };
        let first_seen = remembered.first_seen;
        let changed = remembered.subject.is_some_and(|known| known.differs(now));
        if changed {
            // It is decided, and recorded, again.
            remembered.decided = None;
        }
        let sender = remembered.sender.clone().unwrap_or(Sender::Absent);
        let nameless = request.sender == Sender::Absent && sender != Sender::Absent;
        let inserted_at = remembered.inserted_at;
        let before = (changed || nameless).then(|| ContactRequest {
            id: id.clone(),
            sender,
            name: None,
            message: None,
            inserted_at,
            ids: None,
        });
        if let Some(malformed) = remembered.malformed {
            self.inbox.remember_malformed(id, malformed);
        }
        if remembered.decided.is_none() {
            self.remembered.remove(id);
        }
        Restored { first_seen, before, changed }
    }

    /// Those of these requests that were pending on record at the start, and what the record knows of them.
    pub(super) fn pending_on_record(&self, requests: &[ContactRequest]) -> HashMap<RequestId, Subject> {
        let pending = |id: &RequestId| Some((id.clone(), self.remembered.get(id)?.subject?));
        requests.iter().filter_map(|request| pending(&request.id)).collect()
    }

    /// A page lists this request, perhaps in a row of which only the id can be read: it has not ended.
    pub(super) fn remembered_listed(&mut self, id: &RequestId) {
        if let Some(remembered) = self.remembered.get_mut(id) {
            remembered.listed = true;
        }
    }

    /// A pass ended. Requests that the ledger holds as pending, and that passes prove to be no longer pending, ended
    /// unseen. Returns whether one more such pass would prove that for some requests.
    pub(super) fn forget_unlisted(&mut self, end: &PassEnd, now: Now) -> bool {
        // A request for which there was no room was shown all the same.
        let weight = if end.full { 0 } else { end.weight() };
        let (mut gone, mut open) = (Vec::new(), false);
        for (id, remembered) in &mut self.remembered {
            // A request that is in the inbox is remembered only for its last decision, until it is decided again.
            if std::mem::take(&mut remembered.listed) || self.inbox.entry(id).is_some() {
                remembered.missed = 0;
                continue;
            }
            remembered.missed = remembered.missed.saturating_add(weight);
            if remembered.missed >= MISSED_ENOUGH {
                gone.push(id.clone());
            } else {
                open |= end.stable && !end.full;
            }
        }
        for id in gone {
            let Some(remembered) = self.remembered.remove(&id) else { continue };
            self.policy_state.gone(&id);
            if let (Some(sender), Some(first_seen)) = (remembered.handle(), remembered.first_seen) {
                let since = remembered.inserted_at.unwrap_or(first_seen);
                self.policy_state.doubts_mut().ended_unseen(sender, Basis::Vanished(id.clone()), since, now.wall);
            }
            self.policy_state.doubts_mut().listed(&id);
            self.record(Record::Settled { agent: self.config.agent.clone(), request: id, status: None, at: now.wall });
        }
        open
    }

    /// Whether the ledger has this very decision from before the start.
    pub(super) fn decided_before(&mut self, id: &RequestId, decision: &Decision) -> bool {
        let Some((verdict, by, mode)) = self.remembered.remove(id).and_then(|remembered| remembered.decided) else {
            return false;
        };
        verdict == decision.verdict && by == decision.by && mode == decision.mode
    }
}
