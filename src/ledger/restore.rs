//! What an agent remembers at start, and which contacts our answers made: read from committed data.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::columns::{Micros, Parsed};
use super::entry::{RecentAnswer, SavedGuest, SavedIdentity, SavedRequest};
use super::sql::{self, Connection, Optional as _, SqlRow, TextColumn as _, params};
use super::{HistoryReach, MemoryReach, OpenAnswer, SavedAgent};
use crate::model::{
    AgentId, Answer, ContactId, ContactRequest, Handle, RequestId, Sender, SenderId, Stay, StrangerText,
};
use crate::policy::doubts::{Basis, DOUBTS_MAX, Doubt, Fact, IDS_MAX, OpenContact, SeenIdentity};
use crate::policy::state::{ApprovalRow, ChargeRow, HistoryKind, HistoryRow, SavedState};
use crate::policy::{Charge, RuleName, ask};

/// The handle of the sender that answer `w` to request `r` was for: that of before the first change after it was sent.
const MEANT_FOR: &str = "coalesce((SELECT c.handle FROM request_change c WHERE c.request = r.n AND c.handle IS NOT NULL
    AND c.at > w.last_at ORDER BY c.n LIMIT 1), r.handle)";

/// Answers that were applied are remembered at start: at least the last so many, at most so many, and between these those of the
/// last day, in microseconds.
const RECENT_MIN: usize = 64;
const RECENT_MAX: usize = 4_096;
const RECENT_US: i64 = 24 * 3_600 * 1_000_000;

/// Most rows of history, of each kind, that are loaded. Where there are more, the newest are, and history counts as
/// incomplete.
pub const HISTORY_ROWS_MAX: usize = 500_000;

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

/// What an owner did and met.
#[derive(Debug, Default)]
struct HistoryRead {
    rows: Vec<HistoryRow>,
    /// Nothing was left out because there was too much.
    complete: bool,
    /// The numbers of answers that rejected only presumably.
    perhaps: Vec<i64>,
}

/// All of [`SavedAgent`].
pub fn load(
    connection: Connection<'_>,
    agent: &AgentId,
    now: Timestamp,
    reach: MemoryReach,
) -> sql::Result<SavedAgent> {
    let agent = connection.query_row("SELECT n FROM agent WHERE id = ?1", [agent.as_str()], |row| row.get(0));
    let Some(agent): Option<i64> = agent.optional()? else {
        let policy_state = SavedState { history_complete: true, ..SavedState::default() };
        return Ok(SavedAgent { policy_state, ..SavedAgent::default() });
    };
    let load = Load { connection, agent };
    let open_answers = load.open_answers()?;
    Ok(SavedAgent {
        policy_state: load.policy_state(now, reach)?,
        refused_answers: load.refused_answers()?,
        pending: load.rows(
            "SELECT id, handle, inserted_at, first_seen FROM request WHERE agent = ?1 AND settled IS NULL ORDER BY n",
            None,
            |row| {
                Ok(SavedRequest {
                    id: parsed(row, 0)?,
                    sender: Sender::parse(row.get::<_, Option<String>>(1)?.as_deref()),
                    inserted_at: row.get::<_, Option<Micros>>(2)?.map(|Micros(at)| at),
                    first_seen: time(row, 3)?,
                })
            },
        )?,
        decided: load.rows(
            "SELECT r.id, d.verdict, d.\"by\", d.mode FROM request r
             JOIN decision d ON d.n = (SELECT max(n) FROM decision WHERE request = r.n)
             WHERE r.agent = ?1 AND r.settled IS NULL ORDER BY r.n",
            None,
            |row| Ok((parsed(row, 0)?, parsed(row, 1)?, parsed(row, 2)?, parsed(row, 3)?)),
        )?,
        recent_answers: load.recent_answers()?,
        guests: load.guests()?,
        identities: load.identities()?,
        contacts: load.contacts(&awaited(&open_answers))?,
        open_answers,
        contacts_read: load.contacts_read()?,
        newest: load.newest()?,
    })
}

/// A decider's verdict, in columns 1 to 4.
pub(super) fn told(row: &SqlRow<'_>) -> sql::Result<ask::DeciderVerdict> {
    Ok(ask::DeciderVerdict {
        decider: parsed(row, 1)?,
        key: Some(row.get::<_, String>(2)?.into()),
        verdict: parsed(row, 3)?,
        reason: row.get::<_, Option<String>>(4)?.map(|reason| StrangerText::new(&reason)),
    })
}

