//! What people said of doubts, and what became of the contacts that they removed.

use jiff::Timestamp;

use super::LedgerReader;
use crate::ledger::LedgerError;
use crate::ledger::columns::Micros;
use crate::ledger::sql::{self, Optional as _, params};
use crate::model::{AgentId, ContactId, Person, RemovedBy};

/// What a person said of a doubt about an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementRecord {
    /// The request that the doubt rested on, if it rested on one.
    pub request: Option<String>,
    /// The word, as in `doorman settle`.
    pub said: String,
    /// The person's name.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What the person noted.
    pub note: Option<String>,
}

impl LedgerReader {
    /// Whether the last removal of this contact by this person was carried out, or may have been. It says nothing of now: the contact
    /// may have been made again since.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn may_have_removed(&self, agent: &AgentId, contact: &ContactId, person: &Person) -> Result<bool, LedgerError> {
        let by = RemovedBy::Person(person.clone()).to_string();
        let read = || -> sql::Result<Option<Option<String>>> {
            self.sql()
                .prepare_cached(
                    "SELECT outcome FROM removal WHERE agent = (SELECT n FROM agent WHERE id = ?1) AND contact = ?2 AND \"by\" = ?3
                     ORDER BY n DESC LIMIT 1",
                )?
                .query_row(params![agent.as_str(), contact.as_str(), by], |row| row.get(0))
                .optional()
        };
        let last = read().map_err(|error| self.fault(&error))?;
        Ok(last.is_some_and(|outcome| matches!(outcome.as_deref(), None | Some("removed" | "unknown"))))
    }

    /// The newest words of people on doubts about this owner, at most `most`, oldest first.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn settlements_of(
        &self,
        agent: &AgentId,
        owner: &str,
        most: usize,
    ) -> Result<Vec<SettlementRecord>, LedgerError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let read = || -> sql::Result<Vec<SettlementRecord>> {
            self.sql()
                .prepare_cached(
                    "SELECT r.id, s.said, s.person, s.at, s.note FROM settlement s JOIN agent a ON a.n = s.agent
                     LEFT JOIN request r ON r.n = s.request
                     WHERE a.id = ?1 AND s.owner = ?2 ORDER BY s.n DESC LIMIT ?3",
                )?
                .query_map(params![agent.as_str(), owner, most], |row| {
                    let Micros(at) = row.get(3)?;
                    let (request, said, by, note) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
                    Ok(SettlementRecord { request, said, by, at, note })
                })?
                .collect()
        };
        let mut settlements = read().map_err(|error| self.fault(&error))?;
        settlements.reverse();
        Ok(settlements)
    }
}
