//! Tombstones: settled ids, kept so that an older page or an older event does not bring their requests back.
//!
//! They are kept in small generations. Settled ids go into the young generation. When it is full or has lasted long
//! enough, it becomes an old one. The oldest generation is forgotten as a whole, once it is old enough or enough
//! younger ids are remembered. So ids are hardly ever removed one by one, the memory of the oldest generation is used
//! for the youngest, and memory use no longer grows once the first generations are full.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use super::{GivenAnswer, Mark, Subject};
use crate::clock::Mono;
use crate::model::{Answer, ContactRequest, RequestId};
use crate::policy::By;

/// A listing that began this soon after a request was settled may be stale and is not believed about it.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(60);
/// How long a settled id is remembered at least, if no flood comes.
const KEPT: Duration = Duration::from_secs(900);
/// A generation takes ids in for this long.
const SPAN: Duration = Duration::from_secs(120);
/// An id is remembered at least until this many have been settled after it; at most two generations more.
pub(crate) const TOMBSTONES_MIN: usize = 14_000;
/// Most ids in one generation: as many as fit into a map of 2,048 slots.
const GENERATION_MAX: usize = 1_792;

/// A request's id as a short hash: many ids that outlive the flood in which they came would keep its memory fragmented.
/// Nobody can make two ids with the same hash.
type IdHash = [u64; 2];

fn short(id: &RequestId) -> IdHash {
    let digest = Sha256::digest(id.as_str().as_bytes());
    let half = |from: usize| digest.iter().skip(from).take(8).fold(0, |half, byte| half << 8 | u64::from(*byte));
    [half(0), half(8)]
}

/// One settled id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// When, in the order of events.
    pub mark: Mark,
    /// When, on the clock, to the millisecond.
    pub at: Mono,
    /// What we answered, if we did: the only answer it may get if it ever comes back.
    pub answer: Option<GivenAnswer>,
    /// The sender and time of the request.
    pub subject: Subject,
    /// The answer was for another sender than the request showed when it ended.
    pub changed: bool,
}

impl Tombstone {
    /// Whether it may be this request that has ended. One whose sender changed after its answer was decided is bound to that answer,
    /// whoever it shows: nobody can tell what became of it.
    pub(super) fn may_be(&self, request: &ContactRequest) -> bool {
        self.may_be_of(Subject::of(request))
    }

    /// The same, for what is known of a request.
    pub(super) fn may_be_of(&self, subject: Subject) -> bool {
        self.changed || self.subject.may_be(subject)
    }
}

/// The same, kept small: there are thousands of them after a flood.
#[derive(Debug)]
struct CompactTombstone {
    mark: Mark,
    end: CompactEnd,
    subject: Subject,
}

