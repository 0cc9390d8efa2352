//! `explain --as-test`: a decision on record as a `[tests.NAME]` table that passes in the file it came from.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::recorded::{last_decision, reach};
use super::{Global, sources};
use crate::cli::ledger::fault;
use crate::cli::{CliError, agents};
use crate::ledger::read::{RecordedDecision, RowMoment};
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{RequestId, Sender, StrangerText, Verdict};
use crate::policy::ask::question;
use crate::policy::rules::SourceText;
use crate::policy::state::{HistoryKind, SavedState};
use crate::policy::{self, By, Policy};

/// Most past requests that a test lists.
const PAST_MAX: usize = 200;

/// The table, and a warning beside it, if there is one.
///
/// # Errors
/// Exit code 1 if no test can express the decision: it was made by a person, a pause or a hold, or from data that the
/// record does not hold.
pub(super) fn test(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    global: &Global,
) -> Result<(String, Option<String>), CliError> {
    let no_test = |why: &str| CliError::new(1, format!("there is no test for `{}`: {why}", recorded.request.id));
    let Some(decision) = last_decision(reader, recorded)? else { return Err(no_test("no rules decided it")) };
    if recorded.blanked {
        return Err(no_test("its text was blanked for its age"));
    }
    if let By::Paused | By::Hold(_) | By::Error(_) | By::Person(_) = decision.by {
        return Err(no_test(&format!("it was decided by `{}`, which no test can bring about", decision.by)));
    }
    let policy = sources::policy_then(reader, recorded, &decision)?;
    let moment = RowMoment::of(recorded, Some((decision.row, decision.at)));
    let owner = recorded.request.sender.handle().map(|handle| handle.owner());
    let saved = reader
        .state_at(&recorded.agent, Some(recorded), owner, reach(&policy), moment)
        .map_err(|error| fault(&error))?;
    let past = past(reader, recorded, &policy, &saved, moment.at)?;
    let name = name(&recorded.request.sender, &policy);
    // The requests of the sender's own owner are clearer than those of everybody who counted against a limit. If they
    // do not give the same decision, the table lists all.
    let theirs: Vec<TestHistoryLine> = past.iter().filter(|one| one.is_by(owner)).cloned().collect();
    let receiving = agents::receiving(&recorded.agent, global);
    let named = policy.agents();
    let agent = receiving.called.iter().rev().find(|word| named.contains(&&***word)).or(receiving.called.last());
    let agent = agent.filter(|_| !named.is_empty()).map(|word| &**word);
    let replies = replies(recorded, &policy, &saved);
    let mut table = self::table(&name, recorded, &decision, (&theirs, agent, &replies), moment.at);
    if fails(&policy, &table, &name).is_some() {
        table = self::table(&name, recorded, &decision, (&past, agent, &replies), moment.at);
    }
    if let Some(got) = fails(&policy, &table, &name) {
        return Err(no_test(&format!("the record does not hold everything that the decision saw: it would say {got}")));
    }
    // The rules file may have changed since the decision.
    let file = sources::rules_path(None, Some(recorded.agent.as_str()), global)
        .and_then(|path| sources::policy_of(&path, global));
    let warning = file.ok().filter(|file| file.hash != policy.hash).and_then(|file| {
        let got = fails(&file, &table, &name)?;
        Some(format!("the rules have changed since: in `{}` this test fails, which says {got}", file.path.display()))
    });
    Ok((table, warning))
}

/// One line of a test's history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TestHistoryLine {
    handle: String,
    verdict: Verdict,
    by: Option<String>,
    at: Timestamp,
    removed: bool,
}

impl TestHistoryLine {
    fn is_by(&self, owner: Option<&str>) -> bool {
        owner.is_some() && self.handle.split('/').next() == owner
    }
}

/// The policy state of the agent, as requests: those of the owner, and all that counted against a limit.
fn past(
    reader: &LedgerReader,
    recorded: &RecordedRequest,
    policy: &Policy,
    saved: &SavedState,
    at: Timestamp,
) -> Result<Vec<TestHistoryLine>, CliError> {
    let mut ids: BTreeMap<&RequestId, Timestamp> = BTreeMap::new();
    for row in saved.history.iter().filter(|row| row.kind == HistoryKind::Requested) {
        ids.extend(row.request.as_ref().map(|id| (id, row.at)));
    }
    let answered = saved.history.iter().filter(|row| row.kind != HistoryKind::Requested);
    ids.extend(answered.filter_map(|row| Some((row.request.as_ref()?, row.at))));
    ids.extend(saved.charges.iter().filter_map(|row| Some((row.request.as_ref()?, row.at))));
    ids.extend(saved.approvals.iter().map(|row| (&row.request, row.at)));
    ids.remove(&recorded.request.id);
    let mut past = Vec::new();
    for (id, happened) in ids.into_iter().take(PAST_MAX) {
        let Some(one) = reader.request(id).map_err(|error| fault(&error))? else { continue };
        let Some(handle) = one.request.sender.handle() else { continue };
        let answered = one.answered_at.is_some_and(|answered| answered <= at);
        let rule = one
            .by
            .as_ref()
            .map(ToString::to_string)
            .filter(|by| policy.rules.iter().any(|rule| rule.name.as_str() == by));
        past.push(TestHistoryLine {
            handle: handle.to_string(),
            verdict: one.verdict.filter(|_| answered).unwrap_or(Verdict::Defer),
            by: rule.filter(|_| answered),
            at: happened,
            removed: false,
        });
    }
    for row in saved.history.iter().filter(|row| row.kind == HistoryKind::Removed) {
        let (verdict, handle) = (Verdict::Approve, row.owner.to_string());
        past.push(TestHistoryLine { handle, verdict, by: None, at: row.at, removed: true });
    }
    past.sort_by_key(|one| one.at);
    Ok(past)
}

