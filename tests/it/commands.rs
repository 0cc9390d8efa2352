//! What people may count on in every command: that its output was written, and that it tells things apart.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::faults::site::Site;

const ANA: &str = "a0000000-0000-4000-8000-000000000001";
const BEN: &str = "b0000000-0000-4000-8000-000000000002";
const RULES: &str = "version = 1\n[rules.mine]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n";

/// Two agents, of whom the ledger knows one.
struct Place(tempfile::TempDir);

impl Place {
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
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    for arguments in
        [&["config"][..], &["config", "--json"], &["check"], &["man"], &["completions", "bash"], &["schema"], &["test", "--rules", "rules.toml"]]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("written") || said.contains("write"), "{arguments:?}: {said}");
    }
}

/// A key that is not there is not the platform's no: nobody was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_key_is_told_as_missing() {
    let site = Site::start().await;
    std::fs::remove_file(site.path("agent.key")).unwrap();
    let daemon = site.daemon();
    daemon.stands("refused").await.unwrap();
    daemon.said("listing_failed", 1).await.unwrap();
    let lines = daemon.lines();
    for line in &lines {
        let text = line.to_string();
        let about = ["key_refused", "listing_failed", "state_changed"].iter().any(|event| line["event"] == *event);
        assert!(!about || !text.contains("refuses the key") && !text.contains("401"), "{line}");
    }
    let refused = lines.iter().find(|line| line["event"] == "key_refused").unwrap();
    assert!(refused["why"].as_str().is_some_and(|why| why.starts_with("no key from the file `")), "{refused}");
    let (_, out, _) = site.cli(&["status"]).await;
    assert!(out.contains("no key from the file") && !out.contains("401"), "{out}");
    // Put in its place, it is found.
    std::fs::write(site.path("agent.key"), crate::faults::site::KEY).unwrap();
    daemon.stands("live").await.unwrap();
    daemon.stop().await.unwrap();
}

#[test]
fn without_any_key_the_environments_agent_is_told_of_its_own_variable() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.toml"), RULES).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.arg("check").current_dir(directory.path()).env_clear();
    command.env("HOME", directory.path()).env("DOORMAN_AGENT_ID", ANA).env("DOORMAN_RULES", "rules.toml");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`DOORMAN_API_KEY_FILE`"), "{said}");
}
