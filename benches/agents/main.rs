//! A thousand agents in one daemon: the cost of an idle agent, whether an agent with a fault or a panic delays the
//! others, and how the connects are spread after the platform was away.
//!
//! `cargo bench --bench agents -- [--agents N] [--tls] [--idle SECONDS]` runs the real binary against a sandbox in this
//! process and prints its settings and a table. The machine should be quiet. `--brake ROUNDS` runs only the start behind a
//! balancer that refuses calls.
//!
//! A release build of the daemon cannot be ordered to panic. The last row needs a build with debug assertions, and a
//! daemon in this process: `CARGO_PROFILE_BENCH_DEBUG_ASSERTIONS=true cargo bench --bench agents`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

mod brake;
#[path = "../common/mod.rs"]
mod common;
#[cfg(debug_assertions)]
mod panics;
mod place;

use std::time::{Duration, Instant};

use doorman::sandbox::{
    Control, Fault, FaultAction, FaultPlace, NewRequest, Sandbox, SandboxOptions, SandboxStatus, World,
};
use jiff::Timestamp;
use place::{certificate, configure, id, start, usage};

/// No step takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(300);
/// Requests a second to the agents without trouble, one after the other.
const RATE: u64 = 100;
/// The length of one measurement.
const SPELL: Duration = Duration::from_secs(10);
/// Requests at once to the flooded agent.
const FLOOD: u64 = 20_000;
/// Each agent before this index has a fault of its own; the flood of the flooded one lasts for minutes.
const FIRST_WELL: usize = 4;
/// Longer than the time after which the backoff starts at its minimum again (`proven_after`).
const PROVEN: Duration = Duration::from_secs(65);
/// How long the platform is away.
const AWAY: Duration = Duration::from_secs(5);

struct Args {
    agents: usize,
    tls: bool,
    idle: Duration,
    brake: Option<usize>,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { agents: 1000, tls: false, idle: Duration::from_secs(30), brake: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                words.next().and_then(|word| word.parse().ok()).ok_or(format!("`{word}` needs a number"))
            };
            match word.as_str() {
                "--agents" => args.agents = usize::try_from(number()?).map_err(|error| error.to_string())?.max(8),
                "--idle" => args.idle = Duration::from_secs(number()?),
                "--tls" => args.tls = true,
                "--brake" => args.brake = Some(usize::try_from(number()?).map_err(|error| error.to_string())?.max(1)),
                // An argument that Cargo adds.
                "--bench" => {}
                _ => {
                    return Err(format!(
                        "unknown argument `{word}`: --agents N, --tls, --idle SECONDS, --brake ROUNDS"
                    ));
                }
            }
        }
        Ok(args)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&args));
    Ok(())
}

