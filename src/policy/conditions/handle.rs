//! `handle`, `handle_regex`, `list`: the handle as a whole.

use std::sync::Arc;

use super::compared::{SenderGroup, patterns_imply, regexes_follow, sorted};
use super::{Compile, Condition, ConditionKind, ContactBasis, Needs, OpenScope, SenderScope, Written, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::document::{Problems, WithSpan, shown};
use crate::model::Handle;
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::doubts::Fact;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::index::{Anchor, IndexBuilder};
use crate::policy::patterns::HandlePattern;
use crate::policy::raw::RawCondition;
use crate::policy::regexes::{Use, beginnings};
use crate::policy::rules::{List, PatternSet, RegexPattern};

/// `handle = […]`.
#[derive(Debug)]
pub struct HandleIn(pub PatternSet);

/// `handle_regex = …`: the whole handle.
#[derive(Debug)]
pub struct HandleRegex(pub Vec<RegexPattern>);

/// `list = […]`.
#[derive(Debug)]
pub struct InList(pub Vec<Arc<List>>);

/// Unknown if there is no plain handle.
pub(super) fn by_handle(inputs: &Inputs<'_>, holds: impl FnOnce(&Handle) -> bool) -> Evaluation {
    inputs.handle.map_or(Evaluation::UNKNOWN, |handle| Evaluation::fact(holds(handle)))
}

/// The same for rights by name: a handle, an owner, or a list that contains one. Unknown if somebody else may have the
/// name by now.
pub(super) fn by_name(inputs: &Inputs<'_>, holds: impl FnOnce(&Handle) -> bool) -> Evaluation {
    let evaluation = by_handle(inputs, holds);
    let doubts = &inputs.policy_state.history.doubts;
    let doubted = |handle: &Handle| doubts.unknown(handle.owner(), Fact::Identity, None, inputs.now).is_some();
    if evaluation.truth == Truth::True && inputs.handle.is_some_and(doubted) { Evaluation::UNKNOWN } else { evaluation }
}

impl HandleIn {
    /// The patterns as written, without the invalid ones.
    pub(super) fn written<'a>(&self, raw: &'a RawCondition) -> impl Iterator<Item = HandlePattern> + use<'a> {
        raw.texts().into_iter().flatten().filter_map(|text| HandlePattern::parse(&text.value).ok())
    }

    /// Whether only agents fit, or only users; `None` if both may.
    pub(super) fn only_of_agents(&self, raw: &RawCondition) -> Option<bool> {
        let mut all = self.written(raw).map(|one| one.is_of_agents());
        let first = all.next()?;
        all.all(|one| one == first).then_some(first)
    }
}

fn anchor(set: &PatternSet) -> Anchor {
    let free = set.globs.iter().any(|glob| glob.literal_owner.is_none());
    if free { Anchor::Handle } else { Anchor::Hashed }
}

impl Compile for HandleIn {
    const KEY: DocumentKey = key(
        "handle",
        KeyType::Texts,
        "",
        "The handle fits one of these patterns: `john`, `john/*`, `acme/*-bot`, `*/support`.",
    );

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        let mut patterns = PatternSet::default();
        for text in written.texts()? {
            compiling.pattern(text, &mut patterns);
        }
        Some(Self(patterns))
    }
}

impl ConditionKind for HandleIn {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_name(inputs, |handle| self.0.contains(handle))
    }

    fn wanted(&self) -> String {
        values::some(self.0.texts().into_iter())
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::handle(inputs)
    }

    fn canonical(&self) -> String {
        format!("handle {}", self.0.texts().join(" "))
    }

    fn anchor(&self) -> Option<Anchor> {
        Some(anchor(&self.0))
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.patterns(&self.0);
    }

    fn names(&self, handle: &Handle) -> bool {
        self.0.names(handle)
    }

    fn groups(&self) -> Option<Box<dyn Iterator<Item = SenderGroup<'_>> + '_>> {
        Some(Box::new(SenderGroup::of(&self.0)))
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        patterns_imply(&self.0, group)
    }

    fn says_who(&self, written: &RawCondition) -> SenderScope {
        let texts = written.texts().into_iter().flatten();
        let open = |text: &&WithSpan<String>| HandlePattern::parse(&text.value).is_ok_and(|one| one.owner().is_none());
        match { texts }.find(open) {
            None => SenderScope::Said,
            Some(text) => SenderScope::Open(OpenScope {
                span: text.span.clone(),
                why: format!("`{}` leaves open whose", shown(&text.value)),
            }),
        }
    }
}

