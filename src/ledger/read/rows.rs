//! Rows as values: one query behind every list of requests.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use super::{AnswerRecord, EndMoved, Filter, OutcomeFilter, RecordedDecision, RecordedRequest, RemovedRecord, TimeOf};
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::reasons::{self, DecisionColumns};
use crate::ledger::sql::{self, Connection, SqlRow, TextColumn as _, params};
use crate::model::{AgentId, Answer, ContactRequest, Handle, Outcome, RemovedBy, Sender, StrangerText, Verdict};
use crate::policy::{By, Mode};

/// The last decision and the last answer that was not withdrawn, beside each request. The last column is when what the rules say
/// was decided, if an agent was paused meanwhile: a pause and its end decide nothing again.
const SELECT: &str = "
    SELECT r.n, a.id, r.id, r.handle, r.name, r.message, r.inserted_at, r.first_seen, r.via, r.blanked, r.settled,
        d.at, d.verdict, d.\"by\", dp.hash,
        w.answer, w.\"by\", wp.hash, w.at, w.outcome, w.outcome_at, w.last_at, w.attempts, w.detail,
        d.mode, r.settled_at, r.elsewhere, d.n, w.n, w.after_decision,
        h.at, w.note, h.note, v.\"by\", v.at, v.note, w.lasts,
        CASE WHEN g.over IS DISTINCT FROM 'again' THEN g.ends_at END,
        CASE WHEN g.over IS DISTINCT FROM 'again' THEN g.doubt END,
        x.ends_at, x.person, x.at, x.note,
        (SELECT CASE WHEN count(*) = count(removed_at) THEN max(removed_at) END FROM contact
            WHERE request = r.n AND request IS NOT NULL),
        CASE WHEN EXISTS (SELECT 1 FROM decision WHERE request = r.n AND \"by\" = 'paused') THEN (
            SELECT y.at FROM decision y
            JOIN decision l ON l.n = (SELECT max(n) FROM decision WHERE request = r.n AND \"by\" <> 'paused')
            WHERE y.request = r.n AND y.\"by\" <> 'paused' AND y.n > coalesce((
                SELECT max(n) FROM decision o WHERE o.request = r.n AND o.\"by\" <> 'paused'
                    AND (o.verdict <> l.verdict OR o.\"by\" <> l.\"by\" OR o.mode <> l.mode OR o.policy <> l.policy)), 0)
            ORDER BY y.n LIMIT 1) END
    FROM request r
    JOIN agent a ON a.n = r.agent
    LEFT JOIN decision d ON d.n = (SELECT max(n) FROM decision WHERE request = r.n)
    LEFT JOIN policy dp ON dp.n = d.policy
    LEFT JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = r.n AND outcome IS DISTINCT FROM 'withdrawn')
    LEFT JOIN policy wp ON wp.n = w.policy
    LEFT JOIN hold h ON h.agent = r.agent AND h.request = r.n AND h.ended_at IS NULL
    LEFT JOIN removal v ON v.n = (SELECT max(n) FROM removal WHERE request = r.n AND outcome = 'removed')
    LEFT JOIN guest g ON g.n = (SELECT max(n) FROM guest WHERE request = r.n)
    LEFT JOIN guest_end x ON x.n = (SELECT max(n) FROM guest_end WHERE request = r.n) ";

/// Rows that are read in one transaction, if no single snapshot is needed.
const PAGE_ROWS: usize = 512;

/// How consistent a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// One moment of the file, all in memory.
    One,
    /// One for each page of [`PAGE_ROWS`]: no transaction is open while `take` works, which may wait for a person. An open one
    /// keeps the daemon's write-ahead log from being begun again.
    EachPage,
}

/// Calls `take` with what the filter lets through, oldest first.
pub fn for_each(
    connection: Connection<'_>,
    filter: &Filter,
    moment: Consistency,
    mut take: impl FnMut(RecordedRequest) -> ControlFlow<()>,
) -> sql::Result<()> {
    let handle = filter.handle.as_deref().map(WhoseRequests::parse);
    let fits = |request: &RecordedRequest| within(filter, request) && lets_through(filter, handle.as_ref(), request);
    if let Some(limit) = filter.limit {
        let newest = newest(connection, filter, handle.as_ref(), limit, fits)?;
        // It does not matter whether all were taken.
        let _ = newest.into_iter().rev().try_for_each(take);
        return Ok(());
    }
    let mut pages = Pages::of(connection, filter, handle.as_ref(), moment)?;
    while let Some(page) = pages.next(connection)? {
        if page.into_iter().filter(&fits).try_for_each(&mut take).is_break() {
            break;
        }
    }
    Ok(())
}

