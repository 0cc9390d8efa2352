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

fn with_rules(saved: SavedAgent) -> Held {
    with(rules(), saved)
}

fn with(rules: Option<Arc<Policy>>, saved: SavedAgent) -> Held {
    let policy_state = SavedState { history_complete: true, ..saved.policy_state };
    let mut held = Held::new(SavedAgent { policy_state, ..saved });
    held.tell(Input::Policy(rules));
    let number = held.asked.iter().rev().find_map(|action| match action {
        Action::Restore { number, .. } => Some(*number),
        _ => None,
    });
    let saved = Some(Box::new(SavedState { history_complete: true, ..SavedState::default() }));
    held.tell(Input::Restored { number: number.unwrap(), saved });
    held
}

fn let_in(held: &Held, id: &str) -> bool {
    held.recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Approve, .. } if request.as_str() == id))
}

fn bases(held: &Held) -> Vec<(String, String)> {
    let basis = |row: OpenDoubt| row.basis.map(|basis| (basis.as_str().to_owned(), basis.subject().to_owned()));
    held.core.doubts().into_iter().filter_map(basis).collect()
}

fn doubt(basis: &str, id: &str) -> Vec<(String, String)> {
    vec![(basis.to_owned(), id.to_owned())]
}

fn settle(held: &mut Held, id: &str, said: DoubtSettlement) -> OpOutcome {
    let target = PersonTarget::parse(id);
    held.tell(Input::Op { token: 9, op: PersonCommand::Settle { target, said }, person: "eve".into() });
    let reply = held.asked.iter().rev().find_map(|action| match action {
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
    let mut held = with_rules(saved());
    assert_eq!(held.core.doubts().len(), 2, "nobody has looked yet: {:?}", held.core.doubts());
    let said = settle(&mut held, "r0", DoubtSettlement::Approved);
    assert!(matches!(said, OpOutcome::Failed(ref error) if error.code == "busy"), "{said:?}");
    held.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann"), of("r3", "bob")]);
    assert_eq!(bases(&held), doubt("request-vanished", "r0"));
    assert!(!let_in(&held, "r2") && let_in(&held, "r3"));
    let row = &held.core.pending()[1];
    assert_eq!(row.doubts.len(), 1, "{row:?}");

    let mut rejected = with_rules(saved());
    for (held, said, until) in
        [(&mut held, DoubtSettlement::Cancelled, 1), (&mut rejected, DoubtSettlement::Rejected, 25 * 60)]
    {
        held.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert!(matches!(settle(held, "r0", said), OpOutcome::Settled(rows) if rows.len() == 1));
        assert_eq!(bases(held), []);
        assert_eq!(let_in(held, "r2"), said == DoubtSettlement::Cancelled);
        held.lists_after(until * MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert!(let_in(held, "r2"), "{said:?}");
    }
    // Nothing settles the doubt: it ends when the rule no longer looks back that far.
    let mut held = with_rules(saved());
    held.lists_after(MINUTES, &[of("r2", "ann")]);
    held.lists_after(23 * 60 * MINUTES, &[of("r2", "ann")]);
    assert!(!let_in(&held, "r2"));
    held.lists_after(60 * MINUTES, &[of("r2", "ann")]);
    assert!(let_in(&held, "r2") && bases(&held).is_empty());
}

#[test]
fn who_slips_past_the_first_listing_after_a_start_has_not_ended() {
    let pending = || vec![on_record("r0", Some("ann")), on_record("r1", Some("bob"))];
    let reads = |held: &mut Held, pages: [&[&str]; 2]| {
        for shown in pages {
            let asked = held.asked.iter().position(|action| matches!(action, Action::Page(_))).unwrap();
            let Action::Page(fetch) = held.asked.remove(asked) else { unreachable!() };
            let items = shown.iter().map(|id| request(id)).collect();
            let page = Page { items, unreadable: vec![], nameless: vec![], total: Some(3), pages: Some(2) };
            held.tell(Input::Page(fetch, Reply { result: Ok(page), date: None }));
        }
    };
    let ended = |held: &Held| {
        let ended = held.recorded.iter().filter_map(|entry| match entry {
            Record::Settled { request, .. } => Some(request.to_string()),
            _ => None,
        });
        ended.collect::<Vec<_>>()
    };
    let mut held = Held::new(SavedAgent { pending: pending(), ..SavedAgent::default() });
    held.wait(MINUTES);
    // One request ended and another arrived between the pages: `r1` moved to the page that was already read.
    reads(&mut held, [&["r2", "r0"], &["r3"]]);
    assert_eq!(ended(&held), [""; 0]);
    reads(&mut held, [&["r0", "r1"], &["r3"]]);
    assert_eq!(ended(&held), [""; 0]);

    let mut held = Held::new(SavedAgent { pending: pending(), ..SavedAgent::default() });
    held.wait(MINUTES);
    for _ in 0..2 {
        reads(&mut held, [&["r2", "r0"], &["r3"]]);
    }
    assert_eq!(ended(&held), ["r1"], "two in succession are proof");
}

#[test]
fn who_is_listed_again_has_not_ended() {
    let saved = SavedAgent { pending: vec![on_record("r0", Some("ann/bot"))], ..SavedAgent::default() };
    let mut held = with_rules(saved);
    assert_eq!(bases(&held), doubt("request-not-listed", "r0"));
    held.lists_after(MINUTES, &[of("r0", "ann/bot"), of("r1", "ann")]);
    assert_eq!(bases(&held), []);
    assert!(let_in(&held, "r0") && let_in(&held, "r1"));

    // A request that counted as gone is listed again.
    let mut held = with_rules(SavedAgent::default());
    held.core.config.shadow = true;
    held.lists_after(MINUTES, &[of("r0", "eve")]);
    held.lists_after(MINUTES, &[]);
    assert_eq!(bases(&held), doubt("request-vanished", "r0"));
    held.lists_after(10 * MINUTES, &[of("r0", "eve")]);
    assert_eq!(bases(&held), []);
}

#[test]
fn an_answer_that_somebody_else_outdid_says_nothing_of_theirs() {
    let outdone = || {
        let mut held = with_rules(SavedAgent::default());
        held.lists_after(MINUTES, &[of("r1", "ann")]);
        let error = CallError { fault: CallFault::Conflict, code: None, message: None, retry_after: None };
        let request = RequestId::parse("r1").unwrap();
        let (reply, written) = (Reply { result: Err(error), date: None }, now(held.at).mono);
        held.tell(Input::Responded { request, attempt: 1, reply, written });
        assert_eq!(bases(&held), doubt("settled-elsewhere", "r1"));
        held.lists_after(MINUTES, &[of("r2", "ann/bot")]);
        assert!(!let_in(&held, "r2"));
        held
    };
    // The platform reports the status later.
    for (status, lets_in) in [(RequestStatus::Rejected, false), (RequestStatus::Approved, true)] {
        let mut held = outdone();
        held.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), held.now());
        held.wait(Duration::from_secs(1));
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], lets_in), "{status:?}");
        let told = |entry: &Record| matches!(entry, Record::Settled { status: Some(told), .. } if *told == status);
        assert_eq!(held.recorded.iter().filter(|entry| told(entry)).count(), 1);
    }
    // A contact of that owner appears that no answer of ours made.
    let mut held = outdone();
    let id = ContactId::parse("c1").unwrap();
    let sender = Sender::parse(Some("ann"));
    let contact = Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None };
    held.core.contact_added(contact, held.now());
    held.wait(Duration::from_secs(1));
    assert!(let_in(&held, "r2") && bases(&held).is_empty());
}

