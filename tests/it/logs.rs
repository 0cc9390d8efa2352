//! The log's contract: the documentation matches the code, every format keeps the contract, any text is harmless, keys
//! never appear.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use doorman::clock::Clock;
use doorman::config::settings::{LogFormat, LogSettings};
use doorman::model::{AgentId, StrangerText};
use doorman::ops::log::events::{self, EVENTS, FIELDS};
use doorman::ops::log::format::LineFormat;
use doorman::ops::log::{LogError, agent_span, init, layer, panic_hook};
use doorman::phoenix::NoteName;
use doorman::secret::Redact;
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;

const FORMATS: [LineFormat; 4] =
    [LineFormat::Human { colour: false }, LineFormat::Human { colour: true }, LineFormat::Json, LineFormat::Journald];

/// Text that controls a terminal, hides or reorders characters, or imitates our fields or lines.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}31m\r\n{\"event\":\"decided\"}\u{0}\u{7}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{ad}\" verdict=approve \\u{1b} \u{e0041}";

/// All log lines that `work` causes.
fn logged(format: LineFormat, redact: &Redact, work: impl FnOnce()) -> Vec<u8> {
    let sink = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::TRACE).with(layer(
        format,
        Arc::clone(&sink),
        redact.clone(),
        Clock::start(),
    ));
    tracing::subscriber::with_default(subscriber, work);
    std::mem::take(&mut *sink.lock().unwrap())
}

fn lines(redact: &Redact, work: impl FnOnce()) -> Vec<Value> {
    let text = String::from_utf8(logged(LineFormat::Json, redact, work)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// One event at a level that is only known at run time.
macro_rules! at_level {
    ($level:expr, $($rest:tt)*) => {
        match $level {
            Level::ERROR => tracing::error!(target: "doorman::test", $($rest)*),
            Level::WARN => tracing::warn!(target: "doorman::test", $($rest)*),
            Level::INFO => tracing::info!(target: "doorman::test", $($rest)*),
            Level::DEBUG => tracing::debug!(target: "doorman::test", $($rest)*),
            Level::TRACE => tracing::trace!(target: "doorman::test", $($rest)*),
        }
    };
}

/// Whether a JSON line keeps the contract: its event is documented with this level, and has only documented fields.
pub fn check_line(line: &Value) -> Result<(), String> {
    let name = line["event"].as_str().ok_or_else(|| format!("no event: {line}"))?;
    let event = EVENTS.iter().find(|event| event.name == name).ok_or_else(|| format!("undocumented event: {line}"))?;
    let level = line["level"].as_str().unwrap_or_default();
    if name == events::LOG {
        let ours = line["target"].as_str().is_some_and(|target| target.starts_with("doorman"));
        return match level {
            "error" | "warn" | "info" if ours => Err(format!("a line of our own without a name: {line}")),
            _ => Ok(()),
        };
    }
    if ![Some(event.level), event.softer].iter().flatten().any(|known| events::word(*known) == level) {
        return Err(format!("`{name}` is not documented at this level: {line}"));
    }
    for field in line.as_object().ok_or("no object")?.keys() {
        let always = ["ts", "level", "event", "message", "agent", "request"].contains(&field.as_str());
        if !always && !event.fields.contains(&field.as_str()) {
            return Err(format!("`{name}` is not documented with `{field}`: {line}"));
        }
    }
    Ok(())
}

#[test]
fn the_documentation_is_the_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logs.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- contract -->\n", "<!-- /contract -->");
    let start = page.find(begin).unwrap() + begin.len();
    let stop = page.find(end).unwrap();
    if page[start..stop] != events::markdown() {
        if std::env::var_os("DOORMAN_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{}{}{}", &page[..start], events::markdown(), &page[stop..])).unwrap();
        }
        panic!("docs/logs.md is not what the code says; DOORMAN_WRITE_DOCS=1 writes it again");
    }
}

#[test]
fn names_are_plain_and_given_once_and_every_field_is_explained() {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let names: BTreeSet<&str> = EVENTS.iter().map(|event| event.name).collect();
    let fields: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!((names.len(), fields.len()), (EVENTS.len(), FIELDS.len()));
    assert!(names.iter().chain(&fields).all(|name| plain(name)));
    let mut used: BTreeSet<&str> = ["ts", "level", "event", "message", "agent", "request"].into();
    for event in EVENTS {
        for field in event.fields {
            assert!(fields.contains(field), "`{}` of `{}` is not explained", field, event.name);
            used.insert(field);
        }
    }
    let unused: Vec<_> = fields.difference(&used).collect();
    assert!(unused.is_empty(), "{unused:?} belong to no event");
}

