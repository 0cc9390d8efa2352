//! A doorman's process: it starts, is stopped, is killed or is asked to end.

use std::collections::BTreeSet;
use std::time::Duration;

use doorman::clock::Mono;
use doorman::fleet::core::{FleetCore, TrustPhase};
use doorman::fleet::holders::AgentHolders;
use doorman::ledger::members::{LeaseHolder, Member, MemberState};
use jiff::SignedDuration;

use super::agents::Run;
use super::evening::{Evening, Point, Step};
use super::leases::MemberRow;
use super::schedule::FleetWorldEvent;
use super::writer::Writer;

pub const TTL: Duration = Duration::from_secs(15);
const LET_GO_AFTER: Duration = Duration::from_secs(30);
/// Between two questions for the newest rules.
const HEADS_RHYTHM: Duration = Duration::from_secs(5);
/// A database that does not answer is given up after this long.
pub const CONNECT: Duration = Duration::from_secs(5);
/// The longest drain.
pub const DRAIN: Duration = Duration::from_secs(10);
/// The hash of the only lease set, which has all agents.
pub const LEASE_SET: &str = "all";

/// See the module.
#[derive(Debug)]
pub struct DoormanProcess {
    pub name: String,
    /// Of its state directory.
    instance: String,
    ids: u64,
    /// Counts its processes.
    pub life: u64,
    pub down: bool,
    pub leaving: bool,
    pub stopped_until: Option<Duration>,
    /// Counts how often it was stopped.
    pub stops: u64,
    /// What its process would have done since.
    pub withheld: Vec<Step>,
    pub aim: Option<(Point, Duration)>,
    pub no_database: bool,
    pub no_platform: bool,
    /// Since when nothing has kept it from beating but the database itself.
    pub well_since: Duration,
    /// How wrong its wall clock is; where its other clock began, in microseconds; and how much faster that is, in millionths.
    pub skew: SignedDuration,
    origin_us: u64,
    faster: i64,
    /// Most agents that it takes.
    pub agents_max: u32,
    /// As whom it takes leases.
    pub me: String,
    pub core: FleetCore,
    pub stands: AgentHolders,
    pub busy: bool,
    pub lost: bool,
    pub beat_at: Mono,
    pub look_at: Mono,
    pub phase: TrustPhase,
    pub moves: Option<(i64, i64)>,
    pub leases: Vec<LeaseHolder>,
    pub looked: (Vec<Member>, Mono),
    /// What its agents believe.
    pub trusted: bool,
    /// Writers that cannot write, by agent.
    pub blocked: BTreeSet<usize>,
    pub writers: Vec<Writer>,
    pub runs: Vec<Run>,
    /// The version of the rules that it decides by.
    pub version: u64,
}

impl DoormanProcess {
    pub fn new(number: usize, agents: &[String], rng: &mut fastrand::Rng) -> Self {
        Self {
            name: format!("host-{number}"),
            instance: format!("instance-{number}"),
            ids: 0,
            life: 0,
            down: true,
            leaving: false,
            stopped_until: None,
            stops: 0,
            withheld: Vec::new(),
            aim: None,
            no_database: false,
            no_platform: false,
            well_since: Duration::ZERO,
            skew: SignedDuration::from_millis(rng.i64(-10_000..10_000)),
            origin_us: rng.u64(1_000_000..1_000_000_000_000),
            faster: rng.i64(-500..500),
            agents_max: 20_000,
            me: String::new(),
            core: FleetCore::new(TTL, LET_GO_AFTER),
            stands: AgentHolders::default(),
            busy: false,
            lost: false,
            beat_at: Mono::ZERO,
            look_at: Mono::ZERO,
            phase: TrustPhase::LetGo,
            moves: None,
            leases: Vec::new(),
            looked: (Vec::new(), Mono::ZERO),
            trusted: false,
            blocked: BTreeSet::new(),
            writers: agents.iter().map(|_| Writer::default()).collect(),
            runs: agents.iter().map(|_| Run::default()).collect(),
            version: 0,
        }
    }

