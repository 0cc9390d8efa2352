//! Deciders: when they are asked, when again, and that their failures change nothing.

use std::sync::Arc;

use super::*;
use crate::model::{RequestId, StrangerText};
use crate::policy::ask::{AskFailure, AskFault, DeciderWord};
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

fn asking(text: &str) -> Held {
    let mut held = Held::new(SavedAgent::default());
    held.tell(Input::Policy(Some(rules(text))));
    held
}

/// All questions so far, oldest first.
fn questions(held: &Held) -> Vec<(RequestId, Question)> {
    let asked = held.asked.iter().filter_map(|action| match action {
        Action::Ask { request, question, .. } => Some((request.id.clone(), question.clone())),
        _ => None,
    });
    asked.collect()
}

impl Held {
    fn says(&mut self, (request, question): (RequestId, Question), result: Result<Verdict, AskFailure>) {
        let result = result.map(|verdict| DeciderWord { verdict, reason: None });
        self.tell(Input::Told { request, question, result, took: Duration::from_millis(1) });
        self.wait(Duration::ZERO);
    }
}

fn failed(fault: AskFault) -> Result<Verdict, AskFailure> {
    Err(AskFailure { fault, again: None })
}

fn stands(held: &Held, id: &str) -> (Option<Verdict>, String) {
    let pending = held.core.pending();
    let row = pending.iter().find(|row| row.request.id.as_str() == id).unwrap();
    (row.verdict, row.by.as_ref().map_or(String::new(), By::to_string))
}

fn waits(held: &Held, id: &str) -> bool {
    stands(held, id) == (Some(Verdict::Defer), "unsure".to_owned())
}

#[test]
fn a_word_is_recorded_before_what_it_decides() {
    let mut held = asking(RULES);
    held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    let [question] = questions(&held).try_into().unwrap();
    assert!(waits(&held, "a"));
    held.says(question, Ok(Verdict::Reject));
    let place = |fits: fn(&Record) -> bool| held.recorded.iter().position(fits).unwrap();
    let told = place(|entry| matches!(entry, Record::Told { .. }));
    let intent = place(|entry| matches!(entry, Record::Intent { answer: Answer::Reject, by: By::Ask(_), .. }));
    assert!(told < intent);
    held.wait(24 * 60 * MINUTES);
    assert_eq!(questions(&held).len(), 1, "what was said is not asked for again");
}

#[test]
fn no_failure_decides_and_the_question_is_asked_again_ever_more_seldom() {
    for fault in [AskFault::Slow, AskFault::Status(500), AskFault::TooLarge, AskFault::Unreadable, AskFault::WrongId] {
        let mut held = asking(RULES);
        held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
        for n in 1..=5 {
            let all = questions(&held);
            assert_eq!(all.len(), n, "{fault:?}");
            held.says(all.last().unwrap().clone(), failed(fault));
            assert!(waits(&held, "a") && held.intents() == 0);
            assert_eq!(questions(&held).len(), n, "not at once");
            held.wait(16 * MINUTES);
        }
        held.wait(24 * 60 * MINUTES);
        assert_eq!(questions(&held).len(), 5, "not for ever");
        let told = held.told.iter().filter(|notice| matches!(notice, Notice::DeciderFailed { .. })).count();
        assert_eq!(told, 1);
        assert!(held.core.status().remarks.iter().any(|remark| remark.contains("screen gives no word")));
        // The decider is back: its missing verdicts are asked for again.
        held.lists_after(MINUTES, &[of("a", "ann", "hello"), of("b", "bob", "hello")]);
        let all = questions(&held);
        assert_eq!(all.last().unwrap().0.as_str(), "b");
        held.says(all.last().unwrap().clone(), Ok(Verdict::Defer));
        assert!(held.told.iter().any(|notice| matches!(notice, Notice::DeciderRecovered { .. })));
        assert_eq!(questions(&held).last().unwrap().0.as_str(), "a");
        assert!(held.core.status().deciders_failing.is_empty());
    }
}

#[test]
fn a_decider_that_is_down_for_a_night_is_asked_about_all_of_it_in_the_morning() {
    let mut held = asking(RULES);
    held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    for n in 1..=60 {
        let all = questions(&held);
        assert_eq!(all.len(), n, "within a quarter of an hour");
        held.says(all.last().unwrap().clone(), failed(AskFault::Unreachable));
        held.wait(16 * MINUTES);
    }
    held.says(questions(&held).last().unwrap().clone(), Ok(Verdict::Reject));
    assert_eq!(held.intents(), 1);
}

#[test]
fn many_that_fail_together_count_once() {
    let mut held = asking(RULES);
    let page: Vec<_> = (0..30).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    held.lists_after(MINUTES, &page);
    let all = questions(&held);
    assert_eq!(all.len(), 30);
    let took = Duration::from_secs(1);
    held.wait(took);
    for (request, question) in all {
        let result = Err(AskFailure { fault: AskFault::Unreachable, again: None });
        held.tell(Input::Told { request, question, result, took });
    }
    assert!(!held.told.iter().any(|notice| matches!(notice, Notice::DeciderFailed { .. })));
    held.wait(Duration::from_secs(6));
    assert_eq!(questions(&held).len(), 31, "a short while later one question tries whether it is back");
    held.says(questions(&held).last().unwrap().clone(), Ok(Verdict::Defer));
    held.wait(Duration::from_secs(1));
    assert_eq!(questions(&held).len(), 60, "and then all are asked about again");
}

