//! The types of the sandbox's control calls, in both directions; the same in process and over HTTP.

use serde::{Deserialize, Deserializer, Serialize};

use super::fault::Fault;

/// The status of a request; all but `Pending` are final \[seed\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxStatus {
    /// Waiting.
    Pending,
    /// Let in.
    Approved,
    /// Sent away.
    Rejected,
    /// Taken back by its sender.
    Cancelled,
    /// Nobody answered in time.
    Expired,
}

impl SandboxStatus {
    /// The reverse of the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        serde_json::from_value(word.into()).ok()
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One or many requests to make. In `from_handle`, `from_name`, `message` and `id`, `{n}` is the number of the request
/// in its burst, counted from `first`. A text that is `null` is sent as `null`; a text that is left out is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// Whom they ask: an id or a handle; empty or left out, the world's first agent.
    #[serde(default)]
    pub to: String,
    /// The sender's handle. If it is a handle of this world, the request is from that party.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub from_handle: Option<Option<String>>,
    /// Their name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub from_name: Option<Option<String>>,
    /// What they say.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub message: Option<Option<String>>,
    /// The id of the party with that handle; left out, the payload has none, like today's payloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_id: Option<String>,
    /// The id of that agent's owner; left out, the payload has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The request's id (default: a new UUID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many (default 1, at most 100,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The first `{n}` (default 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Whether it is pushed to a joined channel (default true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// An RFC 3339 time (default: now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inserted_at: Option<String>,
}

impl NewRequest {
    /// A request to this agent, by id or handle, from nobody so far.
    pub fn to(agent: &str) -> Self {
        Self { to: agent.to_owned(), ..Self::default() }
    }

    /// From this handle.
    #[must_use]
    pub fn from(mut self, handle: &str) -> Self {
        self.from_handle = Some(Some(handle.to_owned()));
        self
    }

    /// From `"from_handle": null`.
    #[must_use]
    pub fn from_null(mut self) -> Self {
        self.from_handle = Some(None);
        self
    }

    /// With this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.from_name = Some(Some(name.to_owned()));
        self
    }

    /// With this message.
    #[must_use]
    pub fn saying(mut self, message: &str) -> Self {
        self.message = Some(Some(message.to_owned()));
        self
    }

    /// With these ids of the sender (user or agent), and of the agent's owner.
    #[must_use]
    pub fn ids(mut self, sender: Option<&str>, owner: Option<&str>) -> Self {
        (self.from_id, self.owner_id) = (sender.map(str::to_owned), owner.map(str::to_owned));
        self
    }

    /// With this id.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// With this many copies.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// The first `{n}`.
    #[must_use]
    pub fn first(mut self, first: u64) -> Self {
        self.first = Some(first);
        self
    }

    /// Only in the listing, not on the socket.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.push = Some(false);
        self
    }

    /// Taken in at this RFC 3339 time.
    #[must_use]
    pub fn inserted_at(mut self, time: &str) -> Self {
        self.inserted_at = Some(time.to_owned());
        self
    }
}

/// One attempt to answer a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerAttempt {
    /// The party whose key was used.
    pub by: String,
    /// The status that it asked for.
    pub status: SandboxStatus,
    /// The platform's reply: 200, 404 or 409. A reply changed by a fault does not count.
    pub http: u16,
    /// Microseconds since the sandbox began.
    pub at_us: u64,
}

/// One request, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestState {
    /// Its id.
    pub id: String,
    /// The recipient's id.
    pub to: String,
    /// The sender's id, if they are of this world.
    pub from: Option<String>,
    /// As asked with.
    pub from_handle: Option<String>,
    /// As asked with.
    pub from_name: Option<String>,
    /// As asked with.
    pub message: Option<String>,
    /// Its status.
    pub status: SandboxStatus,
    /// RFC 3339.
    pub inserted_at: String,
    /// When it was made, in microseconds since the sandbox began.
    pub at_us: u64,
    /// An id of this world, `person`, `sender`, `platform` or `inverse request`.
    pub settled_by: Option<String>,
    /// The attempts to answer it over REST, including refused ones; the first 16.
    pub answers: Vec<AnswerAttempt>,
    /// The number of such attempts.
    pub answered: u64,
    /// How often the event that announces it was written to a socket.
    pub pushed: u64,
}

