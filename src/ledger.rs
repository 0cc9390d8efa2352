//! The record: one SQLite file, one thread that writes it, two that read it, one daemon per file. Intent before the call, outcome after.
//!
//! It owns the file, its lock and its schema (`docs/ledger.md`). It never decides anything, never replaces a file that
//! was there, and never says that something is written which is not: a file that cannot be written now makes the
//! writer wait and try again, and with it everybody who asked.

mod backup;
mod blank;
mod checkpoint;
mod columns;
pub mod deliveries;
pub mod entry;
mod file;
mod lock;
mod place;
pub mod read;
mod readers;
pub(crate) mod reasons;
mod record;
mod restore;
mod schema;
#[cfg(test)]
mod tests;
mod texts;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock::Clock;
use crate::model::AgentId;

pub use backup::backup;
use deliveries::{Delivery, Mark, Waiting, Wanted};
pub use entry::{LedgerError, OpenAnswer, Record, SavedAgent, Via};
pub use file::reset;
pub use read::{Filter, LedgerReader, RecordedRequest};
pub use restore::HISTORY_ROWS_MAX;

/// Most batches that wait to be written; who comes then waits for room.
const WAITING_MAX: usize = 4096;

/// How the ledger behaves; the defaults are the daemon's.
#[derive(Debug, Clone)]
pub struct Options {
    /// Says since when the ledger is blocked, and paces the retries.
    pub clock: Clock,
    /// Between tries while the file cannot be written.
    pub retry: Duration,
    /// How long one try waits for somebody else's lock on the database.
    pub busy: Duration,
    /// The file may have so many pages of 4 KiB (0: any number), asked before each transaction. A ledger at this bound
    /// behaves as on a full disk.
    pub pages_max: Option<Arc<AtomicU32>>,
    /// Hears of every transaction that was committed.
    pub committed: Committed,
}

/// Hears how long each transaction took, from its first row to its commit. Called on the writer's thread.
#[derive(Clone)]
pub struct Committed(Arc<dyn Fn(Duration) + Send + Sync>);

impl Committed {
    /// Tells this.
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

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            retry: Duration::from_secs(1),
            busy: Duration::from_secs(1),
            pages_max: None,
            committed: Committed::default(),
        }
    }
}

/// Whether what is handed in gets written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// It does.
    #[default]
    Ok,
    /// Not now. It is kept and tried again.
    Blocked {
        /// What the file said, for people.
        why: String,
        /// Since when.
        since: Timestamp,
    },
}

/// How far back an agent has to remember at start; the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The longest window of any limit, of `approvals_max` too.
    pub charges: SignedDuration,
    /// `None`: nothing asks for history.
    pub history: Option<HistoryReach>,
}

/// How far back history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryReach {
    /// So long.
    Within(SignedDuration),
    /// For ever (`approved_before`), up to the newest [`HISTORY_ROWS_MAX`] rows of each kind.
    Ever,
}

/// A handle to the writer. Cheap to clone; the file is closed with the last one, or by [`Ledger::close`].
#[derive(Debug, Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    jobs: mpsc::Sender<writer::Job>,
    asking: readers::Asking,
    room: Arc<Semaphore>,
    health: watch::Receiver<Health>,
}

