//! The owners for whom something changed, so that their resting requests are decided again.

use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct ChangedOwners {
    owners: BTreeSet<Arc<str>>,
    everybody: bool,
}

/// More owners than this that changed at once are called everybody.
const CHANGED_MAX: usize = 1_024;

impl ChangedOwners {
    pub(super) fn owner(&mut self, owner: &str) {
        if self.everybody || self.owners.contains(owner) {
            return;
        }
        if self.owners.len() >= CHANGED_MAX {
            self.everybody();
        } else {
            self.owners.insert(owner.into());
        }
    }

    pub(super) fn everybody(&mut self) {
        self.everybody = true;
        self.owners.clear();
    }
}

/// The owners whose facts changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AffectedOwners {
    /// Of these owners.
    Owners(BTreeSet<Arc<str>>),
    /// Perhaps of everybody.
    Everybody,
}

impl AffectedOwners {
    /// Whether this owner is one of them.
    pub fn contains(&self, owner: &str) -> bool {
        match self {
            AffectedOwners::Owners(owners) => owners.contains(owner),
            AffectedOwners::Everybody => true,
        }
    }
}

impl ChangedOwners {
    /// Empties it; `None` if nothing changed.
    pub(super) fn take(&mut self) -> Option<AffectedOwners> {
        let ChangedOwners { owners, everybody } = std::mem::take(self);
        match everybody {
            true => Some(AffectedOwners::Everybody),
            false => (!owners.is_empty()).then_some(AffectedOwners::Owners(owners)),
        }
    }
}
