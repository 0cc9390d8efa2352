//! `doorman explain`: why a request is, or would be, decided as it is. Reads files only; needs no daemon.

pub(super) mod sources;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use super::history::moment;
use super::ledger::{fault, path, print};
use super::{CliError, Global, agents};
use crate::clock::Clock;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, ContactRequest, RequestId, Sender, StrangerText, ascii_json};
use crate::policy::explain::{Explanation, explain};
use crate::policy::replay::policy_state_at;
use crate::policy::state::SavedState;
use crate::policy::{Circumstances, ClockHealth, PolicyState};

/// Fewest characters of a request's id that name it, as `pending` shows them on a narrow terminal.
const BEGINNING_MIN: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A handle that might ask, or the id of a request on record or its beginning; an id that is known wins
    #[arg(value_name = "HANDLE|ID")]
    target: String,
    /// What they call themselves
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// What they say; without it the message is absent
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// When: `2h` ago, `2026-01-05`, `2026-01-05T12:00`, or with a zone; else now, or when the request on record was decided
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How long before that the request came, such as `2h`; for `wait`, `age_over` and `overdue`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    age: Option<SignedDuration>,
    /// How many contacts the agent has; else what the record says, or unknown
    #[arg(long, value_name = "N")]
    contacts: Option<u64>,
    /// Under these rules; else the configured ones, or those that decided the request on record
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Whose door, where several have different rules: its id, or the beginning of it
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// The ledger; else where the daemon keeps it
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let span: Span = text.parse().map_err(|_| "expected a duration, such as `2h` or `3d`".to_owned())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if length.is_negative() { Err("expected a duration that is not negative".to_owned()) } else { Ok(length) }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let at = moment::option("at", args.at.as_deref())?;
    let reader = reader(&args, global)?;
    let agent = agents::on_record(args.agent.as_deref(), reader.as_ref(), global)?;
    let recorded = match &reader {
        Some(reader) => on_record(&args.target, agent.as_ref(), reader)?.map(|recorded| (reader, recorded)),
        None => None,
    };
    let explanation = match recorded {
        Some((reader, recorded)) => of_recorded(&args, at, reader, recorded)?,
        None => of_hypothetical(&args, at, agent, reader.as_ref(), global)?,
    };
    let text = if args.json {
        let json = serde_json::to_string_pretty(&explanation);
        let json = json.map_err(|error| CliError::new(1, format!("cannot be written as JSON: {error}")))?;
        ascii_json(&json) + "\n"
    } else {
        explanation.render(std::io::stdout().is_terminal())
    };
    print(&text)?;
    Ok(0)
}

/// The record. A ledger that was not named and is not there is no ledger.
fn reader(args: &Args, global: &Global) -> Result<Option<LedgerReader>, CliError> {
    let path = path(args.ledger.clone(), global)?;
    if args.ledger.is_none() && !path.exists() {
        return Ok(None);
    }
    LedgerReader::open(&path).map(Some).map_err(|error| fault(&error))
}

/// The request on record with this id, or with the only one that begins so.
fn on_record(
    target: &str,
    agent: Option<&AgentId>,
    reader: &LedgerReader,
) -> Result<Option<RecordedRequest>, CliError> {
    let Ok(id) = RequestId::parse(target) else { return Ok(None) };
    let mut recorded = reader.request(&id).map_err(|error| fault(&error))?;
    if recorded.is_none() && target.len() >= BEGINNING_MIN {
        match reader.beginning(target).map_err(|error| fault(&error))?.as_slice() {
            [] => {}
            [only] => recorded = reader.request(only).map_err(|error| fault(&error))?,
            _ => {
                let message =
                    format!("the ids of several requests begin with `{target}`: write more of the one you mean");
                return Err(CliError::new(1, message));
            }
        }
    }
    Ok(recorded.filter(|recorded| agent.is_none_or(|agent| *agent == recorded.agent)))
}

fn of_recorded(
    args: &Args,
    at: Option<Timestamp>,
    reader: &LedgerReader,
    recorded: RecordedRequest,
) -> Result<Explanation, CliError> {
    for (option, given) in
        [("name", args.name.is_some()), ("message", args.message.is_some()), ("age", args.age.is_some())]
    {
        if given {
            let message = format!("`{}` is a request on record: `--{option}` is for handles", args.target);
            return Err(CliError::new(2, message));
        }
    }
    if recorded.blanked {
        let message = format!("the text of `{}` was blanked for its age: it cannot be explained any more", args.target);
        return Err(CliError::new(1, message));
    }
    let policy = match &args.rules {
        Some(rules) => sources::policy_of(rules)?,
        None => sources::policy_then(reader, &recorded)?,
    };
    let at = at.or(recorded.decided_at).unwrap_or(recorded.first_seen);
    let mut past = reader.requests_since(sources::matters_since(&policy, at)).map_err(|error| fault(&error))?;
    past.retain(|one| one.agent == recorded.agent && one.request.id != recorded.request.id);
    let past: Vec<_> = past.into_iter().map(sources::to_replay).collect();
    let standing = reader.standing(&recorded.agent, &recorded.request.id, at).map_err(|error| fault(&error))?;
    let mut policy_state = policy_state_at(&policy, &past, standing.resumed, at);
    for (owner, removed_at) in &standing.removed {
        policy_state.removed(owner, *removed_at);
    }
    if standing.paused {
        policy_state.pause();
    }
    policy_state.hold(&recorded.request.id, standing.hold.as_deref());
    let mut circumstances = sources::circumstances_then(reader, &recorded, at)?;
    circumstances.contacts = args.contacts.or(circumstances.contacts);
    Ok(explain(&policy, &recorded.request, &circumstances, &policy_state, at))
}

/// A request that nobody made, to an agent that has seen nothing yet; but one that is paused is paused.
fn of_hypothetical(
    args: &Args,
    at: Option<Timestamp>,
    agent: Option<AgentId>,
    reader: Option<&LedgerReader>,
    global: &Global,
) -> Result<Explanation, CliError> {
    let rules = sources::rules_path(args.rules.clone(), agent.as_ref().map(AgentId::as_str), global)?;
    let policy = sources::policy_of(&rules)?;
    let at = at.unwrap_or_else(|| Clock::start().now().wall);
    let came = at
        .checked_sub(args.age.unwrap_or_default())
        .map_err(|_| CliError::new(2, "`--age` reaches before all time"))?;
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(StrangerText::new);
    let id = RequestId::parse("hypothetical").map_err(|problem| CliError::new(1, problem.to_string()))?;
    let request = ContactRequest {
        id,
        sender: Sender::parse(Some(&args.target)),
        name: text(&args.name),
        message: text(&args.message),
        inserted_at: Some(came),
    };
    let circumstances = Circumstances { first_seen: came, clock: ClockHealth::Sound, contacts: args.contacts };
    let mut policy_state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    let meant = match (agent, &args.rules) {
        (Some(agent), _) => vec![agent],
        (None, None) => sources::agents_under(&rules, global)?,
        (None, Some(_)) => Vec::new(),
    };
    if let Some(reader) = reader
        && sources::all_paused(reader, &meant, &request.id, at)?
    {
        policy_state.pause();
    }
    Ok(explain(&policy, &request, &circumstances, &policy_state, at))
}
