//! The script: strangers ask in groups, and one agent's core answers them, with or without a ledger behind it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorman::agent::{Action, BATCH_MAX, Core, CoreConfig, Input};
use doorman::clock::{Mono, Now};
use doorman::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use doorman::ledger::Ledger;
use doorman::ledger::entry::SavedAgent;
use doorman::model::{AgentId, Answer, RequestId, Sender};
use doorman::platform::{Me, Page, Reply, Responded};
use doorman::policy::Policy;
use doorman::policy::rules::SourceText;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The agent that gets all requests.
pub const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// The size of a group; as many requests are answered at once.
const GROUP: u64 = 64;
const RULES: &str = r#"version = 1
[policy]
mode = "enforce"
protect = ["owner", "acme"]
[rules.friends]
then = "approve"
when = { handle = "friends/*" }
limit = { count = 1000000, per = "1h", by = "rule" }
[rules.team]
then = "approve"
when = { owner = ["ann", "bob"], message_contains = "invite" }
[rules.offers]
then = "reject"
when = { message_regex = '(?i)\b(seo|crypto)\b' }
"#;
const MESSAGE: &str = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";

/// The script's rules.
pub fn policy() -> Arc<Policy> {
    let texts = [SourceText { name: "rules.toml".to_owned(), text: RULES.into() }];
    let loaded = doorman::policy::load_texts(Path::new("rules.toml"), &texts);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
}

/// The push of the `n`th request: of eight, six are from friends, one is rejected, and one stays pending until its
/// sender cancels it.
pub fn asks(n: u64) -> String {
    let (owner, message) = match n % 8 {
        6 => ("offers", "Cheap crypto for your agent, only today, only here, only for you and your friends."),
        7 => ("others", MESSAGE),
        _ => ("friends", MESSAGE),
    };
    let payload = json!({ "id": id(n), "from_handle": format!("{owner}/bot-{n}"), "from_name": format!("Weather {n}"),
                          "message": message, "status": "pending", "inserted_at": "2026-01-01T00:00:00.000000Z" });
    push("contact_request_received", &payload)
}

/// The push of the contact that the approval of the `n`th makes.
pub fn joins(n: u64) -> String {
    let payload = json!({ "id": format!("c0000000-0000-4000-8000-{n:012}"), "handle": format!("friends/bot-{n}"),
                          "name": format!("Weather {n}"), "type": "Agent", "inserted_at": "2026-01-01T00:00:00.000000Z" });
    push("contact_added", &payload)
}

/// The push of a request that its sender took back.
pub fn leaves(n: u64) -> String {
    push("contact_request_updated", &json!({ "id": id(n), "status": "cancelled" }))
}

fn id(n: u64) -> String {
    format!("b0000000-0000-4000-8000-{n:012}")
}

fn push(event: &str, payload: &Value) -> String {
    json!([null, null, format!("agent_contacts:{AGENT}"), event, payload]).to_string()
}

/// One agent, and the actions that it wants done.
pub struct Play {
    core: Core,
    conn: u64,
    at: Duration,
    todo: VecDeque<Action>,
    ledger: Option<(Ledger, Runtime)>,
    answered: u64,
}

impl Play {
    /// An agent that is live, without pending requests.
    pub fn new(ledger: Option<(Ledger, Runtime)>) -> Self {
        let config = CoreConfig {
            agent: AgentId::parse(AGENT).unwrap(),
            name: None,
            connection: ConnectionMode::Yield,
            credentials: CredentialsMode::Auto,
            answers: Answers { in_flight: u32::try_from(GROUP).unwrap(), per_second: 0 },
            timing: Timing::default(),
            shadow: false,
            seed: 7,
            capacity: 100_000,
            batch: BATCH_MAX,
            redact: doorman::secret::Redact::default(),
        };
        let core = Core::new(config, Some(policy()), SavedAgent::default(), now(Duration::ZERO));
        let mut play = Self { core, conn: 0, at: Duration::ZERO, todo: VecDeque::new(), ledger, answered: 0 };
        play.tell(Input::Start);
        play.rest();
        play
    }

