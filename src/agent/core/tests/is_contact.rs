//! Who is a contact now: what a rule may believe of it, and for how long.

use std::sync::Arc;

use super::*;
use crate::model::{Contact, ContactId, ContactKind};
use crate::policy::conditions::IsContact;
use crate::policy::doubts::{Basis, Doubt, Fact};
use crate::policy::testkit::{approve, at, handle, id, policy};

const FIVE: Duration = Duration::from_secs(300);

fn contact(handle: &str) -> Contact {
    let id = ContactId::parse(&format!("c-{}", handle.replace('/', "-"))).unwrap();
    let sender = if handle.is_empty() { Sender::Absent } else { Sender::parse(Some(handle)) };
    Contact { id, sender, name: None, kind: ContactKind::User, inserted_at: None, ids: None }
}

/// The list of contacts is read, and shows these.
fn contacts_are(harness: &mut CoreHarness, shown: &[&str]) {
    contacts_and_rows(harness, shown, 0);
}

/// The same, with this many rows of which not even the id can be read.
fn contacts_and_rows(harness: &mut CoreHarness, shown: &[&str], odd: u32) {
    let asked = harness.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = harness.actions.remove(asked) else { unreachable!() };
    let items: Vec<Contact> = shown.iter().map(|handle| contact(handle)).collect();
    let total = Some(items.len() as u64);
    let result = Ok(Page { items, unreadable: vec![], nameless: (1..=odd).collect(), total, pages: Some(1) });
    harness.input(Input::Contacts { call, reply: Reply { result, date: None } });
}

/// A reading of several pages.
fn contacts_in_pages(harness: &mut CoreHarness, pages: &[&[&str]]) {
    let total = Some(pages.iter().map(|page| page.len() as u64).sum());
    for page in pages {
        let asked =
            harness.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
        let Action::Contacts { call, .. } = harness.actions.remove(asked) else { unreachable!() };
        let items = page.iter().map(|handle| contact(handle)).collect();
        let page = Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(pages.len() as u32) };
        harness.input(Input::Contacts { call, reply: Reply { result: Ok(page), date: None } });
    }
}

fn reading_fails(harness: &mut CoreHarness) {
    let asked = harness.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = harness.actions.remove(asked) else { unreachable!() };
    let error = CallError { fault: CallFault::Passing(503), code: None, message: None, retry_after: None };
    harness.input(Input::Contacts { call, reply: Reply { result: Err(error), date: None } });
}

fn with_rules(mut harness: CoreHarness) -> CoreHarness {
    let rule = approve("known", IsContact::OfOwner);
    harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    harness
}

fn ask(from: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(from)), ..request(&from.replace('/', "-")) }
}

fn let_in(harness: &CoreHarness) -> usize {
    let approves = |entry: &&Record| matches!(entry, Record::Intent { answer: Answer::Approve, .. });
    harness.recorded.iter().filter(approves).count()
}

fn known(harness: &CoreHarness, from: &str) -> (Option<bool>, Option<bool>) {
    harness.core.is_contact(Some(&handle(from)), harness.now())
}

#[test]
fn nobody_is_known_before_the_contacts_were_read_and_then_at_once() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    harness.wait(Duration::from_secs(3));
    assert_eq!((let_in(&harness), known(&harness, "acme/bot")), (0, (None, None)));
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(let_in(&harness), 1, "it is decided again, and nobody had to ask");
    assert_eq!(known(&harness, "acme/other"), (Some(true), Some(false)));
    assert_eq!(known(&harness, "acme"), (Some(true), Some(true)));
    assert_eq!(known(&harness, "acmee/bot"), (Some(false), Some(false)));
}

#[test]
fn without_a_channel_contacts_are_read_every_five_minutes_and_believed_for_fifteen() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    let began = harness.at;
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(harness.core.contacts.due(), Some(now(began + FIVE).mono));
    harness.wait(FIVE);
    reading_fails(&mut harness);
    harness.at = began + 3 * FIVE;
    assert_eq!(known(&harness, "acme/bot"), (Some(true), Some(false)));
    harness.at += Duration::from_secs(1);
    assert_eq!(known(&harness, "acme/bot"), (None, None), "read too long ago");
    harness.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    assert_eq!(let_in(&harness), 0);
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(let_in(&harness), 1);
}

#[test]
fn who_is_a_contact_no_more_lets_nobody_in() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_are(&mut harness, &["acme", "ann"]);
    harness.wait(FIVE);
    contacts_are(&mut harness, &["ann"]);
    harness.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    assert_eq!((let_in(&harness), known(&harness, "acme/bot")), (0, (Some(false), Some(false))));
    // It comes back, whoever made it: the resting requests are decided again.
    harness.wait(FIVE);
    contacts_are(&mut harness, &["ann", "acme/first"]);
    assert_eq!(let_in(&harness), 1);
}

