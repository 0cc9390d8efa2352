//! What the record does not know: one register of doubts.
//!
//! A fact about an owner's past is known from a moment on and by a source. A change that may have happened unseen makes
//! that fact unknown for that owner, and for nobody else. Every question about the past goes through
//! `History`, which asks this register before it says "no": so "not seen" never counts as "did
//! not happen". A doubt says whom it concerns, since when, what it rests on, and when it ends by itself.
//!
//! Two kinds of doubt are not kept one by one, but follow from what is known: contacts that are open on record and were not
//! seen since ([`OpenContacts`]), and owners whose contact was never recognised while one without a handle was removed.
//!
//! Bounds: [`DOUBTS_MAX`] doubts and [`UNMET_MAX`] such owners. Beyond them the oldest are let go, and the fact is unknown for
//! everybody up to that moment.

mod contacts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::evaluate::inputs::after;
use super::history::HistoryNeeds;
use crate::model::{Contact, ContactId, RequestId};
pub(crate) use contacts::Added;
pub use contacts::{OPEN_MAX, OpenContact, OpenContacts};

/// Most doubts that are kept one by one.
pub const DOUBTS_MAX: usize = 100_000;
/// Most owners that were let in and of whom no contact was recognised.
pub const UNMET_MAX: usize = 100_000;
/// Most doubts about one owner; of those of one kind the newest outlasts the others.
const PER_OWNER_MAX: usize = 16;

/// A fact about an owner that may be in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Whether a contact of theirs was removed: `removed_within`.
    Removed,
    /// Whether a request of theirs was rejected: `rejected_within`.
    Rejected,
    /// Whether they are who they were: `approved_before`, and rights by name.
    Identity,
}

impl Fact {
    /// All of them.
    pub const ALL: [Fact; 3] = [Fact::Removed, Fact::Rejected, Fact::Identity];

    /// The word in `--json` and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Fact::Removed => "removed",
            Fact::Rejected => "rejected",
            Fact::Identity => "identity",
        }
    }

    /// The reverse of [`Fact::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Fact::ALL.into_iter().find(|fact| fact.as_str() == text)
    }
}

/// What a person says of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// A contact of theirs was removed.
    Removed,
    /// None was, up to now.
    NotRemoved,
    /// The request was approved.
    Approved,
    /// It was rejected.
    Rejected,
    /// Its sender took it back.
    Cancelled,
    /// It expired.
    Expired,
}

impl Said {
    /// All of them.
    pub const ALL: [Said; 6] =
        [Said::Removed, Said::NotRemoved, Said::Approved, Said::Rejected, Said::Cancelled, Said::Expired];

    /// The word on the command line and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Said::Removed => "removed",
            Said::NotRemoved => "not-removed",
            Said::Approved => "approved",
            Said::Rejected => "rejected",
            Said::Cancelled => "cancelled",
            Said::Expired => "expired",
        }
    }

    /// The reverse of [`Said::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Said::ALL.into_iter().find(|said| said.as_str() == text)
    }

    /// The fact that it settles.
    pub fn fact(self) -> Fact {
        match self {
            Said::Removed | Said::NotRemoved => Fact::Removed,
            Said::Approved | Said::Rejected | Said::Cancelled | Said::Expired => Fact::Rejected,
        }
    }

    /// Whether it says that the fact is so.
    pub fn happened(self) -> bool {
        match self {
            Said::Removed | Said::Rejected => true,
            Said::NotRemoved | Said::Approved | Said::Cancelled | Said::Expired => false,
        }
    }
}

/// What a doubt rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// This contact is open on record, and was not seen since.
    Contact(ContactId),
    /// This contact never had a readable handle, and was removed.
    NamelessContact(ContactId),
    /// This request vanished while nobody watched: nobody said how it ended.
    Vanished(RequestId),
    /// Somebody else answered this request, and nobody said how.
    SettledElsewhere(RequestId),
    /// This request's sender has the owner's name, and another id.
    OtherSender(RequestId),
}