#[test]
fn what_a_reading_misses_is_in_doubt_before_it_is_gone() {
    let mut held = with_rules(SavedAgent::default());
    held.core.config.shadow = true;
    held.lists_after(MINUTES, &[of("r0", "ann/bot")]);
    held.core.config.shadow = false;
    // The next page promises one more than it shows: it proves nothing.
    held.at += MINUTES;
    held.tell(Input::Tick);
    while let Some(place) = held.asked.iter().position(|action| matches!(action, Action::Page(_))) {
        let Action::Page(fetch) = held.asked.remove(place) else { continue };
        let items = vec![of("r1", "ann")];
        let page = Page { items, unreadable: vec![], nameless: vec![], total: Some(2), pages: Some(1) };
        held.tell(Input::Page(fetch, Reply { result: Ok(page), date: None }));
    }
    assert_eq!(bases(&held), doubt("request-not-listed", "r0"));
    assert!(!let_in(&held, "r1"));
    held.lists_after(MINUTES, &[of("r0", "ann/bot"), of("r1", "ann")]);
    assert!(let_in(&held, "r1") && bases(&held).is_empty());
}

#[test]
fn our_own_id_in_a_row_says_whose_list_it_is_and_nothing_of_who_is_on_it() {
    let mut held = with_rules(SavedAgent::default());
    let agent = held.core.config.agent.clone();
    for (name, id, doubted) in [("c1", agent.as_str(), 0), ("c2", "u1", 0), ("c3", agent.as_str(), 0), ("c4", "u2", 1)]
    {
        let ids = Some(Box::new(SenderIds { sender: None, owner: SenderId::parse(id).ok() }));
        let (id, sender) = (ContactId::parse(name).unwrap(), Sender::parse(Some("bob")));
        let kind = ContactKind::User;
        let now = held.now();
        held.core.contact_added(Contact { id, sender, name: None, kind, inserted_at: None, ids }, now);
        assert_eq!(held.core.doubts().len(), doubted, "{name}");
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
        let mut held = with_rules(memory());
        held.lists_after(MINUTES, &[of("r1", "eve")]);
        assert_eq!(bases(&held), doubt("request-vanished", "r0"));
        held.core.updated(&crate::model::RequestId::parse("r0").unwrap(), status.clone(), now(held.at));
        held.lists_after(MINUTES, &[of("r1", "eve"), of("r2", "ann")]);
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], !rejected), "{status}");
        let said = |entry: &Record| matches!(entry, Record::Settled { status: Some(said), .. } if *said == status);
        assert!(held.recorded.iter().any(said), "{status} is on record");
    }
}

