//! The same with the real binary: signals, the command, and what happens to what is pending.

use std::process::Output;

use doorman::sandbox::{NewRequest, SandboxStatus};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::faults::site::{AGENT, Site};

async fn doorman(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.args(arguments).arg("--config").arg(site.path("doorman.toml")).current_dir(site.dir.path());
    command.env_clear().output().await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn rules(owner: &str, more: &str) -> String {
    format!("version = 1\n[rules.{owner}]\nthen = \"approve\"\nwhen = {{ owner = \"{owner}\" }}\n{more}\n")
}

fn approved(site: &Site, id: &str) -> bool {
    site.control.state().requests.iter().any(|request| request.id == id && request.status == SandboxStatus::Approved)
}

fn ask(site: &Site, id: &str, from: &str) {
    site.control.request(&NewRequest { push: Some(true), ..NewRequest::to(AGENT) }.from(from).id(id)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_waits_and_reports_and_what_is_pending_is_decided_again() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), rules("ann", "")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r1", "bob");
    let decided = |lines: &[Value]| lines.iter().any(|line| line["event"] == "decided" && line["request"] == "r1");
    daemon.until("bob waits", decided).await.unwrap();

    std::fs::write(site.path("rules.toml"), rules("bob", "wrong")).unwrap();
    let output = doorman(&site, &["reload", "--wait"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("stays in force"), "{}", said(&output));
    assert!(!approved(&site, "r1"), "refused rules let nobody in");
    daemon.said("policy_refused", 1).await.unwrap();

    std::fs::write(site.path("rules.toml"), rules("bob", "")).unwrap();
    let output = doorman(&site, &["reload", "--wait", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let reloaded: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&reloaded["ok"], &reloaded["policies"][0]["problem"]), (&Value::Bool(true), &Value::Null));
    assert!(reloaded["problems"].as_str().is_some_and(|said| said.contains("has no test")), "warnings are reported");
    site.until("bob comes in", |_| approved(&site, "r1")).await.unwrap();
    daemon.stop().await.unwrap();
}

/// When the rules change, pending requests are decided again in the order in which they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_is_decided_first_and_the_rate_holds() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), rules("nobody", "")).unwrap();
    let text = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), text.replace("per_second = 0", "per_second = 20\nin_flight = 1"))
        .unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for n in 0..12 {
        ask(&site, &format!("r{n:02}"), &format!("ann/a{n}"));
        let decided = |lines: &[Value]| lines.iter().filter(|line| line["event"] == "decided").count() > n;
        daemon.until("it waits", decided).await.unwrap();
    }
    std::fs::write(site.path("rules.toml"), rules("ann", "")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.said("answered", 12).await.unwrap();
    let lines = daemon.stop().await.unwrap();
    let order: Vec<&str> = lines
        .iter()
        .filter(|line| line["event"] == "answering")
        .map(|line| line["request"].as_str().unwrap())
        .collect();
    assert!(order.is_sorted(), "oldest first: {order:?}");
    assert_eq!(order.len(), 12);
}

/// Rules are removed while a `wait` runs: no rule that was removed approves anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_under_the_rules_of_that_moment() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), rules("ann", "wait = \"1h\"")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r1", "ann");
    ask(&site, "r2", "bob");
    let waits = |lines: &[Value]| lines.iter().filter(|line| line["event"] == "decided").count() == 2;
    daemon.until("both are decided", waits).await.unwrap();
    assert!(!approved(&site, "r1"));
    // Another wait, already over for nobody; then the rule is gone for one and new for the other.
    std::fs::write(site.path("rules.toml"), rules("bob", "")).unwrap();
    daemon.signal(Signal::SIGHUP);
    site.until("bob comes in", |_| approved(&site, "r2")).await.unwrap();
    assert!(!approved(&site, "r1"), "her rule is gone");
    // Then back again, without the wait.
    std::fs::write(site.path("rules.toml"), rules("ann", "")).unwrap();
    daemon.signal(Signal::SIGHUP);
    site.until("ann comes in", |_| approved(&site, "r1")).await.unwrap();
    daemon.stop().await.unwrap();
}

