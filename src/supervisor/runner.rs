//! Keeps one agent running: starts its task from the ledger, and again after a panic.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::LOOP_BOUND;
use crate::agent::core::reach_of;
use crate::agent::shell::AgentContext;
use crate::agent::{Agent, AgentHandle, BATCH_MAX, Core, CoreConfig, Counters};
use crate::config::settings::{AgentSettings, Answers, CredentialsMode};
use crate::fleet::AgentHolder;
use crate::inbox::ENTRIES_MAX;
use crate::ledger::LedgerError;
use crate::ledger::entry::SavedAgent;
use crate::model::AgentState;
use crate::ops::board::{AgentBoard, AgentSlot};
use crate::ops::control::wire::AgentStatus;
use crate::ops::log::{agent_span, events};
use crate::ops::watchdog::Watchdog;
use crate::phoenix::backoff::between;
use crate::policy::Policy;

/// First wait before an agent whose task ended is started again; each further wait is twice as long. A wait varies by
/// up to a tenth, so that agents that failed together do not start together.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// Pause between the starts of two agents.
const BETWEEN: Duration = Duration::from_millis(5);
/// Longest such wait. A task that ran for this long resets the waits to the first.
const RESTART_MAX: Duration = Duration::from_secs(60);

/// How an agent's task ended, if it was not drained.
enum TaskFailure {
    /// The panic is in the log already, with its place in the code.
    Panicked,
    Unreadable(LedgerError),
    /// Another doorman answers for it, or may do so by now: this one let go of everything at once.
    NotOurs(AgentHolder),
}

/// Agents that start at once start one after the other, at the pace at which they dial. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct StartPace(Arc<Mutex<Option<Instant>>>);

