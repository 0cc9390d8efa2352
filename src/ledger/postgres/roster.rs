//! The roster as people change it and look at it; see `crate::ledger::roster`. Each change counts `meta.roster_changes` up, so that the doormen
//! need not read the roster to see that it is the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::address::ConnectionPurpose;
use super::members::holder_of;
use super::{Address, NOW, PostgresReading, usable};
use crate::ledger::roster::{self, ROSTER_MAX, RosterAgent};
use crate::ledger::sql::{self, Connection, Optional as _, params};
use crate::ledger::{LedgerError, columns, pushed};
use crate::model::AgentId;

/// The first schema with a roster.
const SINCE: i64 = 17;

/// What a person wants on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRosterAgents {
    /// Which; each with the name that rules may use for it.
    pub agents: Vec<(AgentId, Option<String>)>,
    /// The name of their pushed rules.
    pub rules: String,
    /// Those that are there already get these rules and names.
    pub replace: bool,
    /// `person:NAME`.
    pub by: String,
    /// Why.
    pub note: Option<String>,
}

/// What came of it: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterAdded {
    /// They are on the roster.
    Done {
        /// How many are new.
        added: usize,
        /// How many were there with other rules or another name.
        changed: usize,
    },
    /// Nothing was pushed under this name.
    NoRules,
    /// This one is there already.
    There(RosterAgent),
    /// Another agent has this name: its id.
    NameTaken(String),
    /// There would be more than [`ROSTER_MAX`].
    Full,
}

/// The roster, and who may hold each agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RosterList {
    /// By id.
    pub rows: Vec<RosterRow>,
    /// See [`roster::Roster::left_out`].
    pub left_out: u64,
}

/// An agent of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterRow {
    /// As it is on the roster.
    pub agent: RosterAgent,
    /// The name of the living doorman that has it.
    pub holder: Option<String>,
    /// The names of the doormen that may have it, since they have its key.
    pub keys: Vec<String>,
}

/// Puts agents on the roster, all or none.
pub fn add(address: &Address, new: &NewRosterAgents) -> Result<RosterAdded, LedgerError> {
    let session = usable(address, ConnectionPurpose::Push)?;
    let connection = Connection::Postgres(&session);
    let done = || -> sql::Result<RosterAdded> {
        session.begin("BEGIN")?;
        // First: one change comes after the other.
        connection.prepare_cached("UPDATE meta SET roster_changes = roster_changes + 1")?.execute([])?;
        if pushed::head(connection, &new.rules)?.is_none() {
            return Ok(RosterAdded::NoRules);
        }
        let (mut added, mut changed) = (0, 0);
        for (agent, name) in &new.agents {
            let there = roster::one(connection, agent)?;
            if let Some(there) = there.as_ref().filter(|_| !new.replace) {
                return Ok(RosterAdded::There(there.clone()));
            }
            if let Some(name) = name {
                let sql = "SELECT agent FROM fleet_agent WHERE name = ?1 AND agent <> ?2";
                let other: Option<String> =
                    connection.query_row(sql, params![name, agent.as_str()], |row| row.get(0)).optional()?;
                if let Some(other) = other {
                    return Ok(RosterAdded::NameTaken(other));
                }
            }
            let same = |there: &RosterAgent| there.rules == new.rules && there.name == *name;
            if there.as_ref().is_some_and(same) {
                continue;
            }
            let sql = format!(
                "INSERT INTO fleet_agent (agent, rules, name, added_by, added_at, note) VALUES (?1, ?2, ?3, ?4, {NOW}, ?5)
                 ON CONFLICT (agent) DO UPDATE SET rules = excluded.rules, name = excluded.name, added_by = excluded.added_by,
                     added_at = excluded.added_at, note = excluded.note"
            );
            connection.prepare_cached(&sql)?.execute(params![agent.as_str(), new.rules, name, new.by, new.note])?;
            if there.is_some() { changed += 1 } else { added += 1 }
        }
        let all: i64 = connection.query_row("SELECT count(*) FROM fleet_agent", [], |row| row.get(0))?;
        if added > 0 && all > i64::try_from(ROSTER_MAX).unwrap_or(i64::MAX) {
            return Ok(RosterAdded::Full);
        }
        session.commit()?;
        Ok(RosterAdded::Done { added, changed })
    };
    let done = done();
    if !matches!(done, Ok(RosterAdded::Done { .. })) {
        session.rollback();
    }
    done.map_err(|error| columns::read_error(address.shown(), &error))
}

