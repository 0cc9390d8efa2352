//! `doorman reload`: load the rules, and the agents of the configuration, again.

use super::remote::RemoteArgs;
use super::{CliError, Global, output};
use crate::ops::control::client::Submitted;
use crate::ops::control::wire::{ControlOp, Reloaded};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman check && doorman reload --wait
  doorman reload --wait --accept-shrunk   after a list was shortened on purpose

If a file is refused, its last good policy stays in force, and `doorman status`
shows the problem until it is corrected. An agent that is new in doorman.toml
starts, and one that is no longer there ends. Without --wait the command ends as
soon as the daemon has received it; the log shows the result.

Exit status: 0 done; with --wait 1 something was refused; 69 no daemon.")]
pub struct Args {
    /// Wait until it is done, and fail if anything was refused
    #[arg(long)]
    wait: bool,
    /// Accept lists that lost more entries than `max_shrink` allows
    #[arg(long)]
    accept_shrunk: bool,
    /// One JSON object; with --wait
    #[arg(long, requires = "wait")]
    json: bool,
    /// Print nothing if all went well
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open(global)?;
    let op = ControlOp::Reload { accept_shrunk: args.accept_shrunk, removed: None };
    if !args.wait {
        return match remote.give(&op)? {
            Submitted::Accepted if args.quiet => Ok(0),
            Submitted::Accepted => {
                output::print(
                    "the daemon loads its rules and its configuration again; `doorman status` and its log show the result\n",
                )?;
                Ok(0)
            }
            Submitted::Reply(_) => Err(super::remote::unexpected()),
        };
    }
    let reloaded: Reloaded = remote.ask(&op)?;
    if args.json {
        output::print_json(&reloaded)?;
    } else if !args.quiet || !reloaded.ok {
        output::print(&page(&reloaded))?;
    }
    if reloaded.ok {
        return Ok(0);
    }
    let problems = reloaded.problems.as_deref().map(output::shown_lines).unwrap_or_default();
    Err(CliError::new(1, format!("something was refused, and what was in force stays\n{problems}").trim_end()))
}

/// What is in force now, and the warnings that did not refuse it.
fn page(reloaded: &Reloaded) -> String {
    let mut page = String::new();
    for policy in &reloaded.policies {
        let path = output::shown(&policy.path);
        let hash = policy.hash.as_deref().map(|hash| output::shown(&hash[..hash.floor_char_boundary(12)]));
        page += &match (hash, &policy.problem) {
            (Some(hash), None) => format!("{path}: {hash} is in force\n"),
            (Some(hash), Some(_)) => format!("{path}: refused; {hash} stays in force\n"),
            (None, _) => format!("{path}: refused; its agents are without rules\n"),
        };
    }
    for (agents, word) in [
        (&reloaded.agents_added, "added"),
        (&reloaded.agents_removed, "removed"),
        (&reloaded.agents_changed, "changed, and begun again"),
    ] {
        if !agents.is_empty() {
            let ids: Vec<String> = agents.iter().map(|agent| output::shown(agent.as_str())).collect();
            page += &format!("agents {word}: {}\n", ids.join(", "));
        }
    }
    if !reloaded.needs_restart.is_empty() {
        let names: Vec<String> =
            reloaded.needs_restart.iter().map(|name| format!("`{}`", output::shown(name))).collect();
        page += &format!("changed, and in force after a restart: {}\n", names.join(", "));
    }
    if let (true, Some(warnings)) = (reloaded.ok, &reloaded.problems) {
        page += &format!("{}\n", output::shown_lines(warnings));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::control::wire::PolicyStatus;

    #[test]
    fn the_page() {
        let policy = |path: &str, hash: Option<&str>, problem: Option<&str>| PolicyStatus {
            path: path.to_owned(),
            version: None,
            hash: hash.map(ToOwned::to_owned),
            mode: None,
            since: None,
            problem: problem.map(ToOwned::to_owned),
        };
        let reloaded = Reloaded {
            ok: false,
            policies: vec![
                policy("a.toml", Some("0123456789abcdef"), None),
                policy("b.toml", Some("0123456789abcdef"), Some("x")),
                policy("c.toml", None, Some("x")),
            ],
            needs_restart: vec!["ledger.path".to_owned()],
            problems: Some("x".to_owned()),
            ..Reloaded::default()
        };
        assert_eq!(
            page(&reloaded),
            "a.toml: 0123456789ab is in force\nb.toml: refused; 0123456789ab stays in force\n\
             c.toml: refused; its agents are without rules\nchanged, and in force after a restart: `ledger.path`\n"
        );
        let warned = Reloaded { ok: true, problems: Some("w".to_owned()), ..Reloaded::default() };
        assert_eq!(page(&warned), "w\n");
    }
}
