//! A rule as a text that is the same for rules that mean the same.

use std::fmt::Write as _;

use crate::policy::rules::{Condition, PatternSet, Rule, Table, When};

/// The rule without its name.
pub(super) fn canonical(rule: &Rule) -> String {
    let when = match &rule.when {
        When::Everyone => "everyone".to_owned(),
        When::Table(of) => table(of),
    };
    let mut unless: Vec<_> = rule.unless.iter().map(table).collect();
    unless.sort_unstable();
    let Rule { then, limit, wait, until, shadow, .. } = rule;
    format!("{then} {when} {unless:?} {limit:?} {wait:?} {until:?} {shadow}")
}

fn table(table: &Table) -> String {
    let mut all: Vec<_> = table.conditions.iter().map(condition).collect();
    all.sort_unstable();
    format!("{all:?}")
}

fn condition(condition: &Condition) -> String {
    let sorted = |name: &str, texts: Vec<&str>| {
        let mut texts = texts;
        texts.sort_unstable();
        texts.dedup();
        format!("{name} {texts:?}")
    };
    match condition {
        Condition::Handle(set) => format!("handle {}", patterns(set)),
        Condition::List(lists) => sorted("list", lists.iter().map(|list| list.name.as_str()).collect()),
        Condition::Owner(texts) => sorted("owner", texts.iter().map(|text| &**text).collect()),
        Condition::Slug(texts) => sorted("slug", texts.iter().map(|text| &**text).collect()),
        Condition::HandleRegex(all) => sorted("handle_regex", all.iter().map(|one| &*one.text).collect()),
        Condition::NameRegex(all) => sorted("name_regex", all.iter().map(|one| &*one.text).collect()),
        Condition::MessageRegex(all) => sorted("message_regex", all.iter().map(|one| &*one.text).collect()),
        Condition::Name(all) => sorted("name", all.iter().map(|one| &*one.folded).collect()),
        Condition::MessageContains(all) => sorted("message_contains", all.iter().map(|one| &*one.folded).collect()),
        Condition::Window(all) => sorted("window", all.iter().map(|window| window.name.as_str()).collect()),
        Condition::Kind(_)
        | Condition::MessageAbsent(_)
        | Condition::MessageLongerThan(_)
        | Condition::AgeOver(_)
        | Condition::ContactsOver(_)
        | Condition::History(_) => format!("{condition:?}"),
    }
}

fn patterns(set: &PatternSet) -> String {
    let mut all: Vec<String> = set.literals.iter().map(ToString::to_string).collect();
    all.extend(set.agents_of.iter().map(|owner| format!("{owner}/*")));
    all.extend(set.slugs.iter().map(|slug| format!("*/{slug}")));
    all.extend(set.globs.iter().map(|glob| glob.text.to_string()));
    all.sort_unstable();
    let mut out = String::new();
    for one in all {
        let _ = write!(out, "{one} ");
    }
    out
}
