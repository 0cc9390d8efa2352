//! Who is a contact, since when, and by whose word.

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use crate::ledger::columns::{Micros, Parsed};
use crate::model::{AgentId, ContactId, ContactKind, GuestDoubt, Handle, RequestId, StrangerText};
use crate::policy::By;

/// A contact that is there, as far as the record knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedContact {
    /// Whose contact.
    pub agent: AgentId,
    /// The platform's id of it.
    pub contact: ContactId,
    /// Its handle, or that of the request whose answer made it.
    pub handle: Option<StrangerText>,
    /// Its name.
    pub name: Option<StrangerText>,
    /// User or agent; `None` where an older record does not say.
    pub kind: Option<ContactKind>,
    /// Since when: the platform's time where it gave one, else when doorman first saw it.
    pub since: Option<Timestamp>,
    /// The request whose answer made it; `None`: no answer of doorman.
    pub request: Option<RequestId>,
    /// Who approved that request: a rule's name, `person:NAME`, and so on.
    pub by: Option<By>,
    /// When it is removed.
    pub ends_at: Option<Timestamp>,
    /// Why it is not removed by itself.
    pub end_in_doubt: Option<GuestDoubt>,
}

/// The contacts of this agent, or of all, oldest first, whose handle and time `keep` keeps: only of those the request and
/// its answer are looked up.
pub fn kept(
    connection: &Connection,
    agent: Option<&AgentId>,
    keep: impl Fn(Option<&str>, Option<Timestamp>) -> bool,
) -> rusqlite::Result<Vec<RecordedContact>> {
    let mut find = connection.prepare_cached(
        "SELECT c.n, coalesce(c.handle, (SELECT handle FROM request WHERE n = c.request)),
             coalesce(c.inserted_at, c.added_at) AS since
         FROM agent a CROSS JOIN contact c ON c.agent = a.n
         WHERE c.removed_at IS NULL AND (?1 IS NULL OR a.id = ?1) ORDER BY since, c.n",
    )?;
    let mut numbers: Vec<i64> = Vec::new();
    let mut rows = find.query([agent.map(AgentId::as_str)])?;
    while let Some(row) = rows.next()? {
        if keep(row.get_ref(1)?.as_str_or_null()?, row.get::<_, Option<Micros>>(2)?.map(|Micros(at)| at)) {
            numbers.push(row.get(0)?);
        }
    }
    // An answer that certainly let nobody in explains nobody.
    let mut one = connection.prepare_cached(
        "SELECT a.id, c.id, coalesce(c.handle, r.handle), c.name, c.kind, coalesce(c.inserted_at, c.added_at),
                 CASE WHEN w.n IS NOT NULL THEN r.id END, w.\"by\", g.ends_at, g.doubt
             FROM contact c JOIN agent a ON a.n = c.agent LEFT JOIN request r ON r.n = c.request
             LEFT JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = r.n AND answer = 'approve'
                 AND (outcome IS NULL OR outcome NOT IN ('refused', 'gone', 'withdrawn', 'settled-elsewhere')))
             LEFT JOIN guest g ON g.n = (SELECT max(n) FROM guest WHERE agent = c.agent AND contact = c.id AND over IS NULL)
             WHERE c.n = ?1",
    )?;
    numbers.into_iter().map(|n| one.query_row([n], read)).collect()
}

/// From when to when the handles of an agent's contacts were contacts, as far as the record knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactSpans(Vec<(Handle, Option<Timestamp>, Option<Timestamp>)>);

impl ContactSpans {
    /// Whether somebody of this handle's owner was a contact at that moment, and whether this very handle was.
    pub fn at(&self, handle: &Handle, at: Timestamp) -> (bool, bool) {
        let there = |since: Option<Timestamp>, until: Option<Timestamp>| {
            since.is_none_or(|since| since <= at) && until.is_none_or(|until| until > at)
        };
        let theirs = self.0.iter().filter(|(one, since, until)| one.owner() == handle.owner() && there(*since, *until));
        theirs.fold((false, false), |(_, sender), (one, ..)| (true, sender || one == handle))
    }
}

/// When which handles were contacts of this agent, of one owner or of all; those without a readable handle are left out.
pub fn spans(connection: &Connection, agent: &AgentId, owner: Option<&str>) -> rusqlite::Result<ContactSpans> {
    let from = match owner {
        None => "contact c ON c.agent = a.n AND ?2 IS NULL",
        Some(_) => "contact_owner o ON o.agent = a.n AND o.owner = ?2 CROSS JOIN contact c ON c.n = o.contact",
    };
    let sql = format!(
        "SELECT coalesce(c.handle, r.handle), coalesce(c.inserted_at, c.added_at), c.removed_at
         FROM agent a CROSS JOIN {from} LEFT JOIN request r ON r.n = c.request WHERE a.id = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(rusqlite::params![agent.as_str(), owner], |row| {
        let handle = row.get_ref(0)?.as_str_or_null()?.and_then(|text| Handle::parse(text).ok());
        let moment = |column: usize| Ok(row.get::<_, Option<Micros>>(column)?.map(|Micros(at)| at));
        let (since, until): (_, rusqlite::Result<_>) = (moment(1)?, moment(2));
        Ok(handle.zip(Some((since, until?))))
    })?;
    let mut spans = Vec::new();
    for row in rows {
        spans.extend(row?.map(|(handle, (since, until))| (handle, since, until)));
    }
    Ok(ContactSpans(spans))
}

fn read(row: &Row<'_>) -> rusqlite::Result<RecordedContact> {
    let text = |column: usize| -> rusqlite::Result<Option<StrangerText>> {
        Ok(row.get_ref(column)?.as_str_or_null()?.map(StrangerText::new))
    };
    let Parsed(agent) = row.get(0)?;
    let Parsed(contact) = row.get(1)?;
    Ok(RecordedContact {
        agent,
        contact,
        handle: text(2)?,
        name: text(3)?,
        kind: row.get::<_, Option<Parsed<ContactKind>>>(4)?.map(|Parsed(kind)| kind),
        since: row.get::<_, Option<Micros>>(5)?.map(|Micros(at)| at),
        request: row.get::<_, Option<Parsed<RequestId>>>(6)?.map(|Parsed(id)| id),
        by: row.get::<_, Option<Parsed<By>>>(7)?.map(|by| by.0),
        ends_at: row.get::<_, Option<Micros>>(8)?.map(|Micros(at)| at),
        end_in_doubt: row.get::<_, Option<Parsed<GuestDoubt>>>(9)?.map(|Parsed(doubt)| doubt),
    })
}
