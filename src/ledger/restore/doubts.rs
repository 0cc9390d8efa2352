//! What may have happened unseen: requests that ended nobody knows how, and contacts that were never recognised.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Load, parsed, time};
use crate::ledger::sql::{self, Optional as _, SqlRow, TextColumn as _, params};
use crate::model::{ContactId, Handle, RequestId};
use crate::policy::doubts::{Basis, DOUBTS_MAX, Doubt, Fact};

/// SQL that is true for a request `r` of agent ?1 that ended at `ended`, it is not known how: no person settled it, nobody else
/// let its sender in later (unless an answer of ours may have made that contact), and no person let its owner in.
fn unsettled(ended: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM settlement s WHERE s.agent = ?1 AND s.owner = r.owner
             AND s.request IN (SELECT n FROM request WHERE agent = ?1 AND id = r.id))
         AND NOT EXISTS (SELECT 1 FROM contact_owner o JOIN contact c ON c.n = o.contact
             WHERE o.agent = ?1 AND o.owner = r.owner AND c.request IS NULL AND c.handle = r.handle
                 AND coalesce(c.inserted_at, c.added_at) >= coalesce(r.inserted_at, r.first_seen)
                 AND NOT EXISTS (SELECT 1 FROM request q JOIN answer p ON p.request = q.n
                     WHERE q.owner = r.owner AND q.agent = ?1 AND p.answer = 'approve'
                         AND (p.outcome IS NULL OR p.outcome = 'unknown')))
         AND NOT EXISTS (SELECT 1 FROM request q JOIN answer p ON p.request = q.n
             WHERE q.owner = r.owner AND q.agent = ?1 AND p.answer = 'approve' AND p.\"by\" GLOB 'person:*'
                 AND p.outcome IN ('approved', 'presumed-approved') AND p.outcome_at >= {ended})"
    )
}

/// SQL that is true for a request `r` whose approval `w` is only presumed: a rule gave it, its fate was unknown, and neither
/// a contact nor a person says that it was approved.
pub(super) const PRESUMED: &str = "w.outcome = 'presumed-approved' AND w.lasts IS NULL AND w.\"by\" NOT GLOB 'person:*'
     AND NOT EXISTS (SELECT 1 FROM contact c WHERE c.request = r.n)
     AND NOT EXISTS (SELECT 1 FROM contact_owner o JOIN contact c ON c.n = o.contact
         WHERE o.agent = w.agent AND o.owner = r.owner AND c.handle = r.handle
             AND coalesce(c.removed_at, r.first_seen) >= r.first_seen)
     AND NOT EXISTS (SELECT 1 FROM settlement s WHERE s.agent = w.agent AND s.owner = r.owner AND s.said = 'approved'
         AND s.request = r.n)";

