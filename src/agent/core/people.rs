//! Commands of people for one agent, and the replies. A person's answer goes out despite rules, guards, holds and
//! pauses. It still waits for an earlier answer of unknown outcome, and it still needs the record.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::doubting::OpenDoubt;
use super::guests::GUESTS_MAX;
use super::{Action, Core};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::Now;
use crate::inbox::{Entry, GivenAnswer, Stage};
use crate::ledger::Record;
use crate::model::{
    AgentId, ContactId, ContactRequest, PausedBy, Person, PersonTarget, RemovedBy, RequestId, Sender, StrangerText,
    Verdict,
};
use crate::policy::By;
use crate::policy::doubts::DoubtSettlement as SaidOfDoubt;

/// The end of a contact is measured by this machine's clock.
pub(super) const NO_CLOCK: &str = "the clock of this machine cannot be believed, so that nobody could say when it ends: \
                                   see `doorman status`, or approve without `--for`";

/// A command of a person for one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonCommand {
    /// Approve, reject, or hold (`Defer`) a request.
    Answer {
        /// What.
        verdict: Verdict,
        /// Which.
        request: RequestId,
        /// For how long an approval lets in; `None`: for good.
        lasts: Option<SignedDuration>,
    },
    /// Move the end of a guest's contact, or lift it.
    MoveEnd {
        /// The request whose approval was for a time.
        request: RequestId,
        /// For how long from now; `None`: for good.
        lasts: Option<SignedDuration>,
    },
    /// Remove a contact.
    Remove {
        /// Which.
        contact: ContactId,
        /// This very command was begun before, and may have removed it.
        tried: bool,
    },
    /// Settle a doubt.
    Settle {
        /// A handle, or the id of a request that a doubt rests on.
        target: PersonTarget,
        /// The person's statement.
        said: SaidOfDoubt,
    },
    /// Answer nothing until resumed.
    Pause,
    /// Answer again.
    Resume,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpOutcome {
    /// The request was answered or held.
    Answered(PersonAnswered),
    /// These doubts ended.
    Settled(Vec<OpenDoubt>),
    /// Done.
    Done,
    /// Not done.
    Failed(OpFailure),
}

/// The result of a person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonAnswered {
    /// Which request.
    pub request: RequestId,
    /// The agent that received it.
    pub agent: AgentId,
    /// The handle of the sender.
    pub handle: Option<StrangerText>,
    /// The person's verdict.
    pub verdict: Verdict,
    /// `held`, `end-moved` or `end-lifted` (of a guest's contact), or the word of an outcome.
    pub outcome: String,
    /// When the contact is removed, if it was approved for a time.
    pub ends_at: Option<Timestamp>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpFailure {
    /// `gone`, `changed`, `shadow`, `busy`, `failed`, …: stable.
    pub code: &'static str,
    /// A message for people: what to do next.
    pub message: String,
}

impl OpOutcome {
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        OpOutcome::Failed(OpFailure { code, message: message.into() })
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::error("busy", message)
    }

    /// Nothing is done that cannot be recorded.
    pub(super) fn blocked() -> Self {
        let message =
            "the ledger cannot be written now, and nothing is done that is not on record: `doorman status` says why";
        Self::error("blocked", message)
    }

    pub(super) fn failed(message: &str) -> Self {
        Self::error("failed", message)
    }

    pub(super) fn gone() -> Self {
        Self::error("gone", "the request is no longer pending: somebody answered it, or its sender took it back")
    }
}

impl Core {
    /// The pending requests that a person means: the one with that id, else all requests of a handle and all whose ids
    /// begin with the text.
    pub fn find(&self, target: &PersonTarget) -> Vec<RequestId> {
        if let Some(id) = target.id().filter(|id| self.inbox.entry(id).is_some()) {
            return vec![id];
        }
        let handle = target.handle();
        let theirs = |request: &ContactRequest| handle.is_some() && request.sender.handle() == handle.as_ref();
        let begins = |id: &RequestId| target.beginning().is_some_and(|beginning| id.as_str().starts_with(beginning));
        let meant = self.inbox.entries().filter(|entry| theirs(entry.request()) || begins(entry.id()));
        meant.map(|entry| entry.id().clone()).collect()
    }

