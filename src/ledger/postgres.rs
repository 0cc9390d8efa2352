//! The engine for those who outgrow one machine: a PostgreSQL database, which several may read and one writes for each agent.
//!
//! What a file's lock is there, a lease is here: a row that names who writes for an agent. Each transaction begins with it, so
//! that whoever lost it writes nothing more (`writer.rs`).

mod address;
mod commands;
mod dialect;
mod head;
mod lease;
mod members;
#[cfg(test)]
mod model_test;
mod preflight;
mod pushing;
mod readers;
mod reading;
mod roster;
pub(super) mod schema;
pub(super) mod session;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::members::NewMember;
use super::sql::{self, Connection, Optional as _};
use super::{LedgerError, LedgerHealth, LedgerOptions, Record, WAITING_MAX, columns};

pub(crate) use address::Address;
#[cfg(test)]
pub use address::ConnectionPurpose;
pub use commands::Commands;
pub(super) use members::take_all;
pub use members::{AgentWish, FleetList, Membership, drain, holder, list, wish};
pub use preflight::{Server, inspect};
pub use pushing::{OlderTransactions, PushOutcome, Pushing};
pub use reading::PostgresReading;
pub use roster::{NewRosterAgents, RosterAdded, RosterList, RosterRow, add, remove, roster};
use session::DatabaseFailure;

/// The database's clock, in microseconds since 1970.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";

/// A handle to the writers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: Arc<Address>,
    /// One for each thread that writes; an agent has always the same.
    jobs: Vec<mpsc::Sender<writer::PostgresJob>>,
    asking: readers::PostgresReaderQueue,
    /// For people's commands.
    commanding: readers::PostgresReaderQueue,
    room: Arc<Semaphore>,
    health: watch::Receiver<LedgerHealth>,
    /// As whom leases are taken.
    me: Arc<ArcSwap<String>>,
    joining: NewMember,
    /// Why the server may lose what it confirmed, as it was when this was opened.
    loses: Option<String>,
    /// Whether the leases stay in this process's name when it ends.
    keeps: Arc<AtomicBool>,
    /// Rung when an answer was decided by rules that are not the head any more.
    outdated: Arc<Notify>,
}

