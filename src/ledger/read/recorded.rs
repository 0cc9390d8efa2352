//! The queries to a reader, and its results.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::rows;
use crate::ledger::Via;
use crate::ledger::reasons::DecisionReasons;
use crate::model::{AgentId, Answer, ContactRequest, GuestDoubt, Outcome, RemovedBy, Verdict};
use crate::policy::{By, Mode, PolicyHash};

/// One request, and its last verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Its row, that of its last decision, and that of its last answer.
    pub(crate) row: i64,
    pub(crate) decision_row: Option<i64>,
    pub(crate) answer_row: Option<i64>,
    /// The newest decision of all when the last answer was intended; `None` in rows of schema 1.
    pub(crate) answer_after: Option<i64>,
    /// Whether the decision in `verdict` was meant to be answered.
    pub mode: Mode,
    /// The last thing that happened to it: first seen, decided, answered, held, settled; an end moved, its contact removed.
    pub happened_at: Timestamp,
    /// When it was settled, as far as that is known.
    pub settled_at: Option<Timestamp>,
    /// It was settled without an answer of ours.
    pub elsewhere: bool,
    /// Whose door.
    pub agent: AgentId,
    /// As first seen, each text cut at 500 characters.
    pub request: ContactRequest,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
    /// Whether an event or a listing showed it.
    pub via: Via,
    /// Its text was blanked for its age: handle, name and message are absent because of that.
    pub blanked: bool,
    /// When the decision in `verdict` was made.
    pub decided_at: Option<Timestamp>,
    /// The last verdict: the answer's if one was sent, else the last decision's.
    pub verdict: Option<Verdict>,
    /// Who or what gave the verdict.
    pub by: Option<By>,
    /// The note of the person who answered or holds it.
    pub note: Option<String>,
    /// Under which policy.
    pub policy: Option<PolicyHash>,
    /// When the answer's intent was recorded.
    pub answered_at: Option<Timestamp>,
    /// The last answer, if there was one.
    pub answer: Option<AnswerRecord>,
    /// The status that the platform reported; or `gone`, or `elsewhere` if it is not known how it was settled.
    pub settled: Option<String>,
    /// What became of it, with an answer of ours or without; `None` while it is pending.
    pub outcome: Option<Outcome>,
    /// The removal of its contact, if doorman removed it.
    pub removed: Option<RemovedRecord>,
    /// For how long it was approved, if that was for a time.
    pub lasts: Option<SignedDuration>,
    /// When its contact ends, or ended.
    pub ends_at: Option<Timestamp>,
    /// Why doorman does not remove the contact by itself.
    pub end_in_doubt: Option<GuestDoubt>,
    /// What a person said of that end later.
    pub end_moved: Option<EndMoved>,
    /// When the contact that came of it was removed, by whomever; `None` while it is there, or was never seen.
    pub contact_removed_at: Option<Timestamp>,
}

impl RecordedRequest {
    /// What there is to say of the contact that came of it, in a few words each: its end, its removal. Names are as on record, so
    /// they are to be escaped; times are in these words.
    pub fn contact_notes(&self, time: &dyn Fn(Timestamp) -> String) -> Vec<String> {
        if let Some(removed) = &self.removed {
            return vec![match removed.by.person() {
                Some(person) => format!("removed by {person}"),
                None => format!("removed: {}", removed.by),
            }];
        }
        if self.contact_removed_at.is_some() {
            return vec!["removed, not by doorman".to_owned()];
        }
        let moved = self.end_moved.as_ref();
        match self.ends_at {
            Some(end) => {
                let doubt = if self.end_in_doubt.is_some() { " in doubt" } else { "" };
                let by = moved.map(|moved| format!(", moved by {}", moved.by)).unwrap_or_default();
                vec![format!("ends {}{doubt}{by}", time(end))]
            }
            None => moved.map(|moved| format!("stays: end lifted by {}", moved.by)).into_iter().collect(),
        }
    }
}

/// A person's last word on the end of a guest's contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndMoved {
    /// The end from then on; `None`: the guest stays.
    pub ends_at: Option<Timestamp>,
    /// The person's name.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What they noted.
    pub note: Option<String>,
}

/// The last removal, by doorman, of the contact that an answer made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedRecord {
    /// Who or what removed it.
    pub by: RemovedBy,
    /// When.
    pub at: Timestamp,
    /// What they noted.
    pub note: Option<String>,
}

/// The last answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRecord {
    /// The answer.
    pub answer: Answer,
    /// Its outcome; `None` while it is open.
    pub outcome: Option<Outcome>,
    /// How often it was sent.
    pub attempts: u32,
    /// When the outcome was known; before that, when it was last sent.
    pub at: Timestamp,
    /// The platform's text about it, written by others.
    pub detail: Option<String>,
}

/// One row of `decision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedDecision {
    /// Its row.
    pub(crate) row: i64,
    /// Whose door.
    pub agent: AgentId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub verdict: Verdict,
    /// What gave it.
    pub by: By,
    /// Under which policy.
    pub policy: PolicyHash,
    /// Whether the answer would have gone out.
    pub mode: Mode,
    /// Why.
    pub facts: DecisionReasons,
}

/// Which requests. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Which of a request's times `since` and `until` mean.
    pub time: TimeOf,
    /// Then or later.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only this handle, in any spelling; `john/*` means all of john's agents.
    pub handle: Option<String>,
    /// Only with this verdict.
    pub verdict: Option<Verdict>,
    /// Only by this rule, guard, … as in `by`.
    pub by: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<OutcomeFilter>,
    /// Only this many, the newest.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether the filter, apart from [`Filter::limit`], lets this request through.
    pub fn lets_through(&self, request: &RecordedRequest) -> bool {
        let handle = self.handle.as_deref().map(rows::WhoseRequests::parse);
        rows::within(self, request) && rows::lets_through(self, handle.as_ref(), request)
    }
}

/// One of a request's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeOf {
    /// When it was first seen.
    #[default]
    Received,
    /// When the decision in its verdict was made.
    Decided,
    /// The last thing that happened to it: received, decided, answered, held, settled; an end moved, its contact removed.
    Happened,
}

/// The value of [`Filter::outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeFilter {
    /// Still open at the platform, as far as the record knows.
    Pending,
    /// Has this outcome.
    Is(Outcome),
}

/// One table of the file, with its indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The size of the table and its indexes in the file.
    pub bytes: u64,
}

/// The number of rows of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// The schema's number.
    pub schema: i64,
    /// Requests on record.
    pub requests: u64,
    /// Of these, not known to be settled.
    pub pending: u64,
    /// Of these, with their text blanked.
    pub blanked: u64,
    /// Decisions on record.
    pub decisions: u64,
    /// Answers by their outcome; `open` if there is none yet.
    pub answers: BTreeMap<String, u64>,
    /// Policies with their texts.
    pub policies: u64,
    /// The first request's time.
    pub first: Option<Timestamp>,
    /// The last request's time.
    pub last: Option<Timestamp>,
}
