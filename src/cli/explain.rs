//! `doorman explain`: what the ledger says of a request and why it was decided so; or what would happen to a request,
//! and then the first line says that this is hypothetical. Only reads files; needs no daemon.

mod as_test;
mod imagined;
pub(crate) mod page;
mod sentences;
mod shapes;
pub(super) mod sources;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use shapes::{
    DeciderReplyView, EndMovedView, ExplainOutput, PausedView, RecordView, RemovedView, SettlementView, VerdictView,
};

use super::history::moment;
use super::ledger::{fault, path, print};
use super::{CliError, Global, agents, remote};
use crate::clock::Clock;
use crate::ledger::read::{RecordedDecision, RowMoment, SettlementRecord};
use crate::ledger::{HistoryReach, LedgerReader, RecordedRequest, RestoreReach};
use crate::model::{AgentId, Handle, PersonTarget, RequestId, Sender, ascii_json};
use crate::ops::control::wire::{ControlOp, OpReply};
use crate::policy::explain::{Explanation, explain};
use crate::policy::{By, Circumstances, ClockHealth, Mode, Policy, PolicyState};

/// Most older requests of a handle that are counted, and that are named.
const OLDER_MAX: usize = 1_000;
const OLDER_NAMED: usize = 3;
/// Words of people on doubts that are shown.
const SETTLEMENTS_SHOWN: usize = 5;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman explain @carol              her newest request on record
  doorman explain 0192f3c4            a request by the beginning of its id
  doorman explain @carol --now        what would happen if it came now
  doorman explain @zoe --message hi   what would happen: she never asked
  doorman explain @carol --as-test    the same as a test for the rules file

What begins with `@` is a handle, and a UUID is an id. Anything else is an id on
record, else a handle on record or the beginning of an id (not both), else a
handle never seen.

Exit status: 0 done, 1 an id that is not on record.")]
pub struct Args {
    /// A handle, or the id of a request or its beginning
    #[arg(value_name = "HANDLE|ID", add = super::completions::recorded())]
    target: String,
    /// What would happen if the request on record came now
    #[arg(long, conflicts_with_all = ["at", "as_test"])]
    now: bool,
    /// Hypothetical: the sender's name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Hypothetical: the message; without it there is none
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Hypothetical: at this time: `2h` ago, `2026-01-05`, `2026-01-05T12:00`, or with a zone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How old the request is at that time, such as `2h`; for `wait`, `age_over` and `overdue`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    age: Option<SignedDuration>,
    /// How many contacts the agent has; else what the record says, or unknown
    #[arg(long, value_name = "N")]
    contacts: Option<u64>,
    /// Who is a contact: the sender (`self`), somebody of the sender's owner, or neither; else as recorded
    #[arg(long, value_name = "WHO", value_parser = crate::policy::keys::TEST_CONTACT.to_vec())]
    contact: Option<String>,
    /// Hypothetical: without the record, its limits and its history
    #[arg(long)]
    fresh: bool,
    /// Under these rules; else the configured ones, or those that decided the request on record
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Which agent, if there are several: its id, the beginning of it, or its handle
    #[arg(long, value_name = "AGENT", add = super::completions::agents())]
    agent: Option<String>,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Print the decision on record as a `[tests.NAME]` table for its rules file
    #[arg(long, conflicts_with = "json")]
    as_test: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The zone of the times inside the reasons: people read local time, machines UTC.
    fn zone(&self) -> Option<TimeZone> {
        (!self.json).then(TimeZone::system)
    }
}

pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let span: Span = text.parse().map_err(|_| "expected a duration, such as `2h` or `3d`".to_owned())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if length.is_negative() { Err("expected a duration that is not negative".to_owned()) } else { Ok(length) }
}

