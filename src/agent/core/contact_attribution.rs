//! Finds out which contacts our approvals made: it matches approvals and contacts by their handle, whichever is known
//! first. The channel's `contact_added` usually arrives before the reply to the answer that made the contact.

use std::collections::BTreeMap;

use super::contacts::MISSED_MAX;
use crate::model::{Contact, ContactId, Handle, RequestId};

/// Approvals that wait for their contact, or for their end.
const APPROVALS_MAX: usize = 4_096;

/// A contact, and whether it should be reported as new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenContact {
    pub(super) contact: Contact,
    pub(super) news: bool,
}

/// An answer that lets somebody in, from its intent until its contact is here.
#[derive(Debug)]
struct OpenApproval {
    /// `None`: another request has its id by now.
    request: Option<RequestId>,
    /// The platform carried it out.
    carried_out: bool,
    /// The order in which approvals were intended or carried out.
    age: u64,
    /// Complete readings of the contact list since then that showed nobody with this handle.
    missed: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ContactAttribution {
    /// A tree, because a hash table that is filled and emptied often grows because of the slots that it marks as
    /// deleted.
    by_handle: BTreeMap<Handle, OpenApproval>,
    /// Contacts that exist already while the outcome of the answer is not known. They are few, since such answers are
    /// in flight.
    met: BTreeMap<Handle, SeenContact>,
    /// Oldest first.
    ages: BTreeMap<u64, Handle>,
    age: u64,
    /// How many were carried out since the last reading of all contacts began.
    unseen: usize,
    made_way: Option<SeenContact>,
}

impl ContactAttribution {
    /// An approval is about to be sent, or was, and perhaps carried out.
    pub(super) fn intended(&mut self, request: &RequestId, handle: Option<&Handle>) {
        let Some(handle) = handle else { return };
        match self.by_handle.get_mut(handle) {
            // They asked twice: whichever answer is carried out makes the contact.
            Some(approval) if approval.carried_out => {}
            Some(approval) => approval.request = Some(request.clone()),
            None => self.put(handle, request, false),
        }
    }

    /// The approval was carried out. Returns the contact, if it exists already.
    pub(super) fn carried_out(&mut self, request: &RequestId, handle: Option<&Handle>) -> Option<SeenContact> {
        let handle = handle?;
        let met = self.met.remove(handle);
        self.remove(handle);
        if met.is_none() {
            self.put(handle, request, true);
        }
        met
    }

    /// The approval was not carried out, and will not be. A contact that appeared meanwhile was not made by us.
    pub(super) fn dropped(&mut self, request: &RequestId, handle: Option<&Handle>) -> Option<SeenContact> {
        let handle = handle?;
        self.by_handle.get(handle).filter(|approval| approval.request.as_ref() == Some(request))?;
        self.remove(handle);
        self.met.remove(handle)
    }

    /// Another request has this id by now: the contact that the one before makes is not that of the new one.
    pub(super) fn id_reused(&mut self, request: &RequestId) {
        for approval in self.by_handle.values_mut() {
            approval.request.take_if(|known| known == request);
        }
    }

    /// A contact appeared. Returns the request whose approval made it, or no request, as far as this is known now;
    /// `None` if only the outcome of an answer will show it.
    pub(super) fn meet(&mut self, contact: Contact, news: bool) -> Option<(SeenContact, Option<RequestId>)> {
        let met = SeenContact { contact, news };
        let Some(handle) = met.contact.sender.handle().cloned() else { return Some((met, None)) };
        match self.by_handle.get(&handle) {
            None => Some((met, None)),
            Some(approval) if approval.carried_out => {
                let request = self.remove(&handle).and_then(|approval| approval.request);
                Some((met, request))
            }
            Some(_) => {
                self.met.insert(handle, met);
                None
            }
        }
    }

    /// How many approved senders could not yet be in any reading of the contacts.
    pub(super) fn unseen(&self) -> usize {
        self.unseen
    }

    /// How many of those that were carried out later than that age have not met their contact.
    pub(super) fn carried_out_since(&self, age: u64) -> usize {
        let later = self.ages.range(age + 1..).filter_map(|(_, handle)| self.by_handle.get(handle));
        later.filter(|approval| approval.carried_out).count()
    }

    /// Whether an approval of this handle was carried out, and its contact is not here yet.
    pub(super) fn awaits(&self, handle: Option<&Handle>) -> bool {
        handle.and_then(|handle| self.by_handle.get(handle)).is_some_and(|approval| approval.carried_out)
    }

