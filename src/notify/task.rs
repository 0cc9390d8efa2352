//! The loop of one target: makes the next message from what is new, records it, and tries to deliver it until it
//! arrives.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::conditions::{self, ConditionChanges, ConditionDebounce};
use super::message::{Message, RequestLine};
use super::pacing::{GIVE_UP_AFTER, Pacing, WAIT_LONGEST, wait_after};
use super::ways::{self, Undelivered};
use super::{NotifyContext, Targets};
use crate::config::settings::{NotifyEvent, NotifyTarget};
use crate::fleet::AgentHolder;
use crate::ledger::deliveries::{DeliveryEnd, DeliveryMark, OpenMessage, WaitingRequests, WantedRequests};
use crate::ledger::{LedgerError, MESSAGES, Record};
use crate::model::{AgentId, RequestId};
use crate::ops::board::{Board, DaemonPhase};
use crate::ops::control::wire::{NotifyState, NotifyStatus};
use crate::ops::log::events;

/// Pause between attempts to read the ledger at the start.
const LOAD_AGAIN: Duration = Duration::from_secs(5);
/// How long the delivery of a message waits for the ledger.
const RECORD_MAX: Duration = Duration::from_secs(2);
/// The task looks at least this often whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An id for a message: the same for each try.
pub(super) fn new_id() -> String {
    format!("dm_{}", uuid::Uuid::new_v4().simple())
}

/// One target's task.
pub(super) struct Task {
    settings: Arc<NotifyTarget>,
    around: NotifyContext,
    status: Arc<ArcSwap<NotifyStatus>>,
    all: Targets,
    ring: mpsc::Receiver<()>,
    random: fastrand::Rng,
    pacing: Pacing,
    settling: ConditionDebounce,
    mark: DeliveryMark,
    open: Option<MessageInDelivery>,
    /// The newest rows of the ledger at the last check of who waits. As long as they are the newest, nobody new waits.
    looked: Option<(i64, i64)>,
    /// The other end said that it does not exist any more.
    stopped: bool,
    /// Which doorman sends messages.
    stand: watch::Receiver<AgentHolder>,
    /// Whether this task gives the lease of all messages back.
    first: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnRecord {
    /// It is on record, or will be.
    Yes,
    /// It is not.
    No,
    /// Another doorman sends the messages.
    Theirs,
}

/// The message that is being delivered.
struct MessageInDelivery {
    id: String,
    message: Message,
    attempts: u32,
    next_at: Timestamp,
    /// `false` if the ledger could not be written: the message is delivered all the same, but a restart forgets it.
    on_record: bool,
}

impl Task {
    pub(super) fn new(
        settings: Arc<NotifyTarget>,
        around: NotifyContext,
        status: Arc<ArcSwap<NotifyStatus>>,
        all: Targets,
        ring: mpsc::Receiver<()>,
        seed: u64,
        first: bool,
    ) -> Self {
        let pacing = Pacing::new(settings.every, settings.max_per_hour);
        let stand = around.fleet.stand_of(MESSAGES);
        Self {
            settings,
            around,
            status,
            all,
            ring,
            random: fastrand::Rng::with_seed(seed),
            pacing,
            settling: ConditionDebounce::default(),
            mark: DeliveryMark::default(),
            open: None,
            looked: None,
            stopped: false,
            stand,
            first,
        }
    }

