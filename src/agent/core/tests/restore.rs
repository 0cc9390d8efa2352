//! A reload that asks further back: what the record says, what happened meanwhile, and nothing in between is lost.

use std::sync::Arc;

use super::*;
use crate::ledger::{HistoryReach, MemoryReach};
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
fn asked_by_ann() -> Held {
    let mut held = Held::new(SavedAgent::default());
    held.tell(Input::Policy(rules(0)));
    held.lists_after(MINUTES, &[ann("r1")]);
    held
}

fn rejected(held: &mut Held, id: &str) {
    let op = PersonCommand::Answer { verdict: Verdict::Reject, request: RequestId::parse(id).unwrap(), lasts: None };
    held.tell(Input::Op { token: 1, op, person: "bob".into() });
    held.applied(id, Answer::Reject);
}

/// The readings that were requested.
fn readings(held: &Held) -> Vec<(u64, Option<HistoryReach>)> {
    let reading = |action: &Action| match action {
        Action::Restore { number, reach: MemoryReach { history, .. } } => Some((*number, *history)),
        _ => None,
    };
    held.asked.iter().filter_map(reading).collect()
}

/// The ledger's reply: nobody was ever rejected, and the reply is complete.
fn nothing() -> Option<Box<SavedState>> {
    Some(Box::new(SavedState { history_complete: true, ..Default::default() }))
}

/// A rejection at this time.
fn rejected_before(at: jiff::Timestamp) -> OwnerHistoryRow {
    OwnerHistoryRow { owner: "ann".into(), handle: None, request: None, kind: HistoryKind::Rejected, at }
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
    held.tell(Input::Restored { number, saved: nothing() });
    held.lists_after(MINUTES, &[ann("r2")]);
    assert!(!let_in(&held, "r2"), "rejected a minute ago");
    held.lists_after(24 * 60 * MINUTES, &[ann("r2")]);
    assert!(let_in(&held, "r2"), "and that is a day ago now");
}

