//! What an agent remembers at start, from the model of the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use doorman::ledger::entry::{OpenAnswer, RecentAnswer, SavedAgent, SavedRequest};
use doorman::ledger::{HistoryReach, RestoreReach};
use doorman::model::{Answer, ContactRequest, Outcome, RequestId, Sender};
use doorman::policy::By;
use doorman::policy::doubts::{Basis, Doubt, DoubtSettlement as SaidOfDoubt, Fact};
use doorman::policy::state::{ApprovalRow, ChargeEnd, ChargeRow, HistoryKind, OwnerHistoryRow};
use jiff::{SignedDuration, Timestamp};

use super::{LedgerModel, Row, original};

impl LedgerModel {
    /// What an agent loads that asks for this reach.
    pub fn memory(&self, reach: RestoreReach, now: Timestamp) -> SavedAgent {
        let back = |reach: SignedDuration| now.checked_sub(reach).unwrap_or(Timestamp::MIN);
        let sender = |id: &RequestId| self.senders.get(id).cloned();
        let answer = |(id, row): (&RequestId, &Row)| OpenAnswer {
            request: id.clone(),
            sender: row.sender.clone(),
            answer: row.answer,
            by: row.by.clone(),
            policy: row.policy.clone(),
            attempts: row.attempts,
            at: row.at,
            refusal: row.refusal,
            lasts: row.lasts,
        };
        let pending = |id: &RequestId| !self.settled.contains(id);
        let mut memory = SavedAgent { newest: self.newest, contacts_read: self.contacts_read, ..SavedAgent::default() };
        memory.open_answers = self.answers.iter().filter(|(_, row)| row.open()).map(answer).collect();
        let refused = |row: &Row| matches!(row.outcome, Some((Outcome::Refused, _)));
        memory.refused_answers =
            self.answers.iter().filter(|(id, row)| pending(id) && refused(row)).map(answer).collect();
        let recent = |row: &Row| matches!(row.outcome, Some((Outcome::Confirmed(_) | Outcome::Presumed(_), _)));
        memory.recent_answers = self
            .answers
            .iter()
            .filter(|(_, row)| recent(row))
            .map(|(id, row)| RecentAnswer {
                request: ContactRequest {
                    id: original(id),
                    sender: row.sender.clone(),
                    name: None,
                    message: None,
                    inserted_at: self.sent.get(id).copied(),
                    ids: None,
                },
                changed: self.senders.get(id).is_some_and(|sender| *sender != row.sender),
                unmet: Some(row.sender.clone())
                    .filter(|_| row.answer == Answer::Approve && !self.met.contains(id) && original(id) == *id),
                answer: row.answer,
                by: row.by.clone(),
                lasts: row.lasts,
            })
            .collect();
        memory.guests = self.guests.open();
        let saved = |(id, (at, _)): (&RequestId, &(Timestamp, Option<String>))| SavedRequest {
            id: id.clone(),
            sender: sender(id).unwrap_or(Sender::Absent),
            inserted_at: self.sent.get(id).copied(),
            first_seen: *at,
        };
        memory.pending = self.seen.iter().filter(|(id, _)| pending(id)).map(saved).collect();
        memory.decided = self
            .decided
            .iter()
            .filter(|(id, _)| pending(id))
            .map(|(id, (verdict, by, mode))| (id.clone(), *verdict, by.clone(), *mode))
            .collect();
        let since = back(reach.charges);
        memory.policy_state.charges = self.charges_since(since, reach.merged);
        memory.policy_state.approvals = self
            .let_in()
            .filter(|row| row.at >= since)
            .map(|row| ApprovalRow { request: original(&row.request), ..row })
            .collect();
        // For rules that need no history, none is read, so what was read is complete.
        memory.policy_state.history_complete = true;
        memory.policy_state.history = match reach.history {
            None => Vec::new(),
            Some(HistoryReach::Within(within)) => self.history(back(within)),
            Some(HistoryReach::Ever) => self.history(Timestamp::MIN),
        };
        let kept = |id: &RequestId| pending(id) || self.gone.contains(id);
        memory.policy_state.holds =
            self.holds.iter().filter(|(id, _)| kept(id)).map(|(id, who)| (id.clone(), who.clone())).collect();
        memory.policy_state.paused = self.paused.clone();
        let open = self.answers.values().filter(|row| row.open() && row.answer == Answer::Approve);
        let awaited = open.filter_map(|row| row.sender.handle().map(|handle| handle.owner().to_owned())).collect();
        memory.contacts = self.contacts.open(&awaited);
        if reach.history.is_some() {
            memory.policy_state.unmet = self.unmet();
            memory.policy_state.nameless = self.contacts.nameless();
            memory.policy_state.doubts = self.ended_unseen();
            if reach.history == Some(HistoryReach::Ever) {
                memory.policy_state.doubts.extend(self.perhaps_approved());
            }
        }
        memory.policy_state.notified = self.notified.clone();
        memory.policy_state.replies = self.replies.iter().filter(|(id, _)| pending(id)).cloned().collect();
        memory
    }

