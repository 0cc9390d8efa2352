//! The guard `look-alike`: senders whose handle's owner part, or whole name, looks like a protected owner.
//!
//! Two texts look alike when their UTS #39 skeletons are the same after case folding, or when both are ASCII and one
//! edit apart (a character inserted, left out, replaced, or swapped with its neighbour) and the protected owner has
//! four characters or more. A name that *is* a protected owner's, on somebody else's request, looks like it, too. A
//! sender whose owner is protected looks like nobody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use unicode_security::confusable_detection::skeleton;

use super::index::anchors::hash;
use super::text::fold;
use crate::model::Handle;

/// Protected owners shorter than this are compared by skeleton alone: one edit from `bob` is half the dictionary.
const EDIT_LENGTH_MIN: usize = 4;

/// Protected owners, made ready for comparing. One question costs as many look-ups as the asked text has characters,
/// however many owners there are.
#[derive(Debug, Default)]
pub struct LookAlikes {
    owners: Vec<Arc<str>>,
    exact: HashSet<Arc<str>>,
    skeletons: HashMap<Box<str>, u32>,
    /// Hashes of each owner that is compared by edits, and of each of its texts with one character left out.
    edits: HashMap<u64, Vec<u32>>,
    longest: usize,
}

/// What looked like whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookAlike {
    /// The protected owner.
    pub owner: Arc<str>,
    /// Whether it was the name; else the handle's owner part.
    pub by_name: bool,
}

impl LookAlikes {
    /// Takes protected owners, lower case.
    pub fn build(protect: &[Arc<str>]) -> Self {
        let mut owners = protect.to_vec();
        owners.sort_unstable();
        owners.dedup();
        let exact = owners.iter().cloned().collect();
        let (mut skeletons, mut edits) = (HashMap::new(), HashMap::<u64, Vec<u32>>::new());
        let mut longest = 0;
        for (id, owner) in (0..).zip(&owners) {
            skeletons.entry(bones(&fold(owner)).into()).or_insert(id);
            if owner.is_ascii() && owner.len() >= EDIT_LENGTH_MIN {
                longest = longest.max(owner.len());
                for shorter in neighbourhood(owner) {
                    let ids = edits.entry(shorter).or_default();
                    if ids.last() != Some(&id) {
                        ids.push(id);
                    }
                }
            }
        }
        Self { owners, exact, skeletons, edits, longest }
    }

    /// Whether nobody is protected.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whom this sender looks like, if anybody. `name` is folded already.
    pub fn check(&self, handle: &Handle, name: Option<&str>) -> Option<LookAlike> {
        if self.is_empty() || self.exact.contains(handle.owner()) {
            return None;
        }
        if let Some(owner) = self.find(handle.owner()) {
            return Some(LookAlike { owner, by_name: false });
        }
        let name = name?.trim();
        let name = name.strip_prefix('@').unwrap_or(name);
        self.find(name).map(|owner| LookAlike { owner, by_name: true })
    }

    fn find(&self, folded: &str) -> Option<Arc<str>> {
        let id = self.skeletons.get(bones(folded).as_str()).copied().or_else(|| self.one_edit_away(folded))?;
        self.owners.get(id as usize).cloned()
    }

    fn one_edit_away(&self, text: &str) -> Option<u32> {
        if self.edits.is_empty() || !text.is_ascii() || text.len() > self.longest + 1 {
            return None;
        }
        let near = |id: &&u32| self.owners.get(**id as usize).is_some_and(|owner| within_one_edit(owner, text));
        neighbourhood(text)
            .into_iter()
            .filter_map(|shorter| self.edits.get(&shorter)?.iter().filter(near).min().copied())
            .min()
    }
}

/// The skeleton of a folded text.
fn bones(folded: &str) -> String {
    if !folded.is_ascii() {
        return skeleton_twice(folded);
    }
    let mut bones = String::with_capacity(folded.len() + 8);
    folded.bytes().for_each(|byte| bones.push_str(&ASCII[usize::from(byte)]));
    bones
}

/// The skeletons of the ASCII characters, which do not depend on their neighbours: nearly all handles are made of these,
/// and taking skeletons is most of what a decision costs.
static ASCII: LazyLock<Vec<Box<str>>> =
    LazyLock::new(|| (0..128).map(|byte| skeleton_twice(&char::from(byte).to_string()).into()).collect());

/// The skeleton, folded and taken once more, because some skeletons are in upper case (`0` is `O`).
fn skeleton_twice(folded: &str) -> String {
    let once: String = skeleton(folded).collect();
    skeleton(&fold(&once)).collect()
}

