//! The stages; each is played alone.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use doorman::config::settings::{CredentialsMode, Platform};
use doorman::ledger::{Ledger, LedgerOptions};
use doorman::model::{AgentId, Answer, RequestId};
use doorman::phoenix::frame;
use doorman::platform::net::Net;
use doorman::platform::payload::{self, ChannelEvent};
use doorman::platform::rest::Rest;
use doorman::policy::state::SavedState;
use doorman::policy::{Circumstances, ClockHealth, PolicyState};
use doorman::secret::Key;

use crate::play::{self, AGENT, Play};

/// One part of the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Parsing its frame, and that of the contact.
    Parse,
    /// Evaluating the rules.
    Decide,
    /// Sending the answer over REST, and reading the reply.
    Respond,
    /// Everything in between: the agent's core, from frames to actions.
    Core,
    /// Writing everything about it to the ledger.
    Record,
}

impl Stage {
    /// In the order of the table.
    pub const ALL: [Stage; 5] = [Stage::Parse, Stage::Decide, Stage::Respond, Stage::Core, Stage::Record];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Decide => "decide",
            Stage::Respond => "respond",
            Stage::Core => "core",
            Stage::Record => "record",
        }
    }

    /// The reverse of [`Stage::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// Plays it with this many requests.
    pub fn play(self, requests: u64) -> Result<(), Box<dyn std::error::Error>> {
        match self {
            Stage::Parse => parse(requests),
            Stage::Decide => decide(requests),
            Stage::Respond => respond(requests)?,
            Stage::Core => Play::new(None).run(requests),
            Stage::Record => {
                let dir = tempfile::tempdir()?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let ledger = Ledger::open(&dir.path().join("ledger.db"), LedgerOptions::default())?;
                Play::new(Some((ledger, runtime))).run(requests);
            }
        }
        Ok(())
    }
}

fn event(text: &str) -> ChannelEvent {
    let frame = frame::parse(text).unwrap();
    payload::channel_event(&frame.event, frame.payload).unwrap().unwrap()
}

fn parse(requests: u64) {
    for n in 0..requests {
        black_box(event(&play::asks(n)));
        black_box(event(&play::joins(n)));
    }
}

fn decide(requests: u64) {
    let (policy, now) = (play::policy(), play::now(Duration::ZERO).wall);
    let state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    let known = Circumstances { contacts: Some(3), ..Circumstances::new(now, ClockHealth::Sound) };
    for n in 0..requests {
        let ChannelEvent::RequestReceived(request) = event(&play::asks(n)) else { panic!("not a request") };
        // Repeated, since a decision is cheap compared with the frame, and always the same.
        for _ in 0..16 {
            black_box(policy.decide(black_box(&request), &known, &state, now));
        }
    }
}

fn respond(requests: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--platform")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port)?;
    let address = format!("127.0.0.1:{}", port.trim());
    let platform = Platform {
        rest: format!("http://{address}/api/v1").parse()?,
        socket: format!("ws://{address}/api/v1/socket/websocket").parse()?,
        ca_file: None,
        credentials: CredentialsMode::Auto,
        user_agent: http::HeaderValue::from_static("Mozilla/5.0 (compatible; doorman/ratchet)"),
        headers: vec![],
        calls_per_second_max: 200,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let rest = Rest::new(&platform, &Net::new(&platform).unwrap(), Duration::from_secs(60)).unwrap();
        let rest = rest.agent(AgentId::parse(AGENT).unwrap(), Key::parse("key-of-the-bench").unwrap());
        let request = RequestId::parse("b0000000-0000-4000-8000-000000000001").unwrap();
        for _ in 0..requests {
            rest.respond(&request, Answer::Approve).await.result.unwrap();
        }
    });
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The platform's side, in a process that is not counted: every call gets the same reply.
pub fn platform() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str = r#"{"data":{"id":"b0000000-0000-4000-8000-000000000001","status":"approved"}}"#;
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        heard.extend_from_slice(&buffer[..count]);
        // A call ends with its body, and only there.
        if heard.ends_with(b"}") {
            heard.clear();
            stream.write_all(reply.as_bytes())?;
        }
    }
}
