//! The person who gave a command through the control socket, and the note that came with it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// A person as named on record: `ann`, `ann (as root)`, `eve (claimed by ann)`. Cheap to clone. Two persons are equal
/// if their names are, whatever their notes.
#[derive(Debug, Clone)]
pub struct Person(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Box<str>,
    note: Option<Box<str>>,
}

impl Person {
    /// Longest note (characters).
    pub(crate) const NOTE_MAX: usize = 500;
    /// Longest name that somebody may claim (characters).
    pub(crate) const CLAIM_MAX: usize = 64;

    /// A person with a note.
    pub(crate) fn noting(name: &str, note: Option<&str>) -> Self {
        Self(Arc::new(Inner { name: name.into(), note: note.map(Into::into) }))
    }

    /// The name as it is on record, without `person:`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The note.
    pub fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// Whether a person may claim this name. It cannot look like the additions that doorman makes to a name.
    pub(crate) fn may_be_claimed(name: &str) -> bool {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_.@$+:/ ".contains(character);
        (1..=Self::CLAIM_MAX).contains(&name.len()) && name.trim() == name && name.chars().all(plain)
    }

    /// Whether this may be a note: something in one paragraph, not too long.
    pub(crate) fn may_be_noted(note: &str) -> bool {
        !note.trim().is_empty() && note.chars().count() <= Self::NOTE_MAX && !note.contains('\0')
    }
}

impl From<&str> for Person {
    fn from(name: &str) -> Self {
        Self::noting(name, None)
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Person {}

impl Hash for Person {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// Who or what paused an agent, or resumed it. On record, in JSON and in the log: `person:NAME`, or `approvals_max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PausedBy {
    /// A person: `doorman pause`, `doorman resume`.
    Person(Person),
    /// More approvals by rules within an hour than the policy's `approvals_max` allows.
    ApprovalsMax,
}

impl PausedBy {
    /// The reverse of `to_string`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("person", name)) => Some(PausedBy::Person(name.into())),
            Some(_) => None,
            None => (text == "approvals_max").then_some(PausedBy::ApprovalsMax),
        }
    }

    /// As people read it: without `person:`.
    pub fn who(&self) -> &str {
        match self {
            PausedBy::Person(person) => person.name(),
            PausedBy::ApprovalsMax => "approvals_max",
        }
    }
}

impl fmt::Display for PausedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PausedBy::Person(person) => write!(f, "person:{person}"),
            PausedBy::ApprovalsMax => f.write_str(self.who()),
        }
    }
}

impl Serialize for PausedBy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PausedBy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("neither `person:NAME` nor `approvals_max`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paused_an_agent_is_read_as_it_is_written() {
        for by in [PausedBy::Person("ann (claimed by root)".into()), PausedBy::ApprovalsMax] {
            let json = serde_json::to_string(&by).unwrap();
            assert_eq!(json, format!("\"{by}\""));
            assert_eq!(serde_json::from_str::<PausedBy>(&json).unwrap(), by);
        }
        assert!(serde_json::from_str::<PausedBy>("\"ann\"").is_err());
        assert_eq!(PausedBy::parse("rule:approvals_max"), None);
    }

    #[test]
    fn a_claim_cannot_look_like_what_doorman_knows() {
        for name in ["ann", "ann.b@example.org", "slack:U0123", "Ann B"] {
            assert!(Person::may_be_claimed(name), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", " ann", "ann (as root)", "ann\n", "an\u{301}n", long.as_str()] {
            assert!(!Person::may_be_claimed(name), "{name}");
        }
    }

    #[test]
    fn a_note_is_short_text() {
        let (long, longest) = ("é".repeat(501), "é".repeat(500));
        assert!(Person::may_be_noted(&longest) && Person::may_be_noted("she called"));
        assert!(["", "  ", "a\0b", long.as_str()].iter().all(|note| !Person::may_be_noted(note)));
    }

    #[test]
    fn the_name_makes_the_person() {
        assert_eq!(Person::noting("ann", Some("x")), Person::from("ann"));
        assert_ne!(Person::from("ann"), Person::from("ann (as root)"));
    }
}
