//! Warnings that need more than the file: the time, and what the ledger remembers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::both;
use crate::diagnostics::{Report, Severity};
use crate::document::{Problems, WithSpan, nearest, shown};
use crate::policy::compile::include::{Gathered, gather};
use crate::policy::load::{LoadedPolicy, text_of};
use crate::policy::raw::{RawCondition, RawConditions, RawFile, RawWhen};
use crate::policy::rules::{Policy, RuleName};

/// A rule that does not match, or is in shadow, for longer than this gets a warning.
const LONG: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Facts that are not in the file.
#[derive(Debug, Clone, Default)]
pub struct LintContext {
    /// The time; without it, there are no warnings about time.
    pub now: Option<Timestamp>,
    /// How long the ledger keeps what `history` asks for.
    pub keep: Option<SignedDuration>,
    /// The names and ids of the agents of doorman.toml, if that was read.
    pub agents: Option<Vec<String>>,
    /// The names of the deciders of doorman.toml, if that was read.
    pub deciders: Option<Vec<String>>,
    /// What the ledger remembers about rules, by name; a missing rule gets no warning.
    pub rules: BTreeMap<RuleName, RuleHistory>,
}

/// What the ledger remembers of one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleHistory {
    /// Since when it is in force.
    pub since: Option<Timestamp>,
    /// In force as a shadow rule, without a break, since.
    pub shadow_since: Option<Timestamp>,
    /// When it matched last.
    pub matched: Option<Timestamp>,
}

/// Adds the warnings that these facts give rise to. Without a policy there is nothing to add.
pub fn lint(loaded: &mut LoadedPolicy, context: &LintContext) {
    let Some(policy) = loaded.policy.clone() else { return };
    let Some(text) = policy.texts.first() else { return };
    let mut report = Report::default();
    report.add_source(&policy.path, text.text.clone());
    let mut problems = Problems::new(report);
    // The texts that were loaded, which the loader's report has in the same order.
    let read = |name: &str| text_of(&policy.texts, name);
    let Some(Gathered { raw, .. }) = gather(&policy.path, &text.text, &read, &mut problems) else { return };
    of_time(&policy, &raw, context, &mut problems);
    if let Some(agents) = &context.agents {
        for condition in all_conditions(&raw).filter(|condition| condition.key == "agents") {
            for name in condition.texts().into_iter().flatten() {
                unknown_agent(name, agents, &mut problems);
            }
        }
    }
    if let Some(deciders) = &context.deciders {
        for ask in raw.rules.iter().filter_map(|rule| rule.value.as_ref()?.ask.as_ref()) {
            if !deciders.contains(&ask.value) {
                let near = nearest(&ask.value, deciders.iter().map(String::as_str)).map(str::to_owned);
                let message = format!("doorman.toml has no decider `{}`", shown(&ask.value));
                problems.warning(&ask.span, message).label("nobody is asked").help(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "add `[deciders.NAME]` to doorman.toml".to_owned(),
                });
            }
        }
    }
    if let Some(keep) = context.keep {
        for condition in all_conditions(&raw) {
            too_far_back(condition, keep, &mut problems);
        }
    }
    let found = problems.finish().problems.into_iter().filter(|problem| problem.severity == Severity::Warning);
    loaded.report.problems.extend(found);
    loaded.report.sort();
}

fn of_time(policy: &Policy, raw: &RawFile, context: &LintContext, problems: &mut Problems) {
    let Some(now) = context.now else { return };
    for one in both(policy, raw) {
        let (rule, name) = (one.rule, &one.rule.name);
        if let (Some(end), Some(written)) = (rule.until, &one.raw.until)
            && end <= now
        {
            problems
                .warning(&written.span, format!("the rule `{name}` has ended"))
                .label("this is past")
                .help("remove the rule, or give it a later end");
            continue;
        }
        let Some(known) = context.rules.get(name) else { continue };
        let long_ago = |at: Option<Timestamp>| at.is_some_and(|at| now.duration_since(at) > LONG);
        if let (true, true, Some(shadow)) = (rule.shadow, long_ago(known.shadow_since), &one.raw.shadow) {
            problems
                .warning(&shadow.span, format!("the rule `{name}` has been in shadow for more than 30 days"))
                .help("`doorman history` shows what it would have done: let it count, or remove it");
        } else if long_ago(known.since) && (known.matched.is_none() || long_ago(known.matched)) {
            problems
                .warning(one.name, format!("nothing matched the rule `{name}` in 30 days"))
                .help("is it still needed, and does it say what it should?");
        }
    }
}

fn all_conditions(raw: &RawFile) -> impl Iterator<Item = &RawCondition> {
    let rules = raw.rules.iter().filter_map(|rule| rule.value.as_ref());
    let tables = rules.flat_map(|rule| {
        let when: Option<&RawConditions> = match rule.when.as_ref().map(|when| &when.value) {
            Some(RawWhen::Table(table)) => Some(table),
            Some(RawWhen::Everyone) | None => None,
        };
        when.into_iter().chain(&rule.unless)
    });
    let overdue = raw.overdue.iter().filter_map(|one| one.value.as_ref()).flat_map(|one| &one.unless);
    tables.chain(overdue).flat_map(|table| &table.conditions)
}

fn unknown_agent(name: &WithSpan<String>, agents: &[String], problems: &mut Problems) {
    if agents.contains(&name.value) {
        return;
    }
    let near = nearest(&name.value, agents.iter().map(String::as_str)).map(str::to_owned);
    let diagnostic = problems.warning(&name.span, format!("doorman.toml has no agent `{}`", shown(&name.value)));
    diagnostic.label("this names nobody").help(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "give the agent this `name` in `[[agents]]`, or write its id".to_owned(),
    });
}

fn too_far_back(condition: &RawCondition, keep: SignedDuration, problems: &mut Problems) {
    let reaches = condition.table().into_iter().flat_map(|table| &table.0).filter_map(reach);
    if reaches.into_iter().any(|reach| reach > keep) {
        let kept = crate::document::in_words(keep);
        problems
            .warning(&condition.span, "`history` reaches further back than the ledger keeps")
            .label(format!("the ledger keeps {kept}"))
            .help("shorten it, or raise `keep` in `[ledger]` of doorman.toml");
    }
}

/// How far back one key of `history` looks, if that has an end.
fn reach(key: &RawCondition) -> Option<SignedDuration> {
    key.duration().or_else(|| key.table().and_then(|quota| quota.quota()).map(|quota| quota.per))
}
