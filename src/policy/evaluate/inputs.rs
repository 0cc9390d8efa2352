//! What one decision looks at: the request, its circumstances, the agent's policy state and the time, in one read-only value,
//! with the forms of the texts made at most once.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::model::{ContactRequest, Handle, StrangerText};
use crate::policy::text::TextForms;
use crate::policy::{Circumstances, ClockHealth, PolicyState};

/// How far in the future `inserted_at` may be and still be accepted: the platform's clock may differ from ours.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Everything that conditions may use.
pub(crate) struct Inputs<'a> {
    pub(crate) request: &'a ContactRequest,
    pub(crate) handle: Option<&'a Handle>,
    pub(crate) circumstances: &'a Circumstances,
    pub(crate) policy_state: &'a PolicyState,
    pub(crate) now: Timestamp,
    /// Where whoever reads the explanation is; without it, times are given in UTC.
    pub(crate) zone: Option<&'a TimeZone>,
    name: Option<TextForms<'a>>,
    message: Option<TextForms<'a>>,
}

/// When the platform took the request in, as far as it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// At this moment.
    At(Timestamp),
    /// Missing.
    Absent,
    /// So far in the future that it is not believed before this moment.
    SenselessUntil(Timestamp),
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(
        request: &'a ContactRequest,
        circumstances: &'a Circumstances,
        policy_state: &'a PolicyState,
        now: Timestamp,
    ) -> Self {
        let forms = |text: &'a Option<StrangerText>| text.as_ref().map(TextForms::new);
        let (name, message) = (forms(&request.name), forms(&request.message));
        Self { request, handle: request.sender.handle(), circumstances, policy_state, now, zone: None, name, message }
    }

    /// Regular expressions search only this many bytes of a text.
    pub(crate) fn searching(mut self, bytes: usize) -> Self {
        for forms in [&mut self.name, &mut self.message].into_iter().flatten() {
            forms.search_at_most(bytes);
        }
        self
    }

    /// Explanations give times in this zone.
    pub(crate) fn read_in(mut self, zone: Option<&'a TimeZone>) -> Self {
        self.zone = zone;
        self
    }

    /// Whether conditions on time can be answered at all.
    pub(crate) fn clock_is_sound(&self) -> bool {
        self.circumstances.clock == ClockHealth::Sound
    }

    /// The name, in its forms.
    pub(crate) fn name(&self) -> Option<&TextForms<'a>> {
        self.name.as_ref()
    }

    /// The message, in its forms.
    pub(crate) fn message(&self) -> Option<&TextForms<'a>> {
        self.message.as_ref()
    }

    /// Whether a text was cut, or is searched in part, so that conditions on text may be unknown.
    pub(crate) fn some_text_is_cut(&self) -> bool {
        [self.name(), self.message()]
            .into_iter()
            .flatten()
            .any(|forms| forms.original().is_cut() || !forms.is_searched_whole())
    }

    pub(crate) fn inserted(&self) -> Inserted {
        match self.request.inserted_at {
            None => Inserted::Absent,
            Some(at) => {
                let sensible = at.checked_sub(SKEW_MAX).unwrap_or(Timestamp::MIN);
                if sensible > self.now { Inserted::SenselessUntil(sensible) } else { Inserted::At(at) }
            }
        }
    }
}

/// `at` plus `duration`, or the end of time.
pub(crate) fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}
