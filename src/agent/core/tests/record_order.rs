//! What goes on record before what: the outcomes of answers wait a moment, and some entries must not overtake them.

use std::sync::Arc;

use super::*;
use crate::policy::conditions::HistoryCondition;
use crate::policy::rules::{Limit, LimitBy, Rule};
use crate::policy::testkit::{approve, by_handle, hours, policy};

fn friends() -> Rule {
    approve("friends", by_handle(&["ann", "bob", "eve"]))
}

fn under(rule: Rule) -> CoreHarness {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    // The record is read for the new rules.
    let asked = harness.actions.iter().find_map(|action| match action {
        Action::Restore { number, .. } => Some(*number),
        _ => None,
    });
    if let Some(number) = asked {
        let saved = crate::policy::state::SavedState { history_complete: true, ..Default::default() };
        harness.input(Input::Restored { number, saved: Some(Box::new(saved)) });
    }
    harness
}

fn asks(id: &str, handle: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(handle)), ..request(id) }
}

/// The order of what is on record of requests: `seen r1`, `intent r1`, `outcome r1`.
fn order(harness: &CoreHarness) -> Vec<String> {
    let entries = harness.recorded.iter().filter_map(|entry| match entry {
        Record::Seen { request, .. } => Some(format!("seen {}", request.id)),
        Record::Intent { request, .. } => Some(format!("intent {request}")),
        Record::Outcome { request, .. } => Some(format!("outcome {request}")),
        _ => None,
    });
    entries.collect()
}

#[test]
fn an_outcome_waits_for_others_unless_the_rules_ask_for_the_past() {
    let overtaken = ["seen r1", "intent r1", "seen r2", "intent r2", "outcome r1"];
    let in_order = ["seen r1", "intent r1", "outcome r1", "seen r2", "intent r2"];
    let history = HistoryCondition { rejected_within: Some(hours(24)), ..HistoryCondition::default() };
    let limit = |then| Rule {
        limit: friends().limit(9, hours(1), LimitBy::Rule).limit.map(|limit| Limit { then, ..limit }),
        ..friends()
    };
    for (rule, expected) in [
        (friends(), overtaken),
        (limit(Verdict::Defer), overtaken),
        // Only answers that the platform confirmed use such a limit up.
        (limit(Verdict::Reject), in_order),
        (friends().unless(history), in_order),
    ] {
        let said = format!("{rule:?}");
        let mut harness = under(rule);
        harness.lists_after(MINUTES, &[asks("r1", "ann")]);
        // It arrives while the list is read that shows the next request.
        harness.at += MINUTES;
        harness.input(Input::Tick);
        harness.confirmed("r1", Answer::Approve);
        harness.lists_after(Duration::ZERO, &[asks("r2", "bob")]);
        harness.wait(Duration::from_secs(1));
        assert_eq!(order(&harness), expected, "{said}");
    }
}

#[test]
fn the_outcome_of_an_answer_is_on_record_before_another_request_with_its_id() {
    let mut harness = under(friends());
    harness.lists_after(MINUTES, &[asks("r1", "ann")]);
    // For a while, the ledger takes nothing more.
    harness.stalled = true;
    harness.lists_after(MINUTES, &[asks("r2", "bob")]);
    harness.confirmed("r1", Answer::Approve);
    harness.lists_after(2 * MINUTES, &[asks("r2", "bob"), asks("r1", "eve")]);
    harness.stalled = false;
    harness.input(Input::Recorded(Ok(())));
    harness.wait(Duration::from_secs(1));
    let of_r1: Vec<String> = order(&harness).into_iter().filter(|entry| entry.ends_with("r1")).collect();
    assert_eq!(of_r1, ["seen r1", "intent r1", "outcome r1", "seen r1", "intent r1"]);
}
