//! After many faults in the life of the real daemon: every line keeps the log's contract, the key appears nowhere, and
//! strangers' text controls no terminal.

mod child;
mod journal;
mod repeated;
mod seen;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, SandboxOptions};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::journal::Journal;
use self::seen::looked_at;
use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, KEY, Site};
use crate::logs::check_line;

/// Text that clears the screen, sets colours, makes links, reorders and hides characters, and imitates lines and
/// journald's fields.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}[31m\u{9b}1m\u{1b}]8;;http://evil\u{7}\u{202e}\u{2066}\u{61c}\u{200b}\u{feff}\u{2028}\u{ad}\u{e0041}\r\n{\"event\":\"decided\"}\nPRIORITY=0\nMESSAGE=forged\n\nDOORMAN_EVENT=forged\ny";

/// The first character that could steer a terminal or deceive a reader.
fn steers(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    })
}

/// The first line that a stranger wrote.
fn forged(text: &str) -> Option<&str> {
    let begins = ["{\"event\":\"decided\"}", "PRIORITY=", "MESSAGE=", "DOORMAN_EVENT="];
    text.lines().find(|line| begins.iter().any(|begin| line.trim_start().starts_with(begin)))
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// None of the daemon's files contains the key.
fn files_are_clean(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("agent.key") {
            assert!(!holds(&std::fs::read(&path).unwrap(), KEY), "the key is in {}", path.display());
        }
    }
}

/// Requests of strangers with hostile text, who are approved, rejected, or deferred.
fn hostile(site: &Site, round: &str) {
    for (handle, id) in [("friends/x", "friend"), ("foes/x", "foe"), (HOSTILE, "stranger")] {
        let new = NewRequest::to(AGENT).from(handle).named(HOSTILE).saying(HOSTILE).id(&format!("{round}-{id}"));
        site.control.request(&new).unwrap();
    }
}

/// Whether a line says this, in any format.
fn says(line: &Value, word: &str) -> bool {
    line.to_string().contains(word)
}

fn count(lines: &[Value], word: &str) -> usize {
    lines.iter().filter(|line| says(line, word)).count()
}

/// Whether the last logged state is live.
fn lives(lines: &[Value]) -> bool {
    lines.iter().rfind(|line| says(line, "state_changed")).is_some_and(|line| says(line, "live"))
}

