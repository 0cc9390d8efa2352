//! Several doormen on one real PostgreSQL: how soon others answer for the agents of one that is killed or stopped, how much is
//! committed in a flood, what ten doormen need while nothing happens, and what one more costs the database.
//!
//! `benches/fleet/run [--quick] [--ttl SECONDS] [PART...]` starts a server for it; the parts are `killed`, `stopped`, `flood`, `ten`
//! and `more`, all of them where none is named. The machine should be quiet. Everything is on one machine: the doormen, the server and
//! the sandbox share its cores.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends where something is wrong"
)]

mod place;

use std::time::{Duration, Instant};

use doorman::sandbox::{Control, NewRequest, SandboxStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use place::{FleetPlace, Load};

/// No step takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(600);
const PARTS: [&str; 5] = ["killed", "stopped", "flood", "ten", "more"];

struct Args {
    quick: bool,
    ttl: u64,
    parts: Vec<String>,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { quick: false, ttl: 0, parts: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => args.quick = true,
                "--ttl" => {
                    let seconds = words.next().and_then(|word| word.parse().ok());
                    args.ttl = seconds.ok_or("`--ttl` needs a number of seconds")?;
                }
                // An argument that Cargo adds.
                "--bench" => {}
                part if PARTS.contains(&part) => args.parts.push(word),
                _ => return Err(format!("unknown argument `{word}`: --quick, --ttl SECONDS, {}", PARTS.join(", "))),
            }
        }
        if args.ttl == 0 {
            args.ttl = if args.quick { 3 } else { 15 };
        }
        Ok(args)
    }

    fn plays(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// The number of the real bench, or of one that only shows that it runs.
    fn of(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }

    /// How long nothing happens.
    fn idle(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 30 })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let Ok(server) = std::env::var("DOORMAN_TEST_POSTGRES") else {
        println!("fleet: needs a server, which `benches/fleet/run` starts: nothing was measured");
        return Ok(());
    };
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&args, &server));
    Ok(())
}

fn row(what: &str, value: &str) {
    println!("{what:<46} {value}");
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < STEP_MAX, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

async fn run(args: &Args, server: &str) {
    let build = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
    let cores = std::thread::available_parallelism().unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!(
        "doorman {}, {build}, fleet.ttl {} s, {}",
        env!("CARGO_PKG_VERSION"),
        args.ttl,
        place::version(server).await
    );
    println!("{cores} CPUs, shared with the sandbox and the server; load before {}\n", load.join(" "));
    for (part, fault) in [("killed", Signal::SIGKILL), ("stopped", Signal::SIGSTOP)] {
        if args.plays(part) {
            gone(args, server, part, fault).await;
        }
    }
    if args.plays("flood") {
        for doormen in [1, 3] {
            flood(args, server, doormen).await;
        }
    }
    if args.plays("ten") {
        ten(args, server).await;
    }
    if args.plays("more") {
        more(args, server).await;
    }
}

fn quantiles(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize].as_secs_f64();
    format!("first {:.1} s, median {:.1} s, worst {:.1} s (of {} agents)", at(0.0), at(0.5), at(1.0), all.len())
}

/// How many agents have a connection that has joined.
fn joined(control: &Control) -> usize {
    let live = control.overview().live.into_iter().filter(|live| !live.ghost);
    live.filter(|live| live.topics.iter().any(|topic| topic.starts_with("agent_contacts:"))).count()
}

/// Waits until all agents are live, each with a holder.
async fn all_live(place: &FleetPlace, what: &str) -> Duration {
    let agents = place.agents.len();
    until(what, async || {
        let held: u64 = place.holders().await.values().map(|held| held.len() as u64).sum();
        held == agents as u64 && joined(&place.control) == agents
    })
    .await
}

/// One of three is gone: how long do its agents answer nobody?
async fn gone(args: &Args, server: &str, part: &str, fault: Signal) {
    let agents = args.of(1_000, 30);
    let mut place = FleetPlace::make(server, &format!("fleet_{part}"), agents, args.ttl).await;
    let mut doormen: Vec<_> = (0..3).map(|number| place.start(number)).collect();
    let started = all_live(&place, "all are live").await;
    let victims = place.holders().await.remove(&place.name(0)).unwrap_or_default();
    assert!(!victims.is_empty(), "it has no agent");
    // A while after its start, as any other time.
    tokio::time::sleep(Duration::from_secs(args.ttl)).await;
    let pid = Pid::from_raw(doormen[0].id().unwrap().try_into().unwrap());
    kill(pid, fault).unwrap();
    let begun = Instant::now();
    for agent in &victims {
        place.control.request(&NewRequest::to(agent).from("friends/one").id(&format!("after-{agent}"))).unwrap();
    }
    let mut answered: std::collections::HashMap<String, Duration> = std::collections::HashMap::new();
    until("all are answered", async || {
        let now = begun.elapsed();
        for request in place.control.state().requests {
            if request.status == SandboxStatus::Approved {
                answered.entry(request.to).or_insert(now);
            }
        }
        answered.len() == victims.len()
    })
    .await;
    row(&format!("three doormen, {agents} agents: all live after"), &format!("{:.1} s", started.as_secs_f64()));
    row(&format!("one {part}: its agents' first answers after"), &quantiles(answered.into_values().collect()));
    if fault == Signal::SIGSTOP {
        kill(pid, Signal::SIGCONT).unwrap();
    }
    for doorman in &mut doormen {
        doorman.kill().await.unwrap();
    }
    place.remove().await;
}

