//! `doorman policy`: rules that are kept in the ledger, version by version, and used by every doorman on it.

mod changes;
mod push;
mod read;

use serde_json::json;

use super::output::{self, shown, shown_lines};
use super::{CliError, Global, table};
use crate::config::settings::may_be_pushed;
use crate::ledger::pushed::PushedVersion;
use crate::policy::rules::SourceText;

pub(in crate::cli) use read::head_of;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy push main rules.toml --dry-run    what would change
  doorman policy push main rules.toml --wait
  doorman policy list                              the names, and who pushed
  doorman policy list main                         every version
  doorman policy show main --version 3
  doorman policy diff main                         the last push
  doorman policy rollback main --wait              the version before

For an agent with `rules = \"ledger:main\"`, every doorman on this PostgreSQL
database uses the rules that were last pushed as `main` (docs/postgresql.md). If
the ledger is a file, edit the rules file and run `doorman reload`.

Exit status: 0 done; 1 no such name or version, or --wait took too long; 2
usage, or the ledger is a file; 74 the ledger cannot be used; 78 the rules are
refused, and nothing was pushed.")]
pub struct Args {
    #[command(subcommand)]
    action: PolicyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PolicyCommand {
    /// Check and test a rules file here, and put it in force everywhere
    Push(push::Args),
    /// Show the names, or every version of one
    List(ListArgs),
    /// Print the rules and the lists of a version
    Show(ShowArgs),
    /// Print what changed between two versions
    Diff(DiffArgs),
    /// Push an older version again
    Rollback(push::RollbackArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy list                the newest version of every name
  doorman policy list main --json    every version of one")]
struct ListArgs {
    /// The name; else the newest version of every name
    #[arg(value_name = "NAME", value_parser = name, add = super::completions::pushed())]
    name: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy show main    the newest version
  doorman policy show main --version 3")]
struct ShowArgs {
    /// The name
    #[arg(value_name = "NAME", value_parser = name, add = super::completions::pushed())]
    name: String,
    /// Its version; else the newest
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy diff main    what the last push changed
  doorman policy diff main 3 5")]
struct DiffArgs {
    /// The name
    #[arg(value_name = "NAME", value_parser = name, add = super::completions::pushed())]
    name: String,
    /// The older version; else the one before the newer
    #[arg(value_name = "V1")]
    from: Option<u64>,
    /// The newer version; else the newest
    #[arg(value_name = "V2")]
    to: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// 1 if there is no such version, 74 if the ledger cannot be used, 78 if rules are refused.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        PolicyCommand::Push(args) => push::run(&args, global),
        PolicyCommand::Rollback(args) => push::rollback(&args, global),
        PolicyCommand::List(args) => list(&args, global),
        PolicyCommand::Show(args) => show(&args, global),
        PolicyCommand::Diff(args) => diff(&args, global),
    }
}

/// A name of pushed rules, as a person types it.
fn name(text: &str) -> Result<String, String> {
    if may_be_pushed(text) {
        return Ok(text.to_owned());
    }
    Err("a name has a-z, 0-9 and `-`, at most 64 of them".to_owned())
}

fn list(args: &ListArgs, global: &Global) -> Result<u8, CliError> {
    let reader = read::open(global)?;
    let found = match &args.name {
        Some(name) => reader.pushed_versions(name),
        None => reader.pushed_heads(),
    };
    let found = found.map_err(|error| super::ledger::fault(&error))?;
    if let (Some(name), true) = (&args.name, found.is_empty()) {
        return Err(read::nothing(name));
    }
    if args.json {
        found.iter().map(as_json).try_for_each(|one| output::print_json(&one))?;
        return Ok(0);
    }
    if found.is_empty() {
        output::note("nothing was pushed yet: `doorman policy push NAME rules.toml`\n");
        return Ok(0);
    }
    let zone = jiff::tz::TimeZone::system();
    let row = |one: &PushedVersion| {
        vec![
            shown(&one.name),
            one.version.to_string(),
            one.hash.short().to_owned(),
            output::local(one.at, &zone),
            shown(one.by.strip_prefix("person:").unwrap_or(&one.by)),
            one.note.as_deref().map(shown).unwrap_or_default(),
        ]
    };
    let header = ["NAME", "VERSION", "POLICY", "PUSHED", "BY", "NOTE"];
    output::print_page(&table::table(&header, found.iter().map(row).collect()))?;
    Ok(0)
}

fn show(args: &ShowArgs, global: &Global) -> Result<u8, CliError> {
    let reader = read::open(global)?;
    let version = read::version(&reader, &args.name, args.version)?;
    let texts = read::texts(&reader, &version)?;
    if args.json {
        let mut all = as_json(&version);
        all["texts"] = texts.iter().map(|text| json!({ "name": text.name, "text": &*text.text })).collect();
        output::print_json(&all)?;
        return Ok(0);
    }
    output::print(&page(&texts))?;
    Ok(0)
}

/// The texts of a policy, one after the other.
pub(in crate::cli) fn page(texts: &[SourceText]) -> String {
    let one = |text: &SourceText| format!("# {}\n{}\n", shown(&text.name), shown_lines(text.text.trim_end()));
    texts.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn diff(args: &DiffArgs, global: &Global) -> Result<u8, CliError> {
    let reader = read::open(global)?;
    let newer = read::version(&reader, &args.name, args.to)?;
    let before = newer.version.saturating_sub(1);
    let older = match args.from.unwrap_or(before) {
        0 if args.from.is_none() => None,
        number => Some(read::version(&reader, &args.name, Some(number))?),
    };
    let texts = |version: &PushedVersion| read::texts(&reader, version);
    let from = older.as_ref().map(texts).transpose()?.unwrap_or_default();
    let changes = changes::of(&from, &texts(&newer)?);
    let from = older.map_or(0, |older| older.version);
    if args.json {
        let files: Vec<_> = changes.iter().map(|one| json!({ "name": one.name, "diff": one.lines })).collect();
        output::print_json(&json!({ "name": args.name, "from": from, "to": newer.version, "files": files }))?;
        return Ok(0);
    }
    if changes.is_empty() {
        output::note(&format!("versions {from} and {} of `{}` are the same\n", newer.version, args.name));
    }
    output::print(&changes.iter().map(|one| shown_lines(&one.lines) + "\n").collect::<String>())?;
    Ok(0)
}

fn as_json(version: &PushedVersion) -> serde_json::Value {
    json!({
        "name": version.name, "version": version.version, "policy": version.hash.as_str(), "by": version.by,
        "at": version.at, "note": version.note,
    })
}
