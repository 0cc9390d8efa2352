//! A daemon under test: in this process, or the real binary, its log read as it is written.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use doorman::agent::Notice;
use doorman::clock::Clock;
use doorman::config::{self, Env, Overrides};
use doorman::daemon::DaemonOptions;
use doorman::model::AgentId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::site::TIME;

/// A daemon in this process, with a clock of its own and ears for every notice.
pub async fn here(config: &Path, clock: Clock) -> (doorman::daemon::Daemon, Notices) {
    let loaded = config::load(Some(config), &Env::default(), &Overrides::default()).unwrap();
    let (observer, notices) = mpsc::unbounded_channel();
    let options = DaemonOptions { observer: Some(observer), ..DaemonOptions::unattended(clock, 1, config) };
    (doorman::daemon::Daemon::start(loaded.settings, options).await.unwrap(), notices)
}

/// The notices of [`here`].
pub type Notices = mpsc::UnboundedReceiver<(AgentId, Notice)>;

/// A running daemon, killed when it is dropped.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    reader: Option<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    more: Notify,
}

impl Log {
    fn put(&self, line: Value) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.more.notify_waiters();
    }
}

impl Daemon {
    /// Starts it by this command, on the files in `dir`.
    pub fn spawn(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .env("DOORMAN_CONFIG", dir.join("doorman.toml"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = log.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                written.put(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// Returns a function that adds log lines from other places than stderr.
    pub fn ear(&self) -> impl Fn(Value) + Send + 'static {
        let log = self.log.clone();
        move |line| log.put(line)
    }

    /// All log lines so far.
    pub fn lines(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often this event was logged.
    pub fn count(&self, event: &str) -> usize {
        self.lines().iter().filter(|line| line["event"] == event).count()
    }

    /// The state of the agent that was logged last.
    pub fn state(&self) -> String {
        let lines = self.lines();
        let last = lines.iter().rev().find(|line| line["event"] == "state_changed");
        last.and_then(|line| line["state"].as_str()).unwrap_or("starting").to_owned()
    }

    /// Waits until the log satisfies `so`.
    pub async fn until(&self, what: &str, so: impl Fn(&[Value]) -> bool) -> Result<(), String> {
        let wait = async {
            loop {
                let more = self.log.more.notified();
                if so(&self.lines()) {
                    return;
                }
                more.await;
            }
        };
        timeout(TIME, wait).await.map_err(|_| format!("never said: {what}; the log's end:\n{}", self.tail(25)))
    }

    /// Waits until this event was logged this many times.
    pub async fn said(&self, event: &str, times: usize) -> Result<(), String> {
        let said = |lines: &[Value]| lines.iter().filter(|line| line["event"] == event).count() >= times;
        self.until(event, said).await
    }

    /// Waits until the agent is in this state.
    pub async fn stands(&self, state: &str) -> Result<(), String> {
        let stands = |lines: &[Value]| {
            lines.iter().rev().find(|line| line["event"] == "state_changed").is_some_and(|line| line["state"] == state)
        };
        self.until(state, stands).await
    }

    /// The last lines, for a failure.
    pub fn tail(&self, lines: usize) -> String {
        let all = self.lines();
        all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {line}\n")).collect()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it ends by itself; returns its exit code.
    pub async fn ends(&mut self) -> Option<i32> {
        self.ended().await.code()
    }

    /// The same, if a signal may have ended it. Its last lines have been read, too.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let status = timeout(TIME, self.child.wait()).await.unwrap().unwrap();
        if let Some(reader) = self.reader.take() {
            timeout(TIME, reader).await.unwrap().unwrap();
        }
        status
    }

    /// Stops it with SIGTERM and waits for its end.
    pub async fn stop(mut self) -> Result<Vec<Value>, String> {
        self.signal(Signal::SIGTERM);
        match self.ends().await {
            Some(0) => {
                let lines = self.lines();
                // A line that is not JSON would be in the format for people.
                let broken =
                    lines.iter().filter(|line| line.is_object()).find_map(|line| crate::logs::check_line(line).err());
                broken.map_or(Ok(lines), Err)
            }
            code => Err(format!("it ended with {code:?}; the log's end:\n{}", self.tail(25))),
        }
    }
}