/// An approval of unknown outcome, after which the request is no longer listed.
fn presumed() -> Held {
    presumed_by(rules())
}

fn presumed_by(rules: Option<Arc<Policy>>) -> Held {
    let mut held = with(rules, SavedAgent::default());
    held.lists_after(MINUTES, &[of("r1", "ann")]);
    responds(&mut held, "r1", CallFault::NoAnswer);
    held.lists_after(MINUTES, &[of("r2", "ann/bot")]);
    held
}

fn responds(held: &mut Held, id: &str, fault: CallFault) {
    let error = CallError { fault, code: None, message: None, retry_after: None };
    let (request, written) = (RequestId::parse(id).unwrap(), now(held.at).mono);
    held.tell(Input::Responded { request, attempt: 1, reply: Reply { result: Err(error), date: None }, written });
}

#[test]
fn an_approval_of_unknown_fate_may_have_come_after_a_rejection_until_its_contact_appears() {
    let mut held = presumed();
    assert_eq!(bases(&held), doubt("presumed-approved", "r1"));
    assert!(!let_in(&held, "r2"));
    let sender = Sender::parse(Some("ann"));
    let id = ContactId::parse("c1").unwrap();
    let contact = Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None };
    held.core.contact_added(contact, held.now());
    held.wait(Duration::from_secs(1));
    assert!(bases(&held).is_empty() && let_in(&held, "r2"));

    for (status, lets_in) in [(RequestStatus::Rejected, false), (RequestStatus::Approved, true)] {
        let mut held = presumed();
        held.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), held.now());
        held.wait(Duration::from_secs(1));
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], lets_in), "{status:?}");
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
fn contacts_are(held: &mut Held, shown: &[Contact]) {
    if !held.asked.iter().any(|action| matches!(action, Action::Contacts { .. })) {
        held.at = held.at.max(held.core.contacts.due().unwrap().since_origin());
        held.wait(Duration::from_secs(1));
    }
    let asked = held.asked.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = held.asked.remove(asked) else { unreachable!() };
    let (items, total) = (shown.to_vec(), Some(shown.len() as u64));
    let page = Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(1) };
    held.tell(Input::Contacts { call, reply: Reply { result: Ok(page), date: None } });
    held.wait(Duration::from_secs(1));
}

