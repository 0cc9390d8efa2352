//! `doorman fleet`: the doormen that share a database, and which of them takes agents.

mod roster;

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::json;

use super::{CliError, Global, output, table};
use crate::ledger::members::{Member, MemberState, WishOutcome, host};
use crate::ledger::{self, AgentWish, FleetList, LedgerAddress, LedgerReader};
use crate::ops::control::peer;

/// Between two looks whether an agent has moved.
const LOOK: Duration = Duration::from_millis(300);
/// Most agents that are listed as moved by a person.
const WISHES_SHOWN: usize = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman fleet status
  doorman fleet drain             before work on this machine
  doorman fleet drain host-b
  doorman fleet undrain
  doorman fleet move porter --to host-b
  doorman fleet add 0192f3c4-7a11-4c55-8d1e-2b5a9c0d7e11 --rules main
  doorman fleet list
  doorman fleet remove 0192f3c4

For doormen that share a PostgreSQL database (`[ledger] url`): docs/fleet.md.
The database is asked, not the daemon, so these commands work on any machine.

Exit status: 0 done; 1 no such doorman, agent or rules, an agent that is there
already, nothing to change, or an agent that has not moved within --wait; 2
usage, or the ledger is in a file, which no other doorman shares; 74 the
database cannot be used.")]
pub struct Args {
    #[command(subcommand)]
    action: FleetCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FleetCommand {
    /// Show the doormen that share the database, and how many agents each has
    Status(StatusArgs),
    /// Have a doorman give its agents to the others, and take none
    #[command(after_help = "Examples:
  doorman fleet drain           the doorman of this configuration
  doorman fleet drain door-2    another one, before its machine stops")]
    Drain(MemberArgs),
    /// Have it take agents again
    #[command(after_help = "Examples:
  doorman fleet undrain
  doorman fleet undrain door-2")]
    Undrain(MemberArgs),
    /// Have a doorman take one agent, and keep it
    #[command(after_help = "The agent finishes what it has begun, and moves. It stays there for as long as
that doorman takes agents: if it is stopped or drained, others have the agent
until it is back. `--to any` ends that: the agent stays where it is, and moves
like any other from then on.

Examples:
  doorman fleet move porter --to host-b
  doorman fleet move porter --to any")]
    Move(MoveArgs),
    /// Put agents on the roster: every doorman that has their keys may take them
    Add(roster::AddArgs),
    /// Take agents off the roster
    Remove(roster::RemoveArgs),
    /// Show the roster: each agent, who has it, and who has its key
    List(roster::ListArgs),
}

#[derive(Debug, clap::Args)]
struct MoveArgs {
    /// The agent: its id, the beginning of it, its handle, or its `name`
    #[arg(value_name = "AGENT", add = super::completions::agents())]
    agent: String,
    /// The doorman's name, as `fleet status` shows it; or `any`
    #[arg(long, value_name = "MEMBER")]
    to: String,
    /// How long to wait until it is there
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::explain::duration)]
    wait: SignedDuration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman fleet status
  doorman fleet status --json | jq '.members[] | {name, agents}'")]
struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct MemberArgs {
    /// Its name, as `fleet status` shows it; else the one of this configuration
    #[arg(value_name = "MEMBER")]
    member: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// 2 if nothing is shared, 74 if the database cannot be used, 1 for an unknown member.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let places = super::places(global, "--config PATH")?;
    let LedgerAddress::Database(address) = LedgerAddress::of(&places.ledger, places.database.as_ref()) else {
        let message =
            "the ledger is in a file, which no other doorman shares: `[ledger] url` names a database (docs/fleet.md)";
        return Err(CliError::new(2, message));
    };
    match args.action {
        FleetCommand::Status(shown) => status(&address, shown.json),
        FleetCommand::Drain(which) => drain(&address, which.member.or(places.fleet_name), true),
        FleetCommand::Undrain(which) => drain(&address, which.member.or(places.fleet_name), false),
        FleetCommand::Move(args) => relocate(&address, &args, global),
        FleetCommand::Add(args) => roster::add(&address, args),
        FleetCommand::Remove(args) => roster::remove(&address, &args),
        FleetCommand::List(shown) => roster::list(&address, &shown, &places.rules),
    }
}

