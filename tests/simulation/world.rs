//! One run of one seed: the real core, a model of the platform and of the ledger, and a schedule of everything that can
//! go wrong, under virtual time. After every step the invariants are checked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use doorman::agent::{Action, Core, CoreConfig, Input};
use doorman::clock::{Mono, Now};
use doorman::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use doorman::inbox::Fetch;
use doorman::ledger::{Entry, LedgerError};
use doorman::model::{AgentId, Answer, Contact, ContactRequest, RequestId, Verdict};
use doorman::phoenix::{ConnectPlan, Refusal};
use doorman::platform::{CallError, CallFault, Me, Page, Reply, Responded};
use doorman::policy::Policy;
use jiff::{SignedDuration, Timestamp};

use super::platform::{Holder, Platform};
use super::record::Record;
use super::schedule::{Happening, Rates, programme};

pub(super) const AGENT: &str = "6b0f2c7e-2d86-4f0e-9a60-4a5c6f5c9d11";
/// How long the rough part lasts; then the world is calm.
const ROUGH: Duration = Duration::from_secs(900);
/// How long the calm part lasts: beyond the hour after which a forbidden answer is tried again.
const CALM: Duration = Duration::from_secs(2 * 3600 + 900);
/// Rows a page.
pub(super) const PAGE: usize = 4;

/// What comes to the core.
#[derive(Debug)]
pub(super) enum Owned {
    Opened(u64),
    NotOpened(u64, Refusal),
    Frame(u64, String),
    Closed(u64, Option<u16>),
    Me(Reply<Me>),
    Page(Fetch, Reply<Page<ContactRequest>>),
    Contacts(u64, Reply<Page<Contact>>),
    Responded { request: RequestId, attempt: u32, reply: Reply<Responded>, written: Mono },
    Recorded(Result<(), LedgerError>),
    Recalled(Box<doorman::policy::book::Memory>),
}

/// What comes to the platform.
#[derive(Debug)]
pub(super) enum Call {
    Connect(u64, ConnectPlan),
    Text(u64, String),
    Close(u64),
    Me,
    Page(Fetch),
    Contacts(u64, u32),
    Respond { request: RequestId, answer: Answer, attempt: u32, written: Mono },
}

#[derive(Debug)]
pub(super) enum What {
    Core(Owned),
    Server(Call),
    Commit(Vec<Entry>),
    World(Happening),
}

pub(super) struct Scheduled {
    at: Duration,
    seq: u64,
    life: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// What a run came to.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    pub steps: u64,
    pub knocks: usize,
    pub answers: usize,
    pub lives: u64,
}

pub struct World {
    pub(super) seed: u64,
    pub(super) rng: fastrand::Rng,
    pub(super) rates: Rates,
    pub(super) at: Duration,
    pub(super) origin: Timestamp,
    pub(super) skew: SignedDuration,
    pub(super) seq: u64,
    pub(super) queue: BinaryHeap<Reverse<Scheduled>>,
    pub(super) life: u64,
    pub(super) core: Core,
    pub(super) policies: Vec<Arc<Policy>>,
    pub(super) in_force: usize,
    /// Every policy that was in force, by hash.
    pub(super) by_hash: HashMap<String, usize>,
    pub(super) platform: Platform,
    pub(super) record: Record,
    pub(super) key_good: bool,
    pub(super) half_open: bool,
    pub(super) last_push: Duration,
    /// The recording under way when the daemon is killed may or may not have been committed.
    pub(super) stuck: (Duration, u32),
    pub(super) trace: Vec<String>,
    /// What a person last said of a request through doorman.
    pub(super) person: HashMap<String, Verdict>,
    /// Requests whose answer the platform called malformed: they stay pending, by design.
    pub(super) malformed: HashSet<String>,
    /// The clock was wrong at some time: rows of the record bear wrong times.
    pub(super) jumped: bool,
    pub summary: Summary,
}

pub(super) fn config(life: u64, seed: u64, connection: ConnectionMode) -> CoreConfig {
    CoreConfig {
        agent: AgentId::parse(AGENT).unwrap(),
        connection,
        credentials: CredentialsMode::Auto,
        answers: Answers { in_flight: 3, per_second: 0 },
        timing: Timing::default(),
        shadow: false,
        seed: seed ^ life.wrapping_mul(0x9E37_79B9),
        capacity: 10_000,
    }
}

