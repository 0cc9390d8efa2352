//! How the commands read a configuration: `check` refuses what `run` would refuse, `init` writes nothing that `run`
//! would refuse, `config` says where every value came from, and no command shows a key.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{AGENT, KEY, Site};

const RULES: &str = "version = 1\n[policy]\nmode = \"shadow\"\nno_match = \"defer\"\n";

/// Runs the binary in a directory, with only these variables; returns its exit code and its whole output.
fn doorman(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let key = directory.join("given.key");
    std::fs::write(&key, "given-key").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .envs(variables.iter().copied())
        .stdin(Stdio::from(std::fs::File::open(key).unwrap()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

/// A directory with a configuration, rules, and a key that nobody else may read.
fn place(before: &str, of_agent: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let agent = format!("{before}[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\n{of_agent}");
    for (name, text) in [("doorman.toml", agent.as_str()), ("rules.toml", RULES), ("agent.key", KEY)] {
        std::fs::write(here.join(name), text).unwrap();
        std::fs::set_permissions(here.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    directory
}

const CHECK: [&str; 3] = ["check", "--config", "doorman.toml"];

#[test]
fn check_refuses_a_ca_file_that_run_could_not_use_at_its_key() {
    let directory = place("[platform]\nca_file = \"nope.pem\"\n", "");
    let (code, said) = doorman(directory.path(), &CHECK, &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("doorman.toml:2:11") && said.contains("nope.pem"), "{said}");
    let plain = place("[platform]\nurl = \"http://127.0.0.1:9\"\nca_file = \"nope.pem\"\n", "");
    let (code, said) = doorman(plain.path(), &CHECK, &[]);
    assert_eq!(code, Some(0), "nothing is spoken to over TLS: {said}");
}

#[test]
fn check_shows_no_key_that_stands_in_the_file() {
    let directory = place("", "api_key = 'band_SECRET'\n");
    let (code, said) = doorman(directory.path(), &CHECK, &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("put it in a file of its own: `api_key_file`") && !said.contains("SECRET"), "{said}");
}

#[test]
fn check_refuses_a_mistyped_log_level_as_run_does() {
    let directory = place("", "");
    let here = directory.path();
    for (arguments, variable) in [
        (&CHECK[..], "inof"),
        (&["run", "--config", "doorman.toml"], "inof"),
        (&["run", "--config", "doorman.toml", "--log-level", "inof"], ""),
    ] {
        let (code, said) = doorman(here, arguments, &[("DOORMAN_LOG_LEVEL", variable)]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("did you mean `info`?"), "{said}");
    }
}

#[test]
fn check_warns_about_a_key_that_others_may_read_at_its_key() {
    let directory = place("", "");
    let here = directory.path();
    let (code, said) = doorman(here, &[&CHECK[..], &["--strict"]].concat(), &[]);
    assert_eq!(code, Some(0), "{said}");
    std::fs::set_permissions(here.join("agent.key"), PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = doorman(here, &[&CHECK[..], &["--strict"]].concat(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("doorman.toml:3:16") && said.contains("`chmod 600` it"), "{said}");
}

#[tokio::test]
async fn the_daemon_warns_of_a_key_that_others_may_read_once_at_start() {
    let site = Site::new("url = \"http://127.0.0.1:9\"");
    for (mode, warned) in [(0o600, 0), (0o644, 1)] {
        std::fs::set_permissions(site.path("agent.key"), PermissionsExt::from_mode(mode)).unwrap();
        let mut daemon = site.run(&[], &[]);
        daemon.says("it is up", |line| line["event"] == "started").await;
        let (code, said) = daemon.stop().await;
        assert_eq!(code, Some(0), "{said}");
        let lines: Vec<_> = said.lines().filter(|line| line.contains("\"key_exposed\"")).collect();
        assert_eq!(lines.len(), warned, "{said}");
        assert!(lines.iter().all(|line| line.contains("\"warn\"") && line.contains(AGENT)), "{said}");
    }
}

#[test]
fn config_says_where_everything_of_an_agent_came_from() {
    let directory = place("", "connection = \"poll\"\n");
    let here = directory.path();
    let (code, said) = doorman(here, &["config", "--config", "doorman.toml"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("rules.toml (the default), connection poll (the file)"), "{said}");
    let row = said.lines().find(|line| line.trim().starts_with("platform.rest_url")).unwrap();
    assert!(row.trim_end().ends_with("from `platform.url`"), "{row}");
    // Longer values leave the table straight.
    let header = said.lines().next().unwrap();
    let (value, from) = (header.find("VALUE").unwrap(), header.find("FROM").unwrap());
    let table: Vec<&str> = said.lines().take_while(|line| !line.is_empty()).collect();
    assert!(
        table.len() > 20 && table.iter().all(|line| &line[value - 1..value] == " " && &line[from - 1..from] == " ")
    );
    let (_, said) = doorman(here, &["config", "--json", "--config", "doorman.toml"], &[]);
    let shown: serde_json::Value = serde_json::from_str(&said).unwrap();
    let agent = &shown["agents"][0];
    assert_eq!((&agent["connection"], &agent["connection_from"]), (&"poll".into(), &"the file".into()));
    assert_eq!((&agent["id_from"], &agent["rules_from"]), (&"the file".into(), &"the default".into()));
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let directory = place("", "");
    let here = directory.path();
    let empty = [("DOORMAN_CONFIG", ""), ("DOORMAN_CONTROL_PATH", "")];
    let (code, said) = doorman(here, &CHECK, &empty);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = doorman(here, &["check", "--rules", "rules.toml"], &empty);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = doorman(here, &["status", "--config", "doorman.toml"], &empty);
    assert_eq!(code, Some(69), "{said}");
    let (code, said) = doorman(here, &["check"], &[("DOORMAN_CONFIG", "doorman.toml")]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn init_writes_nothing_that_the_daemon_would_refuse_and_repeats_no_password() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for url in
        ["ftp://x/y", "http://me:SECRET@x", "http://me:SECRET@[", "nonsense", "https://x/?api_key=SECRET", "x:a\"b"]
    {
        let (code, said) = doorman(here, &["init", "d", "--offline", "--agent", AGENT, "--url", url], &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("nothing was written") && !said.contains("SECRET"), "{said}");
        assert!(!here.join("d").exists(), "{url}: something was written");
    }
}

#[test]
fn init_says_to_run_the_daemon_only_if_its_check_is_content() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let init = |name: &str, agent: &str, variables: &[(&str, &str)]| {
        doorman(here, &["init", name, "--offline", "--agent", agent], variables)
    };
    let (code, said) = init("a", AGENT, &[("DOORMAN_TIMING_DRAIN", "soon")]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("correct what is reported") && !said.contains("doorman run"), "{said}");
    let (code, said) = init("b", &AGENT.to_uppercase(), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("doorman run"), "{said}");
    let written = std::fs::read_to_string(here.join("b/doorman.toml")).unwrap();
    assert!(written.contains(AGENT), "the id is written as the platform does: {written}");
}

#[test]
fn a_variable_that_is_not_utf8_is_refused_by_its_name() {
    let directory = place("", "");
    let here = directory.path();
    for variable in ["DOORMAN_LOG_LEVEL", "HOME", "DOORMAN_CONTROL_PATH"] {
        for command in ["run", "check", "doctor", "status", "history"] {
            let output = Command::new(env!("CARGO_BIN_EXE_doorman"))
                .args([command, "--config", "doorman.toml"])
                .current_dir(here)
                .env_clear()
                .env("HOME", here)
                .env(variable, std::ffi::OsStr::from_bytes(b"/tmp/\xff"))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if (command, variable) == ("status", "DOORMAN_CONTROL_PATH") {
                // A socket's path may be any bytes.
                assert_eq!(output.status.code(), Some(69), "{said}");
                continue;
            }
            assert_eq!(output.status.code(), Some(78), "{command} {variable}: {said}");
            assert!(said.contains(&format!("`{variable}` is not UTF-8")), "{command}: {said}");
        }
    }
}
