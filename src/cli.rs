//! The command line: one file a subcommand, each with its arguments and a `run`. Output goes through `output::print`,
//! so that a closed pipe does not cause a panic. Errors carry their exit code.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::files;

mod agents;
pub(crate) mod answer;
mod audit;
mod check;
mod completions;
mod config;
mod confirm;
mod contacts;
mod demo;
mod doctor;
mod doubts;
pub(crate) mod explain;
mod findings;
mod fleet;
#[cfg(test)]
mod forged;
mod health;
mod history;
mod init;
mod ledger;
mod list;
mod man;
mod notify;
mod output;
mod page;
mod pause;
mod pending;
mod policy;
mod recipes;
mod reload;
mod remote;
mod replay;
mod review;
mod revoke;
mod run;
mod sandbox;
mod schema;
mod status;
mod table;
mod test;
mod who;

/// What a first day needs; each command's help has examples of its own.
const EXAMPLES: &str = "Examples:
  doorman demo               see it at work, with nothing to set up
  doorman init               write a first configuration and first rules
  doorman check              find errors in both
  doorman run                run the daemon
  doorman pending            in another terminal: who waits for a person
  doorman approve @carol     approve a request, as a person
  doorman explain @carol     why it was decided like this
  doorman man approve | man -l -";

/// Decides contact requests to AI agents on the Band platform by a TOML policy
#[derive(Debug, Parser)]
#[command(name = "doorman", version, about, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: TopCommand,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The configuration file; else `DOORMAN_CONFIG`, else doorman.toml in this directory, else in /etc/doorman
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TopCommand {
    /// Write a first configuration and first rules
    Init(init::Args),
    /// Run the daemon
    Run(run::Args),
    /// Show doorman at work, with nothing to set up
    Demo(demo::Args),
    /// Run an imitation of the platform, for trying and testing
    Sandbox(sandbox::Args),
    /// Check configuration and rules, as the daemon would load them
    Check(check::Args),
    /// Run the tests of the rules file
    Test(test::Args),
    /// Show why a request is, or would be, decided as it is
    #[command(visible_alias = "why")]
    Explain(explain::Args),
    /// Decide the recorded requests again under other rules
    Replay(replay::Args),
    /// Print the JSON Schema of a configuration file
    Schema(schema::Args),
    /// List the recipes that come with doorman, or print one
    Recipes(recipes::Args),
    /// Show the configuration in force and where each value came from
    Config(config::Args),
    /// Check everything that `run` needs, the platform included
    Doctor(doctor::Args),
    /// Show how the running daemon and its agents are
    Status(status::Args),
    /// Report by the exit status whether the running daemon is alive
    Health(health::Args),
    /// Show the requests that are pending
    Pending(pending::Args),
    /// List doubts: what doorman may have missed, so that requests stay pending
    Doubts(doubts::Args),
    /// Settle a doubt, as a person
    Settle(doubts::SettleArgs),
    /// Decide pending requests one after the other, with their reasons
    Review(review::Args),
    /// Approve requests, as a person
    #[command(visible_alias = "allow")]
    Approve(answer::ApproveArgs),
    /// Reject requests, as a person
    #[command(visible_alias = "deny")]
    Reject(answer::Args),
    /// Keep requests for a person: no rule answers them any more
    #[command(visible_alias = "defer")]
    Hold(answer::Args),
    /// Show who has access, since when, and who approved it
    Contacts(contacts::Args),
    /// Show which contacts the rules would not let in today
    Audit(audit::Args),
    /// Show contacts, ask, and remove them
    Revoke(revoke::Args),
    /// Change a list of the rules, and load it
    List(list::Args),
    /// Show what was decided, and why
    #[command(visible_alias = "logs")]
    History(history::Args),
    /// Show where doorman sends messages to people, and try it
    Notify(notify::Args),
    /// Let somebody log in to the page, or log them out
    Page(page::Args),
    /// Keep rules in the ledger, for every doorman on it
    Policy(policy::Args),
    /// Load the rules, and the agents of doorman.toml, again
    Reload(reload::Args),
    /// Answer nothing until `resume`
    Pause(pause::Args),
    /// Answer again after a pause
    Resume(pause::Args),
    /// Show the doormen that share a database, and which take agents
    Fleet(fleet::Args),
    /// Inspect, check, copy or replace the ledger
    Ledger(ledger::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print a manual page, or write all of them
    Man(man::Args),
}

/// The message and the exit code of a command that failed.
#[derive(Debug)]
pub(crate) struct CliError {
    /// 1, 2, 69, 74, 77 or 78; the `--help` of each command says what they mean.
    pub code: u8,
    /// For people; empty if everything has been said already.
    pub message: String,
}

impl CliError {
    /// An error with this code and message.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Where the daemon keeps its files, according to the configuration. `instead`: the flag that works without a
/// configuration.
fn places(global: &Global, instead: &str) -> Result<crate::config::Places, CliError> {
    use std::io::IsTerminal as _;
    crate::config::places(global.config.as_deref(), &crate::config::Env::of_command()).map_err(|report| {
        let shown = report.render(std::io::stderr().is_terminal());
        CliError::new(78, format!("the configuration cannot be read: correct it, or use `{instead}`\n{shown}"))
    })
}

/// The bytes of a file that a person named: it may be a pipe. Waits for some seconds at most.
fn named_file(path: &std::path::Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let how = files::ReadOptions { bytes_max, pipes: true, trust: files::FileTrust::Anybody };
    files::read(path, how).map(|contents| contents.bytes).map_err(|error| error.to_string())
}

/// The same as text.
fn named_text(path: &std::path::Path, bytes_max: usize) -> Result<String, String> {
    String::from_utf8(named_file(path, bytes_max)?).map_err(|_| "it is not UTF-8".to_owned())
}

/// Whether something exists at this path. A path that cannot be examined counts as existing: opening it then says why.
fn is_there(path: &std::path::Path) -> bool {
    !files::regular_or_missing(path).is_ok_and(|found| found.is_none())
}

/// The path in an environment variable; an empty value counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The configuration in this directory, for whoever names none. One that somebody else could have put here, to have a command act
/// on another daemon or another record, is not used.
fn configured_here() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let file = PathBuf::from("doorman.toml");
    let found = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
    let ours = found.uid() == 0 || found.uid() == nix::unistd::geteuid().as_raw();
    if ours && found.mode() & 0o022 == 0 {
        return Some(file);
    }
    output::note(
        "doorman: the doorman.toml in this directory is not used, since somebody else could have written it: name it with \
         `--config`\n",
    );
    None
}

/// This many agents share one thread; for more agents there is another thread.
const AGENTS_A_THREAD: usize = 64;
/// Most threads for agents.
const THREADS_MAX: usize = 4;

/// The runtime of a command that works with this many agents. Agents are mostly idle, and one thread answers 10,000
/// requests a second; slow work (rules files, keys, the ledger) has threads of its own. A second thread would not make
/// any single agent faster. It would only cost memory: each thread has an arena, and each arena would grow to the size
/// that one alone needs. If there is only one, it is the caller's: an agent, its connections and its calls then wake
/// each other without a lock or a system call, which saves a sixth of the CPU time in a burst.
fn runtime(agents: usize) -> Result<tokio::runtime::Runtime, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = agents.div_ceil(AGENTS_A_THREAD).clamp(1, cores.min(THREADS_MAX));
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| CliError::new(1, format!("no runtime: {error}")))
}

