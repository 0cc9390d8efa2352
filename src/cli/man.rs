//! `doorman man`.

use clap::CommandFactory as _;

use super::{Cli, CliError, Global, remote};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args, _global: &Global) -> Result<u8, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| CliError::new(1, error.to_string()))?;
    remote::print(&String::from_utf8_lossy(&page))?;
    Ok(0)
}
