//! `doorman notify`: the targets of `[[notify]]`, their state, and a test message.

use jiff::Timestamp;

use super::remote::RemoteArgs;
use super::{CliError, Global, output, table};
use crate::ops::control::wire::{ControlOp, Notified, NotifyState, NotifyStatus};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman notify list
  doorman notify test ops       send a message that says it is a test
  doorman notify retry ops      try again now what did not arrive

Targets are the `[[notify]]` tables of the configuration;
docs/notifications.md has a recipe for each kind.

Exit status: 0 done; 1 no such target, or it did not take the message; 69 no
daemon.")]
pub struct Args {
    #[command(subcommand)]
    action: NotifyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NotifyCommand {
    /// Show all targets and whether their messages arrive
    List(ListArgs),
    /// Send a target a message that says it is a test, and wait for its answer
    #[command(after_help = "Examples:
  doorman notify test ops    `ops` is the target's name")]
    Test(OneArgs),
    /// Send at once the messages that did not arrive, also those that were given up
    #[command(after_help = "Examples:
  doorman notify retry ops    `ops` is the target's name")]
    Retry(OneArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman notify list
  doorman notify list --json | jq 'select(.state != \"ok\")'")]
struct ListArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The target's name in the configuration
    #[arg(value_name = "NAME")]
    target: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers, 1 if there is no such target or it does not take the message.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        NotifyCommand::List(args) => {
            let targets = args.remote.open(global)?.status()?.notify;
            if args.json {
                targets.iter().try_for_each(output::print_json)?;
            } else if targets.is_empty() {
                output::note(
                    "no messages are sent: add a `[[notify]]` to the configuration, see docs/notifications.md",
                );
            } else {
                output::print_page(&page(&targets, output::now()))?;
            }
        }
        NotifyCommand::Test(OneArgs { target, remote }) => {
            let Notified { target } = remote.open(global)?.ask(&ControlOp::NotifyTest { target })?;
            output::print(&format!("`{target}` took the message\n"))?;
        }
        NotifyCommand::Retry(OneArgs { target, remote }) => {
            let Notified { target } = remote.open(global)?.ask(&ControlOp::NotifyRetry { target })?;
            output::print(&format!(
                "`{target}` gets now what it did not take: `doorman notify list` shows what comes of it\n"
            ))?;
        }
    }
    Ok(0)
}

fn page(targets: &[NotifyStatus], now: Timestamp) -> String {
    let header = ["TARGET", "KIND", "STATE", "DELIVERED", "TRIES", "NEXT TRY"];
    let rows = targets.iter().map(|target| {
        let ago = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| output::ago(at, now));
        let next = target.next_try_at.map_or_else(String::new, |at| {
            let seconds = at.duration_since(now).as_secs().max(0);
            if seconds < 120 { format!("in {seconds} s") } else { format!("in {} min", seconds / 60) }
        });
        let tries = if target.attempts == 0 { String::new() } else { target.attempts.to_string() };
        let state = state_word(target.state).to_owned();
        vec![output::shown(&target.name), target.kind.clone(), state, ago(target.delivered_at), tries, next]
    });
    let mut page = table::table(&header, rows.collect());
    for target in targets {
        if let Some(why) = &target.why {
            page += &format!("\n{}: {}\n", output::shown(&target.name), output::shown(why));
        }
    }
    page
}

/// The word for a state in tables.
pub(super) fn state_word(state: NotifyState) -> &'static str {
    match state {
        NotifyState::Ok => "ok",
        NotifyState::Retrying => "retrying",
        NotifyState::GaveUp => "gave up",
        NotifyState::Stopped => "stopped",
    }
}
