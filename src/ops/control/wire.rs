//! What goes over the control socket, as JSON, and what the supervisor is asked. The same types serve `--json`.

mod status;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::model::{AgentId, ContactId, Outcome, Person, Verdict};
use crate::policy::doubts::Said;

pub use status::{AgentStatus, ConfigurationStatus, NotifyState, NotifyStatus, PageStatus, PolicyStatus, Status};

/// One question to the supervisor and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub op: ControlOp,
    /// Who asks: the user behind the socket's peer.
    pub person: Person,
    /// Where the answer goes; dropping it is an internal error to the client. Nobody may want it any more by then.
    pub reply: oneshot::Sender<Result<OpReply, OpError>>,
}

/// What goes over the socket: an operation, and what is said of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What is asked.
    #[serde(flatten)]
    pub op: ControlOp,
    /// What the other end says of itself.
    #[serde(default, skip_serializing_if = "Claim::is_empty")]
    pub who: Claim,
}

/// What somebody who asks says of themselves; nobody can prove it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The login behind a shared account, as `SUDO_USER` or the session says.
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

    /// Why it cannot be put on record.
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

/// What can be asked.
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
    /// `doorman approve|reject|defer ID or HANDLE`; see [`crate::model::Target`].
    Answer {
        /// What a person says.
        verdict: Verdict,
        /// A request id or a handle.
        target: String,
        /// Only this agent's.
        agent: Option<AgentId>,
        /// For how long an approval lets in, in milliseconds; absent: for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
        /// The target is the whole id of a request, whatever it looks like.
        #[serde(default)]
        exact: bool,
    },
    /// `doorman revoke`: removes these contacts. Which they are was chosen, and shown, before.
    Revoke {
        /// Whom.
        contacts: Vec<ChosenContact>,
    },
    /// `doorman reload`.
    Reload {
        /// Take lists that lost more than half of their entries.
        accept_shrunk: bool,
        /// Or only what somebody took off one list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed: Option<RemovedEntries>,
    },
    /// `doorman notify test`: sends a message that says it is a test, and waits for what comes of it.
    NotifyTest {
        /// Which target.
        target: String,
    },
    /// `doorman notify retry`: tries at once what is under way.
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
        /// Whom; everybody, where absent.
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
        /// What a person says of it.
        said: Said,
        /// Only this agent's.
        agent: Option<AgentId>,
    },
    /// `doorman pause [AGENT]`.
    Pause {
        /// All, where absent.
        agent: Option<AgentId>,
    },
    /// `doorman resume [AGENT]`.
    Resume {
        /// All, where absent.
        agent: Option<AgentId>,
    },
}

impl ControlOp {
    /// Whether it changes nothing: such an operation may go over the socket for reading.
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

    /// The word on the wire and in the log.
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

/// What `doorman list remove` took off a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedEntries {
    /// The list's file.
    pub file: PathBuf,
    /// How many entries.
    pub entries: usize,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum OpReply {
    /// To [`ControlOp::Status`].
    Status(Status),
    /// To [`ControlOp::Pending`].
    Pending(Pending),
    /// To [`ControlOp::Answer`].
    Answered(Answered),
    /// To [`ControlOp::Revoke`].
    Revoked(Revoked),
    /// To [`ControlOp::Reload`].
    Reloaded(Reloaded),
    /// To [`ControlOp::Doubts`].
    Doubts(Doubts),
    /// To [`ControlOp::Settle`].
    Settled(Settled),
    /// To [`ControlOp::Pause`] and [`ControlOp::Resume`].
    Done(Done),
    /// To [`ControlOp::NotifyTest`] and [`ControlOp::NotifyRetry`].
    Notified(Notified),
    /// To [`ControlOp::PageLogin`].
    PageLink(PageLink),
    /// To [`ControlOp::PageLogout`].
    LoggedOut(LoggedOut),
}

/// Each answer by itself; an error is the reply that is not of this kind.
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
    Doubts(Doubts),
    Settled(Settled),
    Status(Status),
    Pending(Pending),
    Answered(Answered),
    Revoked(Revoked),
    Reloaded(Reloaded),
    Done(Done),
    Notified(Notified),
    PageLink(PageLink),
    LoggedOut(LoggedOut)
);

