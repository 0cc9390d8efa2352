//! From settings to a running daemon, in the order in which things can fail: policies, ledger, TLS, control socket, agents.
//!
//! `run` and the demo share it. The caller handles signals and systemd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::shell::{AgentContext, Observer};
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::{AgentSettings, ControlSettings, KeySource, SecretKind};
use crate::decider::Deciders;
use crate::fleet::{Fleet, FleetTiming, InstanceLock};
use crate::ledger::members::NewMember;
use crate::ledger::{self, Ledger, LedgerError, LedgerReader};
use crate::notify;
use crate::ops::board;
use crate::ops::control::inherited::Inherited;
use crate::ops::control::server::{self, SocketPurpose};
use crate::ops::control::socket::BoundSocket;
use crate::ops::log::events;
use crate::ops::metrics::Metrics;
use crate::ops::metrics::listener::{self, Port, Readings};
use crate::ops::service_manager::Notifier;
use crate::ops::serving::addresses::ServiceAddresses;
use crate::ops::watchdog::Watchdog;
use crate::page::{self, Logins, Replies};
use crate::platform::net::Net;
use crate::platform::rest::{CallCheck, CallCount, CallHearing, Rest};
use crate::platform::socket::Dialer;
use crate::platform::tls;
use crate::policy::Policy;
use crate::secret;
use crate::secret::Redact;
use crate::supervisor::{self, ConfigNow, Policies, Reread, Start, SupervisorOrder, SupervisorParts};
use crate::transcript::TranscriptRecorder;

/// Questions of the control socket that wait for the supervisor.
const CALLS_WAITING: usize = 64;

/// Options with which a daemon is started, besides its settings.
#[derive(Debug)]
pub struct DaemonOptions {
    /// Answer nothing, whatever the rules say.
    pub shadow: bool,
    /// Take lists that lost many entries since they were last in force.
    pub accept_shrunk: bool,
    /// Both clocks.
    pub clock: Clock,
    /// The seed of all jitter.
    pub seed: u64,
    /// systemd, or a notifier without effect.
    pub notifier: Notifier,
    /// systemd's watchdog limit, if it asked for one.
    pub watchdog_limit: Option<std::time::Duration>,
    /// Receives every notice.
    pub observer: Option<Observer>,
    /// Learns every key, so that the log never shows one.
    pub redact: Redact,
    /// Where a transcript is written, if there is one.
    pub recorder: Option<TranscriptRecorder>,
    /// Reads the configuration again, for a reload.
    pub reread: Reread,
    /// Sockets that the service manager made.
    pub inherited: Inherited,
    /// The sentences of the page; without them there is no page.
    pub words: Option<page::PageWords>,
}

impl DaemonOptions {
    /// For a daemon whose settings never change, and which no service manager watches. `from` says for people where the
    /// settings came from.
    pub fn unattended(clock: Clock, seed: u64, from: &std::path::Path) -> Self {
        Self {
            shadow: false,
            accept_shrunk: false,
            clock,
            seed,
            notifier: Notifier::default(),
            watchdog_limit: None,
            observer: None,
            redact: Redact::default(),
            recorder: None,
            reread: Reread { from: from.display().to_string(), read: Box::new(|| Ok(ConfigNow::default())) },
            inherited: Inherited::default(),
            words: None,
        }
    }
}

/// Why a daemon did not start; the exit code says what kind of thing to correct.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Every agent would be without rules: 78.
    #[error("{0}no rules file can be used, so every agent would be without rules: correct it, and try `doorman check`")]
    NoPolicy(String),
    /// 74.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// 78.
    #[error("{0}")]
    Setup(String),
}

impl StartError {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            StartError::NoPolicy(_) | StartError::Setup(_) => 78,
            StartError::Ledger(_) => 74,
        }
    }
}

/// The parts of the start that read files, in the order in which they can fail.
struct Prepared {
    rostered: Vec<AgentSettings>,
    policies: Policies,
    ledger: Ledger,
    net: Net,
    bound: BoundSocket,
    read: Option<BoundSocket>,
    logins: Logins,
    replies: Replies,
    fleet: Fleet,
}

