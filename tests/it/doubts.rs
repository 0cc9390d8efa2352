//! Requests that end while no daemon runs, and requests that return changed, tested with the real binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use doorman::sandbox::{SandboxOptions, SandboxStatus};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::faults::site::{AGENT, Site};
use crate::faults::strangers::{ask, decided, let_in, on_record, request, waits};

/// Approves carol and her agents, unless a request of hers was rejected recently.
const RULES: &str = "version = 1\n[policy]\nmode = \"enforce\"\n[rules.known]\nthen = \"approve\"\nwhen = { owner = \"carol\" }\nunless = [{ history = { rejected_within = \"30d\" } }]\n";
/// Answers nobody yet.
const CLOSED: &str = "version = 1\n[policy]\nmode = \"enforce\"\n";

/// Carol's request waits, the daemon ends by this signal, and she is rejected while it is down.
async fn rejected_while_down(ending: Signal) -> Result<Site, String> {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), CLOSED).unwrap();
    let mut daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol/bot", "first");
    waits(&site, &daemon, "first").await?;
    // A request that was never recorded causes no doubt.
    site.until("it is on record", |_| {
        let seen = "SELECT count(*) FROM decision";
        let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
        ledger.query_row(seen, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count > 0)
    })
    .await?;
    daemon.signal(ending);
    daemon.ended().await;
    site.control.settle("first", SandboxStatus::Rejected).unwrap();
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    Ok(site)
}

async fn doubts(site: &Site) -> Vec<(String, String)> {
    let (code, out, err) = site.cli(&["doubts", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["basis"].as_str().unwrap().to_owned(), row["subject"].as_str().unwrap().to_owned())
    };
    out.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_have_been_rejected_while_doorman_was_down_waits_until_a_person_says() -> Result<(), String> {
    for (ending, said, lets_in) in [(Signal::SIGTERM, "cancelled", true), (Signal::SIGKILL, "rejected", false)] {
        let site = rejected_while_down(ending).await?;
        ask(&site, "carol", "second");
        let daemon = site.daemon();
        waits(&site, &daemon, "second").await?;
        daemon.said("in_doubt", 1).await?;
        let vanished = [("request-vanished".to_owned(), "first".to_owned())];
        daemon
            .until("it is known to have ended", |lines| {
                lines.iter().any(|line| line["event"] == "listed" || line["event"] == "in_doubt")
            })
            .await?;
        assert_eq!(doubts(&site).await, vanished);
        let (_, pending, _) = site.cli(&["pending"]).await;
        assert!(pending.contains("in doubt"), "{pending}");
        on_record(&site, "second", "carol").await?;
        let (_, explained, _) = site.cli(&["explain", "second"]).await;
        assert!(explained.contains("first") && explained.contains("nobody said how it ended"), "{explained}");
        let (_, status, _) = site.cli(&["status"]).await;
        assert!(status.contains("1 in doubt"), "{status}");
        daemon.stop().await?;
        // The next daemon learns it from the ledger.
        let daemon = site.daemon();
        daemon.said("in_doubt", 1).await?;
        assert_eq!(doubts(&site).await, vanished);
        let (code, _, err) = site.cli(&["settle", "first", said]).await;
        assert_eq!(code, 0, "{err}");
        assert_eq!(doubts(&site).await, []);
        site.until("the person's word is on record", |_| {
            let words = "SELECT count(*) FROM settlement";
            let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
            ledger.query_row(words, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count > 0)
        })
        .await?;
        for id in ["first", "second"] {
            let (_, explained, _) = site.cli(&["explain", id]).await;
            assert!(explained.contains("settled the doubt about request first at"), "{explained}");
        }
        if lets_in {
            site.until("she comes in", |_| request(&site, "second").status == SandboxStatus::Approved).await?;
            daemon.stop().await?;
            continue;
        }
        daemon.stop().await?;
        let daemon = site.daemon();
        daemon.stands("live").await?;
        ask(&site, "carol", "third");
        waits(&site, &daemon, "third").await?;
        assert_eq!((doubts(&site).await, request(&site, "second").status), (vec![], SandboxStatus::Pending));
        daemon.stop().await?;
    }
    Ok(())
}

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes")
}

