//! `explain` beside the living daemon: it tells what happened, and says where it is hypothetical.

use doorman::sandbox::NewRequest;
use serde_json::{Value, json};

use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site, TIME};

/// Rules with a limit, a condition on history, and a rejection.
const RULES: &str = "version = 1\n\
    [rules.acme-bots]\nthen = \"approve\"\nwhen = { handle = \"acme/*-bot\" }\n\
    unless = [{ history = { rejected_within = \"30d\" } }]\nlimit = { count = 2, per = \"1h\" }\n\
    [rules.spam]\nthen = \"reject\"\nwhen = { message_contains = \"crypto\" }\n";

fn ask(site: &Site, handle: &str, id: &str, message: Option<&str>) {
    let new = NewRequest { push: Some(true), message: Some(message.map(str::to_owned)), ..NewRequest::to(AGENT) };
    site.control.request(&new.from(handle).id(id)).unwrap();
}

/// Waits until the log has this decision on this request.
async fn decided(daemon: &Daemon, id: &str, by: &str) {
    let so = |lines: &[Value]| {
        lines.iter().any(|line| line["event"] == "decided" && line["request"] == id && line["by"] == by)
    };
    daemon.until(&format!("{id} by {by}"), so).await.unwrap();
}

async fn answered(daemon: &Daemon, id: &str) {
    let so = |lines: &[Value]| lines.iter().any(|line| line["event"] == "answered" && line["request"] == id);
    daemon.until(id, so).await.unwrap();
}

