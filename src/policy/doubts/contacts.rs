//! Who is a contact, and by which reading of the platform's list that is known.
//!
//! Each contact remembers every owner whose handle it ever had: a removal counts for all of them. A contact is in doubt
//! if the last reading that showed it began before the last moment at which the contacts were not watched. Readings are
//! numbered, so no clock is needed. Bound: [`OPEN_MAX`] contacts, [`OWNERS_MAX`] owners each.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use indexmap::map::Entry;
use jiff::Timestamp;

use super::owner_index::OwnerIndex;
use crate::model::{Contact, ContactId, Handle};

/// Most contacts that are kept.
pub(crate) const OPEN_MAX: usize = 100_000;
/// Room for so many of them is kept while there are fewer.
const OPEN_KEPT: usize = 64;
/// Most owners of one contact: the first, and the last ones.
const OWNERS_MAX: usize = 16;
/// Removed contacts whose owners are known, should they come again without a handle.
pub(super) const PARTED_MAX: usize = 256;

/// A contact that is open on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenContact {
    /// Its id.
    pub id: ContactId,
    /// Its last known handle.
    pub handle: Option<Handle>,
    /// Every owner that it ever had.
    pub owners: Vec<Arc<str>>,
    /// When it came to be, as the platform says, or as it was first seen.
    pub since: Timestamp,
    /// No answer of ours made it.
    pub elsewhere: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct OpenContacts {
    /// Boxed, so that the map is small. In no order, but in the same one each time.
    open: IndexMap<ContactId, Box<KnownContact>, DefaultHashBuilder>,
    owners: OwnerIndex,
    /// Those that never had a readable handle.
    nameless: BTreeSet<ContactId>,
    /// A contact that was last shown by an earlier reading than this one may have been removed since.
    floor: u64,
    /// Since when the contacts were not watched, if a reading with that number is still to come.
    unwatched: Timestamp,
    /// How many are in doubt: if none is, a question about an owner of many contacts looks at none of them.
    doubtful: usize,
    /// Some contact was not kept, because there was no room.
    crowded: bool,
    /// Removed lately, oldest first.
    parted: VecDeque<(ContactId, GoneContact)>,
}

#[derive(Debug)]
struct KnownContact {
    handle: Option<Handle>,
    owners: Vec<Arc<str>>,
    /// When it came to be, as the platform says, or as it was first seen.
    since: Timestamp,
    /// No answer of ours made it.
    elsewhere: bool,
    /// The last reading that showed it, or during which it came.
    seen: u64,
    /// The reading as of which it is known to exist: it was shown, or a person said so.
    proven: u64,
    /// An earlier reading than this is not enough, and since when.
    wanted: u64,
    wanted_since: Timestamp,
    /// The total weight of the readings in a row that missed it.
    missed: u8,
    /// Its handle could be read when it was last shown.
    readable: bool,
    /// One of several owners of whom a person said that nobody was removed, as of this reading.
    word: Option<Box<(Arc<str>, u64)>>,
}

impl KnownContact {
    /// Whether it may have gone unseen.
    fn is_doubtful(&self, floor: u64) -> bool {
        self.proven < floor.max(self.wanted)
    }

    /// The same for a question about this owner: a person's statement may be enough.
    fn is_doubtful_for(&self, owner: &str, floor: u64) -> bool {
        let word = self.word.as_ref().filter(|word| *word.0 == *owner).map_or(0, |word| word.1);
        self.proven.max(word) < floor.max(self.wanted)
    }
}

/// The result of adding a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddOutcome {
    /// It is new.
    New,
    /// It was known, without this owner.
    Renamed,
    /// It was known.
    Known,
    /// There is no room for it.
    NoRoom,
}

/// A contact that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct GoneContact {
    /// Its last known handle.
    pub(in crate::policy) handle: Option<Handle>,
    /// Every owner that it ever had.
    pub(in crate::policy) owners: Vec<Arc<str>>,
}

