//! Warnings about what is allowed but looks like a mistake. Some need only the file; others need the time and facts
//! from the ledger, and `doorman check` asks for those.

mod context;
mod never;

use std::collections::{BTreeSet, HashMap, HashSet};

pub(crate) use context::RuleHistory;
pub use context::{LintContext, lint};

use super::conditions::compared::{BUDGET, canonical, covers};
use super::decision::{By, Circumstances, ClockHealth, Truth};
use super::evaluate::conditions;
use super::evaluate::inputs::Inputs;
use super::raw::{Named, RawFile, RawRule};
use super::rules::{Condition, Policy, Rule, When};
use super::state::PolicyState;
use super::tests_runner::TestResult;
use crate::document::{Problems, shown};
use crate::model::{ContactRequest, RequestId, Sender, Verdict};
use crate::policy::rules::{LimitBy, Quota};

/// A rule as compiled and as written.
#[derive(Clone, Copy)]
struct LintedRule<'a> {
    rule: &'a Rule,
    raw: &'a RawRule,
    name: &'a std::ops::Range<usize>,
}

/// Warns about all that the file alone shows.
pub(crate) fn of_file(
    policy: &Policy,
    raw: &RawFile,
    used: &BTreeSet<(&'static str, String)>,
    results: &[TestResult],
    problems: &mut Problems,
) {
    let rules = both(policy, raw);
    covered(&rules, problems);
    never::approve(policy, &rules, problems);
    twins(&rules, problems);
    untested(&rules, results, problems);
    uncharged(policy, raw, problems);
    for one in &rules {
        rejects_everyone(*one, problems);
        above_global(*one, policy.approvals_max, problems);
        quota_for_all(*one, problems);
    }
    unused("list", raw.lists.iter().map(|list| &list.name), used, problems);
    unused("window", raw.windows.iter().map(|window| &window.name), used, problems);
}

fn both<'a>(policy: &'a Policy, raw: &'a RawFile) -> Vec<LintedRule<'a>> {
    let written: HashMap<&str, &Named<RawRule>> = raw.rules.iter().map(|one| (one.name.value.as_str(), one)).collect();
    let pair = |rule: &'a Rule| {
        let named = written.get(rule.name.as_str())?;
        Some(LintedRule { rule, raw: named.value.as_ref()?, name: &named.name.span })
    };
    policy.rules.iter().filter_map(pair).collect()
}

/// Approve rules that a reject or defer rule undoes wherever they match.
fn covered(rules: &[LintedRule<'_>], problems: &mut Problems) {
    let blocks = |one: &&LintedRule<'_>| {
        one.rule.then != Verdict::Approve && !one.rule.shadow && one.rule.unless.is_empty() && !bars_everyone(one.rule)
    };
    let blockers: Vec<_> = rules.iter().filter(blocks).collect();
    let mut budget = BUDGET;
    for approve in rules.iter().filter(|one| one.rule.then == Verdict::Approve) {
        if budget == 0 {
            break;
        }
        let outlived = |blocker: &Rule| match (blocker.until, approve.rule.until) {
            (None, _) => true,
            (Some(end), Some(other)) => end >= other,
            (Some(_), None) => false,
        };
        let over = blockers.iter().find(|blocker| {
            outlived(blocker.rule)
                && match (&blocker.rule.when, &approve.rule.when) {
                    (When::Everyone, _) => true,
                    (When::Table(_), When::Everyone) => false,
                    (When::Table(broad), When::Table(narrow)) => covers(broad, narrow, &mut budget),
                }
        });
        let several = match over {
            Some(_) => None,
            None => {
                let outlive: Vec<_> = blockers.iter().copied().filter(|blocker| outlived(blocker.rule)).collect();
                never::together(&outlive, approve, &mut budget)
            }
        };
        if let Some(rules) = several {
            let rules: Vec<String> = rules.iter().map(|name| format!("`{name}`")).collect();
            problems
                .warning(approve.name, format!("the approve rule `{}` can never take effect", approve.rule.name))
                .label(format!("{} together undo it wherever it matches", rules.join(" and ")))
                .help("reject beats defer, and defer beats approve: make an exception in one of them with `unless`");
        }
        if let Some(over) = over {
            let (name, by, then) = (&approve.rule.name, &over.rule.name, over.rule.then);
            problems
                .warning(approve.name, format!("the approve rule `{name}` can never take effect"))
                .label(format!("`{by}` says {then} wherever it matches"))
                .help(format!(
                    "reject beats defer, and defer beats approve: make an exception in `{by}` with `unless`"
                ));
        }
    }
}

fn bars_everyone(rule: &Rule) -> bool {
    rule.then == Verdict::Reject && matches!(rule.when, When::Everyone)
}

fn rejects_everyone(one: LintedRule<'_>, problems: &mut Problems) {
    if bars_everyone(one.rule) && one.rule.unless.is_empty() && !one.rule.shadow {
        problems
            .warning(
                one.raw.when.as_ref().map_or(one.name, |when| &when.span),
                format!("the rule `{}` rejects everyone", one.rule.name),
            )
            .label("no approve rule can take effect beside it")
            .help("to reject the requests that no rule matches, write `no_match = \"reject\"` in `[policy]`");
    }
}

