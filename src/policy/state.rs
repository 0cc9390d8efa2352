//! One agent's own state as the policy sees it: charges against limits, history by owner, approvals, holds, the pause.
//!
//! Pure data with pure methods. It lives in the agent's task, is rebuilt from the ledger at start, and is the only
//! state on which a decision depends, apart from the request, its circumstances and the time.

pub(crate) mod charges;
mod people;
mod presumed;
mod restoring;
mod saved;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use charges::{Charges, LimitUse};
pub use saved::{ApprovalRow, ChargeEnd, ChargeRow, HistoryKind, OwnerHistoryRow, PauseRecord, SavedState};

use super::ask::DeciderVerdict;
use super::conditions::ReceivingAgent;
use super::decision::{By, Charge};
use super::doubts::{Doubt, Doubts, Fact};
use super::evaluate::inputs::after;
use super::history::History;
use super::rules::{Limit, Policy, RuleName};
use crate::model::{ContactId, Handle, Outcome, RequestId, Verdict};

/// The agent's own state. Bounds: `charges::CHARGES_MAX` charges; `REQUESTS_MAX` requests and `OWNERS_MAX` owners of
/// history; [`APPROVALS_MAX`] approvals; as many unconfirmed answers as charges. There are as many notices and open
/// answers as pending requests, which the inbox bounds, and as many holds as people put on requests whose end was not
/// seen.
#[derive(Debug, Default)]
pub struct PolicyState {
    charges: Charges,
    pub(crate) history: History,
    /// In order of time.
    approvals: VecDeque<(Timestamp, RequestId)>,
    /// The newest approval that was dropped, or never read from the record.
    approvals_gap: Option<Timestamp>,
    /// No rule counts approvals: only those of unknown outcome are kept, since the record may not have them yet.
    approvals_ignored: bool,
    /// What was reserved for answers that are not settled yet, or were not when the policy state was rebuilt.
    open: HashMap<RequestId, AnswerInFlight>,
    /// Answers that still take a place in a limit, have ended, and were not confirmed by the platform.
    unconfirmed: HashMap<RequestId, Timestamp>,
    holds: HashMap<RequestId, Arc<str>>,
    paused: Option<PauseRecord>,
    /// Rejections by `overdue` rules within [`OVERDUE_WINDOW`], in order of time.
    overdue: HashMap<RuleName, Vec<(Timestamp, Option<RequestId>)>>,
    notified: HashMap<RequestId, Vec<RuleName>>,
    /// The verdicts of deciders about pending requests.
    replies: HashMap<RequestId, Vec<DeciderVerdict>>,
    /// Which agent this is, if known.
    receiving: Option<ReceivingAgent>,
}

/// An answer that has an outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedAnswer {
    /// Which answer.
    pub verdict: Verdict,
    /// Its outcome.
    pub outcome: Outcome,
    /// It approved for a time.
    pub guest: bool,
    /// A person gave it.
    pub by_person: bool,
    /// When the request was sent, by the platform's clock if that is known.
    pub sent: Timestamp,
    /// When doorman saw the request first.
    pub first_seen: Timestamp,
}

/// Most approvals that are remembered for `approvals_max`.
pub const APPROVALS_MAX: usize = 100_000;
/// The window of `max_per_hour`.
pub(crate) const OVERDUE_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// What is reserved for an answer that never settles is forgotten after this, when the charge itself has slid out.
const OPEN_KEPT: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug)]
struct AnswerInFlight {
    verdict: Verdict,
    at: Timestamp,
    charges: Vec<Charge>,
}

impl PolicyState {
    /// Which agent this is the state of.
    pub fn set_receiving_agent(&mut self, receiving: ReceivingAgent) {
        self.receiving = Some(receiving);
    }

    pub(crate) fn receiving_agent(&self) -> Option<&ReceivingAgent> {
        self.receiving.as_ref()
    }

    /// Whether this policy state can answer every question of this policy at this moment. If not, deciding stays safe
    /// (such conditions are unknown, and limits count as full) until the record is read again into
    /// [`PolicyState::absorb`].
    pub(crate) fn covers(&self, policy: &Policy, now: Timestamp) -> bool {
        let limits = policy.rules.iter().filter_map(|rule| rule.limit.as_ref().map(|limit| (&rule.name, limit)));
        self.history.covers(&policy.history_needs(), now)
            && policy.approvals_max.is_none_or(|quota| self.counts_approvals(quota.per, now))
            && limits.into_iter().all(|(name, limit)| self.charges.covers(name, limit, now))
    }

    /// A request by this handle was first seen. Idempotent per request.
    pub fn seen(&mut self, request: &RequestId, handle: Option<&Handle>, at: Timestamp) {
        if let Some(handle) = handle {
            self.history.add(handle.owner(), HistoryKind::Requested, Some(request), at);
        }
    }

