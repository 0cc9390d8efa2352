//! Converts what the core reports about an agent to the types of the control socket.

use crate::agent::core::{AgentView, OpFailure, OpenDoubt, PendingRequest, PersonAnswered};
use crate::model::StrangerText;
use crate::ops::board::AgentBoard;
use crate::ops::control::wire::{AgentStatus, AnswerDone, DoubtRow, OpError, PauseStatus, PendingRow};
use crate::policy::doubts::Basis;
use crate::policy::state::PauseRecord;

/// Most characters of a stranger's text in a row.
const TEXT_CHARS_MAX: usize = 500;

/// What an agent hands out for the board, with these of its pending requests.
pub(super) fn board(view: AgentView, pending: Vec<PendingRequest>) -> AgentBoard {
    let oldest_deferred = view.oldest_deferred;
    let deciders_failing = view.deciders_failing.clone();
    let pending = pending.into_iter().map(Into::into).collect();
    AgentBoard { status: view.into(), oldest_deferred, deciders_failing, pending }
}

impl From<AgentView> for AgentStatus {
    fn from(view: AgentView) -> Self {
        AgentStatus {
            id: view.id,
            handle: view.handle.as_ref().map(ToString::to_string),
            state: view.state,
            paused: view.paused.is_some(),
            pause: view.paused.map(|PauseRecord { by, at, note }| PauseStatus { by, at, note }),
            without_rules: view.without_rules,
            clock_unsound: !view.clock_sound,
            since: view.since,
            why: view.why,
            held_by: None,
            pending: view.pending,
            deferred: view.deferred,
            in_flight: view.in_flight,
            doubts: view.doubts,
            guests: view.guests,
            guests_late: view.guests_late,
            last_listing: view.last_listing,
            deciders_failing: view.deciders_failing.iter().map(|(name, _)| name.as_str().to_owned()).collect(),
            remarks: view.remarks,
        }
    }
}

impl From<PendingRequest> for PendingRow {
    fn from(row: PendingRequest) -> Self {
        let text = |text: Option<&StrangerText>| text.map(|text| text.raw_prefix(TEXT_CHARS_MAX).to_owned());
        PendingRow {
            request: row.request.id.to_string(),
            agent: row.agent,
            handle: text(row.request.sender.original()),
            name: text(row.request.name.as_ref()),
            message: text(row.request.message.as_ref()),
            inserted_at: row.request.inserted_at,
            first_seen: row.first_seen,
            verdict: row.verdict,
            by: row.by.map(|by| by.to_string()),
            doubts: row.doubts.iter().map(|doubt| doubt.basis.to_string()).collect(),
            replies: row.replies,
            due: row.due,
            stage: row.stage.to_owned(),
            held_by: None,
        }
    }
}

impl From<OpenDoubt> for DoubtRow {
    fn from(doubt: OpenDoubt) -> Self {
        let basis = doubt.basis.as_ref();
        DoubtRow {
            agent: doubt.agent,
            owner: doubt.owner.as_deref().unwrap_or("*").to_owned(),
            fact: doubt.fact.as_str().to_owned(),
            since: doubt.since,
            basis: basis.map_or("too-many", Basis::as_str).to_owned(),
            subject: basis.map_or("", Basis::subject).to_owned(),
            rests_on: basis.map_or_else(|| "more doubts than are kept".to_owned(), ToString::to_string),
            ends_at: doubt.ends_at,
        }
    }
}

impl From<PersonAnswered> for AnswerDone {
    fn from(answered: PersonAnswered) -> Self {
        AnswerDone {
            request: answered.request.to_string(),
            agent: answered.agent,
            handle: answered.handle.map(|text| text.raw().to_owned()),
            verdict: answered.verdict,
            outcome: answered.outcome,
            ends_at: answered.ends_at,
        }
    }
}

impl From<OpFailure> for OpError {
    fn from(failure: OpFailure) -> Self {
        OpError { code: failure.code.to_owned(), message: failure.message }
    }
}
