//! Pushes a version: judges it here as `check` does, stores it, and waits until nobody decides by the one before.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::super::explain::{duration, sources::refused};
use super::super::ledger::{fault, path};
use super::super::who::WhoArgs;
use super::super::{CliError, Global, check, output};
use super::{changes, read, shown};
use crate::clock::Clock;
use crate::ledger::pushed::PushedVersion;
use crate::ledger::{LedgerAddress, OlderTransactions, PushOutcome, Pushing};
use crate::ops::control::peer;
use crate::policy::rules::SourceText;
use crate::policy::{self, LoadedPolicy, Policy, Shrunk};

/// Between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy push main rules.toml --dry-run    what would change
  doorman policy push main rules.toml --wait")]
pub(super) struct Args {
    /// The name that `rules = "ledger:NAME"` has
    #[arg(value_name = "NAME", value_parser = super::name, add = super::super::completions::pushed())]
    rules: String,
    /// The rules file; the files that it names are pushed with it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Accept lists that lost more entries than `max_shrink` allows
    #[arg(long)]
    accept_shrunk: bool,
    #[command(flatten)]
    how: PushOptions,
}

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman policy rollback main --wait    the version before
  doorman policy rollback main --to 3 --dry-run")]
pub(super) struct RollbackArgs {
    /// The name
    #[arg(value_name = "NAME", value_parser = super::name, add = super::super::completions::pushed())]
    rules: String,
    /// The version to go back to; else the one before the newest
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    #[command(flatten)]
    how: PushOptions,
}

#[derive(Debug, clap::Args)]
struct PushOptions {
    /// Show what would change, and push nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until no answer can be decided by the version before any more
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// With --wait, how long at most, such as `30s`
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "60s", value_parser = length)]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: WhoArgs,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = duration(text).ok().and_then(|length| Duration::try_from(length).ok());
    length.filter(|length| !length.is_zero()).ok_or_else(|| "expected a length of time such as `30s`".to_owned())
}

/// Where rules can be pushed to.
fn open(global: &Global) -> Result<Pushing, CliError> {
    let at = path(None, global)?;
    match &at {
        LedgerAddress::File(file) => Err(CliError::new(
            2,
            format!(
                "the ledger is the file `{}`, so its doorman reads rules from files: edit the file that `rules` names, then `doorman reload`",
                file.display()
            ),
        )),
        LedgerAddress::Database(address) => Pushing::open(address).map_err(|error| fault(&error)),
    }
}

/// What is there before a push.
struct HeadBefore {
    head: Option<PushedVersion>,
    texts: Vec<SourceText>,
    /// As far as this doorman can read it.
    policy: Option<std::sync::Arc<Policy>>,
}

impl HeadBefore {
    fn of(pushing: &Pushing, name: &str, head: Option<PushedVersion>) -> Result<Self, CliError> {
        let texts = match &head {
            Some(head) => pushing.texts(head).map_err(|error| fault(&error))?,
            None => Vec::new(),
        };
        let policy = read::compiled(name, &texts).policy.filter(|_| head.is_some());
        Ok(Self { head, texts, policy })
    }

    fn version(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.version)
    }
}

pub(super) fn run(args: &Args, global: &Global) -> Result<u8, CliError> {
    let pushing = open(global)?;
    let head = pushing.versions(&args.rules).map_err(|error| fault(&error))?.into_iter().next();
    let before = HeadBefore::of(&pushing, &args.rules, head)?;
    let mut loaded =
        policy::load_named_after(&args.file, before.policy.as_deref(), &Shrunk::accepted(args.accept_shrunk));
    if loaded.shrunk {
        return Err(shrunk(&args.file, &loaded));
    }
    check::lint_pushed(&mut loaded, &args.rules, global);
    let Some(policy) = loaded.policy.clone() else { return Err(refused(&args.file, &loaded.report)) };
    // The rules that were taken may have warnings.
    let _ = write!(anstream::stderr(), "{}", loaded.report.render(std::io::stderr().is_terminal()));
    put(&pushing, &args.rules, &before, &policy, &args.how)
}

fn shrunk(file: &std::path::Path, loaded: &LoadedPolicy) -> CliError {
    let mut error = refused(file, &loaded.report);
    error.message += "\n\nif the list was shortened on purpose, push with `--accept-shrunk`";
    error
}

pub(super) fn rollback(args: &RollbackArgs, global: &Global) -> Result<u8, CliError> {
    let pushing = open(global)?;
    let versions = pushing.versions(&args.rules).map_err(|error| fault(&error))?;
    let newest = versions.first().ok_or_else(|| read::nothing(&args.rules))?.clone();
    let to = args.to.unwrap_or(newest.version - 1);
    if to == 0 {
        let why = format!("`{}` has one version only: there is none to go back to", args.rules);
        return Err(CliError::new(1, why));
    }
    let version = read::one_of(versions, &args.rules, Some(to))?;
    let texts = pushing.texts(&version).map_err(|error| fault(&error))?;
    let loaded = read::compiled(&args.rules, &texts);
    let Some(policy) = loaded.policy.clone() else {
        return Err(refused(&PathBuf::from(format!("version {to} of {}", args.rules)), &loaded.report));
    };
    let before = HeadBefore::of(&pushing, &args.rules, Some(newest))?;
    put(&pushing, &args.rules, &before, &policy, &args.how)
}