/// Prints what is wrong with the command line, or the help that was requested. clap quotes arguments unchanged, and an
/// argument may be a stranger's handle: so the arguments are escaped and parsed again, and clap's message about these
/// is printed.
fn misread(error: clap::Error) -> u8 {
    let harmless = std::env::args_os().map(|argument| output::shown(&argument.to_string_lossy()));
    let said = match Cli::try_parse_from(harmless) {
        Err(said) => said,
        Ok(_) => Cli::command().error(error.kind(), "an argument has characters that are not allowed there"),
    };
    let _ = said.print();
    u8::try_from(said.exit_code()).unwrap_or(2)
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> u8 {
    completions::answer();
    let Cli { mut global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(error),
    };
    global.config = global.config.or_else(|| variable("DOORMAN_CONFIG")).or_else(configured_here);
    let result = match command {
        TopCommand::Init(args) => init::run(args, &global),
        TopCommand::Run(args) => run::run(args, &global),
        TopCommand::Demo(args) => demo::run(args, &global),
        TopCommand::Sandbox(args) => sandbox::run(args, &global),
        TopCommand::Check(args) => check::run(args, &global),
        TopCommand::Test(args) => test::run(args, &global),
        TopCommand::Explain(args) => explain::run(args, &global),
        TopCommand::Replay(args) => replay::run(args, &global),
        TopCommand::Schema(args) => schema::run(args, &global),
        TopCommand::Recipes(args) => recipes::run(args, &global),
        TopCommand::Config(args) => config::run(args, &global),
        TopCommand::Doctor(args) => doctor::run(args, &global),
        TopCommand::Status(args) => status::run(args, &global),
        TopCommand::Health(args) => health::run(args, &global),
        TopCommand::Pending(args) => pending::run(args, &global),
        TopCommand::Doubts(args) => doubts::run(args, &global),
        TopCommand::Settle(args) => doubts::settle(args, &global),
        TopCommand::Review(args) => review::run(args, &global),
        TopCommand::Approve(args) => answer::approve(args, &global),
        TopCommand::Reject(args) => answer::run(args, crate::model::Verdict::Reject, &global),
        TopCommand::Hold(args) => answer::run(args, crate::model::Verdict::Defer, &global),
        TopCommand::Contacts(args) => contacts::run(args, &global),
        TopCommand::Audit(args) => audit::run(args, &global),
        TopCommand::List(args) => list::run(args, &global),
        TopCommand::Revoke(args) => revoke::run(args, &global),
        TopCommand::History(args) => history::run(args, &global),
        TopCommand::Policy(args) => policy::run(args, &global),
        TopCommand::Reload(args) => reload::run(args, &global),
        TopCommand::Notify(args) => notify::run(args, &global),
        TopCommand::Page(args) => page::run(args, &global),
        TopCommand::Pause(args) => pause::run(args, true, &global),
        TopCommand::Resume(args) => pause::run(args, false, &global),
        TopCommand::Fleet(args) => fleet::run(args, &global),
        TopCommand::Ledger(args) => ledger::run(args, &global),
        TopCommand::Completions(args) => completions::run(args, &global),
        TopCommand::Man(args) => man::run(args, &global),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            if !error.message.is_empty() {
                output::note(&format!("doorman: {}\n", error.message));
            }
            error.code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line of a shell; `None` if it ends inside a quotation.
    fn words(line: &str) -> Option<Vec<String>> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for character in line.chars() {
            match (quote, character) {
                (Some(end), _) if character == end => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (_, _) => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        quote.is_none().then_some(words)
    }

    /// The calls of doorman in an example: without the remark beside it, cut where the shell cuts.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let line = line.trim_start().split("  ").next().unwrap_or_default();
        let line =
            [" && ", " | ", " > ", " < ", "<(", ")"].iter().fold(line.to_owned(), |line, cut| line.replace(cut, "\n"));
        let calls = line.lines().filter(|part| part.trim_start().starts_with("doorman "));
        calls.map(|part| words(part.trim()).unwrap_or_else(|| panic!("a quotation does not end: {part}"))).collect()
    }

    /// Whether these words call this command (its words, without `doorman`), or one below it.
    fn calls_it(words: &[String], path: &[String]) -> bool {
        words.len() > path.len() && words[1..].starts_with(path)
    }

    #[test]
    fn every_command_has_examples_and_the_real_command_line_takes_each() {
        fn visit(command: &clap::Command, path: &[String], wrong: &mut Vec<String>) {
            let name = ["doorman".to_owned()].iter().chain(path).cloned().collect::<Vec<_>>().join(" ");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.split("\n\n").find_map(|paragraph| paragraph.trim().strip_prefix("Examples:\n"));
            let all: Vec<Vec<String>> = examples.unwrap_or_default().lines().flat_map(calls).collect();
            if !all.iter().any(|words| calls_it(words, path)) {
                wrong.push(format!("{name}: no example of it"));
            }
            for words in &all {
                if let Err(error) = Cli::try_parse_from(words) {
                    wrong.push(format!("{name}: {}: {error}", words.join(" ")));
                }
            }
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                let path: Vec<String> = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
                visit(below, &path, wrong);
                // The page has them in a section of its own.
                let page = man::page(below).unwrap();
                if !page.contains(".SH EXAMPLES") {
                    wrong.push(format!("{}: its page has no EXAMPLES", path.join(" ")));
                }
            }
        }
        let (mut command, mut wrong) = (Cli::command(), Vec::new());
        command.build();
        visit(&command, &[], &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// An example that asks for another key would print `null`, or everything.
    #[test]
    fn each_key_of_an_example_with_jq_is_one_of_the_interface() {
        fn visit(command: &clap::Command, keys: &mut Vec<(String, String)>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let key = regex::Regex::new(r"(?:\.|[{,] ?)([a-z_]+)").unwrap();
            for line in help.lines() {
                let Some((_, expression)) = line.split_once("| jq ") else { continue };
                keys.extend(key.captures_iter(expression).map(|key| (line.trim().to_owned(), key[1].to_owned())));
            }
            command.get_subcommands().for_each(|command| visit(command, keys));
        }
        let mut keys = Vec::new();
        visit(&Cli::command(), &mut keys);
        assert!(keys.len() > 8, "{keys:?}");
        let page = include_str!("../docs/interface.md");
        keys.retain(|(_, key)| !page.contains(&format!("`{key}`")) && !page.contains(&format!(".{key}`")));
        assert!(keys.is_empty(), "no such key: {keys:?}");
    }

    #[test]
    fn an_example_is_read_as_a_shell_reads_it() {
        assert_eq!(calls("  doorman check && doorman reload --wait    both")[1], ["doorman", "reload", "--wait"]);
        assert_eq!(calls("  source <(doorman completions bash)"), [["doorman", "completions", "bash"]]);
        assert_eq!(calls("  doorman a 'b c/*' | jq -r 'x'")[0], ["doorman", "a", "b c/*"]);
        assert!(!calls_it(&["doorman".to_owned(), "pause".to_owned()], &["resume".to_owned()]));
    }

    /// A line wider than 80 columns wraps in the middle, although it was laid out by hand.
    #[test]
    fn help_fits_80_columns_and_is_not_wrapped_twice() {
        fn visit(command: &mut clap::Command, wide: &mut Vec<String>) {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let help = command.clone().term_width(80).render_long_help().to_string();
            let of = |line: &str| format!("{name}: {line}");
            for width in [80, 100] {
                let help = command.clone().term_width(width).render_long_help().to_string();
                assert!(help.contains(after.trim()), "{name}: laid out by hand, and wrapped again:\n{help}");
            }
            wide.extend(after.lines().chain(help.lines()).filter(|line| line.chars().count() > 80).map(of));
            command.get_subcommands_mut().for_each(|command| visit(command, wide));
        }
        let (mut command, mut wide) = (Cli::command(), Vec::new());
        command.build();
        visit(&mut command, &mut wide);
        assert!(wide.is_empty(), "{}", wide.join("\n"));
    }
}
