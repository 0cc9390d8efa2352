//! A compiled policy: immutable, complete, and always valid. This module does not know TOML.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::ask::{Ask, DeciderVerdict};
pub use super::conditions::Condition;
use super::decision::{Charge, Mode, PolicyHash};
pub use super::handle_set::HandleSet;
use super::lookalike::Protect;
use super::state::charges::handle_bucket;
use super::text::{Letters, fold};
use crate::model::{Handle, Verdict};

/// The name of a rule, a list, a window, an overdue entry or a test: `[a-z0-9-]`, at most 64 characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// Takes `[a-z0-9-]{1,64}`; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        fits.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One immutable snapshot of a rules file and its lists.
#[derive(Debug)]
pub struct Policy {
    /// Of all its texts.
    pub hash: PolicyHash,
    /// Which version of pushed rules it is; `None`: it is of files.
    pub head: Option<Arc<Head>>,
    /// The rules file.
    pub path: PathBuf,
    /// The text behind the hash: the rules file first, then each included file and each other file that is named, by its
    /// path from the rules file.
    pub texts: Vec<SourceText>,
    /// Whether answers are sent.
    pub mode: Mode,
    /// The verdict if nothing matches: `Defer` or `Reject`.
    pub no_match: Verdict,
    /// Owners that strangers may try to look like.
    pub protect: Protect,
    /// More approvals than this pause the agent.
    pub approvals_max: Option<Quota>,
    /// All rules, in alphabetical order of their names.
    pub rules: Vec<Rule>,
    /// What happens to what stays pending, in alphabetical order.
    pub overdue: Vec<Overdue>,
    /// The file's own tests, in alphabetical order.
    pub tests: Vec<PolicyTest>,
    /// How many steps its regular expressions need for one text of 500 characters: computed, the same on every machine.
    pub steps: u64,
    /// Finds the rules that can match a request without asking all of them. Built from `rules` and `protect`.
    pub index: super::index::Index,
}

impl Policy {
    /// How far back [`SavedState::charges`](super::state::SavedState) and its approvals must reach for this policy: its longest
    /// limit, `approvals_max` included; `None` if it has none.
    pub(crate) fn charge_reach(&self) -> Option<SignedDuration> {
        let limits = self.rules.iter().filter_map(|rule| rule.limit).map(|limit| limit.quota.per);
        limits.chain(self.approvals_max.map(|quota| quota.per)).max()
    }
}

/// A version of rules that a person pushed into the ledger. An answer by a rule is only intended while this version is the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name of the rules.
    pub name: Box<str>,
    /// The version.
    pub version: u64,
}

/// One text of a policy, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The path from the rules file's directory, as written; the rules file's own name for itself.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
}

/// A number of things in a sliding window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// At least 1.
    pub count: u32,
    /// A sliding window; positive.
    pub per: SignedDuration,
}

/// For whom a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitBy {
    /// All handles of one owner together.
    Owner,
    /// Each handle.
    Handle,
    /// Everybody together.
    Rule,
}

impl LimitBy {
    /// The words of `by` in a `limit`.
    pub const WORDS: &'static [&'static str] = &["owner", "handle", "rule"];

    /// One of [`LimitBy::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "owner" => Some(Self::Owner),
            "handle" => Some(Self::Handle),
            "rule" => Some(Self::Rule),
            _ => None,
        }
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Handle => "handle",
            Self::Rule => "rule",
        }
    }
}

/// A rule's `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The most approvals in a window of time.
    pub quota: Quota,
    /// For whom it counts.
    pub by: LimitBy,
    /// The verdict of a rule over its limit: `Defer` or `Reject`.
    pub then: Verdict,
}

/// One `[rules.NAME]`.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// Its verdict.
    pub then: Verdict,
    /// The requests that it matches.
    pub when: When,
    /// Exceptions: if one of these matches, the rule does not apply.
    pub unless: Vec<Table>,
    /// Approvals only: no more than this.
    pub limit: Option<Limit>,
    /// Approvals only: not before this long after first seen.
    pub wait: Option<SignedDuration>,
    /// Approvals only: the contact is removed this long after it was made.
    pub lasts: Option<SignedDuration>,
    /// The rule ends at this moment: as written, or midnight UTC after its last day.
    pub until: Option<Timestamp>,
    /// The last day, if the file names a day.
    pub until_day: Option<Date>,
    /// The rule only records what it would have done.
    pub shadow: bool,
    /// Defer only: the decider to ask about requests that the rule defers.
    pub ask: Option<Ask>,
}

