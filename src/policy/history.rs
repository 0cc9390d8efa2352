//! What doorman remembers of owners: who was approved, rejected, removed, and how often they asked.
//!
//! History is kept only as far back as the policy asks ([`HistoryNeeds`]), and is bounded. Dropped history is
//! remembered as a gap, and a question that reaches into a gap is answered "unknown", never "no".
//!
//! Bounds: [`REQUESTS_MAX`] remembered requests, [`OWNERS_MAX`] owners in each of the other three, and
//! `COUNTED_MAX` approvals, rejections and removals each, where they are counted.

mod counted;
mod needs;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Truth;
use super::conditions::OverQuota;
use super::doubts::{Doubts, Fact, UnknownUntil};
use super::evaluate::conditions::Evaluation;
use super::evaluate::inputs::after;
use super::rules::Quota;
use super::state::HistoryKind;
use crate::model::{Handle, RequestId};
use counted::EventCounts;
pub use needs::{CountingNeeds, HistoryNeeds};

/// Most requests that are remembered; beyond that the older half is dropped.
pub const REQUESTS_MAX: usize = 100_000;
/// Most owners whose approval, rejection or removal is remembered, each.
pub const OWNERS_MAX: usize = 200_000;
/// Most requests remembered for one owner, before a policy has set the number.
const PER_OWNER_MAX: usize = 1_024;

/// The history of all owners, as one agent's doorman saw it.
#[derive(Debug, Default)]
pub(crate) struct History {
    requests: HashMap<Arc<str>, Requests>,
    requests_len: usize,
    rejected: HashMap<Arc<str>, Timestamp>,
    removed: HashMap<Arc<str>, Timestamp>,
    approved: HashSet<Arc<str>>,
    counted: CountsByKind,
    gaps: Gaps,
    /// What may have happened unseen. Every "no" is checked against it first.
    pub(crate) doubts: Doubts,
    /// `None` before the first policy: everything is kept, within the bounds.
    needs: Option<HistoryNeeds>,
}

/// What may be missing: everything at or before these moments.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Gaps {
    requests: Option<Timestamp>,
    rejected: Option<Timestamp>,
    removed: Option<Timestamp>,
    approved: bool,
    /// The gaps of approvals, rejections and removals, which are counted.
    counted: [Option<Timestamp>; 3],
}

/// What is counted, by kind.
#[derive(Debug, Default)]
struct CountsByKind {
    approved: EventCounts,
    rejected: EventCounts,
    removed: EventCounts,
}

impl CountsByKind {
    fn each(&mut self) -> [&mut EventCounts; 3] {
        [&mut self.approved, &mut self.rejected, &mut self.removed]
    }
}

#[derive(Debug, Default)]
struct Requests {
    /// In order of time.
    seen: Vec<(Timestamp, Option<RequestId>)>,
    /// The newest request that was dropped because of the bound for one owner.
    gap: Option<Timestamp>,
}

impl History {
    /// Nothing at or before `until` is reliable, except what is positively known.
    pub(crate) fn unreliable(&mut self, until: Timestamp) {
        let gap = Some(until);
        self.gaps = Gaps { requests: gap, rejected: gap, removed: gap, approved: true, ..Gaps::default() };
        self.counted.each().into_iter().for_each(|counted| counted.unreliable(until));
    }

    /// Says that all is known from `since` on, because it was read from the record again.
    pub(crate) fn complete_since(&mut self, since: Option<Timestamp>) {
        self.gaps =
            Gaps { requests: since, rejected: since, removed: since, approved: since.is_some(), ..Gaps::default() };
        self.counted.each().into_iter().for_each(|counted| counted.complete_since(since));
        self.needs = None;
        self.requests.values_mut().for_each(|requests| requests.gap = None);
    }

