//! The daemon and its sandbox: their files, their requests, and the daemon's memory according to the kernel.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::common::{self, AGENT, KEY, STEP_MAX, SandboxProcess};

/// The interval between two measurements of the memory.
const LOOK: Duration = Duration::from_millis(10);

/// The answer that everybody gets.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// Everybody becomes a contact.
    Approve,
    /// Nobody does.
    Reject,
}

impl Verdict {
    /// Its word in a rules file.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Approve => "approve",
            Verdict::Reject => "reject",
        }
    }

    fn rules(self) -> String {
        let limit = match self {
            Verdict::Approve => "limit = { count = 1000000, per = \"1h\", by = \"rule\" }\n",
            Verdict::Reject => "",
        };
        let then = self.word();
        format!("version = 1\n[rules.friends]\nthen = \"{then}\"\nwhen = {{ handle = \"friends/*\" }}\n{limit}")
    }
}

pub fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<34} {value}");
}

pub fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// In milliseconds, of sorted microseconds.
pub fn quantile(sorted: &[u64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize] as f64 / 1e3
}

fn anonymous_kib(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)).map_or(0, |kib| kib.parse().unwrap())
}

/// The files of one daemon, and its sandbox.
pub struct Place {
    dir: PathBuf,
    sandbox: SandboxProcess,
    verdict: Verdict,
    asked: u64,
}

impl Place {
    /// Starts the sandbox and writes the daemon's files.
    pub async fn start(dir: &Path, verdict: Verdict) -> Self {
        let sandbox = SandboxProcess::start(dir).await;
        let answers = "in_flight = 64\nper_second = 0";
        common::configure(dir, &sandbox.url, (AGENT, KEY), &verdict.rules(), answers, "");
        Self { dir: dir.to_owned(), sandbox, verdict, asked: 0 }
    }

    /// Starts a daemon and waits until it is live.
    pub async fn live(&self) -> Daemon {
        let mut command = common::doorman(&self.dir);
        let mut child = command.args(["run", "--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("\"state\":\"live\"") {
                break;
            }
        }
        // The log is read as it is written, but its content is ignored.
        tokio::spawn(async move { tokio::io::copy(&mut lines.into_inner(), &mut tokio::io::sink()).await });
        Daemon { pid: child.id().unwrap(), child }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        self.sandbox.call(method, path, body).await
    }

    async fn ask(&mut self, count: u64) {
        let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
        let new = json!({ "to": AGENT, "from_handle": "friends/bot-{n}", "from_name": "Weather {n}", "message": text,
                          "id": "request-{n}", "count": count, "first": self.asked + 1, "push": true });
        self.asked += count;
        self.call(reqwest::Method::POST, "requests", Some(new)).await;
    }

    async fn all_answered(&self) {
        let wait = async {
            let answer = match self.verdict {
                Verdict::Approve => "approved",
                Verdict::Reject => "rejected",
            };
            while self.call(reqwest::Method::GET, "counts", None).await[answer].as_u64() != Some(self.asked) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(STEP_MAX, wait).await.expect("somebody was never answered");
    }

    /// Sends `count` requests at once and waits until all are answered.
    pub async fn burst(&mut self, count: u64) {
        self.ask(count).await;
        self.all_answered().await;
    }

    /// Sends `rate` requests a second, one by one, and returns the sorted latencies in microseconds.
    pub async fn trickle(&mut self, rate: u64, seconds: u64) -> Vec<u64> {
        self.call(reqwest::Method::DELETE, "latencies", None).await;
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
        for _ in 0..rate * seconds {
            tick.tick().await;
            self.ask(1).await;
        }
        self.all_answered().await;
        let all = self.call(reqwest::Method::GET, "latencies", None).await;
        let mut all: Vec<u64> = serde_json::from_value(all).unwrap();
        all.sort_unstable();
        all
    }

    /// The rules as they were at the start.
    pub fn small_rules(&self) {
        std::fs::write(self.dir.join("rules.toml"), self.verdict.rules()).unwrap();
    }

    /// Adds so many rules with handles of their own, and lists of so many handles in files.
    pub fn large_rules(&self, rules: u64, handles: u64, a_file: u64) {
        let mut text = self.verdict.rules();
        for number in 0..rules {
            let _ =
                write!(text, "[rules.of-{number}]\nthen = \"reject\"\nwhen = {{ handle = \"company-{number}/*\" }}\n");
        }
        for (number, first) in (0..handles).step_by(usize::try_from(a_file).unwrap()).enumerate() {
            let mut list = String::new();
            for handle in first..handles.min(first + a_file) {
                let _ = writeln!(list, "organisation-{handle}/assistant");
            }
            std::fs::write(self.dir.join(format!("list-{number}.txt")), list).unwrap();
            let _ = write!(
                text,
                "[lists.list-{number}]\nfile = \"list-{number}.txt\"\n\
                 [rules.listed-{number}]\nthen = \"reject\"\nwhen = {{ list = \"list-{number}\" }}\n"
            );
        }
        std::fs::write(self.dir.join("rules.toml"), text).unwrap();
    }

    /// Loads the rules again, and waits until they are in force.
    pub async fn reload(&self) {
        self.reloading(Duration::ZERO).await;
    }

    /// The same, after a while.
    pub fn reloading(&self, after: Duration) -> impl Future<Output = ()> + use<> {
        let mut command = common::doorman(&self.dir);
        command.args(["reload", "--wait"]);
        async move {
            tokio::time::sleep(after).await;
            let status = command.status().await.unwrap();
            assert!(status.success(), "the rules were refused: {status}");
        }
    }
}

/// A daemon that runs.
pub struct Daemon {
    child: Child,
    pid: u32,
}

impl Daemon {
    /// Its anonymous resident memory, in KiB.
    pub fn anonymous(&self) -> u64 {
        anonymous_kib(self.pid)
    }

    /// Watches that memory until [`Peak::end`].
    pub fn peak(&self) -> Peak {
        let (pid, over, most) = (self.pid, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, seen) = (over.clone(), most.clone());
        let task = tokio::spawn(async move {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_kib(pid), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Peak { over, most, task }
    }

    /// Ends it with SIGTERM.
    pub async fn stop(&mut self) {
        common::stop(&mut self.child).await;
    }
}

/// The peak of a daemon's memory.
pub struct Peak {
    over: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Peak {
    /// The peak so far, in KiB.
    pub async fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.most.load(Ordering::Relaxed)
    }
}
