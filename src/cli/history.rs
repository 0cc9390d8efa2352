//! `doorman history`: what was decided, and why. Reads the ledger itself, so it works without a daemon, too.

mod lines;
pub(super) mod moment;

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use super::ledger::{fault, path, print};
use super::{CliError, Global, agents};
use crate::ledger::read::{Follow, OutcomeFilter};
use crate::ledger::{Filter, LedgerReader, RecordedRequest};
use crate::model::{Outcome, Verdict};

/// Between looks with `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rows of one table; longer lists come in several, so that they need not fit into memory.
const TABLE_ROWS: usize = 500;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what came since then: `2h`, `2026-11-23`, `2026-11-23T10:00`, or with a zone
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what came before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only from this handle; `john/*` is all of john's agents
    #[arg(long, value_name = "HANDLE")]
    handle: Option<String>,
    /// Only with this verdict: approve, reject, defer
    #[arg(long, value_parser = verdict)]
    verdict: Option<Verdict>,
    /// Only by this rule, guard, …: what the column `by` says
    #[arg(long, value_name = "BY")]
    rule: Option<String>,
    /// Only with this outcome: applied, presumed-applied, settled-elsewhere, gone, refused, unknown, pending
    #[arg(long, value_parser = outcome)]
    outcome: Option<OutcomeFilter>,
    /// Only of this agent: its id, or the beginning of it
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON, a line a request
    #[arg(long)]
    json: bool,
    /// Go on with what is decided and answered from now on
    #[arg(short, long)]
    follow: bool,
    /// The ledger; else where the daemon keeps it
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
            Err("expected applied, presumed-applied, settled-elsewhere, gone, refused, unknown or pending".to_owned())
        }
    }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let (since, until) =
        (moment::option("since", args.since.as_deref())?, moment::option("until", args.until.as_deref())?);
    let path = path(args.ledger, global)?;
    let reader = LedgerReader::open(&path).map_err(|error| fault(&error))?;
    let filter = Filter {
        since,
        until,
        agent: agents::on_record(args.agent.as_deref(), Some(&reader), global)?,
        handle: args.handle,
        verdict: args.verdict,
        by: args.rule,
        outcome: args.outcome,
        limit: args.limit,
    };
    let mut out = Out {
        json: args.json,
        terminal: std::io::stdout().is_terminal(),
        following: args.follow,
        rows: Vec::new(),
        headed: false,
    };
    // What is written between these two is said twice rather than not at all.
    let follow = if args.follow {
        let beginning = LedgerReader::open(&path).and_then(Follow::begin);
        Some(beginning.map_err(|error| fault(&error))?)
    } else {
        None
    };
    let mut failed = None;
    let read = reader.for_each(&filter, |request| match out.take(&request) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    failed.map_or(Ok(()), Err)?;
    read.map_err(|error| fault(&error))?;
    drop(reader);
    out.flush()?;
    match follow {
        Some(follow) => go_on(follow, &filter, &mut out),
        None => Ok(0),
    }
}

fn go_on(mut follow: Follow, filter: &Filter, out: &mut Out) -> Result<u8, CliError> {
    loop {
        for request in follow.poll().map_err(|error| fault(&error))? {
            if filter.lets_through(&request) {
                out.take(&request)?;
            }
        }
        out.flush()?;
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Where the rows go.
struct Out {
    json: bool,
    terminal: bool,
    following: bool,
    rows: Vec<[String; lines::COLUMNS]>,
    headed: bool,
}

impl Out {
    fn take(&mut self, request: &RecordedRequest) -> Result<(), CliError> {
        if self.json {
            return print(&lines::json(request));
        }
        self.rows.push(lines::row(request));
        if self.rows.len() >= TABLE_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CliError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let table = lines::table(&self.rows, !self.headed, self.terminal, self.following);
        self.headed = true;
        self.rows.clear();
        print(&table)
    }
}
