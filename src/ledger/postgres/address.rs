//! Where a database is, and how a connection to it is made.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::{CONNECT_MAX, DatabaseSession};
use crate::config::settings::{DatabaseSettings, KeySource, SecretKind};
use crate::ledger::LedgerError;
use crate::platform::tls;
use crate::secret;

/// What holds for every connection. A holder that is stopped in a transaction keeps its lease's row locked: the server ends that
/// transaction. `client_connection_check_interval` came with PostgreSQL 14.
const SETTINGS: &str = "-c search_path=doorman -c idle_in_transaction_session_timeout=5s -c lock_timeout=2s \
     -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c client_connection_check_interval=5s \
     -c TimeZone=UTC";
/// How long bytes that were sent may stay without an acknowledgement.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// How long an answer is waited for, if the connection writes.
const WRITE_MAX: Duration = Duration::from_secs(8);
/// The same if it only asks.
const ASK_MAX: Duration = Duration::from_secs(65);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionPurpose {
    /// The daemon's: to the server that writes.
    Write,
    /// The daemon's, for questions: to the same server.
    Ask,
    /// A command's: it writes nothing, and any server will do.
    Read,
    /// A command's that adds rules.
    Push,
}

impl ConnectionPurpose {
    /// How long a statement may take at the server, in seconds, and how long an answer is waited for. A statement of a
    /// transaction that writes keeps a lease's row; a question may look through a large record, and keeps nobody waiting.
    fn patience(self) -> (u32, Duration) {
        match self {
            ConnectionPurpose::Write | ConnectionPurpose::Push => (5, WRITE_MAX),
            ConnectionPurpose::Ask | ConnectionPurpose::Read => (60, ASK_MAX),
        }
    }

    /// As the server lists its connections. Who waits for transactions of doormen that decide looks at the first name alone.
    fn name(self) -> &'static str {
        match self {
            ConnectionPurpose::Write => "doorman",
            ConnectionPurpose::Ask | ConnectionPurpose::Read => "doorman (reading)",
            ConnectionPurpose::Push => "doorman (policy)",
        }
    }
}

/// A database, as the settings name it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    config: Config,
    /// As it may be shown: it holds no password.
    shown: Arc<str>,
    password: KeySource,
    ca_file: Option<PathBuf>,
    connections: usize,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// From settings, which were checked already.
    pub fn new(settings: &DatabaseSettings) -> Self {
        let mut config = settings.config.clone();
        if config.get_user().is_none() {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            config.user(user.map_or_else(|| "doorman".to_owned(), |user| user.name));
        }
        if config.get_hosts().is_empty() {
            config.host_path("/run/postgresql");
        }
        Self {
            config,
            shown: settings.url.as_str().into(),
            password: settings.password.clone(),
            ca_file: settings.ca_file.clone(),
            connections: settings.connections,
        }
    }

    /// For people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// How many connections the daemon has at most.
    pub fn connections(&self) -> usize {
        self.connections
    }

    fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
    }

    /// A new connection. The password is read each time: it may have been changed.
    pub fn connect(&self, purpose: ConnectionPurpose) -> Result<DatabaseSession, LedgerError> {
        let mut config = self.config.clone();
        config
            .application_name(purpose.name())
            .connect_timeout(CONNECT_MAX)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        let (statement, call) = purpose.patience();
        let settings = format!("{SETTINGS} -c statement_timeout={statement}s");
        match purpose {
            ConnectionPurpose::Write | ConnectionPurpose::Ask | ConnectionPurpose::Push => {
                config.options(settings).target_session_attrs(TargetSessionAttrs::ReadWrite)
            }
            ConnectionPurpose::Read => config.options(format!("{settings} -c default_transaction_read_only=on")),
        };
        match &self.password {
            KeySource::Missing => {}
            source => {
                let key = secret::read(source, SecretKind::Password).map_err(|error| self.unusable(&error))?;
                config.password(key.expose());
            }
        }
        // A Unix socket leaves this machine nowhere. Everything else is encrypted, and the server's certificate and name are checked.
        let tls = if self.is_local() {
            config.ssl_mode(SslMode::Disable);
            tls::for_plain_http()
        } else {
            config.ssl_mode(SslMode::Require);
            tls::client_config(self.ca_file.as_deref()).map(|config| (*config).clone())
        };
        let tls =
            tls.map_err(|error| self.unusable(&error.to_string().replace("platform.ca_file", "ledger.ca_file")))?;
        DatabaseSession::connect(&config, MakeRustlsConnect::new(tls), call).map_err(|failure| self.unusable(&failure))
    }
}
