//! Who is a contact, since when, and who approved the contact.

use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::sql::{self, Connection, Optional as _, SqlRow, TextColumn as _, params};
use crate::model::{AgentId, ContactId, ContactKind, GuestDoubt, Handle, RequestId, StrangerText};
use crate::policy::By;
use jiff::Timestamp;

/// A contact that is there, as far as the record knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedContact {
    /// The agent.
    pub agent: AgentId,
    /// The platform's id of it.
    pub contact: ContactId,
    /// Its handle, or that of the request whose answer made it.
    pub handle: Option<StrangerText>,
    /// Its name.
    pub name: Option<StrangerText>,
    /// User or agent; `None` if an older record does not say.
    pub kind: Option<ContactKind>,
    /// Since when: the platform's time if it gave one, else when doorman first saw it.
    pub since: Option<Timestamp>,
    /// The request whose answer made it; `None`: no answer of doorman.
    pub request: Option<RequestId>,
    /// Who approved that request: a rule's name, `person:NAME`, and so on.
    pub by: Option<By>,
    /// When it is removed.
    pub ends_at: Option<Timestamp>,
    /// Why doorman does not remove it by itself.
    pub end_in_doubt: Option<GuestDoubt>,
}

/// Whether a contact is wanted by its handle, as received.
pub type HandleFilter<'a> = &'a dyn Fn(Option<&str>) -> bool;

/// Which contacts. Each field narrows the selection, and has an index.
#[derive(Default)]
pub(crate) struct WantedContacts<'a> {
    /// Only this agent's.
    pub agent: Option<&'a AgentId>,
    /// Only contacts that exist since then or later.
    pub since: Option<Timestamp>,
    /// Only contacts that this let in: a rule's name, `person:NAME`, and so on.
    pub by: Option<&'a str>,
    /// Only contacts that no answer of doorman's let in.
    pub not_by_doorman: bool,
    /// Only contacts that ever had a handle of this owner; `fits` checks the rest.
    pub owner: Option<&'a str>,
    /// Only those whose own id begins so, or that of the request behind them.
    pub id: Option<&'a str>,
    /// Only this many, the newest.
    pub newest: Option<usize>,
    /// Only those whose handle, as received, fits.
    pub fits: Option<HandleFilter<'a>>,
}

impl WantedContacts<'_> {
    /// Checks the fields that need the whole row.
    pub(super) fn is(&self, contact: &RecordedContact) -> bool {
        let by = contact.by.as_ref().map(ToString::to_string);
        let begins = |id: &str| {
            contact.contact.as_str().starts_with(id)
                || contact.request.as_ref().is_some_and(|it| it.as_str().starts_with(id))
        };
        (!self.not_by_doorman || by.is_none())
            && self.by.is_none_or(|wanted| by.as_deref() == Some(wanted))
            && self.id.is_none_or(begins)
    }
}

/// The rows of those that may be wanted, oldest first.
pub(super) fn numbers(connection: Connection<'_>, wanted: &WantedContacts<'_>) -> sql::Result<Vec<i64>> {
    const COLUMNS: &str = "SELECT c.n AS n, coalesce(c.inserted_at, c.added_at) AS since,
        coalesce(c.handle, (SELECT handle FROM request WHERE n = c.request))";
    const WHOSE: &str = "(CAST(?1 AS text) IS NULL OR c.agent = (SELECT n FROM agent WHERE id = ?1))
        AND (CAST(?2 AS bigint) IS NULL OR coalesce(c.inserted_at, c.added_at) >= ?2) AND c.removed_at IS NULL";
    // Each query starts with the field that leaves the fewest rows. They are put in order below: only those that fit.
    let sql = if wanted.not_by_doorman {
        format!(
            "{COLUMNS} FROM contact c INDEXED BY contact_strange WHERE {WHOSE} AND CAST(?3 AS text) IS NULL AND c.request IS NULL
             UNION {COLUMNS} FROM answer w INDEXED BY answer_uncertain CROSS JOIN contact c ON c.request = w.request
             WHERE {WHOSE} AND w.answer = 'approve' AND w.outcome <> 'approved' AND w.outcome <> 'rejected' AND
                 (w.outcome = 'refused' OR w.outcome = 'gone' OR w.outcome = 'withdrawn' OR w.outcome = 'settled-elsewhere')"
        )
    } else if wanted.id.is_some() {
        // An id is visible ASCII, so that nothing of it comes after DEL. By agent, since that is how the indexes begin.
        format!(
            "{COLUMNS} FROM agent a CROSS JOIN contact c ON c.agent = a.n AND c.id >= ?3 AND c.id < ?3 || '\u{7f}' WHERE {WHOSE}
             UNION {COLUMNS} FROM agent a CROSS JOIN request r ON r.agent = a.n AND r.id >= ?3 AND r.id < ?3 || '\u{7f}'
                 CROSS JOIN contact c ON c.request = r.n
             WHERE {WHOSE}"
        )
    } else if wanted.by.is_some() {
        format!(
            "{COLUMNS} FROM answer w INDEXED BY answer_by CROSS JOIN contact c ON c.request = w.request
             WHERE w.answer = 'approve' AND w.\"by\" = ?3 AND {WHOSE} GROUP BY c.n"
        )
    } else if wanted.owner.is_some() {
        format!(
            "{COLUMNS} FROM agent a CROSS JOIN contact_owner o ON o.agent = a.n AND o.owner = ?3 CROSS JOIN contact c ON c.n = o.contact
             WHERE {WHOSE}"
        )
    } else {
        // The index begins with the agent. What is asked of the newest is in it, so that no row is read for it.
        let by_time = "FROM agent a CROSS JOIN contact c INDEXED BY contact_since ON c.agent = a.n";
        let one = if wanted.agent.is_some() { "AND a.id = ?1" } else { "" };
        let late = if wanted.since.is_some() { "AND coalesce(c.inserted_at, c.added_at) >= ?2" } else { "" };
        let whose = format!("{WHOSE} {one} {late} AND CAST(?3 AS text) IS NULL");
        match (wanted.newest, wanted.fits) {
            (Some(newest), None) => format!(
                "SELECT c.n, coalesce(c.inserted_at, c.added_at) AS since {by_time} WHERE {whose}
                 ORDER BY since DESC, c.n DESC LIMIT {newest}"
            ),
            // All of all agents: the table in its own order is read ten times as fast as by agent and time.
            (_, _) if wanted.agent.is_none() && wanted.since.is_none() => {
                format!("{COLUMNS} FROM contact c WHERE {whose}")
            }
            (_, _) => format!("{COLUMNS} {by_time} WHERE {whose}"),
        }
    };
    let key = match wanted {
        WantedContacts { not_by_doorman: true, .. } => None,
        WantedContacts { id: Some(id), .. } => Some(*id),
        WantedContacts { by: Some(by), .. } => Some(*by),
        WantedContacts { owner, .. } => *owner,
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![wanted.agent.map(AgentId::as_str), wanted.since.map(Micros), key])?;
    let mut numbers: Vec<(Option<i64>, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        let fits = match wanted.fits {
            Some(fits) => fits(row.get_ref(2)?.text_or_null()?),
            None => true,
        };
        if fits {
            numbers.push((row.get(1)?, row.get(0)?));
        }
    }
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|(_, n)| n).collect())
}

