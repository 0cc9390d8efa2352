//! The life of an answer: nothing sent, in flight, of unknown outcome, or bound to what was sent.
//!
//! The [`AnswerState`] of a request says what was sent for it and what may be sent next. Only the methods of this
//! module change it. Each is one step of the cycle: [`Inbox::begin_answer`] when the intent goes on record, then one of
//! [`Inbox::unsent`], [`Inbox::fate_unknown`], [`Inbox::refused`] and [`Inbox::settle`](super::Inbox::settle); after an
//! unknown outcome, [`Inbox::still_pending`] or `settle`. A request that is listed again after its end begins as bound.

use jiff::SignedDuration;

use super::entry::DecisionQueue;
use super::{Entry, Inbox, Mark, Subject};
use crate::clock::Mono;
use crate::model::{Answer, Refusal, RequestId, RequestStatus};
use crate::policy::By;

/// An answer, and what gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    /// The answer.
    pub answer: Answer,
    /// What gave it.
    pub by: By,
    /// For how long an approval lets in; `None`: for good.
    pub lasts: Option<SignedDuration>,
}

impl GivenAnswer {
    /// Whether a person gave it.
    pub fn by_person(&self) -> bool {
        matches!(self.by, By::Person(_))
    }
}

/// What may be sent to a request next.
#[derive(Debug, PartialEq, Eq)]
pub enum NextAnswer<'a> {
    /// The answer of the rules.
    Rules,
    /// The answer of a person.
    Person(&'a GivenAnswer),
    /// This again or nothing: an earlier attempt may have been carried out.
    Again(&'a GivenAnswer),
}

/// The refusals of the platform for this request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Refusals {
    malformed: Option<Answer>,
    forbidden: bool,
}

/// An answer whose intent is being recorded, or that is in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flight {
    said: GivenAnswer,
    /// The request that it is for, as it was known at the decision.
    subject: Subject,
    /// From 1.
    attempt: u32,
    /// An earlier attempt may have been carried out.
    bound: bool,
    /// The outcome of that earlier attempt is already on record.
    recorded: bool,
    /// A person ordered it.
    ordered: bool,
    refusals: Refusals,
    /// The status that the channel reported meanwhile.
    updated: Option<RequestStatus>,
    /// The earlier answer that is given up once the intent of this one is on record.
    replaces: Option<Box<BindingAnswer>>,
}

impl Flight {
    /// The answer that is sent.
    pub fn said(&self) -> &GivenAnswer {
        &self.said
    }

    /// Which attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether an earlier attempt may have been carried out.
    pub fn bound(&self) -> bool {
        self.bound
    }

    /// The status that the channel reported while the answer was in flight.
    pub(crate) fn updated(&self) -> Option<&RequestStatus> {
        self.updated.as_ref()
    }
}

/// An earlier answer that may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BindingAnswer {
    said: GivenAnswer,
    /// The request that it was for.
    subject: Subject,
    attempts: u32,
    /// The outcome of this answer is already on record: the request was listed again after it.
    recorded: bool,
    /// A person ordered it since the request is in the inbox.
    ordered: bool,
    refusals: Refusals,
    /// The different answer that a person ordered instead. Until its intent is on record, the earlier answer binds.
    instead: Option<Box<GivenAnswer>>,
}

/// The start of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Which attempt it is, from 1.
    pub(crate) attempt: u32,
    /// It replaces an earlier answer that the record holds as open and that may have been carried out.
    pub(crate) gives_up: bool,
}

/// See the module.
#[derive(Debug)]
pub struct AnswerState(AnswerPhase);

#[derive(Debug)]
enum AnswerPhase {
    /// No answer was sent that may have been carried out.
    Free {
        /// The answer that a person ordered.
        order: Option<Box<GivenAnswer>>,
        /// The intent on record whose answer certainly never left: it is withdrawn if the decision is now different.
        intended: Option<Answer>,
        /// Tries of the current answer.
        attempts: u32,
        refusals: Refusals,
    },
    InFlight(Box<Flight>),
    /// The answer was sent, and no certain reply came. Only a listing pass that began after `ended` helps.
    Unknown {
        bound: Box<BindingAnswer>,
        ended: Mark,
    },
    /// It may have been carried out: the same answer or none.
    Bound(Box<BindingAnswer>),
}

impl AnswerState {
    /// Nothing was sent.
    pub(super) fn free() -> Self {
        Self(AnswerPhase::Free { order: None, intended: None, attempts: 0, refusals: Refusals::default() })
    }