async fn until(what: &str, so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < STEP_MAX, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// How many agents are joined.
fn joined(control: &Control) -> usize {
    let live = control.overview().live;
    live.iter().filter(|live| live.topics.iter().any(|topic| topic.starts_with("agent_contacts:"))).count()
}

/// Most connects within any one second, and their total number, since this moment of the sandbox's clock.
fn peak(control: &Control, since_us: u64) -> (usize, usize) {
    let times: Vec<u64> =
        control.overview().connects.iter().map(|connect| connect.at_us).filter(|at| *at >= since_us).collect();
    let most = (0..times.len()).map(|at| times[at..].iter().take_while(|time| **time < times[at] + 1_000_000).count());
    (most.max().unwrap_or(0), times.len())
}

/// Milliseconds from a request's birth to its answer, sorted, for the requests with this mark. The sandbox began at
/// `origin`.
fn latencies(control: &Control, origin: Timestamp, mark: &str) -> Vec<f64> {
    let mut all: Vec<f64> = (control.state().requests.iter())
        .filter(|request| request.id.starts_with(mark))
        .map(|request| {
            assert_eq!(request.status, SandboxStatus::Approved, "{request:?}");
            let born: Timestamp = request.inserted_at.parse().unwrap();
            request.answers[0].at_us as f64 / 1e3 - born.duration_since(origin).as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

fn quantiles(all: &[f64]) -> String {
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize];
    format!("p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms (of {})", at(0.5), at(0.99), at(1.0), all.len())
}

/// Asks the agents from `first` on, in turn, at the rate, and waits until all are answered.
async fn spell(control: &Control, agents: usize, first: usize, mark: &str) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    let count = RATE * SPELL.as_secs();
    for number in 0..count {
        tick.tick().await;
        let agent = first + number as usize % (agents - first);
        let new = NewRequest::to(&id(agent)).from(&format!("friends/{mark}-{number}")).id(&format!("{mark}-{number}"));
        control.request(&new).unwrap();
    }
    let done = || {
        let requests = control.state().requests;
        requests
            .iter()
            .filter(|request| request.id.starts_with(mark))
            .all(|request| request.status == SandboxStatus::Approved)
    };
    until(mark, done).await;
}

async fn run(args: &Args) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(rounds) = args.brake {
        return brake::run(dir.path(), rounds).await;
    }
    let mut world = World::new();
    for agent in 0..args.agents {
        let (owner, key) = (format!("owner{agent}/porter"), format!("key-of-agent-{agent}"));
        world = world.agent(&id(agent), &key, &owner, "Porter");
    }
    let tls = args.tls.then(certificate);
    let mut options = SandboxOptions::default();
    if let Some((server, ca)) = &tls {
        options.tls = Some(server.clone());
        std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
    }
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, options).await.unwrap();
    let (control, address) = (sandbox.control(), sandbox.address());
    let origin = Timestamp::now() - jiff::SignedDuration::from_micros(i64::try_from(control.overview().at_us).unwrap());
    let url = sandbox.url().replace("127.0.0.1", "localhost");
    let now_us = || u64::try_from(Timestamp::now().duration_since(origin).as_micros()).unwrap();
    let row = |what: &str, value: String| println!("{what:<34} {value}");
    println!(
        "doorman {}, {} agents, {}",
        env!("CARGO_PKG_VERSION"),
        args.agents,
        if args.tls { "TLS" } else { "no TLS" }
    );
    println!("timing as shipped; {} CPUs, shared with the sandbox\n", std::thread::available_parallelism().unwrap());

    // One agent, to measure the cost of the daemon itself.
    let alone = dir.path().join("alone");
    configure(&alone, &url, 1, false);
    let mut child = start(&alone);
    until("one agent is live", || joined(&control) == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let base = usage(&child);
    row("one agent: memory", format!("{:.1} MiB", base.rss_kib / 1024.0));
    child.kill().await.unwrap();
    until("it is gone", || joined(&control) == 0).await;

    let many = dir.path().join("many");
    configure(&many, &url, args.agents, true);
    let since = now_us();
    let child = start(&many);
    let healthy = args.agents - 1;
    let took = until("all are live", || joined(&control) == healthy).await;
    let (most, _) = peak(&control, since);
    row("start: all live after", format!("{:.1} s, at most {most} connects in one second", took.as_secs_f64()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = usage(&child);
    let listings = control.overview().lists.len();
    tokio::time::sleep(args.idle).await;
    let after = usage(&child);
    let per_agent = (after.rss_kib - base.rss_kib) / (args.agents - 1) as f64;
    row("idle: memory", format!("{:.1} MiB, {per_agent:.1} KiB an agent", after.rss_kib / 1024.0));
    let cpu = (after.cpu - before.cpu).as_secs_f64() / args.idle.as_secs_f64().max(1.0);
    row(
        "idle: CPU",
        format!("{:.2} % of one, {:.1} µs a second and agent", cpu * 100.0, cpu * 1e6 / args.agents as f64),
    );
    row("idle: listings meanwhile", format!("{}", control.overview().lists.len() - listings));
    row("idle: descriptors, threads", format!("{}, {}", after.descriptors, after.threads));

    spell(&control, args.agents, FIRST_WELL, "calm").await;
    row(&format!("{RATE} requests/s, nothing wrong"), quantiles(&latencies(&control, origin, "calm")));
    control.fault(Fault::new(FaultPlace::Respond, FaultAction::Stall).ms(14_000).count(0).agent(&id(1))).unwrap();
    control.fault(Fault::new(FaultPlace::Push, FaultAction::Malformed).count(0).agent(&id(2))).unwrap();
    for agent in [1, 2] {
        let slow = NewRequest::to(&id(agent)).from("friends/{n}").id(&format!("slow-{agent}-{{n}}")).count(100);
        control.request(&slow).unwrap();
    }
    let flood = NewRequest::to(&id(3)).from("friends/{n}").id("flood-{n}").count(FLOOD);
    let flooding = control.clone();
    let flood = tokio::task::spawn_blocking(move || flooding.request(&flood).map(|ids| ids.len()));
    spell(&control, args.agents, FIRST_WELL, "trouble").await;
    assert_eq!(flood.await.unwrap().unwrap() as u64, FLOOD);
    row("one refused, slow, garbled, flooded", quantiles(&latencies(&control, origin, "trouble")));
    control.clear_faults();

    brake::run(dir.path(), 3).await;
    let sandbox = restarts(&control, sandbox, address, healthy, &now_us).await;
    let last = usage(&child);
    row("in the end: memory", format!("{:.1} MiB", last.rss_kib / 1024.0));
    row("in the end: descriptors, threads", format!("{}, {}", last.descriptors, last.threads));
    drop(child);
    until("it is gone", || joined(&control) == 0).await;
    #[cfg(debug_assertions)]
    panics::run(&control, &dir.path().join("panics"), &url, args.agents, origin).await;
    #[cfg(not(debug_assertions))]
    row("one panics, time and again", "not in this build: see the top of benches/agents/main.rs".to_owned());
    sandbox.stop().await;
}

async fn restarts(
    control: &Control,
    sandbox: Sandbox,
    address: std::net::SocketAddr,
    healthy: usize,
    now_us: &impl Fn() -> u64,
) -> Sandbox {
    let mut sandbox = sandbox;
    for (crash, word) in [(false, "restart in good order (1012)"), (true, "restart by a crash")] {
        tokio::time::sleep(PROVEN).await;
        if crash {
            sandbox.kill().await;
        } else {
            sandbox.stop().await;
        }
        tokio::time::sleep(AWAY).await;
        let since = now_us();
        sandbox = Sandbox::resume(address, control.clone()).await.unwrap();
        let took = until("all are live again", || joined(control) == healthy).await;
        let (most, all) = peak(control, since);
        println!(
            "{word:<34} away for {} s; all live {:.1} s after; at most {most} connects in one second ({all} in all)",
            AWAY.as_secs(),
            took.as_secs_f64()
        );
    }
    tokio::time::sleep(PROVEN).await;
    // The connections are closed one by one while the platform is there: only the random wait spreads the connects.
    let since = now_us();
    for live in control.overview().live {
        let _ = control.kick(&live.agent, Some(1001));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let took = until("all are live again", || joined(control) == healthy).await;
    let (most, all) = peak(control, since);
    let word = "all closed with 1001";
    println!(
        "{word:<34} all live {:.1} s after; at most {most} connects in one second ({all} in all)",
        took.as_secs_f64() + 0.5
    );
    sandbox
}
