//! Several doormen on one PostgreSQL database: which of them answers for which agent.
//!
//! What makes this safe is not here: a lease's row is the first statement of each transaction (`ledger::postgres`), so whoever lost
//! it puts nothing on record, and nothing leaves that is not on record. Here it is decided who takes which lease, when a silent doorman
//! counts as dead, and when this one must believe that it may count as dead itself. There is no leader, no clock is compared with
//! another, and the doormen do not speak to each other.
//!
//! `core`, `share` and `stands` are pure; the simulation runs them. `keeper` is the thread that beats, looks, and says which agents are ours.

pub mod core;
pub mod holders;
mod instance_lock;
mod keeper;
mod reach;
mod share;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Mono};
use crate::ledger::members::{LeaseCounts, RosterMark};
use crate::ledger::{Ledger, MESSAGES};
use crate::model::AgentId;
use crate::ops::board::FleetBoard;

pub use instance_lock::InstanceLock;
pub use reach::PlatformReach;

/// Who answers for an agent, as far as this doorman knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentHolder {
    /// This doorman: it takes the lease if it does not have it yet.
    Ours,
    /// This doorman, until it has finished what it began; then others.
    Give,
    /// Another doorman, by its name.
    Theirs(Arc<str>),
    /// Nobody, or it is not known who; and why.
    Nobody(&'static str),
}

/// Nothing was looked at yet.
const NOT_YET: &str = "it is not known yet which doorman has it";

/// Whether the other doormen can be believed to believe that this one lives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeaseTrust {
    clock: Clock,
    /// Microseconds on the clock.
    until: Arc<AtomicU64>,
    trusted: Arc<watch::Sender<bool>>,
}

impl LeaseTrust {
    fn new(clock: Clock, for_ever: bool) -> Self {
        let until = if for_ever { u64::MAX } else { 0 };
        Self { clock, until: Arc::new(AtomicU64::new(until)), trusted: Arc::new(watch::Sender::new(for_ever)) }
    }

    /// Whether it is so at this moment.
    pub fn is_trusted(&self) -> bool {
        let now = self.clock.now().mono.since_origin().as_micros();
        now < u128::from(self.until.load(Ordering::Acquire))
    }

    /// Tells when that changes.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.trusted.subscribe()
    }

    fn set(&self, until: Mono) {
        let until = u64::try_from(until.since_origin().as_micros()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Release);
    }

    fn say(&self, held: bool) {
        self.trusted.send_if_modified(|before| std::mem::replace(before, held) != held);
    }
}

/// What the keeper's thread and the rest of the daemon share.
#[derive(Debug)]
struct FleetShared {
    trust: LeaseTrust,
    /// By name of the lease.
    stands: RwLock<HashMap<String, watch::Sender<AgentHolder>>>,
    /// Agents that have the platform.
    reached: AtomicU64,
    platform: PlatformReach,
    /// Changes with the roster; `None`: it was not looked at yet.
    roster: watch::Sender<Option<RosterMark>>,
    board: ArcSwapOption<FleetBoard>,
}

impl FleetShared {
    fn new(trust: LeaseTrust, clock: &Clock, stands: HashMap<String, watch::Sender<AgentHolder>>) -> Self {
        Self {
            trust,
            stands: RwLock::new(stands),
            reached: AtomicU64::new(0),
            platform: PlatformReach::new(clock.clone()),
            roster: watch::Sender::new(None),
            board: ArcSwapOption::empty(),
        }
    }

    fn stands(&self) -> RwLockReadGuard<'_, HashMap<String, watch::Sender<AgentHolder>>> {
        // A poisoned lock is fine: each entry is whole at any moment.
        self.stands.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This doorman among the others. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    shared: Arc<FleetShared>,
    orders: Option<mpsc::Sender<keeper::KeeperOrder>>,
    /// If nothing is shared with anybody.
    alone: Arc<watch::Sender<AgentHolder>>,
}

/// What the settings say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetTiming {
    /// How long a doorman counts as alive after its last beat.
    pub ttl: Duration,
    /// How long agents keep their connections after that.
    pub let_go_after: Duration,
    /// How long the platform must not answer until agents go to a doorman that it does answer.
    pub give_when_away: Duration,
}

