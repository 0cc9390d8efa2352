//! The daemon in a process of this test binary: it logs to a test's journald, and panics when it is ordered to. Its
//! log, its panic hook and its parts are those of `doorman run`.

use std::path::Path;

use doorman::clock::Clock;
use doorman::config::{self, Env, Overrides};
use doorman::daemon::DaemonOptions;
use doorman::ops::log::init_at;
use doorman::secret::Redact;
use doorman::supervisor::SupervisorOrder;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use signal_hook_tokio::Signals;
use tokio::process::Command;

use crate::faults::daemon::Daemon;
use crate::faults::site::Site;

/// The variable with the path of journald's socket, for the child.
const JOURNAL: &str = "SECRETS_JOURNAL";
/// Makes the agent panic.
pub const PANIC: Signal = Signal::SIGUSR1;

/// Starts it; `test` is the test that runs [`play`].
pub fn start(site: &Site, test: &str, format: &str) -> Daemon {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env_clear()
        .env(JOURNAL, site.path("journal"))
        .env("RUST_BACKTRACE", "full")
        .env("DOORMAN_LOG_FORMAT", format)
        .env("DOORMAN_LOG_LEVEL", "trace");
    Daemon::spawn(command, site.dir.path())
}

/// In the child: runs the daemon and ends the process. Elsewhere: nothing.
pub async fn play() {
    let Some(journal) = std::env::var_os(JOURNAL) else { return };
    let path = std::env::var_os("DOORMAN_CONFIG").unwrap();
    let loaded = config::load(Some(Path::new(&path)), &Env::of_process(), &Overrides::default()).unwrap();
    let (clock, redact) = (Clock::start(), Redact::default());
    let log = init_at(&loaded.settings.log, &clock, redact.clone(), Path::new(&journal)).unwrap();
    let mut signals = Signals::new([Signal::SIGTERM as i32, Signal::SIGHUP as i32, PANIC as i32]).unwrap();
    let options = DaemonOptions { redact, ..DaemonOptions::unattended(clock, 1, Path::new("doorman.toml")) };
    let daemon = doorman::daemon::Daemon::start(loaded.settings, options).await.unwrap();
    let orders = daemon.orders.clone();
    tokio::spawn(async move {
        while let Some(signal) = signals.next().await {
            let order = match Signal::try_from(signal).unwrap() {
                Signal::SIGHUP => SupervisorOrder::Reload,
                PANIC => SupervisorOrder::Panic(0),
                _ => SupervisorOrder::Stop,
            };
            let _ = orders.send(order).await;
        }
    });
    daemon.ended().await;
    drop(log);
    std::process::exit(0);
}
