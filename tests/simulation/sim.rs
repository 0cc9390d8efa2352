//! Runs in virtual time, each determined by one number (the seed): the real core against models of the platform and of
//! the ledger, with all kinds of faults. A run is called an evening. See `docs/simulation.md`.

mod asked;
mod behind;
mod checks;
mod contacts;
mod doings;
mod events;
mod guests;
mod keys;
mod past;
mod platform;
mod record;
mod rules;
mod schedule;
mod server;
mod steps;
mod summary;
mod truth;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

pub use asked::FROM as ASKED_FROM;
pub use summary::Summary;
use world::World;

/// The result of many seeds.
#[derive(Debug, Default)]
pub struct Played {
    /// The summary of all seeds that passed.
    pub summary: Summary,
    /// For each failing seed, what it found.
    pub failed: Vec<(u64, String)>,
}

/// Plays these seeds on all cores. With `first`, no seed begins after the first failure. After each seed `done` gets
/// the number of finished seeds.
pub fn play(seeds: &[u64], first: bool, done: impl Fn(u64) + Sync) -> Played {
    let (policies, asking) = (rules::policies(), rules::asking());
    let traced = std::env::var_os("SIM_TRACE").is_some();
    let (next, through, failed) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let played = Mutex::new(Played::default());
    let player = || {
        let mut mine = Played::default();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if first && failed.load(Ordering::Relaxed) {
                break;
            }
            let policies = if seed >= asked::FROM { &asking } else { &policies };
            match catch_unwind(AssertUnwindSafe(|| World::new(seed, policies, traced).run().0)) {
                Ok(summary) => mine.summary.add(&summary),
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
