//! What the writers of both engines share: how they wait for jobs, and how a batch with a refused entry is written.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::record::{EntryFault, EntryWriter, Numbers};
use super::sql::Statements;
use super::{LedgerError, Record};

/// The channel for the result of a job. Whoever waits for it may be gone; the job is done all the same.
pub type JobReply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// All handles of the ledger were dropped.
#[derive(Debug)]
pub struct HandlesDropped;

/// The next job, or `None` if none came within `wait`. Without `wait`, only a job that is there already.
pub fn next_job<J>(jobs: &Receiver<J>, wait: Option<Duration>) -> Result<Option<J>, HandlesDropped> {
    let Some(wait) = wait else {
        return match jobs.try_recv() {
            Ok(job) => Ok(Some(job)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(HandlesDropped),
        };
    };
    match jobs.recv_timeout(wait) {
        Ok(job) => Ok(Some(job)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(HandlesDropped),
    }
}

/// Writes a batch, inside a transaction. `apart`: a refused entry prevents only the intents of its own batch, which is
/// the inner error, at the cost of savepoints. Otherwise it prevents the whole transaction.
pub fn write_batch(
    statements: &mut Statements<'_>,
    numbers: &mut Numbers,
    batch: &[Record],
    apart: bool,
) -> Result<Result<(), LedgerError>, EntryFault> {
    let connection = statements.connection();
    if apart {
        connection.batch("SAVEPOINT batch")?;
    }
    let mut writer = EntryWriter { statements, numbers };
    let written = match batch.iter().try_for_each(|entry| writer.record(entry)) {
        Ok(()) => Ok(()),
        Err(fault @ (EntryFault::Refused(_) | EntryFault::Answered { .. })) if apart => {
            connection.batch("ROLLBACK TO batch")?;
            *numbers = Numbers::default();
            write_what_happened(statements, numbers, batch)?;
            Err(fault.into_error())
        }
        Err(fault) => return Err(fault),
    };
    if apart {
        connection.batch("RELEASE batch")?;
    }
    Ok(written)
}

/// From a batch with a refused entry, writes everything that has already happened. The intents, which have not happened
/// yet, are left out, so they do not happen.
pub fn write_what_happened(
    statements: &mut Statements<'_>,
    numbers: &mut Numbers,
    batch: &[Record],
) -> Result<(), EntryFault> {
    let connection = statements.connection();
    for entry in batch.iter().filter(|entry| !matches!(entry, Record::Intent { .. })) {
        connection.batch("SAVEPOINT entry")?;
        match (EntryWriter { statements, numbers }).record(entry) {
            Ok(()) => {}
            Err(EntryFault::Refused(_) | EntryFault::Answered { .. }) => {
                connection.batch("ROLLBACK TO entry")?;
                *numbers = Numbers::default();
            }
            Err(fault) => return Err(fault),
        }
        connection.batch("RELEASE entry")?;
    }
    Ok(())
}
