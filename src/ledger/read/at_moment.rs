//! What an agent remembered at a moment in the past, as far as it concerns one owner: what the daemon would load at
//! start, using only the rows of that time.
//!
//! The order in which rows were written shows what came first, since everything in one step has the same microsecond
//! and a clock may jump. Rows of schema 1 do not have that order; for them the time decides.

use jiff::{SignedDuration, Timestamp};

use super::{RecordedRequest, rows};
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::reasons;
use crate::ledger::sql::{self, Connection, Optional as _, TextColumn as _, params};
use crate::ledger::{HistoryReach, RestoreReach};
use crate::model::{AgentId, Handle, RequestId, Verdict};
use crate::policy::doubts::{Basis, Doubt, Fact};
use crate::policy::state::{ApprovalRow, ChargeEnd, ChargeRow, HistoryKind, OwnerHistoryRow, PauseRecord, SavedState};
use crate::policy::{By, Charge, DeciderVerdict, RuleName};

/// An answer that was given up after the moment had taken its places then. None is open for longer than this.
const OPEN_MAX: SignedDuration = SignedDuration::from_hours(24);

/// A moment in the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowMoment {
    /// Its time.
    pub at: Timestamp,
    /// What was written while this was the newest decision, or later, came after; `None`: the time decides.
    decision: Option<i64>,
    /// Rows written while it was the newest decision, but before this time, came before.
    tie: Timestamp,
    /// The question is about the intent of this answer.
    answer: Option<i64>,
}

impl RowMoment {
    /// A time.
    pub fn at(at: Timestamp) -> Self {
        Self { at, decision: None, tie: Timestamp::MIN, answer: None }
    }

    /// The moment of the decision behind a request's verdict: that of its answer, if a rule answered; else the last
    /// decision's.
    pub fn of(request: &RecordedRequest, decision: Option<(i64, Timestamp)>) -> Self {
        match (decision, request.answered_at, request.answer_row) {
            // Decided earlier, and answered later without another decision: a wait was over, an attempt was repeated.
            (Some((_, decided)), Some(at), Some(answer)) if request.answered_by_rule() && at > decided => {
                Self { at, decision: request.answer_after, tie: at, answer: Some(answer) }
            }
            (Some((row, at)), _, _) => Self { at, decision: Some(row), tie: Timestamp::MIN, answer: None },
            (None, _, _) => Self::at(request.first_seen),
        }
    }

    /// SQL that is true for rows that came before, for the columns with the newest decision then and the time; with the
    /// parameters ?3 (at), ?4 (decision) and ?5 (tie).
    fn before(after: &str, at: &str) -> String {
        format!(
            "CASE WHEN CAST(?4 AS bigint) IS NULL OR {after} IS NULL THEN {at} < ?3
                 ELSE {after} < ?4 OR ({after} = ?4 AND {at} < ?5) END"
        )
    }
}

impl RecordedRequest {
    /// Whether a rule gave the answer that counts or is open.
    pub fn answered_by_rule(&self) -> bool {
        self.answered_at.is_some() && self.decided_at == self.answered_at && !self.answered_by_person()
    }

    /// Whether a person answered.
    pub fn answered_by_person(&self) -> bool {
        self.answered_at.is_some() && matches!(self.by, Some(By::Person(_)))
    }
}

struct RecordAt<'a> {
    connection: Connection<'a>,
    agent: i64,
    moment: RowMoment,
}

/// See the module. `owner` is whose history it is; limits and `approvals_max` are everybody's. Holds and pauses are those
/// of the moment.
pub fn state_at(
    connection: Connection<'_>,
    agent: &AgentId,
    request: Option<&RecordedRequest>,
    owner: Option<&str>,
    reach: RestoreReach,
    moment: RowMoment,
) -> sql::Result<SavedState> {
    let found = connection.query_row("SELECT n FROM agent WHERE id = ?1", [agent.as_str()], |row| row.get(0));
    let Some(agent): Option<i64> = found.optional()? else {
        return Ok(SavedState { history_complete: true, ..SavedState::default() });
    };
    let past = RecordAt { connection, agent, moment };
    let back = |reach: SignedDuration| moment.at.checked_sub(reach).unwrap_or(Timestamp::MIN);
    let (paused, resumed) = past.pauses()?;
    let since = back(reach.charges);
    let mut charges = past.charges(since)?;
    charges.extend(past.charges_given_back(since)?);
    let history = match (reach.history, owner) {
        (None, _) | (_, None) => Vec::new(),
        (Some(HistoryReach::Within(within)), Some(owner)) => past.history(owner, back(within))?,
        (Some(HistoryReach::Ever), Some(owner)) => past.history(owner, Timestamp::MIN)?,
    };
    if let (Some(owner), Some(request)) = (owner, request)
        && request.mode == crate::policy::Mode::Shadow
    {
        charges.extend(past.charges_in_shadow(owner, request.row, since)?);
    }
    charges.sort_by_key(|row| row.at);
    Ok(SavedState {
        charges,
        history,
        history_complete: true,
        approvals: past.approvals(since, resumed)?,
        holds: match request {
            Some(request) => past.hold(request)?.into_iter().collect(),
            None => Vec::new(),
        },
        paused,
        overdue_rejects: past.overdue_rejects()?,
        replies: match request {
            Some(request) => {
                let words = replies_to(connection, request.row)?.into_iter().filter(|(at, _)| *at <= moment.at);
                words.map(|(_, reply)| (request.request.id.clone(), reply)).collect()
            }
            None => Vec::new(),
        },
        notified: Vec::new(),
        unmet: Vec::new(),
        nameless: None,
        doubts: past.doubts(owner)?,
    })
}

