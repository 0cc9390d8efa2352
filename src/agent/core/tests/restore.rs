//! A reload that asks further back: what the record says, what happened meanwhile, and nothing in between is lost.

use std::sync::Arc;

use super::*;
use crate::ledger::{HistoryReach, RestoreReach};
use crate::policy::conditions::HistoryCondition;
use crate::policy::rules::Policy;
use crate::policy::rules::Quota;
use crate::policy::state::{ApprovalRow, HistoryKind, OwnerHistoryRow, SavedState};
use crate::policy::testkit::{a_pause, approve, by_handle, hours, policy};

/// Lets ann in unless she was rejected within this many hours; 0 drops that condition.
fn rules(within: i64) -> Option<Arc<Policy>> {
    let mut rule = approve("ann", by_handle(&["ann"]));
    if within > 0 {
        let history = HistoryCondition { rejected_within: Some(hours(within)), ..HistoryCondition::default() };
        rule = rule.unless(history);
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

/// An agent whose rules ask nothing about the past, with a pending request from ann.
fn asked_by_ann() -> CoreHarness {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(rules(0)));
    harness.lists_after(MINUTES, &[ann("r1")]);
    harness
}

fn rejected(harness: &mut CoreHarness, id: &str) {
    let op = PersonCommand::Answer { verdict: Verdict::Reject, request: RequestId::parse(id).unwrap(), lasts: None };
    harness.input(Input::Op { token: 1, op, person: "bob".into() });
    harness.confirmed(id, Answer::Reject);
}

/// The readings that were requested.
fn readings(harness: &CoreHarness) -> Vec<(u64, Option<HistoryReach>)> {
    let reading = |action: &Action| match action {
        Action::Restore { number, reach: RestoreReach { history, .. } } => Some((*number, *history)),
        _ => None,
    };
    harness.actions.iter().filter_map(reading).collect()
}

/// The ledger's reply: nobody was ever rejected, and the reply is complete.
fn nothing() -> Option<Box<SavedState>> {
    Some(Box::new(SavedState { history_complete: true, ..Default::default() }))
}

/// A rejection at this time.
fn rejected_before(at: jiff::Timestamp) -> OwnerHistoryRow {
    OwnerHistoryRow { owner: "ann".into(), handle: None, request: None, kind: HistoryKind::Rejected, at }
}

fn let_in(harness: &CoreHarness, id: &str) -> bool {
    harness
        .recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Approve, .. } if request.as_str() == id))
}

