//! What the record does not know: one register of doubts.
//!
//! A fact about an owner's past is known since a moment, and from a source. A change that may have happened unseen
//! makes that fact unknown for that owner, and for nobody else. Every question about the past goes through `History`,
//! which asks this register before it answers "no": so "not seen" never counts as "did not happen". A doubt has an
//! owner, a beginning, a reason, and an end of its own.
//!
//! Five kinds of doubt are not stored one by one, but derived: contacts that are open on record and were not seen since
//! (`OpenContacts`), owners whose contact was never recognised while a contact without a handle was removed, pending
//! requests that nothing has shown since they were last seen, approvals of unknown fate (`Presumed`), and names that
//! somebody else may have by now.
//!
//! Bounds: `DOUBTS_MAX` doubts and `UNMET_MAX` such owners. Beyond that the oldest are dropped, and the fact is
//! unknown for everybody up to that moment.

mod changed;
mod contacts;
mod doubt;
mod identities;
mod owner_index;
mod presumed;
#[cfg(test)]
mod tests;
mod unlisted;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::evaluate::inputs::after;
use super::history::HistoryNeeds;
use crate::model::{Contact, ContactId, ContactRequest, Handle, RequestId, SenderIds};
pub(crate) use changed::AffectedOwners;
use changed::ChangedOwners;
pub(crate) use contacts::AddOutcome;
pub use contacts::OpenContact;
pub(crate) use contacts::{OPEN_MAX, OpenContacts};
pub(crate) use doubt::UnknownUntil;
pub use doubt::{Basis, Doubt, DoubtSettlement, Fact};
use identities::Identities;
pub(crate) use identities::{IDS_MAX, SeenIdentity};
use presumed::Presumed;
use unlisted::Unlisted;

/// Most doubts that are kept one by one.
pub(crate) const DOUBTS_MAX: usize = 100_000;
/// Most doubts of one agent that are shown at once.
pub(crate) const SHOWN_MAX: usize = 1_000;
/// Most owners that were let in and whose contact was not recognised.
pub(crate) const UNMET_MAX: usize = 100_000;
/// Most doubts about one owner; of one kind, the newest lasts longer than the others.
const PER_OWNER_MAX: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Doubts {
    pub(in crate::policy) contacts: OpenContacts,
    by_owner: BTreeMap<Arc<str>, Vec<Doubt>>,
    len: usize,
    /// For each request that is the reason of a doubt, the owner.
    by_request: BTreeMap<RequestId, Arc<str>>,
    /// Owners that were let in, since when, and whose contact was not recognised.
    unmet: BTreeMap<Arc<str>, Timestamp>,
    unlisted: Unlisted,
    presumed: Presumed,
    /// The last reading of the contacts that began.
    reading: u64,
    identities: Identities,
    /// The last removal of a contact that never had a readable handle.
    nameless: Option<(Timestamp, ContactId)>,
    /// Doubts that had to be dropped: at or before these moments the fact is unknown for everybody.
    let_go: BTreeMap<Fact, Timestamp>,
    /// Owners for whom something changed since the last `take_changed`.
    changed: ChangedOwners,
}

impl Doubts {
    /// Whether anybody of this handle's owner is a contact now, and whether this very handle is, according to the
    /// contacts that were shown; `None` if that is in doubt.
    pub(crate) fn is_contact(&self, handle: &Handle, now: Timestamp) -> (Option<bool>, Option<bool>) {
        if self.unknown(handle.owner(), Fact::Identity, None, now).is_some() {
            return (None, None);
        }
        self.contacts.is_contact(handle)
    }

    /// Adds a doubt. A known doubt is no change, unless it may have happened later than was known.
    pub fn add(&mut self, doubt: Doubt) {
        let about = self.by_owner.entry(doubt.owner.clone()).or_default();
        if let Some(known) = about.iter_mut().find(|known| known.fact == doubt.fact && known.basis == doubt.basis) {
            known.until = known.until.and_then(|known| doubt.until.map(|until| until.max(known)));
            return;
        }
        self.changed.owner(&doubt.owner);
        if let Some(request) = doubt.basis.request() {
            self.by_request.insert(request.clone(), doubt.owner.clone());
        }
        about.push(doubt);
        self.len += 1;
        if about.len() > PER_OWNER_MAX {
            // Of several doubts about one fact, the longest covers the others.
            let shortest = (0..about.len())
                .filter(|one| {
                    about.iter().enumerate().any(|(other, doubt)| other != *one && doubt.outlasts(&about[*one]))
                })
                .min_by_key(|one| about[*one].until.unwrap_or(Timestamp::MAX));
            if let Some(shortest) = shortest {
                let gone = about.remove(shortest);
                gone.basis.request().map(|request| self.by_request.remove(request));
                self.len -= 1;
            }
        }
        if self.len > DOUBTS_MAX {
            self.let_go();
        }
    }

