//! From a request to its answer: the latency of one request, the requests per second, and the memory.
//!
//! `cargo bench --bench end_to_end -- [--seconds N] [--burst N] [--bursts N] [--backlog N]` runs the real binary against a
//! sandbox in a process of its own, over loopback, and prints its settings and a table. The machine should be quiet.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{AGENT, KEY, STEP_MAX, SandboxProcess};
use serde_json::{Value, json};
use tokio::process::Child;

/// Requests a second for the measurement of latency.
const RATE: u64 = 100;
/// How long after a burst its memory is looked at again.
const REST: Duration = Duration::from_secs(2);
/// Number of starts; each is timed.
const STARTS: usize = 10;
const RULES: &str = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n\
                     [rules.others]\nthen = \"reject\"\nwhen = { handle = \"others/*\" }\n";

struct Args {
    seconds: u64,
    burst: u64,
    bursts: usize,
    backlog: u64,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { seconds: 30, burst: 20_000, bursts: 10, backlog: 10_000 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                words.next().and_then(|word| word.parse().ok()).ok_or(format!("`{word}` needs a number"))
            };
            match word.as_str() {
                "--seconds" => args.seconds = number()?.max(1),
                "--burst" => args.burst = number()?.max(1),
                "--bursts" => args.bursts = usize::try_from(number()?).map_err(|error| error.to_string())?.max(1),
                "--backlog" => args.backlog = number()?.max(1),
                // An argument that Cargo adds.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`: --seconds, --burst, --bursts, --backlog N")),
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| "a provider is there already")?;
    let dir = tempfile::tempdir()?;
    let place = Bench::new(dir.path()).await;
    let cores = std::thread::available_parallelism()?;
    println!("doorman {}; one agent; sandbox in a process of its own, loopback, no TLS", env!("CARGO_PKG_VERSION"));
    println!("in_flight = 64, per_second = 0, synchronous = NORMAL; {cores} CPUs, shared with the sandbox\n");
    place.starts().await;
    let daemon = place.live().await;
    tokio::time::sleep(REST).await;
    row("idle: anonymous memory", mib(anonymous(daemon.id().unwrap())));
    place.trickle(args.seconds).await;
    let flat = place.bursts(&args, daemon.id().unwrap()).await;
    place.backlog(&args, daemon).await;
    println!("\nmemory of every burst within 10 % of the first's: {}", if flat { "yes" } else { "no" });
    Ok(())
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("{what:<34} {value}");
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// Anonymous resident memory of a process, in KiB.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn quantile(sorted: &[u64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize] as f64 / 1e3
}

/// The files of the daemon, and the sandbox.
struct Bench<'a> {
    dir: &'a Path,
    sandbox: SandboxProcess,
}

impl<'a> Bench<'a> {
    async fn new(dir: &'a Path) -> Self {
        let sandbox = SandboxProcess::start(dir).await;
        common::configure(dir, &sandbox.url, (AGENT, KEY), RULES, "in_flight = 64\nper_second = 0", "");
        Self { dir, sandbox }
    }

    /// Starts the daemon and waits until it says that it is live; and how long that took.
    async fn start(&self) -> (Child, Duration) {
        let begun = Instant::now();
        let (child, lines) = common::live(self.dir).await;
        let took = begun.elapsed();
        // The log is read as it is written, as journald would do, but its content is ignored.
        let mut rest = lines.into_inner();
        tokio::spawn(async move { tokio::io::copy(&mut rest, &mut tokio::io::sink()).await });
        (child, took)
    }

    async fn live(&self) -> Child {
        self.start().await.0
    }

    async fn stop(&self, mut daemon: Child) {
        common::stop(&mut daemon).await;
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        self.sandbox.call(method, path, body).await
    }

    /// Sends requests from this many friends and this many others.
    async fn ask(&self, mark: &str, (friends, others): (u64, u64), push: bool) {
        for (owner, count) in [("friends", friends), ("others", others)] {
            if count > 0 {
                let handle = format!("{owner}/{mark}-{{n}}");
                let id = format!("{owner}-{mark}-{{n}}");
                let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
                let new = json!({ "to": AGENT, "from_handle": handle, "from_name": "Weather {n}", "message": text,
                                  "id": id, "count": count, "push": push });
                self.call(reqwest::Method::POST, "requests", Some(new)).await;
            }
        }
    }

