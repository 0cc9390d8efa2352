//! The messages for an id or handle that does not name exactly one pending request.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use crate::ledger::read::{Filter, WantedContacts};
use crate::ledger::{LedgerAddress, LedgerReader, RecordedRequest};
use crate::model::{AgentId, Handle, Outcome, PersonTarget, RequestId, StrangerText, Verdict};
use crate::ops::control::wire::{DoubtRow, PendingRow};
use crate::policy::By;
use crate::policy::doubts::{Fact, SHOWN_MAX};

/// Most requests that are named in one message.
const NAMED_MAX: usize = 5;
/// How far back this looks for an answer.
const LATELY: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Several requests have this handle, or ids with this beginning.
pub(super) fn ambiguous(target: &str, rows: &[&PendingRow], now: Timestamp) -> String {
    let line = |row: &&PendingRow| {
        let text = |text: Option<&str>, max: usize| text.map(|text| StrangerText::new(text).shown(max));
        let handle = text(row.handle.as_deref(), 60).unwrap_or_else(|| "no handle".to_owned());
        let said = text(row.message.as_deref(), 60).map_or_else(String::new, |said| format!(", says “{said}”"));
        format!("  {}  {handle}, {} old{said}", row.request, age(row.inserted_at.unwrap_or(row.first_seen), now))
    };
    let lines: Vec<String> = rows.iter().take(NAMED_MAX).map(line).collect();
    let more = rows.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let or = if target.starts_with('@') { "" } else { ", or by `@` and the handle" };
    let target = StrangerText::new(target).shown(150);
    format!("`{target}` names {} pending requests: say which by its id{or}\n{}{more}", rows.len(), lines.join("\n"))
}

/// The id that a person means by its beginning, if only one id that a doubt rests on begins so.
pub(super) fn doubted(target: PersonTarget, rows: &[DoubtRow]) -> Result<PersonTarget, String> {
    let ids: BTreeSet<&str> = rows
        .iter()
        .filter(|row| [Fact::Rejected, Fact::Approved].iter().any(|fact| row.fact == fact.as_str()))
        .map(|row| row.subject.as_str())
        .collect();
    let Some(beginning) = target.beginning().filter(|text| !ids.contains(text)) else { return Ok(target) };
    let shown = StrangerText::new(beginning).shown(150);
    let begins: Vec<&str> = ids.iter().filter(|id| id.starts_with(beginning)).take(2).copied().collect();
    match begins.as_slice() {
        [] => Ok(target),
        // Among the ids that are left out, another one may have this beginning.
        [_] if rows.iter().any(|row| rows.iter().filter(|other| other.agent == row.agent).count() >= SHOWN_MAX) => {
            Err(format!("there are too many doubts to say which one `{shown}` is the beginning of: write the whole id"))
        }
        [only] => Ok(RequestId::parse(only).map_or(target, PersonTarget::Id)),
        [..] => Err(format!("several doubts rest on ids that begin with `{shown}`: write more of the one you mean")),
    }
}

/// The handle is not valid, so no command can name it. Requests that need a person often have such handles.
pub(super) fn not_typed(target: &str, rows: &[PendingRow]) -> Option<String> {
    let bare = target.strip_prefix('@').unwrap_or(target);
    let same = |handle: &str| {
        let shown = StrangerText::new(handle).to_string();
        [handle, &shown].into_iter().any(|one| one == target || one.strip_prefix('@').unwrap_or(one) == bare)
    };
    let is_it =
        |row: &&PendingRow| row.handle.as_deref().is_some_and(|handle| Handle::parse(handle).is_err() && same(handle));
    let ids: Vec<String> = rows.iter().filter(is_it).take(NAMED_MAX).map(|row| format!("`{}`", row.request)).collect();
    if ids.is_empty() {
        return None;
    }
    let target = StrangerText::new(target).shown(150);
    Some(format!("`{target}` is not a plain handle, so it cannot name a request: use the id, {}", ids.join(" or ")))
}

/// Who answered it already, and when, according to the ledger. Reads the ledger, so it blocks.
/// `for_a_time`: an approval with an end was wanted.
pub(super) fn already(
    path: &LedgerAddress,
    target: &str,
    agent: Option<AgentId>,
    for_a_time: bool,
    now: Timestamp,
) -> Option<String> {
    let reader = LedgerReader::open(path).ok()?;
    let meant = PersonTarget::parse(target);
    let by_id = meant.id().and_then(|id| reader.request(&id).ok().flatten());
    let recorded = by_id.or_else(|| {
        let handle = Some(meant.handle()?.to_string());
        let since = now.checked_sub(LATELY).ok();
        let filter = Filter { handle, agent: agent.clone(), since, limit: Some(1), ..Filter::default() };
        reader.requests(&filter).ok()?.pop()
    });
    let without_end = for_a_time && recorded.as_ref().is_none_or(|one| one.ends_at.is_none());
    let handle = without_end.then(|| meant.handle()).flatten();
    if let Some(handle) = handle.filter(|handle| is_contact(&reader, agent.as_ref(), handle)) {
        return Some(format!(
            "@{handle} is a contact without an end, and `--for` gives an end only to the contact that the approval makes: \
             `doorman revoke @{handle}`, and approve the next request of @{handle} with `--for`"
        ));
    }
    let recorded = recorded?;
    Some(sentence(target, &recorded, now))
}