/// One contact record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactState {
    /// The party whose list it is on, by id.
    pub of: String,
    /// The record's id.
    pub id: String,
    /// The other side.
    pub handle: Option<String>,
    /// The other side.
    pub name: Option<String>,
}

/// One upgrade request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// Microseconds since the sandbox began.
    pub at_us: u64,
    /// The agent's id, if the key and `agent_id` said.
    pub agent: Option<String>,
    /// 101, or the status of the refusal.
    pub status: u16,
    /// `header`, `query` or `none`.
    pub key: String,
    /// As asked with.
    pub on_conflict: Option<String>,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEnd {
    /// Microseconds since the sandbox began.
    pub at_us: u64,
    /// The agent's id.
    pub agent: Option<String>,
    /// The code in the sandbox's close frame, or in the client's; `None` without one.
    pub code: Option<u16>,
    /// `client`, `idle`, `superseded`, `kicked`, `fault`, `protocol`, `stopped`, `slow` or `gone`.
    pub why: String,
}

/// One join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenJoin {
    /// Microseconds since the sandbox began.
    pub at_us: u64,
    /// The agent's id.
    pub agent: Option<String>,
    /// What it joined.
    pub topic: String,
    /// `ok`, or the reason of the refusal.
    pub reply: String,
}

/// One `GET /agent/contacts/requests`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenListing {
    /// Microseconds since the sandbox began.
    pub at_us: u64,
    /// The agent's id.
    pub agent: String,
    /// Which page.
    pub page: u64,
    /// Of which size.
    pub page_size: u64,
    /// How many received requests there were in all.
    pub total: u64,
}

/// One connection that counts as live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The agent's id.
    pub agent: String,
    /// Whether its socket is gone already.
    pub ghost: bool,
    /// What it has joined.
    pub topics: Vec<String>,
}

/// One fault that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFault {
    /// As given.
    pub fault: Fault,
    /// How often it will still strike; `None`: until cleared.
    pub left: Option<u64>,
}

/// The number of requests by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// All.
    pub requests: u64,
    /// Of them, pending.
    pub pending: u64,
    /// Of them, approved.
    pub approved: u64,
    /// Of them, rejected.
    pub rejected: u64,
    /// Of them, cancelled.
    pub cancelled: u64,
    /// Of them, expired.
    pub expired: u64,
    /// Pushes written about arrivals.
    pub pushed: u64,
    /// Attempts to answer over REST.
    pub answers: u64,
    /// How many of these were refused with 404 or 409.
    pub refused: u64,
}

/// The whole state of the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// Microseconds since the sandbox began, now; the same clock as in the other fields.
    pub at_us: u64,
    /// The sums.
    pub counts: RequestCounts,
    /// Every request, in the order in which they were made.
    pub requests: Vec<RequestState>,
    /// Every contact record.
    pub contacts: Vec<ContactState>,
    /// Connections that count as live now.
    pub live: Vec<Live>,
    /// Upgrade requests; the last 100,000, as with the next three.
    pub connects: Vec<Connect>,
    /// Ends of connections.
    pub ends: Vec<ConnectionEnd>,
    /// Joins.
    pub joins: Vec<SeenJoin>,
    /// Listings of requests.
    pub lists: Vec<SeenListing>,
    /// Faults that wait.
    pub faults: Vec<WaitingFault>,
    /// How many faults have struck.
    pub struck: u64,
    /// How many calls a `throttle` has let pass.
    #[serde(default)]
    pub let_pass: u64,
}
