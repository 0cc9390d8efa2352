//! Charges against limits, by rule and bucket, in order of time.
//!
//! Bound: [`CHARGES_MAX`]; beyond that the older half is dropped, and the limits of the rules that it belonged to count
//! as full as long as their windows reach back that far. The same holds for what `Charges::prune` drops: a limit never
//! counts less than there was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::model::{Handle, RequestId};
use crate::policy::Charge;
use crate::policy::RuleName;
use crate::policy::evaluate::inputs::after;
use crate::policy::rules::{Limit, LimitBy};

/// Most charges that are remembered.
pub const CHARGES_MAX: usize = 250_000;

/// All live charges of one agent.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    rules: HashMap<RuleName, RuleCharges>,
    len: usize,
    /// Nothing at or before this moment was read from the record.
    unread: Option<Timestamp>,
}

/// A place that is taken: since when, and by whom, while its answer may still turn out otherwise.
type Place = (Timestamp, Option<RequestId>);

/// A charge that was read from the record; its request as in [`Place`].
pub(crate) type ReadCharge = (Charge, Option<RequestId>, Timestamp);

#[derive(Debug, Default)]
struct RuleCharges {
    /// In order of time. Sorted by bucket, so that all handles of one owner are next to each other.
    buckets: BTreeMap<Arc<str>, Vec<Place>>,
    /// The newest charge that was dropped.
    gap: Option<Timestamp>,
}

/// The state of a limit for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitUse {
    /// Places taken by other requests within the window.
    pub(crate) count: usize,
    /// Whether no place is left; also true if that is not known.
    pub(crate) full: bool,
    /// When a place gets free, if none is.
    pub(crate) frees: Option<Timestamp>,
}

impl Charges {
    /// Takes a place. Not idempotent: the policy state knows which requests have paid.
    pub(crate) fn add(&mut self, charge: &Charge, request: &RequestId, at: Timestamp) {
        let of_rule = self.rules.entry(charge.rule.clone()).or_default();
        let bucket = of_rule.buckets.entry(charge.bucket.clone()).or_insert_with(|| Vec::with_capacity(1));
        let index = bucket.partition_point(|(known, _)| *known <= at);
        bucket.insert(index, (at, Some(request.clone())));
        self.len += 1;
        if self.len > CHARGES_MAX {
            self.drop_older_half();
        }
    }

    /// Takes the places that the record remembers, in any order: one by one, each would move those that are later.
    pub(crate) fn add_read(&mut self, read: Vec<ReadCharge>) {
        let mut added: HashSet<Charge> = HashSet::new();
        // Neighbours are usually of the same limit, and are put there together.
        for places in read.chunk_by(|(one, ..), (next, ..)| one == next) {
            let Some((charge, ..)) = places.first() else { continue };
            let of_rule = self.rules.entry(charge.rule.clone()).or_default();
            let bucket = of_rule.buckets.entry(charge.bucket.clone()).or_default();
            bucket.extend(places.iter().map(|(_, request, at)| (*at, request.clone())));
            self.len += places.len();
            added.insert(charge.clone());
        }
        for charge in &added {
            if let Some(bucket) = self.bucket(charge) {
                bucket.sort_by_key(|(at, _)| *at);
            }
        }
        while self.len > CHARGES_MAX {
            self.drop_older_half();
        }
    }

    fn bucket(&mut self, charge: &Charge) -> Option<&mut Vec<Place>> {
        self.rules.get_mut(&charge.rule)?.buckets.get_mut(&charge.bucket)
    }

    /// The platform confirmed the answer that paid for this place, then or later: nothing asks any more whose it is.
    pub(crate) fn confirmed(&mut self, charge: &Charge, request: &RequestId, since: Timestamp) {
        let Some(bucket) = self.bucket(charge) else { return };
        let begins = bucket.partition_point(|(at, _)| *at < since);
        let place = bucket[begins..].iter_mut().find(|(_, holder)| holder.as_ref() == Some(request));
        if let Some((_, holder)) = place {
            *holder = None;
        }
    }

    /// The places that are taken, so that none that the record has, too, is counted twice.
    pub(crate) fn taken(&self) -> TakenPlaces {
        let mut taken = TakenPlaces::default();
        for (rule, of_rule) in &self.rules {
            for (bucket, places) in &of_rule.buckets {
                for (at, holder) in places {
                    let charge = Charge { rule: rule.clone(), bucket: bucket.clone() };
                    match holder {
                        Some(request) => *taken.by_request.entry((request.clone(), charge)).or_default() += 1,
                        None => *taken.by_time.entry((at.as_microsecond(), charge)).or_default() += 1,
                    }
                }
            }
        }
        taken
    }

