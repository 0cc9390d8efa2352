//! Carries out the actions of an agent's core against the real socket, platform and ledger, and reports what happened.
//!
//! One task an agent. It owns the core; everything slow runs beside it and comes back as an input. It decides nothing.

mod calls;
mod handle;
mod snapshots;
mod status;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::core::notice::Notice;
use super::core::{Action, Core, Input, OpOutcome};
use super::noise::Noise;
use super::notice_log;
use super::notice_metrics::NoticeCounter;
use crate::clock::{Clock, Mono, Now};
use crate::config::settings::{AgentSettings, Timing};
use crate::decider::Deciders;
use crate::fleet::LeaseTrust;
use crate::ledger::{Ledger, LedgerError, LedgerHealth};
use crate::model::AgentId;
use crate::model::Ended;
use crate::ops::board::AgentSlot;
use crate::ops::metrics::Metrics;
use crate::ops::watchdog::Pulse;
use crate::platform::net::Net;
use crate::platform::rest::{AgentRest, Rest};
use crate::platform::socket::{Dialer, SocketCommand, SocketEvent};
use crate::policy::Policy;
use crate::secret::Key;
use crate::transcript::{Direction, TranscriptRecorder};

pub use calls::CallDone;
pub use handle::AgentCommand;
pub(crate) use handle::AgentHandle;

use snapshots::SnapshotPublisher;

/// Frames taken from the socket before all other work gets its turn.
const FRAMES_AT_ONCE: usize = 64;
/// Calls that ended, taken before all other work gets its turn.
const CALLS_AT_ONCE: usize = 64;
/// The loop turns at least this often, to show the watchdog that it runs.
const TURN_MAX: Duration = Duration::from_secs(5);
/// A timer that is at least this far away may come up to [`WAKES_APART`] later.
const FAR: Duration = Duration::from_secs(1);
/// Such timers come at multiples of this time, so that agents that are idle wake together: the process sleeps in between.
const WAKES_APART: Duration = Duration::from_millis(100);

/// Receives every notice of every agent; for the demo and for tests.
pub type Observer = mpsc::UnboundedSender<(AgentId, Notice)>;

/// The parts of the daemon that an agent's task uses.
#[derive(Debug, Clone)]
pub struct AgentContext {
    /// Both clocks.
    pub clock: Clock,
    /// The network connections to the platform.
    pub net: Net,
    /// The REST client that all agents share.
    pub rest: Rest,
    /// How sockets are opened.
    pub dialer: Arc<Dialer>,
    /// The programs that are asked about doubtful requests.
    pub deciders: Deciders,
    /// The record.
    pub ledger: Ledger,
    /// Whether others may answer for this process's agents by now.
    pub trust: LeaseTrust,
    /// Intervals and time limits.
    pub timing: Timing,
    /// Receives every notice.
    pub observer: Option<Observer>,
    /// Counts every notice.
    pub metrics: Metrics,
}

/// Calls to the platform, to the ledger and to deciders. They run within the agent's task: for most of them, a task of their own would
/// be most of their price.
type CallsUnderWay = FuturesUnordered<Pin<Box<dyn Future<Output = CallDone> + Send>>>;

/// One agent's task.
#[derive(Debug)]
pub struct Agent {
    settings: Arc<AgentSettings>,
    around: Arc<AgentContext>,
    core: Core,
    commands: mpsc::Receiver<Box<AgentCommand>>,
    health: watch::Receiver<LedgerHealth>,
    trusted: watch::Receiver<bool>,
    /// Another doorman took over: this task ends.
    fenced: Option<LedgerError>,
    policy: watch::Receiver<Option<Arc<Policy>>>,
    drain: CancellationToken,
    beat: Pulse,
    /// The key and the client that carries it, or why there is none.
    key: Result<(Key, AgentRest), String>,
    /// The socket's task, and the opening of the next.
    tasks: JoinSet<CallDone>,
    calls: CallsUnderWay,
    /// The last turn was that of calls: now everything else has the same chance.
    calls_had_turn: bool,
    conn: Option<CurrentSocket>,
    /// The number of the last question of whose the key is; the reply to an earlier question may concern an older key.
    questions: u64,
    replies: std::collections::HashMap<u64, tokio::sync::oneshot::Sender<OpOutcome>>,
    tokens: u64,
    drain_until: Option<Instant>,
    counting: NoticeCounter,
    handout: SnapshotPublisher,
    noise: Noise,
}