    /// Whether this answer is an approval by a rule that was only presumed, and nothing on record shows it.
    fn is_presumed(&self, id: &RequestId, row: &Row) -> bool {
        let presumed = matches!(row.outcome, Some((Outcome::Presumed(Answer::Approve), _)));
        let by_rule = row.lasts.is_none() && !matches!(row.by, By::Person(_));
        let said = |said: SaidOfDoubt| said == SaidOfDoubt::Approved;
        let settled = self.settlements.iter().any(|(_, of, word, _)| of.as_ref() == Some(id) && said(*word));
        let first = self.seen.get(id).map(|(at, _)| *at).unwrap_or(Timestamp::MIN);
        let sender = self.senders.get(id).and_then(Sender::handle);
        let shown = self.met.contains(id) || sender.is_some_and(|sender| self.contacts.shows(sender, first));
        presumed && by_rule && !settled && !shown
    }

    /// The requests that are presumably approved, as doubts.
    fn perhaps_approved(&self) -> Vec<Doubt> {
        let all = self.answers.iter().chain(self.older.iter().map(|(id, row)| (id, row)));
        let presumed = all.filter(|(id, row)| self.is_presumed(id, row));
        let said = |id: &RequestId| self.settlements.iter().any(|(_, of, ..)| of.as_ref() == Some(id));
        let open = presumed.filter(|(id, _)| self.settled.contains(*id) && !self.overruled.contains(*id) && !said(id));
        let doubts = open.filter_map(|(id, _)| {
            let sender = self.senders.get(id)?.handle()?.clone();
            let since = self.sent.get(id).copied().or(self.seen.get(id).map(|(at, _)| *at))?;
            let basis = Basis::Presumed(original(id));
            let owner = sender.owner().into();
            Some(Doubt { owner, sender: Some(sender), fact: Fact::Approved, since, until: None, basis })
        });
        doubts.collect()
    }

    /// Requests that ended without a known reason.
    fn ended_unseen(&self) -> Vec<Doubt> {
        let unseen = self.unseen.iter().filter(|(id, _)| !(self.presumed.contains(*id) && self.met.contains(*id)));
        let doubts = unseen.filter_map(|(id, at)| {
            let (first_seen, owner) = self.seen.get(id)?;
            let (owner, since) = (owner.as_deref()?, self.sent.get(id).copied().unwrap_or(*first_seen));
            let basis = match original(id) {
                name if self.presumed.contains(id) => Basis::Presumed(name),
                name if self.perhaps.contains(id) => Basis::PresumedRejected(name),
                name if self.gone.contains(id) => Basis::Vanished(name),
                name => Basis::SettledElsewhere(name),
            };
            let sender = self.senders.get(id)?.handle()?.clone();
            let doubt = Doubt {
                owner: owner.into(),
                sender: Some(sender.clone()),
                fact: Fact::Rejected,
                since,
                until: Some(*at),
                basis,
            };
            let said = |(of, request, ..): &&(Arc<str>, Option<RequestId>, SaidOfDoubt, Timestamp)| {
                **of == *owner && request.as_ref().is_some_and(|request| original(request) == original(id))
            };
            let open = self.answers.iter().any(|(id, row)| {
                row.open() && row.answer == Answer::Approve && self.owner(id).as_deref() == Some(owner)
            });
            let ended = self.settlements.iter().any(|one| said(&one))
                || (self.contacts.let_in_elsewhere(&sender, since) && !open)
                || self.let_in_by_person(owner).is_some_and(|last| last >= *at);
            (!ended).then_some(doubt)
        });
        doubts.collect()
    }

    /// When a person last approved a request of this owner.
    fn let_in_by_person(&self, owner: &str) -> Option<Timestamp> {
        let all = self.answers.iter().chain(self.older.iter().map(|(id, row)| (id, row)));
        let theirs = all.filter(|(id, row)| {
            let by_person = row.answer == Answer::Approve && matches!(row.by, By::Person(_));
            by_person && self.owner(id).as_deref() == Some(owner)
        });
        let at = |row: &Row| match row.outcome? {
            (Outcome::Confirmed(_) | Outcome::Presumed(_), at) => Some(at),
            _ => None,
        };
        theirs.filter_map(|(_, row)| at(row)).max()
    }

