//! The record: intent before the call, outcome after. An engine holds it (`sqlite`, or `postgres`), and what is written and read is the same for
//! each: `record` writes an entry, `restore` and `read` read, and all three ask through `sql`.
//!
//! It makes no decisions, and never reports something as written that is not: while an engine cannot write, it waits
//! and tries again, and its callers wait, too.

mod address;
mod blank;
mod columns;
pub mod commands;
mod copy;
pub(crate) mod deliveries;
pub mod entry;
pub mod members;
mod postgres;
pub mod pushed;
pub mod read;
pub(crate) mod reasons;
mod record;
mod restore;
pub mod roster;
mod sql;
mod sqlite;
#[cfg(test)]
mod tests;
mod texts;
mod writing;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::model::{AgentId, Handle};
use crate::policy::rules::SourceText;

pub(crate) use address::LedgerAddress;
pub(crate) use copy::Copied;
pub use copy::copy;
use deliveries::{Delivery, DeliveryMark, WaitingRequests, WantedRequests};
pub use entry::{LedgerError, OpenAnswer, Record, SavedAgent, Via};
use members::{LeaseCounts, NewMember};
pub(crate) use postgres::Address;
pub use postgres::{
    AgentWish, Commands, FleetList, Membership, NewRosterAgents, OlderTransactions, PushOutcome, Pushing, RosterAdded,
    RosterList, RosterRow, Server, add, drain, holder, inspect, list, remove, roster as roster_of, wish,
};
pub(crate) use read::RecordedRequest;
pub use read::{Filter, LedgerReader};
use sql::Connection;
pub use sqlite::{backup, reset};

/// The lease of messages to people: one doorman sends them all.
pub(crate) const MESSAGES: &str = "notify";
/// Most batches that wait to be written; who comes then waits for room.
const WAITING_MAX: usize = 4096;

/// How the ledger behaves; the defaults are the daemon's.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Gives the time since when the ledger is blocked, and paces the retries.
    pub clock: Clock,
    /// Between tries while the file cannot be written.
    pub retry: Duration,
    /// How long one try waits for a lock that another process holds on the database.
    pub busy: Duration,
    /// The most pages of 4 KiB that the file may have (0: any number), checked before each transaction. A ledger at
    /// this bound behaves as on a full disk.
    pub pages_max: Option<Arc<AtomicU32>>,
    /// Is called for every transaction that was committed.
    pub committed: Committed,
    /// With what this process joins those that share a database. A file is shared with nobody.
    pub member: NewMember,
    /// What is counted of its leases.
    pub leases: Arc<LeaseCounts>,
}

/// Receives the duration of each transaction, from its first row to its commit. Called on the writer's thread.
#[derive(Clone)]
pub struct Committed(Arc<dyn Fn(Duration) + Send + Sync>);

impl Committed {
    /// Calls this function.
    pub fn new(hear: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl Default for Committed {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committed")
    }
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            retry: Duration::from_secs(1),
            busy: Duration::from_secs(1),
            pages_max: None,
            committed: Committed::default(),
            member: NewMember::default(),
            leases: Arc::default(),
        }
    }
}

/// Whether the ledger can be written at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LedgerHealth {
    /// It can.
    #[default]
    Ok,
    /// It cannot at the moment. Batches are kept and tried again.
    Blocked {
        /// The error of the file, for people.
        why: String,
        /// Since when.
        since: Timestamp,
    },
}

/// How far back an agent must remember at start; the policy decides that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreReach {
    /// The longest window of any limit, of `approvals_max` too.
    pub charges: SignedDuration,
    /// That of `approvals_max` alone; `None`: nobody counts approvals.
    pub approvals: Option<SignedDuration>,
    /// `None`: no condition needs history.
    pub history: Option<HistoryReach>,
    /// It is merged with what the agent remembers already, so that each charge comes with its request. At a start, none does whose
    /// answer the platform confirmed.
    pub merged: bool,
}

/// How far back history is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryReach {
    /// For this long.
    Within(SignedDuration),
    /// For ever (`approved_before`), up to the newest 500,000 rows of each kind.
    Ever,
}

