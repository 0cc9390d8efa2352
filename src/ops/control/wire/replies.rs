//! What the control socket replies, by operation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::ControlOp;
use super::{DaemonStatus, PolicyStatus};
use crate::model::{AgentId, Outcome, Verdict};

/// The replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum OpReply {
    /// To [`ControlOp::Status`].
    Status(DaemonStatus),
    /// To [`ControlOp::Pending`].
    Pending(PendingList),
    /// To [`ControlOp::Answer`].
    Answered(AnswerDone),
    /// To [`ControlOp::Revoke`].
    Revoked(Revoked),
    /// To [`ControlOp::Reload`].
    Reloaded(Reloaded),
    /// To [`ControlOp::Doubts`].
    Doubts(DoubtList),
    /// To [`ControlOp::Settle`].
    Settled(DoubtSettled),
    /// To [`ControlOp::Pause`] and [`ControlOp::Resume`].
    Done(AgentsDone),
    /// To [`ControlOp::NotifyTest`] and [`ControlOp::NotifyRetry`].
    Notified(Notified),
    /// To [`ControlOp::PageLogin`].
    PageLink(PageLink),
    /// To [`ControlOp::PageLogout`].
    LoggedOut(LoggedOut),
}

/// Takes a reply of one kind out; a reply of another kind is the error.
macro_rules! replies {
    ($($reply:ident($of:ty)),+ $(,)?) => {$(
        impl TryFrom<OpReply> for $of {
            type Error = Box<OpReply>;

            fn try_from(reply: OpReply) -> Result<Self, Self::Error> {
                match reply {
                    OpReply::$reply(reply) => Ok(reply),
                    other => Err(Box::new(other)),
                }
            }
        }
    )+};
}

replies!(
    Doubts(DoubtList),
    Settled(DoubtSettled),
    Status(DaemonStatus),
    Pending(PendingList),
    Answered(AnswerDone),
    Revoked(Revoked),
    Reloaded(Reloaded),
    Done(AgentsDone),
    Notified(Notified),
    PageLink(PageLink),
    LoggedOut(LoggedOut)
);

/// To [`ControlOp::Pending`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingList {
    /// Oldest first.
    pub requests: Vec<PendingRow>,
    /// The agents of which this daemon does not know who waits. Absent if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<UnknownAgent>,
    /// How many more requests wait for agents that other doormen have. Absent if there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An agent that has no task in this daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownAgent {
    /// The agent.
    pub agent: AgentId,
    /// Why, for example since another doorman has it.
    pub why: String,
}

/// To [`ControlOp::Doubts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtList {
    /// By agent and owner.
    pub doubts: Vec<DoubtRow>,
}

/// To [`ControlOp::Settle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtSettled {
    /// The doubts that this statement ended.
    pub ended: Vec<DoubtRow>,
}

/// To [`ControlOp::Pause`] and [`ControlOp::Resume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentsDone {
    /// The agents it was done to.
    pub agents: Vec<AgentId>,
    /// The agents it was not done to, and why. Absent if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// To [`ControlOp::Revoke`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The handles (or contact ids) removed.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// One row of `doubts --json`: something that may have happened unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtRow {
    /// The agent.
    pub agent: AgentId,
    /// The owner whom it concerns; `*` means everybody.
    pub owner: String,
    /// What is unknown: `removed`, `rejected`, `identity`, `approved`.
    pub fact: String,
    /// Since when.
    pub since: Timestamp,
    /// What it rests on: `contact-not-seen`, `nameless-contact-removed`, `request-not-listed`, `request-vanished`,
    /// `settled-elsewhere`, `presumed-approved`, `presumed-rejected`, `other-sender`, `other-contact`, `too-many`.
    pub basis: String,
    /// The id of that contact or request; empty for `too-many`.
    pub subject: String,
    /// `basis` and `subject` in words, for people.
    pub rests_on: String,
    /// When the doubt ends by itself, if that is at a fixed time. Otherwise it ends when the contact is seen, when a
    /// complete listing does not show the contact, or when a person settles it.
    pub ends_at: Option<Timestamp>,
}

/// To [`ControlOp::NotifyTest`] and [`ControlOp::NotifyRetry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// Which target.
    pub target: String,
}

/// To [`ControlOp::PageLogin`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageLink {
    /// The person whom it logs in.
    pub name: String,
    /// The link. Everybody who has it can use it, so it is a secret.
    pub url: String,
    /// The link is valid until then, and only once.
    pub ends: Timestamp,
}

impl std::fmt::Debug for PageLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageLink").field("name", &self.name).field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// To [`ControlOp::PageLogout`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOut {
    /// How many sessions and unused links that ended.
    pub ended: u64,
}

/// One row of `pending --json`. Strangers' text is as received in JSON; a table escapes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRow {
    /// The request's id.
    pub request: String,
    /// Whose door.
    pub agent: AgentId,
    /// As received.
    pub handle: Option<String>,
    /// As received.
    pub name: Option<String>,
    /// As received, at most 500 characters.
    pub message: Option<String>,
    /// The platform's time, if it is plausible.
    pub inserted_at: Option<Timestamp>,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
    /// The last decision, if there was one.
    pub verdict: Option<Verdict>,
    /// What decided it: the rule, guard or other reason.
    pub by: Option<String>,
    /// What may have happened to its sender's owner without doorman seeing it, if that made a rule unknown.
    #[serde(default)]
    pub doubts: Vec<String>,
    /// What deciders said of it: `NAME says VERDICT: REASON`, escaped.
    #[serde(default)]
    pub replies: Vec<String>,
    /// When it will be answered, if it waits for that time.
    pub due: Option<Timestamp>,
    /// `waiting`, `deferred`, `shadow`, `in-flight`, `unknown`, `refused`, `retrying`.
    pub stage: String,
    /// The other doorman that has the agent (`nobody`: none has it just now). The row is then from the record, without `doubts` and
    /// `due`. Absent if this doorman has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}

/// To [`ControlOp::Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerDone {
    /// The request's id.
    pub request: String,
    /// Whose door.
    pub agent: AgentId,
    /// As received.
    pub handle: Option<String>,
    /// What the person said.
    pub verdict: Verdict,
    /// `held` (the request is on hold), `end-moved` or `end-lifted` (of a guest), or an outcome.
    pub outcome: String,
    /// When the contact is removed, if it was approved for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

impl AnswerDone {
    /// Whether the person got what they asked for.
    pub fn is_done(&self) -> bool {
        let taken = matches!(Outcome::parse(&self.outcome), Some(Outcome::Confirmed(_) | Outcome::Presumed(_)));
        taken || matches!(self.outcome.as_str(), "held" | "end-moved" | "end-lifted")
    }
}

/// To [`ControlOp::Reload`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether everything was accepted (or was unchanged).
    pub ok: bool,
    /// One for each rules file.
    pub policies: Vec<PolicyStatus>,
    /// Settings that changed and need a restart, by name.
    pub needs_restart: Vec<String>,
    /// Agents that the configuration names now, and did not before.
    #[serde(default)]
    pub agents_added: Vec<AgentId>,
    /// Agents that it names no more.
    #[serde(default)]
    pub agents_removed: Vec<AgentId>,
    /// Agents that began again, since the configuration says something else of them.
    #[serde(default)]
    pub agents_changed: Vec<AgentId>,
    /// All errors and warnings, rendered.
    pub problems: Option<String>,
}
