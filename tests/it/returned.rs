//! Settled requests that the platform lists again, and answers that may have been carried out, tested with the real
//! binary: only a person may give a different answer, and rules repeat the same answer only if the rules in force
//! decide it, too.

use std::path::Path;

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, SandboxOptions, SandboxStatus};
use serde_json::Value;

use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site};
use crate::faults::strangers::{ask, decided, let_in, request};

/// Whom each of these recipes approves, and a policy that rejects everybody.
const RECIPES: [(&str, &str); 5] = [
    ("by-owner.toml", "acme"),
    ("exact-list.toml", "ann"),
    ("known-organisations.toml", "acme/bot"),
    ("only-these-owners.toml", "acme/bot"),
    ("quarantine-and-review.toml", "mallory"),
];
const REJECTS: &str = "version = 1\n[policy]\nmode = \"enforce\"\n[rules.no]\nthen = \"reject\"\nwhen = \"everyone\"\n";
const SENT: &str = "2026-03-02T10:00:00Z";

/// The platform as it may be after a restore from a backup: this request is pending, and nobody of this handle is a contact.
async fn restored(before: &Site, handle: &str, sent: &str) -> Site {
    let site = Site::of(SandboxOptions::default()).await;
    let asked = NewRequest { inserted_at: Some(sent.to_owned()), ..NewRequest::to(AGENT).from(handle).id("r-1") };
    site.control.request(&asked).unwrap();
    std::fs::copy(before.path("ledger.db"), site.path("ledger.db")).unwrap();
    // A starting daemon remembers the last answers and ignores listings of these requests for a minute. So this answer
    // must be older than the remembered ones.
    let later = "WITH RECURSIVE k(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM k WHERE k < 5000)
        INSERT INTO request (agent, id, owner, handle, first_seen, via, settled, settled_at)
        SELECT 1, 'later-' || k, 'later', 'later', 0, 'event', 'approved', 0 FROM k;
        INSERT INTO answer (agent, request, answer, \"by\", at, attempts, reserved_at, last_at, outcome, outcome_at)
        SELECT 1, n, 'reject', 'no', 0, 1, 0, 0, 'rejected', 0 FROM request WHERE id GLOB 'later-*';";
    rusqlite::Connection::open(site.path("ledger.db")).unwrap().execute_batch(later).unwrap();
    site
}

/// Waits until the request is left to a person, because it was answered before. The rules may have decided first; the
/// ledger then corrects that.
async fn kept_for_a_person(site: &Site, daemon: &Daemon) -> Result<(), String> {
    let kept = |line: &Value| line["event"] == "decided" && line["by"] == "guard:answered-before";
    daemon.until("it waits for a person", |lines| lines.iter().any(kept)).await?;
    assert_eq!(decided(&daemon.lines(), "r-1").as_deref(), Some("defer"), "{}", daemon.tail(20));
    assert_eq!(request(site, "r-1").status, SandboxStatus::Pending);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_no_recipe_does_a_settled_request_that_is_listed_again_come_in_past_todays_rules() -> Result<(), String> {
    for (recipe, handle) in RECIPES {
        let mut before = Site::start().await;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes").join(recipe);
        std::fs::copy(&path, before.path("rules.toml")).unwrap();
        let daemon = before.daemon();
        daemon.stands("live").await?;
        let asked = NewRequest { inserted_at: Some(SENT.to_owned()), ..NewRequest::to(AGENT).from(handle).id("r-1") };
        before.control.request(&asked).unwrap();
        let_in(&before, &daemon, "r-1").await?;
        daemon.said("answered", 1).await?;
        daemon.stop().await?;
        before.stop_platform().await;
        // The same request, under rules that now decide differently.
        let site = restored(&before, handle, SENT).await;
        std::fs::write(site.path("rules.toml"), REJECTS).unwrap();
        let daemon = site.daemon();
        kept_for_a_person(&site, &daemon).await.map_err(|why| format!("{recipe}: {why}"))?;
        let (_, pending, _) = site.cli(&["pending"]).await;
        assert!(pending.contains("answered-before"), "{recipe}: {pending}");
        // Only a person may give a different answer.
        let (code, _, err) = site.cli(&["reject", "r-1"]).await;
        assert_eq!(code, 0, "{recipe}: {err}");
        assert_eq!(request(&site, "r-1").status, SandboxStatus::Rejected, "{recipe}");
        daemon.stop().await?;
        // Another sender under this id, or the same sender at another time, is another request, which the rules in
        // force decide.
        for (other, sent) in [("eve", SENT), (handle, "2026-03-02T11:00:00Z")] {
            let site = restored(&before, other, sent).await;
            std::fs::write(site.path("rules.toml"), REJECTS).unwrap();
            let daemon = site.daemon();
            site.until("the rules of today answer it", |_| request(&site, "r-1").status == SandboxStatus::Rejected)
                .await?;
            daemon.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_have_been_carried_out_binds_the_rules_that_come_after_a_crash() -> Result<(), String> {
    let site = Site::start().await;
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes");
    std::fs::copy(recipes.join("by-owner.toml"), site.path("rules.toml")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await?;
    // The platform reports a failure, but nobody can know whether that is true.
    site.control.faults(vec![Fault::new(FaultPlace::Respond, FaultAction::Status).code(503); 1_000]).unwrap();
    ask(&site, "acme", "r-1");
    site.until("its fate is unknown, and that is on record", |_| {
        let open = "SELECT count(*) FROM answer WHERE outcome = 'unknown' AND answer = 'approve'";
        let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
        ledger.query_row(open, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 1)
    })
    .await?;
    daemon.kill().await;
    assert_eq!(
        request(&site, "r-1").status,
        SandboxStatus::Pending,
        "it was carried out after all: this test proves nothing"
    );
    std::fs::write(site.path("rules.toml"), REJECTS).unwrap();
    site.control.clear_faults();
    let daemon = site.daemon();
    kept_for_a_person(&site, &daemon).await?;
    let (code, _, err) = site.cli(&["reject", "r-1"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(request(&site, "r-1").status, SandboxStatus::Rejected);
    daemon.stop().await?;
    Ok(())
}