    /// Its monotonic clock at this true moment.
    pub fn mono(&self, at: Duration) -> Mono {
        let us =
            i128::from(self.origin_us) + at.as_micros().cast_signed() * i128::from(1_000_000 + self.faster) / 1_000_000;
        Mono::from_origin(Duration::from_micros(u64::try_from(us).unwrap()))
    }

    /// The true moment at which its clock shows this.
    pub fn when(&self, mono: Mono) -> Duration {
        let us = mono.since_origin().as_micros().cast_signed() - i128::from(self.origin_us);
        let us = (us.max(0) * 1_000_000).div_euclid(i128::from(1_000_000 + self.faster)) + 4;
        Duration::from_micros(u64::try_from(us).unwrap())
    }

    /// Whether the others believe that it lives, as it must believe itself.
    pub fn is_trusted(&self, now: Mono) -> bool {
        now < self.core.trusted_until()
    }

    /// Whether it runs, and nothing but the database itself keeps it from beating.
    pub fn is_well(&self) -> bool {
        !self.down && self.stopped_until.is_none() && !self.no_database
    }
}

impl Evening {
    /// A process begins: it joins the others.
    pub fn starts(&mut self, doorman: usize) {
        if !self.doormen[doorman].down {
            return;
        }
        if self.database_fails(doorman).is_some() {
            let (wait, life) = (Duration::from_secs(self.rng.u64(1..5)), self.doormen[doorman].life);
            return self.happens_in(wait, FleetWorldEvent::Start(doorman, life));
        }
        let now = self.now(doorman).mono;
        let agents = self.agents.len();
        let head = self.database.head();
        let process = &mut self.doormen[doorman];
        let before = Some(std::mem::take(&mut process.me)).filter(|before| !before.is_empty());
        (process.down, process.leaving, process.busy, process.lost) = (false, false, false, false);
        process.core = FleetCore::new(TTL, LET_GO_AFTER);
        process.stands = AgentHolders::default();
        (process.beat_at, process.look_at, process.phase) = (now, now, TrustPhase::LetGo);
        (process.moves, process.trusted, process.version) = (None, false, head);
        process.blocked.clear();
        process.writers = (0..agents).map(|_| Writer::default()).collect();
        process.runs = (0..agents).map(|_| Run::default()).collect();
        process.well_since = self.at;
        let me = self.joins(doorman, before.as_deref());
        self.doormen[doorman].me = me;
        self.steps_in(doorman, Duration::ZERO, Step::Keep);
        self.steps_in(doorman, HEADS_RHYTHM, Step::Heads);
    }

    /// A new life is among the others; its id.
    pub fn joins(&mut self, doorman: usize, before: Option<&str>) -> String {
        let process = &mut self.doormen[doorman];
        process.ids += 1;
        let id = format!("{}/{}", process.name, process.ids);
        let row = MemberRow {
            instance: process.instance.clone(),
            name: process.name.clone(),
            beat: 0,
            state: MemberState::Up,
            ttl: TTL,
            agents_max: process.agents_max,
            lease_set: LEASE_SET.to_owned(),
            set_by: None,
        };
        self.database.rows.join(&id, row, before);
        self.truth_beats(&id, doorman);
        id
    }

    /// Why the database cannot be asked now, and when the doorman knows.
    pub fn database_fails(&mut self, doorman: usize) -> Option<Duration> {
        let rate = self.rates.session;
        if self.doormen[doorman].no_database {
            return Some(CONNECT);
        }
        if self.database.away {
            return Some(self.soon(50_000));
        }
        if self.chance(rate) {
            self.saw("a connection to the database lost");
            return Some(self.soon(50_000));
        }
        None
    }

