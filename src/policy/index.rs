//! Finds the rules that can match a request without asking all of them.
//!
//! Of each rule one condition is chosen as its anchor: if the anchor does not hold, the rule is false whatever else it
//! says, so it is enough to ask the rules whose anchors hold, and those that have none. Anchors are conditions that are
//! never unknown for a plain handle. What the index offers is a superset; deciding asks each offered rule in full.

pub(crate) mod anchors;
mod families;

use std::collections::HashMap;
use std::sync::Arc;

use anchors::{Anchors, Collected, HANDLE, NAME, OWNER, SLUG};
use families::{Globs, Literals, Regexes};

use super::evaluate::facts::Facts;
use super::lookalike::LookAlikes;
use super::rules::{Condition, PatternSet, Rule, When};

/// See the module. The default one is not built: it offers every rule.
#[derive(Debug, Default)]
pub struct Index {
    /// How many rules it was built from; `None` where it was not built.
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

/// What an anchor costs to ask, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Hashed,
    Handle,
    Text,
}

#[derive(Default)]
struct Builder<'a> {
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
    pub fn build(rules: &[Rule], protect: &[Arc<str>]) -> Index {
        let mut builder = Builder::default();
        for (id, rule) in (0..).zip(rules) {
            let conditions = match &rule.when {
                When::Everyone => &[][..],
                When::Table(table) => &table.conditions,
            };
            let anchor = conditions.iter().filter_map(|one| cost(one).map(|cost| (cost, one))).min_by_key(|one| one.0);
            match anchor {
                Some((_, condition)) => builder.add(condition, id),
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

    /// Whom a sender may look like; `None` where the index was not built.
    pub(crate) fn lookalikes(&self) -> Option<&LookAlikes> {
        self.built.map(|_| &self.lookalikes)
    }

    /// The places of all rules that can match or be unknown, in order, out of `count`. The handle must be plain.
    pub(crate) fn offer(&self, facts: &Facts<'_>, count: usize) -> Vec<u32> {
        let (Some(_), Some(handle)) = (self.built, facts.handle) else {
            return (0..count as u32).collect();
        };
        let mut sets = Vec::new();
        sets.extend(self.anchors.find(HANDLE, handle.as_str()));
        sets.extend(self.anchors.find(OWNER, handle.owner()));
        if let Some(slug) = handle.slug() {
            sets.extend(self.anchors.find(SLUG, slug));
        }
        if let Some(name) = self.anchors.names.then(|| facts.name()).flatten() {
            sets.extend(self.anchors.find(NAME, name));
        }
        self.globs.find(handle.as_str(), &mut sets);

        let mut rules = self.always.clone();
        rules.extend(sets.into_iter().flat_map(|set| &self.sets[set as usize]));
        self.handle_regex.find(handle.as_str(), &mut rules);
        if let Some(name) = &facts.request.name {
            self.name_regex.find(name.raw(), &mut rules);
        }
        if let Some(message) = &facts.request.message {
            self.message_regex.find(message.raw(), &mut rules);
            if let Some(folded) = (!self.message_contains.is_empty()).then(|| facts.message()).flatten() {
                self.message_contains.find(folded, &mut rules);
            }
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// What a condition costs as an anchor; `None` for those that cannot be one.
fn cost(condition: &Condition) -> Option<Cost> {
    let of_set = |set: &PatternSet| {
        let free = set.globs.iter().any(|glob| glob.literal_owner.is_none());
        if free { Cost::Handle } else { Cost::Hashed }
    };
    match condition {
        Condition::Handle(set) => Some(of_set(set)),
        Condition::List(lists) => lists.iter().map(|list| of_set(&list.patterns)).max().or(Some(Cost::Hashed)),
        Condition::Owner(_) | Condition::Slug(_) | Condition::Name(_) => Some(Cost::Hashed),
        Condition::HandleRegex(_) => Some(Cost::Handle),
        Condition::NameRegex(_) | Condition::MessageContains(_) | Condition::MessageRegex(_) => Some(Cost::Text),
        Condition::Kind(_)
        | Condition::MessageAbsent(_)
        | Condition::MessageLongerThan(_)
        | Condition::Window(_)
        | Condition::AgeOver(_)
        | Condition::ContactsOver(_)
        | Condition::History(_) => None,
    }
}

impl<'a> Builder<'a> {
    fn add(&mut self, condition: &'a Condition, rule: u32) {
        match condition {
            Condition::Handle(patterns) => {
                let set = self.new_set(rule);
                self.add_patterns(patterns, set);
            }
            Condition::List(lists) => lists.iter().for_each(|list| self.add_list(&list.patterns, rule)),
            Condition::Owner(owners) => self.add_literals(OWNER, owners.iter().map(|owner| &**owner), rule),
            Condition::Slug(slugs) => self.add_literals(SLUG, slugs.iter().map(|slug| &**slug), rule),
            Condition::Name(names) => self.add_literals(NAME, names.iter().map(|name| &*name.folded), rule),
            Condition::HandleRegex(patterns) => {
                self.handle_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), rule)));
            }
            Condition::NameRegex(patterns) => {
                self.name_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), rule)));
            }
            Condition::MessageRegex(patterns) => {
                self.message_regex.extend(patterns.iter().map(|pattern| (pattern.regex.as_str(), rule)));
            }
            Condition::MessageContains(parts) => {
                self.message_contains.extend(parts.iter().map(|part| (&*part.folded, rule)));
            }
            Condition::Kind(_)
            | Condition::MessageAbsent(_)
            | Condition::MessageLongerThan(_)
            | Condition::Window(_)
            | Condition::AgeOver(_)
            | Condition::ContactsOver(_)
            | Condition::History(_) => self.always.push(rule),
        }
    }

    fn new_set(&mut self, rule: u32) -> u32 {
        self.sets.push(vec![rule]);
        self.sets.len() as u32 - 1
    }

    fn add_literals(&mut self, kind: u8, texts: impl Iterator<Item = &'a str>, rule: u32) {
        let set = self.new_set(rule);
        texts.for_each(|text| self.anchors.add(kind, text, set));
    }

    fn add_list(&mut self, patterns: &'a PatternSet, rule: u32) {
        if let Some(&set) = self.lists.get(&std::ptr::from_ref(patterns)) {
            self.sets[set as usize].push(rule);
            return;
        }
        let set = self.new_set(rule);
        self.lists.insert(patterns, set);
        self.add_patterns(patterns, set);
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
