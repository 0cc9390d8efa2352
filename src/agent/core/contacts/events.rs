//! Handles a page of the contact list, the channel's reports of contacts, and the removal of a contact.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{ContactReading, FRESH, HELD_MAX, LEFT_MAX, MANY_WAITING, PAGES_MAX, RETRY};
use crate::agent::core::contact_attribution::SeenContact;
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::agent::core::{Action, Core};
use crate::clock::{Mono, Now};
use crate::inbox::{Mark, PAGE_SIZE, PAGE_SIZES, fingerprint};
use crate::ledger::Record;
use crate::model::{Contact, ContactId, ContactKind, Handle, RequestId, Sender, StrangerText};
use crate::platform::{CallFault, Page, Reply};
use crate::policy::doubts::{AddOutcome, AffectedOwners, Fact, OPEN_MAX, OpenContact};

impl Core {
    /// When the next reading is due, or the next page of one that waits for requests.
    pub(in crate::agent::core) fn contacts_due(&self, now: Now) -> Option<Mono> {
        let Some(reading) = &self.contacts.reading else { return self.contacts.due() };
        let since = reading.held.flatten()?;
        Some(if self.strangers_first() { since + HELD_MAX } else { now.mono })
    }

    /// Many requests wait for a decision, which does not depend on contacts.
    fn strangers_first(&self) -> bool {
        let asked = self.contacts.asks(self.policy.as_deref()) || self.guests.len() > 0;
        !asked && self.inbox.waiting() > MANY_WAITING
    }

    /// The next page of a reading that waited, or the first one.
    pub(in crate::agent::core) fn read_contacts(&mut self, now: Now) {
        let Some(reading) = &mut self.contacts.reading else { return self.begin_contacts(now) };
        reading.held = Some(None);
        let (call, page, size) = (reading.call, reading.page, reading.size);
        self.act(Action::Contacts { call, page, size });
    }

    fn begin_contacts(&mut self, now: Now) {
        self.contacts.calls += 1;
        self.contacts.next = now.mono + self.contacts.rhythm();
        self.contacts.began = Some((self.inbox.mark(), now.mono));
        let call = self.contacts.calls;
        self.policy_state.doubts_mut().reading_begins(call);
        self.contacts.reading = Some(ContactReading {
            call,
            page: 1,
            approvals: self.contacts.attribution.age(),
            since: now.wall,
            shown: 0,
            left: BTreeSet::new(),
            total: None,
            change_reported: false,
            disturbed: false,
            size: PAGE_SIZE,
            held: None,
            odd: false,
            crowded: false,
            print: None,
            unread: 0,
        });
        self.act(Action::Contacts { call, page: 1, size: PAGE_SIZE });
    }

