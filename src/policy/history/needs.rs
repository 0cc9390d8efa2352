//! How much of the past a policy asks for.

use jiff::SignedDuration;

use crate::policy::conditions::History;
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
    /// `approved_before`: reaches back for ever.
    pub approved: bool,
}

impl HistoryNeeds {
    /// Takes in what one `history` condition asks for.
    pub(crate) fn add(&mut self, history: &History) {
        self.approved |= history.approved_before.is_some();
        self.rejected = self.rejected.max(history.rejected_within);
        self.removed = self.removed.max(history.removed_within);
        if let Some(quota) = history.requests_over {
            let (per, count) = self.requests.unwrap_or((SignedDuration::ZERO, 0));
            self.requests = Some((per.max(quota.per), count.max(quota.count)));
        }
    }

    /// The furthest of all; [`SignedDuration::MAX`] is for ever.
    pub fn reach(&self) -> Option<SignedDuration> {
        let for_ever = self.approved.then_some(SignedDuration::MAX);
        for_ever.max(self.rejected).max(self.removed).max(self.requests.map(|(per, _)| per))
    }
}

impl Policy {
    /// What of the history of owners this policy asks about.
    pub fn history_needs(&self) -> HistoryNeeds {
        self.needs().history
    }

    /// How far back [`SavedState::history`](crate::policy::state::SavedState) must reach for this policy: `None` where it asks nothing,
    /// [`SignedDuration::MAX`] for ever (`approved_before`).
    pub fn history_reach(&self) -> Option<SignedDuration> {
        self.history_needs().reach()
    }
}
