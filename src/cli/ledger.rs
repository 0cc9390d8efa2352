//! `doorman ledger`: inspects, copies and resets the ledger file.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

pub(super) use super::output::print;
use super::output::shown;
use super::{CliError, Global};
use crate::clock::Clock;
use crate::config::settings::{DatabaseSettings, KeySource};
use crate::ledger::read::TableSize;
use crate::ledger::{self, LedgerAddress, LedgerError, LedgerReader};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman ledger info
  doorman ledger backup /var/backups/doorman.db
  doorman ledger copy --to postgresql:///doorman?host=/run/postgresql")]
pub struct Args {
    #[command(subcommand)]
    action: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Show what is in the ledger: schema, counts, size
    #[command(after_help = "Examples:
  doorman ledger info    with the size of each table
  doorman ledger info --ledger copy.db --json")]
    Info(LedgerArgs),
    /// Read all of the ledger, and compare every index with its table
    #[command(after_help = "Examples:
  doorman ledger check
  doorman ledger check --ledger /var/backups/doorman.db

Exit status: 0 it is sound; 74 it is not, or it cannot be read.")]
    Check(LedgerArgs),
    /// Copy the ledger to a file, while the daemon runs or not
    Backup(Backup),
    /// Move the record from its file to a PostgreSQL database, or back
    Copy(Copy),
    /// Print the rules and the lists of a policy on record
    Policy(PolicyOf),
    /// Move the ledger aside, and begin a new one; not while a daemon runs
    Reset(Reset),
}