impl Fleet {
    /// The leases that a doorman with these agents may hold.
    pub fn names<'a>(agents: impl Iterator<Item = &'a AgentId>, messages: bool) -> Arc<[String]> {
        agents.map(|agent| agent.as_str().to_owned()).chain(messages.then(|| MESSAGES.to_owned())).collect()
    }

    /// Begins to beat and to look, if the ledger is in a database; `place` is where this process joined from.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(
        ledger: &Ledger,
        place: Option<InstanceLock>,
        ways: FleetTiming,
        (name, names): (&str, &[String]),
        clock: &Clock,
        counts: &Arc<LeaseCounts>,
    ) -> std::io::Result<Self> {
        let alone = Arc::new(watch::Sender::new(AgentHolder::Ours));
        let (Some(members), Some(place)) = (ledger.members(), place) else {
            let shared = FleetShared::new(LeaseTrust::new(clock.clone(), true), clock, HashMap::new());
            return Ok(Self { shared: Arc::new(shared), orders: None, alone });
        };
        let nobody = |name: &String| (name.clone(), watch::Sender::new(AgentHolder::Nobody(NOT_YET)));
        let stands = names.iter().map(nobody).collect();
        let shared = Arc::new(FleetShared::new(LeaseTrust::new(clock.clone(), false), clock, stands));
        let (orders, ordered) = mpsc::channel();
        let keeper =
            keeper::Keeper::new(members, place, ways, name.to_owned(), clock.clone(), shared.clone(), counts.clone());
        std::thread::Builder::new().name("fleet".to_owned()).spawn(move || keeper.run(&ordered))?;
        Ok(Self { shared, orders: Some(orders), alone })
    }

    /// Who has the lease of this name, now and later.
    pub fn stand_of(&self, name: &str) -> watch::Receiver<AgentHolder> {
        self.shared.stands().get(name).unwrap_or(&self.alone).subscribe()
    }

    /// From now on this doorman may hold these leases, and no others. Who has a new one is known after the next look.
    pub fn set_names(&self, names: &Arc<[String]>) {
        let Some(orders) = &self.orders else { return };
        {
            let mut holders = self.shared.stands.write().unwrap_or_else(PoisonError::into_inner);
            let wanted: HashSet<&String> = names.iter().collect();
            holders.retain(|name, _| wanted.contains(name));
            for name in names.iter() {
                holders.entry(name.clone()).or_insert_with(|| watch::Sender::new(AgentHolder::Nobody(NOT_YET)));
            }
        }
        // If the thread has ended, so does the process.
        let _ = orders.send(keeper::KeeperOrder::Names(names.clone()));
    }

    /// Whether the record is shared with others.
    pub fn is_shared(&self) -> bool {
        self.orders.is_some()
    }

    /// See [`LeaseTrust`].
    pub fn trust(&self) -> LeaseTrust {
        self.shared.trust.clone()
    }

    /// See [`PlatformReach`].
    pub fn platform(&self) -> PlatformReach {
        self.shared.platform.clone()
    }

    /// Changes with the roster; `None` until it was looked at.
    pub fn roster(&self) -> watch::Receiver<Option<RosterMark>> {
        self.shared.roster.subscribe()
    }

    /// How many agents have the platform.
    pub fn reached(&self, agents: u64) {
        self.shared.reached.store(agents, Ordering::Relaxed);
    }

    /// For people and metrics; `None` if nothing is shared.
    pub fn board(&self) -> Option<Arc<FleetBoard>> {
        self.shared.board.load_full()
    }

    /// This process ends; its agents stay in its name for the next start. Waits until that is on record, if it can be.
    pub async fn leave(&self, ledger: &Ledger) {
        let Some(orders) = &self.orders else { return };
        let (reply, left) = oneshot::channel();
        if orders.send(keeper::KeeperOrder::Leave(reply)).is_ok() && left.await == Ok(true) {
            ledger.keep_leases();
        }
    }
}
