//! Whether this doorman is believed to live, and which others are dead. Pure: time and rows are arguments.
//!
//! Nobody's clock is compared with anybody's. A member that does not beat for its `ttl` on the clock of one that watched it all the
//! time is dead. It stopped answering before: its own count began before the beat, and ends a little earlier.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Mono;
use crate::ledger::members::{Member, MemberState};

/// Others wait this long for the next start of a doorman that was stopped, if its `ttl` is not shorter.
const RESTART: Duration = Duration::from_secs(10);
/// Looks that may be missing before all watching begins again.
const LOOKS_MISSED_MAX: u32 = 3;

/// How far the others can be believed to believe in this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustPhase {
    /// They do.
    Trusted,
    /// They may have declared it dead: it decides and sends nothing new.
    Lapsed,
    /// For so long that its agents are let go of, so that their connections are not in the way of others.
    LetGo,
}

/// A member, and since when it has not beaten, as far as this one saw.
#[derive(Debug, Clone, Copy)]
struct Watched {
    beat: i64,
    state: MemberState,
    since: Mono,
}

/// See the module.
#[derive(Debug)]
pub struct FleetCore {
    ttl: Duration,
    let_go_after: Duration,
    trusted_until: Mono,
    watched: HashMap<String, Watched>,
    looked_at: Option<Mono>,
    /// The members that take agents, and since when they are the same.
    up: Vec<String>,
    steady_since: Mono,
}

impl FleetCore {
    /// A member that nobody believes in yet.
    pub fn new(ttl: Duration, let_go_after: Duration) -> Self {
        Self {
            ttl,
            let_go_after,
            trusted_until: Mono::ZERO,
            watched: HashMap::new(),
            looked_at: None,
            up: Vec::new(),
            steady_since: Mono::ZERO,
        }
    }

    /// Between two beats.
    pub fn between_beats(&self) -> Duration {
        self.ttl / 5
    }

    /// Between two looks at the others.
    pub fn between_looks(&self) -> Duration {
        self.ttl * 2 / 15
    }

    /// Before a beat or a look that failed is tried again.
    pub fn again_after(&self) -> Duration {
        self.ttl / 15
    }

    /// A lease that nobody has is left to whom it should belong for this long.
    pub fn grace(&self) -> Duration {
        self.ttl / 3
    }

    /// The members must have been the same for this long before an agent moves from one that lives to another.
    pub fn settled_after(&self) -> Duration {
        self.ttl * 4
    }

    /// A beat was written. It counts from the moment at which it was begun: the others cannot have seen it earlier.
    pub fn beaten(&mut self, begun: Mono) {
        // Two seconds of fifteen: clocks that run a little faster, and a look before each call.
        self.trusted_until = self.trusted_until.max(begun + (self.ttl - self.between_looks()));
    }

    /// The others declared this member dead. What it was watching belongs to a life that is over.
    pub fn died(&mut self) {
        self.trusted_until = Mono::ZERO;
        self.watched.clear();
        self.looked_at = None;
    }

    /// Until when the others believe in this member.
    pub fn trusted_until(&self) -> Mono {
        self.trusted_until
    }

    /// When its agents are let go of, if no beat is written until then.
    pub fn lets_go_at(&self) -> Mono {
        self.trusted_until + self.let_go_after
    }

    /// See [`TrustPhase`].
    pub fn phase(&self, now: Mono) -> TrustPhase {
        if now < self.trusted_until {
            TrustPhase::Trusted
        } else if now < self.lets_go_at() {
            TrustPhase::Lapsed
        } else {
            TrustPhase::LetGo
        }
    }

    /// All members that are not dead, read just before `now`. Returns those that are dead from now on, each with the beat at which it
    /// stood still.
    pub fn looked(&mut self, members: &[Member], me: &str, now: Mono) -> Vec<(String, i64)> {
        let missed = |at: Mono| now.since(at) > self.between_looks() * LOOKS_MISSED_MAX;
        if self.looked_at.is_none_or(missed) {
            // This one was stopped, or the database was away: nobody could beat, and nobody is dead because of it.
            self.watched.clear();
            self.steady_since = now;
        }
        self.looked_at = Some(now);
        self.watched.retain(|id, _| members.iter().any(|member| member.id == *id));
        let mut dead = Vec::new();
        for member in members.iter().filter(|member| member.id != me) {
            let new = Watched { beat: member.beat, state: member.state, since: now };
            let watched = self.watched.entry(member.id.clone()).or_insert(new);
            if (watched.beat, watched.state) != (member.beat, member.state) {
                *watched = new;
            }
            let patience = if member.state == MemberState::Left { member.ttl.min(RESTART) } else { member.ttl };
            if now.since(watched.since) >= patience {
                dead.push((member.id.clone(), member.beat));
            }
        }
        let takes = |member: &&Member| member.state == MemberState::Up && !member.away;
        let up: Vec<String> = members.iter().filter(takes).map(|member| member.id.clone()).collect();
        if up != self.up {
            self.up = up;
            self.steady_since = now;
        }
        dead
    }

