//! The pure stages together, under virtual time, with everything going wrong: seeds by the thousand.
//!
//! A failing seed names itself; `SIM_TRACE=1` adds what led to it, and
//! `cargo run --release --example simulate -- --seed N` plays it alone. Seeds that once failed are kept in `REGRESSIONS`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a simulation that fails may say so")]

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
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300_u64);
    let mut answers = 0;
    for seed in REGRESSIONS.iter().copied().chain(0..seeds) {
        answers += World::new(seed, &policies).run().answers;
    }
    assert!(answers > seeds as usize, "the world was too quiet to prove anything: {answers} answers");
}
