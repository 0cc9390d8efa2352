//! `[overdue.NAME]`: what happens to requests that stay pending. If a condition is unknown, nothing happens now.

use jiff::{SignedDuration, Timestamp};

use super::evaluate::conditions::{Evaluation, earlier, table};
use super::evaluate::inputs::{Inputs, Inserted, after};
use super::rules::{Overdue, OverdueThen};
use super::state::OVERDUE_WINDOW;
use super::{RuleName, Truth};

/// The combined result of the `overdue` rules.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OverdueResult {
    pub(crate) reject: Option<RuleName>,
    pub(crate) notify: Option<RuleName>,
    /// The first moment at which this may change.
    pub(crate) wakes: Option<Timestamp>,
}

/// The state of one `overdue` rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverdueEvaluation {
    /// Whether `after` has passed.
    pub(crate) reached: Evaluation,
    /// Whether no `unless` holds.
    pub(crate) spared: Evaluation,
    /// Whether `max_per_hour` leaves a place.
    pub(crate) room: Evaluation,
}

impl OverdueEvaluation {
    fn now(self) -> Evaluation {
        self.reached.and(!self.spared).and(self.room)
    }
}

/// Judges all of them for one request. `certain`: the request would certainly not be approved now.
pub(crate) fn judge(all: &[Overdue], certain: bool, inputs: &Inputs<'_>) -> OverdueResult {
    let mut fate = OverdueResult::default();
    let mut unsaid: Option<&RuleName> = None;
    for one in all {
        let evaluation = evaluate(one, inputs).now();
        match one.then {
            OverdueThen::Reject if !certain => continue,
            OverdueThen::Notify if inputs.policy_state.was_notified(&inputs.request.id, &one.name) => continue,
            OverdueThen::Notify | OverdueThen::Reject => {}
        }
        fate.wakes = earlier(fate.wakes, evaluation.flips);
        if evaluation.truth != Truth::True {
            continue;
        }
        let first = |known: &mut Option<RuleName>| match known {
            Some(known) if *known <= one.name => {}
            _ => *known = Some(one.name.clone()),
        };
        match one.then {
            OverdueThen::Reject => first(&mut fate.reject),
            OverdueThen::Notify => {
                // A second notice has its turn as soon as the first has been given.
                if unsaid.replace(&one.name).is_some() {
                    fate.wakes = Some(inputs.now);
                }
                first(&mut fate.notify);
            }
        }
    }
    if fate.reject.is_some() {
        fate.notify = None;
    }
    fate
}

/// The state of one of them for one request.
pub(crate) fn evaluate(overdue: &Overdue, inputs: &Inputs<'_>) -> OverdueEvaluation {
    let reached = match inputs.inserted() {
        _ if !inputs.clock_is_sound() => Evaluation::UNKNOWN,
        Inserted::Absent => Evaluation::UNKNOWN,
        Inserted::SenselessUntil(at) => Evaluation { truth: Truth::Unknown, flips: Some(at) },
        Inserted::At(inserted) => {
            let end = after(inserted.max(inputs.circumstances.first_seen), overdue.after);
            if end <= inputs.now { Evaluation::TRUE } else { Evaluation { truth: Truth::False, flips: Some(end) } }
        }
    };
    let spared =
        overdue.unless.iter().fold(Evaluation::FALSE, |evaluation, unless| evaluation.or(table(unless, inputs)));
    OverdueEvaluation { reached, spared, room: room(overdue, inputs) }
}

fn room(overdue: &Overdue, inputs: &Inputs<'_>) -> Evaluation {
    if overdue.then == OverdueThen::Notify {
        return Evaluation::TRUE;
    }
    if !inputs.clock_is_sound() {
        return Evaluation::UNKNOWN;
    }
    let rejects = inputs.policy_state.overdue_rejects(&overdue.name, &inputs.request.id, inputs.now);
    let most = overdue.max_per_hour as usize;
    if rejects.len() < most {
        return Evaluation::TRUE;
    }
    let frees = rejects.get(rejects.len() - most).map(|at| after(*at, OVERDUE_WINDOW));
    Evaluation { truth: Truth::False, flips: frees }
}

/// How long the request is pending for an `overdue` rule, for explaining.
pub(crate) fn pending_for(inputs: &Inputs<'_>) -> Option<SignedDuration> {
    match inputs.inserted() {
        Inserted::At(inserted) => Some(inputs.now.duration_since(inserted.max(inputs.circumstances.first_seen))),
        Inserted::Absent | Inserted::SenselessUntil(_) => None,
    }
}