    /// What was dropped of everything that happened in this time.
    pub(crate) fn lost(&self, since: Timestamp, now: Timestamp) -> Gaps {
        let late = |gap: Option<Timestamp>| gap.filter(|gap| (since..=now).contains(gap));
        let Gaps { requests, rejected, removed, .. } = self.gaps;
        let CountsByKind { approved, rejected: rejections, removed: removals } = &self.counted;
        let counted = [approved.gap(), rejections.gap(), removals.gap()].map(late);
        Gaps { requests: late(requests), rejected: late(rejected), removed: late(removed), approved: false, counted }
    }

    /// Adds these gaps.
    pub(crate) fn in_doubt(&mut self, lost: Gaps) {
        self.gaps.requests = self.gaps.requests.max(lost.requests);
        self.gaps.rejected = self.gaps.rejected.max(lost.rejected);
        self.gaps.removed = self.gaps.removed.max(lost.removed);
        self.counted.each().into_iter().zip(lost.counted).for_each(|(counted, gap)| counted.in_doubt(gap));
    }

    /// From now on this is asked about, and therefore kept.
    pub(crate) fn keep_for(&mut self, needs: HistoryNeeds) {
        self.needs = Some(needs);
    }

    /// Something happened to this owner, by whichever of their handles.
    pub(crate) fn add(&mut self, owner: &str, kind: HistoryKind, request: Option<&RequestId>, at: Timestamp) {
        self.add_of(owner, None, kind, request, at);
    }

    /// The same, with this handle if it is known.
    pub(crate) fn add_of(
        &mut self,
        owner: &str,
        handle: Option<&Handle>,
        kind: HistoryKind,
        request: Option<&RequestId>,
        at: Timestamp,
    ) {
        let counting = |of: fn(&HistoryNeeds) -> Option<CountingNeeds>| self.needs.as_ref().map(of);
        match kind {
            HistoryKind::Requested => {}
            HistoryKind::Approved | HistoryKind::Guest | HistoryKind::Presumed => {
                let needs = counting(|needs| needs.approvals);
                self.counted.approved.add_perhaps(owner, request, handle, at, needs, kind != HistoryKind::Presumed);
            }
            HistoryKind::Rejected => {
                let needs = counting(|needs| needs.rejections);
                self.counted.rejected.add(owner, request, handle, at, needs);
            }
            HistoryKind::Removed => {
                let needs = counting(|needs| needs.removals);
                self.counted.removed.add(owner, request, handle, at, needs);
            }
        }
        match kind {
            HistoryKind::Requested => {
                self.requested(owner, request, at);
            }
            // A guest does not count as approved before.
            HistoryKind::Guest => {}
            // Until something shows it, that is in doubt.
            HistoryKind::Presumed => {}
            HistoryKind::Approved if self.needs.is_some_and(|needs| !needs.approved) => self.gaps.approved = true,
            HistoryKind::Approved => {
                if self.approved.len() >= OWNERS_MAX {
                    self.approved.clear();
                    self.gaps.approved = true;
                }
                if !self.approved.contains(owner) {
                    self.approved.insert(owner.into());
                }
            }
            HistoryKind::Rejected => {
                let needed = self.needs.is_none_or(|needs| needs.rejected.is_some());
                newest(&mut self.rejected, &mut self.gaps.rejected, owner, at, needed);
            }
            HistoryKind::Removed => {
                let needed = self.needs.is_none_or(|needs| needs.removed.is_some());
                newest(&mut self.removed, &mut self.gaps.removed, owner, at, needed);
            }
        }
    }

