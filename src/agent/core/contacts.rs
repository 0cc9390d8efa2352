//! The agent's contact list, as far as decisions and the record need it: how many, and whose a removed one was.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::contact_attribution::{ContactAttribution, Met};
use super::{Action, Core};
use crate::agent::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::{PAGE_SIZE, PAGE_SIZES};
use crate::ledger::Record;
use crate::model::{Contact, ContactId, Handle, RequestId};
use crate::platform::{CallFault, Page, Reply};
use crate::policy::Policy;

/// Between readings while nothing asks for one.
const RHYTHM: Duration = Duration::from_secs(3600);
/// After a reading that failed; or, with a second a page besides, after one that leaves somebody in doubt, or where nobody
/// tells of new contacts.
const RETRY: Duration = Duration::from_secs(30);
/// Readings in succession that miss a contact, before it counts as removed although each was disturbed: a row slips from one
/// page to the one already read only where another row goes at that very moment, and never does so time and again.
pub(super) const MISSED_MAX: u8 = 3;
/// More contacts than this are not counted: their number is unknown then.
const CONTACTS_MAX: usize = 100_000;
/// Twice the pages that so many take.
pub(super) const PAGES_MAX: u32 = 2_000;

#[derive(Debug)]
pub(super) struct Contacts {
    /// Not a `HashMap`: with contacts that come and go, that doubles.
    known: BTreeMap<ContactId, Known>,
    /// The list was read once from end to end: [`Contacts::known`] is all of it.
    whole: bool,
    reading: Option<Reading>,
    next: Mono,
    calls: u64,
    /// Pages of the last reading.
    pages: u32,
    /// Rows of the last reading of which only the id could be read, and that are not known otherwise.
    unread: u64,
    attribution: ContactAttribution,
    /// The numbers that the policy asks about, in order.
    asked: Vec<u64>,
    /// How many of them are exceeded, if that is known, as what rests was decided by.
    exceeded: Option<usize>,
}

#[derive(Debug)]
struct Known {
    handle: Option<Handle>,
    /// The last reading that showed it, or during which it came.
    seen: u64,
    /// Readings in succession without it.
    missed: u8,
}

#[derive(Debug)]
struct Reading {
    call: u64,
    page: u32,
    /// The approvals up to this one were there when it began.
    approvals: u64,
    /// How many it showed.
    shown: u64,
    /// Removed since it began.
    left: BTreeSet<ContactId>,
    total: Option<u64>,
    /// By an event or a moving total, and what is missing may have slipped through: one such reading proves nothing.
    disturbed: bool,
    /// Rows a page.
    size: u32,
    /// Some row has no readable id, and may be the missing one, this time and the next: no such reading proves anything.
    odd: bool,
    /// Rows of which only the id could be read, and that are not known otherwise: each may be one of our making.
    unread: u64,
}

impl Contacts {
    pub(super) fn new(policy: Option<&Policy>, now: Mono) -> Self {
        let mut contacts = Self {
            known: BTreeMap::new(),
            whole: false,
            reading: None,
            next: now + super::listing::FIRST_LISTING,
            calls: 0,
            pages: 1,
            unread: 0,
            attribution: ContactAttribution::default(),
            asked: Vec::new(),
            exceeded: None,
        };
        contacts.asked_by(policy);
        contacts
    }

    /// How many contacts there are, if that is known. Whoever was let in counts from then on, seen or not: without a channel
    /// they are only seen at the next reading.
    pub(super) fn count(&self) -> Option<u64> {
        self.whole.then(|| (self.known.len() + self.attribution.unseen()) as u64 + self.unread)
    }

    /// This policy is in force, and everything is decided anew.
    pub(super) fn asked_by(&mut self, policy: Option<&Policy>) {
        self.asked = policy.map(Policy::contact_counts).unwrap_or_default();
        self.exceeded = self.count_exceeded();
    }

    fn count_exceeded(&self) -> Option<usize> {
        self.count().map(|count| self.asked.partition_point(|asked| *asked < count))
    }

    /// Reads the list soon, but not all the time where it is long.
    fn read_soon(&mut self, now: Mono) {
        self.next = self.next.min(now + RETRY + Duration::from_secs(self.pages.into()));
    }

