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
fn contacts_are(held: &mut Held, shown: &[&str]) {
    contacts_and_rows(held, shown, 0);
}

/// The same, with this many rows of which not even the id can be read.
fn contacts_and_rows(held: &mut Held, shown: &[&str], odd: u32) {
    let asked = held.asked.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = held.asked.remove(asked) else { unreachable!() };
    let items: Vec<Contact> = shown.iter().map(|handle| contact(handle)).collect();
    let total = Some(items.len() as u64);
    let result = Ok(Page { items, unreadable: vec![], nameless: (1..=odd).collect(), total, pages: Some(1) });
    held.tell(Input::Contacts { call, reply: Reply { result, date: None } });
}

/// A reading of several pages.
fn contacts_in_pages(held: &mut Held, pages: &[&[&str]]) {
    let total = Some(pages.iter().map(|page| page.len() as u64).sum());
    for page in pages {
        let asked = held.asked.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
        let Action::Contacts { call, .. } = held.asked.remove(asked) else { unreachable!() };
        let items = page.iter().map(|handle| contact(handle)).collect();
        let page = Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(pages.len() as u32) };
        held.tell(Input::Contacts { call, reply: Reply { result: Ok(page), date: None } });
    }
}

fn reading_fails(held: &mut Held) {
    let asked = held.asked.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
    let Action::Contacts { call, .. } = held.asked.remove(asked) else { unreachable!() };
    let error = CallError { fault: CallFault::Passing(503), code: None, message: None, retry_after: None };
    held.tell(Input::Contacts { call, reply: Reply { result: Err(error), date: None } });
}

fn with_rules(mut held: Held) -> Held {
    let rule = approve("known", IsContact::OfOwner);
    held.tell(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    held
}

fn ask(from: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(from)), ..request(&from.replace('/', "-")) }
}

fn let_in(held: &Held) -> usize {
    let approves = |entry: &&Record| matches!(entry, Record::Intent { answer: Answer::Approve, .. });
    held.recorded.iter().filter(approves).count()
}

fn known(held: &Held, from: &str) -> (Option<bool>, Option<bool>) {
    held.core.is_contact(Some(&handle(from)), held.now())
}

#[test]
fn nobody_is_known_before_the_contacts_were_read_and_then_at_once() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    held.wait(Duration::from_secs(3));
    assert_eq!((let_in(&held), known(&held, "acme/bot")), (0, (None, None)));
    contacts_are(&mut held, &["acme"]);
    assert_eq!(let_in(&held), 1, "it is decided again, and nobody had to ask");
    assert_eq!(known(&held, "acme/other"), (Some(true), Some(false)));
    assert_eq!(known(&held, "acme"), (Some(true), Some(true)));
    assert_eq!(known(&held, "acmee/bot"), (Some(false), Some(false)));
}

#[test]
fn without_a_channel_contacts_are_read_every_five_minutes_and_believed_for_fifteen() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    let began = held.at;
    contacts_are(&mut held, &["acme"]);
    assert_eq!(held.core.contacts.due(), Some(now(began + FIVE).mono));
    held.wait(FIVE);
    reading_fails(&mut held);
    held.at = began + 3 * FIVE;
    assert_eq!(known(&held, "acme/bot"), (Some(true), Some(false)));
    held.at += Duration::from_secs(1);
    assert_eq!(known(&held, "acme/bot"), (None, None), "read too long ago");
    held.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    assert_eq!(let_in(&held), 0);
    contacts_are(&mut held, &["acme"]);
    assert_eq!(let_in(&held), 1);
}

#[test]
fn who_is_a_contact_no_more_lets_nobody_in() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_are(&mut held, &["acme", "ann"]);
    held.wait(FIVE);
    contacts_are(&mut held, &["ann"]);
    held.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    assert_eq!((let_in(&held), known(&held, "acme/bot")), (0, (Some(false), Some(false))));
    // It comes back, whoever made it: the resting requests are decided again.
    held.wait(FIVE);
    contacts_are(&mut held, &["ann", "acme/first"]);
    assert_eq!(let_in(&held), 1);
}

#[test]
fn a_channel_tells_for_as_long_as_it_is_joined_and_only_what_was_read_since() {
    let mut held = Held::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    held.joins();
    let mut held = with_rules(held);
    contacts_are(&mut held, &["ann"]);
    let began = held.at;
    held.at += 10 * FIVE;
    assert_eq!(known(&held, "ann/bot"), (Some(true), Some(false)));
    held.core.contact_added(contact("acme"), held.now());
    assert_eq!(known(&held, "acme/bot"), (Some(true), Some(false)));
    held.core.removed_contact(&contact("acme").id, held.now());
    assert_eq!(known(&held, "acme/bot"), (Some(false), Some(false)));
    // The channel sent something about a contact that could not be read: it may concern anybody.
    held.core.contacts_unwatched(held.now());
    assert_eq!((known(&held, "ann/bot"), known(&held, "acme/bot")), ((None, None), (None, None)));
    assert!(held.core.contacts.due().unwrap() > now(began).mono);
    held.wait(Duration::ZERO);
    contacts_are(&mut held, &["acme"]);
    assert_eq!(
        (known(&held, "ann/bot"), known(&held, "acme/bot")),
        ((Some(false), Some(false)), (Some(true), Some(false)))
    );
}

