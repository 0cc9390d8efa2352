//! Asks deciders: which questions are sent at once, which wait, and how long a decider that fails is not asked.
//!
//! A decider's verdict is a fact: the request is decided again with it. Without a verdict the request stays as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::notice::Notice;
use super::{Action, Core, Counter};
use crate::clock::{Mono, Now};
use crate::inbox::Stage;
use crate::ledger::Record;
use crate::model::RequestId;
use crate::policy::ask::{AskFailure, AskFault, DeciderReply};
use crate::policy::{Circumstances, DeciderVerdict, Question, RuleName};

/// Most questions of one agent that are in flight at once; each decider has a bound of its own as well.
const OUT_MAX: usize = 32;
/// Most requests that wait for a question; further requests are asked about after these.
const WAITING_MAX: usize = 1_000;
/// How often a question is repeated that the decider cannot answer; a decider that was down and is back starts from
/// zero.
const TRIES_MAX: u32 = 5;
/// More than one failure in a row, and the first question of these is so old: then it is reported. A decider that is started again
/// is no news.
const REPORTED_AFTER: Duration = Duration::from_secs(20);
/// The wait after a failure: doubled by each further one in a row.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest if nobody was there to be asked: that costs nobody anything.
const PAUSE_ABSENT_MAX: Duration = Duration::from_secs(60);
/// A used-up hourly limit of a decider is reported at most once in this time.
const SPENT_REPORTED_EVERY: Duration = Duration::from_secs(3_600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OpenQuestions {
    /// The questions that are in flight.
    out: HashMap<RequestId, Question>,
    /// Questions that failed so far, and how often each was asked.
    tries: HashMap<RequestId, (Question, u32)>,
    gates: BTreeMap<RuleName, DeciderState>,
}

/// The state of one decider.
#[derive(Debug, Default)]
pub(super) struct DeciderState {
    /// Questions without a reply, in a row.
    failures: u32,
    /// The same, where those that were out together are one: by these it is left alone.
    rounds: u32,
    /// When the last round was counted.
    counted: Option<Mono>,
    /// When the first of these questions came back, and after how long.
    first: Option<(Mono, Duration)>,
    /// The reason, if the failure was reported to people.
    failing: Option<AskFault>,
    /// When the used-up limit was last reported to people.
    spent: Option<Mono>,
    not_before: Mono,
    waiting: VecDeque<RequestId>,
    /// More requests wait than the queue has room for.
    more: bool,
}

impl OpenQuestions {
    /// Whether a question to this decider is out.
    fn is_asked(&self, decider: &RuleName) -> bool {
        self.out.values().any(|out| out.decider == *decider)
    }
}

impl DeciderState {
    pub(super) fn wait(&mut self, id: &RequestId) {
        if self.waiting.len() >= WAITING_MAX {
            self.more = true;
        } else if !self.waiting.contains(id) {
            self.waiting.push_back(id.clone());
        }
    }

    #[cfg(test)]
    pub(super) fn waiting_and_more(&self) -> (usize, bool) {
        (self.waiting.len(), self.more)
    }

    /// A question that was sent `took` ago failed. Returns whether to report it.
    fn fails(&mut self, fault: AskFault, took: Duration, pause: impl FnOnce(u32) -> Duration, now: Mono) -> bool {
        self.failures = self.failures.saturating_add(1);
        // Many questions in flight must not lengthen the pause of a decider that was down only for a moment.
        if self.counted.is_none_or(|counted| now.since(counted) >= took) {
            self.counted = Some(now);
            self.rounds = self.rounds.saturating_add(1);
            self.not_before = self.not_before.max(now + pause(self.rounds));
        }
        let (back, after) = *self.first.get_or_insert((now, took));
        let reported = self.failing.is_some();
        if reported || (self.failures > 1 && now.since(back) + after >= REPORTED_AFTER) {
            self.failing = Some(fault);
        }
        !reported && self.failing.is_some()
    }

    /// It replied.
    fn speaks(&mut self) -> bool {
        (self.failures, self.rounds, self.first, self.not_before) = (0, 0, None, Mono::ZERO);
        self.failing.take().is_some()
    }
}

impl Core {
    /// A decision needs the answer to this question.
    pub(super) fn ask(&mut self, id: &RequestId, question: Question, circumstances: Circumstances, now: Now) {
        if self.stopping || self.asking.out.get(id).is_some_and(|out| *out == question) {
            return;
        }
        self.forget_questions();
        if self.asking.tries.get(id).is_some_and(|(tried, times)| *tried == question && *times >= TRIES_MAX) {
            return;
        }
        let (out, of_it) = (self.asking.out.len(), self.asking.is_asked(&question.decider));
        let gate = self.asking.gates.entry(question.decider.clone()).or_default();
        // A question about this request is already in flight; its result will have the request decided again.
        if self.asking.out.contains_key(id) {
            return;
        }
        // One that gave no reply last is tried with one question.
        if out >= OUT_MAX || gate.not_before > now.mono || (gate.rounds > 0 && of_it) {
            gate.wait(id);
            return;
        }
        let Some(request) = self.inbox.entry(id).map(|entry| entry.request().clone()) else { return };
        self.asking.out.insert(id.clone(), question.clone());
        self.count(Counter::DecidersAsked);
        self.act(Action::Ask { request, question, circumstances });
    }

    /// When the next waiting request can be asked about.
    pub(super) fn ask_due(&self, now: Now) -> Option<Mono> {
        if self.asking.out.len() >= OUT_MAX {
            return None;
        }
        let gates = self.asking.gates.iter().filter(|(_, gate)| gate.more || !gate.waiting.is_empty());
        let gates = gates.filter(|(decider, gate)| gate.rounds == 0 || !self.asking.is_asked(decider));
        gates.map(|(_, gate)| gate).map(|gate| gate.not_before.max(now.mono)).min()
    }

    /// The waiting requests are decided again, which sends their questions.
    pub(super) fn ask_waiting(&mut self, now: Now) {
        let room = OUT_MAX.saturating_sub(self.asking.out.len());
        let mut again = Vec::new();
        let mut all_of = Vec::new();
        let asked: BTreeSet<RuleName> = self.asking.out.values().map(|question| question.decider.clone()).collect();
        for (decider, gate) in &mut self.asking.gates {
            let tried = gate.rounds > 0;
            if gate.not_before > now.mono || (tried && asked.contains(decider)) {
                continue;
            }
            let most = if tried { 1 } else { usize::MAX };
            let count = gate.waiting.len().min(room.saturating_sub(again.len())).min(most);
            again.extend(gate.waiting.drain(..count));
            if gate.waiting.is_empty() && std::mem::take(&mut gate.more) {
                all_of.push(decider.clone());
            }
        }
        for id in again {
            self.decide_resting(&id);
        }
        for decider in all_of {
            self.ask_all_of(&decider);
        }
    }

    /// All requests that still wait for this decider are decided again.
    fn ask_all_of(&mut self, decider: &RuleName) {
        self.inbox.requeue_resting(|entry| {
            let asks = entry.decision().and_then(|decision| decision.asks.as_ref());
            asks.is_some_and(|question| question.decider == *decider)
        });
    }

    fn decide_resting(&mut self, id: &RequestId) {
        if self.inbox.entry(id).is_some_and(|entry| matches!(entry.stage(), Stage::Resting { .. })) {
            self.inbox.requeue(id);
        }
    }

    /// The result of a question.
    pub(super) fn replied(
        &mut self,
        id: &RequestId,
        question: &Question,
        result: Result<DeciderReply, AskFailure>,
        took: Duration,
        now: Now,
    ) {
        if self.asking.out.get(id).is_some_and(|out| out == question) {
            self.asking.out.remove(id);
        }
        match result {
            Ok(word) => self.with_reply(id, question, word, took, now),
            Err(failure) => self.without_reply(id, question, failure, took, now),
        }
    }

    fn with_reply(
        &mut self,
        id: &RequestId,
        question: &Question,
        DeciderReply { verdict, reason }: DeciderReply,
        took: Duration,
        now: Now,
    ) {
        let decider = &question.decider;
        self.asking.tries.remove(id);
        let gate = self.asking.gates.entry(decider.clone()).or_default();
        if gate.speaks() {
            self.tell(Notice::DeciderRecovered { decider: decider.clone() });
            // An earlier failed answer may have been the fault of the decider itself.
            self.asking.tries.retain(|_, (tried, _)| tried.decider != *decider);
            self.ask_all_of(decider);
        }
        // A request that has ended needs no verdict.
        let Some(request) = self.inbox.entry(id).map(|entry| entry.request().clone()) else { return };
        let reply = DeciderVerdict { decider: decider.clone(), key: Some(question.key.clone()), verdict, reason };
        self.policy_state.add_reply(id, reply.clone());
        let (agent, rule) = (self.config.agent.clone(), question.rule.clone());
        let entry = Box::new(reply.clone());
        self.record(Record::DeciderReplied {
            agent,
            request: id.clone(),
            rule: rule.clone(),
            reply: entry,
            took,
            at: now.wall,
        });
        self.tell(Notice::DeciderReplied { request, rule, reply: Box::new(reply), took });
        self.decide_resting(id);
    }

    /// The request stays as it is, and waits until the question can be repeated.
    fn without_reply(
        &mut self,
        id: &RequestId,
        question: &Question,
        AskFailure { fault, again }: AskFailure,
        took: Duration,
        now: Now,
    ) {
        self.count(Counter::DecidersFailed);
        let share = 0.5 + 0.5 * self.rng.f64();
        let longest = if fault.is_of_the_question() { PAUSE_MAX } else { PAUSE_ABSENT_MAX };
        let gate = self.asking.gates.entry(question.decider.clone()).or_default();
        let tell = if let Some(again) = again {
            // The decider was not asked.
            gate.not_before = gate.not_before.max(now.mono + again.max(PAUSE_MIN));
            let reported = gate.spent.is_some_and(|at| now.mono.since(at) < SPENT_REPORTED_EVERY);
            if !reported {
                gate.spent = Some(now.mono);
            }
            !reported
        } else {
            let pause = |rounds: u32| {
                PAUSE_MIN.saturating_mul(1 << rounds.saturating_sub(1).min(16)).min(longest).mul_f64(share)
            };
            gate.fails(fault, took, pause, now.mono)
        };
        let failures = gate.failures;
        if self.inbox.entry(id).is_none() {
            self.asking.tries.remove(id);
        } else {
            gate.wait(id);
            if fault.is_of_the_question() {
                let (tried, times) = self.asking.tries.entry(id.clone()).or_insert_with(|| (question.clone(), 0));
                if tried != question {
                    (*tried, *times) = (question.clone(), 0);
                }
                *times += 1;
            }
        }
        if tell {
            self.tell(Notice::DeciderFailed { decider: question.decider.clone(), why: fault, failures });
        }
    }

    /// Deciders whose failure was reported to people, and why they fail.
    pub(super) fn deciders_failing(&self) -> Vec<(RuleName, AskFault)> {
        let failing = self.asking.gates.iter().filter_map(|(name, gate)| Some((name.clone(), gate.failing?)));
        failing.collect()
    }

    /// Forgets the failed questions of requests that have ended.
    fn forget_questions(&mut self) {
        let inbox = &self.inbox;
        if self.asking.tries.len() > 2 * WAITING_MAX {
            self.asking.tries.retain(|id, _| inbox.entry(id).is_some());
        }
    }
}
