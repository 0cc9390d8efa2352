//! `doorman test`: the tests that stand in the rules file.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use super::{CliError, Global};
use crate::config::{self, Env, Overrides};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all passed · 1 some failed · 78 the file is refused")]
pub struct Args {
    /// The rules file; else those of the configuration
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let files: Vec<PathBuf> = match args.rules {
        Some(file) => vec![file],
        None => config::load(global.config.as_deref(), &Env::of_process(), &Overrides::default())
            .map_err(|report| CliError::new(78, report.render(std::io::stderr().is_terminal())))?
            .settings
            .agents
            .into_iter()
            .map(|agent| agent.rules)
            .collect(),
    };
    for file in files {
        let loaded = crate::policy::load(&file, None, false);
        let Some(policy) = loaded.policy else {
            // A failing test is an error of the file: the diagnostic says what it did instead.
            let failed = loaded.report.problems.iter().all(|problem| problem.message.contains("test"));
            return Err(CliError::new(
                if failed { 1 } else { 78 },
                loaded.report.render(std::io::stderr().is_terminal()),
            ));
        };
        for result in crate::policy::run_tests(&policy) {
            let _ = writeln!(anstream::stdout(), "ok {}", result.name);
        }
    }
    Ok(0)
}
