//! What must hold after every fault, according to the sandbox and the ledger.

use std::collections::HashSet;
use std::path::Path;

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{Control, SandboxStatus};

use super::daemon::Daemon;
use super::site::{AGENT, Site};

/// Whether every request that must be answered is answered.
pub fn all_decided(control: &Control) -> bool {
    control.state().requests.iter().all(|request| due(request).is_none_or(|_| request.status != SandboxStatus::Pending))
}

/// The status that a request must get; `None` if it waits for a person.
fn due(request: &RequestState) -> Option<SandboxStatus> {
    // doorman answers nothing for other agents.
    if request.to != AGENT {
        return None;
    }
    match request.from_handle.as_deref().and_then(|handle| handle.split('/').next()) {
        Some("friends") => Some(SandboxStatus::Approved),
        Some("foes") => Some(SandboxStatus::Rejected),
        _ => None,
    }
}

/// No request is lost, answered against the rules, or answered with two verdicts. A request is answered twice only if
/// `twice` allows it. Each answer has a recorded intent.
pub fn nothing_lost_nothing_twice(site: &Site, twice: bool) -> Result<(), String> {
    nothing_twice(site, twice)?;
    let intents = intents(&site.path("ledger.db"))?;
    let answered = site.control.state().requests.into_iter().filter(|request| request.answered > 0);
    match answered.into_iter().find(|request| !intents.contains(&request.id)) {
        Some(request) => Err(format!("answered without an intent on record: {request:?}")),
        None => Ok(()),
    }
}

/// The same, without a check of the ledger.
pub fn nothing_twice(site: &Site, twice: bool) -> Result<(), String> {
    for request in site.control.state().requests {
        let said = || format!("{request:?}");
        match due(&request) {
            Some(status) => {
                if request.status != status || request.settled_by.as_deref() != Some(AGENT) {
                    return Err(format!("lost, or answered against the rules: {}", said()));
                }
                if request.answers.iter().any(|answer| answer.status != status) {
                    return Err(format!("two different answers: {}", said()));
                }
                if request.answered > 1 && !twice {
                    return Err(format!("answered again: {}", said()));
                }
            }
            None if request.status != SandboxStatus::Pending || request.answered != 0 => {
                return Err(format!("answered without a rule: {}", said()));
            }
            None => {}
        }
    }
    Ok(())
}

/// The requests that have a recorded answer.
pub fn intents(ledger: &Path) -> Result<HashSet<String>, String> {
    Ok(read(ledger, "SELECT r.id FROM answer w JOIN request r ON r.n = w.request")?.into_iter().collect())
}

/// The number of recorded requests.
pub fn on_record(site: &Site) -> usize {
    read(&site.path("ledger.db"), "SELECT id FROM request").map_or(0, |ids| ids.len())
}

/// The number of answers in the ledger without a known outcome.
pub fn open_answers(site: &Site) -> Result<usize, String> {
    Ok(read(
        &site.path("ledger.db"),
        "SELECT r.id FROM answer w JOIN request r ON r.n = w.request WHERE w.outcome IS NULL",
    )?
    .len())
}

/// Whether the ledger says of each of the platform's contacts that our own answer made it.
pub fn contacts_are_ours(site: &Site) -> bool {
    let ours = "SELECT c.id FROM contact c JOIN request r ON r.n = c.request
                WHERE c.removed_at IS NULL AND r.handle = c.handle";
    let ours: HashSet<String> = read(&site.path("ledger.db"), ours).unwrap_or_default().into_iter().collect();
    let contacts = site.control.state().contacts;
    !contacts.is_empty()
        && contacts.iter().filter(|contact| contact.of == AGENT).all(|contact| ours.contains(&contact.id))
}

fn read(ledger: &Path, sql: &str) -> Result<Vec<String>, String> {
    let read = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let ledger = rusqlite::Connection::open_with_flags(ledger, flags)?;
        let mut rows = ledger.prepare(sql)?;
        rows.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<_, _>>()
    };
    read().map_err(|error: rusqlite::Error| format!("the ledger cannot be read: {error}"))
}

/// Waits until the daemon has joined, has listed, and gets pushed events: a new request is answered.
pub async fn live_again(site: &Site, daemon: &Daemon, batch: &str) -> Result<(), String> {
    let joined = |control: &Control| {
        let live = control.overview().live;
        live.iter().any(|live| !live.ghost && live.topics.iter().any(|topic| topic.starts_with("agent_contacts:")))
    };
    daemon.stands("live").await?;
    site.until("joined again", joined).await?;
    site.ask(batch, 1, true);
    site.until("all decided", all_decided).await.map_err(|why| format!("{why}\n{}", daemon.tail(25)))
}
