//! The totals of runs, and the faults that really happened in them, so that a fault cannot silently disappear from the
//! schedule.

use std::collections::BTreeMap;
use std::fmt;

/// Every fault that must happen in the seeds of one test run.
pub const FAULTS: &[&str] = &[
    "a person ended a doubt",
    "agent polls",
    "agent takes",
    "agent yields",
    "answer applied, reported failed",
    "another agent's key",
    "approvals_max reached",
    "answer cancelled by its sender meanwhile",
    "answer on its way when the daemon died",
    "an id used again",
    "answered by a person elsewhere",
    "answered by a person through doorman",
    "cancelled",
    "channel crashed",
    "clients fight",
    "clock ahead",
    "clock behind",
    "contact made by somebody else",
    "contact removed",
    "contact renamed",
    "contact without a handle",
    "contacts unknown while somebody is decided",
    "crash between two steps",
    "crash while dialling",
    "crash with a batch under way, committed",
    "crash with a batch under way, lost",
    "dial failed",
    "drained by force",
    "drop before the first listing",
    "drop while joining",
    "drop while live",
    "ended, and no event told",
    "expired",
    "flapping",
    "forbidden",
    "frame broken",
    "frame doubled",
    "frame late",
    "frame lost",
    "frames out of order",
    "ghost in the way",
    "guest expired",
    "guest expired in a pause",
    "guest in doubt",
    "guest removed by somebody else",
    "guest removed, and made again",
    "half-open",
    "held by a person",
    "join unanswered",
    "key refused",
    "ledger refused a batch",
    "let in before a rule ended",
    "malformed",
    "old platform",
    "one handle of an owner let in too often",
    "page cut short of what was asked, by a shift",
    "paused",
    "pending again",
    "record read again",
    "record read for rules that are gone",
    "record read late",
    "record unreadable",
    "reloaded",
    "replies out of order",
    "reply late",
    "reply lost",
    "row that cannot be read",
    "row without a readable id",
    "sender changed",
    "something changed while nobody ran",
    "start held",
    "start with a wrong clock",
    "shut out by what was before",
    "stale page",
    "stopped",
    "superseded",
    "throttled",
    "unreachable",
];

/// The same for evenings with a decider.
pub const ASKED: &[&str] =
    &["a decider failed", "a decider let somebody in", "a decider said something", "a decider sent somebody away"];

/// The totals of one run, or of many.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    pub steps: u64,
    pub sent_requests: u64,
    pub answers: u64,
    pub lives: u64,
    /// Faults, and how often each happened.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub fn add(&mut self, other: &Summary) {
        self.steps += other.steps;
        self.sent_requests += other.sent_requests;
        self.answers += other.answers;
        self.lives += other.lives;
        for (fault, count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Those of these faults that never happened.
    pub fn missing(&self, of: Vec<&'static str>) -> Vec<&'static str> {
        of.into_iter().filter(|fault| !self.faults.contains_key(fault)).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, sent_requests, answers, lives, faults } = self;
        let count: u64 = faults.values().sum();
        write!(f, "{steps} steps, {sent_requests} requests, {answers} answers, {lives} lives, {count} faults")
    }
}