fn is_contact(reader: &LedgerReader, agent: Option<&AgentId>, handle: &Handle) -> bool {
    let fits = |text: Option<&str>| text.and_then(|text| Handle::parse(text).ok()).is_some_and(|one| one == *handle);
    let wanted = WantedContacts { agent, owner: Some(handle.owner()), fits: Some(&fits), ..WantedContacts::default() };
    let mut found = false;
    let read = reader.each_contact(&wanted, |_| {
        found = true;
        ControlFlow::Break(())
    });
    read.is_ok() && found
}

fn sentence(target: &str, recorded: &RecordedRequest, now: Timestamp) -> String {
    let target = StrangerText::new(target).shown(150);
    let done = |verdict: Verdict| match verdict {
        Verdict::Approve => "approved",
        Verdict::Reject => "rejected",
        Verdict::Defer => "deferred",
    };
    match (&recorded.answer, &recorded.settled) {
        (Some(answer), _) if matches!(answer.outcome, Some(Outcome::Confirmed(_) | Outcome::Presumed(_))) => {
            let by = match &recorded.by {
                Some(By::Person(person)) => person.to_string(),
                Some(by) => format!("`{by}`"),
                None => "`doorman`".to_owned(),
            };
            let ago = age(answer.at, now);
            let said = done(answer.answer.verdict());
            if let Some(gone) = removed(recorded, now) {
                return format!(
                    "`{target}` was {said} by {by}, {ago} ago, and the contact was removed {gone}: a request is answered once, so \
                     that only a new one can be approved"
                );
            }
            let by_handle = match (recorded.ends_at, recorded.request.sender.handle()) {
                (Some(_), Some(handle)) => {
                    format!(
                        ": a guest, whose end `doorman approve @{handle} --for TIME` moves and `doorman approve @{handle}` lifts"
                    )
                }
                (Some(_), None) | (None, _) => String::new(),
            };
            format!("`{target}` is already {said} by {by}, {ago} ago{by_handle}")
        }
        (_, Some(settled)) if settled == "gone" => {
            format!("`{target}` is no longer pending: the platform does not list it any more")
        }
        (_, Some(settled)) => {
            let settled = StrangerText::new(settled).shown(40);
            format!("`{target}` is no longer pending: it was settled by somebody else ({settled})")
        }
        (_, None) => format!("`{target}` is on record, but not pending now: `doorman history` says more"),
    }
}

/// When and by whom the contact that came of a request was removed, if it was.
fn removed(recorded: &RecordedRequest, now: Timestamp) -> Option<String> {
    let ago = |at| age(at, now);
    match &recorded.removed {
        Some(removed) => Some(match removed.by.person() {
            Some(person) => format!("{} ago by {}", ago(removed.at), StrangerText::new(person.name()).shown(60)),
            None => format!("{} ago, since its end had come", ago(removed.at)),
        }),
        None => recorded.contact_removed_at.map(|at| format!("{} ago, not by doorman", ago(at))),
    }
}

/// An age in one unit.
fn age(at: Timestamp, now: Timestamp) -> String {
    match now.duration_since(at).as_secs().max(0) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, handle: &str, message: &str) -> PendingRow {
        PendingRow {
            request: id.to_owned(),
            agent: AgentId::parse("a").unwrap(),
            handle: Some(handle.to_owned()),
            name: None,
            message: Some(message.to_owned()),
            inserted_at: None,
            first_seen: Timestamp::from_second(1_000).unwrap(),
            verdict: None,
            by: None,
            due: None,
            doubts: Vec::new(),
            replies: Vec::new(),
            stage: "deferred".to_owned(),
            held_by: None,
        }
    }

    #[test]
    fn several_are_distinguished_by_age_and_message() {
        let rows = [row("r-1", "bob", "hello"), row("r-2", "bob", "again\n\u{1b}[2J")];
        let now = Timestamp::from_second(1_190).unwrap();
        assert_eq!(
            ambiguous("@bob", &rows.iter().collect::<Vec<_>>(), now),
            "`@bob` names 2 pending requests: say which by its id\n  r-1  bob, 3 min old, says “hello”\n  \
             r-2  bob, 3 min old, says “again\\n\\u{1b}[2J”"
        );
    }

    #[test]
    fn a_handle_that_cannot_name_a_request_is_answered_with_ids() {
        let rows = [row("r-1", "ünïcode", "x"), row("r-2", "@@x", "x"), row("r-3", "bob", "x")];
        for (target, id) in [("ünïcode", "`r-1`"), ("@ünïcode", "`r-1`"), ("@@x", "`r-2`")] {
            assert!(not_typed(target, &rows).unwrap().ends_with(id), "{target}");
        }
        assert_eq!(not_typed("@bob", &rows), None);
    }
}
