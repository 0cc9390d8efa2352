//! What a seed determines: how often faults happen, what strangers and people do, and when a doorman is stopped, killed or cut off.

use std::time::Duration;

use doorman::ledger::members::WishOutcome;

use super::evening::{AGENTS, CALM, DOORMEN, Evening, POINTS, Point, ROUGH};
use super::rules::{KINDS, Kind, VERSIONS};

/// The probability of each fault, each time it is possible. All zero: nothing goes wrong.
#[derive(Debug, Clone, Default)]
pub struct FleetFaultRates {
    /// A call never reaches the platform, and doorman knows it.
    pub unreachable: f64,
    /// A call never reaches the platform, and doorman does not know it.
    pub lost_call: f64,
    /// A call is carried out, and its reply is lost.
    pub lost_reply: f64,
    /// A call is late on its way.
    pub late_call: f64,
    /// A connection to the database ends before what was asked is done.
    pub session: f64,
    /// A commit happens, and nobody says so.
    pub unsaid: f64,
}

impl FleetFaultRates {
    pub fn of(rng: &mut fastrand::Rng) -> Self {
        let mut rate = |often: f64| if rng.bool() { rng.f64() * often } else { 0.0 };
        Self {
            unreachable: rate(0.2),
            lost_call: rate(0.2),
            lost_reply: rate(0.2),
            late_call: rate(0.2),
            session: rate(0.05),
            unsaid: rate(0.1),
        }
    }
}

#[derive(Debug, Clone)]
pub enum FleetWorldEvent {
    /// A stranger asks for an agent.
    Request(usize, Kind),
    /// A doorman is to be stopped when it comes to this point next, for this long.
    Aim(usize, Point, Duration),
    Stop(usize, Duration),
    Wake(usize, u64),
    /// `kill -9`, and how long it is down; `true`: its state directory is lost.
    Kill(usize, Duration, bool),
    /// SIGTERM.
    Term(usize),
    Start(usize, u64),
    NoDatabase(usize, Duration),
    Database(usize),
    NoPlatform(usize, Duration),
    Platform(usize),
    Outage(Duration),
    Back,
    /// All connections to the database end.
    Terminate,
    Push,
    Drain(usize, Duration),
    Undrain(usize),
    /// A person wants an agent with this doorman, or wherever.
    Move(usize, Option<usize>),
    /// From here on no agent may move.
    Settled,
}

/// Everything that an evening begins with.
pub fn programme(rng: &mut fastrand::Rng) -> Vec<(Duration, FleetWorldEvent)> {
    let mut all = Vec::new();
    let moment = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(20_000..ROUGH.as_secs() * 1_000));
    for agent in 0..AGENTS {
        for _ in 0..rng.usize(6..14) {
            // Some come together.
            let (at, together) = (moment(rng), if rng.u8(..4) == 0 { rng.usize(2..6) } else { 1 });
            for number in 0..together {
                let kind = KINDS[rng.usize(..KINDS.len())];
                all.push((
                    at + Duration::from_millis(number as u64 * rng.u64(1..200)),
                    FleetWorldEvent::Request(agent, kind),
                ));
            }
        }
    }
    let long = |rng: &mut fastrand::Rng, most: u64| Duration::from_millis(rng.u64(500..most * 1_000));
    for _ in 0..rng.usize(6..16) {
        let (at, doorman) = (moment(rng), rng.usize(..DOORMEN));
        let happening = match rng.u8(..20) {
            0..=6 => FleetWorldEvent::Aim(doorman, POINTS[rng.usize(..POINTS.len())], long(rng, 60)),
            7..=8 => FleetWorldEvent::Stop(doorman, long(rng, 60)),
            9..=10 => FleetWorldEvent::Kill(doorman, long(rng, 40), rng.u8(..4) == 0),
            11 => FleetWorldEvent::Term(doorman),
            12..=13 => FleetWorldEvent::NoDatabase(doorman, long(rng, 70)),
            14 => FleetWorldEvent::NoPlatform(doorman, long(rng, 60)),
            15..=17 => FleetWorldEvent::Outage(long(rng, 70)),
            18 => FleetWorldEvent::Terminate,
            _ => FleetWorldEvent::Drain(doorman, long(rng, 60)),
        };
        all.push((at, happening));
    }
    for _ in 1..rng.u64(1..VERSIONS) {
        // Often at a moment at which somebody has just come.
        let at = if rng.bool() {
            all[rng.usize(..all.len())].0 + Duration::from_millis(rng.u64(..200))
        } else {
            moment(rng)
        };
        all.push((at.min(ROUGH), FleetWorldEvent::Push));
    }
    all
}

