//! What a policy says of one request at one moment: one value that the log, the ledger, `explain`, the demo and the
//! control socket all render.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::ask::Question;
use super::doubts::Doubt;
use super::rules::RuleName;
use serde::Serialize;

use crate::model::{Answer, Person, Verdict};

/// Three-valued truth. Unknown never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be evaluated.
    Unknown,
}

impl Truth {
    /// False if one is false, else unknown if one is unknown.
    pub fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::True, Truth::True) => Truth::True,
        }
    }

    /// True if one is true, else unknown if one is unknown.
    pub fn or(self, other: Truth) -> Truth {
        !(!self).and(!other)
    }

    /// `true`, `false`, or `None` if unknown; `explain --json` writes it like this.
    pub fn known(self) -> Option<bool> {
        match self {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Unknown => None,
        }
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::True } else { Truth::False }
    }
}

/// The hash of a rules file and all its lists: lower-case hex of SHA-256, shown by its first 12 digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyHash(Arc<str>);

impl PolicyHash {
    /// Takes 64 hex digits as they are; used by the loader and by the ledger's reader.
    pub fn new(hex: &str) -> Self {
        Self(hex.into())
    }

    /// All the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..self.0.floor_char_boundary(12)]
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.short())
    }
}

impl fmt::Debug for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Whether answers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Decide and answer.
    #[default]
    Enforce,
    /// Decide and record; answer nothing.
    Shadow,
}

impl Mode {
    /// The words of `mode` in a rules file.
    pub const WORDS: &'static [&'static str] = &["enforce", "shadow"];

    /// One of [`Mode::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "enforce" => Some(Self::Enforce),
            "shadow" => Some(Self::Shadow),
            _ => None,
        }
    }
}

/// A guard that comes before the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuardKind {
    /// `handle-not-plain`: absent or malformed; always deferred.
    HandleNotPlain,
    /// `look-alike`: looks like a protected owner; never approved.
    LookAlike,
    /// `answered-before`: an earlier, different answer may have been carried out, or was given to somebody else under this id.
    AnsweredBefore,
}

impl GuardKind {
    /// All of them.
    pub const ALL: [GuardKind; 3] = [GuardKind::HandleNotPlain, GuardKind::LookAlike, GuardKind::AnsweredBefore];

    /// The name after `guard:`.
    pub fn as_str(self) -> &'static str {
        match self {
            GuardKind::HandleNotPlain => "handle-not-plain",
            GuardKind::LookAlike => "look-alike",
            GuardKind::AnsweredBefore => "answered-before",
        }
    }
}

/// What went wrong if a decision could not be made or carried out; the request stays pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The ledger cannot be written, or was not read yet as far back as a count needs.
    Ledger,
    /// The clock is unsound.
    Clock,
    /// An internal error of doorman.
    Internal,
    /// The agent is without rules.
    Policy,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [ErrorKind; 4] = [ErrorKind::Ledger, ErrorKind::Clock, ErrorKind::Internal, ErrorKind::Policy];

    /// The name after `error:`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Ledger => "ledger",
            ErrorKind::Clock => "clock",
            ErrorKind::Internal => "internal",
            ErrorKind::Policy => "policy",
        }
    }
}

/// What gave a verdict; written as in the `by` of logs, ledger, tests and `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// A rule, by name.
    Rule(RuleName),
    /// `guard:NAME`.
    Guard(GuardKind),
    /// `limit:RULE`: an approve rule over its limit.
    Limit(RuleName),
    /// `ask:RULE`: the verdict of the decider that this rule asks.
    Ask(RuleName),
    /// `overdue:NAME`.
    Overdue(RuleName),
    /// `hold:NAME`: a person's `defer`.
    Hold(Arc<str>),
    /// `no_match`.
    NoMatch,
    /// `paused`.
    Paused,
    /// `error:WHAT`.
    Error(ErrorKind),
    /// `person:NAME`.
    Person(Person),
}

impl By {
    /// The reverse of `to_string`.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((kind, name)) = text.split_once(':') else {
            return match text {
                "no_match" => Some(By::NoMatch),
                "paused" => Some(By::Paused),
                name => RuleName::parse(name).map(By::Rule),
            };
        };
        match kind {
            "guard" => GuardKind::ALL.into_iter().find(|guard| guard.as_str() == name).map(By::Guard),
            "limit" => RuleName::parse(name).map(By::Limit),
            "ask" => RuleName::parse(name).map(By::Ask),
            "overdue" => RuleName::parse(name).map(By::Overdue),
            "hold" => Some(By::Hold(name.into())),
            "error" => ErrorKind::ALL.into_iter().find(|error| error.as_str() == name).map(By::Error),
            "person" => Some(By::Person(name.into())),
            _ => None,
        }
    }

    /// The person who gave it, if one did.
    pub fn person(&self) -> Option<&Person> {
        match self {
            By::Person(person) => Some(person),
            By::Rule(_)
            | By::Guard(_)
            | By::Limit(_)
            | By::Ask(_)
            | By::Overdue(_)
            | By::Hold(_)
            | By::NoMatch
            | By::Paused
            | By::Error(_) => None,
        }
    }
}