    pub(in crate::agent::core) fn contacts_page(&mut self, call: u64, reply: Reply<Page<Contact>>, now: Now) {
        self.watch_date(reply.date, now);
        let Some(reading) = self.contacts.reading.as_mut().filter(|reading| reading.call == call) else { return };
        let page = match reply.result {
            Ok(page) => page,
            Err(error) if error.fault == CallFault::TooLarge && reading.size > 1 => {
                let smaller = PAGE_SIZES.into_iter().find(|size| *size < reading.size).unwrap_or(1);
                reading.page = (reading.page - 1).saturating_mul(reading.size / smaller).saturating_add(1);
                reading.size = smaller;
                let (page, size) = (reading.page, reading.size);
                self.act(Action::Contacts { call, page, size });
                return;
            }
            Err(error) => {
                self.contacts.reading = None;
                let asked = error.retry_after.unwrap_or_default().min(self.config.timing.retry_after_max);
                self.contacts.next = now.mono + RETRY.max(asked);
                self.throttle(&error, now);
                match error.fault {
                    CallFault::InBetween(_) => self.in_between(&error, now),
                    CallFault::Malformed(_)
                    | CallFault::KeyRefused
                    | CallFault::NoKey
                    | CallFault::Forbidden
                    | CallFault::NotFound
                    | CallFault::Conflict
                    | CallFault::Throttled
                    | CallFault::Passing(_)
                    | CallFault::Unreachable
                    | CallFault::NoAnswer
                    | CallFault::Unreadable(_)
                    | CallFault::TooLarge => self.tell(Notice::ListFailed { what: "contacts", error }),
                }
                return;
            }
        };
        reading.odd |= !page.nameless.is_empty();
        reading.disturbed |= reading.page > 1 && reading.total != page.total;
        reading.total = page.total;
        reading.crowded |= page.total.is_some_and(|total| total > OPEN_MAX as u64);
        if !reading.change_reported {
            self.contacts.total = page.total.map(|total| (total, reading.approvals));
        }
        let (rows, number, size) = (page.rows(), reading.page, reading.size);
        let ids = page.items.iter().map(|item| &item.id).chain(page.unreadable.iter().map(|row| &row.id));
        let print = fingerprint(ids.map(ContactId::as_str));
        // If the platform gives no number of pages, a repeated page is the last one.
        let same = page.pages.is_none() && reading.print.replace(print) == Some(print);
        reading.odd |= same;
        let known = self.policy_state.doubts().contacts();
        reading.unread += page.unreadable.iter().filter(|row| !known.has_owner(&row.id)).count() as u64;
        // Contacts that appeared while no daemon ran are new, too.
        let news = self.contacts.whole || !self.new_to_record;
        for contact in page.items {
            self.show_contact(contact, news, now);
        }
        for row in page.unreadable {
            // The contact exists, but its handle cannot be read.
            let (sender, kind) = (Sender::Absent, ContactKind::Other);
            let contact = Contact { id: row.id, sender, name: None, kind, inserted_at: None, ids: None };
            self.show_contact(contact, news, now);
        }
        let more = page.pages.map_or(rows as u32 >= size, |pages| number < pages);
        let Some(reading) = &mut self.contacts.reading else { return };
        reading.crowded |= self.policy_state.doubts().contacts().crowded();
        if !more || same || rows == 0 {
            self.contacts_read(now);
        } else if number >= PAGES_MAX || (reading.crowded && !self.policy_state.doubts().contacts().any_in_doubt()) {
            // There are more contacts than we keep, and all known ones were shown: reading the other pages would bring
            // nothing.
            (self.contacts.reading, self.contacts.whole, self.contacts.pages) = (None, false, number);
            self.guests_read(call, false, now);
        } else {
            reading.page += 1;
            let (page, may_wait) = (reading.page, reading.held.is_none());
            if may_wait && self.strangers_first() {
                if let Some(reading) = &mut self.contacts.reading {
                    reading.held = Some(Some(now.mono));
                }
                return;
            }
            self.act(Action::Contacts { call, page, size });
        }
    }

    fn show_contact(&mut self, contact: Contact, news: bool, now: Now) {
        self.contact_shown(&contact, now);
        self.guest_shown(&contact, now);
        match self.contacts.show(&contact, self.policy_state.doubts_mut(), now.wall) {
            AddOutcome::New => self.put_contact(contact, news, now),
            AddOutcome::Renamed => self.put_contact(contact, false, now),
            // The contact existed before the answer that is looked for, or the previous daemon did not know of that
            // answer.
            AddOutcome::Known if self.contacts.attribution.awaits(contact.sender.handle()) => {
                self.put_contact(contact, false, now)
            }
            AddOutcome::Known | AddOutcome::NoRoom => {}
        }
    }

    fn contacts_read(&mut self, now: Now) {
        let Some(reading) = self.contacts.reading.take() else { return };
        self.contacts.pages = reading.page;
        for contact in self.contacts.gone(&reading, self.policy_state.doubts_mut().contacts_mut(), now.mono) {
            self.removed_contact(&contact, now);
        }
        self.contacts.whole = !reading.crowded;
        self.contacts.read = self.contacts.began;
        self.contacts.read_odd = reading.odd;
        self.contacts.weigh(&reading, now.mono);
        self.baseline(self.policy_state.doubts().contacts().len(), now);
        let whole = !reading.odd && !reading.crowded && reading.unread == 0;
        self.guests_read(reading.call, whole, now);
        if whole {
            if self.policy_state.contacts_read(reading.call) {
                self.contacts.read_soon(now.mono);
            }
            let gave_up = self.contacts.attribution.not_among_all(reading.approvals);
            if gave_up && self.contacts.asks_contacts {
                self.inbox.requeue_resting(|_| true);
            }
        }
    }

