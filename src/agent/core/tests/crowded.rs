//! Many requests that wait for a person, and one that a rule answers.

use std::sync::Arc;

use super::*;
use crate::model::StrangerText;
use crate::policy::testkit::{approve, by_handle, policy};

fn of(id: &str, handle: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(handle)), ..request(id) }
}

fn with_friends() -> CoreHarness {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(Some(Arc::new(policy(vec![approve("friends", by_handle(&["ann", "bob"]))])))));
    harness
}

fn intended(harness: &CoreHarness) -> Vec<&str> {
    let intents = harness.recorded.iter().map(|entry| match entry {
        Record::Intent { request, .. } => Some(request.as_str()),
        _ => None,
    });
    intents.flatten().collect()
}

fn remarked(harness: &CoreHarness) -> bool {
    harness.core.status().remarks.iter().any(|remark| remark.contains("there is no room for more requests"))
}

#[test]
fn whom_a_rule_answers_is_let_in_however_many_wait() {
    let mut harness = with_friends();
    // More than fit, and the friends behind them on the page.
    let mut page: Vec<_> = (0..250).map(|n| of(&format!("s{n}"), &format!("stranger{n}"))).collect();
    page.extend([of("r-ann", "ann"), of("r-bob", "bob")]);
    harness.lists_after(MINUTES, &page);
    assert_eq!(intended(&harness), ["r-ann", "r-bob"]);
    let seen = harness.recorded.iter().filter(|entry| matches!(entry, Record::Seen { .. })).count();
    assert_eq!((seen, harness.core.pending().len()), (102, 102), "no stranger on top of the bound");
    assert!(remarked(&harness), "{:?}", harness.core.status().remarks);
}

#[test]
fn a_rule_that_may_not_answer_lets_nobody_in_on_top() {
    let page: Vec<_> = (0..100).map(|n| of(&format!("s{n}"), "stranger")).chain([of("r-ann", "ann")]).collect();
    for blocked in [true, false] {
        let mut harness = with_friends();
        harness.core.ledger_ok = !blocked;
        harness.lists_after(MINUTES, &page);
        assert_eq!(harness.core.pending().len(), if blocked { 100 } else { 101 });
    }
}

#[test]
fn what_strangers_write_has_a_bound_in_bytes() {
    let mut harness = with_friends();
    harness.core.inbox.set_text_bytes_max(10_000);
    let says = |id: &str, handle: &str, bytes: usize| {
        let message = Some(StrangerText::new(&"x".repeat(bytes)));
        ContactRequest { message, ..of(id, handle) }
    };
    let mut page: Vec<_> = (0..9).map(|n| says(&format!("l{n}"), "stranger", 2_000)).collect();
    page.extend((0..9).map(|n| says(&format!("s{n}"), "stranger", 100)));
    page.push(says("r-ann", "ann", 30_000));
    harness.lists_after(MINUTES, &page);
    let here = |harness: &CoreHarness, beginning: &str| {
        harness.core.pending().iter().filter(|one| one.request.id.as_str().starts_with(beginning)).count()
    };
    assert_eq!((here(&harness, "l"), here(&harness, "s"), here(&harness, "r-ann")), (5, 9, 1));
    assert_eq!(intended(&harness), ["r-ann"]);
    assert!(remarked(&harness));
    // Known requests now have longer texts: these are cut, and the missing part is unknown.
    let page: Vec<_> = (0..9).map(|n| says(&format!("s{n}"), "stranger", 20_000)).collect();
    harness.lists_after(5 * MINUTES, &page);
    let pending = harness.core.pending();
    let texts = pending.iter().filter(|one| one.request.id.as_str().starts_with('s'));
    assert!(texts.flat_map(|one| &one.request.message).all(|text| text.is_cut() && text.raw().len() <= 512));
    assert!(harness.core.inbox.text_bytes() < 10_000 + 30_000 + 9 * 1_024, "{}", harness.core.inbox.text_bytes());
}
