//! Compares doorman with the minimum that is possible: each figure beside those of three floors, in one run.
//!
//! `cargo bench --bench floor -- [--quick] [--rounds N] [--seconds N] [--burst N] [--large N] [--backlog N]` runs each
//! contender in turn, in a process of its own against a new sandbox, and repeats that `--rounds` times. It prints medians
//! with their spread, and the ratios, which are what counts: the figures themselves say more of the machine.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod contender;
mod floors;
mod load;
mod records;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use contender::{Contender, RunningContender};
use load::Platform;
use records::Kind;
use table::Table;

/// The allocator of the binary that ships: the floors have it, too.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long an idle process rests before its memory is measured.
const REST: Duration = Duration::from_secs(1);
/// Requests a second, one by one.
const RATES: [u64; 3] = [50, 500, 2_000];
/// In the order of their columns.
const CONTENDERS: [Contender; 4] =
    [Contender::Floor(Kind::A), Contender::Floor(Kind::B), Contender::Floor(Kind::C), Contender::Doorman];

struct Args {
    rounds: usize,
    seconds: u64,
    burst: u64,
    large: u64,
    backlog: u64,
}

impl Args {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut args = Self { rounds: 5, seconds: 10, burst: 20_000, large: 50_000, backlog: 20_000 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().and_then(|word| word.parse().ok()).filter(|value| *value > 0);
                value.ok_or(format!("`{word}` needs a number above 0"))
            };
            match word.as_str() {
                "--quick" => args = Self { rounds: 1, seconds: 1, burst: 500, large: 1_000, backlog: 500 },
                "--rounds" => args.rounds = usize::try_from(number()?).map_err(|error| error.to_string())?,
                "--seconds" => args.seconds = number()?,
                "--burst" => args.burst = number()?,
                "--large" => args.large = number()?,
                "--backlog" => args.backlog = number()?,
                // An argument that Cargo adds.
                "--bench" => {}
                _ => {
                    return Err(format!(
                        "unknown argument `{word}`: --quick, --rounds N, --seconds N, --burst N, --large N, --backlog N"
                    ));
                }
            }
        }
        Ok(args)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "a provider is there already")?;
    // One thread, like one agent of doorman.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let [role, kind, url, dir] = words.as_slice()
        && role == "--floor"
    {
        let kind = match kind.as_str() {
            "a" => Kind::A,
            "b" => Kind::B,
            _ => Kind::C,
        };
        runtime.block_on(floors::run(kind, url, Path::new(dir)));
        return Ok(());
    }
    let args = Args::parse(&words)?;
    let table = runtime.block_on(measure(&args))?;
    print!("{table}");
    Ok(())
}

async fn measure(args: &Args) -> Result<Table, Box<dyn std::error::Error>> {
    let mut table = Table::new(args.rounds);
    println!("doorman {}; one agent; sandbox in a process of its own, loopback, no TLS", env!("CARGO_PKG_VERSION"));
    println!("in_flight = {}, per_second = 0, synchronous = NORMAL, JSON log to a file;", floors::IN_FLIGHT);
    println!("everybody is approved by one rule with a limit; {} rounds, in turn", args.rounds);
    println!("{}; load before the run {}\n", contender::machine(), contender::load_average());
    for round in 1..=args.rounds {
        for contender in CONTENDERS {
            eprint!("\rround {round} of {}: {contender}            ", args.rounds);
            let dir = tempfile::tempdir()?;
            one(contender, dir.path(), args, &mut table).await;
        }
    }
    eprintln!();
    Ok(table)
}

/// All measurements of one program in one round.
async fn one(contender: Contender, dir: &Path, args: &Args, table: &mut Table) {
    let mut platform = Platform::start(dir).await;
    let running = contender.start(dir, platform.url()).await;
    tokio::time::sleep(REST).await;
    table.add("idle: anonymous memory, MiB", contender, running.anonymous_mib());
    for rate in RATES {
        let cpu = running.cpu();
        let waits = platform.trickle(rate, args.seconds).await;
        let cpu = running.cpu() - cpu;
        table.add(&format!("{rate}/s: p50, ms"), contender, quantile(&waits, 0.5));
        table.add(&format!("{rate}/s: p99, ms"), contender, quantile(&waits, 0.99));
        table.add(&format!("{rate}/s: CPU s per 10,000"), contender, per_10_000(cpu, rate * args.seconds));
    }
    burst(&mut platform, &running, contender, args.burst, table).await;
    burst(&mut platform, &running, contender, args.large, table).await;
    table.add("the larger burst: most memory, MiB", contender, running.most_anonymous_mib());
    running.stop().await;
    platform.ask(args.backlog, false).await;
    let begun = Instant::now();
    let running = contender.start(dir, platform.url()).await;
    platform.all_answered().await;
    let took = begun.elapsed();
    table.add("backlog at the start: answered/s", contender, args.backlog as f64 / took.as_secs_f64());
    running.stop().await;
}

async fn burst(
    platform: &mut Platform,
    running: &RunningContender,
    contender: Contender,
    count: u64,
    table: &mut Table,
) {
    let (cpu, begun) = (running.cpu(), Instant::now());
    running.forget_most();
    platform.ask(count, true).await;
    platform.all_answered().await;
    let (took, cpu) = (begun.elapsed(), running.cpu() - cpu);
    table.add(&format!("burst of {count}: answered/s"), contender, count as f64 / took.as_secs_f64());
    table.add(&format!("burst of {count}: CPU s per 10,000"), contender, per_10_000(cpu, count));
}

fn per_10_000(cpu: Duration, requests: u64) -> f64 {
    cpu.as_secs_f64() * 10_000.0 / requests as f64
}

fn quantile(sorted: &[u64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize] as f64 / 1e3
}