impl Load<'_> {
    /// Of these answers, which presumably rejected their requests, those of which nothing shows what they did: the platform
    /// did not report it, and nothing settles it as in [`Load::ended_unseen`].
    pub(super) fn perhaps_rejected(&self, answers: &[i64]) -> sql::Result<Vec<Doubt>> {
        let sql = format!(
            "SELECT r.owner, r.id, coalesce(r.inserted_at, r.first_seen), w.outcome_at, r.handle
             FROM answer w JOIN request r ON r.n = w.request
             WHERE r.agent = ?1 AND w.n = ?2 AND r.settled = 'rejected' AND r.elsewhere IS NULL AND {}",
            unsettled("w.outcome_at")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut doubts = Vec::new();
        for answer in answers.iter().take(DOUBTS_MAX) {
            let doubt = |row: &SqlRow<'_>| {
                let (owner, basis) = (row.get(0)?, Basis::PresumedRejected(parsed(row, 1)?));
                let (since, until) = (time(row, 2)?, Some(time(row, 3)?));
                let sender = row.get_ref(4)?.text_or_null()?.and_then(|handle| Handle::parse(handle).ok());
                Ok(Doubt { owner, sender, fact: Fact::Rejected, since, until, basis })
            };
            doubts.extend(statement.query_row(params![self.agent, answer], doubt).optional()?);
        }
        Ok(doubts)
    }

    /// Requests that ended since then in an unknown way. The end is known if the platform reported it, if a contact
    /// shows that somebody else let that sender in later (and no answer of ours may have made that contact), or if a
    /// person settled it, for the request or by letting the owner in. In addition, the requests that an answer of ours
    /// presumably approved, if no contact shows it.
    pub(super) fn ended_unseen(&self, since: Timestamp) -> sql::Result<Vec<Doubt>> {
        let sql = format!(
            "SELECT r.owner, r.settled, r.id, coalesce(r.inserted_at, r.first_seen), r.settled_at, r.handle FROM request r
             WHERE r.agent = ?1 AND r.settled_at >= ?2 AND r.elsewhere = 1 AND r.settled IN ('gone', 'elsewhere')
                 AND r.owner IS NOT NULL AND {}
             UNION ALL
             SELECT r.owner, 'presumed', r.id, coalesce(r.inserted_at, r.first_seen), w.outcome_at, r.handle
             FROM answer w INDEXED BY answer_presumed JOIN request r ON r.n = w.request
             WHERE w.agent = ?1 AND w.outcome_at >= ?2 AND w.outcome = 'presumed-approved' AND w.\"by\" NOT GLOB 'person:*'
                 AND r.owner IS NOT NULL
                 AND r.settled = 'approved' AND NOT EXISTS (SELECT 1 FROM contact c WHERE c.request = r.n)
                 AND NOT EXISTS (SELECT 1 FROM settlement s WHERE s.agent = ?1 AND s.owner = r.owner
                     AND s.request IN (SELECT n FROM request WHERE agent = ?1 AND id = r.id))
                 AND NOT EXISTS (SELECT 1 FROM contact_owner o JOIN contact c ON c.n = o.contact
                     WHERE o.agent = ?1 AND o.owner = r.owner AND c.request IS NULL AND c.handle = r.handle
                         AND coalesce(c.inserted_at, c.added_at) >= coalesce(r.inserted_at, r.first_seen))
                 AND NOT EXISTS (SELECT 1 FROM request q JOIN answer p ON p.request = q.n
                     WHERE q.owner = r.owner AND q.agent = ?1 AND p.answer = 'approve' AND p.\"by\" GLOB 'person:*'
                         AND p.outcome IN ('approved', 'presumed-approved') AND p.outcome_at >= w.outcome_at)
             ORDER BY 5 DESC LIMIT {DOUBTS_MAX}",
            unsettled("r.settled_at")
        );
        self.rows(&sql, Some(since), |row| {
            let request: RequestId = parsed(row, 2)?;
            let basis = match row.get_ref(1)?.text()? {
                "gone" => Basis::Vanished(request),
                "presumed" => Basis::Presumed(request),
                _ => Basis::SettledElsewhere(request),
            };
            let (owner, since, until) = (row.get(0)?, time(row, 3)?, Some(time(row, 4)?));
            let sender = row.get_ref(5)?.text_or_null()?.and_then(|handle| Handle::parse(handle).ok());
            Ok(Doubt { owner, sender, fact: Fact::Rejected, since, until, basis })
        })
    }

    /// Requests that an answer of ours presumably approved, if nothing shows that they were and nobody says how they ended.
    pub(super) fn presumed(&self) -> sql::Result<Vec<Doubt>> {
        let sql = format!(
            "SELECT r.owner, r.id, coalesce(r.inserted_at, r.first_seen), r.handle
             FROM answer w INDEXED BY answer_presumed JOIN request r ON r.n = w.request
             WHERE w.agent = ?1 AND {PRESUMED} AND r.owner IS NOT NULL AND r.settled = 'approved'
                 AND NOT EXISTS (SELECT 1 FROM settlement s WHERE s.agent = ?1 AND s.owner = r.owner AND s.request = r.n)
             ORDER BY w.outcome_at DESC LIMIT {DOUBTS_MAX}"
        );
        self.rows(&sql, None, |row| {
            let sender = row.get_ref(3)?.text_or_null()?.and_then(|handle| Handle::parse(handle).ok());
            let (owner, basis, since) = (row.get(0)?, Basis::Presumed(parsed(row, 1)?), time(row, 2)?);
            Ok(Doubt { owner, sender, fact: Fact::Approved, since, until: None, basis })
        })
    }

    /// Owners that were let in, since when, and of whom no contact was ever recognised: since the intent, for the contact may come
    /// and go before anybody hears what became of the answer. What a person said of one since counts as if they had been let in then.
    pub(super) fn unmet(&self) -> sql::Result<Vec<(Arc<str>, Timestamp)>> {
        self.rows(
            "SELECT r.owner, max(min(w.at),
                 coalesce(max(CASE WHEN w.\"by\" GLOB 'person:*' THEN w.outcome_at END), 0),
                 coalesce((SELECT max(s.at) FROM settlement s WHERE s.agent = ?1 AND s.owner = r.owner
                     AND s.said IN ('removed', 'not-removed')), 0))
             FROM answer w JOIN request r ON r.n = w.request
             WHERE w.agent = ?1 AND w.answer = 'approve' AND w.outcome IN ('approved', 'presumed-approved')
                 AND r.owner IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM contact_owner o WHERE o.agent = ?1 AND o.owner = r.owner)
             GROUP BY r.owner",
            None,
            |row| Ok((row.get(0)?, time(row, 1)?)),
        )
    }

    /// The last removal of a contact that never had a readable handle. If that contact was added again, the removal
    /// still counts.
    pub(super) fn nameless(&self) -> sql::Result<Option<(ContactId, Timestamp)>> {
        let rows = self.rows(
            "SELECT id, removed_at AS at FROM contact c WHERE agent = ?1 AND removed_at IS NOT NULL AND expired = 0
                 AND NOT EXISTS (SELECT 1 FROM contact_owner o WHERE o.contact = c.n)
             UNION ALL SELECT c.id, v.at FROM contact_removal v JOIN contact c ON c.n = v.contact
             WHERE v.agent = ?1 AND v.expired = 0 AND NOT EXISTS (SELECT 1 FROM contact_owner o WHERE o.contact = c.n)
             ORDER BY at DESC LIMIT 1",
            None,
            |row| Ok((parsed(row, 0)?, time(row, 1)?)),
        )?;
        Ok(rows.into_iter().next())
    }
}
