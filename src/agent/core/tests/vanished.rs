//! Requests that end unseen, or elsewhere and it is not known how: what that leaves unknown about their owner.

use std::sync::Arc;

use super::*;
use crate::model::{Contact, ContactId, ContactKind, PersonTarget, RequestStatus, SenderId, SenderIds};
use crate::policy::conditions::HistoryCondition;
use crate::policy::doubts::DoubtSettlement;
use crate::policy::rules::Policy;
use crate::policy::state::SavedState;
use crate::policy::testkit::{approve, by_handle, hours, policy, reject};

/// Lets these people in unless they were rejected within the day.
fn rules() -> Option<Arc<Policy>> {
    let history = HistoryCondition { rejected_within: Some(hours(24)), ..HistoryCondition::default() };
    Some(Arc::new(policy(vec![approve("known", by_handle(&["ann", "ann/*", "bob"])).unless(history)])))
}

fn of(id: &str, handle: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(handle)), ..request(id) }
}

fn with_rules(saved: SavedAgent) -> CoreHarness {
    with(rules(), saved)
}

fn with(rules: Option<Arc<Policy>>, saved: SavedAgent) -> CoreHarness {
    let policy_state = SavedState { history_complete: true, ..saved.policy_state };
    let mut harness = CoreHarness::new(SavedAgent { policy_state, ..saved });
    harness.input(Input::Policy(rules));
    let number = harness.actions.iter().rev().find_map(|action| match action {
        Action::Restore { number, .. } => Some(*number),
        _ => None,
    });
    let saved = Some(Box::new(SavedState { history_complete: true, ..SavedState::default() }));
    harness.input(Input::Restored { number: number.unwrap(), saved });
    harness
}

fn let_in(harness: &CoreHarness, id: &str) -> bool {
    harness
        .recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Approve, .. } if request.as_str() == id))
}

fn bases(harness: &CoreHarness) -> Vec<(String, String)> {
    let basis = |row: OpenDoubt| row.basis.map(|basis| (basis.as_str().to_owned(), basis.subject().to_owned()));
    harness.core.doubts().into_iter().filter_map(basis).collect()
}

fn doubt(basis: &str, id: &str) -> Vec<(String, String)> {
    vec![(basis.to_owned(), id.to_owned())]
}

fn settle(harness: &mut CoreHarness, id: &str, said: DoubtSettlement) -> OpOutcome {
    let target = PersonTarget::parse(id);
    harness.input(Input::Op { token: 9, op: PersonCommand::Settle { target, said }, person: "eve".into() });
    let reply = harness.actions.iter().rev().find_map(|action| match action {
        Action::Reply { token: 9, outcome } => Some(outcome.clone()),
        _ => None,
    });
    reply.unwrap()
}