impl Serialize for By {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Rule(name) => write!(f, "{name}"),
            By::Guard(guard) => write!(f, "guard:{}", guard.as_str()),
            By::Limit(name) => write!(f, "limit:{name}"),
            By::Ask(name) => write!(f, "ask:{name}"),
            By::Overdue(name) => write!(f, "overdue:{name}"),
            By::Hold(person) => write!(f, "hold:{person}"),
            By::NoMatch => f.write_str("no_match"),
            By::Paused => f.write_str("paused"),
            By::Error(kind) => write!(f, "error:{}", kind.as_str()),
            By::Person(person) => write!(f, "person:{person}"),
        }
    }
}

/// Whether the clock can be trusted for conditions on time (`docs/policy.md`, "The clock").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClockHealth {
    /// Near enough to the platform's.
    #[default]
    Sound,
    /// Off: conditions on time are unknown, limits count as full, timers wait.
    Unsound,
}

/// The facts about one request that are neither in it nor in the agent's [`PolicyState`](super::PolicyState).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// When doorman first saw the request.
    pub first_seen: Timestamp,
    /// Whether the clock can be trusted.
    pub clock: ClockHealth,
    /// How many contacts the agent has; `None` if that is not known.
    pub contacts: Option<u64>,
    /// Whether somebody of the sender's owner is a contact now; `None` if that is not known.
    pub owner_is_contact: Option<bool>,
    /// Whether the sender is a contact now; likewise.
    pub sender_is_contact: Option<bool>,
}

impl Circumstances {
    /// Circumstances in which nothing is known about the contacts.
    pub fn new(first_seen: Timestamp, clock: ClockHealth) -> Self {
        Self { first_seen, clock, contacts: None, owner_is_contact: None, sender_is_contact: None }
    }
}

/// One place taken in a rule's limit, in a bucket (owner, handle, or the rule itself).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The rule whose limit it is.
    pub rule: RuleName,
    /// The owner, or the handle with its `@`, that it is counted for; empty if the limit counts for the whole rule.
    pub bucket: Arc<str>,
}

/// A rule that matched or was unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// Which rule.
    pub rule: RuleName,
    /// Its verdict.
    pub then: Verdict,
    /// `True` or `Unknown`; rules that did not match are not kept.
    pub truth: Truth,
    /// Whether the rule is in shadow.
    pub shadow: bool,
    /// The first unknown condition's key, if `truth` is `Unknown`.
    pub unknown: Option<Arc<str>>,
}

/// The decision of a policy about one request at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to happen.
    pub verdict: Verdict,
    /// Who or what gave it.
    pub by: By,
    /// The policy.
    pub policy: PolicyHash,
    /// Whether the answer would be sent.
    pub mode: Mode,
    /// The rules that matched or were unknown.
    pub rule_results: Vec<RuleResult>,
    /// Approved, but not before this moment (`wait`). Limits are judged now and charged at the intent.
    pub due: Option<Timestamp>,
    /// The first instant at which a condition that was used flips; decide again then.
    pub reconsider_at: Option<Timestamp>,
    /// The contact is approved for this time: the shortest `for` of the approve rules that match, or may match. Then
    /// the contact is removed.
    pub lasts: Option<SignedDuration>,
    /// The charges of this decision; reserved with the intent.
    pub charges: Vec<Charge>,
    /// This approval is over `approvals_max`: instead of answering, the agent pauses. `verdict` is `Defer`, `by` is
    /// `Paused`.
    pub pauses: bool,
    /// What may have happened unseen to the sender's owner, if that made a rule unknown.
    pub doubts: Vec<Doubt>,
    /// An `overdue` rule with `then = "notify"` that is due and has not yet been said for this request.
    pub notify: Option<RuleName>,
    /// The question to a decider, if only this rule keeps the request pending and the decider has not answered yet.
    pub asks: Option<Question>,
}

impl Decision {
    /// Whether the record would be the same as for an earlier decision: verdict, `by` and mode. Under another policy
    /// the rules that matched or were unknown count, too; a different hash alone does not.
    pub fn same_record(&self, other: &Decision) -> bool {
        self.verdict == other.verdict
            && self.by == other.by
            && self.mode == other.mode
            && (self.policy == other.policy || self.rule_results == other.rule_results)
    }

    /// The decision if an earlier answer to the same id may have been carried out: the same answer, or a person
    /// decides. A decision that leaves the request pending for now (a pause, a hold, an error) stays as it is.
    #[must_use]
    pub fn after_answer(self, earlier: Answer, same_request: bool) -> Self {
        let same = self.verdict.answer() == Some(earlier) && same_request;
        if same || matches!(self.by, By::Paused | By::Hold(_) | By::Error(_)) {
            return self;
        }
        let (verdict, by) = (Verdict::Defer, By::Guard(GuardKind::AnsweredBefore));
        Self { verdict, by, due: None, lasts: None, charges: Vec::new(), notify: None, asks: None, ..self }
    }

    /// A decision that leaves the request pending because something is wrong.
    pub fn error(kind: ErrorKind, policy: PolicyHash) -> Self {
        Self::new(Verdict::Defer, By::Error(kind), policy, Mode::Enforce)
    }

    /// A decision with this verdict and `by`, and nothing else.
    pub fn new(verdict: Verdict, by: By, policy: PolicyHash, mode: Mode) -> Self {
        Self {
            verdict,
            by,
            policy,
            mode,
            rule_results: Vec::new(),
            due: None,
            reconsider_at: None,
            lasts: None,
            charges: Vec::new(),
            pauses: false,
            doubts: Vec::new(),
            notify: None,
            asks: None,
        }
    }
}
