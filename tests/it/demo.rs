//! The first command of a new user, run as the new user runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_evening_shows_every_kind_of_stranger_and_ends_by_itself() {
    let files = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .arg("demo")
        .env("TMPDIR", files.path())
        .output()
        .expect("the demo runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let squeezed: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "approve @Ann friends ✓",
        "approve john/weather-agent friends ✓",
        "reject mallory/offers blocked ✓",
        "reject bob sales-talk ✓",
        "defer j0hn guard:look-alike … waits for a person",
        "defer carol no_match … waits for a person",
        "defer (no handle) guard:handle-not-plain … waits",
        "defer acme/8-bot limit:acme-bots … waits for a person",
        "$ doorman approve @carol",
        "approved erin not by doorman",
        "cancelled frank not by doorman",
        "approve john friends ✓",
        "kill -9",
        "50 asked, 50 rejected, 0 lost, 0 answered twice",
    ] {
        assert!(squeezed.iter().any(|shown| shown.contains(line)), "no `{line}` in\n{text}");
    }
    for next in [" recipes ", " sandbox ", " init my-agent "] {
        assert!(text.rsplit("Next:").next().is_some_and(|end| end.contains(next)), "no `{next}` in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "a line is wider than 80 columns:\n{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "strangers' text is harmless:\n{text}");
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 0, "its files are gone");
}

/// After `cargo run -- demo --keep` there is no `doorman` on the PATH.
#[test]
fn what_it_says_to_run_afterwards_can_be_run() {
    let program = env!("CARGO_BIN_EXE_doorman");
    let mut demo =
        Command::new(program).args(["demo", "--keep"]).stdout(Stdio::piped()).spawn().expect("the demo runs");
    let pid = Pid::from_raw(demo.id().try_into().expect("a pid"));
    let mut lines = BufReader::new(demo.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains(" status --socket ")).expect("how to ask for the status");
    let words: Vec<&str> = line.split_whitespace().collect();
    let asked = Command::new(words[0]).args(&words[1..]).output();
    kill(pid, Signal::SIGINT).expect("it gets the signal");
    assert!(demo.wait().expect("it ends").success());
    let asked = asked.unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(asked.status.success(), "{line}: {}", String::from_utf8_lossy(&asked.stderr));
}
