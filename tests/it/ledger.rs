//! The ledger's file as others find it: after a crash, damaged, newer, held by another process; and the commands that
//! read it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

mod filled;

use std::fs;

use doorman::ledger::{Filter, HistoryReach, LedgerError, LedgerReader, Record, RestoreReach};
use doorman::model::{Answer, Outcome, Verdict};
use doorman::policy::By;
use jiff::SignedDuration;
use rusqlite::Connection;

use filled::*;

#[tokio::test]
async fn what_was_committed_survives_a_kill_at_any_moment() {
    let dir = Dir::new();
    let ledger = open(&dir.ledger()).unwrap();
    for n in 0..40 {
        let name = format!("r{n}");
        ledger.commit(vec![seen(&name, Some("ann"), "hi", n), intent(&name, Answer::Approve, n)]).await.unwrap();
        // The files as a kill would leave them now: the main file and the write-ahead log, without the shared memory.
        let crashed = Dir::new();
        for suffix in ["", "-wal"] {
            fs::copy(beside(&dir.ledger(), suffix), beside(&crashed.ledger(), suffix)).unwrap();
        }
        if n % 10 == 9 {
            // The files after a kill in the middle of a write: only half of the log's last page is there.
            let wal = beside(&crashed.ledger(), "-wal");
            let length = fs::metadata(&wal).unwrap().len();
            fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(length - 2000).unwrap();
        }
        let read = LedgerReader::open(&crashed.ledger()).unwrap().requests(&Filter::default()).unwrap();
        let again = open(&crashed.ledger()).unwrap();
        let reach = RestoreReach {
            charges: SignedDuration::from_hours(1),
            approvals: None,
            history: Some(HistoryReach::Ever),
            merged: false,
        };
        let memory = again.load_agent(&agent(), at(n), reach).await.unwrap();
        let whole = if n % 10 == 9 { n } else { n + 1 };
        assert_eq!(memory.open_answers.len() as i64, whole);
        assert_eq!(read.len() as i64, whole, "a reader sees the same");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = Dir::new();
    filled(&dir.ledger()).await.close().await.unwrap();
    Connection::open(dir.ledger()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(dir.ledger()).unwrap();
    let error = open(&dir.ledger()).unwrap_err();
    assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error}");
    assert!(matches!(LedgerReader::open(&dir.ledger()), Err(LedgerError::Newer { found: 99, .. })));
    assert_eq!(fs::read(dir.ledger()).unwrap(), before);
    let history = doorman(&["history"], &dir.ledger());
    assert_eq!(history.status.code(), Some(74));
    assert!(text(&history.stderr).contains("newer"), "{history:?}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_never_replaced() {
    let dir = Dir::new();
    filled(&dir.ledger()).await.close().await.unwrap();
    let sound = fs::read(dir.ledger()).unwrap();
    let page = 4096;
    let damage: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("no database", b"this is no database, whatever its name says, and long enough to tell".repeat(99)),
        ("header", [&[0_u8; 64], &sound[64..]].concat()),
        ("page", [&sound[..page], &vec![0xff; page], &sound[2 * page..]].concat()),
        ("last page", [&sound[..sound.len() - page], &vec![0x5a; page][..]].concat()),
        ("truncated", sound[..3 * page].to_vec()),
        ("cut by a page", sound[..sound.len() - page].to_vec()),
    ];
    for (what, bytes) in damage {
        fs::write(dir.ledger(), &bytes).unwrap();
        let error = open(&dir.ledger()).expect_err(what);
        assert!(matches!(error, LedgerError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("doorman ledger reset"), "{what}: {error}");
        assert!(fs::read(dir.ledger()).unwrap() == bytes, "{what} was changed");
        let checked = doorman(&["ledger", "check"], &dir.ledger());
        assert_eq!(checked.status.code(), Some(74), "{what}: {checked:?}");
    }
    // The advice in the message works: the old ledger stays beside the new one.
    let reset = doorman(&["ledger", "reset", "--yes"], &dir.ledger());
    assert_eq!(reset.status.code(), Some(0), "{reset:?}");
    let kept: Vec<_> = fs::read_dir(dir.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read(path).unwrap() == sound[..sound.len() - page])
        .collect();
    assert_eq!(kept.len(), 1);
    open(&dir.ledger()).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_too_large_to_be_read_whole_is_still_checked_at_its_ends() {
    let dir = Dir::new();
    open(&dir.ledger()).unwrap().close().await.unwrap();
    let database = Connection::open(dir.ledger()).unwrap();
    let fill = "INSERT INTO agent (id) VALUES ('a');
        WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 30000)
        INSERT INTO request (agent, id, message, first_seen, via)
            SELECT 1, 'request-' || n, printf('%.500c', 'x'), n, 'event' FROM k;";
    database.execute_batch(fill).unwrap();
    let pages: i64 = database.query_row("SELECT count(*) FROM pragma_page_count", [], |row| row.get(0)).unwrap();
    let root: usize = database
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'request'", [], |row| row.get::<_, i64>(0))
        .unwrap() as usize;
    drop((database, pages));
    let mut bytes = fs::read(dir.ledger()).unwrap();
    assert!(bytes.len() > 16 * 1024 * 1024, "{}", bytes.len());
    open(&dir.ledger()).unwrap().close().await.unwrap();
    bytes[(root - 1) * 4096..root * 4096].fill(0x5a);
    fs::write(dir.ledger(), &bytes).unwrap();
    assert!(matches!(open(&dir.ledger()), Err(LedgerError::Corrupt { .. })));
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let dir = Dir::new();
    let other = Connection::open(dir.ledger()).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1;").unwrap();
    drop(other);
    let before = fs::read(dir.ledger()).unwrap();
    let error = open(&dir.ledger()).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(fs::read(dir.ledger()).unwrap(), before);
    // A log without its ledger also contains data.
    fs::remove_file(dir.ledger()).unwrap();
    fs::write(beside(&dir.ledger(), "-wal"), "data").unwrap();
    assert!(open(&dir.ledger()).unwrap_err().to_string().contains("-wal"));
    assert!(!dir.ledger().exists());
}

#[tokio::test]
async fn another_process_with_the_lock_is_named() {
    use nix::fcntl::{Flock, FlockArg};
    let dir = Dir::new();
    let lock = beside(&dir.ledger(), ".lock");
    fs::write(&lock, "4242\n").unwrap();
    let held = Flock::lock(fs::File::open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
    let error = open(&dir.ledger()).unwrap_err();
    assert!(error.to_string().contains("4242"), "{error}");
    let reset = doorman(&["ledger", "reset", "--yes"], &dir.ledger());
    assert_eq!(reset.status.code(), Some(74));
    assert!(text(&reset.stderr).contains("stop it first"));
    assert!(!dir.ledger().exists());
    drop(held);
    open(&dir.ledger()).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn reading_makes_no_files_and_works_beside_the_daemon() {
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    let count = || LedgerReader::open(&dir.ledger()).unwrap().requests(&Filter::default()).unwrap().len();
    assert_eq!(count(), 3);
    ledger.commit(vec![seen("r4", None, "now", 200)]).await.unwrap();
    assert_eq!(count(), 4);
    ledger.close().await.unwrap();
    let list = || {
        let mut names: Vec<_> = fs::read_dir(dir.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = list();
    assert_eq!(count(), 4);
    doorman(&["history"], &dir.ledger());
    doorman(&["ledger", "info"], &dir.ledger());
    assert_eq!(list(), before);
    // A missing ledger is not created.
    let missing = dir.0.path().join("none/ledger.db");
    let history = doorman(&["history"], &missing);
    assert_eq!(history.status.code(), Some(74));
    assert!(text(&history.stderr).contains("has doorman run here?"), "{history:?}");
    assert!(!missing.parent().unwrap().exists());
}

#[tokio::test]
async fn history_is_a_table_for_people_and_exact_json_for_programs() {
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    let all = doorman(&["history"], &dir.ledger());
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    let table = text(&all.stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1].contains("2027-01-15 08:00:00  2027-01-15 08:00:02  2027-01-15 08:00:02") && lines[1].contains("@Ann"),
        "{table}"
    );
    assert!(lines[1].contains("approve") && lines[1].contains("friends") && lines[1].contains("approved"), "{table}");
    assert!(lines[2].contains("defer") && lines[2].contains("no_match"), "{table}");

    let json = doorman(&["history", "--json"], &dir.ledger());
    let lines: Vec<&str> = text(&json.stdout).lines().collect();
    assert_eq!(
        lines[0],
        format!(
            r#"{{"request":"r1","agent":"{}","handle":"@Ann","name":null,"message":"hello","received_at":"2027-01-15T08:00:00Z","decided_at":"2027-01-15T08:00:02Z","answered_at":"2027-01-15T08:00:02Z","verdict":"approve","by":"friends","note":null,"mode":"enforce","policy":"{}","answer":{},"settled":{},"ends_at":null,"end_in_doubt":null,"end_moved":null,"removed":null,"contact_removed_at":null}}"#,
            agent(),
            "0f".repeat(32),
            r#"{"at":"2027-01-15T08:00:03Z","attempts":1,"outcome":"approved"}"#,
            r#"{"as":"approved","at":"2027-01-15T08:00:03Z","elsewhere":false}"#
        )
    );
    let third: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!((&third["handle"], &third["answer"]), (&NASTY.into(), &serde_json::Value::Null));

    let ids = |args: &[&str]| -> Vec<String> {
        let output = doorman(&[&["history", "--json"], args].concat(), &dir.ledger());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text(&output.stdout).lines().map(|line| value(line)["request"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["--handle", "ann"]), ["r1"]);
    assert_eq!(ids(&["--handle", "bob/*"]), ["r2"]);
    assert_eq!(ids(&["--verdict", "defer"]), ["r2"]);
    assert_eq!(ids(&["--rule", "friends"]), ["r1"]);
    assert_eq!(ids(&["--outcome", "approved"]), ["r1"]);
    assert_eq!(ids(&["--outcome", "pending"]), ["r2", "r3"]);
    assert_eq!(ids(&["--since", "2027-01-15T08:01"]), ["r2", "r3"]);
    assert_eq!(ids(&["--until", "2027-01-15T08:01:00Z"]), ["r1"]);
    assert_eq!(ids(&["-n", "1"]), ["r3"]);
    assert_eq!(ids(&["-n", "0"]), [""; 0]);
    let unknown = doorman(&["history", "--json", "--agent", "somebody-else"], &dir.ledger());
    assert_eq!((unknown.status.code(), text(&unknown.stdout)), (Some(1), ""), "{unknown:?}");
    let nobody = doorman(&["history", "--handle", "zoe"], &dir.ledger());
    assert_eq!((nobody.status.code(), text(&nobody.stdout)), (Some(0), ""));
    assert_eq!(text(&nobody.stderr), "nothing on record fits\n");
    for wrong in [["--since", "whenever"], ["--verdict", "perhaps"], ["--outcome", "fine"]] {
        let output = doorman(&[&["history"], &wrong[..]].concat(), &dir.ledger());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    ledger.close().await.unwrap();
}

/// A request that was approved just now is listed, however old it is.
#[tokio::test]
async fn history_since_goes_by_the_last_thing_that_happened() {
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    let hour = 3600;
    ledger
        .commit(vec![
            // A person answers one request an hour after it came; somebody else settles another one; a third is on
            // hold.
            Record::Intent {
                agent: agent(),
                request: id("r2"),
                answer: Answer::Approve,
                by: doorman::policy::By::Person("ann".into()),
                lasts: None,
                policy: None,
                head: None,
                charges: vec![],
                counts: false,
                attempt: 1,
                at: at(hour),
            },
            outcome("r2", Outcome::Confirmed(Answer::Approve), hour),
            seen("r4", Some("eve"), "hi", 180),
            seen("r5", Some("zoe"), "hi", 181),
            Record::Settled {
                agent: agent(),
                request: id("r4"),
                status: Some(doorman::model::RequestStatus::Approved),
                at: at(hour + 1),
            },
            Record::Hold { agent: agent(), request: id("r5"), person: Some("ann".into()), at: at(hour + 2) },
            seen("r6", Some("bob"), "again", 200),
            decided("r6", Verdict::Defer, By::NoMatch, hour + 3),
        ])
        .await
        .unwrap();
    let ids = |args: &[&str]| -> Vec<String> {
        let output = doorman(&[&["history", "--json"], args].concat(), &dir.ledger());
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text(&output.stdout).lines().map(|line| value(line)["request"].as_str().unwrap().to_owned()).collect()
    };
    let since = "2027-01-15T08:59:59Z";
    assert_eq!(ids(&["--since", since]), ["r2", "r4", "r5", "r6"]);
    assert_eq!(ids(&["--since", since, "-n", "2"]), ["r5", "r6"]);
    assert_eq!(ids(&["--since", since, "--received"]), [""; 0]);
    assert_eq!(ids(&["--since", since, "--decided"]), ["r2", "r6"]);
    assert_eq!(ids(&["--until", since]), ["r1", "r3"]);
    let table = doorman(&["history"], &dir.ledger());
    let row = |id: &str| text(&table.stdout).lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(row("r4").contains("approved elsewhere"), "{}", row("r4"));
    let csv = doorman(&["history", "--csv", "--handle", "ann"], &dir.ledger());
    let lines: Vec<&str> = text(&csv.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("request,agent,handle,name,message,received_at,"), "{lines:?}");
    assert!(lines[1].starts_with(&format!("r1,{},ann,,hello,2027-01-15T08:00:00Z,", agent())), "{lines:?}");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn history_shows_no_character_that_steers_a_terminal() {
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    for args in [vec!["history"], vec!["history", "--json"]] {
        let output = doorman(&args, &dir.ledger());
        let shown = text(&output.stdout);
        let wrong: Vec<char> = shown.chars().filter(|c| *c != '\n' && (c.is_control() || !c.is_ascii())).collect();
        assert!(wrong.is_empty(), "{args:?}: {wrong:?}");
        assert!(shown.contains(r"\u{1b}") || shown.contains(r"\u001b"), "{shown}");
        assert_eq!(shown.lines().filter(|line| line.contains("r3")).count(), 1, "one line a request");
    }
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn following_shows_each_change_once_and_outlives_the_daemon() {
    use doorman::ledger::read::Follow;
    let dir = Dir::new();
    filled(&dir.ledger()).await.close().await.unwrap();
    let mut follow = Follow::begin(LedgerReader::open(&dir.ledger()).unwrap()).unwrap();
    let mut look = || -> Vec<(String, Option<Verdict>, Option<Outcome>)> {
        let news = follow.poll().unwrap();
        news.into_iter().map(|row| (row.request.id.to_string(), row.verdict, row.outcome)).collect()
    };
    assert_eq!(look(), []);
    for round in 0..2 {
        let ledger = open(&dir.ledger()).unwrap();
        let new = format!("new{round}");
        ledger.commit(vec![seen(&new, Some("ann"), "hi", 300), intent(&new, Answer::Reject, 301)]).await.unwrap();
        assert_eq!(look(), [], "nothing to say yet");
        ledger.commit(vec![outcome(&new, Outcome::Unknown, 302)]).await.unwrap();
        assert_eq!(look(), [(new.clone(), Some(Verdict::Reject), Some(Outcome::Unknown))]);
        assert_eq!(look(), []);
        ledger.commit(vec![outcome(&new, Outcome::Confirmed(Answer::Reject), 303)]).await.unwrap();
        assert_eq!(look(), [(new.clone(), Some(Verdict::Reject), Some(Outcome::Confirmed(Answer::Reject)))]);
        if round == 0 {
            // A request that was deferred before `--follow` began is printed when it changes.
            ledger.commit(vec![decided("r2", Verdict::Reject, By::NoMatch, 304)]).await.unwrap();
            assert_eq!(look(), []);
            ledger.commit(vec![intent("r2", Answer::Reject, 305), outcome("r2", Outcome::Gone, 306)]).await.unwrap();
            assert_eq!(look(), [("r2".to_owned(), Some(Verdict::Reject), Some(Outcome::Gone))]);
        }
        ledger.close().await.unwrap();
        assert_eq!(look(), []);
    }
}

#[tokio::test]
async fn a_backup_beside_the_daemon_is_a_whole_private_ledger() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    let copy = dir.0.path().join("copy.db");
    let backup = |copy: &std::path::Path| doorman(&["ledger", "backup", copy.to_str().unwrap()], &dir.ledger());
    let said = backup(&copy);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    // Later entries are only in the daemon's ledger.
    ledger.commit(vec![seen("r9", Some("eve"), "late", 500)]).await.unwrap();
    let requests =
        |path: &std::path::Path| LedgerReader::open(path).unwrap().requests(&Filter::default()).unwrap().len();
    assert_eq!((requests(&copy), requests(&dir.ledger())), (3, 4));
    LedgerReader::open(&copy).unwrap().check().unwrap();
    // The copy is a valid ledger: a daemon can use it.
    open(&copy).unwrap().close().await.unwrap();
    let before = fs::read(&copy).unwrap();
    let again = backup(&copy);
    assert_eq!(again.status.code(), Some(74), "{again:?}");
    assert!(text(&again.stderr).contains("is there already"), "{again:?}");
    assert_eq!(fs::read(&copy).unwrap(), before, "nothing is replaced");
    let nowhere = backup(&dir.0.path().join("none/copy.db"));
    assert_eq!(nowhere.status.code(), Some(74), "{nowhere:?}");
    assert!(!dir.0.path().join("copy.db.new").exists());
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn info_counts_by_table_and_a_policy_on_record_is_printed() {
    let dir = Dir::new();
    let ledger = filled(&dir.ledger()).await;
    let hash = doorman::policy::PolicyHash::new(&"0f".repeat(32));
    let part = |name: &str, text: &str| doorman::policy::rules::SourceText { name: name.to_owned(), text: text.into() };
    let texts = vec![part("rules.toml", "version = 1\n"), part("friends.txt", "ann\u{1b}[2J\n")];
    ledger.commit(vec![Record::Policy { agent: agent(), hash, texts, at: at(9) }]).await.unwrap();
    let info = doorman(&["ledger", "info", "--json"], &dir.ledger());
    let info: serde_json::Value = serde_json::from_str(text(&info.stdout)).unwrap();
    let table = |name: &str| info["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap();
    assert_eq!((&table("request")["rows"], &table("chunk")["rows"]), (&3.into(), &2.into()));
    assert!(table("request")["bytes"].as_u64().unwrap() >= 4096, "{info}");
    let people = doorman(&["ledger", "info"], &dir.ledger());
    assert!(text(&people.stdout).contains("WITH INDEXES"), "{people:?}");
    let printed = doorman(&["ledger", "policy", "0f0f0f"], &dir.ledger());
    assert_eq!(text(&printed.stdout), "# rules.toml\nversion = 1\n\n# friends.txt\nann\\u{1b}[2J\n");
    let unknown = doorman(&["ledger", "policy", "aa"], &dir.ledger());
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_group_is_written_in_the_order_of_its_batches() {
    let dir = Dir::new();
    let ledger = open(&dir.ledger()).unwrap();
    let writes = (0..3000).map(|n| {
        let ledger = ledger.clone();
        async move { ledger.commit(vec![seen(&format!("r{n}"), Some("ann"), "hi", n)]).await }
    });
    for result in futures_util::future::join_all(writes).await {
        result.unwrap();
    }
    let read = LedgerReader::open(&dir.ledger()).unwrap().requests(&Filter::default()).unwrap();
    let order: Vec<String> = read.into_iter().map(|row| row.request.id.to_string()).collect();
    assert_eq!(order, (0..3000).map(|n| format!("r{n}")).collect::<Vec<_>>());
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn the_page_names_the_schema_of_this_version() {
    let dir = Dir::new();
    filled(&dir.ledger()).await.close().await.unwrap();
    let schema = LedgerReader::open(&dir.ledger()).unwrap().totals().unwrap().schema;
    let page = include_str!("../../docs/ledger.md");
    assert!(page.contains(&format!("`PRAGMA user_version` is the schema's number, now {schema};")), "it is {schema}");
}