#[test]
fn what_is_in_doubt_is_not_known() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_are(&mut held, &["acme", "ann"]);
    // Somebody else has this name now.
    let basis = Basis::OtherSender(id("r9"));
    let since = at("1970-01-01T00:00:00Z");
    let doubt = Doubt { owner: "acme".into(), sender: None, fact: Fact::Identity, since, until: None, basis };
    held.core.policy_state.doubts_mut().add(doubt);
    assert_eq!((known(&held, "acme/bot"), known(&held, "ann")), ((None, None), (Some(true), Some(true))));
    // The contact may have gone: only a reading to come shows.
    held.core.policy_state.doubts_mut().contacts_mut().unwatched(99, since);
    assert_eq!((known(&held, "ann/bot"), known(&held, "bob")), ((None, None), (Some(false), Some(false))));
}

#[test]
fn a_contact_that_nobody_can_name_may_be_anybody() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_are(&mut held, &["acme", ""]);
    assert_eq!((known(&held, "acme"), known(&held, "bob")), ((Some(true), Some(true)), (None, None)));
    held.wait(FIVE);
    contacts_are(&mut held, &["acme"]);
    assert_eq!(known(&held, "bob"), (Some(false), Some(false)));
    held.wait(FIVE);
    contacts_and_rows(&mut held, &["acme"], 1);
    assert_eq!((known(&held, "acme").0, known(&held, "bob").0), (Some(true), None));
}

#[test]
fn who_was_let_in_and_not_shown_yet_is_not_known_to_be_none() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_are(&mut held, &[]);
    held.lists_after(Duration::ZERO, &[ask("acme/bot")]);
    held.approve("acme-bot", false);
    held.applied("acme-bot", Answer::Approve);
    assert_eq!((known(&held, "acme/bot"), known(&held, "acme/x")), ((None, None), (None, Some(false))));
    assert_eq!(known(&held, "acmes"), (Some(false), Some(false)));
    held.wait(MINUTES);
    contacts_are(&mut held, &["acme/bot"]);
    assert_eq!(known(&held, "acme/x"), (Some(true), Some(false)));
}

#[test]
fn a_contact_that_took_another_name_is_one_of_its_new_owner_only() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_are(&mut held, &["acme"]);
    held.wait(FIVE);
    let renamed = Contact { sender: Sender::parse(Some("bob")), ..contact("acme") };
    held.core.contact_added(renamed, held.now());
    assert_eq!((known(&held, "acme/bot").0, known(&held, "bob/bot").0), (Some(false), Some(true)));
}

#[test]
fn whoever_may_have_slipped_past_a_reading_of_several_pages_is_not_known_to_be_none() {
    let mut held = with_rules(Held::new(SavedAgent::default()));
    held.wait(Duration::from_secs(3));
    contacts_in_pages(&mut held, &[&["acme"], &["ann"]]);
    assert_eq!((known(&held, "acme/bot"), known(&held, "bob")), ((Some(true), None), (None, None)));
    // The next reading comes soon.
    held.wait(MINUTES);
    contacts_in_pages(&mut held, &[&["acme"], &["ann"]]);
    assert_eq!((known(&held, "acme/bot").1, known(&held, "bob").0), (Some(false), Some(false)), "both missed it");
    held.wait(FIVE);
    contacts_and_rows(&mut held, &["acme", "ann"], 1);
    held.wait(FIVE);
    contacts_in_pages(&mut held, &[&["acme"], &["ann"]]);
    assert_eq!(known(&held, "bob").0, None, "what was before a row that may be anybody proves nothing");
    held.wait(MINUTES);
    contacts_are(&mut held, &["acme", "ann"]);
    assert_eq!(known(&held, "bob").0, Some(false), "one page is a snapshot");
}

#[test]
fn nobody_looks_more_often_for_a_policy_that_does_not_ask() {
    let mut held = Held::new(SavedAgent::default());
    held.wait(Duration::from_secs(3));
    let began = held.at;
    contacts_are(&mut held, &["acme"]);
    assert_eq!((held.core.contacts.due(), known(&held, "acme")), (Some(now(began + 12 * FIVE).mono), (None, None)));
    let mut held = with_rules(held);
    assert_eq!(held.core.contacts.due(), Some(now(began + FIVE).mono), "from the reload on");
    held.wait(Duration::ZERO);
    assert_eq!(known(&held, "acme"), (Some(true), Some(true)));
}
