//! Hours with everything that can go wrong: does the daemon perform in the end as in the first minutes?
//!
//! `cargo bench --bench soak -- [--minutes N] [--rate N] [--seed N]` runs the real binary against a sandbox in this
//! process, with a fault every few seconds, and prints a row after each sixtieth of the time. In the end every request
//! that a rule decides must have been answered, with one verdict, and memory, descriptors, tasks and latency must be
//! within a tenth of their values in the first sixth. Exit code 1 if a request was lost or answered twice, 2 if only a
//! figure is off.
//!
//! A row's latencies are those of the requests that were pushed. The comparison at the end uses the time from each
//! request that a rule decides to the platform's acceptance of the answer, whether the request was pushed or only
//! listed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench prints, and ends if something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod daemon;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use daemon::{Daemon, Sample, quantile};
use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{
    Control, Fault, FaultAction, FaultPlace, NewRequest, Sandbox, SandboxOptions, SandboxStatus, World,
};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};

const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
const KEY: &str = "key-of-the-bench";
const RULES: &str = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n\
                     [rules.foes]\nthen = \"reject\"\nwhen = { handle = \"foes/*\" }\n\
                     [rules.guests]\nthen = \"approve\"\nwhen = { owner = \"guests\" }\n\
                     limit = { count = 100, per = \"1m\" }\n";
/// Shorter than the defaults, so that an hour contains many times the events of a day.
const TIMING: &str = "heartbeat = \"2s\"\ndead_after = \"5s\"\njoin_timeout = \"5s\"\nbackoff_min = \"100ms\"\n\
                      backoff_max = \"2s\"\nproven_after = \"3s\"\nlist_live = \"5s\"\nlist_away = \"2s\"\n\
                      yield_retry = \"2s\"\nghost_window = \"5s\"\nghost_retry = \"500ms\"\nretry_after_max = \"2s\"\n";
/// Rows in all.
const ROWS: u32 = 60;
/// After this long, deferred requests are cancelled by their senders or answered by a person.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this long a contact is removed: the memory of an agent grows with the number of its contacts.
const STAY: Duration = Duration::from_secs(60);
/// In the end, after all faults, no request stays unanswered for longer than this.
const CALM: Duration = Duration::from_secs(120);

struct Args {
    minutes: f64,
    rate: u32,
    seed: u64,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let mut args = Self { minutes: 60.0, rate: 50, seed: 1 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("`{word}` needs a number"));
            let wrong = |_| format!("`{word}` needs a number");
            match word.as_str() {
                "--minutes" => {
                    args.minutes = value()?.parse::<f64>().map_err(|_| format!("`{word}` needs a number"))?
                }
                "--rate" => args.rate = value()?.parse::<u32>().map_err(wrong)?.max(1),
                "--seed" => args.seed = value()?.parse::<u64>().map_err(wrong)?,
                // An argument that Cargo adds.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`: --minutes, --rate, --seed N")),
            }
        }
        if args.minutes > 0.0 { Ok(args) } else { Err("`--minutes` needs more than none".to_owned()) }
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args = Args::parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(run(&args)))
}

/// One fault of the platform.
fn fault(rng: &mut Rng) -> Fault {
    let (at, what) = rng
        .choice([
            (FaultPlace::Push, FaultAction::Drop),
            (FaultPlace::Push, FaultAction::Malformed),
            (FaultPlace::Push, FaultAction::Duplicate),
            (FaultPlace::Push, FaultAction::Reorder),
            (FaultPlace::Push, FaultAction::Delay),
            (FaultPlace::Push, FaultAction::Close),
            (FaultPlace::Push, FaultAction::CrashChannel),
            (FaultPlace::Respond, FaultAction::Status),
            (FaultPlace::Respond, FaultAction::Drop),
            (FaultPlace::Respond, FaultAction::Malformed),
            (FaultPlace::Respond, FaultAction::Delay),
            (FaultPlace::Respond, FaultAction::ApplyThenFail),
            (FaultPlace::Respond, FaultAction::Close),
            (FaultPlace::List, FaultAction::Status),
            (FaultPlace::List, FaultAction::Drop),
            (FaultPlace::List, FaultAction::Malformed),
            (FaultPlace::List, FaultAction::Reorder),
            (FaultPlace::List, FaultAction::Duplicate),
            (FaultPlace::Join, FaultAction::Drop),
            (FaultPlace::Join, FaultAction::Status),
            (FaultPlace::Join, FaultAction::Malformed),
            (FaultPlace::Join, FaultAction::ApplyThenFail),
            (FaultPlace::Upgrade, FaultAction::Status),
            (FaultPlace::Upgrade, FaultAction::Drop),
            (FaultPlace::Heartbeat, FaultAction::Drop),
            (FaultPlace::Heartbeat, FaultAction::Malformed),
            (FaultPlace::Any, FaultAction::Supersede),
            (FaultPlace::Any, FaultAction::Ghost),
            (FaultPlace::Any, FaultAction::Stall),
        ])
        .unwrap();
    let fault = Fault::new(at, what).count(rng.u64(1..6));
    match what {
        FaultAction::Status if at != FaultPlace::Join => fault.code(rng.choice([429, 500, 502, 503]).unwrap()).ms(1000),
        FaultAction::Ghost | FaultAction::Stall => fault.count(1).ms(3000),
        FaultAction::Delay => fault.ms(rng.u64(50..1500)),
        _ => fault,
    }
}

