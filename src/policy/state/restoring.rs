//! What the record remembers, taken in: at a start, and later if new rules look further back.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::{ApprovalRow, ChargeEnd, ChargeRow, PolicyState, SavedState};
use crate::model::RequestId;
use crate::policy::doubts::Fact;
use crate::policy::rules::Policy;

impl PolicyState {
    /// Rebuilds the policy state at start, from all that is on record.
    pub fn restore(saved: SavedState) -> Self {
        let mut policy_state = Self::default();
        policy_state.take_in(saved, None, None, None);
        policy_state
    }

    /// Rebuilds the policy state at start, from a record that was read as far back as this policy asks
    /// (`Policy::charge_reach`, [`Policy::history_reach`]).
    pub fn restore_for(saved: SavedState, policy: &Policy, now: Timestamp) -> Self {
        let mut policy_state = Self::default();
        policy_state.absorb(saved, policy, now);
        policy_state
    }

    /// Rebuilds the policy state at start for an agent without rules: nothing asked for history, so none was read and all of it is in
    /// doubt, and charges were read back to `charges`.
    pub fn restore_without_rules(saved: SavedState, charges: Option<Timestamp>) -> Self {
        let mut policy_state = Self::default();
        policy_state.take_in(saved, charges, charges, None);
        policy_state.history.unreliable(Timestamp::MAX);
        policy_state
    }

    /// Adds what was read from the record again, as far back as this policy needs, because the policy state does not
    /// reach back far enough (see `PolicyState::covers`). What the policy state already has is not counted twice.
    pub fn absorb(&mut self, saved: SavedState, policy: &Policy, now: Timestamp) {
        self.absorb_since(saved, policy, Timestamp::MAX, now);
    }

    /// The same, if everything since `since` was remembered as this policy needs it: what
    /// had to be dropped since then stays unknown.
    pub fn absorb_since(&mut self, saved: SavedState, policy: &Policy, since: Timestamp, now: Timestamp) {
        let back = |reach: SignedDuration| now.checked_sub(reach).ok();
        let charges = policy.charge_reach().map_or(Some(now), back);
        let approvals = policy.approvals_max.map_or(Some(now), |quota| back(quota.per));
        let history = policy.history_reach().and_then(back);
        let complete = saved.history_complete;
        let lost_since = self.history.lost(since, now);
        let approval_lost = self.approvals_gap.filter(|gap| (since..=now).contains(gap));
        self.take_in(saved, charges, approvals, history);
        self.approvals_gap = self.approvals_gap.max(approval_lost);
        self.history.in_doubt(lost_since);
        if policy.history_reach().is_none() {
            // No history was read, for any time: the clock may be behind the recorded events.
            self.history.unreliable(Timestamp::MAX);
        } else if !complete {
            self.history.unreliable(now);
        }
        self.prune(policy, now);
    }

    /// `charges`, `approvals`, `history`: nothing at or before these moments was read; `None`: everything was.
    fn take_in(
        &mut self,
        saved: SavedState,
        charges: Option<Timestamp>,
        approvals: Option<Timestamp>,
        history: Option<Timestamp>,
    ) {
        self.charges.complete_since(charges);
        // What is already in the state is the newest of each.
        let mut here = self.charges.taken();
        let mut read = saved.charges;
        read.sort_by_key(|row| row.at);
        let mut added = Vec::with_capacity(read.len());
        for ChargeRow { request, charge, at, end } in read.into_iter().rev() {
            if here.take(request.as_ref(), &charge, at) {
                continue;
            }
            let holder = request.filter(|_| end != ChargeEnd::Confirmed);
            match (&holder, end) {
                (Some(request), ChargeEnd::Open) => {
                    let open = self.open_for(request, at);
                    open.at = open.at.min(at);
                    open.charges.push(charge.clone());
                }
                (Some(request), ChargeEnd::Unconfirmed) => self.ended_unconfirmed(request.clone(), at),
                (Some(_), ChargeEnd::Confirmed) | (None, _) => {}
            }
            added.push((charge, holder, at));
        }
        added.reverse();
        self.charges.add_read(added);
        if saved.history_complete {
            self.history.complete_since(history);
        } else {
            self.history.unreliable(Timestamp::MAX);
        }
        for row in &saved.history {
            self.history.add_of(&row.owner, row.handle.as_ref(), row.kind, row.request.as_ref(), row.at);
        }
        let doubts = &mut self.history.doubts;
        for (owner, at) in saved.unmet {
            doubts.let_in(&owner, at);
        }
        if let Some((contact, at)) = saved.nameless {
            doubts.nameless_removed(&contact, at);
        }
        for doubt in saved.doubts {
            match doubt.fact {
                Fact::Rejected if let Some(sender) = &doubt.sender => {
                    let until = doubt.until.unwrap_or(Timestamp::MAX);
                    self.history.doubts.ended_unseen(sender, doubt.basis, doubt.since, until);
                }
                Fact::Approved if let (Some(sender), Some(request)) = (&doubt.sender, doubt.basis.request()) => {
                    if !self.history.knows_approved(&doubt.owner) {
                        self.history.doubts.presumed(sender, request, doubt.since);
                    }
                }
                // What was in doubt at a decision of the past.
                Fact::Rejected | Fact::Removed | Fact::Identity | Fact::Approved => self.history.doubts.add(doubt),
            }
        }
        self.approvals_gap = approvals;
        let mut here: HashMap<RequestId, usize> = HashMap::new();
        for (_, request) in &self.approvals {
            *here.entry(request.clone()).or_default() += 1;
        }
        let mut read = saved.approvals;
        read.sort_by_key(|row| row.at);
        for ApprovalRow { request, at, open } in read.into_iter().rev() {
            match here.get_mut(&request).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => {
                    if open {
                        let open = self.open_for(&request, at);
                        open.at = open.at.min(at);
                    }
                    self.approved(request, at);
                }
            }
        }
        self.holds.extend(saved.holds);
        if self.paused.is_none() {
            self.paused = saved.paused;
        }
        for (name, at) in saved.overdue_rejects {
            let rejects = self.overdue.entry(name).or_default();
            if !rejects.iter().any(|(known, _)| *known == at) {
                rejects.insert(rejects.partition_point(|(known, _)| *known <= at), (at, None));
            }
        }
        for (request, reply) in saved.replies {
            self.add_reply(&request, reply);
        }
        for (request, name) in saved.notified {
            self.notified(&request, &name);
        }
    }
}