#[test]
fn what_was_pending_at_the_last_end_and_is_listed_no_more_may_have_been_rejected() {
    let saved = || SavedAgent {
        pending: vec![on_record("r0", Some("ann/bot")), on_record("r1", Some("eve"))],
        newest: Some(now(Duration::ZERO).wall),
        ..SavedAgent::default()
    };
    let mut harness = with_rules(saved());
    assert_eq!(harness.core.doubts().len(), 2, "nobody has looked yet: {:?}", harness.core.doubts());
    let said = settle(&mut harness, "r0", DoubtSettlement::Approved);
    assert!(matches!(said, OpOutcome::Failed(ref error) if error.code == "busy"), "{said:?}");
    harness.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann"), of("r3", "bob")]);
    assert_eq!(bases(&harness), doubt("request-vanished", "r0"));
    assert!(!let_in(&harness, "r2") && let_in(&harness, "r3"));
    let row = &harness.core.pending()[1];
    assert_eq!(row.doubts.len(), 1, "{row:?}");

    let mut rejected = with_rules(saved());
    for (harness, said, until) in
        [(&mut harness, DoubtSettlement::Cancelled, 1), (&mut rejected, DoubtSettlement::Rejected, 25 * 60)]
    {
        harness.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert!(matches!(settle(harness, "r0", said), OpOutcome::Settled(rows) if rows.len() == 1));
        assert_eq!(bases(harness), []);
        assert_eq!(let_in(harness, "r2"), said == DoubtSettlement::Cancelled);
        harness.lists_after(until * MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert!(let_in(harness, "r2"), "{said:?}");
    }
    // Nothing settles the doubt: it ends when the rule no longer looks back that far.
    let mut harness = with_rules(saved());
    harness.lists_after(MINUTES, &[of("r2", "ann")]);
    harness.lists_after(23 * 60 * MINUTES, &[of("r2", "ann")]);
    assert!(!let_in(&harness, "r2"));
    harness.lists_after(60 * MINUTES, &[of("r2", "ann")]);
    assert!(let_in(&harness, "r2") && bases(&harness).is_empty());
}

#[test]
fn who_slips_past_the_first_listing_after_a_start_has_not_ended() {
    let pending = || vec![on_record("r0", Some("ann")), on_record("r1", Some("bob"))];
    let reads = |harness: &mut CoreHarness, pages: [&[&str]; 2]| {
        for shown in pages {
            let asked = harness.actions.iter().position(|action| matches!(action, Action::Page(_))).unwrap();
            let Action::Page(fetch) = harness.actions.remove(asked) else { unreachable!() };
            let items = shown.iter().map(|id| request(id)).collect();
            let page = Page { items, unreadable: vec![], nameless: vec![], total: Some(3), pages: Some(2) };
            harness.input(Input::Page(fetch, Reply { result: Ok(page), date: None }));
        }
    };
    let ended = |harness: &CoreHarness| {
        let ended = harness.recorded.iter().filter_map(|entry| match entry {
            Record::Settled { request, .. } => Some(request.to_string()),
            _ => None,
        });
        ended.collect::<Vec<_>>()
    };
    let mut harness = CoreHarness::new(SavedAgent { pending: pending(), ..SavedAgent::default() });
    harness.wait(MINUTES);
    // One request ended and another arrived between the pages: `r1` moved to the page that was already read.
    reads(&mut harness, [&["r2", "r0"], &["r3"]]);
    assert_eq!(ended(&harness), [""; 0]);
    reads(&mut harness, [&["r0", "r1"], &["r3"]]);
    assert_eq!(ended(&harness), [""; 0]);

    let mut harness = CoreHarness::new(SavedAgent { pending: pending(), ..SavedAgent::default() });
    harness.wait(MINUTES);
    for _ in 0..2 {
        reads(&mut harness, [&["r2", "r0"], &["r3"]]);
    }
    assert_eq!(ended(&harness), ["r1"], "two in succession are proof");
}

#[test]
fn who_is_listed_again_has_not_ended() {
    let saved = SavedAgent { pending: vec![on_record("r0", Some("ann/bot"))], ..SavedAgent::default() };
    let mut harness = with_rules(saved);
    assert_eq!(bases(&harness), doubt("request-not-listed", "r0"));
    harness.lists_after(MINUTES, &[of("r0", "ann/bot"), of("r1", "ann")]);
    assert_eq!(bases(&harness), []);
    assert!(let_in(&harness, "r0") && let_in(&harness, "r1"));

    // A request that counted as gone is listed again.
    let mut harness = with_rules(SavedAgent::default());
    harness.core.config.shadow = true;
    harness.lists_after(MINUTES, &[of("r0", "eve")]);
    harness.lists_after(MINUTES, &[]);
    assert_eq!(bases(&harness), doubt("request-vanished", "r0"));
    harness.lists_after(10 * MINUTES, &[of("r0", "eve")]);
    assert_eq!(bases(&harness), []);
}

#[test]
fn an_answer_that_somebody_else_outdid_says_nothing_of_theirs() {
    let outdone = || {
        let mut harness = with_rules(SavedAgent::default());
        harness.lists_after(MINUTES, &[of("r1", "ann")]);
        let error = CallError { fault: CallFault::Conflict, code: None, message: None, retry_after: None };
        let request = RequestId::parse("r1").unwrap();
        let (reply, written) = (Reply { result: Err(error), date: None }, now(harness.at).mono);
        harness.input(Input::Responded { request, attempt: 1, reply, written });
        assert_eq!(bases(&harness), doubt("settled-elsewhere", "r1"));
        harness.lists_after(MINUTES, &[of("r2", "ann/bot")]);
        assert!(!let_in(&harness, "r2"));
        harness
    };
    // The platform reports the status later.
    for (status, lets_in) in [(RequestStatus::Rejected, false), (RequestStatus::Approved, true)] {
        let mut harness = outdone();
        harness.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), harness.now());
        harness.wait(Duration::from_secs(1));
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], lets_in), "{status:?}");
        let ended = |entry: &Record| matches!(entry, Record::Settled { status: Some(ended), .. } if *ended == status);
        assert_eq!(harness.recorded.iter().filter(|entry| ended(entry)).count(), 1);
    }
    // A contact of that owner appears that no answer of ours made.
    let mut harness = outdone();
    let id = ContactId::parse("c1").unwrap();
    let sender = Sender::parse(Some("ann"));
    let contact = Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None };
    harness.core.contact_added(contact, harness.now());
    harness.wait(Duration::from_secs(1));
    assert!(let_in(&harness, "r2") && bases(&harness).is_empty());
}

