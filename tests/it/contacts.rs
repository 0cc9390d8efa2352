//! Contacts that change while nobody looks, against the real binary: what was not watched is in doubt, and lets nobody in.

use std::path::Path;

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{NewRequest, Status};
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

/// A person lets mallory in by the recipe for that, and the daemon ends by this signal. She is a contact then, on record.
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

/// The last word about this request, once the daemon has noticed that the contact is gone.
async fn stays_out(site: &Site, daemon: &Daemon, id: &str) -> Result<(), String> {
    let let_in = |lines: &[Value]| decisions(lines, id).iter().any(|(verdict, _)| *verdict == "approve");
    let noticed = |lines: &[Value]| lines.iter().any(|line| line["event"] == "contact_removed");
    daemon.until("a last word", |lines| let_in(lines) || (noticed(lines) && !decisions(lines, id).is_empty())).await?;
    assert!(!let_in(&daemon.lines()), "{id} is let in: {:?}\n{}", decisions(&daemon.lines(), id), daemon.tail(20));
    assert_eq!(request(site, id).status, Status::Pending);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_doorman_was_down_is_not_let_in_again() -> Result<(), String> {
    for ending in [Signal::SIGTERM, Signal::SIGKILL] {
        let site = Site::start().await;
        mallory_was_let_in(&site, ending).await?;
        site.control.remove_contact(AGENT, "mallory").unwrap();
        // She waits already when doorman starts; and asks once more when it has looked.
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
    site.until("she comes in", |_| request(&site, "second").status == Status::Approved).await?;
    daemon.stop().await?;
    Ok(())
}
