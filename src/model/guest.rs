//! Guests: senders who were let in for a time, and who removes a contact.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::Person;

/// What is known about a contact with an end since the contact was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestStay {
    /// When the contact is to be removed.
    pub ends_at: Timestamp,
    /// The answer made the contact between `made_from` and `made_until`, by the platform's clock: a contact of another
    /// time was made by somebody else.
    pub made_from: Timestamp,
    /// The end of that time.
    pub made_until: Timestamp,
    /// Why it is not certain which contact it made.
    pub doubt: Option<GuestDoubt>,
}

/// Why doorman does not remove a contact with an end by itself: somebody else may have made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuestDoubt {
    /// The approval was never confirmed: somebody else may have let them in.
    Presumed,
    /// The contact came to be at another time than the approval.
    AnotherTime,
    /// The platform does not say when the contact came to be.
    NoTime,
}

impl GuestDoubt {
    const ALL: [GuestDoubt; 3] = [GuestDoubt::Presumed, GuestDoubt::AnotherTime, GuestDoubt::NoTime];

    /// The word in the ledger, in the log and in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            GuestDoubt::Presumed => "presumed",
            GuestDoubt::AnotherTime => "another-time",
            GuestDoubt::NoTime => "no-time",
        }
    }

    /// The reverse of [`GuestDoubt::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|doubt| doubt.as_str() == text)
    }

    /// The same for people.
    pub fn reason(self) -> &'static str {
        match self {
            GuestDoubt::Presumed => "the approval was never confirmed, and somebody else may have let them in",
            GuestDoubt::AnotherTime => "the contact came to be at another time than the approval",
            GuestDoubt::NoTime => "the platform does not say when the contact came to be",
        }
    }
}

/// Why a contact is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedBy {
    /// A person asked for it.
    Person(Person),
    /// Its end had come.
    Expired,
}

impl RemovedBy {
    /// The reverse of `to_string`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("person", name)) => Some(RemovedBy::Person(name.into())),
            Some(_) => None,
            None => (text == "expired").then_some(RemovedBy::Expired),
        }
    }

    /// The person, if it was for one.
    pub fn person(&self) -> Option<&Person> {
        match self {
            RemovedBy::Person(person) => Some(person),
            RemovedBy::Expired => None,
        }
    }
}

impl Serialize for RemovedBy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for RemovedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemovedBy::Person(person) => write!(f, "person:{person}"),
            RemovedBy::Expired => f.write_str("expired"),
        }
    }
}

/// The outcome of the removal of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemovalOutcome {
    /// The platform removed it.
    Removed,
    /// It was already gone.
    Gone,
    /// It was not removed.
    Refused,
    /// It may have been removed.
    Unknown,
}

impl RemovalOutcome {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            RemovalOutcome::Removed => "removed",
            RemovalOutcome::Gone => "gone",
            RemovalOutcome::Refused => "refused",
            RemovalOutcome::Unknown => "unknown",
        }
    }
}
