//! The contacts of each owner.
//!
//! A tree that grows at one end keeps its nodes half full, and an agent may have a hundred thousand contacts. So the tree
//! is built again, with full nodes, each time that a quarter of it was put in one by one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::ContactId;

/// With fewer new entries than this, the tree is not built again.
const LOOSE_MIN: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OwnerIndex {
    /// By owner, then contact. `None` comes before all contacts of an owner.
    entries: BTreeSet<(Arc<str>, Option<ContactId>)>,
    /// How many were put in since the tree was built.
    loose: usize,
}

impl OwnerIndex {
    /// The contacts of this owner, by id.
    pub(super) fn of(&self, owner: &str) -> impl Iterator<Item = &ContactId> {
        let owner: Arc<str> = owner.into();
        let from = self.entries.range((owner.clone(), None)..);
        from.take_while(move |(of, _)| *of == owner).filter_map(|(_, id)| id.as_ref())
    }

    /// This owner's name, which all contacts of an owner share.
    pub(super) fn shared(&self, owner: &str) -> Arc<str> {
        let owner: Arc<str> = owner.into();
        let known = self.entries.range((owner.clone(), None)..).next().map(|(known, _)| known.clone());
        known.filter(|known| *known == owner).unwrap_or(owner)
    }

    pub(super) fn insert(&mut self, owner: Arc<str>, id: ContactId) {
        self.loose += usize::from(self.entries.insert((owner, Some(id))));
        if self.loose >= LOOSE_MIN.max(self.entries.len() / 4) {
            self.build([]);
        }
    }

    /// Puts all of these in. Takes time in proportion to all that are known.
    pub(super) fn insert_all(&mut self, entries: Vec<(Arc<str>, ContactId)>) {
        self.build(entries);
    }

    pub(super) fn remove(&mut self, owner: Arc<str>, id: &ContactId) {
        self.entries.remove(&(owner, Some(id.clone())));
    }

    fn build(&mut self, more: impl IntoIterator<Item = (Arc<str>, ContactId)>) {
        let more = more.into_iter().map(|(owner, id)| (owner, Some(id)));
        self.entries = std::mem::take(&mut self.entries).into_iter().chain(more).collect();
        self.loose = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_whenever_the_tree_is_built_again() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut index, mut expected) = (OwnerIndex::default(), BTreeSet::new());
        let mut built = 0;
        for _ in 0..20 * LOOSE_MIN {
            let (owner, id) = (format!("owner-{}", rng.u32(..3)), format!("c{}", rng.u32(..8_000)));
            let contact = ContactId::parse(&id).unwrap();
            if rng.u32(..5) > 0 {
                let loose = index.loose;
                index.insert(owner.as_str().into(), contact);
                expected.insert((owner, id));
                built += usize::from(index.loose < loose);
                assert!(index.loose < LOOSE_MIN.max(index.entries.len() / 4), "no more than a quarter is loose");
            } else {
                index.remove(owner.as_str().into(), &contact);
                expected.remove(&(owner, id));
            }
        }
        index.insert_all(vec![("owner-9".into(), ContactId::parse("c1").unwrap())]);
        expected.insert(("owner-9".into(), "c1".into()));
        assert!(built > 3, "{built}");
        for owner in ["owner-0", "owner-1", "owner-2", "owner-9", "owner-"] {
            let of: Vec<&str> = index.of(owner).map(ContactId::as_str).collect();
            let theirs: Vec<&str> = expected.iter().filter(|(of, _)| of == owner).map(|(_, id)| id.as_str()).collect();
            assert_eq!(of, theirs, "{owner}");
        }
    }
}