    /// `None` is a request whose id another one has by now: such requests are distinguished by their times.
    fn requested(&mut self, owner: &str, request: Option<&RequestId>, at: Timestamp) {
        let most = match self.needs {
            Some(HistoryNeeds { requests: None, .. }) => {
                self.gaps.requests = self.gaps.requests.max(Some(at));
                return;
            }
            Some(HistoryNeeds { requests: Some((_, count)), .. }) => count as usize + 2,
            None => PER_OWNER_MAX,
        };
        if !self.requests.contains_key(owner) {
            let seen = Vec::with_capacity(1);
            self.requests.insert(owner.into(), Requests { seen, gap: None });
        }
        let Some(requests) = self.requests.get_mut(owner) else { return };
        let known = |(known_at, known): &(Timestamp, Option<RequestId>)| match request {
            Some(_) => known.as_ref() == request,
            None => known.is_none() && known_at.as_microsecond() == at.as_microsecond(),
        };
        if requests.gap.is_some_and(|gap| at <= gap) || requests.seen.iter().any(known) {
            return;
        }
        let index = requests.seen.partition_point(|(known, _)| *known <= at);
        requests.seen.insert(index, (at, request.cloned()));
        self.requests_len += 1;
        if requests.seen.len() > most {
            let (gap, _) = requests.seen.remove(0);
            requests.gap = Some(gap);
            self.requests_len -= 1;
        }
        if self.requests_len > REQUESTS_MAX {
            let mut times: Vec<_> = self.requests.values().flat_map(|one| one.seen.iter().map(|(at, _)| *at)).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.drop_requests(median);
        }
    }

    /// Whether it is known that this owner was approved.
    pub(crate) fn knows_approved(&self, owner: &str) -> bool {
        self.approved.contains(owner)
    }

    /// This request was presumably approved, and it was not.
    pub(crate) fn not_approved(&mut self, owner: &str, request: &RequestId) {
        self.counted.approved.did_not_happen(owner, request);
    }

    /// A request of this owner's comes whose id one before may have had: that one keeps its time.
    pub(crate) fn came_again(&mut self, owner: &str, request: &RequestId) {
        self.counted.each().into_iter().for_each(|counted| counted.came_again(owner, request));
        for (_, known) in self.requests.get_mut(owner).into_iter().flat_map(|requests| &mut requests.seen) {
            known.take_if(|known| known == request);
        }
    }

    /// Drops what was seen at or before this moment.
    fn drop_requests(&mut self, until: Timestamp) {
        let mut newest = None;
        self.requests.retain(|_, requests| {
            let old = requests.seen.partition_point(|(at, _)| *at <= until);
            newest = newest.max(old.checked_sub(1).map(|last| requests.seen[last].0));
            requests.seen.drain(..old);
            !requests.seen.is_empty()
        });
        self.requests_len = self.requests.values().map(|requests| requests.seen.len()).sum();
        self.gaps.requests = self.gaps.requests.max(newest);
    }

    /// From now on keeps only what this policy asks about.
    pub(crate) fn prune(&mut self, needs: HistoryNeeds, now: Timestamp) {
        self.needs = Some(needs);
        let horizon = |reach: SignedDuration| now.checked_sub(reach).unwrap_or(Timestamp::MIN);
        match needs.requests {
            Some((per, _)) => self.drop_requests(horizon(per)),
            None => self.drop_requests(Timestamp::MAX),
        }
        self.requests.shrink_to_fit();
        let keep = |reach: Option<SignedDuration>| reach.map_or(Timestamp::MAX, horizon);
        drop_old(&mut self.rejected, &mut self.gaps.rejected, keep(needs.rejected));
        drop_old(&mut self.removed, &mut self.gaps.removed, keep(needs.removed));
        if !needs.approved && !self.approved.is_empty() {
            self.approved = HashSet::new();
            self.gaps.approved = true;
        }
        self.counted.approved.prune(needs.approvals, now);
        self.counted.rejected.prune(needs.rejections, now);
        self.counted.removed.prune(needs.removals, now);
        for (fact, until) in self.doubts.prune(&needs, now) {
            match fact {
                Fact::Removed => self.counted.removed.in_doubt(Some(until)),
                Fact::Rejected => self.counted.rejected.in_doubt(Some(until)),
                Fact::Identity | Fact::Approved => {}
            }
            let gap = match fact {
                Fact::Removed => &mut self.gaps.removed,
                Fact::Rejected => &mut self.gaps.rejected,
                Fact::Identity | Fact::Approved => continue,
            };
            *gap = (*gap).max(Some(until));
        }
    }

