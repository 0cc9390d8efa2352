//! Many agents in one process: starts them, restarts them, distributes policies, answers the control socket, drains.
//!
//! It never touches a request. A panic, a refused key or a flood of requests affects only the agent concerned, and an
//! error in a rules file affects only the agents that use it.

mod agent_changes;
mod agents;
mod away;
mod boards;
mod control;
mod policies;
mod rostered;
mod runner;
mod settings_watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::shell::{AgentCommand, AgentContext};
use crate::config::Settings;
use crate::config::settings::AgentSettings;
use crate::fleet::Fleet;
use crate::ledger::LedgerHealth;
use crate::model::AgentState;
use crate::notify::Targets;
use crate::ops::board::{Board, DaemonPhase};
use crate::ops::control::wire::{ControlCall, PolicyStatus, Reloaded};
use crate::ops::log::events;
use crate::ops::service_manager::Notifier;
use crate::ops::serving::addresses::ServiceAddresses;
use crate::ops::watchdog::Watchdog;
use crate::page::Logins;
use crate::policy::Shrunk;

pub use agent_changes::last_in_force;
pub(crate) use agents::hide_keys;
pub use policies::{Policies, Start};
pub(crate) use rostered::{RosterKeys, at_start as rostered_at_start, both as both_agents, with_keys};
pub(crate) use settings_watch::ConfigNow;
pub use settings_watch::Reread;

use agent_changes::{AgentsChange, AgentsFrom};
use agents::SupervisedAgents;
use rostered::Rostered;

/// Interval between texts for `systemctl status`.
const STATUS_RHYTHM: Duration = Duration::from_secs(5);
/// Interval between snapshots of the board, if no agent's state changes.
const BOARD_RHYTHM: Duration = Duration::from_secs(1);
/// Interval between checks of the rules files, with `watch = true`.
const WATCH_RHYTHM: Duration = Duration::from_secs(2);
/// Interval between looks for pushed rules. A rule that answers by older ones has doorman look at once.
const HEADS_RHYTHM: Duration = Duration::from_secs(5);
/// Interval at which a problem that lasts is logged again.
const REPEAT_PROBLEMS_EVERY: Duration = Duration::from_secs(300);
/// Interval at which old text is blanked.
const BLANK_RHYTHM: Duration = Duration::from_secs(86_400);
/// A loop of the daemon that has not turned for this long hangs.
pub(crate) const LOOP_BOUND: Duration = Duration::from_secs(20);

/// Orders to the supervisor that do not come over the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorOrder {
    /// SIGHUP.
    Reload,
    /// SIGTERM, SIGINT: drain and end. A second one ends at once.
    Stop,
    /// The task of the agent in this place panics, to prove that a panic is contained.
    #[cfg(any(test, debug_assertions))]
    Panic(usize),
}

/// Everything that a supervisor needs.
#[derive(Debug)]
pub struct SupervisorParts {
    /// The configuration.
    pub settings: Settings,
    /// The agents of the roster that this doorman has a key for.
    pub rostered: Vec<AgentSettings>,
    /// The loaded rules files.
    pub policies: Policies,
    /// What every agent needs.
    pub around: AgentContext,
    /// Watches the loops.
    pub watchdog: Watchdog,
    /// systemd.
    pub notifier: Notifier,
    /// `run --shadow`.
    pub shadow: bool,
    /// The seed of all jitter.
    pub seed: u64,
    /// Reads the configuration again, for a reload.
    pub reread: Reread,
    /// Where the board is published.
    pub board: watch::Sender<Arc<Board>>,
    /// The targets of notifications.
    pub notify: Targets,
    /// Who may log in to the page, if there is one.
    pub page: Option<Logins>,
    /// Where metrics are served.
    pub metrics: ServiceAddresses,
    /// The doormen that share the database.
    pub fleet: Fleet,
}

