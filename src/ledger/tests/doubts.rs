//! What the record leaves in doubt about an owner when a daemon starts.

use super::*;
use crate::ledger::read::RowMoment;
use crate::model::SenderId;
use crate::policy::doubts::{Basis, DoubtSettlement, Fact, SeenIdentity};
use crate::policy::state::{HistoryKind, OwnerHistoryRow};

fn settled(name: &str, status: Option<RequestStatus>, second: i64) -> Record {
    Record::Settled { agent: agent(), request: id(name), status, at: at(second) }
}

fn contact(name: &str, handle: &str, sent: i64, request: Option<&str>) -> Record {
    let id_of = ContactId::parse(name).unwrap();
    let (sender, inserted_at) = (Sender::parse(Some(handle)), Some(at(sent)));
    let contact = Box::new(Contact { id: id_of, sender, name: None, kind: ContactKind::User, inserted_at, ids: None });
    Record::ContactAdded { agent: agent(), contact, request: request.map(id), guest: None, at: at(50) }
}

/// The requests that ended in an unknown way.
async fn doubted(ledger: &Ledger) -> Vec<String> {
    let doubts = load(ledger, 100).await.policy_state.doubts;
    let doubts = doubts.iter().filter(|doubt| doubt.fact == Fact::Rejected);
    let mut names: Vec<String> = doubts.map(|doubt| doubt.basis.subject().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_ended_and_nobody_said_how_is_in_doubt_until_something_says_it() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = Vec::new();
    for (name, handle) in [("r1", "ann"), ("r2", "bob"), ("r3", "carl"), ("r4", "dora"), ("r5", "eve"), ("r6", "fred")]
    {
        batch.extend([seen(name, Some(handle), 0), settled(name, None, 10)]);
    }
    batch.extend([seen("r7", Some("gus"), 0), seen("r8", None, 0), settled("r8", None, 10)]);
    batch.extend([intent("r7", Answer::Approve, vec![], 1, 5), outcome("r7", Outcome::SettledElsewhere, 10)]);
    ledger.commit(batch).await.unwrap();
    assert_eq!(doubted(&ledger).await, ["r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
    let doubts = load(&ledger, 100).await.policy_state.doubts;
    let gus = doubts.iter().find(|doubt| &*doubt.owner == "gus").unwrap();
    assert_eq!((gus.basis.clone(), gus.since, gus.until), (Basis::SettledElsewhere(id("r7")), at(-5), Some(at(10))));

    let settlement = Record::Settlement {
        agent: agent(),
        owner: "dora".into(),
        request: Some(id("r4")),
        said: DoubtSettlement::Cancelled,
        person: "eve".into(),
        at: at(20),
    };
    let by_person = |name: &str| match intent(name, Answer::Approve, vec![], 1, 20) {
        Record::Intent { agent, request, answer, charges, counts, attempt, lasts, at, .. } => {
            let by = By::Person("zoe".into());
            Record::Intent { agent, request, answer, by, lasts, policy: None, head: None, charges, counts, attempt, at }
        }
        other => other,
    };
    ledger
        .commit(vec![
            contact("c1", "ann", 3, None),
            contact("c2", "bob", -9, None),
            seen("q3", Some("carl/bot"), 15),
            intent("q3", Answer::Approve, vec![], 1, 16),
            outcome("q3", Outcome::Confirmed(Answer::Approve), 17),
            contact("c3", "carl/bot", 17, Some("q3")),
            settlement,
            seen("q5", Some("eve"), 15),
            by_person("q5"),
            outcome("q5", Outcome::Confirmed(Answer::Approve), 21),
            settled("r7", Some(RequestStatus::Rejected), 30),
            seen("r6", Some("fred"), 40),
        ])
        .await
        .unwrap();
    // A contact from before the request, or one that our answer to another request made, proves nothing about it.
    assert_eq!(doubted(&ledger).await, ["r2", "r3"]);
    let memory = load(&ledger, 100).await;
    let rejected = |row: &&OwnerHistoryRow| row.kind == HistoryKind::Rejected;
    assert_eq!(memory.policy_state.history.iter().find(rejected).unwrap().owner.as_ref(), "gus");
    assert!(memory.pending.iter().any(|one| one.id == id("r6")));
    // Nothing is read further back than requested.
    let reach = RestoreReach { history: Some(HistoryReach::Within(SignedDuration::from_secs(10))), ..REACH };
    assert_eq!(ledger.load_agent(&agent(), at(100), reach).await.unwrap().policy_state.doubts, []);
}

#[tokio::test]
async fn whoever_was_let_in_and_whose_contact_was_never_recognised_is_remembered() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = Vec::new();
    for (name, handle) in [("r1", "ann"), ("r2", "bob")] {
        batch.push(seen(name, Some(handle), 0));
        batch.push(intent(name, Answer::Approve, vec![], 1, 1));
        batch.push(outcome(name, Outcome::Presumed(Answer::Approve), 2));
    }
    batch.push(contact("c2", "bob", 2, Some("r2")));
    ledger.commit(batch).await.unwrap();
    assert_eq!(load(&ledger, 3).await.policy_state.unmet, [("ann".into(), at(1))], "since the intent");
    assert_eq!(doubted(&ledger).await, ["r1"], "no contact says that its approval was carried out");
    // The platform's status counts more than a presumption.
    ledger.commit(vec![settled("r1", Some(RequestStatus::Rejected), 3)]).await.unwrap();
    assert_eq!(doubted(&ledger).await, ["r1"; 0]);
    let history = load(&ledger, 4).await.policy_state.history;
    assert!(history.iter().any(|row| row.kind == HistoryKind::Rejected && row.owner.as_ref() == "ann"), "{history:?}");
}

#[tokio::test]
async fn an_approval_that_is_only_presumed_is_none_until_something_on_record_shows_it() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = Vec::new();
    let from = [("r1", "ann"), ("r2", "bob"), ("r3", "carl"), ("r4", "dora/bot"), ("r5", "eve"), ("r6", "fred")];
    for (name, handle) in from {
        batch.push(seen(name, Some(handle), 0));
        batch.push(intent(name, Answer::Approve, vec![], 1, 1));
        batch.push(outcome(name, Outcome::Presumed(Answer::Approve), 2));
    }
    let settlement = |name: &str, owner: &str, said| Record::Settlement {
        agent: agent(),
        owner: owner.into(),
        request: Some(id(name)),
        said,
        person: "eve".into(),
        at: at(20),
    };
    batch.extend([contact("c2", "bob/other", 2, Some("r2")), settlement("r3", "carl", DoubtSettlement::Approved)]);
    // Another handle of the owner proves nothing.
    batch.extend([contact("c4", "dora", 3, None), contact("c5", "eve", 3, None)]);
    batch.push(settled("r6", Some(RequestStatus::Rejected), 30));
    ledger.commit(batch).await.unwrap();
    let memory = load(&ledger, 100).await.policy_state;
    let of = |kind| {
        let rows = memory.history.iter().filter(|row| row.kind == kind);
        let mut owners: Vec<&str> = rows.map(|row| &*row.owner).collect();
        owners.sort();
        owners
    };
    assert_eq!(of(HistoryKind::Approved), ["bob", "carl", "eve"]);
    assert_eq!(of(HistoryKind::Presumed), ["ann", "dora", "fred"]);
    let open = memory.doubts.iter().filter(|doubt| doubt.fact == Fact::Approved);
    let mut open: Vec<&str> = open.map(|doubt| &*doubt.owner).collect();
    open.sort();
    assert_eq!(open, ["ann", "dora"], "of the others it is known how their request ended");
    ledger.commit(vec![settlement("r1", "ann", DoubtSettlement::Expired)]).await.unwrap();
    let doubts = load(&ledger, 100).await.policy_state.doubts;
    assert_eq!(doubts.iter().filter(|doubt| doubt.fact == Fact::Approved).count(), 1);
}

#[tokio::test]
async fn a_nameless_contact_that_came_again_was_removed_all_the_same() {
    let world = TestLedger::new();
    let ledger = world.open();
    let nameless = |name: &str, second: i64| {
        let Record::ContactAdded { agent, mut contact, request, guest, .. } = contact(name, "x", second, None) else {
            unreachable!()
        };
        contact.sender = Sender::Absent;
        Record::ContactAdded { agent, contact, request, guest, at: at(second) }
    };
    let removed = |name: &str, expired: bool, second: i64| {
        let contact = ContactId::parse(name).unwrap();
        Record::ContactRemoved { agent: agent(), contact, expired, at: at(second) }
    };
    let removal = async |ledger: &Ledger| load(ledger, 100).await.policy_state.nameless;
    ledger.commit(vec![nameless("c1", 1), nameless("c2", 1), nameless("c3", 1)]).await.unwrap();
    assert_eq!(removal(&ledger).await, None);
    ledger.commit(vec![removed("c1", false, 2), nameless("c1", 3)]).await.unwrap();
    assert_eq!(removal(&ledger).await, Some((ContactId::parse("c1").unwrap(), at(2))));
    ledger.commit(vec![removed("c2", false, 4), removed("c3", true, 5)]).await.unwrap();
    assert_eq!(removal(&ledger).await, Some((ContactId::parse("c2").unwrap(), at(4))), "its end had come");
    ledger.commit(vec![nameless("c3", 6)]).await.unwrap();
    assert_eq!(removal(&ledger).await, Some((ContactId::parse("c2").unwrap(), at(4))), "also if it came again");
    ledger.commit(vec![contact("c2", "zoe", 7, None)]).await.unwrap();
    assert_eq!(removal(&ledger).await, Some((ContactId::parse("c1").unwrap(), at(2))), "it has an owner");
}

#[tokio::test]
async fn a_contact_that_an_open_answer_may_have_made_was_let_in_by_nobody_else() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = vec![seen("r1", Some("ann"), 0), settled("r1", None, 10), seen("r2", Some("ann"), 20)];
    batch.extend([intent("r2", Answer::Approve, vec![], 1, 21), contact("c1", "ann", 22, None)]);
    ledger.commit(batch).await.unwrap();
    let elsewhere = |memory: &SavedAgent| memory.contacts.iter().map(|one| one.elsewhere).collect::<Vec<_>>();
    assert_eq!((doubted(&ledger).await, elsewhere(&load(&ledger, 100).await)), (vec!["r1".to_owned()], vec![false]));
    // It was not carried out: so somebody else made the contact.
    ledger.commit(vec![outcome("r2", Outcome::Refused, 30)]).await.unwrap();
    assert_eq!((doubted(&ledger).await, elsewhere(&load(&ledger, 100).await)), (vec![], vec![true]));
}