impl World {
    pub fn new(seed: u64, policies: &[Arc<Policy>]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rates = Rates::of(&mut rng);
        let origin: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        let now = Now { mono: Mono::ZERO, wall: origin };
        let connection = match seed % 8 {
            0 => ConnectionMode::Poll,
            1 => ConnectionMode::Take,
            _ => ConnectionMode::Yield,
        };
        let core = Core::new(config(0, seed, connection), Some(policies[0].clone()), Default::default(), now);
        let by_hash =
            policies.iter().enumerate().map(|(index, policy)| (policy.hash.as_str().to_owned(), index)).collect();
        let mut world = Self {
            seed,
            rates,
            at: Duration::ZERO,
            origin,
            skew: SignedDuration::ZERO,
            seq: 0,
            queue: BinaryHeap::new(),
            life: 0,
            core,
            policies: policies.to_vec(),
            in_force: 0,
            by_hash,
            platform: Platform::default(),
            record: Record::default(),
            key_good: true,
            half_open: false,
            person: HashMap::new(),
            malformed: HashSet::new(),
            jumped: false,
            last_push: Duration::ZERO,
            stuck: (Duration::ZERO, 0),
            trace: Vec::new(),
            summary: Summary::default(),
            rng: fastrand::Rng::with_seed(seed ^ 0xD00F),
        };
        for (at, happening) in programme(&mut rng, ROUGH) {
            world.schedule(at, What::World(happening));
        }
        world
    }

    pub(super) fn connection(&self) -> ConnectionMode {
        match self.seed % 8 {
            0 => ConnectionMode::Poll,
            1 => ConnectionMode::Take,
            _ => ConnectionMode::Yield,
        }
    }

    pub(super) fn now(&self) -> Now {
        let wall = self.origin.checked_add(SignedDuration::try_from(self.at).unwrap()).unwrap();
        Now { mono: Mono::from_origin(self.at), wall: wall.checked_add(self.skew).unwrap() }
    }

    pub(super) fn true_wall(&self) -> Timestamp {
        self.origin.checked_add(SignedDuration::try_from(self.at).unwrap()).unwrap()
    }

    pub(super) fn schedule(&mut self, at: Duration, what: What) {
        self.seq += 1;
        let life = self.life;
        self.queue.push(Reverse(Scheduled { at: at.max(self.at), seq: self.seq, life, what }));
    }

    fn after(&mut self, what: What) {
        let wait = Duration::from_micros(self.rng.u64(100..80_000));
        self.schedule(self.at + wait, what);
    }

