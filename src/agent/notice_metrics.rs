//! Counts notices for the metrics. The core itself counts what is counted by name only (`doorman_events_total`).

use std::path::Path;
use std::sync::Arc;

use super::core::notice::Notice;
use crate::model::AgentState;
use crate::ops::metrics::Metrics;
use crate::phoenix::NoteName;
use crate::policy::{By, Truth};

/// Counts the notices of one agent.
#[derive(Debug)]
pub(super) struct NoticeCounter {
    metrics: Metrics,
    /// The agent's rules file, as it is configured.
    rules: Arc<str>,
    /// What was noticed of a connection before it was given up.
    cause: Option<&'static str>,
}

impl NoticeCounter {
    pub(super) fn new(metrics: Metrics, rules: &Path) -> Self {
        Self { metrics, rules: rules.display().to_string().into(), cause: None }
    }

    pub(super) fn count(&mut self, notice: &Notice) {
        match notice {
            Notice::Decided { decision, .. } => {
                self.metrics.decided(decision.verdict.as_str(), kind(&decision.by));
                for voice in decision.rule_results.iter().filter(|voice| voice.truth == Truth::True) {
                    self.metrics.rule_matched(&self.rules, voice.rule.as_str());
                }
            }
            Notice::Answered { outcome, latency, .. } => self.metrics.answered(outcome.as_str(), *latency),
            Notice::Superseded(_) => self.cause = Some("superseded"),
            Notice::Session(note) => self.session(note.name),
            Notice::State { state: AgentState::Live, .. } => self.cause = None,
            Notice::State { .. }
            | Notice::Listed { .. }
            | Notice::IdentityUnknown { .. }
            | Notice::InBetween { .. }
            | Notice::ListFailed { .. }
            | Notice::Seen { .. }
            | Notice::Returned { .. }
            | Notice::Changed { .. }
            | Notice::Answering { .. }
            | Notice::Retry { .. }
            | Notice::Refused { .. }
            | Notice::Person { .. }
            | Notice::Overdue { .. }
            | Notice::DeciderReplied { .. }
            | Notice::DeciderFailed { .. }
            | Notice::DeciderRecovered { .. }
            | Notice::Settled { .. }
            | Notice::ContactAdded { .. }
            | Notice::ContactUnexplained { .. }
            | Notice::InDoubt { .. }
            | Notice::OtherHolder { .. }
            | Notice::ContactsBaseline { .. }
            | Notice::ContactRemoved { .. }
            | Notice::GuestEnd { .. }
            | Notice::GuestExpired { .. }
            | Notice::GuestNotRemoved { .. }
            | Notice::GuestInDoubt { .. }
            | Notice::SettledAgainstPolicy { .. }
            | Notice::Paused { .. }
            | Notice::Resumed { .. }
            | Notice::Throttled { .. }
            | Notice::KeyRefused { .. }
            | Notice::Identified { .. }
            | Notice::LedgerRefused { .. }
            | Notice::Clock { .. }
            | Notice::Policy { .. }
            | Notice::InboxFull => {}
        }
    }

    /// The session's first note is the cause of the reconnection that follows.
    fn session(&mut self, note: NoteName) {
        match note {
            NoteName::Reconnect => self.metrics.reconnecting(self.cause.take().unwrap_or("closed")),
            NoteName::ConnectionDead
            | NoteName::JoinRefused
            | NoteName::JoinTimeout
            | NoteName::ChannelCrashed
            | NoteName::BlockedInBetween
            | NoteName::PolicyViolation
            | NoteName::ConnectionFight => {
                self.cause.get_or_insert(note.as_str());
            }
            NoteName::FrameMalformed
            | NoteName::FrameTooLong
            | NoteName::FrameBinary
            | NoteName::ReplyUnmatched
            | NoteName::ReplyMalformed
            | NoteName::PayloadMalformed
            | NoteName::EventUnknown
            | NoteName::TopicUnknown
            | NoteName::JoinStale
            | NoteName::ChannelClosed
            | NoteName::ConnectionPattern
            | NoteName::CredentialsFallback => {}
        }
    }
}

/// The kind of `by`.
fn kind(by: &By) -> &'static str {
    match by {
        By::Rule(_) => "rule",
        By::Guard(_) => "guard",
        By::Limit(_) => "limit",
        By::Ask(_) => "ask",
        By::Overdue(_) => "overdue",
        By::Hold(_) => "hold",
        By::NoMatch => "no_match",
        By::Paused => "paused",
        By::Error(_) => "error",
        By::Person(_) => "person",
    }
}
