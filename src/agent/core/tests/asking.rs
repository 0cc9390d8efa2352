//! Deciders: when they are asked, when again, and that their failures change nothing.

use std::sync::Arc;

use super::*;
use crate::model::{RequestId, StrangerText};
use crate::policy::ask::{AskFailure, AskFault, DeciderReply};
use crate::policy::rules::SourceText;
use crate::policy::{By, Policy, Question};

const RULES: &str = "version = 1
[rules.unsure]
then = \"defer\"
when = { kind = \"user\" }
ask = \"screen\"
may = [\"reject\"]
";

fn rules(text: &str) -> Arc<Policy> {
    let texts = [SourceText { name: "rules.toml".into(), text: text.into() }];
    let loaded = crate::policy::load_texts(std::path::Path::new("rules.toml"), &texts);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
}

fn of(id: &str, handle: &str, message: &str) -> ContactRequest {
    let message = Some(StrangerText::new(message));
    ContactRequest { sender: Sender::parse(Some(handle)), message, ..request(id) }
}

fn asking(text: &str) -> CoreHarness {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(Some(rules(text))));
    harness
}

/// All questions so far, oldest first.
fn questions(harness: &CoreHarness) -> Vec<(RequestId, Question)> {
    let asked = harness.actions.iter().filter_map(|action| match action {
        Action::Ask { request, question, .. } => Some((request.id.clone(), question.clone())),
        _ => None,
    });
    asked.collect()
}

impl CoreHarness {
    fn says(&mut self, (request, question): (RequestId, Question), result: Result<Verdict, AskFailure>) {
        let result = result.map(|verdict| DeciderReply { verdict, reason: None });
        self.input(Input::DeciderReplied { request, question, result, took: Duration::from_millis(1) });
        self.wait(Duration::ZERO);
    }
}

fn failed(fault: AskFault) -> Result<Verdict, AskFailure> {
    Err(AskFailure { fault, again: None })
}

fn stands(harness: &CoreHarness, id: &str) -> (Option<Verdict>, String) {
    let pending = harness.core.pending();
    let row = pending.iter().find(|row| row.request.id.as_str() == id).unwrap();
    (row.verdict, row.by.as_ref().map_or(String::new(), By::to_string))
}

fn waits(harness: &CoreHarness, id: &str) -> bool {
    stands(harness, id) == (Some(Verdict::Defer), "unsure".to_owned())
}

#[test]
fn a_word_is_recorded_before_what_it_decides() {
    let mut harness = asking(RULES);
    harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    let [question] = questions(&harness).try_into().unwrap();
    assert!(waits(&harness, "a"));
    harness.says(question, Ok(Verdict::Reject));
    let place = |fits: fn(&Record) -> bool| harness.recorded.iter().position(fits).unwrap();
    let replied = place(|entry| matches!(entry, Record::DeciderReplied { .. }));
    let intent = place(|entry| matches!(entry, Record::Intent { answer: Answer::Reject, by: By::Ask(_), .. }));
    assert!(replied < intent);
    harness.wait(24 * 60 * MINUTES);
    assert_eq!(questions(&harness).len(), 1, "what was said is not asked for again");
}

#[test]
fn no_failure_decides_and_the_question_is_asked_again_ever_more_seldom() {
    for fault in [AskFault::Slow, AskFault::Status(500), AskFault::TooLarge, AskFault::Unreadable, AskFault::WrongId] {
        let mut harness = asking(RULES);
        harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
        for n in 1..=5 {
            let all = questions(&harness);
            assert_eq!(all.len(), n, "{fault:?}");
            harness.says(all.last().unwrap().clone(), failed(fault));
            assert!(waits(&harness, "a") && harness.intents() == 0);
            assert_eq!(questions(&harness).len(), n, "not at once");
            harness.wait(16 * MINUTES);
        }
        harness.wait(24 * 60 * MINUTES);
        assert_eq!(questions(&harness).len(), 5, "not for ever");
        let failed = harness.notices.iter().filter(|notice| matches!(notice, Notice::DeciderFailed { .. })).count();
        assert_eq!(failed, 1);
        assert!(harness.core.status().remarks.iter().any(|remark| remark.contains("screen gives no reply")));
        // The decider is back: its missing verdicts are asked for again.
        harness.lists_after(MINUTES, &[of("a", "ann", "hello"), of("b", "bob", "hello")]);
        let all = questions(&harness);
        assert_eq!(all.last().unwrap().0.as_str(), "b");
        harness.says(all.last().unwrap().clone(), Ok(Verdict::Defer));
        assert!(harness.notices.iter().any(|notice| matches!(notice, Notice::DeciderRecovered { .. })));
        assert_eq!(questions(&harness).last().unwrap().0.as_str(), "a");
        assert!(harness.core.status().deciders_failing.is_empty());
    }
}

#[test]
fn a_decider_that_is_down_for_a_night_is_asked_about_all_of_it_in_the_morning() {
    let mut harness = asking(RULES);
    harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    for n in 1..=60 {
        let all = questions(&harness);
        assert_eq!(all.len(), n, "within a quarter of an hour");
        harness.says(all.last().unwrap().clone(), failed(AskFault::Unreachable));
        harness.wait(16 * MINUTES);
    }
    harness.says(questions(&harness).last().unwrap().clone(), Ok(Verdict::Reject));
    assert_eq!(harness.intents(), 1);
}

#[test]
fn many_that_fail_together_count_once() {
    let mut harness = asking(RULES);
    let page: Vec<_> = (0..30).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    harness.lists_after(MINUTES, &page);
    let all = questions(&harness);
    assert_eq!(all.len(), 30);
    let took = Duration::from_secs(1);
    harness.wait(took);
    for (request, question) in all {
        let result = Err(AskFailure { fault: AskFault::Unreachable, again: None });
        harness.input(Input::DeciderReplied { request, question, result, took });
    }
    assert!(!harness.notices.iter().any(|notice| matches!(notice, Notice::DeciderFailed { .. })));
    harness.wait(Duration::from_secs(6));
    assert_eq!(questions(&harness).len(), 31, "a short while later one question tries whether it is back");
    harness.says(questions(&harness).last().unwrap().clone(), Ok(Verdict::Defer));
    harness.wait(Duration::from_secs(1));
    assert_eq!(questions(&harness).len(), 60, "and then all are asked about again");
}

#[test]
fn a_decider_that_is_silent_is_reported_soon_and_asked_soon_when_it_is_back() {
    let failed = |harness: &CoreHarness| {
        let failures = harness.notices.iter().filter_map(|notice| match notice {
            Notice::DeciderFailed { failures, .. } => Some(*failures),
            _ => None,
        });
        failures.collect::<Vec<_>>()
    };
    // Many that fail at once are no news by themselves; each is counted.
    let mut harness = asking(RULES);
    let page: Vec<_> = (0..30).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    harness.lists_after(MINUTES, &page);
    for (request, question) in questions(&harness) {
        harness.input(Input::DeciderReplied { request, question, result: lost(), took: Duration::from_millis(1) });
    }
    let (mut asked, began) = (30, harness.at);
    assert_eq!(failed(&harness), [0; 0]);
    while failed(&harness).is_empty() {
        harness.wait(Duration::from_secs(1));
        if let Some(next) = questions(&harness).get(asked).cloned() {
            asked += 1;
            harness.input(Input::DeciderReplied {
                request: next.0,
                question: next.1,
                result: lost(),
                took: Duration::from_millis(1),
            });
        }
    }
    let silent = harness.at - began;
    assert!((Duration::from_secs(20)..Duration::from_secs(45)).contains(&silent), "{silent:?}");
    let failures = failed(&harness)[0];
    assert_eq!(failures as usize, asked, "all that failed");
    assert_eq!(harness.core.counters()["deciders_failed"] as usize, asked, "as the counter has it");
    // After a night it is asked within a minute, and of all.
    for _ in 0..600 {
        let next = questions(&harness).last().unwrap().clone();
        if questions(&harness).len() > asked {
            asked += 1;
            harness.input(Input::DeciderReplied {
                request: next.0,
                question: next.1,
                result: lost(),
                took: Duration::from_millis(1),
            });
        }
        harness.wait(MINUTES);
    }
    assert!(questions(&harness).len() > asked, "within a minute");
    harness.says(questions(&harness).last().unwrap().clone(), Ok(Verdict::Defer));
    harness.wait(Duration::from_secs(1));
    assert_eq!(questions(&harness).len(), asked + 30, "whoever waits is asked about at once");
}

fn lost<T>() -> Result<T, AskFailure> {
    Err(AskFailure { fault: AskFault::Unreachable, again: None })
}

#[test]
fn what_was_asked_too_often_waits_for_its_time_and_is_no_failure() {
    let mut harness = asking(RULES);
    harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    for n in 1..=7 {
        let spent = AskFailure { fault: AskFault::Spent, again: Some(20 * MINUTES) };
        harness.says(questions(&harness).last().unwrap().clone(), Err(spent));
        harness.wait(19 * MINUTES);
        assert_eq!(questions(&harness).len(), n);
        harness.wait(2 * MINUTES);
        assert_eq!(questions(&harness).len(), n + 1);
    }
    let failed = harness.notices.iter().filter(|notice| matches!(notice, Notice::DeciderFailed { .. })).count();
    assert_eq!(failed, 3, "once an hour");
    assert!(harness.core.status().deciders_failing.is_empty());
}

#[test]
fn a_word_to_another_question_does_nothing() {
    let mut harness = asking(RULES);
    harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    let old = questions(&harness).last().unwrap().clone();
    // The text changed while the question was out, and then the rule.
    harness.lists_after(MINUTES, &[of("a", "ann", "good evening")]);
    assert_eq!(
        harness.core.ask_due(harness.now()),
        None,
        "it is asked about once the old question has come back, and not before"
    );
    harness.says(old, Ok(Verdict::Reject));
    assert!(waits(&harness, "a") && harness.intents() == 0);
    let old = questions(&harness).last().unwrap().clone();
    assert_eq!(questions(&harness).len(), 2);
    harness.input(Input::Policy(Some(rules(&RULES.replace("kind = \"user\"", "owner = \"ann\"")))));
    harness.says(old, Ok(Verdict::Reject));
    assert!(waits(&harness, "a") && harness.intents() == 0);
    assert_eq!(questions(&harness).len(), 3);
    // The decider is removed from the configuration while a question to it is in flight.
    let old = questions(&harness).last().unwrap().clone();
    harness.input(Input::Policy(Some(rules(
        "version = 1\n[rules.unsure]\nthen = \"defer\"\nwhen = { kind = \"user\" }\n",
    ))));
    harness.says(old, Ok(Verdict::Reject));
    harness.wait(60 * MINUTES);
    assert!(waits(&harness, "a") && harness.intents() == 0);
    assert_eq!(questions(&harness).len(), 3);
}

#[test]
fn no_more_are_out_at_once_than_may_be_and_all_have_their_turn() {
    let mut harness = asking(RULES);
    let page: Vec<_> = (0..90).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    harness.lists_after(MINUTES, &page);
    let mut said = 0;
    while let Some(next) = questions(&harness).get(said).cloned() {
        assert!(questions(&harness).len() - said <= 32);
        harness.says(next, Ok(Verdict::Defer));
        harness.wait(Duration::from_secs(1));
        said += 1;
    }
    assert_eq!(said, 90);
}

#[test]
fn whoever_found_no_room_to_wait_is_asked_about_later() {
    let mut gate = crate::agent::core::asking::DeciderState::default();
    for n in 0..=1_000 {
        gate.wait(&RequestId::parse(&format!("r{n}")).unwrap());
    }
    assert_eq!(gate.waiting_and_more(), (1_000, true));
}

#[test]
fn a_word_waits_for_a_clock_that_can_be_believed() {
    let mut harness = asking(RULES);
    harness.ahead = jiff::SignedDuration::from_hours(3);
    harness.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    harness.core.watch_date(Some(now(harness.at).wall), harness.now());
    harness.wait(MINUTES);
    assert!(!harness.core.clock.sound());
    for question in questions(&harness) {
        harness.says(question, Ok(Verdict::Reject));
    }
    harness.wait(MINUTES);
    assert_eq!(harness.intents(), 0);
    harness.ahead = jiff::SignedDuration::ZERO;
    harness.core.watch_date(Some(now(harness.at).wall), harness.now());
    harness.wait(MINUTES);
    assert_eq!(harness.intents(), 1, "what was said counts once the clock is right");
}
