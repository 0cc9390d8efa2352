//! Rules that people push into the ledger: who decides by which version, while strangers ask.

use std::time::Duration;

use doorman::sandbox::SandboxStatus;
use serde_json::Value;
use tokio_postgres::Client;

use super::Database;
use super::faults::checks::all_decided;
use super::faults::daemon::Daemon;
use super::faults::site::{AGENT, NEIGHBOUR, NEIGHBOURS_KEY, Site};

/// Friends and foes get these verdicts, by these rules.
fn rules(friends: &str, foes: &str) -> String {
    format!(
        "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n\
         [lists.friends]\nfile = \"friends.txt\"\n\
         [rules.friends]\nthen = \"{friends}\"\nwhen = {{ list = \"friends\" }}\n\
         [rules.foes]\nthen = \"{foes}\"\nwhen = {{ handle = \"foes/*\" }}\n\
         [tests.friend]\nrequest = {{ from_handle = \"friends/1\" }}\nexpect = {{ verdict = \"{friends}\" }}\n"
    )
}

/// A site whose agent is decided by what is pushed under `main`.
async fn site() -> Site {
    let site = Site::start().await;
    by_pushed_rules(&site);
    std::fs::write(site.path("friends.txt"), "friends/*\n").unwrap();
    std::fs::write(site.path("open.toml"), rules("approve", "reject")).unwrap();
    std::fs::write(site.path("shut.toml"), rules("reject", "approve")).unwrap();
    site
}

fn by_pushed_rules(site: &Site) {
    let config = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), config.replace("\"rules.toml\"", "\"ledger:main\"")).unwrap();
}

/// Pushes a file of the site, and waits until nobody decides by older rules.
async fn push(database: &Database, site: &Site, file: &str) -> String {
    let path = site.path(file).display().to_string();
    let (code, out, err) = database.cli(site, &["policy", "push", "main", &path, "--wait"]).await;
    assert_eq!(code, 0, "{out}{err}");
    out
}

/// Says that this version of the rules is in force.
async fn uses(daemon: &Daemon, version: u64) {
    let loaded = |line: &Value| line["event"] == "policy_loaded" && line["version"] == version;
    daemon.until(&format!("version {version}"), |lines| lines.iter().any(loaded)).await.unwrap();
}

