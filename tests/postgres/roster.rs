//! Agents that are rows of the database: they come and go while doormen run, each of which has some of the keys. And a doorman without
//! the platform, a lowered bound, and what a person's command for an agent that goes comes to.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use doorman::sandbox::{NewRequest, SandboxStatus};
use nix::sys::signal::Signal;

use crate::Database;
use crate::doormen::{Doormen, RULES};

const OTHER: &str = "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n\
    [rules.friends]\nthen = \"approve\"\nwhen = { agents = [\"porter\"], handle = \"friends/*\" }\n\
    [rules.foes]\nthen = \"reject\"\nwhen = { handle = \"foes/*\" }\n";

/// Writes a doorman's files without any agent, with the keys of these ones.
fn files(doormen: &Doormen, name: &str, keys: &[usize], fleet: &str) -> PathBuf {
    let dir = doormen.files(name, RULES, "");
    for agent in &doormen.agents {
        doormen.forget(name, agent);
    }
    let path = dir.join("doorman.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[fleet]\n", &format!("[fleet]\nkeys_dir = \"keys\"\n{fleet}"))).unwrap();
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    for key in keys {
        give_key(doormen, name, *key);
    }
    dir
}

fn key_file(doormen: &Doormen, name: &str, agent: usize) -> PathBuf {
    doormen.path(name).join("keys").join(format!("{}.key", doormen.agents[agent]))
}

/// As a person would: written elsewhere, and renamed.
fn give_key(doormen: &Doormen, name: &str, agent: usize) {
    let new = doormen.path(name).join("new.key");
    std::fs::copy(doormen.path(name).join(format!("{agent}.key")), &new).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, key_file(doormen, name, agent)).unwrap();
}

