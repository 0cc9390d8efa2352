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

pub(crate) use connection::Ended;
pub use connection::{ConnectFailure, ConnectPlan, RefusedBy};
pub use guest::{GuestDoubt, GuestStay, RemovalOutcome, RemovedBy};
pub use handle::{Handle, Sender};
pub(crate) use handle::{HandleProblem, HandleRef};
pub(crate) use ids::SenderIds;
pub use ids::{AgentId, ContactId, RequestId, SenderId};
pub use person::{PausedBy, Person};
pub use target::PersonTarget;
pub use text::StrangerText;
pub(crate) use text::{ascii_json, columns, hides};

/// What a policy or a person says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Let the sender in.
    Approve,
    /// Turn the sender away.
    Reject,
    /// Leave it pending for a person. Every doubt leads to this.
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

    /// The status of a request after this answer.
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

/// The status of a request on the platform. Every status but `Pending` is final \[seed\].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestStatus {
    /// Waiting for an answer.
    Pending,
    /// Somebody approved it.
    Approved,
    /// Somebody rejected it.
    Rejected,
    /// Nobody answered before the platform's time limit.
    Expired,
    /// The sender cancelled it.
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

/// A contact request, as first seen. Everything but the id may be missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRequest {
    /// Which request.
    pub id: RequestId,
    /// Its sender, as the platform says.
    pub sender: Sender,
    /// The sender's display name. An empty string on the wire counts as absent.
    pub name: Option<StrangerText>,
    /// The sender's message. An empty string on the wire counts as absent.
    pub message: Option<StrangerText>,
    /// When the platform received it; `None` if its text is not a readable time.
    pub inserted_at: Option<Timestamp>,
    /// Who has the sender's handle, if the payload tells.
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
    /// Who has the handle, if the payload tells.
    pub ids: Option<Box<SenderIds>>,
}

/// The state of an agent's connection with the platform; the flags `paused` and `without_rules` are independent of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Nothing known yet.
    Starting,
    /// Joined, and listed since.
    Live,
    /// No socket, for now.
    Away,
    /// Another client has the connection, and may keep it.
    Yielded,
    /// No socket, by configuration.
    Polling,
    /// The platform does not accept the key.
    Refused,
    /// Another doorman on the same database answers for it, or nobody at the moment.
    Elsewhere,
}

impl AgentState {
    /// All of them.
    pub const ALL: [AgentState; 7] = [
        AgentState::Starting,
        AgentState::Live,
        AgentState::Away,
        AgentState::Yielded,
        AgentState::Polling,
        AgentState::Refused,
        AgentState::Elsewhere,
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
            AgentState::Elsewhere => "elsewhere",
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

/// The outcome of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The platform confirmed this answer.
    Confirmed(Answer),
    /// 404 or 409 after an attempt of ours with an unknown outcome, or our own update was seen.
    Presumed(Answer),
    /// 404 or 409 otherwise: a person or the agent answered, or the sender cancelled.
    SettledElsewhere,
    /// A stable listing no longer shows it.
    Gone,
    /// 400, 403 or 422.
    Refused,
    /// Sent without a reply: unknown until the next listing.
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
