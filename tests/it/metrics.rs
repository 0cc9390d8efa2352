//! Metrics and health as they are served: by a real daemon, over TCP and over the control socket.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Mutex;

use doorman::agent::core::counters;
use doorman::ops::metrics::table;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::faults::site::Site;

#[test]
fn the_documentation_has_every_metric() {
    hold("metrics", &table::markdown());
}

#[test]
fn the_documentation_has_every_counter() {
    hold("counters", &counters::markdown());
}

/// Compares a generated table of the page with the code.
fn hold(mark: &str, table: &str) {
    static PAGE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = PAGE.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let start = page.find(&begin).unwrap() + begin.len();
    let stop = page.find(&end).unwrap();
    if page[start..stop] != *table {
        if std::env::var_os("DOORMAN_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{}{table}{}", &page[..start], &page[stop..])).unwrap();
        }
        panic!("docs/metrics.md is not what the code says; DOORMAN_WRITE_DOCS=1 writes it again");
    }
}

/// The names of all families on a page, by their `# TYPE` lines.
fn families(page: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
    page.lines().filter_map(name).collect()
}

/// The address at which this daemon serves metrics, according to its log.
async fn address(daemon: &crate::faults::daemon::Daemon) -> String {
    daemon.said("metrics_listening", 1).await.unwrap();
    let lines = daemon.lines();
    let said = lines.iter().find(|line| line["event"] == "metrics_listening").unwrap();
    said["address"].as_str().unwrap().to_owned()
}

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// As [`get`], but asks again where the connection is closed: a machine that is slow may not send a request in time.
async fn get_in_the_end(url: &str) -> (u16, String) {
    let asked = async {
        loop {
            if let Ok(answer) = reqwest::get(url).await {
                let code = answer.status().as_u16();
                if let Ok(text) = answer.text().await {
                    return (code, text);
                }
            }
        }
    };
    tokio::time::timeout(crate::faults::site::TIME, asked).await.unwrap_or_else(|_| panic!("no reply of {url}"))
}

