//! How the rest of the daemon speaks to an agent's task.

use tokio::sync::{mpsc, oneshot};

use crate::agent::core::{OpOutcome, PersonCommand};
use crate::model::{Person, RequestId, Target};
use crate::ops::control::wire::{AgentStatus, DoubtRow, PendingRow};

/// What an agent's task can be told.
#[derive(Debug)]
pub enum Command {
    /// Read the key again.
    RenewKey,
    /// A person asks for something.
    Op {
        /// What.
        op: PersonCommand,
        /// Who.
        person: Person,
        /// What came of it.
        reply: oneshot::Sender<OpOutcome>,
    },
    /// How does it stand?
    Status(oneshot::Sender<AgentStatus>),
    /// What is pending?
    Pending(oneshot::Sender<Vec<PendingRow>>),
    /// What may have happened unseen?
    Doubts(oneshot::Sender<Vec<DoubtRow>>),
    /// Which requests does this id or handle mean?
    Find {
        /// What the person wrote.
        target: Target,
        /// The ids.
        reply: oneshot::Sender<Vec<RequestId>>,
    },
    /// Which guests' requests does this handle mean?
    FindGuests {
        /// What the person wrote.
        target: Target,
        /// The ids.
        reply: oneshot::Sender<Vec<RequestId>>,
    },
    /// Panics, to prove that a panic is contained.
    #[cfg(any(test, debug_assertions))]
    Panic,
}

/// Speaks to one agent's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    commands: mpsc::Sender<Command>,
}

impl AgentHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Tells it something; `false` where its task has ended.
    pub async fn tell(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Asks it something; `None` where its task has ended.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        if !self.tell(command(sender)).await {
            return None;
        }
        receiver.await.ok()
    }
}
