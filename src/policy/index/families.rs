//! One combined matcher for each family of patterns: regular expressions over handles, names and messages, globs over
//! handles, literals in messages. Each says which rules (or sets) may match, in one pass over the text.

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
    sets: Vec<(RegexSet, Box<[u32]>)>,
    /// Rules whose patterns would not go into any set: always asked.
    alone: Vec<u32>,
}

impl Regexes {
    pub(super) fn build(patterns: &[(&str, u32)]) -> Self {
        let mut built = Self::default();
        built.add(patterns);
        built
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

    pub(super) fn find(&self, text: &str, out: &mut Vec<u32>) {
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