    pub(super) fn due(&self) -> Option<Mono> {
        self.reading.is_none().then_some(self.next)
    }

    pub(super) fn want(&mut self, now: Mono) {
        self.reading = None;
        self.next = now;
    }

    pub(super) fn remove(&mut self, contact: &ContactId) -> Option<Handle> {
        let known = self.known.remove(contact);
        if let Some(reading) = &mut self.reading {
            reading.disturbed = true;
            // A page may be on its way that was made before. Only whom we knew: events alone must not fill this.
            if known.is_some() {
                reading.left.insert(contact.clone());
            }
        }
        known?.handle
    }

    /// It is there; whether that is new.
    fn add(&mut self, contact: &Contact) -> bool {
        let room = self.known.len() < CONTACTS_MAX;
        let known = Known { handle: contact.sender.handle().cloned(), seen: self.calls, missed: 0 };
        match self.known.entry(contact.id.clone()) {
            Entry::Occupied(mut entry) => {
                entry.insert(known);
                false
            }
            Entry::Vacant(entry) => {
                if room {
                    entry.insert(known);
                }
                true
            }
        }
    }

    /// A page of the reading under way shows it; whether that is new.
    fn show(&mut self, contact: &Contact) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        if reading.left.contains(&contact.id) {
            return false;
        }
        // Rows that slip from page to page are shown twice.
        if self.known.get(&contact.id).is_none_or(|known| known.seen != reading.call) {
            reading.shown += 1;
        }
        self.add(contact)
    }

    /// A page of the reading under way shows this one, and no more of it than its id.
    fn show_unreadable(&mut self, id: &ContactId) {
        let Some(reading) = &mut self.reading else { return };
        match self.known.get_mut(id) {
            Some(known) if known.seen == reading.call => return,
            Some(known) => (known.seen, known.missed) = (reading.call, 0),
            None => reading.unread += 1,
        }
        reading.shown += 1;
    }

    /// Those of the known ones that a reading proves gone; where it leaves some in doubt, it is soon read again.
    fn gone(&mut self, reading: &Reading, now: Mono) -> Vec<ContactId> {
        if reading.odd {
            return Vec::new();
        }
        let counted = reading.total.is_none_or(|total| total == reading.shown);
        let (mut gone, mut again) = (Vec::new(), false);
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.seen != reading.call) {
            known.missed += u8::from(reading.disturbed);
            if (!reading.disturbed && counted) || known.missed >= MISSED_MAX {
                gone.push(id.clone());
            } else if reading.disturbed {
                again = true;
            }
        }
        if again {
            self.read_soon(now);
        }
        gone
    }
}

impl Core {
    pub(super) fn begin_contacts(&mut self, now: Now) {
        if !self.may_list() || self.responder.blocked(now.mono).is_some() {
            return;
        }
        if self.contacts.due().is_none_or(|due| due > now.mono) {
            return;
        }
        self.contacts.calls += 1;
        self.contacts.next = now.mono + RHYTHM;
        let call = self.contacts.calls;
        self.contacts.reading = Some(Reading {
            call,
            page: 1,
            approvals: self.contacts.attribution.age(),
            shown: 0,
            left: BTreeSet::new(),
            total: None,
            disturbed: false,
            size: PAGE_SIZE,
            odd: false,
            unread: 0,
        });
        self.act(Action::Contacts { call, page: 1, size: PAGE_SIZE });
    }

