//! Rules that are pushed into a database, while doormen write there. Each looks at a real server, and has nothing to try without one.

use super::*;
use crate::ledger::pushed::PushedVersion;
use crate::policy::rules::{Head, SourceText};

fn texts(list: &str) -> Vec<SourceText> {
    vec![
        SourceText { name: "rules.toml".to_owned(), text: "version = 1\n".into() },
        SourceText { name: "friends.txt".to_owned(), text: list.into() },
    ]
}

fn version(number: u64, policy: u8) -> PushedVersion {
    PushedVersion {
        name: "main".to_owned(),
        version: number,
        hash: PolicyHash::new(&format!("{policy:064x}")),
        by: "person:ann".to_owned(),
        at: at(0),
        note: None,
    }
}

fn pushing(at: &LedgerAddress) -> Pushing {
    let LedgerAddress::Database(address) = at else { unreachable!("it is a database") };
    Pushing::open(address).unwrap()
}

fn under(head: u64, name: &str) -> Record {
    match intent(name, Answer::Approve, vec![charge("friends", "ann")], 1, 1) {
        Record::Intent { agent, request, answer, by, lasts, policy, charges, counts, attempt, at, .. } => {
            let head = Some(Arc::new(Head { name: "main".into(), version: head }));
            Record::Intent { agent, request, answer, by, lasts, policy, head, charges, counts, attempt, at }
        }
        other => other,
    }
}

#[tokio::test]
async fn an_intent_by_an_older_version_is_refused_and_the_rest_of_its_batch_is_on_record() {
    let Some(at) = database() else { return };
    let pushing = pushing(&at);
    let ledger = Ledger::open(&at, LedgerOptions::default()).unwrap();
    let outdated = |version| Err(LedgerError::Outdated { name: "main".to_owned(), version });
    assert_eq!(ledger.commit(vec![seen("r0", Some("ann"), 0), under(1, "r0")]).await, outdated(0), "none was pushed");
    assert_eq!(pushing.add(0, &version(1, 1), &texts("a\n")).unwrap(), PushOutcome::Head(version(1, 1)));
    ledger.commit(vec![seen("r1", Some("ann"), 0), under(1, "r1")]).await.unwrap();
    pushing.add(1, &version(2, 2), &texts("b\n")).unwrap();
    let batch = vec![seen("r2", Some("ann"), 2), decided("r2", Verdict::Approve, "friends", 2), under(1, "r2")];
    assert_eq!(ledger.commit(batch).await, outdated(2));
    // The watcher hears of it at once.
    tokio::time::timeout(Duration::from_secs(60), ledger.outdated()).await.unwrap();
    let memory = load(&ledger, 3).await;
    let open: Vec<&str> = memory.open_answers.iter().map(|open| open.request.as_str()).collect();
    assert_eq!(open, ["r1"]);
    assert!(memory.policy_state.charges.iter().all(|row| row.request != Some(id("r2"))), "nothing is charged");
    assert_eq!(memory.pending.len(), 3);
    assert!(memory.decided.iter().any(|(request, ..)| *request == id("r2")), "what happened is on record");
    // Without a version, as a person's answer, or by the head, it is taken.
    ledger.commit(vec![intent("r0", Answer::Approve, vec![], 1, 4), under(2, "r2")]).await.unwrap();
    assert_eq!(load(&ledger, 5).await.open_answers.len(), 3);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn of_two_who_push_at_once_the_second_is_refused() {
    let Some(at) = database() else { return };
    let (one, other) = (pushing(&at), pushing(&at));
    one.add(0, &version(1, 1), &texts("a\n")).unwrap();
    assert_eq!(other.add(0, &version(1, 2), &texts("b\n")).unwrap(), PushOutcome::Meanwhile(Some(version(1, 1))));
    other.add(1, &version(2, 2), &texts("b\n")).unwrap();
    assert_eq!(one.versions("main").unwrap(), [version(2, 2), version(1, 1)]);
    assert_eq!(one.texts(&version(2, 2)).unwrap(), texts("b\n"));
    // All at the same moment: each number is given once.
    let threads: Vec<_> = (3..9_u8)
        .map(|policy| {
            let pushing = pushing(&at);
            std::thread::spawn(move || pushing.add(2, &version(3, policy), &texts("c\n")).unwrap())
        })
        .collect();
    let added = threads.into_iter().map(|thread| thread.join().unwrap());
    assert_eq!(added.filter(|added| matches!(added, PushOutcome::Head(_))).count(), 1);
    assert_eq!(one.versions("main").unwrap().len(), 3);
}

#[tokio::test]
async fn the_texts_of_every_version_stay() {
    let Some(at_) = database() else { return };
    let pushing = pushing(&at_);
    pushing.add(0, &version(1, 1), &texts("a\n")).unwrap();
    let ledger = Ledger::open(&at_, LedgerOptions::default()).unwrap();
    // An agent uses it, then the same rules with another list, which lets go of what nothing needs.
    for (policy, list) in [(1, "a\n"), (2, "b\n"), (3, "c\n")] {
        let hash = version(1, policy).hash;
        ledger.commit(vec![Record::Policy { agent: agent(), hash, texts: texts(list), at: at(1) }]).await.unwrap();
    }
    ledger.close().await.unwrap();
    assert_eq!(pushing.texts(&version(1, 1)).unwrap(), texts("a\n"));
    assert_eq!(pushing.texts(&version(1, 2)).unwrap(), [], "that one was only in use");
}

#[tokio::test]
async fn a_transaction_that_began_before_a_push_is_waited_for() {
    let Some(at) = database() else { return };
    let LedgerAddress::Database(address) = &at else { unreachable!("it is a database") };
    let pushing = pushing(&at);
    let (doorman, reader) = (
        address.connect(postgres::ConnectionPurpose::Write).unwrap(),
        address.connect(postgres::ConnectionPurpose::Read).unwrap(),
    );
    doorman.begin("BEGIN").unwrap();
    reader.begin("BEGIN").unwrap();
    pushing.add(0, &version(1, 1), &texts("a\n")).unwrap();
    let moment = pushing.moment().unwrap();
    let older = pushing.older(moment).unwrap();
    assert_eq!((older.transactions.len(), older.unseen), (1, 0), "{older:?}: who only reads intends nothing");
    doorman.rollback();
    assert!(pushing.older(moment).unwrap().is_over());
    doorman.begin("BEGIN").unwrap();
    assert!(pushing.older(moment).unwrap().is_over(), "it began later, and sees the head");
    // Another role's transactions cannot be seen, so nothing is promised.
    doorman.rollback();
    let role = format!("seer_{}", std::process::id());
    doorman.batch(&format!("CREATE ROLE {role}")).unwrap();
    pushing.as_role(&role);
    let older = pushing.older(moment).unwrap();
    assert!(older.unseen > 0 && !older.is_over(), "{older:?}");
}
