//! Whether memory goes back: after a burst, and after a large policy that was replaced.
//!
//! `cargo bench --features jemalloc --bench memory -- [--quick] [--burst N] [--large N] [--rest SECONDS] [--rules N]
//! [--handles N]` runs the real binary against a sandbox in a process of its own, without `MALLOC_TRIM_THRESHOLD_`. After
//! two bursts it compares the daemon with a new process that loaded the same state from the same ledger. Then it loads a
//! large policy, measures requests with a reload and without, in turn, and replaces the policy by a small one. It ends with 1 if
//! more than 4 MiB stay; the other bounds are judged in their rows.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod place;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use place::{Place, Verdict, mib, quantile, row};

/// So much may stay beyond what a new process has.
const STAYS_MAX_KIB: u64 = 4 << 10;
/// Requests a second while the policy is loaded again.
const RATE: u64 = 50;
/// The length of each of those measurements.
const SPELL: u64 = 20;
/// How often requests are measured with a reload and without.
const ROUNDS: u64 = 3;
/// The large policy is loaded within this time, and takes so many bytes for each handle, its rules and texts included.
const LOAD_MAX: Duration = Duration::from_secs(3);
const HANDLE_BYTES_MAX: f64 = 150.0;
/// A reload makes p99 at most so many times what it is without.
const P99_RATIO_MAX: f64 = 2.0;
/// A list file has at most 16 MiB: so many handles in each.
const HANDLES_A_FILE: u64 = 250_000;

struct Args {
    burst: u64,
    large: u64,
    rest: u64,
    rules: u64,
    handles: u64,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { burst: 20_000, large: 50_000, rest: 10, rules: 10_000, handles: 1_000_000 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().and_then(|word| word.parse().ok()).filter(|value| *value > 0);
                value.ok_or(format!("`{word}` needs a number above 0"))
            };
            match word.as_str() {
                "--quick" => args = Self { burst: 500, large: 1_000, rest: 2, rules: 100, handles: 10_000 },
                "--burst" => args.burst = number()?,
                "--large" => args.large = number()?,
                "--rest" => args.rest = number()?,
                "--rules" => args.rules = number()?,
                "--handles" => args.handles = number()?,
                // An argument that Cargo adds.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`: see the top of benches/memory/main.rs")),
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("doorman {}; anonymous memory; load {}", env!("CARGO_PKG_VERSION"), load.split(' ').next().unwrap_or("?"));
    let mut stays = Vec::new();
    for verdict in [Verdict::Approve, Verdict::Reject] {
        stays.push(bursts(&args, verdict).await?);
    }
    stays.push(policies(&args).await?);
    let most = stays.into_iter().max().unwrap_or_default();
    println!("\nat most 4 MiB stay: {}", if most <= STAYS_MAX_KIB { "yes" } else { "no" });
    Ok(ExitCode::from(u8::from(most > STAYS_MAX_KIB)))
}

/// Two bursts of requests that all get this answer; how many KiB stay beyond what a new process has.
async fn bursts(args: &Args, verdict: Verdict) -> std::io::Result<u64> {
    let dir = tempfile::tempdir()?;
    let mut place = Place::start(dir.path(), verdict).await;
    let rest = Duration::from_secs(args.rest);
    println!("\neverybody gets: {}", verdict.word());
    let mut daemon = place.live().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    row("idle", mib(daemon.anonymous()));
    for count in [args.burst, args.large] {
        let peak = daemon.peak();
        place.burst(count).await;
        let peak = peak.end().await;
        tokio::time::sleep(rest).await;
        row(
            &format!("burst of {count}"),
            format!("peak {}, after {} s {}", mib(peak), args.rest, mib(daemon.anonymous())),
        );
    }
    let after = daemon.anonymous();
    daemon.stop().await;
    let mut daemon = place.live().await;
    tokio::time::sleep(rest).await;
    let new = daemon.anonymous();
    row("a new process, same ledger", mib(new));
    daemon.stop().await;
    let stays = after.saturating_sub(new);
    row("stays beyond that", mib(stays));
    Ok(stays)
}

/// A large policy comes and goes; how many KiB stay beyond what a new process has.
async fn policies(args: &Args) -> std::io::Result<u64> {
    let dir = tempfile::tempdir()?;
    let mut place = Place::start(dir.path(), Verdict::Approve).await;
    println!("\n{} rules, lists of {} handles", args.rules, args.handles);
    let mut daemon = place.live().await;
    tokio::time::sleep(Duration::from_secs(args.rest)).await;
    let before = daemon.anonymous();
    row("before", mib(before));
    let calm = place.trickle(RATE, SPELL).await;
    place.large_rules(args.rules, args.handles, HANDLES_A_FILE);
    let begun = Instant::now();
    place.reload().await;
    let took = begun.elapsed();
    row("loaded after", format!("{:.2} s: {}", took.as_secs_f64(), yes(took <= LOAD_MAX)));
    tokio::time::sleep(Duration::from_secs(args.rest)).await;
    let with = daemon.anonymous();
    let each = (with.saturating_sub(before) * 1024) as f64 / args.handles as f64;
    row(
        "with them",
        format!("{}, {each:.0} bytes a handle, rules included: {}", mib(with), yes(each <= HANDLE_BYTES_MAX)),
    );
    let shown = |what: &str, waits: &[u64]| {
        let at = |part| quantile(waits, part);
        row(&format!("{RATE}/s, {what}"), format!("p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99)));
        at(0.99)
    };
    shown("small policy", &calm);
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let without = shown("large policy", &place.trickle(RATE, SPELL).await);
        // The text has to differ, or nothing is loaded.
        place.large_rules(args.rules + round, args.handles, HANDLES_A_FILE);
        let reload = place.reloading(Duration::from_secs(SPELL / 4));
        let (waits, ()) = tokio::join!(place.trickle(RATE, SPELL), reload);
        ratios.push(shown("large policy, a reload", &waits) / without);
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    row("p99 with a reload, times without", format!("{ratio:.2}: {}", yes(ratio < P99_RATIO_MAX)));
    place.small_rules();
    place.reload().await;
    tokio::time::sleep(Duration::from_secs(args.rest)).await;
    let after = daemon.anonymous();
    row(&format!("{} s after a small one", args.rest), mib(after));
    daemon.stop().await;
    let mut daemon = place.live().await;
    tokio::time::sleep(Duration::from_secs(args.rest)).await;
    let new = daemon.anonymous();
    row("a new process, same ledger", mib(new));
    daemon.stop().await;
    let stays = after.saturating_sub(new);
    row("stays beyond that", mib(stays));
    Ok(stays)
}

fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}
