//! Counts over the newest decisions on record, for a page that is loaded often: a bounded number of rows is read.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::LedgerReader;
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::sql::{self, Connection, TextColumn as _};
use crate::ledger::{LedgerError, reasons};
use crate::model::{AgentId, Verdict};
use crate::policy::RuleName;

/// Most decisions that are counted by the hour.
const COUNTED_MAX: usize = 100_000;
/// Most decisions whose reasons are looked at.
const READ_MAX: u32 = 10_000;

/// Decisions by hours of Unix time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByHour {
    /// How many of each verdict, as approve, reject, defer, by the number of the hour.
    pub hours: BTreeMap<i64, [u64; 3]>,
    /// There were more decisions than are counted: the counts of the oldest hours are too small.
    pub cut: bool,
}

/// How often each rule of an agent matched, shadow rules too, and when last, among the newest decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// By agent and rule.
    pub rules: HashMap<(AgentId, RuleName), (u64, Timestamp)>,
    /// How many decisions were looked at.
    pub decisions: u64,
    /// The oldest of these.
    pub since: Option<Timestamp>,
}

impl LedgerReader {
    /// Decisions since then, by the hour.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn decisions_by_hour(&self, since: Timestamp) -> Result<ByHour, LedgerError> {
        by_hour(self.sql(), since).map_err(|error| self.fault(&error))
    }

    /// How often each rule matched.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn rule_matches(&self) -> Result<Matches, LedgerError> {
        matches(self.sql()).map_err(|error| self.fault(&error))
    }
}

fn by_hour(connection: Connection<'_>, since: Timestamp) -> sql::Result<ByHour> {
    let mut found = ByHour::default();
    let mut statement = connection.prepare_cached("SELECT at, verdict FROM decision ORDER BY n DESC")?;
    let mut rows = statement.query([])?;
    let mut counted = 0;
    while let Some(row) = rows.next()? {
        let (Micros(at), Parsed(verdict)) = (row.get(0)?, row.get::<_, Parsed<Verdict>>(1)?);
        if at < since {
            break;
        }
        if counted == COUNTED_MAX {
            found.cut = true;
            break;
        }
        counted += 1;
        let index = match verdict {
            Verdict::Approve => 0,
            Verdict::Reject => 1,
            Verdict::Defer => 2,
        };
        found.hours.entry(at.as_second().div_euclid(3_600)).or_default()[index] += 1;
    }
    Ok(found)
}

fn matches(connection: Connection<'_>) -> sql::Result<Matches> {
    let mut found = Matches::default();
    let mut statement = connection.prepare_cached(
        "SELECT d.at, d.facts, a.id, d.\"by\" FROM decision d JOIN request r ON r.n = d.request JOIN agent a ON a.n = r.agent
         ORDER BY d.n DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([READ_MAX])?;
    while let Some(row) = rows.next()? {
        let (Micros(at), Parsed(agent)) = (row.get(0)?, row.get::<_, Parsed<AgentId>>(2)?);
        found.decisions += 1;
        found.since = Some(at);
        for rule in reasons::matched_rules(row.get_ref(1)?.text()?, row.get_ref(3)?.text()?) {
            found.rules.entry((agent.clone(), rule)).or_insert((0, at)).0 += 1;
        }
    }
    Ok(found)
}
