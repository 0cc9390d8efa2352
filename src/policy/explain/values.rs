//! What a condition wanted, and what it saw, as short texts. Strangers' text leaves here escaped.

use jiff::{SignedDuration, Timestamp};

use crate::model::{ContactRequest, Handle, Sender, StrangerText};
use crate::policy::Truth;
use crate::policy::book::charges::Used;
use crate::policy::doubts::Fact;
use crate::policy::evaluate::conditions::{HistoryKey, Told};
use crate::policy::evaluate::facts::{Facts, Inserted};
use crate::policy::overdue;
use crate::policy::rules::{Condition, HistoryConditions, Limit, LimitBy, PatternSet, Quota, SenderKind};

/// Most values of one key that are shown.
const VALUES_MAX: usize = 5;
/// Said wherever time cannot be believed.
pub(super) const CLOCK: &str = "the clock cannot be believed";
const ABSENT: &str = "absent";

/// Whom the request says it is from.
pub(super) fn sender(request: &ContactRequest) -> String {
    request.sender.original().map_or_else(|| "nobody named".to_owned(), ToString::to_string)
}

pub(super) fn handle(facts: &Facts<'_>) -> String {
    match &facts.request.sender {
        Sender::Absent => ABSENT.to_owned(),
        Sender::Plain { handle, .. } => handle.to_string(),
        Sender::Odd { original, problem } => format!("`{original}`: {problem}"),
    }
}

pub(super) fn now(facts: &Facts<'_>) -> String {
    if facts.clock_is_sound() { moment(facts.now) } else { CLOCK.to_owned() }
}

/// To the second.
pub(super) fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// As a rules file writes it, in days where it is whole days.
pub(super) fn duration(length: SignedDuration) -> String {
    const DAY: i64 = 86_400;
    if length.as_secs() >= DAY && length.as_secs() % DAY == 0 {
        return format!("{}d", length.as_secs() / DAY);
    }
    let length = if length.as_secs() == 0 { length } else { SignedDuration::from_secs(length.as_secs()) };
    format!("{length:#}")
}

pub(super) fn quota(quota: Quota) -> String {
    format!("at most {} in {}", quota.count, duration(quota.per))
}

pub(super) fn limit(limit: &Limit) -> String {
    let by = match limit.by {
        LimitBy::Owner => "owner",
        LimitBy::Handle => "handle",
        LimitBy::Rule => "rule",
    };
    format!("{} by {by}", quota(limit.quota))
}

pub(super) fn used(limit: &Limit, used: &Used, handle: &Handle, facts: &Facts<'_>) -> String {
    if !facts.clock_is_sound() {
        return CLOCK.to_owned();
    }
    let bucket = match limit.by {
        LimitBy::Owner => format!(" for `{}`", handle.owner()),
        LimitBy::Handle => format!(" for `{handle}`"),
        LimitBy::Rule => String::new(),
    };
    let frees = used.frees.map(|at| format!(", the next place is free at {}", moment(at))).unwrap_or_default();
    if used.count < limit.quota.count as usize {
        return format!("the record does not reach back far enough{frees}");
    }
    format!("{} taken{bucket}{frees}", used.count)
}

pub(super) fn pending_for(facts: &Facts<'_>) -> String {
    overdue::pending_for(facts).map_or_else(|| "it is not known since when".to_owned(), duration)
}

/// What stands in the rules file.
pub(super) fn wanted(condition: &Condition) -> String {
    match condition {
        Condition::Handle(patterns) => self::patterns(patterns),
        Condition::Owner(texts) | Condition::Slug(texts) => some(texts.iter().map(|text| text.to_string())),
        Condition::Kind(SenderKind::User) => "user".to_owned(),
        Condition::Kind(SenderKind::Agent) => "agent".to_owned(),
        Condition::HandleRegex(patterns) | Condition::NameRegex(patterns) | Condition::MessageRegex(patterns) => {
            some(patterns.iter().map(|pattern| pattern.text.to_string()))
        }
        Condition::List(lists) => some(lists.iter().map(|list| list.name.to_string())),
        Condition::Name(texts) | Condition::MessageContains(texts) => {
            some(texts.iter().map(|text| text.text.to_string()))
        }
        Condition::MessageAbsent(absent) => absent.to_string(),
        Condition::MessageLongerThan(count) => format!("more than {count} characters"),
        Condition::Window(windows) => some(windows.iter().map(|window| window.name.to_string())),
        Condition::AgeOver(age) => duration(*age),
        Condition::ContactsOver(count) => format!("more than {count}"),
        Condition::History(_) => String::new(),
    }
}

fn patterns(set: &PatternSet) -> String {
    let mut all: Vec<String> = set.literals.iter().map(ToString::to_string).collect();
    all.extend(set.agents_of.iter().map(|owner| format!("{owner}/*")));
    all.extend(set.slugs.iter().map(|slug| format!("*/{slug}")));
    all.extend(set.globs.iter().map(|glob| glob.text.to_string()));
    all.sort_unstable();
    some(all.into_iter())
}

