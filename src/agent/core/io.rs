//! The configuration of an agent's core, its inputs and its actions.

use std::sync::Arc;

use super::PersonCommand;
use super::people::OpOutcome;
use crate::agent::core::notice::Notice;
use crate::clock::Mono;
use crate::config::settings::{Answers, ConnectionMode, CredentialsMode, Timing};
use crate::inbox::Fetch;
use crate::ledger::{LedgerError, Record};
use crate::model::{AgentId, Answer, Contact, ContactId, ContactRequest, Person, RequestId};
use crate::model::{ConnectFailure, ConnectPlan, Ended};
use crate::platform::{Me, Page, Reply, Responded};
use crate::policy::ask::{AskFailure, DeciderReply};
use crate::policy::{Circumstances, Policy, Question};
use crate::secret::Redact;

/// The configuration of a core.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The agent.
    pub agent: AgentId,
    /// The name under which rules may refer to it.
    pub name: Option<String>,
    /// Yield, take or poll.
    pub connection: ConnectionMode,
    /// How the API key is sent when the WebSocket opens.
    pub credentials: CredentialsMode,
    /// Slots and rate.
    pub answers: Answers,
    /// Intervals and time limits.
    pub timing: Timing,
    /// `run --shadow`: answer nothing, whatever the policy's mode.
    pub shadow: bool,
    /// Feeds all jitter.
    pub seed: u64,
    /// Most requests kept at once.
    pub capacity: usize,
    /// Most entries put on record at once.
    pub batch: usize,
    /// The keys that must not appear in anything on record.
    pub redact: Redact,
}

/// An input of the core: what happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The task begins.
    Start,
    /// The socket of this number is open.
    Opened {
        /// Its number.
        conn: u64,
    },
    /// The socket of this number could not be opened.
    NotOpened {
        /// Its number.
        conn: u64,
        /// Why.
        refusal: ConnectFailure,
    },
    /// A text frame.
    Frame {
        /// On which socket.
        conn: u64,
        /// What it says.
        text: &'a str,
        /// When it was read.
        received: Mono,
    },
    /// A binary frame.
    Binary {
        /// On which socket.
        conn: u64,
        /// Its bytes.
        len: usize,
    },
    /// A socket ended.
    Closed {
        /// Which.
        conn: u64,
        /// How.
        ended: Ended,
    },
    /// To [`Action::Me`].
    Me {
        /// What came.
        reply: Reply<Me>,
        /// The key that was asked about, and is used from now on, differs from the previous one.
        changed: bool,
    },
    /// To [`Action::Page`].
    Page(Fetch, Reply<Page<ContactRequest>>),
    /// To [`Action::Contacts`].
    Contacts {
        /// Which reading.
        call: u64,
        /// What came.
        reply: Reply<Page<Contact>>,
    },
    /// To [`Action::Respond`].
    Responded {
        /// To which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// What came.
        reply: Reply<Responded>,
        /// When the request had been written.
        written: Mono,
    },
    /// The reply to [`Action::Ask`].
    DeciderReplied {
        /// About which request.
        request: RequestId,
        /// What was asked.
        question: Question,
        /// What the decider said, or why it said nothing.
        result: Result<DeciderReply, AskFailure>,
        /// How long it took.
        took: std::time::Duration,
    },
    /// To [`Action::Record`].
    Recorded(Result<(), LedgerError>),
    /// The ledger can, or cannot, be written.
    LedgerHealth(bool),
    /// Another policy is in force; `None`: the agent is without rules.
    Policy(Option<Arc<Policy>>),
    /// To [`Action::Restore`].
    Restored {
        /// Which reading.
        number: u64,
        /// What the ledger remembers; `None`: it could not be read.
        saved: Option<Box<crate::policy::state::SavedState>>,
    },
    /// The key was read again.
    KeyRenewed {
        /// It differs from the previous one; a missing key counts as different, too.
        changed: bool,
    },
    /// A person gives a command.
    Op {
        /// Identifies the reply.
        token: u64,
        /// What.
        op: PersonCommand,
        /// Who.
        person: Person,
    },
    /// To [`Action::Remove`].
    Removed {
        /// Which.
        contact: ContactId,
        /// What came.
        reply: Reply<()>,
    },
    /// The deadline has come.
    Tick,
    /// Finish what is in flight, then stop.
    Stop,
}

/// An action that the shell carries out.
#[derive(Debug)]
pub enum Action {
    /// Open a socket of this number.
    Connect {
        /// Its number.
        conn: u64,
        /// How.
        plan: ConnectPlan,
    },
    /// Send a text frame.
    Send {
        /// On which socket.
        conn: u64,
        /// What.
        text: String,
    },
    /// Close a socket, or give up opening it.
    Close {
        /// Which.
        conn: u64,
    },
    /// `GET /agent/me`, with the key read again.
    Me,
    /// One page of pending requests.
    Page(Fetch),
    /// One page of contacts.
    Contacts {
        /// Names the reading.
        call: u64,
        /// From 1.
        page: u32,
        /// Rows a page.
        size: u32,
    },
    /// Send an answer. Its intent is on record.
    Respond {
        /// To which request.
        request: RequestId,
        /// What.
        answer: Answer,
        /// From 1.
        attempt: u32,
    },
    /// Ask a decider about a request.
    Ask {
        /// Which.
        request: Arc<ContactRequest>,
        /// What.
        question: Question,
        /// What else is known.
        circumstances: Circumstances,
    },
    /// Remove a contact. Its intent is on record.
    Remove {
        /// Which.
        contact: ContactId,
        /// A person waits for it.
        for_person: bool,
    },
    /// Record these entries in one transaction, and report when that is done. At most one such action is outstanding.
    Record(Vec<Record>),
    /// Read the ledger again: the policy in force needs more of the past than is in memory.
    Restore {
        /// Names the reading.
        number: u64,
        /// How far back.
        reach: crate::ledger::RestoreReach,
    },
    /// To [`Input::Op`].
    Reply {
        /// Its token.
        token: u64,
        /// What came of it.
        outcome: OpOutcome,
    },
    /// Pass this notice to the log, the metrics and the observers.
    Tell(Notice),
    /// Everything is finished; nothing follows.
    Done,
}