    /// The end of this answer is on record, and the request is listed again.
    pub(super) fn returned(said: GivenAnswer, subject: Subject) -> Self {
        let refusals = Refusals::default();
        let bound =
            BindingAnswer { said, subject, attempts: 0, recorded: true, ordered: false, refusals, instead: None };
        Self(AnswerPhase::Bound(Box::new(bound)))
    }

    /// The ledger holds this answer for open.
    pub(super) fn unknown(said: GivenAnswer, subject: Subject, attempts: u32, ended: Mark) -> Self {
        let refusals = Refusals::default();
        let bound = BindingAnswer { said, subject, attempts, recorded: false, ordered: false, refusals, instead: None };
        Self(AnswerPhase::Unknown { bound: Box::new(bound), ended })
    }

    /// What may be sent next; nothing while an answer is in flight or its outcome is unknown.
    pub fn next(&self) -> Option<NextAnswer<'_>> {
        match &self.0 {
            AnswerPhase::Free { order: None, .. } => Some(NextAnswer::Rules),
            AnswerPhase::Free { order: Some(order), .. } => Some(NextAnswer::Person(order)),
            AnswerPhase::Bound(bound) => {
                Some(bound.instead.as_deref().map_or(NextAnswer::Again(&bound.said), NextAnswer::Person))
            }
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => None,
        }
    }

    /// The answer on its way.
    pub(crate) fn flight(&self) -> Option<&Flight> {
        match &self.0 {
            AnswerPhase::InFlight(flight) => Some(flight),
            AnswerPhase::Free { .. } | AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => None,
        }
    }

    /// When the attempt of unknown outcome ended.
    pub(crate) fn unknown_since(&self) -> Option<Mark> {
        match &self.0 {
            AnswerPhase::Unknown { ended, .. } => Some(*ended),
            AnswerPhase::Free { .. } | AnswerPhase::InFlight(_) | AnswerPhase::Bound(_) => None,
        }
    }

    /// The request for which the answer in flight, or one that may have been carried out, was meant.
    pub fn subject(&self) -> Option<Subject> {
        match &self.0 {
            AnswerPhase::Free { .. } => None,
            AnswerPhase::InFlight(flight) => Some(flight.subject),
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => Some(bound.subject),
        }
    }

    /// Whether an attempt, perhaps the one on its way, may have been carried out.
    pub(crate) fn may_be_heard(&self) -> bool {
        match &self.0 {
            AnswerPhase::Free { .. } => false,
            AnswerPhase::InFlight(flight) => flight.bound,
            AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => true,
        }
    }

    /// The last answer that a person ordered, or that may have been carried out.
    pub fn said(&self) -> Option<&GivenAnswer> {
        match &self.0 {
            AnswerPhase::Free { order, .. } => order.as_deref(),
            AnswerPhase::InFlight(flight) => Some(&flight.said),
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => Some(&bound.said),
        }
    }

    /// The answer that ends together with the request, and how often it was tried. `None` if none was sent, or if its
    /// outcome is already on record.
    pub fn ends(&self) -> Option<(&GivenAnswer, u32)> {
        match &self.0 {
            AnswerPhase::Free { .. } => None,
            AnswerPhase::InFlight(flight) => Some((&flight.said, flight.attempt)),
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => {
                (!bound.recorded).then_some((&bound.said, bound.attempts))
            }
        }
    }

    /// How often the current answer was tried.
    pub fn attempts(&self) -> u32 {
        match &self.0 {
            AnswerPhase::Free { attempts, .. } => *attempts,
            AnswerPhase::InFlight(flight) => flight.attempt,
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => bound.attempts,
        }
    }

    /// The intent on record whose answer never reached anybody.
    pub fn intended(&self) -> Option<Answer> {
        match &self.0 {
            AnswerPhase::Free { intended, .. } => *intended,
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => None,
        }
    }

    /// Whether its outcome is on record and no person has ordered it again since the request was listed again.
    pub(super) fn is_over(&self) -> bool {
        match &self.0 {
            AnswerPhase::Bound(bound) => bound.recorded && !bound.ordered,
            AnswerPhase::Free { .. } | AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => false,
        }
    }

    fn refusals(&self) -> Refusals {
        match &self.0 {
            AnswerPhase::Free { refusals, .. } => *refusals,
            AnswerPhase::InFlight(flight) => flight.refusals,
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => bound.refusals,
        }
    }

    /// Whether the platform called this answer malformed.
    pub(crate) fn is_malformed(&self, answer: Answer) -> bool {
        self.refusals().malformed == Some(answer)
    }

    /// Whether the platform refused any answer.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusals().malformed.is_some() || self.refusals().forbidden
    }

    /// Whether the platform forbade an answer (403).
    pub(crate) fn is_forbidden(&self) -> bool {
        self.refusals().forbidden
    }

    /// The channel reported the status of the request. Returns whether an answer is in flight: then its reply decides
    /// who settled the request.
    pub(super) fn updated(&mut self, status: &RequestStatus) -> bool {
        match &mut self.0 {
            AnswerPhase::InFlight(flight) => {
                flight.updated = Some(status.clone());
                true
            }
            AnswerPhase::Free { .. } | AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => false,
        }
    }

    /// Gives up an intent whose answer never left, unless the answer is the same.
    fn withdraw(&mut self, unless: Option<Answer>) -> Option<Answer> {
        match &mut self.0 {
            AnswerPhase::Free { intended, attempts, .. } => {
                let answer = intended.take_if(|answer| Some(*answer) != unless)?;
                *attempts = 0;
                Some(answer)
            }
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => None,
        }
    }

    fn begin(&mut self, said: GivenAnswer, subject: Subject) -> Begun {
        let ordered = match &self.0 {
            AnswerPhase::Free { order, .. } => order.is_some(),
            AnswerPhase::Bound(bound) => bound.ordered || bound.instead.is_some(),
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => false,
        };
        let begun = match &self.0 {
            AnswerPhase::Bound(bound) if bound.instead.is_some() => Begun { attempt: 1, gives_up: !bound.recorded },
            AnswerPhase::Free { .. }
            | AnswerPhase::InFlight(_)
            | AnswerPhase::Unknown { .. }
            | AnswerPhase::Bound(_) => Begun { attempt: self.attempts() + 1, gives_up: false },
        };
        let replaces = match std::mem::replace(self, Self::free()).0 {
            AnswerPhase::Bound(bound) if bound.instead.is_some() => Some(bound),
            other @ (AnswerPhase::Free { .. }
            | AnswerPhase::InFlight(_)
            | AnswerPhase::Unknown { .. }
            | AnswerPhase::Bound(_)) => {
                self.0 = other;
                None
            }
        };
        let (attempt, bound, refusals) = (begun.attempt, self.may_be_heard(), self.refusals());
        let recorded = bound && self.ends().is_none();
        let flight = Flight { said, subject, attempt, bound, recorded, ordered, refusals, updated: None, replaces };
        self.0 = AnswerPhase::InFlight(Box::new(flight));
        begun
    }

    /// The state of the request after an attempt that certainly did not arrive. `intended` is whether its intent is on
    /// record and still open.
    fn without(flight: Flight, intended: bool) -> Self {
        let Flight { said, subject, attempt, bound, recorded, ordered, refusals, replaces, .. } = flight;
        if let Some(mut earlier) = replaces.filter(|_| !intended) {
            earlier.instead = Some(Box::new(said));
            return Self(AnswerPhase::Bound(earlier));
        }
        if bound {
            let recorded = recorded && !intended;
            let bound = BindingAnswer { said, subject, attempts: attempt, recorded, ordered, refusals, instead: None };
            return Self(AnswerPhase::Bound(Box::new(bound)));
        }
        let intended = intended.then_some(said.answer);
        // A person's answer is not sent again if the platform calls it malformed.
        let order = said.by_person() && refusals.malformed != Some(said.answer);
        Self(AnswerPhase::Free { order: order.then(|| Box::new(said)), intended, attempts: attempt, refusals })
    }

    fn take_flight(&mut self) -> Option<Flight> {
        self.flight()?;
        match std::mem::replace(self, Self::free()).0 {
            AnswerPhase::InFlight(flight) => Some(*flight),
            AnswerPhase::Free { .. } | AnswerPhase::Unknown { .. } | AnswerPhase::Bound(_) => None,
        }
    }

    /// A malformed answer from before the start.
    pub(super) fn remember_malformed(&mut self, answer: Answer) {
        match &mut self.0 {
            AnswerPhase::Free { refusals, .. } => refusals.malformed = Some(answer),
            AnswerPhase::InFlight(flight) => flight.refusals.malformed = Some(answer),
            AnswerPhase::Unknown { bound, .. } | AnswerPhase::Bound(bound) => bound.refusals.malformed = Some(answer),
        }
    }
}

