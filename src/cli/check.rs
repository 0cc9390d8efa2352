//! `doorman check`: every problem and warning, by the daemon's own loader.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use super::{CliError, Global};
use crate::config::{self, Env, Overrides, Report, Severity};
use crate::secret;

/// Arguments.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Exit codes: 0 good · 1 warnings under --strict · 78 refused")]
pub struct Args {
    /// Refuse warnings, too
    #[arg(long)]
    strict: bool,
    /// Check this rules file alone; needs no doorman.toml
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let mut checked = Checked::default();
    let rules: BTreeSet<PathBuf> = match args.rules {
        Some(file) => BTreeSet::from([file]),
        None => match config::load(global.config.as_deref(), &Env::of_process(), &Overrides::default()) {
            Err(report) => {
                checked.show(&report);
                BTreeSet::new()
            }
            Ok(mut loaded) => {
                for agent in &loaded.settings.agents {
                    if let Err(error) = secret::read(&agent.key) {
                        let message = format!("agent `{}`: {error}", agent.id);
                        loaded
                            .report
                            .push(Severity::Warning, None, None, message)
                            .help("`run` reports the agent as refused until it can be read");
                    }
                }
                checked.show(&loaded.report);
                loaded.settings.agents.into_iter().map(|agent| agent.rules).collect()
            }
        },
    };
    let files = rules.len();
    for file in &rules {
        checked.show(&crate::policy::load(file, None, false).report);
    }
    let Checked { errors, warnings } = checked;
    let code = match (errors, warnings) {
        (0, 0) => 0,
        (0, _) => u8::from(args.strict),
        _ => 78,
    };
    let _ = writeln!(anstream::stdout(), "{files} rules file(s) checked: {errors} error(s), {warnings} warning(s)");
    Ok(code)
}

#[derive(Default)]
struct Checked {
    errors: usize,
    warnings: usize,
}

impl Checked {
    fn show(&mut self, report: &Report) {
        self.errors += report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        self.warnings += report.problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
        let _ = write!(anstream::stderr(), "{}", report.render(std::io::stderr().is_terminal()));
    }
}
