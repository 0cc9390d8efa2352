//! Everything that is written: each kind of entry, and the possible errors.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::deliveries::{DeliveryEnd, DeliveryMark};
use crate::model::{
    AgentId, AgentState, Answer, Contact, ContactId, ContactRequest, GuestDoubt, GuestStay, Outcome, PausedBy, Person,
    Refusal, RemovalOutcome, RemovedBy, RequestId, RequestStatus, Sender, StrangerText,
};
use crate::policy::doubts::{Basis, DoubtSettlement, SeenIdentity};
use crate::policy::rules::{Head, SourceText};
use crate::policy::{By, Charge, Circumstances, Decision, PolicyHash, RuleName, ask};

/// How a request became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// A live event.
    Event,
    /// A listing.
    Listing,
}

impl Via {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Event => "event",
            Via::Listing => "listing",
        }
    }

    /// The reverse of [`Via::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Via::Event, Via::Listing].into_iter().find(|via| via.as_str() == text)
    }
}

/// One entry for the record. A batch is one transaction. `at` is when it happened.
///
/// An entry about a request without a [`Record::Seen`] is refused, except [`Record::Settled`], which then changes
/// nothing.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are what their types say; the variants tell the rest")]
pub enum Record {
    /// The platform reported the agent's handle.
    Named { agent: AgentId, handle: StrangerText, at: Timestamp },
    /// A request was first seen. A repetition changes nothing, except that the request no longer counts as gone.
    Seen { agent: AgentId, request: Arc<ContactRequest>, via: Via, at: Timestamp },
    /// The platform shows a request differently than before: the row holds the new version, and the old one is kept.
    Changed { agent: AgentId, request: Arc<ContactRequest>, at: Timestamp },
    /// It was decided, differently from before, in these circumstances.
    Decided { agent: AgentId, request: RequestId, decision: Box<Decision>, circumstances: Circumstances, at: Timestamp },
    /// An answer is about to be sent (`attempt` counts from 1). Charges are written with the first attempt, and again
    /// if a refusal gave them back. Refused while a *different* answer to the request is open (no outcome, or
    /// `unknown`): nothing is answered twice.
    Intent {
        agent: AgentId,
        request: RequestId,
        answer: Answer,
        by: By,
        /// For how long an approval lets in; `None`: for good.
        lasts: Option<SignedDuration>,
        policy: Option<PolicyHash>,
        /// The version of pushed rules by which a rule decided: refused if it is not the head any more.
        head: Option<Arc<Head>>,
        charges: Vec<Charge>,
        /// Whether it counts towards `approvals_max`.
        counts: bool,
        attempt: u32,
        at: Timestamp,
    },
    /// The outcome of an answer. Charges that the outcome does not keep are deleted.
    Outcome {
        agent: AgentId,
        request: RequestId,
        outcome: Outcome,
        detail: Option<String>,
        /// How the platform refused it, if it did.
        refusal: Option<Refusal>,
        /// Of an approval for a time that was carried out: when the contact ends.
        stay: Option<GuestStay>,
        at: Timestamp,
    },
    /// The intended answer certainly never left (no connection), and is given up: it is no longer open, and its charges
    /// are deleted. Nothing if no answer is open.
    Withdrawn { agent: AgentId, request: RequestId, at: Timestamp },
    /// The platform reported the status, or a listing no longer showed the request (`None`: gone).
    Settled { agent: AgentId, request: RequestId, status: Option<RequestStatus>, at: Timestamp },
    /// A contact exists. `request` is the answer of ours that made it, if one did. `guest`: that answer was for a time; and
    /// why it is not certain that it made this very contact.
    ContactAdded {
        agent: AgentId,
        contact: Box<Contact>,
        request: Option<RequestId>,
        guest: Option<Option<GuestDoubt>>,
        at: Timestamp,
    },
    /// A contact was removed; `expired`: by doorman, because its end had come.
    ContactRemoved { agent: AgentId, contact: ContactId, expired: bool, at: Timestamp },
    /// No contact of this approval for a time was ever seen.
    GuestUnseen { agent: AgentId, request: RequestId, at: Timestamp },
    /// All contacts of the agent were read for the first time: the contacts of this moment existed before doorman.
    ContactsRead { agent: AgentId, at: Timestamp },
    /// A person moved the end of a guest's contact, or removed the end.
    GuestEnd { agent: AgentId, request: RequestId, ends_at: Option<Timestamp>, person: Person, at: Timestamp },
    /// A person settled a doubt about this owner, or about one request if the doubt is about that.
    Settlement {
        agent: AgentId,
        owner: Arc<str>,
        request: Option<RequestId>,
        said: DoubtSettlement,
        person: Person,
        at: Timestamp,
    },
    /// A payload showed who has a name of this owner's; `basis` is the request or contact of that payload.
    Identity { agent: AgentId, owner: Arc<str>, identity: SeenIdentity, basis: Basis, at: Timestamp },
    /// A person let somebody of this owner in: the holders of the owner's names are no longer in doubt.
    Vouched { agent: AgentId, owner: Arc<str>, at: Timestamp },
    /// A contact is about to be removed, perhaps once more.
    Removing { agent: AgentId, contact: ContactId, by: RemovedBy, at: Timestamp },
    /// The outcome of that removal; [`Record::ContactRemoved`] says that the contact is gone.
    Removal { agent: AgentId, contact: ContactId, outcome: RemovalOutcome, detail: Option<String>, at: Timestamp },
    /// The agent's state changed.
    Session { agent: AgentId, state: AgentState, why: String, at: Timestamp },
    /// The agent is paused (`on`) or resumed. A resume starts the count of approvals at zero.
    Pause { agent: AgentId, on: bool, by: PausedBy, note: Option<Box<str>>, at: Timestamp },
    /// A person's `defer` (`Some`), or its end.
    Hold { agent: AgentId, request: RequestId, person: Option<Person>, at: Timestamp },
    /// An `overdue` notice was given.
    Notified { agent: AgentId, request: RequestId, overdue: RuleName, at: Timestamp },
    /// A message to a target of `[[notify]]` has to be delivered; it covers everything up to this mark. Each target has
    /// one message on its way: a second is refused.
    Message { target: Arc<str>, id: Arc<str>, body: String, mark: DeliveryMark, at: Timestamp },
    /// The result of a try to deliver a message: the delivery ended (`Some`), or will be tried again.
    Tried {
        id: Arc<str>,
        attempts: u32,
        end: Option<DeliveryEnd>,
        next_at: Timestamp,
        why: Option<String>,
        at: Timestamp,
    },
    /// A decider that this rule asks gave its verdict about a request.
    DeciderReplied {
        agent: AgentId,
        request: RequestId,
        rule: RuleName,
        reply: Box<ask::DeciderVerdict>,
        took: std::time::Duration,
        at: Timestamp,
    },
    /// A policy is in force for this agent; its texts are stored once.
    Policy { agent: AgentId, hash: PolicyHash, texts: Vec<SourceText>, at: Timestamp },
}

