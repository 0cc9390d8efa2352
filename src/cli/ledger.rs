//! `doorman ledger`: looks after the ledger file.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

pub(super) use super::output::print;
use super::output::{shown, shown_lines};
use super::{CliError, Global};
use crate::clock::Clock;
use crate::ledger::read::TableSize;
use crate::ledger::{self, LedgerError, LedgerReader};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is in it: schema, counts, size
    Info(Which),
    /// Read every page of it, and compare every index with its table
    Check(Which),
    /// Copy it to a file, while the daemon runs or not
    Backup(Backup),
    /// Print the rules and the lists of a policy on record
    Policy(PolicyOf),
    /// Move it aside, and begin a new one; not while a daemon runs
    Reset(Reset),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The ledger; else where the daemon keeps it
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "The copy is complete and compact. It holds what was committed when the command
began, and it never replaces an existing file. To go back to it: stop the
daemon, move the copy to the ledger's place, start the daemon.")]
struct Backup {
    /// The copy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The ledger; else where the daemon keeps it
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct PolicyOf {
    /// Its hash, or the beginning of it, as `history --json` and `explain` show it
    #[arg(value_name = "HASH", add = super::completions::policies())]
    hash: String,
    /// The ledger; else where the daemon keeps it
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Reset {
    /// The ledger; else where the daemon keeps it
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        Action::Info(which) => info(&path(which.ledger, global)?, which.json),
        Action::Check(which) => check(&path(which.ledger, global)?, which.json),
        Action::Backup(args) => backup(&path(args.ledger, global)?, &args.file),
        Action::Policy(args) => policy(&path(args.ledger, global)?, &args.hash),
        Action::Reset(args) => reset(&path(args.ledger, global)?, args.yes),
    }
}

/// The ledger's file: the one that is named, else where the configuration says that the daemon keeps it.
pub(super) fn path(given: Option<PathBuf>, global: &Global) -> Result<PathBuf, CliError> {
    match given {
        Some(path) => Ok(path),
        None => super::places(global, "--ledger PATH").map(|places| places.ledger),
    }
}

/// A ledger that cannot be used is exit code 74.
pub(super) fn fault(error: &LedgerError) -> CliError {
    CliError::new(74, error.to_string())
}

fn info(path: &Path, json: bool) -> Result<u8, CliError> {
    let reader = LedgerReader::open(path).map_err(|error| fault(&error))?;
    let totals = reader.totals().map_err(|error| fault(&error))?;
    let tables = reader.tables().map_err(|error| fault(&error))?;
    let size = |suffix: &str| {
        // Its log lies beside the file itself, where the name is a link.
        let mut name = reader.path().as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).map(|data| data.len()).unwrap_or(0)
    };
    if json {
        let value = json!({
            "path": path, "schema": totals.schema, "bytes": size(""), "log_bytes": size("-wal"),
            "requests": totals.requests, "pending": totals.pending, "blanked": totals.blanked,
            "decisions": totals.decisions, "answers": totals.answers, "policies": totals.policies,
            "first": totals.first, "last": totals.last,
            "tables": tables.iter().map(|table| json!({ "table": table.name, "rows": table.rows, "bytes": table.bytes })).collect::<Vec<_>>(),
        });
        print(&format!("{value}\n"))?;
        return Ok(0);
    }
    let mut text = format!(
        "ledger     {}\nschema     {}\nsize       {}, and {} of log\nrequests   {} ({} pending, {} blanked)\n",
        path.display(),
        totals.schema,
        size_of(size("")),
        size_of(size("-wal")),
        totals.requests,
        totals.pending,
        totals.blanked
    );
    if let (Some(first), Some(last)) = (totals.first, totals.last) {
        let zone = jiff::tz::TimeZone::system();
        let local = |at| zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string();
        text += &format!("           from {} to {}\n", local(first), local(last));
    }
    text += &format!("decisions  {}\n", totals.decisions);
    let answers: Vec<String> = totals.answers.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    text += &format!("answers    {}\n", if answers.is_empty() { "0".to_owned() } else { answers.join(", ") });
    text += &format!("policies   {}\n\n", totals.policies);
    let row = |table: &TableSize| vec![table.name.clone(), table.rows.to_string(), size_of(table.bytes)];
    text += &super::table::table(&["TABLE", "ROWS", "WITH INDEXES"], tables.iter().map(row).collect());
    print(&text)?;
    Ok(0)
}

fn size_of(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn backup(path: &Path, copy: &Path) -> Result<u8, CliError> {
    let bytes = ledger::backup(path, copy).map_err(|error| fault(&error))?;
    print(&format!("copied `{}` to `{}`: {}\n", path.display(), copy.display(), size_of(bytes)))?;
    Ok(0)
}

fn policy(path: &Path, beginning: &str) -> Result<u8, CliError> {
    let reader = LedgerReader::open(path).map_err(|error| fault(&error))?;
    let texts = match reader.policies_beginning(beginning).map_err(|error| fault(&error))?.as_slice() {
        [hash] => reader.policy_texts(hash).map_err(|error| fault(&error))?,
        [] => None,
        _ => {
            let message = format!("the hashes of several policies begin with `{}`: write more of it", shown(beginning));
            return Err(CliError::new(1, message));
        }
    };
    let Some(texts) = texts else {
        let message = format!("no policy `{}` with its texts is on record", shown(beginning));
        return Err(CliError::new(1, message));
    };
    for (place, text) in texts.iter().enumerate() {
        let gap = if place == 0 { "" } else { "\n" };
        print(&format!("{gap}# {}\n{}\n", shown(&text.name), shown_lines(text.text.trim_end())))?;
    }
    Ok(0)
}

fn check(path: &Path, json: bool) -> Result<u8, CliError> {
    let checked = LedgerReader::open(path).and_then(|reader| reader.check());
    if json {
        let problem = checked.as_ref().err().map(ToString::to_string);
        print(&format!("{}\n", serde_json::json!({ "path": path, "ok": checked.is_ok(), "problem": problem })))?;
        return Ok(if checked.is_ok() { 0 } else { 74 });
    }
    checked.map_err(|error| fault(&error))?;
    print(&format!("the ledger `{}` is sound\n", path.display()))?;
    Ok(0)
}

fn reset(path: &Path, yes: bool) -> Result<u8, CliError> {
    if !yes && !agreed(path)? {
        return Err(CliError::new(1, "nothing was changed"));
    }
    let now = Clock::start().now().wall;
    let aside = ledger::reset(path, now).map_err(|error| match error {
        LedgerError::Locked { .. } => CliError::new(74, format!("{error}: stop it first")),
        other => fault(&other),
    })?;
    let was = match aside {
        Some(aside) => format!("the old ledger is now `{}`", aside.display()),
        None => "there was no ledger".to_owned(),
    };
    print(&format!("{was}\na new one begins at `{}`\n", path.display()))?;
    Ok(0)
}

fn agreed(path: &Path) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::new(2, "say `--yes` where nobody can be asked"));
    }
    let question = format!(
        "begin a new ledger at `{}`, and move the old one aside? Limits, holds and history start empty [y/N] ",
        path.display()
    );
    let mut answer = String::new();
    write!(anstream::stderr(), "{question}")
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| CliError::new(1, format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
