//! The past decided again under another policy: every recorded request at the times at which it would have been
//! decided, with limits, windows, waits and history simulated in a policy state of their own.
//!
//! The simulation assumes: an answer is sent and applied at the moment of its decision; a pause is resumed at once (and
//! counted); a request that a person or somebody else settled is pending only until then. What is not on record (the
//! number of contacts) is unknown, as it is to a daemon that cannot list them. Who was a contact is taken from the
//! record, as of the moment at which a request came. What a decider said of a request counts for every rule that asks this
//! decider, whatever else that rule says: so a new `may` can be tried on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ask::DeciderVerdict;
use super::{By, Circumstances, Decision, Policy, PolicyState, ReceivingAgent};
use crate::document::in_words;
use crate::model::{ContactRequest, Outcome, RequestId, StrangerText, Verdict};
use crate::policy::state::EndedAnswer;

/// Most decisions for one request: enough for a window that opens and closes for three years.
const DECISIONS_MAX: u32 = 2_500;
/// The policy state is pruned after this many decisions.
const PRUNE_EVERY: usize = 1_024;

/// One request as the record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// As first seen.
    pub request: ContactRequest,
    /// When it was first seen, and what else is known.
    pub circumstances: Circumstances,
    /// The last verdict about it, if there was one.
    pub verdict: Option<Verdict>,
    /// Who or what gave it.
    pub by: Option<By>,
    /// When the answer went out.
    pub answered_at: Option<Timestamp>,
    /// The outcome of the answer.
    pub outcome: Option<Outcome>,
    /// For how long it was approved, if that was for a time: a guest does not count as approved before.
    pub lasts: Option<SignedDuration>,
    /// The verdicts of deciders about it, and when they were given.
    pub replies: Vec<(Timestamp, DeciderVerdict)>,
    /// When it ended without this policy: a person or somebody else answered, or the sender cancelled it.
    pub ended: Option<Timestamp>,
}

impl Recorded {
    /// Whether a person answered through doorman.
    pub fn by_person(&self) -> bool {
        matches!(self.by, Some(By::Person(_)))
    }
}

/// A verdict, and who or what gave it. Of an approval for a time, also for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GivenVerdict {
    /// `defer` if there was no verdict.
    pub verdict: Verdict,
    /// Absent if there was no verdict.
    pub by: Option<By>,
    /// After how many seconds the contact ends; absent if it has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_s: Option<i64>,
}

impl GivenVerdict {
    /// How long the contact stays, for people: `7d`.
    pub fn lasts(&self) -> Option<String> {
        self.for_s.map(|seconds| in_words(SignedDuration::from_secs(seconds)))
    }
}

/// A request that would meet another verdict, or be approved for another time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictChange {
    /// Which.
    pub request: RequestId,
    /// The sender as received, escaped.
    pub handle: Option<String>,
    /// The sender's name, escaped.
    pub name: Option<String>,
    /// The sender's message, escaped.
    pub message: Option<String>,
    /// When it was first seen.
    pub received_at: Timestamp,
    /// The verdict on record.
    pub was: GivenVerdict,
    /// The verdict of the other policy.
    pub now: GivenVerdict,
}

/// The result of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// New approvals first, then new rejections, then what would be left pending; each oldest first.
    pub changes: Vec<VerdictChange>,
    /// How many requests were decided.
    pub requests: usize,
    /// How often `approvals_max` would have paused the agent.
    pub pauses: usize,
}

/// The next step for a request; at the same moment, the oldest request comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ReplayStep {
    at: Timestamp,
    /// An end comes after a decision of the same moment.
    ends: bool,
    index: usize,
}

#[derive(Debug, Clone)]
struct Course {
    said: Option<GivenVerdict>,
    over: bool,
    decisions: u32,
}