/// The platform, which goes away and comes back, and everything else that disturbs the daemon.
struct Disturbances {
    sandbox: Option<Sandbox>,
    control: Control,
    address: SocketAddr,
    rng: Rng,
    happened: u64,
}

impl Disturbances {
    async fn strike(&mut self, daemon: &Daemon) {
        self.happened += 1;
        match self.rng.u8(0..20) {
            0 => {
                self.sandbox.take().unwrap().stop().await;
                self.away().await;
            }
            1 => {
                self.sandbox.take().unwrap().kill().await;
                self.away().await;
            }
            2 => kill(daemon.pid(), Signal::SIGHUP).unwrap(),
            3 => drop(self.control.kick(AGENT, Some(self.rng.choice([0, 1000, 1001, 1012]).unwrap()))),
            4 => {
                daemon.command(&["pause"]).await;
                self.pause(500).await;
                daemon.command(&["resume"]).await;
            }
            _ => {
                let fault = fault(&mut self.rng);
                self.control.fault(fault).unwrap();
            }
        }
    }

    async fn away(&mut self) {
        self.pause(1500).await;
        self.sandbox = Some(Sandbox::resume(self.address, self.control.clone()).await.unwrap());
    }

    async fn pause(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..most_ms))).await;
    }
}

/// Sends requests of all kinds at the rate, until the given time; returns their number.
async fn strangers(control: Control, rate: u32, seed: u64, until: Instant) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let (mut deferred, mut contacts) = (VecDeque::new(), VecDeque::new());
    let mut number = 0;
    while Instant::now() < until {
        tick.tick().await;
        number += 1;
        let who = match rng.u8(0..100) {
            0..=44 => "friends",
            45..=79 => "foes",
            80..=94 => "guests",
            _ => "strangers",
        };
        let id = format!("{who}-{number}");
        let push = rng.u8(0..50) != 0;
        let handle = format!("{who}/{number}");
        let new = NewRequest { push: Some(push), ..NewRequest::to(AGENT) };
        control.request(&new.from(&handle).id(&id)).unwrap();
        contacts.push_back((Instant::now() + STAY, handle));
        while contacts.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, handle) = contacts.pop_front().unwrap();
            // Most of them were never approved.
            let _ = control.remove_contact(AGENT, &handle);
        }
        if matches!(who, "guests" | "strangers") {
            deferred.push_back((Instant::now() + PATIENCE, id));
        }
        while deferred.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, id) = deferred.pop_front().unwrap();
            let end = rng
                .choice([
                    SandboxStatus::Cancelled,
                    SandboxStatus::Expired,
                    SandboxStatus::Approved,
                    SandboxStatus::Rejected,
                ])
                .unwrap();
            // A guest may have been answered already; that answer stands.
            let _ = control.settle(&id, end);
        }
    }
    for (_, id) in deferred {
        let _ = control.settle(&id, SandboxStatus::Cancelled);
    }
    number
}

/// The status that a rule gives a request; `None` for guests and strangers, who may stay pending.
fn due(id: &str) -> Option<SandboxStatus> {
    match id.split('-').next() {
        Some("friends") => Some(SandboxStatus::Approved),
        Some("foes") => Some(SandboxStatus::Rejected),
        _ => None,
    }
}