/// Whether people move agents in this evening, and one doorman takes only some.
pub fn people_move(seed: u64) -> bool {
    (seed - super::FROM) % 5 == 4
}

/// What people want with which doorman, and most agents of the first doorman. It is drawn apart from everything else: other evenings
/// stay what they are.
pub fn wishes(seed: u64) -> (Vec<(Duration, FleetWorldEvent)>, u32) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x301E);
    let most = [1, 2, 20_000][rng.usize(..3)];
    let mut all = Vec::new();
    for _ in 0..rng.usize(2..8) {
        let at = Duration::from_millis(rng.u64(20_000..CALM.as_secs() * 1_000));
        let to = if rng.u8(..4) > 0 { Some(rng.usize(..DOORMEN)) } else { None };
        all.push((at, FleetWorldEvent::Move(rng.usize(..AGENTS), to)));
    }
    (all, most)
}

impl Evening {
    pub fn world(&mut self, happening: FleetWorldEvent) {
        self.note(|| format!("= {happening:?}"));
        match happening {
            FleetWorldEvent::Request(agent, kind) => self.requests(agent, kind),
            FleetWorldEvent::Aim(doorman, point, long) => self.doormen[doorman].aim = Some((point, long)),
            FleetWorldEvent::Stop(doorman, long) => self.stops(doorman, long),
            FleetWorldEvent::Wake(doorman, number) if self.doormen[doorman].stops == number => self.wakes(doorman),
            FleetWorldEvent::Wake(..) => {}
            FleetWorldEvent::Kill(doorman, down, lost) => self.is_killed(doorman, down, lost),
            FleetWorldEvent::Term(doorman) => self.is_asked_to_end(doorman),
            FleetWorldEvent::Start(doorman, life) if self.doormen[doorman].life == life => self.starts(doorman),
            FleetWorldEvent::Start(..) => {}
            FleetWorldEvent::NoDatabase(doorman, long) => {
                self.saw("a doorman cut off from the database");
                self.doormen[doorman].no_database = true;
                self.happens_in(long, FleetWorldEvent::Database(doorman));
            }
            FleetWorldEvent::Database(doorman) => {
                self.doormen[doorman].no_database = false;
                self.doormen[doorman].well_since = self.at;
            }
            FleetWorldEvent::NoPlatform(doorman, long) => {
                self.saw("a doorman cut off from the platform");
                self.doormen[doorman].no_platform = true;
                self.happens_in(long, FleetWorldEvent::Platform(doorman));
            }
            FleetWorldEvent::Platform(doorman) => self.doormen[doorman].no_platform = false,
            FleetWorldEvent::Outage(long) => {
                self.saw("the database away");
                self.database.away = true;
                self.database.abort(|_| true);
                self.happens_in(long, FleetWorldEvent::Back);
            }
            FleetWorldEvent::Back => self.database.away = false,
            FleetWorldEvent::Terminate => {
                self.saw("all connections ended");
                self.database.abort(|_| true);
            }
            FleetWorldEvent::Push => {
                if self.database.head() < VERSIONS && !self.database.away {
                    self.saw("rules pushed");
                    self.database.pushed.push(self.at);
                }
            }
            FleetWorldEvent::Drain(doorman, long) => {
                self.saw("a doorman drained");
                self.person_drains(doorman, true);
                self.happens_in(long, FleetWorldEvent::Undrain(doorman));
            }
            FleetWorldEvent::Undrain(doorman) => self.person_drains(doorman, false),
            FleetWorldEvent::Move(agent, to) => self.person_moves(agent, to),
            FleetWorldEvent::Settled => self.settled = Some(self.database.rows.moves()),
        }
    }

    /// If the database is away, or nobody there takes agents, the person is refused.
    fn person_moves(&mut self, agent: usize, to: Option<usize>) {
        let to = to.map(|to| self.doormen[to].name.clone());
        if !self.database.away && self.database.rows.wish(&self.agents[agent], to.as_deref()) == WishOutcome::Done {
            self.saw(if to.is_some() { "a person moved an agent" } else { "a person wants an agent nowhere any more" });
        }
    }

    pub fn person_drains(&mut self, doorman: usize, drain: bool) {
        let name = self.doormen[doorman].name.clone();
        self.database.rows.drain(&name, drain, "person:ann");
    }
}
