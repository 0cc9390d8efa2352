//! Tombstones: ids that are settled, so that an older page, or an older event, does not bring them back.
//!
//! Two generations: settled ids go into the young one; when that is full, or has lasted long enough, it becomes the old one,
//! and the old one is forgotten as a whole. So nothing is ever taken out one by one, and memory stays what it became when the
//! first generation was full, however many floods follow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Forced, Mark};
use crate::clock::Mono;
use crate::model::{Answer, RequestId};

/// A listing that began this soon after a request was settled may be stale and is not believed about it.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(60);
/// How long a settled id is remembered at least, if no flood comes.
const KEPT: Duration = Duration::from_secs(900);
/// How many are remembered at least, however many follow; at most twice as many. As many as a map of 16,384 places holds.
pub const TOMBS_MIN: usize = 14_000;
/// More than these in one generation is a flood: room for all of it is made at once, where it is in nobody's way. A table that
/// grew by and by would lie between what the flood leaves, and keep the allocator from giving it back.
const QUIET_MAX: usize = 1_792;

/// A request's id, as short as can be: so many texts that outlive the flood they came with would keep its memory in pieces.
/// Nobody can make two ids that share one.
type Short = [u64; 2];

fn short(id: &RequestId) -> Short {
    let digest = Sha256::digest(id.as_str().as_bytes());
    let half = |from: usize| digest.iter().skip(from).take(8).fold(0, |half, byte| half << 8 | u64::from(*byte));
    [half(0), half(8)]
}

/// One settled id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tomb {
    /// When, in the order of events.
    pub mark: Mark,
    /// When, on the clock, to the millisecond.
    pub at: Mono,
    /// What we answered, if we did: the only answer it may get if it ever comes back.
    pub answer: Option<Forced>,
}

/// The same, kept small.
#[derive(Debug)]
struct Kept {
    mark: Mark,
    at_ms: u64,
    answer: Option<(Answer, u32)>,
}

#[derive(Debug, Default)]
struct Generation {
    by_id: HashMap<Short, Kept>,
    /// The `by` of the answers, each once.
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// When the first came, and the last.
    span: Option<(Mono, Mono)>,
}

