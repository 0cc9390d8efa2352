//! The agents of a doorman: each runs while it is this doorman's, as `supervisor::runner` has it, and its real core's actions are
//! carried out as `agent::shell` does.

use std::time::Duration;

use doorman::agent::core::reach_of;
use doorman::agent::{Action, BATCH_MAX, Core, CoreConfig, Input};
use doorman::clock::Now;
use doorman::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use doorman::fleet::AgentHolder;
use doorman::ledger::entry::SavedAgent;
use doorman::ledger::{LedgerError, RestoreReach};
use doorman::model::{AgentId, AgentState, Answer, ConnectFailure, RefusedBy, RequestId};
use doorman::platform::{CallError, CallFault, Reply};

use super::super::events::{Call, CoreInput};
use super::evening::{Evening, FleetEvent, Step};
use super::process::{CONNECT, DRAIN};
use super::writer::Job;

/// What starting an agent takes, in this order: whoever reads before it has the lease may miss what its holder still writes.
const LOADS: [Load; 2] = [Load::Take, Load::Read];
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);
/// Most answers sent at the same time.
const IN_FLIGHT: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Take,
    Read,
}

/// One agent of a doorman.
#[derive(Debug)]
pub struct Run {
    stand: AgentHolder,
    pub task: Option<Task>,
    /// The task that is about to begin, how far it is, and what was read.
    loading: Option<(u64, usize, Option<SavedAgent>)>,
    /// It waits before it is tried again.
    waits: bool,
    failures: u32,
}

impl Default for Run {
    fn default() -> Self {
        Self { stand: AgentHolder::Nobody("not yet"), task: None, loading: None, waits: false, failures: 0 }
    }
}

/// A life of an agent's task.
#[derive(Debug)]
pub struct Task {
    pub number: u64,
    pub core: Core,
    pub began: Duration,
    stopping: bool,
    /// When a tick is on its way already.
    tick_at: Option<Duration>,
}

pub fn refused(status: Option<u16>) -> ConnectFailure {
    ConnectFailure {
        status,
        code: status.filter(|status| *status == 409).map(|_| "connection_conflict".to_owned()),
        by: if status.is_some() { RefusedBy::Empty } else { RefusedBy::Unknown },
        retry_after: None,
        asked: false,
        why: "refused".to_owned(),
    }
}

pub fn unreachable<T>() -> Reply<T> {
    failed(CallFault::Unreachable)
}

pub fn failed<T>(fault: CallFault) -> Reply<T> {
    Reply { result: Err(CallError { fault, code: None, message: None, retry_after: None }), date: None }
}

impl Evening {
    /// The keeper says whose an agent is.
    pub fn stands(&mut self, doorman: usize, agent: usize, stand: AgentHolder) {
        if self.run_of(doorman, agent).stand != stand {
            self.note(|| format!("{doorman}: agent {agent} is {stand:?}"));
            self.run_of(doorman, agent).stand = stand;
            self.drives(doorman, agent);
        }
    }

    /// Starts, drains or drops an agent's task, as it stands.
    pub fn drives(&mut self, doorman: usize, agent: usize) {
        let leaving = self.doormen[doorman].leaving;
        let run = self.run_of(doorman, agent);
        if run.waits {
            if matches!(run.stand, AgentHolder::Theirs(_) | AgentHolder::Nobody(_)) {
                self.drops(doorman, agent);
            }
            return;
        }
        match run.stand {
            _ if leaving => {
                run.loading = None;
                self.asks_to_stop(doorman, agent);
            }
            AgentHolder::Ours if run.task.is_none() && run.loading.is_none() => {
                self.tasks += 1;
                let task = self.tasks;
                self.run_of(doorman, agent).loading = Some((task, 0, None));
                self.load(doorman, agent);
            }
            AgentHolder::Ours => {}
            AgentHolder::Give if run.task.is_some() => self.asks_to_stop(doorman, agent),
            AgentHolder::Give if run.loading.is_some() => {}
            AgentHolder::Give => {
                run.waits = true;
                self.hands_in(doorman, agent, Job::Give);
                self.steps_in(doorman, RESTART_MIN, Step::Again(agent));
            }
            // As `kill -9`: whoever has it finds out what became of everything.
            AgentHolder::Theirs(_) | AgentHolder::Nobody(_) => {
                run.loading = None;
                self.drops(doorman, agent);
            }
        }
    }

