//! Handles, brought into one comparable form. `docs/platform.md` says what a handle is; anything else is kept as text,
//! without guessing.

use std::fmt;
use std::sync::Arc;

use super::StrangerText;

/// Longest handle part (bytes): one letter or digit, then up to 62 more.
const PART_BYTES_MAX: usize = 63;

/// A plain handle: `owner` for a user, `owner/slug` for an agent. ASCII, lower case, no `@`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    text: Arc<str>,
    /// Where the slash is, if there is one.
    slash: Option<u8>,
}

/// Why a text is not a plain handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleProblem {
    /// Nothing there.
    #[error("a handle must not be empty")]
    Empty,
    /// More than one leading `@`.
    #[error("a handle has at most one leading `@`")]
    TwoAts,
    /// A character outside ASCII.
    #[error("a handle is plain ASCII")]
    NotAscii,
    /// Something other than `owner` or `owner/slug`.
    #[error(
        "a handle is `owner` or `owner/slug`, each of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    Shape,
    /// A part of more than 63 characters.
    #[error("each part of a handle has at most 63 characters")]
    TooLong,
}

/// A [`Handle`] whose text is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleRef<'a> {
    text: &'a str,
    slash: Option<u8>,
}

impl<'a> HandleRef<'a> {
    /// Reads a text as [`Handle::parse`] does, and keeps it in `room`, whose content goes: for a million lines of a list.
    pub(crate) fn parse(text: &str, room: &'a mut String) -> Result<Self, HandleProblem> {
        let bare = text.strip_prefix('@').unwrap_or(text);
        if bare.is_empty() {
            return Err(HandleProblem::Empty);
        }
        if bare.starts_with('@') {
            return Err(HandleProblem::TwoAts);
        }
        if !bare.is_ascii() {
            return Err(HandleProblem::NotAscii);
        }
        if bare.len() > 2 * PART_BYTES_MAX + 1 {
            return Err(HandleProblem::TooLong);
        }
        room.clear();
        room.push_str(bare);
        room.make_ascii_lowercase();
        let lower: &'a str = room;
        let mut parts = lower.split('/');
        let owner = parts.next().unwrap_or_default();
        let slug = parts.next();
        if parts.next().is_some() {
            return Err(HandleProblem::Shape);
        }
        check_part(owner)?;
        if let Some(slug) = slug {
            check_part(slug)?;
        }
        let slash = slug.map(|_| owner.len() as u8);
        Ok(Self { text: lower, slash })
    }

    /// The text of a handle, in its comparable form.
    pub(crate) fn of_comparable(text: &'a str) -> Self {
        Self { text, slash: text.find('/').and_then(|at| u8::try_from(at).ok()) }
    }

    /// The whole handle, comparable: `john` or `john/weather-agent`.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The owner: the part before the slash.
    pub fn owner(self) -> &'a str {
        match self.slash {
            Some(at) => &self.text[..usize::from(at)],
            None => self.text,
        }
    }

    /// The part after the slash, for an agent.
    pub fn slug(self) -> Option<&'a str> {
        self.slash.map(|at| &self.text[usize::from(at) + 1..])
    }
}

impl Handle {
    /// Makes a handle comparable: at most one leading `@` goes, the rest must be ASCII, is lower-cased, and must be
    /// `owner` or `owner/slug`.
    pub fn parse(text: &str) -> Result<Self, HandleProblem> {
        let mut room = String::new();
        let slash = HandleRef::parse(text, &mut room)?.slash;
        Ok(Self { text: room.into(), slash })
    }

    /// The same handle, for whatever looks at it only.
    pub fn view(&self) -> HandleRef<'_> {
        HandleRef { text: &self.text, slash: self.slash }
    }

    /// The whole handle, comparable: `john` or `john/weather-agent`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The owner: the part before the slash.
    pub fn owner(&self) -> &str {
        self.view().owner()
    }

    /// The part after the slash, for an agent.
    pub fn slug(&self) -> Option<&str> {
        self.view().slug()
    }

    /// Whether this is one part of a handle: `[a-z0-9][a-z0-9._-]{0,62}`, already in lower case.
    pub(crate) fn is_part(text: &str) -> bool {
        check_part(text).is_ok()
    }
}

fn check_part(part: &str) -> Result<(), HandleProblem> {
    if part.len() > PART_BYTES_MAX {
        return Err(HandleProblem::TooLong);
    }
    let mut bytes = part.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
    if first && rest { Ok(()) } else { Err(HandleProblem::Shape) }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// The sender of a request, as the platform says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// The platform named no sender.
    Absent,
    /// A plain handle, and its text as received.
    Plain {
        /// For comparing.
        handle: Handle,
        /// For showing and for the ledger.
        original: StrangerText,
    },
    /// A text that is not a plain handle.
    Odd {
        /// For showing and for the ledger.
        original: StrangerText,
        /// What is wrong with it.
        problem: HandleProblem,
    },
}

impl Sender {
    /// Reads the text of `from_handle` or `handle`.
    pub fn parse(text: Option<&str>) -> Self {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Sender::Absent;
        };
        let original = StrangerText::new(text);
        match Handle::parse(text) {
            Ok(handle) => Sender::Plain { handle, original },
            Err(problem) => Sender::Odd { original, problem },
        }
    }

    /// The comparable handle, if there is one.
    pub fn handle(&self) -> Option<&Handle> {
        match self {
            Sender::Plain { handle, .. } => Some(handle),
            Sender::Absent | Sender::Odd { .. } => None,
        }
    }

    /// The text as received.
    pub fn original(&self) -> Option<&StrangerText> {
        match self {
            Sender::Plain { original, .. } | Sender::Odd { original, .. } => Some(original),
            Sender::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_made_comparable() {
        for (text, owner, slug) in [
            ("john", "john", None),
            ("@John", "john", None),
            ("John/Weather-Agent", "john", Some("weather-agent")),
            ("0a.b_c-d", "0a.b_c-d", None),
        ] {
            let handle = Handle::parse(text).unwrap();
            assert_eq!((handle.owner(), handle.slug()), (owner, slug), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_handle_is_refused() {
        let long = "a".repeat(64);
        for (text, problem) in [
            ("", HandleProblem::Empty),
            ("@", HandleProblem::Empty),
            ("@@john", HandleProblem::TwoAts),
            ("jöhn", HandleProblem::NotAscii),
            ("john/", HandleProblem::Shape),
            ("/bot", HandleProblem::Shape),
            ("a/b/c", HandleProblem::Shape),
            ("-john", HandleProblem::Shape),
            ("jo hn", HandleProblem::Shape),
            ("john\n", HandleProblem::Shape),
            ("jo@hn", HandleProblem::Shape),
            (long.as_str(), HandleProblem::TooLong),
        ] {
            assert_eq!(Handle::parse(text), Err(problem), "{text:?}");
        }
        assert!(Handle::parse(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn an_empty_handle_is_an_absent_one() {
        assert_eq!(Sender::parse(Some("")), Sender::Absent);
        assert_eq!(Sender::parse(None), Sender::Absent);
        assert!(matches!(Sender::parse(Some("@@x")), Sender::Odd { .. }));
    }
}
