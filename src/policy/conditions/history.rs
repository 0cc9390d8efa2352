//! `history = { … }`: what happened to the sender's owner before. Its keys are ANDed.

use jiff::SignedDuration;

use super::{Compile, Condition, ConditionKind, Explained, Needs, SenderScope, row};
use crate::document::keys::{DocumentKey, KeyType, Section, key};
use crate::model::Handle;
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::doubts::Fact;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::keys::{COUNTED, QUOTA};
use crate::policy::raw::{RawCondition, RawTableOf};
use crate::policy::rules::Quota;
use crate::policy::state::HistoryKind;

/// More often than a quota, counted by owner or by handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverQuota {
    /// More than this.
    pub quota: Quota,
    /// Of the sender's handle alone, not of all of the owner's.
    pub by_handle: bool,
}

impl OverQuota {
    /// The words of `by`.
    pub const WORDS: &'static [&'static str] = &["owner", "handle"];

    fn of(table: &RawTableOf) -> Option<Self> {
        let by_handle = table.get("by").and_then(RawCondition::word) == Some("handle");
        Some(Self { quota: table.quota()?, by_handle })
    }

    fn follows_from(self, narrow: OverQuota) -> bool {
        // The count of the owner is at least the count of one handle.
        narrow.quota.per <= self.quota.per
            && narrow.quota.count >= self.quota.count
            && (narrow.by_handle == self.by_handle || narrow.by_handle)
    }

    fn wanted(self) -> String {
        let by = if self.by_handle { ", by handle" } else { "" };
        format!("more than {} in {}{by}", self.quota.count, values::duration(self.quota.per))
    }
}

/// `history = { … }`.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryCondition {
    /// This owner was approved before (or was not).
    pub approved_before: Option<bool>,
    /// This owner was rejected within this time.
    pub rejected_within: Option<SignedDuration>,
    /// A contact of this owner's was removed within this time.
    pub removed_within: Option<SignedDuration>,
    /// This owner made more requests than this.
    pub requests_over: Option<Quota>,
    /// This owner was approved more often than this.
    pub approved_over: Option<OverQuota>,
    /// This owner was rejected more often than this.
    pub rejected_over: Option<OverQuota>,
    /// Contacts of this owner were removed more often than this.
    pub removed_over: Option<OverQuota>,
}

/// `history = { … }`.
pub(crate) static HISTORY: Section = Section {
    path: "rules.NAME.when.history",
    meaning: "What this owner did before, as doorman saw it; all keys must hold.",
    keys: &[
        key(
            "approved_before",
            KeyType::Bool,
            "",
            "A request of this owner was approved before; with `false`, none was.",
        ),
        key("rejected_within", KeyType::Duration, "", "A request of this owner was rejected within this time."),
        key("removed_within", KeyType::Duration, "", "A contact of this owner was removed within this time."),
        key("requests_over", KeyType::Table(&QUOTA), "", "This owner made more requests than this."),
        key(
            "approved_over",
            KeyType::Table(&COUNTED),
            "",
            "Requests of this owner were approved more often than this.",
        ),
        key(
            "rejected_over",
            KeyType::Table(&COUNTED),
            "",
            "Requests of this owner were rejected more often than this.",
        ),
        key("removed_over", KeyType::Table(&COUNTED), "", "Contacts of this owner were removed more often than this."),
    ],
    at_least_one: true,
    ..Section::PLAIN
};

/// One key of `history = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HistoryKey {
    ApprovedBefore(bool),
    RejectedWithin(SignedDuration),
    RemovedWithin(SignedDuration),
    RequestsOver(Quota),
    ApprovedOver(OverQuota),
    RejectedOver(OverQuota),
    RemovedOver(OverQuota),
}

impl HistoryCondition {
    fn parts(&self) -> impl Iterator<Item = HistoryKey> {
        let parts = [
            self.approved_before.map(HistoryKey::ApprovedBefore),
            self.rejected_within.map(HistoryKey::RejectedWithin),
            self.removed_within.map(HistoryKey::RemovedWithin),
            self.requests_over.map(HistoryKey::RequestsOver),
            self.approved_over.map(HistoryKey::ApprovedOver),
            self.rejected_over.map(HistoryKey::RejectedOver),
            self.removed_over.map(HistoryKey::RemovedOver),
        ];
        parts.into_iter().flatten()
    }
}