impl Generation {
    fn put(&mut self, short: Short, tomb: Tomb) {
        let first = self.span.map_or(tomb.at, |(first, _)| first);
        self.span = Some((first, tomb.at));
        // Rounded up: a moment later is a moment longer in doubt.
        let at_ms = u64::try_from(tomb.at.since_origin().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let answer = tomb.answer.and_then(|answer| Some((answer.answer, self.number(answer.by)?)));
        if self.by_id.len() == QUIET_MAX {
            self.by_id.reserve(TOMBS_MIN - QUIET_MAX);
        }
        self.by_id.insert(short, Kept { mark: tomb.mark, at_ms, answer });
    }

    fn number(&mut self, by: Arc<str>) -> Option<u32> {
        if let Some(number) = self.numbers.get(&by) {
            return Some(*number);
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.names.push(by.clone());
        self.numbers.insert(by, number);
        Some(number)
    }

    fn get(&self, short: &Short) -> Option<Tomb> {
        let kept = self.by_id.get(short)?;
        let answer = kept.answer.and_then(|(answer, by)| {
            let by = self.names.get(usize::try_from(by).ok()?)?.clone();
            Some(Forced { answer, by })
        });
        Some(Tomb { mark: kept.mark, at: Mono::from_origin(Duration::from_millis(kept.at_ms)), answer })
    }

    /// Forgets all, and keeps the room if there was a flood: the next takes it, and not what lies between others' memory.
    fn clear(&mut self) {
        if self.by_id.capacity() < TOMBS_MIN {
            self.by_id = HashMap::new();
        }
        self.by_id.clear();
        self.names.clear();
        self.numbers.clear();
        self.span = None;
    }

    fn older_than(&self, age: Duration, now: Mono, of: impl Fn((Mono, Mono)) -> Mono) -> bool {
        self.span.is_some_and(|span| now.since(of(span)) >= age)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tombs {
    young: Generation,
    old: Generation,
}

impl Tombs {
    pub(super) fn put(&mut self, id: &RequestId, tomb: Tomb) {
        let short = short(id);
        // The update that follows our own answer must not make us forget what we said.
        let before = self.find(&short).and_then(|before| before.answer);
        let answer = tomb.answer.or(before);
        if self.young.by_id.len() >= TOMBS_MIN && !self.young.by_id.contains_key(&short) {
            self.turn();
        }
        self.young.put(short, Tomb { answer, ..tomb });
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<Tomb> {
        self.find(&short(id))
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        let short = short(id);
        self.young.by_id.remove(&short);
        self.old.by_id.remove(&short);
    }

    pub(super) fn prune(&mut self, now: Mono) {
        if self.young.older_than(KEPT, now, |(first, _)| first) {
            self.turn();
        }
        if self.old.older_than(KEPT, now, |(_, last)| last) {
            self.old = Generation::default();
        }
    }

    fn find(&self, short: &Short) -> Option<Tomb> {
        self.young.get(short).or_else(|| self.old.get(short))
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.old, &mut self.young);
        self.young.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> RequestId {
        RequestId::parse(&format!("request-{number}")).unwrap()
    }

    fn tomb(second: u64) -> Tomb {
        Tomb { mark: Mark::default(), at: Mono::ZERO + Duration::from_secs(second), answer: None }
    }

    fn answered(by: &str) -> Tomb {
        Tomb { answer: Some(Forced { answer: Answer::Reject, by: by.into() }), ..tomb(0) }
    }

    #[test]
    fn as_many_as_promised_are_kept_and_no_more_than_twice_as_many() {
        let mut tombs = Tombs::default();
        let all = 5 * TOMBS_MIN / 2;
        for number in 0..all {
            tombs.put(&id(number), tomb(0));
            tombs.put(&id(number), tomb(0));
        }
        assert!(tombs.young.by_id.len() + tombs.old.by_id.len() <= 2 * TOMBS_MIN);
        assert!(tombs.get(&id(0)).is_none());
        assert!((all - TOMBS_MIN..all).all(|number| tombs.get(&id(number)).is_some()));
    }

    #[test]
    fn what_we_said_is_remembered_from_one_generation_to_the_next() {
        let mut tombs = Tombs::default();
        for number in 0..2 * TOMBS_MIN {
            tombs.put(&id(number), answered(if number % 2 == 0 { "even" } else { "odd" }));
        }
        assert_eq!(tombs.get(&id(2)), Some(answered("even")), "of the old generation");
        assert_eq!(tombs.get(&id(2 * TOMBS_MIN - 1)), Some(answered("odd")));
        // Its own update, which comes later and says nothing of who answered.
        tombs.put(&id(2), tomb(0));
        assert_eq!(tombs.get(&id(2)), Some(answered("even")));
        assert_eq!(tombs.young.names.len(), 1, "each name is kept once");
    }

    #[test]
    fn one_that_came_back_and_was_settled_again_is_as_young_as_that() {
        let mut tombs = Tombs::default();
        tombs.put(&id(1), tomb(0));
        tombs.remove(&id(1));
        assert!(tombs.get(&id(1)).is_none());
        tombs.put(&id(1), tomb(800));
        tombs.prune(Mono::ZERO + KEPT + Duration::from_secs(1));
        assert!(tombs.get(&id(1)).is_some());
        tombs.prune(Mono::ZERO + KEPT + Duration::from_secs(801));
        assert!(tombs.get(&id(1)).is_none());
    }

    #[test]
    fn none_is_forgotten_before_its_time() {
        let mut tombs = Tombs::default();
        for second in 0..3000 {
            tombs.put(&id(second), tomb(second as u64));
            tombs.prune(Mono::ZERO + Duration::from_secs(second as u64));
            assert!(tombs.get(&id(second.saturating_sub(899))).is_some(), "{second}");
        }
        assert!(tombs.get(&id(1000)).is_none(), "but each is in the end");
    }

    #[test]
    fn a_moment_is_never_made_earlier_than_it_was() {
        let mut tombs = Tombs::default();
        let at = Mono::ZERO + Duration::from_micros(1500);
        tombs.put(&id(1), Tomb { at, ..tomb(0) });
        assert!(tombs.get(&id(1)).unwrap().at >= at);
    }
}
