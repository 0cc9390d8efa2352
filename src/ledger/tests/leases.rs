//! What only a database server can do to a ledger: a second doorman on it, and a commit that nobody hears of. Each looks at a real
//! server (`tests/postgres/run`), and has nothing to try without one.

use std::os::unix::net::UnixListener as Listener;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::ledger::members::{BeatOutcome, MemberState, NewMember};

fn on(at: &LedgerAddress) -> Ledger {
    Ledger::open(at, LedgerOptions { retry: Duration::from_millis(1), ..LedgerOptions::default() }).unwrap()
}

fn members(ledger: &Ledger) -> Membership {
    ledger.members().unwrap()
}

/// The others think that it is dead, whatever it thinks itself.
fn is_dead_to(other: &Ledger, dead: &Ledger) {
    let id = members(dead).me();
    let beat = members(other).look().unwrap().into_iter().find(|member| member.id == *id).unwrap().beat;
    assert!(!members(other).declare_dead(&id, beat + 1).unwrap(), "it beat since");
    assert!(members(other).declare_dead(&id, beat).unwrap());
    assert!(!members(other).declare_dead(&id, beat).unwrap(), "once");
}

#[tokio::test]
async fn whoever_lives_keeps_the_lease_and_who_lost_it_writes_nothing_more() {
    let Some(at) = database() else { return };
    let (first, second) = (on(&at), on(&at));
    load(&first, 0).await;
    first.commit(vec![seen("r1", Some("ann"), 0), seen("r2", Some("bob"), 0)]).await.unwrap();
    let refused = second.load_agent(&agent(), at_second(1), REACH).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    let refused = second.commit(vec![seen("r3", Some("cid"), 1)]).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    is_dead_to(&second, &first);
    // Until somebody takes it, what it writes is there for whoever does.
    first.commit(vec![seen("r4", Some("dan"), 1)]).await.unwrap();
    assert_eq!(load(&second, 1).await.pending.len(), 3, "whoever takes it sees all of it");
    let fenced = first.commit(vec![intent("r1", Answer::Approve, vec![], 1, 1)]).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    second.commit(vec![intent("r1", Answer::Reject, vec![], 1, 2)]).await.unwrap();
    // The dead takes nothing, not even what nobody has, and declares nobody dead.
    second.give(agent().as_str()).await.unwrap();
    let again = first.load_agent(&agent(), at_second(3), REACH).await;
    assert!(matches!(again, Err(LedgerError::Fenced { .. })), "{again:?}");
    let living = members(&second).look().unwrap().pop().unwrap();
    assert!(!members(&first).declare_dead(&living.id, living.beat).unwrap());
    // As somebody new it does.
    let mut again = members(&first);
    assert!(matches!(again.beat(0).unwrap(), BeatOutcome::Dead { by: Some(_) }));
    again.join_again("another-life".to_owned()).unwrap();
    assert_eq!(again.beat(0).unwrap(), BeatOutcome::Done(MemberState::Up));
    let open = load(&first, 4).await.open_answers;
    assert_eq!(open.iter().map(|open| open.answer).collect::<Vec<_>>(), [Answer::Reject]);
    let given = second.commit(vec![outcome("r1", Outcome::Confirmed(Answer::Reject), 5)]).await;
    assert!(matches!(given, Err(LedgerError::Fenced { .. })), "{given:?}");
    first.commit(vec![outcome("r1", Outcome::Confirmed(Answer::Reject), 5)]).await.unwrap();
    second.close().await.unwrap();
    first.close().await.unwrap();
}

