//! Another server answers, which has lost what was confirmed last, as after an asynchronous fail-over. Each needs a real server
//! (`tests/postgres/run`).

use super::*;
use crate::ledger::postgres::session::DatabaseSession;

fn on(at: &LedgerAddress) -> (Ledger, DatabaseSession) {
    let LedgerAddress::Database(address) = at else { unreachable!("it is a database") };
    let ledger =
        Ledger::open(at, LedgerOptions { retry: Duration::from_millis(1), ..LedgerOptions::default() }).unwrap();
    (ledger, address.connect(postgres::ConnectionPurpose::Push).unwrap())
}

const OURS: &str = "FROM pg_stat_activity WHERE application_name = 'doorman' AND datname = current_database()";

/// All connections that write end, and both threads that write have new ones.
async fn cut(beside: &DatabaseSession) {
    let pids = |beside: &DatabaseSession| {
        beside.shown(&format!("SELECT string_agg(pid::text, ',' ORDER BY pid) {OURS}")).unwrap()
    };
    let before = pids(beside).expect("somebody is connected");
    beside.batch(&format!("SELECT pg_terminate_backend(pid, 5000) {OURS}")).unwrap();
    let again = format!("SELECT count(*) >= 2 {OURS} AND pid NOT IN ({before})");
    while beside.shown(&again).unwrap().as_deref() != Some("t") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn numbers_of_rows_are_not_those_of_the_server_before() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    load(&ledger, 0).await;
    ledger.commit(vec![seen("r1", Some("ann"), 0), seen("r2", Some("bob"), 0)]).await.unwrap();
    beside
        .batch(
            "UPDATE request SET id = 'was-r1' WHERE id = 'r1'; UPDATE request SET id = 'r1' WHERE id = 'r2';
             UPDATE request SET id = 'r2' WHERE id = 'was-r1'",
        )
        .unwrap();
    cut(&beside).await;
    ledger.commit(vec![decided("r1", Verdict::Defer, "friends", 1)]).await.unwrap();
    let of = "SELECT r.id FROM request r JOIN decision d ON d.request = r.n";
    assert_eq!(beside.shown(of).unwrap().as_deref(), Some("r1"), "decided about another request");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn memory_counts_only_if_the_lease_is_as_it_was_taken() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    load(&ledger, 0).await;
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    beside.batch("UPDATE lease SET holder = NULL, epoch = epoch - 1, seq = 0; DELETE FROM request").unwrap();
    let loaded = ledger.load_agent(&agent(), at_second(1), REACH).await;
    assert!(matches!(loaded, Err(LedgerError::Unusable { .. })), "{loaded:?}");
    // It takes the lease again, and remembers what is there.
    assert_eq!(load(&ledger, 2).await.pending.len(), 0);
    ledger.commit(vec![seen("r2", Some("bob"), 3)]).await.unwrap();
    assert_eq!(load(&ledger, 4).await.pending.len(), 1);
    ledger.close().await.unwrap();
}

/// The server that answers has lost the taking of a lease, and another doorman takes it there: the epoch is the same once more.
#[tokio::test]
async fn the_same_epoch_of_another_holder_is_not_ours() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    load(&ledger, 0).await;
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    beside.batch("UPDATE lease SET holder = 'another'").unwrap();
    let fenced = ledger.commit(vec![seen("r2", Some("bob"), 0)]).await;
    assert!(matches!(&fenced, Err(LedgerError::Fenced { holder }) if holder == "another"), "{fenced:?}");
    assert_eq!(beside.shown("SELECT count(*) FROM request").unwrap().as_deref(), Some("1"));
    ledger.close().await.unwrap();
}

/// What is read under such an epoch is another doorman's memory.
#[tokio::test]
async fn memory_of_the_same_epoch_counts_only_for_its_holder() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    load(&ledger, 0).await;
    beside.batch("UPDATE lease SET holder = 'another'").unwrap();
    let loaded = ledger.load_agent(&agent(), at_second(1), REACH).await;
    assert!(loaded.is_err(), "{loaded:?}");
    ledger.close().await.unwrap();
}

/// PostgreSQL confirms the end of a transaction in which a statement failed, and undoes it.
#[tokio::test]
async fn a_commit_of_what_failed_confirms_nothing() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    beside.begin("BEGIN").unwrap();
    beside.batch("CREATE TABLE of_a_test (n bigint)").unwrap();
    assert!(beside.batch("SELECT 1 / 0").is_err());
    assert!(beside.commit().is_err(), "confirmed, and undone");
    beside.rollback();
    let there = beside.shown("SELECT count(*) FROM pg_class WHERE relname = 'of_a_test'").unwrap();
    assert_eq!(there.as_deref(), Some("0"));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn leases_are_read_again_after_each_connection() {
    let Some(at) = database() else { return };
    let (ledger, beside) = on(&at);
    load(&ledger, 0).await;
    let mut members = ledger.members().unwrap();
    let before = members.moves().unwrap();
    assert_eq!(members.moves().unwrap(), before);
    cut(&beside).await;
    let after = loop {
        if let Ok(after) = members.moves() {
            break after;
        }
    };
    assert_ne!(after, before, "others may add up to the same there");
    ledger.close().await.unwrap();
}

fn at_second(second: i64) -> Timestamp {
    at(second)
}