    pub fn again(&mut self, doorman: usize, agent: usize) {
        self.run_of(doorman, agent).waits = false;
        self.drives(doorman, agent);
    }

    fn asks_to_stop(&mut self, doorman: usize, agent: usize) {
        let Some(task) = self.run_of(doorman, agent).task.as_mut().filter(|task| !task.stopping) else { return };
        task.stopping = true;
        let number = task.number;
        self.input(doorman, agent, number, Input::Stop);
        self.steps_in(doorman, DRAIN, Step::Drained(agent, number));
    }

    /// The next thing that loading takes.
    fn load(&mut self, doorman: usize, agent: usize) {
        let Some((task, step, _)) = self.run_of(doorman, agent).loading else { return };
        match LOADS.get(step) {
            Some(Load::Take) => self.hands_in(doorman, agent, Job::Take { task }),
            Some(Load::Read) => {
                let wait = self.soon(30_000);
                self.steps_in(doorman, wait, Step::Read(agent, task));
            }
            None => self.begins_task(doorman, agent),
        }
    }

    /// One step of loading is done.
    pub fn loads(&mut self, doorman: usize, agent: usize, task: u64) {
        let loading = self.run_of(doorman, agent).loading.as_mut();
        if let Some((_, step, _)) = loading.filter(|(loading, ..)| *loading == task) {
            *step += 1;
            self.load(doorman, agent);
        }
    }

    pub fn reads(&mut self, doorman: usize, agent: usize, task: u64) {
        if self.run_of(doorman, agent).loading.as_ref().is_none_or(|(loading, ..)| *loading != task) {
            return;
        }
        if self.database_fails(doorman).is_some() {
            return self.failed_to_load(doorman, agent, task);
        }
        let (reach, now) = (reach_of(self.policy_of(doorman)), self.now(doorman).wall);
        let name = self.agents[agent].clone();
        let saved = self.database.records.entry(name).or_default().memory(reach, now);
        let saved = SavedAgent { shared: true, ..saved };
        if let Some((_, _, read)) = &mut self.run_of(doorman, agent).loading {
            *read = Some(saved);
        }
        self.loads(doorman, agent, task);
    }

    pub fn failed_to_load(&mut self, doorman: usize, agent: usize, task: u64) {
        let run = self.run_of(doorman, agent);
        if run.loading.take_if(|(loading, ..)| *loading == task).is_some() {
            self.fails(doorman, agent);
        }
    }

    /// A task could not begin, or ended though nobody asked it to: it is tried again a while later.
    fn fails(&mut self, doorman: usize, agent: usize) {
        let run = self.run_of(doorman, agent);
        let wait = RESTART_MIN.saturating_mul(1 << run.failures.min(16)).min(RESTART_MAX);
        run.failures += 1;
        run.waits = true;
        self.steps_in(doorman, wait, Step::Again(agent));
    }

    fn policy_of(&self, doorman: usize) -> Option<&doorman::policy::Policy> {
        let version = self.doormen[doorman].version;
        self.policies.get(usize::try_from(version).unwrap() - 1).map(|policy| &**policy)
    }

