//! Deciding: one request, its circumstances, the agent's book and a moment become one [`Decision`].
//!
//! Reject beats defer, defer beats approve, nothing matched means `no_match`; before the rules come the pause, a
//! person's hold and the guards; what is unknown never decides. Nothing in here changes anything: what a decision costs
//! is reserved by whoever carries it out ([`Book::reserve`]).

pub(crate) mod conditions;
pub(crate) mod facts;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

pub(crate) use conditions::Told;
use conditions::earlier;
use facts::{Facts, after};

use super::book::charges::Used;
use super::decision::Voice;
use super::lookalike::{LookAlike, LookAlikes};
use super::rules::{Limit, Policy, Quota, Rule, When};
use super::text::Forms;
use super::{Book, By, Charge, Circumstances, Decision, ErrorKind, GuardKind, Mode, Truth, overdue};
use crate::model::{ContactRequest, Handle, RequestId, Verdict};

/// A rule that had something to say.
struct Heard<'p> {
    rule: &'p Rule,
    told: Told,
    unknown: Option<&'static str>,
}

/// What the rules and guards together say, before `overdue`.
struct Weighed {
    verdict: Verdict,
    by: By,
    due: Option<Timestamp>,
    charges: Vec<Charge>,
    /// The first moment at which this may change.
    wakes: Option<Timestamp>,
    /// Whether no answer to what is unknown could turn this into an approval.
    certain: bool,
}

impl Policy {
    /// What this policy says of this request now. The same arguments give the same decision.
    pub fn decide(
        &self,
        request: &ContactRequest,
        circumstances: &Circumstances,
        book: &Book,
        now: Timestamp,
    ) -> Decision {
        let facts = Facts::new(request, circumstances, book, now);
        self.decide_among(&facts, self.index.offer(&facts, self.rules.len()))
    }

    /// The same without the index, asking every rule: the oracle that [`Policy::decide`] is tested and measured against.
    #[doc(hidden)]
    pub fn decide_naive(
        &self,
        request: &ContactRequest,
        circumstances: &Circumstances,
        book: &Book,
        now: Timestamp,
    ) -> Decision {
        let facts = Facts::new(request, circumstances, book, now);
        self.decide_among(&facts, (0..self.rules.len() as u32).collect())
    }

    fn decide_among(&self, facts: &Facts<'_>, offered: Vec<u32>) -> Decision {
        let handle = match (before_rules(facts), facts.handle) {
            (None, Some(handle)) => handle,
            (by, _) => return self.undecided(by.unwrap_or(By::Guard(GuardKind::HandleNotPlain))),
        };
        let mut heard = Vec::new();
        let mut wakes = None;
        for rule in offered.into_iter().filter_map(|id| self.rules.get(id as usize)) {
            let (told, unknown) = hear(rule, facts);
            if !rule.shadow {
                wakes = earlier(wakes, told.flips);
            }
            if told.truth != Truth::False {
                heard.push(Heard { rule, told, unknown });
            }
        }
        heard.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));

        let weighed = self.weigh(&heard, handle, wakes, facts);
        let mut decision = Decision {
            voices: heard.into_iter().map(Voice::from).collect(),
            due: weighed.due,
            reconsider_at: weighed.wakes,
            charges: weighed.charges,
            ..Decision::new(weighed.verdict, weighed.by, self.hash.clone(), self.mode)
        };
        self.guard_approvals(&mut decision, facts);
        if decision.overdue_may_act() {
            let fate = overdue::judge(&self.overdue, weighed.certain, facts);
            decision.notify = fate.notify;
            decision.reconsider_at = earlier(decision.reconsider_at, fate.wakes);
            if let Some(name) = fate.reject {
                decision.verdict = Verdict::Reject;
                decision.by = By::Overdue(name);
            }
        }
        if !facts.clock_is_sound() {
            decision.reconsider_at = None;
        }
        if decision.voices.iter().any(|voice| voice.truth == Truth::Unknown) {
            decision.doubts = facts.book.history.doubts.about(handle.owner(), &self.history_needs(), facts.now);
        }
        decision
    }

    fn undecided(&self, by: By) -> Decision {
        Decision::new(Verdict::Defer, by, self.hash.clone(), self.mode)
    }

    /// Puts the voices together. `heard` is in alphabetical order.
    fn weigh(&self, heard: &[Heard<'_>], handle: &Handle, wakes: Option<Timestamp>, facts: &Facts<'_>) -> Weighed {
        let loud = || heard.iter().filter(|one| !one.rule.shadow);
        let matching = |then: Verdict| loud().filter(move |one| one.rule.then == then && one.told.truth == Truth::True);
        let approving = || loud().filter(|one| one.rule.then == Verdict::Approve);
        let mut weighed = Weighed {
            verdict: Verdict::Defer,
            by: By::NoMatch,
            due: None,
            charges: Vec::new(),
            wakes,
            certain: approving().next().is_none(),
        };

        if let Some(reject) = matching(Verdict::Reject).next() {
            weighed.verdict = Verdict::Reject;
            weighed.by = By::Rule(reject.rule.name.clone());
            if matching(Verdict::Reject).any(|one| one.told.flips.is_none()) {
                weighed.wakes = None;
            }
            return weighed;
        }
        if matching(Verdict::Defer).next().is_some() {
            weighed.certain = true;
        }

        let mut votes: Vec<By> = Vec::new();
        for one in loud().filter(|one| one.rule.then != Verdict::Approve) {
            votes.push(By::Rule(one.rule.name.clone()));
        }
        let mut wait = SignedDuration::ZERO;
        for one in approving() {
            if let Some(limit) = &one.rule.limit {
                let used = judge_limit(one.rule, limit, handle, facts);
                if used.full {
                    votes.push(By::Limit(one.rule.name.clone()));
                    weighed.wakes = earlier(weighed.wakes, used.frees);
                    let counted = facts.clock_is_sound() && used.count >= limit.quota.count as usize;
                    weighed.certain |= counted && one.told.truth == Truth::True;
                } else {
                    weighed.charges.extend(one.rule.charge(handle));
                }
            }
            if wait_is_unknown(one.rule, facts) {
                votes.push(By::Rule(one.rule.name.clone()));
            }
            wait = wait.max(one.rule.wait.unwrap_or_default());
        }
        let due = after(facts.circumstances.first_seen, wait);
        let waiting = wait > SignedDuration::ZERO && due > facts.now;
        if waiting {
            weighed.wakes = earlier(weighed.wakes, Some(due));
        }

        let guarded = self.look_alike(handle, facts).is_some()
            && !matching(Verdict::Approve).any(|one| names_literally(one.rule, handle));
        if guarded {
            // Only a rule that turns out to match could lift the guard.
            weighed.certain |= !approving().any(|one| one.told.truth == Truth::Unknown);
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
            weighed.charges = Vec::new();
        }
        weighed
    }

    /// `approvals_max`: one approval too many pauses; one that cannot be counted waits.
    fn guard_approvals(&self, decision: &mut Decision, facts: &Facts<'_>) {
        let Some(quota) = self.approvals_max else { return };
        if decision.verdict != Verdict::Approve || decision.due.is_some() {
            return;
        }
        let by = if !facts.clock_is_sound() {
            By::Error(ErrorKind::Clock)
        } else if approvals_spent(quota, facts.book, &facts.request.id, facts.now) {
            decision.pauses = true;
            By::Paused
        } else if !facts.book.counts_approvals(quota.per, facts.now) {
            By::Error(ErrorKind::Ledger)
        } else {
            return;
        };
        decision.verdict = Verdict::Defer;
        decision.by = by;
        decision.charges = Vec::new();
        decision.reconsider_at = None;
    }

    /// Whom the sender looks like, if anybody who is protected.
    pub(crate) fn look_alike(&self, handle: &Handle, facts: &Facts<'_>) -> Option<LookAlike> {
        let check = |alikes: &LookAlikes| {
            if alikes.is_empty() { None } else { alikes.check(handle, facts.name().map(Forms::folded)) }
        };
        match self.index.lookalikes() {
            Some(alikes) => check(alikes),
            None => check(&LookAlikes::build(&self.protect)),
        }
    }
}

