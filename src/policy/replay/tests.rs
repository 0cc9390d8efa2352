//! The past under other rules.

use jiff::SignedDuration;

use super::*;
use crate::policy::Policy;
use crate::policy::rules::{LimitBy, OverdueThen, Quota, When};
use crate::policy::testkit::*;

/// One request, seen this many minutes after noon, with its record.
fn recorded(which: &str, from: &str, minute: i64, verdict: Verdict, by: &str) -> Recorded {
    let first_seen = noon() + minutes(minute);
    let answered = (verdict != Verdict::Defer).then_some(first_seen);
    Recorded {
        request: ContactRequest { inserted_at: Some(first_seen), ..request(which, from) },
        circumstances: Circumstances { first_seen, ..sound() },
        verdict: Some(verdict),
        by: By::parse(by),
        answered_at: answered,
        outcome: verdict.answer().map(Outcome::Confirmed),
        lasts: None,
        replies: Vec::new(),
        ended: answered.filter(|_| by.starts_with("person:")),
    }
}

fn run(policy: &Policy, past: &[Recorded], later: SignedDuration) -> Vec<String> {
    let found = replay(policy, &ReceivingAgent::default(), past, noon() + later, |_| {});
    let said = |said: &GivenVerdict| {
        let end = said.for_s.map(|seconds| format!(" for {} h", seconds / 3_600)).unwrap_or_default();
        format!("{} by {}{end}", said.verdict, said.by.as_ref().map_or("-".to_owned(), ToString::to_string))
    };
    found.changes.iter().map(|one| format!("{}: {} → {}", one.request, said(&one.was), said(&one.now))).collect()
}

#[test]
fn what_would_change_is_listed_with_new_approvals_first() {
    let past = [
        recorded("1", "ann", 0, Verdict::Approve, "friends"),
        recorded("2", "bob", 1, Verdict::Defer, "no_match"),
        recorded("3", "eve", 2, Verdict::Approve, "friends"),
        recorded("4", "joe", 3, Verdict::Defer, "no_match"),
        recorded("5", "kim", 4, Verdict::Approve, "old-name"),
    ];
    let new = policy(vec![
        approve("friends", by_owner(&["ann", "joe"])),
        approve("new-name", by_owner(&["kim"])),
        reject("bad", by_owner(&["eve"])),
    ]);
    let wanted = ["4: defer by no_match → approve by friends", "3: approve by friends → reject by bad"];
    assert_eq!(run(&new, &past, hours(1)), wanted, "another name for the same verdict is no change");
    let mut looks = Vec::new();
    replay(&new, &ReceivingAgent::default(), &past, noon() + hours(1), |look| looks.push(look));
    assert_eq!(looks, [1, 2, 3, 4, 5]);
}

#[test]
fn limits_and_windows_are_those_of_the_recorded_times() {
    let past: Vec<_> = [0, 10, 20, 70]
        .into_iter()
        .map(|minute| recorded(&format!("m{minute}"), "ann", minute, Verdict::Approve, "all"))
        .collect();
    let limited = policy(vec![approve("all", When::Everyone).limit(2, hours(1), LimitBy::Owner)]);
    assert_eq!(run(&limited, &past, minutes(21)), ["m20: approve by all → defer by limit:all"]);
    assert_eq!(run(&limited, &past, hours(9)).len(), 0, "a place gets free in time, for the oldest first");
    let evening = policy(vec![approve("all", window(&WORKDAYS, "18:00", "20:00"))]);
    assert_eq!(run(&evening, &past, hours(4)).len(), 4, "17:00 in Paris");
    assert_eq!(run(&evening, &past, hours(5)).len(), 0, "18:00");
}

#[test]
fn waits_and_overdue_take_their_time() {
    let past =
        [recorded("1", "ann", 0, Verdict::Defer, "no_match"), recorded("2", "bob", 0, Verdict::Defer, "no_match")];
    let mut new = policy(vec![approve("ann", by_owner(&["ann"])).wait(hours(2))]);
    new.overdue = vec![overdue("close", hours(24), OverdueThen::Reject)];
    let waiting = "1: defer by no_match → approve by ann";
    assert_eq!(run(&new, &past, hours(1)), [waiting], "what waits is approved in the end");
    assert_eq!(run(&new, &past, hours(24)), [waiting, "2: defer by no_match → reject by overdue:close"]);
}

