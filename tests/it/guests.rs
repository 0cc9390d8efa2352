//! Contacts with an end, with the real daemon: they are removed at their end, also across restarts; no other contacts
//! are.

use doorman::agent::Notice;
use doorman::clock::Clock;
use doorman::sandbox::{NewRequest, SandboxStatus};
use jiff::SignedDuration;
use serde_json::Value;
use tokio::time::timeout;

use crate::faults::checks::contacts_are_ours;
use crate::faults::daemon::{Notices, here};
use crate::faults::site::{AGENT, Site, TIME};

const RULES: &str = r#"version = 1
[policy]
mode = "enforce"
[rules.guests]
then = "approve"
when = { handle = "guests/*" }
for = "1m"
[rules.friends]
then = "approve"
when = { handle = "friends/*" }
"#;

fn ask(site: &Site, handle: &str, id: &str) {
    site.control.request(&NewRequest::to(AGENT).from(handle).id(id)).unwrap();
}

/// The handles of the agent's contacts.
fn contacts(site: &Site) -> Vec<String> {
    let contacts = site.control.state().contacts.into_iter().filter(|contact| contact.of == AGENT);
    let mut handles: Vec<String> = contacts.map(|contact| contact.handle.unwrap_or_default()).collect();
    handles.sort();
    handles
}

