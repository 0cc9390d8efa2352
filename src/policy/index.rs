//! Finds the rules that can match a request without asking all of them.
//!
//! One condition of each rule is chosen as its anchor: if the anchor does not hold, the rule is false. So it is enough
//! to evaluate the rules whose anchors hold, and those without an anchor. Anchors are conditions that are never unknown
//! for a plain handle. The index returns a superset; deciding evaluates each of these rules completely.

pub(crate) mod anchors;
mod families;

use std::collections::HashMap;

use anchors::{Anchors, Collected, HANDLE, NAME, OWNER, SLUG};
use families::{Globs, Literals, Regexes};

use super::evaluate::inputs::Inputs;
use super::lookalike::{LookAlikes, Protect};
use super::rules::{Folded, PatternSet, RegexPattern, Rule, When};

/// See the module. The default one is not built: it offers every rule.
#[derive(Debug, Default)]
pub struct Index {
    /// How many rules it was built from; `None` if it was not built.
    built: Option<u32>,
    /// Rules without an anchor.
    always: Vec<u32>,
    anchors: Anchors,
    globs: Globs,
    /// The rules behind each set of handle patterns: a list that many rules name is stored once.
    sets: Vec<Vec<u32>>,
    handle_regex: Regexes,
    name_regex: Regexes,
    message_contains: Literals,
    message_regex: Regexes,
    lookalikes: LookAlikes,
}

/// How a condition can be an anchor, by the cost of checking it, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Anchor {
    /// One look-up.
    Hashed,
    /// A pass over the handle.
    Handle,
    /// A pass over a text.
    Text,
}