    /// Gives the place back that a request took since then: an earlier one may have had the same id.
    pub(crate) fn remove(&mut self, charge: &Charge, request: &RequestId, since: Timestamp) {
        let Some(of_rule) = self.rules.get_mut(&charge.rule) else { return };
        let Some(bucket) = of_rule.buckets.get_mut(&charge.bucket) else { return };
        let before = bucket.len();
        bucket.retain(|(at, holder)| holder.as_ref() != Some(request) || *at < since);
        self.len -= before - bucket.len();
        if bucket.is_empty() {
            of_rule.buckets.remove(&charge.bucket);
        }
    }

    /// How often this very place was taken since then.
    pub(crate) fn times(&self, charge: &Charge, request: &RequestId, since: Timestamp) -> usize {
        let bucket = self.rules.get(&charge.rule).and_then(|of_rule| of_rule.buckets.get(&charge.bucket));
        let is_it = |(at, holder): &&Place| holder.as_ref() == Some(request) && *at >= since;
        bucket.map_or(0, |bucket| bucket.iter().filter(is_it).count())
    }

    /// The state of a limit for this handle at this moment, without the places that `except` took since then.
    pub(crate) fn used(
        &self,
        rule: &RuleName,
        limit: &Limit,
        handle: &Handle,
        except: Option<(&RequestId, Timestamp)>,
        now: Timestamp,
    ) -> LimitUse {
        let per = limit.quota.per;
        let gap_ends = self.gap(rule).map(|gap| after(gap, per)).filter(|end| *end > now);
        let Some(of_rule) = self.rules.get(rule) else {
            return LimitUse { count: 0, full: gap_ends.is_some(), frees: gap_ends };
        };
        let mut live: Vec<&[Place]> = Vec::new();
        of_rule.buckets_of(limit.by, handle, |bucket| {
            let first = bucket.partition_point(|(at, _)| after(*at, per) <= now);
            if first < bucket.len() {
                live.push(&bucket[first..]);
            }
        });
        let mut count: usize = live.iter().map(|bucket| bucket.len()).sum();
        let quota = limit.quota.count as usize;
        let mut times: Vec<Timestamp> = Vec::new();
        if count >= quota && (live.len() > 1 || except.is_some()) {
            let others = live.iter().flat_map(|bucket| bucket.iter());
            let own = |at: Timestamp, holder: Option<&RequestId>| {
                except.is_some_and(|(except, since)| holder == Some(except) && at >= since)
            };
            times.extend(others.filter(|(at, holder)| !own(*at, holder.as_ref())).map(|(at, _)| *at));
            times.sort_unstable();
            count = times.len();
        }
        if count < quota {
            return LimitUse { count, full: gap_ends.is_some(), frees: gap_ends };
        }
        // One place is free as soon as all but `quota - 1` of them have slid out.
        let last_in_the_way = count - quota;
        let at = times.get(last_in_the_way).copied().or_else(|| live.first().map(|bucket| bucket[last_in_the_way].0));
        LimitUse { count, full: true, frees: at.map(|at| after(at, per)).max(gap_ends) }
    }

    /// Who holds a place in a limit for this handle at this moment (`None`: an answer that the platform confirmed); `None` if the
    /// record may not hold all of them.
    pub(crate) fn holders(
        &self,
        rule: &RuleName,
        limit: &Limit,
        handle: &Handle,
        now: Timestamp,
    ) -> Option<Vec<Option<&RequestId>>> {
        if !self.covers(rule, limit, now) {
            return None;
        }
        let mut holders = Vec::new();
        if let Some(of_rule) = self.rules.get(rule) {
            of_rule.buckets_of(limit.by, handle, |bucket| {
                let first = bucket.partition_point(|(at, _)| after(*at, limit.quota.per) <= now);
                holders.extend(bucket[first..].iter().map(|(_, holder)| holder.as_ref()));
            });
        }
        Some(holders)
    }

    /// Drops the charges beyond the reach of each rule's limit, and all charges of a rule without a limit.
    pub(crate) fn prune(&mut self, reach: impl Fn(&RuleName) -> Option<SignedDuration>, now: Timestamp) {
        for (name, of_rule) in &mut self.rules {
            let horizon = reach(name).map_or(Timestamp::MAX, |per| now.checked_sub(per).unwrap_or(Timestamp::MIN));
            self.len -= of_rule.drop_until(horizon);
        }
        // A gap that old is past any limit an operator writes.
        let forgotten = now.checked_sub(SignedDuration::from_hours(24 * 400)).unwrap_or(Timestamp::MIN);
        self.rules.retain(|_, of_rule| !of_rule.buckets.is_empty() || of_rule.gap.is_some_and(|gap| gap > forgotten));
    }

    fn drop_older_half(&mut self) {
        let buckets = self.rules.values().flat_map(|of_rule| of_rule.buckets.values());
        let mut times: Vec<_> = buckets.flat_map(|bucket| bucket.iter().map(|(at, _)| *at)).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        for of_rule in self.rules.values_mut() {
            self.len -= of_rule.drop_until(median);
        }
    }

    /// Forgets the gaps, because everything after `unread` was read from the record.
    pub(crate) fn complete_since(&mut self, unread: Option<Timestamp>) {
        self.rules.values_mut().for_each(|of_rule| of_rule.gap = None);
        self.unread = unread;
    }

