//! What people do: answer several requests at once, review, edit lists, look at contacts, audit and revoke; with the
//! real binary against a daemon and a sandbox.

use std::process::Stdio;

use doorman::sandbox::{NewRequest, SandboxStatus};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::faults::site::{AGENT, Site, TIME};

const RULES: &str = r#"version = 1
[policy]
mode = "enforce"
no_match = "defer"
[lists.friends]
file = "friends.txt"
[lists.blocked]
file = "blocked.txt"
allow_empty = true
[rules.friends]
then = "approve"
when = { list = "friends" }
[rules.acme]
then = "approve"
when = { handle = "acme/*" }
[rules.blocked]
then = "reject"
when = { list = "blocked" }
"#;

async fn site() -> Site {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    std::fs::write(site.path("friends.txt"), "# Friends.\nann  # since ever\n").unwrap();
    std::fs::write(site.path("blocked.txt"), "").unwrap();
    site
}

fn ask(site: &Site, id: &str, from: &str) {
    site.control.request(&NewRequest::to(AGENT).from(from).id(id).saying("hello")).unwrap();
}

/// Waits until the daemon has decided this many requests, and answered this many.
async fn settled(site: &Site, decided: usize, answered: usize) {
    let so = |_: &doorman::sandbox::Control| {
        crate::faults::checks::on_record(site) >= decided
            && site.control.state().requests.iter().filter(|request| request.status != SandboxStatus::Pending).count()
                >= answered
    };
    site.until("all is decided", so).await.unwrap();
}

/// An event of the channel brings contacts into the ledger: waits for this many.
async fn contacts(site: &Site, count: usize, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["contacts", "--json"], arguments].concat();
    for _ in 0..400 {
        let (code, out, err) = site.cli(&arguments).await;
        assert_eq!(code, 0, "{err}");
        let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if rows.len() == count {
            return rows;
        }
        tokio::task::yield_now().await;
    }
    panic!("never {count} contacts by {arguments:?}");
}