#[test]
fn what_a_reading_misses_is_in_doubt_before_it_is_gone() {
    let mut harness = with_rules(SavedAgent::default());
    harness.core.config.shadow = true;
    harness.lists_after(MINUTES, &[of("r0", "ann/bot")]);
    harness.core.config.shadow = false;
    // The next page promises one more than it shows: it proves nothing.
    harness.at += MINUTES;
    harness.input(Input::Tick);
    while let Some(place) = harness.actions.iter().position(|action| matches!(action, Action::Page(_))) {
        let Action::Page(fetch) = harness.actions.remove(place) else { continue };
        let items = vec![of("r1", "ann")];
        let page = Page { items, unreadable: vec![], nameless: vec![], total: Some(2), pages: Some(1) };
        harness.input(Input::Page(fetch, Reply { result: Ok(page), date: None }));
    }
    assert_eq!(bases(&harness), doubt("request-not-listed", "r0"));
    assert!(!let_in(&harness, "r1"));
    harness.lists_after(MINUTES, &[of("r0", "ann/bot"), of("r1", "ann")]);
    assert!(let_in(&harness, "r1") && bases(&harness).is_empty());
}

#[test]
fn our_own_id_in_a_row_says_whose_list_it_is_and_nothing_of_who_is_on_it() {
    let mut harness = with_rules(SavedAgent::default());
    let agent = harness.core.config.agent.clone();
    for (name, id, doubted) in [("c1", agent.as_str(), 0), ("c2", "u1", 0), ("c3", agent.as_str(), 0), ("c4", "u2", 1)]
    {
        let ids = Some(Box::new(SenderIds { sender: None, owner: SenderId::parse(id).ok() }));
        let (id, sender) = (ContactId::parse(name).unwrap(), Sender::parse(Some("bob")));
        let kind = ContactKind::User;
        let now = harness.now();
        harness.core.contact_added(Contact { id, sender, name: None, kind, inserted_at: None, ids }, now);
        assert_eq!(harness.core.doubts().len(), doubted, "{name}");
    }
}

#[test]
fn what_the_platform_says_at_last_of_a_request_that_vanished_while_nobody_ran_counts() {
    let memory = || SavedAgent {
        pending: vec![on_record("r0", Some("ann/bot"))],
        newest: Some(now(Duration::ZERO).wall),
        ..SavedAgent::default()
    };
    for (status, rejected) in [(RequestStatus::Rejected, true), (RequestStatus::Expired, false)] {
        let mut harness = with_rules(memory());
        harness.lists_after(MINUTES, &[of("r1", "eve")]);
        assert_eq!(bases(&harness), doubt("request-vanished", "r0"));
        harness.core.updated(&crate::model::RequestId::parse("r0").unwrap(), status.clone(), now(harness.at));
        harness.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], !rejected), "{status}");
        let said = |entry: &Record| matches!(entry, Record::Settled { status: Some(said), .. } if *said == status);
        assert!(harness.recorded.iter().any(said), "{status} is on record");
    }
}

/// An approval of unknown outcome, after which the request is no longer listed.
fn presumed() -> CoreHarness {
    presumed_by(rules())
}

fn presumed_by(rules: Option<Arc<Policy>>) -> CoreHarness {
    let mut harness = with(rules, SavedAgent::default());
    harness.lists_after(MINUTES, &[of("r1", "ann")]);
    responds(&mut harness, "r1", CallFault::NoAnswer);
    harness.lists_after(MINUTES, &[of("r2", "ann/bot")]);
    harness
}

fn responds(harness: &mut CoreHarness, id: &str, fault: CallFault) {
    let error = CallError { fault, code: None, message: None, retry_after: None };
    let (request, written) = (RequestId::parse(id).unwrap(), now(harness.at).mono);
    harness.input(Input::Responded { request, attempt: 1, reply: Reply { result: Err(error), date: None }, written });
}

#[test]
fn an_approval_of_unknown_fate_may_have_come_after_a_rejection_until_its_contact_appears() {
    let mut harness = presumed();
    assert_eq!(bases(&harness), doubt("presumed-approved", "r1"));
    assert!(!let_in(&harness, "r2"));
    let sender = Sender::parse(Some("ann"));
    let id = ContactId::parse("c1").unwrap();
    let contact = Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None };
    harness.core.contact_added(contact, harness.now());
    harness.wait(Duration::from_secs(1));
    assert!(bases(&harness).is_empty() && let_in(&harness, "r2"));

    for (status, lets_in) in [(RequestStatus::Rejected, false), (RequestStatus::Approved, true)] {
        let mut harness = presumed();
        harness.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), harness.now());
        harness.wait(Duration::from_secs(1));
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], lets_in), "{status:?}");
    }
}

