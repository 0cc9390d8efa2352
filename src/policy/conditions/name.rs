//! `name`, `name_contains`, `name_regex`: the sender's display name. An absent name is a known fact: nothing matches
//! it.

use super::compared::{regexes_follow, sorted};
use super::{Compile, Condition, ConditionKind, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::index::{Anchor, IndexBuilder};
use crate::policy::raw::RawCondition;
use crate::policy::regexes::Use;
use crate::policy::rules::{Folded, RegexPattern};

/// `name = […]`: literal, case and width folded, whole.
#[derive(Debug)]
pub struct NameIs(pub Vec<Folded>);

/// `name_contains = […]`: literal, case and width folded.
#[derive(Debug)]
pub(crate) struct NameContains(pub Vec<Folded>);

/// `name_regex = …`: searches.
#[derive(Debug)]
pub struct NameRegex(pub Vec<RegexPattern>);

impl Compile for NameIs {
    const KEY: DocumentKey =
        key("name", KeyType::Texts, "", "The whole name is this text, whatever the case and width of its letters.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.literals("name", "name_regex", written.texts()?).map(Self)
    }
}

impl ConditionKind for NameIs {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.name().map_or(Truth::False, |name| name.is(&self.0)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|text| text.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.name(), self.0.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        sorted("name", self.0.iter().map(|text| &*text.folded))
    }

    fn anchor(&self) -> Option<Anchor> {
        self.0.iter().all(|one| one.letters.is_none() || !one.disclosing).then_some(Anchor::Hashed)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.names(self.0.iter().map(|name| &*name.folded));
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow
            .downcast::<NameIs>()
            .is_some_and(|one| one.0.iter().all(|one| self.0.iter().any(|other| other.folded == one.folded)))
    }
}

impl Compile for NameContains {
    const KEY: DocumentKey = key(
        "name_contains",
        KeyType::Texts,
        "",
        "This text is found in the name, whatever the case and width of its letters.",
    );

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.literals("name_contains", "name_regex", written.texts()?).map(Self)
    }
}

impl ConditionKind for NameContains {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.name().map_or(Truth::False, |name| name.contains(&self.0)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|text| text.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.name(), self.0.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        sorted("name_contains", self.0.iter().map(|text| &*text.folded))
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        let each =
            |narrow: &[Folded]| narrow.iter().all(|one| self.0.iter().any(|other| one.folded.contains(&*other.folded)));
        narrow.downcast::<NameContains>().is_some_and(|one| each(&one.0))
            || narrow.downcast::<NameIs>().is_some_and(|one| each(&one.0))
    }
}

impl Compile for NameRegex {
    const KEY: DocumentKey = key("name_regex", KeyType::Texts, "", "A regular expression that is found in the name.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.regexes(written.texts()?, Use::Search).map(Self)
    }
}

impl ConditionKind for NameRegex {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.name().map_or(Truth::False, |name| name.matches(&self.0)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|pattern| pattern.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.name(), self.0.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        sorted("name_regex", self.0.iter().map(|pattern| &*pattern.text))
    }

    fn anchor(&self) -> Option<Anchor> {
        self.0.iter().all(|one| one.letters.is_none() || !one.disclosing).then_some(Anchor::Text)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.name_regex(&self.0);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<NameRegex>().is_some_and(|one| regexes_follow(&one.0, &self.0))
    }
}
