//! Whether the rules by which answers of a batch were decided are still the head of their name.

use std::sync::Arc;

use super::session::DatabaseSession;
use crate::ledger::record::EntryFault;
use crate::ledger::sql::Connection;
use crate::ledger::{LedgerError, Record};
use crate::policy::rules::Head;

/// What is in the way of this batch's intents; looked at after the fence.
///
/// A plain reading, which locks nothing. A head that comes after it was not pushed when this transaction began, and
/// `doorman policy push --wait` waits for the transaction to end.
pub(super) fn outdated(session: &DatabaseSession, batch: &[Record]) -> Result<Option<LedgerError>, EntryFault> {
    let mut good: Option<&Arc<Head>> = None;
    for entry in batch {
        let Record::Intent { head: Some(head), .. } = entry else { continue };
        if good.is_some_and(|good| Arc::ptr_eq(good, head) || good == head) {
            continue;
        }
        let version = newest(session, &head.name)?;
        if version != head.version {
            return Ok(Some(LedgerError::Outdated { name: head.name.to_string(), version }));
        }
        good = Some(head);
    }
    Ok(None)
}

/// The number of the head; 0 where nothing was pushed.
fn newest(session: &DatabaseSession, name: &str) -> Result<u64, EntryFault> {
    let sql = "SELECT coalesce(max(version), 0) FROM policy_version WHERE name = ?1";
    let version = Connection::Postgres(session).query_row(sql, [name], |row| row.get::<_, i64>(0))?;
    Ok(version.unsigned_abs())
}
