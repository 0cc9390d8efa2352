//! A large record: what the commands that read it take, what the start of many agents takes, and what writing takes.
//!
//! `cargo bench --bench record -- [--requests N] [--agents N]` makes a ledger of so many requests in a directory of its
//! own, and prints a table. The machine should be quiet.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends where something is wrong"
)]

mod filled;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorman::ledger::{Ledger, Options, Reach};
use jiff::{SignedDuration, Timestamp};

struct Args {
    requests: u64,
    agents: u64,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { requests: 1_000_000, agents: 1000 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                words.next().and_then(|word| word.parse().ok()).ok_or(format!("`{word}` needs a number"))
            };
            match word.as_str() {
                "--requests" => args.requests = number()?.max(1000),
                "--agents" => args.agents = number()?.max(1),
                // Cargo's own.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`: --requests N, --agents N")),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let place = tempfile::tempdir()?;
    let (empty, large) = (place.path().join("empty.db"), place.path().join("ledger.db"));
    runtime.block_on(async { Ledger::open(&empty, Options::default())?.close().await })?;
    let written = runtime.block_on(write(&empty));
    println!("writing a request with its decision, intent and outcome: {written:.1} µs");
    let begun = Instant::now();
    runtime.block_on(async { Ledger::open(&large, Options::default())?.close().await })?;
    filled::fill(&large, args.requests, args.agents);
    let size = std::fs::metadata(&large)?.len();
    println!(
        "a ledger of {} requests of {} agents: {} MiB, {} bytes a request, made in {:.0?}\n",
        args.requests,
        args.agents,
        size >> 20,
        size / args.requests,
        begun.elapsed()
    );
    for (what, ledger) in [("an empty ledger", place.path().join("none.db")), ("the large one", large.clone())] {
        let took = runtime.block_on(start(&ledger, args.agents));
        println!("what {} agents remember, read at once from {what}: {took:.0?}", args.agents);
    }
    println!();
    for command in filled::commands(&args) {
        let took = median(|| run(place.path(), &large, &command));
        println!("doorman {:<44} {:>7.1} ms", command.join(" "), took.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Microseconds a request, in batches as an agent's task makes them.
async fn write(path: &Path) -> f64 {
    const REQUESTS: u64 = 20_000;
    let ledger = Ledger::open(path, Options::default()).unwrap();
    let begun = Instant::now();
    for batch in filled::batches(REQUESTS) {
        ledger.commit(batch).await.unwrap();
    }
    let took = begun.elapsed();
    ledger.close().await.unwrap();
    took.as_secs_f64() * 1e6 / REQUESTS as f64
}

/// Every agent's memory, asked for at once.
async fn start(path: &Path, agents: u64) -> Duration {
    let ledger = Ledger::open(path, Options::default()).unwrap();
    let reach = Reach { charges: SignedDuration::from_hours(24 * 31), history: None };
    let begun = Instant::now();
    let mut loads = tokio::task::JoinSet::new();
    for n in 0..agents {
        let ledger = ledger.clone();
        loads.spawn(async move { ledger.load_agent(&filled::agent(n), Timestamp::now(), reach).await.unwrap() });
    }
    loads.join_all().await;
    let took = begun.elapsed();
    ledger.close().await.unwrap();
    took
}

fn run(home: &Path, ledger: &Path, command: &[String]) -> Duration {
    let begun = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(command)
        .arg("--ledger")
        .arg(ledger)
        .env("HOME", home)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
    begun.elapsed()
}

fn median(mut once: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..5).map(|_| once()).collect();
    all.sort_unstable();
    all[2]
}
