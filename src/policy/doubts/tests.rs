//! The register: whom a doubt concerns, what it makes unknown, and how it ends.

use super::contacts::PARTED_MAX;
use super::*;
use crate::model::{ContactKind, RequestId, Sender};
use crate::policy::testkit::{handle, hours, noon};

fn contact(id: &str, handle: Option<&str>) -> Contact {
    let id = ContactId::parse(id).unwrap();
    Contact { id, sender: Sender::parse(handle), name: None, kind: ContactKind::User, inserted_at: None, ids: None }
}

fn cid(id: &str) -> ContactId {
    ContactId::parse(id).unwrap()
}

fn open(id: &str, owners: &[&str]) -> OpenContact {
    let owners: Vec<Arc<str>> = owners.iter().map(|&owner| owner.into()).collect();
    OpenContact { id: cid(id), handle: None, owners, since: noon(), elsewhere: true }
}

fn on_record(contacts: Vec<OpenContact>) -> Doubts {
    let mut doubts = Doubts::default();
    doubts.contacts_mut().on_record(contacts, noon());
    doubts
}

fn vanished(owner: &str, request: &str, until: Timestamp) -> Doubt {
    let basis = Basis::Vanished(RequestId::parse(request).unwrap());
    let sender = Some(handle(owner));
    Doubt { owner: owner.into(), sender, fact: Fact::Rejected, since: noon(), until: Some(until), basis }
}

fn removed(doubts: &Doubts, owner: &str) -> bool {
    doubts.unknown(owner, Fact::Removed, Some(hours(24)), noon() + hours(1)).is_some()
}

fn all() -> HistoryNeeds {
    HistoryNeeds { rejected: Some(hours(24)), removed: Some(hours(24)), ..HistoryNeeds::default() }
}

#[test]
fn a_word_for_one_owner_of_a_contact_says_nothing_to_another() {
    let mut doubts = on_record(vec![open("a", &["ann"]), open("b", &["bob", "rob"])]);
    doubts.settled("bob", Some(Fact::Removed), noon());
    assert!(!removed(&doubts, "bob") && removed(&doubts, "rob") && removed(&doubts, "ann"));
    let owners: Vec<_> = doubts.list(&all(), noon()).iter().map(|doubt| doubt.owner.to_string()).collect();
    assert_eq!(owners, ["ann", "rob"]);
    // The contacts are no longer watched: the person's statement was about the time before.
    doubts.contacts_mut().unwatched(2, noon() + hours(1));
    assert!(removed(&doubts, "bob") && removed(&doubts, "rob"));
}

#[test]
fn after_a_start_only_owners_of_open_contacts_are_in_doubt_until_each_was_seen() {
    let mut doubts = on_record(vec![open("a", &["ann"]), open("b", &["bob", "rob"])]);
    assert!(removed(&doubts, "ann") && removed(&doubts, "bob") && removed(&doubts, "rob"));
    assert!(!removed(&doubts, "eve"), "for everybody else the record holds");
    assert_eq!(doubts.list(&all(), noon()).len(), 3);
    assert_eq!(doubts.contact_seen(&contact("b", None), 1, noon()), AddOutcome::Known);
    assert!(!removed(&doubts, "bob") && !removed(&doubts, "rob"), "a null handle is no other handle");
    assert!(removed(&doubts, "ann"));
    let changed = doubts.take_changed().unwrap();
    assert!(changed.contains("bob") && changed.contains("rob") && !changed.contains("ann"));
    assert_eq!(doubts.take_changed(), None);
    // The channel was lost and joined again: earlier readings prove nothing.
    doubts.contacts_mut().unwatched(2, noon() + hours(1));
    assert!(removed(&doubts, "bob"));
    doubts.contact_seen(&contact("b", Some("bob")), 1, noon());
    assert!(removed(&doubts, "bob"), "a page of the reading before");
    doubts.contact_seen(&contact("b", Some("bob")), 2, noon());
    assert!(!removed(&doubts, "bob"));
}

#[test]
fn a_contact_keeps_every_owner_that_it_had() {
    let mut doubts = Doubts::default();
    assert_eq!(doubts.contact_seen(&contact("c", Some("mallory")), 1, noon()), AddOutcome::New);
    assert_eq!(doubts.contact_seen(&contact("c", None), 1, noon()), AddOutcome::Known);
    assert_eq!(doubts.contact_seen(&contact("c", Some("carol/bot")), 1, noon()), AddOutcome::Renamed);
    for number in 0..100 {
        doubts.contact_seen(&contact("c", Some(&format!("owner{number}"))), 1, noon());
    }
    let gone = doubts.contacts.remove(&cid("c")).unwrap();
    assert_eq!((&*gone.owners[0], &*gone.owners[15], gone.owners.len()), ("mallory", "owner99", 16));
    assert!(!doubts.contacts().has("mallory") && !doubts.contacts().has("owner50") && doubts.contacts().is_empty());
}