/// The newest requests that the filter lets through, at most that many, the newest first.
fn newest(
    connection: Connection<'_>,
    filter: &Filter,
    handle: Option<&WhoseRequests>,
    limit: usize,
    fits: impl Fn(&RecordedRequest) -> bool,
) -> sql::Result<Vec<RecordedRequest>> {
    // One moment of the file, however long this takes.
    let _moment = connection.moment()?;
    let mut newest = Vec::new();
    if limit == 0 {
        return Ok(newest);
    }
    let mut sift = |request: RecordedRequest| {
        if fits(&request) {
            newest.push(request);
        }
        if newest.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match touched(connection, filter)? {
        None => scan(connection, filter, handle, i64::MIN, i64::MAX, |_, request| sift(request))?,
        Some(touched) => {
            for n in touched.into_iter().rev() {
                if one(connection, n)?.is_some_and(|request| sift(request).is_break()) {
                    break;
                }
            }
        }
    }
    Ok(newest)
}

/// All requests that a filter may let through, in the order of their rows, page by page.
struct Pages<'a> {
    filter: &'a Filter,
    handle: Option<&'a WhoseRequests>,
    rows: usize,
    left: Left,
}

enum Left {
    /// Everything after this row.
    After(i64),
    /// These rows.
    These(std::collections::btree_set::IntoIter<i64>),
    Nothing,
}

impl<'a> Pages<'a> {
    fn of(
        connection: Connection<'_>,
        filter: &'a Filter,
        handle: Option<&'a WhoseRequests>,
        moment: Consistency,
    ) -> sql::Result<Self> {
        let rows = match moment {
            Consistency::One => usize::MAX,
            Consistency::EachPage => PAGE_ROWS,
        };
        let left =
            touched(connection, filter)?.map_or(Left::After(i64::MIN), |touched| Left::These(touched.into_iter()));
        Ok(Self { filter, handle, rows, left })
    }

    fn next(&mut self, connection: Connection<'_>) -> sql::Result<Option<Vec<RecordedRequest>>> {
        let _moment = connection.moment()?;
        let mut page = Vec::new();
        match &mut self.left {
            Left::Nothing => return Ok(None),
            Left::After(after) => {
                let (from, most) = (*after, i64::try_from(self.rows).unwrap_or(i64::MAX));
                scan(connection, self.filter, self.handle, from, most, |n, request| {
                    *after = n;
                    page.push(request);
                    ControlFlow::Continue(())
                })?;
            }
            Left::These(rows) => {
                for n in rows.by_ref().take(self.rows) {
                    page.extend(one(connection, n)?);
                }
            }
        }
        if page.len() < self.rows && !matches!(&self.left, Left::These(rows) if rows.len() > 0) {
            self.left = Left::Nothing;
        }
        Ok(Some(page))
    }
}

/// The rows of requests to which something happened in the filter's time, if the filter uses that time.
fn touched(connection: Connection<'_>, filter: &Filter) -> sql::Result<Option<BTreeSet<i64>>> {
    match (filter.time, filter.since) {
        (TimeOf::Received, _) | (_, None) => Ok(None),
        (TimeOf::Happened | TimeOf::Decided, Some(since)) => {
            touched_since(connection, filter.agent.as_ref(), since).map(Some)
        }
    }
}