    /// Whether an approval was carried out whose contact does not exist yet: for anybody of this handle's owner, and
    /// for this very handle.
    pub(super) fn awaits_of(&self, handle: &Handle) -> (bool, bool) {
        let Ok(owner) = Handle::parse(handle.owner()) else { return (false, false) };
        let near =
            self.by_handle.range(owner.clone()..).take_while(|(one, _)| one.as_str().starts_with(owner.as_str()));
        let mut theirs = near.filter(|(one, approval)| one.owner() == owner.as_str() && approval.carried_out);
        (theirs.next().is_some(), self.awaits(Some(handle)))
    }

    /// The current age: everything with an age up to this one existed before now.
    pub(super) fn age(&self) -> u64 {
        self.age
    }

    /// All contacts were read and matched. An approval that was carried out before the reading began, and whose contact
    /// is missing again and again, made a contact that came and went unseen: it stops waiting. Returns whether there
    /// was one.
    pub(super) fn not_among_all(&mut self, before: u64) -> bool {
        let mut gone = Vec::new();
        for handle in self.ages.range(..=before).map(|(_, handle)| handle) {
            if let Some(approval) = self.by_handle.get_mut(handle).filter(|approval| approval.carried_out) {
                self.unseen -= usize::from(approval.missed == 0);
                approval.missed += 1;
                if approval.missed >= MISSED_MAX {
                    gone.push(handle.clone());
                }
            }
        }
        for handle in &gone {
            self.remove(handle);
        }
        !gone.is_empty()
    }

    /// A contact that stopped waiting for the outcome of its answer, because others needed the room.
    pub(super) fn made_way(&mut self) -> Option<SeenContact> {
        self.made_way.take()
    }

    /// A contact was removed before the outcome of its answer was known: it is treated as if it had never existed.
    pub(super) fn parted(&mut self, contact: &ContactId) -> Option<SeenContact> {
        let (handle, _) = self.met.iter().find(|(_, met)| met.contact.id == *contact)?;
        self.met.remove(&handle.clone())
    }

    fn put(&mut self, handle: &Handle, request: &RequestId, carried_out: bool) {
        self.age += 1;
        self.ages.insert(self.age, handle.clone());
        let approval = OpenApproval { request: Some(request.clone()), carried_out, age: self.age, missed: 0 };
        self.by_handle.insert(handle.clone(), approval);
        self.unseen += usize::from(carried_out);
        if self.by_handle.len() > APPROVALS_MAX
            && let Some(oldest) = self.ages.first_key_value().map(|(_, handle)| handle.clone())
        {
            self.remove(&oldest);
            self.made_way = self.met.remove(&oldest);
        }
    }

    fn remove(&mut self, handle: &Handle) -> Option<OpenApproval> {
        let approval = self.by_handle.remove(handle)?;
        self.ages.remove(&approval.age);
        self.unseen -= usize::from(approval.carried_out && approval.missed == 0);
        Some(approval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContactKind, Sender};

    fn id(text: &str) -> RequestId {
        RequestId::parse(text).unwrap()
    }

    fn handle(text: &str) -> Handle {
        Handle::parse(text).unwrap()
    }

    fn contact(text: &str) -> Contact {
        let id = ContactId::parse(&format!("contact-{text}")).unwrap();
        Contact {
            id,
            sender: Sender::parse(Some(text)),
            name: None,
            kind: ContactKind::User,
            inserted_at: None,
            ids: None,
        }
    }

    /// Who made a contact: `None` if that is still open, `Some(None)` if no request of ours did.
    fn made_by(met: Option<(SeenContact, Option<RequestId>)>) -> Option<Option<String>> {
        met.map(|(_, request)| request.map(|request| request.to_string()))
    }

    #[test]
    fn approval_and_contact_find_each_other_whichever_comes_first() {
        let mut attribution = ContactAttribution::default();
        let ann = handle("ann");
        attribution.intended(&id("r1"), Some(&ann));
        assert_eq!(attribution.carried_out(&id("r1"), Some(&ann)), None);
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(Some("r1".into())));
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(None), "once");

