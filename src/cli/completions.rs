//! `doorman completions`, and what the scripts that it prints ask for: agents, rules, lists, values, and whoever is waiting, on
//! record or a contact, besides the commands and options themselves.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::{Cli, CliError, Global, output, remote, variable};
use crate::ledger::read::{RecordedContact, WantedContacts};
use crate::ledger::{Filter, LedgerAddress, LedgerReader, RecordedRequest};
use crate::model::{Handle, Outcome, Verdict};
use crate::ops::control::wire::{ControlOp, OpReply, PendingRow};
use crate::policy::{By, GuardKind};

/// Set by the scripts when they ask this program.
const ASKED: &str = "_DOORMAN_COMPLETE";
/// Completion offers the handles of this many of the newest requests on record, and of the newest contacts.
const RECORDED: usize = 200;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(doorman completions bash)
  doorman completions zsh > ~/.zfunc/_doorman
  doorman completions fish > ~/.config/fish/completions/doorman.fish

The script asks this program, so that it also knows agents, rules, lists and the
requests that are pending now. Print it again after an update of doorman.")]
pub struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let shells = Shells::builtins();
    let shell = args.shell.to_string();
    let shell = shells.completer(&shell).ok_or_else(|| CliError::new(1, format!("no script for `{shell}`")))?;
    let mut script = Vec::new();
    shell
        .write_registration(ASKED, "doorman", "doorman", "doorman", &mut script)
        .map_err(|error| CliError::new(1, error.to_string()))?;
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// If a completion script calls this program, answers it and ends the process.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).complete();
}

/// Agents, by handle and id.
pub fn agents() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let configured = super::places(&global_options(), "").map(|places| places.rules).unwrap_or_default();
        let mut known: BTreeSet<String> = configured.into_iter().map(|(id, _)| id).collect();
        if let Some(OpReply::Status(status)) = ask(&ControlOp::Status) {
            known.extend(status.agents.into_iter().filter_map(|agent| agent.handle));
        }
        offer(current, known)
    })
}

/// Handles of recent senders, if they can be typed, and of requests that are pending.
pub fn recorded() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let newest = Filter { limit: Some(RECORDED), ..Filter::default() };
        let recorded = record().and_then(|reader| reader.requests(&newest).ok()).unwrap_or_default();
        let handle = |one: RecordedRequest| Some(format!("@{}", one.request.sender.handle()?));
        let mut known: BTreeSet<String> = recorded.into_iter().filter_map(handle).collect();
        known.extend(awaited(current));
        offer(current, known)
    })
}

/// Who has access, as far as the handle can be typed.
pub fn contacts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let newest = WantedContacts { newest: Some(RECORDED), ..WantedContacts::default() };
        let mut contacts = Vec::new();
        if let Some(reader) = record() {
            // Rows that cannot be read are not offered.
            let _ = reader.each_contact(&newest, |contact| {
                contacts.push(contact);
                ControlFlow::Continue(())
            });
        }
        let handle = |one: &RecordedContact| Some(format!("@{}", Handle::parse(one.handle.as_ref()?.raw()).ok()?));
        offer(current, contacts.iter().filter_map(handle).collect())
    })
}

/// What can decide a request: rules, and everything else that `by` can name.
pub fn deciders() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut known = names("rules");
        known.extend([By::NoMatch, By::Paused].map(|by| by.to_string()));
        known.extend(GuardKind::ALL.map(|guard| By::Guard(guard).to_string()));
        offer(current, known)
    })
}

/// The outcomes of requests.
pub fn outcomes() -> ArgValueCompleter {
    let words = Outcome::ALL.map(|outcome| outcome.as_str().to_owned());
    of(words.into_iter().chain(["pending".to_owned()]).collect())
}

/// The verdicts.
pub fn verdicts() -> ArgValueCompleter {
    of([Verdict::Approve, Verdict::Reject, Verdict::Defer].map(|verdict| verdict.to_string()).into())
}

/// The commands.
pub fn commands() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        // Built on demand: this function is itself part of building the command.
        offer(current, Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect())
    })
}

fn of(words: BTreeSet<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| offer(current, words.clone()))
}

/// What the doubts are about: owners, and the requests that a doubt rests on.
pub fn doubted() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let rows = match ask(&ControlOp::Doubts { agent: None }) {
            Some(OpReply::Doubts(doubts)) => doubts.doubts,
            Some(_) | None => Vec::new(),
        };
        let known = rows.into_iter().flat_map(|row| [format!("@{}", row.owner), row.subject]);
        offer(current, known.filter(|text| text != "@*").collect())
    })
}