impl Prepared {
    /// Blocks on the file system.
    fn from_files(
        settings: &Settings,
        start: Start,
        clock: Clock,
        redact: &Redact,
        metrics: &Metrics,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        let reader = LedgerReader::open(&settings.ledger).ok();
        let keys_dir = settings.fleet.keys_dir.as_deref();
        let roster = reader.as_ref().filter(|_| keys_dir.is_some()).and_then(|reader| reader.roster().ok());
        let rostered = supervisor::rostered_at_start(roster, keys_dir);
        let (agents, _) = supervisor::both_agents(&settings.agents, &rostered);
        let last = |rules: &Path, policy: &Policy| {
            supervisor::last_in_force(reader.as_ref()?, &settings.agents, rules, policy)
        };
        let paths = agents.iter().map(|agent| agent.rules.clone());
        let (policies, said) = Policies::load(paths, start, &last);
        drop(reader);
        if policies.none_usable() {
            return Err(StartError::NoPolicy(said));
        }
        let metrics = metrics.clone();
        let committed = ledger::Committed::new(move |took| metrics.committed(took));
        let time = clock.clone();
        let (ledger, fleet) = shared(settings, &agents, clock, committed)?;
        let logins = Logins::open(&settings.page, &settings.ledger.path, time.clone());
        let replies = Replies::open(settings, &settings.ledger.path, time);
        keys(settings, &agents, redact);
        let setup = |error: &dyn std::fmt::Display| StartError::Setup(error.to_string());
        let net = Net::new(&settings.platform).map_err(|error| setup(&error))?;
        let (bound, read) = sockets(&settings.control, inherited)?;
        Ok(Self { rostered, policies, ledger, net, bound, read, logins, replies, fleet })
    }
}

/// The ledger, and this doorman among those that share it.
fn shared(
    settings: &Settings,
    agents: &[AgentSettings],
    clock: Clock,
    committed: ledger::Committed,
) -> Result<(Ledger, Fleet), StartError> {
    let place = settings.ledger.database.is_some().then(|| InstanceLock::take(&settings.ledger.path)).transpose();
    let mut place = place.map_err(StartError::Ledger)?;
    let names = Fleet::names(agents.iter().map(|agent| &agent.id), !settings.notify.is_empty());
    let ways = &settings.fleet;
    let mut member =
        NewMember { ttl: ways.ttl, weight: ways.weight, agents_max: ways.agents_max, ..NewMember::default() };
    member.names = names.clone();
    member.name = ways.name.clone().unwrap_or(member.name);
    if let Some(place) = &mut place {
        member.before = place.before().map(str::to_owned);
        member.instance = place.instance().to_owned();
        member.id = place.new_life();
    }
    let name = member.name.clone();
    let options = ledger::LedgerOptions { clock: clock.clone(), committed, member, ..ledger::LedgerOptions::default() };
    let counts = options.leases.clone();
    let ledger = Ledger::open(&settings.ledger, options)?;
    let ways = FleetTiming { ttl: ways.ttl, let_go_after: ways.let_go_after, give_when_away: ways.give_when_away };
    let fleet = Fleet::start(&ledger, place, ways, (&name, &names), &clock, &counts);
    let fleet = fleet.map_err(|error| StartError::Setup(format!("no thread for the fleet: {error}")))?;
    Ok((ledger, fleet))
}

/// The control socket and the one for reading: what the service manager handed over, else made here.
fn sockets(settings: &ControlSettings, inherited: Inherited) -> Result<(BoundSocket, Option<BoundSocket>), StartError> {
    let setup = |error: &dyn std::fmt::Display| StartError::Setup(error.to_string());
    let take = |listener| BoundSocket::inherited(listener).map_err(|error| setup(&error));
    let make = |path: &Path, group: Option<&str>| BoundSocket::bind_for(path, group).map_err(|error| setup(&error));
    let bound = match inherited.control {
        Some(listener) => take(listener)?,
        None => make(&settings.path, settings.group.as_deref())?,
    };
    let read = match (inherited.read, &settings.read_path) {
        (Some(listener), _) => Some(take(listener)?),
        (None, Some(path)) if same_place(path, &settings.path) => {
            let why = format!(
                "`control.read_path` leads to `{}`, the control socket itself: give it another name",
                settings.path.display()
            );
            return Err(StartError::Setup(why));
        }
        (None, Some(path)) => Some(make(path, settings.read_group.as_deref())?),
        (None, None) => None,
    };
    Ok((bound, read))
}

