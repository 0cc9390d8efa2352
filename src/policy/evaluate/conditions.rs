//! What each condition says of the facts: true, false or unknown, and when time alone will change that.
//!
//! One place for the logic, used by deciding and by explaining, so that the two cannot disagree.

use jiff::Timestamp;

use super::facts::{Facts, Inserted, after};
use crate::policy::Truth;
use crate::policy::doubts::Fact;
use crate::policy::rules::{Condition, HistoryConditions, PatternSet, Rule, SenderKind, Table, When};
use crate::policy::window;

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

    fn fact(holds: bool) -> Told {
        if holds { Told::TRUE } else { Told::FALSE }
    }

    fn until(truth: Truth, flips: Timestamp) -> Told {
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
    let unknown = |condition: &&Condition| self::condition(condition, facts).truth == Truth::Unknown;
    if let Some(condition) = when.iter().find(unknown) {
        return Some(key(condition));
    }
    if until(rule, facts).truth == Truth::Unknown {
        return Some("until");
    }
    rule.unless
        .iter()
        .filter(|unless| table(unless, facts).truth == Truth::Unknown)
        .find_map(|unless| unless.conditions.iter().find(unknown))
        .map(key)
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
        told = told.and(condition(one, facts));
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

/// One condition.
pub(crate) fn condition(condition: &Condition, facts: &Facts<'_>) -> Told {
    match condition {
        Condition::Handle(patterns) => by_name(facts, |handle| matches(patterns, handle)),
        Condition::List(lists) => by_name(facts, |handle| lists.iter().any(|list| matches(&list.patterns, handle))),
        Condition::Owner(owners) => by_name(facts, |handle| owners.iter().any(|owner| **owner == *handle.owner())),
        Condition::Slug(slugs) => {
            by_handle(facts, |handle| handle.slug().is_some_and(|slug| slugs.iter().any(|one| **one == *slug)))
        }
        Condition::Kind(kind) => by_handle(facts, |handle| handle.slug().is_some() == (*kind == SenderKind::Agent)),
        Condition::HandleRegex(patterns) => {
            by_name(facts, |handle| patterns.iter().any(|pattern| pattern.regex.is_match(handle.as_str())))
        }
        Condition::Name(names) => {
            Told::fact(facts.name().is_some_and(|name| names.iter().any(|one| *one.folded == *name)))
        }
        Condition::NameRegex(patterns) => Told::fact(
            facts.request.name.as_ref().is_some_and(|name| patterns.iter().any(|one| one.regex.is_match(name.raw()))),
        ),
        Condition::MessageContains(parts) => {
            Told::fact(facts.message().is_some_and(|text| parts.iter().any(|part| text.contains(&*part.folded))))
        }
        Condition::MessageRegex(patterns) => Told::fact(
            facts
                .request
                .message
                .as_ref()
                .is_some_and(|text| patterns.iter().any(|one| one.regex.is_match(text.raw()))),
        ),
        Condition::MessageAbsent(absent) => Told::fact(facts.request.message.is_none() == *absent),
        Condition::MessageLongerThan(count) => {
            Told::fact(facts.request.message.as_ref().is_some_and(|text| text.raw().chars().nth(*count).is_some()))
        }
        Condition::Window(_) | Condition::AgeOver(_) if !facts.clock_is_sound() => Told::UNKNOWN,
        Condition::Window(windows) => windows.iter().fold(Told::FALSE, |told, window| {
            let open = window::is_open(window, facts.now).into();
            told.or(Told { truth: open, flips: window::next_flip(window, facts.now) })
        }),
        Condition::AgeOver(age) => match facts.inserted() {
            Inserted::Absent => Told::UNKNOWN,
            Inserted::SenselessUntil(at) => Told::until(Truth::Unknown, at),
            Inserted::At(at) if after(at, *age) <= facts.now => Told::TRUE,
            Inserted::At(at) => Told::until(Truth::False, after(at, *age)),
        },
        Condition::ContactsOver(count) => {
            facts.circumstances.contacts.map_or(Told::UNKNOWN, |contacts| Told::fact(contacts > *count))
        }
        Condition::History(history) => {
            HistoryKey::ALL.into_iter().filter_map(|key| history_key(history, key, facts)).fold(Told::TRUE, Told::and)
        }
    }
}

/// A right, or a wrong, that somebody has by name: not where the name may be somebody else's by now.
fn by_name(facts: &Facts<'_>, holds: impl FnOnce(&crate::model::Handle) -> bool) -> Told {
    let told = by_handle(facts, holds);
    let doubts = &facts.book.history.doubts;
    let doubted =
        |handle: &crate::model::Handle| doubts.unknown(handle.owner(), Fact::Identity, None, facts.now).is_some();
    if told.truth == Truth::True && facts.handle.is_some_and(doubted) { Told::UNKNOWN } else { told }
}

fn by_handle(facts: &Facts<'_>, holds: impl FnOnce(&crate::model::Handle) -> bool) -> Told {
    facts.handle.map_or(Told::UNKNOWN, |handle| Told::fact(holds(handle)))
}

/// Whether one of the patterns fits the handle.
pub(crate) fn matches(patterns: &PatternSet, handle: &crate::model::Handle) -> bool {
    patterns.literals.contains(handle)
        || handle.slug().is_some_and(|slug| {
            (!patterns.agents_of.is_empty() && patterns.agents_of.contains(handle.owner()))
                || (!patterns.slugs.is_empty() && patterns.slugs.contains(slug))
        })
        || patterns.globs.iter().any(|glob| {
            glob.literal_owner.as_ref().is_none_or(|owner| **owner == *handle.owner())
                && glob.matcher.is_match(handle.as_str())
        })
}

/// One key of `history = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryKey {
    ApprovedBefore,
    RejectedWithin,
    RemovedWithin,
    RequestsOver,
}

