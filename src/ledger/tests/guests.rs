//! Approvals for a time on record: their ends, their contacts, and how those went.

use jiff::SignedDuration;

use super::*;
use crate::ledger::read::{Follow, RowMoment};
use crate::model::{Contact, ContactId, ContactKind, GuestDoubt, GuestStay, RemovalOutcome, RemovedBy};
use crate::policy::state::HistoryKind;

fn contact(name: &str) -> ContactId {
    ContactId::parse(name).unwrap()
}

/// Ann's request is approved for an hour, and its contact exists.
fn let_in(request: &str, contact_id: &str, doubt: Option<GuestDoubt>) -> Vec<Record> {
    let lasting = match intent(request, Answer::Approve, vec![], 1, 1) {
        Record::Intent { agent, request, answer, by, policy, charges, counts, attempt, at, .. } => {
            let lasts = Some(SignedDuration::from_hours(1));
            Record::Intent { agent, request, answer, by, lasts, policy, head: None, charges, counts, attempt, at }
        }
        other => other,
    };
    let stay = GuestStay { ends_at: at(3_602), made_from: at(0), made_until: at(7), doubt: None };
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

/// The same contact is made once more, by nobody of ours.
fn made_again(contact_id: &str, handle: &str, second: i64) -> Record {
    let contact = Contact {
        id: contact(contact_id),
        sender: Sender::parse(Some(handle)),
        name: None,
        kind: ContactKind::User,
        inserted_at: Some(at(second)),
        ids: None,
    };
    Record::ContactAdded { agent: agent(), contact: Box::new(contact), request: None, guest: None, at: at(second) }
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
    let world = TestLedger::file();
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
    assert_eq!(shown.removed.map(|one| one.by), Some(RemovedBy::Expired));
    assert_eq!(memory.recent_answers[0].unmet, None, "the next contact of this handle is another answer's");
    let attempts: i64 = world.sql().query_row("SELECT attempts FROM removal", [], |row| row.get(0)).unwrap();
    assert_eq!(attempts, 2, "one row for all tries");
}

#[tokio::test]
async fn an_end_that_a_person_moved_or_lifted_is_what_counts_after_a_restart() {
    let world = TestLedger::file();
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
    let world = TestLedger::new();
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
    assert_eq!(shown.removed.map(|one| one.by), Some(RemovedBy::Person("zoe".into())));
}

#[tokio::test]
async fn what_a_person_removed_under_schema_4_is_on_record_still() {
    let world = TestLedger::file();
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
    assert_eq!(
        (removed[0].by.to_string().as_str(), removed[0].note.as_deref()),
        ("person:ann (as root)", Some("spam"))
    );
}

/// When a contact of this owner was removed, of what counts: as an agent loads it, and as it was known at a later moment.
async fn removals(ledger: &Ledger, world: &TestLedger, owner: &str) -> [Vec<Timestamp>; 2] {
    let removed = |history: Vec<crate::policy::state::OwnerHistoryRow>| {
        let rows = history.into_iter().filter(|row| row.kind == HistoryKind::Removed && &*row.owner == owner);
        rows.map(|row| row.at).collect::<Vec<_>>()
    };
    let then = world.reader().state_at(&agent(), None, Some(owner), REACH, RowMoment::at(at(9_000))).unwrap();
    [removed(load(ledger, 9_000).await.policy_state.history), removed(then.history)]
}

#[tokio::test]
async fn the_removal_at_an_end_counts_for_nobody_also_if_the_contact_came_again() {
    let world = TestLedger::new();
    let ledger = world.open();
    ledger.commit(let_in("r1", "c1", None)).await.unwrap();
    ledger.commit(vec![made_again("c2", "bob", 4)]).await.unwrap();
    let bob =
        |second| Record::ContactRemoved { agent: agent(), contact: contact("c2"), expired: false, at: at(second) };
    ledger.commit(vec![gone(true, 3_603), bob(3_604)]).await.unwrap();
    let nobody = || [vec![], vec![]];
    let once = |second| [vec![at(second)], vec![at(second)]];
    assert_eq!(removals(&ledger, &world, "ann").await, nobody(), "its end had come");
    assert_eq!(removals(&ledger, &world, "bob").await, once(3_604));
    // Reported once more, as a listing does: what was known of it stays.
    ledger.commit(vec![gone(false, 3_700)]).await.unwrap();
    assert_eq!(removals(&ledger, &world, "ann").await, nobody(), "it was gone before");
    ledger.commit(vec![made_again("c1", "ann", 4_000), made_again("c2", "bob", 4_000)]).await.unwrap();
    assert_eq!(removals(&ledger, &world, "ann").await, nobody(), "the earlier removal was its end");
    assert_eq!(removals(&ledger, &world, "bob").await, once(3_604));
    // Whoever is a contact again is no guest any more.
    ledger.commit(vec![gone(false, 4_001)]).await.unwrap();
    assert_eq!(removals(&ledger, &world, "ann").await, once(4_001));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn how_an_end_ended_is_on_record() {
    let world = TestLedger::new();
    let ledger = world.open();
    let over = || -> Vec<(String, Option<String>, Option<i64>)> {
        let reader = world.reader();
        let mut statement = reader.sql().prepare_cached(
            "SELECT r.id, g.over, g.over_at FROM guest g JOIN request r ON r.n = g.request ORDER BY r.id, g.n",
        );
        let statement = statement.as_mut().unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let row =
        |id: &str, over: &str, second: i64| (id.to_owned(), Some(over.to_owned()), Some(at(second).as_microsecond()));
    for n in 1..=5 {
        ledger.commit(let_in(&format!("r{n}"), &format!("c{n}"), None)).await.unwrap();
    }
    assert!(over().iter().all(|(_, over, at)| (over, at) == (&None, &None)), "{:?}", over());
    let gone = |name: &str, expired, second| Record::ContactRemoved {
        agent: agent(),
        contact: contact(name),
        expired,
        at: at(second),
    };
    let lifted =
        Record::GuestEnd { agent: agent(), request: id("r3"), ends_at: None, person: "zoe".into(), at: at(30) };
    ledger.commit(vec![gone("c1", true, 3_603), gone("c2", false, 20), lifted]).await.unwrap();
    // What is over is not made over again, and a contact that was met is not unseen.
    ledger.commit(vec![gone("c1", false, 4_000), gone("c3", false, 4_000)]).await.unwrap();
    ledger.commit(vec![Record::GuestUnseen { agent: agent(), request: id("r4"), at: at(50) }]).await.unwrap();
    let open = |id: &str| (id.to_owned(), None, None);
    let expected =
        [row("r1", "expired", 3_603), row("r2", "removed", 20), row("r3", "again", 30), open("r4"), open("r5")];
    assert_eq!(over(), expected);
    let mut unmet = let_in("r6", "c6", None);
    unmet.truncate(3);
    ledger.commit(unmet).await.unwrap();
    ledger.commit(vec![Record::GuestUnseen { agent: agent(), request: id("r6"), at: at(60) }]).await.unwrap();
    assert_eq!(over()[5], row("r6", "unseen", 60));
    let waits: Vec<_> = load(&ledger, 70).await.guests.into_iter().map(|guest| guest.request.to_string()).collect();
    assert_eq!(waits, ["r4", "r5"], "only their ends are waited for");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn following_shows_removals_and_ends_that_a_person_moved_once_each() {
    let world = TestLedger::new();
    let ledger = world.open();
    ledger.commit(let_in("r0", "c0", None)).await.unwrap();
    let contact_gone = |name: &str, expired, second| Record::ContactRemoved {
        agent: agent(),
        contact: contact(name),
        expired,
        at: at(second),
    };
    ledger.commit(vec![contact_gone("c0", true, 3_603)]).await.unwrap();
    for n in 1..=3 {
        ledger.commit(let_in(&format!("r{n}"), &format!("c{n}"), None)).await.unwrap();
    }
    let mut follow = Follow::begin(world.reader()).unwrap();
    let mut look = || -> Vec<String> {
        let news = follow.poll().unwrap();
        let reported = |row: &RecordedRequest| {
            format!("{} {}", row.request.id, row.contact_notes(&|at| at.as_second().to_string()).join(", "))
        };
        news.iter().map(reported).collect()
    };
    assert_eq!(look(), [""; 0], "what was removed before is no news");
    let moved = |request: &str, ends_at, second| Record::GuestEnd {
        agent: agent(),
        request: id(request),
        ends_at,
        person: "zoe".into(),
        at: at(second),
    };
    ledger.commit(vec![moved("r1", Some(at(9_000)), 20)]).await.unwrap();
    assert_eq!(look(), [format!("r1 ends {}, moved by zoe", at(9_000).as_second())]);
    assert_eq!(look(), [""; 0], "once");
    ledger.commit(vec![moved("r1", None, 30)]).await.unwrap();
    assert_eq!(look(), ["r1 stays: end lifted by zoe"]);
    // That a removal is begun or fails is no news; that the contact is gone is, by whomever.
    ledger
        .commit(vec![Record::Removing {
            agent: agent(),
            contact: contact("c2"),
            by: RemovedBy::Expired,
            at: at(3_603),
        }])
        .await
        .unwrap();
    let outcome = |outcome, second| Record::Removal {
        agent: agent(),
        contact: contact("c2"),
        outcome,
        detail: None,
        at: at(second),
    };
    ledger.commit(vec![outcome(RemovalOutcome::Refused, 3_604)]).await.unwrap();
    assert_eq!(look(), [""; 0]);
    ledger.commit(vec![outcome(RemovalOutcome::Removed, 3_605), contact_gone("c2", true, 3_605)]).await.unwrap();
    assert_eq!(look(), ["r2 removed: expired"]);
    // By a clock that was set back in between.
    ledger.commit(vec![contact_gone("c1", false, 3_600)]).await.unwrap();
    assert_eq!(look(), ["r1 removed, not by doorman"]);
    assert_eq!(look(), [""; 0]);
    ledger.commit(vec![contact_gone("c3", false, 3_606)]).await.unwrap();
    assert_eq!(look(), ["r3 removed, not by doorman"]);
    // A contact that came again and went again is no longer this request's.
    ledger.commit(vec![made_again("c3", "ann", 3_610), contact_gone("c3", false, 3_611)]).await.unwrap();
    assert_eq!(look(), [""; 0]);
    ledger.close().await.unwrap();
    // The removal is the last thing that happened to the request.
    let since = Filter { time: TimeOf::Happened, since: Some(at(3_590)), ..Filter::default() };
    let found = world.reader().requests(&since).unwrap();
    let found: Vec<_> = found.iter().map(|row| row.request.id.to_string()).collect();
    assert_eq!(found, ["r0", "r1", "r2"]);
}