    pub(super) fn op(&mut self, token: u64, op: PersonCommand, person: Person, now: Now) {
        let outcome = match op {
            PersonCommand::Pause => {
                self.pause(PausedBy::Person(person.clone()), person.note(), now);
                Some(OpOutcome::Done)
            }
            PersonCommand::Resume => {
                self.resume(PausedBy::Person(person.clone()), person.note(), now);
                Some(OpOutcome::Done)
            }
            PersonCommand::Settle { .. } if !self.ledger_ok => Some(OpOutcome::blocked()),
            PersonCommand::Settle { target, said } => Some(self.settle(&target, said, &person, now)),
            PersonCommand::Answer { verdict, request, lasts } => {
                self.person_answers(token, verdict, lasts, &request, &person, now)
            }
            PersonCommand::MoveEnd { request, lasts } => Some(self.person_moves_end(&request, lasts, &person, now)),
            PersonCommand::Remove { contact, tried } => self.person_removes(token, (contact, tried), person, now),
        };
        if let Some(outcome) = outcome {
            self.act(Action::Reply { token, outcome });
        }
    }

    /// `None`: the answer is on its way; the reply comes with its outcome.
    fn person_answers(
        &mut self,
        token: u64,
        verdict: Verdict,
        lasts: Option<SignedDuration>,
        id: &RequestId,
        person: &Person,
        now: Now,
    ) -> Option<OpOutcome> {
        if self.stopping {
            return Some(OpOutcome::busy("doorman is stopping: ask again when it runs"));
        }
        if !self.ledger_ok {
            return Some(OpOutcome::blocked());
        }
        let shadow = self.in_shadow();
        let Some(entry) = self.inbox.entry(id) else { return Some(OpOutcome::gone()) };
        let request = entry.request().clone();
        match entry.stage() {
            Stage::InFlight => {
                return Some(OpOutcome::busy("an answer to this request is on its way: see `doorman history`"));
            }
            Stage::Unknown { .. } => {
                return Some(OpOutcome::busy(
                    "an earlier answer may have been carried out: doorman is finding out, ask again",
                ));
            }
            Stage::Ready | Stage::Resting { .. } | Stage::Delayed { .. } => {}
        }
        let Some(answer) = verdict.answer() else {
            return Some(self.hold(id, &request, person, now));
        };
        if shadow {
            return Some(OpOutcome::error(
                "shadow",
                "shadow mode answers nothing: set `policy.mode = \"enforce\"`, or run without `--shadow`",
            ));
        }
        if let Some(refused) = lasts.and_then(|_| self.no_guest(&request)) {
            return Some(refused);
        }
        if let Some(was) = self.inbox.entry_mut(id).and_then(Entry::take_was) {
            return Some(OpOutcome::error("changed", changed(&request, &was)));
        }
        self.inbox.order(id, GivenAnswer { answer, by: By::Person(person.clone()), lasts });
        self.waiting.entry(id.clone()).or_default().push(token);
        self.count(Counter::PersonAnswers);
        self.tell(Notice::Person { request, verdict, person: person.clone() });
        None
    }