impl Compile for HandleRegex {
    const KEY: DocumentKey =
        key("handle_regex", KeyType::Texts, "", "A regular expression that fits the whole handle.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.regexes(written.texts()?, Use::WholeHandle).map(Self)
    }
}

impl ConditionKind for HandleRegex {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_name(inputs, |handle| self.0.iter().any(|pattern| pattern.regex.is_match(handle.as_str())))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|pattern| pattern.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::handle(inputs)
    }

    fn canonical(&self) -> String {
        sorted("handle_regex", self.0.iter().map(|pattern| &*pattern.text))
    }

    fn anchor(&self) -> Option<Anchor> {
        Some(Anchor::Handle)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.handle_regex(&self.0);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<HandleRegex>().is_some_and(|one| regexes_follow(&one.0, &self.0))
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        match group {
            SenderGroup::Handle(handle) => self.0.iter().any(|pattern| pattern.regex.is_match(handle.as_str())),
            SenderGroup::AgentsOf(_) | SenderGroup::Slug(_) | SenderGroup::Glob(_) | SenderGroup::Owner(_) => false,
        }
    }

    fn says_who(&self, written: &RawCondition) -> SenderScope {
        let texts = written.texts().into_iter().flatten();
        match { texts }.find(|text| beginnings(&text.value).is_none()) {
            None => SenderScope::Said,
            Some(text) => {
                SenderScope::Open(OpenScope { span: text.span.clone(), why: "it may begin with anything".to_owned() })
            }
        }
    }

    /// Patterns that no handle can fit, since handles are compared in lower case and without `@`.
    fn contradictions(&self, written: &RawCondition, _table: &Written<'_>, problems: &mut Problems) {
        for text in written.texts().into_iter().flatten() {
            let odd = |one: &Arc<str>| {
                one.chars().find(|odd| !(odd.is_ascii_lowercase() || odd.is_ascii_digit() || "._-/".contains(*odd)))
            };
            let Some(odd) = beginnings(&text.value).and_then(|all| all.iter().find_map(odd)) else { continue };
            problems
                .error(&text.span, format!("`{}` fits no handle", shown(&text.value)))
                .label(format!("no handle has `{}` here", shown(&odd.to_string())))
                .help("handles are compared in lower case, without the `@`");
        }
    }
}

impl Compile for InList {
    const KEY: DocumentKey = key("list", KeyType::Texts, "", "The handle fits an entry of one of these lists.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        let names = written.texts()?;
        let lists = compiling.lists_named(names);
        compiling.twice(names);
        // A list that is broken itself leaves the condition incomplete.
        (lists.len() == names.len()).then_some(Self(lists))
    }
}

impl ConditionKind for InList {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_name(inputs, |handle| self.0.iter().any(|list| list.patterns.contains(handle)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|list| list.name.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::handle(inputs)
    }

    fn canonical(&self) -> String {
        sorted("list", self.0.iter().map(|list| list.name.as_str()))
    }

    fn anchor(&self) -> Option<Anchor> {
        self.0.iter().map(|list| anchor(&list.patterns)).max().or(Some(Anchor::Hashed))
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        self.0.iter().for_each(|list| index.list(&list.patterns));
    }

    fn needs<'a>(&'a self, needs: &mut Needs<'a>) {
        needs.lists(&self.0);
    }

    fn names(&self, handle: &Handle) -> bool {
        self.0.iter().any(|list| list.patterns.names(handle))
    }

    fn groups(&self) -> Option<Box<dyn Iterator<Item = SenderGroup<'_>> + '_>> {
        Some(Box::new(self.0.iter().flat_map(|list| SenderGroup::of(&list.patterns))))
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        self.0.iter().any(|list| patterns_imply(&list.patterns, group))
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        let Some(narrow) = narrow.downcast::<InList>() else { return false };
        narrow.0.iter().all(|one| self.0.iter().any(|other| Arc::ptr_eq(one, other)))
    }

    fn says_who(&self, written: &RawCondition) -> SenderScope {
        let open = self.0.iter().find_map(|list| {
            let entry = open_entry(&list.patterns)?;
            Some(format!("`{entry}` in `{}` leaves open whose", list.name))
        });
        open.map_or(SenderScope::Said, |why| SenderScope::Open(OpenScope { span: written.span.clone(), why }))
    }
}

fn open_entry(patterns: &PatternSet) -> Option<String> {
    let slug = patterns.slugs.iter().min().map(|slug| format!("*/{slug}"));
    let glob = || patterns.globs.iter().find(|glob| glob.literal_owner.is_none()).map(|glob| glob.text.to_string());
    slug.or_else(glob)
}
