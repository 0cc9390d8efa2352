//! What an owner did and met, what counts towards `approvals_max`, and what was rejected for being overdue.

use std::sync::Arc;

use jiff::Timestamp;

use super::doubts::PRESUMED;
use super::{Load, parsed, time};
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::sql::{self, TextColumn as _, params};
use crate::model::Handle;
use crate::policy::RuleName;
use crate::policy::state::{ApprovalRow, HistoryKind, OwnerHistoryRow};

/// Most rows of history, of each kind, that are loaded. If there are more, the newest are, and history counts as
/// incomplete.
pub(crate) const HISTORY_ROWS_MAX: usize = 500_000;

/// What an owner did and met.
#[derive(Debug, Default)]
pub(super) struct HistoryRead {
    pub(super) rows: Vec<OwnerHistoryRow>,
    /// Nothing was left out because there was too much.
    pub(super) complete: bool,
    /// The numbers of answers that rejected only presumably.
    pub(super) perhaps: Vec<i64>,
}

impl Load<'_> {
    /// The history of the owners of this agent's senders, oldest first.
    pub(super) fn history(&self, since: Timestamp) -> sql::Result<HistoryRead> {
        let HistoryRead { rows: mut history, mut complete, mut perhaps } =
            HistoryRead { complete: true, ..HistoryRead::default() };
        let mut take = |sql: &str, kind: Option<HistoryKind>| -> sql::Result<()> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let limit = i64::try_from(HISTORY_ROWS_MAX + 1).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![self.agent, Micros(since), limit])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += 1;
                if count > HISTORY_ROWS_MAX {
                    complete = false;
                    break;
                }
                let kind = match kind {
                    Some(kind) => kind,
                    None if row.get_ref(3)?.text()? == "approve" => HistoryKind::Approved,
                    None if row.get_ref(3)?.text()? == "guest" => HistoryKind::Guest,
                    None if row.get_ref(3)?.text()? == "presumed" => HistoryKind::Presumed,
                    None if row.get_ref(3)?.text()? == "perhaps" => {
                        perhaps.push(row.get(5)?);
                        continue;
                    }
                    None => HistoryKind::Rejected,
                };
                let request = row.get::<_, Option<Parsed<_>>>(1)?.map(|Parsed(id)| id);
                let handle = row.get_ref(4)?.text_or_null()?.and_then(|text| Handle::parse(text).ok());
                history.push(OwnerHistoryRow {
                    owner: row.get::<_, Arc<str>>(0)?,
                    handle,
                    request,
                    kind,
                    at: time(&row, 2)?,
                });
            }
            Ok(())
        };
        take(
            "SELECT owner, CASE WHEN id_reused = 0 THEN id END, first_seen, NULL, handle FROM request
             WHERE agent = ?1 AND first_seen >= ?2 AND owner IS NOT NULL ORDER BY first_seen DESC LIMIT ?3",
            Some(HistoryKind::Requested),
        )?;
        let answers = format!(
            "SELECT r.owner, CASE WHEN r.id_reused = 0 THEN r.id END, w.outcome_at,
                 CASE WHEN w.lasts IS NOT NULL THEN 'guest' WHEN {PRESUMED} THEN 'presumed'
                     WHEN w.outcome = 'presumed-rejected' AND w.\"by\" NOT GLOB 'person:*' THEN 'perhaps' ELSE w.answer END, r.handle, w.n
             FROM answer w JOIN request r ON r.n = w.request
             WHERE w.agent = ?1 AND w.outcome_at >= ?2 AND w.outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')
                 AND r.owner IS NOT NULL ORDER BY w.outcome_at DESC LIMIT ?3"
        );
        take(&answers, None)?;
        take(
            "SELECT owner, CASE WHEN id_reused = 0 THEN id END, settled_at, NULL, handle FROM request
             WHERE agent = ?1 AND settled_at >= ?2 AND elsewhere = 1 AND settled = 'rejected' AND owner IS NOT NULL
             ORDER BY settled_at DESC LIMIT ?3",
            Some(HistoryKind::Rejected),
        )?;
        take(
            "SELECT o.owner, NULL, c.removed_at AS at, NULL, c.handle FROM contact c JOIN contact_owner o ON o.contact = c.n
             WHERE c.agent = ?1 AND c.removed_at >= ?2 AND c.expired = 0
             UNION ALL SELECT o.owner, NULL, c.at, NULL, NULL FROM contact_removal c JOIN contact_owner o ON o.contact = c.contact
             WHERE c.agent = ?1 AND c.at >= ?2 AND c.expired = 0
             UNION ALL SELECT owner, NULL, at, NULL, NULL FROM settlement WHERE agent = ?1 AND at >= ?2 AND said = 'removed'
             ORDER BY at DESC LIMIT ?3",
            Some(HistoryKind::Removed),
        )?;
        take(
            "SELECT s.owner, CASE WHEN r.id_reused = 0 THEN r.id END, s.at, NULL, NULL FROM settlement s LEFT JOIN request r ON r.n = s.request
             WHERE s.agent = ?1 AND s.at >= ?2 AND s.said = 'rejected' ORDER BY s.at DESC LIMIT ?3",
            Some(HistoryKind::Rejected),
        )?;
        history.sort_by_key(|row| row.at);
        Ok(HistoryRead { rows: history, complete, perhaps })
    }

    /// Approvals that count towards `approvals_max` and were not given back, since the last resume: of those with an outcome, as
    /// far back as that asks; and those still without.
    pub(super) fn approvals(&self, counted: Option<Timestamp>, open: Timestamp) -> sql::Result<Vec<ApprovalRow>> {
        let find = |by: &str, which: &str, since: Timestamp| {
            let sql = format!(
                "SELECT r.id, w.reserved_at, w.outcome IS NULL OR w.outcome = 'unknown'
                 FROM answer w INDEXED BY {by} JOIN request r ON r.n = w.request
                 WHERE w.agent = ?1 AND {which} AND w.reserved_at >= ?2
                     AND w.counts = (SELECT coalesce(max(n), 0) FROM pause WHERE agent = ?1 AND paused = 0)
                 ORDER BY 2, 1"
            );
            self.rows(&sql, Some(since), |row| {
                Ok(ApprovalRow { request: parsed(row, 0)?, at: time(row, 1)?, open: row.get(2)? })
            })
        };
        let mut approvals = match counted {
            Some(since) => find(
                "answer_time",
                "w.outcome_at >= ?2 AND w.outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')",
                since,
            )?,
            None => Vec::new(),
        };
        approvals.extend(find("answer_open", "(w.outcome IS NULL OR w.outcome = 'unknown')", open)?);
        approvals.sort_by_key(|row| row.at);
        Ok(approvals)
    }

    pub(super) fn overdue_rejects(&self, since: Timestamp) -> sql::Result<Vec<(RuleName, Timestamp)>> {
        let rows = self.rows(
            "SELECT substr(\"by\", 9), reserved_at FROM answer
             WHERE agent = ?1 AND outcome_at >= ?2 AND reserved_at >= ?2 AND answer = 'reject' AND \"by\" GLOB 'overdue:*'
                 AND outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')
             UNION ALL
             SELECT substr(\"by\", 9), reserved_at FROM answer INDEXED BY answer_open
             WHERE agent = ?1 AND (outcome IS NULL OR outcome = 'unknown') AND reserved_at >= ?2 AND answer = 'reject'
                 AND \"by\" GLOB 'overdue:*'
             ORDER BY 2",
            Some(since),
            |row| Ok((row.get::<_, String>(0)?, time(row, 1)?)),
        )?;
        Ok(rows.into_iter().filter_map(|(name, at)| Some((RuleName::parse(&name)?, at))).collect())
    }
}
