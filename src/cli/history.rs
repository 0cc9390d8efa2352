//! `doorman history`: what was decided, and why. Reads the ledger itself, so it works without a daemon, too.

pub(super) mod lines;
pub(super) mod moment;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::contacts::NEWEST;
use super::ledger::{fault, path, print};
use super::output::reader_left;
use super::{CliError, Global, agents, completions};
use crate::clock::Clock;
use crate::ledger::read::{Follow, OutcomeFilter, TimeOf};
use crate::ledger::{Filter, LedgerReader, RecordedRequest};
use crate::model::{Outcome, Verdict};

/// How often `--follow` reads the ledger.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rows of one table; a longer list is printed as several tables, so that it need not fit into memory.
const TABLE_ROWS: usize = 500;

/// Rows that `--follow` begins with, if no option says how many.
const FOLLOWED: usize = 10;
/// Of the contacts that no answer explains, at most this many are named.
const UNEXPLAINED_NAMED: usize = 5;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman history                          the newest 500
  doorman history -n 20                    the newest 20
  doorman history --since 1h               what happened since then
  doorman history @carol                   one handle, like --handle
  doorman history --handle 'acme/*' --outcome rejected
  doorman history -f                       the last ten, then what is new
  doorman history --since 30d --csv > october.csv
  doorman history -q --since 1h --outcome rejected && mail …

Without options that select, you see the newest 500, or everything with `--all`;
`--json` and `--csv` print everything.