impl StartPace {
    /// Waits for a turn of one's own.
    async fn turn(&self) {
        let at = {
            let (mut next, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + BETWEEN);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

/// How long to wait before the next start, after this many earlier failures in a row.
fn restart_wait(failures: u32, rng: &mut Rng) -> Duration {
    let wait = RESTART_MIN.saturating_mul(1 << failures.min(16)).min(RESTART_MAX);
    between(wait - wait / 10, wait + wait / 10, rng)
}

pub(super) struct Runner {
    pub(super) settings: Arc<AgentSettings>,
    pub(super) answers: Answers,
    pub(super) credentials: CredentialsMode,
    pub(super) around: Arc<AgentContext>,
    pub(super) policy: watch::Receiver<Option<Arc<Policy>>>,
    pub(super) slot: Arc<ArcSwapOption<AgentHandle>>,
    pub(super) counters: Counters,
    pub(super) board: AgentSlot,
    pub(super) watchdog: Watchdog,
    pub(super) drain: CancellationToken,
    /// Which doorman answers for the agent.
    pub(super) stand: watch::Receiver<AgentHolder>,
    pub(super) shadow: bool,
    pub(super) seed: u64,
    /// Agents start one after the other.
    pub(super) pace: StartPace,
}

impl Runner {
    /// Runs the agent until it is drained, whenever it is this doorman's. After a panic the agent starts again from the ledger, and
    /// first finds out the outcome of the answers that were in flight; so it does after another doorman had it.
    ///
    /// Boxed, as a future holds its arguments twice.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut failures = 0;
        let mut seed = self.seed;
        let mut rng = Rng::with_seed(seed);
        while self.is_ours().await {
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = self.pace.turn() => {}
            }
            let begun = Instant::now();
            // Boxed: most agents of a fleet are elsewhere, and wait here without one.
            let ended = Box::pin(self.live(seed)).await;
            self.slot.store(None);
            let failure = match ended {
                Err(failure) => failure,
                Ok(()) if self.drain.is_cancelled() => return,
                // It has finished what it began: others may have it.
                Ok(()) => continue,
            };
            if begun.elapsed() > RESTART_MAX {
                failures = 0;
            }
            let wait = restart_wait(failures, &mut rng);
            let in_ms = (wait.as_secs_f64() * 1e3).round();
            agent_span(&self.settings.id).in_scope(|| match &failure {
                TaskFailure::Panicked => {
                    warn!(event = events::AGENT_RESTARTS, in_ms, "the agent's task panicked; the agent starts again");
                }
                // Another doorman was faster: soon it is known which.
                TaskFailure::Unreadable(LedgerError::Fenced { holder }) => {
                    self.is_elsewhere(&AgentHolder::Theirs(holder.as_str().into()));
                }
                TaskFailure::Unreadable(error) => {
                    error!(event = events::LEDGER_UNREADABLE, why = %error, in_ms, "the agent cannot start yet");
                }
                TaskFailure::NotOurs(stand) => self.is_elsewhere(stand),
            });
            if matches!(failure, TaskFailure::NotOurs(_)) {
                continue;
            }
            failures += 1;
            seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until this doorman answers for the agent; `false` once it is stopped.
    async fn is_ours(&mut self) -> bool {
        loop {
            if self.drain.is_cancelled() {
                return false;
            }
            let stand = self.stand.borrow_and_update().clone();
            if stand == AgentHolder::Ours {
                return true;
            }
            self.is_elsewhere(&stand);
            let gives = stand == AgentHolder::Give;
            if gives {
                // It may never have run since the lease is here, or giving it did not work.
                self.give().await;
            }
            let drain = self.drain.clone();
            tokio::select! {
                () = drain.cancelled() => return false,
                () = changed(&mut self.stand) => {}
                () = tokio::time::sleep(RESTART_MIN), if gives => {}
            }
        }
    }

    /// Shows that the agent is not this doorman's.
    fn is_elsewhere(&self, stand: &AgentHolder) {
        let why = match stand {
            AgentHolder::Theirs(by) => format!("held by the doorman `{by}`"),
            AgentHolder::Nobody(why) => (*why).to_owned(),
            AgentHolder::Give | AgentHolder::Ours => "given to the other doormen".to_owned(),
        };
        let before = self.board.latest();
        if before
            .as_ref()
            .is_some_and(|before| before.status.state == AgentState::Elsewhere && before.status.why == why)
        {
            return;
        }
        agent_span(&self.settings.id).in_scope(|| {
            info!(event = events::STATE_CHANGED, state = AgentState::Elsewhere.as_str(), why, "elsewhere")
        });
        let since = self.around.clock.now().wall;
        let status = AgentStatus {
            state: AgentState::Elsewhere,
            why,
            held_by: match stand {
                AgentHolder::Theirs(by) => Some(by.to_string()),
                AgentHolder::Nobody(_) | AgentHolder::Give | AgentHolder::Ours => None,
            },
            handle: before.and_then(|before| before.status.handle.clone()),
            ..AgentStatus::starting(self.settings.id.clone(), since)
        };
        self.board.put(AgentBoard::without_task(status));
    }

    /// The agent has finished what it began: others may have it.
    async fn give(&self) {
        if let Err(error) = self.around.ledger.give(self.settings.id.as_str()).await {
            debug!(%error, "the lease stays here");
        }
    }

    /// One life of the agent's task.
    async fn live(&mut self, seed: u64) -> Result<(), TaskFailure> {
        // Boxed, since it is large, and over long before the task is.
        let (agent, drain) = Box::pin(self.begin(seed)).await?;
        let mut task = AbortOnDrop(tokio::spawn(agent.run()));
        let ended = loop {
            let stand = self.stand.borrow_and_update().clone();
            match stand {
                AgentHolder::Ours => {}
                AgentHolder::Give => drain.cancel(),
                // As `kill -9`: whoever has it finds out what became of everything.
                stand @ (AgentHolder::Theirs(_) | AgentHolder::Nobody(_)) => {
                    task.0.abort();
                    let _ = (&mut task.0).await;
                    return Err(TaskFailure::NotOurs(stand));
                }
            }
            tokio::select! {
                ended = &mut task.0 => break ended,
                () = changed(&mut self.stand) => {}
            }
        };
        self.slot.store(None);
        ended.map_err(|_| TaskFailure::Panicked)?.map_err(TaskFailure::Unreadable)
    }

    /// Reads what the ledger remembers and makes the agent's task, which has not started, and what stops it.
    async fn begin(&mut self, seed: u64) -> Result<(Box<Agent>, CancellationToken), TaskFailure> {
        let mut policy = self.policy.clone();
        let in_force = policy.borrow_and_update().clone();
        let saved = self.saved_agent(in_force.as_deref()).await.map_err(TaskFailure::Unreadable)?;
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
        let drain = self.drain.child_token();
        let (agent, handle) = Agent::new(
            self.settings.clone(),
            self.around.clone(),
            core,
            policy,
            beat,
            drain.clone(),
            self.board.clone(),
        )
        .await;
        self.slot.store(Some(Arc::new(handle)));
        Ok((agent, drain))
    }

    async fn saved_agent(&self, policy: Option<&Policy>) -> Result<SavedAgent, LedgerError> {
        let now = self.around.clock.now().wall;
        self.around.ledger.load_agent(&self.settings.id, now, reach_of(policy)).await
    }
}

/// Waits for a change; for ever if nothing changes any more.
async fn changed(stand: &mut watch::Receiver<AgentHolder>) {
    if stand.changed().await.is_err() {
        std::future::pending::<()>().await;
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

    /// The size of the future that this function returns.
    fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// There may be thousands of agents: what only the start needs must not be a part of it.
    #[test]
    fn what_keeps_an_agent_running_takes_little_room() {
        assert!(size_of_future(Runner::run) <= 2 << 10, "{}", size_of_future(Runner::run));
    }

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
