//! The list of contacts: who was removed, who counts already, and which decisions depend on their number.

use std::sync::Arc;

use super::*;
use crate::agent::core::contacts::PAGES_MAX;
use crate::agent::core::outbox;
use crate::model::{Contact, ContactId, ContactKind};
use crate::policy::conditions::ContactsOver;
use crate::policy::testkit::{approve, by_handle, policy};

fn contact(id: &str) -> Contact {
    let id = ContactId::parse(id).unwrap();
    Contact { id, sender: Sender::Absent, name: None, kind: ContactKind::User, inserted_at: None, ids: None }
}

/// One of two pages of contacts.
fn contacts_page(harness: &mut CoreHarness, shown: &[&str], total: u64, unreadable: u32) {
    let asked = harness.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).unwrap();
    let Action::Contacts { call, .. } = harness.actions.remove(asked) else { unreachable!() };
    let items = shown.iter().map(|id| contact(id)).collect();
    let result = Ok(Page {
        items,
        unreadable: vec![],
        nameless: (1..=unreadable).collect(),
        total: Some(total),
        pages: Some(2),
    });
    harness.input(Input::Contacts { call, reply: Reply { result, date: None } });
}

/// Begins the next reading, unless one is under way.
fn contacts_are_due(harness: &mut CoreHarness) {
    if let Some(due) = harness.core.contacts.due() {
        harness.at = due.since_origin();
        harness.input(Input::Tick);
    }
}

#[test]
fn a_contact_is_gone_by_two_undisturbed_readings_or_by_three_disturbed_ones_in_succession() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    // Columns: the rows shown, whether the reading was disturbed, odd rows, the time to the next reading, and how many
    // contacts are known after it.
    let hour = Some(60 * MINUTES);
    let soon = Some(Duration::from_secs(32));
    let at_once = None;
    for (number, (shown, disturbed, odd, wait, known)) in [
        (&["a", "b"][..], false, 0, hour, 2),
        (&["a"], true, 0, soon, 2),
        (&["a"], true, 0, soon, 2),
        // The row had only moved to another page: the misses counted so far are forgotten.
        (&["a", "b"], true, 0, hour, 2),
        (&["a"], true, 0, soon, 2),
        // The unreadable row may be the missing one, now and in later readings.
        (&["a"], true, 1, hour, 2),
        (&["a"], true, 0, soon, 2),
        (&["a"], true, 0, hour, 1),
        (&["c"], false, 0, at_once, 2),
        (&["c"], false, 0, hour, 1),
    ]
    .into_iter()
    .enumerate()
    {
        contacts_are_due(&mut harness);
        let total = shown.len() as u64;
        contacts_page(&mut harness, shown, total + u64::from(disturbed), odd);
        contacts_page(&mut harness, &[], total, 0);
        assert_eq!(harness.core.contact_count(), Some(known), "after reading {number}");
        assert_eq!(harness.core.contacts.due(), wait.map(|wait| now(harness.at + wait).mono), "after reading {number}");
    }
    let removed = harness.recorded.iter().filter_map(|entry| match entry {
        Record::ContactRemoved { contact, .. } => Some(contact.as_str()),
        _ => None,
    });
    assert_eq!(removed.collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn who_slips_from_page_to_page_while_the_total_stays_is_in_doubt_and_not_removed() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let removed = |harness: &CoreHarness| {
        let removed = harness.recorded.iter().filter_map(|entry| match entry {
            Record::ContactRemoved { contact, .. } => Some(contact.to_string()),
            _ => None,
        });
        removed.collect::<Vec<_>>()
    };
    let in_doubt = |harness: &CoreHarness| harness.core.policy_state.doubts().contacts().any_in_doubt();
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a", "b"], 3, 0);
    contacts_page(&mut harness, &["c"], 3, 0);
    assert!(!in_doubt(&harness));
    // `a` is removed and `d` is added between the pages, and `c` moves to the page that was already read.
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a", "b"], 3, 0);
    contacts_page(&mut harness, &["d"], 3, 0);
    assert!(removed(&harness).is_empty() && in_doubt(&harness));
    // The next one begins at once: `c` is there, and now `a` is missing.
    contacts_page(&mut harness, &["b", "c"], 3, 0);
    contacts_page(&mut harness, &["d"], 3, 0);
    assert!(removed(&harness).is_empty() && in_doubt(&harness));
    contacts_page(&mut harness, &["b", "c"], 3, 0);
    contacts_page(&mut harness, &["d"], 3, 0);
    assert_eq!((removed(&harness), in_doubt(&harness)), (vec!["a".to_owned()], false));
    assert_eq!(harness.core.contacts.due(), Some(now(harness.at + 60 * MINUTES).mono));
}