    /// Runs until `stop`. A delivery that is cut off then is repeated after the next start.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let whole = async {
            loop {
                self.is_ours().await;
                if !self.load().await {
                    continue;
                }
                if self.send().await.is_none() {
                    return;
                }
            }
        };
        tokio::select! {
            () = whole => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits until this doorman sends the messages.
    async fn is_ours(&mut self) {
        loop {
            let stand = self.stand.borrow_and_update().clone();
            if stand == AgentHolder::Ours {
                return;
            }
            // Another doorman delivers what is under way, and shows how it went.
            (self.open, self.looked) = (None, None);
            self.show_open();
            let gives = self.first && stand == AgentHolder::Give;
            if gives {
                // The next one would deliver again what another target's task delivers now.
                let _nobody_delivers = self.all.delivering.write().await;
                if *self.stand.borrow() == AgentHolder::Give
                    && let Err(error) = self.around.ledger.give(MESSAGES).await
                {
                    debug!(%error, "the lease of messages stays here");
                }
            }
            tokio::select! {
                changed = self.stand.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = sleep(LOOK_EVERY), if gives => {}
            }
        }
    }

    /// Sends messages while this doorman is the one; `None` once no message can be sent any more. If it is to give the lease, it
    /// finishes what it began; if the lease is lost, it stops at once.
    async fn send(&mut self) -> Option<()> {
        let (mut stand, delivering) = (self.stand.clone(), self.all.delivering.clone());
        let sending = async {
            loop {
                let guard = delivering.read().await;
                if *self.stand.borrow_and_update() != AgentHolder::Ours {
                    return Some(());
                }
                self.turn().await;
                drop(guard);
                let mut board = self.around.board.clone();
                board.mark_unchanged();
                tokio::select! {
                    ring = self.ring.recv() => match ring {
                        Some(()) => self.again(),
                        None => return None,
                    },
                    changed = board.changed() => if changed.is_err() { return None },
                    Ok(()) = self.stand.changed() => {}
                    () = sleep(LOOK_EVERY) => {}
                }
            }
        };
        tokio::select! {
            ended = sending => ended,
            _ = stand.wait_for(|stand| !matches!(stand, AgentHolder::Ours | AgentHolder::Give)) => Some(()),
        }
    }

    /// Loads what the ledger knows of this target; waits as long as the ledger cannot be read. `false` if another doorman is faster.
    async fn load(&mut self) -> bool {
        let delivery = loop {
            match self.around.ledger.delivery(&self.settings.name).await {
                Ok(delivery) => break delivery,
                Err(LedgerError::Closed) => return true,
                Err(LedgerError::Fenced { .. }) => {
                    sleep(LOOK_EVERY).await;
                    return false;
                }
                Err(why) => debug!(notify = self.settings.name, %why, "what is on record of a target cannot be read"),
            }
            sleep(LOAD_AGAIN).await;
        };
        self.mark = delivery.mark;
        let tried = delivery.open.as_ref().filter(|open| open.attempts > 0).map(|open| open.why.clone());
        if let Some(open) = delivery.open {
            self.open = match open_again(&open) {
                Some(open) => Some(open),
                None => {
                    // Another version of doorman wrote this message. It ends here: a second message cannot be delivered
                    // beside it.
                    let (attempts, at) = (open.attempts, self.around.clock.now().wall);
                    let why = Some("this doorman cannot read the message that another one wrote".to_owned());
                    let (id, end) = (open.id.as_str().into(), Some(DeliveryEnd::GaveUp));
                    self.record(Record::Tried { id, attempts, end, next_at: at, why, at }).await;
                    None
                }
            };
        }
        self.show(|status| {
            status.delivered_at = delivery.delivered_at;
            if let Some((end, at, why)) = delivery.failed {
                // `stopped` was the reply to the last daemon; this one tries again.
                (status.state, status.failed_at, status.why) = (NotifyState::GaveUp, Some(at), Some(why));
                debug!(notify = status.name, end = end.as_str(), "the last message did not arrive");
            }
            if let Some(why) = tried {
                (status.state, status.why) = (NotifyState::Retrying, why);
            }
        });
        self.show_open();
        true
    }

    async fn turn(&mut self) {
        let now = self.around.clock.now();
        if let Some(open) = &self.open {
            // If the clock was ahead when the wait began, the wait must not last for years.
            let left = Duration::try_from(open.next_at.duration_since(now.wall)).unwrap_or_default();
            if left.is_zero() || left > WAIT_LONGEST {
                self.deliver().await;
            }
            return;
        }
        if self.stopped || !self.pacing.may_make(now.mono) {
            return;
        }
        let board = self.around.board.borrow().clone();
        if board.phase != DaemonPhase::Running {
            return;
        }
        let failed = self.all.failed_beside(&self.settings.name);
        let holding = conditions::hold_now(&board, &self.settings, &failed, now);
        let news = self.settling.news(&holding, &self.mark.conditions, now.mono);
        let waiting = self.who_waits(&board).await;
        let nobody_new = waiting.as_ref().is_none_or(|waiting| waiting.new.is_empty());
        if nobody_new && news.is_empty() {
            return;
        }
        self.make(&waiting, &news, board.ledger_blocked.is_none()).await;
    }

    /// Who waits for a person; `None` if certainly nobody new does, or if that cannot be read now.
    async fn who_waits(&mut self, board: &Board) -> Option<WaitingRequests> {
        let hears = |event| self.settings.events.contains(&event);
        let wanted = WantedRequests { deferred: hears(NotifyEvent::Deferred), overdue: hears(NotifyEvent::Overdue) };
        let agents = &self.settings.agents;
        let concerned =
            |agent: &&Arc<crate::ops::board::AgentBoard>| agents.is_empty() || agents.contains(&agent.status.id);
        // The board knows only of this doorman's agents.
        let anybody = self.around.fleet.is_shared()
            || board.agents.iter().filter(concerned).any(|agent| agent.status.deferred > 0);
        if !anybody || !(wanted.deferred || wanted.overdue) {
            return None;
        }
        let since = self.mark.clone();
        let waiting = self.around.ledger.waiting(agents.clone(), since, wanted, self.looked).await.ok()??;
        self.looked = Some((waiting.decision, waiting.overdue));
        Some(waiting)
    }

    /// Makes a message of this, and records it.
    async fn make(&mut self, waiting: &Option<WaitingRequests>, news: &ConditionChanges, may_record: bool) {
        let now = self.around.clock.now();
        let mut mark = self.mark.clone();
        if let Some(waiting) = waiting {
            (mark.decision, mark.overdue) = (waiting.decision, waiting.overdue);
        }
        mark.conditions.retain(|key| !news.ended.contains(key));
        mark.conditions.extend(news.begun.iter().map(conditions::AlertState::key));
        let nobody = WaitingRequests::default();
        let waiting = waiting.as_ref().unwrap_or(&nobody);
        let message = Message::new(now.wall, waiting, news, self.settings.text, &self.around.redact);
        let id = new_id();
        let record = Record::Message {
            target: self.settings.name.as_str().into(),
            id: id.as_str().into(),
            body: message.to_json(),
            mark: mark.clone(),
            at: now.wall,
        };
        let on_record = match if may_record { self.record(record).await } else { OnRecord::No } {
            // The other one tells of it.
            OnRecord::Theirs => return,
            on_record => on_record == OnRecord::Yes,
        };
        self.mark = mark;
        self.pacing.made(now.mono);
        self.open = Some(MessageInDelivery { id, message, attempts: 0, next_at: now.wall, on_record });
        self.deliver().await;
    }

    async fn deliver(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.attempts = open.attempts.saturating_add(1);
        let (message, links) = with_links(&open.message, &self.settings.name, &self.around).await;
        let result = ways::deliver(&self.settings, &open.id, &message, &self.around).await;
        // The other end may repeat a part of the message, so links are removed before it is logged.
        let result = result.map_err(|undelivered| Undelivered { why: without(undelivered.why, &links), ..undelivered });
        let now = self.around.clock.now().wall;
        let (name, attempt) = (&self.settings.name, open.attempts);
        let age = now.duration_since(open.message.at);
        let old = age >= SignedDuration::try_from(GIVE_UP_AFTER).unwrap_or(SignedDuration::MAX);
        let (end, why) = match result {
            Ok(()) => {
                info!(
                    event = events::MESSAGE_SENT,
                    notify = name,
                    delivery = open.id,
                    attempt,
                    "a message was delivered"
                );
                (Some(DeliveryEnd::Delivered), None)
            }
            Err(Undelivered { why, gone: true, .. }) => {
                error!(
                    event = events::MESSAGE_GAVE_UP,
                    notify = name,
                    delivery = open.id,
                    attempt,
                    why,
                    "a target does not exist any more; it gets nothing until a restart or `doorman notify retry`"
                );
                (Some(DeliveryEnd::Stopped), Some(why))
            }
            Err(Undelivered { why, .. }) if old => {
                error!(
                    event = events::MESSAGE_GAVE_UP,
                    notify = name,
                    delivery = open.id,
                    attempt,
                    why,
                    "a message did not arrive for a day and is given up"
                );
                (Some(DeliveryEnd::GaveUp), Some(why))
            }
            Err(Undelivered { why, after, .. }) => {
                let wait = wait_after(attempt, after, self.random.f64());
                let in_ms = wait.as_secs_f64() * 1e3;
                warn!(
                    event = events::MESSAGE_FAILED,
                    notify = name,
                    delivery = open.id,
                    attempt,
                    in_ms,
                    why,
                    "a message did not arrive; it is tried again"
                );
                open.next_at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
                (None, Some(why))
            }
        };
        self.around.metrics.notified(name, end.map_or("failed", DeliveryEnd::as_str));
        let tried = Record::Tried {
            id: open.id.as_str().into(),
            attempts: attempt,
            end,
            next_at: open.next_at,
            why: why.clone(),
            at: now,
        };
        let on_record = open.on_record;
        self.stopped = end == Some(DeliveryEnd::Stopped);
        if end.is_some() {
            self.open = None;
        }
        self.show(|status| {
            (status.state, status.why) = match end {
                Some(DeliveryEnd::Delivered) => (NotifyState::Ok, None),
                Some(DeliveryEnd::GaveUp) => (NotifyState::GaveUp, why),
                Some(DeliveryEnd::Stopped) => (NotifyState::Stopped, why),
                None => (NotifyState::Retrying, why),
            };
            match end {
                Some(DeliveryEnd::Delivered) => (status.delivered_at, status.failed_at) = (Some(now), None),
                Some(DeliveryEnd::GaveUp | DeliveryEnd::Stopped) | None => status.failed_at = Some(now),
            }
        });
        self.show_open();
        if on_record {
            self.record(tried).await;
        }
    }

    /// Records this. Returns whether it is recorded, or will be: writes that cannot be made now are made later in their
    /// order. A blocked ledger must not prevent the message about the blocked ledger.
    async fn record(&self, record: Record) -> OnRecord {
        match timeout(RECORD_MAX, self.around.ledger.commit(vec![record])).await {
            Ok(Ok(())) | Err(_) => OnRecord::Yes,
            Ok(Err(LedgerError::Fenced { .. })) => OnRecord::Theirs,
            Ok(Err(why)) => {
                warn!(event = events::MESSAGE_FAILED, notify = self.settings.name, %why, "a message is not on record; after a restart it may be delivered again");
                OnRecord::No
            }
        }
    }

    /// A person wants a delivery now.
    fn again(&mut self) {
        if std::mem::take(&mut self.stopped) {
            // Its last message is lost, and the next one is tried, as after a restart.
            self.show(|status| status.state = NotifyState::GaveUp);
        }
        if let Some(open) = &mut self.open {
            open.next_at = self.around.clock.now().wall;
        }
    }

    fn show(&self, change: impl FnOnce(&mut NotifyStatus)) {
        let mut status = self.status.load().as_ref().clone();
        change(&mut status);
        self.status.store(Arc::new(status));
    }

    fn show_open(&self) {
        self.show(|status| {
            status.attempts = self.open.as_ref().map_or(0, |open| open.attempts);
            status.next_try_at = self.open.as_ref().map(|open| open.next_at);
        });
    }
}

/// The message with a link for each request, if the target has such, and these links.
async fn with_links(message: &Message, target: &str, around: &NotifyContext) -> (Message, Vec<String>) {
    let mut message = message.clone();
    let named = |line: &RequestLine| Some((AgentId::parse(&line.agent).ok()?, RequestId::parse(&line.request).ok()?));
    let requests: Option<Vec<_>> = message.requests.iter().map(named).collect();
    let links = around.replies.offer(target, &requests.unwrap_or_default()).await;
    for (line, link) in message.requests.iter_mut().zip(&links) {
        line.reply = Some(link.clone());
    }
    (message, links)
}

fn without(text: String, links: &[String]) -> String {
    let secrets = links.iter().filter_map(|link| link.rsplit('/').next());
    secrets.fold(text, |text, secret| text.replace(secret, "***"))
}

/// The message that was not delivered when the last daemon ended, if this version can read it.
fn open_again(open: &OpenMessage) -> Option<MessageInDelivery> {
    let message: Message = serde_json::from_str(&open.body).ok()?;
    Some(MessageInDelivery {
        id: open.id.clone(),
        message,
        attempts: open.attempts,
        next_at: open.next_at,
        on_record: true,
    })
}