/// The beginnings of the policies on record.
pub fn policies() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(reader) = record() else { return Vec::new() };
        let agents = reader.agents().unwrap_or_default();
        let policies = agents.iter().flat_map(|agent| reader.policies_of(agent).unwrap_or_default());
        offer(current, policies.map(|(hash, _)| hash.as_str().chars().take(12).collect()).collect())
    })
}

/// Names of pushed rules.
pub fn pushed() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let heads = record().and_then(|reader| reader.pushed_heads().ok()).unwrap_or_default();
        offer(current, heads.into_iter().map(|head| head.name).collect())
    })
}

/// Names of rules.
pub fn rules() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, names("rules")))
}

/// Names of lists.
pub fn lists() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, names("lists")))
}

/// Pending requests: handles that can be typed, and ids.
pub fn waiting() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, awaited(current)))
}

/// Handles of pending requests, if they can be typed.
pub fn waiting_handles() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        offer(current, pending().iter().filter_map(typed).map(|handle| format!("@{handle}")).collect())
    })
}

/// Entries of lists.
pub fn listed() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(beginning) = current.to_str() else { return Vec::new() };
        offer(current, super::list::known(beginning, &global_options()))
    })
}

fn typed(row: &PendingRow) -> Option<Handle> {
    row.handle.as_deref().and_then(|handle| Handle::parse(handle).ok())
}

fn awaited(current: &OsStr) -> BTreeSet<String> {
    let rows = pending();
    let handles = rows.iter().filter_map(typed).map(|handle| format!("@{handle}"));
    let mut known: BTreeSet<String> = handles.collect();
    // Ids are offered only if the person has begun to type one, or if the handle cannot be typed: otherwise they do not
    // help to choose.
    let begun = current.to_str().is_some_and(|text| !text.is_empty() && !text.starts_with('@'));
    known.extend(rows.into_iter().filter(|row| begun || typed(row).is_none()).map(|row| row.request));
    known
}

/// The ledger, if there is one.
fn record() -> Option<LedgerReader> {
    let places = super::places(&global_options(), "").ok()?;
    LedgerReader::open(LedgerAddress::of(&places.ledger, places.database.as_ref())).ok()
}

/// What decided the requests that are pending now.
pub fn reasons() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let by = pending().into_iter().filter_map(|row| row.by).collect();
        offer(current, by)
    })
}

fn pending() -> Vec<PendingRow> {
    match ask(&ControlOp::Pending { agent: None }) {
        Some(OpReply::Pending(pending)) => pending.requests,
        Some(_) | None => Vec::new(),
    }
}

/// The candidates that begin with the word, without those that are unsafe in a shell: some texts come from the platform
/// or from strangers.
fn offer(current: &OsStr, known: BTreeSet<String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let plain = |text: &String| {
        (1..=150).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@/._:-".contains(&byte))
    };
    known.into_iter().filter(|text| text.starts_with(current) && plain(text)).map(CompletionCandidate::new).collect()
}

/// The names below a table of the configured rules files and of what they include.
fn names(table: &str) -> BTreeSet<String> {
    let places = super::places(&global_options(), "").map(|places| places.rules).unwrap_or_default();
    let files: BTreeSet<_> = places.into_iter().map(|(_, path)| path).collect();
    let parsed = files.iter().filter_map(|path| super::list::tables(path).ok()).flatten();
    let tables = parsed.filter_map(|(_, mut rules)| match rules.remove(table) {
        Some(toml::Value::Table(table)) => Some(table),
        Some(_) | None => None,
    });
    tables.flat_map(|table| table.into_iter().map(|(name, _)| name)).collect()
}

/// The options of the command line that is being typed are not known here.
fn global_options() -> Global {
    Global { config: variable("DOORMAN_CONFIG").or_else(super::configured_here) }
}

/// The daemon's reply, if there is a daemon and it replies at once.
fn ask(op: &ControlOp) -> Option<OpReply> {
    remote::at_once(&global_options(), op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_could_act_on_is_not_offered() {
        let known = ["@ann", "@ann/bot", "r-1", "$(reboot)", "a b", "`x`", "\u{1b}[2J", ""];
        let offered = |current: &str| {
            let offered = offer(current.as_ref(), known.iter().map(ToString::to_string).collect());
            offered.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(offered(""), ["@ann", "@ann/bot", "r-1"]);
        assert_eq!(offered("@ann/"), ["@ann/bot"]);
    }
}
