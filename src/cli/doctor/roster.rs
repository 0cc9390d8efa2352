//! The roster in the database, and the keys of its agents on this machine.

use super::{Findings, output};
use crate::config::Settings;
use crate::ledger::roster::Roster;
use crate::ledger::{LedgerAddress, LedgerReader};
use crate::supervisor::{RosterKeys, both_agents, with_keys};

/// Most agents that are named.
const NAMED: usize = 5;

/// Looks at it, if the ledger is in a database that can be read.
pub(super) fn look(settings: &Settings, findings: &mut Findings) {
    let at = LedgerAddress::from(&settings.ledger);
    if matches!(at, LedgerAddress::File(_)) {
        return;
    }
    // A database without a record, or of another version, is judged elsewhere.
    let Ok(reader) = LedgerReader::open(&at) else { return };
    match reader.roster() {
        Ok(roster) => judge(settings, &roster, findings),
        Err(error) => findings.fail(74, "roster", error.to_string()),
    }
}

fn judge(settings: &Settings, roster: &Roster, findings: &mut Findings) {
    let (what, agents) = ("roster", roster.agents.len());
    if roster.left_out > 0 {
        findings.warn(what, format!("{} rows that doorman did not write, or too many, are left out", roster.left_out));
    }
    let Some(dir) = settings.fleet.keys_dir.as_deref() else {
        if agents > 0 {
            let how = "`fleet.keys_dir` is not set: this doorman takes none of them";
            findings.warn(what, format!("{agents} agents are on it, and {how}"));
        }
        return;
    };
    let (shown, mut keys) = (dir.display(), RosterKeys::default());
    if let Err(problem) = keys.look(dir, roster) {
        return findings.fail(78, what, format!("the directory of keys {shown} cannot be read: {problem}"));
    }
    let rostered = with_keys(roster, dir, &keys);
    findings.ok(what, format!("{agents} agents are on it, and the keys of {} of them are in {shown}", rostered.len()));
    for (agent, why) in keys.bad.iter().take(NAMED) {
        findings.fail(77, &format!("agent {agent}"), format!("it is on the roster, and its key cannot be used: {why}"));
    }
    if keys.bad.len() > NAMED {
        findings.fail(77, what, format!("the keys of {} more cannot be used", keys.bad.len() - NAMED));
    }
    let (_, overruled) = both_agents(&settings.agents, &rostered);
    if let Some(first) = overruled.first() {
        let more = if overruled.len() > 1 { format!(" and {} more", overruled.len() - 1) } else { String::new() };
        let first = output::shown(first.as_str());
        findings.warn(what, format!("agent {first}{more}: in the configuration, too, which holds here"));
    }
}
