//! A decision is made as late as possible, in one step: when a slot is free, the policy that is then in force decides,
//! the limits are reserved and the intent goes on record.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::guests::GUESTS_MAX;
use super::people::NO_CLOCK;
use super::remembered::Restored;
use super::{Action, Core, OpOutcome};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::{Begun, EarlierRequest, GivenAnswer, KnownRequests, NextAnswer, ShowOutcome, Stage};
use crate::ledger::Record;
use crate::ledger::entry::Via;
use crate::model::{AgentState, Answer, ContactRequest, PausedBy, RequestId, Verdict};
use crate::policy::rules::{Head, Rule};
use crate::policy::state::PauseRecord;
use crate::policy::{By, Charge, Circumstances, Decision, ErrorKind, Mode, Policy, PolicyHash, shorter};

/// Most decisions in one step, before all other work gets its turn.
const STEP_MAX: u32 = 128;
/// The pause after such a step.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// What the decisions of one step may cost together, in the steps of the policy's regular expressions: less than a tenth of a
/// second on any machine of today.
const STEP_COST_MAX: u64 = 25_000_000;
/// A step that took longer than this makes the next one smaller.
const STEP_TIME_MAX: Duration = Duration::from_millis(100);

/// Sets how many requests are decided in one step, by the cost of a decision and by the time that the last step took.
#[derive(Debug)]
pub(super) struct DecidingPace {
    size: u32,
    /// When the last step began; `None` once its time was measured.
    began: Option<Mono>,
    /// No step before then.
    until: Mono,
}

impl Default for DecidingPace {
    fn default() -> Self {
        Self { size: STEP_MAX, began: None, until: Mono::ZERO }
    }
}

impl DecidingPace {
    /// No step before then.
    pub(super) fn until(&self) -> Mono {
        self.until
    }

    /// The first input after a step measures how long the step took.
    pub(super) fn measure(&mut self, now: Mono) {
        let Some(began) = self.began.take() else { return };
        self.size = match now.since(began) > STEP_TIME_MAX {
            true => (self.size / 2).max(1),
            false => (self.size * 2).min(STEP_MAX),
        };
    }

    /// How many are decided now, under a policy with this cost.
    pub(super) fn step(&self, cost: u64) -> u32 {
        u32::try_from(STEP_COST_MAX / cost.max(1)).unwrap_or(u32::MAX).clamp(1, self.size.max(1))
    }

    /// Called after a step that decided as many requests as it was allowed to.
    pub(super) fn full(&mut self, decided: u32, now: Mono) {
        self.began = Some(now);
        // After a small step, the next one follows as soon as all other work had its turn.
        self.until = if decided < STEP_MAX { now } else { now + STEP_PAUSE };
    }
}

/// Whether a decision under this policy may depend on how earlier answers ended: it asks for `history`, or has a limit that rejects,
/// which counts only answers that the platform confirmed.
pub(super) fn asks_for_the_past(policy: Option<&Policy>) -> bool {
    policy.is_some_and(|policy| policy.history_reach().is_some() || policy.rules.iter().any(has_rejecting_limit))
}

fn has_rejecting_limit(rule: &Rule) -> bool {
    rule.limit.is_some_and(|limit| limit.then == Verdict::Reject)
}

/// An answer that is about to be sent, and its grounds.
struct PlannedAnswer {
    said: GivenAnswer,
    /// The policy that gave it; `None` if a person gave it, or if the same answer is sent again.
    policy: Option<PolicyHash>,
    /// The version of pushed rules that let it be sent, this time; `None` if a person did, or if the rules are of files.
    head: Option<Arc<Head>>,
    charges: Vec<Charge>,
}

impl Core {
    /// Whether anything may be decided now.
    pub(super) fn may_decide(&self) -> bool {
        !self.stopping && self.ledger_ok && self.is_us() && self.session.state() != AgentState::Refused
    }