/// Hashes of the text itself and of it with each one character left out. Two texts one edit apart share one.
fn neighbourhood(text: &str) -> Vec<u64> {
    let mut out = vec![hash(b'e', text.as_bytes(), b"")];
    out.extend((0..text.len()).map(|at| hash(b'e', &text.as_bytes()[..at], &text.as_bytes()[at + 1..])));
    out
}

/// Whether two ASCII texts differ by at most one insertion, omission, replacement, or swap of neighbours.
fn within_one_edit(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let Some(at) = short.iter().zip(long).position(|(a, b)| a != b) else {
        return long.len() - short.len() <= 1;
    };
    if short.len() == long.len() {
        let swapped = at + 1 < short.len()
            && short[at] == long[at + 1]
            && short[at + 1] == long[at]
            && short[at + 2..] == long[at + 2..];
        return swapped || short[at + 1..] == long[at + 1..];
    }
    short.len() + 1 == long.len() && short[at..] == long[at + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(protect: &[&str], handle: &str, name: Option<&str>) -> Option<String> {
        let protect: Vec<Arc<str>> = protect.iter().map(|&owner| owner.into()).collect();
        let folded = name.map(fold);
        let found = LookAlikes::build(&protect).check(&Handle::parse(handle).unwrap(), folded.as_deref())?;
        Some(format!("{}{}", found.owner, if found.by_name { " by name" } else { "" }))
    }

    #[test]
    fn owners_that_look_like_a_protected_one() {
        for handle in ["j0hn", "johm", "jon", "jhon", "johnn", "xjohn", "joh-n", "j0hn/bot", "jhon/weather-agent"] {
            assert_eq!(seen(&["john"], handle, None).as_deref(), Some("john"), "{handle}");
        }
        for handle in ["john", "john/weather-agent", "joan1", "jo", "jhno", "nhoj", "mary", "mary/john"] {
            assert_eq!(seen(&["john"], handle, None), None, "{handle}");
        }
    }

    #[test]
    fn names_that_look_like_a_protected_owner() {
        for name in ["John", "JOHN", "  john ", "@john", "Jоhn", "ｊｏｈｎ", "joh\u{200b}n", "J0hn", "Jonh", "𝐉𝐨𝐡𝐧"]
        {
            assert_eq!(seen(&["john"], "mallory", Some(name)).as_deref(), Some("john by name"), "{name}");
        }
        for name in ["", "John Smith", "Mary", "名前"] {
            assert_eq!(seen(&["john"], "mallory", Some(name)), None, "{name}");
        }
        assert_eq!(seen(&["john"], "john/bot", Some("John")), None, "their own agent");
    }

    #[test]
    fn short_owners_are_compared_by_skeleton_alone() {
        assert_eq!(seen(&["bob"], "rob", None), None);
        assert_eq!(seen(&["bob"], "b0b", None).as_deref(), Some("bob"));
    }

    #[test]
    fn two_protected_owners_do_not_look_like_each_other() {
        assert_eq!(seen(&["anna", "anne"], "anne/bot", Some("Anna")), None);
        assert_eq!(seen(&["anna", "anne"], "annx", None).as_deref(), Some("anna"), "the first in order");
    }

    #[test]
    fn a_skeleton_in_ascii_is_that_of_its_characters() {
        for text in ["john", "j0hn/m1", "rn", "weather-agent", "\"`|'~", "a b\t", ""] {
            assert_eq!(bones(text), skeleton_twice(text), "{text:?}");
        }
    }

    #[test]
    fn edits_are_found_as_by_comparing_with_all() {
        let owners = ["acme", "john", "abab", "aabb", "kubernetes", "0000"];
        let protect: Vec<Arc<str>> = owners.iter().map(|&owner| owner.into()).collect();
        let alikes = LookAlikes::build(&protect);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..3_000 {
            let mut text = owners[random.usize(..owners.len())].as_bytes().to_vec();
            for _ in 0..random.usize(..3) {
                let at = random.usize(..=text.len());
                match random.u8(..3) {
                    0 => text.insert(at, *random.choice(b"ab0cx").unwrap()),
                    1 if at < text.len() => drop(text.remove(at)),
                    2 if at + 1 < text.len() => text.swap(at, at + 1),
                    _ => {}
                }
            }
            let text = String::from_utf8(text).unwrap();
            let naive = owners.iter().any(|owner| within_one_edit(owner, &text));
            assert_eq!(alikes.one_edit_away(&text).is_some(), naive, "{text}");
        }
    }
}
