//! Deciding: one request, its circumstances, the agent's policy state and a moment become one [`Decision`].
//!
//! Reject beats defer, defer beats approve, and if nothing matches, `no_match` applies. The pause, a person's hold and
//! the guards come before the rules. An unknown condition never decides. Nothing in here changes anything: the caller
//! that carries out a decision reserves its charges ([`PolicyState::reserve`]).

pub(crate) mod conditions;
pub(crate) mod inputs;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

pub(crate) use conditions::Evaluation;
use conditions::earlier;
use inputs::{Inputs, after};

use super::ask::{self, Question};
use super::decision::RuleResult;
use super::lookalike::{LookAlike, LookAlikes};
use super::regexes;
use super::rules::{Limit, Policy, Quota, Rule, RuleName, When};
use super::state::charges::LimitUse;
use super::{By, Charge, Circumstances, Decision, ErrorKind, GuardKind, Mode, PolicyState, Truth, overdue};
use crate::model::{ContactRequest, Handle, RequestId, StrangerText, Verdict};

/// A rule that matched or was unknown.
struct EvaluatedRule<'p> {
    rule: &'p Rule,
    evaluation: Evaluation,
    unknown: Option<&'static str>,
}

/// The result of rules and guards together, before `overdue`.
struct CombinedResult {
    verdict: Verdict,
    by: By,
    due: Option<Timestamp>,
    lasts: Option<SignedDuration>,
    charges: Vec<Charge>,
    /// The first moment at which this may change.
    wakes: Option<Timestamp>,
    /// Whether no unknown fact could turn this into an approval.
    certain: bool,
    /// The question to a decider.
    asks: Option<Question>,
}

