//! The board: one snapshot of the whole daemon, which the supervisor puts together from what the agents' tasks publish.
//! Scrapes, health checks and pages read it. They never ask an agent, so they cannot delay an answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::clock::Mono;
use crate::model::{AgentId, AgentState};
use crate::ops::control::wire::{AgentStatus, ConfigurationStatus, NotifyStatus, PendingRow, PolicyStatus};
use crate::policy::RuleName;
use crate::policy::ask::AskFault;

/// How far the daemon's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DaemonPhase {
    /// There is no snapshot yet.
    #[default]
    Starting,
    /// Running normally.
    Running,
    /// It was ordered to stop; work that has begun is finished.
    Draining,
}

/// One agent, as its task last published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentBoard {
    /// Its line in `status`.
    pub status: AgentStatus,
    /// Of the requests that wait for a person: since when the oldest one has been known.
    pub oldest_deferred: Option<Timestamp>,
    /// Deciders that currently give it no verdict, and why.
    pub deciders_failing: Vec<(RuleName, AskFault)>,
    /// The pending requests, if somebody wants to see them and as far as there is room: those that wait for a person
    /// first, oldest first.
    pub pending: Vec<PendingRow>,
}

impl AgentBoard {
    /// Of an agent that has no task here.
    pub(crate) fn without_task(status: AgentStatus) -> Self {
        Self { status, oldest_deferred: None, deciders_failing: Vec::new(), pending: Vec::new() }
    }
}

/// The whole snapshot.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The phase of the daemon's life.
    pub phase: DaemonPhase,
    /// In the order of the configuration.
    pub agents: Vec<Arc<AgentBoard>>,
    /// The configuration, as the last reload found it.
    pub configuration: ConfigurationStatus,
    /// The rules files.
    pub policies: Vec<PolicyStatus>,
    /// Why the ledger cannot be written and since when; `None` if it can.
    pub ledger_blocked: Option<Blocked>,
    /// This doorman among those that share its database; `None` if nothing is shared.
    pub fleet: Option<Arc<FleetBoard>>,
    /// The targets of `[[notify]]`.
    pub notify: Vec<NotifyStatus>,
    /// The counters of all agents, added up since the start.
    pub counters: BTreeMap<&'static str, u64>,
    /// Each agent's rules file.
    pub rules: Arc<Vec<(AgentId, PathBuf)>>,
}

/// This doorman among those that share its database.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetBoard {
    /// Its name.
    pub name: String,
    /// Whether the others can be believed to believe that it lives.
    pub trusted: bool,
    /// Since when that is so, or not.
    pub since: Timestamp,
    /// How many agents it has.
    pub held: u64,
    /// How many doormen take agents.
    pub members: u64,
    /// How often it took a lease.
    pub taken: u64,
    /// How often a transaction was refused since another doorman had the lease.
    pub fenced: u64,
    /// How long the last beat took.
    pub beat_seconds: f64,
}

/// The ledger cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// What the file system or SQLite reported, for people.
    pub why: String,
    /// Since when, for people.
    pub since: Timestamp,
    /// Since when, on the monotonic clock.
    pub since_mono: Mono,
}

impl Board {
    /// How many agents are in this state.
    pub(crate) fn in_state(&self, state: AgentState) -> usize {
        self.agents.iter().filter(|agent| agent.status.state == state).count()
    }
}

/// Most pending requests of one agent on the board, and of all together.
const ROWS_OF_ONE_MAX: usize = 1_000;
const ROWS_MAX: usize = 10_000;

/// How many pending requests each agent may show, if there are this many agents.
pub(crate) fn rows_of_each(agents: usize) -> usize {
    (ROWS_MAX / agents.max(1)).clamp(1, ROWS_OF_ONE_MAX)
}

/// Reads the board. Cheap to clone.
pub(crate) type BoardReader = watch::Receiver<Arc<Board>>;

/// An empty board, and its reader.
pub fn channel() -> (watch::Sender<Arc<Board>>, BoardReader) {
    watch::channel(Arc::new(Board::default()))
}

/// Where an agent's task hands itself out. Cheap to clone; it outlives the task.
#[derive(Debug, Clone, Default)]
pub struct AgentSlot {
    latest: Arc<ArcSwapOption<AgentBoard>>,
    /// Rung when an agent's state has changed.
    bell: Arc<Notify>,
    /// Most rows of [`AgentBoard::pending`].
    rows: usize,
}

impl AgentSlot {
    /// A slot that notifies `bell` of each change of state, with room for `rows` pending requests.
    pub(crate) fn ringing(bell: Arc<Notify>, rows: usize) -> Self {
        Self { latest: Arc::default(), bell, rows }
    }

    /// Most rows of [`AgentBoard::pending`] that are handed out here; 0 if nobody wants to see them.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Publishes a new snapshot.
    pub fn put(&self, board: AgentBoard) {
        let state = board.status.state;
        let before = self.latest.swap(Some(Arc::new(board)));
        if before.is_none_or(|before| before.status.state != state) {
            self.bell.notify_one();
        }
    }

    /// The newest snapshot; `None` before the task published its first.
    pub(crate) fn latest(&self) -> Option<Arc<AgentBoard>> {
        self.latest.load_full()
    }
}
