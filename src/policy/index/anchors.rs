//! A hash map from a handle, an owner, a slug or a folded name to the sets of patterns that may contain it: one look-up
//! for each kind, however many rules and list entries there are. A collision only evaluates one rule unnecessarily.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

/// Hashes a text of this kind, given in two pieces. The same on every run.
pub(crate) fn hash(kind: u8, head: &[u8], tail: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(kind);
    hasher.write(head);
    hasher.write(tail);
    hasher.finish()
}

/// The kinds of anchors.
pub(super) const HANDLE: u8 = b'h';
pub(super) const OWNER: u8 = b'o';
pub(super) const SLUG: u8 = b's';
pub(super) const NAME: u8 = b'n';

/// Collects anchors.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pairs: Vec<(u64, u32)>,
    names: bool,
}

/// Finished anchors.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    spans: HashMap<u64, (u32, u32), BuildHasherDefault<Ready>>,
    sets: Vec<u32>,
    /// Whether any of them is a name.
    pub(super) names: bool,
}

impl Collected {
    pub(super) fn add(&mut self, kind: u8, text: &str, set: u32) {
        self.names |= kind == NAME;
        self.pairs.push((hash(kind, text.as_bytes(), b""), set));
    }

    pub(super) fn finish(mut self) -> Anchors {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        let mut anchors = Anchors { names: self.names, ..Anchors::default() };
        anchors.spans.reserve(self.pairs.len());
        anchors.sets.reserve_exact(self.pairs.len());
        for same in self.pairs.chunk_by(|one, other| one.0 == other.0) {
            let from = anchors.sets.len() as u32;
            anchors.sets.extend(same.iter().map(|(_, set)| *set));
            anchors.spans.insert(same[0].0, (from, anchors.sets.len() as u32));
        }
        anchors
    }
}

impl Anchors {
    pub(super) fn find(&self, kind: u8, text: &str) -> &[u32] {
        match self.spans.get(&hash(kind, text.as_bytes(), b"")) {
            Some(&(from, to)) => &self.sets[from as usize..to as usize],
            None => &[],
        }
    }
}

/// A hasher for values that are already hashes.
#[derive(Debug, Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
