//! `doorman man`: the manual pages, one a command.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, CliError, Global, output};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman man | man -l -            the page doorman(1)
  doorman man approve | man -l -    the page doorman-approve(1)
  doorman man --out man1            all pages, as files, for a package")]
pub struct Args {
    /// Of which command, such as `approve` or `ledger info`; else of doorman
    #[arg(value_name = "COMMAND", conflicts_with = "out", add = super::completions::commands())]
    command: Vec<String>,
    /// Write all pages into this directory; it is created if it does not exist
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// The files that doorman reads and writes.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/doorman/doorman.toml",
        "The configuration, if neither --config nor DOORMAN_CONFIG names another, and there is none in the current directory.",
    ),
    (
        "/etc/doorman/rules.toml",
        "The rules, and the list files that they name. Each agent of the configuration names its own.",
    ),
    (
        "/var/lib/doorman/ledger.db",
        "The record of everything that was seen, decided and answered, under the systemd unit.",
    ),
    ("/run/doorman/doorman.sock", "The control socket, under the systemd unit."),
    ("~/.local/state/doorman/ledger.db", "The record, if a user runs doorman by hand."),
];

const ENVIRONMENT: [(&str, &str); 4] = [
    ("DOORMAN_CONFIG", "The configuration file."),
    ("DOORMAN_CONTROL_PATH", "The control socket."),
    (
        "DOORMAN_AGENT_ID, DOORMAN_API_KEY, DOORMAN_API_KEY_FILE, DOORMAN_RULES",
        "One agent without a configuration file.",
    ),
    ("NO_COLOR, CLICOLOR_FORCE", "Whether output is coloured if it is not decided by the terminal."),
];

const EXIT: [(&str, &str); 8] = [
    ("0", "It is done."),
    ("1", "It is not done, or not well; the message says why."),
    ("2", "The command line is wrong, or nobody could be asked."),
    ("69", "No daemon answers, or the platform cannot be reached."),
    ("74", "The ledger cannot be used."),
    ("77", "The key is refused."),
    ("78", "The configuration or the rules are refused."),
    ("141", "Nobody read the output."),
];

/// Runs the command.
///
/// # Errors
/// 2 if there is no such command, 1 if a page cannot be written.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let mut root = Cli::command();
    root.build();
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
        let pages = write_all(&root, directory)?;
        output::print(&format!("{pages} pages are in {}\n", directory.display()))?;
        return Ok(0);
    }
    let mut command = &root;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let known = if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) };
            CliError::new(2, format!("no command `{}`{known}", output::shown(name)))
        })?;
    }
    output::print(&page(command)?)?;
    Ok(0)
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(1, format!("`{}` cannot be written: {error}", path.display()))
}

fn write_all(command: &Command, directory: &Path) -> Result<usize, CliError> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).map_err(|error| failed(&path, &error))?;
    let below = command.get_subcommands().filter(|command| command.get_name() != "help");
    below.map(|command| write_all(command, directory)).sum::<Result<usize, _>>().map(|pages| pages + 1)
}

pub(super) fn page(command: &Command) -> Result<String, CliError> {
    let man = Man::new(command.clone()).source(concat!("doorman ", env!("CARGO_PKG_VERSION"))).manual("doorman");
    let mut page = Vec::new();
    let rendered = (|| -> std::io::Result<()> {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        sections(&after).to_writer(&mut page)
    })();
    rendered.map_err(|error| CliError::new(1, error.to_string()))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The text below a command's help, as sections, and the sections that all pages have.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::new();
    let (mut notes, mut exit, mut examples) = (Vec::new(), None, None);
    for paragraph in after.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        if let Some(text) = paragraph.strip_prefix("Examples:\n") {
            examples = Some(text);
        } else if let Some(text) =
            paragraph.strip_prefix("Exit status:").or_else(|| paragraph.strip_prefix("Exit codes:"))
        {
            exit = Some(text);
        } else {
            notes.push(paragraph);
        }
    }
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        for (n, note) in notes.into_iter().enumerate() {
            if n > 0 {
                roff.control("PP", []);
            }
            verbatim(&mut roff, note);
        }
    }
    for (title, entries) in [("FILES", FILES.as_slice()), ("ENVIRONMENT", &ENVIRONMENT)] {
        roff.control("SH", [title]);
        tagged(&mut roff, entries);
    }
    roff.control("SH", ["EXIT STATUS"]);
    match exit {
        Some(text) => {
            roff.text([roman(text.split_whitespace().collect::<Vec<_>>().join(" "))]);
        }
        None => tagged(&mut roff, &EXIT),
    }
    if let Some(examples) = examples {
        roff.control("SH", ["EXAMPLES"]);
        verbatim(&mut roff, examples);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("doorman"),
        roman("(1), and the pages of its commands, such as "),
        bold("doorman-run"),
        roman("(1)"),
    ]);
    roff
}

fn tagged(roff: &mut Roff, entries: &[(&str, &str)]) {
    for (name, text) in entries {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*text)]);
    }
}

/// Lines without reformatting.
fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