fn some(values: impl ExactSizeIterator<Item = String>) -> String {
    let more = values.len().saturating_sub(VALUES_MAX);
    let mut text = values.take(VALUES_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

/// What there was.
pub(super) fn saw(condition: &Condition, facts: &Facts<'_>) -> String {
    let text = |text: &Option<StrangerText>| text.as_ref().map_or_else(|| ABSENT.to_owned(), ToString::to_string);
    match condition {
        Condition::Handle(_) | Condition::HandleRegex(_) | Condition::List(_) => handle(facts),
        Condition::Owner(_) => facts.handle.map_or_else(|| handle(facts), |handle| handle.owner().to_owned()),
        Condition::Slug(_) => facts
            .handle
            .map_or_else(|| handle(facts), |handle| handle.slug().map_or("none: a user", |slug| slug).to_owned()),
        Condition::Kind(_) => facts
            .handle
            .map_or_else(|| handle(facts), |handle| if handle.slug().is_some() { "agent" } else { "user" }.to_owned()),
        Condition::Name(_) | Condition::NameRegex(_) => text(&facts.request.name),
        Condition::MessageContains(_) | Condition::MessageRegex(_) => text(&facts.request.message),
        Condition::MessageAbsent(_) => if facts.request.message.is_some() { "a message" } else { ABSENT }.to_owned(),
        Condition::MessageLongerThan(_) => facts
            .request
            .message
            .as_ref()
            .map_or_else(|| ABSENT.to_owned(), |text| format!("{} characters", text.raw().chars().count())),
        Condition::Window(_) | Condition::AgeOver(_) if !facts.clock_is_sound() => CLOCK.to_owned(),
        Condition::Window(windows) => some(windows.iter().map(|window| {
            let local = window.tz.to_datetime(facts.now);
            format!("{} {}", local.strftime("%a %Y-%m-%d %H:%M"), window.tz.iana_name().unwrap_or("local"))
        })),
        Condition::AgeOver(_) => match facts.inserted() {
            Inserted::At(at) => duration(facts.now.duration_since(at).max(SignedDuration::ZERO)),
            Inserted::Absent => "no `inserted_at` that makes sense".to_owned(),
            Inserted::SenselessUntil(_) => "an `inserted_at` in the future".to_owned(),
        },
        Condition::ContactsOver(_) => {
            facts.circumstances.contacts.map_or_else(|| "not known".to_owned(), |count| count.to_string())
        }
        Condition::History(_) => String::new(),
    }
}

/// Key, wanted and saw of one key of `history`.
pub(super) fn history(
    history: &HistoryConditions,
    key: HistoryKey,
    told: Told,
    facts: &Facts<'_>,
) -> (&'static str, String, String) {
    let within = |length: Option<SignedDuration>| length.map(duration).unwrap_or_default();
    let (name, wanted) = match key {
        HistoryKey::ApprovedBefore => {
            ("history.approved_before", history.approved_before.unwrap_or_default().to_string())
        }
        HistoryKey::RejectedWithin => ("history.rejected_within", within(history.rejected_within)),
        HistoryKey::RemovedWithin => ("history.removed_within", within(history.removed_within)),
        HistoryKey::RequestsOver => (
            "history.requests_over",
            history
                .requests_over
                .map(|quota| format!("more than {} in {}", quota.count, duration(quota.per)))
                .unwrap_or_default(),
        ),
    };
    let Some(owner) = facts.handle.map(Handle::owner) else { return (name, wanted, handle(facts)) };
    if told.truth == Truth::Unknown {
        let timed = key != HistoryKey::ApprovedBefore && !facts.clock_is_sound();
        let fact = match key {
            HistoryKey::ApprovedBefore => Some(Fact::Identity),
            HistoryKey::RejectedWithin => Some(Fact::Rejected),
            HistoryKey::RemovedWithin => Some(Fact::Removed),
            HistoryKey::RequestsOver => None,
        };
        let doubt = fact.and_then(|fact| facts.book.history.doubts.of(owner, fact).next());
        let saw = match doubt {
            _ if timed => CLOCK.to_owned(),
            Some(doubt) => format!("in doubt since {}: {}", moment(doubt.since), doubt.basis),
            None => "the record does not reach back far enough".to_owned(),
        };
        return (name, wanted, saw);
    }
    let holds = told.truth == Truth::True;
    let saw = match key {
        HistoryKey::ApprovedBefore => {
            let approved = facts.book.history.approved(owner, facts.now) == Truth::True;
            format!("`{owner}` was {} before", if approved { "approved" } else { "not approved" })
        }
        HistoryKey::RejectedWithin => {
            format!("`{owner}` was {} in that time", if holds { "rejected" } else { "not rejected" })
        }
        HistoryKey::RemovedWithin => {
            format!("a contact of `{owner}` was {} in that time", if holds { "removed" } else { "not removed" })
        }
        HistoryKey::RequestsOver => {
            let per = history.requests_over.map(|quota| quota.per).unwrap_or_default();
            let count = facts.book.history.requests_within(owner, per, &facts.request.id, facts.now).count();
            format!("{count} others by `{owner}`")
        }
    };
    (name, wanted, saw)
}