    /// Whether all charges that this rule's limit counts are known: none was dropped, or never read.
    pub(crate) fn covers(&self, rule: &RuleName, limit: &Limit, now: Timestamp) -> bool {
        self.gap(rule).is_none_or(|gap| after(gap, limit.quota.per) <= now)
    }

    fn gap(&self, rule: &RuleName) -> Option<Timestamp> {
        self.unread.max(self.rules.get(rule).and_then(|of_rule| of_rule.gap))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The places that are taken and were not yet found on record, as [`Charges::taken`] counts them.
#[derive(Debug, Default)]
pub(crate) struct TakenPlaces {
    by_request: HashMap<(RequestId, Charge), usize>,
    /// In microseconds, as on record.
    by_time: HashMap<(i64, Charge), usize>,
}

impl TakenPlaces {
    /// Whether this charge of the record is among them; if so, it is not any more.
    pub(crate) fn take(&mut self, request: Option<&RequestId>, charge: &Charge, at: Timestamp) -> bool {
        if self.by_request.is_empty() && self.by_time.is_empty() {
            return false;
        }
        let by_request = request.and_then(|request| self.by_request.get_mut(&(request.clone(), charge.clone())));
        let left = match by_request.filter(|left| **left > 0) {
            Some(left) => Some(left),
            None => self.by_time.get_mut(&(at.as_microsecond(), charge.clone())).filter(|left| **left > 0),
        };
        let Some(left) = left else { return false };
        *left -= 1;
        true
    }
}

/// The bucket of a limit that counts by handle: with its `@`, so that it cannot be an owner's bucket.
pub(crate) fn handle_bucket(handle: &Handle) -> String {
    format!("@{handle}")
}

impl RuleCharges {
    /// Every bucket that a limit counts for this handle. If a reload changed what a limit counts by, charges in the
    /// other kinds of buckets count as far as they may concern this handle.
    fn buckets_of<'a>(&'a self, by: LimitBy, handle: &Handle, mut ask: impl FnMut(&'a [Place])) {
        if by == LimitBy::Rule {
            self.buckets.values().for_each(|bucket| ask(bucket));
            return;
        }
        let owner = handle.owner();
        let at_handle = handle_bucket(handle);
        for exact in ["", owner, &at_handle] {
            if let Some(bucket) = self.buckets.get(exact) {
                ask(bucket);
            }
        }
        if by == LimitBy::Owner {
            // `0` follows `/` in ASCII: the handles of this owner's agents are between the two.
            let (from, to) = (format!("@{owner}/"), format!("@{owner}0"));
            let agents = self.buckets.range::<str, _>((Bound::Included(&*from), Bound::Excluded(&*to)));
            agents.filter(|(name, _)| ***name != *at_handle).for_each(|(_, bucket)| ask(bucket));
            let user = &from[..from.len() - 1];
            if let Some(bucket) = self.buckets.get(user).filter(|_| user != at_handle) {
                ask(bucket);
            }
        }
    }

    fn drop_until(&mut self, until: Timestamp) -> usize {
        let (mut dropped, mut newest) = (0, None);
        self.buckets.retain(|_, bucket| {
            let old = bucket.partition_point(|(at, _)| *at <= until);
            newest = newest.max(old.checked_sub(1).map(|last| bucket[last].0));
            bucket.drain(..old);
            dropped += old;
            !bucket.is_empty()
        });
        self.gap = self.gap.max(newest);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testkit::{id, name, noon};

    #[test]
    fn what_is_read_is_in_order_of_time_and_of_too_much_the_newest_stay() {
        let charge = Charge { rule: name("friends"), bucket: "".into() };
        let at = |number: usize| noon() + SignedDuration::from_secs(number.try_into().unwrap());
        let read = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<_> {
            numbers.map(|number| (charge.clone(), Some(id(&format!("r{number}"))), at(number))).collect()
        };
        let mut charges = Charges::default();
        charges.add(&charge, &id("r7"), at(7));
        charges.add_read(read(&mut [9, 3, 8, 1].into_iter()));
        let held: Vec<Timestamp> = charges.rules[&charge.rule].buckets[""].iter().map(|(at, _)| *at).collect();
        assert_eq!(held, [1, 3, 7, 8, 9].map(at));
        assert_eq!((charges.len(), charges.taken().by_request[&(id("r3"), charge.clone())]), (5, 1));

        let mut charges = Charges::default();
        charges.add_read(read(&mut (0..CHARGES_MAX + 1)));
        let bucket = &charges.rules[&charge.rule].buckets[""];
        assert_eq!((bucket.len(), bucket.last().map(|(at, _)| *at)), (CHARGES_MAX / 2, Some(at(CHARGES_MAX))));
        assert_eq!(charges.rules[&charge.rule].gap, Some(at(CHARGES_MAX / 2)));
    }
}
