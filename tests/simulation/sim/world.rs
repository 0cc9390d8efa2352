//! One run of one seed: the real core, a model of the platform and of the ledger, and a schedule of everything that can
//! go wrong, under virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use doorman::agent::core::reach_of;
use doorman::agent::{BATCH_MAX, Core, CoreConfig, Input};
use doorman::clock::{Mono, Now};
use doorman::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use doorman::model::{AgentId, AgentState, ContactId, RequestId, Verdict};
use doorman::policy::Policy;
use jiff::{SignedDuration, Timestamp};

use super::deciders::Decider;
use super::events::{Scheduled, SimEvent};
use super::history::ExpectedHistory;
use super::platform::{Holder, PlatformModel};
use super::record::LedgerModel;
use super::schedule::{FaultRates, WorldEvent, programme};
use super::summary::Summary;
use super::truth::GroundTruth;

pub const AGENT: &str = "6b0f2c7e-2d86-4f0e-9a60-4a5c6f5c9d11";
/// Most answers sent at the same time.
pub const IN_FLIGHT: u32 = 3;
/// The length of the rough part's schedule; its effects may last until [`CALM`].
const ROUGH: Duration = Duration::from_secs(900);
/// From here on there are no more faults.
const CALM: Duration = Duration::from_secs(1210);
/// The calm part lasts beyond the hour after which a forbidden answer is tried again.
const END: Duration = Duration::from_secs(2 * 3600 + 1800);
/// Most lines of the trace that are shown after a failure.
const TRACE_SHOWN: usize = 40_000;
/// More inputs than this at one moment mean that the run is stuck.
const STUCK_MAX: u32 = 20_000;
/// Rows a page.
pub const PAGE: usize = 4;

/// What is known of the daemon's life from outside it.
#[derive(Debug, Default)]
pub struct Life {
    /// The number of this life; calls of an earlier life have no effect.
    pub number: u64,
    /// Whether no daemon runs.
    pub down: bool,
    pub stopping: bool,
    /// The socket that it last asked for, unless it gave that up.
    pub socket: Option<u64>,
    /// When its contacts were joined.
    pub joined_at: Option<Duration>,
    /// When it last asked for a page of the list.
    pub listed_at: Option<Duration>,
    /// The `join_ref` of the join that it last asked for: what is pushed under another one is not for it.
    pub join: Option<String>,
    /// The socket and the `join_ref` of a join whose success it learned in time, and whose end it has not learned.
    pub told_join: Option<(u64, String)>,
    pub connects: VecDeque<Duration>,
    /// Whether a complete reading of the contacts succeeded.
    pub contacts_read: bool,
    /// The reading of the contacts that is under way, unless a join or another key made it begin again.
    pub contacts_call: Option<u64>,
    /// Answers in flight.
    pub flying: BTreeSet<RequestId>,
    /// Contacts that it was told it removed, and that did not come again.
    pub expired: BTreeSet<ContactId>,
    /// The policy in force, according to what it recorded.
    pub policy: Option<String>,
    /// Whether the ledger refused a batch, so that it does not contain every decision.
    pub gap: bool,
    /// The key that it has read is another agent's.
    pub key_foreign: bool,
    /// The number of questions about who owns the key.
    pub questions: u64,
    /// The last reading of the record that was asked for.
    pub reading: u64,
    pub state: Option<AgentState>,
}