/// What the supervisor's own loop, the control calls and the agents' runners share.
#[derive(Debug)]
pub(crate) struct SupervisorShared {
    settings: Settings,
    policies: Mutex<Policies>,
    /// The last known state of the rules files, so that a long reload does not delay `status`.
    policies_status: ArcSwap<Vec<PolicyStatus>>,
    around: Arc<AgentContext>,
    notifier: Notifier,
    watchdog: Watchdog,
    members: SupervisedAgents,
    rostered: Rostered,
    /// Held by a reload, and by a change of the roster.
    reloading: Mutex<()>,
    /// Ends all agents.
    drain: CancellationToken,
    pace: runner::StartPace,
    /// Of the next agent's jitter.
    seed: AtomicU64,
    shadow: bool,
    settings_watch: Arc<settings_watch::SettingsWatch>,
    board: boards::Publisher,
    notify: Targets,
    page: Option<Logins>,
    metrics: ServiceAddresses,
    fleet: Fleet,
}

impl SupervisorShared {
    /// Reads the configuration, every rules file and every key again. If something is wrong, the present one stays in force. One reload
    /// comes after the other, so that what was read last holds.
    async fn reload(&self, by: &str, shrunk: Shrunk) -> Reloaded {
        let _one_at_a_time = self.reloading.lock().await;
        let begun = Instant::now();
        self.notifier.reloading();
        info!(event = events::RELOAD_STARTED, by, "reloading");
        let configured = self.settings_watch.clone();
        let read = tokio::task::spawn_blocking(move || configured.reload()).await;
        let read =
            read.unwrap_or_else(|error| Err(format!("reading the configuration failed inside doorman: {error}\n")));
        let (ConfigNow { needs_restart, agents }, problem) = match read {
            Ok(now) => (now, None),
            Err(problem) => (ConfigNow::default(), Some(problem)),
        };
        let agents = agents.map(|configured| self.rostered.all(Some(configured)));
        let mut reloaded = self.reload_rules(agents.as_deref(), shrunk).await;
        reloaded.needs_restart = needs_restart;
        if let Some(problem) = problem {
            reloaded.ok = false;
            reloaded.problems.get_or_insert_default().push_str(&problem);
        }
        if let Some(agents) = agents {
            let AgentsChange { added, removed, changed } = self.take_agents(agents, AgentsFrom::Configuration).await;
            (reloaded.agents_added, reloaded.agents_removed, reloaded.agents_changed) = (added, removed, changed);
            reloaded.policies = self.policies.lock().await.status();
        }
        self.rostered.renew_keys();
        // Before the agents dial with it.
        self.around.net.renew_tls();
        for member in self.members.all().iter() {
            if let Some(handle) = member.handle.load_full() {
                handle.tell(AgentCommand::RenewKey).await;
            }
        }
        let latency_ms = begun.elapsed().as_secs_f64() * 1e3;
        let policies = reloaded.policies.len();
        if reloaded.ok {
            let needs_restart = (!reloaded.needs_restart.is_empty()).then(|| reloaded.needs_restart.join(", "));
            info!(event = events::RELOADED, ok = true, policies, needs_restart, latency_ms, "reloaded");
        } else {
            error!(
                event = events::RELOADED,
                ok = false,
                policies,
                latency_ms,
                "some files were refused; what was in force stays"
            );
        }
        self.notifier.ready();
        self.publish(DaemonPhase::Running);
        reloaded
    }

