//! Reads the record again for a policy that looks further back than the memory does.
//!
//! From the swap on, everything that happens is remembered as the new policy needs it. What happened before is read
//! from the record, as soon as all of it is recorded. So nothing is missed between the two. The result of a reading for
//! an older policy is ignored.

use std::collections::HashSet;
use std::time::Duration;

use jiff::SignedDuration;

use super::{Action, Core};
use crate::clock::{Mono, Now};
use crate::ledger::{HistoryReach, RestoreReach};
use crate::model::RequestId;
use crate::policy::Policy;
use crate::policy::state::SavedState;

/// How far back charges are remembered at least: a policy that is corrected finds them again.
const CHARGES_REACH: SignedDuration = SignedDuration::from_hours(24 * 31);
/// The wait after a failed reading.
const RETRY: Duration = Duration::from_secs(30);
/// If more charges than this are given back during one reading, the reading begins again.
const GIVEN_BACK_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Restore {
    /// Names the reading; each swap makes a new one.
    number: u64,
    wanted: Option<LoadNeeds>,
}

#[derive(Debug)]
struct LoadNeeds {
    /// How many entries, counted from the start, must be on record first.
    behind: u64,
    not_before: Mono,
    /// Since when everything is remembered as this policy needs it.
    since: jiff::Timestamp,
    under_way: bool,
    /// The requests whose charges were given back since: the reading may be older than the record of that.
    given_back: HashSet<RequestId>,
}

/// How far back an agent must remember for this policy.
pub fn reach_of(policy: Option<&Policy>) -> RestoreReach {
    let charges = policy.and_then(Policy::charge_reach).unwrap_or_default().max(CHARGES_REACH);
    let history = policy.and_then(Policy::history_reach).map(|reach| match reach {
        SignedDuration::MAX => HistoryReach::Ever,
        within => HistoryReach::Within(within),
    });
    // An agent without rules may get some that count approvals.
    let approvals = match policy {
        Some(policy) => policy.approvals_max.map(|quota| quota.per),
        None => Some(CHARGES_REACH),
    };
    RestoreReach { charges, approvals, history, merged: false }
}

impl Core {
    /// Another policy is in force: whether the record must be read again for it.
    pub(super) fn restore_for(&mut self, policy: Option<&Policy>, now: Now) {
        self.restore.number += 1;
        self.restore.wanted = policy.filter(|policy| !self.policy_state.covers(policy, now.wall)).map(|_| LoadNeeds {
            behind: self.outbox.mark(),
            not_before: now.mono,
            since: now.wall,
            under_way: false,
            given_back: HashSet::new(),
        });
    }

    /// The removals that memory has forgotten are on record, or soon will be: the record is read again.
    pub(super) fn read_removals_again(&mut self, now: Now) {
        let policy = self.policy.clone();
        self.restore_for(policy.as_deref(), now);
    }

    /// The result of a reading under way is out of date: it is read again, after all entries up to now are on record.
    pub(super) fn restore_again(&mut self) {
        let Some(wanted) = &mut self.restore.wanted else { return };
        self.restore.number += 1;
        wanted.behind = self.outbox.mark();
        wanted.under_way = false;
        wanted.given_back.clear();
    }

    /// The charge of this request was given back: a reading under way must not bring it back.
    pub(super) fn restore_without(&mut self, id: &RequestId) {
        if self.restore.wanted.as_ref().is_some_and(|wanted| wanted.given_back.len() >= GIVEN_BACK_MAX) {
            self.restore_again();
        }
        if let Some(wanted) = &mut self.restore.wanted {
            wanted.given_back.insert(id.clone());
        }
    }

    pub(super) fn begin_restore(&mut self) {
        let Some(wanted) = &mut self.restore.wanted else { return };
        wanted.under_way = true;
        let reach = RestoreReach { merged: true, ..reach_of(self.policy.as_deref()) };
        let number = self.restore.number;
        self.act(Action::Restore { number, reach });
    }

    /// When to read; `None` until the ledger has everything that the reading must find.
    pub(super) fn restore_due(&self) -> Option<Mono> {
        let wanted = self.restore.wanted.as_ref()?;
        let recorded = self.outbox.recorded(self.recording) >= wanted.behind;
        (!wanted.under_way && recorded).then_some(wanted.not_before)
    }

    /// The result of a reading; `None`: the record could not be read.
    pub(super) fn restored(&mut self, number: u64, saved: Option<SavedState>, now: Now) {
        if number != self.restore.number {
            return;
        }
        let (Some(wanted), Some(policy)) = (&mut self.restore.wanted, &self.policy) else { return };
        let Some(mut saved) = saved else {
            wanted.under_way = false;
            wanted.not_before = now.mono + RETRY;
            return;
        };
        saved.charges.retain(|row| row.request.as_ref().is_none_or(|request| !wanted.given_back.contains(request)));
        saved.approvals.retain(|row| !wanted.given_back.contains(&row.request));
        self.policy_state.absorb_since(saved, policy, wanted.since, now.wall);
        self.restore.wanted = None;
        self.inbox.requeue_resting(|_| true);
    }
}