    /// When the oldest request that is ready can be decided.
    pub(super) fn decide_due(&self, now: Now) -> Option<Mono> {
        if !self.may_decide() || self.inbox.next_ready().is_none() {
            return None;
        }
        match self.responder.slot(now.mono) {
            Ok(()) => Some(self.pace.until().max(now.mono)),
            Err(when) => when,
        }
    }

    pub(super) fn decide_ready(&mut self, now: Now) {
        let step = self.pace.step(self.policy.as_ref().map_or(0, |policy| policy.steps));
        for _ in 0..step {
            if self.responder.slot(now.mono).is_err() {
                return;
            }
            let Some(id) = self.inbox.next_ready().cloned() else { return };
            self.decide(&id, now);
        }
        self.pace.full(step, now.mono);
    }

    fn shadow(&self, policy: Option<&Policy>) -> bool {
        self.config.shadow || policy.is_some_and(|policy| policy.mode == Mode::Shadow)
    }

    /// Whether the agent is in shadow: it answers nothing.
    pub(super) fn in_shadow(&self) -> bool {
        self.shadow(self.policy.as_deref())
    }

    /// What the inbox has to know of these requests.
    pub(super) fn known(&self, requests: &[ContactRequest], pass: u64, now: Now) -> KnownRequests {
        KnownRequests { welcome: self.welcome(requests, pass, now), pending: self.pending_on_record(requests) }
    }

    /// Those of these requests that a rule would answer although the inbox has no room for them: they are taken in all
    /// the same. Under expensive rules each pass checks only some requests of a page; the next passes check the others.
    fn welcome(&self, requests: &[ContactRequest], pass: u64, now: Now) -> HashSet<RequestId> {
        let Some(policy) = self.policy.as_deref().filter(|_| self.may_decide() && !self.in_shadow()) else {
            return HashSet::new();
        };
        let outside =
            |request: &&ContactRequest| self.inbox.entry(&request.id).is_none() && self.inbox.is_full_for(request);
        let outside: Vec<&ContactRequest> = requests.iter().filter(outside).collect();
        let every = outside.len().div_ceil(self.pace.step(policy.steps) as usize).max(1) as u64;
        let turn = |(place, request): (usize, &ContactRequest)| {
            (place as u64 % every == pass % every && self.is_answered(policy, request, now)).then(|| request.id.clone())
        };
        outside.into_iter().enumerate().filter_map(turn).collect()
    }

    /// Whether the rules answer a request that is not here, now or after a wait.
    fn is_answered(&self, policy: &Policy, request: &ContactRequest, now: Now) -> bool {
        let (owner_is_contact, sender_is_contact) = self.is_contact(request.sender.handle(), now);
        let known = Circumstances::new(now.wall, self.clock.health());
        let contacts = self.contact_count();
        let circumstances = Circumstances { contacts, owner_is_contact, sender_is_contact, ..known };
        policy.decide(request, &circumstances, &self.policy_state, now.wall).verdict.answer().is_some()
    }

