//! The real daemon with its ledger in a real PostgreSQL, against the sandbox, which counts the answers. `tests/postgres/run` starts a
//! server for it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that fails may say so"
)]

mod commands;
mod doormen;
mod failover;
mod faults;
mod giving;
#[allow(unused, unreachable_pub, reason = "only what judges a line of the log")]
#[path = "../it/logs.rs"]
mod logs;
mod partitions;
mod pushed;
mod roster;
mod servers;
mod sharing;
mod watch;

use std::pin::Pin;
use std::time::Duration;

use doorman::sandbox::{Fault, FaultAction, FaultPlace};
use faults::checks::{all_decided, live_again, nothing_twice};
use faults::daemon::Daemon;
use faults::site::Site;
use tokio::task::JoinSet;
use tokio_postgres::Client;

fn main() {
    watch::notices();
    let Ok(server) = std::env::var("DOORMAN_TEST_POSTGRES") else {
        println!("postgres: needs a server, which `tests/postgres/run` starts: nothing was tried");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Of the tests whose name has one of these words in it alone, if there are any.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut trials = Trials { server, place: servers::Place::found(), words, alone: Vec::new(), beside: Vec::new() };
    all(&mut trials);
    tokio::task::LocalSet::new().block_on(&runtime, trials.run());
}

/// One test, which has not begun.
type Trial = (String, Pin<Box<dyn Future<Output = ()>>>);

/// All that are wanted.
struct Trials {
    server: String,
    place: Option<servers::Place>,
    words: Vec<String>,
    /// They stop the server of all, or need it for themselves.
    alone: Vec<Trial>,
    /// They wait more than they compute, each on a database or a server of its own.
    beside: Vec<Trial>,
}

/// Tests that run at the same time.
const BESIDE: usize = 4;

impl Trials {
    fn is_wanted(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word))
    }

    /// With a database of its own, on the server of all.
    fn on<F>(&self, name: &str, test: impl FnOnce(Database) -> F + 'static) -> Option<Trial>
    where
        F: Future<Output = ()> + 'static,
    {
        let (server, database) = (self.server.clone(), name.to_owned());
        let run: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(async move { test(Database::make(&server, &database).await).await });
        self.is_wanted(name).then(|| (name.to_owned(), run))
    }

    /// With servers of its own, where that can be.
    fn of<F>(&self, name: &str, test: impl FnOnce(servers::Place) -> F) -> Option<Trial>
    where
        F: Future<Output = ()> + 'static,
    {
        let place = self.place.as_ref().filter(|_| self.is_wanted(name))?.of(name);
        Some((name.to_owned(), Box::pin(test(place))))
    }

    async fn run(self) {
        for (name, trial) in self.alone {
            trial.await;
            println!("{name} ... ok");
        }
        let mut waiting = self.beside.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < BESIDE
                && let Some((name, trial)) = waiting.next()
            {
                running.spawn_local(async move {
                    trial.await;
                    println!("{name} ... ok");
                });
            }
            // A test that failed has said so: nothing more is tried.
            let Some(ended) = running.join_next().await else { return };
            if ended.is_err() {
                running.shutdown().await;
                std::process::exit(101);
            }
        }
    }
}

