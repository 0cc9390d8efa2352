//! `doorman list`: adds handles to a list file of the rules, and removes them. Everything else in the file stays
//! unchanged, the file is replaced in one step, and nothing is written that the rules would refuse.

mod edit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::agents::{self, AgentArg};
use super::explain::sources::{policy_in, refused};
use super::remote::{Remote, RemoteArgs};
use super::{CliError, Global, completions, output};
use crate::config::settings::pushed_name;
use crate::ledger::LedgerReader;
use crate::ops::control::wire::{ControlOp, Reloaded, RemovedEntries};
use crate::policy::{audit, joined, load_texts};
use edit::Edit;

/// Completion offers this many entries.
const KNOWN_MAX: usize = 1_000;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman list show                      which lists there are
  doorman list show friends
  doorman list add friends @carol 'acme/*'
  doorman list remove blocked @mallory

A list is a `[lists.NAME]` of the rules with a `file`. Comments and order stay
as they are. A running daemon loads the change at once, and the command waits
for that.

Exit status: 0 done, or nothing to do; 1 not on the list, or no such list; 78
the rules would be refused, and nothing was written.")]
pub struct Args {
    #[command(subcommand)]
    action: ListCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ListCommand {
    /// Put handles or patterns on a list
    Add(ListAdd),
    /// Take handles or patterns off a list
    Remove(ListRemove),
    /// Print the lists, the entries of one, or whether a handle is on it
    Show(Show),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman list add friends @carol 'acme/*'
  doorman list add blocked @mallory --quiet")]
struct ListAdd {
    /// The list's name in the rules
    #[arg(value_name = "LIST", add = completions::lists())]
    list: String,
    /// Handles or patterns, such as `@carol` or `acme/*`
    #[arg(value_name = "HANDLE", required = true, add = completions::waiting_handles())]
    handles: Vec<String>,
    #[command(flatten)]
    how: ListEdit,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman list remove friends @carol
  doorman list remove friends 'acme/*'")]
struct ListRemove {
    /// The list's name in the rules
    #[arg(value_name = "LIST", add = completions::lists())]
    list: String,
    /// Handles or patterns, as they stand on the list
    #[arg(value_name = "HANDLE", required = true, add = completions::listed())]
    handles: Vec<String>,
    #[command(flatten)]
    how: ListEdit,
}

#[derive(Debug, clap::Args)]
struct ListEdit {
    #[command(flatten)]
    agent: AgentArg,
    /// Print nothing if all went well
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman list show                   which lists there are
  doorman list show friends           its entries
  doorman list show friends @carol    exit status 0: she is on it; 1: she is not")]
struct Show {
    /// The list's name in the rules; else all lists are named
    #[arg(value_name = "LIST", add = completions::lists())]
    list: Option<String>,
    /// Whether this handle is on it: exit status 0 or 1
    #[arg(value_name = "HANDLE")]
    handle: Option<String>,
    #[command(flatten)]
    agent: AgentArg,
}

/// Runs the command.
///
/// # Errors
/// 1 if there is no such list or entry, 78 if the rules are or would be refused.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        ListCommand::Show(args) => show(&args, global),
        ListCommand::Add(args) => change((&args.list, &args.handles), &args.how, global, ListFile::add),
        ListCommand::Remove(args) => change((&args.list, &args.handles), &args.how, global, ListFile::remove),
    }
}

fn change(
    (list, handles): (&str, &[String]),
    args: &ListEdit,
    global: &Global,
    act: impl FnOnce(&ListFile, &[&str]) -> Result<Edit, CliError>,
) -> Result<u8, CliError> {
    let list = ListFile::find(list, args.agent.given(), global)?;
    let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
    let edit = act(&list, &handles)?;
    let remote = match args.remote.open(global) {
        Ok(remote) => Some(remote),
        // Without a daemon only the file is changed.
        Err(error) if error.code == super::remote::ABSENT && args.remote.socket.is_none() => None,
        Err(error) => return Err(error),
    };
    let said = put_in_force(&list, &edit, remote.as_ref())?;
    let nothing = edit.removes && edit.changed.is_empty();
    if !args.quiet || nothing {
        output::print(&said)?;
    }
    Ok(u8::from(nothing))
}

fn show(args: &Show, global: &Global) -> Result<u8, CliError> {
    let all = all(args.agent.given(), global)?;
    let Some(list) = &args.list else {
        let row = |list: &RulesList| -> Result<Vec<String>, CliError> {
            let file = list.file().map_or_else(|| "-".to_owned(), |path| output::shown(&path.display().to_string()));
            Ok(vec![output::shown(&list.name), list.entries()?.len().to_string(), file])
        };
        let rows = all.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            output::note("the rules have no lists\n");
            return Ok(0);
        }
        output::print_page(&super::table::table(&["LIST", "ENTRIES", "FILE"], rows))?;
        return Ok(0);
    };
    let meant: Vec<&RulesList> = all.iter().filter(|one| one.name == *list).collect();
    let [list] = meant.as_slice() else { return Err(not_one(list, &all, meant.len())) };
    let entries = list.entries()?;
    let Some(handle) = &args.handle else {
        let entries = entries.iter().map(|entry| output::shown(entry) + "\n");
        output::print(&entries.collect::<String>())?;
        return Ok(0);
    };
    let plain = crate::model::Handle::parse(handle)
        .map_err(|problem| CliError::new(2, format!("`{}`: {problem}", output::shown(handle))))?;
    let by = entries.iter().find(|entry| audit::pattern(entry).is_ok_and(|pattern| pattern.contains(&plain)));
    let said = match by {
        Some(entry) => format!("{plain} is on the list `{}`: {}\n", list.name, output::shown(entry)),
        None => format!("{plain} is not on the list `{}`\n", list.name),
    };
    output::print(&said)?;
    Ok(u8::from(by.is_none()))
}

/// The error if no list is meant, or several are.
fn not_one(name: &str, all: &[RulesList], meant: usize) -> CliError {
    let shown = output::shown(name);
    if meant > 1 {
        let why = format!("several rules files have a list `{shown}`: say whose with `--agent ID`");
        return CliError::new(2, why);
    }
    let known: BTreeSet<String> = all.iter().map(|list| format!("`{}`", output::shown(&list.name))).collect();
    if known.is_empty() {
        return CliError::new(1, format!("no list `{shown}`: the rules have no lists"));
    }
    let known: Vec<String> = known.into_iter().collect();
    CliError::new(1, format!("no list `{shown}` in the rules; there are {}", known.join(", ")))
}

/// A list of the configured rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RulesList {
    name: String,
    /// The rules file that names it, directly or through an included file.
    rules: PathBuf,
    /// The entries that are in the rules file itself.
    here: Vec<String>,
    /// The path of its file, relative to the rules file.
    written: Option<String>,
}

