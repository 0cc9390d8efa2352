//! One combined matcher for each family of patterns: regular expressions over handles, names and messages, globs over
//! handles, literals in messages. Each returns the rules (or sets) that may match, in one pass over the text.

use aho_corasick::AhoCorasick;
use globset::{Candidate, Glob, GlobSet};
use regex::{RegexSet, RegexSetBuilder};

/// Size limit of one combined regular expression (bytes); families that need more are split.
const SET_SIZE_MAX: usize = 32 << 20;
/// Cache of its lazy automaton (bytes), per thread that decides.
const CACHE_SIZE_MAX: usize = 8 << 20;

/// Regular expressions and the rules they belong to.
#[derive(Debug, Default)]
pub(super) struct Regexes {
    plain: Sets,
    /// Patterns with word boundaries. Beyond ASCII these run without an automaton, and together are hundreds of times
    /// slower than one by one: there, each is checked alone.
    words: Sets,
    word_rules: Vec<u32>,
}

#[derive(Debug, Default)]
struct Sets {
    sets: Vec<(RegexSet, Box<[u32]>)>,
    /// Rules whose patterns do not fit into any set: always evaluated.
    alone: Vec<u32>,
}

impl Regexes {
    pub(super) fn build(patterns: &[(&str, u32)]) -> Self {
        let has_words = |text: &str| [r"\b", r"\B", r"\<", r"\>"].iter().any(|boundary| text.contains(boundary));
        let (words, plain): (Vec<_>, Vec<_>) = patterns.iter().copied().partition(|(text, _)| has_words(text));
        let mut built = Self::default();
        built.plain.add(&plain);
        built.words.add(&words);
        built.word_rules = words.into_iter().map(|(_, rule)| rule).collect();
        built
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.word_rules.is_empty()
    }

    pub(super) fn find(&self, text: &str, out: &mut Vec<u32>) {
        self.plain.find(text, out);
        if text.is_ascii() {
            self.words.find(text, out);
        } else {
            out.extend(&self.word_rules);
        }
    }
}

impl Sets {
    fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.alone.is_empty()
    }

    fn add(&mut self, patterns: &[(&str, u32)]) {
        if patterns.is_empty() {
            return;
        }
        let set = RegexSetBuilder::new(patterns.iter().map(|(text, _)| *text))
            .size_limit(SET_SIZE_MAX)
            .dfa_size_limit(CACHE_SIZE_MAX)
            .build();
        match set {
            Ok(set) => self.sets.push((set, patterns.iter().map(|(_, rule)| *rule).collect())),
            Err(_) if patterns.len() == 1 => self.alone.push(patterns[0].1),
            Err(_) => {
                let (one, other) = patterns.split_at(patterns.len() / 2);
                self.add(one);
                self.add(other);
            }
        }
    }

    fn find(&self, text: &str, out: &mut Vec<u32>) {
        out.extend(&self.alone);
        for (set, rules) in &self.sets {
            let found = set.matches(text);
            if found.matched_any() {
                out.extend(found.iter().map(|at| rules[at]));
            }
        }
    }
}

/// Globs whose owner part is not literal, and the sets of patterns they belong to.
#[derive(Debug, Default)]
pub(super) struct Globs {
    set: Option<GlobSet>,
    ids: Vec<u32>,
}

impl Globs {
    pub(super) fn build(globs: Vec<(Glob, u32)>) -> Self {
        if globs.is_empty() {
            return Self::default();
        }
        let ids = globs.iter().map(|(_, id)| *id).collect();
        let mut builder = GlobSet::builder();
        for (glob, _) in globs {
            builder.add(glob);
        }
        // Without a combined matcher every such set is asked.
        Self { set: builder.build().ok(), ids }
    }

    pub(super) fn find(&self, handle: &str, out: &mut Vec<u32>) {
        if self.ids.is_empty() {
            return;
        }
        match &self.set {
            Some(set) => {
                let mut found = Vec::new();
                set.matches_candidate_into(&Candidate::new(handle), &mut found);
                out.extend(found.into_iter().map(|at| self.ids[at]));
            }
            None => out.extend(&self.ids),
        }
    }
}

/// Literals in folded messages, and the rules they belong to.
#[derive(Debug, Default)]
pub(super) struct Literals {
    all: Option<AhoCorasick>,
    rules: Vec<u32>,
}

impl Literals {
    pub(super) fn build(literals: &[(&str, u32)]) -> Self {
        if literals.is_empty() {
            return Self::default();
        }
        let rules = literals.iter().map(|(_, rule)| *rule).collect();
        Self { all: AhoCorasick::new(literals.iter().map(|(text, _)| *text)).ok(), rules }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn find(&self, text: &str, out: &mut Vec<u32>) {
        let Some(all) = &self.all else {
            out.extend(&self.rules);
            return;
        };
        let mut found: Vec<bool> = Vec::new();
        for hit in all.find_overlapping_iter(text) {
            if found.is_empty() {
                found.resize(self.rules.len(), false);
            }
            let at = hit.pattern().as_usize();
            if !found[at] {
                found[at] = true;
                out.push(self.rules[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(matcher: impl FnOnce(&mut Vec<u32>)) -> Vec<u32> {
        let mut out = Vec::new();
        matcher(&mut out);
        out.sort_unstable();
        out.dedup();
        out
    }

    #[test]
    fn every_pattern_that_matches_is_found_in_ascii_and_beyond() {
        let family = Regexes::build(&[(r"(?i)\bseo\b", 0), ("s.o", 1), (r"\d+", 2), ("nothing", 3)]);
        assert_eq!(found(|out| family.find("buy SEO s0o", out)), [0, 1, 2]);
        assert_eq!(found(|out| family.find("nothing", out)), [3]);
        let beyond = found(|out| family.find("sé SEO", out));
        assert!(beyond.contains(&0) && !beyond.contains(&3));
    }

    #[test]
    fn patterns_too_large_for_one_set_are_split() {
        let large: Vec<String> = (0..6).map(|at| format!(r"{at}\w{{400}}")).collect();
        let patterns: Vec<_> = large.iter().map(String::as_str).zip(0..).collect();
        let family = Regexes::build(&patterns);
        assert!(family.plain.sets.len() + family.plain.alone.len() > 1, "the limit was not reached");
        let text = format!("4{}", "x".repeat(400));
        assert!(found(|out| family.find(&text, out)).contains(&4));
    }

    #[test]
    fn every_literal_is_found_also_inside_another() {
        let family = Literals::build(&[("seo", 0), ("eo", 1), ("seo now", 2), ("x", 3), ("o", 1)]);
        assert_eq!(found(|out| family.find("buy seo now", out)), [0, 1, 2]);
        assert!(found(|out| family.find("", out)).is_empty());
    }

    #[test]
    fn every_glob_that_matches_is_found() {
        let glob = |text| globset::GlobBuilder::new(text).literal_separator(true).build().unwrap();
        let family = Globs::build(vec![(glob("*/a-*"), 0), (glob("a*/*"), 1), (glob("*-x/b"), 2)]);
        assert_eq!(found(|out| family.find("ann/a-bot", out)), [0, 1]);
        assert!(found(|out| family.find("bob/c", out)).is_empty());
    }
}