/// What each decider had said to what the rules ask it.
fn replies(recorded: &RecordedRequest, policy: &Policy, saved: &SavedState) -> BTreeMap<String, Verdict> {
    let words = saved.replies.iter().filter(|(request, _)| *request == recorded.request.id).map(|(_, word)| word);
    let questions: Vec<_> = policy.rules.iter().filter_map(|rule| question(rule, &recorded.request)).collect();
    let answers = words.filter(|word| questions.iter().any(|question| word.answers(question)));
    answers.map(|word| (word.decider.as_str().to_owned(), word.verdict)).collect()
}

/// A name that no test of the file has, after the sender.
fn name(sender: &Sender, policy: &Policy) -> String {
    let handle = sender.handle().map_or_else(|| "stranger".to_owned(), ToString::to_string);
    let plain: String = handle
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .take(50)
        .collect();
    let taken = |name: &str| policy.tests.iter().any(|test| test.name.as_str() == name);
    let plain = plain.trim_matches('-').to_owned();
    let plain = if plain.is_empty() { "stranger".to_owned() } else { plain };
    std::iter::once(plain.clone())
        .chain((2_u32..).map(|number| format!("{plain}-{number}")))
        .find(|name| !taken(name))
        .unwrap_or(plain)
}

fn table(
    name: &str,
    recorded: &RecordedRequest,
    decision: &RecordedDecision,
    (past, agent, replies): (&[TestHistoryLine], Option<&str>, &BTreeMap<String, Verdict>),
    at: Timestamp,
) -> String {
    let request = &recorded.request;
    let ago = |then: Timestamp| length(at.duration_since(then).max(SignedDuration::ZERO));
    let mut text = format!("[tests.{name}]\nat = {at}\n");
    if !past.is_empty() {
        text += "history = [\n";
        for one in past {
            let mut line = format!("    {{ from_handle = {}, verdict = \"{}\"", quoted(&one.handle), one.verdict);
            if let Some(by) = &one.by {
                line += &format!(", by = {}", quoted(by));
            }
            if one.removed {
                line += ", removed = true";
            }
            text += &format!("{line}, ago = \"{}\" }},\n", ago(one.at));
        }
        text += "]\n";
    }
    let mut fields = Vec::new();
    let mut field = |key: &str, value: Option<&StrangerText>| {
        fields.extend(value.map(|value| format!("{key} = {}", quoted(value.raw()))));
    };
    field("from_handle", request.sender.original());
    field("from_name", request.name.as_ref());
    field("message", request.message.as_ref());
    fields.extend(agent.map(|agent| format!("agent = {}", quoted(agent))));
    let circumstances = decision.facts.circumstances;
    let came = circumstances.map_or(recorded.first_seen, |circumstances| circumstances.first_seen);
    if at.duration_since(came) >= SignedDuration::from_millis(1) {
        fields.push(format!("ago = \"{}\"", ago(came)));
    }
    if let Some(contacts) = circumstances.and_then(|circumstances| circumstances.contacts) {
        fields.push(format!("contacts = {contacts}"));
    }
    let contact = circumstances.and_then(|known| known.owner_is_contact.zip(known.sender_is_contact));
    if let Some((owner, sender)) = contact {
        let word = if sender {
            "self"
        } else if owner {
            "owner"
        } else {
            "none"
        };
        fields.push(format!("contact = \"{word}\""));
    }
    text += &format!("request = {{ {} }}\n", fields.join(", "));
    if !replies.is_empty() {
        let replies: Vec<_> = replies.iter().map(|(name, verdict)| format!("{name} = \"{verdict}\"")).collect();
        text += &format!("replies = {{ {} }}\n", replies.join(", "));
    }
    text + &format!("expect = {{ verdict = \"{}\", by = {} }}\n", decision.verdict, quoted(&decision.by.to_string()))
}

/// As a rules file writes it; at least a millisecond.
fn length(length: SignedDuration) -> String {
    let millis = length.as_millis().max(1);
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let parts = [
        (days, "d"),
        (rest / 3_600_000, "h"),
        (rest / 60_000 % 60, "m"),
        (rest / 1_000 % 60, "s"),
        (rest % 1_000, "ms"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    parts.collect::<Vec<_>>().join(" ")
}

/// A TOML string without characters that control a terminal.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            other if u32::from(other) > 0xFFFF => out.push_str(&format!("\\U{:08X}", u32::from(other))),
            other => out.push_str(&format!("\\u{:04X}", u32::from(other))),
        }
    }
    out + "\""
}

/// What the policy decides instead, if the test fails under it.
fn fails(policy: &Policy, table: &str, name: &str) -> Option<String> {
    let mut texts: Vec<SourceText> = policy.texts.clone();
    let first = texts.first_mut()?;
    first.text = format!("{}\n\n{table}", first.text).into();
    let path = Path::new(&first.name).to_owned();
    let loaded = policy::load_texts(&path, &texts);
    match &loaded.policy {
        Some(policy) => {
            let results = crate::policy::tests_runner::run_tests(policy);
            let result = results.iter().find(|result| result.name.as_str() == name)?;
            (!result.passed).then(|| result.said())
        }
        None => Some(format!("\n{}", loaded.report.render(false).trim_end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_lengths_are_written_as_a_rules_file_reads_them() {
        assert_eq!(quoted("a\"b\\\u{1b}é😀"), r#""a\"b\\\u001B\u00E9\U0001F600""#);
        assert_eq!(length(SignedDuration::from_micros(3)), "1ms");
        assert_eq!(length(SignedDuration::from_millis(90_061_001)), "1d 1h 1m 1s 1ms");
    }
}