/// When and how it ended: milliseconds in the upper 48 bits, which is enough for thousands of years, and a [`TombstoneKind`] in the
/// lower 16.
#[derive(Debug, Clone, Copy)]
struct CompactEnd(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TombstoneKind {
    Settled,
    /// We answered it, by the name with that number, below [`NAMES_MAX`]; it showed another sender by then.
    Answered(Answer, u16, bool),
    /// It is forgotten, or is in a younger generation. It keeps its slot until the whole generation is forgotten: a
    /// full hash table from which entries are removed doubles before it takes the next one.
    Forgotten,
}

/// A generation with so many names is full: an id that is settled again may bring one more.
const NAMES_MAX: usize = GENERATION_MAX;

impl CompactEnd {
    fn new(at: Mono, kind: TombstoneKind) -> Self {
        // Rounded up: the id counts as doubtful a moment longer.
        let at_ms = u64::try_from(at.since_origin().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self(at_ms.min(u64::MAX >> 16) << 16).with(kind)
    }

    fn with(self, kind: TombstoneKind) -> Self {
        let kind = match kind {
            TombstoneKind::Settled => 0,
            TombstoneKind::Forgotten => 1,
            TombstoneKind::Answered(answer, name, changed) => {
                let answer = match answer {
                    Answer::Approve => 2,
                    Answer::Reject => 3,
                };
                u64::from(name) << 3 | u64::from(changed) << 2 | answer
            }
        };
        Self(self.0 >> 16 << 16 | kind)
    }

    fn at(self) -> Mono {
        Mono::from_origin(Duration::from_millis(self.0 >> 16))
    }

    fn kind(self) -> TombstoneKind {
        let answer = match self.0 & 3 {
            0 => return TombstoneKind::Settled,
            1 => return TombstoneKind::Forgotten,
            2 => Answer::Approve,
            _ => Answer::Reject,
        };
        TombstoneKind::Answered(answer, (self.0 >> 3 & 0x1fff) as u16, self.0 & 4 != 0)
    }
}

/// What gave an answer, and for how long it lets in.
type AnswerGrounds = (By, Option<SignedDuration>);

#[derive(Debug, Default)]
struct Generation {
    by_id: HashMap<IdHash, CompactTombstone>,
    /// The `by` of the answers, and for how long, each once.
    names: Vec<AnswerGrounds>,
    numbers: HashMap<AnswerGrounds, u16>,
    /// When the first and the last id came.
    span: Option<(Mono, Mono)>,
}

impl Generation {
    fn put(&mut self, short: IdHash, tombstone: Tombstone) {
        let first = self.span.map_or(tombstone.at, |(first, _)| first);
        self.span = Some((first, tombstone.at));
        let kind = match tombstone.answer {
            Some(answer) => self
                .number((answer.by, answer.lasts))
                .map_or(TombstoneKind::Settled, |by| TombstoneKind::Answered(answer.answer, by, tombstone.changed)),
            None => TombstoneKind::Settled,
        };
        let end = CompactEnd::new(tombstone.at, kind);
        let kept = CompactTombstone { mark: tombstone.mark, end, subject: tombstone.subject };
        // A full hash table grows before it checks whether the key is new.
        match self.by_id.get_mut(&short) {
            Some(before) => *before = kept,
            None => drop(self.by_id.insert(short, kept)),
        }
    }

    fn forget(&mut self, short: &IdHash) {
        if let Some(kept) = self.by_id.get_mut(short) {
            kept.end = kept.end.with(TombstoneKind::Forgotten);
        }
    }

    fn number(&mut self, word: AnswerGrounds) -> Option<u16> {
        if let Some(number) = self.numbers.get(&word) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok().filter(|number| usize::from(*number) < NAMES_MAX)?;
        self.names.push(word.clone());
        self.numbers.insert(word, number);
        Some(number)
    }

    fn get(&self, short: &IdHash) -> Option<Tombstone> {
        let kept = self.by_id.get(short)?;
        let (answer, changed) = match kept.end.kind() {
            TombstoneKind::Forgotten => return None,
            TombstoneKind::Settled => (None, false),
            TombstoneKind::Answered(answer, by, changed) => {
                let (by, lasts) = self.names.get(usize::from(by))?.clone();
                (Some(GivenAnswer { answer, by, lasts }), changed)
            }
        };
        Some(Tombstone { mark: kept.mark, at: kept.end.at(), answer, subject: kept.subject, changed })
    }

    /// Forgets all, and keeps the room.
    fn clear(&mut self) {
        self.by_id.clear();
        self.names.clear();
        self.numbers.clear();
        self.span = None;
    }

    /// Whether this id, and one more name, can be put in.
    fn has_room_for(&self, short: &IdHash) -> bool {
        self.names.len() < NAMES_MAX && (self.by_id.len() < GENERATION_MAX || self.by_id.contains_key(short))
    }

    fn older_than(&self, age: Duration, now: Mono, of: impl Fn((Mono, Mono)) -> Mono) -> bool {
        self.span.is_some_and(|span| now.since(of(span)) >= age)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    young: Generation,
    /// The youngest of them in front.
    old: VecDeque<Generation>,
    /// How many slots are used in the old generations.
    old_len: usize,
}

impl Tombstones {
    pub(super) fn put(&mut self, id: &RequestId, tombstone: Tombstone) {
        let short = short(id);
        // The update that follows our own answer must not make us forget what we said.
        let found = self.find(&short);
        if found.as_ref().is_some_and(|(_, is_young)| !is_young) {
            self.remove_old(&short);
        }
        let before = found.map(|(before, _)| before);
        let known = before.as_ref().map_or(tombstone.subject, |before| before.subject);
        let subject = if tombstone.subject == Subject::default() { known } else { tombstone.subject };
        let changed = match &before {
            Some(before) if tombstone.answer.is_none() => before.changed,
            Some(_) | None => tombstone.changed,
        };
        let answer = tombstone.answer.or(before.and_then(|before| before.answer));
        if !self.young.has_room_for(&short) {
            self.turn();
            // It may have been in what is old now.
            self.remove_old(&short);
        }
        self.young.put(short, Tombstone { answer, subject, changed, ..tombstone });
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<Tombstone> {
        self.find(&short(id)).map(|(tombstone, _)| tombstone)
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        let short = short(id);
        self.young.forget(&short);
        self.remove_old(&short);
    }

    pub(super) fn prune(&mut self, now: Mono) {
        if self.young.older_than(SPAN, now, |(first, _)| first) {
            self.turn();
        }
        while self.old.back().is_some_and(|oldest| oldest.older_than(KEPT, now, |(_, last)| last)) {
            self.forget_oldest();
        }
    }

    /// With whether it is in the young generation. No id is in two.
    fn find(&self, short: &IdHash) -> Option<(Tombstone, bool)> {
        if let Some(young) = self.young.get(short) {
            return Some((young, true));
        }
        self.old.iter().find_map(|generation| Some((generation.get(short)?, false)))
    }

    fn remove_old(&mut self, short: &IdHash) {
        self.old.iter_mut().for_each(|generation| generation.forget(short));
    }

    /// The young generation becomes an old one; old generations that are not needed are forgotten.
    fn turn(&mut self) {
        let mut room = None;
        while self.old.back().is_some_and(|oldest| self.places() - oldest.by_id.len() >= TOMBSTONES_MIN) {
            room = self.forget_oldest();
        }
        let mut next = room.unwrap_or_default();
        next.clear();
        let full = std::mem::replace(&mut self.young, next);
        self.old_len += full.by_id.len();
        self.old.push_front(full);
    }

    fn places(&self) -> usize {
        self.young.by_id.len() + self.old_len
    }

    fn forget_oldest(&mut self) -> Option<Generation> {
        let oldest = self.old.pop_back()?;
        self.old_len -= oldest.by_id.len();
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> RequestId {
        RequestId::parse(&format!("request-{number}")).unwrap()
    }

    fn tombstone(second: u64) -> Tombstone {
        Tombstone {
            mark: Mark::default(),
            at: Mono::ZERO + Duration::from_secs(second),
            answer: None,
            subject: Subject::default(),
            changed: false,
        }
    }

    fn answered(by: &str) -> Tombstone {
        Tombstone {
            answer: Some(GivenAnswer { answer: Answer::Reject, by: By::parse(by).unwrap(), lasts: None }),
            ..tombstone(0)
        }
    }

    #[test]
    fn as_many_as_promised_are_kept_and_no_more_than_twice_as_many() {
        let mut tombstones = Tombstones::default();
        let all = 5 * TOMBSTONES_MIN / 2;
        for number in 0..all {
            tombstones.put(&id(number), tombstone(0));
            tombstones.put(&id(number), tombstone(0));
        }
        assert!(tombstones.places() < TOMBSTONES_MIN + 2 * GENERATION_MAX);
        assert_eq!(tombstones.old_len, tombstones.old.iter().map(|generation| generation.by_id.len()).sum::<usize>());
        assert!(tombstones.get(&id(0)).is_none());
        assert!((all - TOMBSTONES_MIN..all).all(|number| tombstones.get(&id(number)).is_some()));
    }

    #[test]
    fn however_many_come_back_and_are_settled_again_it_takes_no_more_room() {
        let mut tombstones = Tombstones::default();
        for number in 0..10 * TOMBSTONES_MIN {
            tombstones.put(&id(number), tombstone(0));
            let back = number.saturating_sub(number % 5_000);
            tombstones.remove(&id(back));
            tombstones.put(&id(back), tombstone(0));
        }
        assert!(tombstones.places() < TOMBSTONES_MIN + 2 * GENERATION_MAX);
        let room = |generation: &Generation| generation.by_id.capacity();
        assert_eq!(tombstones.old.iter().map(room).max(), Some(GENERATION_MAX));
        assert_eq!(room(&tombstones.young), GENERATION_MAX);
    }

    #[test]
    fn what_we_said_is_remembered_from_one_generation_to_the_next() {
        let mut tombstones = Tombstones::default();
        for number in 0..TOMBSTONES_MIN {
            tombstones.put(&id(number), answered(if number % 2 == 0 { "even" } else { "odd" }));
        }
        assert_eq!(tombstones.get(&id(2)), Some(answered("even")), "of an old generation");
        assert_eq!(tombstones.get(&id(TOMBSTONES_MIN - 1)), Some(answered("odd")));
        // The update of our own answer, which comes later and does not say who answered.
        tombstones.put(&id(2), tombstone(0));
        assert_eq!(tombstones.get(&id(2)), Some(answered("even")));
        assert_eq!(tombstones.young.names.len(), 2, "each name is kept once");
    }

    #[test]
    fn a_flood_after_quiet_minutes_forgets_nobody_before_as_many_came() {
        let mut tombstones = Tombstones::default();
        for second in 0..600 {
            tombstones.put(&id(second), tombstone(second as u64));
            tombstones.prune(Mono::ZERO + Duration::from_secs(second as u64));
        }
        for number in 600..600 + TOMBSTONES_MIN {
            assert!(tombstones.get(&id(number - 600)).is_some(), "{number}");
            tombstones.put(&id(number), tombstone(600));
        }
        for number in 0..2 * TOMBSTONES_MIN {
            tombstones.put(&id(600 + TOMBSTONES_MIN + number), tombstone(601));
        }
        assert!(tombstones.get(&id(0)).is_none(), "but each is in the end");
        assert!(
            tombstones.old.len() <= TOMBSTONES_MIN / GENERATION_MAX + 2,
            "the quiet minutes' generations are gone, too"
        );
    }

    #[test]
    fn what_a_flood_took_is_given_back_when_it_is_forgotten() {
        let mut tombstones = Tombstones::default();
        for number in 0..TOMBSTONES_MIN {
            tombstones.put(&id(number), tombstone(0));
        }
        tombstones.prune(Mono::ZERO + KEPT);
        assert_eq!((tombstones.places(), tombstones.old.len(), tombstones.young.by_id.capacity()), (0, 0, 0));
    }

    #[test]
    fn one_that_came_back_and_was_settled_again_is_as_young_as_that() {
        let mut tombstones = Tombstones::default();
        tombstones.put(&id(1), tombstone(0));
        tombstones.remove(&id(1));
        assert!(tombstones.get(&id(1)).is_none());
        tombstones.put(&id(1), tombstone(800));
        tombstones.prune(Mono::ZERO + KEPT + Duration::from_secs(1));
        assert!(tombstones.get(&id(1)).is_some());
        tombstones.prune(Mono::ZERO + KEPT + Duration::from_secs(801));
        assert!(tombstones.get(&id(1)).is_none());
    }

    #[test]
    fn none_is_forgotten_before_its_time() {
        let mut tombstones = Tombstones::default();
        for second in 0..3000 {
            tombstones.put(&id(second), tombstone(second as u64));
            tombstones.prune(Mono::ZERO + Duration::from_secs(second as u64));
            assert!(tombstones.get(&id(second.saturating_sub(899))).is_some(), "{second}");
        }
        assert!(tombstones.get(&id(1000)).is_none(), "but each is in the end");
    }

    #[test]
    fn an_end_that_is_kept_small_is_read_as_it_was() {
        let ms = |ms| Mono::from_origin(Duration::from_millis(ms));
        let mut kinds = vec![TombstoneKind::Settled, TombstoneKind::Forgotten];
        for answer in [Answer::Approve, Answer::Reject] {
            for name in [0, 1, 1_000, NAMES_MAX as u16 - 1] {
                kinds.extend([false, true].map(|changed| TombstoneKind::Answered(answer, name, changed)));
            }
        }
        for kind in kinds {
            for at in [0, 1, 86_400_000, u64::MAX >> 16] {
                let end = CompactEnd::new(ms(at), kind);
                assert_eq!((end.at(), end.kind()), (ms(at), kind));
                let forgotten = end.with(TombstoneKind::Forgotten);
                assert_eq!((forgotten.at(), forgotten.kind()), (ms(at), TombstoneKind::Forgotten));
            }
        }
        assert_eq!(size_of::<(IdHash, CompactTombstone)>(), 48, "of each id that a flood settled");
    }

    #[test]
    fn a_generation_of_answers_by_as_many_names_keeps_each() {
        let mut tombstones = Tombstones::default();
        for number in 0..2 * GENERATION_MAX {
            tombstones.put(&id(number), answered(&format!("person:p{number}")));
        }
        for number in 0..2 * GENERATION_MAX {
            assert_eq!(tombstones.get(&id(number)), Some(answered(&format!("person:p{number}"))));
        }
    }

    #[test]
    fn an_id_that_is_settled_time_and_again_keeps_what_was_said_last() {
        let mut tombstones = Tombstones::default();
        for number in 0..3 * NAMES_MAX {
            let said = answered(&format!("person:p{number}"));
            tombstones.put(&id(0), said.clone());
            assert_eq!(tombstones.get(&id(0)), Some(said));
        }
    }

    #[test]
    fn a_moment_is_never_made_earlier_than_it_was() {
        let mut tombstones = Tombstones::default();
        let at = Mono::ZERO + Duration::from_micros(1500);
        tombstones.put(&id(1), Tombstone { at, ..tombstone(0) });
        assert!(tombstones.get(&id(1)).unwrap().at >= at);
    }
}
