//! Keeps one agent going: from the ledger's memory to a running task, and again after a panic.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::LOOP_BOUND;
use crate::agent::core::reach_of;
use crate::agent::shell::Surroundings;
use crate::agent::{Agent, AgentHandle, BATCH_MAX, Core, CoreConfig, Counters};
use crate::config::settings::{AgentSettings, Answers, CredentialsMode};
use crate::inbox::ENTRIES_MAX;
use crate::ledger::LedgerError;
use crate::ledger::entry::SavedAgent;
use crate::ops::log::{agent_span, events};
use crate::ops::watchdog::Watchdog;
use crate::policy::Policy;

/// First wait before an agent that panicked is started again; it doubles.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// Last such wait.
const RESTART_MAX: Duration = Duration::from_secs(60);

pub(super) struct Runner {
    pub(super) settings: AgentSettings,
    pub(super) answers: Answers,
    pub(super) credentials: CredentialsMode,
    pub(super) around: Surroundings,
    pub(super) policy: watch::Receiver<Option<Arc<Policy>>>,
    pub(super) slot: Arc<ArcSwapOption<AgentHandle>>,
    pub(super) counters: Counters,
    pub(super) watchdog: Watchdog,
    pub(super) drain: CancellationToken,
    pub(super) shadow: bool,
    pub(super) seed: u64,
    /// Agents start one after the other, at the pace at which they dial.
    pub(super) start_after: Duration,
}

impl Runner {
    /// Runs the agent until it is drained. A panic is told, and the agent starts anew from the ledger; what it had in
    /// flight is found out first.
    pub(super) async fn run(self) {
        let mut wait = RESTART_MIN;
        let mut seed = self.seed;
        tokio::select! {
            () = self.drain.cancelled() => return,
            () = tokio::time::sleep(self.start_after) => {}
        }
        while !self.drain.is_cancelled() {
            let begun = tokio::time::Instant::now();
            match self.live(seed).await {
                Ok(()) => return,
                Err(why) => {
                    agent_span(&self.settings.id).in_scope(|| {
                        error!(event = events::PANIC, why, "the agent's task failed: it starts again");
                    });
                }
            }
            self.slot.store(None);
            wait = if begun.elapsed() > RESTART_MAX { RESTART_MIN } else { (wait * 2).min(RESTART_MAX) };
            seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One life of the agent's task.
    async fn live(&self, seed: u64) -> Result<(), String> {
        let mut policy = self.policy.clone();
        let in_force = policy.borrow_and_update().clone();
        let memory = self.memory(in_force.as_deref()).await.map_err(|error| error.to_string())?;
        let config = CoreConfig {
            agent: self.settings.id.clone(),
            connection: self.settings.connection,
            credentials: self.credentials,
            answers: self.answers,
            timing: self.around.timing,
            shadow: self.shadow,
            seed,
            capacity: ENTRIES_MAX,
            batch: BATCH_MAX,
        };
        let mut core = Core::new(config, in_force, memory, self.around.clock.now());
        core.count_on(self.counters.clone());
        let beat = self.watchdog.register(format!("agent {}", self.settings.id), LOOP_BOUND);
        let (agent, handle) =
            Agent::new(self.settings.clone(), self.around.clone(), core, policy, beat, self.drain.clone());
        self.slot.store(Some(Arc::new(handle)));
        let mut task = AbortOnDrop(tokio::spawn(agent.run()));
        let ended = (&mut task.0).await;
        self.slot.store(None);
        ended.map_err(|error| error.to_string())
    }

    async fn memory(&self, policy: Option<&Policy>) -> Result<SavedAgent, LedgerError> {
        let now = self.around.clock.now().wall;
        self.around.ledger.load_agent(&self.settings.id, now, reach_of(policy)).await
    }
}

/// The task ends with whoever awaits it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
