//! The policy state as it may have stood at a moment of the past, from what the record says was done.

use jiff::Timestamp;

use super::{Recorded, is_rule};
use crate::model::{Outcome, Verdict};
use crate::policy::{Policy, PolicyState, RuleName, Truth};

/// Rebuilds the policy state for `policy` at the moment `at` from one agent's recorded requests, in order of first seen: who
/// asked, what was answered, and what that was charged to. What was approved up to `resumed` no longer counts towards
/// `approvals_max`. Pauses, holds and removed contacts are the caller's to add.
pub fn policy_state_at(
    policy: &Policy,
    recorded: &[Recorded],
    resumed: Option<Timestamp>,
    at: Timestamp,
) -> PolicyState {
    let mut policy_state = PolicyState::default();
    policy_state.prune(policy, Timestamp::MIN);
    let mut answers: Vec<(Timestamp, &Recorded)> = Vec::new();
    for one in recorded.iter().filter(|one| one.circumstances.first_seen <= at) {
        policy_state.seen(&one.request.id, one.request.sender.handle(), one.circumstances.first_seen);
        if let Some(answered) = one.answered_at.filter(|answered| *answered < at) {
            answers.push((answered, one));
        }
    }
    answers.sort_by_key(|(answered, _)| *answered);
    let mut resumed = resumed;
    for (answered, one) in answers {
        if resumed.take_if(|resumed| *resumed <= answered).is_some() {
            policy_state.resume();
        }
        let (Some(verdict), Some(by)) = (one.verdict, &one.by) else { continue };
        let (id, handle) = (&one.request.id, one.request.sender.handle());
        let charges = match (verdict, handle) {
            (Verdict::Approve, Some(handle)) => {
                let voices = policy.decide(&one.request, &one.circumstances, &policy_state, answered).voices;
                let matched = |name: &RuleName| {
                    is_rule(one.by.as_ref(), name)
                        || voices.iter().any(|voice| voice.rule == *name && voice.truth == Truth::True)
                };
                let rules = policy.rules.iter().filter(|rule| !rule.shadow && matched(&rule.name));
                rules.filter_map(|rule| rule.charge(handle)).collect()
            }
            _ => Vec::new(),
        };
        policy_state.reserve(id, handle, verdict, by, &charges, answered);
        policy_state.settle(id, handle, verdict, one.outcome.unwrap_or(Outcome::Unknown), answered);
    }
    if resumed.is_some() {
        policy_state.resume();
    }
    policy_state
}
