//! Counts notices for the metrics. What is counted by name alone (`doorman_events_total`) the core counts itself.

use std::path::Path;
use std::sync::Arc;

use super::core::notice::Notice;
use crate::ops::metrics::Metrics;
use crate::policy::{By, Truth};

/// Counts the notices of one agent.
#[derive(Debug)]
pub(super) struct Counting {
    metrics: Metrics,
    /// The agent's rules file, as it is configured.
    rules: Arc<str>,
    /// What was noticed of a connection before it was given up.
    cause: Option<&'static str>,
}

impl Counting {
    pub(super) fn new(metrics: Metrics, rules: &Path) -> Self {
        Self { metrics, rules: rules.display().to_string().into(), cause: None }
    }

    pub(super) fn count(&mut self, notice: &Notice) {
        match notice {
            Notice::Decided { decision, .. } => {
                self.metrics.decided(decision.verdict.as_str(), kind(&decision.by));
                for voice in decision.voices.iter().filter(|voice| voice.truth == Truth::True) {
                    self.metrics.rule_matched(&self.rules, voice.rule.as_str());
                }
            }
            Notice::Answered { outcome, latency, .. } => self.metrics.answered(outcome.as_str(), *latency),
            Notice::Superseded(_) => self.cause = Some("superseded"),
            Notice::Session(note) => match note.what {
                "reconnect" => self.metrics.reconnecting(self.cause.take().unwrap_or("closed")),
                cause @ ("connection_dead" | "join_refused" | "join_timeout" | "channel_crashed"
                | "blocked_in_between" | "policy_violation" | "connection_fight") => {
                    self.cause.get_or_insert(cause);
                }
                _ => {}
            },
            Notice::State { state: crate::model::AgentState::Live, .. } => self.cause = None,
            _ => {}
        }
    }
}

/// What a `by` begins with.
fn kind(by: &By) -> &'static str {
    match by {
        By::Rule(_) => "rule",
        By::Guard(_) => "guard",
        By::Limit(_) => "limit",
        By::Overdue(_) => "overdue",
        By::Hold(_) => "hold",
        By::NoMatch => "no_match",
        By::Paused => "paused",
        By::Error(_) => "error",
        By::Person(_) => "person",
    }
}
