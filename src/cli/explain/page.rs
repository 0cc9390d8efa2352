//! What the page shows of one request: what `explain` says of the record, beside what the rules in force would say now.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::Global;
use super::recorded::{contacts_on_record, of_recorded, policy_state};
use super::shapes::{RecordView, VerdictView};
use super::{sentences, sources};
use crate::ledger::read::RowMoment;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::page::words::ExplainText;
use crate::policy::explain::{Explanation, explain};
use crate::policy::{Circumstances, ClockHealth};

/// Reads both. Changes nothing.
///
/// # Errors
/// A message for people: the ledger cannot be read.
pub(crate) fn of(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    now: Timestamp,
    time: &dyn Fn(Timestamp) -> String,
    config: Option<PathBuf>,
) -> Result<ExplainText, String> {
    let global = &Global { config };
    let printed =
        of_recorded(reader, recorded, &[], Some(&TimeZone::system()), global).map_err(|error| error.message)?;
    let story = printed.record.as_ref();
    let said = story.and_then(|story| story.rules.as_ref());
    Ok(ExplainText {
        sentence: story.map(|story| sentences::sentence(story, &|at| time(at))).unwrap_or_default(),
        said: said.map(|said| (words(said), said.at, said.policy.clone())),
        remark: story.and_then(remark),
        beside: story.map(|story| sentences::beside(story, &|at| time(at))).unwrap_or_default(),
        now: of_now(reader, recorded, now, global),
        then: printed.explanation,
    })
}

fn words(said: &VerdictView) -> String {
    format!("{} by {}", said.verdict, said.by)
}

fn remark(story: &RecordView) -> Option<String> {
    let differs = story.differs.as_ref().map(|differs| {
        format!(
            "decided again from the record, the same rules say {}: the record does not hold everything that the decision saw",
            words(differs)
        )
    });
    story.unexplained.clone().or(differs)
}

fn of_now(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    now: Timestamp,
    global: &Global,
) -> Result<Explanation, String> {
    if recorded.blanked {
        return Err("its text was blanked for its age".to_owned());
    }
    let hash = reader.policy_in_force(&recorded.agent).map_err(|error| error.to_string())?;
    let hash = hash.ok_or_else(|| "the record knows no rules in force".to_owned())?;
    let policy = sources::policy_on_record(reader, &hash).map_err(|error| error.message)?;
    let (agent, sender) = (&recorded.agent, &recorded.request.sender);
    let seen = Circumstances::new(recorded.first_seen, ClockHealth::Sound);
    let circumstances = contacts_on_record(reader, agent, sender, seen, now).map_err(|error| error.message)?;
    let state = policy_state(global, reader, agent, Some(recorded), sender, &policy, RowMoment::at(now))
        .map_err(|error| error.message)?;
    Ok(explain(&policy, &recorded.request, &circumstances, &state, now, Some(&TimeZone::system())))
}
