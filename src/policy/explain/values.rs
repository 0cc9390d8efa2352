//! What a condition wanted, and what it saw, as short texts. Strangers' text leaves here escaped.

use jiff::{SignedDuration, Timestamp};

use crate::model::{ContactRequest, Handle, Sender};
use crate::policy::doubts::Fact;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::overdue;
use crate::policy::rules::{Limit, LimitBy, Quota, Rule};
use crate::policy::state::charges::LimitUse;
use crate::policy::text::TextForms;

/// Most values of one key that are shown.
const VALUES_MAX: usize = 5;
/// The text for an unsound clock.
pub(crate) const CLOCK: &str = "the clock is unsound";
/// The text for a part of the past that is not known.
pub(crate) const RECORD: &str = "the record does not reach back far enough";
pub(crate) const ABSENT: &str = "absent";

/// The sender as the request names it.
pub(crate) fn sender(request: &ContactRequest) -> String {
    request.sender.original().map_or_else(|| "a sender without a handle".to_owned(), ToString::to_string)
}

/// The handle, and whether somebody else may have it by now.
pub(crate) fn handle(inputs: &Inputs<'_>) -> String {
    match &inputs.request.sender {
        Sender::Absent => ABSENT.to_owned(),
        Sender::Plain { handle, .. } => match other_holder(inputs) {
            Some(doubt) => format!("{handle}, {doubt}"),
            None => handle.to_string(),
        },
        Sender::Odd { original, problem } => format!("`{original}`: {problem}"),
    }
}

/// A remark if it is in doubt who has the sender's name.
pub(crate) fn other_holder(inputs: &Inputs<'_>) -> Option<String> {
    let doubt = inputs.policy_state.history.doubts.of(inputs.handle?.owner(), Fact::Identity).next()?;
    Some(format!("in doubt since {}: {}", moment(doubt.since, inputs), doubt.basis))
}

pub(crate) fn now(inputs: &Inputs<'_>) -> String {
    if inputs.clock_is_sound() { moment(inputs.now, inputs) } else { CLOCK.to_owned() }
}

/// A time, to the second: in the zone that the reader has, else in UTC, for machines.
pub(crate) fn moment(at: Timestamp, inputs: &Inputs<'_>) -> String {
    match inputs.zone {
        Some(zone) => zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => utc(at),
    }
}

/// A time in UTC, to the second.
pub(crate) fn utc(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// The end of a rule. A day is one in UTC, wherever the reader is.
pub(crate) fn until(rule: &Rule, inputs: &Inputs<'_>) -> Option<String> {
    match (rule.until_day, rule.until) {
        (Some(day), _) if inputs.zone.is_some() => Some(format!("{day}, a day in UTC")),
        (Some(day), _) => Some(day.to_string()),
        (None, end) => end.map(|end| moment(end, inputs)),
    }
}

/// A duration as a rules file writes it, in days if it is a whole number of days.
pub(crate) fn duration(length: SignedDuration) -> String {
    const DAY: i64 = 86_400;
    if length.as_secs() >= DAY && length.as_secs() % DAY == 0 {
        return format!("{}d", length.as_secs() / DAY);
    }
    let length = if length.as_secs() == 0 { length } else { SignedDuration::from_secs(length.as_secs()) };
    format!("{length:#}")
}

pub(crate) fn quota(quota: Quota) -> String {
    format!("at most {} in {}", quota.count, duration(quota.per))
}

pub(crate) fn limit(limit: &Limit) -> String {
    format!("{} by {}", quota(limit.quota), limit.by.as_str())
}

pub(crate) fn used(limit: &Limit, used: &LimitUse, handle: &Handle, inputs: &Inputs<'_>) -> String {
    if !inputs.clock_is_sound() {
        return CLOCK.to_owned();
    }
    let bucket = match limit.by {
        LimitBy::Owner => format!(" for `{}`", handle.owner()),
        LimitBy::Handle => format!(" for `{handle}`"),
        LimitBy::Rule => String::new(),
    };
    let frees = used.frees.map(|at| format!(", the next place is free at {}", moment(at, inputs))).unwrap_or_default();
    if used.count < limit.quota.count as usize {
        return format!("{RECORD}{frees}");
    }
    format!("{} taken{bucket}{frees}", used.count)
}

pub(crate) fn pending_for(inputs: &Inputs<'_>) -> String {
    overdue::pending_for(inputs).map_or_else(|| "unknown since when".to_owned(), duration)
}

/// The first few of many values.
pub(crate) fn some(values: impl ExactSizeIterator<Item = String>) -> String {
    let more = values.len().saturating_sub(VALUES_MAX);
    let mut text = values.take(VALUES_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

/// A stranger's text, escaped, and the forms that it is compared in if they look different.
pub(crate) fn text(text: Option<&TextForms<'_>>, disclosing: bool) -> String {
    text.map_or_else(|| ABSENT.to_owned(), |text| text.shown(disclosing))
}
