//! Sends a request, and checks what happens to it: in the sandbox, in the log, and in the ledger.

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{NewRequest, SandboxStatus};
use serde_json::Value;

use super::daemon::Daemon;
use super::site::{AGENT, Site};

/// The request's state on the platform.
pub fn request(site: &Site, id: &str) -> RequestState {
    site.control.state().requests.into_iter().find(|request| request.id == id).unwrap()
}

pub fn ask(site: &Site, handle: &str, id: &str) {
    site.control.request(&NewRequest::to(AGENT).from(handle).id(id)).unwrap();
}

/// The last decision in the log.
pub fn decided(lines: &[Value], request: &str) -> Option<String> {
    let line = lines.iter().rfind(|line| line["event"] == "decided" && line["request"] == request)?;
    Some(line["verdict"].as_str()?.to_owned())
}

/// Waits until the rules have deferred the request.
pub async fn waits(site: &Site, daemon: &Daemon, id: &str) -> Result<(), String> {
    daemon.until("it is decided", |lines| decided(lines, id).is_some()).await?;
    assert_eq!(decided(&daemon.lines(), id).as_deref(), Some("defer"), "{}", daemon.tail(20));
    assert_eq!(request(site, id).status, SandboxStatus::Pending);
    Ok(())
}

/// Waits until the request is approved: by a rule, or by a person if the rules defer it.
pub async fn let_in(site: &Site, daemon: &Daemon, id: &str) -> Result<(), String> {
    daemon.until("it is decided", |lines| decided(lines, id).is_some()).await?;
    if decided(&daemon.lines(), id).as_deref() == Some("defer") {
        let (code, _, err) = site.cli(&["approve", id]).await;
        // A rule that had waited for the record may be faster.
        let faster = ["is already approved", "is on its way"].iter().any(|said| err.contains(said));
        assert!(code == 0 || faster, "{err}");
    }
    site.until("they are in", |_| request(site, id).status == SandboxStatus::Approved).await
}

/// Waits until a decision on this sender's request is on record: a command reads it there.
pub async fn on_record(site: &Site, id: &str, handle: &str) -> Result<(), String> {
    site.until("the decision is on record", |_| {
        let sql = "SELECT count(*) FROM decision d JOIN request r ON r.n = d.request
                   WHERE r.id = ?1 AND ltrim(r.handle, '@') = ?2 COLLATE NOCASE";
        let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
        ledger.query_row(sql, [id, handle], |row| row.get::<_, i64>(0)).is_ok_and(|count| count > 0)
    })
    .await
}
