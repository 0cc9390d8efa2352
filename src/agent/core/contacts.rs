//! The agent's contact list, as far as decisions and the record need it: how many, and whose a removed one was.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::contact_attribution::{ContactAttribution, Met};
use super::{Action, Core};
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::{Mark, PAGE_SIZE, PAGE_SIZES};
use crate::ledger::Record;
use crate::model::{Contact, ContactId, ContactKind, Handle, RequestId, Sender, StrangerText};
use crate::platform::{CallFault, Page, Reply};
use crate::policy::Policy;
use crate::policy::doubts::{Added, Concerned, Doubts, Fact, OPEN_MAX, OpenContact, OpenContacts};

/// Between readings while nothing asks for one.
const RHYTHM: Duration = Duration::from_secs(3600);
/// After a reading that failed; or, with a second a page besides, after one that leaves somebody in doubt, or where nobody
/// tells of new contacts.
const RETRY: Duration = Duration::from_secs(30);
/// Readings in succession that miss a contact, before it counts as removed although each was disturbed: a row slips from one
/// page to the one already read only where another row goes at that very moment, and never does so time and again.
pub(super) const MISSED_MAX: u8 = 3;
/// While nobody tells of contacts, a reading that began longer ago does not show who is there now; and a second a page besides.
const FRESH: Duration = Duration::from_secs(60);
/// Between readings while nobody tells of contacts and the policy asks who is one.
const ASKED_RHYTHM: Duration = Duration::from_secs(300);
/// So long after its beginning, a reading shows who is a contact where nobody tells of them.
const BELIEVED: Duration = Duration::from_secs(900);
/// Removed contacts whose second removal is known for what it is.
const LEFT_MAX: usize = 256;
/// Twice the pages that as many contacts take as are kept.
pub(super) const PAGES_MAX: u32 = 2_000;

#[derive(Debug)]
pub(super) struct Contacts {
    /// The list was read once from end to end: those that are known are all of it.
    whole: bool,
    reading: Option<Reading>,
    next: Mono,
    calls: u64,
    /// The place of the last reading's beginning among what came to the inbox, and when it began.
    began: Option<(Mark, Mono)>,
    /// The same of the last one that came to its end.
    read: Option<(Mark, Mono)>,
    /// It had a row without a readable id, which may be anybody.
    read_odd: bool,
    /// Only readings that began later show, with what the channel told since, who is a contact.
    told_since: Option<Mark>,
    /// Pages of the last reading.
    pages: u32,
    /// How many there are, as the last page said, and as the channel told since, and which approvals came later; `None` where
    /// both spoke at once.
    total: Option<(u64, u64)>,
    /// The channel tells of contacts; else nobody does, since then.
    watched: bool,
    unwatched: Timestamp,
    /// Removed lately, oldest first.
    left: VecDeque<ContactId>,
    attribution: ContactAttribution,
    /// The numbers that the policy asks about, in order.
    asked: Vec<u64>,
    /// The policy asks who was removed.
    asks_removed: bool,
    /// The policy asks who is a contact.
    asks_contacts: bool,
    /// Whether it can be told who is a contact, and who is none, as what rests was decided by.
    tells: (bool, bool),
    /// How many of them are exceeded, if that is known, as what rests was decided by.
    exceeded: Option<usize>,
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
    /// The channel told of somebody meanwhile.
    told: bool,
    /// By an event or a moving total, and what is missing may have slipped through: one such reading proves nothing.
    disturbed: bool,
    /// Rows a page.
    size: u32,
    /// Some row has no readable id, and may be the missing one, this time and the next: no such reading proves anything.
    odd: bool,
    /// There are more than are kept: it is read only for those that are in doubt, and misses nobody.
    crowded: bool,
    /// Rows of which only the id could be read, and that are not known otherwise: each may be one of our making.
    unread: u64,
}

impl Contacts {
    pub(super) fn new(policy: Option<&Policy>, now: Now) -> Self {
        let mut contacts = Self {
            whole: false,
            reading: None,
            next: now.mono + super::listing::FIRST_LISTING,
            calls: 0,
            began: None,
            read: None,
            read_odd: false,
            told_since: None,
            pages: 1,
            total: None,
            watched: false,
            unwatched: now.wall,
            left: VecDeque::new(),
            attribution: ContactAttribution::default(),
            asked: Vec::new(),
            asks_removed: false,
            asks_contacts: false,
            tells: (false, false),
            exceeded: None,
        };
        contacts.asked_by(policy, 0);
        contacts
    }

    /// How many contacts there are, of whom so many are `known`, if that can be told. Whoever was let in counts from then on,
    /// seen or not: without a channel they are only seen at the next reading.
    fn count(&self, known: usize) -> Option<u64> {
        if self.whole {
            return Some((known + self.attribution.unseen()) as u64);
        }
        self.total.map(|(total, approvals)| total + self.attribution.applied_since(approvals) as u64)
    }

