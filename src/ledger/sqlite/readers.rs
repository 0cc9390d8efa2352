//! Reads committed data, on threads and connections separate from the thread that writes. A read never waits for a
//! write, and a write never waits for a read.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, file};

/// Threads that read at the same time. A thousand agents that start together share them.
const THREADS: usize = 2;

/// A question to the file.
pub type SqliteQuestion = Box<dyn FnOnce(&Connection) + Send>;

/// The side of the callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqliteReaderQueue(mpsc::Sender<SqliteQuestion>);

impl SqliteReaderQueue {
    /// Queues a read; `Err` once the ledger is closed.
    pub fn ask(&self, read: SqliteQuestion) -> Result<(), LedgerError> {
        self.0.send(read).map_err(|_| LedgerError::Closed)
    }
}

/// The threads. [`Readers::stop`] ends them; reads that still wait are dropped then.
#[derive(Debug)]
pub struct Readers {
    threads: Vec<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
    /// Wakes a thread that waits for a read.
    wake: Option<mpsc::Sender<SqliteQuestion>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub fn start(path: &Path, busy: Duration) -> Result<(Self, SqliteReaderQueue), LedgerError> {
        let (asking, reads) = mpsc::channel::<SqliteQuestion>();
        let reads = Arc::new(Mutex::new(reads));
        let closing = Arc::new(AtomicBool::new(false));
        let mut readers = Self { threads: Vec::new(), closing: closing.clone(), wake: Some(asking.clone()) };
        for _ in 0..THREADS {
            let connection = file::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?;
            let (reads, closing) = (reads.clone(), closing.clone());
            let thread = std::thread::Builder::new()
                .name("ledger-read".to_owned())
                .spawn(move || serve(&connection, &reads, &closing))
                .map_err(|error| LedgerError::Unusable {
                    path: path.display().to_string(),
                    why: format!("no thread to read it: {error}"),
                })?;
            readers.threads.push(thread);
        }
        Ok((readers, SqliteReaderQueue(asking)))
    }

    /// Waits for the reads that are under way, and closes the connections.
    pub fn stop(&mut self) {
        self.closing.store(true, Ordering::Release);
        if let Some(wake) = self.wake.take() {
            for _ in &self.threads {
                // A thread that has ended does not need to be woken.
                let _ = wake.send(Box::new(|_| {}));
            }
        }
        for thread in self.threads.drain(..) {
            // A panic of the thread is already in the log.
            let _ = thread.join();
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(connection: &Connection, reads: &Mutex<mpsc::Receiver<SqliteQuestion>>, closing: &AtomicBool) {
    while !closing.load(Ordering::Acquire) {
        // Whoever waits here holds the lock; the others wait for the lock.
        let read = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = read else { return };
        if closing.load(Ordering::Acquire) {
            return;
        }
        read(connection);
        // A long list of agents at start fills the cache; nothing is read for hours afterwards.
        connection.release_memory().unwrap_or_else(|error| tracing::debug!(%error, "the cache was not given back"));
    }
}