    /// The intent: reserves the decision's charges and counts the approval, in the same step in which it was decided.
    /// Idempotent per request: a retry of the same answer pays no place twice. A person's answer charges nothing.
    pub fn reserve(
        &mut self,
        request: &RequestId,
        _handle: Option<&Handle>,
        verdict: Verdict,
        by: &By,
        charges: &[Charge],
        at: Timestamp,
    ) {
        if matches!(by, By::Person(_)) || verdict == Verdict::Defer {
            return;
        }
        match self.open.get_mut(request) {
            Some(open) if open.verdict == verdict => {
                // It was decided again, perhaps by another rule, or after a reload dropped some charges: it pays what
                // it has not yet paid.
                for charge in charges.iter().filter(|_| verdict == Verdict::Approve) {
                    if self.charges.times(charge, request, open.at) == 0 {
                        self.charges.add(charge, request, at);
                    }
                    if !open.charges.contains(charge) {
                        open.charges.push(charge.clone());
                    }
                }
                return;
            }
            Some(_) => self.give_back(request),
            None => {}
        }
        let mut paid = Vec::with_capacity(charges.len());
        if verdict == Verdict::Approve {
            for charge in charges {
                self.charges.add(charge, request, at);
                paid.push(charge.clone());
            }
            self.approved(request.clone(), at);
        }
        if let By::Overdue(name) = by {
            let rejects = self.overdue.entry(name.clone()).or_default();
            let index = rejects.partition_point(|(known, _)| *known <= at);
            rejects.insert(index, (at, Some(request.clone())));
        }
        self.open.insert(request.clone(), AnswerInFlight { verdict, at, charges: paid });
    }

    /// An answer has an outcome: gives back the charges that it does not keep ([`Outcome::keeps_charge`]), and updates
    /// the history.
    pub fn settle(
        &mut self,
        request: &RequestId,
        handle: Option<&Handle>,
        verdict: Verdict,
        outcome: Outcome,
        at: Timestamp,
    ) {
        let ended = EndedAnswer { verdict, outcome, guest: false, by_person: false, sent: at, first_seen: at };
        self.settle_as(request, handle, ended, at);
    }

    /// The same, if more is known of the answer.
    pub(crate) fn settle_as(
        &mut self,
        request: &RequestId,
        handle: Option<&Handle>,
        ended: EndedAnswer,
        at: Timestamp,
    ) {
        let EndedAnswer { verdict, outcome, guest, by_person, sent, first_seen } = ended;
        match outcome {
            Outcome::Unknown => return,
            Outcome::Confirmed(_) | Outcome::Presumed(_) => {
                let open = self.open.remove(request);
                let approved_at = open.as_ref().map(|open| open.at);
                // The contact may come and go before anybody hears what became of the answer.
                let since = open.as_ref().map_or(first_seen, |open| open.at).min(at);
                let open = open.filter(|open| !open.charges.is_empty());
                match (open, outcome) {
                    (Some(open), Outcome::Presumed(_)) => self.ended_unconfirmed(request.clone(), open.at),
                    (Some(open), _) => {
                        for charge in &open.charges {
                            self.charges.confirmed(charge, request, open.at);
                        }
                    }
                    (None, _) => {}
                }
                if self.approvals_ignored && verdict == Verdict::Approve {
                    self.let_approval_go(request, approved_at);
                }
                let kind = match verdict {
                    Verdict::Approve if guest => Some(HistoryKind::Guest),
                    Verdict::Approve if !by_person && matches!(outcome, Outcome::Presumed(_)) => {
                        Some(HistoryKind::Presumed)
                    }
                    Verdict::Approve => Some(HistoryKind::Approved),
                    // Until something shows it, that is in doubt.
                    Verdict::Reject if !by_person && matches!(outcome, Outcome::Presumed(_)) => None,
                    Verdict::Reject => Some(HistoryKind::Rejected),
                    Verdict::Defer => None,
                };
                if let (Some(kind), Some(handle)) = (kind, handle) {
                    self.history.add_of(handle.owner(), Some(handle), kind, Some(request), at);
                    match kind {
                        HistoryKind::Presumed => self.presumed(handle, request, sent, at),
                        HistoryKind::Approved => self.history.doubts.approved(handle.owner()),
                        HistoryKind::Requested | HistoryKind::Guest | HistoryKind::Rejected | HistoryKind::Removed => {}
                    }
                    if verdict == Verdict::Approve {
                        self.history.doubts.let_in(handle.owner(), since);
                    }
                }
            }
            Outcome::SettledElsewhere | Outcome::Gone | Outcome::Refused => self.give_back(request),
        }
        if outcome != Outcome::Refused {
            self.forget(request);
        }
    }

