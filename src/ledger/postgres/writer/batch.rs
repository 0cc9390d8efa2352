//! One batch is one transaction, fenced by the leases that it needs.

use std::sync::atomic::Ordering;

use super::{PostgresCommit, PostgresWriter, connected};
use crate::ledger::LedgerError;
use crate::ledger::postgres::head;
use crate::ledger::postgres::lease::{Fence, Lease, confirm, fence};
use crate::ledger::postgres::session::DatabaseSession;
use crate::ledger::record::{EntryFault, Numbers};
use crate::ledger::sql::{Connection, Statements};
use crate::ledger::writing::{write_batch, write_what_happened};
use crate::ops::log::events;
use crate::ops::stop_at::{self, StopPoint};

/// Tries of a transaction that met another one, before that counts as trouble.
const COLLISIONS_MAX: u32 = 8;

/// What is in the way of a transaction.
pub(super) enum TransactionFailure {
    /// The lease is somebody else's.
    Fenced(String),
    Fault(EntryFault),
}

impl<T: Into<EntryFault>> From<T> for TransactionFailure {
    fn from(fault: T) -> Self {
        TransactionFailure::Fault(fault.into())
    }
}

impl PostgresWriter {
    /// Puts a batch on record. `Err`: not now.
    pub(super) fn commit(&mut self, commit: &mut PostgresCommit) -> Result<Result<(), LedgerError>, String> {
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
                        return Err(fault.why());
                    }
                    collisions += 1;
                }
            }
        }
    }

    /// One transaction. For `apart`, see [`write_batch`].
    fn write(
        &mut self,
        commit: &mut PostgresCommit,
        apart: bool,
    ) -> Result<Result<(), LedgerError>, TransactionFailure> {
        let mut used = Vec::with_capacity(commit.whose.len());
        for name in &commit.whose {
            let (me, epoch, seq) = self.lease_for(name)?;
            used.push((name.clone(), me, epoch, seq + 1));
        }
        stop_at::here(StopPoint::Batch);
        let session = connected(&mut self.session, &self.address, &mut self.numbers)?;
        session.begin("BEGIN")?;
        for (name, me, epoch, seq) in &used {
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
                    self.counted(&used);
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
        let mut statements = Statements::of(Connection::Postgres(session));
        let result = match head::outdated(session, &commit.batch)? {
            Some(error) => {
                write_what_happened(&mut statements, &mut self.numbers, &commit.batch)?;
                self.outdated.notify_one();
                Err(error)
            }
            None => write_batch(&mut statements, &mut self.numbers, &commit.batch, apart)?,
        };
        drop(statements);
        // From here on it may be on record, whatever is heard of it.
        commit.unsure = Some(result.clone());
        stop_at::here(StopPoint::Commit);
        session.commit()?;
        self.counted(&used);
        Ok(result)
    }
}