    pub(super) fn contacts_page(&mut self, call: u64, reply: Reply<Page<Contact>>, now: Now) {
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
                    _ => self.tell(Notice::ListFailed { what: "contacts", error }),
                }
                return;
            }
        };
        reading.odd |= !page.nameless.is_empty();
        reading.disturbed |= reading.page > 1 && reading.total != page.total;
        reading.total = page.total;
        // More than are counted: all the pages would be for nothing.
        if page.total.is_some_and(|total| total > CONTACTS_MAX as u64) {
            self.too_many_contacts();
            return;
        }
        let (rows, number, size) = (page.rows(), reading.page, reading.size);
        let news = self.contacts.whole;
        for contact in page.items {
            if self.contacts.show(&contact) {
                self.put_contact(contact, news, now);
            }
        }
        for row in &page.unreadable {
            self.contacts.show_unreadable(&row.id);
        }
        let more = page.pages.map_or(rows as u32 >= size, |pages| number < pages);
        if !more || rows == 0 {
            self.contacts_read(now);
        } else if self.contacts.known.len() >= CONTACTS_MAX || number >= PAGES_MAX {
            self.too_many_contacts();
        } else if let Some(reading) = &mut self.contacts.reading {
            reading.page += 1;
            let page = reading.page;
            self.act(Action::Contacts { call, page, size });
        }
    }

    fn too_many_contacts(&mut self) {
        (self.contacts.reading, self.contacts.whole) = (None, false);
        self.contacts.known.clear();
    }

    fn contacts_read(&mut self, now: Now) {
        let Some(reading) = self.contacts.reading.take() else { return };
        self.contacts.pages = reading.page;
        for contact in self.contacts.gone(&reading, now.mono) {
            self.removed_contact(&contact, now);
        }
        (self.contacts.whole, self.contacts.unread) = (true, reading.unread);
        self.baseline(self.contacts.known.len());
        if !reading.odd && reading.unread == 0 {
            self.contacts.attribution.not_among_all(reading.approvals);
        }
    }

    /// Where the number of contacts has passed one that the policy asks about, or became known, what rests is decided again.
    pub(super) fn contacts_counted(&mut self) {
        let exceeded = self.contacts.count_exceeded();
        if std::mem::replace(&mut self.contacts.exceeded, exceeded) != exceeded && !self.contacts.asked.is_empty() {
            self.inbox.requeue_resting(|_| true);
        }
    }

    /// The channel told of a new contact.
    pub(super) fn contact_added(&mut self, contact: Contact, now: Now) {
        if let Some(reading) = &mut self.contacts.reading {
            reading.disturbed = true;
        }
        if self.contacts.add(&contact) {
            self.put_contact(contact, true, now);
        }
    }

    /// Puts a contact on record, with the answer of ours that made it, as soon as it can be told; `news` is whether it is worth
    /// telling.
    fn put_contact(&mut self, contact: Contact, news: bool, now: Now) {
        if let Some((met, request)) = self.contacts.attribution.meet(contact, news) {
            self.met(met, request, now);
        }
    }

    /// An approval is about to be sent, or may have been.
    pub(super) fn approving(&mut self, id: &RequestId, handle: Option<&Handle>, now: Now) {
        self.contacts.attribution.intended(id, handle);
        self.make_way(now);
    }

    /// An approval was carried out, or certainly was not and will not be.
    pub(super) fn approval_ended(&mut self, id: &RequestId, handle: Option<&Handle>, applied: bool, now: Now) {
        if applied {
            if let Some(met) = self.contacts.attribution.applied(id, handle) {
                self.met(met, Some(id.clone()), now);
            } else if !self.session.joined() {
                // Nobody tells of the contact.
                self.contacts.read_soon(now.mono);
            }
            self.make_way(now);
        } else if let Some(met) = self.contacts.attribution.dropped(id, handle) {
            self.met(met, None, now);
        }
    }

    /// A contact goes that waited for the end of its answer: it was here, by whomever.
    pub(super) fn contact_parted(&mut self, contact: &ContactId, now: Now) {
        if let Some(met) = self.contacts.attribution.parted(contact) {
            self.met(met, None, now);
        }
    }

    fn make_way(&mut self, now: Now) {
        if let Some(met) = self.contacts.attribution.made_way() {
            self.met(met, None, now);
        }
    }

    fn met(&mut self, met: Met, request: Option<RequestId>, now: Now) {
        let Met { contact, news } = met;
        self.record(Record::ContactAdded {
            agent: self.config.agent.clone(),
            contact: Box::new(contact.clone()),
            request: request.clone(),
            at: now.wall,
        });
        if news {
            if request.is_none() {
                self.unexplained(&contact);
            }
            self.count("contacts_added");
            self.tell(Notice::ContactAdded { contact, request });
        }
    }
}