#[test]
fn a_channel_counts_as_long_as_it_is_joined_and_only_what_was_read_since() {
    let mut harness = CoreHarness::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    harness.joins();
    let mut harness = with_rules(harness);
    contacts_are(&mut harness, &["ann"]);
    let began = harness.at;
    harness.at += 10 * FIVE;
    assert_eq!(known(&harness, "ann/bot"), (Some(true), Some(false)));
    harness.core.contact_added(contact("acme"), harness.now());
    assert_eq!(known(&harness, "acme/bot"), (Some(true), Some(false)));
    harness.core.removed_contact(&contact("acme").id, harness.now());
    assert_eq!(known(&harness, "acme/bot"), (Some(false), Some(false)));
    // The channel sent something about a contact that could not be read: it may concern anybody.
    harness.core.contacts_unwatched(harness.now());
    assert_eq!((known(&harness, "ann/bot"), known(&harness, "acme/bot")), ((None, None), (None, None)));
    assert!(harness.core.contacts.due().unwrap() > now(began).mono);
    harness.wait(Duration::ZERO);
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(
        (known(&harness, "ann/bot"), known(&harness, "acme/bot")),
        ((Some(false), Some(false)), (Some(true), Some(false)))
    );
}

#[test]
fn what_is_in_doubt_is_not_known() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_are(&mut harness, &["acme", "ann"]);
    // Somebody else has this name now.
    let basis = Basis::OtherSender(id("r9"));
    let since = at("1970-01-01T00:00:00Z");
    let doubt = Doubt { owner: "acme".into(), sender: None, fact: Fact::Identity, since, until: None, basis };
    harness.core.policy_state.doubts_mut().add(doubt);
    assert_eq!((known(&harness, "acme/bot"), known(&harness, "ann")), ((None, None), (Some(true), Some(true))));
    // The contact may have gone: only a reading to come shows.
    harness.core.policy_state.doubts_mut().contacts_mut().unwatched(99, since);
    assert_eq!((known(&harness, "ann/bot"), known(&harness, "bob")), ((None, None), (Some(false), Some(false))));
}

#[test]
fn a_contact_that_nobody_can_name_may_be_anybody() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_are(&mut harness, &["acme", ""]);
    assert_eq!((known(&harness, "acme"), known(&harness, "bob")), ((Some(true), Some(true)), (None, None)));
    harness.wait(FIVE);
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(known(&harness, "bob"), (Some(false), Some(false)));
    harness.wait(FIVE);
    contacts_and_rows(&mut harness, &["acme"], 1);
    assert_eq!((known(&harness, "acme").0, known(&harness, "bob").0), (Some(true), None));
}

#[test]
fn who_was_let_in_and_not_shown_yet_is_not_known_to_be_none() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_are(&mut harness, &[]);
    harness.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    harness.approve("acme-bot", false);
    harness.confirmed("acme-bot", Answer::Approve);
    assert_eq!((known(&harness, "acme/bot"), known(&harness, "acme/x")), ((None, None), (None, Some(false))));
    assert_eq!(known(&harness, "acmes"), (Some(false), Some(false)));
    harness.wait(MINUTES);
    contacts_are(&mut harness, &["acme/bot"]);
    assert_eq!(known(&harness, "acme/x"), (Some(true), Some(false)));
}

#[test]
fn a_contact_that_took_another_name_is_one_of_its_new_owner_only() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_are(&mut harness, &["acme"]);
    harness.wait(FIVE);
    let renamed = Contact { sender: Sender::parse(Some("bob")), ..contact("acme") };
    harness.core.contact_added(renamed, harness.now());
    assert_eq!((known(&harness, "acme/bot").0, known(&harness, "bob/bot").0), (Some(false), Some(true)));
}

#[test]
fn whoever_may_have_slipped_past_a_reading_of_several_pages_is_not_known_to_be_none() {
    let mut harness = with_rules(CoreHarness::new(SavedAgent::default()));
    harness.wait(Duration::from_secs(3));
    contacts_in_pages(&mut harness, &[&["acme"], &["ann"]]);
    assert_eq!((known(&harness, "acme/bot"), known(&harness, "bob")), ((Some(true), None), (None, None)));
    // The next reading comes soon.
    harness.wait(MINUTES);
    contacts_in_pages(&mut harness, &[&["acme"], &["ann"]]);
    assert_eq!((known(&harness, "acme/bot").1, known(&harness, "bob").0), (Some(false), Some(false)), "both missed it");
    harness.wait(FIVE);
    contacts_and_rows(&mut harness, &["acme", "ann"], 1);
    harness.wait(FIVE);
    contacts_in_pages(&mut harness, &[&["acme"], &["ann"]]);
    assert_eq!(known(&harness, "bob").0, None, "what was before a row that may be anybody proves nothing");
    harness.wait(MINUTES);
    contacts_are(&mut harness, &["acme", "ann"]);
    assert_eq!(known(&harness, "bob").0, Some(false), "one page is a snapshot");
}

#[test]
fn nobody_looks_more_often_for_a_policy_that_does_not_ask() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.wait(Duration::from_secs(3));
    let began = harness.at;
    contacts_are(&mut harness, &["acme"]);
    assert_eq!(
        (harness.core.contacts.due(), known(&harness, "acme")),
        (Some(now(began + 12 * FIVE).mono), (None, None))
    );
    let mut harness = with_rules(harness);
    assert_eq!(harness.core.contacts.due(), Some(now(began + FIVE).mono), "from the reload on");
    harness.wait(Duration::ZERO);
    assert_eq!(known(&harness, "acme"), (Some(true), Some(true)));
}
