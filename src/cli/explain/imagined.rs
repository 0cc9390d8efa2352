//! What would happen to a request on record if it came now, or to a hypothetical request.

use jiff::Timestamp;

use super::super::ledger::fault;
use super::super::{CliError, Global};
use super::recorded::{contacts_on_record, not_blanked, policy_state};
use super::shapes::ExplainOutput;
use super::{Args, sources};
use crate::clock::Clock;
use crate::ledger::read::RowMoment;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, ContactRequest, RequestId, Sender, StrangerText};
use crate::policy::explain::explain;
use crate::policy::state::SavedState;
use crate::policy::{Circumstances, ClockHealth, Policy, PolicyState};

/// The request on record, if it came now.
pub(super) fn of_now(
    args: &Args,
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    global: &Global,
) -> Result<ExplainOutput, CliError> {
    not_blanked(recorded)?;
    let now = Clock::start().now().wall;
    let request = ContactRequest { id: hypothetical_id()?, inserted_at: Some(now), ..recorded.request.clone() };
    let policy = match (&args.rules, reader.policy_in_force(&recorded.agent).map_err(|error| fault(&error))?) {
        (Some(rules), _) => sources::policy_of(rules, global)?,
        (None, Some(hash)) if args.ledger.is_some() => sources::policy_on_record(reader, &hash)?,
        (None, _) => sources::policy_of(&sources::rules_path(None, Some(recorded.agent.as_str()), global)?, global)?,
    };
    replies_now("now", args, (now, now), Some((reader, &recorded.agent)), &request, &policy, global)
}

fn hypothetical_id() -> Result<RequestId, CliError> {
    RequestId::parse("hypothetical").map_err(|problem| CliError::new(1, problem.to_string()))
}

/// A hypothetical request to the agent as it is on record. Without a record, or with `--fresh`, to an agent that has
/// seen nothing.
pub(super) fn of_hypothetical(
    args: &Args,
    at: Option<Timestamp>,
    agent: Option<AgentId>,
    reader: Option<&LedgerReader>,
    global: &Global,
) -> Result<ExplainOutput, CliError> {
    let rules = sources::rules_path(args.rules.clone(), agent.as_ref().map(AgentId::as_str), global)?;
    let policy = sources::policy_of(&rules, global)?;
    let at = at.unwrap_or_else(|| Clock::start().now().wall);
    let came = at
        .checked_sub(args.age.unwrap_or_default())
        .map_err(|_| CliError::new(2, "`--age` reaches before all time"))?;
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(StrangerText::new);
    let request = ContactRequest {
        id: hypothetical_id()?,
        sender: Sender::parse(Some(&args.target)),
        name: text(&args.name),
        message: text(&args.message),
        inserted_at: Some(came),
        ids: None,
    };
    let agent = match (agent, reader) {
        _ if args.fresh => None,
        (Some(agent), _) => Some(agent),
        (None, Some(reader)) => sources::only_agent(reader, &rules, args.rules.is_none(), global)?,
        (None, None) => None,
    };
    let whose = reader.zip(agent.as_ref());
    replies_now("hypothetical", args, (at, came), whose, &request, &policy, global)
}

/// What the command line says of the contacts.
pub(super) fn said_to_be(args: &Args, circumstances: &mut Circumstances) {
    circumstances.contacts = args.contacts.or(circumstances.contacts);
    if let Some(word) = &args.contact {
        circumstances.owner_is_contact = Some(word != "none");
        circumstances.sender_is_contact = Some(word == "self");
    }
}

fn replies_now(
    basis: &'static str,
    args: &Args,
    (at, came): (Timestamp, Timestamp),
    whose: Option<(&LedgerReader, &AgentId)>,
    request: &ContactRequest,
    policy: &Policy,
    global: &Global,
) -> Result<ExplainOutput, CliError> {
    let seen = Circumstances::new(came, ClockHealth::Sound);
    let (policy_state, mut circumstances) = match whose {
        Some((reader, agent)) => {
            let circumstances = contacts_on_record(reader, agent, &request.sender, seen, at)?;
            (policy_state(global, reader, agent, None, &request.sender, policy, RowMoment::at(at))?, circumstances)
        }
        None => (PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() }), seen),
    };
    said_to_be(args, &mut circumstances);
    let explanation = explain(policy, request, &circumstances, &policy_state, at, args.zone().as_ref());
    Ok(ExplainOutput { basis, record: None, explanation: Some(explanation) })
}
