//! Expensive rules: a step decides few requests, so that all other work gets its turn, and in the end everybody is
//! answered.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::model::StrangerText;
use crate::policy::rules::Policy;

/// As many as fit into the inbox of these tests.
const ASK: usize = 100;

/// Forty regular expressions that make a search slow, in one reject rule.
fn heavy() -> Arc<Policy> {
    let patterns: Vec<String> = (0..40).map(|n| format!("'[ab]{{30}}c[ab]{{{}}}x'", 60 + n)).collect();
    let text = format!(
        "version = 1\n[policy]\nmode = \"enforce\"\n[rules.spam]\nthen = \"reject\"\nwhen = {{ message_regex = [{}] }}\n",
        patterns.join(", ")
    );
    let texts = [crate::policy::rules::SourceText { name: "rules.toml".to_owned(), text: text.into() }];
    let loaded = crate::policy::load_texts(Path::new("rules.toml"), &texts);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
}

fn asks(n: usize) -> ContactRequest {
    let message = "ab".repeat(250);
    let sender = Sender::parse(Some(&format!("stranger{n}")));
    ContactRequest { sender, message: Some(StrangerText::new(&message)), ..request(&format!("r{n}")) }
}

#[test]
fn a_step_is_bounded_by_what_decisions_cost_and_all_are_decided_in_the_end() {
    let policy = heavy();
    let most = usize::try_from(25_000_000 / policy.steps).unwrap().max(1);
    assert!(most < 10, "it is heavy: {} steps", policy.steps);
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.input(Input::Policy(Some(policy)));
    let all: Vec<ContactRequest> = (0..ASK).map(asks).collect();
    harness.lists_after(MINUTES, &all);
    let decided =
        |harness: &CoreHarness| harness.recorded.iter().filter(|entry| matches!(entry, Record::Decided { .. })).count();
    let mut turns = 0;
    while decided(&harness) < ASK {
        let before = decided(&harness);
        harness.wait(Duration::from_millis(1));
        let this = decided(&harness) - before;
        // A turn handles one input of its own and one for each recorded batch.
        assert!(this <= 3 * most, "{this} decisions in a turn, where {most} are allowed");
        turns += 1;
        assert!(turns < 2_000, "{} of {ASK} decided", decided(&harness));
    }
}

#[test]
fn a_step_that_took_long_makes_the_next_one_smaller() {
    let at = |ms: u64| Mono::from_origin(Duration::from_millis(ms));
    let mut pace = super::super::deciding::DecidingPace::default();
    assert_eq!(pace.step(0), 128);
    pace.full(128, at(0));
    pace.measure(at(150));
    assert_eq!(pace.step(0), 64);
    for n in 0..10 {
        pace.full(64, at(1_000 * n));
        pace.measure(at(1_000 * n + 900));
    }
    assert_eq!(pace.step(0), 1, "never none");
    for n in 0..10 {
        pace.full(1, at(100_000 + n));
        pace.measure(at(100_000 + n));
    }
    assert_eq!((pace.step(0), pace.step(1_000_000), pace.step(u64::MAX)), (128, 25, 1));
}