impl PostgresLedger {
    /// Connects, brings the schema up to date and starts the writers. Blocks, for some seconds if the database is slow.
    pub fn open(address: &Address, options: LedgerOptions) -> Result<Self, LedgerError> {
        let address = Arc::new(address.clone());
        let (session, loses) = fit(&address)?;
        let joining = options.member.clone();
        members::join(&session, &address, &joining)?;
        let me = Arc::new(ArcSwap::from_pointee(joining.id.clone()));
        let keeps = Arc::default();
        let (asking, readers) = readers::start(&address)?;
        let commanding = readers::start_commands(&address)?;
        let outdated = Arc::default();
        let (jobs, health) = writer::start(&address, session, readers, &options, (&me, &keeps), &outdated)?;
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        let inner = Inner { address, jobs, asking, commanding, room, health, me, joining, loses, keeps, outdated };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// See [`super::Ledger::health`].
    pub fn health(&self) -> watch::Receiver<LedgerHealth> {
        self.inner.health.clone()
    }

    /// See [`super::Ledger::outdated`].
    pub async fn outdated(&self) {
        self.inner.outdated.notified().await;
    }

    /// See [`super::Ledger::commit`].
    pub async fn commit(&self, batch: Vec<Record>) -> Result<(), LedgerError> {
        // If there is room the first poll hands it in: tokio's budget may make `acquire` yield, out of order.
        let room = match Arc::clone(&self.inner.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => Arc::clone(&self.inner.room).acquire_owned().await.map_err(|_| LedgerError::Closed)?,
        };
        let (reply, answer) = oneshot::channel();
        let whose = writer::whose(&batch);
        self.send(
            &whose[0],
            writer::PostgresJob::Commit(writer::PostgresCommit {
                batch,
                whose: whose.clone(),
                reply,
                unsure: None,
                _room: room,
            }),
        )?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Takes a lease, if this process does not have it: from now on nobody else writes what it is for.
    async fn take(&self, name: &str) -> Result<writer::TakenLease, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(name, writer::PostgresJob::Take { name: name.to_owned(), reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// See [`super::Ledger::give`].
    pub async fn give(&self, name: &str) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(name, writer::PostgresJob::Give { name: name.to_owned(), reply })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// This process among those that share the database.
    pub fn members(&self) -> Membership {
        let inner = &self.inner;
        Membership::new(Arc::clone(&inner.address), Arc::clone(&inner.me), inner.joining.clone(), inner.loses.clone())
    }

    /// People's commands for agents that other doormen hold, and theirs for this one's.
    pub fn commands(&self) -> Commands {
        Commands::new(self.clone())
    }

    /// The leases stay in this process's name when it ends, for the next start.
    pub fn keep_leases(&self) {
        self.inner.keeps.store(true, Ordering::Relaxed);
    }

    /// See [`super::Ledger::blank_older_than`].
    pub async fn blank_older_than(&self, cutoff: Timestamp) -> Result<u64, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.inner.jobs[0].send(writer::PostgresJob::Blank { cutoff, reply }).map_err(|_| LedgerError::Closed)?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// See [`super::Ledger::close`].
    pub async fn close(self) -> Result<(), LedgerError> {
        let mut closed = Ok(());
        for jobs in &self.inner.jobs {
            let (reply, answer) = oneshot::channel();
            let one = match jobs.send(writer::PostgresJob::Close { reply }) {
                Ok(()) => answer.await.unwrap_or(Err(LedgerError::Closed)),
                Err(_) => Err(LedgerError::Closed),
            };
            closed = closed.and(one);
        }
        closed
    }

    /// What was committed before: one moment of the record, from the server that writes it.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Connection<'_>) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let address = Arc::clone(&self.inner.address);
        self.inner.asking.ask(Box::new(move |connection| {
            let read = connection.map_err(sql::Error::from).and_then(|connection| {
                let _moment = connection.moment()?;
                read(connection)
            });
            // The asker may be gone; that is no matter here.
            let _ = reply.send(read.map_err(|error| columns::read_error(address.shown(), &error)));
        }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// The same for the holder of this lease, which is taken first. What is read counts only if the same moment shows the lease as it
    /// was taken: after a fail-over the connection that reads may still lead to the old server, which knows nothing of what came later.
    pub async fn read_as_holder<T: Send + 'static>(
        &self,
        lease: &str,
        read: impl FnOnce(Connection<'_>) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (me, epoch) = self.take(lease).await?;
        let name = lease.to_owned();
        let read = self.read(move |connection| {
            let seen = connection
                .query_row("SELECT holder, epoch FROM lease WHERE name = ?1", [&name], |row| {
                    Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            if seen.is_none_or(|(holder, seen)| holder.as_ref() != Some(&*me) || seen != epoch) {
                if let Connection::Postgres(session) = connection {
                    session.give_up();
                }
                return Ok(None);
            }
            read(connection).map(Some)
        });
        match read.await? {
            Some(read) => Ok(read),
            None => {
                // Or the server that writes has lost that the lease was taken.
                self.send(lease, writer::PostgresJob::Forget { name: lease.to_owned(), epoch })?;
                let why =
                    "the lease is not there as it was taken: another server answers, or another doorman was faster";
                Err(self.inner.address.unusable(&why))
            }
        }
    }

    fn send(&self, name: &str, job: writer::PostgresJob) -> Result<(), LedgerError> {
        let jobs = &self.inner.jobs;
        jobs[writer::thread_of(name, jobs.len())].send(job).map_err(|_| LedgerError::Closed)
    }
}

/// A connection for a command that writes, with the schema made where there is none. One that is older than this doorman's is not
/// changed: a doorman that runs may not know the new one.
fn usable(address: &Address, purpose: address::ConnectionPurpose) -> Result<session::DatabaseSession, LedgerError> {
    let session = address.connect(purpose)?;
    preflight::judge(&session, address)?;
    let failed = |failure| address.unusable(&failure);
    let known = schema::known();
    match schema::found(&session).map_err(failed)? {
        None => schema::migrate(&session).map_err(failed)?,
        Some(found) if found < known => {
            let why = format!(
                "it has schema {found}, older than this doorman's {known}: start the daemon once, which brings it up to date"
            );
            return Err(address.unusable(&why));
        }
        Some(_) => {}
    }
    Ok(session)
}

/// A connection to a database that is fit to hold a record, with its schema made.
pub fn prepare(address: &Address) -> Result<session::DatabaseSession, LedgerError> {
    fit(address).map(|(session, _)| session)
}

/// The same, and why the server may lose what it confirmed.
fn fit(address: &Address) -> Result<(session::DatabaseSession, Option<String>), LedgerError> {
    let session = address.connect(address::ConnectionPurpose::Write)?;
    let loses = preflight::judge(&session, address)?;
    schema::migrate(&session).map_err(|failure| address.unusable(&failure))?;
    Ok((session, loses))
}

impl Address {
    /// What cannot be done with this database, and why.
    fn unusable(&self, why: &impl ToString) -> LedgerError {
        LedgerError::Unusable { path: self.shown().to_owned(), why: why.to_string() }
    }
}

impl From<DatabaseFailure> for super::record::EntryFault {
    fn from(failure: DatabaseFailure) -> Self {
        sql::Error::from(failure).into()
    }
}