impl Policy {
    /// What the conditions see.
    pub(super) fn inputs<'a>(
        &self,
        request: &'a ContactRequest,
        circumstances: &'a Circumstances,
        policy_state: &'a PolicyState,
        now: Timestamp,
    ) -> Inputs<'a> {
        Inputs::new(request, circumstances, policy_state, now).searching(regexes::searched_max(self.steps))
    }

    /// The decision of this policy about this request now. The same arguments give the same decision.
    pub fn decide(
        &self,
        request: &ContactRequest,
        circumstances: &Circumstances,
        policy_state: &PolicyState,
        now: Timestamp,
    ) -> Decision {
        let inputs = self.inputs(request, circumstances, policy_state, now);
        self.decide_among(&inputs, self.index.offer(&inputs, self.rules.len()))
    }

    /// The same without the index, asking every rule: the oracle that [`Policy::decide`] is tested and measured against.
    #[doc(hidden)]
    pub fn decide_naive(
        &self,
        request: &ContactRequest,
        circumstances: &Circumstances,
        policy_state: &PolicyState,
        now: Timestamp,
    ) -> Decision {
        let inputs = self.inputs(request, circumstances, policy_state, now);
        self.decide_among(&inputs, (0..self.rules.len() as u32).collect())
    }

    fn decide_among(&self, inputs: &Inputs<'_>, offered: Vec<u32>) -> Decision {
        let handle = match (before_rules(inputs), inputs.handle) {
            (None, Some(handle)) => handle,
            (by, _) => return self.undecided(by.unwrap_or(By::Guard(GuardKind::HandleNotPlain))),
        };
        let mut heard = Vec::new();
        let mut wakes = None;
        for rule in offered.into_iter().filter_map(|id| self.rules.get(id as usize)) {
            let (evaluation, unknown) = hear(rule, inputs);
            if !rule.shadow {
                wakes = earlier(wakes, evaluation.flips);
            }
            if evaluation.truth != Truth::False {
                heard.push(EvaluatedRule { rule, evaluation, unknown });
            }
        }
        heard.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));

        let weighed = self.weigh(&heard, handle, wakes, inputs);
        let mut decision = Decision {
            rule_results: heard.into_iter().map(RuleResult::from).collect(),
            due: weighed.due,
            lasts: weighed.lasts,
            reconsider_at: weighed.wakes,
            charges: weighed.charges,
            asks: weighed.asks,
            ..Decision::new(weighed.verdict, weighed.by, self.hash.clone(), self.mode)
        };
        self.guard_approvals(&mut decision, inputs);
        if decision.overdue_may_act() {
            let fate = overdue::judge(&self.overdue, weighed.certain, inputs);
            decision.notify = fate.notify;
            decision.reconsider_at = earlier(decision.reconsider_at, fate.wakes);
            if let Some(name) = fate.reject {
                decision.verdict = Verdict::Reject;
                decision.by = By::Overdue(name);
                decision.asks = None;
            }
        }
        if !inputs.clock_is_sound() {
            decision.reconsider_at = None;
        }
        if decision.rule_results.iter().any(|voice| voice.truth == Truth::Unknown) {
            decision.doubts =
                inputs.policy_state.history.doubts.about(handle.owner(), &self.history_needs(), inputs.now);
        }
        decision
    }

    fn undecided(&self, by: By) -> Decision {
        Decision::new(Verdict::Defer, by, self.hash.clone(), self.mode)
    }

    /// Combines the results of the rules. `heard` is in alphabetical order.
    fn weigh(
        &self,
        heard: &[EvaluatedRule<'_>],
        handle: &Handle,
        wakes: Option<Timestamp>,
        inputs: &Inputs<'_>,
    ) -> CombinedResult {
        let loud = || heard.iter().filter(|one| !one.rule.shadow);
        let matching =
            |then: Verdict| loud().filter(move |one| one.rule.then == then && one.evaluation.truth == Truth::True);
        let approving = || loud().filter(|one| one.rule.then == Verdict::Approve);
        let mut weighed = CombinedResult {
            verdict: Verdict::Defer,
            by: By::NoMatch,
            due: None,
            lasts: None,
            charges: Vec::new(),
            wakes,
            certain: approving().next().is_none() && !loud().any(|one| may_let_in(one.rule, inputs)),
            asks: None,
        };

        if let Some(reject) = matching(Verdict::Reject).next() {
            weighed.verdict = Verdict::Reject;
            weighed.by = By::Rule(reject.rule.name.clone());
            if matching(Verdict::Reject).any(|one| one.evaluation.flips.is_none()) {
                weighed.wakes = None;
            }
            return weighed;
        }
        if matching(Verdict::Defer).any(|one| !may_let_in(one.rule, inputs)) {
            weighed.certain = true;
        }

        let mut votes: Vec<By> = Vec::new();
        for one in loud().filter(|one| one.rule.then != Verdict::Approve) {
            votes.push(By::Rule(one.rule.name.clone()));
        }
        let mut wait = SignedDuration::ZERO;
        let mut spent: Option<&RuleName> = None;
        for one in approving() {
            if let Some(limit) = &one.rule.limit {
                let used = judge_limit(one.rule, limit, handle, inputs);
                if used.full {
                    if spent.is_none()
                        && one.evaluation.truth == Truth::True
                        && rejects_when_spent(one.rule, handle, inputs)
                    {
                        spent = Some(&one.rule.name);
                    }
                    votes.push(By::Limit(one.rule.name.clone()));
                    weighed.wakes = earlier(weighed.wakes, used.frees);
                    let counted = inputs.clock_is_sound() && used.count >= limit.quota.count as usize;
                    weighed.certain |= counted && one.evaluation.truth == Truth::True;
                } else {
                    weighed.charges.extend(one.rule.charge(handle));
                }
            }
            if needs_clock(one.rule, inputs).is_some() {
                votes.push(By::Rule(one.rule.name.clone()));
            }
            wait = wait.max(one.rule.wait.unwrap_or_default());
            weighed.lasts = shorter(weighed.lasts, one.rule.lasts);
        }
        let due = after(inputs.circumstances.first_seen, wait);
        let waiting = wait > SignedDuration::ZERO && due > inputs.now;
        if waiting {
            weighed.wakes = earlier(weighed.wakes, Some(due));
        }

        let guarded = self.look_alike(handle, inputs).is_some()
            && !matching(Verdict::Approve).any(|one| names_literally(one.rule, handle));
        if guarded {
            // Only a rule that turns out to match could lift the guard.
            weighed.certain |= !approving().any(|one| one.evaluation.truth == Truth::Unknown);
        }
        if let (Some(name), false) = (spent, guarded) {
            // It votes like a reject rule, after the guards.
            weighed.verdict = Verdict::Reject;
            weighed.by = By::Limit(name.clone());
            (weighed.charges, weighed.lasts) = (Vec::new(), None);
            return weighed;
        }
        if let [By::Rule(name)] = votes.as_slice()
            && !guarded
            && let Some(one) = matching(Verdict::Defer).find(|one| one.rule.name == *name && one.rule.ask.is_some())
        {
            return apply_reply(one.rule, handle, (waiting, due), weighed, inputs);
        }
        weighed.by = if guarded && !(self.no_match == Verdict::Reject && loud().next().is_none()) {
            By::Guard(GuardKind::LookAlike)
        } else if let Some(vote) = votes.into_iter().min_by_key(ToString::to_string) {
            vote
        } else if let Some(approve) = matching(Verdict::Approve).next() {
            weighed.verdict = Verdict::Approve;
            weighed.due = waiting.then_some(due);
            By::Rule(approve.rule.name.clone())
        } else if let Some(unknown) = approving().next() {
            By::Rule(unknown.rule.name.clone())
        } else {
            weighed.verdict = self.no_match;
            By::NoMatch
        };
        if weighed.verdict != Verdict::Approve {
            (weighed.charges, weighed.lasts) = (Vec::new(), None);
        }
        weighed
    }

    /// `approvals_max`: one approval too many pauses; one that cannot be counted waits.
    fn guard_approvals(&self, decision: &mut Decision, inputs: &Inputs<'_>) {
        let Some(quota) = self.approvals_max else { return };
        if decision.verdict != Verdict::Approve || decision.due.is_some() {
            return;
        }
        let by = if !inputs.clock_is_sound() {
            By::Error(ErrorKind::Clock)
        } else if approvals_spent(quota, inputs.policy_state, &inputs.request.id, inputs.now) {
            decision.pauses = true;
            By::Paused
        } else if !inputs.policy_state.counts_approvals(quota.per, inputs.now) {
            By::Error(ErrorKind::Ledger)
        } else {
            return;
        };
        decision.verdict = Verdict::Defer;
        decision.by = by;
        decision.charges = Vec::new();
        decision.lasts = None;
        decision.reconsider_at = None;
    }

    /// The protected owner that the sender looks like, if there is one.
    pub(crate) fn look_alike(&self, handle: &Handle, inputs: &Inputs<'_>) -> Option<LookAlike> {
        let check = |alikes: &LookAlikes| {
            if alikes.is_empty() {
                None
            } else {
                alikes.check(handle, inputs.request.name.as_ref().map(StrangerText::raw))
            }
        };
        match self.index.lookalikes() {
            Some(alikes) => check(alikes),
            None => check(&LookAlikes::build(&self.protect)),
        }
    }
}

