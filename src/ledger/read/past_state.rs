//! How an agent stood at a moment of the past: what decisions look at beside requests and answers.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::ledger::columns::{Micros, Parsed};
use crate::model::{AgentId, Handle, RequestId};

/// Pause, hold and removed contacts as they stood at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastState {
    /// Whether the agent was paused.
    pub paused: bool,
    /// When it was resumed last: approvals before that no longer count towards `approvals_max`.
    pub resumed: Option<Timestamp>,
    /// Who held the request.
    pub hold: Option<String>,
    /// Owners whose contacts had been removed, and when, oldest first.
    pub removed: Vec<(Handle, Timestamp)>,
}

/// Reads it. A pause or resume of that very moment came after the decision that is asked about.
pub fn at(connection: &Connection, agent: &AgentId, request: &RequestId, at: Timestamp) -> rusqlite::Result<PastState> {
    let (agent, at) = (agent.as_str(), Micros(at));
    let paused: Option<bool> = connection
        .query_row(
            "SELECT p.paused FROM pause p JOIN agent a ON a.n = p.agent WHERE a.id = ?1 AND p.at < ?2
             ORDER BY p.n DESC LIMIT 1",
            params![agent, at],
            |row| row.get(0),
        )
        .optional()?;
    let resumed: Option<Micros> = connection.query_row(
        "SELECT max(p.at) FROM pause p JOIN agent a ON a.n = p.agent WHERE a.id = ?1 AND p.paused = 0 AND p.at < ?2",
        params![agent, at],
        |row| row.get(0),
    )?;
    let hold = connection
        .query_row(
            "SELECT h.person FROM hold h JOIN agent a ON a.n = h.agent JOIN request r ON r.n = h.request
             WHERE a.id = ?1 AND r.id = ?2 AND h.at <= ?3 AND (h.ended_at IS NULL OR h.ended_at > ?3)
             ORDER BY h.n DESC LIMIT 1",
            params![agent, request.as_str(), at],
            |row| row.get(0),
        )
        .optional()?;
    let removed = connection
        .prepare_cached(
            "SELECT c.owner, c.removed_at FROM contact c JOIN agent a ON a.n = c.agent
             WHERE a.id = ?1 AND c.removed_at < ?2 AND c.owner IS NOT NULL ORDER BY c.removed_at",
        )?
        .query_map(params![agent, at], |row| {
            let (Parsed(owner), Micros(at)) = (row.get(0)?, row.get(1)?);
            Ok((owner, at))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(PastState { paused: paused.unwrap_or(false), resumed: resumed.map(|Micros(at)| at), hold, removed })
}
