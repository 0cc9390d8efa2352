//! Approve rules that can never approve, for other reasons than one rule that overrides them: the guard defers all
//! senders that they mean, conditions contradict each other, or several rules together override them. It may miss a
//! rule, but never names one wrongly.

use super::LintedRule;
use crate::document::Problems;
use crate::model::{Handle, Verdict};
use crate::policy::conditions::compared::{BUDGET, never_meet, undone_together};
use crate::policy::conditions::{HandleRegex, HistoryCondition};
use crate::policy::lookalike::LookAlikes;
use crate::policy::regexes::beginnings;
use crate::policy::rules::{Policy, Table, When};

/// Why a rule can never take effect, and what to do.
struct NeverTakesEffect {
    why: String,
    help: &'static str,
}

/// Warns about approve rules that can never approve.
pub(super) fn approve(policy: &Policy, rules: &[LintedRule<'_>], problems: &mut Problems) {
    let mut budget = BUDGET;
    for one in rules.iter().filter(|one| one.rule.then == Verdict::Approve) {
        let When::Table(table) = &one.rule.when else { continue };
        let guard = || guarded(policy.index.lookalikes()?, table);
        let never = contradicts(table, &mut budget).or_else(guard);
        if let Some(NeverTakesEffect { why, help }) = never {
            problems
                .warning(one.name, format!("the approve rule `{}` can never take effect", one.rule.name))
                .label(why)
                .help(help);
        }
    }
}

/// The rules that together undo this one wherever it matches, each for some of the senders that it names.
pub(super) fn together<'a>(
    blockers: &[&LintedRule<'a>],
    approve: &LintedRule<'_>,
    budget: &mut u32,
) -> Option<Vec<&'a str>> {
    let When::Table(narrow) = &approve.rule.when else { return None };
    let tables = blockers.iter().filter_map(|one| match &one.rule.when {
        When::Table(table) => Some(table),
        When::Everyone => None,
    });
    let tables: Vec<&Table> = tables.collect();
    let which = undone_together(&tables, narrow, budget)?;
    let named = blockers.iter().filter(|one| matches!(one.rule.when, When::Table(_)));
    let names: Vec<&str> = named.map(|one| one.rule.name.as_str()).collect();
    Some(which.into_iter().filter_map(|at| names.get(at).copied()).collect())
}

/// Whether all senders that the rule lets in look like somebody in `protect`, and it names none of them literally.
fn guarded(alikes: &LookAlikes, table: &Table) -> Option<NeverTakesEffect> {
    if table.conditions.iter().any(|condition| condition.0.groups().is_some()) {
        return None;
    }
    let owners =
        table.conditions.iter().filter_map(|condition| condition.downcast::<HandleRegex>()).find_map(owners)?;
    let alike = owners.iter().map(|owner| alikes.check(owner, None)).collect::<Option<Vec<_>>>()?;
    let (first, like) = owners.first().zip(alike.first())?;
    Some(NeverTakesEffect {
        why: format!("`{}` looks like `{}` in `protect`", first.owner(), like.owner),
        help: "whom a rule names by `handle`, `owner` or `list` is exempt: name them so, or take them out of `protect`",
    })
}

/// The owners whose handles the expressions fit, if these are a few.
fn owners(condition: &HandleRegex) -> Option<Vec<Handle>> {
    let mut owners = Vec::new();
    for pattern in &condition.0 {
        for text in beginnings(&pattern.text)?.iter() {
            let (owner, _) = text.split_once('/')?;
            owners.push(Handle::parse(owner).ok()?);
        }
    }
    Some(owners)
}

/// Whether two conditions of the table never hold together.
fn contradicts(table: &Table, budget: &mut u32) -> Option<NeverTakesEffect> {
    let history = table.conditions.iter().find_map(|condition| condition.downcast::<HistoryCondition>());
    if history.is_some_and(|history| history.approved_before == Some(false) && history.approved_over.is_some()) {
        return Some(NeverTakesEffect {
            why: "whoever was not `approved_before` was not approved more often than that".to_owned(),
            help: "keys in one table must all hold; write two rules if either is enough",
        });
    }
    let pairs = table.conditions.iter().enumerate();
    let apart = pairs.flat_map(|(at, one)| table.conditions.iter().skip(at + 1).map(move |other| (one, other)));
    for (one, other) in apart {
        if never_meet(one, other, budget) {
            let keys = (one.0.key().name, other.0.key().name);
            return Some(NeverTakesEffect {
                why: format!("nobody fits both its `{}` and its `{}`", keys.0, keys.1),
                help: "keys in one table must all hold; write two rules if either is enough",
            });
        }
    }
    None
}