/// The current socket, open or opening.
#[derive(Debug)]
struct CurrentSocket {
    number: u64,
    commands: mpsc::Sender<SocketCommand>,
    events: mpsc::Receiver<SocketEvent>,
    /// Goes to the socket's task once the socket is open.
    ends: Option<(mpsc::Sender<SocketEvent>, mpsc::Receiver<SocketCommand>)>,
    task: tokio::task::AbortHandle,
    /// The socket's task may finish by itself and must not be aborted.
    free: bool,
}

impl CurrentSocket {
    /// The socket's task may finish by itself.
    fn let_go(mut self) {
        self.free = true;
    }
}

impl Drop for CurrentSocket {
    fn drop(&mut self) {
        if !self.free {
            self.task.abort();
        }
    }
}

/// When to wake for a timer.
fn coalesced(at: Mono, now: Mono) -> Mono {
    if at.since(now) < FAR {
        return at;
    }
    let apart = WAKES_APART.as_nanos();
    let wakes = at.since_origin().as_nanos().div_ceil(apart);
    Mono::from_origin(u32::try_from(wakes).map_or(at.since_origin(), |wakes| WAKES_APART * wakes))
}

impl Agent {
    /// Makes an agent's task that has not started, and the handle to send it commands.
    ///
    /// `policy` is the policy in force from now on (the core has the one in force now); `drain` makes the task stop.
    pub async fn new(
        settings: Arc<AgentSettings>,
        around: Arc<AgentContext>,
        core: Core,
        policy: watch::Receiver<Option<Arc<Policy>>>,
        beat: Pulse,
        drain: CancellationToken,
        slot: AgentSlot,
    ) -> (Box<Self>, AgentHandle) {
        let (sender, commands) = mpsc::channel(64);
        let handle = AgentHandle::new(sender);
        let (health, trusted) = (around.ledger.health(), around.trust.changes());
        let key = calls::read_key(&settings, &around.rest).await;
        let counting = NoticeCounter::new(around.metrics.clone(), &settings.rules);
        let agent = Box::new(Self {
            counting,
            handout: SnapshotPublisher::new(slot),
            settings,
            around,
            core,
            commands,
            health,
            trusted,
            fenced: None,
            policy,
            drain,
            beat,
            key,
            tasks: JoinSet::new(),
            calls: CallsUnderWay::new(),
            calls_had_turn: false,
            conn: None,
            questions: 0,
            replies: std::collections::HashMap::new(),
            tokens: 0,
            drain_until: None,
            noise: Noise::default(),
        });
        (agent, handle)
    }

    /// Runs until it is stopped and has finished, or the drain time is over. Dropping the future stops it at once: the
    /// next start finds out what became of the answers in flight. Boxed, as a future holds its arguments twice.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`]: another doorman took over. What is on its way is let go of at once, as in a crash.
    pub async fn run(mut self: Box<Self>) -> Result<(), LedgerError> {
        let span = tracing::info_span!("agent", agent = %self.settings.id);
        async move {
            self.ledger_health();
            self.core.handle(Input::Start, self.now());
            let mut happened = true;
            while self.perform() {
                if happened {
                    self.handout.after_turn(&self.core, Instant::now());
                }
                happened = self.turn().await;
                self.core.go_on(self.now());
                self.beat.tick();
                notice_log::kept_back(self.noise.kept_back(self.now().mono));
                if let Some(error) = self.fenced.take() {
                    return Err(error);
                }
            }
            Ok(())
        }
        .instrument(span)
        .await
    }

    fn now(&self) -> Now {
        self.around.clock.now()
    }

