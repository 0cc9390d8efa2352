//! Publishes snapshots of the agent for the board: at once when its state changed, else at most once a second.

use std::time::Duration;

use tokio::time::Instant;

use super::status;
use crate::agent::core::Core;
use crate::model::AgentState;
use crate::ops::board::AgentSlot;

/// The time between two snapshots of one state.
const RHYTHM: Duration = Duration::from_secs(1);

/// When the next picture is due.
#[derive(Debug)]
pub(super) struct SnapshotPublisher {
    slot: AgentSlot,
    /// The last snapshot: when it was made, and in which state.
    last: Option<(Instant, AgentState)>,
    /// Something may have changed since the last snapshot: the next one is due then.
    due: Option<Instant>,
}

impl SnapshotPublisher {
    pub(super) fn new(slot: AgentSlot) -> Self {
        Self { slot, last: None, due: None }
    }

    /// When the task has to turn again for the sake of a picture.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Called after each turn: publishes a snapshot, or notes when one is due.
    pub(super) fn after_turn(&mut self, core: &Core, now: Instant) {
        let state = core.state();
        match self.last {
            Some((at, of)) if of == state && now < at + RHYTHM => self.due = Some(at + RHYTHM),
            Some(_) | None => {
                self.slot.put(status::board(core.status(), core.pending_first(self.slot.rows())));
                self.last = Some((now, state));
                self.due = None;
            }
        }
    }
}
