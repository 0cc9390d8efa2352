//! The keeper of a doorman's process: it beats, looks at the other members, and shares the agents, as `fleet::keeper` does, with the same
//! pure parts.

use std::collections::HashMap;
use std::time::Duration;

use doorman::clock::Mono;
use doorman::fleet::AgentHolder;
use doorman::fleet::core::TrustPhase;
use doorman::fleet::holders::FleetSnapshot;
use doorman::ledger::members::{BeatOutcome, MemberState};

use super::evening::{Evening, Step};
use super::process::LEASE_SET;

/// The longest that the keeper waits.
const TURN_MAX: Duration = Duration::from_secs(1);

impl Evening {
    /// The keeper's thread goes on.
    pub fn keep(&mut self, doorman: usize) {
        let now = self.now(doorman).mono;
        let process = &mut self.doormen[doorman];
        if process.busy {
            return;
        }
        if now >= process.beat_at {
            process.beat_at = now + process.core.between_beats();
            process.busy = true;
            let wait = self.soon(5_000);
            return self.steps_in(doorman, wait, Step::Beat(now));
        }
        if now >= process.look_at && process.core.phase(now) == TrustPhase::Trusted {
            if let Some(wait) = self.database_fails(doorman) {
                self.look_failed(doorman, wait);
            } else {
                let members = self.database.rows.look();
                let process = &mut self.doormen[doorman];
                let dead = process.core.looked(&members, &process.me, now);
                process.looked = (members, now);
                if !dead.is_empty() {
                    process.busy = true;
                    let wait = self.soon(50_000);
                    return self.steps_in(doorman, wait, Step::Declare(dead));
                }
                self.looked(doorman);
            }
        }
        self.judge(doorman);
        let now = self.now(doorman).mono;
        let process = &self.doormen[doorman];
        let mut wait = process.beat_at.since(now).min(TURN_MAX);
        if process.phase == TrustPhase::Trusted {
            wait = wait.min(process.look_at.since(now));
        }
        for at in [process.core.trusted_until(), process.core.lets_go_at()].into_iter().filter(|at| *at > now) {
            wait = wait.min(at.since(now));
        }
        let at = process.when(now + wait);
        self.steps_in(doorman, at.saturating_sub(self.at), Step::Keep);
    }

    pub fn beats(&mut self, doorman: usize, begun: Mono) {
        let (wait, beat) = match self.database_fails(doorman) {
            Some(wait) => (wait, Err(())),
            None => {
                let unheard = self.database_fails(doorman).is_some();
                let beat = if self.doormen[doorman].lost {
                    // If nobody hears of it, there is a member that never beats.
                    let me = self.joins(doorman, None);
                    let process = &mut self.doormen[doorman];
                    if !unheard {
                        (process.me, process.lost) = (me, false);
                    }
                    BeatOutcome::Done(MemberState::Up)
                } else {
                    let me = self.doormen[doorman].me.clone();
                    let beat = self.database.rows.beat(&me);
                    if matches!(beat, BeatOutcome::Done(_)) {
                        self.truth_beats(&me, doorman);
                    }
                    beat
                };
                (self.soon(20_000), if unheard { Err(()) } else { Ok(beat) })
            }
        };
        self.steps_in(doorman, wait, Step::Beaten(begun, beat));
    }

    pub fn beaten(&mut self, doorman: usize, begun: Mono, beat: Result<BeatOutcome, ()>) {
        let now = self.now(doorman).mono;
        let process = &mut self.doormen[doorman];
        process.busy = false;
        match beat {
            Ok(BeatOutcome::Done(_)) => {
                if process.core.phase(begun) != TrustPhase::Trusted {
                    process.look_at = begun;
                }
                process.core.beaten(begun);
            }
            Ok(BeatOutcome::Dead { .. }) => {
                process.lost = true;
                process.core.died();
                process.stands.died();
                process.beat_at = begun;
                self.saw("a doorman found out that it counts as dead");
                self.all_are_nobodys(doorman);
            }
            Err(()) => process.beat_at = now + process.core.again_after(),
        }
        self.keep(doorman);
    }

    fn look_failed(&mut self, doorman: usize, wait: Duration) {
        let at = self.now(doorman).mono + wait;
        let process = &mut self.doormen[doorman];
        process.look_at = at + process.core.again_after();
    }

    pub fn declares(&mut self, doorman: usize, dead: Vec<(String, i64)>) {
        self.doormen[doorman].busy = false;
        if let Some(wait) = self.database_fails(doorman) {
            self.look_failed(doorman, wait);
            return self.keep(doorman);
        }
        let me = self.doormen[doorman].me.clone();
        let mut changed = false;
        for (victim, beat) in dead {
            if self.database.rows.declare_dead(&me, &victim, beat) {
                self.saw("a doorman declared dead");
                self.truth_declared_dead(&victim);
                changed = true;
            }
        }
        if changed {
            self.doormen[doorman].looked.0 = self.database.rows.look();
        }
        self.looked(doorman);
        self.keep(doorman);
    }

    /// All was looked at: whose is what?
    fn looked(&mut self, doorman: usize) {
        let names: Vec<String> = self.agents.clone();
        let lease_sets = HashMap::from([(LEASE_SET.to_owned(), names.iter().cloned().collect())]);
        let moves = self.database.rows.moves();
        let held = self.database.rows.held();
        let process = &mut self.doormen[doorman];
        if process.moves != Some(moves) {
            (process.moves, process.leases) = (Some(moves), held);
        }
        let (members, now) = std::mem::take(&mut process.looked);
        let looked =
            FleetSnapshot { members: &members, leases: &process.leases, lease_sets: &lease_sets, me: &process.me, now };
        let stands = process.stands.look(&looked, &process.core, names.iter().map(String::as_str));
        let ended = self.now(doorman).mono;
        let process = &mut self.doormen[doorman];
        process.look_at = ended + process.core.between_looks();
        for (name, stand) in stands {
            let agent = self.agents.iter().position(|agent| *agent == name).unwrap();
            self.stands(doorman, agent, stand);
        }
    }

    fn all_are_nobodys(&mut self, doorman: usize) {
        for agent in 0..self.agents.len() {
            self.stands(doorman, agent, AgentHolder::Nobody("nobody knows"));
        }
    }

    /// Whether it may still decide and send.
    fn judge(&mut self, doorman: usize) {
        let now = self.now(doorman).mono;
        let process = &mut self.doormen[doorman];
        let phase = process.core.phase(now);
        if phase == process.phase {
            return;
        }
        if phase == TrustPhase::LetGo {
            process.look_at = now;
        }
        let said = phase == TrustPhase::Trusted;
        let changed = process.trusted != said;
        (process.phase, process.trusted) = (phase, said);
        if phase == TrustPhase::LetGo {
            self.all_are_nobodys(doorman);
        }
        if changed {
            if !said {
                self.saw("a doorman that nobody confirms");
            }
            self.healths(doorman);
        }
    }
}
