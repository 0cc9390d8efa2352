//! The pure stages together, under virtual time, with everything going wrong: seeds by the thousand.
//!
//! A failing seed names itself; `SIM_TRACE=1` adds what led to it, and
//! `cargo run --release --example simulate -- --seed N` plays it alone. Seeds that once failed are kept in `REGRESSIONS`.

mod checks;
mod platform;
mod record;
mod rules;
mod schedule;
mod server;
mod world;

use world::World;

/// Seeds that found something once.
const REGRESSIONS: &[u64] = &[];

#[test]
fn whatever_happens_nobody_is_lost_and_nobody_is_answered_twice() {
    let policies = rules::policies();
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000_u64);
    let mut answers = 0;
    for seed in REGRESSIONS.iter().copied().chain(0..seeds) {
        answers += World::new(seed, &policies).run().answers;
    }
    assert!(answers > seeds as usize, "the world was too quiet to prove anything: {answers} answers");
}

/// Plays many seeds and collects what fails, instead of ending with the first.
#[test]
fn survey() {
    let Some(seeds) = std::env::var("SIM_SURVEY").ok().and_then(|text| text.parse::<u64>().ok()) else { return };
    let policies = rules::policies();
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for seed in 0..seeds {
        let policies = policies.clone();
        if let Err(panic) = std::panic::catch_unwind(move || World::new(seed, &policies).run()) {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
                .unwrap_or_default();
            let key: String = text
                .split(": ")
                .skip(2)
                .collect::<Vec<_>>()
                .join(": ")
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(70)
                .collect();
            let key = if key.is_empty() { text.clone() } else { key };
            found.entry(key).or_default().push(seed);
        }
    }
    for (what, seeds) in found {
        println!("{:5} {what}  e.g. {:?}", seeds.len(), &seeds[..seeds.len().min(4)]);
    }
}

/// Plays `SIM_ONE` alone.
#[test]
fn one() {
    if let Some(seed) = std::env::var("SIM_ONE").ok().and_then(|text| text.parse().ok()) {
        World::new(seed, &rules::policies()).run();
    }
}
