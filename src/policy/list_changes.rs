//! Which lists the rules of a policy use, and what changed in them from one policy to the next.

use std::collections::{BTreeMap, HashMap};

use super::conditions::Needs;
use super::rules::{List, Policy, Table, When};
use crate::model::Verdict;

/// A list that rules use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsedList<'p> {
    pub(crate) list: &'p List,
    /// Whether its entries keep somebody out: it is used in an `unless`, or where something is rejected.
    pub(crate) restricts: bool,
    /// Whether it is used anywhere but in `when` of an approve rule.
    pub(crate) elsewhere: bool,
}

/// What changed in one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListChange {
    /// Its name.
    pub name: String,
    /// Entries that are new.
    pub added: usize,
    /// Entries that are gone.
    pub removed: usize,
    /// How many there are now.
    pub entries: usize,
}

/// The lists that the rules of a policy use, by name.
pub(crate) fn used(policy: &Policy) -> HashMap<&str, UsedList<'_>> {
    let mut all = HashMap::new();
    for rule in &policy.rules {
        if let When::Table(table) = &rule.when {
            add(&mut all, table, rule.then == Verdict::Reject, rule.then != Verdict::Approve);
        }
        rule.unless.iter().for_each(|table| add(&mut all, table, true, true));
    }
    for table in policy.overdue.iter().flat_map(|overdue| &overdue.unless) {
        add(&mut all, table, true, true);
    }
    all
}

fn add<'p>(all: &mut HashMap<&'p str, UsedList<'p>>, table: &'p Table, restricts: bool, elsewhere: bool) {
    let mut needs = Needs::default();
    table.conditions.iter().for_each(|condition| condition.0.needs(&mut needs));
    for list in needs.lists {
        let used = all.entry(list.name.as_str()).or_insert(UsedList { list, restricts: false, elsewhere: false });
        used.restricts |= restricts;
        used.elsewhere |= elsewhere;
    }
}

/// The changes in lists from `before` to `after`, by name. If rules began or stopped to use a list, it counts as added
/// or removed as a whole.
pub(crate) fn list_changes(before: &Policy, after: &Policy) -> Vec<ListChange> {
    let (before, after) = (used(before), used(after));
    let names: BTreeMap<&str, ()> = before.keys().chain(after.keys()).map(|name| (*name, ())).collect();
    let changes = names.into_keys().map(|name| {
        let (was, is) = (before.get(name).map(|used| used.list), after.get(name).map(|used| used.list));
        let len = |list: Option<&List>| list.map_or(0, |list| list.len);
        let (added, removed) = match (was, is) {
            (Some(was), Some(is)) => (is.patterns.missing_from(&was.patterns), was.patterns.missing_from(&is.patterns)),
            (was, is) => (len(is), len(was)),
        };
        ListChange { name: name.to_owned(), added, removed, entries: len(is) }
    });
    changes.filter(|change| change.added + change.removed > 0).collect()
}

/// Whether the rules of a policy use any list.
pub(crate) fn uses_lists(policy: &Policy) -> bool {
    !used(policy).is_empty()
}
