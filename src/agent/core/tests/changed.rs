//! Requests that show another sender after a start than the record has: a person may have seen the earlier one.

use std::sync::Arc;

use super::*;
use crate::ledger::entry::{OpenAnswer, RecentAnswer};
use crate::platform::ChannelEvent;
use crate::policy::By;
use crate::policy::testkit::{approve, by_handle, policy};

/// `r1` as the platform lists it now.
fn listed(handle: Option<&str>) -> ContactRequest {
    ContactRequest { sender: Sender::parse(handle), ..request("r1") }
}

fn pending_of(handle: Option<&str>) -> SavedAgent {
    SavedAgent { pending: vec![on_record("r1", handle)], ..SavedAgent::default() }
}

/// An approval of `r1` by a rule, whose fate is open.
fn approved_for(handle: Option<&str>) -> SavedAgent {
    let answer = OpenAnswer {
        request: RequestId::parse("r1").unwrap(),
        sender: Sender::parse(handle),
        answer: Answer::Approve,
        by: By::NoMatch,
        policy: None,
        attempts: 1,
        at: now(Duration::ZERO).wall,
        refusal: None,
        lasts: None,
    };
    SavedAgent { open_answers: vec![answer], ..pending_of(handle) }
}

/// The reply to a person who approves.
fn refusal(harness: &mut CoreHarness) -> Option<OpFailure> {
    harness.actions.clear();
    harness.approve("r1", false);
    harness.actions.iter().find_map(|action| match action {
        Action::Reply { outcome: OpOutcome::Failed(failure), .. } => Some(failure.clone()),
        _ => None,
    })
}

#[test]
fn who_approves_after_a_start_is_asked_again_if_the_sender_is_another_one() {
    let cases = [(pending_of(Some("dora")), Some("mallory")), (approved_for(Some("dora")), Some("mallory"))];
    for (saved, shown) in cases.into_iter().chain([(pending_of(Some("dora")), None)]) {
        let mut harness = CoreHarness::new(saved);
        harness.lists_after(MINUTES, &[listed(shown)]);
        let before = harness.intents();
        let refused = refusal(&mut harness).expect("it is refused");
        assert_eq!((refused.code, harness.intents()), ("changed", before), "{}", refused.message);
        let now = shown.map_or_else(|| "nobody now".to_owned(), |handle| format!("@{handle} now"));
        assert!(refused.message.contains("@dora") && refused.message.contains(&now), "{}", refused.message);
        let noticed = |notice: &Notice| matches!(notice, Notice::Changed { .. });
        assert!(harness.notices.iter().any(noticed));
        assert_eq!((refusal(&mut harness), harness.intents()), (None, before + 1), "the second word counts");
    }
}

#[test]
fn what_was_not_known_or_is_the_same_is_no_change() {
    for (recorded, shown) in [(None, Some("dora")), (Some("dora"), Some("@Dora"))] {
        let mut harness = CoreHarness::new(pending_of(recorded));
        harness.lists_after(MINUTES, &[listed(shown)]);
        assert_eq!((refusal(&mut harness), harness.intents()), (None, 1), "{recorded:?} {shown:?}");
    }
}

/// The record has `r1` pending, from `handle`; under the same id, a rejection of somebody else was carried out before.
fn reused_by(handle: &str, holds: &[(&str, &str)]) -> SavedAgent {
    let answered = RecentAnswer {
        request: listed(Some("mallory")),
        changed: false,
        unmet: None,
        answer: Answer::Reject,
        by: By::NoMatch,
        lasts: None,
    };
    let mut saved = SavedAgent { recent_answers: vec![answered], ..pending_of(Some(handle)) };
    let hold = |(id, person): &(&str, &str)| (RequestId::parse(id).unwrap(), (*person).into());
    saved.policy_state.holds = holds.iter().map(hold).collect();
    saved
}

#[test]
fn what_is_pending_on_record_under_a_used_id_is_here_with_the_first_list() {
    for (shown, here) in [(Some("dora"), true), (Some("erin"), true), (Some("mallory"), false), (None, true)] {
        let mut harness = CoreHarness::new(reused_by("dora", &[]));
        harness.lists_after(Duration::from_secs(1), &[listed(shown)]);
        assert_eq!(harness.core.pending().len(), usize::from(here), "{shown:?}");
        let ended = harness.recorded.iter().any(|entry| matches!(entry, Record::Settled { .. }));
        assert!(!ended, "{shown:?}: it is listed, whoever it shows");
    }
}

#[test]
fn what_a_person_holds_under_a_used_id_is_held_after_a_start() {
    let (second, dora) = (Duration::from_secs(1), listed(Some("dora")));
    for (wait, told) in [(second, false), (2 * MINUTES, false), (second, true), (2 * MINUTES, true)] {
        let mut harness = CoreHarness::new(reused_by("dora", &[("r1", "zoe")]));
        harness.input(Input::Policy(Some(Arc::new(policy(vec![approve("dora", by_handle(&["dora"]))])))));
        if told {
            harness.at += wait;
            harness.core.event(ChannelEvent::RequestReceived(dora.clone()), None, now(harness.at));
        }
        harness.lists_after(wait, std::slice::from_ref(&dora));
        let decided = harness.notices.iter().find_map(|notice| match notice {
            Notice::Decided { decision, .. } => Some(decision.by.clone()),
            _ => None,
        });
        assert_eq!((decided, harness.intents()), (Some(By::Hold("zoe".into())), 0), "{wait:?} {told}");
    }
}
