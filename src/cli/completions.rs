//! `doorman completions`.

use clap::CommandFactory as _;

use super::{Cli, CliError, Global, remote};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "doorman", &mut script);
    remote::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
