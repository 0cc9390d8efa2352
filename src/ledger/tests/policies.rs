//! The texts of policies: kept as long as something needs them, stored by their changes.

use super::*;
use crate::policy::rules::SourceText;

fn policy(number: usize, list: &str) -> Record {
    let texts = vec![
        SourceText { name: "rules.toml".to_owned(), text: "version = 1\n".into() },
        SourceText { name: "friends.txt".to_owned(), text: list.into() },
    ];
    Record::Policy { agent: agent(), hash: numbered(number), texts, at: at(number as i64) }
}

fn numbered(number: usize) -> PolicyHash {
    PolicyHash::new(&format!("{number:064x}"))
}

fn under(number: usize, name: &str) -> Record {
    let mut decision = decision(Verdict::Defer, By::NoMatch);
    decision.policy = numbered(number);
    Record::Decided {
        agent: agent(),
        request: id(name),
        decision: Box::new(decision),
        circumstances: circumstances(),
        at: at(number as i64),
    }
}

fn list(changed: usize) -> String {
    (0..50_000).map(|n| if n == changed { format!("changed-{n}\n") } else { format!("owner-{n}/agent\n") }).collect()
}

fn count(world: &TestLedger, sql: &str) -> i64 {
    world.sql().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A program rewrites a list all the time, while no request comes.
#[tokio::test]
async fn a_list_that_is_rewritten_all_the_time_does_not_grow_the_ledger() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![policy(0, &list(0))]).await.unwrap();
    let (pieces, policies) =
        (count(&world, "SELECT count(*) FROM chunk"), count(&world, "SELECT count(*) FROM policy"));
    for number in 1..50 {
        ledger.commit(vec![policy(number, &list(number * 700))]).await.unwrap();
    }
    assert!(count(&world, "SELECT count(*) FROM chunk") <= pieces + 3, "pieces of lists that are gone stay");
    assert!(count(&world, "SELECT count(*) FROM policy") <= policies + 1, "rows of policies that nothing names stay");
    assert_eq!(count(&world, "SELECT count(*) FROM policy_use"), 1);
    assert_eq!(count(&world, "SELECT count(*) FROM text"), 2);
    let reader = world.reader();
    let texts = reader.policy_texts(&numbered(49)).unwrap().unwrap();
    assert_eq!(&*texts[1].text, list(49 * 700));
    assert_eq!(reader.policy_texts(&numbered(48)).unwrap(), None);
    drop(reader);
    ledger.close().await.unwrap();
}

/// The policy of a decision is kept, and needs only the space of its changes.
#[tokio::test]
async fn the_texts_behind_a_decision_stay_and_cost_what_changed() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", Some("ann"), 0), policy(0, &list(0)), under(0, "r1")]).await.unwrap();
    let bytes = "SELECT sum(length(body)) FROM chunk";
    let first = count(&world, bytes);
    assert!(first < 400_000, "50,000 handles are compressed: {first}");
    for number in 1..20 {
        ledger.commit(vec![policy(number, &list(number * 2000)), under(number, "r1")]).await.unwrap();
    }
    let each = (count(&world, bytes) - first) / 19;
    assert!(each < 20_000, "{each} bytes for one line that changed");
    let reader = world.reader();
    for number in [0, 7, 19] {
        let texts = reader.policy_texts(&numbered(number)).unwrap().unwrap();
        assert_eq!(&*texts[1].text, list(number * 2000), "{number}");
    }
    // A policy in force for another agent is needed, too, whatever this one does.
    let other = AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-000000000002").unwrap();
    let Record::Policy { hash, texts, at, .. } = policy(99, "zoe\n") else { unreachable!("a policy") };
    ledger.commit(vec![Record::Policy { agent: other, hash, texts, at }, policy(100, "kim\n")]).await.unwrap();
    ledger.commit(vec![policy(101, "eve\n")]).await.unwrap();
    let kept = |number| reader.policy_texts(&numbered(number)).unwrap().is_some();
    assert_eq!((kept(99), kept(100), kept(101)), (true, false, true));
    drop(reader);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_piece_is_said_and_never_taken_for_the_text() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![policy(0, "ann\n")]).await.unwrap();
    ledger.close().await.unwrap();
    let other = world.sql();
    let mine: Vec<u8> =
        other.query_row("SELECT body FROM chunk ORDER BY n DESC LIMIT 1", [], |row| row.get(0)).unwrap();
    for body in [vec![], vec![7; 40], mine[..mine.len() / 2].to_vec()] {
        other.execute("UPDATE chunk SET body = ?1 WHERE n = (SELECT max(n) FROM chunk)", [body]).unwrap();
        let read = world.reader().policy_texts(&numbered(0));
        assert!(matches!(read, Err(LedgerError::Corrupt { .. })), "{read:?}");
    }
}
