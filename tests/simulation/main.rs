//! The pure stages together, under virtual time, with everything going wrong: seeds by the thousand.
//!
//! A failing seed names itself; `SIM_TRACE=1` adds what led to it, and
//! `cargo run --release --example simulate -- --seed N` plays it alone. Seeds that once failed are kept in `REGRESSIONS`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a simulation that fails may say so")]

mod sim;

/// Played by every `cargo test`; `SIM_SEEDS` plays another number.
const SEEDS: u64 = 2_000;

/// Seeds that found something once, and what.
const REGRESSIONS: &[(u64, &str)] = &[];

#[test]
fn whatever_happens_nobody_is_lost_and_nobody_is_answered_twice() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let seeds: Vec<u64> = REGRESSIONS.iter().map(|(seed, _)| *seed).chain(0..seeds).collect();
    let played = sim::play(&seeds, |_| ());
    assert_eq!(played.failed, [], "replay one with `SIM_TRACE=1 cargo run --release --example simulate -- --seed N`");
    assert_eq!(played.summary.missing(), [""; 0], "faults that never happened, so that nothing was proven of them");
    let answers = played.summary.answers;
    assert!(answers > seeds.len() as u64, "the world was too quiet to prove anything: {answers} answers");
}
