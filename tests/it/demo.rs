//! The newcomer's first command, as the newcomer runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_evening_shows_every_kind_of_stranger_and_ends_by_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_doorman")).arg("demo").output().expect("the demo runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "approve  @Ann                   rule `friends` matches",
        "reject   mallory/offers         rule `blocked` matches",
        "defer    j0hn                   looks like a protected owner",
        "defer    (no handle)            the handle is absent or malformed",
        "defer    acme/8-bot             the limit of `acme-bots` is used up",
        "settled  demo-erin              approved, not by doorman",
        "settled  demo-frank             cancelled, not by doorman",
        "contact  ann                    removed",
        "approve  john                   rule `friends` matches",
        "answers: 10 applied; 8 left pending for a person",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "strangers' text is harmless:\n{text}");
    let files =
        text.lines().find_map(|line| line.strip_prefix("the daemon's files are in ")).expect("where its files are");
    assert!(!std::path::Path::new(files).exists(), "and they are gone");
}

/// Whoever ran `cargo run -- demo --keep` has no `doorman` on the PATH.
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
    kill(pid, Signal::SIGINT).expect("it is told to end");
    assert!(demo.wait().expect("it ends").success());
    let asked = asked.unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(asked.status.success(), "{line}: {}", String::from_utf8_lossy(&asked.stderr));
}