/// The newest pause of the agent before that moment.
pub fn pause_before(
    connection: Connection<'_>,
    agent: &AgentId,
    moment: RowMoment,
) -> sql::Result<Option<PauseRecord>> {
    let found = connection.query_row("SELECT n FROM agent WHERE id = ?1", [agent.as_str()], |row| row.get(0));
    let Some(agent): Option<i64> = found.optional()? else { return Ok(None) };
    let (at, decision, tie) = RecordAt { connection, agent, moment }.order();
    let sql = format!(
        "SELECT \"by\", at, note FROM pause WHERE agent = ?1 AND ?2 AND {} AND paused = 1 ORDER BY n DESC LIMIT 1",
        RowMoment::before("after_decision", "at")
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![agent, true, at, decision, tie], |row| {
            let (Parsed(by), Micros(at)) = (row.get(0)?, row.get(1)?);
            Ok(PauseRecord { by, at, note: row.get(2)? })
        })
        .optional()
}

/// The verdicts of deciders about a request, with their times, in order.
pub fn replies_to(connection: Connection<'_>, request: i64) -> sql::Result<Vec<(Timestamp, DeciderVerdict)>> {
    connection
        .prepare_cached("SELECT at, decider, question, verdict, reason FROM told WHERE request = ?1 ORDER BY n")?
        .query_map([request], |row| Ok((row.get::<_, Micros>(0)?.0, crate::ledger::restore::reply(row)?)))?
        .collect()
}

