//! A person gives a command on a machine whose doorman does not hold the agent: its holder does it, once, and in time or not at all.

use std::process::Stdio;

use doorman::sandbox::{NewRequest, SandboxStatus};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Database;
use crate::doormen::{Doormen, RULES};
use crate::faults::daemon::Daemon;
use crate::sharing::stopped;

/// The agent that this doorman holds.
async fn agent_of(doormen: &Doormen, database: &Database, name: &str) -> (usize, String) {
    let held = doormen.holders(database).await[name][0].clone();
    (doormen.agents.iter().position(|agent| *agent == held).unwrap(), held)
}

fn asks(doormen: &Doormen, agent: &str, handle: &str, id: &str) {
    doormen.control.request(&NewRequest::to(agent).from(handle).id(id)).unwrap();
}

fn status_of(doormen: &Doormen, id: &str) -> (SandboxStatus, u64) {
    let found = doormen.control.state().requests.into_iter().find(|request| request.id == id).unwrap();
    (found.status, found.answered)
}

fn rows(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until `pending` of this doorman names these requests.
async fn pending(doormen: &Doormen, name: &str, wanted: &[&str]) {
    let shown = async || {
        let (_, out, _) = doormen.cli(name, &["pending", "--json"]).await;
        let mut ids: Vec<String> = rows(&out).iter().map(|row| row["request"].as_str().unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids == wanted
    };
    doormen.until(&format!("{wanted:?} are pending at {name}"), shown).await;
}

/// Every command works where its agent is not, and says what it says where the agent is.
pub async fn on_any_machine(database: &Database) {
    let doormen = Doormen::of(2, database).await;
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[2]).await;
    let b = doormen.start("b");
    doormen.have(database, &["a", "b"], &[1, 1]).await;
    let ((_, mine), (_, theirs)) = (agent_of(&doormen, database, "a").await, agent_of(&doormen, database, "b").await);
    for (handle, id) in [("people/carol", "carol"), ("people/dan", "dan"), ("people/eve", "eve"), ("both/x", "x-there")]
    {
        asks(&doormen, &theirs, handle, id);
    }
    asks(&doormen, &mine, "both/x", "x-here");
    pending(&doormen, "a", &["carol", "dan", "eve", "x-here", "x-there"]).await;
    let decided = async || {
        let (_, out, _) = doormen.cli("a", &["pending", "--json"]).await;
        let rows = rows(&out);
        let by = |id: &str, key: &str| rows.iter().find(|row| row["request"] == id).unwrap()[key].clone();
        ["carol", "x-there"]
            .iter()
            .all(|id| by(id, "held_by") == "b" && by(id, "stage") == "deferred" && by(id, "by") == "no_match")
            && by("x-here", "held_by").is_null()
    };
    doormen.until("what the record says of them", decided).await;
    let (_, out, _) = doormen.cli("a", &["pending"]).await;
    assert!(out.contains("HELD BY"), "{out}");
    // The person's name and note are kept, and the reply is the one of the other machine.
    let (code, out, err) =
        doormen.cli("a", &["approve", "@people/carol", "--as", "eve", "--note", "she called", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&said["request"], &said["outcome"], &said["agent"]),
        (&"carol".into(), &"approved".into(), &theirs.as_str().into())
    );
    assert_eq!(status_of(&doormen, "carol"), (SandboxStatus::Approved, 1));
    let row = Database::client(&database.url).await;
    let row = row.query_one("SELECT \"by\", note FROM doorman.answer", &[]).await.unwrap();
    let (by, note): (String, String) = (row.get(0), row.get(1));
    assert!(by.starts_with("person:eve (claimed by ") && note == "she called", "{by} {note}");
    // By the beginning of no id, by a handle of two, of nobody, of somebody who has an answer.
    let (code, _, err) = doormen.cli("a", &["reject", "@both/x"]).await;
    assert!(code == 1 && err.contains("names 2 pending requests") && err.contains("x-there"), "{err}");
    let (code, _, err) = doormen.cli("a", &["reject", "@people/nobody"]).await;
    assert!(code == 1 && err.contains("nothing pending has"), "{err}");
    let (code, _, err) = doormen.cli("a", &["approve", "@people/carol"]).await;
    assert!(code == 1 && err.contains("is already approved by eve"), "{err}");
    let (code, out, err) = doormen.cli("a", &["reject", "x-there"]).await;
    assert!(code == 0 && out.contains("rejected @both/x"), "{out}{err}");
    let (code, out, err) = doormen.cli("a", &["hold", "@people/dan"]).await;
    assert!(code == 0 && out.contains("is on hold"), "{out}{err}");
    // All agents are paused, wherever they are; one alone as well.
    let (code, out, err) = doormen.cli("a", &["pause"]).await;
    assert!(code == 0 && out.contains(&theirs) && out.contains(&mine), "{out}{err}");
    let paused = async |name| doormen.cli(name, &["status"]).await.1.contains("paused");
    assert!(paused("b").await && paused("a").await);
    let (code, out, err) = doormen.cli("a", &["resume", &theirs]).await;
    assert!(code == 0 && out.contains(&theirs) && !out.contains(&mine), "{out}{err}");
    assert!(!paused("b").await && paused("a").await);
    let (code, out, err) = doormen.cli("b", &["resume", &mine]).await;
    assert_eq!(code, 0, "{out}{err}");
    // A contact is removed by whoever holds the agent.
    let known = async || doormen.cli("a", &["contacts"]).await.1.contains("people/carol");
    doormen.until("carol is a contact", known).await;
    let (code, out, err) = doormen.cli("a", &["revoke", "@people/carol", "--yes"]).await;
    assert!(code == 0 && out.contains("removed people/carol"), "{out}{err}");
    let (code, out, err) = doormen.cli("a", &["doubts", "--agent", &theirs]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = doormen.cli("a", &["settle", "@people/eve", "removed", "--agent", &theirs]).await;
    assert!(code == 1 && err.contains("no such doubt"), "{err}");
    // A guest gets another end.
    let (code, out, err) = doormen.cli("a", &["approve", "@people/eve", "--for", "2h"]).await;
    assert!(code == 0 && out.contains("the contact ends at"), "{out}{err}");
    let (code, out, err) = doormen.cli("a", &["approve", "@people/eve", "--for", "4h"]).await;
    assert!(code == 0 && out.contains("was let in before"), "{out}{err}");
    for (id, word) in [("dan", "approve"), ("x-here", "approve")] {
        let (code, out, err) = doormen.cli("b", &[word, id]).await;
        assert_eq!(code, 0, "{out}{err}");
    }
    assert!(
        b.count("command_taken") >= 7 && a.count("command_taken") >= 2,
        "{} {}",
        b.count("command_taken"),
        a.count("command_taken")
    );
    assert_eq!(database.count("SELECT count(*) FROM doorman.command").await, 0, "nothing is left");
    b.stop().await.unwrap();
    a.stop().await.unwrap();
    doormen.judge(database).await;
}

/// One doorman with an agent, and another that drains: it takes nothing, and asks.
async fn holder_and_asker(doormen: &Doormen, database: &Database) -> (Daemon, Daemon) {
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[1]).await;
    let (code, out, err) = doormen.cli("a", &["fleet", "drain"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let b = doormen.start("b");
    doormen.have(database, &["a", "b"], &[0, 1]).await;
    (a, b)
}

/// The holder stands still until the time is over: nothing is done, the person reads that, and it is not done later. One whose asker is
/// gone is not done later, either.
pub async fn not_in_time(database: &Database) {
    let doormen = Doormen::of(1, database).await;
    let (a, b) = holder_and_asker(&doormen, database).await;
    let agent = &doormen.agents[0];
    asks(&doormen, agent, "people/carol", "carol");
    asks(&doormen, agent, "people/dan", "dan");
    asks(&doormen, agent, "people/eve", "eve");
    pending(&doormen, "a", &["carol", "dan", "eve"]).await;
    b.signal(Signal::SIGSTOP);
    stopped(&doormen, &b).await;
    let (code, _, err) = doormen.cli("a", &["approve", "carol"]).await;
    assert!(code == 1 && err.contains("no doorman took it within 6 s, so nothing was done"), "{code} {err}");
    // The asker dies, and leaves a row behind.
    let asker = doormen.command("a", &["approve", "dan"]).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let open = "SELECT count(*) FROM doorman.command WHERE deadline > CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";
    doormen.until("asked", async || database.count(open).await == 1).await;
    a.kill().await;
    drop(asker);
    doormen.until("too late", async || database.count(open).await == 0).await;
    assert_eq!(database.count("SELECT count(*) FROM doorman.command").await, 1);
    b.signal(Signal::SIGCONT);
    b.said("member_lost", 1).await.unwrap();
    // Commands are taken in their order: when a later one is done, an earlier one would have been.
    let now = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";
    let op = format!(r#"{{"op":"answer","verdict":"approve","target":"eve","agent":"{agent}","exact":true}}"#);
    let sql = format!(
        "INSERT INTO doorman.command (id, lease, op, person, made_by, made_at, deadline)
         VALUES ('later', $1, $2, 'ann', 'test', {now}, {now} + 60000000)"
    );
    Database::client(&database.url).await.execute(&sql, &[&agent, &op]).await.unwrap();
    let done = "SELECT count(*) FROM doorman.command WHERE id = 'later' AND reply LIKE '%approved%'";
    doormen.until("a later one is done", async || database.count(done).await == 1).await;
    assert_eq!(
        (status_of(&doormen, "carol"), status_of(&doormen, "dan")),
        ((SandboxStatus::Pending, 0), (SandboxStatus::Pending, 0))
    );
    for id in ["carol", "dan"] {
        let (code, out, err) = doormen.cli("b", &["reject", id]).await;
        assert_eq!(code, 0, "{out}{err}");
    }
    b.stop().await.unwrap();
    doormen.judge(database).await;
}

/// The holder takes a command, puts the answer's intent on record, and stands still: the next holder finds that out, and the person
/// reads what became of it.
pub async fn taken_again(database: &Database) {
    let doormen = Doormen::of(1, database).await;
    doormen.files("b", RULES, "");
    let b = doormen.start_told("b", &[("DOORMAN_STOP_AT", "intent:1")]);
    doormen.have(database, &["b"], &[1]).await;
    let a = doormen.start("a");
    doormen
        .until("two are there", async || {
            database.count("SELECT count(*) FROM doorman.member WHERE state = 'up'").await == 2
        })
        .await;
    let agent = &doormen.agents[0];
    asks(&doormen, agent, "people/carol", "carol");
    pending(&doormen, "a", &["carol"]).await;
    let (code, out, err) = doormen.cli("a", &["approve", "@people/carol", "--as", "ann"]).await;
    assert!(code == 0 && out.contains("approved @people/carol"), "{code} {out}{err}");
    assert!(a.count("command_taken") == 1 && doormen.counts(database, &["a"]).await == [1], "taken by the next holder");
    assert_eq!(status_of(&doormen, "carol"), (SandboxStatus::Approved, 1));
    b.signal(Signal::SIGCONT);
    b.said("member_lost", 1).await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM doorman.answer").await, 1);
    b.stop().await.unwrap();
    a.stop().await.unwrap();
    doormen.judge(database).await;
}

/// A holder takes a removal and dies before it begins. The record says that the same person removed this contact before; it was made
/// again since. The next holder removes it, and does not take the record's word for it.
pub async fn revoked_before(database: &Database) {
    let doormen = Doormen::of(1, database).await;
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[1]).await;
    let agent = doormen.agents[0].as_str();
    asks(&doormen, agent, "friends/carol", "carol");
    let known = async || doormen.cli("a", &["contacts"]).await.1.contains("friends/carol");
    doormen.until("carol is a contact", known).await;
    let there = |doormen: &Doormen| doormen.control.state().contacts.into_iter().find(|one| one.of == agent);
    let contact = there(&doormen).unwrap().id;
    let chosen = serde_json::json!({ "agent": agent, "contact": contact, "handle": "friends/carol" });
    let op = serde_json::json!({ "op": "revoke", "contacts": [chosen] });
    let client = Database::client(&database.url).await;
    let before = format!(
        "INSERT INTO doorman.removal (agent, contact, \"by\", at, attempts, last_at, outcome, outcome_at)
             SELECT n, '{contact}', 'person:ann', 1, 1, 1, 'removed', 2 FROM doorman.agent WHERE id = '{agent}';
         INSERT INTO doorman.command (id, lease, op, person, made_by, made_at, deadline, taken_by, taken_epoch)
             SELECT 'begun', name, '{op}', 'ann', 'gone', 1, 9000000000000000, 'gone', epoch - 1
             FROM doorman.lease WHERE name = '{agent}'"
    );
    client.batch_execute(&before).await.unwrap();
    let ended = "SELECT count(*) FROM doorman.command WHERE ended_at IS NOT NULL";
    doormen.until("the command has ended", async || database.count(ended).await == 1).await;
    let reply: String = client.query_one("SELECT reply FROM doorman.command", &[]).await.unwrap().get(0);
    assert!(there(&doormen).is_none(), "still a contact, and the person reads {reply}");
    assert!(reply.contains(r#""removed":["friends/carol"]"#), "{reply}");
    a.stop().await.unwrap();
}
