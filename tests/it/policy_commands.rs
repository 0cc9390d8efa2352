//! The commands that show what a policy does before it is trusted, with the real binary: `check`, `explain`, `replay`,
//! `schema`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use doorman::ledger::{Ledger, LedgerOptions, Record, Via};
use doorman::model::{AgentId, Answer, ContactRequest, Outcome, PausedBy, RequestId, Sender, StrangerText};
use doorman::policy::{self, Circumstances, ClockHealth, Policy};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::faults::site::Site;
use doorman::sandbox::NewRequest;

const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// An approval by list, a reject by a number of contacts that may be unknown, and a quota.
const RULES: &str = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { owner = [\"ann\", \"eve\"] }\n\
                     limit = { count = 1, per = \"1d\" }\n\
                     [rules.crowd]\nthen = \"reject\"\nwhen = { slug = \"crowd\", contacts_over = 7 }\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(rules: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path("rules.toml"), rules).unwrap();
        std::fs::write(place.path("agent.key"), "key-of-nobody-at-all").unwrap();
        std::fs::set_permissions(place.path("agent.key"), PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
             [ledger]\npath = \"ledger.db\"\nkeep = \"10d\"\n"
        );
        std::fs::write(place.path("doorman.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn doorman(&self, arguments: &[&str]) -> CommandOutput {
        let all = [&["--config", "doorman.toml"], arguments].concat();
        said(doorman(self.0.path(), &all))
    }

    fn policy(&self) -> std::sync::Arc<Policy> {
        policy::load(&self.path("rules.toml"), None, &policy::Shrunk::Refuse).policy.unwrap()
    }

    async fn record(&self, entries: Vec<Record>) {
        let ledger = Ledger::open(&self.path("ledger.db"), LedgerOptions::default()).unwrap();
        ledger.commit(entries).await.unwrap();
        ledger.close().await.unwrap();
    }
}

fn doorman(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.args(arguments).current_dir(directory).env_clear().env("HOME", directory).env("TZ", "UTC");
    command.output().unwrap()
}

struct CommandOutput {
    code: i32,
    out: String,
    err: String,
}

impl CommandOutput {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn said(output: Output) -> CommandOutput {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandOutput { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn agent() -> AgentId {
    AgentId::parse(AGENT).unwrap()
}

fn ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

fn request(name: &str, from: &str) -> ContactRequest {
    ContactRequest {
        id: RequestId::parse(name).unwrap(),
        sender: Sender::parse(Some(from)),
        name: None,
        message: Some(StrangerText::new("\u{1b}[31mlet me in")),
        inserted_at: None,
        ids: None,
    }
}

/// The records of a request that was decided under these rules, with this number of contacts; an approval was carried
/// out.
fn asked(policy: &Policy, name: &str, from: &str, contacts: Option<u64>, at: Timestamp) -> Vec<Record> {
    let request = request(name, from);
    let circumstances = Circumstances { contacts, ..Circumstances::new(at, ClockHealth::Sound) };
    let policy_state =
        policy::PolicyState::restore(policy::state::SavedState { history_complete: true, ..Default::default() });
    let decision = policy.decide(&request, &circumstances, &policy_state, at);
    let (id, answer) = (request.id.clone(), decision.verdict.answer());
    let mut entries = vec![
        Record::Policy { agent: agent(), hash: policy.hash.clone(), texts: policy.texts.clone(), at },
        Record::Seen { agent: agent(), request: request.into(), via: Via::Event, at },
        Record::Decided {
            agent: agent(),
            request: id.clone(),
            decision: Box::new(decision.clone()),
            circumstances,
            at,
        },
    ];
    if let Some(answer) = answer {
        let (by, policy, counts) = (decision.by.to_string(), Some(decision.policy), answer == Answer::Approve);
        let charges = decision.charges;
        entries.push(Record::Intent {
            agent: agent(),
            request: id.clone(),
            answer,
            by: doorman::policy::By::parse(&by).unwrap(),
            lasts: None,
            policy,
            head: None,
            charges,
            counts,
            attempt: 1,
            at,
        });
        entries.push(Record::Outcome {
            agent: agent(),
            request: id,
            outcome: Outcome::Confirmed(answer),
            detail: None,
            refusal: None,
            stay: None,
            at,
        });
    }
    entries
}

#[test]
fn check_exits_by_what_it_found() {
    let tested = format!(
        "{RULES}[tests.a]\nrequest = {{ from_handle = \"ann\" }}\nexpect = {{ verdict = \"approve\", by = \"friends\" }}\n\
         [tests.b]\nrequest = {{ from_handle = \"bob/crowd\", contacts = 8 }}\n\
         expect = {{ verdict = \"reject\", by = \"crowd\" }}\n"
    );
    let place = Folder::new(&tested);
    let clean = place.doorman(&["check", "--strict"]);
    assert_eq!((clean.code, clean.err.as_str()), (0, ""));
    std::fs::write(
        place.path("rules.toml"),
        format!("{tested}[rules.more]\nthen = \"defer\"\nwhen = {{ owner = \"x\" }}\n"),
    )
    .unwrap();
    let warned = place.doorman(&["check"]);
    assert_eq!(warned.code, 0);
    assert!(warned.err.contains("the rule `more` has no test"), "{}", warned.err);
    assert_eq!(place.doorman(&["check", "--strict"]).code, 1);
    std::fs::write(place.path("rules.toml"), tested.replace("owner", "onwer")).unwrap();
    let refused = place.doorman(&["check"]);
    assert_eq!(refused.code, 78);
    assert!(refused.err.contains("did you mean `owner`?") && refused.err.contains("rules.toml:4:"), "{}", refused.err);
    std::fs::write(place.path("rules.toml"), tested.replace("verdict = \"approve\"", "verdict = \"defer\"")).unwrap();
    assert_eq!(place.doorman(&["check"]).code, 78, "a test that fails");
    assert_eq!(place.doorman(&["check", "--rules", "nowhere.toml"]).code, 78);
}

/// Runs it in the directory; nothing else says where the configuration is.
fn here(place: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.args(arguments).env_clear().current_dir(place.path("rules.toml").parent().unwrap());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_finds_the_file_beside_it_and_reports_both_files_together() {
    let place = Folder::new(&RULES.replace("owner", "onwer"));
    let (code, out, _) = here(&place, &["check"]);
    assert!(code == 78 && out.starts_with("doorman.toml: 1 rules file(s) checked: "), "{out}");
    let good = std::fs::read_to_string(place.path("doorman.toml")).unwrap();
    for bad in [format!("{good}\n[ledgre]\n"), "no toml at all".to_owned()] {
        std::fs::write(place.path("doorman.toml"), bad).unwrap();
        let (code, _, err) = here(&place, &["check"]);
        assert!(code == 78 && err.contains("doorman.toml:") && err.contains("did you mean `owner`?"), "{err}");
    }
    let (code, out, err) = here(&place, &["check", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, printed["ok"].as_bool(), err.as_str()), (78, Some(false), ""));
    let problems = printed["problems"].as_array().unwrap();
    assert!(problems.iter().any(|one| one["path"] == "rules.toml" && one["line"] == 4), "{out}");
    let (_, out, _) = here(&place, &["check", "--format", "github"]);
    assert!(out.contains("::error file=rules.toml,title=doorman,line=4,col="), "{out}");
    let (_, out, _) = here(&place, &["check", "--format", "junit"]);
    assert!(out.contains("<testsuite name=\"doorman check\" tests=\"2\" failures=\"2\">"), "{out}");
}

#[tokio::test]
async fn check_knows_what_the_ledger_remembers() {
    let rules = "version = 1\n[rules.used]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n\
                 [rules.idle]\nthen = \"approve\"\nwhen = { owner = \"bob\" }\n\
                 [rules.trial]\nthen = \"reject\"\nshadow = true\nwhen = { owner = \"ann\" }\n\
                 [rules.memory]\nthen = \"defer\"\nwhen = { owner = \"cid\", history = { rejected_within = \"20d\" } }\n\
                 [tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n";
    let place = Folder::new(rules);
    let has = |said: &CommandOutput, words: &str| said.err.contains(words);
    let before = place.doorman(&["check"]);
    assert!(has(&before, "reaches further back than the ledger keeps"), "{}", before.err);
    assert!(!has(&before, "in 30 days") && !has(&before, "in shadow for"), "no ledger knows nothing");

    let policy = place.policy();
    let used =
        |at: Timestamp| Record::Policy { agent: agent(), hash: policy.hash.clone(), texts: policy.texts.clone(), at };
    place.record(vec![used(ago(45))]).await;
    assert!(!has(&place.doorman(&["check"]), "in 30 days"), "if nobody asked, nothing is said");
    place.record(asked(&policy, "r1", "ann", None, ago(2))).await;
    let after = place.doorman(&["check"]);
    assert!(has(&after, "nothing matched the rule `idle` in 30 days"), "{}", after.err);
    assert!(!has(&after, "the rule `used` in 30 days"), "{}", after.err);
    assert!(has(&after, "`trial` has been in shadow for more than 30 days"), "{}", after.err);
    assert_eq!(place.doorman(&["check", "--strict"]).code, 1);

    // A new rule has not had the time to match; neither has a rule that was removed in between.
    let other = Folder::new(&rules.replace("rules.idle", "rules.other"));
    let other = other.policy();
    let between = Record::Policy { agent: agent(), hash: other.hash.clone(), texts: other.texts.clone(), at: ago(20) };
    let again = Folder::new(rules);
    again.record(vec![used(ago(45)), between, used(ago(10))]).await;
    again.record(asked(&policy, "r1", "ann", None, ago(2))).await;
    let said = again.doorman(&["check"]);
    assert!(!has(&said, "`idle` in 30 days") && has(&said, "`memory` in 30 days"), "{}", said.err);
}

#[test]
fn explain_shows_somebody_who_never_asked() {
    let place = Folder::new(RULES);
    let printed = place.doorman(&["explain", "@Ann/bot"]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(printed.out.contains("approve") && printed.out.contains("friends"), "{}", printed.out);
    assert!(!printed.out.contains('\u{1b}'), "no colour in a pipe");
    let json = place.doorman(&["explain", "bob/crowd", "--json"]).json();
    assert_eq!((&json["verdict"], &json["by"]), (&json!("defer"), &json!("crowd")), "{json}");
    let crowd = json["reasons"].as_array().unwrap().iter().find(|reason| reason["rule"] == "crowd").unwrap();
    assert_eq!(crowd["matched"], Value::Null, "how many contacts there are is unknown");
    let json = place.doorman(&["explain", "bob/crowd", "--contacts", "8", "--json"]).json();
    assert_eq!((&json["verdict"], &json["by"]), (&json!("reject"), &json!("crowd")));
    let odd = place.doorman(&["explain", "--", "-x@@"]);
    assert_eq!(odd.code, 0);
    assert!(odd.out.contains("guard:handle-not-plain"), "{}", odd.out);
    std::fs::write(place.path("rules.toml"), "version = 2\n").unwrap();
    assert_eq!(place.doorman(&["explain", "ann"]).code, 78, "a refused file");
}

#[tokio::test]
async fn explain_shows_a_request_on_record_with_what_was_known_then() {
    let place = Folder::new(RULES);
    let policy = place.policy();
    place.record(asked(&policy, "r1", "ann/a", None, ago(3))).await;
    place.record(asked(&policy, "r2", "bob/crowd", Some(8), ago(2))).await;
    place.record(asked(&policy, "r3", "bob/crowd", Some(7), ago(2))).await;
    place.record(asked(&policy, "r4", "bob/crowd", None, ago(2))).await;
    let verdict = |arguments: &[&str]| {
        let json = place.doorman(&[&["explain", "--json"], arguments].concat()).json();
        format!("{} by {}", json["verdict"].as_str().unwrap(), json["by"].as_str().unwrap())
    };
    // The file now has other rules: only the recorded text counts.
    std::fs::write(place.path("rules.toml"), "version = 1\n").unwrap();
    assert_eq!(verdict(&["r1"]), "approve by friends");
    assert_eq!(verdict(&["r2"]), "reject by crowd");
    assert_eq!(verdict(&["r3"]), "defer by no_match");
    assert_eq!(verdict(&["r4"]), "defer by crowd", "unknown then, unknown now");
    assert_eq!(verdict(&["r4", "--contacts", "9"]), "reject by crowd");
    assert_eq!(verdict(&["r1", "--rules", "rules.toml"]), "defer by no_match");
    let clash = place.doorman(&["explain", "r1", "--message", "x"]);
    assert_eq!(clash.code, 2, "{}", clash.err);
    let printed = place.doorman(&["explain", "r2"]).out;
    assert!(printed.contains("contacts_over") && printed.contains('8') && !printed.contains('\u{1b}'), "{printed}");
}

/// Data that an old row lacks are unknown: the number of contacts, and whether the clock was sound.
#[tokio::test]
async fn a_record_from_before_says_unknown() {
    let place = Folder::new(RULES);
    let policy = place.policy();
    place.record(asked(&policy, "r1", "bob/crowd", Some(8), ago(2))).await;
    let ledger = rusqlite::Connection::open(place.path("ledger.db")).unwrap();
    assert_eq!(ledger.execute("UPDATE decision SET facts = '{}'", []).unwrap(), 1);
    drop(ledger);
    let json = place.doorman(&["explain", "r1", "--json"]).json();
    // The recorded verdict stays, and a different new decision is shown beside it.
    assert_eq!((&json["verdict"], &json["by"]), (&json!("reject"), &json!("crowd")), "{json}");
    let differs = &json["record"]["differs"];
    assert_eq!((&differs["verdict"], &differs["by"]), (&json!("defer"), &json!("crowd")), "{json}");
    let printed = place.doorman(&["explain", "r1"]).out;
    assert!(
        printed.starts_with("reject by crowd, decided at ") && printed.contains("which is not what was decided"),
        "{printed}"
    );
}

/// Pauses, holds and removed contacts of that moment are facts of a decision, too.
#[tokio::test]
async fn a_pause_and_a_hold_of_then_are_shown() {
    let place = Folder::new(RULES);
    let policy = place.policy();
    let (agent, id) = (agent(), RequestId::parse("r1").unwrap());
    let pause = |on, days| Record::Pause {
        agent: agent.clone(),
        on,
        by: PausedBy::Person("kim".into()),
        note: None,
        at: ago(days),
    };
    place.record(vec![pause(true, 9)]).await;
    place.record(asked(&policy, "r1", "bob", None, ago(8))).await;
    let hold = Record::Hold { agent: agent.clone(), request: id, person: Some("kim".into()), at: ago(4) };
    place.record(vec![pause(false, 6), hold]).await;
    let by = |days: i64| {
        let at = ago(days).to_string();
        place.doorman(&["explain", "r1", "--json", "--at", &at]).json()["by"].clone()
    };
    assert_eq!((by(7), by(5), by(3)), (json!("paused"), json!("no_match"), json!("hold:kim")));
}

#[tokio::test]
async fn replay_shows_new_approvals_first_and_fails_under_check() {
    let place = Folder::new(RULES);
    let policy = place.policy();
    for (name, from, days) in [("r1", "ann", 6), ("r2", "bob", 5), ("r3", "zed", 4), ("r4", "eve", 3)] {
        place.record(asked(&policy, name, from, None, ago(days))).await;
    }
    let same = place.doorman(&["replay", "--rules", "rules.toml", "--check"]);
    assert_eq!((same.code, same.err.as_str()), (0, ""), "no bar if nobody watches");
    assert!(same.out.contains("nothing would change in 4 requests"), "{}", same.out);
    std::fs::write(
        place.path("new.toml"),
        "version = 1\n[rules.in]\nthen = \"approve\"\nwhen = { owner = \"zed\" }\n\
         [rules.out]\nthen = \"reject\"\nwhen = { owner = [\"ann\", \"bob\"] }\n",
    )
    .unwrap();
    let found = place.doorman(&["replay", "--rules", "new.toml"]);
    assert_eq!(found.code, 0, "only --check fails");
    let rows: Vec<&str> = found.out.lines().skip(1).filter_map(|row| row.split_whitespace().last()).take(4).collect();
    assert_eq!(rows, ["r3", "r1", "r2", "r4"], "{}", found.out);
    assert!(found.out.contains("1 newly approved, 2 newly rejected, 1 newly left pending"), "{}", found.out);
    let checked = place.doorman(&["replay", "--rules", "new.toml", "--check", "--json"]);
    assert_eq!((checked.code, checked.err.as_str()), (1, ""));
    let changes = checked.json();
    assert_eq!((&changes["requests"], &changes["changes"][0]["request"]), (&json!(4), &json!("r3")));
    let recent = place.doorman(&["replay", "--rules", "new.toml", "--since", "3d12h", "--json"]).json();
    assert_eq!(recent["requests"], 1);
    std::fs::write(place.path("new.toml"), "version = 1\n[rules.x]\n").unwrap();
    assert_eq!(place.doorman(&["replay", "--rules", "new.toml"]).code, 78);
}

#[test]
fn schema_prints_what_is_committed() {
    let place = Folder::new(RULES);
    for (which, file) in [("rules", "rules.schema.json"), ("doorman", "doorman.schema.json")] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file);
        let said = place.doorman(&["schema", which]);
        assert_eq!((said.code, said.out), (0, std::fs::read_to_string(committed).unwrap()), "{file}");
    }
    assert_eq!(place.doorman(&["schema", "nothing"]).code, 2);
}

#[test]
fn every_command_says_what_it_is_for() {
    let place = Folder::new(RULES);
    let help = place.doorman(&["--help"]);
    let commands = help.out.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut counted = 0;
    for line in commands {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        assert!(words.count() >= 2, "`{name}` says nothing of itself");
        let own = place.doorman(&["help", name]);
        assert_eq!(own.code, 0, "{name}");
        let options = own.out.lines().filter(|line| line.trim_start().starts_with("--")).count();
        assert!(own.out.contains("Usage:") && !own.out.contains('\u{1b}') && options < 40, "{}", own.out);
        counted += 1;
    }
    assert!(counted > 15, "{}", help.out);
}

/// `explain` gives exactly the reasons that the daemon recorded, after the daemon has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_daemon_decided_is_explained_to_the_word() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES.replace("contacts_over = 7", "contacts_over = 0")).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for (id, from) in [("r1", "bob/crowd"), ("r2", "ann/a"), ("r3", "ann/b")] {
        let new = NewRequest { push: Some(true), ..NewRequest::to(AGENT) };
        site.control.request(&new.from(from).id(id)).unwrap();
        let decided = |lines: &[Value]| lines.iter().any(|line| line["event"] == "decided" && line["request"] == id);
        daemon.until(id, decided).await.unwrap();
    }
    daemon.said("answered", 1).await.unwrap();
    let lines = daemon.stop().await.unwrap();
    let config = site.path("doorman.toml");
    for (id, by) in [("r1", None), ("r2", Some("friends")), ("r3", Some("limit:friends"))] {
        let last = lines.iter().rfind(|line| line["event"] == "decided" && line["request"] == id).unwrap();
        assert!(by.is_none_or(|by| last["by"] == by), "{last}");
        let printed = said(doorman(site.dir.path(), &["explain", id, "--json", "--config", config.to_str().unwrap()]));
        let printed = printed.json();
        assert_eq!((&printed["verdict"], &printed["by"]), (&last["verdict"], &last["by"]), "{printed}");
    }
}

/// A rules file loads on every machine: the machine's own time zone data may lack the old names, or may be missing.
#[test]
fn an_old_name_of_a_time_zone_is_known_whatever_the_machine_has() {
    let window = |tz: &str| {
        format!(
            "version = 1\n[windows.office]\ntz = \"{tz}\"\ndays = [\"mon\"]\nfrom = \"09:00\"\nto = \"17:00\"\n\
             [rules.friends]\nthen = \"approve\"\nwhen = {{ owner = \"ann\", window = \"office\" }}\n"
        )
    };
    let folder = Folder::new(&window("US/Eastern"));
    std::fs::create_dir_all(folder.path("zones/Europe")).unwrap();
    // A machine of today: it has some zones, but not this one.
    let _ = std::fs::copy("/usr/share/zoneinfo/Europe/Paris", folder.path("zones/Europe/Paris"));
    for (tz, code) in [("US/Eastern", 0), ("Europe/Paris", 0), ("US/Nowhere", 78)] {
        std::fs::write(folder.path("rules.toml"), window(tz)).unwrap();
        for zones in ["zones", "no-such-directory"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
            command
                .args(["check", "--rules", "rules.toml"])
                .env("TZDIR", folder.path(zones))
                .current_dir(folder.0.path());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{tz} with {zones}: {said}");
        }
    }
}
