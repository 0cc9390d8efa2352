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
use crate::policy::doubts::{AddOutcome, Doubts, OpenContacts};

/// The time between two readings when nothing asks for an earlier one.
const RHYTHM: Duration = Duration::from_secs(3600);
/// The wait after a failed reading. It is also the wait, plus a second for each page, after a reading that leaves
/// contacts in doubt, and while the channel does not report new contacts.
const RETRY: Duration = Duration::from_secs(30);
/// A contact that never appears again counts as removed after this many readings in a row that miss it, even if each
/// reading was disturbed or its total did not match its rows. A row moves to a page that was already read only when
/// another row is removed at the same moment, and that does not happen again and again.
pub(super) const MISSED_MAX: u8 = 3;
/// If readings in a row with this total weight do not show a contact, it was removed: three disturbed readings, or two
/// of several pages.
const MISSED_ENOUGH: u8 = 2 * MISSED_MAX;
/// Most readings that follow the one before without a pause.
const AT_ONCE_MAX: u8 = 2;
/// While the channel reports no contacts, a reading that began longer ago than this (plus a second for each page) does
/// not show who is there now.
const FRESH: Duration = Duration::from_secs(60);
/// The time between two readings while the channel reports no contacts and the policy asks who is a contact.
const ASKED_RHYTHM: Duration = Duration::from_secs(300);
/// While the channel reports no contacts, a reading is trusted for this long after its beginning.
const BELIEVED: Duration = Duration::from_secs(900);
/// A second report that one of these contacts was removed is recognized as a repetition.
const LEFT_MAX: usize = 256;
/// If no rule asks about contacts and more requests than this wait for a decision, the next page waits for them.
const MANY_WAITING: usize = 64;
/// It does not wait longer than this.
const HELD_MAX: Duration = Duration::from_secs(30);
/// Twice as many pages as the largest number of contacts that we keep needs.
pub(super) const PAGES_MAX: u32 = 2_000;

#[derive(Debug)]
pub(super) struct ContactList {
    /// The list was read once from beginning to end: no contact is missing from the known ones.
    whole: bool,
    reading: Option<ContactReading>,
    next: Mono,
    /// Readings in succession that followed the one before without a pause.
    at_once: u8,
    calls: u64,
    /// When the last reading began: as a mark among the inputs of the inbox, and as a time.
    began: Option<(Mark, Mono)>,
    /// The same for the last reading that completed.
    read: Option<(Mark, Mono)>,
    /// It had a row without a readable id, which may be anybody.
    read_odd: bool,
    /// The last readings in a row without such a row: when each began, and its weight.
    weighed: VecDeque<(Mark, Mono, u8)>,
    /// Only a reading that began later, together with the channel's events since, shows who is a contact.
    watched_since: Option<Mark>,
    /// Pages of the last reading.
    pages: u32,
    /// How many contacts there are, by the last page and the channel's events since, and the age of the approvals that
    /// the number includes; `None` if page and events overlapped.
    total: Option<(u64, u64)>,
    /// The channel reports contacts now; if not, nothing has reported them since `unwatched`.
    watched: bool,
    unwatched: Timestamp,
    /// Recently removed contacts, oldest first.
    left: VecDeque<ContactId>,
    attribution: ContactAttribution,
    /// The numbers that the policy asks about, in order.
    thresholds: Vec<u64>,
    /// The policy asks who was removed.
    asks_removed: bool,
    /// The policy asks who is a contact.
    asks_contacts: bool,
    /// Whether it is known who is a contact, and who is not, at the last decision of the resting requests.
    tells: (bool, bool),
    /// How many of the `asked` numbers are exceeded, if known, at the last decision of the resting requests.
    exceeded: Option<usize>,
    rows: ContactRows,
}

/// Most contacts that can be recorded at once, beside those that we made: the same number as we keep one by one.
const ROWS_AT_ONCE: u32 = 100_000;
/// The time until one more may be recorded. It bounds what a broken or hostile platform can make us write.
const ROW_EVERY: Duration = Duration::from_secs(1);

/// How many contacts that no answer of ours made may be recorded.
#[derive(Debug)]
struct ContactRows {
    left: u32,
    /// The time from which `left` is counted.
    since: Mono,
}