impl RecordAt<'_> {
    /// What was in doubt about the owner at the decision: it is on record with it. At another moment, whether somebody else may
    /// have the name.
    fn doubts(&self, owner: Option<&str>) -> sql::Result<Vec<Doubt>> {
        let Some(decision) = self.moment.decision else { return self.names_in_doubt(owner) };
        let json: Option<String> = self
            .connection
            .query_row("SELECT facts FROM decision WHERE n = ?1", [decision], |row| row.get(0))
            .optional()?;
        Ok(json.map(|json| reasons::doubts(&json)).unwrap_or_default())
    }

    fn names_in_doubt(&self, owner: Option<&str>) -> sql::Result<Vec<Doubt>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT basis, subject, owner, at FROM identity
             WHERE agent = ?1 AND owner = ?2 AND doubted = 1 AND at < ?3 ORDER BY n LIMIT 1",
        )?;
        let mut rows = statement.query(params![self.agent, owner, Micros(self.moment.at)])?;
        let Some(row) = rows.next()? else { return Ok(Vec::new()) };
        let basis = Basis::parse(row.get_ref(0)?.text()?, row.get_ref(1)?.text()?);
        let Micros(since) = row.get(3)?;
        let owner: std::sync::Arc<str> = row.get(2)?;
        let doubt = |basis| Doubt { owner, sender: None, fact: Fact::Identity, since, until: None, basis };
        Ok(basis.map(doubt).into_iter().collect())
    }

    /// The moment's three parameters.
    fn order(&self) -> (Micros, Option<i64>, Micros) {
        (Micros(self.moment.at), self.moment.decision, Micros(self.moment.tie))
    }

    /// SQL that is true for answers whose intent came before; in addition to the three, it uses ?6 (the answer in
    /// question).
    fn answered_before() -> String {
        format!(
            "CASE WHEN CAST(?6 AS bigint) IS NOT NULL THEN w.n < ?6 ELSE {} END",
            RowMoment::before("w.after_decision", "w.reserved_at")
        )
    }

    /// The pause that was in force, and the row of the last resume (0: none).
    fn pauses(&self) -> sql::Result<(Option<PauseRecord>, i64)> {
        let (at, decision, tie) = self.order();
        let sql = format!(
            "SELECT n, paused, \"by\", at, note FROM pause WHERE agent = ?1 AND ?2 AND {} ORDER BY n DESC",
            RowMoment::before("after_decision", "at")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.agent, true, at, decision, tie])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let (n, paused): (i64, bool) = (row.get(0)?, row.get(1)?);
            if !paused {
                return Ok((last, n));
            }
            if last.is_none() {
                let (Parsed(by), Micros(at)) = (row.get(2)?, row.get(3)?);
                last = Some(PauseRecord { by, at, note: row.get(4)? });
            }
        }
        Ok((last, 0))
    }

    fn hold(&self, request: &RecordedRequest) -> sql::Result<Option<(RequestId, std::sync::Arc<str>)>> {
        let (at, decision, tie) = self.order();
        let sql = format!(
            "SELECT person FROM hold WHERE agent = ?1 AND request = ?2 AND {} AND (ended_at IS NULL OR NOT {})
             ORDER BY n DESC LIMIT 1",
            RowMoment::before("after_decision", "at"),
            RowMoment::before("ended_after", "ended_at")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let person = statement
            .query_row(params![self.agent, request.row, at, decision, tie], |row| row.get::<_, String>(0))
            .optional()?;
        Ok(person.map(|person| (request.request.id.clone(), person.into())))
    }

    /// Places that were taken, and are still on record.
    fn charges(&self, since: Timestamp) -> sql::Result<Vec<ChargeRow>> {
        let (at, decision, tie) = self.order();
        let sql = format!(
            "SELECT r.id, c.rule, c.bucket, c.at,
                 r.id_reused = 0 AND (w.outcome IS NULL OR w.outcome = 'unknown' OR w.outcome_at > ?3),
                 coalesce(w.outcome IN ('approved', 'rejected') AND w.outcome_at <= ?3, FALSE)
             FROM charge c JOIN request r ON r.n = c.request
             JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = c.request AND outcome IS DISTINCT FROM 'withdrawn')
             WHERE c.agent = ?1 AND c.at >= ?2 AND {}",
            Self::answered_before()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params![self.agent, Micros(since), at, decision, tie, self.moment.answer], |row| {
                let (Parsed(request), Parsed(rule), Micros(at)) = (row.get(0)?, row.get(1)?, row.get(3)?);
                let charge = Charge { rule, bucket: row.get::<_, String>(2)?.into() };
                Ok(ChargeRow { request: Some(request), charge, at, end: ChargeEnd::of(row.get(4)?, row.get(5)?) })
            })?;
        rows.collect()
    }

    /// Places that were taken then and given back since, because the answer failed later. The decision's row has their
    /// charges.
    fn charges_given_back(&self, since: Timestamp) -> sql::Result<Vec<ChargeRow>> {
        let (at, decision, tie) = self.order();
        let sql = format!(
            "SELECT r.id, w.reserved_at, d.facts, d.\"by\" FROM answer w JOIN request r ON r.n = w.request
             JOIN decision d ON d.n = (SELECT max(n) FROM decision WHERE request = w.request AND at <= w.reserved_at)
             WHERE w.agent = ?1 AND w.outcome_at >= ?3 AND w.outcome_at <= ?7 AND w.answer = 'approve'
                 AND w.outcome IN ('refused', 'settled-elsewhere', 'gone', 'withdrawn') AND w.reserved_at >= ?2 AND {}",
            Self::answered_before()
        );
        let until = self.moment.at.checked_add(OPEN_MAX).unwrap_or(Timestamp::MAX);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![
            self.agent,
            Micros(since),
            at,
            decision,
            tie,
            self.moment.answer,
            Micros(until)
        ])?;
        let mut charges = Vec::new();
        while let Some(row) = rows.next()? {
            let (Parsed(request), Micros(at)) = (row.get(0)?, row.get(1)?);
            charges.extend(charges_of(row.get_ref(2)?.text()?, row.get_ref(3)?.text()?, &request, at));
        }
        Ok(charges)
    }

    /// In shadow nothing is answered, so only the decisions have the charges of the owner's requests.
    fn charges_in_shadow(&self, owner: &str, except: i64, since: Timestamp) -> sql::Result<Vec<ChargeRow>> {
        let sql = "SELECT r.id, d.at, d.facts, d.\"by\" FROM request r
                   JOIN decision d ON d.n = (SELECT max(n) FROM decision
                       WHERE request = r.n AND CASE WHEN CAST(?5 AS bigint) IS NULL THEN at < ?4 ELSE n < ?5 END)
                   WHERE r.owner = ?2 AND r.agent = ?1 AND r.n <> ?6 AND d.at >= ?3 AND d.mode = 'shadow'";
        let (at, decision, _) = self.order();
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.agent, owner, Micros(since), at, decision, except])?;
        let mut charges = Vec::new();
        while let Some(row) = rows.next()? {
            let (Parsed(request), Micros(at)) = (row.get(0)?, row.get(1)?);
            charges.extend(charges_of(row.get_ref(2)?.text()?, row.get_ref(3)?.text()?, &request, at));
        }
        Ok(charges)
    }

    /// Approvals that counted towards `approvals_max`, since the last resume.
    fn approvals(&self, since: Timestamp, resumed: i64) -> sql::Result<Vec<ApprovalRow>> {
        let (at, decision, tie) = self.order();
        let columns = |by: &str| {
            format!(
                "SELECT r.id, w.reserved_at,
                     r.id_reused = 0 AND (w.outcome IS NULL OR w.outcome = 'unknown' OR w.outcome_at > ?3)
                 FROM answer w INDEXED BY {by} JOIN request r ON r.n = w.request"
            )
        };
        let counts = format!(
            "w.agent = ?1 AND w.counts = ?7 AND w.reserved_at >= ?2
                 AND (w.outcome IS NULL OR w.outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected', 'unknown') OR w.outcome_at > ?3)
                 AND {}",
            Self::answered_before()
        );
        // Two ways in, each by an index of its own: otherwise SQLite walks through all answers of the agent.
        let sql = format!(
            "{} WHERE w.outcome_at >= ?2 AND {counts}
             UNION ALL {} WHERE (w.outcome IS NULL OR w.outcome = 'unknown') AND w.outcome_at IS NULL AND {counts}
             ORDER BY 2",
            columns("answer_time"),
            columns("answer_open")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(
            params![self.agent, Micros(since), at, decision, tie, self.moment.answer, resumed],
            |row| {
                let (Parsed(request), Micros(at)) = (row.get(0)?, row.get(1)?);
                Ok(ApprovalRow { request, at, open: row.get(2)? })
            },
        )?;
        rows.collect()
    }

    /// This owner's history. Outcomes and removals come before decisions of the same step.
    fn history(&self, owner: &str, since: Timestamp) -> sql::Result<Vec<OwnerHistoryRow>> {
        let mut history = Vec::new();
        let mut take = |sql: &str, kind: Option<HistoryKind>| -> sql::Result<()> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![self.agent, owner, Micros(since), Micros(self.moment.at)])?;
            while let Some(row) = rows.next()? {
                let kind = match kind {
                    Some(kind) => kind,
                    None if row.get_ref(2)?.text()? == Verdict::Approve.as_str() => HistoryKind::Approved,
                    None if row.get_ref(2)?.text()? == "guest" => HistoryKind::Guest,
                    None if row.get_ref(2)?.text()? == "presumed" => HistoryKind::Presumed,
                    None if row.get_ref(2)?.text()? == "perhaps" => continue,
                    None => HistoryKind::Rejected,
                };
                let request = row.get::<_, Option<Parsed<_>>>(0)?.map(|Parsed(id)| id);
                let Micros(at) = row.get(1)?;
                let handle = row.get_ref(3)?.text_or_null()?.and_then(|text| Handle::parse(text).ok());
                history.push(OwnerHistoryRow { owner: owner.into(), handle, request, kind, at });
            }
            Ok(())
        };
        take(
            "SELECT CASE WHEN id_reused = 0 THEN id END, first_seen, NULL, handle FROM request
             WHERE agent = ?1 AND owner = ?2 AND first_seen >= ?3 AND first_seen <= ?4",
            Some(HistoryKind::Requested),
        )?;
        // What showed later that a presumed approval was one was not known then.
        take(
            "SELECT r.id, w.outcome_at, CASE WHEN w.lasts IS NOT NULL THEN 'guest'
                 WHEN w.outcome = 'presumed-approved' AND w.\"by\" NOT GLOB 'person:*'
                     AND NOT EXISTS (SELECT 1 FROM contact_owner o JOIN contact c ON c.n = o.contact
                         WHERE o.agent = ?1 AND o.owner = r.owner AND (c.request = r.n OR c.handle = r.handle)
                             AND c.added_at <= ?4 AND coalesce(c.removed_at, r.first_seen) >= r.first_seen)
                     AND NOT EXISTS (SELECT 1 FROM settlement s WHERE s.agent = ?1 AND s.owner = r.owner
                         AND s.said = 'approved' AND s.request = r.n AND s.at <= ?4)
                     THEN 'presumed'
                 WHEN w.outcome = 'presumed-rejected' AND w.\"by\" NOT GLOB 'person:*' THEN 'perhaps'
                 ELSE w.answer END, r.handle FROM request r JOIN answer w ON w.request = r.n
             WHERE r.agent = ?1 AND r.owner = ?2 AND w.outcome_at >= ?3 AND w.outcome_at <= ?4
                 AND w.outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')",
            None,
        )?;
        take(
            "SELECT CASE WHEN id_reused = 0 THEN id END, settled_at, NULL, handle FROM request
             WHERE agent = ?1 AND owner = ?2 AND settled_at >= ?3 AND settled_at <= ?4 AND elsewhere = 1 AND settled = 'rejected'
             UNION ALL SELECT CASE WHEN r.id_reused = 0 THEN r.id END, s.at, NULL, NULL
             FROM settlement s LEFT JOIN request r ON r.n = s.request
             WHERE s.agent = ?1 AND s.owner = ?2 AND s.at >= ?3 AND s.at <= ?4 AND s.said = 'rejected'",
            Some(HistoryKind::Rejected),
        )?;
        take(
            "SELECT NULL, at, NULL, NULL FROM settlement
             WHERE agent = ?1 AND owner = ?2 AND at >= ?3 AND at <= ?4 AND said = 'removed'",
            Some(HistoryKind::Removed),
        )?;
        take(
            "SELECT NULL, c.removed_at, NULL, c.handle FROM contact c JOIN contact_owner o ON o.contact = c.n
             WHERE c.agent = ?1 AND o.owner = ?2 AND c.removed_at >= ?3 AND c.removed_at <= ?4 AND c.expired = 0
             UNION ALL SELECT NULL, c.at, NULL, NULL FROM contact_removal c JOIN contact_owner o ON o.contact = c.contact
             WHERE c.agent = ?1 AND o.owner = ?2 AND c.at >= ?3 AND c.at <= ?4 AND c.expired = 0",
            Some(HistoryKind::Removed),
        )?;
        history.sort_by_key(|row| row.at);
        Ok(history)
    }

    fn overdue_rejects(&self) -> sql::Result<Vec<(RuleName, Timestamp)>> {
        let (at, decision, tie) = self.order();
        let since = self.moment.at.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        let sql = format!(
            "SELECT substr(w.\"by\", 9), w.reserved_at FROM answer w
             WHERE w.agent = ?1 AND w.outcome_at >= ?2 AND w.reserved_at >= ?2 AND w.answer = 'reject' AND w.\"by\" GLOB 'overdue:*'
                 AND {}",
            Self::answered_before()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params![self.agent, Micros(since), at, decision, tie, self.moment.answer], |row| {
                let Micros(at) = row.get(1)?;
                Ok((RuleName::parse(&row.get::<_, String>(0)?), at))
            })?;
        let rows: Vec<_> = rows.collect::<sql::Result<_>>()?;
        Ok(rows.into_iter().filter_map(|(name, at)| Some((name?, at))).collect())
    }
}

