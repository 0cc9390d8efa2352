//! Asking deciders: what is asked at once, what waits to be asked, and how long a decider that fails is left alone.
//!
//! A word is a fact: the request is decided again with it. No word is no fact: the request stays as it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::notice::Notice;
use super::{Action, Core, Counter};
use crate::clock::{Mono, Now};
use crate::inbox::Stage;
use crate::ledger::Record;
use crate::model::RequestId;
use crate::policy::ask::{AskFailure, Word};
use crate::policy::{Circumstances, Question, RuleName, Told};

/// Most questions of one agent that are out at once; each decider bounds its own besides.
const OUT_MAX: usize = 32;
/// Most requests that wait to be asked about; beyond, they are asked about when they are decided again.
const WAITING_MAX: usize = 1_000;
/// How often one question is asked that gets no word.
const TRIES_MAX: u32 = 5;
/// So many failures in a row, and it is told.
const TOLD_AFTER: u32 = 5;
/// The wait after failures in a row: doubled from the first to the second.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// What is asked now.
    out: HashMap<RequestId, Question>,
    /// Questions without a word so far, and how often they were asked.
    tries: HashMap<RequestId, (Arc<str>, u32)>,
    gates: BTreeMap<RuleName, Gate>,
}

/// How it stands with one decider.
#[derive(Debug)]
struct Gate {
    /// In a row.
    failures: u32,
    not_before: Mono,
    waiting: VecDeque<RequestId>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { failures: 0, not_before: Mono::ZERO, waiting: VecDeque::new() }
    }
}

impl Core {
    /// A decision leaves this question open.
    pub(super) fn ask(&mut self, id: &RequestId, question: Question, circumstances: Circumstances, now: Now) {
        if self.stopping || self.asking.out.get(id).is_some_and(|out| *out == question) {
            return;
        }
        self.forget_questions();
        let tried = self.asking.tries.get(id).filter(|(key, _)| *key == question.key).map_or(0, |(_, tries)| *tries);
        if tried >= TRIES_MAX {
            return;
        }
        let out = self.asking.out.len();
        let gate = self.asking.gates.entry(question.decider.clone()).or_default();
        if out >= OUT_MAX || gate.not_before > now.mono || self.asking.out.contains_key(id) {
            if gate.waiting.len() < WAITING_MAX && !gate.waiting.contains(id) {
                gate.waiting.push_back(id.clone());
            }
            return;
        }
        let Some(request) = self.inbox.entry(id).map(|entry| entry.request().clone()) else { return };
        self.asking.tries.insert(id.clone(), (question.key.clone(), tried + 1));
        self.asking.out.insert(id.clone(), question.clone());
        self.count(Counter::DecidersAsked);
        self.act(Action::Ask { request, question, circumstances });
    }

    /// When somebody who waits can be asked about.
    pub(super) fn ask_due(&self, now: Now) -> Option<Mono> {
        if self.asking.out.len() >= OUT_MAX {
            return None;
        }
        let gates = self.asking.gates.values().filter(|gate| !gate.waiting.is_empty());
        gates.map(|gate| gate.not_before.max(now.mono)).min()
    }

    /// Those who wait are decided again, which asks.
    pub(super) fn ask_waiting(&mut self, now: Now) {
        let room = OUT_MAX.saturating_sub(self.asking.out.len());
        let mut again = Vec::new();
        for gate in self.asking.gates.values_mut().filter(|gate| gate.not_before <= now.mono) {
            let count = gate.waiting.len().min(room.saturating_sub(again.len()));
            again.extend(gate.waiting.drain(..count));
        }
        for id in again {
            self.decide_resting(&id);
        }
    }

    fn decide_resting(&mut self, id: &RequestId) {
        if self.inbox.entry(id).is_some_and(|entry| matches!(entry.stage(), Stage::Resting { .. })) {
            self.inbox.requeue(id);
        }
    }

    /// What came of a question.
    pub(super) fn word(
        &mut self,
        id: &RequestId,
        question: &Question,
        result: Result<Word, AskFailure>,
        took: Duration,
        now: Now,
    ) {
        if self.asking.out.get(id).is_some_and(|out| out == question) {
            self.asking.out.remove(id);
        }
        let entry = self.inbox.entry(id).map(|entry| entry.request().clone());
        match result {
            Ok(Word { verdict, reason }) => {
                let gate = self.asking.gates.entry(question.decider.clone()).or_default();
                let failures = std::mem::take(&mut gate.failures);
                gate.not_before = Mono::ZERO;
                if failures >= TOLD_AFTER {
                    self.tell(Notice::DeciderRecovered { decider: question.decider.clone() });
                }
                self.asking.tries.remove(id);
                // A request that is over needs no word.
                let Some(request) = entry else { return };
                let told = Told { decider: question.decider.clone(), key: Some(question.key.clone()), verdict, reason };
                self.policy_state.told(id, told.clone());
                self.record(Record::Told {
                    agent: self.config.agent.clone(),
                    request: id.clone(),
                    rule: question.rule.clone(),
                    told: Box::new(told.clone()),
                    took,
                    at: now.wall,
                });
                self.tell(Notice::Told { request, rule: question.rule.clone(), told: Box::new(told), took });
                self.decide_resting(id);
            }
            Err(failure) => {
                self.count(Counter::DecidersFailed);
                // Nobody was asked: that is no try.
                if let (Some(_), Some((_, tries))) = (failure.again, self.asking.tries.get_mut(id)) {
                    *tries = tries.saturating_sub(1);
                }
                let failures =
                    self.asking.gates.get(&question.decider).map_or(0, |gate| gate.failures).saturating_add(1);
                let ceiling = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
                let pause = failure.again.unwrap_or(ceiling).mul_f64(0.1 + 0.9 * self.rng.f64());
                let pause = failure.again.map_or(pause, |again| again.max(PAUSE_MIN));
                let gate = self.asking.gates.entry(question.decider.clone()).or_default();
                gate.failures = failures;
                gate.not_before = gate.not_before.max(now.mono + pause);
                if entry.is_some() && gate.waiting.len() < WAITING_MAX && !gate.waiting.contains(id) {
                    gate.waiting.push_back(id.clone());
                }
                if entry.is_none() {
                    self.asking.tries.remove(id);
                }
                if failures == TOLD_AFTER || failure.again.is_some() && failures == 1 {
                    self.tell(Notice::DeciderFailed {
                        decider: question.decider.clone(),
                        why: failure.fault,
                        failures,
                    });
                }
            }
        }
    }

    /// Requests that are over are not counted for ever.
    fn forget_questions(&mut self) {
        let inbox = &self.inbox;
        if self.asking.tries.len() > 2 * WAITING_MAX {
            self.asking.tries.retain(|id, _| inbox.entry(id).is_some());
        }
    }
}