    fn begins_task(&mut self, doorman: usize, agent: usize) {
        let Some((number, _, Some(saved))) = self.run_of(doorman, agent).loading.take() else {
            self.fail("a task begins without its memory");
        };
        if !matches!(self.run_of(doorman, agent).stand, AgentHolder::Ours | AgentHolder::Give)
            || self.doormen[doorman].leaving
        {
            return self.drives(doorman, agent);
        }
        let config = CoreConfig {
            agent: AgentId::parse(&self.agents[agent]).unwrap(),
            name: Some("porter".to_owned()),
            connection: ConnectionMode::Yield,
            credentials: CredentialsMode::Auto,
            answers: Answers { in_flight: IN_FLIGHT, per_second: 0 },
            timing: Timing::default(),
            shadow: false,
            seed: self.seed ^ number.wrapping_mul(0x9E37_79B9),
            capacity: 10_000,
            batch: [1, 2, 5, BATCH_MAX][usize::try_from(self.seed % 4).unwrap()],
            redact: doorman::secret::Redact::default(),
        };
        let (now, version) = (self.now(doorman), self.doormen[doorman].version);
        let policy = self.policies[usize::try_from(version).unwrap() - 1].clone();
        let core = Core::new(config, Some(policy), saved, now);
        let began = self.at;
        self.run_of(doorman, agent).task = Some(Task { number, core, began, stopping: false, tick_at: None });
        self.note(|| format!("{doorman}: task {number} of agent {agent} begins"));
        self.health(doorman, agent, number);
        self.input(doorman, agent, number, Input::Start);
        self.drives(doorman, agent);
    }

    /// The task is gone at once; its batches stay with the writer, and its calls are on their way.
    pub fn drops(&mut self, doorman: usize, agent: usize) {
        if let Some(task) = self.run_of(doorman, agent).task.take() {
            self.note(|| format!("{doorman}: task {} of agent {agent} is dropped", task.number));
            self.socket_ends(agent, task.number, self.doormen[doorman].no_platform);
        }
    }

    pub fn new_rules(&mut self, doorman: usize) {
        let version = self.doormen[doorman].version;
        for agent in 0..self.agents.len() {
            let policy = self.policies[usize::try_from(version).unwrap() - 1].clone();
            if let Some(number) = self.run_of(doorman, agent).task.as_ref().map(|task| task.number) {
                self.input(doorman, agent, number, Input::Policy(Some(policy)));
            }
        }
    }

    /// All agents hear soon whether the ledger can be written and believed.
    pub fn healths(&mut self, doorman: usize) {
        for agent in 0..self.agents.len() {
            if let Some(number) = self.run_of(doorman, agent).task.as_ref().map(|task| task.number) {
                let wait = self.soon(200);
                self.steps_in(doorman, wait, Step::Health(agent, number));
            }
        }
    }

    pub fn health(&mut self, doorman: usize, agent: usize, task: u64) {
        let healthy = self.doormen[doorman].blocked.is_empty() && self.doormen[doorman].trusted;
        self.input(doorman, agent, task, Input::LedgerHealth(healthy));
    }

    fn task_of(&mut self, doorman: usize, agent: usize, number: u64) -> Option<&mut Task> {
        self.run_of(doorman, agent).task.as_mut().filter(|task| task.number == number)
    }

    pub fn tick(&mut self, doorman: usize, agent: usize, number: u64) {
        let now: Now = self.now(doorman);
        let Some(task) = self.task_of(doorman, agent, number) else { return };
        task.tick_at = None;
        if task.core.deadline(now).is_some_and(|at| at <= now.mono) {
            return self.input(doorman, agent, number, Input::Tick);
        }
        self.wakes_in_time(doorman, agent, number);
    }

    /// A tick is on its way for the core's next deadline.
    fn wakes_in_time(&mut self, doorman: usize, agent: usize, number: u64) {
        let (now, at) = (self.now(doorman), self.at);
        let Some(task) = self.task_of(doorman, agent, number) else { return };
        let Some(deadline) = task.core.deadline(now) else { self.fail("a live deadline must always exist") };
        let deadline = self.doormen[doorman].when(deadline).max(at);
        let Some(task) = self.task_of(doorman, agent, number) else { return };
        if task.tick_at.is_none_or(|tick| tick > deadline) {
            task.tick_at = Some(deadline);
            self.steps_in(doorman, deadline - at, Step::Tick(agent, number));
        }
    }