impl Inbox {
    /// Its intent is being recorded; until its outcome, no other answer may begin.
    pub(crate) fn begin_answer(&mut self, id: &RequestId, said: GivenAnswer) -> Option<Begun> {
        let entry = self.entries.get_mut(id)?;
        let begun = entry.answer.begin(said, Subject::of(&entry.request));
        self.move_to(id, DecisionQueue::Out);
        Some(begun)
    }

    /// The answer was not sent, or certainly not carried out: the request is to be decided again, not before `until`.
    /// `recorded` is whether its intent is on record.
    pub(crate) fn unsent(&mut self, id: &RequestId, recorded: bool, until: Option<Mono>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(flight) = entry.answer.take_flight() else { return };
        entry.answer = AnswerState::without(flight, recorded);
        match until {
            Some(until) => self.move_to(id, DecisionQueue::Delayed { until, held_back: false }),
            None => self.requeue(id),
        }
    }

    /// The answer was sent, and no certain reply came.
    pub(crate) fn fate_unknown(&mut self, id: &RequestId) {
        let ended = self.mark();
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(Flight { said, subject, attempt, ordered, refusals, .. }) = entry.answer.take_flight() else { return };
        let bound =
            BindingAnswer { said, subject, attempts: attempt, recorded: false, ordered, refusals, instead: None };
        entry.answer = AnswerState(AnswerPhase::Unknown { bound: Box::new(bound), ended });
        self.move_to(id, DecisionQueue::Out);
    }

