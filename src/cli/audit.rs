//! `doorman audit`: which contacts the rules would not let in today. Reads the ledger itself, and changes nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::agents::{self, AgentArg};
use super::contacts::ContactPrinter;
use super::contacts::select::{ContactRules, Narrowed};
use super::ledger::{fault, path};
use super::{CliError, Global, output};
use crate::ledger::LedgerReader;
use crate::policy::audit::Audit;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman audit                       by the rules in force
  doorman audit --rules new.toml      by other rules, before they are used
  doorman revoke --audit --dry-run    whom a reject rule certainly matches

A contact is judged by its handle alone, as a request without text. Windows,
ages, limits, waits and pauses do not count against a contact. If the rules need
its text, its name or its past, the contact cannot be evaluated, and `doorman
revoke --audit` does not remove it.

Exit status: 0 no contact is against the rules, 1 some are, 74 the ledger cannot
be read, 78 the rules are refused.")]
pub struct Args {
    /// Use these rules; else those in force
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Show also the contacts that the rules approve
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    agent: AgentArg,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// 74 if the ledger cannot be read, 78 if the rules are refused, 1 for an unknown agent.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let reader = LedgerReader::open(&path(args.ledger, global)?).map_err(|error| fault(&error))?;
    let agent = agents::on_record(args.agent.given(), Some(&reader), global)?;
    let mut rules = ContactRules::new(&reader, args.rules.as_ref(), global)?;
    let now = output::now();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = ContactPrinter::new(args.json);
    let narrowed = Narrowed { agent: agent.as_ref(), ..Narrowed::default() };
    narrowed.each(&reader, |contact, _| {
        let audit = rules.audit(&contact, now)?;
        *counts.entry(audit.as_str()).or_default() += 1;
        if !args.all && matches!(audit, Audit::Approved(_)) {
            return Ok(ControlFlow::Continue(()));
        }
        out.take(contact, Some(&audit))
    })?;
    out.flush()?;
    let count = |word| counts.get(word).copied().unwrap_or_default();
    let (rejected, not_approved) = (count("rejected"), count("not-approved"));
    if !args.json {
        let apart = if out.any { "\n" } else { "" };
        output::print(&format!(
            "{apart}{} contacts: {} approved, {rejected} rejected, {not_approved} not approved, {} cannot be evaluated\n",
            counts.values().sum::<usize>(),
            count("approved"),
            count("cannot-be-evaluated"),
        ))?;
    }
    Ok(u8::from(rejected + not_approved > 0))
}
