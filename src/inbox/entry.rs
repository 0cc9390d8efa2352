//! One request at the door: what it is, and which stage it is in.

use std::sync::Arc;

use jiff::Timestamp;

use super::Mark;
use crate::clock::Mono;
use crate::model::{Answer, ContactRequest, RequestId, RequestStatus};
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

/// An answer that must be this one if any is given: an earlier attempt may have been carried out, or a person said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// The answer.
    pub answer: Answer,
    /// Its `by`, as text.
    pub by: Arc<str>,
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
    /// As first seen.
    pub request: Arc<ContactRequest>,
    /// When doorman first saw it.
    pub first_seen: Timestamp,
    /// Its place in the queue.
    pub place: QueuePosition,
    /// Where it stands.
    pub(super) stage: Stage,
    /// When its frame came, for the latency that the log shows; `None` when it was listed.
    pub received: Option<Mono>,
    /// The last decision.
    pub decision: Option<Box<Decision>>,
    /// The one answer it may get.
    pub forced: Option<Box<Forced>>,
    /// An intent on record whose answer certainly never reached anybody; it is withdrawn if something else is decided.
    pub intended: Option<Answer>,
    /// Tries of the current answer.
    pub attempts: u32,
    /// Whether an earlier attempt may have been carried out.
    pub unknown_before: bool,
    /// The answer that the platform called malformed; the same is not sent again.
    pub malformed: Option<Answer>,
    /// The platform refused an answer to this request (403); it is sent again after a while.
    pub forbidden: bool,
    /// What the platform said of it while our answer was on its way.
    pub updated: Option<Box<RequestStatus>>,
    /// Only its id is known: from the ledger, before a listing showed it.
    pub from_memory: bool,
    /// What the passes in succession that should have shown it, and did not, weigh.
    pub(super) missed: u8,
    /// The last pass that showed it; 0 is none.
    pub(super) shown_in: u64,
}

impl Entry {
    pub(super) fn new(request: Arc<ContactRequest>, first_seen: Timestamp, mark: Mark, received: Option<Mono>) -> Self {
        let since = request.inserted_at.map_or(first_seen, |at| at.min(first_seen));
        Self {
            request,
            first_seen,
            place: QueuePosition { since_us: since.as_microsecond(), mark },
            stage: Stage::InFlight,
            received,
            decision: None,
            forced: None,
            intended: None,
            attempts: 0,
            unknown_before: false,
            malformed: None,
            forbidden: false,
            updated: None,
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

    /// Its id.
    pub fn id(&self) -> &RequestId {
        &self.request.id
    }

    /// When it came in, in the order of events.
    pub fn mark(&self) -> Mark {
        self.place.mark
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The word for `pending`.
    pub fn stage_word(&self) -> &'static str {
        match self.stage {
            Stage::Ready | Stage::Delayed { held: true, .. } => "waiting",
            Stage::Resting { .. } if self.decision.is_none() && !self.forbidden => "waiting",
            Stage::Resting { .. } if self.malformed.is_some() || self.forbidden => "refused",
            Stage::Resting { .. } if self.decision.as_ref().is_some_and(|decision| decision.due.is_some()) => "waiting",
            Stage::Resting { .. } => "deferred",
            Stage::Delayed { .. } if self.forbidden => "refused",
            Stage::Delayed { .. } => "retrying",
            Stage::InFlight => "in-flight",
            Stage::Unknown { .. } => "unknown",
        }
    }
}

/// A hundred thousand of them are 14 MB.
const _: () = assert!(size_of::<Entry>() <= 136);

/// The answer that a request must get if it gets one at all.
impl From<(Answer, String)> for Forced {
    fn from((answer, by): (Answer, String)) -> Self {
        Forced { answer, by: by.into() }
    }
}