impl OpenContacts {
    /// Takes over what is open on record when a daemon starts: all of it is in doubt since the record's last line.
    pub(crate) fn on_record(&mut self, contacts: Vec<OpenContact>, since: Timestamp) {
        // Sorted once, rather than put in one by one.
        let mut of_owners = Vec::with_capacity(contacts.len());
        self.open.reserve(contacts.len().min(OPEN_MAX));
        for OpenContact { id, handle, owners, since: came, elsewhere } in contacts {
            if self.open.contains_key(&id) {
                continue;
            }
            if self.open.len() >= OPEN_MAX {
                self.crowded = true;
                break;
            }
            of_owners.extend(owners.iter().map(|owner| (owner.clone(), id.clone())));
            if owners.is_empty() {
                self.nameless.insert(id.clone());
            }
            let open = KnownContact {
                handle,
                owners,
                since: came,
                elsewhere,
                seen: 0,
                proven: 0,
                wanted: 0,
                wanted_since: since,
                missed: 0,
                readable: true,
                word: None,
            };
            self.open.insert(id, Box::new(open));
        }
        self.owners.insert_all(of_owners);
        self.unwatched(1, since);
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether some contact was not kept, because there was no room.
    pub(crate) fn crowded(&self) -> bool {
        self.crowded
    }

    /// The last reading that showed this contact.
    pub(crate) fn seen(&self, id: &ContactId) -> Option<u64> {
        self.open.get(id).map(|open| open.seen)
    }

    /// Whether this contact ever had a readable handle.
    pub(crate) fn has_owner(&self, id: &ContactId) -> bool {
        self.open.get(id).is_some_and(|open| !open.owners.is_empty())
    }

    /// Whether somebody of this very handle is a contact.
    pub(crate) fn has_handle(&self, handle: &Handle) -> bool {
        self.owners
            .of(handle.owner())
            .filter_map(|id| self.open.get(id))
            .any(|open| open.handle.as_ref() == Some(handle))
    }

    /// Whether this owner has a contact on record.
    pub fn has(&self, owner: &str) -> bool {
        self.owners.of(owner).next().is_some()
    }

    /// Whether somebody else let this very sender in since then.
    pub fn let_in_elsewhere(&self, sender: &Handle, since: Timestamp) -> bool {
        let theirs = |open: &KnownContact| {
            open.handle.as_ref() == Some(sender) && open.owners.first().is_some_and(|first| **first == *sender.owner())
        };
        let open = self.owners.of(sender.owner()).filter_map(|id| self.open.get(id));
        open.filter(|open| theirs(open)).any(|open| open.elsewhere && open.since >= since)
    }

    /// No answer of ours made this contact, and this is its first owner: returns when it was made.
    pub(super) fn made_elsewhere(&mut self, id: &ContactId, owner: &str) -> Option<Timestamp> {
        let open = self.open.get_mut(id)?;
        open.elsewhere = true;
        open.owners.first().filter(|first| ***first == *owner).map(|_| open.since)
    }

    /// The contacts were not watched from this moment on: only a reading with this number or a later one shows who is
    /// still there.
    pub fn unwatched(&mut self, reading: u64, since: Timestamp) {
        self.floor = self.floor.max(reading);
        self.unwatched = since;
        self.doubtful = self.open.values().filter(|open| open.is_doubtful(self.floor)).count();
    }

    /// Changes this contact, and updates the count of contacts in doubt.
    fn change(&mut self, id: &ContactId, change: impl FnOnce(&mut KnownContact, u64)) {
        let Some(open) = self.open.get_mut(id) else { return };
        self.doubtful -= usize::from(open.is_doubtful(self.floor));
        change(open, self.floor);
        self.doubtful += usize::from(open.is_doubtful(self.floor));
    }

    /// The contacts are not watched now, and somebody of this owner asks: only a reading with this number shows who is
    /// still there. Returns whether there is a contact to look for: an `unmet` owner may have any contact that never
    /// had a readable handle.
    pub(super) fn wanted(&mut self, owner: &str, unmet: bool, reading: u64, since: Timestamp) -> bool {
        let nameless = self.nameless.iter().filter(|_| unmet);
        let ids: Vec<ContactId> = self.owners.of(owner).chain(nameless).cloned().collect();
        for id in &ids {
            self.change(id, |open, floor| {
                if open.proven < reading {
                    if !open.is_doubtful(floor) {
                        open.wanted_since = since;
                    }
                    open.wanted = open.wanted.max(reading);
                }
            });
        }
        !ids.is_empty()
    }

    /// Whether somebody of this handle's owner is a contact, and whether this very handle is; `None` if that is in doubt.
    pub(crate) fn is_contact(&self, handle: &Handle) -> (Option<bool>, Option<bool>) {
        let none = self.tells_absence().then_some(false);
        let (mut owner, mut sender) = (none, none);
        for open in self.owners.of(handle.owner()).filter_map(|id| self.open.get(id)) {
            let known = open.readable && !open.is_doubtful(self.floor);
            let is = open.handle.as_ref();
            also(&mut owner, known.then(|| is.is_some_and(|is| is.owner() == handle.owner())));
            also(&mut sender, known.then(|| is == Some(handle)));
        }
        (owner, sender)
    }

    /// Whether a sender who is not among them is certainly no contact: none was left out, and every handle is readable.
    pub(crate) fn tells_absence(&self) -> bool {
        !self.crowded && self.nameless.is_empty()
    }

    /// A person says that nobody of this owner was removed up to now. Of a contact that had other owners too, that says nothing
    /// to those.
    pub(super) fn vouched(&mut self, owner: &str) {
        let ids: Vec<ContactId> = self.owners.of(owner).cloned().collect();
        for id in ids {
            self.change(&id, |open, floor| {
                let now = open.proven.max(floor).max(open.wanted);
                if open.owners.len() > 1 {
                    open.word = Some(Box::new((owner.into(), now)));
                } else {
                    open.proven = now;
                }
            });
        }
    }

    fn doubt<'a>(&self, id: &'a ContactId) -> Option<(&'a ContactId, Timestamp)> {
        let open = self.open.get(id).filter(|open| open.is_doubtful(self.floor))?;
        let since = if open.proven < self.floor { self.unwatched } else { open.wanted_since };
        Some((id, since))
    }

