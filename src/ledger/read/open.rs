//! The requests that are open, as far as the record knows: for agents that another doorman holds, nobody here knows more.

use std::collections::HashMap;

use jiff::Timestamp;

use super::after;
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::restore;
use crate::ledger::sql::{self, Connection, params};
use crate::model::{AgentId, Handle, Outcome, PersonTarget, RequestId, Verdict};
use crate::ops::control::wire::PendingRow;
use crate::policy::Mode;

/// Which requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedOpen {
    /// Of these agents.
    pub agents: Vec<AgentId>,
    /// Those that a person means; else all.
    pub target: Option<PersonTarget>,
    /// At most this many, the oldest.
    pub most: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenRequests {
    /// Oldest first.
    pub requests: Vec<OpenRequest>,
    /// How many more there are.
    pub more: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenRequest {
    /// The agent that received it.
    pub agent: AgentId,
    /// Which.
    pub id: RequestId,
    /// As received.
    pub handle: Option<String>,
    /// As received.
    pub name: Option<String>,
    /// As received.
    pub message: Option<String>,
    /// The platform's time.
    pub inserted_at: Option<Timestamp>,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
    /// The last decision, if there was one.
    pub verdict: Option<Verdict>,
    /// What made it.
    pub by: Option<String>,
    /// Whether it was meant to be answered.
    pub mode: Option<Mode>,
    /// The last answer: what gave it, and its outcome; `None` while that is open.
    pub answer: Option<(String, Option<Outcome>)>,
    /// What deciders said of it, in words.
    pub replies: Vec<String>,
}

/// A list of ids, as the engines take it.
fn listed(agents: &[AgentId]) -> String {
    serde_json::Value::from(agents.iter().map(AgentId::as_str).collect::<Vec<_>>()).to_string()
}

/// A selection that an index serves; whether a handle is the one that is meant is found out afterwards.
const WHERE: &str = "r.settled IS NULL AND a.id IN (SELECT value FROM json_each(?1))
     AND (?2 = 0 OR r.owner = ?3 OR r.id = ?4 OR (r.id >= ?5 AND r.id < ?6))";

/// See the module.
pub fn open_requests(connection: Connection<'_>, wanted: &WantedOpen) -> sql::Result<OpenRequests> {
    let _moment = connection.moment()?;
    let target = wanted.target.as_ref();
    let owner = target.and_then(PersonTarget::handle).map(|handle| handle.owner().to_owned());
    let id = target.and_then(PersonTarget::id).map(|id| id.to_string());
    let beginning = target.and_then(PersonTarget::beginning);
    let until = beginning.map(after);
    let (agents, narrowed) = (listed(&wanted.agents), i64::from(target.is_some()));
    let most = i64::try_from(wanted.most).unwrap_or(i64::MAX);
    let mut find = connection.prepare_cached(&format!(
        r#"SELECT a.id, r.id, r.handle, r.name, r.message, r.inserted_at, r.first_seen, d.verdict, d."by", d.mode, w."by", w.outcome, r.n
        FROM agent a CROSS JOIN request r ON r.agent = a.n
            LEFT JOIN decision d ON d.n = (SELECT max(n) FROM decision WHERE request = r.n)
            LEFT JOIN answer w ON w.n = (SELECT max(n) FROM answer WHERE request = r.n AND (outcome IS NULL OR outcome <> 'withdrawn'))
        WHERE {WHERE} ORDER BY r.first_seen, r.n LIMIT ?7"#
    ))?;
    let found = find.query_map(params![agents, narrowed, owner, id, beginning, until, most], |row| {
        let (Parsed(agent), Parsed(id), Micros(first_seen)) = (row.get(0)?, row.get(1)?, row.get(6)?);
        let by: Option<String> = row.get(10)?;
        let outcome = row.get::<_, Option<Parsed<Outcome>>>(11)?.map(|Parsed(outcome)| outcome);
        let request = OpenRequest {
            agent,
            id,
            handle: row.get(2)?,
            name: row.get(3)?,
            message: row.get(4)?,
            inserted_at: row.get::<_, Option<Micros>>(5)?.map(|Micros(at)| at),
            first_seen,
            verdict: row.get::<_, Option<Parsed<Verdict>>>(7)?.map(|Parsed(verdict)| verdict),
            by: row.get(8)?,
            mode: row.get::<_, Option<Parsed<Mode>>>(9)?.map(|Parsed(mode)| mode),
            answer: by.map(|by| (by, outcome)),
            replies: Vec::new(),
        };
        Ok((row.get::<_, i64>(12)?, request))
    })?;
    let mut found = found.collect::<sql::Result<Vec<_>>>()?;
    let all: i64 = if found.len() < wanted.most {
        i64::try_from(found.len()).unwrap_or(i64::MAX)
    } else {
        let sql = format!("SELECT count(*) FROM agent a CROSS JOIN request r ON r.agent = a.n WHERE {WHERE}");
        connection.query_row(&sql, params![agents, narrowed, owner, id, beginning, until], |row| row.get(0))?
    };
    let more = all.unsigned_abs().saturating_sub(found.len() as u64);
    let mut replies: HashMap<i64, Vec<String>> = HashMap::new();
    let mut words = connection.prepare_cached(&format!(
        "SELECT r.n, t.decider, t.question, t.verdict, t.reason
         FROM agent a CROSS JOIN request r ON r.agent = a.n JOIN told t ON t.request = r.n
         WHERE {WHERE} ORDER BY t.n"
    ))?;
    let words = words.query_map(params![agents, narrowed, owner, id, beginning, until], |row| {
        Ok((row.get::<_, i64>(0)?, restore::reply(row)?.in_words()))
    })?;
    for word in words {
        let (request, word) = word?;
        replies.entry(request).or_default().push(word);
    }
    for (n, request) in &mut found {
        request.replies = replies.remove(n).unwrap_or_default();
    }
    let mut requests: Vec<OpenRequest> = found.into_iter().map(|(_, request)| request).collect();
    if let Some(target) = target {
        requests.retain(|request| request.is_meant(target));
        if let Some(id) = target.id().filter(|id| requests.iter().any(|one| one.id == *id)) {
            requests.retain(|one| one.id == id);
        }
    }
    Ok(OpenRequests { requests, more })
}

impl OpenRequest {
    /// As people and programs see it, with the name of the doorman that holds its agent; `nobody` if none does.
    pub fn into_row(self, held_by: Option<&str>) -> PendingRow {
        let stage = self.stage().to_owned();
        let is_open = |outcome: Option<Outcome>| outcome.is_none_or(|outcome| outcome == Outcome::Unknown);
        // What keeps a request waiting, rather than what decided it, as an agent's task says it.
        let by = match self.answer {
            Some((by, outcome)) if is_open(outcome) && self.verdict != Some(Verdict::Defer) => Some(by),
            Some(_) | None => self.by,
        };
        PendingRow {
            request: self.id.to_string(),
            agent: self.agent,
            handle: self.handle,
            name: self.name,
            message: self.message,
            inserted_at: self.inserted_at,
            first_seen: self.first_seen,
            verdict: self.verdict,
            by,
            doubts: Vec::new(),
            replies: self.replies,
            due: None,
            stage,
            held_by: Some(held_by.unwrap_or("nobody").to_owned()),
        }
    }

    /// By its id, its sender's handle, or the beginning of its id, as an agent's task would find it.
    fn is_meant(&self, target: &PersonTarget) -> bool {
        let plain = self.handle.as_deref().and_then(|handle| Handle::parse(handle).ok());
        target.id().is_some_and(|id| id == self.id)
            || plain.is_some_and(|handle| target.handle() == Some(handle))
            || target.beginning().is_some_and(|beginning| self.id.as_str().starts_with(beginning))
    }

    /// The word for where it is; see `PendingRow::stage`.
    pub fn stage(&self) -> &'static str {
        match (&self.answer, self.verdict) {
            (Some((_, None)), _) => "in-flight",
            (Some((_, Some(Outcome::Unknown))), _) => "unknown",
            (Some((_, Some(Outcome::Refused))), _) => "refused",
            (_, Some(Verdict::Defer)) => "deferred",
            (_, Some(_)) if self.mode == Some(Mode::Shadow) => "shadow",
            (_, Some(_) | None) => "waiting",
        }
    }
}

/// Of these agents, those that let somebody with this handle in for a time, which is not over.
pub fn agents_of_guest(connection: Connection<'_>, agents: &[AgentId], handle: &Handle) -> sql::Result<Vec<AgentId>> {
    let mut find = connection.prepare_cached(
        "SELECT a.id, r.handle FROM guest g JOIN request r ON r.n = g.request JOIN agent a ON a.n = g.agent
         WHERE g.over IS NULL AND r.owner = ?2 AND a.id IN (SELECT value FROM json_each(?1)) ORDER BY g.n",
    )?;
    let found = find.query_map(params![listed(agents), handle.owner()], |row| {
        let Parsed(agent) = row.get(0)?;
        Ok((agent, row.get::<_, Option<String>>(1)?))
    })?;
    let mut agents = Vec::new();
    for one in found {
        let (agent, theirs): (AgentId, _) = one?;
        if theirs.and_then(|theirs| Handle::parse(&theirs).ok()).as_ref() == Some(handle) {
            agents.push(agent);
        }
    }
    Ok(agents)
}
