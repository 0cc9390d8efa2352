//! One request at the door: what it is, and which stage it is in.

use std::sync::Arc;

use jiff::Timestamp;

use super::{AnswerState, Mark};
use crate::clock::Mono;
use crate::model::{ContactRequest, RequestId};
use crate::policy::Decision;

/// Where a request stands. Exactly one, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits for a slot to be decided.
    Ready,
    /// Decided, with nothing to send now; decided again at `reconsider_at`, or when something changes.
    Resting {
        /// When time alone may change the decision.
        reconsider_at: Option<Timestamp>,
    },
    /// Not to be touched before `until`.
    Delayed {
        /// When it is ready again.
        until: Mono,
        /// Held because the pass that listed it still reads pages.
        held: bool,
    },
    /// Its answer is being recorded or sent.
    InFlight,
    /// Its answer was sent with unknown outcome, which ended at this mark; only a later listing helps.
    Unknown {
        /// Passes that began after this may settle it.
        ended: Mark,
    },
}

/// Where a request waits to be decided. While its answer is on its way, or its fate unknown, it waits nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Ready,
    Resting { reconsider_at: Option<Timestamp> },
    Delayed { until: Mono, held: bool },
    Out,
}

/// The order of the queue: oldest first, to the microsecond, then as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePosition {
    since_us: i64,
    mark: Mark,
}

/// One request. A flood has tens of thousands of these: what few of them have is boxed.
#[derive(Debug)]
pub struct Entry {
    pub(super) request: Arc<ContactRequest>,
    first_seen: Timestamp,
    pub(super) place: QueuePosition,
    pub(super) queue: Queue,
    pub(super) answer: AnswerState,
    received: Option<Mono>,
    decision: Option<Box<Decision>>,
    /// Only its id is known: from the ledger, before a listing showed it.
    pub(super) from_memory: bool,
    /// What the passes in succession that should have shown it, and did not, weigh.
    pub(super) missed: u8,
    /// The last pass that showed it; 0 is none.
    pub(super) shown_in: u64,
}

impl Entry {
    pub(super) fn new(
        request: Arc<ContactRequest>,
        answer: AnswerState,
        first_seen: Timestamp,
        mark: Mark,
        received: Option<Mono>,
    ) -> Self {
        let since = request.inserted_at.map_or(first_seen, |at| at.min(first_seen));
        Self {
            request,
            first_seen,
            place: QueuePosition { since_us: since.as_microsecond(), mark },
            queue: Queue::Out,
            answer,
            received,
            decision: None,
            from_memory: false,
            missed: 0,
            shown_in: 0,
        }
    }

    /// Takes what the platform says of a request of which only the id was known.
    pub(super) fn learn(&mut self, request: ContactRequest) {
        if self.from_memory {
            self.request = Arc::new(request);
            self.from_memory = false;
        }
    }

    /// What is known of it.
    pub fn request(&self) -> &Arc<ContactRequest> {
        &self.request
    }

    /// Its id.
    pub fn id(&self) -> &RequestId {
        &self.request.id
    }

    /// When doorman first saw it.
    pub fn first_seen(&self) -> Timestamp {
        self.first_seen
    }

    /// It was first seen then: the record knows better, or the clock was ahead.
    pub fn first_seen_at(&mut self, at: Timestamp) {
        self.first_seen = at;
    }

    /// When its frame came, for the latency that the log shows; `None` when it was listed.
    pub fn received(&self) -> Option<Mono> {
        self.received
    }

    /// Its frame came then.
    pub fn received_at(&mut self, received: Option<Mono>) {
        self.received = received;
    }

    /// The last decision.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_deref()
    }

    /// It was decided like this.
    pub fn decided(&mut self, decision: Decision) {
        self.decision = Some(Box::new(decision));
    }

    /// The order of the queue.
    pub fn position(&self) -> QueuePosition {
        self.place
    }

    /// When it came in, in the order of events.
    pub fn mark(&self) -> Mark {
        self.place.mark
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        match (self.queue, self.answer.unknown_since()) {
            (_, Some(ended)) => Stage::Unknown { ended },
            (Queue::Ready, None) => Stage::Ready,
            (Queue::Resting { reconsider_at }, None) => Stage::Resting { reconsider_at },
            (Queue::Delayed { until, held }, None) => Stage::Delayed { until, held },
            (Queue::Out, None) => Stage::InFlight,
        }
    }

    /// The word for `pending`.
    pub fn stage_word(&self) -> &'static str {
        match self.stage() {
            Stage::Ready | Stage::Delayed { held: true, .. } => "waiting",
            Stage::Resting { .. } if self.decision.is_none() && !self.answer.is_forbidden() => "waiting",
            Stage::Resting { .. } if self.answer.is_refused() => "refused",
            Stage::Resting { .. } if self.decision.as_ref().is_some_and(|decision| decision.due.is_some()) => "waiting",
            Stage::Resting { .. } => "deferred",
            Stage::Delayed { .. } if self.answer.is_forbidden() => "refused",
            Stage::Delayed { .. } => "retrying",
            Stage::InFlight => "in-flight",
            Stage::Unknown { .. } => "unknown",
        }
    }
}

/// A hundred thousand of them are 12 MB.
const _: () = assert!(size_of::<Entry>() <= 136);