    /// A contact of this owner's that may have gone unseen, and since when.
    pub(super) fn in_doubt(&self, owner: &str) -> Option<(&ContactId, Timestamp)> {
        if self.doubtful == 0 {
            return None;
        }
        let vouched = |id: &ContactId| self.open.get(id).is_some_and(|open| !open.is_doubtful_for(owner, self.floor));
        self.owners.of(owner).filter(|id| !vouched(id)).find_map(|id| self.doubt(id))
    }

    /// The same for a contact that never had a readable handle.
    pub(super) fn nameless_in_doubt(&self) -> Option<(&ContactId, Timestamp)> {
        self.nameless.iter().filter(|_| self.doubtful > 0).find_map(|id| self.doubt(id))
    }

    /// The owners with such a contact.
    pub(super) fn doubtful(&self) -> impl Iterator<Item = &Arc<str>> {
        self.open
            .values()
            .filter(|open| open.is_doubtful(self.floor))
            .flat_map(|open| open.owners.iter().filter(|owner| open.is_doubtful_for(owner, self.floor)))
    }

    /// Whether there is any such contact.
    pub(crate) fn any_in_doubt(&self) -> bool {
        self.doubtful > 0
    }

    /// Whether a contact that came then or later never had a readable handle: it may be anybody's.
    pub(crate) fn nameless_since(&self, then: Timestamp) -> bool {
        self.nameless.iter().filter_map(|id| self.open.get(id)).any(|open| open.since >= then)
    }

    /// It exists, as of this reading. Also returns whether it was in doubt until now.
    pub(super) fn add(&mut self, contact: &Contact, reading: u64, now: Timestamp) -> (AddOutcome, bool) {
        let room = self.open.len() < OPEN_MAX;
        let handle = contact.sender.handle();
        match self.open.entry(contact.id.clone()) {
            Entry::Occupied(entry) => {
                let open = entry.into_mut();
                let was = open.is_doubtful(self.floor);
                let doubtful = was || open.readable != handle.is_some();
                open.readable = handle.is_some();
                (open.seen, open.missed) = (reading, 0);
                open.proven = open.proven.max(reading);
                self.doubtful = self.doubtful - usize::from(was) + usize::from(open.is_doubtful(self.floor));
                let Some(handle) = handle else { return (AddOutcome::Known, doubtful) };
                open.handle = Some(handle.clone());
                if open.owners.iter().any(|owner| **owner == *handle.owner()) {
                    return (AddOutcome::Known, doubtful);
                }
                if open.owners.len() >= OWNERS_MAX {
                    let second = open.owners.remove(1);
                    self.owners.remove(second, &contact.id);
                }
                let owner: Arc<str> = handle.owner().into();
                open.owners.push(owner.clone());
                self.owners.insert(owner, contact.id.clone());
                self.nameless.remove(&contact.id);
                (AddOutcome::Renamed, doubtful)
            }
            Entry::Vacant(_) if !room => {
                self.crowded = true;
                (AddOutcome::NoRoom, false)
            }
            Entry::Vacant(entry) => {
                // A handle that was once known for this id is kept.
                let before = match self.parted.iter().position(|(id, _)| *id == contact.id) {
                    Some(index) => self.parted.remove(index).map(|(_, gone)| gone),
                    None => None,
                };
                let before = before.filter(|_| handle.is_none());
                let own = || handle.map(|handle| self.owners.shared(handle.owner())).into_iter().collect();
                let owners: Vec<Arc<str>> = before.as_ref().map_or_else(own, |before| before.owners.clone());
                for owner in &owners {
                    self.owners.insert(owner.clone(), contact.id.clone());
                }
                if owners.is_empty() {
                    self.nameless.insert(contact.id.clone());
                }
                let readable = handle.is_some();
                let handle = handle.cloned().or(before.and_then(|before| before.handle));
                self.doubtful += usize::from(reading < self.floor);
                entry.insert(Box::new(KnownContact {
                    handle,
                    owners,
                    since: contact.inserted_at.unwrap_or(now),
                    elsewhere: false,
                    seen: reading,
                    proven: reading,
                    wanted: 0,
                    wanted_since: Timestamp::MIN,
                    missed: 0,
                    readable,
                    word: None,
                }));
                (AddOutcome::New, false)
            }
        }
    }

