//! The nouns of the domain: agents, requests, handles, contacts, verdicts.
//!
//! Everything that arrives from the network or from a person becomes one of these types once, at the edge, and is
//! bounded there. Nothing in here does IO. Strangers' text is kept in [`StrangerText`], whose only way out without
//! escaping is [`StrangerText::raw`].

mod connection;
mod guest;
mod handle;
mod ids;
mod person;
mod target;
mod text;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use connection::{ConnectFailure, ConnectPlan, Ended, RefusedBy};
pub use guest::{GuestDoubt, RemovalOutcome, RemovedBy, Stay};
pub use handle::{Handle, HandleProblem, Sender};
pub use ids::{AgentId, ContactId, ID_BYTES_MAX, IdProblem, RequestId, SenderId, SenderIds};
pub use person::Person;
pub use target::Target;
pub use text::StrangerText;
pub(crate) use text::{ascii_json, columns, hides};

/// What is said to a request in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Let them in.
    Approve,
    /// Send them away.
    Reject,
    /// Leave it pending for a person. What every doubt becomes.
    Defer,
}

impl Verdict {
    /// The answer that is sent to the platform; none for [`Verdict::Defer`].
    pub fn answer(self) -> Option<Answer> {
        match self {
            Verdict::Approve => Some(Answer::Approve),
            Verdict::Reject => Some(Answer::Reject),
            Verdict::Defer => None,
        }
    }

    /// `approve`, `reject` or `defer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
            Verdict::Defer => "defer",
        }
    }

    /// The reverse of [`Verdict::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Verdict::Approve, Verdict::Reject, Verdict::Defer].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A verdict that goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// `"action": "approve"`.
    Approve,
    /// `"action": "reject"`.
    Reject,
}

impl Answer {
    /// The verdict this answer carries out.
    pub fn verdict(self) -> Verdict {
        match self {
            Answer::Approve => Verdict::Approve,
            Answer::Reject => Verdict::Reject,
        }
    }

    /// How a request stands that got it.
    pub fn status(self) -> RequestStatus {
        match self {
            Answer::Approve => RequestStatus::Approved,
            Answer::Reject => RequestStatus::Rejected,
        }
    }

    /// The word in the request's `action` field \[docs\].
    pub fn as_str(self) -> &'static str {
        self.verdict().as_str()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a request stands with the platform. Everything but `Pending` is final \[seed\].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestStatus {
    /// Waiting for an answer.
    Pending,
    /// Somebody let them in.
    Approved,
    /// Somebody sent them away.
    Rejected,
    /// Nobody answered in the platform's time.
    Expired,
    /// The sender took it back.
    Cancelled,
    /// A word this version does not know; at most 32 bytes of visible ASCII.
    Other(Box<str>),
}

impl RequestStatus {
    /// Reads the platform's word; unknown words are kept, bounded.
    pub fn parse(text: &str) -> Self {
        match text {
            "pending" => RequestStatus::Pending,
            "approved" => RequestStatus::Approved,
            "rejected" => RequestStatus::Rejected,
            "expired" => RequestStatus::Expired,
            "cancelled" => RequestStatus::Cancelled,
            other => RequestStatus::Other(other.chars().filter(char::is_ascii_graphic).take(32).collect()),
        }
    }

    /// The platform's word.
    pub fn as_str(&self) -> &str {
        match self {
            RequestStatus::Pending => "pending",
            RequestStatus::Approved => "approved",
            RequestStatus::Rejected => "rejected",
            RequestStatus::Expired => "expired",
            RequestStatus::Cancelled => "cancelled",
            RequestStatus::Other(word) => word,
        }
    }
}

impl fmt::Display for RequestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A stranger at the door, as first seen. All but the id may be missing or odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRequest {
    /// Which request.
    pub id: RequestId,
    /// Who says they ask.
    pub sender: Sender,
    /// What they call themselves. An empty string on the wire is absent.
    pub name: Option<StrangerText>,
    /// What they say. An empty string on the wire is absent.
    pub message: Option<StrangerText>,
    /// When the platform took it in; `None` where its text cannot be read as a time.
    pub inserted_at: Option<Timestamp>,
    /// Who has the sender's handle, where the payload tells.
    pub ids: Option<Box<SenderIds>>,
}

/// What a contact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContactKind {
    /// A person.
    User,
    /// An agent.
    Agent,
    /// A word this version does not know.
    Other,
}