    /// The platform refused the answer. It rests, or is decided again at `until`.
    pub fn refused(&mut self, id: &RequestId, refusal: Refusal, until: Option<Mono>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(mut flight) = entry.answer.take_flight() else { return };
        match refusal {
            Refusal::Malformed => flight.refusals.malformed = Some(flight.said.answer),
            Refusal::Forbidden => flight.refusals.forbidden = true,
        }
        // Its intent is on record, so the answer that it replaces is given up.
        flight.replaces = None;
        // The refusal is on record as its outcome; for a bound request, as an unknown outcome.
        flight.recorded = false;
        entry.answer = AnswerState::without(flight, false);
        let rest = DecisionQueue::Resting { reconsider_at: None };
        self.move_to(id, until.map_or(rest, |until| DecisionQueue::Delayed { until, held_back: false }));
    }

    /// A pass that began after the attempt ended still shows the request: it is bound, and decided again at `until`.
    pub(crate) fn still_pending(&mut self, id: &RequestId, until: Mono) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match std::mem::replace(&mut entry.answer, AnswerState::free()).0 {
            AnswerPhase::Unknown { bound, .. } => entry.answer = AnswerState(AnswerPhase::Bound(bound)),
            other @ (AnswerPhase::Free { .. } | AnswerPhase::InFlight(_) | AnswerPhase::Bound(_)) => {
                return entry.answer = AnswerState(other);
            }
        }
        self.move_to(id, DecisionQueue::Delayed { until, held_back: false });
    }

    /// A person orders this answer, even if an earlier one may have been carried out.
    pub fn order(&mut self, id: &RequestId, said: GivenAnswer) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match &mut entry.answer.0 {
            AnswerPhase::Free { order, intended, attempts, refusals } => {
                if intended.is_none() {
                    *attempts = 0;
                }
                *order = Some(Box::new(said));
                *refusals = Refusals::default();
            }
            AnswerPhase::Bound(bound) if bound.said.answer == said.answer => {
                (bound.refusals, bound.said) = (Refusals::default(), said);
                bound.subject = Subject::of(&entry.request);
                (bound.ordered, bound.instead) = (true, None);
            }
            AnswerPhase::Bound(bound) => bound.instead = Some(Box::new(said)),
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => return,
        }
        self.requeue(id);
    }

    /// The request has another sender now: an answer that a person ordered for the previous one is not sent.
    pub(crate) fn take_order(&mut self, id: &RequestId) -> Option<GivenAnswer> {
        match &mut self.entries.get_mut(id)?.answer.0 {
            AnswerPhase::Free { order: said, .. } => said.take().map(|said| *said),
            AnswerPhase::Bound(bound) => bound.instead.take().map(|said| *said),
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => None,
        }
    }

    /// A person holds the request: an answer that a person ordered is not sent. An earlier attempt that may have been
    /// carried out stays as it is.
    pub fn hold(&mut self, id: &RequestId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match &mut entry.answer.0 {
            AnswerPhase::Free { order, .. } => *order = None,
            AnswerPhase::Bound(bound) => (bound.ordered, bound.instead) = (false, None),
            AnswerPhase::InFlight(_) | AnswerPhase::Unknown { .. } => return,
        }
        self.requeue(id);
    }

    /// Gives up an intent whose answer never left, unless the answer is the same as the one that is sent now.
    pub(crate) fn withdraw(&mut self, id: &RequestId, unless: Option<Answer>) -> Option<Answer> {
        self.entries.get_mut(id)?.answer.withdraw(unless)
    }
}

impl Entry {
    /// What was sent to it, and what may be sent next.
    pub fn answer(&self) -> &AnswerState {
        &self.answer
    }
}