/// The recipes that have this condition.
fn that_have(condition: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(recipes()).unwrap().map(|entry| entry.unwrap().path());
    let asking = files.filter(|path| path.is_file() && std::fs::read_to_string(path).unwrap().contains(condition));
    asking.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The recipes that ask whether somebody was rejected, how many rejections each needs, and whether it then rejects.
const FORGETS_NO_NO: [(&str, usize, bool); 3] = [
    ("known-organisations.toml", 3, true),
    ("one-chance-a-month.toml", 1, true),
    ("quarantine-and-review.toml", 1, false),
];

#[tokio::test(flavor = "multi_thread")]
async fn by_each_recipe_a_no_that_is_said_elsewhere_is_a_no() -> Result<(), String> {
    assert_eq!(that_have("rejected_"), FORGETS_NO_NO.map(|(recipe, ..)| recipe.to_owned()).into());
    for (recipe, noes, rejects) in FORGETS_NO_NO {
        let site = Site::start().await;
        std::fs::copy(recipes().join(recipe), site.path("rules.toml")).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        // All three approve mallory's agents from then on.
        ask(&site, "mallory", "known");
        let_in(&site, &daemon, "known").await?;
        daemon.said("contact_added", 1).await?;
        let (code, _, err) = site.cli(&["pause"]).await;
        assert_eq!(code, 0, "{err}");
        for number in 1..=noes {
            let id = format!("no-{number}");
            ask(&site, &format!("mallory/bot-{number}"), &id);
            waits(&site, &daemon, &id).await?;
            site.control.settle(&id, SandboxStatus::Rejected).unwrap();
            daemon.said("settled", number).await?;
        }
        let (code, _, err) = site.cli(&["resume"]).await;
        assert_eq!(code, 0, "{err}");
        ask(&site, "mallory/last", "last");
        if rejects {
            daemon.until("it is decided", |lines| decided(lines, "last").is_some()).await?;
            site.until("it is answered", |_| request(&site, "last").status != SandboxStatus::Pending).await?;
            assert_eq!(request(&site, "last").status, SandboxStatus::Rejected, "{recipe}:\n{}", daemon.tail(20));
        } else {
            waits(&site, &daemon, "last").await.map_err(|why| format!("{recipe}: {why}"))?;
        }
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_that_is_said_elsewhere_is_a_no() -> Result<(), String> {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), CLOSED).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol/bot", "first");
    waits(&site, &daemon, "first").await?;
    site.control.settle("first", SandboxStatus::Rejected).unwrap();
    daemon.said("settled", 1).await?;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let (code, _, err) = site.cli(&["reload", "--wait"]).await;
    assert_eq!(code, 0, "{err}");
    ask(&site, "carol", "second");
    waits(&site, &daemon, "second").await?;
    assert_eq!(doubts(&site).await, [], "that is known");
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_used_again_is_another_request() -> Result<(), String> {
    let mut site = Site::start().await;
    std::fs::write(site.path("rules.toml"), CLOSED).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol", "r-1");
    waits(&site, &daemon, "r-1").await?;
    site.control.settle("r-1", SandboxStatus::Cancelled).unwrap();
    daemon.said("settled", 1).await?;
    daemon.stop().await?;
    site.stop_platform().await;
    // Another platform takes its place, which knows nothing of the past.
    let other = Site::of(SandboxOptions::default()).await;
    ask(&other, "mallory", "r-1");
    std::fs::copy(site.path("ledger.db"), other.path("ledger.db")).unwrap();
    std::fs::write(other.path("rules.toml"), RULES).unwrap();
    let daemon = other.daemon();
    waits(&other, &daemon, "r-1").await?;
    on_record(&other, "r-1", "mallory").await?;
    let (_, explained, _) = other.cli(&["explain", "r-1"]).await;
    assert!(explained.contains("request r-1 by mallory"), "{explained}");
    daemon.stop().await?;
    let (_, history, _) = other.cli(&["history", "--json"]).await;
    let handles: Vec<String> = history
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["handle"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(handles, ["carol", "mallory"]);
    Ok(())
}

/// The recipes that ask for how long no contact of somebody was removed, and whom each approves.
pub const FORGETS_NO_REMOVAL: [(&str, &str); 5] = [
    ("friends-and-their-agents.toml", "ann"),
    ("one-chance-a-month.toml", "mallory"),
    ("guests.toml", "mallory"),
    ("public-agent.toml", "mallory"),
    ("quarantine-and-review.toml", "mallory"),
];

#[tokio::test(flavor = "multi_thread")]
async fn by_no_recipe_does_who_was_removed_while_doorman_was_down_come_in_again() -> Result<(), String> {
    assert_eq!(that_have("removed_within"), FORGETS_NO_REMOVAL.map(|(recipe, _)| recipe.to_owned()).into());
    for (recipe, handle) in FORGETS_NO_REMOVAL {
        let mut site = Site::start().await;
        std::fs::copy(recipes().join(recipe), site.path("rules.toml")).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        ask(&site, handle, "first");
        let_in(&site, &daemon, "first").await.map_err(|why| format!("{recipe}: {why}"))?;
        daemon.said("contact_added", 1).await?;
        daemon.stop().await?;
        site.control.remove_contact(AGENT, handle).unwrap();
        ask(&site, handle, "second");
        let daemon = site.daemon();
        daemon.said("contact_removed", 1).await?;
        daemon.until("it is decided", |lines| decided(lines, "second").is_some()).await?;
        let status = request(&site, "second").status;
        assert_ne!(status, SandboxStatus::Approved, "{recipe}:\n{}", daemon.tail(20));
        daemon.stop().await?;
        site.crash_platform().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_settled_by_the_beginning_of_its_id_if_that_is_one() -> Result<(), String> {
    let (carols, daves) = ("c0ffee00-aaaa-4000-8000-000000000001", "c0ffee00-bbbb-4000-8000-000000000002");
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), CLOSED).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    for (from, id) in [("carol/bot", carols), ("dave/bot", daves)] {
        ask(&site, from, id);
        waits(&site, &daemon, id).await?;
        on_record(&site, id, from).await?;
    }
    daemon.stop().await?;
    for id in [carols, daves] {
        site.control.settle(id, SandboxStatus::Rejected).unwrap();
    }
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let daemon = site.daemon();
    daemon.until("they are in doubt", |lines| lines.iter().any(|line| line["event"] == "listed")).await?;
    let open = async || {
        let (_, out, _) = site.cli(&["doubts", "--json"]).await;
        [carols, daves].map(|id| out.contains(id))
    };
    assert_eq!(open().await, [true, true]);
    for (beginning, why) in
        [("c0ffee00", "several doubts rest on ids that begin with `c0ffee00`"), ("c0ffe", "no such doubt")]
    {
        let (code, _, err) = site.cli(&["settle", beginning, "rejected"]).await;
        assert!(code == 1 && err.contains(why), "{beginning}: {err}");
    }
    assert_eq!(open().await, [true, true]);
    let (code, out, err) = site.cli(&["settle", "c0ffee00-b", "rejected"]).await;
    assert!(code == 0 && out.contains(daves) && !out.contains(carols), "{out}{err}");
    assert_eq!(open().await, [true, false]);
    daemon.stop().await?;
    Ok(())
}
