//! `doorman revoke`: removes contacts. It first shows which ones, and asks.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::agents::{self, AgentArg};
use super::confirm::confirmed;
use super::contacts::select::{ContactRules, LetInBy, NamedContacts, Narrowed};
use super::contacts::{as_json, page};
use super::history::moment;
use super::ledger::{fault, path};
use super::remote::RemoteArgs;
use super::who::WhoArgs;
use super::{CliError, Global, output};
use crate::ledger::LedgerReader;
use crate::ledger::read::RecordedContact;
use crate::model::{AgentId, ContactId};
use crate::ops::control::wire::{ChosenContact, ControlOp, Revoked};
use crate::policy::audit::Audit;

/// Most contacts in one call: the daemon removes one after the other, and a call may take two minutes at most.
const AT_ONCE: usize = 20;

/// Most contacts that one command removes; the others are left for the next run.
const CHOSEN_MAX: usize = 20_000;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman revoke @mallory                 one contact
  doorman revoke 0192f3c4                 by the id of its request, or its start
  doorman revoke 'acme/*'                 all agents of acme that a rule let in
  doorman revoke --since 1h --dry-run     whom the rules let in since
  doorman revoke --rule friends           whom this rule let in
  doorman revoke --list blocked --yes     everybody on a list, without asking
  doorman revoke --audit                  whom a reject rule matches

Several options together narrow the choice. The contacts are shown first, and a
question follows; in scripts `--yes` answers it. Contacts that a person approved
are removed only if you name them, or with `--people-too`. Contacts that doorman
did not approve are removed only with `--any`. Removing a contact takes nobody
out of a room, and the sender may ask again at once. Members of your
organisation, the owner and the owner's other agents need no contact.

If a rule let in too many: `doorman pause`, correct the rules, `doorman reload`,
`doorman revoke --since 2h`, `doorman resume`.

