//! The pending requests of one agent that doorman knows, each with exactly one entry and one stage.
//!
//! It merges the two ways in which a request becomes known (listing and live event). It keeps the queue of ids that are
//! ready to be decided, oldest first, and the timers of the others. It makes no decisions: the core decides late. Pure.
//! `docs/architecture.md`, "The inbox's rules", describes the races that it exists for.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod answer;
mod entry;
mod listing;
mod queues;
mod showing;
mod subject;
mod tombstones;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use jiff::Timestamp;

use crate::clock::{Mono, Now};
use crate::model::{Answer, ContactRequest, RequestId, RequestStatus, Sender, StrangerText};
use crate::platform::Page;

use self::listing::PageCounts;
pub(crate) use answer::Begun;
pub use answer::GivenAnswer;
pub(crate) use answer::{AnswerState, Flight, NextAnswer};
use entry::DecisionQueue;
pub(crate) use entry::{EarlierRequest, QueuePosition};
pub use entry::{Entry, Stage};
pub use listing::Fetch;
pub(crate) use listing::MISSED_ENOUGH;
pub(crate) use listing::{Listing, PAGE_SIZE, PAGE_SIZES, PassEnd, Verified, fingerprint};
pub(crate) use showing::{KnownRequests, ShowOutcome};
pub use subject::Subject;
pub(crate) use tombstones::Tombstone;

/// Most requests kept for one agent. Further requests wait at the platform until there is room, unless a rule answers
/// them.
pub(crate) const ENTRIES_MAX: usize = 100_000;
/// Room for so many of them is kept while there are fewer.
const ENTRIES_KEPT: usize = 64;
/// Most requests beyond that bound, if a rule answers them: many requests that wait for a person must not keep them
/// out.
const WELCOME_MAX: usize = 1_000;
/// Most bytes of strangers' names and messages kept for one agent. Beyond that, a request with more than [`TEXT_SMALL`]
/// bytes waits at the platform, as if there were no room.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// A request with at most this many bytes of text always fits.
const TEXT_SMALL: usize = 1 << 10;

/// A position in the order of everything that happened to this inbox; it orders listings and tombstones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark(u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Boxed, so that the map is small and the memory of a removed request is freed. In no order, but in the same one each time.
    entries: IndexMap<RequestId, Box<Entry>, DefaultHashBuilder>,
    /// Ready to be decided, oldest first.
    ready: BTreeMap<QueuePosition, RequestId>,
    /// The same for those that rules deferred before.
    ready_again: BTreeMap<QueuePosition, RequestId>,
    /// Whether the last one that was taken was one of those.
    again_was_last: bool,
    /// To be decided again at a time of the wall clock.
    timers: BTreeSet<(Timestamp, RequestId)>,
    /// To be decided again, or released, at a time of the monotonic clock.
    delays: BTreeSet<(Mono, RequestId)>,
    tombstones: tombstones::Tombstones,
    /// When to list, and the pass that is under way.
    pub listing: Listing,
    clock: u64,
    /// Live events that were dropped because the inbox was full.
    pub dropped: u64,
    capacity: usize,
    /// No new request is taken in, as if there were no room.
    pub closed: bool,
    /// A request was not taken in because the inbox was full, and waits at the platform.
    crowded: bool,
    /// The earlier versions of requests that have changed, until the core fetches them.
    changed: Vec<Arc<ContactRequest>>,
    /// Bytes of the names and messages that are kept.
    text_bytes: usize,
    /// [`TEXT_BYTES_MAX`], but in tests.
    text_bytes_max: usize,
}

/// How many bytes strangers wrote.
fn text_of(request: &ContactRequest) -> usize {
    [&request.name, &request.message].into_iter().flatten().map(|text| text.raw().len()).sum()
}

/// The request with its texts cut so short that it always fits; the missing part is unknown.
fn shortened(request: ContactRequest) -> ContactRequest {
    let short = |text: Option<StrangerText>| text.map(|text| text.shortened(TEXT_SMALL / 2));
    ContactRequest { name: short(request.name), message: short(request.message), ..request }
}

impl Inbox {
    /// An empty inbox with room for `capacity` requests.
    pub(crate) fn with_capacity(listing: Listing, capacity: usize) -> Self {
        Self {
            entries: IndexMap::default(),
            ready: BTreeMap::new(),
            ready_again: BTreeMap::new(),
            again_was_last: false,
            timers: BTreeSet::new(),
            delays: BTreeSet::new(),
            tombstones: tombstones::Tombstones::default(),
            listing,
            clock: 0,
            dropped: 0,
            capacity,
            closed: false,
            crowded: false,
            changed: Vec::new(),
            text_bytes: 0,
            text_bytes_max: TEXT_BYTES_MAX,
        }
    }

    /// A fresh point in the order of events.
    pub fn mark(&mut self) -> Mark {
        self.clock += 1;
        Mark(self.clock)
    }

