//! What an agent remembers at start, and which contacts our answers made: read from committed data.

mod answers;
mod charges;
mod doubts;
mod history;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::columns::{Micros, Parsed};
use super::entry::{SavedGuest, SavedIdentity, SavedRequest};
use super::sql::{self, Connection, Optional as _, SqlRow, TextColumn as _, params};
use super::{HistoryReach, RestoreReach, SavedAgent};
use crate::model::{AgentId, GuestStay, Handle, Sender, SenderId, StrangerText};
use crate::policy::ask;
use crate::policy::doubts::{Basis, IDS_MAX, OPEN_MAX, OpenContact, SeenIdentity};
use crate::policy::state::{PauseRecord, SavedState};

use answers::awaited;
use history::HistoryRead;

/// Most contacts that are read: one more than are kept, so that it is noticed.
const CONTACTS_MAX: i64 = OPEN_MAX as i64 + 1;

/// All of [`SavedAgent`].
pub fn load(
    connection: Connection<'_>,
    agent: &AgentId,
    now: Timestamp,
    reach: RestoreReach,
) -> sql::Result<SavedAgent> {
    let agent = connection.query_row("SELECT n FROM agent WHERE id = ?1", [agent.as_str()], |row| row.get(0));
    let Some(agent): Option<i64> = agent.optional()? else {
        let policy_state = SavedState { history_complete: true, ..SavedState::default() };
        return Ok(SavedAgent { policy_state, ..SavedAgent::default() });
    };
    let load = Load { connection, agent };
    let open_answers = load.open_answers()?;
    Ok(SavedAgent {
        // The engine knows.
        shared: false,
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
pub(super) fn reply(row: &SqlRow<'_>) -> sql::Result<ask::DeciderVerdict> {
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

    fn policy_state(&self, now: Timestamp, reach: RestoreReach) -> sql::Result<SavedState> {
        let since = back(now, reach.charges);
        let charges = self.charges(since, reach.merged)?;
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
            replies: self.rows(
                "SELECT r.id, t.decider, t.question, t.verdict, t.reason FROM told t JOIN request r ON r.n = t.request
                 WHERE r.agent = ?1 AND r.settled IS NULL AND r.id_reused = 0 ORDER BY t.n",
                None,
                |row| Ok((parsed(row, 0)?, reply(row)?)),
            )?,
            approvals: self.approvals(reach.approvals.map(|within| back(now, within)), since)?,
            holds: self.rows(
                "SELECT r.id, h.person FROM hold h JOIN request r ON r.n = h.request
                 WHERE h.agent = ?1 AND h.ended_at IS NULL AND r.id_reused = 0 AND (r.settled IS NULL OR r.settled = 'gone')
                 ORDER BY h.n",
                None,
                |row| Ok((parsed(row, 0)?, row.get(1)?)),
            )?,
            paused: self.paused()?,
            overdue_rejects: self.overdue_rejects(back(now, SignedDuration::from_hours(1)))?,
            notified: self.rows(
                "SELECT r.id, o.overdue FROM request r JOIN notice o ON o.request = r.n
                 WHERE r.agent = ?1 AND r.settled IS NULL ORDER BY r.n, o.overdue",
                None,
                |row| Ok((parsed(row, 0)?, parsed(row, 1)?)),
            )?,
        })
    }

    /// The pause in force, if there is one.
    fn paused(&self) -> sql::Result<Option<PauseRecord>> {
        let sql = "SELECT paused, \"by\", at, note FROM pause WHERE agent = ?1 ORDER BY n DESC LIMIT 1";
        let last = self.connection.query_row(sql, [self.agent], |row| {
            let (paused, Parsed(by), Micros(at)): (bool, _, _) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(PauseRecord { by, at, note: row.get(3)? }).map(|pause| paused.then_some(pause))
        });
        Ok(last.optional()?.flatten())
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
                let identity = SeenIdentity { name: row.get(1)?, id: parsed::<SenderId>(row, 2)?, doubted: row.get(3)? };
                let basis = basis.ok_or_else(|| sql::Error::damaged("a basis that is none"))?;
                Ok(SavedIdentity { owner: row.get(0)?, identity, basis, at: time(row, 6)? })
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
                    stay: GuestStay {
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

    /// The contacts that are open on record; if there are too many, first those of owners that our answers let in, then the newest. For
    /// an `awaited` owner, only the outcome of the answer shows who made the contact.
    fn contacts(&self, awaited: &HashSet<String>) -> sql::Result<Vec<OpenContact>> {
        let count = format!(
            "SELECT count(*) FROM (SELECT 1 FROM contact WHERE agent = ?1 AND removed_at IS NULL LIMIT {CONTACTS_MAX} + 1) few"
        );
        let count: i64 = self.connection.prepare_cached(&count)?.query_row([self.agent], |row| row.get(0))?;
        // Not to sort them if all are wanted is half of the work.
        let (most, order) = match count > CONTACTS_MAX {
            true => (format!("ORDER BY request IS NULL, n DESC LIMIT {CONTACTS_MAX}"), "c.request IS NULL, c.n DESC"),
            // As their index has them.
            false => (String::new(), "coalesce(c.inserted_at, c.added_at), c.n"),
        };
        let kept = usize::try_from(count.min(CONTACTS_MAX)).unwrap_or(0);
        let mut contacts: Vec<OpenContact> = Vec::with_capacity(kept);
        // All contacts of an owner share its name.
        let mut names: HashSet<Arc<str>> = HashSet::new();
        // The owners of the contact that was read last, whose number this is.
        let (mut last, mut owners): (Option<i64>, Vec<(Timestamp, Arc<str>)>) = (None, Vec::new());
        let end = |contacts: &mut Vec<OpenContact>, owners: &mut Vec<(Timestamp, Arc<str>)>| {
            let Some(contact) = contacts.last_mut() else { return };
            owners.sort();
            contact.owners = owners.drain(..).map(|(_, owner)| owner).collect();
            contact.elsewhere &= !contact.owners.iter().any(|owner| awaited.contains(&**owner));
        };
        self.rows(
            &format!(
                "SELECT c.n, c.id, c.handle, coalesce(c.inserted_at, c.added_at, 0), c.request IS NULL, o.at, o.owner
                 FROM (SELECT n, id, handle, inserted_at, added_at, request FROM contact WHERE agent = ?1 AND removed_at IS NULL {most}) c
                 LEFT JOIN contact_owner o ON o.contact = c.n ORDER BY {order}"
            ),
            None,
            |row| {
                let n = row.get(0)?;
                if last != Some(n) {
                    end(&mut contacts, &mut owners);
                    last = Some(n);
                    let handle = row.get_ref(2)?.text_or_null()?.and_then(|handle| Handle::parse(handle).ok());
                    contacts.push(OpenContact {
                        id: parsed(row, 1)?,
                        handle,
                        owners: Vec::new(),
                        since: time(row, 3)?,
                        elsewhere: row.get(4)?,
                    });
                }
                let Some(owner) = row.get_ref(6)?.text_or_null()? else { return Ok(()) };
                let owner = match names.get(owner) {
                    Some(known) => known.clone(),
                    None => {
                        let new: Arc<str> = owner.into();
                        names.insert(new.clone());
                        new
                    }
                };
                owners.push((time(row, 5)?, owner));
                Ok(())
            },
        )?;
        end(&mut contacts, &mut owners);
        Ok(contacts)
    }
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
