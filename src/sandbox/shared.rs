//! What every task of a sandbox shares: the store, the connections, the faults and the journal, under one lock that is
//! never held across an await.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SandboxOptions;
use super::fault::{Fault, FaultAction, FaultPlace, Faults};
use super::hub::{ConnectionOrder, GHOST, Hub};
use super::store::{PartyIndex, PushedEvent, Store, micros};
use super::wire::{Connect, ConnectionEnd, SeenJoin, SeenListing};
use super::world::World;
use crate::clock::{Clock, Now};

/// Most entries of each kind that the journal keeps.
const JOURNAL_MAX: usize = 100_000;
const LATENCIES_MAX: usize = 1_000_000;

/// The events so far; when there are too many, the oldest entries are removed.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) connects: VecDeque<Connect>,
    pub(super) ends: VecDeque<ConnectionEnd>,
    pub(super) joins: VecDeque<SeenJoin>,
    pub(super) lists: VecDeque<SeenListing>,
}

/// Adds to one of the journal's lists.
pub(super) fn note<T>(list: &mut VecDeque<T>, entry: T) {
    if list.len() == JOURNAL_MAX {
        list.pop_front();
    }
    list.push_back(entry);
}

/// The state under the lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) hub: Hub,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) latencies: VecDeque<u64>,
}

impl Inner {
    /// Passes events on to the connections.
    pub(super) fn tell(&mut self, pushed: &mut Vec<PushedEvent>) {
        for pushed in pushed.drain(..) {
            self.hub.tell(pushed);
        }
    }

    /// A request was answered: records the time from its push to `read`.
    pub(super) fn answered(&mut self, index: usize, read: Now) {
        if let Some(latency) = self.store.since_push(index, read.mono) {
            if self.latencies.len() == LATENCIES_MAX {
                self.latencies.pop_front();
            }
            self.latencies.push_back(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct SandboxShared {
    pub(super) clock: Clock,
    pub(super) options: SandboxOptions,
    inner: Mutex<Inner>,
    /// Whether any fault may wait, so that the common way costs no lock.
    armed: AtomicBool,
    counter: AtomicU64,
}

impl SandboxShared {
    pub(super) fn new(world: &World, options: SandboxOptions) -> Self {
        let inner = Inner {
            store: Store::new(world, uuid::Uuid::new_v4().as_u128()),
            hub: Hub::default(),
            faults: Faults::default(),
            journal: Journal::default(),
            latencies: VecDeque::new(),
        };
        Self {
            clock: Clock::start(),
            options,
            inner: Mutex::new(inner),
            armed: AtomicBool::new(false),
            counter: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn us(&self) -> u64 {
        micros(self.clock.now().mono)
    }

    /// A new number.
    pub(super) fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn arm(&self, inner: &Inner) {
        self.armed.store(!inner.faults.is_empty(), Ordering::Release);
    }

    /// The fault for this point, if one waits.
    pub(super) fn strike(&self, point: FaultPlace, agent: Option<PartyIndex>, event: &str) -> Option<Fault> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.lock();
        let Inner { store, faults, .. } = &mut *inner;
        let who = agent.map_or(["", ""], |agent| {
            let party = &store.parties[agent];
            [party.id.as_str(), party.handle.as_str()]
        });
        let fault = faults.take(point, who, event);
        self.arm(&inner);
        fault
    }

    /// Carries out what a fault does to an agent's socket; false if it does nothing to it.
    pub(super) fn strike_socket(&self, fault: &Fault, agent: PartyIndex) -> bool {
        let mut inner = self.lock();
        match fault.what {
            FaultAction::Close => {
                inner.hub.order(agent, close(fault));
            }
            FaultAction::Supersede => {
                inner.hub.order(agent, ConnectionOrder::Supersede);
            }
            FaultAction::CrashChannel => inner.hub.crash(agent),
            FaultAction::Ghost => {
                let for_ms = fault.wait(u64::try_from(GHOST.as_millis()).unwrap_or(60_000));
                inner.hub.make_ghost(agent, self.clock.now().mono + for_ms);
            }
            _ => return false,
        }
        true
    }

    /// Whether a balancer in front refuses this call.
    pub(super) fn throttled(&self, agent: Option<PartyIndex>) -> bool {
        if !self.armed.load(Ordering::Acquire) {
            return false;
        }
        let mut inner = self.lock();
        let Inner { store, faults, .. } = &mut *inner;
        let who = agent.map_or(["", ""], |agent| {
            let party = &store.parties[agent];
            [party.id.as_str(), party.handle.as_str()]
        });
        faults.throttled(who, self.clock.now().mono)
    }

    /// Sleeps for the milliseconds of the fault, or for this default.
    pub(super) async fn pause(fault: &Fault, default: u64) {
        tokio::time::sleep(fault.wait(default)).await;
    }
}

/// How long a stall lasts, by default.
pub(super) const STALL: Duration = Duration::from_secs(3600);

/// What a `close` fault orders.
pub(super) fn close(fault: &Fault) -> ConnectionOrder {
    let code = fault.code.unwrap_or(1000);
    match &fault.reason {
        Some(reason) => ConnectionOrder::CloseFor(code, reason.clone()),
        None => ConnectionOrder::Close(code, "fault"),
    }
}
