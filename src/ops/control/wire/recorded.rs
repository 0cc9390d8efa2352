//! A pending request as the record knows it: its agent is held by another doorman.

use super::PendingRow;
use crate::ledger::read::OpenRequest;
use crate::model::{Outcome, Verdict};

impl PendingRow {
    /// The request, with the name of the doorman that holds its agent; `nobody` where none does.
    pub fn recorded(one: OpenRequest, held_by: Option<&str>) -> Self {
        let stage = one.stage().to_owned();
        let is_open = |outcome: Option<Outcome>| outcome.is_none_or(|outcome| outcome == Outcome::Unknown);
        // What keeps a request waiting, rather than what decided it, as an agent's task says it.
        let by = match one.answer {
            Some((by, outcome)) if is_open(outcome) && one.verdict != Some(Verdict::Defer) => Some(by),
            Some(_) | None => one.by,
        };
        Self {
            request: one.id.to_string(),
            agent: one.agent,
            handle: one.handle,
            name: one.name,
            message: one.message,
            inserted_at: one.inserted_at,
            first_seen: one.first_seen,
            verdict: one.verdict,
            by,
            doubts: Vec::new(),
            told: one.told,
            due: None,
            stage,
            held_by: Some(held_by.unwrap_or("nobody").to_owned()),
        }
    }
}
