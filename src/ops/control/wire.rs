//! The JSON types of the control socket, which are also the questions to the supervisor. The same types serve `--json`.

mod status;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::model::{AgentId, ContactId, Outcome, Person, Verdict};
use crate::policy::doubts::DoubtSettlement;

pub use status::{
    AgentStatus, ConfigurationStatus, DaemonStatus, NotifyState, NotifyStatus, PauseStatus, PolicyStatus,
    ServingProblem,
};

/// One question to the supervisor, with the channel for its reply.
#[derive(Debug)]
pub struct ControlCall {
    /// What is asked.
    pub op: ControlOp,
    /// Who asks: the user behind the socket's peer.
    pub person: Person,
    /// The channel for the reply. If it is dropped, the client gets an internal error. By then the client may have
    /// gone.
    pub reply: oneshot::Sender<Result<OpReply, OpError>>,
}

/// The body of a request: an operation, and a claim about the person who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// What is asked.
    #[serde(flatten)]
    pub op: ControlOp,
    /// What the other end claims about itself.
    #[serde(default, skip_serializing_if = "Claim::is_empty")]
    pub who: Claim,
}

/// What the person who asks claims about themselves; doorman cannot verify it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The login behind a shared account, according to `SUDO_USER` or the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// `--as NAME`.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `--note TEXT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Claim {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why the claim cannot be recorded.
    pub fn problem(&self) -> Option<String> {
        if self.name.as_ref().is_some_and(|name| !Person::may_be_claimed(name)) {
            return Some(format!(
                "`as` takes letters, digits, spaces and `-_.@$+:/`, at most {} of them",
                Person::CLAIM_MAX
            ));
        }
        let refused = self.note.as_ref().is_some_and(|note| !Person::may_be_noted(note));
        refused.then(|| format!("a note has 1 to {} characters", Person::NOTE_MAX))
    }
}

/// The operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum ControlOp {
    /// `doorman status`.
    Status,
    /// `doorman pending`.
    Pending {
        /// Only this agent's.
        agent: Option<AgentId>,
    },
    /// `doorman approve|reject|defer ID or HANDLE`; see [`crate::model::PersonTarget`].
    Answer {
        /// What the person wants: approve, reject or hold.
        verdict: Verdict,
        /// A request id or a handle.
        target: String,
        /// Only this agent's.
        agent: Option<AgentId>,
        /// For how long an approval gives access, in milliseconds; absent: without an end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
        /// The target is the complete id of a request, even if it looks like something else.
        #[serde(default)]
        exact: bool,
    },
    /// `doorman revoke`: removes these contacts. The command has chosen and shown them before.
    Revoke {
        /// Whom.
        contacts: Vec<ChosenContact>,
    },
    /// `doorman reload`.
    Reload {
        /// Take lists that lost more than half of their entries.
        accept_shrunk: bool,
        /// Or accept only the removal of these entries from one list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed: Option<RemovedEntries>,
    },
    /// `doorman notify test`: sends a message that says it is a test, and waits for the result.
    NotifyTest {
        /// Which target.
        target: String,
    },
    /// `doorman notify retry`: tries at once to deliver the message that did not arrive yet.
    NotifyRetry {
        /// Which target.
        target: String,
    },
    /// `doorman page login`: a link that logs somebody in to the page, once.
    PageLogin {
        /// Whom.
        name: String,
    },
    /// `doorman page logout`.
    PageLogout {
        /// The person's name; absent: everybody.
        name: Option<String>,
    },
    /// `doorman doubts`.
    Doubts {
        /// Only this agent's.
        agent: Option<AgentId>,
    },
    /// `doorman settle @HANDLE removed|not-removed`, `doorman settle ID approved|rejected|cancelled|expired`.
    Settle {
        /// A handle, or the id of a request that a doubt rests on, or its beginning.
        target: String,
        /// What the person says happened.
        said: DoubtSettlement,
        /// Only this agent's.
        agent: Option<AgentId>,
    },
    /// `doorman pause [AGENT]`.
    Pause {
        /// All, if absent.
        agent: Option<AgentId>,
    },
    /// `doorman resume [AGENT]`.
    Resume {
        /// All, if absent.
        agent: Option<AgentId>,
    },
}

impl ControlOp {
    /// Whether the operation changes nothing, so that the socket for reading accepts it.
    pub fn only_reads(&self) -> bool {
        match self {
            ControlOp::Status | ControlOp::Pending { .. } | ControlOp::Doubts { .. } => true,
            ControlOp::Answer { .. }
            | ControlOp::Revoke { .. }
            | ControlOp::Reload { .. }
            | ControlOp::NotifyTest { .. }
            | ControlOp::NotifyRetry { .. }
            | ControlOp::PageLogin { .. }
            | ControlOp::PageLogout { .. }
            | ControlOp::Settle { .. }
            | ControlOp::Pause { .. }
            | ControlOp::Resume { .. } => false,
        }
    }

    /// The agent that it is for, if a doorman may ask another one for it that holds that agent.
    pub fn for_holder(&self) -> Option<&AgentId> {
        match self {
            ControlOp::Answer { agent, .. }
            | ControlOp::Doubts { agent }
            | ControlOp::Settle { agent, .. }
            | ControlOp::Pause { agent }
            | ControlOp::Resume { agent } => agent.as_ref(),
            ControlOp::Revoke { contacts } => {
                let agent = &contacts.first()?.agent;
                contacts.iter().all(|contact| contact.agent == *agent).then_some(agent)
            }
            ControlOp::Status
            | ControlOp::Pending { .. }
            | ControlOp::Reload { .. }
            | ControlOp::NotifyTest { .. }
            | ControlOp::NotifyRetry { .. }
            | ControlOp::PageLogin { .. }
            | ControlOp::PageLogout { .. } => None,
        }
    }

    /// The operation's name on the wire and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            ControlOp::Status => "status",
            ControlOp::Pending { .. } => "pending",
            ControlOp::Answer { .. } => "answer",
            ControlOp::Revoke { .. } => "revoke",
            ControlOp::Reload { .. } => "reload",
            ControlOp::NotifyTest { .. } => "notify-test",
            ControlOp::NotifyRetry { .. } => "notify-retry",
            ControlOp::PageLogin { .. } => "page-login",
            ControlOp::PageLogout { .. } => "page-logout",
            ControlOp::Doubts { .. } => "doubts",
            ControlOp::Settle { .. } => "settle",
            ControlOp::Pause { .. } => "pause",
            ControlOp::Resume { .. } => "resume",
        }
    }
}

/// The entries that `doorman list remove` removed from a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedEntries {
    /// The list's file.
    pub file: PathBuf,
    /// How many entries.
    pub entries: usize,
}

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

/// One contact of [`ControlOp::Revoke`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenContact {
    /// The agent whose contact it is.
    pub agent: AgentId,
    /// The contact's id.
    pub contact: ContactId,
    /// Its handle, for the log and for people; as received.
    pub handle: Option<String>,
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

/// Why the operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    /// Stable: `gone`, `ambiguous`, `unknown`, `shadow`, `busy`, `no-agent`, `restarting`, `page`, `failed`; and from the socket itself
    /// `malformed`, `forbidden`, `read-only`.
    pub code: String,
    /// For people: lower case, what to do next.
    pub message: String,
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
    pub told: Vec<String>,
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