impl ContactKind {
    /// The word in the ledger, the log and `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            ContactKind::User => "user",
            ContactKind::Agent => "agent",
            ContactKind::Other => "other",
        }
    }

    /// The reverse of [`ContactKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [ContactKind::User, ContactKind::Agent, ContactKind::Other].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One row of the agent's contact list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The contact record's id.
    pub id: ContactId,
    /// Whose it is.
    pub sender: Sender,
    /// Their display name.
    pub name: Option<StrangerText>,
    /// User or agent.
    pub kind: ContactKind,
    /// Since when.
    pub inserted_at: Option<Timestamp>,
    /// Who has the handle, where the payload tells.
    pub ids: Option<Box<SenderIds>>,
}

/// Where an agent stands with the platform; the flags `paused` and `held` lie across these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Nothing known yet.
    Starting,
    /// Joined, and listed since.
    Live,
    /// No socket, for now.
    Away,
    /// Somebody else has the connection, and they may keep it.
    Yielded,
    /// No socket, by configuration.
    Polling,
    /// The key is no good.
    Refused,
}

impl AgentState {
    /// All of them.
    pub const ALL: [AgentState; 6] = [
        AgentState::Starting,
        AgentState::Live,
        AgentState::Away,
        AgentState::Yielded,
        AgentState::Polling,
        AgentState::Refused,
    ];

    /// The word in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentState::Starting => "starting",
            AgentState::Live => "live",
            AgentState::Away => "away",
            AgentState::Yielded => "yielded",
            AgentState::Polling => "polling",
            AgentState::Refused => "refused",
        }
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the platform refused an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400, 422: the same answer is not sent again.
    Malformed,
    /// 403: it is sent again after a while.
    Forbidden,
}

impl Refusal {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Forbidden => "forbidden",
        }
    }

    /// The reverse of [`Refusal::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Refusal::Malformed, Refusal::Forbidden].into_iter().find(|refusal| refusal.as_str() == text)
    }
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The platform said that it took this answer.
    Confirmed(Answer),
    /// 404 or 409 after an attempt of ours with an unknown outcome, or our own update was seen.
    Presumed(Answer),
    /// 404 or 409 otherwise: a person or the agent answered, or the sender cancelled.
    SettledElsewhere,
    /// A stable listing no longer shows it.
    Gone,
    /// 400, 403 or 422.
    Refused,
    /// Sent, and nothing heard: until the next listing.
    Unknown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 8] = [
        Outcome::Confirmed(Answer::Approve),
        Outcome::Confirmed(Answer::Reject),
        Outcome::Presumed(Answer::Approve),
        Outcome::Presumed(Answer::Reject),
        Outcome::SettledElsewhere,
        Outcome::Gone,
        Outcome::Refused,
        Outcome::Unknown,
    ];

    /// The word in the log, in `--json`, in `history` and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Confirmed(Answer::Approve) => "approved",
            Outcome::Confirmed(Answer::Reject) => "rejected",
            Outcome::Presumed(Answer::Approve) => "presumed-approved",
            Outcome::Presumed(Answer::Reject) => "presumed-rejected",
            Outcome::SettledElsewhere => "settled-elsewhere",
            Outcome::Gone => "gone",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        }
    }

    /// The reverse of [`Outcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Whether a limit's charge stays with the request (`docs/architecture.md`, "Deciding is one step, and happens late").
    pub fn keeps_charge(self) -> bool {
        match self {
            Outcome::Confirmed(_) | Outcome::Presumed(_) | Outcome::Unknown => true,
            Outcome::SettledElsewhere | Outcome::Gone | Outcome::Refused => false,
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