    /// This policy is in force, and everything is decided anew.
    pub(super) fn asked_by(&mut self, policy: Option<&Policy>, known: usize) {
        self.asked = policy.map(Policy::contact_counts).unwrap_or_default();
        self.asks_removed = policy.is_some_and(|policy| policy.history_needs().removed_reach().is_some());
        self.asks_contacts = policy.is_some_and(Policy::asks_contacts);
        self.keep_up();
        self.exceeded = self.count_exceeded(known);
    }

    fn count_exceeded(&self, known: usize) -> Option<usize> {
        self.count(known).map(|count| self.asked.partition_point(|asked| *asked < count))
    }

    /// How long it is between two readings while nothing asks for one.
    fn rhythm(&self) -> Duration {
        if self.asks_contacts && !self.watched { ASKED_RHYTHM } else { RHYTHM }
    }

    /// The next reading comes no later than the rhythm asks.
    fn keep_up(&mut self) {
        if let Some((_, began)) = self.began {
            self.next = self.next.min(began + self.rhythm());
        }
    }

    /// Whether the last reading, with what was told since, shows who is a contact now.
    fn believed(&self, now: Mono) -> bool {
        self.whole
            && self.read.is_some_and(|(mark, began)| {
                let told = self.watched && self.told_since.is_some_and(|since| mark > since);
                told || now.since(began) <= BELIEVED
            })
    }

    /// Reads the list soon, but not all the time where it is long.
    fn read_soon(&mut self, now: Mono) {
        self.next = self.next.min(now + self.pause());
    }

    /// The same, at once where the last reading is long ago.
    fn read_next(&mut self, now: Mono) {
        let earliest = self.began.map_or(now, |(_, began)| began + self.pause());
        self.next = self.next.min(earliest.max(now));
    }

    fn pause(&self) -> Duration {
        RETRY + Duration::from_secs(self.pages.into())
    }

    pub(super) fn due(&self) -> Option<Mono> {
        self.reading.is_none().then_some(self.next)
    }

    pub(super) fn want(&mut self, now: Mono) {
        self.reading = None;
        self.next = now;
    }

    /// The channel told of somebody who came or went: how many there are, where only it spoke.
    fn told(&mut self, change: i64) {
        match &mut self.reading {
            Some(reading) => {
                (reading.disturbed, reading.told) = (true, true);
                self.total = None;
            }
            None => self.total = self.total.and_then(|(total, age)| Some((total.checked_add_signed(change)?, age))),
        }
    }

    /// A page of the reading under way shows it.
    fn show(&mut self, contact: &Contact, doubts: &mut Doubts, now: Timestamp) -> Added {
        let Some(reading) = &mut self.reading else { return Added::NoRoom };
        if reading.left.contains(&contact.id) {
            return Added::NoRoom;
        }
        // Rows that slip from page to page are shown twice.
        if doubts.contacts().seen(&contact.id) != Some(reading.call) {
            reading.shown += 1;
        }
        doubts.contact_seen(contact, reading.call, now)
    }

