//! The owner of the key is verified before anything is read or sent with it.

use super::*;

fn asked(harness: &CoreHarness, what: impl Fn(&Action) -> bool) -> usize {
    harness.actions.iter().filter(|action| what(action)).count()
}

fn lists(harness: &CoreHarness) -> usize {
    asked(harness, |action| matches!(action, Action::Page(_) | Action::Contacts { .. }))
}

fn questions(harness: &CoreHarness) -> usize {
    asked(harness, |action| matches!(action, Action::Me))
}

#[test]
fn nothing_is_listed_before_the_key_is_known_to_be_ours_and_that_is_asked_again_and_again() {
    let mut harness = CoreHarness::with_key_of(SavedAgent::default(), None);
    for _ in 0..600 {
        harness.wait(Duration::from_secs(1));
    }
    assert_eq!(lists(&harness), 0);
    assert!((20..600).contains(&questions(&harness)), "{}", questions(&harness));
    let due = harness.core.deadline(now(harness.at)).unwrap();
    assert!(due <= now(harness.at + Duration::from_secs(31)).mono, "somebody comes back to ask");
    harness.whose = Some(AGENT);
    harness.wait(MINUTES);
    assert!(lists(&harness) > 0);
}

#[test]
fn with_a_key_of_another_agent_nothing_is_listed_at_all() {
    let mut harness = CoreHarness::with_key_of(SavedAgent::default(), Some("agent-2"));
    for _ in 0..600 {
        harness.wait(Duration::from_secs(1));
    }
    assert_eq!((lists(&harness), harness.core.state()), (0, AgentState::Refused));
}

#[test]
fn an_agents_id_in_capitals_is_the_same_id() {
    let mut harness = CoreHarness::with_key_of(SavedAgent::default(), Some("AGENT-1"));
    harness.wait(MINUTES);
    assert!(lists(&harness) > 0);
}

#[test]
fn a_new_key_is_another_agents_until_the_platform_says_otherwise() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1"]);
    harness.approve("r1", false);
    assert_eq!(harness.answers_sent(), 1);
    harness.wait(MINUTES);
    // A page of the old key's is on its way, and an answer waits for the ledger.
    let asked = harness.actions.len();
    let page = harness.actions.iter().find_map(|action| match action {
        Action::Page(fetch) => Some(*fetch),
        _ => None,
    });
    harness.whose = None;
    harness.input(Input::KeyRenewed { changed: true });
    let items = vec![request("theirs")];
    let result = Ok(Page { items, unreadable: vec![], nameless: vec![], total: Some(1), pages: Some(1) });
    harness.input(Input::Page(page.unwrap(), Reply { result, date: None }));
    harness.approve("theirs", false);
    for _ in 0..100 {
        harness.wait(Duration::from_secs(1));
    }
    let with_the_key = |action: &&Action| {
        matches!(action, Action::Page(_) | Action::Contacts { .. } | Action::Respond { .. } | Action::Connect { .. })
    };
    assert_eq!(harness.actions[asked..].iter().filter(with_the_key).count(), 0, "{:?}", &harness.actions[asked..]);
    assert!(harness.core.pending().iter().all(|row| row.request.id.as_str() != "theirs"));

    harness.whose = Some("agent-2");
    harness.wait(MINUTES);
    assert_eq!(harness.core.state(), AgentState::Refused);
    harness.whose = Some(AGENT);
    harness.input(Input::KeyRenewed { changed: true });
    harness.wait(MINUTES);
    assert!(lists(&harness) > 0);
}

#[test]
fn an_answer_that_waits_for_the_ledger_is_not_sent_with_another_key() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1"]);
    harness.stalled = true;
    harness.approve("r1", false);
    harness.whose = None;
    harness.input(Input::KeyRenewed { changed: true });
    harness.stalled = false;
    harness.input(Input::Recorded(Ok(())));
    assert_eq!((harness.intents(), harness.answers_sent()), (1, 0));
    harness.whose = Some(AGENT);
    harness.wait(MINUTES);
    assert_eq!(harness.answers_sent(), 1, "it is ours after all");
}

#[test]
fn a_new_key_that_is_found_when_somebody_asks_is_as_unknown() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &[]);
    let before = lists(&harness);
    let error = CallError { fault: CallFault::Unreachable, code: None, message: None, retry_after: None };
    harness.whose = None;
    harness.input(Input::Me { reply: Reply { result: Err(error), date: None }, changed: true });
    harness.wait(10 * MINUTES);
    assert_eq!(lists(&harness), before);
}

#[test]
fn the_same_key_read_again_changes_nothing() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &[]);
    let before = questions(&harness);
    harness.input(Input::KeyRenewed { changed: false });
    harness.listed_after(MINUTES, &["r1"]);
    assert_eq!((questions(&harness), harness.core.pending().len()), (before, 1));
}
