//! `doorman fleet add`, `remove` and `list`: the agents that are rows of the database.

use serde_json::json;

use super::super::who::WhoArgs;
use super::super::{CliError, output, table};
use crate::config::settings::{PUSHED, may_be_pushed};
use crate::ledger::roster::{ROSTER_MAX, RosterAgent};
use crate::ledger::{self, LedgerError, NewRosterAgents, RosterAdded, RosterList, RosterRow};
use crate::model::AgentId;
use crate::ops::control::peer;

/// Most agents in one command.
const AGENTS_MAX: usize = 1_000;
/// Shortest beginning of an id that is enough.
const BEGINNING_MIN: usize = 4;

#[derive(Debug, clap::Args)]
#[command(after_help = "From then on every doorman on the database that has the agent's key may take it,
within some seconds and without a restart. The key is in no database: put it on
each machine that may have the agent, as `ID.key` in the directory that
`fleet.keys_dir` names. What a doorman.toml says of the same agent holds on that
machine.

Examples:
  doorman fleet add 0192f3c4-7a11-4c55-8d1e-2b5a9c0d7e11 --rules main
  doorman fleet add 0192f3c4-7a11-4c55-8d1e-2b5a9c0d7e11 --rules main --name bot
  xargs doorman fleet add --rules main < ids.txt
  doorman fleet add 0192f3c4-7a11-4c55-8d1e-2b5a9c0d7e11 --rules other --replace")]
