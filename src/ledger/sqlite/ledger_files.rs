//! Whether the ledger's files are still the ones that were opened. Others may delete or replace them while doorman
//! runs, and then nobody will ever read what is written.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::LedgerError;
use super::file::{FileIdentity, identity};
use super::lock::{Lock, beside};
use crate::ops::log::events;

/// The files of an open ledger.
#[derive(Debug)]
pub struct LedgerFiles {
    /// The path as given: if it is a link, the link may later point elsewhere.
    named: PathBuf,
    path: PathBuf,
    log: PathBuf,
    database: Option<FileIdentity>,
    /// The identity of the write-ahead log, from the first check on: SQLite creates it at the first use, and keeps it.
    of_log: Option<FileIdentity>,
    lock: Lock,
}

/// What is wrong with the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misplaced {
    /// The database.
    Database(String),
    /// The write-ahead log: only processes that have it open still see its contents.
    Log(String),
    /// The lock: another doorman may write.
    Lock(String),
}

impl Misplaced {
    /// For people.
    pub fn why(self) -> String {
        match self {
            Misplaced::Database(why) | Misplaced::Log(why) | Misplaced::Lock(why) => why,
        }
    }
}

impl LedgerFiles {
    /// Of a ledger that was just opened under this lock.
    pub fn new(named: &Path, path: &Path, lock: Lock) -> Self {
        let log = beside(path, "-wal");
        let (database, of_log) = (identity(path).ok(), identity(&log).ok());
        Self { named: named.to_owned(), path: path.to_owned(), database, of_log, log, lock }
    }

    /// Checks all of them. A lock whose file was deleted is taken again.
    pub fn check(&mut self) -> Result<(), Misplaced> {
        match identity(&self.named) {
            Ok(now) if Some(now) == self.database => {}
            Ok(_) => {
                let why = "another file is in its place: put it back, or restart doorman";
                return Err(Misplaced::Database(why.to_owned()));
            }
            Err(error) => {
                return Err(Misplaced::Database(format!("it is gone ({error}): put it back, or restart doorman")));
            }
        }
        match (identity(&self.log).ok(), self.of_log) {
            (now, None) => self.of_log = now,
            (Some(now), Some(known)) if now == known => {}
            (now, Some(_)) => {
                let how = if now.is_some() { "another file is in the place of" } else { "somebody deleted" };
                let why = format!("{how} its write-ahead log `{}`: restart doorman", self.log.display());
                return Err(Misplaced::Log(why));
            }
        }
        self.look_at_lock()
    }

    fn look_at_lock(&mut self) -> Result<(), Misplaced> {
        let beside = super::lock::lock_path(&self.path);
        if std::fs::metadata(&beside).is_ok_and(|found| self.lock.is(found.dev(), found.ino())) {
            return Ok(());
        }
        match Lock::take(&self.path) {
            Ok(lock) => {
                tracing::warn!(event = events::LEDGER_LOCK_REMADE, path = %beside.display(), "the ledger's lock file was gone: it was made again");
                self.lock = lock;
                Ok(())
            }
            Err(LedgerError::Locked { pid, .. }) => {
                let who = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                Err(Misplaced::Lock(format!(
                    "its lock file was deleted, and another doorman{who} has a new one: stop one"
                )))
            }
            Err(error) => Err(Misplaced::Lock(error.to_string())),
        }
    }
}
