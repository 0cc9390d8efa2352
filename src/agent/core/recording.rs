//! Hands entries to the ledger in batches. Answers leave once their intents are on record, and are taken back if the ledger refuses them.

use std::time::Duration;

use super::{Action, Core, outbox, scrubbed};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::Now;
use crate::ledger::{LedgerError, Record};
use crate::model::RequestId;

/// After the ledger refused an entry the request is tried again this much later.
const REFUSED_ENTRY_WAIT: Duration = Duration::from_secs(300);
/// The request is tried again this much later if the ledger has older rules than those that decided.
const OUTDATED_WAIT: Duration = Duration::from_secs(1);

impl Core {
    /// Records something with the next batches. While the ledger cannot be written, entries pile up: at the bound no
    /// new request is taken in, and entries that no decision depends on are left out.
    pub(super) fn record(&mut self, record: Record) {
        if self.outbox.is_full() && outbox::may_be_missing(&record) {
            self.count(Counter::RecordsLeftOut);
            return;
        }
        self.outbox.push(scrubbed::without_keys(record, &self.config.redact));
        self.inbox.closed = self.outbox.is_full();
    }

    /// Hands the outbox to the ledger: one batch at a time.
    pub(super) fn flush(&mut self, now: Now) {
        if self.stopping {
            self.outbox.catch_up();
        }
        if self.recording || !self.outbox.is_due(now.mono) {
            return;
        }
        let Some(batch) = self.outbox.next_batch() else { return };
        self.inbox.closed = self.outbox.is_full();
        self.recording = true;
        self.intents_under_way = outbox::intents(&batch);
        self.removals.under_way(outbox::removals(&batch));
        self.act(Action::Record(batch));
    }

    /// The ledger recorded a batch: only now its answers go out. If it did not, they do not go out.
    pub(super) fn recorded(&mut self, result: Result<(), LedgerError>, now: Now) {
        self.recording = false;
        let intents = std::mem::take(&mut self.intents_under_way);
        self.removals_recorded(result.is_ok(), now);
        match result {
            Ok(()) => {
                for id in intents {
                    self.send(&id, now);
                }
            }
            Err(LedgerError::Answered { request, said }) => {
                for id in intents {
                    self.unsent(&id, None, false);
                    self.withdraw_unsent(&id, now);
                }
                if let Some(known) = self.inbox.entry(&request).map(|entry| entry.request().clone()) {
                    self.approval_ended(&request, known.sender.handle(), false, now);
                    self.inbox.bind(&request, said);
                    self.count(Counter::AnsweredBefore);
                    self.tell(Notice::Returned { request: known });
                }
            }
            Err(LedgerError::Outdated { version, .. }) => self.decided_by_old_rules(intents, version, now),
            Err(error) => {
                self.count(Counter::LedgerRefused);
                self.tell(Notice::LedgerRefused { why: error.to_string() });
                for id in intents {
                    self.unsent(&id, Some(now.mono + REFUSED_ENTRY_WAIT), false);
                    self.withdraw_unsent(&id, now);
                }
            }
        }
    }

    /// Newer rules were pushed before these intents were on record. None of them is, so all are taken back, and each is decided again:
    /// by the newer rules, once they are here.
    fn decided_by_old_rules(&mut self, intents: Vec<RequestId>, version: u64, now: Now) {
        let ours = self.policy.as_ref().and_then(|policy| policy.head.as_ref()).map(|head| head.version);
        self.newer = Some(version);
        // Ours are newer than what the ledger had: it has them too by now, or it was put back to an older state, and will say so again.
        let until = ours.filter(|ours| *ours > version).map(|_| now.mono + OUTDATED_WAIT);
        for id in intents {
            self.count(Counter::RulesOutdated);
            let Some(request) = self.inbox.entry(&id).map(|entry| entry.request().clone()) else { continue };
            self.unsent(&id, until, false);
            if self.inbox.entry(&id).is_some_and(|entry| !entry.answer().may_be_heard()) {
                self.approval_ended(&id, request.sender.handle(), false, now);
            }
            self.withdraw_unsent(&id, now);
        }
    }

    /// The ledger did not take an intent, perhaps because it still holds another answer as open. An answer that
    /// certainly never left is withdrawn before the next try.
    fn withdraw_unsent(&mut self, id: &RequestId, now: Now) {
        if self.inbox.entry(id).is_some_and(|entry| !entry.answer().may_be_heard()) {
            self.policy_state.give_back(id);
            self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
            self.limits_freed(id);
        }
    }
}
