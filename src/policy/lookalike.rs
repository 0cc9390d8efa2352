//! The guard `look-alike`: senders whose handle's owner part, or whole name, looks like a protected owner.
//!
//! It compares what a reader sees: texts in NFKC without marks, invisible characters, spaces and decoration, by their
//! UTS #39 skeletons, taken before and after case folding. Two texts look alike if a skeleton is the same. They also
//! look alike if they or their skeletons are one edit apart (a character inserted, left out, replaced, or swapped with
//! its neighbour) and the protected owner has four characters or more. If a request of somebody else has the name of a
//! protected owner, it counts as look-alike, too. If the file asks for it, a text that begins or ends with a protected
//! owner counts as well. A sender whose own owner is protected never counts as look-alike.
//!
//! `docs/policy.md` has the rates that the tests measure, and says what is not guarded.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

use super::index::anchors::hash;
use super::text::{fold, ignorable, small_capital};
use crate::model::Handle;

/// Protected owners shorter than this are compared by skeleton alone, and as a whole: one edit from `bob` is half the
/// dictionary.
const LONG_ENOUGH: usize = 4;

/// Owners that strangers may imitate, and how strict the guard is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protect {
    /// Lower case.
    pub owners: Vec<Arc<str>>,
    /// What begins with one of them looks like it.
    pub prefixes: bool,
    /// What ends with one of them looks like it.
    pub suffixes: bool,
}

impl From<&[&str]> for Protect {
    fn from(owners: &[&str]) -> Self {
        Self { owners: owners.iter().map(|&owner| owner.into()).collect(), ..Self::default() }
    }
}

/// Protected owners, made ready for comparing. One question costs as many look-ups as the asked text has characters,
/// however many owners there are.
#[derive(Debug, Default)]
pub(crate) struct LookAlikes {
    owners: Vec<Arc<str>>,
    exact: HashSet<Arc<str>>,
    /// By skeleton.
    skeletons: HashMap<Box<str>, u32>,
    /// Texts and skeletons that are compared by edits, and whose they are.
    edited: Vec<(Box<str>, u32)>,
    /// Hashes of each of those, and of each with one character left out.
    edits: HashMap<u64, Vec<u32>>,
    /// The most characters of any of them.
    longest: usize,
    prefixes: bool,
    suffixes: bool,
}

/// Which part of the request looks like which owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LookAlike {
    /// The protected owner.
    pub owner: Arc<str>,
    /// Whether it was the name; else the handle's owner part.
    pub by_name: bool,
}

impl LookAlikes {
    /// Prepares the protected owners.
    pub fn build(protect: &Protect) -> Self {
        let mut owners = protect.owners.clone();
        owners.sort_unstable();
        owners.dedup();
        let exact = owners.iter().cloned().collect();
        let mut alikes = Self { exact, prefixes: protect.prefixes, suffixes: protect.suffixes, ..Self::default() };
        for (id, owner) in (0..).zip(&owners) {
            let upper = owner.to_uppercase();
            let mut title: Vec<char> = owner.chars().collect();
            title.iter_mut().take(1).for_each(|first| *first = first.to_ascii_uppercase());
            let title: String = title.into_iter().collect();
            for written in [&**owner, &upper, &title] {
                for form in forms(written) {
                    alikes.longest = alikes.longest.max(form.chars().count());
                    alikes.skeletons.entry(form.into()).or_insert(id);
                }
            }
            if owner.chars().count() >= LONG_ENOUGH {
                let mut texts = forms(owner);
                texts.push(fold(&letters(owner)));
                texts.push(owner.to_string());
                texts.sort_unstable();
                texts.dedup();
                for text in texts {
                    alikes.add_edited(text, id);
                }
            }
        }
        alikes.owners = owners;
        alikes
    }