    /// Asks for the newest rules; `again`: and later once more.
    pub fn asks_for_heads(&mut self, doorman: usize, again: bool) {
        if self.database_fails(doorman).is_none() {
            let head = self.database.head();
            if self.doormen[doorman].version != head {
                self.doormen[doorman].version = head;
                self.new_rules(doorman);
            }
        }
        if again {
            self.steps_in(doorman, HEADS_RHYTHM, Step::Heads);
        }
    }

    /// SIGSTOP, or a machine that is suspended.
    pub fn stops(&mut self, doorman: usize, long: Duration) {
        let process = &mut self.doormen[doorman];
        if process.down || process.stopped_until.is_some() {
            return;
        }
        process.stopped_until = Some(self.at + long);
        process.stops += 1;
        let number = process.stops;
        self.note(|| format!("= {doorman} stops for {long:?}"));
        self.saw("a doorman stopped");
        self.happens_in(long, FleetWorldEvent::Wake(doorman, number));
    }

    pub fn stops_at(&mut self, doorman: usize, point: Point) {
        if self.doormen[doorman].aim.is_some_and(|(aim, _)| aim == point)
            && let Some((_, long)) = self.doormen[doorman].aim.take()
        {
            self.saw(match point {
                Point::Batch => "stopped before a transaction",
                Point::Commit => "stopped in a transaction",
                Point::Intent => "stopped after an intent",
                Point::Call => "stopped right before a call",
                Point::Outcome => "stopped before an outcome",
                Point::Beat => "stopped while it beat",
                Point::Declare => "stopped before it said who is dead",
                Point::Read => "stopped between taking and reading",
            });
            self.stops(doorman, long);
        }
    }

    pub fn wakes(&mut self, doorman: usize) {
        let process = &mut self.doormen[doorman];
        if process.stopped_until.take().is_none() {
            return;
        }
        process.well_since = self.at;
        for step in std::mem::take(&mut process.withheld) {
            self.steps_in(doorman, Duration::ZERO, step);
        }
    }

    /// The process is gone, and all of its connections.
    fn ends(&mut self, doorman: usize, down: Duration) {
        for agent in 0..self.agents.len() {
            self.drops(doorman, agent);
        }
        self.database.abort(|open| open.doorman == doorman);
        let process = &mut self.doormen[doorman];
        process.life += 1;
        process.down = true;
        process.stopped_until = None;
        process.withheld.clear();
        let life = process.life;
        self.happens_in(down, FleetWorldEvent::Start(doorman, life));
    }

    pub fn is_killed(&mut self, doorman: usize, down: Duration, lost: bool) {
        if self.doormen[doorman].down {
            return;
        }
        self.saw("a doorman killed");
        if lost {
            let process = &mut self.doormen[doorman];
            process.instance = format!("{}-{}", process.instance, process.life);
            process.me.clear();
        }
        self.ends(doorman, down);
    }

    pub fn is_asked_to_end(&mut self, doorman: usize) {
        let process = &mut self.doormen[doorman];
        if process.down || process.leaving || process.stopped_until.is_some() {
            return;
        }
        process.leaving = true;
        self.saw("a doorman told to end");
        for agent in 0..self.agents.len() {
            self.drives(doorman, agent);
        }
        self.steps_in(doorman, DRAIN, Step::Leave);
        self.has_ended(doorman);
    }

    /// An agent's task has ended: the last one ends the process.
    pub fn has_ended(&mut self, doorman: usize) {
        let process = &self.doormen[doorman];
        if process.leaving && process.runs.iter().all(|run| run.task.is_none()) {
            self.steps_in(doorman, Duration::ZERO, Step::Leave);
        }
    }

    pub fn leaves_for_good(&mut self, doorman: usize) {
        if !self.doormen[doorman].leaving {
            return;
        }
        if self.database_fails(doorman).is_none() {
            let me = self.doormen[doorman].me.clone();
            self.database.rows.leave(&me);
        }
        let down = Duration::from_millis(self.rng.u64(200..40_000));
        self.ends(doorman, down);
    }
}
