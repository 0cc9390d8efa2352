//! Cases that the simulation reaches too rarely: an agent without rules that only polls, step by step.

use std::time::Duration;

use super::*;
use crate::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use crate::ledger::entry::SavedRequest;
use crate::ledger::{LedgerError, Record};
use crate::model::{AgentId, Answer, ContactRequest, Sender, Verdict};
use crate::platform::{CallError, CallFault, Me, Page, Reply};
use crate::policy::{Mode, PolicyHash};

mod asking;
mod changed;
mod contacts;
mod cost;
mod crowded;
mod guests;
mod identity;
mod is_contact;
mod outage;
mod outdated;
mod record_order;
mod restore;
mod vanished;

struct CoreHarness {
    core: Core,
    at: Duration,
    recorded: Vec<Record>,
    /// In the order of the notices.
    notices: Vec<Notice>,
    actions: Vec<Action>,
    /// If true, no batch is confirmed.
    stalled: bool,
    /// How far the wall clock is ahead of the time.
    ahead: jiff::SignedDuration,
    /// The agent whose key it is, as the platform reports; `None`: the platform cannot tell.
    whose: Option<&'static str>,
}

impl CoreHarness {
    /// An agent without rules that polls, and what its ledger remembers.
    fn new(saved: SavedAgent) -> Self {
        Self::with_key_of(saved, Some(AGENT))
    }

    fn with_key_of(saved: SavedAgent, whose: Option<&'static str>) -> Self {
        Self::of(ConnectionMode::Poll, saved, whose)
    }

    fn of(connection: ConnectionMode, saved: SavedAgent, whose: Option<&'static str>) -> Self {
        let config = CoreConfig {
            agent: AgentId::parse(AGENT).unwrap(),
            name: None,
            connection,
            credentials: CredentialsMode::Auto,
            answers: Answers { in_flight: 4, per_second: 0 },
            timing: Timing::default(),
            shadow: false,
            seed: 7,
            capacity: 100,
            batch: 2,
            redact: crate::secret::Redact::default(),
        };
        let core = Core::new(config, None, saved, now(Duration::ZERO));
        let (recorded, reported, asked) = (Vec::new(), Vec::new(), Vec::new());
        let ahead = jiff::SignedDuration::ZERO;
        let mut harness = Self {
            core,
            at: Duration::ZERO,
            recorded,
            notices: reported,
            actions: asked,
            stalled: false,
            ahead,
            whose,
        };
        harness.input(Input::Start);
        harness
    }

    fn input(&mut self, input: Input<'_>) {
        self.tell_refusing(input, false);
    }

    /// Every batch is recorded at once, or `refused`.
    fn tell_refusing(&mut self, input: Input<'_>, refused: bool) {
        self.core.handle(input, self.now());
        while let Some(action) = self.core.poll() {
            match action {
                Action::Record(batch) => {
                    self.recorded.extend(batch);
                    if self.stalled {
                        continue;
                    }
                    let why = || LedgerError::Refused { why: "a whim".to_owned() };
                    let result = if refused { Err(why()) } else { Ok(()) };
                    self.core.handle(Input::Recorded(result), self.now());
                }
                Action::Me => {
                    self.actions.push(Action::Me);
                    let reply = self.me();
                    self.core.handle(Input::Me { reply, changed: false }, self.now());
                }
                Action::Tell(notice) => self.notices.push(notice),
                action => self.actions.push(action),
            }
        }
    }

    /// The time by the agent's own clock.
    fn now(&self) -> Now {
        let Now { mono, wall } = now(self.at);
        Now { mono, wall: wall + self.ahead }
    }

    fn me(&self) -> Reply<Me> {
        let unreachable = CallError { fault: CallFault::Unreachable, code: None, message: None, retry_after: None };
        let me = |id| Me { id: AgentId::parse(id).unwrap(), sender: Sender::Absent, name: None, owner: None };
        Reply { result: self.whose.map(me).ok_or(unreachable), date: None }
    }