/// What is said before any rule is asked: paused, then a hold, then the guard for handles.
pub(crate) fn before_rules(facts: &Facts<'_>) -> Option<By> {
    if facts.book.paused() {
        return Some(By::Paused);
    }
    if let Some(person) = facts.book.hold_of(&facts.request.id) {
        return Some(By::Hold(person.clone()));
    }
    facts.handle.is_none().then_some(By::Guard(GuardKind::HandleNotPlain))
}

/// What a rule says, and the key of what made it unknown. A `wait` that cannot be measured makes its rule unknown.
pub(crate) fn hear(rule: &Rule, facts: &Facts<'_>) -> (Told, Option<&'static str>) {
    let told = conditions::rule(rule, facts);
    match told.truth {
        Truth::True if wait_is_unknown(rule, facts) => (Told { truth: Truth::Unknown, ..told }, Some("wait")),
        Truth::Unknown => (told, conditions::first_unknown(rule, facts)),
        Truth::True | Truth::False => (told, None),
    }
}

/// Whether the rule has a `wait` whose end is unknown, because the clock is unsound.
pub(crate) fn wait_is_unknown(rule: &Rule, facts: &Facts<'_>) -> bool {
    rule.then == Verdict::Approve && rule.wait.is_some() && !facts.clock_is_sound()
}

/// Whether the operator named this sender in the rule, by a literal handle or owner: in `handle`, `owner` or a list.
pub(crate) fn names_literally(rule: &Rule, handle: &Handle) -> bool {
    let When::Table(table) = &rule.when else { return false };
    table.conditions.iter().any(|condition| condition.0.names(handle))
}

/// How a rule's limit stands for this request: full where the clock is unsound, and never because of the request itself.
pub(crate) fn judge_limit(rule: &Rule, limit: &Limit, handle: &Handle, facts: &Facts<'_>) -> Used {
    let used = facts.book.used(&rule.name, limit, handle, &facts.request.id, facts.now);
    if facts.clock_is_sound() { used } else { Used { full: true, frees: None, ..used } }
}

/// Whether `approvals_max` allows no further approval, this request's own aside.
fn approvals_spent(quota: Quota, book: &Book, request: &RequestId, now: Timestamp) -> bool {
    book.approvals_within(quota.per, request, now) >= quota.count as usize
}

impl From<Heard<'_>> for Voice {
    fn from(heard: Heard<'_>) -> Self {
        Voice {
            rule: heard.rule.name.clone(),
            then: heard.rule.then,
            truth: heard.told.truth,
            shadow: heard.rule.shadow,
            unknown: heard.unknown.map(Into::into),
        }
    }
}

impl Decision {
    /// Whether an `overdue` rule may act on a request that is left pending by this: not where it is pending because of
    /// an error, a guard for handles, a hold, a pause or shadow.
    pub(crate) fn overdue_may_act(&self) -> bool {
        let by_policy = match &self.by {
            By::Rule(_) | By::Limit(_) | By::NoMatch | By::Guard(GuardKind::LookAlike) => true,
            By::Guard(GuardKind::HandleNotPlain)
            | By::Hold(_)
            | By::Paused
            | By::Error(_)
            | By::Overdue(_)
            | By::Person(_) => false,
        };
        by_policy && self.verdict == Verdict::Defer && self.mode == Mode::Enforce
    }
}
