//! Guests: whoever was let in for a time, and who removes a contact.

use std::fmt;

use jiff::Timestamp;

use super::Person;

/// What is known of a contact with an end from the moment at which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// When the contact is to be removed.
    pub ends_at: Timestamp,
    /// The answer made a contact in this time, by the platform's clock: one of another time is somebody else's.
    pub made_from: Timestamp,
    /// The end of that time.
    pub made_until: Timestamp,
    /// Why it is not certain which contact it made.
    pub doubt: Option<GuestDoubt>,
}

/// Why a contact with an end is not removed by itself: it may be one that somebody else made.
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

/// For whom a contact is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedBy {
    /// For a person.
    Person(Person),
    /// For nobody: its end had come.
    Expired,
}

impl RemovedBy {
    /// The person, if it was for one.
    pub fn person(&self) -> Option<&Person> {
        match self {
            RemovedBy::Person(person) => Some(person),
            RemovedBy::Expired => None,
        }
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

/// What became of the removal of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemovalOutcome {
    /// The platform removed it.
    Removed,
    /// It was there no more.
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
