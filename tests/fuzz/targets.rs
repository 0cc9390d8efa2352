//! What each fuzz target does with its bytes, and what must hold for any bytes. No target may panic or hang. `cargo
//! test` replays the corpora through these functions (`tests/it/fuzz.rs`); the fuzzer makes new ones.

use std::path::Path;
use std::time::Duration;

use doorman::clock::{Mono, Now};
use doorman::config::settings::{ConnectionMode, CredentialsMode, Timing};
use doorman::config::{self, Env, Overrides};
use doorman::diagnostics::Report;
use doorman::model::{AgentId, ContactRequest, Outcome, Verdict};
use doorman::phoenix::{PhoenixSession, SessionConfig, SessionInput, frame};
use doorman::platform::{bodies, payload};
use doorman::policy::rules::SourceText;
use doorman::policy::state::SavedState;
use doorman::policy::{
    By, Circumstances, ClockHealth, DeciderVerdict, LoadedPolicy, Policy, PolicyState, ReceivingAgent, load_texts,
};
use doorman::sandbox::World;
use doorman::sandbox::replay::Script;
use doorman::secret::Redact;
use doorman::transcript;
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// One target.
pub type Target = fn(&[u8]);

/// The targets by name; the name is also that of the folder in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("session", session),
    ("payloads", payloads),
    ("bodies", rest_bodies),
    ("settings", settings),
    ("rules", rules),
    ("evaluator", evaluator),
    ("worlds", worlds),
    ("transcripts", transcripts),
];

/// Requests of one stranger, one after the other.
const ROUNDS: usize = 4;
/// More outputs than this for one input are an error.
const OUTPUTS_MAX: usize = 64;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A frame, and what a reply says.
pub fn frames(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match frame::parse(text) {
        Ok(frame) => drop(frame::reply(frame.payload)),
        Err(problem) => assert!(problem.to_string().len() < 200, "a problem holds none of the text"),
    }
}

/// A whole session, one input a line: `!` and a number is a close, `~` and a number lets that many seconds pass,
/// anything else is a frame.
pub fn session(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let agent = AgentId::parse("agent-1").expect("a plain id");
    let timing = Timing::default();
    let config = SessionConfig {
        agent,
        connection: ConnectionMode::Yield,
        credentials: CredentialsMode::Auto,
        timing,
        redact: Redact::default(),
    };
    let mut session = PhoenixSession::new(config, 7);
    let mut seconds = 0;
    tell(&mut session, SessionInput::Start, seconds);
    tell(&mut session, SessionInput::Opened, seconds);
    for line in text.lines().take(200) {
        let number = || line[1..].trim().parse::<u16>().ok();
        match line.as_bytes().first() {
            Some(b'!') => {
                tell(&mut session, SessionInput::Closed(number().into()), seconds);
                seconds += 120;
                tell(&mut session, SessionInput::Tick, seconds);
                tell(&mut session, SessionInput::Opened, seconds);
            }
            Some(b'~') => {
                seconds += u64::from(number().unwrap_or(1));
                tell(&mut session, SessionInput::Tick, seconds);
            }
            _ => tell(&mut session, SessionInput::Text(line), seconds),
        }
    }
    tell(&mut session, SessionInput::Stop, seconds);
}

fn tell(session: &mut PhoenixSession, input: SessionInput<'_>, seconds: u64) {
    let stops = matches!(input, SessionInput::Stop);
    let now = Now { mono: Mono::from_origin(Duration::from_secs(seconds)), wall: Timestamp::UNIX_EPOCH };
    session.handle(input, now);
    let outputs = std::iter::from_fn(|| session.poll()).count();
    assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs to one input");
    assert!(stops || session.deadline().is_some(), "a live session always has a deadline");
}

/// An event of the channel: its name on the first line, its payload after it.
pub fn payloads(bytes: &[u8]) {
    let Some((event, rest)) = text(bytes).and_then(|text| text.split_once('\n')) else { return };
    let Ok(value) = serde_json::from_str::<&RawValue>(rest) else { return };
    if let Some(Err(problem)) = payload::channel_event(event, value) {
        assert!(!problem.broken().is_empty(), "a refused payload has a field to blame");
    }
    if let Ok(request) = payload::contact_request(value) {
        bounded(&request);
    }
    drop(payload::contact(value));
    let _supersede = payload::supersede(value, &Redact::default());
}

fn bounded(request: &ContactRequest) {
    for text in [request.name.as_ref(), request.message.as_ref(), request.sender.original()].into_iter().flatten() {
        let shown = text.to_string();
        assert!(!shown.chars().any(char::is_control), "a stranger's text steers a terminal: {shown:?}");
    }
}

/// A body of a REST reply, read as each type of reply.
pub fn rest_bodies(bytes: &[u8]) {
    drop(bodies::json(bytes));
    drop(bodies::me(bytes));
    if let Ok(page) = bodies::requests(bytes) {
        page.items.iter().for_each(bounded);
    }
    drop(bodies::contacts(bytes));
    drop(bodies::responded(bytes));
}

/// A `doorman.toml`.
pub fn settings(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let loaded = config::load_text(Some("doorman.toml".into()), Some(text), &Env::default(), &Overrides::default());
    match loaded {
        Ok(loaded) => check_report(&loaded.report),
        Err(report) => {
            assert!(report.has_errors(), "refused, and nothing is wrong with it");
            check_report(&report);
        }
    }
}

fn check_report(report: &Report) {
    let (plain, coloured) = (report.render(false), report.render(true));
    assert!(!report.has_errors() || !plain.is_empty(), "an error that is not reported");
    assert!(coloured.len() >= plain.len());
}