/// Collects the anchors of rules, for [`Index::build`]. A condition adds its values of one kind with one call; they
/// belong to the rule that is looked at.
#[derive(Default)]
pub(crate) struct IndexBuilder<'a> {
    /// The rule whose anchor is added.
    rule: u32,
    always: Vec<u32>,
    anchors: Collected,
    globs: Vec<(globset::Glob, u32)>,
    sets: Vec<Vec<u32>>,
    lists: HashMap<*const PatternSet, u32>,
    handle_regex: Vec<(&'a str, u32)>,
    name_regex: Vec<(&'a str, u32)>,
    message_contains: Vec<(&'a str, u32)>,
    message_regex: Vec<(&'a str, u32)>,
}

impl Index {
    /// Builds the index over these rules, which are known by their places from now on, and these protected owners.
    pub fn build(rules: &[Rule], protect: &Protect) -> Index {
        let mut builder = IndexBuilder::default();
        for (id, rule) in (0..).zip(rules) {
            builder.rule = id;
            let conditions = match &rule.when {
                When::Everyone => &[][..],
                When::Table(table) => &table.conditions,
            };
            let anchors = conditions.iter().filter_map(|one| one.0.anchor().map(|anchor| (anchor, one)));
            match anchors.min_by_key(|one| one.0) {
                Some((_, condition)) => condition.0.add_to(&mut builder),
                None => builder.always.push(id),
            }
        }
        Index {
            built: Some(rules.len() as u32),
            always: builder.always,
            anchors: builder.anchors.finish(),
            globs: Globs::build(builder.globs),
            sets: builder.sets,
            handle_regex: Regexes::build(&builder.handle_regex),
            name_regex: Regexes::build(&builder.name_regex),
            message_contains: Literals::build(&builder.message_contains),
            message_regex: Regexes::build(&builder.message_regex),
            lookalikes: LookAlikes::build(protect),
        }
    }

    /// The owners that a sender may look like; `None` if the index was not built.
    pub(crate) fn lookalikes(&self) -> Option<&LookAlikes> {
        self.built.map(|_| &self.lookalikes)
    }

    /// The places of all rules that can match or be unknown, in order, out of `count`. The handle must be plain.
    pub(crate) fn offer(&self, inputs: &Inputs<'_>, count: usize) -> Vec<u32> {
        let (Some(_), Some(handle), false) = (self.built, inputs.handle, inputs.some_text_is_cut()) else {
            return (0..count as u32).collect();
        };
        let mut sets = Vec::new();
        sets.extend(self.anchors.find(HANDLE, handle.as_str()));
        sets.extend(self.anchors.find(OWNER, handle.owner()));
        if let Some(slug) = handle.slug() {
            sets.extend(self.anchors.find(SLUG, slug));
        }
        if let Some(name) = inputs.name().filter(|_| self.anchors.names) {
            sets.extend(self.anchors.find(NAME, name.folded()));
            sets.extend(self.anchors.find(NAME, name.disclosed_folded()));
        }
        self.globs.find(handle.as_str(), &mut sets);

        let mut rules = self.always.clone();
        rules.extend(sets.into_iter().flat_map(|set| &self.sets[set as usize]));
        self.handle_regex.find(handle.as_str(), &mut rules);
        if let Some(name) = inputs.name().filter(|_| !self.name_regex.is_empty()) {
            name.searched(true).into_iter().for_each(|form| self.name_regex.find(form, &mut rules));
        }
        if let Some(message) = inputs.message() {
            if !self.message_regex.is_empty() {
                message.searched(true).into_iter().for_each(|form| self.message_regex.find(form, &mut rules));
            }
            if !self.message_contains.is_empty() {
                self.message_contains.find(message.folded(), &mut rules);
                if message.disclosed_folded() != message.folded() {
                    self.message_contains.find(message.disclosed_folded(), &mut rules);
                }
            }
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

impl<'a> IndexBuilder<'a> {
    /// Owners, as literals.
    pub(crate) fn owners(&mut self, owners: impl Iterator<Item = &'a str>) {
        self.literals(OWNER, owners);
    }

    /// Slugs, as literals.
    pub(crate) fn slugs(&mut self, slugs: impl Iterator<Item = &'a str>) {
        self.literals(SLUG, slugs);
    }

    /// Whole names, folded.
    pub(crate) fn names(&mut self, names: impl Iterator<Item = &'a str>) {
        self.literals(NAME, names);
    }

    /// Handle patterns.
    pub(crate) fn patterns(&mut self, patterns: &PatternSet) {
        let set = self.new_set();
        self.add_patterns(patterns, set);
    }

    /// The patterns of a list, which other rules may share.
    pub(crate) fn list(&mut self, patterns: &'a PatternSet) {
        if let Some(&set) = self.lists.get(&std::ptr::from_ref(patterns)) {
            self.sets[set as usize].push(self.rule);
            return;
        }
        let set = self.new_set();
        self.lists.insert(patterns, set);
        self.add_patterns(patterns, set);
    }

    /// Expressions that fit the whole handle.
    pub(crate) fn handle_regex(&mut self, patterns: &'a [RegexPattern]) {
        self.handle_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), self.rule)));
    }

    /// Expressions that are found in the name.
    pub(crate) fn name_regex(&mut self, patterns: &'a [RegexPattern]) {
        self.name_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), self.rule)));
    }

    /// Expressions that are found in the message.
    pub(crate) fn message_regex(&mut self, patterns: &'a [RegexPattern]) {
        self.message_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), self.rule)));
    }

    /// Texts that are found in the folded message.
    pub(crate) fn message_contains(&mut self, texts: &'a [Folded]) {
        self.message_contains.extend(texts.iter().map(|text| (&*text.folded, self.rule)));
    }

    fn new_set(&mut self) -> u32 {
        self.sets.push(vec![self.rule]);
        self.sets.len() as u32 - 1
    }

    fn literals(&mut self, kind: u8, texts: impl Iterator<Item = &'a str>) {
        let set = self.new_set();
        texts.for_each(|text| self.anchors.add(kind, text, set));
    }

    fn add_patterns(&mut self, patterns: &PatternSet, set: u32) {
        patterns.literals.iter().for_each(|handle| self.anchors.add(HANDLE, handle.as_str(), set));
        patterns.agents_of.iter().for_each(|owner| self.anchors.add(OWNER, owner, set));
        patterns.slugs.iter().for_each(|slug| self.anchors.add(SLUG, slug, set));
        for glob in &patterns.globs {
            match &glob.literal_owner {
                Some(owner) => self.anchors.add(OWNER, owner, set),
                None => self.globs.push((glob.matcher.glob().clone(), set)),
            }
        }
    }
}
