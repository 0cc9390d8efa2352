//! A rules file as it is written: every value in its type and with its place, nothing yet resolved or compiled. Unknown
//! and missing keys, wrong types and impossible values end here; names, patterns and contradictions do not.

mod tables;
mod test_tables;

use std::ops::Range;

use jiff::civil::{Date, Time, Weekday};
use jiff::{SignedDuration, Timestamp};

pub(crate) use tables::file;

use super::decision::Mode;
use super::rules::{Limit, OverdueThen, Quota, SenderKind};
use crate::document::At;
use crate::model::Verdict;

/// Something with a name.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: At<String>,
    /// As much of it as can be made out; its problems are told already, and what is missing is none twice.
    pub(crate) value: Option<T>,
}

/// The whole file.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) policy: RawPolicy,
    pub(crate) lists: Vec<Named<RawList>>,
    pub(crate) windows: Vec<Named<RawWindow>>,
    pub(crate) rules: Vec<Named<RawRule>>,
    pub(crate) overdue: Vec<Named<RawOverdue>>,
    pub(crate) tests: Vec<Named<RawTest>>,
}

/// `[policy]`.
#[derive(Debug, Default)]
pub(crate) struct RawPolicy {
    pub(crate) mode: Mode,
    pub(crate) no_match: Option<Verdict>,
    pub(crate) protect: Vec<At<String>>,
    pub(crate) approvals_max: Option<Quota>,
}

/// `[lists.NAME]`.
#[derive(Debug)]
pub(crate) struct RawList {
    pub(crate) span: Range<usize>,
    pub(crate) entries: Vec<At<String>>,
    pub(crate) file: Option<At<String>>,
    pub(crate) allow_empty: bool,
}

/// `[windows.NAME]`.
#[derive(Debug)]
pub(crate) struct RawWindow {
    pub(crate) tz: At<String>,
    pub(crate) days: Vec<Weekday>,
    pub(crate) from: Time,
    /// Midnight stands for 24:00.
    pub(crate) to: Time,
}

/// `[rules.NAME]`.
#[derive(Debug)]
pub(crate) struct RawRule {
    pub(crate) then: Option<At<Verdict>>,
    pub(crate) when: Option<At<RawWhen>>,
    pub(crate) unless: Vec<RawTable>,
    pub(crate) limit: Option<At<Limit>>,
    /// Whether a limit stands there, however wrong.
    pub(crate) limited: bool,
    pub(crate) wait: Option<At<SignedDuration>>,
    pub(crate) until: Option<At<Date>>,
    pub(crate) shadow: Option<At<bool>>,
    pub(crate) everyone: Option<At<bool>>,
}

/// A rule's `when`.
#[derive(Debug)]
pub(crate) enum RawWhen {
    Everyone,
    Table(RawTable),
}

/// A table of conditions.
#[derive(Debug)]
pub(crate) struct RawTable {
    pub(crate) span: Range<usize>,
    /// Whether something in it could not be made out, which is told already.
    pub(crate) broken: bool,
    pub(crate) conditions: Vec<RawCondition>,
}

/// One key of a table of conditions.
#[derive(Debug)]
pub(crate) struct RawCondition {
    pub(crate) key: &'static str,
    pub(crate) span: Range<usize>,
    pub(crate) value: RawValue,
}

/// Its value.
#[derive(Debug)]
pub(crate) enum RawValue {
    Texts(Vec<At<String>>),
    Kind(SenderKind),
    Bool(bool),
    Count(u64),
    Duration(SignedDuration),
    History(RawHistory),
}

/// `history = { … }`, not empty.
#[derive(Debug)]
pub(crate) struct RawHistory {
    pub(crate) approved_before: Option<bool>,
    pub(crate) rejected_within: Option<SignedDuration>,
    pub(crate) removed_within: Option<SignedDuration>,
    pub(crate) requests_over: Option<Quota>,
}

/// `[overdue.NAME]`.
#[derive(Debug)]
pub(crate) struct RawOverdue {
    pub(crate) after: Option<SignedDuration>,
    pub(crate) then: Option<OverdueThen>,
    pub(crate) unless: Vec<RawTable>,
    pub(crate) max_per_hour: Option<At<u32>>,
}

/// `[tests.NAME]`.
#[derive(Debug)]
pub(crate) struct RawTest {
    pub(crate) at: Timestamp,
    pub(crate) history: Vec<RawTestHistory>,
    pub(crate) from_handle: Option<String>,
    pub(crate) from_name: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) ago: SignedDuration,
    pub(crate) contacts: Option<u64>,
    pub(crate) expect: Range<usize>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) by: Option<At<String>>,
}

/// One entry of a test's history.
#[derive(Debug)]
pub(crate) struct RawTestHistory {
    pub(crate) span: Range<usize>,
    pub(crate) from_handle: String,
    pub(crate) verdict: At<Verdict>,
    pub(crate) by: Option<At<String>>,
    pub(crate) times: u32,
    pub(crate) ago: SignedDuration,
    pub(crate) removed: bool,
}
