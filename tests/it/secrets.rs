//! After a noisy life of the real daemon: every line keeps the log's contract, the key is nowhere, and strangers' text
//! steers nothing.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use doorman::ops::control::wire::Op;
use doorman::sandbox::{At, Do, Fault, NewRequest, SandboxOptions};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::control::{http, post};
use crate::faults::site::{AGENT, KEY, Site};
use crate::logs::check_line;

/// Clears screens, colours, links, makes lines of its own, reorders, hides.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}[31m\u{9b}1m\u{1b}]8;;http://evil\u{7}\r\n{\"event\":\"decided\"}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{ad}y";

/// The first character that could steer a terminal or deceive a reader.
fn steers(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    })
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// No file of the daemon's own holds the key.
fn files_are_clean(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("agent.key") {
            assert!(!holds(&std::fs::read(&path).unwrap(), KEY), "the key is in {}", path.display());
        }
    }
}

/// Everybody with a bad name, who is let in, sent away, or kept waiting.
fn hostile(site: &Site, round: &str) {
    for (handle, id) in [("friends/x", "friend"), ("foes/x", "foe"), (HOSTILE, "stranger")] {
        let new = NewRequest::to(AGENT).from(handle).named(HOSTILE).saying(HOSTILE).id(&format!("{round}-{id}"));
        site.control.request(&new).unwrap();
    }
}

/// Everything that people can look at.
async fn looked_at(site: &Site) -> Vec<String> {
    let ledger = site.path("ledger.db").display().to_string();
    let mut seen = Vec::new();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["pending"],
        &["pending", "--json"],
        &["config"],
        &["config", "--json"],
        &["doctor"],
        &["check"],
        &["history", "--ledger", &ledger],
        &["history", "--json", "--ledger", &ledger],
        &["explain", "1-stranger", "--ledger", &ledger],
        &["approve", "nobody"],
        &["approve", HOSTILE],
        &["defer", "1-stranger"],
        &["reload", "--wait"],
    ] {
        let (_, out, err) = site.cli(arguments).await;
        let said = format!("{out}{err}");
        assert!(!said.contains(KEY), "{arguments:?} shows the key:\n{said}");
        assert!(!said.is_empty(), "{arguments:?} says nothing");
        seen.push(said);
    }
    // The same by hand, as curl shows it.
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let pending = post(&serde_json::to_string(&Op::Pending { agent: None }).unwrap());
    for request in [get("/v1/status"), get("/metrics"), pending] {
        let (code, body) = http(&site.path("doorman.sock"), &request).await;
        assert_eq!(code, 200, "{body}");
        assert!(!body.contains(KEY), "a reply of the control socket shows the key: {body}");
        seen.push(body);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_life_keeps_the_contract_and_its_secrets() -> Result<(), String> {
    for (credentials, format) in [("header", "json"), ("query", "human"), ("query", "json"), ("auto", "json")] {
        let mut site = Site::of(SandboxOptions::default()).await;
        let toml = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
        std::fs::write(
            site.path("doorman.toml"),
            toml.replacen("[[agents]]", &format!("credentials = \"{credentials}\"\n[[agents]]"), 1),
        )
        .unwrap();
        let flags = ["--log-format", format, "--log-level", "trace"];
        hostile(&site, "0");
        let daemon = site.daemon_with(&flags);
        site.until("the first are answered", |control| control.counts().pending == 1).await?;
        hostile(&site, "1");
        site.until("the second, too", |control| control.counts().pending == 2).await?;
        for said in looked_at(&site).await {
            assert_eq!(steers(&said), None, "{said:?}");
        }
        // Everything goes wrong once.
        for fault in [
            Fault::new(At::Push, Do::Garbage),
            Fault::new(At::List, Do::Garbage),
            Fault::new(At::Respond, Do::Status).code(403),
            Fault::new(At::Respond, Do::Status).code(429).ms(100),
            Fault::new(At::Respond, Do::ApplyThenFail),
            Fault::new(At::Upgrade, Do::Status).code(403),
            Fault::new(At::Upgrade, Do::Status).code(503),
            Fault::new(At::Join, Do::CrashChannel),
        ] {
            site.control.fault(fault).unwrap();
        }
        hostile(&site, "2");
        let _ = site.control.kick(AGENT, Some(1011));
        site.until("the third, after all", |control| control.counts().pending <= 4).await?;
        site.cli(&["pause"]).await;
        site.cli(&["resume"]).await;
        site.cli(&["reject", "1-stranger"]).await;
        let _ = site.control.remove_contact(AGENT, "friends/x");
        std::fs::write(site.path("rules.toml"), "nonsense").unwrap();
        daemon.signal(Signal::SIGHUP);
        std::fs::write(site.path("agent.key"), format!("not-{KEY}-any-more")).unwrap();
        site.cli(&["reload", "--wait"]).await;
        let refused = |lines: &[Value]| lines.iter().any(|line| line.to_string().contains("key_refused"));
        daemon.until("the key is refused", refused).await?;
        std::fs::write(site.path("agent.key"), KEY).unwrap();
        site.crash_platform().await;
        let away = |lines: &[Value]| lines.iter().filter(|line| line.to_string().contains("state_changed")).count() > 3;
        daemon.until("it is away", away).await?;
        let lines = daemon.stop().await?;
        assert!(lines.len() > 40, "{}", lines.len());
        for line in &lines {
            let text = match line {
                Value::String(text) => text.clone(),
                line => {
                    check_line(line)?;
                    line.to_string()
                }
            };
            assert!(!text.contains(KEY), "the key is in the log: {text}");
            assert_eq!(steers(&text), None, "{text:?}");
            assert_eq!(line.is_object(), format == "json", "{text}");
        }
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