/// Which request the command is about.
enum ExplainSubject {
    /// A request on record, and the older ones of the same handle.
    Recorded(Box<RecordedRequest>, Vec<RequestId>),
    /// A handle that is not on record.
    Nobody,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let at = moment::option("at", args.at.as_deref())?;
    let reader = reader(&args, global)?;
    let agent = agents::on_record(args.agent.as_deref(), reader.as_ref(), global)?;
    let found = match &reader {
        Some(reader) => on_record(&args.target, agent.as_ref(), reader, global)?,
        None => match PersonTarget::parse(&args.target) {
            PersonTarget::Id(_) => return Err(not_on_record(&args.target, global)),
            PersonTarget::Handle(_) | PersonTarget::Either(_) => ExplainSubject::Nobody,
        },
    };
    if let ExplainSubject::Nobody = &found
        && let Some(Unrecorded { why, by_handle }) = unrecorded(&args.target, global)
    {
        if !by_handle {
            return Err(CliError::new(1, why));
        }
        super::output::note(&format!("doorman: {why}\n"));
    }
    let told = match (found, &reader) {
        (ExplainSubject::Recorded(recorded, older), Some(reader)) => {
            let asked_by_id = PersonTarget::parse(&args.target)
                .handle()
                .is_none_or(|handle| recorded.request.sender.handle() != Some(&handle));
            let imagined = args.name.is_some() || args.message.is_some() || args.age.is_some();
            if asked_by_id && imagined {
                let message = format!(
                    "`{}` is a request on record: `--name`, `--message` and `--age` are for handles",
                    super::output::shown(&args.target)
                );
                return Err(CliError::new(2, message));
            }
            if args.as_test {
                let (text, warning) = as_test::test(reader, &recorded, global)?;
                print(&text)?;
                if let Some(warning) = warning {
                    use std::io::Write as _;
                    let _ = writeln!(anstream::stderr(), "{warning}");
                }
                return Ok(0);
            }
            if imagined || args.fresh || (at.is_some() && !asked_by_id) {
                imagined::of_hypothetical(&args, at, agent.or(Some(recorded.agent)), Some(reader), global)?
            } else if args.now {
                imagined::of_now(&args, reader, &recorded, global)?
            } else if at.is_some() || args.rules.is_some() || args.contacts.is_some() || args.contact.is_some() {
                of_recorded_otherwise(&args, at, reader, &recorded, global)?
            } else {
                of_recorded(reader, &recorded, &older, args.zone().as_ref(), global)?
            }
        }
        (ExplainSubject::Recorded(..) | ExplainSubject::Nobody, _) if args.as_test => {
            return Err(CliError::new(
                1,
                format!("nobody called `{}` is on record", super::output::shown(&args.target)),
            ));
        }
        (ExplainSubject::Recorded(..) | ExplainSubject::Nobody, reader) => {
            imagined::of_hypothetical(&args, at, agent, reader.as_ref(), global)?
        }
    };
    if args.json {
        let json = serde_json::to_string_pretty(&told);
        let json = json.map_err(|error| CliError::new(1, format!("cannot be written as JSON: {error}")))?;
        print(&(ascii_json(&json) + "\n"))?;
    } else {
        super::output::print_page(&sentences::shown(&told, std::io::stdout().is_terminal()))?;
    }
    Ok(0)
}

/// The ledger. `None` if it was not named on the command line and does not exist.
fn reader(args: &Args, global: &Global) -> Result<Option<LedgerReader>, CliError> {
    let path = path(args.ledger.clone(), global)?;
    if args.ledger.is_none() && !path.is_there() {
        return Ok(None);
    }
    LedgerReader::open(&path).map(Some).map_err(|error| fault(&error))
}

/// A pending request that is not on record, because the ledger cannot be written.
struct Unrecorded {
    why: String,
    /// The person named a handle, so the command can at least say what the rules would decide about it.
    by_handle: bool,
}

/// Asks a running daemon, which knows such a request.
fn unrecorded(target: &str, global: &Global) -> Option<Unrecorded> {
    let Some(OpReply::Status(status)) = remote::at_once(global, &ControlOp::Status) else { return None };
    let why = status.ledger.strip_prefix("blocked: ")?.to_owned();
    let Some(OpReply::Pending(pending)) = remote::at_once(global, &ControlOp::Pending { agent: None }) else {
        return None;
    };
    let meant = PersonTarget::parse(target);
    let by_handle = pending.requests.iter().any(|row| {
        let handle = row.handle.as_deref().and_then(|handle| Handle::parse(handle).ok());
        handle.is_some_and(|handle| meant.handle() == Some(handle))
    });
    let by_id = pending.requests.iter().any(|row| {
        meant.id().is_some_and(|id| id.as_str() == row.request)
            || meant.beginning().is_some_and(|beginning| row.request.starts_with(beginning))
    });
    (by_handle || by_id).then(|| {
        let (target, why) = (super::output::shown(target), super::output::shown(&why));
        let why = format!("`{target}` waits and is not on record yet, since the ledger cannot be written: {why}");
        Unrecorded { why, by_handle }
    })
}

fn not_on_record(target: &str, global: &Global) -> CliError {
    let message = unrecorded(target, global).map(|unrecorded| unrecorded.why);
    CliError::new(
        1,
        message.unwrap_or_else(|| format!("no request with the id `{}` is on record", super::output::shown(target))),
    )
}