impl Ledger {
    /// Takes the lock, opens the file (making it where there is none) and starts the writer. Blocks for some 10 ms.
    ///
    /// # Errors
    /// [`LedgerError::Locked`], [`LedgerError::Newer`], [`LedgerError::Corrupt`] or [`LedgerError::Unusable`]; nothing
    /// that was there has been changed then.
    pub fn open(path: &Path, options: Options) -> Result<Self, LedgerError> {
        let (named, path) = (path, &*file::real(path)?);
        file::make_directory(path)?;
        file::judge_place(named)?;
        let lock = lock::Lock::take(path)?;
        let connection = file::open_for_writing(path, options.busy)?;
        let place = place::Place::new(named, path, lock);
        let (readers, asking) = readers::Readers::start(path, options.busy)?;
        let (health_in, health) = watch::channel(Health::Ok);
        let (jobs, jobs_out) = mpsc::channel();
        writer::start(path, connection, readers, place, options, jobs_out, health_in)?;
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), jobs, asking, room, health }) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether what is handed in gets written; changes are seen at once.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.clone()
    }

    /// Puts a batch on record, all or nothing, and resolves when it is there. Batches are written in the order in which
    /// they were handed in (first polled), while fewer than 4,096 wait; those that wait together share one transaction.
    ///
    /// While the file cannot be written this waits, for as long as that takes ([`Ledger::health`] says so).
    ///
    /// Cancellation: once polled, and while fewer than 4,096 batches wait, dropping the future does not undo the write.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] where the schema refuses an entry: a fault of the caller's. That entry is not written, and
    /// no intent of its batch is; the rest is. [`LedgerError::Closed`] after [`Ledger::close`]; [`LedgerError::Unusable`] where the ledger was closed
    /// while it could not be written.
    pub async fn commit(&self, batch: Vec<Record>) -> Result<(), LedgerError> {
        if batch.is_empty() {
            return Ok(());
        }
        // Where there is room the first poll hands it in: tokio's budget may make `acquire` yield, out of order.
        let room = match Arc::clone(&self.inner.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => Arc::clone(&self.inner.room).acquire_owned().await.map_err(|_| LedgerError::Closed)?,
        };
        let (reply, answer) = oneshot::channel();
        self.send(writer::Job::Commit(writer::Commit { batch, reply, _room: room }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// What an agent remembers at start: all that was committed before this was called, which is what was resolved by
    /// [`Ledger::commit`].
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`], [`LedgerError::Unusable`] or [`LedgerError::Closed`].
    pub async fn load_agent(&self, agent: &AgentId, now: Timestamp, reach: Reach) -> Result<SavedAgent, LedgerError> {
        let agent = agent.clone();
        self.read(move |connection| restore::load(connection, &agent, now, reach)).await
    }

    /// How far a target of `[[notify]]` was told, and the message that is under way to it.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub async fn delivery(&self, target: &str) -> Result<Delivery, LedgerError> {
        let target = target.to_owned();
        self.read(move |connection| deliveries::load(connection, &target)).await
    }

    /// Who waits for a person, of these agents (of all where empty), and who of them is new since the mark. `None` where
    /// nothing was decided since a look that saw these rows as the newest.
    ///
    /// # Errors
    /// As [`Ledger::load_agent`].
    pub async fn waiting(
        &self,
        agents: Vec<AgentId>,
        since: Mark,
        wanted: Wanted,
        looked: Option<(i64, i64)>,
    ) -> Result<Option<Waiting>, LedgerError> {
        self.read(move |connection| deliveries::waiting(connection, &agents, &since, wanted, looked)).await
    }

    /// Blanks handle, name and message of requests first seen before `cutoff`, and of contacts removed before it, and
    /// returns how many requests that were. Rows stay, and so do the owners' names that history is counted by. Goes in
    /// small steps between other writes.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] where the file cannot be written now: what is left waits for the next call.
    pub async fn blank_older_than(&self, cutoff: Timestamp) -> Result<u64, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(writer::Job::Blank { cutoff, reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Writes what waits, moves the log into the file, closes it and lets the lock go. Other handles get
    /// [`LedgerError::Closed`] from then on. Where the file cannot be written there is one last try.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] where something that waited is not written; who waits for it is told the same.
    pub async fn close(self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(writer::Job::Close { reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let path = self.inner.path.display().to_string();
        self.inner.asking.ask(Box::new(move |connection| {
            // The asker may be gone; that is no matter here.
            let _ = reply.send(read(connection).map_err(|error| columns::read_error(&path, &error)));
        }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    fn send(&self, job: writer::Job) -> Result<(), LedgerError> {
        self.inner.jobs.send(job).map_err(|_| LedgerError::Closed)
    }
}
