//! Moves the write-ahead log into the file, on a thread of its own: that costs disk syncs, for which no answer should
//! have to wait. It changes no row.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, file};

/// When the log has this many pages (8 MiB), the thread starts a checkpoint, and again after as many more.
const PAGES: i64 = 2048;
/// When the log has this many pages (64 MiB), the writer makes the checkpoint itself, because the thread is too slow.
const PAGES_MAX: i64 = 16_384;
/// The writer finishes a checkpoint if the thread left at most this many pages, written meanwhile.
const REST_MAX: i64 = 1024;
/// After so many entries the writer looks how long the log is: that costs as much as a row.
const LOOK_ENTRIES: usize = 32;

/// The writer's side of it.
pub struct Checkpoints {
    wake: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Set by the thread when it has finished.
    through: Arc<AtomicBool>,
    /// How long the log was when the thread was sent.
    sent_at: i64,
    /// Entries since the writer last looked.
    entries: usize,
}

impl Checkpoints {
    /// Starts the thread with a connection of its own.
    pub fn start(path: &Path) -> Result<Self, LedgerError> {
        let connection = file::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Duration::ZERO)?;
        let (wake, woken) = mpsc::sync_channel::<()>(1);
        let through = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&through);
        let run = move || {
            while woken.recv().is_ok() {
                checkpoint(&connection, "PASSIVE");
                said.store(true, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("ledger-log".to_owned()).spawn(run).map_err(|error| {
            LedgerError::Unusable { path: path.display().to_string(), why: format!("no thread for it: {error}") }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread), through, sent_at: 0, entries: 0 })
    }

    /// Called after a transaction with that many entries, on the writer's connection: looks at the log now and then.
    pub fn after_commit(&mut self, connection: &Connection, entries: usize) {
        self.entries += entries;
        if self.entries >= LOOK_ENTRIES || self.through.load(Ordering::Relaxed) {
            self.look(connection);
        }
    }

    /// Looks how long the log is, and has it moved if it is long.
    pub fn look(&mut self, connection: &Connection) {
        self.entries = 0;
        let Some((pages, moved)) = checkpoint(connection, "NOOP") else { return };
        let through = self.through.swap(false, Ordering::Acquire);
        if (through && pages - moved <= REST_MAX) || pages >= self.sent_at.max(PAGES) + PAGES_MAX {
            // If everything is moved and nobody reads, the next transaction starts the log from its beginning.
            checkpoint(connection, "PASSIVE");
            self.sent_at = if through { 0 } else { pages };
        } else if pages < self.sent_at {
            self.sent_at = 0;
        } else if pages >= self.sent_at + PAGES
            && pages > moved
            && let Some(wake) = &self.wake
            && wake.try_send(()).is_ok()
        {
            self.sent_at = pages;
        }
    }

    /// Moves all that can be moved, at once.
    pub fn rescue(&mut self, connection: &Connection) {
        checkpoint(connection, "PASSIVE");
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is already in the log.
            let _ = thread.join();
        }
    }
}

/// How many pages the log has and how many of them are in the file; `None` if that is not known.
fn checkpoint(connection: &Connection, mode: &str) -> Option<(i64, i64)> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let asked = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?))));
    match asked {
        Ok(pages) => Some(pages),
        Err(error) => {
            tracing::debug!(%error, mode, "the ledger's log was not moved");
            None
        }
    }
}
