//! A lease: the row that says which doorman writes for an agent, in which epoch, and how many batches are on record in it.

use std::sync::Arc;

use super::DatabaseFailure;
use super::session::DatabaseSession;
use crate::ledger::record::EntryFault;
use crate::ledger::sql::{Connection, params};

/// A lease, as this process knows it.
#[derive(Debug, Clone)]
pub(super) enum Lease {
    Held {
        /// The life of this process that took it.
        me: Arc<String>,
        epoch: i64,
        /// Batches on record in this epoch.
        seq: i64,
    },
    /// It is written by somebody else, or was given: nothing more is written for it until it is taken again.
    Gone { holder: String },
}

/// What the lease's row says to a transaction.
pub(super) enum Fence {
    /// Go on.
    Open,
    /// This very batch is on record.
    Passed,
    /// Somebody else has the lease; the name of their doorman.
    Lost(String),
}

/// What came of taking a lease.
pub(super) enum TakeOutcome {
    /// It is ours, in this epoch; and the name of whose doorman it was, if it was anybody's.
    Ours { epoch: i64, from: Option<String> },
    /// A member that lives has it, or this process may take nothing.
    Theirs(String),
}

/// What came of giving a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveOutcome {
    Given,
    /// It was not this process's any more.
    NotOurs,
    /// A transaction of somebody else keeps its row locked.
    Locked,
}

/// The name of nobody.
const NOBODY: &str = "nobody";
/// A holder for people: the name of its doorman.
const HOLDER: &str = "SELECT coalesce((SELECT m.name FROM member m WHERE m.id = l.holder), l.holder), l.epoch, l.seq, l.holder FROM lease l WHERE l.name = ?1";

/// The first statement of a transaction. It waits for whoever has the row, and then sees what they did.
pub(super) fn fence(
    session: &DatabaseSession,
    me: &str,
    name: &str,
    epoch: i64,
    seq: i64,
) -> Result<Fence, EntryFault> {
    let connection = Connection::Postgres(session);
    let counted = connection
        .prepare_cached("UPDATE lease SET seq = ?4 WHERE name = ?1 AND holder = ?2 AND epoch = ?3 AND seq = ?4 - 1")?
        .execute(params![name, me, epoch, seq])?;
    if counted > 0 {
        return Ok(Fence::Open);
    }
    let (shown, e, s, holder) = connection.query_row(HOLDER, [name], |row| {
        let id: Option<String> = row.get(3)?;
        Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, id))
    })?;
    if holder.as_deref() == Some(me) && e == epoch && s == seq {
        return Ok(Fence::Passed);
    }
    Ok(Fence::Lost(shown.unwrap_or_else(|| NOBODY.to_owned())))
}

/// Writes, without a change, so that the commit of this transaction waits for what all before it had to wait for. `false`: it is
/// somebody else's by now.
pub(super) fn confirm(session: &DatabaseSession, me: &str, name: &str, epoch: i64) -> Result<bool, EntryFault> {
    let written = Connection::Postgres(session)
        .prepare_cached("UPDATE lease SET seq = seq WHERE name = ?1 AND holder = ?2 AND epoch = ?3")?
        .execute(params![name, me, epoch])?;
    Ok(written > 0)
}

/// Takes a lease that nobody has, or somebody who is dead. One that a transaction keeps locked is somebody's for now: it holds up no
/// other. Twice is no harm: the epoch is another one then.
pub(super) fn take(session: &DatabaseSession, me: &str, name: &str) -> Result<TakeOutcome, EntryFault> {
    let connection = Connection::Postgres(session);
    session.begin("BEGIN")?;
    // Not tried if the row is there: the insert would wait for whoever is changing it.
    let sql = "INSERT INTO lease (name) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM lease WHERE name = ?1) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute([name])?;
    let taken: Vec<(i64, Option<String>)> = connection
        .prepare_cached(
            "WITH free AS (
                 SELECT l.name, coalesce(m.name, l.holder) AS was FROM lease l LEFT JOIN member m ON m.id = l.holder
                 WHERE l.name = ?1 AND (l.holder IS NULL OR l.holder = ?2 OR m.id IS NULL OR m.state = 'dead')
                   AND EXISTS (SELECT 1 FROM member w WHERE w.id = ?2 AND w.state = 'up')
                 FOR UPDATE OF l SKIP LOCKED)
             UPDATE lease l SET holder = ?2, epoch = l.epoch + 1, seq = 0 FROM free WHERE l.name = free.name
             RETURNING l.epoch, free.was",
        )?
        .query_map(params![name, me], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let holder: Option<String> = match taken.is_empty() {
        true => connection.query_row(HOLDER, [name], |row| row.get(0))?,
        false => None,
    };
    session.commit()?;
    Ok(match taken.into_iter().next() {
        Some((epoch, from)) => TakeOutcome::Ours { epoch, from },
        None => TakeOutcome::Theirs(holder.unwrap_or_else(|| NOBODY.to_owned())),
    })
}

/// Drained, of our own will: whoever comes next takes it from nobody. One that a transaction keeps locked is not waited for.
pub(super) fn give(session: &DatabaseSession, me: &str, name: &str) -> Result<GiveOutcome, DatabaseFailure> {
    let connection = Connection::Postgres(session);
    let given = || {
        let given = connection
            .prepare_cached(
                "WITH mine AS (SELECT name FROM lease WHERE name = ?1 AND holder = ?2 FOR UPDATE SKIP LOCKED)
                 UPDATE lease l SET holder = NULL, epoch = l.epoch + 1, seq = 0 FROM mine WHERE l.name = mine.name",
            )?
            .execute(params![name, me])?;
        if given > 0 {
            return Ok(GiveOutcome::Given);
        }
        let ours = "SELECT EXISTS (SELECT 1 FROM lease WHERE name = ?1 AND holder = ?2)";
        let ours: bool = connection.query_row(ours, params![name, me], |row| row.get(0))?;
        Ok(if ours { GiveOutcome::Locked } else { GiveOutcome::NotOurs })
    };
    given().map_err(|error: crate::ledger::sql::Error| DatabaseFailure::Lost(error.to_string()))
}