/// Everybody asks at once.
async fn flood(args: &Args, server: &str, doormen: usize) {
    let (agents, each) = (args.of(30, 6), args.of(200, 5) as u64);
    let mut place = FleetPlace::make(server, &format!("fleet_flood_{doormen}"), agents, args.ttl).await;
    let mut running: Vec<_> = (0..doormen).map(|number| place.start(number)).collect();
    all_live(&place, "all are live").await;
    let (before, batches) = (place.load(&running).await, place.batches().await);
    let begun = Instant::now();
    for agent in &place.agents {
        let new = NewRequest::to(agent).from("friends/{n}").id(&format!("{agent}-{{n}}")).count(each);
        place.control.request(&new).unwrap();
    }
    let all = agents as u64 * each;
    let count = || place.control.counts().approved;
    until("all are answered", async || count() == all).await;
    let took = begun.elapsed().as_secs_f64();
    let (after, batches) = (place.load(&running).await, place.batches().await - batches);
    let cpu = |load: Duration| format!("{:.2}", load.as_secs_f64() / took);
    row(
        &format!("flood: {doormen} doormen, {agents} agents, {all} requests"),
        &format!(
            "{:.0} answers/s, {:.0} commits/s of agents; cores: doormen {}, PostgreSQL {}",
            all as f64 / took,
            batches as f64 / took,
            cpu(after.doormen - before.doormen),
            cpu(after.server - before.server),
        ),
    );
    for doorman in &mut running {
        doorman.kill().await.unwrap();
    }
    place.remove().await;
}

/// What these doormen and the server need while nothing happens.
fn idle_row(what: &str, before: &Load, after: &Load, idle: Duration) {
    let of = |cpu: Duration| cpu.as_secs_f64() / idle.as_secs_f64() * 100.0;
    row(
        what,
        &format!(
            "{:.1} transactions/s; CPU: doormen {:.1} %, PostgreSQL {:.1} % of a core; {} connections",
            (after.transactions - before.transactions) as f64 / idle.as_secs_f64(),
            of(after.doormen - before.doormen),
            of(after.server - before.server),
            after.connections,
        ),
    );
}

async fn idles(args: &Args, place: &FleetPlace, running: &[tokio::process::Child], what: &str) -> Load {
    // Moves and looks of the start are over.
    tokio::time::sleep(Duration::from_secs(args.ttl)).await;
    let before = place.load(running).await;
    tokio::time::sleep(args.idle()).await;
    let after = place.load(running).await;
    idle_row(what, &before, &after, args.idle());
    after
}

/// Ten doormen with 500 agents each.
async fn ten(args: &Args, server: &str) {
    let (doormen, agents) = (args.of(10, 4), args.of(5_000, 40));
    let mut place = FleetPlace::make(server, "fleet_ten", agents, args.ttl).await;
    let mut running: Vec<_> = (0..doormen).map(|number| place.start(number)).collect();
    let took = all_live(&place, "all are live").await;
    row(&format!("{doormen} doormen, {agents} agents: all live after"), &format!("{:.1} s", took.as_secs_f64()));
    let held = place.holders().await;
    let (least, most) = (held.values().map(Vec::len).min().unwrap(), held.values().map(Vec::len).max().unwrap());
    row("  agents a doorman", &format!("{least} to {most}"));
    let load = idles(args, &place, &running, "  idle").await;
    row("  memory", &format!("{:.0} MiB a doorman, {:.0} MiB in all", load.rss_mib / doormen as f64, load.rss_mib));
    for doorman in &mut running {
        doorman.kill().await.unwrap();
    }
    place.remove().await;
}

/// One more doorman, and one more.
async fn more(args: &Args, server: &str) {
    let (most, agents) = (args.of(6, 3), args.of(100, 10));
    let mut place = FleetPlace::make(server, "fleet_more", agents, args.ttl).await;
    let mut running = Vec::new();
    for doormen in 1..=most {
        running.push(place.start(doormen - 1));
        all_live(&place, "all are live").await;
        until("it is among the others", async || place.members().await == doormen).await;
        idles(args, &place, &running, &format!("idle: {doormen} doormen, {agents} agents")).await;
    }
    for doorman in &mut running {
        doorman.kill().await.unwrap();
    }
    place.remove().await;
}
