//! One page of metrics: the counts, and the board as it is at that moment.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::table::{self, MetricKind, MetricRow};
use super::{Metrics, process};
use crate::clock::Now;
use crate::model::AgentState;
use crate::ops::board::{AgentBoard, Board};
use crate::ops::control::wire::NotifyState;

/// If a page is longer, it is made again without the series by agent.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrapeFormat {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ScrapeFormat {
    /// By the `Accept` header of the request: OpenMetrics only if the client asks for it.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { ScrapeFormat::OpenMetrics } else { ScrapeFormat::Text }
    }

    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            ScrapeFormat::Text => prometheus_text::CONTENT_TYPE,
            ScrapeFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// The whole page. `tasks`: the number of tasks of the runtime.
    ///
    /// # Errors
    /// Never with the metrics of this module: the encoder writes to memory.
    pub fn page(&self, format: ScrapeFormat, tasks: usize) -> Result<String, fmt::Error> {
        let board = self.board.borrow().clone();
        let now = self.clock.now();
        let per_agent = self.per_agent.shows(board.agents.len());
        let scrape = Scrape { board, now, per_agent, cut: false, tasks };
        let page = self.encode(format, scrape.clone())?;
        if page.len() <= PAGE_BYTES_MAX || !per_agent {
            return Ok(page);
        }
        self.encode(format, Scrape { per_agent: false, cut: true, ..scrape })
    }

    fn encode(&self, format: ScrapeFormat, scrape: Scrape) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        self.counts.register(&mut registry);
        registry.register_collector(Box::new(scrape));
        let mut page = String::new();
        match format {
            ScrapeFormat::Text => prometheus_text::encode(&mut page, &registry)?,
            ScrapeFormat::OpenMetrics => text::encode(&mut page, &registry)?,
        }
        Ok(page)
    }
}

/// The values that are read and not counted.
#[derive(Debug, Clone)]
struct Scrape {
    board: Arc<Board>,
    now: Now,
    per_agent: bool,
    cut: bool,
    tasks: usize,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = ScrapeWriter { encoder };
        page.each(table::BUILD_INFO, [([("version", env!("CARGO_PKG_VERSION"))], 1.0)])?;
        page.one(table::TASKS, self.tasks as f64)?;
        page.one(table::CUT, truth(self.cut))?;
        self.sums(&mut page)?;
        if self.per_agent {
            self.agents(&mut page)?;
        }
        self.daemon(&mut page)?;
        process::write(&mut page)
    }
}

impl Scrape {
    fn sums(&self, page: &mut ScrapeWriter<'_>) -> fmt::Result {
        let agents = &self.board.agents;
        let sum = |count: fn(&AgentBoard) -> u64| agents.iter().map(|agent| count(agent)).sum::<u64>() as f64;
        page.each(
            table::AGENTS,
            AgentState::ALL.map(|state| ([("state", state.as_str())], self.board.in_state(state) as f64)),
        )?;
        page.one(table::AGENTS_PAUSED, sum(|agent| agent.status.paused.into()))?;
        page.one(table::AGENTS_WITHOUT_RULES, sum(|agent| agent.status.without_rules.into()))?;
        page.one(table::AGENTS_CLOCK_UNSOUND, sum(|agent| agent.status.clock_unsound.into()))?;
        page.one(table::PENDING, sum(|agent| agent.status.pending))?;
        page.one(table::DEFERRED, sum(|agent| agent.status.deferred))?;
        page.one(table::IN_FLIGHT, sum(|agent| agent.status.in_flight))?;
        page.one(table::DOUBTS, sum(|agent| agent.status.doubts))?;
        page.one(table::GUESTS, sum(|agent| agent.status.guests))?;
        page.one(table::GUESTS_LATE, sum(|agent| agent.status.guests_late))?;
        let oldest = agents.iter().map(|agent| self.oldest(agent)).fold(0.0, f64::max);
        page.one(table::OLDEST_DEFERRED, oldest)
    }

