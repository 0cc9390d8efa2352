//! `doorman health`: whether the running daemon is alive, or ready; for containers and scripts.

use super::remote::RemoteArgs;
use super::{CliError, Global, output};

/// The exit code if a check fails or no daemon answers. A container's HEALTHCHECK knows only 0 and 1.
const UNHEALTHY: u8 = 1;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  doorman health             is it alive? for a container's HEALTHCHECK
  doorman health --ready     does it serve at least one agent?
  doorman health --json      every check, with the reason where it fails

Alive: every loop of the daemon runs. The platform, the ledger and the agents
are not asked, so their faults cause no restart. Ready: the daemon has started
and is not stopping, at least one agent is neither refused nor without rules,
and the ledger was not blocked for longer than 10 s. The same is served over
HTTP as /healthz and /readyz at `metrics.listen`.

Exit status: 0 yes, 1 no, or no daemon answers.")]
pub struct Args {
    /// Ask whether it is ready, not only whether it is alive
    #[arg(long)]
    ready: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Print nothing
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 1 if no daemon answers.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let asked = args.remote.open(global).and_then(|remote| remote.health(args.ready));
    let health =
        asked.map_err(|error| CliError::new(UNHEALTHY, if args.quiet { String::new() } else { error.message }))?;
    let code = if health.ok { 0 } else { UNHEALTHY };
    if args.json {
        output::print_json(&health)?;
    } else if !args.quiet {
        let mut page = String::new();
        for check in health.checks.iter().filter(|check| !check.ok) {
            let why = check.why.as_deref().unwrap_or("it failed");
            page.push_str(&format!("{}: {}\n", output::shown(&check.name), output::shown(why)));
        }
        if health.ok {
            page.push_str(if args.ready { "ready\n" } else { "alive\n" });
        }
        output::print(&page)?;
    }
    Ok(code)
}
