//! `doorman completions`, and what the scripts that it prints ask for: agents, rules, lists and whoever is waiting, besides
//! the commands and options themselves.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::{Cli, CliError, Global, output, remote, variable};
use crate::model::Handle;
use crate::ops::control::wire::{ControlOp, OpReply, PendingRow};

/// Set by the scripts when they ask this program.
const ASKED: &str = "_DOORMAN_COMPLETE";

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

/// Answers a script and ends the process, where one asks.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).complete();
}

/// Agents, by handle and id.
pub fn agents() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let configured = super::places(&asked(), "").map(|places| places.rules).unwrap_or_default();
        let mut known: BTreeSet<String> = configured.into_iter().map(|(id, _)| id).collect();
        if let Some(OpReply::Status(status)) = ask(&ControlOp::Status) {
            known.extend(status.agents.into_iter().filter_map(|agent| agent.handle));
        }
        offer(current, known)
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

/// Who is waiting: handles that can be typed, and ids.
pub fn waiting() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let typed = |row: &PendingRow| row.handle.as_deref().and_then(|handle| Handle::parse(handle).ok());
        let rows = pending();
        let handles = rows.iter().filter_map(typed).map(|handle| format!("@{handle}"));
        let mut known: BTreeSet<String> = handles.collect();
        // Ids only where somebody begins one, or has no handle that can be typed: nobody chooses among them.
        let begun = current.to_str().is_some_and(|text| !text.is_empty() && !text.starts_with('@'));
        known.extend(rows.into_iter().filter(|row| begun || typed(row).is_none()).map(|row| row.request));
        offer(current, known)
    })
}

/// What the requests that are pending now were decided by.
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

/// What begins as the word does, as far as a shell can be given it: some of it is the platform's, or a stranger's.
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
    let places = super::places(&asked(), "").map(|places| places.rules).unwrap_or_default();
    let files: BTreeSet<_> = places.into_iter().map(|(_, path)| path).collect();
    let parsed = files.iter().filter_map(|path| super::list::tables(path).ok()).flatten();
    let tables = parsed.filter_map(|(_, mut rules)| match rules.remove(table) {
        Some(toml::Value::Table(table)) => Some(table),
        Some(_) | None => None,
    });
    tables.flat_map(|table| table.into_iter().map(|(name, _)| name)).collect()
}

/// The options of the command line that is being typed are not known here.
fn asked() -> Global {
    Global { config: variable("DOORMAN_CONFIG") }
}

/// What the daemon says, if there is one and it answers at once.
fn ask(op: &ControlOp) -> Option<OpReply> {
    remote::at_once(&asked(), op)
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
