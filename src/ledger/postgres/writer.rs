//! The threads that write, each with a connection of its own. An agent has always the same thread, so its batches stay in order.
//!
//! A batch is one transaction, and its first statement counts the agent's lease up by one, for this holder, this epoch and the number
//! before. That one row says three things: whoever lost the lease writes nothing; batches come in order; and a batch whose commit was
//! confirmed to nobody is found to be there, and not written twice.

mod board;
mod leases;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};

use super::address::ConnectionPurpose;
use super::head;
use super::lease::{Fence, Lease, confirm, fence, give};
use super::readers::Closing;
use super::session::DatabaseSession;
use super::{Address, DatabaseFailure};
use crate::clock::Mono;
use crate::ledger::blank::Blanking;
use crate::ledger::record::{EntryFault, EntryWriter, Numbers};
use crate::ledger::sql::Connection;
use crate::ledger::{LedgerError, LedgerHealth, LedgerOptions, Record};
use crate::ops::log::events;
use crate::ops::stop_at::{self, StopPoint};

pub use leases::TakenLease;

use board::WriterBoard;

/// Connections that read.
const READING: usize = 2;
/// Tries of a transaction that met another one, before that counts as trouble.
const COLLISIONS_MAX: u32 = 8;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// A batch and who waits for it.
pub struct PostgresCommit {
    pub batch: Vec<Record>,
    /// The leases that it needs; the first says which thread.
    pub whose: Vec<String>,
    pub reply: Reply<()>,
    /// What to tell, if it is found to be on record: its commit was sent, and nobody confirmed it.
    pub unsure: Option<Result<(), LedgerError>>,
    /// Given back when the batch is done with.
    pub _room: OwnedSemaphorePermit,
}

/// What a writer is asked.
pub enum PostgresJob {
    Commit(PostgresCommit),
    Take {
        name: String,
        reply: Reply<TakenLease>,
    },
    /// The lease is asked for again before anything more is done under it, unless it is another one by now.
    Forget {
        name: String,
        epoch: i64,
    },
    Give {
        name: String,
        reply: Reply<()>,
    },
    Blank {
        cutoff: Timestamp,
        reply: Reply<u64>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// What is in the way of a transaction.
enum TransactionFailure {
    /// The lease is somebody else's.
    Fenced(String),
    Fault(EntryFault),
}

impl<T: Into<EntryFault>> From<T> for TransactionFailure {
    fn from(fault: T) -> Self {
        TransactionFailure::Fault(fault.into())
    }
}

/// The leases that a batch needs: its agents', and those of the targets of its messages.
pub fn whose(batch: &[Record]) -> Vec<String> {
    let names: BTreeSet<String> = batch.iter().map(Record::whose).collect();
    names.into_iter().collect()
}

/// Which of so many threads writes for a name.
pub fn place(name: &str, threads: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    usize::try_from(hasher.finish() % threads.max(1) as u64).unwrap_or(0)
}

struct PostgresWriter {
    number: usize,
    address: Arc<Address>,
    session: Option<DatabaseSession>,
    /// Names this life of this process; another one after the others thought it was dead.
    me: Arc<ArcSwap<String>>,
    /// Whether the leases stay in this process's name when it ends.
    keeps: Arc<AtomicBool>,
    leases: HashMap<String, Lease>,
    options: LedgerOptions,
    jobs: mpsc::Receiver<PostgresJob>,
    board: Arc<WriterBoard>,
    waiting: VecDeque<PostgresJob>,
    /// While blocked: not before this.
    retry_at: Option<Mono>,
    looked_at: Mono,
    numbers: Numbers,
    blanking: Option<(Blanking, Reply<u64>)>,
    readers: Closing,
    /// See [`super::PostgresLedger::outdated`].
    outdated: Arc<Notify>,
}

/// Starts the threads; the first has the connection that there is already.
pub fn start(
    address: &Arc<Address>,
    first: DatabaseSession,
    readers: Closing,
    options: &LedgerOptions,
    (me, keeps): (&Arc<ArcSwap<String>>, &Arc<AtomicBool>),
    outdated: &Arc<Notify>,
) -> Result<(Vec<mpsc::Sender<PostgresJob>>, watch::Receiver<LedgerHealth>), LedgerError> {
    let threads = address.connections().saturating_sub(READING).max(1);
    let (health, heard) = watch::channel(LedgerHealth::Ok);
    let board =
        Arc::new(WriterBoard { health, clock: options.clock.clone(), blocked: Mutex::new(vec![None; threads]) });
    let mut first = Some(first);
    let mut all = Vec::new();
    for number in 0..threads {
        let (jobs, jobs_out) = mpsc::channel();
        let writer = PostgresWriter {
            number,
            address: Arc::clone(address),
            session: first.take(),
            me: Arc::clone(me),
            keeps: Arc::clone(keeps),
            leases: HashMap::new(),
            jobs: jobs_out,
            board: Arc::clone(&board),
            waiting: VecDeque::new(),
            retry_at: None,
            looked_at: options.clock.now().mono,
            options: options.clone(),
            numbers: Numbers::default(),
            blanking: None,
            readers: readers.clone(),
            outdated: Arc::clone(outdated),
        };
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| address.unusable(&format!("no thread for it: {error}")))?;
        all.push(jobs);
    }
    Ok((all, heard))
}

impl PostgresWriter {
    fn run(mut self) {
        loop {
            match self.next() {
                Ok(Some(PostgresJob::Blank { cutoff, reply })) => {
                    if let Some((_, earlier)) = self.blanking.replace((Blanking::before(cutoff), reply)) {
                        let _ = earlier.send(Ok(0));
                    }
                }
                Ok(Some(PostgresJob::Close { reply })) => return self.close(Some(reply)),
                Ok(Some(job)) => self.waiting.push_back(job),
                Ok(None) => {}
                Err(AllGone) => return self.close(None),
            }
            self.numbers.forget_old(self.now());
            if self.retry_at.is_none_or(|at| self.now() >= at) {
                self.write_waiting();
                self.look_while_idle();
            }
            self.blank_a_little();
        }
    }

