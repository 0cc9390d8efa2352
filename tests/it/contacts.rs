//! Contacts that change while no daemon runs, tested with the real binary: what was not observed is in doubt, and
//! approves nobody.

use std::path::Path;

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{NewRequest, SandboxStatus};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::faults::checks::contacts_are_ours;
use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site};

fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn request(site: &Site, id: &str) -> RequestState {
    site.control.state().requests.into_iter().find(|request| request.id == id).unwrap()
}

fn ask(site: &Site, handle: &str, id: &str) {
    site.control.request(&NewRequest::to(AGENT).from(handle).id(id)).unwrap();
}

fn decisions<'a>(lines: &'a [Value], request: &str) -> Vec<(&'a str, &'a str)> {
    let decided = lines.iter().filter(|line| line["event"] == "decided" && line["request"] == request);
    decided.map(|line| (line["verdict"].as_str().unwrap_or("?"), line["by"].as_str().unwrap_or("?"))).collect()
}

/// A person approves mallory as the recipe intends, and the daemon ends by this signal. She is then a recorded contact.
async fn mallory_was_let_in(site: &Site, ending: Signal) -> Result<(), String> {
    std::fs::write(site.path("rules.toml"), recipe("quarantine-and-review.toml")).unwrap();
    let mut daemon = site.daemon();
    daemon.stands("live").await?;
    ask(site, "mallory", "first");
    daemon.until("mallory waits for a person", |lines| !decisions(lines, "first").is_empty()).await?;
    let (code, _, err) = site.cli(&["approve", "first"]).await;
    assert_eq!(code, 0, "{err}");
    site.until("the contact is on record", |_| contacts_are_ours(site)).await?;
    daemon.signal(ending);
    daemon.ended().await;
    Ok(())
}

/// The last verdict on this request, once the daemon has noticed that the contact was removed.
async fn stays_out(site: &Site, daemon: &Daemon, id: &str) -> Result<(), String> {
    let let_in = |lines: &[Value]| decisions(lines, id).iter().any(|(verdict, _)| *verdict == "approve");
    let noticed = |lines: &[Value]| lines.iter().any(|line| line["event"] == "contact_removed");
    daemon.until("a last word", |lines| let_in(lines) || (noticed(lines) && !decisions(lines, id).is_empty())).await?;
    assert!(!let_in(&daemon.lines()), "{id} is let in: {:?}\n{}", decisions(&daemon.lines(), id), daemon.tail(20));
    assert_eq!(request(site, id).status, SandboxStatus::Pending);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_doorman_was_down_is_not_let_in_again() -> Result<(), String> {
    for ending in [Signal::SIGTERM, Signal::SIGKILL] {
        let site = Site::start().await;
        mallory_was_let_in(&site, ending).await?;
        site.control.remove_contact(AGENT, "mallory").unwrap();
        // She waits already when doorman starts, and sends another request after doorman has listed.
        ask(&site, "mallory", "second");
        let daemon = site.daemon();
        stays_out(&site, &daemon, "second").await?;
        ask(&site, "mallory", "third");
        daemon.until("the third is decided", |lines| !decisions(lines, "third").is_empty()).await?;
        stays_out(&site, &daemon, "third").await?;
        let (code, out, err) = site.cli(&["explain", "third"]).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("removed"), "{out}");
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_still_a_contact_is_let_in_again_once_that_was_seen() -> Result<(), String> {
    let site = Site::start().await;
    mallory_was_let_in(&site, Signal::SIGTERM).await?;
    ask(&site, "mallory/bot", "second");
    let daemon = site.daemon();
    site.until("she comes in", |_| request(&site, "second").status == SandboxStatus::Approved).await?;
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_doorman_was_down_brings_in_none_of_their_agents() -> Result<(), String> {
    for removed in [true, false] {
        let site = Site::start().await;
        std::fs::write(site.path("rules.toml"), recipe("known-organisations.toml")).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        ask(&site, "mallory", "first");
        daemon.until("mallory waits for a person", |lines| !decisions(lines, "first").is_empty()).await?;
        let (code, _, err) = site.cli(&["approve", "first"]).await;
        assert_eq!(code, 0, "{err}");
        site.until("the contact is on record", |_| contacts_are_ours(&site)).await?;
        daemon.stop().await?;
        if removed {
            site.control.remove_contact(AGENT, "mallory").unwrap();
        }
        ask(&site, "mallory/bot", "second");
        let daemon = site.daemon();
        if removed {
            stays_out(&site, &daemon, "second").await?;
        } else {
            site.until("it comes in", |_| request(&site, "second").status == SandboxStatus::Approved).await?;
        }
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_is_listed_and_a_person_settles_it() -> Result<(), String> {
    let mut site = Site::start().await;
    mallory_was_let_in(&site, Signal::SIGTERM).await?;
    // Without the platform nobody knows whether she is still a contact.
    site.stop_platform().await;
    let daemon = site.daemon();
    daemon.said("started", 1).await?;
    daemon.stands("away").await?;
    let (code, out, err) = site.cli(&["doubts", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let doubt: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(
        (&doubt["owner"], &doubt["fact"], &doubt["basis"]),
        (&"mallory".into(), &"removed".into(), &"contact-not-seen".into())
    );
    let (_, out, _) = site.cli(&["doubts"]).await;
    assert!(out.contains("mallory") && out.contains("when the contacts are read"), "{out}");
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("1 in doubt"), "{out}");

    let (code, _, err) = site.cli(&["settle", "@stranger", "removed"]).await;
    assert_eq!(code, 1, "{err}");
    let (code, out, err) = site.cli(&["settle", "@mallory", "not-removed"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("mallory is no longer in doubt"), "{out}");
    let (_, out, _) = site.cli(&["doubts"]).await;
    assert!(out.starts_with("nothing"), "{out}");
    daemon.stop().await?;
    let said = "SELECT said FROM settlement WHERE owner = 'mallory'";
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    let said: String = ledger.query_row(said, [], |row| row.get(0)).unwrap();
    assert_eq!(said, "not-removed");
    Ok(())
}
