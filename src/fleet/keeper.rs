//! The thread that beats, looks at the others, and says which agents are ours. It waits for no agent and for no runtime.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::core::{FleetCore, TrustPhase};
use super::holders::{AgentHolders, FleetSnapshot};
use super::share::is_away;
use super::{AgentHolder, FleetShared, FleetTiming, InstanceLock};
use crate::clock::{Clock, Mono};
use crate::ledger::members::{BeatOutcome, LeaseCounts, LeaseHolder, Member, MemberState};
use crate::ledger::{LedgerError, MESSAGES, Membership};
use crate::ops::board::FleetBoard;
use crate::ops::log::events;

/// The board shows the present at least this often.
const TURN_MAX: Duration = Duration::from_secs(1);

const LOST: &str = "the other doormen took this one for dead, and it joins them again";
const AWAY: &str = "the database has been away for too long, so that others could have it by now";

/// What the thread is asked to do.
#[derive(Debug)]
pub enum KeeperOrder {
    /// These are the leases that this doorman may hold.
    Names(Arc<[String]>),
    /// The process ends. The reply says whether that is on record.
    Leave(oneshot::Sender<bool>),
}

/// See the module.
pub struct Keeper {
    members: Membership,
    place: InstanceLock,
    core: FleetCore,
    clock: Clock,
    shared: Arc<FleetShared>,
    counts: Arc<LeaseCounts>,
    beat_at: Mono,
    look_at: Mono,
    /// The others said that this life is over, and the next one is not on record yet.
    lost: bool,
    phase: TrustPhase,
    phase_since: Mono,
    board: FleetBoard,
    give_when_away: Duration,
    /// This doorman takes no agents, since the platform does not answer it.
    away: bool,
    /// Changes with the leases.
    moves: Option<(u64, i64, i64)>,
    leases: Vec<LeaseHolder>,
    lease_sets: HashMap<String, HashSet<String>>,
    stands: AgentHolders,
    /// The leases that this doorman may hold, until that is on record.
    names: Option<Arc<[String]>>,
}

impl Keeper {
    pub fn new(
        members: Membership,
        place: InstanceLock,
        ways: FleetTiming,
        name: String,
        clock: Clock,
        shared: Arc<FleetShared>,
        counts: Arc<LeaseCounts>,
    ) -> Self {
        let now = clock.now();
        let board = FleetBoard {
            name,
            trusted: false,
            since: now.wall,
            held: 0,
            members: 0,
            taken: 0,
            fenced: 0,
            beat_seconds: 0.0,
        };
        Self {
            members,
            place,
            core: FleetCore::new(ways.ttl, ways.let_go_after),
            clock,
            shared,
            counts,
            beat_at: now.mono,
            look_at: now.mono,
            lost: false,
            phase: TrustPhase::LetGo,
            phase_since: now.mono,
            board,
            give_when_away: ways.give_when_away,
            away: false,
            moves: None,
            leases: Vec::new(),
            lease_sets: HashMap::new(),
            stands: AgentHolders::default(),
            names: None,
        }
    }

    fn now(&self) -> Mono {
        self.clock.now().mono
    }

