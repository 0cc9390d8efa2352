//! Limits and `approvals_max`: whether one more is allowed now, and what it costs.

use jiff::{SignedDuration, Timestamp};

use super::book::charges::{Used, handle_bucket};
use super::evaluate::facts::Facts;
use super::rules::{Limit, LimitBy, Policy, Quota, Rule};
use super::{Book, Charge};
use crate::model::{Handle, RequestId};

impl Policy {
    /// How far back [`Memory::charges`](super::book::Memory) and its approvals must reach for this policy: its longest
    /// limit, `approvals_max` included; `None` where it has none.
    pub fn charge_reach(&self) -> Option<SignedDuration> {
        let limits = self.rules.iter().filter_map(|rule| rule.limit).map(|limit| limit.quota.per);
        limits.chain(self.approvals_max.map(|quota| quota.per)).max()
    }
}

/// The place that an approval by this rule takes: of the owner, of the handle (with its `@`), or of the rule.
pub fn charge(rule: &Rule, limit: &Limit, handle: &Handle) -> Charge {
    let bucket = match limit.by {
        LimitBy::Owner => handle.owner().into(),
        LimitBy::Handle => handle_bucket(handle).into(),
        LimitBy::Rule => "".into(),
    };
    Charge { rule: rule.name.clone(), bucket }
}

/// How a rule's limit stands for this request: full where the clock is unsound, and never because of the request itself.
pub(crate) fn judge(rule: &Rule, limit: &Limit, handle: &Handle, facts: &Facts<'_>) -> Used {
    let used = facts.book.used(&rule.name, limit, handle, &facts.request.id, facts.now);
    if facts.clock_is_sound() { used } else { Used { full: true, frees: None, ..used } }
}

/// Whether `approvals_max` allows no further approval, this request's own aside.
pub(crate) fn approvals_spent(quota: Quota, book: &Book, request: &RequestId, now: Timestamp) -> bool {
    book.approvals_within(quota.per, request, now) >= quota.count as usize
}