    fn add_edited(&mut self, text: String, id: u32) {
        let place = self.edited.len() as u32;
        self.longest = self.longest.max(text.chars().count());
        for shorter in neighbourhood(&text) {
            let places = self.edits.entry(shorter).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
        self.edited.push((text.into(), id));
    }

    /// Whether nobody is protected.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The protected owner that this sender looks like, if any. `name` is the original text.
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

    fn find(&self, text: &str) -> Option<Arc<str>> {
        let bare = letters(text);
        let mut found = None;
        // A skeleton has as many characters as its text, or more.
        if bare.chars().nth(self.longest + 1).is_none() {
            let mut forms = forms(text);
            found = forms.iter().find_map(|form| self.skeletons.get(form.as_str()).copied());
            if found.is_none() {
                forms.push(fold(&bare));
                if text.chars().nth(self.longest + 1).is_none() {
                    forms.push(fold(text));
                }
                forms.sort_unstable();
                forms.dedup();
                found = forms.iter().filter_map(|form| self.one_edit_away(form)).min();
            }
        }
        let id = found.or_else(|| self.at_an_end(&bare))?;
        self.owners.get(id as usize).cloned()
    }

    /// The owner with which the text begins or ends, if the policy asks for that.
    fn at_an_end(&self, bare: &str) -> Option<u32> {
        if !(self.prefixes || self.suffixes) {
            return None;
        }
        let all: Vec<char> = bare.chars().collect();
        let most = all.len().min(self.longest);
        let alike = |part: &[char]| {
            let part: String = part.iter().collect();
            let owner = |form: &String| self.skeletons.get(form.as_str()).copied();
            let long = |id: &u32| self.owners.get(*id as usize).is_some_and(|owner| owner.len() >= LONG_ENOUGH);
            skeletons(&part).iter().find_map(owner).filter(long)
        };
        (1..=most).rev().find_map(|length| {
            let prefix = self.prefixes.then(|| alike(&all[..length])).flatten();
            prefix.or_else(|| self.suffixes.then(|| alike(&all[all.len() - length..])).flatten())
        })
    }

    fn one_edit_away(&self, text: &str) -> Option<u32> {
        if self.edits.is_empty() || text.chars().nth(self.longest + 1).is_some() {
            return None;
        }
        let near = |place: &u32| {
            let (edited, id) = self.edited.get(*place as usize)?;
            within_one_edit(edited, text).then_some(*id)
        };
        neighbourhood(text)
            .into_iter()
            .filter_map(|shorter| self.edits.get(&shorter)?.iter().filter_map(near).min())
            .min()
    }
}

/// The skeletons of a text: of its letters and digits only, and of everything except spaces and invisible characters.
fn forms(text: &str) -> Vec<String> {
    let bare = letters(text);
    let mut forms = skeletons(&bare);
    if !text.chars().all(char::is_alphanumeric) {
        forms.extend(skeletons(&visible(text)));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// The skeletons before and after folding.
fn skeletons(text: &str) -> Vec<String> {
    let folded = fold(text);
    let mut all = vec![pairs(bones(&folded))];
    if folded != text || !text.is_ascii() {
        let first: String = skeleton(text).collect();
        all.push(pairs(bones(&fold(&first))));
    }
    all
}

/// Two letters that look like one, beyond those that the skeleton knows (`m` is `rn`).
fn pairs(skeleton: String) -> String {
    if skeleton.contains("vv") || skeleton.contains("cl") {
        skeleton.replace("vv", "w").replace("cl", "d")
    } else {
        skeleton
    }
}

/// The letters and digits of a text that a reader sees, without marks.
fn letters(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return text.into();
    }
    // A trade mark is decoration, and its compatible form is two letters.
    let marks = |one: &char| !matches!(one, '\u{2120}' | '\u{2122}');
    let seen = text.chars().filter(marks).nfkc().map(plain_letter).nfd();
    seen.filter(|one| one.is_alphanumeric() && !is_combining_mark(*one) && !ignorable(*one)).collect::<String>().into()
}

/// Everything visible except spaces and marks.
fn visible(text: &str) -> String {
    let seen = text.nfkc().map(plain_letter).nfd();
    seen.filter(|one| !one.is_whitespace() && !is_combining_mark(*one) && !ignorable(*one)).collect()
}

/// Letters in boxes and circles that NFKC leaves as they are.
fn plain_letter(one: char) -> char {
    let nth = |first: u32| char::from_u32(u32::from('a') + (u32::from(one) - first)).unwrap_or(one);
    match one {
        '\u{1F150}'..='\u{1F169}' => nth(0x1F150),
        '\u{1F170}'..='\u{1F189}' => nth(0x1F170),
        '\u{1F1E6}'..='\u{1F1FF}' => nth(0x1F1E6),
        _ => one,
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

/// The skeletons of the ASCII characters, which do not depend on their neighbours. Nearly all handles consist of these,
/// and computing skeletons is the largest part of a decision's cost.
static ASCII: LazyLock<Vec<Box<str>>> =
    LazyLock::new(|| (0..128).map(|byte| skeleton_twice(&char::from(byte).to_string()).into()).collect());

/// The folded skeleton of the skeleton, because some skeletons are in upper case (`0` is `O`).
fn skeleton_twice(folded: &str) -> String {
    let once: String = skeleton(folded).map(latin).collect();
    skeleton(&fold(&once)).collect()
}

/// The Latin letter for which a reader takes this one, if the skeleton leaves them apart: it makes small letters of
/// other scripts (`м`, `т`, `є`) to small capitals and the like.
fn latin(one: char) -> char {
    match one {
        // Coptic; and syllabics, which generators of fancy text use.
        '\u{2C80}' | '\u{2C81}' | '\u{15E9}' => 'a',
        '\u{1455}' => 'c',
        '\u{A792}' | '\u{A793}' | '\u{15F4}' => 'e',
        '\u{0138}' => 'k',
        '\u{028D}' => 'm',
        '\u{0548}' | '\u{144E}' => 'n',
        '\u{1515}' => 's',
        '\u{03C7}' => 'x',
        _ => small_capital(one),
    }
}

/// Hashes of the text itself and of it with each one character left out. Two texts one edit apart share one.
fn neighbourhood(text: &str) -> Vec<u64> {
    let mut out = vec![hash(b'e', text.as_bytes(), b"")];
    out.extend(
        text.char_indices()
            .map(|(at, left_out)| hash(b'e', &text.as_bytes()[..at], &text.as_bytes()[at + left_out.len_utf8()..])),
    );
    out
}

/// Whether two texts differ by at most one insertion, omission, replacement, or swap of neighbours.
fn within_one_edit(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let Some(at) = short.iter().zip(&long).position(|(a, b)| a != b) else {
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
