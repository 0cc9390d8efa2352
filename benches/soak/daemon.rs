//! The daemon that a bench runs, and what the kernel and its control socket report about it.

use std::fmt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorman::sandbox::wire::RequestCounts;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use crate::common::{self, STEP_MAX};

/// The value at this quantile of the sorted values; 0 if there are none.
pub fn quantile(sorted: &[u64], part: f64) -> u64 {
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// A running daemon with its directory; killed when dropped.
pub struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// Starts it for one agent, and waits until it is live.
    pub async fn start(url: &str, agent: &str, key: &str, rules: &str, timing: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let timing = format!("[timing]\n{timing}");
        common::configure(dir.path(), url, (agent, key), rules, "per_second = 0", &timing);
        let (child, mut lines) = common::live(dir.path()).await;
        // The log is read as journald would do; the line of a panic is printed.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("\"event\":\"panic\"") {
                    println!("{line}");
                }
            }
        });
        Self { child, dir }
    }

    /// Runs one of the other commands for this daemon.
    pub async fn command(&self, arguments: &[&str]) {
        let running = common::doorman(self.dir.path()).args(arguments).stderr(Stdio::null()).status();
        tokio::time::timeout(STEP_MAX, running).await.unwrap().unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap())
    }

    /// Ends it with SIGTERM and waits for it.
    pub async fn stop(mut self) {
        common::stop(&mut self.child).await;
    }

    /// The number of tasks in its runtime, from its own metrics.
    async fn tasks(&self) -> u64 {
        let mut socket = tokio::net::UnixStream::connect(self.dir.path().join("doorman.sock")).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("doorman_tasks ")).unwrap();
        line.parse().unwrap()
    }
}

/// The state of the daemon at one moment, and its activity since the sample before.
#[derive(Debug)]
pub struct Sample {
    at: Duration,
    requests: u64,
    pending: u64,
    latency_us: Option<(u64, u64)>,
    anonymous_kib: u64,
    peak_kib: u64,
    descriptors: u64,
    threads: u64,
    tasks: u64,
    cpu: Duration,
    ledger_kib: u64,
}

/// The name of a figure, and how to read it from a sample.
type Figure = (&'static str, fn(&Sample) -> u64);

impl Sample {
    /// The header of the columns.
    pub const HEAD: &str =
        "minute  requests  pending   p50 ms   p99 ms  RssAnon MiB  VmHWM MiB  fds  threads  tasks  CPU s  ledger MiB";
    /// Resources that the process holds; their peak must not grow.
    pub const HELD: [Figure; 3] = [
        ("most anonymous memory, KiB", |sample| sample.anonymous_kib),
        ("most descriptors", |sample| sample.descriptors),
        ("most tasks", |sample| sample.tasks),
    ];

    /// Takes a sample of the daemon; `latencies` are sorted, in microseconds.
    pub async fn take(daemon: &mut Daemon, begun: Instant, latencies: &[u64], counts: &RequestCounts) -> Self {
        assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended by itself");
        let proc = format!("/proc/{}", daemon.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
        let after: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Fields 14 and 15, in hundredths of a second.
        let ticks: u64 = after[11].parse::<u64>().unwrap() + after[12].parse::<u64>().unwrap();
        Self {
            at: begun.elapsed(),
            requests: counts.requests,
            pending: counts.pending,
            latency_us: (!latencies.is_empty()).then(|| (quantile(latencies, 0.5), quantile(latencies, 0.99))),
            anonymous_kib: field("RssAnon:"),
            peak_kib: field("VmHWM:"),
            descriptors: std::fs::read_dir(format!("{proc}/fd")).unwrap().count() as u64,
            threads: field("Threads:"),
            tasks: daemon.tasks().await,
            cpu: Duration::from_millis(ticks * 10),
            ledger_kib: std::fs::metadata(daemon.dir.path().join("ledger.db")).unwrap().len() / 1024,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (p50, p99) = match self.latency_us {
            Some((p50, p99)) => (format!("{:.2}", p50 as f64 / 1e3), format!("{:.1}", p99 as f64 / 1e3)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        write!(
            out,
            "{:>6.1}  {:>8}  {:>7}  {p50:>7}  {p99:>7}  {:>11.1}  {:>9.1}  {:>3}  {:>7}  {:>5}  {:>5.1}  {:>10.1}",
            self.at.as_secs_f64() / 60.0,
            self.requests,
            self.pending,
            mib(self.anonymous_kib),
            mib(self.peak_kib),
            self.descriptors,
            self.threads,
            self.tasks,
            self.cpu.as_secs_f64(),
            mib(self.ledger_kib)
        )
    }
}