fn status(address: &ledger::Address, json: bool) -> Result<u8, CliError> {
    let list = ledger::list(address).map_err(|error| super::ledger::fault(&error))?;
    if json {
        let object = |member: &Member| {
            json!({
                "id": member.id, "name": member.name, "version": member.version, "state": word(member),
                "agents": member.held, "reached": member.reached, "weight": member.weight, "agents_max": member.agents_max,
                "beat_age_ms": u64::try_from(member.beat_age.as_millis()).unwrap_or(u64::MAX),
                "ttl_ms": u64::try_from(member.ttl.as_millis()).unwrap_or(u64::MAX), "joined_at": member.joined_at,
            })
        };
        let wish = |wish: &AgentWish| json!({ "agent": wish.agent, "to": wish.to, "by": wish.by });
        let value = json!({
            "members": list.members.iter().map(object).collect::<Vec<_>>(), "free": list.free,
            "moved": list.wishes.iter().map(wish).collect::<Vec<_>>(), "rostered": list.rostered,
            "without_key": list.without_key,
        });
        output::print(&format!("{value}\n"))?;
        return Ok(0);
    }
    output::print_page(&page(&list))?;
    Ok(0)
}

/// How it stands; one that does not beat is shown as such before another doorman finds it dead.
fn word(member: &Member) -> &'static str {
    match member.state {
        MemberState::Up | MemberState::Draining if member.beat_age > member.ttl => "silent",
        MemberState::Up if member.away => "away",
        state => state.as_str(),
    }
}

fn page(list: &FleetList) -> String {
    let FleetList { members, free, wishes, rostered, without_key } = list;
    if members.is_empty() {
        return "no doorman runs on this database\n".to_owned();
    }
    let row = |member: &Member| {
        vec![
            output::shown(&member.name),
            output::shown(&member.version),
            word(member).to_owned(),
            member.held.to_string(),
            member.reached.to_string(),
            format!("{:.1} s ago", member.beat_age.as_secs_f64()),
        ]
    };
    let header = ["MEMBER", "VERSION", "STATE", "AGENTS", "REACHED", "BEAT"];
    let mut page = table::table(&header, members.iter().map(row).collect());
    let some = |names: &[String]| {
        let named: Vec<String> = names.iter().take(5).map(|name| output::shown(name)).collect();
        format!("{}{}", named.join(", "), if names.len() > named.len() { ", …" } else { "" })
    };
    if !free.is_empty() {
        page += &format!("\nnobody has {} of them now: {}\n", free.len(), some(free));
    }
    if !without_key.is_empty() {
        let number = without_key.len();
        page += &format!(
            "\nno doorman has the key of {number} of the {rostered} agents on the roster: {}\n",
            some(without_key)
        );
    }
    if !wishes.is_empty() {
        let one = |wish: &AgentWish| [&wish.agent, &wish.to, &wish.by].map(|text| output::shown(text)).to_vec();
        let (more, rows) = (wishes.len().saturating_sub(WISHES_SHOWN), wishes.iter().take(WISHES_SHOWN).map(one));
        page += &format!("\n{}", table::table(&["MOVED BY A PERSON", "TO", "BY"], rows.collect()));
        if more > 0 {
            page += &format!("and {more} more: --json\n");
        }
    }
    page
}

