//! Whose each lease is, as this doorman sees it. Pure: time and rows are arguments.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

use std::collections::{HashMap, HashSet};

use super::AgentHolder;
use super::core::FleetCore;
use super::share::{FleetView, Plan};
use crate::clock::Mono;
use crate::ledger::MESSAGES;
use crate::ledger::members::{LeaseHolder, Member};

/// Agents that go to others in a second, because this doorman has too many.
const MOVES_A_SECOND: u32 = 5;
/// A lease that no living member has.
pub const NOBODYS: &str = "nobody has it at the moment";

/// What was read from the database, just before `now`.
#[derive(Debug)]
pub struct FleetSnapshot<'a> {
    /// All members that are not dead.
    pub members: &'a [Member],
    /// All leases.
    pub leases: &'a [LeaseHolder],
    /// By lease set: the names of its leases.
    pub lease_sets: &'a HashMap<String, HashSet<String>>,
    /// The id of this member.
    pub me: &'a str,
    /// When.
    pub now: Mono,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct AgentHolders {
    free_since: HashMap<String, Mono>,
    /// Leases that were to be given, and are not yet.
    giving: HashSet<String>,
}

impl AgentHolders {
    /// The others declared this member dead: it gives nothing any more.
    pub fn died(&mut self) {
        self.giving.clear();
    }

    /// Whose each of these leases is, in their order.
    pub fn look<'n>(
        &mut self,
        looked: &FleetSnapshot<'_>,
        core: &FleetCore,
        names: impl Iterator<Item = &'n str> + Clone,
    ) -> Vec<(&'n str, AgentHolder)> {
        let FleetSnapshot { members, leases, lease_sets, me, now } = *looked;
        let by_id: HashMap<&str, &Member> = members.iter().map(|member| (member.id.as_str(), member)).collect();
        let held = leases.iter().filter_map(|lease| {
            let holder = lease.holder.as_ref().filter(|holder| by_id.contains_key(holder.as_str()))?;
            Some((lease.name.clone(), holder.clone()))
        });
        let holders: HashMap<String, String> = held.collect();
        self.free_since.retain(|name, _| !holders.contains_key(name));
        for name in names.clone().filter(|name| !holders.contains_key(*name)) {
            self.free_since.entry(name.to_owned()).or_insert(now);
        }
        let grace = core.grace();
        let long_free = self.free_since.iter().filter(|(_, since)| now.since(**since) >= grace);
        let long_free = long_free.map(|(name, _)| name.clone()).collect();
        self.giving.retain(|name| holders.get(name).is_some_and(|holder| holder == me));
        let moves_max = if core.is_steady(now) && self.giving.is_empty() {
            (core.between_looks() * MOVES_A_SECOND).as_secs_f64().ceil() as usize
        } else {
            0
        };
        let wanted = leases.iter().filter_map(|lease| Some((lease.name.clone(), lease.wanted.clone()?))).collect();
        let seen = FleetView { members, lease_sets, holders: &holders, wanted: &wanted, uncounted: MESSAGES };
        let Plan { take, give } = seen.plan(me, &long_free, moves_max);
        self.giving.extend(give);
        let take: HashSet<String> = take.into_iter().collect();
        let stand = |name: &'n str| match holders.get(name) {
            Some(holder) if holder == me && self.giving.contains(name) => AgentHolder::Give,
            Some(holder) if holder == me => AgentHolder::Ours,
            Some(holder) => AgentHolder::Theirs(by_id.get(holder.as_str()).map_or("", |member| &member.name).into()),
            None if take.contains(name) => AgentHolder::Ours,
            None => AgentHolder::Nobody(NOBODYS),
        };
        names.map(|name| (name, stand(name))).collect()
    }
}
