//! Who should hold which lease. Pure, and the same for whoever computes it from the same rows: there is no leader.
//!
//! Each name has an order of the members, by a hash of both (rendezvous hashing): one that joins or leaves changes nothing
//! for names that do not concern it. A move costs a connection and a listing, so what a living member has stays there
//! unless it has clearly more than its share.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::ledger::members::{Member, MemberState};

/// A member may have this much of its share before it gives anything.
const MORE_THAN_ITS_SHARE: f64 = 1.1;

/// One with less than this much of its share gets some of those that have more than theirs.
const TOO_FEW: f64 = 0.9;

/// Most agents that one member gives at once because people want them elsewhere.
const WISHES_MAX: usize = 5;

/// How many agents are one member's.
#[derive(Debug, Clone, Copy, Default)]
struct MemberShare {
    /// Its share, rounded up.
    even: usize,
    /// With more it gives some.
    most: usize,
    /// With less it gets some.
    least: usize,
}

/// What everybody sees.
#[derive(Debug)]
pub struct FleetView<'a> {
    /// All members that are not dead.
    pub members: &'a [Member],
    /// By lease set: the names of its leases.
    pub lease_sets: &'a HashMap<String, HashSet<String>>,
    /// By lease: the member that has it and lives.
    pub holders: &'a HashMap<String, String>,
    /// By lease: the name of the doorman that a person wants to have it.
    pub wanted: &'a HashMap<String, String>,
    /// A lease that is no agent's: it goes to one of the members, and counts for no share.
    pub uncounted: &'a str,
}

/// What one member does.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// It takes these: nobody has them, and they should be its.
    pub take: Vec<String>,
    /// It gives these to others.
    pub give: Vec<String>,
}

/// Whether `me` takes no agents, and gives those that it has, since the platform does not answer it. `was`: it was so before;
/// `held`: how many agents it has; `failing_for`: how long no call has been answered.
///
/// It becomes so only while another member has agents that reach the platform, and ends when the platform answers.
pub fn is_away(
    was: bool,
    members: &[Member],
    me: &str,
    held: u64,
    failing_for: Option<Duration>,
    give_when_away: Duration,
) -> bool {
    let Some(failing_for) = failing_for else { return false };
    let reaches =
        |member: &Member| member.id != me && member.state == MemberState::Up && !member.away && member.reached > 0;
    was || (held > 0 && failing_for >= give_when_away && members.iter().any(reaches))
}

