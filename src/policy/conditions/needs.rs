//! Which remembered or listed facts a policy's conditions need, for any request.

use std::sync::Arc;

use crate::policy::history::HistoryNeeds;
use crate::policy::rules::{List, Policy, When};

use super::Condition;

/// Collects what the conditions of one policy need.
#[derive(Debug, Default)]
pub(crate) struct Needs<'a> {
    pub(crate) history: HistoryNeeds,
    /// The numbers of contacts that conditions compare with.
    pub(crate) contact_counts: Vec<u64>,
    /// Whether some condition asks who is a contact now.
    pub(crate) contacts: bool,
    /// The agents that rules name.
    pub(crate) agents: Vec<&'a str>,
    /// The lists that rules use.
    pub(crate) lists: Vec<&'a List>,
}

impl<'a> Needs<'a> {
    pub(super) fn lists(&mut self, lists: &'a [Arc<List>]) {
        self.lists.extend(lists.iter().map(|list| &**list));
    }
}

impl Policy {
    /// The conditions of all rules and of all `overdue` entries, in no order.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let when = self.rules.iter().filter_map(|rule| match &rule.when {
            When::Table(table) => Some(table),
            When::Everyone => None,
        });
        let unless = self.rules.iter().flat_map(|rule| &rule.unless);
        let overdue = self.overdue.iter().flat_map(|overdue| &overdue.unless);
        when.chain(unless).chain(overdue).flat_map(|table| &table.conditions)
    }

    /// What all of them need.
    pub(crate) fn needs(&self) -> Needs<'_> {
        let mut needs = Needs::default();
        self.conditions().for_each(|condition| condition.0.needs(&mut needs));
        needs
    }

    /// Whether some condition asks who is a contact now.
    pub fn asks_contacts(&self) -> bool {
        self.needs().contacts
    }

    /// The agents that `agents` names.
    pub fn agents(&self) -> Vec<&str> {
        self.needs().agents
    }

    /// The numbers of contacts that `contacts_over` names, in order, each once.
    pub fn contact_counts(&self) -> Vec<u64> {
        let mut counts = self.needs().contact_counts;
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}
