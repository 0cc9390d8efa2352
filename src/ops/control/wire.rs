//! The JSON types of the control socket: what it is asked, and the error. These are also the questions to the supervisor. The types of
//! replies, which serve `--json` too, are in `replies` and `status`.

mod replies;
mod status;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::model::{AgentId, ContactId, Person, Verdict};
use crate::policy::doubts::DoubtSettlement;

pub use replies::{
    AgentsDone, AnswerDone, DoubtList, Notified, OpReply, PendingList, PendingRow, Reloaded, Revoked, UnknownAgent,
};
pub(crate) use replies::{DoubtRow, DoubtSettled, LoggedOut, PageLink};
pub use status::{AgentStatus, ConfigurationStatus, DaemonStatus, PolicyStatus};
pub(crate) use status::{NotifyState, NotifyStatus, PauseStatus, ServingProblem};

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
pub(crate) struct ControlRequest {
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
    /// `doorman approve|reject|hold ID or HANDLE`; see [`crate::model::PersonTarget`].
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
    pub(crate) fn only_reads(&self) -> bool {
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
    pub(crate) fn for_holder(&self) -> Option<&AgentId> {
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
