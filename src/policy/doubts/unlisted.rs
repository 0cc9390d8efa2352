//! Requests that were pending when they were last seen, and that nothing has shown since: they may have ended unseen.
//!
//! Bound: as many as the inbox and the record hold for pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::RequestId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unlisted {
    by_id: BTreeMap<RequestId, (Arc<str>, Timestamp)>,
    /// `None` is before all of an owner's.
    by_owner: BTreeSet<(Arc<str>, Option<RequestId>)>,
}

impl Unlisted {
    /// This owner's request was not seen since then. Returns whether that is new.
    pub(super) fn insert(&mut self, owner: &str, id: &RequestId, since: Timestamp) -> bool {
        if self.by_id.contains_key(id) {
            return false;
        }
        let owner: Arc<str> = owner.into();
        self.by_owner.insert((owner.clone(), Some(id.clone())));
        self.by_id.insert(id.clone(), (owner, since));
        true
    }

    /// It was seen, or its end is known: returns its owner.
    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Arc<str>> {
        let (owner, _) = self.by_id.remove(id)?;
        self.by_owner.remove(&(owner.clone(), Some(id.clone())));
        Some(owner)
    }

    /// The first request of this owner, and since when it was not seen.
    pub(super) fn of(&self, owner: &str) -> Option<(&RequestId, Timestamp)> {
        let owner: Arc<str> = owner.into();
        let (of, id) = self.by_owner.range((owner.clone(), None)..).next()?;
        let id = id.as_ref().filter(|_| *of == owner)?;
        self.by_id.get(id).map(|(_, since)| (id, *since))
    }

    /// The owners of all these requests; an owner may appear more than once.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_owner.iter().map(|(owner, _)| owner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
