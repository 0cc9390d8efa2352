//! `doorman config`: the configuration in force, and where each value came from.

use std::io::IsTerminal as _;

use serde_json::json;

use super::{CliError, Global, output, table};
use crate::config::{self, Env, Overrides};
use crate::secret;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman config    every value, and where it came from
  doorman config --json | jq '.agents[].rules'

Exit status: 0 done; 78 the configuration is refused.")]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let loaded =
        config::load(global.config.as_deref(), &Env::of_command(), &Overrides::default()).map_err(|report| {
            CliError::new(
                78,
                format!("the configuration is refused\n{}", report.render(std::io::stderr().is_terminal())),
            )
        })?;
    let agents = loaded.settings.agents.iter().zip(&loaded.agents);
    if args.json {
        let values: Vec<_> = loaded
            .origins
            .iter()
            .map(|(key, value, origin)| json!({"key": key, "value": value, "from": origin}))
            .collect();
        let agents: Vec<_> = agents
            .map(|(agent, from)| {
                json!({
                    "id": agent.id, "id_from": from.id, "name": agent.name, "key": "***", "key_from": secret::describe(&agent.key),
                    "rules": agent.rules, "rules_from": from.rules,
                    "connection": agent.connection.word(), "connection_from": from.connection,
                })
            })
            .collect();
        output::print_json(&json!({"file": loaded.file, "values": values, "agents": agents}))?;
        return Ok(0);
    }
    let rows = loaded.origins.iter().map(|(key, value, origin)| vec![key.clone(), value.clone(), origin.clone()]);
    let mut page = table::table(&["KEY", "VALUE", "FROM"], rows.collect()) + "\n";
    for (agent, from) in agents {
        page += &format!(
            "agent {} ({}){}  key *** from {}, rules {} ({}), connection {} ({})\n",
            agent.id,
            from.id,
            agent.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default(),
            secret::describe(&agent.key),
            agent.rules.display(),
            from.rules,
            agent.connection.word(),
            from.connection,
        );
    }
    output::print(&page)?;
    Ok(0)
}
