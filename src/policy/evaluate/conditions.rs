//! What a rule says of the facts, from its conditions: true, false or unknown, and when time alone will change that.
//!
//! One place for the logic, used by deciding and by explaining, so that the two cannot disagree. What each condition
//! says is in [`conditions`](crate::policy::conditions).

use jiff::Timestamp;

use super::facts::Facts;
use crate::policy::Truth;
use crate::policy::rules::{Condition, Rule, Table, When};

/// A truth, and the first moment at which time alone can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) truth: Truth,
    /// `None`: not by time.
    pub(crate) flips: Option<Timestamp>,
}

impl Told {
    pub(crate) const TRUE: Told = Told { truth: Truth::True, flips: None };
    pub(crate) const FALSE: Told = Told { truth: Truth::False, flips: None };
    pub(crate) const UNKNOWN: Told = Told { truth: Truth::Unknown, flips: None };

    pub(crate) fn fact(holds: bool) -> Told {
        if holds { Told::TRUE } else { Told::FALSE }
    }

    /// A truth that time alone does not change.
    pub(crate) fn of(truth: Truth) -> Told {
        Told { truth, flips: None }
    }

    pub(crate) fn until(truth: Truth, flips: Timestamp) -> Told {
        Told { truth, flips: (flips < Timestamp::MAX).then_some(flips) }
    }

    pub(crate) fn and(self, other: Told) -> Told {
        if self == Told::FALSE || other == Told::FALSE {
            return Told::FALSE;
        }
        Told { truth: self.truth.and(other.truth), flips: earlier(self.flips, other.flips) }
    }

    pub(crate) fn or(self, other: Told) -> Told {
        !((!self).and(!other))
    }
}

impl std::ops::Not for Told {
    type Output = Told;

    fn not(self) -> Told {
        Told { truth: !self.truth, flips: self.flips }
    }
}

/// The earlier of two moments that may not come.
pub(crate) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// `when AND NOT (unless OR unless …)`, while the rule lasts.
pub(crate) fn rule(rule: &Rule, facts: &Facts<'_>) -> Told {
    let mut told = when(&rule.when, facts);
    if told != Told::FALSE {
        told = told.and(until(rule, facts));
    }
    for unless in &rule.unless {
        if told == Told::FALSE {
            break;
        }
        told = told.and(!table(unless, facts));
    }
    told
}

/// The key of the first condition that made a rule unknown, for the record.
pub(crate) fn first_unknown(rule: &Rule, facts: &Facts<'_>) -> Option<&'static str> {
    let when = match &rule.when {
        When::Everyone => &[],
        When::Table(table) => table.conditions.as_slice(),
    };
    let unknown = |condition: &&Condition| condition.0.evaluate(facts).truth == Truth::Unknown;
    if let Some(condition) = when.iter().find(unknown) {
        return Some(condition.0.key().name);
    }
    if until(rule, facts).truth == Truth::Unknown {
        return Some("until");
    }
    rule.unless
        .iter()
        .filter(|unless| table(unless, facts).truth == Truth::Unknown)
        .find_map(|unless| unless.conditions.iter().find(unknown))
        .map(|condition| condition.0.key().name)
}

fn when(when: &When, facts: &Facts<'_>) -> Told {
    match when {
        When::Everyone => Told::TRUE,
        When::Table(conditions) => table(conditions, facts),
    }
}

/// All conditions of a table together.
pub(crate) fn table(table: &Table, facts: &Facts<'_>) -> Told {
    let mut told = Told::TRUE;
    for one in &table.conditions {
        told = told.and(one.0.evaluate(facts));
        if told == Told::FALSE {
            break;
        }
    }
    told
}

/// Whether the rule still lasts: a condition on time like any other.
pub(crate) fn until(rule: &Rule, facts: &Facts<'_>) -> Told {
    match rule.until {
        None => Told::TRUE,
        Some(_) if !facts.clock_is_sound() => Told::UNKNOWN,
        Some(end) if facts.now < end => Told::until(Truth::True, end),
        Some(_) => Told::FALSE,
    }
}
