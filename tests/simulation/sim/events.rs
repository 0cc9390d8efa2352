//! The entries of the event queue: what happens, and when.

use std::time::Duration;

use doorman::clock::Mono;
use doorman::inbox::Fetch;
use doorman::ledger::{LedgerError, Record, RestoreReach};
use doorman::model::{Answer, Contact, ContactId, ContactRequest, RequestId, Verdict};
use doorman::model::{ConnectFailure, ConnectPlan};
use doorman::platform::{Me, Page, Reply, Responded};
use doorman::policy::Question;
use doorman::policy::ask::AskFailure;
use jiff::Timestamp;

use super::schedule::WorldEvent;

/// Inputs to the core.
#[derive(Debug)]
pub enum CoreInput {
    Opened(u64),
    NotOpened(u64, ConnectFailure),
    /// The socket, the text, and its number among the frames of this run.
    Frame(u64, String, u64),
    Closed(u64, Option<u16>),
    Me {
        question: u64,
        /// It was asked with another agent's key.
        foreign: bool,
        reply: Reply<Me>,
    },
    Page(Fetch, Reply<Page<ContactRequest>>),
    Contacts(u64, Reply<Page<Contact>>),
    Responded {
        request: RequestId,
        attempt: u32,
        reply: Reply<Responded>,
        written: Mono,
    },
    Removed(ContactId, Reply<()>),
    /// The request, the question, the result, how long it took, the handle that was sent, and the policy.
    DeciderReplied {
        request: RequestId,
        question: Question,
        result: Result<Verdict, AskFailure>,
        took: Duration,
        handle: Option<String>,
        policy: usize,
    },
    Recorded(Result<(), LedgerError>),
    Restored(u64, Option<Box<doorman::policy::state::SavedState>>),
}

/// Calls to the platform.
#[derive(Debug)]
pub enum Call {
    Connect(u64, ConnectPlan),
    Text(u64, String),
    Close(u64),
    Me { question: u64, foreign: bool },
    Page(Fetch),
    Contacts(u64, u32),
    Remove(ContactId),
    Respond { request: RequestId, answer: Answer, attempt: u32, written: Mono },
}

#[derive(Debug)]
pub enum SimEvent {
    Core(CoreInput),
    Server(Call),
    Commit(Vec<Record>),
    /// After some inputs of the same moment.
    GoOn,
    /// The record is read as far back as the core asked then.
    Reading {
        number: u64,
        reach: RestoreReach,
        now: Timestamp,
    },
    World(WorldEvent),
}

pub struct Scheduled {
    pub at: Duration,
    pub seq: u64,
    pub life: u64,
    pub what: SimEvent,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}
