//! Where `explain` and `replay` find what they work on: a policy from its file or from the record, and the recorded
//! requests in the form that the policy replays.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::{CliError, Global};
use crate::diagnostics::Report;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, Outcome, RequestId};
use crate::policy::replay::Recorded;
use crate::policy::{self, Circumstances, ClockHealth, Loaded, Policy};

/// Loads a rules file; a refused one is exit code 78, with everything that is wrong with it.
pub(in crate::cli) fn policy_of(path: &Path) -> Result<Arc<Policy>, CliError> {
    accepted(path, policy::load(path, None, false))
}

/// Whether each of these agents was paused at that moment, and there are any.
pub(super) fn all_paused(
    reader: &LedgerReader,
    agents: &[AgentId],
    request: &RequestId,
    at: Timestamp,
) -> Result<bool, CliError> {
    for agent in agents {
        let standing = reader.standing(agent, request, at).map_err(|error| super::super::ledger::fault(&error))?;
        if !standing.paused {
            return Ok(false);
        }
    }
    Ok(!agents.is_empty())
}

/// The agents that are configured with this rules file.
pub(super) fn agents_under(rules: &Path, global: &Global) -> Result<Vec<AgentId>, CliError> {
    let places = super::super::places(global, "--rules FILE")?;
    let under = places.rules.into_iter().filter(|(_, path)| path == rules);
    Ok(under.filter_map(|(id, _)| AgentId::parse(&id).ok()).collect())
}

/// The policy behind a decision on record.
pub(super) fn policy_then(reader: &LedgerReader, recorded: &RecordedRequest) -> Result<Arc<Policy>, CliError> {
    let advice = "say under which rules with `--rules FILE`";
    let Some(hash) = &recorded.policy else {
        return Err(CliError::new(1, format!("`{}` was not decided by any rules: {advice}", recorded.request.id)));
    };
    let texts = reader.policy_texts(hash).map_err(|error| super::super::ledger::fault(&error))?;
    let Some(texts) = texts else {
        return Err(CliError::new(1, format!("the text of policy {hash} is not on record: {advice}")));
    };
    let name = texts.first().map_or_else(|| "rules.toml".to_owned(), |first| first.name.clone());
    accepted(Path::new(&name), policy::load_texts(Path::new(&name), &texts))
}

/// What was known beside the request when it was decided last before this moment. What the record lacks is unknown, the
/// time with it; a request that was never decided is looked at with a sound clock.
pub(super) fn circumstances_then(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    at: Timestamp,
) -> Result<Circumstances, CliError> {
    let decisions = reader.decisions_of(&recorded.request.id).map_err(|error| super::super::ledger::fault(&error))?;
    let last = decisions.into_iter().rfind(|one| one.agent == recorded.agent && one.at <= at);
    let unsaid = |clock| Circumstances { first_seen: recorded.first_seen, clock, contacts: None };
    Ok(match last {
        Some(decision) => decision.facts.circumstances.unwrap_or_else(|| unsaid(ClockHealth::Unsound)),
        None => unsaid(ClockHealth::Sound),
    })
}

fn accepted(path: &Path, loaded: Loaded) -> Result<Arc<Policy>, CliError> {
    loaded.policy.ok_or_else(|| refused(path, &loaded.report))
}

/// What there is to say where rules are refused.
pub(in crate::cli) fn refused(path: &Path, report: &Report) -> CliError {
    let report = report.render(std::io::stderr().is_terminal());
    CliError::new(78, format!("`{}` is refused\n\n{}", path.display(), report.trim_end()))
}

/// The rules file: `--rules`, else the one that the configuration names for this agent, or for all of them.
pub(in crate::cli) fn rules_path(
    given: Option<PathBuf>,
    agent: Option<&str>,
    global: &Global,
) -> Result<PathBuf, CliError> {
    if let Some(path) = given {
        return Ok(path);
    }
    let places = super::super::places(global, "--rules FILE")?;
    let mut files: Vec<PathBuf> = places
        .rules
        .into_iter()
        .filter(|(id, _)| agent.is_none_or(|wanted| id == wanted))
        .map(|(_, rules)| rules)
        .collect();
    files.sort_unstable();
    files.dedup();
    match files.len() {
        1 => Ok(files.remove(0)),
        0 => Err(CliError::new(78, "no rules are configured for it: name them with `--rules FILE`")),
        _ => Err(CliError::new(2, "the agents have different rules: say whose with `--agent ID`, or `--rules FILE`")),
    }
}