    /// A seed that no other agent has.
    fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Ordering::Relaxed)
    }

    /// The line of every rules file in `status`; while the files are being loaded, the lines from before.
    pub(crate) fn policies_status(&self) -> Vec<PolicyStatus> {
        if let Ok(policies) = self.policies.try_lock() {
            self.policies_status.store(Arc::new(policies.status()));
        }
        self.policies_status.load().as_ref().clone()
    }

    /// Puts in force what was pushed. A look that cannot be done now is done again at the next turn.
    async fn look_at_heads(&self) {
        // If another look, or a reload, is under way, that one is as good.
        if let Ok(mut policies) = self.policies.try_lock() {
            let _ = policies.look_at_heads(&self.around.ledger, self.around.clock.now().wall).await;
        }
    }

    async fn put_status(&self) {
        if !self.notifier.listens() {
            return;
        }
        let status = self.status().await;
        let live = status.agents.iter().filter(|agent| agent.state == AgentState::Live).count();
        let pending: u64 = status.agents.iter().map(|agent| agent.pending).sum();
        let without_rules = status.agents.iter().filter(|agent| agent.without_rules).count();
        let paused = status.agents.iter().filter(|agent| agent.paused).count();
        let mut text = format!("{live} of {} agents live, {pending} pending", status.agents.len());
        if without_rules > 0 {
            text.push_str(&format!(", {without_rules} without rules"));
        }
        if paused > 0 {
            text.push_str(&format!(", {paused} paused"));
        }
        if status.ledger != "ok" {
            text.push_str(", the ledger is blocked");
        }
        self.notifier.status(&text);
    }

    async fn blank_old_text(&self) {
        let keep = jiff::SignedDuration::try_from(self.settings.ledger.keep).unwrap_or(jiff::SignedDuration::MAX);
        if let Ok(cutoff) = self.around.clock.now().wall.checked_sub(keep)
            && let Err(error) = self.around.ledger.blank_older_than(cutoff).await
        {
            warn!(event = events::INTERNAL, why = %error, "old text could not be blanked");
        }
    }
}

/// Runs all agents until it is ordered to stop and everything is drained. At the end it cancels `stop`, which ends
/// everything that runs beside it.
pub async fn run(
    parts: SupervisorParts,
    mut calls: mpsc::Receiver<ControlCall>,
    mut orders: mpsc::Receiver<SupervisorOrder>,
    stop: CancellationToken,
) {
    let SupervisorParts {
        settings,
        rostered,
        policies,
        around,
        watchdog,
        notifier,
        shadow,
        seed,
        reread,
        board,
        notify,
        page,
        metrics,
        fleet,
    } = parts;
    let policies_status = ArcSwap::from_pointee(policies.status());
    let (policies, settings_watch) = (Mutex::new(policies), Arc::new(settings_watch::SettingsWatch::new(reread)));
    let rostered = Rostered::new(settings.agents.clone(), rostered);
    let shared = Arc::new(SupervisorShared {
        settings,
        rostered,
        policies,
        policies_status,
        around: Arc::new(around),
        notifier,
        watchdog,
        members: SupervisedAgents::default(),
        reloading: Mutex::default(),
        drain: CancellationToken::new(),
        pace: runner::StartPace::default(),
        seed: AtomicU64::new(seed),
        shadow,
        settings_watch,
        board: boards::Publisher::new(board),
        notify,
        page,
        metrics,
        fleet,
    });
    shared.start_agents(shared.rostered.all(None), &[]).await;
    let mut beside = JoinSet::new();
    beside.spawn(control::take_given(shared.clone()));
    beside.spawn(rostered::follow(shared.clone()));
    beside.spawn(away::ask_whether_it_answers(shared.clone()));
    watch_over(&shared, &mut beside, &mut calls, &mut orders).await;
    beside.shutdown().await;
    drain_agents(&shared, &mut orders).await;
    stop.cancel();
}

