//! The thread that writes. Batches that wait at the same time share one transaction; while the file cannot be written
//! they are kept, in order, and tried again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::checkpoint::Checkpoints;
use super::ledger_files::{LedgerFiles, Misplaced};
use super::readers::Readers;
use super::{LedgerError, LedgerHealth, LedgerOptions, Record};
use crate::clock::Mono;
use crate::ledger::blank::Blanking;
use crate::ledger::record::{EntryFault, Numbers};
use crate::ledger::sql::Statements;
use crate::ledger::writing::{HandlesDropped, JobReply, next_job, write_batch};

/// Most batches and entries of one transaction, so that the first of them does not wait for ever.
const GROUP_BATCHES_MAX: usize = 256;
const GROUP_ENTRIES_MAX: usize = 4096;

/// A batch and who waits for it.
pub struct SqliteCommit {
    pub batch: Vec<Record>,
    pub reply: JobReply<()>,
    /// Released when the batch is done.
    pub _room: OwnedSemaphorePermit,
}

/// A job for the writer.
pub enum SqliteJob {
    Commit(SqliteCommit),
    Blank { cutoff: Timestamp, reply: JobReply<u64> },
    Close { reply: JobReply<()> },
}

struct SqliteWriter {
    connection: Connection,
    path: PathBuf,
    files: LedgerFiles,
    options: LedgerOptions,
    jobs: mpsc::Receiver<SqliteJob>,
    health: watch::Sender<LedgerHealth>,
    waiting: VecDeque<SqliteCommit>,
    /// The next try while blocked.
    retry_at: Option<Mono>,
    numbers: Numbers,
    blanking: Option<(Blanking, JobReply<u64>)>,
    checkpoints: Checkpoints,
    /// Ended before the file is closed, so that the last connection takes the log away.
    readers: Readers,
    /// When the files were last looked at.
    looked_at: Mono,
}

/// Starts the thread.
pub fn start(
    path: &Path,
    connection: Connection,
    readers: Readers,
    files: LedgerFiles,
    options: LedgerOptions,
    jobs: mpsc::Receiver<SqliteJob>,
    health: watch::Sender<LedgerHealth>,
) -> Result<(), LedgerError> {
    let unusable = |why: String| LedgerError::Unusable { path: path.display().to_string(), why };
    let checkpoints = Checkpoints::start(path)?;
    let writer = SqliteWriter {
        connection,
        path: path.to_owned(),
        files,
        looked_at: options.clock.now().mono,
        options,
        jobs,
        health,
        waiting: VecDeque::new(),
        retry_at: None,
        numbers: Numbers::default(),
        blanking: None,
        checkpoints,
        readers,
    };
    std::thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || writer.run())
        .map(drop)
        .map_err(|error| unusable(format!("no thread for it: {error}")))
}

impl SqliteWriter {
    fn run(mut self) {
        loop {
            let mut job = match self.next() {
                Ok(job) => job,
                Err(HandlesDropped) => return self.close(None),
            };
            self.numbers.forget_old(self.now());
            // Batches that came meanwhile share the transaction, up to the first job of another kind.
            while let Some(SqliteJob::Commit(commit)) = job {
                self.waiting.push_back(commit);
                job = if self.waiting.len() < GROUP_BATCHES_MAX { self.jobs.try_recv().ok() } else { None };
            }
            if self.retry_at.is_none_or(|at| self.now() >= at) {
                self.write_waiting();
                self.look_while_idle();
            }
            match job {
                None | Some(SqliteJob::Commit(_)) => {}
                Some(SqliteJob::Blank { cutoff, reply }) => {
                    if let Some((_, earlier)) = self.blanking.replace((Blanking::before(cutoff), reply)) {
                        let _ = earlier.send(Ok(0));
                    }
                }
                Some(SqliteJob::Close { reply }) => return self.close(Some(reply)),
            }
            self.blank_a_little();
        }
    }

    fn now(&self) -> Mono {
        self.options.clock.now().mono
    }

    /// The next job; none if something else is due first.
    fn next(&self) -> Result<Option<SqliteJob>, HandlesDropped> {
        let at = self.retry_at.unwrap_or(self.looked_at + self.between_looks());
        next_job(&self.jobs, self.blanking.is_none().then(|| at.since(self.now())))
    }

    /// Writes everything that waits, group by group, until the file will not.
    fn write_waiting(&mut self) {
        while !self.waiting.is_empty() {
            let mut entries = 0;
            let group = self
                .waiting
                .iter()
                .take(GROUP_BATCHES_MAX)
                .take_while(|commit| {
                    let first = entries == 0;
                    entries += commit.batch.len();
                    first || entries <= GROUP_ENTRIES_MAX
                })
                .count();
            let begun = self.now();
            let written = match self.write(group, false) {
                Err(EntryFault::Refused(_) | EntryFault::Answered { .. }) => self.write(group, true),
                other => other,
            };
            match written {
                Ok(results) => {
                    (self.options.committed.0)(self.now().since(begun));
                    self.unblocked();
                    for (commit, result) in self.waiting.drain(..group).zip(results) {
                        // The caller may be gone; the batch is written all the same.
                        let _ = commit.reply.send(result);
                    }
                    self.checkpoints.after_commit(&self.connection, entries);
                }
                Err(fault) => return self.blocked(fault.why()),
            }
        }
    }