/// The daemon's source files, without their tests.
fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            sources(&path, found);
        } else if !name.contains("/tests") && !name.ends_with("log/events.rs") {
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The names between `before` and the next quotation mark.
fn names_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).filter(plain).collect()
}

/// A line without an event name comes from a library or is for debugging: no alert can depend on it.
#[test]
fn every_line_of_our_own_above_debug_has_a_name() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut lines = 0;
    for (path, text) in &files {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for level in ["error!(", "warn!(", "info!("] {
            for (at, _) in text.match_indices(level) {
                let before = text[..at].chars().next_back();
                if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                    continue;
                }
                lines += 1;
                let first: String = text[at + level.len()..].split_whitespace().take(2).collect();
                let named = first.starts_with("event=") || first.starts_with("event,");
                let at = text[..at].matches('\n').count() + 1;
                assert!(named, "{path}:{at}: this line would go out as event `log`");
            }
        }
    }
    assert!(lines > 60, "only {lines} found");
}

#[test]
fn every_name_that_the_code_gives_is_in_the_table_and_every_one_of_the_table_is_given() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 100);
    let table: BTreeSet<&str> = EVENTS.iter().map(|event| event.name).collect();
    let mut given: BTreeSet<&str> = BTreeSet::new();
    for (path, text) in &files {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for literal in names_after(text, "event = \"") {
            assert!(path.contains("/sandbox"), "{path}: `{literal}` is not a constant of the table");
        }
        for event in EVENTS {
            let constant = event.name.to_ascii_uppercase();
            let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_uppercase() || next == '_');
            if text.split(&format!("events::{constant}")).skip(1).any(ends) {
                given.insert(event.name);
            }
        }
        if path.contains("/phoenix/session") {
            // The session does not depend on the log; its notes have their own type.
            for note in NoteName::ALL {
                assert!(table.contains(note.as_str()), "`{}` is not in the table", note.as_str());
                let ends = |rest: &str| !rest.starts_with(char::is_alphanumeric);
                if text.split(&format!("NoteName::{note:?}")).skip(1).any(ends) {
                    given.insert(note.as_str());
                }
            }
        }
    }
    // The event name of lines without one.
    given.insert(events::LOG);
    let silent: Vec<_> = table.difference(&given).collect();
    assert!(silent.is_empty(), "{silent:?} are never said");
}

#[test]
fn every_event_is_one_harmless_line_in_every_format() {
    for format in FORMATS {
        for event in EVENTS {
            let stranger = StrangerText::new(HOSTILE);
            let bytes = logged(format, &Redact::default(), || {
                at_level!(event.level, event = event.name, name = %stranger, why = HOSTILE, handle = ?HOSTILE,
                    latency_ms = 1.5, "somebody said {HOSTILE}");
            });
            let name = event.name;
            match format {
                LineFormat::Human { colour } => {
                    let mut text = String::from_utf8(bytes).unwrap();
                    assert!(text.contains(name));
                    if colour {
                        text = anstream::adapter::strip_str(&text).to_string();
                    }
                    harmless(&text);
                    let fields = &text[text.find("  name=\"x").unwrap()..];
                    assert_eq!(
                        fields.matches('"').count(),
                        6,
                        "three values in quotes that nothing in them ends: {text}"
                    );
                }
                LineFormat::Json => {
                    let text = String::from_utf8(bytes).unwrap();
                    harmless(&text);
                    let line: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(line["event"], name);
                    assert_eq!(line["level"], events::word(event.level));
                    assert_eq!(line["latency_ms"], 1.5);
                    for field in ["name", "why", "handle", "message"] {
                        harmless(&format!("{}\n", line[field].as_str().unwrap()));
                    }
                    let ts = line["ts"].as_str().unwrap();
                    assert_eq!(ts.len(), "2026-11-23T18:13:02.123456Z".len(), "{ts}");
                    ts.parse::<jiff::Timestamp>().unwrap();
                }
                LineFormat::Journald => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    assert!(text.contains(&format!("DOORMAN_EVENT\n{}\0", char::from(name.len() as u8))), "{text:?}");
                    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
                }
            }
        }
    }
}

/// The text is one line, without characters that move or hide others.
fn harmless(text: &str) {
    let line = text.strip_suffix('\n').unwrap();
    let steering = |c: &char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    assert_eq!(line.chars().find(steering), None, "{line:?}");
}

#[test]
fn spans_give_their_fields_and_the_event_wins() {
    let agent = AgentId::parse("a-1").unwrap();
    let lines = lines(&Redact::default(), || {
        let agent = agent_span(&agent);
        let _in = agent.enter();
        tracing::info!(event = events::DECIDED, request = "r-1", verdict = "approve", "approve");
        tracing::info!(event = events::GONE, agent = "a-2", ts = "then", level = "loud", "gone");
    });
    assert_eq!((&lines[0]["agent"], &lines[0]["request"]), (&"a-1".into(), &"r-1".into()));
    check_line(&lines[0]).unwrap();
    assert_eq!(lines[1]["agent"], "a-2");
    assert!(lines[1]["ts"] != "then" && lines[1]["level"] == "info", "time and level are not for sale: {}", lines[1]);
}

