//! Runs in virtual time, each determined by one number (the seed): the real core against models of the platform and of
//! the ledger, with all kinds of faults. A run is called an evening. See `docs/simulation.md`.

mod actions;
mod checks;
mod contacts;
mod deciders;
mod ended;
mod events;
mod fleet;
mod guests;
mod history;
mod keys;
mod platform;
mod record;
mod rules;
mod schedule;
mod server;
mod steps;
mod summary;
mod truth;
mod unseen_changes;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

#[cfg(test)]
pub use deciders::FROM as ASKED_FROM;
#[cfg(test)]
pub use fleet::FROM as FLEET_FROM;
pub use summary::Summary;
use world::SimWorld;

/// The result of many seeds.
#[derive(Debug, Default)]
pub struct Played {
    /// The summary of all seeds that passed.
    pub summary: Summary,
    /// For each failing seed, what it found.
    pub failed: Vec<(u64, String)>,
}

/// What must have happened in many evenings with numbers from this one on.
pub fn faults(from: u64) -> Vec<&'static str> {
    match from {
        fleet::FROM.. => fleet::FAULTS.to_vec(),
        deciders::FROM.. => summary::FAULTS.iter().chain(summary::ASKED).copied().collect(),
        _ => summary::FAULTS.to_vec(),
    }
}

/// Plays these seeds on all cores. With `first`, no seed begins after the first failure. After each seed `done` gets
/// the number of finished seeds.
pub fn play(seeds: &[u64], first: bool, done: impl Fn(u64) + Sync) -> Played {
    let (policies, asking, pushed) = (rules::policies(), rules::asking(), fleet::policies());
    let traced = std::env::var_os("SIM_TRACE").is_some();
    let whole = std::env::var("SIM_TRACE").is_ok_and(|what| what == "all");
    let (next, through, failed) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let played = Mutex::new(Played::default());
    let player = || {
        let mut mine = Played::default();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if first && failed.load(Ordering::Relaxed) {
                break;
            }
            let evening = || match seed {
                fleet::FROM.. => fleet::play(seed, &pushed, traced),
                deciders::FROM.. => SimWorld::new(seed, &asking, traced).run(),
                _ => SimWorld::new(seed, &policies, traced).run(),
            };
            match catch_unwind(AssertUnwindSafe(evening)) {
                Ok((summary, trace)) => {
                    mine.summary.add(&summary);
                    trace.iter().filter(|_| whole).for_each(|line| eprintln!("{line}"));
                }
                Err(panic) => {
                    failed.store(true, Ordering::Relaxed);
                    mine.failed.push((seed, said(panic.as_ref())));
                }
            }
            done(through.fetch_add(1, Ordering::Relaxed) + 1);
        }
        let mut all = played.lock().unwrap();
        all.summary.add(&mine.summary);
        all.failed.append(&mut mine.failed);
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(player);
        }
    });
    let mut played = played.into_inner().unwrap();
    played.failed.sort();
    played
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
#[test]
fn an_evening_is_determined_by_its_seed() {
    let (policies, asking) = (rules::policies(), rules::asking());
    // On the last ones, many requests are called gone at once.
    for seed in [0, 7, 13, deciders::FROM + 1, deciders::FROM + 114, deciders::FROM + 293] {
        let policies = if seed >= deciders::FROM { &asking } else { &policies };
        let [one, other] = [(); 2].map(|()| SimWorld::new(seed, policies, true).run().1);
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert!(one.len() == other.len() && differs.is_none(), "seed {seed}: {differs:?}");
    }
}
