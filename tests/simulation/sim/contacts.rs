//! The contacts in the ledger, as a starting daemon loads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use doorman::model::{Contact, ContactId, Handle};
use doorman::policy::doubts::OpenContact;
use doorman::policy::state::{HistoryKind, OwnerHistoryRow};
use jiff::Timestamp;

#[derive(Debug, Default)]
struct Row {
    handle: Option<Handle>,
    owners: Vec<Arc<str>>,
    /// The owners since the contact last reappeared, if it was shown then whose it is.
    lately: Vec<Arc<str>>,
    added: Option<Timestamp>,
    removed: Option<Timestamp>,
    /// It was removed because its end had come.
    expired: bool,
    /// Earlier removals, after which it reappeared.
    before: Vec<Timestamp>,
    /// Whether a recorded answer made it.
    ours: bool,
    /// When it was made, according to the platform.
    inserted: Option<Timestamp>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Contacts(BTreeMap<ContactId, Row>);

impl Contacts {
    pub fn added(&mut self, contact: &Contact, made: Option<String>, at: Timestamp) {
        let row = self.0.entry(contact.id.clone()).or_default();
        let handle = contact.sender.handle();
        row.handle = handle.cloned().or_else(|| row.handle.take());
        row.added = row.added.or(Some(at));
        if row.removed.is_some() && handle.is_some() {
            row.lately.clear();
        }
        row.before.extend(row.removed.take().filter(|_| !row.expired));
        row.expired = false;
        row.ours |= made.is_some();
        row.inserted = row.inserted.or(contact.inserted_at);
        for owner in handle.map(|handle| handle.owner().to_owned()).into_iter().chain(made) {
            for owners in [&mut row.owners, &mut row.lately] {
                if !owners.iter().any(|known| **known == *owner) {
                    owners.push(owner.as_str().into());
                }
            }
        }
    }

    pub fn removed(&mut self, contact: &ContactId, expired: bool, at: Timestamp) {
        let row = self.0.entry(contact.clone()).or_default();
        row.expired = if row.removed.is_none() { expired } else { row.expired };
        row.removed = row.removed.or(Some(at));
    }

    pub fn open(&self, awaited: &BTreeSet<String>) -> Vec<OpenContact> {
        let open = self.0.iter().filter(|(_, row)| row.removed.is_none());
        let open = open.map(|(id, row)| OpenContact {
            id: id.clone(),
            handle: row.handle.clone(),
            owners: row.owners.clone(),
            since: row.inserted.or(row.added).unwrap_or(Timestamp::UNIX_EPOCH),
            elsewhere: !row.ours && !row.owners.iter().any(|owner| awaited.contains(&**owner)),
        });
        open.collect()
    }

    /// Whether somebody else has approved exactly this sender since then.
    pub fn let_in_elsewhere(&self, sender: &Handle, since: Timestamp) -> bool {
        let came = |row: &Row| !row.ours && row.inserted.or(row.added) >= Some(since);
        self.0.values().any(|row| came(row) && row.handle.as_ref() == Some(sender))
    }

    /// Whether a contact of exactly this handle was there at some time since then.
    pub fn shows(&self, sender: &Handle, since: Timestamp) -> bool {
        let theirs = |row: &&Row| row.handle.as_ref() == Some(sender);
        self.0.values().filter(theirs).any(|row| row.removed.is_none_or(|at| at >= since))
    }

    /// Every owner of a contact that the ledger has as open, since it appeared.
    pub fn owners(&self, id: &ContactId) -> &[Arc<str>] {
        self.0.get(id).filter(|row| row.removed.is_none()).map_or(&[], |row| &row.lately)
    }

    /// Whether this contact was ever in the ledger.
    pub fn ever_had(&self, id: &str) -> bool {
        ContactId::parse(id).is_ok_and(|id| self.0.contains_key(&id))
    }

    /// Whether a contact of this owner was ever on record.
    pub fn ever(&self, owner: &str) -> bool {
        self.0.values().any(|row| row.owners.iter().any(|known| **known == *owner))
    }

    /// The last removal of one that never had a readable handle.
    pub fn nameless(&self) -> Option<(ContactId, Timestamp)> {
        let nameless = self.0.iter().filter(|(_, row)| row.owners.is_empty());
        // One that came again was removed all the same.
        let last = |row: &Row| row.before.iter().copied().chain(row.removed.filter(|_| !row.expired)).max();
        nameless.filter_map(|(id, row)| Some((id.clone(), last(row)?))).max_by_key(|(_, at)| *at)
    }

    /// The removals since then.
    pub fn history(&self, since: Timestamp) -> Vec<OwnerHistoryRow> {
        let times = |row: &'_ Row| {
            let before = row.before.iter().map(|at| (*at, None));
            before.chain(row.removed.filter(|_| !row.expired).map(|at| (at, row.handle.clone()))).collect::<Vec<_>>()
        };
        let gone = self.0.values().flat_map(|row| times(row).into_iter().map(move |one| (row, one)));
        let gone = gone.filter(|(_, (at, _))| *at >= since);
        let rows = gone.flat_map(|(row, (at, handle))| {
            let removed = move |owner: &Arc<str>| OwnerHistoryRow {
                owner: owner.clone(),
                handle: handle.clone(),
                request: None,
                kind: HistoryKind::Removed,
                at,
            };
            row.owners.iter().map(removed)
        });
        rows.collect()
    }
}
