//! Messages to people, and their outcomes.

use jiff::Timestamp;

use super::{EntryFault, EntryWriter};
use crate::ledger::columns::{Micros, cut};
use crate::ledger::deliveries::{DeliveryEnd, DeliveryMark};
use crate::ledger::sql::params;

/// How many deliveries stay on record for each target; older ones that have ended are deleted.
const KEPT: i64 = 1000;

impl EntryWriter<'_, '_> {
    /// A message has to be delivered. The schema refuses it while another is on its way to the same target.
    pub(super) fn message(
        &mut self,
        target: &str,
        id: &str,
        body: &str,
        mark: &DeliveryMark,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        self.sql("INSERT INTO delivery (id, target, body, at, next_at) VALUES (?1, ?2, ?3, ?4, ?4)")?
            .execute(params![id, target, body, Micros(at)])?;
        let conditions =
            serde_json::to_string(&mark.conditions).map_err(|error| EntryFault::Refused(error.to_string()))?;
        self.sql(
            "INSERT INTO notify_mark (target, decision, overdue, conditions) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (target) DO UPDATE SET decision = excluded.decision, overdue = excluded.overdue,
                 conditions = excluded.conditions",
        )?
        .execute(params![target, mark.decision, mark.overdue, conditions])?;
        self.sql(
            "DELETE FROM delivery WHERE target = ?1 AND ended_at IS NOT NULL AND n <=
                 (SELECT n FROM delivery WHERE target = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![target, KEPT])?;
        Ok(())
    }

    /// A try has ended, and perhaps the delivery with it; its text goes then.
    pub(super) fn tried(
        &mut self,
        id: &str,
        attempts: u32,
        end: Option<DeliveryEnd>,
        next_at: Timestamp,
        why: Option<&str>,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let ended_at = end.map(|_| Micros(at));
        self.sql(
            "UPDATE delivery SET attempts = ?2, next_at = ?3, result = ?4, ended_at = ?5, why = ?6,
                 body = CASE WHEN CAST(?5 AS bigint) IS NULL THEN body END
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute(params![
            id,
            attempts,
            Micros(next_at),
            end.map(DeliveryEnd::as_str),
            ended_at,
            why.map(cut)
        ])?;
        Ok(())
    }
}