/// A request as the policy replays it. The record does not say how many contacts there were.
pub(in crate::cli) fn to_replay(recorded: RecordedRequest) -> Recorded {
    let by_person = recorded.by.as_deref().is_some_and(|by| by.starts_with("person:"));
    let elsewhere = matches!(recorded.outcome, Some(Outcome::SettledElsewhere | Outcome::Gone));
    let last_seen = recorded.answered_at.or(recorded.decided_at).unwrap_or(recorded.first_seen);
    Recorded {
        circumstances: Circumstances { first_seen: recorded.first_seen, clock: ClockHealth::Sound, contacts: None },
        verdict: recorded.verdict,
        by: recorded.by,
        answered_at: recorded.answered_at,
        outcome: recorded.outcome,
        ended: (by_person || elsewhere).then_some(last_seen),
        request: recorded.request,
    }
}

/// From where on the record matters for this policy at this moment; `None`: all of it.
pub(super) fn matters_since(policy: &Policy, at: Timestamp) -> Option<Timestamp> {
    let reach = policy.history_reach().max(policy.charge_reach()).unwrap_or(SignedDuration::ZERO);
    // What was asked before the window may have been answered inside it.
    at.checked_sub(reach).and_then(|since| since.checked_sub(SignedDuration::from_hours(24 * 30))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Via;
    use crate::model::{ContactRequest, Sender, Verdict};

    fn recorded(by: &str, outcome: Option<Outcome>) -> RecordedRequest {
        let at: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        RecordedRequest {
            agent: AgentId::parse("a").unwrap(),
            request: ContactRequest {
                id: RequestId::parse("r").unwrap(),
                sender: Sender::parse(Some("ann")),
                name: None,
                message: None,
                inserted_at: None,
            },
            first_seen: at,
            via: Via::Event,
            blanked: false,
            decided_at: Some(at + SignedDuration::from_secs(1)),
            verdict: Some(Verdict::Approve),
            by: Some(by.to_owned()),
            policy: None,
            answered_at: Some(at + SignedDuration::from_secs(2)),
            answer: None,
            settled: None,
            outcome,
        }
    }

    #[test]
    fn only_what_others_ended_has_an_end() {
        let ended = |by, outcome| to_replay(recorded(by, outcome)).ended.map(|at| at.to_string());
        assert_eq!(ended("friends", Some(Outcome::Applied)), None);
        assert_eq!(ended("friends", None), None);
        assert_eq!(ended("person:eve", Some(Outcome::Applied)).as_deref(), Some("2026-01-05T12:00:02Z"));
        assert_eq!(ended("friends", Some(Outcome::Gone)).as_deref(), Some("2026-01-05T12:00:02Z"));
    }

    #[test]
    fn rules_are_found_where_the_configuration_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("doorman.toml");
        let global = Global { config: Some(config.clone()) };
        let find = |agent| rules_path(None, agent, &global).map_err(|error| error.code);
        assert_eq!(find(None), Err(78), "no file");
        std::fs::write(&config, "[[agents]]\nid = \"a\"\nrules = \"a.toml\"\n").unwrap();
        assert_eq!(find(None), Ok(directory.path().join("a.toml")));
        assert_eq!(find(Some("b")), Err(78));
        let two = "[[agents]]\nid = \"a\"\nrules = \"a.toml\"\n[[agents]]\nid = \"b\"\nrules = \"b.toml\"\n";
        std::fs::write(&config, two).unwrap();
        assert_eq!(find(None), Err(2), "whose?");
        assert_eq!(find(Some("b")), Ok(directory.path().join("b.toml")));
        assert_eq!(rules_path(Some("x".into()), None, &global).unwrap(), PathBuf::from("x"));
    }
}