    /// Drops the older half, and makes those facts unknown for everybody.
    fn let_go(&mut self) {
        let last = |doubt: &Doubt| doubt.until.unwrap_or(Timestamp::MAX);
        let mut times: Vec<Timestamp> = self.by_owner.values().flatten().map(last).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let let_go = &mut self.let_go;
        self.by_owner.retain(|_, about| {
            about.retain(|doubt| {
                let goes = last(doubt) <= median;
                if goes {
                    let gap = let_go.entry(doubt.fact).or_insert(last(doubt));
                    *gap = last(doubt).max(*gap);
                }
                !goes
            });
            !about.is_empty()
        });
        self.recount();
        self.changed.everybody();
    }

    /// Counts again after some were removed.
    fn recount(&mut self) {
        self.len = self.by_owner.values().map(Vec::len).sum();
        let kept = self.by_owner.values().flatten();
        let requests = kept.filter_map(|doubt| Some((doubt.basis.request()?.clone(), doubt.owner.clone())));
        self.by_request = requests.collect();
    }

    /// Ends the doubts about this owner that `so` selects, and returns them.
    pub fn end(&mut self, owner: &str, so: impl Fn(&Doubt) -> bool) -> Vec<Doubt> {
        let Some(about) = self.by_owner.get_mut(owner) else { return Vec::new() };
        let ended: Vec<Doubt> = about.extract_if(.., |doubt| so(doubt)).collect();
        self.len -= ended.len();
        for request in ended.iter().filter_map(|doubt| doubt.basis.request()) {
            self.by_request.remove(request);
        }
        if about.is_empty() {
            self.by_owner.remove(owner);
        }
        if !ended.is_empty() {
            self.changed.owner(owner);
        }
        ended
    }

    /// A person settles it: nothing that may have happened to this owner up to now is in doubt any more, for this fact
    /// or (`None`) for all.
    pub fn settled(&mut self, owner: &str, fact: Option<Fact>, now: Timestamp) {
        self.end(owner, |doubt| fact.is_none_or(|fact| doubt.fact == fact));
        if fact.is_none_or(|fact| fact == Fact::Identity) && self.identities.vouched(owner) {
            self.changed.owner(owner);
        }
        if fact.is_none() && self.presumed.known(owner) {
            self.changed.owner(owner);
        }
        if fact.is_none_or(|fact| fact == Fact::Removed) {
            self.contacts.vouched(owner);
            if let Some(since) = self.unmet.get_mut(owner) {
                *since = now.max(*since);
            }
            self.changed.owner(owner);
        }
    }

    /// A payload shows who has this handle: returns what is new, to be recorded.
    pub(crate) fn identity_seen(
        &mut self,
        handle: &Handle,
        ids: &SenderIds,
        basis: Basis,
        now: Timestamp,
    ) -> Vec<SeenIdentity> {
        let (new, doubted) = self.identities.identity_seen(handle, ids, basis, now);
        if doubted {
            self.changed.owner(handle.owner());
        }
        new
    }

    /// Takes over what the record knows about a holder of this owner's names.
    pub fn on_record(&mut self, owner: &str, identity: &SeenIdentity, basis: Basis, at: Timestamp) {
        self.identities.on_record(owner, identity, basis, at);
    }

    /// Whether it is in doubt who has this owner's names.
    pub(crate) fn other_holder(&self, owner: &str) -> bool {
        self.identities.of(owner).is_some()
    }

    /// Somebody of this owner was let in: no contact was recognised yet, unless there is one.
    pub fn let_in(&mut self, owner: &str, at: Timestamp) {
        if self.contacts.has(owner) || self.unmet.contains_key(owner) {
            return;
        }
        self.unmet.insert(owner.into(), at);
        if self.unmet.len() > UNMET_MAX {
            self.unmet.clear();
            self.forget(Fact::Removed, at);
        }
    }

