//! Verifies whose key it is. With the key of another agent doorman would read and answer that agent's requests. So
//! nothing is listed and nothing is answered until `GET /agent/me` has confirmed that this very key belongs to our
//! agent.

use std::time::Duration;

use super::{Action, Core};
use crate::clock::{Mono, Now};
use crate::model::{AgentId, AgentState};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KeyIdentity {
    verified: bool,
    /// When the platform was asked; `None` when no question is open.
    asked_at: Option<Mono>,
    /// The next question is not before this.
    next: Mono,
    failures: u32,
}

impl Core {
    /// Whether the key is known to be our agent's.
    pub(super) fn is_us(&self) -> bool {
        self.identity.verified
    }

    /// Asks the platform whose the key is.
    pub(super) fn ask_me(&mut self, now: Now) {
        self.identity.asked_at = Some(now.mono);
        self.act(Action::Me);
    }

    /// When to ask: as long as the owner of the key is not verified. A refused key is tried again by timers of its own.
    pub(super) fn identity_due(&self, now: Now) -> Option<Mono> {
        if self.identity.verified || self.session.state() == AgentState::Refused {
            return None;
        }
        let due = match self.identity.asked_at {
            Some(asked_at) => asked_at + self.config.timing.patience(),
            None => self.identity.next,
        };
        Some(self.after_quiet(due, now))
    }

    /// The platform reported whose key it is.
    pub(super) fn identity_known(&mut self, whose: &AgentId) {
        let verified = whose.as_str().eq_ignore_ascii_case(self.config.agent.as_str());
        self.identity = KeyIdentity { verified, ..KeyIdentity::default() };
    }

    /// The platform could not say whose key it is. What was known of this key still holds.
    pub(super) fn identity_unknown(&mut self, now: Now) {
        let wait = self.backoff(self.identity.failures).min(self.config.timing.list_away.max(Duration::from_millis(1)));
        self.identity.asked_at = None;
        self.identity.failures = self.identity.failures.saturating_add(1);
        self.identity.next = now.mono + wait;
    }

    /// There is another key, or the current key does not work: whose key it is has to be verified again.
    pub(super) fn identity_lost(&mut self) {
        self.identity = KeyIdentity::default();
    }
}