impl HistoryKey {
    pub(crate) const ALL: [HistoryKey; 4] =
        [HistoryKey::ApprovedBefore, HistoryKey::RejectedWithin, HistoryKey::RemovedWithin, HistoryKey::RequestsOver];
}

/// One key of `history`, if the table has it.
pub(crate) fn history_key(history: &HistoryConditions, key: HistoryKey, facts: &Facts<'_>) -> Option<Told> {
    let known = &facts.book.history;
    let owner = facts.handle.map(crate::model::Handle::owner);
    let told = match key {
        HistoryKey::ApprovedBefore => {
            let wanted = history.approved_before?;
            owner.map_or(Told::UNKNOWN, |owner| {
                let truth = known.approved(owner, facts.now);
                Told { truth: if wanted { truth } else { !truth }, flips: None }
            })
        }
        HistoryKey::RejectedWithin => {
            let within = history.rejected_within?;
            timed(owner, facts, |owner| known.rejected_within(owner, within, facts.now))
        }
        HistoryKey::RemovedWithin => {
            let within = history.removed_within?;
            timed(owner, facts, |owner| known.removed_within(owner, within, facts.now))
        }
        HistoryKey::RequestsOver => {
            let quota = history.requests_over?;
            timed(owner, facts, |owner| known.requests_over(owner, quota, &facts.request.id, facts.now))
        }
    };
    Some(told)
}

fn timed(owner: Option<&str>, facts: &Facts<'_>, ask: impl FnOnce(&str) -> Told) -> Told {
    match owner {
        Some(owner) if facts.clock_is_sound() => ask(owner),
        _ => Told::UNKNOWN,
    }
}

/// The condition's key in the rules file.
pub(crate) fn key(condition: &Condition) -> &'static str {
    match condition {
        Condition::Handle(_) => "handle",
        Condition::Owner(_) => "owner",
        Condition::Slug(_) => "slug",
        Condition::Kind(_) => "kind",
        Condition::HandleRegex(_) => "handle_regex",
        Condition::List(_) => "list",
        Condition::Name(_) => "name",
        Condition::NameRegex(_) => "name_regex",
        Condition::MessageContains(_) => "message_contains",
        Condition::MessageRegex(_) => "message_regex",
        Condition::MessageAbsent(_) => "message_absent",
        Condition::MessageLongerThan(_) => "message_longer_than",
        Condition::Window(_) => "window",
        Condition::AgeOver(_) => "age_over",
        Condition::ContactsOver(_) => "contacts_over",
        Condition::History(_) => "history",
    }
}
