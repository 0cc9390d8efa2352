//! Rules that a person pushed into the ledger under a name, version by version. The newest version of a name is its head: every
//! doorman on this ledger decides by it.

use std::sync::Arc;

use jiff::Timestamp;

use super::columns::{Micros, Parsed};
use super::sql::{self, Connection, Optional as _, SqlRow, params};
use super::{LedgerError, Record, texts};
use crate::policy::PolicyHash;
use crate::policy::rules::{Head, SourceText};

/// One version of pushed rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedVersion {
    /// The name that `[[agents]] rules = "ledger:NAME"` has.
    pub name: String,
    /// Counts from 1.
    pub version: u64,
    /// The policy.
    pub hash: PolicyHash,
    /// Who pushed it: `person:NAME`.
    pub by: String,
    /// When, by the clock of that person's machine.
    pub at: Timestamp,
    /// Why.
    pub note: Option<String>,
}

/// A version of rules: what a doorman already has of a name.
pub(crate) type KnownVersion = Option<(u64, PolicyHash)>;

const COLUMNS: &str =
    "SELECT v.name, v.version, p.hash, v.\"by\", v.at, v.note FROM policy_version v JOIN policy p ON p.n = v.policy";

fn read(row: &SqlRow<'_>) -> sql::Result<PushedVersion> {
    let (Parsed(hash), Micros(at)) = (row.get(2)?, row.get(4)?);
    let version = row.get::<_, i64>(1)?.unsigned_abs();
    Ok(PushedVersion { name: row.get(0)?, version, hash, by: row.get(3)?, at, note: row.get(5)? })
}

/// The head of a name.
pub fn head(connection: Connection<'_>, name: &str) -> sql::Result<Option<PushedVersion>> {
    let sql = format!("{COLUMNS} WHERE v.name = ?1 ORDER BY v.version DESC LIMIT 1");
    connection.prepare_cached(&sql)?.query_row([name], read).optional()
}

/// The head of every name, by name.
pub(crate) fn heads(connection: Connection<'_>) -> sql::Result<Vec<PushedVersion>> {
    let sql = format!(
        "{COLUMNS} WHERE NOT EXISTS (SELECT 1 FROM policy_version newer WHERE newer.name = v.name AND newer.version > v.version)
         ORDER BY v.name"
    );
    connection.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// Every version of a name, the newest first.
pub fn versions(connection: Connection<'_>, name: &str) -> sql::Result<Vec<PushedVersion>> {
    let sql = format!("{COLUMNS} WHERE v.name = ?1 ORDER BY v.version DESC");
    connection.prepare_cached(&sql)?.query_map([name], read)?.collect()
}

/// Of these names, the heads that are another version than the one that is known, with their texts.
pub fn changed(
    connection: Connection<'_>,
    known: &[(String, KnownVersion)],
) -> sql::Result<Vec<(PushedVersion, Vec<SourceText>)>> {
    let mut changed = Vec::new();
    for (name, known) in known {
        let Some(head) = head(connection, name)? else { continue };
        if known.as_ref().is_some_and(|(version, hash)| *version == head.version && *hash == head.hash) {
            continue;
        }
        let texts = texts::of_policy(connection, &head.hash)?;
        changed.push((head, texts));
    }
    Ok(changed)
}

/// Adds a version. In a transaction; if somebody else adds the same number at that moment, the second is refused.
pub fn add(connection: Connection<'_>, new: &PushedVersion, texts: &[SourceText]) -> sql::Result<()> {
    let policy = texts::policy(connection, &new.hash)?;
    // First: whoever lets go of unused texts at this moment is waited for, and leaves this policy alone from now on.
    connection.prepare_cached("UPDATE policy SET needed = 1 WHERE n = ?1")?.execute([policy])?;
    texts::of_row(connection, policy, texts)?;
    let version = i64::try_from(new.version).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO policy_version (name, version, policy, \"by\", at, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![new.name, version, policy, new.by, Micros(new.at), new.note])?;
    Ok(())
}

/// What is in the way of this batch's intents: rules that are not the head of their name any more. `newest` asks for the number of a
/// head.
///
/// # Errors
/// Those of `newest`.
pub fn outdated<E>(batch: &[Record], mut newest: impl FnMut(&str) -> Result<u64, E>) -> Result<Option<LedgerError>, E> {
    let mut good: Option<&Arc<Head>> = None;
    for entry in batch {
        let Record::Intent { head: Some(head), .. } = entry else { continue };
        if good.is_some_and(|good| Arc::ptr_eq(good, head) || good == head) {
            continue;
        }
        let version = newest(&head.name)?;
        if version != head.version {
            return Ok(Some(LedgerError::Outdated { name: head.name.to_string(), version }));
        }
        good = Some(head);
    }
    Ok(None)
}
