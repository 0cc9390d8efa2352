//! What a rule says of the inputs, from its conditions: true, false or unknown, and when time alone will change that.
//!
//! One place for the logic, used by deciding and by explaining, so that the two cannot disagree. What each condition
//! says is in [`conditions`](crate::policy::conditions).

use jiff::Timestamp;

use super::inputs::Inputs;
use crate::policy::Truth;
use crate::policy::rules::{Condition, Rule, Table, When};

/// A truth, and the first moment at which time alone can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) truth: Truth,
    /// `None`: time alone does not change it.
    pub(crate) flips: Option<Timestamp>,
}

impl Evaluation {
    pub(crate) const TRUE: Evaluation = Evaluation { truth: Truth::True, flips: None };
    pub(crate) const FALSE: Evaluation = Evaluation { truth: Truth::False, flips: None };
    pub(crate) const UNKNOWN: Evaluation = Evaluation { truth: Truth::Unknown, flips: None };

    pub(crate) fn fact(holds: bool) -> Evaluation {
        if holds { Evaluation::TRUE } else { Evaluation::FALSE }
    }

    /// A truth that time alone does not change.
    pub(crate) fn of(truth: Truth) -> Evaluation {
        Evaluation { truth, flips: None }
    }

    pub(crate) fn until(truth: Truth, flips: Timestamp) -> Evaluation {
        Evaluation { truth, flips: (flips < Timestamp::MAX).then_some(flips) }
    }

    pub(crate) fn and(self, other: Evaluation) -> Evaluation {
        if self == Evaluation::FALSE || other == Evaluation::FALSE {
            return Evaluation::FALSE;
        }
        Evaluation { truth: self.truth.and(other.truth), flips: earlier(self.flips, other.flips) }
    }

    pub(crate) fn or(self, other: Evaluation) -> Evaluation {
        !((!self).and(!other))
    }
}

impl std::ops::Not for Evaluation {
    type Output = Evaluation;

    fn not(self) -> Evaluation {
        Evaluation { truth: !self.truth, flips: self.flips }
    }
}

/// The earlier of two optional moments.
pub(crate) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// `when AND NOT (unless OR unless …)`, while the rule lasts.
pub(crate) fn rule(rule: &Rule, inputs: &Inputs<'_>) -> Evaluation {
    let mut evaluation = when(&rule.when, inputs);
    if evaluation != Evaluation::FALSE {
        evaluation = evaluation.and(until(rule, inputs));
    }
    for unless in &rule.unless {
        if evaluation == Evaluation::FALSE {
            break;
        }
        evaluation = evaluation.and(!table(unless, inputs));
    }
    evaluation
}

/// The key of the first condition that made a rule unknown, for the record.
pub(crate) fn first_unknown(rule: &Rule, inputs: &Inputs<'_>) -> Option<&'static str> {
    let when = match &rule.when {
        When::Everyone => &[],
        When::Table(table) => table.conditions.as_slice(),
    };
    let unknown = |condition: &&Condition| condition.0.evaluate(inputs).truth == Truth::Unknown;
    if let Some(condition) = when.iter().find(unknown) {
        return Some(condition.0.key().name);
    }
    if until(rule, inputs).truth == Truth::Unknown {
        return Some("until");
    }
    rule.unless
        .iter()
        .filter(|unless| table(unless, inputs).truth == Truth::Unknown)
        .find_map(|unless| unless.conditions.iter().find(unknown))
        .map(|condition| condition.0.key().name)
}

fn when(when: &When, inputs: &Inputs<'_>) -> Evaluation {
    match when {
        When::Everyone => Evaluation::TRUE,
        When::Table(conditions) => table(conditions, inputs),
    }
}

/// All conditions of a table together.
pub(crate) fn table(table: &Table, inputs: &Inputs<'_>) -> Evaluation {
    let mut evaluation = Evaluation::TRUE;
    for one in &table.conditions {
        evaluation = evaluation.and(one.0.evaluate(inputs));
        if evaluation == Evaluation::FALSE {
            break;
        }
    }
    evaluation
}

/// Whether the rule has not ended yet: a condition on time like any other.
pub(crate) fn until(rule: &Rule, inputs: &Inputs<'_>) -> Evaluation {
    match rule.until {
        None => Evaluation::TRUE,
        Some(_) if !inputs.clock_is_sound() => Evaluation::UNKNOWN,
        Some(end) if inputs.now < end => Evaluation::until(Truth::True, end),
        Some(_) => Evaluation::FALSE,
    }
}
