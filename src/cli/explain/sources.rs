//! Where `explain` and `replay` get their input: a policy from its file or from the ledger, and recorded requests in
//! the form that the policy replays.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{CliError, Global};
use crate::diagnostics::Report;
use crate::ledger::read::RecordedDecision;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, Outcome};
use crate::policy::replay::Recorded;
use crate::policy::{self, By, Circumstances, ClockHealth, LoadedPolicy, Policy, PolicyHash};

/// Loads a rules file. A refused file gives exit code 78 and a message with all its errors.
pub(in crate::cli) fn policy_in(file: &Path) -> Result<Arc<Policy>, CliError> {
    accepted(file, policy::load_named(file))
}

/// Loads a rules file, or pushed rules (`ledger:NAME`).
///
/// # Errors
/// As [`policy_in`].
pub(in crate::cli) fn policy_of(rules: &Path, global: &Global) -> Result<Arc<Policy>, CliError> {
    accepted(rules, loaded_of(rules, global)?)
}

/// The same, with what is wrong with it.
pub(in crate::cli) fn loaded_of(rules: &Path, global: &Global) -> Result<LoadedPolicy, CliError> {
    if crate::config::settings::pushed_name(rules).is_none() {
        return Ok(policy::load_named(rules));
    }
    let at = super::super::ledger::path(None, global)?;
    Ok(super::super::policy::head_of(rules, &at).unwrap_or_else(|| policy::load_named(rules)))
}

/// The agent whose record is used if none is named: the only one with these rules, else the only one on record.
///
/// # Errors
/// Exit code 2 if there are several.
pub(super) fn only_agent(
    reader: &LedgerReader,
    rules: &Path,
    configured: bool,
    global: &Global,
) -> Result<Option<AgentId>, CliError> {
    let recorded = reader.agents().map_err(|error| super::super::ledger::fault(&error))?;
    let under: Vec<AgentId> = if configured {
        let places = super::super::places(global, "--rules FILE")?;
        let under = places.rules.into_iter().filter(|(_, path)| path == rules);
        under.filter_map(|(id, _)| AgentId::parse(&id).ok()).filter(|id| recorded.contains(id)).collect()
    } else {
        recorded
    };
    match under.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        _ => Err(CliError::new(
            2,
            "several agents have a record of their own: say whose with `--agent ID`, or `--fresh` for an agent that has seen nothing",
        )),
    }
}

/// The policy behind a decision on record. If a rule answered the request, the policy under which it finally decided.
pub(super) fn policy_then(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    decision: &RecordedDecision,
) -> Result<Arc<Policy>, CliError> {
    let answered = recorded.policy.as_ref().filter(|_| recorded.answered_by_rule());
    policy_on_record(reader, answered.unwrap_or(&decision.policy))
}

/// The policy with this hash, loaded from its texts in the ledger.
pub(super) fn policy_on_record(reader: &LedgerReader, hash: &PolicyHash) -> Result<Arc<Policy>, CliError> {
    let texts = reader.policy_texts(hash).map_err(|error| super::super::ledger::fault(&error))?;
    let Some(texts) = texts else {
        let message = format!("the text of policy {hash} is not on record: say under which rules with `--rules FILE`");
        return Err(CliError::new(1, message));
    };
    let name = texts.first().map_or_else(|| "rules.toml".to_owned(), |first| first.name.clone());
    accepted(Path::new(&name), policy::load_texts(Path::new(&name), &texts))
}

/// The circumstances in which the request was decided. What the record lacks is unknown; then the clock counts as
/// unsound, too.
pub(super) fn circumstances_then(recorded: &RecordedRequest, decision: &RecordedDecision) -> Circumstances {
    let unsaid = Circumstances::new(recorded.first_seen, ClockHealth::Unsound);
    decision.facts.circumstances.unwrap_or(unsaid)
}

fn accepted(path: &Path, loaded: LoadedPolicy) -> Result<Arc<Policy>, CliError> {
    loaded.policy.ok_or_else(|| refused(path, &loaded.report))
}

/// The error for rules that are refused.
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

/// A request as the policy replays it. The record does not say how many contacts there were; who was one, the caller adds.
pub(in crate::cli) fn to_replay(recorded: RecordedRequest) -> Recorded {
    let by_person = matches!(recorded.by, Some(By::Person(_)));
    let elsewhere = matches!(recorded.outcome, Some(Outcome::SettledElsewhere | Outcome::Gone));
    let last_seen = recorded.answered_at.or(recorded.decided_at).unwrap_or(recorded.first_seen);
    Recorded {
        circumstances: Circumstances::new(recorded.first_seen, ClockHealth::Sound),
        verdict: recorded.verdict,
        by: recorded.by,
        answered_at: recorded.answered_at,
        outcome: recorded.outcome,
        lasts: recorded.lasts,
        replies: Vec::new(),
        ended: (by_person || elsewhere).then_some(last_seen),
        request: recorded.request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Via;
    use crate::model::{ContactRequest, RequestId, Sender, Verdict};
    use jiff::{SignedDuration, Timestamp};

    fn recorded(by: &str, outcome: Option<Outcome>) -> RecordedRequest {
        let at: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        RecordedRequest {
            row: 1,
            decision_row: None,
            answer_row: None,
            answer_after: None,
            mode: crate::policy::Mode::Enforce,
            happened_at: at,
            settled_at: None,
            elsewhere: false,
            agent: AgentId::parse("a").unwrap(),
            request: ContactRequest {
                id: RequestId::parse("r").unwrap(),
                sender: Sender::parse(Some("ann")),
                name: None,
                message: None,
                inserted_at: None,
                ids: None,
            },
            first_seen: at,
            via: Via::Event,
            blanked: false,
            decided_at: Some(at + SignedDuration::from_secs(1)),
            verdict: Some(Verdict::Approve),
            by: By::parse(by),
            policy: None,
            answered_at: Some(at + SignedDuration::from_secs(2)),
            answer: None,
            settled: None,
            outcome,
            note: None,
            removed: None,
            lasts: None,
            ends_at: None,
            end_in_doubt: None,
            end_moved: None,
            contact_removed_at: None,
        }
    }

    #[test]
    fn only_what_others_ended_has_an_end() {
        let ended = |by, outcome| to_replay(recorded(by, outcome)).ended.map(|at| at.to_string());
        assert_eq!(ended("friends", Some(Outcome::Confirmed(crate::model::Answer::Approve))), None);
        assert_eq!(ended("friends", None), None);
        assert_eq!(
            ended("person:eve", Some(Outcome::Confirmed(crate::model::Answer::Approve))).as_deref(),
            Some("2026-01-05T12:00:02Z")
        );
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
