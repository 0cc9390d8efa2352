//! `doorman schema`: the JSON Schema of rules.toml, for completion in editors.

use super::{CliError, Global};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args, _global: &Global) -> Result<u8, CliError> {
    let text =
        serde_json::to_string_pretty(&crate::policy::schema()).map_err(|error| CliError::new(1, error.to_string()))?;
    let _ = std::io::Write::write_all(&mut anstream::stdout(), format!("{text}\n").as_bytes());
    Ok(0)
}
