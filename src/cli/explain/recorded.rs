//! A request on record: what happened, what today's rules say, and what would happen otherwise.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::shapes::{
    DeciderReplyView, EndMovedView, ExplainOutput, PausedView, RecordView, RemovedView, SettlementView, VerdictView,
};
use super::{Args, imagined, sources};
use crate::cli::ledger::fault;
use crate::cli::{CliError, Global, agents};
use crate::clock::Clock;
use crate::ledger::read::{RecordedDecision, RowMoment, SettlementRecord};
use crate::ledger::{HistoryReach, LedgerReader, RecordedRequest, RestoreReach};
use crate::model::{AgentId, Handle, RequestId, Sender};
use crate::policy::explain::{Explanation, explain};
use crate::policy::{By, Circumstances, ClockHealth, Mode, Policy, PolicyState};

/// Older requests of a handle that are named.
const OLDER_NAMED: usize = 3;
/// Settlements of doubts that are shown.
const SETTLEMENTS_SHOWN: usize = 5;

/// How far back the record must be read for this policy.
pub(super) fn reach(policy: &Policy) -> RestoreReach {
    let history = policy.history_reach().map(|reach| match reach {
        SignedDuration::MAX => HistoryReach::Ever,
        within => HistoryReach::Within(within),
    });
    let approvals = policy.approvals_max.map(|quota| quota.per);
    RestoreReach { charges: policy.charge_reach().unwrap_or_default(), approvals, history, merged: true }
}

/// The policy state of the agent at that moment, as far as this policy needs it.
pub(super) fn policy_state(
    global: &Global,
    reader: &LedgerReader,
    agent: &AgentId,
    recorded: Option<&RecordedRequest>,
    sender: &Sender,
    policy: &Policy,
    moment: RowMoment,
) -> Result<PolicyState, CliError> {
    let owner = sender.handle().map(|handle| handle.owner());
    let memory = reader.state_at(agent, recorded, owner, reach(policy), moment).map_err(|error| fault(&error))?;
    let mut state = PolicyState::restore_for(memory, policy, moment.at);
    state.set_receiving_agent(agents::receiving(agent, global));
    Ok(state)
}

/// The last decision on a request of this agent.
pub(super) fn last_decision(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
) -> Result<Option<RecordedDecision>, CliError> {
    let decisions = reader.decisions_of(&recorded.request.id).map_err(|error| fault(&error))?;
    Ok(decisions.into_iter().rfind(|one| one.agent == recorded.agent))
}

