//! What changed from one policy to another: text by text, and list by list.

use std::collections::BTreeMap;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::policy::rules::SourceText;
use crate::policy::{self, ListChange, Policy};

/// A comparison that takes longer shows more lines than it would have to.
const COMPARED_MAX: Duration = Duration::from_secs(2);

/// A text that is new, gone, or another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangedText {
    pub(super) name: String,
    pub(super) added: usize,
    pub(super) removed: usize,
    /// As `diff -u` prints it.
    pub(super) lines: String,
}

/// The texts that differ, the rules file first. The rules file is compared with the rules file, whatever their names are.
pub(super) fn of(before: &[SourceText], after: &[SourceText]) -> Vec<ChangedText> {
    let rules = (before.first(), after.first());
    let mut others: BTreeMap<&str, (Option<&SourceText>, Option<&SourceText>)> = BTreeMap::new();
    before.iter().skip(1).for_each(|text| others.entry(&text.name).or_default().0 = Some(text));
    after.iter().skip(1).for_each(|text| others.entry(&text.name).or_default().1 = Some(text));
    std::iter::once(rules).chain(others.into_values()).filter_map(|(before, after)| changed(before, after)).collect()
}

fn changed(before: Option<&SourceText>, after: Option<&SourceText>) -> Option<ChangedText> {
    let text = |one: Option<&SourceText>| one.map_or("".into(), |one| one.text.clone());
    let name = |one: Option<&SourceText>| one.map_or("/dev/null", |one| &one.name).to_owned();
    let (old, new) = (text(before), text(after));
    if old == new && before.is_some() == after.is_some() {
        return None;
    }
    let diff = TextDiff::configure().timeout(COMPARED_MAX).diff_lines(&*old, &*new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let lines = diff.unified_diff().context_radius(3).header(&name(before), &name(after)).to_string();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    Some(ChangedText { name: name(after.or(before)), added, removed, lines })
}

/// What a push changes, in lines for people. `before`: the head, as far as this doorman can read it.
pub(super) fn said(texts: &[ChangedText], before: Option<&Policy>, after: &Policy) -> Vec<String> {
    let one = |text: &ChangedText| format!("{}: +{} −{} lines", super::shown(&text.name), text.added, text.removed);
    let mut said: Vec<String> = texts.iter().map(one).collect();
    let lists = before.map(|before| policy::list_changes(before, after)).unwrap_or_default();
    said.extend(lists.into_iter().map(|ListChange { name, added, removed, entries }| {
        format!("+{added} −{removed} entries of list {}, now {entries}", super::shown(&name))
    }));
    let Some(before) = before else { return said };
    let rules = |policy: &Policy| policy.rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>();
    let (old, new) = (rules(before), rules(after));
    for (what, names, others) in [("new rule", &new, &old), ("no rule any more", &old, &new)] {
        said.extend(names.iter().filter(|name| !others.contains(name)).map(|name| format!("{what}: {name}")));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> SourceText {
        SourceText { name: name.to_owned(), text: text.into() }
    }

    #[test]
    fn each_text_that_differs_is_shown_once() {
        let before = [text("rules.toml", "a\nb\n"), text("friends.txt", "ann\n"), text("old.txt", "x\n")];
        let after = [text("new.toml", "a\nc\n"), text("friends.txt", "ann\n"), text("next.txt", "y\n")];
        let changes = of(&before, &after);
        let counts: Vec<_> = changes.iter().map(|one| (one.name.as_str(), one.added, one.removed)).collect();
        assert_eq!(counts, [("new.toml", 1, 1), ("next.txt", 1, 0), ("old.txt", 0, 1)]);
        assert_eq!(changes[0].lines, "--- rules.toml\n+++ new.toml\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        assert!(changes[2].lines.starts_with("--- old.txt\n+++ /dev/null\n"), "{}", changes[2].lines);
        assert_eq!(of(&before, &before), []);
        assert_eq!(of(&[], &before).len(), 3, "the first version is all new");
    }
}
