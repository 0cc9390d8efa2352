//! `doorman contacts`: who has access, since when, and who approved it. Reads the ledger itself, so it works without a
//! daemon.

pub(super) mod select;

use std::ops::ControlFlow;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::agents::{self, AgentArg};
use super::history::moment;
use super::ledger::{fault, path};
use super::{CliError, Global, output, table};
use crate::ledger::LedgerReader;
use crate::ledger::read::{RecordedContact, WantedContacts};
use crate::policy::audit::Audit;
use crate::policy::rules::PatternSet;
use select::LetInBy;

/// If nothing selects, people see this many: nobody reads more, and the answer comes at once.
pub(super) const NEWEST: usize = 500;
/// Rows of one table; a longer list is printed as several tables.
const TABLE_ROWS: usize = 500;
/// Most characters of a handle in the table.
const HANDLE_CHARS: usize = 60;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman contacts                        who has access: the newest 500
  doorman contacts --all                  everybody
  doorman contacts --not-by-doorman       whom no answer of doorman let in
  doorman contacts --rule friends         whom this rule let in
  doorman contacts --matching 'acme/*' --json | jq -r .handle

A contact is not by doorman if the owner, the agent itself or the platform made
it, or if it was there before doorman. ENDS says when doorman removes a contact
again. `overdue`: its end has passed, and `doorman status` says why it is still
there. `in doubt`: somebody else may have made it, so doorman does not remove
it, and `doorman explain` says why.

Without options that select, you see the newest 500; `--json` prints all.

`doorman audit` shows which contacts the rules would not let in today, `doorman
revoke` removes contacts.")]
pub struct Args {
    /// Only those that no answer of doorman let in
    #[arg(long, conflicts_with = "rule")]
    not_by_doorman: bool,
    /// Only those whom this rule let in
    #[arg(long, value_name = "NAME", add = super::completions::rules())]
    rule: Option<String>,
    /// Only handles that match: `ann`, `acme/*`, `*/support`
    #[arg(long, value_name = "PATTERN", value_parser = select::pattern)]
    matching: Option<std::sync::Arc<PatternSet>>,
    /// Only contacts since then: `2h`, `2026-11-23`, or with a time and zone
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the newest N
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Everybody, however many they are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    agent: AgentArg,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// One JSON object per line, strangers' text as received
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// 74 if the ledger cannot be read, 1 for an unknown agent.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let since = moment::option("since", args.since.as_deref())?;
    let reader = LedgerReader::open(&path(args.ledger, global)?).map_err(|error| fault(&error))?;
    let agent = agents::on_record(args.agent.given(), Some(&reader), global)?;
    let fits =
        |handle: Option<&str>| args.matching.as_ref().is_none_or(|patterns| select::fits_handle(patterns, handle));
    let owner = args.matching.as_ref().and_then(|patterns| select::owner(patterns));
    let selects = args.limit.is_some() || since.is_some() || args.rule.is_some();
    let bounded = !(args.json || args.all || selects || args.not_by_doorman || args.matching.is_some());
    let wanted = WantedContacts {
        agent: agent.as_ref(),
        since,
        by: args.rule.as_deref(),
        not_by_doorman: args.not_by_doorman,
        owner: owner.as_deref(),
        id: None,
        newest: args.limit.or(bounded.then_some(NEWEST + 1)),
        fits: args.matching.is_some().then_some(&fits),
    };
    let mut out = ContactPrinter { bounded, ..ContactPrinter::new(args.json) };
    let mut failed = None;
    let each = reader.each_contact(&wanted, |contact| match out.take(contact, None) {
        Ok(flow) => flow,
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    each.map_err(|error| fault(&error))?;
    failed.map_or_else(|| out.flush(), Err)?;
    if !out.any && !args.json {
        output::note("no such contact is on record\n");
    }
    if out.more {
        output::note(&format!("these are the newest {NEWEST}: `--all` shows everybody, `-n` another number\n"));
    }
    Ok(0)
}

/// Where the contacts are printed: one line at a time, or in tables of limited length, so that they need not all fit
/// into memory.
pub(super) struct ContactPrinter {
    json: bool,
    rows: Vec<RecordedContact>,
    /// What the rules say of each contact, if that was requested.
    said: Vec<String>,
    pub(super) any: bool,
    /// Only the newest [`NEWEST`] rows are printed, of one more that is read.
    bounded: bool,
    /// Whether there was that one more.
    more: bool,
}

impl ContactPrinter {
    pub(super) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), said: Vec::new(), any: false, bounded: false, more: false }
    }

    /// Adds a contact, with what the rules say of it; breaks off if the reader of the output has gone.
    ///
    /// # Errors
    /// Exit code 1 if it cannot be written.
    pub(super) fn take(&mut self, contact: RecordedContact, said: Option<&Audit>) -> Result<ControlFlow<()>, CliError> {
        self.any = true;
        if self.json {
            let mut row = as_json(&contact);
            if let (Some(audit), Value::Object(row)) = (said, &mut row) {
                row.insert("audit".to_owned(), audit.as_str().into());
                row.insert("why".to_owned(), audit.to_string().into());
            }
            output::print_json(&row)?;
        } else {
            self.rows.push(contact);
            self.said.extend(said.map(ToString::to_string));
            if self.rows.len() >= TABLE_ROWS && !self.bounded {
                self.flush()?;
            }
        }
        Ok(if output::reader_left() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Prints the remaining rows.
    ///
    /// # Errors
    /// As [`ContactPrinter::take`].
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        if self.bounded && self.rows.len() > NEWEST {
            self.rows.drain(..self.rows.len() - NEWEST);
            self.more = true;
        }
        if !self.rows.is_empty() {
            output::print_page(&page(&self.rows, &self.said, output::now()))?;
        }
        self.rows.clear();
        self.said.clear();
        Ok(())
    }
}