    /// Sends this many requests, group by group, and answers them.
    pub fn run(&mut self, requests: u64) {
        for first in (0..requests).step_by(usize::try_from(GROUP).unwrap()) {
            self.at += Duration::from_millis(10);
            let group = first..(first + GROUP).min(requests);
            let frames: Vec<String> = group.clone().map(asks).collect();
            for text in &frames {
                self.frame(text);
            }
            self.rest();
            for n in group.filter(|n| n % 8 == 7) {
                self.frame(&leaves(n));
            }
            self.rest();
        }
        assert_eq!(self.answered, requests - requests / 8, "everybody was answered whom a rule answers");
        assert_eq!(self.core.pending().len(), 0);
        if let Some((ledger, runtime)) = self.ledger.take() {
            runtime.block_on(ledger.close()).unwrap();
        }
    }

    fn frame(&mut self, text: &str) {
        self.tell(Input::Frame { conn: self.conn, text, received: now(self.at).mono });
    }

    fn tell(&mut self, input: Input<'_>) {
        self.core.handle(input, now(self.at));
        while let Some(action) = self.core.poll() {
            self.todo.push_back(action);
        }
    }

    /// Carries out all actions until there is nothing left to do now.
    fn rest(&mut self) {
        let until = self.at + Duration::from_millis(8);
        loop {
            while let Some(action) = self.todo.pop_front() {
                self.carry_out(action);
            }
            if self.at >= until {
                return;
            }
            self.at += Duration::from_millis(2);
            self.tell(Input::Tick);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, .. } => {
                self.conn = conn;
                self.tell(Input::Opened { conn });
            }
            Action::Send { conn, text } => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let ok = json!({ "status": "ok", "response": {} });
                let text = json!([frame[0], frame[1], frame[2], "phx_reply", ok]).to_string();
                self.tell(Input::Frame { conn, text: &text, received: now(self.at).mono });
            }
            Action::Me => {
                let me = Me { id: AgentId::parse(AGENT).unwrap(), sender: Sender::Absent, name: None, owner: None };
                self.tell(Input::Me { reply: reply(me), changed: false });
            }
            Action::Page(fetch) => self.tell(Input::Page(fetch, reply(nobody()))),
            Action::Contacts { call, .. } => self.tell(Input::Contacts { call, reply: reply(nobody()) }),
            Action::Record(batch) => {
                if let Some((ledger, runtime)) = &self.ledger {
                    runtime.block_on(ledger.commit(batch)).unwrap();
                }
                self.tell(Input::Recorded(Ok(())));
            }
            Action::Respond { request, answer, attempt } => self.respond(request, answer, attempt),
            Action::Tell(_) => {}
            other @ (Action::Close { .. }
            | Action::Ask { .. }
            | Action::Remove { .. }
            | Action::Restore { .. }
            | Action::Reply { .. }
            | Action::Done) => {
                panic!("not of this script: {other:?}")
            }
        }
    }

    /// The platform accepts the answer: it pushes a contact, then replies.
    fn respond(&mut self, request: RequestId, answer: Answer, attempt: u32) {
        self.answered += 1;
        if answer == Answer::Approve {
            let (_, n) = request.as_str().rsplit_once('-').unwrap();
            self.frame(&joins(n.parse().unwrap()));
        }
        let reply = reply(Responded { status: answer.status() });
        self.tell(Input::Responded { request, attempt, reply, written: now(self.at).mono });
    }
}

fn reply<T>(said: T) -> Reply<T> {
    Reply { result: Ok(said), date: None }
}

fn nobody<T: doorman::platform::Listed>() -> Page<T> {
    Page { items: vec![], unreadable: vec![], nameless: vec![], total: Some(0), pages: Some(1) }
}

/// The time in the script.
pub fn now(at: Duration) -> Now {
    let origin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Now { mono: Mono::from_origin(at), wall: origin.checked_add(at).unwrap() }
}