    /// Who is a contact, and by which reading that is known.
    pub fn contacts(&self) -> &OpenContacts {
        &self.contacts
    }

    /// The same, for the code that reads the list.
    pub(crate) fn contacts_mut(&mut self) -> &mut OpenContacts {
        &mut self.contacts
    }

    /// This reading of the list shows this contact.
    pub(crate) fn contact_seen(&mut self, contact: &Contact, reading: u64, now: Timestamp) -> AddOutcome {
        let (added, doubted) = self.contacts.add(contact, reading, now);
        if doubted {
            let owners = self.contacts.owners_of(&contact.id);
            owners.iter().for_each(|owner| self.changed.owner(owner));
            if owners.is_empty() {
                self.unmet.keys().for_each(|owner| self.changed.owner(owner));
            }
        }
        added
    }

    /// A reading of the contacts with this number begins.
    pub(crate) fn reading_begins(&mut self, reading: u64) {
        self.reading = reading;
    }

    /// An answer of unknown fate presumably let this sender in, whose request was sent then.
    pub(super) fn presumed(&mut self, sender: &Handle, request: &RequestId, sent: Timestamp) {
        match self.presumed.insert(sender, request, sent, self.reading) {
            Some(false) => {}
            Some(true) => self.changed.owner(sender.owner()),
            None => self.forget(Fact::Approved, sent),
        }
    }

    /// Whether this request was presumably approved, and nothing shows it.
    pub(crate) fn is_presumed(&self, request: &RequestId) -> bool {
        self.presumed.has(request)
    }

    /// It is known how this request ended; returns who was presumably approved by it.
    pub(super) fn presumed_ended(
        &mut self,
        request: &RequestId,
        which: impl Fn(&Handle, Timestamp) -> bool,
    ) -> Vec<Handle> {
        let ended = self.presumed.ended(request, which);
        ended.iter().for_each(|sender| self.changed.owner(sender.owner()));
        ended
    }

    /// This owner was approved, that is known.
    pub(super) fn approved(&mut self, owner: &str) {
        if self.presumed.known(owner) {
            self.changed.owner(owner);
        }
    }

    /// A contact of this sender is there: the request that was approved, if that was only presumed.
    pub(super) fn presumed_shown(&self, sender: &Handle) -> Option<RequestId> {
        self.presumed.shown(sender)
    }

    /// The contacts were read completely: those whose contact is missing again and again were not approved. Returns
    /// them, and whether further readings show more.
    pub(super) fn presumed_read(&mut self, reading: u64) -> (Vec<(RequestId, Handle)>, bool) {
        let (ended, more) = self.presumed.read(reading, |sent| self.contacts.nameless_since(sent));
        ended.iter().for_each(|(_, sender)| self.changed.owner(sender.owner()));
        (ended, more)
    }

    /// A contact of this owner is on record: the owner's contact is recognised.
    pub fn recognised(&mut self, owner: &str) {
        if self.unmet.remove(owner).is_some() && self.nameless.is_some() {
            self.changed.owner(owner);
        }
    }

    /// This contact was made by our request, or by somebody else: then earlier requests of this sender, and those that
    /// vanished, were not rejected. It proves nothing about another sender of that owner.
    pub(crate) fn contact_made(&mut self, contact: &Contact, request: Option<&RequestId>) {
        let Some(handle) = contact.sender.handle() else { return };
        if let Some(request) = request {
            self.end(handle.owner(), |doubt| doubt.fact == Fact::Rejected && doubt.basis.request() == Some(request));
        } else if let Some(came) = self.contacts.made_elsewhere(&contact.id, handle.owner()) {
            let let_in = |doubt: &Doubt| doubt.sender.as_ref() == Some(handle) && doubt.since <= came;
            self.end(handle.owner(), |doubt| doubt.fact == Fact::Rejected && let_in(doubt));
        }
    }

