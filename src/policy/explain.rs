//! The reasons behind a decision, as a tree: each rule and each condition with what it wanted and what it saw.
//!
//! Computed with the same functions that decide, so that both always agree. Strangers' text in here is
//! escaped and cut already.

mod render;
pub(crate) mod values;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ask;
use super::conditions::Explained;
use super::evaluate::conditions::{self, Evaluation};
use super::evaluate::inputs::Inputs;
use super::evaluate::{self, before_rules, hear, judge_limit, needs_clock};
use super::rules::{OverdueThen, Policy, Rule, Table, When};
use super::{By, Circumstances, Decision, GuardKind, Mode, PolicyState, Truth, overdue};
use crate::model::{ContactRequest, Verdict};

/// The complete explanation; serialises to the output of `explain --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// Who or what gave it.
    pub by: By,
    /// The policy's complete hash.
    pub policy: String,
    /// Approved, but not before this.
    pub due: Option<Timestamp>,
    /// Approved for this many seconds: then the contact is removed.
    #[serde(rename = "for_s", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub lasts: Option<SignedDuration>,
    /// What was checked, in order: the checks before the rules, every rule, then limits and `overdue` rules that had an
    /// effect.
    pub reasons: Vec<Reason>,
    /// The sender, for people.
    #[serde(skip)]
    sender: String,
    /// The moment of the decision, for people.
    #[serde(skip)]
    at: Timestamp,
    /// When it would be decided again, for people.
    #[serde(skip)]
    reconsider_at: Option<Timestamp>,
    /// Whether the policy is in shadow.
    #[serde(skip)]
    mode: Mode,
}

/// One rule, or one check before or after the rules, named as in `by`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The rule's name; `guard:…`, `limit:…`, `overdue:…`, `hold:…` or `paused` otherwise.
    pub rule: String,
    /// `approve`, `reject` or `defer`; `notify` for `overdue`.
    pub then: &'static str,
    /// `None`: unknown.
    pub matched: Option<bool>,
    /// Whether it is in shadow.
    pub shadow: bool,
    /// Its conditions.
    pub conditions: Vec<ConditionResult>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionResult {
    /// `when` or `unless[0]`, `unless[1]`, …
    #[serde(rename = "in")]
    pub place: String,
    /// Its key.
    pub key: &'static str,
    /// The values in the rules file.
    pub wanted: String,
    /// The values of the request.
    pub saw: String,
    /// `None`: unknown.
    pub holds: Option<bool>,
}

fn seconds<S: serde::Serializer>(length: &Option<SignedDuration>, to: S) -> Result<S::Ok, S::Error> {
    length.map(|length| length.as_secs()).serialize(to)
}

/// Decides, and says why. Agrees with [`Policy::decide`] in verdict, `by`, due and matched rules. `zone`: where the reader is, for
/// the times in the texts; without it they are in UTC, for machines.
pub fn explain(
    policy: &Policy,
    request: &ContactRequest,
    circumstances: &Circumstances,
    policy_state: &PolicyState,
    now: Timestamp,
    zone: Option<&TimeZone>,
) -> Explanation {
    let decision = policy.decide(request, circumstances, policy_state, now);
    let inputs = policy.inputs(request, circumstances, policy_state, now).read_in(zone);
    let mut reasons = Vec::new();
    reasons.extend(before(policy, &inputs));
    let mut rules: Vec<&Rule> = policy.rules.iter().collect();
    rules.sort_by(|one, other| one.name.cmp(&other.name));
    reasons.extend(rules.iter().map(|rule| of_rule(rule, &inputs)));
    reasons.extend(rules.iter().filter_map(|rule| of_limit(rule, &decision, &inputs)));
    reasons.extend(rules.iter().filter_map(|rule| of_ask(rule, &decision, &inputs)));
    reasons.extend(of_approvals_max(policy, &decision));
    reasons.extend(of_overdue(policy, &decision, &inputs));
    Explanation {
        verdict: decision.verdict,
        by: decision.by.clone(),
        policy: policy.hash.as_str().to_owned(),
        due: decision.due,
        lasts: decision.lasts,
        reasons,
        sender: values::sender(request),
        at: now,
        reconsider_at: decision.reconsider_at,
        mode: decision.mode,
    }
}

