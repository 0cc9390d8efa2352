//! `window`, `age_over`: conditions on time. They are unknown while the clock is unsound.

use std::sync::Arc;

use jiff::SignedDuration;

use super::compared::sorted;
use super::{Compile, Condition, ConditionKind, ContactBasis, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::{Inputs, Inserted, after};
use crate::policy::explain::values;
use crate::policy::raw::RawCondition;
use crate::policy::rules::Window;
use crate::policy::window;

/// `window = […]`.
#[derive(Debug)]
pub(crate) struct InWindow(pub Vec<Arc<Window>>);

/// `age_over = "…"` since `inserted_at`.
#[derive(Debug)]
pub(crate) struct AgeOver(pub SignedDuration);

impl Compile for InWindow {
    const KEY: DocumentKey = key("window", KeyType::Texts, "", "It is now within one of these windows.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        let names = written.texts()?;
        let windows = compiling.windows_named(names);
        compiling.twice(names);
        // A window that is broken itself leaves the condition incomplete.
        (windows.len() == names.len()).then_some(Self(windows))
    }
}

impl ConditionKind for InWindow {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::OfTheMoment
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        if !inputs.clock_is_sound() {
            return Evaluation::UNKNOWN;
        }
        self.0.iter().fold(Evaluation::FALSE, |evaluation, window| {
            let open = window::is_open(window, inputs.now).into();
            evaluation.or(Evaluation { truth: open, flips: window::next_flip(window, inputs.now) })
        })
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|window| window.name.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        if !inputs.clock_is_sound() {
            return values::CLOCK.to_owned();
        }
        values::some(self.0.iter().map(|window| {
            let local = window.tz.to_datetime(inputs.now);
            format!("{} {}", local.strftime("%a %Y-%m-%d %H:%M"), window.tz.iana_name().unwrap_or("local"))
        }))
    }

    fn canonical(&self) -> String {
        sorted("window", self.0.iter().map(|window| window.name.as_str()))
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow
            .downcast::<InWindow>()
            .is_some_and(|one| one.0.iter().all(|one| self.0.iter().any(|other| other.name == one.name)))
    }
}

impl Compile for AgeOver {
    const KEY: DocumentKey =
        key("age_over", KeyType::Duration, "", "The platform received the request longer ago than this.");

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        written.duration().map(Self)
    }
}

impl ConditionKind for AgeOver {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::OfTheMoment
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        match inputs.inserted() {
            _ if !inputs.clock_is_sound() => Evaluation::UNKNOWN,
            Inserted::Absent => Evaluation::UNKNOWN,
            Inserted::SenselessUntil(at) => Evaluation::until(Truth::Unknown, at),
            Inserted::At(at) if after(at, self.0) <= inputs.now => Evaluation::TRUE,
            Inserted::At(at) => Evaluation::until(Truth::False, after(at, self.0)),
        }
    }

    fn wanted(&self) -> String {
        values::duration(self.0)
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        match inputs.inserted() {
            _ if !inputs.clock_is_sound() => values::CLOCK.to_owned(),
            Inserted::At(at) => values::duration(inputs.now.duration_since(at).max(SignedDuration::ZERO)),
            Inserted::Absent => "no valid `inserted_at`".to_owned(),
            Inserted::SenselessUntil(_) => "an `inserted_at` in the future".to_owned(),
        }
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<AgeOver>().is_some_and(|one| one.0 >= self.0)
    }
}
