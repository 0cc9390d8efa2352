//! The agent's contact list, as far as decisions and the record need it: how many, who, and whose a removed one was.

mod events;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::contact_attribution::ContactAttribution;
use crate::clock::{Mono, Now};
use crate::inbox::Mark;
use crate::model::{Contact, ContactId, RequestId};
use crate::policy::Policy;
use crate::policy::doubts::{Added, Doubts, OpenContacts};

/// Between readings while nothing asks for one.
const RHYTHM: Duration = Duration::from_secs(3600);
/// After a reading that failed; or, with a second a page besides, after one that leaves somebody in doubt, or where nobody
/// tells of new contacts.
const RETRY: Duration = Duration::from_secs(30);
/// Readings in succession that miss somebody who never does turn up, although each was disturbed, or its total did not fit its
/// rows: a row slips from one page to the one already read only where another row goes at that very moment, and never does so
/// time and again.
pub(super) const MISSED_MAX: u8 = 3;
/// Readings in succession that weigh so much, and show a contact in none of them, prove that it was removed: three that were
/// disturbed, or two of several pages.
const MISSED_ENOUGH: u8 = 2 * MISSED_MAX;
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
    rows: Rows,
}

/// Most contacts that come on record at once, beside those of our own making: as many as are known one by one.
const ROWS_AT_ONCE: u32 = 100_000;
/// And the time to one more: what a broken or hostile platform can have written is bounded, whatever it tells.
const ROW_EVERY: Duration = Duration::from_secs(1);

/// How many contacts may come on record that no answer of ours made.
#[derive(Debug)]
struct Rows {
    left: u32,
    /// Since when those that are left count.
    since: Mono,
}

impl Rows {
    fn takes(&mut self, now: Mono) -> bool {
        let more = u32::try_from(now.since(self.since).as_secs() / ROW_EVERY.as_secs()).unwrap_or(u32::MAX);
        self.since = self.since + ROW_EVERY * more;
        self.left = self.left.saturating_add(more).min(ROWS_AT_ONCE);
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[derive(Debug)]
struct Reading {
    call: u64,
    page: u32,
    /// The approvals up to this one were there when it began.
    approvals: u64,
    /// When it began.
    since: Timestamp,
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
    /// The fingerprint of the page before.
    print: Option<u64>,
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
            rows: Rows { left: ROWS_AT_ONCE, since: now.mono },
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

    /// This policy is in force, and everything is decided again.
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
    pub(super) fn read_next(&mut self, now: Mono) {
        let earliest = self.began.map_or(now, |(_, began)| began + self.pause());
        self.next = self.next.min(earliest.max(now));
    }

    fn pause(&self) -> Duration {
        RETRY + Duration::from_secs(self.pages.into())
    }

    /// Readings that began so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether it was removed lately.
    pub(super) fn has_left(&self, contact: &ContactId) -> bool {
        self.left.contains(contact)
    }

    /// Another request has this id by now.
    pub(super) fn id_reused(&mut self, request: &RequestId) {
        self.attribution.id_reused(request);
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

    /// Those of the known ones that a reading proves gone. Those that it misses and that may be there still are in doubt until the
    /// next one, which comes soon.
    fn gone(&mut self, reading: &Reading, known: &mut OpenContacts, now: Mono) -> Vec<ContactId> {
        if reading.odd || reading.crowded {
            return Vec::new();
        }
        let weight = reading.weight();
        let (mut gone, mut missed) = (Vec::new(), Vec::new());
        for (id, weighed) in known.not_shown(reading.call) {
            *weighed = weighed.saturating_add(weight);
            if *weighed >= MISSED_ENOUGH { gone.push(id.clone()) } else { missed.push(id.clone()) }
        }
        for id in &missed {
            known.missed(id, reading.call + 1, reading.since);
        }
        if !missed.is_empty() {
            // One more of the kind settles it; where the list is in motion, it may take some.
            if reading.adds_up() { self.next = now } else { self.read_soon(now) }
        }
        gone
    }
}

impl Reading {
    /// Nothing says that anything changed while it was read.
    fn adds_up(&self) -> bool {
        !self.disturbed && self.total.is_none_or(|total| total == self.shown)
    }

    /// What it weighs against a contact that it did not show. Where one goes from a page that was read, and another comes, the
    /// total stays the same, and a third may slip past: only a single page is of one moment. A total that does not fit the rows
    /// may be wrong for good: time and again, the rows are believed.
    fn weight(&self) -> u8 {
        match (self.adds_up(), self.page) {
            (true, 1) => MISSED_ENOUGH,
            (true, _) => MISSED_ENOUGH / 2,
            (false, _) => MISSED_ENOUGH / MISSED_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_contacts_comes_on_record_at_a_bounded_rate() {
        let at = |seconds: u64| Mono::from_origin(Duration::from_secs(seconds));
        let mut rows = Rows { left: ROWS_AT_ONCE, since: at(0) };
        let taken = |rows: &mut Rows, seconds: u64, asked: u32| (0..asked).filter(|_| rows.takes(at(seconds))).count();
        assert_eq!(taken(&mut rows, 0, 2 * ROWS_AT_ONCE), ROWS_AT_ONCE as usize);
        assert_eq!(taken(&mut rows, 60, 1000), 60);
        assert_eq!(taken(&mut rows, 60, 1000), 0);
        assert_eq!(taken(&mut rows, 10_000_000, 2 * ROWS_AT_ONCE), ROWS_AT_ONCE as usize, "never more at once");
    }
}