/// Adds the version, unless it is the head already, and tells what became of it.
fn put(pushing: &Pushing, name: &str, before: &HeadBefore, policy: &Policy, how: &PushOptions) -> Result<u8, CliError> {
    let changes = changes::said(&changes::of(&before.texts, &policy.texts), before.policy.as_deref(), policy);
    let same = before.head.as_ref().filter(|head| head.hash == policy.hash);
    let person = peer::own_person(&how.who.claim());
    let new = PushedVersion {
        name: name.to_owned(),
        version: before.version() + 1,
        hash: policy.hash.clone(),
        by: format!("person:{person}"),
        at: Clock::start().now().wall,
        note: person.note().map(str::to_owned),
    };
    let version = match same {
        Some(same) => same.clone(),
        None if how.dry_run => new,
        None => match pushing.add(before.version(), &new, &policy.texts).map_err(|error| fault(&error))? {
            PushOutcome::Head(version) => version,
            PushOutcome::Meanwhile(theirs) => return Err(meanwhile(name, theirs.as_ref())),
        },
    };
    let pushed = same.is_none() && !how.dry_run;
    if !how.json {
        let number = version.version;
        let lines: String = changes.iter().map(|change| format!("  {change}\n")).collect();
        let said = match (same, pushed) {
            (Some(_), _) => format!("version {number} of `{name}` is the same already: nothing was pushed\n"),
            (None, true) => format!("version {number} of `{name}` is pushed: policy {}\n{lines}", policy.hash.short()),
            (None, false) => format!("this would be version {number} of `{name}`:\n{lines}nothing was pushed\n"),
        };
        output::print(&said)?;
    }
    let waited = how.wait.then(|| wait(pushing, how.timeout)).transpose()?;
    if how.json {
        let mut all = super::as_json(&version);
        all["pushed"] = json!(pushed);
        all["changes"] = json!(changes);
        all["waits_for"] = json!(waited.as_ref().map(said_of));
        output::print_json(&all)?;
    }
    match waited {
        Some(older) if !older.is_over() => Err(CliError::new(1, unfinished(&version, how.timeout, &older))),
        Some(_) if !how.json => {
            let said = format!("no rule answers by an older version of `{name}` from now on\n");
            output::print(&said).map(|()| 0)
        }
        Some(_) | None => Ok(0),
    }
}

fn meanwhile(name: &str, theirs: Option<&PushedVersion>) -> CliError {
    let theirs =
        theirs.map_or_else(String::new, |theirs| format!(" version {} by {}", theirs.version, shown(&theirs.by)));
    CliError::new(
        1,
        format!(
            "somebody else pushed{theirs} meanwhile, and nothing was pushed: `doorman policy diff {name}` shows it"
        ),
    )
}

/// Waits for transactions that began before this moment, at which the head was there.
fn wait(pushing: &Pushing, at_most: Duration) -> Result<OlderTransactions, CliError> {
    let clock = Clock::start();
    let begun = clock.now().mono;
    let moment = pushing.moment().map_err(|error| fault(&error))?;
    loop {
        let older = pushing.older(moment).map_err(|error| fault(&error))?;
        if older.is_over() || clock.now().mono.since(begun) >= at_most {
            return Ok(older);
        }
        std::thread::sleep(LOOK);
    }
}

/// What is still waited for, a line each.
fn said_of(older: &OlderTransactions) -> Vec<String> {
    let mut said = older.transactions.clone();
    if older.unseen > 0 {
        said.push(format!("{} connections of doormen whose transactions this role may not see", older.unseen));
    }
    said
}

fn unfinished(version: &PushedVersion, waited: Duration, older: &OlderTransactions) -> String {
    let mut message = format!(
        "version {} of `{}` is the head, but after {} s a transaction of a doorman that began before it may still be open:",
        version.version,
        version.name,
        waited.as_secs()
    );
    for line in said_of(older) {
        message += &format!("\n  {line}");
    }
    message += match older.unseen {
        0 => "\nthe server ends it by itself; the same command waits on",
        _ => "\npush as the doormen's role, or as one with `pg_read_all_stats`, and with `track_activities` on",
    };
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_waited_for_is_said() {
        let hash = crate::policy::PolicyHash::new(&"ab".repeat(32));
        let (name, at) = ("main".to_owned(), jiff::Timestamp::UNIX_EPOCH);
        let version = PushedVersion { name, version: 3, hash, by: "person:ann".to_owned(), at, note: None };
        let open = OlderTransactions { transactions: vec!["backend 7, open for 12 ms".to_owned()], unseen: 0 };
        let said = unfinished(&version, Duration::from_secs(60), &open);
        assert!(said.contains("after 60 s") && said.contains("backend 7") && said.contains("waits on"), "{said}");
        let hidden = OlderTransactions { transactions: Vec::new(), unseen: 2 };
        assert!(!hidden.is_over(), "what cannot be seen may be open");
        let said = unfinished(&version, Duration::from_secs(60), &hidden);
        assert!(said.contains("2 connections") && said.contains("pg_read_all_stats"), "{said}");
    }

    #[test]
    fn a_length_of_time_is_more_than_none() {
        assert_eq!(length("30s"), Ok(Duration::from_secs(30)));
        assert!(length("0s").is_err() && length("soon").is_err());
    }
}
