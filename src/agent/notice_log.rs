//! Puts notices into the log, by the contract of [`crate::ops::log::events`]. The agent's span is around it already.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::core::notice::Notice;
use crate::config::settings::KeySource;
use crate::model::{AgentState, Answer, ContactRequest, StrangerText, Verdict};
use crate::ops::log::events;
use crate::phoenix::session::{Note, NoteLevel};
use crate::platform::{CallError, CallFault};
use crate::policy::{Decision, Mode};
use crate::secret;

fn shown(text: Option<&StrangerText>) -> Option<String> {
    text.map(ToString::to_string)
}

fn handle(request: &ContactRequest) -> Option<String> {
    shown(request.sender.original())
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The HTTP status behind a fault, if there was one.
fn status(error: &CallError) -> Option<u64> {
    match error.fault {
        CallFault::Malformed(status)
        | CallFault::Passing(status)
        | CallFault::Unreadable(status)
        | CallFault::InBetween(status) => Some(status.into()),
        CallFault::KeyRefused => Some(401),
        CallFault::Forbidden => Some(403),
        CallFault::NotFound => Some(404),
        CallFault::Conflict => Some(409),
        CallFault::Throttled => Some(429),
        CallFault::NoKey | CallFault::Unreachable | CallFault::NoAnswer | CallFault::TooLarge => None,
    }
}

/// Logs a decision at this level. It is a macro because `tracing` fixes the level at the call site.
macro_rules! decided {
    ($level:ident, $request:ident, $decision:ident, $in_shadow:ident) => {
        $level!(
            event = events::DECIDED,
            request = $request.id.as_str(),
            handle = handle($request),
            name = shown($request.name.as_ref()),
            verdict = $decision.verdict.as_str(),
            by = %$decision.by,
            policy = $decision.policy.short(),
            due = $decision.due.map(|due| format!("{due:.0}")),
            mode = if $in_shadow { "shadow" } else { "enforce" },
            "{} by {}", $decision.verdict, $decision.by
        )
    };
}

/// Whether all lines of this notice are at debug. Every request causes several such notices: if nobody reads them, not
/// even their values are made.
fn is_detail(notice: &Notice) -> bool {
    matches!(notice, Notice::Seen { .. } | Notice::Answering { .. } | Notice::ContactAdded { .. })
        || matches!(notice, Notice::Decided { decision, shadow, .. } if is_answered_at_once(decision, *shadow))
}

/// A request that is answered at once gets its one line when the answer ends.
fn is_answered_at_once(decision: &Decision, shadow: bool) -> bool {
    decision.verdict != Verdict::Defer && !shadow && decision.mode != Mode::Shadow && decision.due.is_none()
}

/// Reports the events whose lines were suppressed, and how many.
pub fn kept_back(lines: Vec<(&'static str, u64)>) {
    for (what, lines) in lines {
        warn!(
            event = events::LOG_KEPT_BACK,
            what, lines, "{lines} more lines of `{what}` within 10 s were not written"
        );
    }
}

/// Writes one notice of the agent whose key comes from `key` to the log.
pub fn write(notice: &Notice, key: &KeySource) {
    if is_detail(notice) && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    match notice {
        Notice::State { state, why } => state_changed(*state, why),
        Notice::Session(note) => session(note),
        Notice::Superseded(supersede) => {
            let why = shown(supersede.message.as_ref().or(supersede.reason.as_ref()));
            warn!(
                event = events::SUPERSEDED,
                why,
                code = shown(supersede.reason.as_ref()),
                "another client took this agent's connection"
            );
        }
        Notice::Listed { shown, new, pages, took } => {
            debug!(
                event = events::LISTED,
                pending = shown,
                pages,
                latency_ms = millis(*took),
                "listed {shown} pending, {new} new"
            );
        }
        Notice::IdentityUnknown { error } => {
            warn!(event = events::IDENTITY_UNKNOWN, status = status(error), why = %error, "could not verify whose key this is; retrying. Nothing is read or answered until then");
        }
        Notice::InBetween { error, again } => {
            let (status, why) = (status(error), error.to_string());
            if *again {
                debug!(event = events::BLOCKED_IN_BETWEEN, status, why, "{why}");
            } else {
                warn!(
                    event = events::BLOCKED_IN_BETWEEN,
                    status, why, "a server between doorman and the platform answers in its place; doorman keeps trying"
                );
            }
        }
        Notice::ListFailed { what, error } => {
            warn!(event = events::LISTING_FAILED, status = status(error), why = %error, "the list of {what} could not be read; it is read again later");
        }
        Notice::Seen { request, live } => {
            let via = if *live { "event" } else { "listing" };
            debug!(
                event = events::REQUEST_SEEN,
                request = request.id.as_str(),
                handle = handle(request),
                name = shown(request.name.as_ref()),
                via,
                "new contact request"
            );
        }
        Notice::Returned { request } => {
            warn!(
                event = events::REQUEST_SEEN,
                request = request.id.as_str(),
                handle = handle(request),
                name = shown(request.name.as_ref()),
                via = "listing",
                "the platform lists a settled request as pending again"
            );
        }
        Notice::Changed { request, before } => {
            warn!(
                event = events::REQUEST_CHANGED,
                request = request.id.as_str(),
                handle = handle(request),
                name = shown(request.name.as_ref()),
                before = handle(before),
                "this request changed on the platform; it is decided again"
            );
        }
        Notice::Decided { request, decision, shadow } => {
            let in_shadow = *shadow || decision.mode == Mode::Shadow;
            if is_answered_at_once(decision, *shadow) {
                decided!(debug, request, decision, in_shadow);
            } else {
                decided!(info, request, decision, in_shadow);
            }
        }
        Notice::Answering { request, answer, attempt } => {
            debug!(
                event = events::ANSWERING,
                request = request.id.as_str(),
                verdict = answer.as_str(),
                attempt,
                "the answer goes out"
            );
        }
        Notice::Answered { request, answer, by, outcome, attempts, latency } => {
            info!(
                event = events::ANSWERED,
                request = request.id.as_str(),
                handle = handle(request),
                name = shown(request.name.as_ref()),
                verdict = answer.as_str(),
                by = %by,
                outcome = outcome.as_str(),
                attempt = attempts,
                latency_ms = latency.map(millis),
                "{answer}: {outcome}"
            );
        }
        Notice::Retry { request, answer, attempts, error, unknown } => {
            let why =
                error.as_ref().map_or_else(|| "the platform's reply could not be read".to_owned(), ToString::to_string);
            if *unknown {
                warn!(
                    event = events::ANSWER_UNKNOWN,
                    request = request.id.as_str(),
                    verdict = answer.as_str(),
                    attempt = attempts,
                    why,
                    "the answer was sent; whether it arrived is not known"
                );
            } else {
                let status = error.as_ref().and_then(status);
                debug!(
                    event = events::ANSWER_RETRY,
                    request = request.id.as_str(),
                    verdict = answer.as_str(),
                    attempt = attempts,
                    status,
                    why,
                    "the platform did not take the answer; it is sent again later"
                );
            }
        }
        Notice::Refused { request, answer, error } => {
            warn!(
                event = events::ANSWER_REFUSED,
                request = request.id.as_str(),
                verdict = answer.as_str(),
                status = status(error),
                code = shown(error.code.as_ref()),
                why = %error,
                "the platform will not take this answer: the request stays pending"
            );
        }
        Notice::Person { request, verdict, person } => {
            let by = format!("person:{person}");
            match verdict.answer().map(Answer::as_str) {
                None => info!(
                    event = events::PERSON_ANSWERED,
                    request = request.id.as_str(),
                    handle = handle(request),
                    verdict = "hold",
                    by,
                    "hold by a person"
                ),
                // The answer's own line names the person.
                Some(word) => debug!(
                    event = events::PERSON_ANSWERED,
                    request = request.id.as_str(),
                    handle = handle(request),
                    verdict = word,
                    by,
                    "{word} by a person"
                ),
            }
        }
        Notice::Overdue { request, overdue } => {
            let by = format!("overdue:{overdue}");
            warn!(
                event = events::OVERDUE_NOTICE,
                request = request.id.as_str(),
                handle = handle(request),
                name = shown(request.name.as_ref()),
                by,
                "pending for longer than the rules allow"
            );
        }
        Notice::DeciderReplied { request, rule, reply, took } => {
            info!(
                event = events::DECIDER_REPLIED,
                request = request.id.as_str(),
                handle = handle(request),
                decider = reply.decider.as_str(),
                rule = rule.as_str(),
                verdict = reply.verdict.as_str(),
                reason = shown(reply.reason.as_ref()),
                latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "a decider said {}",
                reply.verdict
            );
        }
        Notice::DeciderFailed { decider, why, failures } => warn!(
            event = events::DECIDER_FAILED,
            decider = decider.as_str(),
            why = why.as_str(),
            failures,
            "a decider gives no reply: what it is asked about stays pending"
        ),
        Notice::DeciderRecovered { decider } => {
            info!(event = events::DECIDER_RECOVERED, decider = decider.as_str(), "a decider that failed answers again");
        }
        Notice::Settled { request, status } => match status {
            Some(status) => {
                info!(
                    event = events::SETTLED,
                    request = request.as_str(),
                    status = status.as_str(),
                    "settled elsewhere: {status}"
                )
            }
            None => info!(
                event = events::GONE,
                request = request.as_str(),
                "no longer listed; nobody said how it was settled"
            ),
        },
        Notice::ContactAdded { contact, request } => {
            let (id, handle) = (contact.id.as_str(), shown(contact.sender.original()));
            let (name, kind) = (shown(contact.name.as_ref()), contact.kind.as_str());
            // The line of the answer, or `contact_unexplained`, stands beside it.
            debug!(event = events::CONTACT_ADDED, contact = id, handle, name, kind, "a new contact");
            if let Some(request) = request {
                debug!(
                    event = events::CONTACT_MATCHED,
                    request = request.as_str(),
                    contact = id,
                    handle = shown(contact.sender.original()),
                    "by our answer"
                );
            }
        }
        Notice::ContactUnexplained { contact } => {
            warn!(
                event = events::CONTACT_UNEXPLAINED,
                contact = contact.id.as_str(),
                handle = shown(contact.sender.original()),
                name = shown(contact.name.as_ref()),
                kind = contact.kind.as_str(),
                "a new contact that no answer of doorman explains"
            );
        }
        Notice::InDoubt { requests, doubts } => {
            let number = |count: &usize| u64::try_from(*count).unwrap_or(u64::MAX);
            let (requests, doubts) = (number(requests), number(doubts));
            info!(
                event = events::IN_DOUBT,
                requests, doubts, "{requests} request(s) wait because of a doubt: see `doorman doubts`"
            );
        }
        Notice::OtherHolder { owner, basis } => {
            let (handle, why) = (owner.to_string(), basis.to_string());
            warn!(
                event = events::NAME_IN_DOUBT,
                handle,
                why,
                "somebody else may have this name by now: what hangs on it is in doubt, see `doorman doubts`"
            );
        }
        Notice::ContactsBaseline { contacts } => {
            let contacts = u64::try_from(*contacts).unwrap_or(u64::MAX);
            info!(event = events::CONTACTS_BASELINE, contacts, "the agent had {contacts} contacts before doorman");
        }
        Notice::ContactRemoved { contact, handle } => {
            info!(
                event = events::CONTACT_REMOVED,
                contact = contact.as_str(),
                handle = shown(handle.as_ref()),
                "a contact is gone"
            );
        }
        Notice::GuestExpired { contact, handle, request } => {
            info!(
                event = events::GUEST_EXPIRED,
                contact = contact.as_str(),
                handle = shown(handle.as_ref()),
                request = request.as_ref().map(|request| request.as_str()),
                "the end of a contact has come: it was removed"
            );
        }
        Notice::GuestNotRemoved { contact, handle, error, attempts } => {
            warn!(
                event = events::GUEST_NOT_REMOVED,
                contact = contact.as_str(),
                handle = shown(handle.as_ref()),
                attempt = attempts,
                why = error,
                "the end of a contact has come, and it could not be removed: tried again"
            );
        }
        Notice::GuestEnd { request, handle, ends_at, person } => {
            info!(
                event = events::GUEST_END_MOVED,
                handle = shown(handle.as_ref()),
                request = request.as_str(),
                ends_at = ends_at.map(|end| end.to_string()),
                by = format!("person:{person}"),
                "a person gave a guest another end, or lets the guest stay"
            );
        }
        Notice::GuestInDoubt { contact, request, doubt } => {
            warn!(
                event = events::GUEST_IN_DOUBT,
                contact = contact.id.as_str(),
                handle = shown(contact.sender.original()),
                request = request.as_str(),
                why = doubt.reason(),
                "a contact with an end is not removed by itself: somebody else may have made it"
            );
        }
        Notice::SettledAgainstPolicy { request, verdict, by } => {
            warn!(
                event = events::SETTLED_AGAINST_POLICY,
                request = request.id.as_str(),
                handle = handle(request),
                verdict = verdict.as_str(),
                by = by.to_string(),
                "somebody else approved a request that the rules did not approve"
            );
        }
        Notice::Paused { by } => {
            warn!(
                event = events::AGENT_PAUSED,
                by = by.to_string(),
                "paused: nothing is answered until `doorman resume`"
            );
        }
        Notice::Resumed { by } => info!(event = events::AGENT_RESUMED, by = by.to_string(), "resumed"),
        Notice::Throttled { wait } => {
            // The limiter of the host reports it once, at a higher level, for the whole process.
            debug!(event = events::THROTTLED, status = 429_u64, in_ms = millis(*wait), "this agent waits");
        }
        Notice::KeyRefused { error } => {
            let (source, why) = (secret::describe(key), error.to_string());
            if error.fault == CallFault::NoKey {
                let advice =
                    "no API key was found: put it there; doorman looks again by itself and at `doorman reload`";
                error!(event = events::KEY_REFUSED, source, why, "{advice}");
            } else {
                error!(
                    event = events::KEY_REFUSED,
                    source, why, "the platform refuses the API key: replace it there, then run `doorman reload`"
                );
            }
        }
        Notice::Identified { handle } => {
            debug!(event = events::IDENTIFIED, handle = shown(handle.as_ref()), "the key is this agent's");
        }
        Notice::LedgerRefused { why } => {
            error!(
                event = events::INTERNAL,
                why, "the ledger refused an entry; the request of that entry stays pending"
            );
        }
        Notice::Clock { sound: true, .. } => {
            info!(event = events::CLOCK_SOUND, "this machine's clock is trusted again")
        }
        Notice::Clock { sound: false, reference } => {
            let why = reference.map(|reference| format!("it should be about {reference:.0}"));
            warn!(
                event = events::CLOCK_UNSOUND,
                why, "this machine's clock is not trusted: conditions on time are unknown"
            );
        }
        Notice::Policy { hash: Some(hash) } => {
            debug!(event = events::POLICY_IN_FORCE, policy = hash.short(), "another policy is in force");
        }
        Notice::Policy { hash: None } => {
            error!(event = events::AGENT_WITHOUT_RULES, "no usable rules: everything stays pending")
        }
        Notice::InboxFull => {
            warn!(event = events::INBOX_FULL, "more is pending than fits into memory: a listing brings the rest later")
        }
    }
}

fn state_changed(state: AgentState, why: &str) {
    let state_word = state.as_str();
    match state {
        AgentState::Refused => warn!(event = events::STATE_CHANGED, state = state_word, why, "refused"),
        AgentState::Starting
        | AgentState::Live
        | AgentState::Away
        | AgentState::Yielded
        | AgentState::Polling
        | AgentState::Elsewhere => {
            info!(event = events::STATE_CHANGED, state = state_word, why, "{state}");
        }
    }
}

fn session(note: &Note) {
    let (event, why) = (note.name.as_str(), note.detail.as_str());
    match note.level {
        NoteLevel::Debug => debug!(event, why, "{why}"),
        NoteLevel::Warn => warn!(event, why, "{why}"),
    }
}
