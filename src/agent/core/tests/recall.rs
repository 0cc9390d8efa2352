//! A reload that asks further back: what the record says, what happened meanwhile, and nothing in between is lost.

use std::sync::Arc;

use super::*;
use crate::ledger::{HistoryReach, Reach};
use crate::policy::rules::{Condition, HistoryConditions, Policy};
use crate::policy::testkit::{approve, by_handle, hours, policy};

/// Lets ann in, unless she was rejected within so many hours; 0 is never mind.
fn rules(within: i64) -> Option<Arc<Policy>> {
    let mut rule = approve("ann", by_handle(&["ann"]));
    if within > 0 {
        let history = HistoryConditions { rejected_within: Some(hours(within)), ..HistoryConditions::default() };
        rule = rule.unless(Condition::History(history));
    } else {
        rule = approve("nobody", by_handle(&["nobody"]));
    }
    let mut policy = policy(vec![rule]);
    policy.hash = PolicyHash::new(&format!("{within:064x}"));
    Some(Arc::new(policy))
}

fn ann(id: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some("ann")), ..request(id) }
}

/// An agent whose rules ask nothing of the past, and at whose door ann waits.
fn asked_by_ann() -> Held {
    let mut held = Held::new(AgentMemory::default());
    held.tell(Input::Policy(rules(0)));
    held.lists_after(MINUTES, &[ann("r1")]);
    held
}

fn rejected(held: &mut Held, id: &str) {
    let op = Op::Answer { verdict: Verdict::Reject, request: RequestId::parse(id).unwrap() };
    held.tell(Input::Op { token: 1, op, person: "bob".into() });
    held.applied(id, Answer::Reject);
}

/// The readings that were asked for.
fn readings(held: &Held) -> Vec<(u64, Option<HistoryReach>)> {
    let reading = |action: &Action| match action {
        Action::Recall { number, reach: Reach { history, .. } } => Some((*number, *history)),
        _ => None,
    };
    held.asked.iter().filter_map(reading).collect()
}

/// What the ledger says: nobody was ever rejected, and that is all there is.
fn nothing() -> Option<Box<crate::policy::book::Memory>> {
    Some(Box::new(crate::policy::book::Memory { history_complete: true, ..Default::default() }))
}

fn let_in(held: &Held, id: &str) -> bool {
    held.recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Approve, .. } if request.as_str() == id))
}

#[test]
fn what_happens_while_the_record_is_read_is_remembered() {
    let mut held = asked_by_ann();
    held.tell(Input::Policy(rules(24)));
    let [(number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    rejected(&mut held, "r1");
    held.tell(Input::Recalled { number, memory: nothing() });
    held.lists_after(MINUTES, &[ann("r2")]);
    assert!(!let_in(&held, "r2"), "rejected a minute ago");
    held.lists_after(24 * 60 * MINUTES, &[ann("r2")]);
    assert!(let_in(&held, "r2"), "and that is a day ago now");
}

#[test]
fn a_held_agent_that_gets_rules_reads_what_they_ask_for_first() {
    // For no rules no history is read, and what was read is all that was asked for.
    let book = *nothing().unwrap();
    let mut held = Held::new(AgentMemory { book, ..AgentMemory::default() });
    held.lists_after(MINUTES, &[ann("r1")]);
    held.tell(Input::Policy(rules(24)));
    assert!(!let_in(&held, "r1"), "nobody has looked whether she was rejected");
    let [(number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Recalled { number, memory: nothing() });
    assert!(let_in(&held, "r1"));
}

#[test]
fn what_was_read_for_an_older_policy_says_nothing_about_a_newer_one() {
    let mut held = asked_by_ann();
    held.tell(Input::Policy(rules(1)));
    held.tell(Input::Policy(rules(24)));
    let [(first, _), (second, Some(HistoryReach::Within(reach)))] = readings(&held)[..] else {
        panic!("{:?}", readings(&held))
    };
    assert_eq!(reach, hours(24));
    held.tell(Input::Recalled { number: first, memory: nothing() });
    assert!(!let_in(&held, "r1"), "only an hour was read");
    held.tell(Input::Recalled { number: second, memory: nothing() });
    assert!(let_in(&held, "r1"), "{:?}", held.recorded);
}

#[test]
fn the_record_is_read_when_all_that_happened_before_is_on_it() {
    let mut held = asked_by_ann();
    held.stalled = true;
    rejected(&mut held, "r1");
    held.tell(Input::Policy(rules(24)));
    assert_eq!(readings(&held), [], "the rejection waits for the ledger");
    held.stalled = false;
    held.tell(Input::Recorded(Ok(())));
    assert_eq!(readings(&held).len(), 1);
}

#[test]
fn a_reading_that_failed_is_repeated() {
    let mut held = asked_by_ann();
    held.tell(Input::Policy(rules(24)));
    let [(number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Recalled { number, memory: None });
    assert_eq!(readings(&held).len(), 1);
    let due = held.core.deadline(now(held.at)).unwrap();
    assert!(due <= now(held.at + Duration::from_secs(31)).mono);
    held.wait(Duration::from_secs(31));
    assert_eq!(readings(&held).len(), 2);
    held.tell(Input::Recalled { number, memory: nothing() });
    assert!(let_in(&held, "r1"), "{:?}", held.recorded);
}
