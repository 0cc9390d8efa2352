//! Plays any number of seeds of the simulation: `cargo run --release --example simulate -- --seeds 10000`, or one alone:
//! `SIM_TRACE=1 cargo run --example simulate -- --seed 42`. Says what each failing seed found; exit 1 where one did.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a simulation that fails may say so"
)]

#[path = "../tests/simulation/checks.rs"]
mod checks;
#[path = "../tests/simulation/platform.rs"]
mod platform;
#[path = "../tests/simulation/record.rs"]
mod record;
#[path = "../tests/simulation/rules.rs"]
mod rules;
#[path = "../tests/simulation/schedule.rs"]
mod schedule;
#[path = "../tests/simulation/server.rs"]
mod server;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use world::World;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let seeds = match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(1_000),
    };
    let policies = rules::policies();
    let (mut failed, mut steps, mut answers, mut knocks, mut lives) = (0_u32, 0, 0, 0, 0);
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| World::new(seed, &policies).run())) {
            Ok(summary) => {
                steps += summary.steps;
                answers += summary.answers;
                knocks += summary.knocks;
                lives += summary.lives;
            }
            Err(_) => failed += 1,
        }
    }
    println!(
        "{} seeds, {steps} steps, {knocks} requests, {answers} answers, {lives} lives: {failed} failed",
        seeds.count()
    );
    ExitCode::from(u8::from(failed > 0))
}
