//! Whether the rules by which answers of a batch were decided are still the head of their name.

use super::session::DatabaseSession;
use crate::ledger::record::EntryFault;
use crate::ledger::sql::Connection;
use crate::ledger::{LedgerError, Record, pushed};

/// What is in the way of this batch's intents; looked at after the fence.
///
/// A plain reading, which locks nothing. A head that comes after it was not pushed when this transaction began, and
/// `doorman policy push --wait` waits for the transaction to end.
pub(super) fn outdated(session: &DatabaseSession, batch: &[Record]) -> Result<Option<LedgerError>, EntryFault> {
    pushed::outdated(batch, |name| newest(session, name))
}

/// The number of the head; 0 if nothing was pushed.
fn newest(session: &DatabaseSession, name: &str) -> Result<u64, EntryFault> {
    let sql = "SELECT coalesce(max(version), 0) FROM policy_version WHERE name = ?1";
    let version = Connection::Postgres(session).query_row(sql, [name], |row| row.get::<_, i64>(0))?;
    Ok(version.unsigned_abs())
}