#[tokio::test]
async fn who_has_a_name_is_remembered_and_a_person_ends_the_doubt() {
    let world = TestLedger::new();
    let ledger = world.open();
    let identity = |owner: &str, name: &str, id_of: &str, doubted| Record::Identity {
        agent: agent(),
        owner: owner.into(),
        identity: SeenIdentity { name: name.into(), id: SenderId::parse(id_of).unwrap(), doubted },
        basis: Basis::OtherSender(id("r1")),
        at: at(0),
    };
    let batch = vec![
        identity("carol", "carol", "c1", false),
        identity("carol", "carol", "m1", true),
        identity("carol", "carol", "c1", true),
        identity("ann", "ann/bot", "a1", false),
        identity("ann", "ann/bot", "a2", true),
    ];
    ledger.commit(batch).await.unwrap();
    let doubted = async |ledger: &Ledger| -> Vec<(String, bool)> {
        let known = load(ledger, 1).await.identities;
        known.iter().map(|one| (one.identity.id.to_string(), one.identity.doubted)).collect()
    };
    let row = |id: &str, doubted| (id.to_owned(), doubted);
    let first = doubted(&ledger).await;
    assert_eq!(first, [row("c1", false), row("m1", true), row("a1", false), row("a2", true)]);
    assert_eq!(load(&ledger, 1).await.identities[1].basis, Basis::OtherSender(id("r1")));
    let same = Record::Settlement {
        agent: agent(),
        owner: "carol".into(),
        request: None,
        said: DoubtSettlement::Same,
        person: "eve".into(),
        at: at(1),
    };
    ledger.commit(vec![same]).await.unwrap();
    assert_eq!(doubted(&ledger).await[1..], [row("m1", false), row("a1", false), row("a2", true)]);
    ledger.commit(vec![Record::Vouched { agent: agent(), owner: "ann".into(), at: at(2) }]).await.unwrap();
    assert!(doubted(&ledger).await.iter().all(|(_, doubted)| !doubted));
}

