//! Handles that change or vanish, and lists that are half written, against the real binary and by the shipped recipes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use doorman::sandbox::{NewRequest, SandboxStatus};
use serde_json::Value;

use crate::doubts::FORGETS_NO_REMOVAL;
use crate::faults::checks::contacts_are_ours;
use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site};
use crate::faults::strangers::{self, ask, decided, on_record, request, waits};

/// The recipes that let somebody in by name at any hour.
const BY_NAME: [(&str, &str); 5] = [
    ("by-owner.toml", "acme"),
    ("exact-list.toml", "ann"),
    ("friends-and-their-agents.toml", "john/an-assistant"),
    ("known-organisations.toml", "globex/bot"),
    ("only-these-owners.toml", "acme-labs/bot"),
];

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes").join(name)
}

async fn let_in(site: &Site, daemon: &Daemon, id: &str) -> Result<(), String> {
    strangers::let_in(site, daemon, id).await?;
    site.until("the contact is on record", |_| contacts_are_ours(site)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn by_no_recipe_does_a_contact_without_its_handle_lose_its_removal() -> Result<(), String> {
    for (recipe_name, handle) in FORGETS_NO_REMOVAL {
        for (listed, while_down) in [(None, false), (Some("somebody-else"), false), (None, true)] {
            let case = format!("{recipe_name}, {listed:?}, {while_down}");
            let site = Site::start().await;
            std::fs::copy(recipe(recipe_name), site.path("rules.toml")).unwrap();
            let mut daemon = site.daemon();
            daemon.stands("live").await?;
            ask(&site, handle, "first");
            let_in(&site, &daemon, "first").await?;
            // A daemon that reads the contacts again finds this one without its handle, or with another one.
            site.control.rename_contact(AGENT, handle, listed).unwrap();
            daemon.stop().await?;
            if while_down {
                site.control.remove_contact(AGENT, handle).unwrap();
            }
            daemon = site.daemon();
            daemon.stands("live").await?;
            if !while_down {
                // Existing contacts are still approved if the recipe approves anybody again: a changed handle does not
                // mean a removal.
                site.until("the contact was seen", |_| daemon.lines().iter().any(|line| line["event"] == "listed"))
                    .await?;
                site.control.remove_contact(AGENT, handle).unwrap();
            }
            daemon.said("contact_removed", 1).await?;
            ask(&site, handle, "second");
            daemon.until("it is decided", |lines| decided(lines, "second").is_some()).await?;
            assert_ne!(request(&site, "second").status, SandboxStatus::Approved, "{case}:\n{}", daemon.tail(20));
            assert_ne!(decided(&daemon.lines(), "second").as_deref(), Some("approve"), "{case}");
            on_record(&site, "second", handle).await?;
            let (_, explained, _) = site.cli(&["explain", "second"]).await;
            assert!(explained.contains("removed"), "{case}: {explained}");
            daemon.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_each_recipe_a_friend_whose_handle_comes_late_is_let_in_and_who_stops_being_one_is_not() -> Result<(), String>
{
    for (recipe_name, handle) in BY_NAME {
        let site = Site::start().await;
        std::fs::copy(recipe(recipe_name), site.path("rules.toml")).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        site.control.request(&NewRequest::to(AGENT).from_null().id("late")).unwrap();
        waits(&site, &daemon, "late").await?;
        site.control.rename_request("late", Some(handle)).unwrap();
        site.until("the friend is let in", |_| request(&site, "late").status == SandboxStatus::Approved)
            .await
            .map_err(|why| format!("{recipe_name}: {why}"))?;
        // A friend's request waits, since everything is paused. When the agent is resumed, the request has another
        // sender.
        let (code, _, err) = site.cli(&["pause"]).await;
        assert_eq!(code, 0, "{err}");
        ask(&site, handle, "was");
        waits(&site, &daemon, "was").await?;
        site.control.rename_request("was", Some("mallory/bot")).unwrap();
        daemon.said("request_changed", 2).await?;
        let (code, _, err) = site.cli(&["resume"]).await;
        assert_eq!(code, 0, "{err}");
        daemon
            .until("it is decided again", |lines| {
                lines.iter().any(|line| line["event"] == "agent_resumed")
                    && lines.iter().any(|line| {
                        matches!(line["event"].as_str(), Some("decided" | "answered"))
                            && line["request"] == "was"
                            && line["handle"] == "mallory/bot"
                            && line["by"] != "paused"
                    })
            })
            .await
            .map_err(|why| format!("{recipe_name}: {why}"))?;
        assert_ne!(request(&site, "was").status, SandboxStatus::Approved, "{recipe_name}:\n{}", daemon.tail(20));
        daemon.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_word_for_a_sender_that_changed_is_asked_for_again() -> Result<(), String> {
    let site = Site::start().await;
    std::fs::copy(recipe("quarantine-and-review.toml"), site.path("rules.toml")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    ask(&site, "carol", "r-1");
    waits(&site, &daemon, "r-1").await?;
    site.control.rename_request("r-1", Some("mallory")).unwrap();
    daemon.said("request_changed", 1).await?;
    let (_, pending, _) = site.cli(&["pending"]).await;
    assert!(pending.contains("mallory") && !pending.contains("carol"), "{pending}");
    let (code, _, err) = site.cli(&["approve", "@carol"]).await;
    assert!(code == 1 && err.contains("nothing pending has the id or handle `@carol`"), "{err}");
    let (code, _, err) = site.cli(&["approve", "r-1"]).await;
    assert!(code == 1 && err.contains("was sent by @carol when it came") && err.contains("@mallory now"), "{err}");
    assert_eq!(request(&site, "r-1").status, SandboxStatus::Pending);
    let (code, out, err) = site.cli(&["approve", "r-1"]).await;
    assert!(code == 0 && out.contains("mallory"), "{out}{err}");
    assert_eq!(request(&site, "r-1").status, SandboxStatus::Approved);
    let (_, history, _) = site.cli(&["history", "--json"]).await;
    let row: Value = serde_json::from_str(history.lines().next_back().unwrap()).unwrap();
    assert_eq!((&row["handle"], &row["verdict"]), (&"mallory".into(), &"approve".into()), "{row}");
    // What would have approved carol again must not affect mallory, and vice versa.
    ask(&site, "carol", "r-2");
    waits(&site, &daemon, "r-2").await?;
    on_record(&site, "r-2", "carol").await?;
    // The same if the sender changes while no daemon runs.
    daemon.stop().await?;
    site.control.rename_request("r-2", Some("eve")).unwrap();
    let daemon = site.daemon();
    daemon.said("request_changed", 1).await?;
    let (code, _, err) = site.cli(&["approve", "r-2"]).await;
    assert!(code == 1 && err.contains("was sent by @carol when it came") && err.contains("@eve now"), "{err}");
    assert_eq!(request(&site, "r-2").status, SandboxStatus::Pending);
    let (code, out, err) = site.cli(&["approve", "r-2"]).await;
    assert!(code == 0 && out.contains("eve"), "{out}{err}");
    daemon.stop().await?;
    Ok(())
}

/// A list of foes, and a friend who is on no list.
const BLOCKED: &str = "version = 1\n[policy]\nmode = \"enforce\"\n[lists.blocked]\nfile = \"blocked.txt\"\n[rules.anybody]\nthen = \"approve\"\nwhen = \"everyone\"\ndangerously_approve_everyone = true\nlimit = { count = 9, per = \"1h\" }\n[rules.blocked]\nthen = \"reject\"\nwhen = { list = \"blocked\" }\n";

/// Writes rules with a blocklist of a hundred, whose last is this handle; returns where the list is.
fn blocklist(site: &Site, by_recipe: bool, last: &str) -> (PathBuf, String) {
    let list = match by_recipe {
        false => {
            std::fs::write(site.path("rules.toml"), BLOCKED).unwrap();
            site.path("blocked.txt")
        }
        true => {
            std::fs::create_dir(site.path("shared")).unwrap();
            std::fs::copy(recipe("shared-blocklist.toml"), site.path("rules.toml")).unwrap();
            std::fs::copy(recipe("shared/common.toml"), site.path("shared/common.toml")).unwrap();
            site.path("shared/blocked.txt")
        }
    };
    // The recipe's own tests name the first and the last.
    let foes: String = (1..99).map(|number| format!("foe-{number}\n")).collect();
    let whole = format!("mallory/offers\n{foes}{last}\n");
    std::fs::write(&list, &whole).unwrap();
    (list, whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_blocklist_lets_nobody_in_whom_the_whole_one_bars() -> Result<(), String> {
    for (by_recipe, foe) in [(false, "foe-99"), (true, "initech/scraper")] {
        let site = Site::start().await;
        let (list, whole) = blocklist(&site, by_recipe, foe);
        let mut settings = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
        settings.push_str("\n[reload]\nwatch = true\n");
        std::fs::write(site.path("doorman.toml"), settings).unwrap();
        let daemon = site.daemon();
        daemon.stands("live").await?;
        let barred = async |id: &str| {
            ask(&site, foe, id);
            daemon.until("the foe is decided", |lines| decided(lines, id).is_some()).await?;
            site.until("the foe is answered", |_| request(&site, id).status != SandboxStatus::Pending).await?;
            assert_eq!(request(&site, id).status, SandboxStatus::Rejected, "{id}:\n{}", daemon.tail(20));
            Ok::<(), String>(())
        };
        barred("before").await?;
        // Somebody writes the file in place, and stops at 60 %, within a line.
        let end = whole.len() * 6 / 10 + 1;
        let end = if whole[..end].ends_with('\n') { end + 1 } else { end };
        std::fs::write(&list, &whole[..end]).unwrap();
        barred("while-it-is-written").await?;
        daemon.said("policy_refused", 1).await?;
        let refused = daemon.lines().into_iter().find(|line| line["event"] == "policy_refused").unwrap();
        // The recipe has tests of its own, which fail, too.
        assert!(by_recipe || refused.to_string().contains("lost more than 10 %"), "{refused}");
        barred("once-it-stood-still").await?;
        let (code, _, err) = site.cli(&["reload", "--wait"]).await;
        assert!(code != 0 && (by_recipe || err.contains("lost more than 10 %")), "{code}: {err}");
        barred("after-a-reload-by-hand").await?;
        // The whole list is there again, and the log says that it counts.
        std::fs::write(&list, &whole).unwrap();
        daemon.said("policy_loaded", 2).await?;
        barred("once-it-is-whole").await?;
        // Then more is written.
        let mut file = std::fs::OpenOptions::new().append(true).open(&list).unwrap();
        file.write_all(b"newcomer\n").unwrap();
        drop(file);
        daemon.said("list_changed", 1).await?;
        let changed = daemon.lines().into_iter().find(|line| line["event"] == "list_changed").unwrap();
        assert!(changed["message"].as_str().unwrap().contains("+1 −0 entries of list blocked"), "{changed}");
        barred("in-the-end").await?;
        ask(&site, "newcomer", "late");
        site.until("it is answered", |_| request(&site, "late").status == SandboxStatus::Rejected).await?;
        daemon.stop().await?;
    }
    Ok(())
}