    fn now(&self) -> Mono {
        self.options.clock.now().mono
    }

    /// Between two looks at the database if nothing is written.
    fn between_looks(&self) -> Duration {
        self.options.retry * 5
    }

    /// The next job; none if something else is due first.
    fn next(&self) -> Result<Option<PostgresJob>, AllGone> {
        if self.blanking.is_some() {
            return match self.jobs.try_recv() {
                Ok(job) => Ok(Some(job)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(AllGone),
            };
        }
        let at = self.retry_at.unwrap_or(self.looked_at + self.between_looks());
        match self.jobs.recv_timeout(at.since(self.now())) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(AllGone),
        }
    }

    fn write_waiting(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            match job {
                PostgresJob::Commit(mut commit) => match self.commit(&mut commit) {
                    Ok(result) => {
                        self.unblocked();
                        // Who asked may be gone; it is written all the same.
                        let _ = commit.reply.send(result);
                    }
                    Err(why) => {
                        self.waiting.push_front(PostgresJob::Commit(commit));
                        return self.blocked(why);
                    }
                },
                PostgresJob::Take { name, reply } => match self.take(&name) {
                    Ok(held) => {
                        self.unblocked();
                        let _ = reply.send(Ok(held));
                    }
                    Err(TransactionFailure::Fenced(holder)) => {
                        self.unblocked();
                        let _ = reply.send(Err(LedgerError::Fenced { holder }));
                    }
                    // Whoever starts an agent tries again by itself.
                    Err(TransactionFailure::Fault(fault)) => {
                        let why = why(fault);
                        let _ = reply.send(Err(self.address.unusable(&why)));
                        return self.blocked(why);
                    }
                },
                PostgresJob::Give { name, reply } => match self.give(&name) {
                    Ok(()) => {
                        self.unblocked();
                        let _ = reply.send(Ok(()));
                    }
                    Err(failure) => {
                        let why = failure.to_string();
                        let _ = reply.send(Err(self.address.unusable(&why)));
                        return self.blocked(why);
                    }
                },
                PostgresJob::Forget { name, epoch: forgotten } => {
                    if matches!(self.leases.get(&name), Some(Lease::Held { epoch, .. }) if *epoch == forgotten) {
                        self.leases.remove(&name);
                    }
                }
                PostgresJob::Blank { .. } | PostgresJob::Close { .. } => {}
            }
        }
    }

