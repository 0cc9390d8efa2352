//! Everything at once, at random: the platform's faults, kicks, crashes and restarts of both sides, stops, reloads, bursts.
//! A seed names a course of events, as far as that can be with real processes.

use std::time::Duration;

use doorman::sandbox::FaultAction;
use doorman::sandbox::wire::RequestCounts;
use fastrand::Rng;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::checks::{all_decided, live_again, nothing_lost_nothing_twice};
use super::daemon::Daemon;
use super::kills::number;
use super::site::{AGENT, Site};

/// Number of courses in a test run, unless `DOORMAN_COURSES` says otherwise.
const COURSES: u64 = 6;
/// Events in each course.
const STEPS: u32 = 60;

async fn course(seed: u64) -> Result<RequestCounts, String> {
    let mut rng = Rng::with_seed(seed);
    let mut site = Site::start().await;
    let mut faults = super::matrix::faults();
    // A stale page may hide that an answer with an unknown outcome was not carried out; the daemon finds out a minute
    // later.
    faults.retain(|fault| fault.what != FaultAction::StaleList);
    let mut daemon = site.daemon();
    for step in 0..STEPS {
        match rng.u8(0..16) {
            0..=5 => {
                let fault = faults[rng.usize(0..faults.len())].clone().count(rng.u64(1..4));
                site.control.fault(fault).map_err(|error| error.to_string())?;
            }
            6..=9 => site.ask(&format!("{step}"), rng.u64(1..20), rng.bool()),
            10 => drop(site.control.kick(AGENT, Some(rng.choice([0, 1000, 1001, 1012, 1013]).unwrap()))),
            11 => {
                daemon.kill().await;
                daemon = site.daemon();
            }
            12 => {
                daemon.signal(Signal::SIGSTOP);
                pause(&mut rng, 400).await;
                daemon.signal(Signal::SIGCONT);
            }
            // Before the daemon is running, the signal would end it.
            13 if daemon.count("started") > 0 => daemon.signal(Signal::SIGHUP),
            14 => {
                site.crash_platform().await;
                pause(&mut rng, 200).await;
                site.resume_platform().await;
            }
            15 => {
                site.stop_platform().await;
                site.resume_platform().await;
            }
            _ => {}
        }
        pause(&mut rng, 60).await;
    }
    site.control.clear_faults();
    end(&site, daemon).await
}

async fn end(site: &Site, daemon: Daemon) -> Result<RequestCounts, String> {
    site.until("all decided", all_decided).await.map_err(|why| format!("{why}\n{}", daemon.tail(25)))?;
    live_again(site, &daemon, "after").await?;
    let lines = daemon.stop().await?;
    if let Some(line) = lines.iter().find(|line| ["panic", "internal"].iter().any(|event| line["event"] == *event)) {
        return Err(format!("a fault of its own: {line}"));
    }
    // If an answer arrives after the daemon that sent it died, the next daemon may send the same answer again.
    nothing_lost_nothing_twice(site, true)?;
    Ok(site.control.counts())
}

async fn pause(rng: &mut Rng, most_ms: u64) {
    tokio::time::sleep(Duration::from_micros(rng.u64(0..most_ms * 1000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_together() {
    let first = number("DOORMAN_SEED", 1);
    let mut courses = JoinSet::new();
    for seed in first..first + number("DOORMAN_COURSES", COURSES) {
        courses.spawn(async move { course(seed).await.map_err(|why| format!("seed {seed}: {why}")) });
    }
    let (ended, failed): (Vec<_>, Vec<_>) = courses.join_all().await.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    let answers: u64 = ended.iter().flatten().map(|counts| counts.answers).sum();
    let again: u64 = ended.iter().flatten().map(|counts| counts.refused).sum();
    println!("{} courses from seed {first}, {answers} answers, {again} of them said again", ended.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