    fn decide(&mut self, id: &RequestId, now: Now) {
        let Some(entry) = self.inbox.entry(id) else { return };
        match entry.answer().next() {
            None => return,
            Some(NextAnswer::Rules | NextAnswer::Again(_)) if !entry.said_by_person() => {}
            Some(NextAnswer::Rules) => {}
            Some(NextAnswer::Person(said) | NextAnswer::Again(said)) => {
                let said = said.clone();
                if self.in_shadow() {
                    self.inbox.rest(id, None);
                    return;
                }
                if said.lasts.is_some() && !self.clock.sound() {
                    // Without a sound clock nobody knows when the end of the contact comes.
                    self.inbox.rest(id, None);
                    self.tell_people(id, || OpOutcome::busy(NO_CLOCK));
                    return;
                }
                self.intend(id, PlannedAnswer { said, policy: None, head: None, charges: Vec::new() }, now);
                return;
            }
        }
        let earlier = entry.answer().said().cloned();
        let same_request = entry.is_as_answered();
        // An agent without rules has no policy: it sends only the answers of people. So does one whose rules are not the head.
        let Some(policy) = self.policy.clone().filter(|policy| !self.is_behind(policy)) else {
            self.inbox.rest(id, None);
            return;
        };
        // First seen while the clock ran ahead: counted from now, or a wait would last as long as the clock was off.
        let first_seen = if self.clock.sound() { entry.first_seen().min(now.wall) } else { entry.first_seen() };
        let contacts = self.contact_count();
        let (request, mark) = (entry.request().clone(), entry.mark());
        let (owner_is_contact, sender_is_contact) = self.is_contact(request.sender.handle(), now);
        let known = Circumstances::new(first_seen, self.clock.health());
        let circumstances = Circumstances { contacts, owner_is_contact, sender_is_contact, ..known };
        self.look_for_contacts(mark, request.sender.handle(), now);
        if let Some(entry) = self.inbox.entry_mut(id) {
            entry.first_seen_at(first_seen);
        }
        let mut decision = policy.decide(&request, &circumstances, &self.policy_state, now.wall);
        if let Some(earlier) = &earlier {
            decision = decision.after_answer(earlier.answer, same_request);
        }
        if decision.lasts.is_some() && self.guests.len() >= GUESTS_MAX {
            self.count(Counter::GuestsFull);
            decision = Decision::error(ErrorKind::Internal, decision.policy);
        }
        let shadow = self.shadow(Some(&policy));
        if decision.pauses && !shadow {
            self.pause(PausedBy::ApprovalsMax, None, now);
        }
        self.put_decision(id, &decision, circumstances, shadow, now);
        let rest_until = decision.reconsider_at;
        if let Some(question) = decision.asks.clone() {
            self.ask(id, question, circumstances, now);
        }
        // If the decision differs from an intent whose answer never left, that intent and its charges are given up.
        let answered = decision.verdict.answer().filter(|_| decision.due.is_none_or(|due| due <= now.wall) && !shadow);
        self.withdraw(id, answered, now);
        match decision.verdict.answer() {
            None => self.inbox.rest(id, rest_until),
            Some(_) if decision.due.is_some_and(|due| due > now.wall) => {
                let until = rest_until.into_iter().chain(decision.due).min();
                self.inbox.rest(id, until);
            }
            Some(answer) if shadow => {
                // The charge is simulated, so that shadow reports the decisions that would be made without shadow.
                let verdict = answer.verdict();
                self.policy_state.reserve(
                    id,
                    request.sender.handle(),
                    verdict,
                    &decision.by,
                    &decision.charges,
                    now.wall,
                );
                self.inbox.rest(id, rest_until);
            }
            Some(answer) if self.inbox.entry(id).is_some_and(|entry| entry.answer().is_malformed(answer)) => {
                self.inbox.rest(id, rest_until);
            }
            Some(_) if earlier.is_some() => {
                let Some(mut said) = earlier else { return };
                said.lasts = shorter(said.lasts, decision.lasts);
                self.intend(
                    id,
                    PlannedAnswer { said, policy: None, head: policy.head.clone(), charges: Vec::new() },
                    now,
                );
            }
            Some(answer) => {
                let verdict = answer.verdict();
                self.policy_state.reserve(
                    id,
                    request.sender.handle(),
                    verdict,
                    &decision.by,
                    &decision.charges,
                    now.wall,
                );
                let said = GivenAnswer { answer, by: decision.by, lasts: decision.lasts };
                let (head, charges) = (policy.head.clone(), decision.charges);
                self.intend(id, PlannedAnswer { said, policy: Some(decision.policy), head, charges }, now);
            }
        }
    }

