//! Turns data into what a template shows: texts only, so that templates compute nothing.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use url::form_urlencoded;

use super::super::RunningPage;
use super::super::reading::RulesFileView;
use super::super::words::ExplainText;
use super::shown;
use crate::ledger::read::RecordedContact;
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, AgentState, ContactKind, Handle, RequestId, Verdict};
use crate::ops::board::AgentBoard;
use crate::ops::control::wire::{AgentStatus, PendingRow};
use crate::policy::explain::{Explanation, Reason};
use crate::policy::{By, GuardKind};

const HANDLE_CHARS: usize = 80;
const NAME_CHARS: usize = 80;
const MESSAGE_CHARS: usize = 500;
const MESSAGE_CHARS_SHORT: usize = 90;
const AGENT_CHARS: usize = 60;

/// A moment, for people and for machines.
pub(in crate::page) struct ShownTime {
    pub(in crate::page) ago: String,
    pub(in crate::page) at: String,
    pub(in crate::page) iso: String,
}

impl ShownTime {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let iso = Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
        Self { ago: ago(at, now), at: clock(at), iso }
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.duration_since(at).as_secs().max(0) {
        0..60 => "just now".to_owned(),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A moment in this machine's time zone.
pub(in crate::page) fn clock(at: Timestamp) -> String {
    let zone = TimeZone::system();
    format!("{} {}", zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S"), zone.to_offset_info(at).abbreviation())
}

/// An id as a part of a path.
pub(in crate::page) fn path_of(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

/// The display name of each agent, for pages that name several.
pub(in crate::page) fn names(page: &RunningPage) -> HashMap<AgentId, String> {
    let board = page.board.borrow();
    board.agents.iter().map(|agent| (agent.status.id.clone(), called(agent))).collect()
}

fn called(agent: &AgentBoard) -> String {
    agent
        .status
        .handle
        .as_deref()
        .map_or_else(|| agent.status.id.to_string(), |handle| handle.chars().take(AGENT_CHARS).collect())
}

fn name_of(names: &HashMap<AgentId, String>, agent: &AgentId) -> String {
    names.get(agent).cloned().unwrap_or_else(|| agent.to_string())
}

/// A `by`; in words if it is one of doorman's own values.
fn why(by: &By) -> String {
    match by {
        By::NoMatch => "no rule matches".to_owned(),
        By::Paused => "the agent is paused".to_owned(),
        By::Guard(GuardKind::LookAlike) => "looks like somebody who is protected".to_owned(),
        By::Guard(GuardKind::HandleNotPlain) => "has no handle, or a malformed one".to_owned(),
        By::Guard(GuardKind::AnsweredBefore) => "was answered before, and how that ended is open".to_owned(),
        By::Limit(rule) => format!("the limit of rule {rule} is reached"),
        By::Ask(rule) => format!("rule {rule}, and what a decider said of it"),
        By::Hold(person) => format!("held by {}", shown(Some(person), 80)),
        By::Error(what) => format!("it could not be decided: {}", what.as_str()),
        By::Rule(rule) => format!("rule {rule}"),
        By::Overdue(_) | By::Person(_) => shown(Some(&by.to_string()), 100),
    }
}

/// The same of a row, whose `by` another version of doorman may have written.
fn why_pending(row: &PendingRow) -> String {
    match row.by.as_deref() {
        None => "not decided yet".to_owned(),
        Some(text) => By::parse(text).map_or_else(|| shown(Some(text), 100), |by| why(&by)),
    }
}

/// Whether it waits for a person.
pub(in crate::page) fn waits(row: &PendingRow) -> bool {
    row.stage == "deferred" && row.verdict.is_none_or(|verdict| verdict == Verdict::Defer)
}

/// An agent.
pub(in crate::page) struct AgentRow {
    pub(in crate::page) called: String,
    pub(in crate::page) id: String,
    pub(in crate::page) state: &'static str,
    /// Whether somebody should look.
    pub(in crate::page) bad: bool,
    pub(in crate::page) marks: Vec<&'static str>,
    pub(in crate::page) why: String,
    pub(in crate::page) since: ShownTime,
    pub(in crate::page) pending: u64,
    pub(in crate::page) waiting: u64,
    pub(in crate::page) listed: Option<ShownTime>,
    pub(in crate::page) remarks: Vec<String>,
}

impl AgentRow {
    pub(super) fn new(agent: &AgentBoard, now: Timestamp) -> Self {
        let status = &agent.status;
        let marks = [
            (status.paused, "paused"),
            (status.without_rules, "without rules"),
            (status.clock_unsound, "clock unsound"),
        ];
        let marks: Vec<_> = marks.into_iter().filter(|(so, _)| *so).map(|(_, mark)| mark).collect();
        Self {
            called: called(agent),
            id: status.id.to_string(),
            state: status.state.as_str(),
            bad: matches!(status.state, AgentState::Refused | AgentState::Away) || !marks.is_empty(),
            marks,
            why: status.why.clone(),
            since: ShownTime::new(status.since, now),
            pending: status.pending,
            waiting: status.deferred,
            listed: status.last_listing.map(|at| ShownTime::new(at, now)),
            remarks: paused_by(status).into_iter().chain(status.remarks.iter().cloned()).collect(),
        }
    }
}

/// Who or what paused the agent, since when, and with which note.
fn paused_by(status: &AgentStatus) -> Option<String> {
    let pause = status.pause.as_ref()?;
    let note =
        pause.note.as_deref().map(|note| format!(", note: {}", shown(Some(note), NAME_CHARS))).unwrap_or_default();
    Some(format!("paused by {} since {}{note}", shown(Some(pause.by.who()), NAME_CHARS), clock(pause.at)))
}

/// A pending request.
pub(in crate::page) struct PendingCard {
    pub(in crate::page) id: String,
    pub(in crate::page) path: String,
    pub(in crate::page) agent: String,
    pub(in crate::page) agent_called: String,
    /// The other doorman that holds the agent.
    pub(in crate::page) held_by: Option<String>,
    pub(in crate::page) handle: String,
    pub(in crate::page) name: String,
    pub(in crate::page) message: String,
    pub(in crate::page) since: ShownTime,
    pub(in crate::page) why: String,
    /// The stage, if it waits for something other than a person.
    pub(in crate::page) stage: Option<String>,
    pub(in crate::page) held: bool,
    /// Whose handle is plain may be let in for a time.
    pub(in crate::page) plain: bool,
    pub(in crate::page) doubts: Vec<String>,
    /// What deciders said of it.
    pub(in crate::page) replies: Vec<String>,
}

impl PendingCard {
    pub(in crate::page) fn new(agent: &AgentBoard, row: &PendingRow, now: Timestamp) -> Self {
        let stage = (!waits(row)).then(|| {
            let shadow = row.stage == "deferred" && row.verdict.is_some_and(|verdict| verdict != Verdict::Defer);
            let word = if shadow { "shadow" } else { row.stage.as_str() };
            row.verdict.map_or_else(|| word.to_owned(), |verdict| format!("{word}: {verdict}"))
        });
        Self {
            id: row.request.clone(),
            path: path_of(&row.request),
            agent: row.agent.to_string(),
            agent_called: called(agent),
            held_by: row.held_by.as_deref().map(|by| shown(Some(by), 100)),
            handle: row
                .handle
                .as_deref()
                .map_or_else(|| "no handle".to_owned(), |handle| shown(Some(handle), HANDLE_CHARS)),
            name: shown(row.name.as_deref(), NAME_CHARS),
            message: shown(row.message.as_deref(), MESSAGE_CHARS),
            since: ShownTime::new(row.inserted_at.unwrap_or(row.first_seen), now),
            why: why_pending(row),
            stage,
            held: row.by.as_deref().and_then(By::parse).is_some_and(|by| matches!(by, By::Hold(_))),
            plain: row.handle.as_deref().is_some_and(|handle| Handle::parse(handle).is_ok()),
            doubts: row.doubts.iter().map(|doubt| shown(Some(doubt), 200)).collect(),
            replies: row.replies.iter().map(|word| shown(Some(word), 300)).collect(),
        }
    }
}

/// A request on record.
pub(in crate::page) struct HistoryRow {
    pub(in crate::page) path: String,
    pub(in crate::page) at: ShownTime,
    pub(in crate::page) agent: String,
    pub(in crate::page) handle: String,
    pub(in crate::page) message: String,
    pub(in crate::page) verdict: &'static str,
    pub(in crate::page) by: String,
    pub(in crate::page) outcome: String,
    /// What became of the contact.
    pub(in crate::page) notes: Vec<String>,
}

fn of_verdict(verdict: Option<Verdict>) -> &'static str {
    verdict.map_or("", Verdict::as_str)
}

impl HistoryRow {
    pub(super) fn new(one: &RecordedRequest, names: &HashMap<AgentId, String>, now: Timestamp) -> Self {
        let (handle, _, message) = texts(one, MESSAGE_CHARS_SHORT);
        let outcome = one.outcome.map(|outcome| outcome.as_str().to_owned());
        Self {
            path: path_of(one.request.id.as_str()),
            at: ShownTime::new(one.happened_at, now),
            agent: name_of(names, &one.agent),
            handle,
            message,
            verdict: of_verdict(one.verdict),
            by: one.by.as_ref().map_or_else(|| "not decided yet".to_owned(), why),
            outcome: outcome.unwrap_or_else(|| "pending".to_owned()),
            notes: one.contact_notes(&clock).iter().map(|note| shown(Some(note), 200)).collect(),
        }
    }
}

/// Handle, name and message.
fn texts(one: &RecordedRequest, most: usize) -> (String, String, String) {
    if one.blanked {
        return ("(deleted for its age)".to_owned(), String::new(), String::new());
    }
    let handle = one.request.sender.original().map_or_else(|| "no handle".to_owned(), |text| text.shown(HANDLE_CHARS));
    let text = |text: Option<&crate::model::StrangerText>, most| text.map(|text| text.shown(most)).unwrap_or_default();
    (handle, text(one.request.name.as_ref(), NAME_CHARS), text(one.request.message.as_ref(), most))
}

/// One request: as decided then, and under the rules in force now.
#[derive(Default)]
pub(in crate::page) struct RequestPage {
    pub(in crate::page) id: String,
    pub(in crate::page) agent: String,
    pub(in crate::page) handle: String,
    pub(in crate::page) name: String,
    pub(in crate::page) message: String,
    pub(in crate::page) received: Option<ShownTime>,
    pub(in crate::page) sentence: String,
    pub(in crate::page) note: Option<String>,
    pub(in crate::page) remark: Option<String>,
    /// What deciders said, and what became of the contact, a sentence each.
    pub(in crate::page) beside: Vec<String>,
    pub(in crate::page) then: Option<Side>,
    pub(in crate::page) now: Option<Side>,
    pub(in crate::page) no_now: Option<String>,
    /// The pending request, if it is pending now.
    pub(in crate::page) card: Option<PendingCard>,
}

/// The reasons of one time: then or now.
pub(in crate::page) struct Side {
    pub(in crate::page) said: String,
    pub(in crate::page) at: ShownTime,
    pub(in crate::page) policy: String,
    /// The rules that had a say or may have had one.
    pub(in crate::page) spoke: Vec<ReasonRow>,
    pub(in crate::page) silent: Vec<ReasonRow>,
}

/// What one rule said.
pub(in crate::page) struct ReasonRow {
    pub(in crate::page) rule: String,
    pub(in crate::page) then: &'static str,
    pub(in crate::page) matched: &'static str,
    pub(in crate::page) shadow: bool,
    pub(in crate::page) conditions: Vec<ConditionRow>,
}

/// One condition.
pub(in crate::page) struct ConditionRow {
    pub(in crate::page) place: String,
    pub(in crate::page) key: &'static str,
    pub(in crate::page) wanted: String,
    pub(in crate::page) saw: String,
    pub(in crate::page) holds: &'static str,
}

fn truth(known: Option<bool>, words: [&'static str; 3]) -> &'static str {
    match known {
        Some(true) => words[0],
        Some(false) => words[1],
        None => words[2],
    }
}

impl ReasonRow {
    fn new(reason: &Reason) -> Self {
        let conditions = reason.conditions.iter().map(|one| ConditionRow {
            place: one.place.clone(),
            key: one.key,
            wanted: one.wanted.chars().take(400).collect(),
            saw: one.saw.chars().take(400).collect(),
            holds: truth(one.holds, ["true", "false", "unknown"]),
        });
        Self {
            rule: reason.rule.clone(),
            then: reason.then,
            matched: truth(reason.matched, ["matches", "does not match", "unknown"]),
            shadow: reason.shadow,
            conditions: conditions.collect(),
        }
    }
}

impl Side {
    fn new(explanation: &Explanation, said: String, at: Timestamp, policy: &str, now: Timestamp) -> Self {
        let spoke = |reason: &&Reason| reason.matched != Some(false);
        let (spoke, silent): (Vec<&Reason>, Vec<&Reason>) = explanation.reasons.iter().partition(spoke);
        let rows = |reasons: Vec<&Reason>| reasons.into_iter().map(ReasonRow::new).collect();
        let policy = policy.chars().take(12).collect();
        Self { said, at: ShownTime::new(at, now), policy, spoke: rows(spoke), silent: rows(silent) }
    }
}

/// The same, if it is a request to this agent.
pub(in crate::page) fn read_request_of(
    page: &RunningPage,
    reader: &LedgerReader,
    id: &RequestId,
    agent: &AgentId,
    now: Timestamp,
) -> Result<Option<RequestPage>, String> {
    let recorded = reader.request(id).map_err(|error| error.to_string())?;
    recorded.filter(|one| one.agent == *agent).map(|one| shown_of(page, reader, one, now)).transpose()
}

/// Reads the data that `explain` shows.
pub(in crate::page) fn read_request(
    page: &RunningPage,
    reader: &LedgerReader,
    id: &RequestId,
    now: Timestamp,
) -> Result<Option<RequestPage>, String> {
    let recorded = reader.request(id).map_err(|error| error.to_string())?;
    recorded.map(|one| shown_of(page, reader, one, now)).transpose()
}

fn shown_of(
    page: &RunningPage,
    reader: &LedgerReader,
    recorded: RecordedRequest,
    now: Timestamp,
) -> Result<RequestPage, String> {
    let ExplainText { sentence, said, remark, beside, then, now: today } =
        (page.words.explain)(reader, &recorded, now, &clock, page.config.clone())?;
    let then = then.zip(said).map(|(then, (said, at, policy))| Side::new(&then, said, at, &policy, now));
    let (today, no_now) = match today {
        Ok(today) => {
            let said = format!("{} by {}", today.verdict, today.by);
            (Some(Side::new(&today, said, now, &today.policy, now)), None)
        }
        Err(why) => (None, Some(why)),
    };
    let (handle, name, message) = texts(&recorded, MESSAGE_CHARS);
    Ok(RequestPage {
        id: recorded.request.id.to_string(),
        agent: name_of(&names(page), &recorded.agent),
        handle,
        name,
        message,
        received: Some(ShownTime::new(recorded.first_seen, now)),
        sentence,
        note: recorded.note.as_deref().map(|note| shown(Some(note), 500)),
        remark: remark.map(|remark| shown(Some(&remark), 500)),
        beside: beside.iter().map(|line| shown(Some(line), 500)).collect(),
        then,
        now: today,
        no_now,
        card: None,
    })
}

impl RequestPage {
    /// A pending request that is not on record yet.
    pub(super) fn not_on_record(card: PendingCard) -> Self {
        Self {
            id: card.id.clone(),
            agent: card.agent_called.clone(),
            handle: card.handle.clone(),
            name: card.name.clone(),
            message: card.message.clone(),
            sentence: "it is pending, and not on record yet".to_owned(),
            beside: card.replies.clone(),
            card: Some(card),
            ..Self::default()
        }
    }
}

/// A rules file.
pub(in crate::page) struct RulesCard {
    pub(in crate::page) path: String,
    pub(in crate::page) policy: String,
    pub(in crate::page) mode: String,
    pub(in crate::page) since: Option<ShownTime>,
    pub(in crate::page) problem: bool,
    pub(in crate::page) why: Option<String>,
    pub(in crate::page) rows: Vec<RuleView>,
}

/// A rule.
pub(in crate::page) struct RuleView {
    pub(in crate::page) name: String,
    pub(in crate::page) then: &'static str,
    pub(in crate::page) shadow: bool,
    pub(in crate::page) matched: u64,
    pub(in crate::page) last: Option<ShownTime>,
}

impl RulesCard {
    pub(super) fn new(file: &RulesFileView, now: Timestamp) -> Self {
        let status = &file.status;
        let rows = file.rules.iter().take(super::ROWS_MAX).map(|rule| RuleView {
            name: rule.name.clone(),
            then: rule.then.as_str(),
            shadow: rule.shadow,
            matched: rule.matched,
            last: rule.last.map(|at| ShownTime::new(at, now)),
        });
        Self {
            path: status.path.clone(),
            policy: status.hash.as_deref().unwrap_or_default().chars().take(12).collect(),
            mode: status.mode.clone().unwrap_or_else(|| "none in force".to_owned()),
            since: status.since.map(|at| ShownTime::new(at, now)),
            problem: status.problem.is_some(),
            why: file.why.clone(),
            rows: rows.collect(),
        }
    }
}

/// A contact.
pub(in crate::page) struct ContactRow {
    pub(in crate::page) handle: String,
    pub(in crate::page) name: String,
    pub(in crate::page) kind: &'static str,
    pub(in crate::page) agent: String,
    pub(in crate::page) since: Option<ShownTime>,
    pub(in crate::page) by: String,
    /// The request that made it.
    pub(in crate::page) path: Option<String>,
    /// When it is removed; or why doorman does not remove it by itself.
    pub(in crate::page) ends: Option<String>,
    pub(in crate::page) end_in_doubt: bool,
}

impl ContactRow {
    pub(super) fn new(one: &RecordedContact, names: &HashMap<AgentId, String>, now: Timestamp) -> Self {
        let handle = one.handle.as_ref().map_or_else(|| "no handle".to_owned(), |text| text.shown(HANDLE_CHARS));
        Self {
            handle,
            name: one.name.as_ref().map(|text| text.shown(NAME_CHARS)).unwrap_or_default(),
            kind: match one.kind {
                Some(ContactKind::User) => "user",
                Some(ContactKind::Agent) => "agent",
                Some(ContactKind::Other) => "other",
                None => "",
            },
            agent: name_of(names, &one.agent),
            since: one.since.map(|at| ShownTime::new(at, now)),
            by: match &one.by {
                Some(By::Person(person)) => shown(Some(person.name()), 80),
                Some(by) => why(by),
                None => "not by doorman".to_owned(),
            },
            path: one.request.as_ref().map(|id| path_of(id.as_str())),
            ends: one.ends_at.map(clock),
            end_in_doubt: one.end_in_doubt.is_some(),
        }
    }
}
