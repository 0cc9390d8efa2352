//! A ledger that cannot write: a full disk, another writer, a file that was taken away; and how it is closed then.

use super::*;
use crate::ledger::sqlite::lock::beside;

async fn blocked(health: &mut watch::Receiver<LedgerHealth>, writing: &mut Writing) -> String {
    let health = tokio::select! {
        biased;
        health = health.wait_for(|health| *health != LedgerHealth::Ok) => health.unwrap().clone(),
        written = writing => panic!("it was written all the same: {written:?}"),
    };
    match health {
        LedgerHealth::Blocked { why, .. } => why,
        LedgerHealth::Ok => unreachable!("waited for"),
    }
}

fn write_in_background(ledger: &Ledger, entry: Record) -> Writing {
    let ledger = ledger.clone();
    tokio::spawn(async move { ledger.commit(vec![entry]).await })
}

#[tokio::test]
async fn a_full_disk_makes_everybody_wait_in_order_and_ends_by_itself() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r0", None, 0)]).await.unwrap();
    world.pages.store(1, Ordering::Relaxed);
    let mut health = ledger.health();
    let batches = (1..200).map(|n| {
        let mut big = request(&format!("r{n}"), Some("ann"));
        big.message = Some(StrangerText::new(&"x".repeat(500)));
        write_in_background(&ledger, Record::Seen { agent: agent(), request: big.into(), via: Via::Listing, at: at(n) })
    });
    let mut batches: Vec<_> = batches.collect();
    let mut writing = batches.remove(batches.len() - 1);
    assert!(blocked(&mut health, &mut writing).await.contains("full"));
    // Reading continues meanwhile.
    assert!(load(&ledger, 300).await.pending.iter().any(|one| one.id.as_str() == "r0"));
    world.pages.store(0, Ordering::Relaxed);
    for batch in batches.into_iter().chain([writing]) {
        batch.await.unwrap().unwrap();
    }
    health.wait_for(|health| *health == LedgerHealth::Ok).await.unwrap();
    let numbers: Vec<_> = load(&ledger, 300).await.pending.into_iter().map(|one| one.id.to_string()).collect();
    assert_eq!(numbers, (0..200).map(|n| format!("r{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_writer_in_the_file_is_waited_for() {
    let world = TestLedger::file();
    let ledger = world.open();
    let other = world.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut health = ledger.health();
    let mut writing = write_in_background(&ledger, seen("r1", None, 0));
    assert!(blocked(&mut health, &mut writing).await.contains("locked"));
    other.execute_batch("ROLLBACK").unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Ok);
}

#[tokio::test]
async fn a_file_that_was_taken_away_takes_no_writes() {
    let world = TestLedger::file();
    let ledger = world.open();
    let (path, elsewhere) = (world.path(), world.dir.path().join("elsewhere"));
    std::fs::rename(&path, &elsewhere).unwrap();
    let mut health = ledger.health();
    let mut writing = write_in_background(&ledger, seen("r1", None, 0));
    assert!(blocked(&mut health, &mut writing).await.contains("put it back"));
    std::fs::write(&path, "another file").unwrap();
    health
        .wait_for(|health| matches!(health, LedgerHealth::Blocked { why, .. } if why.contains("another")))
        .await
        .unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_future_does_not_undo_the_write_and_closing_writes_what_waits() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut dropped = Box::pin(ledger.commit(vec![seen("r1", None, 0)]));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    ledger.clone().close().await.unwrap();
    assert_eq!(ledger.commit(vec![seen("r2", None, 1)]).await, Err(LedgerError::Closed));
    let ledger = world.open();
    let pending = load(&ledger, 1).await.pending;
    assert_eq!(pending.iter().map(|one| (&one.id, one.first_seen)).collect::<Vec<_>>(), [(&id("r1"), at(0))]);
}

#[tokio::test]
async fn closing_a_blocked_ledger_says_what_is_lost() {
    let world = TestLedger::file();
    let ledger = world.open();
    let other = world.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut health = ledger.health();
    let mut writing = write_in_background(&ledger, seen("r1", None, 0));
    blocked(&mut health, &mut writing).await;
    assert!(matches!(ledger.close().await, Err(LedgerError::Unusable { .. })));
    assert!(matches!(writing.await.unwrap(), Err(LedgerError::Unusable { .. })));
}

#[tokio::test]
async fn a_log_that_was_deleted_is_noticed_without_a_write_and_loses_nothing() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", None, 0)]).await.unwrap();
    let mut health = ledger.health();
    let log = beside(&world.path(), "-wal");
    std::fs::remove_file(&log).unwrap();
    let gone =
        |health: &LedgerHealth| matches!(health, LedgerHealth::Blocked { why, .. } if why.contains("write-ahead log"));
    health.wait_for(gone).await.unwrap();
    drop(health);
    // A later reader finds what was only in the log.
    ledger.close().await.unwrap();
    let ledger = world.open();
    assert!(load(&ledger, 1).await.pending.iter().any(|one| one.id == id("r1")));
}

