//! The roster: agents that people gave to all doormen of one database, and by which pushed rules each is decided. No key is in it: each
//! doorman has the keys of those that it may hold.

use jiff::Timestamp;

use super::sql::{self, Connection, Optional as _, SqlRow, params};
use crate::config::settings::may_be_pushed;
use crate::model::AgentId;

/// Most agents of one roster.
pub const ROSTER_MAX: usize = 100_000;

/// An agent of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterAgent {
    /// Its id.
    pub agent: AgentId,
    /// The name of its pushed rules.
    pub rules: String,
    /// The name that rules may use for it.
    pub name: Option<String>,
    /// Who put it there: `person:NAME`.
    pub by: String,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Why.
    pub note: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// How often it was changed.
    pub changes: i64,
    /// By id.
    pub agents: Vec<RosterAgent>,
    /// Rows that no doorman writes, and those beyond [`ROSTER_MAX`]: they count for nothing.
    pub left_out: u64,
}

/// The columns of a row, as [`RosterAgent::of`] reads them.
const COLUMNS: &str = "agent, rules, name, added_by, added_at, note";

impl RosterAgent {
    /// A row, if it is one that doorman could have written.
    fn of(row: &SqlRow<'_>) -> sql::Result<Option<Self>> {
        let agent: String = row.get(0)?;
        Ok(Self::parse(&agent, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    }

    fn parse(
        agent: &str,
        rules: String,
        name: Option<String>,
        by: String,
        at: i64,
        note: Option<String>,
    ) -> Option<Self> {
        let agent = parse_id(agent)?;
        let at = Timestamp::from_microsecond(at).ok()?;
        let plain = may_be_pushed(&rules) && name.as_deref().is_none_or(may_be_pushed);
        plain.then_some(Self { agent, rules, name, by, at, note })
    }
}

/// The id of an agent as the platform shows it: a UUID, in its usual spelling.
pub fn parse_id(text: &str) -> Option<AgentId> {
    let id = uuid::Uuid::parse_str(text).ok()?;
    (id.hyphenated().to_string() == text).then(|| AgentId::parse(text).ok())?
}

/// All agents of the roster, by id.
pub(super) fn read(connection: Connection<'_>) -> sql::Result<Roster> {
    let Connection::Postgres(_) = connection else { return Ok(Roster::default()) };
    let changes = connection.query_row("SELECT roster_changes FROM meta", [], |row| row.get(0))?;
    let sql = format!("SELECT {COLUMNS} FROM fleet_agent ORDER BY agent LIMIT ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let most = i64::try_from(ROSTER_MAX + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![most], RosterAgent::of)?;
    let mut roster = Roster { changes, ..Roster::default() };
    for row in rows {
        match row? {
            Some(agent) if roster.agents.len() < ROSTER_MAX => roster.agents.push(agent),
            Some(_) | None => roster.left_out += 1,
        }
    }
    Ok(roster)
}

/// This agent, if it is on the roster.
pub(super) fn one(connection: Connection<'_>, agent: &AgentId) -> sql::Result<Option<RosterAgent>> {
    let sql = format!("SELECT {COLUMNS} FROM fleet_agent WHERE agent = ?1");
    Ok(connection.query_row(&sql, [agent.as_str()], RosterAgent::of).optional()?.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_agent_only_if_doorman_could_have_written_it() {
        let id = "a0000000-0000-4000-8000-000000000001";
        let parse = |id: &str, rules: &str, name: Option<&str>, at: i64| {
            RosterAgent::parse(id, rules.to_owned(), name.map(str::to_owned), "person:ann".to_owned(), at, None)
        };
        assert!(parse(id, "main", None, 0).is_some() && parse(id, "main", Some("porter"), 0).is_some());
        for bad in [
            "",
            "../../etc/passwd",
            "A0000000-0000-4000-8000-000000000001",
            "a0000000000040008000000000000001",
            "x\u{1b}[2J",
        ] {
            assert_eq!(parse(bad, "main", None, 0), None, "{bad:?}");
        }
        for bad in ["", "Main", "../rules.toml", "ledger:main", "a b", "x\u{1b}[2J"] {
            assert_eq!(parse(id, bad, None, 0), None, "{bad:?}");
            assert_eq!(parse(id, "main", Some(bad), 0), None, "{bad:?}");
        }
        assert_eq!(parse(id, "main", None, i64::MAX), None);
    }
}
