//! The connections of one service that have not ended, and which of them makes room for others. A client that sends no
//! request, or does not read its reply, does not keep others waiting; a reply that is small and quick waits for nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Limits;
use crate::ops::log::events;

/// The same trouble at one address is a warning once in this time.
const WARNED_FOR: Duration = Duration::from_secs(3_600);

/// Why a connection or a request found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Crowding {
    /// Too many connections send no request.
    Silent,
    /// Too many requests wait.
    Waiting,
    /// A client does not read its reply, and others wait.
    Unread,
    /// The system has no room for another connection.
    System,
}

impl Crowding {
    fn why(self) -> &'static str {
        match self {
            Crowding::Silent => "too many connections send no request: the oldest of them are closed",
            Crowding::Waiting => "too many requests come at once: further ones get 503",
            Crowding::Unread => "replies are not read while other requests wait: these connections are closed",
            Crowding::System => "the system cannot accept further connections, such as for want of file descriptors",
        }
    }
}

/// The connections of one service.
#[derive(Debug)]
pub(super) struct Crowd {
    address: String,
    limits: Limits,
    /// Connections whose request is not there yet.
    silent: Group,
    /// Connections whose reply is being sent.
    replying: Group,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    warned: Mutex<BTreeMap<Crowding, Instant>>,
}

/// Connections in one state, oldest first.
#[derive(Debug, Default, Clone)]
pub(super) struct Group(Arc<Mutex<GroupMembers>>);

#[derive(Debug, Default)]
struct GroupMembers {
    next: u64,
    by_age: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A connection is in a group as long as this exists.
#[derive(Debug)]
pub(super) struct GroupGuard {
    group: Group,
    number: u64,
}

impl Group {
    /// Enters a connection that can be closed by this token.
    pub(super) fn enter(&self, close: CancellationToken) -> GroupGuard {
        let mut members = self.locked();
        let number = members.next;
        members.next += 1;
        members.by_age.insert(number, (Instant::now(), close));
        GroupGuard { group: self.clone(), number }
    }

    fn len(&self) -> usize {
        self.locked().by_age.len()
    }

    fn oldest(&self) -> Option<Instant> {
        self.locked().by_age.first_key_value().map(|(_, (since, _))| *since)
    }

    /// Closes the oldest one, if it has been here since this moment or longer.
    fn close_oldest(&self, since: Instant) -> bool {
        let mut members = self.locked();
        let Some(oldest) = members.by_age.first_entry().filter(|oldest| oldest.get().0 <= since) else { return false };
        let (_, close) = oldest.remove();
        close.cancel();
        true
    }

    /// A poisoned lock is fine: the members are consistent at any moment.
    fn locked(&self) -> MutexGuard<'_, GroupMembers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        self.group.locked().by_age.remove(&self.number);
    }
}

impl Crowd {
    /// No connection yet.
    pub(super) fn new(address: String, limits: Limits) -> Self {
        let (turns, waiting) = (Arc::new(Semaphore::new(limits.served)), Semaphore::new(limits.waiting));
        let (silent, replying) = (Group::default(), Group::default());
        Self { address, limits, silent, replying, turns, waiting, warned: Mutex::default() }
    }

    /// Enters a connection that was just accepted. If too many send no request, the oldest of them is closed.
    pub(super) fn accepted(&self, close: CancellationToken) -> GroupGuard {
        if self.silent.len() >= self.limits.silent && self.silent.close_oldest(Instant::now()) {
            self.report(Crowding::Silent);
        }
        self.silent.enter(close)
    }

    /// Enters a connection whose reply is there, and now has to be read.
    pub(super) fn replying(&self, close: CancellationToken) -> GroupGuard {
        self.replying.enter(close)
    }

    /// Waits until a request may be served; `None` if too many wait already.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Some(turn);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            self.report(Crowding::Waiting);
            return None;
        };
        let mut turn = std::pin::pin!(self.turns.clone().acquire_owned());
        loop {
            let patience = self.replying.oldest().unwrap_or_else(Instant::now) + self.limits.unread;
            tokio::select! {
                biased;
                turn = &mut turn => return turn.ok(),
                () = tokio::time::sleep_until(patience) => {
                    let long_ago = Instant::now().checked_sub(self.limits.unread);
                    if long_ago.is_some_and(|since| self.replying.close_oldest(since)) {
                        self.report(Crowding::Unread);
                    }
                }
            }
        }
    }

    /// Logs the trouble: a warning once in an hour, else at debug.
    pub(super) fn report(&self, crowding: Crowding) {
        let (address, why) = (self.address.as_str(), crowding.why());
        let now = Instant::now();
        let first = {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            let first = warned.get(&crowding).is_none_or(|at| now - *at >= WARNED_FOR);
            if first {
                warned.insert(crowding, now);
            }
            first
        };
        if first {
            warn!(event = events::CONNECTIONS_CROWDED, address, why, "more connections come than are served at once");
        } else {
            debug!(event = events::CONNECTIONS_CROWDED, address, why, "more connections come than are served at once");
        }
    }
}
