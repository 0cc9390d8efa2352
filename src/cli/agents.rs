//! Finds the agent that a person means: by its id, its handle, or the beginning of exactly one id. If none matches, the
//! error names the agents that exist.

use super::output::shown;
use super::{CliError, Global};
use crate::ledger::LedgerReader;
use crate::model::AgentId;
use crate::policy::ReceivingAgent;

/// Shortest beginning of an id that names it.
const BEGINNING_MIN: usize = 4;

/// Which agent, for commands that can be about one of several.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct AgentArg {
    /// Only this agent: its id, the beginning of it, its handle, or its `name`
    #[arg(long, value_name = "AGENT", add = super::completions::agents())]
    agent: Option<String>,
}

impl AgentArg {
    /// As the person typed it.
    pub(super) fn given(&self) -> Option<&str> {
        self.agent.as_deref()
    }
}

/// The names by which rules may mean this agent, as far as the configuration says.
pub(super) fn receiving(agent: &AgentId, global: &Global) -> ReceivingAgent {
    let Ok(places) = super::places(global, "--config PATH") else { return ReceivingAgent::unnamed(agent.as_str()) };
    let configured = places.rules.iter().any(|(id, _)| id == agent.as_str());
    let name = places.names.iter().find(|(id, _)| id == agent.as_str()).map(|(_, name)| name.as_str());
    if configured { ReceivingAgent::new(agent.as_str(), name) } else { ReceivingAgent::unnamed(agent.as_str()) }
}

/// The one of these ids that is meant, by its id or its handle.
///
/// # Errors
/// Exit code 1 if none or several match; the message lists the ids that exist.
pub(super) fn pick<'a>(text: &str, known: &[(&'a str, Option<&str>)]) -> Result<&'a str, CliError> {
    let bare = text.strip_prefix('@').unwrap_or(text);
    // Ids have one spelling, whichever way they are typed.
    let (id, beginning) = (AgentId::parse(text).ok(), text.to_ascii_lowercase());
    let whole = id.as_ref().map_or(text, AgentId::as_str);
    let called = |handle: &Option<&str>| handle.is_some_and(|it| it.trim_start_matches('@').eq_ignore_ascii_case(bare));
    if let Some((id, _)) = known.iter().find(|(id, _)| *id == whole) {
        return Ok(id);
    }
    // If a handle equals the beginning of another agent's id, both match, and neither is taken.
    let begins = |id: &str| text.len() >= BEGINNING_MIN && id.starts_with(&beginning);
    let mut meant = known.iter().filter(|(id, handle)| called(handle) || begins(id));
    match (meant.next(), meant.next()) {
        (Some((id, _)), None) => Ok(id),
        _ if known.is_empty() => Err(CliError::new(1, format!("this doorman has no agent `{}`, nor any", shown(text)))),
        _ => {
            let known: Vec<String> = known.iter().map(|(id, _)| format!("`{}`", shown(id))).collect();
            let message = format!("this doorman has no agent `{}`; it has {}", shown(text), known.join(", "));
            Err(CliError::new(1, message))
        }
    }
}

/// The agent that is meant, of those on record and those that are configured. A configuration that cannot be read has none.
///
/// # Errors
/// As [`pick`]; 74 if the ledger cannot be read.
pub(super) fn on_record(
    text: Option<&str>,
    reader: Option<&LedgerReader>,
    global: &Global,
) -> Result<Option<AgentId>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let recorded = match reader {
        Some(reader) => reader.agent_handles().map_err(|error| super::ledger::fault(&error))?,
        None => Vec::new(),
    };
    let places = super::places(global, "--ledger PATH").map(|places| (places.rules, places.names));
    let (configured, names) = places.unwrap_or_default();
    let mut known: Vec<(&str, Option<&str>)> =
        recorded.iter().map(|(id, handle)| (id.as_str(), handle.as_deref())).collect();
    let more = configured.iter().filter(|(id, _)| recorded.iter().all(|(other, _)| other.as_str() != id));
    known.extend(more.map(|(id, _)| (id.as_str(), None)));
    let text = names.iter().find(|(_, name)| name == text).map_or(text, |(id, _)| id.as_str());
    let id = AgentId::parse(pick(text, &known)?).map_err(|problem| CliError::new(1, problem.to_string()))?;
    Ok(Some(id))
}
