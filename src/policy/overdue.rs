//! `[overdue.NAME]`: what happens to what stays pending. Whatever is unknown means: not now.

use jiff::{SignedDuration, Timestamp};

use super::book::OVERDUE_WINDOW;
use super::evaluate::conditions::{Told, earlier, table};
use super::evaluate::facts::{Facts, Inserted, after};
use super::rules::{Overdue, OverdueThen};
use super::{RuleName, Truth};

/// What the `overdue` rules say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) reject: Option<RuleName>,
    pub(crate) notify: Option<RuleName>,
    /// The first moment at which this may change.
    pub(crate) wakes: Option<Timestamp>,
}

/// How one `overdue` rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether `after` has passed.
    pub(crate) reached: Told,
    /// Whether no `unless` holds.
    pub(crate) spared: Told,
    /// Whether `max_per_hour` leaves a place.
    pub(crate) room: Told,
}

impl Standing {
    fn now(self) -> Told {
        self.reached.and(!self.spared).and(self.room)
    }
}

/// Judges all of them for one request. `certain`: the request would certainly not be approved now.
pub(crate) fn judge(all: &[Overdue], certain: bool, facts: &Facts<'_>) -> Fate {
    let mut fate = Fate::default();
    let mut unsaid: Option<&RuleName> = None;
    for one in all {
        let told = standing(one, facts).now();
        match one.then {
            OverdueThen::Reject if !certain => continue,
            OverdueThen::Notify if facts.book.was_notified(&facts.request.id, &one.name) => continue,
            OverdueThen::Notify | OverdueThen::Reject => {}
        }
        fate.wakes = earlier(fate.wakes, told.flips);
        if told.truth != Truth::True {
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
                    fate.wakes = Some(facts.now);
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

/// How one of them stands for one request.
pub(crate) fn standing(overdue: &Overdue, facts: &Facts<'_>) -> Standing {
    let reached = match facts.inserted() {
        _ if !facts.clock_is_sound() => Told::UNKNOWN,
        Inserted::Absent => Told::UNKNOWN,
        Inserted::SenselessUntil(at) => Told { truth: Truth::Unknown, flips: Some(at) },
        Inserted::At(inserted) => {
            let end = after(inserted.max(facts.circumstances.first_seen), overdue.after);
            if end <= facts.now { Told::TRUE } else { Told { truth: Truth::False, flips: Some(end) } }
        }
    };
    let spared = overdue.unless.iter().fold(Told::FALSE, |told, unless| told.or(table(unless, facts)));
    Standing { reached, spared, room: room(overdue, facts) }
}

fn room(overdue: &Overdue, facts: &Facts<'_>) -> Told {
    if overdue.then == OverdueThen::Notify {
        return Told::TRUE;
    }
    if !facts.clock_is_sound() {
        return Told::UNKNOWN;
    }
    let rejects = facts.book.overdue_rejects(&overdue.name, &facts.request.id, facts.now);
    let most = overdue.max_per_hour as usize;
    if rejects.len() < most {
        return Told::TRUE;
    }
    let frees = rejects.get(rejects.len() - most).map(|at| after(*at, OVERDUE_WINDOW));
    Told { truth: Truth::False, flips: frees }
}

/// The moment from which an `overdue` rule counts, for explaining.
pub(crate) fn pending_for(facts: &Facts<'_>) -> Option<SignedDuration> {
    match facts.inserted() {
        Inserted::At(inserted) => Some(facts.now.duration_since(inserted.max(facts.circumstances.first_seen))),
        Inserted::Absent | Inserted::SenselessUntil(_) => None,
    }
}