/// How many answers were intended by each version's policy.
async fn intended(sql: &Client) -> Vec<(String, i64)> {
    let rows = sql
        .query(
            "SELECT p.hash, count(*) FROM doorman.answer w JOIN doorman.policy p ON p.n = w.policy GROUP BY 1 ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The policy of the head.
async fn head(sql: &Client) -> (i64, String) {
    let row = sql
        .query_one(
            "SELECT v.version, p.hash FROM doorman.policy_version v JOIN doorman.policy p ON p.n = v.policy
             WHERE v.name = 'main' ORDER BY v.version DESC LIMIT 1",
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// After `push --wait` no answer is intended by older rules, however many strangers ask; and each request gets one answer, by the rules
/// that its intent names.
pub async fn no_answer_by_older_rules(database: &Database) {
    let site = site().await;
    let (code, _, err) = site.cli(&["policy", "push", "main", &site.path("open.toml").display().to_string()]).await;
    assert!(code == 2 && err.contains("doorman reload"), "if the ledger is a file: {code} {err}");
    let (code, _, err) = site.cli(&["check"]).await;
    assert!(code == 78 && err.contains("names rules in the ledger, which is a file"), "{code} {err}");
    // Before the first push everything stays pending, and the push needs no restart.
    let daemon = database.daemon(&site);
    daemon.stands("live").await.unwrap();
    daemon.said("agent_without_rules", 1).await.unwrap();
    site.ask("early", 5, true);
    let said = push(database, &site, "open.toml").await;
    assert!(said.contains("version 1 of `main` is pushed"), "{said}");
    uses(&daemon, 1).await;
    site.until("all decided", all_decided).await.unwrap();
    let sql = Database::client(&database.url).await;
    // A transaction that puts an intent on record stays open for a while, so that pushes meet some.
    sql.batch_execute(
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON doorman.answer FOR EACH ROW EXECUTE FUNCTION public.slow()",
    )
    .await
    .unwrap();
    let mut met = 0;
    for turn in 0..10_u32 {
        site.ask(&format!("turn-{turn}"), 20, true);
        // Some of them are on their way.
        let begun = intended(&sql).await;
        tokio::time::timeout(super::faults::site::TIME, async {
            while intended(&sql).await == begun {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap();
        push(database, &site, if turn % 2 == 0 { "shut.toml" } else { "open.toml" }).await;
        let after = intended(&sql).await;
        let (version, now) = head(&sql).await;
        assert_eq!(version, i64::from(turn) + 2);
        site.ask(&format!("after-{turn}"), 5, true);
        let old = |all: &[(String, i64)]| -> i64 { all.iter().filter(|(hash, _)| *hash != now).map(|(_, n)| n).sum() };
        site.until("answered", |control| {
            let waits = |id: &str| id.starts_with("turn-") || id.starts_with("after-");
            let mut due =
                control.state().requests.into_iter().filter(|one| waits(&one.id) && !one.id.contains("strangers"));
            due.all(|one| one.status != SandboxStatus::Pending)
        })
        .await
        .unwrap();
        let end = intended(&sql).await;
        assert_eq!(old(&end), old(&after), "answers were intended by older rules after `push --wait`, turn {turn}");
        met += end.iter().filter(|(hash, _)| *hash == now).map(|(_, n)| n).sum::<i64>();
    }
    assert!(met > 0);
    let status: Value = serde_json::from_str(&database.cli(&site, &["status", "--json"]).await.1).unwrap();
    let again = status["counters"]["rules_outdated"].as_u64().unwrap_or(0);
    assert!(again > 0, "no intent met a push: this proves nothing");
    assert_eq!(status["policies"][0]["version"], 11);
    daemon.stop().await.unwrap();
    one_answer_each_by_its_rules(&site, &sql).await;
}

/// By the record and by the platform: one answer a request, as the rules say that its intent names.
async fn one_answer_each_by_its_rules(site: &Site, sql: &Client) {
    let rows = sql
        .query(
            "SELECT r.id, w.answer, p.hash = (SELECT hash FROM doorman.policy_version v JOIN doorman.policy o ON o.n = v.policy
                 WHERE v.version = 1 AND v.name = 'main') FROM doorman.answer w JOIN doorman.request r ON r.n = w.request
                 JOIN doorman.policy p ON p.n = w.policy WHERE w.outcome <> 'withdrawn'",
            &[],
        )
        .await
        .unwrap();
    let mut intents = std::collections::HashMap::new();
    for row in &rows {
        let (id, answer, open): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let wanted = if id.contains("-friends-") == open { "approve" } else { "reject" };
        assert_eq!(answer, wanted, "{id}: another answer than its policy gives");
        assert!(intents.insert(id.clone(), answer).is_none(), "{id}: two answers on record");
    }
    for request in site.control.state().requests.into_iter().filter(|one| one.to == AGENT && one.answered > 0) {
        let status = match intents.get(&request.id).map(String::as_str) {
            Some("approve") => SandboxStatus::Approved,
            Some(_) => SandboxStatus::Rejected,
            None => panic!("answered without an intent on record: {request:?}"),
        };
        assert!(request.answers.iter().all(|answer| answer.status == status), "not what was intended: {request:?}");
        assert_eq!(request.answered, 1, "{request:?}");
    }
}

/// What is refused changes nothing; an older version comes back; the commands show every version.
pub async fn versions_come_and_go(database: &Database) {
    let site = site().await;
    push(database, &site, "open.toml").await;
    let daemon = database.daemon(&site);
    daemon.stands("live").await.unwrap();
    uses(&daemon, 1).await;
    for (broken, why) in [
        (rules("approve", "reject").replace("then = \"reject\"", "than = \"reject\""), "than"),
        (
            rules("approve", "reject")
                .replace("expect = { verdict = \"approve\" }", "expect = { verdict = \"reject\" }"),
            "the test `friend` fails",
        ),
        (rules("approve", "reject").replace("friends.txt", "nobody.txt"), "nobody.txt"),
    ] {
        std::fs::write(site.path("broken.toml"), broken).unwrap();
        let path = site.path("broken.toml").display().to_string();
        let (code, out, err) = database.cli(&site, &["policy", "push", "main", &path, "--wait"]).await;
        assert!(code == 78 && err.contains(why) && out.is_empty(), "{why}: {code} {out}{err}");
    }
    assert_eq!(database.count("SELECT count(*) FROM doorman.policy_version").await, 1);
    // A list that lost its entries by accident is not pushed.
    let many: String = (0..200).map(|n| format!("friends/{n}\n")).collect();
    std::fs::write(site.path("friends.txt"), many).unwrap();
    let said = push(database, &site, "open.toml").await;
    assert!(said.contains("entries of list friends, now 200"), "{said}");
    std::fs::write(site.path("friends.txt"), "friends/1\n").unwrap();
    let path = site.path("open.toml").display().to_string();
    let (code, _, err) = database.cli(&site, &["policy", "push", "main", &path]).await;
    assert!(code == 78 && err.contains("--accept-shrunk"), "{code} {err}");
    let (code, out, _) = database.cli(&site, &["policy", "push", "main", &path, "--dry-run", "--accept-shrunk"]).await;
    assert!(code == 0 && out.contains("this would be version 3") && out.contains("nothing was pushed"), "{out}");
    let (code, out, err) = database
        .cli(&site, &["policy", "push", "main", &path, "--accept-shrunk", "--wait", "--as", "ann", "--note", "spring"])
        .await;
    assert!(code == 0 && out.contains("+0 −199 entries of list friends, now 1"), "{code} {out}{err}");
    uses(&daemon, 3).await;
    let again = push(database, &site, "open.toml").await;
    assert!(again.contains("version 3 of `main` is the same already"), "{again}");
    let (code, out, err) = database.cli(&site, &["policy", "rollback", "main", "--to", "1", "--wait"]).await;
    assert!(code == 0 && out.contains("version 4 of `main` is pushed"), "{code} {out}{err}");
    uses(&daemon, 4).await;
    let (code, out, _) = database.cli(&site, &["policy", "list", "main", "--json"]).await;
    let versions: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = versions.iter().filter_map(|one| one["version"].as_u64()).collect();
    assert_eq!((code, numbers), (0, vec![4, 3, 2, 1]));
    assert_eq!(versions[0]["policy"], versions[3]["policy"], "the first came back");
    assert!(versions[1]["by"].as_str().unwrap().starts_with("person:ann (claimed by "), "{}", versions[1]);
    assert_eq!(versions[1]["note"], "spring");
    for (arguments, holds) in [
        (&["policy", "list"][..], "main"),
        (&["policy", "list", "main"], "spring"),
        (&["policy", "show", "main"], "[rules.friends]"),
        (&["policy", "show", "main", "--version", "2"], "friends/199"),
        (&["policy", "show", "main", "--json"], "\"texts\":"),
        (&["policy", "diff", "main", "2", "3"], "-friends/199"),
        (&["policy", "diff", "main"], "+friends/*"),
        (&["policy", "diff", "main", "--json"], "\"from\":3"),
        (&["test"], "ok"),
        (&["check"], "1 rules file(s) checked: 0 error(s)"),
        (&["doctor", "--no-connect"], "rules ledger:main"),
        (&["status"], "ledger:main, version 4"),
        (&["explain", "friends/1"], "approve"),
    ] {
        let (code, out, err) = database.cli(&site, arguments).await;
        assert!(code == 0 || arguments[0] == "doctor", "{arguments:?}: {code} {out}{err}");
        assert!(out.contains(holds), "{arguments:?} does not say `{holds}`: {out}{err}");
    }
    for (arguments, code, why) in [
        (&["policy", "show", "other"][..], 1, "nothing was pushed under `other`"),
        (&["policy", "show", "main", "--version", "9"], 1, "the newest is 4"),
        (&["policy", "rollback", "main", "--to", "9"], 1, "has no version 9"),
        (&["policy", "list", "No Name"], 2, "a-z, 0-9"),
        (&["list", "add", "friends", "carol"], 2, "doorman policy push main"),
    ] {
        let (said, out, err) = database.cli(&site, arguments).await;
        assert!(said == code && err.contains(why), "{arguments:?}: {said} {out}{err}");
    }
    // It goes on after a restart.
    daemon.stop().await.unwrap();
    let daemon = database.daemon(&site);
    uses(&daemon, 4).await;
    site.ask("after", 5, true);
    site.until("all decided", all_decided).await.unwrap();
    daemon.stop().await.unwrap();
}

/// Every doorman on the database decides by the same head.
pub async fn two_get_the_same_head(database: &Database) {
    let site = site().await;
    push(database, &site, "open.toml").await;
    let neighbour = site.beside();
    by_pushed_rules(&neighbour);
    let config = std::fs::read_to_string(neighbour.path("doorman.toml")).unwrap();
    std::fs::write(neighbour.path("doorman.toml"), config.replace(AGENT, NEIGHBOUR)).unwrap();
    std::fs::write(neighbour.path("agent.key"), NEIGHBOURS_KEY).unwrap();
    let daemons = [database.daemon(&site), database.daemon(&neighbour)];
    for daemon in &daemons {
        daemon.stands("live").await.unwrap();
        uses(daemon, 1).await;
    }
    // Nobody asks: each looks by itself.
    push(database, &site, "shut.toml").await;
    let mut policies = Vec::new();
    for daemon in &daemons {
        uses(daemon, 2).await;
        let loaded = daemon.lines().into_iter().filter(|line| line["event"] == "policy_loaded");
        policies.extend(loaded.map(|line| (line["version"].as_u64(), line["policy"].clone())).next_back());
    }
    assert_eq!(policies.len(), 2);
    assert_eq!(policies[0], policies[1]);
    for daemon in daemons {
        daemon.stop().await.unwrap();
    }
}
