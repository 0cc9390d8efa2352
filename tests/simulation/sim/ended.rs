//! Evenings with strangers whose rule ends, and with strangers of one owner whose approvals are counted by handle.

use std::time::Duration;

use super::deciders;
use super::rules::{EACH, ENDED};
use super::schedule::WorldEvent;

/// The evenings: not those that found something before there were such strangers.
pub fn plays(seed: u64) -> bool {
    (600..deciders::FROM).contains(&seed) && seed % 11 == 4
}

/// The events of such an evening.
pub fn programme(rng: &mut fastrand::Rng, rough: Duration) -> Vec<(Duration, WorldEvent)> {
    let mut list = Vec::new();
    for (kind, count) in [(ENDED, rng.usize(4..12)), (EACH, rng.usize(8..24))] {
        list.extend((0..count).map(|_| (rough.mul_f64(rng.f64()), WorldEvent::SentRequest { kind })));
    }
    list
}
