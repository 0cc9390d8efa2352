//! A model of the ledger: what was committed, and what a daemon that starts again is told of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use doorman::ledger::Entry;
use doorman::ledger::entry::{AgentMemory, OpenAnswer, RecentAnswer};
use doorman::model::{Answer, Outcome, RequestId, Verdict};
use doorman::policy::PolicyHash;
use doorman::policy::book::{ApprovalRow, ChargeRow, HistoryKind, HistoryRow};
use jiff::Timestamp;

#[derive(Debug, Clone)]
struct Row {
    answer: Answer,
    by: String,
    policy: Option<PolicyHash>,
    attempts: u32,
    at: Timestamp,
    outcome: Option<(Outcome, Timestamp)>,
    counts: bool,
    malformed: bool,
}

#[derive(Debug, Default)]
pub struct Record {
    seen: BTreeMap<RequestId, (Timestamp, Option<String>)>,
    answers: BTreeMap<RequestId, Row>,
    settled: HashSet<RequestId>,
    decided: HashMap<RequestId, (Verdict, String, PolicyHash)>,
    charges: HashMap<RequestId, Vec<ChargeRow>>,
    holds: HashMap<RequestId, Arc<str>>,
    paused: bool,
    resumed_at: Option<Timestamp>,
    notified: Vec<(RequestId, doorman::policy::RuleName)>,
    newest: Option<Timestamp>,
}

impl Record {
    pub fn commit(&mut self, batch: &[Entry]) {
        for entry in batch {
            self.put(entry);
        }
    }

    fn put(&mut self, entry: &Entry) {
        match entry {
            Entry::Seen { request, at, .. } => {
                let owner = request.sender.handle().map(|handle| handle.owner().to_owned());
                self.seen.entry(request.id.clone()).or_insert((*at, owner));
                self.newest = self.newest.max(Some(*at));
            }
            Entry::Decided { request, decision, at, .. } => {
                self.decided
                    .insert(request.clone(), (decision.verdict, decision.by.to_string(), decision.policy.clone()));
                self.newest = self.newest.max(Some(*at));
            }
            Entry::Intent { request, answer, by, policy, charges, counts, attempt, at, .. } => {
                if let Some(row) = self.answers.get(request) {
                    let open = row.outcome.is_none_or(|(outcome, _)| outcome == Outcome::Unknown);
                    assert!(
                        !open || row.answer == *answer,
                        "{answer} to {request} is intended while {} is open",
                        row.answer
                    );
                }
                let rows = charges.iter().map(|charge| ChargeRow {
                    request: request.clone(),
                    charge: charge.clone(),
                    at: *at,
                });
                // A charge stands from its first intent on, until it is given back.
                if !self.charges.contains_key(request) {
                    self.charges.insert(request.clone(), rows.collect());
                }
                let row = Row {
                    answer: *answer,
                    by: by.clone(),
                    policy: policy.clone(),
                    attempts: *attempt,
                    at: *at,
                    outcome: None,
                    counts: *counts,
                    malformed: false,
                };
                self.answers.insert(request.clone(), row);
                self.newest = self.newest.max(Some(*at));
            }
            Entry::Outcome { request, outcome, at, detail, .. } => {
                if let Some(row) = self.answers.get_mut(request) {
                    row.malformed = detail.as_deref().is_some_and(|detail| detail.starts_with("malformed"));
                    row.outcome = Some((*outcome, *at));
                }
                if !outcome.keeps_charge() {
                    self.charges.remove(request);
                }
                if !matches!(outcome, Outcome::Unknown | Outcome::Refused) {
                    self.settled.insert(request.clone());
                }
            }
            Entry::Settled { request, .. } => {
                self.settled.insert(request.clone());
                if !self
                    .answers
                    .get(request)
                    .is_some_and(|row| row.outcome.is_some_and(|(outcome, _)| outcome.keeps_charge()))
                {
                    self.charges.remove(request);
                }
            }
            Entry::Withdrawn { request, .. } => {
                self.answers.remove(request);
                self.charges.remove(request);
            }
            Entry::Pause { on, at, .. } => {
                self.paused = *on;
                if !on {
                    self.resumed_at = Some(*at);
                }
            }
            Entry::Hold { request, person: Some(person), .. } => {
                drop(self.holds.insert(request.clone(), person.clone()))
            }
            Entry::Hold { request, person: None, .. } => drop(self.holds.remove(request)),
            Entry::Notified { request, overdue, .. } => self.notified.push((request.clone(), overdue.clone())),
            Entry::ContactAdded { .. }
            | Entry::ContactRemoved { .. }
            | Entry::Session { .. }
            | Entry::Policy { .. } => {}
        }
    }