#[test]
fn what_happens_while_the_record_is_read_is_remembered() {
    let mut harness = asked_by_ann();
    harness.input(Input::Policy(rules(24)));
    let [(number, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    rejected(&mut harness, "r1");
    harness.input(Input::Restored { number, saved: nothing() });
    harness.lists_after(MINUTES, &[ann("r2")]);
    assert!(!let_in(&harness, "r2"), "rejected a minute ago");
    harness.lists_after(24 * 60 * MINUTES, &[ann("r2")]);
    assert!(let_in(&harness, "r2"), "and that is a day ago now");
}

#[test]
fn who_waits_is_let_in_at_the_next_listing_once_another_of_the_same_owner_was() {
    let mut harness = asked_by_ann();
    let welcome = HistoryCondition { approved_before: Some(true), ..HistoryCondition::default() };
    let rule = approve("ann", welcome);
    harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    let [(number, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    harness.input(Input::Restored { number, saved: nothing() });
    harness.lists_after(MINUTES, &[ann("r1"), ann("r2")]);
    harness.approve("r1", false);
    harness.confirmed("r1", Answer::Approve);
    harness.lists_after(MINUTES, &[ann("r2")]);
    assert!(let_in(&harness, "r2"), "{:?}", harness.recorded);
}

#[test]
fn an_agent_that_gets_rules_reads_what_they_ask_for_first() {
    // Without rules no history is read, and what was read is all that was requested.
    let policy_state = *nothing().unwrap();
    let mut harness = CoreHarness::new(SavedAgent { policy_state, ..SavedAgent::default() });
    harness.lists_after(MINUTES, &[ann("r1")]);
    harness.input(Input::Policy(rules(24)));
    assert!(!let_in(&harness, "r1"), "nobody has looked whether she was rejected");
    let [(number, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    harness.input(Input::Restored { number, saved: nothing() });
    assert!(let_in(&harness, "r1"));
}

#[test]
fn what_was_read_for_an_older_policy_says_nothing_about_a_newer_one() {
    let mut harness = asked_by_ann();
    harness.input(Input::Policy(rules(1)));
    harness.input(Input::Policy(rules(24)));
    let [(first, _), (second, Some(HistoryReach::Within(reach)))] = readings(&harness)[..] else {
        panic!("{:?}", readings(&harness))
    };
    assert_eq!(reach, hours(24));
    harness.input(Input::Restored { number: first, saved: nothing() });
    assert!(!let_in(&harness, "r1"), "only an hour was read");
    harness.input(Input::Restored { number: second, saved: nothing() });
    assert!(let_in(&harness, "r1"), "{:?}", harness.recorded);
}

#[test]
fn the_record_is_read_when_all_that_happened_before_is_on_it() {
    let mut harness = asked_by_ann();
    harness.stalled = true;
    rejected(&mut harness, "r1");
    harness.input(Input::Policy(rules(24)));
    assert_eq!(readings(&harness), [], "the rejection waits for the ledger");
    harness.stalled = false;
    harness.input(Input::Recorded(Ok(())));
    assert_eq!(readings(&harness).len(), 1);
}

#[test]
fn a_reading_that_failed_is_repeated() {
    let mut harness = asked_by_ann();
    harness.input(Input::Policy(rules(24)));
    let [(number, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    harness.input(Input::Restored { number, saved: None });
    assert_eq!(readings(&harness).len(), 1);
    let due = harness.core.deadline(now(harness.at)).unwrap();
    assert!(due <= now(harness.at + Duration::from_secs(31)).mono);
    harness.wait(Duration::from_secs(31));
    assert_eq!(readings(&harness).len(), 2);
    harness.input(Input::Restored { number, saved: nothing() });
    assert!(let_in(&harness, "r1"), "{:?}", harness.recorded);
}

#[test]
fn what_was_not_read_is_in_doubt_however_far_behind_the_clock_was() {
    for within in [None, Some(0)] {
        let saved = SavedAgent { policy_state: *nothing().unwrap(), ..SavedAgent::default() };
        let mut harness = CoreHarness::new(saved);
        harness.input(Input::Policy(within.and_then(rules)));
        harness.lists_after(MINUTES, &[ann("r1")]);
        // The clock is set right: an hour later, though no time has passed.
        harness.ahead = hours(3);
        harness.input(Input::Policy(rules(1)));
        assert!(!let_in(&harness, "r1"), "{within:?}: she may have been rejected while the clock was right before");
        let number = readings(&harness).last().unwrap().0;
        let history = vec![rejected_before(now(harness.at).wall + hours(3))];
        harness.input(Input::Restored { number, saved: Some(Box::new(SavedState { history, ..*nothing().unwrap() })) });
        harness.lists_after(MINUTES, &[ann("r1")]);
        assert!(!let_in(&harness, "r1"), "{within:?}: and she was");
    }
}

#[test]
fn once_the_clock_is_right_what_was_asked_for_by_a_wrong_one_is_read_again() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(rules(24)));
    let before = readings(&harness).len();
    harness.ahead = hours(48);
    let date = |harness: &CoreHarness| Some(now(harness.at).wall);
    let reply = |harness: &CoreHarness| Reply { result: harness.me().result, date: date(harness) };
    harness.input(Input::Me { reply: reply(&harness), changed: false });
    harness.input(Input::Policy(rules(1)));
    let number = readings(&harness).last().unwrap().0;
    harness.input(Input::Restored { number, saved: nothing() });
    harness.ahead = hours(0);
    harness.input(Input::Me { reply: reply(&harness), changed: false });
    harness.lists_after(MINUTES, &[ann("r1")]);
    assert_eq!(readings(&harness).len(), before + 2, "an hour before the day after tomorrow says nothing about today");
    let number = readings(&harness).last().unwrap().0;
    harness.input(Input::Restored { number, saved: nothing() });
    assert!(let_in(&harness, "r1"), "{:?}", harness.recorded);
}

/// Lets ann in unless she was rejected within the hour, but one of hers an hour.
fn one_an_hour() -> Option<Arc<Policy>> {
    let mut policy = Arc::into_inner(rules(1).unwrap()).unwrap();
    policy.approvals_max = Some(Quota { count: 1, per: hours(1) });
    policy.hash = PolicyHash::new(&"1a".repeat(32));
    Some(Arc::new(policy))
}

/// The ledger's reply: this request was approved, or is about to be.
fn approved(harness: &CoreHarness, id: &str) -> Option<Box<SavedState>> {
    let row = ApprovalRow { request: RequestId::parse(id).unwrap(), at: now(harness.at).wall, open: true };
    Some(Box::new(SavedState { approvals: vec![row], paused: Some(a_pause()), ..*nothing().unwrap() }))
}

#[test]
fn a_resume_while_the_record_is_read_is_not_undone_by_what_it_said_before() {
    let mut harness = asked_by_ann();
    harness.input(Input::Op { token: 1, op: PersonCommand::Pause, person: "bob".into() });
    harness.input(Input::Policy(one_an_hour()));
    let [(first, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    harness.input(Input::Op { token: 2, op: PersonCommand::Resume, person: "bob".into() });
    harness.input(Input::Restored { number: first, saved: approved(&harness, "r0") });
    let [_, (second, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    harness.input(Input::Restored { number: second, saved: nothing() });
    assert!(let_in(&harness, "r1"), "{:?}", harness.recorded);
}

#[test]
fn what_was_given_back_while_the_record_is_read_counts_when_it_is_taken_again() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(rules(1)));
    let number = readings(&harness)[0].0;
    harness.input(Input::Restored { number, saved: nothing() });
    harness.lists_after(MINUTES, &[ann("r1")]);
    harness.input(Input::Policy(one_an_hour()));
    let [_, (number, _)] = readings(&harness)[..] else { panic!("{:?}", readings(&harness)) };
    // The platform does not allow it; but the record was read a moment before.
    let error = CallError { fault: CallFault::Forbidden, code: None, message: None, retry_after: None };
    let request = RequestId::parse("r1").unwrap();
    let reply = Reply { result: Err(error), date: None };
    harness.input(Input::Responded { request, attempt: 1, reply, written: now(harness.at).mono });
    let saved = approved(&harness, "r1").map(|saved| Box::new(SavedState { paused: None, ..*saved }));
    harness.input(Input::Restored { number, saved });
    harness.lists_after(MINUTES, &[ann("r1"), ann("r2")]);
    assert!(let_in(&harness, "r2"), "nobody was let in within the hour");
}
