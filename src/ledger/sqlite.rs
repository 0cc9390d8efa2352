//! The engine that comes with doorman: one SQLite file, one thread that writes it, two that read it, one daemon per file.
//!
//! It owns the file, its lock and its schema (`docs/ledger.md`). It never replaces a file that was there.

mod backup;
mod checkpoint;
pub(super) mod file;
mod ledger_files;
pub(super) mod lock;
mod opening;
mod readers;
mod reading;
pub(super) mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use jiff::Timestamp;
use tokio::sync::{Semaphore, oneshot, watch};

use super::sql::{self, Connection};
use super::{LedgerError, LedgerHealth, LedgerOptions, Record, WAITING_MAX, columns};

pub use backup::backup;
pub use file::reset;
pub use reading::SqliteReading;

/// A handle to the writer of a file. Cheap to clone; the file is closed with the last one, or by [`SqliteLedger::close`].
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    jobs: mpsc::Sender<writer::SqliteJob>,
    asking: readers::SqliteReaderQueue,
    room: Arc<Semaphore>,
    health: watch::Receiver<LedgerHealth>,
}

impl SqliteLedger {
    /// See [`super::Ledger::open`].
    pub fn open(path: &Path, options: LedgerOptions) -> Result<Self, LedgerError> {
        let (named, path) = (path, &*file::real(path)?);
        file::make_directory(path)?;
        file::judge_place(named)?;
        let lock = lock::Lock::take(path)?;
        let connection = file::open_for_writing(path, options.busy)?;
        let files = ledger_files::LedgerFiles::new(named, path, lock);
        let (readers, asking) = readers::Readers::start(path, options.busy)?;
        let (health_in, health) = watch::channel(LedgerHealth::Ok);
        let (jobs, jobs_out) = mpsc::channel();
        writer::start(path, connection, readers, files, options, jobs_out, health_in)?;
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), jobs, asking, room, health }) })
    }

    /// See [`super::Ledger::health`].
    pub fn health(&self) -> watch::Receiver<LedgerHealth> {
        self.inner.health.clone()
    }

    /// See [`super::Ledger::commit`].
    pub async fn commit(&self, batch: Vec<Record>) -> Result<(), LedgerError> {
        // If there is room the first poll hands it in: tokio's budget may make `acquire` yield, out of order.
        let room = match Arc::clone(&self.inner.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => Arc::clone(&self.inner.room).acquire_owned().await.map_err(|_| LedgerError::Closed)?,
        };
        let (reply, answer) = oneshot::channel();
        self.send(writer::SqliteJob::Commit(writer::SqliteCommit { batch, reply, _room: room }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// See [`super::Ledger::blank_older_than`].
    pub async fn blank_older_than(&self, cutoff: Timestamp) -> Result<u64, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(writer::SqliteJob::Blank { cutoff, reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// See [`super::Ledger::close`].
    pub async fn close(self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(writer::SqliteJob::Close { reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Reads what was committed before this call, on a thread that reads.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Connection<'_>) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let path = self.inner.path.display().to_string();
        self.inner.asking.ask(Box::new(move |connection| {
            // The caller may be gone; that does not matter here.
            let _ = reply.send(read(connection.into()).map_err(|error| columns::read_error(&path, &error)));
        }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    fn send(&self, job: writer::SqliteJob) -> Result<(), LedgerError> {
        self.inner.jobs.send(job).map_err(|_| LedgerError::Closed)
    }
}
