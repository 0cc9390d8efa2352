//! Compares conditions: whether one table holds wherever another does. It may miss this, but never claims it wrongly.

use crate::model::{Handle, HandleRef};
use crate::policy::rules::{HandleGlob, PatternSet, RegexPattern, Rule, Table, When};

use super::Condition;

/// Most comparisons for one file; beyond that, nothing more is found.
pub(crate) const BUDGET: u32 = 2_000_000;

/// A sender or a group of them, as a condition names it.
#[derive(Clone, Copy)]
pub(crate) enum SenderGroup<'a> {
    Handle(HandleRef<'a>),
    AgentsOf(&'a str),
    Slug(&'a str),
    Glob(&'a HandleGlob),
    /// The user and all their agents.
    Owner(&'a str),
}

impl<'a> SenderGroup<'a> {
    /// The groups that handle patterns name.
    pub(super) fn of(set: &'a PatternSet) -> impl Iterator<Item = SenderGroup<'a>> {
        let literals = set.literals.iter().map(SenderGroup::Handle);
        let agents = set.agents_of.iter().map(|owner| SenderGroup::AgentsOf(owner));
        let slugs = set.slugs.iter().map(|slug| SenderGroup::Slug(slug));
        literals.chain(agents).chain(slugs).chain(set.globs.iter().map(SenderGroup::Glob))
    }

    /// The owner of all of them, if there is only one.
    pub(super) fn owner(self) -> Option<&'a str> {
        match self {
            SenderGroup::Handle(handle) => Some(handle.owner()),
            SenderGroup::AgentsOf(owner) | SenderGroup::Owner(owner) => Some(owner),
            SenderGroup::Glob(glob) => glob.literal_owner.as_deref(),
            SenderGroup::Slug(_) => None,
        }
    }

    /// Whether they are all agents (`true`) or all users (`false`).
    pub(super) fn only_agents(self) -> Option<bool> {
        match self {
            SenderGroup::Handle(handle) => Some(handle.slug().is_some()),
            SenderGroup::AgentsOf(_) | SenderGroup::Slug(_) => Some(true),
            SenderGroup::Glob(glob) => Some(glob.text.contains('/')),
            SenderGroup::Owner(_) => None,
        }
    }
}

/// Whether every condition of `broad` holds wherever all of `narrow` do.
pub(crate) fn covers(broad: &Table, narrow: &Table, budget: &mut u32) -> bool {
    broad.conditions.iter().all(|wide| narrow.conditions.iter().any(|one| implies(one, wide, budget)))
}

fn implies(narrow: &Condition, broad: &Condition, budget: &mut u32) -> bool {
    if !spend(budget) {
        return false;
    }
    if broad.0.follows_from(narrow, budget) {
        return true;
    }
    narrow.0.groups().is_some_and(|mut groups| {
        let mut some = false;
        groups.all(|group| {
            some = true;
            spend(budget) && broad.0.holds_for_all(group)
        }) && some
    })
}

/// Whether these tables together (and not one alone) undo every sender that `narrow` names; returns which ones.
pub(crate) fn undone_together(tables: &[&Table], narrow: &Table, budget: &mut u32) -> Option<Vec<usize>> {
    let naming = narrow.conditions.iter().filter_map(|condition| condition.0.groups());
    for groups in naming {
        let mut all = std::collections::BTreeSet::new();
        let undone = |group: SenderGroup<'_>, budget: &mut u32| {
            tables.iter().position(|table| {
                table.conditions.iter().all(|wide| {
                    spend(budget)
                        && (wide.0.holds_for_all(group)
                            || narrow.conditions.iter().any(|one| implies(one, wide, budget)))
                })
            })
        };
        let mut some = false;
        let whole = { groups }.all(|group| {
            some = true;
            undone(group, budget).map(|at| all.insert(at)).is_some()
        });
        if whole && some {
            return Some(all.into_iter().collect());
        }
    }
    None
}

/// Whether no sender fits both conditions, by the senders that both name.
pub(crate) fn never_meet(one: &Condition, other: &Condition, budget: &mut u32) -> bool {
    let (Some(ones), Some(_)) = (one.0.groups(), other.0.groups()) else { return false };
    let mut some = false;
    { ones }.all(|group| {
        some = true;
        other.0.groups().is_some_and(|mut others| others.all(|other| spend(budget) && apart(group, other)))
    }) && some
}

/// Whether no sender is in both groups.
fn apart(one: SenderGroup<'_>, other: SenderGroup<'_>) -> bool {
    let owners = one.owner().zip(other.owner());
    let kinds = one.only_agents().zip(other.only_agents());
    let apart = |(one, other): (SenderGroup<'_>, SenderGroup<'_>)| match (one, other) {
        (SenderGroup::Handle(one), SenderGroup::Handle(other)) => one != other,
        (SenderGroup::Handle(handle), SenderGroup::Slug(slug)) => handle.slug() != Some(slug),
        (SenderGroup::Handle(handle), SenderGroup::Glob(glob)) => !glob.matcher.is_match(handle.as_str()),
        (SenderGroup::Slug(one), SenderGroup::Slug(other)) => one != other,
        _ => false,
    };
    owners.is_some_and(|(one, other)| one != other)
        || kinds.is_some_and(|(one, other)| one != other)
        || apart((one, other))
        || apart((other, one))
}

fn spend(budget: &mut u32) -> bool {
    *budget = budget.saturating_sub(1);
    *budget > 0
}

/// Whether a set of patterns fits every sender of a group.
pub(super) fn patterns_imply(set: &PatternSet, group: SenderGroup<'_>) -> bool {
    match group {
        SenderGroup::Handle(handle) => set.fits(handle),
        SenderGroup::AgentsOf(owner) => set.agents_of.contains(owner),
        SenderGroup::Slug(slug) => set.slugs.contains(slug),
        SenderGroup::Glob(glob) => {
            set.glob_texts.contains(&glob.text)
                || glob.literal_owner.as_ref().is_some_and(|owner| set.agents_of.contains(owner))
        }
        SenderGroup::Owner(owner) => {
            set.agents_of.contains(owner) && Handle::parse(owner).is_ok_and(|user| set.literals.contains(user.view()))
        }
    }
}

/// Whether each of the narrow expressions is one of the broad ones.
pub(super) fn regexes_follow(narrow: &[RegexPattern], broad: &[RegexPattern]) -> bool {
    narrow.iter().all(|one| broad.iter().any(|of| of.text == one.text))
}

/// A name and its values, sorted so that the order in the file does not matter.
pub(super) fn sorted<'a>(name: &str, texts: impl Iterator<Item = &'a str>) -> String {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.dedup();
    format!("{name} {texts:?}")
}

/// A rule without its name, as a text that is the same for rules that mean the same.
pub(crate) fn canonical(rule: &Rule) -> String {
    let when = match &rule.when {
        When::Everyone => "everyone".to_owned(),
        When::Table(of) => canonical_table(of),
    };
    let mut unless: Vec<_> = rule.unless.iter().map(canonical_table).collect();
    unless.sort_unstable();
    let Rule { then, limit, wait, lasts, until, shadow, ask, .. } = rule;
    format!("{then} {when} {unless:?} {limit:?} {wait:?} {lasts:?} {until:?} {shadow} {ask:?}")
}

fn canonical_table(table: &Table) -> String {
    let mut all: Vec<_> = table.conditions.iter().map(|condition| condition.0.canonical()).collect();
    all.sort_unstable();
    format!("{all:?}")
}