    pub fn input_owned(&mut self, doorman: usize, agent: usize, task: u64, owned: CoreInput) {
        let received = self.now(doorman).mono;
        match owned {
            CoreInput::Opened(conn) => self.input(doorman, agent, task, Input::Opened { conn }),
            CoreInput::NotOpened(conn, refusal) => self.input(doorman, agent, task, Input::NotOpened { conn, refusal }),
            CoreInput::Frame(conn, text, _) => {
                self.input(doorman, agent, task, Input::Frame { conn, text: &text, received });
            }
            CoreInput::Closed(conn, code) => {
                self.input(doorman, agent, task, Input::Closed { conn, ended: code.into() });
            }
            CoreInput::Me { reply, .. } => self.input(doorman, agent, task, Input::Me { reply, changed: false }),
            CoreInput::Page(fetch, reply) => self.input(doorman, agent, task, Input::Page(fetch, reply)),
            CoreInput::Contacts(call, reply) => self.input(doorman, agent, task, Input::Contacts { call, reply }),
            CoreInput::Responded { request, attempt, reply, written } => {
                self.input(doorman, agent, task, Input::Responded { request, attempt, reply, written });
            }
            // Another doorman has the agent: nothing that this one still thinks of it matters.
            CoreInput::Recorded(Err(LedgerError::Fenced { .. })) => {
                if let Some(ended) = self.task_of(doorman, agent, task) {
                    let long = ended.began;
                    self.drops(doorman, agent);
                    if self.at - long > RESTART_MAX {
                        self.run_of(doorman, agent).failures = 0;
                    }
                    self.fails(doorman, agent);
                    self.has_ended(doorman);
                }
            }
            CoreInput::Recorded(result) => self.input(doorman, agent, task, Input::Recorded(result)),
            CoreInput::Restored(number, saved) => {
                self.input(doorman, agent, task, Input::Restored { number, saved });
            }
            CoreInput::Removed(..) | CoreInput::DeciderReplied { .. } => self.fail("nobody asked for this"),
        }
    }

    /// Gives a core one input and carries out its actions.
    pub fn input(&mut self, doorman: usize, agent: usize, number: u64, input: Input<'_>) {
        let now = self.now(doorman);
        let Some(task) = self.task_of(doorman, agent, number) else { return };
        task.core.handle(input, now);
        let yields = task.core.state() == AgentState::Yielded;
        if yields && !self.doors[agent].kept_by_older {
            self.fail(&format!("agent {agent} yields at {doorman}: no client but doormen has its connection"));
        }
        while let Some(action) = self.task_of(doorman, agent, number).and_then(|task| task.core.poll()) {
            self.act(doorman, agent, number, action);
        }
        self.wakes_in_time(doorman, agent, number);
    }

    fn act(&mut self, doorman: usize, agent: usize, task: u64, action: Action) {
        if !matches!(action, Action::Tell(_)) {
            self.note(|| format!("   {doorman}/{agent} <- {action:?}"));
        }
        match action {
            Action::Connect { conn, plan } if self.doormen[doorman].no_platform => {
                let _ = plan;
                self.steps_in(doorman, CONNECT, Step::Input(agent, task, CoreInput::NotOpened(conn, refused(None))));
            }
            Action::Connect { conn, plan } => self.calls(doorman, agent, task, Call::Connect(conn, plan)),
            Action::Send { conn, text } => self.calls(doorman, agent, task, Call::Text(conn, text)),
            Action::Close { conn } => self.calls(doorman, agent, task, Call::Close(conn)),
            Action::Me => self.calls(doorman, agent, task, Call::Me { question: 0, foreign: false }),
            Action::Page(fetch) => self.calls(doorman, agent, task, Call::Page(fetch)),
            Action::Contacts { call, page, .. } => self.calls(doorman, agent, task, Call::Contacts(call, page)),
            Action::Respond { request, answer, attempt } => {
                self.truth_answers(doorman, agent, &request, answer, attempt);
                let wait = self.soon(2_000);
                self.steps_in(doorman, wait, Step::Leaves(agent, task, request, answer, attempt));
            }
            Action::Record(batch) => {
                self.batches += 1;
                let job = Job::Commit { number: self.batches, task, batch, unsure: None };
                self.hands_in(doorman, agent, job);
            }
            Action::Restore { number, reach } => {
                let wait = self.soon(30_000);
                self.steps_in(doorman, wait, Step::Reread(agent, task, number, reach));
            }
            Action::Ask { .. } | Action::Remove { .. } => self.fail("nobody is asked about, and nobody removed"),
            Action::Reply { .. } | Action::Tell(_) => {}
            Action::Done => self.drained(doorman, agent, task),
        }
    }