    /// The requested socket opens, and every message on it gets its reply.
    fn joins(&mut self) -> u64 {
        let conn = self.dials().expect("a socket is asked for");
        self.input(Input::Opened { conn });
        let sent = |action: &Action| match action {
            Action::Send { text, .. } => serde_json::from_str::<serde_json::Value>(text).ok(),
            _ => None,
        };
        for frame in self.actions.iter().filter_map(sent).collect::<Vec<_>>() {
            let ok = serde_json::json!({"status": "ok", "response": {}});
            let reply = serde_json::json!([frame[0], frame[1], frame[2], "phx_reply", ok]).to_string();
            self.input(Input::Frame { conn, text: &reply, received: now(self.at).mono });
        }
        assert!(self.core.session.joined());
        conn
    }

    /// The number of the last requested socket.
    fn dials(&self) -> Option<u64> {
        self.actions.iter().rev().find_map(|action| match action {
            Action::Connect { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    /// After `wait`, the list is requested and shows these requests.
    fn listed_after(&mut self, wait: Duration, shown: &[&str]) {
        self.lists_after(wait, &shown.iter().map(|id| request(id)).collect::<Vec<_>>());
    }

    fn lists_after(&mut self, wait: Duration, shown: &[ContactRequest]) {
        self.at += wait;
        self.input(Input::Tick);
        loop {
            let fetch = self.actions.iter().find_map(|action| match action {
                Action::Page(fetch) => Some(*fetch),
                _ => None,
            });
            let Some(fetch) = fetch else { break };
            self.actions.retain(|action| !matches!(action, Action::Page(_)));
            let items = shown.to_vec();
            let total = Some(items.len() as u64);
            let page = Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(1) };
            self.input(Input::Page(fetch, Reply { result: Ok(page), date: None }));
        }
    }

    fn approve(&mut self, id: &str, refused: bool) {
        let op =
            PersonCommand::Answer { verdict: Verdict::Approve, request: RequestId::parse(id).unwrap(), lasts: None };
        self.tell_refusing(Input::Op { token: 1, op, person: "ann".into() }, refused);
    }

    /// Lets this much time pass.
    fn wait(&mut self, wait: Duration) {
        self.at += wait;
        self.input(Input::Tick);
    }

    /// The platform carries out the answer to this request.
    fn confirmed(&mut self, id: &str, answer: Answer) {
        let id = RequestId::parse(id).unwrap();
        let reply = Reply { result: Ok(crate::platform::Responded { status: answer.status() }), date: None };
        self.input(Input::Responded { request: id, attempt: 1, reply, written: now(self.at).mono });
    }

    fn answers_sent(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Respond { .. })).count()
    }

    fn intents(&self) -> usize {
        self.recorded.iter().filter(|entry| matches!(entry, Record::Intent { .. })).count()
    }
}

fn now(at: Duration) -> Now {
    let wall = jiff::Timestamp::UNIX_EPOCH.checked_add(at).unwrap();
    Now { mono: Mono::from_origin(at), wall }
}

fn request(id: &str) -> ContactRequest {
    let id = RequestId::parse(id).unwrap();
    ContactRequest { id, sender: Sender::Absent, name: None, message: None, inserted_at: None, ids: None }
}

/// A request that was pending when the last daemon ended.
fn on_record(id: &str, handle: Option<&str>) -> SavedRequest {
    let (id, first_seen) = (RequestId::parse(id).unwrap(), now(Duration::ZERO).wall);
    SavedRequest { id, sender: Sender::parse(handle), inserted_at: None, first_seen }
}

const AGENT: &str = "agent-1";
const MINUTES: Duration = Duration::from_secs(60);

#[test]
fn what_is_listed_in_a_row_that_cannot_be_read_has_not_ended() {
    let pending = vec![on_record("r1", Some("ann")), on_record("r2", Some("bob"))];
    let mut harness = CoreHarness::new(SavedAgent { pending, ..SavedAgent::default() });
    let gone = |harness: &CoreHarness| {
        let ended = harness.recorded.iter().filter_map(|entry| match entry {
            Record::Settled { request, .. } => Some(request.to_string()),
            _ => None,
        });
        ended.collect::<Vec<_>>()
    };
    harness.wait(MINUTES);
    while let Some(place) = harness.actions.iter().position(|action| matches!(action, Action::Page(_))) {
        let Action::Page(fetch) = harness.actions.remove(place) else { continue };
        let (id, why) = (RequestId::parse("r1").unwrap(), "`from_handle` is no text".to_owned());
        let unreadable = vec![crate::platform::Unreadable { id, position: 1, why }];
        let page = Page { items: vec![], unreadable, nameless: vec![], total: Some(1), pages: Some(1) };
        harness.input(Input::Page(fetch, Reply { result: Ok(page), date: None }));
    }
    assert_eq!(gone(&harness), ["r2"]);
    harness.listed_after(MINUTES, &[]);
    assert_eq!(gone(&harness), ["r2", "r1"]);
}

#[test]
fn what_is_listed_while_the_agent_has_no_rules_is_not_gone() {
    let id = RequestId::parse("r1").unwrap();
    let saved = SavedAgent {
        pending: vec![on_record("r1", None), on_record("r2", None)],
        decided: vec![(id, Verdict::Defer, crate::policy::By::NoMatch, Mode::Enforce)],
        ..SavedAgent::default()
    };
    let mut harness = CoreHarness::new(saved);
    harness.listed_after(MINUTES, &["r1"]);
    let gone = harness.recorded.iter().filter_map(|entry| match entry {
        Record::Settled { request, .. } => Some(request.as_str()),
        _ => None,
    });
    assert_eq!(gone.collect::<Vec<_>>(), ["r2"]);
}

#[test]
fn counts_go_on_if_the_task_is_started_again() {
    let counters = crate::agent::Counters::default();
    for (life, seen) in [("r1", 1), ("r2", 2)] {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.core.count_on(counters.clone());
        harness.listed_after(MINUTES, &[life]);
        assert_eq!(counters.all()["requests_seen"], seen);
    }
}

#[test]
fn an_intent_that_the_ledger_refused_is_withdrawn_and_tried_again_later() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1"]);
    harness.approve("r1", true);
    let withdrawn = |entry: &Record| matches!(entry, Record::Withdrawn { .. });
    assert_eq!((harness.answers_sent(), harness.intents()), (0, 1));
    harness.listed_after(10 * MINUTES, &["r1"]);
    assert_eq!(harness.recorded.iter().filter(|entry| withdrawn(entry)).count(), 1);
    assert_eq!((harness.answers_sent(), harness.intents()), (1, 2), "{:?}", harness.recorded);
}

