//! How often something happened to an owner: approvals, rejections, removals, each with its time and its handle.
//!
//! Bounds: [`COUNTED_MAX`] of each kind; beyond that the older half is dropped, and for one owner everything but the
//! newest that the policy counts. Dropped events are a gap, and a question that reaches into it is unknown.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::needs::CountingNeeds;
use super::unless_gap;
use crate::model::{Handle, RequestId};
use crate::policy::Truth;
use crate::policy::conditions::OverQuota;
use crate::policy::evaluate::conditions::Evaluation;
use crate::policy::evaluate::inputs::after;

/// Most that are remembered, of each kind.
pub const COUNTED_MAX: usize = 100_000;
/// At least this many are kept for one owner, if a policy counts at all.
const PER_OWNER_MIN: usize = 64;
/// Most events of one owner, before a policy has set the number.
const PER_OWNER_MAX: usize = 1_024;

/// Events of one kind.
#[derive(Debug, Default)]
pub(super) struct EventCounts {
    owners: HashMap<Arc<str>, OwnerEvents>,
    len: usize,
    /// Anything at or before this moment may be missing.
    gap: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct OwnerEvents {
    /// In order of time.
    happened: Vec<Happened>,
    /// The newest event that was dropped because of the bound for one owner.
    gap: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Happened {
    at: Timestamp,
    request: Option<RequestId>,
    handle: Option<Handle>,
    /// It is known that it happened.
    sure: bool,
}

impl Happened {
    /// Whether this is the same, read from the record: it keeps microseconds.
    fn is(&self, other: &Happened) -> bool {
        match (&self.request, &other.request) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.handle == other.handle && self.at.as_microsecond() == other.at.as_microsecond(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl EventCounts {
    /// Adds an event. `needs` is what the policy counts; `None` before there is a policy.
    pub(super) fn add(
        &mut self,
        owner: &str,
        request: Option<&RequestId>,
        handle: Option<&Handle>,
        at: Timestamp,
        needs: Option<Option<CountingNeeds>>,
    ) {
        self.add_perhaps(owner, request, handle, at, needs, true);
    }

    /// The same, if it is not `sure` that it happened.
    pub(super) fn add_perhaps(
        &mut self,
        owner: &str,
        request: Option<&RequestId>,
        handle: Option<&Handle>,
        at: Timestamp,
        needs: Option<Option<CountingNeeds>>,
        sure: bool,
    ) {
        let most = match needs {
            Some(None) => {
                self.gap = self.gap.max(Some(at));
                return;
            }
            Some(Some(counting)) => (counting.count as usize).saturating_add(2).max(PER_OWNER_MIN),
            None => PER_OWNER_MAX,
        };
        let one = Happened { at, request: request.cloned(), handle: handle.cloned(), sure };
        if !self.owners.contains_key(owner) {
            self.owners.insert(owner.into(), OwnerEvents::default());
        }
        let Some(of_owner) = self.owners.get_mut(owner) else { return };
        if let Some(known) = of_owner.happened.iter_mut().find(|known| known.is(&one)) {
            known.sure |= sure;
            return;
        }
        if of_owner.gap.is_some_and(|gap| at <= gap) {
            return;
        }
        let index = of_owner.happened.partition_point(|known| known.at <= at);
        of_owner.happened.insert(index, one);
        self.len += 1;
        if of_owner.happened.len() > most {
            of_owner.gap = of_owner.gap.max(Some(of_owner.happened.remove(0).at));
            self.len -= 1;
        }
        if self.len > COUNTED_MAX {
            let mut times: Vec<_> =
                self.owners.values().flat_map(|one| one.happened.iter().map(|one| one.at)).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.drop_until(median);
        }
    }

    /// What was not sure of this request did not happen.
    pub(super) fn did_not_happen(&mut self, owner: &str, request: &RequestId) {
        let Some(of_owner) = self.owners.get_mut(owner) else { return };
        let before = of_owner.happened.len();
        of_owner.happened.retain(|one| one.sure || one.request.as_ref() != Some(request));
        self.len -= before - of_owner.happened.len();
    }

    /// Another request has this id from now on: the events of the earlier one stay.
    pub(super) fn came_again(&mut self, owner: &str, request: &RequestId) {
        for one in self.owners.get_mut(owner).into_iter().flat_map(|of_owner| &mut of_owner.happened) {
            one.request.take_if(|known| known == request);
        }
    }

    /// Drops what happened at or before this moment.
    fn drop_until(&mut self, until: Timestamp) {
        let mut newest = None;
        self.owners.retain(|_, of_owner| {
            let old = of_owner.happened.partition_point(|one| one.at <= until);
            newest = newest.max(old.checked_sub(1).map(|last| of_owner.happened[last].at));
            of_owner.happened.drain(..old);
            !of_owner.happened.is_empty()
        });
        self.len = self.owners.values().map(|of_owner| of_owner.happened.len()).sum();
        self.gap = self.gap.max(newest);
    }

    /// Keeps what this policy counts.
    pub(super) fn prune(&mut self, needs: Option<CountingNeeds>, now: Timestamp) {
        match needs {
            Some(counting) => self.drop_until(now.checked_sub(counting.per).unwrap_or(Timestamp::MIN)),
            None => self.drop_until(Timestamp::MAX),
        }
        self.owners.shrink_to_fit();
    }

    /// Nothing at or before this moment is reliable, except what is there.
    pub(super) fn unreliable(&mut self, until: Timestamp) {
        self.gap = Some(until);
    }

    /// All is known from `since` on.
    pub(super) fn complete_since(&mut self, since: Option<Timestamp>) {
        self.gap = since;
        self.owners.values_mut().for_each(|of_owner| of_owner.gap = None);
    }

    /// The newest event that was dropped, or never read.
    pub(super) fn gap(&self) -> Option<Timestamp> {
        self.gap
    }

    /// Adds this gap.
    pub(super) fn in_doubt(&mut self, gap: Option<Timestamp>) {
        self.gap = self.gap.max(gap);
    }

    /// How often it happened to this handle, or to its owner, within that time; and how often it may have.
    pub(super) fn count(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> (usize, usize) {
        let (certain, possible) = self.times(handle, over, now);
        (certain.len(), possible.len())
    }

    /// The times, newest first: those that certainly count, and those that may count.
    fn times(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> (Vec<Timestamp>, Vec<Timestamp>) {
        let happened = self.owners.get(handle.owner()).map_or(&[][..], |of_owner| &of_owner.happened);
        let first = happened.partition_point(|one| after(one.at, over.quota.per) <= now);
        let newest = || happened[first..].iter().rev();
        let certain = newest().filter(|one| one.sure && (!over.by_handle || one.handle.as_ref() == Some(handle)));
        let possible = newest().filter(|one| !over.by_handle || one.handle.as_ref().is_none_or(|one| one == handle));
        (certain.map(|one| one.at).collect(), possible.map(|one| one.at).collect())
    }

    /// Whether it happened more often than that.
    pub(super) fn over(&self, handle: &Handle, over: OverQuota, now: Timestamp) -> Evaluation {
        let (certain, possible) = self.times(handle, over, now);
        let (nth, per) = (over.quota.count as usize, over.quota.per);
        // The newest `count + 1` events make it true: when the oldest of them leaves the window, it no longer holds.
        if let Some(oldest) = certain.get(nth) {
            return Evaluation::until(Truth::True, after(*oldest, per));
        }
        let own_gap = self.owners.get(handle.owner()).and_then(|of_owner| of_owner.gap);
        let evaluation = unless_gap(self.gap.max(own_gap), per, now);
        match possible.get(nth).map(|oldest| after(*oldest, per)) {
            Some(end) if evaluation.truth == Truth::False => Evaluation::until(Truth::Unknown, end),
            Some(end) => Evaluation { flips: evaluation.flips.map(|flips| flips.max(end)), ..evaluation },
            None => evaluation,
        }
    }

    /// Whether every question that looks back this far can be answered now.
    pub(super) fn covers(&self, needs: Option<SignedDuration>, now: Timestamp) -> bool {
        needs.is_none_or(|per| self.gap.is_none_or(|gap| after(gap, per) <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::Quota;
    use crate::policy::testkit::{handle, hours, id, minutes, noon};

    fn over(count: u32, per: SignedDuration, by_handle: bool) -> OverQuota {
        OverQuota { quota: Quota { count, per }, by_handle }
    }

    fn counting(count: u32, per: SignedDuration) -> Option<Option<CountingNeeds>> {
        Some(Some(CountingNeeds { per, count }))
    }

    #[test]
    fn more_than_the_count_within_the_window_and_no_longer() {
        let mut counted = EventCounts::default();
        let needs = counting(1, hours(1));
        for (request, from, ago) in [("r1", "acme/a", 50), ("r2", "acme/b", 30), ("r2", "acme/b", 30)] {
            let from = handle(from);
            counted.add("acme", Some(&id(request)), Some(&from), noon() - minutes(ago), needs);
        }
        let ask = |from: &str, over| counted.over(&handle(from), over, noon());
        assert_eq!(ask("acme/c", over(1, hours(1), false)), Evaluation::until(Truth::True, noon() + minutes(10)));
        assert_eq!(ask("acme/c", over(2, hours(1), false)), Evaluation::FALSE, "the same twice is one");
        assert_eq!(ask("acme/c", over(1, minutes(45), false)), Evaluation::FALSE);
        assert_eq!(ask("acme/b", over(1, hours(1), true)), Evaluation::FALSE, "one by this handle");
        assert_eq!(ask("ann", over(1, hours(1), false)), Evaluation::FALSE);
    }

    #[test]
    fn what_has_no_handle_may_be_of_any() {
        let mut counted = EventCounts::default();
        let needs = counting(1, hours(1));
        counted.add("acme", None, None, noon() - minutes(20), needs);
        counted.add("acme", None, Some(&handle("acme/a")), noon() - minutes(10), needs);
        let by = |from: &str, by_handle| counted.over(&handle(from), over(1, hours(1), by_handle), noon());
        assert_eq!(by("acme/a", true), Evaluation::until(Truth::Unknown, noon() + minutes(40)));
        assert_eq!((by("acme/b", true), by("acme/b", false).truth), (Evaluation::FALSE, Truth::True));
        assert_eq!(counted.count(&handle("acme/a"), over(1, hours(1), true), noon()), (1, 2));
    }

    #[test]
    fn what_was_let_go_is_unknown() {
        let mut counted = EventCounts::default();
        let long = over(1, hours(9), false);
        counted.add("ann", Some(&id("r")), None, noon() - hours(2), counting(1, hours(3)));
        counted.prune(Some(CountingNeeds { per: hours(1), count: 1 }), noon());
        assert_eq!(counted.over(&handle("ann"), long, noon()), Evaluation::until(Truth::Unknown, noon() + hours(7)));
        assert!(counted.covers(Some(hours(1)), noon()) && !counted.covers(Some(hours(3)), noon()));
        counted.complete_since(None);
        assert_eq!(counted.over(&handle("ann"), long, noon()), Evaluation::FALSE);
        counted.add("ann", Some(&id("s")), None, noon(), Some(None));
        assert_eq!(counted.over(&handle("ann"), long, noon()).truth, Truth::Unknown, "nobody counted");
    }

    #[test]
    fn the_bounds_hold() {
        let mut counted = EventCounts::default();
        for which in 0..200 {
            counted.add("ann", Some(&id(&format!("r{which}"))), None, noon() + minutes(which), counting(1, hours(9)));
        }
        assert_eq!(counted.len, PER_OWNER_MIN);
        assert_eq!(counted.over(&handle("ann"), over(99, hours(9), false), noon() + hours(3)).truth, Truth::Unknown);
        let mut counted = EventCounts::default();
        for which in 0..=COUNTED_MAX {
            let at = noon() + SignedDuration::from_secs(which as i64);
            counted.add(&format!("o{which}"), None, None, at, counting(1, hours(99)));
        }
        assert!(counted.len <= COUNTED_MAX / 2 + 1, "{}", counted.len);
        assert_eq!(counted.over(&handle("o1"), over(1, hours(99), false), noon() + hours(1)).truth, Truth::Unknown);
    }
}