    pub(super) fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.f64() < rate
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        let from = self.trace.len().saturating_sub(40_000);
        for line in &self.trace[from..] {
            eprintln!("{line}");
        }
        panic!("seed {}: at {:?}: {what}", self.seed, self.at);
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if std::env::var_os("SIM_TRACE").is_some() {
            let line = format!("{:>12.6} {}", self.at.as_secs_f64(), line());
            self.trace.push(line);
        }
    }

    /// Plays the seed to its end.
    pub fn run(mut self) -> Summary {
        self.input(Input::Start);
        let end = ROUGH + CALM;
        let mut calm = false;
        loop {
            if !calm && self.at >= ROUGH + Duration::from_secs(310) {
                calm = true;
                self.calm_down();
            }
            let deadline = self.core.deadline(self.now());
            let Some(deadline) = deadline else { self.fail("a live deadline must always exist") };
            let deadline = deadline.since_origin().max(self.at);
            let next = self.queue.peek().map(|Reverse(next)| next.at);
            match next {
                Some(next) if next <= deadline => {
                    let Some(Reverse(event)) = self.queue.pop() else { break };
                    if event.at > end {
                        break;
                    }
                    self.advance(event.at);
                    self.happen(event);
                }
                _ if deadline > end => break,
                _ => {
                    self.advance(deadline);
                    self.input(Input::Tick);
                }
            }
            self.check_limits();
        }
        self.at = end;
        self.check_end();
        self.summary.knocks = self.platform.knocks.len();
        self.summary.lives = self.life + 1;
        self.summary
    }

    fn advance(&mut self, at: Duration) {
        self.summary.steps += 1;
        if at == self.stuck.0 {
            self.stuck.1 += 1;
            if self.stuck.1 > 20_000 {
                self.fail("time stands still: something asks to be woken at once, for ever");
            }
        } else {
            self.stuck = (at, 0);
        }
        self.at = at;
    }

    /// The rough part is over: faults end, rivals go, the clock is right, the key is good, nobody is paused.
    fn calm_down(&mut self) {
        self.rates = Rates::calm();
        self.skew = SignedDuration::ZERO;
        self.key_good = true;
        if self.half_open {
            self.half_open = false;
        }
        if self.platform.holder == Some(Holder::Rival) {
            self.platform.holder = None;
        }
        self.schedule(self.at, What::World(Happening::Resume));
    }

    fn happen(&mut self, event: Scheduled) {
        let stale = event.life != self.life;
        match event.what {
            What::World(happening) => self.world(happening),
            // A call that was on its way when the daemon died still arrives; what comes back does not.
            What::Server(call) => self.server(call, event.life),
            What::Core(_) if stale => {}
            What::Commit(batch) => {
                if !stale || self.rng.bool() {
                    self.record.commit(&batch);
                }
                if !stale {
                    self.input_owned(Owned::Recorded(Ok(())));
                }
            }
            What::Core(owned) => self.input_owned(owned),
        }
    }

    fn input_owned(&mut self, owned: Owned) {
        self.note(|| format!("-> {owned:?}"));
        match owned {
            Owned::Opened(conn) => self.input(Input::Opened { conn }),
            Owned::NotOpened(conn, refusal) => self.input(Input::NotOpened { conn, refusal }),
            Owned::Frame(conn, text) => {
                let received = self.now().mono;
                self.input(Input::Frame { conn, text: &text, received });
            }
            Owned::Closed(conn, code) => self.input(Input::Closed { conn, code }),
            Owned::Me(reply) => self.input(Input::Me(reply)),
            Owned::Page(fetch, reply) => self.input(Input::Page(fetch, reply)),
            Owned::Contacts(call, reply) => self.input(Input::Contacts { call, reply }),
            Owned::Responded { request, attempt, reply, written } => {
                self.heard(&request, &reply.result);
                self.input(Input::Responded { request, attempt, reply, written });
            }
            Owned::Recalled(memory) => self.input(Input::Recalled { memory }),
            Owned::Recorded(result) => self.input(Input::Recorded(result)),
        }
    }

    /// What the daemon now knows for certain: an attempt that was refused outright binds it to nothing.
    fn heard(&mut self, request: &RequestId, result: &Result<Responded, CallError>) {
        let Err(error) = result else { return };
        if matches!(error.fault, CallFault::Malformed(_)) {
            self.malformed.insert(request.as_str().to_owned());
        }
        let refused = matches!(
            error.fault,
            CallFault::Throttled
                | CallFault::Forbidden
                | CallFault::Malformed(_)
                | CallFault::KeyRefused
                | CallFault::Unreachable
        );
        if let Some(knock) = self.platform.knocks.get_mut(request.as_str())
            && refused
        {
            knock.uncertain = knock.uncertain.saturating_sub(1);
            if knock.uncertain == 0 && knock.taken.is_none() {
                knock.bound = None;
            }
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.core.handle(input, now);
        while let Some(action) = self.core.poll() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        self.note(|| format!("   <- {action:?}"));
        match action {
            Action::Connect { conn, plan } => self.after(What::Server(Call::Connect(conn, plan))),
            Action::Send { conn, text } => self.in_order(What::Server(Call::Text(conn, text))),
            Action::Close { conn } => self.in_order(What::Server(Call::Close(conn))),
            Action::Me => self.after(What::Server(Call::Me)),
            Action::Page(fetch) => self.after(What::Server(Call::Page(fetch))),
            Action::Contacts { call, page } => self.after(What::Server(Call::Contacts(call, page))),
            Action::Respond { request, answer, attempt } => {
                self.check_answer(&request, answer, attempt);
                let written = self.now().mono;
                self.after(What::Server(Call::Respond { request, answer, attempt, written }));
            }
            Action::Record(batch) => {
                let wait = Duration::from_micros(self.rng.u64(20..5_000));
                self.schedule(self.at + wait, What::Commit(batch));
            }
            Action::Recall => {
                let memory = self.record.memory().book;
                self.after(What::Core(Owned::Recalled(Box::new(memory))));
            }
            Action::Reply { .. } | Action::Tell(_) => {}
            Action::Done => self.fail("nobody told it to stop"),
        }
    }

    /// Frames of one socket keep their order.
    fn in_order(&mut self, what: What) {
        let at = self.last_push.max(self.at) + Duration::from_micros(self.rng.u64(10..2_000));
        self.last_push = at;
        self.schedule(at, what);
    }
}