fn charges_of<'a>(
    facts: &str,
    by: &str,
    request: &'a RequestId,
    at: Timestamp,
) -> impl Iterator<Item = ChargeRow> + use<'a> {
    // These answers failed later, or never left.
    reasons::charges(facts, by).into_iter().map(move |charge| ChargeRow {
        request: Some(request.clone()),
        charge,
        at,
        end: ChargeEnd::Open,
    })
}

/// The rows of the newest requests of a handle, newest first, at most `most`.
pub fn of_handle(
    connection: Connection<'_>,
    agent: Option<&AgentId>,
    wanted: &rows::WhoseRequests,
    most: usize,
) -> sql::Result<Vec<i64>> {
    let owner = match wanted {
        rows::WhoseRequests::Plain(handle) => Some(handle.owner()),
        rows::WhoseRequests::AgentsOf(owner) => Some(owner.as_str()),
        rows::WhoseRequests::Text(_) => None,
    };
    let mut statement = connection.prepare_cached(
        "SELECT r.n, r.handle FROM request r JOIN agent a ON a.n = r.agent
         WHERE r.owner IS NOT DISTINCT FROM ?1 AND (CAST(?2 AS text) IS NULL OR a.id = ?2) ORDER BY r.n DESC",
    )?;
    let mut rows = statement.query(params![owner, agent.map(AgentId::as_str)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if wanted.is(&crate::model::Sender::parse(row.get_ref(1)?.text_or_null()?)) {
            found.push(row.get(0)?);
            if found.len() >= most {
                break;
            }
        }
    }
    Ok(found)
}