    /// A request of this sender, sent at `since`, ended at some time up to `until`, and it is not known how. If
    /// somebody else let this sender in meanwhile, it was not rejected.
    pub fn ended_unseen(&mut self, sender: &Handle, basis: Basis, since: Timestamp, until: Timestamp) {
        if !self.contacts.let_in_elsewhere(sender, since) {
            let (owner, sender) = (sender.owner().into(), Some(sender.clone()));
            self.add(Doubt { owner, sender, fact: Fact::Rejected, since, until: Some(until), basis });
        }
    }

    /// This pending request of this owner was not seen since then: it may have ended.
    pub(crate) fn unlisted(&mut self, owner: &str, request: &RequestId, since: Timestamp) {
        if self.unlisted.insert(owner, request, since) {
            self.changed.owner(owner);
        }
    }

    /// Whether a request waits to be seen again.
    pub(crate) fn any_unlisted(&self) -> bool {
        !self.unlisted.is_empty()
    }

    /// This request was seen, or its end is known.
    pub fn listed(&mut self, request: &RequestId) {
        if let Some(owner) = self.unlisted.remove(request) {
            self.changed.owner(&owner);
        }
    }

    /// This request is here again: it has not ended. Another sender or time is another request with its id.
    pub(crate) fn still_pending(&mut self, request: &ContactRequest) {
        self.listed(&request.id);
        let owner = request.sender.handle().map(|handle| handle.owner());
        if let Some(owner) = self.owner_by_request(&request.id).filter(|known| Some(&**known) == owner) {
            let sent = request.inserted_at.map(|at| at.as_microsecond());
            let same = |doubt: &Doubt| sent.is_none_or(|sent| doubt.since.as_microsecond() == sent);
            let about = |doubt: &Doubt| doubt.fact == Fact::Rejected && doubt.basis.request() == Some(&request.id);
            self.end(&owner, |doubt| about(doubt) && same(doubt));
        }
    }

    /// The owner of a doubt whose reason is this request.
    pub(crate) fn owner_by_request(&self, request: &RequestId) -> Option<Arc<str>> {
        self.by_request.get(request).cloned()
    }

    /// A contact was removed that never had a readable handle: it may have been that of any owner whose contact was never
    /// recognised, and of nobody else.
    pub(crate) fn nameless_removed(&mut self, contact: &ContactId, at: Timestamp) {
        if self.nameless.as_ref().is_none_or(|(known, _)| *known <= at) {
            self.nameless = Some((at, contact.clone()));
        }
        for owner in self.unmet.keys() {
            self.changed.owner(owner);
        }
    }

    /// The contacts are not watched now, and somebody of this owner asks: only a reading of the contacts with this
    /// number or a later one shows who is still there. Returns whether there is a contact to look for.
    pub(crate) fn look_for(&mut self, owner: &str, reading: u64, since: Timestamp) -> bool {
        self.contacts.wanted(owner, self.unmet.contains_key(owner), reading, since)
    }

    /// Nothing at or before this moment is known about this fact, of anybody.
    pub fn forget(&mut self, fact: Fact, until: Timestamp) {
        let gap = self.let_go.entry(fact).or_insert(until);
        *gap = until.max(*gap);
        self.changed.everybody();
    }

    /// Something that is stored elsewhere changed for this owner.
    pub(crate) fn touch(&mut self, owner: &str) {
        self.changed.owner(owner);
    }