    /// Whether this attempt's intent is on record.
    pub fn has_intent(&self, request: &RequestId, answer: Answer, attempt: u32) -> bool {
        self.answers.get(request).is_some_and(|row| {
            row.answer == answer
                && row.attempts == attempt
                && row.outcome.is_none_or(|(outcome, _)| outcome == Outcome::Unknown || outcome == Outcome::Refused)
        })
    }

    /// By what the last intent was, and under which policy.
    pub fn intent_by(&self, request: &RequestId) -> Option<(&str, Option<&PolicyHash>)> {
        self.answers.get(request).map(|row| (row.by.as_str(), row.policy.as_ref()))
    }

    /// The times of the charges that stand, by rule and bucket.
    pub fn charges(&self) -> BTreeMap<(String, String), Vec<Timestamp>> {
        let mut by: BTreeMap<(String, String), Vec<Timestamp>> = BTreeMap::new();
        for row in self.charges.values().flatten() {
            by.entry((row.charge.rule.to_string(), row.charge.bucket.to_string())).or_default().push(row.at);
        }
        by
    }

    pub fn memory(&self) -> AgentMemory {
        let open = |row: &Row| match row.outcome {
            None => true,
            Some((outcome, _)) => outcome == Outcome::Unknown,
        };
        let answer = |(id, row): (&RequestId, &Row)| OpenAnswer {
            request: id.clone(),
            answer: row.answer,
            by: row.by.clone(),
            policy: row.policy.clone(),
            attempts: row.attempts,
            at: row.at,
            detail: row.malformed.then(|| "malformed, says the platform".to_owned()),
        };
        let pending = |id: &RequestId| !self.settled.contains(id);
        let mut memory = AgentMemory { newest: self.newest, ..AgentMemory::default() };
        memory.open_answers = self.answers.iter().filter(|(id, row)| pending(id) && open(row)).map(answer).collect();
        let refused = |row: &Row| matches!(row.outcome, Some((Outcome::Refused, _)));
        memory.refused_answers =
            self.answers.iter().filter(|(id, row)| pending(id) && refused(row)).map(answer).collect();
        let recent =
            |row: &Row| row.outcome.is_some_and(|(outcome, _)| !matches!(outcome, Outcome::Unknown | Outcome::Refused));
        memory.recent_answers = self
            .answers
            .iter()
            .filter(|(_, row)| recent(row))
            .map(|(id, row)| RecentAnswer { request: id.clone(), answer: row.answer, by: row.by.clone() })
            .collect();
        memory.first_seen =
            self.seen.iter().filter(|(id, _)| pending(id)).map(|(id, (at, _))| (id.clone(), *at)).collect();
        memory.decided = self
            .decided
            .iter()
            .filter(|(id, _)| pending(id))
            .map(|(id, (verdict, by, policy))| (id.clone(), *verdict, by.clone(), policy.clone()))
            .collect();
        memory.book.charges = self.charges.values().flatten().cloned().collect();
        memory.book.history = self.history();
        memory.book.history_complete = true;
        let since = self.resumed_at.unwrap_or(Timestamp::MIN);
        memory.book.approvals = self
            .answers
            .iter()
            .filter(|(_, row)| {
                row.counts && row.at > since && row.outcome.is_none_or(|(outcome, _)| outcome.keeps_charge())
            })
            .map(|(id, row)| ApprovalRow { request: id.clone(), at: row.at })
            .collect();
        memory.book.holds =
            self.holds.iter().filter(|(id, _)| pending(id)).map(|(id, who)| (id.clone(), who.clone())).collect();
        memory.book.paused = self.paused;
        memory.book.notified = self.notified.clone();
        memory
    }

    fn history(&self) -> Vec<HistoryRow> {
        let mut rows = Vec::new();
        for (id, (at, owner)) in &self.seen {
            let Some(owner) = owner else { continue };
            let owner: Arc<str> = owner.as_str().into();
            rows.push(HistoryRow {
                owner: owner.clone(),
                request: Some(id.clone()),
                kind: HistoryKind::Requested,
                at: *at,
            });
            if let Some(Row { answer, outcome: Some((Outcome::Applied | Outcome::PresumedApplied, at)), .. }) =
                self.answers.get(id)
            {
                let kind = match answer {
                    Answer::Approve => HistoryKind::Approved,
                    Answer::Reject => HistoryKind::Rejected,
                };
                rows.push(HistoryRow { owner, request: Some(id.clone()), kind, at: *at });
            }
        }
        rows
    }
}
