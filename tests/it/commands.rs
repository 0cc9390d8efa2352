//! Guarantees of every command: its output was written, and an agent is found by the beginning of its id; otherwise the
//! existing agents are named.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use doorman::ledger::{Ledger, LedgerOptions, Record, Via};
use doorman::model::{AgentId, ContactRequest, PausedBy, RequestId, Sender};
use doorman::sandbox::NewRequest;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::faults::site::{AGENT, Site};

const ANA: &str = "a0000000-0000-4000-8000-000000000001";
const BEN: &str = "b0000000-0000-4000-8000-000000000002";
const RULES: &str = "version = 1\n[rules.mine]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n";

/// Two agents; the ledger knows one of them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let text = format!(
            "[[agents]]\nid = \"{ANA}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
             [[agents]]\nid = \"{BEN}\"\napi_key_file = \"agent.key\"\nrules = \"other.toml\"\n\
             [ledger]\npath = \"ledger.db\"\n"
        );
        let other = RULES.replace("approve", "reject");
        for (name, text) in
            [("doorman.toml", text.as_str()), ("rules.toml", RULES), ("other.toml", &other), ("agent.key", "key")]
        {
            std::fs::write(place.path(name), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.args(arguments).args(["--config", "doorman.toml"]).current_dir(self.0.path());
        command.env_clear().env("HOME", self.0.path()).env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Exit code, stdout and stderr.
    fn doorman(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    async fn record(&self, entries: Vec<Record>) {
        let ledger = Ledger::open(&self.path("ledger.db"), LedgerOptions::default()).unwrap();
        ledger.commit(entries).await.unwrap();
        ledger.close().await.unwrap();
    }
}

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

fn seen(id: &str) -> Record {
    let request = ContactRequest {
        id: RequestId::parse(id).unwrap(),
        sender: Sender::parse(Some("ann")),
        name: None,
        message: None,
        inserted_at: None,
        ids: None,
    };
    Record::Seen { agent: agent(ANA), request: request.into(), via: Via::Event, at: Timestamp::now() }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Folder::new();
    for arguments in [
        &["config"][..],
        &["config", "--json"],
        &["check"],
        &["man"],
        &["completions", "bash"],
        &["schema"],
        &["test", "--rules", "rules.toml"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("written") || said.contains("write"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn an_agent_is_found_by_the_beginning_of_its_id_and_an_unknown_one_is_no_silence() {
    let place = Folder::new();
    let handle = doorman::model::StrangerText::new("ana/helper");
    place.record(vec![seen("r1"), Record::Named { agent: agent(ANA), handle, at: Timestamp::now() }]).await;
    let requests = |agent: &str| place.doorman(&["history", "--json", "--agent", agent]);
    // Also by its handle, while no daemon runs.
    for whole_or_beginning in [ANA, "a000", "ana/helper", "@Ana/Helper"] {
        let (code, out, err) = requests(whole_or_beginning);
        assert!(code == 0 && out.contains("\"r1\""), "{whole_or_beginning}: {out}{err}");
    }
    let (code, out, err) = requests("b000");
    assert_eq!((code, out.as_str()), (0, ""), "one that is configured and was never asked: {err}");
    for (arguments, known) in [
        (&["history", "--agent", "c0ffee"][..], &[ANA, BEN][..]),
        (&["history", "--agent", "c0ffee", "--ledger", "ledger.db"], &[ANA]),
        (&["explain", "ann", "--agent", "c0ffee"], &[ANA, BEN]),
        (&["explain", "r1", "--agent", "c0ffee"], &[ANA, BEN]),
        (&["explain", "@ann", "--agent", "c0ffee"], &[ANA, BEN]),
        (&["replay", "--rules", "rules.toml", "--agent", "c0ffee"], &[ANA, BEN]),
    ] {
        let (code, out, err) = place.doorman(arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
        assert!(err.contains("`c0ffee`") && known.iter().all(|id| err.contains(id)), "{arguments:?}: {err}");
    }
    let by = |beginning: &str| {
        let (code, out, err) = place.doorman(&["explain", "ann", "--json", "--fresh", "--agent", beginning]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["verdict"].clone()
    };
    assert_eq!((by("a000"), by("b000")), (json!("approve"), json!("reject")));
}

#[tokio::test]
async fn explain_of_a_paused_agent_says_paused() {
    let place = Folder::new();
    let pause = |on: bool| Record::Pause {
        agent: agent(ANA),
        on,
        by: PausedBy::Person("kim".into()),
        note: None,
        at: Timestamp::now(),
    };
    let by = || {
        let (code, out, err) = place.doorman(&["explain", "ann", "--json", "--agent", "a000"]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["by"].clone()
    };
    assert_eq!(by(), "mine");
    place.record(vec![pause(true)]).await;
    assert_eq!(by(), "paused");
    place.record(vec![pause(false)]).await;
    assert_eq!(by(), "mine");
}

#[tokio::test]
async fn refused_rules_are_shown_with_line_and_caret_by_every_command() {
    let place = Folder::new();
    place.record(vec![seen("r1")]).await;
    std::fs::write(place.path("rules.toml"), RULES.replace("owner", "onwer")).unwrap();
    for arguments in [
        &["explain", "ann", "--rules", "rules.toml"][..],
        &["replay", "--rules", "rules.toml"],
        &["test", "--rules", "rules.toml"],
        &["check", "--rules", "rules.toml"],
    ] {
        let (code, _, err) = place.doorman(arguments);
        assert_eq!(code, 78, "{arguments:?}: {err}");
        for part in ["rules.toml:4:", "^^^^^", "did you mean `owner`?"] {
            assert!(err.contains(part), "{arguments:?}: no `{part}` in\n{err}");
        }
    }
}

#[test]
fn explain_reads_times_as_history_does() {
    let place = Folder::new();
    for at in ["2026-01-05", "2026-01-05T12:00", "2h", "2026-01-05T12:00:00Z"] {
        let (code, _, err) = place.doorman(&["explain", "ann", "--rules", "rules.toml", "--at", at]);
        assert_eq!(code, 0, "{at}: {err}");
    }
    let (code, _, err) = place.doorman(&["explain", "ann", "--rules", "rules.toml", "--at", "someday"]);
    assert!(code == 2 && err.contains("such as `2026-11-23`"), "{err}");
}

/// A request that a rule would approve if it were not in shadow waits for no person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_shadow_pending_and_status_count_the_deferred_alike() {
    let site = Site::start().await;
    let daemon = site.daemon_with(&["--shadow"]);
    daemon.stands("live").await.unwrap();
    for (id, from) in [("r1", "friends/a"), ("r2", "strangers/b")] {
        site.control.request(&NewRequest::to(AGENT).from(from).id(id)).unwrap();
    }
    daemon.said("decided", 2).await.unwrap();
    let (_, out, err) = site.cli(&["status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {err}"));
    let (_, out, _) = site.cli(&["pending", "--json"]).await;
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let deferred: Vec<&Value> = rows.iter().filter(|row| row["stage"] == "deferred").collect();
    assert_eq!((rows.len(), &status["agents"][0]["deferred"]), (2, &json!(deferred.len())), "{out}");
    assert_eq!(deferred[0]["request"], "r2");
    daemon.stop().await.unwrap();
}

/// An id that `pending` shortens on a narrow terminal can be used in a command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_found_by_the_beginning_of_its_id() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for id in ["0192f3c4-9a1b-7000-8000-000000000001", "0192f3c4-9a2c-7000-8000-000000000002"] {
        site.control.request(&NewRequest::to(AGENT).from("strangers/b").id(id)).unwrap();
    }
    site.until("both are on record", |_| crate::faults::checks::on_record(&site) == 2).await.unwrap();
    for (beginning, code) in [("0192f3c4", 1), ("0192f3c", 1), ("0192f3c4-9a2", 0)] {
        let (explained, out, err) = site.cli(&["explain", beginning, "--json"]).await;
        assert!(code == 0 || beginning.len() < 8 || explained == 1, "{beginning}: {out}{err}");
        let (answered, out, err) = site.cli(&["approve", beginning]).await;
        assert_eq!(answered, code, "{beginning}: {out}{err}");
    }
    let (code, out, err) = site.cli(&["explain", "0192f3c4-9a1"]).await;
    assert!(code == 0 && out.contains("strangers/b"), "{out}{err}");
    let pending = site.control.state().requests.into_iter().filter(|request| request.answered == 0);
    assert_eq!(pending.map(|request| request.id).collect::<Vec<_>>(), ["0192f3c4-9a1b-7000-8000-000000000001"]);
    daemon.stop().await.unwrap();
}

/// A missing key is not reported as refused by the platform: the platform was not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_key_is_reported_as_missing() {
    let site = Site::start().await;
    std::fs::remove_file(site.path("agent.key")).unwrap();
    let daemon = site.daemon();
    daemon.stands("refused").await.unwrap();
    let lines = daemon.lines();
    for line in &lines {
        let text = line.to_string();
        let about = ["key_refused", "state_changed"].iter().any(|event| line["event"] == *event);
        assert!(!about || !text.contains("refuses the key") && !text.contains("401"), "{line}");
    }
    let refused = lines.iter().find(|line| line["event"] == "key_refused").unwrap();
    assert!(refused["why"].as_str().is_some_and(|why| why.starts_with("no key from the file `")), "{refused}");
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("no key from the file") && !out.contains("401"), "{out}");
    // After the file is put in its place, the key is found.
    std::fs::write(site.path("agent.key"), crate::faults::site::KEY).unwrap();
    daemon.stands("live").await.unwrap();
    daemon.stop().await.unwrap();
}

#[test]
fn without_any_key_the_error_names_the_variable_of_the_environments_agent() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.toml"), RULES).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.arg("check").current_dir(directory.path()).env_clear();
    command.env("HOME", directory.path()).env("DOORMAN_AGENT_ID", ANA).env("DOORMAN_RULES", "rules.toml");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`DOORMAN_API_KEY_FILE`"), "{said}");
}

#[test]
fn the_configuration_of_this_directory_counts_if_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (here, other) = (directory.path(), directory.path().join("other"));
    std::fs::create_dir(&other).unwrap();
    for (place, list) in [(here, "friends"), (other.as_path(), "others")] {
        let agents = format!(
            "[platform]\nurl = \"http://127.0.0.1:9\"\n[[agents]]\nid = \"{ANA}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n"
        );
        std::fs::write(place.join("doorman.toml"), agents).unwrap();
        let rules = format!(
            "version = 1\n[lists.{list}]\nentries = [\"ann\"]\n[rules.let-in]\nthen = \"approve\"\nwhen = {{ list = \"{list}\" }}\n"
        );
        std::fs::write(place.join("rules.toml"), rules).unwrap();
    }
    let said = |arguments: &[&str], directory: &std::path::Path, named: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.args(arguments).current_dir(directory).env_clear().env("HOME", directory);
        let output = command.envs(named.map(|file| ("DOORMAN_CONFIG", file))).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{out}{err}")
    };
    let (doctor, show) = (["doctor", "--no-connect"], ["list", "show"]);
    assert!(
        said(&doctor, here, None).contains("configuration") && !said(&doctor, here, None).contains("no configuration")
    );
    assert!(said(&show, here, None).contains("friends"), "{}", said(&show, here, None));
    // A configuration that is named takes precedence over the one in this directory.
    for arguments in [&doctor[..], &show, &["check"]] {
        let printed = said(arguments, here, Some("other/doorman.toml"));
        assert!(printed.contains("other") && !printed.contains("friends"), "{arguments:?}: {printed}");
    }
    if std::path::Path::new("/etc/doorman/doorman.toml").exists() {
        return;
    }
    std::fs::create_dir(here.join("empty")).unwrap();
    let printed = said(&show, &here.join("empty"), None);
    assert!(
        printed.contains("there is no configuration that names rules") && !printed.contains("no lists"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_quiet_history_says_by_its_exit_status_whether_something_fits() {
    let place = Folder::new();
    place.record(vec![seen("r1")]).await;
    for (arguments, code) in [
        (&["history", "-q"][..], 0),
        (&["history", "-q", "--handle", "@ann", "--since", "1h"], 0),
        (&["history", "-q", "--handle", "@bob"], 1),
        (&["history", "-q", "--until", "2020-01-01"], 1),
        (&["logs", "--quiet", "--outcome", "pending"], 0),
    ] {
        assert_eq!(place.doorman(arguments), (code, String::new(), String::new()), "{arguments:?}");
    }
    for other in ["--json", "--csv", "-f"] {
        assert_eq!(place.doorman(&["history", "-q", other]).0, 2, "{other}");
    }
}

#[tokio::test]
async fn a_revoke_of_very_many_takes_the_oldest_and_says_how_many_are_left() {
    let place = Folder::new();
    place.record(vec![seen("r1")]).await;
    let ledger = rusqlite::Connection::open(place.path("ledger.db")).unwrap();
    let all = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20003)";
    let contacts = format!(
        "{all} INSERT INTO contact (agent, id, owner, handle, kind, inserted_at, added_at)
         SELECT 1, 'contact-' || n, 'bots', 'bots/' || n, 'agent', n, n FROM c;
         INSERT INTO contact_owner (contact, owner, agent, at) SELECT n, owner, agent, added_at FROM contact;"
    );
    ledger.execute_batch(&contacts).unwrap();
    drop(ledger);
    let (code, out, err) = place.doorman(&["revoke", "bots/*", "--any", "--dry-run", "--json"]);
    assert_eq!((code, out.lines().count()), (0, 20_000), "{err}");
    assert!(out.lines().next().unwrap().contains("\"bots/1\"") && !out.contains("\"bots/20001\""));
    assert!(err.contains("the oldest 20000: 3 more are for the next time"), "{err}");
    // A contact named by its id, or by the beginning of it, is found; the beginning of several ids is not enough.
    for (named, code, lines) in
        [("contact-20003", 0, 1), ("contact-1999", 0, 1), ("contact-1", 0, 1), ("contact-x", 1, 0)]
    {
        let (found, out, err) = place.doorman(&["revoke", named, "--any", "--dry-run", "--json"]);
        assert_eq!((found, out.lines().count()), (code, lines), "{named}: {err}");
    }
    let (code, _, err) = place.doorman(&["revoke", "contact-", "--any", "--dry-run"]);
    assert!(code == 1 && err.contains("several ids begin with `contact-`"), "{err}");
    // Several names of one contact count as one.
    let several = ["revoke", "bots/7", "@bots/7", "contact-7", "bots/7", "--any", "--dry-run", "--json"];
    assert_eq!(place.doorman(&several).1.lines().count(), 1);
}

#[tokio::test]
async fn what_check_finds_good_here_is_what_the_other_commands_use() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Folder::new();
    place.record(vec![seen("r1")]).await;
    let here = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.args(arguments).current_dir(place.0.path()).env_clear().env("HOME", place.path("home"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let commands: [&[&str]; 4] = [
        &["history", "--json"],
        &["explain", "r1", "--json"],
        &["ledger", "info", "--json"],
        &["contacts", "--agent", "b000"],
    ];
    for command in commands {
        let (code, out, err) = here(command);
        assert!(code == 0 && !err.contains("there is none"), "{command:?}: {out}{err}");
    }
    let (_, config, _) = here(&["config", "--json"]);
    assert!(config.contains("\"doorman.toml\""), "{config}");
    // One that others may write may be another's word: it is said, and not used.
    let file = place.path("doorman.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    for command in commands {
        let (code, out, err) = here(command);
        assert!(code != 0 && err.contains("not used"), "{command:?}: {out}{err}");
    }
    assert_eq!(place.doorman(&["history", "-q"]).0, 0, "whoever names it means it");
}
