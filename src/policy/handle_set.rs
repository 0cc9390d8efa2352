//! A set of handles that takes little room, since a list may have a million of them: their texts lie one after the other
//! in one string, and a hash table knows where each begins. That is some 10 bytes beside each text.

use std::fmt;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::HandleRef;

/// See the module. Handles are only added, and come out in the order in which they were added.
#[derive(Default)]
pub struct HandleSet {
    /// Before each handle stands a character whose code is the handle's length: handles are ASCII and at most 127 bytes.
    texts: String,
    /// Where in `texts` each of them begins.
    begins: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl HandleSet {
    /// Adds a handle; `false` if it was there already.
    ///
    /// # Errors
    /// There is no room: the texts of a set have at most 4 GiB, which no list reaches.
    pub fn insert(&mut self, handle: HandleRef<'_>) -> Result<bool, String> {
        let text = handle.as_str();
        let (Ok(begin), Ok(length)) = (u32::try_from(self.texts.len()), u8::try_from(text.len())) else {
            return Err("too many handles".to_owned());
        };
        let Self { texts, begins, hasher } = self;
        let same = |at: &u32| at_place(texts, *at) == text;
        let entry = begins.entry(hasher.hash_one(text), same, |at| hasher.hash_one(at_place(texts, *at)));
        let hashbrown::hash_table::Entry::Vacant(free) = entry else { return Ok(false) };
        free.insert(begin);
        texts.push(char::from(length));
        texts.push_str(text);
        Ok(true)
    }

    /// Whether the handle is there.
    pub fn contains(&self, handle: HandleRef<'_>) -> bool {
        let text = handle.as_str();
        let same = |at: &u32| at_place(&self.texts, *at) == text;
        !self.begins.is_empty() && self.begins.find(self.hasher.hash_one(text), same).is_some()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = HandleRef<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let text = (at < self.texts.len()).then(|| at_place(&self.texts, at as u32))?;
            at += 1 + text.len();
            Some(HandleRef::of_comparable(text))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.begins.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// How many of these are not in the other set.
    pub(crate) fn missing_from(&self, other: &HandleSet) -> usize {
        self.iter().filter(|handle| !other.contains(*handle)).count()
    }

    /// Gives back the room that was kept for more of them.
    pub(crate) fn shrink(&mut self) {
        let Self { texts, begins, hasher } = self;
        texts.shrink_to_fit();
        begins.shrink_to_fit(|at| hasher.hash_one(at_place(texts, *at)));
    }
}

/// The handle that begins here.
fn at_place(texts: &str, begin: u32) -> &str {
    let begin = begin as usize;
    let length = usize::from(texts.as_bytes()[begin]);
    &texts[begin + 1..begin + 1 + length]
}

impl fmt::Debug for HandleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(HandleRef::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Handle;

    fn add(set: &mut HandleSet, text: &str) -> bool {
        set.insert(Handle::parse(text).unwrap().view()).unwrap()
    }

    #[test]
    fn the_longest_handle_fits() {
        let longest = format!("{0}/{0}", "a".repeat(63));
        let mut set = HandleSet::default();
        assert!(add(&mut set, &longest) && add(&mut set, "b") && !add(&mut set, &longest));
        assert_eq!(set.iter().map(HandleRef::as_str).collect::<Vec<_>>(), [&longest, "b"]);
        assert!(set.contains(Handle::parse(&longest).unwrap().view()));
        assert!(!set.contains(Handle::parse(&longest[1..]).unwrap().view()));
    }

    proptest! {
        /// As a set of texts, while it grows and after it was shrunk.
        #[test]
        fn it_is_a_set(added in prop::collection::vec("[a-c]{1,3}(/[a-c]{1,2})?", 0..200), asked in "[a-c]{1,3}(/[a-c]{1,2})?") {
            let (mut set, mut model) = (HandleSet::default(), BTreeSet::new());
            let mut order = Vec::new();
            for text in &added {
                let new = model.insert(text.clone());
                prop_assert_eq!(add(&mut set, text), new, "{}", text);
                order.extend(new.then_some(text.as_str()));
            }
            for shrunk in [false, true] {
                if shrunk {
                    set.shrink();
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!(set.iter().map(HandleRef::as_str).collect::<Vec<_>>(), order.clone());
                prop_assert_eq!(set.contains(Handle::parse(&asked).unwrap().view()), model.contains(&asked));
                for text in &added {
                    prop_assert!(set.contains(Handle::parse(text).unwrap().view()));
                }
            }
            let mut other = HandleSet::default();
            add(&mut other, &asked);
            prop_assert_eq!(set.missing_from(&other), model.iter().filter(|text| **text != asked).count());
        }
    }
}