impl ContactRows {
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
struct ContactReading {
    call: u64,
    page: u32,
    /// The approvals up to this one were there when it began.
    approvals: u64,
    /// When it began.
    since: Timestamp,
    /// How many it showed.
    shown: u64,
    /// Contacts that were removed since it began.
    left: BTreeSet<ContactId>,
    total: Option<u64>,
    /// The channel reported a contact during the reading.
    change_reported: bool,
    /// An event or a changing total disturbed the reading, and a missing row may have moved to another page: one such
    /// reading proves nothing.
    disturbed: bool,
    /// Rows a page.
    size: u32,
    /// The next page waits since then; `Some(None)`: it does not wait again.
    held: Option<Option<Mono>>,
    /// A row has no readable id, and may be the missing one, now and in the next reading: such readings prove nothing.
    odd: bool,
    /// The fingerprint of the page before.
    print: Option<u64>,
    /// There are more contacts than we keep: the reading only looks for contacts in doubt, and proves nobody missing.
    crowded: bool,
    /// Rows with only a readable id that are not known from elsewhere: we may have made each of these contacts.
    unread: u64,
}

impl ContactList {
    pub(super) fn new(policy: Option<&Policy>, now: Now) -> Self {
        let mut contacts = Self {
            whole: false,
            reading: None,
            next: now.mono + super::listing::FIRST_LISTING,
            at_once: 0,
            calls: 0,
            began: None,
            read: None,
            read_odd: false,
            weighed: VecDeque::new(),
            watched_since: None,
            pages: 1,
            total: None,
            watched: false,
            unwatched: now.wall,
            left: VecDeque::new(),
            attribution: ContactAttribution::default(),
            thresholds: Vec::new(),
            asks_removed: false,
            asks_contacts: false,
            tells: (false, false),
            exceeded: None,
            rows: ContactRows { left: ROWS_AT_ONCE, since: now.mono },
        };
        contacts.keep_for(policy, 0);
        contacts
    }

    /// How many contacts there are, if that is known; `known` is the number of known contacts. An approved sender
    /// counts at once, seen or not: without a channel only the next reading shows the contact.
    fn count(&self, known: usize) -> Option<u64> {
        if self.whole {
            return Some((known + self.attribution.unseen()) as u64);
        }
        self.total.map(|(total, approvals)| total + self.attribution.carried_out_since(approvals) as u64)
    }

    /// This policy is in force, and everything is decided again.
    pub(super) fn keep_for(&mut self, policy: Option<&Policy>, known: usize) {
        self.thresholds = policy.map(Policy::contact_counts).unwrap_or_default();
        self.asks_removed = policy.is_some_and(|policy| policy.history_needs().removed_reach().is_some());
        self.asks_contacts = policy.is_some_and(Policy::asks_contacts);
        self.keep_up();
        self.exceeded = self.count_exceeded(known);
    }

    /// Whether a decision may depend on who is a contact.
    fn asks(&self, policy: Option<&Policy>) -> bool {
        let asked = self.asks_contacts || !self.thresholds.is_empty();
        asked || policy.is_some_and(|policy| policy.history_reach().is_some())
    }

    fn count_exceeded(&self, known: usize) -> Option<usize> {
        self.count(known).map(|count| self.thresholds.partition_point(|threshold| *threshold < count))
    }

    /// The time between two readings when nothing asks for an earlier one.
    fn rhythm(&self) -> Duration {
        let proven = self.proof().is_some_and(|(mark, _)| self.watched_since.is_none_or(|since| mark > since));
        if self.asks_contacts && !(self.watched && proven) { ASKED_RHYTHM } else { RHYTHM }
    }

    /// Moves the next reading earlier if the current rhythm asks for that.
    fn keep_up(&mut self) {
        if let Some((_, began)) = self.began {
            self.next = self.next.min(began + self.rhythm());
        }
    }

    /// Whether the last reading, with the channel's events since, shows who is a contact now.
    fn believed(&self, now: Mono) -> bool {
        self.whole && self.read.is_some_and(|(mark, began)| self.holds(mark, began, now))
    }

    /// Whether what a reading showed that began then is still so.
    fn holds(&self, mark: Mark, began: Mono, now: Mono) -> bool {
        let watched = self.watched && self.watched_since.is_some_and(|since| mark > since);
        watched || now.since(began) <= BELIEVED
    }

    /// Whether a contact that was never shown is certainly not there: the row of one may slip past a reading of several
    /// pages, but not past enough of them in a row.
    fn proves_absence(&self, now: Mono) -> bool {
        self.proof().is_some_and(|(mark, began)| self.holds(mark, began, now))
    }