    /// Owners who were approved and have no contact in the ledger, and since when.
    fn unmet(&self) -> Vec<(Arc<str>, Timestamp)> {
        let mut unmet: BTreeMap<Arc<str>, Timestamp> = BTreeMap::new();
        let all = self.answers.iter().chain(self.older.iter().map(|(id, row)| (id, row)));
        let let_in = all.filter(|(_, row)| {
            row.answer == Answer::Approve
                && matches!(row.outcome, Some((Outcome::Confirmed(_) | Outcome::Presumed(_), _)))
        });
        for (id, at) in let_in.map(|(id, row)| (id, &row.since)) {
            let Some((_, Some(owner))) = self.seen.get(id) else { continue };
            if !self.contacts.ever(owner) {
                let since = unmet.entry(owner.as_str().into()).or_insert(*at);
                *since = (*since).min(*at);
            }
        }
        let said = |owner: &str| {
            let theirs =
                self.settlements.iter().filter(|(of, _, said, _)| **of == *owner && said.fact() == Fact::Removed);
            theirs.map(|(.., at)| *at).max()
        };
        let since = |(owner, at): (Arc<str>, Timestamp)| {
            let last = [Some(at), self.let_in_by_person(&owner), said(&owner)].into_iter().flatten().max();
            (owner, last.unwrap_or(at))
        };
        unmet.into_iter().map(since).collect()
    }

    /// What the owners did and met since then, oldest first.
    pub fn history(&self, since: Timestamp) -> Vec<OwnerHistoryRow> {
        let asked = self.seen.iter().map(|(id, (at, _))| (id, HistoryKind::Requested, *at));
        let known = |id: &RequestId| (original(id) == *id).then(|| id.clone());
        let presumed = |id: &RequestId| {
            let older = self.older.iter().filter(|(of, _)| of == id).map(|(_, row)| row);
            let mut rows = self.answers.get(id).into_iter().chain(older).filter(|row| row.answer == Answer::Approve);
            let ended = |row: &Row| matches!(row.outcome, Some((Outcome::Confirmed(_) | Outcome::Presumed(_), _)));
            rows.all(|row| !ended(row) || self.is_presumed(id, row))
        };
        let met = self.done.iter().map(|(id, kind, at)| match kind {
            HistoryKind::Approved if presumed(id) => (id, HistoryKind::Presumed, *at),
            _ => (id, *kind, *at),
        });
        let row = |(id, kind, at): (&RequestId, HistoryKind, Timestamp)| {
            let owner: Arc<str> = self.seen.get(id)?.1.as_deref()?.into();
            let handle =
                self.senders.get(id).and_then(Sender::handle).filter(|handle| handle.owner() == &*owner).cloned();
            (at >= since).then(|| OwnerHistoryRow { owner, handle, request: known(id), kind, at })
        };
        let mut rows: Vec<OwnerHistoryRow> = asked.chain(met).filter_map(row).collect();
        rows.extend(self.contacts.history(since));
        let said = self.settlements.iter().filter(|(_, _, said, at)| said.happened() && *at >= since);
        rows.extend(said.map(|(owner, request, said, at)| OwnerHistoryRow {
            owner: owner.clone(),
            handle: None,
            request: request.as_ref().and_then(known),
            kind: if said.fact() == Fact::Removed { HistoryKind::Removed } else { HistoryKind::Rejected },
            at: *at,
        }));
        rows.sort_by_key(|row| row.at);
        rows
    }

    /// Places that were taken since then, and whether they may still be given back. At a start, those of confirmed answers are nobody's.
    fn charges_since(&self, since: Timestamp, merged: bool) -> Vec<ChargeRow> {
        let of_request = |(id, rows): (&RequestId, &Vec<ChargeRow>)| {
            let open = self.answers.get(id).is_some_and(Row::open);
            let last = self.answers.get(id).and_then(|row| row.outcome);
            let end = ChargeEnd::of(open, matches!(last, Some((Outcome::Confirmed(_), _))));
            let of_whom = |row: &ChargeRow| row.request.clone().filter(|_| merged || end != ChargeEnd::Confirmed);
            rows.iter().map(|row| ChargeRow { request: of_whom(row), end, ..row.clone() }).collect::<Vec<_>>()
        };
        self.charges.iter().flat_map(of_request).filter(|row| row.at >= since).collect()
    }
}
