//! Tells people: that a request waits for them, and that something is wrong. One task for each target of `[[notify]]`.
//!
//! It reads the board and the ledger and never asks an agent, so it delays no answer. The ledger is the outbox
//! (`ledger::deliveries`): for each target it stores how far the target has been notified, and the one message that is
//! being delivered. A target that is slow, full or gone delays only its own next message; what happens in the meantime
//! waits in the ledger and becomes one message.

mod conditions;
mod message;
mod pacing;
mod render;
mod task;
mod ways;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::settings::NotifyTarget;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::ops::board::BoardReader;
use crate::ops::control::wire::{NotifyState, NotifyStatus};
use crate::ops::metrics::Metrics;
use crate::page::Replies;
use crate::secret::Redact;

pub use message::Message;

/// What all targets share.
#[derive(Debug, Clone)]
pub struct NotifyContext {
    /// Both clocks.
    pub clock: Clock,
    /// The outbox.
    pub ledger: Ledger,
    /// The source of what is wrong, and of whether anybody waits.
    pub board: BoardReader,
    /// Receives every secret that is read, so that the log never shows one.
    pub redact: Redact,
    /// Counts the results of deliveries.
    pub metrics: Metrics,
    /// Makes links for answers.
    pub replies: Replies,
    /// The doormen that share the record: one of them sends all messages.
    pub fleet: Fleet,
}

/// All targets, as the rest of the daemon sees them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    targets: Arc<[NotifyTargetHandle]>,
    /// Each task holds it for reading while it makes and delivers a message; who gives the lease of messages, for writing.
    delivering: Arc<RwLock<()>>,
}

/// One target, from outside.
#[derive(Debug)]
struct NotifyTargetHandle {
    settings: Arc<NotifyTarget>,
    status: Arc<ArcSwap<NotifyStatus>>,
    /// Requests an immediate delivery.
    again: mpsc::Sender<()>,
    around: NotifyContext,
}

/// Why a target could not be tested or retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No target has that name.
    #[error("no target `{0}` is configured: `doorman notify list` shows those that are")]
    Unknown(String),
    /// The target did not accept the message.
    #[error("`{target}` did not take the message: {why}")]
    Undelivered {
        /// The target's name.
        target: String,
        /// The reason.
        why: String,
    },
}

/// Checks whether a target can be reached, without sending it a message. Returns what was found.
///
/// # Errors
/// The reason, for people and without a secret.
pub async fn reach(target: &NotifyTarget, redact: &Redact) -> Result<&'static str, String> {
    ways::reach(target, redact).await.map_err(|undelivered| undelivered.why)
}

impl Targets {
    /// Starts a task for each target. The tasks end with `stop`; a message that is not delivered then is delivered
    /// after the next start.
    pub fn start(
        settings: &[NotifyTarget],
        around: &NotifyContext,
        seed: u64,
        stop: &CancellationToken,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let mut rings = Vec::with_capacity(settings.len());
        let targets: Arc<[NotifyTargetHandle]> = settings
            .iter()
            .map(|settings| {
                let (again, ring) = mpsc::channel(1);
                rings.push(ring);
                let status = Arc::new(ArcSwap::from_pointee(NotifyStatus::new(&settings.name, settings.way.word())));
                NotifyTargetHandle { settings: Arc::new(settings.clone()), status, again, around: around.clone() }
            })
            .collect();
        let all = Self { targets, delivering: Arc::default() };
        let tasks = rings.into_iter().enumerate().map(|(index, ring)| {
            let target = &all.targets[index];
            let task = task::Task::new(
                target.settings.clone(),
                target.around.clone(),
                target.status.clone(),
                all.clone(),
                ring,
                seed.wrapping_add(index as u64),
                index == 0,
            );
            tokio::spawn(task.run(stop.clone()))
        });
        let tasks = tasks.collect();
        (all, tasks)
    }

    /// The state of each target, in the order of the configuration.
    pub fn status(&self) -> Vec<NotifyStatus> {
        self.targets.iter().map(|target| target.status.load().as_ref().clone()).collect()
    }

    /// The other targets to which nothing could be delivered for a day or which are gone, each with the reason.
    fn failed_beside(&self, name: &str) -> Vec<(String, String)> {
        let beside = self.targets.iter().filter(|target| target.settings.name != name);
        beside
            .filter_map(|target| {
                let status = target.status.load();
                let failed = matches!(status.state, NotifyState::GaveUp | NotifyState::Stopped);
                failed.then(|| (status.name.clone(), status.why.clone().unwrap_or_default()))
            })
            .collect()
    }

    /// Sends a message that says it is a test, now, past the outbox and the pace. Takes at most some 15 s.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn test(&self, name: &str) -> Result<(), TargetError> {
        let target = self.find(name)?;
        let message = Message::test(target.around.clock.now().wall);
        let id = task::new_id();
        ways::deliver(&target.settings, &id, &message, &target.around)
            .await
            .map_err(|undelivered| TargetError::Undelivered { target: name.to_owned(), why: undelivered.why })
    }

    /// Tries at once to deliver the target's current message; also restarts a target that was stopped.
    ///
    /// # Errors
    /// [`TargetError::Unknown`].
    pub fn retry(&self, name: &str) -> Result<(), TargetError> {
        // If a request waits already, one is enough.
        let _ = self.find(name)?.again.try_send(());
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&NotifyTargetHandle, TargetError> {
        let found = self.targets.iter().find(|target| target.settings.name == name);
        found.ok_or_else(|| TargetError::Unknown(name.to_owned()))
    }
}