    /// Takes over the contacts that are open on record at the start: nobody watched them since the last line of the
    /// record.
    pub(in crate::agent::core) fn contacts_on_record(&mut self, open: Vec<OpenContact>, since: Timestamp) {
        self.contacts.unwatched = since;
        self.policy_state.doubts_mut().contacts_mut().on_record(open, since);
    }

    /// Notes whether the channel reports contacts. Its reports are complete only from a reading on that begins while it
    /// is joined.
    pub(in crate::agent::core) fn watch_contacts(&mut self, now: Now) {
        let joined = self.session.joined();
        if std::mem::replace(&mut self.contacts.watched, joined) && !joined {
            self.contacts.unwatched = now.wall;
            self.contacts.keep_up();
        }
    }

    /// Since when the contacts are not watched; now, if they are watched.
    pub(in crate::agent::core) fn unwatched_since(&self, now: Now) -> Timestamp {
        if self.contacts.watched { now.wall } else { self.contacts.unwatched }
    }

    /// The channel was joined, or said something of a contact that could not be read: what happened before is not known.
    pub(in crate::agent::core) fn contacts_unwatched(&mut self, now: Now) {
        let since = self.unwatched_since(now);
        let reading = self.contacts.calls + 1;
        self.policy_state.doubts_mut().contacts_mut().unwatched(reading, since);
        self.contacts.watched_since = Some(self.inbox.mark());
        self.contacts.read_next(now.mono);
    }

    /// While the channel reports no contacts, doorman looks for the contacts of the sender before a rule may say that
    /// nobody was removed.
    pub(in crate::agent::core) fn look_for_contacts(&mut self, asked: Mark, handle: Option<&Handle>, now: Now) {
        let Some(handle) = handle.filter(|_| self.contacts.asks_removed && !self.session.joined()) else { return };
        let fresh = FRESH + Duration::from_secs(self.contacts.pages.into());
        let seen = self.contacts.began.is_some_and(|(mark, began)| mark > asked && now.mono.since(began) <= fresh);
        let reading = self.contacts.calls + u64::from(!seen);
        let since = self.contacts.unwatched;
        if self.policy_state.doubts_mut().look_for(handle.owner(), reading, since) && !seen {
            self.contacts.read_next(now.mono);
        }
    }

    /// If a doubt about somebody began or ended, their resting requests are decided again.
    pub(in crate::agent::core) fn doubts_changed(&mut self) {
        let Some(concerned) = self.policy_state.doubts_mut().take_changed() else { return };
        self.inbox.requeue_resting(|entry| match (&concerned, entry.request().sender.handle()) {
            (AffectedOwners::Everybody, _) => true,
            (AffectedOwners::Owners(_), Some(handle)) => concerned.contains(handle.owner()),
            (AffectedOwners::Owners(_), None) => false,
        });
    }

    /// Whether somebody of this handle's owner is a contact now, and whether this very handle is, if the policy asks and
    /// that is known.
    pub(in crate::agent::core) fn is_contact(&self, handle: Option<&Handle>, now: Now) -> (Option<bool>, Option<bool>) {
        let Some(handle) = handle.filter(|_| self.contacts.asks_contacts && self.contacts.believed(now.mono)) else {
            return (None, None);
        };
        // A sender who was let in and is not shown yet is a contact by now, or was removed again.
        let awaited = self.contacts.attribution.awaits_of(handle);
        let unsure = self.contacts.read_odd || !self.contacts.proves_absence(now.mono);
        let known = |is: Option<bool>, awaited: bool| is.filter(|is| *is || !(awaited || unsure));
        let (owner, sender) = self.policy_state.doubts().is_contact(handle, now.wall);
        (known(owner, awaited.0), known(sender, awaited.1))
    }

