//! The compiled configuration: complete and checked. It contains no key, only where to find each key.

mod notify;
mod page;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::{Host, Url};

use crate::model::AgentId;

pub use notify::NotifyEvent;
pub(crate) use notify::{NotifyTarget, NotifyText, NotifyWay};
pub(crate) use page::{PageIdentity, PageSettings};

/// Everything `run` needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[platform]`.
    pub platform: Platform,
    /// `[[agents]]`, or the environment's single agent. Ids are distinct. None, where all agents are on the roster.
    pub agents: Vec<AgentSettings>,
    /// `[deciders.NAME]`.
    pub deciders: Vec<DeciderSettings>,
    /// `[answers]`.
    pub answers: Answers,
    /// `[ledger]`.
    pub ledger: LedgerSettings,
    /// `[fleet]`.
    pub fleet: FleetSettings,
    /// `[control]`.
    pub control: ControlSettings,
    /// `[metrics]`.
    pub metrics: MetricsSettings,
    /// `[page]`.
    pub page: PageSettings,
    /// `[[notify]]`. Names are distinct.
    pub notify: Vec<NotifyTarget>,
    /// `[reload]`.
    pub reload: ReloadSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[timing]`.
    pub timing: Timing,
}

/// The addresses of the platform, and how to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Ends in `/api/v1`, without a final slash. `http` or `https`.
    pub rest: Url,
    /// Ends in `/api/v1/socket/websocket`. `ws` or `wss`; no query.
    pub socket: Url,
    /// An additional CA, PEM.
    pub ca_file: Option<PathBuf>,
    /// How the key is sent when the socket opens.
    pub credentials: CredentialsMode,
    /// `User-Agent` of every request.
    pub user_agent: HeaderValue,
    /// Additional headers of every request; their values are never shown.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Most connections, `me` calls and first pages of lists of all agents together in a second; at least 1. As many further
    /// pages come on top.
    pub calls_per_second_max: u32,
}

impl Platform {
    /// Whether any address here uses TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.rest.scheme() == "https" || self.socket.scheme() == "wss"
    }
}

/// `credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CredentialsMode {
    /// Header; the query only after the header was refused while REST accepts the key.
    #[default]
    Auto,
    /// `x-api-key` on the upgrade.
    Header,
    /// `api_key` in the query.
    Query,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Its id.
    pub id: AgentId,
    /// The name that rules may use for it.
    pub name: Option<String>,
    /// Where its key is.
    pub key: KeySource,
    /// Its rules file, or `ledger:NAME`: see `pushed_name`.
    pub rules: PathBuf,
    /// How to treat the agent's own connection.
    pub connection: ConnectionMode,
}

/// What `rules` begins with if it names rules that are pushed into the ledger.
pub(crate) const PUSHED: &str = "ledger:";

/// The name of pushed rules, if that is what `rules` says and not a file. A file of such a name is `./ledger:NAME`.
pub(crate) fn pushed_name(rules: &Path) -> Option<&str> {
    rules.to_str()?.strip_prefix(PUSHED)
}

/// Whether rules may be pushed under this name.
pub(crate) fn may_be_pushed(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// Where to find a key; read at the start, on a reload and before each retry of a refused key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file; one trailing newline is ignored.
    File(PathBuf),
    /// An environment variable, by name.
    Env(String),
    /// A systemd credential, by name: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// None was configured.
    Missing,
}

/// What a [`KeySource`] holds, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// An agent's API key.
    Key,
    /// The address of a target of `[[notify]]`.
    Address,
    /// What signs messages or questions, or proves who a proxy is.
    Secret,
    /// An access token.
    Token,
    /// A password.
    Password,
}

impl SecretKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            SecretKind::Key => "key",
            SecretKind::Address => "address",
            SecretKind::Secret => "secret",
            SecretKind::Token => "token",
            SecretKind::Password => "password",
        }
    }
}

