//! Policies on record: which were in force, their texts, pushed versions, and when their rules matched.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{LedgerReader, after};
use crate::ledger::columns::{Micros, Parsed};
use crate::ledger::pushed::{self, PushedVersion};
use crate::ledger::sql::{self, Optional as _, TextColumn as _, params};
use crate::ledger::{LedgerError, reasons, texts};
use crate::model::AgentId;
use crate::policy::rules::SourceText;
use crate::policy::{PolicyHash, RuleName};

impl LedgerReader {
    /// The policies that were in force for an agent, and since when, oldest first.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn policies_of(&self, agent: &AgentId) -> Result<Vec<(PolicyHash, Timestamp)>, LedgerError> {
        let read = || -> sql::Result<Vec<(PolicyHash, Timestamp)>> {
            self.sql()
                .prepare_cached(
                    "SELECT p.hash, u.at FROM policy_use u JOIN policy p ON p.n = u.policy
                     JOIN agent a ON a.n = u.agent WHERE a.id = ?1 ORDER BY u.n",
                )?
                .query_map([agent.as_str()], |row| {
                    let (Parsed(hash), Micros(at)) = (row.get(0)?, row.get(1)?);
                    Ok((hash, at))
                })?
                .collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The texts behind a policy's hash: the rules file first, then its lists. `None` if they are not on record.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn policy_texts(&self, hash: &PolicyHash) -> Result<Option<Vec<SourceText>>, LedgerError> {
        let texts = texts::of_policy(self.sql(), hash).map_err(|error| self.fault(&error))?;
        Ok((!texts.is_empty()).then_some(texts))
    }

    /// The heads of all pushed rules, by name.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn pushed_heads(&self) -> Result<Vec<PushedVersion>, LedgerError> {
        pushed::heads(self.sql()).map_err(|error| self.fault(&error))
    }

    /// Every version of pushed rules, the newest first.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn pushed_versions(&self, name: &str) -> Result<Vec<PushedVersion>, LedgerError> {
        pushed::versions(self.sql(), name).map_err(|error| self.fault(&error))
    }

    /// When each rule last matched (shadow rules, too), of those that did since `since`.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn rules_last_matched(
        &self,
        agent: Option<&AgentId>,
        since: Timestamp,
    ) -> Result<HashMap<RuleName, Timestamp>, LedgerError> {
        let read = || -> sql::Result<HashMap<RuleName, Timestamp>> {
            let mut last = HashMap::new();
            let mut statement = self.sql().prepare_cached(
                "SELECT d.at, d.facts, a.id, d.\"by\" FROM decision d JOIN request r ON r.n = d.request JOIN agent a ON a.n = r.agent
                 ORDER BY d.n DESC",
            )?;
            let mut rows = statement.query([])?;
            // Newest first, so the first row older than `since` ends the search.
            while let Some(row) = rows.next()? {
                let Micros(at) = row.get(0)?;
                if at < since {
                    break;
                }
                if agent.is_some_and(|agent| row.get_ref(2).is_ok_and(|id| id.as_str() != Ok(agent.as_str()))) {
                    continue;
                }
                for rule in reasons::matched_rules(row.get_ref(1)?.text()?, row.get_ref(3)?.text()?) {
                    last.entry(rule).or_insert(at);
                }
            }
            Ok(last)
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The policy in force for an agent, as far as the record knows.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn policy_in_force(&self, agent: &AgentId) -> Result<Option<PolicyHash>, LedgerError> {
        let sql = "SELECT p.hash FROM policy_use u JOIN policy p ON p.n = u.policy JOIN agent a ON a.n = u.agent
                   WHERE a.id = ?1 ORDER BY u.n DESC LIMIT 1";
        self.sql()
            .query_row(sql, [agent.as_str()], |row| row.get::<_, Parsed<PolicyHash>>(0))
            .optional()
            .map(|hash| hash.map(|Parsed(hash)| hash))
            .map_err(|error| self.fault(&error))
    }

    /// The policies whose hashes begin with this text, at most two.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn policies_beginning(&self, beginning: &str) -> Result<Vec<PolicyHash>, LedgerError> {
        let read = || -> sql::Result<Vec<PolicyHash>> {
            self.sql()
                .prepare_cached("SELECT hash FROM policy WHERE hash >= ?1 AND hash < ?2 LIMIT 2")?
                .query_map(params![beginning, after(beginning)], |row| row.get(0).map(|Parsed(hash)| hash))?
                .collect()
        };
        read().map_err(|error| self.fault(&error))
    }
}