    /// Whether the record can be written. If not, the people who wait get a reply at once: nobody knows how long it
    /// lasts.
    pub(super) fn ledger_health(&mut self, ok: bool) {
        self.ledger_ok = ok;
        if ok {
            return;
        }
        let message = "the ledger cannot be written now: your answer is kept, and goes out once it can, or has gone out already; \
                       `doorman status` says why, and later `doorman history` what became of it";
        for token in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.act(Action::Reply { token, outcome: OpOutcome::error("blocked", message) });
        }
    }

    fn hold(&mut self, id: &RequestId, request: &Arc<ContactRequest>, person: &Person, now: Now) -> OpOutcome {
        self.policy_state.hold(id, Some(person.name()));
        self.record(Record::Hold {
            agent: self.config.agent.clone(),
            request: id.clone(),
            person: Some(person.clone()),
            at: now.wall,
        });
        self.inbox.hold(id);
        self.count(Counter::PersonAnswers);
        self.tell(Notice::Person { request: request.clone(), verdict: Verdict::Defer, person: person.clone() });
        OpOutcome::Answered(self.answered(request, Verdict::Defer, "held", None))
    }

    /// Why this sender cannot be let in for a time, if so.
    fn no_guest(&self, request: &ContactRequest) -> Option<OpOutcome> {
        if !self.clock.sound() {
            return Some(OpOutcome::error("clock", NO_CLOCK));
        }
        if self.guests.len() >= GUESTS_MAX {
            return Some(OpOutcome::busy("there are as many guests as doorman remembers: approve without `--for`"));
        }
        let Some(handle) = request.sender.handle() else {
            let why = "without a plain handle nobody could tell which contact is theirs: approve without `--for`";
            return Some(OpOutcome::error("no-handle", why));
        };
        let known = self.policy_state.doubts().contacts().has_handle(handle);
        known.then(|| {
            let why = format!(
                "@{handle} is a contact already, and an approval gives an end only to the contact that it makes: approve without \
                 `--for`, or `doorman revoke @{handle}` first"
            );
            OpOutcome::error("is-contact", why)
        })
    }

    /// `None`: the removal is on its way; the reply comes with its outcome.
    fn person_removes(
        &mut self,
        token: u64,
        contact: (ContactId, bool),
        person: Person,
        now: Now,
    ) -> Option<OpOutcome> {
        if self.stopping {
            return Some(OpOutcome::busy("doorman is stopping: ask again when it runs"));
        }
        self.begin_removal(contact, RemovedBy::Person(person), Some(token), now);
        None
    }

    fn answered(
        &self,
        request: &ContactRequest,
        verdict: Verdict,
        outcome: &str,
        ends_at: Option<Timestamp>,
    ) -> PersonAnswered {
        PersonAnswered {
            request: request.id.clone(),
            agent: self.config.agent.clone(),
            handle: request.sender.original().cloned(),
            verdict,
            outcome: outcome.to_owned(),
            ends_at,
        }
    }

    /// A guest stays for longer or shorter, or for good.
    pub(super) fn moved(
        &self,
        request: &RequestId,
        handle: Option<StrangerText>,
        ends_at: Option<Timestamp>,
    ) -> PersonAnswered {
        PersonAnswered {
            request: request.clone(),
            agent: self.config.agent.clone(),
            handle,
            verdict: Verdict::Approve,
            outcome: if ends_at.is_some() { "end-moved" } else { "end-lifted" }.to_owned(),
            ends_at,
        }
    }

    /// Replies to those who wait for the outcome of this answer.
    pub(super) fn end_waiting(
        &mut self,
        id: &RequestId,
        request: &ContactRequest,
        verdict: Verdict,
        outcome: &str,
        ends_at: Option<Timestamp>,
    ) {
        let answered = self.answered(request, verdict, outcome, ends_at);
        self.tell_people(id, || OpOutcome::Answered(answered.clone()));
    }
}

/// The reply to a person whose request has another sender by now.
fn changed(request: &ContactRequest, was: &Sender) -> String {
    let name = |sender: &Sender| sender.original().map_or_else(|| "nobody".to_owned(), |text| format!("@{text}"));
    let (was, is) = (name(was).replace("@@", "@"), name(&request.sender).replace("@@", "@"));
    format!(
        "request {} was sent by {was} when it came, and the platform says {is} now: ask again if you mean {is}",
        request.id
    )
}

impl Core {
    /// The platform shows these requests differently than before: the change goes on record, and they are decided
    /// again.
    pub(super) fn learn_changes(&mut self, now: Now) {
        for before in self.inbox.take_changed() {
            let id = before.id.clone();
            let Some(entry) = self.inbox.entry(&id) else { continue };
            let (request, first_seen, stage) = (entry.request().clone(), entry.first_seen(), entry.stage());
            self.count(Counter::RequestsChanged);
            let (agent, at) = (self.config.agent.clone(), now.wall);
            self.record(Record::Changed { agent, request: request.clone(), at });
            self.tell(Notice::Changed { request: request.clone(), before: before.clone() });
            if before.sender != request.sender {
                self.policy_state.seen(&id, request.sender.handle(), first_seen.min(now.wall));
                // A person's answer was meant for the previous sender, so it becomes a hold. If no sender was known
                // before, the sender has not changed.
                if let Some(GivenAnswer { by: By::Person(person), .. }) =
                    (before.sender != Sender::Absent).then(|| self.inbox.take_order(&id)).flatten()
                {
                    self.hold(&id, &request, &person, now);
                    self.tell_people(&id, || OpOutcome::error("changed", changed(&request, &before.sender)));
                }
            }
            if let Stage::Resting { .. } = stage {
                self.inbox.requeue(&id);
            }
        }
    }

    /// An answer that may have been carried out is given up for another answer of a person, whose intent follows in the
    /// same batch: the record no longer holds the old answer as open.
    pub(super) fn give_up_answer(&mut self, id: &RequestId, now: Now) {
        let handle = self.inbox.entry(id).and_then(|entry| entry.request().sender.handle().cloned());
        self.approval_ended(id, handle.as_ref(), false, now);
        self.policy_state.give_back(id);
        self.record(Record::Withdrawn { agent: self.config.agent.clone(), request: id.clone(), at: now.wall });
        self.limits_freed(id);
    }
}