/// Lets ann in, and whoever was approved before.
fn back() -> Option<Arc<Policy>> {
    let before = HistoryCondition { approved_before: Some(true), ..HistoryCondition::default() };
    Some(Arc::new(policy(vec![approve("known", by_handle(&["ann"])), approve("back", before)])))
}

fn contact_of(handle: Option<&str>) -> Contact {
    let (id, sender) = (ContactId::parse("c1").unwrap(), Sender::parse(handle));
    Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None }
}

/// The next reading of the contacts shows these.
fn contacts_are(harness: &mut CoreHarness, shown: &[Contact]) {
    if !harness.actions.iter().any(|action| matches!(action, Action::Contacts { .. })) {
        harness.at = harness.at.max(harness.core.contacts.due().unwrap().since_origin());
        harness.wait(Duration::from_secs(1));
    }
    let asked = harness.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = harness.actions.remove(asked) else { unreachable!() };
    let (items, total) = (shown.to_vec(), Some(shown.len() as u64));
    let page = Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(1) };
    harness.input(Input::Contacts { call, reply: Reply { result: Ok(page), date: None } });
    harness.wait(Duration::from_secs(1));
}

#[test]
fn an_approval_that_is_only_presumed_is_none_until_something_shows_it() {
    let mut harness = presumed_by(back());
    assert_eq!(bases(&harness), doubt("presumed-approved", "r1"));
    assert!(!let_in(&harness, "r2"));
    assert_eq!(harness.core.pending()[0].doubts.len(), 1);
    harness.core.contact_added(contact_of(Some("ann")), harness.now());
    harness.wait(Duration::from_secs(1));
    assert!(bases(&harness).is_empty() && let_in(&harness, "r2"));

    for (status, lets_in) in
        [(RequestStatus::Rejected, false), (RequestStatus::Expired, false), (RequestStatus::Approved, true)]
    {
        let mut harness = presumed_by(back());
        harness.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), harness.now());
        harness.wait(Duration::from_secs(1));
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], lets_in), "{status:?}");
    }
    for (said, lets_in) in
        [(DoubtSettlement::Approved, true), (DoubtSettlement::Rejected, false), (DoubtSettlement::Cancelled, false)]
    {
        let mut harness = presumed_by(back());
        assert!(matches!(settle(&mut harness, "r1", said), OpOutcome::Settled(_)), "{said:?}");
        harness.wait(Duration::from_secs(1));
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], lets_in), "{said:?}");
    }
    // It is listed again: it was not approved.
    let mut harness = presumed_by(back());
    harness.core.ledger_ok = false;
    for _ in 0..3 {
        harness.lists_after(10 * MINUTES, &[of("r1", "ann"), of("r2", "ann/bot")]);
    }
    assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], false));
}

#[test]
fn whose_contact_is_missing_in_three_readings_was_not_approved() {
    let mut harness = presumed_by(back());
    let hidden = [contact_of(None)];
    for _ in 0..5 {
        contacts_are(&mut harness, &hidden);
        assert_eq!(bases(&harness), doubt("presumed-approved", "r1"), "a contact without a handle may be theirs");
    }
    harness.core.contact_left(&hidden[0].id, false, harness.now());
    for _ in 0..2 {
        contacts_are(&mut harness, &[]);
        assert_eq!(bases(&harness), doubt("presumed-approved", "r1"), "a row may have moved");
    }
    contacts_are(&mut harness, &[]);
    assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], false));
    let mut harness = presumed_by(back());
    contacts_are(&mut harness, &[]);
    contacts_are(&mut harness, &[contact_of(Some("ann"))]);
    assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], true));
}

#[test]
fn an_answer_that_a_refused_key_kept_from_being_given_is_withdrawn_on_record() {
    let withdrawn = |harness: &CoreHarness| {
        let about = |entry: &&Record| matches!(entry, Record::Withdrawn { request, .. } if request.as_str() == "r1");
        harness.recorded.iter().filter(about).count()
    };
    let mut harness = with_rules(SavedAgent::default());
    harness.lists_after(MINUTES, &[of("r1", "ann")]);
    assert_eq!((let_in(&harness, "r1"), withdrawn(&harness)), (true, 0));
    responds(&mut harness, "r1", CallFault::KeyRefused);
    assert_eq!(withdrawn(&harness), 1, "after a restart it would be one of unknown fate");
    let before = harness.intents();
    harness.input(Input::KeyRenewed { changed: true });
    harness.lists_after(10 * MINUTES, &[of("r1", "ann")]);
    assert!(harness.intents() > before, "with a good key it is decided and sent again");
}

