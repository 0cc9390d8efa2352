//! A handle that now belongs to somebody else, as far as payloads show that, tested with the real binary: requests that
//! depend on the handle wait for a person.

use std::path::Path;

use doorman::sandbox::{NewRequest, SandboxStatus};
use serde_json::Value;

use crate::faults::site::{AGENT, Site};
use crate::faults::strangers::{let_in, on_record, request, waits};

/// Whom each of these recipes approves because of their handle, or because they were approved before.
const RECIPES: [(&str, &str); 7] = [
    ("by-owner.toml", "acme"),
    ("exact-list.toml", "ann"),
    ("friends-and-their-agents.toml", "ann/bot"),
    ("known-organisations.toml", "acme/bot"),
    ("one-chance-a-month.toml", "mallory"),
    ("only-these-owners.toml", "acme/bot"),
    ("quarantine-and-review.toml", "mallory"),
];

/// A request by a sender with these ids.
fn ask(site: &Site, handle: &str, id: &str, sender: Option<&str>, owner: Option<&str>) {
    site.control.request(&NewRequest::to(AGENT).from(handle).id(id).ids(sender, owner)).unwrap();
}

async fn doubts(site: &Site) -> Vec<[String; 4]> {
    let (code, out, err) = site.cli(&["doubts", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        ["owner", "fact", "basis", "subject"].map(|key| row[key].as_str().unwrap().to_owned())
    };
    out.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_no_recipe_does_the_next_holder_of_a_name_inherit_its_rights() -> Result<(), String> {
    for (recipe, handle) in RECIPES {
        let site = Site::start().await;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes").join(recipe);
        std::fs::copy(path, site.path("rules.toml")).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        let owner = handle.split('/').next().unwrap();
        let whose = |id| if handle.contains('/') { (None, Some(id)) } else { (Some(id), None) };
        let (sender, of) = whose("the-first");
        ask(&site, handle, "first", sender, of);
        let_in(&site, &daemon, "first").await?;
        let (sender, of) = whose("another");
        ask(&site, handle, "second", sender, of);
        waits(&site, &daemon, "second").await.map_err(|why| format!("{recipe}: {why}"))?;
        let doubt = [owner, "identity", "other-sender", "second"].map(str::to_owned);
        assert_eq!(doubts(&site).await, [doubt], "{recipe}");
        on_record(&site, "second", handle).await?;
        let (_, explained, _) = site.cli(&["explain", "second"]).await;
        assert!(explained.contains("another id for that name"), "{recipe}: {explained}");
        let (code, _, err) = site.cli(&["settle", owner, "same"]).await;
        assert_eq!(code, 0, "{recipe}: {err}");
        site.until("they are let in", |_| request(&site, "second").status == SandboxStatus::Approved).await?;
        assert_eq!(doubts(&site).await, Vec::<[String; 4]>::new());
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_knows_who_had_a_name_and_a_person_ends_the_doubt() -> Result<(), String> {
    let site = Site::start().await;
    let rules =
        "version = 1\n[policy]\nmode = \"enforce\"\n[rules.known]\nthen = \"approve\"\nwhen = { owner = \"carol\" }\n";
    std::fs::write(site.path("rules.toml"), rules).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol", "first", Some("c1"), None);
    let_in(&site, &daemon, "first").await?;
    daemon.stop().await?;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    // Another agent of hers, and one whose payload does not say who owns it.
    ask(&site, "carol/bot", "second", Some("b1"), Some("c1"));
    ask(&site, "carol/silent", "third", None, None);
    let_in(&site, &daemon, "second").await?;
    let_in(&site, &daemon, "third").await?;
    ask(&site, "carol/bot", "fourth", Some("b2"), Some("m1"));
    waits(&site, &daemon, "fourth").await?;
    daemon.said("name_in_doubt", 1).await?;
    daemon.stop().await?;
    // The next daemon still knows it, also for other senders with that name.
    let daemon = site.daemon();
    daemon.stands("live").await?;
    let doubt = ["carol", "identity", "other-sender", "fourth"].map(str::to_owned);
    assert_eq!(doubts(&site).await, [doubt]);
    ask(&site, "carol/silent", "fifth", None, None);
    waits(&site, &daemon, "fifth").await?;
    let (_, pending, _) = site.cli(&["pending"]).await;
    assert!(pending.contains("in doubt"), "{pending}");
    let (_, page, _) = site.cli(&["doubts"]).await;
    assert!(page.contains("by `settle HANDLE same`"), "{page}");
    let (code, _, err) = site.cli(&["approve", "fourth"]).await;
    assert_eq!(code, 0, "{err}");
    site.until("the other waits no more", |_| request(&site, "fifth").status == SandboxStatus::Approved).await?;
    daemon.stop().await?;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    assert_eq!(doubts(&site).await, Vec::<[String; 4]>::new());
    ask(&site, "carol", "sixth", Some("m1"), None);
    site.until("she is known by that id now", |_| request(&site, "sixth").status == SandboxStatus::Approved).await?;
    daemon.stop().await?;
    Ok(())
}
