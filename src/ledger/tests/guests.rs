//! Approvals for a time on record: their ends, their contacts, and how those went.

use jiff::SignedDuration;

use super::*;
use crate::model::{Contact, ContactId, ContactKind, GuestDoubt, RemovalOutcome, RemovedBy, Stay};
use crate::policy::state::HistoryKind;

fn contact(name: &str) -> ContactId {
    ContactId::parse(name).unwrap()
}

/// Ann's request is approved for an hour, and its contact exists.
fn let_in(request: &str, contact_id: &str, doubt: Option<GuestDoubt>) -> Vec<Record> {
    let lasting = match intent(request, Answer::Approve, vec![], 1, 1) {
        Record::Intent { agent, request, answer, by, policy, charges, counts, attempt, at, .. } => {
            let lasts = Some(SignedDuration::from_hours(1));
            Record::Intent { agent, request, answer, by, lasts, policy, charges, counts, attempt, at }
        }
        other => other,
    };
    let stay = Stay { ends_at: at(3_602), made_from: at(0), made_until: at(7), doubt: None };
    let applied = match outcome(request, Outcome::Confirmed(Answer::Approve), 2) {
        Record::Outcome { agent, request, outcome, detail, refusal, at, .. } => {
            Record::Outcome { agent, request, outcome, detail, refusal, stay: Some(stay), at }
        }
        other => other,
    };
    let made = Record::ContactAdded {
        agent: agent(),
        contact: Box::new(Contact {
            id: contact(contact_id),
            sender: Sender::parse(Some("ann")),
            name: None,
            kind: ContactKind::User,
            inserted_at: Some(at(2)),
            ids: None,
        }),
        request: Some(id(request)),
        guest: Some(doubt),
        at: at(3),
    };
    vec![seen(request, Some("ann"), 0), lasting, applied, made]
}

fn removing(by: RemovedBy, second: i64) -> Record {
    Record::Removing { agent: agent(), contact: contact("c1"), by, at: at(second) }
}

fn ended(outcome: RemovalOutcome, second: i64) -> Record {
    Record::Removal { agent: agent(), contact: contact("c1"), outcome, detail: None, at: at(second) }
}

fn gone(expired: bool, second: i64) -> Record {
    Record::ContactRemoved { agent: agent(), contact: contact("c1"), expired, at: at(second) }
}

fn kinds(memory: &SavedAgent) -> Vec<HistoryKind> {
    memory.policy_state.history.iter().map(|row| row.kind).collect()
}

#[tokio::test]
async fn an_end_is_remembered_until_the_contact_is_gone_and_counts_for_nobody() {
    let world = World::file();
    let ledger = world.open();
    ledger.commit(let_in("r1", "c1", None)).await.unwrap();
    let memory = load(&ledger, 10).await;
    let [guest] = memory.guests.as_slice() else { panic!("{:?}", memory.guests) };
    assert_eq!((guest.contact.clone(), guest.stay.ends_at, guest.removing), (Some(contact("c1")), at(3_602), false));
    assert_eq!(kinds(&memory), [HistoryKind::Requested, HistoryKind::Guest]);
    let reader = || world.reader();
    assert_eq!(reader().contacts(None).unwrap()[0].ends_at, Some(at(3_602)));

    // In flight, then refused, then with an unknown outcome.
    ledger.commit(vec![removing(RemovedBy::Expired, 3_603)]).await.unwrap();
    assert!(load(&ledger, 3_604).await.guests[0].removing);
    ledger.commit(vec![ended(RemovalOutcome::Refused, 3_605)]).await.unwrap();
    assert!(!load(&ledger, 3_606).await.guests[0].removing);
    ledger.commit(vec![removing(RemovedBy::Expired, 3_607), ended(RemovalOutcome::Unknown, 3_608)]).await.unwrap();
    assert!(load(&ledger, 3_609).await.guests[0].removing);
    let shown = reader().request(&id("r1")).unwrap().unwrap();
    assert_eq!((shown.removed, shown.ends_at), (None, Some(at(3_602))), "not before it is certain");

    ledger.commit(vec![ended(RemovalOutcome::Removed, 3_610), gone(true, 3_610)]).await.unwrap();
    let memory = load(&ledger, 3_611).await;
    assert_eq!((memory.guests.len(), kinds(&memory)), (0, vec![HistoryKind::Requested, HistoryKind::Guest]));
    let shown = reader().request(&id("r1")).unwrap().unwrap();
    assert_eq!(shown.removed.map(|one| one.by), Some("expired".to_owned()));
    assert_eq!(memory.recent_answers[0].unmet, None, "the next contact of this handle is another answer's");
    let attempts: i64 = world.sql().query_row("SELECT attempts FROM removal", [], |row| row.get(0)).unwrap();
    assert_eq!(attempts, 2, "one row for all tries");
}

