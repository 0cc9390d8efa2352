//! Intermediaries between doorman and the platform, and rows that cannot be read, tested with the real binary.

use std::time::Duration;

use doorman::sandbox::{Control, Fault, FaultAction, FaultPlace, SandboxStatus};

use super::checks::nothing_lost_nothing_twice;
use super::site::Site;

/// A CDN's bot check in front of REST, then in front of the socket: the agent is away and says why, the key is neither
/// doubted nor put into a URL, and everything goes on when the check is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_between_is_not_taken_for_the_platform() {
    for at in [FaultPlace::Me, FaultPlace::Upgrade, FaultPlace::List] {
        let site = Site::start().await;
        site.control.fault(Fault::new(at, FaultAction::EdgePage).count(0)).unwrap();
        let daemon = site.daemon();
        let said = daemon
            .until("blocked_in_between", |lines| lines.iter().any(|line| line["event"] == "blocked_in_between"))
            .await;
        said.unwrap();
        daemon.stands("away").await.unwrap();
        let lines = daemon.lines();
        let why = |line: &serde_json::Value| line["why"].as_str().unwrap_or_default().to_owned();
        let reported: Vec<_> = lines.iter().filter(|line| line["event"] == "blocked_in_between").map(why).collect();
        assert!(reported[0].contains("403") && reported[0].contains("error code: 1010"), "{reported:?}");
        // Several more attempts, each as careful as the first.
        daemon
            .until("more tries", |lines| lines.iter().filter(|line| line["event"] == "blocked_in_between").count() > 3)
            .await
            .unwrap();
        assert!(!daemon.lines().iter().any(|line| line["event"] == "key_refused" || line["state"] == "refused"));
        assert!(site.control.overview().connects.iter().all(|connect| connect.key == "header"), "{at:?}");
        site.control.clear_faults();
        daemon.stands("live").await.unwrap();
        site.ask("after", 2, true);
        site.until("all decided", super::checks::all_decided).await.unwrap();
        daemon.stop().await.unwrap();
        nothing_lost_nothing_twice(&site, false).unwrap();
    }
}

/// A bad row with a readable id affects no other row. With a bad row without an id, no absence is certain, and `status`
/// reports that row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_costs_no_other() {
    for code in 0..=3 {
        let site = Site::start().await;
        site.control.fault(Fault::new(FaultPlace::List, FaultAction::BadRow).count(0).code(code)).unwrap();
        site.ask("others", 3, false);
        let daemon = site.daemon();
        daemon.stands("live").await.unwrap();
        // Only the first row waits: of three friends and three foes at least five are answered.
        let settled = |control: &Control| {
            control.state().requests.iter().filter(|request| request.status != SandboxStatus::Pending).count()
        };
        site.until("the others are answered", |control| settled(control) >= 5).await.unwrap();
        site.control.clear_faults();
        site.until("all decided", super::checks::all_decided).await.unwrap();
        daemon.stop().await.unwrap();
        nothing_lost_nothing_twice(&site, false).unwrap();
    }
}

/// The log shows the platform's reason for a close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_close_is_shown_and_1008_is_no_end() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    let fault = Fault::new(FaultPlace::Heartbeat, FaultAction::Close).code(1008).reason("agent is not allowed here");
    site.control.fault(fault).unwrap();
    let reported = |line: &serde_json::Value| {
        line["event"] == "policy_violation"
            && line["why"].as_str().is_some_and(|why| why.contains("1008") && why.contains("agent is not allowed here"))
    };
    daemon.until("policy_violation", |lines| lines.iter().any(reported)).await.unwrap();
    daemon.until("live again", |lines| lines.iter().filter(|line| line["state"] == "live").count() >= 2).await.unwrap();
    daemon.stop().await.unwrap();
}

/// A balancer in front of the platform: all agents share the calls that it allows, and one log line says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_refuses_calls_is_met_with_one_brake() {
    let site = Site::start().await;
    site.control.fault(Fault::new(FaultPlace::Any, FaultAction::Throttle).per_second(2)).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.ask("slowly", 4, true);
    site.until("all decided", super::checks::all_decided).await.unwrap();
    let loud = |line: &&serde_json::Value| line["event"] == "throttled" && line["level"] == "warn";
    site.control.clear_faults();
    let lines = tokio::time::timeout(Duration::from_secs(60), daemon.stop()).await.unwrap().unwrap();
    assert_eq!(lines.iter().filter(loud).count(), 1);
    nothing_lost_nothing_twice(&site, false).unwrap();
}
