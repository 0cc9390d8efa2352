//! One agent's standing with the platform: when to connect, how, what to send, what a frame means, and which state it
//! is in. It owns the table of `docs/architecture.md`, "States of an agent". It never touches a socket or a clock.

use std::time::Duration;

use crate::clock::{Mono, Now};
use crate::config::settings::{ConnectionMode, CredentialsMode, Timing};
use crate::model::{AgentId, AgentState};
use crate::platform::{ChannelEvent, Supersede};

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Whose.
    pub agent: AgentId,
    /// Yield, take or poll.
    pub connection: ConnectionMode,
    /// Header, query or auto.
    pub credentials: CredentialsMode,
    /// The figures.
    pub timing: Timing,
}

/// How to connect, this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectPlan {
    /// `on_conflict=supersede` instead of `reject`.
    pub take: bool,
    /// Key in the query instead of the header.
    pub key_in_query: bool,
}

/// Why there is no socket after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `error.code` of its body, bounded and plain, if there was one.
    pub code: Option<String>,
    /// `Retry-After` or `error.retry_after`, not yet capped.
    pub retry_after: Option<Duration>,
    /// For people: the phase and the cause (`tls: certificate is not trusted…`); no key, nobody's raw text.
    pub why: String,
}

/// What happened. Frames of an older socket must not be given: the driver numbers its sockets.
#[derive(Debug)]
pub enum Input<'a> {
    /// The agent's task begins.
    Start,
    /// The upgrade succeeded.
    Opened,
    /// The upgrade, or what comes before it, failed.
    NotOpened(Refusal),
    /// A text frame.
    Text(&'a str),
    /// A binary frame of so many bytes.
    Binary(usize),
    /// The connection ended; `None` is an end without a close frame.
    Closed(Option<u16>),
    /// A whole first listing pass since the last join is through.
    Listed,
    /// REST accepted the key (any 2xx), and for `GET /agent/me` said whose it is.
    KeyAccepted(Option<AgentId>),
    /// REST refused the key: 401, or 403 on `me` or the listing. Says why, for people.
    KeyRefused(String),
    /// `GET /agent/me` failed in passing, after [`Output::Identify`].
    IdentityUnknown,
    /// The operator gave a new key, or asked for a reload: a refused agent tries again now.
    KeyRenewed,
    /// The deadline has passed, or may have.
    Tick,
    /// Leave: `phx_leave`, close, and nothing after.
    Stop,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a socket.
    Connect(ConnectPlan),
    /// Send a text frame.
    Send(String),
    /// Close the socket, if there is one, and forget it.
    Close,
    /// Ask `GET /agent/me`, with the key read anew, and say what came of it.
    Identify,
    /// List now: a join is through, or something says it is needed.
    List(&'static str),
    /// The channel said something.
    Event(ChannelEvent),
    /// Somebody took the connection.
    Superseded(Supersede),
    /// The state changed.
    State(AgentState, String),
    /// Something for the log: nobody's raw text in it.
    Note(Note),
}

/// What the session wants said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How loud.
    pub level: NoteLevel,
    /// A stable name for logs and counters: `frame_malformed`, `event_unknown`, `payload_malformed`, `join_refused`,
    /// `channel_crashed`, `reconnect`, `credentials_fallback`, `connection_fight`, …
    pub what: &'static str,
    /// For people.
    pub detail: String,
}

/// How loud a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteLevel {
    /// For whoever looks into the session.
    Debug,
    /// Worth a line.
    Info,
    /// Somebody may have to look.
    Warn,
    /// Somebody has to look.
    Error,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    _todo: (),
}

#[allow(missing_docs, unused_variables, clippy::todo)]
impl Session {
    /// `seed` feeds all jitter.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        todo!()
    }
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        todo!()
    }
    /// What is to be done next; call until `None` after each `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }
    /// When to call with [`Input::Tick`]; `None` only after `Stop`.
    pub fn deadline(&self) -> Option<Mono> {
        todo!()
    }
    pub fn state(&self) -> AgentState {
        todo!()
    }
    /// Whether events are flowing: joined (listed or not).
    pub fn joined(&self) -> bool {
        todo!()
    }
}
