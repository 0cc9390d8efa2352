//! Requests at a steady rate on an empty ledger and on a large one, in turn: their latency, what they cost, and how soon the daemon
//! is live. And how large the file becomes by real requests.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{self, AGENT, KEY, STEP_MAX, SandboxProcess};

/// Everybody is approved, within a limit that nobody reaches.
const RULES: &str = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n\
                     limit = { count = 1000000, per = \"1h\", by = \"rule\" }\n";
const RATE: u64 = 500;
/// Requests before each measurement.
const WARM: u64 = 200;
/// Time for what the start leaves to do.
const REST: Duration = Duration::from_secs(2);
/// Requests at once, to see what the file grows by.
const BURST: u64 = 20_000;

/// What one round found.
struct Round {
    /// From the start of the process until the agent is live; the ledger was there before.
    start_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU time of the daemon for each request.
    cpu_us: f64,
}

/// Compares the ledgers and prints the table; both are copied and stay as they are.
pub async fn compare(place: &Path, empty: &Path, large: &Path, (rounds, seconds): (u64, u64)) {
    let (mut on_empty, mut on_large) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each is first as often as the other.
        for large_now in [round % 2 == 1, round % 2 == 0] {
            let (ledger, all) = if large_now { (large, &mut on_large) } else { (empty, &mut on_empty) };
            all.push(measure(place, ledger, seconds).await);
        }
    }
    println!(
        "\n{rounds} rounds of {seconds} s at {RATE}/s; medians: on an empty ledger, on the large one, ratio of the two"
    );
    let rows: [RateRow; 4] = [
        ("start to live, ms (wanted on the large one: 100)", |round| round.start_ms, None),
        ("p50, ms (wanted: 1.2)", |round| round.p50_ms, Some(1.2)),
        ("p99, ms", |round| round.p99_ms, None),
        ("CPU of a request, µs (wanted: 1.1)", |round| round.cpu_us, Some(1.1)),
    ];
    for (what, value, most) in rows {
        let (one, other) = (middle(&on_empty, value), middle(&on_large, value));
        let ratio = other / one;
        let judged = most.map_or("", |most| if ratio <= most { ": yes" } else { ": no" });
        println!("{what:<50} {one:>9.2} {other:>9.2} {ratio:>6.2}{judged}");
    }
    let bytes = grown(place, empty).await;
    println!("a request that is approved, with limit and contact: {bytes} bytes of the file (wanted: 900)");
}

/// A row of the table: what it is, its value of a round, and the most that its ratio may be.
type RateRow = (&'static str, fn(&Round) -> f64, Option<f64>);

fn middle(rounds: &[Round], value: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(value).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// A daemon's directory of its own, and the sandbox for it.
async fn settle(place: &Path, ledger: &Path) -> (tempfile::TempDir, SandboxProcess) {
    let dir = tempfile::tempdir_in(place).unwrap();
    let sandbox = SandboxProcess::start(dir.path()).await;
    common::configure(dir.path(), &sandbox.url, (AGENT, KEY), RULES, "in_flight = 64\nper_second = 0", "");
    std::fs::copy(ledger, dir.path().join("ledger.db")).unwrap();
    // What the copy left to write would be written while others are measured.
    nix::unistd::sync();
    (dir, sandbox)
}

async fn measure(place: &Path, ledger: &Path, seconds: u64) -> Round {
    let (dir, sandbox) = settle(place, ledger).await;
    let begun = Instant::now();
    let (mut daemon, mut log) = common::live(dir.path()).await;
    let start_ms = begun.elapsed().as_secs_f64() * 1e3;
    // The daemon must not wait for whoever reads its log.
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    ask(&sandbox, 1, WARM).await;
    all_answered(&sandbox, WARM).await;
    tokio::time::sleep(REST).await;
    sandbox.call(reqwest::Method::DELETE, "latencies", None).await;
    let (before, count) = (cpu(&daemon), RATE * seconds);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    for number in 0..count {
        tick.tick().await;
        ask(&sandbox, WARM + 1 + number, 1).await;
    }
    all_answered(&sandbox, WARM + count).await;
    let cpu_us = (cpu(&daemon) - before).as_secs_f64() * 1e6 / count as f64;
    let waits = sandbox.call(reqwest::Method::GET, "latencies", None).await;
    let mut waits: Vec<u64> = serde_json::from_value(waits).unwrap();
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part).round() as usize] as f64 / 1e3;
    common::stop(&mut daemon).await;
    Round { start_ms, p50_ms: at(0.5), p99_ms: at(0.99), cpu_us }
}

/// Bytes of the file for each of many requests, each let in by a rule with a limit, and each a contact then.
async fn grown(place: &Path, empty: &Path) -> u64 {
    let (dir, sandbox) = settle(place, empty).await;
    let mut sizes = Vec::new();
    for (first, count) in [(1, WARM), (WARM + 1, BURST)] {
        let (mut daemon, mut log) = common::live(dir.path()).await;
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        ask(&sandbox, first, count).await;
        all_answered(&sandbox, first - 1 + count).await;
        tokio::time::sleep(REST).await;
        // At its end the log goes into the file.
        common::stop(&mut daemon).await;
        sizes.push(std::fs::metadata(dir.path().join("ledger.db")).unwrap().len());
    }
    (sizes[1] - sizes[0]) / BURST
}

async fn ask(sandbox: &SandboxProcess, first: u64, count: u64) {
    let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
    let new = json!({ "to": AGENT, "from_handle": "friends/bot-{n}", "from_name": "Weather {n}", "message": text,
                      "id": "c0000000-0000-7000-8000-{n}", "count": count, "first": first, "push": true });
    sandbox.call(reqwest::Method::POST, "requests", Some(new)).await;
}

async fn all_answered(sandbox: &SandboxProcess, count: u64) {
    let wait = async {
        let approved = |counts: Value| counts["approved"].as_u64();
        while approved(sandbox.call(reqwest::Method::GET, "counts", None).await) != Some(count) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STEP_MAX, wait).await.expect("somebody was never answered");
}

/// CPU time of all threads of the daemon so far.
fn cpu(daemon: &tokio::process::Child) -> Duration {
    let pid = nix::unistd::Pid::from_raw(daemon.id().unwrap().try_into().unwrap());
    nix::time::clock_getcpuclockid(pid).unwrap().now().unwrap().into()
}
