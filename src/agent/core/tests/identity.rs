//! The owner of the key is verified before anything is read or sent with it.

use super::*;

fn asked(held: &Held, what: impl Fn(&Action) -> bool) -> usize {
    held.asked.iter().filter(|action| what(action)).count()
}

fn lists(held: &Held) -> usize {
    asked(held, |action| matches!(action, Action::Page(_) | Action::Contacts { .. }))
}

fn questions(held: &Held) -> usize {
    asked(held, |action| matches!(action, Action::Me))
}

#[test]
fn nothing_is_listed_before_the_key_is_known_to_be_ours_and_that_is_asked_again_and_again() {
    let mut held = Held::with_key_of(SavedAgent::default(), None);
    for _ in 0..600 {
        held.wait(Duration::from_secs(1));
    }
    assert_eq!(lists(&held), 0);
    assert!((20..600).contains(&questions(&held)), "{}", questions(&held));
    let due = held.core.deadline(now(held.at)).unwrap();
    assert!(due <= now(held.at + Duration::from_secs(31)).mono, "somebody comes back to ask");
    held.whose = Some(AGENT);
    held.wait(MINUTES);
    assert!(lists(&held) > 0);
}

#[test]
fn with_a_key_of_another_agent_nothing_is_listed_at_all() {
    let mut held = Held::with_key_of(SavedAgent::default(), Some("agent-2"));
    for _ in 0..600 {
        held.wait(Duration::from_secs(1));
    }
    assert_eq!((lists(&held), held.core.state()), (0, AgentState::Refused));
}

#[test]
fn an_agents_id_in_capitals_is_the_same_id() {
    let mut held = Held::with_key_of(SavedAgent::default(), Some("AGENT-1"));
    held.wait(MINUTES);
    assert!(lists(&held) > 0);
}

#[test]
fn a_new_key_is_another_agents_until_the_platform_says_otherwise() {
    let mut held = Held::new(SavedAgent::default());
    held.listed_after(MINUTES, &["r1"]);
    held.approve("r1", false);
    assert_eq!(held.answers_sent(), 1);
    held.wait(MINUTES);
    // A page of the old key's is on its way, and an answer waits for the ledger.
    let asked = held.asked.len();
    let page = held.asked.iter().find_map(|action| match action {
        Action::Page(fetch) => Some(*fetch),
        _ => None,
    });
    held.whose = None;
    held.tell(Input::KeyRenewed { changed: true });
    let items = vec![request("theirs")];
    let result = Ok(Page { items, unreadable: vec![], nameless: vec![], total: Some(1), pages: Some(1) });
    held.tell(Input::Page(page.unwrap(), Reply { result, date: None }));
    held.approve("theirs", false);
    for _ in 0..100 {
        held.wait(Duration::from_secs(1));
    }
    let with_the_key = |action: &&Action| {
        matches!(action, Action::Page(_) | Action::Contacts { .. } | Action::Respond { .. } | Action::Connect { .. })
    };
    assert_eq!(held.asked[asked..].iter().filter(with_the_key).count(), 0, "{:?}", &held.asked[asked..]);
    assert!(held.core.pending().iter().all(|row| row.request.id.as_str() != "theirs"));

    held.whose = Some("agent-2");
    held.wait(MINUTES);
    assert_eq!(held.core.state(), AgentState::Refused);
    held.whose = Some(AGENT);
    held.tell(Input::KeyRenewed { changed: true });
    held.wait(MINUTES);
    assert!(lists(&held) > 0);
}

#[test]
fn an_answer_that_waits_for_the_ledger_is_not_sent_with_another_key() {
    let mut held = Held::new(SavedAgent::default());
    held.listed_after(MINUTES, &["r1"]);
    held.stalled = true;
    held.approve("r1", false);
    held.whose = None;
    held.tell(Input::KeyRenewed { changed: true });
    held.stalled = false;
    held.tell(Input::Recorded(Ok(())));
    assert_eq!((held.intents(), held.answers_sent()), (1, 0));
    held.whose = Some(AGENT);
    held.wait(MINUTES);
    assert_eq!(held.answers_sent(), 1, "it is ours after all");
}

#[test]
fn a_new_key_that_is_found_when_somebody_asks_is_as_unknown() {
    let mut held = Held::new(SavedAgent::default());
    held.listed_after(MINUTES, &[]);
    let before = lists(&held);
    let error = CallError { fault: CallFault::Unreachable, code: None, message: None, retry_after: None };
    held.whose = None;
    held.tell(Input::Me { reply: Reply { result: Err(error), date: None }, changed: true });
    held.wait(10 * MINUTES);
    assert_eq!(lists(&held), before);
}

#[test]
fn the_same_key_read_again_changes_nothing() {
    let mut held = Held::new(SavedAgent::default());
    held.listed_after(MINUTES, &[]);
    let before = questions(&held);
    held.tell(Input::KeyRenewed { changed: false });
    held.listed_after(MINUTES, &["r1"]);
    assert_eq!((questions(&held), held.core.pending().len()), (before, 1));
}