        attribution.intended(&id("r2"), Some(&ann));
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), None, "the reply will tell");
        assert_eq!(attribution.carried_out(&id("r2"), Some(&ann)).unwrap().contact, contact("ann"));
        assert!(attribution.by_handle.is_empty() && attribution.ages.is_empty());
    }

    #[test]
    fn who_asks_twice_at_once_is_a_contact_of_the_answer_that_was_carried_out() {
        let mut attribution = ContactAttribution::default();
        let ann = handle("ann");
        attribution.intended(&id("r1"), Some(&ann));
        attribution.meet(contact("ann"), true);
        attribution.intended(&id("r2"), Some(&ann));
        assert_eq!(attribution.carried_out(&id("r1"), Some(&ann)).unwrap().contact, contact("ann"));

        let bob = handle("bob");
        attribution.intended(&id("r3"), Some(&bob));
        attribution.carried_out(&id("r3"), Some(&bob));
        attribution.intended(&id("r4"), Some(&bob));
        attribution.dropped(&id("r4"), Some(&bob));
        assert_eq!(made_by(attribution.meet(contact("bob"), true)), Some(Some("r3".into())));
    }

    #[test]
    fn what_an_earlier_request_of_the_id_made_is_not_of_the_later_one() {
        let mut attribution = ContactAttribution::default();
        let ann = handle("ann");
        attribution.carried_out(&id("r1"), Some(&ann));
        attribution.id_reused(&id("r1"));
        attribution.intended(&id("r1"), Some(&handle("eve")));
        assert_eq!(attribution.unseen(), 1, "it counts all the same");
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(None));
        assert_eq!(attribution.unseen(), 0);
    }

    #[test]
    fn what_was_not_carried_out_made_nobody_a_contact() {
        let mut attribution = ContactAttribution::default();
        let ann = handle("ann");
        attribution.intended(&id("r1"), Some(&ann));
        attribution.meet(contact("ann"), true);
        assert_eq!(attribution.dropped(&id("r2"), Some(&ann)), None, "another request's end");
        assert_eq!(attribution.dropped(&id("r1"), Some(&ann)).unwrap().contact, contact("ann"));
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(None));
    }

    #[test]
    fn who_left_before_the_answer_ended_is_no_contact_of_it() {
        let mut attribution = ContactAttribution::default();
        let ann = handle("ann");
        attribution.intended(&id("r1"), Some(&ann));
        attribution.meet(contact("ann"), true);
        assert!(attribution.parted(&contact("ann").id).is_some());
        assert_eq!(attribution.carried_out(&id("r1"), Some(&ann)), None);
    }

    #[test]
    fn whose_contact_was_never_seen_is_forgotten_after_three_readings_of_all() {
        let mut attribution = ContactAttribution::default();
        let (ann, bob, eve) = (handle("ann"), handle("bob"), handle("eve"));
        attribution.carried_out(&id("r1"), Some(&ann));
        attribution.intended(&id("r2"), Some(&bob));
        attribution.intended(&id("r3"), Some(&eve));
        assert_eq!(attribution.unseen(), 1);
        for _ in 0..2 {
            attribution.not_among_all(attribution.age());
            assert_eq!(attribution.unseen(), 0);
        }
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(Some("r1".into())), "not yet");

        attribution.carried_out(&id("r1"), Some(&ann));
        let before = attribution.age();
        attribution.carried_out(&id("r3"), Some(&eve));
        assert_eq!(attribution.unseen(), 2);
        for _ in 0..3 {
            attribution.not_among_all(before);
            assert_eq!(attribution.unseen(), 1);
        }
        assert_eq!(made_by(attribution.meet(contact("ann"), true)), Some(None), "forgotten");
        assert_eq!(made_by(attribution.meet(contact("bob"), true)), None, "its end is not known");
        assert_eq!(
            made_by(attribution.meet(contact("eve"), true)),
            Some(Some("r3".into())),
            "carried out since they began"
        );
        assert_eq!(
            (attribution.by_handle.len(), attribution.ages.len(), attribution.met.len(), attribution.unseen()),
            (1, 1, 1, 0)
        );
    }

    #[test]
    fn the_oldest_make_way_and_take_no_contact_along() {
        let mut attribution = ContactAttribution::default();
        attribution.intended(&id("r0"), Some(&handle("h0")));
        attribution.meet(contact("h0"), true);
        for number in 1..APPROVALS_MAX {
            attribution.intended(&id(&format!("r{number}")), Some(&handle(&format!("h{number}"))));
            assert_eq!(attribution.made_way(), None);
        }
        assert_eq!(attribution.carried_out(&id("one-more"), Some(&handle("one-more"))), None);
        assert_eq!(attribution.made_way().unwrap().contact, contact("h0"));
        assert_eq!((attribution.by_handle.len(), attribution.ages.len()), (APPROVALS_MAX, APPROVALS_MAX));
    }
}
