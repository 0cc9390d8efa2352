//! Random inputs in any order and at any time: what a session never does, and what it always does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Something that happens; refs are named by how far back they were used, so that many of them fit.
#[derive(Debug, Clone)]
enum RandomStep {
    Start,
    Opened,
    NotOpened {
        status: Option<u16>,
        retry_after: Option<u64>,
    },
    Closed(Option<u16>),
    Listed,
    KeyAccepted(Option<bool>),
    KeyRefused,
    IdentityUnknown,
    KeyRenewed,
    Stop,
    Binary,
    Malformed(String),
    Reply {
        back: usize,
        ok: bool,
        reason: &'static str,
    },
    Said {
        topic: &'static str,
        event: &'static str,
        back: Option<usize>,
        payload: bool,
    },
    /// Let time pass: to the deadline, or by this number of milliseconds, whatever the deadline says.
    ToDeadline,
    Jump(u64),
}

fn step() -> impl Strategy<Value = RandomStep> {
    let status =
        prop_oneof![Just(None), prop::sample::select(vec![400u16, 401, 403, 409, 429, 500, 503]).prop_map(Some)];
    let code = prop_oneof![
        Just(None),
        prop::sample::select(vec![1000u16, 1001, 1002, 1006, 1011, 1012, 1013, 4000]).prop_map(Some)
    ];
    let reason = prop::sample::select(vec!["unauthorized", "unmatched topic", "join crashed", "whatever"]);
    let topic = prop::sample::select(vec![CONTACTS, CONTROL, "phoenix", "agent_contacts:other"]);
    let events =
        vec!["phx_error", "phx_close", "phx_reply", "supersede", "contact_request_received", "contact_removed"];
    let event = prop::sample::select(events);
    prop_oneof![
        1 => Just(RandomStep::Start),
        6 => Just(RandomStep::Opened),
        3 => (status, prop::option::of(prop_oneof![0..100u64, Just(u64::MAX)]))
            .prop_map(|(status, retry_after)| RandomStep::NotOpened { status, retry_after }),
        3 => code.prop_map(RandomStep::Closed),
        6 => Just(RandomStep::Listed),
        2 => prop::option::of(any::<bool>()).prop_map(RandomStep::KeyAccepted),
        1 => Just(RandomStep::KeyRefused),
        1 => Just(RandomStep::IdentityUnknown),
        1 => Just(RandomStep::KeyRenewed),
        1 => prop::bool::weighted(0.02).prop_map(|stop| if stop { RandomStep::Stop } else { RandomStep::ToDeadline }),
        1 => Just(RandomStep::Binary),
        2 => "\\PC{0,20}".prop_map(RandomStep::Malformed),
        12 => (0..4usize, prop::bool::weighted(0.7), reason).prop_map(|(back, ok, reason)| RandomStep::Reply { back, ok, reason }),
        6 => (topic, event, prop::option::of(0..6usize), any::<bool>())
            .prop_map(|(topic, event, back, payload)| RandomStep::Said { topic, event, back, payload }),
        20 => Just(RandomStep::ToDeadline),
        4 => prop_oneof![0..100u64, 0..70_000u64, 0..100_000_000u64].prop_map(RandomStep::Jump),
    ]
}

/// The state of the world around the session, derived from the session's outputs.
#[derive(Debug, Default, PartialEq, Clone, Copy)]
enum Surroundings {
    #[default]
    Nothing,
    Dialling,
    Open,
}

struct Watch {
    stage: SessionHarness,
    world: Surroundings,
    /// The refs of the pushes of the open socket, in order.
    refs: Vec<u64>,
    started: bool,
    stopped: bool,
}

impl Watch {
    fn give(&mut self, input: SessionInput<'_>) {
        // What the driver itself can see ends before the session gets the input.
        match (&input, self.world) {
            (SessionInput::Opened, Surroundings::Dialling) => {
                self.world = Surroundings::Open;
                self.refs.clear();
            }
            (SessionInput::NotOpened(_), Surroundings::Dialling)
            | (SessionInput::Closed(_), Surroundings::Dialling | Surroundings::Open) => {
                self.world = Surroundings::Nothing;
            }
            _ => {}
        }
        self.started |= matches!(input, SessionInput::Start);
        let silent = self.stopped;
        self.stopped |= matches!(input, SessionInput::Stop);
        self.stage.out.clear();
        self.stage.give(input);
        assert!(!silent || self.stage.out.is_empty(), "after stop: {:?}", self.stage.out);
        let outputs = std::mem::take(&mut self.stage.out);
        for output in &outputs {
            self.check(output);
        }
        self.check_standing();
    }

    fn check(&mut self, output: &SessionOutput) {
        match output {
            SessionOutput::Connect(plan) => {
                assert_eq!(self.world, Surroundings::Nothing, "a second socket");
                assert!(!plan.take || self.stage.session.config.connection == ConnectionMode::Take);
                assert_ne!(self.stage.session.config.connection, ConnectionMode::Poll);
                self.world = Surroundings::Dialling;
            }
            SessionOutput::Close => self.world = Surroundings::Nothing,
            SessionOutput::Send(text) => {
                assert_eq!(self.world, Surroundings::Open, "nobody hears {text}");
                let frame: Value = serde_json::from_str(text).unwrap();
                let reference = frame[1].as_str().unwrap().parse().unwrap();
                assert!(!self.refs.contains(&reference), "a ref twice: {text}");
                self.refs.push(reference);
            }
            SessionOutput::State(state, why) => {
                assert!(!why.is_empty(), "{state} for no reason");
                assert!(*state != AgentState::Starting, "it does not start twice");
            }
            SessionOutput::Identify
            | SessionOutput::List(_)
            | SessionOutput::Relist(_)
            | SessionOutput::ContactEventUnread
            | SessionOutput::Event(_)
            | SessionOutput::Superseded(_)
            | SessionOutput::Note(_) => {}
        }
    }