struct Load<'a> {
    connection: Connection<'a>,
    agent: i64,
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
    fn contacts_read(&self) -> sql::Result<bool> {
        let sql = "SELECT contacts_read_at IS NOT NULL FROM agent WHERE n = ?1";
        self.connection.prepare_cached(sql)?.query_row([self.agent], |row| row.get(0))
    }

    /// The time of the agent's newest rows: its last change of state, its last answer, the last request that is open and
    /// the last decision on it. Not the largest time: one wrong moment of the clock must not make it unsound for ever.
    fn newest(&self) -> sql::Result<Option<Timestamp>> {
        let sql = "SELECT max(at) FROM (
                 SELECT at FROM (SELECT at FROM session WHERE agent = ?1 ORDER BY n DESC LIMIT 1) its_state
                 UNION ALL SELECT at FROM (
                     SELECT max(last_at, coalesce(outcome_at, last_at)) AS at FROM answer WHERE agent = ?1 ORDER BY n DESC LIMIT 1) its_answer
                 UNION ALL SELECT at FROM (
                     SELECT max(first_seen, coalesce((SELECT at FROM decision WHERE request = r.n ORDER BY n DESC LIMIT 1), first_seen)) AS at
                     FROM request r WHERE agent = ?1 AND settled IS NULL ORDER BY n DESC LIMIT 1) its_request) newest";
        let newest: Option<Micros> = self.connection.prepare_cached(sql)?.query_row([self.agent], |row| row.get(0))?;
        Ok(newest.map(|Micros(at)| at))
    }

    fn rows<T>(
        &self,
        sql: &str,
        since: Option<Timestamp>,
        read: impl FnMut(&SqlRow<'_>) -> sql::Result<T>,
    ) -> sql::Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        match since {
            Some(since) => statement.query_map(params![self.agent, Micros(since)], read)?.collect(),
            None => statement.query_map([self.agent], read)?.collect(),
        }
    }

    fn policy_state(&self, now: Timestamp, reach: MemoryReach) -> sql::Result<SavedState> {
        let since = back(now, reach.charges);
        let charges = self.rows(
            "SELECT r.id, c.rule, c.bucket, c.at, r.id_reused = 0 AND coalesce((SELECT w.outcome IS NULL OR w.outcome = 'unknown'
                 FROM answer w WHERE w.request = c.request ORDER BY w.n DESC LIMIT 1), TRUE),
                 coalesce((SELECT w.outcome IN ('approved', 'rejected') FROM answer w
                     WHERE w.request = c.request ORDER BY w.n DESC LIMIT 1), FALSE)
             FROM charge c JOIN request r ON r.n = c.request
             WHERE c.agent = ?1 AND c.at >= ?2 ORDER BY c.at, c.request",
            Some(since),
            |row| {
                let charge = Charge { rule: parsed(row, 1)?, bucket: row.get(2)? };
                Ok(ChargeRow { request: parsed(row, 0)?, charge, at: time(row, 3)?, open: row.get(4)?, confirmed: row.get(5)? })
            },
        )?;
        let asked = reach.history.is_some();
        let since = match reach.history {
            Some(HistoryReach::Within(within)) => back(now, within),
            Some(HistoryReach::Ever) | None => Timestamp::MIN,
        };
        let HistoryRead { rows: history, complete: history_complete, perhaps } =
            if asked { self.history(since)? } else { HistoryRead { complete: true, ..HistoryRead::default() } };
        let mut doubts = if asked { self.ended_unseen(since)? } else { Vec::new() };
        doubts.extend(self.perhaps_rejected(&perhaps)?);
        if reach.history == Some(HistoryReach::Ever) {
            doubts.extend(self.presumed()?);
        }
        Ok(SavedState {
            charges,
            history,
            history_complete,
            unmet: if asked { self.unmet()? } else { Vec::new() },
            nameless: if asked { self.nameless()? } else { None },
            doubts,
            told: self.rows(
                "SELECT r.id, t.decider, t.question, t.verdict, t.reason FROM told t JOIN request r ON r.n = t.request
                 WHERE r.agent = ?1 AND r.settled IS NULL AND r.id_reused = 0 ORDER BY t.n",
                None,
                |row| Ok((parsed(row, 0)?, told(row)?)),
            )?,
            approvals: self.approvals(reach.approvals.map(|within| back(now, within)), since)?,
            holds: self.rows(
                "SELECT r.id, h.person FROM hold h JOIN request r ON r.n = h.request
                 WHERE h.agent = ?1 AND h.ended_at IS NULL AND r.id_reused = 0 AND (r.settled IS NULL OR r.settled = 'gone')
                 ORDER BY h.n",
                None,
                |row| Ok((parsed(row, 0)?, row.get(1)?)),
            )?,
            paused: self
                .connection
                .query_row("SELECT paused FROM pause WHERE agent = ?1 ORDER BY n DESC LIMIT 1", [self.agent], |row| {
                    row.get(0)
                })
                .optional()?
                .unwrap_or(false),
            overdue_rejects: self.overdue_rejects(back(now, SignedDuration::from_hours(1)))?,
            notified: self.rows(
                "SELECT r.id, o.overdue FROM request r JOIN notice o ON o.request = r.n
                 WHERE r.agent = ?1 AND r.settled IS NULL ORDER BY r.n, o.overdue",
                None,
                |row| Ok((parsed(row, 0)?, parsed(row, 1)?)),
            )?,
        })
    }

    /// The history of the owners of this agent's senders, oldest first.
    fn history(&self, since: Timestamp) -> sql::Result<HistoryRead> {
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
                history.push(HistoryRow {
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

    /// Of these answers, which presumably rejected their requests, those of which nothing shows what they did: the platform
    /// did not report it, and nothing settles it as in [`Load::ended_unseen`].
    fn perhaps_rejected(&self, answers: &[i64]) -> sql::Result<Vec<Doubt>> {
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

    /// Who has which name: the oldest first, since the first is believed.
    fn identities(&self) -> sql::Result<Vec<SavedIdentity>> {
        self.rows(
            &format!(
                "SELECT owner, name, id, doubted, basis, subject, at FROM identity WHERE agent = ?1 ORDER BY n LIMIT {IDS_MAX}"
            ),
            None,
            |row| {
                let basis = Basis::parse(row.get_ref(4)?.text()?, row.get_ref(5)?.text()?);
                let told = SeenIdentity { name: row.get(1)?, id: parsed::<SenderId>(row, 2)?, doubted: row.get(3)? };
                let basis = basis.ok_or_else(|| sql::Error::damaged("a basis that is none"))?;
                Ok(SavedIdentity { owner: row.get(0)?, told, basis, at: time(row, 6)? })
            },
        )
    }

    /// Guests who are still there, or whose contact was never seen.
    fn guests(&self) -> sql::Result<Vec<SavedGuest>> {
        self.rows(
            "SELECT r.id, coalesce(c.handle, r.handle), g.contact, g.ends_at, g.made_from, g.made_until, g.doubt,
                 EXISTS (SELECT 1 FROM removal v WHERE v.agent = ?1 AND v.contact = g.contact AND v.\"by\" = 'expired'
                     AND (v.outcome IS NULL OR v.outcome IN ('unknown', 'removed')) AND v.at >= g.ends_at)
             FROM guest g JOIN request r ON r.n = g.request
             LEFT JOIN contact c ON c.agent = ?1 AND c.id = g.contact
             WHERE g.agent = ?1 AND g.over IS NULL ORDER BY g.ends_at, g.n",
            None,
            |row| {
                Ok(SavedGuest {
                    request: parsed(row, 0)?,
                    sender: Sender::parse(row.get::<_, Option<String>>(1)?.as_deref()),
                    contact: row.get::<_, Option<Parsed<_>>>(2)?.map(|Parsed(id)| id),
                    stay: Stay {
                        ends_at: time(row, 3)?,
                        made_from: time(row, 4)?,
                        made_until: time(row, 5)?,
                        doubt: row.get::<_, Option<Parsed<_>>>(6)?.map(|Parsed(doubt)| doubt),
                    },
                    removing: row.get(7)?,
                })
            },
        )
    }

    /// The contacts that are open on record: first those of owners that our answers let in, then the newest. For an
    /// `awaited` owner, only the outcome of the answer shows who made the contact.
    fn contacts(&self, awaited: &HashSet<String>) -> sql::Result<Vec<OpenContact>> {
        let mut contacts: Vec<(i64, OpenContact)> = self.rows(
            "SELECT n, id, handle, coalesce(inserted_at, added_at, 0), request IS NULL FROM contact WHERE agent = ?1 AND removed_at IS NULL
             ORDER BY request IS NULL, n DESC LIMIT 100001",
            None,
            |row| {
                let handle = row.get::<_, Option<String>>(2)?.and_then(|handle| Handle::parse(&handle).ok());
                let contact = OpenContact { id: parsed(row, 1)?, handle, owners: Vec::new(), since: time(row, 3)?, elsewhere: row.get(4)? };
                Ok((row.get(0)?, contact))
            },
        )?;
        let mut owners: HashMap<i64, Vec<Arc<str>>> = HashMap::new();
        self.rows(
            "SELECT o.contact, o.owner FROM (SELECT n FROM contact WHERE agent = ?1 AND removed_at IS NULL
                 ORDER BY request IS NULL, n DESC LIMIT 100001) c JOIN contact_owner o ON o.contact = c.n
             ORDER BY o.contact, o.at, o.owner",
            None,
            |row| {
                owners.entry(row.get(0)?).or_default().push(row.get(1)?);
                Ok(())
            },
        )?;
        for (n, contact) in &mut contacts {
            contact.owners = owners.remove(n).unwrap_or_default();
            contact.elsewhere &= !contact.owners.iter().any(|owner| awaited.contains(&**owner));
        }
        Ok(contacts.into_iter().map(|(_, contact)| contact).collect())
    }

    /// Owners that were let in, since when, and of whom no contact was ever recognised: since the intent, for the contact may come
    /// and go before anybody hears what became of the answer. What a person said of one since counts as if they had been let in then.
    fn unmet(&self) -> sql::Result<Vec<(Arc<str>, Timestamp)>> {
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

    /// Requests that ended since then in an unknown way. The end is known if the platform reported it, if a contact
    /// shows that somebody else let that sender in later (and no answer of ours may have made that contact), or if a
    /// person settled it, for the request or by letting the owner in. In addition, the requests that an answer of ours
    /// presumably approved, if no contact shows it.
    fn ended_unseen(&self, since: Timestamp) -> sql::Result<Vec<Doubt>> {
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
    fn presumed(&self) -> sql::Result<Vec<Doubt>> {
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

    /// The last removal of a contact that never had a readable handle. If that contact was added again, the removal
    /// still counts.
    fn nameless(&self) -> sql::Result<Option<(ContactId, Timestamp)>> {
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

    /// Approvals that count towards `approvals_max` and were not given back, since the last resume: of those with an outcome, as
    /// far back as that asks; and those still without.
    fn approvals(&self, counted: Option<Timestamp>, open: Timestamp) -> sql::Result<Vec<ApprovalRow>> {
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

    fn overdue_rejects(&self, since: Timestamp) -> sql::Result<Vec<(RuleName, Timestamp)>> {
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

    /// Each with the sender that its request had at the last try: a later change does not make it an answer to somebody
    /// else. Without the explicit index, SQLite would go through all answers of the agent in order.
    fn open_answers(&self) -> sql::Result<Vec<OpenAnswer>> {
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

    /// The last answers that were applied: a stale listing must not bring them back. Those of the day before the newest, and the
    /// last [`RECENT_MIN`] in any case: counted from the record itself, since the clock may have been wrong then, or be wrong now.
    fn recent_answers(&self) -> sql::Result<Vec<RecentAnswer>> {
        const APPLIED: &str = "outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected')";
        self.rows(
            &format!(
                "WITH last AS (SELECT outcome_at AS at FROM answer INDEXED BY answer_agent WHERE agent = ?1 AND {APPLIED}
                     ORDER BY n DESC LIMIT {RECENT_MIN})
             SELECT r.id, w.answer, w.\"by\", w.answer = 'approve' AND r.id_reused = 0 AND NOT EXISTS
                 (SELECT 1 FROM contact c WHERE c.request = r.n), {MEANT_FOR}, r.inserted_at, w.lasts, {MEANT_FOR} IS DISTINCT FROM r.handle
             FROM answer w INDEXED BY answer_time JOIN request r ON r.n = w.request
             WHERE w.agent = ?1 AND w.outcome_at >= (SELECT min(at) FROM
                     (SELECT at FROM last UNION ALL SELECT max(at) - {RECENT_US} FROM last) AS since)
                 AND w.{APPLIED}
             ORDER BY w.n DESC LIMIT {RECENT_MAX}"
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

    fn refused_answers(&self) -> sql::Result<Vec<OpenAnswer>> {
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
fn awaited(open: &[OpenAnswer]) -> HashSet<String> {
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

fn back(now: Timestamp, reach: SignedDuration) -> Timestamp {
    now.checked_sub(reach).unwrap_or(Timestamp::MIN)
}

fn parsed<T>(row: &SqlRow<'_>, column: usize) -> sql::Result<T>
where
    Parsed<T>: sql::FromSql,
{
    row.get::<_, Parsed<T>>(column).map(|Parsed(value)| value)
}

fn time(row: &SqlRow<'_>, column: usize) -> sql::Result<Timestamp> {
    row.get::<_, Micros>(column).map(|Micros(at)| at)
}
