//! The daemon, its agents, rules and targets, as `status` shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{AgentId, AgentState, PausedBy};

/// `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// doorman's version.
    pub version: String,
    /// All agents, in the order of the configuration.
    pub agents: Vec<AgentStatus>,
    /// `doorman.toml`.
    #[serde(default)]
    pub configuration: ConfigurationStatus,
    /// All rules files.
    pub policies: Vec<PolicyStatus>,
    /// The ledger: `ok`, or what is wrong with it.
    pub ledger: String,
    /// The targets of `[[notify]]`.
    #[serde(default)]
    pub notify: Vec<NotifyStatus>,
    /// Addresses at which the page cannot be served.
    #[serde(default)]
    pub page: Vec<ServingProblem>,
    /// Addresses at which metrics and health cannot be served.
    #[serde(default)]
    pub metrics: Vec<ServingProblem>,
    /// Since the start: frames malformed, events unknown, decisions, answers, … by stable names.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// An address at which the page, or metrics and health, cannot be served, in `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingProblem {
    /// The port, the socket's file, or what the service manager handed over.
    pub address: String,
    /// Why it is not served there.
    pub problem: String,
}

/// How a target of `[[notify]]` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyState {
    /// The last message arrived, or there was none yet.
    Ok,
    /// A message did not arrive, and is tried again.
    Retrying,
    /// The last message did not arrive for a day. The next one is tried as usual.
    GaveUp,
    /// The other end said that it does not exist any more: it gets nothing until a restart or `doorman notify retry`.
    Stopped,
}

/// One target of `[[notify]]` in `status --json` and `notify list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyStatus {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How it stands.
    pub state: NotifyState,
    /// When a message arrived last.
    pub delivered_at: Option<Timestamp>,
    /// When a try failed last, if none arrived since.
    pub failed_at: Option<Timestamp>,
    /// Why that did not arrive.
    pub why: Option<String>,
    /// Tries of the message that is under way; 0 if there is none.
    pub attempts: u32,
    /// When that is tried next.
    pub next_try_at: Option<Timestamp>,
}

impl NotifyStatus {
    /// One that was never tried.
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            state: NotifyState::Ok,
            delivered_at: None,
            failed_at: None,
            why: None,
            attempts: 0,
            next_try_at: None,
        }
    }
}

/// One agent of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its id.
    pub id: AgentId,
    /// Its handle, once the platform said it; escaped.
    pub handle: Option<String>,
    /// Where it stands.
    pub state: AgentState,
    /// Nothing is answered until `resume`.
    pub paused: bool,
    /// Who or what paused it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,
    /// Its policy was refused at start: everything stays pending.
    pub without_rules: bool,
    /// This machine's clock cannot be trusted, compared with the platform's time: conditions on time are unknown.
    #[serde(default)]
    pub clock_unsound: bool,
    /// In this state since.
    pub since: Timestamp,
    /// Why.
    pub why: String,
    /// The other doorman that has it, if several share a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Known and pending with the platform.
    pub pending: u64,
    /// Of these: decided `defer`.
    pub deferred: u64,
    /// Answers on their way.
    pub in_flight: u64,
    /// Doubts that the rules in force ask about: see `doubts --json`.
    #[serde(default)]
    pub doubts: u64,
    /// Contacts with an end.
    #[serde(default)]
    pub guests: u64,
    /// Of these: those whose end has passed.
    #[serde(default)]
    pub guests_late: u64,
    /// The end of the last whole listing.
    pub last_listing: Option<Timestamp>,
    /// Deciders that do not answer, by name.
    #[serde(default)]
    pub deciders_failing: Vec<String>,
    /// What people should know beside the state, a sentence each; escaped.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// The pause of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// `person:NAME`, or `approvals_max`.
    pub by: PausedBy,
    /// When.
    pub at: Timestamp,
    /// What the person noted.
    pub note: Option<String>,
}

impl AgentStatus {
    /// An agent of which nothing is known yet.
    pub fn starting(id: AgentId, since: Timestamp) -> Self {
        Self {
            id,
            handle: None,
            state: AgentState::Starting,
            paused: false,
            pause: None,
            without_rules: false,
            clock_unsound: false,
            since,
            why: String::new(),
            held_by: None,
            pending: 0,
            deferred: 0,
            in_flight: 0,
            doubts: 0,
            guests: 0,
            guests_late: 0,
            last_listing: None,
            deciders_failing: Vec::new(),
            remarks: Vec::new(),
        }
    }
}

/// The configuration in `status --json`. What was read at the start is in force, whatever a reload finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// The file, or `the environment`.
    pub path: String,
    /// What the last reload found wrong with it: the rendered diagnostics.
    pub problem: Option<String>,
}

/// One rules file of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The rules file, or `ledger:NAME`.
    pub path: String,
    /// Of pushed rules, the version that is in force.
    pub version: Option<u64>,
    /// The hash of what is in force; absent while its agents are without rules.
    pub hash: Option<String>,
    /// `enforce` or `shadow`.
    pub mode: Option<String>,
    /// In force since.
    pub since: Option<Timestamp>,
    /// Why what is in the file now is not in force: the rendered diagnostics.
    pub problem: Option<String>,
}