/// At most `limit` requests after a row, in the order of their rows, backwards with a limit, as far as an index can
/// select them.
fn scan(
    connection: Connection<'_>,
    filter: &Filter,
    handle: Option<&WhoseRequests>,
    after: i64,
    most: i64,
    mut sift: impl FnMut(i64, RecordedRequest) -> ControlFlow<()>,
) -> sql::Result<()> {
    let agent = filter.agent.as_ref().map(AgentId::as_str);
    let since = filter.since.filter(|_| filter.time == TimeOf::Received);
    let first: Option<i64> = match since {
        None => Some(0),
        Some(since) => connection.query_row(
            "SELECT min(r.n) FROM agent a CROSS JOIN request r ON r.agent = a.n AND r.first_seen >= ?1
             WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
            params![Micros(since), agent],
            |row| row.get(0),
        )?,
    };
    let Some(first) = first.map(|first| first.max(after.saturating_add(1))) else { return Ok(()) };
    let order = if filter.limit.is_some() { "DESC" } else { "ASC" };
    let (owner, owned) = match handle {
        None => (None, "CAST(?3 AS text) IS NULL"),
        Some(WhoseRequests::Plain(handle)) => (Some(handle.owner()), "r.owner = ?3"),
        Some(WhoseRequests::AgentsOf(owner)) => (Some(owner.as_str()), "r.owner = ?3"),
        Some(WhoseRequests::Text(_)) => (None, "r.owner IS NOT DISTINCT FROM ?3"),
    };
    let sql = format!(
        "{SELECT} WHERE r.n >= ?1 AND (CAST(?2 AS text) IS NULL OR a.id = ?2) AND {owned} ORDER BY r.n {order} LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![first, agent, owner, most])?;
    while let Some(row) = rows.next()? {
        if sift(row.get(0)?, recorded(&row)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// How much the clock may have been set back between two decisions.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// The rows of requests to which something happened since then.
fn touched_since(connection: Connection<'_>, agent: Option<&AgentId>, since: Timestamp) -> sql::Result<BTreeSet<i64>> {
    let mut touched = BTreeSet::new();
    let agent = agent.map(AgentId::as_str);
    for sql in [
        "SELECT r.n FROM agent a CROSS JOIN request r ON r.agent = a.n AND r.first_seen >= ?1 WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
        "SELECT w.request FROM agent a CROSS JOIN answer w ON w.agent = a.n AND w.outcome_at >= ?1 WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
        "SELECT w.request FROM agent a CROSS JOIN answer w INDEXED BY answer_open ON w.agent = a.n
             WHERE (w.outcome IS NULL OR w.outcome = 'unknown') AND w.last_at >= ?1 AND (CAST(?2 AS text) IS NULL OR a.id = ?2)",
        "SELECT r.n FROM agent a CROSS JOIN request r ON r.agent = a.n AND r.elsewhere = 1 AND r.settled_at >= ?1
             WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
        "SELECT h.request FROM agent a CROSS JOIN hold h ON h.agent = a.n AND max(h.at, coalesce(h.ended_at, h.at)) >= ?1
             WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
        "SELECT x.request FROM guest_end x JOIN request r ON r.n = x.request JOIN agent a ON a.n = r.agent
             WHERE x.at >= ?1 AND (CAST(?2 AS text) IS NULL OR a.id = ?2)",
        "SELECT v.request FROM agent a CROSS JOIN removal v ON v.agent = a.n AND v.at >= ?1 AND v.request IS NOT NULL
             WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
        "SELECT c.request FROM agent a CROSS JOIN contact c ON c.agent = a.n AND c.removed_at >= ?1 AND c.request IS NOT NULL
             WHERE CAST(?2 AS text) IS NULL OR a.id = ?2",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        for n in statement.query_map(params![Micros(since), agent], |row| row.get::<_, i64>(0))? {
            touched.insert(n?);
        }
    }
    // Decisions have no index by time: newest first, until they are well before that.
    let until = since.checked_sub(CLOCK_SLACK).unwrap_or(Timestamp::MIN);
    let mut statement = connection.prepare_cached("SELECT request, at FROM decision ORDER BY n DESC")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Micros(at) = row.get(1)?;
        if at < until {
            break;
        }
        if at >= since {
            touched.insert(row.get(0)?);
        }
    }
    Ok(touched)
}

/// Whether its time and its agent are as the filter wants them.
pub fn within(filter: &Filter, request: &RecordedRequest) -> bool {
    let at = match filter.time {
        TimeOf::Received => Some(request.first_seen),
        TimeOf::Decided => request.decided_at,
        TimeOf::Happened => Some(request.happened_at),
    };
    filter.agent.as_ref().is_none_or(|agent| request.agent == *agent)
        && (filter.since.is_none() || at >= filter.since)
        && filter.until.is_none_or(|until| at.is_some_and(|at| at < until))
}

/// One request by its row's number.
pub fn one(connection: Connection<'_>, n: i64) -> sql::Result<Option<RecordedRequest>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE r.n = ?1"))?;
    let mut rows = statement.query([n])?;
    rows.next()?.map(|row| recorded(&row)).transpose()
}

/// Whether everything matches the filter except time and agent, which the query checks.
pub fn lets_through(filter: &Filter, handle: Option<&WhoseRequests>, request: &RecordedRequest) -> bool {
    let outcome = match filter.outcome {
        None => true,
        Some(OutcomeFilter::Pending) => request.settled.is_none(),
        Some(OutcomeFilter::Is(outcome)) => request.outcome == Some(outcome),
    };
    outcome
        && filter.verdict.is_none_or(|verdict| request.verdict == Some(verdict))
        && filter.by.as_ref().is_none_or(|by| request.by.as_ref().is_some_and(|given| given.to_string() == *by))
        && handle.is_none_or(|wanted| wanted.is(&request.request.sender))
}

/// Whose requests a person asked for.
pub enum WhoseRequests {
    /// This one.
    Plain(Handle),
    /// Any agent of this owner's.
    AgentsOf(String),
    /// A text that is not a handle, as received.
    Text(String),
}

impl WhoseRequests {
    /// Reads `john`, `@John/bot` or `john/*`.
    pub fn parse(text: &str) -> Self {
        let owner = text.strip_suffix("/*").and_then(|owner| Handle::parse(owner).ok());
        match (owner, Handle::parse(text)) {
            (Some(owner), _) if owner.slug().is_none() => WhoseRequests::AgentsOf(owner.as_str().to_owned()),
            (_, Ok(handle)) => WhoseRequests::Plain(handle),
            (_, Err(_)) => WhoseRequests::Text(text.to_owned()),
        }
    }

    /// Whether this is one of them.
    pub fn is(&self, sender: &Sender) -> bool {
        match self {
            WhoseRequests::Plain(handle) => sender.handle() == Some(handle),
            WhoseRequests::AgentsOf(owner) => {
                sender.handle().is_some_and(|handle| handle.owner() == owner && handle.slug().is_some())
            }
            WhoseRequests::Text(text) => sender.original().is_some_and(|original| original.raw() == text),
        }
    }
}

fn get<T>(row: &SqlRow<'_>, column: usize) -> sql::Result<T>
where
    Parsed<T>: sql::FromSql,
{
    row.get::<_, Parsed<T>>(column).map(|Parsed(value)| value)
}

fn maybe<T>(row: &SqlRow<'_>, column: usize) -> sql::Result<Option<T>>
where
    Parsed<T>: sql::FromSql,
{
    Ok(row.get::<_, Option<Parsed<T>>>(column)?.map(|Parsed(value)| value))
}

pub(super) fn time(row: &SqlRow<'_>, column: usize) -> sql::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<Micros>>(column)?.map(|Micros(at)| at))
}

fn text(row: &SqlRow<'_>, column: usize) -> sql::Result<Option<StrangerText>> {
    Ok(row.get_ref(column)?.text_or_null()?.map(StrangerText::new))
}

fn recorded(row: &SqlRow<'_>) -> sql::Result<RecordedRequest> {
    let settled: Option<String> = row.get(10)?;
    let Micros(first_seen) = row.get(7)?;
    let newest_at = time(row, 11)?;
    let decided_at = time(row, 44)?.or(newest_at);
    let answer = match maybe::<Answer>(row, 15)? {
        None => None,
        Some(answer) => {
            let (last, done) = (time(row, 21)?, time(row, 20)?);
            Some(AnswerRecord {
                answer,
                outcome: maybe(row, 19)?,
                attempts: row.get(22)?,
                at: done.or(last).unwrap_or(first_seen),
                detail: row.get(23)?,
            })
        }
    };
    let answered_at = time(row, 18)?;
    // An answer that counts, or is open, gives the last verdict; a failed answer does so only if nothing was decided
    // after it.
    let by_answer = answer.as_ref().is_some_and(|answer| match answer.outcome {
        None | Some(Outcome::Unknown | Outcome::Confirmed(_) | Outcome::Presumed(_)) => true,
        Some(Outcome::SettledElsewhere | Outcome::Gone | Outcome::Refused) => answered_at >= newest_at,
    });
    let (decided_at, verdict, by, policy) = if by_answer {
        (answered_at, answer.as_ref().map(|answer| answer.answer.verdict()), maybe::<By>(row, 16)?, maybe(row, 17)?)
    } else {
        (decided_at, maybe::<Verdict>(row, 12)?, maybe(row, 13)?, maybe(row, 14)?)
    };
    let outcome = match (&answer, settled.as_deref()) {
        (Some(AnswerRecord { outcome: Some(outcome), .. }), _) => Some(*outcome),
        (_, None) => None,
        (_, Some("gone")) => Some(Outcome::Gone),
        (_, Some(_)) => Some(Outcome::SettledElsewhere),
    };
    let happened = [11, 18, 20, 21, 25, 30, 34, 41, 43]
        .into_iter()
        .map(|column| time(row, column))
        .collect::<Result<Vec<_>, _>>()?;
    let shadow = !by_answer && row.get_ref(24)?.text_or_null()?.is_some_and(|mode| mode == "shadow");
    let note: Option<String> = if by_answer { row.get(31)? } else { row.get(32)? };
    let removed = match row.get::<_, Option<Parsed<RemovedBy>>>(33)? {
        Some(Parsed(by)) => Some(RemovedRecord { by, at: time(row, 34)?.unwrap_or(first_seen), note: row.get(35)? }),
        None => None,
    };
    Ok(RecordedRequest {
        note,
        removed,
        lasts: row.get::<_, Option<i64>>(36)?.map(SignedDuration::from_micros),
        ends_at: time(row, 37)?,
        end_in_doubt: maybe(row, 38)?,
        end_moved: match time(row, 41)? {
            Some(at) => Some(EndMoved { ends_at: time(row, 39)?, by: row.get(40)?, at, note: row.get(42)? }),
            None => None,
        },
        contact_removed_at: time(row, 43)?,
        row: row.get(0)?,
        decision_row: row.get(27)?,
        answer_row: row.get(28)?,
        answer_after: row.get(29)?,
        mode: if shadow { Mode::Shadow } else { Mode::Enforce },
        happened_at: happened.into_iter().flatten().fold(first_seen, Timestamp::max),
        settled_at: time(row, 25)?,
        elsewhere: row.get::<_, Option<bool>>(26)?.unwrap_or(false),
        agent: get(row, 1)?,
        request: ContactRequest {
            id: get(row, 2)?,
            sender: Sender::parse(row.get_ref(3)?.text_or_null()?),
            name: text(row, 4)?,
            message: text(row, 5)?,
            inserted_at: time(row, 6)?,
            ids: None,
        },
        first_seen,
        via: get(row, 8)?,
        blanked: row.get(9)?,
        decided_at,
        verdict,
        by,
        policy,
        answered_at,
        answer,
        settled,
        outcome,
    })
}

/// The decisions on one request, oldest first.
pub fn decisions(connection: Connection<'_>, request: i64) -> sql::Result<Vec<RecordedDecision>> {
    connection
        .prepare_cached(
            "SELECT a.id, d.at, d.verdict, d.\"by\", p.hash, d.mode, d.facts, d.n FROM decision d
             JOIN request r ON r.n = d.request JOIN agent a ON a.n = r.agent JOIN policy p ON p.n = d.policy
             WHERE d.request = ?1 ORDER BY d.n",
        )?
        .query_map([request], |row| {
            let (Micros(at), verdict, by) = (row.get(1)?, get(row, 2)?, row.get::<_, String>(3)?);
            let columns = DecisionColumns { at, verdict, by: &by };
            Ok(RecordedDecision {
                row: row.get(7)?,
                agent: get(row, 0)?,
                at,
                verdict,
                by: row.get::<_, Parsed<By>>(3)?.0,
                policy: get(row, 4)?,
                mode: if row.get_ref(5)?.text()? == "shadow" { Mode::Shadow } else { Mode::Enforce },
                facts: reasons::from_json(row.get_ref(6)?.text()?, columns).unwrap_or_default(),
            })
        })?
        .collect()
}