fn handles(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["handle"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_are_answered_at_once_and_each_that_is_not_is_said() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for (id, from) in
        [("r-1", "bob"), ("r-2", "carol"), ("r-3", "dave"), ("r-4", "ünïcode"), ("r-5", "erin"), ("r-6", "erin")]
    {
        ask(&site, id, from);
    }
    settled(&site, 6, 0).await;
    let (code, out, err) = site.cli(&["approve", "@bob", "r-2", "@nobody"]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("approved @bob (r-1)\napproved @carol (r-2)\n"), "{out}");
    assert!(err.contains("@nobody: nothing pending has the id or handle `@nobody`"), "{err}");

    let (code, _, err) = site.cli(&["reject", "@bob"]).await;
    assert!(code == 1 && err.contains("`@bob` is already approved by "), "{err}");
    assert!(err.contains(" s ago"), "{err}");
    let (code, _, err) = site.cli(&["approve", "ünïcode"]).await;
    assert!(code == 1 && err.contains("is not a plain handle") && err.contains("`r-4`"), "{err}");
    let (code, _, err) = site.cli(&["approve", "@erin"]).await;
    assert!(code == 1 && err.contains("names 2 pending requests"), "{err}");
    assert!(err.contains("\n  r-5  erin, ") && err.contains("says “hello”"), "{err}");

    let (code, _, err) = site.cli(&["reject", "--all", "--by", "no_match"]).await;
    assert!(code == 2 && err.contains("`--yes`"), "nobody can be asked: {err}");
    let (code, _, err) = site.cli(&["reject", "--all", "--by", "friends", "--yes"]).await;
    assert!(code == 1 && err.contains("no pending request was decided by `friends`"), "{err}");
    let (code, out, err) = site.cli(&["reject", "--all", "--by", "no_match", "--yes", "-q"]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let left: Vec<_> =
        site.control.state().requests.into_iter().filter(|one| one.status == SandboxStatus::Pending).collect();
    assert_eq!(left.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["r-4"], "a guard is not no_match");
    let (code, out, err) = site.cli(&["hold", "r-4"]).await;
    assert!(code == 0 && out.contains("(r-4) is on hold"), "{out}{err}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_is_called_like_anothers_id_is_not_taken_for_them() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    let carols = "cafe1234-0000-4000-8000-000000000001";
    ask(&site, carols, "carol");
    ask(&site, "r-2", "cafe1234");
    settled(&site, 2, 0).await;
    for command in ["approve", "reject", "hold"] {
        let (code, out, err) = site.cli(&[command, "cafe1234"]).await;
        assert!(code == 1 && err.contains("`cafe1234` names 2 pending requests"), "{out}{err}");
        assert!(err.contains("by its id, or by `@` and the handle"), "{err}");
    }
    let (code, out, err) = site.cli(&["explain", "cafe1234"]).await;
    assert!(
        code == 1 && err.contains("`cafe1234` is a handle, and the id of another's request begins so"),
        "{out}{err}"
    );
    assert!(site.control.state().requests.iter().all(|request| request.answered == 0));
    let (code, out, err) = site.cli(&["approve", "cafe1234-00"]).await;
    assert_eq!((code, out.as_str()), (0, format!("approved @carol ({carols})\n").as_str()), "{err}");
    let (code, out, err) = site.cli(&["reject", "@cafe1234"]).await;
    assert_eq!((code, out.as_str()), (0, "rejected @cafe1234 (r-2)\n"), "{err}");
    // A complete id means that request, even if somebody's handle looks like it.
    ask(&site, "r-3", "dave");
    ask(&site, "r-4", "r-3");
    settled(&site, 4, 2).await;
    let (code, out, err) = site.cli(&["approve", "r-3"]).await;
    assert_eq!((code, out.as_str()), (0, "approved @dave (r-3)\n"), "{err}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_answers_one_after_the_other() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for (id, from) in [("r-1", "bob"), ("r-2", "carol"), ("r-3", "dave")] {
        ask(&site, id, from);
        settled(&site, id[2..].parse().unwrap(), 0).await;
    }
    let mut review = site.command(&["review"]).stdin(Stdio::piped()).spawn().unwrap();
    // The first is approved by mistake, taken back, and rejected; the second is held; the third is skipped.
    review.stdin.take().unwrap().write_all(b"a\nu\nr\nh\ns\n").await.unwrap();
    let output = review.wait_with_output().await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "1 of 3  bob",
        "says: hello",
        "the rules: defer, by no_match",
        "rejected @bob (r-1)",
        "@carol (r-2) is on hold",
    ] {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
    let state = site.control.state().requests;
    assert_eq!(
        state.iter().map(|one| one.status).collect::<Vec<_>>(),
        [SandboxStatus::Rejected, SandboxStatus::Pending, SandboxStatus::Pending]
    );
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_edited_with_its_comments_and_is_in_force_at_once() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r-1", "carol");
    settled(&site, 1, 0).await;
    let (code, out, err) = site.cli(&["approve", "@carol", "--remember", "friends"]).await;
    assert_eq!(
        (code, out.as_str()),
        (0, "approved @carol (r-1)\nnow on the list `friends`: `carol`; in force\n"),
        "{err}"
    );
    assert_eq!(std::fs::read_to_string(site.path("friends.txt")).unwrap(), "# Friends.\nann  # since ever\ncarol\n");
    let (code, out, _) = site.cli(&["list", "add", "friends", "@dave", "ann"]).await;
    assert_eq!(
        (code, out.as_str()),
        (0, "already on the list `friends`: `ann`\nnow on the list `friends`: `dave`; in force\n")
    );
    ask(&site, "r-2", "dave");
    settled(&site, 2, 2).await;
    assert_eq!(
        site.control.state().requests[1].status,
        SandboxStatus::Approved,
        "by the list, with no watch and no reload"
    );

    assert_eq!(site.cli(&["list", "show", "friends"]).await.1, "ann\ncarol\ndave\n");
    let (_, lists, _) = site.cli(&["list", "show"]).await;
    assert!(lists.contains("friends  3") && lists.contains("blocked"), "{lists}");
    assert_eq!(site.cli(&["list", "show", "friends", "@dave"]).await.0, 0);
    assert_eq!(site.cli(&["list", "show", "friends", "@zoe"]).await.0, 1);
    let (code, _, err) = site.cli(&["list", "add", "freinds", "zoe"]).await;
    assert!(code == 1 && err.contains("there are `blocked`, `friends`"), "{err}");
    let (code, _, err) = site.cli(&["list", "add", "friends", "two words"]).await;
    assert!(code == 2 && err.contains("cannot stand on a list"), "{err}");

    // By a path that the daemon does not know, but which means the same file.
    std::os::unix::fs::symlink(site.dir.path(), site.path("alias")).unwrap();
    let mut command = site.command(&["list", "remove", "friends", "ann", "carol"]);
    let output = command.env("DOORMAN_CONFIG", "alias/doorman.toml").current_dir(site.dir.path()).output();
    let output = tokio::time::timeout(TIME, output).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(out, "now off the list `friends`: `ann`, `carol`; in force\n", "{err}");
    // An empty list is refused, unless the rules allow it: nothing is written.
    let before = std::fs::read_to_string(site.path("friends.txt")).unwrap();
    let (code, _, err) = site.cli(&["list", "remove", "friends", "dave"]).await;
    assert!(code == 78 && err.contains("nothing was written") && err.contains("the list `friends` is empty"), "{err}");
    assert_eq!(std::fs::read_to_string(site.path("friends.txt")).unwrap(), before);
    daemon.stop().await.unwrap();
    let (code, out, err) = site.cli(&["list", "add", "blocked", "mallory"]).await;
    assert!(code == 0 && out.contains("no daemon is running"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_say_by_whose_word_and_revoke_shows_first_whom_it_would_remove() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for (id, from) in [("r-1", "ann"), ("r-2", "acme/1-bot"), ("r-3", "acme/2-bot"), ("r-4", "carol"), ("r-5", "erin")]
    {
        ask(&site, id, from);
    }
    settled(&site, 5, 3).await;
    assert_eq!(site.cli(&["approve", "@carol"]).await.0, 0);
    site.control.settle("r-5", SandboxStatus::Approved).unwrap();
    let rows = contacts(&site, 5, &[]).await;
    let of = |handle: &str| rows.iter().find(|row| row["handle"] == handle).unwrap().clone();
    assert_eq!((of("ann")["by"].as_str(), of("ann")["request"].as_str()), (Some("friends"), Some("r-1")));
    assert!(of("carol")["by"].as_str().unwrap().starts_with("person:"));
    assert_eq!((&of("erin")["by"], &of("erin")["by_doorman"]), (&Value::Null, &Value::Bool(false)));
    assert_eq!(of("acme/1-bot")["kind"], "agent");
    assert_eq!(handles(&contacts(&site, 1, &["--not-by-doorman"]).await), ["erin"]);
    assert_eq!(handles(&contacts(&site, 1, &["--rule", "friends"]).await), ["ann"]);
    contacts(&site, 2, &["--matching", "acme/*"]).await;
    let (_, out, _) = site.cli(&["contacts"]).await;
    assert!(out.contains("not by doorman") && out.contains("friends"), "{out}");

    // Other rules: acme is rejected, and only ann is approved.
    std::fs::write(
        site.path("new.toml"),
        RULES.replace("[rules.acme]\nthen = \"approve\"", "[rules.acme]\nthen = \"reject\""),
    )
    .unwrap();
    let (code, out, err) = site.cli(&["audit"]).await;
    assert!(
        code == 1 && out.ends_with("5 contacts: 3 approved, 0 rejected, 2 not approved, 0 cannot be evaluated\n"),
        "{out}{err}"
    );
    let (code, out, _) = site.cli(&["audit", "--rules", site.path("new.toml").to_str().unwrap()]).await;
    assert!(
        code == 1 && out.ends_with("5 contacts: 1 approved, 2 rejected, 2 not approved, 0 cannot be evaluated\n"),
        "{out}"
    );
    assert!(out.contains("rejected by `acme`") && out.contains("not approved: no rule lets them in"), "{out}");

    // Nothing is removed without confirmation.
    let (code, out, _) = site.cli(&["revoke", "--since", "1h", "--dry-run"]).await;
    assert!(code == 0 && out.contains("ann") && !out.contains("carol") && !out.contains("erin"), "{out}");
    let (code, out, err) = site.cli(&["revoke", "--since", "1h"]).await;
    assert!(code == 2 && out.contains("ann") && err.contains("`--yes`"), "it asks first: {out}{err}");
    contacts(&site, 5, &[]).await;
    // By the id of the request behind it, as `contacts` shows it; for a name without a contact a message says so.
    let (code, out, err) = site.cli(&["revoke", "r-4", "@zoe", "--dry-run"]).await;
    assert!(
        code == 0 && out.contains("carol") && !out.contains("ann") && err.contains("not a contact: `@zoe`"),
        "{out}{err}"
    );
    let (code, out, err) = site.cli(&["revoke", "@r-4", "--dry-run"]).await;
    assert!(
        code == 1 && out.is_empty() && err.contains("not a contact: `@r-4`"),
        "what begins with @ is no id: {out}{err}"
    );
    let (code, out, err) = site.cli(&["revoke", "acme/*"]).await;
    assert!(code == 2 && out.contains("acme/1-bot") && err.contains("`--yes`"), "{out}{err}");
    contacts(&site, 5, &[]).await;
    // Only contacts that a reject rule certainly matches; not those that no rule approves.
    let new = site.path("new.toml");
    let (code, out, err) = site.cli(&["revoke", "--audit", "--rules", new.to_str().unwrap(), "--yes"]).await;
    assert!(code == 0 && ["1", "2"].iter().all(|n| out.contains(&format!("removed acme/{n}-bot\n"))), "{out}{err}");
    let mut left = contacts(&site, 3, &[]).await;
    left.sort_by_key(|row| row["handle"].to_string());
    assert_eq!(handles(&left), ["ann", "carol", "erin"]);
    let (code, _, err) = site.cli(&["revoke", "--audit", "--not-approved", "--yes"]).await;
    assert!(
        code == 1
            && err.contains("left alone: 1 that a person approved")
            && err.contains("left alone: 1 not by doorman"),
        "{err}"
    );
    // A contact that a person approved is removed if it is named; one that doorman did not approve only with --any.
    assert_eq!(site.cli(&["revoke", "@erin", "--yes"]).await.0, 1);
    let (code, out, err) = site.cli(&["revoke", "@carol", "@erin", "--any", "--yes", "--json"]).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(out.trim()).unwrap()["removed"].as_array().unwrap().len()),
        (0, 2),
        "{err}"
    );
    assert_eq!(handles(&contacts(&site, 1, &[]).await), ["ann"]);
    let (code, _, err) = site.cli(&["revoke", "--list", "friends", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    contacts(&site, 0, &[]).await;
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_informs_cron_by_its_exit_code() {
    let site = site().await;
    let (code, out, _) = site.cli(&["status", "--exit-code", "-q"]).await;
    assert_eq!((code, out.as_str()), (2, ""), "no daemon");
    // Somebody has a socket there, and gives no answer.
    let silent = tokio::net::UnixListener::bind(site.path("silent.sock")).unwrap();
    let hangs_up = tokio::spawn(async move {
        while let Ok((stream, _)) = silent.accept().await {
            drop(stream);
        }
    });
    let socket = site.path("silent.sock").display().to_string();
    let (code, _, err) = site.cli(&["status", "--exit-code", "--socket", &socket]).await;
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = site.cli(&["status", "--socket", &socket]).await;
    assert_eq!(code, 69, "{err}");
    hangs_up.abort();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    let (code, out, err) = site.cli(&["status", "--check"]).await;
    assert_eq!((code, out.as_str()), (0, "all is well\n"), "{err}");
    assert_eq!(site.cli(&["pause", "--as", "ann", "--note", "on leave"]).await.0, 0);
    let paused = async || {
        let (code, out, _) = site.cli(&["status", "--exit-code"]).await;
        assert!(code == 1 && out.contains(" is paused by ann (claimed by "), "{out}");
        assert!(out.contains(" ago (on leave): `doorman resume`"), "{out}");
        let pause =
            &serde_json::from_str::<Value>(&site.cli(&["status", "--json"]).await.1).unwrap()["agents"][0]["pause"];
        assert!(pause["at"].is_string() && pause["note"] == "on leave", "{pause}");
    };
    paused().await;
    // It is on record, so the next daemon knows it.
    daemon.stop().await.unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    paused().await;
    assert_eq!(site.cli(&["resume"]).await.0, 0);
    std::fs::write(site.path("rules.toml"), "version = 1\nnonsense = 1\n").unwrap();
    assert_ne!(site.cli(&["reload", "--wait"]).await.0, 0);
    let (code, out, _) = site.cli(&["status", "--exit-code"]).await;
    assert!(code == 1 && out.contains("rules.toml` now is not in force: `doorman check`"), "{out}");
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    assert_eq!(site.cli(&["reload", "--wait"]).await.0, 0);
    assert_eq!(site.cli(&["status", "--exit-code"]).await.0, 0);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_where_there_is_no_page() {
    let site = site().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_PAGE_LISTEN", &address)]);
    daemon.said("page_refused", 1).await.unwrap();
    let (code, out, _) = site.cli(&["status", "--exit-code"]).await;
    let expected = format!("the page is not served at {address}: ");
    assert!(code == 1 && out.contains(&expected), "{out}");
    let (code, out, _) = site.cli(&["status"]).await;
    assert!(code == 0 && out.contains(&expected), "{out}");
    daemon.stop().await.unwrap();
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_PAGE_LISTEN", "127.0.0.1:0")]);
    daemon.said("page_listening", 1).await.unwrap();
    assert_eq!(site.cli(&["status", "--exit-code"]).await.0, 0);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_changes_no_time_of_a_decision_and_a_handle_is_enough_for_history() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r-1", "bob");
    ask(&site, "r-2", "carol");
    settled(&site, 2, 0).await;
    let row = async || {
        let (code, out, err) = site.cli(&["history", "@bob", "--json"]).await;
        assert!(code == 0 && out.lines().count() == 1, "{out}{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let before = row().await;
    assert_eq!((&before["request"], &before["by"]), (&"r-1".into(), &"no_match".into()), "{before}");
    for (command, by) in [("pause", "paused"), ("resume", "no_match")] {
        assert_eq!(site.cli(&[command]).await.0, 0);
        let wait = async {
            loop {
                let row = row().await;
                if row["by"] == by {
                    return row;
                }
            }
        };
        let after = tokio::time::timeout(TIME, wait).await.unwrap();
        assert_eq!(after["decided_at"], before["decided_at"], "{command}");
    }
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_beside_the_rules_is_warned_about_and_what_was_there_before_is_not() {
    let site = site().await;
    ask(&site, "r-0", "before");
    site.control.settle("r-0", SandboxStatus::Approved).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    daemon.said("contacts_baseline", 1).await.unwrap();
    for (id, from) in [("r-1", "ann"), ("r-2", "bob"), ("r-3", "carol")] {
        ask(&site, id, from);
    }
    settled(&site, 3, 2).await;
    assert_eq!(site.cli(&["approve", "@carol"]).await.0, 0);
    // The agent's own model, its owner or the platform approves what the rules left pending.
    site.control.settle("r-2", SandboxStatus::Approved).unwrap();
    daemon.said("contact_unexplained", 1).await.unwrap();
    daemon.said("settled_against_policy", 1).await.unwrap();
    contacts(&site, 4, &[]).await;
    assert_eq!(handles(&contacts(&site, 2, &["--not-by-doorman"]).await), ["before", "bob"]);
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("1 new contact(s) since the start that no answer of doorman explains"), "{out}");
    assert!(out.contains("1 request(s) since the start approved by somebody else, against the rules"), "{out}");
    let lines = daemon.lines();
    let said = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let unexplained = said("contact_unexplained");
    assert_eq!((unexplained.len(), &unexplained[0]["handle"]), (1, &Value::from("bob")), "{unexplained:?}");
    let against = said("settled_against_policy");
    assert_eq!((against.len(), &against[0]["by"]), (1, &Value::from("no_match")), "{against:?}");
    assert_eq!(said("contacts_baseline")[0]["contacts"], 1);
    daemon.stop().await.unwrap();

    // The next daemon finds requests that came while none ran, and handles no request a second time.
    ask(&site, "r-4", "dora");
    site.control.settle("r-4", SandboxStatus::Approved).unwrap();
    let daemon = site.daemon();
    daemon.said("contact_unexplained", 1).await.unwrap();
    daemon.stands("live").await.unwrap();
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("1 new contact(s) since the start that no answer"), "{out}");
    let (_, out, _) = site.cli(&["history"]).await;
    assert!(out.contains("no answer of doorman explains: bob, dora\n"), "{out}");
    let lines = daemon.lines();
    let unexplained: Vec<_> = lines.iter().filter(|line| line["event"] == "contact_unexplained").collect();
    assert_eq!((unexplained.len(), &unexplained[0]["handle"]), (1, &Value::from("dora")), "{unexplained:?}");
    assert!(lines.iter().all(|line| line["event"] != "contacts_baseline"));
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_if_the_list_that_shall_remember_them_cannot_be_edited() {
    let site = site().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "r-1", "carol");
    settled(&site, 1, 0).await;
    for (file, text, code) in [
        ("rules.toml", "version = 1\n[lists.friends]\nfile = \"friends.txt\"\nnonsense = 1\n", 78),
        ("friends.txt", "\u{0}", 78),
    ] {
        let before = std::fs::read_to_string(site.path(file)).unwrap();
        std::fs::write(site.path(file), text).unwrap();
        let (said, out, err) = site.cli(&["approve", "@carol", "--remember", "friends"]).await;
        assert_eq!((said, out.as_str()), (code, ""), "{file}: {err}");
        std::fs::write(site.path(file), before).unwrap();
    }
    assert_eq!(site.control.state().requests[0].status, SandboxStatus::Pending);
    let (code, out, err) = site.cli(&["approve", "@carol", "--remember", "friends", "-q"]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    daemon.stop().await.unwrap();
}