/// The pause, the hold, the guards.
fn before(policy: &Policy, inputs: &Inputs<'_>) -> Vec<Reason> {
    let said = |by: &By, key, wanted: &str, saw: String| Reason {
        rule: by.to_string(),
        then: Verdict::Defer.as_str(),
        matched: Some(true),
        shadow: false,
        conditions: vec![when(key, wanted.to_owned(), saw, Evaluation::TRUE)],
    };
    let mut reasons = Vec::new();
    match before_rules(inputs) {
        Some(by @ By::Paused) => {
            reasons.push(said(&by, "paused", "the agent is paused", "paused until `doorman resume`".to_owned()));
        }
        Some(by @ By::Hold(_)) => {
            reasons.push(said(&by, "hold", "a person put it on hold", "on hold until a person answers".to_owned()));
        }
        _ => {}
    }
    match inputs.handle {
        None => {
            let by = By::Guard(GuardKind::HandleNotPlain);
            reasons.push(said(&by, "handle", "a handle that is absent or malformed", values::handle(inputs)));
        }
        Some(handle) => {
            if let Some(alike) = policy.look_alike(handle, inputs) {
                let exempt = policy.rules.iter().find(|rule| {
                    rule.then == Verdict::Approve
                        && !rule.shadow
                        && hear(rule, inputs).0.truth == Truth::True
                        && evaluate::names_literally(rule, handle)
                });
                let what = if alike.by_name { "the name" } else { "the owner" };
                let mut saw = format!("{what} of {} looks like `{}`", values::sender(inputs.request), alike.owner);
                if let Some(rule) = exempt {
                    saw.push_str(&format!(", and rule `{}` names this sender", rule.name));
                }
                let wanted = "looks like an owner in `protect`, and is not named in a matching approve rule";
                let mut reason = said(&By::Guard(GuardKind::LookAlike), "protect", wanted, saw);
                reason.matched = Some(exempt.is_none());
                reason.conditions[0].holds = reason.matched;
                reasons.push(reason);
            }
        }
    }
    reasons
}

fn of_rule(rule: &Rule, inputs: &Inputs<'_>) -> Reason {
    let (evaluation, _) = hear(rule, inputs);
    let mut conditions = Vec::new();
    match &rule.when {
        When::Everyone => {
            conditions.push(when("everyone", "everyone".to_owned(), values::sender(inputs.request), Evaluation::TRUE));
        }
        When::Table(table) => of_table("when", table, inputs, &mut conditions),
    }
    if let Some(end) = values::until(rule, inputs) {
        conditions.push(when("until", end, values::now(inputs), conditions::until(rule, inputs)));
    }
    if needs_clock(rule, inputs).is_some() {
        for (key, length) in [("wait", rule.wait), ("for", rule.lasts)] {
            let unknown = |length| when(key, values::duration(length), values::CLOCK.to_owned(), Evaluation::UNKNOWN);
            conditions.extend(length.map(unknown));
        }
    }
    for (at, unless) in rule.unless.iter().enumerate() {
        of_table(&format!("unless[{at}]"), unless, inputs, &mut conditions);
    }
    Reason {
        rule: rule.name.as_str().to_owned(),
        then: rule.then.as_str(),
        matched: evaluation.truth.known(),
        shadow: rule.shadow,
        conditions,
    }
}

/// A limit whose rule matched or may have matched, and that is used up.
fn of_limit(rule: &Rule, decision: &Decision, inputs: &Inputs<'_>) -> Option<Reason> {
    let (limit, handle) = (rule.limit.as_ref()?, inputs.handle?);
    if rule.shadow || rule.then != Verdict::Approve || hear(rule, inputs).0.truth == Truth::False {
        return None;
    }
    let used = judge_limit(rule, limit, handle, inputs);
    used.full.then(|| Reason {
        rule: By::Limit(rule.name.clone()).to_string(),
        then: if decision.by == By::Limit(rule.name.clone()) { decision.verdict } else { Verdict::Defer }.as_str(),
        matched: Some(true),
        shadow: false,
        conditions: vec![when(
            "limit",
            values::limit(limit),
            values::used(limit, &used, handle, inputs),
            Evaluation::TRUE,
        )],
    })
}