/// Decides `recorded` (of this agent, in order of first seen) again under `policy`, up to the moment `until`.
/// `progress` is called with the number of requests that were decided at least once.
pub fn replay(
    policy: &Policy,
    asked: &ReceivingAgent,
    recorded: &[Recorded],
    until: Timestamp,
    mut progress: impl FnMut(usize),
) -> Replay {
    let mut policy_state = PolicyState::default();
    policy_state.set_receiving_agent(asked.clone());
    policy_state.prune(policy, recorded.first().map_or(until, |first| first.circumstances.first_seen));
    let mut queue: BinaryHeap<Reverse<ReplayStep>> = BinaryHeap::with_capacity(recorded.len());
    for (index, one) in recorded.iter().enumerate() {
        queue.push(Reverse(ReplayStep { at: one.circumstances.first_seen, ends: false, index }));
        for (at, _) in &one.replies {
            queue.push(Reverse(ReplayStep { at: (*at).max(one.circumstances.first_seen), ends: false, index }));
        }
        if let Some(at) = one.ended {
            let at = at.max(one.circumstances.first_seen);
            queue.push(Reverse(ReplayStep { at, ends: true, index }));
        }
    }
    let mut courses = vec![Course { said: None, over: false, decisions: 0 }; recorded.len()];
    let mut replay = Replay { requests: recorded.len(), ..Replay::default() };
    let (mut first_looks, mut decisions) = (0, 0_usize);
    while let Some(Reverse(event)) = queue.pop() {
        let (one, course) = (&recorded[event.index], &mut courses[event.index]);
        if event.at > until {
            break;
        }
        if course.over {
            continue;
        }
        let handle = one.request.sender.handle();
        if event.ends {
            course.over = true;
            if one.by_person() {
                course.said = Some(was(one));
                if let (Some(verdict), Some(outcome)) = (one.verdict, one.outcome) {
                    policy_state.settle_as(
                        &one.request.id,
                        handle,
                        EndedAnswer {
                            verdict,
                            outcome,
                            guest: one.lasts.is_some(),
                            by_person: true,
                            sent: event.at,
                            first_seen: event.at,
                        },
                        event.at,
                    );
                }
            }
            policy_state.forget(&one.request.id);
            continue;
        }
        if course.decisions == 0 {
            first_looks += 1;
            progress(first_looks);
            policy_state.seen(&one.request.id, handle, event.at);
        }
        for (_, reply) in one.replies.iter().filter(|(at, _)| *at <= event.at) {
            policy_state.add_reply(&one.request.id, DeciderVerdict { key: None, ..reply.clone() });
        }
        course.decisions += 1;
        decisions += 1;
        if decisions.is_multiple_of(PRUNE_EVERY) {
            policy_state.prune(policy, event.at);
        }
        let decision = decide(policy, one, &mut policy_state, event.at, &mut replay.pauses);
        course.said = Some(as_said(decision.verdict, Some(decision.by.clone()), decision.lasts));
        if decision.verdict.answer().is_some() && decision.due.is_none() {
            answer(&decision, one, &mut policy_state, event.at);
            course.over = true;
            continue;
        }
        let again = decision.due.into_iter().chain(decision.reconsider_at).min();
        if let Some(at) = again.filter(|_| course.decisions < DECISIONS_MAX) {
            queue.push(Reverse(ReplayStep { at: at.max(event.at), ends: false, index: event.index }));
        }
    }
    replay.changes = changes(recorded, &courses);
    replay
}

fn decide(
    policy: &Policy,
    one: &Recorded,
    policy_state: &mut PolicyState,
    at: Timestamp,
    pauses: &mut usize,
) -> Decision {
    let mut decision = policy.decide(&one.request, &one.circumstances, policy_state, at);
    if decision.pauses {
        *pauses += 1;
        policy_state.resume();
        decision = policy.decide(&one.request, &one.circumstances, policy_state, at);
    }
    if let Some(notice) = &decision.notify {
        policy_state.notified(&one.request.id, notice);
    }
    decision
}

fn answer(decision: &Decision, one: &Recorded, policy_state: &mut PolicyState, at: Timestamp) {
    let (id, handle) = (&one.request.id, one.request.sender.handle());
    policy_state.reserve(id, handle, decision.verdict, &decision.by, &decision.charges, at);
    let outcome = decision.verdict.answer().map_or(Outcome::Unknown, Outcome::Confirmed);
    policy_state.settle_as(
        id,
        handle,
        EndedAnswer {
            verdict: decision.verdict,
            outcome,
            guest: decision.lasts.is_some(),
            by_person: false,
            sent: at,
            first_seen: at,
        },
        at,
    );
}

fn was(one: &Recorded) -> GivenVerdict {
    as_said(one.verdict.unwrap_or(Verdict::Defer), one.by.clone(), one.lasts)
}

fn as_said(verdict: Verdict, by: Option<By>, lasts: Option<SignedDuration>) -> GivenVerdict {
    GivenVerdict { verdict, by, for_s: lasts.filter(|_| verdict == Verdict::Approve).map(|lasts| lasts.as_secs()) }
}

fn changes(recorded: &[Recorded], courses: &[Course]) -> Vec<VerdictChange> {
    let shown = |text: Option<&StrangerText>| text.map(ToString::to_string);
    let mut changes: Vec<VerdictChange> = recorded
        .iter()
        .zip(courses)
        .filter_map(|(one, course)| {
            let (was, now) = (was(one), course.said.clone()?);
            ((was.verdict, was.for_s) != (now.verdict, now.for_s)).then(|| VerdictChange {
                request: one.request.id.clone(),
                handle: shown(one.request.sender.original()),
                name: shown(one.request.name.as_ref()),
                message: shown(one.request.message.as_ref()),
                received_at: one.circumstances.first_seen,
                was,
                now,
            })
        })
        .collect();
    changes.sort_by_key(|change| (change.now.verdict, change.received_at));
    changes
}

/// Whether a recorded `by` is this rule, so that its limit was charged.
#[cfg(test)]
mod tests;
