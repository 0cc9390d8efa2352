//! Every policy that doorman ships loads without an error or a warning and passes its own tests; a broken one does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use doorman::policy::{self, LintContext, LoadedPolicy};
use jiff::SignedDuration;

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn shipped() -> Vec<PathBuf> {
    let recipes = std::fs::read_dir(config().join("recipes")).expect("the recipes");
    let mut files: Vec<_> = recipes.map(|entry| entry.expect("a recipe").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.push(config().join("rules.toml"));
    files.sort();
    files
}

/// Like `doorman check --strict`, on a fixed day.
fn check(path: &Path) -> LoadedPolicy {
    let mut loaded = policy::load(path, None, &policy::Shrunk::Refuse);
    let now = "2026-11-23T12:00:00Z".parse().ok();
    let facts = LintContext { now, keep: Some(SignedDuration::from_hours(24 * 400)), ..LintContext::default() };
    policy::lint(&mut loaded, &facts);
    loaded
}

#[test]
fn every_shipped_policy_is_clean_and_tested() {
    let files = shipped();
    assert_eq!(files.len(), 19, "rules.toml and eighteen recipes");
    for path in files {
        let loaded = check(&path);
        let report = loaded.report.render(false);
        assert!(report.is_empty(), "{}\n{report}", path.display());
        assert!(loaded.tests.len() >= 5, "{} has tests", path.display());
        assert!(loaded.tests.iter().all(|test| test.passed));
    }
}

#[test]
fn a_broken_one_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    for list in ["friends.txt", "blocked.txt"] {
        std::fs::copy(config().join(list), dir.path().join(list)).expect("copied");
    }
    let path = dir.path().join("rules.toml");
    let whole = std::fs::read_to_string(config().join("rules.toml")).expect("read");
    std::fs::write(&path, &whole).expect("written");
    assert!(check(&path).report.problems.is_empty(), "whole, it is clean elsewhere, too");
    for (part, broken) in [
        ("then = \"reject\"\nwhen = { list = \"blocked\" }", "then = \"reject\"\nwhen = { lists = \"blocked\" }"),
        ("when = { list = \"friends\" }\n", "when = { list = \"friend\" }\n"),
        ("count = 5", "count = 6"),
        ("[policy]", "[policy"),
    ] {
        assert!(whole.contains(part), "{part}");
        std::fs::write(&path, whole.replacen(part, broken, 1)).expect("written");
        let loaded = check(&path);
        assert!(loaded.policy.is_none() && loaded.report.has_errors(), "{broken}");
    }
}

#[test]
fn the_schema_is_the_committed_one() {
    let committed = std::fs::read_to_string(config().join("rules.schema.json")).expect("the schema");
    let made = format!("{:#}\n", policy::schema());
    assert!(committed == made, "run `cargo run -- schema rules > config/rules.schema.json`");
}

#[test]
fn every_shipped_policy_points_to_the_schema() {
    for path in shipped() {
        let text = std::fs::read_to_string(&path).expect("read");
        let first = text.lines().next().unwrap_or_default();
        let target = first.strip_prefix("#:schema ").expect("a first line that names the schema");
        assert!(path.parent().expect("a parent").join(target).exists(), "{}", path.display());
    }
}

fn doorman(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_doorman")).args(args).output().expect("doorman runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_runs_them() {
    let rules = config().join("rules.toml");
    let rules = rules.to_str().expect("a path");
    let (code, out, _) = doorman(&["test", "--rules", rules]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("sixth-acme-bot") && out.ends_with("16 passed, 0 failed\n"), "{out}");

    let (code, out, _) = doorman(&["test", "--rules", rules, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["passed"].as_u64(), json["failed"].as_u64()), (0, Some(16), Some(0)));
}

#[test]
fn the_command_says_what_failed_and_what_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rules.toml");
    let rules = path.to_str().expect("a path");
    let (code, out, err) = doorman(&["test", "--rules", rules]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains("cannot be read: no such file"), "{err}");

    let text = "version = 1\n[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n\
                [tests.b]\nrequest = { from_handle = \"bob\" }\nexpect = { verdict = \"approve\" }\n";
    std::fs::write(&path, text).expect("written");
    let (code, out, _) = doorman(&["test", "--rules", rules]);
    assert_eq!(code, 1);
    assert!(out.contains("expected approve, got defer by no_match") && out.contains("no rule matches"), "{out}");

    std::fs::write(&path, text.replace("owner", "onwer")).expect("written");
    let (code, _, err) = doorman(&["test", "--rules", rules]);
    assert_eq!(code, 78);
    assert!(err.contains("did you mean `owner`?") && err.contains("rules.toml:4:10"), "{err}");
}
