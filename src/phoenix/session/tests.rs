//! A session under stepped time; the test plays the platform.

mod conflict;
mod heartbeats;
mod keys;
mod random;
mod states;
mod wire;

use serde_json::{Value, json};

use super::*;
use crate::model::{ConnectPlan, RefusedBy};
use crate::secret::Redact;

const CONTACTS: &str = "agent_contacts:agent-1";
const CONTROL: &str = "agent_control:agent-1";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

fn refusal(status: Option<u16>) -> ConnectFailure {
    let by = if status.is_some() { RefusedBy::Empty } else { RefusedBy::Unknown };
    ConnectFailure { status, code: None, by, retry_after: None, asked: false, why: format!("http {status:?}") }
}

/// A session, the time, and everything that it has output since the last check.
struct SessionHarness {
    session: PhoenixSession,
    now: Mono,
    out: Vec<SessionOutput>,
    /// Whether heartbeats are answered at once.
    answers_beats: bool,
    /// The platform knows neither `on_conflict` nor the control channel.
    older: bool,
}

impl SessionHarness {
    fn new(connection: ConnectionMode, credentials: CredentialsMode, seed: u64) -> Self {
        let config = SessionConfig {
            agent: agent("agent-1"),
            connection,
            credentials,
            timing: Timing::default(),
            redact: Redact::default(),
        };
        let now = Mono::from_origin(seconds(1000));
        Self { session: PhoenixSession::new(config, seed), now, out: Vec::new(), answers_beats: true, older: false }
    }

    fn of(connection: ConnectionMode) -> Self {
        Self::new(connection, CredentialsMode::Auto, 1)
    }

    /// A session that has started and has requested a socket.
    fn dialling(connection: ConnectionMode) -> Self {
        let mut stage = Self::of(connection);
        stage.give(SessionInput::Start);
        assert!(stage.connects(), "{:?}", stage.out);
        stage.out.clear();
        stage
    }

    /// One that is joined and listed.
    fn live(connection: ConnectionMode) -> Self {
        let mut stage = Self::dialling(connection);
        stage.go_live();
        stage
    }

    fn go_live(&mut self) {
        self.go_joined();
        self.give(SessionInput::Listed);
        assert_eq!(self.state(), AgentState::Live);
        self.out.clear();
    }

    fn go_joined(&mut self) {
        self.give(SessionInput::Opened);
        self.answer_joins();
        assert!(self.session.joined());
    }

    /// Replies ok to the joins in `out`, and removes them.
    fn answer_joins(&mut self) {
        for frame in self.take_sent() {
            if frame[3] != "phx_join" {
                continue;
            }
            if self.older && frame[2] == CONTROL {
                let refused = json!({"status": "error", "response": {"reason": "unmatched topic"}});
                self.frame(json!([null, frame[1], frame[2], "phx_reply", refused]));
            } else {
                self.frame(json!([frame[0], frame[1], frame[2], "phx_reply", {"status": "ok", "response": {}}]));
            }
        }
    }

    fn give(&mut self, input: SessionInput<'_>) {
        let wall = jiff::Timestamp::UNIX_EPOCH;
        self.session.handle(input, Now { mono: self.now, wall });
        while let Some(output) = self.session.poll() {
            self.out.push(output);
        }
    }

    fn frame(&mut self, frame: Value) {
        self.give(SessionInput::Text(&frame.to_string()));
    }

    fn event(&mut self, join_ref: Value, topic: &str, event: &str, payload: Value) {
        self.frame(json!([join_ref, null, topic, event, payload]));
    }

    /// Jumps by this time at once, like a suspended machine.
    fn jump(&mut self, by: Duration) {
        self.now = self.now + by;
        self.give(SessionInput::Tick);
    }

    /// Lets this much time pass, from deadline to deadline.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..100_000 {
            let deadline = self.session.deadline().expect("a live session has a deadline");
            if deadline > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(deadline);
            self.give(SessionInput::Tick);
            self.answer_beats();
        }
        panic!("time does not pass");
    }

    fn answer_beats(&mut self) {
        if !self.answers_beats {
            return;
        }
        let beats = self.sent().into_iter().filter(|frame| frame[3] == "heartbeat").map(|frame| frame[1].clone());
        for reference in beats.collect::<Vec<_>>() {
            self.frame(json!([null, reference, "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
        }
        self.out.retain(|output| !matches!(output, SessionOutput::Send(text) if text.contains("heartbeat")));
    }

    /// Lets time pass until the next connect, and returns how long that took.
    fn until_connect(&mut self) -> Duration {
        let from = self.now;
        self.out.clear();
        for _ in 0..1000 {
            self.now = self.now.max(self.session.deadline().expect("a live session has a deadline"));
            self.give(SessionInput::Tick);
            if self.connects() {
                self.out.clear();
                return self.now.since(from);
            }
        }
        panic!("it never connects");
    }

    fn state(&self) -> AgentState {
        self.session.state()
    }

    fn sent(&self) -> Vec<Value> {
        let texts = self.out.iter().filter_map(|output| match output {
            SessionOutput::Send(text) => Some(serde_json::from_str(text).unwrap()),
            _ => None,
        });
        texts.collect()
    }

    fn take_sent(&mut self) -> Vec<Value> {
        let sent = self.sent();
        self.out.retain(|output| !matches!(output, SessionOutput::Send(_)));
        sent
    }

    fn has(&self, wanted: &SessionOutput) -> bool {
        self.out.contains(wanted)
    }

    fn connects(&self) -> bool {
        self.plan().is_some()
    }

    fn plan(&self) -> Option<ConnectPlan> {
        self.out.iter().rev().find_map(|output| match output {
            SessionOutput::Connect(plan) => Some(*plan),
            _ => None,
        })
    }

    fn closes(&self) -> bool {
        self.has(&SessionOutput::Close)
    }

    fn lists(&self) -> usize {
        self.out.iter().filter(|output| matches!(output, SessionOutput::List(_) | SessionOutput::Relist(_))).count()
    }

    fn notes(&self, name: NoteName) -> usize {
        self.out.iter().filter(|output| matches!(output, SessionOutput::Note(note) if note.name == name)).count()
    }

    /// The ids of requests that came in, in order.
    fn received(&self) -> Vec<String> {
        let ids = self.out.iter().filter_map(|output| match output {
            SessionOutput::Event(ChannelEvent::RequestReceived(request)) => Some(request.id.as_str().to_owned()),
            _ => None,
        });
        ids.collect()
    }

    fn states(&self) -> Vec<AgentState> {
        let states = self.out.iter().filter_map(|output| match output {
            SessionOutput::State(state, _) => Some(*state),
            _ => None,
        });
        states.collect()
    }
}
