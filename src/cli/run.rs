//! `doorman run`.

use std::io::IsTerminal as _;

use tracing::{info, warn};

use super::{CliError, Global};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::daemon::{Daemon, DaemonOptions};
use crate::files;
use crate::ops::control::inherited::Inherited;
use crate::ops::log::events;
use crate::ops::service_manager::{Notifier, watchdog_limit};
use crate::ops::signals::{self, Signal, Signals};
use crate::ops::{harden, log};
use crate::page::PageWords;
use crate::secret::Redact;
use crate::supervisor::{ConfigNow, Reread, SupervisorOrder};
use crate::transcript::{RECORD_BYTES_MAX, TranscriptRecorder};

/// The exit code after a signal, at whatever point of the start or the drain it came.
const ENDS_WITH: u8 = 0;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman run
  doorman run --shadow    decide and record, answer nothing
  doorman run --config ./doorman.toml --log-format human --log-level debug

After SIGTERM or SIGINT the daemon waits for the answers on their way, at most
`timing.drain`; a second signal ends it at once. SIGHUP does the same as
`doorman reload`.

Exit status: 0 stopped by a signal; 74 the ledger cannot be used; 78 the
configuration or every rules file is refused.")]
pub struct Args {
    /// Decide and record, but answer nothing, for example on the first day
    #[arg(long)]
    shadow: bool,
    /// Accept lists that lost more entries than `max_shrink` allows, since the last rules
    #[arg(long)]
    accept_shrunk: bool,
    /// Where the ledger is, instead of `ledger.path`
    #[arg(long, value_name = "PATH")]
    ledger: Option<std::path::PathBuf>,
    /// `human`, `json`, `journald` or `auto`, instead of `log.format`
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// The level, such as `info`, `debug` or `doorman=trace`, instead of `log.level`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Record in this file what doorman and the platform say to each other (`docs/transcripts.md`)
    #[arg(long, value_name = "FILE")]
    record: Option<std::path::PathBuf>,
    /// Keep strangers' handles, names and messages in the transcript unchanged
    #[arg(long, requires = "record")]
    record_text: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let signals =
        signals::listen(ENDS_WITH).map_err(|error| CliError::new(78, format!("signals cannot be handled: {error}")))?;
    let mut overrides = config::Overrides::default();
    if let Some(path) = &args.ledger {
        overrides.set("ledger.path", path.display().to_string());
        overrides.set("ledger.url", String::new());
    }
    if let Some(format) = &args.log_format {
        overrides.set("log.format", format.clone());
    }
    if let Some(level) = &args.log_level {
        overrides.set("log.level", level.clone());
    }
    let path = global.config.clone();
    let load = move || config::load(path.as_deref(), &config::Env::of_process(), &overrides);
    let loaded = load()
        .map_err(|report| CliError::new(78, format!("the configuration is refused\n{}", report.render(colour()))))?;
    if let Err(error) = harden::process() {
        return Err(CliError::new(78, format!("core dumps cannot be switched off: {error}")));
    }
    let inherited = Inherited::take().map_err(|why| CliError::new(78, why))?;
    let clock = Clock::start();
    let redact = Redact::default();
    let handle = log::init(&loaded.settings.log, &clock, redact.clone())
        .map_err(|error| CliError::new(78, error.to_string()))?;
    let from = loaded.file.as_ref().map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
    info!(event = events::CONFIG_LOADED, path = from, agents = loaded.settings.agents.len(), "configured");
    if !loaded.report.problems.is_empty() {
        warn!(
            event = events::CONFIG_WARNED,
            path = from,
            problems = loaded.report.render(false),
            "taken, with warnings"
        );
    }
    let recorder = match &args.record {
        Some(path) => Some(
            TranscriptRecorder::open(path, args.record_text, RECORD_BYTES_MAX, redact.clone(), clock.clone()).map_err(
                |error| CliError::new(78, format!("no transcript can be written to `{}`: {error}", path.display())),
            )?,
        ),
        None => None,
    };
    let before = loaded.settings.clone();
    let read = move || match load() {
        Ok(now) => Ok(ConfigNow {
            needs_restart: config::needs_restart(&before, &now.settings),
            agents: Some(now.settings.agents),
        }),
        Err(report) => Err(report.render(false)),
    };
    let reread = Reread { from, read: Box::new(read) };
    // How many agents the roster brings is not known yet.
    let agents = loaded.settings.fleet.keys_dir.as_ref().map_or(loaded.settings.agents.len(), |_| usize::MAX);
    let runtime = super::runtime(agents)?;
    let watched = (redact, recorder.clone());
    let how = (args.shadow, args.accept_shrunk);
    let code = runtime.block_on(serve(loaded.settings, how, clock, watched, (reread, inherited), signals));
    if let Some(recorder) = recorder {
        recorder.finish(files::TIME);
    }
    // A thread that is still blocked must not keep the process alive.
    runtime.shutdown_background();
    let code = code?;
    info!(event = events::STOPPED, code = "0", "stopped");
    handle.flush(std::time::Duration::from_secs(1));
    Ok(code)
}

fn colour() -> bool {
    std::io::stderr().is_terminal()
}

async fn serve(
    settings: Settings,
    (shadow, accept_shrunk): (bool, bool),
    clock: Clock,
    (redact, recorder): (Redact, Option<TranscriptRecorder>),
    (reread, inherited): (Reread, Inherited),
    mut signals: Signals,
) -> Result<u8, CliError> {
    let notifier =
        Notifier::from_env().map_err(|error| CliError::new(78, format!("`NOTIFY_SOCKET` cannot be used: {error}")))?;
    let options = DaemonOptions {
        shadow,
        accept_shrunk,
        clock,
        seed: fastrand::u64(..),
        notifier,
        watchdog_limit: watchdog_limit(),
        observer: None,
        redact,
        recorder,
        reread,
        inherited,
        words: Some(PageWords { sentence: super::answer::sentence, explain: super::explain::page::of }),
    };
    let starting = Daemon::start(settings, options);
    tokio::pin!(starting);
    let mut reload = false;
    let daemon = loop {
        tokio::select! {
            biased;
            started = &mut starting => break started.map_err(|error| CliError::new(error.code(), error.to_string()))?,
            signal = signals.next() => match signal {
                Some(Signal::Reload) => reload = true,
                Some(Signal::Terminate) | None => {
                    info!(event = events::DRAINING, "a signal came before the start was complete");
                    return Ok(ENDS_WITH);
                }
            }
        }
    };
    signals.started();
    let orders = daemon.orders.clone();
    let relay = tokio::spawn(async move {
        if reload && orders.send(SupervisorOrder::Reload).await.is_err() {
            return;
        }
        while let Some(signal) = signals.next().await {
            let order = match signal {
                Signal::Reload => SupervisorOrder::Reload,
                Signal::Terminate => SupervisorOrder::Stop,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    daemon.ended().await;
    relay.abort();
    Ok(0)
}
