//! Whether readers of the page and of metrics delay answers: the same requests alone, and with 50 scrapes a second and
//! 20 open pages.
//!
//! `cargo bench --bench watched -- [--quick] [--rounds N] [--seconds N] [--scrapes N] [--pages N]` runs the real binary
//! against a sandbox in a separate process. Each round measures without and with readers, in alternating order. It
//! prints each round and the medians of the ratios, which are what counts, and ends with 1 if a ratio exceeds its
//! limit.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod onlookers;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{AGENT, KEY, STEP_MAX, SandboxProcess};
use onlookers::{BoardReaders, ReadCounts};
use serde_json::{Value, json};
use tokio::process::Child;

/// Requests a second, sent one by one.
const RATE: u64 = 100;
/// Requests that wait for a person, so that the pages have something to show.
const WAITING: u64 = 300;
/// The limits of the ratios.
const P50_MAX: f64 = 1.2;
const P99_MAX: f64 = 2.0;
const RULES: &str = "version = 1\n[policy]\nno_match = \"defer\"\n[rules.friends]\nthen = \"approve\"\n\
                     when = { handle = \"friends/*\" }\n";

struct Args {
    rounds: usize,
    seconds: u64,
    scrapes: u64,
    pages: usize,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { rounds: 5, seconds: 30, scrapes: 50, pages: 20 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().and_then(|word| word.parse().ok()).filter(|value| *value > 0);
                value.ok_or(format!("`{word}` needs a number above 0"))
            };
            let small = |number: u64| usize::try_from(number).map_err(|error| error.to_string());
            match word.as_str() {
                "--quick" => (args.rounds, args.seconds) = (1, 3),
                "--rounds" => args.rounds = small(number()?)?,
                "--seconds" => args.seconds = number()?,
                "--scrapes" => args.scrapes = number()?,
                "--pages" => args.pages = small(number()?)?,
                // An argument that Cargo adds.
                "--bench" => {}
                _ => {
                    return Err(format!(
                        "unknown argument `{word}`: --quick, --rounds N, --seconds N, --scrapes N, --pages N"
                    ));
                }
            }
        }
        Ok(args)
    }
}

/// One measurement.
struct Spell {
    p50: f64,
    p99: f64,
    /// As a fraction of one core, on average.
    cpu: f64,
    looked: ReadCounts,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| "a provider is there already")?;
    let dir = tempfile::tempdir()?;
    let sandbox = SandboxProcess::start(dir.path()).await;
    let places = [free()?, free()?];
    let more = format!("[metrics]\nlisten = \"{}\"\n[page]\nlisten = \"{}\"\n", places[0], places[1]);
    common::configure(dir.path(), &sandbox.url, (AGENT, KEY), RULES, "in_flight = 64\nper_second = 0", &more);
    let mut daemon = live(dir.path()).await;
    let cores = std::thread::available_parallelism()?;
    println!("doorman {}; one agent; {RATE} requests a second for {} s", env!("CARGO_PKG_VERSION"), args.seconds);
    println!(
        "{} scrapes a second, {} pages open, {WAITING} who wait; {cores} CPUs, shared with",
        args.scrapes, args.pages
    );
    println!("the sandbox and whoever looks; load before the run {}\n", load());
    ask(&sandbox, "strangers", "waiting", WAITING).await;
    // A measurement that is not counted, so that the first counted one is like the others.
    spell(&sandbox, &daemon, "warm", args.seconds.min(5), None).await;
    println!("| round | p50 alone | p50 watched | p99 alone | p99 watched | CPU alone | CPU watched |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut p50, mut p99, mut cpu, mut seen) = (Vec::new(), Vec::new(), Vec::new(), ReadCounts::default());
    for round in 0..args.rounds {
        let mut both = [None, None];
        for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let onlookers =
                (place == 1).then_some(BoardReaders { places: &places, scrapes: args.scrapes, pages: args.pages });
            let mark = format!("r{round}-{place}");
            both[place] = Some(spell(&sandbox, &daemon, &mark, args.seconds, onlookers).await);
        }
        let [Some(alone), Some(watched)] = both else { unreachable!() };
        println!(
            "| {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} % | {:.1} % |",
            round + 1,
            alone.p50,
            watched.p50,
            alone.p99,
            watched.p99,
            alone.cpu * 100.0,
            watched.cpu * 100.0
        );
        p50.push(watched.p50 / alone.p50);
        p99.push(watched.p99 / alone.p99);
        cpu.push(watched.cpu - alone.cpu);
        seen.scrapes += watched.looked.scrapes;
        seen.pages += watched.looked.pages;
        seen.failed += watched.looked.failed;
    }
    common::stop(&mut daemon).await;
    let (p50, p99, cpu) = (median(p50), median(p99), median(cpu));
    println!("\nthey saw {} scrapes and {} pages; {} went wrong", seen.scrapes, seen.pages, seen.failed);
    println!("median of the ratios: p50 {p50:.2} (at most {P50_MAX}), p99 {p99:.2} (at most {P99_MAX})");
    println!("whoever looks costs the daemon {:.1} % of a core", cpu * 100.0);
    let held = p50 <= P50_MAX && p99 <= P99_MAX && seen.failed == 0;
    println!("within both limits, and everybody saw what they asked for: {}", if held { "yes" } else { "no" });
    // A short run shows that it runs; its figures are noise.
    if held || args.seconds < 10 { Ok(()) } else { Err("over a limit".into()) }
}