/// `connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConnectionMode {
    /// Never take the connection from anybody.
    #[default]
    Yield,
    /// Take the connection.
    Take,
    /// Never open a socket.
    Poll,
}

impl ConnectionMode {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            ConnectionMode::Yield => "yield",
            ConnectionMode::Take => "take",
            ConnectionMode::Poll => "poll",
        }
    }
}

/// A program that is asked about doubtful requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeciderSettings {
    /// The name that rules use for it.
    pub name: String,
    /// Where it listens.
    pub address: DeciderAddress,
    /// How long to wait for its answer.
    pub timeout: Duration,
    /// Questions at once; at least 1.
    pub in_flight: u32,
    /// Questions in an hour; at least 1.
    pub per_hour: u32,
    /// The secret that signs the questions, if there is one.
    pub secret: Option<KeySource>,
}

/// Where a decider listens: on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeciderAddress {
    /// HTTP on loopback.
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Of the URL.
        path: String,
    },
    /// HTTP on a Unix socket.
    Unix {
        /// Its file.
        socket: PathBuf,
        /// Of the URL.
        path: String,
    },
}

/// `[answers]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Most answers in flight, per agent; at least 1.
    pub in_flight: u32,
    /// Answers begun per second, per agent; 0 is no limit.
    pub per_second: u32,
}

/// `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The file; if `database` holds the record, other files of the daemon lie beside this path.
    pub path: PathBuf,
    /// The database server that holds the record in place of the file.
    pub database: Option<DatabaseSettings>,
    /// Text of requests older than this is blanked.
    pub keep: Duration,
}

/// A PostgreSQL database: `[ledger] url` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// The address as it is written: without a password.
    pub url: String,
    /// What it says.
    pub config: tokio_postgres::Config,
    /// Where the password is.
    pub password: KeySource,
    /// A certificate authority besides the machine's.
    pub ca_file: Option<PathBuf>,
    /// Most connections of the daemon.
    pub connections: usize,
}

/// `[fleet]`: this doorman among those that share its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSettings {
    /// For people; `None`: the machine's.
    pub name: Option<String>,
    /// How long it counts as alive after its last beat.
    pub ttl: Duration,
    /// How long its agents keep their connections when it may count as dead.
    pub let_go_after: Duration,
    /// How long the platform must not answer until its agents go to a doorman that it does answer.
    pub give_when_away: Duration,
    /// Where the keys of the roster's agents are: a file `ID.key` each. Without it, this doorman takes no agents of the roster.
    pub keys_dir: Option<PathBuf>,
    /// Its share of the agents, compared with the others'.
    pub weight: u32,
    /// Most agents that it takes.
    pub agents_max: u32,
    /// Most connections, `me` calls and listing pages that all doormen together begin in a second; at least 1.
    pub dials_per_second: u32,
}

/// The usual name of the control socket that only reads, beside the other one.
pub(crate) const CONTROL_READ_NAME: &str = "read.sock";
/// The default file name of the control socket.
pub(crate) const CONTROL_NAME: &str = "doorman.sock";
/// Longest path of a Unix socket, in bytes (`sun_path` without its final zero).
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// The socket.
    pub path: PathBuf,
    /// Whose members may use it, besides root and doorman's own user.
    pub group: Option<String>,
    /// The socket that only reads, if there is one.
    pub read_path: Option<PathBuf>,
    /// The group whose members may use that one.
    pub read_group: Option<String>,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetricsSettings {
    /// Where metrics and health are served over TCP; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// Which agents have series of their own.
    pub per_agent: PerAgent,
}

/// `metrics.per_agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PerAgent {
    /// If there are at most `PerAgent::AUTO_MAX` agents.
    #[default]
    Auto,
    /// For every agent.
    Always,
    /// For no agent; only the totals.
    Never,
}

impl PerAgent {
    /// `auto` means `always` up to this many agents.
    pub(crate) const AUTO_MAX: usize = 500;

