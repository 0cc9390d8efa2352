//! Who has a handle: the ids that payloads show, if they show any.
//!
//! A handle may be given to somebody else once it is free. The first id for a name is believed. Another id for the same
//! name makes it unknown whether the holder is the one that was let in, until a person settles it. The owner's id
//! counts more than the agent's: an owner who deletes an agent and makes it again is the same owner.
//!
//! Names and ids are kept as 64 bits of a digest. Bound: [`IDS_MAX`] pairs; beyond them a new name is not watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Basis;
use crate::model::{Handle, SenderId, SenderIds};

/// Most pairs of a name and an id.
pub(crate) const IDS_MAX: usize = 500_000;
/// Most ids in doubt at once for the names of one owner.
const DOUBTED_MAX: usize = 16;

/// A name, and an id that a payload showed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenIdentity {
    /// An owner (`john`), or the handle of an agent (`john/bot`).
    pub name: Arc<str>,
    /// The id of its holder.
    pub id: SenderId,
    /// Another id was known for this name, and no person said since whose it is.
    pub doubted: bool,
}

/// A name of an owner that somebody else may have by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubted {
    pub(super) since: Timestamp,
    pub(super) basis: Basis,
    pairs: Vec<(u64, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Identities {
    /// Believed: the name, and the id.
    known: BTreeSet<(u64, u64)>,
    doubted: BTreeMap<Arc<str>, Doubted>,
}

/// A name, and the id of its holder by a payload.
type NameClaim<'a> = (&'a str, &'a SenderId);

/// How a pair compares with what is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdentityMatch {
    /// No id was known for this name.
    First,
    Same,
    Other,
}

fn digest(text: &str) -> u64 {
    Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The names whose ids a payload shows. A user's own id is the id of an owner.
fn names<'a>(handle: &'a Handle, ids: &'a SenderIds) -> (Option<NameClaim<'a>>, Option<NameClaim<'a>>) {
    let own = ids.sender.as_ref().filter(|_| handle.slug().is_none());
    let owner = ids.owner.as_ref().or(own).map(|id| (handle.owner(), id));
    let agent = ids.sender.as_ref().filter(|_| handle.slug().is_some()).map(|id| (handle.as_str(), id));
    (owner, agent)
}

impl Identities {
    fn compare(&self, name: &str, id: &SenderId) -> IdentityMatch {
        let (name, id) = (digest(name), digest(id.as_str()));
        if self.known.contains(&(name, id)) {
            IdentityMatch::Same
        } else if self.known.range((name, 0)..=(name, u64::MAX)).next().is_some() {
            IdentityMatch::Other
        } else {
            IdentityMatch::First
        }
    }

    /// A payload shows who has this handle: returns what is new, and whether the owner's name is now in doubt.
    pub(super) fn identity_seen(
        &mut self,
        handle: &Handle,
        ids: &SenderIds,
        basis: Basis,
        now: Timestamp,
    ) -> (Vec<SeenIdentity>, bool) {
        let (owner, agent) = names(handle, ids);
        let of_owner = owner.map(|(name, id)| self.compare(name, id));
        let mut new = Vec::new();
        let mut begins = false;
        for ((name, id), is_agent) in owner.map(|one| (one, false)).into_iter().chain(agent.map(|one| (one, true))) {
            let found = self.compare(name, id);
            // The same owner made the agent again.
            let vouched = is_agent && of_owner == Some(IdentityMatch::Same);
            let doubted = found == IdentityMatch::Other && !vouched;
            if found == IdentityMatch::Same || !self.take(handle.owner(), name, id, doubted, &basis, now) {
                continue;
            }
            begins |= doubted;
            new.push(SeenIdentity { name: name.into(), id: id.clone(), doubted });
        }
        (new, begins)
    }

    /// Takes over what the record knows about a name.
    pub(super) fn on_record(&mut self, owner: &str, identity: &SeenIdentity, basis: Basis, at: Timestamp) {
        self.take(owner, &identity.name, &identity.id, identity.doubted, &basis, at);
    }

    /// Returns whether it is new.
    fn take(&mut self, owner: &str, name: &str, id: &SenderId, doubted: bool, basis: &Basis, at: Timestamp) -> bool {
        let pair = (digest(name), digest(id.as_str()));
        if !doubted {
            return self.known.len() < IDS_MAX && self.known.insert(pair);
        }
        let known = self.doubted.entry(owner.into()).or_insert_with(|| Doubted {
            since: at,
            basis: basis.clone(),
            pairs: Vec::new(),
        });
        let new = known.pairs.len() < DOUBTED_MAX && !known.pairs.contains(&pair);
        if new {
            known.pairs.push(pair);
        }
        new
    }

    /// A person says that this owner's names still belong to the owner. Returns whether that was in doubt.
    pub(super) fn vouched(&mut self, owner: &str) -> bool {
        let Some(doubted) = self.doubted.remove(owner) else { return false };
        self.known.extend(doubted.pairs);
        true
    }

    pub(super) fn of(&self, owner: &str) -> Option<&Doubted> {
        self.doubted.get(owner)
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        self.doubted.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RequestId;
    use crate::policy::testkit::noon;

    fn tell(known: &mut Identities, handle: &str, sender: &str, owner: &str) -> bool {
        let id = |text: &str| SenderId::parse(text).ok();
        let ids = SenderIds { sender: id(sender), owner: id(owner) };
        let basis = Basis::OtherSender(RequestId::parse("r").unwrap());
        known.identity_seen(&Handle::parse(handle).unwrap(), &ids, basis, noon()).1
    }

    #[test]
    fn another_id_for_a_name_is_a_doubt_about_its_owner_until_a_person_says() {
        let mut known = Identities::default();
        assert!(!tell(&mut known, "carol", "c1", "") && !tell(&mut known, "carol", "c1", ""));
        assert!(!tell(&mut known, "carol", "", ""), "what is not identity is no difference");
        assert!(!tell(&mut known, "carol/bot", "b1", "c1") && known.of("carol").is_none());
        assert!(tell(&mut known, "carol", "m1", ""));
        assert!(!tell(&mut known, "carol", "m1", ""), "said once");
        assert!(known.of("carol").is_some() && known.of("carolin").is_none());
        assert!(known.vouched("carol") && !known.vouched("carol"));
        assert!(!tell(&mut known, "carol", "m1", "") && !tell(&mut known, "carol", "c1", ""));
        assert!(tell(&mut known, "carol", "m2", ""));
    }

    #[test]
    fn an_owner_is_known_by_the_id_of_any_agent_of_theirs() {
        let mut known = Identities::default();
        assert!(!tell(&mut known, "acme/bot", "b1", "a1"));
        assert!(!tell(&mut known, "acme/bot", "b2", "a1"), "the same owner made it again");
        assert!(!tell(&mut known, "acme/bot", "b2", ""), "and that is remembered");
        assert!(tell(&mut known, "acme/bot", "b3", ""), "whose is not known");
        assert!(known.vouched("acme"));
        assert!(tell(&mut known, "acme/other", "o1", "m1"), "another owner's agent");
        assert!(known.vouched("acme") && tell(&mut known, "acme", "m2", ""), "and a user is an owner");
    }
}