/// Causes all kinds of events, and reads everything that people can see.
async fn noise(site: &mut Site, daemon: &Daemon, panics: bool) -> Result<(), String> {
    site.until("the first are answered", |control| control.counts().pending == 1).await?;
    hostile(site, "1");
    site.until("the second, too", |control| control.counts().pending == 2).await?;
    for said in looked_at(site).await {
        assert_eq!((steers(&said), forged(&said)), (None, None), "{said:?}");
    }
    // Every fault happens once.
    for fault in [
        Fault::new(FaultPlace::Push, FaultAction::Malformed),
        Fault::new(FaultPlace::List, FaultAction::Malformed),
        Fault::new(FaultPlace::Respond, FaultAction::Status).code(403),
        Fault::new(FaultPlace::Respond, FaultAction::Status).code(429).ms(100),
        Fault::new(FaultPlace::Respond, FaultAction::ApplyThenFail),
        Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(403),
        Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(503),
        Fault::new(FaultPlace::Join, FaultAction::CrashChannel),
    ] {
        site.control.fault(fault).unwrap();
    }
    hostile(site, "2");
    let _ = site.control.kick(AGENT, Some(1011));
    // One of them gets a 403, and stays pending.
    site.until("the third, after all", |control| control.counts().pending <= 3).await?;
    daemon.until("it lives", lives).await?;
    if panics {
        daemon.signal(child::PANIC);
        let lives_again = |lines: &[Value]| {
            let panicked = lines.iter().rposition(|line| says(line, "asked to panic"));
            panicked.is_some_and(|at| lives(&lines[at..]))
        };
        daemon.until("it panics and lives again", lives_again).await?;
    }
    site.cli(&["pause"]).await;
    site.cli(&["resume"]).await;
    site.cli(&["reject", "2-stranger"]).await;
    let _ = site.control.remove_contact(AGENT, "friends/x");
    std::fs::write(site.path("rules.toml"), "nonsense\nMESSAGE=forged\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    let refused = count(&daemon.lines(), "key_refused");
    std::fs::write(site.path("agent.key"), format!("not-{KEY}-any-more")).unwrap();
    site.cli(&["reload", "--wait"]).await;
    daemon.until("the key is refused", |lines| count(lines, "key_refused") > refused).await?;
    std::fs::write(site.path("agent.key"), KEY).unwrap();
    daemon.until("it lives with its key", lives).await?;
    let changed = count(&daemon.lines(), "state_changed");
    site.crash_platform().await;
    daemon.until("it is away", |lines| count(lines, "state_changed") > changed).await
}

/// A platform, and the files of a daemon that sends the key in this way. Some requests are pending already.
async fn site(credentials: &str) -> Site {
    let site = Site::of(SandboxOptions::default()).await;
    let toml = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    let told = toml.replacen("[[agents]]", &format!("credentials = \"{credentials}\"\n[[agents]]"), 1);
    std::fs::write(site.path("doorman.toml"), told).unwrap();
    hostile(&site, "0");
    site
}

/// Every line keeps the contract; none shows the key, and none was written by a stranger.
fn harmless(lines: &[Value], format: &str) -> Result<(), String> {
    assert!(lines.len() > 40, "{}", lines.len());
    for line in lines {
        let text = line.as_str().map_or_else(|| line.to_string(), ToOwned::to_owned);
        assert!(!text.contains(KEY), "the key is in the log: {text}");
        assert_eq!((steers(&text), forged(&text)), (None, None), "{text:?}");
        assert_eq!(line.is_object(), format != "human", "{text}");
        for (name, value) in line.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            assert_eq!(steers(value), None, "`{name}` of {text}");
            assert!(name == "problems" || !value.contains('\n'), "`{name}` of {text}");
        }
        if line.is_object() {
            check_line(line)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_life_keeps_the_contract_and_its_secrets() -> Result<(), String> {
    for (credentials, format) in [("header", "json"), ("query", "human"), ("query", "json"), ("auto", "json")] {
        let mut site = site(credentials).await;
        let daemon = site.daemon_with(&["--log-format", format, "--log-level", "trace"]);
        noise(&mut site, &daemon, false).await?;
        harmless(&daemon.stop().await?, format)?;
        files_are_clean(site.dir.path());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_what_journald_hears_keep_the_contract_and_the_secrets() -> Result<(), String> {
    child::play().await;
    let test = "secrets::a_panic_and_what_journald_hears_keep_the_contract_and_the_secrets";
    for (credentials, format) in [("header", "journald"), ("query", "journald"), ("query", "human"), ("auto", "json")] {
        let mut site = site(credentials).await;
        let journal = Journal::bind(&site.path("journal"));
        let mut daemon = child::start(&site, test, format);
        let journal = journal.read(daemon.ear());
        noise(&mut site, &daemon, true).await?;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ends().await, Some(0), "{}", daemon.tail(25));
        journal.end().await;
        // The panic hook logged it, and nothing else printed it.
        assert_eq!(count(&daemon.lines(), "asked to panic"), 1, "{}", daemon.tail(100));
        harmless(&daemon.lines(), format)?;
        files_are_clean(site.dir.path());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_core_and_no_key() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    hostile(&site, "0");
    site.until("they are answered", |control| control.counts().pending == 1).await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let mut daemon = daemon;
    daemon.signal(Signal::SIGABRT);
    let status = daemon.ended().await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::SIGABRT as i32), false));
    files_are_clean(site.dir.path());
    Ok(())
}