    /// Puts a batch on record. `Err`: not now.
    fn commit(&mut self, commit: &mut PostgresCommit) -> Result<Result<(), LedgerError>, String> {
        let begun = self.now();
        let mut apart = false;
        let mut collisions = 0;
        loop {
            let trouble = match self.write(commit, apart) {
                Ok(result) => {
                    (self.options.committed.0)(self.now().since(begun));
                    return Ok(result);
                }
                Err(trouble) => trouble,
            };
            self.numbers = Numbers::default();
            if let Some(session) = &self.session {
                session.rollback();
            }
            match trouble {
                TransactionFailure::Fenced(holder) => return Ok(Err(LedgerError::Fenced { holder })),
                TransactionFailure::Fault(EntryFault::Refused(_) | EntryFault::Answered { .. }) if !apart => {
                    apart = true
                }
                TransactionFailure::Fault(fault) => {
                    let collided = self.session.as_ref().is_some_and(DatabaseSession::collided);
                    if !collided || collisions == COLLISIONS_MAX {
                        return Err(why(fault));
                    }
                    collisions += 1;
                }
            }
        }
    }

    /// One transaction. `apart`: an entry that is refused takes only the intents of the batch with it, at the price of savepoints.
    fn write(
        &mut self,
        commit: &mut PostgresCommit,
        apart: bool,
    ) -> Result<Result<(), LedgerError>, TransactionFailure> {
        let mut held = Vec::with_capacity(commit.whose.len());
        for name in &commit.whose {
            let (me, epoch, seq) = self.hold(name)?;
            held.push((name.clone(), me, epoch, seq + 1));
        }
        stop_at::here(StopPoint::Batch);
        let session = connected(&mut self.session, &self.address, &mut self.numbers)?;
        session.begin("BEGIN")?;
        for (name, me, epoch, seq) in &held {
            match fence(session, me, name, *epoch, *seq)? {
                Fence::Open => {}
                Fence::Passed => {
                    // The whole batch is there: its leases were counted up together. But it may be here alone: a commit that was cut
                    // off while it waited for a standby is seen by everybody, and gone after a fail-over. What is committed after it
                    // is confirmed after it.
                    if !confirm(session, me, name, *epoch)? {
                        return Err(EntryFault::Blocked("the lease is somebody else's by now".to_owned()).into());
                    }
                    session.commit()?;
                    self.counted(&held);
                    let unsure = commit.unsure.take();
                    return unsure
                        .ok_or_else(|| EntryFault::Blocked("a lease was counted up by nobody".to_owned()).into());
                }
                Fence::Lost(by) => {
                    tracing::warn!(
                        event = events::LEASE_LOST,
                        lease = name,
                        by,
                        "another doorman took over: this one writes nothing more for it"
                    );
                    self.options.leases.fenced.fetch_add(1, Ordering::Relaxed);
                    self.leases.insert(name.clone(), Lease::Gone { holder: by.clone() });
                    return Err(TransactionFailure::Fenced(by));
                }
            }
        }
        let connection = Connection::Postgres(session);
        let outdated = head::outdated(session, &commit.batch)?;
        if apart {
            session.batch("SAVEPOINT batch")?;
        }
        let mut recorder = EntryWriter { connection, numbers: &mut self.numbers };
        let written = match &outdated {
            Some(_) => Ok(()),
            None => commit.batch.iter().try_for_each(|entry| recorder.record(entry)),
        };
        let result = match written {
            Ok(()) => match outdated {
                Some(error) => {
                    write_what_happened(session, &mut self.numbers, &commit.batch)?;
                    self.outdated.notify_one();
                    Err(error)
                }
                None => Ok(()),
            },
            Err(fault @ (EntryFault::Refused(_) | EntryFault::Answered { .. })) if apart => {
                session.batch("ROLLBACK TO batch")?;
                self.numbers = Numbers::default();
                write_what_happened(session, &mut self.numbers, &commit.batch)?;
                Err(match fault {
                    EntryFault::Answered { request, said } => LedgerError::Answered { request, said },
                    EntryFault::Refused(why) | EntryFault::Blocked(why) => LedgerError::Refused { why },
                })
            }
            Err(fault) => return Err(fault.into()),
        };
        // From here on it may be on record, whatever is heard of it.
        commit.unsure = Some(result.clone());
        stop_at::here(StopPoint::Commit);
        session.commit()?;
        self.counted(&held);
        Ok(result)
    }

    /// A database that is away is noticed even if nothing is to be written.
    fn look_while_idle(&mut self) {
        let due = self.now() >= self.looked_at + self.between_looks() || self.retry_at.is_some();
        if !self.waiting.is_empty() || !due {
            return;
        }
        self.looked_at = self.now();
        match connected(&mut self.session, &self.address, &mut self.numbers)
            .and_then(|session| session.batch("SELECT 1"))
        {
            Ok(()) => self.unblocked(),
            Err(failure) => self.blocked(failure.to_string()),
        }
    }