Exit status: 0 removed, 1 nothing to remove, or not all could be removed, 69 no
daemon.")]
#[command(override_usage = "doorman revoke [OPTIONS] [HANDLE|PATTERN]...")]
#[group(id = "who", required = true, multiple = true, args = ["named", "rule", "since", "list", "audit"])]
pub struct Args {
    /// Whose contact: handles, patterns such as 'acme/*', or ids (of contacts, or of the requests behind them)
    #[arg(value_name = "HANDLE|PATTERN", value_parser = NamedContacts::parse, add = super::completions::contacts())]
    named: Vec<NamedContacts>,
    /// Contacts that this rule let in
    #[arg(long, value_name = "NAME", add = super::completions::rules())]
    rule: Option<String>,
    /// Contacts since then: `90m`, `2d`, `2026-11-23`, or with a time and zone
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Contacts whose handle is on this list of the rules
    #[arg(long, value_name = "NAME", add = super::completions::lists())]
    list: Option<String>,
    /// Contacts that a reject rule certainly matches (`doorman audit`)
    #[arg(long)]
    audit: bool,
    /// With --audit: also contacts that no rule would approve
    #[arg(long, requires = "audit")]
    not_approved: bool,
    /// Rules for --audit and --list; else those in force
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Also contacts that a person approved
    #[arg(long)]
    people_too: bool,
    /// Also contacts that doorman did not approve
    #[arg(long)]
    any: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only show them
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    agent: AgentArg,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Print JSON: with --dry-run one contact per line, else the result
    #[arg(long)]
    json: bool,
    /// With --yes: print nothing if all went well
    #[arg(long, short, requires = "yes", conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// The contacts that the options mean, and how many they leave out.
#[derive(Debug, Default)]
struct RevokeChoice {
    /// Names from the command line that match no contact.
    nobody: Vec<String>,
    chosen: Vec<RecordedContact>,
    of_people: usize,
    of_others: usize,
    /// The number of contacts beyond [`CHOSEN_MAX`].
    more: usize,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers, 74 if the ledger cannot be read, 2 if there is no terminal to ask on.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    if args.rules.is_some() && !args.audit && args.list.is_none() {
        return Err(CliError::new(2, "`--rules` is for `--audit` and `--list`"));
    }
    let since = moment::option("since", args.since.as_deref())?;
    let reader = LedgerReader::open(&path(args.ledger.clone(), global)?).map_err(|error| fault(&error))?;
    let agent = agents::on_record(args.agent.given(), Some(&reader), global)?;
    let mut rules = ContactRules::new(&reader, args.rules.as_ref(), global)?;
    let narrowed = Narrowed { agent: agent.as_ref(), since, rule: args.rule.as_deref(), named: &args.named };
    let choice = choose(&args, &narrowed, &mut rules, &reader)?;
    for nobody in &choice.nobody {
        output::note(&format!("not a contact: `{}`\n", output::shown(nobody)));
    }
    for (count, whom, option) in
        [(choice.of_people, "that a person approved", "--people-too"), (choice.of_others, "not by doorman", "--any")]
    {
        if count > 0 {
            output::note(&format!("left alone: {count} {whom} (`{option}` takes them too)\n"));
        }
    }
    if choice.more > 0 {
        output::note(&format!(
            "these are the oldest {CHOSEN_MAX}: {} more are for the next time that you run this\n",
            choice.more
        ));
    }
    if choice.chosen.is_empty() {
        output::note("no contact to remove\n");
        return Ok(1);
    }
    if args.json && args.dry_run {
        for contact in &choice.chosen {
            output::print_json(&as_json(contact))?;
        }
        return Ok(0);
    }
    let whom = page(&choice.chosen, &[], output::now());
    if args.json {
        output::note(&whom)
    } else if !args.quiet {
        output::print(&whom)?
    }
    if args.dry_run {
        output::note("nothing was removed: `--dry-run` only shows them\n");
        return Ok(0);
    }
    let remote = args.remote.open_as(&args.who, global)?;
    let question = match choice.chosen.len() {
        1 => "remove this contact?".to_owned(),
        several => format!("remove these {several} contacts?"),
    };
    if !confirmed(&question, args.yes)? {
        output::note("nothing was removed\n");
        return Ok(1);
    }
    let mut revoked = Revoked::default();
    for some in choice.chosen.chunks(AT_ONCE) {
        let some = some.iter().map(|contact| ChosenContact {
            agent: contact.agent.clone(),
            contact: contact.contact.clone(),
            handle: contact.handle.as_ref().map(|text| text.raw().to_owned()),
        });
        let Revoked { removed, failed } = remote.ask(&ControlOp::Revoke { contacts: some.collect() })?;
        if !args.json {
            let said = removed.iter().filter(|_| !args.quiet);
            said.map(|who| format!("removed {}\n", output::shown(who))).try_for_each(|line| output::print(&line))?;
            failed.iter().for_each(|why| output::note(&format!("not removed: {}\n", output::shown(why))));
        }
        revoked.removed.extend(removed);
        revoked.failed.extend(failed);
    }
    if args.json {
        output::print_json(&revoked)?;
    }
    Ok(u8::from(!revoked.failed.is_empty()))
}

fn choose(
    args: &Args,
    narrowed: &Narrowed<'_>,
    rules: &mut ContactRules<'_>,
    reader: &LedgerReader,
) -> Result<RevokeChoice, CliError> {
    let now = output::now();
    let mut choice = RevokeChoice::default();
    // Several names may mean one contact; it counts as named exactly if one of them names it exactly.
    let mut named: HashMap<(AgentId, ContactId), bool> = HashMap::new();
    if narrowed.named.len() > 1 {
        narrowed.each(reader, |contact, exactly| {
            *named.entry((contact.agent, contact.contact)).or_default() |= exactly;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    let several = narrowed.named.len() > 1;
    choice.nobody = narrowed.each(reader, |contact, exactly| {
        let exactly = match several {
            true => match named.remove(&(contact.agent.clone(), contact.contact.clone())) {
                Some(exactly) => exactly,
                None => return Ok(ControlFlow::Continue(())),
            },
            false => exactly,
        };
        if let Some(list) = &args.list
            && !rules.on_list(list, &contact)?
        {
            return Ok(ControlFlow::Continue(()));
        }
        if args.audit {
            match rules.audit(&contact, now)? {
                Audit::Rejected(_) => {}
                Audit::NotApproved(_) if args.not_approved => {}
                Audit::NotApproved(_) | Audit::Approved(_) | Audit::CannotBeEvaluated(_) => {
                    return Ok(ControlFlow::Continue(()));
                }
            }
        }
        match LetInBy::of(&contact) {
            LetInBy::Person(_) if !args.people_too && !exactly => choice.of_people += 1,
            LetInBy::NobodyHere if !args.any => choice.of_others += 1,
            LetInBy::Rule(_) | LetInBy::Person(_) | LetInBy::NobodyHere if choice.chosen.len() < CHOSEN_MAX => {
                choice.chosen.push(contact);
            }
            LetInBy::Rule(_) | LetInBy::Person(_) | LetInBy::NobodyHere => choice.more += 1,
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(choice)
}