    /// Those of the known ones that a reading proves gone; where it leaves some in doubt, it is soon read again.
    fn gone(&mut self, reading: &Reading, known: &mut OpenContacts, now: Mono) -> Vec<ContactId> {
        if reading.odd || reading.crowded {
            return Vec::new();
        }
        let counted = reading.total.is_none_or(|total| total == reading.shown);
        let (mut gone, mut again) = (Vec::new(), false);
        for (id, missed) in known.not_shown(reading.call) {
            *missed += u8::from(reading.disturbed);
            if (!reading.disturbed && counted) || *missed >= MISSED_MAX {
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
        self.contacts.calls += 1;
        self.contacts.next = now.mono + self.contacts.rhythm();
        self.contacts.began = Some((self.inbox.mark(), now.mono));
        let call = self.contacts.calls;
        self.contacts.reading = Some(Reading {
            call,
            page: 1,
            approvals: self.contacts.attribution.age(),
            shown: 0,
            left: BTreeSet::new(),
            total: None,
            told: false,
            disturbed: false,
            size: PAGE_SIZE,
            odd: false,
            crowded: false,
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
        if !reading.told {
            self.contacts.total = page.total.map(|total| (total, reading.approvals));
        }
        let (rows, number, size) = (page.rows(), reading.page, reading.size);
        let known = self.policy_state.doubts().contacts();
        reading.unread += page.unreadable.iter().filter(|row| !known.has_owner(&row.id)).count() as u64;
        let news = self.contacts.whole;
        for contact in page.items {
            self.show_contact(contact, news, now);
        }
        for row in page.unreadable {
            // It is there, with a handle that nobody can read.
            let (sender, kind) = (Sender::Absent, ContactKind::Other);
            let contact = Contact { id: row.id, sender, name: None, kind, inserted_at: None };
            self.show_contact(contact, news, now);
        }
        let more = page.pages.map_or(rows as u32 >= size, |pages| number < pages);
        let Some(reading) = &mut self.contacts.reading else { return };
        reading.crowded |= self.policy_state.doubts().contacts().crowded();
        if !more || rows == 0 {
            self.contacts_read(now);
        } else if number >= PAGES_MAX || (reading.crowded && !self.policy_state.doubts().contacts().any_in_doubt()) {
            // More than are kept, and those that are known were all shown: the other pages would be for nothing.
            (self.contacts.reading, self.contacts.whole, self.contacts.pages) = (None, false, number);
        } else {
            reading.page += 1;
            let page = reading.page;
            self.act(Action::Contacts { call, page, size });
        }
    }

    fn show_contact(&mut self, contact: Contact, news: bool, now: Now) {
        match self.contacts.show(&contact, self.policy_state.doubts_mut(), now.wall) {
            Added::New => self.put_contact(contact, news, now),
            Added::Renamed => self.put_contact(contact, false, now),
            // It was here before the answer that is looked for, or the daemon before this one did not know of that.
            Added::Known if self.contacts.attribution.awaits(contact.sender.handle()) => {
                self.put_contact(contact, false, now)
            }
            Added::Known | Added::NoRoom => {}
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
        self.baseline(self.policy_state.doubts().contacts().len());
        if !reading.odd && !reading.crowded && reading.unread == 0 {
            let gave_up = self.contacts.attribution.not_among_all(reading.approvals);
            if gave_up && self.contacts.asks_contacts {
                self.inbox.requeue_resting(|_| true);
            }
        }
    }

    /// What is open on record at the start: nobody watched since its last line.
    pub(super) fn contacts_on_record(&mut self, open: Vec<OpenContact>, since: Timestamp) {
        self.contacts.unwatched = since;
        self.policy_state.doubts_mut().contacts_mut().on_record(open, since);
    }

    /// Whether the channel tells of contacts. It told all that happened only from a reading on that begins when it is joined.
    pub(super) fn watch_contacts(&mut self, now: Now) {
        let joined = self.session.joined();
        if std::mem::replace(&mut self.contacts.watched, joined) && !joined {
            self.contacts.unwatched = now.wall;
            self.contacts.keep_up();
        }
    }

    /// Since when nobody watches, or watched until a moment ago.
    pub(super) fn unwatched_since(&self, now: Now) -> Timestamp {
        if self.contacts.watched { now.wall } else { self.contacts.unwatched }
    }

    /// The channel was joined, or said something of a contact that could not be read: what happened before is not known.
    pub(super) fn contacts_unwatched(&mut self, now: Now) {
        let since = self.unwatched_since(now);
        let reading = self.contacts.calls + 1;
        self.policy_state.doubts_mut().contacts_mut().unwatched(reading, since);
        self.contacts.told_since = Some(self.inbox.mark());
        self.contacts.read_next(now.mono);
    }

    /// While nobody tells of contacts, those of whoever asks are looked for before a rule says that nobody was removed.
    pub(super) fn look_for_contacts(&mut self, asked: Mark, handle: Option<&Handle>, now: Now) {
        let Some(handle) = handle.filter(|_| self.contacts.asks_removed && !self.session.joined()) else { return };
        let fresh = FRESH + Duration::from_secs(self.contacts.pages.into());
        let seen = self.contacts.began.is_some_and(|(mark, began)| mark > asked && now.mono.since(began) <= fresh);
        let reading = self.contacts.calls + u64::from(!seen);
        let since = self.contacts.unwatched;
        if self.policy_state.doubts_mut().look_for(handle.owner(), reading, since) && !seen {
            self.contacts.read_next(now.mono);
        }
    }

    /// Where a doubt about somebody began or ended, what rests of theirs is decided again.
    pub(super) fn doubts_changed(&mut self) {
        let Some(concerned) = self.policy_state.doubts_mut().take_changed() else { return };
        self.inbox.requeue_resting(|entry| match (&concerned, entry.request().sender.handle()) {
            (Concerned::Everybody, _) => true,
            (Concerned::Owners(_), Some(handle)) => concerned.contains(handle.owner()),
            (Concerned::Owners(_), None) => false,
        });
    }

    /// Whether somebody of this handle's owner is a contact now, and whether this very handle is, where the policy asks and
    /// that is known.
    pub(super) fn is_contact(&self, handle: Option<&Handle>, now: Now) -> (Option<bool>, Option<bool>) {
        let Some(handle) = handle.filter(|_| self.contacts.asks_contacts && self.contacts.believed(now.mono)) else {
            return (None, None);
        };
        // Whoever was let in and not shown yet is a contact by now, or was removed again.
        let awaited = self.contacts.attribution.awaits_of(handle);
        let odd = self.contacts.read_odd;
        let known = |is: Option<bool>, awaited: bool| is.filter(|is| *is || !(awaited || odd));
        let (owner, sender) = self.policy_state.doubts().is_contact(handle, now.wall);
        (known(owner, awaited.0), known(sender, awaited.1))
    }

    /// Where it can be told who is a contact, or no longer can, what rests is decided again.
    pub(super) fn contacts_believed(&mut self, now: Now) {
        if !self.contacts.asks_contacts {
            return;
        }
        let absence = !self.contacts.read_odd && self.policy_state.doubts().contacts().tells_absence();
        let tells = (self.contacts.believed(now.mono), absence);
        if std::mem::replace(&mut self.contacts.tells, tells) != tells {
            self.inbox.requeue_resting(|_| true);
        }
    }

    /// Who of these are contacts has changed.
    fn contact_changed(&mut self, contact: &Contact) {
        if !self.contacts.asks_contacts {
            return;
        }
        let doubts = self.policy_state.doubts_mut();
        let owners = doubts.contacts().owners_of(&contact.id).to_vec();
        owners.iter().for_each(|owner| doubts.touch(owner));
    }

    /// How many contacts there are, if that is known.
    pub(super) fn contact_count(&self) -> Option<u64> {
        self.contacts.count(self.policy_state.doubts().contacts().len())
    }

    /// Where the number of contacts has passed one that the policy asks about, or became known, what rests is decided again.
    pub(super) fn contacts_counted(&mut self) {
        let exceeded = self.contacts.count_exceeded(self.policy_state.doubts().contacts().len());
        if std::mem::replace(&mut self.contacts.exceeded, exceeded) != exceeded && !self.contacts.asked.is_empty() {
            self.inbox.requeue_resting(|_| true);
        }
    }

    /// The channel told of a new contact.
    pub(super) fn contact_added(&mut self, contact: Contact, now: Now) {
        let reading = self.contacts.calls;
        let added = self.policy_state.doubts_mut().contact_seen(&contact, reading, now.wall);
        self.contacts.told(i64::from(matches!(added, Added::New | Added::NoRoom)));
        match added {
            Added::New => self.put_contact(contact, true, now),
            // It is on record, and found again there should it go.
            Added::NoRoom => self.put_contact(contact, true, now),
            Added::Renamed => self.put_contact(contact, false, now),
            Added::Known => {}
        }
    }

    /// A contact is gone, as the channel told or a reading proves.
    pub(super) fn removed_contact(&mut self, contact: &ContactId, now: Now) {
        if self.contacts.left.contains(contact) && self.policy_state.doubts().contacts().seen(contact).is_none() {
            // Told twice.
            return;
        }
        self.contact_parted(contact, now);
        let known = self.policy_state.doubts().contacts().seen(contact).is_some();
        if let Some(reading) = self.contacts.reading.as_mut().filter(|_| known) {
            // A page may be on its way that was made before. Only whom we knew: events alone must not fill this.
            reading.left.insert(contact.clone());
        }
        self.contacts.told(-1);
        if self.contacts.left.len() >= LEFT_MAX {
            self.contacts.left.pop_front();
        }
        self.contacts.left.push_back(contact.clone());
        let handle = self.policy_state.contact_removed(contact, now.wall);
        self.record(Record::ContactRemoved {
            agent: self.config.agent.clone(),
            contact: contact.clone(),
            at: now.wall,
        });
        if !known && self.policy_state.doubts().contacts().crowded() {
            // There are more than are kept: the record tells whose it was.
            self.policy_state.doubts_mut().forget(Fact::Removed, now.wall);
            self.recall_removed(now);
        }
        self.count("contacts_removed");
        self.tell(Notice::ContactRemoved {
            contact: contact.clone(),
            handle: handle.map(|handle| StrangerText::new(handle.as_str())),
        });
    }

    /// Puts a contact on record, with the answer of ours that made it, as soon as it can be told; `news` is whether it is worth
    /// telling.
    fn put_contact(&mut self, contact: Contact, news: bool, now: Now) {
        self.contact_changed(&contact);
        if let Some(handle) = contact.sender.handle() {
            self.policy_state.doubts_mut().recognised(handle.owner());
        }
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
        if let Some(handle) = handle.filter(|_| applied && self.contacts.asks_contacts) {
            self.policy_state.doubts_mut().touch(handle.owner());
        }
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
        self.policy_state.doubts_mut().contact_made(&contact, request.as_ref());
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
