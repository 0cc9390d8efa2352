//! Whether one table of conditions holds wherever another does. It may miss that; it never says so wrongly.

use crate::model::Handle;
use crate::policy::rules::{Condition, HandleGlob, HistoryConditions, Pattern, PatternSet, SenderKind, Table};

/// Comparisons that one file may cost; beyond it nothing is found any more.
pub(crate) const BUDGET: u32 = 2_000_000;

/// A sender or a group of them, as a condition names it.
#[derive(Clone, Copy)]
enum Group<'a> {
    Handle(&'a Handle),
    AgentsOf(&'a str),
    Slug(&'a str),
    Glob(&'a HandleGlob),
    /// The user and all their agents.
    Owner(&'a str),
}

/// Whether every condition of `broad` holds wherever all of `narrow` do.
pub(crate) fn covers(broad: &Table, narrow: &Table, budget: &mut u32) -> bool {
    broad.conditions.iter().all(|wide| narrow.conditions.iter().any(|one| implies(one, wide, budget)))
}

fn implies(narrow: &Condition, broad: &Condition, budget: &mut u32) -> bool {
    if !spend(budget) {
        return false;
    }
    let texts = |one: &[Pattern], of: &[Pattern]| one.iter().all(|one| of.iter().any(|of| of.text == one.text));
    match (narrow, broad) {
        (Condition::Kind(one), Condition::Kind(other)) => one == other,
        (Condition::HandleRegex(one), Condition::HandleRegex(other))
        | (Condition::NameRegex(one), Condition::NameRegex(other))
        | (Condition::MessageRegex(one), Condition::MessageRegex(other)) => texts(one, other),
        (Condition::Name(one), Condition::Name(other)) => {
            one.iter().all(|one| other.iter().any(|other| other.folded == one.folded))
        }
        (Condition::MessageContains(one), Condition::MessageContains(other)) => {
            one.iter().all(|one| other.iter().any(|other| one.folded.contains(&*other.folded)))
        }
        (Condition::MessageAbsent(one), Condition::MessageAbsent(other)) => one == other,
        (
            Condition::MessageContains(_) | Condition::MessageRegex(_) | Condition::MessageLongerThan(_),
            Condition::MessageAbsent(false),
        ) => true,
        (Condition::MessageLongerThan(one), Condition::MessageLongerThan(other)) => one >= other,
        (Condition::Window(one), Condition::Window(other)) => {
            one.iter().all(|one| other.iter().any(|other| other.name == one.name))
        }
        (Condition::AgeOver(one), Condition::AgeOver(other)) => one >= other,
        (Condition::ContactsOver(one), Condition::ContactsOver(other)) => one >= other,
        (Condition::History(one), Condition::History(other)) => history(one, other),
        (Condition::List(one), Condition::List(other))
            if one.iter().all(|one| other.iter().any(|other| std::sync::Arc::ptr_eq(one, other))) =>
        {
            true
        }
        (narrow, broad) => groups(narrow).is_some_and(|mut groups| {
            let mut some = false;
            groups.all(|group| {
                some = true;
                spend(budget) && holds_all(broad, group)
            }) && some
        }),
    }
}

fn spend(budget: &mut u32) -> bool {
    *budget = budget.saturating_sub(1);
    *budget > 0
}

fn history(narrow: &HistoryConditions, broad: &HistoryConditions) -> bool {
    let within = |one: Option<jiff::SignedDuration>, of: Option<jiff::SignedDuration>| {
        of.is_none_or(|of| one.is_some_and(|one| one <= of))
    };
    broad.approved_before.is_none_or(|before| narrow.approved_before == Some(before))
        && within(narrow.rejected_within, broad.rejected_within)
        && within(narrow.removed_within, broad.removed_within)
        && broad
            .requests_over
            .is_none_or(|of| narrow.requests_over.is_some_and(|one| one.per <= of.per && one.count >= of.count))
}

/// The groups that a condition on the handle names; `None` for other conditions.
fn groups(condition: &Condition) -> Option<Box<dyn Iterator<Item = Group<'_>> + '_>> {
    match condition {
        Condition::Handle(set) => Some(Box::new(of_set(set))),
        Condition::List(lists) => Some(Box::new(lists.iter().flat_map(|list| of_set(&list.patterns)))),
        Condition::Owner(owners) => Some(Box::new(owners.iter().map(|owner| Group::Owner(owner)))),
        Condition::Slug(slugs) => Some(Box::new(slugs.iter().map(|slug| Group::Slug(slug)))),
        _ => None,
    }
}

fn of_set(set: &PatternSet) -> impl Iterator<Item = Group<'_>> {
    let literals = set.literals.iter().map(Group::Handle);
    let agents = set.agents_of.iter().map(|owner| Group::AgentsOf(owner));
    let slugs = set.slugs.iter().map(|slug| Group::Slug(slug));
    literals.chain(agents).chain(slugs).chain(set.globs.iter().map(Group::Glob))
}

/// Whether a condition holds for all of a group.
fn holds_all(condition: &Condition, group: Group<'_>) -> bool {
    match condition {
        Condition::Handle(set) => set_holds_all(set, group),
        Condition::List(lists) => lists.iter().any(|list| set_holds_all(&list.patterns, group)),
        Condition::Owner(owners) => {
            let owner = match group {
                Group::Handle(handle) => Some(handle.owner()),
                Group::AgentsOf(owner) | Group::Owner(owner) => Some(owner),
                Group::Glob(glob) => glob.literal_owner.as_deref(),
                Group::Slug(_) => None,
            };
            owner.is_some_and(|owner| owners.iter().any(|one| **one == *owner))
        }
        Condition::Slug(slugs) => {
            let slug = match group {
                Group::Handle(handle) => handle.slug(),
                Group::Slug(slug) => Some(slug),
                Group::AgentsOf(_) | Group::Owner(_) | Group::Glob(_) => None,
            };
            slug.is_some_and(|slug| slugs.iter().any(|one| **one == *slug))
        }
        Condition::Kind(kind) => {
            let agents = match group {
                Group::Handle(handle) => Some(handle.slug().is_some()),
                Group::AgentsOf(_) | Group::Slug(_) => Some(true),
                Group::Glob(glob) => Some(glob.text.contains('/')),
                Group::Owner(_) => None,
            };
            agents.is_some_and(|agents| (*kind == SenderKind::Agent) == agents)
        }
        Condition::HandleRegex(patterns) => match group {
            Group::Handle(handle) => patterns.iter().any(|pattern| pattern.regex.is_match(handle.as_str())),
            _ => false,
        },
        _ => false,
    }
}

fn set_holds_all(set: &PatternSet, group: Group<'_>) -> bool {
    match group {
        Group::Handle(handle) => set.contains(handle),
        Group::AgentsOf(owner) => set.agents_of.contains(owner),
        Group::Slug(slug) => set.slugs.contains(slug),
        Group::Glob(glob) => {
            set.glob_texts.contains(&glob.text)
                || glob.literal_owner.as_ref().is_some_and(|owner| set.agents_of.contains(owner))
        }
        Group::Owner(owner) => {
            set.agents_of.contains(owner) && Handle::parse(owner).is_ok_and(|user| set.literals.contains(&user))
        }
    }
}