#[test]
fn an_approval_that_is_only_presumed_is_none_until_something_shows_it() {
    let mut held = presumed_by(back());
    assert_eq!(bases(&held), doubt("presumed-approved", "r1"));
    assert!(!let_in(&held, "r2"));
    assert_eq!(held.core.pending()[0].doubts.len(), 1);
    held.core.contact_added(contact_of(Some("ann")), held.now());
    held.wait(Duration::from_secs(1));
    assert!(bases(&held).is_empty() && let_in(&held, "r2"));

    for (status, lets_in) in
        [(RequestStatus::Rejected, false), (RequestStatus::Expired, false), (RequestStatus::Approved, true)]
    {
        let mut held = presumed_by(back());
        held.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), held.now());
        held.wait(Duration::from_secs(1));
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], lets_in), "{status:?}");
    }
    for (said, lets_in) in
        [(DoubtSettlement::Approved, true), (DoubtSettlement::Rejected, false), (DoubtSettlement::Cancelled, false)]
    {
        let mut held = presumed_by(back());
        assert!(matches!(settle(&mut held, "r1", said), OpOutcome::Settled(_)), "{said:?}");
        held.wait(Duration::from_secs(1));
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], lets_in), "{said:?}");
    }
    // It is listed again: it was not approved.
    let mut held = presumed_by(back());
    held.core.ledger_ok = false;
    for _ in 0..3 {
        held.lists_after(10 * MINUTES, &[of("r1", "ann"), of("r2", "ann/bot")]);
    }
    assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], false));
}

#[test]
fn whose_contact_is_missing_in_three_readings_was_not_approved() {
    let mut held = presumed_by(back());
    let hidden = [contact_of(None)];
    for _ in 0..5 {
        contacts_are(&mut held, &hidden);
        assert_eq!(bases(&held), doubt("presumed-approved", "r1"), "a contact without a handle may be theirs");
    }
    held.core.contact_left(&hidden[0].id, false, held.now());
    for _ in 0..2 {
        contacts_are(&mut held, &[]);
        assert_eq!(bases(&held), doubt("presumed-approved", "r1"), "a row may have moved");
    }
    contacts_are(&mut held, &[]);
    assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], false));
    let mut held = presumed_by(back());
    contacts_are(&mut held, &[]);
    contacts_are(&mut held, &[contact_of(Some("ann"))]);
    assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], true));
}

#[test]
fn an_answer_that_a_refused_key_kept_from_being_given_is_withdrawn_on_record() {
    let withdrawn = |held: &Held| {
        let about = |entry: &&Record| matches!(entry, Record::Withdrawn { request, .. } if request.as_str() == "r1");
        held.recorded.iter().filter(about).count()
    };
    let mut held = with_rules(SavedAgent::default());
    held.lists_after(MINUTES, &[of("r1", "ann")]);
    assert_eq!((let_in(&held, "r1"), withdrawn(&held)), (true, 0));
    responds(&mut held, "r1", CallFault::KeyRefused);
    assert_eq!(withdrawn(&held), 1, "after a restart it would be one of unknown fate");
    let before = held.intents();
    held.tell(Input::KeyRenewed { changed: true });
    held.lists_after(10 * MINUTES, &[of("r1", "ann")]);
    assert!(held.intents() > before, "with a good key it is decided and sent again");
}

