//! Everything about an agent that is worth reporting, as data: the log, the demo and the tests render it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    AgentState, Answer, Contact, ContactId, ContactRequest, GuestDoubt, Outcome, PausedBy, Person, RequestId,
    RequestStatus, StrangerText, Verdict,
};
use crate::phoenix::session::Note;
use crate::platform::{CallError, Supersede};
use crate::policy::ask::AskFault;
use crate::policy::doubts::Basis;
use crate::policy::{By, DeciderVerdict, Decision, RuleName};

/// One notice.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The agent's state changed.
    State {
        /// To this.
        state: AgentState,
        /// Why.
        why: String,
    },
    /// A note of the session.
    Session(Note),
    /// Somebody took the connection.
    Superseded(Supersede),
    /// A round of listing is through.
    Listed {
        /// Requests shown.
        shown: u64,
        /// Requests that were new.
        new: u64,
        /// Pages read.
        pages: u32,
        /// How long it took.
        took: Duration,
    },
    /// The platform could not say whose the key is; until it does, nothing is listed and nothing answered.
    IdentityUnknown {
        /// Why.
        error: CallError,
    },
    /// A system between us and the platform answers REST calls in its place.
    InBetween {
        /// What it says.
        error: CallError,
        /// Whether it said the same the last time.
        again: bool,
    },
    /// A listing, or the list of contacts, failed.
    ListFailed {
        /// `requests` or `contacts`.
        what: &'static str,
        /// How.
        error: CallError,
    },
    /// A request was seen for the first time.
    Seen {
        /// The request.
        request: Arc<ContactRequest>,
        /// Whether a live event showed it; otherwise a listing did.
        live: bool,
    },
    /// The platform shows a settled request as pending again.
    Returned {
        /// The request.
        request: Arc<ContactRequest>,
    },
    /// The platform shows a pending request differently than before.
    Changed {
        /// As it is known now.
        request: Arc<ContactRequest>,
        /// As it was.
        before: Arc<ContactRequest>,
    },
    /// A request was decided, otherwise than before.
    Decided {
        /// The request.
        request: Arc<ContactRequest>,
        /// What was decided.
        decision: Box<Decision>,
        /// Whether shadow keeps the answer back.
        shadow: bool,
    },
    /// An answer goes out.
    Answering {
        /// The request.
        request: Arc<ContactRequest>,
        /// What is said.
        answer: Answer,
        /// From 1.
        attempt: u32,
    },
    /// An answer came to an end.
    Answered {
        /// The request.
        request: Arc<ContactRequest>,
        /// What was said.
        answer: Answer,
        /// By what.
        by: By,
        /// What became of it.
        outcome: Outcome,
        /// How many tries it took.
        attempts: u32,
        /// From the frame received to the answer written; absent for listed requests and retries.
        latency: Option<Duration>,
    },
    /// An answer did not go through, and will be tried again.
    Retry {
        /// The request.
        request: Arc<ContactRequest>,
        /// What was said.
        answer: Answer,
        /// Tries so far.
        attempts: u32,
        /// How it failed.
        error: Option<CallError>,
        /// Whether its outcome is unknown: then a listing comes first.
        unknown: bool,
    },
    /// The platform refused an answer (400, 403, 422).
    Refused {
        /// The request.
        request: Arc<ContactRequest>,
        /// What was said.
        answer: Answer,
        /// How.
        error: CallError,
    },
    /// Somebody else settled a request, or it is gone (`None`).
    Settled {
        /// Which.
        request: RequestId,
        /// As which.
        status: Option<RequestStatus>,
    },
    /// There is a new contact.
    ContactAdded {
        /// Who.
        contact: Contact,
        /// The answer of ours that made it.
        request: Option<RequestId>,
    },
    /// A contact is new, and no answer of doorman made it.
    ContactUnexplained {
        /// Who.
        contact: Contact,
    },
    /// The pending requests were decided for the first time since the start.
    InDoubt {
        /// How many pending requests wait for a doubt.
        requests: usize,
        /// How many doubts there are.
        doubts: usize,
    },
    /// A payload shows another id for a name of this owner's than the known one: somebody else may have the name by
    /// now.
    OtherHolder {
        /// Whose name.
        owner: StrangerText,
        /// The request or contact whose payload shows it.
        basis: Basis,
    },
    /// All contacts of an agent that is new to the record were read.
    ContactsBaseline {
        /// How many there are.
        contacts: usize,
    },
    /// Somebody else approved a request that the rules in force did not.
    SettledAgainstPolicy {
        /// The request.
        request: Arc<ContactRequest>,
        /// What the rules had said.
        verdict: Verdict,
        /// By what.
        by: By,
    },
    /// A contact is gone.
    ContactRemoved {
        /// Which.
        contact: ContactId,
        /// Whose it was, if that was known.
        handle: Option<StrangerText>,
    },
    /// A contact was removed because its end had come.
    GuestExpired {
        /// Which.
        contact: ContactId,
        /// Whose it was, if that was known.
        handle: Option<StrangerText>,
        /// The request whose approval was for a time.
        request: Option<RequestId>,
    },
    /// The end of a contact has come, but the contact could not be removed; doorman tries again.
    GuestNotRemoved {
        /// Which.
        contact: ContactId,
        /// Whose, if that is known.
        handle: Option<StrangerText>,
        /// Why.
        error: String,
        /// Tries so far.
        attempts: u32,
    },
    /// Doorman does not remove a contact with an end by itself, since somebody else may have made the contact.
    GuestInDoubt {
        /// Who.
        contact: Contact,
        /// The request whose approval was for a time.
        request: RequestId,
        /// Why.
        doubt: GuestDoubt,
    },
    /// A person moved the end of a guest's contact, or lifted it.
    GuestEnd {
        /// The request whose approval was for a time.
        request: RequestId,
        /// Whose contact it is, if that is known.
        handle: Option<StrangerText>,
        /// When it ends now; `None`: it stays.
        ends_at: Option<Timestamp>,
        /// Who said so.
        person: Person,
    },
    /// Nothing is answered any more until `resume`.
    Paused {
        /// Who or what paused it.
        by: PausedBy,
    },
    /// Answers go out again.
    Resumed {
        /// Who resumed it.
        by: PausedBy,
    },
    /// A person answered or held a request.
    Person {
        /// The request.
        request: Arc<ContactRequest>,
        /// What.
        verdict: Verdict,
        /// Who.
        person: Person,
    },
    /// A request has been pending for long.
    Overdue {
        /// The request.
        request: Arc<ContactRequest>,
        /// The `[overdue.NAME]` table that applies.
        overdue: RuleName,
    },
    /// A decider said something of a request.
    DeciderReplied {
        /// The request.
        request: Arc<ContactRequest>,
        /// The rule that asks.
        rule: RuleName,
        /// What it said.
        reply: Box<DeciderVerdict>,
        /// How long it took.
        took: Duration,
    },
    /// A decider failed repeatedly.
    DeciderFailed {
        /// Which.
        decider: RuleName,
        /// Why, the last time.
        why: AskFault,
        /// How often in a row.
        failures: u32,
    },
    /// A decider that failed works again.
    DeciderRecovered {
        /// Which.
        decider: RuleName,
    },
    /// The platform refused a call because there were too many.
    Throttled {
        /// For how long the agent waits.
        wait: Duration,
    },
    /// The key is refused, or there is none.
    KeyRefused {
        /// Which, and why.
        error: CallError,
    },
    /// The key belongs to this agent; its handle was read.
    Identified {
        /// Its handle.
        handle: Option<StrangerText>,
    },
    /// An entry could not be put on record; its requests stay pending.
    LedgerRefused {
        /// Why.
        why: String,
    },
    /// The clock can now be trusted, or can no longer be trusted.
    Clock {
        /// Whether it is sound.
        sound: bool,
        /// The platform's time, or the ledger's newest row.
        reference: Option<Timestamp>,
    },
    /// The policy in force changed.
    Policy {
        /// Its hash; `None`: the agent is without rules.
        hash: Option<crate::policy::PolicyHash>,
    },
    /// An event found no room in the inbox.
    InboxFull,
}