#[tokio::test]
async fn a_rejection_that_is_only_presumed_is_a_doubt_until_something_on_record_shows_how_it_ended() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = Vec::new();
    let from =
        [("r1", "ann"), ("r2", "bob"), ("r3", "carl"), ("r4", "dora"), ("r5", "eve"), ("r6", "fred"), ("r7", "gus")];
    for (name, handle) in from {
        batch.push(seen(name, Some(handle), 0));
        let mut said = intent(name, Answer::Reject, vec![], 1, 1);
        if let Record::Intent { by, .. } = &mut said
            && name == "r6"
        {
            *by = By::Person("eve".into());
        }
        batch.push(said);
        let known = name == "r7";
        batch.push(outcome(
            name,
            if known { Outcome::Confirmed(Answer::Reject) } else { Outcome::Presumed(Answer::Reject) },
            2,
        ));
    }
    let settlement = Record::Settlement {
        agent: agent(),
        owner: "carl".into(),
        request: Some(id("r3")),
        said: DoubtSettlement::Expired,
        person: "eve".into(),
        at: at(20),
    };
    batch.extend([settled("r2", Some(RequestStatus::Rejected), 3), settlement]);
    batch.extend([settled("r4", Some(RequestStatus::Expired), 3), contact("c5", "eve", 3, None)]);
    ledger.commit(batch).await.unwrap();
    let memory = load(&ledger, 100).await.policy_state;
    let rejected = memory.history.iter().filter(|row| row.kind == HistoryKind::Rejected);
    let mut rejected: Vec<&str> = rejected.map(|row| &*row.owner).collect();
    rejected.sort();
    assert_eq!(rejected, ["bob", "fred", "gus"], "the platform said so, a person did it, the platform confirmed it");
    let [doubt] = &memory.doubts[..] else { panic!("{:?}", memory.doubts) };
    assert_eq!((&*doubt.owner, doubt.fact, doubt.since, doubt.until), ("ann", Fact::Rejected, at(-5), Some(at(2))));
    assert_eq!(doubt.basis, Basis::PresumedRejected(id("r1")));
    // It is as old as the answer.
    let reach = RestoreReach { history: Some(HistoryReach::Within(SignedDuration::from_secs(10))), ..REACH };
    assert_eq!(ledger.load_agent(&agent(), at(100), reach).await.unwrap().policy_state.doubts, []);
}

