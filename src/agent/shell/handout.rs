//! Hands out how the agent stands, for the board: at once where its state changed, else at most once a second.

use std::time::Duration;

use tokio::time::Instant;

use super::told;
use crate::agent::core::Core;
use crate::model::AgentState;
use crate::ops::board::AgentSlot;

/// Between two pictures of one state.
const RHYTHM: Duration = Duration::from_secs(1);

/// When the next picture is due.
#[derive(Debug)]
pub(super) struct Handout {
    slot: AgentSlot,
    /// The last picture: when, and of which state.
    last: Option<(Instant, AgentState)>,
    /// Something may have changed since, so that another picture is due then.
    due: Option<Instant>,
}

impl Handout {
    pub(super) fn new(slot: AgentSlot) -> Self {
        Self { slot, last: None, due: None }
    }

    /// When the task has to turn again for the sake of a picture.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The task has turned: hands out a picture, or says when one is due.
    pub(super) fn after_turn(&mut self, core: &Core, now: Instant) {
        let state = core.state();
        match self.last {
            Some((at, of)) if of == state && now < at + RHYTHM => self.due = Some(at + RHYTHM),
            Some(_) | None => {
                self.slot.put(told::board(core.status(), core.pending_first(self.slot.rows())));
                self.last = Some((now, state));
                self.due = None;
            }
        }
    }
}