/// A handle to the record. Cheap to clone; it is closed with the last one, or by [`Ledger::close`].
#[derive(Debug, Clone)]
pub enum Ledger {
    /// In a file.
    Sqlite(sqlite::SqliteLedger),
    /// In a database of a server.
    Postgres(postgres::PostgresLedger),
}

impl Ledger {
    /// Takes the lock, opens the file (making it if there is none) and starts the writer. Blocks for some 10 ms. Of a database:
    /// connects, makes the schema if there is none, and starts the writers.
    ///
    /// # Errors
    /// [`LedgerError::Locked`], [`LedgerError::Newer`], [`LedgerError::Corrupt`] or [`LedgerError::Unusable`]; nothing
    /// that was there has been changed then.
    pub fn open(at: impl Into<LedgerAddress>, options: LedgerOptions) -> Result<Self, LedgerError> {
        match at.into() {
            LedgerAddress::File(path) => sqlite::SqliteLedger::open(&path, options).map(Ledger::Sqlite),
            LedgerAddress::Database(address) => postgres::PostgresLedger::open(&address, options).map(Ledger::Postgres),
        }
    }

    /// Whether the ledger can be written at the moment; changes are reported at once.
    pub fn health(&self) -> watch::Receiver<LedgerHealth> {
        match self {
            Ledger::Sqlite(file) => file.health(),
            Ledger::Postgres(database) => database.health(),
        }
    }

    /// Resolves when an answer was decided by pushed rules that are not the head any more: `Ledger::heads` has newer ones. In a file
    /// there are none.
    pub async fn outdated(&self) {
        match self {
            Ledger::Sqlite(_) => std::future::pending().await,
            Ledger::Postgres(database) => database.outdated().await,
        }
    }