#[test]
fn a_decider_that_is_silent_is_told_soon_and_asked_soon_when_it_is_back() {
    let told = |held: &Held| {
        let failures = held.told.iter().filter_map(|notice| match notice {
            Notice::DeciderFailed { failures, .. } => Some(*failures),
            _ => None,
        });
        failures.collect::<Vec<_>>()
    };
    // Many that fail at once are no news by themselves; each is counted.
    let mut held = asking(RULES);
    let page: Vec<_> = (0..30).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    held.lists_after(MINUTES, &page);
    for (request, question) in questions(&held) {
        held.tell(Input::Told { request, question, result: lost(), took: Duration::from_millis(1) });
    }
    let (mut asked, began) = (30, held.at);
    assert_eq!(told(&held), [0; 0]);
    while told(&held).is_empty() {
        held.wait(Duration::from_secs(1));
        if let Some(next) = questions(&held).get(asked).cloned() {
            asked += 1;
            held.tell(Input::Told {
                request: next.0,
                question: next.1,
                result: lost(),
                took: Duration::from_millis(1),
            });
        }
    }
    let silent = held.at - began;
    assert!((Duration::from_secs(20)..Duration::from_secs(45)).contains(&silent), "{silent:?}");
    let failures = told(&held)[0];
    assert_eq!(failures as usize, asked, "all that failed");
    assert_eq!(held.core.counters()["deciders_failed"] as usize, asked, "as the counter has it");
    // After a night it is asked within a minute, and of all.
    for _ in 0..600 {
        let next = questions(&held).last().unwrap().clone();
        if questions(&held).len() > asked {
            asked += 1;
            held.tell(Input::Told {
                request: next.0,
                question: next.1,
                result: lost(),
                took: Duration::from_millis(1),
            });
        }
        held.wait(MINUTES);
    }
    assert!(questions(&held).len() > asked, "within a minute");
    held.says(questions(&held).last().unwrap().clone(), Ok(Verdict::Defer));
    held.wait(Duration::from_secs(1));
    assert_eq!(questions(&held).len(), asked + 30, "whoever waits is asked about at once");
}

fn lost<T>() -> Result<T, AskFailure> {
    Err(AskFailure { fault: AskFault::Unreachable, again: None })
}

#[test]
fn what_was_asked_too_often_waits_for_its_time_and_is_no_failure() {
    let mut held = asking(RULES);
    held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    for n in 1..=7 {
        let spent = AskFailure { fault: AskFault::Spent, again: Some(20 * MINUTES) };
        held.says(questions(&held).last().unwrap().clone(), Err(spent));
        held.wait(19 * MINUTES);
        assert_eq!(questions(&held).len(), n);
        held.wait(2 * MINUTES);
        assert_eq!(questions(&held).len(), n + 1);
    }
    let told = held.told.iter().filter(|notice| matches!(notice, Notice::DeciderFailed { .. })).count();
    assert_eq!(told, 3, "once an hour");
    assert!(held.core.status().deciders_failing.is_empty());
}

#[test]
fn a_word_to_another_question_does_nothing() {
    let mut held = asking(RULES);
    held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    let old = questions(&held).last().unwrap().clone();
    // The text changed while the question was out, and then the rule.
    held.lists_after(MINUTES, &[of("a", "ann", "good evening")]);
    assert_eq!(
        held.core.ask_due(held.now()),
        None,
        "it is asked about once the old question has come back, and not before"
    );
    held.says(old, Ok(Verdict::Reject));
    assert!(waits(&held, "a") && held.intents() == 0);
    let old = questions(&held).last().unwrap().clone();
    assert_eq!(questions(&held).len(), 2);
    held.tell(Input::Policy(Some(rules(&RULES.replace("kind = \"user\"", "owner = \"ann\"")))));
    held.says(old, Ok(Verdict::Reject));
    assert!(waits(&held, "a") && held.intents() == 0);
    assert_eq!(questions(&held).len(), 3);
    // The decider is removed from the configuration while a question to it is in flight.
    let old = questions(&held).last().unwrap().clone();
    held.tell(Input::Policy(Some(rules(
        "version = 1\n[rules.unsure]\nthen = \"defer\"\nwhen = { kind = \"user\" }\n",
    ))));
    held.says(old, Ok(Verdict::Reject));
    held.wait(60 * MINUTES);
    assert!(waits(&held, "a") && held.intents() == 0);
    assert_eq!(questions(&held).len(), 3);
}

#[test]
fn no_more_are_out_at_once_than_may_be_and_all_have_their_turn() {
    let mut held = asking(RULES);
    let page: Vec<_> = (0..90).map(|n| of(&format!("r{n}"), &format!("user{n}"), "hello")).collect();
    held.lists_after(MINUTES, &page);
    let mut said = 0;
    while let Some(next) = questions(&held).get(said).cloned() {
        assert!(questions(&held).len() - said <= 32);
        held.says(next, Ok(Verdict::Defer));
        held.wait(Duration::from_secs(1));
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
    let mut held = asking(RULES);
    held.ahead = jiff::SignedDuration::from_hours(3);
    held.lists_after(MINUTES, &[of("a", "ann", "hello")]);
    held.core.watch_date(Some(now(held.at).wall), held.now());
    held.wait(MINUTES);
    assert!(!held.core.clock.sound());
    for question in questions(&held) {
        held.says(question, Ok(Verdict::Reject));
    }
    held.wait(MINUTES);
    assert_eq!(held.intents(), 0);
    held.ahead = jiff::SignedDuration::ZERO;
    held.core.watch_date(Some(now(held.at).wall), held.now());
    held.wait(MINUTES);
    assert_eq!(held.intents(), 1, "what was said counts once the clock is right");
}
