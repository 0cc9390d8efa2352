//! A rules file as it is written: every value with its type and its place, nothing yet resolved or compiled. Unknown
//! and missing keys, wrong types and impossible values are found here; wrong names, patterns and contradictions are
//! found later.

mod conditions;
mod tables;

use std::ops::Range;

use jiff::civil::{Time, Weekday};
use jiff::{SignedDuration, Timestamp};

pub(crate) use tables::{file, included};

use super::decision::Mode;
use super::rules::{Limit, OverdueThen, Quota};
use crate::document::{DateOrMoment, WithSpan};
use crate::model::Verdict;

/// Something with a name.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: WithSpan<String>,
    /// The readable part of it; its problems have been reported.
    pub(crate) value: Option<T>,
}

/// The whole file, or all files that are read as one.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) include: Vec<WithSpan<String>>,
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
    pub(crate) protect: RawProtect,
    pub(crate) approvals_max: Option<Quota>,
}

/// `protect`.
#[derive(Debug, Default)]
pub(crate) struct RawProtect {
    pub(crate) names: Vec<WithSpan<String>>,
    pub(crate) prefixes: bool,
    pub(crate) suffixes: bool,
}

/// `[lists.NAME]`.
#[derive(Debug)]
pub(crate) struct RawList {
    pub(crate) span: Range<usize>,
    pub(crate) entries: Vec<WithSpan<String>>,
    pub(crate) file: Option<WithSpan<String>>,
    pub(crate) allow_empty: bool,
    /// In percent.
    pub(crate) max_shrink: Option<u8>,
    /// The place of `on_bad_line = "skip"`.
    pub(crate) skip_bad_lines: Option<Range<usize>>,
}

/// `[windows.NAME]`.
#[derive(Debug)]
pub(crate) struct RawWindow {
    pub(crate) tz: WithSpan<String>,
    pub(crate) days: Vec<Weekday>,
    pub(crate) from: Time,
    /// Midnight means 24:00.
    pub(crate) to: Time,
    pub(crate) except: Vec<WithSpan<String>>,
    pub(crate) except_file: Option<WithSpan<String>>,
    pub(crate) only: Vec<WithSpan<String>>,
}

/// `[rules.NAME]`.
#[derive(Debug)]
pub(crate) struct RawRule {
    pub(crate) then: Option<WithSpan<Verdict>>,
    pub(crate) when: Option<WithSpan<RawWhen>>,
    pub(crate) unless: Vec<RawConditions>,
    pub(crate) limit: Option<WithSpan<Limit>>,
    /// Whether the rule has a limit, even a wrong one.
    pub(crate) limited: bool,
    pub(crate) wait: Option<WithSpan<SignedDuration>>,
    pub(crate) lasts: Option<WithSpan<SignedDuration>>,
    pub(crate) until: Option<WithSpan<DateOrMoment>>,
    pub(crate) shadow: Option<WithSpan<bool>>,
    pub(crate) everyone: Option<WithSpan<bool>>,
    pub(crate) ask: Option<WithSpan<String>>,
    pub(crate) may: Option<WithSpan<Vec<&'static str>>>,
}

impl RawRule {
    /// Whether it lets somebody in, by itself or by a decider's verdict.
    pub(crate) fn approves(&self) -> bool {
        let by_word = self.may.as_ref().is_some_and(|may| may.value.contains(&"approve"));
        self.then.as_ref().is_some_and(|then| then.value == Verdict::Approve) || by_word
    }
}

/// A rule's `when`.
#[derive(Debug)]
pub(crate) enum RawWhen {
    Everyone,
    Table(RawConditions),
}

/// A table of conditions.
#[derive(Debug)]
pub(crate) struct RawConditions {
    pub(crate) span: Range<usize>,
    /// Whether something in it is not valid, which has been reported.
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

/// Its value, in the type that the key takes.
#[derive(Debug)]
pub(crate) enum RawValue {
    Text(WithSpan<String>),
    Texts(Vec<WithSpan<String>>),
    Word(&'static str),
    Bool(bool),
    Count(u64),
    Duration(SignedDuration),
    Table(RawTableOf),
}

/// A table of keys that belong to one condition. Not empty if the key table says so.
#[derive(Debug)]
pub(crate) struct RawTableOf(pub(crate) Vec<RawCondition>);

impl RawTableOf {
    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &str) -> Option<&RawCondition> {
        self.0.iter().find(|one| one.key == key)
    }

    /// `{ count, per }`.
    pub(crate) fn quota(&self) -> Option<Quota> {
        let count = self.get("count").and_then(RawCondition::count)?;
        Some(Quota { count: narrow(count), per: self.get("per").and_then(RawCondition::duration)? })
    }
}

/// Each method returns `None` if the key has another type.
impl RawCondition {
    pub(crate) fn texts(&self) -> Option<&[WithSpan<String>]> {
        if let RawValue::Texts(texts) = &self.value { Some(texts) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&WithSpan<String>> {
        if let RawValue::Text(text) = &self.value { Some(text) } else { None }
    }

    pub(crate) fn word(&self) -> Option<&'static str> {
        if let RawValue::Word(word) = self.value { Some(word) } else { None }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        if let RawValue::Bool(value) = self.value { Some(value) } else { None }
    }

    pub(crate) fn count(&self) -> Option<u64> {
        if let RawValue::Count(count) = self.value { Some(count) } else { None }
    }

    pub(crate) fn duration(&self) -> Option<SignedDuration> {
        if let RawValue::Duration(length) = self.value { Some(length) } else { None }
    }

    pub(crate) fn table(&self) -> Option<&RawTableOf> {
        if let RawValue::Table(table) = &self.value { Some(table) } else { None }
    }
}

/// Counts are checked against a much smaller bound when they are read.
pub(crate) fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `[overdue.NAME]`.
#[derive(Debug)]
pub(crate) struct RawOverdue {
    pub(crate) after: Option<SignedDuration>,
    pub(crate) then: Option<OverdueThen>,
    pub(crate) unless: Vec<RawConditions>,
    pub(crate) max_per_hour: Option<WithSpan<u32>>,
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
    pub(crate) replies: Vec<(WithSpan<String>, Verdict)>,
    pub(crate) agent: Option<WithSpan<String>>,
    pub(crate) contacts: Option<u64>,
    /// Whether the owner has a contact, and whether the sender is one.
    pub(crate) contact: Option<(bool, bool)>,
    pub(crate) expect: Range<usize>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) by: Option<WithSpan<String>>,
    pub(crate) lasts: Option<WithSpan<SignedDuration>>,
}

/// One entry of a test's history.
#[derive(Debug)]
pub(crate) struct RawTestHistory {
    pub(crate) span: Range<usize>,
    pub(crate) from_handle: String,
    pub(crate) verdict: WithSpan<Verdict>,
    pub(crate) by: Option<WithSpan<String>>,
    pub(crate) times: u32,
    pub(crate) ago: SignedDuration,
    pub(crate) lasts: Option<WithSpan<SignedDuration>>,
    pub(crate) removed: bool,
}