/// The median time to an answer, in microseconds, of the requests that a rule decides, in the first and in the last
/// sixth.
fn waits(requests: &[RequestState]) -> (u64, u64) {
    let end = requests.iter().map(|request| request.at_us).max().unwrap_or_default();
    let begin = requests.iter().map(|request| request.at_us).min().unwrap_or_default();
    let sixth = (end - begin) / 6;
    let median = |from: u64, to: u64| {
        let mut waits: Vec<u64> = requests
            .iter()
            .filter(|request| (from..=to).contains(&request.at_us) && due(&request.id).is_some())
            .filter_map(|request| {
                let taken = request.answers.iter().find(|answer| answer.http == 200)?;
                Some(taken.at_us.saturating_sub(request.at_us))
            })
            .collect();
        waits.sort_unstable();
        quantile(&waits, 0.5)
    };
    (median(begin, begin + sixth), median(end - sixth, end))
}

/// The requests that a rule decides and that were not answered by that rule, with one verdict.
fn wronged(requests: &[RequestState]) -> Vec<String> {
    let wrong = |request: &RequestState| match due(&request.id) {
        Some(status) => request.status != status || request.answers.iter().any(|answer| answer.status != status),
        // The rule approves guests up to its limit, and rejects nobody.
        None => {
            let approve = request.id.starts_with("guests");
            request.status == SandboxStatus::Pending
                || request.answers.iter().any(|answer| !approve || answer.status != SandboxStatus::Approved)
        }
    };
    requests.iter().filter(|request| wrong(request)).map(|request| format!("{request:?}")).collect()
}

async fn run(args: &Args) -> ExitCode {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let (control, address) = (sandbox.control(), sandbox.address());
    println!(
        "doorman {}; one agent; {} requests/s for {} minutes; a fault every 1 to 6 s, seed {}; {} CPUs, shared",
        env!("CARGO_PKG_VERSION"),
        args.rate,
        args.minutes,
        args.seed,
        std::thread::available_parallelism().unwrap()
    );
    println!("timing: {}\n", TIMING.replace('\n', "  "));
    let mut daemon = Daemon::start(&sandbox.url(), AGENT, KEY, RULES, TIMING).await;
    let mut trouble = Disturbances {
        sandbox: Some(sandbox),
        control: control.clone(),
        address,
        rng: Rng::with_seed(args.seed),
        happened: 0,
    };
    let begun = Instant::now();
    let whole = Duration::from_secs_f64(args.minutes * 60.0);
    let strangers = tokio::spawn(strangers(control.clone(), args.rate, args.seed, begun + whole));
    println!("{}", Sample::HEAD);
    let mut samples = Vec::new();
    let mut strike = begun;
    for row in 1..=ROWS {
        let end = begun + whole * row / ROWS;
        while Instant::now() < end {
            if strike <= Instant::now() {
                trouble.strike(&daemon).await;
                strike = Instant::now() + Duration::from_millis(trouble.rng.u64(1000..6000));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut latencies = control.latencies();
        control.clear_latencies();
        latencies.sort_unstable();
        let sample = Sample::take(&mut daemon, begun, &latencies, &control.counts()).await;
        println!("{sample}");
        samples.push(sample);
    }
    let asked = strangers.await.unwrap();
    control.clear_faults();
    let waiting = |control: &Control| control.counts().pending;
    let calm = Instant::now();
    while waiting(&control) > 0 && calm.elapsed() < CALM {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "\n{asked} requests, {} faults, all over {:.1} s after the last",
        trouble.happened,
        calm.elapsed().as_secs_f64()
    );
    let code = verdict(&samples, &control.state().requests);
    daemon.stop().await;
    code
}

fn verdict(samples: &[Sample], requests: &[RequestState]) -> ExitCode {
    let wronged = wronged(requests);
    let sixth = (samples.len() / 6).max(1);
    let (first, last) = (&samples[..sixth], &samples[samples.len() - sixth..]);
    let most = |samples: &[Sample], of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
    let held = Sample::HELD.map(|(what, of)| (what, (most(first, of), most(last, of))));
    let mut flat = true;
    for (what, (first, last)) in held.into_iter().chain([("median wait, us", waits(requests))]) {
        let within = last * 10 <= first * 11;
        flat &= within;
        println!(
            "{what:<28} first sixth {first:>8}   last sixth {last:>8}   {}",
            if within { "within 10 %" } else { "MORE THAN 10 % above" }
        );
    }
    match wronged.as_slice() {
        [] => println!("nobody was lost, nobody answered with two verdicts"),
        [one, ..] => println!("{} WERE WRONGED, such as {one}", wronged.len()),
    }
    match (wronged.is_empty(), flat) {
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
    }
}