fn all(trials: &mut Trials) {
    macro_rules! on {
        ($list:ident, $($name:expr => $test:path),+ $(,)?) => {
            $(let trial = trials.on($name, |database| async move { $test(&database).await });
            trials.$list.extend(trial);)+
        };
    }
    macro_rules! of {
        ($($name:expr => $test:path),+ $(,)?) => {
            $(let trial = trials.of($name, |place| async move { $test(&place).await });
            trials.beside.extend(trial);)+
        };
    }
    // These stop the server.
    on!(alone, "killed_and_cut_off" => killed_and_cut_off, "database_away" => sharing::database_away);
    // Those that take longest begin first.
    of!(
        "failover_asynchronous" => failover::promoted_asynchronous,
        "failover_old_primary_alive" => failover::old_primary_alive,
        "partitions" => partitions::cut,
    );
    on!(
        beside,
        "three_share" => sharing::three_share,
        "moved_by_a_person" => sharing::moved_by_a_person,
    );
    of!(
        "failover_demoted" => failover::demoted,
        "failover_synchronous" => failover::promoted_synchronous,
        "failover_unconfirmed" => failover::unconfirmed,
    );
    for (name, point) in [
        ("stops_at_batch", "batch"),
        ("stops_at_intent", "intent"),
        ("stops_at_call", "call"),
        ("stops_at_commit", "commit"),
        ("stops_at_outcome", "outcome"),
    ] {
        let trial = trials.on(name, move |database| async move { sharing::stops_at(&database, point).await });
        trials.beside.extend(trial);
    }
    on!(
        beside,
        "stopped_and_woken" => sharing::stopped_and_woken,
        "drained" => sharing::drained,
        "agents_come_and_go" => sharing::agents_come_and_go,
        "limit_kept" => sharing::limit_kept,
        "commands_anywhere" => commands::on_any_machine,
        "commands_in_time" => commands::not_in_time,
        "commands_taken_again" => commands::taken_again,
        "revoked_before" => commands::revoked_before,
        "two_on_one_database" => two_on_one_database,
        "every_command_reads_it" => every_command_reads_it,
        "there_and_back" => there_and_back,
        "pushed_versions" => pushed::versions_come_and_go,
        "pushed_heads" => pushed::two_get_the_same_head,
        "cut_off_in_a_flood" => failover::cut_off_in_a_flood,
        "pushed_while_they_ask" => pushed::no_answer_by_older_rules,
        "roster" => roster::come_and_go,
        "roster_configured" => roster::beside_the_configuration,
        "roster_hostile" => roster::hostile,
        "roster_commands" => roster::commands_end,
        "away_given" => giving::given_when_away,
        "reload_lease" => giving::reload_does_not_wait_for_a_lease,
        "revoked_again" => roster::revoked_again,
    );
}

/// What `fleet status --json` prints has the keys of docs/interface.md, and no others.
fn shape(out: &str) {
    let page = include_str!("../../docs/interface.md");
    let table = page.split("### `fleet status --json`").nth(1).unwrap().split("###").next().unwrap();
    let documented: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let said: serde_json::Value = serde_json::from_str(out).unwrap();
    let mut keys: Vec<String> = said.as_object().unwrap().keys().cloned().collect();
    for member in said["members"].as_array().unwrap() {
        keys.extend(member.as_object().unwrap().keys().map(|key| format!("members[].{key}")));
    }
    for key in &keys {
        assert!(documented.contains(&key.as_str()), "`{key}` is not on the page");
    }
    for key in documented {
        assert!(keys.iter().any(|said| said == key), "`{key}` was not said: {out}");
    }
}

/// A database of its own.
struct Database {
    server: String,
    url: String,
    /// What a configuration says of it, in `[ledger]`.
    ledger: String,
}

impl Database {
    async fn make(server: &str, name: &str) -> Self {
        let url = server.replace("/postgres?", &format!("/{name}?"));
        let made = Self { server: server.to_owned(), ledger: format!("url = \"{url}\""), url };
        made.sql().await.batch_execute(&format!("DROP DATABASE IF EXISTS {name}; ")).await.unwrap();
        made.sql().await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        made
    }

    /// The server, beside doorman.
    async fn sql(&self) -> Client {
        Self::client(&self.server).await
    }

    /// To the server that can be written, if the address names several.
    async fn client(url: &str) -> Client {
        servers::writable(url).await.unwrap()
    }

    fn daemon(&self, site: &Site) -> Daemon {
        site.daemon_with_env(&[], &[("DOORMAN_LEDGER_URL", &self.url)])
    }