#[test]
fn who_waits_is_decided_again_once_another_of_the_same_owner_was_let_in() {
    let mut held = with(back(), SavedAgent::default());
    held.lists_after(MINUTES, &[of("r1", "ann/bot"), of("r2", "ann")]);
    assert!(!let_in(&held, "r1") && let_in(&held, "r2"));
    let (request, written) = (RequestId::parse("r2").unwrap(), now(held.at).mono);
    let reply = Reply { result: Ok(crate::platform::Responded { status: RequestStatus::Approved }), date: None };
    held.tell(Input::Responded { request, attempt: 1, reply, written });
    held.lists_after(MINUTES, &[of("r1", "ann/bot")]);
    held.wait(Duration::from_secs(1));
    assert!(let_in(&held, "r1"));
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

fn rejected(held: &Held, id: &str) -> bool {
    held.recorded
        .iter()
        .any(|entry| matches!(entry, Record::Intent { request, answer: Answer::Reject, .. } if request.as_str() == id))
}

/// A rejection of unknown outcome.
fn unknown_rejection(again: bool) -> Held {
    let mut held = with(shut_out(again), SavedAgent::default());
    held.lists_after(MINUTES, &[of("r1", "ann/bad")]);
    assert!(rejected(&held, "r1"));
    responds(&mut held, "r1", CallFault::NoAnswer);
    held
}

#[test]
fn a_rejection_that_is_only_presumed_decides_nothing_until_somebody_says_how_the_request_ended() {
    for again in [false, true] {
        let decided = |held: &Held| let_in(held, "r2") || rejected(held, "r2");
        let mut held = unknown_rejection(again);
        held.lists_after(MINUTES, &[of("r2", "ann"), of("r3", "bob")]);
        assert_eq!(bases(&held), doubt("presumed-rejected", "r1"));
        assert_eq!((decided(&held), let_in(&held, "r3")), (false, !again), "{again}");
        // It ends when no rule looks back that far.
        held.lists_after(24 * 60 * MINUTES, &[of("r2", "ann"), of("r3", "bob")]);
        assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], !again));

        for status in [RequestStatus::Rejected, RequestStatus::Expired] {
            let was = status == RequestStatus::Rejected;
            let mut held = unknown_rejection(again);
            held.lists_after(MINUTES, &[of("r2", "ann")]);
            held.core.updated(&RequestId::parse("r1").unwrap(), status.clone(), held.now());
            held.wait(Duration::from_secs(1));
            assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], !again && !was), "{status}");
            assert_eq!(rejected(&held, "r2"), again && was, "{status}");

            let mut held = unknown_rejection(again);
            held.lists_after(MINUTES, &[of("r2", "ann")]);
            let said = if was { DoubtSettlement::Rejected } else { DoubtSettlement::Expired };
            assert!(matches!(settle(&mut held, "r1", said), OpOutcome::Settled(rows) if rows.len() == 1));
            assert_eq!((bases(&held), let_in(&held, "r2")), (vec![], !again && !was), "{status}");
        }
    }
}

#[test]
fn a_rejection_of_unknown_fate_is_known_where_the_platform_says_that_the_request_was_rejected() {
    for again in [false, true] {
        let mut held = unknown_rejection(again);
        held.core.updated(&RequestId::parse("r1").unwrap(), RequestStatus::Rejected, held.now());
        held.lists_after(MINUTES, &[of("r2", "ann")]);
        assert_eq!((bases(&held), let_in(&held, "r2"), rejected(&held, "r2")), (vec![], false, again));
        let said = |entry: &Record| matches!(entry, Record::Settled { status: Some(RequestStatus::Rejected), .. });
        assert!(held.recorded.iter().any(said), "it is on record, for the next start");
    }
}