    /// Records and reports a decision if it differs from the previous one.
    fn put_decision(
        &mut self,
        id: &RequestId,
        decision: &Decision,
        circumstances: Circumstances,
        shadow: bool,
        now: Now,
    ) {
        if let Some(overdue) = &decision.notify {
            self.policy_state.notified(id, overdue);
            self.count(Counter::OverdueNotices);
            self.record(Record::Notified {
                agent: self.config.agent.clone(),
                request: id.clone(),
                overdue: overdue.clone(),
                at: now.wall,
            });
        }
        let Some(entry) = self.inbox.entry_mut(id) else { return };
        let request = entry.request().clone();
        let new = entry.decision().is_none_or(|before| !before.same_record(decision));
        entry.decided(decision.clone());
        if let Some(overdue) = &decision.notify {
            self.act(Action::Tell(Notice::Overdue { request: request.clone(), overdue: overdue.clone() }));
        }
        if new && !self.decided_before(id, decision) {
            self.count(match decision.verdict {
                Verdict::Approve => Counter::DecidedApprove,
                Verdict::Reject => Counter::DecidedReject,
                Verdict::Defer => Counter::DecidedDefer,
            });
            self.record(Record::Decided {
                agent: self.config.agent.clone(),
                request: id.clone(),
                decision: Box::new(decision.clone()),
                circumstances,
                at: now.wall,
            });
            self.tell(Notice::Decided { request, decision: Box::new(decision.clone()), shadow });
        }
    }

    /// Takes a slot and records the intent; the answer goes out once the intent is on record.
    fn intend(&mut self, id: &RequestId, intent: PlannedAnswer, now: Now) {
        let PlannedAnswer { said, policy, head, charges } = intent;
        let GivenAnswer { answer, by, lasts } = said.clone();
        self.withdraw(id, Some(answer), now);
        let Some(Begun { attempt, gives_up }) = self.inbox.begin_answer(id, said) else { return };
        if gives_up {
            self.give_up_answer(id, now);
        }
        let Some(request) = self.inbox.entry(id).map(|entry| entry.request().clone()) else { return };
        if answer == Answer::Approve {
            self.approving(id, request.sender.handle(), now);
        }
        self.responder.take(now.mono);
        self.inbox.listing.disturb();
        // A person's approval, and the same once more, do not count towards `approvals_max`.
        let counts = policy.is_some() && answer == Answer::Approve;
        let (agent, request, at) = (self.config.agent.clone(), id.clone(), now.wall);
        self.record(Record::Intent { agent, request, answer, by, lasts, policy, head, charges, counts, attempt, at });
    }

    /// A request is new here: it goes on record and into the policy state.
    pub(super) fn arrived(&mut self, id: &RequestId, seen: ShowOutcome, via: Via, received: Option<Mono>, now: Now) {
        self.count(Counter::RequestsSeen);
        let Some(request) = self.inbox.entry(id).map(|entry| entry.request().clone()) else { return };
        let Restored { first_seen: remembered, before: earlier, changed } = self.restore(&request);
        let Some(entry) = self.inbox.entry_mut(id) else { return };
        entry.received_at(received);
        if let Some(earlier) = &earlier {
            // A person may have seen it before the start.
            entry.was_of(&earlier.sender);
        }
        let (before, bound) = (entry.before(), entry.answer().may_be_heard());
        let first_seen = remembered.unwrap_or(entry.first_seen());
        entry.first_seen_at(first_seen);
        let first_seen = first_seen.min(now.wall);
        if remembered.is_none() && !bound && before != Some(EarlierRequest::Same) {
            self.policy_state.came_again(id, request.sender.handle());
        }
        if before.is_some() {
            // The outcome of the earlier answer goes on record first.
            self.outbox.catch_up();
        }
        if before == Some(EarlierRequest::Another) {
            self.policy_state.id_reused(id);
            self.contacts.id_reused(id);
        }
        self.policy_state.seen(id, request.sender.handle(), first_seen);
        self.policy_state.still_pending(&request);
        if remembered.is_none() || changed {
            self.record(Record::Seen {
                agent: self.config.agent.clone(),
                request: request.clone(),
                via,
                at: first_seen,
            });
        }
        if let Some(before) = earlier {
            self.count(Counter::RequestsChanged);
            self.tell(Notice::Changed { request: request.clone(), before: Arc::new(before) });
        }
        self.tell(match seen {
            ShowOutcome::Returned => Notice::Returned { request },
            ShowOutcome::New | ShowOutcome::Known | ShowOutcome::Settled | ShowOutcome::Full => {
                Notice::Seen { request, live: via == Via::Event }
            }
        });
    }