#[test]
fn a_list_that_never_stands_still_is_not_read_without_a_pause() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a", "b"], 3, 0);
    contacts_page(&mut harness, &["c"], 3, 0);
    contacts_are_due(&mut harness);
    let mut in_a_row = 0;
    for (first, second) in [("a", "b"), ("b", "c"), ("a", "c")].into_iter().cycle().take(12) {
        contacts_page(&mut harness, &[first], 2, 0);
        contacts_page(&mut harness, &[second], 2, 0);
        if harness.core.contacts.due().is_some_and(|due| due > now(harness.at).mono) {
            in_a_row = 0;
            contacts_are_due(&mut harness);
        } else {
            in_a_row += 1;
        }
        assert!(in_a_row <= 2, "each reading shows that somebody is missing who is there in the next");
    }
    assert!(harness.recorded.iter().all(|entry| !matches!(entry, Record::ContactRemoved { .. })));
}

#[test]
fn a_total_that_stays_one_too_high_does_not_keep_a_removed_contact_for_ever() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let removed = |harness: &CoreHarness| {
        harness.recorded.iter().filter(|entry| matches!(entry, Record::ContactRemoved { .. })).count()
    };
    for (number, (shown, gone)) in
        [(&["a", "b"][..], 0), (&["a"], 0), (&["a"], 0), (&["a", "b"], 0), (&["a"], 0), (&["a"], 0), (&["a"], 1)]
            .into_iter()
            .enumerate()
    {
        contacts_are_due(&mut harness);
        contacts_page(&mut harness, shown, 3, 0);
        contacts_page(&mut harness, &[], 3, 0);
        assert_eq!(removed(&harness), gone, "after reading {number}");
    }
    // Once nobody is missing, the list is not read all the time only for a number.
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a"], 3, 0);
    contacts_page(&mut harness, &[], 3, 0);
    assert_eq!(harness.core.contacts.due(), Some(now(harness.at + 60 * MINUTES).mono));
}

#[test]
fn what_happens_between_two_pages_of_contacts_is_recorded_once() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a", "b", "c"], 4, 0);
    harness.core.contact_added(contact("d"), now(harness.at));
    harness.core.removed_contact(&ContactId::parse("a").unwrap(), now(harness.at));
    // Made before either, and after a row slipped: "b" is shown again.
    contacts_page(&mut harness, &["b", "a", "d"], 4, 0);
    let changes = harness.recorded.iter().filter_map(|entry| match entry {
        Record::ContactAdded { contact, .. } => Some(format!("+{}", contact.id)),
        Record::ContactRemoved { contact, .. } => Some(format!("-{contact}")),
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), ["+a", "+b", "+c", "+d", "-a"]);
    assert_eq!(harness.core.contact_count(), Some(3));
}

#[test]
fn what_a_reading_showed_before_it_failed_is_not_recorded_again() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a", "b"], 3, 0);
    let error = CallError { fault: CallFault::Passing(503), code: None, message: None, retry_after: None };
    let Some(Action::Contacts { call, .. }) = harness.actions.pop() else { unreachable!() };
    harness.input(Input::Contacts { call, reply: Reply { result: Err(error), date: None } });
    assert_eq!(harness.core.contact_count(), Some(3), "as its page said");
    contacts_are_due(&mut harness);
    for known in [3, 2] {
        contacts_page(&mut harness, &["b", "c"], 2, 0);
        contacts_page(&mut harness, &[], 2, 0);
        assert_eq!(harness.core.contact_count(), Some(known));
    }
    let changes = harness.recorded.iter().filter_map(|entry| match entry {
        Record::ContactAdded { contact, .. } => Some(format!("+{}", contact.id)),
        Record::ContactRemoved { contact, .. } => Some(format!("-{contact}")),
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), ["+a", "+b", "+c", "-a"]);
}

#[test]
fn more_contacts_than_are_kept_are_counted_by_the_platform_and_not_read_to_the_end() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let pages = |harness: &CoreHarness| {
        harness.actions.iter().filter(|action| matches!(action, Action::Contacts { .. })).count()
    };
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &["a"], 100_000, 0);
    assert_eq!(pages(&harness), 1, "the next page");
    contacts_page(&mut harness, &["b"], 100_001, 0);
    assert_eq!((pages(&harness), harness.core.contact_count()), (0, Some(100_001)));
    assert_eq!(harness.core.contacts.due(), Some(now(harness.at + 60 * MINUTES).mono), "not at once");

    // Pages without an end: each shows the same rows.
    contacts_are_due(&mut harness);
    for number in 1..=PAGES_MAX {
        assert_eq!(pages(&harness), 1, "page {number}");
        let Some(Action::Contacts { call, .. }) = harness.actions.pop() else { unreachable!() };
        let result = Ok(Page {
            items: vec![contact("a")],
            unreadable: vec![],
            nameless: vec![],
            total: None,
            pages: Some(u32::MAX),
        });
        harness.input(Input::Contacts { call, reply: Reply { result, date: None } });
    }
    assert_eq!((pages(&harness), harness.core.contact_count()), (0, None));
}

/// Rules that let friends in as long as there is no contact.
fn one_friend() -> CoreHarness {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let rule = approve("friends", by_handle(&["ann", "bob"])).unless(ContactsOver(0));
    harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    contacts_are_due(&mut harness);
    contacts_page(&mut harness, &[], 0, 0);
    harness
}

fn friend(name: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some(name)), ..request(name) }
}