#[test]
fn who_waits_is_decided_again_once_another_of_the_same_owner_was_let_in() {
    let mut harness = with(back(), SavedAgent::default());
    harness.lists_after(MINUTES, &[of("r1", "ann/bot"), of("r2", "ann")]);
    assert!(!let_in(&harness, "r1") && let_in(&harness, "r2"));
    let (request, written) = (RequestId::parse("r2").unwrap(), now(harness.at).mono);
    let reply = Reply { result: Ok(crate::platform::Responded { status: RequestStatus::Approved }), date: None };
    harness.input(Input::Responded { request, attempt: 1, reply, written });
    harness.lists_after(MINUTES, &[of("r1", "ann/bot")]);
    harness.wait(Duration::from_secs(1));
    assert!(let_in(&harness, "r1"));
}

/// Rejects ann's bot, and lets her in by another handle unless she was rejected within the day; `again` rejects her if she was.
fn shut_out(again: bool) -> Option<Arc<Policy>> {
    let history = HistoryCondition { rejected_within: Some(hours(24)), ..HistoryCondition::default() };
    let mut rules = vec![reject("bad", by_handle(&["ann/bad"]))];
    match again {
        true => rules.push(reject("again", history)),
        false => rules.push(approve("known", by_handle(&["ann", "bob"])).unless(history)),
    }
    Some(Arc::new(policy(rules)))
}

fn rejected(harness: &CoreHarness, id: &str) -> bool {
    harness
        .recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Reject, .. } if request.as_str() == id))
}

/// A rejection of unknown outcome.
fn unknown_rejection(again: bool) -> CoreHarness {
    let mut harness = with(shut_out(again), SavedAgent::default());
    harness.lists_after(MINUTES, &[of("r1", "ann/bad")]);
    assert!(rejected(&harness, "r1"));
    responds(&mut harness, "r1", CallFault::NoAnswer);
    harness
}

#[test]
fn a_rejection_that_is_only_presumed_decides_nothing_until_somebody_says_how_the_request_ended() {
    for again in [false, true] {
        let decided = |harness: &CoreHarness| let_in(harness, "r2") || rejected(harness, "r2");
        let mut harness = unknown_rejection(again);
        harness.lists_after(MINUTES, &[of("r2", "ann"), of("r3", "bob")]);
        assert_eq!(bases(&harness), doubt("presumed-rejected", "r1"));
        assert_eq!((decided(&harness), let_in(&harness, "r3")), (false, !again), "{again}");
        // It ends when no rule looks back that far.
        harness.lists_after(24 * 60 * MINUTES, &[of("r2", "ann"), of("r3", "bob")]);
        assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], !again));

        for status in [RequestStatus::Rejected, RequestStatus::Expired] {
            let was = status == RequestStatus::Rejected;
            let mut harness = unknown_rejection(again);
            harness.lists_after(MINUTES, &[of("r2", "ann")]);
            harness.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), harness.now());
            harness.wait(Duration::from_secs(1));
            assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], !again && !was), "{status}");
            assert_eq!(rejected(&harness, "r2"), again && was, "{status}");

            let mut harness = unknown_rejection(again);
            harness.lists_after(MINUTES, &[of("r2", "ann")]);
            let said = if was { DoubtSettlement::Rejected } else { DoubtSettlement::Expired };
            assert!(matches!(settle(&mut harness, "r1", said), OpOutcome::Settled(rows) if rows.len() == 1));
            assert_eq!((bases(&harness), let_in(&harness, "r2")), (vec![], !again && !was), "{status}");
        }
    }
}

#[test]
fn a_rejection_of_unknown_fate_is_known_if_the_platform_says_that_the_request_was_rejected() {
    for again in [false, true] {
        let mut harness = unknown_rejection(again);
        harness.core.updated(&RequestId::parse("r1").unwrap(), RequestStatus::Rejected, harness.now());
        harness.lists_after(MINUTES, &[of("r2", "ann")]);
        assert_eq!((bases(&harness), let_in(&harness, "r2"), rejected(&harness, "r2")), (vec![], false, again));
        let said = |entry: &Record| matches!(entry, Record::Settled { status: Some(RequestStatus::Rejected), .. });
        assert!(harness.recorded.iter().any(said), "it is on record, for the next start");
    }
}