/// Takes agents off the roster. Those that were on it, each with the name of the living doorman that has it.
pub fn remove(address: &Address, agents: &[AgentId]) -> Result<Vec<(AgentId, Option<String>)>, LedgerError> {
    let session = usable(address, ConnectionPurpose::Push)?;
    let connection = Connection::Postgres(&session);
    let done = || -> sql::Result<Vec<(AgentId, Option<String>)>> {
        session.begin("BEGIN")?;
        connection.prepare_cached("UPDATE meta SET roster_changes = roster_changes + 1")?.execute([])?;
        let mut removed = Vec::new();
        for agent in agents {
            let sql = "DELETE FROM fleet_agent WHERE agent = ?1";
            if connection.prepare_cached(sql)?.execute([agent.as_str()])? > 0 {
                removed.push((agent.clone(), holder_of(connection, agent.as_str())?));
            }
        }
        session.commit()?;
        Ok(removed)
    };
    let done = done();
    if done.is_err() {
        session.rollback();
    }
    done.map_err(|error| columns::read_error(address.shown(), &error))
}

/// The roster, who holds each agent, and who may.
pub fn roster(address: &Address) -> Result<RosterList, LedgerError> {
    let reading = PostgresReading::open(address)?;
    let connection = reading.sql();
    let read = || -> sql::Result<RosterList> {
        let _moment = connection.moment()?;
        let roster = roster::read(connection)?;
        let keys = Keys::read(connection)?;
        let sql = "SELECT l.name, m.name FROM lease l JOIN member m ON m.id = l.holder AND m.state <> 'dead'";
        let mut statement = connection.prepare_cached(sql)?;
        let holders = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let holders = holders.collect::<sql::Result<HashMap<String, String>>>()?;
        let row = |agent: RosterAgent| {
            let (holder, keys) = (holders.get(agent.agent.as_str()).cloned(), keys.of(agent.agent.as_str()));
            RosterRow { agent, holder, keys }
        };
        Ok(RosterList { rows: roster.agents.into_iter().map(row).collect(), left_out: roster.left_out })
    };
    read().map_err(|error| columns::read_error(address.shown(), &error))
}

/// How many agents are on the roster, and those of them that no living doorman may hold.
pub(super) fn without_key(connection: Connection<'_>, found: i64) -> sql::Result<(u64, Vec<String>)> {
    if found < SINCE {
        return Ok((0, Vec::new()));
    }
    let (roster, keys) = (roster::read(connection)?, Keys::read(connection)?);
    let all = roster.agents.len() as u64;
    let ids = roster.agents.iter().map(|agent| agent.agent.as_str());
    Ok((all, ids.filter(|id| !keys.any(id)).map(str::to_owned).collect()))
}

/// Which doormen may hold which agents.
struct Keys {
    /// By the hash of a lease set: the doormen that have it.
    members: BTreeMap<String, Vec<String>>,
    leases: HashMap<String, HashSet<String>>,
}

impl Keys {
    fn read(connection: Connection<'_>) -> sql::Result<Self> {
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let sql = "SELECT lease_set, name FROM member WHERE state IN ('up', 'draining') ORDER BY name";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in rows.collect::<sql::Result<Vec<(String, String)>>>()? {
            members.entry(row.0).or_default().push(row.1);
        }
        let mut leases = HashMap::new();
        for hash in members.keys() {
            let names: String =
                connection.query_row("SELECT names FROM lease_set WHERE hash = ?1", params![hash], |row| row.get(0))?;
            leases.insert(hash.clone(), serde_json::from_str(&names).unwrap_or_default());
        }
        Ok(Self { members, leases })
    }

    fn able<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = &'a Vec<String>> {
        self.members.iter().filter(move |(hash, _)| self.leases[*hash].contains(agent)).map(|(_, names)| names)
    }

    fn any(&self, agent: &str) -> bool {
        self.able(agent).next().is_some()
    }

    fn of(&self, agent: &str) -> Vec<String> {
        let mut names: Vec<String> = self.able(agent).flatten().cloned().collect();
        names.sort_unstable();
        names
    }
}