impl RulesList {
    fn file(&self) -> Option<PathBuf> {
        self.written.as_ref().map(|written| self.rules.parent().unwrap_or(Path::new("")).join(written))
    }

    /// The entries of the rules file, then those of the list file.
    fn entries(&self) -> Result<Vec<String>, CliError> {
        let mut entries = self.here.clone();
        if let Some(path) = self.file() {
            entries.extend(edit::entries(&read(&path)?).map(str::to_owned));
        }
        Ok(entries)
    }
}

/// The lists in the rules of this agent, or of all; each file's once.
fn all(agent: Option<&str>, global: &Global) -> Result<Vec<RulesList>, CliError> {
    // Without a ledger an agent has no handle here, only its id and its name.
    let ledger = agent.and_then(|_| super::ledger::path(None, global).ok()).filter(|ledger| ledger.is_there());
    let reader = ledger.and_then(|ledger| LedgerReader::open(&ledger).ok());
    let agent = agents::on_record(agent, reader.as_ref(), global)?;
    let places = super::places(global, "--config PATH")?;
    if places.rules.is_empty() {
        let why =
            "there is no configuration that names rules: name one with `--config`, or write one with `doorman init`";
        return Err(CliError::new(78, why));
    }
    let theirs = places.rules.into_iter().filter(|(id, _)| agent.as_ref().is_none_or(|agent| agent.as_str() == id));
    let (pushed, rules): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
        theirs.map(|(_, rules)| rules).partition(|rules| pushed_name(rules).is_some());
    if let (Some(name), true) = (pushed.iter().find_map(|rules| pushed_name(rules)), rules.is_empty()) {
        let why = format!(
            "the lists are in the ledger with their rules `{name}`: change the file where you keep it, then `doorman policy push {name} FILE`"
        );
        return Err(CliError::new(2, why));
    }
    let mut found: Vec<RulesList> = Vec::new();
    for rules in &rules {
        for list in lists(rules)? {
            // Two rules files may name the same list file, by different paths.
            let place = |list: &RulesList| list.file().map(|path| std::fs::canonicalize(&path).unwrap_or(path));
            let same =
                |other: &RulesList| other.name == list.name && list.written.is_some() && place(other) == place(&list);
            if !found.iter().any(same) {
                found.push(list);
            }
        }
    }
    Ok(found)
}

/// The entries of all lists of the configured rules that begin so, for completion.
pub(super) fn known(beginning: &str, global: &Global) -> BTreeSet<String> {
    let lists = all(None, global).unwrap_or_default();
    let entries = lists.iter().flat_map(|list| list.entries().unwrap_or_default());
    entries.filter(|entry| entry.starts_with(beginning)).take(KNOWN_MAX).collect()
}

