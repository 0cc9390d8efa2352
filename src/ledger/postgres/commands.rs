//! The rows of `crate::ledger::commands`, on a connection of their own.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{NOW, PostgresLedger};
use crate::ledger::commands::{CommandAdded, CommandProgress, KEPT, NewCommand, OPEN_MAX, OpenCommand};
use crate::ledger::sql::{self, Connection, Optional as _, params};
use crate::ledger::{LedgerError, columns};

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands(PostgresLedger);

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl Commands {
    pub(super) fn new(ledger: PostgresLedger) -> Self {
        Self(ledger)
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Connection<'_>) -> sql::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let address = self.0.inner.address.clone();
        self.0.inner.commanding.ask(Box::new(move |connection| {
            let asked = connection.map_err(sql::Error::from).and_then(ask);
            // The asker may be gone; that is no matter here.
            let _ = reply.send(asked.map_err(|error| columns::read_error(address.shown(), &error)));
        }))?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Adds a command, unless too many are open. The same again, after an error, adds it once.
    ///
    /// # Errors
    /// The database cannot be asked: then the row may be there.
    pub async fn add(&self, new: NewCommand) -> Result<CommandAdded, LedgerError> {
        self.ask(move |connection| {
            connection
                .prepare_cached(&format!("DELETE FROM command WHERE made_at < {NOW} - ?1"))?
                .execute(params![micros(KEPT)])?;
            let sql = format!(
                "INSERT INTO command (id, lease, op, person, note, made_by, made_at, deadline)
                 SELECT CAST(?1 AS text), CAST(?2 AS text), CAST(?3 AS text), CAST(?4 AS text), CAST(?5 AS text), CAST(?6 AS text), {NOW}, {NOW} + ?7
                 WHERE (SELECT count(*) FROM command WHERE ended_at IS NULL AND deadline > {NOW}) < ?8
                 ON CONFLICT (id) DO NOTHING"
            );
            let added = connection.prepare_cached(&sql)?.execute(params![
                new.id,
                new.lease,
                new.op,
                new.person,
                new.note,
                new.made_by,
                micros(new.lasts),
                OPEN_MAX
            ])?;
            let is_there = |n: i64| if n > 0 { CommandAdded::Added } else { CommandAdded::Full };
            if added > 0 {
                return Ok(CommandAdded::Added);
            }
            let sql = "SELECT count(*) FROM command WHERE id = ?1";
            connection.query_row(sql, params![new.id], |row| row.get(0)).map(is_there)
        })
        .await
    }

    /// What became of a command.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn progress(&self, id: String) -> Result<CommandProgress, LedgerError> {
        self.ask(move |connection| {
            let found = connection
                .query_row("SELECT taken_by, reply FROM command WHERE id = ?1", params![id], |row| {
                    Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?))
                })
                .optional()?;
            Ok(match found {
                None => CommandProgress::Gone,
                Some((_, Some(reply))) => CommandProgress::Ended(reply),
                Some((Some(by), None)) => CommandProgress::Taken(by),
                Some((None, None)) => CommandProgress::Open,
            })
        })
        .await
    }

    /// Nobody has taken it, and nobody does any more: `true`. Else somebody was faster.
    ///
    /// # Errors
    /// The database cannot be asked: then it may be so.
    pub async fn withdraw(&self, id: String) -> Result<bool, LedgerError> {
        self.ask(move |connection| {
            let sql = "DELETE FROM command WHERE id = ?1 AND taken_epoch IS NULL AND ended_at IS NULL";
            Ok(connection.prepare_cached(sql)?.execute(params![id])? > 0)
        })
        .await
    }

    /// Its reply has arrived: nobody needs the row any more.
    ///
    /// # Errors
    /// The database cannot be asked: then the row goes later.
    pub async fn forget(&self, id: String) -> Result<(), LedgerError> {
        self.ask(move |connection| {
            connection.prepare_cached("DELETE FROM command WHERE id = ?1")?.execute(params![id])?;
            Ok(())
        })
        .await
    }

    /// The commands for agents that this life holds and that it may take now, oldest first. `again`: those that it has taken, and did
    /// not carry out.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn open(&self, again: Vec<String>) -> Result<Vec<OpenCommand>, LedgerError> {
        let me = self.0.inner.me.load_full();
        let again = serde_json::Value::from(again).to_string();
        self.ask(move |connection| {
            let sql = format!(
                "SELECT c.id, c.lease, c.op, c.person, c.note, c.made_by, c.taken_epoch
                 FROM command c JOIN lease l ON l.name = c.lease
                 WHERE c.ended_at IS NULL AND c.deadline > {NOW} AND l.holder = ?1
                   AND (c.taken_epoch IS NULL OR c.taken_epoch < l.epoch OR c.id IN (SELECT value FROM json_each(?2)))
                 ORDER BY c.n LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![me.as_str(), again, OPEN_MAX], |row| {
                Ok(OpenCommand {
                    id: row.get(0)?,
                    lease: row.get(1)?,
                    op: row.get(2)?,
                    person: row.get(3)?,
                    note: row.get(4)?,
                    made_by: row.get(5)?,
                    was_taken: row.get::<_, Option<i64>>(6)?.is_some(),
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// Takes a command, if this life holds its agent and the deadline is not over: the epoch in which it is taken. The lease's row stays
    /// locked until that is on record, so that whoever takes the lease afterwards sees it. `again`: this life took it, and did not carry
    /// it out.
    ///
    /// # Errors
    /// The database cannot be asked: then it may be taken.
    pub async fn take(&self, id: String, again: bool) -> Result<Option<i64>, LedgerError> {
        let me = self.0.inner.me.load_full();
        let name = self.0.inner.joining.name.clone();
        self.ask(move |connection| {
            let transaction = connection.begin()?;
            let epoch: Option<i64> = connection
                .query_row(
                    "SELECT l.epoch FROM lease l JOIN command c ON c.lease = l.name WHERE c.id = ?1 AND l.holder = ?2 FOR SHARE OF l",
                    params![id, me.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(epoch) = epoch else { return Ok(None) };
            let sql = format!(
                "UPDATE command SET taken_by = ?3, taken_epoch = ?2 WHERE id = ?1 AND ended_at IS NULL AND deadline > {NOW}
                   AND (taken_epoch IS NULL OR taken_epoch < ?2 OR (taken_epoch = ?2 AND ?4 = 1))"
            );
            let taken =
                connection.prepare_cached(&sql)?.execute(params![id, epoch, name, i64::from(again)])?;
            transaction.commit()?;
            Ok((taken > 0).then_some(epoch))
        })
        .await
    }

    /// Ends a command that was taken in this epoch with its reply, if nobody has taken it since.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn end(&self, id: String, epoch: i64, reply: String) -> Result<bool, LedgerError> {
        self.ask(move |connection| {
            let sql = format!(
                "UPDATE command SET reply = ?3, ended_at = {NOW} WHERE id = ?1 AND taken_epoch = ?2 AND ended_at IS NULL"
            );
            Ok(connection.prepare_cached(&sql)?.execute(params![id, epoch, reply])? > 0)
        })
        .await
    }
}