#[tokio::test]
async fn what_was_known_then_of_rejections_and_removals_is_what_was_on_record_then() {
    let world = TestLedger::new();
    let ledger = world.open();
    let settlement = |request: Option<&str>, said, second| Record::Settlement {
        agent: agent(),
        owner: "ann".into(),
        request: request.map(id),
        said,
        person: "eve".into(),
        at: at(second),
    };
    let mut batch: Vec<Record> = ["r1", "r2", "r3"].map(|name| seen(name, Some("ann"), 0)).into();
    batch.extend([settled("r1", Some(RequestStatus::Rejected), 10), settled("r2", None, 10)]);
    batch.extend([intent("r3", Answer::Reject, vec![], 1, 5), outcome("r3", Outcome::Presumed(Answer::Reject), 10)]);
    batch.extend([
        settlement(Some("r2"), DoubtSettlement::Rejected, 20),
        settlement(None, DoubtSettlement::Removed, 30),
    ]);
    batch.push(settled("r3", Some(RequestStatus::Rejected), 40));
    ledger.commit(batch).await.unwrap();
    ledger.close().await.unwrap();
    let reader = world.reader();
    let known = |second| {
        let reach = RestoreReach { history: Some(HistoryReach::Ever), ..REACH };
        let memory = reader.state_at(&agent(), None, Some("ann"), reach, RowMoment::at(at(second))).unwrap();
        let count = |kind| memory.history.iter().filter(|row| row.kind == kind).count();
        (count(HistoryKind::Rejected), count(HistoryKind::Removed))
    };
    assert_eq!([9, 10, 20, 30, 40].map(known), [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1)]);
}