/// The supervisor's loop; ends with the first order to stop.
async fn watch_over(
    shared: &Arc<SupervisorShared>,
    beside: &mut JoinSet<()>,
    calls: &mut mpsc::Receiver<ControlCall>,
    orders: &mut mpsc::Receiver<SupervisorOrder>,
) {
    let beat = shared.watchdog.register("supervisor", LOOP_BOUND);
    let later = |rhythm| interval_at(Instant::now() + rhythm, rhythm);
    let (mut status, mut watch) = (interval(STATUS_RHYTHM), interval(WATCH_RHYTHM));
    let (mut repeat, mut blank) = (later(REPEAT_PROBLEMS_EVERY), later(BLANK_RHYTHM));
    for interval in [&mut status, &mut watch, &mut repeat, &mut blank] {
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut heads = later(HEADS_RHYTHM);
    heads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut board = interval(BOARD_RHYTHM);
    board.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut health = shared.around.ledger.health();
    let mut blocked_since: Option<Instant> = None;
    loop {
        beat.tick();
        let shared = shared.clone();
        tokio::select! {
            order = orders.recv() => match order {
                Some(SupervisorOrder::Reload) => drop(beside.spawn(async move { drop(shared.reload("signal", Shrunk::Refuse).await) })),
                Some(SupervisorOrder::Stop) | None => return,
                #[cfg(any(test, debug_assertions))]
                Some(SupervisorOrder::Panic(place)) => if let Some(handle) = shared.members.all().get(place).and_then(|member| member.handle.load_full()) {
                    handle.tell(AgentCommand::Panic).await;
                },
            },
            Some(call) = calls.recv() => drop(beside.spawn(async move { shared.call(call).await })),
            Some(_ended) = beside.join_next() => {}
            Ok(()) = health.changed() => tell_health(&health.borrow_and_update(), &mut blocked_since),
            _ = board.tick() => shared.publish(DaemonPhase::Running),
            () = shared.board.rung() => if shared.board.may_publish_now() {
                shared.publish(DaemonPhase::Running);
            } else {
                board.reset_after(boards::BETWEEN);
            },
            _ = status.tick() => drop(beside.spawn(async move { shared.put_status().await })),
            _ = watch.tick(), if shared.settings.reload.watch => drop(beside.spawn(async move {
                // If a check takes longer than the interval, no second check starts.
                if let Ok(mut policies) = shared.policies.try_lock() {
                    policies.poll_files(shared.around.clock.now().wall).await;
                }
            })),
            _ = heads.tick() => drop(beside.spawn(async move { shared.look_at_heads().await })),
            () = shared.around.ledger.outdated() => drop(beside.spawn(async move { shared.look_at_heads().await })),
            _ = repeat.tick() => {
                shared.settings_watch.repeat_problems();
                if let Ok(policies) = shared.policies.try_lock() { policies.repeat_problems() }
            }
            _ = blank.tick() => drop(beside.spawn(async move { shared.blank_old_text().await })),
        }
    }
}

async fn drain_agents(shared: &SupervisorShared, orders: &mut mpsc::Receiver<SupervisorOrder>) {
    shared.notifier.stopping();
    shared.publish(DaemonPhase::Draining);
    info!(event = events::DRAINING, "stopping: answers on their way are finished, the rest stays pending");
    let begun = Instant::now();
    shared.drain.cancel();
    // The agents limit their drain themselves; this limit is for an agent that hangs.
    let deadline = begun + shared.settings.timing.drain + agent_changes::BEYOND_DRAIN;
    loop {
        tokio::select! {
            () = shared.members.ended() => break,
            order = orders.recv() => if matches!(order, Some(SupervisorOrder::Stop) | None) { break },
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    let left = shared.members.abort().await;
    info!(event = events::DRAINED, agents = left, latency_ms = begun.elapsed().as_secs_f64() * 1e3, "drained");
}

fn tell_health(health: &LedgerHealth, blocked_since: &mut Option<Instant>) {
    match health {
        LedgerHealth::Ok => {
            let for_ms = blocked_since.take().map(|since| since.elapsed().as_secs_f64() * 1e3);
            info!(event = events::LEDGER_RECOVERED, for_ms, "the ledger can be written again");
        }
        LedgerHealth::Blocked { why, .. } => {
            blocked_since.get_or_insert_with(Instant::now);
            error!(event = events::LEDGER_BLOCKED, why, "the ledger cannot be written; every answer waits");
        }
    }
}