OUTCOME: `shadow` was decided and not answered; `… elsewhere` was answered by
somebody else; `removed` was approved, and the contact is removed again. Times
are local; `--json` and `--csv` have them in UTC. `doorman explain REQUEST` says
why.")]
pub struct Args {
    /// Only from this handle; the same as --handle
    #[arg(value_name = "HANDLE", conflicts_with = "handle", add = completions::recorded())]
    only: Option<String>,
    /// Only requests to which something happened since then (seen, decided, answered, put on hold, settled, contact removed): `2h`,
    /// `2026-11-23`, `2026-11-23T10:00`, or with a zone
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only requests to which nothing happened after then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// `--since` and `--until` mean the time of the decision
    #[arg(long)]
    decided: bool,
    /// `--since` and `--until` mean the time when the request was received
    #[arg(long, conflicts_with = "decided")]
    received: bool,
    /// Only from this handle; `john/*` is all of john's agents
    #[arg(long, value_name = "HANDLE", add = completions::recorded())]
    handle: Option<String>,
    /// Only with this verdict: approve, reject, defer
    #[arg(long, value_parser = verdict, add = completions::verdicts())]
    verdict: Option<Verdict>,
    /// Only by this rule, guard, …: what the column BY says
    #[arg(long, value_name = "BY", add = completions::deciders())]
    rule: Option<String>,
    /// Only with this outcome: approved, rejected, presumed-approved, presumed-rejected, settled-elsewhere, gone, refused, unknown, pending
    #[arg(long, value_parser = outcome, add = completions::outcomes())]
    outcome: Option<OutcomeFilter>,
    /// Only of this agent: its id, the beginning of it, or its handle
    #[arg(long, value_name = "AGENT", add = completions::agents())]
    agent: Option<String>,
    /// Only the newest N
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Everything on record, however much it is
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Go on, and show what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Print nothing: exit status 0 if a request is found, 1 if none is
    #[arg(short, long, conflicts_with_all = ["json", "csv", "follow"])]
    quiet: bool,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

fn verdict(text: &str) -> Result<Verdict, String> {
    Verdict::parse(text).ok_or_else(|| "expected approve, reject or defer".to_owned())
}

fn outcome(text: &str) -> Result<OutcomeFilter, String> {
    match (text, Outcome::parse(text)) {
        ("pending", _) => Ok(OutcomeFilter::Pending),
        (_, Some(outcome)) => Ok(OutcomeFilter::Is(outcome)),
        (_, None) => {
            let words = Outcome::ALL.map(Outcome::as_str).join("`, `");
            Err(format!("expected one of `{words}`, `pending`"))
        }
    }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let (since, until) =
        (moment::option("since", args.since.as_deref())?, moment::option("until", args.until.as_deref())?);
    let path = path(args.ledger, global)?;
    let reader = LedgerReader::open(&path).map_err(|error| fault(&error))?;
    let mut filter = Filter {
        time: match (args.decided, args.received) {
            (true, _) => TimeOf::Decided,
            (_, true) => TimeOf::Received,
            (false, false) => TimeOf::Happened,
        },
        since,
        until,
        agent: agents::on_record(args.agent.as_deref(), Some(&reader), global)?,
        handle: args.handle.or(args.only),
        verdict: args.verdict,
        by: args.rule,
        outcome: args.outcome,
        limit: args.limit.or((args.follow && since.is_none()).then_some(FOLLOWED)),
    };
    // The agent alone selects too little.
    let all = Filter { time: filter.time, agent: filter.agent.clone(), ..Filter::default() };
    let bounded = filter == all && !(args.all || args.json || args.csv || args.follow || args.quiet);
    if args.quiet {
        return any(&reader, filter).map(|any| u8::from(!any));
    }
    let page = lines::TerminalSize {
        width: super::output::width(),
        following: args.follow,
        zone: TimeZone::system(),
        now: Clock::start().now().wall,
    };
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        (false, false) => Form::Table,
    };
    let mut out = HistoryPrinter { form, page, rows: Vec::new(), any: false, headed: false, bounded, more: false };
    filter.limit = filter.limit.or(bounded.then_some(NEWEST + 1));
    // Follow begins before the list is read: what is written in between is printed twice rather than never.
    let follow = if args.follow {
        let beginning = LedgerReader::open(&path).and_then(Follow::begin);
        Some(beginning.map_err(|error| fault(&error))?)
    } else {
        None
    };
    let mut failed = None;
    let read = reader.for_each(&filter, |request| match out.take(&request) {
        Ok(()) if reader_left() => ControlFlow::Break(()),
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    failed.map_or(Ok(()), Err)?;
    read.map_err(|error| fault(&error))?;
    out.flush()?;
    if reader_left() {
        return Ok(0);
    }
    if !out.any && !args.follow {
        let _ = writeln!(anstream::stderr(), "nothing on record fits");
    }
    if out.more {
        super::output::note(&format!("these are the newest {NEWEST}: `--all` shows everything, `-n` another number\n"));
    }
    if form == Form::Table && !args.follow {
        unexplained(&reader, &filter)?;
    }
    drop(reader);
    match follow {
        Some(follow) => go_on(follow, &filter, &mut out),
        None => Ok(0),
    }
}

/// Whether any request on record matches the filter.
fn any(reader: &LedgerReader, filter: Filter) -> Result<bool, CliError> {
    let mut any = false;
    let first = Filter { limit: Some(1), ..filter };
    let read = reader.for_each(&first, |_| {
        any = true;
        ControlFlow::Break(())
    });
    read.map(|()| any).map_err(|error| fault(&error))
}

fn go_on(mut follow: Follow, filter: &Filter, out: &mut HistoryPrinter) -> Result<u8, CliError> {
    loop {
        for request in follow.poll().map_err(|error| fault(&error))? {
            if filter.lets_through(&request) {
                out.take(&request)?;
            }
        }
        out.flush()?;
        if reader_left() {
            return Ok(0);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Names contacts that no answer of doorman explains, below the requests of the same time.
fn unexplained(reader: &LedgerReader, filter: &Filter) -> Result<(), CliError> {
    let plain = Filter {
        time: filter.time,
        since: filter.since,
        agent: filter.agent.clone(),
        limit: filter.limit,
        ..Filter::default()
    };
    if plain != *filter {
        return Ok(());
    }
    let contacts = reader.contacts_unexplained(filter.agent.as_ref(), filter.since).map_err(|error| fault(&error))?;
    if contacts.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = contacts
        .iter()
        .take(UNEXPLAINED_NAMED)
        .map(|(handle, _)| handle.as_ref().map_or_else(|| "nobody named".to_owned(), |text| text.shown(40)))
        .collect();
    let more = match contacts.len().checked_sub(UNEXPLAINED_NAMED).filter(|more| *more > 0) {
        Some(more) => format!(", and {more} more"),
        None => String::new(),
    };
    print(&format!(
        "\ncontacts that no answer of doorman explains: {}{more}\n`doorman contacts --not-by-doorman` shows them\n",
        named.join(", ")
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Csv,
}

/// Where the rows are printed.
struct HistoryPrinter {
    form: Form,
    page: lines::TerminalSize,
    rows: Vec<[String; lines::COLUMNS]>,
    any: bool,
    headed: bool,
    /// Only the newest [`NEWEST`] rows are printed, of one more that is read.
    bounded: bool,
    /// Whether there was that one more.
    more: bool,
}

impl HistoryPrinter {
    fn take(&mut self, request: &RecordedRequest) -> Result<(), CliError> {
        self.any = true;
        match self.form {
            Form::Json => print(&lines::json(request)),
            Form::Csv if self.headed => print(&lines::csv(request)),
            Form::Csv => {
                self.headed = true;
                print(&format!("{}{}", lines::CSV_HEADER, lines::csv(request)))
            }
            Form::Table => {
                self.rows.push(self.page.row(request));
                if self.rows.len() >= TABLE_ROWS && !self.bounded { self.flush() } else { Ok(()) }
            }
        }
    }

    fn flush(&mut self) -> Result<(), CliError> {
        if self.bounded && self.rows.len() > NEWEST {
            self.rows.drain(..self.rows.len() - NEWEST);
            self.more = true;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let table = self.page.table(&self.rows, !self.headed);
        self.headed = true;
        self.rows.clear();
        super::output::print_page(&table)
    }
}