/// What happened: the record, then the conditions as they were, then what today's rules would say. `zone`: of the times in the
/// conditions, if not UTC.
pub(super) fn of_recorded(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    older: &[RequestId],
    zone: Option<&TimeZone>,
    global: &Global,
) -> Result<ExplainOutput, CliError> {
    let decision = last_decision(reader, recorded)?;
    let rules = decision.as_ref().map(|decision| VerdictView {
        verdict: decision.verdict,
        by: decision.by.clone(),
        policy: recorded
            .policy
            .as_ref()
            .filter(|_| recorded.answered_by_rule())
            .unwrap_or(&decision.policy)
            .as_str()
            .to_owned(),
        at: decision.at,
    });
    let mut unexplained = None;
    let mut explanation = None;
    match &decision {
        None => unexplained = Some("no rules decided it".to_owned()),
        Some(_) if recorded.blanked => {
            unexplained = Some("its text was blanked for its age: the conditions cannot be shown any more".to_owned());
        }
        Some(decision) => match sources::policy_then(reader, recorded, decision) {
            Ok(policy) => {
                let moment = RowMoment::of(recorded, Some((decision.row, decision.at)));
                let circumstances = sources::circumstances_then(recorded, decision);
                let policy_state = policy_state(
                    global,
                    reader,
                    &recorded.agent,
                    Some(recorded),
                    &recorded.request.sender,
                    &policy,
                    moment,
                )?;
                explanation = Some(explain(&policy, &recorded.request, &circumstances, &policy_state, moment.at, zone));
            }
            Err(error) => unexplained = Some(error.message),
        },
    }
    let said_again = |explanation: &Explanation| VerdictView {
        verdict: explanation.verdict,
        by: explanation.by.clone(),
        policy: explanation.policy.clone(),
        at: decision.as_ref().map_or(recorded.first_seen, |decision| decision.at),
    };
    let same = |one: &VerdictView, other: &VerdictView| one.verdict == other.verdict && one.by == other.by;
    let differs =
        explanation.as_ref().map(said_again).filter(|again| rules.as_ref().is_some_and(|was| !same(was, again)));
    let today = today(reader, recorded, rules.as_ref(), global)?;
    if let (Some(explanation), Some(rules)) = (&mut explanation, &rules) {
        (explanation.verdict, explanation.by) = (rules.verdict, rules.by.clone());
    }
    if let (Some(explanation), Some(verdict), Some(by)) = (&mut explanation, recorded.verdict, &recorded.by) {
        (explanation.verdict, explanation.by) = (verdict, by.clone());
    }
    let paused = match &decision {
        Some(decision) if decision.by == By::Paused => {
            let moment = RowMoment::of(recorded, Some((decision.row, decision.at)));
            let pause = reader.pause_before(&recorded.agent, moment).map_err(|error| fault(&error))?;
            pause.map(|pause| PausedView { by: pause.by, at: pause.at, note: pause.note })
        }
        Some(_) | None => None,
    };
    let owner = recorded.request.sender.handle().map(Handle::owner);
    let settlements = match owner {
        Some(owner) => reader
            .settlements_of(&recorded.agent, owner, SETTLEMENTS_SHOWN)
            .map_err(|error| fault(&error))?
            .into_iter()
            .map(|SettlementRecord { request, said, by, at, note }| SettlementView { request, said, by, at, note })
            .collect(),
        None => Vec::new(),
    };
    let story = RecordView {
        request: recorded.request.id.clone(),
        agent: recorded.agent.clone(),
        handle: recorded.request.sender.original().map(|text| text.raw().to_owned()),
        received_at: recorded.first_seen,
        verdict: recorded.verdict,
        by: recorded.by.clone(),
        note: recorded.note.clone(),
        answered_at: recorded.answered_at,
        outcome: recorded.outcome,
        settled: recorded.settled.clone(),
        settled_at: recorded.settled_at,
        ends_at: recorded.ends_at,
        end_in_doubt: recorded.end_in_doubt.map(|doubt| doubt.reason()),
        end_moved: recorded.end_moved.as_ref().map(|one| EndMovedView {
            ends_at: one.ends_at,
            by: one.by.clone(),
            at: one.at,
            note: one.note.clone(),
        }),
        removed: recorded.removed.as_ref().map(|one| RemovedView {
            by: one.by.clone(),
            at: one.at,
            note: one.note.clone(),
        }),
        contact_removed_at: recorded.contact_removed_at,
        paused,
        settlements,
        replies: replies_to(reader, recorded)?,
        mode: match recorded.mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        rules,
        differs,
        today,
        older: older.len(),
        older_requests: older.iter().take(OLDER_NAMED).cloned().collect(),
        unexplained,
    };
    let output = ExplainOutput { basis: "record", record: Some(story), explanation };
    Ok(output)
}

/// What deciders said of it, oldest first.
fn replies_to(reader: &LedgerReader, recorded: &RecordedRequest) -> Result<Vec<DeciderReplyView>, CliError> {
    let replies = reader.replies_to(recorded).map_err(|error| fault(&error))?;
    let word = |(at, word): (Timestamp, crate::policy::DeciderVerdict)| DeciderReplyView {
        at,
        decider: word.decider.as_str().to_owned(),
        verdict: word.verdict,
        reason: word.reason.map(|reason| reason.raw().to_owned()),
    };
    Ok(replies.into_iter().map(word).collect())
}