    fn agents(&self, page: &mut ScrapeWriter<'_>) -> fmt::Result {
        let agents = &self.board.agents;
        page.each(
            table::AGENT_STATE,
            agents.iter().flat_map(|agent| {
                AgentState::ALL.map(|state| {
                    let labels = [("agent", agent.status.id.as_str()), ("state", state.as_str())];
                    (labels, truth(state == agent.status.state))
                })
            }),
        )?;
        let mut of_each = |row: MetricRow, value: &dyn Fn(&AgentBoard) -> Option<f64>| {
            let rows = agents
                .iter()
                .filter_map(|agent| Some(([("agent", agent.status.id.as_str())], value(agent)?)))
                .collect::<Vec<_>>();
            page.each(row, rows)
        };
        of_each(table::AGENT_PAUSED, &|agent| Some(truth(agent.status.paused)))?;
        of_each(table::AGENT_WITHOUT_RULES, &|agent| Some(truth(agent.status.without_rules)))?;
        of_each(table::AGENT_STATE_SINCE, &|agent| Some(agent.status.since.as_second() as f64))?;
        of_each(table::AGENT_PENDING, &|agent| Some(agent.status.pending as f64))?;
        of_each(table::AGENT_DEFERRED, &|agent| Some(agent.status.deferred as f64))?;
        of_each(table::AGENT_OLDEST_DEFERRED, &|agent| Some(self.oldest(agent)))?;
        of_each(table::AGENT_IN_FLIGHT, &|agent| Some(agent.status.in_flight as f64))?;
        of_each(table::AGENT_LAST_LISTING, &|agent| agent.status.last_listing.map(|at| at.as_second() as f64))
    }

    fn daemon(&self, page: &mut ScrapeWriter<'_>) -> fmt::Result {
        let board = &self.board;
        let blocked = board.ledger_blocked.as_ref();
        page.one(table::LEDGER_OK, truth(blocked.is_none()))?;
        let since = blocked.map_or(0.0, |blocked| self.now.mono.since(blocked.since_mono).as_secs_f64());
        page.one(table::LEDGER_BLOCKED, since)?;
        if let Some(fleet) = &board.fleet {
            page.one(table::LEASES, fleet.held as f64)?;
            page.one(table::LEASE_TRUSTED, truth(fleet.trusted))?;
            page.one(table::LEASES_TAKEN, fleet.taken as f64)?;
            page.one(table::FENCED, fleet.fenced as f64)?;
            page.one(table::BEAT_SECONDS, fleet.beat_seconds)?;
            page.one(table::MEMBERS, fleet.members as f64)?;
        }
        page.each(
            table::NOTIFY_FAILING,
            board
                .notify
                .iter()
                .map(|target| ([("target", target.name.as_str())], truth(target.state != NotifyState::Ok))),
        )?;
        let failing: BTreeSet<&str> = board
            .agents
            .iter()
            .flat_map(|agent| &agent.deciders_failing)
            .map(|(decider, _)| decider.as_str())
            .collect();
        page.each(table::DECIDER_FAILING, failing.into_iter().map(|decider| ([("decider", decider)], 1.0)))?;
        page.one(table::CONFIG_OK, truth(board.configuration.problem.is_none()))?;
        page.each(
            table::POLICY_IN_FORCE,
            board.policies.iter().map(|policy| {
                let hash = policy.hash.as_deref().unwrap_or_default();
                ([("path", policy.path.as_str()), ("policy", hash)], truth(policy.hash.is_some()))
            }),
        )?;
        page.each(
            table::POLICY_REFUSED,
            board.policies.iter().map(|policy| ([("path", policy.path.as_str())], truth(policy.problem.is_some()))),
        )?;
        page.each(table::EVENTS, board.counters.iter().map(|(name, count)| ([("event", *name)], *count as f64)))
    }

    fn oldest(&self, agent: &AgentBoard) -> f64 {
        agent.oldest_deferred.map_or(0.0, |since| self.now.wall.duration_since(since).as_secs_f64().max(0.0))
    }
}

fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Writes metrics as their rows in the table describe them.
pub(super) struct ScrapeWriter<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl ScrapeWriter<'_> {
    /// A metric without labels.
    pub(super) fn one(&mut self, row: MetricRow, value: f64) -> fmt::Result {
        value_of(row, value, self.begin(row)?)
    }

    /// A metric with a series for each of these.
    fn each<'l, const N: usize>(
        &mut self,
        row: MetricRow,
        series: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(row)?;
        for (labels, value) in series {
            debug_assert!(labels.iter().map(|(name, _)| *name).eq(row.labels.iter().copied()), "{}", row.name);
            value_of(row, value, metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn begin(&mut self, row: MetricRow) -> Result<MetricEncoder<'_>, fmt::Error> {
        let kind = match row.kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
        };
        // The registry appends a full stop to the help of registered metrics; a collector must do so itself.
        self.encoder.encode_descriptor(row.name, &format!("{}.", row.help), None, kind)
    }
}

/// Values read at the scrape are counters or gauges.
fn value_of(row: MetricRow, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
    // Integers are written as integers.
    let whole = value as i64;
    match row.kind {
        MetricKind::Counter if whole as f64 == value => ConstCounter::new(whole.unsigned_abs()).encode(encoder),
        MetricKind::Counter => ConstCounter::new(value).encode(encoder),
        MetricKind::Gauge | MetricKind::Histogram if whole as f64 == value => ConstGauge::new(whole).encode(encoder),
        MetricKind::Gauge | MetricKind::Histogram => ConstGauge::new(value).encode(encoder),
    }
}
