//! What an agent's core is made of, what it is told, and what it wants done.

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
use crate::policy::ask::{AskFailure, Word};
use crate::policy::{Circumstances, Policy, Question};
use crate::secret::Redact;

/// What a core is made of.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Whose door.
    pub agent: AgentId,
    /// What rules may call it.
    pub name: Option<String>,
    /// Yield, take or poll.
    pub connection: ConnectionMode,
    /// How the socket is told the key.
    pub credentials: CredentialsMode,
    /// Slots and rate.
    pub answers: Answers,
    /// The figures.
    pub timing: Timing,
    /// `run --shadow`: answer nothing, whatever the policy's mode.
    pub shadow: bool,
    /// Feeds all jitter.
    pub seed: u64,
    /// Most requests held at once.
    pub capacity: usize,
    /// Most entries put on record at once.
    pub batch: usize,
    /// The keys that nothing on record holds.
    pub redact: Redact,
}

/// What happened.
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
        /// The key that was asked about, and is used from now on, is another than before.
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
    /// To [`Action::Ask`].
    Told {
        /// About which request.
        request: RequestId,
        /// What was asked.
        question: Question,
        /// What the decider said, or why it said nothing.
        result: Result<Word, AskFailure>,
        /// How long it took.
        took: std::time::Duration,
    },
    /// To [`Action::Record`].
    Recorded(Result<(), LedgerError>),
    /// The ledger can, or cannot, be written.
    LedgerHealth(bool),
    /// Another policy is in force; `None`: none is, the agent is held.
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
        /// It is another than before, or there was none, or there is none now.
        changed: bool,
    },
    /// A person asks for something.
    Op {
        /// Names the answer.
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
    /// Finish what is in flight, and be done.
    Stop,
}

/// What is to be done.
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
    /// Put these on record, in one transaction, and say when it is done. At most one is outstanding.
    Record(Vec<Record>),
    /// Read the ledger's memory again: the policy in force asks for more than is remembered.
    Restore {
        /// Names the reading.
        number: u64,
        /// How far back.
        reach: crate::ledger::Reach,
    },
    /// To [`Input::Op`].
    Reply {
        /// Its token.
        token: u64,
        /// What came of it.
        outcome: OpOutcome,
    },
    /// Tell whoever listens.
    Tell(Notice),
    /// Everything is finished; nothing follows.
    Done,
}