/// Those of these rows that are there and wanted, with what is behind each, in one moment of the record. An answer that certainly
/// let nobody in explains nobody.
pub(super) fn page(
    connection: Connection<'_>,
    numbers: &[i64],
    wanted: &WantedContacts<'_>,
) -> sql::Result<Vec<RecordedContact>> {
    let _moment = connection.moment()?;
    let mut one = connection.prepare_cached(
        "SELECT a.id, c.id, coalesce(c.handle, r.handle), c.name, c.kind, coalesce(c.inserted_at, c.added_at),
                 CASE WHEN w.n IS NOT NULL THEN r.id END, w.\"by\", g.ends_at, g.doubt
             FROM contact c JOIN agent a ON a.n = c.agent LEFT JOIN request r ON r.n = c.request
             LEFT JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = r.n AND answer = 'approve'
                 AND (outcome IS NULL OR outcome NOT IN ('refused', 'gone', 'withdrawn', 'settled-elsewhere')))
             LEFT JOIN guest g ON g.n = (SELECT max(n) FROM guest WHERE agent = c.agent AND contact = c.id AND over IS NULL)
             WHERE c.n = ?1 AND c.removed_at IS NULL",
    )?;
    let mut page = Vec::with_capacity(numbers.len());
    for n in numbers {
        page.extend(one.query_row([*n], read).optional()?.filter(|contact| wanted.is(contact)));
    }
    Ok(page)
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
pub fn spans(connection: Connection<'_>, agent: &AgentId, owner: Option<&str>) -> sql::Result<ContactSpans> {
    let from = match owner {
        None => "contact c ON c.agent = a.n AND CAST(?2 AS text) IS NULL",
        Some(_) => "contact_owner o ON o.agent = a.n AND o.owner = ?2 CROSS JOIN contact c ON c.n = o.contact",
    };
    let sql = format!(
        "SELECT coalesce(c.handle, r.handle), coalesce(c.inserted_at, c.added_at), c.removed_at
         FROM agent a CROSS JOIN {from} LEFT JOIN request r ON r.n = c.request WHERE a.id = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![agent.as_str(), owner], |row| {
        let handle = row.get_ref(0)?.text_or_null()?.and_then(|text| Handle::parse(text).ok());
        let moment = |column: usize| Ok(row.get::<_, Option<Micros>>(column)?.map(|Micros(at)| at));
        let (since, until): (_, sql::Result<_>) = (moment(1)?, moment(2));
        Ok(handle.zip(Some((since, until?))))
    })?;
    let mut spans = Vec::new();
    for row in rows {
        spans.extend(row?.map(|(handle, (since, until))| (handle, since, until)));
    }
    Ok(ContactSpans(spans))
}

fn read(row: &SqlRow<'_>) -> sql::Result<RecordedContact> {
    let text = |column: usize| -> sql::Result<Option<StrangerText>> {
        Ok(row.get_ref(column)?.text_or_null()?.map(StrangerText::new))
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
