//! Every valid fault, at every point, in every situation: one real daemon for each case.
//!
//! At the end of the fault nothing may be lost, nothing answered twice, and the agent must be live again.

use std::sync::Arc;

use doorman::sandbox::{Fault, FaultAction, FaultPlace};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::checks::{all_decided, live_again, nothing_lost_nothing_twice};
use super::site::{AGENT, Site};

/// Most daemons that run at the same time.
const AT_ONCE: usize = 10;
/// Requests of each kind in a burst and in a backlog: the backlog has more than one page.
const EACH: u64 = 60;

const POINTS: [FaultPlace; 7] = [
    FaultPlace::Upgrade,
    FaultPlace::Join,
    FaultPlace::Heartbeat,
    FaultPlace::Push,
    FaultPlace::Me,
    FaultPlace::List,
    FaultPlace::Respond,
];
const DEEDS: [FaultAction; 13] = [
    FaultAction::Close,
    FaultAction::Drop,
    FaultAction::Stall,
    FaultAction::Status,
    FaultAction::Malformed,
    FaultAction::Delay,
    FaultAction::Duplicate,
    FaultAction::Reorder,
    FaultAction::ApplyThenFail,
    FaultAction::CrashChannel,
    FaultAction::Supersede,
    FaultAction::Ghost,
    FaultAction::StaleList,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Situation {
    /// Live, with nothing to do.
    Idle,
    /// Live, and many ask at once.
    Burst,
    /// Many requests arrived before the daemon started.
    Backlog,
}

/// All valid faults, with values above and below the daemon's own limits, and the codes that have a special meaning.
pub fn faults() -> Vec<Fault> {
    let mut all = Vec::new();
    for at in POINTS {
        for what in DEEDS {
            let fault = Fault::new(at, what);
            if fault.check().is_err() {
                continue;
            }
            match (what, at) {
                (FaultAction::Close, _) => all.extend([0, 1000, 1012, 1013].map(|code| fault.clone().code(code))),
                (FaultAction::Stall, _) => all.push(fault.ms(1500)),
                (FaultAction::Delay, FaultPlace::Respond) => all.extend([100, 3500].map(|ms| fault.clone().ms(ms))),
                (FaultAction::Delay, _) => all.extend([100, 1500].map(|ms| fault.clone().ms(ms))),
                (FaultAction::Reorder, FaultPlace::Push | FaultPlace::Join | FaultPlace::Heartbeat) => {
                    all.push(fault.ms(200))
                }
                (FaultAction::Ghost, _) => all.push(fault.ms(600)),
                (FaultAction::StaleList, _) => all.push(fault.ms(3000)),
                (
                    FaultAction::Status,
                    FaultPlace::Upgrade | FaultPlace::Me | FaultPlace::List | FaultPlace::Respond,
                ) => {
                    all.extend([401, 429, 503].map(|code| fault.clone().code(code)));
                    if at != FaultPlace::Respond {
                        all.push(fault.code(403));
                    }
                }
                (FaultAction::ApplyThenFail, FaultPlace::Respond) => all.extend([fault.clone(), fault.code(503)]),
                _ => all.push(fault),
            }
        }
    }
    all
}

async fn case(fault: Fault, situation: Situation) -> Result<(), String> {
    let site = Site::start().await;
    // The daemon asks who owns the key until it gets a reply. A fault that does not prevent the reply happens only
    // once.
    let asked_once = fault.at == FaultPlace::Me
        && !matches!(fault.what, FaultAction::Drop | FaultAction::Stall | FaultAction::Status | FaultAction::Malformed);
    let times = if situation == Situation::Idle || asked_once { 1 } else { 3 };
    let strike = || {
        if fault.what == FaultAction::ApplyThenFail && fault.at == FaultPlace::Respond {
            // The platform's statement is lost both ways: in the reply and in the event.
            let silence = Fault::new(FaultPlace::Push, FaultAction::Drop).event("contact_request_updated").count(0);
            site.control.fault(silence).map_err(|error| error.to_string())?;
        }
        site.control.fault(fault.clone().count(times)).map_err(|error| error.to_string())
    };
    let waits = || {
        site.control.overview().faults.iter().any(|waiting| waiting.fault.what == fault.what && waiting.left.is_some())
    };
    if situation == Situation::Backlog {
        site.ask("before", EACH, false);
        strike()?;
    }
    let daemon = site.daemon();
    if situation != Situation::Backlog {
        daemon.stands("live").await?;
        strike()?;
    }
    if situation == Situation::Burst {
        site.ask("burst", EACH, true);
    }
    // Some faults strike only at a new connection, or only when somebody sends a request: these are caused again and
    // again.
    let mut turn = 0;
    let occasions = async {
        while waits() {
            match fault.at {
                FaultPlace::Upgrade | FaultPlace::Join => drop(site.control.kick(AGENT, Some(0))),
                FaultPlace::Push | FaultPlace::Respond => site.ask(&format!("turn{turn}"), 1, true),
                FaultPlace::Heartbeat | FaultPlace::Me | FaultPlace::List | FaultPlace::Any => {}
            }
            turn += 1;
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
    };
    let struck = tokio::time::timeout(super::site::TIME, occasions).await;
    struck.map_err(|_| format!("it did not strike {times} times\n{}", daemon.tail(25)))?;
    site.until("all decided", all_decided).await.map_err(|why| format!("{why}\n{}", daemon.tail(25)))?;
    live_again(&site, &daemon, "after").await?;
    let lines = daemon.stop().await?;
    if let Some(line) = lines.iter().find(|line| ["panic", "internal"].iter().any(|event| line["event"] == *event)) {
        return Err(format!("a fault of its own: {line}"));
    }
    nothing_lost_nothing_twice(&site, fault.at == FaultPlace::Respond && fault.what == FaultAction::Duplicate)
}

async fn all(situation: Situation) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    // The daemon asks who owns the key only at the start.
    for fault in faults().into_iter().filter(|fault| fault.at != FaultPlace::Me || situation == Situation::Backlog) {
        let permits = permits.clone();
        cases.spawn(async move {
            let _permit = permits.acquire_owned().await;
            case(fault.clone(), situation).await.map_err(|why| format!("{fault:?}, {situation:?}: {why}"))
        });
    }
    let ended = cases.join_all().await;
    let failed: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_idle() {
    all(Situation::Idle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_a_burst() {
    all(Situation::Burst).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_before_a_backlog() {
    all(Situation::Backlog).await;
}

/// A 403 may come from a plan's quota: the sender gets no answer, and a reload, even with the same rules, tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_platform_does_not_allow_is_sent_again_after_a_reload() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Status).code(403).count(0)).unwrap();
    site.ask("quota", 3, true);
    // Both verdicts were tried, and several listings have shown the requests as pending since.
    site.until("tried", |control| control.overview().struck >= 6).await.unwrap();
    let listed = daemon.count("listed");
    daemon.said("listed", listed + 3).await.unwrap();
    assert_eq!(site.control.overview().struck, 6, "each was tried once, and not again by itself");
    assert_eq!(daemon.count("answer_refused"), 1, "a quota is reported once");
    site.control.clear_faults();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    site.until("all decided", all_decided).await.map_err(|why| format!("{why}\n{}", daemon.tail(25))).unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// An answer that the platform calls malformed is not repeated, by no listing and no reload, until another is decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_platform_cannot_read_is_not_repeated() {
    for code in [400, 422] {
        let site = Site::start().await;
        let daemon = site.daemon();
        daemon.stands("live").await.unwrap();
        site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Status).code(code).count(2)).unwrap();
        site.ask("unreadable", 1, true);
        site.until("both tried", |control| control.overview().struck == 2).await.unwrap();
        daemon.said("answer_refused", 2).await.unwrap();
        daemon.signal(nix::sys::signal::Signal::SIGHUP);
        daemon.said("reloaded", 1).await.unwrap();
        let listed = daemon.count("listed");
        daemon.said("listed", listed + 3).await.unwrap();
        assert_eq!(site.control.counts().answers, 0, "{code}: it was repeated\n{}", daemon.tail(25));
        // Friends and foes are exchanged: the rules now decide a different answer, which is sent.
        let rules = std::fs::read_to_string(site.path("rules.toml")).unwrap();
        let turned = rules.replace("approve", "APPROVE").replace("reject", "approve").replace("APPROVE", "reject");
        std::fs::write(site.path("rules.toml"), turned).unwrap();
        daemon.signal(nix::sys::signal::Signal::SIGHUP);
        site.until("both answered", |control| control.counts().answers == 2).await.unwrap();
        let counts = site.control.counts();
        assert_eq!((counts.approved, counts.rejected, counts.refused), (1, 1, 0));
        daemon.stop().await.unwrap();
    }
}