    /// Somebody else rejected a request that was sent to us: on the platform, or by another client.
    pub(crate) fn rejected_elsewhere(&mut self, request: &RequestId, handle: Option<&Handle>, at: Timestamp) {
        if let Some(handle) = handle {
            self.history.add_of(handle.owner(), Some(handle), HistoryKind::Rejected, Some(request), at);
        }
    }

    /// Gives back what was reserved for an answer that was never carried out.
    pub(crate) fn give_back(&mut self, request: &RequestId) {
        let Some(open) = self.open.remove(request) else { return };
        for charge in &open.charges {
            self.charges.remove(charge, request, open.at);
        }
        self.approvals.retain(|(at, approved)| approved != request || *at < open.at);
    }

    /// A contact of this handle's owner was removed.
    pub fn removed(&mut self, handle: &Handle, at: Timestamp) {
        self.history.add_of(handle.owner(), Some(handle), HistoryKind::Removed, None, at);
    }

    /// A contact was removed: that counts for every owner that it ever had. If it never had a readable owner, or was
    /// never on record, it may have belonged to anybody who was let in and not yet recognised. Returns its last known
    /// handle.
    pub fn contact_removed(&mut self, contact: &ContactId, at: Timestamp) -> Option<Handle> {
        let gone = self.history.doubts.contacts.remove(contact);
        let owners = gone.as_ref().map_or(&[][..], |gone| &gone.owners);
        for owner in owners {
            let handle = gone.as_ref().and_then(|gone| gone.handle.as_ref());
            self.history.add_of(owner, handle, HistoryKind::Removed, None, at);
            self.history.doubts.touch(owner);
        }
        if owners.is_empty() {
            self.history.doubts.nameless_removed(contact, at);
        }
        gone?.handle
    }

    /// A contact was removed because its end had come, as planned from the beginning: that counts for no owner. Returns
    /// its last known handle.
    pub(crate) fn contact_expired(&mut self, contact: &ContactId) -> Option<Handle> {
        let gone = self.history.doubts.contacts.remove(contact)?;
        gone.owners.iter().for_each(|owner| self.history.doubts.touch(owner));
        gone.handle
    }

    /// A person says whether this happened to this owner up to now; of one request, if the doubt is about that.
    pub(crate) fn settled_by_word(
        &mut self,
        owner: &str,
        request: Option<&RequestId>,
        fact: Fact,
        happened: bool,
        at: Timestamp,
    ) {
        let kind = match fact {
            Fact::Removed => Some(HistoryKind::Removed),
            Fact::Rejected => Some(HistoryKind::Rejected),
            Fact::Identity | Fact::Approved => None,
        };
        if let Some(kind) = kind.filter(|_| happened) {
            self.history.add(owner, kind, request, at);
        }
        match request {
            Some(request) => {
                let about = |doubt: &Doubt| doubt.fact == fact && doubt.basis.request() == Some(request);
                self.history.doubts.end(owner, about);
            }
            None => self.history.doubts.settled(owner, Some(fact), at),
        }
    }

    /// The doubts: what may have happened unseen.
    pub fn doubts(&self) -> &Doubts {
        &self.history.doubts
    }

    /// The same, for recording what is seen.
    pub(crate) fn doubts_mut(&mut self) -> &mut Doubts {
        &mut self.history.doubts
    }

    /// This policy is in force from now on. What it asks about is kept; [`PolicyState::covers`] says whether it was before.
    pub(crate) fn keep_for(&mut self, policy: &Policy) {
        self.history.keep_for(policy.history_needs());
        self.approvals_ignored = policy.approvals_max.is_none();
        if self.approvals_ignored {
            let open = std::mem::take(&mut self.open);
            self.let_approvals_go(|request, _| !open.contains_key(request));
            self.open = open;
        }
    }

    /// One approval; `at`: since when it is there, if that is known.
    fn let_approval_go(&mut self, request: &RequestId, at: Option<Timestamp>) {
        let begins = at.map_or(0, |at| self.approvals.partition_point(|(known, _)| *known < at));
        let found = self.approvals.range(begins..).position(|(_, known)| known == request);
        if let Some((at, _)) = found.and_then(|place| self.approvals.remove(begins + place)) {
            self.approvals_gap = self.approvals_gap.max(Some(at));
        }
    }

    fn let_approvals_go(&mut self, which: impl Fn(&RequestId, Timestamp) -> bool) {
        let gap = &mut self.approvals_gap;
        self.approvals.retain(|(at, request)| {
            let goes = which(request, *at);
            if goes {
                *gap = (*gap).max(Some(*at));
            }
            !goes
        });
    }