/// What the rules in force would decide about it now, if they are different rules and decide differently.
fn today(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    rules: Option<&VerdictView>,
    global: &Global,
) -> Result<Option<VerdictView>, CliError> {
    let hash = reader.policy_in_force(&recorded.agent).map_err(|error| fault(&error))?;
    let Some(hash) = hash.filter(|hash| !recorded.blanked && rules.is_none_or(|rules| rules.policy != hash.as_str()))
    else {
        return Ok(None);
    };
    let Ok(policy) = sources::policy_on_record(reader, &hash) else { return Ok(None) };
    let now = Clock::start().now().wall;
    let policy_state = policy_state(
        global,
        reader,
        &recorded.agent,
        Some(recorded),
        &recorded.request.sender,
        &policy,
        RowMoment::at(now),
    )?;
    let seen = Circumstances::new(recorded.first_seen, ClockHealth::Sound);
    let circumstances = contacts_on_record(reader, &recorded.agent, &recorded.request.sender, seen, now)?;
    let decision = policy.decide(&recorded.request, &circumstances, &policy_state, now);
    let said = VerdictView { verdict: decision.verdict, by: decision.by, policy: hash.as_str().to_owned(), at: now };
    Ok(Some(said).filter(|said| rules.is_none_or(|rules| (said.verdict, &said.by) != (rules.verdict, &rules.by))))
}

/// A request whose text was blanked cannot be decided again.
pub(super) fn not_blanked(recorded: &RecordedRequest) -> Result<(), CliError> {
    if recorded.blanked {
        let message =
            format!("the text of `{}` was blanked for its age: it cannot be explained any more", recorded.request.id);
        return Err(CliError::new(1, message));
    }
    Ok(())
}

/// A request on record under other rules, at another time, or with another number of contacts.
pub(super) fn of_recorded_otherwise(
    args: &Args,
    at: Option<Timestamp>,
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    global: &Global,
) -> Result<ExplainOutput, CliError> {
    not_blanked(recorded)?;
    let decision = last_decision(reader, recorded)?;
    let policy = match (&args.rules, &decision) {
        (Some(rules), _) => sources::policy_of(rules, global)?,
        (None, Some(decision)) => sources::policy_then(reader, recorded, decision)?,
        (None, None) => {
            let message = format!("no rules decided `{}`: say under which with `--rules FILE`", recorded.request.id);
            return Err(CliError::new(1, message));
        }
    };
    let moment = match at {
        Some(at) => RowMoment::at(at),
        None => RowMoment::of(recorded, decision.as_ref().map(|decision| (decision.row, decision.at))),
    };
    let mut circumstances = match &decision {
        Some(decision) if decision.at <= moment.at => sources::circumstances_then(recorded, decision),
        Some(_) | None => Circumstances::new(recorded.first_seen, ClockHealth::Sound),
    };
    imagined::said_to_be(args, &mut circumstances);
    let policy_state =
        policy_state(global, reader, &recorded.agent, Some(recorded), &recorded.request.sender, &policy, moment)?;
    let explanation =
        explain(&policy, &recorded.request, &circumstances, &policy_state, moment.at, args.zone().as_ref());
    Ok(ExplainOutput { basis: "hypothetical", record: None, explanation: Some(explanation) })
}

/// What the ledger knows of an agent's contacts at a moment.
pub(super) fn contacts_on_record(
    reader: &LedgerReader,
    agent: &AgentId,
    sender: &Sender,
    seen: Circumstances,
    at: Timestamp,
) -> Result<Circumstances, CliError> {
    let contacts = reader.contact_count(agent).map_err(|error| fault(&error))?;
    let owner = sender.handle().map(|handle| handle.owner());
    let spans = reader.contact_spans(agent, owner).map_err(|error| fault(&error))?;
    let is = spans.zip(sender.handle()).map(|(spans, handle)| spans.at(handle, at));
    let (owner, sender) = is.unzip();
    Ok(Circumstances { contacts, owner_is_contact: owner, sender_is_contact: sender, ..seen })
}