    /// Another policy: everything pending is decided again, oldest first.
    pub(super) fn swap_policy(&mut self, policy: Option<Arc<Policy>>, now: Now) {
        let before = self.policy.as_ref().map(|policy| policy.hash.clone());
        let after = policy.as_ref().map(|policy| policy.hash.clone());
        self.policy = policy;
        // What waited for newer rules is decided by these; if they are no head either, the ledger says so again.
        if self.newer.take().is_some() {
            self.inbox.requeue_resting(|_| true);
        }
        if before == after {
            return;
        }
        self.record_policy(now);
        if let Some(policy) = &self.policy {
            self.policy_state.keep_for(policy);
        }
        self.contacts.keep_for(self.policy.as_deref(), self.policy_state.doubts().contacts().len());
        self.outbox.keep_order(asks_for_the_past(self.policy.as_deref()));
        // Until the record has been read again, its facts are unknown and decide nothing.
        let policy = self.policy.clone();
        self.restore_for(policy.as_deref(), now);
        self.refusals_reported.clear();
        self.inbox.requeue_resting(|_| true);
        self.wake_forbidden();
        self.tell(Notice::Policy { hash: after });
    }

    /// Whether newer rules than these were pushed, as the ledger said when it refused an intent: then they answer nothing.
    fn is_behind(&self, policy: &Policy) -> bool {
        policy.head.as_ref().zip(self.newer).is_some_and(|(head, newer)| head.version < newer)
    }

    pub(super) fn record_policy(&mut self, now: Now) {
        if let Some(policy) = self.policy.clone() {
            self.record(Record::Policy {
                agent: self.config.agent.clone(),
                hash: policy.hash.clone(),
                texts: policy.texts.clone(),
                at: now.wall,
            });
        }
    }

    /// Tries again the answers that the platform forbade (403).
    pub(super) fn wake_forbidden(&mut self) {
        let forbidden: Vec<RequestId> = self
            .inbox
            .entries()
            .filter(|entry| entry.answer().is_forbidden() && matches!(entry.stage(), Stage::Delayed { .. }))
            .map(|entry| entry.id().clone())
            .collect();
        for id in forbidden {
            self.inbox.requeue(&id);
        }
    }

    /// This request gives back its share of a limit: the share goes to the oldest request that waits for it.
    pub(super) fn limits_freed(&mut self, id: &RequestId) {
        self.restore_without(id);
        self.inbox
            .requeue_resting(|entry| entry.decision().is_some_and(|decision| matches!(decision.by, By::Limit(_))));
    }

    /// Nothing is answered until `resume`.
    pub(super) fn pause(&mut self, by: PausedBy, note: Option<&str>, now: Now) {
        if self.policy_state.paused() {
            return;
        }
        let pause = PauseRecord { by: by.clone(), at: now.wall, note: note.map(str::to_owned) };
        self.policy_state.pause(pause);
        let (agent, note) = (self.config.agent.clone(), note.map(Into::into));
        self.record(Record::Pause { agent, on: true, by: by.clone(), note, at: now.wall });
        self.count(Counter::Pauses);
        self.tell(Notice::Paused { by });
        self.inbox.requeue_resting(|_| true);
    }

    /// Resumes the agent: answers go out again, and `approvals_max` counts from zero.
    pub(super) fn resume(&mut self, by: PausedBy, note: Option<&str>, now: Now) {
        let was = self.policy_state.paused();
        self.policy_state.resume();
        let (agent, note) = (self.config.agent.clone(), note.map(Into::into));
        self.record(Record::Pause { agent, on: false, by: by.clone(), note, at: now.wall });
        self.restore_again();
        if was {
            self.tell(Notice::Resumed { by });
        }
        self.inbox.requeue_resting(|_| true);
    }
}