fn read(path: &Path) -> Result<String, CliError> {
    edit::text(path).map_err(|why| CliError::new(1, format!("`{}` cannot be read: {why}", path.display())))
}

/// A list of the configured rules that has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListFile {
    name: String,
    /// The rules that name it.
    rules: PathBuf,
    /// Its path, relative to the rules file.
    written: String,
    path: PathBuf,
    /// The entries that are in the rules themselves.
    here: Vec<String>,
}

impl ListFile {
    /// Finds it in the rules of this agent, or of all.
    ///
    /// # Errors
    /// Exit code 1 if there is no such list or it has no file; 2 if several are meant.
    pub(super) fn find(name: &str, agent: Option<&str>, global: &Global) -> Result<Self, CliError> {
        let all = all(agent, global)?;
        let meant: Vec<&RulesList> = all.iter().filter(|list| list.name == name).collect();
        let [list] = meant.as_slice() else { return Err(not_one(name, &all, meant.len())) };
        let (Some(written), Some(path)) = (list.written.clone(), list.file()) else {
            let shown = output::shown(name);
            let why = format!("the list `{shown}` has no file: its entries stand in `{}`", list.rules.display());
            return Err(CliError::new(1, why));
        };
        Ok(Self { name: name.to_owned(), rules: list.rules.clone(), written, path, here: list.here.clone() })
    }

    /// Whether an entry could be added to the list now.
    ///
    /// # Errors
    /// Exit code 78 if the present rules are refused, 1 if the file cannot be read.
    pub(super) fn can_be_edited(&self) -> Result<(), CliError> {
        read(&self.path)?;
        policy_in(&self.rules).map(drop)
    }

    /// Puts them on the list.
    ///
    /// # Errors
    /// Exit code 2 for a text that is not a valid handle or pattern, 78 if the rules would be refused, 1 if the file
    /// cannot be written. In each case nothing was written.
    pub(super) fn add(&self, handles: &[&str]) -> Result<Edit, CliError> {
        self.edit(|text| edit::add(text, handles))
    }

    fn remove(&self, handles: &[&str]) -> Result<Edit, CliError> {
        self.edit(|text| edit::remove(text, handles))
    }

    /// By which entry this one is still on the list after the change, and where that stands.
    fn still_by(&self, one: &str, edit: &Edit) -> Option<String> {
        let plain = crate::model::Handle::parse(one).ok();
        let fits = |entry: &str| {
            edit::canonical(entry) == one
                || plain.as_ref().is_some_and(|plain| audit::pattern(entry).is_ok_and(|all| all.contains(plain)))
        };
        let in_file = edit::entries(&edit.text).map(|entry| (entry, self.path.display().to_string()));
        let in_rules = self.here.iter().map(|entry| (entry.as_str(), format!("{} (`entries`)", self.rules.display())));
        let (entry, place) = in_file.chain(in_rules).find(|(entry, _)| fits(entry))?;
        Some(format!("`{}` in {}", output::shown(entry), output::shown(&place)))
    }

    fn edit(&self, edit: impl FnOnce(&str) -> Result<Edit, String>) -> Result<Edit, CliError> {
        let failed =
            |error: std::io::Error| CliError::new(1, format!("`{}` cannot be changed: {error}", self.path.display()));
        // The file is read only after the lock is held, so the text is current.
        let locked = edit::lock(&self.path).map_err(failed)?;
        let text = read(&self.path)?;
        let edit = edit(&text).map_err(|why| CliError::new(2, why))?;
        if edit.text == text {
            return Ok(edit);
        }
        let mut texts = policy_in(&self.rules)?.texts.clone();
        for text in texts.iter_mut().skip(1).filter(|text| text.name == self.written) {
            text.text = edit.text.as_str().into();
        }
        let loaded = load_texts(&self.rules, &texts);
        if loaded.policy.is_none() {
            let mut error = refused(&self.rules, &loaded.report);
            error.message = format!("nothing was written: with this change {}", error.message);
            return Err(error);
        }
        edit::replace(&locked, &edit.text).map_err(failed)?;
        Ok(edit)
    }
}

