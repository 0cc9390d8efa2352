//! Builds the board from what the agents published, and publishes it. Never asks an agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::SupervisorShared;
use crate::ledger::LedgerHealth;
use crate::model::AgentState;
use crate::ops::board::{AgentBoard, AgentSlot, Blocked, Board, DaemonPhase};
use crate::ops::control::wire::PolicyStatus;

/// Least time between two snapshots, however many agents change their state.
pub(super) const BETWEEN: Duration = Duration::from_millis(100);

/// Publishes the board.
#[derive(Debug)]
pub(super) struct Publisher {
    board: watch::Sender<Arc<Board>>,
    bell: Arc<Notify>,
    kept: Mutex<BoardMemory>,
}

/// What is kept from one picture to the next.
#[derive(Debug, Default)]
struct BoardMemory {
    last: Option<Instant>,
    /// The phase; it never goes back.
    phase: DaemonPhase,
    /// The last known rules files, for the time in which a reload holds the policies.
    policies: Vec<PolicyStatus>,
    blocked: Option<Blocked>,
}

impl Publisher {
    pub(super) fn new(board: watch::Sender<Arc<Board>>) -> Self {
        Self { board, bell: Arc::default(), kept: Mutex::default() }
    }

    /// A slot in which one agent publishes its state, and at most this number of its pending requests.
    pub(super) fn slot(&self, rows: usize) -> AgentSlot {
        AgentSlot::ringing(self.bell.clone(), rows)
    }

    /// Waits until an agent's state has changed.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the last snapshot is old enough for a new one.
    pub(super) fn may_publish_now(&self) -> bool {
        self.kept().last.is_none_or(|last| last.elapsed() >= BETWEEN)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BoardMemory> {
        // A poisoned lock is fine: each field is consistent at any moment.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SupervisorShared {
    /// Publishes a new snapshot from the data at hand.
    pub(super) fn publish(&self, phase: DaemonPhase) {
        let now = self.around.clock.now();
        let mut kept = self.board.kept();
        if let Ok(policies) = self.policies.try_lock() {
            kept.policies = policies.status();
        }
        kept.blocked = match &*self.around.ledger.health().borrow() {
            LedgerHealth::Ok => None,
            LedgerHealth::Blocked { why, since } => {
                let since_mono = kept.blocked.as_ref().map_or(now.mono, |blocked| blocked.since_mono);
                Some(Blocked { why: why.clone(), since: *since, since_mono })
            }
        };
        kept.phase = kept.phase.max(phase);
        kept.last = Some(Instant::now());
        let members = self.members.all();
        let starting =
            |member: &super::agents::SupervisedAgent| Arc::new(AgentBoard::without_task(self.starting(member)));
        let agents = members.iter().map(|member| member.board.latest().unwrap_or_else(|| starting(member)));
        let agents: Vec<Arc<AgentBoard>> = agents.collect();
        let reached = |agent: &&Arc<AgentBoard>| {
            matches!(agent.status.state, AgentState::Live | AgentState::Polling | AgentState::Yielded)
        };
        let fleet = self.fleet.board();
        if let Some(fleet) = &fleet {
            let doormen = u32::try_from(fleet.members).unwrap_or(u32::MAX).max(1);
            let part = (self.settings.fleet.dials_per_second / doormen).max(1);
            self.around.net.limit_calls(part.min(self.settings.platform.calls_per_second_max));
        }
        self.fleet.reached(agents.iter().filter(reached).count() as u64);
        self.board.board.send_replace(Arc::new(Board {
            phase: kept.phase,
            agents,
            configuration: self.settings_watch.status(),
            policies: kept.policies.clone(),
            ledger_blocked: kept.blocked.clone(),
            fleet,
            notify: self.notify.status(),
            counters: self.members.counters(),
            rules: self.members.rules(),
        }));
    }
}
