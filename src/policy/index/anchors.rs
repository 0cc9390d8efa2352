//! From a handle, an owner, a slug or a folded name to the sets of patterns that may contain it: one look-up for each
//! kind, however many rules and list entries there are. A collision only evaluates one rule unnecessarily, so that 32
//! bits of a hash are enough: there may be a million entries.

use std::hash::{DefaultHasher, Hasher};

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

/// Fewer bits of a hash than this say where its pairs are looked for.
const BITS_MAX: u32 = 31;

/// Collects anchors.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pairs: Vec<(u32, u32)>,
    names: bool,
}

/// Finished anchors.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// Each hash with a set, in order.
    pairs: Box<[(u32, u32)]>,
    /// Where the pairs begin whose hashes begin with the same bits, by these bits; one more at the end.
    begins: Box<[u32]>,
    /// How many these bits are.
    bits: u32,
    /// Whether any of them is a name.
    pub(super) names: bool,
}

/// The half of the hash that is kept.
fn short(kind: u8, text: &str) -> u32 {
    (hash(kind, text.as_bytes(), b"") >> 32) as u32
}

impl Collected {
    pub(super) fn add(&mut self, kind: u8, text: &str, set: u32) {
        self.names |= kind == NAME;
        self.pairs.push((short(kind, text), set));
    }

    pub(super) fn finish(mut self) -> Anchors {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        // Some two pairs for each place.
        let bits = self.pairs.len().checked_ilog2().unwrap_or(0).clamp(1, BITS_MAX);
        let mut begins = vec![0_u32; (1 << bits) + 1];
        for (hash, _) in &self.pairs {
            begins[bucket_of(*hash, bits) + 1] += 1;
        }
        let mut before = 0;
        for begin in &mut begins {
            before += *begin;
            *begin = before;
        }
        Anchors { pairs: self.pairs.into(), begins: begins.into(), bits, names: self.names }
    }
}

fn bucket_of(hash: u32, bits: u32) -> usize {
    (hash >> (u32::BITS - bits)) as usize
}

impl Anchors {
    pub(super) fn find(&self, kind: u8, text: &str) -> impl Iterator<Item = u32> {
        let wanted = short(kind, text);
        let of_place = match self.begins.get(bucket_of(wanted, self.bits.max(1))..) {
            Some([from, to, ..]) => &self.pairs[*from as usize..*to as usize],
            _ => &[],
        };
        of_place.iter().filter(move |(hash, _)| *hash == wanted).map(|(_, set)| *set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_with_all_its_sets_and_no_other_kind_is() {
        for count in [0_u32, 1, 2, 3, 1_000] {
            let mut collected = Collected::default();
            for number in 0..count {
                collected.add(HANDLE, &format!("owner-{number}/bot"), number);
                collected.add(HANDLE, &format!("owner-{number}/bot"), number);
                collected.add(HANDLE, &format!("owner-{}/bot", number / 2), count + number);
                collected.add(OWNER, &format!("owner-{number}"), number);
            }
            let anchors = collected.finish();
            for number in 0..count {
                let found: Vec<u32> = anchors.find(HANDLE, &format!("owner-{number}/bot")).collect();
                let mut wanted = vec![number];
                wanted.extend((2 * number..2 * number + 2).filter(|odd| *odd < count).map(|odd| count + odd));
                assert_eq!(found, wanted, "{number} of {count}");
                assert_eq!(anchors.find(OWNER, &format!("owner-{number}")).collect::<Vec<_>>(), [number]);
            }
            assert_eq!(anchors.find(SLUG, "owner-0").count(), 0);
            assert_eq!(anchors.find(HANDLE, "nobody").count(), 0);
        }
        assert_eq!(Anchors::default().find(HANDLE, "nobody").count(), 0);
    }
}