/// The files that the rules may name.
const BESIDE: [&str; 3] = ["list.txt", "common.toml", "days.ics"];

fn compiled(text: &str, beside: &[&str]) -> LoadedPolicy {
    let source = |name: &str, text: &str| SourceText { name: name.to_owned(), text: text.into() };
    let beside = BESIDE.iter().enumerate().map(|(at, name)| source(name, beside.get(at).copied().unwrap_or_default()));
    let sources: Vec<_> = std::iter::once(source("rules.toml", text)).chain(beside).collect();
    let loaded = load_texts(Path::new("rules.toml"), &sources);
    check_report(&loaded.report);
    assert_eq!(loaded.policy.is_none(), loaded.report.has_errors(), "a policy, or a reason why there is none");
    loaded
}

/// A rules file, and after lines of `===` the files `list.txt`, `common.toml` and `days.ics`.
pub fn rules(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let parts: Vec<&str> = text.split("\n===\n").collect();
    let loaded = compiled(parts[0], &parts[1..]);
    if let Some(policy) = &loaded.policy {
        for handle in [None, Some("ann"), Some("acme/bot"), Some("not a handle//")] {
            decided(policy, handle, Some("Ann"), Some("hello"));
        }
    }
}

/// The rules in an input of the targets `rules` and `evaluator`, and the rules that they include, if they load.
pub fn loading<'a>(target: &str, bytes: &'a [u8]) -> Vec<&'a str> {
    let Some(text) = text(bytes) else { return Vec::new() };
    let parts: Vec<&str> = text.split("\n===\n").collect();
    let (beside, included) = match target {
        "rules" => (&parts[1..], parts.get(2)),
        _ => (&["ann\nacme/*\n"][..], None),
    };
    let loads = compiled(parts[0], beside).policy.is_some();
    std::iter::once(parts[0]).chain(included.copied()).filter(|_| loads).collect()
}

/// A rules file, and after a line of `===` a stranger: handle, name and message, a line each.
pub fn evaluator(bytes: &[u8]) {
    let Some((text, stranger)) = text(bytes).and_then(|text| text.split_once("\n===\n")) else { return };
    let loaded = compiled(text, &["ann\nacme/*\n"]);
    let mut lines = stranger.splitn(3, '\n').map(|line| Some(line).filter(|line| !line.is_empty()));
    let [handle, name, message] = [(); 3].map(|()| lines.next().flatten());
    if let Some(policy) = &loaded.policy {
        decided(policy, handle, name, message);
    }
}

/// Neither the index nor a second evaluation changes a decision; and with a wrong clock nothing about time is known.
/// Decisions are carried out, so that limits are used up and history accumulates.
fn decided(policy: &Policy, handle: Option<&str>, name: Option<&str>, message: Option<&str>) {
    let mut policy_state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    policy_state.set_receiving_agent(ReceivingAgent::new("agent-1", Some("porter")));
    for number in 0..ROUNDS {
        let value = json!({
            "id": format!("r{number}"), "status": "pending", "from_handle": handle, "from_name": name,
            "message": message, "inserted_at": "2026-03-02T10:00:00Z",
        });
        let value = to_raw_value(&value).expect("JSON");
        let Ok(request) = payload::contact_request(&value) else { return };
        let now: Timestamp = "2026-03-02T10:05:00Z".parse().expect("a time");
        let is_contact = [Some(true), None, Some(false)][number % 3];
        for clock in [ClockHealth::Unsound, ClockHealth::Sound] {
            let circumstances = Circumstances {
                owner_is_contact: is_contact,
                sender_is_contact: is_contact,
                ..Circumstances::new(now, clock)
            };
            let mut decision = policy.decide(&request, &circumstances, &policy_state, now);
            if let Some(question) = decision.asks.take() {
                // Each round another word, and none in the first.
                let word = [None, Some(Verdict::Reject), Some(Verdict::Defer), Some(Verdict::Approve)][number % 4];
                if let Some(verdict) = word {
                    policy_state.add_reply(
                        &request.id,
                        DeciderVerdict { decider: question.decider, key: None, verdict, reason: None },
                    );
                }
                decision = policy.decide(&request, &circumstances, &policy_state, now);
            }
            let naive = policy.decide_naive(&request, &circumstances, &policy_state, now);
            assert_eq!((decision.verdict, decision.by.to_string()), (naive.verdict, naive.by.to_string()));
            let again = policy.decide(&request, &circumstances, &policy_state, now);
            assert_eq!((decision.verdict, decision.due), (again.verdict, again.due));
            let rejects_by_limit = decision.verdict == Verdict::Reject && matches!(decision.by, By::Limit(_));
            assert!(!rejects_by_limit || clock == ClockHealth::Sound, "a limit rejects by a clock that may be wrong");
            if let (Some(answer), ClockHealth::Sound) = (decision.verdict.answer(), clock) {
                let (id, from) = (&request.id, request.sender.handle());
                policy_state.reserve(id, from, decision.verdict, &decision.by, &decision.charges, now);
                policy_state.settle(id, from, decision.verdict, Outcome::Confirmed(answer), now);
            }
        }
    }
}

/// A world of the sandbox.
pub fn worlds(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match World::parse(text, "world.toml") {
        Ok(world) => assert_eq!(world.check(), Ok(()), "taken, and it cannot be used"),
        Err(report) => {
            assert!(report.has_errors());
            check_report(&report);
        }
    }
}

/// A transcript, and the script that is made of it.
pub fn transcripts(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match transcript::read(text) {
        Ok(lines) => drop(Script::of(&lines, None)),
        Err(error) => drop(error.to_string()),
    }
}
