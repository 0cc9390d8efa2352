//! How the rest of the daemon speaks to an agent's task.

use tokio::sync::{mpsc, oneshot};

use crate::agent::core::{OpOutcome, PersonCommand};
use crate::model::{Person, PersonTarget, RequestId};
use crate::ops::control::wire::{AgentStatus, DoubtRow, PendingRow};

/// The commands for an agent's task.
#[derive(Debug)]
pub enum AgentCommand {
    /// Read the key again.
    RenewKey,
    /// A person gives a command.
    Op {
        /// What.
        op: PersonCommand,
        /// Who.
        person: Person,
        /// What came of it.
        reply: oneshot::Sender<OpOutcome>,
    },
    /// Returns its current state.
    Status(oneshot::Sender<AgentStatus>),
    /// Returns its pending requests.
    Pending(oneshot::Sender<Vec<PendingRow>>),
    /// Returns its doubts.
    Doubts(oneshot::Sender<Vec<DoubtRow>>),
    /// Returns the requests that this id or handle means.
    Find {
        /// What the person wrote.
        target: PersonTarget,
        /// The ids.
        reply: oneshot::Sender<Vec<RequestId>>,
    },
    /// Returns the requests of the guests that this handle means.
    FindGuests {
        /// What the person wrote.
        target: PersonTarget,
        /// The ids.
        reply: oneshot::Sender<Vec<RequestId>>,
    },
    /// Panics, to prove that a panic is contained.
    #[cfg(any(test, debug_assertions))]
    Panic,
}

/// Sends commands to one agent's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    // Boxed: the channel keeps room for 32 of them.
    commands: mpsc::Sender<Box<AgentCommand>>,
}

impl AgentHandle {
    pub(super) fn new(commands: mpsc::Sender<Box<AgentCommand>>) -> Self {
        Self { commands }
    }

    /// Sends a command; `false` if the task has ended.
    pub async fn tell(&self, command: AgentCommand) -> bool {
        self.commands.send(Box::new(command)).await.is_ok()
    }

    /// Sends a command and waits for the reply; `None` if the task has ended.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> AgentCommand) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        if !self.tell(command(sender)).await {
            return None;
        }
        receiver.await.ok()
    }
}
