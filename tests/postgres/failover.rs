//! The database fails over under several doormen: it becomes read-only, a standby takes its place, with all that was confirmed or
//! without, and connections end time and again.

use std::collections::HashSet;
use std::time::Duration;

use doorman::sandbox::SandboxStatus;

use crate::Database;
use crate::doormen::{Doormen, RULES, is_stranger};
use crate::faults::daemon::Daemon;
use crate::servers::{Place, Server, database_of};
use crate::watch::Watch;

/// A moment at which nobody aimed.
async fn a_moment() {
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..150_000))).await;
}

/// How many fail-overs a test plays: `DOORMAN_FAILOVERS`, or one.
fn rounds() -> usize {
    std::env::var("DOORMAN_FAILOVERS").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// All agents are somebody's of these.
async fn all_held(doormen: &Doormen, database: &Database, names: &[&str]) {
    let all = doormen.agents.len();
    doormen
        .until("all are somebody's", async || doormen.counts(database, names).await.iter().sum::<usize>() == all)
        .await;
}

/// Each agent has one lease that somebody has, and one connection to the platform.
async fn one_holder_each(doormen: &Doormen, database: &Database, names: &[&str]) {
    all_held(doormen, database, names).await;
    doormen
        .until("one connection each", async || {
            let live = doormen.control.overview().live;
            let mut connected: Vec<&str> = live.iter().filter(|live| !live.ghost).map(|live| &*live.agent).collect();
            connected.sort_unstable();
            connected == doormen.agents
        })
        .await;
}

async fn stop(daemons: impl IntoIterator<Item = Daemon>) {
    for daemon in daemons {
        daemon.stop().await.unwrap();
    }
}

/// The primary only reads for a while, as one that was demoted: nothing is answered, nobody is dead because of it, and nobody moves.
pub async fn demoted(place: &Place) {
    let server = Server::start(place, "demoted").await;
    let database = database_of(&[&server]);
    let mut doormen = Doormen::of(4, &database).await;
    doormen.ttl = "6s";
    let daemons = ["a", "b"].map(|name| doormen.start(name));
    all_held(&doormen, &database, &["a", "b"]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    let before = doormen.holders(&database).await;
    let watch = Watch::over(&doormen, &database);
    doormen.ask(10);
    a_moment().await;
    server.alter(&[("default_transaction_read_only", "on")]).await;
    doormen.ask(3);
    for daemon in &daemons {
        daemon.said("lease_lapsed", 1).await.unwrap();
    }
    let answered = doormen.answered();
    doormen.ask(3);
    // Every agent is let go of.
    doormen.until("let go of", async || doormen.control.overview().live.iter().all(|live| live.ghost)).await;
    assert_eq!(doormen.answered(), answered, "answered, and nothing can be on record");
    server.alter(&[("default_transaction_read_only", "off")]).await;
    for daemon in &daemons {
        daemon.said("lease_back", 1).await.unwrap();
    }
    doormen.all_decided_soon().await;
    one_holder_each(&doormen, &database, &["a", "b"]).await;
    assert_eq!(doormen.holders(&database).await, before, "nobody has moved");
    watch.held("demoted").await;
    stop(daemons).await;
    doormen.judge(&database).await;
}

/// The primary is gone in a flood, and its synchronous standby takes its place: nothing that was confirmed is missing.
pub async fn promoted_synchronous(place: &Place) {
    let mut primary = Server::start(place, "one").await;
    let mut standby = primary.standby("two").await;
    let database = database_of(&[&primary, &standby]);
    primary.waits_for(&standby).await;
    let doormen = Doormen::of(6, &database).await;
    let names = ["a", "b", "c"];
    let daemons = names.map(|name| doormen.start(name));
    all_held(&doormen, &database, &names).await;
    let watch = Watch::over(&doormen, &database);
    for round in 0..rounds() {
        if round > 0 {
            // The old one follows the new one.
            let name = primary.name().to_owned();
            drop(primary);
            primary = standby;
            standby = primary.standby(&name).await;
            primary.waits_for(&standby).await;
        }
        doormen.ask(15);
        a_moment().await;
        primary.stop("immediate").await;
        doormen.ask(3);
        standby.promote().await;
        doormen.all_decided_soon().await;
        one_holder_each(&doormen, &database, &names).await;
        doormen.judge(&database).await;
    }
    watch.held("promoted_synchronous").await;
    for daemon in &daemons {
        assert_eq!(daemon.count("ledger_async"), 0, "what waits for its standby loses nothing");
    }
    // The new one has a standby for which it does not wait: each doorman says so once it connects.
    let _third = standby.standby("three").await;
    standby.is_followed("async").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorman'";
    standby.sql("doorman").await.batch_execute(end).await.unwrap();
    for daemon in &daemons {
        daemon.said("ledger_async", 1).await.unwrap();
    }
    stop(daemons).await;
    doormen.judge(&database).await;
}

/// The primary is gone, and what it confirmed last is gone with it, moves of agents too. doorman had warned; it goes on by itself, and
/// everybody is answered in the end.
pub async fn promoted_asynchronous(place: &Place) {
    for _ in 0..rounds() {
        let primary = Server::start(place, "one").await;
        let standby = primary.standby("two").await;
        primary.is_followed("async").await;
        let database = database_of(&[&primary, &standby]);
        let doormen = Doormen::of(6, &database).await;
        let names = ["a", "b", "c"];
        let [a, b, c] = names.map(|name| doormen.start(name));
        for daemon in [&a, &b, &c] {
            daemon.said("ledger_async", 1).await.unwrap();
        }
        all_held(&doormen, &database, &names).await;
        let watch = Watch::over_what_may_be_lost(&doormen, &database);
        doormen.ask(3);
        doormen.all_decided_soon().await;
        primary.is_followed("async").await;
        // From here on the standby hears of nothing.
        standby.alter(&[("primary_conninfo", "host=/nowhere")]).await;
        primary.until("nobody follows", "SELECT count(*) = 0 FROM pg_stat_replication").await;
        doormen.ask(5);
        doormen.all_decided_soon().await;
        c.kill().await;
        all_held(&doormen, &database, &["a", "b"]).await;
        doormen.ask(3);
        a_moment().await;
        primary.stop("immediate").await;
        standby.promote().await;
        doormen.ask(3);
        doormen.all_decided_soon().await;
        one_holder_each(&doormen, &database, &["a", "b"]).await;
        let on_record = async |sql: &str| -> HashSet<String> {
            let rows = Database::client(&database.url).await.query(sql, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        };
        let strangers = || doormen.control.state().requests.into_iter().filter(is_stranger);
        doormen
            .until("who waits is on record again", async || {
                let known = on_record("SELECT id FROM doorman.request").await;
                strangers().all(|request| known.contains(&request.id))
            })
            .await;
        let c = doormen.start("c");
        one_holder_each(&doormen, &database, &names).await;
        doormen.ask(3);
        doormen.all_decided_soon().await;
        watch.held("promoted_asynchronous").await;
        stop([a, b, c]).await;
        let intents = on_record("SELECT r.id FROM doorman.answer w JOIN doorman.request r ON r.n = w.request").await;
        let (mut answered, mut lost, mut again) = (0, 0, 0);
        for request in doormen.control.state().requests {
            let friend = request.from_handle.as_deref().is_some_and(|handle| handle.starts_with("friends/"));
            let due = if friend { SandboxStatus::Approved } else { SandboxStatus::Rejected };
            if is_stranger(&request) {
                assert_eq!((request.answered, request.status), (0, SandboxStatus::Pending), "{request:?}");
                continue;
            }
            assert!(request.answers.iter().all(|answer| answer.status == due), "two verdicts: {request:?}");
            answered += 1;
            lost += u32::from(!intents.contains(&request.id));
            again += u32::from(request.answered > 1);
        }
        assert!(lost > 0, "nothing was lost: this proves nothing");
        println!("  lost with the primary: the record of {lost} of {answered} answers; {again} were sent twice");
    }
}

/// The doormen's connections end time and again while everybody asks.
pub async fn cut_off_in_a_flood(database: &Database) {
    let doormen = Doormen::of(4, database).await;
    let names = ["a", "b", "c"];
    let daemons = names.map(|name| doormen.start(name));
    all_held(&doormen, database, &names).await;
    let watch = Watch::over(&doormen, database);
    let mut ended = 0;
    for _ in 0..10 {
        doormen.ask(8);
        a_moment().await;
        ended += database.terminate().await;
    }
    assert!(ended > 0, "nothing was cut");
    doormen.all_decided_soon().await;
    one_holder_each(&doormen, database, &names).await;
    watch.held("cut_off_in_a_flood").await;
    stop(daemons).await;
    doormen.judge(database).await;
}

/// A commit waits for its standby, which is away, and its connection ends. Everybody sees what it wrote from then on, and a fail-over
/// takes it back: so it confirms nothing, and no answer leaves.
pub async fn unconfirmed(place: &Place) {
    let primary = Server::start(place, "one").await;
    let standby = primary.standby("two").await;
    primary.waits_for(&standby).await;
    let database = database_of(&[&primary, &standby]);
    let doormen = Doormen::of(2, &database).await;
    let daemon = doormen.start("a");
    all_held(&doormen, &database, &["a"]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    standby.stop("fast").await;
    let answered = doormen.answered();
    doormen.ask(3);
    let beside = primary.sql("doorman").await;
    let waits = async || {
        let sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%COMMIT'";
        beside.query_one(sql, &[]).await.unwrap().get::<_, bool>(0)
    };
    for end in [true, true, true, true, false] {
        doormen.until("a commit waits for the standby", async || waits().await || doormen.answered() > answered).await;
        assert_eq!(doormen.answered(), answered, "answered, and the intent is in no safe place");
        if end {
            let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            beside.batch_execute(end).await.unwrap();
        }
    }
    drop(beside);
    primary.stop("immediate").await;
    standby.resume().await;
    standby.promote().await;
    doormen.all_decided_soon().await;
    doormen.judge(&database).await;
    stop([daemon]).await;
}

/// The old primary is alive and only reads. Who takes an agent over remembers what the new one knows, also if its connections for
/// questions still lead to the old one.
pub async fn old_primary_alive(place: &Place) {
    const MOST: usize = 8;
    let rules = RULES.replace(
        "when = { handle = \"friends/*\" }\n",
        &format!("when = {{ handle = \"friends/*\" }}\nlimit = {{ count = {MOST}, per = \"1h\", by = \"rule\" }}\n"),
    );
    let primary = Server::start(place, "one").await;
    let standby = primary.standby("two").await;
    primary.waits_for(&standby).await;
    let database = database_of(&[&primary, &standby]);
    // So many that all connections for questions are made before the fail-over.
    let doormen = Doormen::of(4, &database).await;
    for name in ["a", "b"] {
        doormen.files(name, &rules, "");
    }
    let approved = || {
        let requests = doormen.control.state().requests.into_iter();
        requests.filter(|request| request.status == SandboxStatus::Approved).count()
    };
    let a = doormen.start("a");
    all_held(&doormen, &database, &["a"]).await;
    doormen.ask(2);
    doormen.all_decided_soon().await;
    standby.promote().await;
    primary.alter(&[("synchronous_standby_names", ""), ("default_transaction_read_only", "on")]).await;
    let b = doormen.start("b");
    standby.until("both beat at the new one", "SELECT count(*) = 2 FROM doorman.member WHERE state = 'up'").await;
    let (code, out, err) = doormen.cli("a", &["fleet", "drain", "a"]).await;
    assert_eq!(code, 0, "{out}{err}");
    all_held(&doormen, &database, &["b"]).await;
    doormen.ask(20);
    doormen.until("as many as are allowed", async || approved() == 4 * MOST).await;
    b.kill().await;
    let (code, out, err) = doormen.cli("a", &["fleet", "undrain", "a"]).await;
    assert_eq!(code, 0, "{out}{err}");
    all_held(&doormen, &database, &["a"]).await;
    doormen.ask(20);
    doormen
        .until("all are on record", async || {
            database.count("SELECT count(DISTINCT request) FROM doorman.decision").await == 4 * 87
        })
        .await;
    assert_eq!(approved(), 4 * MOST, "the limit was counted where nobody writes any more");
    stop([a]).await;
}
