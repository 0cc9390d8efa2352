//! Answers: those whose fate is open, those that were carried out lately, and those that the platform refused.

use std::collections::HashSet;

use jiff::SignedDuration;

use super::{Load, parsed, time};
use crate::ledger::OpenAnswer;
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::entry::RecentAnswer;
use crate::ledger::sql::{self, SqlRow};
use crate::model::{Answer, ContactRequest, Sender};

/// The handle of the sender that answer `w` to request `r` was for: that of before the first change after it was sent.
const MEANT_FOR: &str = "coalesce((SELECT c.handle FROM request_change c WHERE c.request = r.n AND c.handle IS NOT NULL
    AND c.at > w.last_at ORDER BY c.n LIMIT 1), r.handle)";

/// Answers that were carried out are remembered at start: those of the last day (in microseconds), but at least and at most this
/// number of the newest. Older ones than the last [`RECENT_LOOKED`], however they ended, are not looked for.
const RECENT_MIN: usize = 64;
const RECENT_MAX: usize = 4_096;
const RECENT_LOOKED: usize = 4 * RECENT_MAX;
const RECENT_US: i64 = 24 * 3_600 * 1_000_000;

impl Load<'_> {
    /// Each with the sender that its request had at the last try: a later change does not make it an answer to somebody
    /// else. Without the explicit index, SQLite would go through all answers of the agent in order.
    pub(super) fn open_answers(&self) -> sql::Result<Vec<OpenAnswer>> {
        self.rows(
            &format!(
                "SELECT r.id, w.answer, w.\"by\", p.hash, w.attempts, w.at, w.refused, {MEANT_FOR}, w.lasts
                 FROM answer w INDEXED BY answer_open
                 JOIN request r ON r.n = w.request LEFT JOIN policy p ON p.n = w.policy
                 WHERE w.agent = ?1 AND (w.outcome IS NULL OR w.outcome = 'unknown') ORDER BY w.n"
            ),
            None,
            open_answer,
        )
    }

    /// The last answers that were carried out: a stale listing must not bring them back. Those of the day before the newest, and the
    /// last [`RECENT_MIN`] in any case: counted from the record itself, since the clock may have been wrong then, or be wrong now.
    pub(super) fn recent_answers(&self) -> sql::Result<Vec<RecentAnswer>> {
        const APPLIED: &str = "outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')";
        self.rows(
            &format!(
                "WITH carried_out AS (SELECT n, outcome_at AS at FROM
                     (SELECT n, outcome, outcome_at FROM answer INDEXED BY answer_agent WHERE agent = ?1
                         ORDER BY n DESC LIMIT {RECENT_LOOKED}) newest
                     WHERE {APPLIED}),
                 last AS (SELECT at FROM carried_out ORDER BY n DESC LIMIT {RECENT_MIN}),
                 recent AS (SELECT n FROM carried_out WHERE at >= (SELECT min(at) FROM
                         (SELECT at FROM last UNION ALL SELECT max(at) - {RECENT_US} FROM last) AS since)
                     ORDER BY n DESC LIMIT {RECENT_MAX})
             SELECT r.id, w.answer, w.\"by\", w.answer = 'approve' AND r.id_reused = 0 AND NOT EXISTS
                 (SELECT 1 FROM contact c WHERE c.request = r.n), {MEANT_FOR}, r.inserted_at, w.lasts, {MEANT_FOR} IS DISTINCT FROM r.handle
             FROM recent JOIN answer w ON w.n = recent.n JOIN request r ON r.n = w.request
             ORDER BY w.n DESC"
            ),
            None,
            |row| {
                let (unmet, handle): (bool, Option<String>) = (row.get(3)?, row.get(4)?);
                let unmet = handle.as_deref().filter(|_| unmet);
                let unmet = unmet.map(|handle| Sender::parse(Some(handle)));
                let request = ContactRequest {
                    id: parsed(row, 0)?,
                    sender: Sender::parse(handle.as_deref()),
                    name: None,
                    message: None,
                    inserted_at: row.get::<_, Option<Micros>>(5)?.map(|Micros(at)| at),
                    ids: None,
                };
                Ok(RecentAnswer {
                    request,
                    changed: row.get(7)?,
                    unmet,
                    answer: parsed(row, 1)?,
                    by: parsed(row, 2)?,
                    lasts: length(row, 6)?,
                })
            },
        )
    }

    pub(super) fn refused_answers(&self) -> sql::Result<Vec<OpenAnswer>> {
        self.rows(
            "SELECT r.id, w.answer, w.\"by\", p.hash, w.attempts, w.at, w.refused, r.handle, w.lasts FROM request r
             JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = r.n)
             LEFT JOIN policy p ON p.n = w.policy
             WHERE r.agent = ?1 AND r.settled IS NULL AND w.outcome = 'refused' ORDER BY w.n",
            None,
            open_answer,
        )
    }
}

/// The owners of requests whose answer has no known outcome and may have let somebody in.
pub(super) fn awaited(open: &[OpenAnswer]) -> HashSet<String> {
    let approvals = open.iter().filter(|answer| answer.answer == Answer::Approve);
    approvals.filter_map(|answer| answer.sender.handle().map(|handle| handle.owner().to_owned())).collect()
}

fn open_answer(row: &SqlRow<'_>) -> sql::Result<OpenAnswer> {
    Ok(OpenAnswer {
        request: parsed(row, 0)?,
        sender: Sender::parse(row.get::<_, Option<String>>(7)?.as_deref()),
        answer: parsed(row, 1)?,
        by: parsed(row, 2)?,
        policy: row.get::<_, Option<Parsed<_>>>(3)?.map(|Parsed(hash)| hash),
        attempts: row.get(4)?,
        at: time(row, 5)?,
        refusal: row.get::<_, Option<Parsed<_>>>(6)?.map(|Parsed(refusal)| refusal),
        lasts: length(row, 8)?,
    })
}

/// A duration, in microseconds.
fn length(row: &SqlRow<'_>, column: usize) -> sql::Result<Option<SignedDuration>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(SignedDuration::from_micros))
}