    /// How many requests were approved and rejected, if none is pending; else `None`.
    async fn answered(&self) -> Option<(u64, u64)> {
        let counts = self.call(reqwest::Method::GET, "counts", None).await;
        let count = |name: &str| counts[name].as_u64().unwrap();
        (count("pending") == 0).then(|| (count("approved"), count("rejected")))
    }

    /// Waits until no request is pending and the numbers of approvals and rejections have grown as expected.
    async fn all_answered(&self, before: (u64, u64), (friends, others): (u64, u64)) {
        let (let_in, sent_away) = (before.0 + friends, before.1 + others);
        let wait = async {
            while self.answered().await != Some((let_in, sent_away)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(STEP_MAX, wait).await.unwrap();
    }

    /// Removes the friends' contacts again: the number of contacts must not affect the measurement.
    async fn part(&self, mark: &str, friends: u64) {
        for number in 1..=friends {
            let body = json!({ "agent": AGENT, "handle": format!("friends/{mark}-{number}") });
            self.call(reqwest::Method::POST, "contacts/remove", Some(body)).await;
        }
    }

    async fn starts(&self) {
        let mut all = Vec::new();
        for _ in 0..STARTS {
            let (daemon, took) = self.start().await;
            all.push(u64::try_from(took.as_micros()).unwrap());
            self.stop(daemon).await;
        }
        all.sort_unstable();
        let (p50, most) = (quantile(&all, 0.5), quantile(&all, 1.0));
        row("start to live", format!("p50 {p50:.0} ms, most {most:.0} ms (of {STARTS})"));
    }

    /// One request at a time, at the rate.
    async fn trickle(&self, seconds: u64) {
        self.call(reqwest::Method::DELETE, "latencies", None).await;
        let before = self.answered().await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
        let count = RATE * seconds;
        for number in 0..count {
            tick.tick().await;
            let friends = number % 2;
            self.ask(&format!("calm-{number}"), (friends, 1 - friends), true).await;
        }
        self.all_answered(before, (count / 2, count - count / 2)).await;
        let mut all: Vec<u64> =
            serde_json::from_value(self.call(reqwest::Method::GET, "latencies", None).await).unwrap();
        all.sort_unstable();
        let at = |part| quantile(&all, part);
        row(
            &format!("{RATE} requests/s for {seconds} s"),
            format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms (of {})", at(0.5), at(0.99), at(1.0), all.len()),
        );
    }

    /// Sends one burst after the other; returns whether the memory after later bursts is within 10 % of the first.
    async fn bursts(&self, args: &Args, pid: u32) -> bool {
        let mut peaks = Vec::new();
        let mut rests = Vec::new();
        for burst in 0..args.bursts {
            let before = self.answered().await.unwrap();
            let (mark, who) = (format!("burst-{burst}"), (args.burst / 2, args.burst - args.burst / 2));
            let peak = Arc::new(AtomicU64::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let looking = {
                let (peak, over) = (peak.clone(), over.clone());
                tokio::spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        peak.fetch_max(anonymous(pid), Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
            };
            let begun = Instant::now();
            self.ask(&mark, who, true).await;
            self.all_answered(before, who).await;
            let took = begun.elapsed();
            self.part(&mark, who.0).await;
            over.store(true, Ordering::Relaxed);
            looking.await.unwrap();
            tokio::time::sleep(REST).await;
            let (peak, rest) = (peak.load(Ordering::Relaxed), anonymous(pid));
            row(
                &format!("burst {}: {} requests", burst + 1, args.burst),
                format!(
                    "{:.0} answered a second, all of them; memory at most {}, afterwards {}",
                    args.burst as f64 / took.as_secs_f64(),
                    mib(peak),
                    mib(rest)
                ),
            );
            peaks.push(peak);
            rests.push(rest);
        }
        let flat = |all: &[u64]| all.iter().all(|one| *one * 10 <= all[0] * 11);
        flat(&peaks) && flat(&rests)
    }

    /// Answers the requests that came while the daemon was away.
    async fn backlog(&self, args: &Args, daemon: Child) {
        self.stop(daemon).await;
        let before = self.answered().await.unwrap();
        let who = (args.backlog / 2, args.backlog - args.backlog / 2);
        self.ask("backlog", who, false).await;
        let begun = Instant::now();
        let daemon = self.live().await;
        self.all_answered(before, who).await;
        let took = begun.elapsed();
        row(
            &format!("backlog: {} requests", args.backlog),
            format!(
                "{:.0} answered a second, from the start of the daemon on",
                args.backlog as f64 / took.as_secs_f64()
            ),
        );
        self.stop(daemon).await;
    }
}