impl HistoryKey {
    fn evaluate(self, inputs: &Inputs<'_>) -> Evaluation {
        let known = &inputs.policy_state.history;
        let Some(handle) = inputs.handle else { return Evaluation::UNKNOWN };
        let owner = handle.owner();
        if !inputs.clock_is_sound() && !matches!(self, HistoryKey::ApprovedBefore(_)) {
            return Evaluation::UNKNOWN;
        }
        match self {
            HistoryKey::ApprovedBefore(wanted) => {
                let truth = known.approved(owner, inputs.now);
                Evaluation { truth: if wanted { truth } else { !truth }, flips: None }
            }
            HistoryKey::RejectedWithin(within) => known.rejected_within(owner, within, inputs.now),
            HistoryKey::RemovedWithin(within) => known.removed_within(owner, within, inputs.now),
            HistoryKey::RequestsOver(quota) => known.requests_over(owner, quota, &inputs.request.id, inputs.now),
            HistoryKey::ApprovedOver(over) => known.approved_over(handle, over, inputs.now),
            HistoryKey::RejectedOver(over) => known.rejected_over(handle, over, inputs.now),
            HistoryKey::RemovedOver(over) => known.removed_over(handle, over, inputs.now),
        }
    }

    /// The facts about the owner that may be in doubt.
    fn facts(self) -> &'static [Fact] {
        match self {
            HistoryKey::ApprovedBefore(_) | HistoryKey::ApprovedOver(_) => &[Fact::Identity, Fact::Approved],
            HistoryKey::RejectedWithin(_) | HistoryKey::RejectedOver(_) => &[Fact::Rejected],
            HistoryKey::RemovedWithin(_) | HistoryKey::RemovedOver(_) => &[Fact::Removed],
            HistoryKey::RequestsOver(_) => &[],
        }
    }

    fn key(self) -> &'static str {
        match self {
            HistoryKey::ApprovedBefore(_) => "history.approved_before",
            HistoryKey::RejectedWithin(_) => "history.rejected_within",
            HistoryKey::RemovedWithin(_) => "history.removed_within",
            HistoryKey::RequestsOver(_) => "history.requests_over",
            HistoryKey::ApprovedOver(_) => "history.approved_over",
            HistoryKey::RejectedOver(_) => "history.rejected_over",
            HistoryKey::RemovedOver(_) => "history.removed_over",
        }
    }

    fn wanted(self) -> String {
        match self {
            HistoryKey::ApprovedBefore(before) => before.to_string(),
            HistoryKey::RejectedWithin(within) | HistoryKey::RemovedWithin(within) => values::duration(within),
            HistoryKey::RequestsOver(quota) => format!("more than {} in {}", quota.count, values::duration(quota.per)),
            HistoryKey::ApprovedOver(over) | HistoryKey::RejectedOver(over) | HistoryKey::RemovedOver(over) => {
                over.wanted()
            }
        }
    }

    fn saw(self, evaluation: Evaluation, inputs: &Inputs<'_>) -> String {
        let Some(owner) = inputs.handle.map(Handle::owner) else { return values::handle(inputs) };
        let known = &inputs.policy_state.history;
        if evaluation.truth == Truth::Unknown {
            let timed = !matches!(self, HistoryKey::ApprovedBefore(_)) && !inputs.clock_is_sound();
            let doubt = self.facts().iter().find_map(|fact| known.doubts.of(owner, *fact).next());
            return match doubt {
                _ if timed => values::CLOCK.to_owned(),
                Some(doubt) => format!("in doubt since {}: {}", values::moment(doubt.since, inputs), doubt.basis),
                None => values::RECORD.to_owned(),
            };
        }
        let holds = evaluation.truth == Truth::True;
        let not = |word: &str| if holds { word.to_owned() } else { format!("not {word}") };
        match self {
            HistoryKey::ApprovedBefore(wanted) => {
                format!("`{owner}` was {} before", if holds == wanted { "approved" } else { "not approved" })
            }
            HistoryKey::RejectedWithin(_) => format!("`{owner}` was {} in that time", not("rejected")),
            HistoryKey::RemovedWithin(_) => format!("a contact of `{owner}` was {} in that time", not("removed")),
            HistoryKey::RequestsOver(quota) => {
                let count = inputs
                    .policy_state
                    .history
                    .requests_within(owner, quota.per, &inputs.request.id, inputs.now)
                    .count();
                format!("{count} others by `{owner}`")
            }
            HistoryKey::ApprovedOver(over) => counted(HistoryKind::Approved, over, "approvals", inputs),
            HistoryKey::RejectedOver(over) => counted(HistoryKind::Rejected, over, "rejections", inputs),
            HistoryKey::RemovedOver(over) => counted(HistoryKind::Removed, over, "removals", inputs),
        }
    }
}