    /// When it becomes known or unknown who is a contact, the resting requests are decided again.
    pub(in crate::agent::core) fn contacts_believed(&mut self, now: Now) {
        if !self.contacts.asks_contacts {
            return;
        }
        let absence = !self.contacts.read_odd
            && self.contacts.proves_absence(now.mono)
            && self.policy_state.doubts().contacts().tells_absence();
        let tells = (self.contacts.believed(now.mono), absence);
        if std::mem::replace(&mut self.contacts.tells, tells) != tells {
            self.inbox.requeue_resting(|_| true);
        }
    }

    /// A contact changed: the resting requests of its owners are decided again.
    fn contact_changed(&mut self, contact: &Contact) {
        if !self.contacts.asks_contacts {
            return;
        }
        let doubts = self.policy_state.doubts_mut();
        let owners = doubts.contacts().owners_of(&contact.id).to_vec();
        owners.iter().for_each(|owner| doubts.touch(owner));
    }

    /// How many contacts there are, if that is known.
    pub(in crate::agent::core) fn contact_count(&self) -> Option<u64> {
        self.contacts.count(self.policy_state.doubts().contacts().len())
    }

    /// When the number of contacts passes one that the policy asks about, or becomes known, the resting requests are
    /// decided again.
    pub(in crate::agent::core) fn contacts_counted(&mut self) {
        let exceeded = self.contacts.count_exceeded(self.policy_state.doubts().contacts().len());
        if std::mem::replace(&mut self.contacts.exceeded, exceeded) != exceeded && !self.contacts.thresholds.is_empty()
        {
            self.inbox.requeue_resting(|_| true);
        }
    }

    /// The channel reported a new contact.
    pub(in crate::agent::core) fn contact_added(&mut self, contact: Contact, now: Now) {
        self.contact_shown(&contact, now);
        let reading = self.contacts.calls;
        let added = self.policy_state.doubts_mut().contact_seen(&contact, reading, now.wall);
        self.contacts.change_reported(i64::from(matches!(added, AddOutcome::New | AddOutcome::NoRoom)));
        match added {
            AddOutcome::New => self.put_contact(contact, true, now),
            // The contact is on record, and its removal finds it there.
            AddOutcome::NoRoom => self.put_contact(contact, true, now),
            AddOutcome::Renamed => self.put_contact(contact, false, now),
            AddOutcome::Known => {}
        }
    }

    /// A contact was removed, as the channel reported or a reading proves.
    pub(in crate::agent::core) fn removed_contact(&mut self, contact: &ContactId, now: Now) {
        let expired = self.gone_by_end(contact, now);
        self.contact_left(contact, expired, now);
    }

    /// A contact is gone, perhaps because its end had come.
    pub(in crate::agent::core) fn contact_left(&mut self, contact: &ContactId, expired: bool, now: Now) {
        if self.contacts.left.contains(contact) && self.policy_state.doubts().contacts().seen(contact).is_none() {
            // The removal was already reported.
            return;
        }
        self.contact_parted(contact, now);
        let known = self.policy_state.doubts().contacts().seen(contact).is_some();
        if let Some(reading) = self.contacts.reading.as_mut().filter(|_| known) {
            // A page that was made before the removal may still arrive. Only known contacts are noted, so that events
            // alone cannot fill this set.
            reading.left.insert(contact.clone());
        }
        self.contacts.change_reported(-1);
        if self.contacts.left.len() >= LEFT_MAX {
            self.contacts.left.pop_front();
        }
        self.contacts.left.push_back(contact.clone());
        let guest = self.guests.left(contact);
        let handle = match expired {
            true => self.policy_state.contact_expired(contact),
            false => self.policy_state.contact_removed(contact, now.wall),
        };
        self.record(Record::ContactRemoved {
            agent: self.config.agent.clone(),
            contact: contact.clone(),
            expired,
            at: now.wall,
        });
        if !expired && !known && self.policy_state.doubts().contacts().crowded() {
            // There are more contacts than we keep: the record shows whose contact it was.
            self.policy_state.doubts_mut().forget(Fact::Removed, now.wall);
            self.read_removals_again(now);
        }
        self.count(Counter::ContactsRemoved);
        let (contact, handle) = (contact.clone(), handle.map(|handle| StrangerText::new(handle.as_str())));
        if expired {
            self.count(Counter::GuestsExpired);
            self.tell(Notice::GuestExpired { contact, handle, request: guest.map(|guest| guest.request) });
        } else {
            self.tell(Notice::ContactRemoved { contact, handle });
        }
    }

