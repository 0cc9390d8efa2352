//! Everything that people can see.

use doorman::ops::control::wire::ControlOp;
use doorman::sandbox::NewRequest;
use tokio::time::timeout;

use super::HOSTILE;
use crate::control::{http, post};
use crate::faults::site::{AGENT, KEY, Site, TIME};

/// Rules that decide differently, and that have conditions on names and messages.
const OTHER_RULES: &str = r#"version = 1
[policy]
mode = "enforce"
[rules.everybody]
then = "reject"
when = "everyone"
[rules.sellers]
then = "reject"
when = { name = "seller", message_contains = "invoice" }
"#;

/// The output of one command.
async fn said(site: &Site, arguments: &[&str]) -> String {
    let (_, out, err) = site.cli(arguments).await;
    let said = format!("{out}{err}");
    assert!(!said.contains(KEY), "{arguments:?} shows the key:\n{said}");
    assert!(!said.is_empty(), "{arguments:?} says nothing");
    said
}

/// The output of every command, and of the control socket.
pub async fn looked_at(site: &Site) -> Vec<String> {
    let ledger = site.path("ledger.db").display().to_string();
    let other = site.path("other.toml").display().to_string();
    std::fs::write(&other, OTHER_RULES).unwrap();
    let dashed = format!("--{HOSTILE}");
    let mut seen = Vec::new();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["config"],
        &["config", "--json"],
        &["doctor"],
        &["check"],
        &["explain", "friends/x", "--ledger", &ledger],
        &["explain", "friends/x", "--json", "--ledger", &ledger],
        &["replay", "--rules", &other, "--ledger", &ledger],
        &["approve", "nobody"],
        &["approve", HOSTILE],
        &["approve", &dashed],
        &["explain", &dashed, "--json"],
        &["revoke", HOSTILE],
        &["revoke", "--json", HOSTILE],
        &["revoke", "nobody"],
        &["revoke", "--agent", HOSTILE, "--since", "1h"],
        &["defer", "1-stranger"],
        &["reload", "--wait"],
    ] {
        seen.push(said(site, arguments).await);
    }
    // Commands that quote strangers escape their text.
    for arguments in [
        &["approve", "0-stranger"][..],
        &["pending"],
        &["pending", "--json"],
        &["history", "--ledger", &ledger],
        &["history", "--json", "--ledger", &ledger],
        &["explain", "1-stranger", "--ledger", &ledger],
        &["explain", "1-stranger", "--json", "--ledger", &ledger],
        &["explain", "1-stranger", "--json", "--rules", &other, "--ledger", &ledger],
        &["explain", HOSTILE],
        &["explain", HOSTILE, "--json"],
        &["explain", "x", "--name", HOSTILE, "--message", HOSTILE, "--rules", &other],
        &["explain", "x", "--name", HOSTILE, "--message", HOSTILE, "--rules", &other, "--json"],
        &["replay", "--rules", &other, "--json", "--ledger", &ledger],
    ] {
        let said = said(site, arguments).await;
        assert!(said.contains("evil"), "{arguments:?} does not show who it is:\n{said}");
        seen.push(said);
    }
    // Only a contact with a valid handle can be revoked; its name is hostile, like all others.
    seen.push(revoked(site, &["revoke", "--json", "--since", "1h"]).await);
    site.control.request(&NewRequest::to(AGENT).from("friends/x").named(HOSTILE).id("again")).unwrap();
    seen.push(revoked(site, &["revoke", "@friends/x"]).await);
    // The same by hand, like with curl.
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let pending = post(&serde_json::to_string(&ControlOp::Pending { agent: None }).unwrap());
    for request in [get("/v1/status"), get("/metrics"), pending] {
        let (code, body) = http(&site.path("doorman.sock"), &request).await;
        assert_eq!(code, 200, "{body}");
        assert!(!body.contains(KEY), "a reply of the control socket shows the key: {body}");
        seen.push(body);
    }
    seen
}

/// The output about a contact that is removed; its event arrives a little later than the answer that made it.
async fn revoked(site: &Site, arguments: &[&str]) -> String {
    let removed = async {
        loop {
            let said = said(site, arguments).await;
            if said.contains("friends/x") {
                return said;
            }
        }
    };
    timeout(TIME, removed).await.unwrap()
}