    /// One of the other commands, on this record.
    async fn cli(&self, site: &Site, arguments: &[&str]) -> (i32, String, String) {
        let running = site.command(arguments).env("DOORMAN_LEDGER_URL", &self.url).output();
        let output = tokio::time::timeout(faults::site::TIME, running).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The backends that serve doorman in this database end, whatever they are doing.
    async fn terminate(&self) -> u64 {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name LIKE 'doorman%' AND datname = current_database()";
        Self::client(&self.url).await.execute(sql, &[]).await.unwrap()
    }

    async fn count(&self, sql: &str) -> i64 {
        Self::client(&self.url).await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Nothing lost, nothing answered twice but if nobody can know, no answer without its intent on record.
    async fn judge(&self, site: &Site) {
        nothing_twice(site, true).unwrap();
        let client = Self::client(&self.url).await;
        let rows = client
            .query("SELECT r.id FROM doorman.answer w JOIN doorman.request r ON r.n = w.request", &[])
            .await
            .unwrap();
        let intents: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let answered = site.control.state().requests.into_iter().filter(|request| request.answered > 0);
        for request in answered {
            assert!(intents.contains(&request.id), "answered without an intent on record: {request:?}");
        }
    }
}

fn slow() -> Fault {
    Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(15).count(0)
}

/// The daemon is killed, its connections are ended under it, and the server is stopped as in a power cut, all in bursts.
async fn killed_and_cut_off(database: &Database) {
    let site = Site::start().await;
    site.control.fault(slow()).unwrap();
    let mut moments = fastrand::Rng::with_seed(20);
    let mut open = 0;
    // On a slow machine nothing has left so early: then there are more kills, and later ones.
    for kill in 0..60 {
        if kill >= 12 && open > 0 {
            break;
        }
        site.ask(&format!("{kill}-before"), 5, false);
        let daemon = database.daemon(&site);
        daemon.stands("live").await.unwrap();
        site.ask(&format!("{kill}-live"), 10, true);
        tokio::time::sleep(Duration::from_micros(moments.u64(0..150_000 + kill * 10_000))).await;
        daemon.kill().await;
        open += database.count("SELECT count(*) FROM doorman.answer WHERE outcome IS NULL").await;
    }
    assert!(open > 0, "no kill met an answer under way: these moments prove nothing");
    let daemon = database.daemon(&site);
    daemon.stands("live").await.unwrap();
    let mut ended = 0;
    for cut in 0..12 {
        site.ask(&format!("{cut}-cut"), 10, true);
        tokio::time::sleep(Duration::from_micros(moments.u64(0..100_000))).await;
        ended += database.terminate().await;
    }
    assert!(ended > 0, "nothing was cut");
    site.until("all decided after cuts", all_decided).await.unwrap();
    if let Ok(control) = std::env::var("DOORMAN_TEST_POSTGRES_CTL") {
        let told = |word: &str| {
            let done =
                std::process::Command::new("sh").arg("-c").arg(format!("{control} {word} >&2")).status().unwrap();
            assert!(done.success(), "pg_ctl {word}");
        };
        for stop in 0..2 {
            site.ask(&format!("{stop}-stop"), 20, true);
            tokio::time::sleep(Duration::from_micros(moments.u64(0..50_000))).await;
            told("stop -m immediate");
            site.ask(&format!("{stop}-away"), 10, true);
            daemon
                .until("blocked", |lines| lines.iter().filter(|line| line["event"] == "ledger_blocked").count() > stop)
                .await
                .unwrap();
            told("-w start");
            site.until("all decided after a stop", all_decided).await.unwrap();
        }
    }
    live_again(&site, &daemon, "after").await.unwrap();
    daemon.stop().await.unwrap();
    database.judge(&site).await;
    let left = "SELECT count(*) FROM doorman.lease l JOIN doorman.member m ON m.id = l.holder WHERE m.state = 'left'";
    assert_eq!(database.count(left).await, 1, "after a clean end its agent waits for the next start");
}

/// A second daemon for the same agent waits; when the first does not live any more, it has the agent.
async fn two_on_one_database(database: &Database) {
    let site = Site::start().await;
    site.control.fault(slow()).unwrap();
    let ttl = &[("DOORMAN_LEDGER_URL", database.url.as_str()), ("DOORMAN_FLEET_TTL", "6s")];
    let first = site.daemon_with_env(&[], ttl);
    first.stands("live").await.unwrap();
    site.ask("first", 20, true);
    let beside = site.beside();
    let second = beside.daemon_with_env(&[], ttl);
    second.stands("elsewhere").await.unwrap();
    site.ask("second", 20, true);
    site.until("all decided", all_decided).await.unwrap();
    assert_eq!((first.count("lease_lost"), second.count("lease_taken")), (0, 0), "nothing is stolen");
    site.ask("third", 20, true);
    first.kill().await;
    second.stands("live").await.unwrap();
    site.until("all decided", all_decided).await.unwrap();
    // A third one in the same state directory does not start.
    let mut third = beside.daemon_with_env(&[], ttl);
    assert_eq!(third.ends().await, Some(74));
    second.stop().await.unwrap();
    database.judge(&site).await;
}

/// What people look at is read from the database.
async fn every_command_reads_it(database: &Database) {
    let site = Site::start().await;
    let daemon = database.daemon(&site);
    daemon.stands("live").await.unwrap();
    site.ask("a", 10, true);
    site.until("all decided", all_decided).await.unwrap();
    let strangers = |out: &str| out.contains("strangers/");
    for (arguments, holds) in [
        (&["status"][..], "ok"),
        (&["pending"], "strangers/"),
        (&["history", "--limit", "500"], "friends/1"),
        (&["history", "--json", "--since", "1h", "--handle", "foes/*"], "foes/"),
        (&["explain", "friends/1"], "friends"),
        (&["contacts"], "friends/1"),
        (&["contacts", "--json"], "friends/1"),
        (&["audit"], ""),
        (&["ledger", "info"], "decisions"),
        (&["ledger", "info", "--json"], "\"schema\":"),
        (&["replay", "--rules", "rules.toml"], ""),
        (&["check"], ""),
        (&["doctor", "--no-connect"], "PostgreSQL"),
    ] {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|word| if *word == "rules.toml" { site.path(word).display().to_string() } else { (*word).to_owned() })
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = database.cli(&site, &arguments).await;
        assert!(matches!(code, 0 | 1) && !err.contains("cannot be used"), "{arguments:?}: {code}\n{out}{err}");
        assert!(out.contains(holds), "{arguments:?} does not say `{holds}`:\n{out}{err}");
    }
    // What a server does better by itself is said so.
    for (arguments, instead) in [
        (&["ledger", "backup", "x"][..], "pg_dump"),
        (&["ledger", "check"], "pg_amcheck"),
        (&["ledger", "reset", "--yes"], "another database"),
    ] {
        let (code, _, err) = database.cli(&site, arguments).await;
        assert!(code != 0 && err.contains(instead), "{arguments:?}: {code} {err}");
    }
    let (_, out, _) = database.cli(&site, &["pending"]).await;
    assert!(strangers(&out), "{out}");
    // Followed, while it is written.
    let mut follow =
        site.command(&["history", "-f", "--json"]).env("DOORMAN_LEDGER_URL", &database.url).spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(follow.stdout.take().unwrap()));
    let said = async {
        loop {
            site.ask(&format!("follow-{}", fastrand::u32(..)), 1, true);
            let line = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await;
            if let Ok(Ok(Some(line))) = line
                && line.contains("\"follow-")
            {
                return;
            }
        }
    };
    tokio::time::timeout(faults::site::TIME, said).await.expect("never followed");
    follow.kill().await.unwrap();
    daemon.stop().await.unwrap();
}