    /// The owners for whom something changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Option<AffectedOwners> {
        self.changed.take()
    }

    /// Whether a question about this fact that looks back so far (`None`: for ever) cannot be answered "no", and for how long.
    pub(crate) fn unknown(
        &self,
        owner: &str,
        fact: Fact,
        within: Option<SignedDuration>,
        now: Timestamp,
    ) -> Option<UnknownUntil> {
        let until = |until: Option<Timestamp>| match (until, within) {
            (Some(until), Some(within)) => UnknownUntil::Until(after(until, within)),
            (None, _) | (_, None) => UnknownUntil::Open,
        };
        let kept = self.by_owner.get(owner).into_iter().flatten();
        let kept = kept.filter(|doubt| doubt.fact == fact).map(|doubt| until(doubt.until));
        let gap = self.let_go.get(&fact).map(|gap| until(Some(*gap)));
        let follows = self.follows(owner, fact).map(|doubt| until(doubt.until));
        let all = kept.chain(gap).chain(follows);
        all.filter(|unknown| match unknown {
            UnknownUntil::Until(end) => *end > now,
            UnknownUntil::Open => true,
        })
        .reduce(UnknownUntil::longer)
    }

    /// The doubts about this fact that are derived from what was not seen. Only the sources of this fact are checked:
    /// every decision asks, and an owner may have many contacts.
    fn follows(&self, owner: &str, fact: Fact) -> impl Iterator<Item = Doubt> {
        let doubt = |since, until, basis| Doubt { owner: owner.into(), sender: None, fact, since, until, basis };
        let follows = match fact {
            Fact::Removed => {
                let contact = |(id, since): (&ContactId, _)| doubt(since, None, Basis::Contact(id.clone()));
                let unmet = self.unmet.get(owner).copied();
                let nameless = self.nameless.as_ref().zip(unmet).filter(|((at, _), since)| at > since);
                let nameless = nameless.map(|((at, id), _)| doubt(*at, Some(*at), Basis::NamelessContact(id.clone())));
                let open = unmet.and_then(|_| self.contacts.nameless_in_doubt());
                [self.contacts.in_doubt(owner).map(contact), nameless, open.map(contact)]
            }
            Fact::Rejected => {
                let unlisted = self.unlisted.of(owner);
                [unlisted.map(|(id, since)| doubt(since, None, Basis::Unlisted(id.clone()))), None, None]
            }
            Fact::Identity => {
                let other = self.identities.of(owner);
                [other.map(|other| doubt(other.since, None, other.basis.clone())), None, None]
            }
            Fact::Approved => {
                let presumed = self.presumed.of(owner);
                [presumed.map(|(id, since)| doubt(since, None, Basis::Presumed(id.clone()))), None, None]
            }
        };
        follows.into_iter().flatten()
    }

    /// The doubts about this fact of this owner.
    pub fn of(&self, owner: &str, fact: Fact) -> impl Iterator<Item = Doubt> {
        let kept = self.by_owner.get(owner).into_iter().flatten().cloned();
        kept.filter(move |doubt| doubt.fact == fact).chain(self.follows(owner, fact))
    }

    /// All doubts about this owner that questions of a policy with these needs can touch now.
    pub fn about(&self, owner: &str, needs: &HistoryNeeds, now: Timestamp) -> Vec<Doubt> {
        let kept = self.by_owner.get(owner).into_iter().flatten().cloned();
        let follows = Fact::ALL.iter().flat_map(|fact| self.follows(owner, *fact));
        kept.chain(follows).filter(|doubt| doubt.matters(needs, now)).collect()
    }

    /// All doubts that questions of a policy with these needs can touch now, by owner.
    pub fn list(&self, needs: &HistoryNeeds, now: Timestamp) -> Vec<Doubt> {
        let mut owners: Vec<&Arc<str>> = self.by_owner.keys().collect();
        owners.extend(self.contacts.doubtful());
        owners.extend(self.unlisted.owners());
        owners.extend(self.identities.owners());
        owners.extend(self.presumed.owners());
        if self.nameless.is_some() || self.contacts.nameless_in_doubt().is_some() {
            owners.extend(self.unmet.keys());
        }
        owners.sort();
        owners.dedup();
        owners.into_iter().flat_map(|owner| self.about(owner, needs, now)).collect()
    }

    /// The facts that are unknown for everybody because there were too many doubts to keep, and up to which moment.
    pub fn everybody(&self) -> impl Iterator<Item = (Fact, Timestamp)> {
        self.let_go.iter().map(|(fact, until)| (*fact, *until))
    }

    /// Drops the doubts that do not matter to a policy with these needs; returns what was dropped, by fact: a policy
    /// that looks further back finds it only on record.
    pub(crate) fn prune(&mut self, needs: &HistoryNeeds, now: Timestamp) -> BTreeMap<Fact, Timestamp> {
        let mut gaps: BTreeMap<Fact, Timestamp> = BTreeMap::new();
        self.by_owner.retain(|_, about| {
            about.retain(|doubt| {
                let keep = doubt.until.is_none() || doubt.fact == Fact::Identity || doubt.matters(needs, now);
                if let (false, Some(until)) = (keep, doubt.until) {
                    let gap = gaps.entry(doubt.fact).or_insert(until);
                    *gap = until.max(*gap);
                }
                keep
            });
            !about.is_empty()
        });
        self.recount();
        gaps
    }
}
