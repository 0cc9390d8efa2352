//! How the daemon itself ends: killed at any moment, stopped and continued.

use std::time::Duration;

use doorman::sandbox::{Control, Fault, FaultAction, FaultPlace, SandboxOptions};
use nix::sys::signal::Signal;

use super::checks::{all_decided, contacts_are_ours, live_again, nothing_lost_nothing_twice, open_answers};
use super::site::Site;

/// How often it is killed, unless `DOORMAN_KILLS` says otherwise.
const KILLS: u64 = 30;
/// The seed of the moments, unless `DOORMAN_SEED` says otherwise.
const SEED: u64 = 9;

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// All rounds use one ledger and one platform. Half of the kills are timed from the start of the process, half from the
/// moment when it is live. Answers are slow, so that some are in flight at any moment; in one of four rounds there is
/// also a fault of the platform.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_a_burst() {
    let site = Site::start().await;
    let slow = || Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(15).count(0);
    site.control.fault(slow()).unwrap();
    let seed = number("DOORMAN_SEED", SEED);
    let mut moments = fastrand::Rng::with_seed(seed);
    let (kills, mut open) = (number("DOORMAN_KILLS", KILLS), 0);
    println!("seed {seed}, {kills} kills");
    let faults = super::matrix::faults();
    for kill in 0..kills {
        site.ask(&format!("{kill}-before"), 10, false);
        if moments.u8(0..4) == 0 {
            // This round also has a fault. It is added first, so it happens before the delay.
            site.control.clear_faults();
            let fault = faults[moments.usize(0..faults.len())].clone().count(2);
            site.control.faults(vec![fault, slow()]).unwrap();
        }
        let daemon = site.daemon();
        if moments.bool() {
            daemon.stands("live").await.unwrap();
            site.ask(&format!("{kill}-live"), 20, true);
        }
        if kill % 10 == 9 {
            // A round without a kill, so that the others do not only work off what is left.
            site.until("all decided", all_decided).await.unwrap();
            site.ask(&format!("{kill}-more"), 20, true);
        }
        tokio::time::sleep(Duration::from_micros(moments.u64(0..150_000))).await;
        daemon.kill().await;
        open += open_answers(&site).unwrap_or(0);
    }
    site.control.clear_faults();
    assert!(open > 0, "no kill met an answer under way: these moments prove nothing");
    let daemon = site.daemon();
    site.until("all decided", all_decided).await.unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    site.until("contacts found their answers", |_| contacts_are_ours(&site)).await.unwrap();
    // Of several pages, two readings of the list are needed: the second may come a round later.
    site.until("every answer's fate is found out", |_| open_answers(&site) == Ok(0)).await.unwrap();
    daemon.stop().await.unwrap();
    // An answer that was written as its sender died may reach the platform after the next life's listing.
    nothing_lost_nothing_twice(&site, true).unwrap();
    println!("{open} answers were open, summed over the kills");
}

/// Killed during its first start: what is left does not prevent a later start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_makes_its_ledger() {
    let site = Site::start().await;
    let mut moments = fastrand::Rng::with_seed(SEED);
    let mut made = 0;
    for _ in 0..20 {
        for file in std::fs::read_dir(site.dir.path()).unwrap().map(|file| file.unwrap().path()) {
            if file.to_string_lossy().contains("ledger.db") {
                std::fs::remove_file(file).unwrap();
            }
        }
        let daemon = site.daemon();
        tokio::time::sleep(Duration::from_micros(moments.u64(0..25_000))).await;
        daemon.kill().await;
        made += usize::from(site.path("ledger.db").exists());
        let daemon = site.daemon();
        daemon.stands("live").await.unwrap();
        daemon.kill().await;
    }
    println!("{made} of 20 lives had made it");
}

/// Stopped for longer than a connection may be silent: for the daemon's own limit, and, with a platform that is quicker,
/// for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_for_longer_than_the_connection_lives() {
    for idle in [Duration::from_millis(800), Duration::from_secs(60)] {
        let site = Site::of(SandboxOptions { idle, ..SandboxOptions::default() }).await;
        let daemon = site.daemon();
        daemon.stands("live").await.unwrap();
        site.ask("before", 20, true);
        daemon.signal(Signal::SIGSTOP);
        site.ask("meanwhile", 20, true);
        if idle < Duration::from_secs(1) {
            let ended = |control: &Control| control.overview().ends.iter().any(|end| end.why == "idle");
            site.until("the platform ends the silent connection", ended).await.unwrap();
        }
        site.ask("unheard", 20, true);
        // The daemon's own limit is a second.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        daemon.signal(Signal::SIGCONT);
        site.until("all decided", all_decided).await.unwrap();
        live_again(&site, &daemon, "after").await.unwrap();
        assert!(
            daemon.lines().iter().any(|line| line["state"] == "away"),
            "the stop was too short\n{}",
            daemon.tail(9)
        );
        daemon.stop().await.unwrap();
        nothing_lost_nothing_twice(&site, false).unwrap();
    }
}