pub struct SimWorld {
    pub seed: u64,
    pub rng: fastrand::Rng,
    /// The random numbers for changes that the daemon does not see, on evenings that have them.
    pub behind: Option<fastrand::Rng>,
    /// The decider, on evenings that have one.
    pub decider: Option<Decider>,
    /// What is true, whatever the daemon knows.
    pub truth: GroundTruth,
    pub rates: FaultRates,
    pub at: Duration,
    origin: Timestamp,
    pub skew: SignedDuration,
    seq: u64,
    pub queue: BinaryHeap<Reverse<Scheduled>>,
    pub life: Life,
    pub core: Core,
    pub policies: Vec<Arc<Policy>>,
    pub in_force: usize,
    pub platform: PlatformModel,
    pub record: LedgerModel,
    pub key_good: bool,
    /// The key in the file is another agent's.
    pub key_foreign: bool,
    pub half_open: bool,
    pub flapping: bool,
    /// Frames of one socket come in order; when the last one does, and how many were sent and delivered.
    pub last_push: Duration,
    pub frames: (u64, u64),
    /// When the last delivered reply was sent.
    pub replied: u64,
    /// Since when nothing goes wrong.
    pub calm_since: Option<Duration>,
    /// The agent's state when the calm part began.
    pub calm_from: AgentState,
    stuck: (Duration, u32),
    trace: Option<Vec<String>>,
    /// All answers of people through doorman, by request.
    pub person: BTreeMap<String, Vec<Verdict>>,
    /// Requests whose answer was open when some daemon began: that daemon must assume that the answer arrived.
    pub inherited: BTreeSet<RequestId>,
    /// Ids that belonged to other requests before.
    pub renewed: BTreeSet<RequestId>,
    /// Acme's approvals as this daemon must count them, whatever the ledger contains: when each was charged.
    pub charged: BTreeMap<RequestId, Timestamp>,
    /// What it knows of owners and of approvals.
    pub past: ExpectedHistory,
    /// Whether the ledger refused a batch in any life, so that it is incomplete.
    pub gaps: bool,
    /// Requests whose answer the platform called malformed: they stay pending, by design.
    pub malformed: BTreeSet<String>,
    /// The owner of whom a person is just saying that a contact was removed.
    pub settling: Option<String>,
    /// Whether the clock was wrong at some time, so that the record contains wrong times.
    pub jumped: bool,
    pub summary: Summary,
}

