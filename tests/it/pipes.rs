//! What commands do if nobody takes their output: they end when their pipe is closed, as in `doorman history -f | head -1`,
//! and while it is full, as with a pager, they keep nothing of the ledger.

use std::io::{PipeWriter, Read as _};
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorman::ledger::{Ledger, LedgerOptions, Record};
use doorman::model::{AgentId, PausedBy};
use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rusqlite::Connection;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::process::{AGENT, KEY, Site, TIME};

/// Reads one line of a command's output and closes the pipe; returns the command's exit code.
async fn head(site: &Site, arguments: &[&str]) -> Option<i32> {
    let mut child = site.command(arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(TIME, lines.next_line()).await.expect("it says something").unwrap();
    assert!(line.is_some_and(|line| !line.is_empty()), "{arguments:?}");
    drop(lines);
    let ended = timeout(TIME, child.wait()).await;
    ended.unwrap_or_else(|_| panic!("{arguments:?} never ends")).unwrap().code()
}

#[tokio::test]
async fn commands_that_print_in_a_loop_end_with_their_reader() {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let site = Site::new(&format!("url = \"{}\"", sandbox.url()));
    let transcript = site.path("transcript.jsonl").display().to_string();
    let mut doorman = site.run(&["--record", &transcript], &[]);
    doorman.is("live").await;
    let ids = sandbox.control().request(&NewRequest::to(AGENT).from("friends/ann")).unwrap();
    doorman.answers(&ids[0]).await;
    // There is nothing new to print, but the command notices that the reader has gone.
    for arguments in
        [&["history", "-f"][..], &["history", "-f", "--json"], &["status", "--watch"], &["pending", "--watch"]]
    {
        assert_eq!(head(&site, arguments).await, Some(0), "{arguments:?}");
    }
    // A command asks no question that nobody can see.
    sandbox.control().request(&NewRequest::to(AGENT).from("nobody")).unwrap();
    doorman.says("it waits", |line| line["event"] == "decided" && line["verdict"] == "defer").await;
    let mut review = site.command(&["review"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(review.stdout.take().unwrap()).lines();
    while timeout(TIME, lines.next_line()).await.unwrap().unwrap().is_some_and(|line| !line.contains("the rules:")) {}
    drop(lines);
    let mut typed = review.stdin.take().unwrap();
    typed.write_all(b"a\n").await.unwrap();
    assert_eq!(timeout(TIME, review.wait()).await.unwrap().unwrap().code(), Some(0));
    drop(typed);
    let waiting = sandbox.control().state().requests.iter().filter(|one| one.status == SandboxStatus::Pending).count();
    assert_eq!(waiting, 1, "an answer that nobody saw asked for is not sent");
    assert_eq!(doorman.stop().await.0, Some(0));
}

/// More of everything than a pipe takes.
const ROWS: &str = "INSERT INTO agent (id) VALUES ('a0000000-0000-4000-8000-000000000001');
    WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 4000)
    INSERT INTO request (agent, id, owner, handle, message, first_seen, via)
        SELECT 1, 'request-' || n, 'owner-' || n, 'owner-' || n, printf('%.100c', 'x'), n * 1000000, 'event' FROM k;
    WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 4000)
    INSERT INTO contact (agent, id, owner, handle, kind, added_at)
        SELECT 1, 'contact-' || n, 'owner-' || n, 'owner-' || n, 'user', n * 1000000 FROM k;
    INSERT INTO contact_owner (contact, owner, agent, at) SELECT n, owner, agent, added_at FROM contact;";

/// Nobody reads thousands of lines, so people see the newest without an option, and machines get everything.
#[tokio::test]
async fn without_an_option_people_see_the_newest_of_many_and_machines_everything() {
    let site = Site::new("url = \"http://127.0.0.1:9\"");
    let path = site.path("ledger.db");
    Ledger::open(&path, LedgerOptions::default()).unwrap().close().await.unwrap();
    Connection::open(&path).unwrap().execute_batch(ROWS).unwrap();
    for command in ["history", "contacts"] {
        let said = async |option: &str| {
            let arguments: Vec<&str> = [command].into_iter().chain(option.split_whitespace()).collect();
            let output = site.command(&arguments).output().await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let (out, err) = (text(output.stdout), text(output.stderr));
            let rows = out.lines().filter(|line| line.contains("owner-") && !line.starts_with("contacts that"));
            let owners = rows.count();
            (owners, out.contains("owner-3500 "), out.contains("owner-3501 "), err)
        };
        let (count, older, oldest, err) = said("").await;
        assert_eq!((count, older, oldest), (500, false, true), "{command}: {err}");
        assert!(err.contains("these are the newest 500: `--all` shows"), "{command}: {err}");
        for (option, count) in [("--all", 4000), ("--json", 4000), ("-n 600", 600), ("--since 1970-01-01", 4000)] {
            let (found, .., err) = said(option).await;
            assert!(found == count && !err.contains("newest"), "{command} {option}: {found}, {err}");
        }
    }
}

pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < TIME, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_full(pipe: &PipeWriter) -> bool {
    poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO).unwrap() == 0
}

#[tokio::test]
async fn no_command_keeps_the_write_ahead_log_while_its_output_waits() {
    let site = Site::new("url = \"http://127.0.0.1:9\"");
    let path = site.path("ledger.db");
    Ledger::open(&path, LedgerOptions::default()).unwrap().close().await.unwrap();
    let database = Connection::open(&path).unwrap();
    database.execute_batch(ROWS).unwrap();
    // As the daemon does, beside which commands read.
    let daemon = Ledger::open(&path, LedgerOptions::default()).unwrap();
    let agent = AgentId::parse(AGENT).unwrap();
    let write = || Record::Pause {
        agent: agent.clone(),
        on: true,
        by: PausedBy::Person("ann".into()),
        note: None,
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    daemon.commit(vec![write()]).await.unwrap();
    for arguments in [
        &["history", "--all"][..],
        &["history", "--json"],
        &["history", "--csv"],
        &["history", "-n", "3000"],
        &["contacts", "--all"],
        &["contacts", "--json"],
    ] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let full = writer.try_clone().unwrap();
        let mut child = site.command(arguments).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        until(&format!("{arguments:?} fills its pipe"), || is_full(&full)).await;
        // A reader of an earlier moment would keep the log from being emptied.
        daemon.commit(vec![write()]).await.unwrap();
        let emptied =
            || database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap() == 0;
        until(&format!("the log is emptied beside {arguments:?}"), emptied).await;
        assert!(is_full(&full) && child.try_wait().unwrap().is_none(), "{arguments:?} still waits");
        drop(full);
        let read = tokio::task::spawn_blocking(move || std::io::copy(&mut reader.by_ref(), &mut std::io::sink()));
        assert!(timeout(TIME, read).await.unwrap().unwrap().unwrap() > 1 << 16, "{arguments:?}");
        assert_eq!(timeout(TIME, child.wait()).await.unwrap().unwrap().code(), Some(0), "{arguments:?}");
    }
    daemon.close().await.unwrap();
}