/// The decider's verdict about a request that this rule defers, or that the decider will be asked.
fn of_ask(rule: &Rule, decision: &Decision, inputs: &Inputs<'_>) -> Option<Reason> {
    let ask = rule.ask.as_ref()?;
    if rule.shadow || hear(rule, inputs).0.truth != Truth::True {
        return None;
    }
    let question = ask::question(rule, inputs.request);
    let word = question.as_ref().and_then(|question| inputs.policy_state.word_on(&inputs.request.id, question));
    let may = match (ask.reject, ask.approve) {
        (false, false) => "its reply is advice",
        (true, false) => "it may reject",
        (false, true) => "it may approve",
        (true, true) => "it may reject and approve",
    };
    let (saw, evaluation) = match word {
        Some(word) => (word.in_words(), Evaluation::fact(decision.by == By::Ask(rule.name.clone()))),
        None if question.is_none() => {
            ("not asked: its text is too long to be shown whole".to_owned(), Evaluation::FALSE)
        }
        None if decision.asks.is_some() => ("no reply yet".to_owned(), Evaluation::UNKNOWN),
        None => ("not asked: something else keeps the request waiting, or decides it".to_owned(), Evaluation::FALSE),
    };
    Some(Reason {
        rule: By::Ask(rule.name.clone()).to_string(),
        then: word.map_or(Verdict::Defer, |word| word.verdict).as_str(),
        matched: evaluation.truth.known(),
        shadow: false,
        conditions: vec![when("ask", format!("{} ({may})", ask.decider), saw, evaluation)],
    })
}

fn of_approvals_max(policy: &Policy, decision: &Decision) -> Option<Reason> {
    let quota = policy.approvals_max.filter(|_| decision.pauses)?;
    Some(Reason {
        rule: By::Paused.to_string(),
        then: Verdict::Defer.as_str(),
        matched: Some(true),
        shadow: false,
        conditions: vec![when(
            "approvals_max",
            values::quota(quota),
            "one approval more than that: the agent pauses".to_owned(),
            Evaluation::TRUE,
        )],
    })
}

/// The `overdue` rules that act on this request now.
fn of_overdue(policy: &Policy, decision: &Decision, inputs: &Inputs<'_>) -> Vec<Reason> {
    let acts = |one: &&super::rules::Overdue| {
        decision.by == By::Overdue(one.name.clone()) || decision.notify.as_ref() == Some(&one.name)
    };
    policy
        .overdue
        .iter()
        .filter(acts)
        .map(|one| {
            let evaluation = overdue::evaluate(one, inputs);
            let mut conditions =
                vec![when("after", values::duration(one.after), values::pending_for(inputs), evaluation.reached)];
            for (at, unless) in one.unless.iter().enumerate() {
                of_table(&format!("unless[{at}]"), unless, inputs, &mut conditions);
            }
            Reason {
                rule: By::Overdue(one.name.clone()).to_string(),
                then: match one.then {
                    OverdueThen::Notify => "notify",
                    OverdueThen::Reject => Verdict::Reject.as_str(),
                },
                matched: Some(true),
                shadow: false,
                conditions,
            }
        })
        .collect()
}

fn of_table(place: &str, table: &Table, inputs: &Inputs<'_>, out: &mut Vec<ConditionResult>) {
    for explained in table.conditions.iter().flat_map(|condition| condition.0.explain(inputs)) {
        let Explained { key, wanted, saw, evaluation } = explained;
        out.push(ConditionResult { place: place.to_owned(), key, wanted, saw, holds: evaluation.truth.known() });
    }
}

fn when(key: &'static str, wanted: String, saw: String, evaluation: Evaluation) -> ConditionResult {
    ConditionResult { place: "when".to_owned(), key, wanted, saw, holds: evaluation.truth.known() }
}

#[cfg(test)]
mod tests;
