//! `doorman.toml` is changed while the daemon runs: a problem in it is shown wherever people look.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::control::http;
use crate::faults::site::Site;

async fn status(site: &Site) -> Value {
    let (code, out, err) = site.cli(&["status", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

async fn metric(site: &Site, wanted: &str) {
    let (_, page) =
        http(&site.path("doorman.sock"), "GET /metrics HTTP/1.1\r\nhost: doorman\r\nconnection: close\r\n\r\n").await;
    assert!(page.lines().any(|line| line == wanted), "no `{wanted}` in\n{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_configuration_is_shown_by_log_status_and_metric_until_it_is_corrected() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    assert!(status(&site).await["configuration"]["problem"].is_null());
    let good = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), good.replace("per_second", "per_secnod")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.said("reloaded", 1).await.unwrap();
    let lines = daemon.lines();
    let told = lines.iter().find(|line| line["event"] == "config_refused").expect("the log says what is wrong");
    assert!(told["path"].as_str().is_some_and(|path| path.ends_with("doorman.toml")), "{told}");
    assert!(told["problems"].as_str().is_some_and(|said| said.contains("per_secnod")), "{told}");

    // The command that shows the problem does not need to read the broken file.
    let socket = site.path("doorman.sock");
    let socket = socket.to_str().unwrap();
    let (code, out, err) = site.cli(&["status", "--json", "--socket", socket]).await;
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert!(shown["configuration"]["problem"].as_str().is_some_and(|said| said.contains("per_secnod")), "{shown}");
    let (_, out, _) = site.cli(&["status", "--socket", socket]).await;
    assert!(out.contains("doorman.toml` now is not in force") && out.contains("per_secnod"), "{out}");
    metric(&site, "doorman_config_last_reload_successful 0").await;

    std::fs::write(site.path("doorman.toml"), good).unwrap();
    let (code, _, err) = site.cli(&["reload", "--wait"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(status(&site).await["configuration"]["problem"].is_null());
    metric(&site, "doorman_config_last_reload_successful 1").await;
    daemon.stop().await.unwrap();
}
