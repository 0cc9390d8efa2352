//! Who should hold which lease. Pure, and the same for whoever computes it from the same rows: there is no leader.
//!
//! Each name has an order of the members, by a hash of both (rendezvous hashing): one that joins or leaves changes nothing
//! for names that do not concern it. A move costs a connection and a listing, so what a living member has stays there
//! unless it has clearly more than its share.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

use std::collections::{HashMap, HashSet};

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
    /// By roster: the names of its leases.
    pub rosters: &'a HashMap<String, HashSet<String>>,
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

impl FleetView<'_> {
    fn may(&self, member: &Member, name: &str) -> bool {
        member.state == MemberState::Up && self.rosters.get(&member.roster).is_some_and(|names| names.contains(name))
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
        let up: Vec<&Member> = self.members.iter().filter(|member| member.state == MemberState::Up).collect();
        let mut shares: HashMap<&str, f64> = HashMap::new();
        let same = up.windows(2).all(|two| two[0].roster == two[1].roster);
        if let (true, Some(first)) = (same, up.first()) {
            // As usual: all have the same agents.
            let names = self
                .rosters
                .get(&first.roster)
                .map_or(0, |names| names.len() - usize::from(names.contains(self.uncounted)));
            let weights: f64 = up.iter().map(|member| f64::from(member.weight)).sum();
            for member in &up {
                shares.insert(&member.id, names as f64 * f64::from(member.weight) / weights);
            }
        } else {
            let names: HashSet<&String> =
                up.iter().filter_map(|member| self.rosters.get(&member.roster)).flatten().collect();
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
        let names = self.rosters.get(&mine.roster);
        let mut free: Vec<&String> =
            names.into_iter().flatten().filter(|name| !self.holders.contains_key(*name)).collect();
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
        // What it likes least goes first.
        let instance = &mine.instance;
        let mine =
            self.holders.keys().filter(has).filter(|name| *name != self.uncounted && self.wished(name).is_none());
        let mut mine: Vec<(u64, &String)> = mine.map(|name| (hash(name, instance), name)).collect();
        mine.sort_unstable();
        for (_, name) in mine {
            let has = |member: &Member| held.get(member.id.as_str()).copied().unwrap_or(0);
            let able = || self.members.iter().filter(|member| self.may(member, name));
            let to = if left > own.most {
                self.best(name, able().filter(|member| member.id != me && has(member) < part(member).most))
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
mod tests {
    use super::super::core::tests::member;
    use super::*;

    struct ShareWorld {
        members: Vec<Member>,
        rosters: HashMap<String, HashSet<String>>,
        holders: HashMap<String, String>,
        wanted: HashMap<String, String>,
    }

    impl ShareWorld {
        fn of(members: &[&str], agents: usize) -> Self {
            let names = (0..agents).map(|n| format!("agent-{n}")).chain(["notify".to_owned()]).collect();
            let members = members.iter().map(|id| member(id, 1, MemberState::Up)).collect();
            Self {
                members,
                rosters: HashMap::from([("r".to_owned(), names)]),
                holders: HashMap::new(),
                wanted: HashMap::new(),
            }
        }

        fn plan(&self, me: &str, long_free: &[&str], moves_max: usize) -> Plan {
            let seen = FleetView {
                members: &self.members,
                rosters: &self.rosters,
                holders: &self.holders,
                wanted: &self.wanted,
                uncounted: "notify",
            };
            seen.plan(me, &long_free.iter().map(|name| (*name).to_owned()).collect(), moves_max)
        }

        /// Everybody does what they plan, until nobody does anything; how many leases changed hands.
        fn settle(&mut self) -> usize {
            let mut moved = 0;
            for _ in 0..200 {
                let mut quiet = true;
                for me in self.members.iter().map(|member| member.id.clone()).collect::<Vec<_>>() {
                    let plan = self.plan(&me, &[], 5);
                    for name in plan.give {
                        assert_eq!(self.holders.remove(&name).as_deref(), Some(me.as_str()));
                        quiet = false;
                    }
                    for name in plan.take {
                        assert_eq!(self.holders.insert(name, me.clone()), None);
                        (moved, quiet) = (moved + 1, false);
                    }
                }
                if quiet {
                    return moved;
                }
            }
            panic!("it never settles");
        }

        fn held(&self, me: &str) -> usize {
            self.holders.iter().filter(|(name, holder)| *name != "notify" && *holder == me).count()
        }
    }

    #[test]
    fn everybody_gets_a_share_and_one_gets_the_messages() {
        for (members, agents) in [(1, 1), (1, 9), (2, 6), (3, 10), (3, 1), (10, 500)] {
            let ids: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
            let mut world = ShareWorld::of(&ids.iter().map(String::as_str).collect::<Vec<_>>(), agents);
            world.settle();
            assert_eq!(world.holders.len(), agents + 1, "{members} {agents}");
            let most = agents.div_ceil(members).max(agents * 11 / 10 / members);
            for id in &ids {
                assert!(world.held(id) <= most, "{members} {agents}: {id} has {}", world.held(id));
            }
            assert_eq!(world.settle(), 0, "and then nothing moves");
        }
    }

    #[test]
    fn one_that_joins_gets_its_share_and_no_other_agent_moves() {
        let ids: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
        let mut world = ShareWorld::of(&ids.iter().map(String::as_str).collect::<Vec<_>>(), 1_000);
        world.settle();
        world.members.push(member("new", 1, MemberState::Up));
        let before = world.holders.clone();
        let moved = world.settle();
        let elsewhere = world.holders.iter().filter(|(name, now)| before[*name] != **now).count();
        assert!(moved <= elsewhere + elsewhere / 10, "hardly any agent moves twice: {moved} {elsewhere}");
        assert!(
            (81..=120).contains(&moved) && (81..=100).contains(&world.held("new")),
            "{moved} {}",
            world.held("new")
        );
        let most = ids.iter().map(|id| world.held(id)).max().unwrap();
        assert!(most <= 100, "{most}");
    }

    #[test]
    fn what_a_dead_one_had_is_shared_and_the_rest_stays() {
        let mut world = ShareWorld::of(&["a", "b", "c"], 30);
        world.settle();
        let lost = world.held("c") + usize::from(world.holders["notify"] == "c");
        world.members.pop();
        let before = world.holders.clone();
        world.holders.retain(|_, holder| holder != "c");
        assert_eq!(world.settle(), lost);
        for (name, holder) in before.iter().filter(|(_, holder)| *holder != "c") {
            assert_eq!(world.holders[name], *holder);
        }
    }

    #[test]
    fn a_drained_one_gives_all_and_takes_nothing() {
        let mut world = ShareWorld::of(&["a", "b"], 10);
        world.settle();
        world.members[0].state = MemberState::Draining;
        assert_eq!(world.plan("a", &[], 5).give.len(), world.holders.values().filter(|holder| *holder == "a").count());
        world.settle();
        assert_eq!((world.held("a"), world.held("b")), (0, 10));
        world.members[0].state = MemberState::Up;
        world.settle();
        assert_eq!((world.held("a"), world.held("b")), (5, 5));
    }

    #[test]
    fn weight_and_a_bound_say_how_much() {
        let mut world = ShareWorld::of(&["a", "b"], 90);
        world.members[0].weight = 200;
        world.settle();
        assert!((57..=66).contains(&world.held("a")), "{}", world.held("a"));
        let mut world = ShareWorld::of(&["a", "b"], 90);
        world.members[0].agents_max = 7;
        world.settle();
        assert_eq!((world.held("a"), world.held("b")), (7, 83));
        let mut world = ShareWorld::of(&["a"], 90);
        world.members[0].agents_max = 7;
        world.settle();
        assert_eq!(world.held("a"), 7, "more than this nobody takes");
    }

    #[test]
    fn nobody_gets_what_it_does_not_have_configured() {
        let mut world = ShareWorld::of(&["a", "b"], 10);
        let few: HashSet<String> = ["agent-1", "agent-2"].map(str::to_owned).into();
        world.rosters.insert("few".to_owned(), few.clone());
        world.members[1].roster = "few".to_owned();
        world.settle();
        assert_eq!((world.held("a") + world.held("b"), world.holders["notify"].as_str()), (10, "a"));
        assert!(world.holders.iter().all(|(name, holder)| holder == "a" || few.contains(name)));
        assert_eq!(world.settle(), 0);
    }

    #[test]
    fn what_its_own_member_does_not_take_another_takes_in_the_end() {
        let world = ShareWorld::of(&["a", "b"], 10);
        let mine = world.plan("a", &[], 5).take;
        let other = (0..10).map(|n| format!("agent-{n}")).find(|name| !mine.contains(name)).unwrap();
        assert!(world.plan("a", &[&other], 5).take.contains(&other));
    }

    #[test]
    fn what_a_person_wants_somewhere_goes_there_and_stays_while_that_doorman_takes_agents() {
        let mut world = ShareWorld::of(&["a", "b"], 10);
        world.settle();
        let moved: Vec<String> = world
            .holders
            .iter()
            .filter(|(name, holder)| *name != "notify" && *holder == "a")
            .map(|(name, _)| name.clone())
            .collect();
        let name = moved[0].clone();
        world.wanted.insert(name.clone(), world.members[1].name.clone());
        assert_eq!(world.plan("a", &[], 0).give, std::slice::from_ref(&name), "at once, though nothing else moves");
        world.settle();
        assert_eq!(world.holders[&name], "b");
        assert_eq!((world.held("a") + world.held("b"), world.settle()), (10, 0));
        // It takes nothing now: others have it, and it goes back later.
        world.members[1].state = MemberState::Draining;
        world.settle();
        assert_eq!(world.holders[&name], "a");
        world.members[1].state = MemberState::Up;
        world.settle();
        assert_eq!(world.holders[&name], "b");
        // Nobody gets what it does not name, nor more than it may have.
        world.wanted.insert("notify".to_owned(), world.members[0].name.clone());
        world.wanted.insert(moved[1].clone(), "nobody".to_owned());
        assert_eq!(world.settle(), 0);
        world.wanted = moved.iter().map(|name| (name.clone(), world.members[1].name.clone())).collect();
        world.settle();
        assert!(moved.iter().all(|name| world.holders[name] == "b"), "{:?}", world.holders);
        assert_eq!((world.held("a"), world.held("b")), (5, 5), "others went the other way");
        world.members[1].agents_max = 1;
        world.holders.retain(|_, holder| holder != "b");
        world.settle();
        assert_eq!((world.held("a"), world.held("b")), (9, 1), "it takes no more than it may");
    }
}