    /// When the first of the last readings began that are enough together.
    fn proof(&self) -> Option<(Mark, Mono)> {
        let mut weight = 0;
        let enough = |(.., weighs): &&(Mark, Mono, u8)| {
            weight += weighs;
            weight >= MISSED_ENOUGH
        };
        self.weighed.iter().rev().find(enough).map(|(mark, began, _)| (*mark, *began))
    }

    /// A reading that began then has ended: what it is worth.
    fn weigh(&mut self, reading: &ContactReading, now: Mono) {
        if reading.odd || reading.crowded {
            self.weighed.clear();
        } else if let Some((mark, began)) = self.began {
            self.weighed.push_back((mark, began, reading.weight()));
            if self.weighed.len() > usize::from(MISSED_ENOUGH) {
                self.weighed.pop_front();
            }
            if self.asks_contacts && !self.proves_absence(now) {
                self.read_soon(now);
            }
        }
    }

    /// Reads the list soon; a long list is read less often.
    fn read_soon(&mut self, now: Mono) {
        self.next = self.next.min(now + self.pause());
    }

    /// The same, at once if the last reading is long ago.
    pub(super) fn read_next(&mut self, now: Mono) {
        let earliest = self.began.map_or(now, |(_, began)| began + self.pause());
        self.next = self.next.min(earliest.max(now));
    }

    fn pause(&self) -> Duration {
        RETRY + Duration::from_secs(self.pages.into())
    }

    /// How many readings began so far.
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

    /// The channel reported that a contact was added or removed: updates the total, unless a reading is under way.
    fn change_reported(&mut self, change: i64) {
        match &mut self.reading {
            Some(reading) => {
                (reading.disturbed, reading.change_reported) = (true, true);
                self.total = None;
            }
            None => self.total = self.total.and_then(|(total, age)| Some((total.checked_add_signed(change)?, age))),
        }
    }

    /// A page of the current reading shows this contact.
    fn show(&mut self, contact: &Contact, doubts: &mut Doubts, now: Timestamp) -> AddOutcome {
        let Some(reading) = &mut self.reading else { return AddOutcome::NoRoom };
        if reading.left.contains(&contact.id) {
            return AddOutcome::NoRoom;
        }
        // A row that moves from one page to the next is shown twice.
        if doubts.contacts().seen(&contact.id) != Some(reading.call) {
            reading.shown += 1;
        }
        doubts.contact_seen(contact, reading.call, now)
    }

    /// The known contacts that this reading proves removed. A missing contact that may still be there is in doubt until
    /// the next reading, which comes soon.
    fn gone(&mut self, reading: &ContactReading, known: &mut OpenContacts, now: Mono) -> Vec<ContactId> {
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
            // One more such reading is enough, if the list stands still. If it does not, it is not read without a pause.
            if reading.adds_up() && self.at_once < AT_ONCE_MAX {
                (self.at_once, self.next) = (self.at_once + 1, now);
                return gone;
            }
            self.read_soon(now);
        }
        self.at_once = 0;
        gone
    }
}

impl ContactReading {
    /// Whether nothing shows that the list changed during the reading.
    fn adds_up(&self) -> bool {
        !self.disturbed && self.total.is_none_or(|total| total == self.shown)
    }

    /// The weight of this reading as evidence against a contact that it did not show. If one contact is removed from a
    /// page that was read and another is added, the total stays the same, and a third row may move to a page already
    /// read: only a single page is a snapshot. A total that does not match the rows may be wrong permanently: after
    /// some readings the rows are trusted.
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
        let mut rows = ContactRows { left: ROWS_AT_ONCE, since: at(0) };
        let taken =
            |rows: &mut ContactRows, seconds: u64, asked: u32| (0..asked).filter(|_| rows.takes(at(seconds))).count();
        assert_eq!(taken(&mut rows, 0, 2 * ROWS_AT_ONCE), ROWS_AT_ONCE as usize);
        assert_eq!(taken(&mut rows, 60, 1000), 60);
        assert_eq!(taken(&mut rows, 60, 1000), 0);
        assert_eq!(taken(&mut rows, 10_000_000, 2 * ROWS_AT_ONCE), ROWS_AT_ONCE as usize, "never more at once");
    }
}