    /// How many requests are here.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many wait to be decided, or for the end of a pass.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len() + self.ready_again.len() + self.delays.len()
    }

    /// One request.
    pub fn entry(&self, id: &RequestId) -> Option<&Entry> {
        self.entries.get(id).map(Box::as_ref)
    }

    /// One request, to note something on it. Its queue and its answer change only through the inbox.
    pub(crate) fn entry_mut(&mut self, id: &RequestId) -> Option<&mut Entry> {
        self.entries.get_mut(id).map(Box::as_mut)
    }

    /// All requests, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// Whether there is no room for this request, unless a rule answers it.
    pub(crate) fn is_full_for(&self, request: &ContactRequest) -> bool {
        !self.has_room(request, false)
    }

    /// Whether a request waits at the platform because the inbox is full, or would have to wait.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded || self.entries.len() >= self.capacity
    }

    /// How many bytes of strangers' texts are kept.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    #[cfg(test)]
    pub(crate) fn set_text_bytes_max(&mut self, bytes: usize) {
        self.text_bytes_max = bytes;
    }

    fn has_room(&self, request: &ContactRequest, welcome: bool) -> bool {
        let most = if welcome { self.capacity + WELCOME_MAX } else { self.capacity };
        let text = text_of(request);
        let fits = welcome || text <= TEXT_SMALL || self.text_bytes + text <= self.text_bytes_max;
        !self.closed && self.entries.len() < most && fits
    }

    /// Takes over what the platform says about a known request.
    fn learn(&mut self, request: ContactRequest, page: Option<Mark>) {
        let Some(entry) = self.entries.get_mut(&request.id) else { return };
        let known = text_of(&entry.request);
        let room = self.text_bytes_max.saturating_sub(self.text_bytes) + known;
        let request = if text_of(&request) > room.max(TEXT_SMALL) { shortened(request) } else { request };
        let before = entry.learn(request, page);
        self.text_bytes = self.text_bytes - known + text_of(&entry.request);
        self.changed.extend(before);
    }

    /// A request from the ledger whose earlier answer has an unknown outcome: it waits for a listing.
    pub(crate) fn remember_unknown(
        &mut self,
        id: RequestId,
        sender: Sender,
        first_seen: Timestamp,
        said: GivenAnswer,
        attempts: u32,
    ) {
        let mark = self.mark();
        let request = ContactRequest { id, sender, name: None, message: None, inserted_at: None, ids: None };
        let answer = AnswerState::unknown(said, Subject::of(&request), attempts, mark);
        let mut entry = Entry::new(Arc::new(request), answer, first_seen, mark, None);
        entry.from_memory = true;
        self.insert(entry, DecisionQueue::Out);
    }

    /// An answer remembered from the ledger whose end is known: stale listings must not bring it back as new.
    /// `changed`: it showed another sender when it ended.
    pub(crate) fn remember_settled(
        &mut self,
        request: &ContactRequest,
        answer: Option<GivenAnswer>,
        changed: bool,
        now: Now,
    ) {
        let mark = self.mark();
        let subject = Subject::of(request);
        self.tombstones.put(&request.id, Tombstone { mark, at: now.mono, answer, subject, changed });
    }

    /// One page of the pass under way. Requests that have an owner now come back in the order of the page, each with
    /// [`ShowOutcome::New`] or [`ShowOutcome::Returned`].
    #[cfg(test)]
    pub(crate) fn page(
        &mut self,
        page: Page<ContactRequest>,
        now: Now,
    ) -> (Vec<(RequestId, ShowOutcome)>, Option<PassEnd>) {
        self.page_of(page, &KnownRequests::default(), now)
    }

    /// The same, with what the owner of the inbox knows of the page's requests.
    pub(crate) fn page_of(
        &mut self,
        page: Page<ContactRequest>,
        known: &KnownRequests,
        now: Now,
    ) -> (Vec<(RequestId, ShowOutcome)>, Option<PassEnd>) {
        let mut new = Vec::new();
        let ids = page.items.iter().map(|item| &item.id).chain(page.unreadable.iter().map(|row| &row.id));
        let print = fingerprint(ids.map(RequestId::as_str));
        let shown = page.items.len() + page.unreadable.len();
        let mut full = false;
        // Such a row proves that the request with its id has not ended.
        if let Some(number) = self.listing.pass().map(|pass| pass.number) {
            for row in &page.unreadable {
                if let Some(entry) = self.entries.get_mut(&row.id) {
                    entry.shown_in = number;
                }
            }
        }
        for request in page.items {
            let id = request.id.clone();
            match self.see_listed(request, known, now) {
                seen @ (ShowOutcome::New | ShowOutcome::Returned) => new.push((id, seen)),
                ShowOutcome::Full => full = true,
                ShowOutcome::Known | ShowOutcome::Settled => {}
            }
        }
        let (nameless, total, pages) = (page.nameless.as_slice(), page.total, page.pages);
        let end = self.listing.page_read(PageCounts { shown, new: new.len(), nameless, total, pages, full, print });
        (new, end)
    }

    /// The expected page is too large: it is read again in smaller ones. Ends the pass if this was the last row.
    pub(crate) fn page_too_large(&mut self) -> Option<PassEnd> {
        if !self.listing.too_large() {
            return None;
        }
        let print = 0;
        self.listing.page_read(PageCounts {
            shown: 0,
            new: 0,
            nameless: &[1],
            total: None,
            pages: None,
            full: false,
            print,
        })
    }

    /// Evaluates a pass that ended, and releases the requests that waited for its end.
    pub(crate) fn pass_ended(&mut self, end: &PassEnd) -> Verified {
        let mut verified = Verified::default();
        for entry in self.entries.values_mut().filter(|entry| entry.mark() <= end.mark) {
            let shown = entry.shown_in == end.number;
            entry.missed = match entry.stage() {
                _ if shown => 0,
                // The answer in flight may be the reason that the request is missing, so earlier passes prove nothing.
                Stage::InFlight => 0,
                Stage::Unknown { ended } if ended >= end.mark => 0,
                Stage::Ready | Stage::Resting { .. } | Stage::Delayed { .. } | Stage::Unknown { .. } => {
                    entry.missed.saturating_add(end.weight())
                }
            };
            let missed = entry.missed >= MISSED_ENOUGH;
            match entry.stage() {
                Stage::Unknown { ended } if ended < end.mark => {
                    if shown {
                        verified.still_pending.push(entry.request.id.clone());
                    } else if missed {
                        verified.no_longer.push(entry.request.id.clone());
                    } else {
                        verified.open |= end.stable;
                    }
                }
                Stage::Unknown { .. } | Stage::InFlight => {}
                Stage::Ready | Stage::Resting { .. } | Stage::Delayed { .. } => {
                    if !shown && missed {
                        verified.gone.push(entry.request.id.clone());
                    } else if !shown {
                        verified.missing.push(entry.request.id.clone());
                    }
                }
            }
        }
        for ids in [&mut verified.still_pending, &mut verified.no_longer, &mut verified.gone] {
            ids.sort_by_cached_key(|id| self.entries.get(id).map(|entry| entry.position));
        }
        self.release_listed();
        verified
    }

    /// The request is settled. The current listing pass, or a stale one, must not bring it back.
    pub fn settle(&mut self, id: &RequestId, answer: Option<GivenAnswer>, now: Now) -> Option<Entry> {
        let mark = self.mark();
        // The answer was for the sender that was known then, even if the request shows another one now.
        let subject = self.entries.get(id).map(|entry| {
            let meant = answer.as_ref().and_then(|_| entry.answer.subject());
            meant.unwrap_or_else(|| Subject::of(&entry.request))
        });
        let subject = subject.unwrap_or_default();
        let changed = self.entries.get(id).is_some_and(|entry| answer.is_some() && !entry.is_as_answered());
        self.tombstones.put(id, Tombstone { mark, at: now.mono, answer, subject, changed });
        let entry = *self.entries.swap_remove(id)?;
        // Frees the memory that a flood used.
        if self.entries.len() < self.entries.capacity() / 4 && self.entries.capacity() > ENTRIES_KEPT {
            self.entries.shrink_to((2 * self.entries.len()).max(ENTRIES_KEPT));
        }
        self.text_bytes -= text_of(&entry.request);
        self.unlist(id, entry.queue, entry.position);
        if std::mem::take(&mut self.crowded) {
            self.listing.want("there is room again", now.mono + self.listing.pause_when_full());
        }
        Some(entry)
    }

    /// The channel reports the status of a request. Returns whether an answer is in flight: then its reply decides who
    /// settled the request.
    pub(crate) fn updated(&mut self, id: &RequestId, status: &RequestStatus) -> bool {
        self.entries.get_mut(id).is_some_and(|entry| entry.answer.updated(status))
    }

    /// The platform called this answer to a known request malformed before the start.
    pub(crate) fn remember_malformed(&mut self, id: &RequestId, answer: Answer) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.answer.remember_malformed(answer);
        }
    }

    /// The record says that this request was answered before, longer ago than tombstones last: it gets the same answer
    /// or none.
    pub fn bind(&mut self, id: &RequestId, said: GivenAnswer) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if matches!(entry.stage(), Stage::InFlight | Stage::Unknown { .. }) {
            return;
        }
        entry.answer = AnswerState::returned(said, Subject::of(&entry.request));
        self.requeue(id);
    }

    /// The earlier versions of requests that the platform now shows differently.
    pub(crate) fn take_changed(&mut self) -> Vec<Arc<ContactRequest>> {
        std::mem::take(&mut self.changed)
    }

    /// Forgets tombstones that no listing can need any more.
    pub(crate) fn prune(&mut self, now: Now) {
        self.tombstones.prune(now.mono);
    }

    /// The earlier answer to this id, as far as it is remembered.
    pub(crate) fn tombstone(&self, id: &RequestId) -> Option<Tombstone> {
        self.tombstones.get(id)
    }
}
