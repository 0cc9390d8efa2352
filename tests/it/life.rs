//! The shipped binary as a daemon: signals, reports to systemd, successful and failed starts, and commands while it
//! runs.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, SandboxStatus};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::faults::site::{AGENT, Site, TIME};
use crate::terminal::Terminal;

/// Rules that reject everybody.
const OTHER_RULES: &str =
    "version = 1\n[policy]\nmode = \"enforce\"\n[rules.nobody]\nthen = \"reject\"\nwhen = \"everyone\"\n";

fn request(site: &Site, id: &str) -> RequestState {
    site.control.state().requests.into_iter().find(|request| request.id == id).unwrap()
}

fn ask(site: &Site, handle: &str, id: &str) {
    site.control.request(&NewRequest::to(AGENT).from(handle).id(id)).unwrap();
}

async fn status(site: &Site) -> Value {
    let (code, out, err) = site.cli(&["status", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

fn events<'a>(lines: &'a [Value], event: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["event"] == event)
}

async fn drains(signal: Signal) -> Result<(), String> {
    let site = Site::start().await;
    site.configure(site.address, "", "drain = \"20s\"\njoin_timeout = \"20s\"");
    site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(300).count(0)).unwrap();
    site.ask("a", 200, true);
    let mut daemon = site.daemon();
    daemon.said("answered", 1).await?;
    daemon.signal(signal);
    assert_eq!(daemon.ends().await, Some(0), "{}", daemon.tail(20));
    daemon.said("stopped", 1).await?;
    let lines = daemon.lines();
    let state = site.control.state();
    let went_out = events(&lines, "answering").count();
    let (settled, left): (Vec<_>, Vec<_>) =
        state.requests.iter().partition(|request| request.status != SandboxStatus::Pending);
    assert_eq!(settled.len(), went_out, "what was on its way is finished");
    assert_eq!(events(&lines, "answered").filter(|line| line["outcome"] == "approved").count(), went_out);
    assert!(left.iter().all(|request| request.answered == 0) && left.len() > 100, "the rest stays pending");
    let drained = events(&lines, "drained").next().ok_or("it never said that it drained")?;
    assert_eq!(drained["agents"], 0, "nothing had to be cut off: {drained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_on_its_way_and_leaves_the_rest() -> Result<(), String> {
    drains(Signal::SIGTERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_does_too() -> Result<(), String> {
    drains(Signal::SIGINT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_bounded_and_a_second_signal_ends_it_at_once() -> Result<(), String> {
    for (drain, signals) in [("1s", 1), ("10m", 2)] {
        let site = Site::start().await;
        site.configure(site.address, "", &format!("drain = \"{drain}\"\njoin_timeout = \"10m\""));
        site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Stall).count(0)).unwrap();
        ask(&site, "friends/a", "a");
        let mut daemon = site.daemon();
        daemon.said("answering", 1).await?;
        daemon.signal(Signal::SIGTERM);
        daemon.said("draining", 1).await?;
        if signals == 2 {
            daemon.signal(Signal::SIGTERM);
        }
        assert_eq!(daemon.ends().await, Some(0), "{}", daemon.tail(20));
        site.control.clear_faults();
        let daemon = site.daemon();
        site.until("it is answered by the next", |_| request(&site, "a").status == SandboxStatus::Approved).await?;
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_what_is_good_and_keeps_what_was_if_it_is_bad() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    let before = status(&site).await["policies"][0]["hash"].clone();
    std::fs::write(site.path("rules.toml"), "then = nonsense\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon
        .until("a reload that was refused", |lines| events(lines, "reloaded").any(|line| line["ok"] == false))
        .await?;
    let policy = status(&site).await["policies"][0].clone();
    assert_eq!(policy["hash"], before, "the last good one stays");
    assert!(policy["problem"].is_string(), "the problem is in the status: {policy}");
    ask(&site, "friends/a", "a");
    site.until("decided by the last good one", |_| request(&site, "a").status == SandboxStatus::Approved).await?;
    let (code, _, err) = site.cli(&["reload", "--wait"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("nonsense") && err.contains("stays"), "{err}");
    std::fs::write(site.path("rules.toml"), OTHER_RULES).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.until("a reload that was taken", |lines| events(lines, "reloaded").any(|line| line["ok"] == true)).await?;
    let policy = status(&site).await["policies"][0].clone();
    assert!(policy["hash"] != before && policy["problem"].is_null(), "{policy}");
    ask(&site, "friends/b", "b");
    site.until("decided by the new one", |_| request(&site, "b").status == SandboxStatus::Rejected).await?;
    let (code, out, err) = site.cli(&["reload", "--wait"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is in force"), "{out}");
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_its_whole_life() -> Result<(), String> {
    let mut site = Site::start().await;
    // A platform that is away is a state, and not a failed start.
    site.stop_platform().await;
    let name = site.path("notify");
    let socket = UnixDatagram::bind(&name).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
    let hear = async |what: &'static str| {
        let mut buffer = [0; 4096];
        loop {
            let length = timeout(TIME, socket.recv(&mut buffer)).await.map_err(|_| format!("never heard: {what}"));
            let text = String::from_utf8(buffer[..length?.unwrap()].to_vec()).unwrap();
            if text.starts_with(what) {
                return Ok::<_, String>(text);
            }
        }
    };
    let name = name.display().to_string();
    let daemon = site.daemon_with_env(&[], &[("NOTIFY_SOCKET", &name), ("WATCHDOG_USEC", "200000")]);
    assert_eq!(hear("READY=1").await?, "READY=1\n");
    daemon.said("started", 1).await?;
    hear("WATCHDOG=1").await?;
    hear("STATUS=").await?;
    for rules in [OTHER_RULES, "nonsense"] {
        std::fs::write(site.path("rules.toml"), rules).unwrap();
        daemon.signal(Signal::SIGHUP);
        let reloading = hear("RELOADING=1").await?;
        let since = reloading.trim_end().split_once("\nMONOTONIC_USEC=").ok_or(reloading.clone())?.1;
        assert!(since.parse::<u64>().unwrap() > 0, "{reloading}");
        hear("READY=1").await?;
    }
    // A stopped process sends no reports; systemd would end it.
    daemon.signal(Signal::SIGSTOP);
    let mut buffer = [0; 4096];
    let quiet = Duration::from_millis(700);
    while socket.try_recv(&mut buffer).is_ok() {}
    let last = timeout(quiet, socket.recv(&mut buffer)).await;
    assert!(last.is_err(), "a stopped daemon said that all is well");
    daemon.signal(Signal::SIGCONT);
    hear("WATCHDOG=1").await?;
    daemon.signal(Signal::SIGTERM);
    hear("STOPPING=1").await?;
    let mut daemon = daemon;
    assert_eq!(daemon.ends().await, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_ends_at_the_start_with_a_code_that_says_so() {
    let site = Site::start().await;
    let good = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    let ends = async |arguments: &[&str], code: i32, said: &str| {
        let (ended, _, err) = site.cli(arguments).await;
        assert!(err.contains(said), "no `{said}` in\n{err}");
        assert_eq!(ended, code, "{err}");
    };
    ends(&["run", "--sideways"], 2, "--sideways").await;
    std::fs::write(site.path("rules.toml"), "nonsense").unwrap();
    ends(&["run"], 78, "doorman check").await;
    std::fs::write(site.path("rules.toml"), OTHER_RULES).unwrap();
    std::fs::write(site.path("doorman.toml"), good.replace("in_flight", "inn_flight").replace("[answers]", "[answer]"))
        .unwrap();
    ends(&["run"], 78, "did you mean `answers`").await;
    std::fs::write(site.path("doorman.toml"), &good).unwrap();
    std::fs::write(site.path("ledger.db"), "this is no database, whatever it is called").unwrap();
    ends(&["run"], 74, "ledger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_is_a_state_and_is_read_again() -> Result<(), String> {
    let site = Site::start().await;
    ask(&site, "friends/a", "a");
    std::fs::write(site.path("agent.key"), "somebody-elses-key").unwrap();
    let daemon = site.daemon();
    daemon.stands("refused").await?;
    daemon
        .until("the key's source", |lines| {
            events(lines, "key_refused")
                .any(|line| line["source"].as_str().is_some_and(|text| text.contains("agent.key")))
        })
        .await?;
    std::fs::remove_file(site.path("agent.key")).unwrap();
    let (code, _, err) = site.cli(&["reload", "--wait"]).await;
    assert_eq!((code, daemon.state().as_str()), (0, "refused"), "{err}");
    assert_eq!(request(&site, "a").status, SandboxStatus::Pending);
    std::fs::write(site.path("agent.key"), crate::faults::site::KEY).unwrap();
    daemon.stands("live").await?;
    site.until("it is answered", |_| request(&site, "a").status == SandboxStatus::Approved).await?;
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_say_is_done_and_recorded_as_theirs() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    let mode = |name: &str| std::fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("doorman.sock"), mode("ledger.db")), (0o600, 0o600));
    for (handle, id) in [("ann", "r-ann"), ("bob", "r-bob"), ("twin", "r-one"), ("twin", "r-two"), ("cy", "r-cy")] {
        ask(&site, handle, id);
    }
    daemon.said("decided", 5).await?;
    let (code, out, _) = site.cli(&["pending"]).await;
    assert!(code == 0 && ["r-ann", "r-two", "bob", "deferred"].iter().all(|part| out.contains(part)), "{out}");
    let cli = async |arguments: &[&str], code: i32, said: &str| {
        let (ended, out, err) = site.cli(arguments).await;
        assert!(out.contains(said) || err.contains(said), "no `{said}` in\n{out}{err}");
        assert_eq!(ended, code, "{arguments:?}: {out}{err}");
    };
    cli(&["approve", "r-ann"], 0, "approved").await;
    cli(&["reject", "@bob"], 0, "rejected").await;
    cli(&["approve", "@bob"], 1, "is already rejected by").await;
    cli(&["approve", "@nobody"], 1, "nothing pending").await;
    cli(&["approve", "twin"], 1, "names 2 pending requests").await;
    assert_eq!((request(&site, "r-one").answered, request(&site, "r-two").answered), (0, 0));
    cli(&["defer", "r-cy"], 0, "on hold").await;
    // A hold belongs to a person: no rule answers the request any more.
    std::fs::write(site.path("rules.toml"), OTHER_RULES).unwrap();
    cli(&["pause"], 0, "paused").await;
    cli(&["reload", "--wait"], 0, "is in force").await;
    ask(&site, "dan", "r-dan");
    daemon.until("it is seen", |lines| events(lines, "request_seen").any(|line| line["request"] == "r-dan")).await?;
    assert_eq!(status(&site).await["agents"][0]["paused"], true);
    assert_eq!(request(&site, "r-dan").answered, 0, "paused");
    cli(&["resume"], 0, "resumed").await;
    for id in ["r-dan", "r-one", "r-two"] {
        site.until(id, |_| request(&site, id).status == SandboxStatus::Rejected).await?;
    }
    assert_eq!(request(&site, "r-cy").status, SandboxStatus::Pending, "held");
    daemon.said("person_answered", 3).await?;
    let answered = events(&daemon.lines(), "person_answered").count();
    assert_eq!(answered, 3, "{}", daemon.tail(40));
    let person = |line: &Value| line["by"].as_str().is_some_and(|by| by.starts_with("person:"));
    assert!(events(&daemon.lines(), "person_answered").all(person));
    daemon.stop().await?;
    let (code, out, err) = site.cli(&["history", "--json", "--ledger", "ledger.db"]).await;
    assert!(code != 0, "no such file where it is run: {out}{err}");
    let ledger = site.path("ledger.db").display().to_string();
    let (_, out, _) = site.cli(&["history", "--json", "--ledger", &ledger]).await;
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (id, outcome) in [("r-ann", "approved"), ("r-bob", "rejected")] {
        let row = rows.iter().find(|row| row["request"] == id).ok_or(id)?;
        assert!(person(row) && row["answer"]["outcome"] == outcome, "{row}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_follows_the_living_daemon() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    let ledger = site.path("ledger.db").display().to_string();
    let mut follower = site.command(&["history", "--json", "-f", "--ledger", &ledger]).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for id in ["a", "b", "c"] {
        ask(&site, "friends/x", id);
        let shown = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["request"] == id && line["answer"]["outcome"] == "approved" {
                    return true;
                }
            }
            false
        };
        assert!(timeout(TIME, shown).await.map_err(|_| format!("`{id}` was never shown"))?, "it ended");
    }
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_is_asked_for_again_and_only_a_terminal_is_cleared() -> Result<(), String> {
    const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    let watch = |command: &str| {
        let mut child = site.command(&[command, "--watch"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let until = async |lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>, text: &str| {
        let shown = async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before: {text}"));
                assert!(!line.contains('\u{1b}'), "{line}");
                if line.contains(text) {
                    return;
                }
            }
        };
        timeout(TIME, shown).await.unwrap_or_else(|_| panic!("never shown: {text}"));
    };
    let ((_pending, mut pending), (_status, mut status)) = (watch("pending"), watch("status"));
    until(&mut pending, "nobody is waiting").await;
    until(&mut status, " live ").await;
    let (directory, config) = (site.dir.path().to_owned(), site.path("doorman.toml"));
    let drawing = tokio::task::spawn_blocking(move || {
        let variables = [("DOORMAN_CONFIG", config.as_path())];
        let mut terminal = Terminal::start(&directory, &["pending", "--watch"], &variables);
        terminal.until(CLEAR);
        terminal.until("nobody is waiting");
        terminal
    });
    let mut terminal = timeout(TIME, drawing).await.unwrap().unwrap();
    ask(&site, "carol", "c");
    until(&mut pending, "carol").await;
    // The next page is drawn over the one before.
    let drawing = tokio::task::spawn_blocking(move || {
        terminal.until(CLEAR);
        terminal.until("carol");
    });
    timeout(TIME, drawing).await.unwrap().unwrap();
    let (code, _, err) = site.cli(&["reject", "@carol"]).await;
    assert_eq!(code, 0, "{err}");
    until(&mut pending, "nobody is waiting").await;
    let (code, _, err) = site.cli(&["pause"]).await;
    assert_eq!(code, 0, "{err}");
    until(&mut status, "paused").await;
    daemon.stop().await?;
    Ok(())
}