/// One row for pipes, strangers' text as received.
pub(super) fn as_json(contact: &RecordedContact) -> Value {
    json!({
        "agent": contact.agent,
        "contact": contact.contact,
        "handle": contact.handle.as_ref().map(|text| text.raw()),
        "name": contact.name.as_ref().map(|text| text.raw()),
        "kind": contact.kind.map(|kind| kind.as_str()),
        "since": contact.since,
        "request": contact.request,
        "by": contact.by,
        "by_doorman": contact.by.is_some(),
        "ends_at": contact.ends_at,
        "end_in_doubt": contact.end_in_doubt.map(|doubt| doubt.as_str()),
    })
}

/// When the contact is removed.
fn end(contact: &RecordedContact, now: Timestamp) -> String {
    match (contact.ends_at, contact.end_in_doubt) {
        (None, _) => "-".to_owned(),
        (Some(_), Some(_)) => "in doubt".to_owned(),
        (Some(at), None) if at <= now => "overdue".to_owned(),
        (Some(at), None) => format!("in {}", output::ago(now, at)),
    }
}

/// The table; with a last column of what the rules say of each contact, if that is given.
pub(super) fn page(contacts: &[RecordedContact], said: &[String], now: Timestamp) -> String {
    page_of(contacts, said, now, output::width())
}

/// The same on a terminal of this width.
pub(super) fn page_of(contacts: &[RecordedContact], said: &[String], now: Timestamp, width: Option<usize>) -> String {
    let several = contacts.iter().any(|contact| contact.agent != contacts[0].agent);
    let mut header = vec!["HANDLE", "KIND", "SINCE", "REQUEST", "BY"];
    let ends = contacts.iter().any(|contact| contact.ends_at.is_some());
    if ends {
        header.push("ENDS");
    }
    if several {
        header.insert(0, "AGENT");
    }
    if !said.is_empty() {
        header.push("RULES NOW");
    }
    let row = |(n, contact): (usize, &RecordedContact)| {
        let handle = contact.handle.as_ref().map_or_else(
            || format!("({})", output::shown(contact.contact.as_str())),
            |text| output::handle(text.raw(), HANDLE_CHARS),
        );
        let mut cells = vec![
            handle,
            contact.kind.map_or("-", |kind| kind.as_str()).to_owned(),
            contact.since.map_or_else(|| "-".to_owned(), |at| format!("{} ago", output::ago(at, now))),
            contact.request.as_ref().map_or_else(|| "-".to_owned(), |id| output::shown(id.as_str())),
            LetInBy::of(contact).to_string(),
        ];
        if ends {
            cells.push(end(contact, now));
        }
        if several {
            cells.insert(0, contact.agent.to_string());
        }
        cells.extend(said.get(n).cloned());
        cells
    };
    table::fitted(&header, contacts.iter().enumerate().map(row).collect(), width)
}