    /// Until it is asked to leave, or nobody is left who could ask.
    pub fn run(mut self, orders: &mpsc::Receiver<KeeperOrder>) {
        loop {
            if self.now() >= self.beat_at {
                self.beat();
            }
            if self.now() >= self.look_at && self.core.phase(self.now()) == TrustPhase::Trusted {
                self.look();
            }
            self.judge();
            let now = self.now();
            let mut wait = self.beat_at.since(now).min(TURN_MAX);
            if self.phase == TrustPhase::Trusted {
                wait = wait.min(self.look_at.since(now));
            }
            for at in [self.core.trusted_until(), self.core.lets_go_at()].into_iter().filter(|at| *at > now) {
                wait = wait.min(at.since(now));
            }
            match orders.recv_timeout(wait) {
                Ok(KeeperOrder::Leave(reply)) => {
                    let left = self.members.leave();
                    if let Err(error) = &left {
                        debug!(%error, "the others will notice that this doorman has ended");
                    }
                    let _ = reply.send(left.is_ok());
                    return;
                }
                Ok(KeeperOrder::Names(names)) => (self.names, self.look_at) = (Some(names), self.now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn beat(&mut self) {
        let begun = self.now();
        self.beat_at = begun + self.core.between_beats();
        let beaten =
            if self.lost { self.join_again() } else { self.members.beat(self.shared.reached.load(Ordering::Relaxed)) };
        self.board.beat_seconds = self.now().since(begun).as_secs_f64();
        match beaten {
            Ok(BeatOutcome::Done(_)) => {
                if self.core.phase(begun) != TrustPhase::Trusted {
                    // Whatever was decided of the leases was decided before.
                    self.look_at = begun;
                }
                self.core.beaten(begun);
                self.shared.trust.set(self.core.trusted_until());
            }
            Ok(BeatOutcome::Dead { by }) => {
                warn!(
                    event = events::MEMBER_LOST,
                    by = by.as_deref().unwrap_or("somebody"),
                    "the other doormen take this one for dead: it lets go of its agents, and joins them again"
                );
                self.lost = true;
                self.core.died();
                self.shared.trust.set(self.core.trusted_until());
                self.stands.died();
                self.all_are(LOST);
                self.beat_at = begun;
            }
            Err(error) => {
                debug!(%error, "no beat");
                self.beat_at = self.now() + self.core.again_after();
            }
        }
    }

    fn join_again(&mut self) -> Result<BeatOutcome, LedgerError> {
        let life = self.place.new_life();
        self.members.join_again(life)?;
        self.lost = false;
        Ok(BeatOutcome::Done(MemberState::Up))
    }

    /// Nobody's, until the next look.
    fn all_are(&self, why: &'static str) {
        for stand in self.shared.stands().values() {
            say(stand, AgentHolder::Nobody(why));
        }
    }

    fn look(&mut self) {
        match self.look_now() {
            Ok(()) => self.look_at = self.now() + self.core.between_looks(),
            Err(error) => {
                debug!(%error, "the other doormen cannot be looked at");
                self.look_at = self.now() + self.core.again_after();
            }
        }
    }

    fn look_now(&mut self) -> Result<(), LedgerError> {
        if let Some(names) = &self.names {
            self.members.take_names(names)?;
            self.names = None;
        }
        let mut members = self.members.look()?;
        let now = self.now();
        let me = self.members.me();
        let mut changed = false;
        for (id, beat) in self.core.looked(&members, &me, now) {
            if self.members.declare_dead(&id, beat)? {
                let of = members.iter().find(|member| member.id == id);
                let member = of.map_or("", |member| member.name.as_str());
                warn!(
                    event = events::MEMBER_DEAD,
                    member, "a doorman does not beat any more: the others take its agents"
                );
                changed = true;
            }
        }
        if changed {
            members = self.members.look()?;
        }
        let moves = self.members.moves()?;
        if self.moves != Some(moves) {
            self.leases = self.members.leases()?;
            self.moves = Some(moves);
        }
        self.judge_platform(&mut members, &me)?;
        self.lease_sets.retain(|hash, _| members.iter().any(|member| member.lease_set == *hash));
        for member in &members {
            if !self.lease_sets.contains_key(&member.lease_set) {
                let names = self.members.lease_set(&member.lease_set)?;
                self.lease_sets.insert(member.lease_set.clone(), names.into_iter().collect());
            }
        }
        self.share(&members, &me, now);
        let roster = self.members.roster_mark()?;
        self.shared.roster.send_if_modified(|before| before.replace(roster) != Some(roster));
        Ok(())
    }

    /// Decides whether this doorman takes agents, as far as the platform is concerned, and says so on its row.
    fn judge_platform(&mut self, members: &mut [Member], me: &str) -> Result<(), LedgerError> {
        let failing_for = self.shared.platform.failing_for();
        let away = is_away(self.away, members, me, self.board.held, failing_for, self.give_when_away);
        let Some(mine) = members.iter_mut().find(|member| member.id == me) else { return Ok(()) };
        if mine.away != away {
            self.members.set_away(away)?;
            mine.away = away;
        }
        if self.away != away {
            self.away = away;
            if away {
                let for_ms = failing_for.unwrap_or_default().as_secs_f64() * 1e3;
                warn!(
                    event = events::MEMBER_AWAY,
                    for_ms,
                    "the platform does not answer this doorman, and does answer another one: its agents go there"
                );
            } else {
                info!(event = events::MEMBER_BACK, "the platform answers this doorman again: it takes agents");
            }
            self.shared.platform.away.send_replace(away);
        }
        Ok(())
    }

    /// Says of each lease whose it is.
    fn share(&mut self, members: &[Member], me: &str, now: Mono) {
        let looked = FleetSnapshot { members, leases: &self.leases, lease_sets: &self.lease_sets, me, now };
        let stands = self.shared.stands();
        let names = stands.keys().map(String::as_str);
        for (name, stand) in self.stands.look(&looked, &self.core, names) {
            say(&stands[name], stand);
        }
        drop(stands);
        let mine = |lease: &&LeaseHolder| lease.holder.as_deref() == Some(me) && lease.name != MESSAGES;
        self.board.held = self.leases.iter().filter(mine).count() as u64;
        self.board.members = members.iter().filter(|member| member.state == MemberState::Up).count() as u64;
    }

    /// Says whether this doorman may still decide and send, and shows it.
    fn judge(&mut self) {
        let now = self.clock.now();
        let phase = self.core.phase(now.mono);
        if phase != self.phase {
            match (self.phase, phase) {
                (_, TrustPhase::Trusted) if self.board.members > 0 => {
                    let for_ms = now.mono.since(self.phase_since).as_secs_f64() * 1e3;
                    info!(event = events::LEASE_BACK, for_ms, "the database confirms again that this doorman lives");
                }
                (TrustPhase::Trusted, _) if !self.lost => {
                    warn!(
                        event = events::LEASE_LAPSED,
                        "the database has not confirmed for too long that this doorman lives: it decides and sends nothing new"
                    );
                }
                _ => {}
            }
            if phase == TrustPhase::Trusted || self.phase == TrustPhase::Trusted {
                (self.phase_since, self.board.since) = (now.mono, now.wall);
            }
            if phase == TrustPhase::LetGo {
                self.all_are(if self.lost { LOST } else { AWAY });
                self.look_at = now.mono;
            }
            self.phase = phase;
            self.shared.trust.say(phase == TrustPhase::Trusted);
        }
        self.board.trusted = phase == TrustPhase::Trusted;
        self.board.taken = self.counts.taken.load(Ordering::Relaxed);
        self.board.fenced = self.counts.fenced.load(Ordering::Relaxed);
        if self.shared.board.load().as_deref() != Some(&self.board) {
            self.shared.board.store(Some(Arc::new(self.board.clone())));
        }
    }
}

fn say(to: &tokio::sync::watch::Sender<AgentHolder>, stand: AgentHolder) {
    to.send_if_modified(|before| {
        let changed = *before != stand;
        *before = stand;
        changed
    });
}