    /// One transaction with the first `group` batches. For `apart`, see [`write_batch`].
    fn write(&mut self, group: usize, apart: bool) -> Result<Vec<Result<(), LedgerError>>, EntryFault> {
        let written = self.write_in_transaction(group, apart);
        if written.is_err() {
            self.numbers = Numbers::default();
        }
        written
    }

    fn write_in_transaction(&mut self, group: usize, apart: bool) -> Result<Vec<Result<(), LedgerError>>, EntryFault> {
        self.check_unmoved().map_err(EntryFault::Blocked)?;
        if let Some(pages) = &self.options.pages_max {
            let pages = match pages.load(Ordering::Relaxed) {
                0 => 0x7fff_ffff,
                pages => pages,
            };
            self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        }
        self.statement("BEGIN IMMEDIATE")?;
        let written = self.write_group(group, apart);
        if written.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::debug!(%error, "a transaction was not rolled back");
        }
        written
    }

    fn write_group(&mut self, group: usize, apart: bool) -> Result<Vec<Result<(), LedgerError>>, EntryFault> {
        let mut results = Vec::with_capacity(group);
        let mut statements = Statements::of((&self.connection).into());
        for commit in self.waiting.iter().take(group) {
            results.push(write_batch(&mut statements, &mut self.numbers, &commit.batch, apart)?);
        }
        drop(statements);
        self.statement("COMMIT")?;
        Ok(results)
    }

    /// Runs a statement that is compiled once: rusqlite's own transactions compile theirs each time.
    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Between two looks at the files if nothing is written.
    fn between_looks(&self) -> Duration {
        self.options.retry * 5
    }

    /// Notices deleted or replaced files even if there is nothing to write.
    fn look_while_idle(&mut self) {
        let due = self.now() >= self.looked_at + self.between_looks() || self.retry_at.is_some();
        if !self.waiting.is_empty() || !due {
            return;
        }
        match self.check_unmoved() {
            Ok(()) => {
                self.unblocked();
                self.forget_flood();
            }
            Err(why) => self.blocked(why),
        }
    }

    /// Gives back what the last requests took, if nothing is written any more.
    fn forget_flood(&mut self) {
        self.numbers.forget_requests();
        self.connection
            .release_memory()
            .unwrap_or_else(|error| tracing::debug!(%error, "the cache was not given back"));
    }

    /// Writes to files that were deleted or replaced under an open ledger would never be read.
    fn check_unmoved(&mut self) -> Result<(), String> {
        self.looked_at = self.now();
        self.files.check().map_err(|misplaced| {
            if matches!(misplaced, Misplaced::Log(_)) {
                // Data that is only in the deleted log goes into the database while a process still has it open.
                self.checkpoints.rescue(&self.connection);
            }
            misplaced.why()
        })
    }

    fn blocked(&mut self, why: String) {
        self.retry_at = Some(self.now() + self.options.retry);
        let now = self.options.clock.now().wall;
        self.health.send_if_modified(|health| match health {
            LedgerHealth::Blocked { why: known, .. } if *known == why => false,
            LedgerHealth::Blocked { since, .. } => {
                *health = LedgerHealth::Blocked { why: why.clone(), since: *since };
                true
            }
            LedgerHealth::Ok => {
                *health = LedgerHealth::Blocked { why: why.clone(), since: now };
                true
            }
        });
    }

    fn unblocked(&mut self) {
        self.retry_at = None;
        self.health.send_if_modified(|health| {
            let was_blocked = *health != LedgerHealth::Ok;
            if was_blocked {
                *health = LedgerHealth::Ok;
            }
            was_blocked
        });
    }

    /// One step of blanking, if that is going on.
    fn blank_a_little(&mut self) {
        let Some((mut blanking, reply)) = self.blanking.take() else { return };
        match blanking.step((&self.connection).into()) {
            Ok(true) => {
                self.checkpoints.look(&self.connection);
                let _ = reply.send(Ok(blanking.count()));
            }
            Ok(false) => {
                self.checkpoints.look(&self.connection);
                self.blanking = Some((blanking, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(self.unusable(error.to_string())));
            }
        }
    }

    fn close(mut self, reply: Option<JobReply<()>>) {
        self.write_waiting();
        let why = match &*self.health.borrow() {
            LedgerHealth::Ok => None,
            LedgerHealth::Blocked { why, .. } => Some(why.clone()),
        };
        let unwritten = (!self.waiting.is_empty())
            .then(|| self.unusable(format!("closed before it could be written: {}", why.unwrap_or_default())));
        if let Some(error) = &unwritten {
            for commit in self.waiting.drain(..) {
                let _ = commit.reply.send(Err(error.clone()));
            }
        }
        self.checkpoints.stop();
        self.readers.stop();
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the ledger's log stays beside it");
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::debug!(%error, "the ledger did not close cleanly");
        }
        drop(self.files);
        if let Some(reply) = reply {
            let _ = reply.send(unwritten.map_or(Ok(()), Err));
        }
    }

    fn unusable(&self, why: String) -> LedgerError {
        LedgerError::Unusable { path: self.path.display().to_string(), why }
    }
}