/// A link is another name of the ledger: its lock and its log are the same, and a reader that uses it sees what is
/// written.
#[tokio::test]
async fn a_ledger_has_one_lock_and_one_log_however_it_is_named() {
    let world = TestLedger::file();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(world.path(), &link).unwrap();
    // It creates the ledger at the target of the link, and does not change the link.
    let ledger = Ledger::open(&link, LedgerOptions::default()).unwrap();
    assert!(link.is_symlink() && world.path().exists());
    assert!(matches!(Ledger::open(&world.path(), LedgerOptions::default()), Err(LedgerError::Locked { .. })));
    ledger.commit(vec![seen("r1", None, 0)]).await.unwrap();
    // Data that is only in the log is read under either name.
    for name in [&link, &world.path()] {
        let reader = LedgerReader::open(name).unwrap();
        assert!(reader.request(&id("r1")).unwrap().is_some(), "{}", name.display());
    }
    assert!(matches!(
        crate::ledger::reset(&link, "2026-01-01T00:00:00Z".parse().unwrap()),
        Err(LedgerError::Locked { .. })
    ));
    // The link is changed to point elsewhere: a reader that uses it would not see what is written.
    let mut health = ledger.health();
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, "another").unwrap();
    let another =
        |health: &LedgerHealth| matches!(health, LedgerHealth::Blocked { why, .. } if why.contains("another file"));
    health.wait_for(another).await.unwrap();
    drop(ledger);
}

#[tokio::test]
async fn a_ledger_with_two_names_of_its_own_is_refused() {
    let world = TestLedger::file();
    world.open().close().await.unwrap();
    let other = world.path().with_file_name("other.db");
    std::fs::hard_link(world.path(), &other).unwrap();
    for name in [&other, &world.path()] {
        let refused = Ledger::open(name, LedgerOptions::default()).unwrap_err().to_string();
        assert!(refused.contains("another name too"), "{refused}");
    }
    std::fs::remove_file(&other).unwrap();
    assert!(Ledger::open(&world.path(), LedgerOptions::default()).is_ok());
}

#[test]
fn a_place_where_everybody_may_put_a_ledger_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = TestLedger::file();
    let directory = world.path().parent().unwrap().to_owned();
    std::fs::create_dir(&directory).unwrap();
    for (mode, good) in [(0o777, false), (0o755, true)] {
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).unwrap();
        let opened = Ledger::open(&world.path(), LedgerOptions::default());
        assert_eq!(opened.is_ok(), good, "{mode:o}: {opened:?}");
        assert_eq!(world.path().exists(), good, "nothing is made there");
    }
}

#[tokio::test]
async fn a_lock_file_that_was_deleted_is_made_again_and_held() {
    let world = TestLedger::file();
    let ledger = world.open();
    let lock = lock::lock_path(&world.path());
    std::fs::remove_file(&lock).unwrap();
    ledger.commit(vec![seen("r1", None, 0)]).await.unwrap();
    assert!(lock.exists());
    assert!(matches!(lock::Lock::take(&world.path()), Err(LedgerError::Locked { .. })));
    // Another doorman took it first: nothing is written beside it.
    let quicker = || {
        std::fs::remove_file(&lock).unwrap();
        lock::Lock::take(&world.path()).ok()
    };
    // This ledger's own look at the file may come in between and make it again.
    let other = std::iter::repeat_with(quicker).take(100).flatten().next().unwrap();
    let mut health = ledger.health();
    let mut writing = write_in_background(&ledger, seen("r2", None, 1));
    assert!(blocked(&mut health, &mut writing).await.contains("another doorman"));
    drop(other);
    writing.await.unwrap().unwrap();
}
