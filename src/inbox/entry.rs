//! One pending request: its data and its stage.

use std::sync::Arc;

use jiff::Timestamp;

use super::{AnswerState, GivenAnswer, Mark, Subject};
use crate::clock::Mono;
use crate::model::{ContactRequest, RequestId, Sender};
use crate::policy::Decision;

/// The stage of a request. It has exactly one at any time.
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
        /// It waits for the end of the pass that listed it.
        held_back: bool,
    },
    /// Its answer is being recorded or sent.
    InFlight,
    /// Its answer was sent with unknown outcome, which ended at this mark; only a later listing helps.
    Unknown {
        /// Passes that began after this may settle it.
        ended: Mark,
    },
}

/// Where a request waits to be decided. While its answer is in flight, or its outcome unknown, it is in no queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecisionQueue {
    /// `again`: rules deferred it before, and are asked again.
    Ready {
        again: bool,
    },
    Resting {
        reconsider_at: Option<Timestamp>,
    },
    Delayed {
        until: Mono,
        held_back: bool,
    },
    Out,
}

/// The earlier request with this id, as far as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierRequest {
    /// The same request; it had counted as settled.
    Same,
    /// A request of another sender, or another time.
    Another,
}

/// The order of the queue: oldest first, to the microsecond, then in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePosition {
    since_us: i64,
    mark: Mark,
}

/// One request. A flood brings tens of thousands, so rarely used parts are boxed.
#[derive(Debug)]
pub struct Entry {
    pub(super) request: Arc<ContactRequest>,
    first_seen: Timestamp,
    pub(super) position: QueuePosition,
    pub(super) queue: DecisionQueue,
    pub(super) answer: AnswerState,
    received: Option<Mono>,
    decision: Option<Box<Decision>>,
    /// `request` is what the platform said at this mark.
    learned: Mark,
    /// Whose it was before it changed, until a person knew of it.
    was: Option<Box<Sender>>,
    /// The earlier request with this id.
    pub(super) before: Option<EarlierRequest>,
    /// Only its id is known: from the ledger, before a listing showed it.
    pub(super) from_memory: bool,
    /// The total weight of the passes in a row that should have shown it but did not.
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
            position: QueuePosition { since_us: since.as_microsecond(), mark },
            queue: DecisionQueue::Out,
            answer,
            received,
            decision: None,
            learned: mark,
            was: None,
            before: None,
            from_memory: false,
            missed: 0,
            shown_in: 0,
        }
    }

    /// Takes over what the platform says about the request: a page, with the mark at which its pass began, or an event,
    /// which shows the request as it was when it came. A newer page overrides what is known; any other source only adds
    /// what was unknown. Returns the previous version if it differs.
    pub(super) fn learn(&mut self, request: ContactRequest, page: Option<Mark>) -> Option<Arc<ContactRequest>> {
        if std::mem::take(&mut self.from_memory) {
            let before = std::mem::replace(&mut self.request, Arc::new(request));
            self.learned = page.unwrap_or(self.learned);
            self.was_of(&before.sender);
            return (before.sender != Sender::Absent && before.sender != self.request.sender).then_some(before);
        }
        let known = &self.request;
        let differs = known.sender != request.sender || known.name != request.name || known.message != request.message;
        let newer = page.is_some_and(|mark| mark > self.learned);
        let fills = known.sender == Sender::Absent && request.sender != Sender::Absent;
        if newer {
            self.learned = page.unwrap_or(self.learned);
        }
        if !differs || !(newer || fills) {
            return None;
        }
        let inserted_at = request.inserted_at.or(known.inserted_at);
        let before = std::mem::replace(&mut self.request, Arc::new(ContactRequest { inserted_at, ..request }));
        self.was_of(&before.sender);
        Some(before)
    }

    /// It was shown with this sender before. A person who has seen that is asked again, if the sender is another one now.
    pub(crate) fn was_of(&mut self, sender: &Sender) {
        if *sender != self.request.sender && *sender != Sender::Absent && self.was.is_none() {
            self.was = Some(Box::new(sender.clone()));
        }
    }

    /// Whose it was before it changed, until a person knew of it.
    pub(crate) fn take_was(&mut self) -> Option<Sender> {
        self.was.take().map(|was| *was)
    }

    /// The request as it is known.
    pub fn request(&self) -> &Arc<ContactRequest> {
        &self.request
    }

    /// The earlier request with this id, as far as it is remembered.
    pub fn before(&self) -> Option<EarlierRequest> {
        self.before
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
    pub(crate) fn first_seen_at(&mut self, at: Timestamp) {
        self.first_seen = at;
    }

    /// Whether the last answer is a person's answer to the request as it is known now. A person's answer to a request
    /// that had ended and is listed again does not count: rules, revokes and removals may have come since.
    pub(crate) fn said_by_person(&self) -> bool {
        self.answer.said().is_some_and(GivenAnswer::by_person) && self.is_as_answered() && !self.answer.is_over()
    }

    /// Whether it may be the very request that its earlier answer was for.
    pub(crate) fn is_as_answered(&self) -> bool {
        self.answer.subject().is_none_or(|subject| subject.may_be(Subject::of(&self.request)))
    }

    /// When its frame arrived, for the latency in the log; `None` if it was listed.
    pub fn received(&self) -> Option<Mono> {
        self.received
    }

    /// Sets when its frame arrived.
    pub fn received_at(&mut self, received: Option<Mono>) {
        self.received = received;
    }

    /// The last decision.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_deref()
    }

    /// Sets the last decision.
    pub fn decided(&mut self, decision: Decision) {
        self.decision = Some(Box::new(decision));
    }

    /// The order of the queue.
    pub fn position(&self) -> QueuePosition {
        self.position
    }

    /// When it came in, in the order of events.
    pub fn mark(&self) -> Mark {
        self.position.mark
    }

    /// Its stage.
    pub fn stage(&self) -> Stage {
        match (self.queue, self.answer.unknown_since()) {
            (_, Some(ended)) => Stage::Unknown { ended },
            (DecisionQueue::Ready { .. }, None) => Stage::Ready,
            (DecisionQueue::Resting { reconsider_at }, None) => Stage::Resting { reconsider_at },
            (DecisionQueue::Delayed { until, held_back }, None) => Stage::Delayed { until, held_back },
            (DecisionQueue::Out, None) => Stage::InFlight,
        }
    }

    /// The word for the stage in `pending`.
    pub(crate) fn stage_word(&self) -> &'static str {
        match self.stage() {
            Stage::Ready | Stage::Delayed { held_back: true, .. } => "waiting",
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

/// A hundred thousand of them are 15 MB.
const _: () = assert!(size_of::<Entry>() <= 152);