/// A file's record goes to a database and back, and is the same.
async fn there_and_back(database: &Database) {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.ask("file", 20, true);
    site.until("all decided", all_decided).await.unwrap();
    let (code, _, err) = site.cli(&["ledger", "copy", "--to", &database.url]).await;
    assert!(code == 74 && err.contains("in use by another doorman"), "while the daemon writes: {code} {err}");
    daemon.stop().await.unwrap();
    let before = site.cli(&["history", "--json", "--limit", "1000"]).await.1;
    let (code, out, err) = site.cli(&["ledger", "copy", "--to", &database.url, "--dry-run"]).await;
    assert!(code == 0 && out.contains("nothing was changed"), "{code} {out}{err}");
    let (code, out, err) = site.cli(&["ledger", "copy", "--to", &database.url]).await;
    assert!(code == 0, "{code} {out}{err}");
    let (code, _, err) = site.cli(&["ledger", "copy", "--to", &database.url]).await;
    assert!(code != 0, "there is no file any more, and a record there is not replaced: {err}");
    assert_eq!(database.cli(&site, &["history", "--json", "--limit", "1000"]).await.1, before, "what was copied");
    // It goes on there: numbers of new rows come after those of old ones.
    let daemon = database.daemon(&site);
    daemon.stands("live").await.unwrap();
    site.ask("database", 5, true);
    site.until("all decided", all_decided).await.unwrap();
    daemon.stop().await.unwrap();
    database.judge(&site).await;
    let there = database.cli(&site, &["history", "--json", "--limit", "1000"]).await.1;
    let back = site.path("back.db");
    let (code, out, err) =
        database.cli(&site, &["ledger", "copy", "--to", &format!("sqlite:{}", back.display())]).await;
    assert!(code == 0, "{code} {out}{err}");
    let (code, out, err) =
        site.cli(&["history", "--json", "--limit", "1000", "--ledger", &back.display().to_string()]).await;
    assert_eq!((code, out), (0, there), "what came back: {err}");
    let (code, out, err) = site.cli(&["ledger", "check", "--ledger", &back.display().to_string()]).await;
    assert!(code == 0, "{code} {out}{err}");
}
