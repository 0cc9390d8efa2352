//! The session of one agent with the platform: when and how to connect, what to send, what a frame means, and which
//! state the agent is in. It implements the table of `docs/architecture.md`, "States of an agent", except for the times
//! of listings. It never touches a socket or a clock: it takes inputs and returns outputs.
//!
//! The state is `live` only while the contacts channel is joined *and* a listing pass since that join has completed.
//! From an upgrade until then the state stays as it was (`starting`, `away` or `yielded`). If the channel ends while
//! the socket stays open, the state is `away`, since no events arrive.

mod channel;
mod conflict;
mod connecting;
mod endings;
mod heartbeat;
mod incoming;
mod key;
mod note;
mod socket;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use self::conflict::Conflict;
use self::endings::Endings;
use self::key::KeyStatus;
pub use self::note::NoteName;
pub(crate) use self::note::{Note, NoteLevel};
use self::socket::SocketRefs;
use super::backoff::{Backoff, between};
use crate::clock::{Mono, Now};
use crate::config::settings::{ConnectionMode, CredentialsMode, Timing};
use crate::model::{AgentId, AgentState, ConnectFailure, ConnectPlan, Ended};
use crate::platform::{ChannelEvent, Supersede};
use crate::secret::Redact;

/// A connection attempt that shows no progress for this many join timeouts is given up: each of its phases is bounded
/// by one.
const DIAL_PHASES_MAX: u32 = 4;

/// The configuration of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The agent.
    pub agent: AgentId,
    /// Yield, take or poll.
    pub connection: ConnectionMode,
    /// Header, query or auto.
    pub credentials: CredentialsMode,
    /// Intervals and time limits.
    pub timing: Timing,
    /// Removes keys from texts of the platform before they are shown.
    pub redact: Redact,
}

/// An input: what happened. The driver numbers its sockets and must not pass on frames of an older socket.
#[derive(Debug)]
pub enum SessionInput<'a> {
    /// The agent's task begins.
    Start,
    /// The upgrade succeeded.
    Opened,
    /// The upgrade, or what comes before it, failed.
    NotOpened(ConnectFailure),
    /// A text frame.
    Text(&'a str),
    /// A binary frame of this many bytes.
    Binary(usize),
    /// The connection ended.
    Closed(Ended),
    /// A whole first listing pass since the last join is through.
    Listed,
    /// REST accepted the key (any 2xx), and for `GET /agent/me` said whose it is.
    KeyAccepted(Option<AgentId>),
    /// REST refused the key: 401, or 403 on `me` or the listing. Says why, for people.
    KeyRefused(String),
    /// `GET /agent/me` failed in passing, after [`SessionOutput::Identify`].
    IdentityUnknown,
    /// A system between us and the platform answers REST calls in its place. With a description, for people.
    Blocked(String),
    /// The key changed: everything that was found out about the old one is void.
    KeyChanged,
    /// The operator gave a new key, or asked for a reload: a refused agent tries again now.
    KeyRenewed,
    /// The deadline has passed, or may have.
    Tick,
    /// Leave: `phx_leave`, close, and nothing after.
    Stop,
}

