//! `doorman page`: who may log in to the page by a link.

use super::remote::RemoteArgs;
use super::{CliError, Global, output};
use crate::ops::control::wire::{ControlOp, LoggedOut, PageLink};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman page login ann        a link for ann, valid once, for 10 minutes
  doorman page logout ann       end everything that ann has open
  doorman page logout --all     the same for everybody

This needs `identity = \"token\"` in `[page]`; docs/page.md has the other ways to
know people. What a person does there is on record as `person:NAME via page`.

Exit status: 0 done; 1 the page has no logins by a link, or the name is not
valid; 69 no daemon.")]
pub struct Args {
    #[command(subcommand)]
    action: PageCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PageCommand {
    /// Print a link that logs somebody in, once
    Login(LoginArgs),
    /// Log somebody out, everywhere
    Logout(LogoutArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman page login ann    a link for ann, valid once")]
struct LoginArgs {
    /// The person's name, as it stands in the record afterwards
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman page logout ann
  doorman page logout --all")]
struct LogoutArgs {
    /// The person's name
    #[arg(value_name = "NAME", required_unless_present = "all")]
    name: Option<String>,
    /// Everybody
    #[arg(long, conflicts_with = "name")]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers, 1 if its page has no login by links.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    match args.action {
        PageCommand::Login(LoginArgs { name, remote }) => {
            let PageLink { name, url, .. } = remote.open(global)?.ask(&ControlOp::PageLogin { name })?;
            output::print(&format!("{url}\n"))?;
            output::note(&format!(
                "the link logs {} in; it is valid once, for 10 minutes. Whoever has it can use it.\n",
                output::shown(&name)
            ));
        }
        PageCommand::Logout(LogoutArgs { name, all: _, remote }) => {
            let LoggedOut { ended } = remote.open(global)?.ask(&ControlOp::PageLogout { name })?;
            output::print(&format!("ended {ended} sessions and unused links\n"))?;
        }
    }
    Ok(0)
}
