//! Asks on threads and connections of their own, beside the threads that write for agents.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::Address;
use super::address::ConnectionPurpose;
use super::session::{DatabaseFailure, DatabaseSession};
use crate::ledger::LedgerError;
use crate::ledger::sql::Connection;

/// Threads that read at the same time. A thousand agents that start together share them.
const THREADS: usize = 2;

/// A question, and who gets the answer; it gets an error if there is no connection.
pub type PostgresQuestion = Box<dyn FnOnce(Result<Connection<'_>, DatabaseFailure>) + Send>;

/// The asking side. The threads end when it is gone, or when [`Closing`] is.
#[derive(Debug)]
pub struct PostgresReaderQueue(Arc<Mutex<Option<mpsc::Sender<PostgresQuestion>>>>);

impl PostgresReaderQueue {
    /// Queues a read; `Err` once the ledger is closed.
    pub fn ask(&self, read: PostgresQuestion) -> Result<(), LedgerError> {
        let reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reads.as_ref().ok_or(LedgerError::Closed)?.send(read).map_err(|_| LedgerError::Closed)
    }
}

/// Takes no question more.
#[derive(Debug, Clone)]
pub struct Closing(Arc<Mutex<Option<mpsc::Sender<PostgresQuestion>>>>);

impl Closing {
    /// Closes.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the threads that read. Each connects when it is first asked.
pub fn start(address: &Arc<Address>) -> Result<(PostgresReaderQueue, Closing), LedgerError> {
    threads(address, ConnectionPurpose::Ask, THREADS, "ledger-read")
}

/// Starts the one thread that carries people's commands from doorman to doorman: neither an agent nor a beat waits for it.
pub fn start_commands(address: &Arc<Address>) -> Result<PostgresReaderQueue, LedgerError> {
    threads(address, ConnectionPurpose::Write, 1, "ledger-command").map(|(asking, _)| asking)
}

fn threads(
    address: &Arc<Address>,
    purpose: ConnectionPurpose,
    number: usize,
    name: &str,
) -> Result<(PostgresReaderQueue, Closing), LedgerError> {
    let (asking, reads) = mpsc::channel::<PostgresQuestion>();
    let reads = Arc::new(Mutex::new(reads));
    for _ in 0..number {
        let (address, reads) = (Arc::clone(address), Arc::clone(&reads));
        let of_thread = Arc::clone(&address);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&of_thread, purpose, &reads))
            .map_err(|error| address.unusable(&format!("no thread to read it: {error}")))?;
    }
    let asking = Arc::new(Mutex::new(Some(asking)));
    Ok((PostgresReaderQueue(Arc::clone(&asking)), Closing(asking)))
}

fn serve(address: &Address, purpose: ConnectionPurpose, reads: &Mutex<mpsc::Receiver<PostgresQuestion>>) {
    let mut session: Option<DatabaseSession> = None;
    loop {
        // Whoever waits here holds the lock; the others wait for the lock.
        let read = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = read else { return };
        if session.as_ref().is_none_or(DatabaseSession::is_broken) {
            session = None;
            match address.connect(purpose) {
                Ok(new) => session = Some(new),
                Err(LedgerError::Unusable { why, .. }) => {
                    read(Err(DatabaseFailure::Lost(why)));
                    continue;
                }
                Err(error) => {
                    read(Err(DatabaseFailure::Lost(error.to_string())));
                    continue;
                }
            }
        }
        if let Some(session) = &session {
            read(Ok(Connection::Postgres(session)));
        }
    }
}