    /// The heads of these names that are another version than the one that is known, with their texts.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub(crate) async fn heads(
        &self,
        known: Vec<(String, pushed::KnownVersion)>,
    ) -> Result<Vec<(pushed::PushedVersion, Vec<SourceText>)>, LedgerError> {
        self.read(move |connection| pushed::changed(connection, &known)).await
    }

    /// Records a batch, all or nothing, and resolves when it is recorded. Batches are written in the order in which
    /// they were submitted (first polled), while fewer than 4,096 wait; those that wait together share one transaction.
    ///
    /// While the file cannot be written this waits, for as long as that takes ([`Ledger::health`] says so).
    ///
    /// Cancellation: once polled, and while fewer than 4,096 batches wait, dropping the future does not undo the write.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] if the schema refuses an entry: an error of the caller. That entry and all intents of
    /// its batch are not written; the rest is. [`LedgerError::Outdated`]: the same, since newer rules were pushed.
    /// [`LedgerError::Closed`] after [`Ledger::close`];
    /// [`LedgerError::Unusable`] if the ledger was closed while it could not be written.
    pub async fn commit(&self, batch: Vec<Record>) -> Result<(), LedgerError> {
        if batch.is_empty() {
            return Ok(());
        }
        match self {
            Ledger::Sqlite(file) => file.commit(batch).await,
            Ledger::Postgres(database) => database.commit(batch).await,
        }
    }

    /// What an agent remembers at start: all that was committed before this was called, which is what was resolved by
    /// [`Ledger::commit`]. On a database server it takes the agent's lease first: what it reads then is all that there is.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`], [`LedgerError::Unusable`] or [`LedgerError::Closed`]; [`LedgerError::Fenced`] if another doorman
    /// has the lease.
    pub async fn load_agent(
        &self,
        agent: &AgentId,
        now: Timestamp,
        reach: RestoreReach,
    ) -> Result<SavedAgent, LedgerError> {
        let of = agent.clone();
        let read = move |connection: Connection<'_>| restore::load(connection, &of, now, reach);
        match self {
            Ledger::Sqlite(file) => file.read(read).await,
            Ledger::Postgres(database) => {
                let saved = database.read_as_holder(agent.as_str(), read).await?;
                Ok(SavedAgent { shared: true, ..saved })
            }
        }
    }

    /// The mark of a target of `[[notify]]`, and the message that is on its way to it.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub async fn delivery(&self, target: &str) -> Result<Delivery, LedgerError> {
        let target = target.to_owned();
        let read = move |connection: Connection<'_>| deliveries::load(connection, &target);
        match self {
            Ledger::Sqlite(file) => file.read(read).await,
            Ledger::Postgres(database) => database.read_as_holder(MESSAGES, read).await,
        }
    }

    /// Gives the lease of this name to the others that share the database; nothing more is written for it. Only of a database.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`]: the lease stays in this process's name for now. It is given once it can be, unless it is taken or
    /// written for before.
    pub async fn give(&self, lease: &str) -> Result<(), LedgerError> {
        match self {
            Ledger::Sqlite(_) => Ok(()),
            Ledger::Postgres(database) => database.give(lease).await,
        }
    }

    /// The roster; of a file there is none.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub async fn roster(&self) -> Result<roster::Roster, LedgerError> {
        self.read(roster::read).await
    }

    /// This process among those that share the database; `None`: nobody else has the record.
    pub fn members(&self) -> Option<Membership> {
        match self {
            Ledger::Sqlite(_) => None,
            Ledger::Postgres(database) => Some(database.members()),
        }
    }

    /// People's commands for agents that another doorman holds; `None`: nobody else has the record.
    pub fn commands(&self) -> Option<Commands> {
        match self {
            Ledger::Sqlite(_) => None,
            Ledger::Postgres(database) => Some(database.commands()),
        }
    }

    /// The requests of these agents that are open, as far as the record knows.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub(crate) async fn open_requests(&self, wanted: read::WantedOpen) -> Result<read::OpenRequests, LedgerError> {
        self.read(move |connection| read::open_requests(connection, &wanted)).await
    }

    /// Of these agents, those that let somebody with this handle in for a time.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub(crate) async fn agents_of_guest(
        &self,
        agents: Vec<AgentId>,
        handle: Handle,
    ) -> Result<Vec<AgentId>, LedgerError> {
        self.read(move |connection| read::agents_of_guest(connection, &agents, &handle)).await
    }

    /// When this process ends, the leases stay in its name, for its next start.
    pub(crate) fn keep_leases(&self) {
        if let Ledger::Postgres(database) = self {
            database.keep_leases();
        }
    }

    /// The requests of these agents (of all if empty) that wait for a person, and which of them are new since the mark.
    /// `None` if nothing was decided since a reading in which these rows were the newest.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub async fn waiting(
        &self,
        agents: Vec<AgentId>,
        since: DeliveryMark,
        wanted: WantedRequests,
        looked: Option<(i64, i64)>,
    ) -> Result<Option<WaitingRequests>, LedgerError> {
        self.read(move |connection| deliveries::waiting(connection, &agents, &since, wanted, looked)).await
    }

    /// Blanks handle, name and message of requests first seen before `cutoff`, and of contacts removed before it;
    /// returns the number of those requests. Rows stay, and so do the owners' names by which history is counted. Works
    /// in small steps between other writes.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] if the file cannot be written now: what is left waits for the next call.
    pub(crate) async fn blank_older_than(&self, cutoff: Timestamp) -> Result<u64, LedgerError> {
        match self {
            Ledger::Sqlite(file) => file.blank_older_than(cutoff).await,
            Ledger::Postgres(database) => database.blank_older_than(cutoff).await,
        }
    }

    /// Writes everything that waits, moves the log into the file, closes the file and releases the lock. Other handles
    /// get [`LedgerError::Closed`] from then on. If the file cannot be written, there is one last try.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] if something that waited could not be written; its callers get the same error.
    pub async fn close(self) -> Result<(), LedgerError> {
        match self {
            Ledger::Sqlite(file) => file.close().await,
            Ledger::Postgres(database) => database.close().await,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Connection<'_>) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        match self {
            Ledger::Sqlite(file) => file.read(read).await,
            Ledger::Postgres(database) => database.read(read).await,
        }
    }
}