/// Which request the command is about, read as [`PersonTarget`] says.
fn on_record(
    target: &str,
    agent: Option<&AgentId>,
    reader: &LedgerReader,
    global: &Global,
) -> Result<ExplainSubject, CliError> {
    let meant = PersonTarget::parse(target);
    let read = |error| fault(&error);
    let of_agent = |recorded: &RecordedRequest| agent.is_none_or(|agent| *agent == recorded.agent);
    let mut found = None;
    if let Some(id) = meant.id() {
        found = reader.request(&id).map_err(read)?.filter(of_agent);
    }
    let begins = match (&found, meant.beginning()) {
        (None, Some(beginning)) => reader.beginning(beginning).map_err(read)?,
        (Some(_), _) | (None, None) => Vec::new(),
    };
    if let (None, PersonTarget::Handle(text) | PersonTarget::Either(text)) = (&found, &meant) {
        let mut theirs = reader.requests_of(text, agent, OLDER_MAX + 1).map_err(read)?.into_iter();
        if let Some(newest) = theirs.next() {
            let older: Vec<RequestId> = theirs.map(|one| one.request.id).collect();
            // If the text is a handle and also the beginning of an id of another sender's request, it stays undecided
            // which is meant.
            if begins.iter().any(|id| *id != newest.request.id && !older.contains(id)) {
                let shown = super::output::shown(text);
                let message = format!(
                    "`{shown}` is a handle, and the id of another's request begins so: write `@{shown}`, or more of the id"
                );
                return Err(CliError::new(1, message));
            }
            return Ok(ExplainSubject::Recorded(Box::new(newest), older));
        }
    }
    if let (None, Some(beginning)) = (&found, meant.beginning()) {
        match begins.as_slice() {
            [] => {}
            [only] => found = reader.request(only).map_err(read)?.filter(of_agent),
            _ => {
                let message =
                    format!("the ids of several requests begin with `{beginning}`: write more of the one you mean");
                return Err(CliError::new(1, message));
            }
        }
    }
    match (found, meant) {
        (Some(recorded), _) => Ok(ExplainSubject::Recorded(Box::new(recorded), Vec::new())),
        (None, PersonTarget::Id(_)) => Err(not_on_record(target, global)),
        (None, PersonTarget::Handle(_) | PersonTarget::Either(_)) => Ok(ExplainSubject::Nobody),
    }
}

/// How far back the record must be read for this policy.
fn reach(policy: &Policy) -> RestoreReach {
    let history = policy.history_reach().map(|reach| match reach {
        SignedDuration::MAX => HistoryReach::Ever,
        within => HistoryReach::Within(within),
    });
    let approvals = policy.approvals_max.map(|quota| quota.per);
    RestoreReach { charges: policy.charge_reach().unwrap_or_default(), approvals, history }
}

/// The policy state of the agent at that moment, as far as this policy needs it.
fn policy_state(
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
    state.asked_of(agents::asked(agent, global));
    Ok(state)
}

/// The last decision on a request of this agent.
fn last_decision(reader: &LedgerReader, recorded: &RecordedRequest) -> Result<Option<RecordedDecision>, CliError> {
    let decisions = reader.decisions_of(&recorded.request.id).map_err(|error| fault(&error))?;
    Ok(decisions.into_iter().rfind(|one| one.agent == recorded.agent))
}

/// What happened: the record, then the conditions as they were, then what today's rules would say. `zone`: of the times in the
/// conditions, if not UTC.
fn of_recorded(
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
        told: words_on(reader, recorded)?,
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
    let told = ExplainOutput { basis: "record", record: Some(story), explanation };
    Ok(told)
}

/// What deciders said of it, oldest first.
fn words_on(reader: &LedgerReader, recorded: &RecordedRequest) -> Result<Vec<DeciderReplyView>, CliError> {
    let told = reader.told_of(recorded).map_err(|error| fault(&error))?;
    let word = |(at, word): (Timestamp, crate::policy::DeciderVerdict)| DeciderReplyView {
        at,
        decider: word.decider.as_str().to_owned(),
        verdict: word.verdict,
        reason: word.reason.map(|reason| reason.raw().to_owned()),
    };
    Ok(told.into_iter().map(word).collect())
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
fn not_blanked(recorded: &RecordedRequest) -> Result<(), CliError> {
    if recorded.blanked {
        let message =
            format!("the text of `{}` was blanked for its age: it cannot be explained any more", recorded.request.id);
        return Err(CliError::new(1, message));
    }
    Ok(())
}

/// A request on record under other rules, at another time, or with another number of contacts.
fn of_recorded_otherwise(
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
fn contacts_on_record(
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
