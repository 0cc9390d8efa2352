//! Every metric by name, kind, labels and meaning. Metrics are registered by these rows, `docs/metrics.md` is made from
//! them, and a test holds a live scrape against them.

use std::fmt::Write as _;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only increases while the process lives; a scrape shows its name with `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts by size, in buckets.
    Histogram,
}

impl MetricKind {
    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricRow {
    /// The registered name: a counter without `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, one sentence without its full stop.
    pub help: &'static str,
}

impl MetricRow {
    /// The name of the family in a scrape as text.
    pub fn family(&self) -> String {
        match self.kind {
            MetricKind::Counter => format!("{}_total", self.name),
            MetricKind::Gauge | MetricKind::Histogram => self.name.to_owned(),
        }
    }
}

macro_rules! rows {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help]
        pub const $constant: MetricRow = MetricRow { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of the documentation.
        pub const ROWS: &[MetricRow] = &[$($constant),*];
    };
}

rows! {
    BUILD_INFO = Gauge "doorman_build_info" ["version"] "1; doorman's version";
    AGENTS = Gauge "doorman_agents" ["state"] "Agents in this state";
    AGENTS_PAUSED = Gauge "doorman_agents_paused" [] "Agents that answer nothing until resume";
    AGENTS_WITHOUT_RULES = Gauge "doorman_agents_without_rules" [] "Agents whose rules were refused, so that nothing is decided for them";
    AGENTS_CLOCK_UNSOUND = Gauge "doorman_agents_clock_unsound" [] "Agents for which this machine's clock is not to be believed, so that conditions on time are unknown";
    PENDING = Gauge "doorman_pending" [] "Requests known and pending, of all agents";
    DEFERRED = Gauge "doorman_deferred" [] "Pending requests that wait for a person, of all agents";
    IN_FLIGHT = Gauge "doorman_in_flight" [] "Answers on their way, of all agents";
    DOUBTS = Gauge "doorman_doubts" [] "Open doubts, of all agents: what may have happened unseen";
    GUESTS = Gauge "doorman_guests" [] "Contacts with an end, of all agents";
    GUESTS_LATE = Gauge "doorman_guests_late" [] "Contacts that are there although their end has passed, of all agents";
    OLDEST_DEFERRED = Gauge "doorman_oldest_deferred_seconds" [] "How long the request that has waited longest for a person has been known; 0 if none waits";
    AGENT_STATE = Gauge "doorman_agent_state" ["agent", "state"] "1 for the state that the agent is in";
    AGENT_PAUSED = Gauge "doorman_agent_paused" ["agent"] "Whether the agent answers nothing until resume";
    AGENT_WITHOUT_RULES = Gauge "doorman_agent_without_rules" ["agent"] "Whether the agent's rules were refused";
    AGENT_STATE_SINCE = Gauge "doorman_agent_state_since_seconds" ["agent"] "When the agent came into its state (Unix time)";
    AGENT_PENDING = Gauge "doorman_agent_pending" ["agent"] "Requests known and pending";
    AGENT_DEFERRED = Gauge "doorman_agent_deferred" ["agent"] "Pending requests that wait for a person";
    AGENT_OLDEST_DEFERRED = Gauge "doorman_agent_oldest_deferred_seconds" ["agent"] "How long the request that has waited longest for a person has been known; 0 if none waits";
    AGENT_IN_FLIGHT = Gauge "doorman_agent_in_flight" ["agent"] "Answers on their way";
    AGENT_LAST_LISTING = Gauge "doorman_agent_last_listing_seconds" ["agent"] "End of the last whole listing (Unix time)";
    DECISIONS = Counter "doorman_decisions" ["verdict", "by_kind"] "Decisions; one that says the same as the request's last is not counted";
    RULE_MATCHES = Counter "doorman_rule_matches" ["rules", "rule"] "Decisions in which this rule matched, by rules file; beyond 1000 rules as `other`";
    ANSWERS = Counter "doorman_answers" ["outcome"] "Answers that came to an end";
    ANSWER_SECONDS = Histogram "doorman_answer_seconds" [] "From a live event to the platform's word on the answer, if no wait and no retry came between";
    REST_REQUESTS = Counter "doorman_rest_requests" ["call", "status"] "REST calls, by call and HTTP status; `none` if no answer came";
    RECONNECTS = Counter "doorman_reconnects" ["cause"] "Connections lost, refused or given up, by what was noticed first";
    LEDGER_OK = Gauge "doorman_ledger_ok" [] "Whether the ledger can be written";
    LEDGER_BLOCKED = Gauge "doorman_ledger_blocked_seconds" [] "For how long the ledger could not be written; 0 if it can";
    LEDGER_COMMIT_SECONDS = Histogram "doorman_ledger_commit_seconds" [] "How long one transaction of the ledger took, from its first row to its commit";
    LEASES = Gauge "doorman_leases" [] "Agents that this doorman has, if several share a database";
    LEASE_TRUSTED = Gauge "doorman_lease_trusted" [] "Whether the database confirms that this doorman lives; if not, it decides and sends nothing new";
    LEASES_TAKEN = Counter "doorman_leases_taken" [] "Leases that this doorman took";
    FENCED = Counter "doorman_fenced" [] "Transactions that were refused since another doorman had the lease";
    BEAT_SECONDS = Gauge "doorman_beat_seconds" [] "How long the last beat took, by which the database knows that this doorman lives";
    MEMBERS = Gauge "doorman_members" [] "Doormen that take agents, including this one";
    NOTIFICATIONS = Counter "doorman_notifications" ["target", "result"] "Tries to deliver a message to a target of `[[notify]]`; `failed` is tried again";
    NOTIFY_FAILING = Gauge "doorman_notify_failing" ["target"] "Whether the target's last message did not arrive so far";
    DECIDER_ANSWERS = Counter "doorman_decider_answers" ["decider", "result"] "What came of questions to a decider: its reply, or why there is none; the request then stays pending";
    DECIDER_SECONDS = Histogram "doorman_decider_seconds" ["decider"] "How long a decider took, also if it did not answer";
    DECIDER_FAILING = Gauge "doorman_decider_failing" ["decider"] "1 if a decider has not answered an agent for at least 20 s, although asked more than once";
    CONFIG_OK = Gauge "doorman_config_last_reload_successful" [] "Whether the last reload found no error in the configuration";
    POLICY_IN_FORCE = Gauge "doorman_policy_in_force" ["path", "policy"] "1 for the policy of a rules file; 0 if its agents are without rules";
    POLICY_REFUSED = Gauge "doorman_policy_refused" ["path"] "Whether what is in the rules file now was refused";
    EVENTS = Counter "doorman_events" ["event"] "What the agents counted since the start, by name";
    TASKS = Gauge "doorman_tasks" [] "Tasks of the runtime, those that wait included";
    CUT = Gauge "doorman_metrics_cut" [] "Whether the series by agent were left out because the page would have been too long";
    PROCESS_CPU = Counter "process_cpu_seconds" [] "Time on the processor, user and system";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] "Resident memory";
    PROCESS_FDS = Gauge "process_open_fds" [] "Open file descriptors";
    PROCESS_START = Gauge "process_start_time_seconds" [] "When the process began (Unix time)";
}

/// The table of `docs/metrics.md`.
pub fn markdown() -> String {
    let mut table = "| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for row in ROWS {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {}. |",
            row.family(),
            row.kind.as_str(),
            if labels.is_empty() { "—".to_owned() } else { labels.join(", ") },
            row.help
        );
    }
    table
}
