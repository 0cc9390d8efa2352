//! One agent of many panics again and again, while requests are sent to the others. The daemon runs in this process,
//! since only the library can be ordered to panic.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorman::clock::Clock;
use doorman::config::{self, Env, Overrides};
use doorman::daemon::{Daemon, DaemonOptions};
use doorman::sandbox::Control;
use doorman::supervisor::SupervisorOrder;
use jiff::Timestamp;

use super::{FIRST_WELL, joined, latencies, quantiles, spell, until};

/// The agent's index; the first one has a good key here, too.
const PANICS: usize = 0;
/// The interval between orders to panic; the agent starts again 1 s to 60 s after each panic.
const RHYTHM: Duration = Duration::from_millis(100);

/// Prints a row.
pub async fn run(control: &Control, dir: &Path, url: &str, agents: usize, origin: Timestamp) {
    super::configure(dir, url, agents, false);
    let panics = Arc::new(AtomicU64::new(0));
    let counted = panics.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|why| why.starts_with("asked to panic")) {
            counted.fetch_add(1, Ordering::Relaxed);
        } else {
            hook(info);
        }
    }));
    let file = dir.join("doorman.toml");
    let loaded = config::load(Some(&file), &Env::default(), &Overrides::default()).unwrap();
    let options = DaemonOptions::unattended(Clock::start(), 1, &file);
    let daemon = Daemon::start(loaded.settings, options).await.unwrap();
    until("all are live", || joined(control) == agents).await;
    let orders = daemon.orders.clone();
    let panicking = tokio::spawn(async move {
        let mut tick = tokio::time::interval(RHYTHM);
        loop {
            tick.tick().await;
            if orders.send(SupervisorOrder::Panic(PANICS)).await.is_err() {
                return;
            }
        }
    });
    spell(control, agents, FIRST_WELL, "panics").await;
    panicking.abort();
    let what = format!("one panics {} times, in this process", panics.load(Ordering::Relaxed));
    println!("{what:<34} {}", quantiles(&latencies(control, origin, "panics")));
    daemon.stop().await;
}