    fn check_standing(&self) {
        let session = &self.stage.session;
        assert_eq!(session.deadline().is_none(), self.stopped, "a live session has a deadline");
        if self.stopped {
            return;
        }
        let deadline = session.deadline().unwrap();
        // Of all waits, the longest is an hour short of a day; none is longer than the figures allow.
        assert!(deadline.since(self.stage.now) <= seconds(86_400));
        if let SocketPhase::Waiting { until } = session.phase {
            assert!(until.since(self.stage.now) <= seconds(960), "longer than any backoff");
        }
        assert!(session.state() != AgentState::Live || session.joined(), "live without a join");
        assert!(!session.joined() || self.world == Surroundings::Open);
        assert!(session.state() != AgentState::Refused || self.world == Surroundings::Nothing);
    }

    fn take(&mut self, step: &RandomStep) {
        match step {
            RandomStep::Start => self.give(SessionInput::Start),
            // A driver usually reports nothing about a socket that it has to forget.
            RandomStep::Opened => match self.world {
                Surroundings::Dialling => self.give(SessionInput::Opened),
                Surroundings::Nothing | Surroundings::Open => {}
            },
            RandomStep::NotOpened { status, retry_after } => {
                let retry_after = retry_after.map(seconds);
                self.give(SessionInput::NotOpened(ConnectFailure { retry_after, ..refusal(*status) }));
            }
            RandomStep::Closed(code) => self.give(SessionInput::Closed((*code).into())),
            RandomStep::Listed => self.give(SessionInput::Listed),
            RandomStep::KeyAccepted(whose) => {
                let whose = whose.map(|ours| agent(if ours { "agent-1" } else { "agent-2" }));
                self.give(SessionInput::KeyAccepted(whose));
            }
            RandomStep::KeyRefused => self.give(SessionInput::KeyRefused("http 401".to_owned())),
            RandomStep::IdentityUnknown => self.give(SessionInput::IdentityUnknown),
            RandomStep::KeyRenewed => self.give(SessionInput::KeyRenewed),
            RandomStep::Stop => self.give(SessionInput::Stop),
            RandomStep::Binary => self.give(SessionInput::Binary(7)),
            RandomStep::Malformed(text) => self.give(SessionInput::Text(text)),
            RandomStep::Reply { back, ok, reason } => {
                let reference = self.reference(*back).map(|reference| reference.to_string());
                let status = if *ok { "ok" } else { "error" };
                let payload = json!({"status": status, "response": {"reason": reason}});
                let frame = json!([null, reference, CONTACTS, "phx_reply", payload]);
                self.give(SessionInput::Text(&frame.to_string()));
            }
            RandomStep::Said { topic, event, back, payload } => {
                let join_ref = back.and_then(|back| self.reference(back));
                let payload = match payload {
                    true => json!({"id": "r1", "status": "pending", "inserted_at": "2026-03-02T10:00:00Z"}),
                    false => json!({}),
                };
                let frame = json!([join_ref, null, topic, event, payload]);
                self.give(SessionInput::Text(&frame.to_string()));
            }
            RandomStep::ToDeadline => {
                if let Some(deadline) = self.stage.session.deadline() {
                    self.stage.now = self.stage.now.max(deadline);
                }
                self.give(SessionInput::Tick);
            }
            RandomStep::Jump(by) => {
                self.stage.now = self.stage.now + Duration::from_millis(*by);
                self.give(SessionInput::Tick);
            }
        }
    }

    fn reference(&self, back: usize) -> Option<u64> {
        self.refs.iter().rev().nth(back).copied()
    }

    /// From any state, with a working platform: live within the longest of all waits.
    fn recover(&mut self) {
        if !self.started {
            self.take(&RandomStep::Start);
        }
        let from = self.stage.now;
        let mut answered = BTreeSet::new();
        for _ in 0..400 {
            if matches!(self.stage.session.state(), AgentState::Live | AgentState::Polling) {
                assert!(self.stage.now.since(from) <= seconds(900 + 960 + 70), "{:?}", self.stage.now.since(from));
                return;
            }
            match self.world {
                Surroundings::Dialling => {
                    answered.clear();
                    self.give(SessionInput::Opened);
                }
                Surroundings::Open if self.stage.session.joined() => self.give(SessionInput::Listed),
                Surroundings::Open => match self.refs.iter().copied().find(|&reference| answered.insert(reference)) {
                    Some(reference) => {
                        let frame = json!([null, reference.to_string(), "any", "phx_reply", {"status": "ok"}]);
                        self.give(SessionInput::Text(&frame.to_string()));
                    }
                    None => self.take(&RandomStep::ToDeadline),
                },
                Surroundings::Nothing => {
                    self.take(&RandomStep::ToDeadline);
                    if self.stage.session.state() == AgentState::Refused {
                        self.take(&RandomStep::KeyAccepted(Some(true)));
                    }
                }
            }
        }
        panic!("it does not recover: {:?}", self.stage.session);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_keeps_its_promises_and_recovers(
        seed: u64,
        mode in prop::sample::select(vec![ConnectionMode::Yield, ConnectionMode::Take, ConnectionMode::Poll]),
        credentials in prop::sample::select(vec![CredentialsMode::Auto, CredentialsMode::Header, CredentialsMode::Query]),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let stage = SessionHarness::new(mode, credentials, seed);
        let mut watch = Watch { stage, world: Surroundings::Nothing, refs: Vec::new(), started: false, stopped: false };
        watch.take(&RandomStep::Start);
        for step in &steps {
            watch.take(step);
        }
        if !watch.stopped {
            watch.recover();
        }
    }
}