    /// Records a contact with the answer of ours that made it, as soon as that is known; `news` is whether to report it
    /// as new.
    fn put_contact(&mut self, contact: Contact, news: bool, now: Now) {
        self.contact_changed(&contact);
        if let Some(handle) = contact.sender.handle() {
            self.policy_state.doubts_mut().recognised(handle.owner());
        }
        let shown = Box::new(contact.clone());
        match self.contacts.attribution.meet(contact, news) {
            Some((met, request)) => self.met(met, request, now),
            // Only the outcome of an answer will show who made it. The contact may be removed before that, or while no
            // daemon runs, so it is recorded at once.
            None => {
                let (agent, at) = (self.config.agent.clone(), now.wall);
                self.record(Record::ContactAdded { agent, contact: shown, request: None, guest: None, at });
            }
        }
    }

    /// An approval is about to be sent, or may have been.
    pub(in crate::agent::core) fn approving(&mut self, id: &RequestId, handle: Option<&Handle>, now: Now) {
        self.contacts.attribution.intended(id, handle);
        self.make_way(now);
    }

    /// An approval was carried out, or certainly was not and will not be.
    pub(in crate::agent::core) fn approval_ended(
        &mut self,
        id: &RequestId,
        handle: Option<&Handle>,
        carried_out: bool,
        now: Now,
    ) {
        if let Some(handle) = handle.filter(|_| carried_out && self.contacts.asks_contacts) {
            self.policy_state.doubts_mut().touch(handle.owner());
        }
        if carried_out {
            if let Some(met) = self.contacts.attribution.carried_out(id, handle) {
                self.met(met, Some(id.clone()), now);
            } else if !self.session.joined() {
                // Nothing reports the contact.
                self.contacts.read_soon(now.mono);
            }
            self.make_way(now);
        } else if let Some(met) = self.contacts.attribution.dropped(id, handle) {
            self.met(met, None, now);
        }
    }

    /// A contact is removed that waited for the outcome of its answer: it is recorded as added, without the answer that
    /// made it.
    pub(in crate::agent::core) fn contact_parted(&mut self, contact: &ContactId, now: Now) {
        if let Some(met) = self.contacts.attribution.parted(contact) {
            self.met(met, None, now);
        }
    }

    fn make_way(&mut self, now: Now) {
        if let Some(met) = self.contacts.attribution.made_way() {
            self.met(met, None, now);
        }
    }

    fn met(&mut self, met: SeenContact, request: Option<RequestId>, now: Now) {
        let SeenContact { contact, news } = met;
        let guest = self.guest_met(request.as_ref(), &contact);
        self.policy_state.contact_made(&contact, request.as_ref(), now.wall);
        if request.is_some() || self.contacts.rows.takes(now.mono) {
            self.record(Record::ContactAdded {
                agent: self.config.agent.clone(),
                contact: Box::new(contact.clone()),
                request: request.clone(),
                guest,
                at: now.wall,
            });
        } else {
            self.count(Counter::RecordsLeftOut);
        }
        if news {
            if request.is_none() {
                self.unexplained(&contact);
            }
            self.count(Counter::ContactsAdded);
            self.tell(Notice::ContactAdded { contact, request });
        }
    }
}