#[test]
fn a_line_without_a_name_says_where_it_is_from() {
    let lines = lines(&Redact::default(), || tracing::warn!(target: "hyper::proto", "odd"));
    assert_eq!((&lines[0]["event"], &lines[0]["target"]), (&"log".into(), &"hyper::proto".into()));
    check_line(&lines[0]).unwrap();
}

#[test]
fn what_breaks_the_contract_is_found() {
    let lines = lines(&Redact::default(), || {
        tracing::info!(event = "invented", "x");
        tracing::error!(event = events::DECIDED, "x");
        tracing::info!(event = events::DECIDED, colour = "red", "x");
    });
    assert_eq!(lines.iter().filter(|line| check_line(line).is_err()).count(), 3);
}

#[test]
fn a_key_is_in_no_line() {
    const KEY: &str = "band_sk_4f/9a\"q\"";
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    let redact = Redact::default();
    redact.add(KEY);
    for format in FORMATS {
        let bytes = logged(format, &redact, || {
            let span = tracing::info_span!("agent", agent = KEY);
            let _in = span.enter();
            let encoded: String = url::form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
            let outer = Outer(std::io::Error::other(format!("GET wss://x/?api_key={encoded}")));
            tracing::info!(why = KEY, what = ?Some(KEY), "the key {KEY}");
            tracing::error!(error = &outer as &dyn std::error::Error, problems = KEY, "failed");
        });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("***"));
        for part in ["4f/9a", "4f%2F9a", "band_sk"] {
            assert!(!text.contains(part), "{format:?}: {text}");
        }
    }
}

#[test]
fn a_line_is_bounded_whatever_is_in_it() {
    let huge = "\u{202e}".repeat(3_000_000);
    for format in FORMATS {
        let bytes = logged(format, &Redact::default(), || {
            tracing::info!(event = huge, why = huge, what = ?huge, name = %huge, "{huge}");
        });
        assert!(bytes.len() < 16 * 1024, "{format:?}: {}", bytes.len());
    }
}

#[test]
fn a_panic_is_a_line_like_any_other() {
    let redact = Redact::default();
    redact.add("band_sk_12345");
    let before = Arc::new(std::panic::take_hook());
    let others = Arc::clone(&before);
    let here = std::thread::current().id();
    // Only for this thread: other tests need their own panic output.
    std::panic::set_hook(Box::new(
        move |info| {
            if std::thread::current().id() == here { panic_hook(info) } else { others(info) }
        },
    ));
    let lines = lines(&redact, || {
        let _ = std::panic::catch_unwind(|| panic!("index out of \u{1b}[2J bounds\nkey band_sk_12345"));
    });
    std::panic::set_hook(Box::new(move |info| before(info)));
    assert_eq!(lines[0]["event"], "panic");
    assert_eq!(lines[0]["why"], "index out of \\u{1b}[2J bounds\\nkey ***");
    assert!(lines[0]["at"].as_str().unwrap().contains("logs.rs:"));
    check_line(&lines[0]).unwrap();
}

/// Runs in a separate process, since a process has only one log.
#[test]
fn a_process_logs_to_its_stderr_until_the_end() {
    const CHILD: &str = "DOORMAN_TEST_LOG";
    if std::env::var_os(CHILD).is_some() {
        let settings = LogSettings { format: LogFormat::Auto, level: "info".to_owned() };
        let redact = Redact::default();
        let log = init(&settings, &Clock::start(), redact.clone()).unwrap();
        assert!(matches!(init(&settings, &Clock::start(), redact), Err(LogError::Twice)));
        log.redact().add("band_sk_12345");
        tracing::info!(target: "doorman::test", event = events::STARTED, version = "1", "up with band_sk_12345");
        tracing::debug!(target: "doorman::test", event = events::ANSWERING, "not asked for");
        tracing::info!(target: "hyper::proto", "nor this");
        let _ = std::thread::spawn(|| panic!("a fault")).join();
        for _ in 0..1_000 {
            tracing::info!(target: "doorman::test", event = events::STOPPED, code = "0", "the end");
        }
        drop(log);
        std::process::exit(0);
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::a_process_logs_to_its_stderr_until_the_end", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        check_line(line).unwrap();
    }
    let names: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!((names.len(), &names[..3]), (1_002, &["started", "panic", "stopped"][..]));
    assert_eq!(lines[0]["message"], "up with ***");
    assert!(output.status.success());
}