/// How often it happened, as far as that is known.
fn counted(kind: HistoryKind, over: OverQuota, what: &str, inputs: &Inputs<'_>) -> String {
    let Some(handle) = inputs.handle else { return values::handle(inputs) };
    let (count, _) = inputs.policy_state.history.count(kind, handle, over, inputs.now);
    let whose = if over.by_handle { handle.as_str() } else { handle.owner() };
    format!("{count} {what} of `{whose}`")
}

impl Compile for HistoryCondition {
    const KEY: DocumentKey =
        key("history", KeyType::Table(&HISTORY), "", "What this owner did before, as doorman saw it.");

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        let table = written.table()?;
        Some(Self {
            approved_before: table.get("approved_before").and_then(RawCondition::boolean),
            rejected_within: table.get("rejected_within").and_then(RawCondition::duration),
            removed_within: table.get("removed_within").and_then(RawCondition::duration),
            requests_over: table.get("requests_over").and_then(RawCondition::table).and_then(RawTableOf::quota),
            approved_over: table.get("approved_over").and_then(RawCondition::table).and_then(OverQuota::of),
            rejected_over: table.get("rejected_over").and_then(RawCondition::table).and_then(OverQuota::of),
            removed_over: table.get("removed_over").and_then(RawCondition::table).and_then(OverQuota::of),
        })
    }
}

impl ConditionKind for HistoryCondition {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        self.parts().map(|part| part.evaluate(inputs)).fold(Evaluation::TRUE, Evaluation::and)
    }

    fn wanted(&self) -> String {
        self.parts().map(|part| format!("{} {}", part.key(), part.wanted())).collect::<Vec<_>>().join(", ")
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        self.parts().map(|part| part.saw(part.evaluate(inputs), inputs)).collect::<Vec<_>>().join(", ")
    }

    fn explain(&self, inputs: &Inputs<'_>) -> Vec<Explained> {
        let line = |part: HistoryKey| {
            let evaluation = part.evaluate(inputs);
            Explained { key: part.key(), wanted: part.wanted(), saw: part.saw(evaluation, inputs), evaluation }
        };
        self.parts().map(line).collect()
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn needs<'a>(&'a self, needs: &mut Needs<'a>) {
        needs.history.add(self);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        let Some(narrow) = narrow.downcast::<HistoryCondition>() else { return false };
        self.parts().all(|broad| {
            narrow.parts().any(|one| match (one, broad) {
                (HistoryKey::ApprovedBefore(one), HistoryKey::ApprovedBefore(of)) => one == of,
                (HistoryKey::RejectedWithin(one), HistoryKey::RejectedWithin(of))
                | (HistoryKey::RemovedWithin(one), HistoryKey::RemovedWithin(of)) => one <= of,
                (HistoryKey::RequestsOver(one), HistoryKey::RequestsOver(of)) => {
                    one.per <= of.per && one.count >= of.count
                }
                (HistoryKey::ApprovedOver(one), HistoryKey::ApprovedOver(of))
                | (HistoryKey::RejectedOver(one), HistoryKey::RejectedOver(of))
                | (HistoryKey::RemovedOver(one), HistoryKey::RemovedOver(of)) => of.follows_from(one),
                _ => false,
            })
        })
    }

    fn says_who(&self, _written: &RawCondition) -> SenderScope {
        if self.approved_before == Some(true) || self.approved_over.is_some() {
            SenderScope::Said
        } else {
            SenderScope::Silent
        }
    }
}