/// A command that works.
pub async fn done(doormen: &Doormen, name: &str, arguments: &[&str]) -> String {
    let (code, out, err) = doormen.cli(name, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

async fn push(doormen: &Doormen, name: &str, rules: &str, text: &str) {
    let file = doormen.path(&format!("{rules}.toml"));
    std::fs::write(&file, text).unwrap();
    done(doormen, name, &["policy", "push", rules, file.to_str().unwrap()]).await;
}

/// By agent: who has it, and who has its key.
async fn list(doormen: &Doormen, name: &str) -> Vec<(String, Option<String>, Vec<String>)> {
    let out = done(doormen, name, &["fleet", "list", "--json"]).await;
    let line = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let keys = row["keys"].as_array().unwrap().iter().filter_map(text).collect();
        (text(&row["agent"]).unwrap(), text(&row["holder"]), keys)
    };
    out.lines().map(line).collect()
}

/// Friends and foes ask this agent.
fn ask(doormen: &Doormen, agent: usize, burst: &str) {
    for who in ["friends", "foes"] {
        let new = NewRequest::to(&doormen.agents[agent]).from(&format!("{who}/{burst}-{{n}}"));
        doormen.control.request(&new.id(&format!("{burst}-{who}-{agent}-{{n}}")).count(3)).unwrap();
    }
}

fn statuses(doormen: &Doormen, begins: &str) -> Vec<SandboxStatus> {
    let requests = doormen.control.state().requests.into_iter();
    requests.filter(|request| request.id.starts_with(begins)).map(|request| request.status).collect()
}

/// Agents are put on the roster and taken off it while two doormen run: both have the key, one has it, none has it. One is killed in
/// between, and starts again with what it had.
pub async fn come_and_go(database: &Database) {
    let doormen = Doormen::of(4, database).await;
    files(&doormen, "a", &[0, 1, 2], "");
    files(&doormen, "b", &[0, 1], "");
    let agents: Vec<&str> = doormen.agents.iter().map(String::as_str).collect();
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    a.said("started", 1).await.unwrap();
    b.said("started", 1).await.unwrap();
    // Nothing was pushed yet.
    let (code, _, err) = doormen.cli("a", &["fleet", "add", agents[0], "--rules", "main"]).await;
    assert!(code == 1 && err.contains("no rules were pushed as `main`"), "{code} {err}");
    push(&doormen, "a", "main", RULES).await;
    done(&doormen, "b", &["fleet", "add", agents[0], agents[1], agents[2], agents[3], "--rules", "main"]).await;
    doormen
        .until("three are had", async || doormen.counts(database, &["a", "b"]).await.iter().sum::<usize>() == 3)
        .await;
    for agent in 0..4 {
        ask(&doormen, agent, "first");
    }
    let decided = |agent: usize, burst: &str| {
        let now = statuses(&doormen, &format!("{burst}-friends-{agent}"));
        now.iter().all(|status| *status == SandboxStatus::Approved)
            && statuses(&doormen, &format!("{burst}-foes-{agent}"))
                .iter()
                .all(|status| *status == SandboxStatus::Rejected)
    };
    for agent in 0..3 {
        doormen.until("decided by what was pushed", async || decided(agent, "first")).await;
    }
    // Who has which keys is said, and that nobody has one of them.
    let listed = list(&doormen, "a").await;
    let keys: Vec<Vec<&str>> = listed.iter().map(|(_, _, keys)| keys.iter().map(String::as_str).collect()).collect();
    assert_eq!(keys, [vec!["a", "b"], vec!["a", "b"], vec!["a"], vec![]], "{listed:?}");
    assert_eq!((listed[2].1.as_deref(), listed[3].1.as_deref()), (Some("a"), None));
    let out = done(&doormen, "b", &["fleet", "status"]).await;
    assert!(
        out.contains(&format!("no doorman has the key of 1 of the 4 agents on the roster: {}", agents[3])),
        "{out}"
    );
    crate::shape(&done(&doormen, "b", &["fleet", "status", "--json"]).await);
    assert!(statuses(&doormen, "first-friends-3").iter().all(|status| *status == SandboxStatus::Pending));
    // The key comes to one of them.
    give_key(&doormen, "b", 3);
    doormen.until("decided once the key is there", async || decided(3, "first")).await;
    assert_eq!(list(&doormen, "a").await[3].1.as_deref(), Some("b"));
    // Twice, without rules, a name that is another's: nothing changes.
    let (code, _, err) = doormen.cli("a", &["fleet", "add", agents[0], "--rules", "main"]).await;
    assert!(code == 1 && err.contains("is on the roster already") && err.contains("nothing was changed"), "{err}");
    let (code, _, err) = doormen.cli("a", &["fleet", "add", "porter", "--rules", "main"]).await;
    assert!(code == 2 && err.contains("expected a UUID"), "{err}");
    // Another name and other rules: it begins again with them.
    push(&doormen, "a", "other", OTHER).await;
    done(&doormen, "a", &["fleet", "add", agents[2], "--rules", "other", "--name", "porter", "--replace"]).await;
    a.said("agent_changed", 1).await.unwrap();
    ask(&doormen, 2, "second");
    doormen.until("decided by the other rules", async || decided(2, "second")).await;
    let (code, _, err) =
        doormen.cli("a", &["fleet", "add", agents[3], "--rules", "other", "--name", "porter", "--replace"]).await;
    assert!(code == 1 && err.contains("is that of agent"), "{err}");
    // One is killed while one agent is taken off and another was just asked.
    for agent in 0..4 {
        ask(&doormen, agent, "third");
    }
    a.kill().await;
    done(&doormen, "b", &["fleet", "remove", "porter"]).await;
    for agent in [0, 1, 3] {
        doormen.until("decided by the other doorman", async || decided(agent, "third")).await;
    }
    let again = doormen.start("a");
    again.said("started", 1).await.unwrap();
    ask(&doormen, 2, "fourth");
    done(&doormen, "a", &["fleet", "add", agents[2], "--rules", "main"]).await;
    doormen.until("decided when it is back on the roster", async || decided(2, "fourth") && decided(2, "third")).await;
    doormen.judge(database).await;
    // Off the roster while requests arrive: what was begun is finished, and then nobody has it.
    for round in 0..5 {
        ask(&doormen, 0, &format!("off-{round}"));
    }
    let out = done(&doormen, "a", &["fleet", "remove", agents[0]]).await;
    assert!(out.contains("gives it, unless"), "{out}");
    doormen
        .until("nobody has it", async || {
            let sql = format!("SELECT count(*) FROM doorman.lease WHERE name = '{}' AND holder IS NULL", agents[0]);
            database.count(&sql).await == 1
        })
        .await;
    doormen
        .until("its connection is closed", async || {
            doormen.control.overview().live.iter().all(|live| live.agent != agents[0] || live.ghost)
        })
        .await;
    assert_eq!(doormen.open_answers(database).await, Vec::<String>::new(), "nothing is left under way");
    let answered = doormen.answered();
    ask(&doormen, 0, "later");
    ask(&doormen, 1, "later");
    doormen.until("others are answered", async || decided(1, "later")).await;
    assert_eq!(doormen.answered(), answered + 6, "and it is not");
    let known = format!(
        "SELECT count(*) FROM doorman.request r JOIN doorman.agent g ON g.n = r.agent WHERE g.id = '{}'",
        agents[0]
    );
    assert!(database.count(&known).await >= 12, "its record stays");
    b.stop().await.unwrap();
    again.stop().await.unwrap();
}

/// A restart keeps the roster's agents where they are, and a machine whose configuration names one goes by its configuration.
pub async fn beside_the_configuration(database: &Database) {
    let mut doormen = Doormen::of(2, database).await;
    doormen.ttl = "6s";
    let dir = files(&doormen, "a", &[0, 1], "");
    files(&doormen, "b", &[0, 1], "");
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    a.said("started", 1).await.unwrap();
    push(&doormen, "a", "main", RULES).await;
    done(&doormen, "a", &["fleet", "add", &doormen.agents[0], &doormen.agents[1], "--rules", "main"]).await;
    doormen.have(database, &["a", "b"], &[1, 1]).await;
    // The log may be a moment behind the database.
    b.said("lease_taken", 1).await.unwrap();
    let taken = b.count("lease_taken");
    a.stop().await.unwrap();
    let a = doormen.start("a");
    doormen.ask(2);
    doormen.all_decided_soon().await;
    assert_eq!(
        (doormen.counts(database, &["a", "b"]).await, b.count("lease_taken")),
        (vec![1, 1], taken),
        "nobody moved"
    );
    b.stop().await.unwrap();
    doormen.have(database, &["a"], &[2]).await;
    // The configuration names one of them from now on, and decides otherwise.
    let path = dir.join("doorman.toml");
    let without = std::fs::read_to_string(&path).unwrap();
    let mine = format!(
        "[[agents]]\nid = \"{}\"\napi_key_file = \"0.key\"\nrules = \"mine.toml\"\n{without}",
        doormen.agents[0]
    );
    std::fs::write(dir.join("mine.toml"), crate::doormen::OPPOSITE).unwrap();
    std::fs::write(&path, mine).unwrap();
    done(&doormen, "a", &["reload", "--wait"]).await;
    a.said("roster_overruled", 1).await.unwrap();
    ask(&doormen, 0, "mine");
    let rejected = async || statuses(&doormen, "mine-friends").iter().all(|status| *status == SandboxStatus::Rejected);
    doormen.until("decided by the configuration's rules", rejected).await;
    let (_, out, _) = doormen.cli("a", &["doctor", "--no-connect"]).await;
    assert!(out.contains("in the configuration, too, which holds here"), "{out}");
    let out = done(&doormen, "a", &["fleet", "list"]).await;
    assert!(out.contains("in this machine's doorman.toml, too, which holds here"), "{out}");
    // Off the roster, it stays here.
    done(&doormen, "a", &["fleet", "remove", &doormen.agents[0]]).await;
    done(&doormen, "a", &["fleet", "remove", &doormen.agents[1]]).await;
    doormen.have(database, &["a"], &[1]).await;
    std::fs::write(&path, without).unwrap();
    done(&doormen, "a", &["reload", "--wait"]).await;
    doormen.have(database, &["a"], &[0]).await;
    a.stop().await.unwrap();
}

/// What nobody should have written into the tables and directories does no harm, and the rest works.
pub async fn hostile(database: &Database) {
    let doormen = Doormen::of(2, database).await;
    let dir = files(&doormen, "a", &[0], "");
    let keys = dir.join("keys");
    for odd in ["..key", "x\u{1b}[31m.key", "no-agent.key"] {
        std::fs::write(keys.join(odd), "a-key-of-nobody-here").unwrap();
    }
    // A key that everybody may write, and one that is a directory.
    std::fs::write(key_file(&doormen, "a", 1), "key-of-agent-number-1").unwrap();
    std::fs::set_permissions(key_file(&doormen, "a", 1), std::fs::Permissions::from_mode(0o666)).unwrap();
    let a = doormen.start("a");
    a.said("started", 1).await.unwrap();
    push(&doormen, "a", "main", RULES).await;
    done(&doormen, "a", &["fleet", "add", &doormen.agents[0], &doormen.agents[1], "--rules", "main"]).await;
    let (escapes, path) = (format!("{:a<36}", "x\u{1b}[2J\n"), format!("{:x<36}", "../../etc/passwd"));
    let rows = [
        (escapes.as_str(), "main", None),
        (path.as_str(), "main", None),
        ("c0000000-0000-4000-8000-000000000001", "../rules.toml", None),
        ("c0000000-0000-4000-8000-000000000002", "main", Some("x\u{202e}\u{1b}[2J")),
        // Nothing was pushed under this name: it stays without rules.
        ("c0000000-0000-4000-8000-000000000003", "nothing", None),
    ];
    let client = Database::client(&database.url).await;
    for (agent, rules, name) in rows {
        let sql = "INSERT INTO doorman.fleet_agent (agent, rules, name, added_by, added_at) VALUES ($1, $2, $3, 'person:x', 0)";
        client.execute(sql, &[&agent, &rules, &name]).await.unwrap();
    }
    std::fs::write(keys.join("c0000000-0000-4000-8000-000000000003.key"), "a-key-of-nobody-here").unwrap();
    client.batch_execute("UPDATE doorman.meta SET roster_changes = roster_changes + 1").await.unwrap();
    let counted =
        |lines: &[serde_json::Value]| lines.iter().any(|line| line["event"] == "roster_taken" && line["left_out"] == 4);
    a.until("the odd rows are counted", counted).await.unwrap();
    a.said("roster_key", 1).await.unwrap();
    ask(&doormen, 0, "x");
    doormen
        .until("the good one is answered", async || {
            statuses(&doormen, "x-friends").iter().all(|status| *status == SandboxStatus::Approved)
        })
        .await;
    let listed = list(&doormen, "a").await;
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(
        listed.iter().any(|(agent, holder, keys)| *agent == doormen.agents[1] && holder.is_none() && keys.is_empty())
    );
    for arguments in [&["fleet", "list"][..], &["fleet", "status"], &["status"]] {
        let out = done(&doormen, "a", arguments).await;
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out:?}");
    }
    let (code, _, err) = doormen.cli("a", &["fleet", "remove", "x\u{1b}[2J"]).await;
    assert!(code == 1 && !err.contains('\u{1b}'), "{err:?}");
    // The directory is gone, and comes back: nobody leaves because of it.
    std::fs::rename(&keys, dir.join("keys.away")).unwrap();
    a.said("keys_unreadable", 1).await.unwrap();
    ask(&doormen, 0, "y");
    let approved = async || statuses(&doormen, "y-friends").iter().all(|status| *status == SandboxStatus::Approved);
    doormen.until("answered without the directory", approved).await;
    std::fs::rename(dir.join("keys.away"), &keys).unwrap();
    // The key is mended: it is tried again, and at once with a reload.
    std::fs::set_permissions(key_file(&doormen, "a", 1), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = doormen.cli("a", &["reload", "--wait"]).await;
    assert!(
        code == 1 && err.contains("nothing was pushed under this name yet"),
        "the odd row's rules: {code} {out}{err}"
    );
    let has = async || {
        list(&doormen, "a").await.iter().any(|row| row.0 == doormen.agents[1] && row.1.as_deref() == Some("a"))
    };
    doormen.until("it is had once its key can be used", has).await;
    a.stop().await.unwrap();
}

/// A person's command waits for an agent that nobody takes, and the agent is taken off the roster: the person reads that at once.
pub async fn commands_end(database: &Database) {
    let mut doormen = Doormen::of(1, database).await;
    // A command waits for a minute then, and nobody is dead meanwhile: only the roster ends it.
    doormen.ttl = "30s";
    files(&doormen, "a", &[0], "agents_max = 0\n");
    files(&doormen, "b", &[0], "");
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    b.said("started", 1).await.unwrap();
    push(&doormen, "a", "main", RULES).await;
    let agent = doormen.agents[0].as_str();
    done(&doormen, "a", &["fleet", "add", agent, "--rules", "main"]).await;
    doormen.have(database, &["a", "b"], &[0, 1]).await;
    doormen.control.request(&NewRequest::to(agent).from("people/carol").id("carol")).unwrap();
    doormen.until("carol waits", async || doormen.cli("a", &["pending"]).await.1.contains("carol")).await;
    b.signal(Signal::SIGSTOP);
    let asked =
        doormen.command("a", &["approve", "carol"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    doormen
        .until("asked", async || {
            database.count("SELECT count(*) FROM doorman.command WHERE ended_at IS NULL").await == 1
        })
        .await;
    done(&doormen, "a", &["fleet", "remove", agent]).await;
    let output = tokio::time::timeout(crate::faults::site::TIME, asked.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("was taken off the roster") && err.contains("nothing was done"), "{err}");
    assert_eq!(database.count("SELECT count(*) FROM doorman.command").await, 0, "nothing is left to be taken later");
    b.signal(Signal::SIGCONT);
    doormen.until("nobody has it", async || doormen.holders(database).await.is_empty()).await;
    assert_eq!(statuses(&doormen, "carol"), [SandboxStatus::Pending]);
    b.stop().await.unwrap();
    a.stop().await.unwrap();
}

/// The holder removes a contact, and stands still before it is on record: the next holder takes the command again, and the person reads
/// that the contact was removed.
pub async fn revoked_again(database: &Database) {
    let mut doormen = Doormen::of(1, database).await;
    // The next holder must take the command within two times this, and takes over after a little more than one.
    doormen.ttl = "6s";
    doormen.files("b", RULES, "");
    let b = doormen.start_told("b", &[("DOORMAN_STOP_AT", "outcome:2")]);
    doormen.have(database, &["b"], &[1]).await;
    doormen.control.request(&NewRequest::to(&doormen.agents[0]).from("friends/carol").id("carol")).unwrap();
    doormen.all_decided_soon().await;
    let a = doormen.start("a");
    doormen
        .until("two are there", async || {
            database.count("SELECT count(*) FROM doorman.member WHERE state = 'up'").await == 2
        })
        .await;
    let known = async || doormen.cli("a", &["contacts"]).await.1.contains("friends/carol");
    doormen.until("carol is a contact", known).await;
    let (code, out, err) = doormen.cli("a", &["revoke", "@friends/carol", "--yes", "--as", "ann"]).await;
    assert!(code == 0 && out.contains("removed friends/carol"), "{code} {out}{err}");
    assert!(a.count("command_taken") == 1 && doormen.counts(database, &["a"]).await == [1], "taken by the next holder");
    b.signal(Signal::SIGCONT);
    b.said("member_lost", 1).await.unwrap();
    b.stop().await.unwrap();
    a.stop().await.unwrap();
}