/// To [`ControlOp::Pending`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Oldest first.
    pub requests: Vec<PendingRow>,
}

/// To [`ControlOp::Doubts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubts {
    /// By agent and owner.
    pub doubts: Vec<DoubtRow>,
}

/// To [`ControlOp::Settle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The doubts that a person's word ended.
    pub ended: Vec<DoubtRow>,
}

/// To [`ControlOp::Pause`] and [`ControlOp::Resume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The agents it was done to.
    pub agents: Vec<AgentId>,
}

/// One contact of [`ControlOp::Revoke`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenContact {
    /// Whose contact.
    pub agent: AgentId,
    /// Which.
    pub contact: ContactId,
    /// What it is called, for the log and for people; as received.
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
    /// At whose door.
    pub agent: AgentId,
    /// Whom it concerns; `*` is everybody.
    pub owner: String,
    /// What is unknown: `removed`, `rejected`, `identity`.
    pub fact: String,
    /// Since when.
    pub since: Timestamp,
    /// What it rests on: `contact-not-seen`, `nameless-contact-removed`, `request-not-listed`, `request-vanished`,
    /// `settled-elsewhere`, `presumed-approved`, `other-sender`, `other-contact`, `too-many`.
    pub basis: String,
    /// The id of that contact or request; empty for `too-many`.
    pub subject: String,
    /// The same for people.
    pub rests_on: String,
    /// When it ends by itself, where that is a moment; otherwise it ends when the contact is seen or missed, or a person
    /// says.
    pub ends_at: Option<Timestamp>,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    /// Stable: `gone`, `ambiguous`, `unknown`, `shadow`, `busy`, `no-agent`, `page`, `failed`; and from the socket itself
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
    /// Whom it logs in.
    pub name: String,
    /// The link. Whoever has it can use it, so it is a secret.
    pub url: String,
    /// It is good until then, and once.
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
    /// The platform's time, if it made sense.
    pub inserted_at: Option<Timestamp>,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
    /// The last decision, if there was one.
    pub verdict: Option<Verdict>,
    /// What gave it.
    pub by: Option<String>,
    /// What may have happened unseen to its sender's owner, where that made a rule unknown.
    #[serde(default)]
    pub doubts: Vec<String>,
    /// What deciders said of it: `NAME says VERDICT: REASON`, escaped.
    #[serde(default)]
    pub told: Vec<String>,
    /// When it will be answered, where it waits.
    pub due: Option<Timestamp>,
    /// `waiting`, `deferred`, `shadow`, `in-flight`, `unknown`, `refused`, `retrying`.
    pub stage: String,
}

/// To [`ControlOp::Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Which request.
    pub request: String,
    /// Whose door.
    pub agent: AgentId,
    /// As received.
    pub handle: Option<String>,
    /// What was said.
    pub verdict: Verdict,
    /// `held` (it is on hold), `end-moved` or `end-lifted` (of a guest), or an outcome's word.
    pub outcome: String,
    /// When the contact is removed, where it was approved for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

impl Answered {
    /// Whether what the person wanted is so now.
    pub fn is_done(&self) -> bool {
        let taken = matches!(Outcome::parse(&self.outcome), Some(Outcome::Confirmed(_) | Outcome::Presumed(_)));
        taken || matches!(self.outcome.as_str(), "held" | "end-moved" | "end-lifted")
    }
}

/// To [`ControlOp::Reload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether everything was taken (or was the same as before).
    pub ok: bool,
    /// One a rules file.
    pub policies: Vec<PolicyStatus>,
    /// Settings that changed and need a restart, by name.
    pub needs_restart: Vec<String>,
    /// Everything that was wrong or warned about, rendered.
    pub problems: Option<String>,
}
