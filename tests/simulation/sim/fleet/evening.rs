//! One evening of several doormen: virtual time, a queue of what happens, and who is stopped meanwhile.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use doorman::clock::{Mono, Now};
use doorman::ledger::LedgerError;
use doorman::ledger::members::BeatOutcome;
use doorman::model::{Answer, RequestId};
use doorman::policy::Policy;
use jiff::{SignedDuration, Timestamp};

use super::super::events::{Call, CoreInput};
use super::super::summary::Summary;
use super::agents::Run;
use super::database::ModelDatabase;
use super::process::DoormanProcess;
use super::schedule::{FleetFaultRates, FleetWorldEvent, people_move, programme, wishes};
use super::server::AgentServer;
use super::truth::FleetGroundTruth;

pub const DOORMEN: usize = 3;
pub const AGENTS: usize = 4;
/// Until when something may go wrong.
pub const ROUGH: Duration = Duration::from_secs(900);
/// From here on nothing goes wrong any more.
pub const CALM: Duration = Duration::from_secs(1_000);
/// From here on no agent moves.
const SETTLED: Duration = Duration::from_secs(1_000 + 1_500);
const END: Duration = Duration::from_secs(1_000 + 2_700);
/// More events than this at one moment mean that the evening is stuck.
const STUCK_MAX: u32 = 20_000;
/// And more than this in all.
const STEPS_MAX: u64 = 2_000_000;
/// Most lines of the trace that are shown after a failure.
const TRACE_SHOWN: usize = 40_000;

/// What a doorman's process does next. It does nothing while it is stopped.
#[derive(Debug)]
pub enum Step {
    /// The keeper's thread turns.
    Keep,
    /// Its beat, begun at this moment of its clock, reaches the database.
    Beat(Mono),
    /// What came of it.
    Beaten(Mono, Result<BeatOutcome, ()>),
    /// It says who is dead: those that stood still, each with the beat that was seen.
    Declare(Vec<(String, i64)>),
    /// It asks for the newest rules.
    Heads,
    /// The writer of an agent looks at what waits.
    Write(usize),
    /// It sends the COMMIT of this transaction.
    Commit(usize, u64),
    /// An agent that could not start is tried again.
    Again(usize),
    /// A drain has lasted for as long as it may.
    Drained(usize, u64),
    /// The process ends.
    Leave,
    /// The record of an agent is read, for this task.
    Read(usize, u64),
    /// An input to an agent's core.
    Input(usize, u64, CoreInput),
    /// It hears whether the ledger can be written and believed.
    Health(usize, u64),
    /// A core may want to be woken.
    Tick(usize, u64),
    /// An answer is about to leave: the last look at the time.
    Leaves(usize, u64, RequestId, Answer, u32),
    /// It is written to the socket.
    Written(usize, u64, RequestId, Answer, u32),
    /// The record is read again, for a core that runs.
    Reread(usize, u64, u64, doorman::ledger::RestoreReach),
}

/// Where a doorman is stopped, so that it is held where a machine that is suspended would be. The names are those of `ops::stop_at`,
/// and three more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Batch,
    Commit,
    Intent,
    Call,
    Outcome,
    Beat,
    Declare,
    Read,
}

pub const POINTS: [Point; 8] =
    [Point::Batch, Point::Commit, Point::Intent, Point::Call, Point::Outcome, Point::Beat, Point::Declare, Point::Read];

#[derive(Debug)]
pub enum FleetEvent {
    /// A step of a doorman's process, in this life of it.
    Process(usize, u64, Step),
    /// A call arrives at the platform: whose task it is of, and which agent's.
    Server(usize, u64, Call),
    /// A transaction has been idle for too long.
    Idle(u64),
    World(FleetWorldEvent),
}

#[derive(Debug)]
pub struct ScheduledFleetEvent {
    at: Duration,
    seq: u64,
    what: FleetEvent,
}

