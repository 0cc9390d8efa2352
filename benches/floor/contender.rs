//! The programs that are measured: each is a process that reports when it is live, and the kernel reports its resource
//! use.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::common::{self, AGENT, KEY};
use crate::floors::IN_FLIGHT;
use crate::records::Kind;

/// No start takes longer than this.
const START_MAX: Duration = Duration::from_secs(300);
/// The interval between two measurements of the memory.
const LOOK: Duration = Duration::from_millis(10);
const RULES: &str = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n\
                     limit = { count = 1000000, per = \"1h\", by = \"rule\" }\n";

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// A floor: the minimal program that answers requests.
    Floor(Kind),
    /// The shipped binary.
    Doorman,
}

impl Contender {
    /// Its column in the table.
    pub fn column(self) -> usize {
        match self {
            Contender::Floor(Kind::A) => 0,
            Contender::Floor(Kind::B) => 1,
            Contender::Floor(Kind::C) => 2,
            Contender::Doorman => 3,
        }
    }

    /// Starts it and waits until it is live.
    pub async fn start(self, dir: &Path, url: &str) -> RunningContender {
        let log = dir.join("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = match self {
            Contender::Floor(kind) => {
                let kind = match kind {
                    Kind::A => "a",
                    Kind::B => "b",
                    Kind::C => "c",
                };
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--floor", kind, url]).arg(dir).stdout(file).stderr(Stdio::inherit());
                command
            }
            Contender::Doorman => {
                // At its second start it finds its files as they were: of rules that were just written, it waits for more to come.
                if !dir.join("doorman.toml").exists() {
                    let answers = format!("in_flight = {IN_FLIGHT}\nper_second = 0");
                    common::configure(dir, url, (AGENT, KEY), RULES, &answers, "");
                }
                let mut command = common::daemon(dir);
                command.stderr(file);
                command
            }
        };
        let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let running = RunningContender::of(child);
        let live = async {
            loop {
                let text = tokio::fs::read_to_string(&log).await.unwrap_or_default();
                if text.starts_with("live\n") || text.contains("\"state\":\"live\"") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(START_MAX, live).await.expect("it was never live");
        running
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["floor A", "floor B", "floor C", "doorman"][self.column()])
    }
}

/// A contender that runs.
pub struct RunningContender {
    child: Child,
    pid: u32,
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl RunningContender {
    fn of(child: Child) -> Self {
        let pid = child.id().unwrap();
        let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (most.clone(), over.clone());
        tokio::spawn(async move {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_kib(pid), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { child, pid, most, over }
    }

    /// CPU time of all its threads so far, from its own clock.
    pub fn cpu(&self) -> Duration {
        let pid = nix::unistd::Pid::from_raw(self.pid.try_into().unwrap());
        let clock = nix::time::clock_getcpuclockid(pid).unwrap();
        clock.now().unwrap().into()
    }

    /// Anonymous resident memory now.
    pub fn anonymous_mib(&self) -> f64 {
        anonymous_kib(self.pid) as f64 / 1024.0
    }

    /// The peak of the anonymous resident memory since [`RunningContender::forget_most`].
    pub fn most_anonymous_mib(&self) -> f64 {
        self.most.load(Ordering::Relaxed) as f64 / 1024.0
    }

    /// Resets the peak of the memory.
    pub fn forget_most(&self) {
        self.most.store(0, Ordering::Relaxed);
    }

    /// Ends it with SIGTERM.
    pub async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        let pid = nix::unistd::Pid::from_raw(self.pid.try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(START_MAX, self.child.wait()).await.unwrap().unwrap();
    }
}

fn anonymous_kib(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)).map_or(0, |kib| kib.parse().unwrap())
}

/// A description of this machine, in one line.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    format!("{cores} CPUs shared with the sandbox, {}", model.trim_start_matches([' ', '\t', ':']))
}

/// The load average over the last minute.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
