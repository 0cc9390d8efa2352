//! `doorman history`.

use super::{CliError, Global};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args, _global: &Global) -> Result<u8, CliError> {
    Err(CliError::new(1, "not built yet"))
}
