//! What is known about the key: how it is sent, whether REST accepts it, and whose it is. Only REST proves that a key
//! is refused; a refused upgrade alone proves nothing. The key itself is not stored here.

use std::time::Duration;

use super::{
    AgentState, ConnectionMode, CredentialsMode, NoteLevel, NoteName, PhoenixSession, SessionOutput, SocketPhase,
};
use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::model::AgentId;
use crate::phoenix::backoff::between;

/// See the module.
#[derive(Debug)]
pub(super) struct KeyStatus {
    mode: CredentialsMode,
    /// What `auto` has found out about sending this key in the query.
    query: QueryTry,
    /// The upgrade under way has the key in the query.
    asked_in_query: bool,
    /// The last upgrade with the header was refused as the platform refuses a key: 403 with an empty body.
    header_refused: bool,
    /// When the platform was asked whose the key is; `None` when no question is open.
    asked_at: Option<Mono>,
    /// How long to wait after the next refusal.
    refused_wait: Duration,
}

/// The progress of `auto` with the key in the query. A key in a URL ends up in access logs, so it is tried once, and
/// kept there only if that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueryTry {
    /// Not tried.
    Untried,
    /// The next upgrade, or the current one, has the key in the query.
    Trying,
    /// It was accepted there.
    Works,
    /// It was not accepted there either: back to the header, for good.
    Useless,
}

impl KeyStatus {
    /// Nothing known yet.
    pub(super) fn new(mode: CredentialsMode, timing: &Timing) -> Self {
        let refused_wait = timing.refused_min;
        Self {
            mode,
            query: QueryTry::Untried,
            asked_in_query: false,
            header_refused: false,
            asked_at: None,
            refused_wait,
        }
    }

    /// Whether the key goes into the query.
    pub(super) fn in_query(&self) -> bool {
        match self.mode {
            CredentialsMode::Query => true,
            CredentialsMode::Header => false,
            CredentialsMode::Auto => matches!(self.query, QueryTry::Trying | QueryTry::Works),
        }
    }

    /// An upgrade is requested now; returns whether the key goes into the query.
    pub(super) fn ask(&mut self) -> bool {
        self.asked_in_query = self.in_query();
        self.asked_in_query
    }

    /// An upgrade succeeded.
    pub(super) fn upgraded(&mut self) {
        self.taken();
    }

    /// The platform took the key at an upgrade, whatever it did then.
    pub(super) fn taken(&mut self) {
        self.header_refused = false;
        if self.query == QueryTry::Trying && self.asked_in_query {
            self.query = QueryTry::Works;
        }
    }

    /// An upgrade failed. `as_key` is whether it was refused in the way in which the platform refuses a key. Returns
    /// true if the query did not help, so that the header is used again.
    pub(super) fn upgrade_failed(&mut self, as_key: bool) -> bool {
        self.header_refused = as_key && !self.asked_in_query;
        let useless = match self.query {
            QueryTry::Trying => self.asked_in_query,
            QueryTry::Works => as_key,
            QueryTry::Untried | QueryTry::Useless => false,
        };
        if useless {
            self.query = QueryTry::Useless;
        }
        useless
    }

    /// There is another key.
    pub(super) fn changed(&mut self) {
        self.query = QueryTry::Untried;
        self.header_refused = false;
    }

    /// What to say about the query in `status`.
    pub(super) fn remark(&self) -> Option<String> {
        let words = match self.query {
            QueryTry::Untried => return None,
            QueryTry::Trying => "is tried once in the query",
            QueryTry::Works => "goes in the query, and with it into access logs",
            QueryTry::Useless => "was tried once in the query, refused there as well, and goes in the header again",
        };
        Some(format!(
            "the socket refused the key in the header while REST accepts it: the key {words}; `platform.credentials` chooses"
        ))
    }

    /// The key worked: the next refusal starts with the shortest wait.
    pub(super) fn proven(&mut self, timing: &Timing) {
        self.refused_wait = timing.refused_min;
    }