/// Rules with the same verdict and the same conditions.
fn twins(rules: &[LintedRule<'_>], problems: &mut Problems) {
    let mut seen: HashMap<String, &LintedRule<'_>> = HashMap::new();
    for one in rules {
        match seen.entry(canonical(one.rule)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                problems
                    .warning(
                        one.name,
                        format!("the rule `{}` is the same as `{}`", one.rule.name, first.get().rule.name),
                    )
                    .help("remove one of them");
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(one);
            }
        }
    }
}

/// Rules that matched in none of the file's tests.
fn untested(rules: &[LintedRule<'_>], results: &[TestResult], problems: &mut Problems) {
    let mut spoke = HashSet::new();
    for result in results {
        let voices = result.got.rule_results.iter().filter(|voice| voice.truth == Truth::True);
        spoke.extend(voices.map(|voice| voice.rule.clone()));
        if let By::Rule(name) | By::Limit(name) = &result.got.by {
            spoke.insert(name.clone());
        }
    }
    for one in rules.iter().filter(|one| !spoke.contains(&one.rule.name)) {
        let name = &one.rule.name;
        problems
            .warning(one.name, format!("the rule `{name}` has no test"))
            .label("no test has a request that it matches")
            .help(format!("add `[tests.{name}]` with a `request` that it matches, and what you `expect`"));
    }
}

/// Approvals in the history of a test that name no rule, although a rule with a limit would have given them.
fn uncharged(policy: &Policy, raw: &RawFile, problems: &mut Problems) {
    let limited: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.limit.is_some() && !rule.shadow).collect();
    let state = PolicyState::default();
    for test in raw.tests.iter().filter_map(|test| test.value.as_ref()) {
        for past in test.history.iter().filter(|past| past.verdict.value == Verdict::Approve && past.by.is_none()) {
            let Ok(id) = RequestId::parse("history") else { return };
            let sender = Sender::parse(Some(&past.from_handle));
            let request =
                ContactRequest { id, sender, name: None, message: None, inserted_at: Some(test.at), ids: None };
            let circumstances = Circumstances::new(test.at, ClockHealth::Sound);
            let inputs = Inputs::new(&request, &circumstances, &state, test.at);
            let rule = limited.iter().find(|rule| may_have_approved(rule, &inputs));
            if let Some(rule) = rule {
                problems
                    .warning(&past.span, format!("this approval does not count for the limit of `{}`", rule.name))
                    .label("without `by`, a person gave it")
                    .help(format!("add `by = \"{}\"`, or `by` another rule that gave it", rule.name));
            }
        }
    }
}

/// Whether the rule may have approved this sender, whatever the message was and whenever it came.
fn may_have_approved(rule: &Rule, inputs: &Inputs<'_>) -> bool {
    let When::Table(table) = &rule.when else { return true };
    // A row of history says nothing of these.
    let left_open =
        |key: &str| key.starts_with("message") || key.starts_with("name") || matches!(key, "window" | "age_over");
    let holds = |one: &Condition| left_open(one.0.key().name) || one.0.evaluate(inputs).truth != Truth::False;
    table.conditions.iter().all(holds)
        && !rule.unless.iter().any(|unless| conditions::table(unless, inputs).truth == Truth::True)
}

/// Limits that let more through in the time of `approvals_max` than it allows.
fn above_global(one: LintedRule<'_>, global: Option<Quota>, problems: &mut Problems) {
    let (Some(global), Some(limit), Some(written)) = (global, one.rule.limit, &one.raw.limit) else { return };
    let quota = limit.quota;
    if quota.per > global.per {
        return;
    }
    let times = global.per.as_nanos() / quota.per.as_nanos().max(1);
    if i128::from(quota.count).saturating_mul(times) > i128::from(global.count) {
        problems
            .warning(&written.span, format!("the limit of `{}` is above `approvals_max`", one.rule.name))
            .label("the agent pauses before this limit is reached")
            .help("lower the limit, or raise `approvals_max`");
    }
}

/// A quota that everybody shares and that rejects: strangers can use it up for others.
fn quota_for_all(one: LintedRule<'_>, problems: &mut Problems) {
    let (Some(limit), Some(written)) = (one.rule.limit, &one.raw.limit) else { return };
    if limit.then == Verdict::Reject && limit.by == LimitBy::Rule {
        problems
            .warning(
                &written.span,
                format!("strangers can use up the limit of `{}`, and others are rejected", one.rule.name),
            )
            .label("counted for everybody together")
            .help("count by `owner` or `handle`, or let the limit defer");
    }
}

fn unused<'a>(
    kind: &'static str,
    names: impl Iterator<Item = &'a crate::document::WithSpan<String>>,
    used: &BTreeSet<(&'static str, String)>,
    problems: &mut Problems,
) {
    for name in names.filter(|name| !used.contains(&(kind, name.value.clone()))) {
        problems
            .warning(&name.span, format!("no rule uses the {kind} `{}`", shown(&name.value)))
            .help(format!("write `{kind} = \"{}\"` in a rule, or remove it", shown(&name.value)));
    }
}
