//! What is known of the key: how the socket is told it, whether REST takes it, and whose it is. Only REST says that a
//! key is refused; a refused upgrade alone proves nothing. No key is in here.

use std::time::Duration;

use super::{AgentState, ConnectionMode, CredentialsMode, NoteLevel, Output, Phase, Session};
use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::model::AgentId;
use crate::phoenix::backoff::between;

/// See the module.
#[derive(Debug)]
pub(super) struct KeyStanding {
    mode: CredentialsMode,
    /// `auto` has turned to the query; it does not turn back.
    fell_back: bool,
    /// The last upgrade with the header was refused as if the key were wrong.
    header_refused: bool,
    /// When it was asked whose the key is, until that is answered.
    asked_at: Option<Mono>,
    /// How long to wait after the next refusal.
    refused_wait: Duration,
}

impl KeyStanding {
    /// Nothing known yet.
    pub(super) fn new(mode: CredentialsMode, timing: &Timing) -> Self {
        let refused_wait = timing.refused_min;
        Self { mode, fell_back: false, header_refused: false, asked_at: None, refused_wait }
    }

    /// Whether the key goes into the query.
    pub(super) fn in_query(&self) -> bool {
        match self.mode {
            CredentialsMode::Query => true,
            CredentialsMode::Header => false,
            CredentialsMode::Auto => self.fell_back,
        }
    }

    /// An upgrade succeeded.
    pub(super) fn upgraded(&mut self) {
        self.header_refused = false;
    }

    /// An upgrade was refused as if the key were wrong.
    pub(super) fn upgrade_refused(&mut self) {
        self.header_refused = !self.in_query();
    }

    /// The key did what it is for: the next refusal is a new one.
    pub(super) fn proven(&mut self, timing: &Timing) {
        self.refused_wait = timing.refused_min;
    }

    /// Whether the header alone is at fault, given that REST has just accepted the key as ours. True once.
    fn falls_back(&mut self) -> bool {
        let now = self.mode == CredentialsMode::Auto && self.header_refused && !self.fell_back;
        self.fell_back |= now;
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

impl Session {
    /// Asks whose the key is, unless that is being asked already.
    pub(super) fn identify(&mut self, now: Mono) {
        let patience = self.config.timing.patience();
        if self.key.asked_at.is_none_or(|at| now.since(at) >= patience) {
            self.ask_identity(now);
        }
    }

    fn ask_identity(&mut self, now: Mono) {
        self.key.asked_at = Some(now);
        self.outputs.push_back(Output::Identify);
    }

    /// Some call was accepted. Only `GET /agent/me` says whose the key is, so only that ends a refusal: a foreign key is
    /// accepted everywhere, too, and an answer that was under way may be older than the refusal.
    pub(super) fn key_accepted(&mut self, whose: Option<AgentId>, now: Mono) {
        let Some(whose) = whose else {
            return;
        };
        self.key.asked_at = None;
        if !whose.as_str().eq_ignore_ascii_case(self.config.agent.as_str()) {
            return self.key_refused(format!("this key belongs to `{whose}`"), now);
        }
        match &mut self.phase {
            Phase::Refused { .. } => self.leave_refused(now),
            Phase::Waiting { until } => {
                if self.key.falls_back() {
                    *until = now;
                    self.note_fallback();
                }
            }
            Phase::Dialling { .. } => {
                if self.key.falls_back() {
                    self.note_fallback();
                }
            }
            Phase::Idle | Phase::Polling | Phase::Open(_) | Phase::Stopped => {}
        }
    }

    /// The key is no good, or is somebody else's: no socket until a probe says otherwise.
    pub(super) fn key_refused(&mut self, why: String, now: Mono) {
        self.key.asked_at = None;
        // Calls that were under way say the same once more; only the probe's answer lengthens the wait.
        if !matches!(self.phase, Phase::Refused { probing: false, .. }) {
            self.drop_socket(now);
            let wait = self.key.wait(&self.config.timing);
            let probe_at = now + between(wait - wait / 10, wait, &mut self.rng);
            self.phase = Phase::Refused { probe_at, probing: false };
        }
        self.enter(AgentState::Refused, why);
    }

    pub(super) fn identity_unknown(&mut self) {
        self.key.asked_at = None;
        if let Phase::Refused { probing, .. } = &mut self.phase {
            *probing = false;
        }
    }

    pub(super) fn key_renewed(&mut self, now: Mono) {
        if matches!(self.phase, Phase::Refused { .. }) {
            self.key.proven(&self.config.timing);
            self.probe(now);
        }
    }

    /// Asks with the key read anew. Should nobody answer, it asks again.
    pub(super) fn probe(&mut self, now: Mono) {
        if let Phase::Refused { probe_at, probing, .. } = &mut self.phase {
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
        let detail = "the socket refuses the key in the header while rest accepts it: from now on the key goes into the \
                      query, and with it into access logs; set `credentials` to choose";
        self.note(NoteLevel::Warn, "credentials_fallback", detail.to_owned());
    }
}
