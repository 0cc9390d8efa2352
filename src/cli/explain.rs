//! `doorman explain`: what the ledger says of a request and why it was decided so; or what would happen to a request,
//! and then the first line says that this is hypothetical. Only reads files; needs no daemon.

mod as_test;
mod imagined;
pub(crate) mod page;
mod recorded;
mod sentences;
mod shapes;
pub(super) mod sources;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo};

use recorded::{of_recorded, of_recorded_otherwise};

use super::history::moment;
use super::ledger::{fault, path, print};
use super::{CliError, Global, agents, remote};
use crate::ledger::{LedgerReader, RecordedRequest};
use crate::model::{AgentId, Handle, PersonTarget, RequestId, ascii_json};
use crate::ops::control::wire::{ControlOp, OpReply};

/// Most older requests of a handle that are counted.
const OLDER_MAX: usize = 1_000;

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
    let output = match (found, &reader) {
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
        let json = serde_json::to_string_pretty(&output);
        let json = json.map_err(|error| CliError::new(1, format!("cannot be written as JSON: {error}")))?;
        print(&(ascii_json(&json) + "\n"))?;
    } else {
        super::output::print_page(&sentences::shown(&output, std::io::stdout().is_terminal()))?;
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