impl Record {
    /// The lease that it needs: its agent's; messages to people have one of their own.
    pub(super) fn whose(&self) -> String {
        let agent = match self {
            Record::Message { .. } | Record::Tried { .. } => return super::MESSAGES.to_owned(),
            Record::Named { agent, .. }
            | Record::Seen { agent, .. }
            | Record::Changed { agent, .. }
            | Record::Decided { agent, .. }
            | Record::Intent { agent, .. }
            | Record::Outcome { agent, .. }
            | Record::Withdrawn { agent, .. }
            | Record::Settled { agent, .. }
            | Record::ContactAdded { agent, .. }
            | Record::ContactRemoved { agent, .. }
            | Record::GuestUnseen { agent, .. }
            | Record::ContactsRead { agent, .. }
            | Record::GuestEnd { agent, .. }
            | Record::Settlement { agent, .. }
            | Record::Identity { agent, .. }
            | Record::Vouched { agent, .. }
            | Record::Removing { agent, .. }
            | Record::Removal { agent, .. }
            | Record::Session { agent, .. }
            | Record::Pause { agent, .. }
            | Record::Hold { agent, .. }
            | Record::Notified { agent, .. }
            | Record::DeciderReplied { agent, .. }
            | Record::Policy { agent, .. } => agent,
        };
        agent.as_str().to_owned()
    }
}