/// A person wants one agent elsewhere.
fn relocate(address: &ledger::Address, args: &MoveArgs, global: &Global) -> Result<u8, CliError> {
    let fault = |error: ledger::LedgerError| super::ledger::fault(&error);
    let reader = LedgerReader::open(LedgerAddress::Database(Box::new(address.clone()))).map_err(fault)?;
    let agent = super::agents::on_record(Some(&args.agent), Some(&reader), global)?;
    let agent = agent.ok_or_else(|| CliError::new(1, "say which agent"))?;
    drop(reader);
    let to = (args.to != "any").then_some(args.to.as_str());
    let shown = output::shown(&args.to);
    let refuse = |why: String| Err(CliError::new(1, why));
    match ledger::wish(address, agent.as_str(), to, &person()).map_err(fault)? {
        WishOutcome::Done => {}
        WishOutcome::NoLease => {
            return refuse(format!("no doorman has had agent `{agent}` yet: `doorman status` says why"));
        }
        WishOutcome::NoMember => {
            return refuse(format!("no doorman `{shown}` takes agents: `doorman fleet status` lists them"));
        }
        WishOutcome::NotNamed => {
            return refuse(format!(
                "`{shown}` may not have agent `{agent}`: name it in its doorman.toml and `doorman reload` there, or if the agent is on the roster, put the key there"
            ));
        }
    }
    let Some(to) = to else {
        output::print(&format!("agent `{agent}` stays where it is, and moves like any other from now on\n"))?;
        return Ok(0);
    };
    let (begun, wait) = (Instant::now(), args.wait.unsigned_abs());
    loop {
        if ledger::holder(address, agent.as_str()).map_err(fault)?.as_deref() == Some(to) {
            output::print(&format!("agent `{agent}` is with `{shown}`\n"))?;
            return Ok(0);
        }
        if begun.elapsed() >= wait {
            return refuse(format!(
                "agent `{agent}` is not with `{shown}` yet: it moves as soon as both doormen can; `doorman fleet status` shows it"
            ));
        }
        std::thread::sleep(LOOK.min(wait));
    }
}

/// Who gives the order, as far as this machine knows.
fn person() -> String {
    let account = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    format!("person:{}", peer::own_login().or_else(account).unwrap_or_else(|| "somebody".to_owned()))
}

fn drain(address: &ledger::Address, member: Option<String>, drain: bool) -> Result<u8, CliError> {
    let member = member.unwrap_or_else(host);
    let changed = ledger::drain(address, &member, drain, &person()).map_err(|error| super::ledger::fault(&error))?;
    let shown = output::shown(&member);
    match (changed, drain) {
        (0, true) => {
            Err(CliError::new(1, format!("no doorman `{shown}` takes agents: `doorman fleet status` lists them")))
        }
        (0, false) => {
            Err(CliError::new(1, format!("no doorman `{shown}` is draining: `doorman fleet status` lists them")))
        }
        (_, true) => output::print(&format!(
            "`{shown}` gives its agents to the others, and takes none until `doorman fleet undrain`\n"
        ))
        .map(|()| 0),
        (_, false) => output::print(&format!("`{shown}` takes agents again\n")).map(|()| 0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_page() {
        let member = |name: &str, state, age| Member {
            id: "x".to_owned(),
            instance: "y".to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            beat: 7,
            state,
            weight: 100,
            agents_max: 20_000,
            ttl: Duration::from_secs(15),
            lease_set: "r".to_owned(),
            reached: 2,
            away: false,
            joined_at: jiff::Timestamp::UNIX_EPOCH,
            beat_age: Duration::from_millis(age),
            held: 3,
        };
        let members = [
            member("a\u{1b}", MemberState::Up, 1_240),
            member("b", MemberState::Draining, 800),
            member("c", MemberState::Up, 16_000),
        ];
        let list = FleetList {
            members: members.into(),
            free: vec!["agent-1".to_owned()],
            wishes: vec![AgentWish { agent: "agent-2".to_owned(), to: "b".to_owned(), by: "person:ann".to_owned() }],
            rostered: 7,
            without_key: vec!["agent-3".to_owned()],
        };
        insta::assert_snapshot!(anstream::adapter::strip_str(&page(&list)).to_string(), @r"
         MEMBER   VERSION  STATE     AGENTS  REACHED  BEAT
         a\u{1b}  0.1.0    up        3       2        1.2 s ago
         b        0.1.0    draining  3       2        0.8 s ago
         c        0.1.0    silent    3       2        16.0 s ago

        nobody has 1 of them now: agent-1

        no doorman has the key of 1 of the 7 agents on the roster: agent-3

         MOVED BY A PERSON  TO  BY
         agent-2            b   person:ann
        ");
        assert_eq!(page(&FleetList::default()), "no doorman runs on this database\n");
    }
}