#[test]
fn who_waits_is_let_in_at_the_next_listing_once_another_of_the_same_owner_was() {
    let mut held = asked_by_ann();
    let welcome = HistoryCondition { approved_before: Some(true), ..HistoryCondition::default() };
    let rule = approve("ann", welcome);
    held.tell(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    let [(number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Restored { number, saved: nothing() });
    held.lists_after(MINUTES, &[ann("r1"), ann("r2")]);
    held.approve("r1", false);
    held.applied("r1", Answer::Approve);
    held.lists_after(MINUTES, &[ann("r2")]);
    assert!(let_in(&held, "r2"), "{:?}", held.recorded);
}

#[test]
fn a_held_agent_that_gets_rules_reads_what_they_ask_for_first() {
    // Without rules no history is read, and what was read is all that was requested.
    let policy_state = *nothing().unwrap();
    let mut held = Held::new(SavedAgent { policy_state, ..SavedAgent::default() });
    held.lists_after(MINUTES, &[ann("r1")]);
    held.tell(Input::Policy(rules(24)));
    assert!(!let_in(&held, "r1"), "nobody has looked whether she was rejected");
    let [(number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Restored { number, saved: nothing() });
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
    held.tell(Input::Restored { number: first, saved: nothing() });
    assert!(!let_in(&held, "r1"), "only an hour was read");
    held.tell(Input::Restored { number: second, saved: nothing() });
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
    held.tell(Input::Restored { number, saved: None });
    assert_eq!(readings(&held).len(), 1);
    let due = held.core.deadline(now(held.at)).unwrap();
    assert!(due <= now(held.at + Duration::from_secs(31)).mono);
    held.wait(Duration::from_secs(31));
    assert_eq!(readings(&held).len(), 2);
    held.tell(Input::Restored { number, saved: nothing() });
    assert!(let_in(&held, "r1"), "{:?}", held.recorded);
}

#[test]
fn what_was_not_read_is_in_doubt_however_far_behind_the_clock_was() {
    for within in [None, Some(0)] {
        let saved = SavedAgent { policy_state: *nothing().unwrap(), ..SavedAgent::default() };
        let mut held = Held::new(saved);
        held.tell(Input::Policy(within.and_then(rules)));
        held.lists_after(MINUTES, &[ann("r1")]);
        // The clock is set right: an hour later, though no time has passed.
        held.ahead = hours(3);
        held.tell(Input::Policy(rules(1)));
        assert!(!let_in(&held, "r1"), "{within:?}: she may have been rejected while the clock was right before");
        let number = readings(&held).last().unwrap().0;
        let history = vec![rejected_before(now(held.at).wall + hours(3))];
        held.tell(Input::Restored { number, saved: Some(Box::new(SavedState { history, ..*nothing().unwrap() })) });
        held.lists_after(MINUTES, &[ann("r1")]);
        assert!(!let_in(&held, "r1"), "{within:?}: and she was");
    }
}

#[test]
fn once_the_clock_is_right_what_was_asked_for_by_a_wrong_one_is_read_again() {
    let mut held = Held::new(SavedAgent::default());
    held.tell(Input::Policy(rules(24)));
    let before = readings(&held).len();
    held.ahead = hours(48);
    let date = |held: &Held| Some(now(held.at).wall);
    let reply = |held: &Held| Reply { result: held.me().result, date: date(held) };
    held.tell(Input::Me { reply: reply(&held), changed: false });
    held.tell(Input::Policy(rules(1)));
    let number = readings(&held).last().unwrap().0;
    held.tell(Input::Restored { number, saved: nothing() });
    held.ahead = hours(0);
    held.tell(Input::Me { reply: reply(&held), changed: false });
    held.lists_after(MINUTES, &[ann("r1")]);
    assert_eq!(readings(&held).len(), before + 2, "an hour before the day after tomorrow says nothing about today");
    let number = readings(&held).last().unwrap().0;
    held.tell(Input::Restored { number, saved: nothing() });
    assert!(let_in(&held, "r1"), "{:?}", held.recorded);
}

/// Lets ann in unless she was rejected within the hour, but one of hers an hour.
fn one_an_hour() -> Option<Arc<Policy>> {
    let mut policy = Arc::into_inner(rules(1).unwrap()).unwrap();
    policy.approvals_max = Some(Quota { count: 1, per: hours(1) });
    policy.hash = PolicyHash::new(&"1a".repeat(32));
    Some(Arc::new(policy))
}

/// The ledger's reply: this request was approved, or is about to be.
fn approved(held: &Held, id: &str) -> Option<Box<SavedState>> {
    let row = ApprovalRow { request: RequestId::parse(id).unwrap(), at: now(held.at).wall, open: true };
    Some(Box::new(SavedState { approvals: vec![row], paused: Some(a_pause()), ..*nothing().unwrap() }))
}

#[test]
fn a_resume_while_the_record_is_read_is_not_undone_by_what_it_said_before() {
    let mut held = asked_by_ann();
    held.tell(Input::Op { token: 1, op: PersonCommand::Pause, person: "bob".into() });
    held.tell(Input::Policy(one_an_hour()));
    let [(first, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Op { token: 2, op: PersonCommand::Resume, person: "bob".into() });
    held.tell(Input::Restored { number: first, saved: approved(&held, "r0") });
    let [_, (second, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    held.tell(Input::Restored { number: second, saved: nothing() });
    assert!(let_in(&held, "r1"), "{:?}", held.recorded);
}

#[test]
fn what_was_given_back_while_the_record_is_read_counts_when_it_is_taken_again() {
    let mut held = Held::new(SavedAgent::default());
    held.tell(Input::Policy(rules(1)));
    let number = readings(&held)[0].0;
    held.tell(Input::Restored { number, saved: nothing() });
    held.lists_after(MINUTES, &[ann("r1")]);
    held.tell(Input::Policy(one_an_hour()));
    let [_, (number, _)] = readings(&held)[..] else { panic!("{:?}", readings(&held)) };
    // The platform does not allow it; but the record was read a moment before.
    let error = CallError { fault: CallFault::Forbidden, code: None, message: None, retry_after: None };
    let request = RequestId::parse("r1").unwrap();
    let reply = Reply { result: Err(error), date: None };
    held.tell(Input::Responded { request, attempt: 1, reply, written: now(held.at).mono });
    let saved = approved(&held, "r1").map(|saved| Box::new(SavedState { paused: None, ..*saved }));
    held.tell(Input::Restored { number, saved });
    held.lists_after(MINUTES, &[ann("r1"), ann("r2")]);
    assert!(let_in(&held, "r2"), "nobody was let in within the hour");
}