pub(super) struct AddArgs {
    /// The agents: their ids, as the platform shows them
    #[arg(value_name = "AGENT", required = true, num_args = 1..=AGENTS_MAX, value_parser = id)]
    agents: Vec<AgentId>,
    /// The name of their rules, as they were pushed (`doorman policy push`)
    #[arg(long, value_name = "NAME", value_parser = rules, add = super::super::completions::pushed())]
    rules: String,
    /// A name by which rules may mean the agent
    #[arg(long = "name", value_name = "NAME", value_parser = name)]
    label: Option<String>,
    /// Change agents that are on the roster already
    #[arg(long)]
    replace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: WhoArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "The doorman that has the agent finishes what it has begun, closes its
connection, and gives the lease. What is on record of the agent stays. A machine
whose doorman.toml names the agent goes on with it.

Examples:
  doorman fleet remove porter
  doorman fleet remove 0192f3c4")]
pub(super) struct RemoveArgs {
    /// The agents: their ids, the beginnings of these, or their names on the roster
    #[arg(value_name = "AGENT", required = true, num_args = 1..=AGENTS_MAX)]
    agents: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "KEYS are the doormen that have the agent's key and may take it. If there are
none, nobody answers for the agent.

Examples:
  doorman fleet list
  doorman fleet list --json | jq -r 'select(.keys == []).agent'    no key")]
pub(super) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn id(text: &str) -> Result<AgentId, String> {
    let id = uuid::Uuid::parse_str(text).map_err(|_| "expected a UUID, as the platform shows it".to_owned())?;
    AgentId::parse(&id.hyphenated().to_string()).map_err(|problem| problem.to_string())
}

/// As `[[agents]] rules` is written, or the name alone.
fn rules(text: &str) -> Result<String, String> {
    name(text.strip_prefix(PUSHED).unwrap_or(text))
}

fn name(text: &str) -> Result<String, String> {
    if may_be_pushed(text) {
        Ok(text.to_owned())
    } else {
        Err("a name has a-z, 0-9 and `-`, at most 64 of them".to_owned())
    }
}

fn fault(error: &LedgerError) -> CliError {
    super::super::ledger::fault(error)
}

pub(super) fn add(address: &ledger::Address, args: AddArgs) -> Result<u8, CliError> {
    let AddArgs { mut agents, rules, label: name, replace, json, who } = args;
    if name.is_some() && agents.len() > 1 {
        return Err(CliError::new(2, "a name means one agent: leave `--name` out, or add one agent at a time"));
    }
    agents.sort_unstable();
    agents.dedup();
    let person = peer::own_person(&who.claim());
    let new = NewRosterAgents {
        agents: agents.iter().map(|agent| (agent.clone(), name.clone())).collect(),
        rules: rules.clone(),
        replace,
        by: format!("person:{person}"),
        note: person.note().map(str::to_owned),
    };
    let refuse = |why: String| Err(CliError::new(1, format!("{why}; nothing was changed")));
    let (added, changed) = match ledger::add(address, &new).map_err(|error| fault(&error))? {
        RosterAdded::Done { added, changed } => (added, changed),
        RosterAdded::NoRules => {
            return refuse(format!(
                "no rules were pushed as `{rules}`: `doorman policy push {rules} rules.toml` does that, `doorman policy list` lists the names"
            ));
        }
        RosterAdded::There(there) => {
            let RosterAgent { agent, rules, by, at, .. } = there;
            return refuse(format!(
                "agent `{agent}` is on the roster already, with rules `{PUSHED}{rules}`, by {} at {at}: `--replace` changes it",
                output::shown(&by)
            ));
        }
        RosterAdded::NameTaken(other) => {
            let name = name.unwrap_or_default();
            return refuse(format!("the name `{name}` is that of agent `{}`", output::shown(&other)));
        }
        RosterAdded::Full => return refuse(format!("a roster has at most {ROSTER_MAX} agents")),
    };
    if json {
        output::print_json(&json!({ "agents": agents, "rules": rules, "added": added, "changed": changed }))?;
        return Ok(0);
    }
    let what = match agents.as_slice() {
        [one] => format!("agent `{one}` is on the roster"),
        all => format!("{} agents are on the roster", all.len()),
    };
    let same = agents.len() - added - changed;
    let news = match (added, changed, same) {
        (_, 0, 0) => String::new(),
        (0, 0, _) => ", as before".to_owned(),
        (0, 1, 0) => ", changed".to_owned(),
        (added, changed, same) => format!(" ({added} new, {changed} changed, {same} as before)"),
    };
    output::print(&format!(
        "{what}{news}, with rules `{PUSHED}{rules}`: doormen with the key take it; `doorman fleet list` shows who has it\n"
    ))?;
    Ok(0)
}

pub(super) fn remove(address: &ledger::Address, args: &RemoveArgs) -> Result<u8, CliError> {
    let list = ledger::roster_of(address).map_err(|error| fault(&error))?;
    let mut meant = Vec::with_capacity(args.agents.len());
    for text in &args.agents {
        meant.push(pick(text, &list.rows)?);
    }
    meant.sort_unstable();
    meant.dedup();
    let removed = ledger::remove(address, &meant).map_err(|error| fault(&error))?;
    if args.json {
        let one = |(agent, holder): &(AgentId, Option<String>)| json!({ "agent": agent, "holder": holder });
        output::print_json(&json!({ "removed": removed.iter().map(one).collect::<Vec<_>>() }))?;
    } else {
        let one = |(agent, holder): &(AgentId, Option<String>)| match holder {
            Some(holder) => format!(
                "agent `{agent}` is off the roster: `{}` gives it, unless its doorman.toml names it\n",
                output::shown(holder)
            ),
            None => format!("agent `{agent}` is off the roster; no doorman had it\n"),
        };
        output::print(&removed.iter().map(one).collect::<String>())?;
    }
    if removed.len() == meant.len() {
        return Ok(0);
    }
    Err(CliError::new(1, "somebody else took some of them off the roster at the same moment"))
}

/// The agent of the roster that is meant.
fn pick(text: &str, rows: &[RosterRow]) -> Result<AgentId, CliError> {
    let refuse = |why: String| Err(CliError::new(1, why));
    let (typed, shown) = (text.to_ascii_lowercase(), output::shown(text));
    let exact = |row: &&RosterRow| row.agent.agent.as_str() == typed || row.agent.name.as_deref() == Some(text);
    if let Some(row) = rows.iter().find(exact) {
        return Ok(row.agent.agent.clone());
    }
    let begins = |row: &&RosterRow| typed.len() >= BEGINNING_MIN && row.agent.agent.as_str().starts_with(&typed);
    let mut begin = rows.iter().filter(begins);
    match (begin.next(), begin.count()) {
        (Some(row), 0) => Ok(row.agent.agent.clone()),
        (Some(_), more) => {
            refuse(format!("{} agents of the roster begin with `{shown}`: type more of the id", more + 1))
        }
        (None, _) => refuse(format!("no agent `{shown}` is on the roster: `doorman fleet list` lists it")),
    }
}

pub(super) fn list(
    address: &ledger::Address,
    args: &ListArgs,
    configured: &[(String, std::path::PathBuf)],
) -> Result<u8, CliError> {
    let list = ledger::roster_of(address).map_err(|error| fault(&error))?;
    if !args.json {
        output::print_page(&page(&list, configured))?;
        return Ok(0);
    }
    let mut lines = String::new();
    for RosterRow { agent, holder, keys } in &list.rows {
        let RosterAgent { agent, rules, name, by, at, note } = agent;
        let line = json!({
            "agent": agent, "rules": rules, "name": name, "holder": holder, "keys": keys, "by": by, "at": at, "note": note,
        });
        lines += &format!("{line}\n");
    }
    output::print(&lines)?;
    Ok(0)
}

fn page(list: &RosterList, configured: &[(String, std::path::PathBuf)]) -> String {
    if list.rows.is_empty() && list.left_out == 0 {
        return "no agent is on the roster: `doorman fleet add` puts one there\n".to_owned();
    }
    let named = |agent: &AgentId| configured.iter().any(|(id, _)| id == agent.as_str());
    let row = |row: &RosterRow| {
        let RosterRow { agent, holder, keys } = row;
        let keys = if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") };
        vec![
            agent.agent.to_string(),
            agent.name.clone().unwrap_or_else(|| "-".to_owned()),
            agent.rules.clone(),
            output::shown(holder.as_deref().unwrap_or("nobody")),
            output::shown(&keys),
            output::shown(&agent.by),
        ]
    };
    let header = ["AGENT", "NAME", "RULES", "HELD BY", "KEYS", "ADDED BY"];
    let mut page = table::table(&header, list.rows.iter().map(row).collect());
    let here: Vec<&str> =
        list.rows.iter().filter(|row| named(&row.agent.agent)).map(|row| row.agent.agent.as_str()).collect();
    if let Some(first) = here.first() {
        let more = if here.len() > 1 { format!(" and {} more", here.len() - 1) } else { String::new() };
        page += &format!("\n`{first}`{more}: in this machine's doorman.toml, too, which holds here\n");
    }
    if list.left_out > 0 {
        page += &format!("\n{} rows that doorman did not write, or too many, are left out\n", list.left_out);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8, name: Option<&str>, holder: Option<&str>, keys: &[&str]) -> RosterRow {
        let agent = RosterAgent {
            agent: AgentId::parse(&format!("a0000000-0000-4000-8000-{n:012}")).unwrap(),
            rules: "main".to_owned(),
            name: name.map(str::to_owned),
            by: "person:a\u{1b}nn".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            note: None,
        };
        RosterRow { agent, holder: holder.map(str::to_owned), keys: keys.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn the_page() {
        let rows = vec![row(1, Some("porter"), Some("host-a"), &["host-a", "host-b"]), row(2, None, None, &[])];
        let id = rows[1].agent.agent.to_string();
        let list = RosterList { rows, left_out: 1 };
        let page = |list: &RosterList, here: &[(String, std::path::PathBuf)]| {
            anstream::adapter::strip_str(&page(list, here)).to_string()
        };
        insta::assert_snapshot!(page(&list, &[(id, "rules.toml".into())]), @r"
         AGENT                                 NAME    RULES  HELD BY  KEYS            ADDED BY
         a0000000-0000-4000-8000-000000000001  porter  main   host-a   host-a, host-b  person:a\u{1b}nn
         a0000000-0000-4000-8000-000000000002  -       main   nobody   nobody          person:a\u{1b}nn

        `a0000000-0000-4000-8000-000000000002`: in this machine's doorman.toml, too, which holds here

        1 rows that doorman did not write, or too many, are left out
        ");
        assert!(page(&RosterList::default(), &[]).contains("no agent is on the roster"));
    }

    #[test]
    fn an_agent_is_meant_by_its_id_its_beginning_or_its_name() {
        let rows = [row(1, Some("porter"), None, &[]), row(12, None, None, &[])];
        let meant = |text: &str| pick(text, &rows).map(|agent| agent.to_string()).map_err(|error| error.message);
        assert_eq!(meant("porter"), Ok(rows[0].agent.agent.to_string()));
        assert_eq!(meant("A0000000-0000-4000-8000-000000000012"), Ok(rows[1].agent.agent.to_string()));
        assert_eq!(meant("a0000000-0000-4000-8000-00000000001"), Ok(rows[1].agent.agent.to_string()));
        assert!(meant("a000").unwrap_err().contains("2 agents"));
        for odd in ["", "a00", "nobody", "x\u{1b}[2J", "%", "' OR 1=1 --"] {
            let said = meant(odd).unwrap_err();
            assert!(said.contains("no agent") && !said.contains('\u{1b}'), "{said:?}");
        }
    }

    #[test]
    fn what_is_typed_is_an_id_and_a_name() {
        assert_eq!(
            id("{A0000000-0000-4000-8000-000000000012}").unwrap().as_str(),
            "a0000000-0000-4000-8000-000000000012"
        );
        for odd in ["", "porter", "a0000000", "../a0000000-0000-4000-8000-000000000012", "x\u{1b}[2J"] {
            assert!(id(odd).is_err(), "{odd:?}");
        }
        assert_eq!((rules("ledger:main"), rules("main")), (Ok("main".to_owned()), Ok("main".to_owned())));
        assert!(rules("ledger:Ma in").is_err() && rules("./rules.toml").is_err() && name("").is_err());
    }
}