impl PartialEq for ScheduledFleetEvent {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for ScheduledFleetEvent {}
impl PartialOrd for ScheduledFleetEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ScheduledFleetEvent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

pub struct Evening {
    pub seed: u64,
    pub rng: fastrand::Rng,
    pub rates: FleetFaultRates,
    pub at: Duration,
    pub origin: Timestamp,
    seq: u64,
    queue: BinaryHeap<Reverse<ScheduledFleetEvent>>,
    pub doormen: Vec<DoormanProcess>,
    /// The names of the agents, which are those of their leases.
    pub agents: Vec<String>,
    /// By agent.
    pub doors: Vec<AgentServer>,
    pub database: ModelDatabase,
    pub policies: Vec<Arc<Policy>>,
    pub truth: FleetGroundTruth,
    /// Tasks of agents that were ever begun.
    pub tasks: u64,
    /// Batches that were ever handed to a writer.
    pub batches: u64,
    pub calm: bool,
    /// What counts the moves of agents, as it was when none was to move any more.
    pub settled: Option<(i64, i64)>,
    stuck: (Duration, u32),
    trace: Option<Vec<String>>,
    pub summary: Summary,
}

impl Evening {
    pub fn new(seed: u64, policies: &[Arc<Policy>], traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rates = FleetFaultRates::of(&mut rng);
        let agents: Vec<String> =
            (0..AGENTS).map(|number| format!("6b0f2c7e-2d86-4f0e-9a60-00000000000{number}")).collect();
        let mut evening = Self {
            seed,
            rates,
            at: Duration::ZERO,
            origin: "2026-03-02T10:00:00Z".parse().unwrap(),
            seq: 0,
            queue: BinaryHeap::new(),
            doormen: (0..DOORMEN).map(|number| DoormanProcess::new(number, &agents, &mut rng)).collect(),
            doors: agents.iter().map(|_| AgentServer::default()).collect(),
            agents,
            database: ModelDatabase { pushed: vec![Duration::ZERO], ..ModelDatabase::default() },
            policies: policies.to_vec(),
            truth: FleetGroundTruth::default(),
            tasks: 0,
            batches: 0,
            calm: false,
            settled: None,
            stuck: (Duration::ZERO, 0),
            trace: traced.then(Vec::new),
            summary: Summary::default(),
            rng: fastrand::Rng::with_seed(seed ^ 0xD00F),
        };
        for (at, happening) in programme(&mut rng) {
            evening.push(at, FleetEvent::World(happening));
        }
        if people_move(seed) {
            let (wishes, most) = wishes(seed);
            evening.doormen[0].agents_max = most;
            for (at, happening) in wishes {
                evening.push(at, FleetEvent::World(happening));
            }
        }
        evening.push(SETTLED, FleetEvent::World(FleetWorldEvent::Settled));
        evening
    }

    /// Plays it to its end. The trace is empty unless it was asked for.
    pub fn run(mut self) -> (Summary, Vec<String>) {
        for doorman in 0..DOORMEN {
            self.starts(doorman);
        }
        while let Some(Reverse(event)) = self.queue.pop() {
            if !self.calm && event.at >= CALM {
                self.at = CALM;
                self.calm_down();
            }
            if event.at > END {
                break;
            }
            self.advance(event.at);
            self.happen(event.what);
        }
        self.at = END;
        self.check_end();
        self.summary.lives = self.doormen.iter().map(|doorman| doorman.life).sum();
        (self.summary, self.trace.unwrap_or_default())
    }

    fn advance(&mut self, at: Duration) {
        self.summary.steps += 1;
        self.stuck = if at == self.stuck.0 { (at, self.stuck.1 + 1) } else { (at, 0) };
        if self.stuck.1 > STUCK_MAX || self.summary.steps > STEPS_MAX {
            self.fail("time stands still: something asks to be woken at once, for ever");
        }
        self.at = at;
    }

    fn happen(&mut self, what: FleetEvent) {
        match what {
            FleetEvent::Process(doorman, life, step) => {
                if self.doormen[doorman].life != life || self.doormen[doorman].down {
                    return;
                }
                if self.doormen[doorman].stopped_until.is_none()
                    && let Some(point) = self.point_of(doorman, &step)
                {
                    self.stops_at(doorman, point);
                }
                let process = &mut self.doormen[doorman];
                match process.stopped_until {
                    Some(_) => process.withheld.push(step),
                    None => self.step(doorman, step),
                }
            }
            FleetEvent::Server(agent, task, call) => self.server(agent, task, call),
            FleetEvent::Idle(transaction) => {
                let began = self.database.open.get(&transaction).map(|open| open.began);
                if began.is_some() {
                    self.saw("a transaction idle for too long");
                    self.database.abort(|open| Some(open.began) == began);
                }
            }
            FleetEvent::World(happening) => self.world(happening),
        }
    }

    /// Where a process is right before this step.
    fn point_of(&self, doorman: usize, step: &Step) -> Option<Point> {
        match step {
            Step::Write(agent) if self.doormen[doorman].writers[*agent].has_batch() => Some(Point::Batch),
            Step::Commit(..) => Some(Point::Commit),
            Step::Leaves(..) => Some(Point::Intent),
            Step::Written(..) => Some(Point::Call),
            Step::Input(_, _, CoreInput::Responded { .. }) => Some(Point::Outcome),
            Step::Beat(_) => Some(Point::Beat),
            Step::Declare(_) => Some(Point::Declare),
            Step::Read(..) => Some(Point::Read),
            _ => None,
        }
    }

