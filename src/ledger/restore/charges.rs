//! The places that answers have taken in limits.

use jiff::Timestamp;

use super::{Load, parsed, time};
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::sql::{self, TextColumn as _, params};
use crate::model::Outcome;
use crate::policy::Charge;
use crate::policy::state::{ChargeEnd, ChargeRow};

impl Load<'_> {
    /// The charges since then, oldest first; of each its request if they are `merged`, and otherwise only of answers that are not
    /// certain. Those are few and have indexes of their own: the others cost a look at the charge alone.
    pub(super) fn charges(&self, since: Timestamp, merged: bool) -> sql::Result<Vec<ChargeRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.rule, c.bucket, c.at, r.id, r.id_reused = 0,
                 CASE WHEN r.n IS NOT NULL THEN (SELECT w.outcome FROM answer w WHERE w.request = r.n ORDER BY w.n DESC LIMIT 1) END
             FROM charge c LEFT JOIN request r ON r.n = CASE WHEN CAST(?3 AS bigint) = 1
                 OR c.request IN (SELECT request FROM answer INDEXED BY answer_open
                     WHERE agent = ?1 AND (outcome IS NULL OR outcome = 'unknown'))
                 OR c.request IN (SELECT request FROM answer INDEXED BY answer_uncertain
                     WHERE agent = ?1 AND outcome <> 'approved' AND outcome <> 'rejected')
                 THEN c.request END
             WHERE c.agent = ?1 AND c.at >= ?2 ORDER BY c.at",
        )?;
        let mut rows = statement.query(params![self.agent, Micros(since), i64::from(merged)])?;
        let mut charges: Vec<ChargeRow> = Vec::new();
        while let Some(row) = rows.next()? {
            let (rule, bucket) = (row.get_ref(0)?.text()?, row.get_ref(1)?.text()?);
            // Neighbours are usually of the same limit, and share its names.
            let known = charges.last().map(|last| &last.charge);
            let charge = match known.filter(|known| known.rule.as_str() == rule && *known.bucket == *bucket) {
                Some(known) => known.clone(),
                None => Charge { rule: parsed(&row, 0)?, bucket: bucket.into() },
            };
            let request = row.get::<_, Option<Parsed<_>>>(3)?.map(|Parsed(id)| id);
            let end = match &request {
                None => ChargeEnd::Confirmed,
                Some(_) => {
                    let outcome = row.get_ref(5)?.text_or_null()?;
                    let open = row.get(4)? && outcome.is_none_or(|outcome| outcome == Outcome::Unknown.as_str());
                    ChargeEnd::of(open, matches!(outcome.and_then(Outcome::parse), Some(Outcome::Confirmed(_))))
                }
            };
            charges.push(ChargeRow { request, charge, at: time(&row, 2)?, end });
        }
        Ok(charges)
    }
}