#[derive(Debug, clap::Args)]
struct LedgerArgs {
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman ledger backup /var/backups/doorman.db
  doorman ledger backup /tmp/copy.db --ledger /var/lib/doorman/ledger.db

The copy is complete and compact. It holds what was committed when the command
began, and it never replaces an existing file. To restore it: stop the daemon,
move the copy to the ledger's place, start the daemon.")]
struct Backup {
    /// The copy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman ledger copy --to postgresql:///doorman?host=/run/postgresql
  doorman ledger copy --to sqlite:/var/lib/doorman/ledger.db --dry-run

Every table is counted and hashed on both sides before the copy is accepted. A
target that holds a record already is refused. If the source is a file, no
daemon may use it, and it is renamed to `….copied` at the end. If the source is
a database, the command takes its leases, so that a daemon that still runs
writes nothing more. Afterwards set `url` in `[ledger]`, or remove it.

Exit status: 0 done; 2 usage; 74 the record cannot be copied, and nothing was
changed.")]
struct Copy {
    /// A database, `postgresql://…`; or a new file, `sqlite:PATH`
    #[arg(long, value_name = "URL")]
    to: String,
    /// The ledger to copy, a file or a database; else the daemon's own
    #[arg(long, value_name = "PATH")]
    from: Option<String>,
    /// The file that holds the password of the database that `--to` names
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A certificate authority that its TLS may use, besides the machine's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Do everything, and undo it
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman ledger policy 3f2a9c01d4e7    the hash, as `explain` shows it
  doorman ledger policy 3f2a9c01 --ledger /var/backups/doorman.db")]
struct PolicyOf {
    /// Its hash, or the beginning of it, as `history --json` and `explain` show it
    #[arg(value_name = "HASH", add = super::completions::policies())]
    hash: String,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman ledger reset    it asks first
  doorman ledger reset --ledger ./ledger.db --yes")]
struct Reset {
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        LedgerCommand::Info(which) => info(&path(which.ledger, global)?, which.json),
        LedgerCommand::Check(which) => check(&path(which.ledger, global)?, which.json),
        LedgerCommand::Backup(args) => backup(&path(args.ledger, global)?, &args.file),
        LedgerCommand::Copy(args) => copy(&args, global),
        LedgerCommand::Policy(args) => policy(&path(args.ledger, global)?, &args.hash),
        LedgerCommand::Reset(args) => reset(&path(args.ledger, global)?, args.yes),
    }
}

/// The ledger: the file that is named, else where the configuration says that the daemon keeps it.
pub(super) fn path(given: Option<PathBuf>, global: &Global) -> Result<LedgerAddress, CliError> {
    match given {
        Some(path) => Ok(LedgerAddress::File(path)),
        None => super::places(global, "--ledger PATH")
            .map(|places| LedgerAddress::of(&places.ledger, places.database.as_ref())),
    }
}

/// What only a file can be asked for; of a database, what to do instead.
fn file_of<'a>(at: &'a LedgerAddress, instead: &str) -> Result<&'a Path, CliError> {
    match at {
        LedgerAddress::File(path) => Ok(path),
        LedgerAddress::Database(address) => {
            Err(CliError::new(2, format!("the ledger is in the database `{address}`: {instead}")))
        }
    }
}

/// A ledger that cannot be used is exit code 74.
pub(super) fn fault(error: &LedgerError) -> CliError {
    CliError::new(74, error.to_string())
}

fn info(path: &LedgerAddress, json: bool) -> Result<u8, CliError> {
    let reader = LedgerReader::open(path).map_err(|error| fault(&error))?;
    let totals = reader.totals().map_err(|error| fault(&error))?;
    let tables = reader.tables().map_err(|error| fault(&error))?;
    let size = |suffix: &str| match reader.at() {
        LedgerAddress::File(path) => {
            // Its log lies beside the file itself, if the name is a link.
            let mut name = path.into_os_string();
            name.push(suffix);
            std::fs::metadata(name).map(|data| data.len()).unwrap_or(0)
        }
        // The server's log belongs to all of its databases.
        LedgerAddress::Database(_) if suffix.is_empty() => tables.iter().map(|table| table.bytes).sum(),
        LedgerAddress::Database(_) => 0,
    };
    if json {
        let value = json!({
            "path": path.to_string(), "schema": totals.schema, "bytes": size(""), "log_bytes": size("-wal"),
            "requests": totals.requests, "pending": totals.pending, "blanked": totals.blanked,
            "decisions": totals.decisions, "answers": totals.answers, "policies": totals.policies,
            "first": totals.first, "last": totals.last,
            "tables": tables.iter().map(|table| json!({ "table": table.name, "rows": table.rows, "bytes": table.bytes })).collect::<Vec<_>>(),
        });
        print(&format!("{value}\n"))?;
        return Ok(0);
    }
    let mut text = format!(
        "ledger     {}\nschema     {}\nsize       {}\nrequests   {} ({} pending, {} blanked)\n",
        path,
        totals.schema,
        match path {
            LedgerAddress::File(_) => format!("{}, and {} of log", size_of(size("")), size_of(size("-wal"))),
            LedgerAddress::Database(_) => size_of(size("")),
        },
        totals.requests,
        totals.pending,
        totals.blanked
    );
    if let (Some(first), Some(last)) = (totals.first, totals.last) {
        let zone = jiff::tz::TimeZone::system();
        let local = |at| super::output::local(at, &zone);
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

fn backup(at: &LedgerAddress, copy: &Path) -> Result<u8, CliError> {
    let path = file_of(
        at,
        "PostgreSQL backs up a database itself: use `pg_dump`, or `pg_basebackup` with its write-ahead log",
    )?;
    let bytes = ledger::backup(path, copy).map_err(|error| fault(&error))?;
    print(&format!("copied `{}` to `{}`: {}\n", path.display(), copy.display(), size_of(bytes)))?;
    Ok(0)
}

fn copy(args: &Copy, global: &Global) -> Result<u8, CliError> {
    let to = match args.to.strip_prefix("sqlite:") {
        Some(path) => LedgerAddress::File(PathBuf::from(path)),
        None => {
            let password = args.password_file.clone().map_or(KeySource::Missing, KeySource::File);
            database(&args.to, "--to", password, args.ca_file.clone())?
        }
    };
    let from = match &args.from {
        None => path(None, global)?,
        Some(url) if url.contains("://") => database(url, "--from", KeySource::Missing, None)?,
        Some(path) => LedgerAddress::File(PathBuf::from(path)),
    };
    let ledger::Copied { tables, aside } = ledger::copy(&from, &to, args.dry_run).map_err(|error| match error {
        LedgerError::Locked { .. } => CliError::new(74, format!("{error}: stop it first")),
        other => fault(&other),
    })?;
    let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
    let mut text =
        format!("{rows} rows of {} tables went from `{from}` to `{to}`, and are the same there\n", tables.len());
    if args.dry_run {
        text += "nothing was changed: it was taken back\n";
    }
    if let Some(aside) = aside {
        text += &format!("the file is now `{}`\nsay in `[ledger]`: url = \"{to}\"\n", aside.display());
    }
    print(&text)?;
    Ok(0)
}

fn database(url: &str, flag: &str, password: KeySource, ca_file: Option<PathBuf>) -> Result<LedgerAddress, CliError> {
    let config = crate::config::database_url(url).map_err(|why| CliError::new(2, format!("`{flag}`: {why}")))?;
    let settings = DatabaseSettings { url: url.to_owned(), config, password, ca_file, connections: 3 };
    Ok(LedgerAddress::Database(Box::new(ledger::Address::new(&settings))))
}

fn policy(path: &LedgerAddress, beginning: &str) -> Result<u8, CliError> {
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
    print(&super::policy::page(&texts))?;
    Ok(0)
}

fn check(path: &LedgerAddress, json: bool) -> Result<u8, CliError> {
    let checked = LedgerReader::open(path).and_then(|reader| reader.check());
    if json {
        let problem = checked.as_ref().err().map(ToString::to_string);
        print(&format!(
            "{}\n",
            serde_json::json!({ "path": path.to_string(), "ok": checked.is_ok(), "problem": problem })
        ))?;
        return Ok(if checked.is_ok() { 0 } else { 74 });
    }
    checked.map_err(|error| fault(&error))?;
    print(&format!("the ledger `{path}` is sound\n"))?;
    Ok(0)
}

fn reset(at: &LedgerAddress, yes: bool) -> Result<u8, CliError> {
    let path = file_of(at, "make another database, and name it in `[ledger] url`")?;
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
        return Err(CliError::new(2, "say `--yes` if nobody can be asked"));
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
