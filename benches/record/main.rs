//! A large ledger: the time of the commands that read it, of the start of many agents, of writing, and of answers at a steady rate.
//!
//! `cargo bench --bench record -- [--requests N] [--agents N] [--rounds N] [--seconds N] [--only-rate]` makes a ledger of so many
//! requests in a directory of its own, and prints a table. `--ledger PATH` keeps the ledger there, and uses it again the next time;
//! `--only-rate` leaves out all but the answers; `--quick` shows that it runs. The machine should be quiet.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod filled;
mod rate;
mod start;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorman::ledger::{Ledger, LedgerOptions, RestoreReach};
use jiff::{SignedDuration, Timestamp};

struct Args {
    requests: u64,
    agents: u64,
    rounds: u64,
    seconds: u64,
    only_rate: bool,
    ledger: Option<PathBuf>,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args =
            Self { requests: 1_000_000, agents: 1000, rounds: 5, seconds: 10, only_rate: false, ledger: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                words.next().and_then(|word| word.parse().ok()).ok_or(format!("`{word}` needs a number"))
            };
            match word.as_str() {
                "--requests" => args.requests = number()?.max(1000),
                "--agents" => args.agents = number()?.max(1),
                "--rounds" => args.rounds = number()?.max(1),
                "--seconds" => args.seconds = number()?.max(1),
                "--only-rate" => args.only_rate = true,
                "--quick" => {
                    args = Self { requests: 20_000, agents: 20, rounds: 1, seconds: 2, only_rate: true, ledger: None };
                }
                "--ledger" => args.ledger = Some(words.next().ok_or("`--ledger` needs a path")?.into()),
                // An argument that Cargo adds.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`: see the top of benches/record/main.rs")),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let place = tempfile::tempdir()?;
    println!("load before the run: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let (empty, none) = (place.path().join("empty.db"), place.path().join("none.db"));
    let large = args.ledger.clone().unwrap_or_else(|| place.path().join("ledger.db"));
    runtime.block_on(async { Ledger::open(&empty, LedgerOptions::default())?.close().await })?;
    let written = runtime.block_on(write(&empty));
    println!("writing a request with its decision, intent and outcome: {written:.1} µs");
    if !large.exists() {
        let begun = Instant::now();
        runtime.block_on(async { Ledger::open(&large, LedgerOptions::default())?.close().await })?;
        filled::fill(&large, args.requests, args.agents);
        println!("the large ledger was made in {:.0?}", begun.elapsed());
    }
    let size = std::fs::metadata(&large)?.len();
    println!(
        "a ledger of {} requests of {} agents: {} MiB, {} bytes a request\n",
        args.requests,
        args.agents,
        size >> 20,
        size / args.requests,
    );
    let fresh = place.path().join("fresh.db");
    runtime.block_on(async { Ledger::open(&fresh, LedgerOptions::default())?.close().await })?;
    let rates = || runtime.block_on(rate::compare(place.path(), &fresh, &large, (args.rounds, args.seconds)));
    if args.only_rate {
        rates();
        return Ok(());
    }
    let rules = place.path().join("rules.toml");
    std::fs::write(&rules, start::RULES)?;
    let rules = rules.display().to_string();
    let row = |command: &[String], took: Duration| {
        let words = command.join(" ").replace(&rules, "rules.toml");
        println!("doorman {words:<60} {:>8.1} ms", took.as_secs_f64() * 1e3);
    };
    for command in filled::commands(&args, &rules) {
        row(&command, median(|| run(place.path(), &large, &command)));
    }
    for command in filled::whole(&rules) {
        println!(
            "doorman {:<60} {:>8.1} ms until the first line",
            command[0],
            first_line(&large, &command).as_secs_f64() * 1e3
        );
        row(&command, run(place.path(), &large, &command));
    }
    println!();
    for (what, ledger) in [("an empty ledger", &none), ("the large one", &large)] {
        let took = runtime.block_on(remember(ledger, args.agents));
        println!("what {} agents remember, read at once from {what}: {took:.0?}", args.agents);
    }
    // Descriptors for both ends of each connection.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut took = Vec::new();
    for (what, ledger) in [("an empty ledger", &none), ("the large one", &large)] {
        // Each copy has a name of its own: a log that is left belongs to the copy before.
        let used = place.path().join(format!("used-{}.db", took.len()));
        std::fs::copy(ledger, &used)?;
        took.push(runtime.block_on(start::until_live(place.path(), &used, args.agents)));
        println!("{} agents live on {what}: {:.1?}", args.agents, took[took.len() - 1]);
        std::fs::remove_file(&used)?;
    }
    println!("the second takes {:.2} times the first", took[1].as_secs_f64() / took[0].as_secs_f64());
    rates();
    Ok(())
}

/// Microseconds for each request, in batches like those of an agent's task.
async fn write(path: &Path) -> f64 {
    const REQUESTS: u64 = 20_000;
    let ledger = Ledger::open(path, LedgerOptions::default()).unwrap();
    let begun = Instant::now();
    for batch in filled::batches(REQUESTS) {
        ledger.commit(batch).await.unwrap();
    }
    let took = begun.elapsed();
    ledger.close().await.unwrap();
    took.as_secs_f64() * 1e6 / REQUESTS as f64
}

/// Loads the saved state of every agent at the same time.
async fn remember(path: &Path, agents: u64) -> Duration {
    let ledger = Ledger::open(path, LedgerOptions::default()).unwrap();
    let reach =
        RestoreReach { charges: SignedDuration::from_hours(24 * 31), approvals: None, history: None, merged: false };
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
        .stderr(Stdio::null())
        .status()
        .unwrap();
    // An audit that finds somebody against the rules, and a history that finds nobody, end with 1.
    assert!(matches!(status.code(), Some(0 | 1)), "{command:?}: {status}");
    begun.elapsed()
}

/// Waits until there is something to read.
fn first_line(ledger: &Path, command: &[String]) -> Duration {
    use std::io::Read as _;
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(command)
        .arg("--ledger")
        .arg(ledger)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let took = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn median(mut once: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..5).map(|_| once()).collect();
    all.sort_unstable();
    all[2]
}
