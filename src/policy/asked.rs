//! What a policy asks about at all, whoever knocks.

use super::rules::{Condition, Policy, When};

impl Policy {
    /// The conditions of all rules and of what happens to what stays pending, in no order.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let when = self.rules.iter().filter_map(|rule| match &rule.when {
            When::Table(table) => Some(table),
            When::Everyone => None,
        });
        let unless = self.rules.iter().flat_map(|rule| &rule.unless);
        let overdue = self.overdue.iter().flat_map(|overdue| &overdue.unless);
        when.chain(unless).chain(overdue).flat_map(|table| &table.conditions)
    }

    /// The numbers of contacts that `contacts_over` names, in order, each once.
    pub fn contact_counts(&self) -> Vec<u64> {
        let counts = self.conditions().filter_map(|condition| match condition {
            Condition::ContactsOver(count) => Some(*count),
            _ => None,
        });
        let mut counts: Vec<u64> = counts.collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}
