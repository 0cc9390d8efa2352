//! `doorman doubts` and `doorman settle`: changes that doorman may have missed, and a person's statement of what
//! happened.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::agents::AgentArg;
use super::remote::RemoteArgs;
use super::who::WhoArgs;
use super::{CliError, Global, output, table};
use crate::ops::control::wire::{ControlOp, DoubtList, DoubtRow, DoubtSettled};
use crate::policy::doubts::{DoubtSettlement, SHOWN_MAX};

/// Arguments of `doubts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman doubts
  doorman doubts --json | jq -r .owner

If something may have happened while doorman could not see it, a rule that asks
about it is unknown and decides nothing: requests of these owners stay pending.
A doubt ends by itself when doorman sees the contact, when a complete reading of
the contacts misses it, or when no rule looks back that far any more. A person
can end it, too:
  doorman settle @carol not-removed
  doorman settle @carol same   it is still the same carol
  doorman approve REQUEST      ends all doubts about the sender's owner")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Arguments of `settle`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman settle @carol removed           a contact of carol's was removed
  doorman settle @carol not-removed       none was, up to now
  doorman settle 0192f3c4 rejected        that request was rejected elsewhere
  doorman settle @carol same              it is still the same carol

The record names you as the person who said it. The beginning of an id needs 8
characters, and must be that of one doubt only.

Exit status: 0 done, 1 `doorman doubts` has no such doubt, or several, 69 no
daemon.")]
pub struct SettleArgs {
    /// A handle (for `removed`, `not-removed`, `same`), or the id, or its beginning, of the request that the doubt is based on
    #[arg(value_name = "HANDLE or ID", add = super::completions::doubted())]
    target: String,
    /// What happened
    #[arg(value_name = "WHAT")]
    said: DoubtSettlement,
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object per line
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

/// Runs `doubts`.
///
/// # Errors
/// 69 if no daemon answers, 1 for an unknown agent.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open(global)?;
    let agent = remote.agent(args.agent.given())?;
    let DoubtList { doubts } = remote.ask(&ControlOp::Doubts { agent })?;
    if args.json {
        for row in &doubts {
            output::print_json(row)?;
        }
    } else if doubts.is_empty() {
        output::print("nothing that the rules ask about is in doubt\n")?;
    } else {
        output::print_page(&page(&doubts, output::now(), output::width()))?;
        let of = |agent| doubts.iter().filter(|row| row.agent == agent).count();
        for agent in doubts.iter().map(|row| row.agent.clone()).collect::<BTreeSet<_>>() {
            if of(agent.clone()) >= SHOWN_MAX {
                output::print_page(&format!("{agent}: only the first {SHOWN_MAX} are shown\n"))?;
            }
        }
    }
    Ok(0)
}

/// Runs `settle`.
///
/// # Errors
/// 69 if no daemon answers, 1 if there is no such doubt.
pub fn settle(args: SettleArgs, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open_as(&args.who, global)?;
    let agent = remote.agent(args.agent.given())?;
    let op = ControlOp::Settle { target: args.target, said: args.said, agent };
    let DoubtSettled { ended } = remote.ask(&op)?;
    for row in &ended {
        if args.json {
            output::print_json(row)?;
        } else if !args.quiet {
            let (owner, rests_on) = (output::shown(&row.owner), output::shown(&row.rests_on));
            output::print_page(&format!("{}: {owner} is no longer in doubt ({rests_on})\n", args.said.as_str()))?;
        }
    }
    Ok(0)
}

pub(super) fn page(doubts: &[DoubtRow], now: Timestamp, width: Option<usize>) -> String {
    let several = doubts.iter().any(|row| row.agent != doubts[0].agent);
    let mut header = vec!["OWNER", "UNKNOWN", "SINCE", "RESTS ON", "ENDS"];
    if several {
        header.insert(0, "AGENT");
    }
    table::fitted(&header, doubts.iter().map(|row| cells(row, several, now)).collect(), width)
}

fn cells(row: &DoubtRow, several: bool, now: Timestamp) -> Vec<String> {
    let ends = match row.ends_at {
        Some(at) => format!("in {}", output::ago(now, at)),
        None if row.basis == "contact-not-seen" => "when the contacts are read".to_owned(),
        None if row.basis == "request-not-listed" => "when the requests are read".to_owned(),
        None if row.fact == "identity" => "by `settle HANDLE same`".to_owned(),
        None => "by a person".to_owned(),
    };
    let mut cells = vec![
        if row.owner == "*" { row.owner.clone() } else { output::handle(&row.owner, 48) },
        output::shown(&row.fact),
        format!("{} ago", output::ago(row.since, now)),
        output::shown(&row.rests_on),
        ends,
    ];
    if several {
        cells.insert(0, row.agent.to_string());
    }
    cells
}