async fn heard(notices: &mut Notices, so: impl Fn(&Notice) -> bool) {
    let wait = async { while !so(&notices.recv().await.unwrap().1) {} };
    timeout(TIME, wait).await.expect("it was never reported");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_outlives_the_daemon_and_reaches_nobody_else() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let clock = Clock::start();
    let (daemon, _notices) = here(&site.path("doorman.toml"), clock.clone()).await;
    for (handle, id) in [("guests/a", "a"), ("guests/b", "b"), ("friends/c", "c")] {
        ask(&site, handle, id);
    }
    site.until("all are in", |_| contacts(&site).len() == 3 && contacts_are_ours(&site)).await.unwrap();
    daemon.stop().await;
    // Somebody removes a guest's contact, and makes a new contact for the same guest.
    site.control.remove_contact(AGENT, "guests/b").unwrap();
    ask(&site, "guests/b", "again");
    site.control.settle("again", SandboxStatus::Approved).unwrap();
    // So little that the clock still counts as sound.
    clock.set_skew(SignedDuration::from_secs(70));

    let (daemon, mut notices) = here(&site.path("doorman.toml"), clock).await;
    heard(&mut notices, |notice| matches!(notice, Notice::GuestExpired { .. })).await;
    site.until("the guest is out", |_| contacts(&site).len() == 2).await.unwrap();
    assert_eq!(contacts(&site), ["friends/c", "guests/b"]);
    // Whatever else was due has happened by the end of one more round.
    ask(&site, "friends/d", "d");
    site.until("the next is in", |_| contacts(&site).len() == 3).await.unwrap();
    daemon.stop().await;
    assert_eq!(contacts(&site), ["friends/c", "friends/d", "guests/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_a_person_is_removed_and_the_record_says_so() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol", "r-1");
    daemon.until("carol waits", |lines| lines.iter().any(|line| line["request"] == "r-1")).await?;
    let (code, out, err) = site.cli(&["approve", "@carol", "--for", "1s"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("approved @carol (r-1); the contact ends at "), "{out}");
    site.until("the contact is on record", |_| contacts(&site).is_empty() || contacts_are_ours(&site)).await?;
    daemon.kill().await;

    let daemon = site.daemon();
    site.until("carol is out", |_| contacts(&site).is_empty()).await?;
    let removed = async {
        loop {
            let (_, out, _) = site.cli(&["history", "--json"]).await;
            let row: Value = out.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            if row["removed"]["by"] == "expired" {
                return row;
            }
        }
    };
    let row = timeout(TIME, removed).await.expect("history never says that the end had come");
    assert!(row["ends_at"].is_string() && row["end_in_doubt"].is_null(), "{row}");
    let (_, out, _) = site.cli(&["history"]).await;
    assert!(out.contains("[removed: expired]") && out.contains("  removed  "), "{out}");
    let (_, out, _) = site.cli(&["history", "--csv"]).await;
    let (mut lines, time) = (out.lines(), |value: &Value| value.as_str().unwrap().to_owned());
    assert!(lines.next().unwrap().ends_with(",ends_at,removed_by,contact_removed_at"), "{out}");
    let ended = format!(",{},expired,{}", time(&row["ends_at"]), time(&row["contact_removed_at"]));
    assert!(lines.next().unwrap().ends_with(&ended), "{out}");
    let (_, out, _) = site.cli(&["explain", "@carol"]).await;
    assert!(out.contains("removed: expired"), "{out}");
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_ends_and_what_shadow_holds_back() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    for (handle, id) in [("carol", "r-1"), ("dave", "r-2")] {
        ask(&site, handle, id);
        daemon.until("they wait", |lines| lines.iter().any(|line| line["request"] == id)).await?;
    }
    let (code, _, err) = site.cli(&["approve", "@carol", "--for", "7d"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = site.cli(&["approve", "@dave", "--for", "0s"]).await;
    assert_eq!(code, 2, "{err}");
    let (code, out, err) = site.cli(&["approve", "@dave"]).await;
    assert_eq!((code, out.as_str()), (0, "approved @dave (r-2)\n"), "{err}");
    site.until("both are on record", |_| contacts(&site).len() == 2 && contacts_are_ours(&site)).await?;
    let (_, out, _) = site.cli(&["contacts"]).await;
    let row = |handle: &str| out.lines().find(|line| line.contains(handle)).unwrap_or_default().to_owned();
    assert!(out.contains("ENDS") && row("carol").ends_with("in 6d") && row("dave").ends_with('-'), "{out}");
    let (_, out, _) = site.cli(&["explain", "@carol"]).await;
    assert!(out.contains("let in for a time: the contact ends at"), "{out}");
    // A second approval sets the end again, counted from now; without `--for`, the guest's contact has no end.
    let (code, out, err) = site.cli(&["approve", "@carol", "--for", "30d"]).await;
    assert!(code == 0 && out.starts_with("@carol (r-1) was let in before: the contact now ends at "), "{out}{err}");
    let (_, out, _) = site.cli(&["contacts"]).await;
    assert!(out.lines().any(|line| line.contains("carol") && line.ends_with("in 29d")), "{out}");
    for (command, expected) in
        [(&["explain", "@carol"][..], " moved the end of the contact to "), (&["history"], ", moved by ")]
    {
        let (_, out, _) = site.cli(command).await;
        assert!(out.contains(expected), "{out}");
    }
    let (code, _, err) = site.cli(&["approve", "@dave", "--for", "1h"]).await;
    assert!(code == 1 && err.contains("@dave is a contact without an end"), "whoever was let in for good: {err}");
    let (code, _, err) = site.cli(&["approve", "@dave"]).await;
    assert!(code == 1 && err.contains("`@dave` is already approved by"), "{err}");
    let (code, _, err) = site.cli(&["approve", "r-1"]).await;
    assert!(code == 1 && err.contains("already"), "whoever saw it pending lifts no end that another gave: {err}");
    assert!(err.contains("`doorman approve @carol --for TIME` moves"), "and the error says how: {err}");
    let (code, out, err) = site.cli(&["approve", "@carol", "--for", "7d", "--json"]).await;
    assert!(code == 0 && out.contains("\"end-moved\""), "{out}{err}");
    daemon.stop().await?;

    // According to the ledger the end has come; the next daemon runs in shadow.
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    ledger.execute("UPDATE guest SET ends_at = ends_at - 700000000000", []).unwrap();
    drop(ledger);
    let daemon = site.daemon_with(&["--shadow"]);
    daemon.stands("live").await?;
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("1 let in for a time, 1 of them longer"), "{out}");
    assert!(out.contains("in shadow nothing is removed"), "{out}");
    let (_, out, _) = site.cli(&["contacts"]).await;
    assert!(out.lines().any(|line| line.contains("carol") && line.ends_with("overdue")), "{out}");
    daemon.stop().await?;
    assert_eq!(contacts(&site).len(), 2);
    let daemon = site.daemon();
    site.until("carol is out", |_| contacts(&site) == ["dave"]).await?;
    ask(&site, "erin", "r-3");
    daemon.until("she waits", |lines| lines.iter().any(|line| line["request"] == "r-3")).await?;
    let (code, _, err) = site.cli(&["approve", "@erin", "--for", "7d"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = site.cli(&["approve", "@erin"]).await;
    assert!(code == 0 && out.contains("@erin (r-3) was let in before, and stays"), "{out}{err}");
    let (_, out, _) = site.cli(&["explain", "@erin"]).await;
    assert!(!out.contains("let in for a time") && out.contains(" lifted the end of the contact, at "), "{out}");
    // Who is out again is not called approved.
    let (code, out, err) = site.cli(&["revoke", "@erin", "--dry-run"]).await;
    assert!(code == 0 && out.contains("erin") && err.contains("nothing was removed"), "{out}{err}");
    assert_eq!(contacts(&site), ["dave", "erin"]);
    let (code, _, err) = site.cli(&["revoke", "@erin", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    for target in ["@erin", "r-3"] {
        let (code, _, err) = site.cli(&["approve", target]).await;
        assert!(code == 1 && err.contains(" was approved by ") && err.contains("the contact was removed "), "{err}");
    }
    let (code, _, err) = site.cli(&["approve", "@carol", "--for", "1h"]).await;
    assert!(code == 1 && err.contains("since its end had come"), "{err}");
    daemon.stop().await?;
    Ok(())
}