#[test]
fn a_contact_that_comes_again_without_a_handle_has_those_that_it_had() {
    let mut doubts = Doubts::default();
    doubts.contact_seen(&contact("c", Some("mallory")), 1, noon());
    doubts.contacts.remove(&cid("c"));
    assert_eq!(doubts.contact_seen(&contact("c", None), 1, noon()), AddOutcome::New);
    let gone = doubts.contacts.remove(&cid("c")).unwrap();
    assert_eq!((gone.owners, gone.handle), (vec!["mallory".into()], Some(handle("mallory"))));
    // One that says whose it is now is theirs alone.
    doubts.contact_seen(&contact("c", Some("carol")), 1, noon());
    assert_eq!(doubts.contacts.remove(&cid("c")).unwrap().owners, ["carol".into()]);
    for number in 0..PARTED_MAX {
        doubts.contact_seen(&contact(&format!("d{number}"), Some("dora")), 1, noon());
        doubts.contacts.remove(&cid(&format!("d{number}")));
    }
    doubts.contact_seen(&contact("c", None), 1, noon());
    assert!(doubts.contacts.remove(&cid("c")).unwrap().owners.is_empty(), "so many later it is forgotten");
}

#[test]
fn while_nobody_watches_who_asks_is_looked_for_and_nobody_else() {
    let mut doubts = Doubts::default();
    doubts.contact_seen(&contact("a", Some("ann")), 1, noon());
    doubts.contact_seen(&contact("b", Some("bob")), 1, noon());
    assert!(!doubts.look_for("eve", 2, noon()), "there is nobody to look for");
    assert!(doubts.look_for("ann", 2, noon()));
    assert!(removed(&doubts, "ann") && !removed(&doubts, "bob"));
    doubts.contact_seen(&contact("a", Some("ann")), 2, noon());
    assert!(!removed(&doubts, "ann"));
}

#[test]
fn a_nameless_contact_that_leaves_concerns_only_who_was_let_in_and_never_recognised() {
    let mut doubts = Doubts::default();
    doubts.contact_seen(&contact("b", Some("bob")), 1, noon());
    doubts.let_in("bob", noon());
    doubts.let_in("ann", noon());
    doubts.contact_seen(&contact("n", None), 1, noon());
    assert!(!removed(&doubts, "ann"));
    doubts.contacts_mut().unwatched(2, noon());
    assert!(removed(&doubts, "ann") && removed(&doubts, "bob"), "neither contact was seen since");
    doubts.contact_seen(&contact("b", Some("bob")), 2, noon());
    doubts.contact_seen(&contact("n", None), 2, noon());
    assert!(!removed(&doubts, "ann") && !removed(&doubts, "bob"));

    doubts.contacts.remove(&cid("n"));
    doubts.nameless_removed(&cid("n"), noon() + hours(1));
    doubts.let_in("eve", noon() + hours(1));
    assert!(removed(&doubts, "ann"));
    assert!(!removed(&doubts, "bob") && !removed(&doubts, "eve") && !removed(&doubts, "stranger"));
    let ends = doubts.about("ann", &all(), noon())[0].ends(&all());
    assert_eq!(ends, Some(noon() + hours(25)));
    assert!(doubts.unknown("ann", Fact::Removed, Some(hours(24)), noon() + hours(25)).is_none(), "by itself");
    doubts.recognised("ann");
    assert!(!removed(&doubts, "ann"));
}

#[test]
fn a_persons_word_ends_what_was_in_doubt_up_to_then() {
    let mut doubts = on_record(vec![open("a", &["ann"])]);
    doubts.add(vanished("ann", "r1", noon()));
    doubts.settled("ann", Some(Fact::Removed), noon());
    assert!(!removed(&doubts, "ann"));
    assert_eq!(doubts.about("ann", &all(), noon()).len(), 1);
    doubts.settled("ann", None, noon());
    assert_eq!(doubts.list(&all(), noon()), []);
    doubts.contacts_mut().unwatched(2, noon());
    assert!(removed(&doubts, "ann"), "what happens later is another matter");

    let mut doubts = Doubts::default();
    doubts.let_in("ann", noon() - hours(1));
    doubts.nameless_removed(&cid("n"), noon());
    doubts.settled("ann", None, noon());
    assert!(!removed(&doubts, "ann"));
    doubts.nameless_removed(&cid("m"), noon() + hours(1));
    assert!(removed(&doubts, "ann"));
}