#[test]
fn while_nothing_can_be_recorded_nobody_is_let_in_beyond_the_bound() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    (harness.core.outbox.max, harness.stalled) = (3, true);
    let pending = |harness: &CoreHarness| harness.core.pending().len();
    harness.listed_after(10 * MINUTES, &["r1", "r2"]);
    assert_eq!((pending(&harness), harness.recorded.len()), (2, 3), "their batch is with the ledger, and stays there");
    harness.listed_after(10 * MINUTES, &["r1", "r2", "r3", "r4", "r5"]);
    harness.listed_after(10 * MINUTES, &["r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
    assert_eq!((pending(&harness), harness.recorded.len()), (5, 3), "three wait to be recorded, and no more");
    assert!(!harness.core.counters().contains_key("records_left_out"));
    harness.listed_after(10 * MINUTES, &["r1", "r3", "r4", "r5"]);
    assert_eq!(pending(&harness), 4);
    assert_eq!(harness.core.counters()["records_left_out"], 1, "that one is gone is not worth more memory");

    harness.stalled = false;
    harness.input(Input::Recorded(Ok(())));
    harness.listed_after(10 * MINUTES, &["r1", "r3", "r4", "r5", "r6", "r7"]);
    assert_eq!(pending(&harness), 6, "{:?}", harness.recorded);
    let seen = harness.recorded.iter().filter(|entry| matches!(entry, Record::Seen { .. })).count();
    assert_eq!(seen, 7, "everybody let in is on record, once");
}

#[test]
fn what_somebody_else_outdid_is_bound_to_nothing_should_it_come_back() {
    for (reply, bound) in [(CallFault::Conflict, false), (CallFault::NoAnswer, true)] {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.listed_after(MINUTES, &["r1"]);
        harness.approve("r1", false);
        let error = CallError { fault: reply, code: None, message: None, retry_after: None };
        let id = RequestId::parse("r1").unwrap();
        let written = now(harness.at).mono;
        harness.input(Input::Responded {
            request: id,
            attempt: 1,
            reply: Reply { result: Err(error), date: None },
            written,
        });
        harness.listed_after(2 * MINUTES, &[]);
        harness.listed_after(4 * MINUTES, &["r1"]);
        harness.listed_after(4 * MINUTES, &["r1"]);
        assert_eq!(harness.core.pending().len(), 1);
        let heard = harness.core.inbox.entry(&RequestId::parse("r1").unwrap()).unwrap().answer().may_be_heard();
        assert_eq!(heard, bound, "{reply:?}: only what may have been heard binds");
        // Its outcome is on record, and no rule gives the same answer: a person has to give it again.
        assert_eq!(harness.answers_sent(), 1);
        harness.approve("r1", false);
        assert_eq!(harness.answers_sent(), 2);
    }
}

#[test]
fn a_person_gets_an_error_at_once_if_nothing_can_be_recorded() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1", "r2"]);
    let op = |verdict, id: &str| PersonCommand::Answer { verdict, request: RequestId::parse(id).unwrap(), lasts: None };
    let ask = |harness: &mut CoreHarness, token, verdict, id: &str| {
        harness.input(Input::Op { token, op: op(verdict, id), person: "eve".into() });
    };
    let reported = |harness: &CoreHarness, wanted: u64| {
        harness.actions.iter().find_map(|action| match action {
            Action::Reply { token, outcome: OpOutcome::Failed(error) } if *token == wanted => Some(error.code),
            _ => None,
        })
    };
    // It waits for the record, which then cannot be written.
    harness.stalled = true;
    ask(&mut harness, 1, Verdict::Reject, "r1");
    assert_eq!(reported(&harness, 1), None);
    harness.input(Input::LedgerHealth(false));
    assert_eq!(reported(&harness, 1), Some("blocked"));
    for (token, verdict) in [(2, Verdict::Approve), (3, Verdict::Reject), (4, Verdict::Defer)] {
        ask(&mut harness, token, verdict, "r2");
        assert_eq!(reported(&harness, token), Some("blocked"), "{verdict:?}");
    }
    harness.input(Input::LedgerHealth(true));
    let said = |id: &str| {
        let of = |entry: &&Record| match entry {
            Record::Intent { request, .. } | Record::Hold { request, .. } => request.as_str() == id,
            _ => false,
        };
        harness.recorded.iter().filter(of).count()
    };
    assert_eq!((said("r1"), said("r2")), (1, 0), "{:?}", harness.recorded);
}