/// In the middle of a burst, each answer is that of the rules in force at its moment, and everybody gets one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_burst_nobody_is_forgotten_or_answered_twice() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for turn in 0..4 {
        site.ask(&format!("{turn}"), 40, true);
        let text = std::fs::read_to_string(site.path("rules.toml")).unwrap();
        let text = if turn % 2 == 0 { format!("{text}\n# turn {turn}\n") } else { format!("{text}\nbroken") };
        std::fs::write(site.path("rules.toml"), &text).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.said("reloaded", turn + 1).await.unwrap();
        std::fs::write(site.path("rules.toml"), text.trim_end_matches("broken")).unwrap();
    }
    let done = |control: &doorman::sandbox::Control| {
        let left = control.state().requests.into_iter().filter(|request| request.status == SandboxStatus::Pending);
        left.into_iter().all(|request| request.id.contains("strangers"))
    };
    site.until("everybody has an answer", done).await.unwrap();
    daemon.stop().await.unwrap();
    for request in site.control.state().requests {
        let wanted = if request.id.contains("friends") { SandboxStatus::Approved } else { SandboxStatus::Rejected };
        if !request.id.contains("strangers") {
            assert_eq!((request.answers.len(), request.status), (1, wanted), "{}", request.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_shrank_needs_a_word_and_watching_needs_none() {
    let site = Site::start().await;
    let listed = "version = 1\n[lists.friends]\nfile = \"list.txt\"\n[rules.in]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n";
    std::fs::write(site.path("rules.toml"), listed).unwrap();
    std::fs::write(site.path("list.txt"), "ann\nbob\ncid\n").unwrap();
    let text = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), format!("{text}\n[reload]\nwatch = true\n")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r1", "dan");
    daemon.said("decided", 1).await.unwrap();
    std::fs::write(site.path("list.txt"), "dan\n").unwrap();
    daemon.said("policy_refused", 1).await.unwrap();
    assert!(!approved(&site, "r1"));
    let output = doorman(&site, &["reload", "--wait", "--accept-shrunk"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    site.until("dan comes in", |_| approved(&site, "r1")).await.unwrap();
    ask(&site, "r2", "eve");
    std::fs::write(site.path("list.txt"), "dan\neve\n").unwrap();
    site.until("eve comes in by watching alone", |_| approved(&site, "r2")).await.unwrap();
    daemon.stop().await.unwrap();
}

/// If a program rewrites a list without a change, the policy is a new one, but pending requests get no new record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_changes_only_the_hash_decides_nothing_again_for_the_record() {
    let site = Site::start().await;
    let text = "version = 1\n[lists.friends]\nfile = \"friends.txt\"\n[rules.friends]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n";
    std::fs::write(site.path("rules.toml"), text).unwrap();
    std::fs::write(site.path("friends.txt"), "ann\nbob\n").unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r1", "zoe");
    daemon.said("decided", 1).await.unwrap();
    for n in 0..3 {
        std::fs::write(site.path("friends.txt"), format!("ann\nbob\nsomebody-{n}\n")).unwrap();
        let output = doorman(&site, &["reload", "--wait"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    // After all that, one more request is decided, under the policy in force now.
    std::fs::write(site.path("friends.txt"), "ann\nbob\nkim\n").unwrap();
    doorman(&site, &["reload", "--wait"]).await;
    ask(&site, "r2", "kim");
    site.until("kim comes in", |_| approved(&site, "r2")).await.unwrap();
    let lines = daemon.stop().await.unwrap();
    let of = |id: &str| lines.iter().filter(|line| line["event"] == "decided" && line["request"] == id).count();
    assert_eq!((of("r1"), of("r2")), (1, 1), "one line a decision that says something new");
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM decision"), 2);
    // The first policy, which decided zoe, and the one that let kim in: the others are gone.
    assert_eq!(count("SELECT count(*) FROM policy_use"), 2);
    assert_eq!(
        count("SELECT count(*) FROM answer w JOIN policy p ON p.n = w.policy JOIN policy_part USING (policy)"),
        2
    );
}
