//! A request is shown to the inbox, by a live event or by a page: is it new, known, or one that has ended?

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::answer::AnswerState;
use super::entry::{DecisionQueue, EarlierRequest, Entry};
use super::tombstones::{self, Tombstone};
use super::{Inbox, Subject, listing};
use crate::clock::Now;
use crate::model::{ContactRequest, RequestId};

/// The result of showing a request to the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShowOutcome {
    /// It is new, and has an owner now.
    New,
    /// It is already in the inbox.
    Known,
    /// It was settled, and this sighting is older than that, or may be.
    Settled,
    /// It was settled long ago, but the platform lists it as pending again.
    Returned,
    /// No room: a listing will bring it again.
    Full,
}

/// What the owner of an inbox knows of the requests on a page.
#[derive(Debug, Default)]
pub(crate) struct KnownRequests {
    /// A rule answers them: they are taken in even if the inbox is full.
    pub welcome: HashSet<RequestId>,
    /// They were pending on record at the start, and this is what the record knows of each.
    pub pending: HashMap<RequestId, Subject>,
}

impl KnownRequests {
    /// Whether this request is the one that the record has as pending, and not the earlier one of the same id that has ended. If both
    /// may be meant, it is the one that is pending: nobody said anything of it yet, and what people did say, the record knows.
    fn is_pending(&self, request: &ContactRequest, ended: &Tombstone) -> bool {
        self.pending.get(&request.id).is_some_and(|pending| {
            !ended.may_be(request) || (!ended.may_be_of(*pending) && pending.may_be(Subject::of(request)))
        })
    }
}

impl Inbox {
    /// A live event brought a request.
    #[cfg(test)]
    pub(crate) fn see_event(&mut self, request: ContactRequest, now: Now) -> ShowOutcome {
        self.see_event_of(request, &KnownRequests::default(), now)
    }

    /// The same, with what the owner of the inbox knows of the request.
    pub(crate) fn see_event_of(&mut self, request: ContactRequest, known: &KnownRequests, now: Now) -> ShowOutcome {
        if self.entries.contains_key(&request.id) {
            self.learn(request, None);
            return ShowOutcome::Known;
        }
        // An event for a settled id is late or repeated, unless it shows another sender or time: then it is another
        // request. Shortly after the end it may still be late, so a listing has to decide.
        let tombstone = self.tombstones.get(&request.id);
        let pending = tombstone.as_ref().is_some_and(|tombstone| known.is_pending(&request, tombstone));
        if let Some(tombstone) = tombstone.as_ref().filter(|_| !pending) {
            if tombstone.may_be(&request) {
                return ShowOutcome::Settled;
            }
            if now.mono.since(tombstone.at) < tombstones::STALE_GRACE {
                self.listing.want("a settled id came again", tombstone.at + tombstones::STALE_GRACE);
                return ShowOutcome::Settled;
            }
        }
        if !self.has_room(&request, known.welcome.contains(&request.id)) {
            self.dropped += 1;
            self.crowded = true;
            self.listing.want("the inbox was full", now.mono + self.listing.pause_when_full());
            return ShowOutcome::Full;
        }
        let mark = self.mark();
        if tombstone.is_some() {
            self.tombstones.remove(&request.id);
        }
        let mut entry = Entry::new(Arc::new(request), AnswerState::free(), now.wall, mark, Some(now.mono));
        entry.before = tombstone.filter(|_| !pending).map(|_| EarlierRequest::Another);
        self.insert(entry, DecisionQueue::Ready { again: false });
        ShowOutcome::New
    }

    /// A request of a page of the pass under way.
    pub(super) fn see_listed(&mut self, request: ContactRequest, known: &KnownRequests, now: Now) -> ShowOutcome {
        let Some(pass) = self.listing.pass() else { return ShowOutcome::Settled };
        let (started_mark, started, number, first) = (pass.mark, pass.started, pass.number, pass.first);
        if let Some(entry) = self.entries.get_mut(&request.id) {
            entry.shown_in = number;
            self.learn(request, Some(started_mark));
            return ShowOutcome::Known;
        }
        let mut answer = AnswerState::free();
        let mut before = None;
        let tombstone = self.tombstones.get(&request.id);
        let had_ended = tombstone.is_some();
        if let Some(tombstone) = tombstone {
            // A page may be older than our knowledge: a replica lags, or the answer went out while the page was read.
            // The inbox believes only a pass that began well after the end, and then only gives the same answer again.
            // Another sender or time under the same id means another request: no earlier answer binds it.
            let pending = known.is_pending(&request, &tombstone);
            let soon = started.since(tombstone.at) < tombstones::STALE_GRACE;
            if tombstone.mark > started_mark || soon && !pending {
                return ShowOutcome::Settled;
            }
            let same = !pending && tombstone.may_be(&request);
            before = match (pending, same) {
                (true, _) => None,
                (false, true) => Some(EarlierRequest::Same),
                (false, false) => Some(EarlierRequest::Another),
            };
            if let Some(said) = tombstone.answer.filter(|_| same) {
                answer = AnswerState::returned(said, tombstone.subject);
            }
        }
        if !self.has_room(&request, known.welcome.contains(&request.id)) {
            self.crowded = true;
            return ShowOutcome::Full;
        }
        if had_ended {
            self.tombstones.remove(&request.id);
        }
        let mark = self.mark();
        let mut entry = Entry::new(Arc::new(request), answer, now.wall, mark, None);
        (entry.shown_in, entry.before) = (number, before);
        // Answers move rows on the pages that are still to be read, so the requests of the first pass wait until it
        // ends.
        let queue = if first {
            DecisionQueue::Delayed { until: started + listing::HOLD_MAX, held_back: true }
        } else {
            DecisionQueue::Ready { again: false }
        };
        self.insert(entry, queue);
        if before == Some(EarlierRequest::Same) { ShowOutcome::Returned } else { ShowOutcome::New }
    }
}
