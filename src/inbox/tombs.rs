//! Tombstones: ids that are settled, so that an older page, or an older event, does not bring them back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Forced, Mark};
use crate::clock::Mono;
use crate::model::RequestId;

/// A listing that began this soon after a request was settled may be stale and is not believed about it.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(60);
/// How long a settled id is remembered.
const KEPT: Duration = Duration::from_secs(900);
/// How many are remembered at most; the oldest go first. As many as a map of 32,768 places holds.
pub const TOMBS_MAX: usize = 28_000;

/// A request's id, as short as can be: so many texts that outlive the burst they came with would keep its memory in pieces.
/// Nobody can make two ids that share one.
type Short = u128;

fn short(id: &RequestId) -> Short {
    let digest = Sha256::digest(id.as_str().as_bytes());
    digest.iter().take(16).fold(0, |short, byte| short << 8 | Short::from(*byte))
}

/// One settled id.
#[derive(Debug, Clone)]
pub struct Tomb {
    /// When, in the order of events.
    pub mark: Mark,
    /// When, on the clock.
    pub at: Mono,
    /// What we answered, if we did: the only answer it may get if it ever comes back.
    pub answer: Option<Forced>,
}

#[derive(Debug, Default)]
pub(super) struct Tombs {
    by_id: HashMap<Short, (u64, Tomb)>,
    /// By age; one whose number is not its tomb's stands for nothing any more.
    order: VecDeque<(u64, Short)>,
    numbers: u64,
}

impl Tombs {
    pub(super) fn put(&mut self, id: &RequestId, tomb: Tomb) {
        let short = short(id);
        if let Some((_, before)) = self.by_id.get_mut(&short) {
            // The update that follows our own answer must not make us forget what we said.
            let answer = tomb.answer.or_else(|| before.answer.take());
            *before = Tomb { answer, ..tomb };
            return;
        }
        self.numbers += 1;
        self.order.push_back((self.numbers, short));
        self.by_id.insert(short, (self.numbers, tomb));
        if self.by_id.len() > TOMBS_MAX || self.order.len() > 2 * TOMBS_MAX {
            self.drop_oldest();
        }
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<&Tomb> {
        self.by_id.get(&short(id)).map(|(_, tomb)| tomb)
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        self.by_id.remove(&short(id));
    }

    pub(super) fn prune(&mut self, now: Mono) {
        while let Some(place) = self.order.front() {
            let live = self.by_id.get(&place.1).filter(|(number, _)| *number == place.0);
            if live.is_some_and(|(_, tomb)| now.since(tomb.at) < KEPT) {
                break;
            }
            self.drop_oldest();
        }
        if self.by_id.is_empty() {
            self.by_id.shrink_to(64);
            self.order.shrink_to(64);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((number, short)) = self.order.pop_front()
            && self.by_id.get(&short).is_some_and(|(newest, _)| *newest == number)
        {
            self.by_id.remove(&short);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> RequestId {
        RequestId::parse(&format!("request-{number}")).unwrap()
    }

    fn tomb(number: usize) -> Tomb {
        Tomb { mark: Mark::default(), at: Mono::ZERO + Duration::from_secs(number as u64), answer: None }
    }

    #[test]
    fn the_newest_are_kept_and_no_more_than_the_bound() {
        let mut tombs = Tombs::default();
        for number in 0..2 * TOMBS_MAX {
            tombs.put(&id(number), tomb(0));
            tombs.put(&id(number), tomb(0));
        }
        assert_eq!(tombs.by_id.len(), TOMBS_MAX);
        assert!(tombs.get(&id(TOMBS_MAX - 1)).is_none());
        assert!((TOMBS_MAX..2 * TOMBS_MAX).all(|number| tombs.get(&id(number)).is_some()));
    }

    #[test]
    fn one_that_came_back_and_was_settled_again_is_as_young_as_that() {
        let mut tombs = Tombs::default();
        tombs.put(&id(1), tomb(0));
        tombs.remove(&id(1));
        tombs.put(&id(1), tomb(800));
        tombs.prune(Mono::ZERO + KEPT + Duration::from_secs(1));
        assert!(tombs.get(&id(1)).is_some());
        tombs.prune(Mono::ZERO + KEPT + Duration::from_secs(801));
        assert!(tombs.get(&id(1)).is_none() && tombs.order.is_empty());
    }

    #[test]
    fn coming_and_going_without_end_takes_no_more_than_the_bound() {
        let mut tombs = Tombs::default();
        for _ in 0..5 * TOMBS_MAX {
            tombs.put(&id(1), tomb(0));
            tombs.remove(&id(1));
        }
        assert!(tombs.order.len() <= 2 * TOMBS_MAX);
    }
}