/// The dead one writes as fast as it can while its lease is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_a_lease_sees_all_that_was_written_before() {
    let Some(at) = database() else { return };
    let first = on(&at);
    load(&first, 0).await;
    let mut heir = first;
    for round in 0..12 {
        let before = heir;
        let dead = before.clone();
        heir = on(&at);
        is_dead_to(&heir, &dead);
        let writing = tokio::spawn(async move {
            let mut written = Vec::new();
            for number in 0.. {
                let name = format!("r{round}-{number}");
                match dead.commit(vec![seen(&name, Some("ann"), 0)]).await {
                    Ok(()) => written.push(name),
                    Err(error) => return (written, error),
                }
            }
            unreachable!("it is fenced in the end")
        });
        // While a transaction of the other has it, it is not to be had.
        let saved = loop {
            match heir.load_agent(&agent(), at_second(1), REACH).await {
                Err(LedgerError::Fenced { .. }) => {}
                saved => break saved.unwrap(),
            }
        };
        let known: Vec<String> = saved.pending.iter().map(|pending| pending.id.as_str().to_owned()).collect();
        let (written, error) = writing.await.unwrap();
        assert!(matches!(error, LedgerError::Fenced { .. }), "{error:?}");
        let unseen: Vec<&String> = written.iter().filter(|name| !known.contains(name)).collect();
        assert!(unseen.is_empty(), "{unseen:?} of {}", written.len());
        before.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_new_life_knows_that_its_last_one_is_over() {
    let Some(at) = database() else { return };
    let first = on(&at);
    load(&first, 0).await;
    let next = |before: Option<String>| {
        let member = NewMember { before, ..NewMember::default() };
        Ledger::open(&at, LedgerOptions { member, retry: Duration::from_millis(1), ..LedgerOptions::default() })
            .unwrap()
    };
    let stranger = next(None);
    assert!(stranger.load_agent(&agent(), at_second(1), REACH).await.is_err());
    let second = next(Some(members(&first).me().to_string()));
    load(&second, 1).await;
    first.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap_err();
    // One that leaves keeps its leases for the next life.
    members(&second).leave().unwrap();
    second.keep_leases();
    let me = members(&second).me().to_string();
    second.close().await.unwrap();
    assert!(stranger.load_agent(&agent(), at_second(2), REACH).await.is_err());
    load(&next(Some(me)), 3).await;
}

#[tokio::test]
async fn a_lease_that_a_transaction_keeps_locked_holds_up_no_other() {
    let Some(at) = database() else { return };
    let ledger = on(&at);
    let LedgerAddress::Database(address) = &at else { unreachable!("it is a database") };
    let other = AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-000000000002").unwrap();
    load(&ledger, 0).await;
    ledger.give(agent().as_str()).await.unwrap();
    // As a holder that was stopped in its transaction.
    let stopped = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    stopped.begin("BEGIN").unwrap();
    stopped.batch("UPDATE lease SET seq = seq + 1").unwrap();
    let refused = ledger.load_agent(&agent(), at_second(1), REACH).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    ledger.load_agent(&other, at_second(1), REACH).await.unwrap();
    stopped.rollback();
    load(&ledger, 2).await;
    ledger.close().await.unwrap();
}

/// Whoever wants to give a lease has ended: nobody asks again.
#[tokio::test]
async fn a_lease_that_cannot_be_given_now_is_given_once_it_can_be_unless_it_is_used_again() {
    let Some(at) = database() else { return };
    let options = LedgerOptions { retry: Duration::ZERO, ..LedgerOptions::default() };
    let ledger = Ledger::open(&at, options).unwrap();
    let LedgerAddress::Database(address) = &at else { unreachable!("it is a database") };
    let look = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    let name = agent();
    // Whichever thread writes for the lease writes for one of these, too.
    let others = async |second| {
        for n in 2..8 {
            let other = AgentId::parse(&format!("0c5b0a2e-7a55-4e6f-9d1f-00000000000{n}")).unwrap();
            ledger.load_agent(&other, at_second(second), REACH).await.unwrap();
        }
    };
    let holder = || {
        let sql = "SELECT holder FROM lease WHERE name = ?1";
        crate::ledger::sql::Connection::Postgres(&look)
            .query_row(sql, [name.as_str()], |row| row.get::<_, Option<String>>(0))
            .unwrap()
    };
    // Whether a transaction waits for another one.
    let waits = || {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        crate::ledger::sql::Connection::Postgres(&look).query_row(sql, [], |row| row.get::<_, bool>(0)).unwrap()
    };
    let locked = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    let cannot_be_given = async || {
        locked.begin("BEGIN").unwrap();
        locked.batch(&format!("UPDATE lease SET seq = seq WHERE name = '{name}'")).unwrap();
        let refused = ledger.give(name.as_str()).await;
        assert!(matches!(refused, Err(LedgerError::Unusable { .. })), "{refused:?}");
        // It holds up nobody else.
        others(1).await;
    };
    others(0).await;
    for taken_again in [true, false] {
        load(&ledger, 0).await;
        cannot_be_given().await;
        if taken_again {
            load(&ledger, 1).await;
            locked.rollback();
        } else {
            let (writer, row) = (ledger.clone(), seen("r1", Some("ann"), 1));
            let written = tokio::spawn(async move { writer.commit(vec![row]).await });
            while !waits() {
                tokio::task::yield_now().await;
            }
            locked.rollback();
            written.await.unwrap().unwrap();
        }
        // Each writer has had its turn by then.
        others(2).await;
        assert!(holder().is_some(), "it is in use again: {taken_again}");
    }
    cannot_be_given().await;
    locked.rollback();
    let given = async {
        while holder().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given).await.expect("nobody gives it");
    ledger.close().await.unwrap();
}

fn at_second(second: i64) -> Timestamp {
    at(second)
}

/// Carries bytes between doorman and the server. On command, it delivers a COMMIT and keeps what the server says of it.
async fn carry(listener: UnixListener, server: PathBuf, lose: Arc<AtomicBool>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (server, lose) = (server.clone(), Arc::clone(&lose));
        tokio::spawn(async move {
            let mut upstream = UnixStream::connect(server).await.unwrap();
            let (mut from_client, mut from_server) = ([0; 65_536], [0; 65_536]);
            loop {
                tokio::select! {
                    read = client.read(&mut from_client) => {
                        let Ok(read @ 1..) = read else { return };
                        upstream.write_all(&from_client[..read]).await.unwrap();
                        let commits = from_client[..read].windows(6).any(|word| word == b"COMMIT");
                        if commits && lose.swap(false, Ordering::SeqCst) {
                            // The server is through when it answers.
                            let _ = upstream.read(&mut from_server).await;
                            return;
                        }
                    }
                    read = upstream.read(&mut from_server) => {
                        let Ok(read @ 1..) = read else { return };
                        if client.write_all(&from_server[..read]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_confirmed_is_found_to_be_there_and_not_written_twice() {
    let Some(direct) = database() else { return };
    let url = direct.to_string();
    let (before, after) = url.split_once("host=").unwrap();
    let (socket, after) = after.split_once('&').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let lose = Arc::new(AtomicBool::new(false));
    let listener = UnixListener::from_std(listener).unwrap();
    tokio::spawn(carry(listener, PathBuf::from(socket).join(".s.PGSQL.5432"), Arc::clone(&lose)));
    let ledger = on(&database_at(format!("{before}host={}&{after}", dir.path().display())));
    load(&ledger, 0).await;
    ledger.commit(vec![seen("r1", Some("ann"), 0), seen("r2", Some("bob"), 0)]).await.unwrap();
    let count = || LedgerReader::open(&direct).unwrap().totals().unwrap().decisions;
    for round in 1..=5 {
        lose.store(true, Ordering::SeqCst);
        ledger.commit(vec![decided("r1", Verdict::Defer, "friends", round)]).await.unwrap();
        assert!(!lose.load(Ordering::SeqCst), "no commit was lost");
        assert_eq!(count(), round.unsigned_abs(), "written once");
    }
    // What is refused stays refused: an answer whose intent is not on record must never leave.
    ledger.commit(vec![intent("r1", Answer::Approve, vec![], 1, 10)]).await.unwrap();
    lose.store(true, Ordering::SeqCst);
    let refused =
        ledger.commit(vec![decided("r2", Verdict::Reject, "x", 11), intent("r1", Answer::Reject, vec![], 1, 11)]).await;
    assert!(!lose.load(Ordering::SeqCst), "no commit was lost");
    assert!(matches!(refused, Err(LedgerError::Refused { .. })), "{refused:?}");
    assert_eq!(count(), 6, "what happened is on record, once");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_question_may_take_longer_than_a_write() {
    let Some(LedgerAddress::Database(address)) = database() else { return };
    let patience = |purpose| address.connect(purpose).unwrap().shown("SHOW statement_timeout").unwrap().unwrap();
    assert_eq!(patience(postgres::ConnectionPurpose::Write), "5s");
    assert_eq!(patience(postgres::ConnectionPurpose::Ask), "1min");
    assert_eq!(patience(postgres::ConnectionPurpose::Read), "1min");
}

#[tokio::test]
async fn a_database_that_is_no_place_for_a_record_is_refused_before_anything_is_written() {
    let Some(at) = database() else { return };
    let LedgerAddress::Database(address) = &at else { unreachable!("it is a database") };
    let session = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    let name = format!("latin_{}", std::process::id());
    session.batch(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).unwrap();
    let (before, after) = address.shown().split_once('?').unwrap();
    let latin = database_at(format!("{}/{name}?{after}", before.rsplit_once('/').unwrap().0));
    let error = Ledger::open(&latin, LedgerOptions::default()).unwrap_err().to_string();
    assert!(error.contains("LATIN1"), "{error}");
    // Nothing was made there.
    assert!(LedgerReader::open(&latin).unwrap_err().to_string().contains("there is no record in it"));
    // A schema of a doorman to come.
    on(&at).close().await.unwrap();
    session.batch("UPDATE doorman.meta SET schema = 99, min_reader = 99, min_writer = 99").unwrap();
    assert!(matches!(Ledger::open(&at, LedgerOptions::default()), Err(LedgerError::Newer { found: 99, .. })));
    assert!(matches!(LedgerReader::open(&at), Err(LedgerError::Newer { found: 99, .. })));
    // Unless that one says that we may still.
    session.batch("UPDATE doorman.meta SET min_reader = 13, min_writer = 13").unwrap();
    on(&at).close().await.unwrap();
}