#[tokio::test]
async fn an_end_that_a_person_moved_or_lifted_is_what_counts_after_a_restart() {
    let world = World::file();
    let ledger = world.open();
    ledger.commit(let_in("r1", "c1", None)).await.unwrap();
    let moved = |ends_at, second| Record::GuestEnd {
        agent: agent(),
        request: id("r1"),
        ends_at,
        person: "zoe".into(),
        at: at(second),
    };
    let recorded = || world.reader().request(&id("r1")).unwrap().unwrap();
    let shown = || recorded().ends_at;
    let notes = || recorded().contact_notes(&|at| at.as_second().to_string());
    assert_eq!(notes(), [format!("ends {}", at(3_602).as_second())]);
    ledger.commit(vec![moved(Some(at(9_000)), 20)]).await.unwrap();
    assert_eq!((load(&ledger, 21).await.guests[0].stay.ends_at, shown()), (at(9_000), Some(at(9_000))));
    assert_eq!(notes(), [format!("ends {}, moved by zoe", at(9_000).as_second())]);
    assert_eq!(recorded().happened_at, at(20), "it is the last thing that happened");
    let reader = world.reader();
    let since = Filter { time: TimeOf::Happened, since: Some(at(15)), ..Filter::default() };
    assert_eq!(reader.requests(&since).unwrap().len(), 1);
    ledger.commit(vec![moved(None, 30)]).await.unwrap();
    assert_eq!((load(&ledger, 31).await.guests.len(), shown()), (0, None));
    assert_eq!(notes(), ["stays: end lifted by zoe"]);
    assert_eq!(world.reader().contacts(None).unwrap()[0].ends_at, None);
    // A guest who may stay is a contact like others: its removal counts.
    ledger.commit(vec![gone(false, 40)]).await.unwrap();
    assert_eq!(kinds(&load(&ledger, 41).await).last(), Some(&HistoryKind::Removed));
    assert_eq!((recorded().contact_removed_at, notes()), (Some(at(40)), vec!["removed, not by doorman".to_owned()]));
    let words: i64 = world.sql().query_row("SELECT count(*) FROM guest_end", [], |row| row.get(0)).unwrap();
    assert_eq!(words, 2, "who said so stays on record");
}

#[tokio::test]
async fn a_contact_that_somebody_removes_before_its_end_counts_as_removed() {
    let world = World::new();
    let ledger = world.open();
    let mut batch = let_in("r1", "c1", Some(GuestDoubt::AnotherTime));
    batch.extend([removing(RemovedBy::Person("zoe".into()), 20), ended(RemovalOutcome::Removed, 21)]);
    ledger.commit(batch).await.unwrap();
    let memory = load(&ledger, 22).await;
    assert_eq!((memory.guests[0].stay.doubt, memory.guests[0].removing), (Some(GuestDoubt::AnotherTime), false));
    ledger.commit(vec![gone(false, 22)]).await.unwrap();
    let memory = load(&ledger, 23).await;
    assert_eq!((memory.guests.len(), kinds(&memory).last()), (0, Some(&HistoryKind::Removed)));
    let shown = world.reader().request(&id("r1")).unwrap().unwrap();
    assert_eq!(shown.contact_notes(&|at| at.to_string()), ["removed by zoe"]);
    assert_eq!(shown.removed.map(|one| one.by), Some("person:zoe".to_owned()));
}

#[tokio::test]
async fn what_a_person_removed_under_schema_4_is_on_record_still() {
    let world = World::file();
    std::fs::create_dir_all(world.path().parent().unwrap()).unwrap();
    let sql = world.sql();
    sql.pragma_update(None, "foreign_keys", false).unwrap();
    for step in [
        include_str!("../sqlite/schema/1.sql"),
        include_str!("schema-1.sql"),
        include_str!("../sqlite/schema/2.sql"),
        "ALTER TABLE text DROP COLUMN body",
        include_str!("../sqlite/schema/3.sql"),
        include_str!("../sqlite/schema/4.sql"),
        "INSERT INTO revocation (agent, contact, request, person, at, note)
         SELECT 1, id, request, 'ann (as root)', 5, 'spam' FROM contact WHERE request IS NOT NULL LIMIT 1",
    ] {
        sql.execute_batch(step).unwrap();
    }
    sql.pragma_update(None, "application_id", 0x646f_6f72).unwrap();
    sql.pragma_update(None, "user_version", 4).unwrap();
    world.open().close().await.unwrap();
    let requests = world.reader().requests(&Filter::default()).unwrap();
    let removed: Vec<_> = requests.into_iter().filter_map(|one| one.removed).collect();
    assert_eq!(removed.len(), 1);
    assert_eq!((removed[0].by.as_str(), removed[0].note.as_deref()), ("person:ann (as root)", Some("spam")));
}
