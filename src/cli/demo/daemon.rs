//! The demo's daemon: this program in a process of its own, so that it can be killed. The demo sees of it only its log.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::DemoFailure;

/// How long the daemon may take to end after SIGTERM.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// A line of the log (`docs/logs.md`), as far as the demo reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct DemoLogLine {
    pub(super) event: String,
    pub(super) request: Option<String>,
    pub(super) handle: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) by: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) state: Option<String>,
    pub(super) status: Option<String>,
    pub(super) latency_ms: Option<f64>,
}

/// The process; it is killed with the demo.
pub(super) struct DemoDaemon {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl DemoDaemon {
    /// Starts it on the files of this directory, without the environment of this process.
    pub(super) fn start(directory: &Path) -> Result<Self, DemoFailure> {
        let mut child = command(directory, &["run", "--log-format", "json", "--log-level", "debug"])?
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C goes to the demo only, and the demo ends the daemon.
            .process_group(0)
            .spawn()?;
        let stderr = child.stderr.take().ok_or("the daemon has no log")?;
        Ok(Self { child, lines: BufReader::new(stderr).lines() })
    }

    /// The next line of its log; `None` once it has ended.
    pub(super) async fn next(&mut self) -> Option<DemoLogLine> {
        let text = self.lines.next_line().await.ok().flatten()?;
        // A line that is not a log line, such as the last words of a daemon that cannot start, is ignored.
        Some(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Kills it, like a machine that fails.
    pub(super) async fn kill(&mut self) -> Result<(), DemoFailure> {
        Ok(self.child.kill().await?)
    }

    /// Ends it as systemd does.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = async {
            while self.next().await.is_some() {}
            let _ = self.child.wait().await;
        };
        let _ = timeout(DRAIN_MAX, ended).await;
    }
}

/// One of this program's commands, with these files and nothing else.
pub(super) fn command(directory: &Path, arguments: &[&str]) -> Result<Command, DemoFailure> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .env_clear()
        .env("DOORMAN_CONFIG", directory.join("doorman.toml"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}
