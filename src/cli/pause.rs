//! `doorman pause` and `resume`: stop and restart all answers.

use super::agents::AgentArg;
use super::remote::RemoteArgs;
use super::who::WhoArgs;
use super::{CliError, Global, output};
use crate::ops::control::wire::{AgentsDone, ControlOp, OpReply};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pause                 all agents
  doorman pause ana/helper      one agent, by handle or id
  doorman resume

While an agent is paused, requests are seen, decided and recorded, and none is
answered. The agent stays paused after a restart. After a resume,
`approvals_max` counts from zero.")]
pub struct Args {
    /// Only this agent: its id, the beginning of it, or its handle; else all
    #[arg(value_name = "AGENT", conflicts_with = "agent", add = super::completions::agents())]
    only: Option<String>,
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Print nothing if all went well
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command; `pause` or `resume`.
///
/// # Errors
/// 69 if no daemon answers, 1 for an unknown agent, or where it was not done.
pub fn run(args: Args, pause: bool, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open_as(&args.who, global)?;
    let agent = remote.agent(args.only.as_deref().or(args.agent.given()))?;
    let done: AgentsDone = remote.ask(&if pause { ControlOp::Pause { agent } } else { ControlOp::Resume { agent } })?;
    let code = u8::from(!done.failed.is_empty());
    if args.json {
        output::print_json(&OpReply::Done(done))?;
        return Ok(code);
    }
    let word = if pause { "paused" } else { "resumed" };
    let failed: String = done.failed.iter().map(|why| format!("not {word}: {}\n", output::shown(why))).collect();
    output::note(&failed);
    if args.quiet {
        return Ok(code);
    }
    let mut text: String = done.agents.iter().map(|agent| format!("{word} {agent}\n")).collect();
    if text.is_empty() && failed.is_empty() {
        text = format!("there was nothing to be {word}\n");
    }
    output::print(&text)?;
    Ok(code)
}
