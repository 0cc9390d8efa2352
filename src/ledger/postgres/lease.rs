//! A lease: the row that says which doorman writes for an agent, in which epoch, and how many batches are on record in it.

use std::collections::HashMap;

use super::Failure;
use super::session::Session;
use crate::ledger::record::Fault;
use crate::ledger::sql::{Connection, params};

/// A lease, as this process knows it.
#[derive(Debug, Clone)]
pub(super) enum Lease {
    Held {
        epoch: i64,
        /// Batches on record in this epoch.
        seq: i64,
    },
    /// It stays so until this process is started again, or two would take it from each other for ever.
    Lost { holder: String },
}

/// For people, which machine and process; for leases, which life of it.
#[expect(clippy::disallowed_methods, reason = "a shell: nobody else may have the name")]
pub(super) fn name_of_this_life() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    format!("{host} pid {} {}", std::process::id(), uuid::Uuid::new_v4())
}

/// What the lease's row says to a transaction.
pub(super) enum Fence {
    /// Go on.
    Open,
    /// This very batch is on record.
    Passed,
    /// Somebody else has the lease.
    Lost(String),
}

/// The first statement of a transaction. It waits for whoever has the row, and then sees what they did.
pub(super) fn fence(session: &Session, me: &str, name: &str, epoch: i64, seq: i64) -> Result<Fence, Fault> {
    let connection = Connection::Postgres(session);
    let counted = connection
        .prepare_cached("UPDATE lease SET seq = ?4 WHERE name = ?1 AND holder = ?2 AND epoch = ?3 AND seq = ?4 - 1")?
        .execute(params![name, me, epoch, seq])?;
    if counted > 0 {
        return Ok(Fence::Open);
    }
    let found = connection.query_row("SELECT holder, epoch, seq FROM lease WHERE name = ?1", [name], |row| {
        Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    match found {
        (Some(holder), e, s) if holder == me && e == epoch && s == seq => Ok(Fence::Passed),
        (holder, ..) => Ok(Fence::Lost(holder.unwrap_or_else(|| "nobody".to_owned()))),
    }
}

/// Takes the lease from whoever has it. Twice is no harm: the epoch is another one then.
pub(super) fn take(session: &Session, me: &str, name: &str) -> Result<(i64, Option<String>), Fault> {
    let connection = Connection::Postgres(session);
    session.begin("BEGIN")?;
    connection.prepare_cached("INSERT INTO lease (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
    let from = connection.query_row("SELECT holder FROM lease WHERE name = ?1 FOR UPDATE", [name], |row| row.get(0))?;
    let epoch = connection.query_row(
        "UPDATE lease SET holder = ?2, epoch = epoch + 1, seq = 0 WHERE name = ?1 RETURNING epoch",
        params![name, me],
        |row| row.get(0),
    )?;
    session.commit()?;
    Ok((epoch, from))
}

/// Drained, of our own will: whoever comes next takes it from nobody.
pub(super) fn give(session: &Session, me: &str, leases: &HashMap<String, Lease>) -> Result<(), Failure> {
    for (name, lease) in leases {
        let Lease::Held { epoch, .. } = lease else { continue };
        let given = Connection::Postgres(session)
            .prepare_cached(
                "UPDATE lease SET holder = NULL, epoch = epoch + 1, seq = 0 WHERE name = ?1 AND holder = ?2 AND epoch = ?3",
            )
            .and_then(|mut statement| statement.execute(params![name, me, epoch]));
        if let Err(error) = given {
            return Err(Failure::Lost(error.to_string()));
        }
    }
    Ok(())
}