    /// The task has finished what it began, or had as long as it may have.
    pub fn drained(&mut self, doorman: usize, agent: usize, task: u64) {
        if self.task_of(doorman, agent, task).is_some() {
            self.drops(doorman, agent);
            self.has_ended(doorman);
            self.drives(doorman, agent);
        }
    }

    pub fn rereads(&mut self, doorman: usize, agent: usize, task: u64, number: u64, reach: RestoreReach) {
        let now = self.now(doorman).wall;
        let saved = match self.database_fails(doorman) {
            Some(_) => None,
            None => {
                let record = self.database.records.entry(self.agents[agent].clone()).or_default();
                Some(Box::new(record.memory(reach, now).policy_state))
            }
        };
        self.input_owned(doorman, agent, task, CoreInput::Restored(number, saved));
    }

    /// The last look at the time before an answer leaves.
    pub fn leaves(
        &mut self,
        doorman: usize,
        agent: usize,
        task: u64,
        request: RequestId,
        answer: Answer,
        attempt: u32,
    ) {
        if self.task_of(doorman, agent, task).is_none() {
            return;
        }
        let now = self.now(doorman).mono;
        if !self.doormen[doorman].is_trusted(now) {
            self.saw("an answer held back at the last look");
            let owned = CoreInput::Responded { request, attempt, reply: unreachable(), written: now };
            return self.steps_in(doorman, Duration::ZERO, Step::Input(agent, task, owned));
        }
        self.truth_leaves(doorman, agent, &request, answer);
        let wait = self.soon(200);
        self.steps_in(doorman, wait, Step::Written(agent, task, request, answer, attempt));
    }

    /// From here on nobody takes the call back.
    pub fn written(
        &mut self,
        doorman: usize,
        agent: usize,
        task: u64,
        request: RequestId,
        answer: Answer,
        attempt: u32,
    ) {
        if self.task_of(doorman, agent, task).is_none() {
            return;
        }
        let written = self.now(doorman).mono;
        self.calls(doorman, agent, task, Call::Respond { request, answer, attempt, written });
    }

    fn calls(&mut self, doorman: usize, agent: usize, task: u64, call: Call) {
        let late = self.rates.late_call;
        let wait = match &call {
            // Frames of one socket keep their order.
            Call::Text(..) | Call::Close(_) => {
                let at = self.doors[agent].last.max(self.at) + self.soon(1_000);
                self.doors[agent].last = at;
                at - self.at
            }
            Call::Respond { .. } if self.chance(late) => {
                self.saw("a call late on its way");
                Duration::from_millis(self.rng.u64(100..8_000))
            }
            _ => self.soon(60_000),
        };
        if self.doormen[doorman].no_platform {
            return self.unheard(doorman, agent, task, call);
        }
        self.push(self.at + wait, FleetEvent::Server(agent, task, call));
    }

    /// What becomes of a call of a doorman that is cut off from the platform.
    fn unheard(&mut self, doorman: usize, agent: usize, task: u64, call: Call) {
        let owned = match call {
            Call::Connect(conn, _) => CoreInput::NotOpened(conn, refused(None)),
            Call::Text(..) | Call::Close(_) | Call::Remove(_) => return,
            Call::Me { question, foreign } => CoreInput::Me { question, foreign, reply: unreachable() },
            Call::Page(fetch) => CoreInput::Page(fetch, unreachable()),
            Call::Contacts(call, _) => CoreInput::Contacts(call, unreachable()),
            Call::Respond { request, attempt, written, .. } => {
                CoreInput::Responded { request, attempt, reply: failed(CallFault::NoAnswer), written }
            }
        };
        let wait = CONNECT + self.soon(9_000_000);
        self.steps_in(doorman, wait, Step::Input(agent, task, owned));
    }
}