    fn step(&mut self, doorman: usize, step: Step) {
        self.note(|| format!("{doorman} {step:?}"));
        match step {
            Step::Keep => self.keep(doorman),
            Step::Beat(begun) => self.beats(doorman, begun),
            Step::Beaten(begun, beat) => self.beaten(doorman, begun, beat),
            Step::Declare(dead) => self.declares(doorman, dead),
            Step::Heads => self.asks_for_heads(doorman, true),
            Step::Write(agent) => self.write(doorman, agent),
            Step::Commit(agent, transaction) => self.commits(doorman, agent, transaction),
            Step::Again(agent) => self.again(doorman, agent),
            Step::Drained(agent, task) => self.drained(doorman, agent, task),
            Step::Leave => self.leaves_for_good(doorman),
            Step::Read(agent, task) => self.reads(doorman, agent, task),
            Step::Input(agent, task, owned) => self.input_owned(doorman, agent, task, owned),
            Step::Health(agent, task) => self.health(doorman, agent, task),
            Step::Tick(agent, task) => self.tick(doorman, agent, task),
            Step::Leaves(agent, task, request, answer, attempt) => {
                self.leaves(doorman, agent, task, request, answer, attempt);
            }
            Step::Written(agent, task, request, answer, attempt) => {
                self.written(doorman, agent, task, request, answer, attempt);
            }
            Step::Reread(agent, task, number, reach) => self.rereads(doorman, agent, task, number, reach),
        }
    }

    /// Nothing goes wrong any more: everybody runs, and reaches everything.
    fn calm_down(&mut self) {
        self.calm = true;
        self.rates = FleetFaultRates::default();
        self.database.away = false;
        for doorman in 0..DOORMEN {
            (self.doormen[doorman].no_database, self.doormen[doorman].no_platform) = (false, false);
            self.doormen[doorman].aim = None;
            self.wakes(doorman);
            self.person_drains(doorman, false);
        }
    }

    pub fn push(&mut self, at: Duration, what: FleetEvent) {
        self.seq += 1;
        self.queue.push(Reverse(ScheduledFleetEvent { at: at.max(self.at), seq: self.seq, what }));
    }

    pub fn happens_in(&mut self, wait: Duration, happening: FleetWorldEvent) {
        self.push(self.at + wait, FleetEvent::World(happening));
    }

    /// A step of a process, in its present life.
    pub fn steps_in(&mut self, doorman: usize, wait: Duration, step: Step) {
        let life = self.doormen[doorman].life;
        self.push(self.at + wait, FleetEvent::Process(doorman, life, step));
    }

    /// Soon, after a time that nothing promises.
    pub fn soon(&mut self, up_to_us: u64) -> Duration {
        Duration::from_micros(self.rng.u64(20..up_to_us))
    }

    pub fn true_wall(&self) -> Timestamp {
        self.origin.checked_add(SignedDuration::try_from(self.at).unwrap()).unwrap()
    }

    /// Both clocks of a doorman: the one counts from its own origin, at its own speed; the other is a little wrong.
    pub fn now(&self, doorman: usize) -> Now {
        let doorman = &self.doormen[doorman];
        Now { mono: doorman.mono(self.at), wall: self.true_wall().checked_add(doorman.skew).unwrap() }
    }

    pub fn run_of(&mut self, doorman: usize, agent: usize) -> &mut Run {
        &mut self.doormen[doorman].runs[agent]
    }

    pub fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.f64() < rate
    }

    /// Records that a fault really happened.
    pub fn saw(&mut self, fault: &'static str) {
        debug_assert!(super::FAULTS.contains(&fault), "`{fault}` is not on the list");
        *self.summary.faults.entry(fault).or_default() += 1;
    }

    /// Ends the evening with a failure: something does not hold.
    pub fn fail(&self, what: &str) -> ! {
        if std::env::var_os("SIM_TRACE").is_some() {
            let trace = self.trace.as_deref().unwrap_or_default();
            for line in &trace[trace.len().saturating_sub(TRACE_SHOWN)..] {
                eprintln!("{line}");
            }
        }
        panic!("seed {}: at {:.3} s: {what}", self.seed, self.at.as_secs_f64());
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", self.at.as_secs_f64(), line()));
        }
    }
}

/// What a commit that was not confirmed may come to.
pub type Unsure = Option<Result<(), LedgerError>>;