impl Rule {
    /// The place in its limit that an approval by this rule takes: of the owner, of the handle (with its `@`), or of the
    /// rule. `None` if it has no limit.
    pub fn charge(&self, handle: &Handle) -> Option<Charge> {
        let bucket = match self.limit?.by {
            LimitBy::Owner => handle.owner().into(),
            LimitBy::Handle => handle_bucket(handle).into(),
            LimitBy::Rule => "".into(),
        };
        Some(Charge { rule: self.name.clone(), bucket })
    }
}

/// A rule's `when`.
#[derive(Debug)]
pub enum When {
    /// `when = "everyone"`.
    Everyone,
    /// Conditions.
    Table(Table),
}

impl When {
    /// The keys of its conditions.
    pub fn keys(&self) -> Vec<&'static str> {
        match self {
            When::Everyone => Vec::new(),
            When::Table(table) => table.conditions.iter().map(|condition| condition.0.key().name).collect(),
        }
    }
}

/// Conditions that must all hold. Never empty.
#[derive(Debug)]
pub struct Table {
    /// ANDed.
    pub conditions: Vec<Condition>,
}

/// A compiled regular expression and its text as written.
#[derive(Debug)]
pub struct RegexPattern {
    /// As in the file.
    pub text: Arc<str>,
    /// Compiled; `handle_regex` is anchored on both sides.
    pub regex: regex::Regex,
    /// Whether it is also searched in the disclosed form of a text: everywhere but in the `when` of an approve rule.
    pub disclosing: bool,
    /// Its own letters, if it has any beyond ASCII.
    pub letters: Option<Box<Letters>>,
}

impl RegexPattern {
    /// A pattern that was compiled.
    pub fn new(text: &str, regex: regex::Regex, disclosing: bool) -> Self {
        Self { text: text.into(), regex, disclosing, letters: Letters::of(text) }
    }
}

/// A literal text, as written and folded (NFKC, then case).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// As in the file.
    pub text: Arc<str>,
    /// The folded text, for comparing.
    pub folded: Arc<str>,
    /// Whether it is also looked for in the disclosed form of a text: everywhere but in the `when` of an approve rule.
    pub disclosing: bool,
    /// Its own letters, if it has any beyond ASCII.
    pub letters: Option<Box<Letters>>,
}

impl Folded {
    /// Folds a literal.
    pub fn new(text: &str, disclosing: bool) -> Self {
        Self { text: text.into(), folded: fold(text).into(), disclosing, letters: Letters::of(text) }
    }
}

/// One `[windows.NAME]`.
#[derive(Debug)]
pub(crate) struct Window {
    /// Its name.
    pub name: RuleName,
    /// Its time zone.
    pub tz: TimeZone,
    /// The days on which it starts.
    pub days: Vec<Weekday>,
    /// Its start, in local time.
    pub from: Time,
    /// Its end, exclusive, local; at or before `from` it is on the next day.
    pub to: Time,
    /// Days on which it does not start, in order.
    pub except: Vec<Date>,
    /// The only days on which it may start, in order; empty if there is no such bound.
    pub only: Vec<Date>,
}

/// The effect of a line in a list file that is not a handle pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnBadLine {
    /// The whole file is refused.
    Refuse,
    /// The line is skipped, with a warning.
    Skip,
}

impl OnBadLine {
    /// The words of `on_bad_line`.
    pub const WORDS: &'static [&'static str] = &["refuse", "skip"];

    /// One of [`OnBadLine::WORDS`]; anything but `skip` refuses.
    pub fn parse(word: &str) -> Self {
        if word == "skip" { Self::Skip } else { Self::Refuse }
    }
}

/// One `[lists.NAME]`, entries and file together.
#[derive(Debug)]
pub struct List {
    /// Its name.
    pub name: RuleName,
    /// Its patterns.
    pub patterns: PatternSet,
    /// How many entries, for "lost more than half".
    pub len: usize,
}