impl Basis {
    /// The word in `--json`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Basis::Contact(_) => "contact-not-seen",
            Basis::NamelessContact(_) => "nameless-contact-removed",
            Basis::Vanished(_) => "request-vanished",
            Basis::SettledElsewhere(_) => "settled-elsewhere",
            Basis::OtherSender(_) => "other-sender",
        }
    }

    /// The reverse of [`Basis::as_str`] and [`Basis::subject`].
    pub fn parse(word: &str, subject: &str) -> Option<Self> {
        let contact = || ContactId::parse(subject).ok();
        let request = || RequestId::parse(subject).ok();
        match word {
            "contact-not-seen" => contact().map(Basis::Contact),
            "nameless-contact-removed" => contact().map(Basis::NamelessContact),
            "request-vanished" => request().map(Basis::Vanished),
            "settled-elsewhere" => request().map(Basis::SettledElsewhere),
            "other-sender" => request().map(Basis::OtherSender),
            _ => None,
        }
    }

    /// The request or contact that it is about.
    pub fn subject(&self) -> &str {
        match self {
            Basis::Contact(id) | Basis::NamelessContact(id) => id.as_str(),
            Basis::Vanished(id) | Basis::SettledElsewhere(id) | Basis::OtherSender(id) => id.as_str(),
        }
    }

    /// The request that it is about, if it is about one.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Basis::Contact(_) | Basis::NamelessContact(_) => None,
            Basis::Vanished(id) | Basis::SettledElsewhere(id) | Basis::OtherSender(id) => Some(id),
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Basis::Contact(id) => write!(f, "contact {id} was not seen since"),
            Basis::NamelessContact(id) => write!(f, "contact {id}, which never had a handle, was removed"),
            Basis::Vanished(id) => write!(f, "request {id} vanished unseen"),
            Basis::SettledElsewhere(id) => write!(f, "request {id} was answered elsewhere"),
            Basis::OtherSender(id) => write!(f, "request {id} has another sender id"),
        }
    }
}

/// Something that may have happened unseen to somebody who is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Whom it concerns.
    pub owner: Arc<str>,
    /// What is unknown about them.
    pub fact: Fact,
    /// Since when.
    pub since: Timestamp,
    /// The last moment at which it may have happened; `None`: it may happen still.
    pub until: Option<Timestamp>,
    /// What it rests on.
    pub basis: Basis,
}

impl Doubt {
    /// When it ends by itself under a policy with these needs; `None`: when it is seen, or a person says.
    pub fn ends(&self, needs: &HistoryNeeds) -> Option<Timestamp> {
        let reach = match self.fact {
            Fact::Removed => needs.removed,
            Fact::Rejected => needs.rejected,
            Fact::Identity => None,
        };
        Some(after(self.until?, reach?)).filter(|end| *end < Timestamp::MAX)
    }
}

/// How long a question stays without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Until then, if nothing else happens.
    Until(Timestamp),
    /// Until something is seen, or a person says.
    Open,
}

