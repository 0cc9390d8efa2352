//! `doorman schema`: the JSON Schema of a configuration file, for completion in editors.

use super::ledger::print;
use super::{CliError, Global};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman schema > rules.schema.json
  doorman schema doorman > doorman.schema.json")]
pub struct Args {
    /// Of which file; point to it with `#:schema ./rules.schema.json` in the file's first line
    #[arg(value_name = "FILE", default_value = "rules")]
    of: SchemaName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaName {
    /// rules.toml
    Rules,
    /// doorman.toml
    Doorman,
}

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    let schema = match args.of {
        SchemaName::Rules => crate::policy::schema(),
        SchemaName::Doorman => crate::config::schema(),
    };
    print(&format!("{schema:#}\n"))?;
    Ok(0)
}
