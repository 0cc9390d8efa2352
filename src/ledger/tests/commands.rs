//! Commands that go from doorman to doorman, on a real server (`tests/postgres/run`); there is nothing to try without one.

use super::*;
use crate::ledger::commands::{CommandAdded, CommandProgress, NewCommand, OPEN_MAX};

fn on(at: &LedgerAddress) -> Ledger {
    Ledger::open(at, LedgerOptions { retry: Duration::from_millis(1), ..LedgerOptions::default() }).unwrap()
}

fn is_dead_to(other: &Ledger, dead: &Ledger) {
    let id = dead.members().unwrap().me();
    let mut members = other.members().unwrap();
    let beat = members.look().unwrap().into_iter().find(|member| member.id == *id).unwrap().beat;
    assert!(members.declare_dead(&id, beat).unwrap());
}

fn new(id: &str, lasts: Duration) -> NewCommand {
    NewCommand {
        id: id.to_owned(),
        lease: agent().to_string(),
        op: "{}".to_owned(),
        person: "ann".to_owned(),
        note: Some("she called".to_owned()),
        made_by: "host-a".to_owned(),
        lasts,
    }
}

const LONG: Duration = Duration::from_secs(600);

fn ids(open: &[crate::ledger::commands::OpenCommand]) -> Vec<&str> {
    open.iter().map(|command| command.id.as_str()).collect()
}

#[tokio::test]
async fn only_the_holder_takes_a_command_once_and_the_next_holder_once_more() {
    let Some(at) = database() else { return };
    let (first, second) = (on(&at), on(&at));
    let (one, other) = (first.commands().unwrap(), second.commands().unwrap());
    load(&first, 0).await;
    assert_eq!(other.add(new("c1", LONG)).await.unwrap(), CommandAdded::Added);
    assert_eq!(other.add(new("c1", LONG)).await.unwrap(), CommandAdded::Added, "once more is once");
    assert_eq!(other.progress("c1".to_owned()).await.unwrap(), CommandProgress::Open);
    // Who does not hold the agent neither sees nor takes it.
    assert!(other.open(Vec::new()).await.unwrap().is_empty());
    assert_eq!(other.take("c1".to_owned(), false).await.unwrap(), None);
    let open = one.open(Vec::new()).await.unwrap();
    assert_eq!((ids(&open), open[0].was_taken, open[0].note.as_deref()), (vec!["c1"], false, Some("she called")));
    let epoch = one.take("c1".to_owned(), false).await.unwrap().unwrap();
    assert!(matches!(other.progress("c1".to_owned()).await.unwrap(), CommandProgress::Taken(_)));
    assert!(!other.withdraw("c1".to_owned()).await.unwrap(), "it is taken");
    // Once, but if it knows itself that it did nothing.
    assert!(one.open(Vec::new()).await.unwrap().is_empty());
    assert_eq!(one.take("c1".to_owned(), false).await.unwrap(), None);
    assert_eq!(ids(&one.open(vec!["c1".to_owned()]).await.unwrap()), ["c1"]);
    assert_eq!(one.take("c1".to_owned(), true).await.unwrap(), Some(epoch));
    // It dies, and the next holder takes it again.
    is_dead_to(&second, &first);
    load(&second, 1).await;
    assert_eq!(one.take("c1".to_owned(), true).await.unwrap(), None, "it holds nothing any more");
    let open = other.open(Vec::new()).await.unwrap();
    assert_eq!((ids(&open), open[0].was_taken), (vec!["c1"], true));
    let later = other.take("c1".to_owned(), false).await.unwrap().unwrap();
    assert!(later > epoch);
    // What the dead one says of it counts no more.
    assert!(!one.end("c1".to_owned(), epoch, "late".to_owned()).await.unwrap());
    assert!(other.end("c1".to_owned(), later, "done".to_owned()).await.unwrap());
    assert!(!other.end("c1".to_owned(), later, "twice".to_owned()).await.unwrap());
    assert_eq!(one.progress("c1".to_owned()).await.unwrap(), CommandProgress::Ended("done".to_owned()));
    assert_eq!(other.take("c1".to_owned(), true).await.unwrap(), None, "it has ended");
    one.forget("c1".to_owned()).await.unwrap();
    assert_eq!(other.progress("c1".to_owned()).await.unwrap(), CommandProgress::Gone);
    second.close().await.unwrap();
    first.close().await.unwrap();
}

#[tokio::test]
async fn nobody_takes_what_was_withdrawn_or_is_too_late() {
    let Some(at) = database() else { return };
    let ledger = on(&at);
    let commands = ledger.commands().unwrap();
    load(&ledger, 0).await;
    for (id, lasts) in [("late", Duration::ZERO), ("gone", LONG)] {
        assert_eq!(commands.add(new(id, lasts)).await.unwrap(), CommandAdded::Added);
    }
    assert!(commands.withdraw("gone".to_owned()).await.unwrap());
    assert!(!commands.withdraw("gone".to_owned()).await.unwrap());
    assert!(commands.open(vec!["late".to_owned(), "gone".to_owned()]).await.unwrap().is_empty());
    for id in ["late", "gone"] {
        assert_eq!(commands.take(id.to_owned(), true).await.unwrap(), None, "{id}");
    }
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn so_many_are_open_and_no_more() {
    let Some(at) = database() else { return };
    let LedgerAddress::Database(address) = &at else { unreachable!("it is a database") };
    let ledger = on(&at);
    let commands = ledger.commands().unwrap();
    let session = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    let rows = OPEN_MAX - 1;
    session
        .batch(&format!(
            "INSERT INTO command (id, lease, op, person, made_by, made_at, deadline)
             SELECT 'x' || n, 'a', '', '', '', {NOW}, {NOW} + 600000000 FROM generate_series(1, {rows}) n"
        ))
        .unwrap();
    assert_eq!(commands.add(new("last", LONG)).await.unwrap(), CommandAdded::Added);
    assert_eq!(commands.add(new("more", LONG)).await.unwrap(), CommandAdded::Full);
    assert_eq!(commands.progress("more".to_owned()).await.unwrap(), CommandProgress::Gone);
    // Those that are too late do not count, and an hour later they are gone.
    session.batch("UPDATE command SET deadline = 0, made_at = 0 WHERE id <> 'x1'").unwrap();
    session.batch("UPDATE command SET deadline = 0 WHERE id = 'x1'").unwrap();
    assert_eq!(commands.add(new("more", LONG)).await.unwrap(), CommandAdded::Added);
    assert_eq!(commands.progress("last".to_owned()).await.unwrap(), CommandProgress::Gone);
    assert_eq!(commands.progress("x1".to_owned()).await.unwrap(), CommandProgress::Open);
    ledger.close().await.unwrap();
}

const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";