    /// Whether the members have been the same for so long that agents may move.
    pub fn is_steady(&self, now: Mono) -> bool {
        now.since(self.steady_since) >= self.settled_after()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn at(ms: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(1_000_000 + ms))
    }

    pub fn member(id: &str, beat: i64, state: MemberState) -> Member {
        Member {
            id: id.to_owned(),
            instance: format!("in-{id}"),
            name: format!("host-{id}"),
            version: "0.1.0".to_owned(),
            beat,
            state,
            weight: 100,
            agents_max: 1_000,
            ttl: TTL,
            lease_set: "r".to_owned(),
            reached: 0,
            away: false,
            joined_at: Timestamp::UNIX_EPOCH,
            beat_age: Duration::ZERO,
            held: 0,
        }
    }

    fn core() -> FleetCore {
        FleetCore::new(TTL, Duration::from_secs(30))
    }

    #[test]
    fn trust_counts_from_before_the_beat_and_ends_before_the_others_give_up() {
        let mut core = core();
        assert_eq!(core.phase(at(0)), TrustPhase::LetGo);
        core.beaten(at(0));
        assert_eq!(core.phase(at(12_999)), TrustPhase::Trusted);
        assert_eq!(core.phase(at(13_000)), TrustPhase::Lapsed);
        assert_eq!(core.phase(at(42_999)), TrustPhase::Lapsed);
        assert_eq!(core.phase(at(43_000)), TrustPhase::LetGo);
        // A beat that was begun earlier, and is heard of later, takes nothing back.
        core.beaten(at(9_000));
        core.beaten(at(5_000));
        assert_eq!(core.trusted_until(), at(22_000));
        core.died();
        assert_eq!(core.phase(at(9_001)), TrustPhase::LetGo);
    }

    /// Looks every two seconds, from one moment to another; who was found dead at the last.
    fn look(core: &mut FleetCore, from: u64, to: u64, members: impl Fn(u64) -> Vec<Member>) -> Vec<(String, i64)> {
        let mut dead = Vec::new();
        for ms in (from..=to).step_by(2_000) {
            dead = core.looked(&members(ms), "me", at(ms));
        }
        dead
    }

    #[test]
    fn who_stands_still_for_a_whole_ttl_is_dead_and_who_beats_is_not() {
        let mut core = core();
        let members = |ms: u64| {
            vec![
                member("me", 0, MemberState::Up),
                member("a", 7, MemberState::Up),
                member("b", (ms / 3_000).cast_signed(), MemberState::Up),
            ]
        };
        assert_eq!(look(&mut core, 0, 14_000, members), []);
        assert_eq!(look(&mut core, 16_000, 16_000, members), [("a".to_owned(), 7)]);
        // One that came late is watched from then on.
        let mut core = self::core();
        assert_eq!(
            look(&mut core, 0, 20_000, |ms| if ms < 8_000 { vec![] } else { vec![member("a", 1, MemberState::Up)] }),
            []
        );
    }

    #[test]
    fn another_ttl_is_that_of_the_member_which_it_protects() {
        let slow = |_| vec![Member { ttl: Duration::from_secs(60), ..member("a", 1, MemberState::Up) }];
        assert_eq!(look(&mut core(), 0, 58_000, slow), []);
        assert_eq!(look(&mut core(), 0, 60_000, slow).len(), 1);
    }

    #[test]
    fn after_a_gap_all_watching_begins_again() {
        let mut core = core();
        let still = |_| vec![member("a", 1, MemberState::Up)];
        look(&mut core, 0, 14_000, still);
        // Four rounds are missing: nobody could see whether it beat.
        assert_eq!(look(&mut core, 22_000, 36_000, still), []);
        assert_eq!(look(&mut core, 38_000, 38_000, still).len(), 1);
        // Three are not a gap.
        let mut core = self::core();
        look(&mut core, 0, 10_000, still);
        assert_eq!(look(&mut core, 16_000, 16_000, still).len(), 1);
    }

    #[test]
    fn who_was_stopped_has_a_moment_to_come_back() {
        let left = |_| vec![member("a", 1, MemberState::Left)];
        assert_eq!(look(&mut core(), 0, 8_000, left), []);
        assert_eq!(look(&mut core(), 0, 10_000, left).len(), 1);
        // It counts from when it left.
        let stopped = |ms| vec![member("a", 1, if ms < 8_000 { MemberState::Up } else { MemberState::Left })];
        assert_eq!(look(&mut core(), 0, 16_000, stopped), []);
    }

    #[test]
    fn agents_move_only_while_the_members_stay_the_same() {
        let mut core = core();
        let two = |_| vec![member("me", 1, MemberState::Up), member("a", 1, MemberState::Up)];
        look(&mut core, 0, 58_000, two);
        assert!(!core.is_steady(at(59_000)));
        look(&mut core, 60_000, 60_000, two);
        assert!(core.is_steady(at(60_000)));
        look(&mut core, 62_000, 62_000, |_| {
            vec![member("me", 1, MemberState::Up), member("a", 1, MemberState::Draining)]
        });
        assert!(!core.is_steady(at(62_000)));
    }
}