    /// Drops what has left every window, and from now on keeps only what this policy needs. Called when a policy is
    /// swapped in, and regularly.
    pub(crate) fn prune(&mut self, policy: &Policy, now: Timestamp) {
        let limits: HashMap<&RuleName, SignedDuration> =
            policy.rules.iter().filter_map(|rule| rule.limit.map(|limit| (&rule.name, limit.quota.per))).collect();
        self.charges.prune(|name| limits.get(name).copied(), now);
        self.history.prune(policy.history_needs(), now);
        let kept = policy.charge_reach().map_or(OPEN_KEPT, |reach| reach.max(OPEN_KEPT));
        self.open.retain(|_, open| after(open.at, kept) > now);
        self.unconfirmed.retain(|_, at| after(*at, kept) > now);
        self.keep_for(policy);
        if let Some(quota) = policy.approvals_max {
            self.let_approvals_go(|_, at| after(at, quota.per) <= now);
        }
        self.overdue.retain(|_, rejects| {
            rejects.retain(|(at, _)| after(*at, OVERDUE_WINDOW) > now);
            !rejects.is_empty()
        });
    }

    /// How many charges and how many approvals the policy state holds.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.charges.len(), self.approvals.len())
    }

    pub(crate) fn used(
        &self,
        rule: &RuleName,
        limit: &Limit,
        handle: &Handle,
        request: &RequestId,
        now: Timestamp,
    ) -> LimitUse {
        let except = self.open.get(request).map(|open| (request, open.at));
        self.charges.used(rule, limit, handle, except, now)
    }

    /// Whether other requests have certainly used up a limit: all charges of its window are known, and enough of them
    /// belong to answers that the platform confirmed.
    pub(crate) fn spent_for_certain(
        &self,
        rule: &RuleName,
        limit: &Limit,
        handle: &Handle,
        request: &RequestId,
        now: Timestamp,
    ) -> bool {
        let Some(holders) = self.charges.holders(rule, limit, handle, now) else { return false };
        if self.unconfirmed.len() > charges::CHARGES_MAX {
            return false;
        }
        let sure = |holder: &RequestId| !self.open.contains_key(holder) && !self.unconfirmed.contains_key(holder);
        let certain =
            holders.into_iter().filter(|holder| holder.is_none_or(|holder| holder != request && sure(holder)));
        certain.count() >= limit.quota.count as usize
    }

    pub(crate) fn approvals_within(&self, per: SignedDuration, except: &RequestId, now: Timestamp) -> usize {
        let first = self.approvals.partition_point(|(at, _)| after(*at, per) <= now);
        let own = self.open.contains_key(except) && self.approvals.range(first..).any(|(_, request)| request == except);
        self.approvals.len() - first - usize::from(own)
    }

    /// Whether all approvals of this window are known: none was dropped, or never read.
    pub(crate) fn counts_approvals(&self, per: SignedDuration, now: Timestamp) -> bool {
        self.approvals_gap.is_none_or(|gap| after(gap, per) <= now)
    }

    /// The rejections by this `overdue` rule within the hour, without those of `except`.
    pub(crate) fn overdue_rejects(&self, name: &RuleName, except: &RequestId, now: Timestamp) -> Vec<Timestamp> {
        let rejects = self.overdue.get(name).map_or(&[][..], Vec::as_slice);
        let live =
            rejects.iter().filter(|(at, request)| after(*at, OVERDUE_WINDOW) > now && request.as_ref() != Some(except));
        live.map(|(at, _)| *at).collect()
    }

    /// Beyond the bound, no limit counts as certainly used up.
    fn ended_unconfirmed(&mut self, request: RequestId, at: Timestamp) {
        if self.unconfirmed.len() <= charges::CHARGES_MAX {
            let known = self.unconfirmed.entry(request).or_insert(at);
            *known = at.max(*known);
        }
    }

    fn approved(&mut self, request: RequestId, at: Timestamp) {
        let index = self.approvals.partition_point(|(known, _)| *known <= at);
        self.approvals.insert(index, (at, request));
        if self.approvals.len() > APPROVALS_MAX
            && let Some((oldest, _)) = self.approvals.pop_front()
        {
            self.approvals_gap = self.approvals_gap.max(Some(oldest));
        }
    }

    /// The entry for what a rebuilt policy state knows to be reserved; only approvals reserve anything that is kept.
    fn open_for(&mut self, request: &RequestId, at: Timestamp) -> &mut AnswerInFlight {
        let open = AnswerInFlight { verdict: Verdict::Approve, at, charges: Vec::new() };
        self.open.entry(request.clone()).or_insert(open)
    }
}
