//! Plays any number of seeds of the simulation: `cargo run --release --example simulate -- --seeds 10000`. `--from N`
//! sets the first seed (seeds from 4294967296 on have a decider, from 8589934592 on several doormen), `--first` stops at the first failure. `SIM_TRACE=1
//! cargo run --example simulate -- --seed 42` plays one seed alone. Prints what each failing seed found; exits with 1
//! if one failed, with 2 for invalid arguments.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a simulation that fails may say so"
)]

mod sim;

use std::process::ExitCode;
use std::time::Instant;

/// Seeds between two lines of progress.
const PROGRESS: u64 = 1_000;

fn main() -> ExitCode {
    let Some(Options { from, count, first }) = options(std::env::args().skip(1)) else {
        eprintln!("usage: simulate [--seeds COUNT] [--from SEED] [--first] | --seed SEED");
        return ExitCode::from(2);
    };
    let (seeds, began): (Vec<u64>, _) = ((from..from.saturating_add(count)).collect(), Instant::now());
    // What a seed found is printed below, by seed.
    std::panic::set_hook(Box::new(|_| ()));
    let played = sim::play(&seeds, first, |through| {
        if through % PROGRESS == 0 && through < count {
            eprintln!("{through} of {count} seeds, {:.0} s", began.elapsed().as_secs_f64());
        }
    });
    for (_, found) in &played.failed {
        println!("{found}");
    }
    println!(
        "{count} seeds, {}: {} failed, {:.1} s",
        played.summary,
        played.failed.len(),
        began.elapsed().as_secs_f64()
    );
    if played.failed.is_empty() && count >= PROGRESS {
        for fault in played.summary.missing(sim::faults(from)) {
            println!("never happened: {fault}");
        }
    }
    ExitCode::from(u8::from(!played.failed.is_empty()))
}

struct Options {
    from: u64,
    count: u64,
    first: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { from: 0, count: 1_000, first: false };
    while let Some(arg) = args.next() {
        if arg == "--first" {
            options.first = true;
            continue;
        }
        let number: u64 = args.next()?.parse().ok()?;
        match arg.as_str() {
            "--seeds" => options.count = number,
            "--from" => options.from = number,
            "--seed" => (options.from, options.count) = (number, 1),
            _ => return None,
        }
    }
    Some(options)
}