impl FleetView<'_> {
    fn names(&self, member: &Member, name: &str) -> bool {
        member.state == MemberState::Up
            && self.lease_sets.get(&member.lease_set).is_some_and(|names| names.contains(name))
    }

    /// Whether it may have this. One that the platform does not answer may have only what no other member names.
    fn may(&self, member: &Member, name: &str) -> bool {
        let near = |other: &Member| !other.away && self.names(other, name);
        self.names(member, name) && (!member.away || !self.members.iter().any(near))
    }

    /// The member that a person wants to have this, if it takes agents and may have it.
    fn wished(&self, name: &str) -> Option<&Member> {
        let wanted = self.wanted.get(name).filter(|_| name != self.uncounted)?;
        self.best(name, self.members.iter().filter(|member| member.name == *wanted && self.may(member, name)))
    }

    /// By member: how many agents it has.
    fn held(&self) -> HashMap<&str, usize> {
        let mut held: HashMap<&str, usize> = HashMap::new();
        for (_, holder) in self.holders.iter().filter(|(name, _)| *name != self.uncounted) {
            *held.entry(holder).or_default() += 1;
        }
        held
    }

    /// By member: its part of the agents.
    fn parts(&self) -> HashMap<&str, MemberShare> {
        let mut up: Vec<&Member> = self.members.iter().filter(|member| member.state == MemberState::Up).collect();
        if up.iter().any(|member| !member.away) {
            up.retain(|member| !member.away);
        }
        let mut shares: HashMap<&str, f64> = HashMap::new();
        let same = up.windows(2).all(|two| two[0].lease_set == two[1].lease_set);
        if let (true, Some(first)) = (same, up.first()) {
            // As usual: all have the same agents.
            let names = self
                .lease_sets
                .get(&first.lease_set)
                .map_or(0, |names| names.len() - usize::from(names.contains(self.uncounted)));
            let weights: f64 = up.iter().map(|member| f64::from(member.weight)).sum();
            for member in &up {
                shares.insert(&member.id, names as f64 * f64::from(member.weight) / weights);
            }
        } else {
            let names: HashSet<&String> =
                up.iter().filter_map(|member| self.lease_sets.get(&member.lease_set)).flatten().collect();
            for name in names.into_iter().filter(|name| *name != self.uncounted) {
                let able: Vec<&&Member> = up.iter().filter(|member| self.may(member, name)).collect();
                let weights: f64 = able.iter().map(|member| f64::from(member.weight)).sum();
                for member in able {
                    *shares.entry(&member.id).or_default() += f64::from(member.weight) / weights;
                }
            }
        }
        let part = |member: &&Member| {
            let share = shares.get(member.id.as_str()).copied().unwrap_or(0.0);
            // A little above a whole number is that number: sums of fractions are not exact.
            let even = (share - 1e-6).ceil().max(0.0);
            let (most, least) = (even.max((share * MORE_THAN_ITS_SHARE).floor()), (share * TOO_FEW).floor());
            let bounded = |number: f64| (number.max(0.0) as usize).min(member.agents_max as usize);
            MemberShare { even: bounded(even), most: bounded(most), least: bounded(least) }
        };
        up.iter().map(|member| (member.id.as_str(), part(member))).collect()
    }

    /// Whose a name should be, of these members: the one with the highest number.
    fn best<'m>(&self, name: &str, among: impl Iterator<Item = &'m Member>) -> Option<&'m Member> {
        among.max_by(|one, other| score(name, one).total_cmp(&score(name, other)).then_with(|| one.id.cmp(&other.id)))
    }

    /// What `me` does. `long_free` are names that nobody has had for longer than whom they should belong to is waited for; at
    /// most `moves_max` of its agents go to others because it has too many.
    pub fn plan(&self, me: &str, long_free: &HashSet<String>, moves_max: usize) -> Plan {
        let mut plan = Plan::default();
        let Some(mine) = self.members.iter().find(|member| member.id == me) else { return plan };
        let has = |name: &&String| self.holders.get(*name).is_some_and(|holder| holder == me);
        match mine.state {
            MemberState::Up => {}
            MemberState::Draining => {
                plan.give = self.holders.keys().filter(has).cloned().collect();
                plan.give.sort_unstable();
                return plan;
            }
            MemberState::Left | MemberState::Dead => return plan,
        }
        let mut held = self.held();
        let parts = self.parts();
        let part = |member: &Member| parts.get(member.id.as_str()).copied().unwrap_or_default();
        let names = self.lease_sets.get(&mine.lease_set);
        let mut free: Vec<&String> =
            names.into_iter().flatten().filter(|name| !self.holders.contains_key(*name)).collect();
        // Where the platform does not answer it, others take them.
        free.retain(|name| self.may(mine, name));
        free.sort_unstable();
        for name in free {
            let able = || self.members.iter().filter(|member| self.may(member, name));
            if name == self.uncounted {
                if long_free.contains(name) || self.best(name, able()).is_some_and(|member| member.id == me) {
                    plan.take.push(name.clone());
                }
                continue;
            }
            let has = |member: &Member| held.get(member.id.as_str()).copied().unwrap_or(0);
            let wanted = self
                .wished(name)
                .filter(|member| has(member) < member.agents_max as usize)
                .or_else(|| self.best(name, able().filter(|member| has(member) < part(member).most)))
                .or_else(|| self.best(name, able().filter(|member| has(member) < member.agents_max as usize)));
            let Some(wanted) = wanted else { continue };
            let takes = wanted.id == me || (long_free.contains(name) && has(mine) < mine.agents_max as usize);
            if takes {
                plan.take.push(name.clone());
            }
            *held.entry(if takes { &mine.id } else { &wanted.id }).or_default() += 1;
        }
        if mine.away {
            // At once, as one that drains: but only what another one may have, and as many as may be there.
            let mut given: Vec<&String> = self.holders.keys().filter(has).collect();
            given.sort_unstable();
            for name in given.into_iter().filter(|name| !self.may(mine, name)) {
                let has = |member: &Member| held.get(member.id.as_str()).copied().unwrap_or(0);
                let room = |member: &&Member| *name == self.uncounted || has(member) < member.agents_max as usize;
                let able = self.members.iter().filter(|member| member.id != me && self.may(member, name));
                let Some(to) = self.best(name, able.filter(room)) else { continue };
                plan.give.push(name.clone());
                *held.entry(&to.id).or_default() += usize::from(*name != self.uncounted);
            }
            return plan;
        }
        // What a person wants elsewhere goes whoever has more.
        let mut wished: Vec<&String> = self.holders.keys().filter(has).collect();
        wished.sort_unstable();
        for name in wished {
            let Some(to) = self.wished(name).filter(|to| to.id != me) else { continue };
            let has = held.get(to.id.as_str()).copied().unwrap_or(0);
            if has < to.agents_max as usize && plan.give.len() < WISHES_MAX {
                plan.give.push(name.clone());
                *held.entry(&to.id).or_default() += 1;
                if let Some(mine) = held.get_mut(me) {
                    *mine = mine.saturating_sub(1);
                }
            }
        }
        let own = part(mine);
        let mut left = held.get(me).copied().unwrap_or(0);
        if left <= own.even || moves_max == 0 {
            return plan;
        }
        let mut moved = 0;
        // What it likes least goes first; what a person wants here goes last, and only if it is more than may be here.
        let (instance, agents_max) = (&mine.instance, mine.agents_max as usize);
        let mine = self.holders.keys().filter(has).filter(|name| *name != self.uncounted && !plan.give.contains(name));
        let mut mine: Vec<(bool, u64, &String)> =
            mine.map(|name| (self.wished(name).is_some(), hash(name, instance), name)).collect();
        mine.sort_unstable();
        for (wished, _, name) in mine {
            if wished && left <= agents_max {
                break;
            }
            let has = |member: &Member| held.get(member.id.as_str()).copied().unwrap_or(0);
            let able = || self.members.iter().filter(|member| self.may(member, name));
            let others = || able().filter(|member| member.id != me);
            let room = |member: &&Member| left > agents_max && has(member) < member.agents_max as usize;
            let to = if left > own.most {
                // Others may have more than their share of what this one may not have at all.
                self.best(name, others().filter(|member| has(member) < part(member).most))
                    .or_else(|| self.best(name, others().filter(room)))
            } else {
                self.best(name, able()).filter(|member| member.id != me && has(member) < part(member).least)
            };
            let Some(to) = to else { continue };
            plan.give.push(name.clone());
            *held.entry(&to.id).or_default() += 1;
            left -= 1;
            moved += 1;
            if moved == moves_max || left <= own.even {
                break;
            }
        }
        plan
    }
}

fn hash(name: &str, instance: &str) -> u64 {
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(instance).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// How much a member wants a name: by weight, each gets its part.
fn score(name: &str, member: &Member) -> f64 {
    let part = (hash(name, &member.instance) >> 11) as f64 / (1_u64 << 53) as f64;
    f64::from(member.weight) / -(part.max(f64::MIN_POSITIVE)).ln()
}

#[cfg(test)]
mod tests;
