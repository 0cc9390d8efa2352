//! Metrics. Events are counted where they happen; states are read from the board. Counters outlive an agent's task, so
//! that no counter decreases while the process lives. A label never contains a stranger's text.

pub mod listener;
mod process;
mod scrape;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use self::table::MetricRow;
use super::board::BoardReader;
use crate::clock::Clock;
use crate::config::settings::PerAgent;
use crate::policy::ask::{AskFailure, DeciderReply};

pub(crate) use scrape::ScrapeFormat;

/// Most rules that are counted by name.
const RULES_MAX: usize = 1000;
/// Upper bounds of the buckets, in seconds.
const ANSWER_BUCKETS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
const DECIDER_BUCKETS: [f64; 11] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
const COMMIT_BUCKETS: [f64; 12] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// All metrics of this process. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    counts: EventCounters,
    board: BoardReader,
    clock: Clock,
    per_agent: PerAgent,
}

/// The counters for events. Cheap to clone.
#[derive(Debug, Clone)]
struct EventCounters {
    decisions: Family<DecidedLabels, Counter>,
    rule_matches: Family<MatchedLabels, Counter>,
    rules_known: Arc<AtomicUsize>,
    answers: Family<EndedLabels, Counter>,
    answer_seconds: Histogram,
    rest_requests: Family<CalledLabels, Counter>,
    reconnects: Family<CauseLabels, Counter>,
    commit_seconds: Histogram,
    notifications: Family<NotifiedLabels, Counter>,
    decider_answers: Family<AskedLabels, Counter>,
    decider_seconds: Family<DeciderLabels, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecidedLabels {
    verdict: &'static str,
    by_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MatchedLabels {
    rules: Arc<str>,
    rule: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CalledLabels {
    call: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotifiedLabels {
    target: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskedLabels {
    decider: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeciderLabels {
    decider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

impl Metrics {
    /// Metrics with all counters at zero.
    pub fn new(board: BoardReader, clock: Clock, per_agent: PerAgent) -> Self {
        let counts = EventCounters {
            decisions: Family::default(),
            rule_matches: Family::default(),
            rules_known: Arc::default(),
            answers: Family::default(),
            answer_seconds: Histogram::new(ANSWER_BUCKETS),
            rest_requests: Family::default(),
            reconnects: Family::default(),
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            notifications: Family::default(),
            decider_answers: Family::default(),
            decider_seconds: Family::new_with_constructor(|| Histogram::new(DECIDER_BUCKETS)),
        };
        Self { counts, board, clock, per_agent }
    }

    /// A request was decided. `by_kind` is the first part of `by`.
    pub fn decided(&self, verdict: &'static str, by_kind: &'static str) {
        self.counts.decisions.get_or_create(&DecidedLabels { verdict, by_kind }).inc();
    }

    /// A rule of this rules file matched. The operator chose both names.
    pub(crate) fn rule_matched(&self, rules: &Arc<str>, rule: &str) {
        let matches = &self.counts.rule_matches;
        let mut label = MatchedLabels { rules: rules.clone(), rule: rule.into() };
        if matches.get(&label).is_none() {
            // Several agents may use a new rule at the same time: then a few more rules than the limit are counted, but
            // never many.
            let known = self.counts.rules_known.fetch_add(1, Ordering::Relaxed);
            if known >= RULES_MAX {
                label = MatchedLabels { rules: "other".into(), rule: "other".into() };
            }
        }
        matches.get_or_create(&label).inc();
    }

    /// An answer got its outcome; `latency` is given if it was the first attempt for a live request.
    pub fn answered(&self, outcome: &'static str, latency: Option<Duration>) {
        self.counts.answers.get_or_create(&EndedLabels { outcome }).inc();
        if let Some(latency) = latency {
            self.counts.answer_seconds.observe(latency.as_secs_f64());
        }
    }

    /// A REST call ended with this status, or without any.
    pub(crate) fn rest_called(&self, call: &'static str, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.counts.rest_requests.get_or_create(&CalledLabels { call, status }).inc();
    }

    /// A connection is gone and will be tried again.
    pub(crate) fn reconnecting(&self, cause: &'static str) {
        self.counts.reconnects.get_or_create(&CauseLabels { cause }).inc();
    }

    /// A delivery to this target of the configuration was tried, with this result.
    pub fn notified(&self, target: &str, result: &'static str) {
        self.counts.notifications.get_or_create(&NotifiedLabels { target: target.to_owned(), result }).inc();
    }

    /// A question to this decider of a rules file had this result.
    pub(crate) fn decider_asked(&self, decider: &str, result: &Result<DeciderReply, AskFailure>, took: Duration) {
        let (word, asked) = match result {
            Ok(word) => (word.verdict.as_str(), true),
            Err(failure) => (failure.fault.as_str(), failure.again.is_none()),
        };
        let decider = decider.to_owned();
        if asked {
            self.counts
                .decider_seconds
                .get_or_create(&DeciderLabels { decider: decider.clone() })
                .observe(took.as_secs_f64());
        }
        self.counts.decider_answers.get_or_create(&AskedLabels { decider, result: word }).inc();
    }

    /// The ledger committed a transaction.
    pub fn committed(&self, took: Duration) {
        self.counts.commit_seconds.observe(took.as_secs_f64());
    }
}

impl EventCounters {
    fn register(&self, registry: &mut Registry) {
        register(registry, table::DECISIONS, &self.decisions);
        register(registry, table::RULE_MATCHES, &self.rule_matches);
        register(registry, table::ANSWERS, &self.answers);
        register(registry, table::ANSWER_SECONDS, &self.answer_seconds);
        register(registry, table::REST_REQUESTS, &self.rest_requests);
        register(registry, table::RECONNECTS, &self.reconnects);
        register(registry, table::LEDGER_COMMIT_SECONDS, &self.commit_seconds);
        register(registry, table::NOTIFICATIONS, &self.notifications);
        register(registry, table::DECIDER_ANSWERS, &self.decider_answers);
        register(registry, table::DECIDER_SECONDS, &self.decider_seconds);
    }
}

fn register(registry: &mut Registry, row: MetricRow, metric: &(impl Metric + Clone)) {
    registry.register(row.name, row.help, metric.clone());
}

#[cfg(test)]
mod tests;