#[test]
fn what_a_person_answered_is_pending_no_longer_than_it_was() {
    let mut by_person = recorded("1", "ann", 0, Verdict::Approve, "person:eve");
    by_person.answered_at = Some(noon() + hours(1));
    by_person.ended = by_person.answered_at;
    let past = [by_person];
    let mut late = policy(vec![]);
    late.overdue = vec![overdue("close", hours(2), OverdueThen::Reject)];
    assert_eq!(run(&late, &past, hours(9)).len(), 0, "the person came first");
    let early = policy(vec![reject("no", When::Everyone)]);
    assert_eq!(run(&early, &past, hours(9)), ["1: approve by person:eve → reject by no"]);
    let before = policy(vec![approve(
        "known",
        crate::policy::conditions::HistoryCondition { approved_before: Some(true), ..Default::default() },
    )]);
    let again = [past[0].clone(), recorded("2", "ann/bot", 90, Verdict::Defer, "no_match")];
    assert_eq!(run(&before, &again, hours(9)), ["2: defer by no_match → approve by known"], "and is remembered");
    let guest = [Recorded { lasts: Some(hours(1)), ..past[0].clone() }, again[1].clone()];
    assert!(run(&before, &guest, hours(9)).is_empty(), "a guest's end came: whoever was one is not known for it");
}

#[test]
fn guests_of_a_rule_are_known_for_nothing() {
    let known = crate::policy::conditions::HistoryCondition { approved_before: Some(true), ..Default::default() };
    let rules = |lasts: Option<SignedDuration>| {
        let first = approve("first", by_handle(&["ann"]));
        let first = lasts.into_iter().fold(first, crate::policy::rules::Rule::lasts);
        policy(vec![first, approve("known", known.clone())])
    };
    let mut past =
        [recorded("1", "ann", 0, Verdict::Approve, "first"), recorded("2", "ann/bot", 90, Verdict::Defer, "no_match")];
    assert_eq!(run(&rules(None), &past, hours(9)), ["2: defer by no_match → approve by known"]);
    let now_a_guest = "1: approve by first → approve by first for 1 h";
    assert_eq!(run(&rules(Some(hours(1))), &past, hours(9)), [now_a_guest], "another end is a change");
    past[0].lasts = Some(hours(1));
    assert!(run(&rules(Some(hours(1))), &past, hours(9)).is_empty());
}

#[test]
fn what_a_decider_said_then_counts_for_another_rule_that_asks_it() {
    let rules = |may: &str| {
        let text = format!(
            "version = 1\n[rules.unsure]\nthen = \"defer\"\nwhen = {{ kind = \"agent\" }}\nask = \"screen\"\n{may}"
        );
        let texts = [crate::policy::rules::SourceText { name: "rules.toml".into(), text: text.into() }];
        crate::policy::load_texts(std::path::Path::new("rules.toml"), &texts).policy.unwrap()
    };
    let mut asked = recorded("1", "ann/bot", 0, Verdict::Defer, "unsure");
    let question = rules("").decide(&asked.request, &sound(), &PolicyState::default(), noon()).asks.unwrap();
    let word =
        |verdict| DeciderVerdict { decider: name("screen"), key: Some(question.key.clone()), verdict, reason: None };
    asked.replies = vec![(noon() + minutes(1), word(Verdict::Reject))];
    let past = [asked];
    assert!(run(&rules(""), &past, hours(1)).is_empty());
    assert_eq!(run(&rules("may = [\"reject\"]\n"), &past, hours(1)), ["1: defer by unsure → reject by ask:unsure"]);
    // Of several words, the newest counts.
    let changed = [Recorded {
        replies: vec![past[0].replies[0].clone(), (noon() + minutes(1), word(Verdict::Defer))],
        ..past[0].clone()
    }];
    assert!(run(&rules("may = [\"reject\"]\n"), &changed, hours(1)).is_empty());
}

#[test]
fn a_pause_is_counted_and_resumed() {
    let past: Vec<_> =
        (0..5).map(|minute| recorded(&format!("m{minute}"), "ann", minute, Verdict::Approve, "all")).collect();
    let mut counted = policy(vec![approve("all", When::Everyone)]);
    counted.approvals_max = Some(Quota { count: 2, per: hours(1) });
    let found = replay(&counted, &ReceivingAgent::default(), &past, noon() + hours(1), |_| {});
    assert_eq!((found.changes.len(), found.pauses), (0, 2));
}

#[test]
fn a_policy_that_goes_round_for_ever_comes_to_an_end() {
    let past = [recorded("1", "ann", 0, Verdict::Defer, "no_match")];
    let flapping = policy(vec![defer("office", window(&WORKDAYS, "08:00", "18:00"))]);
    assert_eq!(run(&flapping, &past, hours(24 * 365 * 20)).len(), 0);
}