    /// Every owner that it ever had.
    pub(crate) fn owners_of(&self, id: &ContactId) -> &[Arc<str>] {
        self.open.get(id).map_or(&[], |open| &open.owners)
    }

    /// It was removed.
    pub(in crate::policy) fn remove(&mut self, id: &ContactId) -> Option<GoneContact> {
        let open = *self.open.swap_remove(id)?;
        // Frees the memory that many contacts used.
        if self.open.len() < self.open.capacity() / 4 && self.open.capacity() > OPEN_KEPT {
            self.open.shrink_to((2 * self.open.len()).max(OPEN_KEPT));
        }
        self.doubtful -= usize::from(open.is_doubtful(self.floor));
        let KnownContact { handle, owners, .. } = open;
        for owner in &owners {
            self.owners.remove(owner.clone(), id);
        }
        self.nameless.remove(id);
        let gone = GoneContact { handle, owners };
        if !gone.owners.is_empty() {
            if self.parted.len() >= PARTED_MAX {
                self.parted.pop_front();
            }
            self.parted.push_back((id.clone(), gone.clone()));
        }
        Some(gone)
    }

    /// A reading that began at `since` did not show it, and does not prove that it is gone: it is in doubt until this one.
    pub(crate) fn missed(&mut self, id: &ContactId, reading: u64, since: Timestamp) {
        self.change(id, |open, floor| {
            if !open.is_doubtful(floor) {
                open.wanted_since = since;
            }
            open.wanted = open.wanted.max(reading);
        });
    }

    /// The contacts that this reading did not show, each with the total weight of the readings in a row that missed it,
    /// to be increased.
    pub(crate) fn not_shown(&mut self, reading: u64) -> impl Iterator<Item = (&ContactId, &mut u8)> {
        self.open.iter_mut().filter(move |(_, open)| open.seen != reading).map(|(id, open)| (id, &mut open.missed))
    }
}

/// Combines with one more contact: if one is a contact, the result is true; else if one is in doubt, it is unknown.
fn also(known: &mut Option<bool>, is: Option<bool>) {
    *known = match (*known, is) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (None, _) | (_, None) => None,
        (Some(false), Some(false)) => Some(false),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContactKind, Sender};
    use crate::policy::testkit::{hours, noon};

    #[test]
    fn those_in_doubt_are_counted_whatever_happens() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut contacts = OpenContacts::default();
            let mut reading = 1;
            for step in 0..200 {
                let (id, owner) = (format!("c{}", rng.u32(..12)), format!("owner{}", rng.u32(..3)));
                let at = noon() + hours(step);
                match rng.u32(..8) {
                    0 => {
                        reading += 1;
                        contacts.unwatched(reading, at);
                    }
                    1 => drop(contacts.wanted(&owner, rng.bool(), reading + rng.u64(..2), at)),
                    2 => contacts.vouched(&owner),
                    3 => drop(contacts.remove(&ContactId::parse(&id).unwrap())),
                    4 => {
                        let (id, owners) = (ContactId::parse(&id).unwrap(), vec![owner.as_str().into()]);
                        contacts
                            .on_record(vec![OpenContact { id, handle: None, owners, since: at, elsewhere: false }], at);
                    }
                    _ => {
                        let handle = rng.bool().then(|| format!("{owner}/bot"));
                        let (id, sender) = (ContactId::parse(&id).unwrap(), Sender::parse(handle.as_deref()));
                        let kind = ContactKind::Agent;
                        let contact = Contact { id, sender, name: None, kind, inserted_at: None, ids: None };
                        contacts.add(&contact, reading - rng.u64(..2), at);
                    }
                }
                let counted = contacts.open.values().filter(|open| open.is_doubtful(contacts.floor)).count();
                assert_eq!(contacts.doubtful, counted, "seed {seed}, step {step}");
            }
        }
    }
}