/// Makes the daemon load a change, and returns the new state for people.
///
/// # Errors
/// Exit code 1 if the daemon refuses it.
pub(super) fn put_in_force(list: &ListFile, edit: &Edit, remote: Option<&Remote>) -> Result<String, CliError> {
    let quoted = |handles: &[String]| handles.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
    let name = &list.name;
    let mut said = String::new();
    let mut unchanged = edit.unchanged.clone();
    for one in edit.changed.iter().chain(&edit.unchanged).filter(|_| edit.removes) {
        if let Some(by) = list.still_by(one, edit) {
            unchanged.retain(|other| other != one);
            said += &format!("still on the list `{name}`: `{one}`, by {by}\n");
        }
    }
    if !unchanged.is_empty() {
        let (so, whom) = (if edit.removes { "not on" } else { "already on" }, quoted(&unchanged));
        said += &format!("{so} the list `{name}`: {whom}\n");
    }
    if edit.changed.is_empty() {
        return Ok(said);
    }
    let (done, whom) = (if edit.removes { "off" } else { "on" }, quoted(&edit.changed));
    let Some(remote) = remote else {
        return Ok(
            said + &format!("now {done} the list `{name}`: {whom}; no daemon is running, the next start loads it\n")
        );
    };
    // The person named each entry that was removed, so the list may shrink by exactly this many.
    let entries = edit.changed.len();
    // The daemon may be in another directory.
    let file = std::fs::canonicalize(&list.path).unwrap_or_else(|_| list.path.clone());
    let removed = edit.removes.then_some(RemovedEntries { file, entries });
    let reloaded: Reloaded = remote.ask(&ControlOp::Reload { accept_shrunk: false, removed })?;
    if !reloaded.ok {
        let problems = reloaded.problems.as_deref().map(output::shown_lines).unwrap_or_default();
        let why = format!("{whom} is {done} the list in `{}`, but not all was loaded\n{problems}", list.path.display());
        return Err(CliError::new(1, why.trim_end()));
    }
    Ok(said + &format!("now {done} the list `{name}`: {whom}; in force\n"))
}

/// The lists of a rules file and of what it includes.
fn lists(rules: &Path) -> Result<Vec<RulesList>, CliError> {
    let mut all = Vec::new();
    for (directory, mut table) in tables(rules)? {
        let Some(toml::Value::Table(lists)) = table.remove("lists") else { continue };
        all.extend(lists.into_iter().map(|(name, list)| {
            let entries = list.get("entries").and_then(toml::Value::as_array);
            let entries = entries.into_iter().flatten().filter_map(|entry| Some(entry.as_str()?.to_owned()));
            let written = list.get("file").and_then(toml::Value::as_str).map(|file| joined(&directory, file));
            RulesList { name, rules: rules.to_owned(), here: entries.collect(), written }
        }));
    }
    Ok(all)
}

/// A rules file and the files that it includes, each with its directory relative to the rules file.
pub(super) fn tables(rules: &Path) -> Result<Vec<(PathBuf, toml::Table)>, CliError> {
    let beside = rules.parent().unwrap_or(Path::new(""));
    let mut all: Vec<(PathBuf, toml::Table)> = Vec::new();
    let mut left = vec![(PathBuf::new(), rules.to_owned())];
    let mut seen = BTreeSet::from([rules.to_owned()]);
    while let Some((directory, path)) = left.pop() {
        let failed = |why: String| CliError::new(78, format!("`{}` cannot be read: {why}", path.display()));
        let text = edit::text(&path).map_err(failed)?;
        let table: toml::Table = text.parse().map_err(|_| failed("`doorman check` says what is wrong".to_owned()))?;
        let include = table.get("include").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        for name in include.iter().filter_map(|name| Some(joined(&directory, name.as_str()?))) {
            let path = beside.join(&name);
            // The loader refuses more files than this, so they are not followed here, either.
            if seen.len() < 64 && seen.insert(path.clone()) {
                left.push((Path::new(&name).parent().unwrap_or(Path::new("")).to_owned(), path));
            }
        }
        all.push((directory, table));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_stays_on_a_list_by_another_entry_is_named_with_it() {
        let here = ["john", "acme/*"].map(str::to_owned).to_vec();
        let (rules, path) = (PathBuf::from("rules.toml"), PathBuf::from("friends.txt"));
        let list = ListFile { name: "friends".to_owned(), rules, written: "friends.txt".to_owned(), path, here };
        let edit = edit::remove("ann\nbob/*\nbob/x\n", &["bob/x", "ann", "@John", "acme/x", "eve", "acme/*"]).unwrap();
        insta::assert_snapshot!(put_in_force(&list, &edit, None).unwrap(), @r"
        still on the list `friends`: `bob/x`, by `bob/*` in friends.txt
        still on the list `friends`: `john`, by `john` in rules.toml (`entries`)
        still on the list `friends`: `acme/x`, by `acme/*` in rules.toml (`entries`)
        still on the list `friends`: `acme/*`, by `acme/*` in rules.toml (`entries`)
        not on the list `friends`: `eve`
        now off the list `friends`: `bob/x`, `ann`; no daemon is running, the next start loads it
        ");
    }
}