async fn explain(site: &Site, arguments: &[&str]) -> Value {
    let (code, out, err) = site.cli(&[&["explain", "--json"], arguments].concat()).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// Waits until the ledger says that this gave the verdict: the log may be slightly ahead of the ledger.
async fn explained_by(site: &Site, id: &str, by: &str) -> Value {
    let wait = async {
        loop {
            let explained = explain(site, &[id]).await;
            if explained["by"] == by {
                return explained;
            }
        }
    };
    tokio::time::timeout(TIME, wait).await.unwrap_or_else(|_| panic!("{id} is not on record by {by}"))
}

async fn said(site: &Site, arguments: &[&str]) -> String {
    let (code, out, err) = site.cli(&[&["explain"], arguments].concat()).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// The value that `condition` of `rule` saw.
fn saw<'a>(explained: &'a Value, rule: &str, condition: &str) -> &'a str {
    let reason = explained["reasons"].as_array().unwrap().iter().find(|reason| reason["rule"] == rule).unwrap();
    let asked = reason["conditions"].as_array().unwrap().iter().find(|one| one["key"] == condition);
    asked.unwrap()["saw"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_explained_from_the_record_and_what_would_is_called_hypothetical() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for id in ["b1", "b2"] {
        ask(&site, &format!("acme/{}-bot", &id[1..]), id, None);
        answered(&daemon, id).await;
    }
    ask(&site, "acme/3-bot", "b3", None);
    decided(&daemon, "b3", "limit:acme-bots").await;
    ask(&site, "acme/4-bot", "b4", Some("buy crypto"));
    answered(&daemon, "b4").await;

    // By handle it explains the recorded request, not a hypothetical one.
    let third = explain(&site, &["@acme/3-bot"]).await;
    assert_eq!((&third["basis"], &third["by"]), (&json!("record"), &json!("limit:acme-bots")), "{third}");
    assert_eq!(third["record"]["differs"], Value::Null, "{third}");
    assert!(saw(&third, "limit:acme-bots", "limit").starts_with("2 taken"), "{third}");
    let fourth = explain(&site, &["acme/4-bot"]).await;
    assert_eq!((&fourth["verdict"], &fourth["by"]), (&json!("reject"), &json!("spam")), "{fourth}");
    assert_eq!(fourth["record"]["outcome"], "rejected");
    assert!(said(&site, &["@acme/4-bot"]).await.starts_with("reject by spam, decided at "));

    // If it came now, the recorded rejection would count.
    let now = explain(&site, &["@acme/2-bot", "--now"]).await;
    assert_eq!((&now["basis"], &now["verdict"]), (&json!("now"), &json!("defer")), "{now}");
    assert_eq!(saw(&now, "acme-bots", "history.rejected_within"), "`acme` was rejected in that time");
    for (arguments, first) in [
        (&["@acme/9-bot"][..], "hypothetical: defer by no_match\n"),
        (&["@acme/9-bot", "--fresh"], "hypothetical: approve by acme-bots\n"),
        (&["@acme/4-bot", "--message", "hello"], "hypothetical: defer by no_match\n"),
        (&["@acme/1-bot", "--now"], "hypothetical, if it came now: defer by no_match\n"),
    ] {
        let text = said(&site, arguments).await;
        assert!(text.starts_with(first), "{arguments:?}: {text}");
    }
    // An unknown id is an error, even though a handle could look like it.
    let (code, out, err) = site.cli(&["explain", "0192f3c4-9a1b-7000-8000-00000000ffff"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no request with the id"), "{err}");

    // A second request of the same handle: the newest is explained, the older is named.
    ask(&site, "acme/3-bot", "b5", Some("more crypto"));
    answered(&daemon, "b5").await;
    let newest = explain(&site, &["@acme/3-bot"]).await;
    assert_eq!((&newest["record"]["request"], &newest["record"]["older_requests"]), (&json!("b5"), &json!(["b3"])));
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_a_resume_and_a_person_are_shown_in_their_order() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    ask(&site, "carol", "c1", Some("hi"));
    decided(&daemon, "c1", "no_match").await;
    assert_eq!(site.cli(&["pause", "--as", "ann", "--note", "lunch"]).await.0, 0);
    decided(&daemon, "c1", "paused").await;
    let paused = explained_by(&site, "c1", "paused").await;
    assert_eq!((&paused["by"], &paused["record"]["differs"]), (&json!("paused"), &Value::Null), "{paused}");
    let by = &paused["record"]["paused"];
    assert!(by["by"].as_str().unwrap().starts_with("person:ann (claimed by ") && by["note"] == "lunch", "{paused}");
    assert!(said(&site, &["@carol"]).await.contains("\nthe agent was paused by ann (claimed by "));
    let before = daemon.count("decided");
    assert_eq!(site.cli(&["resume"]).await.0, 0);
    daemon.said("decided", before + 1).await.unwrap();
    let resumed = explained_by(&site, "c1", "no_match").await;
    assert_eq!((&resumed["by"], &resumed["record"]["differs"]), (&json!("no_match"), &Value::Null), "{resumed}");
    assert_eq!(resumed["record"]["paused"], Value::Null, "{resumed}");

    assert_eq!(site.cli(&["approve", "@carol"]).await.0, 0);
    let text = said(&site, &["@carol"]).await;
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("approved by ") && first.ends_with("; until then the rules had said defer, no_match"),
        "{text}"
    );
    let explained = explain(&site, &["@carol"]).await;
    assert_eq!(explained["record"]["rules"]["by"], "no_match", "{explained}");
    assert_eq!(saw(&explained, "spam", "message_contains"), "hi");
    // A request that was approved just now is in the history since a minute ago.
    let (_, history, _) = site.cli(&["history", "--since", "1m", "--json"]).await;
    assert!(history.contains("\"request\":\"c1\"") && history.contains("\"verdict\":\"approve\""), "{history}");

    // Other rules, in shadow: the record stays the same, and `explain` also says what the other rules would decide.
    ask(&site, "dave", "d1", None);
    decided(&daemon, "d1", "no_match").await;
    daemon.stop().await.unwrap();
    let other = "version = 1\n[rules.other]\nthen = \"reject\"\nwhen = { handle = \"*/x\" }\n";
    std::fs::write(site.path("rules.toml"), other).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    let explained = explain(&site, &["@carol"]).await;
    assert_eq!(
        (&explained["by"], &explained["record"]["today"]),
        (&explained["record"]["by"], &Value::Null),
        "they say the same: {explained}"
    );
    daemon.stop().await.unwrap();
    let other = "version = 1\n[rules.carol]\nthen = \"reject\"\nwhen = { handle = \"carol\" }\n";
    std::fs::write(site.path("rules.toml"), other).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    // The use of a policy is recorded shortly after the daemon is live, not before.
    let other_rules = async {
        loop {
            let explained = explain(&site, &["@carol"]).await;
            if !explained["record"]["today"].is_null() {
                return explained;
            }
        }
    };
    let explained =
        tokio::time::timeout(crate::faults::site::TIME, other_rules).await.expect("today's rules are explained");
    assert_eq!(explained["record"]["today"]["by"], "carol", "{explained}");
    assert!(said(&site, &["@carol"]).await.contains("would say: reject by carol"));
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_on_record_is_a_test_that_passes_in_its_file() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for id in ["b1", "b2"] {
        ask(&site, &format!("acme/{}-bot", &id[1..]), id, None);
        answered(&daemon, id).await;
    }
    ask(&site, "acme/3-bot", "b3", Some("a \"quoted\" \u{1b}[31m text\u{202e}"));
    decided(&daemon, "b3", "limit:acme-bots").await;
    ask(&site, "acme/4-bot", "b4", Some("buy crypto"));
    answered(&daemon, "b4").await;
    ask(&site, "ünïcode", "u1", None);
    decided(&daemon, "u1", "guard:handle-not-plain").await;
    let mut rules = RULES.to_owned();
    for target in ["@acme/1-bot", "@acme/3-bot", "@acme/4-bot", "u1"] {
        let test = said(&site, &[target, "--as-test"]).await;
        assert!(test.starts_with("[tests.") && test.is_ascii() && !test.contains('\u{1b}'), "{test}");
        rules += &format!("\n{test}");
    }
    std::fs::write(site.path("tested.toml"), &rules).unwrap();
    let tested = site.path("tested.toml").display().to_string();
    let (code, out, err) = site.cli(&["test", "--rules", &tested]).await;
    assert_eq!(code, 0, "{rules}\n{out}{err}");
    // For a decision that no test can express, it says so.
    assert_eq!(site.cli(&["pause"]).await.0, 0);
    decided(&daemon, "b3", "paused").await;
    let (code, out, err) = site.cli(&["explain", "b3", "--as-test"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no test can bring about"), "{err}");
    daemon.stop().await.unwrap();
}