    fn blocked(&mut self, why: String) {
        self.retry_at = Some(self.now() + self.options.retry);
        self.board.say(self.number, Some(why));
    }

    fn unblocked(&mut self) {
        if self.retry_at.take().is_some() {
            self.board.say(self.number, None);
        }
    }

    /// One step of blanking, if that is going on.
    fn blank_a_little(&mut self) {
        let Some((mut blanking, reply)) = self.blanking.take() else { return };
        let step = connected(&mut self.session, &self.address, &mut self.numbers)
            .map_err(|failure| failure.to_string())
            .and_then(|session| blanking.step(Connection::Postgres(session)).map_err(|error| error.to_string()));
        match step {
            Ok(true) => {
                let _ = reply.send(Ok(blanking.count()));
            }
            Ok(false) => self.blanking = Some((blanking, reply)),
            Err(why) => {
                let _ = reply.send(Err(self.address.unusable(&why)));
            }
        }
    }

    fn close(mut self, reply: Option<Reply<()>>) {
        self.readers.close();
        self.write_waiting();
        let waiting = std::mem::take(&mut self.waiting);
        let why = self.board.blocked.lock().unwrap_or_else(PoisonError::into_inner)[self.number].clone();
        let unwritten = (!waiting.is_empty())
            .then(|| self.address.unusable(&format!("closed before it could be written: {}", why.unwrap_or_default())));
        for job in waiting {
            let Some(error) = unwritten.clone() else { continue };
            // Who asked may be gone.
            match job {
                PostgresJob::Commit(PostgresCommit { reply, .. }) | PostgresJob::Give { reply, .. } => {
                    drop(reply.send(Err(error)))
                }
                PostgresJob::Take { reply, .. } => drop(reply.send(Err(error))),
                PostgresJob::Forget { .. } | PostgresJob::Blank { .. } | PostgresJob::Close { .. } => {}
            }
        }
        if let Some(session) = self.session.as_ref().filter(|_| !self.keeps.load(Ordering::Relaxed)) {
            for (name, lease) in &self.leases {
                let Lease::Held { me, .. } = lease else { continue };
                if let Err(error) = give(session, me, name) {
                    tracing::debug!(%error, "the leases stay in this process's name");
                    break;
                }
            }
        }
        drop(self.session.take());
        if let Some(reply) = reply {
            let _ = reply.send(unwritten.map_or(Ok(()), Err));
        }
    }
}

/// All handles were dropped.
struct AllGone;

fn why(fault: EntryFault) -> String {
    match fault {
        EntryFault::Blocked(why) | EntryFault::Refused(why) => why,
        EntryFault::Answered { request, .. } => format!("request {request} was answered"),
    }
}

/// The connection, made again if it is gone. Then it may lead to another server, which may have lost the newest rows and given their
/// numbers to others.
fn connected<'a>(
    session: &'a mut Option<DatabaseSession>,
    address: &Address,
    numbers: &mut Numbers,
) -> Result<&'a DatabaseSession, DatabaseFailure> {
    if session.as_ref().is_none_or(DatabaseSession::is_broken) {
        *session = None;
        *numbers = Numbers::default();
    }
    match session {
        Some(session) => Ok(session),
        None => match address.connect(ConnectionPurpose::Write) {
            Ok(new) => Ok(session.insert(new)),
            Err(LedgerError::Unusable { why, .. }) => Err(DatabaseFailure::Lost(why)),
            Err(error) => Err(DatabaseFailure::Lost(error.to_string())),
        },
    }
}

/// Of a batch with an entry that was refused, all that tells what happened: only what was about to happen, the intents,
/// is left out, and does not.
fn write_what_happened(session: &DatabaseSession, numbers: &mut Numbers, batch: &[Record]) -> Result<(), EntryFault> {
    for entry in batch.iter().filter(|entry| !matches!(entry, Record::Intent { .. })) {
        session.batch("SAVEPOINT entry")?;
        match (EntryWriter { connection: Connection::Postgres(session), numbers }).record(entry) {
            Ok(()) => {}
            Err(EntryFault::Refused(_) | EntryFault::Answered { .. }) => {
                session.batch("ROLLBACK TO entry")?;
                *numbers = Numbers::default();
            }
            Err(fault) => return Err(fault),
        }
        session.batch("RELEASE entry")?;
    }
    Ok(())
}