/// Where metrics are served: at what the service manager handed over, else where the settings say.
fn ports(given: Vec<Port>, listen: Option<SocketAddr>) -> Vec<Port> {
    if given.is_empty() { listen.map(Port::At).into_iter().collect() } else { given }
}

/// Whether two paths mean the same file, however they are written; the directory of the second one must exist.
fn same_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((std::fs::canonicalize(directory).ok()?, path.file_name()?.to_owned()))
    };
    place(one).is_some_and(|one| Some(one) == place(other))
}

/// Hides every key from the log. One that cannot be read now is hidden when it is read.
fn keys(settings: &Settings, agents: &[AgentSettings], redact: &Redact) {
    supervisor::hide_keys(agents, redact);
    let mut found = Vec::new();
    for target in &settings.notify {
        // One of two lines may not be a valid key; a warning about how the file is kept is reported all the same.
        for (source, kind) in target.secrets() {
            let secret::KeyReading { key, warnings } = secret::inspect(source, kind);
            found.extend(key.ok());
            for why in warnings {
                let (source, notify) = (secret::describe(source), &target.name);
                warn!(event = events::KEY_EXPOSED, source, why, notify, "a secret of a target is not kept safely");
            }
        }
    }
    if let Some(database) = settings.ledger.database.as_ref().filter(|database| database.password != KeySource::Missing)
    {
        let secret::KeyReading { key, warnings } = secret::inspect(&database.password, SecretKind::Password);
        found.extend(key.ok());
        for why in warnings {
            let source = secret::describe(&database.password);
            warn!(event = events::KEY_EXPOSED, source, why, "the database's password is not kept safely");
        }
    }
    for decider in &settings.deciders {
        let Some(source) = &decider.secret else { continue };
        let secret::KeyReading { key, warnings } = secret::inspect(source, SecretKind::Secret);
        found.extend(key.ok());
        for why in warnings {
            let (source, decider) = (secret::describe(source), &decider.name);
            warn!(event = events::KEY_EXPOSED, source, why, decider, "a decider's secret is not kept safely");
        }
    }
    redact.add_all(found.iter().map(secret::Key::expose));
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Sends it orders, such as reload or stop.
    pub orders: mpsc::Sender<SupervisorOrder>,
    /// The path of its control socket.
    pub control: PathBuf,
    ledger: Ledger,
    fleet: Fleet,
    task: JoinHandle<()>,
    beside: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts everything. Once this returns, requests are being decided; the platform may still be away.
    pub async fn start(settings: Settings, options: DaemonOptions) -> Result<Self, StartError> {
        let DaemonOptions {
            shadow,
            accept_shrunk,
            clock,
            seed,
            notifier,
            watchdog_limit,
            observer,
            redact,
            recorder,
            reread,
            mut inherited,
            words,
        } = options;
        // Files, locks and sockets of other processes may block, so this does not run on a thread of the runtime.
        let (of_files, time, keys) = (settings.clone(), clock.clone(), redact.clone());
        let (board, reader) = board::channel();
        let pictures = reader.clone();
        let metrics = Metrics::new(reader, clock.clone(), settings.metrics.per_agent);
        let given = std::mem::take(&mut inherited.metrics).into_iter().map(Port::Given).collect();
        let given_page = std::mem::take(&mut inherited.page);
        let start = Start { shadow, accept_shrunk, now: clock.now().wall };
        let of_ledger = metrics.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            Prepared::from_files(&of_files, start, time, &keys, &of_ledger, inherited)
        })
        .await;
        let Prepared { rostered, mut policies, ledger, net, bound, read, logins, replies, fleet } =
            prepared.map_err(|error| StartError::Setup(format!("the start failed inside doorman: {error}")))??;
        policies.look_at_heads(&ledger, clock.now().wall).await?;
        let setup = |error: &dyn std::fmt::Display| StartError::Setup(error.to_string());
        let rest = Rest::new(&settings.platform, &net, settings.timing.join_timeout)
            .map_err(|error| setup(&error))?
            .watched(redact.clone(), recorder)
            .counted({
                let metrics = metrics.clone();
                CallCount::new(move |call, status| metrics.rest_called(call, status))
            })
            .heard({
                let platform = fleet.platform();
                CallHearing::new(move |answered| platform.heard(answered))
            })
            .allowed({
                let trust = fleet.trust();
                CallCheck::new(move || trust.is_trusted())
            });
        let authorities = settings.platform.needs_tls().then(tls::authorities).flatten();
        let rest_proxy = rest.proxy().map(str::to_owned);
        let dialer = Arc::new(Dialer::new(&settings.platform, &net).map_err(|error| setup(&error))?);
        let socket_proxy = dialer.proxy();
        let around = AgentContext {
            clock: clock.clone(),
            net,
            rest,
            dialer,
            deciders: Deciders::new(&settings.deciders, clock.clone(), redact.clone()),
            ledger: ledger.clone(),
            trust: fleet.trust(),
            timing: settings.timing,
            observer,
            metrics: metrics.clone(),
        };
        let metrics_of_notify = metrics.clone();
        let stop = CancellationToken::new();
        let watchdog = Watchdog::new();
        let readings = Readings::new(metrics, watchdog.clone());
        let (calls, incoming) = mpsc::channel(CALLS_WAITING);
        let control = bound.path().to_owned();
        let mut beside = Vec::new();
        for (bound, purpose) in [(Some(bound), SocketPurpose::Everything), (read, SocketPurpose::Reading)] {
            let Some(bound) = bound else { continue };
            let (calls, of_socket, keys, served) = (calls.clone(), readings.clone(), redact.clone(), stop.clone());
            beside.push(tokio::spawn(async move {
                if let Err(error) = server::serve(bound, purpose, calls, of_socket, keys, served).await {
                    warn!(event = events::CONTROL_REFUSED, why = %error, "the control socket failed");
                }
            }));
        }
        let logins = page::is_wanted(&settings.page, &given_page).then_some(logins);
        if let (Some(logins), Some(words)) = (&logins, words) {
            let parts = page::PageParts {
                settings: settings.page.clone(),
                control: settings.control.clone(),
                given: given_page,
                clock: around.clock.clone(),
                board: pictures.clone(),
                calls: calls.clone(),
                ledger: (&settings.ledger).into(),
                config: Some(PathBuf::from(&reread.from)).filter(|path| path.is_file()),
                redact: redact.clone(),
                logins: logins.clone(),
                replies: replies.clone(),
                words,
            };
            beside.push(tokio::spawn(page::serve(parts, stop.clone())));
        }
        drop(calls);
        let of_metrics = ServiceAddresses::default();
        for port in ports(given, settings.metrics.listen) {
            let served = listener::serve(port, readings.clone(), of_metrics.clone(), stop.clone());
            beside.push(tokio::spawn(served));
        }
        beside.push(tokio::spawn(watchdog.clone().run(notifier.clone(), watchdog_limit, stop.clone())));
        let of_notify = notify::NotifyContext {
            clock: around.clock.clone(),
            ledger: ledger.clone(),
            board: pictures,
            redact,
            metrics: metrics_of_notify,
            replies,
            fleet: fleet.clone(),
        };
        let (targets, tasks) = notify::Targets::start(&settings.notify, &of_notify, seed, &stop);
        beside.extend(tasks);
        let (orders, ordered) = mpsc::channel(8);
        let agents = settings.agents.len();
        notifier.ready();
        info!(
            event = events::STARTED,
            version = env!("CARGO_PKG_VERSION"),
            agents,
            pid = std::process::id(),
            rest_proxy,
            socket_proxy,
            authorities,
            "doorman is up"
        );
        let parts = SupervisorParts {
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
            notify: targets,
            page: logins,
            metrics: of_metrics,
            fleet: fleet.clone(),
        };
        let task = tokio::spawn(supervisor::run(parts, incoming, ordered, stop));
        Ok(Self { orders, control, ledger, fleet, task, beside })
    }

    /// Tells it to drain, waits until it has, and closes the ledger.
    pub async fn stop(self) {
        // If nothing receives the order, the daemon is stopping already.
        let _ = self.orders.send(SupervisorOrder::Stop).await;
        self.ended().await;
    }

    /// Waits until it ends after an order, and closes the ledger.
    pub async fn ended(self) {
        let _ = self.task.await;
        for task in self.beside {
            let _ = task.await;
        }
        self.fleet.leave(&self.ledger).await;
        if let Err(error) = self.ledger.close().await {
            warn!(event = events::INTERNAL, why = %error, "the ledger did not close cleanly");
        }
    }
}