#[test]
fn what_comes_back_and_goes_again_has_its_outcome_on_record_already() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1"]);
    harness.approve("r1", false);
    harness.confirmed("r1", Answer::Approve);
    // A stale page shows it long after; before the same answer can be sent again, the next page does not show it.
    harness.core.ledger_ok = false;
    harness.listed_after(10 * MINUTES, &["r1"]);
    assert_eq!(harness.core.pending().len(), 1);
    harness.listed_after(10 * MINUTES, &[]);
    assert_eq!((harness.core.pending().len(), harness.intents()), (0, 1));
    let outcomes = harness.recorded.iter().filter(|entry| matches!(entry, Record::Outcome { .. })).count();
    assert_eq!(outcomes, 1, "the ledger refuses the outcome of an answer that is not open: {:?}", harness.recorded);
}

/// What the log says of the requests seen: `warn`, or `debug`, of each line.
fn seen_in_the_log(reported: &[Notice]) -> Vec<(String, String)> {
    use crate::ops::log::{format::LineFormat, layer};
    use crate::secret::Redact;
    use tracing_subscriber::layer::SubscriberExt as _;
    let sink = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let layer = layer(LineFormat::Json, sink.clone(), Redact::default(), crate::clock::Clock::start());
    let key = crate::config::settings::KeySource::Env("KEY".to_owned());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        reported.iter().for_each(|notice| crate::agent::notice_log::write(notice, &key));
    });
    let text = String::from_utf8(sink.lock().unwrap().clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let seen = lines.filter(|line| line["event"] == "request_seen");
    seen.map(|line| (line["level"].as_str().unwrap().to_owned(), line["request"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_settled_request_that_is_listed_again_is_warned_about_once() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.listed_after(MINUTES, &["r1", "r2"]);
    harness.approve("r1", false);
    harness.confirmed("r1", Answer::Approve);
    harness.listed_after(10 * MINUTES, &["r1"]);
    // Answered, or gone without an answer: both were settled.
    harness.listed_after(10 * MINUTES, &["r1", "r2"]);
    harness.listed_after(10 * MINUTES, &["r1", "r2"]);
    let seen = seen_in_the_log(&harness.notices);
    let line = |level: &str, id: &str| (level.to_owned(), id.to_owned());
    let once = [line("debug", "r1"), line("debug", "r2"), line("warn", "r1"), line("warn", "r2")];
    assert_eq!(seen, once);
}

#[test]
fn what_was_answered_before_anybody_remembers_waits_for_a_person() {
    use crate::inbox::GivenAnswer;
    use crate::policy::testkit::{by_handle, policy, reject};
    let ann = || ContactRequest { sender: Sender::parse(Some("ann")), ..request("r1") };
    let mut harness = CoreHarness::new(SavedAgent::default());
    let rules = || Some(std::sync::Arc::new(policy(vec![reject("no", by_handle(&["ann"]))])));
    harness.stalled = true;
    harness.input(Input::Policy(rules()));
    harness.lists_after(MINUTES, &[ann()]);
    harness.input(Input::Recorded(Ok(())));
    // The batch with the intent: the ledger knows that the same request was let in long ago.
    while harness.intents() == 0 {
        harness.input(Input::Recorded(Ok(())));
    }
    harness.stalled = false;
    let said = GivenAnswer { answer: Answer::Approve, by: crate::policy::By::NoMatch, lasts: None };
    let request = RequestId::parse("r1").unwrap();
    harness.input(Input::Recorded(Err(LedgerError::Answered { request, said })));
    harness.wait(Duration::from_secs(1));
    assert_eq!(harness.answers_sent(), 0, "{:?}", harness.recorded);
    let rows = harness.core.pending();
    assert_eq!((rows.len(), rows[0].by.clone()), (1, crate::policy::By::parse("guard:answered-before")));
}

#[test]
fn a_sender_that_changed_while_nobody_watched_is_recorded_and_decided_again() {
    let of = |handle: &str| ContactRequest { sender: Sender::parse(Some(handle)), ..request("r1") };
    for (shown, recorded) in [("carol", 0), ("@Carol", 0), ("mallory", 1)] {
        let decided =
            vec![(RequestId::parse("r1").unwrap(), Verdict::Defer, crate::policy::By::NoMatch, Mode::Enforce)];
        let saved = SavedAgent { pending: vec![on_record("r1", Some("carol"))], decided, ..SavedAgent::default() };
        let mut harness = CoreHarness::new(saved);
        harness.input(Input::Policy(Some(std::sync::Arc::new(crate::policy::testkit::policy(Vec::new())))));
        harness.lists_after(MINUTES, &[of(shown)]);
        let count = |which: fn(&Record) -> bool| harness.recorded.iter().filter(|entry| which(entry)).count();
        assert_eq!(count(|entry| matches!(entry, Record::Seen { .. })), recorded, "{shown}");
        assert_eq!(count(|entry| matches!(entry, Record::Decided { .. })), recorded, "{shown}");
    }
}

#[test]
fn an_agent_without_rules_looks_at_each_request_once_and_still_does_what_a_person_says() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let ids: Vec<String> = (0..90).map(|number| format!("r{number}")).collect();
    harness.listed_after(MINUTES, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(harness.core.inbox.next_ready().is_none(), "nobody waits to be decided by rules that there are not");
    let rows = harness.core.pending();
    assert!(
        rows.iter().all(|row| row.stage == "waiting" && row.by == crate::policy::By::parse("error:policy")),
        "{rows:?}"
    );
    harness.approve("r7", false);
    assert_eq!(harness.answers_sent(), 1);
    harness.input(Input::Policy(Some(std::sync::Arc::new(crate::policy::testkit::policy(Vec::new())))));
    harness.wait(Duration::from_secs(1));
    let decided = harness.recorded.iter().filter(|entry| matches!(entry, Record::Decided { .. })).count();
    assert_eq!(decided, 89, "once there are rules, all are decided by them");
}
