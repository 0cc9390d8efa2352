//! What all writers say together: whether the ledger can be written.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::clock::Clock;
use crate::ledger::LedgerHealth;

/// What all writers say together.
pub(super) struct WriterBoard {
    pub(super) health: watch::Sender<LedgerHealth>,
    pub(super) clock: Clock,
    /// By writer: why it cannot write.
    pub(super) blocked: Mutex<Vec<Option<String>>>,
}

impl WriterBoard {
    pub(super) fn say(&self, writer: usize, why: Option<String>) {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked[writer] = why;
        let now = self.clock.now().wall;
        let first = blocked.iter().flatten().next().cloned();
        self.health.send_if_modified(|health| {
            let next = match (&first, &*health) {
                (None, _) => LedgerHealth::Ok,
                (Some(why), LedgerHealth::Blocked { since, .. }) => {
                    LedgerHealth::Blocked { why: why.clone(), since: *since }
                }
                (Some(why), LedgerHealth::Ok) => LedgerHealth::Blocked { why: why.clone(), since: now },
            };
            let changed = next != *health;
            *health = next;
            changed
        });
    }
}