    /// Whether every question of a policy with these needs can be answered now.
    pub(crate) fn covers(&self, needs: &HistoryNeeds, now: Timestamp) -> bool {
        let clear = |gap: Option<Timestamp>, reach: Option<SignedDuration>| {
            reach.is_none_or(|reach| gap.is_none_or(|gap| after(gap, reach) <= now))
        };
        clear(self.gaps.requests, needs.requests.map(|(per, _)| per))
            && clear(self.gaps.rejected, needs.rejected)
            && clear(self.gaps.removed, needs.removed)
            && !(needs.approved && self.gaps.approved)
            && self.counted.approved.covers(needs.approvals.map(|counting| counting.per), now)
            && self.counted.rejected.covers(needs.rejections.map(|counting| counting.per), now)
            && self.counted.removed.covers(needs.removals.map(|counting| counting.per), now)
    }

    /// How many requests and owners are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.requests_len + self.rejected.len() + self.removed.len() + self.approved.len()
    }

    pub(crate) fn approved(&self, owner: &str, now: Timestamp) -> Truth {
        match self.approved.contains(owner) {
            // The owner that was approved may be somebody else than the one that asks now.
            true if self.doubts.unknown(owner, Fact::Identity, None, now).is_some() => Truth::Unknown,
            true => Truth::True,
            false if self.gaps.approved => Truth::Unknown,
            // It may have been approved by an answer of unknown fate.
            false if self.doubts.unknown(owner, Fact::Approved, None, now).is_some() => Truth::Unknown,
            false => Truth::False,
        }
    }

    pub(crate) fn rejected_within(&self, owner: &str, within: SignedDuration, now: Timestamp) -> Evaluation {
        let evaluation = lately(self.rejected.get(owner).copied(), self.gaps.rejected, within, now);
        self.unless_doubted(evaluation, owner, Fact::Rejected, within, now)
    }

    pub(crate) fn removed_within(&self, owner: &str, within: SignedDuration, now: Timestamp) -> Evaluation {
        let evaluation = lately(self.removed.get(owner).copied(), self.gaps.removed, within, now);
        self.unless_doubted(evaluation, owner, Fact::Removed, within, now)
    }

    /// Whether this owner, or this very handle, was approved more often than that.
    pub(crate) fn approved_over(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> Evaluation {
        let evaluation = self.counted.approved.over(handle, over, now);
        // Whoever was approved may be somebody else than who asks now.
        let other = self.doubts.unknown(handle.owner(), Fact::Identity, None, now).is_some();
        if other && evaluation.truth == Truth::True {
            Evaluation { truth: Truth::Unknown, ..evaluation }
        } else {
            evaluation
        }
    }

    /// Whether this owner, or this very handle, was rejected more often than that.
    pub(crate) fn rejected_over(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> Evaluation {
        let evaluation = self.counted.rejected.over(handle, over, now);
        self.unless_doubted(evaluation, handle.owner(), Fact::Rejected, over.quota.per, now)
    }

    /// Whether contacts of this owner, or of this very handle, were removed more often than that.
    pub(crate) fn removed_over(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> Evaluation {
        let evaluation = self.counted.removed.over(handle, over, now);
        self.unless_doubted(evaluation, handle.owner(), Fact::Removed, over.quota.per, now)
    }

    /// How often this happened, and how often it may have.
    pub(crate) fn count(&self, kind: HistoryKind, handle: &Handle, over: OverQuota, now: Timestamp) -> (usize, usize) {
        match kind {
            HistoryKind::Requested => (0, 0),
            HistoryKind::Approved | HistoryKind::Guest | HistoryKind::Presumed => {
                self.counted.approved.count(handle, over, now)
            }
            HistoryKind::Rejected => self.counted.rejected.count(handle, over, now),
            HistoryKind::Removed => self.counted.removed.count(handle, over, now),
        }
    }

    /// "No" is unknown if it may have happened unseen.
    fn unless_doubted(
        &self,
        evaluation: Evaluation,
        owner: &str,
        fact: Fact,
        within: SignedDuration,
        now: Timestamp,
    ) -> Evaluation {
        if evaluation.truth == Truth::True {
            return evaluation;
        }
        match self.doubts.unknown(owner, fact, Some(within), now) {
            None => evaluation,
            Some(UnknownUntil::Open) => Evaluation::UNKNOWN,
            Some(UnknownUntil::Until(end)) => {
                let known = evaluation.truth == Truth::False;
                let end = evaluation.flips.filter(|_| !known).map_or(end, |flips| flips.max(end));
                let ends = end < Timestamp::MAX && (known || evaluation.flips.is_some());
                Evaluation { truth: Truth::Unknown, flips: ends.then_some(end) }
            }
        }
    }

    /// How many requests of this owner's, `except` aside, were first seen within `per`.
    pub(crate) fn requests_within(
        &self,
        owner: &str,
        per: SignedDuration,
        except: &RequestId,
        now: Timestamp,
    ) -> impl DoubleEndedIterator<Item = Timestamp> {
        let seen = self.requests.get(owner).map_or(&[][..], |requests| &requests.seen);
        let first = seen.partition_point(|(at, _)| after(*at, per) <= now);
        seen[first..].iter().filter(move |(_, request)| request.as_ref() != Some(except)).map(|(at, _)| *at)
    }

    /// Whether this owner made more requests than `quota`, this one aside.
    pub(crate) fn requests_over(&self, owner: &str, quota: Quota, except: &RequestId, now: Timestamp) -> Evaluation {
        // The newest `count + 1` requests make it true: when the oldest of them leaves the window, it no longer holds.
        let mut newest = self.requests_within(owner, quota.per, except, now).rev();
        if let Some(oldest) = newest.nth(quota.count as usize) {
            return Evaluation { truth: Truth::True, flips: Some(after(oldest, quota.per)) };
        }
        let own_gap = self.requests.get(owner).and_then(|requests| requests.gap);
        unless_gap(self.gaps.requests.max(own_gap), quota.per, now)
    }
}

fn lately(last: Option<Timestamp>, gap: Option<Timestamp>, within: SignedDuration, now: Timestamp) -> Evaluation {
    match last.map(|last| after(last, within)).filter(|end| *end > now) {
        Some(end) => Evaluation { truth: Truth::True, flips: Some(end).filter(|end| *end < Timestamp::MAX) },
        None => unless_gap(gap, within, now),
    }
}

fn unless_gap(gap: Option<Timestamp>, reach: SignedDuration, now: Timestamp) -> Evaluation {
    match gap.map(|gap| after(gap, reach)).filter(|end| *end > now) {
        Some(end) => Evaluation { truth: Truth::Unknown, flips: Some(end).filter(|end| *end < Timestamp::MAX) },
        None => Evaluation::FALSE,
    }
}

fn newest(
    map: &mut HashMap<Arc<str>, Timestamp>,
    gap: &mut Option<Timestamp>,
    owner: &str,
    at: Timestamp,
    needed: bool,
) {
    if !needed {
        *gap = (*gap).max(Some(at));
        return;
    }
    if let Some(known) = map.get_mut(owner) {
        *known = at.max(*known);
        return;
    }
    if map.len() >= OWNERS_MAX {
        let mut times: Vec<_> = map.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        drop_old(map, gap, median);
    }
    map.insert(owner.into(), at);
}

fn drop_old(map: &mut HashMap<Arc<str>, Timestamp>, gap: &mut Option<Timestamp>, until: Timestamp) {
    let mut newest = None;
    map.retain(|_, at| {
        let keep = *at > until;
        if !keep {
            newest = newest.max(Some(*at));
        }
        keep
    });
    map.shrink_to_fit();
    *gap = (*gap).max(newest);
}
