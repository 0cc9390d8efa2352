//! `doorman pause` and `resume`: whether anything is answered at all.

use super::remote::{self, Door};
use super::{CliError, Global};
use crate::ops::control::wire::{ControlOp, OpReply};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pause                 all agents
  doorman pause ana/helper      one agent, by handle or id
  doorman resume

While an agent is paused, requests are seen, decided and recorded, and none is answered.
A pause outlives a restart. A resume starts the count of `approvals_max` anew.")]
pub struct Args {
    /// Only this agent: its id, the beginning of it, or its handle; else all
    #[arg(value_name = "AGENT")]
    agent: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    door: Door,
}

/// Runs the command; `pause` or `resume`.
///
/// # Errors
/// 69 where no daemon answers, 1 for an unknown agent.
pub fn run(args: Args, pause: bool, global: &Global) -> Result<u8, CliError> {
    let remote = args.door.open(global)?;
    let agent = remote.agent(args.agent.as_deref())?;
    let reply = remote.call(&if pause { ControlOp::Pause { agent } } else { ControlOp::Resume { agent } })?;
    let OpReply::Done { agents } = &reply else { return Err(remote::unexpected()) };
    if args.json {
        remote::print_json(&reply)?;
        return Ok(0);
    }
    let word = if pause { "paused" } else { "resumed" };
    let mut text: String = agents.iter().map(|agent| format!("{word} {agent}\n")).collect();
    if text.is_empty() {
        text = format!("there was nothing to be {word}\n");
    }
    remote::print(&text)?;
    Ok(0)
}