/// The outputs, to be carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutput {
    /// Open a socket.
    Connect(ConnectPlan),
    /// Send a text frame.
    Send(String),
    /// Close the socket, if there is one, and forget it.
    Close,
    /// Ask `GET /agent/me`, with the key read again, and report the result.
    Identify,
    /// List now: a join is complete, or something shows that a listing is needed. With the reason.
    List(&'static str),
    /// A listing is wanted, although no new join happened. With the reason.
    Relist(&'static str),
    /// An event about a contact could not be read: a contact may have come or gone unseen.
    ContactEventUnread,
    /// An event of the channel.
    Event(ChannelEvent),
    /// Another client took the connection.
    Superseded(Supersede),
    /// The state changed, or the reason for it did.
    State(AgentState, String),
    /// A note for the log, without raw text of others.
    Note(Note),
}

/// See the module. Call [`PhoenixSession::handle`] with what happened, then [`PhoenixSession::poll`] until `None`.
#[derive(Debug)]
pub struct PhoenixSession {
    config: SessionConfig,
    rng: Rng,
    outputs: VecDeque<SessionOutput>,
    state: AgentState,
    why: String,
    phase: SocketPhase,
    /// Between connects. Back to its base after [`Timing::proven_after`] live, never by connecting.
    backoff: Backoff,
    live_since: Option<Mono>,
    conflict: Conflict,
    key: KeyStatus,
    relist: Relist,
    endings: Endings,
    /// The last attempt reached no server: a completed listing then shows that another attempt may succeed.
    unreached: bool,
    /// The last text of a system in between; a repeated one is not reported as a warning again.
    between: Option<String>,
    /// The latest time that the session was given.
    seen: Mono,
}

/// The phase of the socket.
#[derive(Debug)]
enum SocketPhase {
    /// Not started.
    Idle,
    /// There is no socket, by configuration.
    Polling,
    /// No socket until this time.
    Waiting { until: Mono },
    /// Requested; no result yet.
    Dialling { give_up: Mono },
    /// Open.
    Open(Box<SocketRefs>),
    /// No socket, because the key is refused.
    Refused { probe_at: Mono, probing: bool },
    /// Stopped.
    Stopped,
}

/// Listings that were requested because a message could not be read; at most one per [`Timing::list_away`].
#[derive(Debug, Default)]
struct Relist {
    last: Option<Mono>,
    due: Option<Mono>,
}

impl PhoenixSession {
    /// A session that waits for [`SessionInput::Start`]. `seed` feeds all jitter.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        let timing = &config.timing;
        Self {
            rng: Rng::with_seed(seed),
            outputs: VecDeque::new(),
            state: AgentState::Starting,
            why: String::new(),
            phase: SocketPhase::Idle,
            backoff: Backoff::new(timing.backoff_min, timing.backoff_max),
            live_since: None,
            conflict: Conflict::new(config.connection),
            key: KeyStatus::new(config.credentials, timing),
            relist: Relist::default(),
            endings: Endings::default(),
            unreached: false,
            between: None,
            seen: Mono::ZERO,
            config,
        }
    }

    /// A doorman may have had the connection until a moment ago, and the platform may count it as live for a while: that is no other
    /// client.
    pub(crate) fn follows_ours(&mut self, now: Mono) {
        self.conflict.dropped(now);
    }

    /// Takes an input, and then does everything that is due: a busy stream starves no timer.
    pub fn handle(&mut self, input: SessionInput<'_>, now: Now) {
        self.seen = self.seen.max(now.mono);
        let now = self.seen;
        match (&self.phase, input) {
            (SocketPhase::Stopped, _) => return,
            (_, SessionInput::Stop) => return self.stop(),
            (SocketPhase::Idle, SessionInput::Start) => self.start(now),
            (SocketPhase::Idle, _) | (_, SessionInput::Start | SessionInput::Tick) => {}
            (_, SessionInput::Opened) => self.opened(now),
            (_, SessionInput::NotOpened(refusal)) => self.not_opened(refusal, now),
            (_, SessionInput::Text(text)) => self.text(text, now),
            (_, SessionInput::Binary(length)) => {
                self.note(
                    NoteLevel::Debug,
                    NoteName::FrameBinary,
                    format!("a binary frame of {length} bytes was ignored"),
                );
            }
            (_, SessionInput::Closed(ended)) => self.closed(&ended, now),
            (_, SessionInput::Listed) => self.listed(now),
            (_, SessionInput::KeyAccepted(whose)) => self.key_accepted(whose, now),
            (_, SessionInput::KeyRefused(why)) => self.key_refused(why, now),
            (_, SessionInput::IdentityUnknown) => self.identity_unknown(),
            (_, SessionInput::Blocked(why)) => self.blocked(why, now),
            (_, SessionInput::KeyChanged) => self.key.changed(),
            (_, SessionInput::KeyRenewed) => self.key_renewed(now),
        }
        self.fire_timers(now);
    }

    /// The next output; call until `None` after each `handle`.
    pub fn poll(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    /// Remarks for people about the connection beside its state, one sentence each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.key.remark().into_iter().chain(self.endings.remark()).chain(self.conflict.remark(self.seen)).collect()
    }

    /// The state of the agent; `Starting` until something is known.
    pub fn state(&self) -> AgentState {
        self.state
    }

    /// Whether events are flowing: joined (listed or not).
    pub fn joined(&self) -> bool {
        matches!(&self.phase, SocketPhase::Open(socket) if socket.contacts.is_joined())
    }

    fn start(&mut self, now: Mono) {
        match self.config.connection {
            ConnectionMode::Poll => self.poll_only(),
            ConnectionMode::Yield | ConnectionMode::Take => self.connect(now),
        }
    }

    fn poll_only(&mut self) {
        self.phase = SocketPhase::Polling;
        self.enter(AgentState::Polling, "`connection` is `poll`: no socket, only listings".to_owned());
    }

    fn stop(&mut self) {
        if let SocketPhase::Open(socket) = &mut self.phase {
            self.outputs.extend(socket.leave().map(SessionOutput::Send));
        }
        self.outputs.push_back(SessionOutput::Close);
        self.phase = SocketPhase::Stopped;
    }

    fn listed(&mut self, now: Mono) {
        if self.joined() && self.state != AgentState::Live {
            self.live_since = Some(now);
            self.enter(AgentState::Live, "joined and listed".to_owned());
        }
        // REST answers again, so the socket may work, too. Many agents may find that out at the same moment, hence the
        // jitter.
        let spread = self.config.timing.backoff_min;
        if let SocketPhase::Waiting { until } = &mut self.phase
            && std::mem::take(&mut self.unreached)
        {
            *until = (*until).min(now + between(Duration::ZERO, spread, &mut self.rng));
        }
        if matches!(self.phase, SocketPhase::Polling) {
            self.poll_only();
        }
        if matches!(self.state, AgentState::Live | AgentState::Polling) {
            self.key.proven(&self.config.timing);
        }
    }

    /// A system in between answers REST calls in the platform's place: nothing can be listed or answered, whatever the
    /// socket does. It says nothing about the key.
    fn blocked(&mut self, why: String, now: Mono) {
        self.identity_unknown();
        match self.state {
            AgentState::Starting | AgentState::Live | AgentState::Away | AgentState::Polling => {
                self.leave_live(now);
                self.enter(AgentState::Away, why);
            }
            AgentState::Yielded | AgentState::Refused | AgentState::Elsewhere => {}
        }
    }

    /// The session is no longer live; if it was live for long enough, the backoff is reset.
    fn leave_live(&mut self, now: Mono) {
        if let Some(since) = self.live_since.take()
            && now.since(since) >= self.config.timing.proven_after
        {
            self.backoff.reset();
        }
    }

    /// A message could not be read: if it matters, the list has it.
    fn ask_listing(&mut self, now: Mono) {
        if self.joined() && self.relist.due.is_none() {
            let earliest = self.relist.last.map_or(now, |last| last + self.config.timing.list_away);
            self.relist.due = Some(earliest.max(now));
        }
    }

    fn enter(&mut self, state: AgentState, why: String) {
        if (self.state, &self.why) != (state, &why) {
            self.state = state;
            self.why = why;
            self.outputs.push_back(SessionOutput::State(self.state, self.why.clone()));
        }
    }

    fn note(&mut self, level: NoteLevel, name: NoteName, detail: String) {
        self.outputs.push_back(SessionOutput::Note(Note { level, name, detail }));
    }
}