impl Unknown {
    fn longer(self, other: Unknown) -> Unknown {
        match (self, other) {
            (Unknown::Until(one), Unknown::Until(other)) => Unknown::Until(one.max(other)),
            (Unknown::Open, _) | (_, Unknown::Open) => Unknown::Open,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Doubts {
    pub(in crate::policy) contacts: OpenContacts,
    by_owner: BTreeMap<Arc<str>, Vec<Doubt>>,
    len: usize,
    /// Owners that were let in since then, and of whom no contact was recognised.
    unmet: BTreeMap<Arc<str>, Timestamp>,
    /// The last removal of a contact that never had a readable handle.
    nameless: Option<(Timestamp, ContactId)>,
    /// Doubts that had to be let go: at or before these moments the fact is unknown for everybody.
    let_go: BTreeMap<Fact, Timestamp>,
    /// Owners about whom something changed since it was last asked.
    changed: Changed,
}

#[derive(Debug, Default)]
struct Changed {
    owners: std::collections::BTreeSet<Arc<str>>,
    everybody: bool,
}

/// More owners than this that changed at once are called everybody.
const CHANGED_MAX: usize = 1_024;

impl Changed {
    fn owner(&mut self, owner: &str) {
        if self.everybody || self.owners.contains(owner) {
            return;
        }
        if self.owners.len() >= CHANGED_MAX {
            self.everybody();
        } else {
            self.owners.insert(owner.into());
        }
    }

    fn everybody(&mut self) {
        self.everybody = true;
        self.owners.clear();
    }
}

/// Whose facts changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned {
    /// Of these owners.
    Owners(std::collections::BTreeSet<Arc<str>>),
    /// Perhaps of everybody.
    Everybody,
}

impl Concerned {
    /// Whether this owner is one of them.
    pub fn contains(&self, owner: &str) -> bool {
        match self {
            Concerned::Owners(owners) => owners.contains(owner),
            Concerned::Everybody => true,
        }
    }
}

impl Doubts {
    /// Takes in a doubt. The same one again is no change, unless it may have happened later than was known.
    pub fn add(&mut self, doubt: Doubt) {
        let about = self.by_owner.entry(doubt.owner.clone()).or_default();
        if let Some(known) = about.iter_mut().find(|known| known.fact == doubt.fact && known.basis == doubt.basis) {
            known.until = known.until.and_then(|known| doubt.until.map(|until| until.max(known)));
            return;
        }
        self.changed.owner(&doubt.owner);
        about.push(doubt);
        self.len += 1;
        if about.len() > PER_OWNER_MAX {
            // Of one fact, the one that lasts longest says all that the others say.
            let shortest = (0..about.len())
                .filter(|one| {
                    about.iter().enumerate().any(|(other, doubt)| other != *one && outlasts(doubt, &about[*one]))
                })
                .min_by_key(|one| about[*one].until.unwrap_or(Timestamp::MAX));
            if let Some(shortest) = shortest {
                about.remove(shortest);
                self.len -= 1;
            }
        }
        if self.len > DOUBTS_MAX {
            self.let_go();
        }
    }

    /// Lets go the older half, and doubts everybody instead.
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
        self.len = self.by_owner.values().map(Vec::len).sum();
        self.changed.everybody();
    }

    /// Ends the doubts about this owner that are so; returns them.
    pub fn end(&mut self, owner: &str, so: impl Fn(&Doubt) -> bool) -> Vec<Doubt> {
        let Some(about) = self.by_owner.get_mut(owner) else { return Vec::new() };
        let ended: Vec<Doubt> = about.extract_if(.., |doubt| so(doubt)).collect();
        self.len -= ended.len();
        if about.is_empty() {
            self.by_owner.remove(owner);
        }
        if !ended.is_empty() {
            self.changed.owner(owner);
        }
        ended
    }

    /// A person's word: nothing that may have happened to this owner up to now is in doubt any more, of this fact or
    /// (`None`) of any.
    pub fn settled(&mut self, owner: &str, fact: Option<Fact>, now: Timestamp) {
        self.end(owner, |doubt| fact.is_none_or(|fact| doubt.fact == fact));
        if fact.is_none_or(|fact| fact == Fact::Removed) {
            self.contacts.vouched(owner);
            if let Some(since) = self.unmet.get_mut(owner) {
                *since = now.max(*since);
            }
            self.changed.owner(owner);
        }
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

    /// The same, for whoever reads the list.
    pub(crate) fn contacts_mut(&mut self) -> &mut OpenContacts {
        &mut self.contacts
    }

    /// This contact is there, as of this reading of the list.
    pub(crate) fn contact_seen(&mut self, contact: &Contact, reading: u64, now: Timestamp) -> Added {
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

    /// A contact of this owner is on record: whoever was let in was recognised, and what vanished was not rejected.
    pub fn recognised(&mut self, owner: &str) {
        if self.unmet.remove(owner).is_some() && self.nameless.is_some() {
            self.changed.owner(owner);
        }
        self.end(owner, |doubt| doubt.fact == Fact::Rejected);
    }

    /// A contact was removed that never had a readable handle: it may have been that of any owner whose contact was never
    /// recognised, and of nobody else.
    pub fn nameless_removed(&mut self, contact: &ContactId, at: Timestamp) {
        if self.nameless.as_ref().is_none_or(|(known, _)| *known <= at) {
            self.nameless = Some((at, contact.clone()));
        }
        for owner in self.unmet.keys() {
            self.changed.owner(owner);
        }
    }

    /// Nobody watches now, and somebody of this owner asks: only a reading of the contacts of this number, or a later one,
    /// shows who is still there. Whether there is anybody to look for.
    pub fn look_for(&mut self, owner: &str, reading: u64, since: Timestamp) -> bool {
        self.contacts.wanted(owner, self.unmet.contains_key(owner), reading, since)
    }

    /// Nothing at or before this moment is known about this fact, of anybody.
    pub fn forget(&mut self, fact: Fact, until: Timestamp) {
        let gap = self.let_go.entry(fact).or_insert(until);
        *gap = until.max(*gap);
        self.changed.everybody();
    }

    /// Something changed that concerns this owner, and is kept elsewhere.
    pub fn touch(&mut self, owner: &str) {
        self.changed.owner(owner);
    }

    /// About whom something changed since this was last called.
    pub fn take_changed(&mut self) -> Option<Concerned> {
        let Changed { owners, everybody } = std::mem::take(&mut self.changed);
        match everybody {
            true => Some(Concerned::Everybody),
            false => (!owners.is_empty()).then_some(Concerned::Owners(owners)),
        }
    }

    /// Whether a question about this fact that looks back so far (`None`: for ever) cannot be answered "no", and for how long.
    pub(crate) fn unknown(
        &self,
        owner: &str,
        fact: Fact,
        within: Option<SignedDuration>,
        now: Timestamp,
    ) -> Option<Unknown> {
        let until = |until: Option<Timestamp>| match (until, within) {
            (Some(until), Some(within)) => Unknown::Until(after(until, within)),
            (None, _) | (_, None) => Unknown::Open,
        };
        let kept = self.by_owner.get(owner).into_iter().flatten();
        let kept = kept.filter(|doubt| doubt.fact == fact).map(|doubt| until(doubt.until));
        let gap = self.let_go.get(&fact).map(|gap| until(Some(*gap)));
        let follows = (fact == Fact::Removed).then(|| self.follows(owner).map(|doubt| until(doubt.until)));
        let all = kept.chain(gap).chain(follows.into_iter().flatten());
        all.filter(|unknown| match unknown {
            Unknown::Until(end) => *end > now,
            Unknown::Open => true,
        })
        .reduce(Unknown::longer)
    }

    /// The doubts that follow from contacts, and are not kept.
    fn follows(&self, owner: &str) -> impl Iterator<Item = Doubt> {
        let doubt = |since, until, basis| Doubt { owner: owner.into(), fact: Fact::Removed, since, until, basis };
        let contact = self.contacts.in_doubt(owner).map(|(id, since)| doubt(since, None, Basis::Contact(id.clone())));
        let unmet = self.unmet.get(owner).copied();
        let nameless = self.nameless.as_ref().zip(unmet).filter(|((at, _), since)| at > since);
        let nameless = nameless.map(|((at, id), _)| doubt(*at, Some(*at), Basis::NamelessContact(id.clone())));
        let open = unmet.and_then(|_| self.contacts.nameless_in_doubt());
        let open = open.map(|(id, since)| doubt(since, None, Basis::Contact(id.clone())));
        contact.into_iter().chain(nameless).chain(open)
    }

    /// The doubts about this fact of this owner.
    pub fn of(&self, owner: &str, fact: Fact) -> impl Iterator<Item = Doubt> {
        let kept = self.by_owner.get(owner).into_iter().flatten().cloned();
        kept.chain(self.follows(owner)).filter(move |doubt| doubt.fact == fact)
    }

    /// All doubts about this owner that questions of a policy with these needs can touch now.
    pub fn about(&self, owner: &str, needs: &HistoryNeeds, now: Timestamp) -> Vec<Doubt> {
        let kept = self.by_owner.get(owner).into_iter().flatten().cloned();
        kept.chain(self.follows(owner)).filter(|doubt| matters(doubt, needs, now)).collect()
    }

    /// All doubts that questions of a policy with these needs can touch now, by owner.
    pub fn list(&self, needs: &HistoryNeeds, now: Timestamp) -> Vec<Doubt> {
        let mut owners: Vec<&Arc<str>> = self.by_owner.keys().collect();
        owners.extend(self.contacts.doubtful());
        if self.nameless.is_some() || self.contacts.nameless_in_doubt().is_some() {
            owners.extend(self.unmet.keys());
        }
        owners.sort();
        owners.dedup();
        owners.into_iter().flat_map(|owner| self.about(owner, needs, now)).collect()
    }

    /// The fact of everybody that is unknown because there were too many doubts to keep, and until when that reaches back.
    pub fn everybody(&self) -> impl Iterator<Item = (Fact, Timestamp)> {
        self.let_go.iter().map(|(fact, until)| (*fact, *until))
    }

    /// Lets go what no question of a policy with these needs can touch; returns what was let go, by fact: a policy that asks
    /// further back finds it on record only.
    pub(crate) fn prune(&mut self, needs: &HistoryNeeds, now: Timestamp) -> BTreeMap<Fact, Timestamp> {
        let mut gaps: BTreeMap<Fact, Timestamp> = BTreeMap::new();
        self.by_owner.retain(|_, about| {
            about.retain(|doubt| {
                let keep = doubt.until.is_none() || doubt.fact == Fact::Identity || matters(doubt, needs, now);
                if let (false, Some(until)) = (keep, doubt.until) {
                    let gap = gaps.entry(doubt.fact).or_insert(until);
                    *gap = until.max(*gap);
                }
                keep
            });
            !about.is_empty()
        });
        self.len = self.by_owner.values().map(Vec::len).sum();
        gaps
    }
}

/// Whether a question of a policy with these needs can touch it now.
fn matters(doubt: &Doubt, needs: &HistoryNeeds, now: Timestamp) -> bool {
    let reach = match doubt.fact {
        Fact::Removed => needs.removed,
        Fact::Rejected => needs.rejected,
        Fact::Identity => return true,
    };
    reach.is_some_and(|reach| doubt.until.is_none_or(|until| after(until, reach) > now))
}

/// Whether all that `short` makes unknown is unknown by `long`, too.
fn outlasts(long: &Doubt, short: &Doubt) -> bool {
    long.fact == short.fact
        && long.until.unwrap_or(Timestamp::MAX) >= short.until.unwrap_or(Timestamp::MAX)
        && short.until.is_some()
}