impl SimWorld {
    pub fn new(seed: u64, policies: &[Arc<Policy>], traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rates = FaultRates::of(&mut rng);
        let origin: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        let now = Now { mono: Mono::ZERO, wall: origin };
        let in_force = usize::try_from(seed / 5 % 3).unwrap();
        let record = LedgerModel::default();
        let first = record.memory(reach_of(Some(&policies[in_force])), origin);
        let core = Core::new(config(0, seed), Some(policies[in_force].clone()), first, now);
        let mut world = Self {
            seed,
            rates,
            at: Duration::ZERO,
            origin,
            skew: SignedDuration::ZERO,
            seq: 0,
            queue: BinaryHeap::new(),
            life: Life::default(),
            core,
            policies: policies.to_vec(),
            in_force,
            platform: PlatformModel { old: seed % 5 == 4, oldest_first: seed % 3 == 2, ..PlatformModel::default() },
            record,
            key_good: true,
            key_foreign: false,
            half_open: false,
            flapping: false,
            last_push: Duration::ZERO,
            frames: (0, 0),
            replied: 0,
            calm_since: None,
            calm_from: AgentState::Starting,
            stuck: (Duration::ZERO, 0),
            trace: traced.then(Vec::new),
            person: BTreeMap::new(),
            inherited: BTreeSet::new(),
            renewed: BTreeSet::new(),
            charged: BTreeMap::new(),
            past: ExpectedHistory::default(),
            gaps: false,
            malformed: BTreeSet::new(),
            settling: None,
            jumped: false,
            summary: Summary::default(),
            behind: (seed % 2 == 1).then(|| fastrand::Rng::with_seed(seed ^ 0xBAC4)),
            decider: super::deciders::decider(seed),
            truth: GroundTruth::default(),
            rng: fastrand::Rng::with_seed(seed ^ 0xD00F),
        };
        let behind = world.behind.as_mut().map(|rng| super::unseen_changes::programme(rng, ROUGH));
        for (at, happening) in behind.into_iter().flatten() {
            world.schedule(at, SimEvent::World(happening));
        }
        // Not on the evenings that found something before there were guests.
        if seed >= 500 && seed % 7 == 6 {
            for (at, happening) in super::guests::programme(&mut fastrand::Rng::with_seed(seed ^ 0x60E5), ROUGH) {
                world.schedule(at, SimEvent::World(happening));
            }
        }
        if super::ended::plays(seed) {
            for (at, happening) in super::ended::programme(&mut fastrand::Rng::with_seed(seed ^ 0xE4DE), ROUGH) {
                world.schedule(at, SimEvent::World(happening));
            }
        }
        for (at, happening) in programme(&mut rng, ROUGH, CALM, seed % 2 == 1) {
            world.schedule(at, SimEvent::World(happening));
        }
        world.saw(match connection(seed) {
            ConnectionMode::Poll => "agent polls",
            ConnectionMode::Take => "agent takes",
            ConnectionMode::Yield => "agent yields",
        });
        if world.platform.old {
            world.saw("old platform");
        }
        world
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono::from_origin(self.at), wall: self.true_wall().checked_add(self.skew).unwrap() }
    }

    pub fn true_wall(&self) -> Timestamp {
        self.origin.checked_add(SignedDuration::try_from(self.at).unwrap()).unwrap()
    }

    /// The true time of a timestamp, counted from the origin.
    pub fn since_origin(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.origin)).unwrap_or_default()
    }

    pub fn schedule(&mut self, at: Duration, what: SimEvent) {
        self.seq += 1;
        let life = self.life.number;
        self.queue.push(Reverse(Scheduled { at: at.max(self.at), seq: self.seq, life, what }));
    }

    pub fn happens_in(&mut self, wait: Duration, happening: WorldEvent) {
        self.schedule(self.at + wait, SimEvent::World(happening));
    }

    pub fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.f64() < rate
    }

    /// Records that a fault really happened.
    pub fn saw(&mut self, fault: &'static str) {
        debug_assert!(
            super::summary::FAULTS.contains(&fault) || super::summary::ASKED.contains(&fault),
            "`{fault}` is not on the list"
        );
        *self.summary.faults.entry(fault).or_default() += 1;
    }

    /// Ends the seed with a failure: an invariant does not hold.
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

    /// Plays the seed to its end. The trace is empty unless it was asked for.
    pub fn run(mut self) -> (Summary, Vec<String>) {
        self.input(Input::Start);
        loop {
            if self.calm_since.is_none() && self.at >= CALM {
                self.calm_down();
            }
            let deadline = self.deadline();
            let next = self.queue.peek().map(|Reverse(next)| next.at);
            match next {
                Some(next) if deadline.is_none_or(|deadline| next <= deadline) => {
                    let Some(Reverse(event)) = self.queue.pop() else { break };
                    if event.at > END {
                        break;
                    }
                    self.advance(event.at);
                    self.happen(event);
                }
                _ => {
                    let Some(deadline) = deadline.filter(|deadline| *deadline <= END) else { break };
                    self.advance(deadline);
                    self.input(Input::Tick);
                }
            }
        }
        self.at = END;
        self.check_end();
        self.summary.sent_requests = self.platform.sent_requests.len() as u64;
        self.summary.lives = self.life.number + 1;
        (self.summary, self.trace.unwrap_or_default())
    }

    /// When the core wants to be woken. There must always be such a time, since otherwise it could wait for ever.
    fn deadline(&self) -> Option<Duration> {
        if self.life.down {
            return None;
        }
        match self.core.deadline(self.now()) {
            Some(deadline) => Some(deadline.since_origin().max(self.at)),
            None => self.fail("a live deadline must always exist"),
        }
    }

    fn advance(&mut self, at: Duration) {
        self.summary.steps += 1;
        if at == self.stuck.0 {
            self.stuck.1 += 1;
            if self.stuck.1 > STUCK_MAX {
                self.fail("time stands still: something asks to be woken at once, for ever");
            }
        } else {
            self.stuck = (at, 0);
        }
        self.at = at;
    }

    /// Faults end, rivals leave, the clock is correct, the key is good, and nothing is paused. A dead socket stays dead
    /// until the daemon finds out.
    fn calm_down(&mut self) {
        self.calm_since = Some(self.at);
        self.calm_from = self.core.state();
        self.rates = FaultRates::default();
        self.skew = SignedDuration::ZERO;
        self.key_good = true;
        self.flapping = false;
        self.platform.rival = None;
        if self.platform.holder == Some(Holder::Rival) {
            self.platform.holder = None;
        }
        self.happens_in(Duration::ZERO, WorldEvent::KeyOurs { told: true });
        self.happens_in(Duration::ZERO, WorldEvent::Resume);
        self.happens_in(Duration::ZERO, WorldEvent::CorrectRules);
    }
}

/// The connection mode of this seed's agent.
pub fn connection(seed: u64) -> ConnectionMode {
    match seed % 8 {
        0 => ConnectionMode::Poll,
        1 => ConnectionMode::Take,
        _ => ConnectionMode::Yield,
    }
}

pub fn config(life: u64, seed: u64) -> CoreConfig {
    CoreConfig {
        agent: AgentId::parse(AGENT).unwrap(),
        name: Some("porter".to_owned()),
        connection: connection(seed),
        credentials: CredentialsMode::Auto,
        answers: Answers { in_flight: IN_FLIGHT, per_second: 0 },
        timing: Timing::default(),
        shadow: false,
        seed: seed ^ life.wrapping_mul(0x9E37_79B9),
        capacity: 10_000,
        // Small batches, so that entries that belong together are often recorded separately.
        batch: [1, 2, 5, BATCH_MAX][usize::try_from(seed / 8 % 4).unwrap()],
        redact: doorman::secret::Redact::default(),
    }
}
