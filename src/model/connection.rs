//! An agent's connection as data: how it is asked for, how it is refused, and how it ends.

use std::time::Duration;

/// How to open the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectPlan {
    /// `on_conflict=supersede` instead of `reject`.
    pub take: bool,
    /// Key in the query instead of the header.
    pub key_in_query: bool,
}

/// Why an attempt opened no socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `error.code` of its body, bounded and plain, if there was one.
    pub code: Option<String>,
    /// Who gave the answer.
    pub by: RefusedBy,
    /// `Retry-After` or `error.retry_after`, not yet capped.
    pub retry_after: Option<Duration>,
    /// The upgrade was asked for and no answer came: the platform may have made the connection, and count it as live.
    pub asked: bool,
    /// For people: the phase and the cause (`tls: certificate is not trusted…`); without keys and without raw text of
    /// others.
    pub why: String,
}

/// Who refused an upgrade, by the body of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBy {
    /// There was no answer, or its body could not be read.
    Unknown,
    /// An answer without a body: so a Phoenix application refuses a key, with 403 \[phx\].
    Empty,
    /// The platform, with an error in its own format.
    Platform,
    /// A system between us and the platform; the beginning of its answer, escaped.
    Between(String),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// The close code; `None` is an end without a close frame.
    pub code: Option<u16>,
    /// The close frame's reason, escaped and bounded; mostly empty.
    pub reason: String,
    /// We closed it, because a frame was larger than is taken.
    pub too_large: bool,
}

impl From<Option<u16>> for Ended {
    fn from(code: Option<u16>) -> Self {
        Self { code, ..Self::default() }
    }
}