    /// Whether the header alone is at fault, given that REST has just accepted the key as ours. True once.
    fn falls_back(&mut self) -> bool {
        let now = self.mode == CredentialsMode::Auto && self.header_refused && self.query == QueryTry::Untried;
        if now {
            self.query = QueryTry::Trying;
        }
        self.header_refused = false;
        now
    }

    /// How long to wait after this refusal; the next wait is twice as long.
    fn wait(&mut self, timing: &Timing) -> Duration {
        let wait = self.refused_wait.min(timing.refused_max);
        self.refused_wait = wait.saturating_mul(2).min(timing.refused_max);
        wait
    }
}

impl PhoenixSession {
    /// Asks whose the key is, unless such a question is already open.
    pub(super) fn identify(&mut self, now: Mono) {
        let patience = self.config.timing.patience();
        if self.key.asked_at.is_none_or(|at| now.since(at) >= patience) {
            self.ask_identity(now);
        }
    }

    fn ask_identity(&mut self, now: Mono) {
        self.key.asked_at = Some(now);
        self.outputs.push_back(SessionOutput::Identify);
    }

    /// Some call was accepted. Only `GET /agent/me` shows whose the key is, so only that ends a refusal: a foreign key
    /// is accepted everywhere, too, and a reply that was in flight may be older than the refusal.
    pub(super) fn key_accepted(&mut self, whose: Option<AgentId>, now: Mono) {
        let Some(whose) = whose else {
            return;
        };
        self.key.asked_at = None;
        if !whose.as_str().eq_ignore_ascii_case(self.config.agent.as_str()) {
            return self.key_refused(format!("this key belongs to `{whose}`"), now);
        }
        match &mut self.phase {
            SocketPhase::Refused { .. } => self.leave_refused(now),
            SocketPhase::Waiting { until } => {
                if self.key.falls_back() {
                    *until = now;
                    self.note_fallback();
                }
            }
            SocketPhase::Dialling { .. } => {
                if self.key.falls_back() {
                    self.note_fallback();
                }
            }
            SocketPhase::Idle | SocketPhase::Polling | SocketPhase::Open(_) | SocketPhase::Stopped => {}
        }
    }

    /// The key does not work, or belongs to another agent: no socket until a probe succeeds.
    pub(super) fn key_refused(&mut self, why: String, now: Mono) {
        self.key.asked_at = None;
        // Calls that were in flight report the same refusal; only the reply to the probe lengthens the wait.
        if !matches!(self.phase, SocketPhase::Refused { probing: false, .. }) {
            self.drop_socket(now);
            let wait = self.key.wait(&self.config.timing);
            let probe_at = now + between(wait - wait / 10, wait, &mut self.rng);
            self.phase = SocketPhase::Refused { probe_at, probing: false };
        }
        self.enter(AgentState::Refused, why);
    }

    pub(super) fn identity_unknown(&mut self) {
        self.key.asked_at = None;
        if let SocketPhase::Refused { probing, .. } = &mut self.phase {
            *probing = false;
        }
    }

    pub(super) fn key_renewed(&mut self, now: Mono) {
        if matches!(self.phase, SocketPhase::Refused { .. }) {
            self.key.proven(&self.config.timing);
            self.probe(now);
        }
    }

    /// Asks with the key read again. Without a reply, it asks again.
    pub(super) fn probe(&mut self, now: Mono) {
        if let SocketPhase::Refused { probe_at, probing, .. } = &mut self.phase {
            *probe_at = now + self.key.refused_wait;
            *probing = true;
            self.ask_identity(now);
        }
    }

    fn leave_refused(&mut self, now: Mono) {
        match self.config.connection {
            ConnectionMode::Poll => self.poll_only(),
            ConnectionMode::Yield | ConnectionMode::Take => {
                self.enter(AgentState::Away, "the key is accepted: connecting".to_owned());
                self.connect(now);
            }
        }
    }

    fn note_fallback(&mut self) {
        let detail = "the socket refuses the key in the header while REST accepts it: the key is tried once in the query; \
                      set `platform.credentials` to choose";
        self.note(NoteLevel::Warn, NoteName::CredentialsFallback, detail.to_owned());
    }
}
