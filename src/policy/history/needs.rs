//! How much of the past a policy needs.

use jiff::SignedDuration;

use crate::policy::conditions::{HistoryCondition, OverQuota};
use crate::policy::rules::Policy;

/// How far back a policy's `history` conditions ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryNeeds {
    /// `requests_over`: the longest window, and the largest count.
    pub requests: Option<(SignedDuration, u32)>,
    /// `rejected_within`: the longest.
    pub rejected: Option<SignedDuration>,
    /// `removed_within`: the longest.
    pub removed: Option<SignedDuration>,
    /// `approved_before`: looks back for ever.
    pub approved: bool,
    /// `approved_over`.
    pub approvals: Option<CountingNeeds>,
    /// `rejected_over`.
    pub rejections: Option<CountingNeeds>,
    /// `removed_over`.
    pub removals: Option<CountingNeeds>,
}

/// How far back something is counted, and how far up: the longest, and the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingNeeds {
    /// The longest window.
    pub per: SignedDuration,
    /// The largest count.
    pub count: u32,
}

impl CountingNeeds {
    fn add(known: &mut Option<CountingNeeds>, over: Option<OverQuota>) {
        let Some(OverQuota { quota, .. }) = over else { return };
        let CountingNeeds { per, count } = known.unwrap_or(CountingNeeds { per: SignedDuration::ZERO, count: 0 });
        *known = Some(CountingNeeds { per: per.max(quota.per), count: count.max(quota.count) });
    }
}

impl HistoryNeeds {
    /// Adds the needs of one `history` condition.
    pub(crate) fn add(&mut self, history: &HistoryCondition) {
        self.approved |= history.approved_before.is_some();
        self.rejected = self.rejected.max(history.rejected_within);
        self.removed = self.removed.max(history.removed_within);
        CountingNeeds::add(&mut self.approvals, history.approved_over);
        CountingNeeds::add(&mut self.rejections, history.rejected_over);
        CountingNeeds::add(&mut self.removals, history.removed_over);
        if let Some(quota) = history.requests_over {
            let (per, count) = self.requests.unwrap_or((SignedDuration::ZERO, 0));
            self.requests = Some((per.max(quota.per), count.max(quota.count)));
        }
    }

    /// How far back it is asked whether a contact was removed.
    pub fn removed_reach(&self) -> Option<SignedDuration> {
        self.removed.max(self.removals.map(|counting| counting.per))
    }

    /// How far back it is asked whether a request was rejected.
    pub fn rejected_reach(&self) -> Option<SignedDuration> {
        self.rejected.max(self.rejections.map(|counting| counting.per))
    }

    /// The longest of all; [`SignedDuration::MAX`] means for ever.
    pub fn reach(&self) -> Option<SignedDuration> {
        let for_ever = self.approved.then_some(SignedDuration::MAX);
        let counted = [self.approvals, self.rejections, self.removals].into_iter().flatten().map(|one| one.per).max();
        for_ever.max(self.rejected).max(self.removed).max(self.requests.map(|(per, _)| per)).max(counted)
    }
}

impl Policy {
    /// Which part of the owners' history this policy needs.
    pub fn history_needs(&self) -> HistoryNeeds {
        self.needs().history
    }

    /// How far back [`SavedState::history`](crate::policy::state::SavedState) must reach for this policy: `None` if it asks nothing,
    /// [`SignedDuration::MAX`] for ever (`approved_before`).
    pub fn history_reach(&self) -> Option<SignedDuration> {
        self.history_needs().reach()
    }
}