#[test]
fn what_vanished_is_in_doubt_for_as_long_as_a_rule_looks_back() {
    let mut doubts = Doubts::default();
    doubts.add(vanished("ann", "r1", noon()));
    doubts.add(vanished("ann", "r1", noon() + hours(1)));
    doubts.add(vanished("ann", "r2", noon() - hours(1)));
    let unknown = |owner, within, now| doubts.unknown(owner, Fact::Rejected, Some(within), now);
    assert_eq!(unknown("ann", hours(2), noon()), Some(UnknownUntil::Until(noon() + hours(3))));
    assert_eq!(unknown("ann", hours(2), noon() + hours(3)), None);
    assert_eq!(unknown("bob", hours(2), noon()), None);
    assert_eq!(doubts.len, 2);
    let gaps = doubts.prune(&all(), noon() + hours(24));
    assert_eq!((doubts.len, gaps.get(&Fact::Rejected)), (1, Some(&(noon() - hours(1)))));
    // Somebody else let them in: the earlier request was not rejected.
    let mut came = contact("c", Some("ann"));
    came.inserted_at = Some(noon() - hours(1));
    doubts.contact_seen(&came, 1, noon() + hours(24));
    doubts.contact_made(&came, None);
    assert_eq!(doubts.len, 1, "they were a contact before that request was sent");
    came.id = cid("d");
    came.inserted_at = None;
    doubts.contact_seen(&came, 1, noon() + hours(24));
    doubts.contact_made(&came, Some(&RequestId::parse("r3").unwrap()));
    assert_eq!(doubts.len, 1, "an answer of ours to another request says nothing");
    doubts.contact_made(&came, None);
    assert_eq!((doubts.len, doubts.by_owner.len()), (0, 0), "a contact appeared: they were let in");
    doubts.ended_unseen(&handle("ann"), Basis::Vanished(RequestId::parse("r4").unwrap()), noon(), noon() + hours(24));
    assert_eq!(doubts.len, 0, "whichever is seen first");
    doubts.ended_unseen(
        &handle("ann"),
        Basis::Vanished(RequestId::parse("r5").unwrap()),
        noon() + hours(25),
        noon() + hours(26),
    );
    assert_eq!(doubts.len, 1);
    // Somebody else let another agent of that owner in.
    doubts.ended_unseen(
        &handle("ann/bot"),
        Basis::Vanished(RequestId::parse("r6").unwrap()),
        noon() - hours(2),
        noon() + hours(26),
    );
    doubts.contact_made(&came, None);
    assert_eq!(doubts.len, 2, "it says nothing of this one");
    doubts.ended_unseen(
        &handle("ann/bot"),
        Basis::Presumed(RequestId::parse("r7").unwrap()),
        noon() - hours(2),
        noon() + hours(26),
    );
    doubts.contact_made(&came, Some(&RequestId::parse("r7").unwrap()));
    assert_eq!(doubts.len, 2, "the contact of this very answer says that it was carried out");
}

#[test]
fn the_bounds_hold_and_what_they_cost_is_unknown() {
    let mut doubts = Doubts::default();
    for number in 0..100 {
        doubts.add(vanished("ann", &format!("r{number}"), noon() + hours(number)));
    }
    assert_eq!(doubts.len, PER_OWNER_MAX);
    let last = doubts.unknown("ann", Fact::Rejected, Some(hours(1)), noon());
    assert_eq!(last, Some(UnknownUntil::Until(noon() + hours(100))));
    for number in 0..DOUBTS_MAX {
        doubts.add(vanished(&format!("owner{number}"), "r", noon()));
    }
    assert!(doubts.len <= DOUBTS_MAX && doubts.everybody().next().is_some());
    let anybody = doubts.unknown("stranger", Fact::Rejected, Some(hours(1)), noon());
    assert!(anybody.is_some(), "somebody was let go, and it may have been anybody");
    assert_eq!(doubts.unknown("stranger", Fact::Removed, Some(hours(1)), noon()), None);
}

#[test]
fn a_request_that_nothing_has_shown_since_may_have_ended() {
    let mut doubts = Doubts::default();
    let (one, other) = (RequestId::parse("r1").unwrap(), RequestId::parse("r2").unwrap());
    doubts.unlisted("ann", &one, noon());
    doubts.unlisted("ann", &other, noon());
    let rejected = |doubts: &Doubts, owner| doubts.unknown(owner, Fact::Rejected, Some(hours(1)), noon() + hours(99));
    assert_eq!(rejected(&doubts, "ann"), Some(UnknownUntil::Open));
    assert_eq!(rejected(&doubts, "anna"), None);
    assert!(!removed(&doubts, "ann"));
    assert_eq!(doubts.list(&all(), noon()).len(), 1);
    doubts.listed(&one);
    assert_eq!(rejected(&doubts, "ann"), Some(UnknownUntil::Open));
    doubts.listed(&other);
    assert_eq!((rejected(&doubts, "ann"), doubts.any_unlisted()), (None, false));
    assert!(doubts.take_changed().unwrap().contains("ann"));
}