    /// A ledger that cannot be written, and one in which others may write for this agent by now: nothing new is decided.
    fn ledger_health(&mut self) {
        let healthy = matches!(*self.health.borrow_and_update(), LedgerHealth::Ok);
        let trusted = *self.trusted.borrow_and_update();
        let now = self.now();
        self.core.take(Input::LedgerHealth(healthy && trusted), now);
    }

    /// Waits for the next event and passes it to the core, which has to go on afterwards; `false` if it only turned to show that it
    /// runs.
    async fn turn(&mut self) -> bool {
        self.calls_had_turn = !self.calls_had_turn && self.calls_ended();
        if self.calls_had_turn {
            return true;
        }
        let now = self.now();
        let soon = coalesced(now.mono + (TURN_MAX - WAKES_APART), now.mono);
        let due = self.core.deadline(now).map(|at| coalesced(at, now.mono)).filter(|at| *at <= soon);
        let mut deadline = self.around.clock.instant(due.unwrap_or(soon));
        let mut happens = due.is_some();
        for sooner in self.drain_until.into_iter().chain(self.handout.due()) {
            happens |= sooner <= deadline;
            deadline = deadline.min(sooner);
        }
        let events = async {
            match &mut self.conn {
                Some(conn) => (conn.number, conn.events.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (conn, event) = events => self.socket_event(conn, event),
            Some(done) = self.calls.next() => self.done(done),
            Some(done) = self.tasks.join_next() => self.joined(done),
            Some(command) = self.commands.recv() => self.command(*command),
            Ok(()) = self.health.changed() => self.ledger_health(),
            Ok(()) = self.trusted.changed() => self.ledger_health(),
            Ok(()) = self.policy.changed() => {
                let policy = self.policy.borrow_and_update().clone();
                let now = self.now();
                self.core.take(Input::Policy(policy), now);
            }
            () = self.drain.cancelled(), if self.drain_until.is_none() => {
                self.drain_until = Some(Instant::now() + self.around.timing.drain);
                let now = self.now();
                self.core.take(Input::Stop, now);
            }
            () = tokio::time::sleep_until(deadline) => {
                let now = self.now();
                self.core.take(Input::Tick, now);
                return happens;
            }
        }
        true
    }

    /// Begins the calls that were made, and handles those that have ended: a turn of the loop costs more than most of them. Whether
    /// there were any.
    fn calls_ended(&mut self) -> bool {
        let mut ended = 0;
        while ended < CALLS_AT_ONCE
            && self.fenced.is_none()
            && let Some(Some(done)) = self.calls.next().now_or_never()
        {
            ended += 1;
            self.done(done);
        }
        ended > 0
    }

    fn joined(&mut self, done: Result<CallDone, JoinError>) {
        match done {
            Ok(done) => self.done(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => {}
        }
    }

    /// Something came from the socket. What else is there is taken with it: a turn of the loop costs more than most frames.
    fn socket_event(&mut self, conn: u64, event: Option<SocketEvent>) {
        let now = self.now();
        let mut next = Some(event.unwrap_or(SocketEvent::Closed(Ended::default())));
        let mut taken = 1;
        while let Some(event) = next.take() {
            match event {
                SocketEvent::Text(text, received) => {
                    self.record(|recorder, agent| recorder.frame(agent, conn, Direction::In, &text));
                    let received = self.around.clock.mono_of(received);
                    self.core.take(Input::Frame { conn, text: &text, received }, now);
                }
                SocketEvent::Binary(len) => {
                    self.record(|recorder, agent| recorder.binary(agent, conn, len));
                    self.core.take(Input::Binary { conn, len }, now);
                }
                SocketEvent::Closed(ended) => {
                    self.record(|recorder, agent| recorder.closed(agent, conn, Direction::In, ended.code));
                    self.conn = None;
                    self.core.take(Input::Closed { conn, ended }, now);
                }
            }
            // Takes only as many frames as it handles.
            if taken < FRAMES_AT_ONCE {
                taken += 1;
                next = self.conn.as_mut().and_then(|conn| conn.events.try_recv().ok());
            }
        }
    }

    /// Puts something into the transcript, if one is written.
    fn record(&self, what: impl FnOnce(&TranscriptRecorder, &AgentId)) {
        if let Some(recorder) = self.around.rest.recorder() {
            what(recorder, &self.settings.id);
        }
    }

    fn command(&mut self, command: AgentCommand) {
        let now = self.now();
        match command {
            AgentCommand::RenewKey => self.renew_key(),
            AgentCommand::Op { op, person, reply } => {
                self.tokens += 1;
                self.replies.insert(self.tokens, reply);
                self.core.take(Input::Op { token: self.tokens, op, person }, now);
            }
            // A failed send means that nobody waits for the reply any more, which is not an error here.
            AgentCommand::Status(reply) => drop(reply.send(self.core.status().into())),
            AgentCommand::Pending(reply) => drop(reply.send(self.core.pending().into_iter().map(Into::into).collect())),
            AgentCommand::Doubts(reply) => drop(reply.send(self.core.doubts().into_iter().map(Into::into).collect())),
            AgentCommand::Find { target, reply } => drop(reply.send(self.core.find(&target))),
            AgentCommand::FindGuests { target, reply } => drop(reply.send(self.core.find_guests(&target))),
            #[cfg(any(test, debug_assertions))]
            AgentCommand::Panic => panic!("asked to panic, by a test"),
        }
    }

    /// Carries out all that the core wants; `false` once there is nothing left to do in this life.
    fn perform(&mut self) -> bool {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Connect { conn, plan } => self.connect(conn, plan),
                Action::Send { conn, text } => self.send(conn, text),
                Action::Close { conn } => self.close(conn),
                Action::Me => self.ask_me(),
                Action::Page(fetch) => self.ask_page(fetch),
                Action::Contacts { call, page, size } => self.ask_contacts(call, page, size),
                Action::Respond { request, answer, attempt } => self.respond(request, answer, attempt),
                Action::Remove { contact, for_person } => self.remove_contact(contact, for_person),
                Action::Record(batch) => {
                    let ledger = self.around.ledger.clone();
                    self.call(async move { CallDone::Recorded(ledger.commit(batch).await) });
                }
                Action::Ask { request, question, circumstances } => self.ask(&request, question, &circumstances),
                Action::Restore { number, reach } => self.restore(number, reach),
                Action::Reply { token, outcome } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        let _ = reply.send(outcome);
                    }
                }
                Action::Tell(notice) => {
                    if self.noise.admits(&notice, self.now().mono) {
                        notice_log::write(&notice, &self.settings.key);
                    }
                    self.counting.count(&notice);
                    if let Some(observer) = &self.around.observer {
                        let _ = observer.send((self.settings.id.clone(), notice));
                    }
                }
                Action::Done => return false,
            }
        }
        self.drain_until.is_none_or(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that this function returns.
    fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// There may be thousands of agents. What a future holds across a wait, and its arguments twice, is there for as long as it is.
    #[test]
    fn the_task_of_an_agent_takes_little_room() {
        assert!(size_of_future(Agent::run) <= 2 << 10, "{}", size_of_future(Agent::run));
        assert!(size_of::<Agent>() <= 8 << 10, "{}", size_of::<Agent>());
    }

    #[test]
    fn only_timers_that_are_far_away_wait_for_others_and_never_for_long() {
        let ms = |ms| Mono::from_origin(Duration::from_millis(ms));
        for (now, at, wakes) in [
            (0, 0, 0),
            (0, 999, 999),
            (0, 1_000, 1_000),
            (0, 1_001, 1_100),
            (4_050, 5_049, 5_049),
            (4_050, 5_050, 5_100),
            (9_000, 8_999, 8_999),
        ] {
            assert_eq!(coalesced(ms(at), ms(now)), ms(wakes), "{at} at {now}");
        }
        let exact = Mono::from_origin(Duration::from_nanos(2_000_000_001));
        assert_eq!(coalesced(exact, Mono::ZERO), ms(2_100));
        // Some thirteen years on, no timer is rounded.
        let late = Mono::from_origin(WAKES_APART * u32::MAX + Duration::from_millis(50));
        assert_eq!(coalesced(late, Mono::ZERO), late);
    }
}