/// A port that is free at the moment.
fn free() -> std::io::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

async fn live(dir: &Path) -> Child {
    let (child, lines) = common::live(dir).await;
    // The log is read as it is written, as journald would do, but its content is ignored.
    let mut rest = lines.into_inner();
    tokio::spawn(async move { tokio::io::copy(&mut rest, &mut tokio::io::sink()).await });
    child
}

async fn ask(sandbox: &SandboxProcess, owner: &str, mark: &str, count: u64) {
    let (handle, id) = (format!("{owner}/{mark}-{{n}}"), format!("{mark}-{{n}}"));
    let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
    let new = json!({ "to": AGENT, "from_handle": handle, "from_name": "Weather {n}", "message": text,
                      "id": id, "count": count, "push": true });
    sandbox.call(reqwest::Method::POST, "requests", Some(new)).await;
}

async fn approved(sandbox: &SandboxProcess) -> u64 {
    sandbox.call(reqwest::Method::GET, "counts", None).await["approved"].as_u64().unwrap()
}

/// Processor time of a process, in seconds.
fn cpu(daemon: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id().unwrap())).unwrap();
    let after: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Fields 14 and 15, in hundredths of a second.
    (after[11].parse::<u64>().unwrap() + after[12].parse::<u64>().unwrap()) as f64 / 100.0
}

async fn spell(
    sandbox: &SandboxProcess,
    daemon: &Child,
    mark: &str,
    seconds: u64,
    onlookers: Option<BoardReaders<'_>>,
) -> Spell {
    sandbox.call(reqwest::Method::DELETE, "latencies", None).await;
    let (before, cpu_before, begun) = (approved(sandbox).await, cpu(daemon), Instant::now());
    let looking = onlookers.map(|onlookers| onlookers.look());
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    for number in 0..RATE * seconds {
        tick.tick().await;
        ask(sandbox, "friends", &format!("{mark}-{number}"), 1).await;
    }
    let wait = async {
        while approved(sandbox).await < before + RATE * seconds {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STEP_MAX, wait).await.unwrap();
    let looked = match looking {
        Some(looking) => looking.stop().await,
        None => ReadCounts::default(),
    };
    let cpu = (cpu(daemon) - cpu_before) / begun.elapsed().as_secs_f64();
    let latencies: Value = sandbox.call(reqwest::Method::GET, "latencies", None).await;
    let mut all: Vec<u64> = serde_json::from_value(latencies).unwrap();
    all.sort_unstable();
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize] as f64 / 1e3;
    Spell { p50: at(0.5), p99: at(0.99), cpu, looked }
}