    /// Whether each of this many agents has series of its own.
    pub fn shows(self, agents: usize) -> bool {
        match self {
            PerAgent::Auto => agents <= Self::AUTO_MAX,
            PerAgent::Always => true,
            PerAgent::Never => false,
        }
    }
}

/// `[reload]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Look at the files every two seconds.
    pub watch: bool,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// An `EnvFilter` directive, such as `info` or `doorman=debug`.
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// journald's own protocol.
    Journald,
}

/// `[timing]`: the figures of `docs/configuration.md`, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The time between heartbeats, ± 10 %.
    pub heartbeat: Duration,
    /// A connection without a matching heartbeat reply for this long is dead.
    pub dead_after: Duration,
    /// A join without a reply for this long has failed. It also limits connecting and each REST call.
    pub join_timeout: Duration,
    /// Backoff's first ceiling (full jitter).
    pub backoff_min: Duration,
    /// Backoff's last ceiling.
    pub backoff_max: Duration,
    /// After being live for this long, the backoff starts again at its minimum. A connection that ends sooner may have
    /// been taken by another client.
    pub proven_after: Duration,
    /// The time between listings while live, ± 20 %.
    pub list_live: Duration,
    /// The time between listings otherwise, ± 20 %.
    pub list_away: Duration,
    /// The time between attempts while yielded.
    pub yield_retry: Duration,
    /// A 409 within this time after our connection dropped uncleanly may be caused by the old connection.
    pub ghost_window: Duration,
    /// The time between attempts then: this value, up to a third longer.
    pub ghost_retry: Duration,
    /// First wait after a refused key.
    pub refused_min: Duration,
    /// Last wait after a refused key.
    pub refused_max: Duration,
    /// The longest `Retry-After` that doorman follows.
    pub retry_after_max: Duration,
    /// Longest drain when the daemon stops.
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            heartbeat: seconds(25),
            dead_after: seconds(55),
            join_timeout: seconds(15),
            backoff_min: Duration::from_millis(500),
            backoff_max: seconds(60),
            proven_after: seconds(60),
            list_live: seconds(300),
            list_away: seconds(30),
            yield_retry: seconds(300),
            ghost_window: seconds(90),
            ghost_retry: seconds(15),
            refused_min: seconds(60),
            refused_max: seconds(900),
            retry_after_max: seconds(900),
            drain: seconds(10),
        }
    }
}

impl Timing {
    /// After this long without a reply, a REST question may be repeated.
    pub fn patience(&self) -> Duration {
        self.join_timeout * 4
    }

    /// All figures by name, in the order of the documentation.
    pub fn fields(&mut self) -> [(&'static str, &mut Duration); 15] {
        [
            ("heartbeat", &mut self.heartbeat),
            ("dead_after", &mut self.dead_after),
            ("join_timeout", &mut self.join_timeout),
            ("backoff_min", &mut self.backoff_min),
            ("backoff_max", &mut self.backoff_max),
            ("proven_after", &mut self.proven_after),
            ("list_live", &mut self.list_live),
            ("list_away", &mut self.list_away),
            ("yield_retry", &mut self.yield_retry),
            ("ghost_window", &mut self.ghost_window),
            ("ghost_retry", &mut self.ghost_retry),
            ("refused_min", &mut self.refused_min),
            ("refused_max", &mut self.refused_max),
            ("retry_after_max", &mut self.retry_after_max),
            ("drain", &mut self.drain),
        ]
    }
}

/// Whether the URL means this machine, as for the sandbox, in whichever spelling.
pub fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => loopback_ip(address.into()) || address.is_unspecified(),
        Some(Host::Ipv6(address)) => loopback_ip(address.into()) || address.is_unspecified(),
        None => false,
    }
}

/// Whether only this machine reaches this address; `::ffff:127.0.0.1` is the same as `127.0.0.1`.
pub(crate) fn loopback_ip(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