/// An error of the ledger, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "`path` is the ledger's, `why` is for people")]
pub enum LedgerError {
    /// Another daemon has the lock.
    #[error("the ledger `{path}` is in use by another doorman (pid {pid})", pid = .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()))]
    Locked { path: String, pid: Option<u32> },
    /// Written by a newer doorman.
    #[error(
        "the ledger `{path}` has schema {found}, newer than this doorman's {known}: use the newer doorman, or another file"
    )]
    Newer { path: String, found: i64, known: i64 },
    /// Not a sound SQLite file.
    #[error(
        "the ledger `{path}` is corrupt ({why}): keep it, and run `doorman ledger reset` to begin a new one beside it"
    )]
    Corrupt { path: String, why: String },
    /// Cannot be opened, read or written.
    #[error("the ledger `{path}` cannot be used: {why}")]
    Unusable { path: String, why: String },
    /// The schema refuses an entry: an error of doorman. No intent of its batch was written.
    #[error("the ledger refused an entry: {why}")]
    Refused { why: String },
    /// Another answer to this request was carried out, for all that is on record, and only a person may give another one. No
    /// intent of its batch was written.
    #[error("request {request} was answered before: {}, by {}", .said.answer, .said.by)]
    Answered { request: RequestId, said: crate::inbox::GivenAnswer },
    /// The rules by which an answer of this batch was decided are not the head any more. No intent of its batch was written, the rest
    /// was.
    #[error("the rules `ledger:{name}` are at version {version}")]
    Outdated { name: String, version: u64 },
    /// Another doorman took the lease: it writes for this agent now, and this one writes nothing more for it. Nothing of the batch
    /// was written.
    #[error("another doorman ({holder}) writes for it now")]
    Fenced { holder: String },
    /// The writer is gone.
    #[error("the ledger is closed")]
    Closed,
}

/// An answer that was open, or whose outcome was unknown, when the last daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAnswer {
    /// To which request.
    pub request: RequestId,
    /// Whose.
    pub sender: Sender,
    /// The answer that was sent, or was about to be sent.
    pub answer: Answer,
    /// By what.
    pub by: By,
    /// The policy.
    pub policy: Option<PolicyHash>,
    /// How often it was tried.
    pub attempts: u32,
    /// When the intent was written.
    pub at: Timestamp,
    /// How the platform refused it, if it did.
    pub refusal: Option<Refusal>,
    /// For how long it lets in, if it approves for a time.
    pub lasts: Option<SignedDuration>,
}

/// An approval for a time whose contact is there, or was not seen yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedGuest {
    /// Of which request.
    pub request: RequestId,
    /// Whose.
    pub sender: Sender,
    /// The contact that it made, if that is known.
    pub contact: Option<ContactId>,
    /// When the contact ends, and what is known about it.
    pub stay: GuestStay,
    /// The contact may already be removed: the removal was in flight, or its outcome unknown.
    pub removing: bool,
}

/// What an agent remembers at start.
#[derive(Debug, Clone, Default)]
pub struct SavedAgent {
    /// For [`crate::policy::PolicyState::restore`].
    pub policy_state: crate::policy::state::SavedState,
    /// Answers without a final outcome: none, or `unknown`.
    pub open_answers: Vec<OpenAnswer>,
    /// Refused answers (400, 403, 422) of requests that were not settled since.
    pub refused_answers: Vec<OpenAnswer>,
    /// The last answers that were carried out, for all that is known: a stale listing must not bring their requests back.
    pub recent_answers: Vec<RecentAnswer>,
    /// Requests not known to be settled.
    pub pending: Vec<SavedRequest>,
    /// Who has which name, as far as payloads showed it; the oldest first.
    pub identities: Vec<SavedIdentity>,
    /// The guests, ordered by their end.
    pub guests: Vec<SavedGuest>,
    /// Contacts that are open on record.
    pub contacts: Vec<crate::policy::doubts::OpenContact>,
    /// The last decision on record of requests not known to be settled: verdict, `by`, mode.
    pub decided: Vec<(RequestId, crate::model::Verdict, By, crate::policy::Mode)>,
    /// All contacts were read once: contacts that appear after that are reported as new.
    pub contacts_read: bool,
    /// The time of this agent's newest row, for the clock's soundness.
    pub newest: Option<Timestamp>,
    /// Other doormen share the record: another one may have had the agent a moment ago.
    pub shared: bool,
}

/// Who has a name, as a payload showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedIdentity {
    /// Whose name it is.
    pub owner: Arc<str>,
    /// The name, and the id.
    pub identity: SeenIdentity,
    /// The request or contact that it was of.
    pub basis: Basis,
    /// When.
    pub at: Timestamp,
}

/// A request that was pending when the last daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRequest {
    /// Which.
    pub id: RequestId,
    /// Whose.
    pub sender: Sender,
    /// When it was sent, as the platform says.
    pub inserted_at: Option<Timestamp>,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
}

/// An answer whose outcome became known a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentAnswer {
    /// The request, as far as the record knows it: without its texts.
    pub request: ContactRequest,
    /// The request showed another sender when it ended.
    pub changed: bool,
    /// The sender, if the answer let them in and no contact of it was ever known.
    pub unmet: Option<Sender>,
    /// What was said.
    pub answer: Answer,
    /// By what.
    pub by: By,
    /// For how long it lets in, if it approves for a time.
    pub lasts: Option<SignedDuration>,
}
