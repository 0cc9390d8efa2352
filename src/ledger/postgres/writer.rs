//! The threads that write, each with a connection of its own. An agent has always the same thread, so its batches stay in order.
//!
//! A batch is one transaction, and its first statement counts the agent's lease up by one, for this holder, this epoch and the number
//! before. That one row says three things: whoever lost the lease writes nothing; batches come in order; and a batch whose commit was
//! confirmed to nobody is found to be there, and not written twice.

mod batch;
mod board;
mod leases;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::address::ConnectionPurpose;
use super::lease::{GiveOutcome, Lease, give};
use super::readers::Closing;
use super::session::DatabaseSession;
use super::{Address, DatabaseFailure};
use crate::clock::Mono;
use crate::ledger::blank::Blanking;
use crate::ledger::record::Numbers;
use crate::ledger::sql::Connection;
use crate::ledger::writing::{HandlesDropped, JobReply, next_job};
use crate::ledger::{LedgerError, LedgerHealth, LedgerOptions, Record};

pub use leases::TakenLease;

use batch::TransactionFailure;
use board::WriterBoard;

/// Connections that read.
const READING: usize = 2;

/// A batch and who waits for it.
pub struct PostgresCommit {
    pub batch: Vec<Record>,
    /// The leases that it needs; the first says which thread.
    pub whose: Vec<String>,
    pub reply: JobReply<()>,
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
        reply: JobReply<TakenLease>,
    },
    /// The lease is asked for again before anything more is done under it, unless it is another one by now.
    Forget {
        name: String,
        epoch: i64,
    },
    Give {
        name: String,
        reply: JobReply<()>,
    },
    Blank {
        cutoff: Timestamp,
        reply: JobReply<u64>,
    },
    Close {
        reply: JobReply<()>,
    },
}

/// The leases that a batch needs: its agents', and those of the targets of its messages.
pub fn whose(batch: &[Record]) -> Vec<String> {
    let names: BTreeSet<String> = batch.iter().map(Record::whose).collect();
    names.into_iter().collect()
}

/// Which of this number of threads writes for a name.
pub fn thread_of(name: &str, threads: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    usize::try_from(hasher.finish() % threads.max(1) as u64).unwrap_or(0)
}

/// Why a lease cannot be given at once.
const LOCKED: &str = "a transaction keeps the lease's row locked";

struct PostgresWriter {
    number: usize,
    address: Arc<Address>,
    session: Option<DatabaseSession>,
    /// Names this life of this process; another one after the others thought it was dead.
    me: Arc<ArcSwap<String>>,
    /// Whether the leases stay in this process's name when it ends.
    keeps: Arc<AtomicBool>,
    leases: HashMap<String, Lease>,
    /// Those that were to be given, and could not be yet.
    to_give: BTreeSet<String>,
    /// When that is tried again.
    give_at: Mono,
    options: LedgerOptions,
    jobs: mpsc::Receiver<PostgresJob>,
    board: Arc<WriterBoard>,
    waiting: VecDeque<PostgresJob>,
    /// While blocked: not before this.
    retry_at: Option<Mono>,
    looked_at: Mono,
    numbers: Numbers,
    blanking: Option<(Blanking, JobReply<u64>)>,
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
            to_give: BTreeSet::new(),
            give_at: options.clock.now().mono,
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
                Err(HandlesDropped) => return self.close(None),
            }
            self.numbers.forget_old(self.now());
            if self.retry_at.is_none_or(|at| self.now() >= at) {
                self.write_waiting();
                self.look_while_idle();
                self.give_while_idle();
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
    fn next(&self) -> Result<Option<PostgresJob>, HandlesDropped> {
        let mut at = self.retry_at.unwrap_or(self.looked_at + self.between_looks());
        if self.retry_at.is_none() && !self.to_give.is_empty() {
            at = at.min(self.give_at);
        }
        next_job(&self.jobs, self.blanking.is_none().then(|| at.since(self.now())))
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
                        let why = fault.why();
                        let _ = reply.send(Err(self.address.unusable(&why)));
                        return self.blocked(why);
                    }
                },
                PostgresJob::Give { name, reply } => match self.give(name) {
                    Ok(given) => {
                        self.unblocked();
                        let _ = reply.send(match given {
                            GiveOutcome::Given | GiveOutcome::NotOurs => Ok(()),
                            GiveOutcome::Locked => {
                                self.give_at = self.now() + self.options.retry;
                                Err(self.address.unusable(&LOCKED))
                            }
                        });
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
            Ok(()) => {
                self.unblocked();
                self.numbers.forget_requests();
            }
            Err(failure) => self.blocked(failure.to_string()),
        }
    }

    /// What could not be given before.
    fn give_while_idle(&mut self) {
        if self.to_give.is_empty() || self.now() < self.give_at || self.retry_at.is_some() {
            return;
        }
        self.give_at = self.now() + self.options.retry;
        if let Err(failure) = self.give_late() {
            self.blocked(failure.to_string());
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

    fn close(mut self, reply: Option<JobReply<()>>) {
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
                match give(session, me, name) {
                    Ok(GiveOutcome::Given | GiveOutcome::NotOurs) => {}
                    Ok(GiveOutcome::Locked) => {
                        tracing::debug!(lease = name, "{LOCKED}: it stays in this process's name")
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the leases stay in this process's name");
                        break;
                    }
                }
            }
        }
        drop(self.session.take());
        if let Some(reply) = reply {
            let _ = reply.send(unwritten.map_or(Ok(()), Err));
        }
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
