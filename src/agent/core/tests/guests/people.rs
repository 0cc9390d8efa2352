//! People who move an end, lift it, or remove a guest.

use super::*;

/// A person approves again, for a time or for good; returns the reply.
fn once_more(
    harness: &mut CoreHarness,
    lasts: Option<SignedDuration>,
) -> Result<(String, Option<jiff::Timestamp>), &'static str> {
    let meant = harness.core.find_guests(&crate::model::PersonTarget::parse("@carol"));
    let [request] = meant.as_slice() else { return Err("nobody") };
    let op = PersonCommand::MoveEnd { request: request.clone(), lasts };
    harness.input(Input::Op { token: 8, op, person: "ann".into() });
    let said = harness.actions.iter().position(|action| matches!(action, Action::Reply { token: 8, .. })).unwrap();
    match harness.actions.remove(said) {
        Action::Reply { outcome: OpOutcome::Answered(answered), .. } => Ok((answered.outcome, answered.ends_at)),
        Action::Reply { outcome: OpOutcome::Failed(failure), .. } => Err(failure.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_person_moves_an_end_or_lifts_it() {
    let day = Some(SignedDuration::from_hours(24));
    let ends = |harness: &CoreHarness| {
        let ends = harness.recorded.iter().filter_map(|entry| match entry {
            Record::GuestEnd { ends_at, person, .. } => Some((*ends_at, person.name().to_owned())),
            _ => None,
        });
        ends.collect::<Vec<_>>()
    };
    // A later end, then an earlier one.
    let mut harness = CoreHarness::guest();
    let end = harness.now().wall + SignedDuration::from_hours(24);
    assert_eq!(once_more(&mut harness, day), Ok(("end-moved".to_owned(), Some(end))));
    assert_eq!(ends(&harness), [(Some(end), "ann".to_owned())]);
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0], "the first end is void");
    assert!(once_more(&mut harness, Some(SignedDuration::from_mins(5))).is_ok());
    harness.wait(6 * MINUTES);
    assert_eq!(harness.removals(), ["c1"]);
    assert_eq!(once_more(&mut harness, day), Err("busy"), "it is being removed");
    harness.removed("c1", done());
    assert_eq!(once_more(&mut harness, day), Err("nobody"));
    // For good.
    let mut harness = CoreHarness::guest();
    assert_eq!(once_more(&mut harness, None), Ok(("end-lifted".to_owned(), None)));
    assert_eq!((ends(&harness).len(), harness.core.guest_counts()), (1, (0, 0)));
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), once_more(&mut harness, day)), (vec![], Err("nobody")), "and gets no end again");
    // Before the contact was seen.
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.carol_is_approved(approved());
    let made = harness.at;
    assert!(once_more(&mut harness, day).is_ok());
    harness.contacts_are(&[contact("c1", made)]);
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 0)));
}

#[test]
fn an_end_is_not_moved_if_nothing_would_come_of_it() {
    let day = Some(SignedDuration::from_hours(24));
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.at = 10 * MINUTES;
    harness.carol_is_approved(approved());
    harness.contacts_are(&[contact("c1", Duration::ZERO)]);
    assert_eq!(once_more(&mut harness, day), Err("in-doubt"), "it is not removed by itself");
    assert!(once_more(&mut harness, None).is_ok(), "but may stay");
    // The contact may have been removed: it is not known whether there is an end to move.
    let mut harness = CoreHarness::guest();
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), ["c1"]);
    harness.removed("c1", error(CallFault::NoAnswer));
    assert_eq!(once_more(&mut harness, day), Err("busy"));
    // The contact was certainly not removed.
    let mut harness = CoreHarness::guest();
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), ["c1"]);
    harness.removed("c1", error(CallFault::Forbidden));
    assert!(once_more(&mut harness, day).is_ok());
    harness.wait(2 * TWO_HOURS);
    assert_eq!(
        (harness.removals(), harness.core.guest_remarks()),
        (vec![], vec![]),
        "it is not tried again before the new end"
    );
    let mut harness = CoreHarness::guest();
    harness.core.ledger_health(false);
    assert_eq!(once_more(&mut harness, day), Err("blocked"));
}

#[test]
fn a_person_removes_by_the_same_way() {
    let mut harness = CoreHarness::guest();
    let op = PersonCommand::Remove { contact: ContactId::parse("c1").unwrap(), tried: false };
    harness.input(Input::Op { token: 5, op, person: "ann".into() });
    assert_eq!((harness.removals(), harness.intended()), (vec!["c1".to_owned()], 1));
    harness.removed("c1", done());
    let done = |action: &Action| matches!(action, Action::Reply { token: 5, outcome: OpOutcome::Done });
    assert!(harness.actions.iter().any(done));
    assert_eq!((harness.gone(), harness.core.guest_counts()), (vec![false], (0, 0)), "that was no end");
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0]);
}

#[test]
fn a_contact_that_is_gone_was_removed_by_a_command_that_was_begun_before_and_by_no_other() {
    for (tried, done) in [(true, true), (false, false)] {
        let mut harness = CoreHarness::guest();
        let op = PersonCommand::Remove { contact: ContactId::parse("c1").unwrap(), tried };
        harness.input(Input::Op { token: 5, op, person: "ann".into() });
        harness.removed("c1", error(CallFault::NotFound));
        let told = |action: &&Action| matches!(action, Action::Reply { token: 5, .. });
        let told = harness.actions.iter().find(told);
        assert_eq!(matches!(told, Some(Action::Reply { outcome: OpOutcome::Done, .. })), done, "{told:?}");
    }
}

#[test]
fn an_end_that_comes_while_a_person_removes_it_is_tried_again_if_that_fails() {
    let mut harness = CoreHarness::guest();
    let op = PersonCommand::Remove { contact: ContactId::parse("c1").unwrap(), tried: false };
    harness.at += 2 * TWO_HOURS - MINUTES;
    harness.input(Input::Op { token: 5, op, person: "ann".into() });
    harness.wait(MINUTES);
    assert_eq!(harness.removals(), ["c1"], "one call");
    harness.removed("c1", error(CallFault::Unreachable));
    harness.wait(2 * MINUTES);
    assert_eq!(harness.removals(), ["c1"], "again, for its end");
    harness.removed("c1", done());
    assert_eq!((harness.gone(), harness.core.guest_counts()), (vec![true], (0, 0)));
}