fn let_in(harness: &CoreHarness) -> Vec<&str> {
    let intents = harness.recorded.iter().filter_map(|entry| match entry {
        Record::Intent { request, answer: Answer::Approve, .. } => Some(request.as_str()),
        _ => None,
    });
    intents.collect()
}

#[test]
fn who_was_let_in_counts_before_anybody_sees_the_contact() {
    let mut harness = one_friend();
    harness.lists_after(MINUTES, &[friend("ann")]);
    harness.confirmed("ann", Answer::Approve);
    assert_eq!(harness.core.contact_count(), Some(1));
    // Nothing reports contacts to an agent that polls: it reads the list soon.
    assert!(harness.core.contacts.due().unwrap().since_origin() < harness.at + MINUTES);
    harness.lists_after(MINUTES, &[friend("bob")]);
    assert_eq!((let_in(&harness), harness.core.pending().len()), (vec!["ann"], 1), "bob is one too many");

    // Ann was added and removed.
    contacts_page(&mut harness, &[], 0, 0);
    assert_eq!(harness.core.contact_count(), Some(0));
    assert_eq!(let_in(&harness), ["ann", "bob"], "there is room again, and nobody had to ask");
}

#[test]
fn a_contact_is_on_record_before_it_is_known_whose_doing_it_is() {
    let mut harness = one_friend();
    harness.lists_after(MINUTES, &[friend("ann")]);
    let shown = Contact { sender: Sender::parse(Some("ann")), ..contact("c1") };
    harness.core.contact_added(shown, now(harness.at));
    harness.input(Input::Tick);
    harness.at += outbox::TOGETHER;
    harness.input(Input::Tick);
    let added = |harness: &CoreHarness| -> Vec<Option<String>> {
        let made = harness.recorded.iter().filter_map(|entry| match entry {
            Record::ContactAdded { request, .. } => Some(request.as_ref().map(ToString::to_string)),
            _ => None,
        });
        made.collect()
    };
    assert_eq!(added(&harness), [None], "its removal would be noticed, whatever becomes of the answer");
    harness.confirmed("ann", Answer::Approve);
    harness.at += outbox::TOGETHER;
    harness.input(Input::Tick);
    assert_eq!(added(&harness), [None, Some("ann".to_owned())]);
}

#[test]
fn an_agent_that_gets_events_of_contacts_reads_them_by_the_hour() {
    let mut harness = CoreHarness::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    harness.joins();
    contacts_page(&mut harness, &[], 0, 0);
    harness.lists_after(Duration::ZERO, &[friend("ann")]);
    harness.approve("ann", false);
    harness.confirmed("ann", Answer::Approve);
    assert_eq!((harness.core.contact_count(), harness.answers_sent()), (Some(1), 1));
    assert_eq!(harness.core.contacts.due(), Some(now(60 * MINUTES).mono), "its channel tells of ann");
}

#[test]
fn who_waits_for_the_number_of_contacts_is_decided_once_it_is_known() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let rule = approve("friends", by_handle(&["ann"])).unless(ContactsOver(0));
    harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
    harness.lists_after(Duration::ZERO, &[friend("ann")]);
    harness.lists_after(Duration::from_secs(3), &[friend("ann")]);
    assert!(let_in(&harness).is_empty() && harness.core.contact_count().is_none());
    contacts_page(&mut harness, &[], 0, 0);
    assert_eq!(let_in(&harness), ["ann"]);
}

/// The pages of contacts that are asked for now.
fn asked_for(harness: &CoreHarness) -> Vec<u32> {
    let page = |action: &Action| match action {
        Action::Contacts { page, .. } => Some(*page),
        _ => None,
    };
    harness.actions.iter().filter_map(page).collect()
}

#[test]
fn where_no_rule_asks_about_contacts_a_long_list_waits_for_many_strangers_but_not_for_ever() {
    let friends = || approve("friends", by_handle(&["friends/*"]));
    let begun = |rule| {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.input(Input::Policy(Some(Arc::new(policy(vec![rule])))));
        contacts_are_due(&mut harness);
        assert_eq!(asked_for(&harness), [1]);
        // Nothing is decided meanwhile.
        harness.input(Input::LedgerHealth(false));
        for number in 0..90 {
            harness.core.inbox.see_event(request(&format!("r{number}")), now(harness.at));
        }
        contacts_page(&mut harness, &["a", "b"], 3, 0);
        harness
    };
    assert_eq!(asked_for(&begun(friends().unless(ContactsOver(5)))), [2], "a decision may depend on them");
    let mut harness = begun(friends());
    harness.wait(Duration::from_secs(29));
    assert_eq!(asked_for(&harness), [0_u32; 0]);
    harness.wait(Duration::from_secs(1));
    assert_eq!(asked_for(&harness), [2], "it has waited long enough");
    contacts_page(&mut harness, &["c"], 3, 0);
    assert_eq!(harness.core.contact_count(), Some(3));

    let mut harness = begun(friends());
    harness.input(Input::LedgerHealth(true));
    harness.wait(Duration::from_millis(100));
    harness.wait(Duration::from_millis(100));
    assert_eq!(asked_for(&harness), [2], "all of them were decided");
}