/// What decides before any rule: the pause, then a hold, then the guard for handles.
pub(crate) fn before_rules(inputs: &Inputs<'_>) -> Option<By> {
    if inputs.policy_state.paused() {
        return Some(By::Paused);
    }
    if let Some(person) = inputs.policy_state.hold_of(&inputs.request.id) {
        return Some(By::Hold(person.clone()));
    }
    inputs.handle.is_none().then_some(By::Guard(GuardKind::HandleNotPlain))
}

/// What a rule says, and the key of what made it unknown. A `wait` or a `for` that cannot be measured makes its rule unknown.
pub(crate) fn hear(rule: &Rule, inputs: &Inputs<'_>) -> (Evaluation, Option<&'static str>) {
    let evaluation = conditions::rule(rule, inputs);
    match evaluation.truth {
        Truth::True => match needs_clock(rule, inputs) {
            None => (evaluation, None),
            key => (Evaluation { truth: Truth::Unknown, ..evaluation }, key),
        },
        Truth::Unknown => (evaluation, conditions::first_unknown(rule, inputs)),
        Truth::False => (evaluation, None),
    }
}

/// Whether the rule has a `wait` or a `for` whose end is unknown, because the clock is unsound: which.
pub(crate) fn needs_clock(rule: &Rule, inputs: &Inputs<'_>) -> Option<&'static str> {
    let keys = [("wait", rule.wait), ("for", rule.lasts)];
    let key = keys.into_iter().find(|(_, length)| length.is_some()).map(|(key, _)| key);
    key.filter(|_| rule.then == Verdict::Approve && !inputs.clock_is_sound())
}

/// The shorter of two lengths; `None` means no end.
pub(crate) fn shorter(one: Option<SignedDuration>, other: Option<SignedDuration>) -> Option<SignedDuration> {
    one.into_iter().chain(other).min()
}

/// Whether the operator named this sender in the rule, by a literal handle or owner: in `handle`, `owner` or a list.
pub(crate) fn names_literally(rule: &Rule, handle: &Handle) -> bool {
    let When::Table(table) = &rule.when else { return false };
    table.conditions.iter().any(|condition| condition.0.names(handle))
}

/// The state of a rule's limit for this request: full if the clock is unsound; the request itself never counts.
pub(crate) fn judge_limit(rule: &Rule, limit: &Limit, handle: &Handle, inputs: &Inputs<'_>) -> LimitUse {
    let used = inputs.policy_state.used(&rule.name, limit, handle, &inputs.request.id, inputs.now);
    if inputs.clock_is_sound() { used } else { LimitUse { full: true, frees: None, ..used } }
}

/// Whether the decider that this rule asks may yet let this one in.
fn may_let_in(rule: &Rule, inputs: &Inputs<'_>) -> bool {
    rule.ask.as_ref().is_some_and(|ask| ask.approve)
        && ask::question(rule, inputs.request).is_some_and(|question| {
            let word = inputs.policy_state.word_on(&inputs.request.id, &question);
            word.is_none_or(|word| word.verdict == Verdict::Approve)
        })
}

/// Only this rule, which asks a decider, keeps the request pending: applies the decider's verdict as far as the rule
/// allows. An approval is charged and limited like that of a rule.
fn apply_reply(
    rule: &Rule,
    handle: &Handle,
    (waiting, due): (bool, Timestamp),
    mut weighed: CombinedResult,
    inputs: &Inputs<'_>,
) -> CombinedResult {
    weighed.by = By::Rule(rule.name.clone());
    if !inputs.clock_is_sound() {
        // The decider was not asked and its verdict is not used: it is not known when it was given.
        (weighed.charges, weighed.lasts) = (Vec::new(), None);
        return weighed;
    }
    let (question, ask) = (ask::question(rule, inputs.request), rule.ask.as_ref());
    let word = question.as_ref().and_then(|question| inputs.policy_state.word_on(&inputs.request.id, question));
    match word.map(|word| word.verdict) {
        Some(Verdict::Reject) if ask.is_some_and(|ask| ask.reject) => {
            weighed.verdict = Verdict::Reject;
            weighed.by = By::Ask(rule.name.clone());
        }
        Some(Verdict::Approve) if ask.is_some_and(|ask| ask.approve) => {
            // The compiler requires a limit.
            if let Some(limit) = &rule.limit {
                let used = judge_limit(rule, limit, handle, inputs);
                if used.full {
                    weighed.by = By::Limit(rule.name.clone());
                    weighed.wakes = earlier(weighed.wakes, used.frees);
                } else {
                    weighed.verdict = Verdict::Approve;
                    weighed.by = By::Ask(rule.name.clone());
                    weighed.due = waiting.then_some(due);
                    weighed.lasts = shorter(weighed.lasts, rule.lasts);
                    weighed.charges.extend(rule.charge(handle));
                }
            }
        }
        Some(Verdict::Approve | Verdict::Reject | Verdict::Defer) => {}
        None => weighed.asks = question,
    }
    if weighed.verdict != Verdict::Approve {
        (weighed.charges, weighed.lasts) = (Vec::new(), None);
    }
    weighed
}

/// Whether a rule that matches rejects because its limit is certainly used up.
fn rejects_when_spent(rule: &Rule, handle: &Handle, inputs: &Inputs<'_>) -> bool {
    rule.limit.as_ref().is_some_and(|limit| {
        limit.then == Verdict::Reject
            && inputs.clock_is_sound()
            && inputs.policy_state.spent_for_certain(&rule.name, limit, handle, &inputs.request.id, inputs.now)
    })
}

/// Whether `approvals_max` allows no further approval; this request does not count.
fn approvals_spent(quota: Quota, policy_state: &PolicyState, request: &RequestId, now: Timestamp) -> bool {
    policy_state.approvals_within(quota.per, request, now) >= quota.count as usize
}

impl From<EvaluatedRule<'_>> for RuleResult {
    fn from(heard: EvaluatedRule<'_>) -> Self {
        RuleResult {
            rule: heard.rule.name.clone(),
            then: heard.rule.then,
            truth: heard.evaluation.truth,
            shadow: heard.rule.shadow,
            unknown: heard.unknown.map(Into::into),
        }
    }
}

impl Decision {
    /// Whether an `overdue` rule may act on a request that this leaves pending: not if the reason is an error, a guard
    /// for handles, a hold, a pause or shadow.
    pub(crate) fn overdue_may_act(&self) -> bool {
        let by_policy = match &self.by {
            By::Rule(_) | By::Limit(_) | By::NoMatch | By::Guard(GuardKind::LookAlike) => true,
            By::Guard(GuardKind::HandleNotPlain | GuardKind::AnsweredBefore)
            | By::Hold(_)
            | By::Paused
            | By::Error(_)
            | By::Ask(_)
            | By::Overdue(_)
            | By::Person(_) => false,
        };
        by_policy && self.verdict == Verdict::Defer && self.mode == Mode::Enforce
    }
}
