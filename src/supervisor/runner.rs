//! Keeps one agent running: starts its task from the ledger, and again after a panic.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fastrand::Rng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::LOOP_BOUND;
use crate::agent::core::reach_of;
use crate::agent::shell::Surroundings;
use crate::agent::{Agent, AgentHandle, BATCH_MAX, Core, CoreConfig, Counters};
use crate::config::settings::{AgentSettings, Answers, CredentialsMode};
use crate::inbox::ENTRIES_MAX;
use crate::ledger::LedgerError;
use crate::ledger::entry::SavedAgent;
use crate::ops::board::AgentSlot;
use crate::ops::log::{agent_span, events};
use crate::ops::watchdog::Watchdog;
use crate::phoenix::backoff::between;
use crate::policy::Policy;

/// First wait before an agent whose task ended is started again; each further wait is twice as long. A wait varies by
/// up to a tenth, so that agents that failed together do not start together.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// Longest such wait. A task that ran for this long resets the waits to the first.
const RESTART_MAX: Duration = Duration::from_secs(60);

/// How an agent's task ended, where it was not drained.
enum Failure {
    /// The panic is in the log already, with its place in the code.
    Panicked,
    Unreadable(LedgerError),
}

/// How long to wait before the next start, after this many earlier failures in a row.
fn restart_wait(failures: u32, rng: &mut Rng) -> Duration {
    let wait = RESTART_MIN.saturating_mul(1 << failures.min(16)).min(RESTART_MAX);
    between(wait - wait / 10, wait + wait / 10, rng)
}

pub(super) struct Runner {
    pub(super) settings: AgentSettings,
    pub(super) answers: Answers,
    pub(super) credentials: CredentialsMode,
    pub(super) around: Surroundings,
    pub(super) policy: watch::Receiver<Option<Arc<Policy>>>,
    pub(super) slot: Arc<ArcSwapOption<AgentHandle>>,
    pub(super) counters: Counters,
    pub(super) board: AgentSlot,
    pub(super) watchdog: Watchdog,
    pub(super) drain: CancellationToken,
    pub(super) shadow: bool,
    pub(super) seed: u64,
    /// Agents start one after the other, at the pace at which they dial.
    pub(super) start_after: Duration,
}

impl Runner {
    /// Runs the agent until it is drained. After a panic the agent starts again from the ledger, and first finds out
    /// the outcome of the answers that were in flight.
    pub(super) async fn run(self) {
        let mut failures = 0;
        let mut seed = self.seed;
        let mut rng = Rng::with_seed(seed);
        tokio::select! {
            () = self.drain.cancelled() => return,
            () = tokio::time::sleep(self.start_after) => {}
        }
        while !self.drain.is_cancelled() {
            let begun = tokio::time::Instant::now();
            let Err(failure) = self.live(seed).await else { return };
            self.slot.store(None);
            if begun.elapsed() > RESTART_MAX {
                failures = 0;
            }
            let wait = restart_wait(failures, &mut rng);
            failures += 1;
            let in_ms = (wait.as_secs_f64() * 1e3).round();
            agent_span(&self.settings.id).in_scope(|| match failure {
                Failure::Panicked => {
                    warn!(event = events::AGENT_RESTARTS, in_ms, "the agent's task panicked; the agent starts again");
                }
                Failure::Unreadable(error) => {
                    error!(event = events::LEDGER_UNREADABLE, why = %error, in_ms, "the agent cannot start yet");
                }
            });
            seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One life of the agent's task.
    async fn live(&self, seed: u64) -> Result<(), Failure> {
        let mut policy = self.policy.clone();
        let in_force = policy.borrow_and_update().clone();
        let saved = self.saved_agent(in_force.as_deref()).await.map_err(Failure::Unreadable)?;
        let config = CoreConfig {
            agent: self.settings.id.clone(),
            name: self.settings.name.clone(),
            connection: self.settings.connection,
            credentials: self.credentials,
            answers: self.answers,
            timing: self.around.timing,
            shadow: self.shadow,
            seed,
            capacity: ENTRIES_MAX,
            batch: BATCH_MAX,
            redact: self.around.rest.redact().clone(),
        };
        let mut core = Core::new(config, in_force, saved, self.around.clock.now());
        core.count_on(self.counters.clone());
        let beat = self.watchdog.register(format!("agent {}", self.settings.id), LOOP_BOUND);
        let (agent, handle) = Agent::new(
            self.settings.clone(),
            self.around.clone(),
            core,
            policy,
            beat,
            self.drain.clone(),
            self.board.clone(),
        )
        .await;
        self.slot.store(Some(Arc::new(handle)));
        let mut task = AbortOnDrop(tokio::spawn(agent.run()));
        let ended = (&mut task.0).await;
        self.slot.store(None);
        ended.map_err(|_| Failure::Panicked)?.map_err(Failure::Unreadable)
    }

    async fn saved_agent(&self, policy: Option<&Policy>) -> Result<SavedAgent, LedgerError> {
        let now = self.around.clock.now().wall;
        self.around.ledger.load_agent(&self.settings.id, now, reach_of(policy)).await
    }
}

/// Aborts the task when the future that awaits it is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<Result<(), LedgerError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_waits_a_second_and_the_last_a_minute_each_with_jitter() {
        let mut rng = Rng::with_seed(3);
        for (failures, seconds) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            let full = Duration::from_secs(seconds);
            let waits: Vec<Duration> = (0..200).map(|_| restart_wait(failures, &mut rng)).collect();
            assert!(
                waits.iter().all(|wait| full * 9 / 10 <= *wait && *wait <= full * 11 / 10),
                "{failures}: {waits:?}"
            );
            assert!(waits.iter().any(|wait| *wait < full) && waits.iter().any(|wait| *wait > full), "{failures}");
        }
    }
}