/// Waits until the page satisfies `so`.
async fn page_with(url: &str, what: &str, so: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            let (_, page) = get(url).await;
            if so(&page) {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::faults::site::TIME, wait).await.unwrap_or_else(|_| panic!("never on {url}: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_over_tcp_says_what_was_done_and_nothing_that_strangers_said() {
    let site = Site::start().await;
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_METRICS_LISTEN", "127.0.0.1:0")]);
    let address = address(&daemon).await;
    daemon.stands("live").await.unwrap();
    site.ask("one", 10, true);
    site.until("twenty are answered", |control| control.counts().pending == 1).await.unwrap();
    let url = format!("http://{address}/metrics");
    let done = "doorman_answers_total{outcome=\"approved\"} 10";
    let page = page_with(&url, done, |page| {
        page.lines().any(|line| line == done) && page.lines().any(|line| line == "doorman_deferred 1")
    })
    .await;
    for line in [
        "doorman_answers_total{outcome=\"rejected\"} 10",
        "doorman_decisions_total{verdict=\"approve\",by_kind=\"rule\"} 10",
        "doorman_decisions_total{verdict=\"defer\",by_kind=\"no_match\"} 1",
        "doorman_agents{state=\"live\"} 1",
        "doorman_rest_requests_total{call=\"agent/contacts/requests/respond\",status=\"200\"} 20",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n\n{page}");
    }
    let rules = format!("{{rules=\"{}\",rule=\"friends\"}} 10", site.path("rules.toml").display());
    assert!(page.contains(&rules), "{rules}\n\n{page}");
    assert!(!page.contains("one-friends") && !page.contains("friends/") && !page.contains("strangers"), "{page}");
    // No connection was lost, nobody was notified, no decider was asked and no database is shared, so nothing was counted:
    // such a family is absent.
    let absent = [table::RECONNECTS, table::NOTIFICATIONS, table::DECIDER_ANSWERS, table::DECIDER_SECONDS];
    let shared =
        [table::LEASES, table::LEASE_TRUSTED, table::LEASES_TAKEN, table::FENCED, table::BEAT_SECONDS, table::MEMBERS];
    let absent = [&absent[..], &shared].concat();
    let served = table::ROWS.iter().filter(|row| !absent.contains(row));
    assert_eq!(families(&page), served.map(table::MetricRow::family).collect());

    let client = reqwest::Client::new();
    let asked = client.get(&url).header("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    let answer = asked.send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().await.unwrap().ends_with("# EOF\n"));
    assert_eq!(client.post(&url).body("x").send().await.unwrap().status().as_u16(), 405);
    assert_eq!(get(&format!("http://{address}/v1/status")).await.0, 404, "nothing else is served there");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_served_over_tcp_and_asked_for_by_a_command() {
    let site = Site::start().await;
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_METRICS_LISTEN", "127.0.0.1:0")]);
    let address = address(&daemon).await;
    daemon.stands("live").await.unwrap();
    page_with(&format!("http://{address}/readyz"), "ready", |page| page.contains("\"ok\":true,\"checks\"")).await;
    let (code, body) = get(&format!("http://{address}/healthz")).await;
    assert_eq!((code, serde_json::from_str::<Value>(&body).unwrap()["ok"].clone()), (200, json!(true)));
    assert_eq!(site.cli(&["health"]).await, (0, "alive\n".to_owned(), String::new()));
    assert_eq!(site.cli(&["health", "--ready"]).await, (0, "ready\n".to_owned(), String::new()));

    // The key of the only agent is refused: the daemon is alive, but not ready.
    std::fs::write(site.path("agent.key"), "another-key-of-nobody").unwrap();
    assert_eq!(site.cli(&["reload", "--wait"]).await.0, 0);
    daemon.stands("refused").await.unwrap();
    let (code, out, _) = loop {
        let said = site.cli(&["health", "--ready"]).await;
        if said.0 != 0 {
            break said;
        }
    };
    assert!(code == 1 && out.starts_with("agents: no agent can be served"), "{out}");
    let (code, body) = get(&format!("http://{address}/readyz")).await;
    assert!(code == 503 && body.contains("the key of 1"), "{body}");
    assert_eq!(site.cli(&["health", "-q"]).await, (0, String::new(), String::new()));
    daemon.stop().await.unwrap();
    let (code, _, err) = site.cli(&["health"]).await;
    assert!(code == 1 && err.contains("no doorman is running here"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_and_stops_nothing() {
    let site = Site::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_METRICS_LISTEN", &address)]);
    daemon.said("metrics_refused", 1).await.unwrap();
    daemon.stands("live").await.unwrap();
    let (code, out, _) = site.cli(&["status", "--exit-code"]).await;
    assert!(code == 1 && out.contains(&format!("metrics and health are not served at {address}: ")), "{out}");
    let (_, out, _) = site.cli(&["status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["metrics"][0]["address"], json!(address), "{out}");
    site.ask("one", 1, true);
    site.until("both are answered", |control| control.counts().pending == 1).await.unwrap();
    daemon.stop().await.unwrap();
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_scrapes_is_bounded_and_in_no_answers_way() {
    let site = Site::start().await;
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_METRICS_LISTEN", "127.0.0.1:0")]);
    let address = address(&daemon).await;
    daemon.stands("live").await.unwrap();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let bad = || {
        // A connection may be lost on a busy machine.
        let connection = |line: &Value| line["event"].as_str().is_some_and(|event| event.starts_with("connection_"));
        let bad = |line: &Value| matches!(line["level"].as_str(), Some("warn" | "error")) && !connection(line);
        daemon.lines().into_iter().filter(bad).collect::<Vec<_>>()
    };
    let (before, said) = (open(), bad());
    // Some say nothing, or not all of it. The oldest of them are closed.
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
        }
        idle.push(stream);
    }
    assert_eq!(get_in_the_end(&format!("http://{address}/healthz")).await.0, 200);
    let mut nothing = Vec::new();
    let closed = tokio::time::timeout(crate::faults::site::TIME, idle[0].read_to_end(&mut nothing)).await;
    assert!(closed.is_ok() && nothing.is_empty(), "no reply, and an end");
    let url = format!("http://{address}/metrics");
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let url = url.clone();
        storm.spawn(async move { get_in_the_end(&url).await.0 });
    }
    site.ask("one", 50, true);
    site.until("a hundred are answered", |control| control.counts().pending == 5).await.unwrap();
    let mut most = 0;
    while let Some(scraped) = storm.join_next().await {
        assert_eq!(scraped.unwrap(), 200, "whoever waits for a place is served");
        most = most.max(open());
    }
    assert!(most < before + 150, "64 that say nothing, 60 that wait, and what the agent needs: {most} after {before}");
    assert_eq!(get_in_the_end(&url).await.0, 200);
    let crowded = |line: &Value| line["event"] == "connections_crowded";
    let (warned, other): (Vec<Value>, Vec<Value>) = bad().into_iter().partition(crowded);
    let reasons: BTreeSet<&str> = warned.iter().filter_map(|line| line["why"].as_str()).collect();
    assert!(!warned.is_empty() && reasons.len() == warned.len(), "one warning for each reason: {warned:?}");
    assert_eq!(other, said, "whoever reads metrics fills no log");
    drop(idle);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_the_service_manager_opened_is_used_in_place_of_the_settings() {
    let site = Site::start().await;
    let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Like systemd: the child inherits the open socket.
    fcntl(&given, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let handed = [
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDS_FIRST_FD", &given.as_raw_fd().to_string()),
        ("LISTEN_FDNAMES", "metrics"),
        ("DOORMAN_METRICS_LISTEN", &taken.local_addr().unwrap().to_string()),
    ];
    let daemon = site.daemon_with_env(&[], &handed);
    let address = address(&daemon).await;
    assert_eq!(address, given.local_addr().unwrap().to_string());
    drop(given);
    page_with(&format!("http://{address}/metrics"), "doorman_build_info", |page| page.contains("doorman_build_info"))
        .await;
    assert_eq!(get(&format!("http://{address}/healthz")).await.0, 200);
    assert_eq!(daemon.count("metrics_refused"), 0, "the other address was not tried");
    assert_eq!(site.cli(&["health"]).await.0, 0, "the control socket is made as ever");
    daemon.stop().await.unwrap();
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = std::fs::read_to_string(root.join("contrib/prometheus/alerts.yml")).unwrap();
    let named = |start: &str| -> Vec<String> {
        alerts.lines().filter_map(|line| Some(line.trim().strip_prefix(start)?.to_owned())).collect()
    };
    let alerts = named("- alert: ");
    let links: Vec<String> =
        named("runbook_url: ").iter().filter_map(|url| Some(url.split_once("runbook.md#")?.1.to_owned())).collect();
    let lower: Vec<String> = alerts.iter().map(|alert| alert.to_lowercase()).collect();
    assert_eq!(links, lower, "each alert links to the section of its own name");
    let runbook = std::fs::read_to_string(root.join("docs/runbook.md")).unwrap();
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts);
}