/// Handle patterns of one key or list, sorted for fast asking.
#[derive(Debug, Default)]
pub struct PatternSet {
    /// `john` or `acme/bot`: literal handles.
    pub literals: HandleSet,
    /// `john/*`: any agent of these owners.
    pub agents_of: std::collections::HashSet<Arc<str>>,
    /// `*/support`: this slug of any owner.
    pub slugs: std::collections::HashSet<Arc<str>>,
    /// Everything else, such as `acme/*-bot`.
    pub globs: Vec<HandleGlob>,
    /// The texts of `globs`, to avoid duplicates.
    pub glob_texts: std::collections::HashSet<Arc<str>>,
}

/// A handle pattern with a `*` inside a part.
#[derive(Debug)]
pub struct HandleGlob {
    /// As written, lower case, without the `@`.
    pub text: Arc<str>,
    /// The owner part, if it has no `*`: for the index, and for "does the rule say who".
    pub literal_owner: Option<Arc<str>>,
    /// Matches the whole handle; `*` never crosses `/`.
    pub matcher: globset::GlobMatcher,
}

/// One `[overdue.NAME]`.
#[derive(Debug)]
pub struct Overdue {
    /// Its name.
    pub name: RuleName,
    /// This long after the later of `inserted_at` and first seen.
    pub after: SignedDuration,
    /// What happens then.
    pub then: OverdueThen,
    /// But not these.
    pub unless: Vec<Table>,
    /// At most this many an hour.
    pub max_per_hour: u32,
}

/// What `overdue` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverdueThen {
    /// Send a notice, once.
    Notify,
    /// Reject.
    Reject,
}

impl OverdueThen {
    /// The words of `then` in an `[overdue.NAME]`.
    pub const WORDS: &'static [&'static str] = &["notify", "reject"];

    /// One of [`OverdueThen::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "notify" => Some(Self::Notify),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }
}

/// One `[tests.NAME]`.
#[derive(Debug)]
pub struct PolicyTest {
    /// Its name.
    pub name: RuleName,
    /// The time of the test.
    pub at: Timestamp,
    /// What happened before.
    pub history: Vec<TestHistory>,
    /// The request.
    pub request: TestRequest,
    /// The verdict that is expected.
    pub verdict: Verdict,
    /// The `by` that is expected, as text, if the test says one.
    pub by: Option<String>,
    /// After how long the contact is expected to end, if the test has a `for`.
    pub lasts: Option<SignedDuration>,
    /// The index of its text in the loader's report.
    pub source: usize,
    /// Its place there, for the diagnostic of a failure (byte range).
    pub span: std::ops::Range<usize>,
}

/// One line of a test's history.
#[derive(Debug)]
pub struct TestHistory {
    /// The sender.
    pub sender: crate::model::Sender,
    /// The answer.
    pub verdict: Verdict,
    /// By which rule, if the test names one.
    pub by: Option<RuleName>,
    /// How often.
    pub times: u32,
    /// How long before the test's moment.
    pub ago: SignedDuration,
    /// After how long the contact was to end, if the test has a `for`.
    pub lasts: Option<SignedDuration>,
    /// Whether the contact of this approval was removed again at that time.
    pub removed: bool,
}

/// A test's request.
#[derive(Debug)]
pub struct TestRequest {
    /// The sender.
    pub sender: crate::model::Sender,
    /// Their name.
    pub name: Option<crate::model::StrangerText>,
    /// Their message.
    pub message: Option<crate::model::StrangerText>,
    /// How long before the test's moment it was first seen and sent (for `wait`, `age_over`, `overdue`).
    pub ago: SignedDuration,
    /// The verdicts of deciders about it.
    pub replies: Vec<DeciderVerdict>,
    /// The agent that receives it; unknown if the test does not say.
    pub agent: Option<Arc<str>>,
    /// How many contacts the agent has; unknown if the test does not say.
    pub contacts: Option<u64>,
    /// Whether the sender's owner has a contact, and whether the sender is one; likewise.
    pub contact: Option<(bool, bool)>,
}
