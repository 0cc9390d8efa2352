//! What the tests put into a ledger's file, and how they open it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use doorman::ledger::{Ledger, LedgerError, LedgerOptions, Record, Via};
use doorman::model::{AgentId, Answer, ContactRequest, Outcome, RequestId, Sender, StrangerText, Verdict};
use doorman::policy::{By, Circumstances, ClockHealth, Decision, ErrorKind, PolicyHash, RuleName};
use jiff::Timestamp;

pub(super) const NASTY: &str = "a\u{1b}[31m\u{9b}2J\u{202e}\u{200b}\r\nb\t\u{7}";

pub(super) struct Dir(pub(super) tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.0.path().join("ledger.db")
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn open(path: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(path, LedgerOptions::default())
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn agent() -> AgentId {
    AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-000000000001").unwrap()
}

pub(super) fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

pub(super) fn seen(name: &str, handle: Option<&str>, message: &str, second: i64) -> Record {
    let request = ContactRequest {
        id: id(name),
        sender: Sender::parse(handle),
        name: None,
        message: Some(StrangerText::new(message)),
        inserted_at: None,
        ids: None,
    };
    Record::Seen { agent: agent(), request: request.into(), via: Via::Event, at: at(second) }
}

pub(super) fn decided(name: &str, verdict: Verdict, by: By, second: i64) -> Record {
    let policy = PolicyHash::new(&"0f".repeat(32));
    let decision = Box::new(Decision { verdict, by, ..Decision::error(ErrorKind::Internal, policy) });
    let circumstances = Circumstances::new(at(second), ClockHealth::Sound);
    Record::Decided { agent: agent(), request: id(name), decision, circumstances, at: at(second) }
}

pub(super) fn intent(name: &str, answer: Answer, second: i64) -> Record {
    Record::Intent {
        agent: agent(),
        request: id(name),
        answer,
        by: doorman::policy::By::parse("friends").unwrap(),
        lasts: None,
        policy: Some(PolicyHash::new(&"0f".repeat(32))),
        head: None,
        charges: vec![],
        counts: true,
        attempt: 1,
        at: at(second),
    }
}

pub(super) fn outcome(name: &str, outcome: Outcome, second: i64) -> Record {
    Record::Outcome {
        agent: agent(),
        request: id(name),
        outcome,
        detail: None,
        refusal: None,
        stay: None,
        at: at(second),
    }
}

/// A ledger with three requests: answered, deferred, and one with nasty text.
pub(super) async fn filled(path: &Path) -> Ledger {
    let ledger = open(path).unwrap();
    let friends = || By::Rule(RuleName::parse("friends").unwrap());
    let batch = vec![
        seen("r1", Some("@Ann"), "hello", 0),
        decided("r1", Verdict::Approve, friends(), 1),
        intent("r1", Answer::Approve, 2),
        outcome("r1", Outcome::Confirmed(Answer::Approve), 3),
        seen("r2", Some("bob/bot"), "hm", 60),
        decided("r2", Verdict::Defer, By::NoMatch, 61),
        seen("r3", Some(NASTY), NASTY, 120),
    ];
    ledger.commit(batch).await.unwrap();
    ledger
}

pub(super) fn doorman(args: &[&str], ledger: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(args)
        .arg("--ledger")
        .arg(ledger)
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
